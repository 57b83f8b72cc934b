"""Two assets: spreads, hedges, mean reversion and variance over horizons, against statsmodels, arch, pandas and plain loops."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from arch.unitroot import VarianceRatio
from numpy.lib.stride_tricks import sliding_window_view
from scipy.stats import linregress

from oneprice.compute.kernels.cross_asset_scaling import expected_rescaled_range
from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import compute
from shared_data import shared

CLOSE = {"rtol": 1e-9, "atol": 1e-12, "equal_nan": True}
N = 2_000


@pytest.fixture(scope="module")
def closes() -> pd.DataFrame:
    """Recorded closes of two coins at common times, some of which cannot be used."""
    found = pd.read_parquet(shared("data/ohlcv/binance_usdt_2024/5m_12.parquet"), columns=["date", "symbol", "close"])
    wide = found.pivot_table(index="date", columns="symbol", values="close")[["ETHUSDT", "BTCUSDT"]].dropna()
    wide = wide.iloc[:N].reset_index(drop=True)
    wide.columns = ["px", "py"]
    rng = np.random.default_rng(1)
    wide.loc[rng.choice(len(wide), 40, replace=False), "px"] = np.nan
    wide.loc[rng.choice(len(wide), 20, replace=False), "py"] = 0.0
    return wide


def usable(frame: pd.DataFrame) -> pd.DataFrame:
    return frame[(frame > 0.0).all(axis=1)]


def ornstein_uhlenbeck(n: int, kappa: float, theta: float, sigma: float, dt: float, seed: int) -> np.ndarray:
    """Drawn from its exact transition."""
    rng, decay = np.random.default_rng(seed), math.exp(-kappa * dt)
    noise = rng.standard_normal(n) * sigma * math.sqrt((1.0 - decay * decay) / (2.0 * kappa))
    s = np.empty(n)
    s[0] = theta
    for k in range(1, n):
        s[k] = theta + decay * (s[k - 1] - theta) + noise[k]
    return s


# -- pairs_spread -------------------------------------------------------------------------------------------------------


def test_the_spread_and_its_score(closes: pd.DataFrame) -> None:
    good = usable(closes)
    spread = np.log(good["px"]) - 0.3 - 0.8 * np.log(good["py"])
    z = (spread - spread.rolling(50).mean()) / spread.rolling(50).std()
    ours = compute("pairs_spread", px=closes["px"], py=closes["py"], alpha=0.3, beta=0.8, w=50)
    np.testing.assert_allclose(ours["spread"], spread.reindex(closes.index), **CLOSE)
    np.testing.assert_allclose(ours["z"], z.reindex(closes.index), rtol=1e-7, equal_nan=True)
    other = compute("pairs_spread", px=closes["px"], py=closes["py"], alpha=-7.0, beta=0.8, w=50)
    np.testing.assert_allclose(other["z"], ours["z"], rtol=1e-7, equal_nan=True)


def test_a_flat_spread_has_no_score() -> None:
    p = np.random.default_rng(2).uniform(1.0, 2.0, 300)
    ours = compute("pairs_spread", px=p, py=p, w=20)
    assert (ours["spread"] == 0.0).all()
    assert np.isnan(ours["z"]).all()


# -- kalman_hedge_ratio -------------------------------------------------------------------------------------------------


def kalman(x: np.ndarray, y: np.ndarray, q: float, r: float, state: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """With matrices, as the formula stands."""
    rows = []
    for a, b in zip(x, y, strict=True):
        h = np.array([1.0, a])
        before = cov + q * np.eye(2)
        error, variance = b - h @ state, h @ before @ h + r
        gain = before @ h / variance
        state = state + gain * error
        keep = np.eye(2) - np.outer(gain, h)
        cov = keep @ before @ keep.T + r * np.outer(gain, gain)
        rows.append([*state, error, error / math.sqrt(variance)])
    return np.array(rows)


@pytest.fixture(scope="module")
def hedged() -> tuple[np.ndarray, np.ndarray]:
    """y follows x by a ratio that drifts from 1.5 to 2.5."""
    rng = np.random.default_rng(3)
    x = 10.0 + rng.standard_normal(N).cumsum() * 0.1
    return x, 3.0 + np.linspace(1.5, 2.5, N) * x + rng.standard_normal(N) * 0.03


OUTPUTS = ("alpha", "beta", "e", "z")


def columns(found: dict[str, Any]) -> np.ndarray:
    return np.column_stack([found[name] for name in OUTPUTS])


def test_the_filter_is_the_matrix_filter(hedged: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = hedged
    theirs = kalman(x, y, 1e-4, 1e-3, np.zeros(2), 1e6 * np.eye(2))
    theirs[0] = np.nan
    ours = columns(compute("kalman_hedge_ratio", x=x, y=y, q=1e-4))
    np.testing.assert_allclose(ours[:20], theirs[:20], rtol=1e-5, atol=1e-5)  # 10⁶ against 10⁻³ costs both nine digits
    np.testing.assert_allclose(ours[20:], theirs[20:], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", [10.0, 1_000.0, 60_000.0])
@pytest.mark.parametrize("q", [0.0, 1e-9, 1e-5])
def test_digits_survive_a_start_that_knows_nothing(level: float, q: float) -> None:
    """Prices that hardly move: P is all but singular."""
    rng = np.random.default_rng(5)
    x = level * np.exp(np.cumsum(rng.normal(0.0, 1e-4, 200)))
    y = 3.0 + 1.5 * x + rng.normal(0.0, 0.03, len(x))
    with localcontext(prec=60):
        alpha, beta, p00, p01, p11 = Decimal(0), Decimal(0), Decimal(10**6), Decimal(0), Decimal(10**6)
        exact = []
        for a, b in zip(map(Decimal, x.tolist()), map(Decimal, y.tolist()), strict=True):
            p00, p11 = p00 + Decimal(q), p11 + Decimal(q)
            at_zero, of_slope = p00 + p01 * a, p01 + p11 * a
            variance, error = at_zero + of_slope * a + Decimal("1e-3"), b - alpha - beta * a
            alpha, beta = alpha + at_zero / variance * error, beta + of_slope / variance * error
            p00, p01 = p00 - at_zero * at_zero / variance, p01 - at_zero * of_slope / variance
            p11 -= of_slope * of_slope / variance
            exact.append([float(one) for one in (alpha, beta, error, error / variance.sqrt())])
    ours, theirs = columns(compute("kalman_hedge_ratio", x=x, y=y, q=q))[20:], np.array(exact)[20:]
    assert (np.abs(ours - theirs).max(axis=0) < 1e-6 * np.abs(theirs).max(axis=0)).all()


def test_it_starts_from_the_least_squares_of_the_first_rows(hedged: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = hedged
    line = sm.OLS(y[:20], sm.add_constant(x[:20])).fit()
    ours = columns(compute("kalman_hedge_ratio", x=x, y=y, start_rows=20))
    assert np.isnan(ours[:19]).all()
    np.testing.assert_allclose(ours[19, :2], line.params, rtol=1e-9)
    assert np.isnan(ours[19, 2:]).all()
    theirs = kalman(x[20:], y[20:], 1e-5, 1e-3, line.params, 1e-3 * line.normalized_cov_params)
    np.testing.assert_allclose(ours[20:], theirs, rtol=1e-7, atol=1e-8)


def test_without_drift_the_filter_is_least_squares(hedged: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = hedged
    ours = columns(compute("kalman_hedge_ratio", x=x, y=y, q=0.0, start_rows=20))
    for row in (50, 500, N - 1):
        slope, intercept = np.polyfit(x[: row + 1], y[: row + 1], 1)
        np.testing.assert_allclose(ours[row, :2], [intercept, slope], rtol=1e-7)


def test_it_follows_a_ratio_that_moves(hedged: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = hedged
    ours = compute("kalman_hedge_ratio", x=x, y=y, q=1e-6)
    line = ours["alpha"] + ours["beta"] * x
    assert np.abs(line - y)[100:].max() < 0.15
    assert abs(ours["beta"][-1] - ours["beta"][200]) > 0.3
    assert 0.7 < np.std(ours["z"][100:]) < 1.4


def test_a_filter_that_cannot_start_or_a_row_beyond_numbers() -> None:
    x, y = np.full(50, 2.0), np.arange(50.0)
    assert np.isnan(columns(compute("kalman_hedge_ratio", x=x, y=y, start_rows=20))).all()  # x never moved
    x, y = np.arange(50.0), np.arange(50.0) * 2.0
    x[30] = 1e200
    ours, left = compute("kalman_hedge_ratio", x=x, y=y), np.delete(np.arange(50), 30)
    np.testing.assert_array_equal(columns(ours)[left], columns(compute("kalman_hedge_ratio", x=x[left], y=y[left])))
    assert np.isnan(columns(ours)[30]).all()


# -- ou_half_life -------------------------------------------------------------------------------------------------------


def test_mean_reversion_is_the_regression_of_changes() -> None:
    s = ornstein_uhlenbeck(600, 12.0, 50.0, 2.0, 0.01, 4)
    s[[100, 333]] = np.nan, np.inf
    ours, w, dt = compute("ou_half_life", s=s, w=120, dt=0.01), 120, 0.01
    kept = np.flatnonzero(np.isfinite(s))
    assert np.isnan(ours["kappa"][kept[:w]]).all()
    assert all(np.isnan(ours[name][[100, 333]]).all() for name in ours)
    for place in range(w, len(kept), 7):
        part = s[kept[place - w : place + 1]]
        line = sm.OLS(np.diff(part), sm.add_constant(part[:-1])).fit()
        a, slope = line.params
        if slope >= 0.0:
            assert ours["half_life"][kept[place]] == math.inf
            continue
        kappa = -math.log(1.0 + slope) / dt
        sigma = math.sqrt(line.mse_resid * -2.0 * math.log(1.0 + slope) / (dt * (1.0 - (1.0 + slope) ** 2)))
        found = [ours[name][kept[place]] for name in ("kappa", "theta", "sigma", "half_life")]
        np.testing.assert_allclose(found, [kappa, -a / slope, sigma, math.log(2.0) / kappa], rtol=1e-7)


def test_it_finds_the_process_that_was_simulated() -> None:
    s = ornstein_uhlenbeck(60_001, 5.0, -1.0, 0.7, 0.01, 5)
    ours = {name: column[-1] for name, column in compute("ou_half_life", s=s, w=60_000, dt=0.01).items()}
    assert ours["kappa"] == pytest.approx(5.0, rel=0.1)
    assert ours["theta"] == pytest.approx(-1.0, abs=0.03)
    assert ours["sigma"] == pytest.approx(0.7, rel=0.02)
    assert ours["half_life"] == pytest.approx(math.log(2.0) / 5.0, rel=0.1)


def test_what_does_not_come_back() -> None:
    trending = compute("ou_half_life", s=1.01 ** np.arange(50.0), w=20)
    assert (trending["half_life"][20:] == math.inf).all()
    assert all(np.isnan(trending[name]).all() for name in ("kappa", "theta", "sigma"))
    for s in (np.full(50, 5.0), np.where(np.arange(50) % 2, 1.0, -1.0) * 1.1 ** np.arange(50.0)):  # flat; overshooting
        assert all(np.isnan(column).all() for column in compute("ou_half_life", s=s, w=20).values())


# -- variance_ratio -----------------------------------------------------------------------------------------------------


def test_the_ratio_is_that_of_arch(closes: pd.DataFrame) -> None:
    p = closes["py"].to_numpy()
    kept = np.flatnonzero(p > 0.0)
    for q, w in ((2, 200), (7, 100)):
        ours = compute("variance_ratio", p=p, q=q, w=w)
        assert np.isnan(ours["vr"][kept[: w - 1]]).all()
        for place in range(w - 1, len(kept), 41):
            theirs = VarianceRatio(np.log(p[kept[place - w + 1 : place + 1]]), lags=q, robust=True, debiased=True)
            found = [ours[name][kept[place]] for name in ("vr", "z", "p_value")]
            np.testing.assert_allclose(found, [theirs.vr, theirs.stat, theirs.pvalue], rtol=1e-7)


def test_a_random_walk_has_no_ratio_and_a_trend_has() -> None:
    noise = np.random.default_rng(6).standard_normal(40_000) * 1e-3
    walk = compute("variance_ratio", p=np.exp(noise.cumsum()), w=400, q=4)["z"][399::400]
    assert abs(walk.mean()) < 0.5
    assert 0.7 < walk.std() < 1.3
    moved = np.exp((noise + 0.3 * np.r_[0.0, noise[:-1]]).cumsum())  # MA(1): vr(2) = 1 + 0.3/1.09
    ratios = compute("variance_ratio", p=moved, w=400)["vr"][399::400]
    assert ratios.mean() == pytest.approx(1.0 + 0.3 / 1.09, abs=0.03)


def test_a_flat_price_has_no_variance_ratio() -> None:
    assert all(np.isnan(column).all() for column in compute("variance_ratio", p=np.full(99, 3.0), w=20).values())
    with pytest.raises(KernelError, match="variance_ratio: w=20: it must be at least q \\+ 2 = 52"):
        compute("variance_ratio", p=[1.0], q=50, w=20)


# -- hurst --------------------------------------------------------------------------------------------------------------


def fractional_noise(n: int, h: float, seed: int) -> np.ndarray:
    """Exact fractional Gaussian noise by circulant embedding (Davies & Harte 1987)."""
    k = np.arange(n + 1.0)
    gamma = 0.5 * (np.abs(k + 1) ** (2 * h) - 2 * k ** (2 * h) + np.abs(k - 1) ** (2 * h))
    eigenvalues = np.fft.fft(np.r_[gamma, gamma[-2:0:-1]]).real
    rng, size = np.random.default_rng(seed), len(eigenvalues)
    drawn = np.sqrt(np.maximum(eigenvalues, 0.0) / size) * (rng.standard_normal(size) + 1j * rng.standard_normal(size))
    return np.fft.fft(drawn).real[:n]


def naive_diffs(x: np.ndarray, size: int) -> float:
    return float(np.log(np.std(x[size:] - x[:-size], ddof=1)))


def naive_rs(x: np.ndarray, size: int) -> float:
    changes, found = np.diff(x), []
    for begin in range(0, len(changes) - size + 1, size):
        block = changes[begin : begin + size]
        path = np.r_[0.0, np.cumsum(block - block.mean())]
        found.append((path.max() - path.min()) / block.std())
    return float(np.log(np.mean(found)) - np.log(expected_rescaled_range(size)))


def naive_dfa(x: np.ndarray, size: int) -> float:
    squares = []
    for begin in range(0, len(x) - size + 1, size):
        block, k = x[begin : begin + size], np.arange(size)
        squares.append((block - np.polyval(np.polyfit(k, block, 1), k)) ** 2)
    return float(np.log(np.sqrt(np.mean(squares))))


@pytest.mark.parametrize(
    ("method", "function", "first"), [("diffs", naive_diffs, 2), ("rs", naive_rs, 4), ("dfa", naive_dfa, 4)]
)
def test_hurst_is_the_slope(method: str, function: Any, first: int) -> None:
    rng = np.random.default_rng(7)
    x = 20.0 + rng.standard_normal(700).cumsum()
    x[[20, 400]] = np.nan, -np.inf
    kept, w = np.flatnonzero(np.isfinite(x)), 150
    ours = compute("hurst", x=x, w=w, method=method)
    assert np.isnan(ours["h"][kept[: w - 1]]).all()
    assert np.isnan(ours["h"][[20, 400]]).all()
    sizes = np.arange(first, 21)
    for place in range(w - 1, len(kept), 50):
        part = x[kept[place - w + 1 : place + 1]]
        line = linregress(np.log(sizes), [function(part, size) for size in sizes])
        np.testing.assert_allclose(ours["h"][kept[place]], line.slope + (0.5 if method == "rs" else 0.0), rtol=1e-8)
        np.testing.assert_allclose(ours["se"][kept[place]], line.stderr, rtol=1e-6)


@pytest.mark.parametrize("h", [0.3, 0.5, 0.75])
@pytest.mark.parametrize(
    ("method", "first", "last", "off"),
    [("diffs", 2, 20, 0.05), ("dfa", 10, 60, 0.06), ("rs", 10, 60, 0.11)],  # R/S leans to ½
)
def test_it_finds_the_exponent_of_fractional_noise(h: float, method: str, first: int, last: int, off: float) -> None:
    found = []
    for seed in range(4):
        path = np.cumsum(fractional_noise(2_000, h, seed))
        found.append(compute("hurst", x=path, w=2_000, method=method, lag_from=first, lag_to=last)["h"][-1])
    assert np.mean(found) == pytest.approx(h, abs=off)


def test_the_expected_range_is_that_of_independent_changes() -> None:
    assert expected_rescaled_range(2) == pytest.approx(1.0)
    blocks = np.random.default_rng(8).standard_normal((100_000, 8))
    away = blocks - blocks.mean(axis=1, keepdims=True)
    paths = np.concatenate([np.zeros((len(away), 1)), away.cumsum(axis=1)], axis=1)
    ranges = (paths.max(axis=1) - paths.min(axis=1)) / blocks.std(axis=1)
    assert ranges.mean() == pytest.approx(expected_rescaled_range(8), rel=3e-3)


@pytest.mark.parametrize("method", ["diffs", "rs", "dfa"])
def test_what_does_not_move_has_no_exponent(method: str) -> None:
    for x in (np.full(90, 7.0), 0.1 * np.arange(90.0)):  # a straight line, too: only its last digits change
        assert all(np.isnan(column).all() for column in compute("hurst", x=x, w=60, method=method).values())


def test_sizes_that_cannot_be_used_are_named() -> None:
    for wrong, message in (
        ({"w": 20}, "w=20: it must be at least lag_to \\+ 2 = 22"),
        ({"lag_from": 9, "lag_to": 10}, "lag_to=10: it must be at least 11"),
        ({"method": "dfa", "lag_to": 5}, "lag_to=5: it must be at least 6, for three sizes \\(dfa\\)"),
    ):
        with pytest.raises(KernelError, match=f"hurst: {message}"):
            compute("hurst", x=[1.0], **wrong)


def test_a_window_in_time_is_that_of_its_rows() -> None:
    rng = np.random.default_rng(9)
    t, p = np.cumsum(rng.integers(0, 10**9, 400)), np.exp(rng.standard_normal(400).cumsum() * 1e-3)
    by_time = {
        "variance_ratio": compute("variance_ratio", t=t, p=p, w="60s")["vr"],
        "hurst": compute("hurst", t=t, x=np.log(p), w="60s", lag_to=8)["h"],
        "ou_half_life": compute("ou_half_life", t=t, s=p, w="60s")["half_life"],
    }
    for row in (150, 399):
        part = p[(t > t[row] - 60 * 10**9) & (np.arange(400) <= row)]
        assert by_time["variance_ratio"][row] == compute("variance_ratio", p=part, w=len(part))["vr"][-1]
        assert by_time["hurst"][row] == compute("hurst", x=np.log(part), w=len(part), lag_to=8)["h"][-1]
        before = p[row - len(part)]  # a change belongs to the window when its later end does
        naive = compute("ou_half_life", s=np.r_[before, part], w=len(part))["half_life"][-1]
        np.testing.assert_allclose(by_time["ou_half_life"][row], naive, rtol=1e-8)


def test_every_row_has_the_exponent_of_its_own_window() -> None:
    x = np.random.default_rng(10).standard_normal(120).cumsum()
    ours = compute("hurst", x=x, w=40, lag_to=6)["h"][39:]
    sizes = np.log(np.arange(2, 7))
    naive = [
        linregress(sizes, [naive_diffs(part, size) for size in range(2, 7)]).slope
        for part in sliding_window_view(x, 40)
    ]
    np.testing.assert_allclose(ours, naive, rtol=1e-9)
