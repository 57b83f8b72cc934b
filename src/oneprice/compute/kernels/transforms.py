"""Transforms that tame tails and skewness: limits from quantiles, powers."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import ArrayLike

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import expm1, log, log1p
from oneprice.compute.kernels.order_statistics import (
    SortedGrowing,
    ascending,
    quantile_of,
    sorted_makes_room,
    sorted_row,
    sorted_window,
)
from oneprice.compute.kernels.windows import (
    COUNT,
    is_ready,
    window_parameter,
)

# -- winsorize --------------------------------------------------------------------------------------------------------
# p: lo, hi, whether the limits are fixed, the lower and the upper one


@inlined
def winsorize_step(f, i, p, t, x, y):
    value = x[0]
    y[0] = math.nan
    if not math.isfinite(value):
        return False
    if p[2] == 1.0:
        y[0] = min(max(value, p[3]), p[4])
        return False
    if sorted_makes_room(f, i, t):
        return True
    if is_ready(i):
        held, n = ascending(f, i), i[COUNT]
        y[0] = min(max(value, quantile_of(held, n, p[0])), quantile_of(held, n, p[1]))
    return sorted_row(f, i, t, value)


def _winsorize_start(values: Values) -> Start:
    low, high, lower, upper = values["lo"], values["hi"], values["lower"], values["upper"]
    if low >= high:
        raise KernelError(f"winsorize: lo={low} and hi={high}: lo must be below hi")
    if (lower is None) != (upper is None):
        raise KernelError("winsorize: lower and upper are fixed limits: give both, or none")
    if lower is None:
        return sorted_window(values, parameters=[low, high, 0.0, 0.0, 0.0])
    if lower > upper:
        raise KernelError(f"winsorize: lower={lower} and upper={upper}: lower must not be above upper")
    parameters = np.array([low, high, 1.0, lower, upper])
    return sorted_window(values)._replace(p=parameters, by_time=False)


WINSORIZE = Kernel(
    name="winsorize", module=__name__,
    formula="min(max(x, Q(lo)), Q(hi)), Q the type-7 quantiles of the w values before x; or fixed limits lower, upper",
    inputs=("x",), outputs=(Output("y"),),
    parameters=(
        Parameter(name="lo", kind="float", default=0.01, low=0.0, high=1.0, help="probability of the lower limit"),
        Parameter(name="hi", kind="float", default=0.99, low=0.0, high=1.0, help="probability of the upper limit"),
        *window_parameter(250),
        Parameter(name="lower", kind="float", help="fixed lower limit, in units of x; with it no window is kept"),
        Parameter(name="upper", kind="float", help="fixed upper limit, in units of x"),
    ),
    step=winsorize_step, start=_winsorize_start, grow=SortedGrowing(), version=2, first="w+1 (fixed limits 1)",
    cost="O(w), many values at a time", oracle="pandas rolling.quantile; SciPy mstats.winsorize (fixed limits)",
    source="Hastings et al. 1947",
    differs="The limits come from the window before the row: with the row inside, an outlier moves its own limit. The window"
    " takes the values as they came, not the limited ones.",
)  # fmt: skip

# -- powers -----------------------------------------------------------------------------------------------------------


@inlined
def power_of(log_x, lam):
    """(e^(λ·ln x) − 1)/λ, its limit at λ = 0; NaN beyond the floats."""
    if abs(lam) < 1e-19:
        return log_x
    found = expm1(lam * log_x) / lam
    return found if math.isfinite(found) else math.nan


@inlined
def boxcox_step(f, i, p, t, x, y):
    is_usable = math.isfinite(x[0]) and x[0] > 0.0
    y[0] = power_of(log(x[0]), p[0]) if is_usable else math.nan
    return False


@inlined
def yeo_johnson_step(f, i, p, t, x, y):
    value = x[0]
    found = math.copysign(power_of(log1p(abs(value)), p[0] if value >= 0.0 else 2.0 - p[0]), value)
    y[0] = found if math.isfinite(value) else math.nan
    return False


def _power(name: str, formula: str, step: Any, source: str, differs: str) -> Kernel:
    def start(values: Values) -> Start:
        if values["lambda_"] is None:
            raise KernelError(f"{name}: lambda_ is missing: say λ, or fit it with transforms.fitted_lambda")
        return Start(np.zeros(0), np.zeros(0, dtype=np.int64), np.array([values["lambda_"]]))

    return Kernel(
        name=name, module=__name__, formula=formula, inputs=("x",), outputs=(Output("y"),),
        parameters=(
            Parameter(name="lambda_", kind="float", low=-10.0, high=10.0, help="needed: λ, or what fitted_lambda finds"),
        ),
        step=step, start=start, first="1", oracle=f"SciPy stats.{name.replace('yeo_johnson', 'yeojohnson')}", source=source,
        differs=differs,
    )  # fmt: skip


BOXCOX = _power(
    "boxcox", "(x^λ − 1)/λ, ln x at λ = 0; x > 0", boxcox_step, "Box & Cox 1964",
    "λ is fitted beforehand and then stands: fitted on the same rows that it transforms, it reads the future.",
)  # fmt: skip
YEO_JOHNSON = _power(
    "yeo_johnson",
    "x ≥ 0: ((x+1)^λ − 1)/λ, ln(x+1) at λ = 0; x < 0: −((1−x)^(2−λ) − 1)/(2−λ), −ln(1−x) at λ = 2",
    yeo_johnson_step, "Yeo & Johnson 2000", "As boxcox: λ is fitted beforehand, never on the rows that it transforms.",
)  # fmt: skip

_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0


@njit(cache=True)
def _logs_of(values, is_boxcox):
    """ln x over the geometric mean (boxcox), or ln(1 + |x|) (yeo_johnson)."""
    logs = np.empty_like(values)
    mean = 0.0
    for k in range(values.size):
        logs[k] = log(values[k]) if is_boxcox else log1p(abs(values[k]))
        mean += (logs[k] - mean) / (k + 1)
    if is_boxcox:
        logs -= mean
    return logs


@njit(cache=True)
def _misfit(logs, negative, weight, lam):
    """(n/2)·ln σ̂² − (λ−1)·weight; inf where a value has no power."""
    moved = np.empty_like(logs)
    mean = 0.0
    for k in range(logs.size):
        moved[k] = -power_of(logs[k], 2.0 - lam) if negative[k] else power_of(logs[k], lam)
        mean += (moved[k] - mean) / (k + 1)
    spread = 0.0
    for value in moved:
        spread += (value - mean) * (value - mean)
    spread /= logs.size
    return 0.5 * logs.size * log(spread) - (lam - 1.0) * weight if 0.0 < spread < math.inf else math.inf


def fitted_lambda(kernel: str, x: ArrayLike, *, low: float = -5.0, high: float = 5.0) -> float:
    """The λ of `boxcox` or `yeo_johnson` with the highest likelihood, −(n/2) ln σ̂² + (λ−1) Σ ln x (boxcox), in [low, high].

    Values that cannot be used are left out. KernelError where fewer than two differ.
    """
    if kernel not in ("boxcox", "yeo_johnson"):
        raise KernelError(f"fitted_lambda: kernel={kernel!r}: it must be boxcox or yeo_johnson")
    is_boxcox = kernel == "boxcox"
    values = np.asarray(x, dtype=np.float64)
    values = values[np.isfinite(values)]
    if is_boxcox:
        values = values[values > 0.0]
    if len(values) < 2 or values.min() == values.max():
        raise KernelError(f"fitted_lambda: x has no two values that differ, which {kernel} can use")
    logs, negative = _logs_of(values, is_boxcox), values < 0.0
    weight = 0.0 if is_boxcox else math.fsum(np.where(negative, -logs, logs).tolist())

    def misfit(lam: float) -> float:
        return float(_misfit(logs, negative, weight, lam))

    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = misfit(left), misfit(right)
    while high - low > 1e-9:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = misfit(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = misfit(right)
    return 0.5 * (low + high)


KERNELS = (WINSORIZE, BOXCOX, YEO_JOHNSON)
