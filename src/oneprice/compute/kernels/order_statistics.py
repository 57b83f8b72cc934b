"""Windows that are kept sorted, for what asks of their order: quantiles, medians, tails.

One value for another moves all between the two, and how many those are nobody can foretell. So of a window that is not too
wide all values are written anew, side by side, from one half of the state to the other: without asking for a place.

f: two halves, of which one holds the window, ascending, −∞ before it and +∞ behind it; then the window's ring.
i: the window's own places; which half it is stands in `HALF`."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from oneprice.compute.kernels.definition import Floats, Ints, Start
from oneprice.compute.kernels.inlining import inlined, outlined
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    SEEN,
    Growing,
    by_count,
    drop,
    is_due,
    is_full,
    is_turning,
    push,
    turn,
    windowed,
)
from oneprice.compute.uncounted import piece

HALF = SEEN
_GUARD = 8
_ANEW = 1_000  # the widest window that is written anew; of a wider one the values between the two places move


def sorted_window(
    values: dict[str, Any], *, own: int = 0, fewest: int = 1, parameters: list[float] | None = None
) -> Start:
    """An empty one, behind `own` floats of the kernel."""
    start = windowed(values, own=0, fewest=fewest, parameters=parameters)
    return start._replace(f=np.concatenate([np.zeros(own), *_halves(np.empty(0), len(start.f)), start.f]))


def _halves(held: Floats, capacity: int) -> tuple[Floats, Floats]:
    """One with these values, one without."""
    empty = np.full(half_size.py_func(capacity), math.inf)
    empty[:_GUARD] = -math.inf
    full = empty.copy()
    full[_GUARD : _GUARD + len(held)] = held
    return full, empty


class SortedGrowing(msgspec.Struct, frozen=True):
    """What enlarges such a state: twice the ring, its rows in order. It grows with windows in time only, which stay in the
    first half."""

    own: int = 0

    def __call__(self, f: Floats, i: Ints) -> tuple[Floats, Ints]:
        held = f[self.own + _GUARD :][: int(i[COUNT])]
        ring, wider_i = Growing(0)(f[self.own + 2 * half_size.py_func(int(i[CAPACITY])) :], i)
        return np.concatenate([f[: self.own], *_halves(held, len(ring)), ring]), wider_i


@inlined
def half_size(capacity):
    """As many as can be written eight at a time, and the guards."""
    return ((capacity + 7) & -8) + 2 * _GUARD


@inlined
def ring_of(i):
    return 2 * half_size(i[CAPACITY])


@inlined
def begin(i):
    return _GUARD + i[HALF] * half_size(i[CAPACITY])


@inlined
def ascending(f, i):
    """The window's values; behind them there are others."""
    at = begin(i)
    return piece(f, at, at + half_size(i[CAPACITY]) - _GUARD)


@inlined
def sorted_place(held, n, value):
    """The first place among n sorted values that is not below a value; halved without a branch, which nobody could foretell."""
    low = 0
    while n > 1:
        half = n // 2
        low += half if held[low + half - 1] < value else 0
        n -= half
    return low + 1 if n == 1 and held[low] < value else low


@outlined
def insert(held, n, value):
    place = sorted_place(held, n, value)
    for k in range(n, place, -1):
        held[k] = held[k - 1]
    held[place] = value


@outlined
def remove(held, n, value):
    for k in range(sorted_place(held, n, value), n):  # what comes in last is +∞
        held[k] = held[k + 1]


@outlined
def replace(held, n, old, new):
    place, wanted = sorted_place(held, n, old), sorted_place(held, n, new)
    if wanted > place:
        between = piece(held, place, wanted)
        for k in range(wanted - place - 1):
            between[k] = between[k + 1]
        held[wanted - 1] = new
    else:
        between = piece(held, wanted, place + 1)
        for k in range(place - wanted, 0, -1):
            between[k] = between[k - 1]
        held[wanted] = new


@inlined
def write_anew(f, i, old, new):
    """One value for another. Without the old one each value from its place on is the one that followed; with the new one each
    is the larger of the one before it and the lesser of itself and the new one."""
    at = begin(i)
    i[HALF] = 1 - i[HALF]
    n, to = (i[COUNT] + 7) & -8, begin(i)
    held, written = piece(f, at - 1, at + n + 1), piece(f, to, to + n)
    for k in range(n):
        before, here, after = held[k], held[k + 1], held[k + 2]
        below = before if before < old else here
        value = here if here < old else after
        value = value if value < new else new
        written[k] = below if below > value else value


@inlined
def sorted_makes_room(f, i, t):
    """Rows that are too old go, of a window in time; → whether there is no room."""
    if by_count(i):
        return False
    while is_due(i, t):
        remove(ascending(f, i), i[COUNT], f[ring_of(i) + drop(i)])
    return is_full(i)


@inlined
def sorted_row(f, i, t, value):
    """A row into the window; → whether there was no room."""
    if is_turning(i):
        slot = ring_of(i) + turn(i)
        if i[COUNT] <= _ANEW:
            write_anew(f, i, f[slot], value)
        else:
            replace(ascending(f, i), i[COUNT], f[slot], value)
    else:
        if sorted_makes_room(f, i, t):
            return True
        insert(ascending(f, i), i[COUNT], value)
        slot = ring_of(i) + push(i, t)
    f[slot] = value
    return False


@inlined
def quantile_of(held, n, prob):
    """Type 7 of Hyndman & Fan: linear between order statistics, at (n − 1)·prob."""
    h = (n - 1) * prob
    low = math.floor(h)
    if low >= n - 1:
        return held[n - 1]
    return held[low] + (h - low) * (held[low + 1] - held[low])


@inlined
def nearest_deviation(held, n, center, split, rank):
    """The distance from the center with `rank` others as small or smaller, of n sorted values of which the first `split` are
    below the center: how many of those nearest stand left of it is found by halving."""
    low, high = max(0, rank + 1 - (n - split)), min(rank + 1, split)  # of the rank + 1 nearest, how many are left
    while low < high:
        middle = (low + high) // 2
        # One more from the left belongs to them if it is nearer than the last one taken from the right.
        if center - held[split - 1 - middle] < held[split + rank - middle] - center:
            low = middle + 1
        else:
            high = middle
    left = center - held[split - low] if low > 0 else -math.inf
    right = held[split + rank - low] - center if low <= rank else -math.inf
    return max(left, right)


@inlined
def median_deviation(held, n, center):
    """The median of |x − center| over n sorted values."""
    split = sorted_place(held, n, center)
    upper = nearest_deviation(held, n, center, split, n // 2)
    return upper if n % 2 else 0.5 * (nearest_deviation(held, n, center, split, n // 2 - 1) + upper)
