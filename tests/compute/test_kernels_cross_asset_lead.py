"""Series with times of their own: sums over overlapping intervals against the double loop, lags against shifted series."""

from __future__ import annotations

import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import compute
from shared_data import shared

S = 10**9
MS = 10**6
Floats = np.ndarray


def streams(seed: int, n: int, *, steps_ns: int = 200 * MS, tied: float = 0.2) -> tuple[Floats, Floats, Floats]:
    """Rows of two correlated walks: times that are often equal, sides that are often missing."""
    rng = np.random.default_rng(seed)
    t = 1_769_083_200 * S + np.cumsum(rng.integers(1, steps_ns, n) * (rng.random(n) > tied))
    common = rng.standard_normal(n)
    x, y = np.cumsum(common + rng.standard_normal(n)), np.cumsum(common + rng.standard_normal(n))
    side = rng.random(n)
    return t, np.where(side < 0.6, x, np.nan), np.where(side > 0.4, y, np.nan)


def observed(t: Floats, value: Floats, after: float) -> tuple[Floats, Floats]:
    """Times and values of one side after a time, the last of each time."""
    kept = np.isfinite(value) & (t > after)
    times, values = t[kept], value[kept]
    is_last = np.r_[times[1:] != times[:-1], True] if len(times) else np.zeros(0, dtype=bool)
    return times[is_last], values[is_last]


def overlaps(tx: Floats, x: Floats, ty: Floats, y: Floats) -> float:
    """Every interval with every other."""
    if len(tx) < 2 or len(ty) < 2:
        return 0.0
    meets = (tx[:-1, None] < ty[None, 1:]) & (ty[None, :-1] < tx[1:, None])
    return float(np.sum(np.outer(np.diff(x), np.diff(y))[meets]))


def naive(t: Floats, x: Floats, y: Floats, row: int, w_ns: int | None) -> tuple[float, float]:
    """Covariance and correlation of the rows up to one."""
    if not (np.isfinite(x[row]) or np.isfinite(y[row])):
        return math.nan, math.nan
    after = -math.inf if w_ns is None else t[row] - w_ns
    (tx, a), (ty, b) = observed(t[: row + 1], x[: row + 1], after), observed(t[: row + 1], y[: row + 1], after)
    if len(tx) < 2 or len(ty) < 2:
        return math.nan, math.nan
    cov, squares = overlaps(tx, a, ty, b), np.sum(np.diff(a) ** 2) * np.sum(np.diff(b) ** 2)
    return cov, cov / math.sqrt(squares) if squares > 0.0 else math.nan


@pytest.fixture(scope="module")
def recorded() -> tuple[Floats, Floats, Floats]:
    """ln of trade prices of Binance's BTCUSDT on 2024-08-08: x spot, y perpetual, as they were received."""
    rows = []
    for side, market in enumerate(("spot", "usdm")):
        with gzip.open(shared(f"data/market/binance_2024-08-08/{market}_btcusdt_20240808.gz"), "rt") as file:
            for line in file:
                if '"e":"trade"' in line:
                    received, _, text = line.partition(" ")
                    rows.append((int(received), side, math.log(float(json.loads(text)["data"]["p"]))))
    t, side, log = (np.array(column) for column in zip(*sorted(rows), strict=True))
    return t, np.where(side == 0, log, np.nan), np.where(side == 1, log, np.nan)


def test_recorded_spot_and_perpetual(recorded: tuple[Floats, Floats, Floats]) -> None:
    t, x, y = recorded
    cov = compute("hayashi_yoshida_cov", t=t, x=x, y=y, w="20s")["cov"]
    corr = compute("hayashi_yoshida_corr", t=t, x=x, y=y, w="20s")["corr"]
    lead = compute("xcorr_leadlag", t=t, x=x, y=y, lags=4, step="20ms", w="20s")
    for row in range(2_000, len(t), len(t) // 12):
        expected = naive(t, x, y, row, 20 * S)
        np.testing.assert_allclose([cov[row], corr[row]], expected, rtol=1e-8)
        shifted = lead_naive(t, x, y, 4, 20 * MS, 20 * S, rows=[row], digits=30)[0]
        np.testing.assert_allclose([lead[name][row] for name in ("lag", "corr", "llr")], shifted, rtol=1e-6)
    assert np.nanmedian(lead["corr"]) > 0.1  # one asset on two venues


@pytest.mark.parametrize("w", ["7s", "300ms", None])
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_it_is_the_double_loop(seed: int, w: str | None) -> None:
    t, x, y = streams(seed, 400)
    w_ns = {"7s": 7 * S, "300ms": 300 * MS, None: None}[w]
    expected = np.array([naive(t, x, y, row, w_ns) for row in range(len(t))])
    cov = compute("hayashi_yoshida_cov", t=t, x=x, y=y, w=w)["cov"]
    corr = compute("hayashi_yoshida_corr", t=t, x=x, y=y, w=w)["corr"]
    np.testing.assert_allclose(cov, expected[:, 0], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(corr, expected[:, 1], rtol=1e-9, atol=1e-11)
    assert np.isfinite(cov).sum() > 20


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from("xyb-"), st.integers(-3, 3), st.integers(-3, 3)), max_size=40
    ),
    w=st.none() | st.integers(1, 12),
)
def test_small_streams_with_many_equal_times(rows: list[tuple[int, str, int, int]], w: int | None) -> None:
    t = np.cumsum([step for step, *_ in rows], dtype=np.int64) * MS
    x = np.array([a if side in "xb" else math.nan for _, side, a, _ in rows], dtype=float)
    y = np.array([b if side in "yb" else math.nan for _, side, _, b in rows], dtype=float)
    expected = np.array([naive(t, x, y, row, w and w * MS) for row in range(len(t))]).reshape(-1, 2)
    span = w and f"{w}ms"
    np.testing.assert_allclose(compute("hy_cov", t=t, x=x, y=y, w=span)["cov"], expected[:, 0], atol=1e-9)
    np.testing.assert_allclose(compute("hy_corr", t=t, x=x, y=y, w=span)["corr"], expected[:, 1], atol=1e-9)
    if w is None:
        return
    leads = lead_naive(t, x, y, 2, MS, w * MS)
    found = compute("xcorr_leadlag", t=t, x=x, y=y, lags=2, step="1ms", w=f"{w}ms")
    for name, column in zip(("lag", "corr", "llr"), leads.T, strict=True):
        np.testing.assert_allclose(found[name], column, rtol=1e-6, atol=1e-9, err_msg=name)


def test_synchronous_series_have_the_realised_covariance() -> None:
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((2, 500)).cumsum(axis=1)
    t = np.arange(500) * S
    ours = compute("hayashi_yoshida_cov", t=t, x=x, y=y, w=None)["cov"]
    np.testing.assert_allclose(ours[1:], np.cumsum(np.diff(x) * np.diff(y)), rtol=1e-10, atol=1e-10)
    assert compute("hy_corr", t=t, x=x, y=2.0 * x, w="100s")["corr"][-1] == pytest.approx(1.0)


def test_it_is_unbiased_where_a_grid_is_not() -> None:
    """Epps: returns on a fine grid lose the correlation of series that tick at random, overlapping intervals do not."""
    rng = np.random.default_rng(5)
    n, rho = 200_000, 0.8
    common, own = rng.standard_normal(n), rng.standard_normal(n)
    x, y = np.cumsum(common), np.cumsum(rho * common + math.sqrt(1 - rho * rho) * own)
    t = np.arange(n) * MS
    seen_x, seen_y = rng.random(n) < 0.1, rng.random(n) < 0.1
    # Without noise of the market, Σdx² is the variance whatever the times.
    corr = compute("hayashi_yoshida_corr", t=t, x=np.where(seen_x, x, np.nan), y=np.where(seen_y, y, np.nan), w=None)[
        "corr"
    ]
    last = corr[np.isfinite(corr)][-1]
    assert last == pytest.approx(rho, abs=0.03)
    filled_x = x[np.maximum.accumulate(np.where(seen_x, np.arange(n), 0))]
    filled_y = y[np.maximum.accumulate(np.where(seen_y, np.arange(n), 0))]
    assert np.corrcoef(np.diff(filled_x), np.diff(filled_y))[0, 1] < 0.5


def test_a_long_stream_keeps_its_digits() -> None:
    """Thousands of removals, and jumps that leave the window again."""
    t, x, y = streams(6, 30_000, steps_ns=20 * MS)
    x, y = 1e9 + 1e-3 * x, 5.0 + 1e-3 * y
    x[9_000:9_007] += 1_234.56789
    y[9_003:9_011] += 987.654321
    x[20_000:20_003] += 1e6
    cov = compute("hayashi_yoshida_cov", t=t, x=x, y=y, w="2s")["cov"]
    corr = compute("hayashi_yoshida_corr", t=t, x=x, y=y, w="2s")["corr"]
    lead = compute("xcorr_leadlag", t=t, x=x, y=y, lags=1, step="50ms", w="2s")
    for row in (*range(9_500, 9_600, 13), *range(10_000, 30_000, 1_997), 20_600):
        expected = naive(t, x, y, row, 2 * S)
        if math.isnan(expected[0]):
            assert math.isnan(cov[row])
            continue
        scale = abs(expected[0] / expected[1])
        np.testing.assert_allclose([cov[row] / scale, corr[row]], [expected[1]] * 2, rtol=0, atol=1e-9)
        found = lead_naive(t, x, y, 1, 50 * MS, 2 * S, rows=[row])[0]
        np.testing.assert_allclose([lead[name][row] for name in ("lag", "corr", "llr")], found, rtol=1e-6)


def test_what_was_far_beyond_is_forgotten_with_the_window() -> None:
    t, x, y = streams(8, 3_000, steps_ns=20 * MS)
    x[1_000], y[1_004] = 1e60, -1e60
    begin = 1_500  # more than a window later
    for kernel in ("hayashi_yoshida_cov", "hayashi_yoshida_corr"):
        (whole,), (later,) = (
            compute(kernel, t=t[first:], x=x[first:], y=y[first:], w="2s").values() for first in (0, begin)
        )
        np.testing.assert_allclose(whole[begin + 500 :], later[500:], rtol=1e-9)


def test_a_side_that_stands_still_or_is_silent() -> None:
    t, x, _ = streams(7, 200)
    still = np.where(np.arange(200) % 2, 3.0, np.nan)
    assert np.nanmax(np.abs(compute("hayashi_yoshida_cov", t=t, x=x, y=still)["cov"])) == 0.0
    assert np.isnan(compute("hayashi_yoshida_corr", t=t, x=x, y=still)["corr"]).all()
    silent = np.full(200, np.nan)
    for kernel in ("hayashi_yoshida_cov", "hayashi_yoshida_corr", "xcorr_leadlag"):
        for y in (silent, np.r_[1.0, 2.0, silent[2:]]):
            for column in compute(kernel, t=t, x=x, y=y, w="500ms").values():
                assert np.isnan(column[60:]).all()


# -- xcorr_leadlag ------------------------------------------------------------------------------------------------------


def lead_naive(
    t: Floats, x: Floats, y: Floats, lags: int, step_ns: int, w_ns: int, rows: list[int] | None = None,
    digits: int = 12,
) -> Floats:  # fmt: skip
    """Lag, correlation and ratio of every row, by shifting y's times. Sums that agree in so many digits are alike."""
    found = []
    for row in range(len(t)) if rows is None else rows:
        after = t[row] - w_ns
        (tx, a), (ty, b) = observed(t[: row + 1], x[: row + 1], after), observed(t[: row + 1], y[: row + 1], after)
        if not (np.isfinite(x[row]) or np.isfinite(y[row])) or len(tx) < 2 or len(ty) < 2:
            found.append([math.nan] * 3)
            continue
        u = {k: overlaps(tx, a, ty - k * step_ns, b) for k in range(-lags, lags + 1)}
        best = max(sorted(u, key=lambda k: (abs(k), -k)), key=lambda k: abs(round(u[k], digits)))
        squares = math.sqrt(np.sum(np.diff(a) ** 2) * np.sum(np.diff(b) ** 2))
        ahead, behind = (sum(u[sign * k] ** 2 for k in range(1, lags + 1)) for sign in (1, -1))
        found.append([
            best * step_ns / S if u[best] else math.nan, u[best] / squares if u[best] else math.nan,
            ahead / behind if behind > 0.0 and u[best] else math.nan,
        ])  # fmt: skip
    return np.array(found).reshape(-1, 3)


@pytest.mark.parametrize("seed", [1, 2])
def test_lags_are_those_of_shifted_series(seed: int) -> None:
    t, x, y = streams(seed, 500)
    expected = lead_naive(t, x, y, 3, 150 * MS, 8 * S)
    ours = compute("xcorr_leadlag", t=t, x=x, y=y, lags=3, step="150ms", w="8s")
    for name, column in zip(("lag", "corr", "llr"), expected.T, strict=True):
        np.testing.assert_allclose(ours[name], column, rtol=1e-8, atol=1e-10, err_msg=name)
    late = compute("xcorr_leadlag", t=t, x=x, y=y, lags=3, step="150ms", w="8s", min_obs=30)["lag"]
    assert np.isnan(late[:50]).all()
    np.testing.assert_array_equal(late[250:], ours["lag"][250:])


@pytest.mark.parametrize("lead_ms", [-300, 0, 500])
def test_it_finds_who_leads(lead_ms: int) -> None:
    """y is x of so many milliseconds ago, and noise; each is seen at random times."""
    rng = np.random.default_rng(8)
    n, every = 60_000, 10 * MS
    path = rng.standard_normal(n + 200).cumsum()
    t, k = np.arange(n) * every, np.arange(n) + 100
    x = np.where(rng.random(n) < 0.2, path[k], np.nan)
    y = np.where(rng.random(n) < 0.2, path[k - lead_ms // 10], np.nan)
    ours = compute("xcorr_leadlag", t=t, x=x, y=y, min_obs=200)
    lag = ours["lag"][np.isfinite(ours["lag"])]
    assert np.median(lag) == pytest.approx(lead_ms / 1000.0)
    assert np.mean(np.abs(lag - lead_ms / 1000.0) < 1e-9) > 0.95
    ratio = np.nanmedian(ours["llr"])
    assert ratio > 2.0 if lead_ms > 0 else ratio < 0.5 if lead_ms < 0 else 0.5 < ratio < 2.0
    turned = compute("xcorr_leadlag", t=t, x=y, y=x, min_obs=200)
    assert np.nanmedian(turned["lag"]) == pytest.approx(-lead_ms / 1000.0)


def test_windows_must_be_durations() -> None:
    for wrong in ({"w": None}, {"step": None}):
        with pytest.raises(KernelError, match=f"xcorr_leadlag: {next(iter(wrong))}=None: it must be a duration"):
            compute("xcorr_leadlag", t=[1], x=[1.0], y=[1.0], **wrong)
    with pytest.raises(KernelError, match="hayashi_yoshida_cov: w=100: it must be a duration"):
        compute("hayashi_yoshida_cov", t=[1], x=[1.0], y=[1.0], w=100)
