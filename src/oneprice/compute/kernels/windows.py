"""Rings of the newest rows, in a kernel's own state: the last `w` observations, or those of the last so many nanoseconds.

The integers of a windowed kernel begin with the places below, and end with the times of the ring's rows; its floats begin
with whatever the kernel keeps and end with the ring's values, `columns` a row. All functions are compiled and inlined."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np

from oneprice.compute.kernels.definition import Floats, Ints, Parameter, Span, Start
from oneprice.compute.kernels.inlining import inlined, seldom

HEAD, COUNT, CAPACITY, SIZE, SPAN, REMOVED, FEWEST, SEEN = range(8)
TIMES = 8  # places of a windowed kernel's own integers stand from here; the times of the ring behind them
REBUILD_EVERY = 4_096  # removals, after which what was kept by adding and removing is made anew from the ring
_FIRST_CAPACITY = 64  # of a window in time, doubled when it is full
PLACE = (1 << 48) - 1  # slots are below: by this the compiler knows that one is not negative, and asks no more


def window_parameter(default: int | str = 100, *, name: str = "w", fewest: int = 1) -> tuple[Parameter, Parameter]:
    """The parameters of a window: its length, and from how many observations on there is output."""
    return (
        Parameter(name=name, kind="window", default=default, low=fewest, help="observations, or a duration"),
        Parameter(
            name="min_obs", kind="int", low=fewest,
            help=f"output from so many observations on; else from a full window on, of a duration from {fewest} on",
        ),
    )  # fmt: skip


def windowed(
    values: dict[str, Any], *, own: int, columns: int = 1, fewest: int = 1, parameters: list[float] | None = None,
    name: str = "w", own_ints: int = 0, mirrored: bool = False,
) -> Start:  # fmt: skip
    """An empty window: `own` floats for the kernel (and as many as the ring has rows, where it is `mirrored`, to lay them out
    in order), then a ring of `columns` values a row."""
    w, min_obs = values[name], values["min_obs"]
    by_time = isinstance(w, Span)
    capacity = _FIRST_CAPACITY if by_time else int(w)
    i = np.zeros(TIMES + own_ints + capacity, dtype=np.int64)
    i[CAPACITY] = capacity
    i[SIZE] = 0 if by_time else int(w)
    i[SPAN] = w.ns if by_time else 0
    i[FEWEST] = max(fewest, min_obs if min_obs is not None else (fewest if by_time else int(w)))
    own += capacity if mirrored else 0
    return Start(np.zeros(own + capacity * columns), i, np.array(parameters or [], dtype=np.float64), by_time)


class Growing(msgspec.Struct, frozen=True):
    """What enlarges such a state, once the ring is full: twice the ring, its rows in order. The arguments are those of
    `windowed`."""

    own: int
    columns: int = 1
    own_ints: int = 0
    mirrored: bool = False

    @property
    def registers(self) -> tuple[int, int] | None:
        return None if self.mirrored else (self.own, TIMES + self.own_ints)

    def __call__(self, f: Floats, i: Ints) -> tuple[Floats, Ints]:
        own, columns, base = self.own, self.columns, TIMES + self.own_ints
        capacity, head = int(i[CAPACITY]), int(i[HEAD])
        laid_out = capacity if self.mirrored else 0
        ring, times = own + laid_out, i[base:]
        oldest = ring + head * columns
        wider_f = np.concatenate(
            [f[:ring], np.zeros(laid_out), f[oldest:], f[ring:oldest], np.zeros(capacity * columns)]
        )
        wider_i = np.concatenate([i[:base], times[head:], times[:head], np.zeros(capacity, dtype=np.int64)])
        wider_i[HEAD], wider_i[CAPACITY] = 0, 2 * capacity
        return wider_f, wider_i


@inlined
def by_count(i):
    return i[SPAN] == 0


@inlined
def is_due(i, t, base=TIMES):
    """Whether the oldest row has to go before a row of time t comes in."""
    if i[COUNT] == 0:
        return False
    if i[SPAN] == 0:
        return i[COUNT] >= i[SIZE]
    return i[base + (i[HEAD] & PLACE)] <= t - i[SPAN]


@inlined
def is_full(i):
    """Whether there is no room for another row (of a window in time)."""
    return i[COUNT] == i[CAPACITY]


@inlined
def room(i):
    """How many rows may come before the state has to grow."""
    return PLACE if i[SPAN] == 0 else i[CAPACITY] - i[COUNT]


@inlined
def drop(i):
    """Let the oldest row go; → its slot."""
    slot = i[HEAD] & PLACE
    i[HEAD] = slot + 1 if slot + 1 < i[CAPACITY] else 0
    i[COUNT] -= 1
    i[REMOVED] += 1
    return slot


_TOGETHER = 4  # rows that are looked at side by side: more are seldom due at once


@inlined
def drop_until(i, last, base=TIMES, kept=0):
    """Let the rows go whose time is at most `last`, but for the newest `kept`: those of a window in time that are due. How
    many a new row makes due no processor can foretell, so it is not asked row by row."""
    wrap, gone = (i[CAPACITY] - 1) & PLACE, _TOGETHER  # the capacity of a window in time is a power of two
    while gone == _TOGETHER:
        gone = 0
        for k in range(kept, kept + _TOGETHER):
            gone += (k < i[COUNT]) & (i[base + ((i[HEAD] + k) & wrap)] <= last)
        i[HEAD] = (i[HEAD] + gone) & wrap
        i[COUNT] -= gone
        i[REMOVED] += gone


@inlined
def drop_due(i, t, base=TIMES):
    """Let the rows go that have to before a row of time t comes in."""
    if i[SPAN] > 0:
        drop_until(i, t - i[SPAN], base)
    elif i[COUNT] >= i[SIZE]:
        drop(i)


@inlined
def push(i, t, base=TIMES):
    """Take a row in; → its slot."""
    slot = i[HEAD] + i[COUNT]
    slot = (slot if slot < i[CAPACITY] else slot - i[CAPACITY]) & PLACE
    i[base + slot] = t
    i[COUNT] += 1
    return slot


@inlined
def is_turning(i):
    """Whether the newest row takes the place of the oldest: a window by count that is full."""
    return i[SPAN] == 0 and i[COUNT] == i[SIZE]


@inlined
def turn(i):
    """The oldest row goes and the newest takes its slot; → the slot."""
    slot = i[HEAD] & PLACE
    i[HEAD] = slot + 1 if slot + 1 < i[CAPACITY] else 0
    i[REMOVED] += 1
    return slot


@inlined
def slot_at(i, k):
    """The slot of the k-th oldest row."""
    slot = i[HEAD] + k
    return (slot if slot < i[CAPACITY] else slot - i[CAPACITY]) & PLACE


@inlined
def is_ready(i):
    return i[COUNT] >= i[FEWEST]


@inlined
def is_rebuild_due(i):
    """Whether sums are to be made anew now; the count of removals begins again."""
    if i[REMOVED] < REBUILD_EVERY:
        return False
    i[REMOVED] = 0
    return True


@inlined
def no_output(y):
    for k in range(y.shape[0]):
        y[k] = math.nan


@inlined
def nothing_left(w):
    """For `finish`: a row without outputs."""
    w[0] = math.nan


# -- a sum that loses nothing: f[at] the sum, f[at + 1] what rounding left behind (Neumaier 1974; without a branch, as Knuth) --


@inlined
def add_to(f, at, value):
    before = f[at]
    total = before + value
    added = total - before
    f[at] = total
    f[at + 1] += (before - (total - added)) + (value - added)


@inlined
def exchanged(old, new):
    """What a sum changes by where one value takes the place of another, and what that lost: so the sum is waited for once."""
    change = new - old
    taken = change - new
    return change, (new - (change - taken)) - (old + taken)


@inlined
def settled(before, rest, change, lost):
    """A sum and its rest after such a change."""
    total = before + change
    added = total - before
    return total, rest + ((before - (total - added)) + (change - added) + lost)


@inlined
def replace_in(f, at, old, new):
    """One value of a sum for another."""
    change, lost = exchanged(old, new)
    f[at], f[at + 1] = settled(f[at], f[at + 1], change, lost)


@inlined
def total_of(f, at):
    return f[at] + f[at + 1]


# -- sums over a window: for each column of its ring three places, a sum as above and the largest term since it was made ----

SUM = 3
_SPENT = 1e-16  # of the largest term: a sum below this may be what rounding left of terms that are gone


@inlined
def sum_add(f, at, term):
    add_to(f, at, term)
    f[at + 2] = max(f[at + 2], abs(term))


@inlined
def sum_replace(f, at, old, new):
    replace_in(f, at, old, new)
    f[at + 2] = max(f[at + 2], abs(new))


@inlined
def sum_clear(f, at):
    f[at], f[at + 1], f[at + 2] = 0.0, 0.0, 0.0


@inlined
def sum_is_worn(f, at, newest=0.0):
    return is_worn(total_of(f, at), f[at + 2], newest)


@inlined
def is_worn(total, largest, newest):
    """Its digits may be those of rounding, or it ran out of the range of numbers. A sum that is 0 to the bit is good where its
    newest term is no speck beside the largest: such terms cancel. Far larger ones that are gone took what was beside them."""
    spent = _SPENT * largest
    return not (abs(total) >= spent or (total == 0.0 and abs(newest) >= spent))


@inlined
def sum_of(f, at, i, ring, columns=1, column=0):
    """Make the sum anew from the ring."""
    sum_clear(f, at)
    for k in range(i[COUNT]):
        sum_add(f, at, f[ring + slot_at(i, k) * columns + column])


@inlined
def sum_drop(f, i, at, ring):
    """Let the oldest row go, and take it off the sum at f[at]."""
    add_to(f, at, -f[ring + drop(i)])


@inlined
def sum_keep(f, i, at, ring, newest):
    """Make the sum anew from the ring now and then, and when its digits are gone."""
    if seldom(is_rebuild_due(i) or sum_is_worn(f, at, newest)):
        sum_of(f, at, i, ring)


@inlined
def sum_row(f, i, t, term):
    """A term into a window that is its sum, at f[0], and a ring; → whether there was no room."""
    if is_turning(i):
        slot = SUM + turn(i)
        sum_replace(f, 0, f[slot], term)
    else:
        while is_due(i, t):
            sum_drop(f, i, 0, SUM)
        if is_full(i):
            return True
        slot = SUM + push(i, t)
        sum_add(f, 0, term)
    f[slot] = term
    sum_keep(f, i, 0, SUM, term)
    return False


@inlined
def sum_step(f, i, p, t, x, w):
    """A step of kernels that sum a term up (no number: the row cannot be used). What is left: the sum, how many terms."""
    nothing_left(w)
    if not math.isfinite(x[0]):
        return False
    if sum_row(f, i, t, x[0]):
        return True
    if is_ready(i):
        w[0], w[1] = total_of(f, 0), i[COUNT]
    return False


# -- the same as the difference of two running totals: what leaves is not taken off, which spares a branch for each row ------
# For each column two places of its own, a sum as above of all terms so far, and two of each row in the ring: that sum as it
# was before the row. For terms that are alike in size, as prices and quantities are.

TOTAL = 2


@inlined
def total_less(f, at, total, rest):
    """A total that begins so much later."""
    f[at], lost = exchanged(total, f[at])
    f[at + 1] = lost + (f[at + 1] - rest)


@inlined
def totals_keep(f, i, at, ring, columns, width):
    """Now and then all totals begin with the oldest row again, so that what far larger terms took along is not missed for
    ever. `width`: of a row of the ring, whose totals come first."""
    if seldom(i[REMOVED] >= max(REBUILD_EVERY, i[COUNT])):
        i[REMOVED] = 0
        for column in range(columns):
            own, oldest = at + TOTAL * column, ring + width * slot_at(i, 0) + TOTAL * column
            total, rest = (f[oldest], f[oldest + 1]) if i[COUNT] > 0 else (f[own], f[own + 1])
            for k in range(i[COUNT]):
                total_less(f, ring + width * slot_at(i, k) + TOTAL * column, total, rest)
            total_less(f, own, total, rest)


@inlined
def totals_push(f, i, t, at, ring, columns=1, base=TIMES):
    """The oldest rows go as is due, a row comes; its terms are to be added to f[at] next. → whether there was no room."""
    drop_due(i, t, base)
    if is_full(i):
        return True
    totals_keep(f, i, at, ring, columns, TOTAL * columns)
    for column in range(columns):
        if seldom(not math.isfinite(f[at + TOTAL * column])):
            i[COUNT] = 0  # beyond the range of numbers: the window begins anew
            f[at + TOTAL * column], f[at + TOTAL * column + 1] = 0.0, 0.0
    slot = ring + TOTAL * columns * push(i, t, base)
    for k in range(TOTAL * columns):
        f[slot + k] = f[at + k]
    return False


@inlined
def total_within(f, i, at, ring, columns=1, column=0):
    """The sum over the window, which holds a row at least."""
    slot = ring + TOTAL * (columns * slot_at(i, 0) + column)
    return (f[at + TOTAL * column] - f[slot]) + (f[at + TOTAL * column + 1] - f[slot + 1])


# -- mean and second moment of a window ---------------------------------------------------------------------------------
# f[at]: mean less the origin, f[at + 1]: sum of squared deviations, f[at + 2]: origin (a value of the window, so that values
# far from zero keep their digits), f[at + 3]: the largest sum since it was made anew.

MOMENTS = 4
_SHARE = 1e-4  # of the largest sum: what is left of it below this has lost too many digits, and is made anew
_FAR = 1e2  # the square of the way from the origin to the mean, in sums of squares


@inlined
def moments_add(f, at, n_after, value):
    if n_after == 1:
        f[at], f[at + 1], f[at + 2], f[at + 3] = 0.0, 0.0, value, 0.0
        return
    offset = value - f[at + 2]
    delta = offset - f[at]
    f[at] += delta / n_after
    f[at + 1] += delta * (offset - f[at])
    f[at + 3] = max(f[at + 3], f[at + 1])


@inlined
def moments_remove(f, at, n_after, value):
    if n_after == 0:
        return  # the next value begins anew
    offset = value - f[at + 2]
    delta = offset - f[at]
    f[at] -= delta / n_after
    f[at + 1] = max(0.0, f[at + 1] - delta * (offset - f[at]))


@inlined
def moments_replace(f, at, n, old, new):
    """One value for another, of n: one division, which waits for nothing and serves other moments of the window, too."""
    before, after, change = old - f[at + 2], new - f[at + 2], new - old
    mean = f[at] + change * (1.0 / n)
    f[at + 1] = max(0.0, f[at + 1] + change * ((after - mean) + (before - f[at])))
    f[at + 3] = max(f[at + 3], f[at + 1])
    f[at] = mean


@inlined
def mean_of(f, at):
    return f[at + 2] + f[at]


@inlined
def moments_are_worn(f, at):
    """Whether its digits are gone: removals have left little of the sum, the mean has gone far from the origin, or they are no
    numbers."""
    return not (f[at + 1] >= _SHARE * f[at + 3] and f[at] * f[at] <= _FAR * f[at + 1])


@inlined
def moments_of(f, at, i, ring, columns=1, column=0):
    """Make mean and second moment anew from the ring, in two passes."""
    n = i[COUNT]
    if n == 0:
        return
    origin = f[ring + slot_at(i, 0) * columns + column]
    total = 0.0
    for k in range(n):
        total += f[ring + slot_at(i, k) * columns + column] - origin
    mean = total / n
    squares, rest = 0.0, 0.0
    for k in range(n):
        delta = f[ring + slot_at(i, k) * columns + column] - origin - mean
        squares += delta * delta
        rest += delta
    f[at] = mean + rest / n
    f[at + 1] = squares - rest * rest / n
    f[at + 2] = origin
    f[at + 3] = f[at + 1]


@inlined
def moments_row(f, i, t, value):
    """A value into a window that is its moments, at f[0], and a ring; → whether there was no room."""
    if is_turning(i):
        slot = MOMENTS + turn(i)
        moments_replace(f, 0, i[COUNT], f[slot], value)
        f[slot] = value
    else:
        while is_due(i, t):
            moments_remove(f, 0, i[COUNT] - 1, f[MOMENTS + drop(i)])
        if is_full(i):
            return True
        f[MOMENTS + push(i, t)] = value
        moments_add(f, 0, i[COUNT], value)
    if seldom(is_rebuild_due(i) or moments_are_worn(f, 0)):
        moments_of(f, 0, i, MOMENTS)
    return False


@inlined
def moments_leave(f, i, w, value):
    """For `finish`: the mean, the sum of squares around it, the value's way from it, n."""
    if is_ready(i):
        w[0], w[1], w[2], w[3] = mean_of(f, 0), f[1], value - f[2] - f[0], i[COUNT]
