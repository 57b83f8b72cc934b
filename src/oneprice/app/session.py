"""What commands that talk to venues share: practice venues for the command's duration, signals that end it in order, a
fresh folder, a page beside it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from oneprice.app.output import progress
from oneprice.data.capture import make_decoders_ready
from oneprice.emulator.practice import spawn_practice_venues
from oneprice.engine.warm import warm_up
from oneprice.model.errors import InputError
from oneprice.model.time import Clock, ScaledClock, SystemClock
from oneprice.venues.base import Endpoints


def fresh_folder(out: Path | None, *, kind: str, below: str = "runs") -> Path:
    """The folder to write to: the given one, or a new one named after now."""
    if out is not None:
        return out
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    folder = Path(below) / f"{stamp}-{kind}"
    count = 1
    while folder.exists():
        count += 1
        folder = Path(below) / f"{stamp}-{kind}-{count}"
    return folder


def session_clock(speed: float, *, emulated: bool, after_ns: int = 0) -> Clock:
    """The clock of a command: this machine's, or an accelerated one that starts now (or at `after_ns`, where that is
    later: the end of a session that goes on). InputError for a speed that the venues themselves would have to follow."""
    if speed == 1.0:
        return SystemClock()
    if not emulated:
        raise InputError(f"--speed {speed:g} is for practice venues, whose time can run faster: add --emulated")
    return ScaledClock(speed=speed, start_ns=max(SystemClock().now_ns(), after_ns))


def make_ready(venues: Iterable[str], *, trades: bool = False) -> None:
    """Compile what reads these venues' frames, and what a run computes with where it `trades`, before practice venues begin
    to live: their market would not wait."""
    with progress("making ready (the first start compiles)", total=1.0) as advance:
        make_decoders_ready(venues, advance)
        if trades:
            warm_up(advance)


@asynccontextmanager
async def practice_venues(
    wanted: bool, *, seed: int, venues: Sequence[str], faults: Sequence[str] = (), clock: Clock | None = None
) -> AsyncIterator[Mapping[str, Endpoints]]:
    """Addresses of practice venues that live as long as the block, or nothing when none are wanted. They follow `clock`
    where it is an accelerated one."""
    if not wanted:
        yield {}
        return
    scaled = clock if isinstance(clock, ScaledClock) else None
    practice = await spawn_practice_venues(seed=seed, venues=tuple(venues), faults=tuple(faults), clock=scaled)
    try:
        yield practice.endpoints
    finally:
        await practice.stop()


@asynccontextmanager
async def stop_on_signals(stop: Callable[[], None]) -> AsyncIterator[None]:
    """Ctrl-C and SIGTERM end the work in order instead of cutting it."""
    loop = asyncio.get_running_loop()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


async def until(work: Awaitable[object], for_s: float | None, clock: Clock) -> bool:
    """Let work go on until the clock's time is over or a signal comes; → whether it was a signal. What the work raises is
    raised."""
    stop = asyncio.Event()
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    ending = [stopping] if for_s is None else [stopping, asyncio.ensure_future(clock.sleep(for_s))]
    async with stop_on_signals(stop.set):
        await asyncio.wait({working, *ending}, return_when=asyncio.FIRST_COMPLETED)
    for wait in ending:
        wait.cancel()
    if working.done():
        await working
    else:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
    return stop.is_set()
