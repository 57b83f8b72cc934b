"""Many assets at once: covariances that forget or are shrunk, weights of equal risk, limits of exposure.

Inputs in capitals are matrices with a column an asset; a covariance matrix stands row by row (c_0_0, c_0_1, …), in outputs
as in inputs."""

from __future__ import annotations

import math

from oneprice.compute.kernels.definition import (
    Floats,
    Ints,
    Kernel,
    KernelError,
    Output,
    Parameter,
    Start,
    Values,
)
from oneprice.compute.kernels.inlining import inlined, outlined
from oneprice.compute.kernels.numbers import LN2, expm1
from oneprice.compute.kernels.rows import all_finite, plain
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    HEAD,
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

_ASSETS = Parameter(name="assets", kind="int", default=2, low=2, high=1_000, help="how many")


def _covariances(count: int) -> tuple[Output, ...]:
    return tuple(Output(f"c_{a}_{b}") for a in range(count) for b in range(count))


@inlined
def all_or_nothing(y):
    """A row in which numbers ran out of their range has no output at all."""
    if not all_finite(y):
        no_output(y)


# -- ewcov_matrix -------------------------------------------------------------------------------------------------------

_MOST = 1e154  # beyond it a square is not finite, and no covariance would be, ever after


@outlined
def ewcov_matrix_step(f, i, p, t, x, y):
    """f: means, then covariances (the lower half is used); i: whether there was a row; p: the weight of the newest row."""
    count, alpha = x.shape[0], p[0]
    no_output(y)
    if not all_finite(x):
        return False
    if i[0] == 0:
        i[0] = 1
        for a in range(count):
            f[a] = x[a]
        return False
    means = count * count  # their places in y, and those of the differences from them at first
    largest = 0.0
    for a in range(count):
        y[means + a] = x[a] - f[a]
        largest = max(largest, abs(y[means + a]))
    if largest > _MOST:
        no_output(y)
        return False
    for a in range(count):
        row = count + a * count
        for b in range(a + 1):
            f[row + b] = (1.0 - alpha) * (f[row + b] + alpha * y[means + a] * y[means + b])
            y[a * count + b] = f[row + b]
            y[b * count + a] = f[row + b]
    for a in range(count):
        f[a] += alpha * y[means + a]
        y[means + a] = f[a]
    all_or_nothing(y)
    return False


def _ewcov_outputs(values: Values) -> tuple[Output, ...]:
    return (*_covariances(values["assets"]), *(Output(f"mean_{a}") for a in range(values["assets"])))


def _ewcov_start(values: Values) -> Start:
    count = values["assets"]
    return plain(count + count * count, 1, -expm1(-LN2 / values["halflife"]))


EWCOV_MATRIX = Kernel(
    name="ewcov_matrix", module=__name__, formula="d = x − μ; μ += α·d; C = (1−α)(C + α·d·dᵀ); α = 1 − 2^(−1/halflife)",
    inputs=("R",), outputs=_ewcov_outputs({"assets": 2}), outputs_by=_ewcov_outputs,
    parameters=(_ASSETS, Parameter(name="halflife", kind="float", default=20.0, above=0.0, help="observations")),
    widths_by=lambda values: {"R": values["assets"]}, step=ewcov_matrix_step, start=_ewcov_start, first="2", cost="O(p²)",
    oracle="pandas ewm.cov(bias=True)", source="Finch 2009",
    differs="As ewcov for every pair, but a row with a NaN is skipped whole: pair by pair, the matrix need not be one of"
    " covariances. R: what the columns hold, mostly returns.",
)  # fmt: skip

# -- ledoit_wolf_shrinkage ------------------------------------------------------------------------------------------------
# f: means, a row's differences from them, then the ring


@outlined
def shrunk_covariance(f, i, count, y):
    """The window's covariances, with 1/n, and how far to shrink them, into y."""
    n, ring = i[COUNT], 2 * count
    for a in range(count):
        f[a] = 0.0
        for b in range(a + 1):
            y[a * count + b] = 0.0
    oldest = ring + count * i[HEAD]  # means are taken from its values on: those of a flat window are exact
    for k in range(n):
        slot = ring + count * slot_at(i, k)
        for a in range(count):
            f[a] += f[slot + a] - f[oldest + a]
    for a in range(count):
        f[a] = f[oldest + a] + f[a] / n
    fourth = 0.0  # Σ‖d‖⁴/n
    for k in range(n):
        slot = ring + count * slot_at(i, k)
        square = 0.0
        for a in range(count):
            d = f[slot + a] - f[a]
            f[count + a] = d
            square += d * d
            for b in range(a + 1):
                y[a * count + b] += d * f[count + b]
        fourth += square * square / n
    level, squares = 0.0, 0.0
    for a in range(count):
        y[a * count + a] /= n
        level += y[a * count + a] / count
        for b in range(a):
            y[a * count + b] /= n
            squares += 2.0 * y[a * count + b] * y[a * count + b]
    apart = squares  # ‖S − μI‖²
    for a in range(count):
        variance = y[a * count + a]
        squares += variance * variance
        apart += (variance - level) * (variance - level)
    noise = (fourth - squares) / n
    share = min(1.0, max(0.0, noise / apart)) if apart > 0.0 else math.nan
    kept = 1.0 - share if apart > 0.0 else 1.0
    for a in range(count):
        for b in range(a):
            y[a * count + b] *= kept
            y[b * count + a] = y[a * count + b]
        y[a * count + a] = level + kept * (y[a * count + a] - level)
    if math.isfinite(squares):
        y[count * count] = share
    else:
        no_output(y)


@outlined
def ledoit_wolf_shrinkage_step(f, i, p, t, x, y):
    count = x.shape[0]
    no_output(y)
    if not all_finite(x):
        return False
    drop_due(i, t)
    if is_full(i):
        return True
    slot = 2 * count + count * push(i, t)
    for a in range(count):
        f[slot + a] = x[a]
    if is_ready(i):
        shrunk_covariance(f, i, count, y)
    return False


def _ledoit_outputs(values: Values) -> tuple[Output, ...]:
    return (*_covariances(values["assets"]), Output("shrinkage", help="0: the sample's covariances, 1: μI"))


def _ledoit_start(values: Values) -> Start:
    return windowed(values, own=2 * values["assets"], columns=values["assets"], fewest=2)


def _ledoit_grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    count = len(f) // (2 + int(i[CAPACITY]))
    return Growing(2 * count, count)(f, i)


LEDOIT_WOLF_SHRINKAGE = Kernel(
    name="ledoit_wolf_shrinkage", module=__name__, aliases=("ledoit_wolf",),
    formula="Σ = (1−s)S + s·μI; S with 1/n, μ = tr S/p, δ² = ‖S−μI‖²/p, β̄² = Σ‖x·xᵀ−S‖²/(n²p), s = min(β̄², δ²)/δ²",
    inputs=("R",), outputs=_ledoit_outputs({"assets": 2}), outputs_by=_ledoit_outputs,
    parameters=(_ASSETS, *window_parameter(250, fewest=2)), widths_by=lambda values: {"R": values["assets"]},
    step=ledoit_wolf_shrinkage_step, start=_ledoit_start, grow=_ledoit_grow, first="w", cost="O(w·p²)",
    oracle="scikit-learn LedoitWolf", source="Ledoit & Wolf 2004",
    differs="x less the window's mean. S with 1/n, as the paper's, not ddof 1. Where S is already a multiple of I there is no"
    " shrinkage to tell, and Σ = S.",
)  # fmt: skip

# -- risk_parity_weights --------------------------------------------------------------------------------------------------
# f: Σy; p: assets, tol, whether budgets are given

_SWEEPS = 1_000
_ASYMMETRY = 1e-8


@outlined
def is_covariance(x, count):
    """Whether it is symmetric, with variances above 0."""
    for a in range(count):
        if not 0.0 < x[a * count + a] < math.inf:
            return False
        for b in range(a):
            allowed = _ASYMMETRY * math.sqrt(x[a * count + a]) * math.sqrt(x[b * count + b])
            if not abs(x[a * count + b] - x[b * count + a]) <= allowed:
                return False
            if not math.isfinite(x[a * count + b]):
                return False
    return True


@outlined
def equal_risk(f, p, x, y):
    """Minimise ½yᵀΣy − Σb·ln y, one y after the other; → whether each share of risk is its budget, within tol.

    Between the sweeps y is stretched to yᵀΣy = 1 (= Σb at the minimum): a sweep alone takes long to find the length.
    """
    count = int(p[0])
    whole = 0.0
    for a in range(count):
        whole += x[count * count + a] if p[2] == 1.0 else 1.0
    for a in range(count):
        y[a] = 1.0 / math.sqrt(x[a * count + a])
    for _ in range(_SWEEPS):
        variance = 0.0
        for a in range(count):
            f[a] = 0.0
            for b in range(count):
                f[a] += x[a * count + b] * y[b]
            variance += y[a] * f[a]
        if not 0.0 < variance < math.inf:
            return False
        stretch, error = 1.0 / math.sqrt(variance), 0.0
        for a in range(count):
            budget = (x[count * count + a] if p[2] == 1.0 else 1.0) / whole
            error = max(error, abs(y[a] * f[a] / variance - budget))
        if error <= p[1]:
            return True
        for a in range(count):
            y[a] *= stretch
            f[a] *= stretch
        for a in range(count):
            budget = (x[count * count + a] if p[2] == 1.0 else 1.0) / whole
            own = x[a * count + a]
            others = f[a] - own * y[a]
            root = math.sqrt(others * others + 4.0 * own * budget)
            # −c + √(c² + …) without the difference of two like numbers
            changed = 2.0 * budget / (others + root) if others > 0.0 else (root - others) / (2.0 * own)
            for b in range(count):
                f[b] += x[b * count + a] * (changed - y[a])
            y[a] = changed
    return False


@outlined
def risk_parity_weights_step(f, i, p, t, x, y):
    count = int(p[0])
    no_output(y)
    if not is_covariance(x, count):
        return False
    if p[2] == 1.0:
        for a in range(count):
            if not 0.0 < x[count * count + a] < math.inf:
                return False
    if not equal_risk(f, p, x, y):
        no_output(y)
        return False
    total = 0.0
    for a in range(count):
        total += y[a]
    for a in range(count):
        y[a] /= total
    all_or_nothing(y)
    return False


def _weights(values: Values) -> tuple[Output, ...]:
    return tuple(Output(f"w_{a}") for a in range(values["assets"]))


def _parity_start(values: Values) -> Start:
    return plain(values["assets"], 0, values["assets"], values["tol"], float(values["budgets"] == "given"))


def _parity_widths(values: Values) -> dict[str, int]:
    count = values["assets"]
    return {"SIGMA": count * count} | ({"BUDGETS": count} if values["budgets"] == "given" else {})


RISK_PARITY_WEIGHTS = Kernel(
    name="risk_parity_weights", module=__name__, aliases=("risk_parity",),
    formula="y_i = (−c_i + √(c_i² + 4Σ_ii·b_i))/(2Σ_ii), c_i = Σ_{j≠i} Σ_ij·y_j, over and over; w = y/Σy",
    inputs=("SIGMA", "BUDGETS"), outputs=_weights({"assets": 2}), outputs_by=_weights,
    parameters=(
        _ASSETS,
        Parameter(
            name="budgets", kind="choice", default="equal", choices=("equal", "given"),
            help="equal shares of risk, or those of BUDGETS: above 0, in any unit",
        ),
        Parameter(name="tol", kind="float", default=1e-10, above=0.0, below=1.0, help="largest error of a share of risk"),
    ),
    unread_by=lambda values: () if values["budgets"] == "given" else ("BUDGETS",), widths_by=_parity_widths,
    step=risk_parity_weights_step, start=_parity_start, first="1", cost="O(p²·it)", oracle="SciPy minimise",
    source="Maillard, Roncalli & Teïletche 2010; Griveau-Billion et al. 2013",
    differs="Long only. SIGMA: p² columns, row by row. One that is not symmetric or has a variance of 0 cannot be used; where a"
    " thousand sweeps do not reach tol (assets that cancel out to no risk) there are no weights. Inverse volatility is right"
    " for two assets only.",
)  # fmt: skip

# -- exposure_limits ----------------------------------------------------------------------------------------------------
# f: net by symbol, gross by venue; p: the limits (infinite where there is none), whether equity is read, the columns' symbols,
# their venues

_LIMITS = ("gross", "net", "symbol", "venue", "leverage")
_LEVERED, _GROUPS = 5, 6


@inlined
def exposure_limits_step(f, i, p, t, x, y):
    count = (p.shape[0] - _GROUPS) // 2
    no_output(y)
    for a in range(count):
        if not math.isfinite(x[a]):
            return False
    equity = x[x.shape[0] - 1] if p[_LEVERED] == 1.0 else 1.0
    if not 0.0 < equity < math.inf:
        return False
    for a in range(2 * count):
        f[a] = 0.0
    gross, net, symbol, venue = 0.0, 0.0, 0.0, 0.0
    for a in range(count):
        gross += abs(x[a])
        net += x[a]
        f[int(p[_GROUPS + a])] += x[a]
        f[count + int(p[_GROUPS + count + a])] += abs(x[a])
    for a in range(count):
        symbol, venue = max(symbol, abs(f[a])), max(venue, f[count + a])
    scale, mask, bit = 1.0, 0.0, 1.0
    for k in range(5):
        exposure = (
            gross if k == 0 else abs(net) if k == 1 else symbol if k == 2 else venue if k == 3 else gross / equity
        )
        if exposure > p[k]:
            scale = min(scale, p[k] / exposure)
            mask += bit
        bit *= 2.0
    y[0], y[1] = scale, mask
    return False


def _groups(name: str, given: tuple[float, ...] | None, default: list[float]) -> list[float]:
    if given is None:
        return default
    count = len(default)
    if len(given) != count or any(one not in range(count) for one in given):
        raise KernelError(
            f"exposure_limits: {name}={given!r}: it must be a whole number from 0 to {count - 1} for each of {count} columns"
        )
    return list(given)


def _exposure_start(values: Values) -> Start:
    if all(values[name] is None for name in _LIMITS):
        raise KernelError(f"exposure_limits: {', '.join(_LIMITS)} are all missing: one limit at least is needed")
    count = values["positions"]
    limits = [math.inf if values[name] is None else values[name] for name in _LIMITS]
    symbols = _groups("symbols", values["symbols"], [float(a) for a in range(count)])
    venues = _groups("venues", values["venues"], [0.0] * count)
    return plain(2 * count, 0, *limits, float(values["leverage"] is not None), *symbols, *venues)


EXPOSURE_LIMITS = Kernel(
    name="exposure_limits", module=__name__,
    formula="scale = min of 1 and of limit/|exposure| over the limits; breach: their bits", inputs=("POSITIONS", "equity"),
    outputs=(
        Output("scale", help="what to multiply all positions by"),
        Output("breach", "int8", help="sum of 1 gross, 2 net, 4 symbol, 8 venue, 16 leverage; 0: within all limits"),
    ),
    parameters=(
        Parameter(name="positions", kind="int", default=2, low=1, high=10_000, help="columns of POSITIONS"),
        Parameter(name="gross", kind="float", low=0.0, help="limit of Σ|x|"),
        Parameter(name="net", kind="float", low=0.0, help="limit of |Σx|"),
        Parameter(name="symbol", kind="float", low=0.0, help="limit of |Σx| over the positions of each symbol"),
        Parameter(name="venue", kind="float", low=0.0, help="limit of Σ|x| over the positions at each venue"),
        Parameter(name="leverage", kind="float", low=0.0, help="limit of Σ|x|/equity"),
        Parameter(name="symbols", kind="floats", help="each column's symbol, numbered from 0; each one's own if left out"),
        Parameter(name="venues", kind="floats", help="each column's venue, numbered from 0; all of one if left out"),
    ),
    unread_by=lambda values: () if values["leverage"] is not None else ("equity",),
    widths_by=lambda values: {"POSITIONS": values["positions"]}, step=exposure_limits_step, start=_exposure_start, first="1",
    cost="O(p)", oracle="naive",
    differs="POSITIONS: signed notionals in one currency. Legs in one symbol at several venues offset each other in it, but not"
    " at a venue, which may keep what lies there. Equity at or below 0 has no leverage: such a row has no scale, and is a"
    " reason to stop, not to go on.",
)  # fmt: skip

KERNELS = (EWCOV_MATRIX, LEDOIT_WOLF_SHRINKAGE, RISK_PARITY_WEIGHTS, EXPOSURE_LIMITS)
