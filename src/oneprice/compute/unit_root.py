"""The augmented Dickey–Fuller test, compiled: does a series come back to where it was?

    Δu_t = [a + b·t] + ρ·u_{t−1} + Σ_{j=1…lag} γ_j·Δu_{t−j} + ε_t          statistic = ρ̂ / se(ρ̂)

The number of lags is given, or the one of 0…max_lag with the lowest AIC or BIC; all of them are judged on the rows that
max_lag leaves, and the chosen one is then fitted on all rows it leaves itself (as statsmodels does, so that both agree).

One factorisation serves all lags. With the columns in the order trend, level, lags, target, the upper triangle R of
RᵀR = XᵀX holds the fit of every prefix: its last column ends with √SSR of the whole regression, and each value above it,
squared, is what the column of its row took away. The sums of products cost O(n·lags), not O(n·lags²): the products of two
lagged differences are the products of two others, shifted, so each diagonal of XᵀX is one long common sum and short ends.
The ends are added, never taken away, so that a jump at an end of the sample costs no digits."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oneprice.compute.inner import inner
from oneprice.compute.kernels.numbers import log
from oneprice.compute.regression import cholesky, reflected

TESTED, SHORT, FLAT, COLLINEAR, SINGULAR = range(5)
REASONS = (
    "tested",
    "short: fewer rows than the regression needs",
    "flat: a series does not move",
    "collinear: one series is the other, scaled and shifted",
    "singular: the lagged differences determine each other or the next one",
)
FIXED, AIC, BIC = range(3)
CRITERIA = ("fixed", "aic", "bic")


@njit(cache=True)
def most_lags(n, trend):
    """The largest lag for which n rows leave a degree of freedom: ⌊n/2⌋ − trend − 1, less one where nothing would be left."""
    return min(n // 2 - trend - 1, (n - 3 - trend) // 2)


@inner
def usual_lags(n, trend):
    """⌈12·(n/100)^¼⌉ (Schwert 1989), as far as the sample allows; negative when it allows no regression."""
    return min(math.ceil(12.0 * (n / 100.0) ** 0.25), most_lags(n, trend))


@njit(cache=True)
def room_for(n, max_lag, trend):
    """(back, matrix, sums): the places in which `adf` works, for series of up to n rows."""
    width = max(max_lag, usual_lags(n, trend), 0) + trend + 2
    return np.empty(n), np.empty((width, width)), np.empty((3, width))


@njit(cache=True)
def adf(u, criterion, max_lag, trend, room):
    """(statistic, lags, reason) of the series u; `max_lag` -1: the usual one; `trend`: 0, 1, 2 columns.

    With a trend, u should be near zero (less its mean), so that it and the constant are told apart.
    """
    back, matrix, sums = room
    n = u.shape[0]
    most = usual_lags(n, trend) if max_lag < 0 else max_lag
    if most < 0 or most > most_lags(n, trend):
        return math.nan, -1, SHORT
    for j in range(n - 1):
        back[j] = u[n - 1 - j] - u[n - 2 - j]
    lag = most
    if criterion != FIXED:
        if not factored(u, back, most, trend, matrix, sums):
            return math.nan, -1, SINGULAR
        lag = best_lag(matrix, most, trend, criterion, n - 1 - most)
    if (criterion == FIXED or lag != most) and not factored(u, back, lag, trend, matrix, sums):
        return math.nan, -1, SINGULAR
    return level_t(matrix, lag, trend, n - 1 - lag, sums[0]), lag, TESTED


@inner
def factored(u, back, lag, trend, matrix, sums):
    """The triangle of the regression with `lag` lags into `matrix`; False when its columns are not independent."""
    width = trend + lag + 2
    products(u, back, lag, trend, matrix, sums)
    if cholesky(matrix, width, sums[0]):
        return True
    return reflected(columns(u, lag, trend), matrix, sums[0])


@njit(cache=True)
def products(u, back, lag, trend, matrix, sums):
    """The upper triangle of XᵀX, for the columns trend, level, lags 1…lag, target; rows s = lag…n−2 of differences.

    `back`: the differences, newest first, so that the lags of a row stand side by side.
    """
    n = u.shape[0]
    target = trend + 1 + lag
    core, ends = sums[1], sums[2]
    core[: lag + 1] = 0.0
    ends[: lag + 1] = 0.0
    squares = 0.0
    for s in range(lag, n - 1 - lag):
        level, change, first = u[s], back[n - 2 - s], n - 2 - s
        squares += level * level
        for j in range(lag + 1):
            ends[j] += level * back[first + j]
            core[j] += change * back[first + j]
    for s in range(n - 1 - lag, n - 1):
        level, first = u[s], n - 2 - s
        squares += level * level
        for j in range(lag + 1):
            ends[j] += level * back[first + j]
    matrix[trend, trend] = squares
    matrix[trend, target] = ends[0]
    for j in range(1, lag + 1):
        matrix[trend, trend + j] = ends[j]
    for apart in range(lag + 1):
        common = core[apart]
        late = 0.0
        for s in range(n - 1 - lag, n - 1 - lag + apart):
            late += back[n - 2 - s] * back[n - 2 - s + apart]
        ends[lag - apart] = late
        for i in range(lag - apart - 1, -1, -1):
            s = n - 2 - i
            late += back[n - 2 - s] * back[n - 2 - s + apart]
            ends[i] = late
        early = 0.0
        for i in range(lag - apart + 1):
            if i > 0:
                s = lag - i
                early += back[n - 2 - s] * back[n - 2 - s + apart]
            value = common + early + ends[i]
            if i > 0:
                matrix[trend + i, trend + i + apart] = value
            elif apart > 0:
                matrix[trend + apart, target] = value
            else:
                matrix[target, target] = value
    if trend > 0:
        trend_products(u, back, lag, trend, matrix)


@inner
def trend_products(u, back, lag, trend, matrix):
    """The rows of XᵀX that belong to the constant and to time, which is counted from the middle of the rows."""
    n = u.shape[0]
    target, rows = trend + 1 + lag, n - 1 - lag
    middle = 0.5 * (rows - 1)
    matrix[:trend, :] = 0.0
    for s in range(lag, n - 1):
        first, time = n - 2 - s, s - lag - middle
        for k in range(trend):
            weight = 1.0 if k == 0 else time
            matrix[k, k] += weight * weight
            matrix[k, trend] += weight * u[s]
            matrix[k, target] += weight * back[first]
            for j in range(1, lag + 1):
                matrix[k, trend + j] += weight * back[first + j]


@njit(cache=True)
def columns(u, lag, trend):
    """The columns themselves, one a row: trend, level, lags, target."""
    n = u.shape[0]
    rows = n - 1 - lag
    found = np.empty((trend + lag + 2, rows))
    for r in range(rows):
        s = r + lag
        if trend > 0:
            found[0, r] = 1.0
        if trend > 1:
            found[1, r] = r - 0.5 * (rows - 1)
        found[trend, r] = u[s]
        for j in range(1, lag + 1):
            found[trend + j, r] = u[s - j + 1] - u[s - j]
        found[trend + lag + 1, r] = u[s + 1] - u[s]
    return found


@inner
def best_lag(matrix, most, trend, criterion, rows):
    """The lag with the lowest AIC or BIC, of two the smaller; all from one triangle."""
    target = trend + 1 + most
    price = 2.0 if criterion == AIC else log(rows)
    unexplained = matrix[target, target] ** 2
    best, lowest = most, rows * log(unexplained) + price * target
    for lag in range(most - 1, -1, -1):
        unexplained += matrix[trend + 1 + lag, target] ** 2
        value = rows * log(unexplained) + price * (trend + 1 + lag)
        if value <= lowest:
            best, lowest = lag, value
    return best


@inner
def level_t(matrix, lag, trend, rows, places):
    """The t statistic of the level: its coefficient from R, its variance from the column of R⁻¹ᵀ that belongs to it."""
    target = trend + 1 + lag
    for i in range(target - 1, trend - 1, -1):
        value = matrix[i, target]
        for j in range(i + 1, target):
            value -= matrix[i, j] * places[j]
        places[i] = value / matrix[i, i]
    coefficient = places[trend]
    places[trend] = 1.0 / matrix[trend, trend]
    variance = places[trend] ** 2
    for i in range(trend + 1, target):
        value = 0.0
        for j in range(trend, i):
            value -= matrix[j, i] * places[j]
        places[i] = value / matrix[i, i]
        variance += places[i] ** 2
    spread = abs(matrix[target, target]) * math.sqrt(variance / (rows - target))
    return coefficient / spread
