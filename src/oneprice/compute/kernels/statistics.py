"""Online statistics of a series: returns, moments, averages that forget, fractional differences. Those of a window are in
`statistics_windows.py`."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import LN2, expm1, log
from oneprice.compute.kernels.rows import finite, plain, ratio
from oneprice.compute.kernels.windows import MOMENTS, mean_of, moments_add, no_output

# -- log_returns ------------------------------------------------------------------------------------------------------


@inlined
def log_price(p, x, z):
    """NaN of what is no price."""
    z[0] = finite(log(x[0]))


@inlined
def log_returns_step(f, i, p, t, x, y):
    """f: ln of the last price (NaN: none yet)."""
    y[0] = x[0] - f[0]
    if not math.isnan(x[0]):
        f[0] = x[0]
    return False


@inlined
def log_returns_rows(f, i, p, ring, x, y, apart):
    """Where every row has a price, the last one is that of the row before."""
    rows, missing = x.shape[0], 0
    for k in range(rows):
        missing += math.isnan(x[k])
    if missing > 0:
        return False
    y[0] = x[0] - f[0]
    for k in range(1, rows):
        y[k] = x[k] - x[k - 1]
    f[0] = x[rows - 1]
    return True


def _log_returns_start(values: Values) -> Start:
    return Start(np.array([math.nan]), np.zeros(0, dtype=np.int64), np.zeros(0))


LOG_RETURNS = Kernel(
    name="log_returns", module=__name__, formula="r = ln(p / p₋₁), p₋₁ the last valid price", inputs=("p",),
    outputs=(Output("r"),), prepare=log_price, prepared=1, step=log_returns_step, together=log_returns_rows,
    start=_log_returns_start, registers=(1, 0), version=2, first="2", oracle="np.diff(np.log)",
    differs="A bad price gives no return, and the last good one is kept across batches: 0 would invent a return.",
)  # fmt: skip


# -- welford_mean_var -------------------------------------------------------------------------------------------------


@inlined
def welford_mean_var_step(f, i, p, t, x, y):
    value = x[0]
    if not math.isfinite(value):
        no_output(y)
        return False
    i[0] += 1
    moments_add(f, 0, i[0], value)
    y[0] = i[0]
    y[1] = finite(mean_of(f, 0))
    y[2] = finite(f[1] / (i[0] - p[0])) if i[0] > p[0] else math.nan
    y[3] = math.sqrt(y[2])
    return False


def _merge_welford(first: Start, later: Start) -> Start:
    n1, n2 = int(first.i[0]), int(later.i[0])
    if n1 == 0:
        return later
    f, i = first.f.copy(), first.i.copy()
    if n2:
        delta = later.f[0] + (later.f[2] - first.f[2]) - first.f[0]
        f[0] += delta * n2 / (n1 + n2)
        f[1] += later.f[1] + delta * delta * n1 * n2 / (n1 + n2)
        i[0] = n1 + n2
    return Start(f, i, first.p)


WELFORD_MEAN_VAR = Kernel(
    name="welford_mean_var", module=__name__,
    formula="δ = x − μ; n += 1; μ += δ/n; M += δ(x − μ); var = M/(n − ddof)", inputs=("x",),
    outputs=(Output("count"), Output("mean"), Output("var"), Output("std")),
    parameters=(Parameter(name="ddof", kind="int", default=1, low=0, high=1),), step=welford_mean_var_step,
    start=lambda values: plain(MOMENTS, 1, values["ddof"]), registers=(MOMENTS, 1), first="1 (var 2)",
    oracle="NumPy, pandas expanding",
    source="Welford 1962; merge: Chan, Golub & LeVeque 1983", merge=_merge_welford,
)  # fmt: skip


# -- averages that forget ---------------------------------------------------------------------------------------------

_WAYS = ("alpha", "halflife", "span", "com", "tau_s")
_FORGETTING = (
    Parameter(name="alpha", kind="float", above=0.0, high=1.0, help="weight of the newest value"),
    Parameter(name="halflife", kind="float", above=0.0, help="observations; 20 where no other way is given"),
    Parameter(name="span", kind="float", low=1.0, help="observations"),
    Parameter(name="com", kind="float", low=0.0, help="center of mass, observations"),
    Parameter(name="tau_s", kind="float", above=0.0, help="seconds: weights by time, α = 1 − e^(−Δt/τ)"),
    Parameter(name="adjust", kind="bool", default=False, help="divide by the sum of the weights so far"),
)


def _forgetting(values: Values, floats: int) -> Start:
    """State of an average that forgets; parameters: α (or 0), τ in ns (or 0), adjust."""
    given = [name for name in _WAYS if values[name] is not None]
    if len(given) > 1:
        raise KernelError(f"{' and '.join(given)} say the same thing: give one of {', '.join(_WAYS)}")
    way = given[0] if given else "halflife"
    value = values[way] if given else 20.0
    alpha = {
        "alpha": lambda: value, "halflife": lambda: -expm1(-LN2 / value), "span": lambda: 2.0 / (value + 1.0),
        "com": lambda: 1.0 / (1.0 + value), "tau_s": lambda: 0.0,
    }[way]()  # fmt: skip
    tau_ns = value * 1e9 if way == "tau_s" else 0.0
    return plain(floats, 2, alpha, tau_ns, float(values["adjust"]))._replace(by_time=way == "tau_s")


@inlined
def weight_now(i, p, t):
    """The newest value's weight; i[1] is the time of the value before."""
    weight = p[0] if p[1] == 0.0 else -expm1(-(t - i[1]) / p[1])
    i[1] = t
    return weight


@inlined
def ewma_step(f, i, p, t, x, y):
    value = x[0]
    if not math.isfinite(value):
        y[0] = math.nan
        return False
    alpha = weight_now(i, p, t)
    if i[0] == 0:
        f[0] = value
        f[1] = 1.0
    elif p[2] == 0.0:
        f[0] += alpha * (value - f[0])
    else:
        f[1] = (1.0 - alpha) * f[1] + 1.0
        f[0] += (value - f[0]) / f[1]
    i[0] = 1
    y[0] = finite(f[0])
    return False


EWMA = Kernel(
    name="ewma", module=__name__,
    formula="μ += α(x − μ), μ₁ = x₁; adjust: weighted mean with weights (1−α)^k; tau_s: α = 1 − e^(−Δt/τ)",
    inputs=("x",), outputs=(Output("mean"),), parameters=_FORGETTING, step=ewma_step,
    start=lambda values: _forgetting(values, 2), registers=(2, 2), first="1",
    oracle="pandas ewm(ignore_na=True)", source="Roberts 1959",
    differs="RiskMetrics' 0.94 is the weight of the old value: α = 0.06.",
)  # fmt: skip


@inlined
def covariance_add(f, at, alpha, dx, dy):
    """c = (1 − α)(c + α·dx·dy), with both differences from the means before."""
    f[at] = (1.0 - alpha) * (f[at] + alpha * dx * dy)


@inlined
def ewcov_step(f, i, p, t, x, y):
    dx, dy = x[0] - f[0], x[1] - f[1]
    no_output(y)
    if not math.isfinite(dx * dy):  # or no covariance would be, ever after
        return False
    alpha = weight_now(i, p, t)
    if i[0] == 0:
        f[0], f[1], f[2], f[3] = x[0], x[1], 0.0, 1.0
        i[0] = 1
        return False
    f[0] += alpha * dx
    f[1] += alpha * dy
    covariance_add(f, 2, alpha, dx, dy)
    f[3] = (1.0 - alpha) * (1.0 - alpha) * f[3] + alpha * alpha
    y[0] = f[2]
    y[1] = ratio(f[2], 1.0 - f[3])
    return False


EWCOV = Kernel(
    name="ewcov", module=__name__,
    formula="dx = x − μx, dy = y − μy; μ += α·d; c = (1−α)(c + α·dx·dy); unbiased c/(1−S), S = (1−α)²S + α²",
    inputs=("x", "y"), outputs=(Output("cov"), Output("cov_unbiased")), parameters=_FORGETTING[:-1],
    step=ewcov_step, start=lambda values: _forgetting(values | {"adjust": False}, 4), registers=(4, 2), first="2",
    oracle="pandas ewm.cov", source="Finch 2009",
    differs="Both means are those before the update, and the outer (1−α) is there.",
)  # fmt: skip


@inlined
def ewcorr_step(f, i, p, t, x, y):
    dx, dy = x[0] - f[0], x[1] - f[1]
    y[0] = math.nan
    if not math.isfinite(dx * dx + dy * dy):
        return False
    alpha = weight_now(i, p, t)
    if i[0] == 0:
        f[0], f[1] = x[0], x[1]
        i[0] = 1
        return False
    f[0] += alpha * dx
    f[1] += alpha * dy
    covariance_add(f, 2, alpha, dx, dy)
    covariance_add(f, 3, alpha, dx, dx)
    covariance_add(f, 4, alpha, dy, dy)
    if f[3] > 0.0 and f[4] > 0.0:
        y[0] = min(1.0, max(-1.0, f[2] / math.sqrt(f[3] * f[4])))
    return False


EWCORR = Kernel(
    name="ewcorr", module=__name__, formula="cxy/√(cxx·cyy)", inputs=("x", "y"), outputs=(Output("corr"),),
    parameters=_FORGETTING[:-1], step=ewcorr_step, start=lambda values: _forgetting(values | {"adjust": False}, 5),
    registers=(5, 2), first="2", oracle="pandas ewm.corr", source="Finch 2009",
)  # fmt: skip


# -- frac_diff --------------------------------------------------------------------------------------------------------


@inlined
def frac_diff_step(f, i, p, t, x, y):
    """i: head, count; f: the last K values; p: the weights."""
    y[0] = math.nan
    if not math.isfinite(x[0]):
        return False
    k = p.shape[0]
    i[0] = i[0] + 1 if i[0] + 1 < k else 0
    f[i[0]] = x[0]
    i[1] = min(i[1] + 1, k)
    if i[1] == k:
        total, slot = 0.0, i[0]
        for j in range(k):
            total += p[j] * f[slot]
            slot = slot - 1 if slot > 0 else k - 1
        y[0] = finite(total)
    return False


def _frac_diff_start(values: Values) -> Start:
    weights = [1.0]
    while len(weights) < values["max_lags"]:
        weight = -weights[-1] * (values["d"] - len(weights) + 1) / len(weights)
        if abs(weight) < values["tau"]:
            break
        weights.append(weight)
    return Start(np.zeros(len(weights)), np.zeros(2, dtype=np.int64), np.array(weights))


FRAC_DIFF = Kernel(
    name="frac_diff", module=__name__,
    formula="y = Σ_{j<K} ω_j x₋ⱼ, ω₀ = 1, ω_j = −ω_{j−1}(d−j+1)/j, K the first j with |ω_j| < tau", inputs=("x",),
    outputs=(Output("y"),),
    parameters=(
        Parameter(name="d", kind="float", default=0.4, low=0.0, high=2.0),
        Parameter(name="tau", kind="float", default=1e-4, above=0.0, below=1.0),
        Parameter(name="max_lags", kind="int", default=1000, low=1),
    ),
    step=frac_diff_step, start=_frac_diff_start, first="K", cost="O(K)", oracle="naive convolution; d = 0, 1 exact",
    source="Hosking 1981; López de Prado 2018 ch. 5 (fixed width)",
)  # fmt: skip

KERNELS = (LOG_RETURNS, WELFORD_MEAN_VAR, EWMA, EWCOV, EWCORR, FRAC_DIFF)
