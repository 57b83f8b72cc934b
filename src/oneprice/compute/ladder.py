"""One side of one book as a price-indexed ladder: the part around the touch in an array, the rest sorted beside it.

A window of `WINDOW` price mantissas holds the levels near the touch, one slot a price, with a bitmap of the slots in use:
setting a level is one store, finding the next best one is a few bit scans. Levels outside the window live in two sorted
arrays (`far`). When the touch nears the edge of the window, the window moves and the levels are dealt out again, which is
rare and costs as much as reading the book once. Beyond `FAR` far levels a side the ones farthest from the touch are
forgotten: a quantity that far away was a lower bound anyway, because venues' snapshots end somewhere, too.

Prices and quantities are int64 mantissas; quantity 0 removes. Side 0 is bid, 1 is ask."""

from __future__ import annotations

import numpy as np
from numba import njit

from oneprice.compute.inner import inner

WINDOW = 131_072
WORDS = WINDOW // 64
FAR = 8_192
MARGIN = WINDOW // 8  # nearer than this to the window's edge, the best price moves the window
_NONE = np.int64(-1)


@njit(cache=True, inline="always")
def _lowest_bit(word):
    """Index of the lowest set bit of a non-zero uint64 (de Bruijn-free: halving)."""
    index = 0
    if word & np.uint64(0xFFFFFFFF) == 0:
        word >>= np.uint64(32)
        index += 32
    if word & np.uint64(0xFFFF) == 0:
        word >>= np.uint64(16)
        index += 16
    if word & np.uint64(0xFF) == 0:
        word >>= np.uint64(8)
        index += 8
    if word & np.uint64(0xF) == 0:
        word >>= np.uint64(4)
        index += 4
    if word & np.uint64(0x3) == 0:
        word >>= np.uint64(2)
        index += 2
    if word & np.uint64(0x1) == 0:
        index += 1
    return index


@njit(cache=True, inline="always")
def _highest_bit(word):
    """Index of the highest set bit of a non-zero uint64."""
    index = 0
    if word >> np.uint64(32) != 0:
        word >>= np.uint64(32)
        index += 32
    if word >> np.uint64(16) != 0:
        word >>= np.uint64(16)
        index += 16
    if word >> np.uint64(8) != 0:
        word >>= np.uint64(8)
        index += 8
    if word >> np.uint64(4) != 0:
        word >>= np.uint64(4)
        index += 4
    if word >> np.uint64(2) != 0:
        word >>= np.uint64(2)
        index += 2
    if word >> np.uint64(1) != 0:
        index += 1
    return index


@inner
def next_up(bits, slot):
    """The lowest used slot at or above `slot`, or -1."""
    if slot >= WINDOW:
        return _NONE
    word = slot >> 6
    masked = bits[word] & (np.uint64(0xFFFFFFFFFFFFFFFF) << np.uint64(slot & 63))
    while masked == 0:
        word += 1
        if word >= WORDS:
            return _NONE
        masked = bits[word]
    return np.int64((word << 6) + _lowest_bit(masked))


@inner
def next_down(bits, slot):
    """The highest used slot at or below `slot`, or -1."""
    if slot < 0:
        return _NONE
    word = slot >> 6
    masked = bits[word] & (np.uint64(0xFFFFFFFFFFFFFFFF) >> np.uint64(63 - (slot & 63)))
    while masked == 0:
        word -= 1
        if word < 0:
            return _NONE
        masked = bits[word]
    return np.int64((word << 6) + _highest_bit(masked))


@inner
def _far_position(far_price, count, price):
    """Index of the first far level at or above `price`."""
    low, high = 0, count
    while low < high:
        middle = (low + high) >> 1
        if far_price[middle] < price:
            low = middle + 1
        else:
            high = middle
    return low


@inner
def _close_gap(values, at, last):
    """values[at] goes: what stands behind it, up to `last`, moves down by one. (Unsigned: one move of memory.)"""
    for k in range(np.uint64(at), np.uint64(last)):
        values[k] = values[k + np.uint64(1)]


@inner
def _open_gap(values, at, last):
    """Room at `at`: what stands from there on moves up by one, the last of it to `last`."""
    k, first, one = np.uint64(last), np.uint64(at), np.uint64(1)
    while k > first:
        values[k] = values[k - one]
        k -= one


@inner
def _far_set(far_price, far_qty, far_count, side, price, qty):
    count = far_count[side]
    at = _far_position(far_price, count, price)
    if at < count and far_price[at] == price:
        if qty != 0:
            far_qty[at] = qty
            return
        _close_gap(far_price, at, count - 1)
        _close_gap(far_qty, at, count - 1)
        far_count[side] = count - 1
        return
    if qty == 0:
        return
    if count == FAR:
        # Full: the level farthest from the touch goes (lowest bid, highest ask), unless the new one is farther still.
        if side == 0:
            if at == 0:
                return
            _close_gap(far_price, 0, at - 1)
            _close_gap(far_qty, 0, at - 1)
            far_price[at - 1] = price
            far_qty[at - 1] = qty
            return
        if at == count:
            return
        count -= 1
    _open_gap(far_price, at, count)
    _open_gap(far_qty, at, count)
    far_price[at] = price
    far_qty[at] = qty
    far_count[side] = count + 1


@njit(cache=True)
def clear(ladder, bits, far_count, best, side):
    """Forget every level of a side."""
    for word in range(WORDS):
        if bits[word] != 0:
            for slot in range(word << 6, (word + 1) << 6):
                ladder[slot] = 0
            bits[word] = 0
    far_count[side] = 0
    best[side] = 0


@inner
def recentre(ladder, bits, far_price, far_qty, far_count, old_base, new_base, side):
    """Move a side's window so that slot 0 is `new_base`; no level near the new window is lost."""
    held_price = np.empty(WINDOW, dtype=np.int64)
    held_qty = np.empty(WINDOW, dtype=np.int64)
    held = 0
    for word in range(WORDS):
        if bits[word] != 0:
            for slot in range(word << 6, (word + 1) << 6):
                if ladder[slot] != 0:
                    held_price[held] = old_base + slot
                    held_qty[held] = ladder[slot]
                    held += 1
                    ladder[slot] = 0
            bits[word] = 0
    # Far levels that the new window covers come in first, so that there is room for those that leave it.
    count = far_count[side]
    first = _far_position(far_price, count, new_base)
    behind = _far_position(far_price, count, new_base + WINDOW)
    for k in range(first, behind):
        slot = far_price[k] - new_base
        ladder[slot] = far_qty[k]
        bits[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
    for k in range(behind, count):
        far_price[first + k - behind] = far_price[k]
        far_qty[first + k - behind] = far_qty[k]
    far_count[side] = count - (behind - first)
    for k in range(held):
        slot = held_price[k] - new_base
        if 0 <= slot < WINDOW:
            ladder[slot] = held_qty[k]
            bits[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
        else:
            _far_set(far_price, far_qty, far_count, side, held_price[k], held_qty[k])


@inner
def _best_of(bits, base, far_price, far_count, side):
    """The best price of a side: in the window or far away; 0 when the side is empty."""
    count = far_count[side]
    if side == 0:
        slot = next_down(bits, WINDOW - 1)
        near = base + slot if slot >= 0 else 0
        return max(near, far_price[count - 1]) if count > 0 else near
    slot = next_up(bits, 0)
    if slot < 0:
        return far_price[0] if count > 0 else np.int64(0)
    near = base + slot
    return min(near, far_price[0]) if count > 0 else near


@njit(cache=True)
def set_level(ladder, bits, far_price, far_qty, far_count, base, best, side, price, qty):
    """Set one level of a side; quantity 0 removes it. Keeps `best[side]` (0: empty) and the window around it.

    `base` and `best` are the instrument's two-element rows by side.
    """
    slot = price - base[side]
    if 0 <= slot < WINDOW:
        if qty != 0:
            ladder[slot] = qty
            bits[slot >> 6] |= np.uint64(1) << np.uint64(slot & 63)
        elif ladder[slot] != 0:
            ladder[slot] = 0
            bits[slot >> 6] &= ~(np.uint64(1) << np.uint64(slot & 63))
    else:
        _far_set(far_price, far_qty, far_count, side, price, qty)
    touch = best[side]
    if qty != 0:
        if touch != 0 and not (price > touch if side == 0 else price < touch):
            return
        best[side] = price
    elif price == touch:
        # Whatever is left is worse than what went, so the next in the window, if there is one, is the best.
        next_slot = _NONE
        if 0 <= slot < WINDOW:
            next_slot = next_down(bits, slot) if side == 0 else next_up(bits, slot)
        if next_slot >= 0:
            best[side] = base[side] + next_slot
        else:
            best[side] = _best_of(bits, base[side], far_price, far_count, side)
    else:
        return
    if best[side] != 0:
        slot = best[side] - base[side]
        if slot < MARGIN or slot >= WINDOW - MARGIN:
            new_base = best[side] - WINDOW // 2
            recentre(ladder, bits, far_price, far_qty, far_count, base[side], new_base, side)
            base[side] = new_base


@njit(cache=True)
def qty_at(ladder, bits, far_price, far_qty, far_count, base, side, price):
    """Quantity of a level; 0 when there is none."""
    slot = price - base[side]
    if 0 <= slot < WINDOW:
        return ladder[slot]
    count = far_count[side]
    at = _far_position(far_price, count, price)
    if at < count and far_price[at] == price:
        return far_qty[at]
    return np.int64(0)


@inner
def next_level(bits, far_price, far_count, base, side, price):
    """The next price behind `price` (lower for bids, higher for asks), or 0 at the end of the side."""
    count = far_count[side]
    slot = price - base[side]
    if side == 0:
        at = _far_position(far_price, count, price) - 1
        far = far_price[at] if at >= 0 else 0
        start = min(slot - 1, WINDOW - 1)
        near_slot = next_down(bits, start) if start >= 0 else _NONE
        near = base[side] + near_slot if near_slot >= 0 else 0
        return max(far, near)
    at = _far_position(far_price, count, price + 1)
    far = far_price[at] if at < count else 0
    start = max(slot + 1, 0)
    near_slot = next_up(bits, start) if start < WINDOW else _NONE
    near = base[side] + near_slot if near_slot >= 0 else 0
    if near == 0:
        return far
    return near if far == 0 else min(far, near)
