"""Online statistics of a window: moments, pairs, quantiles, robust cleaning."""

from __future__ import annotations

import math
from typing import Any

from oneprice.compute.kernels.definition import Kernel, Output, Parameter
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.order_statistics import (
    SortedGrowing,
    ascending,
    median_deviation,
    quantile_of,
    sorted_row,
    sorted_window,
)
from oneprice.compute.kernels.rows import finite, ratio
from oneprice.compute.kernels.windows import (
    COUNT,
    MOMENTS,
    Growing,
    by_count,
    drop,
    is_due,
    is_full,
    is_ready,
    is_rebuild_due,
    is_turning,
    mean_of,
    moments_add,
    moments_are_worn,
    moments_leave,
    moments_of,
    moments_remove,
    moments_replace,
    moments_row,
    no_output,
    nothing_left,
    push,
    slot_at,
    turn,
    window_parameter,
    windowed,
)

# -- one window -------------------------------------------------------------------------------------------------------


@inlined
def rolling_zscore_step(f, i, p, t, x, w):
    value, ring = x[0], MOMENTS
    nothing_left(w)
    if not math.isfinite(value):
        return False
    if p[0] == 1.0:
        if moments_row(f, i, t, value):
            return True
        moments_leave(f, i, w, value)
        return False
    if by_count(i):
        moments_leave(f, i, w, value)
        return moments_row(f, i, t, value)
    while is_due(i, t):
        moments_remove(f, 0, i[COUNT] - 1, f[ring + drop(i)])
    if is_full(i):
        return True
    moments_leave(f, i, w, value)
    return moments_row(f, i, t, value)


@inlined
def rolling_zscore_finish(p, w, y):
    std = math.sqrt(w[1] / (w[3] - 1.0))
    y[0], y[1], y[2] = ratio(w[2], std), finite(w[0]), finite(std)


ROLLING_ZSCORE = Kernel(
    name="rolling_zscore", module=__name__, formula="(x − ⟨x⟩)/std over w", inputs=("x",),
    outputs=(Output("z"), Output("mean"), Output("std")),
    parameters=(*window_parameter(fewest=2), Parameter(name="include_current", kind="bool", default=True)),
    step=rolling_zscore_step, finish=rolling_zscore_finish, left=4,
    start=lambda values: windowed(values, own=MOMENTS, fewest=2, parameters=[float(values["include_current"])]),
    grow=Growing(MOMENTS), first="w", oracle="pandas rolling",
    differs="With the current value inside, |z| ≤ (w−1)/√w; an alarm wants include_current=False.",
)  # fmt: skip


# -- two series in one window -----------------------------------------------------------------------------------------
# f: the moments of x, those of y, the sum of products of their deviations, then the ring of (x, y)

_X, _Y, _C, PAIR = 0, MOMENTS, 2 * MOMENTS, 2 * MOMENTS + 1


@inlined
def pair_add(f, n, a, b):
    moments_add(f, _Y, n, b)
    dx = a - f[_X + 2] - f[_X] if n > 1 else 0.0
    moments_add(f, _X, n, a)
    f[_C] = f[_C] + dx * (b - f[_Y + 2] - f[_Y]) if n > 1 else 0.0


@inlined
def pair_remove(f, n, a, b):
    """n: how many are left."""
    dy = b - f[_Y + 2] - f[_Y]
    moments_remove(f, _X, n, a)
    moments_remove(f, _Y, n, b)
    if n > 0:
        f[_C] -= (a - f[_X + 2] - f[_X]) * dy


@inlined
def pair_replace(f, n, old_a, old_b, a, b):
    """One row for another, of n: Δ(Σ of products) = (a − x̄')(b − ȳ) − (a₀ − x̄')(b₀ − ȳ), x̄' the mean after, ȳ before."""
    of_b, of_old_b = b - f[_Y + 2] - f[_Y], old_b - f[_Y + 2] - f[_Y]
    moments_replace(f, _X, n, old_a, a)
    moments_replace(f, _Y, n, old_b, b)
    of_a, of_old_a = a - f[_X + 2] - f[_X], old_a - f[_X + 2] - f[_X]
    f[_C] += of_a * of_b - of_old_a * of_old_b


@inlined
def pair_rebuild(f, i, ring):
    moments_of(f, _X, i, ring, 2, 0)
    moments_of(f, _Y, i, ring, 2, 1)
    f[_C] = 0.0
    for k in range(i[COUNT]):
        slot = ring + 2 * slot_at(i, k)
        f[_C] += (f[slot] - f[_X + 2] - f[_X]) * (f[slot + 1] - f[_Y + 2] - f[_Y])


@inlined
def pair_is_worn(f):
    return moments_are_worn(f, _X) or moments_are_worn(f, _Y)


@inlined
def pair_covariance(f, n):
    return f[_C] / (n - 1)


@inlined
def line_of(xx, xy, yy, x, y):
    """Slope, intercept and r² of y on x, of sums of products around the means, and these; NaN where x does not move, r² NaN
    where y does not."""
    slope = finite(xy / xx) if xx > 0.0 else math.nan
    r2 = min(1.0, slope * xy / yy) if yy > 0.0 and xx > 0.0 else math.nan
    return slope, finite(y - slope * x), r2


@inlined
def pair_line(f):
    return line_of(f[_X + 1], f[_C], f[_Y + 1], mean_of(f, _X), mean_of(f, _Y))


PAIR_LEFT = 6


@inlined
def pair_leave(f, i, w):
    """For `finish`: n, ȳ, x̄, the sums of products around them: xy, yy, xx."""
    w[0], w[1], w[2], w[3], w[4], w[5] = i[COUNT], mean_of(f, _Y), mean_of(f, _X), f[_C], f[_Y + 1], f[_X + 1]


@inlined
def line_left(w):
    return line_of(w[5], w[3], w[4], w[2], w[1])


@inlined
def pair_row(f, i, t, a, b, ring=PAIR):
    """A row into the window of pairs; → whether there was no room."""
    if is_turning(i):
        slot = ring + 2 * turn(i)
        pair_replace(f, i[COUNT], f[slot], f[slot + 1], a, b)
        f[slot], f[slot + 1] = a, b
    else:
        while is_due(i, t):
            slot = ring + 2 * drop(i)
            pair_remove(f, i[COUNT], f[slot], f[slot + 1])
        if is_full(i):
            return True
        slot = ring + 2 * push(i, t)
        f[slot], f[slot + 1] = a, b
        pair_add(f, i[COUNT], a, b)
    if seldom(is_rebuild_due(i) or pair_is_worn(f)):
        pair_rebuild(f, i, ring)
    return False


@inlined
def pair_step(f, i, p, t, x, w):
    nothing_left(w)
    if not (math.isfinite(x[0]) and math.isfinite(x[1])):
        return False
    if pair_row(f, i, t, x[0], x[1]):
        return True
    if is_ready(i):
        pair_leave(f, i, w)
    return False


@inlined
def rolling_cov_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not (math.isfinite(x[0]) and math.isfinite(x[1])):
        return False
    if pair_row(f, i, t, x[0], x[1]):
        return True
    if is_ready(i):
        y[0] = finite(pair_covariance(f, i[COUNT]))
    return False


@inlined
def rolling_corr_finish(p, w, y):
    found = min(1.0, max(-1.0, w[3] / math.sqrt(w[5]) / math.sqrt(w[4])))
    y[0] = found if w[5] > 0.0 and w[4] > 0.0 else math.nan


@inlined
def rolling_beta_finish(p, w, y):
    y[0], y[1], y[2] = line_left(w)


def _pairs(name: str, outputs: tuple[str, ...], formula: str, oracle: str, **how: Any) -> Kernel:
    return Kernel(
        name=name, module=__name__, formula=formula, inputs=("x", "y"),
        outputs=tuple(Output(one) for one in outputs),
        parameters=window_parameter(fewest=2),
        start=lambda values: windowed(values, own=PAIR, columns=2, fewest=2), grow=Growing(PAIR, 2), first="w",
        oracle=oracle, **how,
    )  # fmt: skip


ROLLING_COV = _pairs(
    "rolling_cov", ("cov",), "Σ(x−⟨x⟩)(y−⟨y⟩)/(w−1)", "pandas rolling.cov", step=rolling_cov_step
)  # fmt: skip
ROLLING_CORR = _pairs(
    "rolling_corr", ("corr",), "cov(x, y)/√(var x·var y)", "pandas rolling.corr, np.corrcoef",
    step=pair_step, finish=rolling_corr_finish, left=PAIR_LEFT,
)  # fmt: skip
ROLLING_BETA = _pairs(
    "rolling_beta", ("beta", "alpha", "r2"), "y on x: β = cov/var x, α = ȳ − βx̄, r² = cov²/(var x·var y)",
    "np.polyfit, statsmodels RollingOLS", step=pair_step, finish=rolling_beta_finish, left=PAIR_LEFT,
)  # fmt: skip


# -- order statistics -------------------------------------------------------------------------------------------------


@inlined
def rolling_quantile_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not math.isfinite(x[0]):
        return False
    if sorted_row(f, i, t, x[0]):
        return True
    if is_ready(i):
        y[0] = finite(quantile_of(ascending(f, i), i[COUNT], p[0]))
    return False


ROLLING_QUANTILE = Kernel(
    name="rolling_quantile", module=__name__,
    formula="position h = (w−1)·prob, linear between order statistics (type 7)",
    inputs=("x",), outputs=(Output("q"),),
    parameters=(*window_parameter(), Parameter(name="prob", kind="float", default=0.5, low=0.0, high=1.0)),
    step=rolling_quantile_step,
    start=lambda values: sorted_window(values, parameters=[values["prob"]]), version=2,
    grow=SortedGrowing(), first="w", cost="O(w), many values at a time",
    oracle="pandas rolling.quantile, np.quantile", source="Hyndman & Fan 1996",
)  # fmt: skip


@inlined
def robust_hampel_step(f, i, p, t, x, y):
    value = x[0]
    no_output(y)
    if not math.isfinite(value):
        return False
    if sorted_row(f, i, t, value):
        return True
    if not is_ready(i):
        return False
    held, n = ascending(f, i), i[COUNT]
    median = quantile_of(held, n, 0.5)
    mad = 1.482602218505602 * median_deviation(held, n, median)
    if mad > 0.0:
        y[2] = finite((value - median) / mad)
        y[1] = 1.0 if abs(value - median) > p[0] * mad else 0.0
    else:
        y[1] = 1.0 if value != median else 0.0
    y[0] = median if y[1] == 1.0 else value
    return False


ROBUST_HAMPEL = Kernel(
    name="robust_hampel", module=__name__,
    formula="MAD = 1.4826·median|x − med|; flag if |x − med| > k·MAD; clean = med where flagged", inputs=("x",),
    outputs=(Output("clean"), Output("flag", "int8"), Output("score")),
    parameters=(*window_parameter(21, fewest=1), Parameter(name="k", kind="float", default=3.0, above=0.0)),
    step=robust_hampel_step,
    start=lambda values: sorted_window(values, parameters=[values["k"]]), version=2,
    grow=SortedGrowing(), first="w", cost="O(w), many values at a time",
    oracle='naive median and MAD; SciPy median_abs_deviation(scale="normal")',
    source="Hampel 1974; Davies & Gather 1993",
    differs="The window is trailing: the textbook's is centred and looks ahead. A flat window has no score.",
)  # fmt: skip


KERNELS = (
    ROLLING_ZSCORE, ROBUST_HAMPEL, ROLLING_COV, ROLLING_CORR, ROLLING_BETA, ROLLING_QUANTILE,
)  # fmt: skip
