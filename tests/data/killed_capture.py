"""A capturing process for the tests that kill it: it is told a recorded raw log as fast as it can take it, writes a session,
and says what it has flushed after each flush."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path

import msgspec

from oneprice.data.machines import Machines
from oneprice.data.recover import go_on
from oneprice.data.session import FeedEntry, Session, SessionWriter
from oneprice.model.tape import TapeWriter

FLUSH_EVERY = 20  # records
CONNECT_EVERY = 400  # records: the manifest names a new connection
HOUR_NS = 3600 * 1_000_000_000
CLOSING = (-1, -1)


def capture(folder: Path, reference: Path, life: int, acks: Connection | None, limit: int | None = None) -> None:
    """One life of a session: the first begins it, later ones go on where the one before was killed. Each is told the same
    records, an hour later. `acks` gets (records, rows) on disk after each flush, and CLOSING at the end."""
    recorded = Session.open(reference)
    begins_ns = recorded.manifest.created_ns + life * HOUR_NS
    if life == 0:
        writer = SessionWriter(folder, recorded.instruments, source="test", created_ns=begins_ns)
    else:
        writer = go_on(folder, now_ns=begins_ns)
    tape = TapeWriter()
    machines = Machines(recorded.instruments, tape)
    for count, record in enumerate(recorded.records()):
        if count == limit:
            break
        later = msgspec.structs.replace(record, recv_ns=record.recv_ns + life * HOUR_NS)
        writer.frame(later.recv_ns, later.feed, later.type, later.payload)
        machines.tell(later)
        if count % CONNECT_EVERY == 0:
            number = len(writer.manifest.feeds)
            writer.add_feed(FeedEntry(number=number, venue="binance_spot", path="public", address="wss://venue"))
        if count % FLUSH_EVERY == FLUSH_EVERY - 1:
            writer.rows(tape.take())
            writer.flush()
            if acks is not None:
                acks.send((writer.manifest.frames, writer.manifest.rows))
    writer.rows(tape.take())
    if acks is not None:
        acks.send(CLOSING)
    writer.close(closed_ns=begins_ns + HOUR_NS)
