"""A session that was cut goes on in its own folder, or is ended where it stopped.

Going on, the new process writes new segments. Their first record says where the break is (RESTARTED), and the tape's next
rows are a GAP for each book that stood when the old process ended: what happened in between nobody has seen. From there on
everything begins as in a new session: connections open, books start from snapshots."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from oneprice.data.machines import Machines, Restarted, Standing
from oneprice.data.plan import CapturePlan
from oneprice.data.rederive import MADE_BY_THE_CLOCK
from oneprice.data.session import Record, RecordType, Session, SessionWriter
from oneprice.model.errors import InputError
from oneprice.model.tape import Kind, TapeWriter
from oneprice.model.time import NS_PER_S, iso_ms

CAPTURE = "capture"  # source of the sessions that `capture-session` records


def cut_capture(folder: Path, *, now_ns: int) -> tuple[Session, CapturePlan]:
    """A capture that was cut and can go on now, and the plan it was started with. Nothing is written.

    InputError for a session that is closed, being written, or no capture, and while the clock is behind the tape;
    SessionError for one that is damaged.
    """
    session = Session.open(folder)
    if session.manifest.source != CAPTURE:
        raise InputError(
            f"{folder}: the source of this session is '{session.manifest.source}'; only what capture-session recorded can "
            f"be captured further"
        )
    check_can_go_on(session, now_ns=now_ns)
    try:
        return session, msgspec.convert(session.manifest.configuration["plan"], CapturePlan)
    except (KeyError, msgspec.ValidationError) as wrong:
        raise InputError(f"{folder}: its manifest does not hold the plan that it was captured by: {wrong}") from wrong


def check_can_go_on(session: Session, *, now_ns: int) -> None:
    """InputError for a session that is closed or being written, and while the clock is behind its tape: the tape's time
    never steps back. SessionError for one that is damaged."""
    session.check_cut()
    span = session.span_ns()
    if span is not None and now_ns < span[1]:
        raise InputError(
            f"{session.folder}: this session ends at {iso_ms(span[1])}, {(span[1] - now_ns) / NS_PER_S:.1f} s ahead of this "
            f"machine's clock; set the clock, or wait until it is past that time"
        )


def go_on(folder: Path, *, now_ns: int) -> SessionWriter:
    """A writer that continues a cut session, the break already written down. Its clock must not be behind the tape's.

    InputError for a session that is closed or being written, SessionError for one that is damaged.
    """
    writer = SessionWriter.go_on(folder)
    session = Session.open(folder)
    restarted, last_ns = _standing_at_the_end(session)
    _write_break(writer, session, restarted, max(now_ns, last_ns))
    return writer


def end_at_the_cut(folder: Path) -> tuple[SessionWriter, int]:
    """(a writer that only remains to be closed, receive time of the session's last row). What the raw log knows beyond the
    tape stays out of it, as when a session goes on; no book is declared lost, because nothing follows that would need it.

    Errors as in `go_on`.
    """
    writer = SessionWriter.go_on(folder)
    session = Session.open(folder)
    restarted, last_ns = _standing_at_the_end(session)
    _write_break(writer, session, msgspec.structs.replace(restarted, standing=()), last_ns)
    return writer, last_ns


def _write_break(writer: SessionWriter, session: Session, restarted: Restarted, recv_ns: int) -> None:
    record = Record(recv_ns, -1, RecordType.RESTARTED, msgspec.json.encode(restarted))
    tape = TapeWriter()
    Machines(session.instruments, tape).tell(record)
    writer.frame(record.recv_ns, record.feed, record.type, record.payload)
    rows = tape.take()
    if len(rows):
        writer.rows(rows)
    writer.flush()


def numbers_taken(session: Session) -> tuple[int, int]:
    """How far a session has numbered its connections (from 0) and its micro-batches (from 1)."""
    return 1 + max((feed.number for feed in session.manifest.feeds), default=-1), _last_batch(session)


def _last_batch(session: Session) -> int:
    """The sequence of the last TIMER row; 0 when there is none."""
    for path in reversed(session.segments("tape")):
        number = 0
        for rows in session.rows_of_segment(path):
            timers = rows[rows["kind"] == int(Kind.TIMER)]
            number = int(timers["sequence"][-1]) if len(timers) else number
        if number > 0:
            return number
    return 0


def _standing_at_the_end(session: Session) -> tuple[Restarted, int]:
    """(what a RESTARTED record says of a tape, receive time of its last row)."""
    book_ids: dict[int, int] = {}
    count, last_ns = 0, 0
    for rows in session.rows():
        count += len(rows) - int(np.isin(rows["kind"], MADE_BY_THE_CLOCK).sum())
        last_ns = int(rows["ts_recv_ns"][-1])
        depth = (rows["kind"] == int(Kind.DEPTH)) | (rows["kind"] == int(Kind.GAP))
        instruments, places = np.unique(rows["instrument"][depth][::-1], return_index=True)
        newest = rows[depth][::-1][places]
        for instrument, row in zip(instruments.tolist(), newest, strict=True):
            if row["kind"] == int(Kind.DEPTH):
                book_ids[instrument] = int(row["sequence"])
            else:
                book_ids.pop(instrument, None)
    standing = tuple(Standing(instrument, book_ids[instrument]) for instrument in sorted(book_ids))
    return Restarted(rows=count, standing=standing), last_ns
