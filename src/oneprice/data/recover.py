"""A session that was cut goes on in its own folder.

The new process writes new segments. Their first record says where the break is (RESTARTED), and the tape's next rows are a
GAP for each book that stood when the old process ended: what happened in between nobody has seen. From there on everything
begins as in a new session: connections open, books start from snapshots."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from oneprice.data.machines import Machines, Restarted, Standing
from oneprice.data.rederive import MADE_BY_THE_CLOCK
from oneprice.data.session import Record, RecordType, Session, SessionWriter
from oneprice.model.tape import Kind, TapeWriter


def go_on(folder: Path, *, now_ns: int) -> SessionWriter:
    """A writer that continues a cut session, the break already written down. Its clock must not be behind the tape's.

    InputError for a session that is closed or being written, SessionError for one that is damaged.
    """
    writer = SessionWriter.go_on(folder)
    session = Session.open(folder)
    restarted, last_ns = _standing_at_the_end(session)
    record = Record(max(now_ns, last_ns), -1, RecordType.RESTARTED, msgspec.json.encode(restarted))
    tape = TapeWriter()
    Machines(session.instruments, tape).tell(record)
    writer.frame(record.recv_ns, record.feed, record.type, record.payload)
    writer.rows(tape.take())
    writer.flush()
    return writer


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
