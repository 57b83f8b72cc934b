"""Average prices and costs of fills against pandas, naive loops in exact fractions, closed forms and identities."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
NS = 1_000_000_000
DAY = 86_400 * NS
BEGIN = 1_769_083_200 * NS  # midnight
N = 2_000


def rng() -> np.random.Generator:
    return np.random.default_rng(8)


@pytest.fixture(scope="module")
def trades() -> pd.DataFrame:
    """Recorded trades of a perpetual."""
    return pd.read_parquet(shared("data/market/binance_depth1000_2026-02-16/trades_btc_fut_2026-02-16_04.parquet"))


def made_trades(n: int = N, *, days: float = 3.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times over some days, prices, quantities, some of which are 0."""
    random = rng()
    t = BEGIN + np.sort(random.integers(0, int(days * DAY), n))
    return t, 100.0 + np.cumsum(random.normal(0, 0.1, n)), random.pareto(1.5, n) * (random.random(n) > 0.05)


def weighted(p: np.ndarray, q: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation of these trades, in exact sums."""
    rows = [(Fraction(a), Fraction(b)) for a, b in zip(p.tolist(), q.tolist(), strict=True)]
    total = sum(b for _, b in rows)
    if total == 0:
        return math.nan, math.nan
    mean = sum(a * b for a, b in rows) / total
    return float(mean), math.sqrt(math.fsum(b * (a - mean) ** 2 for a, b in rows) / total)


# -- vwap -------------------------------------------------------------------------------------------------------------


def test_vwap_begins_anew_at_midnight_as_pandas_groups_days() -> None:
    t, p, q = made_trades()
    q[:3] = 0.0
    days = pd.DataFrame({"pq": p * q, "ppq": (p - 100.0) ** 2 * q, "q": q}).groupby(t // DAY).cumsum()
    ours = compute("vwap", t=t, p=p, q=q)
    theirs = (days["pq"] / days["q"]).to_numpy()
    np.testing.assert_allclose(ours["vwap"], theirs, **CLOSE)
    assert np.isnan(ours["vwap"][:3]).all()
    variance = np.maximum(days["ppq"] / days["q"] - (theirs - 100.0) ** 2, 0.0)
    np.testing.assert_allclose(ours["std"], np.sqrt(variance), rtol=1e-6, atol=1e-6, equal_nan=True)


def test_recorded_vwap_is_that_of_pandas(trades: pd.DataFrame) -> None:
    p, q = trades["price"].to_numpy(float), trades["qty"].to_numpy(float)
    ours = compute("vwap", p=p, q=q, reset="never")
    np.testing.assert_allclose(ours["vwap"], np.cumsum(p * q) / np.cumsum(q), rtol=1e-12)
    for row in (0, 1, 777, 11_000):
        mean, std = weighted(p[: row + 1], q[: row + 1])
        np.testing.assert_allclose([ours["vwap"][row], ours["std"][row]], [mean, std], rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("w", [50, "2h"])
def test_vwap_of_a_window_is_that_of_its_trades(w: int | str) -> None:
    t, p, q = made_trades(days=1.0)
    q[500] = 1e9  # when it leaves, next to nothing is left of the sums
    p[1_000:1_200], q[1_300:1_400] = 77.0, 0.0
    ours = compute("vwap", t=t, p=p, q=q, w=w)
    for row in (*range(49, N, 37), *range(545, 605), *range(1_040, 1_060), *range(1_340, 1_360)):
        begin = row - 49 if w == 50 else int(np.searchsorted(t, t[row] - 7_200 * NS, side="right"))
        mean, std = weighted(p[begin : row + 1], q[begin : row + 1])
        np.testing.assert_allclose(ours["vwap"][row], mean, rtol=1e-10, equal_nan=True, err_msg=str(row))
        np.testing.assert_allclose(ours["std"][row], std, rtol=1e-7, atol=1e-9, equal_nan=True, err_msg=str(row))
    assert np.isnan(ours["vwap"][:49]).all() == (w == 50)
    assert (ours["std"][1_197:1_200] == 0.0).all()


def test_vwap_keeps_its_digits_far_from_zero() -> None:
    _, p, q = made_trades()
    p = 1e9 + (p - 100.0)
    for row, settings in ((N - 1, {"reset": "never"}), (N - 1, {"w": 100})):
        ours = compute("vwap", p=p, q=q, **settings)
        mean, std = weighted(p[-settings.get("w", N) :], q[-settings.get("w", N) :])
        np.testing.assert_allclose([ours["vwap"][row], ours["std"][row]], [mean, std], rtol=1e-7)


@pytest.mark.parametrize("at", [0, 1, 400, 667, 1_333, 1_999, N])
def test_pieces_merge_on_whatever_side_of_midnight_they_are_cut(at: int) -> None:
    t, p, q = made_trades()
    whole, first, later = (Streaming("vwap") for _ in range(3))
    whole.update(t, p=p, q=q)
    first.update(t[:at], p=p[:at], q=q[:at])
    later.update(t[at:], p=p[at:], q=q[at:])
    both = first.merge(later)
    for after in (t[-1] + 1, t[-1] + DAY):
        ours, theirs = (one.update([after], p=[101.0], q=[0.5]) for one in (both, whole))
        np.testing.assert_allclose([ours["vwap"], ours["std"]], [theirs["vwap"], theirs["std"]], rtol=1e-12)


def test_states_of_a_window_are_not_merged() -> None:
    with pytest.raises(KernelError, match="vwap: states of a window w cannot be merged"):
        Streaming("vwap", w=3).merge(Streaming("vwap", w=3))


# -- twap -------------------------------------------------------------------------------------------------------------


def naive_twap(t: list[int], p: list[float], row: int, span: int | None) -> float:
    """The integral of the price that held until this row, in exact fractions."""
    now = t[row]
    begin = t[0] if span is None else max(t[0], now - span)
    held = ((p[k], min(t[k + 1], now) - max(t[k], begin)) for k in range(row))
    area = sum(Fraction(price) * ns for price, ns in held if ns > 0)
    return float(area / (now - begin)) if now > begin else p[row]


@pytest.mark.parametrize("w", ["60s", "5s", None])
def test_twap_is_the_integral_of_the_price_that_held(w: str | None) -> None:
    random, n = rng(), 600
    gaps = random.choice([0, NS // 3, NS, 7 * NS, 300 * NS], n, p=[0.2, 0.3, 0.3, 0.19, 0.01])
    t = BEGIN + np.cumsum(gaps)
    p = 100.0 + np.cumsum(random.normal(0, 0.1, n))
    p[300:350] = np.nan
    ours = compute("twap", t=t, p=p, w=w) if w else compute("twap", t=t, p=p, anchored=True)
    good = np.isfinite(p)
    span = {"60s": 60 * NS, "5s": 5 * NS, None: None}[w]
    times, prices = t[good].tolist(), p[good].tolist()
    theirs = [naive_twap(times, prices, row, span) for row in range(len(times))]
    np.testing.assert_allclose(ours["twap"][good], theirs, rtol=1e-12)
    assert np.isnan(ours["twap"][~good]).all()


def test_twap_of_long_windows_far_from_zero_keeps_its_digits(trades: pd.DataFrame) -> None:
    n = 11_900
    p, t = 1e9 + trades["price"].to_numpy(float)[:n], BEGIN + np.arange(n) * NS // 100
    ours = compute("twap", t=t, p=p, w="5s")
    for row in (*range(0, 600, 50), 5_000, n - 1):
        first = max(0, row - 500)  # rows are 10 ms apart
        theirs = naive_twap(t[first : row + 1].tolist(), p[first : row + 1].tolist(), row - first, 5 * NS)
        np.testing.assert_allclose(ours["twap"][row], theirs, rtol=1e-15)


def test_one_price_is_its_own_average_to_the_last_bit() -> None:
    t = BEGIN + np.cumsum(rng().integers(0, NS, N))
    for settings in ({"w": "7s"}, {"anchored": True}):
        assert (compute("twap", t=t, p=np.full(N, 0.1), **settings)["twap"] == 0.1).all()
    ours = compute("vwap", p=np.full(N, 0.1), q=rng().random(N), w=20)
    assert (ours["vwap"][19:] == 0.1).all()
    assert (ours["std"][19:] == 0.0).all()


# -- pov --------------------------------------------------------------------------------------------------------------


def test_pov_takes_its_share_of_all_volume() -> None:
    random, rate = rng(), 0.2
    market = random.pareto(2.0, N)
    order, done, others = Streaming("pov", rate=rate), 0.0, 0.0
    for quantity in market[:300]:
        others += quantity
        answer = order.update(q=[quantity], done=[done])
        np.testing.assert_allclose(answer["target"], others * rate / (1.0 - rate), rtol=1e-12)
        done += answer["child"][0]
        np.testing.assert_allclose(done / (done + others), rate, rtol=1e-12)  # own share of the total


def test_own_fills_in_the_market_s_volume_are_not_chased() -> None:
    order, done, shown = Streaming("pov", rate=0.2, own_included=True), 0.0, 0.0
    child = 0.0
    for quantity in rng().pareto(2.0, 200):
        shown += quantity + child  # the venue prints our child too
        answer = order.update(q=[quantity + child], done=[done])
        child = answer["child"][0]
        done += child
        np.testing.assert_allclose(done / (shown + child), 0.2, rtol=1e-9)


def test_pov_children_are_whole_lots_never_negative_and_end_at_the_cap() -> None:
    q, done = np.array([9.0, 0.0, np.nan, 9.0, 9.0, 900.0, 2.7]), np.array([0.0, 1.5, 0.0, 1.2, 2.7, 4.0, 7.0])
    ours = compute("pov", q=q, done=done, cap=5.0, lot=0.3)
    np.testing.assert_allclose(ours["target"], [1.0, 1.0, np.nan, 2.0, 3.0, 5.0, 5.0], rtol=1e-15)
    np.testing.assert_allclose(ours["child"], [0.9, 0.0, np.nan, 0.6, 0.3, 0.9, 0.0], rtol=1e-15)


# -- what fills have cost ---------------------------------------------------------------------------------------------


def fills(n: int = 200) -> dict[str, np.ndarray]:
    """Fills of one order, each out of a child order of its own."""
    random = rng()
    send = 100.0 + np.cumsum(random.normal(0, 0.05, n))
    q = random.random(n) * (random.random(n) > 0.1)
    q[0] = 1.0
    return {"p": send + random.normal(0.02, 0.02, n), "q": q, "fee": q * random.normal(0.03, 0.02, n), "send": send}


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_shortfall_is_the_paper_portfolio_less_the_real_one(side: float) -> None:
    given = fills()
    n, wanted, decision = len(given["p"]), 150.0, 99.5
    end = given["p"] + 0.3
    ours = compute(
        "implementation_shortfall", p=given["p"], q=given["q"], fee=given["fee"], p_dec=np.full(n, decision),
        p_send=given["send"], p_end=end, Q=np.full(n, wanted), side=np.full(n, side),
    )  # fmt: skip
    filled, money = np.cumsum(given["q"]), np.cumsum(given["q"] * given["p"])
    paper = side * wanted * (end - decision)
    real = side * (filled * end - money) - np.cumsum(given["fee"])
    np.testing.assert_allclose(ours["total_bps"], (paper - real) / (wanted * decision) * 1e4, rtol=1e-9)
    parts = ours["delay"] + ours["trade"] + ours["missed"] + ours["fees"]
    np.testing.assert_allclose(ours["total_bps"], parts / (wanted * decision) * 1e4, rtol=1e-14)
    np.testing.assert_allclose(ours["delay"], side * np.cumsum(given["q"] * (given["send"] - decision)), **CLOSE)
    np.testing.assert_allclose(ours["trade"], side * np.cumsum(given["q"] * (given["p"] - given["send"])), **CLOSE)
    np.testing.assert_allclose(ours["missed"], side * (end - decision) * (wanted - filled), **CLOSE)


def test_an_order_that_is_never_filled_tells_what_it_missed() -> None:
    row = {"p": [110.0], "q": [0.0], "fee": [0.0], "p_dec": [100.0], "p_send": [100.0], "p_end": [110.0], "Q": [3.0]}
    bought, sold = (compute("implementation_shortfall", **row, side=[side]) for side in (1.0, -1.0))
    assert (bought["total_bps"][0], bought["missed"][0], bought["trade"][0]) == (1_000.0, 30.0, 0.0)
    assert (sold["total_bps"][0], sold["missed"][0]) == (-1_000.0, -30.0)


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_impact_from_arrival_is_signed_and_the_model_its_closed_form(side: float) -> None:
    given = fills()
    given["q"][:2] = 0.0
    n = len(given["p"])
    sigma, daily = np.linspace(0.01, 0.05, n), np.linspace(1e3, 1e5, n)
    ours = compute(
        "arrival_price_impact", p=given["p"], q=given["q"], arrival=np.full(n, 99.0), sigma=sigma, Q=np.full(n, 150.0),
        ADV=daily, side=np.full(n, side), y=0.8,
    )  # fmt: skip
    with np.errstate(invalid="ignore"):
        mean = np.cumsum(given["q"] * given["p"]) / np.cumsum(given["q"])
    np.testing.assert_allclose(ours["realised_bps"], side * (mean - 99.0) / 99.0 * 1e4, rtol=1e-9, equal_nan=True)
    np.testing.assert_allclose(ours["model_bps"], 0.8 * sigma * np.sqrt(150.0 / daily) * 1e4, rtol=1e-14)
    assert np.isnan(ours["realised_bps"][:2]).all()


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_slippage_sums_to_its_total_to_the_last_bit(side: float) -> None:
    given = fills()
    n = len(given["p"])
    touch = given["send"] + side * 0.01
    ours = compute(
        "slippage_decomposition", p=given["p"], q=given["q"], fee=given["fee"], m_arrival=np.full(n, 99.0),
        m_send=given["send"], touch=touch, side=np.full(n, side),
    )  # fmt: skip
    assert (ours["delay"] + ours["spread"] + ours["impact"] + ours["fee"] == ours["total"]).all()
    paid = side * np.cumsum(given["q"] * (given["p"] - 99.0)) + np.cumsum(given["fee"])
    np.testing.assert_allclose(ours["total"], paid, **CLOSE)
    np.testing.assert_allclose(ours["total_bps"], paid / np.cumsum(given["q"] * 99.0) * 1e4, rtol=1e-9)
    np.testing.assert_allclose(ours["spread"], np.cumsum(given["q"]) * 0.01, rtol=1e-9)
    np.testing.assert_allclose(ours["impact"], side * np.cumsum(given["q"] * (given["p"] - touch)), **CLOSE)
