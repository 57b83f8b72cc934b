"""Which right row belongs to each left row: the compiled heart of all ASOF joins.

Both sides come as `Side`s: times, and a code for the key of every row. Where both are sorted by time as a whole, one pass over
them does it, whatever the number of keys: it carries the newest right row of each key along (backward) or, from the end,
the next one (forward). The left rows are cut into pieces, one a thread; a piece finds its own beginning by looking back from
there until it has met every key. Where rows are sorted within their keys only, they are read key by key, as they lie or
as a counting sort lists them, some keys a thread. The compiled functions let go of the interpreter; plain threads run them,
because Numba's own may not be entered from two threads at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.asof.definition import Rule
from oneprice.compute.inner import inner
from oneprice.compute.kernels.definition import Ints, KernelError

Codes = NDArray[np.int32]
NONE = -1  # in place of a row number
_ALONE_BELOW = 1 << 17  # rows of both sides: fewer are not worth a second thread
_SHORT = 16  # so many times as many right rows as left ones: the right is searched, not walked through
_MOST_THREADS = 8


class Side(NamedTuple):
    """Times, all in one unit, and the codes of the keys: 0 … keys − 1. A row that can have no partner (no key, no time) has the
    code `keys` on the left and `keys + 1` on the right. A single code stands for all rows."""

    name: str  # in messages
    t: Ints
    codes: Codes


def matched_rows(left: Side, right: Side, keys: int, rule: Rule) -> Ints:
    """For each left row the number of its right row, or -1. KernelError for a side that is not sorted within its keys."""
    threads = min(os.cpu_count() or 1, _MOST_THREADS) if len(left.t) + len(right.t) >= _ALONE_BELOW else 1
    with ThreadPoolExecutor(threads) as pool:
        run: Run = pool.map if threads > 1 else map
        if all(run(lambda side: first_unsorted(side.t) == NONE, (left, right))):
            return sorted_rows(left, right, keys, rule, run, pieces=threads)
        return _rows_by_key(left, right, keys, rule, run, pieces=threads)


Run = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def sorted_rows(left: Side, right: Side, keys: int, rule: Rule, run: Run = map, *, pieces: int = 1) -> Ints:
    """The same where both sides are known to be sorted by time as a whole."""
    bounds = np.linspace(0, len(left.t), pieces + 1).astype(np.int64)
    rows = np.empty(len(left.t), dtype=np.int64)
    is_short = len(left.t) * _SHORT < len(right.t) and keys == 1
    is_searched = is_short and len(left.codes) == len(right.codes) == 1 and left.codes[0] == right.codes[0]

    def piece(k: int) -> None:
        begin, end = bounds[k], bounds[k + 1]
        t, codes = left.t[begin:end], left.codes if len(left.codes) == 1 else left.codes[begin:end]
        of_piece = rows[begin:end]
        if rule.direction != "forward":
            if is_searched:
                _search_backward(t, right.t, rule.exact, of_piece)
            else:
                _pass_backward(t, codes, right.t, right.codes, rule.exact, rule.tolerance, keys, of_piece)
        if rule.direction != "backward":
            is_nearest = rule.direction == "nearest"
            if is_searched:
                _search_forward(t, right.t, rule.exact, is_nearest, of_piece)
            else:
                _pass_forward(t, codes, right.t, right.codes, rule.exact, rule.tolerance, keys, is_nearest, of_piece)
        if rule.is_bounded:
            _bound(t, right.t, rule.tolerance, of_piece)

    list(run(piece, range(pieces)))
    return rows


def _rows_by_key(left: Side, right: Side, keys: int, rule: Rule, run: Run, *, pieces: int) -> Ints:
    of_left, of_right = run(lambda side: _listed(side, keys), (left, right))
    work = np.cumsum(of_left.ends - of_left.begins + of_right.ends - of_right.begins)
    shares = np.linspace(0, work[-1] if keys else 0, pieces + 1)[1:-1]  # threads get about as much work
    bounds = np.concatenate([[0], np.searchsorted(work, shares), [keys]])
    rows = np.full(len(left.t), NONE, dtype=np.int64)
    backward, forward = rule.direction != "forward", rule.direction != "backward"

    def piece(k: int) -> None:
        begin, end = int(bounds[k]), int(bounds[k + 1])
        _merge(of_left, of_right, begin, end, _ALL_ONE, backward, forward, rule.exact, rule.tolerance, rows)

    list(run(piece, range(pieces)))
    if rule.is_bounded:
        _bound(left.t, right.t, rule.tolerance, rows)
    return rows


class Listed(NamedTuple):
    """A side by key: key k stands from begins[k] up to ends[k] in `t`, and in `rows`, which is empty where the side itself has
    all rows of a key together."""

    begins: Ints
    ends: Ints
    rows: Ints
    t: Ints


def _listed(side: Side, keys: int) -> Listed:
    """KernelError where times go back within a key."""
    begins, ends, is_together, row, before = _runs(side.t, side.codes, keys)
    listed = Listed(begins, ends, np.zeros(0, dtype=np.int64), side.t)
    if row == NONE and not is_together:
        starts, rows, t, row, before = _by_key(side.t, side.codes, keys)
        listed = Listed(starts[:-1], starts[1:], rows, frozen(t))
    if row != NONE:
        raise KernelError(
            f"{side.name} goes back at row {row}, to {side.t[row]} from {side.t[before]} in row {before}, which has the same "
            "key; it must be sorted within each key"
        )
    return listed


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to: compiled code is made once for these, and what comes from Arrow is one anyway."""
    seen = array.view()
    seen.flags.writeable = False
    return seen


_ALL_ONE: Codes = frozen(np.zeros(1, dtype=np.int32))


# -- compiled: places are unsigned where they are used, which spares Numba the question whether they count from the end --


@njit(cache=True, nogil=True)
def first_unsorted(t):
    """The first row whose time is before that of the row before it, or -1."""
    begin = 1
    while begin < t.shape[0]:
        end = min(begin + 4096, t.shape[0])
        earlier, later = t[begin - 1 : end - 1], t[begin:end]
        goes_back = False
        for i in range(later.shape[0]):  # without a way out, so that it is done several rows at a time
            goes_back |= later[i] < earlier[i]
        if goes_back:
            for i in range(later.shape[0]):
                if later[i] < earlier[i]:
                    return begin + i
        begin = end
    return NONE


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
def _search_backward(lt, rt, exact, rows):
    for i in range(lt.shape[0]):
        rows[i] = (_first_above(rt, 0, lt[i]) if exact else _first_not_below(rt, 0, lt[i])) - 1


@njit(cache=True, nogil=True)
def _search_forward(lt, rt, exact, is_nearest, rows):
    """The rows ahead; `is_nearest`: where they are nearer than those that `rows` holds already."""
    for i in range(lt.shape[0]):
        ahead = _first_not_below(rt, 0, lt[i]) if exact else _first_above(rt, 0, lt[i])
        ahead = _first_above(rt, ahead, rt[ahead]) - 1 if ahead < rt.shape[0] else NONE
        rows[i] = _nearer(rt, lt[i], rows[i], ahead) if is_nearest else ahead


@njit(cache=True, nogil=True)
def _pass_backward(lt, lk, rt, rk, exact, tolerance, keys, rows):
    """One pass, forward in time, with the newest right row of each key.

    Every step takes either a right or a left row, and does both things without a branch, because no processor foresees which
    it will be: a left row is answered again until it is passed, a right row that is not due is noted where nobody looks.
    """
    if lt.shape[0] == 0:
        return
    n, m = lt.shape[0], rt.shape[0]
    each_l, each_r = -int(lk.shape[0] > 1), -int(rk.shape[0] > 1)  # i & 0: all rows have the one code
    newest, nowhere = np.full(keys + 3, NONE, dtype=np.int64), np.uint64(keys + 2)
    j = _first_not_below(rt, 0, lt[0])
    missing, back = keys, j - 1
    while back >= 0 and missing > 0 and distance(rt[back], lt[0]) <= tolerance:
        seen = rk[back & each_r]
        if seen < keys and newest[seen] == NONE:
            newest[seen] = back
            missing -= 1
        back -= 1
    i = 0
    while i < n and j < m:
        t, of_right = lt[np.uint64(i)], rt[np.uint64(j)]
        is_due = (of_right < t) | ((of_right == t) & exact)
        key = np.uint64(rk[np.uint64(j & each_r)])
        rows[np.uint64(i)] = newest[np.uint64(lk[np.uint64(i & each_l)])]
        newest[key if is_due else nowhere] = j
        j += int(is_due)
        i += int(not is_due)
    while i < n:
        rows[i] = newest[lk[i & each_l]]
        i += 1


@njit(cache=True, nogil=True)
def _pass_forward(lt, lk, rt, rk, exact, tolerance, keys, is_nearest, rows):
    """The same, back in time, with the next right row of each key: of several of one time the last, which comes first here.

    `is_nearest`: `rows` holds the rows behind already, and the nearer ones stay.
    """
    if lt.shape[0] == 0:
        return
    each_l, each_r = -int(lk.shape[0] > 1), -int(rk.shape[0] > 1)
    following, nowhere = np.full(keys + 3, NONE, dtype=np.int64), np.uint64(keys + 2)
    its_t = np.zeros(keys + 3, dtype=np.int64)
    final_t = lt[-1]
    j = _first_above(rt, 0, final_t) - 1
    missing, ahead, met_t = keys, j + 1, final_t
    while ahead < rt.shape[0] and (missing > 0 or rt[ahead] == met_t) and distance(final_t, rt[ahead]) <= tolerance:
        seen = rk[ahead & each_r]
        if seen < keys:
            if following[seen] == NONE:
                missing -= 1
                met_t = rt[ahead]
            if following[seen] == NONE or its_t[seen] == rt[ahead]:
                following[seen], its_t[seen] = ahead, rt[ahead]
        ahead += 1
    i = lt.shape[0] - 1
    while i >= 0 and j >= 0:
        t, of_right = lt[np.uint64(i)], rt[np.uint64(j)]
        is_due = (of_right > t) | ((of_right == t) & exact)
        own = np.uint64(lk[np.uint64(i & each_l)])
        found = following[own]
        if is_nearest:
            behind = rows[np.uint64(i)]
            is_nearer = distance(t, its_t[own]) < distance(rt[np.uint64(max(behind, 0))], t)
            found = found if (behind == NONE) | ((found != NONE) & is_nearer) else behind
            found = behind if is_due else found
        rows[np.uint64(i)] = found
        key = np.uint64(rk[np.uint64(j & each_r)])
        is_taken = is_due & ((its_t[key] != of_right) | (following[key] == NONE))
        place = key if is_taken else nowhere
        following[place] = j
        its_t[place] = of_right
        j -= int(is_due)
        i -= int(not is_due)
    while i >= 0:
        found = following[lk[i & each_l]]
        rows[i] = _nearer(rt, lt[i], rows[i], found) if is_nearest else found
        i -= 1


@njit(cache=True, nogil=True)
def _bound(lt, rt, tolerance, rows):
    """No row further away than the tolerance."""
    for i in range(rows.shape[0]):
        if rows[i] != NONE:
            t, of_right = lt[i], rt[rows[i]]
            if (distance(of_right, t) if of_right <= t else distance(t, of_right)) > tolerance:
                rows[i] = NONE


@njit(cache=True, nogil=True)
def _by_key(t, codes, keys):
    """(starts, rows, times, row, row before): a counting sort by key; the first row whose time goes back within its key."""
    each = -int(codes.shape[0] > 1)
    starts = np.zeros(keys + 1, dtype=np.int64)
    newest = np.full(keys, NONE, dtype=np.int64)
    for i in range(t.shape[0]):
        key = codes[i & each]
        if key < keys:
            before = newest[key]
            if before != NONE and t[i] < t[before]:
                return starts, newest, newest, i, before
            newest[key] = i
            starts[key + 1] += 1
    for key in range(keys):
        starts[key + 1] += starts[key]
    rows, times = np.empty(starts[keys], dtype=np.int64), np.empty(starts[keys], dtype=np.int64)
    places = starts[:keys].copy()
    for i in range(t.shape[0]):
        key = codes[i & each]
        if key < keys:
            rows[places[key]] = i
            times[places[key]] = t[i]
            places[key] += 1
    return starts, rows, times, NONE, NONE


@njit(cache=True, nogil=True)
def _runs(t, codes, keys):
    """(begins, ends, whether the rows of each key stand together, row, row before): as far as they do, and up to the first row
    whose time goes back within its key."""
    each = -int(codes.shape[0] > 1)
    begins, ends = np.zeros(keys, dtype=np.int64), np.zeros(keys, dtype=np.int64)
    i = 0
    while i < t.shape[0]:
        key, begin = codes[i & each], i
        if key < keys and ends[key] > 0:
            return begins, ends, False, NONE, NONE
        i += 1
        while i < t.shape[0] and codes[i & each] == key:
            if t[i] < t[i - 1] and key < keys:
                return begins, ends, False, i, i - 1
            i += 1
        if key < keys:
            begins[key], ends[key] = begin, i
    return begins, ends, True, NONE, NONE


@njit(cache=True, nogil=True)
def _merge(left, right, first_key, end_key, all_one, backward, forward, exact, tolerance, rows):
    """Key by key, each like a side without keys."""
    longest = 0
    for key in range(first_key, end_key):
        longest = max(longest, left.ends[key] - left.begins[key])
    scratch = np.empty(longest, dtype=np.int64)
    for key in range(first_key, end_key):
        begin, end, right_begin = left.begins[key], left.ends[key], right.begins[key]
        lt, rt, found = left.t[begin:end], right.t[right_begin : right.ends[key]], scratch[: end - begin]
        if backward:
            _pass_backward(lt, all_one, rt, all_one, exact, tolerance, 1, found)
        if forward:
            _pass_forward(lt, all_one, rt, all_one, exact, tolerance, 1, backward, found)
        for i in range(found.shape[0]):
            row = found[i] + right_begin if found[i] != NONE else NONE
            if right.rows.shape[0] > 0 and row != NONE:
                row = right.rows[row]
            rows[left.rows[begin + i] if left.rows.shape[0] > 0 else begin + i] = row
