"""Do two prices move together for good? Engle and Granger's test of one pair, and of all pairs of a universe at once.

    y_t = intercept [+ slope·t] + hedge_ratio·x_t + u_t        u: augmented Dickey–Fuller without a constant (`unit_root`)

The p-value is MacKinnon's for two series. The half-life says after how many rows half of a deviation is gone
(u as an Ornstein–Uhlenbeck process: Δu = a + λ·u₋, ln 2 / −ln(1+λ); infinite for λ ≥ 0, none for λ ≤ −1).

`scan_pairs` makes each series' deviations from its trend once; a pair then costs a product of two columns, its residual,
and sums over the residual's lags. Every number of a pair is a function of its two columns alone, computed in one order, so
it does not change with the other symbols, their order, or the number of threads; only the q-value looks at all pairs.

Statistics agree with statsmodels' `coint` as far as its own digits go: to 1e-11 on logarithms of prices. On prices of 1e5
that move by 1 its design matrix, a column of ones beside them, leaves it 1e-7, on nearly collinear ones 1e-5, where ours
stay within 1e-12 of long doubles; ours pass 1e-8 when prices are more than 1e11 times their own movement. They differ on
purpose where there is no answer: a pair without a test has NaN and a `reason` (statsmodels returns −inf and p = 0 for
collinear series and raises for constant ones), and an even sample of at most 20 rows is not fitted without a remaining
degree of freedom. Rows may be missing: a pair uses those on which both have a price, closed up.

Engle & Granger 1987; MacKinnon 1994, 2010; Benjamini & Hochberg 1995; Benjamini & Yekutieli 2001."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numba import njit
from numpy.typing import ArrayLike, NDArray

from oneprice.compute.inner import inner
from oneprice.compute.kernels.numbers import LN2, log1p
from oneprice.compute.kernels.numbers import log as ln
from oneprice.compute.mackinnon import p_value, place_of_trend
from oneprice.compute.regression import detrended, dot
from oneprice.compute.unit_root import (
    COLLINEAR,
    CRITERIA,
    FIXED,
    FLAT,
    REASONS,
    SHORT,
    TESTED,
    adf,
    most_lags,
    room_for,
)
from oneprice.model.errors import InputError
from oneprice.model.progress import Progress, untold

Floats = NDArray[np.float64]
Ints = NDArray[np.int32]
PAIR = np.dtype(
    [
        ("y", np.int32), ("x", np.int32),  # places of the symbols: y is held, hedge_ratio of x is sold
        ("hedge_ratio", np.float64), ("intercept", np.float64), ("slope", np.float64),  # slope: a row; t is 1 in the first
        ("adf", np.float64), ("p_value", np.float64), ("q_value", np.float64),
        ("half_life", np.float64),  # rows
        ("correlation", np.float64),  # of the changes from row to row
        ("observations", np.int32), ("lags", np.int16), ("reason", np.int8), ("is_discovery", np.bool_),
    ],
    align=True,
)  # fmt: skip
_SAME = 100.0 * 2.0**-26  # of y unexplained: below, statsmodels calls the series collinear, too
_CHUNK = 2_048  # pairs a call: long enough to forget the call, short enough for progress to move
_CORRELATING = 0.05  # of a scan's work

# -- one pair ---------------------------------------------------------------------------------------------------------


@inner
def engle_granger(y, x, y_squares, x_squares, criterion, max_lag, trend, room, u):
    """(hedge ratio, statistic, p, lags, reason) of two detrended series; the residual into `u`."""
    if max(max_lag, 0) > most_lags(y.shape[0], 0):
        return math.nan, math.nan, math.nan, -1, SHORT
    if not (y_squares > 0.0 and x_squares > 0.0):
        return math.nan, math.nan, math.nan, -1, FLAT
    ratio = dot(y, x) / x_squares
    for k in range(y.shape[0]):
        u[k] = y[k] - ratio * x[k]
    if dot(u, u) <= _SAME * y_squares:
        return ratio, math.nan, math.nan, -1, COLLINEAR
    statistic, lags, reason = adf(u, criterion, max_lag, 0, room)
    return ratio, statistic, p_value(statistic, trend, 2), lags, reason


@inner
def half_life_of(u):
    """ln 2 / −ln(1+λ) rows, λ the slope of Δu on u₋; inf when u does not come back, NaN when it leaps over its mean."""
    n = u.shape[0] - 1
    if n < 2:
        return math.nan
    level, change = 0.0, 0.0
    for k in range(n):
        level += u[k]
        change += u[k + 1] - u[k]
    level, change = level / n, change / n
    squares, products = 0.0, 0.0
    for k in range(n):
        squares += (u[k] - level) ** 2
        products += (u[k] - level) * (u[k + 1] - u[k] - change)
    if squares == 0.0:
        return math.nan
    pull = products / squares
    if pull >= 0.0:
        return math.inf
    return LN2 / -log1p(pull) if pull > -1.0 else math.nan


# -- many pairs -------------------------------------------------------------------------------------------------------


@njit(cache=True)
def changes(values, out):
    """Changes from row to row, less their mean, of length 1: their products are correlations. NaN for a flat series."""
    n = values.shape[0] - 1
    mean = (values[n] - values[0]) / n
    for k in range(n):
        out[k] = values[k + 1] - values[k] - mean
    squares = dot(out, out)
    noise = 1e-15 * (abs(values[0]) + abs(values[n]))
    length = math.sqrt(squares) if squares > n * noise * noise else math.nan
    for k in range(n):
        out[k] /= length


@inner
def shared_rows(a, b, a_out, b_out):
    """The rows on which both have a value, closed up; → how many."""
    n = 0
    for k in range(a.shape[0]):
        if math.isfinite(a[k]) and math.isfinite(b[k]):
            a_out[n], b_out[n] = a[k], b[k]
            n += 1
    return n


@njit(cache=True, nogil=True)
def correlations(values, unit, is_whole, firsts, seconds, out):
    """The correlation of the changes of each pair."""
    length = values.shape[1]
    work = np.empty((4, length))
    for k in range(out.shape[0]):
        a, b = firsts[k], seconds[k]
        if is_whole[a] and is_whole[b]:
            product = dot(unit[a], unit[b])
        else:
            n = shared_rows(values[a], values[b], work[0], work[1])
            if n < 3:
                out[k] = math.nan
                continue
            changes(work[0, :n], work[2, : n - 1])
            changes(work[1, :n], work[3, : n - 1])
            product = dot(work[2, : n - 1], work[3, : n - 1])
        out[k] = min(1.0, max(-1.0, product)) if not math.isnan(product) else math.nan


@njit(cache=True, nogil=True)
def pair_tests(values, left, moments, is_whole, criterion, max_lag, trend, rows):
    """Fill in the rows, whose y and x are given. `left`, `moments`: each series detrended, with level, slope and squares."""
    length = values.shape[1]
    room = room_for(length, max_lag, 0)
    work = np.empty((5, length))
    for k in range(rows.shape[0]):
        a, b = rows[k].y, rows[k].x
        if is_whole[a] and is_whole[b]:
            n, y, x = length, left[a], left[b]
            y_level, y_slope, y_squares = moments[a, 0], moments[a, 1], moments[a, 2]
            x_level, x_slope, x_squares = moments[b, 0], moments[b, 1], moments[b, 2]
        else:
            n = shared_rows(values[a], values[b], work[0], work[1])
            y, x = work[2, :n], work[3, :n]
            y_level, y_slope, y_squares = detrended(work[0, :n], trend, y) if n > 0 else (0.0, 0.0, 0.0)
            x_level, x_slope, x_squares = detrended(work[1, :n], trend, x) if n > 0 else (0.0, 0.0, 0.0)
        u = work[4, :n]
        ratio, statistic, p, lags, reason = engle_granger(
            y, x, y_squares, x_squares, criterion, max_lag, trend, room, u
        )
        slope = y_slope - ratio * x_slope
        rows[k].hedge_ratio, rows[k].slope = ratio, slope
        rows[k].intercept = y_level - ratio * x_level - slope * 0.5 * (n + 1)
        rows[k].adf, rows[k].p_value, rows[k].lags = statistic, p, lags
        rows[k].half_life = half_life_of(u) if reason == TESTED else math.nan
        rows[k].observations, rows[k].reason = n, reason


class PairScan(NamedTuple):
    """A row of `PAIR` for each pair and direction that was tested; y and x are places in `symbols`."""

    rows: NDArray[Any]
    symbols: tuple[str, ...]

    def frame(self) -> pl.DataFrame:
        """With the symbols' names, and the reason why a pair has no test in words."""
        columns: dict[str, Any] = {name: self.rows[name] for name in PAIR.names or ()}
        names, reasons = pl.Series(self.symbols, dtype=pl.String), pl.Series(REASONS)
        columns |= {side: names.gather(self.rows[side]) for side in ("y", "x")}
        columns["reason"] = reasons.gather(self.rows["reason"])
        return pl.DataFrame(columns)

    def to_arrow(self) -> Any:
        """The same as an Arrow table; needs pyarrow."""
        return self.frame().to_arrow()


@njit(cache=True)
def _logs(columns):
    """NaN where there is no logarithm."""
    found = np.empty_like(columns)
    for series in range(columns.shape[0]):
        for row in range(columns.shape[1]):
            value = columns[series, row]
            found[series, row] = ln(value) if value > 0.0 else math.nan
    return found


def scan_pairs(
    prices: Any, *, symbols: Sequence[str] | None = None, lags: str | int = "aic",
    trend: str = "c", max_lag: int | None = None, min_correlation: float = 0.0, both_directions: bool = True,
    fdr: float = 0.05, method: str = "bh", log: bool = True, workers: int | None = None,
    progress: Progress = untold,
) -> PairScan:  # fmt: skip
    """Engle–Granger for every pair of a universe.

    `prices`: a column by symbol (a dict, or a frame of Polars, pandas or Arrow, of which `symbols` may choose some), or an
    array of rows × symbols, named by `symbols`; taken as logarithms when `log`, so that the hedge ratio is one of values.
    Rows on which a price is missing (NaN, infinite, or ≤ 0 under a logarithm) are left out of its pairs.
    `lags`: "aic" or "bic" over 0…max_lag (⌈12(n/100)^¼⌉ when left out), or that many. `trend`: n, c or ct.
    `min_correlation`: pairs whose changes correlate less, in absolute value, are not tested and not in the result.
    `both_directions`: y on x and x on y, two tests with two answers; else the symbol that comes first is y.
    `fdr`: the share of false ones among the discoveries that one accepts; `method` bh holds for tests that are independent or
    positively dependent, by for any. Pairs that share a symbol depend on each other: by is the cautious choice.
    `workers`: threads, one a core when left out. `progress` is called with the share done and a word on what is going on.

    InputError names the argument that cannot be used.

    >>> import numpy as np
    >>> walk = 100 + np.cumsum(np.random.default_rng(1).normal(size=300))
    >>> noise = np.random.default_rng(2).normal(size=(2, 300))
    >>> found = scan_pairs({"A": walk + noise[0], "B": walk + noise[1], "C": 100 + np.cumsum(noise[0])}, lags=1)
    >>> found.frame().filter("is_discovery").select("y", "x", "lags").rows()
    [('A', 'B', 1), ('B', 'A', 1)]
    """
    names, columns = _universe(prices, symbols)
    place = place_of_trend(trend)
    criterion, most = _lags(lags, max_lag, columns.shape[1])
    _check("min_correlation", min_correlation, 0.0 <= min_correlation < 1.0, "at least 0 and below 1")
    _check("fdr", fdr, 0.0 < fdr < 1.0, "above 0 and below 1")
    _check("method", method, method in ("bh", "by"), "bh or by")
    if log:
        columns = _logs(columns)
    progress(0.0, "making ready (the first scan compiles)")
    left, moments, unit, is_whole = _prepared(columns, place)
    firsts, seconds = (side.astype(np.int32) for side in np.triu_indices(len(names), 1))
    correlation = np.empty(len(firsts))
    with ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        calls: list[tuple[Any, ...]] = [
            (correlations, columns, unit, is_whole, firsts[one], seconds[one], correlation[one])
            for one in _pieces(len(firsts), 16 * _CHUNK)
        ]
        _all(pool, calls, lambda done: progress(_CORRELATING * done, "correlating"))
        kept = np.abs(correlation) >= min_correlation if min_correlation > 0.0 else np.ones(len(firsts), dtype=np.bool_)
        rows = _untested(firsts[kept], seconds[kept], correlation[kept], both_directions)
        calls = [
            (pair_tests, columns, left, moments, is_whole, criterion, most, place, rows[one])
            for one in _pieces(len(rows), _CHUNK)
        ]
        _all(pool, calls, lambda done: progress(_CORRELATING + (1.0 - _CORRELATING) * done, "testing pairs"))
    rows["q_value"] = q_values(rows["p_value"], method=method)
    rows["is_discovery"] = rows["q_value"] <= fdr
    return PairScan(rows, names)


def q_values(p: ArrayLike, *, method: str = "bh") -> Floats:
    """The smallest false discovery rate at which each of these tests is a discovery; NaN where there was no test.

    >>> q_values([0.01, 0.02, 0.9, float("nan")]).round(6).tolist()
    [0.03, 0.03, 0.9, nan]
    """
    given = np.asarray(p, dtype=np.float64)
    found = np.full(given.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(given))
    ascending = tests[np.argsort(given[tests], kind="stable")]
    ranks = np.arange(1, len(tests) + 1)
    dependence = np.sum(1.0 / ranks) if method == "by" else 1.0
    steps = given[ascending] * len(tests) * dependence / ranks
    found[ascending] = np.minimum(1.0, np.minimum.accumulate(steps[::-1])[::-1])
    return found


def _universe(prices: Any, symbols: Sequence[str] | None) -> tuple[tuple[str, ...], Floats]:
    """Names, and a row of prices for each."""
    listed = _column_names(prices)
    if listed is None:
        columns = np.asarray(prices).T
        if columns.dtype.kind not in "fiu" or columns.ndim != 2:
            raise InputError(
                f"scan_pairs: prices hold {columns.dtype} in the shape {columns.T.shape}; needed are numbers, rows × symbols"
            )
        names = tuple(str(k) for k in range(len(columns))) if symbols is None else tuple(symbols)
        if len(names) != len(columns):
            raise InputError(f"scan_pairs: symbols name {len(names)} columns; prices have {len(columns)}")
    else:
        by_name = {str(name): prices[name] for name in listed}
        _check("prices", [str(name) for name in listed], len(by_name) == len(listed), "columns of different names")
        names = tuple(by_name if symbols is None else symbols)
        unknown = [name for name in names if name not in by_name]
        _check("symbols", names, not unknown, f"among the columns of prices, which have no {', '.join(unknown[:3])}")
        columns = _side_by_side(names, [np.asarray(by_name[name]) for name in names])
    _check("symbols", names, len(set(names)) == len(names), "different names")
    _check("prices", f"{len(names)} symbols", len(names) > 1, "of at least 2 symbols")
    return names, np.ascontiguousarray(columns, dtype=np.float64)


def _column_names(prices: Any) -> list[Any] | None:
    """Those of a dict of columns, an Arrow table, a Polars or a pandas frame; an array has none."""
    if isinstance(prices, Mapping):
        return list(prices)
    names = getattr(prices, "column_names", getattr(prices, "columns", None))
    return None if names is None else list(names)


def _side_by_side(names: Sequence[str], columns: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """A row of each column. InputError names one that holds no numbers, and columns of different length."""
    for name, column in zip(names, columns, strict=True):
        if column.dtype.kind not in "fiu" or column.ndim != 1:
            raise InputError(
                f"scan_pairs: the column {name} of prices holds {column.dtype}; needed are numbers, one a row; "
                "symbols can choose among the columns"
            )
    if len({len(column) for column in columns}) > 1:
        told = ", ".join(f"{name} {len(column)}" for name, column in list(zip(names, columns, strict=True))[:5])
        raise InputError(f"scan_pairs: the columns of prices differ in length: {told}")
    return np.array(columns)


def _lags(lags: str | int, max_lag: int | None, rows: int) -> tuple[int, int]:
    """The criterion and the lag, or the largest one, as compiled code takes them (-1: the usual)."""
    room = int(most_lags(rows, 0))
    _check("prices", f"{rows} rows", room >= 0, "of at least 3 rows")
    if isinstance(lags, str):
        _check("lags", lags, lags in CRITERIA[1:], "aic, bic or a number of lags")
        if max_lag is None:
            return CRITERIA.index(lags), -1
        _check("max_lag", max_lag, _is_whole(max_lag) and 0 <= max_lag <= room, f"0 to {room}, for {rows} rows")
        return CRITERIA.index(lags), max_lag
    _check("lags", lags, _is_whole(lags) and 0 <= lags <= room, f"aic, bic, or 0 to {room}, for {rows} rows")
    _check("max_lag", max_lag, max_lag is None, "left out where the number of lags is given")
    return FIXED, int(lags)


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _check(name: str, value: object, holds: bool, allowed: str) -> None:
    if not holds:
        raise InputError(f"scan_pairs: {name}={value!r}: it must be {allowed}")


def _prepared(columns: Floats, trend: int) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """What pairs share: each series detrended, its moments, its changes; and which series lack no row."""
    count, length = columns.shape
    left, unit = np.full((count, length), np.nan), np.full((count, length - 1), np.nan)
    moments = np.zeros((count, 3))
    is_whole = np.asarray(np.isfinite(columns).all(axis=1))
    for k in np.flatnonzero(is_whole):
        moments[k] = detrended(columns[k], trend, left[k])
        changes(columns[k], unit[k])
    return left, moments, unit, is_whole


def _untested(firsts: Ints, seconds: Ints, correlation: Floats, both_directions: bool) -> NDArray[Any]:
    """A row for each pair, or two: its other direction behind it."""
    rows: NDArray[Any] = np.zeros((len(firsts), 2 if both_directions else 1), dtype=PAIR)
    rows["correlation"] = correlation[:, None]
    rows["y"][:, 0], rows["x"][:, 0] = firsts, seconds
    if both_directions:
        rows["y"][:, 1], rows["x"][:, 1] = seconds, firsts
    return rows.reshape(-1)


def _pieces(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def _all(pool: ThreadPoolExecutor, calls: Sequence[tuple[Any, ...]], told: Callable[[float], None]) -> None:
    """Run the calls, telling the share that is done; when one fails or the caller is stopped, those that wait are dropped."""
    waiting = [pool.submit(*call) for call in calls]
    try:
        for done, one in enumerate(as_completed(waiting), 1):
            one.result()
            told(done / len(waiting))
    finally:
        for one in waiting:
            one.cancel()
