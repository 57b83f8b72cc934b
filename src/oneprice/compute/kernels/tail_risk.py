"""What may be lost: value at risk and expected shortfall of a window of returns. Losses are positive, in the unit of r."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Span, Start, Values
from oneprice.compute.kernels.inlining import inlined, outlined
from oneprice.compute.kernels.numbers import expm1, log, log1p
from oneprice.compute.kernels.order_statistics import SortedGrowing, ascending, quantile_of, sorted_row, sorted_window
from oneprice.compute.kernels.rows import finite
from oneprice.compute.kernels.shapes import POWERS, POWERS_LEFT, central_moments, powers_step
from oneprice.compute.kernels.windows import COUNT, Growing, is_ready, no_output, window_parameter, windowed

_ALPHA = Parameter(name="alpha", kind="float", default=0.05, above=0.0, below=1.0, help="probability of a larger loss")

# -- historical_var, historical_cvar --------------------------------------------------------------------------------------


@inlined
def historical_var_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not math.isfinite(x[0]):
        return False
    if sorted_row(f, i, t, x[0]):
        return True
    if is_ready(i):
        y[0] = finite(0.0 - quantile_of(ascending(f, i), i[COUNT], p[0]))
    return False


@inlined
def historical_cvar_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not math.isfinite(x[0]):
        return False
    if sorted_row(f, i, t, x[0]):
        return True
    if is_ready(i):
        held, rows = ascending(f, i), p[0] * i[COUNT]
        whole = int(rows)
        total = (rows - whole) * held[whole]
        for k in range(whole):
            total += held[k]
        y[0] = finite(0.0 - total / rows)
    return False


def _historical(
    name: str, alias: str, output: str, formula: str, step: Any, cost: str, oracle: str, source: str, differs: str
) -> Kernel:
    return Kernel(
        name=name, module=__name__, aliases=(alias,), formula=formula, inputs=("r",), outputs=(Output(output),),
        parameters=(*window_parameter(250), _ALPHA), step=step,
        start=lambda values: sorted_window(values, parameters=[values["alpha"]]), version=2,
        grow=SortedGrowing(), first="w", cost=cost, oracle=oracle, source=source, differs=differs,
    )  # fmt: skip


HISTORICAL_VAR = _historical(
    "historical_var", "var_hist", "var", "−quantile_α(r), type 7", historical_var_step,
    "O(w), many values at a time", "np.quantile", "Hyndman & Fan 1996",
    "A loss is positive; between two order statistics, not the lower one.",
)  # fmt: skip
HISTORICAL_CVAR = _historical(
    "historical_cvar", "cvar_hist", "cvar", "−(1/(αw))·[Σ_{i≤⌊αw⌋} r_(i) + (αw − ⌊αw⌋)·r_(⌊αw⌋+1)]", historical_cvar_step,
    "O(w·α), O(w) moves", "naive sort", "Rockafellar & Uryasev 2002",
    "The worst αw returns, the last of them in part: a mean of those beyond the quantile jumps with w, and is no coherent"
    " measure.",
)  # fmt: skip

# -- cornish_fisher_var ---------------------------------------------------------------------------------------------------

_SIXTH = 1.0 / 6.0


@inlined
def cornish_fisher_var_finish(p, w, y):
    """p: the normal quantile, what skewness, kurtosis and skewness² add to it."""
    n, mean, m2, m3, m4 = central_moments(w)
    unit = 1.0 / math.sqrt(m2)
    square = unit * unit
    skew, kurt = m3 * square * unit, m4 * square * square - 3.0
    stretched = p[0] + p[1] * skew + p[2] * kurt - p[3] * skew * skew
    at_risk = 0.0 - (w[0] + mean + stretched * math.sqrt(m2 * n / (n - 1.0)))
    # z' rises everywhere where its slope in z, bend·z² + skew/3·z + level, has no root and is above 0
    squared = skew * skew
    bend, level = 0.125 * kurt - _SIXTH * squared, 1.0 - 0.125 * kurt + 5.0 / 6.0 * _SIXTH * squared
    is_rising = bend >= 0.0 and level > 0.0 and squared <= 36.0 * bend * level
    is_found = m2 > 0.0 and math.isfinite(at_risk)
    y[0] = at_risk if is_found else math.nan
    y[1] = (1.0 if is_rising else 0.0) if is_found else math.nan


def _cornish_fisher_start(values: Values) -> Start:
    z = NormalDist().inv_cdf(values["alpha"])
    parameters = [z, (z * z - 1.0) / 6.0, (z * z - 3.0) * z / 24.0, (2.0 * z * z - 5.0) * z / 36.0]
    return windowed(values, own=POWERS, fewest=2, parameters=parameters)


CORNISH_FISHER_VAR = Kernel(
    name="cornish_fisher_var", module=__name__, aliases=("var_cf",),
    formula="−(μ + z'σ), z' = z + (z²−1)S/6 + (z³−3z)K/24 − (2z³−5z)S²/36, z = Φ⁻¹(α), S skewness, K excess kurtosis",
    inputs=("r",),
    outputs=(Output("var"), Output("valid", "int8", help="1: z' rises with z, so that it is a quantile")),
    parameters=(*window_parameter(250, fewest=2), _ALPHA), step=powers_step,
    finish=cornish_fisher_var_finish, left=POWERS_LEFT,
    start=_cornish_fisher_start, grow=Growing(POWERS), first="w", oracle="SciPy skew, kurtosis",
    source="Cornish & Fisher 1938; Maillard 2012",
    differs="S and K are the sample's (biased, as SciPy's by default) and go into the expansion as they are: what it describes"
    " has others (Maillard); σ with ddof 1. valid looks at all z, as Maillard's domain, not at this one. A flat window has no"
    " shape.",
)  # fmt: skip

# -- evt_pot_var ----------------------------------------------------------------------------------------------------------
# f: var, es, xi, beta of the last fit, rows until the next one; then the sorted values and the ring
# p: tail, probability, rows from fit to fit

_DUE, _EVT = 4, 5
_FEWEST_EXCEEDANCES = 30


@outlined
def tail_slope(sorted_r, count, u, mean, theta):
    """(how log likelihood climbs with θ = ξ/β, times ξ; ξ at this θ), of exceedances in units of their mean.

    Each term keeps its own difference, which is all that is left near θ = 0.
    """
    logs, shares, gaps = 0.0, 0.0, 0.0
    for k in range(count):
        v = theta * ((-sorted_r[k] - u) / mean)
        log_v, share = log1p(v), v / (1.0 + v)
        logs += log_v
        shares += share
        gaps += log_v - share
    return (gaps - shares * logs / count) / count, logs / count


@outlined
def tail_fit(sorted_r, count, u):
    """(ξ, β) of a generalised Pareto distribution, of most likelihood for the `count` losses above u, ξ ≥ −1.

    Grimshaw's reduction to one unknown, θ = ξ/β. At θ = 0 (the exponential distribution) the likelihood climbs to the side
    that the exceedances' second moment tells; its top there is bracketed by doubling or halving, then closed in on.
    """
    mean, squares = 0.0, 0.0
    for k in range(count):
        mean += (-sorted_r[k] - u) / count
    for k in range(count):
        z = (-sorted_r[k] - u) / mean
        squares += z * z / count
    largest = (-sorted_r[0] - u) / mean
    low, at_low = 0.0, squares / 2.0 - 1.0  # slopes over θ², which have a limit at 0
    if at_low == 0.0:
        return 0.0, mean
    high, room = 1.0, 0.5
    while True:
        if at_low < 0.0:
            high = -(1.0 - room) / largest
        slope, xi = tail_slope(sorted_r, count, u, mean, high)
        at_high = slope / (high * high)
        if (at_low < 0.0 < at_high) or (at_high < 0.0 < at_low):
            break
        low, at_low = high, at_high
        if at_low < 0.0 and (xi <= -1.0 or room < 1e-15):
            return -1.0, largest * mean  # it climbs up to the bound
        if not (math.isfinite(at_high) and high < 1e30):
            return math.nan, math.nan
        high *= 2.0
        room *= 0.5
    theta, before, side = high, low, 0
    for _ in range(100):  # the rule of false position, Illinois' way
        theta = high - at_high * (high - low) / (at_high - at_low)
        if theta == 0.0:
            return 0.0, mean
        slope, xi = tail_slope(sorted_r, count, u, mean, theta)
        value = slope / (theta * theta)
        if abs(theta - before) <= 1e-13 * abs(theta) or value == 0.0:
            break
        before = theta
        if (value > 0.0) == (at_high > 0.0):
            high, at_high = theta, value
            at_low *= 0.5 if side == 1 else 1.0
            side = 1
        else:
            low, at_low = theta, value
            at_high *= 0.5 if side == -1 else 1.0
            side = -1
    if xi < 0.0 and -log(xi / theta) - 1.0 - xi < -log(largest):
        return -1.0, largest * mean  # the bound is likelier than the top
    return xi, xi / theta * mean


@outlined
def evt_pot_var_step(f, i, p, t, x, y):
    no_output(y)
    window = f[_EVT:]
    if not math.isfinite(x[0]):
        return False
    if sorted_row(window, i, t, x[0]):
        return True
    if not is_ready(i):
        f[_DUE] = 0.0
        return False
    if f[_DUE] == 0.0:
        f[_DUE] = p[2]
        n, count, sorted_r = i[COUNT], 0, ascending(window, i)
        u = 0.0 - quantile_of(sorted_r, n, p[0])
        while count < n and -sorted_r[count] > u:
            count += 1
        xi, beta = tail_fit(sorted_r, count, u) if count >= _FEWEST_EXCEEDANCES else (math.nan, math.nan)
        log_odds = log(n / max(count, 1) * (1.0 - p[1]))
        at_risk = u - beta * log_odds if xi == 0.0 else u + beta * expm1(-xi * log_odds) / xi
        f[0] = finite(at_risk)
        f[1] = finite((at_risk + beta - xi * u) / (1.0 - xi)) if xi < 1.0 else math.nan
        f[2], f[3] = finite(xi), finite(beta)
    f[_DUE] -= 1.0
    for k in range(4):
        y[k] = f[k]
    return False


def _evt_start(values: Values) -> Start:
    w, tail = values["w"], values["tail"]
    fewest = math.ceil(_FEWEST_EXCEEDANCES / tail)
    if not isinstance(w, Span) and w < fewest:
        raise KernelError(f"evt_pot_var: w={w!r}: it must be at least {fewest}, for 30 exceedances with tail={tail!r}")
    if values["p"] <= 1.0 - tail:
        raise KernelError(f"evt_pot_var: p={values['p']!r}: it must be above 1 − tail = {1.0 - tail:g}, in the tail")
    parameters = [tail, values["p"], float(values["refit"])]
    return sorted_window(values, own=_EVT, fewest=fewest, parameters=parameters)


EVT_POT_VAR = Kernel(
    name="evt_pot_var", module=__name__, aliases=("var_evt",),
    formula="losses over u = quantile(1 − tail): generalised Pareto (ξ, β) by maximum likelihood; VaR = u + β/ξ·[((w/N_u)"
    "(1−p))^(−ξ) − 1], ES = VaR/(1−ξ) + (β−ξu)/(1−ξ)",
    inputs=("r",),
    outputs=(Output("var"), Output("es", help="NaN where xi ≥ 1: no mean"), Output("xi"), Output("beta")),
    parameters=(
        *window_parameter(1000, fewest=_FEWEST_EXCEEDANCES),
        Parameter(name="tail", kind="float", default=0.1, above=0.0, below=1.0, help="share of the losses over u"),
        Parameter(name="p", kind="float", default=0.99, above=0.0, below=1.0, help="level of var and es; above 1 − tail"),
        Parameter(name="refit", kind="int", default=50, low=1, help="rows from fit to fit; what it gave holds in between"),
    ),
    step=evt_pot_var_step, start=_evt_start, grow=SortedGrowing(_EVT), version=2, first="w",
    cost="O(w) moves; O(k) a refit, k exceedances", oracle="SciPy genpareto", source="McNeil & Frey 2000; Grimshaw 1993",
    differs="Of returns as they come: McNeil & Frey's are a GARCH model's residuals. Likelihood has no maximum for ξ < −1,"
    " where the search ends; it begins at the exponential distribution. Fewer than 30 exceedances (many equal losses) give"
    " nothing until the next refit.",
)  # fmt: skip

KERNELS = (HISTORICAL_VAR, HISTORICAL_CVAR, CORNISH_FISHER_VAR, EVT_POT_VAR)
