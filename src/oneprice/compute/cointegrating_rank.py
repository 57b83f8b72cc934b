"""Johansen's test, compiled: how many combinations of k series come back to where they were, and which?

    ΔX_t = α·βᵀX_{t−1} + Σ_{j=1…diff} Γ_j·ΔX_{t−j} [+ a] + ε_t

λ_i are the squared canonical correlations of ΔX and X₋₁ after the lagged differences (and the constant) are taken out of
both; trace_i = −T·Σ_{j≥i} ln(1−λ_j) tests for at most i−1 relations, maxeig_i = −T·ln(1−λ_i) for one more; β_i are the
combinations, of variance 1 over the T rows. `det` -1: no constant; 0: one; 1: the levels are also taken off their lines.

One QR factorisation of the columns constant, lagged differences, X₋₁, ΔX does all of it: the lower right corner of R holds
what is left of X₋₁ and ΔX, and no product of columns is formed, which would cost half of the digits. The k×k symmetric
eigenproblem that remains is solved by Jacobi's rotations: compiled code has no LAPACK here, which would need SciPy.

Johansen 1991; Golub & Van Loan, Matrix Computations, 8.5."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from oneprice.compute.inner import inner
from oneprice.compute.regression import detrended, dot, reflected

_SWEEPS = 30  # of Jacobi: they converge quadratically, six or seven do


@njit(cache=True)
def fewest_rows(k, det, diff):
    """Rows of X that a test of k series needs."""
    return 1 + diff + (1 if det >= 0 else 0) + k * diff + 2 * k


@inner
def johansen(x, det, diff, values, vectors):
    """The test of the series x (one a row): λ, falling, into `values`, β_i into `vectors[i]`; → (T, is there one?)."""
    k, n = x.shape
    rows = n - 1 - diff
    if n < fewest_rows(k, det, diff):
        return rows, False
    levels = np.empty((k, n))
    for s in range(k):
        detrended(x[s], det + 1, levels[s])
    first = 1 if det >= 0 else 0
    at_level = first + k * diff
    width = at_level + 2 * k
    columns = np.empty((width, rows))
    columns[:first] = 1.0
    for s in range(k):
        for r in range(rows):
            now = r + 1 + diff
            for j in range(diff):
                columns[first + j * k + s, r] = levels[s, now - 1 - j] - levels[s, now - 2 - j]
            columns[at_level + s, r] = levels[s, now - 1]
            columns[at_level + k + s, r] = levels[s, now] - levels[s, now - 1]
    triangle = np.zeros((width, width))
    if not reflected(columns, triangle, np.empty(width)):
        return rows, False
    level = triangle[at_level : at_level + k, at_level : at_level + k]
    correlated, is_there = correlations_of(triangle[at_level:, at_level + k :], k)
    if not is_there:
        return rows, False
    turned = np.zeros((k, k))
    jacobi(correlated, turned)
    for i in range(k):
        strongest = 0
        for j in range(k):
            if correlated[j, j] > correlated[strongest, strongest]:
                strongest = j
        values[i] = max(0.0, correlated[strongest, strongest])
        correlated[strongest, strongest] = -math.inf  # taken
        if values[i] >= 1.0:
            return rows, False
        for s in range(k - 1, -1, -1):  # β = √T·R⁻¹·w
            value = math.sqrt(rows) * turned[s, strongest]
            for j in range(s + 1, k):
                value -= level[s, j] * vectors[i, j]
            vectors[i, s] = value / level[s, s]
        sign = -1.0 if vectors[i, 0] < 0.0 else 1.0
        for s in range(k):
            vectors[i, s] *= sign
    return rows, True


@inner
def correlations_of(change, k):
    """(C·Cᵀ, is there one?), C the upper half of an orthonormal basis of the columns of `change`, which has 2k rows."""
    triangle = np.zeros((k, k))
    found = np.zeros((k, k))
    columns = np.empty((k, 2 * k))
    for a in range(k):
        for r in range(2 * k):
            columns[a, r] = change[r, a]
    if not reflected(columns, triangle, np.empty(k)):
        return found, False
    basis = np.zeros((k, k))
    for r in range(k):
        for a in range(k):
            value = change[r, a]
            for j in range(a):
                value -= triangle[j, a] * basis[r, j]
            basis[r, a] = value / triangle[a, a]
    for a in range(k):
        for b in range(k):
            found[a, b] = dot(basis[a], basis[b])
    return found, True


@inner
def jacobi(a, vectors):
    """Turn the symmetric `a` into the diagonal of its eigenvalues, and `vectors` (zeros) into its eigenvectors, as columns."""
    k = a.shape[0]
    for j in range(k):
        vectors[j, j] = 1.0
    for _ in range(_SWEEPS):
        off, total = 0.0, 0.0
        for p in range(k):
            for q in range(k):
                total += a[p, q] * a[p, q]
                off += a[p, q] * a[p, q] if p != q else 0.0
        if off <= 1e-34 * total:
            return
        for p in range(k - 1):
            for q in range(p + 1, k):
                if a[p, q] == 0.0:
                    continue
                tangent_of_twice = (a[q, q] - a[p, p]) / (2.0 * a[p, q])
                t = 1.0 / (abs(tangent_of_twice) + math.sqrt(1.0 + tangent_of_twice * tangent_of_twice))
                if tangent_of_twice < 0.0:
                    t = -t
                cosine = 1.0 / math.sqrt(1.0 + t * t)
                sine = t * cosine
                for j in range(k):
                    a[p, j], a[q, j] = cosine * a[p, j] - sine * a[q, j], sine * a[p, j] + cosine * a[q, j]
                for j in range(k):
                    a[j, p], a[j, q] = cosine * a[j, p] - sine * a[j, q], sine * a[j, p] + cosine * a[j, q]
                for j in range(k):
                    vectors[j, p], vectors[j, q] = (
                        cosine * vectors[j, p] - sine * vectors[j, q],
                        sine * vectors[j, p] + cosine * vectors[j, q],
                    )
