"""The largest value of a window at a constant cost a row, in the window's own ring.

A window is two stacks back to back. The oldest rows (`FRONT` of them) have been turned: in the ring stands not their value
but the largest of it and all younger ones that were turned with it, so the oldest says it all. Of the rows that came since,
only the largest is kept. When the last turned row has left, the others are turned: once a row, whatever the input looks
like. The smallest value is the largest of the negated ones.

f: the largest since the turn, one a column; then the ring. i: the window's own places, FRONT, then the times of the ring."""

from __future__ import annotations

import math
from typing import Any

from oneprice.compute.kernels.definition import Grow, Start
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.windows import COUNT, HEAD, TIMES, Growing, drop, is_due, push, slot_at, windowed

FRONT = TIMES
BASE = TIMES + 1


def extremes(
    values: dict[str, Any], *, columns: int = 1, name: str = "w", parameters: list[float] | None = None
) -> Start:
    """An empty window of `columns` values a row."""
    start = windowed(values, own=columns, columns=columns, own_ints=1, name=name, parameters=parameters)
    start.f[:columns] = -math.inf
    return start


def extremes_growing(columns: int = 1) -> Grow:
    return Growing(columns, columns, 1)


@inlined
def turn(f, i, columns):
    n = i[COUNT]
    for c in range(columns):
        best = -math.inf
        for k in range(n - 1, -1, -1):
            place = columns + slot_at(i, k) * columns + c
            best = max(best, f[place])
            f[place] = best
        f[c] = -math.inf
    i[FRONT] = n


@inlined
def let_go(f, i, t, columns):
    """Let the rows go that are due."""
    while is_due(i, t, BASE):
        if seldom(i[FRONT] == 0):
            turn(f, i, columns)
        drop(i)
        i[FRONT] -= 1


@inlined
def enter(f, i, t, columns):
    """Take a row in; → the place of its first value, to be filled with `put`."""
    return columns + push(i, t, BASE) * columns


@inlined
def put(f, place, c, value):
    f[place + c] = value
    f[c] = max(f[c], value)


@inlined
def largest(f, i, columns, c):
    """Of the window's column c; −inf where it is empty."""
    return max(f[c], f[columns + i[HEAD] * columns + c]) if i[FRONT] > 0 else f[c]
