"""A recorded session served again: each venue of it on loopback, with the bytes that it sent then.

part                                             | file
-------------------------------------------------|--------------------
what was recorded, as plain values               | recorded_values.py
which connection a client gets, and when to send | recorded_stream.py
which REST answer, and when                      | recorded_answers.py
ports and sockets                                | here

A socket that has asked for what a recorded connection carried gets that connection's frames: the same bytes, text or
binary, in order, at the recorded intervals divided by the speed (or as fast as it reads). The venue's acknowledgements
are among them, so nothing is answered anew, except what the recording does not hold: that is refused in the venue's own
shape. A REST answer is held back until the venue's streams have come to the moment at which it was recorded, so that a
snapshot joins where it joined then (see recorded_answers.py)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any
from urllib.parse import urlsplit

import msgspec
from aiohttp import WSMsgType, web

from oneprice.emulator.recorded_answers import Answers
from oneprice.emulator.recorded_stream import (
    Asked,
    Chain,
    Pace,
    chains_of,
    frames_when_due,
    payload_for,
    stream_of,
)
from oneprice.emulator.recorded_values import Recording
from oneprice.model.errors import OnepriceError
from oneprice.venues.base import Endpoints
from oneprice.venues.registry import venue as find_venue

_log = logging.getLogger("oneprice.emulator")
_HOST = "127.0.0.1"
_SETTLED_S = 0.5  # who has asked for nothing more for so long gets what it has asked for until then


class RecordedVenues:
    """The venues of a recording in this process. Use as an async context manager; `endpoints` are then their addresses.

    `speed`: so many times as fast as it was recorded; None: as fast as each client reads.
    """

    def __init__(self, recording: Recording, *, speed: float | None = 1.0) -> None:
        pace = Pace(speed)
        self.endpoints: dict[str, Endpoints] = {}
        self._servers = [_VenueServer(name, recording, pace) for name in recording.venues()]

    async def __aenter__(self) -> RecordedVenues:
        for server in self._servers:
            self.endpoints[server.venue.name] = await server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            await server.stop()


class _Said(msgspec.Struct):
    """What a client says on a stream: Binance's `method` and `params`, or Bybit's `op` and `args`."""

    method: str = ""
    op: str = ""
    params: Any = None
    args: Any = None
    id: Any = None
    req_id: Any = None


class _VenueServer:
    """One venue of a recording, on a port of its own."""

    def __init__(self, name: str, recording: Recording, pace: Pace) -> None:
        self.venue = find_venue(name)
        self._pace = pace
        self._chains = chains_of(recording.connections, name)
        self._answers = Answers([answer for answer in recording.answers if answer.venue == name])
        self._runner: web.AppRunner | None = None
        live = self.venue.endpoints["live"]
        public = {path for path, _ in self.venue.channels.values()}
        self._suffixes = {path: urlsplit(live.ws[path]).path for path in sorted(public)}

    async def start(self) -> Endpoints:
        """Listen on a free port; → the addresses, with the paths of the venue's own."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, 0).start()
        base = f"{_HOST}:{self._runner.addresses[0][1]}"
        return Endpoints(
            ws={path: f"ws://{base}{suffix}" for path, suffix in self._suffixes.items()}, rest=f"http://{base}"
        )

    async def stop(self) -> None:
        """Close every socket and the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Upgrade", "").lower() == "websocket":
            return await self._socket(request)
        return await self._answer(request)

    # -- REST ---------------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        answer = await self._answers.give(request.method, request.path, request.query)
        if answer is None:
            what = f"{request.method} {request.path_qs}: not in this recording"
            return web.json_response(_error_body(self.venue.name, what), status=404)
        if answer.status == 0:  # none came then, so none comes now
            if request.transport is not None:
                request.transport.close()
            return web.Response()
        headers = {"Content-Type": "application/json", **answer.headers}
        return web.Response(body=answer.body, status=answer.status, headers=headers)

    # -- streams ------------------------------------------------------------------------------------------------------

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """One client, until it leaves or the recorded connection has ended."""
        ws = web.WebSocketResponse(heartbeat=20.0, compress=False)
        await ws.prepare(request)
        chains = self._chains_at(request.path)
        named = request.query.get("streams") or request.path.partition("/ws/")[2]
        asked = Asked(topic for topic in named.split("/") if topic)
        listening = asyncio.create_task(_listen(ws, chains, asked))
        playing = asyncio.create_task(self._play(ws, chains, asked, is_raw="ws" in request.path.split("/")))
        try:
            await asyncio.wait((listening, playing), return_when=asyncio.FIRST_COMPLETED)
            if playing.done() and playing.result():
                await ws.close()
            await listening
        except OnepriceError as wrong:
            _log.error("%s: %s", self.venue.name, wrong)  # the recording changed under us
        finally:
            listening.cancel()
            playing.cancel()
            await asyncio.gather(listening, playing, return_exceptions=True)
        return ws

    async def _play(self, ws: web.WebSocketResponse, chains: Sequence[Chain], asked: Asked, *, is_raw: bool) -> bool:
        """Send what was recorded; → whether the recorded connection ended (else it stays open and silent)."""
        chain = await _wait_settled(chains, asked)
        place, is_again = chain.begin()
        connection = chain.connections[place]
        position = chain.playing[place] = self._answers.begin(connection.opened_ns, is_again=is_again)
        clock = self._pace.clock(connection.opened_ns)
        frames = frames_when_due(connection, clock=clock, answers=self._answers, position=position)
        try:
            async with aclosing(frames):
                async for frame in frames:
                    payload = payload_for(frame, chain, asked, is_raw=is_raw)
                    if payload is not None:
                        await ws.send_frame(payload, WSMsgType.BINARY if frame.is_binary else WSMsgType.TEXT)
        except ConnectionError:
            return False  # the client has left
        finally:
            self._answers.end(position)
            if chain.playing.get(place) is position:
                del chain.playing[place]
        chain.end(place)
        return connection.closed_ns is not None

    def _chains_at(self, path: str) -> list[Chain]:
        """The recorded connections that a path leads to. A path that the venue does not divide leads to all."""
        told = [(suffix, name) for name, suffix in self._suffixes.items() if path.startswith(f"{suffix}/")]
        told += [(suffix, name) for name, suffix in self._suffixes.items() if path == suffix]
        name = max(told, key=lambda one: len(one[0]))[1] if told else ""
        return [chain for chain in self._chains if not name or chain.path in ("", name)]


async def _listen(ws: web.WebSocketResponse, chains: Sequence[Chain], asked: Asked) -> None:
    """Take in what a client asks for until it leaves. What was recorded is acknowledged by the recording itself."""
    async for message in ws:
        if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
            continue
        try:
            said = msgspec.json.decode(message.data, type=_Said)
        except msgspec.MsgspecError:
            continue
        topics = said.params if said.method == "SUBSCRIBE" else said.args if said.op == "subscribe" else None
        if not isinstance(topics, list):
            continue
        names = [str(topic) for topic in topics]
        unknown = [name for name in names if not any(stream_of(name) in chain.streams for chain in chains)]
        if unknown:
            await ws.send_str(_refusal(said, unknown))
        asked.add(names)


async def _wait_settled(chains: Sequence[Chain], asked: Asked) -> Chain:
    """Wait until a client has asked for all that a recorded connection carried, or for a part of it and no more."""
    while True:
        chain = max(chains, key=lambda one: (len(one.streams & asked.streams), -len(one.streams)), default=None)
        if chain is not None and chain.streams <= asked.streams:
            return chain
        begun = chain is not None and chain.streams & asked.streams
        try:
            await asyncio.wait_for(asked.wait_more(), _SETTLED_S if begun else None)
        except TimeoutError:
            assert chain is not None
            return chain


def _refusal(said: _Said, unknown: Sequence[str]) -> str:
    what = f"not in this recording: {', '.join(unknown)}"
    body = (
        {"code": 2, "msg": f"Invalid request: {what}", "id": said.id}
        if said.method
        else {"success": False, "ret_msg": what, "conn_id": "", "req_id": said.req_id or "", "op": said.op}
    )
    return msgspec.json.encode(body).decode()


def _error_body(venue: str, what: str) -> dict[str, Any]:
    """The shape in which a venue says that it does not know a call."""
    if venue.startswith("bybit"):
        return {"retCode": 404, "retMsg": what, "result": {}, "retExtInfo": {}}
    return {"code": -5000, "msg": what}
