"""Recordings to serve, written record by record, and a plain client (no oneprice in it) that reads what is served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import msgspec
from session_world import T0_NS, spot

from oneprice.data.machines import Answer, Closed, Opened, with_body
from oneprice.data.recorded import recording_of
from oneprice.data.session import RecordType, Session, SessionWriter
from oneprice.emulator.recorded import RecordedVenues
from oneprice.model.instrument import InstrumentTable
from oneprice.model.time import NS_PER_MS
from oneprice.venues.base import Channel, Request, Subscription
from oneprice.venues.feed import DEPTH, Fetch
from patience import WITHIN_S

DEPTH_PATH = "/api/v3/depth"
Said = tuple[bool, bytes]  # is binary, payload


class Step(NamedTuple):
    """One record: milliseconds after the beginning, connection, what happened, and its bytes."""

    at_ms: int
    feed: int
    happens: RecordType
    payload: bytes


def opens(at_ms: int, feed: int = 0, *, venue: str = "binance_spot", channels: Sequence[Channel] = ()) -> Step:
    wanted = tuple(Subscription(channel=channel, symbol="BTCUSDT") for channel in channels or (Channel.TRADE,))
    opened = Opened(venue=venue, path="public", subscriptions=wanted)
    return Step(at_ms, feed, RecordType.OPENED, msgspec.json.encode(opened))


def says(at_ms: int, payload: bytes, feed: int = 0, *, is_binary: bool = False) -> Step:
    return Step(at_ms, feed, RecordType.BINARY if is_binary else RecordType.TEXT, payload)


def closes(at_ms: int, feed: int = 0, *, venue: str = "binance_spot") -> Step:
    return Step(at_ms, feed, RecordType.CLOSED, msgspec.json.encode(Closed(venue=venue)))


def answers(
    at_ms: int, body: bytes, *, status: int = 200, venue: str = "binance_spot", path: str = DEPTH_PATH,
    headers: dict[str, str] | None = None,
) -> Step:  # fmt: skip
    request = Request(method="GET", path=path, query={"symbol": "BTCUSDT", "limit": "5000"})
    fetch = Fetch(purpose=DEPTH, instrument=0, request=request)
    said = Answer(venue=venue, fetch=fetch, status=status, headers=headers or {})
    return Step(at_ms, -1, RecordType.ANSWER, with_body(said, body))


def session_of(folder: Path, steps: Sequence[Step], *, venue: str = "binance_spot") -> Session:
    writer = SessionWriter(folder, InstrumentTable([spot(venue=venue)]), source="test", created_ns=T0_NS)
    for step in steps:
        writer.frame(T0_NS + step.at_ms * NS_PER_MS, step.feed, step.happens, step.payload)
    writer.close(closed_ns=T0_NS)
    return Session.open(folder)


class Client:
    """A WebSocket and REST client of one served venue, as anybody would write it."""

    def __init__(self, http: aiohttp.ClientSession, *, ws: str, rest: str) -> None:
        self.http = http
        self.ws = ws
        self.rest = rest

    @asynccontextmanager
    async def connected(self, *topics: str, path: str = "/stream") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self.http.ws_connect(self.ws + path, max_msg_size=0) as socket:
            if topics:
                await socket.send_json({"method": "SUBSCRIBE", "params": list(topics), "id": 1})
            yield socket

    async def heard(self, *topics: str, path: str = "/stream", count: int | None = None) -> list[Said]:
        """What one connection brings: so many messages, or all until the server closes it."""
        async with self.connected(*topics, path=path) as socket:
            return await hear(socket, count)

    async def depth(self, **query: str) -> tuple[int, bytes, dict[str, str]]:
        return await self.get(DEPTH_PATH, **(query or {"symbol": "BTCUSDT", "limit": "5000"}))

    async def get(self, path: str, **query: str) -> tuple[int, bytes, dict[str, str]]:
        async with self.http.get(self.rest + path, params=query) as answer:
            return answer.status, await answer.read(), dict(answer.headers)


async def hear(socket: aiohttp.ClientWebSocketResponse, count: int | None = None) -> list[Said]:
    heard: list[Said] = []
    async with asyncio.timeout(WITHIN_S):
        while count is None or len(heard) < count:
            message = await socket.receive()
            if message.type is aiohttp.WSMsgType.TEXT:
                heard.append((False, message.data.encode()))
            elif message.type is aiohttp.WSMsgType.BINARY:
                heard.append((True, message.data))
            else:
                assert count is None, f"closed after {len(heard)} of {count} messages"
                break
    return heard


@asynccontextmanager
async def served(session: Session, *, speed: float | None = None) -> AsyncIterator[Client]:
    """A session's only venue, served, and a client for it."""
    async with RecordedVenues(recording_of(session), speed=speed) as venues, aiohttp.ClientSession() as http:
        (at,) = venues.endpoints.values()
        yield Client(http, ws=at.ws["public"], rest=at.rest)
