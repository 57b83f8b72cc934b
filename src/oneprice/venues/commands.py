"""What a feed machine asks for, and what it counts: the values that pass between it and whoever owns the sockets."""

from __future__ import annotations

import msgspec

from oneprice.venues.base import Request

DEPTH, MARK, OPEN_INTEREST, TIME = "depth", "mark", "open_interest", "time"  # purposes of a Fetch


class Send(msgspec.Struct, frozen=True):
    """Send this on that connection."""

    feed: int
    payload: bytes


class Fetch(msgspec.Struct, frozen=True, kw_only=True):
    """Ask by REST, not before `after_s` from now, and tell the machine what came back (`answered`), whatever it was.

    purpose: depth, mark, open_interest or time. Whoever sends it fills in `sent_ns`.
    """

    purpose: str
    instrument: int  # -1: none
    request: Request
    number: int = 0
    after_s: float = 0.0
    sent_ns: int = 0


class Reconnect(msgspec.Struct, frozen=True):
    """Open a replacement of this connection, then close it."""

    feed: int
    reason: str


Command = Send | Fetch | Reconnect


class Rejected(msgspec.Struct, frozen=True):
    """What could not be used, kept aside: when, on which connection (-1: by REST), why, and its first bytes."""

    recv_ns: int
    feed: int
    reason: str
    payload: bytes


class FeedStatistics(msgspec.Struct):
    """Counts of one connection, or of all of a venue. `data_ns` is when market data last came (0: never)."""

    frames: int = 0
    rows: int = 0
    gaps: int = 0
    resyncs: int = 0
    ignored: int = 0
    rejected: int = 0
    data_ns: int = 0

    def add(self, part: FeedStatistics) -> None:
        """Take another's counts into this one."""
        self.frames += part.frames
        self.rows += part.rows
        self.gaps += part.gaps
        self.resyncs += part.resyncs
        self.ignored += part.ignored
        self.rejected += part.rejected
        self.data_ns = max(self.data_ns, part.data_ns)
