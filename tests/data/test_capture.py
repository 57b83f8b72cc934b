"""Live capture against a venue on loopback: real sockets, real HTTP, real session files."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable
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
from oneprice.data.session import Session, SessionWriter
from oneprice.model.errors import InputError, VenueError
from oneprice.model.tape import GapReason, Kind, Rows
from shared_data import shared

OK = web.json_response
SPOT = "binance_spot"


def diff(first: int, last: int, bid: str = "100.00") -> str:
    event = {
        "e": "depthUpdate",
        "E": 1_700_000_000_000,
        "s": "BTCUSDT",
        "U": first,
        "u": last,
        "b": [[bid, "1"]],
        "a": [],
    }
    return json.dumps({"stream": "btcusdt@depth@100ms", "data": event})


def trade(number: int) -> str:
    event = {
        "e": "trade", "E": 1_700_000_000_001, "s": "BTCUSDT", "t": number, "p": "100.01", "q": "0.5",
        "T": 1_700_000_000_000, "m": True, "M": True,
    }  # fmt: skip
    return json.dumps({"stream": "btcusdt@trade", "data": event})


class Captured:
    def __init__(
        self,
        server: LoopbackVenue,
        clock: TurnedClock,
        capture: Capture,
        writer: SessionWriter,
        on_rows: Callable[[Rows], None] | None,
    ) -> None:
        self.server, self.clock, self.capture, self.writer = server, clock, capture, writer
        self.batches: list[Rows] = []
        self.task = asyncio.create_task(capture.run(recorder=writer, on_rows=on_rows or self.batches.append))

    @property
    def rows(self) -> Rows:
        return np.concatenate([np.zeros(0, dtype=self.capture.tape.rows.dtype), *self.batches])

    def kinds(self) -> list[Kind]:
        return [Kind(int(kind)) for kind in self.rows["kind"] if kind not in (int(Kind.TIMER), int(Kind.CLOCK))]

    async def until_rows(self, *kinds: Kind) -> None:
        """Turn the clock in batches' steps until exactly these rows (besides timers and probes) have come."""
        await self.clock.turn_until(lambda: len(self.kinds()) >= len(kinds), step_s=0.01)
        assert self.kinds() == list(kinds)

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


@asynccontextmanager
async def capturing(folder: Path, on_rows: Callable[[Rows], None] | None = None) -> AsyncIterator[Captured]:
    clock = TurnedClock()
    async with LoopbackVenue.running() as server, aiohttp.ClientSession() as http:
        listing = shared("data/wire/binance_spot/rest_instruments.json").read_bytes()
        server.answers["/api/v3/exchangeInfo"] = lambda _: web.Response(body=listing, content_type="application/json")
        server.answers["/api/v3/time"] = lambda _: OK({"serverTime": clock.now_ns() // 1_000_000 + 1_270})
        server.answers["/api/v3/depth"] = lambda _: OK({"lastUpdateId": 100, "bids": [["99.00", "2"]], "asks": []})
        plan = CapturePlan(venues={SPOT: VenuePlan(symbols=("BTC/USDT",))}, endpoints={SPOT: server.endpoints})
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(2), environ={})
        writer = SessionWriter(folder, capture.instruments, source="capture", created_ns=clock.now_ns())
        captured = Captured(server, clock, capture, writer, on_rows)
        try:
            yield captured
        finally:
            await captured.stop()


async def test_a_capture_joins_the_book_and_hands_on_batches_that_end_with_a_timer(tmp_path: Path) -> None:
    async with capturing(tmp_path / "session") as run:
        await run.until_rows(Kind.DEPTH)  # the acknowledgement asked for the snapshot
        await run.server.say(diff(99, 101))
        await run.server.say(trade(1))
        await run.server.say(diff(102, 103))
        await run.until_rows(Kind.DEPTH, Kind.DEPTH, Kind.TRADE, Kind.DEPTH)
        for number, batch in enumerate(run.batches, start=1):
            timers = np.flatnonzero(batch["kind"] == int(Kind.TIMER))
            assert timers.tolist() == [len(batch) - 1], "one timer, at the end"
            assert int(batch[-1]["sequence"]) == number
        assert (np.diff(run.rows["ts_recv_ns"]) >= 0).all(), "the tape never goes back"
        subscribed = run.server.heard[0]["params"]
        assert subscribed == ["btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@trade"]


async def test_a_quiet_market_is_cut_into_batches_too(tmp_path: Path) -> None:
    async with capturing(tmp_path / "session") as run:
        await run.until_rows(Kind.DEPTH)
        before, since_ns = len(run.batches), run.clock.now_ns()
        await run.clock.turn_until(lambda: run.clock.now_ns() - since_ns > 1_000_000_000, step_s=0.005)
        assert 10 <= len(run.batches) - before <= 25


async def test_a_lost_connection_is_a_gap_and_the_book_comes_back(tmp_path: Path) -> None:
    async with capturing(tmp_path / "session") as run:
        await run.until_rows(Kind.DEPTH)
        await run.server.say(diff(101, 101))
        await run.until_rows(Kind.DEPTH, Kind.DEPTH)
        await run.server.hang_up()
        await run.until_rows(Kind.DEPTH, Kind.DEPTH, Kind.GAP, Kind.DEPTH)
        (gap,) = run.rows[run.rows["kind"] == int(Kind.GAP)]
        assert gap["value"] == float(GapReason.DISCONNECT)
        (health,) = run.capture.health()
        assert (health.gaps, health.resyncs, health.reconnects) == (1, 1, 1)
        assert (health.books, health.books_standing, health.state) == (1, 1, "open")
        assert run.rows["feed"][-2:].max() == 1, "a new connection has a new number"


async def test_a_break_in_the_chain_fetches_a_snapshot_once_and_late_answers_change_nothing(tmp_path: Path) -> None:
    async with capturing(tmp_path / "session") as run:
        await run.until_rows(Kind.DEPTH)
        run.server.answers["/api/v3/depth"] = lambda _: OK({"lastUpdateId": 205, "bids": [], "asks": [["101.00", "1"]]})
        run.server.holds = asyncio.Event()
        for first in (200, 201, 202, 203, 204, 205, 206):
            await run.server.say(diff(first, first))
        await run.clock.turn_until(lambda: Kind.GAP in run.kinds(), step_s=0.01)
        assert run.capture.health()[0].books_standing == 0
        asked = len([path for path in run.server.asked if "depth" in path])
        run.server.holds.set()
        await run.until_rows(Kind.DEPTH, Kind.GAP, Kind.DEPTH, Kind.DEPTH)
        assert asked == 2, "one for the start, one for the gap"
        assert int(run.rows[run.rows["kind"] == int(Kind.DEPTH)][-1]["sequence"]) == 206


async def test_what_is_captured_is_on_disk_and_the_raw_log_gives_the_same_rows(tmp_path: Path) -> None:
    folder = tmp_path / "session"
    async with capturing(folder) as run:
        await run.until_rows(Kind.DEPTH)
        run.server.answers["/api/v3/depth"] = lambda _: OK({"lastUpdateId": 109, "bids": [["99.00", "2"]], "asks": []})
        for first in (101, 102, 110, 111):  # a gap on the way
            await run.server.say(diff(first, first))
            await run.server.say(trade(first))
        await run.server.say("{broken")
        await run.server.say(b"\x01")
        await eventually(lambda: run.capture.machines.machine(SPOT).statistics.rejected == 2)
        await run.clock.turn_until(lambda: run.capture.health()[0].resyncs == 1, step_s=0.01)
        await run.server.hang_up()
        await run.clock.turn_until(lambda: run.server.connects == 2, step_s=0.1)
        await run.clock.turn_until(lambda: run.capture.health()[0].books_standing == 1, step_s=0.01)
        await run.stop()
        handed_on = run.rows
        run.writer.close(closed_ns=run.clock.now_ns())
    session = Session.open(folder)
    assert session.state == "closed"
    assert np.concatenate(list(session.rows())).tobytes() == handed_on.tobytes()
    assert first_divergence(session) is None
    assert [feed.number for feed in session.manifest.feeds] == [0, 1]
    kinds = [Kind(int(kind)) for kind in handed_on["kind"]]
    assert kinds.count(Kind.GAP) == 2, "the chain and the disconnect; the end of the capture is no gap"


async def test_the_clock_offset_is_known_after_the_first_probes(tmp_path: Path) -> None:
    async with capturing(tmp_path / "session") as run:
        assert run.capture.clock_offset_ms(SPOT) is None
        await run.clock.turn_until(lambda: int(Kind.CLOCK) in run.rows["kind"], step_s=0.01)
        offset_ms = run.capture.clock_offset_ms(SPOT)
        assert offset_ms is not None
        assert abs(offset_ms - -1_270.0) < 50.0


async def test_health_says_how_fast_how_late_and_how_long_ago(tmp_path: Path) -> None:
    async with capturing(tmp_path / "session") as run:
        (health,) = run.capture.health()
        assert (health.state, health.lag_ms, health.data_age_ms) == ("connecting", None, None)
        await run.until_rows(Kind.DEPTH)
        await run.clock.turn_until(lambda: run.capture.clock_offset_ms(SPOT) is not None, step_s=0.01)
        for number in range(20):
            await run.server.say(trade(number))
        await eventually(lambda: run.capture.health()[0].frames == 21)
        await run.clock.turn_until(lambda: run.capture.health()[0].frames_per_s > 0.0, step_s=0.05)
        await run.clock.turn_until(lambda: run.capture.health()[0].lag_ms is not None, step_s=0.05)
        (health,) = run.capture.health()
        received = run.rows[run.rows["kind"] == int(Kind.TRADE)]
        late_ms = float(np.median(received["ts_recv_ns"] - received["ts_venue_ns"])) / 1e6
        offset_ms = run.capture.clock_offset_ms(SPOT)
        assert health.lag_ms is not None
        assert offset_ms is not None
        assert abs(health.lag_ms - (late_ms - offset_ms)) < 100.0, "the offset is not mistaken for latency"
        assert 15.0 < health.frames_per_s < 25.0
        assert health.frames == 21
        assert health.data_age_ms is not None


async def test_a_stop_in_the_middle_leaves_no_task_and_no_socket(tmp_path: Path) -> None:
    async with capturing(tmp_path / "session") as run:
        await run.until_rows(Kind.DEPTH)
        await run.stop()
        assert run.task.cancelled()
        await eventually(lambda: run.server.open == [])
        assert Kind.GAP not in run.kinds()


async def test_a_bug_in_the_consumer_ends_the_capture(tmp_path: Path) -> None:
    def broken(rows: Rows) -> None:
        raise RuntimeError("strategy")

    async with capturing(tmp_path / "session", on_rows=broken) as run:
        await run.clock.turn_until(run.task.done, step_s=0.01)
        wrong = run.task.exception()
        assert isinstance(wrong, BaseExceptionGroup)
        assert wrong.subgroup(RuntimeError) is not None


async def test_a_symbol_that_the_venue_does_not_list_is_named_before_anything_opens() -> None:
    clock = TurnedClock()
    async with LoopbackVenue.running() as server, aiohttp.ClientSession() as http:
        listing = shared("data/wire/binance_spot/rest_instruments.json").read_bytes()
        server.answers["/api/v3/exchangeInfo"] = lambda _: web.Response(body=listing, content_type="application/json")
        plan = CapturePlan(venues={SPOT: VenuePlan(symbols=("BTCUSTD",))}, endpoints={SPOT: server.endpoints})
        with pytest.raises(InputError, match="unknown symbol 'BTCUSTD' in binance_spot; did you mean 'BTCUSDT'"):
            await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(2), environ={})
        assert server.connects == 0


async def test_a_venue_that_does_not_answer_is_named_before_anything_opens() -> None:
    clock = TurnedClock()
    async with LoopbackVenue.running() as server, aiohttp.ClientSession() as http:
        server.answers["/api/v3/exchangeInfo"] = lambda _: web.Response(status=503, text="<html>")
        plan = CapturePlan(venues={SPOT: VenuePlan(symbols=("BTCUSDT",))}, endpoints={SPOT: server.endpoints})
        prepared = asyncio.create_task(Capture.prepare(plan, http=http, clock=clock, rng=random.Random(2), environ={}))
        await clock.turn_until(prepared.done, step_s=0.5)
        wrong = prepared.exception()
        assert isinstance(wrong, VenueError)
        assert "binance" in str(wrong)
        assert len(server.asked) == 5, "tried again a few times"


async def test_a_capture_that_goes_on_keeps_the_instruments_of_its_session_or_says_which_cannot_be_kept(
    tmp_path: Path,
) -> None:
    async with capturing(tmp_path / "session") as run, aiohttp.ClientSession() as http:
        await run.until_rows(Kind.DEPTH)
        await run.stop()
        run.writer.flush()
        session = Session.open(tmp_path / "session")
        plan = msgspec.structs.replace(run.capture.plan, venues={SPOT: VenuePlan()})  # the venue lists more than BTC

        async def prepared() -> Capture:
            return await Capture.prepare(
                plan, http=http, clock=run.clock, rng=random.Random(2), environ={}, resumed=session
            )

        resumed = await prepared()
        assert [one.symbol for one in resumed.instruments] == ["BTCUSDT"]
        assert list(resumed.instruments) == list(session.instruments)
        (feed,) = resumed.feed_plans
        assert {subscription.symbol for subscription in feed.subscriptions} == {"BTCUSDT"}
        assert resumed.batches == run.capture.batches > 0
        listing = shared("data/wire/binance_spot/rest_instruments.json").read_bytes()
        for change, said in (
            (b'"tickSize": "0.10000000"', "BTCUSDT: its tick was 0.01 when this session began, and is 0.1 now"),
            (b'"status": "BREAK"', "BTCUSDT is part of this session, but the venue does not list it any more"),
        ):
            now = changed(listing, change)
            run.server.answers["/api/v3/exchangeInfo"] = lambda _, now=now: web.Response(
                body=now, content_type="application/json"
            )
            with pytest.raises(InputError, match=said):
                await prepared()


def changed(listing: bytes, change: bytes) -> bytes:
    """A list of instruments in which one value of BTCUSDT is another."""
    told = json.loads(listing)
    (symbol,) = (symbol for symbol in told["symbols"] if symbol["symbol"] == "BTCUSDT")
    ((name, value),) = json.loads(b"{" + change + b"}").items()
    for rules in (symbol, *symbol["filters"]):
        if name in rules:
            rules[name] = value
    return json.dumps(told).encode()
