"""Perpetuals and futures against closed forms, ledgers and plain loops, on random and on recorded markets."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
NS = 1_000_000_000
HOUR = 3_600 * NS
N = 2_000
BEGIN = 1_769_083_200 * NS


def rng() -> np.random.Generator:
    return np.random.default_rng(12)


def ns_of(times: pd.Series) -> np.ndarray:
    return pd.DatetimeIndex(times).as_unit("ns").asi8


# -- funding ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("symbol", ["ORCAUSDT", "BTCUSDT"])
def test_annual_funding_of_recorded_rates(symbol: str) -> None:
    """ORCA's interval went from 4 h to 1 h: the hours since the settlement before are an input."""
    frame = pd.read_parquet(shared("data/funding/binance_perps_2025/funding.parquet"))
    frame = frame[frame["symbol"] == symbol].sort_values("date")
    rate = frame["funding_rate"].to_numpy()[1:]
    interval_h = frame["date"].diff().dt.total_seconds().to_numpy()[1:] / 3_600.0
    assert (len(np.unique(interval_h)) > 1) == (symbol == "ORCAUSDT")
    ours = compute("funding_apr", rate=rate, interval_h=interval_h)
    np.testing.assert_allclose(ours["apr"], rate * 8_760.0 / interval_h, **CLOSE)
    np.testing.assert_allclose(ours["apy"], (1.0 + rate) ** (8_760.0 / interval_h) - 1.0, rtol=1e-8)
    np.testing.assert_allclose(ours["mean_apr"], pd.Series(ours["apr"]).rolling(21).mean(), rtol=1e-9, atol=1e-12)


def test_mean_funding_over_a_time_and_rates_that_cannot_compound() -> None:
    random = rng()
    t = BEGIN + np.cumsum(random.integers(0, 4, N)) * HOUR
    rate = random.normal(0.0, 1e-3, N)
    ours = compute("funding_apr", t=t, rate=rate, interval_h=np.full(N, 8.0), w="7d")
    theirs = pd.Series(rate * 1_095.0, index=pd.to_datetime(t)).rolling("7D").mean()
    np.testing.assert_allclose(ours["mean_apr"], theirs, rtol=1e-9, atol=1e-12)
    odd = compute("funding_apr", rate=[-1.5, 1e3, 0.1], interval_h=[8.0, 1e-3, 0.0])
    assert np.isnan(odd["apy"]).all()
    assert np.isnan(odd["apr"]).tolist() == [False, False, True]


def ledger(t: np.ndarray, q: np.ndarray, mark: np.ndarray, rate: np.ndarray, every: int) -> np.ndarray:
    """Every settlement of the grid is a booking, at what was last known before it."""
    bookings: list[tuple[int, float]] = []
    at = (int(t[0]) // every + 1) * every
    while at <= t[-1]:
        row = int(np.searchsorted(t, at, side="left")) - 1
        bookings.append((at, -q[row] * mark[row] * rate[row]))
        at += every
    return np.array([sum(flow for when, flow in bookings if when <= now) for now in t.tolist()])


def test_funding_paid_is_the_ledger_of_settlements() -> None:
    random = rng()
    steps = random.integers(1, 1_200, N) * NS
    steps[[300, 900]] += 30 * HOUR  # silences over several settlements
    t = BEGIN + np.cumsum(steps)
    q, mark, rate = random.normal(0.0, 3.0, N), random.uniform(90.0, 110.0, N), random.normal(1e-4, 1e-4, N)
    every = 8 * HOUR
    next_t = (t // every + 1) * every
    ours = compute("funding_cost", t=t, q=q, mark=mark, rate=rate, next_t=next_t)
    np.testing.assert_allclose(ours["paid"], ledger(t, q, mark, rate, every), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(
        ours["accrued"], -q * mark * rate * (1.0 - (next_t - t) / every), rtol=1e-9, atol=1e-12
    )  # fmt: skip
    assert t[-1] - t[0] > 20 * every


@pytest.mark.parametrize("behind_s", [-3, 0, 3])
def test_a_settlement_counts_once_whosever_clock_is_ahead(behind_s: int) -> None:
    """The venue names the next settlement a little before or after our clock reaches this one."""
    t = BEGIN + np.arange(0, 40 * 3_600, 1) * NS
    every = 8 * HOUR
    at_venue = t + behind_s * NS
    next_t = (at_venue // every + 1) * every
    one = np.ones(len(t))
    ours = compute("funding_cost", t=t, q=one, mark=one * 100.0, rate=one * 1e-4, next_t=next_t)
    settlements = (t // every - t[0] // every)[-1]
    assert ours["paid"][-1] == pytest.approx(-0.01 * settlements)
    assert set(np.diff(ours["paid"]).round(9).tolist()) == {0.0, -0.01}


def test_funding_of_a_recorded_year() -> None:
    """Hourly marks and settled rates of BTC: one coin held for the year."""
    rates = pd.read_parquet(shared("data/funding/binance_perps_2025/funding.parquet")).query("symbol == 'BTCUSDT'")
    marks = pd.read_parquet(shared("data/funding/binance_perps_2025/mark_1h.parquet")).query("symbol == 'BTCUSDT'")
    rates, marks = rates.sort_values("date"), marks.sort_values("date")
    settles, t = ns_of(rates["date"]), ns_of(marks["date"])
    following = np.minimum(np.searchsorted(settles, t, side="right"), len(settles) - 1)
    kept = (settles[following] > t) & (t >= settles[0])
    t, following, mark = t[kept], following[kept], marks["open"].to_numpy()[kept]
    rate = rates["funding_rate"].to_numpy()[following]
    ours = compute("funding_cost", t=t, q=np.ones(len(t)), mark=mark, rate=rate, next_t=settles[following])
    last = np.searchsorted(t, settles, side="left") - 1
    booked = (last >= 0) & (settles <= t[-1])
    expected = -(mark[last] * rates["funding_rate"].to_numpy())[booked].sum()
    assert ours["paid"][-1] == pytest.approx(expected, rel=1e-12)
    assert booked.sum() > 1_000


def test_continuous_funding_follows_the_venues_index() -> None:
    random = rng()
    q, index = random.normal(0.0, 3.0, N), np.cumsum(random.normal(0.0, 1.0, N))
    columns = {"t": BEGIN + np.arange(N), "q": q, "mark": np.full(N, 9.0), "rate": index, "next_t": np.zeros(N)}
    ours = compute("funding_cost", **columns, method="continuous")
    np.testing.assert_allclose(ours["paid"][1:], np.cumsum(-q[:-1] * np.diff(index)), rtol=1e-9, atol=1e-9)
    assert not ours["accrued"].any()


def test_break_even_is_the_first_whole_interval_that_covers_the_cost() -> None:
    random = rng()
    cost = np.concatenate([random.uniform(0.1, 60.0, N), [3.0, 3.0, -2.0, 5.0]])
    rate = np.concatenate([random.uniform(1e-5, 3e-3, N), [0.0003, 0.0, 0.0001, -0.0001]])
    ours = compute("funding_breakeven", cost_bps=cost, rate=rate, interval_h=4.0)
    intervals = ours["intervals"]
    assert (intervals[:N] * rate[:N] * 1e4 >= cost[:N] * (1.0 - 1e-11)).all()
    assert ((intervals[:N] - 1.0) * rate[:N] * 1e4 < cost[:N]).all()
    np.testing.assert_array_equal(intervals[N:], [1.0, np.nan, 0.0, np.nan])
    np.testing.assert_array_equal(ours["hours"], 4.0 * intervals)


# -- basis ------------------------------------------------------------------------------------------------------------


def test_basis_a_year_and_none_for_a_perpetual() -> None:
    random = rng()
    spot, future, days = random.uniform(90.0, 110.0, N), random.uniform(90.0, 110.0, N), random.uniform(0.1, 200.0, N)
    days[:50] = 0.0
    ours = compute("basis_annualized", S=spot, F=future, days=days)
    years = np.where(days > 0.0, days, np.nan) / 365.0
    np.testing.assert_allclose(ours["simple"], (future / spot - 1.0) / years, **CLOSE)
    np.testing.assert_allclose(ours["log"], np.log(future / spot) / years, rtol=1e-9, atol=1e-12)


def test_the_term_structure_is_a_line_through_the_basis_of_its_tenors() -> None:
    random = rng()
    years, spot = random.uniform(0.02, 1.5, (300, 5)), random.uniform(90.0, 110.0, 300)
    futures = spot[:, None] * (1.0 + years * random.normal(0.05, 0.04, (300, 5)))
    futures[random.random((300, 5)) < 0.3] = np.nan
    ours = compute("term_structure", YEARS=years, FUTURES=futures, S=spot, tenors=5)
    for row in range(300):
        there = np.flatnonzero(~np.isnan(futures[row]))
        basis = (futures[row] / spot[row] - 1.0) / years[row]
        shown = [ours[f"basis_{k + 1}"][row] for k in range(5)]
        if len(there) < 2:
            assert np.isnan([*shown, ours["slope"][row], ours["curvature"][row]]).all()
            assert ours["contango"][row] == -128
            continue
        np.testing.assert_allclose(shown, basis, rtol=1e-12)
        slope = np.polyfit(years[row, there], basis[there], 1)[0]
        assert ours["slope"][row] == pytest.approx(slope, rel=1e-8)
        nearest = basis[there[np.argsort(years[row, there])]][:3]
        curvature = np.diff(nearest, 2)[0] if len(there) >= 3 else np.nan
        assert ours["curvature"][row] == pytest.approx(curvature, nan_ok=True)
        signs = set(np.sign(basis[there]))
        assert ours["contango"][row] == (int(signs.pop()) if len(signs) == 1 else 0)
    assert {-128, -1, 0, 1} >= set(ours["contango"].tolist()) >= {0, 1}


def test_a_matrix_has_one_column_a_tenor() -> None:
    with pytest.raises(KernelError, match=r"term_structure: FUTURES has the shape \(4, 2\); it must be rows × 3"):
        compute("term_structure", YEARS=np.ones((4, 3)), FUTURES=np.ones((4, 2)), S=np.ones(4))


def test_cash_and_carry_is_basis_or_funding_less_costs() -> None:
    random = rng()
    spot, fees, r = random.uniform(90.0, 110.0, N), random.uniform(0.0, 30.0, N), random.uniform(0.0, 0.1, N)
    future, days = spot * random.uniform(0.98, 1.05, N), random.uniform(1.0, 200.0, N)
    dated = compute("cash_and_carry_edge", S=spot, F=future, fees_bps=fees, r=r, term=days)
    apr = ((future - spot) / spot - fees / 1e4) * 365.0 / days - r
    np.testing.assert_allclose(dated["edge_apr"], apr, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(dated["edge_bps"], apr * days / 365.0 * 1e4, rtol=1e-9, atol=1e-9)
    free = compute("cash_and_carry_edge", S=spot, F=future, fees_bps=0.0 * fees, r=0.0 * r, term=days)
    np.testing.assert_allclose(
        free["edge_apr"], compute("basis_annualized", S=spot, F=future, days=days)["simple"], rtol=1e-8, atol=1e-12
    )
    rate = random.normal(1e-4, 1e-4, N)
    held = compute(
        "cash_and_carry_edge", S=spot, F=future, fees_bps=fees, r=r, term=rate, kind="perpetual", interval_h=4.0, hold_h=240.0
    )  # fmt: skip
    apr = rate * 8_760.0 / 4.0 - fees / 1e4 * 8_760.0 / 240.0 - r
    np.testing.assert_allclose(held["edge_apr"], apr, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(held["edge_bps"], apr * 240.0 / 8_760.0 * 1e4, rtol=1e-9, atol=1e-9)


# -- fair price -------------------------------------------------------------------------------------------------------


def perpetual() -> dict[str, np.ndarray]:
    random = rng()
    t = BEGIN + np.cumsum(random.integers(0, 20_000, N)) * (NS // 1_000)
    index = 100.0 * np.exp(np.cumsum(random.normal(0.0, 1e-3, N)))
    mid = index * (1.0 + random.normal(1e-4, 1e-3, N))
    return {
        "t": t, "index": index, "rate": random.normal(1e-4, 1e-3, N), "next_t": (t // (8 * HOUR) + 1) * 8.0 * HOUR,
        "b": mid - 0.01, "a": mid + 0.01, "last": mid + random.normal(0.0, 0.02, N),
    }  # fmt: skip


def test_the_mark_is_the_median_of_three() -> None:
    given = perpetual()
    ours = compute("perp_fair_price", **given)
    t, index = given["t"], given["index"]
    price1 = index * (1.0 + given["rate"] * (given["next_t"] - t) / (8 * HOUR))
    premium = pd.Series((given["a"] + given["b"]) / 2.0 - index, index=pd.to_datetime(t))
    price2 = index + premium.rolling("300s").mean().to_numpy()
    np.testing.assert_allclose(ours["price1"], price1, **CLOSE)
    np.testing.assert_allclose(ours["price2"], price2, **CLOSE)
    np.testing.assert_allclose(ours["mark"], np.median([price1, price2, given["last"]], axis=0), **CLOSE)
    funding = compute("perp_fair_price", **given, method="funding", ma=20)
    assert funding["mark"].tolist() == ours["price1"].tolist()
    counted = index + premium.rolling(20).mean().to_numpy()
    np.testing.assert_allclose(funding["price2"], counted, **CLOSE)


def test_without_arbitrage_funding_pays_the_difference_of_interest() -> None:
    """The premium that is paid κ times a year is what the position's interest earns: κ(f − index) = (r_q − r_b)f."""
    given = perpetual()
    f = compute("perp_fair_price", **given, method="no_arbitrage", r_quote=0.06, r_base=0.01, interval_h=8.0)["mark"]
    np.testing.assert_allclose(8_760.0 / 8.0 * (f - given["index"]), (0.06 - 0.01) * f, rtol=1e-9)
    with pytest.raises(KernelError, match=r"perp_fair_price: r_quote=2000\.0: "):
        Streaming("perp_fair_price", r_quote=2_000.0)


# -- open interest ----------------------------------------------------------------------------------------------------


def naive_interest(t: np.ndarray, oi: np.ndarray, p: np.ndarray, lag_ns: int) -> list[tuple[float, float, int]]:
    states = {(1, 1): 1, (1, -1): 2, (-1, 1): 3, (-1, -1): 4}
    rows = []
    for now, interest, price in zip(t.tolist(), oi, p, strict=True):
        before = np.flatnonzero(t <= now - lag_ns)
        if len(before) == 0:
            rows.append((np.nan, np.nan, -128))
            continue
        was = before[-1]
        delta = interest - oi[was]
        signs = (int(np.sign(price - p[was])), int(np.sign(delta)))
        rows.append((delta, 100.0 * delta / oi[was], states.get(signs, 0)))
    return rows


@pytest.mark.parametrize("coin", ["BTC", "DOGE"])
def test_open_interest_of_a_recorded_venue(coin: str) -> None:
    """Hyperliquid's open interest, about hourly, with the hourly closes of the same coin's perpetual at Binance."""
    folder = "data/funding/perps_7venues_2025"
    interest = pd.read_parquet(shared(f"{folder}/open_interest.parquet"))
    closes = pd.read_parquet(shared(f"{folder}/candles.parquet"))
    interest = interest[(interest["venue"] == "hyperliquid") & (interest["coin"] == coin)].sort_values("timestamp")
    closes = closes[(closes["venue"] == "binance") & (closes["coin"] == coin)].sort_values("timestamp")
    both = pd.merge_asof(interest, closes[["timestamp", "c"]], on="timestamp").dropna()
    t, oi, p = ns_of(both["timestamp"]), both["oi_usd"].to_numpy(), both["c"].to_numpy()
    ours = compute("open_interest_delta", t=t, oi=oi, p=p, lag="4h")
    theirs = naive_interest(t, oi, p, 4 * HOUR)
    np.testing.assert_allclose(ours["delta"], [row[0] for row in theirs], **CLOSE)
    np.testing.assert_allclose(ours["pct"], [row[1] for row in theirs], **CLOSE)
    assert ours["state"].tolist() == [row[2] for row in theirs]
    assert {1, 2, 3, 4} <= set(ours["state"].tolist())


def test_open_interest_with_equal_times_and_back_by_rows() -> None:
    random = rng()
    t = BEGIN + np.cumsum(random.integers(0, 3, N)) * NS
    oi, p = random.integers(10, 14, N).astype(float), random.integers(10, 14, N).astype(float)
    ours = compute("open_interest_delta", t=t, oi=oi, p=p, lag="30s")
    theirs = naive_interest(t, oi, p, 30 * NS)
    np.testing.assert_allclose(ours["delta"], [row[0] for row in theirs], **CLOSE)
    assert ours["state"].tolist() == [row[2] for row in theirs]
    by_rows = compute("open_interest_delta", oi=oi, p=p, lag=7)
    assert by_rows["delta"][7:].tolist() == (oi[7:] - oi[:-7]).tolist()
    assert np.isnan(by_rows["delta"][:7]).all()
    assert math.isnan(compute("open_interest_delta", oi=[0.0, 1.0], p=[1.0, 1.0], lag=1)["pct"][1])
