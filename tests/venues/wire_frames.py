"""What the tests of the compiled decoders share: running one on a frame, a book kept the slow way, and ways to damage
bytes. Nothing here knows a venue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, Kind, Rows
from oneprice.venues.base import HEAD_SIZE, Status
from oneprice.venues.symbols import Lookup, make_lookup

RECV_NS, FEED = 1_700_000_000_000_000_001, 7
_BEFORE, _BEHIND = 3, 2  # rows of others around those that a decoder may write
_CANARY = 0x5A


class Decoded(NamedTuple):
    status: int
    rows: Rows
    head: tuple[int, ...]


class Wire:
    """A decoder with the instruments of one venue."""

    def __init__(self, decode: Callable[..., int], instruments: InstrumentTable, venue: str) -> None:
        self.decode = decode
        self.instruments = instruments
        self.venue = venue

    @cached_property
    def lookup(self) -> Lookup:
        """Made when first asked for: it compiles, which no test module does when it is imported."""
        return make_lookup(self.instruments, self.venue)

    def __call__(self, frame: bytes, *, room: int = 3000, behind: bytes = b"") -> Decoded:
        """Decode `frame`, which stands in memory before `behind`; fails where a row outside the room is touched."""
        memory = np.frombuffer(bytes(frame) + behind, dtype=np.uint8)
        around = np.frombuffer(bytes((_CANARY,)) * ROW.itemsize * (_BEFORE + room + _BEHIND), dtype=ROW).copy()
        untouched = around.copy()
        head = np.zeros(HEAD_SIZE, dtype=np.int64)
        status = self.decode(memory[: len(frame)], RECV_NS, FEED, self.lookup, around[: _BEFORE + room], _BEFORE, head)
        assert around[:_BEFORE].tobytes() == untouched[:_BEFORE].tobytes()
        assert around[_BEFORE + room :].tobytes() == untouched[_BEFORE + room :].tobytes()
        assert Status.NO_ROOM <= status <= room
        return Decoded(status, around[_BEFORE : _BEFORE + max(status, 0)].copy(), tuple(head.tolist()))


def row(kind: Kind, *, instrument: int, venue_ns: int, **fields: Any) -> tuple[Any, ...]:
    """An expected row as a tuple in the order of the tape's columns."""
    return (
        RECV_NS, venue_ns, fields.get("sequence", 0), fields.get("price", 0), fields.get("qty", 0),
        fields.get("value", 0.0), instrument, FEED, int(kind), fields.get("flags", 0), 0, 0,
    )  # fmt: skip


def rows_of(*expected: tuple[Any, ...]) -> Rows:
    return np.array(list(expected), dtype=ROW)


def same(left: Rows, right: Rows) -> bool:
    """Equal in every column; a NaN equals a NaN."""
    return left.tobytes() == right.tobytes()


class SlowBook:
    """A book as two dictionaries, fed with DEPTH rows."""

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}

    def apply(self, rows: Rows) -> None:
        for price, qty, flags in zip(rows["price"].tolist(), rows["qty"].tolist(), rows["flags"].tolist(), strict=True):
            if flags & CLEAR:
                self.bids.clear()
                self.asks.clear()
            side = self.asks if flags & ASK else self.bids
            if qty == 0:
                side.pop(price, None)
            else:
                side[price] = qty

    @property
    def is_crossed(self) -> bool:
        return bool(self.bids and self.asks) and max(self.bids) >= min(self.asks)

    def top(self, count: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        return (
            sorted(self.bids.items(), reverse=True)[:count],
            sorted(self.asks.items())[:count],
        )


def depth_rows(
    bids: Sequence[tuple[int, int]],
    asks: Sequence[tuple[int, int]],
    *,
    instrument: int,
    venue_ns: int,
    sequence: int,
    is_snapshot: bool,
) -> Rows:
    """The rows of one depth message, as a decoder must write them; an empty snapshot is one row at 0."""
    whole = SNAPSHOT if is_snapshot else 0
    levels = [(price, qty, whole) for price, qty in bids] + [(price, qty, whole | ASK) for price, qty in asks]
    if is_snapshot and not levels:
        levels = [(0, 0, whole)]
    rows = rows_of(
        *(
            row(Kind.DEPTH, instrument=instrument, venue_ns=venue_ns, sequence=sequence, price=p, qty=q, flags=f)
            for p, q, f in levels
        )
    )
    if levels:
        rows["flags"][-1] |= LAST
        if is_snapshot:
            rows["flags"][0] |= CLEAR
    return rows


@st.composite
def damaged(draw: st.DrawFn, frames: Sequence[bytes]) -> bytes:
    """One of the frames with some bytes overwritten, removed, doubled or moved."""
    frame = bytearray(draw(st.sampled_from(frames)))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(frame) - 1, 0)))
        what = draw(st.sampled_from(("set", "cut", "double", "insert", "end")))
        if what == "set" and frame:
            frame[at] = draw(st.integers(0, 255))
        elif what == "cut":
            del frame[at : at + draw(st.integers(1, 12))]
        elif what == "double":
            frame[at:at] = frame[at : at + draw(st.integers(1, 40))]
        elif what == "insert":
            frame[at:at] = draw(st.sampled_from((b'"', b"\\", b"[", b"]", b"{", b"}", b",", b"-", b"9" * 25, b"\xff")))
        else:
            del frame[at:]
    return bytes(frame)
