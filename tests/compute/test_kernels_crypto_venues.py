"""Many venues against exhaustive loops, closed forms and a plain book of buckets, on random and recorded quotes."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

NS = 1_000_000_000
CLOSE = {"rtol": 1e-10, "atol": 1e-9, "equal_nan": True}


def rng() -> np.random.Generator:
    return np.random.default_rng(13)


# -- cross_venue_edge -------------------------------------------------------------------------------------------------


def exhaustive(bid, ask, bid_qty, ask_qty, fee_bps) -> dict[tuple[int, int], tuple[float, float]]:
    """Edge and quantity of every pair (buy, sell) of two venues that can be traded."""
    found = {}
    fee = fee_bps / 1e4
    usable = (bid > 0.0) & (ask >= bid) & np.isfinite(fee)
    for i in range(len(bid)):
        for j in range(len(bid)):
            if i != j and usable[i] and usable[j] and ask_qty[i] > 0.0 and bid_qty[j] > 0.0:
                edge = 1e4 * (bid[j] * (1.0 - fee[j]) / (ask[i] * (1.0 + fee[i])) - 1.0)
                found[i, j] = edge, min(ask_qty[i], bid_qty[j])
    return found


def check_edges(quotes: dict[str, np.ndarray]) -> np.ndarray:
    rows, venues = quotes["BID"].shape
    ours = compute("cross_venue_edge", **quotes, venues=venues)
    for row in range(rows):
        found = exhaustive(*(quotes[name][row] for name in ("BID", "ASK", "BID_QTY", "ASK_QTY", "FEE_BPS")))
        pair = int(ours["buy"][row]), int(ours["sell"][row])
        if not found:
            assert pair == (-128, -128)
            assert np.isnan([ours["edge_bps"][row], ours["qty"][row]]).all()
            continue
        best = max(edge for edge, _ in found.values())
        np.testing.assert_allclose([ours["edge_bps"][row], ours["edge_bps"][row]], [best, found[pair][0]], **CLOSE)
        assert ours["qty"][row] == found[pair][1]
    return ours["edge_bps"]


@pytest.mark.parametrize("venues", [2, 3, 6])
def test_the_best_edge_is_that_of_all_pairs(venues: int) -> None:
    random, shape = rng(), (400, venues)
    mid = 100.0 + random.normal(0.0, 0.1, shape)
    half = random.uniform(-0.01, 0.1, shape)  # some are crossed
    quotes = {
        "BID": np.round(mid - half, 2), "ASK": np.round(mid + half, 2), "FEE_BPS": random.choice([-1.0, 2.0, 5.0], shape),
        "BID_QTY": random.choice([0.0, 0.5, 1.0, 2.0], shape), "ASK_QTY": random.choice([0.0, 0.5, 1.0, 2.0], shape),
    }  # fmt: skip
    quotes["BID"][random.random(shape) < 0.15] = np.nan
    quotes["FEE_BPS"][random.random(shape) < 0.05] = np.nan
    edges = check_edges(quotes)
    assert np.isfinite(edges).sum() > 50
    assert np.isnan(edges).any()


@pytest.mark.parametrize("coin", ["BTC", "HYPE"])
def test_the_best_edge_of_recorded_quotes(coin: str) -> None:
    """Minute medians of six perpetual venues; crossed ones among them are left out."""
    frame = pd.read_csv(shared("data/market/perp_books_6venues_2026-02/2026-02.csv.gz"), low_memory=False)
    frame = frame[frame["ticker"] == coin]
    bid, ask = (
        frame.pivot_table(index="ts_minute_utc", columns="exchange", values=side, aggfunc="last").to_numpy()
        for side in ("best_bid", "best_ask")
    )
    one = np.ones(bid.shape)
    edges = check_edges({"BID": bid, "ASK": ask, "BID_QTY": one, "ASK_QTY": one, "FEE_BPS": 0.0 * one})
    assert np.isfinite(edges).sum() > 200
    assert np.nanmax(edges) > 1.0


def test_one_venue_alone_has_no_edge() -> None:
    quotes = {"BID": [[99.0, 98.0]], "ASK": [[100.0, 102.0]], "BID_QTY": [[1.0, 0.0]], "ASK_QTY": [[1.0, 0.0]]}
    assert math.isnan(compute("cross_venue_edge", **quotes, FEE_BPS=[[0.0, 0.0]])["edge_bps"][0])


# -- venue_score, dominance_index -------------------------------------------------------------------------------------


def test_a_score_is_the_weighted_mean_of_present_metrics() -> None:
    random = rng()
    weights, bad, good = (0.5, 0.3, 0.0, 0.2), (20.0, 0.0, 1.0, -5.0), (1.0, 1e6, 2.0, 5.0)
    metrics = random.normal(0.0, 1.0, (500, 4)) * np.array([20.0, 1e6, 2.0, 8.0])
    metrics[random.random(metrics.shape) < 0.4] = np.nan
    ours = compute("venue_score", METRICS=metrics, weights=weights, bad=bad, good=good)
    scaled = np.clip((metrics - bad) / (np.array(good) - bad), 0.0, 1.0)
    present = np.where(np.isnan(metrics), 0.0, weights)
    total = np.where(present.sum(axis=1) > 0.0, present.sum(axis=1), np.nan)
    np.testing.assert_allclose(ours["score"], (present * np.nan_to_num(scaled)).sum(axis=1) / total, **CLOSE)
    np.testing.assert_allclose(ours["coverage"], total, **CLOSE)
    assert np.isnan(ours["score"]).any()


def test_the_best_venue_scores_one_and_the_worst_none() -> None:
    ends = [[1.0, 1e6, 20.0, 0.0, 1.0], [20.0, 1e4, 500.0, 10.0, 0.95]]
    ours = compute("venue_score", METRICS=ends)
    assert ours["score"].tolist() == pytest.approx([1.0, 0.0])
    assert ours["coverage"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "value"), [("bad", (1.0, 2.0)), ("good", (20.0, 1e6, 20.0, 0.0, 1.0)), ("weights", (0.0,) * 5)]
)
def test_scales_that_cannot_be_used_are_named(name: str, value: tuple[float, ...]) -> None:
    with pytest.raises(KernelError, match=f"venue_score: {name}="):
        Streaming("venue_score", **{name: value})


def test_shares_and_their_concentration() -> None:
    sizes = rng().exponential(1.0, (300, 4))
    sizes[:3] = [[5.0, 0.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]]
    sizes[3, 1] = np.nan
    ours = compute("dominance_index", SIZES=sizes, items=4)
    with np.errstate(invalid="ignore"):
        shares = sizes / sizes.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        np.stack([ours[f"share_{k + 1}"] for k in range(4)], axis=1)[4:], shares[4:], **CLOSE
    )  # fmt: skip
    np.testing.assert_allclose(ours["hhi"], (shares**2).sum(axis=1), **CLOSE)
    np.testing.assert_allclose(ours["effective_n"][:4], [1.0, 4.0, np.nan, np.nan])
    assert np.isnan([ours["share_1"][3], ours["share_4"][3]]).all()


# -- liquidation_density ----------------------------------------------------------------------------------------------


def naive_density(t, price, notional, m, *, bucket_bps, range_bps, halflife_ns, cluster_x) -> list[tuple[float, ...]]:
    """Buckets in a dictionary by number; each row forgets, drops what is out of range, adds, and looks."""
    width = math.log1p(bucket_bps / 1e4)
    half = math.ceil(math.log1p(range_bps / 1e4) / width)
    buckets: dict[int, float] = {}
    rows, last = [], t[0]
    for now, at, size, mid in zip(t, price, notional, m, strict=True):
        center, number = math.floor(math.log(mid) / width), math.floor(math.log(at) / width)
        kept = 0.5 ** ((now - last) / halflife_ns)
        buckets = {key: value * kept for key, value in buckets.items() if abs(key - center) <= half}
        if abs(number - center) <= half and size > 0.0:
            buckets[number] = buckets.get(number, 0.0) + size
        last, total = now, sum(buckets.values())
        buckets = {key: value for key, value in buckets.items() if value >= 1e-6 * total}
        clusters = [key for key, value in buckets.items() if value > cluster_x * np.median(list(buckets.values()))]
        away = [100.0 * (math.exp((key + 0.5) * width) / mid - 1.0) for key in clusters]
        up, down = [one for one in away if one >= 0.0], [-one for one in away if one < 0.0]
        rows.append((min(up, default=np.nan), min(down, default=np.nan), total))
    return rows


@pytest.mark.parametrize(
    "settings", [{}, {"bucket_bps": 25.0, "range_bps": 300.0, "halflife": "20m", "cluster_x": 2.0}]
)
def test_clusters_of_liquidations_are_the_naive_ones(settings: dict[str, float | str]) -> None:
    random, n = rng(), 3_000
    t = 1_769_083_200 * NS + np.cumsum(random.integers(0, 20, n)) * NS
    m = 100.0 * np.exp(np.cumsum(random.normal(0.0, 1e-3, n)))
    m[2_000:] *= 1.08  # a jump out of range
    price = m * np.exp(random.normal(0.0, 0.02, n))
    notional = np.where(random.random(n) < 0.5, random.pareto(1.2, n) * 1e4, 0.0)
    ours = compute("liquidation_density", t=t, price=price, notional=notional, m=m, **settings)
    chosen = {"bucket_bps": 10.0, "range_bps": 500.0, "halflife": "1h", "cluster_x": 3.0} | settings
    halflife_ns = pd.Timedelta(str(chosen.pop("halflife")).replace("m", "min")).value
    theirs = np.array(naive_density(t.tolist(), price, notional, m, halflife_ns=halflife_ns, **chosen))
    for k, name in enumerate(("nearest_up_pct", "nearest_dn_pct", "total")):
        np.testing.assert_allclose(ours[name], theirs[:, k], rtol=1e-8, atol=1e-9, equal_nan=True, err_msg=name)
    assert np.isfinite(ours["nearest_up_pct"]).sum() > 1_000


def test_buckets_are_not_more_than_memory_is_meant_for() -> None:
    with pytest.raises(KernelError, match=r"liquidation_density: bucket_bps=0\.001"):
        Streaming("liquidation_density", bucket_bps=0.001)
