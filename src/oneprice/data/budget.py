"""What may be asked of one host: a weight in any window of time, and not before a ban has passed.

A sliding window is stricter than any way in which a venue may count its own (fixed windows, leaking buckets). A fifth
is left to other programs behind the same address."""

from __future__ import annotations

import asyncio
from collections import deque
from urllib.parse import urlsplit

from oneprice.model.time import NS_PER_S, Clock
from oneprice.venues.base import Venue

_SHARE = 0.8
_FIVE_MINUTES_S = 300.0


class Budget:
    """The weight that one host allows in any window of `window_s`, and its bans. First come, first served."""

    def __init__(self, weight: float, window_s: float, clock: Clock) -> None:
        self._weight = weight
        self._window_ns = int(window_s * NS_PER_S)
        self._clock = clock
        self._spent: deque[tuple[int, float]] = deque()
        self._in_window = 0.0
        self._blocked_until_ns = 0
        self._turn = asyncio.Lock()
        self.bans = 0

    @property
    def blocked_s(self) -> float:
        """How long the host is still to be left alone; 0 when it is not."""
        return max(0, self._blocked_until_ns - self._clock.now_ns()) / NS_PER_S

    def block(self, seconds: float) -> None:
        """Leave the host alone for so long. A shorter wish never shortens a longer one."""
        self.bans += 1
        self._blocked_until_ns = max(self._blocked_until_ns, self._clock.now_ns() + int(seconds * NS_PER_S))

    def allows(self, weight: float) -> bool:
        """Whether `take` would not have to wait."""
        return not self._turn.locked() and self._wait_s(weight) <= 0.0

    async def take(self, weight: float) -> None:
        """Wait until `weight` may be spent. A weight above the whole budget waits for an empty window."""
        async with self._turn:
            while (wait_s := self._wait_s(weight)) > 0.0:
                await self._clock.sleep(wait_s)
            self._spent.append((self._clock.now_ns(), weight))
            self._in_window += weight

    def _wait_s(self, weight: float) -> float:
        now_ns = self._clock.now_ns()
        if now_ns < self._blocked_until_ns:
            return (self._blocked_until_ns - now_ns) / NS_PER_S
        while self._spent and self._spent[0][0] + self._window_ns <= now_ns:
            self._in_window -= self._spent.popleft()[1]
        if not self._spent or self._in_window + weight <= self._weight:
            return 0.0
        return (self._spent[0][0] + self._window_ns - now_ns) / NS_PER_S


class Budgets:
    """The budgets of all hosts, made when a venue first asks for one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._by_host: dict[str, Budget] = {}
        self._connects: dict[str, Budget] = {}

    def of(self, venue: Venue, base: str) -> Budget:
        """The REST budget of an address's host (products with limits of their own have hosts of their own)."""
        host = urlsplit(base).netloc
        if host not in self._by_host:
            limits = venue.limits
            self._by_host[host] = Budget(limits.weight_per_window * _SHARE, limits.window_s, self._clock)
        return self._by_host[host]

    def connects_of(self, venue: Venue, address: str) -> Budget:
        """How many connections may be opened to a WebSocket address's host in five minutes."""
        host = urlsplit(address).netloc
        if host not in self._connects:
            self._connects[host] = Budget(venue.limits.connects_per_5min * _SHARE, _FIVE_MINUTES_S, self._clock)
        return self._connects[host]
