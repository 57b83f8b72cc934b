"""Bybit v5 as a practice server: spot and linear on one port, with REST, public streams, private stream, order entry.

path                       | file
---------------------------|------------------------------------------------------------
`/v5/market/…`             | server_bybit_rest.py
`/v5/order/…` and accounts | server_bybit_private.py (rows: server_bybit_rows.py)
`/v5/public/{product}`     | server_bybit_stream.py
`/v5/private`              | server_bybit_user.py
`/v5/trade`                | here, with the calls of server_bybit_private.py"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from oneprice.emulator.events import Event
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.emulator.server_bybit_http import VENUES, BybitError, Gate, order_limit_of
from oneprice.emulator.server_bybit_private import PrivateCalls
from oneprice.emulator.server_bybit_rest import MarketCalls, Markets
from oneprice.emulator.server_bybit_stream import BybitStreams
from oneprice.emulator.server_bybit_user import UserStreams
from oneprice.model.time import NS_PER_MS, Clock
from oneprice.venues.base import Endpoints
from oneprice.venues.registry import venue as find_venue

_BAD_OP, _REPEATED_ID, _NOT_AUTHORISED = 10404, 20006, 10004
_PRODUCTS = {venue: product for product, venue in VENUES.items()}


class BybitServer:
    """`bybit_spot` and `bybit_linear`, or one of them, on one port."""

    def __init__(
        self, exchanges: Mapping[str, Exchange], *, faults: FaultPlan, clock: Clock,
        keys: Mapping[str, tuple[str, str]],
    ) -> None:  # fmt: skip
        self._faults = faults
        self._clock = clock
        self._gate = Gate(list(exchanges), clock=clock, faults=faults, keys=keys)
        markets = Markets(exchanges)
        self._calls = PrivateCalls(exchanges, markets, self._gate, faults)
        self._users = UserStreams(exchanges, self._calls)
        self._traders = Outlet()
        self._connections = itertools.count(1)
        self.streams = {
            name: BybitStreams(find_venue(name), exchange, faults) for name, exchange in exchanges.items()
        }  # fmt: skip
        self._app = web.Application()
        for method, path, handler in MarketCalls(markets, self._gate, faults).routes() + self._calls.routes():
            self._app.router.add_route(method, path, handler)
        for name in exchanges:
            self._app.router.add_get(f"/v5/public/{_PRODUCTS[name]}", self._public(name))
        self._app.router.add_get("/v5/private", self._private)
        self._app.router.add_get("/v5/trade", self._trade)
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> dict[str, Endpoints]:
        """Listen; → addresses by venue name. A server that was stopped listens again where it did before."""
        self._runner = web.AppRunner(self._app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, self._port or port).start()
        self._port = self._runner.addresses[0][1]
        base = f"{host}:{self._port}"
        return {
            name: Endpoints(
                ws={
                    "public": f"ws://{base}/v5/public/{_PRODUCTS[name]}", "private": f"ws://{base}/v5/private",
                    "trade": f"ws://{base}/v5/trade",
                },
                rest=f"http://{base}",
            )
            for name in self.streams
        }  # fmt: skip

    async def stop(self) -> None:
        """Close every socket and the port."""
        for outlet in (*(streams.outlet for streams in self.streams.values()), self._users.outlet, self._traders):
            outlet.close_all()
        if self._runner is not None:
            await self._runner.cleanup()

    def publish(self, venue: str, events: Sequence[Event], now_ns: int) -> None:
        """Tell everybody who listens what happened on a market."""
        if self._faults.take(FaultKind.PRIVATE_DISCONNECT, venue, now_ns=now_ns) is not None:
            for outlet in (self._users.outlet, self._traders):  # both products' orders are told, and sent, on them
                outlet.close_all()
        self.streams[venue].publish(events, now_ns)
        self._users.publish(venue, events, self._faults.skew_ns(venue, now_ns))

    # -- public -------------------------------------------------------------------------------------------------------

    def _public(self, venue: str) -> Callable[[web.Request], Any]:
        streams, spot = self.streams[venue], venue == "bybit_spot"

        async def serve(request: web.Request) -> web.StreamResponse:
            connection = self._connection()

            def on_text(socket: Socket, text: str) -> None:
                asked = _asked(text)
                op, topics = str(asked.get("op", "")), [str(topic) for topic in asked.get("args") or []]
                refusal, said = "", "subscribe" if spot and op == "subscribe" else ""
                if op == "ping":
                    said = "pong"
                elif op == "subscribe":
                    refusal = streams.refusal(topics)
                elif op != "unsubscribe":
                    refusal = "error:invalid op"
                answer = {"success": not refusal, "ret_msg": refusal or said, "conn_id": connection}
                if not spot or "req_id" in asked:
                    answer["req_id"] = str(asked.get("req_id", ""))
                socket.send(_text({**answer, "op": op}))
                if op == "subscribe" and not refusal:
                    streams.subscribe(socket, topics)
                elif op == "unsubscribe":
                    streams.outlet.unsubscribe(socket, topics)

            return await self._serve(request, streams.outlet, on_text)

        return serve

    # -- private ------------------------------------------------------------------------------------------------------

    async def _private(self, request: web.Request) -> web.StreamResponse:
        connection = self._connection()

        def on_text(socket: Socket, text: str) -> None:
            asked = _asked(text)
            op, topics = str(asked.get("op", "")), asked.get("args") or []
            repeated = {"req_id": str(asked["req_id"])} if "req_id" in asked else {}
            if op == "ping":
                socket.send(_text({**repeated, "op": "pong", "args": [self._now_ms()], "conn_id": connection}))
                return
            refusal = ""
            if op == "auth":
                try:
                    socket.account = self._gate.ws_account(topics)
                except BybitError as error:
                    refusal = error.message
            elif op not in ("subscribe", "unsubscribe"):
                refusal = "error:invalid op"
            elif not socket.account:
                refusal = "Request not authorized"
            else:
                refusal = self._users.refusal([str(topic) for topic in topics])
            answer = {"success": not refusal, "ret_msg": refusal, "op": op, "conn_id": connection}
            failed = {"request": {"op": op}} if refusal else {}
            socket.send(_text({**answer, **repeated, **failed}))
            if op == "subscribe" and not refusal:
                self._users.subscribe(socket, topics)
            elif op == "unsubscribe" and not refusal:
                self._users.unsubscribe(socket, topics)

        return await self._serve(request, self._users.outlet, on_text)

    # -- order entry --------------------------------------------------------------------------------------------------

    async def _trade(self, request: web.Request) -> web.StreamResponse:
        connection = self._connection()
        seen: set[str] = set()

        def on_text(socket: Socket, text: str) -> None:
            asked = _asked(text)
            op = str(asked.get("op", ""))
            answer: dict[str, Any] = {"retCode": 0, "retMsg": "OK", "op": op, "connId": connection}
            try:
                if op == "ping":
                    answer |= {"op": "pong", "data": [self._now_ms()]}
                elif op == "auth":
                    socket.account = self._gate.ws_account(asked.get("args") or [])
                else:
                    done = self._order_entry(socket, asked, seen)
                    if done is None:
                        return
                    answer |= done
            except BybitError as error:
                answer |= {"retCode": error.code, "retMsg": error.message, "data": {}}
            if "reqId" in asked:
                answer["reqId"] = str(asked["reqId"])
            socket.send(_text(answer))

        return await self._serve(request, self._traders, on_text)

    def _order_entry(self, socket: Socket, asked: Mapping[str, Any], seen: set[str]) -> dict[str, Any] | None:
        """What an order frame is answered with; None: a fault keeps the answer back for good."""
        op, arguments = asked.get("op"), asked.get("args") or [{}]
        params, request_id = arguments[0], str(asked.get("reqId", ""))
        if not socket.account:
            raise BybitError(_NOT_AUTHORISED, "Request not authorized")
        if op not in ("order.create", "order.cancel") or not isinstance(params, dict):
            raise BybitError(_BAD_OP, f"op {op} is not supported")
        if request_id and request_id in seen:
            raise BybitError(_REPEATED_ID, "reqId is repeated")
        seen.add(request_id)
        header = asked.get("header") or {}
        self._gate.check_time(
            str(header.get("X-BAPI-TIMESTAMP", "")), str(header.get("X-BAPI-RECV-WINDOW", "5000")), params
        )
        group = f"{socket.account} {params.get('category')} {op.replace('.', '/')}"
        allowed, limits = self._gate.limiter.spend(group, order_limit_of(params))
        if not allowed:
            raise BybitError(10006, "Too many visits!")
        hold_s = 0.0
        if op == "order.create":
            data, hold_s = self._calls.create(socket.account, params)
        else:
            data = self._calls.cancel(socket.account, params)
        return None if hold_s > 0 else {"data": data, "retExtInfo": {}, "header": {**limits, "Timenow": self._now_ms()}}

    # -- shared -------------------------------------------------------------------------------------------------------

    async def _serve(
        self, request: web.Request, outlet: Outlet, on_text: Callable[[Socket, str], None]
    ) -> web.StreamResponse:  # fmt: skip
        ws = web.WebSocketResponse(compress=False)
        await ws.prepare(request)
        return await outlet.serve(Socket(ws, wrapped=False), on_text)

    def _connection(self) -> str:
        return f"practice-{next(self._connections)}"

    def _now_ms(self) -> str:
        return str(self._gate.now_ns() // NS_PER_MS)


def _asked(text: str) -> dict[str, Any]:
    """A client's frame; an empty one for what is not a JSON object, which no operation answers to."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.MsgspecError:
        return {}


def _text(answer: Mapping[str, Any]) -> str:
    return msgspec.json.encode(answer).decode()
