"""Capture of the practice venues: after every fault each book is the venue's own, and the raw log gives the tape."""

from __future__ import annotations

import asyncio
import random
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec
import numpy as np
import pytest
from loopback import eventually

from oneprice.data.capture import Capture
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.rederive import first_divergence
from oneprice.data.session import RecordType, Session, SessionWriter
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.practice import ALL_VENUES, PracticeVenues
from oneprice.model.instrument import Instrument
from oneprice.model.tape import ASK, CLEAR, Kind, Rows
from oneprice.model.time import SystemClock
from oneprice.venues.binance_rest import read_funding_intervals

HOUR_NS = 3600 * 10**9
DEPTH = 50  # what Bybit's stream holds
Side = list[tuple[Decimal, Decimal]]


class Watched:
    """Plain books of every instrument, from the batches that a capture hands on."""

    def __init__(self, capture: Capture) -> None:
        self.instruments = capture.instruments
        self.levels: dict[int, dict[tuple[int, int], int]] = {}
        self.kinds: set[Kind] = set()

    def on_rows(self, rows: Rows) -> None:
        self.kinds |= {Kind(int(kind)) for kind in np.unique(rows["kind"])}
        for row in rows[(rows["kind"] == int(Kind.DEPTH)) | (rows["kind"] == int(Kind.GAP))]:
            index = int(row["instrument"])
            if row["kind"] == int(Kind.GAP):
                self.levels.pop(index, None)
                continue
            if row["flags"] & CLEAR:
                self.levels[index] = {}
            place = (int(row["flags"]) & ASK, int(row["price"]))
            self.levels[index][place] = int(row["qty"])
            if row["qty"] == 0:
                del self.levels[index][place]

    def top(self, index: int) -> tuple[Side, Side] | None:
        levels = self.levels.get(index)
        if levels is None:
            return None
        instrument = self.instruments[index]
        sides = []
        for side in (0, ASK):
            found = sorted((price for at, price in levels if at == side), reverse=side == 0)[:DEPTH]
            sides.append([(instrument.price(price), instrument.qty(levels[(side, price)])) for price in found])
        return sides[0], sides[1]


def true_top(practice: PracticeVenues, instrument: Instrument) -> tuple[Side, Side]:
    name = "binance_spot" if instrument.venue == "binance_sbe" else instrument.venue
    book = practice.exchanges[name].book(instrument.symbol, DEPTH)
    (theirs,) = (listed for listed in practice_instruments(name) if listed.symbol == instrument.symbol)
    bids, asks = ([(theirs.price(price), theirs.qty(size)) for price, size in side] for side in (book.bids, book.asks))
    return bids, asks


def all_true(practice: PracticeVenues, watched: Watched) -> bool:
    return all(watched.top(i) == true_top(practice, instrument) for i, instrument in enumerate(watched.instruments))


FAULTS = {  # `{}`: the venue
    "none": (),
    "disconnect": ("disconnect@{}",),
    "shutdown notice": ("shutdown_notice@{}",),
    "stall": ("stall@{},for=0.3",),
    "gap": ("gap@{}:BTCUSDT,count=3,every=0.1",),
    "duplicate": ("duplicate@{}:BTCUSDT,count=3",),
    "reorder": ("reorder@{}:BTCUSDT,count=2,every=0.2",),
    "corrupt frame": ("corrupt_frame@{}:BTCUSDT,count=2,every=0.2",),
    "stale snapshot": ("gap@{}:BTCUSDT", "stale_snapshot@{}:BTCUSDT"),
    "server error": ("gap@{}:BTCUSDT", "http_5xx@{},count=2"),
    "ban": ("gap@{}:BTCUSDT", "http_429@{}"),
}


@pytest.mark.parametrize("name", FAULTS)
async def test_after_every_fault_each_book_is_the_venues_own_again(name: str, tmp_path: Path) -> None:
    clock = SystemClock()
    plan_of = {venue: VenuePlan(symbols=("BTCUSDT", "ETHUSDT")) for venue in ALL_VENUES}
    async with PracticeVenues(seed=11) as practice, aiohttp.ClientSession() as http:
        plan = CapturePlan(venues=plan_of, endpoints=practice.endpoints)
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})
        watched = Watched(capture)
        writer = SessionWriter(tmp_path / "s", capture.instruments, source="capture", created_ns=clock.now_ns())
        task = asyncio.create_task(capture.run(recorder=writer, on_rows=watched.on_rows))
        await eventually(lambda: task.done() or len(watched.levels) == len(capture.instruments) == 10)
        faults = [Fault.parse(text.format(venue)) for text in FAULTS[name] for venue in ALL_VENUES]
        expected = sum(fault.count for fault in faults if happens_anyway(fault))
        for fault in faults:
            practice.faults.inject(fault)
        await eventually(lambda: task.done() or len(practice.faults.taken) >= expected)
        # A loss is noticed by the message that follows it, so let every market go on for a while.
        then = last_ids(practice)
        await eventually(lambda: task.done() or all(new > then[k] + 50 for k, new in last_ids(practice).items()))
        practice.market = None  # nothing moves any more: what is under way arrives, and then all must agree
        await eventually(lambda: task.done() or all_true(practice, watched))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task
        writer.close(closed_ns=clock.now_ns())
    assert {fault.kind for _, fault in practice.faults.taken} == {fault.kind for fault in faults}
    assert first_divergence(Session.open(tmp_path / "s")) is None
    assert {Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.MARK, Kind.TIMER, Kind.CLOCK} <= watched.kinds


def last_ids(practice: PracticeVenues) -> dict[tuple[str, str], int]:
    return {
        (name, symbol): exchange.book(symbol, 1).last_id
        for name, exchange in practice.exchanges.items()
        for symbol in ("BTCUSDT", "ETHUSDT")
    }


def happens_anyway(fault: Fault) -> bool:
    """Whether a fault happens whatever the client does. (Those of REST wait for a call that may not come.)"""
    return fault.kind not in (FaultKind.STALE_SNAPSHOT, FaultKind.HTTP_429, FaultKind.HTTP_5XX)


async def test_a_symbol_that_is_funded_every_four_hours_is_captured_as_one(tmp_path: Path) -> None:
    """Binance lists it among the exceptions, and the raw log keeps that answer beside the list of instruments."""
    clock = SystemClock()
    async with PracticeVenues(seed=11, venues=("binance_usdm",)) as practice, aiohttp.ClientSession() as http:
        theirs = practice.exchanges["binance_usdm"].instruments
        theirs["ETHUSDT"] = msgspec.structs.replace(theirs["ETHUSDT"], funding_interval_ns=4 * HOUR_NS)
        plan = CapturePlan(
            venues={"binance_usdm": VenuePlan(symbols=("BTCUSDT", "ETHUSDT"))}, endpoints=practice.endpoints
        )
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})
        writer = SessionWriter(tmp_path / "s", capture.instruments, source="capture", created_ns=clock.now_ns())
        task = asyncio.create_task(capture.run(recorder=writer))
        await eventually(lambda: task.done() or writer.manifest.rows > 0)
        task.cancel()
        await asyncio.wait([task])
        writer.close(closed_ns=clock.now_ns())
    session = Session.open(tmp_path / "s")
    assert {one.symbol: one.funding_interval_ns for one in session.instruments} == {
        "BTCUSDT": 8 * HOUR_NS,
        "ETHUSDT": 4 * HOUR_NS,
    }
    assert first_divergence(session) is None
    answers = [record.payload for record in session.records() if record.type is RecordType.ANSWER]
    (body,) = (payload.partition(b"\n")[2] for payload in answers if b"/fapi/v1/fundingInfo" in payload)
    assert read_funding_intervals(body) == {"ETHUSDT": 4 * HOUR_NS}
