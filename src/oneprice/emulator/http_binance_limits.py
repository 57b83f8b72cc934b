"""What Binance lets one address and one account do: request weight by the minute, orders by the window, and bans.

A request above the weight limit is answered 429 with `Retry-After` seconds until the minute ends; an address that goes
on asking is banned (418). Orders above an account's limit are answered 429 with -1015. An order that is filled at once
does not count: the venue counts unfilled orders. In the WebSocket API the wait is an epoch in ms (`retryAfter`)."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from oneprice.emulator.http_binance_errors import BinanceError
from oneprice.model.time import NS_PER_MS, NS_PER_S, Clock

_MINUTE_NS = 60 * NS_PER_S
_BAN_NS = 120 * NS_PER_S
_PATIENCE = 10  # refused requests in a minute before the ban
_UNITS = {"SECOND": NS_PER_S, "MINUTE": _MINUTE_NS, "DAY": 86_400 * NS_PER_S}
# (interval, how many of them, limit, header's suffix)
_SPOT_ORDERS = (("SECOND", 10, 100, "10S"), ("DAY", 1, 200_000, "1D"))
_FUTURES_ORDERS = (("SECOND", 10, 300, "10S"), ("MINUTE", 1, 1_200, "1M"))


class WeightBudget:
    """The request weight of the one address that practises."""

    def __init__(self, *, clock: Clock, futures: bool) -> None:
        self.limit = 2_400 if futures else 6_000
        self.used = 0
        self._clock = clock
        self._futures = futures
        self._minute = 0
        self._refused = 0
        self._banned_until_ns = 0

    def spend(self, weight: int) -> None:
        """Take a request's weight; 429 above the limit, 418 for who goes on."""
        now_ns = self._clock.now_ns()
        if now_ns < self._banned_until_ns:
            raise self._refusal(418, self._banned_until_ns, now_ns)
        self.add(weight)
        if self.used <= self.limit:
            return
        self._refused += 1
        if self._refused > _PATIENCE:
            self._banned_until_ns = now_ns + _BAN_NS
            raise self._refusal(418, self._banned_until_ns, now_ns)
        raise self._refusal(429, (self._minute + 1) * _MINUTE_NS, now_ns)

    def add(self, weight: int) -> None:
        """Count weight without refusing: what a failed order costs afterwards."""
        minute = self._clock.now_ns() // _MINUTE_NS
        if minute != self._minute:
            self._minute, self.used, self._refused = minute, 0, 0
        self.used += weight

    def rule(self) -> dict[str, Any]:
        """The limit as exchangeInfo states it."""
        return {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.limit}

    def headers(self) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT-1M": str(self.used)}

    def _refusal(self, status: int, until_ns: int, now_ns: int) -> BinanceError:
        until_ms = until_ns // NS_PER_MS
        if self._futures:
            advice = "Please use the websocket for live updates to avoid "
            said = (
                f"Way too many requests; IP(127.0.0.1) banned until {until_ms}. {advice}bans."
                if status == 418
                else f"Too many requests; current limit of IP(127.0.0.1) is {self.limit} requests per minute. "
                f"{advice}polling the API."
            )
        else:
            advice = "Please use WebSocket Streams for live updates to avoid "
            said = (
                f"Way too much request weight used; IP banned until {until_ms}. {advice}bans."
                if status == 418
                else f"Too much request weight used; current limit is {self.limit} request weight per 1 MINUTE. "
                f"{advice}polling the API."
            )
        wait_s = -(-(until_ns - now_ns) // NS_PER_S)
        return BinanceError(
            -1003, said, status, headers={"Retry-After": str(wait_s)},
            data={"serverTime": now_ns // NS_PER_MS, "retryAfter": until_ms},
        )  # fmt: skip


class OrderBudget:
    """Unfilled orders of each account, by window."""

    def __init__(self, *, clock: Clock, futures: bool) -> None:
        self._clock = clock
        self._windows = _FUTURES_ORDERS if futures else _SPOT_ORDERS
        self._counts: defaultdict[tuple[str, str], tuple[int, int]] = defaultdict(lambda: (0, 0))  # → (window, orders)

    def spend(self, account: str) -> None:
        """Count an order; 429 with -1015 when a window is full."""
        now_ns = self._clock.now_ns()
        for interval, number, limit, suffix in self._windows:
            length_ns = number * _UNITS[interval]
            if self._count(account, suffix, now_ns // length_ns) >= limit:
                wait_s = -(-(length_ns - now_ns % length_ns) // NS_PER_S)
                said = f"Too many new orders; current limit is {limit} orders per {number} {interval}."
                raise BinanceError(
                    -1015, said, 429, headers={"Retry-After": str(wait_s)},
                    data={"serverTime": now_ns // NS_PER_MS, "retryAfter": now_ns // NS_PER_MS + 1000 * wait_s},
                )  # fmt: skip
        self._change(account, 1)

    def give_back(self, account: str) -> None:
        """The order was filled: it does not count."""
        self._change(account, -1)

    def headers(self, account: str) -> dict[str, str]:
        """`X-MBX-ORDER-COUNT-10S` and the like."""
        return {
            f"X-MBX-ORDER-COUNT-{suffix}": str(self._count(account, suffix, self._window(interval, number)))
            for interval, number, _, suffix in self._windows
        }

    def rules(self, account: str | None = None) -> list[dict[str, Any]]:
        """The limits as exchangeInfo states them; for an account, with its counts."""
        return [
            {"rateLimitType": "ORDERS", "interval": interval, "intervalNum": number, "limit": limit}
            | ({} if account is None else {"count": self._count(account, suffix, self._window(interval, number))})
            for interval, number, limit, suffix in self._windows
        ]

    def _window(self, interval: str, number: int) -> int:
        return self._clock.now_ns() // (number * _UNITS[interval])

    def _count(self, account: str, suffix: str, window: int) -> int:
        counted_in, count = self._counts[account, suffix]
        return count if counted_in == window else 0

    def _change(self, account: str, by: int) -> None:
        for interval, number, _, suffix in self._windows:
            window = self._window(interval, number)
            self._counts[account, suffix] = (window, max(0, self._count(account, suffix, window) + by))
