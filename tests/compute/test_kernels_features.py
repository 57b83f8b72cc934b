"""Features against pandas, NumPy, SciPy and plain loops, on random series and on recorded trades."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

N = 3_000
CLOSE = {"rtol": 1e-9, "atol": 1e-11, "equal_nan": True}


def random_series() -> pd.Series:
    return pd.Series(np.random.default_rng(1).standard_t(4, N).cumsum())


def recorded_series() -> pd.Series:
    """Prices of trades in BTC futures: long flat stretches on a grid far from zero."""
    return pd.read_parquet(shared("data/market/binance_depth1000_2026-02-16/trades_btc_fut_2026-02-16_04.parquet"))[
        "price"
    ]


@pytest.fixture(scope="module", params=[random_series, recorded_series], ids=["random", "recorded"])
def x(request: pytest.FixtureRequest) -> pd.Series:
    """A series, some rows of which cannot be used."""
    found: pd.Series = request.param().copy()
    found[np.random.default_rng(2).random(len(found)) < 0.03] = np.nan
    return found


def check(ours: Any, theirs: pd.Series, rows: int, **tolerance: Any) -> None:
    """Theirs, put back at the rows it was computed on."""
    np.testing.assert_allclose(ours, theirs.reindex(range(rows)).to_numpy(), **(CLOSE | tolerance))


def by_window(x: pd.Series, w: int, what: Any) -> pd.Series:
    """`what` of the windows of the rows that can be used, each by itself."""
    valid = x.dropna()
    windows = np.lib.stride_tricks.sliding_window_view(valid.to_numpy(), w)
    return pd.Series([what(window) for window in windows], index=valid.index[w - 1 :])


def test_lag_and_diff_count_rows(x: pd.Series) -> None:
    for k in (1, 7):
        check(compute("lag", x=x, k=k)["lag"], x.shift(k), len(x), rtol=0.0)
        check(compute("diff", x=x, k=k)["diff"], x.diff(k), len(x), rtol=0.0)
    assert np.isnan(compute("lag", x=[np.inf, 1.0, 2.0])["lag"]).tolist() == [True, True, False]


@pytest.mark.parametrize("w", [1, 2, 100])
def test_rolling_min_and_max(x: pd.Series, w: int) -> None:
    valid = x.dropna()
    check(compute("rolling_min", x=x, w=w)["min"], valid.rolling(w).min(), len(x), rtol=0.0)
    check(compute("rolling_max", x=x, w=w)["max"], valid.rolling(w).max(), len(x), rtol=0.0)


@pytest.mark.parametrize("order", [1.0, -1.0])
def test_extremes_of_what_only_rises_or_falls(order: float) -> None:
    x = order * np.arange(500.0)
    check(compute("rolling_max", x=x, w=100)["max"], pd.Series(x).rolling(100).max(), 500, rtol=0.0)
    check(compute("rolling_min", x=x, w=100)["min"], pd.Series(x).rolling(100).min(), 500, rtol=0.0)


def test_windows_in_time_are_those_of_pandas() -> None:
    rng = np.random.default_rng(3)
    t = 1_769_083_200_000_000_000 + np.cumsum(rng.integers(0, 40_000_000, N) * (rng.random(N) < 0.99) * 1)
    t += np.cumsum((rng.random(N) < 0.002) * 5_000_000_000)  # pauses that empty the window
    x = pd.Series(rng.standard_normal(N), index=pd.to_datetime(t))
    rolling, columns = x.rolling("3s"), {"t": t, "x": x.to_numpy(), "w": "3s"}  # (t - 3 s, t], as ours
    np.testing.assert_allclose(compute("rolling_max", **columns)["max"], rolling.max(), **CLOSE)
    np.testing.assert_allclose(compute("rolling_min", **columns)["min"], rolling.min(), **CLOSE)
    np.testing.assert_allclose(compute("rolling_std", **columns)["std"], rolling.std(), **CLOSE)
    np.testing.assert_allclose(
        compute("rolling_skew", min_obs=20, **columns)["skew"], x.rolling("3s", 20).skew(), **CLOSE
    )
    np.testing.assert_allclose(
        compute("rolling_kurt", min_obs=20, **columns)["kurt"], x.rolling("3s", 20).kurt(), **CLOSE
    )
    ours = compute("autocorr", k=2, **columns)["rho"]
    entropy = compute("entropy_hist", edges=[-1.0, 0.0, 1.0, 2.0], **columns)["H"]
    for row in range(0, N, 61):
        window = x.to_numpy()[(t > t[row] - 3_000_000_000) & (np.arange(N) <= row)]
        expected = np.corrcoef(window[2:], window[:-2])[0, 1] if len(window) >= 4 else np.nan
        np.testing.assert_allclose(ours[row], expected, **CLOSE)
        counts = np.histogram(window, [-1.0, 0.0, 1.0, 2.0])[0]
        np.testing.assert_allclose(entropy[row], stats.entropy(counts) if counts.any() else np.nan, **CLOSE)


@pytest.mark.parametrize("w", [4, 100])
def test_moments_are_those_of_each_window_by_itself(x: pd.Series, w: int) -> None:
    """pandas adds and removes, and loses digits on the recorded prices: its formulas, on one window at a time."""

    def of(name: str) -> Any:
        return lambda part: np.nan if np.ptp(part) == 0.0 else getattr(pd.Series(part - part.mean()), name)()

    few = x.iloc[:2_500]
    check(compute("rolling_std", x=few, w=w)["std"], by_window(few, w, lambda part: np.std(part, ddof=1)), len(few))
    check(compute("rolling_skew", x=few, w=w)["skew"], by_window(few, w, of("skew")), len(few), atol=1e-9)
    check(compute("rolling_kurt", x=few, w=w)["kurt"], by_window(few, w, of("kurt")), len(few), atol=1e-9)


def test_shapes_of_values_far_away_and_of_outliers_keep_their_digits() -> None:
    rng = np.random.default_rng(5)
    noise = np.round(rng.standard_normal(30_000) * 2.0**20) / 2.0**20
    noise[::997] *= 1e5
    for x, tolerance in ((noise, 1e-9), (noise + 1e9, 1e-7), (noise + 0.5 * np.arange(30_000.0), 1e-9)):
        frame = np.lib.stride_tricks.sliding_window_view(x, 100)[::7]
        centred = frame - x.mean() - (frame - x.mean()).mean(axis=1, keepdims=True)
        for name, output, theirs in (
            ("rolling_skew", "skew", stats.skew(centred, axis=1, bias=False)),
            ("rolling_kurt", "kurt", stats.kurtosis(centred, axis=1, bias=False)),
        ):
            np.testing.assert_allclose(compute(name, x=x)[output][99::7], theirs, rtol=tolerance, atol=tolerance)


def test_a_flat_window_has_no_shape() -> None:
    flat = np.concatenate([np.random.default_rng(6).standard_normal(50), np.full(150, 0.1)])
    for name, output in (
        ("rolling_skew", "skew"),
        ("rolling_kurt", "kurt"),
        ("autocorr", "rho"),
        ("rolling_sharpe", "sharpe"),
    ):
        given = {"r" if name == "rolling_sharpe" else "x": flat}
        assert np.isnan(compute(name, w=60, **given)[output][110:]).all(), name
    assert compute("rolling_std", x=flat, w=60)["std"][-1] == 0.0


@pytest.mark.parametrize("k", [1, 5])
def test_autocorr(x: pd.Series, k: int) -> None:
    def correlation(part: np.ndarray) -> float:
        older, newer = part[:-k] - part.mean(), part[k:] - part.mean()
        return np.nan if np.ptp(older) == 0.0 or np.ptp(newer) == 0.0 else float(np.corrcoef(older, newer)[0, 1])

    few = x.iloc[:2_500]
    check(compute("autocorr", x=few, k=k, w=40)["rho"], by_window(few, 40, correlation), len(few))
    with pytest.raises(KernelError, match=r"autocorr: w=3: it must be at least k \+ 2 = 4"):
        Streaming("autocorr", k=2, w=3)


def test_autocorr_over_a_step_that_parts_the_pairs() -> None:
    x = np.concatenate([np.zeros(20), np.full(20, 1e6)]) + 1e-3 * np.random.default_rng(7).standard_normal(40)
    expected = np.corrcoef(x[:20], x[20:])[0, 1]
    assert compute("autocorr", x=x, k=20, w=40)["rho"][-1] == pytest.approx(expected, rel=1e-6)


def test_signed_volume() -> None:
    rng = np.random.default_rng(8)
    t = 1_769_083_200_000_000_000 + np.cumsum(rng.integers(0, 2_000_000_000, N))
    q, s = rng.integers(1, 500, N) / 100.0, rng.choice([-1.0, 0.0, 1.0], N)
    ours = compute("signed_volume", t=t, q=q, s=s)
    assert ours["sv"].tolist() == (q * s).tolist()
    np.testing.assert_allclose(ours["cum"], np.cumsum(q * s), **CLOSE)
    expected = pd.Series(q * s, index=pd.to_datetime(t)).rolling("60s").sum()
    np.testing.assert_allclose(ours["sum"], expected, rtol=1e-9, atol=1e-9)
    bad = compute("signed_volume", t=[0, 1, 2, 3], q=[1.0, -1.0, 1.0, 2.0], s=[1.0, 1.0, 5.0, -1.0])
    np.testing.assert_array_equal(bad["cum"], [1.0, np.nan, np.nan, -1.0])


@pytest.mark.parametrize("corrected", [False, True])
def test_entropy_hist(x: pd.Series, corrected: bool) -> None:
    few = x.iloc[:2_500]
    low, high = few.quantile(0.1), few.quantile(0.9)

    def entropy(bins: Any) -> Any:
        def of(part: np.ndarray) -> float:
            counts = np.histogram(part, bins)[0]
            if (np.ptp(part) == 0.0 and np.ndim(bins) == 0) or not counts.any():
                return np.nan
            return float(stats.entropy(counts)) + corrected * ((counts > 0).sum() - 1) / (2.0 * counts.sum())

        return of

    ours = compute("entropy_hist", x=few, miller_madow=corrected)
    check(ours["H"], by_window(few, 100, entropy(10)), len(few))
    check(ours["H_norm"], by_window(few, 100, entropy(10)) / np.log(10), len(few))
    edges = np.linspace(low, high, 6)
    ours = compute("entropy_hist", x=few, edges=edges.tolist(), miller_madow=corrected)
    check(ours["H"], by_window(few, 100, entropy(edges)), len(few))
    check(ours["H_norm"], by_window(few, 100, entropy(edges)) / np.log(5), len(few))


def test_entropy_of_bins_all_alike_is_that_of_none_known() -> None:
    x = np.tile(np.arange(10.0), 20)
    assert compute("entropy_hist", x=x)["H_norm"][-1] == pytest.approx(1.0, rel=1e-14)
    assert compute("entropy_hist", x=x, w=1_500, min_obs=10)["H"][-1] == pytest.approx(np.log(10), rel=1e-14)
    with pytest.raises(KernelError, match=r"entropy_hist: edges=.*ascending"):
        Streaming("entropy_hist", edges=[0.0, 1.0, 1.0])


def naive_labels(
    t: Any, p: Any, vol: Any, up: float, dn: float, horizon: int, *, by_sign: bool
) -> dict[int, tuple[Any, ...]]:
    """Row → (label, time, return), by looking ahead."""
    usable = [row for row in range(len(p)) if p[row] > 0.0 and vol[row] >= 0.0]
    found = {}
    for place, row in enumerate(usable):
        if vol[row] == 0.0:
            continue
        last = p[row]
        for later in usable[place + 1 :]:
            if t[later] > t[row] + horizon:
                ret = last / p[row] - 1.0
                found[row] = (np.sign(ret) if by_sign else 0, t[row] + horizon, ret)
                break
            last = p[later]
            touched = (last >= p[row] * (1.0 + up * vol[row])) * 1 or (last <= p[row] * (1.0 - dn * vol[row])) * -1
            if touched:
                found[row] = (touched, t[later], last / p[row] - 1.0)
                break
    return found


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6), horizon_s=st.integers(1, 150), reach=st.floats(1e-3, 2e-1),
    at_horizon=st.sampled_from(["zero", "sign"]),
)  # fmt: skip
def test_labels_are_those_of_looking_ahead(seed: int, horizon_s: int, reach: float, at_horizon: str) -> None:
    """From a few rows that wait to hundreds."""
    rng = np.random.default_rng(seed)
    n = 350
    t = 1_769_083_200_000_000_000 + np.cumsum(rng.integers(0, 3, n) * 500_000_000)
    p = np.round(100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, n))), 2)
    vol = np.where(rng.random(n) < 0.05, 0.0, reach * rng.random(n))
    p[rng.random(n) < 0.03], vol[rng.random(n) < 0.03] = np.nan, -1.0
    ours = compute("label_next_move", t=t, p=p, vol=vol, up=1.5, horizon=f"{horizon_s}s", at_horizon=at_horizon)
    theirs = naive_labels(t, p, vol, 1.5, 1.0, horizon_s * 1_000_000_000, by_sign=at_horizon == "sign")
    assert sorted(ours["row"].tolist()) == sorted(theirs)
    for row, *found in zip(*(ours[name].tolist() for name in ("row", "label", "touch_t", "ret")), strict=True):
        assert found == pytest.approx(theirs[row], rel=0, abs=1e-15)


def test_a_label_comes_when_it_is_known_and_not_before() -> None:
    labels = Streaming("label_next_move", horizon="10s")
    second = 1_000_000_000
    for at, price, rows in (
        (0, 100.0, []),
        (4, 100.5, []),
        (5, 101.0, [0]),
        (14, 100.8, []),
        (15, 100.2, [1]),
        (16, 99.0, [2, 3, 4]),
    ):
        got = labels.update([at * second], p=[price], vol=[0.01])
        assert got["row"].tolist() == rows
        if at == 5:
            assert (got["label"].tolist(), got["touch_t"].tolist()) == ([1], [5 * second])
        if at == 16:  # row 2 is out of time; its price of that time was 100.2
            assert got["label"].tolist() == [0, -1, -1]
            assert got["touch_t"].tolist() == [15 * second, 16 * second, 16 * second]
            np.testing.assert_allclose(got["ret"], [100.2 / 101.0 - 1.0, 99.0 / 100.8 - 1.0, 99.0 / 100.2 - 1.0])
    with pytest.raises(KernelError, match="label_next_move: horizon is missing"):
        Streaming("label_next_move")


def test_rolling_sharpe(x: pd.Series) -> None:
    r = x.diff().round(6).iloc[:2_500]
    ours = compute("rolling_sharpe", r=r, ppy=525_600, rf=1e-4)

    def sharpe(part: np.ndarray) -> float:
        return np.nan if np.ptp(part) == 0.0 else (part.mean() - 1e-4) / np.std(part, ddof=1) * np.sqrt(525_600)

    check(ours["sharpe"], by_window(r, 60, sharpe), len(r), rtol=1e-8)


def test_turnover() -> None:
    rng = np.random.default_rng(10)
    weights, returns = rng.dirichlet(np.ones(5), 50), rng.normal(0.0, 0.05, (50, 5))
    weights[30, 2] = np.nan
    ours = compute("turnover", W=weights, R=returns)
    expected, before = [], None
    for now, moved in zip(weights, returns, strict=True):
        if np.isnan(now).any():
            expected.append(np.nan)
            continue
        drifted = None if before is None else before * (1.0 + moved) / (before * (1.0 + moved)).sum()  # fully invested
        expected.append(np.nan if drifted is None else np.abs(now - drifted).sum())
        before = now
    np.testing.assert_allclose(ours["two_way"], expected, rtol=1e-12)
    np.testing.assert_allclose(ours["one_way"], np.array(expected) / 2.0, rtol=1e-12)


def test_turnover_of_holding_is_nothing() -> None:
    returns = np.random.default_rng(11).normal(0.0, 0.05, (40, 3))
    values = 100.0 * np.cumprod(1.0 + returns, axis=0)
    held = values / (values.sum(axis=1, keepdims=True) + 50.0)  # and cash, that earns nothing
    np.testing.assert_allclose(compute("turnover", W=held, R=returns)["two_way"][1:], 0.0, atol=1e-15)
    with pytest.raises(KernelError, match="turnover: W and R must have the same number of columns"):
        compute("turnover", W=held, R=returns[:, :1])
