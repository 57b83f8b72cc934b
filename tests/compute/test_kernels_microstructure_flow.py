"""Trades against closed forms, ASOF joins of Polars, and plain loops, drawn and recorded."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import polars as pl
import pytest
from kernel_world import market, times
from scipy.stats import norm

from oneprice.compute.kernels.definition import INT8_NONE, KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

N = 4_000
CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}
FOLDER = "data/market/binance_depth1000_2026-02-16"


def drawn() -> dict[str, Any]:
    rng = np.random.default_rng(2)
    columns = market(rng, N) | {"t": times(rng, N)}
    columns["p"] = np.round(columns["m"] + rng.choice([-0.01, 0.0, 0.01], N) * rng.integers(1, 4, N), 3)
    at_quote = rng.random(N)
    columns["p"] = np.where(at_quote < 0.3, columns["b"], np.where(at_quote < 0.6, columns["a"], columns["p"]))
    columns["q"] = rng.integers(0, 400, N) / 64.0
    columns["p"][rng.random(N) < 0.03] = np.nan
    columns["q"][rng.random(N) < 0.01] = -1.0
    columns["m"][rng.random(N) < 0.02] = np.inf
    return columns


def recorded() -> dict[str, Any]:
    """Trades, with the touch just before them."""
    trades = (
        pl.read_parquet(shared(f"{FOLDER}/trades_btc_fut_2026-02-16_04.parquet"))
        .head(N)
        .sort("ts_ms", maintain_order=True)
    )
    books = pl.read_parquet(shared(f"{FOLDER}/lobdeep_btc_fut_2026-02-16_04.parquet"))
    both = trades.join_asof(books.select("ts_ms", "best_bid", "best_ask").sort("ts_ms"), on="ts_ms").drop_nulls(
        "best_bid"
    )
    b, a = both["best_bid"].to_numpy(), both["best_ask"].to_numpy()
    return {
        "t": both["ts_ms"].to_numpy() * 1_000_000, "p": both["price"].to_numpy(), "q": both["qty"].to_numpy(),
        "s": np.where(both["side"].str.to_lowercase() == "buy", 1.0, -1.0), "b": b, "a": a, "m": (a + b) / 2.0,
    }  # fmt: skip


@pytest.fixture(scope="module", params=[drawn, recorded], ids=["drawn", "recorded"])
def world(request: pytest.FixtureRequest) -> dict[str, Any]:
    return request.param()


def given(world: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: world[name] for name in names}


def put_back(rows: np.ndarray, values: Any, none: float = math.nan) -> np.ndarray:
    whole = np.full(len(rows), none)
    whole[rows] = values
    return whole


# -- what a trade cost ----------------------------------------------------------------------------------------------------


def test_effective_spread(world: dict[str, Any]) -> None:
    p, s, m = (world[name] for name in "psm")
    fine = np.isfinite(p) & np.isfinite(m)
    expected = put_back(fine, 2e4 * s[fine] * (p[fine] - m[fine]) / m[fine])
    ours = compute("effective_spread", p=p, s=s, m=m)["bps"]
    np.testing.assert_allclose(ours, expected, **CLOSE)
    assert (ours < 0.0).any()  # price improvement is kept
    assert np.isnan(compute("effective_spread", p=[1.0], s=[0.0], m=[1.0])["bps"]).all()


def test_realized_spread_is_that_of_an_asof_join(world: dict[str, Any]) -> None:
    t, p, m = (world[name] for name in "tpm")
    s = world["s"].copy()
    s[::5] = 0.0  # rows that only bring a mid
    rows = np.flatnonzero(np.isfinite(m) & ((s == 0.0) | np.isfinite(p)))
    mids = pl.DataFrame({"t": t[rows], "later": m[rows]})
    trades = pl.DataFrame({"row": rows, "t": t[rows] + 1_500_000_000, "p": p[rows], "s": s[rows], "m": m[rows]})
    joined = trades.filter((pl.col("s") != 0) & (pl.col("t") < t[rows[-1]])).join_asof(mids, on="t")
    ours = compute("realized_spread", t=t, p=p, s=s, m=m, delay_s=1.5)
    assert ours["row"].tolist() == joined["row"].to_list()
    bps = joined.select(
        realized=2e4 * pl.col("s") * (pl.col("p") - pl.col("later")) / pl.col("m"),
        impact=2e4 * pl.col("s") * (pl.col("later") - pl.col("m")) / pl.col("m"),
    )
    np.testing.assert_allclose(ours["bps"], bps["realized"].to_numpy(), rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(ours["impact_bps"], bps["impact"].to_numpy(), rtol=1e-9, atol=1e-9)
    effective = compute("effective_spread", p=p, s=s, m=m)["bps"][ours["row"]]
    np.testing.assert_allclose(ours["bps"] + ours["impact_bps"], effective, rtol=1e-9, atol=1e-9)
    assert len(ours["row"]) > 1_000


def test_a_mid_at_the_very_end_of_the_delay_counts_and_the_answer_comes_after_it() -> None:
    quotes = {"p": [101.0] + [np.nan] * 4, "s": [1.0, 0.0, 0.0, 0.0, 0.0], "m": [100.0, 102.0, 103.0, 104.0, 105.0]}
    t = np.array([0, 1, 2, 2, 3]) * 10**9
    streaming = Streaming("realized_spread", delay_s=2.0)
    before = streaming.update(t[:4], **{name: column[:4] for name, column in quotes.items()})
    assert len(before["row"]) == 0
    after = streaming.update(t[4:], **{name: column[4:] for name, column in quotes.items()})
    assert (after["row"].tolist(), after["bps"].tolist(), after["impact_bps"].tolist()) == ([0], [-600.0], [800.0])


def test_realized_spreads_in_any_cuts_and_with_more_waiting_trades_than_there_was_room_for() -> None:
    """What nobody could know yet is not told: the answers by a row are those of the rows up to it."""
    world = recorded()
    columns = given(world, "p", "s", "m")
    whole = compute("realized_spread", t=world["t"], delay_s=0.5, **columns)
    streaming, parts = Streaming("realized_spread", delay_s=0.5), []
    for start in range(0, len(world["t"]), 700):
        cut = slice(start, start + 700)
        parts.append(streaming.update(world["t"][cut], **{name: column[cut] for name, column in columns.items()}))
    for name, column in whole.items():
        assert column.tobytes() == np.concatenate([part[name] for part in parts]).tobytes(), name
    poisoned = {name: np.where(np.arange(len(column)) < 2_000, column, 1e9) for name, column in columns.items()}
    again = compute("realized_spread", t=world["t"], delay_s=0.5, **poisoned)
    known = np.searchsorted(world["t"][whole["row"]] + 500_000_000, world["t"][1_999])
    assert again["bps"][:known].tobytes() == whole["bps"][:known].tobytes()
    assert known > 1_000


# -- who took ----------------------------------------------------------------------------------------------------------------


def naive_signs(world: dict[str, Any], rows: np.ndarray, method: str, delay_ns: int) -> list[int]:
    t, p, m, b, a = (world[name][rows] for name in "tpmba")
    signs, tick = [], 0
    for k in range(len(rows)):
        if k and p[k] != p[k - 1]:
            tick = 1 if p[k] > p[k - 1] else -1
        quotes = k if delay_ns == 0 else next((j for j in range(k, -1, -1) if t[j] <= t[k] - delay_ns), None)
        sign = tick
        if quotes is not None:
            if method == "lee_ready" and p[k] != m[quotes]:
                sign = 1 if p[k] > m[quotes] else -1
            if method == "emo" and a[quotes] != b[quotes] and p[k] in (a[quotes], b[quotes]):
                sign = 1 if p[k] == a[quotes] else -1
        signs.append(sign)
    return signs


@pytest.mark.parametrize(("method", "reads"), [("tick", ()), ("lee_ready", ("m",)), ("emo", ("b", "a"))])
@pytest.mark.parametrize("delay_ns", [0, 400_000_000])
def test_trade_signs(world: dict[str, Any], method: str, reads: tuple[str, ...], delay_ns: int) -> None:
    fine = np.isfinite(world["p"]) & (np.isfinite(world["m"]) | ("m" not in reads))
    rows = np.flatnonzero(fine)
    expected = naive_signs(world, rows, method, 0 if method == "tick" else delay_ns)
    ours = compute("trade_sign", t=world["t"], **given(world, "p", *reads), method=method, quote_delay_ns=delay_ns)["s"]
    assert ours.dtype == np.int8
    np.testing.assert_array_equal(ours, put_back(fine, expected, INT8_NONE))
    assert len(set(expected)) >= 2


def test_the_venues_flag_is_the_sign_and_what_the_recording_says_agrees_with_its_quotes() -> None:
    flags = [1.0, -1.0, 0.0, np.nan, 2.0]
    assert compute("trade_sign", p=[1.0] * 5, flag=flags)["s"].tolist() == [1, -1, 0, INT8_NONE, INT8_NONE]
    world = recorded()
    guessed = compute("trade_sign", p=world["p"], m=world["m"], method="lee_ready")["s"]
    assert (guessed == world["s"]).mean() > 0.7


def test_signs_before_the_first_change_are_undetermined_and_a_missing_flag_is_named() -> None:
    assert compute("trade_sign", p=[5.0, 5.0, 6.0, 6.0, 5.0], method="tick")["s"].tolist() == [0, 0, 1, 1, -1]
    with pytest.raises(KernelError, match="trade_sign: the input flag is missing"):
        compute("trade_sign", p=[1.0])
    with pytest.raises(KernelError, match="t is missing"):
        compute("trade_sign", p=[1.0], m=[1.0], method="lee_ready", quote_delay_ns=1)


# -- toxic flow --------------------------------------------------------------------------------------------------------------


def naive_vpin(fills: list[tuple[float, float]], bucket_qty: float, buckets: int) -> list[float]:
    """After each (quantity, share bought): the mean |V_b − V_s| of the last buckets, a trade cut at each bucket's end, in
    exact fractions."""
    ended: list[float] = []
    bought = sold = Fraction(0)
    outputs = []
    for qty, part_bought in fills:
        rest, share = Fraction(str(qty)), Fraction(str(part_bought))
        while bought + sold + rest >= bucket_qty:
            part = Fraction(bucket_qty) - bought - sold
            ended.append(float(abs(bought + part * share - sold - part * (1 - share))))
            rest, bought, sold = rest - part, Fraction(0), Fraction(0)
        bought, sold = bought + rest * share, sold + rest * (1 - share)
        outputs.append(sum(ended[-buckets:]) / (buckets * bucket_qty) if len(ended) >= buckets else math.nan)
    return outputs


@pytest.mark.parametrize("bucket_qty", [2.0, 0.75, 10.0])
def test_vpin_by_flag(world: dict[str, Any], bucket_qty: float) -> None:
    s = world["s"].copy()
    s[::11] = 0.0
    fine = np.isfinite(world["p"]) & (world["q"] >= 0)
    fills = list(zip(world["q"][fine], (1 + s[fine]) / 2, strict=True))
    expected = naive_vpin(fills, bucket_qty, 6)
    ours = compute("vpin", p=world["p"], q=world["q"], s=s, bucket_qty=bucket_qty, buckets=6)["vpin"]
    np.testing.assert_allclose(ours, put_back(fine, expected), rtol=1e-8, atol=1e-9)
    assert np.isfinite(ours).mean() > 0.5


def test_vpin_by_bulk_volume(world: dict[str, Any]) -> None:
    fine = np.isfinite(world["p"]) & (world["q"] >= 0)
    t, p, q = (world[name][fine] for name in "tpq")
    bar_ns, alpha = 2_000_000_000, 1 - 2 ** (-1 / 5)
    bars = t // bar_ns
    fills, bar_of_fill, close, variance = [], [], math.nan, math.nan
    for bar in np.unique(bars)[:-1]:
        inside = bars == bar
        change = p[inside][-1] - close
        if variance > 0:
            fills.append((q[inside].sum(), norm.cdf(change / math.sqrt(variance))))
            bar_of_fill.append(bar)
        close = p[inside][-1]
        if not math.isnan(change):
            variance = change**2 if math.isnan(variance) else variance + alpha * (change**2 - variance)
    steps = [math.nan, *naive_vpin(fills, 3.0, 8)]
    expected = [steps[np.searchsorted(bar_of_fill, bar)] for bar in bars]
    parameters = {"bucket_qty": 3.0, "buckets": 8, "classify": "bvc", "bar": "2s", "sigma_halflife": 5.0}
    ours = compute("vpin", **given(world, "t", "p", "q"), **parameters)["vpin"]
    np.testing.assert_allclose(ours, put_back(fine, expected), rtol=1e-7, atol=1e-9)
    assert np.isfinite(ours).mean() > 0.3


def test_vpin_is_a_share_of_the_buckets_however_large_a_trade_is() -> None:
    rng = np.random.default_rng(1)
    q, s = rng.choice([1.0, 7.0, 1e19, 1e300, 1.7e308], 500), rng.choice([-1.0, 1.0], 500)
    ours = compute("vpin", p=np.ones(500), q=q, s=s, bucket_qty=4.0, buckets=5)["vpin"]
    assert (np.isnan(ours) | (ours >= 0.0) & (ours <= 1.0)).all()
    assert np.isfinite(ours).sum() > 400


def test_one_trade_over_more_buckets_than_the_window_holds() -> None:
    ours = compute("vpin", p=[1.0] * 3, q=[1e12, 3.0, 4.0], s=[1.0, -1.0, -1.0], bucket_qty=4.0, buckets=2)["vpin"]
    assert ours.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(KernelError, match="bucket_qty is missing"):
        Streaming("vpin")


# -- trades that call for trades ----------------------------------------------------------------------------------------


def test_hawkes_is_the_double_sum(world: dict[str, Any]) -> None:
    t = world["t"][:600]
    event = (np.random.default_rng(3).random(len(t)) < 0.6).astype(float)
    mu, alpha, beta = 0.4, 1.1, 2.0
    seconds = (t - t[0]) / 1e9
    expected = np.zeros((len(t), 3))
    for k in range(len(t)):
        earlier = seconds[:k][event[:k] == 1.0]
        expected[k, 0] = mu + (alpha * np.exp(-beta * (seconds[k] - earlier))).sum()
        expected[k, 1] = expected[k, 0] + alpha * event[k]
        gone = (1.0 - np.exp(-beta * (seconds[k] - earlier))).sum() * alpha / beta
        expected[k, 2] = (np.log(expected[: k + 1, 0]) * event[: k + 1]).sum() - mu * seconds[k] - gone
    ours = compute("hawkes_intensity", t=t, event=event, mu=mu, alpha=alpha, beta=beta)
    for column, name in enumerate(("lambda_before", "lambda_after", "loglik")):
        np.testing.assert_allclose(ours[name], expected[:, column], rtol=1e-8, atol=1e-8)


def test_hawkes_must_be_stable() -> None:
    with pytest.raises(KernelError, match="alpha=1: it must be below beta=1"):
        Streaming("hawkes_intensity", alpha=1.0)
    ours = compute("hawkes_intensity", t=[0, 0, 0], event=[1.0, 2.0, 1.0])
    np.testing.assert_allclose(ours["lambda_before"], [0.1, np.nan, 0.6])


@pytest.mark.parametrize(
    ("kernel", "inputs", "parameters"),
    [
        ("vpin", "pq", {"bucket_qty": 1.0, "buckets": 4, "classify": "bvc", "bar": "2s"}),
        ("trade_sign", "pba", {"method": "emo", "quote_delay_ns": 400_000_000}),
    ],
)
def test_other_ways_keep_their_state_across_cuts_and_over_rows_that_cannot_be_used(
    world: dict[str, Any], kernel: str, inputs: str, parameters: dict[str, Any]
) -> None:
    """The laws' own parameters read other inputs."""
    columns = given(world, *inputs)
    whole = compute(kernel, world["t"], **columns, **parameters)
    streaming, parts = Streaming(kernel, **parameters), []
    for start in range(0, N, 333):
        cut = slice(start, start + 333)
        parts.append(streaming.update(world["t"][cut], **{name: column[cut] for name, column in columns.items()}))
        streaming = Streaming.load(streaming.save())
    fine = np.isfinite(world["p"]) & (world["q"] >= 0)
    left = compute(kernel, world["t"][fine], **{name: column[fine] for name, column in columns.items()}, **parameters)
    for name, column in whole.items():
        assert column.tobytes() == np.concatenate([part[name] for part in parts]).tobytes(), name
        if kernel == "vpin":
            assert column[fine].tobytes() == left[name].tobytes(), name
