"""erf, the normal distribution and log Γ with the same bits on every machine, by the rules of `numbers.py`.

The tails keep their digits: exp(-x²) is taken of the square in two floats, and what it is multiplied with, w(x) =
exp(x²)·erfc(x), changes slowly and comes from a table of Taylor series (`tables.py`). Errors in units of the last place, as
`tests/compute/test_special.py` measures them: erf 0.8, erfc 1.1 (1.5 beyond 8), normal_cdf 1.8 (2.8 below -11), normal_quantile
2.8, lgamma 1.8."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oneprice.compute.kernels.numbers import bits_of, exp, exp_parts, log, log_pair, product, scaled
from oneprice.compute.kernels.tables import (
    ERF,
    ERFC,
    ERFC_FAR,
    ERFC_FIRST,
    ERFC_MIDDLE,
    LOG_GAMMA,
    LOG_GAMMA_CONSTANT,
    ONE_BY_ROOT_PI,
    ROOT_HALF,
    ROOT_HALF_REST,
    STIRLING,
)

_ROOT_2_PI = math.sqrt(2.0 * math.pi)
_ERFC_END, _CDF_END = 27.3, 38.6  # from there on the tail is 0

# Wichura's AS 241 (1988), PPND16: numerators and denominators by rising powers.
_CENTER = np.array([
    [3.3871328727963666080, 133.14166789178437745, 1971.5909503065514427, 13731.693765509461125, 45921.953931549871457,
     67265.770927008700853, 33430.575583588128105, 2509.0809287301226727],
    [1.0, 42.313330701600911252, 687.18700749205790830, 5394.1960214247511077, 21213.794301586595867,
     39307.895800092710610, 28729.085735721942674, 5226.4952788528545610],
])  # fmt: skip
_MIDDLE = np.array([
    [1.42343711074968357734, 4.63033784615654529590, 5.76949722146069140550, 3.64784832476320460504,
     1.27045825245236838258, 0.241780725177450611770, 0.0227238449892691845833, 7.74545014278341407640e-4],
    [1.0, 2.05319162663775882187, 1.67638483018380384940, 0.689767334985100004550, 0.148103976427480074590,
     0.0151986665636164571966, 5.47593808499534494600e-4, 1.05075007164441684324e-9],
])  # fmt: skip
_TAIL = np.array([
    [6.65790464350110377720, 5.46378491116411436990, 1.78482653991729133580, 0.296560571828504891230,
     0.0265321895265761230930, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7],
    [1.0, 0.599832206555887937690, 0.136929880922735805310, 0.0148753612908506148525, 7.86869131145613259100e-4,
     1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15],
])  # fmt: skip


@njit(cache=True, forceinline=True, error_model="numpy")
def _polynomial(coefficients, x):
    total = 0.0
    for k in range(coefficients.shape[0] - 1, -1, -1):
        total = total * x + coefficients[k]
    return total


@njit(cache=True, error_model="numpy")
def _erf_rest(x):
    """erf(x) - x for |x| ≤ 0.5."""
    return x * _polynomial(ERF, x * x)


@njit(cache=True, error_model="numpy")
def _scaled_erfc(x, rest):
    """w(x + rest) = exp(x²)·erfc(x) for x ≥ 0.5, as a float and what is to be added to it."""
    if x >= 8.0:
        first = ONE_BY_ROOT_PI / x
        square = 0.5 / (x * x)
        return first, first * square * _polynomial(ERFC_FAR, square)
    cell = (bits_of(x) - ERFC_FIRST) >> 48
    return ERFC_MIDDLE[cell, 1], _polynomial(ERFC[cell], (x - ERFC_MIDDLE[cell, 0]) + rest)


@njit(cache=True, error_model="numpy")
def _tail(square, square_rest, x, rest, halvings):
    """exp(-square)·w(x)/2^halvings: both in two floats, and rounded once."""
    scale, change, k = exp_parts(-square, -square_rest)
    first, more = _scaled_erfc(x, rest)
    near, low = product(scale, first)
    return scaled(near + (low + scale * (more + change * (first + more))), k - halvings)


@njit(cache=True, error_model="numpy")
def _erfc_tail(x):
    """erfc(x) for x ≥ 0.5."""
    if x >= _ERFC_END:
        return 0.0
    square, rest = product(x, x)
    return _tail(square, rest, x, 0.0, 0)


@njit(cache=True, error_model="numpy")
def erf(x):
    """Error function."""
    size = abs(x)
    if size <= 0.5:
        return x + _erf_rest(x)
    if size < math.inf:
        return math.copysign(1.0 - _erfc_tail(size), x)
    return math.copysign(1.0, x) if size == math.inf else math.nan


@njit(cache=True, error_model="numpy")
def erfc(x):
    """1 - erf(x), with all digits where it is small."""
    if abs(x) <= 0.5:
        return 1.0 - (x + _erf_rest(x))
    if x > 0.0:
        return _erfc_tail(x)
    return 2.0 - _erfc_tail(-x) if x < 0.0 else math.nan


@njit(cache=True, error_model="numpy")
def normal_cdf(x):
    """Φ(x), the standard normal distribution: erfc(-x/√2)/2, but with the square of x itself in the exponent."""
    size = abs(x)
    if size <= 0.7072:
        half = size * ROOT_HALF
        return 0.5 + math.copysign(0.5 * (half + _erf_rest(half)), x)
    if size >= _CDF_END:
        return 1.0 if x > 0.0 else 0.0
    if not size < _CDF_END:
        return math.nan
    square, rest = product(x, x)
    near, low = product(size, ROOT_HALF)
    tail = _tail(0.5 * square, 0.5 * rest, near, low + size * ROOT_HALF_REST, 1)
    return 1.0 - tail if x > 0.0 else tail


@njit(cache=True, error_model="numpy")
def normal_quantile(p):
    """The x with Φ(x) = p: -inf at 0, inf at 1, NaN outside. Wichura 1988 (AS 241), and one step of Newton's."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        x = q * (_polynomial(_CENTER[0], r) / _polynomial(_CENTER[1], r))
        return x - (0.5 * erf(x * ROOT_HALF) - q) * _ROOT_2_PI * exp(0.5 * x * x)
    if not 0.0 < p < 1.0:
        if p == 0.0:
            return -math.inf
        return math.inf if p == 1.0 else math.nan
    least = p if q < 0.0 else 1.0 - p
    r = math.sqrt(-log(least))
    if r <= 5.0:
        r -= 1.6
        x = _polynomial(_MIDDLE[0], r) / _polynomial(_MIDDLE[1], r)
    else:
        r -= 5.0
        x = _polynomial(_TAIL[0], r) / _polynomial(_TAIL[1], r)
    square, rest = product(x, x)
    scale, change, k = exp_parts(-0.5 * square, -0.5 * rest)  # the density is scale·(1 + change)·2^k/√(2π)
    first, more = _scaled_erfc(x * ROOT_HALF, 0.0)
    x += (0.5 * (first + more) - scaled(least, -k) / (scale + scale * change)) * _ROOT_2_PI
    return math.copysign(x, q)


@njit(cache=True, error_model="numpy")
def _log_gamma_near(x):
    """log Γ(x) for 0.75 ≤ x ≤ 2.5: Taylor's series at 1, 3/2 or 2. At 1 and 2, where it is 0, no digit is lost."""
    if x < 1.25:
        return _polynomial(LOG_GAMMA[0], x - 1.0)
    if x < 1.75:
        return _polynomial(LOG_GAMMA[1], x - 1.5)
    return _polynomial(LOG_GAMMA[2], x - 2.0)


@njit(cache=True, error_model="numpy")
def lgamma(x):
    """log Γ(x) for x > 0: inf of 0, NaN of what is below. Taylor, recurrence and, from 10 on, Stirling's series."""
    if x < 0.75:
        if x > 0.0:
            return (_polynomial(LOG_GAMMA[0], x) if x < 0.25 else _polynomial(LOG_GAMMA[1], x - 0.5)) - log(x)
        return math.inf if x == 0.0 else math.nan
    if x <= 2.5:
        return _log_gamma_near(x)
    if x < 10.0:
        factors = 1.0
        while x > 2.5:
            x -= 1.0
            factors *= x
        return _log_gamma_near(x) + log(factors)
    if not x < math.inf:
        return x if x > 0.0 else math.nan
    high, low = log_pair(x)
    inverse = 1.0 / x
    rest = LOG_GAMMA_CONSTANT + inverse * _polynomial(STIRLING, inverse * inverse)
    return (x - 0.5) * ((high - 1.0) + low) + rest
