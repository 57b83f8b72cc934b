"""Sockets and who listens to what: a frame is made once and sent to every socket that subscribed to its topic."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable

from aiohttp import WSMsgType, web

_QUEUE = 20_000  # frames a slow client may lag behind before it is cut off


class Socket:
    """One client's WebSocket: frames queue here and leave in order."""

    def __init__(self, ws: web.WebSocketResponse, *, wrapped: bool) -> None:
        self.ws = ws
        self.wrapped = wrapped
        self.topics: set[str] = set()
        self.account = ""
        self._queue: asyncio.Queue[bytes | str | None] = asyncio.Queue(_QUEUE)

    def send(self, frame: bytes | str) -> None:
        try:
            self._queue.put_nowait(frame)
        except asyncio.QueueFull:
            self.close()

    def close(self) -> None:
        """Cut the connection without a word."""
        while not self._queue.empty():
            self._queue.get_nowait()
        self._queue.put_nowait(None)

    async def pump(self) -> None:
        """Send what queues until closed. Text goes as text, bytes as binary."""
        while True:
            frame = await self._queue.get()
            if frame is None:
                transport = self.ws._req.transport if self.ws._req is not None else None
                if transport is not None:
                    transport.close()
                return
            try:
                if isinstance(frame, str):
                    await self.ws.send_str(frame)
                else:
                    await self.ws.send_bytes(frame)
            except (ConnectionError, RuntimeError):
                return


class Outlet:
    """All sockets of one server, by topic."""

    def __init__(self) -> None:
        self.sockets: set[Socket] = set()
        self.changes = 0  # how often anybody has subscribed or unsubscribed
        self._by_topic: defaultdict[str, set[Socket]] = defaultdict(set)

    def subscribe(self, socket: Socket, topics: Iterable[str]) -> None:
        self.changes += 1
        for topic in topics:
            socket.topics.add(topic)
            self._by_topic[topic].add(socket)

    def unsubscribe(self, socket: Socket, topics: Iterable[str]) -> None:
        self.changes += 1
        for topic in topics:
            socket.topics.discard(topic)
            self._by_topic[topic].discard(socket)
            if not self._by_topic[topic]:
                del self._by_topic[topic]

    def wants(self, topic: str) -> bool:
        return topic in self._by_topic

    def listeners(self, topic: str) -> set[Socket]:
        return self._by_topic.get(topic, set())

    def topics(self) -> list[str]:
        return list(self._by_topic)

    def close_all(self) -> None:
        for socket in list(self.sockets):
            socket.close()

    async def serve(self, socket: Socket, on_text: Callable[[Socket, str], None]) -> web.WebSocketResponse:
        """Own a socket until its client goes: `on_text(socket, text)` answers what it says."""
        self.sockets.add(socket)
        sending = asyncio.create_task(socket.pump())
        try:
            async for message in socket.ws:
                if message.type is WSMsgType.TEXT:
                    on_text(socket, message.data)
                elif message.type is WSMsgType.ERROR:
                    break
        finally:
            sending.cancel()
            self.unsubscribe(socket, list(socket.topics))
            self.sockets.discard(socket)
        return socket.ws
