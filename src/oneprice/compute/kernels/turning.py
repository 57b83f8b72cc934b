"""Windows by count that are full, a block of rows at a time.

Each row takes the place of the one `n` rows before, so which goes is known beforehand, and only the sums themselves are made
one after the other. What comes out is what the steps in `windows.py` make of the same rows, to the bit."""

from __future__ import annotations

import math

from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import bits_of, float_of
from oneprice.compute.kernels.rows import copy
from oneprice.compute.kernels.windows import (
    COUNT,
    HEAD,
    REBUILD_EVERY,
    REMOVED,
    SUM,
    exchanged,
    is_ready,
    is_turning,
    is_worn,
    settled,
)


@inlined
def can_turn(i, rows):
    """Whether so many rows take the places of as many, before the sums are made anew."""
    return is_turning(i) and is_ready(i) and i[REMOVED] + rows < REBUILD_EVERY


@inlined
def look_back(ring, head, x, to, at, rows):
    """Of so many rows from the first of x on the number n rows before. ring: the last n, of which the oldest is at `head`."""
    n = ring.shape[0]
    first = min(rows, n - head)
    second = min(rows - first, head)
    copy(to, at, ring, head, first)
    copy(to, at + first, ring, 0, second)
    copy(to, at + first + second, x, 0, rows - first - second)


@inlined
def remember(ring, head, x):
    """The last n numbers are now those that end with x; → where the oldest is."""
    rows, n = x.shape[0], ring.shape[0]
    few = min(rows, n)
    begin = head if rows <= n else (head + rows) % n  # where row by row would come to
    first = min(few, n - begin)
    copy(ring, begin, x, rows - few, first)
    copy(ring, 0, x, rows - few + first, few - first)
    return begin + few if begin + few < n else begin + few - n


@inlined
def largest_size(x, size):
    """The largest of |x| and `size`: as whole numbers, whose order is theirs and takes no thought of NaN."""
    largest = bits_of(size)
    for k in range(x.shape[0]):
        largest = max(largest, bits_of(abs(x[k])))
    return float_of(largest)


@inlined
def sum_rows(f, i, p, ring, x, w, apart):
    """`sum_step` for a block: whether it could be done so. What is left stands in w, the counts `apart` places on."""
    rows = x.shape[0]
    if not can_turn(i, rows):
        return False
    look_back(ring, i[HEAD], x, w, 0, rows)
    for k in range(rows):
        w[k], w[apart + k] = exchanged(w[k], x[k])
    total, rest, largest = f[0], f[1], largest_size(x, f[2])
    for k in range(rows):
        total, rest = settled(total, rest, w[k], w[apart + k])
        w[k] = total + rest
    worn = 0
    for k in range(rows):
        worn += is_worn(w[k], largest, x[k])  # by the largest of all, so rather too often; and after what is no number
        w[apart + k] = i[COUNT]
    if worn > 0:
        return False
    f[0], f[1], f[2] = total, rest, largest
    i[HEAD] = remember(ring, i[HEAD], x)
    i[REMOVED] += rows
    return True


# -- two sums of terms between neighbours, at f[0] and f[SUM] -----------------------------------------------------------------
# Kinds of w. 0, 1: what changes the sums, then the sums; 2: how many rows they are of; 3, 4: what the changes lost; 5 on: the
# numbers from the oldest on; 7 on: those from the last two before x on. Of either there are two more than rows of x.

_LOST, _OLD, _NEW = 3, 5, 7
LEFT = 9


@inlined
def neighbours(i, ring, x, w, apart):
    """Where in w the numbers from the oldest on stand, and those from the last two before x on."""
    rows, n, head = x.shape[0], ring.shape[0], i[HEAD]
    old, new = _OLD * apart, _NEW * apart
    look_back(ring, head, x, w, old, rows + 2)
    w[new], w[new + 1] = ring[head - 2 if head > 1 else head + n - 2], ring[head - 1 if head > 0 else n - 1]
    copy(w, new + 2, x, 0, rows)
    return old, new


@inlined
def change_terms(w, k, apart, old, new, old_beside, new_beside):
    """What row k changes the sums by: a term of its own for one that goes, and one between neighbours."""
    w[k], w[_LOST * apart + k] = exchanged(old, new)
    w[apart + k], w[(_LOST + 1) * apart + k] = exchanged(old_beside, new_beside)


@inlined
def two_sums_rows(f, i, ring, x, w, apart, largest, largest_beside):
    """The sums after each row, made of their changes; → whether they could be. The largest terms: as bits."""
    rows = x.shape[0]
    total, rest, largest = f[0], f[1], float_of(max(largest, bits_of(f[2])))
    beside, rest_beside, largest_beside = f[SUM], f[SUM + 1], float_of(max(largest_beside, bits_of(f[SUM + 2])))
    for k in range(rows):
        total, rest = settled(total, rest, w[k], w[_LOST * apart + k])
        beside, rest_beside = settled(beside, rest_beside, w[apart + k], w[(_LOST + 1) * apart + k])
        w[k], w[apart + k] = total + rest, beside + rest_beside
    worn = 0
    for k in range(rows):
        # Terms are not below 0: a sum is 0 when all are. A median hides NaN.
        worn += math.isnan(x[k]) | is_worn(w[k], largest, 0.0) | is_worn(w[apart + k], largest_beside, 0.0)
        w[2 * apart + k] = i[COUNT]
    if worn > 0:
        return False
    f[0], f[1], f[2] = total, rest, largest
    f[SUM], f[SUM + 1], f[SUM + 2] = beside, rest_beside, largest_beside
    i[HEAD] = remember(ring, i[HEAD], x)
    i[REMOVED] += rows
    return True
