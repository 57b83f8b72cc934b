"""Feeds over real sockets on loopback, with a clock that the test turns."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from loopback import LoopbackVenue, TurnedClock, eventually

from oneprice.data.budget import Budget
from oneprice.data.connection import Feed, Link
from oneprice.data.plan import FeedPlan
from oneprice.model.tape import GapReason
from oneprice.venues.base import Ping
from patience import WITHIN_S

DATA = "data:"  # what the sink below takes for market data


class Sink:
    """Notes what it is told; everything that begins with `data:` is market data."""

    def __init__(self, clock: TurnedClock) -> None:
        self.clock = clock
        self.links: list[Link] = []
        self.frames: list[tuple[int, bytes, bool]] = []
        self.closed: list[tuple[int, GapReason]] = []
        self.data_ns: dict[int, int] = {}
        self.on_open: list[bytes] = []
        self.breaks_on = b"\0"

    def link_opened(self, feed: Feed, link: Link) -> int:
        self.links.append(link)
        for payload in self.on_open:
            link.send(payload)
        return len(self.links) - 1

    def link_frame(self, number: int, payload: bytes, is_binary: bool, recv_ns: int) -> None:
        if payload == self.breaks_on:
            raise RuntimeError("the consumer has a bug")
        self.frames.append((number, payload, is_binary))
        if payload.startswith(DATA.encode()):
            self.data_ns[number] = recv_ns

    def link_closed(self, number: int, reason: GapReason) -> None:
        self.closed.append((number, reason))

    def last_data_ns(self, number: int) -> int:
        return self.data_ns.get(number, 0)


class Running:
    def __init__(self, server: LoopbackVenue, clock: TurnedClock, sink: Sink, feed: Feed) -> None:
        self.server, self.clock, self.sink, self.feed = server, clock, sink, feed
        self.task = asyncio.create_task(feed.run())

    async def connected(self, times: int = 1) -> None:
        await self.clock.turn_until(lambda: self.server.connects >= times and len(self.sink.links) >= times)


@asynccontextmanager
async def running(headers: dict[str, str] | None = None, connects: int = 1_000, **facts: Any) -> AsyncIterator[Running]:
    async with LoopbackVenue.running() as server:
        clock = TurnedClock()
        sink = Sink(clock)
        plan = FeedPlan(
            venue="binance_spot", path="public", address=server.endpoints.ws["public"] + "/stream", subscriptions=()
        )  # fmt: skip
        feed = Feed(
            plan, server.venue(**facts), sink=sink, clock=clock, rng=random.Random(3), headers=headers,
            connects=Budget(connects, 300.0, clock),
        )  # fmt: skip
        run = Running(server, clock, sink, feed)
        try:
            yield run
        finally:
            run.task.cancel()
            await asyncio.wait([run.task])


async def test_frames_reach_the_sink_whole_in_order_and_with_their_kind() -> None:
    async with running(headers={"X-MBX-APIKEY": "practice"}) as run:
        await run.connected()
        for number in range(300):
            await run.server.say(f"{DATA}{number}")
        await run.server.say(b"\x00\x01binary")
        await run.server.say(DATA + "x" * 2_000_000)
        await eventually(lambda: len(run.sink.frames) == 302)
        assert [frame[1] for frame in run.sink.frames[:300]] == [f"{DATA}{n}".encode() for n in range(300)]
        assert run.sink.frames[300] == (0, b"\x00\x01binary", True)
        assert len(run.sink.frames[301][1]) == 2_000_005
        assert run.server.headers[0]["X-MBX-APIKEY"] == "practice"
        assert run.feed.state.phase == "open"


async def test_a_lost_connection_is_told_and_opened_anew() -> None:
    async with running() as run:
        await run.connected()
        await run.server.say(DATA)
        await eventually(lambda: run.sink.data_ns != {})
        await run.server.hang_up()
        await eventually(lambda: run.sink.closed == [(0, GapReason.DISCONNECT)])
        await run.connected(2)
        assert run.feed.state.reconnects == 1
        await run.server.say(DATA + "again")
        await eventually(lambda: run.sink.frames[-1] == (1, b"data:again", False))


async def test_a_venue_that_refuses_is_asked_again_with_growing_waits_until_it_does_not() -> None:
    async with running() as run:
        run.server.refuses = True
        await eventually(lambda: run.feed.state.refused != "")
        assert "403" in run.feed.state.refused
        await run.clock.turn_until(lambda: len(run.clock.slept) >= 12, step_s=5.0)
        bounds = [min(30.0, 0.5 * 2.0**failures) for failures in range(12)]
        assert all(slept <= bound for slept, bound in zip(run.clock.slept, bounds, strict=False))
        assert max(run.clock.slept) > 8.0
        assert run.server.connects == 0
        run.server.refuses = False
        await run.connected()
        await eventually(lambda: run.feed.state.refused == "")


async def test_waits_are_short_again_after_a_connection_that_brought_data() -> None:
    async with running() as run:
        for number in range(1, 6):
            await run.connected(number)
            await run.server.say(DATA)
            await eventually(lambda number=number: number - 1 in run.sink.data_ns)  # type: ignore[misc]
            before = len(run.clock.slept)
            await run.server.hang_up()
            await eventually(lambda number=number: len(run.sink.closed) == number)  # type: ignore[misc]
            await eventually(lambda: run.feed.state.phase == "waiting")
            assert all(slept <= 0.5 for slept in run.clock.slept[before:])


async def test_no_more_connections_are_opened_in_five_minutes_than_the_host_allows() -> None:
    async with running(connects=3) as run:
        await run.connected(1)
        start_ns = run.clock.now_ns()
        for number in (2, 3):
            await run.server.hang_up()
            await run.connected(number)
        await run.server.hang_up()
        await run.clock.turn_until(lambda: run.server.connects == 4, step_s=2.0)
        assert (run.clock.now_ns() - start_ns) / 1e9 > 290.0


async def test_silence_of_data_is_a_loss_though_pongs_come() -> None:
    async with running(silence_s=30.0, ping=Ping(every_s=10.0, payload=b'{"id":9}')) as run:
        await run.connected()
        await run.server.say(DATA)
        await eventually(lambda: run.sink.data_ns != {})
        await run.clock.turn_until(lambda: len(run.server.heard) == 2)  # pings are answered all the time
        assert run.sink.closed == []
        await run.clock.turn_until(lambda: run.sink.closed != [])
        assert run.sink.closed == [(0, GapReason.STALE)]
        assert run.feed.state.silences == 1
        assert len([frame for frame in run.sink.frames if frame[1] != DATA.encode()]) >= 2
        await run.connected(2)


async def test_messages_leave_no_faster_than_the_venue_allows() -> None:
    async with running() as run:
        run.sink.on_open = [b'{"id":%d}' % number for number in range(6)]
        await run.connected()
        start_ns = run.clock.now_ns()
        await run.clock.turn_until(lambda: len(run.server.heard) == 6, step_s=0.05)
        assert [said["id"] for said in run.server.heard] == list(range(6))
        elapsed_s = (run.clock.now_ns() - start_ns) / 1e9
        assert elapsed_s >= 1.0, "five a second are allowed: six messages, five pauses of a quarter second"


async def test_a_full_outbox_starts_over_instead_of_forgetting_a_message() -> None:
    async with running() as run:
        await run.connected()
        for number in range(5_000):
            run.sink.links[0].send(b'{"id":%d}' % number)
        await eventually(lambda: run.sink.closed == [(0, GapReason.OVERLOAD)])


async def test_an_announced_end_is_replaced_before_it_comes() -> None:
    async with running() as run:
        await run.connected()
        await run.server.say(DATA)
        await eventually(lambda: run.sink.data_ns != {})
        run.sink.links[0].replace("the venue said so")
        await run.connected(2)
        assert run.sink.closed == [], "the old one stays until the new one brings data"
        assert run.feed.state.phase == "replacing"
        await run.server.say(DATA + "both")
        await run.clock.turn_until(lambda: run.sink.closed == [(0, GapReason.DISCONNECT)])
        assert {(0, b"data:both", False), (1, b"data:both", False)} <= set(run.sink.frames)
        await eventually(lambda: run.feed.state.phase == "open")
        assert run.feed.state.replacements == 1
        assert run.feed.state.reconnects == 0
        await run.server.say(DATA + "on")
        await eventually(lambda: run.sink.frames[-1] == (1, b"data:on", False))


async def test_a_link_is_replaced_before_the_age_at_which_the_venue_cuts_it() -> None:
    async with running(max_age_s=1_000.0, silence_s=5_000.0) as run:
        await run.connected()
        await run.server.say(DATA)
        await eventually(lambda: run.sink.data_ns != {})
        start_ns = run.clock.now_ns()
        await run.clock.turn_until(lambda: run.server.connects == 2, step_s=5.0)
        assert 890.0 < (run.clock.now_ns() - start_ns) / 1e9 < 1_000.0


async def test_a_replacement_that_fails_leaves_the_old_link_in_place() -> None:
    async with running() as run:
        await run.connected()
        await run.server.say(DATA)
        await eventually(lambda: run.sink.data_ns != {})
        run.server.refuses = True
        run.sink.links[0].replace("the venue said so")
        await eventually(lambda: run.feed.state.refused != "")
        await run.server.say(DATA + "still here")
        await eventually(lambda: run.sink.frames[-1][1] == b"data:still here")
        assert run.sink.closed == []
        run.server.refuses = False
        await run.connected(2)


async def test_cancelling_closes_the_socket() -> None:
    async with running() as run:
        await run.connected()
        run.task.cancel()
        await asyncio.wait([run.task])
        assert run.task.cancelled()
        assert [number for number, _ in run.sink.closed] == [0]
        await eventually(lambda: run.server.open == [])


async def test_a_bug_in_the_consumer_ends_the_feed_instead_of_reconnecting_for_ever() -> None:
    async with running() as run:
        run.sink.breaks_on = b"data:poison"
        await run.connected()
        await run.server.say(DATA + "poison")
        await asyncio.wait([run.task], timeout=WITHIN_S)
        wrong = run.task.exception()
        assert isinstance(wrong, BaseExceptionGroup)
        assert wrong.subgroup(RuntimeError) is not None


async def test_a_slow_consumer_loses_nothing() -> None:
    """What it has not taken yet waits in the socket: frames arrive late, but all of them and in order."""
    async with running() as run:
        await run.connected()
        loop = asyncio.get_running_loop()
        taken = run.sink.link_frame

        def slow(number: int, payload: bytes, is_binary: bool, recv_ns: int) -> None:
            until = loop.time() + 0.002
            while loop.time() < until:
                pass
            taken(number, payload, is_binary, recv_ns)

        run.sink.link_frame = slow  # type: ignore[method-assign]
        await asyncio.gather(*(run.server.say(f"{DATA}{n}" + "." * 5_000) for n in range(400)))
        await eventually(lambda: len(run.sink.frames) == 400)
        assert [int(frame[1][5:].rstrip(b".")) for frame in run.sink.frames] == list(range(400))
        assert run.sink.closed == []
