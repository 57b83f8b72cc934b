"""The gap ledger: every break of a book, from which sequence to which, how it was repaired and how long the book was invalid.

    ledger = GapLedger(session.instruments)
    for rows in session.rows():
        ledger.add(rows)
    gaps, validity = ledger.entries(), ledger.validity()

A book is valid from the snapshot that starts it to its next gap, in receive time and half-open: [from, until). What lies
outside is invalid, so that both add up to the tape's span exactly. A book that never breaks is still invalid until its first
snapshot: `validity` tells of that, the ledger of breaks does not."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import msgspec

from oneprice.data.certify.names import session_names
from oneprice.data.session import Session
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import LAST, SNAPSHOT, GapReason, Kind, Rows
from oneprice.venues.registry import venue

_DEPTH, _GAP = int(Kind.DEPTH), int(Kind.GAP)


class Repair(StrEnum):
    REST_SNAPSHOT = "rest_snapshot"
    STREAM_SNAPSHOT = "stream_snapshot"
    NOT_BY_THE_END = "not_by_the_end"


class GapEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One break. Times are receive times in ns. None: the venue's numbers do not tell, or it was not repaired."""

    symbol: str
    at_ns: int
    reason: str  # GapReason, in lower case
    last_good_id: int | None
    expected_id: int | None
    received_id: int | None  # None where no message showed the gap: the connection had ended
    repair: Repair
    repaired_ns: int | None
    repaired_id: int | None  # the snapshot's sequence
    invalid_ns: int  # until the repair, or the tape's end


class BookValidity(msgspec.Struct, frozen=True, kw_only=True):
    """When one symbol's book stood. valid_ns + invalid_ns = the tape's span."""

    symbol: str
    intervals: tuple[tuple[int, int], ...]  # [from_ns, until_ns), in order; none is empty
    valid_ns: int
    invalid_ns: int


class _Break(msgspec.Struct):
    index: int
    at_ns: int
    row: tuple[int, int, int, int]  # reason, last good, expected and received id
    repaired_ns: int = 0  # 0: not yet
    repaired_id: int = 0


class GapLedger:
    """Takes a tape chunk by chunk; chunks may end anywhere."""

    def __init__(self, instruments: InstrumentTable) -> None:
        self._names = session_names(instruments)
        self._repairs = [
            Repair.REST_SNAPSHOT if venue(one.venue).sequencing.joins_rest else Repair.STREAM_SNAPSHOT
            for one in instruments
        ]
        self._breaks: list[_Break] = []
        self._open: list[list[_Break]] = [[] for _ in instruments]  # not repaired yet, by instrument
        self._valid_since: list[int | None] = [None for _ in instruments]
        self._intervals: list[list[tuple[int, int]]] = [[] for _ in instruments]
        self._from_ns: int | None = None
        self._until_ns = 0

    def add(self, chunk: Rows) -> None:
        """Look at the next rows of the tape."""
        ended = chunk[chunk["flags"] & LAST != 0]  # one row for each message; of a snapshot, the one that completes it
        if len(ended) == 0:
            return
        if self._from_ns is None:
            self._from_ns = int(ended[0]["ts_recv_ns"])
        self._until_ns = int(ended[-1]["ts_recv_ns"])
        kinds = ended["kind"]
        turns = (kinds == _GAP) | ((kinds == _DEPTH) & (ended["flags"] & SNAPSHOT != 0))
        for row in ended[turns & (ended["instrument"] >= 0)]:
            if row["kind"] == _GAP:
                self._breaks_at(row)
            else:
                self._stands_at(row)

    def _breaks_at(self, row: Any) -> None:
        index, at_ns = int(row["instrument"]), int(row["ts_recv_ns"])
        told = (int(row["value"]), int(row["sequence"]), int(row["price"]), int(row["qty"]))
        found = _Break(index, at_ns, told)
        self._breaks.append(found)
        self._open[index].append(found)
        self._ends(index, at_ns)

    def _stands_at(self, row: Any) -> None:
        index, at_ns = int(row["instrument"]), int(row["ts_recv_ns"])
        for found in self._open[index]:
            found.repaired_ns, found.repaired_id = at_ns, int(row["sequence"])
        self._open[index] = []
        if self._valid_since[index] is None:  # a snapshot may also replace a book that stands
            self._valid_since[index] = at_ns

    def _ends(self, index: int, at_ns: int) -> None:
        since_ns = self._valid_since[index]
        if since_ns is not None and since_ns < at_ns:
            self._intervals[index].append((since_ns, at_ns))
        self._valid_since[index] = None

    def entries(self) -> tuple[GapEntry, ...]:
        """Every break so far, in order of time."""
        return tuple(self._entries())

    def _entries(self) -> Iterator[GapEntry]:
        for found in self._breaks:
            reason, last_good, expected, received = found.row
            is_repaired = found.repaired_ns > 0
            yield GapEntry(
                symbol=self._names[found.index],
                at_ns=found.at_ns,
                reason=GapReason(reason).name.lower(),
                last_good_id=last_good if last_good >= 0 else None,
                expected_id=expected or None,
                received_id=received or None,
                repair=self._repairs[found.index] if is_repaired else Repair.NOT_BY_THE_END,
                repaired_ns=found.repaired_ns if is_repaired else None,
                repaired_id=found.repaired_id if is_repaired else None,
                invalid_ns=(found.repaired_ns if is_repaired else self._until_ns) - found.at_ns,
            )

    def validity(self) -> tuple[BookValidity, ...]:
        """When each book stood, from the tape's first row to its last so far; in the order of the instrument table."""
        span_ns = self._until_ns - self._from_ns if self._from_ns is not None else 0
        found = []
        for name, closed, since_ns in zip(self._names, self._intervals, self._valid_since, strict=True):
            is_open = since_ns is not None and since_ns < self._until_ns
            intervals = (*closed, (since_ns, self._until_ns)) if is_open and since_ns is not None else tuple(closed)
            valid_ns = sum(until_ns - from_ns for from_ns, until_ns in intervals)
            found.append(
                BookValidity(symbol=name, intervals=intervals, valid_ns=valid_ns, invalid_ns=span_ns - valid_ns)
            )
        return tuple(found)


def gap_ledger(session: Session) -> tuple[tuple[GapEntry, ...], tuple[BookValidity, ...]]:
    """A session's breaks, and when its books stood. DamagedSegment where the tape is damaged."""
    ledger = GapLedger(session.instruments)
    for rows in session.rows():
        ledger.add(rows)
    return ledger.entries(), ledger.validity()
