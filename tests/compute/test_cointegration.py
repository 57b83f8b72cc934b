"""Unit roots and cointegrated pairs against statsmodels, and against long doubles where statsmodels has lost its digits."""

from __future__ import annotations

import doctest
import math
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.api import OLS, add_constant
from statsmodels.stats.multitest import multipletests
from statsmodels.tsa.adfvalues import mackinnoncrit, mackinnonp
from statsmodels.tsa.stattools import adfuller, coint

from oneprice.compute import cointegration, mackinnon
from oneprice.compute.cointegration import q_values, scan_pairs
from oneprice.compute.mackinnon import MOST_SERIES, TRENDS, critical_values, p_value
from oneprice.compute.unit_root import AIC, BIC, FIXED, REASONS, TESTED, adf, room_for
from oneprice.model.errors import InputError
from shared_data import shared

Floats = np.ndarray[Any, np.dtype[np.float64]]
LAGS: tuple[tuple[str | int, dict[str, Any]], ...] = (
    ("aic", {"autolag": "aic"}), ("bic", {"autolag": "bic"}), (1, {"autolag": None, "maxlag": 1}),
    (7, {"autolag": None, "maxlag": 7}),
)  # fmt: skip
SHORT, FLAT, COLLINEAR, SINGULAR = REASONS[1:]


def walk(rng: np.random.Generator, n: int) -> Floats:
    return np.cumsum(rng.normal(size=n))


def universe(seed: int, rows: int = 252, symbols: int = 12) -> Floats:
    """Prices, rows × symbols: the first half shares two factors, so that some pairs are cointegrated."""
    rng = np.random.default_rng(seed)
    shared = np.cumsum(rng.normal(size=(rows, 2)), axis=0) @ rng.random((2, symbols))
    own = np.cumsum(rng.normal(size=(rows, symbols)), axis=0) * (np.arange(symbols) >= symbols // 2)
    return 100.0 * np.exp(0.01 * (shared + own + rng.normal(size=(rows, symbols))))


SERIES = {
    "walk": walk,
    "noise": lambda rng, n: rng.normal(size=n),
    "far from zero": lambda rng, n: 1e5 + walk(rng, n),
    "drifting": lambda rng, n: 0.05 * np.arange(n) + walk(rng, n),
    "moving average": lambda rng, n: np.convolve(rng.normal(size=n + 2), [1.0, 0.5, 0.3], "valid"),
    "smooth": lambda rng, n: np.sin(np.arange(n) / 9.0) + 1e-4 * rng.normal(size=n),  # worn: taken by reflections
    "jump at the end": lambda rng, n: walk(rng, n) + 1e6 * (np.arange(n) == n - 1),
}


def ours(series: Floats, criterion: int, max_lag: int, trend: int) -> tuple[float, int, int]:
    u = series - series.mean() if trend > 0 else series
    return adf(u, criterion, max_lag, trend, room_for(len(u), max_lag, trend))


@pytest.mark.parametrize("kind", SERIES)
def test_adf_is_that_of_statsmodels(kind: str) -> None:
    rng = np.random.default_rng(1)
    for n in (25, 101, 252, 400):
        series = SERIES[kind](rng, n)
        for trend, word in enumerate(TRENDS):
            for criterion, autolag in ((FIXED, None), (AIC, "AIC"), (BIC, "BIC")):
                statistic, lags, reason = ours(series, criterion, -1, trend)
                wanted, wanted_p, wanted_lags, *_ = adfuller(
                    series, regression=word, autolag=autolag, result_object=False
                )
                assert (lags, reason) == (wanted_lags, TESTED)
                assert statistic == pytest.approx(wanted, rel=1e-8, abs=1e-8)
                assert p_value(statistic, trend, 1) == pytest.approx(wanted_p, abs=1e-8)


def test_a_series_without_a_regression_has_a_reason() -> None:
    rng = np.random.default_rng(2)
    assert ours(walk(rng, 4), FIXED, 1, 0) == (pytest.approx(math.nan, nan_ok=True), -1, 1)
    for series in (np.arange(50.0), np.where(np.arange(50) % 2 == 0, 1.0, -1.0), 0.5 ** np.arange(50.0)):
        statistic, lags, reason = ours(series, AIC, -1, 0)
        assert math.isnan(statistic)
        assert (lags, REASONS[reason]) == (-1, SINGULAR)


def test_p_and_critical_values_are_the_tables() -> None:
    for place, trend in enumerate(TRENDS):
        for series in range(1, MOST_SERIES + 1):
            for statistic in np.linspace(-30.0, 5.0, 351):
                wanted = mackinnonp(statistic, regression=trend, N=series)
                assert p_value(statistic, place, series) == pytest.approx(wanted, rel=1e-12, abs=1e-300)
            for observations in (20.0, 251.0, math.inf):
                found = critical_values(observations=observations, trend=trend, series=series)
                if trend == "n" and series > 1:
                    assert np.isnan(found).all()
                else:
                    given = np.inf if observations == math.inf else observations
                    np.testing.assert_allclose(found, mackinnoncrit(N=series, regression=trend, nobs=given), rtol=1e-13)
    with pytest.raises(InputError, match="trend='x': it must be n, c or ct"):
        critical_values(trend="x")
    with pytest.raises(InputError, match="series=7: it must be 1 to 6"):
        critical_values(series=7)


@pytest.mark.parametrize("trend", TRENDS)
@pytest.mark.parametrize(("lags", "settings_of_theirs"), LAGS, ids=[str(lags) for lags, _ in LAGS])
def test_a_scan_is_statsmodels_of_each_pair(trend: str, lags: str | int, settings_of_theirs: dict[str, Any]) -> None:
    for rows, seed in ((252, 3), (41, 4), (25, 5)):
        prices = universe(seed, rows, symbols=6)
        logs = np.log(prices)
        for row in scan_pairs(prices, lags=lags, trend=trend).rows:
            y, x = logs[:, row["y"]], logs[:, row["x"]]
            wanted = coint(y, x, trend=trend, **settings_of_theirs)
            assert row["adf"] == pytest.approx(wanted.coint_t, abs=1e-8)
            assert row["p_value"] == pytest.approx(wanted.pvalue, abs=1e-8)
            design = {"n": x[:, None], "c": np.column_stack([x, np.ones(rows)])}.get(trend)
            if design is None:
                design = np.column_stack([x, np.ones(rows), np.arange(1, rows + 1)])
            fit = OLS(y, design).fit()
            coefficients = [row["hedge_ratio"], row["intercept"], row["slope"]]
            np.testing.assert_allclose(coefficients[: len(fit.params)], fit.params, rtol=1e-8, atol=1e-9)
            assert coefficients[len(fit.params) :] == [0.0] * (3 - len(fit.params))
            level = fit.resid[:-1]
            pull = OLS(np.diff(fit.resid), add_constant(level)).fit().params[1]
            half_life = (
                math.log(2.0) / -math.log1p(pull) if -1.0 < pull < 0.0 else math.inf if pull >= 0.0 else math.nan
            )
            assert row["half_life"] == pytest.approx(half_life, rel=1e-8, nan_ok=True)
            assert row["observations"] == rows


def test_a_recorded_universe_is_scanned_as_statsmodels_does() -> None:
    """Closes of five minutes of one day, twelve coins."""
    bars = pd.read_parquet(shared("data/ohlcv/binance_usdt_2024/5m_12.parquet"))
    closes = bars.pivot_table(index="date", columns="symbol", values="close")[:288]
    found = scan_pairs({str(name): closes[name].to_numpy() for name in closes}, lags="bic")
    assert len(found.rows) == 12 * 11
    for row in found.rows[::5]:
        both = closes[[found.symbols[row["y"]], found.symbols[row["x"]]]].dropna()
        y, x = np.log(both.to_numpy()).T
        wanted = coint(y, x, autolag="bic")
        assert row["adf"] == pytest.approx(wanted.coint_t, abs=1e-8)
        assert row["p_value"] == pytest.approx(wanted.pvalue, abs=1e-8)


def test_the_examples_are_true() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "cointegration.md"
    tested = [
        doctest.testfile(str(page), module_relative=False),
        *(doctest.testmod(module) for module in (cointegration, mackinnon)),
    ]
    assert [result.failed for result in tested] == [0, 0, 0]
    assert all(result.attempted > 0 for result in tested)


def exact_adf(y: Floats, x: Floats, lag: int) -> float:
    """The textbook's formulas with forty digits, normal equations by Gauss's elimination."""
    with mpmath.workdps(40):
        return float(_exact_adf(*(np.array([mpmath.mpf(value) for value in one]) for one in (y, x)), lag))


def _exact_adf(y: Any, x: Any, lag: int) -> Any:
    y, x = y - y.mean(), x - x.mean()
    u = y - (x @ y) / (x @ x) * x
    change = np.diff(u)
    design = np.column_stack([u[lag:-1], *(change[lag - j : len(change) - j] for j in range(1, lag + 1))])
    target = change[lag:]
    first = np.array([[mpmath.mpf(k == 0)] for k in range(lag + 1)])
    table = np.column_stack([design.T @ design, design.T @ target, first])
    for k in range(lag + 1):
        table[k] /= table[k, k]
        for other in range(lag + 1):
            if other != k:
                table[other] -= table[other, k] * table[k]
    rest = target - design @ table[:, -2]
    variance = rest @ rest / (len(target) - lag - 1) * table[0, -1]
    return table[0, -2] / mpmath.sqrt(variance)


@pytest.mark.parametrize(
    ("level", "noise", "accepted"),
    [
        (0.0, 1.0, 1e-11),
        (1e5, 1.0, 1e-11),
        (1e8, 1.0, 1e-10),
        (1e11, 1.0, 3e-8),
        (1e5, 0.05, 1e-11),
        (1e5, 0.01, 1e-10),
    ],
)
def test_digits_are_kept_far_from_zero_and_near_collinearity(level: float, noise: float, accepted: float) -> None:
    rng = np.random.default_rng(6)
    for _ in range(10):
        x = walk(rng, 252) + level
        y = x + noise * x.std() * rng.normal(size=252)
        row = scan_pairs({"y": y, "x": x}, lags=4, log=False, both_directions=False).rows[0]
        assert row["adf"] == pytest.approx(exact_adf(y, x, 4), abs=accepted)


def test_pairs_without_a_test_say_why_and_are_no_discoveries() -> None:
    rng = np.random.default_rng(7)
    x = 100.0 + walk(rng, 80)
    sparse = np.full(80, np.nan)
    sparse[::40] = 100.0, 101.0
    columns = {
        "x": x, "twin": 3.0 * x + 7.0, "flat": np.full(80, 0.1), "line": 0.5 * np.arange(80.0), "sparse": sparse,
        "one": x + (np.arange(80) == 40) * 5.0,
    }  # fmt: skip
    found = scan_pairs(columns, log=False, lags=2).frame()
    reasons = {(row["y"], row["x"]): row["reason"] for row in found.iter_rows(named=True)}
    assert reasons["x", "twin"] == reasons["twin", "x"] == COLLINEAR
    assert reasons["x", "flat"] == reasons["flat", "x"] == FLAT
    assert reasons["x", "sparse"] == SHORT
    assert reasons["x", "one"] == reasons["x", "line"] == REASONS[TESTED]
    untested = found.filter(found["reason"] != REASONS[TESTED])
    for name in ("adf", "p_value", "q_value", "half_life"):
        assert untested[name].is_nan().all(), name
    assert not untested["is_discovery"].any()
    assert (untested["lags"] == -1).all()
    assert scan_pairs(columns, log=False, lags=2, trend="ct").frame().filter(reason=FLAT).height == 2 * (
        4 + 3
    )  # the line, too


def test_a_pair_uses_the_rows_that_both_have() -> None:
    rng = np.random.default_rng(8)
    prices = universe(8, 300, symbols=4)
    holes = prices.copy()
    holes[rng.random(300) < 0.1, 0] = np.nan
    holes[rng.random(300) < 0.1, 1] = -1.0  # no logarithm
    holes[5, 2] = np.inf
    found = scan_pairs(holes, lags="aic", trend="ct")
    whole = scan_pairs(prices, lags="aic", trend="ct")
    for row, of_whole in zip(found.rows, whole.rows, strict=True):
        y, x = holes[:, row["y"]], holes[:, row["x"]]
        both = np.isfinite(y) & np.isfinite(x) & (y > 0) & (x > 0)
        closed = scan_pairs({"y": y[both], "x": x[both]}, lags="aic", trend="ct", both_directions=False).rows[0]
        assert row["observations"] == both.sum()
        for name in ("adf", "p_value", "hedge_ratio", "intercept", "slope", "half_life", "lags", "correlation"):
            assert row[name].tobytes() == closed[name].tobytes(), name
        assert (row["adf"] == of_whole["adf"]) == bool(both.all())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), order=st.permutations(range(8)), workers=st.integers(1, 4))
def test_a_pair_does_not_depend_on_the_others_or_their_order(seed: int, order: list[int], workers: int) -> None:
    prices = universe(seed, 60, symbols=8)
    prices[np.random.default_rng(seed).integers(0, 60, 5), 3] = np.nan
    names = [f"s{k}" for k in range(8)]
    turned = scan_pairs(prices[:, order], symbols=[names[k] for k in order], workers=workers).frame()
    straight = scan_pairs(prices, symbols=names, workers=1).frame()
    assert turned.sort("y", "x").equals(straight.sort("y", "x"), null_equal=True)
    fewer = scan_pairs({name: prices[:, k] for k, name in enumerate(names)}, symbols=["s1", "s3"]).frame()
    several = ("y", "x", "adf", "p_value", "hedge_ratio", "half_life", "correlation")
    assert fewer.select(several).equals(
        straight.filter(y="s1", x="s3").vstack(straight.filter(y="s3", x="s1"))[several]
    )


@settings(max_examples=50)
@given(
    p=st.lists(st.sampled_from([0.0, 0.01]) | st.floats(1e-300, 1.0), min_size=1, max_size=40),
    missing=st.integers(0, 3),
)
def test_false_discoveries_are_those_of_statsmodels(p: list[float], missing: int) -> None:
    spoiled = np.array([math.nan] * missing + p)
    for method in ("bh", "by"):
        found = q_values(spoiled, method=method)
        rejected, wanted, *_ = multipletests(p, alpha=0.05, method=f"fdr_{method}")
        assert np.isnan(found[:missing]).all()
        np.testing.assert_allclose(found[missing:], wanted, rtol=1e-12)
        clear = np.abs(wanted - 0.05) > 1e-12
        np.testing.assert_array_equal((found[missing:] <= 0.05)[clear], rejected[clear])


def test_discoveries_are_the_q_values_of_the_scan() -> None:
    prices = universe(9, symbols=14)
    for method in ("bh", "by"):
        rows = scan_pairs(prices, lags=1, fdr=0.1, method=method).rows
        rejected, wanted, *_ = multipletests(rows["p_value"], alpha=0.1, method=f"fdr_{method}")
        np.testing.assert_allclose(rows["q_value"], wanted, rtol=1e-12)
        np.testing.assert_array_equal(rows["is_discovery"], rejected)
        assert 0 < rejected.sum() < len(rows)


def test_the_filter_leaves_out_pairs_that_hardly_correlate() -> None:
    prices = universe(10, symbols=10)
    prices[:, 9] = 1e4 / prices[:, 0]  # against the others
    prices[3, 4] = np.nan
    everything, some = scan_pairs(prices, lags=1), scan_pairs(prices, lags=1, min_correlation=0.3)
    for row in everything.rows:
        both = np.log(prices[:, [row["y"], row["x"]]])
        wanted = np.corrcoef(np.diff(both[np.isfinite(both).all(axis=1)], axis=0).T)[0, 1]
        assert row["correlation"] == pytest.approx(wanted, abs=1e-12)
    kept = everything.rows[np.abs(everything.rows["correlation"]) >= 0.3]
    assert 0 < len(kept) < len(everything.rows)
    assert kept["adf"].tobytes() == some.rows["adf"].tobytes()
    np.testing.assert_allclose(some.rows["q_value"], q_values(kept["p_value"]))


def test_one_direction_is_half_of_both() -> None:
    prices = universe(11)
    both, one = scan_pairs(prices, lags=2).rows, scan_pairs(prices, lags=2, both_directions=False).rows
    for name in ("y", "x", "adf", "hedge_ratio"):
        np.testing.assert_array_equal(both[name][::2], one[name])
    np.testing.assert_array_equal(both["y"][1::2], one["x"])
    assert (one["y"] < one["x"]).all()


def test_independent_walks_are_found_as_often_as_the_p_value_says() -> None:
    """The share of p ≤ 5 %, over pairs that share no symbol; with the plain table for one series it would be a fifth."""
    prices = np.exp(0.01 * np.cumsum(np.random.default_rng(12).normal(size=(252, 1_200)), axis=0))
    p = np.array([
        scan_pairs(prices[:, k : k + 2], lags=1, both_directions=False, workers=1).rows["p_value"][0]
        for k in range(0, 1_200, 2)
    ])  # fmt: skip
    assert abs(np.mean(p <= 0.05) - 0.05) < 4.0 * math.sqrt(0.05 * 0.95 / len(p))


def test_long_work_shows_its_progress() -> None:
    told: list[float] = []
    scan_pairs(universe(13, 40, symbols=80), lags=1, progress=lambda share, what: told.append(share))
    assert told == sorted(told)
    assert len(told) > 3
    assert told[-1] == pytest.approx(1.0)


def test_a_scan_is_an_arrow_table_with_names() -> None:
    found = scan_pairs(universe(14, symbols=3), symbols=["A", "B", "C"], lags=1)
    table = found.to_arrow()
    assert table.num_rows == len(found.rows) == 6
    assert table.column("y").to_pylist() == ["A", "B", "A", "C", "B", "C"]
    np.testing.assert_array_equal(table.column("adf").to_numpy(), found.rows["adf"])


def test_a_frame_s_columns_are_the_symbols() -> None:
    columns = dict(zip("ABC", universe(14, symbols=3).T, strict=True))
    frame = pl.DataFrame(columns)
    wanted = scan_pairs(columns, lags=1)
    assert wanted.symbols == ("A", "B", "C")
    for prices in (frame, frame.to_pandas(), frame.to_arrow()):
        found = scan_pairs(prices, lags=1)
        assert (found.symbols, found.rows.tobytes()) == (wanted.symbols, wanted.rows.tobytes())
        part = scan_pairs(prices, symbols=["C", "A"], lags=1)
        assert part.symbols == ("C", "A")
        assert part.rows["adf"].tolist() == wanted.rows["adf"][[3, 2]].tolist()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lags": "tic"}, "lags='tic': it must be aic, bic or a number of lags"),
        ({"lags": 60}, "lags=60: it must be aic, bic, or 0 to 58, for 120 rows"),
        ({"lags": 1.5}, r"lags=1\.5: it must be"),
        ({"lags": 2, "max_lag": 3}, "max_lag=3: it must be left out"),
        ({"max_lag": -1}, "max_lag=-1: it must be 0 to 58"),
        ({"trend": "ctt"}, "trend='ctt': it must be n, c or ct"),
        ({"min_correlation": 1.0}, "min_correlation=1.0: it must be at least 0 and below 1"),
        ({"fdr": 0.0}, "fdr=0.0: it must be above 0 and below 1"),
        ({"method": "holm"}, "method='holm': it must be bh or by"),
        ({"symbols": ["a", "a", "b"]}, r"symbols=\('a', 'a', 'b'\): it must be different names"),
        ({"symbols": ["a", "b"]}, "symbols name 2 columns; prices have 3"),
        ({"prices": np.ones((120, 1))}, "prices='1 symbols': it must be of at least 2 symbols"),
        ({"prices": {"a": np.ones(3), "b": np.ones(3)}, "symbols": ["a", "a"]}, "it must be different names"),
        ({"prices": {"a": np.ones(3), "b": ["1", "2", "3"]}}, "the column b of prices holds <U1"),
        ({"prices": {"a": np.ones(3), "b": np.ones(3) > 0}}, "the column b of prices holds bool"),
        ({"prices": pd.DataFrame(np.ones((3, 2)), columns=["a", "a"])}, "it must be columns of different names"),
        ({"prices": {"a": np.ones(3), "b": np.ones(4)}}, "the columns of prices differ in length"),
        ({"prices": {"a": np.ones(3), "b": np.ones(3)}, "symbols": ["a", "z"]}, "prices, which have no z"),
        ({"prices": np.ones((2, 3))}, "prices='2 rows': it must be of at least 3 rows"),
        ({"prices": np.array([["1", "2"]] * 9)}, "prices hold <U1"),
    ],
)
def test_what_cannot_be_used_is_named(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        scan_pairs(**({"prices": universe(15, 120, symbols=3)} | changed))
