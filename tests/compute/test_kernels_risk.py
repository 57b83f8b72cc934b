"""Risk of a series and of its tail against NumPy, SciPy, statsmodels, closed forms and plain loops. Portfolios:
test_kernels_portfolio.py."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.stats import genpareto, kurtosis, norm, skew

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

Floats = NDArray[np.float64]
CLOSE = {"rtol": 1e-10, "atol": 1e-15, "equal_nan": True}


@pytest.fixture(scope="module")
def returns() -> Floats:
    """Returns with fat tails, some of which cannot be used."""
    rng = np.random.default_rng(1)
    r = rng.standard_t(3, 3_000) * 1e-3
    r[rng.random(len(r)) < 0.03] = np.nan
    r[[5, 77]] = np.inf, -np.inf
    return r


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    """Recorded log returns of two coins, of five minutes each."""
    bars = pd.read_parquet(
        shared("data/ohlcv/binance_usdt_2024/5m_12.parquet"), filters=[("symbol", "in", ["BTCUSDT", "ETHUSDT"])]
    )
    closes = {symbol: part["close"].to_numpy()[:2_500] for symbol, part in bars.groupby("symbol", observed=True)}
    return np.log(pd.DataFrame(closes)).diff().iloc[1:].reset_index(drop=True)


def over_windows(x: Floats, w: int, measure: Callable[[Floats], Floats]) -> Floats:
    """A measure of the full windows (rows) of the values that can be used, put back at the rows where they end."""
    out, valid = np.full(len(x), np.nan), np.flatnonzero(np.isfinite(x))
    out[valid[w - 1 :]] = measure(sliding_window_view(x[valid], w))
    return out


# -- cusum --------------------------------------------------------------------------------------------------------------


def naive_cusum(z: Floats, k: float, h: float) -> tuple[list[float], list[float], list[int]]:
    up, down, found = 0.0, 0.0, ([], [], [])
    for value in z:
        up, down = max(0.0, up + value - k), max(0.0, down - value - k)
        for column, one in zip(found, (up, down, int(up > h) - int(down > h)), strict=True):
            column.append(one)
        if up > h or down > h:
            up, down = 0.0, 0.0
    return found


def test_cusum_is_the_loop_after_a_burn_in(returns: Floats) -> None:
    valid = np.flatnonzero(np.isfinite(returns))
    x = returns[valid] + np.where(np.arange(len(valid)) > 1_500, 2e-3, 0.0)
    given = returns.copy()
    given[valid] = x
    ours = compute("cusum", x=given, k=0.3, h=4.0, burn_in=60)
    up, down, alarm = naive_cusum((x[60:] - x[:60].mean()) / x[:60].std(ddof=1), 0.3, 4.0)
    np.testing.assert_allclose(ours["s_up"][valid[60:]], up, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours["s_dn"][valid[60:]], down, rtol=1e-9, atol=1e-12)
    assert ours["alarm"][valid[60:]].tolist() == alarm
    assert {1, -1} <= set(alarm)
    assert (np.delete(ours["alarm"], valid[60:]) == -128).all()
    assert np.isnan(np.delete(ours["s_up"], valid[60:])).all()


def test_cusum_with_a_known_reference_begins_at_once_and_again_after_an_alarm() -> None:
    ours = compute("cusum", x=[12.0, 14.0, 10.0, 4.0], mu0=10.0, sigma0=1.0, k=0.5, h=4.0)
    assert ours["s_up"].tolist() == [1.5, 5.0, 0.0, 0.0]
    assert ours["s_dn"].tolist() == [0.0, 0.0, 0.0, 5.5]
    assert ours["alarm"].tolist() == [0, 1, 0, -1]


def test_cusum_raises_a_false_alarm_every_465_rows() -> None:
    """The mean run length that Page's tables give for both sides, k = ½ and h = 5."""
    x = np.random.default_rng(0).standard_normal(2_000_000)
    alarms = np.count_nonzero(compute("cusum", x=x, mu0=0.0, sigma0=1.0)["alarm"])
    assert len(x) / alarms == pytest.approx(465.0, rel=0.04)


def test_cusum_without_a_reference_says_nothing() -> None:
    ours = compute("cusum", x=[1.0] * 5 + [9.0], burn_in=5)
    assert np.isnan(ours["s_up"]).all()
    assert (ours["alarm"] == -128).all()
    for given, named in (({"mu0": 1.0}, "mu0=1.0: it must come with sigma0"), ({"sigma0": 1.0}, "sigma0=1.0: .* mu0")):
        with pytest.raises(KernelError, match=f"cusum: {named}"):
            Streaming("cusum", **given)


# -- the tail -------------------------------------------------------------------------------------------------------------


def naive_cvar(r: Floats, alpha: float) -> Floats:
    """Of the last axis."""
    ordered, rows = np.sort(r), alpha * r.shape[-1]
    whole = math.floor(rows)
    return -(ordered[..., :whole].sum(axis=-1) + (rows - whole) * ordered[..., whole]) / rows


@pytest.mark.parametrize(("w", "alpha"), [(250, 0.05), (40, 0.05), (33, 0.01), (60, 0.3)])
def test_historical_risks_are_those_of_the_sorted_window(returns: Floats, w: int, alpha: float) -> None:
    at_risk = compute("historical_var", r=returns, w=w, alpha=alpha)["var"]
    np.testing.assert_allclose(at_risk, over_windows(returns, w, lambda r: -np.quantile(r, alpha, axis=1)), **CLOSE)
    shortfall = compute("historical_cvar", r=returns, w=w, alpha=alpha)["cvar"]
    np.testing.assert_allclose(shortfall, over_windows(returns, w, lambda r: naive_cvar(r, alpha)), **CLOSE)


def test_shortfall_is_the_least_that_rockafellar_and_uryasev_minimise(returns: Floats) -> None:
    """CVaR = min over c of c + E[(−r − c)⁺]/α, reached at one of the losses."""
    r = returns[np.isfinite(returns)][:137]
    least = min(c + np.maximum(-r - c, 0.0).mean() / 0.07 for c in -r)
    assert compute("historical_cvar", r=r, w=137, alpha=0.07)["cvar"][-1] == pytest.approx(least, rel=1e-12)


def test_shortfall_of_a_window_in_time(returns: Floats) -> None:
    t = np.cumsum(np.random.default_rng(2).integers(0, 10**8, len(returns)))
    ours = compute("historical_cvar", t=t, r=returns, w="5s")["cvar"]
    for row in range(0, len(t), 61):
        part = returns[: row + 1][t[: row + 1] > t[row] - 5 * 10**9]
        part = part[np.isfinite(part)]
        if np.isfinite(returns[row]):
            np.testing.assert_allclose(ours[row], naive_cvar(part, 0.05), rtol=1e-12)


def naive_cornish_fisher(r: Floats, alpha: float) -> Floats:
    z, s, k = norm.ppf(alpha), skew(r, axis=1), kurtosis(r, axis=1)
    moved = z + (z**2 - 1) * s / 6 + (z**3 - 3 * z) * k / 24 - (2 * z**3 - 5 * z) * s**2 / 36
    return -(r.mean(axis=1) + moved * r.std(axis=1, ddof=1))


@pytest.mark.parametrize(("w", "alpha"), [(250, 0.05), (30, 0.01)])
def test_cornish_fisher_is_that_of_scipys_moments(
    returns: Floats, recorded: pd.DataFrame, w: int, alpha: float
) -> None:
    for r in (returns, recorded["BTCUSDT"].to_numpy()):
        ours = compute("cornish_fisher_var", r=r, w=w, alpha=alpha)["var"]
        theirs = over_windows(r, w, lambda part: naive_cornish_fisher(part, alpha))
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-12)


def test_cornish_fisher_is_valid_where_it_rises_everywhere() -> None:
    rng = np.random.default_rng(3)
    r = np.concatenate([rng.standard_normal(200), rng.exponential(size=200), rng.standard_t(5, 200), rng.random(200)])
    ours = compute("cornish_fisher_var", r=r, w=60)["valid"]
    grid = np.linspace(-60.0, 60.0, 12_001)  # fine enough for all but a double root

    def is_rising(parts: Floats) -> Floats:
        s, k = skew(parts, axis=1)[:, None], kurtosis(parts, axis=1)[:, None]
        slopes = 1 + grid * s / 3 + (3 * grid**2 - 3) * k / 24 - (6 * grid**2 - 5) * s**2 / 36
        return (slopes > 0.0).all(axis=1)

    theirs = over_windows(r, 60, is_rising)
    assert ours[59:].tolist() == theirs[59:].astype(int).tolist()
    assert 0.1 < theirs[59:].mean() < 0.9


def test_a_flat_window_has_quantiles_but_no_shape() -> None:
    flat = [0.1] * 12
    assert compute("historical_var", r=flat, w=10)["var"][-1] == -0.1
    assert compute("historical_cvar", r=flat, w=10)["cvar"][-1] == pytest.approx(-0.1)
    shape = compute("cornish_fisher_var", r=flat, w=10)
    assert np.isnan(shape["var"]).all()
    assert (shape["valid"] == -128).all()
    assert not np.signbit(compute("historical_var", r=[0.0] * 12, w=10)["var"][-1])


# -- evt_pot_var ------------------------------------------------------------------------------------------------------------


def exceedances_of(r: Floats, tail: float) -> tuple[float, Floats]:
    losses = -r[np.isfinite(r)]
    u = np.quantile(losses, 1.0 - tail)
    return float(u), losses[losses > u] - u


def likelihood(xi: float, beta: float, exceedances: Floats) -> float:
    return float(genpareto.logpdf(exceedances, xi, scale=beta).sum())


TAILS: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "normal": lambda rng, n: rng.standard_normal(n),
    "student": lambda rng, n: rng.standard_t(3, n),
    "cauchy": lambda rng, n: rng.standard_cauchy(n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "skewed": lambda rng, n: -rng.lognormal(size=n),
}


@pytest.mark.parametrize("kind", TAILS)
def test_the_tail_is_as_likely_as_scipys(kind: str) -> None:
    """The fit is a maximum: no worse than SciPy's, and its parameters those."""
    rng = np.random.default_rng(11)
    for scale in (1e-4, 1.0, 1e5):
        r = scale * TAILS[kind](rng, 1_000)
        ours = {name: column[-1] for name, column in compute("evt_pot_var", r=r).items()}
        u, over = exceedances_of(r, 0.1)
        xi, _, beta = genpareto.fit(over / over.mean(), floc=0.0)
        assert likelihood(ours["xi"], ours["beta"] / over.mean(), over / over.mean()) >= (
            likelihood(xi, beta, over / over.mean()) - 1e-9
        )
        assert ours["xi"] == pytest.approx(xi, abs=2e-4)
        assert ours["beta"] == pytest.approx(beta * over.mean(), rel=2e-4)
        c = 1_000 / len(over) * 0.01
        at_risk = u + ours["beta"] / ours["xi"] * (c ** -ours["xi"] - 1.0)
        assert ours["var"] == pytest.approx(at_risk, rel=1e-9)
        if ours["xi"] < 1.0:
            theirs = (at_risk + ours["beta"] - ours["xi"] * u) / (1.0 - ours["xi"])
            assert ours["es"] == pytest.approx(theirs, rel=1e-9)
        else:
            assert np.isnan(ours["es"])


def test_the_tail_has_no_slope_left_at_its_top() -> None:
    """The two equations of likelihood, to the last digits."""
    rng = np.random.default_rng(12)
    for _ in range(20):
        r = rng.standard_t(4, 700)
        xi, beta = (compute("evt_pot_var", r=r, w=700)[name][-1] for name in ("xi", "beta"))
        v = xi / beta * exceedances_of(r, 0.1)[1]
        assert np.log1p(v).mean() == pytest.approx(xi, rel=1e-10, abs=1e-13)
        assert (1.0 + xi) * (1.0 / (1.0 + v)).mean() == pytest.approx(1.0, rel=1e-11)


def test_the_expected_shortfall_is_the_mean_beyond_the_value_at_risk() -> None:
    """By quadrature over the quantiles of the fitted tail."""
    r = np.random.default_rng(13).standard_t(4, 1_000)
    u, over = exceedances_of(r, 0.1)
    fit = {name: column[-1] for name, column in compute("evt_pot_var", r=r, p=0.975).items()}
    share = len(over) / len(r)
    levels = 1.0 - 0.025 * (np.arange(200_000) + 0.5) / 200_000
    quantiles = u + genpareto.ppf(1.0 - (1.0 - levels) / share, fit["xi"], scale=fit["beta"])
    assert fit["es"] == pytest.approx(quantiles.mean(), rel=1e-3)


def test_an_exponential_tail_and_a_bounded_one() -> None:
    """ξ = 0 where the second moment says exponential; ξ = −1, the bound, where exceedances are as those of a uniform."""
    even = -np.concatenate([np.zeros(360), np.arange(1.0, 41.0)])  # u is 0
    fit = {name: column[-1] for name, column in compute("evt_pot_var", r=even, w=400).items()}
    assert (fit["xi"], fit["beta"]) == (-1.0, pytest.approx(40.0, rel=0.03))
    assert fit["var"] == pytest.approx(36.0, rel=0.01)
    rng = np.random.default_rng(14)
    nearly = -np.concatenate([np.zeros(2_700), -np.log(1.0 - (np.arange(300) + 0.5) / 300)])
    fit = {name: column[-1] for name, column in compute("evt_pot_var", r=rng.permutation(nearly), w=3_000).items()}
    assert abs(fit["xi"]) < 0.03
    assert fit["var"] == pytest.approx(math.log(10.0), rel=0.02)


def test_the_tail_is_fitted_every_so_many_rows_and_holds_in_between(returns: Floats) -> None:
    r = returns[np.isfinite(returns)][:700]
    held = compute("evt_pot_var", r=r, w=400, refit=50)
    every = compute("evt_pot_var", r=r, w=400, refit=1)
    assert np.isnan(held["var"][:399]).all()
    for name, column in held.items():
        np.testing.assert_array_equal(column[399:], np.repeat(every[name][399::50], 50)[: len(r) - 399])


def test_a_tail_too_short_gives_nothing_and_is_refused_where_it_must_be() -> None:
    assert np.isnan(compute("evt_pot_var", r=np.zeros(400), w=300)["var"]).all()
    for given, named in (
        ({"w": 299}, "w=299: it must be at least 300"),
        ({"tail": 0.005}, "w=1000: it must be at least 6000"),
        ({"p": 0.9}, "p=0.9: it must be above 1 − tail = 0.9"),
    ):
        with pytest.raises(KernelError, match=f"evt_pot_var: {named}"):
            Streaming("evt_pot_var", **given)
    t = np.arange(400) * 10**9
    in_time = compute("evt_pot_var", t=t, r=np.random.default_rng(15).standard_normal(400), w="350s", refit=1)["var"]
    assert np.flatnonzero(np.isfinite(in_time))[0] == 299


# -- drawdown_equity, vol_target, kelly_fraction ------------------------------------------------------------------------


def test_drawdown_is_the_way_down_from_the_highest(returns: Floats) -> None:
    equity = 100.0 * np.exp(np.cumsum(np.nan_to_num(returns, posinf=0.0, neginf=0.0)))
    equity[[0, 9, 800]] = np.nan
    valid = np.flatnonzero(np.isfinite(equity))
    e = equity[valid]
    peak = np.maximum.accumulate(e)
    ours = {name: column[valid] for name, column in compute("drawdown_equity", equity=equity).items()}
    np.testing.assert_allclose(ours["dd"], 1.0 - e / peak, **CLOSE)
    np.testing.assert_allclose(ours["max_dd"], np.maximum.accumulate(1.0 - e / peak), **CLOSE)
    rows = np.arange(len(e))
    np.testing.assert_array_equal(ours["duration"], rows - np.maximum.accumulate(np.where(e == peak, rows, 0)))


def test_drawdown_needs_a_peak_above_nothing() -> None:
    ours = compute("drawdown_equity", equity=[-5.0, -1.0, 0.0, -2.0, 4.0, 1.0, -4.0, 4.0])
    np.testing.assert_array_equal(ours["dd"], [np.nan] * 4 + [0.0, 0.75, 2.0, 0.0])
    np.testing.assert_array_equal(ours["max_dd"], [np.nan] * 4 + [0.0, 0.75, 2.0, 2.0])
    assert ours["duration"].tolist() == [0, 0, 0, 1, 0, 1, 2, 0]


def test_vol_target_trades_only_past_its_band() -> None:
    vol = [0.2, 0.21, np.nan, 0.22, 0.0, 0.25, 0.05, 0.108, 0.4, 0.4]
    ours = compute("vol_target", vol=vol)["weight"]
    # wanted, by the volatility before: 1, 0.952 (in the band), 0.909 (in it), 0.8, 2 (the cap), 1.85 (in the band), 0.5
    np.testing.assert_allclose(ours, [np.nan, 1.0, np.nan, 1.0, np.nan, 1.0, 0.8, 2.0, 2.0, 0.5], **CLOSE)


def test_vol_target_without_a_band_is_the_formula() -> None:
    vol = np.random.default_rng(4).uniform(0.05, 0.6, 300)
    ours = compute("vol_target", vol=vol, band=0.0, target=0.15, cap=1.5)["weight"]
    np.testing.assert_allclose(ours, [np.nan, *np.minimum(1.5, 0.15 / vol[:-1])], **CLOSE)


def test_kelly_is_the_bet_of_most_growth() -> None:
    rng = np.random.default_rng(5)
    win, payoff = rng.random(40), rng.uniform(0.3, 3.0, 40)
    ours = compute("kelly_fraction", win_prob=win, payoff=payoff, fraction=1.0)["f"]
    bets = np.linspace(0.0, 0.9999, 20_000)
    growth = win[:, None] * np.log1p(bets * payoff[:, None]) + (1 - win[:, None]) * np.log1p(-bets)
    np.testing.assert_allclose(ours, bets[growth.argmax(axis=1)], atol=1e-4)
    quarter = compute("kelly_fraction", win_prob=win, payoff=payoff, cap=0.1)["f"]
    np.testing.assert_allclose(quarter, np.clip(0.25 * (win - (1 - win) / payoff), 0.0, 0.1), **CLOSE)
    mu, variance, rate = rng.normal(0.1, 0.1, 40), rng.uniform(0.01, 0.1, 40), rng.normal(0.02, 0.01, 40)
    given = {"mu": mu, "variance": variance, "rate": rate, "method": "continuous", "cap": 2.0}
    np.testing.assert_allclose(
        compute("kelly_fraction", **given)["f"], np.clip(0.25 * (mu - rate) / variance, 0.0, 2.0), **CLOSE
    )


def test_kelly_needs_odds() -> None:
    ours = compute("kelly_fraction", win_prob=[-0.1, 1.1, 0.6, 0.6, 1.0], payoff=[1.0, 1.0, 0.0, -1.0, 1.0])["f"]
    np.testing.assert_array_equal(ours, [np.nan] * 4 + [0.25])
    flat = {"mu": [0.1, 0.1], "variance": [0.0, -1.0], "rate": [0.0, 0.0]}
    assert np.isnan(compute("kelly_fraction", method="continuous", **flat)["f"]).all()


# -- fx_beta ------------------------------------------------------------------------------------------------------------


def lagged(frame: pd.DataFrame, lags: int) -> tuple[Floats, Floats]:
    """(r, the factor and its lags with a constant) of the rows that can be used."""
    kept = frame.replace([np.inf, -np.inf], np.nan).dropna().reset_index(drop=True)
    columns = pd.concat([kept["factor"].shift(lag) for lag in range(lags + 1)], axis=1).iloc[lags:]
    return kept["r"].to_numpy()[lags:], sm.add_constant(columns.to_numpy())


@pytest.mark.parametrize("lags", [0, 1, 3])
def test_fx_beta_is_the_sum_of_statsmodels_betas(recorded: pd.DataFrame, lags: int) -> None:
    frame = pd.DataFrame({"r": recorded["ETHUSDT"], "factor": recorded["BTCUSDT"]})
    frame.loc[[7, 70, 701], "r"] = np.nan
    frame.loc[[9, 90, 901], "factor"] = np.inf
    ours = pd.DataFrame(compute("fx_beta", r=frame["r"], factor=frame["factor"], lags=lags))
    usable = ours[np.isfinite(frame).all(axis=1)].reset_index(drop=True)
    assert usable["beta"].first_valid_index() == 60 + lags - 1
    r, factors = lagged(frame, lags)
    for end in range(60, len(r) + 1, 83):
        fit = sm.OLS(r[end - 60 : end], factors[end - 60 : end]).fit()
        row = usable.iloc[end + lags - 1]
        np.testing.assert_allclose([row["beta"], row["r2"]], [fit.params[1:].sum(), fit.rsquared], rtol=1e-7)


@pytest.mark.parametrize("lags", [0, 2])
def test_fx_beta_in_time_is_of_the_rows_whose_lags_are_in_the_window(recorded: pd.DataFrame, lags: int) -> None:
    frame = pd.DataFrame({"r": recorded["ETHUSDT"], "factor": recorded["BTCUSDT"]}).iloc[:600]
    t = np.cumsum(np.random.default_rng(6).integers(0, 2 * 10**9, len(frame)))
    ours = compute("fx_beta", t=t, r=frame["r"], factor=frame["factor"], lags=lags, w="90s", min_obs=10)
    for row in range(200, len(frame), 37):
        r, factors = lagged(frame[: row + 1][t[: row + 1] > t[row] - 90 * 10**9], lags)
        fit = sm.OLS(r, factors).fit()
        found = [ours["beta"][row], ours["r2"][row]]
        np.testing.assert_allclose(found, [fit.params[1:].sum(), fit.rsquared], rtol=1e-7)


@pytest.mark.parametrize("lags", [0, 2])
def test_fx_beta_of_what_is_a_multiple_and_of_what_does_not_move(lags: int) -> None:
    factor = np.random.default_rng(7).standard_normal(80)
    ours: dict[str, Any] = compute("fx_beta", r=2.5 * factor, factor=factor, lags=lags)
    np.testing.assert_allclose(ours["beta"][59 + lags :], 2.5, rtol=1e-12)
    np.testing.assert_allclose(ours["r2"][59 + lags :], 1.0, rtol=1e-12)
    assert np.isnan(compute("fx_beta", r=factor, factor=np.ones(80), lags=lags)["beta"]).all()
    flat = compute("fx_beta", r=np.ones(80), factor=factor, lags=lags)
    np.testing.assert_allclose(flat["beta"][59 + lags :], 0.0, atol=1e-15)
    assert np.isnan(flat["r2"]).all()


def test_fx_beta_finds_what_a_late_market_adds() -> None:
    """Half of the move comes a row later: the plain beta misses it, Dimson's does not."""
    factor = np.random.default_rng(8).standard_normal(5_000)
    r = 0.5 * factor + 0.5 * np.concatenate([[0.0], factor[:-1]])
    assert compute("fx_beta", r=r, factor=factor, w=4_000)["beta"][-1] == pytest.approx(0.5, abs=0.05)
    assert compute("fx_beta", r=r, factor=factor, w=4_000, lags=1)["beta"][-1] == pytest.approx(1.0, rel=1e-9)
    with pytest.raises(KernelError, match=r"fx_beta: w=3: it must be at least lags \+ 2 = 4"):
        Streaming("fx_beta", w=3, lags=2)
