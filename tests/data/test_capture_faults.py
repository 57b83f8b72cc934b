"""Every fault that a practice venue can play on market data, against a real capture: what is promised of each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest

from oneprice.compute.books import apply_rows, levels, make_books
from oneprice.data import machines
from oneprice.data.capture import Capture
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.rederive import first_divergence
from oneprice.data.session import RecordType, Session, SessionWriter
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.practice import ALL_VENUES, PracticeVenues
from oneprice.model.tape import LAST, GapReason, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S, SystemClock
from oneprice.venues.base import Channel
from oneprice.venues.commands import DEPTH
from oneprice.venues.registry import venue as find_venue
from patience import WITHIN_S

REST_BOOKS = tuple(name for name in ALL_VENUES if find_venue(name).sequencing.joins_rest)
BYBIT = ("bybit_spot", "bybit_linear")
LEVELS = 20
CROSSED_FOR_NS = NS_PER_S // 5  # as the fault says
BTC, ETH = "BTCUSDT", "ETHUSDT"
CHANNELS = (Channel.DEPTH, Channel.QUOTE, Channel.TRADE)
_read_answer = msgspec.json.Decoder(machines.Answer)


def market_of(venue: str) -> str:
    """Whose market and REST calls a venue's streams belong to."""
    return "binance_spot" if venue == "binance_sbe" else venue


def fault_of(venue: str, text: str) -> Fault:
    """`{stream}` and `{rest}`: the venue whose sockets, and whose REST calls, serve a capture."""
    return Fault.parse(text.format(stream=venue, rest=market_of(venue)))


class AnswersToo(SessionWriter):
    """The real recorder; what came by REST can be looked at while it goes on."""

    answers: list[tuple[int, machines.Answer]]

    def frame(self, recv_ns: int, feed: int, type_: RecordType, payload: bytes) -> None:
        super().frame(recv_ns, feed, type_, payload)
        if type_ is RecordType.ANSWER:
            self.answers.append((recv_ns, _read_answer.decode(payload.partition(b"\n")[0])))


class Watched:
    """A running capture: the books that its batches make, and what was seen on the way."""

    def __init__(self, venue: str, practice: PracticeVenues, capture: Capture, writer: AnswersToo) -> None:
        self.venue, self.practice, self.capture, self.writer = venue, practice, capture, writer
        self.books = make_books(len(capture.instruments))
        self.rows: list[Rows] = []
        self.crossed: dict[int, int] = {}  # instrument → venue time at which it was first seen crossed
        self.task: asyncio.Task[None] | None = None
        self._news = asyncio.Event()

    def on_rows(self, rows: Rows) -> None:
        self.rows.append(rows)
        start = 0
        for last in np.flatnonzero(rows["flags"] & LAST):  # message by message: a crossed book may last but one
            apply_rows(self.books, rows, start, int(last) + 1)
            start = int(last) + 1
            for index in np.flatnonzero(self.books.crossed).tolist():
                self.crossed.setdefault(index, int(self.books.ts_venue_ns[index]))
        assert start == len(rows)
        self._news.set()

    def index(self, symbol: str) -> int:
        return self.capture.instruments.index(self.venue, symbol)

    def gaps(self, symbol: str) -> list[GapReason]:
        rows = np.concatenate(self.rows)
        ours = rows[(rows["kind"] == int(Kind.GAP)) & (rows["instrument"] == self.index(symbol))]
        return [GapReason(int(value)) for value in ours["value"]]

    def trade_ids(self, symbol: str) -> list[int]:
        rows = np.concatenate(self.rows)
        ours = rows[(rows["kind"] == int(Kind.TRADE)) & (rows["instrument"] == self.index(symbol))]
        return ours["sequence"].tolist()

    def total(self, field: str) -> int:
        return sum(getattr(feed, field) for feed in self.capture.health())

    def depth_answers(self, status: int) -> list[int]:
        """When snapshots were answered so."""
        return [
            recv_ns for recv_ns, answer in self.writer.answers
            if answer.fetch.purpose == DEPTH and answer.status == status
        ]  # fmt: skip

    def stands(self) -> bool:
        return bool(self.books.valid.all())

    def top(self, symbol: str) -> list[list[tuple[Decimal, Decimal]]]:
        index = self.index(symbol)
        instrument = self.capture.instruments[index]
        sides = []
        for side in (0, 1):
            prices, sizes = np.zeros(LEVELS, dtype=np.int64), np.zeros(LEVELS, dtype=np.int64)
            count = levels(self.books, index, side, prices, sizes)
            shown = zip(prices[:count].tolist(), sizes[:count].tolist(), strict=True)
            sides.append([(instrument.price(price), instrument.qty(size)) for price, size in shown])
        return sides

    def true_top(self, symbol: str) -> list[list[tuple[Decimal, Decimal]]]:
        name = market_of(self.venue)
        book = self.practice.exchanges[name].book(symbol, LEVELS)
        (listed,) = (instrument for instrument in practice_instruments(name) if instrument.symbol == symbol)
        return [[(listed.price(price), listed.qty(size)) for price, size in side] for side in (book.bids, book.asks)]

    def inject(self, text: str) -> None:
        self.practice.faults.inject(fault_of(self.venue, text))

    async def wait_until(self, happened: Callable[[], bool], what: str) -> None:
        """Look again with every batch until something has happened."""
        assert self.task is not None
        try:
            async with asyncio.timeout(WITHIN_S):
                while not happened():
                    assert not self.task.done(), self.task
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.venue}: {what}: not within {WITHIN_S} s; {self.capture.health()}") from None

    async def wait_taken(self, kind: FaultKind, count: int = 1) -> None:
        def happened() -> bool:
            return sum(fault.kind is kind for _, fault in self.practice.faults.taken) >= count

        await self.wait_until(happened, f"{kind} happened {count} times")

    async def wait_repaired(self, symbol: str, *, gaps: int = 1) -> None:
        """The books have been lost so often, and stand again."""
        await self.wait_until(lambda: len(self.gaps(symbol)) >= gaps, f"{gaps} gaps of {symbol}")
        await self.wait_until(self.stands, f"books stand again after {self.gaps(symbol)}")

    async def wait_moved(self) -> None:
        """Depth has come for every book, and some more after that."""
        for _ in range(2):
            ids = self.books.book_id.copy()
            await self.wait_until(lambda ids=ids: bool((self.books.book_id > ids).all()), "books move on")

    async def wait_true_books(self) -> None:
        """Stop the market, let what is under way arrive, and compare."""
        self.practice.market = None
        self.practice.publish()
        exchange = self.practice.exchanges[market_of(self.venue)]
        for symbol in (BTC, ETH):
            index, last_id = self.index(symbol), exchange.book(symbol, 1).last_id
            if self.venue in BYBIT:  # counts its messages, not the market's changes
                await self.wait_until(lambda s=symbol: self.top(s) == self.true_top(s), f"{symbol} is as the market's")
            else:
                await self.wait_until(
                    lambda i=index, id_=last_id: self.books.valid[i] == 1 and self.books.book_id[i] >= id_,
                    f"{symbol} reaches {last_id}",
                )
            ours, theirs = self.top(symbol), self.true_top(symbol)
            assert ours == theirs, (self.venue, symbol)
            assert len(theirs[0]) == len(theirs[1]) == LEVELS
            bid, ask = ours[0][0][0], ours[1][0][0]
            instrument = self.capture.instruments[index]
            assert instrument.price(int(self.books.best_bid[index])) == bid
            assert instrument.price(int(self.books.best_ask[index])) == ask
            assert bid < ask
            assert not self.books.crossed[index]


@asynccontextmanager
async def captured(venue: str, folder: Path, *faults: str, silence_s: float | None = None) -> AsyncIterator[Watched]:
    """A capture of a practice venue that runs and has all its books. Behind the block the books are compared with the
    exchange's, and the raw log with the tape."""
    clock = SystemClock()
    async with (
        PracticeVenues(seed=5, venues=(venue,), faults=[fault_of(venue, text) for text in faults]) as practice,
        aiohttp.ClientSession() as http,
    ):
        plan = CapturePlan(
            venues={venue: VenuePlan(symbols=(BTC, ETH), channels=CHANNELS)},
            endpoints={venue: practice.endpoints[venue]},
        )
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})
        real = find_venue(venue)
        if silence_s is not None:
            for feed in capture._feeds:
                feed.venue = msgspec.structs.replace(real, silence_s=silence_s)
        writer = AnswersToo(folder / "s", capture.instruments, source="capture", created_ns=clock.now_ns())
        writer.answers = []
        watched = Watched(venue, practice, capture, writer)
        watched.task = asyncio.create_task(capture.run(recorder=writer, on_rows=watched.on_rows))
        try:
            await watched.wait_until(watched.stands, "all books stand")
            await watched.wait_moved()  # right after a snapshot, a lost message may have held nothing new
            for feed in capture._feeds:  # only the links that stand now are to be impatient
                feed.venue = real
            assert watched.gaps(BTC) == watched.gaps(ETH) == []
            yield watched
            await watched.wait_true_books()
        finally:
            watched.task.cancel()
            await asyncio.wait([watched.task])
        assert watched.task.cancelled(), watched.task
        writer.close(closed_ns=clock.now_ns())
    session = Session.open(folder / "s")
    assert first_divergence(session) is None
    assert session.check() == []
    taped = np.concatenate(list(session.rows()))
    assert np.array_equal(taped, np.concatenate(watched.rows))
    for symbol in (BTC, ETH):
        numbers = [number for number in watched.trade_ids(symbol) if number]  # Bybit's linear trades have none
        assert len(set(numbers)) == len(numbers), "a trade counts once"


async def on_each(
    venues: tuple[str, ...], folder: Path, scenario: Callable[[Watched], Awaitable[None]], *faults: str,
    silence_s: float | None = None,
) -> None:  # fmt: skip
    """Play a scenario on every venue, each with a market and a capture of its own, side by side: they mostly wait."""

    async def on_one(venue: str) -> None:
        async with captured(venue, folder / venue, *faults, silence_s=silence_s) as watched:
            await scenario(watched)

    async with asyncio.TaskGroup() as tasks:
        for venue in venues:
            tasks.create_task(on_one(venue))


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Everything compiled is compiled before anything is waited for: a cold cache is no fault of a venue's."""

    async def once(venue: str) -> None:
        async with captured(venue, tmp_path_factory.mktemp(venue)):
            pass

    for venue in ALL_VENUES:
        asyncio.run(once(venue))


# -- the streams ------------------------------------------------------------------------------------------------------


async def test_without_a_fault_no_book_is_ever_lost_or_crossed(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        await watched.wait_moved()
        assert watched.gaps(BTC) == watched.gaps(ETH) == []
        assert watched.crossed == {}

    await on_each(ALL_VENUES, tmp_path, scenario)


async def test_a_lost_connection_is_a_gap_of_every_book_and_comes_back(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        watched.inject("disconnect@{stream}")
        for symbol in (BTC, ETH):
            await watched.wait_repaired(symbol)
        await watched.wait_until(lambda: watched.total("resyncs") == 2, "both books joined again")
        assert watched.gaps(BTC) == watched.gaps(ETH) == [GapReason.DISCONNECT]
        assert watched.total("reconnects") == len(watched.capture.feed_plans)

    await on_each(ALL_VENUES, tmp_path, scenario)


async def test_an_announced_end_is_answered_with_a_replacement_and_loses_no_book(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        watched.inject("shutdown_notice@{stream},for=8")
        feeds = len(watched.capture.feed_plans)
        await watched.wait_until(lambda: watched.total("replacements") == feeds, "every link replaced")
        await watched.wait_moved()
        assert watched.total("reconnects") == 0
        if watched.venue in REST_BOOKS:
            assert watched.gaps(BTC) == watched.gaps(ETH) == []

    announcing = tuple(name for name in ALL_VENUES if name not in BYBIT)  # Bybit just closes
    await on_each(announcing, tmp_path, scenario)


async def test_a_venue_that_announces_its_end_does_close(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        watched.inject("shutdown_notice@{stream},for=0")
        feeds = len(watched.capture.feed_plans)
        await watched.wait_until(lambda: watched.total("reconnects") == feeds, "every link lost")
        for symbol in (BTC, ETH):
            await watched.wait_repaired(symbol)
        await watched.wait_moved()

    await on_each(ALL_VENUES, tmp_path, scenario)


@pytest.mark.parametrize("kind", ["gap", "reorder", "corrupt_frame"])
async def test_a_broken_chain_is_a_gap_of_that_book_alone_and_is_repaired(kind, tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        watched.inject(f"{kind}@{{stream}}:{BTC}")
        await watched.wait_repaired(BTC)
        await watched.wait_moved()
        assert watched.gaps(BTC) == [GapReason.SEQUENCE]
        assert watched.gaps(ETH) == []
        assert watched.total("resyncs") == 1
        assert watched.total("reconnects") == 0
        assert watched.total("rejected") == (kind == "corrupt_frame")

    await on_each(ALL_VENUES, tmp_path, scenario)


async def test_a_message_that_comes_twice_is_ignored(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        before = watched.total("ignored")
        watched.inject(f"duplicate@{{stream}}:{BTC},count=3")
        await watched.wait_until(lambda: watched.total("ignored") >= before + 3, "three duplicates ignored")
        await watched.wait_moved()
        assert watched.gaps(BTC) == watched.gaps(ETH) == []

    await on_each(ALL_VENUES, tmp_path, scenario)


async def test_a_crossed_book_is_shown_as_such_until_the_venue_takes_it_back(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        btc = watched.index(BTC)
        watched.inject(f"crossed_book@{{stream}}:{BTC}")
        await watched.wait_until(lambda: btc in watched.crossed, "crossed")
        # The market may move past the false bid before the venue takes it back, so crossed or not does not tell.
        taken_back_ns = watched.crossed[btc] + CROSSED_FOR_NS + NS_PER_MS
        await watched.wait_until(lambda: watched.books.ts_venue_ns[btc] >= taken_back_ns, "taken back")
        await watched.wait_moved()
        assert set(watched.crossed) == {btc}
        assert watched.gaps(ETH) == []

    await on_each(ALL_VENUES, tmp_path, scenario)


async def test_a_stream_that_falls_silent_is_noticed_and_opened_anew(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        watched.inject("stall@{stream},for=3")
        for symbol in (BTC, ETH):
            await watched.wait_repaired(symbol)
            assert watched.gaps(symbol)[0] is GapReason.STALE
        feeds = len(watched.capture.feed_plans)
        await watched.wait_until(lambda: watched.total("silences") == feeds, "every feed's silence noticed")
        ids = len(watched.trade_ids(BTC))
        await watched.wait_until(lambda: len(watched.trade_ids(BTC)) > ids, "data flows again")
        await watched.wait_moved()
        assert watched.total("reconnects") == feeds

    await on_each(ALL_VENUES, tmp_path, scenario, silence_s=1.5)


# -- REST -------------------------------------------------------------------------------------------------------------


async def test_a_snapshot_older_than_the_stream_is_asked_for_again_until_it_meets(tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        asked = len(watched.depth_answers(200))
        watched.inject(f"stale_snapshot@{{rest}}:{BTC},count=2")
        watched.inject(f"gap@{{stream}}:{BTC}")
        await watched.wait_taken(FaultKind.STALE_SNAPSHOT, 2)
        await watched.wait_repaired(BTC)
        await watched.wait_moved()
        assert len(watched.depth_answers(200)) >= asked + 3
        assert watched.gaps(ETH) == []

    await on_each(REST_BOOKS, tmp_path, scenario)


@pytest.mark.parametrize(("kind", "status"), [("http_429", 429), ("http_5xx", 503)])
async def test_a_refused_snapshot_is_asked_for_again_when_the_venue_lets_us(kind, status, tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        while not watched.depth_answers(status):  # the probe of the clock may be the call that is refused
            gaps = len(watched.gaps(BTC))
            watched.inject(f"{kind}@{{rest}}")
            watched.inject(f"gap@{{stream}}:{BTC}")
            await watched.wait_repaired(BTC, gaps=gaps + 1)
            await watched.wait_moved()
        answers = watched.writer.answers
        told = [recv_ns for recv_ns, answer in answers if answer.status == status]
        refused = [then_ns for then_ns, fault in watched.practice.faults.taken if fault.kind == kind]
        asks_for_s = 1 if status == 429 else 0  # the venue's Retry-After
        for told_ns, refused_ns in zip(told, refused, strict=True):
            later = [answer.fetch.sent_ns for _, answer in answers if answer.fetch.sent_ns > told_ns]
            assert min(later) >= refused_ns + asks_for_s * NS_PER_S
        assert watched.gaps(ETH) == []

    await on_each(REST_BOOKS, tmp_path, scenario)


@pytest.mark.parametrize("ahead_s", [0.5, 30.0])
async def test_a_venues_clock_that_is_ahead_shows_as_the_offset(ahead_s, tmp_path) -> None:
    async def scenario(watched: Watched) -> None:
        await watched.wait_until(lambda: watched.capture.clock_offset_ms(watched.venue) is not None, "a probe")
        rows = np.concatenate(watched.rows)
        clock = rows[rows["kind"] == int(Kind.CLOCK)]
        for offset_ms, trip_ns in zip(clock["value"], clock["sequence"], strict=True):
            # The venue tells whole milliseconds, and the middle of a round trip is wrong by half of it at most.
            assert abs(offset_ms + ahead_s * 1e3) <= 1.0 + trip_ns / 2e6
        assert watched.capture.clock_offset_ms(watched.venue) in clock["value"]

    await on_each(ALL_VENUES, tmp_path, scenario, f"clock_skew@{{rest}},for={ahead_s}")
