"""Time as int64 nanoseconds since 1970, UTC, and the clocks that tell it."""

from __future__ import annotations

import asyncio
import math
import time
from array import array
from datetime import UTC, datetime
from typing import Protocol

from oneprice.model.errors import InputError

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
_AHEAD_S = 0.01  # of real time: how far an accelerated clock runs ahead of its world
_FOR_EVER_NS = 1 << 62


class Clock(Protocol):
    """The only place that time comes from. Decisions never ask it: they are told the time of their rows.

    How long a session waits for something to be due is slept here, too. How long a socket may take to connect or to answer
    is not: it is counted in this machine's own seconds, because the network is no faster in accelerated time.
    """

    def now_ns(self) -> int: ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """This machine's clock, made monotone: it never goes back, so that a tape stays in order over a clock step."""

    def __init__(self) -> None:
        self._last_ns = 0

    def now_ns(self) -> int:
        self._last_ns = max(self._last_ns, time.time_ns())
        return self._last_ns

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class ScaledClock:
    """Accelerated time: from `start_ns` on it runs `speed` times as fast as in reality, or as fast as the world that it is
    the time of can live. That world says with `lived` how far it has come; the clock runs no more than a moment ahead of
    it. So a machine that is too slow makes a session take longer, and changes nothing of what happens in it.

    Two clocks of the same numbers that share `reached` (one int64) tell the same time in any process of this machine: the
    monotonic clock is one for all of them. Sleeps are as much shorter as time is faster; an event loop wakes no finer than
    about a millisecond, so they are exact to some `speed` milliseconds of the clock's own time.
    """

    def __init__(self, *, speed: float, start_ns: int, reached: memoryview | None = None) -> None:
        """InputError for a speed that is not a positive number."""
        if not (math.isfinite(speed) and speed > 0.0):
            raise InputError(f"speed {speed:g}: time runs so many times as fast as in reality; give a number above 0")
        self.speed = speed
        self.start_ns = start_ns
        self.began_ns = time.monotonic_ns()
        self._reached = memoryview(array("q", [start_ns])) if reached is None else reached
        self._ahead_ns = int(_AHEAD_S * speed * NS_PER_S)

    def now_ns(self) -> int:
        wanted_ns = self.start_ns + int((time.monotonic_ns() - self.began_ns) * self.speed)
        return min(wanted_ns, self._reached[0] + self._ahead_ns)

    async def sleep(self, seconds: float) -> None:
        until_ns, left_s = self.now_ns() + int(seconds * NS_PER_S), max(seconds, 0.0)
        while True:
            await asyncio.sleep(left_s / self.speed)
            left_s = (until_ns - self.now_ns()) / NS_PER_S
            if left_s <= 0.0:
                return  # else the world is late

    def follow(self, reached: memoryview, *, began_ns: int) -> None:
        """From here on be the clock of a world that another process runs: it began then, and says there how far it is."""
        self._reached, self.began_ns = reached, began_ns

    def lived(self, until_ns: int) -> None:
        """What happens until then has happened."""
        self._reached[0] = until_ns

    def release(self) -> None:
        """The world has ended: wait for it no longer."""
        self._reached[0] = _FOR_EVER_NS


def iso_ms(ts_ns: int) -> str:
    """RFC 3339 in UTC with milliseconds, rounded down.

    >>> iso_ms(1_769_083_200_123_999_999)
    '2026-01-22T12:00:00.123Z'
    """
    whole_ms = ts_ns // NS_PER_MS
    moment = datetime.fromtimestamp(whole_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{whole_ms % 1000:03d}Z"
