"""Numbers for values of one or two words: 0 for the first that is met, 1 for the next, …, by a hash table."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.asof.passes import Codes
from oneprice.compute.kernels.columns import frozen

Words = NDArray[np.uint64]  # one after the other, `width` a value
_MOST_BYTES = 12  # that stand in an Arrow string view itself


class Numbers:
    """Open addressing, never more than half full. Of two words a value is an Arrow string view."""

    def __init__(self, width: int, room: int = 1024) -> None:
        self.width = width
        self.count = 0
        self._known: Words = np.empty(room * width, dtype=np.uint64)
        self._slots: NDArray[np.int32] = np.full(2 * room, -1, dtype=np.int32)

    def codes(self, words: NDArray[Any]) -> Codes | None:
        """The number of each value; None where text does not stand in its view."""
        words = frozen(np.ascontiguousarray(words).view(np.uint64).reshape(-1))
        codes, done = np.empty(len(words) // self.width, dtype=np.int32), 0
        while True:
            done, self.count = _number(words, self.width, self._known, self._slots, self.count, codes, done)
            if done == len(codes):
                return codes
            if self.count * self.width < len(self._known):
                return None
            wider = Numbers(self.width, 2 * self.count)
            wider.codes(self._known)  # which come in the order of their numbers
            self._known, self._slots = wider._known, wider._slots

    def adopt(self, other: Numbers, codes: Codes) -> Codes:
        """Codes of other numbers as codes of these, in place."""
        number_of = self.codes(other._known[: other.count * other.width])
        assert number_of is not None  # what has a number there stands in its view
        _renumber(codes, number_of)
        return codes


@njit(cache=True)
def _renumber(codes, number_of):
    for i in range(codes.shape[0]):
        codes[i] = number_of[codes[i]]


@njit(cache=True, nogil=True)
def _number(words, width, known, slots, count, codes, begin):
    """(rows done, values known). Fewer rows than there are: the table is full, or text too long. No array changes its name in
    this loop, or Numba would count references in it."""
    last = np.uint64(slots.shape[0] - 1)
    for i in range(begin, codes.shape[0]):
        head, tail = words[i * width], words[i * width + width - 1]
        if width == 2 and (head & np.uint64(0xFFFFFFFF)) > np.uint64(_MOST_BYTES):
            return i, count
        # Fibonacci hashing: the upper half of the product is well mixed.
        mixed = (head ^ (tail * np.uint64(0xC2B2AE3D27D4EB4F))) * np.uint64(0x9E3779B97F4A7C15)
        slot = (mixed >> np.uint64(32)) & last
        code = slots[slot]
        while code >= 0 and (known[code * width] != head or known[code * width + width - 1] != tail):
            slot = (slot + np.uint64(1)) & last
            code = slots[slot]
        if code < 0:
            if (count + 1) * width > known.shape[0]:
                return i, count
            known[count * width], known[count * width + width - 1] = head, tail
            slots[slot] = count
            code = count
            count += 1
        codes[i] = code
    return codes.shape[0], count
