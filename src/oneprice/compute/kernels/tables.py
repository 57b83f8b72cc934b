"""Tables of `numbers.py` and `special.py`, worked out in whole numbers when this module is imported.

A real number is held as an integer, its value times 2^320, and becomes a float by one division of integers, which Python
rounds correctly. So no entry depends on a mathematical library, and each says by its formula where it comes from."""

from __future__ import annotations

import math

import numpy as np

_BITS = 320
_ONE = 1 << _BITS


def _float(value: int) -> float:
    return value / _ONE


def _split(value: int, places: int) -> tuple[float, float]:
    """A float that is a multiple of 2^-places, and the rest."""
    shift = _BITS - places
    high = (value + (1 << (shift - 1)) >> shift) << shift
    return _float(high), _float(value - high)


def _pair(value: int) -> tuple[float, float]:
    """The nearest float and the rest."""
    high = _float(value)
    above, below = high.as_integer_ratio()
    return high, _float(value - above * _ONE // below)


def _arc(n: int, d: int, sign: int) -> int:
    """artanh(n/d) for sign 1, arctan(n/d) for sign -1, by their series; n/d above 0 (or 0)."""
    power = total = n * _ONE // d
    k, side = 1, 1
    while power != 0:
        power = power * n * n // (d * d)
        k, side = k + 2, side * sign
        total += side * (power // k)
    return total


def _log(n: int, d: int) -> int:
    return 2 * _arc(n - d, n + d, 1) if n >= d else -_log(d, n)


_LN2 = _log(2, 1)
_PI = 16 * _arc(1, 5, -1) - 4 * _arc(1, 239, -1)  # Machin 1706
_ROOT_PI = math.isqrt(_PI * _ONE)

# ── log: 128 cells of [0.69, 1.38), one of them around 1 ────────────────────────────────────────────────────────────────
# A cell has a short inverse of its middle, m/2^14, so that mantissa × inverse is exact in two pieces, and -log of the inverse
# in two floats. The first is a multiple of 2^-42, as is that of ln 2: exponent × ln 2 + log is then exact.
LOG_FIRST = 0x3FE6100000000000  # bits of where the first cell begins
_CELL = 1 << 45
_MIDDLES = [np.int64(LOG_FIRST + cell * _CELL + _CELL // 2).view(np.float64) for cell in range(128)]
_INVERSES = [round((1 << 14) / float(middle)) for middle in _MIDDLES]
_LOGS = [_split(_log(1 << 14, m), 42) for m in _INVERSES]
LOG_LOW = np.array([low for _, low in _LOGS])
LN2_HIGH, LN2_LOW = _split(_LN2, 42)
# m in the last 15 bits, the first float times 2^42 above them: two tables read as one.
LOG_WORD = np.array([int(high * (1 << 42)) << 15 | m for (high, _), m in zip(_LOGS, _INVERSES, strict=True)])

# ── exp: 2^(j/128), as the bits of the nearest float and the rest in parts of it ────────────────────────────────────────
EXP_STEPS_PER_ONE = _float(128 * _ONE * _ONE // _LN2)
EXP_STEP_HIGH, EXP_STEP_LOW = _split(_LN2 // 128, 42)  # a step has 35 bits: times 18 bits of a count it is exact


def _powers_of_two() -> list[tuple[float, float]]:
    root = 2 * _ONE
    for _ in range(7):
        root = math.isqrt(root * _ONE)
    found, power = [], _ONE
    for _ in range(128):
        high, low = _pair(power)
        found.append((high, low / high))
        power = power * root >> _BITS
    return found


_EXP, EXP_TAIL = np.array(_powers_of_two()).T.copy()
EXP_BITS = _EXP.view(np.int64)

# ── erf and exp(x²)·erfc(x) ─────────────────────────────────────────────────────────────────────────────────────────────
# erf(x) = x·Σ ERF[k]·x^2k (Maclaurin), of which the leading 1 is left out.
_TWO_BY_ROOT_PI = 2 * _ONE * _ONE // _ROOT_PI
ERF = np.array([(-1) ** k * _float(_TWO_BY_ROOT_PI // (math.factorial(k) * (2 * k + 1))) for k in range(14)])
ERF[0] = _float(_TWO_BY_ROOT_PI - _ONE)


def _scaled_erfc(n: int, d: int, count: int) -> list[int]:
    """Taylor coefficients of w(x) = exp(x²)·erfc(x) at n/d.

    w = exp(x²) - (2/√π)·Σ 2^k x^(2k+1)/(2k+1)!!, and w' = 2xw - 2/√π gives (k+1)·a[k+1] = 2x·a[k] + 2·a[k-1].
    """
    power = growth = _ONE
    term = odd = n * _ONE // d
    k = 0
    while power != 0 or term != 0:
        k += 1
        power = power * n * n // (d * d * k)
        term = 2 * term * n * n // (d * d * (2 * k + 1))
        growth += power
        odd += term
    found = [growth - (_TWO_BY_ROOT_PI * odd >> _BITS)]
    found.append(2 * found[0] * n // d - _TWO_BY_ROOT_PI)
    while len(found) < count:
        found.append((2 * found[-1] * n // d + 2 * found[-2]) // len(found))
    return found


# 16 cells to each power of two from 1/2 to 8, by the bits of x, around their middles.
ERFC_FIRST = 0x3FE0000000000000
_ERFC_MIDDLES = [((33 + 2 * (cell % 16)) << (cell // 16), 64) for cell in range(64)]
_ERFC = [_scaled_erfc(n, d, 12) for n, d in _ERFC_MIDDLES]
_VALUES = [_pair(row[0]) for row in _ERFC]
ERFC_MIDDLE = np.array([(n / d, value) for (n, d), (value, _) in zip(_ERFC_MIDDLES, _VALUES, strict=True)])
# The first of each row is what the value leaves out.
ERFC = np.array([[rest, *map(_float, row[1:])] for row, (_, rest) in zip(_ERFC, _VALUES, strict=True)])
# From 8 on √π·x·w(x) = 1 + u·Σ ERFC_FAR[k]·u^k with u = 1/(2x²), from Σ (-1)^k (2k-1)!!·u^k.
ERFC_FAR = np.array([float((-1) ** k * math.prod(range(1, 2 * k, 2))) for k in range(1, 20)])
ROOT_HALF, ROOT_HALF_REST = _pair(math.isqrt(_ONE * _ONE // 2))
ONE_BY_ROOT_PI = _float(_ONE * _ONE // _ROOT_PI)

# ── log Γ ───────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _zeta(k: int) -> int:
    """Riemann's ζ by Borwein's second algorithm (2000): the error is below 3/(3+√8)^n, here 2^-152."""
    n = 60
    sums = [0]
    for i in range(n + 1):
        term = n * math.factorial(n + i - 1) * 4**i // (math.factorial(n - i) * math.factorial(2 * i))
        sums.append(sums[-1] + term)
    whole = sums[-1]
    total: int = sum((-1) ** i * (sums[i + 1] - whole) * _ONE // (i + 1) ** k for i in range(n))
    return -(total << k) // (whole * ((1 << k) - 2))


def _euler() -> int:
    """Euler's γ by Brent & McMillan (1980), algorithm B1: the error is below e^(-4n), here 2^-184."""
    n, term, harmonic = 32, _ONE, 0
    above, below = 0, _ONE
    k = 0
    while term != 0:
        k += 1
        term = term * n * n // (k * k)
        harmonic += _ONE // k
        above += term * harmonic >> _BITS
        below += term
    return above * _ONE // below - 5 * _LN2


def _log_gamma_series(count: int) -> list[list[float]]:
    """Taylor coefficients of log Γ at 1, 3/2 and 2: (-1)^k ζ(k, x)/k from the second on (DLMF 5.7.3 and 5.15.1)."""
    gamma = _euler()
    at_1, at_2 = [0, -gamma], [0, _ONE - gamma]
    at_3_2 = [_log_root_pi() - _LN2, 2 * _ONE - gamma - 2 * _LN2]
    for k in range(2, count):
        zeta, sign = _zeta(k), (-1) ** k
        at_1.append(sign * zeta // k)
        at_2.append(sign * (zeta - _ONE) // k)
        at_3_2.append(sign * ((2**k - 1) * zeta - 2**k * _ONE) // k)
    return [[_float(one) for one in row] for row in (at_1, at_3_2, at_2)]


def _log_root_pi() -> int:
    """log √π; the logarithm of 22/7 is taken first, which leaves a series that converges at once."""
    return (_log(22, 7) + _log(7 * _PI, 22 * _ONE)) // 2


LOG_GAMMA = np.array(_log_gamma_series(30))
LOG_GAMMA_CONSTANT = _float(_log_root_pi() + _LN2 // 2 - _ONE // 2)  # log √2π - 1/2
# Stirling's series: B_2k/(2k(2k-1)), k from 1.
STIRLING = np.array([
    1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400, 43867 / 244188,
    -174611 / 125400,
])  # fmt: skip
