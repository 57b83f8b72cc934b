"""One pass over two sorted sides: which right row belongs to each left row of a piece.

It carries the newest right row of each key along (backward) or, from the end, the next one (forward). Every step takes either
a left or a right row, and does both things without a branch, because no processor foresees which it will be: a left row is
answered again until it is passed, a right row that is not due is noted where nobody looks. A step waits for the comparison
before it, so two halves of the left rows are passed side by side, each waiting for its own. Where few left rows look into a
long right side it is searched instead. All functions are compiled; places are unsigned where they are used, which spares Numba
the question whether they count from the end."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.inner import inner
from oneprice.compute.kernels.definition import Ints
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.uncounted import uncounted

Codes = NDArray[np.int32]
NONE = -1  # in place of a row number


class Pass(NamedTuple):
    """Times and codes of both sides, and the right rows found so far."""

    lt: Ints
    lk: Codes
    rt: Ints
    rk: Codes
    rows: Ints


@njit(cache=True)
def distance(early, late):
    """How long from one time to a later one, which may be more than an int64 holds."""
    return np.uint64(late) - np.uint64(early)


@inner
def _first_not_below(t, begin, value):
    end = t.shape[0]
    while begin < end:
        middle = (begin + end) >> 1
        if t[middle] < value:
            begin = middle + 1
        else:
            end = middle
    return begin


@inner
def _first_above(t, begin, value):
    end = t.shape[0]
    while begin < end:
        middle = (begin + end) >> 1
        if t[middle] <= value:
            begin = middle + 1
        else:
            end = middle
    return begin


@inner
def _nearer(rt, t, behind, ahead):
    """Of a row behind and one ahead (or -1) the nearer one; of two as near, the one behind."""
    if behind == NONE or (ahead != NONE and distance(t, rt[ahead]) < distance(rt[behind], t)):
        return ahead
    return behind


@njit(cache=True, nogil=True)
def search_backward(at, exact):
    lt, rt, rows = at.lt, at.rt, at.rows
    for i in range(lt.shape[0]):
        rows[i] = (_first_above(rt, 0, lt[i]) if exact else _first_not_below(rt, 0, lt[i])) - 1


@njit(cache=True, nogil=True)
def search_forward(at, exact, is_nearest):
    """The rows ahead; `is_nearest`: where they are nearer than those that have been found already."""
    lt, rt, rows = at.lt, at.rt, at.rows
    for i in range(lt.shape[0]):
        ahead = _first_not_below(rt, 0, lt[i]) if exact else _first_above(rt, 0, lt[i])
        ahead = _first_above(rt, ahead, rt[ahead]) - 1 if ahead < rt.shape[0] else NONE
        rows[i] = _nearer(rt, lt[i], rows[i], ahead) if is_nearest else ahead


@inlined
def code_of(codes, row):
    """The code of a row's key."""
    return codes[np.uint64(row & -int(codes.shape[0] > 1))]  # row & 0: all rows have the one code


@inlined
def _chosen(condition, one, other):
    """One of two numbers. LLVM may make a jump of a conditional expression, and nobody foresees where it goes."""
    return other ^ ((one ^ other) & -np.int64(condition))


@inner
def _begin_backward(at, t, tolerance, keys, newest):
    """The first right row at or after a time; the last of each key before it goes into `newest`."""
    j = _first_not_below(at.rt, 0, t)
    missing, back = keys, j - 1
    while back >= 0 and missing > 0 and distance(at.rt[back], t) <= tolerance:
        seen = code_of(at.rk, back)
        if seen < keys and newest[seen] == NONE:
            newest[seen] = back
            missing -= 1
        back -= 1
    return j


@inlined
def _step_backward(at, exact, newest, i, j):
    t, of_right = at.lt[np.uint64(i)], at.rt[np.uint64(j)]
    is_due = (of_right < t) | ((of_right == t) & exact)
    at.rows[np.uint64(i)] = newest[np.uint64(code_of(at.lk, i))]
    newest[np.uint64(_chosen(is_due, code_of(at.rk, j), newest.shape[0] - 1))] = j
    return i + int(not is_due), j + int(is_due)


@inner
def _rest_backward(at, exact, newest, i, j, end):
    while i < end and j < at.rt.shape[0]:
        i, j = _step_backward(at, exact, newest, i, j)
    while i < end:
        at.rows[i] = newest[code_of(at.lk, i)]
        i += 1


@njit(cache=True, nogil=True)
def pass_backward(at, exact, tolerance, keys):
    """One pass, forward in time, with the newest right row of each key."""
    n, m, half = at.lt.shape[0], at.rt.shape[0], at.lt.shape[0] // 2
    if n == 0:
        return
    at = uncounted(at)
    early, late = np.full(keys + 3, NONE, dtype=np.int64), np.full(keys + 3, NONE, dtype=np.int64)
    i, j = 0, _begin_backward(at, at.lt[0], tolerance, keys, early)
    u, v = half, _begin_backward(at, at.lt[half], tolerance, keys, late)
    while i < half and j < m and u < n and v < m:
        i, j = _step_backward(at, exact, early, i, j)
        u, v = _step_backward(at, exact, late, u, v)
    _rest_backward(at, exact, early, i, j, half)
    _rest_backward(at, exact, late, u, v, n)


@inner
def _begin_forward(at, t, tolerance, keys, following, its_t):
    """The last right row at or before a time; the next of each key after it, and its time, go into `following` and `its_t`."""
    j = _first_above(at.rt, 0, t) - 1
    missing, ahead, met_t = keys, j + 1, t
    while ahead < at.rt.shape[0] and (missing > 0 or at.rt[ahead] == met_t) and distance(t, at.rt[ahead]) <= tolerance:
        seen = code_of(at.rk, ahead)
        if seen < keys:
            if following[seen] == NONE:
                missing -= 1
                met_t = at.rt[ahead]
            if following[seen] == NONE or its_t[seen] == at.rt[ahead]:
                following[seen], its_t[seen] = ahead, at.rt[ahead]
        ahead += 1
    return j


@inlined
def _step_forward(at, exact, is_nearest, following, its_t, i, j):
    t, of_right = at.lt[np.uint64(i)], at.rt[np.uint64(j)]
    is_due = (of_right > t) | ((of_right == t) & exact)
    own, key = np.uint64(code_of(at.lk, i)), code_of(at.rk, j)
    found = following[own]
    if is_nearest:
        behind = at.rows[np.uint64(i)]
        is_nearer = distance(t, its_t[own]) < distance(at.rt[np.uint64(max(behind, 0))], t)
        found = _chosen((not is_due) & ((behind == NONE) | ((found != NONE) & is_nearer)), found, behind)
    at.rows[np.uint64(i)] = found
    is_taken = is_due & ((its_t[np.uint64(key)] != of_right) | (following[np.uint64(key)] == NONE))
    place = np.uint64(_chosen(is_taken, key, following.shape[0] - 1))
    following[place] = j
    its_t[place] = of_right
    return i - int(not is_due), j - int(is_due)


@inner
def _rest_forward(at, exact, is_nearest, following, its_t, i, j, begin):
    while i >= begin and j >= 0:
        i, j = _step_forward(at, exact, is_nearest, following, its_t, i, j)
    while i >= begin:
        found = following[code_of(at.lk, i)]
        at.rows[i] = _nearer(at.rt, at.lt[i], at.rows[i], found) if is_nearest else found
        i -= 1


@njit(cache=True, nogil=True)
def pass_forward(at, exact, tolerance, keys, is_nearest):
    """The same, back in time, with the next right row of each key: of several of one time the last, which comes first here.

    `is_nearest`: the rows behind have been found already, and the nearer ones stay.
    """
    n, half = at.lt.shape[0], at.lt.shape[0] // 2
    if n == 0:
        return
    at = uncounted(at)
    early, late = np.full(keys + 3, NONE, dtype=np.int64), np.full(keys + 3, NONE, dtype=np.int64)
    early_t, late_t = np.zeros(keys + 3, dtype=np.int64), np.zeros(keys + 3, dtype=np.int64)
    i, j = half - 1, _begin_forward(at, at.lt[max(half - 1, 0)], tolerance, keys, early, early_t)
    u, v = n - 1, _begin_forward(at, at.lt[n - 1], tolerance, keys, late, late_t)
    while i >= 0 and j >= 0 and u >= half and v >= 0:
        i, j = _step_forward(at, exact, is_nearest, early, early_t, i, j)
        u, v = _step_forward(at, exact, is_nearest, late, late_t, u, v)
    _rest_forward(at, exact, is_nearest, early, early_t, i, j, 0)
    _rest_forward(at, exact, is_nearest, late, late_t, u, v, half)


@njit(cache=True, nogil=True)
def bound(at, tolerance):
    """No row further away than the tolerance."""
    lt, rt, rows = at.lt, at.rt, at.rows
    for i in range(rows.shape[0]):
        if rows[i] != NONE:
            t, of_right = lt[i], rt[rows[i]]
            if (distance(of_right, t) if of_right <= t else distance(t, of_right)) > tolerance:
                rows[i] = NONE
