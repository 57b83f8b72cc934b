"""A short capture of practice venues at which something goes wrong, and what happened."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from loopback import eventually

from oneprice.data.capture import Capture
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.session import Session, SessionWriter
from oneprice.emulator.faults import Fault
from oneprice.emulator.practice import PracticeVenues
from oneprice.model.tape import CLEAR, Kind, Rows
from oneprice.model.time import NS_PER_S, SystemClock

VENUES = ("binance_spot", "binance_usdm", "bybit_linear", "bybit_spot")
SYMBOLS = ("BTCUSDT", "ETHUSDT")


class _Books:
    """Which books stand, and when the tape was last written."""

    def __init__(self) -> None:
        self.standing: set[int] = set()
        self.now_ns = 0

    def on_rows(self, rows: Rows) -> None:
        self.now_ns = int(rows[-1]["ts_recv_ns"])
        turns = (rows["kind"] == int(Kind.GAP)) | (rows["flags"] & CLEAR != 0)
        for row in rows[turns & (rows["instrument"] >= 0)]:
            if row["kind"] == Kind.GAP:
                self.standing.discard(int(row["instrument"]))
            else:
                self.standing.add(int(row["instrument"]))


async def faulty_session(
    folder: Path, faults: Sequence[str], *, at_once: Sequence[str] = (), goes_on_s: float = 2.0
) -> Session:
    """A capture of four venues with two symbols each. `at_once` holds from its beginning; `faults` come when all books stand
    and have moved, and the capture ends when all have been played, all books stand again and have moved on."""
    clock = SystemClock()
    books = _Books()
    async with (
        PracticeVenues(seed=3, venues=VENUES, faults=[Fault.parse(text) for text in at_once]) as practice,
        aiohttp.ClientSession() as http,
    ):
        plan = CapturePlan(venues={venue: VenuePlan(symbols=SYMBOLS) for venue in VENUES}, endpoints=practice.endpoints)
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})
        writer = SessionWriter(folder, capture.instruments, source="capture", created_ns=clock.now_ns())
        task = asyncio.create_task(capture.run(recorder=writer, on_rows=books.on_rows))

        async def all_go_on() -> None:
            await eventually(lambda: task.done() or len(books.standing) == len(capture.instruments))
            until_ns = books.now_ns + int(goes_on_s * NS_PER_S)
            await eventually(lambda: task.done() or books.now_ns >= until_ns)

        await all_go_on()
        wanted = [Fault.parse(text) for text in faults]
        expected = len(practice.faults.taken) + sum(fault.count for fault in wanted)
        for fault in wanted:
            practice.faults.inject(fault)
        await eventually(lambda: task.done() or len(practice.faults.taken) >= expected)
        await all_go_on()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task
        writer.close(closed_ns=clock.now_ns())
    return Session.open(folder)
