"""Binance's private streams: spot on the WebSocket API (`userDataStream.subscribe.signature`), USD-M by listen key.

Spot events come wrapped, `{"subscriptionId":0,"event":{…}}`; on a cancel `c` is the cancel's own id and `C` the order's.
USD-M tells a fill twice (`TRADE_LITE`, then `ORDER_TRADE_UPDATE`), and what it moved in one `ACCOUNT_UPDATE`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from oneprice.emulator.events import BalanceChanged, Event, FundingPaid, OrderUpdated, PositionChanged
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.http_binance import Gate, Route
from oneprice.emulator.http_binance_errors import BinanceError, Params
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.emulator.server_binance_rows import (
    STATUS,
    average_of,
    money,
    price_text,
    qty_text,
    time_in_force_of,
    type_of,
)
from oneprice.model.order import ReportType
from oneprice.model.time import NS_PER_MS, NS_PER_S

_EXECUTION = {
    ReportType.ACCEPTED: "NEW", ReportType.FILL: "TRADE", ReportType.CANCELLED: "CANCELED",
    ReportType.EXPIRED: "EXPIRED", ReportType.REJECTED: "REJECTED",
}  # fmt: skip
_KEY_LIVES_NS = 3600 * NS_PER_S
_NO_KEY = BinanceError(-1125, "This listenKey does not exist.")


class UserStreams:
    """The private sockets of all accounts of one product."""

    def __init__(self, exchange: Exchange, gate: Gate, cancel_ids: Mapping[int, str]) -> None:
        self.outlet = Outlet()
        self._exchange = exchange
        self._gate = gate
        self._cancel_ids = cancel_ids
        self._listen_keys: dict[str, tuple[str, int]] = {}  # listen key → (account, end of its life)

    # -- spot: subscriptions on the WebSocket API ---------------------------------------------------------------------

    def ws_calls(self) -> dict[str, Callable[[Any, Mapping[str, Any]], object]]:
        """The methods that begin and end a spot user data stream."""
        if self._gate.futures:
            return {}

        def subscribe(socket: Socket, params: Mapping[str, Any]) -> object:
            socket.account = self._gate.ws_account(params)
            return {"subscriptionId": 0}

        def unsubscribe(socket: Socket, params: Mapping[str, Any]) -> object:
            socket.account = ""
            return {}

        return {"userDataStream.subscribe.signature": subscribe, "userDataStream.unsubscribe": unsubscribe}

    # -- futures: listen keys -----------------------------------------------------------------------------------------

    def routes(self) -> list[Route]:
        """The calls about listen keys: with the key's header only, unsigned."""
        if not self._gate.futures:
            return []
        path, signed = "/fapi/v1/listenKey", self._gate.signed
        return [
            ("POST", path, signed(self._make_key, key_only=True)),
            ("PUT", path, signed(self._keep_key, key_only=True)),
            ("DELETE", path, signed(self._end_key, key_only=True)),
        ]

    def _make_key(self, account: str, params: Params) -> object:
        """A key that lives an hour; the one that lives already, with a new hour."""
        key = f"practice-listen-{account}"
        self._listen_keys[key] = (account, self._gate.clock_ns() + _KEY_LIVES_NS)
        return {"listenKey": key}

    def _keep_key(self, account: str, params: Params) -> object:
        if not any(owner == account for owner, _ in self._listen_keys.values()):
            raise _NO_KEY
        return self._make_key(account, params)

    def _end_key(self, account: str, params: Params) -> object:
        self._listen_keys = {key: held for key, held in self._listen_keys.items() if held[0] != account}
        for socket in self.outlet.sockets:
            socket.account = "" if socket.account == account else socket.account
        return {}

    def _owner_of(self, key: str) -> str:
        account, ends_ns = self._listen_keys.get(key, ("", 0))
        return account if self._gate.clock_ns() < ends_ns else ""

    async def serve_listen_key(self, request: web.Request) -> web.StreamResponse:
        """A private socket of USD-M: the listen key in the path, in the query, or subscribed to as a stream."""
        named = request.match_info.get("key") or request.query.get("listenKey") or request.query.get("streams") or ""
        ws = web.WebSocketResponse(heartbeat=180.0)
        await ws.prepare(request)
        socket = Socket(ws, wrapped=request.path.endswith("/stream"))
        socket.account = self._owner_of(named)
        if named and not socket.account:
            await ws.close(code=1008, message=b"invalid listen key")
            return ws

        def on_text(said: Socket, text: str) -> None:
            try:
                asked = msgspec.json.decode(text, type=dict[str, Any])
            except msgspec.MsgspecError:
                said.send('{"code":2,"msg":"Invalid request: the frame is not a JSON object"}')
                return
            for topic in asked.get("params") or []:
                said.account = self._owner_of(str(topic)) or said.account
            said.send(msgspec.json.encode({"result": None, "id": asked.get("id")}).decode())

        return await self.outlet.serve(socket, on_text)

    # -- events -------------------------------------------------------------------------------------------------------

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Tell the accounts what became of their orders, balances and positions."""
        self._end_old_keys(now_ns)
        skew_ns = self._gate.skew_ns()
        told = self._futures_events(events, skew_ns) if self._gate.futures else self._spot_events(events, skew_ns)
        for account, body in told:
            listeners = [socket for socket in self.outlet.sockets if socket.account == account]
            if len(listeners) > 0:
                text = msgspec.json.encode(body if self._gate.futures else {"subscriptionId": 0, "event": body})
                for socket in listeners:
                    socket.send(text.decode())

    def _end_old_keys(self, now_ns: int) -> None:
        for key, (account, ends_ns) in list(self._listen_keys.items()):
            if now_ns >= ends_ns:
                del self._listen_keys[key]
                text = f'{{"e":"listenKeyExpired","E":"{self._gate.now_ms()}","listenKey":"{key}"}}'
                for socket in self.outlet.sockets:
                    if socket.account == account:
                        socket.account = ""
                        socket.send(text)

    def _spot_events(self, events: Sequence[Event], skew_ns: int) -> Iterator[tuple[str, dict[str, Any]]]:
        for event in events:
            match event:
                case OrderUpdated():
                    yield event.account, self._execution_report(event, skew_ns)
                case BalanceChanged():
                    ms = (event.ts_ns + skew_ns) // NS_PER_MS
                    held = [
                        {"a": asset, "f": money(balance.free), "l": money(balance.locked)}
                        for asset, balance in event.balances.items()
                    ]
                    yield event.account, {"e": "outboundAccountPosition", "E": ms, "u": ms, "B": held}
                case _:
                    pass

    def _execution_report(self, event: OrderUpdated, skew_ns: int) -> dict[str, Any]:
        order, fill = event.record, event.fill
        instrument = self._exchange.instruments[order.symbol]
        ms, created_ms = (event.ts_ns + skew_ns) // NS_PER_MS, (order.created_ns + skew_ns) // NS_PER_MS
        cancelled = event.execution is ReportType.CANCELLED
        none = qty_text(instrument, 0)
        return {
            "e": "executionReport", "E": ms, "s": order.symbol,
            "c": self._cancel_ids.get(order.order_id, order.client_id) if cancelled else order.client_id,
            "S": order.side.name, "o": type_of(order, instrument), "f": time_in_force_of(order, instrument),
            "q": qty_text(instrument, order.qty), "p": price_text(instrument, order.price), "P": none, "F": none,
            "g": -1, "C": order.client_id if cancelled else "", "x": _EXECUTION[event.execution],
            "X": STATUS[order.state], "r": "NONE", "i": order.order_id,
            "l": qty_text(instrument, fill.qty) if fill is not None else none,
            "z": qty_text(instrument, order.filled_qty),
            "L": price_text(instrument, fill.price) if fill is not None else none,
            "n": money(fill.fee) if fill is not None else "0", "N": fill.fee_asset if fill is not None else None,
            "T": ms, "t": fill.trade_id if fill is not None else -1, "I": order.order_id,
            "w": not order.state.is_final, "m": fill.maker if fill is not None else False, "M": False, "O": created_ms,
            "Z": money(order.filled_notional),
            "Y": money(instrument.notional(fill.price, fill.qty)) if fill is not None else none, "Q": none,
            "W": created_ms, "V": "NONE",
        }  # fmt: skip

    def _futures_events(self, events: Sequence[Event], skew_ns: int) -> Iterator[tuple[str, dict[str, Any]]]:
        """As the account sees them. A balance and the position that moved with it are one update."""
        paid: FundingPaid | None = None
        balance: BalanceChanged | None = None
        for event in events:
            if balance is not None:
                position = event if isinstance(event, PositionChanged) and event.account == balance.account else None
                yield balance.account, self._account_update(balance, position, paid, skew_ns)
                balance, paid = None, None
                if position is not None:
                    continue
            match event:
                case OrderUpdated():
                    if event.fill is not None:
                        yield event.account, self._trade_lite(event, skew_ns)
                    yield event.account, self._order_trade_update(event, skew_ns)
                case FundingPaid():
                    paid = event
                case BalanceChanged():
                    balance = event
                case _:
                    pass
        if balance is not None:
            yield balance.account, self._account_update(balance, None, paid, skew_ns)

    def _account_update(
        self, event: BalanceChanged, moved: PositionChanged | None, paid: FundingPaid | None, skew_ns: int
    ) -> dict[str, Any]:  # fmt: skip
        ms = (event.ts_ns + skew_ns) // NS_PER_MS
        is_funding = paid is not None and paid.account == event.account
        change = money(paid.amount) if paid is not None and is_funding else "0"
        held = [
            {
                "a": asset, "wb": money(balance.free + balance.locked), "cw": money(balance.free + balance.locked),
                "bc": change,
            }
            for asset, balance in event.balances.items()
        ]  # fmt: skip
        positions = []
        if moved is not None:
            instrument, record = self._exchange.instruments[moved.symbol], moved.record
            positions = [
                {
                    "s": moved.symbol, "pa": str(instrument.qty(record.qty)), "ep": money(record.entry_price),
                    "bep": money(record.entry_price), "cr": money(record.realised), "up": "0", "mt": "cross",
                    "iw": "0", "ps": "BOTH",
                }
            ]  # fmt: skip
        of_symbol = {"S": paid.symbol} if paid is not None and is_funding else {}
        body = {"m": event.reason, **of_symbol, "B": held, "P": positions}
        return {"e": "ACCOUNT_UPDATE", "E": ms, "T": ms, "a": body}

    def _order_trade_update(self, event: OrderUpdated, skew_ns: int) -> dict[str, Any]:
        order, fill = event.record, event.fill
        instrument = self._exchange.instruments[order.symbol]
        ms = (event.ts_ns + skew_ns) // NS_PER_MS
        body: dict[str, Any] = {
            "s": order.symbol, "c": order.client_id, "S": order.side.name, "o": type_of(order, instrument),
            "f": time_in_force_of(order, instrument), "q": qty_text(instrument, order.qty),
            "p": price_text(instrument, order.price), "ap": f"{average_of(order, instrument):.5f}", "sp": "0",
            "x": _EXECUTION[event.execution], "X": STATUS[order.state], "i": order.order_id,
            "l": qty_text(instrument, fill.qty) if fill is not None else "0",
            "z": qty_text(instrument, order.filled_qty),
            "L": price_text(instrument, fill.price) if fill is not None else "0", "T": ms,
            "t": fill.trade_id if fill is not None else 0, "b": "0", "a": "0",
            "m": fill.maker if fill is not None else False, "R": order.reduce_only, "wt": "CONTRACT_PRICE",
            "ot": type_of(order, instrument), "ps": "BOTH", "cp": False,
            "rp": money(fill.realised) if fill is not None else "0", "pP": False, "V": "NONE", "pm": "NONE", "gtd": 0,
        }  # fmt: skip
        if fill is not None:
            body |= {"n": money(fill.fee), "N": fill.fee_asset}
        return {"e": "ORDER_TRADE_UPDATE", "E": ms, "T": ms, "o": body}

    def _trade_lite(self, event: OrderUpdated, skew_ns: int) -> dict[str, Any]:
        """A fill in short, without its commission: the same fill follows in ORDER_TRADE_UPDATE."""
        order, fill = event.record, event.fill
        assert fill is not None, "only fills are told in short"
        instrument, ms = self._exchange.instruments[order.symbol], (event.ts_ns + skew_ns) // NS_PER_MS
        return {
            "e": "TRADE_LITE", "E": ms, "T": ms, "s": order.symbol, "q": qty_text(instrument, order.qty),
            "p": price_text(instrument, order.price), "m": fill.maker, "c": order.client_id, "S": order.side.name,
            "L": price_text(instrument, fill.price), "l": qty_text(instrument, fill.qty), "t": fill.trade_id,
            "i": order.order_id,
        }  # fmt: skip
