"""log, exp and powers with the same bits on every machine.

Platforms' own functions differ in the last bit, and so would everything computed from them. These use nothing but + - × ÷ and
√, which IEEE 754 rounds in one way, comparisons, integers and the bits of floats; Numba contracts no product and sum
unless it is told to. No function raises: edge values are those of C99 (annex F), and every NaN that comes out is `math.nan`.

Each reduces its argument to a small cell of a table (`tables.py`), where a few terms of Taylor's series are enough, and keeps
what the reduction rounds away in a second float (Tang 1989, 1990, 1992).

Errors in units of the last place, as `tests/compute/test_numbers.py` measures them: log, log1p and exp 0.51 (exp 0.7 where
the result is subnormal), expm1 and power 0.6, sinh 1.8, acosh 2.4. `special.py` has erf, the normal distribution and log Γ."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oneprice.compute.kernels.tables import (
    EXP_BITS,
    EXP_STEP_HIGH,
    EXP_STEP_LOW,
    EXP_STEPS_PER_ONE,
    EXP_TAIL,
    LN2_HIGH,
    LN2_LOW,
    LOG_FIRST,
    LOG_LOW,
    LOG_WORD,
)

LN2 = 0.6931471805599453  # the float nearest to log 2
_LEAST_NORMAL = 2.0**-1022
_TO_WHOLE = 1.5 * 2.0**52  # a number below 2^51 added to it is rounded to a whole one, which its last bits then hold
_TO_WHOLE_BITS = int(np.float64(_TO_WHOLE).view(np.int64))
_UPPER_HALF, _HALF_OF_IT = -1 << 32, 1 << 31  # of the bits of a float: 21 binary digits; and what rounds to them
_UPPER_DIGITS = -1 << 27  # 26 binary digits, so that products of two are exact
_EXP_PLAIN = 690.0  # within ± this no step on the way to e^x leaves the normal numbers
_EXP_MOST, _EXP_LEAST = 710.0, -746.0  # beyond them it is infinite, or 0


@njit(cache=True, forceinline=True, error_model="numpy")
def bits_of(x):
    return np.float64(x).view(np.int64)


@njit(cache=True, forceinline=True, error_model="numpy")
def float_of(bits):
    return np.int64(bits).view(np.float64)


@njit(cache=True, forceinline=True, error_model="numpy")
def product(x, y):
    """x·y as the nearest float and the rest (Dekker 1971; halves are cut by bits, so that nothing overflows on the way)."""
    near = x * y
    x_high, y_high = float_of(bits_of(x) & _UPPER_DIGITS), float_of(bits_of(y) & _UPPER_DIGITS)
    x_low, y_low = x - x_high, y - y_high
    return near, ((x_high * y_high - near) + x_high * y_low + x_low * y_high) + x_low * y_low


@njit(cache=True, forceinline=True, error_model="numpy")
def _whole_float(n):
    """A whole number below 2^51 as a float."""
    return float_of(n + _TO_WHOLE_BITS) - _TO_WHOLE


@njit(cache=True, forceinline=True, error_model="numpy")
def _log_cell(bits):
    """(k, high, low, a, b) with 2^k·z the positive normal number of these bits, high + low the log of the cell, and
    z·inverse = 1 + a + b, both exact.

    a has 26 binary digits, so that a² is exact, too (for z < 0.71 to 2^-71); |a| < 2^-7.9, |b| < 2^-21.4. The inverse of the
    cell around 1 is 1.
    """
    place = bits - LOG_FIRST
    k, cell = place >> 52, (place >> 45) & 127
    z = float_of(bits - (k << 52))
    z_high = float_of((bits_of(z) + _HALF_OF_IT) & _UPPER_HALF)  # rounded, not cut: next to 1 it is 1
    word = LOG_WORD[cell]
    inverse, high = _whole_float(word & 0x7FFF) * 2.0**-14, _whole_float(word >> 15) * 2.0**-42
    return k, high, LOG_LOW[cell], z_high * inverse - 1.0, (z - z_high) * inverse


@njit(cache=True, forceinline=True, error_model="numpy")
def _log_rest(r):
    """log(1 + r) - r for |r| < 2^-7.9: r^9 and what follows is below 2^-59 of r."""
    r2 = r * r
    return r2 * ((-1 / 2 + r * (1 / 3)) + r2 * ((-1 / 4 + r * (1 / 5)) + r2 * (-1 / 6 + r * (1 / 7) - r2 * (1 / 8))))


@njit(cache=True, forceinline=True, error_model="numpy")
def _log_sum(k, cell_high, cell_low, a, b, rest):
    """k·log 2 + log of the cell + log(1 + a + b + rest), of which `rest` is below 2^-52."""
    r = a + b
    whole = k * LN2_HIGH + cell_high
    high = whole + r
    low = ((whole - high) + r) + ((((a - r) + b) + rest) + (k * LN2_LOW + cell_low))
    return high + (low + _log_rest(r))


@njit(cache=True, forceinline=True, error_model="numpy")
def log(x):
    """Natural logarithm: -inf of 0, NaN of what is below. Tang 1990."""
    is_small = x < _LEAST_NORMAL
    k, high, low, a, b = _log_cell(bits_of(x * 2.0**52 if is_small else x))
    found = _log_sum(k - 52.0 if is_small else k + 0.0, high, low, a, b, -0.0)
    if 0.0 < x < math.inf:
        return found
    if x == 0.0:
        return -math.inf
    return math.inf if x > 0.0 else math.nan


@njit(cache=True, forceinline=True, error_model="numpy")
def log_parts(x):
    """(k, log m) of x = 2^k·m, 0.69 ≤ m < 1.38, positive and finite: log m of numbers that are near each other differ in all
    their digits, where those of log x are few."""
    is_small = x < _LEAST_NORMAL
    k, high, low, a, b = _log_cell(bits_of(x * 2.0**52 if is_small else x))
    return (k - 52.0 if is_small else k + 0.0), _log_sum(0.0, high, low, a, b, -0.0)


@njit(cache=True, forceinline=True, error_model="numpy")
def log1p(x):
    """log(1 + x), with all digits where x is small: -inf of -1, NaN of what is below."""
    if -(2.0**-9) <= x <= 2.0**-8:
        return x + _log_rest(x)
    if -1.0 < x < math.inf:
        near = 1.0 + x
        part = near - 1.0
        rest = (1.0 - (near - part)) + (x - part)  # what the sum lost (Knuth's two-sum)
        k, high, low, a, b = _log_cell(bits_of(near))
        return _log_sum(k + 0.0, high, low, a, b, rest / near)
    if x == -1.0:
        return -math.inf
    return math.inf if x > 0.0 else math.nan


@njit(cache=True, forceinline=True, error_model="numpy")
def _exp_cell(x, rest):
    """(steps, change) with e^(x + rest) = 2^(steps/128)·(1 + change), the power being the table's; steps as bits."""
    counted = x * EXP_STEPS_PER_ONE + _TO_WHOLE
    count = counted - _TO_WHOLE
    steps = bits_of(counted) - _TO_WHOLE_BITS
    r = ((x - count * EXP_STEP_HIGH) - count * EXP_STEP_LOW) + rest  # |r| < 2^-8.5: r^6/720 is below 2^-60
    r2 = r * r
    change = EXP_TAIL[steps & 127] + r + r2 * ((1 / 2 + r * (1 / 6)) + r2 * (1 / 24 + r * (1 / 120)))
    return steps, change


@njit(cache=True, forceinline=True, error_model="numpy")
def _step(steps):
    """2^(steps/128), normal."""
    return float_of(EXP_BITS[steps & 127] + ((steps >> 7) << 52))


@njit(cache=True, forceinline=True, error_model="numpy")
def exp_parts(x, rest):
    """(scale, change, k) with e^(x + rest) = scale·(1 + change)·2^k, 1 ≤ scale < 2, for -746 ≤ x ≤ 712."""
    steps, change = _exp_cell(x, rest)
    return float_of(EXP_BITS[steps & 127]), change, steps >> 7


@njit(cache=True, forceinline=True, error_model="numpy")
def scaled(m, k):
    """m·2^k, |k| < 2000, rounded once where the result is subnormal."""
    half = k >> 1
    return m * float_of((1023 + half) << 52) * float_of((1023 + k - half) << 52)


@njit(cache=True, forceinline=True, error_model="numpy")
def exp_plain(x):
    """e^x of |x| < 690, without a branch: many at a time."""
    steps, change = _exp_cell(x, -0.0)
    scale = _step(steps)
    return scale + scale * change


@njit(cache=True, forceinline=True, error_model="numpy")
def exp(x):
    """e^x. Tang 1989."""
    return exp_plain(x) if abs(x) < _EXP_PLAIN else _exp_far(x, -0.0)


@njit(cache=True, forceinline=True, error_model="numpy")
def _exp_far(x, rest):
    """e^(x + rest), |rest| < 2^-40, also where it overflows or becomes subnormal."""
    if _EXP_LEAST < x < _EXP_MOST:
        scale, change, k = exp_parts(x, rest)
        return scaled(scale + scale * change, k)
    if x > 0.0:
        return math.inf
    return 0.0 if x < 0.0 else math.nan


@njit(cache=True, forceinline=True, error_model="numpy")
def expm1(x):
    """e^x - 1, with all digits where x is small. Tang 1992: near 0 the series of e^x - 1, elsewhere the table's."""
    if abs(x) < 0.0625:  # x^11/11! is below 2^-65 of x
        x2 = x * x
        first = (1 / 2 + x * (1 / 6)) + x2 * (1 / 24 + x * (1 / 120))
        second = (1 / 720 + x * (1 / 5040)) + x2 * (1 / 40320 + x * (1 / 362880) + x2 * (1 / 3628800))
        return math.copysign(x + x2 * (first + x2 * x2 * second), x)  # of -0, too
    if -38.0 < x < _EXP_PLAIN:
        steps, change = _exp_cell(x, -0.0)
        scale = _step(steps)
        high = scale - 1.0
        low = (scale - high) - 1.0 if scale > 1.0 else (-1.0 - high) + scale
        return high + (low + scale * change)
    return -1.0 if x < 0.0 else _exp_far(x, -0.0)


@njit(cache=True, error_model="numpy")
def log_pair(x):
    """log x of a positive finite number as two floats, together good to 2^-65 of it."""
    is_small = x < _LEAST_NORMAL
    bits = bits_of(x * 2.0**52 if is_small else x)
    k, cell_high, cell_low, a, b = _log_cell(bits)
    count = k - 52.0 if is_small else k + 0.0
    whole = count * LN2_HIGH + cell_high
    half = 0.5 * a * a
    first = whole + a
    second = first - half
    high = second + b
    r = a + b
    r2 = r * r
    tail = (1 / 3 - r * (1 / 4)) + r2 * ((1 / 5 - r * (1 / 6)) + r2 * ((1 / 7 - r * (1 / 8)) + r2 * (1 / 9)))
    low = ((whole - first) + a) + ((first - second) - half) + ((second - high) + b)
    low += (r2 * r * tail - b * (a + 0.5 * b)) + (count * LN2_LOW + cell_low)
    near = high + low
    return near, (high - near) + low


@njit(cache=True, error_model="numpy")
def _power_of_positive(base, exponent):
    """e^(exponent·log base) with both logarithm and product in two floats; of finite numbers."""
    high, low = log_pair(base)
    near, rest = product(exponent, high)
    if abs(near) < _EXP_PLAIN:
        steps, change = _exp_cell(near, rest + exponent * low)
        scale = _step(steps)
        return scale + scale * change
    if not _EXP_LEAST < near < _EXP_MOST:
        return math.inf if near > 0.0 else 0.0
    return _exp_far(near, rest + exponent * low)


@njit(cache=True, error_model="numpy")
def power(base, exponent):
    """base to the exponent; C99's `pow`. What a float can hold exactly comes out exactly, such as whole powers that fit.

    NaN for a negative base and an exponent that is not whole; 1 for the exponent 0 and for the base 1, whatever the other.
    """
    if 0.0 < base < math.inf and abs(exponent) < math.inf:
        return _power_of_positive(base, exponent)
    if exponent == 0.0 or base == 1.0:
        return 1.0
    if math.isnan(base) or math.isnan(exponent):
        return math.nan
    size = abs(base)
    if abs(exponent) == math.inf:
        if size == 1.0:
            return 1.0
        return math.inf if (size > 1.0) == (exponent > 0.0) else 0.0
    is_whole = abs(exponent) >= 2.0**53 or math.floor(exponent) == exponent
    is_odd = abs(exponent) < 2.0**53 and is_whole and 2.0 * math.floor(0.5 * exponent) != exponent
    if size == 0.0 or size == math.inf:
        found = 0.0 if (size == 0.0) == (exponent > 0.0) else math.inf
    else:
        found = _power_of_positive(size, exponent) if is_whole else math.nan
    return -found if is_odd and math.copysign(1.0, base) < 0.0 else found


@njit(cache=True, error_model="numpy")
def sinh(x):
    """Hyperbolic sine, from e^|x| - 1; where it is large, from half of e^|x|."""
    size = abs(x)
    if size < 22.0:
        grown = expm1(size)
        return math.copysign(0.5 * (grown + grown / (grown + 1.0)), x)
    if size < 711.0:
        scale, change, k = exp_parts(size, -0.0)
        return math.copysign(scaled(scale + scale * change, k - 1), x)
    return math.nan if math.isnan(x) else math.copysign(math.inf, x)


@njit(cache=True, error_model="numpy")
def acosh(x):
    """Inverse hyperbolic cosine; NaN below 1."""
    if not x >= 1.0:
        return math.nan
    if x < 2.0**28:
        more = x - 1.0
        return log1p(more + math.sqrt(more * (more + 2.0)))
    return log(2.0 * x) if x < 2.0**1023 else log(x) + LN2
