"""What a recorded session holds, as plain values: connections with their frames, and REST answers. Whoever reads sessions
fills them in; frames stay where they are until a client is served."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec


class RecordedFrame(NamedTuple):
    """One message of a stream."""

    recv_ns: int
    is_binary: bool
    payload: bytes


class RecordedConnection(msgspec.Struct, frozen=True, kw_only=True):
    """One connection, from its opening to its end.

    `frames` gives its messages from the first one on, each time it is called, in pieces: between two of them (of which
    some may be empty) other work is let in.
    """

    venue: str
    path: str  # name of the venue's ws path; "": it is not known which
    topics: frozenset[str]
    opened_ns: int
    closed_ns: int | None  # None: it was open when the recording ended
    frames: Callable[[], Iterator[Sequence[RecordedFrame]]]


class RecordedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One REST answer and what was asked. `status` 0: no answer came. `is_snapshot`: a book that a stream goes on from."""

    venue: str
    method: str
    path: str
    query: Mapping[str, str]
    status: int
    headers: Mapping[str, str]
    body: bytes
    recv_ns: int
    is_snapshot: bool = False


class Recording(msgspec.Struct, frozen=True, kw_only=True):
    """All connections in the order of their openings, all answers in the order in which they came."""

    connections: Sequence[RecordedConnection]
    answers: Sequence[RecordedAnswer]

    def venues(self) -> list[str]:
        """The names of the venues in it."""
        return sorted({one.venue for one in self.connections} | {one.venue for one in self.answers})
