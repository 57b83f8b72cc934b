"""Polling of marks: on a fixed grid, never made up for, never back-dated; and it tells what the stream tells."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest
from aiohttp import web
from loopback import LoopbackVenue, TurnedClock, eventually

from oneprice.data.capture import Capture
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.rederive import first_divergence
from oneprice.data.session import RecordType, Session, SessionWriter
from oneprice.emulator.practice import PracticeVenues
from oneprice.model.tape import Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S, ScaledClock, SystemClock
from oneprice.venues.base import Channel
from oneprice.venues.commands import MARK
from shared_data import shared

USDM = "binance_usdm"
PREMIUM = "/fapi/v1/premiumIndex"
SYMBOLS = ("BTCUSDT", "ETHUSDT")
EVERY_S = 3.0
EVERY_NS = int(EVERY_S * NS_PER_S)
STEP_S = 0.02  # how far the clock is turned at a time: no sleeper wakes later than so
VENUE_BEHIND_MS = 1_270


class Polling:
    """A capture that polls two perpetuals of a venue on loopback, under a clock that the test turns."""

    def __init__(self, server: LoopbackVenue, clock: TurnedClock, folder: Path) -> None:
        self.server, self.clock, self.folder = server, clock, folder
        self.refuses = False
        self.said_ms: list[int] = []  # the venue's times of its answers

    def premium_index(self, request: web.Request) -> web.Response:
        if self.refuses:
            return web.json_response({"code": -1003, "msg": "slow"}, status=429, headers={"Retry-After": "10"})
        self.said_ms.append(self.clock.now_ns() // NS_PER_MS - VENUE_BEHIND_MS)
        return web.json_response(
            {
                "symbol": request.query["symbol"], "markPrice": "100.5", "indexPrice": "100.25",
                "lastFundingRate": "0.0001", "nextFundingTime": 1_700_006_400_000, "time": self.said_ms[-1],
            }
        )  # fmt: skip

    async def turn_for(self, seconds: float) -> None:
        until_ns = self.clock.now_ns() + int(seconds * NS_PER_S)
        await self.clock.turn_until(lambda: self.clock.now_ns() >= until_ns, step_s=STEP_S)

    def asked(self) -> int:
        return sum(path.startswith(PREMIUM) for path in self.server.asked)

    def sent_ns(self) -> dict[int, list[int]]:
        """When each instrument was asked for, from the raw log."""
        sent: dict[int, list[int]] = defaultdict(list)
        for record in Session.open(self.folder).records():
            if record.type is RecordType.ANSWER:
                fetch = msgspec.json.decode(record.payload.partition(b"\n")[0])["fetch"]
                if fetch["purpose"] == MARK:
                    sent[fetch["instrument"]].append(fetch["sent_ns"])
        return sent

    def marks(self) -> Rows:
        rows = np.concatenate(list(Session.open(self.folder).rows()))
        return rows[rows["kind"] == int(Kind.MARK)]


@asynccontextmanager
async def polling(folder: Path) -> AsyncIterator[Polling]:
    """Runs inside the block; the session is there to be read behind it."""
    clock = TurnedClock()
    async with LoopbackVenue.running() as server, aiohttp.ClientSession() as http:
        run = Polling(server, clock, folder)
        listing = shared("data/wire/binance_usdm/rest_instruments.json").read_bytes()
        server.answers |= {
            "/fapi/v1/exchangeInfo": lambda _: web.Response(body=listing, content_type="application/json"),
            "/fapi/v1/fundingInfo": lambda _: web.json_response([]),
            "/fapi/v1/time": lambda _: web.json_response({"serverTime": clock.now_ns() // NS_PER_MS}),
            PREMIUM: run.premium_index,
        }
        wanted = VenuePlan(symbols=SYMBOLS, channels=(Channel.MARK,), polled={Channel.MARK: EVERY_S})
        plan = CapturePlan(venues={USDM: wanted}, endpoints={USDM: server.endpoints})
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(2), environ={})
        assert capture.feed_plans == (), "what is polled is not subscribed to"
        writer = SessionWriter(folder, capture.instruments, source="capture", created_ns=clock.now_ns())
        task = asyncio.create_task(capture.run(recorder=writer))
        yield run
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task
        writer.close(closed_ns=clock.now_ns())
    assert first_divergence(Session.open(folder)) is None


def slots(sent_ns: list[int], offset_ns: int) -> list[int]:
    """Numbers of the grid's times at which was asked; each was kept to the clock's step."""
    for ns in sent_ns:
        assert (ns - offset_ns) % EVERY_NS < 2 * STEP_S * NS_PER_S
    return [(ns - offset_ns) // EVERY_NS for ns in sent_ns]


async def test_each_instrument_is_asked_for_once_at_each_time_of_its_grid(tmp_path: Path) -> None:
    async with polling(tmp_path / "S") as run:
        await run.turn_for(6 * EVERY_S)
    sent = run.sent_ns()
    assert sorted(sent) == [0, 1]
    for instrument, times in sent.items():  # of two, each has half a period to itself
        numbers = slots(times, instrument * EVERY_NS // 2)
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        assert len(numbers) >= 5
    marks = run.marks()
    assert (marks["ts_venue_ns"] // NS_PER_MS).tolist() == run.said_ms[: len(marks)]


async def test_a_late_answer_keeps_its_own_time_and_the_next_poll_is_on_the_grid_again(tmp_path: Path) -> None:
    async with polling(tmp_path / "S") as run:
        await run.turn_for(2.2 * EVERY_S)
        before, run.server.holds = run.asked(), asyncio.Event()
        held_ns = run.clock.now_ns()
        await run.turn_for(3.4 * EVERY_S)
        assert run.asked() == before + len(SYMBOLS), "nothing is asked while the answer before has not come"
        came_ns = run.clock.now_ns()
        run.server.holds.set()
        run.server.holds = None
        await eventually(lambda: len(run.said_ms) >= before + len(SYMBOLS))
        await run.turn_for(2.2 * EVERY_S)
    for instrument, times in run.sent_ns().items():
        numbers = slots(times, instrument * EVERY_NS // 2)
        steps = np.diff(numbers).tolist()
        assert sorted(steps)[:-1] == [1] * (len(steps) - 1), "what was missed is not made up for"
        assert max(steps) in (3, 4)
    marks = run.marks()
    assert not ((marks["ts_recv_ns"] > held_ns) & (marks["ts_recv_ns"] < came_ns)).any()
    assert (np.diff(marks["ts_recv_ns"]) >= 0).all()
    late = marks[marks["ts_recv_ns"] >= came_ns][: len(SYMBOLS)]
    assert (late["ts_venue_ns"] // NS_PER_MS >= came_ns // NS_PER_MS - VENUE_BEHIND_MS).all(), "the answer's own time"
    assert set((marks["ts_venue_ns"] // NS_PER_MS).tolist()) <= set(run.said_ms)


async def test_a_ban_leaves_polls_out_and_nothing_waits_for_its_end(tmp_path: Path) -> None:
    async with polling(tmp_path / "S") as run:
        await run.turn_for(2.2 * EVERY_S)
        run.refuses = True
        before = run.asked()
        await run.turn_for(1.2 * EVERY_S)
        assert run.asked() == before + 1, "the answer that bans is the last one for ten seconds"
        run.refuses = False
        await run.turn_for(10.0 + 1.2 * EVERY_S)
    all_sent = sorted((ns, instrument) for instrument, times in run.sent_ns().items() for ns in times)
    waits_ns = np.diff([ns for ns, _ in all_sent])
    assert (waits_ns > 10 * NS_PER_S).sum() == 1
    assert waits_ns.min() > EVERY_NS // 2 - 2 * STEP_S * NS_PER_S, "after the ban each has its own time again"
    for instrument, times in run.sent_ns().items():
        numbers = slots(times, instrument * EVERY_NS // 2)
        assert len(set(numbers)) == len(numbers)


# -- stream and poll ------------------------------------------------------------------------------------------------------

FUNDING_KINDS = (int(Kind.MARK), int(Kind.INDEX), int(Kind.FUNDING))
MARKS_EVERY_NS = NS_PER_S  # the practice market makes new marks so often
Reading = tuple[float, int]  # value, next funding time


class Told:
    """What a capture says of mark, index and funding: (instrument, kind) → venue time and value of each row."""

    def __init__(self) -> None:
        self.said: dict[tuple[int, int], list[tuple[int, Reading]]] = defaultdict(list)

    def on_rows(self, rows: Rows) -> None:
        for row in rows[np.isin(rows["kind"], FUNDING_KINDS)]:
            said = self.said[int(row["instrument"]), int(row["kind"])]
            value, next_ns = float(row["value"]), int(row["sequence"])
            if said and np.isnan(value):  # left out: as it was
                value = said[-1][1][0]
            if said and next_ns == 0:
                next_ns = said[-1][1][1]
            said.append((int(row["ts_venue_ns"]), (value, next_ns)))

    def count(self) -> int:
        """Of the one of all that was told least often."""
        return min((len(said) for said in self.said.values()), default=0) if len(self.said) == 6 else 0

    def between(self, key: tuple[int, int], from_ns: int, to_ns: int) -> set[Reading]:
        """What held at any time from one to another: it holds until another is told."""
        before = [reading for ns, reading in self.said[key] if ns < from_ns][-1:]
        return {*before, *(reading for ns, reading in self.said[key] if from_ns <= ns <= to_ns)}


@pytest.mark.parametrize("name", ["binance_usdm", "bybit_linear"])
async def test_stream_and_poll_tell_the_same_within_one_interval(name: str, tmp_path: Path) -> None:
    clock = ScaledClock(speed=1.0, start_ns=SystemClock().now_ns())  # waits for a market that a busy machine holds up
    streamed, polled = Told(), Told()
    async with PracticeVenues(seed=11, venues=(name,), clock=clock) as practice, aiohttp.ClientSession() as http:

        async def prepared(polls: dict[Channel, float]) -> Capture:
            wanted = VenuePlan(symbols=SYMBOLS, channels=(Channel.MARK,), polled=polls)
            plan = CapturePlan(venues={name: wanted}, endpoints=practice.endpoints)
            return await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})

        by_stream, by_poll = await prepared({}), await prepared({Channel.MARK: 0.5})
        writer = SessionWriter(tmp_path / "S", by_poll.instruments, source="capture", created_ns=clock.now_ns())
        streaming = asyncio.create_task(by_stream.run(on_rows=streamed.on_rows))
        await eventually(lambda: streaming.done() or streamed.count() >= 2)
        asking = asyncio.create_task(by_poll.run(recorder=writer, on_rows=polled.on_rows))
        await eventually(lambda: asking.done() or polled.count() >= 6)
        asking.cancel()
        await asyncio.wait([asking])
        enough = streamed.count() + 1
        await eventually(lambda: streaming.done() or streamed.count() >= enough)
        streaming.cancel()
        await asyncio.wait([streaming])
        assert asking.cancelled(), asking
        assert streaming.cancelled(), streaming
        writer.close(closed_ns=clock.now_ns())
    assert first_divergence(Session.open(tmp_path / "S")) is None
    for key, readings in polled.said.items():
        for ns, reading in readings:
            assert reading in streamed.between(key, ns - MARKS_EVERY_NS, ns + MARKS_EVERY_NS), (key, ns)
    marks = {reading for (_, kind), said in polled.said.items() if kind == int(Kind.MARK) for _, reading in said}
    assert len(marks) > len(SYMBOLS), "the marks moved, or the two would agree whatever they said"
