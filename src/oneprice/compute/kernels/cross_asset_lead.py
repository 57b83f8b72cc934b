"""Two series that are observed at their own times: how they move together, and which of them moves first.

A row brings an observation of x, of y, or of both at one time; NaN (or an infinity, or a number beyond 10⁷⁰) where there is
none of that side. A row with neither changes nothing and has no output. Nothing is put on a grid and nothing is filled in:
changes of x and y are multiplied wherever the intervals in which they happened overlap. Of several observations of a side at
one time the last one counts. Output of a row is that of all observations up to it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from oneprice.compute.inner import inner
from oneprice.compute.kernels.definition import (
    Floats,
    Ints,
    Kernel,
    KernelError,
    Output,
    Parameter,
    Span,
    Start,
    Values,
)
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.rows import clear, ratio
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    REMOVED,
    SEEN,
    SPAN,
    SUM,
    TIMES,
    Growing,
    add_to,
    drop,
    is_due,
    is_full,
    is_rebuild_due,
    no_output,
    push,
    slot_at,
    sum_add,
    sum_clear,
    sum_is_worn,
    total_of,
    windowed,
)

_LIMIT = 1e70  # products of four changes stay in the range of numbers
_SHARE = 1e-8  # of the largest Σdx²·Σdy²: what is left below it has lost too many digits, and sums are made anew
_WINDOW = Parameter(
    name="w", kind="duration", default="60s", help="observations of the last so long; None: all of them"
)  # fmt: skip


@inlined
def is_observed(value):
    return abs(value) < _LIMIT


# -- hayashi_yoshida_cov, hayashi_yoshida_corr --------------------------------------------------------------------------
# Times come in order, so what a new interval of x adds is its change times what y moved since the last observation of x,
# and the other way round: the last value of each side, and the value it had when the other was last observed, are enough.
# Rows of one time are held back until the next time, because a later one of them may replace an earlier one.
#
# f: Σdx·dy, Σdx², Σdy²; the last x and y; x when y was last observed and y when x was (or the window's first, where it had
# none by then); x and y of the time now; the largest Σdx²·Σdy²; then the ring of (x, y), one slot a time.
# i: observations of x and y before now, their last times, the time now.

_CROSS, _SQUARES = 0, SUM
_LAST = 3 * SUM
_WHEN, _NOW, _LARGEST, _HELD = _LAST + 2, _LAST + 4, _LAST + 6, _LAST + 7
_COUNTS, _LAST_T, _NOW_T, _OWN_INTS = TIMES, TIMES + 2, TIMES + 4, 5
_BASE = TIMES + _OWN_INTS


@inlined
def has(value):
    return not math.isnan(value)


@inlined
def change_now(f, i, side):
    """The change that ends now; 0 where there is none."""
    return f[_NOW + side] - f[_LAST + side] if i[_COUNTS + side] > 0 and has(f[_NOW + side]) else 0.0


@inlined
def product_now(f, dx, dy):
    """What the changes that end now add to Σdx·dy."""
    return dx * dy + dx * (f[_LAST + 1] - f[_WHEN + 1]) + dy * (f[_LAST] - f[_WHEN])


@njit(cache=True)
def settle(f, i):
    """Take what was observed now into the sums: a later time begins."""
    dx, dy = change_now(f, i, 0), change_now(f, i, 1)
    sum_add(f, _CROSS, product_now(f, dx, dy))
    sum_add(f, _SQUARES, dx * dx)
    sum_add(f, _SQUARES + SUM, dy * dy)
    for side in range(2):
        if has(f[_NOW + side]):
            i[_COUNTS + side] += 1
            i[_LAST_T + side] = i[_NOW_T]
            f[_LAST + side] = f[_NOW + side]
            if i[_COUNTS + side] == 1:
                f[_WHEN + side] = f[_NOW + side]
    for side in range(2):
        if has(f[_NOW + side]):
            f[_WHEN + 1 - side] = f[_LAST + 1 - side]


@inlined
def held(f, i, k, side):
    return f[_HELD + 2 * slot_at(i, k) + side]


@inlined
def next_of(f, i, k, side):
    """The first slot from k on with an observation of a side; the count of slots where there is none."""
    while k < i[COUNT] and not has(held(f, i, k, side)):
        k += 1
    return k


@inner
def let_go(f, i, side):
    """Take the first observation of a side, in slot 0, off the sums: its interval is multiplied with all that the other side
    moved in it. x goes first, so that y meets the x of later slots only. Every slot is passed once a side, and once more where
    both meet."""
    other = 1 - side
    end = next_of(f, i, 1, side)
    i[_COUNTS + side] -= 1
    if i[_COUNTS + side] == 0:
        f[_WHEN + side] = f[_LAST + side]
        return
    change = held(f, i, end, side) - held(f, i, 0, side)
    add_to(f, _SQUARES + SUM * side, -change * change)
    of_other = side
    while of_other < end and not has(held(f, i, of_other, other)):
        of_other += 1
    if of_other < end:
        until = next_of(f, i, end, other)
        moved = held(f, i, until, other) if until < i[COUNT] else f[_LAST + other]
        add_to(f, _CROSS, -change * (moved - held(f, i, of_other, other)))
    if i[_BASE + slot_at(i, end)] > i[_LAST_T + other]:
        f[_WHEN + side] = held(f, i, end, side)


@inner
def pairs_again(f, i):
    """Make the sums anew from the ring."""
    for k in range(3):
        sum_clear(f, SUM * k)
    i[_COUNTS], i[_COUNTS + 1] = 0, 0
    clear(f, _LAST, _LAST + 4)
    for k in range(i[COUNT]):
        f[_NOW], f[_NOW + 1], i[_NOW_T] = held(f, i, k, 0), held(f, i, k, 1), i[_BASE + slot_at(i, k)]
        settle(f, i)
    f[_LARGEST] = total_of(f, _SQUARES) * total_of(f, _SQUARES + SUM)


@inner
def overlaps_move_on(f, i, t):
    """From the time before to t: what was observed then is settled, and what is too old by now let go. → whether the ring
    was full."""
    if i[SPAN] > 0:
        if is_full(i):
            return True
        slot = _HELD + 2 * push(i, i[_NOW_T], _BASE)
        f[slot], f[slot + 1] = f[_NOW], f[_NOW + 1]
        settle(f, i)
        if is_due(i, t, _BASE):
            f[_LARGEST] = max(f[_LARGEST], total_of(f, _SQUARES) * total_of(f, _SQUARES + SUM))
            while is_due(i, t, _BASE):
                for side in range(2):
                    if has(held(f, i, 0, side)):
                        let_go(f, i, side)
                drop(i)
            is_worn = sum_is_worn(f, _SQUARES) or sum_is_worn(f, _SQUARES + SUM)
            left = total_of(f, _SQUARES) * total_of(f, _SQUARES + SUM)
            if seldom(is_rebuild_due(i) or is_worn or left < _SHARE * f[_LARGEST]):
                pairs_again(f, i)
    else:
        settle(f, i)
    f[_NOW], f[_NOW + 1] = math.nan, math.nan
    return False


@inlined
def overlaps_row(f, i, t, a, b):
    """A row into the sums; → whether the ring was full."""
    if i[SEEN] == 1 and t > i[_NOW_T] and overlaps_move_on(f, i, t):
        return True
    i[SEEN], i[_NOW_T] = 1, t
    if is_observed(a):
        f[_NOW] = a
    if is_observed(b):
        f[_NOW + 1] = b
    return False


@inlined
def is_paired(f, i):
    """Whether each side was observed twice."""
    for side in range(2):
        if i[_COUNTS + side] + has(f[_NOW + side]) < 2:
            return False
    return True


@inlined
def hayashi_yoshida_cov_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not (is_observed(x[0]) or is_observed(x[1])):
        return False
    if overlaps_row(f, i, t, x[0], x[1]):
        return True
    if is_paired(f, i):
        y[0] = total_of(f, _CROSS) + product_now(f, change_now(f, i, 0), change_now(f, i, 1))
    return False


@inlined
def hayashi_yoshida_corr_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not (is_observed(x[0]) or is_observed(x[1])):
        return False
    if overlaps_row(f, i, t, x[0], x[1]):
        return True
    if is_paired(f, i):
        dx, dy = change_now(f, i, 0), change_now(f, i, 1)
        of_x, of_y = total_of(f, _SQUARES) + dx * dx, total_of(f, _SQUARES + SUM) + dy * dy
        y[0] = ratio(total_of(f, _CROSS) + product_now(f, dx, dy), math.sqrt(of_x * of_y))
    return False


def _overlaps_start(values: Values) -> Start:
    start = windowed(
        values | {"w": values["w"] or 1, "min_obs": None}, own=_HELD, columns=2, own_ints=_OWN_INTS
    )._replace(by_time=True)  # fmt: skip
    start.f[_NOW : _NOW + 2] = np.nan
    return start


def _overlaps(name: str, output: str, formula: str, step: Any, alias: str, differs: str) -> Kernel:
    return Kernel(
        name=name, module=__name__, formula=formula, inputs=("x", "y"), outputs=(Output(output),), parameters=(_WINDOW,),
        step=step, start=_overlaps_start, grow=Growing(_HELD, 2, _OWN_INTS), first="2 of each side", needs_time=True,
        oracle="naive double loop", source="Hayashi & Yoshida 2005", aliases=(alias,),
        differs="x and y are used as they come: give logarithms for returns. NaN: not observed in this row. An interval counts "
        f"once both its ends are in the window. {differs}",
    )  # fmt: skip


HAYASHI_YOSHIDA_COV = _overlaps(
    "hayashi_yoshida_cov", "cov", "Σ Δx_i·Δy_j over all pairs of overlapping intervals (t_{i−1}, t_i]",
    hayashi_yoshida_cov_step, "hy_cov", "A sum over the window, not per unit of time.",
)  # fmt: skip
HAYASHI_YOSHIDA_CORR = _overlaps(
    "hayashi_yoshida_corr", "corr", "Σ Δx_i·Δy_j over overlapping intervals, over √(ΣΔx²·ΣΔy²)",
    hayashi_yoshida_corr_step, "hy_corr", "It may be beyond ±1 where there are few observations, and is given as it is.",
)  # fmt: skip

# -- xcorr_leadlag ------------------------------------------------------------------------------------------------------
# Each side has a ring of its own. Observations are counted from the first and found at their number modulo the capacity,
# a power of two. For each lag and side two places in the other side's ring go along: where the newest interval begins there,
# and where the oldest one does.
#
# f: Σdx², Σdy², the largest of their products, U of each lag (sum and remainder), values of x, values of y.
# i: as below, the places, times of x, times of y. p: one step of lag in ns, the fewest observations of each side.

_FIRST, _LAGS, _END = 0, 3, 6  # [side]: the number of the first observation in the ring, and of the one to come
_PLACES = TIMES
_PRODUCT, _U = 2 * SUM, 2 * SUM + 1
_FIRST_CAPACITY = 64


@inlined
def time_at(i, side, number):
    return i[_PLACES + 4 * i[_LAGS] + side * i[CAPACITY] + (number & (i[CAPACITY] - 1))]


@inlined
def value_place(i, side, number):
    return _U + 2 * i[_LAGS] + side * i[CAPACITY] + (number & (i[CAPACITY] - 1))


@inlined
def multiply(f, i, p, side, end, change, sign):
    """Add change · (what the other side moved over the interval of a side up to observation `end`) to U of every lag. The
    places of the newest interval are used, or with a negative sign those of the oldest, and what they give is taken off."""
    other = 1 - side
    first, last = i[_FIRST + other], i[_END + other] - 1
    if last < first:
        return
    lags = i[_LAGS]
    places = _PLACES + ((0 if sign > 0.0 else 2) + side) * lags
    begins, ends = time_at(i, side, end - 1), time_at(i, side, end)
    for lag in range(lags):
        shift = (lag - lags // 2) * int(p[0])
        if side == 1:
            shift = -shift
        k = max(i[places + lag], first)
        while k < last and time_at(i, other, k + 1) <= begins + shift:
            k += 1
        i[places + lag] = k
        begin = k
        while k < last and time_at(i, other, k) < ends + shift:
            k += 1
        if k > begin:
            moved = f[value_place(i, other, k)] - f[value_place(i, other, begin)]
            add_to(f, _U + 2 * lag, sign * change * moved)


@inner
def observe(f, i, p, side, t, value):
    """A new observation of a side, or another one at the same time, which replaces the last."""
    end = i[_END + side]
    n = end - i[_FIRST + side]
    if n > 0 and time_at(i, side, end - 1) == t:
        place = value_place(i, side, end - 1)
        if n > 1:
            before = f[value_place(i, side, end - 2)]
            old, new = f[place] - before, value - before
            add_to(f, SUM * side, -old * old)
            sum_add(f, SUM * side, new * new)
            multiply(f, i, p, side, end - 1, value - f[place], 1.0)
        f[place] = value
        return
    i[_PLACES + 4 * i[_LAGS] + side * i[CAPACITY] + (end & (i[CAPACITY] - 1))] = t
    f[value_place(i, side, end)] = value
    i[_END + side] = end + 1
    if n > 0:
        change = value - f[value_place(i, side, end - 1)]
        sum_add(f, SUM * side, change * change)
        multiply(f, i, p, side, end, change, 1.0)


@inner
def forget(f, i, p, side, until):
    """Let the observations of a side go that are not after a time."""
    while i[_FIRST + side] < i[_END + side] and time_at(i, side, i[_FIRST + side]) <= until:
        first = i[_FIRST + side]
        if first + 1 < i[_END + side]:
            change = f[value_place(i, side, first + 1)] - f[value_place(i, side, first)]
            add_to(f, SUM * side, -change * change)
            multiply(f, i, p, side, first + 1, change, -1.0)
        i[_FIRST + side] += 1
        i[REMOVED] += 1


@inner
def lags_again(f, i, p):
    """Make all sums anew from the rings."""
    f[: _U + 2 * i[_LAGS]] = 0.0
    i[_PLACES : _PLACES + i[_LAGS]] = 0  # of x's newest interval: its intervals are gone through from the first
    for side in range(2):
        for number in range(i[_FIRST + side] + 1, i[_END + side]):
            change = f[value_place(i, side, number)] - f[value_place(i, side, number - 1)]
            sum_add(f, SUM * side, change * change)
            if side == 0:
                multiply(f, i, p, side, number, change, 1.0)
    f[_PRODUCT] = total_of(f, 0) * total_of(f, SUM)


@inner
def lead_outputs(f, i, p, y):
    """The lag of the largest |U|, of two alike the one nearer to zero; the correlation there; how much x leads."""
    middle = i[_LAGS] // 2
    best, largest = -1, 0.0
    x_leads, y_leads = 0.0, 0.0
    for k in range(middle + 1):
        ahead, behind = total_of(f, _U + 2 * (middle + k)), total_of(f, _U + 2 * (middle - k))
        if abs(ahead) > largest:
            best, largest = middle + k, abs(ahead)
        if abs(behind) > largest:
            best, largest = middle - k, abs(behind)
        if k > 0:
            x_leads += ahead * ahead
            y_leads += behind * behind
    if best >= 0:
        y[0] = (best - middle) * p[0] * 1e-9
        y[1] = ratio(total_of(f, _U + 2 * best), math.sqrt(total_of(f, 0) * total_of(f, SUM)))
        y[2] = ratio(x_leads, y_leads)


@njit(cache=True)
def xcorr_leadlag_step(f, i, p, t, x, y):
    no_output(y)
    if not (is_observed(x[0]) or is_observed(x[1])):
        return False
    f[_PRODUCT] = max(f[_PRODUCT], total_of(f, 0) * total_of(f, SUM))
    removed = i[REMOVED]
    for side in range(2):
        forget(f, i, p, side, t - i[SPAN])
    if i[REMOVED] > removed:
        is_worn = sum_is_worn(f, 0) or sum_is_worn(f, SUM)
        if seldom(is_rebuild_due(i) or is_worn or total_of(f, 0) * total_of(f, SUM) < _SHARE * f[_PRODUCT]):
            lags_again(f, i, p)
    for side in range(2):
        if i[_END + side] - i[_FIRST + side] == i[CAPACITY]:
            return True
    for side in range(2):
        if is_observed(x[side]):
            observe(f, i, p, side, t, x[side])
    if min(i[_END] - i[_FIRST], i[_END + 1] - i[_FIRST + 1]) >= p[1]:
        lead_outputs(f, i, p, y)
    return False


def _lead_start(values: Values) -> Start:
    if not isinstance(values["w"], Span) or not isinstance(values["step"], Span):
        raise KernelError('xcorr_leadlag: w and step must both be durations such as "60s" and "100ms"')
    lags = 2 * values["lags"] + 1
    i = np.zeros(_PLACES + 4 * lags + 2 * _FIRST_CAPACITY, dtype=np.int64)
    i[CAPACITY], i[_LAGS], i[SPAN] = _FIRST_CAPACITY, lags, values["w"].ns
    p = np.array([values["step"].ns, values["min_obs"]], dtype=np.float64)
    return Start(np.zeros(_U + 2 * lags + 2 * _FIRST_CAPACITY), i, p, by_time=True)


def _lead_grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    """Twice the rings; observations keep their numbers."""
    lags, capacity = int(i[_LAGS]), int(i[CAPACITY])
    bases = _U + 2 * lags, _PLACES + 4 * lags
    wider_f, wider_i = np.zeros(len(f) + 2 * capacity), np.zeros(len(i) + 2 * capacity, dtype=np.int64)
    for old, wider, base in ((f, wider_f, bases[0]), (i, wider_i, bases[1])):
        wider[:base] = old[:base]
        for side in range(2):
            numbers = np.arange(int(i[_FIRST + side]), int(i[_END + side]))
            places = numbers % (2 * capacity) + side * 2 * capacity
            wider[base + places] = old[base + numbers % capacity + side * capacity]
    wider_i[CAPACITY] = 2 * capacity
    return wider_f, wider_i


XCORR_LEADLAG = Kernel(
    name="xcorr_leadlag", module=__name__,
    formula="U(θ) = Σ Δx_i·Δy_j over overlapping intervals, y's times moved back by θ; θ* = argmax|U|; "
    "corr = U(θ*)/√(ΣΔx²·ΣΔy²); llr = Σ_{θ>0}U²/Σ_{θ<0}U²",
    inputs=("x", "y"),
    outputs=(
        Output("lag", help="seconds; above 0: x leads"), Output("corr", help="at that lag"),
        Output("llr", help="above 1: x leads"),
    ),
    parameters=(
        Parameter(name="lags", kind="int", default=10, low=1, high=1_000, help="to each side"),
        Parameter(name="step", kind="duration", default="100ms", help="from one lag to the next"),
        Parameter(name="w", kind="duration", default="60s", help="observations of the last so long"),
        Parameter(name="min_obs", kind="int", default=2, low=2, help="output from so many observations of each side on"),
    ),
    step=xcorr_leadlag_step, start=_lead_start, grow=_lead_grow, first="min_obs of each side", cost="O(lags)",
    needs_time=True, oracle="naive shift", source="Hoffmann, Rosenbaum & Yoshida 2013; Huth & Abergel 2014",
    differs="Nothing is put on a grid. x and y are used as they come: give logarithms for returns. NaN: not observed in this "
    "row. Of two lags alike the one nearer to zero is told, of θ and −θ the positive one; where no changes overlap at any "
    "lag there is none.",
)  # fmt: skip

KERNELS = (HAYASHI_YOSHIDA_COV, HAYASHI_YOSHIDA_CORR, XCORR_LEADLAG)
