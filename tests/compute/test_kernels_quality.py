"""Data quality against sets, pandas, Polars and plain loops."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest

from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.quality import PIECES, trade_keys
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

S = 1_000_000_000
BEGIN = 1_769_083_200 * S
CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}


# -- dedupe_trades ----------------------------------------------------------------------------------------------------


def test_ascending_ids_tell_what_is_missing() -> None:
    ours = compute("dedupe_trades", id=[10.0, 11.0, 11.0, np.nan, 15.0, 12.0, 16.0])
    assert ours["keep"].tolist() == [1, 1, 0, -128, 1, 0, 1]
    np.testing.assert_array_equal(ours["missing"], [0, 0, 0, np.nan, 3, 0, 0])
    large = 2**62  # neighbours that are one float
    assert compute("dedupe_trades", id=np.array([large, large + 1, large + 1, large + 2]))["keep"].tolist() == [
        1,
        1,
        0,
        1,
    ]
    assert compute("dedupe_trades", id=np.array([-5, 3]))["keep"].tolist() == [-128, 1]


@pytest.mark.parametrize(("memory", "span"), [(1, 3), (7, 20), (64, 300), (1_000, 1_500)])
def test_any_ids_are_those_of_a_set_that_forgets(memory: int, span: int) -> None:
    rng = np.random.default_rng(memory)
    ids = rng.integers(0, 2**63 - 1, span)[rng.integers(0, span, 6_000)]
    kept: dict[int, None] = {}  # in the order of their coming
    expected = []
    for one in ids.tolist():
        expected.append(int(one not in kept))
        if one not in kept:
            kept[one] = None
            if len(kept) > memory:
                del kept[next(iter(kept))]
    assert compute("dedupe_trades", id=ids, ids="any", memory=memory)["keep"].tolist() == expected


def test_trades_without_ids_get_keys_of_their_own() -> None:
    rng = np.random.default_rng(4)
    rows = [(BEGIN + int(t), float(p), float(q), float(s)) for t, p, q, s in rng.integers(0, 6, (5_000, 4))]
    keys = trade_keys(*np.array([row[0] for row in rows])[None, :], *np.array([row[1:] for row in rows]).T)
    seen: set[Any] = set()
    expected = [int(row not in seen and not seen.add(row)) for row in rows]  # type: ignore[func-returns-value]
    assert compute("dedupe_trades", id=keys, ids="any")["keep"].tolist() == expected
    assert trade_keys([-0.0]).tolist() == trade_keys([0.0]).tolist()


def test_recorded_ids_that_are_missing_are_counted() -> None:
    folder = shared("data/market/binance_depth1000_2026-02-16")
    for name, missing in (("spot", 0), ("fut", 19)):  # as the data's README tells
        ids = pl.read_parquet(folder / f"trades_btc_{name}_2026-02-16_04.parquet")["trade_id"].cast(pl.Int64).sort()
        ours = compute("dedupe_trades", id=ids.to_numpy())
        assert (ours["keep"].tolist(), ours["missing"].sum()) == ([1] * len(ids), missing)


# -- clock_skew_align -------------------------------------------------------------------------------------------------


def probes(n: int, *, drift_ppm: float, seed: int = 5) -> dict[str, Any]:
    """Probes of a clock that is 1.27 s ahead and runs faster, through queues that are mostly short."""
    rng = np.random.default_rng(seed)
    t = BEGIN + np.cumsum(rng.integers(1, 2 * S, n))
    there, back = (5_000_000 + rng.exponential(20_000_000, n).astype(np.int64) for _ in range(2))
    offset = (1.27 * S + drift_ppm * 1e-6 * (t - BEGIN)).astype(np.int64)
    return {"t": t, "t_sent": t - back - there, "t_venue": t - back + offset, "offset": offset}


def test_the_shortest_of_the_last_probes_tells_the_offset() -> None:
    given = probes(600, drift_ppm=30.0)
    truth = given.pop("offset")
    ours = compute("clock_skew_align", probes=8, **given)
    rtt = given["t"] - given["t_sent"]
    theta = given["t_venue"] - given["t_sent"] - rtt / 2
    for k in range(600):
        last = range(max(0, k - 7), k + 1)
        best = min(last, key=lambda one: (rtt[one], -one))
        assert ours["offset_ns"][k] == pytest.approx(theta[best], abs=1)
        assert ours["bound_ns"][k] == rtt[best] / 2
    slack = 30e-6 * 8 * 2 * S  # what the clock gains in eight probes
    assert (np.abs(ours["offset_ns"] - truth) <= ours["bound_ns"] + slack).all()


def pieces_below(t: Any, behind: Any, w_ns: int, k: int) -> float:
    """The drift at row k: the line below the minima of the pieces with the smallest sum of distances, by trying all."""
    piece_ns = w_ns // PIECES
    lowest: dict[int, tuple[float, float]] = {}
    for one in range(k + 1):
        piece = int(t[one] // piece_ns)
        if piece > t[k] // piece_ns - PIECES and (piece not in lowest or behind[one] < lowest[piece][1]):
            lowest[piece] = (float(t[one] - t[0]), float(behind[one]))
    if len(lowest) < PIECES // 4:
        return np.nan
    points = np.array(list(lowest.values()))
    best, found = np.inf, np.nan
    for a in range(len(points)):
        for b in range(a + 1, len(points)):
            slope = (points[b, 1] - points[a, 1]) / (points[b, 0] - points[a, 0])
            distances = points[:, 1] - points[a, 1] - slope * (points[:, 0] - points[a, 0])
            if distances.min() > -1e-3 and distances.sum() < best:
                best, found = distances.sum(), slope
    return -1e6 * found


@pytest.mark.parametrize("drift_ppm", [-80.0, 30.0])
def test_passive_offset_and_drift(drift_ppm: float) -> None:
    given = probes(1_500, drift_ppm=drift_ppm)
    t, behind = given["t"], given["t"] - given["t_venue"]
    ours = compute("clock_skew_align", t=t, t_venue=given["t_venue"], method="passive", w="320s")
    for k in range(1_500):
        inside = t[: k + 1] > t[k] - 320 * S
        assert ours["offset_ns"][k] == -behind[: k + 1][inside].min()
    for k in range(3, 1_500, 83):
        np.testing.assert_allclose(ours["drift_ppm"][k], pieces_below(t, behind, 320 * S, k), rtol=1e-6)
    assert np.nanmedian(ours["drift_ppm"]) == pytest.approx(drift_ppm, abs=10.0)
    assert np.isnan(ours["bound_ns"]).all()
    probing = compute("clock_skew_align", t=t, t_venue=given["t_venue"], t_sent=given["t_sent"], w="320s")
    np.testing.assert_array_equal(probing["drift_ppm"], ours["drift_ppm"])


def test_the_recording_whose_clock_is_behind_by_more_than_a_second() -> None:
    received, venue = [], []
    with gzip.open(shared("data/market/binance_2024-08-08/usdm_btcusdt_20240808.gz"), "rt") as file:
        for line in file:
            if '"data":' in line and '"E":' in line:
                local, _, text = line.partition(" ")
                received.append(int(local))
                venue.append(json.loads(text)["data"]["E"] * 1_000_000)
    t = np.maximum.accumulate(np.array(received))
    ours = compute("clock_skew_align", t=t, t_venue=np.array(venue), method="passive")
    assert ours["offset_ns"][-1] / 1e9 == pytest.approx(1.27, abs=0.02)
    assert abs(ours["drift_ppm"][-1]) < 200.0


# -- gap_fill ---------------------------------------------------------------------------------------------------------


def test_gaps_are_filled_as_pandas_fills_them() -> None:
    rng = np.random.default_rng(6)
    t = BEGIN + np.cumsum(rng.choice([0, 200_000_000, S, 9 * S], 2_000, p=[0.1, 0.6, 0.25, 0.05])) + 300_000_000
    x = np.where(rng.random(2_000) < 0.2, np.nan, rng.normal(size=2_000))
    x[0] = 1.0
    ours = compute("gap_fill", t=t, x=x, step="1s", max_age="4s")
    valid = pd.Series(x, index=pd.to_datetime(t)).dropna()
    last = valid.groupby(level=0).last()
    grid = pd.date_range(last.index[0].ceil("1s"), pd.Timestamp(int(t[-1]) - 1).floor("1s"), freq="1s")
    expected = last.reindex(grid, method="ffill", tolerance=pd.Timedelta("4s"))
    assert ours["t_ns"].tolist() == grid.as_unit("ns").astype(np.int64).tolist()
    np.testing.assert_array_equal(ours["x"], expected.to_numpy())
    fresh = valid.resample("1s", closed="right", label="right").count().reindex(grid) > 0
    assert ours["filled"].tolist() == np.where(expected.isna(), -128, (~fresh).astype(int)).tolist()


def test_a_row_without_a_value_moves_the_clock() -> None:
    filling = Streaming("gap_fill", max_age="2s")
    assert len(filling.update([0, S], x=[np.nan, 5.0])["x"]) == 0
    ours = filling.update([5 * S], x=[np.nan])
    np.testing.assert_array_equal(ours["x"], [5.0, 5.0, 5.0, np.nan])
    assert ours["filled"].tolist() == [0, 1, 1, -128]


# -- trade_quote_match ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("exact", "delay_ns"), [(False, 0), (True, 0), (False, 700_000_000), (True, 700_000_000)])
def test_trades_find_the_quotes_that_polars_finds(exact: bool, delay_ns: int) -> None:
    rng = np.random.default_rng(7)
    n = 4_000
    t = BEGIN + np.cumsum(rng.integers(0, 4, n) * 100_000_000)
    bid = rng.integers(100, 200, n) / 10.0
    quotes = pl.DataFrame({"t": t, "is_trade": 0.0, "b": bid, "a": bid + 0.1})
    asked = pl.DataFrame({"t": np.sort(rng.choice(t, n)), "is_trade": 1.0, "b": 0.0, "a": 0.0})
    rows = pl.concat([quotes, asked]).sort("t", maintain_order=True)  # quotes first where times are equal
    ours = compute(
        "trade_quote_match", **rows.to_dict(as_series=False), exact=exact, delay_ns=delay_ns, tolerance="500ms"
    )
    theirs = (
        asked.select(t=pl.col("t") - delay_ns)
        .join_asof(
            quotes.with_columns(quoted=pl.col("t")),
            on="t",
            tolerance=500_000_000,
            allow_exact_matches=exact,
        )
        .with_columns(age=pl.col("t") - pl.col("quoted"))
    )
    is_trade = rows["is_trade"].to_numpy() == 1.0
    for name, column in (("b", "b"), ("a", "a"), ("age_ns", "age")):
        expected = theirs[column].cast(pl.Float64).fill_null(np.nan).to_numpy()
        np.testing.assert_array_equal(ours[name][is_trade], expected, err_msg=name)
    np.testing.assert_allclose(ours["m"], (ours["b"] + ours["a"]) / 2, **CLOSE)
    assert np.isnan(ours["b"][~is_trade]).all()


def test_a_crossed_quote_is_as_if_it_were_not_there() -> None:
    ours = compute("trade_quote_match", t=[0, 1, 2], is_trade=[0, 0, 1], b=[9.0, 11.0, 0.0], a=[10.0, 10.0, 0.0])
    assert (ours["b"][2], ours["age_ns"][2]) == (9.0, 2.0)


# -- bar_consistency --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bar", "mask"),
    [
        ((5.0, 6.0, 4.0, 5.5, 10.0, 5.0), 0),
        ((5.0, 6.0, 5.2, 5.5, 10.0, 5.3), 1),
        ((5.0, 5.1, 4.0, 5.5, 10.0, 5.0), 2),
        ((5.0, 6.0, 4.0, 5.5, -1.0, 5.0), 4),
        ((5.0, 6.0, 4.0, 5.5, 0.0, np.nan), 8),
        ((5.0, 5.0, 5.0, 5.0, 0.0, np.nan), 0),
        ((5.0, 6.0, 4.0, 5.5, 10.0, 6.1), 16),
        ((5.0, 6.0, 4.0, 5.5, 10.0, 6.0 + 1e-12), 0),
        ((5.0, 4.0, 6.0, 5.5, 10.0, 5.0), 19),
        ((5.0, 6.0, 4.0, np.nan, 10.0, 5.0), -128),
        ((5.0, 6.0, 4.0, 5.5, 10.0, np.nan), -128),
    ],
)
def test_bars_that_contradict_themselves(bar: tuple[float, ...], mask: int) -> None:
    columns = {name: [value] for name, value in zip(("O", "H", "L", "C", "V", "vwap"), bar, strict=True)}
    assert compute("bar_consistency", t=[60 * S], **columns)["mask"].tolist() == [mask]


def test_bars_keep_to_their_grid_and_follow_each_other() -> None:
    seconds = [60, 120, 121, 181, 240, 300, 420, 420]
    flat = {name: [5.0] * 8 for name in ("O", "H", "L", "C", "V", "vwap")}
    ours = compute("bar_consistency", t=np.array(seconds) * S, **flat)["mask"]
    assert ours.tolist() == [0, 0, 96, 32, 64, 0, 64, 64]


def test_bars_of_trades_are_consistent() -> None:
    rng = np.random.default_rng(8)
    t = BEGIN + np.cumsum(rng.integers(0, 30 * S, 3_000))
    bars = compute("resample_ohlc", t=t, p=100 + rng.normal(size=3_000), q=rng.random(3_000) + 0.1, empty="carry")
    columns = {name: bars[name] for name in ("O", "H", "L", "C", "V", "vwap")}
    assert not compute("bar_consistency", t=bars["start_ns"], **columns)["mask"].any()


# -- whole numbers as inputs ------------------------------------------------------------------------------------------


def test_whole_numbers_keep_all_their_bits_in_a_pipeline() -> None:
    ids = np.array([2**62, 2**62 + 1, 2**62 + 1])
    pipeline = Pipeline([Feature(name="new", kernel="dedupe_trades", sources={"id": "trade_id"})])
    assert pipeline.update(trade_id=ids)["new.keep"].tolist() == [1.0, 1.0, 0.0]


def test_times_may_be_datetimes() -> None:
    times = np.array(["2026-01-01T00:00:01", "NaT"], dtype="datetime64[ns]")
    t = np.array(["2026-01-01T00:00:00"] * 2, dtype="datetime64[ns]")
    ours = compute("clock_skew_align", t=t, t_venue=times, method="passive")
    np.testing.assert_array_equal(ours["offset_ns"], [1e9, np.nan])
