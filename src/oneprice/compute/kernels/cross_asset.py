"""Two assets side by side, or the spread between them: a fixed hedge, a hedge that moves, how fast a spread comes back.

Prices stand in one row when they are known at one time: join them as of each other's receive times first, never by position.
Series that keep their own times are in `cross_asset_overlaps.py` and `cross_asset_lead.py`, those of how variance grows with
the horizon in `cross_asset_scaling.py`."""

from __future__ import annotations

import math

from oneprice.compute.kernels.definition import Kernel, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import LN2, log, log1p
from oneprice.compute.kernels.rows import finite, plain, ratio
from oneprice.compute.kernels.statistics_windows import PAIR, PAIR_LEFT, line_left, pair_leave, pair_row
from oneprice.compute.kernels.windows import (
    COUNT,
    MOMENTS,
    SEEN,
    Growing,
    is_ready,
    moments_row,
    no_output,
    nothing_left,
    window_parameter,
    windowed,
)

# -- pairs_spread -------------------------------------------------------------------------------------------------------


@inlined
def log_spread(p, x, z):
    """NaN of what are no prices."""
    z[0] = finite(log(x[0]) - p[0] - p[1] * log(x[1]))


@inlined
def pairs_spread_step(f, i, p, t, x, w):
    """What is left: the spread, the sum of squares around its mean, its way from there, n."""
    spread = x[0]
    nothing_left(w)
    if math.isnan(spread):
        return False
    if moments_row(f, i, t, spread):
        return True
    w[0], w[1], w[2], w[3] = spread, f[1], spread - f[2] - f[0], i[COUNT] if is_ready(i) else math.nan
    return False


@inlined
def pairs_spread_finish(p, w, y):
    y[0] = w[0]
    y[1] = ratio(w[2], math.sqrt(w[1] / (w[3] - 1.0)))


PAIRS_SPREAD = Kernel(
    name="pairs_spread", module=__name__, formula="spread = ln px − α − β·ln py; z = (spread − ⟨spread⟩)/std over w",
    inputs=("px", "py"), outputs=(Output("spread"), Output("z")),
    parameters=(
        Parameter(name="alpha", kind="float", default=0.0, help="of the line ln px on ln py; does not change z"),
        Parameter(name="beta", kind="float", default=1.0, high=1e6, low=-1e6, help="units of ln px for one of ln py"),
        *window_parameter(fewest=2),
    ),
    prepare=log_spread, prepared=1, step=pairs_spread_step, finish=pairs_spread_finish, left=4,
    start=lambda values: windowed(values, own=MOMENTS, fewest=2, parameters=[values["alpha"], values["beta"]]),
    grow=Growing(MOMENTS), first="1 (z w)", oracle="NumPy; pandas rolling", source="Gatev, Goetzmann & Rouwenhorst 2006",
    differs="Rows are joined by time before they come here, not by position. z is low when px is cheap: long px, short py. "
    "The newest spread is in its own mean.",
)  # fmt: skip

# -- kalman_hedge_ratio -------------------------------------------------------------------------------------------------
# f: α, β, the covariance P of both and its determinant; while the first rows are gathered: ⟨x⟩, ⟨y⟩, Σ(x−⟨x⟩)²,
#    Σ(x−⟨x⟩)(y−⟨y⟩)
# i: rows so far, whether the filter runs

_ALPHA, _BETA, _P00, _P01, _P11, _DET, _MEAN_X, _MEAN_Y, _SXX, _SXY = range(10)
_P0 = 1e6


@inlined
def kalman_gather(f, i, p, a, b):
    """A row for the least squares that starts the filter; → whether it started it."""
    n = i[0] + 1
    dx = a - f[_MEAN_X]
    squares = f[_SXX] + dx * dx * (i[0] / n)
    products = f[_SXY] + dx * (b - f[_MEAN_Y]) * (i[0] / n)
    if not math.isfinite(squares + abs(products)):
        return False
    i[0] = n
    f[_MEAN_X] += dx / n
    f[_MEAN_Y] += (b - f[_MEAN_Y]) / n
    f[_SXX], f[_SXY] = squares, products
    if n < p[2] or squares <= 0.0:
        return False
    mean = f[_MEAN_X]
    beta = products / squares
    alpha = f[_MEAN_Y] - beta * mean
    at_zero, crossed, of_slope = p[1] * (1.0 / n + mean / squares * mean), -p[1] * mean / squares, p[1] / squares
    if not math.isfinite(abs(alpha) + abs(beta) + at_zero + abs(crossed) + of_slope):
        return False
    f[_ALPHA], f[_BETA] = alpha, beta
    f[_P00], f[_P01], f[_P11], f[_DET] = at_zero, crossed, of_slope, p[1] / n * of_slope
    i[1] = 1
    return True


@inlined
def kalman_update(f, p, a, b, y):
    """One row through the filter: predict, correct. → whether it could be used.

    With h = (1, a), Joseph's form is (r·P⁻ + |P⁻|·(−a, 1)ᵀ(−a, 1))/S, and its determinant r·|P⁻|/S. Where the determinant is
    carried along, nothing that is not negative is the difference of two others, and a row waits for one division only."""
    q, r = p[0], p[1]
    p00, p01, p11 = f[_P00] + q, f[_P01], f[_P11] + q
    determinant = f[_DET] + q * (f[_P00] + p11)
    variance = ((r + q * (1.0 + a * a) + f[_P00]) + 2.0 * a * p01) + a * a * f[_P11]
    share = 1.0 / variance
    error = b - (f[_ALPHA] + f[_BETA] * a)
    alpha, beta = f[_ALPHA] + (p00 + p01 * a) * share * error, f[_BETA] + (p01 + p11 * a) * share * error
    crossed = determinant * a
    p00, p01, p11 = (r * p00 + crossed * a) * share, (r * p01 - crossed) * share, (r * p11 + determinant) * share
    determinant = r * determinant * share
    score = error / math.sqrt(variance)
    if not math.isfinite(abs(alpha) + abs(beta) + p00 + abs(p01) + p11 + determinant + abs(score)):
        return False
    f[_ALPHA], f[_BETA] = alpha, beta
    f[_P00], f[_P01], f[_P11], f[_DET] = p00, p01, p11, determinant
    y[0], y[1], y[2], y[3] = alpha, beta, error, score
    return True


@inlined
def kalman_hedge_ratio_step(f, i, p, t, x, y):
    a, b = x[0], x[1]
    no_output(y)
    if not (math.isfinite(a) and math.isfinite(b)):
        return False
    if i[1] == 0:
        if kalman_gather(f, i, p, a, b):
            y[0], y[1] = f[_ALPHA], f[_BETA]
    elif kalman_update(f, p, a, b, y):
        i[0] += 1
        if i[0] == 1:
            no_output(y)
    return False


def _kalman_start(values: Values) -> Start:
    start = plain(10, 2, values["q"], values["r"], values["start_rows"])
    if values["start_rows"] == 0:
        start.f[_P00] = start.f[_P11] = _P0
        start.f[_DET] = _P0 * _P0
        start.i[1] = 1
    return start


KALMAN_HEDGE_RATIO = Kernel(
    name="kalman_hedge_ratio", module=__name__,
    formula="P⁻ = P + qI; e = y − (α + βx); S = hᵀP⁻h + r, h = (1, x); K = P⁻h/S; (α, β) += Ke; "
    "P = (I − Khᵀ)P⁻(I − Khᵀ)ᵀ + rKKᵀ; z = e/√S",
    inputs=("x", "y"),
    outputs=(
        Output("alpha", help="after the row"), Output("beta", help="after the row"),
        Output("e", help="what the row was off from the line before it"), Output("z"),
    ),
    parameters=(
        Parameter(name="q", kind="float", default=1e-5, low=0.0, help="variance that α and β each gain a row"),
        Parameter(name="r", kind="float", default=1e-3, above=0.0, help="variance of y around the line"),
        Parameter(
            name="start_rows", kind="int", default=0, low=0, high=100_000,
            help="rows whose least squares start the filter, P = r·(HᵀH)⁻¹, e and z from the next on; 0: (0, 0), P = 10⁶·I",
        ),
    ),
    step=kalman_hedge_ratio_step, start=_kalman_start, registers=(10, 2), version=2, first="2",
    oracle="naive matrix filter; least squares where q = 0",
    source="Kalman 1960; Chan 2013",
    differs="The line is filtered, not the ratio y/x as if it were observed with constant noise. e and z belong to the line "
    "before the row, α and β to the one after it. q is per row, not per second.",
)  # fmt: skip

# -- ou_half_life -------------------------------------------------------------------------------------------------------
# f: the moments of pairs (s₋, Δs), s₋, the ring of pairs

_LAST, _CHANGES = PAIR, PAIR + 1
_FEWEST_CHANGES = 3


@inlined
def ou_half_life_step(f, i, p, t, x, w):
    value = x[0]
    nothing_left(w)
    if not math.isfinite(value):
        return False
    if i[SEEN] == 1 and pair_row(f, i, t, f[_LAST], value - f[_LAST], _CHANGES):
        return True
    i[SEEN] = 1
    f[_LAST] = value
    if is_ready(i):
        pair_leave(f, i, w)
    return False


@inlined
def ou_half_life_finish(p, w, y):
    n, dt = w[0], p[0]
    slope, intercept, _ = line_left(w)
    comes_back = -1.0 < slope < 0.0
    rate = -log1p(slope)
    noise = max(0.0, w[4] - slope * w[3]) / (n - 2.0)
    sigma = math.sqrt(noise * 2.0 * rate / (dt * -slope * (2.0 + slope)))
    y[0] = finite(rate / dt) if comes_back else math.nan
    y[1] = finite(-intercept / slope) if comes_back else math.nan
    y[2] = finite(sigma) if comes_back else math.nan
    y[3] = finite(LN2 / rate * dt) if comes_back else math.inf if slope >= 0.0 else math.nan


OU_HALF_LIFE = Kernel(
    name="ou_half_life", module=__name__,
    formula="least squares Δs = a + λs₋ over w changes; −1 < λ < 0: κ = −ln(1+λ)/dt, θ = −a/λ, half_life = ln 2/κ, "
    "σ² = σ_ε²·(−2 ln(1+λ))/(dt·(1−(1+λ)²)), σ_ε² = Σε²/(w−2); λ ≥ 0: half_life = ∞",
    inputs=("s",),
    outputs=(Output("kappa"), Output("theta"), Output("sigma"), Output("half_life", help="in the unit of dt")),
    parameters=(
        *window_parameter(200, fewest=_FEWEST_CHANGES),
        Parameter(name="dt", kind="float", default=1.0, above=0.0, help="from one row to the next, in any unit of time"),
    ),
    step=ou_half_life_step, finish=ou_half_life_finish, left=PAIR_LEFT,
    start=lambda values: windowed(
        values, own=_CHANGES, columns=2, fewest=_FEWEST_CHANGES, parameters=[values["dt"]]
    ),
    grow=Growing(_CHANGES, 2), first="w + 1", oracle="statsmodels OLS", source="Uhlenbeck & Ornstein 1930",
    differs="κ is −ln(1+λ), exact, not −λ. A window that does not come back (λ ≥ 0) has an infinite half-life and nothing "
    "else; one that overshoots (λ ≤ −1), or is flat, has none.",
)  # fmt: skip

KERNELS = (PAIRS_SPREAD, KALMAN_HEDGE_RATIO, OU_HALF_LIFE)
