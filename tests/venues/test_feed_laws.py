"""Whatever is lost, doubled, damaged or late: while a book stands it is the venue's book, and it always comes back."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import pytest
from feed_world import MS, VENUES, Levels, PlainBook, all_channels, depth_rows, instrument, rest_depth, table
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.tape import ASK, GapReason, TapeWriter
from oneprice.venues.base import Venue
from oneprice.venues.feed import Command, FeedMachine, Fetch, Send
from oneprice.venues.sequencing import Chained, SnapshotThenDelta


class Event(NamedTuple):
    first: int
    last: int
    previous: int
    levels: list[tuple[int, int, int]]


class TrueVenue:
    """A venue's own book, event by event, with every state it went through."""

    def __init__(self, venue: Venue, draws: list[tuple[int, int, int]]) -> None:
        self.venue = venue
        self.book_of = instrument(venue)
        self.events: list[Event] = []
        self.states: list[Levels] = [{(0, 99_00): 1, (ASK, 101_00): 1}]  # before the first event, after it, …
        last = 1000
        for step, (jump, place, size) in enumerate(draws):
            chained = isinstance(venue.sequencing, Chained)
            first = last + 1 + (jump if chained else 0)
            end = first if isinstance(venue.sequencing, SnapshotThenDelta) else first + jump
            levels = [(0, 90_00 + place, size), (ASK, 101_00 + (place + step) % 9, 8 - size)]
            self.events.append(Event(first, end, last if chained else -1, levels))
            state = dict(self.states[-1])
            for side, price, qty in levels:
                state[(side, price)] = qty
                if qty == 0:
                    del state[(side, price)]
            self.states.append(state)
            last = end

    def id_at(self, events: int) -> int:
        return 1000 if events == 0 else self.events[events - 1].last

    def state_at(self, book_id: int) -> Levels | None:
        """The venue's book at an id; None inside an event."""
        for events in range(len(self.states)):
            if self.id_at(events) == book_id:
                return self.states[events]
        return None

    def frame(self, place: int) -> bytes:
        event = self.events[place]
        return self.venue.encode.depth(
            self.book_of, depth_rows(event.levels, sequence=event.last), first_id=event.first, last_id=event.last,
            previous_id=event.previous, is_snapshot=False, ts_ns=MS,
        )  # fmt: skip

    def snapshot_frame(self, events: int) -> bytes:
        levels = [(side, price, size) for (side, price), size in self.states[events].items()]
        book_id = self.id_at(events)
        return self.venue.encode.depth(
            self.book_of, depth_rows(levels, sequence=book_id), first_id=book_id, last_id=book_id, previous_id=-1,
            is_snapshot=True, ts_ns=MS,
        )  # fmt: skip


class Wire:
    """Carries a true venue's events to a machine as badly as it is told to, and checks the book after every step."""

    def __init__(self, truth: TrueVenue, capacity: int = 64) -> None:
        self.truth = truth
        self.tape = TapeWriter(capacity)
        self.machine = FeedMachine(truth.venue, table(truth.book_of), self.tape)
        self.book = PlainBook()
        self.told: list[tuple[object, ...]] = []  # everything the machine was told, to tell it again
        self.hash = hashlib.sha256()
        self.sent = 0  # events that have left the venue
        self.now_ns = 1_000
        self.fetches: list[Fetch] = []
        self.feed = -1
        self.owed_snapshot = False
        self.reopen()

    def tell(self, *call: object) -> None:
        self.now_ns += 7
        self.told.append((*call, self.now_ns))
        name, *arguments = call
        commands: list[Command] = getattr(self.machine, str(name))(*arguments, self.now_ns)
        for command in commands:
            if isinstance(command, Fetch):
                self.fetches.append(command)
            elif isinstance(command, Send) and b"unsubscribe" not in command.payload.lower():
                self.owed_snapshot = isinstance(self.truth.venue.sequencing, SnapshotThenDelta)
        rows = self.tape.take()
        self.hash.update(rows.tobytes())
        self.book.apply(rows)
        self.check()

    def check(self) -> None:
        join = self.machine.joins[0]
        assert self.book.valid == (join.book_id >= 0)
        if self.book.valid:
            expected = self.truth.state_at(join.book_id)
            assert expected is None or self.book.levels == expected

    def reopen(self) -> None:
        if self.feed >= 0:
            self.tell("closed", self.feed, GapReason.DISCONNECT)
        self.feed += 1
        self.tell("opened", self.feed, all_channels(self.truth.venue))

    def step(self, what: str) -> None:
        if what in ("deliver", "drop", "damage") and self.sent < len(self.truth.events):
            frame = self.truth.frame(self.sent)
            self.sent += 1
            if what == "deliver":
                self.tell("frame", self.feed, frame)
            elif what == "damage":
                self.tell("frame", self.feed, frame[: len(frame) // 2])
        elif what == "again" and self.sent > 0:
            self.tell("frame", self.feed, self.truth.frame(self.sent - 1))
        elif what == "reopen":
            self.reopen()
        elif what in ("answer", "stale", "fail") and self.fetches:
            fetch = self.fetches.pop(0)
            events = self.sent if what == "answer" else max(0, self.sent - 3)
            body = rest_depth(self.truth.book_of, self.truth.id_at(events), self.truth.states[events])
            self.tell("answered", fetch, 503 if what == "fail" else 200, {}, b"" if what == "fail" else body)
        elif what == "snapshot" and self.owed_snapshot:
            self.owed_snapshot = False
            self.tell("frame", self.feed, self.truth.snapshot_frame(self.sent))

    def recover(self) -> None:
        """The rest of the stream, well behaved."""
        while self.sent < len(self.truth.events):
            for what in ("snapshot", "deliver", "answer"):
                self.now_ns += 10_000_000_000
                self.step(what)


STEPS = ["deliver"] * 6 + ["drop", "damage", "again", "reopen", "answer", "answer", "stale", "fail", "snapshot"]
draws = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 8), st.integers(0, 7)), min_size=12, max_size=30)


@pytest.mark.parametrize("name", sorted(VENUES))
@settings(max_examples=60)
@given(draws=draws, steps=st.lists(st.sampled_from(STEPS), max_size=40))
def test_a_standing_book_is_the_venues_book_whatever_the_wire_does(
    name: str, draws: list[tuple[int, int, int]], steps: list[str]
) -> None:
    wire = Wire(TrueVenue(VENUES[name], draws))
    for step in steps:
        wire.step(step)
    left = len(wire.truth.events) - wire.sent
    wire.recover()
    if left >= 4:
        assert wire.book.valid, "after four good messages and an answer the book stands again"


@pytest.mark.parametrize("name", sorted(VENUES))
@settings(max_examples=15)
@given(draws=draws, steps=st.lists(st.sampled_from(STEPS), max_size=40))
def test_a_machine_that_is_told_the_same_again_writes_the_same_rows(
    name: str, draws: list[tuple[int, int, int]], steps: list[str]
) -> None:
    wire = Wire(TrueVenue(VENUES[name], draws))
    for step in steps:
        wire.step(step)
    tape = TapeWriter(1)  # another size of room changes nothing either
    machine = FeedMachine(wire.truth.venue, table(wire.truth.book_of), tape)
    for call, *arguments in wire.told:
        getattr(machine, str(call))(*arguments)
    assert hashlib.sha256(tape.take().tobytes()).digest() == wire.hash.digest()
