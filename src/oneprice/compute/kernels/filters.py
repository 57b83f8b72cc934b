"""Filters that follow a level, a trend, or the time since the last break."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Floats, Ints, Kernel, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import exp, log, log1p
from oneprice.compute.kernels.rows import finite, plain
from oneprice.compute.kernels.special import lgamma
from oneprice.compute.kernels.windows import no_output, nothing_left

# -- kalman_1d ----------------------------------------------------------------------------------------------------------


@inlined
def kalman_1d_step(f, i, p, t, x, y):
    """f: level, P."""
    value, q, r = x[0], p[0], p[1]
    no_output(y)
    if not math.isfinite(value):
        return False
    if i[0] == 0:
        i[0] = 1
        f[0], f[1] = value, r
    else:
        before = f[1] + q
        surprise, variance = value - f[0], before + r
        y[2], y[3] = finite(surprise), finite(variance)
        gain = before / variance
        f[0] += gain * surprise
        f[1] = (1.0 - gain) * before
    y[0], y[1] = finite(f[0]), f[1]
    return False


KALMAN_1D = Kernel(
    name="kalman_1d", module=__name__, formula="P⁻ = P + q, S = P⁻ + r, K = P⁻/S, level += K(x − level), P = (1 − K)P⁻",
    inputs=("x",), outputs=(Output("level"), Output("P"), Output("innovation"), Output("S")),
    parameters=(
        Parameter(name="q", kind="float", default=1e-3, low=0.0, help="variance of the level's steps"),
        Parameter(name="r", kind="float", default=1e-1, above=0.0, help="variance of the noise around it"),
    ),
    registers=(2, 1), step=kalman_1d_step, start=lambda values: plain(2, 1, values["q"], values["r"]),
    first="1 (innovation and S 2)",
    oracle="statsmodels UnobservedComponents (local level); fixed point P⁻ = (q + √(q² + 4qr))/2", source="Kalman 1960",
    differs="It starts at the first value with P = r, not at 0 with a guessed P.",
)  # fmt: skip


# -- hp_filter ----------------------------------------------------------------------------------------------------------


@inlined
def hp_filter_step(f, i, p, t, x, w):
    """f: trend, its slope τ − τ₋₁, and their covariance: level, cross, slope; the gains of both. i: rows, up to 3; whether the
    covariance stands, as it does after some hundred rows: it hangs on no value. In these coordinates nothing is subtracted
    when it is carried forward, as it would be in those of (τ, τ₋₁). What is left: trend, value."""
    value, noise = x[0], p[0]
    nothing_left(w)
    if not math.isfinite(value):
        return False
    i[0] = min(i[0] + 1, 3)
    if i[0] == 1:
        f[0] = value
        return False
    if i[0] == 2:  # two values fix a line, as uncertain as they are
        f[1] = value - f[0]
        f[0] = value
        f[2], f[3], f[4] = noise, noise, 2.0 * noise
        return False
    if i[1] == 0:
        slope = f[4] + 1.0
        cross = f[3] + slope
        level = f[2] + f[3] + cross
        f[5], f[6] = level / (level + noise), cross / (level + noise)
        level, slope, cross = f[5] * noise, slope - cross * f[6], f[6] * noise
        i[1] = 1 if level == f[2] and cross == f[3] and slope == f[4] else 0
        f[2], f[3], f[4] = level, cross, slope
    ahead = f[0] + f[1]
    surprise = value - ahead
    f[0] = ahead + f[5] * surprise
    f[1] += f[6] * surprise
    w[0], w[1] = f[0], value
    return False


@inlined
def hp_filter_finish(p, w, y):
    y[0], y[1] = finite(w[0]), finite(w[1] - w[0])


HP_FILTER = Kernel(
    name="hp_filter", module=__name__,
    formula="one-sided: τ = 2τ₋₁ − τ₋₂ + η, x = τ + c, var c/var η = lambda, diffuse start; cycle = x − τ", inputs=("x",),
    outputs=(Output("trend"), Output("cycle")),
    parameters=(
        Parameter(name="lambda_", kind="float", default=1600.0, above=0.0, help="scales with (frequency ratio)⁴"),
    ),
    step=hp_filter_step, finish=hp_filter_finish, left=2, start=lambda values: plain(7, 2, values["lambda_"]),
    registers=(7, 2), version=2, first="3",
    oracle="the end point of statsmodels hpfilter on the rows so far",
    source="Hodrick & Prescott 1997; Stock & Watson 1999; λ by frequency: Ravn & Uhlig 2002",
    differs="The common, two-sided form reads the future: every row of it changes with the next one.",
)  # fmt: skip


# -- bocpd --------------------------------------------------------------------------------------------------------------
# f: four blocks of max_run + 1: probability of each run length, mean and β of what it saw, room for the predictive densities.
# p: hazard, recent, μ₀, κ₀, α₀, β₀, max_run, then one constant of the density a run length.

_TABLE = 7


@inlined
def bocpd_step(f, i, p, t, x, y):
    value, hazard, most = x[0], p[0], int(p[6])
    no_output(y)
    if not math.isfinite(value):
        return False
    means, betas, logs = most + 1, 2 * (most + 1), 3 * (most + 1)
    longest = i[0]
    highest = -math.inf
    for run in range(longest + 1):
        if f[run] > 0.0:
            kappa, distance = p[3] + run, value - f[means + run]
            scaled = distance * distance * (kappa / (kappa + 1.0))
            log_weight = (
                p[_TABLE + run]
                - 0.5 * log(f[betas + run])
                - (p[4] + 0.5 * run + 0.5) * log1p(scaled / (2.0 * f[betas + run]))
            )
            f[logs + run] = log_weight
            highest = max(highest, log_weight)
    if not math.isfinite(highest):
        return False  # so far away that its square is no number: no row to learn from
    total = 0.0
    for run in range(longest + 1):
        if f[run] > 0.0:
            f[run] *= exp(f[logs + run] - highest)
            total += f[run]
    overflow = f[most] if longest == most else 0.0
    for run in range(min(longest, most - 1), -1, -1):
        kappa, distance = p[3] + run, value - f[means + run]
        f[run + 1] = f[run] / total * (1.0 - hazard)
        f[means + run + 1] = f[means + run] + distance / (kappa + 1.0)
        f[betas + run + 1] = f[betas + run] + 0.5 * distance * distance * (kappa / (kappa + 1.0))
    f[most] += overflow / total * (1.0 - hazard)
    f[0] = hazard
    i[0] = min(longest + 1, most)
    y[0], y[2] = 0.0, 0.0
    best = 0
    for run in range(i[0] + 1):
        if run <= p[1]:
            y[0] += f[run]
        if f[run] > f[best]:
            best = run
        y[2] += run * f[run]
    y[0] = min(y[0], 1.0)
    y[1] = best
    return False


def _bocpd_start(values: Values) -> Start:
    most, kappa, alpha = values["max_run"], values["kappa0"], values["alpha0"]
    runs = np.arange(most + 1)
    table = [
        lgamma(alpha + 0.5 * run + 0.5) - lgamma(alpha + 0.5 * run)
        - 0.5 * log(2.0 * math.pi * (kappa + run + 1.0) / (kappa + run))
        for run in runs.tolist()
    ]  # fmt: skip
    f: Floats = np.zeros(4 * (most + 1))
    f[0], f[most + 1], f[2 * (most + 1)] = 1.0, values["mu0"], values["beta0"]
    i: Ints = np.zeros(1, dtype=np.int64)
    names = ("hazard", "recent", "mu0", "kappa0", "alpha0", "beta0", "max_run")
    return Start(f, i, np.array([*(values[name] for name in names), *table], dtype=np.float64))


BOCPD = Kernel(
    name="bocpd", module=__name__, aliases=("bayes_changepoint",),
    formula="P(r) by growth P(r)π(1−H) and change ΣP(r)πH; π = t_{2α}(μ, β(κ+1)/(ακ)) of a normal-inverse-gamma prior",
    inputs=("x",), outputs=(Output("p_recent"), Output("map_run"), Output("mean_run")),
    parameters=(
        Parameter(name="hazard", kind="float", default=1.0 / 250.0, above=0.0, below=1.0, help="of a change at any row"),
        Parameter(name="mu0", kind="float", default=0.0), Parameter(name="kappa0", kind="float", default=1.0, above=0.0),
        Parameter(name="alpha0", kind="float", default=1.0, above=0.0),
        Parameter(name="beta0", kind="float", default=1.0, above=0.0),
        Parameter(name="recent", kind="int", default=5, low=0, help="p_recent = P(run ≤ recent)"),
        Parameter(name="max_run", kind="int", default=1000, low=1, high=100_000),
    ),
    step=bocpd_step, start=_bocpd_start, first="1", cost="O(R)", oracle="naive recursion with SciPy's Student t",
    source="Adams & MacKay 2007",
    differs="With a constant hazard P(run = 0) = hazard at every row and tells nothing: p_recent does. Runs longer than "
    "max_run count  as runs of max_run, whose weight they keep; scale x to the prior (variance about 1) first.",
)  # fmt: skip

KERNELS = (KALMAN_1D, HP_FILTER, BOCPD)
