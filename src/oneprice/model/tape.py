"""The tape: everything the system learns, as fixed rows in order of receive time.

A row is 64 bytes. One venue message may make several rows; the last carries `LAST`, so that a book is only read whole.

kind          | sequence        | price       | qty             | value             | flags
--------------|-----------------|-------------|-----------------|-------------------|------------------------------
DEPTH         | last update id  | level price | size, 0: gone   | -                 | ASK?, SNAPSHOT?, CLEAR?, LAST
QUOTE         | update id or 0  | best price  | size            | -                 | ASK?, LAST (bid, then ask)
TRADE         | trade id or 0   | price       | size            | -                 | ASK: the taker sold; LAST
MARK, INDEX   | 0               | -           | -               | price             | LAST
FUNDING       | next funding ns | -           | interval ns / 0 | rate, fraction    | LAST
LIQUIDATION   | 0               | price       | size            | -                 | ASK: a long was sold out
OPEN_INTEREST | 0               | -           | -               | base units        | LAST
GAP           | last good id    | expected id | received id     | `GapReason`       | LAST: the book is invalid
CLOCK         | round trip ns   | -           | -               | local − venue, ms | LAST; any instrument of it
TIMER         | running number  | -           | -               | -                 | LAST; `aux`: HOLD?
REPORT        | number in log   | fill price  | fill size       | fee               | LAST; `aux`: report type

A TIMER ends a micro-batch. A REPORT is what a live venue said of an order of ours; the raw log holds its full text.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from oneprice.model.instrument import InstrumentTable

ROW = np.dtype(
    [
        ("ts_recv_ns", "<i8"),
        ("ts_venue_ns", "<i8"),  # 0 where the venue gave no time
        ("sequence", "<i8"),
        ("price", "<i8"),
        ("qty", "<i8"),
        ("value", "<f8"),
        ("instrument", "<i4"),  # index into the session's instrument table; -1: none
        ("feed", "<i4"),  # number of the connection that brought it; -1: made here
        ("kind", "u1"),
        ("flags", "u1"),
        ("aux", "<u2"),
        ("reserved", "<u4"),
    ],
    align=True,
)
Rows = NDArray[np.void]


class Kind(IntEnum):
    DEPTH = 1
    QUOTE = 2
    TRADE = 3
    MARK = 4
    INDEX = 5
    FUNDING = 6
    LIQUIDATION = 7
    OPEN_INTEREST = 8
    GAP = 9
    CLOCK = 10
    TIMER = 11
    REPORT = 12


# Flags. Plain integers, because compiled code tests them.
LAST = 1  # last row of its message
ASK = 2  # ask side; in a trade: the taker sold
SNAPSHOT = 4  # row of a whole book; its first row also carries CLEAR
CLEAR = 8  # forget the book before applying this row (a snapshot of an empty book is one row with qty 0)

HOLD = 1  # a timer's `aux`: nothing new is begun, what was begun is brought to its end


class GapReason(IntEnum):
    SEQUENCE = 1  # the venue's numbers do not chain
    DISCONNECT = 2  # the connection ended
    OVERLOAD = 3  # our own queue was full and rows were dropped
    CORRUPT = 4  # a frame could not be read
    STALE = 5  # data stopped while the connection stood
    CROSSED = 6  # the book showed bid >= ask for longer than a venue's own message can explain


class TapeWriter:
    """A growing run of rows. Decoders write into `rows` from `n` on; `take()` hands the filled part over."""

    def __init__(self, capacity: int = 4096) -> None:
        self.rows: Rows = np.zeros(capacity, dtype=ROW)
        self.n = 0

    def reserve(self, count: int) -> None:
        """Make room for `count` more rows; rows written so far keep their place."""
        if self.n + count > self.rows.shape[0]:
            grown = np.zeros(max(2 * self.rows.shape[0], self.n + count), dtype=ROW)
            grown[: self.n] = self.rows[: self.n]
            self.rows = grown

    def append(
        self,
        kind: Kind,
        *,
        recv_ns: int,
        venue_ns: int = 0,
        instrument: int = -1,
        feed: int = -1,
        sequence: int = 0,
        price: int = 0,
        qty: int = 0,
        value: float = 0.0,
        flags: int = LAST,
        aux: int = 0,
    ) -> None:
        """Append one row from Python (rare events; hot channels are written by compiled decoders)."""
        self.reserve(1)
        self.rows[self.n] = (
            recv_ns, venue_ns, sequence, price, qty, value, instrument, feed, int(kind), flags, aux, 0,
        )  # fmt: skip
        self.n += 1

    def extend(self, rows: Rows) -> None:
        self.reserve(len(rows))
        self.rows[self.n : self.n + len(rows)] = rows
        self.n += len(rows)

    def take(self) -> Rows:
        """The rows so far, as a copy; the writer starts again from nothing."""
        taken = self.rows[: self.n].copy()
        self.n = 0
        return taken


class Level(msgspec.Struct, frozen=True):
    side: str
    price: str
    qty: str


class TapeEvent(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row (or the rows of one message) for people, JSON and plug-ins: names instead of numbers, prices as text."""

    kind: str
    ts_recv_ns: int
    ts_venue_ns: int
    instrument: str
    sequence: int = 0
    side: str = ""
    price: str = ""
    qty: str = ""
    value: float = 0.0
    reason: str = ""


def view(row: Any, instruments: InstrumentTable) -> TapeEvent:
    """The typed view of one row."""
    kind = Kind(int(row["kind"]))
    index = int(row["instrument"])
    instrument = instruments[index] if index >= 0 else None
    has_price = instrument is not None and kind in (Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.LIQUIDATION, Kind.REPORT)
    flags = int(row["flags"])
    if kind in (Kind.DEPTH, Kind.QUOTE):
        side = "ask" if flags & ASK else "bid"
    elif kind in (Kind.TRADE, Kind.LIQUIDATION):
        side = "sell" if flags & ASK else "buy"
    else:
        side = ""
    return TapeEvent(
        kind=kind.name.lower(),
        ts_recv_ns=int(row["ts_recv_ns"]),
        ts_venue_ns=int(row["ts_venue_ns"]),
        instrument=instrument.key if instrument is not None else "",
        sequence=int(row["sequence"]),
        side=side,
        price=str(instrument.price(int(row["price"]))) if has_price and instrument is not None else "",
        qty=str(instrument.qty(int(row["qty"]))) if has_price and instrument is not None else "",
        value=float(row["value"]),
        reason=GapReason(int(row["value"])).name.lower() if kind is Kind.GAP else "",
    )
