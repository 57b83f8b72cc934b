"""The touch and the book against closed forms, NumPy, plain loops and scikit-learn, on drawn and recorded markets."""

from __future__ import annotations

import itertools
from collections import defaultdict
from typing import Any

import numpy as np
import polars as pl
import pytest
from kernel_world import market, times
from sklearn.decomposition import PCA

from oneprice.compute.kernels.definition import BOOK, KernelError
from oneprice.compute.kernels.microstructure import microprice_tables
from oneprice.compute.kernels.microstructure_book import ofi_weights
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

N = 1_500
CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
RECORDED = "data/market/binance_depth1000_2026-02-16/lobdeep_btc_fut_2026-02-16_04.parquet"


def drawn() -> dict[str, Any]:
    """A market of which some rows cannot be used."""
    rng = np.random.default_rng(1)
    columns = market(rng, N) | {"t": times(rng, N)}
    # a touch that stands still most of the time, so that queues change at an unchanged price
    steps = np.cumsum(rng.choice([-1, 0, 1], N, p=[0.1, 0.8, 0.1]))
    columns["b"] = 100.0 + 0.01 * steps
    columns["a"] = 100.0 + 0.01 * (steps + rng.choice([1, 2], N))
    columns[BOOK][:, 0] += (columns["b"] - columns[BOOK][:, 0, 0])[:, None]
    columns[BOOK][:, 2] += (columns["a"] - columns[BOOK][:, 2, 0])[:, None]
    columns[BOOK][:, 1, 0], columns[BOOK][:, 3, 0] = columns["B"], columns["A"]
    bad = rng.random(N) < 0.05
    columns["b"][bad], columns[BOOK][bad, 0, 0] = columns["a"][bad] + 0.01, columns["a"][bad] + 0.01
    worse = rng.random(N) < 0.03
    columns["B"][worse], columns[BOOK][worse, 1, 2] = -1.0, np.nan
    return columns


def recorded() -> dict[str, Any]:
    frame = pl.read_parquet(shared(RECORDED)).head(N)
    lists = (frame[name].list.head(12) for name in ("bids_px", "bids_qty", "asks_px", "asks_qty"))
    book = np.stack([np.array(one.to_list(), dtype=float) for one in lists], axis=1)
    columns = {"b": book[:, 0, 0], "B": book[:, 1, 0], "a": book[:, 2, 0], "A": book[:, 3, 0], BOOK: book}
    return columns | {"t": frame["ts_ms"].to_numpy() * 1_000_000}


@pytest.fixture(scope="module", params=[drawn, recorded], ids=["drawn", "recorded"])
def world(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param()


def usable_touch(world: dict[str, Any]) -> np.ndarray:
    return (world["b"] <= world["a"]) & (world["B"] >= 0)


def usable_book(world: dict[str, Any]) -> np.ndarray:
    return (world[BOOK][:, 0, 0] <= world[BOOK][:, 2, 0]) & np.isfinite(world[BOOK]).all(axis=(1, 2))


def given(world: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: world[name] for name in names}


def put_back(rows: np.ndarray, values: Any) -> np.ndarray:
    """Values of the rows that can be used, NaN at the others."""
    whole = np.full(len(rows), np.nan)
    whole[rows] = values
    return whole


# -- the touch ----------------------------------------------------------------------------------------------------------


def test_prices_and_spread_of_the_touch(world: dict[str, Any]) -> None:
    b, a, bid_qty, ask_qty = (world[name] for name in "baBA")
    fine = b <= a
    np.testing.assert_allclose(
        compute("midprice", **given(world, "b", "a"))["m"], np.where(fine, (b + a) / 2, np.nan), **CLOSE
    )
    np.testing.assert_allclose(
        compute("midprice", **given(world, "b", "a"), allow_crossed=True)["m"], (b + a) / 2, **CLOSE
    )
    spread = compute("quoted_spread", **given(world, "b", "a"))
    np.testing.assert_allclose(spread["abs"], np.where(fine, a - b, np.nan), **CLOSE)
    np.testing.assert_allclose(spread["bps"], np.where(fine, 1e4 * (a - b) / ((a + b) / 2), np.nan), **CLOSE)
    weighted = np.where(usable_touch(world), (b * ask_qty + a * bid_qty) / (ask_qty + bid_qty), np.nan)
    np.testing.assert_allclose(compute("microprice", **given(world, *"baBA"))["p"], weighted, **CLOSE)
    imbalance = np.where(bid_qty >= 0, (bid_qty - ask_qty) / (bid_qty + ask_qty), np.nan)
    np.testing.assert_allclose(compute("l1_imbalance", **given(world, *"BA"))["i"], imbalance, **CLOSE)


def test_a_heavy_bid_pulls_the_weighted_mid_up_and_a_side_that_is_missing_leaves_none() -> None:
    assert compute("microprice", b=[99.0], a=[101.0], B=[3.0], A=[1.0])["p"].tolist() == [100.5]
    assert compute("quoted_spread", b=[99.0], a=[101.0])["bps"].tolist() == [200.0]
    for b, a in ((0.0, 100.0), (np.nan, 100.0), (100.0, np.inf)):
        assert np.isnan(compute("midprice", b=[b], a=[a], allow_crossed=True)["m"]).all()
    assert np.isnan(compute("l1_imbalance", B=[0.0], A=[0.0])["i"]).all()
    assert np.isnan(compute("microprice", b=[1.0], a=[2.0], B=[0.0], A=[0.0])["p"]).all()


def naive_tables(
    quotes: list[tuple[float, float, float, float]], tick: float, buckets: int, spreads: int, moves: int
) -> Any:
    """E[move of the mid after so many of its moves] by state, by walking the counted chain step by step."""
    chain: dict[tuple[int, int], dict[tuple[tuple[int, int], int], int]] = defaultdict(lambda: defaultdict(int))

    def state(q: tuple[float, float, float, float]) -> tuple[int, int]:
        return min(buckets - 1, int(q[2] / (q[2] + q[3]) * buckets)), round((q[1] - q[0]) / tick)

    for before, after in itertools.pairwise(quotes):
        half = round((after[0] + after[1] - before[0] - before[1]) / tick)
        (i, s), (j, r) = state(before), state(after)
        if s <= spreads and r <= spreads and abs(half) <= 2:
            chain[i, s][(j, r), half] += 1
            chain[buckets - 1 - i, s][(buckets - 1 - j, r), -half] += 1
    expected = dict.fromkeys(chain, 0.0)
    for _ in range(moves):
        inner = dict(expected)
        for _ in range(4_000):  # until the mid moves
            previous = inner
            inner = {
                one: sum(
                    count * (half / 2 + expected.get(to, 0.0) if half else previous.get(to, 0.0))
                    for (to, half), count in ways.items()
                ) / sum(ways.values())
                for one, ways in chain.items()
            }  # fmt: skip
            if max(abs(inner[one] - previous[one]) for one in chain) < 1e-13:
                break
        if max(abs(inner[one] - expected[one]) for one in chain) < 1e-12:
            return inner
        expected = inner
    return expected


def test_stoikovs_tables_are_the_expected_mid_after_many_moves() -> None:
    world = {name: column[usable_touch(drawn())] for name, column in given(drawn(), *"baBA").items()}
    buckets, spreads, tick = 4, 2, 0.01
    tables = microprice_tables(*world.values(), tick=tick, buckets=buckets, spreads=spreads)
    expected = naive_tables(list(zip(*world.values(), strict=True)), tick, buckets, spreads, 300)
    for (bucket, spread), g in expected.items():
        np.testing.assert_allclose(tables[bucket * spreads + spread - 1], g, atol=1e-9)
    mirrored = np.array(tables).reshape(buckets, spreads)
    np.testing.assert_allclose(mirrored, -mirrored[::-1], atol=1e-9)

    ours = compute("microprice", **world, method="stoikov", tables=tables, tick=tick, buckets=buckets)["p"]
    for row in range(0, len(ours), 17):
        b, a, bid_qty, ask_qty = (column[row] for column in world.values())
        place = bid_qty / (bid_qty + ask_qty) * buckets
        if place != int(place):
            g = tables[int(place) * spreads + round((a - b) / tick) - 1]
            np.testing.assert_allclose(ours[row], (a + b) / 2 + tick * g, rtol=1e-12)


def test_stoikovs_price_is_the_mid_of_a_balanced_touch_and_none_for_a_spread_without_a_table() -> None:
    given_ = {"method": "stoikov", "tables": (-0.4, -0.3, -0.1, -0.05, 0.1, 0.05, 0.4, 0.3), "tick": 0.5, "buckets": 4}
    ours = compute(
        "microprice", b=[10.0] * 4, a=[10.5, 10.5, 11.0, 11.5], B=[1.0, 9.0, 9.0, 9.0], A=[1.0] * 4, **given_
    )
    np.testing.assert_allclose(ours["p"], [10.25, 10.25 + 0.2, 10.5 + 0.15, np.nan], rtol=1e-15)


def test_microprice_says_what_it_needs() -> None:
    with pytest.raises(KernelError, match="tables is missing"):
        Streaming("microprice", method="stoikov")
    with pytest.raises(KernelError, match="must be a multiple of 10"):
        Streaming("microprice", method="stoikov", tables=(1.0,), tick=0.1)
    still = np.full(9, 1.0)
    with pytest.raises(KernelError, match="never left by a move"):
        microprice_tables(still, still + 0.01, still, still, tick=0.01)


def naive_flow(before: Any, now: Any) -> float:
    """(b, B, a, A) before and now."""
    e = 0.0
    e += now[1] if now[0] >= before[0] else 0.0
    e -= before[1] if now[0] <= before[0] else 0.0
    e -= now[3] if now[2] <= before[2] else 0.0
    e += before[3] if now[2] >= before[2] else 0.0
    return e


@pytest.mark.parametrize("w", ["1s", 20])
def test_ofi_is_the_flow_summed_over_the_window(world: dict[str, Any], w: Any) -> None:
    fine = usable_touch(world)
    rows = list(zip(*(world[name][fine] for name in ("b", "B", "a", "A")), strict=True))
    t = world["t"][fine]
    e = np.array([np.nan] + [naive_flow(*two) for two in itertools.pairwise(rows)])
    sums = np.full(len(e), np.nan)
    for k in range(1, len(e)):
        if w == 20:
            sums[k] = e[k - 19 : k + 1].sum() if k >= 20 else np.nan
        else:
            sums[k] = sum(e[j] for j in range(1, k + 1) if t[k] - 10**9 < t[j])
    ours = compute("ofi", **given(world, "t", *"baBA"), w=w)
    np.testing.assert_allclose(ours["e"], put_back(fine, e), **CLOSE)
    np.testing.assert_allclose(ours["sum"], put_back(fine, sums), rtol=1e-9, atol=1e-9)


def test_queue_depletion_is_what_left_the_queues(world: dict[str, Any]) -> None:
    fine = usable_touch(world)
    t, b, a, bid_qty, ask_qty = (world[name][fine] for name in ("t", *"baBA"))
    less = np.zeros((len(t), 2))
    for k in range(1, len(t)):
        less[k, 0] = max(0.0, bid_qty[k - 1] - bid_qty[k]) if b[k] == b[k - 1] else bid_qty[k - 1] * (b[k] < b[k - 1])
        less[k, 1] = max(0.0, ask_qty[k - 1] - ask_qty[k]) if a[k] == a[k - 1] else ask_qty[k - 1] * (a[k] > a[k - 1])
    rates = np.full((len(t), 2), np.nan)
    for k in range(len(t)):
        if t[k] - t[0] >= 2 * 10**9:
            rates[k] = less[(t > t[k] - 2 * 10**9) & (np.arange(len(t)) <= k)].sum(axis=0) / 2.0
    ours = compute("queue_depletion", **given(world, "t", *"baBA"), w="2s")
    for column, side, qty in ((0, "bid", bid_qty), (1, "ask", ask_qty)):
        rate = rates[:, column]
        np.testing.assert_allclose(ours[f"rate_{side}"], put_back(fine, rate), rtol=1e-9, atol=1e-12)
        left = np.divide(qty, rate, out=np.full(len(qty), np.nan), where=rate > 0)
        np.testing.assert_allclose(ours[f"seconds_left_{side}"], put_back(fine, left), rtol=1e-9)


def test_a_quiet_queue_has_no_seconds_left_even_after_a_busy_one() -> None:
    """0.1 + 0.2 − 0.1 − 0.2 must be 0, to the bit, and the other side's rows must not keep it alive."""
    t = np.arange(12) * 10**9
    bid_qty = np.array([9.0, 8.9, 8.7, 8.4, *[8.4] * 8])
    ours = compute("queue_depletion", t=t, b=[1.0] * 12, a=[2.0] * 12, B=bid_qty, A=np.arange(99.0, 87.0, -1.0), w="3s")
    assert ours["rate_bid"][6:].tolist() == [0.0] * 6
    assert np.isnan(ours["seconds_left_bid"][6:]).all()
    np.testing.assert_allclose(ours["seconds_left_ask"][6:], np.arange(93.0, 87.0, -1.0))


# -- the book -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"levels": 3, "decay": 0.5}, {"levels": 50}, {"within_bps": 4.03}])
def test_depth_imbalance(world: dict[str, Any], parameters: dict[str, float]) -> None:
    bid, bid_qty, ask, ask_qty = np.moveaxis(world[BOOK], 1, 0)
    levels = parameters.get("levels", 5)
    weights = np.exp(-parameters.get("decay", 0.0) * np.arange(bid.shape[1]))
    if "within_bps" in parameters:
        mid = ((bid[:, 0] + ask[:, 0]) / 2)[:, None]
        bids, asks = (1e4 * np.abs(side - mid) / mid <= parameters["within_bps"] for side in (bid, ask))
        seen = levels = bid.shape[1]
    else:
        bids = asks = np.arange(bid.shape[1]) < levels
        seen = min(levels, bid.shape[1])
    fine = (bid[:, 0] <= ask[:, 0]) & np.isfinite(world[BOOK][:, :, :seen]).all(axis=(1, 2))
    below, above = np.where(bids, bid_qty, 0.0), np.where(asks, ask_qty, 0.0)
    expected = ((below - above) * weights).sum(axis=1) / ((below + above) * weights).sum(axis=1)
    ours = compute("depth_imbalance", bk=world[BOOK], **parameters)["i"]
    np.testing.assert_allclose(ours, np.where(fine, expected, np.nan), **CLOSE)


def test_depth_imbalance_takes_one_way_to_say_how_deep() -> None:
    with pytest.raises(KernelError, match="levels and within_bps both say how deep"):
        Streaming("depth_imbalance", levels=3, within_bps=1.0)


def test_levels_that_are_missing_count_nothing() -> None:
    one_sided = np.array([[[99.0, 0.0], [2.0, 0.0], [np.nan, np.nan], [0.0, 0.0]]])
    assert compute("depth_imbalance", bk=one_sided)["i"].tolist() == [1.0]
    for kernel in ("depth_weighted_mid", "book_slope"):
        assert all(np.isnan(column).all() for column in compute(kernel, bk=one_sided).values()), kernel
    assert np.isnan(compute("depth_imbalance", bk=np.zeros((1, 4, 3)))["i"]).all()


def test_depth_weighted_mid(world: dict[str, Any]) -> None:
    bid, bid_qty, ask, ask_qty = np.moveaxis(world[BOOK][:, :, :5], 1, 0)
    below, above = (bid * bid_qty).sum(axis=1) / bid_qty.sum(axis=1), (ask * ask_qty).sum(axis=1) / ask_qty.sum(axis=1)
    q_below, q_above = bid_qty.sum(axis=1), ask_qty.sum(axis=1)
    expected = np.where(usable_book(world), (below * q_above + above * q_below) / (q_below + q_above), np.nan)
    np.testing.assert_allclose(compute("depth_weighted_mid", bk=world[BOOK])["p"], expected, **CLOSE)


def naive_slope(price: np.ndarray, qty: np.ndarray, mid: np.ndarray, lot: float) -> np.ndarray:
    v = np.log(qty.cumsum(axis=1) / lot)
    first = v[:, 0] / np.abs(price[:, 0] / mid - 1.0)
    with np.errstate(divide="ignore"):
        rest = (v[:, 1:] / v[:, :-1] - 1.0) / np.abs(price[:, 1:] / price[:, :-1] - 1.0)
    return (first + rest.sum(axis=1)) / v.shape[1]


def test_book_slope(world: dict[str, Any]) -> None:
    fine = usable_book(world)
    bid, bid_qty, ask, ask_qty = np.moveaxis(world[BOOK][fine][:, :, :10], 1, 0)
    mid = (bid[:, 0] + ask[:, 0]) / 2
    ours = compute("book_slope", bk=world[BOOK])
    by_side = []
    for name, price, qty in (("slope_bid", bid, bid_qty), ("slope_ask", ask, ask_qty)):
        d = 1e4 * np.abs(price / mid[:, None] - 1.0)
        slopes = [np.linalg.lstsq(x[:, None], y, rcond=None)[0][0] for x, y in zip(d, qty.cumsum(axis=1), strict=True)]
        np.testing.assert_allclose(ours[name], put_back(fine, slopes), rtol=1e-9)
        by_side.append(slopes)
    np.testing.assert_allclose(ours["slope"], put_back(fine, np.mean(by_side, axis=0)), rtol=1e-9)

    theirs = [naive_slope(bid, bid_qty, mid, 1e-3), naive_slope(ask, ask_qty, mid, 1e-3)]
    paper = compute("book_slope", bk=world[BOOK], method="naes_skjeltorp", lot=1e-3)
    finite = [np.where(np.isfinite(one), one, np.nan) for one in theirs]
    np.testing.assert_allclose(paper["slope_bid"], put_back(fine, finite[0]), rtol=1e-9)
    np.testing.assert_allclose(paper["slope_ask"], put_back(fine, finite[1]), rtol=1e-9)
    np.testing.assert_allclose(paper["slope"], put_back(fine, (finite[0] + finite[1]) / 2), rtol=1e-9)


def test_the_slope_of_a_first_level_of_one_lot_is_not_defined() -> None:
    book = np.array([[[99.0, 98.0], [1.0, 1.0], [101.0, 102.0], [2.0, 2.0]]])
    ours = compute("book_slope", bk=book, method="naes_skjeltorp")
    assert np.isnan(ours["slope_bid"]).all()
    assert np.isfinite(ours["slope_ask"]).all()


@pytest.mark.parametrize("levels", [5, 3])
def test_multi_level_ofi_is_each_levels_flow_by_its_depth(world: dict[str, Any], levels: int) -> None:
    book = world[BOOK].copy()
    book[::7, 1, 1] = 0.0  # a level that comes and goes
    fine = (book[:, 0, 0] <= book[:, 2, 0]) & np.isfinite(book[:, :, :levels]).all(axis=(1, 2))
    b, t = book[fine], world["t"][fine]
    b[:, 0][b[:, 1] == 0] = 0.0
    e, depth = np.zeros((len(b), levels)), (b[:, 1, :levels] + b[:, 3, :levels]) / 2
    for k in range(1, len(b)):
        for level in range(levels):
            e[k, level] = naive_flow(b[k - 1, :, level], b[k, :, level])
    expected = np.full((len(b), levels), np.nan)
    for k in range(1, len(b)):
        window = np.arange(1, k + 1)[t[1 : k + 1] > t[k] - 10**9]
        expected[k] = e[window].sum(axis=0) / depth[window].mean(axis=0)
    weights = np.arange(1.0, levels + 1.0)
    ours = compute("multi_level_ofi", t=world["t"], bk=book, levels=levels, weights=tuple(weights))
    assert list(ours) == [*(f"e{level}" for level in range(1, levels + 1)), "integrated"]
    for level in range(levels):
        np.testing.assert_allclose(ours[f"e{level + 1}"], put_back(fine, expected[:, level]), rtol=1e-8, atol=1e-9)
    np.testing.assert_allclose(
        ours["integrated"], put_back(fine, expected @ weights / weights.sum()), rtol=1e-8, atol=1e-9
    )


def test_weights_of_the_integrated_flow_are_the_first_principal_component(world: dict[str, Any]) -> None:
    ours = compute("multi_level_ofi", t=world["t"], bk=world[BOOK])
    e = np.column_stack([ours[f"e{level}"] for level in range(1, 6)])
    first = PCA(1).fit(e[np.isfinite(e).all(axis=1)]).components_[0]
    weights = ofi_weights(e)
    np.testing.assert_allclose(weights, first * np.sign(first.sum()) / np.abs(first).sum(), rtol=1e-6, atol=1e-9)
    fitted = compute("multi_level_ofi", t=world["t"], bk=world[BOOK], weights=weights)
    np.testing.assert_allclose(fitted["integrated"], e @ weights, rtol=1e-9, atol=1e-9)


def test_a_level_without_depth_over_the_window_has_no_flow() -> None:
    """Of what went through it before, running totals leave nothing behind, not even rounding."""
    rows, gone = 4_000, 3_000
    book = market(np.random.default_rng(11), rows)[BOOK][:, :, :2] * np.pi
    book[gone:, 1::2, 1] = 0.0
    t = np.arange(rows) * 100_000_000
    ours = compute("multi_level_ofi", t=t, bk=book, levels=2, w="1s")
    assert np.isfinite(ours["e1"][1:]).all()
    assert np.isfinite(ours["e2"][1 : gone + 9]).all()
    assert np.isnan(ours["e2"][gone + 9 :]).all()


def test_multi_level_ofi_says_what_it_needs() -> None:
    with pytest.raises(KernelError, match="weights holds 2 numbers"):
        Streaming("multi_level_ofi", weights=(1.0, 1.0))
    with pytest.raises(KernelError, match="weights are all 0"):
        Streaming("multi_level_ofi", levels=1, weights=(0.0,))
    with pytest.raises(KernelError, match="complete rows"):
        ofi_weights(np.full((9, 3), np.nan))


def test_a_pipeline_takes_outputs_that_depend_on_parameters_and_leaves_out_what_nobody_reads(
    world: dict[str, Any],
) -> None:
    pipeline = Pipeline(
        [
            Feature(name="flow", kernel="multi_level_ofi", parameters={"levels": 3}),
            Feature(name="mid", kernel="midprice"),
            Feature(name="sign", kernel="trade_sign", sources={"p": "mid"}, parameters={"method": "tick"}),
        ],
        levels=12,
    )
    assert pipeline.columns == ("b", "a", BOOK)
    assert pipeline.outputs == ("flow.e1", "flow.e2", "flow.e3", "flow.integrated", "mid", "sign")
    ours = pipeline.update(**given(world, "t", "b", "a", BOOK))
    alone = compute("multi_level_ofi", t=world["t"], bk=world[BOOK], levels=3)
    assert ours["flow.integrated"].tobytes() == alone["integrated"].tobytes()
    signs = compute("trade_sign", p=ours["mid"], method="tick")["s"]
    np.testing.assert_array_equal(np.nan_to_num(ours["sign"], nan=-128.0), signs)
