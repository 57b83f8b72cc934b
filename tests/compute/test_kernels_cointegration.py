"""Rolling cointegration against statsmodels, window by window, and against SciPy where statsmodels has lost its digits."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.linalg import qr, svd
from statsmodels.tools.sm_exceptions import CollinearityWarning
from statsmodels.tsa.stattools import adfuller, coint
from statsmodels.tsa.vector_ar.vecm import coint_johansen

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

Floats = np.ndarray[Any, np.dtype[np.float64]]
NAMES = ("beta", "adf", "p", "lags")


def pair(seed: int, n: int = 90) -> tuple[Floats, Floats]:
    """x, and a y that follows it with an error that comes back."""
    rng = np.random.default_rng(seed)
    x = 10.0 + np.cumsum(rng.normal(size=n))
    error = np.zeros(n)
    for k in range(1, n):
        error[k] = 0.7 * error[k - 1] + rng.normal()
    return x, 2.0 + 1.3 * x + error


@pytest.mark.parametrize("trend", ["n", "c", "ct"])
@pytest.mark.parametrize("lags", ["aic", "bic", "fixed"])
def test_engle_granger_is_coint_of_each_window(trend: str, lags: str) -> None:
    x, y = pair(1)
    found = compute("engle_granger", x=x, y=y, w=61, lags=lags, trend=trend, max_lag=None if lags == "aic" else 5)
    theirs = {"autolag": None if lags == "fixed" else lags, "maxlag": None if lags == "aic" else 5}
    for name in NAMES:
        assert np.isnan(found[name][:60]).all()
    for row in range(60, 90, 3):
        xs, ys = x[row - 60 : row + 1], y[row - 60 : row + 1]
        wanted = coint(ys, xs, trend=trend, **theirs)
        assert found["adf"][row] == pytest.approx(wanted.coint_t, abs=1e-8)
        assert found["p"][row] == pytest.approx(wanted.pvalue, abs=1e-8)
        design = np.column_stack([xs, np.ones(61), np.arange(61.0)][: 1 + len(trend.replace("n", ""))])
        coefficients = np.linalg.lstsq(design, ys, rcond=None)[0]
        assert found["beta"][row] == pytest.approx(coefficients[0], rel=1e-9)
        rest = ys - design @ coefficients
        assert found["lags"][row] == adfuller(rest, regression="n", result_object=False, **theirs)[2]


def test_collinear_and_flat_windows_have_no_test() -> None:
    x, y = pair(2)
    y[20:60] = 3.0 * x[20:60] - 1.0
    x[62:] = 5.0
    found = compute("engle_granger", x=x, y=y, w=20)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CollinearityWarning)
        assert coint(y[30:50], x[30:50]).coint_t == -math.inf
    assert found["beta"][39:60] == pytest.approx(3.0, rel=1e-12)
    assert np.isnan(found["adf"][39:60]).all()
    assert np.isnan(found["lags"][39:60]).all()
    assert np.isnan([found[name][81:] for name in NAMES]).all()
    assert np.isfinite(found["adf"][[19, 38, 61]]).all()


def test_engle_granger_over_a_duration_is_that_of_the_rows_in_it() -> None:
    x, y = pair(3, 200)
    t = np.cumsum(np.random.default_rng(3).integers(1, 2_000_000_000, 200))
    found = compute("engle_granger", t=t, x=x, y=y, w="80s", lags="bic", min_obs=25)
    for row in range(0, 200, 7):
        inside = np.flatnonzero((t > t[row] - 80_000_000_000) & (t <= t[row]))
        if len(inside) < 25:
            assert np.isnan(found["adf"][row])
        else:
            assert found["adf"][row] == pytest.approx(coint(y[inside], x[inside], autolag="bic").coint_t, abs=1e-8)


def test_recorded_bitcoin_in_dollars_and_in_stablecoins() -> None:
    """Closes of Kraken's BTC/USD and BTC/USDC while USDC lost its peg: one price, then two."""
    x, y = (
        pd.read_parquet(shared(f"data/market/usdc_depeg_2023-03/kraken_{name}.parquet"))["close"].astype(float)
        for name in ("btcusd", "btcusdc")
    )
    both = np.log(pd.concat([x, y], axis=1, join="inner").sort_index().to_numpy())[:1_500]
    ours = compute("engle_granger", x=both[:, 0], y=both[:, 1])
    relations = compute("johansen", SERIES=both)
    for row in range(251, 1_500, 113):
        window = both[row - 251 : row + 1]
        wanted = coint(window[:, 1], window[:, 0])
        assert ours["adf"][row] == pytest.approx(wanted.coint_t, abs=1e-8)
        assert ours["p"][row] == pytest.approx(wanted.pvalue, abs=1e-8)
        trace = coint_johansen(window, 0, 1).trace_stat
        assert [relations["trace1"][row], relations["trace2"][row]] == pytest.approx(trace, rel=1e-8, abs=1e-8)


def prices(seed: int, n: int, k: int) -> Floats:
    """k series on k − 1 walks: one relation."""
    rng = np.random.default_rng(seed)
    walks = np.cumsum(rng.normal(size=(n, k - 1)), axis=0)
    return np.column_stack([walks @ rng.normal(size=k - 1) + rng.normal(size=n), walks])


def numbered(found: dict[str, Any], name: str, k: int, row: int) -> Floats:
    return np.array([found[f"{name}{j}"][row] for j in range(1, k + 1)])


@pytest.mark.parametrize(("k", "det", "diff"), [(2, -1, 1), (2, 0, 1), (2, 1, 2), (3, 0, 3), (5, 0, 1), (5, 1, 1)])
def test_johansen_is_that_of_statsmodels_in_each_window(k: int, det: int, diff: int) -> None:
    x = prices(k, 130, k)
    found = compute("johansen", SERIES=x, w=100, series=k, det=det, diff=diff)
    assert list(found)[: 2 * k] == [f"trace{j}" for j in range(1, k + 1)] + [f"maxeig{j}" for j in range(1, k + 1)]
    assert all(np.isnan(column[:99]).all() for column in found.values())
    for row in range(99, 130, 6):
        wanted = coint_johansen(x[row - 99 : row + 1], det, diff)
        np.testing.assert_allclose(numbered(found, "trace", k, row), wanted.trace_stat, rtol=1e-8, atol=1e-8)
        np.testing.assert_allclose(numbered(found, "maxeig", k, row), wanted.max_eig_stat, rtol=1e-8, atol=1e-8)
        for j in range(k):
            vector = np.array([found[f"vector{j + 1}_{s + 1}"][row] for s in range(k)])
            theirs = wanted.evec[:, j] * np.sign(wanted.evec[0, j])
            np.testing.assert_allclose(vector, theirs, rtol=1e-6, atol=1e-6 * np.abs(theirs).max())


@pytest.mark.parametrize(("det", "diff"), [(-1, 1), (0, 0), (1, 0), (0, 2)])
def test_johansen_is_the_canonical_correlations_of_scipy(det: int, diff: int) -> None:
    """By orthonormal bases of what partialling leaves; far from zero, and with no lagged differences, too."""
    w, k = 80, 3
    x = prices(7, w, k) + 1e5
    found = compute("johansen", SERIES=x, w=w, series=k, det=det, diff=diff)
    time = np.linspace(-1.0, 1.0, w)
    levels = x - x[0] if det >= 0 else x
    if det >= 0:
        trend = np.vander(time, det + 1)
        levels = levels - trend @ np.linalg.lstsq(trend, levels, rcond=None)[0]
    change = np.diff(levels, axis=0)
    rows = w - 1 - diff
    known = [np.ones((rows, 1))] if det >= 0 else []
    known += [change[diff - j : diff - j + rows] for j in range(1, diff + 1)]
    basis = qr(np.hstack(known), mode="economic")[0]

    def left(block: Floats) -> Floats:
        rest = block - basis @ (basis.T @ block)
        return np.asarray(qr(rest - basis @ (basis.T @ rest), mode="economic")[0])

    cosines = svd(left(change[diff:]).T @ left(levels[diff:-1]), compute_uv=False)
    np.testing.assert_allclose(
        numbered(found, "maxeig", k, w - 1), -rows * np.log1p(-(cosines**2)), rtol=1e-6, atol=1e-8
    )
    np.testing.assert_allclose(
        numbered(found, "trace", k, w - 1), -rows * np.cumsum(np.log1p(-(cosines**2))[::-1])[::-1], rtol=1e-6, atol=1e-8
    )  # fmt: skip


def test_johansen_finds_the_relation_that_there_is() -> None:
    rng = np.random.default_rng(9)
    walk = np.cumsum(rng.normal(size=400))
    x = np.column_stack([walk + 0.1 * rng.normal(size=400), 2.0 * walk + 0.1 * rng.normal(size=400)])
    found = compute("johansen", SERIES=x, w=400)
    assert found["vector1_2"][-1] / found["vector1_1"][-1] == pytest.approx(-0.5, abs=1e-3)
    assert found["trace1"][-1] > 19.93  # 1 % of samples without a relation (MacKinnon, Haug & Michelis 1999)
    assert found["trace2"][-1] < 6.63


def test_dependent_columns_have_no_test() -> None:
    x = prices(11, 60, 2)
    found = compute("johansen", SERIES=np.column_stack([x, x[:, 0] - x[:, 1]]), w=50, series=3)
    assert all(np.isnan(column).all() for column in found.values())


@pytest.mark.parametrize(
    ("kernel", "parameters", "told"),
    [
        (
            "engle_granger",
            {"w": 30, "max_lag": 14},
            "engle_granger: w=30: it must be at least 31, which these parameters",
        ),
        ("johansen", {"w": 20, "series": 5, "diff": 3}, "johansen: w=20: it must be at least 30"),
        ("johansen", {"series": 13}, "johansen: series=13: it must be a whole number at least 2 and at most 12"),
    ],
)
def test_windows_that_are_too_short_are_refused(kernel: str, parameters: dict[str, Any], told: str) -> None:
    with pytest.raises(KernelError, match=told):
        Streaming(kernel, **parameters)


def test_a_matrix_of_another_width_is_refused() -> None:
    with pytest.raises(KernelError, match=r"johansen: SERIES has the shape \(9, 3\); it must be rows × 2"):
        compute("johansen", SERIES=np.ones((9, 3)))
