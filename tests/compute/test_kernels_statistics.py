"""Statistics against pandas, NumPy, SciPy and plain loops, with rows that cannot be used left out of what they are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import median_abs_deviation

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute

N = 3_000
CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}


@pytest.fixture(scope="module")
def pair() -> pd.DataFrame:
    """Two series, some rows of which cannot be used."""
    rng = np.random.default_rng(1)
    x = rng.standard_normal(N).cumsum()
    frame = pd.DataFrame({"x": x, "y": 0.5 * x + rng.standard_normal(N)})
    frame.loc[rng.random(N) < 0.05, "x"] = np.nan
    frame.loc[rng.random(N) < 0.02, "y"] = np.inf
    return frame


def valid(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    return frame[list(names)].replace([np.inf, -np.inf], np.nan).dropna()


def check(ours: Any, theirs: pd.Series, frame: pd.DataFrame) -> None:
    """Theirs, put back at the rows it was computed on."""
    np.testing.assert_allclose(ours, theirs.reindex(frame.index).to_numpy(), **CLOSE)


def test_log_returns(pair: pd.DataFrame) -> None:
    price = np.exp(pair["x"] / 10.0)
    price.iloc[[7, 99]] = [0.0, -1.0]
    given = price[price > 0.0].dropna()
    check(compute("log_returns", p=price)["r"], np.log(given).diff(), pair)


def test_welford_is_the_expanding_moments(pair: pd.DataFrame) -> None:
    x = valid(pair, "x")["x"]
    ours = compute("welford_mean_var", x=pair["x"])
    check(ours["mean"], x.expanding().mean(), pair)
    check(ours["var"], x.expanding().var(), pair)
    check(ours["std"], x.expanding().std(), pair)
    check(ours["count"], x.expanding().count(), pair)
    check(compute("welford_mean_var", x=pair["x"], ddof=0)["var"], x.expanding().var(ddof=0), pair)


@pytest.mark.parametrize("way", [{"alpha": 0.1}, {"halflife": 7.0}, {"span": 12.0}, {"com": 3.0}])
@pytest.mark.parametrize("adjust", [False, True])
def test_ewma(pair: pd.DataFrame, way: dict[str, float], adjust: bool) -> None:
    x = valid(pair, "x")["x"]
    check(compute("ewma", x=pair["x"], adjust=adjust, **way)["mean"], x.ewm(**way, adjust=adjust).mean(), pair)


def test_ewma_by_time_is_the_closed_form() -> None:
    rng = np.random.default_rng(2)
    t, x = np.cumsum(rng.integers(0, 10**9, 500)), rng.standard_normal(500)
    expected = [x[0]]
    for before, now, value in zip(t[:-1], t[1:], x[1:], strict=True):
        alpha = 1.0 - np.exp(-(now - before) / 1e9 / 2.5)
        expected.append(expected[-1] + alpha * (value - expected[-1]))
    np.testing.assert_allclose(compute("ewma", t=t, x=x, tau_s=2.5)["mean"], expected, **CLOSE)


def test_ewma_takes_one_way_to_say_how_fast_it_forgets() -> None:
    with pytest.raises(KernelError, match="alpha and span say the same thing: give one of"):
        Streaming("ewma", alpha=0.1, span=3.0)


def test_ewcov_and_ewcorr(pair: pd.DataFrame) -> None:
    both = valid(pair, "x", "y")
    ewm = both["x"].ewm(alpha=0.06, adjust=False)
    ours = compute("ewcov", x=pair["x"], y=pair["y"], alpha=0.06)
    biased = ewm.cov(both["y"], bias=True)
    biased.iloc[0] = np.nan  # of one observation pandas says 0
    check(ours["cov"], biased, pair)
    check(ours["cov_unbiased"], ewm.cov(both["y"]), pair)
    check(compute("ewcorr", x=pair["x"], y=pair["y"], alpha=0.06)["corr"], ewm.corr(both["y"]), pair)


@pytest.mark.parametrize("w", [2, 50])
def test_rolling_moments(pair: pd.DataFrame, w: int) -> None:
    x, both = valid(pair, "x")["x"], valid(pair, "x", "y")
    ours = compute("rolling_zscore", x=pair["x"], w=w)
    check(ours["mean"], x.rolling(w).mean(), pair)
    check(ours["std"], x.rolling(w).std(), pair)
    check(ours["z"], (x - x.rolling(w).mean()) / x.rolling(w).std(), pair)
    before = x.shift().rolling(w)
    check(
        compute("rolling_zscore", x=pair["x"], w=w, include_current=False)["z"],
        (x - before.mean()) / before.std(),
        pair,
    )
    columns = {"x": pair["x"], "y": pair["y"], "w": w}
    check(compute("rolling_cov", **columns)["cov"], both["x"].rolling(w).cov(both["y"]), pair)
    check(compute("rolling_corr", **columns)["corr"], both["x"].rolling(w).corr(both["y"]), pair)


def test_rolling_beta_is_the_line_of_least_squares(pair: pd.DataFrame) -> None:
    both, w = valid(pair, "x", "y"), 40
    ours = compute("rolling_beta", x=pair["x"], y=pair["y"], w=w)
    for place in range(w, len(both), 97):
        part = both.iloc[place - w + 1 : place + 1]
        beta, alpha = np.polyfit(part["x"], part["y"], 1)
        row = part.index[-1]
        np.testing.assert_allclose([ours["beta"][row], ours["alpha"][row]], [beta, alpha], rtol=1e-8)
        np.testing.assert_allclose(ours["r2"][row], np.corrcoef(part["x"], part["y"])[0, 1] ** 2, rtol=1e-8)


@pytest.mark.parametrize("prob", [0.0, 0.1, 0.5, 1.0])
def test_rolling_quantile(pair: pd.DataFrame, prob: float) -> None:
    x = valid(pair, "x")["x"]
    check(compute("rolling_quantile", x=pair["x"], w=31, prob=prob)["q"], x.rolling(31).quantile(prob), pair)


@settings(max_examples=60)
@given(
    w=st.one_of(st.integers(1, 40), st.integers(990, 1_010)),
    seed=st.integers(0, 99),
    values=st.sampled_from([2, 30, 10**9]),
)
def test_a_window_stays_sorted_however_wide_it_is_and_however_many_are_equal(w: int, seed: int, values: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(-values, values, w + 60).astype(float)
    windows = sliding_window_view(x, w)
    for prob in (0.0, 0.3, 1.0):
        ours = compute("rolling_quantile", x=x, w=w, prob=prob)["q"][w - 1 :]
        np.testing.assert_allclose(ours, np.quantile(windows, prob, axis=1), rtol=1e-12, atol=1e-12)


def test_windows_in_time_are_those_of_pandas(pair: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    t = np.cumsum(rng.integers(0, 40_000_000, N)) + 1_769_083_200_000_000_000
    x = pd.Series(np.nan_to_num(pair["x"]), index=pd.to_datetime(t))
    rolling = x.rolling("2s")  # (t - 2 s, t], as ours
    columns = {"t": t, "x": x.to_numpy(), "w": "2s"}
    np.testing.assert_allclose(compute("rolling_quantile", **columns)["q"], rolling.quantile(0.5), **CLOSE)
    np.testing.assert_allclose(compute("rolling_zscore", **columns)["std"], rolling.std(), **CLOSE)
    after = compute("rolling_quantile", min_obs=30, **columns)["q"]
    np.testing.assert_allclose(after, x.rolling("2s", min_periods=30).quantile(0.5), **CLOSE)


def test_hampel_is_the_trailing_median_and_its_deviation(pair: pd.DataFrame) -> None:
    x, w = valid(pair, "x")["x"], 21
    median = x.rolling(w).median()
    mad = x.rolling(w).apply(lambda part: median_abs_deviation(part, scale="normal"), raw=True)
    score = (x - median) / mad
    ours = compute("robust_hampel", x=pair["x"], w=w, k=2.0)
    check(ours["score"], score, pair)
    flags = np.where(score.isna(), -128, (score.abs() > 2.0).astype(int))
    assert ours["flag"].tolist() == pd.Series(flags, index=x.index).reindex(pair.index, fill_value=-128).tolist()
    check(ours["clean"], x.where(score.abs() <= 2.0, median).where(score.notna()), pair)
    flat = compute("robust_hampel", x=[1.0] * 21 + [2.0], w=21)
    assert flat["flag"][-2:].tolist() == [0, 1]
    assert np.isnan(flat["score"][-2:]).all()


@pytest.mark.parametrize("d", [0.0, 0.4, 1.0])
def test_frac_diff_is_the_convolution(d: float) -> None:
    x = np.random.default_rng(4).standard_normal(2_000).cumsum()
    weights = [1.0]
    while len(weights) < 1_000 and abs(next_ := -weights[-1] * (d - len(weights) + 1) / len(weights)) >= 1e-4:
        weights.append(next_)
    expected = np.convolve(x, weights)[: len(x)]
    expected[: len(weights) - 1] = np.nan
    np.testing.assert_allclose(compute("frac_diff", x=x, d=d)["y"], expected, **CLOSE)


def test_a_long_window_of_far_values_keeps_its_digits() -> None:
    """What adding and removing leaves behind is made good from the ring."""
    x = 1e9 + np.random.default_rng(5).standard_normal(60_000)
    ours = compute("rolling_zscore", x=x, w=100)["std"]
    exact = np.array([np.std(part - 1e9, ddof=1) for part in np.lib.stride_tricks.sliding_window_view(x, 100)])
    np.testing.assert_allclose(ours[99:], exact, rtol=1e-7)
