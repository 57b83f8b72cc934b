"""Foreign exchange against closed forms, every path over a graph of currencies, the time zone database and plain loops."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import pytest

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

CLOSE = {"rtol": 1e-12, "atol": 1e-9, "equal_nan": True}
NS = 1_000_000_000
N = 2_000


def rng() -> np.random.Generator:
    return np.random.default_rng(11)


# -- quotes -----------------------------------------------------------------------------------------------------------


def paths(quotes: dict[tuple[str, str], tuple[float, float, float]], start: str) -> dict[tuple[str, ...], float]:
    """What one unit of a currency becomes along every cycle through the two others."""
    rates: dict[tuple[str, str], float] = {}
    for (base, quote), (b, a, fee) in quotes.items():
        rates[base, quote] = b * (1.0 - fee)
        rates[quote, base] = (1.0 - fee) / a
    others = sorted({name for pair in quotes for name in pair} - {start})
    found = {}
    for middle in itertools.permutations(others):
        cycle = (start, *middle, start)
        found[cycle] = float(np.prod([rates[hop] for hop in itertools.pairwise(cycle)]))
    return found


def test_a_triangle_is_every_path_over_the_currencies() -> None:
    random = rng()
    mids = {("BTC", "USDT"): 60_000.0, ("ETH", "BTC"): 0.05, ("ETH", "USDT"): 3_000.0}
    fees = (10.0, 7.5, 0.0)
    columns: dict[str, list[float]] = {name: [] for name in ("b1", "a1", "b2", "a2", "b3", "a3")}
    expected = []
    for _ in range(200):
        quotes = {}
        for leg, ((pair, mid), fee) in enumerate(zip(mids.items(), fees, strict=True), start=1):
            moved = mid * (1.0 + random.normal(0.0, 2e-3))
            b, a = moved * (1.0 - 1e-4), moved * (1.0 + random.random() * 1e-3)
            columns[f"b{leg}"].append(b)
            columns[f"a{leg}"].append(a)
            quotes[pair] = (b, a, fee / 1e4)
        found = paths(quotes, "USDT")
        expected.append((found["USDT", "BTC", "ETH", "USDT"], found["USDT", "ETH", "BTC", "USDT"]))
    ours = compute("triangular_arbitrage", **columns, fee_bps=fees)
    forward, reverse = np.array(expected).T
    np.testing.assert_allclose(ours["edge_fwd_bps"], (forward - 1.0) * 1e4, **CLOSE)
    np.testing.assert_allclose(ours["edge_rev_bps"], (reverse - 1.0) * 1e4, **CLOSE)
    assert ours["best"].tolist() == np.where(forward >= reverse, 1, -1).tolist()
    assert {1, -1} <= set(ours["best"].tolist())
    same_fee = compute("triangular_arbitrage", **columns, fee_bps=7.5)
    assert same_fee["edge_fwd_bps"].tolist() == compute(
        "triangular_arbitrage", **columns, fee_bps=(7.5, 7.5, 7.5)
    )["edge_fwd_bps"].tolist()  # fmt: skip


def test_a_triangle_of_recorded_closes_shows_the_broken_peg() -> None:
    """Kraken, March 2023: USDC lost its peg on the 10th – 13th; BTC/USD, BTC/USDC and USDC/USD disagree by over a percent."""
    frames = [
        pd.read_parquet(shared(f"data/market/usdc_depeg_2023-03/kraken_{pair}.parquet"))["close"]
        for pair in ("btcusdc", "usdcusd", "btcusd")
    ]
    closes = pd.concat(frames, axis=1, join="inner", keys=["btcusdc", "usdcusd", "btcusd"]).astype(float)
    assert len(closes) > 1_000
    # USD → USDC → BTC → USD: two bases bought, one sold
    quotes = {}
    for leg, pair in enumerate(("usdcusd", "btcusdc", "btcusd"), start=1):
        quotes |= {f"b{leg}": closes[pair], f"a{leg}": closes[pair]}
    ours = compute("triangular_arbitrage", **quotes)
    expected = (closes["btcusd"] / (closes["btcusdc"] * closes["usdcusd"]) - 1.0) * 1e4
    np.testing.assert_allclose(ours["edge_fwd_bps"], expected, rtol=1e-9, atol=1e-7)
    assert max(ours["edge_fwd_bps"].max(), ours["edge_rev_bps"].max()) > 100.0


def test_a_crossed_quote_is_not_executable() -> None:
    quotes = {"b1": [1.0, 2.0], "a1": [1.1, 1.9], "b2": [1.0] * 2, "a2": [1.1] * 2}
    assert np.isnan(compute("triangular_arbitrage", **quotes, b3=[1.0] * 2, a3=[1.1] * 2)["edge_fwd_bps"]).tolist() == [
        False, True,
    ]  # fmt: skip
    assert np.isnan(compute("fx_cross_price", **quotes)["bid"]).tolist() == [False, True]


@pytest.mark.parametrize(
    ("name", "value"), [("sides", (1.0, 1.0)), ("sides", (1.0, 0.5, -1.0)), ("fee_bps", (1.0, 2.0))]
)
def test_a_triangle_has_three_legs(name: str, value: tuple[float, ...]) -> None:
    with pytest.raises(KernelError, match=f"triangular_arbitrage: {name}="):
        Streaming("triangular_arbitrage", **{name: value})


@pytest.mark.parametrize("invert1", [False, True])
@pytest.mark.parametrize("invert2", [False, True])
def test_a_cross_is_what_two_trades_give(invert1: bool, invert2: bool) -> None:
    """Sell A for U and buy B with it, or the other way round."""
    random = rng()
    b1, b2 = random.uniform(1.0, 2.0, N), random.uniform(0.5, 0.9, N)
    a1, a2 = b1 * 1.001, b2 * 1.002
    ours = compute("fx_cross_price", b1=b1, a1=a1, b2=b2, a2=a2, invert1=invert1, invert2=invert2)
    u_for_a, a_for_u = (1.0 / a1, b1) if invert1 else (b1, 1.0 / a1)
    u_for_b, b_for_u = (1.0 / a2, b2) if invert2 else (b2, 1.0 / a2)
    np.testing.assert_allclose(ours["bid"], u_for_a * b_for_u, **CLOSE)
    np.testing.assert_allclose(ours["ask"], 1.0 / (u_for_b * a_for_u), **CLOSE)
    assert (ours["ask"] > ours["bid"]).all()


def test_pips_and_profit() -> None:
    assert compute("pip_value", units=[100_000.0], conv=[1.0])["value"].tolist() == pytest.approx([10.0])  # EUR/USD
    yen = compute("pip_value", units=[100_000.0, 1.0], conv=[1 / 150.0, 0.0], pip=1e-2)["value"]
    assert yen[0] == pytest.approx(1_000.0 / 150.0)
    assert np.isnan(yen[1])


def test_profit_is_the_sum_of_its_parts() -> None:
    random = rng()
    q, p0, p1, x0, x1 = random.normal(0.0, 5.0, N), *random.uniform(0.5, 150.0, (4, N))
    ours = compute("pnl_fx", q=q, p0=p0, p1=p1, x0=x0, x1=x1)
    np.testing.assert_allclose(ours["pnl"], q * (p1 * x1 - p0 * x0), rtol=1e-12, atol=1e-9)
    parts = ours["price_part"] + ours["fx_part"] + ours["cross_part"]
    np.testing.assert_allclose(parts, ours["pnl"], rtol=1e-9, atol=1e-8)
    still = compute("pnl_fx", q=q, p0=p0, p1=p0, x0=x0, x1=x1)
    assert not still["price_part"].any()
    assert not still["cross_part"].any()


# -- forwards ---------------------------------------------------------------------------------------------------------


def forwards() -> dict[str, np.ndarray]:
    random = rng()
    return {
        "S": random.uniform(0.5, 160.0, N), "r_base": random.uniform(-0.01, 0.2, N), "r_quote": random.uniform(-0.01, 0.2, N),
        "tau": random.uniform(0.0, 3.0, N),
    }  # fmt: skip


@pytest.mark.parametrize("compounding", ["simple", "continuous"])
def test_a_forward_is_the_money_grown_on_both_sides(compounding: str) -> None:
    given = forwards()
    spot, base, quote, tau = given.values()
    ours = compute("forward_points", **given, compounding=compounding, pip=1e-2)
    expected = (
        spot * (1.0 + quote * tau) / (1.0 + base * tau)
        if compounding == "simple"
        else spot * np.exp(quote * tau) / np.exp(base * tau)
    )
    np.testing.assert_allclose(ours["F"], expected, **CLOSE)
    np.testing.assert_allclose(ours["points"], (expected - spot) / 1e-2, rtol=1e-9, atol=1e-9)


def test_a_forward_at_parity_has_no_basis_and_quoting_does_not_matter() -> None:
    given = forwards() | {"tau": rng().uniform(0.1, 3.0, N)}  # USD is the base: S is foreign per USD
    forward = compute("forward_points", **given, compounding="continuous")["F"]
    rates = {"r_usd": given["r_base"], "r_for": given["r_quote"], "tau": given["tau"]}
    np.testing.assert_allclose(compute("cip_basis", S=given["S"], F=forward, **rates)["basis_bps"], 0.0, atol=1e-9)
    dear = forward * np.exp(-20e-4 * given["tau"])
    ours = compute("cip_basis", S=given["S"], F=dear, **rates)["basis_bps"]
    np.testing.assert_allclose(ours, -20.0, rtol=1e-9)
    other = compute("cip_basis", S=1.0 / given["S"], F=1.0 / dear, **rates, quote="usd_per_foreign")["basis_bps"]
    np.testing.assert_allclose(other, ours, rtol=1e-9)
    assert np.isnan(compute("cip_basis", S=[1.0], F=[1.0], r_usd=[0.0], r_for=[0.0], tau=[0.0])["basis_bps"]).all()


def test_carry_is_the_forward_discount_a_year() -> None:
    random = rng()
    spot, forward = random.uniform(0.9, 1.1, (2, N))
    tau, vol = random.uniform(0.01, 1.0, N), random.uniform(0.0, 0.3, N)
    vol[:10] = 0.0
    ours = compute("carry_signal", S=spot, F=forward, tau=tau, vol=vol)
    carry = (spot - forward) / (forward * tau)
    np.testing.assert_allclose(ours["carry"], carry, **CLOSE)
    np.testing.assert_allclose(ours["carry_to_vol"], carry / np.where(vol > 0.0, vol, np.nan), **CLOSE)


# -- the fix ----------------------------------------------------------------------------------------------------------


def schedule(t: np.ndarray, q: np.ndarray, window_s: float) -> tuple[np.ndarray, np.ndarray]:
    """With the time zone database: the day on London's clocks, and its fix."""
    london = ZoneInfo("Europe/London")
    targets, slices, last, day = [], [], 0.0, None
    for now_ns, amount in zip(t.tolist(), q.tolist(), strict=True):
        local = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=now_ns // NS)).astimezone(london)
        begin_s = local.replace(hour=16, minute=0, second=0).timestamp() - window_s / 2
        if local.date() != day:
            day, last = local.date(), 0.0
        target = amount * min(1.0, max(0.0, (now_ns - begin_s * NS) / (window_s * NS)))
        targets.append(target)
        slices.append(target - last)
        last = target
    return np.array(targets), np.array(slices)


def test_the_fix_is_at_four_on_londons_clocks_from_1996_to_2037() -> None:
    days = pd.date_range("1996-01-01", "2037-12-31", freq="D", tz="Europe/London")
    fixes = pd.DatetimeIndex([day.replace(hour=16).tz_convert("UTC") for day in days])
    at = fixes.as_unit("ns").asi8
    t = np.sort(np.concatenate([at - 151 * NS, at - 75 * NS, at, at + 149 * NS, at + 150 * NS, at + 7 * 3_600 * NS]))
    ours = compute("wmr_schedule", t=t, Q=np.full(len(t), 40.0))
    assert ours["target"].reshape(-1, 6) == pytest.approx(
        np.tile([0.0, 10.0, 20.0, 40.0 * 299 / 300, 40.0, 40.0], (len(at), 1))
    )
    assert ours["slice"].reshape(-1, 6).sum(axis=1) == pytest.approx(40.0)


@pytest.mark.parametrize("around", ["2025-03-29", "2025-10-25", "2026-01-22"])
def test_the_schedule_is_the_naive_one_across_changes_of_the_clocks(around: str) -> None:
    random = rng()
    begin = pd.Timestamp(around, tz="UTC").value
    t = np.sort(begin + random.integers(0, 3 * 86_400, N) * NS)
    day_s = (t // NS) % 86_400
    near = np.abs(day_s - 16 * 3_600) < 3_700  # a third of the rows around the fixes
    t = np.sort(np.concatenate([t, t[near] // NS // 3_600 * 3_600 * NS + random.integers(-200, 200, near.sum()) * NS]))
    q = random.normal(0.0, 100.0, len(t))
    ours = compute("wmr_schedule", t=t, Q=q, window_s=60.0)
    targets, slices = schedule(t, q, 60.0)
    np.testing.assert_allclose(ours["target"], targets, **CLOSE)
    np.testing.assert_allclose(ours["slice"], slices, **CLOSE)


def test_the_window_lies_within_the_day() -> None:
    with pytest.raises(KernelError, match="wmr_schedule: fix_s=60, window_s=300: the window around it"):
        Streaming("wmr_schedule", fix_s=60)


def naive_impacts(t: np.ndarray, p: np.ndarray, fix: np.ndarray, fill: np.ndarray, pre: int, post: int) -> np.ndarray:
    rows = []
    for row in np.flatnonzero(fix):
        if t[-1] <= t[row] + post:
            continue
        before, after = p[t <= t[row] - pre], p[t <= t[row] + post]
        sign = 1e4 * np.sign(fix[row])
        was = before[-1] if len(before) else np.nan
        rows.append(
            (row, sign * (p[row] / was - 1.0), sign * (fill[row] / p[row] - 1.0), sign * (after[-1] / p[row] - 1.0))
        )
    return np.array(rows)


@pytest.mark.parametrize(("pre", "post"), [("15m", "15m"), ("40s", "5m")])
def test_impact_of_fixes_is_the_naive_one(pre: str, post: str) -> None:
    random = rng()
    t = 1_769_083_200 * NS + np.cumsum(random.integers(0, 9, N)) * NS  # equal times are among them
    p = 100.0 * np.exp(np.cumsum(random.normal(0.0, 1e-4, N)))
    fix = np.where(random.random(N) < 0.02, random.choice([-1.0, 1.0], N), 0.0)
    fill = p * (1.0 + random.normal(0.0, 1e-4, N))
    ours = compute("fix_impact", t=t, p=p, fix=fix, fill=fill, pre=pre, post=post)
    spans = [pd.Timedelta(one.replace("m", "min")).value for one in (pre, post)]
    theirs = naive_impacts(t, p, fix, fill, *spans)
    assert ours["row"].tolist() == theirs[:, 0].tolist()
    for k, name in enumerate(("pre_bps", "slip_bps", "revert_bps"), start=1):
        np.testing.assert_allclose(ours[name], theirs[:, k], rtol=1e-8, atol=1e-7)
    assert len(theirs) > 20


def test_a_fix_in_recorded_prices() -> None:
    """Kraken's BTC/USD at 16:00 London time (UTC in March 2023 until the 26th), one fix a day."""
    candles = pd.read_parquet(shared("data/market/usdc_depeg_2023-03/kraken_btcusd.parquet")).sort_index()
    stamps = pd.DatetimeIndex(candles.index).as_unit("ns")
    t, p = stamps.asi8, candles["close"].to_numpy(dtype=float)
    fix = ((stamps.hour == 16) & (stamps.minute == 0)).astype(float)
    ours = compute("fix_impact", t=t, p=p, fix=fix, fill=p)
    theirs = naive_impacts(t, p, np.asarray(fix), p, 900 * NS, 900 * NS)
    assert len(ours["row"]) == len(theirs) >= 18
    np.testing.assert_allclose(ours["pre_bps"], theirs[:, 1], rtol=1e-8, atol=1e-7)
    np.testing.assert_allclose(ours["revert_bps"], theirs[:, 3], rtol=1e-8, atol=1e-7)
    assert not ours["slip_bps"].any()
