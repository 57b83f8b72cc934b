"""One instrument's book between its messages and the tape: where the chain stands, what waits for a snapshot.

A book is in one of two conditions. It *stands* (`book_id` >= 0): every message is judged by the venue's rule. Or it
*waits* (`book_id` < 0): messages are kept until a snapshot comes. A snapshot that meets the kept messages makes it
stand (`meet`); after a snapshot that nothing has followed yet, the next message must join it, which is a laxer test
than chaining on (`fresh`)."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np

from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind, Rows, TapeWriter
from oneprice.venues.base import BookSnapshot
from oneprice.venues.sequencing import Joining, Sequencing, Verdict

KEPT_MESSAGES = 5_000  # eight minutes of a 100 ms stream: longer than any snapshot should take


class Message(NamedTuple):
    """A depth message that waits: its rows (a copy) and its ids."""

    rows: Rows
    first: int
    last: int
    previous: int


class Join:
    """The state of one instrument's book. `gaps` and `resyncs` are counted over its whole life."""

    __slots__ = (
        "asked_ns",
        "attempts",
        "book_id",
        "feed",
        "fetch",
        "fresh",
        "gaps",
        "had_book",
        "instrument",
        "kept",
        "resyncs",
        "topic",
    )

    def __init__(self, instrument: int, feed: int, topic: str) -> None:
        self.instrument = instrument
        self.feed = feed  # the connection that carries it; -1: none
        self.topic = topic
        self.book_id = -1
        self.fresh = False
        self.had_book = False
        self.kept: deque[Message] = deque(maxlen=KEPT_MESSAGES)
        self.fetch = 0  # number of the snapshot request under way; 0: none
        self.asked_ns = 0  # when a snapshot was last asked for on the stream
        self.attempts = 0  # snapshots that did not join, in a row
        self.gaps = 0
        self.resyncs = 0

    def judge(self, rule: Sequencing, *, first: int, last: int, previous: int, is_snapshot: bool) -> Verdict:
        """What to do with a message that has just come."""
        if self.fresh and not is_snapshot:
            if rule.is_older(self.book_id, last=last):
                return Verdict.IGNORE
            meets = rule.joins(self.book_id, first=first, last=last, previous=previous) is Joining.JOINED
            return Verdict.APPLY if meets else Verdict.GAP
        return rule.follows(self.book_id, first=first, last=last, previous=previous, is_snapshot=is_snapshot)

    def stand(self, book_id: int, *, fresh: bool) -> None:
        """A snapshot is on the tape: the book stands at its id."""
        if self.had_book:
            self.resyncs += 1
        self.had_book = True
        self.book_id = book_id
        self.fresh = fresh
        self.kept.clear()
        self.fetch = 0
        self.attempts = 0

    def fall(self) -> None:
        """The chain broke: the book waits for a snapshot."""
        self.book_id = -1
        self.fresh = False
        self.kept.clear()

    def leave(self) -> None:
        """The connection ended: what was kept and what was asked for is worth nothing to the next one."""
        self.fall()
        self.feed = -1
        self.fetch = 0
        self.attempts = 0

    def meet(self, rule: Sequencing, snapshot_id: int) -> list[Message] | None:
        """The kept messages that continue a snapshot, in order; None when snapshot and messages do not meet.

        Messages that do not meet are cut to those that a newer snapshot could still join.
        """
        later = [message for message in self.kept if not rule.is_older(snapshot_id, last=message.last)]
        chain: list[Message] = []
        book_id = snapshot_id
        for place, message in enumerate(later):
            ids = {"first": message.first, "last": message.last, "previous": message.previous}
            if place == 0:
                verdict = Verdict.APPLY if rule.joins(snapshot_id, **ids) is Joining.JOINED else Verdict.GAP
            else:
                verdict = rule.follows(book_id, **ids, is_snapshot=False)
            if verdict is Verdict.GAP:
                self.kept = deque(later[place:], maxlen=KEPT_MESSAGES)
                return None
            if verdict is Verdict.APPLY:
                chain.append(message)
                book_id = message.last
        return chain


def write_snapshot(tape: TapeWriter, join: Join, snapshot: BookSnapshot, recv_ns: int) -> None:
    """A whole book as rows: bids, then asks, in the venue's order; an empty one is a single row with quantity 0."""
    levels = snapshot.bids + snapshot.asks
    count = max(1, len(levels))
    tape.reserve(count)
    rows = tape.rows[tape.n : tape.n + count]
    rows[:] = np.zeros(1, dtype=rows.dtype)
    rows["ts_recv_ns"], rows["ts_venue_ns"] = recv_ns, snapshot.venue_ns
    rows["sequence"], rows["instrument"], rows["feed"] = snapshot.last_id, join.instrument, join.feed
    rows["kind"], rows["flags"] = int(Kind.DEPTH), SNAPSHOT
    if levels:
        rows["price"], rows["qty"] = np.array(levels, dtype=np.int64).T
        rows["flags"][len(snapshot.bids) :] |= ASK
    rows["flags"][0] |= CLEAR
    rows["flags"][-1] |= LAST
    tape.n += count
