"""How the variance of a series grows with the horizon: slower than time where it comes back, faster where it trends."""

from __future__ import annotations

import math

import numpy as np

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
from oneprice.compute.kernels.inlining import inlined, outlined
from oneprice.compute.kernels.numbers import exp, log
from oneprice.compute.kernels.rows import finite, is_price, ratio
from oneprice.compute.kernels.special import erfc, lgamma
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    Growing,
    drop_due,
    is_full,
    is_ready,
    no_output,
    push,
    slot_at,
    window_parameter,
    windowed,
)


@inlined
def laid_out(f, i, at, ring):
    """The window in order, oldest first, at f[at:]."""
    for k in range(i[COUNT]):
        f[at + k] = f[ring + slot_at(i, k)]
    return f[at : at + i[COUNT]]


# -- variance_ratio -----------------------------------------------------------------------------------------------------
# f: the window in order, then the ring of ln p


@outlined
def variance_ratio_of(levels, q, y):
    """The three outputs of the window; its levels are overwritten."""
    n = levels.shape[0] - 1
    mean = (levels[n] - levels[0]) / n
    ones, longs = 0.0, 0.0
    for k in range(1, n + 1):
        change = levels[k] - levels[k - 1] - mean
        ones += change * change
    for k in range(q, n + 1):
        change = levels[k] - levels[k - q] - q * mean
        longs += change * change
    if ones <= 0.0:
        return
    for k in range(n):
        change = levels[k + 1] - levels[k] - mean
        levels[k] = change * change / ones
    m = q * (n - q + 1) * (1.0 - q / n)
    y[0] = longs / m / (ones / (n - 1))
    theta = 0.0
    for j in range(1, q):
        products = 0.0
        for k in range(j, n):
            products += levels[k] * levels[k - j]
        weight = 2.0 * (q - j) / q
        theta += weight * weight * products
    y[1] = ratio(y[0] - 1.0, math.sqrt(theta))
    y[2] = erfc(abs(y[1]) / math.sqrt(2.0))


@inlined
def variance_ratio_step(f, i, p, t, x, y):
    no_output(y)
    if not is_price(x[0]):
        return False
    ring = i[CAPACITY]
    drop_due(i, t)
    if is_full(i):
        return True
    f[ring + push(i, t)] = log(x[0])
    if is_ready(i):
        variance_ratio_of(laid_out(f, i, 0, ring), int(p[0]), y)
    return False


def _variance_ratio_start(values: Values) -> Start:
    q, w = values["q"], values["w"]
    if not isinstance(w, Span) and w < q + 2:
        raise KernelError(f"variance_ratio: w={w!r}: it must be at least q + 2 = {q + 2}")
    return windowed(values, own=0, fewest=q + 2, parameters=[float(q)], mirrored=True)


VARIANCE_RATIO = Kernel(
    name="variance_ratio", module=__name__,
    formula="X = ln p, n = w − 1 changes of mean μ; σ²(q) = Σ(X_i − X_{i−q} − qμ)²/m, m = q(n−q+1)(1−q/n); "
    "σ²(1) = Σ(X_i − X_{i−1} − μ)²/(n−1); vr = σ²(q)/σ²(1); z = (vr − 1)/√θ, "
    "θ = Σ_{j<q} (2(q−j)/q)²·Σd_i²d²_{i−j}/(Σd²)², d = X_i − X_{i−1} − μ; p = 2(1 − Φ(|z|))",
    inputs=("p",), outputs=(Output("vr"), Output("z"), Output("p_value", help="of a random walk, two-sided")),
    parameters=(
        Parameter(name="q", kind="int", default=2, low=2, high=10_000, help="changes added up"),
        *window_parameter(500, fewest=4),
    ),
    step=variance_ratio_step, start=_variance_ratio_start, grow=Growing(0, mirrored=True), first="w", cost="O(w·q)",
    oracle="arch VarianceRatio", source="Lo & MacKinlay 1988",
    differs="z is the one that holds under changing variance. Overlapping, unbiased; w counts prices.",
)  # fmt: skip

# -- hurst --------------------------------------------------------------------------------------------------------------
# f: one logarithm for each size, then the window in order, then the ring. p: method, the first size, ln of each size, and
# what a random walk is expected to have there (rs)

_METHODS = ("diffs", "rs", "dfa")
_SIZES = 2
_SMALLEST_BLOCK = 4
_ROUNDING = 4.0 * 2.0**-52  # of the largest value: deviations below it are those of its last digits


@outlined
def deviation_of_changes(levels, lag):
    """The standard deviation of changes over a lag."""
    n = levels.shape[0] - lag
    mean = 0.0
    for k in range(lag):  # what does not cancel in Σ(x₊ − x)
        mean += levels[n + k] - levels[k]
    mean /= n
    total = 0.0
    for k in range(n):
        deviation = levels[k + lag] - levels[k] - mean
        total += deviation * deviation
    return math.sqrt(total / (n - 1))


@outlined
def rescaled_range(levels, size, least):
    """Range over standard deviation of blocks of so many changes: the mean over those that move; 0 where none does."""
    total, blocks = 0.0, 0
    for begin in range(0, levels.shape[0] - size, size):
        mean = (levels[begin + size] - levels[begin]) / size
        low, high, squares = 0.0, 0.0, 0.0
        for k in range(1, size + 1):
            path = levels[begin + k] - levels[begin] - k * mean
            low, high = min(low, path), max(high, path)
            deviation = levels[begin + k] - levels[begin + k - 1] - mean
            squares += deviation * deviation
        deviation = math.sqrt(squares / size)
        if deviation > least:
            total += (high - low) / deviation
            blocks += 1
    return total / blocks if blocks > 0 else 0.0


@outlined
def fluctuation(levels, size):
    """The root mean square of what is left of blocks of so many levels without their own straight lines."""
    center, spread = 0.5 * (size - 1), size * (size * size - 1.0) / 12.0
    total, blocks = 0.0, 0
    for begin in range(0, levels.shape[0] - size + 1, size):
        mean, slope = 0.0, 0.0
        for k in range(size):
            offset = levels[begin + k] - levels[begin]
            mean += offset
            slope += (k - center) * offset
        mean /= size
        slope /= spread
        for k in range(size):
            rest = levels[begin + k] - levels[begin] - mean - slope * (k - center)
            total += rest * rest
        blocks += 1
    return math.sqrt(total / (blocks * size))


@outlined
def hurst_of(levels, logs, p, y):
    """Slope of the logarithms on those of the sizes, and its standard error."""
    method, first, count = int(p[0]), int(p[1]), logs.shape[0]
    largest = 0.0
    for k in range(levels.shape[0]):
        largest = max(largest, abs(levels[k]))
    least = _ROUNDING * largest
    mean_x, mean_y = 0.0, 0.0
    for k in range(count):
        if method == 0:
            found = deviation_of_changes(levels, first + k)
        elif method == 1:
            found = rescaled_range(levels, first + k, least)
        else:
            found = fluctuation(levels, first + k)
        if not (found > (least if method != 1 else 0.0) and math.isfinite(found)):
            return
        logs[k] = log(found) - p[_SIZES + count + k]
        mean_x += p[_SIZES + k]
        mean_y += logs[k]
    mean_x /= count
    mean_y /= count
    squares, products = 0.0, 0.0
    for k in range(count):
        offset = p[_SIZES + k] - mean_x
        squares += offset * offset
        products += offset * (logs[k] - mean_y)
    slope, rest = products / squares, 0.0
    for k in range(count):
        error = logs[k] - mean_y - slope * (p[_SIZES + k] - mean_x)
        rest += error * error
    y[0] = finite(slope + (0.5 if method == 1 else 0.0))
    y[1] = finite(math.sqrt(rest / (count - 2) / squares))


@inlined
def hurst_step(f, i, p, t, x, y):
    no_output(y)
    if not math.isfinite(x[0]):
        return False
    count = (p.shape[0] - _SIZES) // 2
    ring = count + i[CAPACITY]
    drop_due(i, t)
    if is_full(i):
        return True
    f[ring + push(i, t)] = x[0]
    if is_ready(i):
        hurst_of(laid_out(f, i, count, ring), f[:count], p, y)
    return False


def expected_rescaled_range(size: int) -> float:
    """What R/S of so many independent normal changes is on average (Anis & Lloyd 1976)."""
    log_gammas = lgamma((size - 1) / 2) - lgamma(size / 2)
    return float(exp(log_gammas)) / math.sqrt(math.pi) * sum(math.sqrt((size - k) / k) for k in range(1, size))


def _hurst_start(values: Values) -> Start:
    method, first, last, w = values["method"], values["lag_from"], values["lag_to"], values["w"]
    if method != "diffs":
        first = max(first, _SMALLEST_BLOCK)
    if last < first + 2:
        raise KernelError(f"hurst: lag_to={last}: it must be at least {first + 2}, for three sizes ({method})")
    if not isinstance(w, Span) and w < last + 2:
        raise KernelError(f"hurst: w={w!r}: it must be at least lag_to + 2 = {last + 2}")
    sizes = np.arange(first, last + 1)
    expected = [log(expected_rescaled_range(int(size))) if method == "rs" else 0.0 for size in sizes]
    parameters = [float(_METHODS.index(method)), float(first), *(log(size) for size in sizes), *expected]
    return windowed(values, own=len(sizes), fewest=last + 2, parameters=parameters, mirrored=True)


def _hurst_grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    return Growing(len(f) - 2 * int(i[CAPACITY]), mirrored=True)(f, i)


HURST = Kernel(
    name="hurst", module=__name__,
    formula="the slope over sizes τ on ln τ of: diffs ln std(x_{+τ} − x); rs ln(R/S) − ln E(R/S), plus ½, blocks of τ "
    "changes; dfa ln F, F the root mean square of blocks of τ levels around their lines",
    inputs=("x",), outputs=(Output("h"), Output("se", help="the slope's standard error, of least squares")),
    parameters=(
        *window_parameter(500, fewest=6),
        Parameter(name="lag_from", kind="int", default=2, low=2, high=100_000, help="the least size"),
        Parameter(name="lag_to", kind="int", default=20, low=4, high=100_000, help="the largest size; all between are used"),
        Parameter(name="method", kind="choice", default="diffs", choices=_METHODS),
    ),
    step=hurst_step, start=_hurst_start, grow=_hurst_grow, first="w", cost="O(w·sizes)",
    oracle="naive; fractional noise", source="Hurst 1951; Anis & Lloyd 1976; Peng et al. 1994", aliases=("hurst_exponent",),
    differs="x is the path (ln p), not its changes. Blocks begin at the window's oldest row and are of four or more. Of rs, "
    "a block that does not move is left out; else a size without movement leaves the window without h. Neighbouring sizes "
    "share their data: se is too small for a test. Blocks below ten lean, of rs to ½, of dfa upwards: give lag_from=10, "
    "lag_to=w/4 there.",
)  # fmt: skip

KERNELS = (VARIANCE_RATIO, HURST)
