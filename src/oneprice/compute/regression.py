"""Least squares, compiled: taking off means and lines, and the upper triangle R of RᵀR = XᵀX, which answers for a regression
of the last column of X on all or on the first few of the others.

R comes from XᵀX by Cholesky's method, or from X by Householder's reflections. What is left of a column after those before
it, as a share of its square, says how many digits the first way has lost; below `_WORN` the second has to do it, which loses
half as many. Below `_GONE` the columns are not independent, and there is no R."""

from __future__ import annotations

import math

from numba import njit

from oneprice.compute.inner import inner

_WORN = 1e-5  # results from XᵀX keep 10 digits above it
_GONE = 1e-24


@inner
def dot(a, b):
    """Σab in four running sums, which the processor adds at a time."""
    n = a.shape[0]
    s0, s1, s2, s3 = 0.0, 0.0, 0.0, 0.0
    whole = n - n % 4
    for k in range(0, whole, 4):
        s0 += a[k] * b[k]
        s1 += a[k + 1] * b[k + 1]
        s2 += a[k + 2] * b[k + 2]
        s3 += a[k + 3] * b[k + 3]
    for k in range(whole, n):
        s0 += a[k] * b[k]
    return (s0 + s1) + (s2 + s3)


@njit(cache=True)
def detrended(values, trend, out):
    """What is left of a series after its constant and its line, into `out`; → (level at mid-sample, slope, sum of squares).

    The sum is 0 for a series that does not move, or only as much as rounding does.
    """
    n = values.shape[0]
    first, highest, lowest = values[0], values[0], values[0]
    for k in range(n):
        highest, lowest = max(highest, values[k]), min(lowest, values[k])
    if trend == 0:
        out[:] = values
        return 0.0, 0.0, dot(out, out) if highest > lowest else 0.0
    total = 0.0
    for k in range(n):  # from the first value on: prices far from zero keep their digits, a constant is 0 exactly
        out[k] = values[k] - first
        total += out[k]
    mean = total / n
    middle = 0.5 * (n - 1)
    along = 0.0
    for k in range(n):
        out[k] -= mean
        along += (k - middle) * out[k]
    slope = 0.0
    moved = dot(out, out)
    squares = moved
    if trend > 1 and n > 1:
        slope = along * 12.0 / (n * (n * n - 1.0))
        for k in range(n):
            out[k] -= slope * (k - middle)
        squares = dot(out, out)
    noise = 1e-15 * max(abs(highest), abs(lowest))
    return first + mean, slope, squares if squares > n * noise * noise and squares > 1e-24 * moved else 0.0


@inner
def cholesky(matrix, width, before):
    """Rᵀ R of the upper triangle, in its place; False when a column has lost too many digits to what stands before it."""
    for i in range(width):
        before[i] = matrix[i, i]
    for i in range(width):
        left = matrix[i, i]
        if not left > _WORN * before[i]:
            return False
        root = math.sqrt(left)
        for j in range(i, width):
            matrix[i, j] /= root
        for k in range(i + 1, width):
            factor = matrix[i, k]
            for j in range(k, width):
                matrix[k, j] -= factor * matrix[i, j]
    return True


@inner
def reflected(x, matrix, before):
    """The same triangle by Householder reflections of the columns x (one a row); False when they are not independent."""
    width, rows = x.shape
    if rows < width:
        return False
    for i in range(width):
        before[i] = dot(x[i], x[i])
    for i in range(width):
        left = dot(x[i, i:], x[i, i:])
        if not left > _GONE * before[i]:
            return False
        root = -math.sqrt(left) if x[i, i] > 0.0 else math.sqrt(left)
        matrix[i, i] = root
        x[i, i] -= root
        square = -root * x[i, i]  # half the square of the reflection's normal
        for j in range(i + 1, width):
            share = dot(x[i, i:], x[j, i:]) / square
            for r in range(i, rows):
                x[j, r] -= share * x[i, r]
            matrix[i, j] = x[j, i]
    return True
