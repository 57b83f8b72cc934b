"""The tape made again from the raw log, and where the two part: the proof that the rows say what the wires said."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from oneprice.data.machines import Machines, Restarted
from oneprice.data.session import CUT, RecordType, Session, joined
from oneprice.model.tape import Kind, Rows, TapeEvent, TapeWriter, view

MADE_BY_THE_CLOCK = (int(Kind.TIMER),)
_CHUNK = 1 << 15
_WORDS = 8  # a row is 64 bytes: eight numbers to compare


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first row that the raw log does not give, or gives otherwise. `row` counts the rows that come from machines;
    `file` is the segment of the tape that holds it."""

    row: int
    recorded: TapeEvent | None
    rederived: TapeEvent | None
    file: str = ""


def recorded_rows(session: Session) -> Iterator[Rows]:
    """The rows of the tape that come from machines: all but timers."""
    for rows in session.rows():
        made_here = np.isin(rows["kind"], MADE_BY_THE_CLOCK)
        yield rows[~made_here] if made_here.any() else rows


def rederived_rows(session: Session) -> Iterator[Rows]:
    """Rows of the raw log through fresh machines, in chunks. Where a process was cut off and another went on, what the raw
    log knew beyond the tape is left out, as it was then."""
    breaks = _breaks(session)
    limit = breaks.pop(0) if breaks else None
    given = 0
    tape = TapeWriter(2 * _CHUNK)
    machines = Machines(session.instruments, tape)
    for record in session.records():
        if record.type is RecordType.RESTARTED:
            rows = tape.take()[: None if limit is None else limit - given]
            given += len(rows)
            yield rows
            limit = breaks.pop(0) if breaks else None
        machines.tell(record)
        if tape.n >= _CHUNK:
            rows = tape.take()[: None if limit is None else limit - given]
            given += len(rows)
            yield rows
    yield tape.take()


def _breaks(session: Session) -> list[int]:
    """How many rows of machines the tape held at each restart, in order."""
    found = []
    for path in session.segments("frames"):
        first = next(session.records_of_segment(path), None)
        if first is not None and first.type is RecordType.RESTARTED:
            found.append(msgspec.json.decode(first.payload, type=Restarted).rows)
    return found


def first_divergence(
    session: Session, *, is_whole: bool | None = None, until_ns: int | None = None
) -> Divergence | None:
    """Compare tape and raw log row by row; None when they agree.

    A cut session's raw log may know more than its tape; `is_whole` says so where the session's state does not. With
    `until_ns`, what was received later is not looked at.
    """
    if is_whole is None:
        is_whole = session.state != CUT
    recorded, rederived = _steady(recorded_rows(session)), _steady(rederived_rows(session))
    row = 0
    while True:
        ours, theirs = next(recorded, _NONE), next(rederived, _NONE)
        common = min(len(ours), len(theirs))
        differ = np.flatnonzero((_words(ours[:common]) != _words(theirs[:common])).any(axis=1))
        place = int(differ[0]) if len(differ) else common
        if place < len(ours) or (place < len(theirs) and is_whole):
            return Divergence(
                row=row + place,
                recorded=view(ours[place], session.instruments) if place < len(ours) else None,
                rederived=view(theirs[place], session.instruments) if place < len(theirs) else None,
                file=_segment_with(session, row + place),
            )
        if len(ours) < _CHUNK or (until_ns is not None and ours["ts_recv_ns"][-1] > until_ns):
            return None
        row += common


def _words(rows: Rows) -> np.ndarray:
    """Rows as whole numbers: equal means equal bit for bit, NaN included."""
    return rows.view(np.int64).reshape(-1, _WORDS)


def _segment_with(session: Session, row: int) -> str:
    """The segment of the tape that holds a row of machines (the last one, for a row behind its end)."""
    name = ""
    for path in session.segments("tape"):
        name = path.relative_to(session.folder).as_posix()
        count = 0
        for rows in session.rows_of_segment(path):
            count += len(rows) - int(np.isin(rows["kind"], MADE_BY_THE_CLOCK).sum())
        if row < count:
            break
        row -= count
    return name


def _steady(chunks: Iterator[Rows]) -> Iterator[Rows]:
    """The same rows in chunks of one size (the last may be smaller), so that two runs can be laid side by side."""
    held: list[Rows] = []
    count = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk)
        if count >= _CHUNK:
            rows = joined(held)
            whole = count // _CHUNK * _CHUNK
            for start in range(0, whole, _CHUNK):
                yield rows[start : start + _CHUNK]
            held, count = [rows[whole:]], count - whole
    if count:
        yield joined(held)


_NONE: Rows = TapeWriter(0).take()
