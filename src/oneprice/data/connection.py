"""WebSocket connections: one `Feed` keeps one subscription list flowing, over one `Link` (socket) after another.

A frame goes from the socket's callback straight to the sink: no queue, no task switch, no copy besides the payload.
What is too much for the consumer therefore waits in the kernel's socket buffer, which is bounded by TCP itself: nothing
is dropped here, and a venue that loses patience closes the connection, which is a gap.

lost     | the socket closed, or data stopped for `silence_s` (pongs and acknowledgements are not data): the feed opens
         | anew, with growing waits
replaced | the venue announced its end, or the link nears `max_age_s`: a second link opens and subscribes; when it
         | brings data, the first one closes. Both are told to the sink, which counts nothing twice

Outgoing messages wait in a bounded outbox and leave at four fifths of the rate that the venue allows, so that a pong
between them does no harm. A full outbox ends the link: what it lost would be missed for ever."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from oneprice.data.backoff import Backoff
from oneprice.data.budget import Budget
from oneprice.data.plan import FeedPlan
from oneprice.model.errors import VenueError
from oneprice.model.tape import GapReason
from oneprice.model.time import NS_PER_S, Clock
from oneprice.venues.base import Venue

_log = logging.getLogger("oneprice.data")
_CONNECT_TIMEOUT_S = 10.0  # of this machine's own time (see `Clock`)
_MAX_FRAME_BYTES = 32 << 20
_OUTBOX = 4_096
_RATE_SHARE = 0.8
_OVERLAP_S = 1.0  # how long two links run side by side after the second one has brought data
_AGE_SHARE = (0.90, 0.97)  # of `max_age_s`: drawn, so that links opened together are not replaced together

_TEXT, _BINARY, _CONTINUATION, _CLOSE = WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION, WSMsgType.CLOSE


class FeedSink(Protocol):
    """Who is told what happens on the connections. All calls are synchronous and come from one event loop."""

    def link_opened(self, feed: Feed, link: Link) -> int:
        """A link stands; → its number. Before any of its frames; messages may be sent on it from here on."""

    def link_frame(self, number: int, payload: bytes, is_binary: bool, recv_ns: int) -> None:
        """A whole message came."""

    def link_closed(self, number: int, reason: GapReason) -> None:
        """A link ended. After all of its frames."""

    def last_data_ns(self, number: int) -> int:
        """When market data last came on a link; 0: never."""


class FeedState(msgspec.Struct, frozen=True, kw_only=True):
    """A feed's connection at a moment."""

    phase: str  # connecting, open, replacing, waiting
    link: int  # number of the link that counts; -1: none
    opened: int  # links opened so far
    reconnects: int  # after a loss
    replacements: int  # planned
    silences: int  # losses because data stopped
    refused: str  # why the last attempt to connect failed; "" after a success


class Link(WSListener):
    """One socket, from its opening to its end."""

    def __init__(self, feed: Feed) -> None:
        super().__init__()
        self.number = -1
        self.opened_ns = 0
        self.has_ended = False
        self.brings_data = False
        self.replace_because = ""
        self.feed = feed
        self._sink = feed.sink
        self._clock = feed.clock
        self._now_ns = feed.clock.now_ns
        self._transport: WSTransport | None = None
        self._why = GapReason.DISCONNECT
        self._parts: list[bytes] = []
        self._parts_binary = False
        self._outbox: asyncio.Queue[bytes] = asyncio.Queue(_OUTBOX)

    # -- called by picows ---------------------------------------------------------------------------------------------

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._transport = transport
        self.opened_ns = self._now_ns()
        self.number = self._sink.link_opened(self.feed, self)
        self.feed.links.add(self.number)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        recv_ns = self._now_ns()
        kind = frame.msg_type
        if kind is _TEXT or kind is _BINARY:
            if frame.fin:
                self._message(frame.get_payload_as_bytes(), kind is _BINARY, recv_ns)
            else:
                self._parts, self._parts_binary = [frame.get_payload_as_bytes()], kind is _BINARY
        elif kind is _CONTINUATION:
            self._parts.append(frame.get_payload_as_bytes())
            if frame.fin:
                whole, self._parts = b"".join(self._parts), []
                self._message(whole, self._parts_binary, recv_ns)
        elif kind is _CLOSE:
            transport.send_close(frame.get_close_code())
            transport.disconnect()

    def _message(self, payload: bytes, is_binary: bool, recv_ns: int) -> None:
        self._sink.link_frame(self.number, payload, is_binary, recv_ns)
        if not self.brings_data and self._sink.last_data_ns(self.number) > 0:
            self.brings_data = True
            self.feed.news()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.has_ended = True
        self.feed.news()
        if self.number >= 0:
            self.feed.links.discard(self.number)
            self._sink.link_closed(self.number, self._why)

    # -- called by the feed -------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Keep the link working until it ends. Raises only what a bug in the sink raised."""
        transport = self._transport
        assert transport is not None
        try:
            async with asyncio.TaskGroup() as tasks:
                helpers = [
                    tasks.create_task(work)
                    for work in (self._send_outbox(transport), self._ping(), self._watch_silence(), self._watch_age())
                ]
                await transport.wait_disconnected()
                for helper in helpers:
                    helper.cancel()
        except* (WSError, OSError) as lost:
            _log.info("%s: link %d ended: %s", self.feed.plan.venue, self.number, lost.exceptions[0])
        finally:
            if not self.has_ended:
                transport.disconnect(graceful=False)
                await transport.wait_disconnected()

    def send(self, payload: bytes) -> None:
        """Put a message into the outbox."""
        try:
            self._outbox.put_nowait(payload)
        except asyncio.QueueFull:
            _log.warning("%s: link %d: the outbox is full; starting over", self.feed.plan.venue, self.number)
            self.end(GapReason.OVERLOAD)

    def replace(self, reason: str) -> None:
        """Have a successor opened, then close this one."""
        if not self.replace_because:
            _log.info("%s: link %d will be replaced: %s", self.feed.plan.venue, self.number, reason)
            self.replace_because = reason
            self.feed.news()

    def end(self, why: GapReason = GapReason.DISCONNECT) -> None:
        """Close the socket; `why` is what the sink will be told."""
        if not self.has_ended and self._transport is not None:
            self._why = why
            self._transport.send_close(WSCloseCode.OK)
            self._transport.disconnect(graceful=False)

    async def _send_outbox(self, transport: WSTransport) -> None:
        pause_s = 1.0 / (self.feed.venue.limits.ws_messages_per_s * _RATE_SHARE)
        while True:
            payload = await self._outbox.get()
            transport.send(_TEXT, payload)
            await self._clock.sleep(pause_s)

    async def _ping(self) -> None:
        ping = self.feed.venue.ping
        if ping.payload is None:
            return  # the venue pings, and picows answers
        while True:
            await self._clock.sleep(ping.every_s)
            self.send(ping.payload)

    async def _watch_silence(self) -> None:
        silence_ns = int(self.feed.venue.silence_s * NS_PER_S)
        while True:
            last_ns = max(self.opened_ns, self._sink.last_data_ns(self.number))
            left_ns = last_ns + silence_ns - self._now_ns()
            if left_ns <= 0:
                break
            await self._clock.sleep(left_ns / NS_PER_S)
        _log.warning(
            "%s: link %d: no data for %.0f s; starting over", self.feed.plan.venue, self.number,
            self.feed.venue.silence_s,
        )  # fmt: skip
        self.end(GapReason.STALE)
        self.feed.count_silence()

    async def _watch_age(self) -> None:
        age_s = self.feed.venue.max_age_s
        if age_s is None:
            return
        await self._clock.sleep(age_s * self.feed.rng.uniform(*_AGE_SHARE))
        self.replace("it nears the age at which the venue cuts it")


class Feed:
    """Keeps one connection of a plan on the tape until cancelled; every loss is told to the sink."""

    def __init__(
        self,
        plan: FeedPlan,
        venue: Venue,
        *,
        sink: FeedSink,
        clock: Clock,
        rng: random.Random,
        connects: Budget,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.plan = plan
        self.venue = venue
        self.sink = sink
        self.clock = clock
        self.rng = rng
        self._connects = connects
        self._headers = dict(headers or {})
        self.links: set[int] = set()  # numbers of the links that are open now: one, or two during a replacement
        self._backoff = Backoff(rng)
        self._news = asyncio.Event()
        self._phase, self._current = "connecting", -1
        self._opened = self._reconnects = self._replacements = self._silences = 0
        self._refused = ""

    @property
    def state(self) -> FeedState:
        return FeedState(
            phase=self._phase, link=self._current, opened=self._opened, reconnects=self._reconnects,
            replacements=self._replacements, silences=self._silences, refused=self._refused,
        )  # fmt: skip

    async def run(self) -> None:
        """Hold a link, and the next one when it is lost, and so on. Ends by cancellation, or by a bug in the sink."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                link: Link | None = await self._connect_until_open(tasks)
                while link is not None:
                    self._phase, self._current = "open", link.number
                    link = await self._hold(tasks, link)
                self._reconnects += 1
                await self._pause()

    def news(self) -> None:
        """Something happened that `run` may be waiting for."""
        self._news.set()

    def count_silence(self) -> None:
        self._silences += 1

    async def _hold(self, tasks: asyncio.TaskGroup, link: Link) -> Link | None:
        """Wait until a link ends (→ None) or has been replaced (→ its successor)."""
        await self._wait_until(lambda: link.has_ended or link.replace_because != "")
        if link.brings_data:
            self._backoff.reset()
        while not link.has_ended:
            self._phase = "replacing"
            successor = await self._replace(tasks, link)
            if successor is not None:
                self._replacements += 1
                return successor
            await self.clock.sleep(self._backoff.next_s())
        return None

    async def _replace(self, tasks: asyncio.TaskGroup, link: Link) -> Link | None:
        """One attempt at a successor that has brought data before the old link closes (or has outlived it)."""
        successor = await self._connect(tasks)
        if successor is None:
            return None
        await self._wait_until(lambda: link.has_ended or successor.has_ended or successor.brings_data)
        if not link.has_ended and not successor.has_ended:
            await self.clock.sleep(_OVERLAP_S)
        if successor.has_ended:
            return None
        link.end()
        await self._wait_until(lambda: link.has_ended)
        return successor

    async def _connect_until_open(self, tasks: asyncio.TaskGroup) -> Link:
        self._phase, self._current = "connecting", -1
        while (link := await self._connect(tasks)) is None:
            await self._pause()
            self._phase = "connecting"
        return link

    async def _connect(self, tasks: asyncio.TaskGroup) -> Link | None:
        """Open a link and have it served; None (and why in `refused`) when the venue does not let us."""
        await self._connects.take(1)
        link = Link(self)
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                await ws_connect(
                    lambda: link, self.plan.address, extra_headers=self._headers, max_frame_size=_MAX_FRAME_BYTES,
                    websocket_handshake_timeout=_CONNECT_TIMEOUT_S, enable_auto_ping=False, enable_auto_pong=True,
                    disconnect_on_exception=True,
                )  # fmt: skip
        except asyncio.CancelledError:
            link.end()  # it may have opened a moment ago
            raise
        except (OSError, TimeoutError, WSError) as wrong:
            self._refused = str(wrong) or type(wrong).__name__
            error = VenueError(f"{self.plan.venue}: cannot connect to {self.plan.address}: {self._refused}")
            _log.warning("%s; trying again within %.0f s", error, self._backoff.bound_s)
            return None
        self._opened += 1
        self._refused = ""
        _log.info("%s: link %d stands at %s", self.plan.venue, link.number, self.plan.address)
        tasks.create_task(link.serve())
        return link

    async def _pause(self) -> None:
        self._phase, self._current = "waiting", -1
        await self.clock.sleep(self._backoff.next_s())

    async def _wait_until(self, happened: Callable[[], bool]) -> None:
        while not happened():
            self._news.clear()
            await self._news.wait()
