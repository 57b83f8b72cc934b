"""Accelerated time: a session at sixty times real time is the session that real time would have given, and its clock keeps
the laws of a clock."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from array import array
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneprice.app.session import session_clock
from oneprice.data import capture as capture_module
from oneprice.data import session as session_module
from oneprice.data.capture import Capture
from oneprice.data.health import FeedHealth
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.rederive import first_divergence
from oneprice.data.session import Session, SessionWriter
from oneprice.emulator import practice as practice_module
from oneprice.emulator.events import Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.market import SeededMarket
from oneprice.emulator.practice import PracticeVenues, spawn_practice_venues
from oneprice.model.errors import InputError
from oneprice.model.tape import ASK, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S, ScaledClock, SystemClock
from oneprice.venues.base import Venue
from oneprice.venues.registry import venue as find_venue
from patience import WITHIN_S

SPEED = 60.0
FOR_S = 900.0
FIVE_MINUTES_S = 300.0
SEED, START_NS = 7, 1_769_083_200 * NS_PER_S
VENUE, SYMBOLS = "binance_spot", ("BTCUSDT", "ETHUSDT")
COMPARED_S = 240  # of the market, from its beginning


def short_lived(name: str) -> Venue:
    """The venue as it would be if it cut connections every five minutes."""
    return msgspec.structs.replace(find_venue(name), max_age_s=FIVE_MINUTES_S)


async def captured(folder: Path, clock: ScaledClock) -> FeedHealth:
    """A quarter of an hour, recorded; → how its only feed was."""
    practice = await spawn_practice_venues(seed=SEED, venues=(VENUE,), clock=clock)
    try:
        async with aiohttp.ClientSession() as http:
            plan = CapturePlan(venues={VENUE: VenuePlan(symbols=SYMBOLS)}, endpoints=practice.endpoints)
            capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})
            writer = SessionWriter(folder, capture.instruments, source="capture", created_ns=clock.now_ns())
            task = asyncio.create_task(capture.run(recorder=writer))
            await asyncio.wait({task, asyncio.create_task(clock.sleep(FOR_S))}, return_when=asyncio.FIRST_COMPLETED)
            (health,) = capture.health()
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled(), task
            writer.close(closed_ns=clock.now_ns())
    finally:
        await practice.stop()
    return health


def market_until(now_ns: int, start_ns: int = START_NS) -> Exchange:
    """The same market without any server or clock, with what happened to take from it."""
    exchange = Exchange(VENUE, practice_instruments(VENUE), spot=True)
    market = SeededMarket({VENUE: exchange}, seed=SEED, start_ns=start_ns)
    exchange.take_events()
    market.advance(now_ns)
    return exchange


def trades_in_real_steps(symbol: str) -> dict[int, tuple[int, int, int, bool]]:
    """By trade id, (time, price, quantity, whether a seller took)."""
    return {
        event.trade_id: (event.ts_ns, event.price, event.qty, int(event.taker_side) < 0)
        for event in market_until(START_NS + COMPARED_S * NS_PER_S).take_events()
        if isinstance(event, Traded) and event.symbol == symbol
    }


async def test_a_quarter_of_an_hour_in_a_quarter_of_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture_module, "find_venue", short_lived)
    monkeypatch.setattr(session_module, "_SEGMENT_NS", int(FIVE_MINUTES_S * NS_PER_S))
    health = await captured(tmp_path / "s", ScaledClock(speed=SPEED, start_ns=START_NS))
    session = Session.open(tmp_path / "s")
    rows: Rows = np.concatenate(list(session.rows()))
    kinds, recv_ns = rows["kind"], rows["ts_recv_ns"]

    # Nothing was lost, though the connection was replaced twice (between 270 and 291 s of age, with an overlap).
    assert (kinds == int(Kind.GAP)).sum() == 0
    assert (health.replacements, health.reconnects, health.silences) in {(3, 0, 0), (2, 0, 0)}
    assert first_divergence(session) is None

    # All times are the session's: the tape's, the segments', the probes'.
    timers = recv_ns[kinds == int(Kind.TIMER)]
    assert (np.diff(recv_ns) >= 0).all()
    assert FOR_S - 2.0 <= (timers[-1] - timers[0]) / NS_PER_S <= FOR_S + 10.0
    assert len(session.segments("tape")) == len(session.segments("frames"))
    assert len(session.segments("tape")) in {3, 4}  # of five minutes, the last one hardly begun
    clocks = rows[kinds == int(Kind.CLOCK)]
    offsets_ns = clocks["ts_recv_ns"] - clocks["sequence"] // 2 - clocks["ts_venue_ns"]
    assert 0.8 * FOR_S / 30.0 <= len(clocks) <= FOR_S / 30.0 + 5  # every half minute after the answer before
    assert (
        np.abs(offsets_ns) <= clocks["sequence"] // 2 + NS_PER_MS
    ).all()  # the offset is none, within the probe's error

    # What the market did is what it does at any speed: the same trades at the same distances.
    for index, symbol in enumerate(SYMBOLS):
        ours = rows[(kinds == int(Kind.TRADE)) & (rows["instrument"] == index)]
        assert (np.diff(ours["sequence"]) == 1).all()
        expected = trades_in_real_steps(symbol)
        seen = [row for row in ours if int(row["sequence"]) in expected]
        assert len(seen) > 100  # fewer, where the machine was slow to begin
        shifts_ms = set()
        for row in seen:
            ts_ns, price, qty, is_sold = expected[int(row["sequence"])]
            shifts_ms.add((int(row["ts_venue_ns"]) - ts_ns) // NS_PER_MS)
            instrument = session.instruments[index]
            (theirs,) = (listed for listed in practice_instruments(VENUE) if listed.symbol == symbol)
            assert instrument.price(int(row["price"])) == theirs.price(price)
            assert instrument.qty(int(row["qty"])) == theirs.qty(qty)
            assert bool(row["flags"] & ASK) == is_sold
        assert len(shifts_ms) == 1  # when the venues began


async def test_venues_that_cannot_keep_up_say_so_and_leave_nothing_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(practice_module, "_PACE_OVER_S", 0.2)
    clock = ScaledClock(speed=1e5, start_ns=START_NS)
    async with PracticeVenues(seed=SEED, venues=(VENUE,), clock=clock) as practice:
        exchange, start_ns = practice.exchanges[VENUE], practice.told_ns
        began = time.monotonic()
        with caplog.at_level(logging.WARNING, "oneprice.emulator"):
            async with asyncio.timeout(WITHIN_S):
                while practice.told_ns - start_ns < 60 * NS_PER_S or "too slow" not in caplog.text:
                    await asyncio.sleep(0.1)
        reached_s, took_s = (clock.now_ns() - START_NS) / NS_PER_S, time.monotonic() - began
    assert "too slow for practice venues at 100000.0 times" in caplog.text
    assert reached_s < 0.6 * 1e5 * took_s  # its time was held back …
    expected = market_until(practice.told_ns, start_ns).book("BTCUSDT", 10)
    assert exchange.book("BTCUSDT", 10) == expected  # … and all of it happened


# -- the clock's laws ---------------------------------------------------------------------------------------------------


@given(
    speed=st.floats(1.0, 1e4),
    steps=st.lists(st.integers(0, 10 * NS_PER_S), max_size=30),
)
def test_accelerated_time_never_goes_back_nor_far_ahead_of_its_world(speed: float, steps: list[int]) -> None:
    clock = ScaledClock(speed=speed, start_ns=START_NS)
    lived_ns = last_ns = START_NS
    for step_ns in steps:
        now_ns = clock.now_ns()
        assert last_ns <= now_ns <= lived_ns + int(0.01 * speed * NS_PER_S) + 1
        last_ns, lived_ns = now_ns, lived_ns + step_ns
        clock.lived(lived_ns)


async def test_time_runs_as_fast_as_asked_for_and_sleeps_are_as_much_shorter() -> None:
    clock = ScaledClock(speed=SPEED, start_ns=START_NS)
    clock.release()  # a world that is never late
    before, began_ns = time.monotonic(), clock.now_ns()
    began = time.monotonic()
    await clock.sleep(12.0)
    ended, ended_ns = time.monotonic(), clock.now_ns()
    after, slept_s = time.monotonic(), (ended_ns - began_ns) / NS_PER_S
    assert slept_s >= 12.0
    assert (ended - began) * SPEED - 1e-6 <= slept_s <= (after - before) * SPEED + 1e-6


async def test_a_sleep_lasts_until_the_world_has_lived_it_or_has_ended() -> None:
    clock = ScaledClock(speed=1_000.0, start_ns=START_NS)
    sleeping = asyncio.create_task(clock.sleep(60.0))
    await asyncio.sleep(0.15)  # more than twice as long as it would take
    assert not sleeping.done()
    assert clock.now_ns() == START_NS + 10 * NS_PER_S
    clock.lived(START_NS + 55 * NS_PER_S)
    async with asyncio.timeout(WITHIN_S):
        await sleeping
    for_ever = asyncio.create_task(clock.sleep(3_600.0))
    await asyncio.sleep(0.01)
    clock.release()
    async with asyncio.timeout(WITHIN_S):
        await for_ever


def test_two_clocks_of_one_world_tell_the_same_time() -> None:
    page = memoryview(array("q", [START_NS]))
    theirs = ScaledClock(speed=SPEED, start_ns=START_NS, reached=page)
    ours = ScaledClock(speed=SPEED, start_ns=START_NS)
    ours.follow(page, began_ns=theirs.began_ns)
    for lived_s in (1, 5, 10**9):
        theirs.lived(START_NS + lived_s * NS_PER_S)
        before_ns = theirs.now_ns()
        assert before_ns <= ours.now_ns() <= theirs.now_ns()


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan"), float("inf")])
def test_a_speed_is_a_positive_number(speed: float) -> None:
    with pytest.raises(InputError, match="speed"):
        ScaledClock(speed=speed, start_ns=START_NS)


def test_only_practice_venues_can_be_made_faster() -> None:
    assert isinstance(session_clock(1.0, emulated=False), SystemClock)
    with pytest.raises(InputError, match="add --emulated"):
        session_clock(60.0, emulated=False)
    far_ns = time.time_ns() + 7_200 * NS_PER_S
    assert session_clock(60.0, emulated=True, after_ns=far_ns).now_ns() >= far_ns
