"""A process that captures practice venues for the tests that kill it: the first one of a session begins it, later ones go on
where the one before was cut, as `capture-session` does. It tells what is on disk after each micro-batch."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec

from oneprice.data.capture import Capture
from oneprice.data.plan import PRACTICE, CapturePlan, VenuePlan
from oneprice.data.recover import CAPTURE, cut_capture, go_on
from oneprice.data.session import SessionWriter
from oneprice.model.tape import Rows
from oneprice.model.time import SystemClock
from oneprice.venues.base import Endpoints


class Told(NamedTuple):
    """What is on disk, how many micro-batches this process has made, and how many books stand."""

    frames: int
    rows: int
    batches: int
    standing: int


def capture(folder: Path, endpoints: Mapping[str, Endpoints], is_first: bool, pipe: Connection) -> None:
    """Capture until the other end of the pipe says something (or until the process is killed)."""
    asyncio.run(_capture(folder, endpoints, is_first, pipe))


async def _capture(folder: Path, endpoints: Mapping[str, Endpoints], is_first: bool, pipe: Connection) -> None:
    clock = SystemClock()
    began_ns = clock.now_ns()
    async with aiohttp.ClientSession() as http:
        if is_first:
            wanted = {name: VenuePlan(symbols=("BTCUSDT", "ETHUSDT")) for name in endpoints}
            resumed, plan = None, CapturePlan(venues=wanted, environment=PRACTICE)
        else:
            resumed, plan = cut_capture(folder, now_ns=began_ns)
        capture = await Capture.prepare(
            msgspec.structs.replace(plan, endpoints=endpoints), http=http, clock=clock, rng=random.Random(1),
            environ={}, resumed=resumed,
        )  # fmt: skip
        if is_first:
            writer = SessionWriter(
                folder, capture.instruments, source=CAPTURE, created_ns=began_ns,
                configuration={"plan": plan.recorded()},
            )  # fmt: skip
        else:
            writer = go_on(folder, now_ns=began_ns)
        batches = 0

        def tell(_: Rows) -> None:
            nonlocal batches
            batches += 1
            standing = sum(feed.books_standing for feed in capture.health())
            pipe.send(Told(writer.manifest.frames, writer.manifest.rows, batches, standing))
            if pipe.poll():
                pipe.recv()
                task.cancel()

        task = asyncio.create_task(capture.run(recorder=writer, on_rows=tell))
        with suppress(asyncio.CancelledError):
            await task
        writer.close(closed_ns=clock.now_ns())
    pipe.close()
