"""The feed machines of a session on one tape, told record by record. Capture tells them what happens and writes it down;
import and re-derivation tell them what was written down: the same calls, so the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from oneprice.data.session import Record, RecordType, Session
from oneprice.model.errors import SessionError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import Report
from oneprice.model.tape import GapReason, Kind, TapeWriter
from oneprice.venues.base import Subscription
from oneprice.venues.feed import Command, FeedMachine, Fetch
from oneprice.venues.registry import venue


class Opened(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of an OPENED record."""

    venue: str
    path: str
    subscriptions: tuple[Subscription, ...]


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a CLOSED or DROPPED record."""

    venue: str
    reason: int = int(GapReason.DISCONNECT)


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """First line of an ANSWER record's payload; the body follows it. `status` 0: no answer came."""

    venue: str
    fetch: Fetch
    status: int
    headers: Mapping[str, str] = {}


class Standing(msgspec.Struct, frozen=True):
    """A book that stood when its process was cut off, and the last id it had."""

    instrument: int
    book_id: int


class Restarted(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a RESTARTED record: how many rows of these machines the tape holds up to here, and the books that stood
    at its end. What the raw log knew beyond them never became tape."""

    rows: int
    standing: tuple[Standing, ...]


class Reported(msgspec.Struct, frozen=True, kw_only=True):
    """Payload of a REPORT record. `number` counts the reports of a session from 1; its row carries it, too."""

    number: int
    instrument: int
    report: Report


_read_reported = msgspec.json.Decoder(Reported)
_read_restarted = msgspec.json.Decoder(Restarted)
_read_opened = msgspec.json.Decoder(Opened)
_read_closed = msgspec.json.Decoder(Closed)
_read_answer = msgspec.json.Decoder(Answer)


def with_body(head: msgspec.Struct, body: bytes) -> bytes:
    return msgspec.json.encode(head) + b"\n" + body


class Machines:
    """One machine a venue, made when a record first names it."""

    def __init__(self, instruments: InstrumentTable, tape: TapeWriter) -> None:
        self.instruments = instruments
        self.tape = tape
        self.by_venue: dict[str, FeedMachine] = {}
        self._by_feed: dict[int, FeedMachine] = {}

    def machine(self, name: str) -> FeedMachine:
        made = self.by_venue.get(name)
        if made is None:
            made = self.by_venue[name] = FeedMachine(venue(name), self.instruments, self.tape)
        return made

    def frame(self, recv_ns: int, feed: int, payload: bytes) -> Sequence[Command]:
        """The hot one: a frame of a connection that was opened."""
        return self._by_feed[feed].frame(feed, payload, recv_ns)

    def tell(self, record: Record) -> Sequence[Command]:
        """What happened, in order; → what the machines want done."""
        payload, recv_ns, feed = record.payload, record.recv_ns, record.feed
        try:
            match record.type:
                case RecordType.TEXT | RecordType.BINARY:
                    return self.frame(recv_ns, feed, payload)
                case RecordType.OPENED:
                    opened = _read_opened.decode(payload)
                    machine = self._by_feed[feed] = self.machine(opened.venue)
                    return machine.opened(feed, opened.subscriptions, recv_ns)
                case RecordType.CLOSED:
                    closed = _read_closed.decode(payload)
                    return self.machine(closed.venue).closed(feed, GapReason(closed.reason), recv_ns)
                case RecordType.DROPPED:
                    dropped = _read_closed.decode(payload)
                    return self.machine(dropped.venue).lost(feed, GapReason(dropped.reason), recv_ns)
                case RecordType.ANSWER:
                    head, _, body = payload.partition(b"\n")
                    answer = _read_answer.decode(head)
                    machine = self.machine(answer.venue)
                    return machine.answered(answer.fetch, answer.status, answer.headers, body, recv_ns)
                case RecordType.RESTARTED:
                    self._restart(_read_restarted.decode(payload), recv_ns)
                    return ()
                case RecordType.REPORT:
                    self._report(_read_reported.decode(payload), recv_ns)
                    return ()
        except (msgspec.DecodeError, KeyError) as wrong:
            raise SessionError(
                f"raw log: a {record.type.name} record of feed {feed} cannot be used: {wrong}"
            ) from wrong

    def _report(self, reported: Reported, recv_ns: int) -> None:
        report = reported.report
        self.tape.append(
            Kind.REPORT, recv_ns=recv_ns, instrument=reported.instrument, sequence=reported.number,
            price=report.price, qty=report.qty, value=float(report.fee), aux=int(report.type),
        )  # fmt: skip

    def _restart(self, restarted: Restarted, recv_ns: int) -> None:
        """All connections are gone, and with them every book: the machines begin anew."""
        self.by_venue.clear()
        self._by_feed.clear()
        for book in restarted.standing:
            self.tape.append(
                Kind.GAP, recv_ns=recv_ns, instrument=book.instrument, sequence=book.book_id, price=book.book_id + 1,
                value=float(GapReason.DISCONNECT),
            )  # fmt: skip


def reports_of(session: Session) -> dict[int, Report]:
    """Every report in a session's raw log, by its number."""
    read = (_read_reported.decode(record.payload) for record in session.records() if record.type is RecordType.REPORT)
    return {reported.number: reported.report for reported in read}
