"""The practice venues together: exchanges, their market, their servers and the pump that moves what happens.

In process (`PracticeVenues`) for tests; in a process of its own (`spawn_practice_venues`) for the commands, so that the
venues do not share an event loop with what watches them. The child ends with its parent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
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
from oneprice.model.time import Clock, SystemClock
from oneprice.venues.base import Endpoints

ALL_VENUES = ("binance_sbe", "binance_spot", "binance_usdm", "bybit_linear", "bybit_spot")
KEY, SECRET, ACCOUNT = "practice-key", "practice-secret", "practice"
_BALANCES = {
    "USDT": Decimal(1_000_000), "BTC": Decimal(20), "ETH": Decimal(400), "BNB": Decimal(2_000), "SOL": Decimal(8_000),
    "XRP": Decimal(500_000),
}  # fmt: skip
_PUMP_EVERY_S = 0.005
_MAX_BEHIND_NS = 1_000_000_000  # a machine that sleeps does not get a burst of missed market


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
        self.market: SeededMarket | None = None

    async def __aenter__(self) -> PracticeVenues:
        now_ns = self.clock.now_ns()
        self.faults.start(now_ns)
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
                self.exchanges["binance_spot"], faults=self.faults, rest=self.endpoints["binance_spot"].rest
            )
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

    def publish(self) -> None:
        """Let the market move on, and tell everybody what has happened since the last time."""
        now_ns = self.clock.now_ns()
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
        while True:
            self.publish()
            await asyncio.sleep(_PUMP_EVERY_S)


class SpawnedVenues:
    """Practice venues in a child process."""

    def __init__(self, process: asyncio.subprocess.Process, endpoints: Mapping[str, Endpoints], control: str) -> None:
        self._process = process
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


class _Started(msgspec.Struct):
    endpoints: dict[str, Endpoints]
    control: str


async def spawn_practice_venues(
    *, seed: int, venues: Sequence[str] = ALL_VENUES, faults: Sequence[str] = ()
) -> SpawnedVenues:  # fmt: skip
    """Start practice venues in a child process and wait until they listen."""
    for text in faults:
        Fault.parse(text)  # a wrong one is told here, not in the child
    for name in venues:
        if name not in ALL_VENUES:
            raise InputError(unknown_name("practice venue", name, ALL_VENUES))
    arguments = [sys.executable, "-m", "oneprice.emulator.practice", str(seed), ",".join(venues), *faults]
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stdin=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise VenueError(f"the practice venues did not start (exit code {await process.wait()})")
    started = msgspec.json.decode(line, type=_Started)
    return SpawnedVenues(process, started.endpoints, started.control)


async def _child(seed: int, venues: Sequence[str], faults: Sequence[str]) -> None:
    """Serve until told to stop, or until the parent is gone (its end of our standard input closes)."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_reader(sys.stdin.fileno(), lambda: stop.set() if not os.read(sys.stdin.fileno(), 1024) else None)
    async with PracticeVenues(seed=seed, venues=venues, faults=[Fault.parse(text) for text in faults]) as practice:
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
        sys.stdout.write(msgspec.json.encode(_Started(practice.endpoints, control)).decode() + "\n")
        sys.stdout.flush()
        await stop.wait()
        await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(_child(int(sys.argv[1]), tuple(sys.argv[2].split(",")), sys.argv[3:]))
