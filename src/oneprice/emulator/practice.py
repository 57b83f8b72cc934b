"""The practice venues together: exchanges, their market, their servers and the pump that moves what happens.

In process (`PracticeVenues`) for tests; in a process of its own (`spawn_practice_venues`) for the commands, so that the
venues do not share an event loop with what watches them. The child ends with its parent.

Whatever the speed of their clock, the venues live through the same steps: time is cut so finely that every stream is told
at its own cadence. On a machine that cannot keep up, accelerated time is held back until the venues have lived it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import mmap
import os
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import Fault, FaultPlan
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.market import SeededMarket
from oneprice.emulator.server_binance import BinanceSbeServer, BinanceServer
from oneprice.model.errors import InputError, VenueError, unknown_name
from oneprice.model.time import NS_PER_MS, NS_PER_S, Clock, ScaledClock, SystemClock
from oneprice.venues.base import Endpoints

_log = logging.getLogger("oneprice.emulator")
ALL_VENUES = ("binance_sbe", "binance_spot", "binance_usdm", "bybit_linear", "bybit_spot")
KEY, SECRET, ACCOUNT = "practice-key", "practice-secret", "practice"
_BALANCES = {
    "USDT": Decimal(1_000_000), "BTC": Decimal(20), "ETH": Decimal(400), "BNB": Decimal(2_000), "SOL": Decimal(8_000),
    "XRP": Decimal(500_000),
}  # fmt: skip
_PUMP_EVERY_S = 0.005
_STEP_NS = 10 * NS_PER_MS  # as fine as the market moves and the fastest stream is told
_STEPS_AT_ONCE = 20  # then the sockets get their turn, also while there is more to catch up with
_PACE_OVER_S = 10.0
_SLOW_SHARE = 0.95  # of the speed asked for: below, it is said


class PracticeVenues:
    """Practice venues in this process. Use as an async context manager."""

    def __init__(
        self, *, seed: int = 7, venues: Sequence[str] = ALL_VENUES, faults: Sequence[Fault] = (),
        clock: Clock | None = None, keys: Mapping[str, tuple[str, str]] | None = None, with_market: bool = True,
    ) -> None:  # fmt: skip
        for name in venues:
            if name not in ALL_VENUES:
                raise InputError(unknown_name("practice venue", name, ALL_VENUES))
        self.clock = clock or SystemClock()
        self.faults = FaultPlan(faults)
        self.endpoints: dict[str, Endpoints] = {}
        self._seed = seed
        self._with_market = with_market
        # SBE is another wire of the spot market: it needs that market's REST calls, too.
        names = {*venues, *(("binance_spot",) if "binance_sbe" in venues else ())}
        self._wanted = tuple(sorted(names))
        self.exchanges = {
            name: Exchange(name, practice_instruments(name), spot=name.endswith("spot"))
            for name in self._wanted
            if name != "binance_sbe"
        }
        for exchange in self.exchanges.values():
            exchange.open_account(ACCOUNT, dict(_BALANCES))
        self._keys = dict(keys) if keys is not None else {KEY: (SECRET, ACCOUNT)}
        self._servers: list[Any] = []
        self._pumping: asyncio.Task[None] | None = None
        self.told_ns = 0  # what happened until then has been told
        self.market: SeededMarket | None = None

    async def __aenter__(self) -> PracticeVenues:
        now_ns = self.clock.now_ns()
        self.faults.start(now_ns)
        self.told_ns = now_ns
        if self._with_market:
            self.market = SeededMarket(self.exchanges, seed=self._seed, start_ns=now_ns)
            for exchange in self.exchanges.values():
                exchange.take_events()
        for name in ("binance_spot", "binance_usdm"):
            if name in self.exchanges:
                server = BinanceServer(
                    name, self.exchanges[name], faults=self.faults, clock=self.clock, keys=self._keys
                )
                self.endpoints |= await server.start()
                self._servers.append((name, server))
        if "binance_sbe" in self._wanted:
            sbe = BinanceSbeServer(
                self.exchanges["binance_spot"], faults=self.faults, clock=self.clock,
                rest=self.endpoints["binance_spot"].rest,
            )  # fmt: skip
            self.endpoints |= await sbe.start()
            self._servers.append(("binance_spot", sbe))
        bybit = {name: self.exchanges[name] for name in ("bybit_spot", "bybit_linear") if name in self.exchanges}
        self._bybit: Any = None
        if bybit:
            from oneprice.emulator.server_bybit import BybitServer

            self._bybit = BybitServer(bybit, faults=self.faults, clock=self.clock, keys=self._keys)
            self.endpoints |= await self._bybit.start()
        self._pumping = asyncio.create_task(self._pump())
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._pumping is not None:
            self._pumping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pumping
        for _name, server in self._servers:
            await server.stop()
        if self._bybit is not None:
            await self._bybit.stop()
        if isinstance(self.clock, ScaledClock):
            self.clock.release()

    def publish(self) -> None:
        """Let the market move on to now, and tell everybody what has happened since the last time."""
        now_ns = self.clock.now_ns()
        while self.told_ns < now_ns:
            self._step(now_ns)

    def _step(self, now_ns: int) -> None:
        """Move on by one step, or to `now_ns` where that is nearer."""
        self.told_ns = now_ns = min(self.told_ns + _STEP_NS, now_ns)
        if self.market is not None:
            self.market.advance(now_ns)
        for name, exchange in self.exchanges.items():
            events = exchange.take_events()
            for of_venue, server in self._servers:
                if of_venue == name:
                    server.publish(events, now_ns)
            if self._bybit is not None and name.startswith("bybit"):
                self._bybit.publish(name, events, now_ns)

    async def _pump(self) -> None:
        scaled = self.clock if isinstance(self.clock, ScaledClock) else None
        pause_s = _PUMP_EVERY_S if scaled is None else _PUMP_EVERY_S / scaled.speed
        pace = None if scaled is None else _Pace(scaled.speed, self.told_ns)
        while True:
            now_ns = self.clock.now_ns()
            for _ in range(_STEPS_AT_ONCE):
                if self.told_ns >= now_ns:
                    break
                self._step(now_ns)
            if scaled is not None and pace is not None:
                scaled.lived(self.told_ns)
                pace.look(self.told_ns)
            await asyncio.sleep(pause_s if self.told_ns >= now_ns else 0.0)


class _Pace:
    """Says how fast the venues really live when they cannot keep up."""

    def __init__(self, speed: float, told_ns: int) -> None:
        self._speed = speed
        self._looked_s, self.told_ns = time.monotonic(), told_ns

    def look(self, told_ns: int) -> None:
        """What happened until `told_ns` has been told."""
        now_s = time.monotonic()
        elapsed_s = now_s - self._looked_s
        if elapsed_s < _PACE_OVER_S:
            return
        reached = (told_ns - self.told_ns) / NS_PER_S / elapsed_s
        if reached < self._speed * _SLOW_SHARE:
            _log.warning(
                "this machine is too slow for practice venues at %.1f times real time: they live at %.1f times; nothing "
                "is left out, it takes longer", self._speed, reached,
            )  # fmt: skip
        self._looked_s, self.told_ns = now_s, told_ns


class SpawnedVenues:
    """Practice venues in a child process."""

    def __init__(
        self, process: asyncio.subprocess.Process, endpoints: Mapping[str, Endpoints], control: str,
        clock: ScaledClock | None,
    ) -> None:  # fmt: skip
        self._process = process
        self._released = asyncio.create_task(_release_after(process, clock)) if clock is not None else None
        self.endpoints = endpoints
        self.control = control  # POST a fault's text to {control}/faults

    async def stop(self) -> None:
        if self._process.returncode is None:
            self._process.terminate()
            try:
                await asyncio.wait_for(self._process.wait(), 3.0)
            except TimeoutError:
                self._process.kill()
                await self._process.wait()
        if self._released is not None:
            await self._released


async def _release_after(process: asyncio.subprocess.Process, clock: ScaledClock) -> None:
    """However the venues end, nobody waits for their time any longer."""
    await process.wait()
    clock.release()


class _Accelerated(msgspec.Struct):
    """The clock that a child lives by; none: the machine's own."""

    speed: float
    start_ns: int
    page: int  # descriptor of a file of one int64, in which the child says how far it has lived


class _Wanted(msgspec.Struct):
    """What a child is told, as its argument."""

    seed: int
    venues: tuple[str, ...]
    faults: tuple[str, ...]
    accelerated: _Accelerated | None


class _Started(msgspec.Struct):
    endpoints: dict[str, Endpoints]
    control: str
    began_ns: int = 0  # of the accelerated clock


async def spawn_practice_venues(
    *, seed: int, venues: Sequence[str] = ALL_VENUES, faults: Sequence[str] = (), clock: ScaledClock | None = None
) -> SpawnedVenues:  # fmt: skip
    """Start practice venues in a child process and wait until they listen. They live by `clock`, else in real time."""
    for text in faults:
        Fault.parse(text)  # a wrong one is told here, not in the child
    for name in venues:
        if name not in ALL_VENUES:
            raise InputError(unknown_name("practice venue", name, ALL_VENUES))
    with tempfile.TemporaryFile() as page:
        accelerated = None
        if clock is not None:
            page.write(clock.start_ns.to_bytes(8, sys.byteorder, signed=True))
            page.flush()
            accelerated = _Accelerated(clock.speed, clock.start_ns, page.fileno())
        wanted = _Wanted(seed, tuple(venues), tuple(faults), accelerated)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "oneprice.emulator.practice", msgspec.json.encode(wanted).decode(),
            stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE, start_new_session=True,
            pass_fds=[] if accelerated is None else [accelerated.page],
        )  # fmt: skip
        reached = None if accelerated is None else _mapped(accelerated.page)
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise VenueError(f"the practice venues did not start (exit code {await process.wait()})")
    started = msgspec.json.decode(line, type=_Started)
    if clock is not None and reached is not None:
        clock.follow(reached, began_ns=started.began_ns)
    return SpawnedVenues(process, started.endpoints, started.control, clock)


def _mapped(page: int) -> memoryview:
    return memoryview(mmap.mmap(page, 8)).cast("q")


async def _child(wanted: _Wanted) -> None:
    """Serve until told to stop, or until the parent is gone (its end of our standard input closes)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), lambda: stop.set() if not os.read(sys.stdin.fileno(), 1024) else None)
    faults = [Fault.parse(text) for text in wanted.faults]
    clock: ScaledClock | None = None
    if (asked := wanted.accelerated) is not None:
        clock = ScaledClock(speed=asked.speed, start_ns=asked.start_ns, reached=_mapped(asked.page))
    venues = PracticeVenues(seed=wanted.seed, venues=wanted.venues, faults=faults, clock=clock)
    async with venues as practice:
        app = web.Application()

        async def inject(request: web.Request) -> web.Response:
            try:
                practice.faults.inject(Fault.parse(await request.text()))
            except InputError as wrong:
                return web.Response(text=str(wrong), status=400)
            return web.Response(text="ok")

        app.router.add_post("/faults", inject)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        control = f"http://127.0.0.1:{runner.addresses[0][1]}"
        started = _Started(practice.endpoints, control, clock.began_ns if clock is not None else 0)
        sys.stdout.write(msgspec.json.encode(started).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_child(msgspec.json.decode(sys.argv[1], type=_Wanted)))
