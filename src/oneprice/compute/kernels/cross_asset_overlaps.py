"""Two series that are observed at their own times: how they move together, by the intervals that overlap.

A row brings an observation of x, of y, or of both at one time; NaN (or an infinity, or a number beyond 10⁷⁰) where there is
none of that side. A row with neither changes nothing and has no output. Nothing is put on a grid and nothing is filled in:
changes of x and y are multiplied wherever the intervals in which they happened overlap. Of several observations of a side at
one time the last one counts. Output of a row is that of all observations up to it. Which side moves first:
`cross_asset_lead.py`."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oneprice.compute.kernels.definition import NO_INTEGER, Floats, Ints, Kernel, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.rows import clear, copy, ratio
from oneprice.compute.kernels.windows import CAPACITY, COUNT, HEAD, PLACE, SPAN, TIMES, add_to, nothing_left

_LIMIT = 1e70  # products of four changes stay in the range of numbers
SHARE = 1e-8  # of what sums were made of: what is left below it has lost too many digits, and they are made anew
FIRST_CAPACITY = 64


@inlined
def is_observed(value):
    return abs(value) < _LIMIT


# Times come in order, so what a new interval of x adds is its change times what y moved since the last observation of x,
# and the other way round. Totals run over all rows, and each time keeps what they were after it. The sum over a window is
# what the totals gained since its first observation of x or its first of y, whichever is later, less one product: the
# interval of the other side that goes on over that observation meets only what comes after it.
#
# f: values and totals before the time now, `count` of them; the same after it (a later row of one time may replace an earlier
# one); x and y of the time now (NaN: none); then the ring: the same after each time. i: the numbers of the ring's first time
# and of the time now, observations of x and y before it, whether there were any, the time now; then the ring: a time, the
# observations of x and y before it, and, at the number of an observation of x or y, the number of its time. What has a number
# stands at that number modulo the capacity, a power of two.

# [side] the last value; what it was when the other side was last observed (or its first, where that was later)
_LAST, _WHEN = 0, 2
# Σdx·dy and what rounding left of it, Σ|dx·dy|; the correlation has [side] Σdx², too, and what rounding left of it
_CROSS, _SIZE, _SQUARES = 4, 6, 7
_OF_COV, _OF_CORR = 7, 11  # `count`
_FIRST, _NOW = HEAD, COUNT
_BEFORE, _OBSERVED, _NOW_T, _RING = TIMES, TIMES + 2, TIMES + 4, TIMES + 5
_BEFORE_IT, _TIME_OF, _INTS = 1, 3, 5  # of a time in the ring
_TOGETHER = 4  # times that are looked at side by side: more are seldom due at once


@inlined
def has(value):
    return not math.isnan(value)


@inlined
def place_of(i, number):
    return number & (i[CAPACITY] - 1) & PLACE


@inlined
def after(i, number, count):
    """Where values and totals after a time stand."""
    return 2 * count + 2 + (count + 1) * place_of(i, number)  # 8 or 12 apart: found without a multiplication


@inlined
def in_ring(i, number):
    return _RING + _INTS * place_of(i, number)


@inlined
def begin_time(f, i, t, count):
    """What came with the time before is settled where t is later."""
    is_later, now = t > i[_NOW_T], 2 * count
    for side in range(2):
        is_settled = is_later & has(f[now + side])
        i[_BEFORE + side] += is_settled
        i[_OBSERVED + side] |= is_settled
        f[now + side] = math.nan if is_later else f[now + side]
    for k in range(count):
        f[k] = f[count + k] if is_later else f[k]
    i[_NOW] += is_later
    i[_NOW_T] = t


@inlined
def take(f, i, x, y, count):
    """A row of the time now into the values and totals after it, and into the ring."""
    now = 2 * count
    f[now] = x if is_observed(x) else f[now]
    f[now + 1] = y if is_observed(y) else f[now + 1]
    has_x, has_y = has(f[now]), has(f[now + 1])
    dx = f[now] - f[_LAST] if has_x & (i[_OBSERVED] == 1) else 0.0
    dy = f[now + 1] - f[_LAST + 1] if has_y & (i[_OBSERVED + 1] == 1) else 0.0
    product = dx * dy + dx * (f[_LAST + 1] - f[_WHEN + 1]) + dy * (f[_LAST] - f[_WHEN])
    copy(f, count, f, 0, count)
    f[count + _LAST] = f[now] if has_x else f[_LAST]
    f[count + _LAST + 1] = f[now + 1] if has_y else f[_LAST + 1]
    f[count + _WHEN] = f[count + _LAST] if has_y | (i[_OBSERVED] == 0) else f[_WHEN]
    f[count + _WHEN + 1] = f[count + _LAST + 1] if has_x | (i[_OBSERVED + 1] == 0) else f[_WHEN + 1]
    add_to(f, count + _CROSS, product)
    f[count + _SIZE] += abs(product)
    if count == _OF_CORR:
        add_to(f, count + _SQUARES, dx * dx)
        add_to(f, count + _SQUARES + 2, dy * dy)
    copy(f, after(i, i[_NOW], count), f, count, count)
    place = in_ring(i, i[_NOW])
    i[place] = i[_NOW_T]
    for side in range(2):  # of a side that is not observed now, the next observation will write it over
        i[place + _BEFORE_IT + side] = i[_BEFORE + side]
        i[in_ring(i, i[_BEFORE + side]) + _TIME_OF + side] = i[_NOW]


@inlined
def let_go(i, last):
    """Let the times go that are at most `last`, but not the time now."""
    gone = _TOGETHER
    while gone == _TOGETHER:
        gone = 0
        for k in range(_TOGETHER):
            number = i[_FIRST] + k
            gone += (number < i[_NOW]) & (i[in_ring(i, number)] <= last)
        i[_FIRST] += gone


@inlined
def first_of(i, side):
    """The number of the window's first observation of a side."""
    return i[in_ring(i, i[_FIRST]) + _BEFORE_IT + side] if i[SPAN] > 0 else 0


@inlined
def time_of(i, side, number):
    """The number of the time of an observation."""
    return i[in_ring(i, number) + _TIME_OF + side]


@inlined
def is_paired(f, i, count):
    """Whether each side was observed twice in the window."""
    x = i[_BEFORE] - first_of(i, 0) + has(f[2 * count])
    y = i[_BEFORE + 1] - first_of(i, 1) + has(f[2 * count + 1])
    return min(x, y) >= 2


@inlined
def cross_within(f, i, count):
    """Σdx·dy of the window."""
    total, rest = f[count + _CROSS], f[count + _CROSS + 1]
    if i[SPAN] == 0:
        return total + rest
    of_x, of_y = time_of(i, 0, first_of(i, 0)), time_of(i, 1, first_of(i, 1))
    side, first = np.int64(of_x < of_y), max(of_x, of_y)
    other, at = 1 - side, after(i, first, count)
    following = i[in_ring(i, first) + _BEFORE_IT + other]  # or one of that very time, since when nothing was moved
    goes_on = following < i[_BEFORE + other] + has(f[2 * count + other])
    until = f[after(i, time_of(i, other, following), count) + _LAST + other] if goes_on else f[at + _LAST + other]
    moved = f[at + _LAST + side] - f[at + _WHEN + side]
    return (total - f[at + _CROSS]) + (rest - f[at + _CROSS + 1]) - moved * (until - f[at + _LAST + other])


@inlined
def squares_within(f, i, side, count):
    """Σdx² of the window."""
    at = _SQUARES + 2 * side
    if i[SPAN] == 0:
        return f[count + at] + f[count + at + 1]
    kept = after(i, time_of(i, side, first_of(i, side)), count) + at
    return (f[count + at] - f[kept]) + (f[count + at + 1] - f[kept + 1])


@inlined
def are_worn(f, i, count):
    """Whether the window has so little of what the totals are made of that its digits may be those of rounding."""
    size = f[count + _SIZE]
    is_worn = size - f[after(i, i[_FIRST], count) + _SIZE] < SHARE * size
    if count == _OF_CORR:
        for side in range(2):
            is_worn |= squares_within(f, i, side, count) < SHARE * f[count + _SQUARES + 2 * side]
    return is_worn & (i[SPAN] > 0)


@inlined
def totals_again(f, i, count):
    """Begin the totals anew with the window, and take its rows again up to the time now."""
    t, x, y, last = i[_NOW_T], f[2 * count], f[2 * count + 1], i[_NOW]
    i[_BEFORE], i[_BEFORE + 1], i[_OBSERVED], i[_OBSERVED + 1] = first_of(i, 0), first_of(i, 1), 0, 0
    i[_NOW], i[_NOW_T] = i[_FIRST] - 1, NO_INTEGER
    clear(f, 0, 2 * count)
    f[2 * count], f[2 * count + 1] = math.nan, math.nan
    for number in range(i[_FIRST], last + 1):
        at, place, following = after(i, number, count), in_ring(i, number), in_ring(i, number + 1)
        a, b, when = x, y, t
        if number < last:
            a = f[at + _LAST] if i[following + _BEFORE_IT] > i[place + _BEFORE_IT] else math.nan
            b = f[at + _LAST + 1] if i[following + _BEFORE_IT + 1] > i[place + _BEFORE_IT + 1] else math.nan
            when = i[place]
        begin_time(f, i, when, count)
        take(f, i, a, b, count)


@inlined
def overlaps_row(f, i, t, x, count):
    """A row into totals and ring; → whether the ring was full."""
    begin_time(f, i, t, count)
    if i[SPAN] > 0:
        let_go(i, t - i[SPAN])
        if i[_NOW] - i[_FIRST] == i[CAPACITY]:
            return True
    take(f, i, x[0], x[1], count)
    if seldom(are_worn(f, i, count)):
        totals_again(f, i, count)
    return False


@inlined
def overlaps_step(f, i, t, x, w, count):
    """What is left: Σdx·dy of the window; for the correlation Σdx² and Σdy², too."""
    nothing_left(w)
    if not (is_observed(x[0]) or is_observed(x[1])):
        return False
    if overlaps_row(f, i, t, x, count):
        return True
    if is_paired(f, i, count):
        w[0] = cross_within(f, i, count)
        if count == _OF_CORR:
            w[1], w[2] = squares_within(f, i, 0, count), squares_within(f, i, 1, count)
    return False


@inlined
def hayashi_yoshida_cov_step(f, i, p, t, x, y):
    return overlaps_step(f, i, t, x, y, _OF_COV)


@inlined
def hayashi_yoshida_corr_step(f, i, p, t, x, w):
    return overlaps_step(f, i, t, x, w, _OF_CORR)


@inlined
def hayashi_yoshida_corr_finish(p, w, y):
    y[0] = ratio(w[0], math.sqrt(w[1] * w[2]))


def _overlaps(name: str, count: int, output: str, formula: str, alias: str, differs: str, **compiled: Any) -> Kernel:
    own = 2 * count + 2

    def start(values: Values) -> Start:
        i = np.zeros(_RING + FIRST_CAPACITY * _INTS, dtype=np.int64)
        i[CAPACITY], i[SPAN], i[_NOW], i[_NOW_T] = FIRST_CAPACITY, values["w"].ns if values["w"] else 0, -1, NO_INTEGER
        f = np.zeros(own + FIRST_CAPACITY * (count + 1))
        f[own - 2 : own] = np.nan
        return Start(f, i, np.zeros(0), by_time=True)

    def grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
        """Twice the ring; what has a number keeps it."""
        capacity = int(i[CAPACITY])
        wider_f = np.concatenate([f[:own], np.zeros(2 * capacity * (count + 1))])
        wider_i = np.concatenate([i[:_RING], np.zeros(2 * capacity * _INTS, dtype=np.int64)])
        after, wider_after = f[own:].reshape(capacity, -1), wider_f[own:].reshape(2 * capacity, -1)
        times, wider_times = i[_RING:].reshape(capacity, -1), wider_i[_RING:].reshape(2 * capacity, -1)
        first = times[i[_FIRST] % capacity]
        numbers = np.arange(i[_FIRST], i[_NOW])
        wider_after[numbers % (2 * capacity)] = after[numbers % capacity]
        wider_times[numbers % (2 * capacity), :_TIME_OF] = times[numbers % capacity, :_TIME_OF]
        for side in range(2):
            numbers = np.arange(first[_BEFORE_IT + side], i[_BEFORE + side])
            wider_times[numbers % (2 * capacity), _TIME_OF + side] = times[numbers % capacity, _TIME_OF + side]
        wider_i[CAPACITY] = 2 * capacity
        return wider_f, wider_i

    window = Parameter(
        name="w", kind="duration", default="60s", or_none=True, help="observations of the last so long; None: all of them",
    )  # fmt: skip
    return Kernel(
        name=name, module=__name__, formula=formula, inputs=("x", "y"), outputs=(Output(output),), parameters=(window,),
        start=start, grow=grow, registers=(own, _RING), version=2, first="2 of each side", needs_time=True,
        oracle="naive double loop", source="Hayashi & Yoshida 2005", aliases=(alias,),
        differs="x and y are used as they come: give logarithms for returns. NaN: not observed in this row. An interval counts "
        f"once both its ends are in the window. {differs}", **compiled,
    )  # fmt: skip


HAYASHI_YOSHIDA_COV = _overlaps(
    "hayashi_yoshida_cov", _OF_COV, "cov", "Σ Δx_i·Δy_j over all pairs of overlapping intervals (t_{i−1}, t_i]", "hy_cov",
    "A sum over the window, not per unit of time.", step=hayashi_yoshida_cov_step,
)  # fmt: skip
HAYASHI_YOSHIDA_CORR = _overlaps(
    "hayashi_yoshida_corr", _OF_CORR, "corr", "Σ Δx_i·Δy_j over overlapping intervals, over √(ΣΔx²·ΣΔy²)", "hy_corr",
    "It may be beyond ±1 where there are few observations, and is given as it is.",
    step=hayashi_yoshida_corr_step, finish=hayashi_yoshida_corr_finish, left=3,
)  # fmt: skip

KERNELS = (HAYASHI_YOSHIDA_COV, HAYASHI_YOSHIDA_CORR)
