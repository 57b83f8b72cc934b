"""Of two series that are observed at their own times, as in `cross_asset_overlaps.py`: which one moves first."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.cross_asset_overlaps import FIRST_CAPACITY, SHARE, is_observed
from oneprice.compute.kernels.definition import (
    Floats,
    Ints,
    Kernel,
    Output,
    Parameter,
    Start,
    Values,
)
from oneprice.compute.kernels.inlining import inlined, outlined, seldom
from oneprice.compute.kernels.rows import ratio
from oneprice.compute.kernels.windows import (
    CAPACITY,
    REMOVED,
    SPAN,
    SUM,
    TIMES,
    add_to,
    is_rebuild_due,
    no_output,
    sum_add,
    sum_is_worn,
    total_of,
)

# Each side has a ring of its own. Observations are counted from the first and found at their number modulo the capacity,
# a power of two. For each lag and side two places in the other side's ring go along: where the newest interval begins there,
# and where the oldest one does.
#
# f: Σdx², Σdy², the largest of their products, U of each lag (sum and remainder), values of x, values of y.
# i: as below, the places, times of x, times of y. p: one step of lag in ns, the fewest observations of each side.

_FIRST, _LAGS, _END = 0, 3, 6  # [side]: the number of the first observation in the ring, and of the one to come
_PLACES = TIMES
_PRODUCT, _U = 2 * SUM, 2 * SUM + 1


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


@outlined
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


@outlined
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


@outlined
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


@outlined
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


@outlined
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
        if seldom(is_rebuild_due(i) or is_worn or total_of(f, 0) * total_of(f, SUM) < SHARE * f[_PRODUCT]):
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
    lags = 2 * values["lags"] + 1
    i = np.zeros(_PLACES + 4 * lags + 2 * FIRST_CAPACITY, dtype=np.int64)
    i[CAPACITY], i[_LAGS], i[SPAN] = FIRST_CAPACITY, lags, values["w"].ns
    p = np.array([values["step"].ns, values["min_obs"]], dtype=np.float64)
    return Start(np.zeros(_U + 2 * lags + 2 * FIRST_CAPACITY), i, p, by_time=True)


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

KERNELS = (XCORR_LEADLAG,)
