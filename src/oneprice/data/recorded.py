"""A session as the emulator serves it: the raw log as connections with their frames, and as REST answers.

The log is read once to find what is in it (a damaged one says so here) and once more for every client that is served;
only answers are held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import TypeVar

import msgspec

from oneprice.data.importer import IMPORTED, UNASKED
from oneprice.data.machines import Answer, Opened
from oneprice.data.session import Record, RecordType, Session
from oneprice.emulator.recorded_stream import topic_named
from oneprice.emulator.recorded_values import RecordedAnswer, RecordedConnection, RecordedFrame, Recording
from oneprice.model.errors import InputError, SessionError
from oneprice.venues.base import Request
from oneprice.venues.feed import DEPTH, Fetch
from oneprice.venues.registry import venue as find_venue

_T = TypeVar("_T")
_PIECE_RECORDS = 4_096
_FRAMES = (RecordType.TEXT, RecordType.BINARY)
_read_opened = msgspec.json.Decoder(Opened)
_read_answer = msgspec.json.Decoder(Answer)


class _Found(msgspec.Struct):
    """A connection while the log is read."""

    feed: int
    opened: Opened
    opened_ns: int
    segment: int  # number of the segment in which it was opened
    closed_ns: int | None = None
    named: set[str] = set()  # topics that its frames name, for an import


def recording_of(session: Session) -> Recording:
    """What a session holds, to be served. DamagedSegment where its raw log is damaged, SessionError where it cannot be
    understood, InputError where it has no connection."""
    connections: list[_Found] = []
    answers: list[RecordedAnswer] = []
    open_: dict[int, _Found] = {}
    for segment, path in enumerate(session.segments("frames")):
        for record in session.records_of_segment(path):
            match record.type:
                case RecordType.TEXT if record.feed in open_ and open_[record.feed].opened.path == IMPORTED:
                    if (topic := topic_named(record.payload)) is not None:
                        open_[record.feed].named.add(topic)
                case RecordType.OPENED:
                    opened = _decoded(_read_opened, record, record.payload)
                    found = open_[record.feed] = _Found(record.feed, opened, record.recv_ns, segment)
                    connections.append(found)
                case RecordType.CLOSED if record.feed in open_:
                    open_.pop(record.feed).closed_ns = record.recv_ns
                case RecordType.RESTARTED:
                    for found in open_.values():
                        found.closed_ns = record.recv_ns
                    open_.clear()
                case RecordType.ANSWER:
                    answers.append(_answer(session, record))
    if not connections:
        raise InputError(f"{session.folder}: no connection was recorded; there is nothing to serve")
    return Recording(connections=[_connection(session, found) for found in connections], answers=answers)


def _connection(session: Session, found: _Found) -> RecordedConnection:
    """What other recorders left does not say what was subscribed to, and on which path: the frames tell."""
    venue = find_venue(found.opened.venue)
    subscribed = {venue.topic(subscription) for subscription in found.opened.subscriptions}
    return RecordedConnection(
        venue=venue.name,
        path="" if found.opened.path == IMPORTED else found.opened.path,
        topics=frozenset(found.named or subscribed),
        opened_ns=found.opened_ns,
        closed_ns=found.closed_ns,
        frames=partial(_frames, session, found.segment, found.feed, found.opened_ns),
    )


def _frames(session: Session, segment: int, feed: int, opened_ns: int) -> Iterator[list[RecordedFrame]]:
    """The frames of a connection, in one piece for every few thousand records of the log."""
    is_open = False
    for path in session.segments("frames")[segment:]:
        records = session.records_of_segment(path)
        while part := list(islice(records, _PIECE_RECORDS)):
            piece: list[RecordedFrame] = []
            for record in part:
                is_ours = record.feed == feed
                if is_ours and record.type is RecordType.OPENED:
                    is_open = record.recv_ns == opened_ns  # a log of another version may give a number twice
                elif is_open and is_ours and record.type in _FRAMES:
                    piece.append(RecordedFrame(record.recv_ns, record.type is RecordType.BINARY, record.payload))
                elif is_open and (
                    record.type is RecordType.RESTARTED or (is_ours and record.type is RecordType.CLOSED)
                ):
                    yield piece
                    return
            yield piece


def _answer(session: Session, record: Record) -> RecordedAnswer:
    head, _, body = record.payload.partition(b"\n")
    answer = _decoded(_read_answer, record, head)
    request = _request(session, answer.venue, answer.fetch)
    return RecordedAnswer(
        venue=answer.venue, method=request.method, path=request.path, query=request.query, status=answer.status,
        headers=answer.headers, body=body, recv_ns=record.recv_ns, is_snapshot=answer.fetch.purpose == DEPTH,
    )  # fmt: skip


def _request(session: Session, venue: str, fetch: Fetch) -> Request:
    """What was asked. An imported snapshot that nobody had asked for answers what is asked for a snapshot."""
    depth = find_venue(venue).rest.depth
    if fetch.request.path != UNASKED or depth is None:
        return fetch.request
    return depth(session.instruments[fetch.instrument])


def _decoded(decoder: msgspec.json.Decoder[_T], record: Record, payload: bytes) -> _T:
    try:
        return decoder.decode(payload)
    except msgspec.DecodeError as wrong:
        raise SessionError(
            f"raw log: a {record.type.name} record of feed {record.feed} cannot be used: {wrong}"
        ) from wrong
