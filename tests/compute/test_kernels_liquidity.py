"""Liquidity against NumPy, pandas, statsmodels and plain loops, on random and recorded input, and on simulated spreads."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from statsmodels.api import OLS, add_constant

from oneprice.compute.kernels.streaming import compute
from shared_data import shared

CLOSE = {"rtol": 1e-8, "atol": 1e-12, "equal_nan": True}
N = 2_000


@pytest.fixture(scope="module")
def trades() -> pd.DataFrame:
    """Recorded trades of a perpetual."""
    return pd.read_parquet(shared("data/market/binance_depth1000_2026-02-16/trades_btc_fut_2026-02-16_04.parquet"))


@pytest.fixture(scope="module")
def books() -> np.ndarray:
    """Recorded books: rows × 4 × 50 levels."""
    found = pd.read_parquet(
        shared("data/market/binance_depth1000_2026-02-16/lobdeep_btc_fut_2026-02-16_04.parquet"),
        columns=["bids_px", "bids_qty", "asks_px", "asks_qty"],
    )[:300]
    return np.stack([np.stack([row[:50] for row in found[name]]) for name in found.columns], axis=1).astype(float)


# -- kyle_lambda ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flow() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    quantity = rng.standard_normal(N) * 10.0
    change = 0.02 * quantity + rng.standard_normal(N) * 0.1 + 0.01
    change[rng.random(N) < 0.03] = np.nan
    return {"dm": change, "sq": quantity, "m": 100.0 + np.cumsum(rng.normal(0, 0.01, N))}


@pytest.mark.parametrize("transform", ["none", "sqrt"])
@pytest.mark.parametrize("intercept", [True, False])
def test_kyle_is_the_line_of_least_squares(flow: dict[str, np.ndarray], transform: str, intercept: bool) -> None:
    ours = compute("kyle_lambda", **flow, w=50, transform=transform, intercept=intercept)
    rows = np.flatnonzero(np.isfinite(flow["dm"]))
    assert np.flatnonzero(np.isfinite(ours["lambda"])).tolist() == rows[49:].tolist()
    size = np.sqrt(np.abs(flow["sq"])) * np.sign(flow["sq"]) if transform == "sqrt" else flow["sq"]
    for place in range(49, len(rows), 53):
        part, row = rows[place - 49 : place + 1], rows[place]
        model = OLS(flow["dm"][part], add_constant(size[part]) if intercept else size[part]).fit()
        np.testing.assert_allclose(ours["lambda"][row], model.params[-1], rtol=1e-9)
        np.testing.assert_allclose(ours["r2"][row], model.rsquared, rtol=1e-8)
        if intercept:
            np.testing.assert_allclose(ours["lambda"][row], np.polyfit(size[part], flow["dm"][part], 1)[0], rtol=1e-8)
        mid = flow["m"][row]
        million = math.sqrt(1e6 / mid) if transform == "sqrt" else 1e6 / mid
        np.testing.assert_allclose(ours["bps_per_million"][row], ours["lambda"][row] * million / mid * 1e4, rtol=1e-12)


def test_kyle_without_any_flow_says_nothing() -> None:
    ours = compute("kyle_lambda", dm=np.arange(60.0), sq=np.zeros(60), m=np.full(60, 100.0), w=50)
    assert all(np.isnan(column).all() for column in ours.values())


# -- amihud_illiquidity -----------------------------------------------------------------------------------------------


def test_amihud_leaves_intervals_without_volume_out() -> None:
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({"r": rng.normal(0, 1e-3, N), "v": rng.random(N) * 1e6})
    frame.loc[rng.random(N) < 0.05, "v"] = 0.0
    frame.loc[rng.random(N) < 0.02, "v"] = -1.0
    frame.loc[rng.random(N) < 0.02, "r"] = np.nan
    kept = frame[(frame["v"] > 0.0) & frame["r"].notna()]
    expected = (kept["r"].abs() / kept["v"]).rolling(20).mean().mul(1e6).reindex(frame.index)
    ours = compute("amihud_illiquidity", r=frame["r"], quote_volume=frame["v"])["illiq"]
    np.testing.assert_allclose(ours, expected, rtol=1e-10)


# -- roll_spread ------------------------------------------------------------------------------------------------------


def roll(p: np.ndarray) -> float:
    changes = np.diff(p)
    covariance = np.cov(changes[1:], changes[:-1])[0, 1]
    return 2.0 * math.sqrt(-covariance) if covariance < 0.0 else math.nan


def test_roll_is_the_covariance_of_successive_changes(trades: pd.DataFrame) -> None:
    p = trades["price"].to_numpy(float)[:N].copy()
    p[[4, 500, 501]] = np.nan, 0.0, -5.0
    rows = np.flatnonzero(p > 0.0)
    expected = np.full(N, np.nan)
    expected[rows[99:]] = [roll(part) for part in sliding_window_view(p[rows], 100)]
    ours = compute("roll_spread", p=p, w=100)
    np.testing.assert_allclose(ours["abs"], expected, rtol=1e-6)
    np.testing.assert_allclose(ours["bps"], 1e4 * expected / p, rtol=1e-6)
    assert 0 < np.isnan(expected[rows[99:]]).sum() < len(rows) - 99
    floored = compute("roll_spread", p=p, w=100, negative="zero")["abs"]
    np.testing.assert_allclose(floored[rows[99:]], np.nan_to_num(expected[rows[99:]]), rtol=1e-6)
    assert np.isnan(floored[rows[:99]]).all()


def test_roll_finds_a_simulated_spread() -> None:
    rng = np.random.default_rng(3)
    mid = 1_000.0 + np.cumsum(rng.normal(0, 0.01, 100_000))
    p = mid + 0.05 * rng.choice([-1.0, 1.0], len(mid))
    assert compute("roll_spread", p=p, w=100_000)["abs"][-1] == pytest.approx(0.1, rel=0.02)


def test_roll_of_a_window_in_time() -> None:
    rng = np.random.default_rng(4)
    t = np.cumsum(rng.integers(0, 10**9, 1_000))
    p = 100.0 + 0.05 * rng.choice([-1.0, 1.0], 1_000) + np.cumsum(rng.normal(0, 0.01, 1_000))
    ours = compute("roll_spread", t=t, p=p, w="20s", min_obs=10)["abs"]
    for row in range(1_000):
        part = p[: row + 1][t[: row + 1] > t[row] - 20 * 10**9]
        np.testing.assert_allclose(ours[row], roll(part) if len(part) >= 10 else math.nan, rtol=1e-6)


# -- corwin_schultz_spread --------------------------------------------------------------------------------------------


def estimates(bars: pd.DataFrame, gap_adjust: bool) -> np.ndarray:
    found = []
    previous = None
    for high, low, close in bars[["H", "L", "C"]].itertuples(index=False):
        if previous is not None:
            h1, l1, c1 = previous
            h2, l2 = high, low
            if gap_adjust and c1 > h2:
                h2, l2 = c1, l2 + (c1 - h2)
            elif gap_adjust and c1 < l2:
                h2, l2 = h2 - (l2 - c1), c1
            beta = math.log(h1 / l1) ** 2 + math.log(h2 / l2) ** 2
            gamma = math.log(max(h1, h2) / min(l1, l2)) ** 2
            k = 3 - 2 * math.sqrt(2)
            alpha = (math.sqrt(2 * beta) - math.sqrt(beta)) / k - math.sqrt(gamma / k)
            found.append(2 * (math.exp(alpha) - 1) / (1 + math.exp(alpha)))
        previous = high, low, close
    return np.array(found)


@pytest.mark.parametrize("negative", ["mean_floor", "zero", "nan"])
@pytest.mark.parametrize("gap_adjust", [True, False])
def test_corwin_and_schultz_on_recorded_bars(negative: str, gap_adjust: bool) -> None:
    bars = pd.read_parquet(shared("data/market/usdc_depeg_2023-03/kraken_btcusdc.parquet"))[:N].reset_index(drop=True)
    bars = bars[["high", "low", "close"]].set_axis(list("HLC"), axis=1).astype(float)
    bars.loc[[7, 300], "H"] = np.nan
    bars.loc[[90], "L"] = 0.0
    kept = bars[(bars > 0.0).all(axis=1)]
    each = pd.Series(estimates(kept, gap_adjust), index=kept.index[1:])
    if negative == "mean_floor":
        expected = each.rolling(20).mean().clip(lower=0.0)
    elif negative == "zero":
        expected = each.clip(lower=0.0).rolling(20).mean()
    else:
        expected = each.where(each >= 0.0).rolling(20, min_periods=1).mean().where(each.rolling(20).count() == 20)
    ours = compute(
        "corwin_schultz_spread", **{name: bars[name] for name in "HLC"}, negative=negative, gap_adjust=gap_adjust
    )  # fmt: skip
    np.testing.assert_allclose(ours["spread_bps"], 1e4 * expected.reindex(bars.index), rtol=1e-8, atol=1e-9)


def test_keeping_negative_estimates_reads_a_simulated_spread_right() -> None:
    """Bars of 2 000 trades at a bid and ask 1 % apart; what the paper does with negative values overstates it."""
    rng = np.random.default_rng(5)
    mid = np.cumsum(rng.normal(0, 0.02 / math.sqrt(2_000), (1_000, 2_000)).ravel()).reshape(1_000, 2_000)
    p = np.exp(mid) * (1.0 + 0.005 * rng.choice([-1.0, 1.0], mid.shape))
    bars: dict[str, Any] = {"H": p.max(axis=1), "L": p.min(axis=1), "C": p[:, -1]}
    kept, cut = (
        compute("corwin_schultz_spread", **bars, w=990, negative=one)["spread_bps"][-1]
        for one in ("mean_floor", "zero")
    )
    assert kept == pytest.approx(100.0, rel=0.1)
    assert cut > 1.15 * kept


# -- sweep_cost -------------------------------------------------------------------------------------------------------


def walk(book: np.ndarray, size: float, side: float, unit: str) -> tuple[float, float, float]:
    prices, quantities = (book[2], book[3]) if side > 0 else (book[0], book[1])
    left, base, quote = size, 0.0, 0.0
    for price, quantity in zip(prices, quantities, strict=True):
        take = min(quantity, left / (price if unit == "quote" else 1.0))
        base += take
        quote += take * price
        left = size - (quote if unit == "quote" else base)
    mid = (book[0, 0] + book[2, 0]) / 2
    enough = left <= 1e-9 * size
    return quote / base, side * (quote / base / mid - 1) * 1e4 if enough else math.nan, 1.0 - max(left, 0.0) / size


@pytest.mark.parametrize(("unit", "largest"), [("base", 60.0), ("quote", 4e6)])
def test_a_sweep_of_recorded_books_is_the_walk(books: np.ndarray, unit: str, largest: float) -> None:
    rng = np.random.default_rng(6)
    size, side = rng.random(len(books)) * largest, rng.choice([-1.0, 1.0], len(books))
    ours = compute("sweep_cost", size=size, side=side, bk=books, unit=unit)
    expected = np.array([walk(*row, unit) for row in zip(books, size, side, strict=True)])
    np.testing.assert_allclose(ours["vwap"], expected[:, 0], rtol=1e-12)
    np.testing.assert_allclose(ours["cost_bps"], expected[:, 1], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(ours["filled"], expected[:, 2], rtol=1e-9)
    assert 0 < np.isnan(ours["cost_bps"]).sum() < len(books)


def test_a_sweep_of_books_that_are_short_torn_or_crossed() -> None:
    nan = math.nan
    good = [[99.0, 98.0], [1.0, 1.0], [101.0, 102.0], [0.1, 0.2]]
    padded = [[99.0, nan], [1.0, nan], [101.0, 0.0], [1.0, 0.0]]
    crossed = [[103.0, 98.0], [1.0, 1.0], [101.0, 102.0], [1.0, 1.0]]
    one_sided = [[99.0, 98.0], [1.0, 1.0], [nan, nan], [nan, nan]]
    negative = [[99.0, 98.0], [1.0, 1.0], [101.0, 102.0], [1.0, -1.0]]
    size = [0.1 + 0.2, 2.0, 1.0, 1.0, 2.0, 0.0]
    ours = compute("sweep_cost", size=size, side=[1.0] * 6, bk=[good, padded, crossed, one_sided, negative, good])
    np.testing.assert_allclose(ours["vwap"], [(10.1 + 20.4) / 0.3, 101.0, nan, nan, nan, nan], rtol=1e-12)
    np.testing.assert_allclose(ours["filled"], [1.0, 0.5, nan, nan, nan, nan])
    np.testing.assert_allclose(ours["cost_bps"], [1e4 * ((30.5 / 0.3) / 100.0 - 1.0)] + [nan] * 5, rtol=1e-9)
    tiny = compute("sweep_cost", size=[5e-324], side=[1.0], bk=[good], unit="quote")
    assert all(np.isnan(column).all() for column in tiny.values())


# -- resiliency -------------------------------------------------------------------------------------------------------


def test_resiliency_is_the_regression_of_changes_on_levels() -> None:
    rng = np.random.default_rng(7)
    d = np.empty(1_500)
    d[0] = 5.0
    for k in range(1, len(d)):
        d[k] = 5.0 + 0.7 * (d[k - 1] - 5.0) + rng.standard_normal()
    spread = d.copy()
    spread[[3, 800]] = np.nan, np.inf
    rows = np.flatnonzero(np.isfinite(spread))
    ours = compute("resiliency", spread_bps=spread, step_s=0.5)
    assert np.flatnonzero(np.isfinite(ours["kappa"])).tolist() == rows[200:].tolist()
    for place in range(200, len(rows), 31):
        part = spread[rows[place - 200 : place + 1]]
        kappa = -OLS(np.diff(part), add_constant(part[:-1])).fit().params[1]
        np.testing.assert_allclose(ours["kappa"][rows[place]], kappa, rtol=1e-8)
        np.testing.assert_allclose(
            ours["half_life_s"][rows[place]], math.log(2) / -math.log(1 - kappa) * 0.5, rtol=1e-8
        )
    long = compute("resiliency", spread_bps=d, w=1_400, step_s=1.0)
    assert long["kappa"][-1] == pytest.approx(0.3, abs=0.06)


def test_a_spread_that_does_not_come_back_has_no_half_life() -> None:
    growing = compute("resiliency", spread_bps=1.1 ** np.arange(60.0), w=50)
    np.testing.assert_allclose(growing["kappa"][-1], -0.1, rtol=1e-9)
    assert np.isnan(growing["half_life_s"]).all()
    flat = compute("resiliency", spread_bps=np.full(60, 3.0), w=50)
    assert np.isnan(flat["kappa"]).all()
