"""The feed machine, event by event: what goes on the tape and what is asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from feed_world import MS, VENUES, PlainBook, all_channels, depth_rows, instrument, rest_depth, table, trade_frame

from oneprice.model.errors import InputError
from oneprice.model.tape import ASK, LAST, GapReason, Kind, Rows, TapeWriter
from oneprice.venues.base import Channel, Venue
from oneprice.venues.feed import Command, FeedMachine, Fetch, Reconnect, Send, decode_frame
from shared_data import shared

SPOT, USDM, LINEAR, SBE = (VENUES[name] for name in ("binance_spot", "binance_usdm", "bybit_linear", "binance_sbe"))


class World:
    """One venue, one instrument, connection 0 open."""

    def __init__(self, venue: Venue) -> None:
        self.venue = venue
        self.book_of = instrument(venue)
        self.tape = TapeWriter()
        self.machine = FeedMachine(venue, table(self.book_of), self.tape)
        self.opening = self.machine.opened(0, all_channels(venue), 1)

    def diff(self, first: int, last: int, *, previous: int = -1, whole: bool = False, price: int = 100_00) -> bytes:
        return self.venue.encode.depth(
            self.book_of, depth_rows([(0, price, last)], sequence=last), first_id=first, last_id=last,
            previous_id=previous, is_snapshot=whole, ts_ns=MS,
        )  # fmt: skip

    def standing_at(self, book_id: int) -> World:
        """With a joined book and nothing else on the tape."""
        if self.venue.sequencing.joins_rest:
            fetch = only(self.machine.frame(0, self.diff(book_id, book_id, previous=book_id - 1), 2))
            answer = rest_depth(self.book_of, book_id, {(0, 99_00): 5, (ASK, 101_00): 5})
            assert not self.machine.answered(fetch, 200, {}, answer, 3)
        else:
            assert not self.machine.frame(0, self.diff(book_id, book_id, whole=True), 2)
        assert PlainBook().apply(self.tape.take()).book_id == book_id
        return self


def only(commands: Sequence[Command]) -> Fetch:
    (fetch,) = commands
    assert isinstance(fetch, Fetch)
    return fetch


def kinds(rows: Rows) -> list[Kind]:
    return [Kind(int(kind)) for kind in rows["kind"]]


def test_opening_subscribes_in_batches_and_each_topic_once() -> None:
    world = World(LINEAR)
    assert [type(command) for command in world.opening] == [Send]
    machine = FeedMachine(VENUES["bybit_spot"], table(), TapeWriter())
    assert machine.opened(1, [], 1) == []
    wanted = [*all_channels(LINEAR), *(s for s in all_channels(LINEAR) if s.channel is Channel.DEPTH)]
    both = [type(wanted[0])(channel=channel, symbol="BTCUSDT") for channel in (Channel.MARK, Channel.OPEN_INTEREST)]
    world.machine.closed(0, GapReason.DISCONNECT, 2)
    (send,) = world.machine.opened(1, wanted + both, 3)
    assert isinstance(send, Send)
    args = json.loads(send.payload)["args"]
    assert len(args) == len(set(args)), "mark and open interest share a topic"
    with pytest.raises(InputError, match="already open"):
        world.machine.opened(1, wanted, 4)


@pytest.mark.parametrize("venue", [SPOT, USDM, SBE], ids=lambda venue: venue.name)
def test_a_gap_is_one_row_and_the_book_waits_for_a_snapshot(venue: Venue) -> None:
    world = World(venue).standing_at(50)
    fetch = only(world.machine.frame(0, world.diff(60, 61, previous=59), 10))
    assert fetch.purpose == "depth"
    assert fetch.after_s == 0.0
    for step in range(3):  # further messages are kept, and nobody is asked twice
        following = world.diff(62 + step, 62 + step, previous=61 + step, price=100_00 + step)
        assert not world.machine.frame(0, following, 11 + step)
    rows = world.tape.take()
    assert kinds(rows) == [Kind.GAP]
    assert rows[0]["value"] == float(GapReason.SEQUENCE)
    assert (int(rows[0]["sequence"]), int(rows[0]["price"]), int(rows[0]["qty"])) == (50, 51, 60)
    assert not world.machine.answered(fetch, 200, {}, rest_depth(world.book_of, 61, {(0, 99_00): 9}), 20)
    rows = world.tape.take()
    assert set(rows["ts_recv_ns"]) == {20}, "what was kept is learned with the snapshot"
    book = PlainBook().apply(rows)
    assert (book.valid, book.book_id) == (True, 64)
    assert (world.machine.statistics.gaps, world.machine.statistics.resyncs) == (1, 1)
    assert not world.machine.frame(0, world.diff(65, 65, previous=64), 30)
    assert kinds(world.tape.take()) == [Kind.DEPTH]


def test_a_gap_in_a_stream_with_snapshots_subscribes_anew() -> None:
    world = World(LINEAR).standing_at(50)
    unsubscribe, subscribe = world.machine.frame(0, world.diff(53, 53), 10)
    assert isinstance(unsubscribe, Send)
    assert isinstance(subscribe, Send)
    assert json.loads(unsubscribe.payload)["op"] == "unsubscribe"
    assert json.loads(subscribe.payload)["args"] == ["orderbook.50.BTCUSDT"]
    assert not world.machine.frame(0, world.diff(54, 54), 11), "the snapshot is on its way"
    assert len(world.machine.frame(0, world.diff(55, 55), 11 + 6_000_000_000)) == 2, "it never came"
    assert kinds(world.tape.take()) == [Kind.GAP]
    assert not world.machine.frame(0, world.diff(80, 80, whole=True), 12 + 6_000_000_000)
    assert PlainBook().apply(world.tape.take()).book_id == 80


def test_a_snapshot_that_does_not_join_is_fetched_again_later_and_later() -> None:
    world = World(SPOT)
    fetch = only(world.machine.frame(0, world.diff(100, 101), 2))
    waits = []
    for step in range(9):
        stale = rest_depth(world.book_of, 50 + step, {(0, 99_00): 5})
        fetch = only(world.machine.answered(fetch, 200, {}, stale, 3 + step))
        waits.append(fetch.after_s)
    assert waits == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]
    assert world.tape.n == 0
    assert not world.machine.answered(fetch, 200, {}, rest_depth(world.book_of, 100, {}), 20)
    assert PlainBook().apply(world.tape.take()).book_id == 101


def test_a_refused_or_lost_snapshot_is_fetched_again_when_the_venue_allows() -> None:
    world = World(SPOT)
    fetch = only(world.machine.frame(0, world.diff(100, 101), 2))
    fetch = only(world.machine.answered(fetch, 429, {"Retry-After": "17"}, b'{"code":-1003,"msg":"busy"}', 3))
    assert fetch.after_s == 17.0
    fetch = only(world.machine.answered(fetch, 0, {}, b"", 4))
    fetch = only(world.machine.answered(fetch, 200, {}, b"<html>", 5))
    assert world.machine.rejections == {"depth answer": 3}
    assert not world.machine.answered(fetch, 200, {}, rest_depth(world.book_of, 101, {}), 6)
    assert PlainBook().apply(world.tape.take()).valid, "an empty book is a book"


def test_a_quiet_book_is_fetched_when_the_subscription_is_acknowledged() -> None:
    world = World(SPOT)
    fetch = only(world.machine.frame(0, b'{"result":null,"id":1}', 2))
    assert not world.machine.answered(fetch, 200, {}, rest_depth(world.book_of, 100, {(0, 99_00): 5}), 3)
    assert PlainBook().apply(world.tape.take()).valid
    assert not world.machine.frame(0, world.diff(99, 103), 4), "the first message straddles the snapshot"
    assert PlainBook().apply(world.tape.rows[: world.tape.n][:0]).book_id == -1
    assert kinds(world.tape.take()) == [Kind.DEPTH]


def test_a_first_message_that_does_not_join_is_a_gap() -> None:
    world = World(USDM)
    fetch = only(world.machine.frame(0, b'{"result":null,"id":1}', 2))
    assert not world.machine.answered(fetch, 200, {}, rest_depth(world.book_of, 100, {(0, 99_00): 5}), 3)
    assert not world.machine.frame(0, world.diff(90, 99, previous=80), 4), "older than the snapshot: dropped"
    only(world.machine.frame(0, world.diff(130, 140, previous=120), 5))
    assert kinds(world.tape.take()) == [Kind.DEPTH, Kind.GAP]


def test_a_disconnect_ends_every_book_of_its_connection_and_no_other() -> None:
    one, two = instrument(SPOT), instrument(SPOT, "ETHUSDT")
    tape = TapeWriter()
    machine = FeedMachine(SPOT, table(one, two), tape)
    for feed, book_of in ((0, one), (1, two)):
        machine.opened(feed, all_channels(SPOT, book_of.symbol), 1)
        rows = depth_rows([(0, 100_00, 1)], sequence=10)
        frame = SPOT.encode.depth(book_of, rows, first_id=10, last_id=10, previous_id=-1, ts_ns=MS)
        machine.answered(only(machine.frame(feed, frame, 2)), 200, {}, rest_depth(book_of, 10, {}), 3)
    tape.take()
    late = only(machine.lost(1, GapReason.OVERLOAD, 4) or machine.frame(1, frame, 5))
    assert not machine.closed(1, GapReason.STALE, 6)
    assert not machine.closed(0, GapReason.DISCONNECT, 7)
    rows = tape.take()
    assert rows["instrument"].tolist() == [1, 0]
    assert rows["value"].tolist() == [float(GapReason.OVERLOAD), float(GapReason.DISCONNECT)], "invalid only once"
    assert not machine.wants(late)
    assert not machine.answered(late, 200, {}, rest_depth(two, 10, {}), 8), "asked for by a connection that is gone"
    assert tape.n == 0
    assert machine.statistics.gaps == 2
    assert machine.statistics.frames == 3


def test_a_replacement_brings_nothing_twice_and_takes_the_books_over() -> None:
    world = World(SPOT).standing_at(50)
    machine = world.machine
    assert [type(command) for command in machine.opened(1, all_channels(SPOT), 10)] == [Send]
    assert not machine.frame(1, trade_frame(SPOT, world.book_of, 7), 11)
    assert not machine.frame(0, trade_frame(SPOT, world.book_of, 7), 12)
    assert kinds(world.tape.take()) == [Kind.TRADE], "one trade, though two connections brought it"
    assert not machine.frame(1, world.diff(51, 51), 13), "whoever is first moves the book on"
    assert not machine.frame(0, world.diff(51, 51), 14)
    assert not machine.frame(1, world.diff(53, 53), 15), "a hole on the replacement is not a gap of the book"
    assert not machine.frame(0, world.diff(52, 52), 16)
    assert not machine.frame(0, world.diff(53, 53), 17)
    assert not machine.closed(0, GapReason.DISCONNECT, 18)
    assert not machine.frame(1, world.diff(54, 54), 19)
    assert not machine.frame(1, trade_frame(SPOT, world.book_of, 8), 20)
    rows = world.tape.take()
    assert kinds(rows) == [Kind.DEPTH] * 4 + [Kind.TRADE]
    assert machine.statistics.gaps == 0


def test_a_replacement_of_a_stream_with_snapshots_has_them_sent_again() -> None:
    world = World(LINEAR).standing_at(50)
    machine = world.machine
    machine.opened(1, all_channels(LINEAR), 10)
    assert not machine.frame(1, world.diff(1, 1, whole=True), 11), "the replacement may not restart the book"
    commands = machine.closed(0, GapReason.DISCONNECT, 12)
    assert [command.feed for command in commands if isinstance(command, Send)] == [1, 1]
    assert kinds(world.tape.take()) == [Kind.GAP]
    assert not machine.frame(1, world.diff(2, 2, whole=True), 13)
    assert PlainBook().apply(world.tape.take()).book_id == 2


def test_a_replacement_that_dies_first_changes_nothing() -> None:
    world = World(SPOT).standing_at(50)
    world.machine.opened(1, all_channels(SPOT), 10)
    assert not world.machine.closed(1, GapReason.DISCONNECT, 11)
    assert not world.machine.frame(0, world.diff(51, 51), 12)
    assert kinds(world.tape.take()) == [Kind.DEPTH]


def test_what_cannot_be_used_is_counted_by_reason_and_kept_aside() -> None:
    world = World(SPOT).standing_at(50)
    good = world.diff(51, 51)
    frames = {
        "malformed": good[:60],
        "unknown symbol": good.replace(b'"BTCUSDT"', b'"XYZUSDT"'),
        "venue error": b'{"code":2,"msg":"Invalid request: unknown property","id":1}',
    }
    for step, frame in enumerate(frames.values()):
        assert not world.machine.frame(0, frame, 10 + step)
    assert world.machine.rejections == dict.fromkeys(frames, 1)
    assert [kept.payload for kept in world.machine.rejected] == list(frames.values())
    assert "btcusdt@depth@100ms" in world.machine.rejected[-1].reason, "an error names what was asked for"
    assert world.machine.notices[-1].kind == "error"
    assert world.tape.n == 0
    for step in range(500):
        world.machine.frame(0, b"{", 100 + step)
    assert len(world.machine.rejected) == 100
    assert world.machine.statistics.rejected == 503


def test_a_damaged_depth_message_is_a_gap_as_soon_as_the_next_one_does_not_follow() -> None:
    world = World(SPOT).standing_at(50)
    world.machine.frame(0, world.diff(51, 51)[:60], 10)
    assert world.tape.n == 0
    only(world.machine.frame(0, world.diff(52, 52), 11))
    assert kinds(world.tape.take()) == [Kind.GAP]


@pytest.mark.parametrize("venue", [SPOT, SBE, USDM, LINEAR], ids=lambda venue: venue.name)
def test_a_number_finer_than_the_rules_ends_the_book_at_once(venue: Venue) -> None:
    world = World(venue).standing_at(50)
    finer = instrument(venue, price=-5)
    rows = depth_rows([(0, 100_00_001, 7)], sequence=51)
    coarse = table(instrument(venue, qty=-3))
    frame = venue.encode.depth(finer, rows, first_id=51, last_id=51, previous_id=50, is_snapshot=False, ts_ns=MS)
    world.machine.frame(0, frame, 10)
    rows = world.tape.take()
    assert kinds(rows) == [Kind.GAP]
    assert rows[0]["value"] == float(GapReason.CORRUPT)
    assert world.machine.rejections == {"inexact": 1}
    assert decode_frame(venue, coarse, frame, TapeWriter())[0] == "inexact"


def test_an_announced_shutdown_asks_for_a_replacement() -> None:
    frame = shared("data/wire/binance_spot/server_shutdown_combined.json").read_bytes().strip()
    (command,) = World(SPOT).machine.frame(0, frame, 5)
    assert isinstance(command, Reconnect)
    assert command.feed == 0


def test_pongs_and_acknowledgements_are_not_data() -> None:
    world = World(LINEAR)
    for frame in ("pong_linear.json", "subscribe_ack_linear.json"):
        assert not world.machine.frame(0, shared(f"data/wire/bybit/channels/{frame}").read_bytes(), 5)
    assert world.machine.statistics_of(0).data_ns == 0
    assert not world.machine.rejections
    world.machine.frame(0, world.diff(5, 5, whole=True), 6)
    assert world.machine.statistics_of(0).data_ns == 6


def test_polled_open_interest_and_clock_probes_are_rows() -> None:
    world = World(USDM)
    poll = world.machine.poll(Channel.OPEN_INTEREST, 0)
    assert poll is not None
    answer = b'{"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}'
    assert not world.machine.answered(poll, 200, {}, answer, 10 * MS)
    probe = world.machine.probe()
    sent = type(probe)(
        purpose=probe.purpose, instrument=-1, request=probe.request, sent_ns=1_589_437_530_000 * MS
    )  # fmt: skip
    recv_ns = 1_589_437_530_008 * MS
    assert not world.machine.answered(sent, 200, {}, b'{"serverTime":1589437531274}', recv_ns)
    interest, clock = world.tape.take()
    assert (Kind(int(interest["kind"])), float(interest["value"])) == (Kind.OPEN_INTEREST, 10659.509)
    assert int(interest["ts_venue_ns"]) == 1_589_437_530_011 * MS
    assert Kind(int(clock["kind"])) is Kind.CLOCK
    assert int(clock["sequence"]) == 8 * MS
    assert float(clock["value"]) == -1270.0, "the local clock is behind"
    assert World(SPOT).machine.poll(Channel.OPEN_INTEREST, 0) is None
    world.machine.answered(poll, 500, {}, b"", 11 * MS)
    assert world.machine.rejections == {"open_interest answer": 1}


def test_depth_of_a_connection_that_did_not_subscribe_to_it_starts_a_book() -> None:
    tape = TapeWriter()
    book_of = instrument(SPOT)
    machine = FeedMachine(SPOT, table(book_of), tape)
    machine.opened(3, [], 1)
    rows = depth_rows([(0, 100_00, 1)], sequence=10)
    frame = SPOT.encode.depth(book_of, rows, first_id=10, last_id=10, previous_id=-1, ts_ns=MS)
    fetch = only(machine.frame(3, frame, 2))
    assert not machine.answered(fetch, 200, {}, rest_depth(book_of, 10, {(0, 99_00): 5}), 3)
    book = PlainBook().apply(tape.take())
    assert book.valid
    assert not machine.closed(3, GapReason.DISCONNECT, 4)
    machine.opened(4, [], 5)
    only(machine.frame(4, frame, 6))


def test_rows_of_a_message_are_whole_even_where_the_tape_had_no_room() -> None:
    world = World(LINEAR)
    tight = FeedMachine(LINEAR, table(world.book_of), TapeWriter(1))
    tight.opened(0, all_channels(LINEAR), 1)
    levels = [(side, 100_00 + place, 5) for side in (0, ASK) for place in range(200)]
    frame = LINEAR.encode.depth(
        world.book_of, depth_rows(levels, sequence=9), first_id=9, last_id=9, previous_id=-1, is_snapshot=True, ts_ns=MS
    )
    for machine in (world.machine, tight):
        assert not machine.frame(0, frame, 5)
    rows = world.tape.take()
    assert rows.tobytes() == tight.tape.take().tobytes()
    assert len(rows) == 400
    assert rows["flags"][-1] & LAST
