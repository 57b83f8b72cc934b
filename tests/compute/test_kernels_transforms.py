"""Transforms against SciPy and pandas."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from oneprice.compute.kernels.transforms import fitted_lambda

CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
LAMBDAS = [-1.5, 0.0, 1e-8, 0.3, 1.0, 2.0, 2.5]


@pytest.fixture(scope="module")
def x() -> Any:
    return np.random.default_rng(1).standard_t(3, 2_000)


def test_winsorize_limits_by_the_window_before(x: Any) -> None:
    given = x.copy()
    given[::17] = np.nan
    valid = pd.Series(given).dropna()
    before = valid.shift().rolling(60)
    expected = valid.clip(before.quantile(0.05), before.quantile(0.9)).where(before.quantile(0.5).notna())
    ours = compute("winsorize", x=given, w=60, lo=0.05, hi=0.9)["y"]
    np.testing.assert_allclose(ours, expected.reindex(range(len(x))), **CLOSE)


def test_winsorize_by_time_is_that_of_pandas_without_the_row_itself(x: Any) -> None:
    t = 1_769_083_200_000_000_000 + np.cumsum(np.random.default_rng(2).integers(1, 40_000_000, len(x)))
    series = pd.Series(x, index=pd.to_datetime(t))
    before = series.rolling("2s", closed="neither")
    expected = series.clip(before.quantile(0.05), before.quantile(0.9)).where(before.count() > 0)
    ours = compute("winsorize", t=t, x=x, w="2s", lo=0.05, hi=0.9)["y"]
    np.testing.assert_allclose(ours[1:], expected.to_numpy()[1:], **CLOSE)
    assert np.isnan(ours[0])


def test_winsorize_between_fixed_limits_is_that_of_scipy(x: Any) -> None:
    theirs = np.asarray(stats.mstats.winsorize(x, limits=(0.01, 0.02)))
    ours = compute("winsorize", x=x, lower=float(theirs.min()), upper=float(theirs.max()))["y"]
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("wrong", [{"lo": 0.9, "hi": 0.1}, {"lower": 1.0}, {"lower": 2.0, "upper": 1.0}])
def test_winsorize_names_limits_that_contradict(wrong: dict[str, float]) -> None:
    with pytest.raises(KernelError, match="winsorize: lo"):
        Streaming("winsorize", **wrong)


@pytest.mark.parametrize("lam", LAMBDAS)
def test_powers_are_those_of_scipy(x: Any, lam: float) -> None:
    positive = np.exp(x / 3.0)
    np.testing.assert_allclose(
        compute("boxcox", x=positive, lambda_=lam)["y"], stats.boxcox(positive, lmbda=lam), **CLOSE
    )
    np.testing.assert_allclose(
        compute("yeo_johnson", x=x, lambda_=lam)["y"], stats.yeojohnson(x, lmbda=lam), rtol=1e-9, atol=1e-12
    )
    assert np.isnan(compute("boxcox", x=[0.0, -1.0, np.nan, 1e300], lambda_=2.5)["y"]).all()


def test_fitted_lambdas_are_those_of_scipy(x: Any) -> None:
    positive = 1e4 * np.exp(x / 3.0)
    assert fitted_lambda("boxcox", positive) == pytest.approx(stats.boxcox_normmax(positive, method="mle"), abs=1e-4)
    assert fitted_lambda("yeo_johnson", x) == pytest.approx(stats.yeojohnson_normmax(x), abs=1e-4)


def test_a_lambda_is_said_or_fitted() -> None:
    with pytest.raises(KernelError, match="boxcox: lambda_ is missing"):
        Streaming("boxcox")
    for values in ([], [2.0, 2.0], [1.0, -1.0]):
        with pytest.raises(KernelError, match="no two values that differ"):
            fitted_lambda("boxcox", values)
    with pytest.raises(KernelError, match="it must be boxcox or yeo_johnson"):
        fitted_lambda("log", [1.0, 2.0])
