"""A venue on loopback for the tests of connections: real sockets, told by the test what to say. And a clock to turn."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from oneprice.venues.base import Endpoints, Venue
from oneprice.venues.binance_spot import BINANCE_SPOT

TIMEOUT_S = 20.0


class TurnedClock:
    """A clock that stands until the test turns it. Its monotone nanoseconds grow by one with every look."""

    def __init__(self) -> None:
        self._now_ns = 1_700_000_000_000_000_000
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self.slept: list[float] = []

    def now_ns(self) -> int:
        self._now_ns += 1
        return self._now_ns

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds <= 0.0:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self._now_ns + int(seconds * 1e9), self._count, future))
        await future

    def turn(self, seconds: float) -> None:
        """Let time pass; sleepers that are due wake in order."""
        self._now_ns += int(seconds * 1e9)
        while self._sleepers and self._sleepers[0][0] <= self._now_ns:
            future = heapq.heappop(self._sleepers)[2]
            if not future.done():
                future.set_result(None)

    async def turn_until(self, happened: Callable[[], bool], *, step_s: float = 0.25) -> None:
        """Turn in small steps, giving the sockets room in between, until something has happened."""
        async with asyncio.timeout(TIMEOUT_S):
            while not happened():
                self.turn(step_s)
                await _breathe()


async def eventually(happened: Callable[[], bool]) -> None:
    """Wait (in real time, with the clock standing) until something has happened."""
    async with asyncio.timeout(TIMEOUT_S):
        while not happened():
            await _breathe()


async def _breathe() -> None:
    """One round of the event loop that also looks at the sockets."""
    await asyncio.sleep(0.001)


class LoopbackVenue:
    """Speaks Binance's control messages and whatever frames the test sends."""

    def __init__(self) -> None:
        self.open: list[web.WebSocketResponse] = []
        self.connects = 0
        self.headers: list[dict[str, str]] = []
        self.heard: list[dict[str, Any]] = []
        self.heard_at: list[float] = []
        self.acknowledges = True
        self.refuses = False
        self.answers: dict[str, Callable[[web.Request], web.Response]] = {}
        self.asked: list[str] = []
        self.holds: asyncio.Event | None = None  # answers wait for it
        self.base = ""

    @property
    def endpoints(self) -> Endpoints:
        return Endpoints(ws={"public": self.base.replace("http", "ws")}, rest=self.base)

    def venue(self, **changes: Any) -> Venue:
        """Binance spot at this address, with a few facts changed."""
        return msgspec.structs.replace(BINANCE_SPOT, **changes)

    async def say(self, frame: bytes | str, *, to: int | None = None) -> None:
        for place, socket in enumerate(list(self.open)):
            if to is None or place == to:
                if isinstance(frame, str):
                    await socket.send_str(frame)
                else:
                    await socket.send_bytes(frame)

    async def hang_up(self) -> None:
        for socket in list(self.open):
            await socket.close()

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        if self.refuses:
            return web.Response(status=403, text="not now")
        socket = web.WebSocketResponse(autoping=True)
        await socket.prepare(request)
        self.headers.append(dict(request.headers))
        self.connects += 1
        self.open.append(socket)
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    said = json.loads(message.data)
                    self.heard.append(said)
                    self.heard_at.append(asyncio.get_running_loop().time())
                    if self.acknowledges and "id" in said:
                        await socket.send_str(json.dumps({"result": None, "id": said["id"]}))
        finally:
            self.open.remove(socket)
        return socket

    async def _rest(self, request: web.Request) -> web.Response:
        self.asked.append(request.path_qs)
        if self.holds is not None:
            await self.holds.wait()
        return self.answers[request.path](request)

    @classmethod
    @asynccontextmanager
    async def running(cls) -> AsyncIterator[LoopbackVenue]:
        venue = cls()
        application = web.Application()
        application.router.add_get("/stream", venue._socket)
        application.router.add_route("*", "/{path:.*}", venue._rest)
        runner = web.AppRunner(application, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        venue.base = f"http://{host}:{port}"
        try:
            yield venue
        finally:
            await venue.hang_up()
            await runner.cleanup()
