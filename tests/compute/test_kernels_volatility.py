"""Volatility against closed forms, plain loops, pandas and TA-Lib, on random returns and recorded bars."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import pytest
import talib
from kernel_world import columns_of
from numpy.lib.stride_tricks import sliding_window_view

from oneprice.compute.kernels.definition import Kernel, KernelError
from oneprice.compute.kernels.registry import KERNELS
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

CLOSE = {"rtol": 1e-9, "atol": 1e-15, "equal_nan": True}
W = 20
FAMILIES = {"volatility", "tick_volatility", "liquidity"}


@pytest.fixture(scope="module")
def returns() -> np.ndarray:
    """Returns with jumps, some of which cannot be used."""
    rng = np.random.default_rng(1)
    r = rng.standard_normal(6_000) * 1e-4 * np.where(rng.random(6_000) < 0.01, 50.0, 1.0)
    r[rng.random(len(r)) < 0.03] = np.nan
    r[[5, 77]] = np.inf, -np.inf
    return r


@pytest.fixture(scope="module")
def bars() -> pd.DataFrame:
    """Recorded bars of five minutes, some of which cannot be used."""
    found = pd.read_parquet(shared("data/ohlcv/binance_usdt_2024/5m_12.parquet"), filters=[("symbol", "==", "BTCUSDT")])
    found = found.iloc[:6_000][["open", "high", "low", "close"]].reset_index(drop=True)
    found.columns = list("OHLC")
    spoiled = np.random.default_rng(2).choice(len(found), 100, replace=False)
    found.loc[spoiled[:50], "H"] = np.nan
    found.loc[spoiled[50:75], "L"] = 0.0
    found.loc[spoiled[75:], "C"] = -1.0
    return found


def columns(bars: pd.DataFrame, names: str) -> dict[str, np.ndarray]:
    return {name: bars[name].to_numpy() for name in names}


def good(bars: pd.DataFrame, names: str) -> pd.DataFrame:
    kept = bars[list(names)]
    return kept[(kept > 0.0).all(axis=1)]


def put_back(values: Any, index: pd.Index, length: int) -> np.ndarray:
    """The last so many rows' values at their places, NaN elsewhere."""
    out = np.full(length, np.nan)
    out[index[len(index) - len(values) :]] = values
    return out


def over_windows(x: np.ndarray, w: int, function: Callable[[np.ndarray], float]) -> np.ndarray:
    """A function of the last w usable values, at their rows."""
    index = pd.Index(np.flatnonzero(np.isfinite(x)))
    return put_back([function(part) for part in sliding_window_view(x[index], w)], index, len(x))


def bipower(r: np.ndarray) -> float:
    a = np.abs(r)
    return math.pi / 2 * len(r) / (len(r) - 1) * float(a[1:] @ a[:-1])


def medrv(r: np.ndarray) -> float:
    triples = np.sort(sliding_window_view(np.abs(r), 3), axis=1)
    return 1.4193583 * len(r) / (len(r) - 2) * float(np.sum(triples[:, 1] ** 2))


def minrv(r: np.ndarray) -> float:
    pairs = sliding_window_view(np.abs(r), 2)
    return math.pi / (math.pi - 2) * len(r) / (len(r) - 1) * float(np.sum(pairs.min(axis=1) ** 2))


def test_realized_variance_is_the_sum_of_squares(returns: np.ndarray) -> None:
    ours = compute("realized_var", r=returns, w=W, ppy=525_600.0)
    total = over_windows(returns, W, lambda part: float(part @ part))
    np.testing.assert_allclose(ours["var"], total, **CLOSE)
    np.testing.assert_allclose(ours["vol"], np.sqrt(total), **CLOSE)
    np.testing.assert_allclose(ours["vol_annual"], np.sqrt(total * 525_600 / W), **CLOSE)
    assert np.isnan(compute("realized_var", r=returns, w=W)["vol_annual"]).all()


def test_a_window_in_time_is_annualised_by_its_length() -> None:
    rng = np.random.default_rng(3)
    t, r = np.cumsum(rng.integers(0, 10**9, 3_000)) + 1_769_083_200_000_000_000, rng.standard_normal(3_000)
    total = pd.Series(r**2, index=pd.to_datetime(t)).rolling("60s").sum()
    ours = compute("realized_var", t=t, r=r, w="60s")
    np.testing.assert_allclose(ours["var"], total, rtol=1e-10)
    np.testing.assert_allclose(ours["vol_annual"], np.sqrt(total * 365 * 24 * 60), rtol=1e-10)


def test_a_flat_window_after_a_wild_one_is_flat() -> None:
    """Nothing of what has left the window is left in the sum."""
    r = np.concatenate([np.full(W, 1e6), np.full(W, 1e-9), np.zeros(W)])
    for kernel, parameters in (("realized_var", {"ppy": 365.0}), ("bipower_var", {}), ("medrv", {})):
        for output in compute(kernel, r=r, w=W, **parameters).values():
            assert output[-1] == 0.0
    np.testing.assert_allclose(compute("realized_var", r=r, w=W)["var"][2 * W - 1], W * 1e-18, rtol=1e-12)


def test_bipower_variation_and_its_jumps(returns: np.ndarray) -> None:
    ours = compute("bipower_var", r=returns, w=W)
    expected = over_windows(returns, W, bipower)
    np.testing.assert_allclose(ours["bv"], expected, **CLOSE)
    jump = np.maximum(0.0, over_windows(returns, W, lambda part: float(part @ part)) - expected)
    np.testing.assert_allclose(ours["jump"], jump, rtol=1e-9, atol=1e-17)


def test_median_and_minimum_of_neighbours(returns: np.ndarray) -> None:
    ours = compute("medrv", r=returns, w=W)
    np.testing.assert_allclose(ours["medrv"], over_windows(returns, W, medrv), rtol=1e-7)
    np.testing.assert_allclose(ours["minrv"], over_windows(returns, W, minrv), **CLOSE)


def test_they_are_unbiased_on_gaussian_returns() -> None:
    r = np.random.default_rng(4).standard_normal(400_000)
    for kernel, output in (("realized_var", "var"), ("bipower_var", "bv"), ("medrv", "medrv"), ("medrv", "minrv")):
        every = compute(kernel, r=r, w=W)[output][W - 1 :: W]
        assert abs(every.mean() / W - 1.0) < 4.0 * every.std() / W / math.sqrt(len(every)), output


def test_windows_in_time_of_neighbours() -> None:
    rng = np.random.default_rng(5)
    t, r = np.cumsum(rng.integers(0, 10**9, 1_500)), rng.standard_normal(1_500)
    parts = [r[(t > now - 40 * 10**9) & (np.arange(len(t)) <= row)] for row, now in enumerate(t)]
    for kernel, output, function in (
        ("bipower_var", "bv", bipower), ("medrv", "medrv", medrv), ("medrv", "minrv", minrv),
    ):  # fmt: skip
        ours = compute(kernel, t=t, r=r, w="40s", min_obs=50)[output]
        expected = [function(part) if len(part) >= 50 else math.nan for part in parts]
        np.testing.assert_allclose(ours, expected, rtol=1e-7)
        assert 0 < np.isnan(ours).sum() < len(ours)


def test_riskmetrics_is_the_ewm_of_squares(returns: np.ndarray) -> None:
    kept = pd.Series(returns**2)[np.isfinite(returns)]
    ours = compute("riskmetrics_vol", r=returns)
    expected = kept.ewm(alpha=0.06, adjust=False).mean().reindex(range(len(returns)))
    np.testing.assert_allclose(ours["var"], expected, **CLOSE)
    np.testing.assert_allclose(ours["vol"], np.sqrt(expected), **CLOSE)


def range_terms(o: Any, h: Any, low: Any, c: Any) -> dict[str, Any]:
    return {
        "parkinson": np.log(h / low) ** 2 / (4 * np.log(2)),
        "garman_klass": 0.5 * np.log(h / low) ** 2 - (2 * np.log(2) - 1) * np.log(c / o) ** 2,
        "rogers_satchell": np.log(h / c) * np.log(h / o) + np.log(low / c) * np.log(low / o),
    }


@pytest.mark.parametrize(
    ("kernel", "names"), [("parkinson", "HL"), ("garman_klass", "OHLC"), ("rogers_satchell", "OHLC")]
)
def test_the_range_of_recorded_bars(bars: pd.DataFrame, kernel: str, names: str) -> None:
    kept = good(bars, names)
    terms = range_terms(*(bars.where(bars > 0.0).loc[kept.index, name] for name in "OHLC"))[kernel]
    expected = np.sqrt(sliding_window_view(terms, W).mean(axis=1))
    ours = compute(kernel, **columns(bars, names), w=W)["vol"]
    np.testing.assert_allclose(ours, put_back(expected, kept.index, len(bars)), **CLOSE)


def test_yang_zhang_on_recorded_bars(bars: pd.DataFrame) -> None:
    """With gaps between the bars, so that the nights count, too."""
    gaps = np.exp(1e-3 * np.cumsum(np.random.default_rng(6).standard_normal(len(bars))))
    moved = bars.mul(gaps, axis=0)
    kept = good(moved, "OHLC")
    o, h, low, c = (kept[name].to_numpy() for name in "OHLC")
    expected = []
    for end in range(W + 1, len(kept) + 1):
        part = slice(end - W, end)
        night = np.log(o[part] / c[end - W - 1 : end - 1])
        day = np.log(c[part] / o[part])
        rs = range_terms(o[part], h[part], low[part], c[part])["rogers_satchell"]
        k = 0.34 / (1.34 + (W + 1) / (W - 1))
        expected.append(math.sqrt(np.var(night, ddof=1) + k * np.var(day, ddof=1) + (1 - k) * rs.mean()))
    ours = compute("yang_zhang", **columns(moved, "OHLC"), w=W)["vol"]
    np.testing.assert_allclose(ours, put_back(expected, kept.index, len(bars)), **CLOSE)


def test_yang_zhang_keeps_the_digits_of_quiet_bars() -> None:
    """Bars of a thousandth of a basis point to ten of them, against 50 digits: a logarithm of 30 000 has only 15."""
    rng = np.random.default_rng(3)
    for reach in (1e-3, 1e-5, 1e-7):
        c = 30_000.0 * np.exp(np.cumsum(rng.normal(0.0, reach, W + 1)))
        o = np.r_[c[0], c[:-1]] * (1.0 + 0.1 * reach * rng.standard_normal(W + 1))
        h = np.maximum(o, c) * (1.0 + reach * rng.random(W + 1))
        low = np.minimum(o, c) * (1.0 - reach * rng.random(W + 1))
        with mpmath.workdps(50):
            ln_o, ln_h, ln_l, ln_c = ([mpmath.log(float(price)) for price in column] for column in (o, h, low, c))
            night, day, rs = [], [], []
            for k in range(1, W + 1):
                night.append(ln_o[k] - ln_c[k - 1])
                day.append(ln_c[k] - ln_o[k])
                rs.append((ln_h[k] - ln_o[k]) * (ln_h[k] - ln_c[k]) + (ln_l[k] - ln_o[k]) * (ln_l[k] - ln_c[k]))
            of_night, of_day = (sum((x - sum(terms) / W) ** 2 for x in terms) / (W - 1) for terms in (night, day))
            share = mpmath.mpf("0.34") / (mpmath.mpf("1.34") + mpmath.mpf(W + 1) / (W - 1))
            expected = float(mpmath.sqrt(of_night + share * of_day + (1 - share) * sum(rs) / W))
        assert compute("yang_zhang", O=o, H=h, L=low, C=c, w=W)["vol"][-1] == pytest.approx(expected, rel=2e-11)


def simulated_bars(drift: float, count: int) -> dict[str, np.ndarray]:
    """Bars of a walk of 2 000 steps with a variance of 1e-4 a bar."""
    steps = np.random.default_rng(7).normal(drift / 2_000, 1e-2 / math.sqrt(2_000), (count, 2_000))
    path = np.cumsum(steps, axis=1)
    before = np.concatenate([[0.0], np.cumsum(path[:-1, -1])])
    logs = path + before[:, None]
    return {
        "O": np.exp(before), "H": np.exp(np.maximum(logs.max(axis=1), before)),
        "L": np.exp(np.minimum(logs.min(axis=1), before)), "C": np.exp(logs[:, -1]),
    }  # fmt: skip


def test_rogers_satchell_and_yang_zhang_are_right_under_drift() -> None:
    """Variance of the log price 1e-4 a bar; a drift of two of its deviations a bar misleads the two others."""
    found = simulated_bars(0.02, 2_000)
    vol = {
        name: compute(name, **{key: found[key] for key in names}, w=1_900)["vol"][-1] / 1e-2
        for name, names in (("parkinson", "HL"), ("garman_klass", "OHLC"), ("rogers_satchell", "OHLC"), ("yang_zhang", "OHLC"))
    }  # fmt: skip
    assert abs(vol["rogers_satchell"] - 1.0) < 0.05
    assert abs(vol["yang_zhang"] - 1.0) < 0.05
    assert vol["parkinson"] > 1.3
    assert vol["garman_klass"] > 1.05


def test_an_open_or_close_outside_the_range_has_no_volatility() -> None:
    """Garman and Klass's mean is below zero: there is no root, and never an invented one."""
    ours = compute("garman_klass", O=[1.0] * 3, H=[1.0] * 3, L=[1.0] * 3, C=[2.0] * 3, w=2)["vol"]
    assert np.isnan(ours).all()
    crossed = compute("parkinson", H=[1.0, 2.0, 2.0], L=[2.0, 1.0, 1.0], w=2)["vol"]
    assert np.isnan(crossed[:2]).all()
    assert crossed[2] == pytest.approx(math.log(2) / math.sqrt(4 * math.log(2)))


def test_atr_is_that_of_talib(bars: pd.DataFrame) -> None:
    kept = good(bars, "HLC")
    prices = [kept[name].to_numpy() for name in "HLC"]
    spoiled = bars[list("HLC")].where(bars[list("HLC")] > 0.0)  # a price below zero is one where no ratio is taken
    ours = compute("atr", **columns(spoiled, "HLC"))
    np.testing.assert_allclose(ours["atr"], put_back(talib.ATR(*prices, 14), kept.index, len(bars)), **CLOSE)
    np.testing.assert_allclose(ours["tr"], put_back(talib.TRANGE(*prices), kept.index, len(bars)), **CLOSE)
    assert np.flatnonzero(np.isfinite(compute("atr", **columns(kept, "HLC"))["atr"]))[0] == 14


def test_a_sum_that_ran_over_comes_back() -> None:
    """Squares too large for a number give none, and are forgotten with their window."""
    r = np.concatenate([np.full(3, 1e154), np.full(2 * W, 1e-3)])
    ours = compute("realized_var", r=r, w=W)["var"]
    assert np.isnan(ours[W - 1])
    np.testing.assert_allclose(ours[-1], W * 1e-6, rtol=1e-12)


@pytest.mark.parametrize(
    "kernel", [one for one in KERNELS.values() if one.family in FAMILIES and one.grow], ids=lambda one: one.name
)
def test_thirty_seconds_of_an_even_grid_are_thirty_rows(kernel: Kernel) -> None:
    """Where a row needs the one before it (bars, changes), that one may lie outside the window, counted or in time."""
    columns = columns_of(kernel, np.random.default_rng(13), 200)
    if "quote_volume" in columns:
        columns["quote_volume"] += 1.0  # a row without volume is not counted, but time passes
    t = 10**9 * np.arange(200)
    by_time = compute(kernel, t=t, **columns, w="30s", min_obs=30)
    for name, column in compute(kernel, **columns, w=30).items():
        if name != "vol_annual":
            np.testing.assert_allclose(
                column, by_time[name], rtol=1e-9, err_msg=name
            )  # one turns, the other drops and adds


# -- ticks with noise -------------------------------------------------------------------------------------------------


def noisy_prices(seed: int, n: int, vol: float, noise: float) -> np.ndarray:
    """Prices with a variance of vol² over n steps, seen through noise of this standard deviation."""
    rng = np.random.default_rng(seed)
    return 1e4 * np.exp(np.cumsum(rng.normal(0, vol / math.sqrt(n), n)) + rng.normal(0, noise, n))


def two_scales(p: np.ndarray, k: int) -> tuple[float, float]:
    x = np.log(p)
    n = len(p) - 1
    slow, fast = np.sum((x[k:] - x[:-k]) ** 2) / k, np.sum(np.diff(x) ** 2)
    share = (n - k + 1) / k / n
    return (slow - share * fast) / (1 - share), fast / (2 * n)


def chosen_k(p: np.ndarray) -> int:
    x = np.log(p)
    n = len(p) - 1
    stride = max(1, n // 50)
    quarticity = (n / stride) ** 2 / 3 * np.mean((x[stride:] - x[:-stride]) ** 4)
    noise = np.sum(np.diff(x) ** 2) / (2 * n)
    return min(n // 2, max(2, math.ceil((16 * noise**2 / (4 / 3 * quarticity)) ** (1 / 3) * n ** (2 / 3))))


def test_two_scales_of_a_given_k() -> None:
    p = noisy_prices(8, 1_500, 1e-2, 1e-4)
    p[[3, 700, 701]] = np.nan, 0.0, -1.0
    index = pd.Index(np.flatnonzero(p > 0))
    expected = np.array([two_scales(part, 30) for part in sliding_window_view(p[index], 300)])
    ours = compute("two_scale_rv", p=p, w=300, k=30)
    np.testing.assert_allclose(ours["tsrv"], put_back(expected[:, 0], index, len(p)), **CLOSE)
    np.testing.assert_allclose(ours["noise_var"], put_back(expected[:, 1], index, len(p)), **CLOSE)


def test_two_scales_choose_k_once_a_window() -> None:
    p, w = noisy_prices(9, 1_500, 1e-2, 2e-4), 300
    ours = compute("two_scale_rv", p=p, w=w)["tsrv"]
    k = 0
    for row in range(w - 1, len(p)):
        part = p[row - w + 1 : row + 1]
        k = chosen_k(part) if (row - w + 1) % w == 0 else k
        np.testing.assert_allclose(ours[row], two_scales(part, k)[0], rtol=1e-8, atol=1e-15)


def test_two_scales_see_through_noise() -> None:
    """Simulated: variance 1e-4, noise 1e-4 on each of 5 000 prices, so that the plain sum is twice the truth."""
    found = [compute("two_scale_rv", p=noisy_prices(seed, 5_000, 1e-2, 1e-4), w=5_000) for seed in range(40)]
    tsrv = np.array([one["tsrv"][-1] for one in found])
    plain = np.array([2 * 4_999 * one["noise_var"][-1] for one in found])
    assert plain.mean() == pytest.approx(2e-4, rel=0.05)
    assert abs(tsrv.mean() - 1e-4) < 4 * tsrv.std() / math.sqrt(len(tsrv))


def test_two_scales_below_zero_are_returned_and_flagged() -> None:
    bouncing = 100.0 + np.arange(400) % 2
    ours = compute("two_scale_rv", p=bouncing, w=100, k=2)
    assert (ours["tsrv"][99:] < 0.0).all()
    assert ours["negative"].tolist() == [-128] * 99 + [1] * 301
    with pytest.raises(KernelError, match="two_scale_rv: k=30: it must be at most w − 2 = 18"):
        Streaming("two_scale_rv", w=20, k=30)


def test_two_scales_of_a_window_in_time() -> None:
    rng = np.random.default_rng(10)
    p, t = noisy_prices(10, 1_000, 1e-2, 1e-4), np.cumsum(rng.integers(0, 10**9, 1_000))
    ours = compute("two_scale_rv", t=t, p=p, w="100s", k=10)["tsrv"]
    for row in range(0, 1_000, 7):
        part = p[: row + 1][t[: row + 1] > t[row] - 100 * 10**9]
        expected = two_scales(part, 10)[0] if len(part) >= 12 else math.nan
        np.testing.assert_allclose(ours[row], expected, rtol=1e-8, atol=1e-15)


def parzen_sum(r: np.ndarray, reach: int) -> float:
    total = float(r @ r)
    for h in range(1, min(reach, len(r) - 1) + 1):
        z = h / (reach + 1)
        weight = 1 - 6 * z**2 + 6 * z**3 if z <= 0.5 else 2 * (1 - z) ** 3
        total += 2 * weight * float(r[h:] @ r[:-h])
    return total


def chosen_h(r: np.ndarray) -> int:
    n = len(r)
    stride = max(1, n // 50)
    sparse = sliding_window_view(r, stride).sum(axis=1)
    quarticity = (n / stride) ** 2 / 3 * np.mean(sparse**4)
    ratio = float(r @ r) / (2 * n) / math.sqrt(quarticity)
    return min(n - 1, max(1, math.ceil(3.5134 * ratio ** (2 / 5) * n ** (3 / 5))))


@pytest.mark.parametrize("reach", [0, 7, 400])
def test_the_realized_kernel_of_a_given_bandwidth(returns: np.ndarray, reach: int) -> None:
    r = returns[:1_200]
    ours = compute("realized_kernel", r=r, w=250, bandwidth=reach)["rk"]
    expected = over_windows(r, 250, lambda part: parzen_sum(part, reach))
    np.testing.assert_allclose(ours, expected, rtol=1e-8, atol=1e-15)
    assert (ours[np.isfinite(ours)] >= 0.0).all()


def test_the_realized_kernel_chooses_its_bandwidth_once_a_window() -> None:
    r, w = np.diff(np.log(noisy_prices(11, 1_501, 1e-2, 2e-4))), 300
    ours = compute("realized_kernel", r=r, w=w)["rk"]
    reach = 0
    for row in range(w - 1, len(r)):
        part = r[row - w + 1 : row + 1]
        reach = chosen_h(part) if (row - w + 1) % w == 0 else reach
        np.testing.assert_allclose(ours[row], parzen_sum(part, reach), rtol=1e-8, atol=1e-15)


def test_the_realized_kernel_sees_through_noise() -> None:
    found = [np.diff(np.log(noisy_prices(seed, 5_000, 1e-2, 1e-4))) for seed in range(40)]
    rk = np.array([compute("realized_kernel", r=r, w=4_999)["rk"][-1] for r in found])
    assert np.mean([r @ r for r in found]) == pytest.approx(2e-4, rel=0.05)
    assert rk.mean() == pytest.approx(1e-4, rel=0.1)


@pytest.mark.parametrize("kernel", ["two_scale_rv", "realized_kernel"])
def test_a_window_in_time_that_thins_out_still_answers(kernel: str) -> None:
    """The reach chosen in a dense stretch does not outlast it."""
    rng = np.random.default_rng(12)
    steps = np.concatenate([np.full(500, 10**7), np.full(100, 10**9)])
    column = {"p": noisy_prices(12, 600, 1e-2, 1e-3)} if kernel == "two_scale_rv" else {"r": rng.standard_normal(600)}
    ours = compute(kernel, t=np.cumsum(steps), **column, w="20s")
    assert all(np.isfinite(output[10:].astype(float)).all() for output in ours.values())
