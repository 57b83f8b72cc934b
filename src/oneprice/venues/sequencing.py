"""How a venue's depth messages chain, as one of a few shared rules. Pure: ids in, a verdict out.

`Joined` rules start from a REST snapshot and need the buffered messages that follow it; `InStream` rules get the
snapshot in the stream itself."""

from __future__ import annotations

from enum import IntEnum

import msgspec


class Verdict(IntEnum):
    APPLY = 1  # belongs on the tape
    IGNORE = 2  # already contained in the book
    GAP = 3  # messages are missing: the book is invalid from here
    WAIT = 4  # a snapshot is needed first; keep the message


class Joining(IntEnum):
    """What a snapshot by REST is worth for the buffered messages."""

    JOINED = 1
    TOO_OLD = 2  # fetch again
    TOO_NEW = 3  # nothing buffered reaches it yet: wait for more messages


class Sequencing(msgspec.Struct, frozen=True):
    """A rule. `joins_rest`: the book starts from a REST snapshot. Subclasses say how messages chain."""

    joins_rest: bool = True

    def follows(self, book_id: int, *, first: int, last: int, previous: int, is_snapshot: bool) -> Verdict:
        """What to do with a depth message when the book stands at `book_id` (-1: there is no book)."""
        raise NotImplementedError

    def joins(self, snapshot_id: int, *, first: int, last: int, previous: int) -> Joining:
        """Whether the first buffered message that is not older than the snapshot continues it."""
        raise NotImplementedError

    def is_older(self, snapshot_id: int, *, last: int) -> bool:
        """Whether a buffered message is contained in the snapshot and is dropped before joining."""
        raise NotImplementedError


class Consecutive(Sequencing, frozen=True):
    """Binance spot, JSON and SBE: `first` = previous `last` + 1; drop `last <= lastUpdateId`."""

    def follows(self, book_id: int, *, first: int, last: int, previous: int, is_snapshot: bool) -> Verdict:
        if book_id < 0:
            return Verdict.WAIT
        if last <= book_id:
            return Verdict.IGNORE
        return Verdict.APPLY if first <= book_id + 1 else Verdict.GAP

    def is_older(self, snapshot_id: int, *, last: int) -> bool:
        return last <= snapshot_id

    def joins(self, snapshot_id: int, *, first: int, last: int, previous: int) -> Joining:
        return Joining.JOINED if first <= snapshot_id + 1 <= last else Joining.TOO_OLD


class Chained(Sequencing, frozen=True):
    """Binance futures: `previous` = `last` of the message before (`first` jumps); drop `last < lastUpdateId`."""

    def follows(self, book_id: int, *, first: int, last: int, previous: int, is_snapshot: bool) -> Verdict:
        if book_id < 0:
            return Verdict.WAIT
        if last <= book_id:
            return Verdict.IGNORE
        return Verdict.APPLY if previous == book_id else Verdict.GAP

    def is_older(self, snapshot_id: int, *, last: int) -> bool:
        return last < snapshot_id

    def joins(self, snapshot_id: int, *, first: int, last: int, previous: int) -> Joining:
        continues = first <= snapshot_id <= last or previous == snapshot_id
        return Joining.JOINED if continues else Joining.TOO_OLD


class SnapshotThenDelta(Sequencing, frozen=True):
    """Bybit: a snapshot in the stream replaces the book at any time; a delta is `last` + 1; id 1 restarts."""

    joins_rest: bool = False

    def follows(self, book_id: int, *, first: int, last: int, previous: int, is_snapshot: bool) -> Verdict:
        if is_snapshot:
            return Verdict.APPLY
        if book_id < 0:
            return Verdict.WAIT
        if last <= book_id:
            return Verdict.IGNORE
        return Verdict.APPLY if last == book_id + 1 else Verdict.GAP
