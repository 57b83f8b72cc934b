"""Which recorded connection a client gets, and when each of its frames is sent.

a client comes                                           | and gets
---------------------------------------------------------|-----------------------------------------------------
first                                                    | the first recorded connection of what it asks for
after a connection was played to its end                 | the one recorded after it; after the last one the first again
after leaving before the end                             | the same connection from its beginning
while one is played, near the opening of its replacement | the replacement
while one is played, else                                | the same connection from its beginning

The first client starts the recording's clock, and connections keep their distances to each other by it. A client that
comes too late for it starts it anew."""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence

from oneprice.emulator.recorded_answers import Answers, Position
from oneprice.emulator.recorded_values import RecordedConnection, RecordedFrame
from oneprice.model.errors import InputError
from oneprice.model.time import NS_PER_S

_LATE_S = 5.0  # a connection that begins so much later than it should starts the clock anew
_REPLACED_NS = NS_PER_S  # a replacement is opened at most so much earlier than it was then (recorded time)
_NAMED = re.compile(rb'\{"(?:stream|topic)":"([^"]+)"')
_ENVELOPE = re.compile(rb'\{"stream":"[^"]+","data":')


def stream_of(topic: str) -> str:
    """A topic without its update speed, which recordings and clients choose differently.

    >>> stream_of("btcusdt@depth@100ms"), stream_of("orderbook.50.BTCUSDT")
    ('btcusdt@depth', 'orderbook.50.BTCUSDT')
    """
    return "@".join(topic.split("@")[:2])


def topic_named(payload: bytes) -> str | None:
    """The topic that a frame says it belongs to; None where it says nothing of it (acknowledgements, SBE, raw streams).

    >>> topic_named(b'{"stream":"btcusdt@trade","data":{}}'), topic_named(b'{"result":null,"id":1}')
    ('btcusdt@trade', None)
    """
    found = _NAMED.match(payload)
    return found[1].decode(errors="replace") if found is not None else None


class Asked:
    """What one client has asked for so far, as `stream_of` names it."""

    def __init__(self, topics: Iterable[str] = ()) -> None:
        self.streams = {stream_of(topic) for topic in topics}
        self._more = asyncio.Event()

    def add(self, topics: Iterable[str]) -> None:
        self.streams |= {stream_of(topic) for topic in topics}
        self._more.set()

    async def wait_more(self) -> None:
        """Wait until something is added."""
        await self._more.wait()
        self._more.clear()


class Clock:
    """Recorded time laid on the loop's time from one moment on. `speed` None: nothing is waited for."""

    def __init__(self, speed: float | None, *, at_ns: int, at_s: float) -> None:
        self.is_paced = speed is not None
        self._speed = speed
        self._at_ns = at_ns
        self._at_s = at_s

    def due_s(self, recorded_ns: int) -> float:
        """The loop's time at which a recorded moment comes."""
        return self._at_s + (0.0 if self._speed is None else (recorded_ns - self._at_ns) / NS_PER_S / self._speed)

    async def wait_until(self, recorded_ns: int) -> None:
        ahead_s = self.due_s(recorded_ns) - asyncio.get_running_loop().time()
        if ahead_s > 0.0:
            await asyncio.sleep(ahead_s)


class Pace:
    """The clock that the connections of a recording share. InputError for a speed that is not above 0."""

    def __init__(self, speed: float | None) -> None:
        if speed is not None and not speed > 0.0:
            raise InputError(f"speed {speed}: a recording goes forward; give a number above 0, or max")
        self._speed = speed
        self._clock: Clock | None = None

    def clock(self, opened_ns: int) -> Clock:
        """The clock for a connection that begins now."""
        now_s = asyncio.get_running_loop().time()
        if self._clock is None or now_s - self._clock.due_s(opened_ns) > _LATE_S:
            self._clock = Clock(self._speed, at_ns=opened_ns, at_s=now_s)
        return self._clock


class Chain:
    """The recorded connections that carried the same topics, one after the other."""

    def __init__(self, path: str, connections: Sequence[RecordedConnection]) -> None:
        self.path = path
        self.streams = {stream_of(topic) for topic in connections[0].topics}
        self.connections = connections
        self.playing: dict[int, Position] = {}  # by place: its newest client
        self._next = 0
        self._begun: set[int] = set()

    def begin(self) -> tuple[int, bool]:
        """Choose for a client that comes now; → place of its connection, and whether it had been begun before."""
        playing = self.playing.get(self._next)
        following = self.connections[self._next + 1 : self._next + 2]
        if playing is not None and any(one.opened_ns <= playing.at_ns + _REPLACED_NS for one in following):
            self._next += 1
        is_again = self._next in self._begun
        self._begun.add(self._next)
        return self._next, is_again

    def end(self, place: int) -> None:
        """A connection was played to its end."""
        if place == self._next:
            self._next = (place + 1) % len(self.connections)


def chains_of(connections: Sequence[RecordedConnection], venue: str) -> list[Chain]:
    """The connections of a venue as chains."""
    found: dict[tuple[str, frozenset[str]], list[RecordedConnection]] = {}
    for connection in connections:
        if connection.venue == venue:
            found.setdefault((connection.path, connection.topics), []).append(connection)
    return [Chain(path, chain) for (path, _), chain in found.items()]


async def frames_when_due(
    connection: RecordedConnection, *, clock: Clock, answers: Answers, position: Position
) -> AsyncGenerator[RecordedFrame, None]:
    """A recorded connection, frame by frame when each is due; ends when the connection ended. REST answers are let out
    between the frames between which they came."""
    ahead = deque(answers.after(connection.opened_ns))
    waits_for_client = not clock.is_paced

    async def wait_until(recorded_ns: int) -> None:
        nonlocal waits_for_client
        while ahead and ahead[0].answer.recv_ns <= recorded_ns:
            entry = ahead.popleft()
            await clock.wait_until(entry.answer.recv_ns)
            await answers.let_out(position, entry)
            if waits_for_client and entry.answer.is_snapshot:
                waits_for_client = await answers.wait_given(entry)
        await clock.wait_until(recorded_ns)
        position.at_ns = recorded_ns

    for piece in connection.frames():
        for frame in piece:
            await wait_until(frame.recv_ns)
            yield frame
        await asyncio.sleep(0)
    if connection.closed_ns is not None:
        await wait_until(connection.closed_ns)


def payload_for(frame: RecordedFrame, chain: Chain, asked: Asked, *, is_raw: bool) -> bytes | None:
    """What a client gets of a frame: its bytes; None where it says that it belongs to what the client did not ask for.

    `is_raw`: the client takes raw streams, from which Binance leaves its envelope away.
    """
    if not chain.streams <= asked.streams:
        topic = topic_named(frame.payload)
        if topic is not None and stream_of(topic) not in asked.streams:
            return None
    if is_raw and (envelope := _ENVELOPE.match(frame.payload)) is not None:
        return frame.payload[envelope.end() : -1]
    return frame.payload
