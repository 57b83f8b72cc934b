"""Which right row belongs to each left row: the compiled heart of all ASOF joins.

Both sides come as `Side`s: times, and a code for the key of every row. Where both are sorted by time as a whole, one pass over
them does it, whatever the number of keys (`passes.py`). The left rows are cut into pieces, one a thread; a piece finds its own
beginning by looking back from there until it has met every key. Where rows are sorted within their keys only, they are read
key by key, as they lie or as a counting sort lists them, some keys a thread. The compiled functions let go of the interpreter;
plain threads run them, because Numba's own may not be entered from two threads at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from oneprice.compute.asof.definition import Rule
from oneprice.compute.asof.passes import (
    NONE,
    Codes,
    Pass,
    bound,
    code_of,
    pass_backward,
    pass_forward,
    search_backward,
    search_forward,
)
from oneprice.compute.inner import inner
from oneprice.compute.kernels.columns import frozen
from oneprice.compute.kernels.definition import Ints, KernelError

_ALONE_BELOW = 1 << 17  # rows of both sides: fewer are not worth a second thread
_SHORT = 16  # so many times as many right rows as left ones: the right is searched, not walked through
_MOST_THREADS = 8
_TOGETHER = 4_096  # rows that are looked at in one go


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
        at = Pass(t, codes, right.t, right.codes, rows[begin:end])
        if rule.direction != "forward":
            if is_searched:
                search_backward(at, rule.exact)
            else:
                pass_backward(at, rule.exact, rule.tolerance, keys)
        if rule.direction != "backward":
            is_nearest = rule.direction == "nearest"
            if is_searched:
                search_forward(at, rule.exact, is_nearest)
            else:
                pass_forward(at, rule.exact, rule.tolerance, keys, is_nearest)
        if rule.is_bounded:
            bound(at, rule.tolerance)

    list(run(piece, range(pieces)))
    return rows


def _rows_by_key(left: Side, right: Side, keys: int, rule: Rule, run: Run, *, pieces: int) -> Ints:
    of_left, of_right = run(lambda side: _listed(side, keys), (left, right))
    work = np.cumsum(of_left.ends - of_left.begins + of_right.ends - of_right.begins)
    shares = np.linspace(0, work[-1] if keys else 0, pieces + 1)[1:-1]  # threads get about as much work
    bounds = np.concatenate([[0], np.searchsorted(work, shares), [keys]])
    rows = np.empty(len(left.t), dtype=np.int64)
    if np.sum(of_left.ends - of_left.begins) < len(rows):
        rows.fill(NONE)  # some have no key
    backward, forward = rule.direction != "forward", rule.direction != "backward"

    def piece(k: int) -> None:
        begin, end = int(bounds[k]), int(bounds[k + 1])
        _merge(of_left, of_right, begin, end, _ALL_ONE, backward, forward, rule.exact, rule.tolerance, rows)

    list(run(piece, range(pieces)))
    if rule.is_bounded:
        bound(Pass(left.t, left.codes, right.t, right.codes, rows), rule.tolerance)
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


_ALL_ONE: Codes = frozen(np.zeros(1, dtype=np.int32))


# -- compiled -----------------------------------------------------------------------------------------------------------


@inner
def _goes_back(t):
    back = False
    earlier, later = t[:-1], t[1:]
    for i in range(later.shape[0]):  # without a way out, so that it is done several rows at a time
        back |= later[i] < earlier[i]
    return back


@njit(cache=True, nogil=True)
def first_unsorted(t):
    """The first row whose time is before that of the row before it, or -1."""
    begin = 1
    while begin < t.shape[0]:
        end = min(begin + _TOGETHER, t.shape[0])
        if _goes_back(t[begin - 1 : end]):
            for i in range(begin, end):
                if t[i] < t[i - 1]:
                    return i
        begin = end
    return NONE


@njit(cache=True, nogil=True)
def _by_key(t, codes, keys):
    """(starts, rows, times, row, row before): a counting sort by key; the first row whose time goes back within its key."""
    starts = np.zeros(keys + 1, dtype=np.int64)
    newest = np.full(keys, NONE, dtype=np.int64)
    for i in range(t.shape[0]):
        key = code_of(codes, i)
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
        key = code_of(codes, i)
        if key < keys:
            rows[places[key]] = i
            times[places[key]] = t[i]
            places[key] += 1
    return starts, rows, times, NONE, NONE


@inner
def _changes(codes, key):
    other = False
    for i in range(codes.shape[0]):  # as above
        other |= codes[i] != key
    return other


@inner
def _run_from(t, codes, begin, key):
    """(row after the last of those that stand together from here on, the first of them whose time goes back or -1)."""
    i, some = begin + 1, 1  # twice as many each time, so that many short runs are not looked at again and again
    while i < t.shape[0]:
        end, some = min(i + some, t.shape[0]), min(2 * some, _TOGETHER)
        if _changes(codes[i:end], key) or _goes_back(t[i - 1 : end]):  # a single code: there is nothing behind it
            for k in range(i, end):
                if codes.shape[0] > 1 and codes[k] != key:
                    return k, NONE
                if t[k] < t[k - 1]:
                    return k, k
        i = end
    return i, NONE


@njit(cache=True, nogil=True)
def _runs(t, codes, keys):
    """(begins, ends, whether the rows of each key stand together, row, row before): as far as they do, and up to the first row
    whose time goes back within its key."""
    begins, ends = np.zeros(keys, dtype=np.int64), np.zeros(keys, dtype=np.int64)
    begin = 0
    while begin < t.shape[0]:
        key = code_of(codes, begin)
        end, back = _run_from(t, codes, begin, key)
        if key < keys:
            if ends[key] > 0:
                return begins, ends, False, NONE, NONE
            if back != NONE:
                return begins, ends, False, back, back - 1
            begins[key], ends[key] = begin, end
        begin = end
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
        found = rows[begin:end] if left.rows.shape[0] == 0 else scratch[: end - begin]
        at = Pass(left.t[begin:end], all_one, right.t[right_begin : right.ends[key]], all_one, found)
        if backward:
            pass_backward(at, exact, tolerance, 1)
        if forward:
            pass_forward(at, exact, tolerance, 1, backward)
        for i in range(found.shape[0]):
            found[i] += right_begin if found[i] != NONE else 0
        if right.rows.shape[0] > 0:
            for i in range(found.shape[0]):
                if found[i] != NONE:
                    found[i] = right.rows[found[i]]
        if left.rows.shape[0] > 0:
            for i in range(found.shape[0]):
                rows[left.rows[begin + i]] = found[i]
