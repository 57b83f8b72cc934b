"""From the symbol bytes in a frame to an instrument, in compiled code: a small open-addressed table of one venue.

The lookup is a plain tuple of arrays (`make_lookup`), so that decoders take it as an argument and stay cacheable."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from oneprice.model.instrument import InstrumentTable

_LONGEST = 48
# (buckets int32[2^k]; names uint8[n, 48]; lengths int64[n]; instrument int64[n]; price_exponent int64[n]; qty_exponent)
Lookup = tuple[Any, Any, Any, Any, Any, Any]


@njit(cache=True, inline="always")
def _hash(buf, start, end):
    value = np.uint64(14695981039346656037)
    for i in range(start, end):
        value = (value ^ np.uint64(buf[i])) * np.uint64(1099511628211)
    return value ^ (value >> np.uint64(32))


@njit(cache=True)
def _fill(buckets, names, lengths):
    mask = np.uint64(buckets.shape[0] - 1)
    for entry in range(lengths.shape[0]):
        slot = _hash(names[entry], 0, lengths[entry]) & mask
        while buckets[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        buckets[slot] = entry


def make_lookup(instruments: InstrumentTable, venue: str) -> Lookup:
    """The lookup of one venue's symbols. Symbols are matched byte for byte, as the venue writes them in its frames."""
    members = instruments.of_venue(venue)
    count = len(members)
    names = np.zeros((count, _LONGEST), dtype=np.uint8)
    lengths = np.zeros(count, dtype=np.int64)
    for entry, (_, instrument) in enumerate(members):
        text = instrument.symbol.encode()
        names[entry, : len(text)] = np.frombuffer(text, dtype=np.uint8)
        lengths[entry] = len(text)
    buckets = np.full(max(8, 1 << (2 * count).bit_length()), -1, dtype=np.int32)
    _fill(buckets, names, lengths)
    return (
        buckets,
        names,
        lengths,
        np.array([index for index, _ in members], dtype=np.int64),
        np.array([instrument.price_exponent for _, instrument in members], dtype=np.int64),
        np.array([instrument.qty_exponent for _, instrument in members], dtype=np.int64),
    )


@njit(cache=True)
def find(lookup, buf, start, end):
    """Entry of the symbol buf[start:end] in the lookup, or -1. Entry → lookup[3][entry] is the instrument index."""
    buckets, names, lengths = lookup[0], lookup[1], lookup[2]
    mask = np.uint64(buckets.shape[0] - 1)
    slot = _hash(buf, start, end) & mask
    while buckets[slot] >= 0:
        entry = buckets[slot]
        if lengths[entry] == end - start:
            same = True
            for k in range(end - start):
                if names[entry, k] != buf[start + k]:
                    same = False
                    break
            if same:
                return np.int64(entry)
        slot = (slot + np.uint64(1)) & mask
    return np.int64(-1)
