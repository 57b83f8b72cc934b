"""Cointegration over a rolling window: Engle and Granger's test of two series, Johansen's of several. Each row is a new test
of the whole window; nothing is carried over but the window itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from oneprice.compute.cointegrating_rank import fewest_rows, johansen
from oneprice.compute.cointegration import engle_granger
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
from oneprice.compute.kernels.inlining import outlined
from oneprice.compute.kernels.numbers import log1p
from oneprice.compute.kernels.rows import all_finite, finite
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
from oneprice.compute.mackinnon import TRENDS
from oneprice.compute.regression import detrended
from oneprice.compute.unit_root import CRITERIA, FIXED, TESTED, room_for


@outlined
def window_row(f, i, t, x):
    """A row into a window that keeps nothing else; → whether there was no room."""
    drop_due(i, t)
    if is_full(i):
        return True
    width = x.shape[0]
    slot = width * push(i, t)
    for k in range(width):
        f[slot + k] = x[k]
    return False


@outlined
def window_series(f, i, width):
    """The window's series, one a row, oldest value first."""
    series = np.empty((width, i[COUNT]))
    for r in range(i[COUNT]):
        slot = width * slot_at(i, r)
        for k in range(width):
            series[k, r] = f[slot + k]
    return series


def _grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    return Growing(0, len(f) // int(i[CAPACITY]))(f, i)


def _fitting(kernel: str, values: Values, fewest: int, columns: int, parameters: list[float]) -> Start:
    """The empty window. KernelError when it is shorter than the test needs."""
    w = values["w"]
    if not isinstance(w, Span) and w < fewest:
        raise KernelError(f"{kernel}: w={w}: it must be at least {fewest}, which these parameters need")
    return windowed(values, own=0, columns=columns, fewest=fewest, parameters=parameters)


# -- engle_granger ----------------------------------------------------------------------------------------------------


@outlined
def engle_granger_step(f, i, p, t, x, y):
    """p: criterion, largest lag (-1: the usual), trend."""
    no_output(y)
    if not all_finite(x):
        return False
    if window_row(f, i, t, x):
        return True
    if not is_ready(i):
        return False
    criterion, most, trend, n = int(p[0]), int(p[1]), int(p[2]), i[COUNT]
    series, left = window_series(f, i, 2), np.empty((3, n))
    _, _, x_squares = detrended(series[0], trend, left[0])
    _, _, y_squares = detrended(series[1], trend, left[1])
    room = room_for(n, most, 0)
    beta, adf, p_value, lags, reason = engle_granger(
        left[1], left[0], y_squares, x_squares, criterion, most, trend, room, left[2]
    )
    y[0] = finite(beta)
    if reason == TESTED:
        y[1], y[2], y[3] = adf, p_value, lags
    return False


def _engle_granger_start(values: Values) -> Start:
    most = -1 if values["max_lag"] is None else int(values["max_lag"])
    parameters = [float(CRITERIA.index(values["lags"])), float(most), float(TRENDS.index(values["trend"]))]
    return _fitting("engle_granger", values, max(4, 2 * most + 3), 2, parameters)


ENGLE_GRANGER = Kernel(
    name="engle_granger", module=__name__,
    formula="y = α + βx + u by least squares (trend); ADF without constant on u: Δu = ρu₋ + ΣγⱼΔu₋ⱼ, adf = ρ̂/se(ρ̂); "
    "p by MacKinnon's surface for two series; lags of lowest AIC or BIC over 0…max_lag",
    inputs=("x", "y"), outputs=(Output("beta"), Output("adf"), Output("p"), Output("lags")),
    parameters=(
        *window_parameter(252, fewest=4),
        Parameter(name="lags", kind="choice", default="aic", choices=(CRITERIA[1], CRITERIA[2], CRITERIA[FIXED])),
        Parameter(
            name="max_lag", kind="int", low=0,
            help="the largest lag, or with lags=fixed the lag; left out: ⌈12(n/100)^¼⌉",
        ),
        Parameter(
            name="trend", kind="choice", default="c", choices=TRENDS,
            help="in the regression of y: nothing, a constant, a constant and a line",
        ),
    ),
    step=engle_granger_step, start=_engle_granger_start, grow=_grow, first="w", cost="O(w·lags + lags³)",
    source="Engle & Granger 1987; MacKinnon 1994, 2010", oracle="statsmodels coint",
    differs="The plain Dickey–Fuller table is far too liberal on a residual. Collinear series (R² > 1 − 1.5e-6), where "
    "statsmodels returns −inf and p = 0, and flat ones have a NaN test.",
)  # fmt: skip


# -- johansen ---------------------------------------------------------------------------------------------------------


@outlined
def johansen_step(f, i, p, t, x, y):
    """p: det, lagged differences. y: trace 1…k, maxeig 1…k, then the k vectors, the strongest relation first."""
    no_output(y)
    if not all_finite(x):
        return False
    if window_row(f, i, t, x):
        return True
    if not is_ready(i):
        return False
    k = x.shape[0]
    values, vectors = np.empty(k), np.empty((k, k))
    rows, is_there = johansen(window_series(f, i, k), int(p[0]), int(p[1]), values, vectors)
    if not is_there:
        return False
    trace = 0.0
    for j in range(k - 1, -1, -1):
        y[k + j] = -rows * log1p(-values[j])
        trace += y[k + j]
        y[j] = trace
        for s in range(k):
            y[2 * k + k * j + s] = vectors[j, s]
    return False


def _johansen_start(values: Values) -> Start:
    det, diff, k = values["det"], values["diff"], values["series"]
    return _fitting("johansen", values, int(fewest_rows(k, det, diff)), k, [float(det), float(diff)])


def _johansen_outputs(values: dict[str, Any]) -> tuple[Output, ...]:
    each = range(1, values["series"] + 1)
    return (
        *(Output(f"trace{j}", help=f"against at most {j - 1} relations") for j in each),
        *(Output(f"maxeig{j}", help=f"against {j - 1} relations, for {j}") for j in each),
        *(Output(f"vector{j}_{s}", help=f"of column {s} in relation {j}") for j in each for s in each),
    )


JOHANSEN = Kernel(
    name="johansen", module=__name__,
    formula="λ: squared canonical correlations of ΔX and X₋₁ after partialling diff lagged ΔX and the constant; "
    "maxeigⱼ = −T·ln(1−λⱼ), traceⱼ = Σ_{l≥j} maxeigₗ; vectors β with βᵀS₁₁β = 1",
    inputs=("SERIES",), outputs=_johansen_outputs({"series": 2}), outputs_by=_johansen_outputs,
    widths_by=lambda values: {"SERIES": values["series"]},
    parameters=(
        *window_parameter(252, fewest=6),
        Parameter(name="series", kind="int", default=2, low=2, high=12, help="columns of SERIES"),
        Parameter(
            name="det", kind="int", default=0, low=-1, high=1,
            help="-1: no constant; 0: a constant; 1: the levels are also taken off their lines",
        ),
        Parameter(name="diff", kind="int", default=1, low=0, help="lagged differences"),
    ),
    step=johansen_step, start=_johansen_start, grow=_grow, first="w", cost="O(w·(k·diff + 2k)²)", source="Johansen 1991",
    oracle="statsmodels coint_johansen; SciPy QR and SVD where it has lost its digits",
    differs="With diff=0 the level is that of the row before; statsmodels takes the row's own. A vector's first component is "
    "positive. Levels far from zero keep their digits (QR, no inverse of S₁₁).",
)  # fmt: skip


KERNELS = (ENGLE_GRANGER, JOHANSEN)
