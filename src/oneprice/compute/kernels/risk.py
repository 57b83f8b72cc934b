"""Risk of one series: whether its level has moved, how far equity is under its peak, how much to hold, what a factor explains.

Losses and portfolios have modules of their own, `tail_risk.py` and `portfolio.py`."""

from __future__ import annotations

import math

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
from oneprice.compute.kernels.rows import finite, is_positive, plain, stateless
from oneprice.compute.kernels.statistics_windows import PAIR, pair_line, pair_row
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    HEAD,
    MOMENTS,
    Growing,
    drop_due,
    is_full,
    is_ready,
    mean_of,
    moments_add,
    no_output,
    push,
    slot_at,
    window_parameter,
    windowed,
)

# -- cusum --------------------------------------------------------------------------------------------------------------
# f: the moments of the burn-in, μ₀, σ₀, S⁺, S⁻; i: rows of the burn-in so far; p: k, h, rows of the burn-in (0: none)

_MU, _SIGMA, _UP, _DOWN = range(MOMENTS, MOMENTS + 4)


@inlined
def cusum_step(f, i, p, t, x, y):
    value = x[0]
    no_output(y)
    if not math.isfinite(value):
        return False
    if i[0] < p[2]:
        i[0] += 1
        moments_add(f, 0, i[0], value)
        if i[0] == p[2]:
            f[_MU], f[_SIGMA] = mean_of(f, 0), math.sqrt(f[1] / (i[0] - 1))
        return False
    if not f[_SIGMA] > 0.0:
        return False
    z = (value - f[_MU]) / f[_SIGMA]
    f[_UP], f[_DOWN] = max(0.0, f[_UP] + z - p[0]), max(0.0, f[_DOWN] - z - p[0])
    y[0], y[1] = finite(f[_UP]), finite(f[_DOWN])
    y[2] = 1.0 if f[_UP] > p[1] else -1.0 if f[_DOWN] > p[1] else 0.0
    if y[2] != 0.0:
        f[_UP], f[_DOWN] = 0.0, 0.0
    return False


def _cusum_start(values: Values) -> Start:
    mu, sigma = values["mu0"], values["sigma0"]
    if (mu is None) != (sigma is None):
        name, other = ("sigma0", "mu0") if mu is None else ("mu0", "sigma0")
        raise KernelError(f"cusum: {name}={values[name]!r}: it must come with {other}, or neither of them")
    start = plain(MOMENTS + 4, 1, values["k"], values["h"], values["burn_in"] if mu is None else 0)
    if mu is not None:
        start.f[_MU], start.f[_SIGMA] = mu, sigma
    return start


CUSUM = Kernel(
    name="cusum", module=__name__,
    formula="z = (x − μ₀)/σ₀; S⁺ = max(0, S⁺ + z − k), S⁻ = max(0, S⁻ − z − k); alarm where one is > h, then both begin at 0",
    inputs=("x",),
    outputs=(
        Output("s_up"), Output("s_dn"), Output("alarm", "int8", help="1: the level has risen, -1: fallen, 0: neither"),
    ),
    parameters=(
        Parameter(name="k", kind="float", default=0.5, low=0.0, help="σ₀; half of the shift to be found"),
        Parameter(name="h", kind="float", default=5.0, above=0.0, help="σ₀"),
        Parameter(name="mu0", kind="float", help="reference level, with sigma0; there is no burn-in then"),
        Parameter(name="sigma0", kind="float", above=0.0, help="reference deviation, with mu0"),
        Parameter(name="burn_in", kind="int", default=100, low=2, help="observations that give the reference"),
    ),
    step=cusum_step, start=_cusum_start, first="burn_in + 1 (1 with mu0 and sigma0)", oracle="naive loop", source="Page 1954",
    differs="The reference is fixed before monitoring and never learns: one taken from the monitored data follows the shift."
    " Both sides; the row of an alarm tells the sums that raised it. A burn-in without spread gives no reference, so nothing"
    " after it. k = ½, h = 5: a false alarm every 465 rows.",
)  # fmt: skip

# -- drawdown_equity ----------------------------------------------------------------------------------------------------


@inlined
def drawdown_equity_step(f, i, p, t, x, y):
    """f: the peak, the deepest drawdown; i: whether there is a peak, rows since."""
    equity = x[0]
    no_output(y)
    if not math.isfinite(equity):
        return False
    if i[0] == 0 or equity >= f[0]:
        i[0], i[1], f[0] = 1, 0, equity
    else:
        i[1] += 1
    if f[0] > 0.0:
        drawdown = 1.0 - equity / f[0]
        f[1] = max(f[1], drawdown)
        y[0], y[1] = finite(drawdown), finite(f[1])
    y[2] = i[1]
    return False


DRAWDOWN_EQUITY = Kernel(
    name="drawdown_equity", module=__name__, formula="dd = 1 − E/peak, peak = max E so far", inputs=("equity",),
    outputs=(
        Output("dd", help="share of the peak, 0 at it"), Output("max_dd", help="the deepest so far"),
        Output("duration", help="rows since the peak was last reached"),
    ),
    step=drawdown_equity_step, start=lambda values: plain(2, 2), first="1", oracle="np.maximum.accumulate",
    differs="Equity below 0 is a drawdown above 1; without a peak above 0 there is none. Positive, not negative.",
)  # fmt: skip

# -- vol_target ---------------------------------------------------------------------------------------------------------


@inlined
def vol_target_step(f, i, p, t, x, y):
    """f: the volatility of the row before, the weight held, 0 where there is none; p: target, cap, band."""
    y[0] = math.nan
    if not is_positive(x[0]):
        return False
    if f[0] > 0.0:
        wanted = min(p[1], p[0] / f[0])
        if f[1] == 0.0 or abs(wanted - f[1]) > p[2] * f[1]:
            f[1] = wanted
        y[0] = f[1]
    f[0] = x[0]
    return False


VOL_TARGET = Kernel(
    name="vol_target", module=__name__,
    formula="min(cap, target/vol₋₁), taken over where it is more than band·weight from the weight held", inputs=("vol",),
    outputs=(Output("weight", help="of equity"),),
    parameters=(
        Parameter(name="target", kind="float", default=0.2, above=0.0, help="volatility, over the same time as vol"),
        Parameter(name="cap", kind="float", default=2.0, above=0.0, help="largest weight"),
        Parameter(name="band", kind="float", default=0.1, low=0.0, help="relative; smaller changes are not traded"),
    ),
    registers=(2, 0), step=vol_target_step,
    start=lambda values: plain(2, 0, values["target"], values["cap"], values["band"]), first="2",
    oracle="closed form", source="Moreira & Muir 2017",
    differs="The volatility of the row before: that of this row is known when its return is over. A volatility of 0 says that"
    " nothing was measured: a row that cannot be used, not the largest weight.",
)  # fmt: skip

# -- kelly_fraction -----------------------------------------------------------------------------------------------------


@inlined
def kelly_fraction_step(f, i, p, t, x, y):
    """p: whether binary, fraction, cap."""
    y[0] = math.nan
    if p[0] == 1.0:
        win, payoff = x[0], x[1]
        if not (0.0 <= win <= 1.0 and is_positive(payoff)):
            return False
        full = win - (1.0 - win) / payoff
    else:
        mean, variance, rate = x[2], x[3], x[4]
        if not (math.isfinite(mean) and is_positive(variance) and math.isfinite(rate)):
            return False
        full = (mean - rate) / variance
    y[0] = min(p[2], max(0.0, p[1] * full))
    return False


def _kelly_unread(values: Values) -> tuple[str, ...]:
    return ("mu", "variance", "rate") if values["method"] == "binary" else ("win_prob", "payoff")


KELLY_FRACTION = Kernel(
    name="kelly_fraction", module=__name__,
    formula="binary: p − (1−p)/b; continuous: (μ − r)/σ²; × fraction, within [0, cap]",
    inputs=("win_prob", "payoff", "mu", "variance", "rate"), outputs=(Output("f", help="of equity"),),
    parameters=(
        Parameter(
            name="method", kind="choice", default="binary", choices=("binary", "continuous"),
            help="binary reads win_prob and payoff (net, of a stake of 1); continuous mu, variance and rate, over one time",
        ),
        Parameter(name="fraction", kind="float", default=0.25, above=0.0, high=1.0, help="of Kelly's bet"),
        Parameter(name="cap", kind="float", default=1.0, above=0.0, help="largest bet"),
    ),
    unread_by=_kelly_unread, step=kelly_fraction_step,
    start=lambda values: stateless(float(values["method"] == "binary"), values["fraction"], values["cap"]), first="1",
    oracle="closed form", source="Kelly 1956; Thorp 2006",
    differs="A quarter of Kelly's bet by default: an edge is estimated, and twice the right bet earns nothing. Never short.",
)  # fmt: skip

# -- fx_beta ------------------------------------------------------------------------------------------------------------
# p: lags. Without lags, f is a window of pairs. With them it is room for the least squares of k = lags + 1 regressors (their
# products, their products with r, which become the betas, their means), then the ring of (factor, r).

_COLLINEAR = (
    1e-12  # share of a regressor's squares that the others do not explain: below it, there is nothing left of it
)


@outlined
def lagged_betas(f, i, lags, ring):
    """(Σβ, r²) of r on the factor and its lags, over the rows whose lags are in the window; NaN where they are collinear."""
    k, n = lags + 1, i[COUNT] - lags
    with_r, means = k * k, k * k + k
    for c in range(with_r + 2 * k):
        f[c] = 0.0
    oldest = ring + 2 * i[HEAD]  # means are taken from its values on: those of a flat window are exact
    mean_r = 0.0
    for row in range(lags, lags + n):
        mean_r += f[ring + 2 * slot_at(i, row) + 1] - f[oldest + 1]
        for a in range(k):
            f[means + a] += f[ring + 2 * slot_at(i, row - a)] - f[oldest]
    mean_r = f[oldest + 1] + mean_r / n
    for a in range(k):
        f[means + a] = f[oldest] + f[means + a] / n
    squares_r = 0.0
    for row in range(lags, lags + n):
        dr = f[ring + 2 * slot_at(i, row) + 1] - mean_r
        squares_r += dr * dr
        for a in range(k):
            da = f[ring + 2 * slot_at(i, row - a)] - f[means + a]
            f[with_r + a] += da * dr
            for b in range(a + 1):
                f[a * k + b] += da * (f[ring + 2 * slot_at(i, row - b)] - f[means + b])
    for a in range(k):  # Cholesky's factor in place, and the products with r solved by it
        whole = f[a * k + a]
        for b in range(a):
            for c in range(b):
                f[a * k + b] -= f[a * k + c] * f[b * k + c]
            f[a * k + b] /= f[b * k + b]
            f[a * k + a] -= f[a * k + b] * f[a * k + b]
            f[with_r + a] -= f[a * k + b] * f[with_r + b]
        if not f[a * k + a] > _COLLINEAR * whole:
            return math.nan, math.nan
        f[a * k + a] = math.sqrt(f[a * k + a])
        f[with_r + a] /= f[a * k + a]
    explained, beta = 0.0, 0.0
    for a in range(k):
        explained += f[with_r + a] * f[with_r + a]
    for a in range(k - 1, -1, -1):
        for b in range(a + 1, k):
            f[with_r + a] -= f[b * k + a] * f[with_r + b]
        f[with_r + a] /= f[a * k + a]
        beta += f[with_r + a]
    return beta, min(1.0, explained / squares_r) if squares_r > 0.0 else math.nan


@inlined
def fx_beta_step(f, i, p, t, x, y):
    r, factor = x[0], x[1]
    no_output(y)
    if not (math.isfinite(r) and math.isfinite(factor)):
        return False
    if p[0] == 0.0:
        if pair_row(f, i, t, factor, r):
            return True
        if is_ready(i):
            beta, _, r2 = pair_line(f)
            y[0], y[1] = finite(beta), finite(r2)
        return False
    ring = f.shape[0] - 2 * i[CAPACITY]
    drop_due(i, t)
    if is_full(i):
        return True
    slot = ring + 2 * push(i, t)
    f[slot], f[slot + 1] = factor, r
    if is_ready(i):
        beta, r2 = lagged_betas(f, i, int(p[0]), ring)
        y[0], y[1] = finite(beta), finite(r2)
    return False


def _fx_beta_start(values: Values) -> Start:
    w, least, lags = values["w"], values["min_obs"], values["lags"]
    fewest, k = lags + 2, lags + 1
    if not isinstance(w, Span) and w < fewest:
        raise KernelError(f"fx_beta: w={w!r}: it must be at least lags + 2 = {fewest}")
    longer = {
        "w": w if isinstance(w, Span) else w + lags,
        "min_obs": None if least is None else max(least, fewest) + lags,
    }
    own = PAIR if lags == 0 else k * k + 2 * k
    return windowed(longer, own=own, columns=2, fewest=fewest + lags, parameters=[float(lags)])


def _fx_beta_grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    return Growing(len(f) - 2 * int(i[CAPACITY]), 2)(f, i)


FX_BETA = Kernel(
    name="fx_beta", module=__name__,
    formula="r on the factor, with a constant: β = cov/var, r²; with lags, r on factor, factor₋₁, factor₋₂, …, and β the sum",
    inputs=("r", "factor"), outputs=(Output("beta"), Output("r2")),
    parameters=(
        *window_parameter(60, fewest=2),
        Parameter(name="lags", kind="int", default=0, low=0, high=20, help="of the factor, in rows that can be used"),
    ),
    step=fx_beta_step, start=_fx_beta_start, grow=_fx_beta_grow, first="w (+ lags)", cost="O(1); with lags O(w·lags²)",
    oracle="statsmodels OLS", source="Dimson 1979",
    differs="Lags only: Dimson's leads look ahead. The sum of betas of one regression, not of one regression a lag. A window of"
    " w has w rows with all their lags, so w + lags; of a duration, the rows whose lags are in it too. r² is that of all lags.",
)  # fmt: skip

KERNELS = (CUSUM, DRAWDOWN_EQUITY, VOL_TARGET, KELLY_FRACTION, FX_BETA)
