"""Bybit's private stream (`/v5/private`) out of the practice markets: orders, executions, positions, wallet.

There is no snapshot on subscribing. A topic is asked for as a whole (`order`) or for one product (`order.linear`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from oneprice.emulator.events import BalanceChanged, Event, FundingPaid, OrderUpdated, PositionChanged
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.emulator.server_bybit_private import PrivateCalls
from oneprice.emulator.server_bybit_rows import execution_row, funding_row, order_row
from oneprice.model.time import NS_PER_MS

_TOPICS = frozenset({"order", "execution", "position", "wallet"})
_PRODUCTS = frozenset({"spot", "linear", "inverse", "option"})


class UserStreams:
    """The private topics of all accounts."""

    def __init__(self, exchanges: Mapping[str, Exchange], calls: PrivateCalls) -> None:
        self.outlet = Outlet()
        self._exchanges = exchanges
        self._calls = calls
        self._number = 0

    def refusal(self, topics: Sequence[str]) -> str:
        """Why a subscription fails; empty when it does not."""
        for topic in topics:
            name, _, product = topic.partition(".")
            if name not in _TOPICS or product not in {"", *_PRODUCTS}:
                return f"error:handler not found,topic:{topic}"
        return ""

    def subscribe(self, socket: Socket, topics: Sequence[str]) -> None:
        self.outlet.subscribe(socket, [f"{socket.account}:{topic}" for topic in topics])

    def unsubscribe(self, socket: Socket, topics: Sequence[str]) -> None:
        self.outlet.unsubscribe(socket, [f"{socket.account}:{topic}" for topic in topics])

    def publish(self, venue: str, events: Sequence[Event], skew_ns: int) -> None:
        """Tell the accounts what became of their orders, positions and balances."""
        exchange = self._exchanges[venue]
        for event in [*events, *self._calls.take_events(venue)]:
            match event:
                case OrderUpdated():
                    if event.fill is not None:
                        row = execution_row(exchange, event.record, event.fill, skew_ns)
                        self._send(exchange, event.account, "execution", row, event.ts_ns + skew_ns)
                    row = order_row(exchange, event.record, skew_ns)
                    self._send(exchange, event.account, "order", row, event.ts_ns + skew_ns)
                case PositionChanged():
                    row = self._calls.position(exchange, event.account, event.symbol)
                    self._send(exchange, event.account, "position", row, event.ts_ns + skew_ns)
                case BalanceChanged():
                    row = self._calls.wallet(event.account, set(event.balances))
                    self._send(exchange, event.account, "wallet", row, event.ts_ns + skew_ns)
                case FundingPaid():
                    self._number += 1
                    row = funding_row(exchange, event, self._number, skew_ns)
                    self._send(exchange, event.account, "execution", row, event.ts_ns + skew_ns)
                case _:
                    pass

    def _send(self, exchange: Exchange, account: str, topic: str, row: dict[str, Any], told_ns: int) -> None:
        product = "spot" if exchange.spot else "linear"
        for name in (topic, f"{topic}.{product}"):
            listeners = self.outlet.listeners(f"{account}:{name}")
            if not listeners:
                continue
            self._number += 1
            frame = msgspec.json.encode(
                {
                    "id": f"practice-{self._number}", "topic": name, "creationTime": told_ns // NS_PER_MS,
                    "data": [row],
                }
            ).decode()  # fmt: skip
            for socket in listeners:
                socket.send(frame)
