"""Binance's private streams: spot over the WebSocket API (`userDataStream.subscribe.signature`), USD-M by listen key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from oneprice.emulator.events import BalanceChanged, Event, OrderUpdated, PositionChanged
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.http_binance import Gate, Params
from oneprice.emulator.orders_binance import STATUS, time_in_force_of, type_of
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.model.order import ReportType
from oneprice.model.time import NS_PER_MS

Route = tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
_EXECUTION = {
    ReportType.ACCEPTED: "NEW", ReportType.FILL: "TRADE", ReportType.CANCELLED: "CANCELED",
    ReportType.EXPIRED: "EXPIRED", ReportType.REJECTED: "REJECTED",
}  # fmt: skip


class UserStreams:
    def __init__(
        self, exchange: Exchange, gate: Gate, keys: Mapping[str, tuple[str, str]], *, futures: bool
    ) -> None:  # fmt: skip
        self.outlet = Outlet()
        self._exchange = exchange
        self._gate = gate
        self._futures = futures
        self._listen_keys: dict[str, str] = {}  # listen key → account

    def routes(self) -> list[Route]:
        if not self._futures:
            return []
        signed = self._gate.signed
        path = "/fapi/v1/listenKey"
        return [
            ("POST", path, signed(self._listen_key, key_only=True)),
            ("PUT", path, signed(self._listen_key, key_only=True)),
            ("DELETE", path, signed(lambda account, params: {}, key_only=True)),
        ]

    def ws_calls(self) -> dict[str, Callable[[Any, Mapping[str, Any]], object]]:
        def subscribe(socket: Socket, params: Mapping[str, Any]) -> object:
            socket.account = self._gate.ws_account(params)
            return {"subscriptionId": 0}

        return {"userDataStream.subscribe.signature": subscribe, "userDataStream.unsubscribe": lambda _, __: {}}

    def _listen_key(self, account: str, params: Params) -> object:
        key = f"practice-listen-{account}"
        self._listen_keys[key] = account
        return {"listenKey": key}

    async def serve_listen_key(self, request: web.Request) -> web.StreamResponse:
        """A private socket of USD-M: the listen key in the path, in the query, or subscribed to as a stream."""
        named = request.match_info.get("key") or request.query.get("listenKey") or request.query.get("streams") or ""
        ws = web.WebSocketResponse(heartbeat=180.0)
        await ws.prepare(request)
        socket = Socket(ws, wrapped=request.path.endswith("/stream"))
        socket.account = self._listen_keys.get(named, "")
        if named and not socket.account:
            await ws.close(code=1008, message=b"invalid listen key")
            return ws

        def on_text(said: Socket, text: str) -> None:
            asked = msgspec.json.decode(text)
            for topic in asked.get("params") or []:
                said.account = self._listen_keys.get(str(topic), said.account)
            said.send(msgspec.json.encode({"result": None, "id": asked.get("id")}).decode())

        return await self.outlet.serve(socket, on_text)

    def publish(self, events: Sequence[Event]) -> None:
        for event in events:
            if not isinstance(event, OrderUpdated | BalanceChanged | PositionChanged):
                continue
            listeners = [socket for socket in self.outlet.sockets if socket.account == event.account]
            if not listeners:
                continue
            body = self._futures_event(event) if self._futures else self._spot_event(event)
            if body is None:
                continue
            text = msgspec.json.encode(body if self._futures else {"subscriptionId": 0, "event": body}).decode()
            for socket in listeners:
                socket.send(text)

    def _spot_event(self, event: OrderUpdated | BalanceChanged | PositionChanged) -> dict[str, Any] | None:
        ms = event.ts_ns // NS_PER_MS
        if isinstance(event, BalanceChanged):
            held = [
                {"a": asset, "f": f"{balance.free:f}", "l": f"{balance.locked:f}"}
                for asset, balance in event.balances.items()
            ]
            return {"e": "outboundAccountPosition", "E": ms, "u": ms, "B": held}
        if isinstance(event, PositionChanged):
            return None
        order, fill = event.record, event.fill
        instrument = self._exchange.instruments[order.symbol]
        quote = instrument.notional(fill.price, fill.qty) if fill is not None else None
        cancelled = event.execution is ReportType.CANCELLED
        return {
            "e": "executionReport", "E": ms, "s": order.symbol, "c": order.client_id, "S": order.side.name,
            "o": type_of(order, False), "f": time_in_force_of(order, False), "q": str(instrument.qty(order.qty)),
            "p": str(instrument.price(order.price)), "P": "0", "F": "0", "g": -1,
            "C": order.client_id if cancelled else "", "x": _EXECUTION[event.execution], "X": STATUS[order.state],
            "r": "NONE", "i": order.order_id, "l": str(instrument.qty(fill.qty)) if fill is not None else "0",
            "z": str(instrument.qty(order.filled_qty)),
            "L": str(instrument.price(fill.price)) if fill is not None else "0",
            "n": f"{fill.fee:f}" if fill is not None else "0", "N": fill.fee_asset if fill is not None else None,
            "T": ms, "t": fill.trade_id if fill is not None else -1, "I": 1, "w": not order.state.is_final,
            "m": fill.maker if fill is not None else False, "M": False, "O": order.created_ns // NS_PER_MS,
            "Z": f"{order.filled_notional:f}", "Y": f"{quote:f}" if quote is not None else "0", "Q": "0",
            "W": order.created_ns // NS_PER_MS, "V": "NONE",
        }  # fmt: skip

    def _futures_event(self, event: OrderUpdated | BalanceChanged | PositionChanged) -> dict[str, Any]:
        ms = event.ts_ns // NS_PER_MS
        if isinstance(event, BalanceChanged):
            held = [
                {"a": asset, "wb": f"{balance.free + balance.locked:f}", "cw": f"{balance.free:f}", "bc": "0"}
                for asset, balance in event.balances.items()
            ]
            return {"e": "ACCOUNT_UPDATE", "E": ms, "T": ms, "a": {"m": event.reason, "B": held, "P": []}}
        if isinstance(event, PositionChanged):
            instrument = self._exchange.instruments[event.symbol]
            position = {
                "s": event.symbol, "pa": str(instrument.qty(event.record.qty)), "ep": f"{event.record.entry_price:f}",
                "bep": f"{event.record.entry_price:f}", "cr": f"{event.record.realised:f}", "up": "0", "mt": "cross",
                "iw": "0", "ps": "BOTH",
            }  # fmt: skip
            return {"e": "ACCOUNT_UPDATE", "E": ms, "T": ms, "a": {"m": "ORDER", "B": [], "P": [position]}}
        order, fill = event.record, event.fill
        instrument = self._exchange.instruments[order.symbol]
        filled = instrument.qty(order.filled_qty)
        average = order.filled_notional / filled if filled else 0
        body = {
            "s": order.symbol, "c": order.client_id, "S": order.side.name, "o": type_of(order, True),
            "f": time_in_force_of(order, True), "q": str(instrument.qty(order.qty)),
            "p": str(instrument.price(order.price)), "ap": f"{average:f}", "sp": "0", "x": _EXECUTION[event.execution],
            "X": STATUS[order.state], "i": order.order_id,
            "l": str(instrument.qty(fill.qty)) if fill is not None else "0", "z": str(filled),
            "L": str(instrument.price(fill.price)) if fill is not None else "0", "T": ms,
            "t": fill.trade_id if fill is not None else 0, "b": "0", "a": "0",
            "m": fill.maker if fill is not None else False, "R": order.reduce_only, "wt": "CONTRACT_PRICE",
            "ot": type_of(order, True), "ps": "BOTH", "cp": False,
            "rp": f"{fill.realised:f}" if fill is not None else "0", "pP": False, "V": "NONE", "pm": "NONE", "gtd": 0,
        }  # fmt: skip
        if fill is not None:
            body |= {"n": f"{fill.fee:f}", "N": fill.fee_asset}
        return {"e": "ORDER_TRADE_UPDATE", "E": ms, "T": ms, "o": body}
