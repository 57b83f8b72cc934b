"""Windows by count that are full, a block of rows at a time.

Each row takes the place of the one `n` rows before, so which goes is known beforehand, and only the sums themselves are made
one after the other. What comes out is what the steps in `windows.py` make of the same rows, to the bit."""

from __future__ import annotations

from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import bits_of, float_of
from oneprice.compute.kernels.rows import copy
from oneprice.compute.kernels.windows import (
    COUNT,
    HEAD,
    REBUILD_EVERY,
    REMOVED,
    exchanged,
    is_ready,
    is_turning,
    is_worn,
    settled,
)


@inlined
def look_back(ring, head, x, to):
    """Of each row of x the number n rows before. ring: the last n, of which the oldest is at `head`."""
    rows, n = x.shape[0], ring.shape[0]
    first = min(rows, n - head)
    second = min(rows - first, head)
    copy(to, 0, ring, head, first)
    copy(to, first, ring, 0, second)
    copy(to, first + second, x, 0, rows - first - second)


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
    if not (is_turning(i) and is_ready(i) and i[REMOVED] + rows < REBUILD_EVERY):
        return False
    look_back(ring, i[HEAD], x, w)
    for k in range(rows):
        w[k], w[apart + k] = exchanged(w[k], x[k])
    total, rest, largest = f[0], f[1], largest_size(x, f[2])
    for k in range(rows):
        total, rest = settled(total, rest, w[k], w[apart + k])
        w[k] = total + rest
    worn = 0
    for k in range(rows):
        worn += is_worn(w[k], largest)  # by the largest of them all, so rather too often; and after what is no number
        w[apart + k] = i[COUNT]
    if worn > 0:
        return False
    f[0], f[1], f[2] = total, rest, largest
    i[HEAD] = remember(ring, i[HEAD], x)
    i[REMOVED] += rows
    return True
