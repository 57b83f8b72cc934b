"""From frames to the tape, for one venue, without I/O: decode, chain, join, repair.

`FeedMachine` is told everything that happens on its venue's connections, in order, and answers with commands for
whoever owns the sockets. It writes to the tape only depth that belongs on a book: a snapshot, then messages that chain.
When the chain breaks it writes one GAP row and asks for what it needs to start again. All it does depends on what it is
told, so the raw log of a session, told again, gives the same rows.

happens                                  | on the tape                     | asked for
-----------------------------------------|---------------------------------|-------------------------------------
opened                                   | -                               | Send: subscribe, batch by batch
acknowledged, or the first depth message | - (the message is kept)         | Fetch: the snapshot (REST-joined venues)
answered, and the kept messages meet it  | snapshot, then the kept ones    | -
answered, but they do not meet           | -                               | Fetch again, later each time
a message does not follow                | GAP                             | Fetch, or Send: unsubscribe, subscribe
closed, no replacement stands by         | GAP for each standing book      | -
closed, a replacement stands by          | trades that only that one brought | -
  and books are in-stream                | GAP for each standing book      | Send: unsubscribe, subscribe
lost (frames were dropped before here)   | GAP for each standing book      | -

A connection that carries what another open one already carries stands by: its depth may move a book on (ids are the
venue's, not the connection's), all else it brings is left out until the other one closes, so nothing counts twice; what
each counts by itself is handed over without a loss (`handover.py`).
A frame that cannot be read is kept aside and counted. If it held depth, the next message does not follow and that is
the gap; a number with more digits than the instrument's rules allow ends the book at once (GAP, CORRUPT)."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence

import numpy as np

from oneprice.model.errors import InputError, OnepriceError, VenueError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import LAST, GapReason, Kind, TapeWriter
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import (
    CHANNEL_CODE,
    HEAD_CHANNEL,
    HEAD_INSTRUMENT,
    HEAD_SIZE,
    BookSnapshot,
    Channel,
    Control,
    MarkReading,
    Status,
    Subscription,
    Venue,
)
from oneprice.venues.commands import (
    DEPTH,
    MARK,
    OPEN_INTEREST,
    TIME,
    Command,
    FeedStatistics,
    Fetch,
    Reconnect,
    Rejected,
    Send,
)
from oneprice.venues.handover import Handover
from oneprice.venues.joining import Join, Message, write_snapshot
from oneprice.venues.sequencing import Verdict
from oneprice.venues.symbols import make_lookup

_DEPTH = CHANNEL_CODE[Channel.DEPTH]
_EVENTS = (CHANNEL_CODE[Channel.TRADE], CHANNEL_CODE[Channel.LIQUIDATION])
_KEPT_REJECTIONS = 100
_KEPT_BYTES = 2_000
_RETRY_FIRST_S, _RETRY_CAP_S = 0.5, 30.0
_ASK_AGAIN_NS = 5 * NS_PER_S  # a stream that owes a snapshot for so long is asked again


_NOTHING: Sequence[Command] = ()


class _Feed:
    __slots__ = ("handover", "replaces", "statistics", "subscriptions")

    def __init__(self, subscriptions: tuple[Subscription, ...], replaces: int) -> None:
        self.subscriptions = subscriptions
        self.replaces = replaces  # the open connection it stands by for; -1: none
        self.handover: Handover | None = None  # under way, to or from another connection
        self.statistics = FeedStatistics()


class FeedMachine:
    """All connections of one venue. The tape may be shared with other venues; connections are numbered by the caller.

    `rejected` holds the newest refused frames and answers, `rejections` counts all of them by reason, `notices` holds
    the newest errors and announcements that the venue sent.
    """

    def __init__(self, venue: Venue, instruments: InstrumentTable, tape: TapeWriter) -> None:
        self.venue = venue
        self.instruments = instruments
        self.tape = tape
        self.rejected: deque[Rejected] = deque(maxlen=_KEPT_REJECTIONS)
        self.rejections: Counter[str] = Counter()
        self.notices: deque[Control] = deque(maxlen=_KEPT_REJECTIONS)
        self._decode = venue.decode
        self._rule = venue.sequencing
        self._follows = venue.sequencing.follows
        self._lookup = make_lookup(instruments, venue.name)
        self._anchor = next((index for index, _ in instruments.of_venue(venue.name)), -1)
        self._head = np.full(HEAD_SIZE, -1, dtype=np.int64)
        self._feeds: dict[int, _Feed] = {}
        self._past = FeedStatistics()  # of connections that have closed
        self._joins: dict[int, Join] = {}
        self._asked: dict[str, tuple[int, tuple[Subscription, ...]]] = {}  # subscribe requests without an answer yet
        self._request_id = 0

    # -- what happens on the connections ------------------------------------------------------------------------------

    def opened(self, feed: int, subscriptions: Sequence[Subscription], recv_ns: int) -> Sequence[Command]:
        """A connection stands: subscribe on it."""
        if feed in self._feeds:
            raise InputError(f"{self.venue.name}: connection {feed} is already open")
        wanted = tuple(subscriptions)
        replaces = next((number for number, other in self._feeds.items() if set(wanted) & set(other.subscriptions)), -1)
        self._feeds[feed] = _Feed(wanted, replaces)
        if replaces >= 0:
            self._feeds[feed].handover = self._feeds[replaces].handover = Handover()
        by_topic: dict[str, list[Subscription]] = {}  # one topic may carry two channels
        for subscription in wanted:
            topic = self.venue.topic(subscription)
            by_topic.setdefault(topic, []).append(subscription)
            if subscription.channel is Channel.DEPTH and replaces < 0:
                index = self.instruments.index(self.venue.name, subscription.symbol)
                join = self._joins.setdefault(index, Join(index, feed, topic))
                join.feed, join.asked_ns = feed, recv_ns
        topics = list(by_topic)
        commands: list[Command] = []
        for start in range(0, len(topics), self.venue.limits.subscribe_batch):
            batch = topics[start : start + self.venue.limits.subscribe_batch]
            request_id = self._next_id()
            self._asked[str(request_id)] = (feed, tuple(s for topic in batch for s in by_topic[topic]))
            commands.append(Send(feed, self.venue.subscribe(batch, request_id)))
        return commands

    def frame(self, feed: int, payload: bytes, recv_ns: int) -> Sequence[Command]:
        """A frame came in. Times of one tape must not go back."""
        state = self._feeds[feed]
        statistics = state.statistics
        statistics.frames += 1
        tape, head = self.tape, self._head
        at = tape.n
        buf = np.frombuffer(payload, dtype=np.uint8)
        head[HEAD_INSTRUMENT], head[HEAD_CHANNEL] = -1, 0
        written = self._decode(buf, recv_ns, feed, self._lookup, tape.rows, at, head)
        while written == Status.NO_ROOM:
            tape.reserve(2 * (tape.rows.shape[0] - at) + 16)
            written = self._decode(buf, recv_ns, feed, self._lookup, tape.rows, at, head)
        if written < 0:
            return self._without_rows(feed, payload, recv_ns, written)
        statistics.data_ns = recv_ns
        if written == 0 and head[HEAD_CHANNEL] != _DEPTH:  # depth without levels still carries the chain on
            return _NOTHING
        channel, index, first, last, previous, is_snapshot, _, _ = head.tolist()
        if channel != _DEPTH:
            if state.handover is not None and channel in _EVENTS:
                self._hand_over(state, state.handover, at, written, recv_ns)
                return _NOTHING
            if state.replaces >= 0:
                statistics.ignored += 1
                return _NOTHING
            tape.n = at + written
            statistics.rows += written
            return _NOTHING
        join = self._joins.get(index)
        if join is not None and join.feed == feed and not join.fresh and not is_snapshot:
            # The path of nearly every message, kept short.
            verdict = self._follows(join.book_id, first=first, last=last, previous=previous, is_snapshot=False)
            if verdict is Verdict.APPLY:
                join.book_id = last
                tape.n = at + written
                statistics.rows += written
                return _NOTHING
        if join is None or join.feed < 0:
            # Depth that nobody subscribed to here: a recording does not say what was asked for.
            join = self._joins[index] = Join(index, feed, "")
        return self._depth(state, feed, join, at, written, recv_ns, head.tolist())

    def answered(
        self, fetch: Fetch, status: int, headers: Mapping[str, str], body: bytes, recv_ns: int
    ) -> Sequence[Command]:
        """A REST call came back (status 0: the venue was not reached, or did not answer in time)."""
        rest = self.venue.rest
        if not self.wants(fetch):
            return _NOTHING
        join = self._joins[fetch.instrument] if fetch.purpose == DEPTH else None
        try:
            if status == 0:
                raise VenueError(f"{self.venue.name}: no answer to {fetch.request.path}", transient=True)
            rest.check(status, headers, body)
            if join is not None and rest.read_depth is not None:
                return self._meet(join, rest.read_depth(body, self.instruments[join.instrument]), recv_ns)
            if fetch.purpose == OPEN_INTEREST and rest.read_open_interest is not None:
                value, venue_ns = rest.read_open_interest(body)
                self.tape.append(
                    Kind.OPEN_INTEREST, recv_ns=recv_ns, venue_ns=venue_ns, instrument=fetch.instrument, value=value
                )
                self._past.rows += 1
            elif fetch.purpose == MARK and rest.read_mark is not None:
                self._mark(fetch.instrument, rest.read_mark(body), recv_ns)
            elif fetch.purpose == TIME:
                self._clock(fetch.sent_ns, recv_ns, rest.read_server_time(body))
        except OnepriceError as wrong:
            self._keep_aside(-1, body, recv_ns, f"{fetch.purpose} answer: {wrong}", kind=f"{fetch.purpose} answer")
            if join is not None:
                asked = wrong.retry_after_s if isinstance(wrong, VenueError) else None
                return [self._fetch_depth(join, at_least_s=asked or 0.0)]
        return _NOTHING

    def closed(self, feed: int, reason: GapReason, recv_ns: int) -> Sequence[Command]:
        """A connection ended, or was declared dead: its books are invalid from here unless a replacement stands by."""
        self._asked = {key: asked for key, asked in self._asked.items() if asked[0] != feed}
        heir = next((number for number, other in self._feeds.items() if other.replaces == feed), -1)
        if heir >= 0:
            self._take_over(self._feeds[heir], recv_ns)
        elif (other := self._feeds[feed].replaces) >= 0:  # the one to be replaced goes on
            self._feeds[other].handover = None
        commands: list[Command] = []
        for join in self._joins.values():
            if join.feed != feed:
                continue
            if heir >= 0 and self._rule.joins_rest:
                join.feed = heir
                continue
            if join.book_id >= 0:
                self._gap(join, reason, recv_ns, expected=join.book_id + 1, received=0)
            join.leave()
            if heir >= 0:  # the snapshot that the replacement brought was not taken: have it sent again
                join.feed = heir
                commands += self._resubscribe(join, recv_ns)
        self._past.add(self._feeds.pop(feed).statistics)
        return commands

    def lost(self, feed: int, reason: GapReason, recv_ns: int) -> Sequence[Command]:
        """Frames of an open connection were not read: its standing books are invalid until the next snapshot."""
        for join in self._joins.values():
            if join.feed == feed and join.book_id >= 0:
                self._gap(join, reason, recv_ns, expected=join.book_id + 1, received=0)
        return _NOTHING

    # -- what the caller may ask --------------------------------------------------------------------------------------

    def poll(self, channel: Channel, index: int) -> Fetch | None:
        """The request that polls a channel; None where the venue has no such call."""
        rest = self.venue.rest
        calls = {Channel.OPEN_INTEREST: (OPEN_INTEREST, rest.open_interest), Channel.MARK: (MARK, rest.mark)}
        purpose, call = calls.get(channel, ("", None))
        if call is None:
            return None
        return Fetch(purpose=purpose, instrument=index, request=call(self.instruments[index]))

    def probe(self) -> Fetch:
        """The request whose answer gives a CLOCK row: this machine's clock against the venue's."""
        return Fetch(purpose=TIME, instrument=-1, request=self.venue.rest.server_time())

    def wants(self, fetch: Fetch) -> bool:
        """Whether the answer would still be used: not when the connection whose book asked has ended."""
        join = self._joins.get(fetch.instrument)
        return fetch.purpose != DEPTH or (join is not None and join.fetch == fetch.number)

    def statistics_of(self, feed: int) -> FeedStatistics:
        """Counts of one open connection."""
        return self._feeds[feed].statistics

    @property
    def statistics(self) -> FeedStatistics:
        """Counts of all connections so far, and of REST answers."""
        total = FeedStatistics()
        for part in (self._past, *(state.statistics for state in self._feeds.values())):
            total.add(part)
        return total

    @property
    def joins(self) -> Mapping[int, Join]:
        """By instrument, where its book stands. To be read, not changed."""
        return self._joins

    # -- depth --------------------------------------------------------------------------------------------------------

    def _depth(
        self, state: _Feed, feed: int, join: Join, at: int, written: int, recv_ns: int, head: Sequence[int]
    ) -> Sequence[Command]:
        """Whatever is not the next message of a standing book."""
        _, _, first, last, previous, whole, _, _ = head
        tape, is_snapshot = self.tape, whole == 1
        verdict = join.judge(self._rule, first=first, last=last, previous=previous, is_snapshot=is_snapshot)
        if join.feed != feed and (verdict is not Verdict.APPLY or is_snapshot):
            verdict = Verdict.IGNORE  # only the connection that carries the book may end, start or replace it
        if verdict is Verdict.APPLY:
            tape.n = at + written
            state.statistics.rows += written
            if is_snapshot and join.book_id < 0:
                state.statistics.resyncs += join.had_book
                join.stand(last, fresh=False)
            join.book_id, join.fresh = last, False
            return _NOTHING
        if verdict is Verdict.IGNORE:
            state.statistics.ignored += 1
            return _NOTHING
        message = Message(tape.rows[at : at + written].copy(), first, last, previous)
        if verdict is Verdict.GAP:
            self._gap(join, GapReason.SEQUENCE, recv_ns, expected=join.book_id + 1, received=first)
        return self._wait(join, message, recv_ns, is_gap=verdict is Verdict.GAP)

    def _wait(self, join: Join, message: Message, recv_ns: int, *, is_gap: bool) -> Sequence[Command]:
        """Keep a message for the snapshot to come, and ask for that snapshot if nobody has."""
        if self._rule.joins_rest:
            join.kept.append(message)
            return [self._fetch_depth(join)] if join.fetch == 0 else _NOTHING
        if not is_gap and recv_ns - join.asked_ns < _ASK_AGAIN_NS:
            return _NOTHING
        return self._resubscribe(join, recv_ns)

    def _resubscribe(self, join: Join, recv_ns: int) -> list[Command]:
        """Have a stream that begins with a snapshot begin again."""
        join.asked_ns = recv_ns
        topic = join.topic or self.venue.topic(
            Subscription(channel=Channel.DEPTH, symbol=self.instruments[join.instrument].symbol)
        )
        return [
            Send(join.feed, self.venue.unsubscribe([topic], self._next_id())),
            Send(join.feed, self.venue.subscribe([topic], self._next_id())),
        ]

    def _fetch_depth(self, join: Join, *, at_least_s: float = 0.0) -> Fetch:
        depth = self.venue.rest.depth
        if depth is None:
            raise InputError(f"{self.venue.name}: its books start from a REST snapshot, but it has no such call")
        wait_s = 0.0 if join.attempts == 0 else min(_RETRY_FIRST_S * 2.0 ** (join.attempts - 1), _RETRY_CAP_S)
        join.attempts += 1
        join.fetch = self._next_id()
        return Fetch(
            purpose=DEPTH, instrument=join.instrument, request=depth(self.instruments[join.instrument]),
            number=join.fetch, after_s=max(wait_s, at_least_s),
        )  # fmt: skip

    def _meet(self, join: Join, snapshot: BookSnapshot, recv_ns: int) -> Sequence[Command]:
        """Put a REST snapshot and the messages that continue it on the tape; ask again when they do not meet."""
        chain = join.meet(self._rule, snapshot.last_id)
        if chain is None:
            return [self._fetch_depth(join)]
        statistics = self._feeds[join.feed].statistics if join.feed in self._feeds else self._past
        start = self.tape.n
        write_snapshot(self.tape, join, snapshot, recv_ns)
        for message in chain:
            message.rows["ts_recv_ns"] = recv_ns
            self.tape.extend(message.rows)
        statistics.rows += self.tape.n - start
        statistics.resyncs += join.had_book
        join.stand(chain[-1].last if chain else snapshot.last_id, fresh=not chain)
        return _NOTHING

    def _gap(self, join: Join, reason: GapReason, recv_ns: int, *, expected: int, received: int) -> None:
        self.tape.append(
            Kind.GAP, recv_ns=recv_ns, instrument=join.instrument, feed=join.feed, sequence=join.book_id,
            price=expected, qty=received, value=float(reason),
        )  # fmt: skip
        state = self._feeds.get(join.feed)
        statistics = state.statistics if state is not None else self._past
        statistics.gaps += 1
        statistics.rows += 1
        join.gaps += 1
        join.fall()

    # -- trades from one connection to the next -----------------------------------------------------------------------

    def _hand_over(self, state: _Feed, handover: Handover, at: int, written: int, recv_ns: int) -> None:
        """Events of a connection that is to be replaced, stands by, or has replaced another one a moment ago."""
        tape = self.tape
        rows = tape.rows[at : at + written]
        if state.replaces >= 0:
            handover.by_new(rows)
            state.statistics.ignored += 1
            return
        if handover.is_closed:
            new = handover.news(rows)
            state.statistics.ignored += len(new) == 0
            tape.rows[at : at + len(new)] = new
            tape.n = at + len(new)
        else:
            handover.by_old(rows)
            tape.n = at + written
        state.statistics.rows += tape.n - at
        if handover.is_over(recv_ns):
            state.handover = None

    def _take_over(self, heir: _Feed, recv_ns: int) -> None:
        """The connection that `heir` stood by for has ended."""
        heir.replaces = -1
        assert heir.handover is not None
        owed = heir.handover.close(recv_ns)
        self.tape.extend(owed)
        heir.statistics.rows += len(owed)

    # -- everything else ----------------------------------------------------------------------------------------------

    def _without_rows(self, feed: int, payload: bytes, recv_ns: int, written: int) -> Sequence[Command]:
        if written == Status.CONTROL:
            return self._control(feed, payload, recv_ns)
        reason = Status(written).name.lower().replace("_", " ")
        self._keep_aside(feed, payload, recv_ns, reason, kind=reason)
        if written == Status.INEXACT:
            join = self._joins.get(int(self._head[HEAD_INSTRUMENT]))
            if join is not None and join.book_id >= 0:
                self._gap(join, GapReason.CORRUPT, recv_ns, expected=join.book_id + 1, received=0)
        return _NOTHING

    def _control(self, feed: int, payload: bytes, recv_ns: int) -> Sequence[Command]:
        try:
            control = self.venue.control(payload)
        except OnepriceError as wrong:
            self._keep_aside(feed, payload, recv_ns, str(wrong), kind="malformed")
            return _NOTHING
        if control.kind == "shutdown":
            self.notices.append(control)
            return [Reconnect(feed, "the venue announced that it closes the connection")]
        _, subscriptions = self._asked.pop(control.request_id, (feed, ()))
        if control.kind == "error":
            self.notices.append(control)
            topics = ", ".join(self.venue.topic(subscription) for subscription in subscriptions[:5])
            reason = f"the venue says: {control.message}" + (f" (asked for {topics})" if topics else "")
            self._keep_aside(feed, payload, recv_ns, reason, kind="venue error")
        elif control.kind == "ack" and self._rule.joins_rest:
            # From here on nothing is missed, so a quiet book need not wait for its first message.
            waiting = (self._waiting(feed, subscription) for subscription in subscriptions)
            return [self._fetch_depth(join) for join in waiting if join is not None]
        return _NOTHING

    def _waiting(self, feed: int, subscription: Subscription) -> Join | None:
        """The book of a depth subscription that nobody has asked a snapshot for yet."""
        if subscription.channel is not Channel.DEPTH:
            return None
        join = self._joins.get(self.instruments.index(self.venue.name, subscription.symbol))
        return join if join is not None and join.feed == feed and join.book_id < 0 and join.fetch == 0 else None

    def _mark(self, index: int, reading: MarkReading, recv_ns: int) -> None:
        """The rows of a polled mark: those that the stream would make of the same values, as one message."""
        said: list[tuple[Kind, float, int, int]] = [(Kind.MARK, reading.mark_price, 0, 0)]
        if reading.index_price is not None:
            said.append((Kind.INDEX, reading.index_price, 0, 0))
        if reading.funding_rate is not None:
            said.append((Kind.FUNDING, reading.funding_rate, reading.next_funding_ns, reading.funding_interval_ns))
        if reading.open_interest is not None:
            said.append((Kind.OPEN_INTEREST, reading.open_interest, 0, 0))
        for place, (kind, value, sequence, qty) in enumerate(said, start=1):
            self.tape.append(
                kind, recv_ns=recv_ns, venue_ns=reading.venue_ns, instrument=index, sequence=sequence, qty=qty,
                value=value, flags=LAST if place == len(said) else 0,
            )  # fmt: skip
        self._past.rows += len(said)

    def _clock(self, sent_ns: int, recv_ns: int, venue_ns: int) -> None:
        """One CLOCK row: the middle of the round trip against the venue's time."""
        local_ns = (sent_ns + recv_ns) // 2
        self.tape.append(
            Kind.CLOCK, recv_ns=recv_ns, venue_ns=venue_ns, instrument=self._anchor, sequence=recv_ns - sent_ns,
            value=(local_ns - venue_ns) / NS_PER_MS,
        )  # fmt: skip
        self._past.rows += 1

    def _keep_aside(self, feed: int, payload: bytes, recv_ns: int, reason: str, *, kind: str) -> None:
        state = self._feeds.get(feed)
        statistics = state.statistics if state is not None else self._past
        statistics.rejected += 1
        self.rejections[kind] += 1
        self.rejected.append(Rejected(recv_ns, feed, reason, bytes(payload[:_KEPT_BYTES])))

    def _next_id(self) -> int:
        self._request_id += 1
        return self._request_id


def decode_frame(
    venue: Venue, instruments: InstrumentTable, payload: bytes, tape: TapeWriter, recv_ns: int = 0
) -> tuple[str, Control | None]:
    """Decode one frame alone, without chaining. → ("rows", None), ("control", what it is) or (why not, None)."""
    head = np.full(HEAD_SIZE, -1, dtype=np.int64)
    lookup = make_lookup(instruments, venue.name)
    tape.reserve(len(payload) // 4 + 16)
    status = venue.decode(np.frombuffer(payload, dtype=np.uint8), recv_ns, 0, lookup, tape.rows, tape.n, head)
    if status >= 0:
        tape.n += status
        return "rows", None
    if status == Status.CONTROL:
        return "control", venue.control(payload)
    return Status(status).name.lower(), None


__all__ = [
    "DEPTH", "MARK", "OPEN_INTEREST", "TIME", "Command", "FeedMachine", "FeedStatistics", "Fetch", "Reconnect", "Rejected",
    "Send", "decode_frame",
]  # fmt: skip
