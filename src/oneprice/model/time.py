"""Time as int64 nanoseconds since 1970, UTC, and the clocks that tell it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class Clock(Protocol):
    """The only place that time comes from. Decisions never ask it: they are told the time of their rows."""

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


def iso_ms(ts_ns: int) -> str:
    """RFC 3339 in UTC with milliseconds, rounded down.

    >>> iso_ms(1_769_083_200_123_999_999)
    '2026-01-22T12:00:00.123Z'
    """
    whole_ms = ts_ns // NS_PER_MS
    moment = datetime.fromtimestamp(whole_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{whole_ms % 1000:03d}Z"
