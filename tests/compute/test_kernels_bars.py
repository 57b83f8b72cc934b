"""Bars against pandas and plain loops, on random and on recorded trades."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
COLUMNS = ["O", "H", "L", "C", "V", "n", "vwap"]
S = 1_000_000_000


def random_trades(n: int, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    steps = rng.integers(0, S // 2, n) * np.where(rng.random(n) < 0.01, 60, 1)
    return {
        "t": 1_769_083_200_000_000_000 + np.cumsum(steps), "p": np.round(100.0 + rng.normal(0, 0.1, n).cumsum(), 2),
        "q": rng.integers(1, 300, n) / 10.0, "s": rng.choice([-1.0, 1.0], n, p=[0.45, 0.55]),
    }  # fmt: skip


def recorded_trades() -> dict[str, Any]:
    """The trades of Binance's BTCUSDT perpetual on 2024-08-08, in the order in which they came."""
    rows = []
    with gzip.open(shared("data/market/binance_2024-08-08/usdm_btcusdt_20240808.gz"), "rt") as file:
        for line in file:
            if '"e":"trade"' in line or '"e":"aggTrade"' in line:
                received, _, text = line.partition(" ")
                told = json.loads(text)["data"]
                rows.append((int(received), float(told["p"]), float(told["q"]), -1.0 if told["m"] else 1.0))
    t, p, q, s = (np.array(column) for column in zip(*rows, strict=True))
    return {"t": np.maximum.accumulate(t), "p": p, "q": q, "s": s}


@pytest.fixture(scope="module", params=["random", "recorded"])
def trades(request: pytest.FixtureRequest) -> dict[str, Any]:
    return random_trades(6_000, 1) if request.param == "random" else recorded_trades()


def cut(trades: dict[str, Any], *names: str, where: slice = slice(None)) -> dict[str, Any]:
    return {name: trades[name][where] for name in ("t", "p", "q", *names)}


def ohlc(trades: dict[str, Any], *, empty: str, offset: str = "5s") -> pd.DataFrame:
    """The bars of pandas, with the last one, which has not ended."""
    frame = pd.DataFrame({"p": trades["p"], "q": trades["q"], "m": trades["p"] * trades["q"]})
    frame.index = pd.to_datetime(trades["t"])
    by = frame[frame["q"] > 0].resample(offset)
    bars = by["p"].agg(["first", "max", "min", "last"]).set_axis(["O", "H", "L", "C"], axis=1)
    bars["V"], bars["n"] = by["q"].sum(), by["p"].count()
    bars["vwap"] = by["m"].sum() / bars["V"].where(bars["V"] > 0)
    if empty == "skip":
        return bars[bars["n"] > 0]
    close = bars["C"].ffill()
    return bars.assign(**{name: bars[name].fillna(close) for name in "OHLC"})


def check(ours: dict[str, Any], theirs: pd.DataFrame) -> None:
    assert ours["start_ns"].tolist() == theirs.index.as_unit("ns").astype(np.int64).tolist()
    assert (ours["end_ns"] - ours["start_ns"] == 5 * S).all()
    for name in COLUMNS:
        np.testing.assert_allclose(ours[name], theirs[name].to_numpy(), **CLOSE, err_msg=name)


@pytest.mark.parametrize("empty", ["skip", "carry"])
def test_bars_in_time_are_those_of_pandas(trades: dict[str, Any], empty: str) -> None:
    ours = compute("resample_ohlc", **cut(trades), interval="5s", empty=empty)
    check(ours, ohlc(trades, empty=empty).iloc[:-1])


def test_a_row_without_quantity_ends_a_bar_and_is_in_none() -> None:
    bars = Streaming("resample_ohlc", interval="5s", empty="carry")
    assert len(bars.update([S], p=[1.0], q=[0.0])["O"]) == 0
    assert len(bars.update([2 * S, 3 * S], p=[7.0, 8.0], q=[1.0, 3.0])["O"]) == 0
    ended = bars.update([16 * S], p=[99.0], q=[0.0])
    assert ended["start_ns"].tolist() == [0, 5 * S, 10 * S]
    assert ended["H"].tolist() == [8.0, 8.0, 8.0]
    assert ended["V"].tolist() == [4.0, 0.0, 0.0]
    np.testing.assert_array_equal(ended["vwap"], [7.75, np.nan, np.nan])
    assert len(bars.update([17 * S, 18 * S], p=[np.nan, 5.0], q=[1.0, -1.0])["O"]) == 0
    assert bars.update([20 * S], p=[9.0], q=[1.0])["C"].tolist() == [8.0]


@pytest.mark.parametrize("empty", ["skip", "carry"])
def test_bars_of_two_pieces_are_those_of_the_whole(empty: str) -> None:
    """Each piece's answers, the bar across the cut in its whole form instead of the later piece's part of it."""
    trades = random_trades(400, 2)
    trades["q"][trades["t"] % 3 == 0] = 0.0
    given = {"interval": "5s", "empty": empty}
    whole = Streaming("resample_ohlc", **given)
    expected = pd.DataFrame(whole.update(**cut(trades, where=slice(0, 400))))
    timer = {"t": trades["t"][-1:] + 60 * S, "p": [1.0], "q": [0.0]}
    expected = pd.concat([expected, pd.DataFrame(whole.update(**timer))], ignore_index=True)
    for at in (0, 1, 7, 57, 58, 59, 60, 61, 200, 333, 399, 400):
        first, later = Streaming("resample_ohlc", **given), Streaming("resample_ohlc", **given)
        parts = [first.update(**cut(trades, where=slice(0, at))), later.update(**cut(trades, where=slice(at, 400)))]
        parts.append(first.merge(later).update(**timer))
        answers = pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True)
        answers = answers.drop_duplicates("start_ns", keep="last").sort_values("start_ns", ignore_index=True)
        pd.testing.assert_frame_equal(answers, expected, rtol=1e-12, check_exact=False, obj=f"cut at {at}")


def test_a_merge_waits_for_the_answers_of_the_one_before() -> None:
    pieces = [Streaming("resample_ohlc", interval="5s") for _ in range(3)]
    for piece, begin in zip(pieces, (0, 10, 20), strict=True):
        piece.update(np.array([begin, begin + 5]) * S, p=[1.0, 2.0], q=[1.0, 1.0])
    merged = pieces[0].merge(pieces[1])
    with pytest.raises(KernelError, match="resample_ohlc: a bar of the merge before is still due"):
        merged.merge(pieces[2])
    merged.update(np.zeros(0, dtype=np.int64), p=[], q=[])
    again = merged.merge(pieces[2]).update([30 * S], p=[1.0], q=[1.0])
    assert again["start_ns"].tolist() == [15 * S, 25 * S]


def naive_bars(trades: dict[str, Any], measure: Any, threshold: float) -> list[list[float]]:
    bars, begin, reached = [], 0, 0.0
    for k, one in enumerate(measure):
        reached += one
        if reached >= threshold * (1 - 1e-12):
            p, q = trades["p"][begin : k + 1], trades["q"][begin : k + 1]
            bars.append([p[0], p.max(), p.min(), p[-1], q.sum(), len(p), (p * q).sum() / q.sum()])
            begin, reached = k + 1, 0.0
    return bars


@pytest.mark.parametrize(
    ("name", "given", "measure"),
    [
        ("tick_bars", {"n": 7}, lambda trades: np.ones(len(trades["p"]))),
        ("volume_bars", {"volume": 100.0}, lambda trades: trades["q"]),
        ("dollar_bars", {"notional": 250_000.0}, lambda trades: trades["p"] * trades["q"]),
    ],
)
def test_bars_by_count_volume_and_money(trades: dict[str, Any], name: str, given: dict[str, Any], measure: Any) -> None:
    ours = compute(name, **cut(trades), **given)
    expected = np.array(naive_bars(trades, measure(trades), next(iter(given.values()))))
    assert len(expected) > 10
    for k, column in enumerate(COLUMNS):
        np.testing.assert_allclose(ours[column], expected[:, k], **CLOSE, err_msg=column)
    last = np.cumsum(expected[:, 5]).astype(int) - 1
    assert ours["end_ns"].tolist() == trades["t"][last].tolist()
    assert ours["start_ns"].tolist() == trades["t"][np.concatenate([[0], last[:-1] + 1])].tolist()


@pytest.mark.parametrize(("name", "size"), [("volume_bars", "volume"), ("dollar_bars", "notional")])
def test_cut_trades_make_bars_of_one_size(name: str, size: str) -> None:
    trades = random_trades(2_000, 3)
    threshold = 4.0 if name == "volume_bars" else 400.0
    ours = compute(name, **cut(trades), **{size: threshold}, split=True)
    reached = ours["V"] if name == "volume_bars" else ours["V"] * ours["vwap"]
    np.testing.assert_allclose(reached, threshold, rtol=1e-9)
    total = trades["q"].sum() if name == "volume_bars" else (trades["q"] * trades["p"]).sum()
    assert len(ours["V"]) == int(total / threshold)
    # The price at each multiple of the threshold is the close of the bar that ends there.
    measure = trades["q"] if name == "volume_bars" else trades["q"] * trades["p"]
    places = np.searchsorted(np.cumsum(measure), threshold * np.arange(1, len(ours["V"]) + 1) - 1e-6)
    np.testing.assert_array_equal(ours["C"], trades["p"][places])


def test_ten_trades_of_a_tenth_are_one() -> None:
    for split in (False, True):
        ours = compute("volume_bars", t=range(20), p=[5.0] * 20, q=[0.1] * 20, volume=1.0, split=split)
        assert ours["n"].tolist() == [10.0, 10.0]
    with pytest.raises(KernelError, match="volume_bars: volume is missing"):
        Streaming("volume_bars")


@pytest.mark.parametrize("kind", ["tick", "volume", "dollar"])
def test_imbalance_bars(trades: dict[str, Any], kind: str) -> None:
    p, q, s = trades["p"], trades["q"], trades["s"]
    v = {"tick": np.ones(len(p)), "volume": q, "dollar": p * q}[kind]
    weight = 1.0 - 2.0 ** (-1 / 5)
    expected, begin, e_n, e_s, e_v = [], 0, 20.0, np.nan, np.nan
    for k in range(len(p)):
        n = k + 1 - begin
        imbalance, threshold = (s[begin : k + 1] * v[begin : k + 1]).sum(), e_n * abs(e_s) * e_v
        is_reached = n == 20 if not expected else n >= 5 and (n >= 60 or abs(imbalance) >= threshold)
        if is_reached:
            share, mean = s[begin : k + 1].mean(), v[begin : k + 1].mean()
            if expected:
                e_n, e_s, e_v = (a + weight * (b - a) for a, b in ((e_n, n), (e_s, share), (e_v, mean)))
            else:
                e_s, e_v = share, mean
            expected.append([q[begin : k + 1].sum(), n, imbalance, threshold])
            begin = k + 1
    ours = compute("imbalance_bars", **cut(trades, "s"), kind=kind, expected_n=20, min_n=5, max_n=60, halflife=5.0)
    assert len(expected) > 50
    for k, column in enumerate(["V", "n", "imbalance", "threshold"]):
        np.testing.assert_allclose(ours[column], np.array(expected)[:, k], rtol=1e-8, atol=1e-8, err_msg=column)


def test_imbalance_bars_name_limits_that_descend() -> None:
    with pytest.raises(KernelError, match="min_n=50, expected_n=20, max_n=200"):
        Streaming("imbalance_bars", expected_n=20, min_n=50)
