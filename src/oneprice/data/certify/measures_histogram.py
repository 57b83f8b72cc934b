"""Histograms whose slots are as fine as their values need: memory that does not grow with the session, and quantiles with a
known error.

A value is an integer of some small unit. Below 2^bits every value has its slot; above, an octave has 2^(bits-1) slots. So
`quantile` is exact below 2^bits units and at most 2^(1-bits) of the value too low above. Source of the layout: G. Tene,
HdrHistogram. Slots hold weights: how often a value was seen, or for how many nanoseconds it stood."""

# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.ladder import _highest_bit

Ints = NDArray[np.int64]


def slots(bits: int, top_bits: int) -> int:
    """How many slots hold the values from 0 to 2^top_bits - 1."""
    return int((1 << bits) + (top_bits - bits) * (1 << (bits - 1)))


@njit(cache=True)
def slot_of(value, bits, count):
    """The slot of a value >= 0 in a histogram of `count` slots; what is too large goes into the last one."""
    if value < np.int64(1) << bits:
        return value
    octave = _highest_bit(np.uint64(value)) - bits + 1
    slot = (np.int64(1) << bits) + (octave - 2) * (np.int64(1) << (bits - 1)) + (value >> octave)
    return min(slot, count - 1)


class Seen(NamedTuple):
    """What a histogram holds: the lowest value of every slot in use, in order, and the slots' weights."""

    values: Ints
    weights: Ints

    def quantile(self, q: float) -> int | None:
        """The value at rank floor(q × (total weight - 1)), counted from 0; None without weight."""
        if len(self.weights) == 0:
            return None
        sums = np.cumsum(self.weights)
        return int(self.values[np.searchsorted(sums, int(q * (int(sums[-1]) - 1)), side="right")])


def seen(weights: NDArray[np.integer], bits: int) -> Seen:
    """The values of a histogram."""
    used = np.flatnonzero(weights)
    half = 1 << (bits - 1)
    octave = np.maximum(used // half - 1, 0)
    return Seen(np.where(octave == 0, used, (used - octave * half) << octave), weights[used].astype(np.int64))


def seen_signed(above: NDArray[np.integer], below: NDArray[np.integer], bits: int) -> Seen:
    """The values of two histograms together: of values >= 0, and of the sizes of values < 0."""
    over, under = seen(above, bits), seen(below, bits)
    return Seen(
        np.concatenate([-under.values[::-1], over.values]), np.concatenate([under.weights[::-1], over.weights])
    )  # fmt: skip
