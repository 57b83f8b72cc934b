"""Guards against plain loops and closed forms."""

from __future__ import annotations

import gzip
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import median_abs_deviation

from oneprice.compute.kernels.streaming import compute
from shared_data import shared

S = 1_000_000_000
MS = 1_000_000
BEGIN = 1_769_083_200 * S
CLOSE = {"rtol": 1e-10, "atol": 1e-12, "equal_nan": True}


@pytest.fixture(scope="module")
def recorded() -> tuple[Any, Any]:
    """Times and prices of recorded trades."""
    rows = []
    with gzip.open(shared("data/market/binance_2024-08-08/spot_btcusdt_20240808.gz"), "rt") as file:
        for line in file:
            if '"e":"trade"' in line or '"e":"aggTrade"' in line:
                received, _, text = line.partition(" ")
                rows.append((int(received), float(json.loads(text)["data"]["p"])))
    return np.maximum.accumulate(np.array([row[0] for row in rows])), np.array([row[1] for row in rows])


# -- stale_quote_detector ---------------------------------------------------------------------------------------------


def test_stale_quotes() -> None:
    rng = np.random.default_rng(1)
    n = 3_000
    t = BEGIN + np.cumsum(rng.integers(0, 400 * MS, n))
    bid = 100.0 + np.cumsum(rng.random(n) < 0.1) * 0.01
    m = np.round(100.0 + np.cumsum(rng.integers(-2, 3, n)) * 0.01, 2)
    quoted = np.maximum.accumulate(np.where(rng.random(n) < 0.4, t, BEGIN))
    ours = compute("stale_quote_detector", t=t, b=bid, a=bid + 0.01, m=m, t_quote=quoted)
    expected, since, by_move = [], 0, 0
    for k in range(n):
        if bid[k] != bid[since]:
            since = k
        moved_ticks = round(abs(m[k] - m[since]) / 0.01)
        by_move += moved_ticks > 5
        expected.append(int(t[k] - quoted[k] > 1_000 * MS or moved_ticks > 5))
    assert ours["stale"].tolist() == expected
    assert 0 < by_move < n
    np.testing.assert_allclose(ours["age_ms"], (t - quoted) / 1e6, **CLOSE)


def test_a_quote_from_the_future_is_not_judged() -> None:
    ours = compute("stale_quote_detector", t=[5, 6], b=[1, 1], a=[2, 2], m=[1, 1], t_quote=[5, 7])
    assert ours["stale"].tolist() == [0, -128]


# -- price_band_guard, fat_finger_guard -------------------------------------------------------------------------------


def test_price_band() -> None:
    rng = np.random.default_rng(2)
    p, ref = 100.0 * np.exp(rng.normal(0, 0.05, 500)), np.full(500, 100.0)
    ours = compute("price_band_guard", p=p, ref=ref)
    np.testing.assert_allclose(ours["dev"], p / ref - 1.0, **CLOSE)
    assert ours["ok"].tolist() == (np.abs(p - 100.0) <= 5.0).astype(int).tolist()
    on_the_band = compute("price_band_guard", p=[105.0, 95.0, 105.01, 94.99, 0.105], ref=[100.0] * 4 + [0.1])
    assert on_the_band["ok"].tolist() == [1, 1, 0, 0, 1]
    unusable = compute("price_band_guard", p=[0.0, 1.0, np.nan, 1e300], ref=[1.0, -1.0, 1.0, 1e-300])
    assert unusable["ok"].tolist() == [-128, -128, -128, 0]
    assert np.isnan(unusable["dev"]).all()


def test_fat_fingers() -> None:
    rng = np.random.default_rng(3)
    n = 2_000
    p, q = 100.0 * np.exp(rng.normal(0, 0.1, n)), rng.exponential(8_000.0, n)
    typical = rng.exponential(1_000.0, n) + 1.0
    ours = compute("fat_finger_guard", p=p, q=q, ref=np.full(n, 100.0), typical_q=typical)
    masks = [
        (abs(a / 100 - 1) > 0.1) + 2 * (a * b > 1e6) + 4 * (b > 20 * c) for a, b, c in zip(p, q, typical, strict=True)
    ]
    assert ours["mask"].tolist() == masks
    assert set(masks) == set(range(8))
    assert ours["ok"].tolist() == [int(mask == 0) for mask in masks]
    edges = compute(
        "fat_finger_guard",
        p=[110.0, 100.0, 100.0],
        q=[1.0, 10_000.0, 20.0],
        ref=[100.0] * 3,
        typical_q=[500.0, 500.0, 1.0],
    )
    assert edges["mask"].tolist() == [0, 0, 0]
    bad = compute("fat_finger_guard", p=[1.0] * 3, q=[-1.0, 1.0, np.nan], ref=[1.0] * 3, typical_q=[1.0, 0.0, 1.0])
    assert bad["ok"].tolist() == [-128] * 3


# -- circuit_breaker --------------------------------------------------------------------------------------------------


def naive_breaker(t: Any, p: Any, limit: float, w_ns: int, cool_ns: int) -> tuple[list[int], list[float]]:
    states, moves, begin, until = [], [], 0, None
    for k in range(len(t)):
        if until is not None and t[k] < until:
            states.append(1)
            moves.append(np.nan)
            continue
        if until is not None:
            begin, until = k, None
        inside = p[begin : k + 1][t[begin : k + 1] > t[k] - w_ns]
        moves.append(max(p[k] / inside.min() - 1.0, 1.0 - p[k] / inside.max()))
        if moves[-1] >= limit * (1 - 1e-12):
            until = t[k] + cool_ns
        states.append(int(until is not None))
    return states, moves


def test_circuit_breaker(recorded: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(4)
    random = (BEGIN + np.cumsum(rng.integers(0, 300 * MS, 4_000)), 100.0 * np.exp(rng.normal(0, 0.002, 4_000).cumsum()))
    for (t, p), limit, w in ((random, 0.02, 60), ((recorded[0][:6_000], recorded[1][:6_000]), 0.0005, 20)):
        states, moves = naive_breaker(t, p, limit, w * S, 5 * S)
        ours = compute("circuit_breaker", t=t, p=p, move=limit, w=f"{w}s", cool_s=5.0)
        assert ours["state"].tolist() == states
        np.testing.assert_allclose(ours["move"], moves, **CLOSE)
        assert 0 < sum(states) < len(states)


def test_a_breaker_trips_at_its_limit_and_starts_anew() -> None:
    t = np.array([0, 1, 2, 60, 61, 62]) * S
    ours = compute("circuit_breaker", t=t, p=[100.0, 105.0, 100.0, 100.0, 104.0, 99.0])
    assert ours["state"].tolist() == [
        0,
        1,
        1,
        1,
        0,
        0,
    ]  # from 105 at second 1 it cools until second 61, 104 is its first price
    assert compute("circuit_breaker", t=[0, S], p=[100.0, 95.0])["state"].tolist() == [0, 1]


# -- throttle_check ---------------------------------------------------------------------------------------------------


def test_the_bucket() -> None:
    rng = np.random.default_rng(5)
    t = BEGIN + np.cumsum(rng.integers(0, 150 * MS, 3_000))
    weight = rng.integers(0, 4, 3_000).astype(float)
    tokens, before, allowed, left = 6.0, t[0], [], []
    for now, one in zip(t, weight, strict=True):
        tokens, before = min(6.0, tokens + 12.0 * (now - before) / 1e9), now
        allowed.append(int(tokens >= one))
        tokens -= one * allowed[-1]
        left.append(tokens)
    ours = compute("throttle_check", t=t, weight=weight, rate=12.0, burst=6.0)
    assert ours["allowed"].tolist() == allowed
    assert 0 < sum(allowed) < 3_000
    np.testing.assert_allclose(ours["tokens"], left, rtol=1e-9, atol=1e-9)
    tenths = compute("throttle_check", t=np.arange(30) * S // 10, weight=[10.0] + [0.0] * 9 + [10.0] + [0.0] * 19)
    assert tenths["allowed"][[0, 10]].tolist() == [1, 1]


def test_the_window_never_holds_more_than_the_rate() -> None:
    rng = np.random.default_rng(6)
    t = BEGIN + np.cumsum(rng.choice([0, 5 * MS, 20 * MS, S], 3_000, p=[0.3, 0.4, 0.295, 0.005]))
    weight = rng.integers(0, 4, 3_000).astype(float)
    ours = compute("throttle_check", t=t, weight=weight, rate=150.0, method="window")
    sent: list[tuple[int, float]] = []
    allowed, left = [], []
    for now, one in zip(t, weight, strict=True):
        used = sum(cost for when, cost in sent if when > now - S)
        allowed.append(int(used + one <= 150.0))
        if allowed[-1]:
            sent.append((now, one))
        left.append(150.0 - used - one * allowed[-1])
    assert ours["allowed"].tolist() == allowed
    assert ours["tokens"].tolist() == left
    assert 0 < sum(allowed) < 3_000
    exactly = compute("throttle_check", t=[0, 0, S - 1, S, S], weight=[1.0] * 5, rate=2.0, method="window")
    assert exactly["allowed"].tolist() == [1, 1, 0, 1, 1]


# -- outlier_flag_mad -------------------------------------------------------------------------------------------------


def test_outliers_by_the_window_before(recorded: tuple[Any, Any]) -> None:
    rng = np.random.default_rng(7)
    noisy = rng.standard_t(2, 1_500)
    noisy[::13] = np.nan
    for x, w in ((noisy, 40), (recorded[1][:1_500], 40)):
        valid = pd.Series(x).dropna()
        before = valid.shift().rolling(w)
        mad = before.apply(lambda part: median_abs_deviation(part, scale="normal"), raw=True)
        score = ((valid - before.median()) / mad.clip(lower=0.01)).reindex(range(len(x)))
        ours = compute("outlier_flag_mad", x=x, w=w)
        np.testing.assert_allclose(ours["score"], score, rtol=1e-9, atol=1e-9)
        assert ours["flag"].tolist() == np.where(score.isna(), -128, (score.abs() > 5.0).astype(int)).tolist()


def test_a_flat_window_uses_the_floor() -> None:
    ours = compute("outlier_flag_mad", x=[5.0] * 20 + [5.04, 5.06], w=20, floor=0.01)
    np.testing.assert_allclose(ours["score"][20:], [4.0, 6.0])
    assert ours["flag"][19:].tolist() == [-128, 0, 1]
