"""The largest value of a window at a constant cost a row, in the window's own ring.

A window is two stacks back to back. The oldest rows (`FRONT` of them) have been turned: in the ring stands not their value
but the largest of it and all younger ones that were turned with it, so the oldest says it all. Of the rows that came since,
only the largest is kept. When the last turned row has left, the others are turned: once a row, whatever the input looks
like. The smallest value is the largest of the negated ones.

f: the largest since the turn, one a column; `own` floats of the kernel; then the ring. i: the window's own places, FRONT,
`own_ints` of the kernel, then the times of the ring."""

from __future__ import annotations

import math
from typing import Any

from oneprice.compute.kernels.definition import Grow, Start
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.windows import (
    COUNT,
    HEAD,
    TIMES,
    Growing,
    drop_due,
    is_full,
    is_turning,
    push,
    slot_at,
    turn,
    windowed,
)

FRONT = TIMES
BASE = TIMES + 1


def extremes(
    values: dict[str, Any], *, columns: int = 1, name: str = "w", parameters: list[float] | None = None, own: int = 0,
    own_ints: int = 0,
) -> Start:  # fmt: skip
    """An empty window of `columns` values a row."""
    start = windowed(
        values, own=columns + own, columns=columns, own_ints=1 + own_ints, name=name, parameters=parameters
    )  # fmt: skip
    start.f[:columns] = -math.inf
    return start


def extremes_growing(columns: int = 1, own_ints: int = 0) -> Grow:
    return Growing(columns, columns, 1 + own_ints)


@inlined
def turn_over(f, i, columns, own):
    n = i[COUNT]
    for c in range(columns):
        best = -math.inf
        for k in range(n - 1, -1, -1):
            place = columns + own + slot_at(i, k) * columns + c
            best = max(best, f[place])
            f[place] = best
        f[c] = -math.inf
    i[FRONT] = n


@inlined
def empty(f, i, columns):
    """Let all rows go."""
    i[COUNT], i[FRONT] = 0, 0
    for c in range(columns):
        f[c] = -math.inf


@inlined
def let_go(f, i, t, columns, own=0, own_ints=0):
    """Let the rows go that are due."""
    before = i[COUNT]
    drop_due(i, t, BASE + own_ints)
    i[FRONT] -= before - i[COUNT]
    if seldom(i[FRONT] < 0):  # among them some that were not turned yet
        turn_over(f, i, columns, own)


@inlined
def enter(f, i, t, columns, own=0, own_ints=0):
    """Let the rows go that are due and take one in; → the place of its first value, to be filled with `put`, or -1 where
    there is no room."""
    if is_turning(i):
        if seldom(i[FRONT] == 0):
            turn_over(f, i, columns, own)
        i[FRONT] -= 1
        return columns + own + turn(i) * columns
    let_go(f, i, t, columns, own, own_ints)
    return -1 if is_full(i) else columns + own + push(i, t, BASE + own_ints) * columns


@inlined
def put(f, place, c, value):
    f[place + c] = value
    f[c] = max(f[c], value)


@inlined
def largest(f, i, columns, c, own=0):
    """Of the window's column c; −inf where it is empty."""
    return max(f[c], f[columns + own + i[HEAD] * columns + c]) if i[FRONT] > 0 else f[c]
