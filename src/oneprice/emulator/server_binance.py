"""Binance spot and USD-M as practice servers: one port a product, with REST, public streams, user data and the WebSocket
API. The SBE streams of spot are a third one beside the spot market.

part                            | file
--------------------------------|-------------------------------------------------------
limits, key, signature, errors  | http_binance.py, http_binance_limits.py, http_binance_errors.py
market data by REST             | server_binance_rest.py
orders, accounts                | server_binance_orders.py, server_binance_account.py (shapes: server_binance_rows.py)
public streams                  | server_binance_stream.py, by the clock: server_binance_timed.py
private streams                 | server_binance_user.py
ports, paths, WebSocket API     | here"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from oneprice.emulator.events import Event, Reject
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.http_binance import Gate
from oneprice.emulator.http_binance_errors import BinanceError, rejected
from oneprice.emulator.instruments import renamed
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.emulator.server_binance_account import AccountCalls
from oneprice.emulator.server_binance_orders import OrderCalls
from oneprice.emulator.server_binance_rest import MarketCalls
from oneprice.emulator.server_binance_stream import BinanceStreams
from oneprice.emulator.server_binance_user import UserStreams
from oneprice.model.time import NS_PER_S, Clock
from oneprice.venues.base import Endpoints
from oneprice.venues.registry import venue as find_venue

Keys = Mapping[str, tuple[str, str]]  # API key → (secret, account)

_METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
# USD-M streams by path; the others are /market's.
_PUBLIC_STREAMS = ("bookTicker", "depth", "trade", "rpiDepth")


class _Listener:
    """An aiohttp application on a port of its own."""

    def __init__(self) -> None:
        self.app = web.Application()
        self._runner: web.AppRunner | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> None:
        self._runner = web.AppRunner(self.app, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


class BinanceServer:
    """One product: `binance_spot` or `binance_usdm`."""

    def __init__(self, venue: str, exchange: Exchange, *, faults: FaultPlan, clock: Clock, keys: Keys) -> None:
        self.venue = venue
        self._clock = clock
        self._futures = not exchange.spot
        self._listener = _Listener()
        self.streams = BinanceStreams(find_venue(venue), exchange, exchange.instruments, faults)
        self.gate = Gate(venue, clock=clock, faults=faults, keys=keys, futures=self._futures)
        market, orders = MarketCalls(exchange, self.gate), OrderCalls(exchange, self.gate, faults, venue=venue)
        account = AccountCalls(exchange, self.gate)
        self.users = UserStreams(exchange, self.gate, orders.cancel_ids)
        self._ws_calls = {**market.ws_calls(), **orders.ws_calls(), **account.ws_calls(), **self.users.ws_calls()}
        router = self._listener.app.router
        for method, path, handler in market.routes() + orders.routes() + account.routes() + self.users.routes():
            router.add_route(method, path, handler)
        for prefix in ("/public", "/market", "") if self._futures else ("", "/stream.practice"):
            for path in ("/ws", "/ws/{streams}", "/stream"):
                router.add_get(f"{prefix}{path}", self._public)
        for path in ("/private/ws", "/private/ws/{key}", "/private/stream"):
            router.add_get(path, self._private)
        router.add_get("/ws-fapi/v1" if self._futures else "/ws-api/v3", self._ws_api)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> dict[str, Endpoints]:
        """Listen; → addresses by venue name. A server that was stopped listens again where it did before."""
        await self._listener.start(host, self._listener.port or port)
        base = f"{host}:{self._listener.port}"
        paths = {"public": "/public", "market": "/market", "private": "/private"} if self._futures else {"public": ""}
        ws = {name: f"ws://{base}{path}" for name, path in paths.items()}
        ws["ws-api"] = f"ws://{base}/ws-fapi/v1" if self._futures else f"ws://{base}/ws-api/v3"
        return {self.venue: Endpoints(ws=ws, rest=f"http://{base}")}

    async def stop(self) -> None:
        """Close every socket and the port."""
        self.streams.outlet.close_all()
        self.users.outlet.close_all()
        await self._listener.stop()

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Tell everybody who listens what happened."""
        if self.gate.takes(FaultKind.PRIVATE_DISCONNECT):
            self.users.outlet.close_all()
        self.streams.publish(events, now_ns)
        self.users.publish(events, now_ns)

    async def _public(self, request: web.Request) -> web.StreamResponse:
        path = request.path.split("/")[1] if self._futures else ""

        def carries(topic: str) -> bool:
            """USD-M's paths divide the streams; the old address without a path has the public ones only."""
            name = topic.partition("@")[2] or topic.lstrip("!")
            is_public = name.startswith(_PUBLIC_STREAMS)
            return not self._futures or is_public == (path != "market")

        return await serve_streams(
            request, self.streams.outlet, clock=self._clock, messages_per_s=10 if self._futures else 5, carries=carries
        )

    async def _private(self, request: web.Request) -> web.StreamResponse:
        return await self.users.serve_listen_key(request)

    # -- the WebSocket API --------------------------------------------------------------------------------------------

    async def _ws_api(self, request: web.Request) -> web.StreamResponse:
        """The same calls, each in one frame, and (spot) the user data stream."""
        try:
            self.gate.weight.spend(5 if self._futures else 2)
        except BinanceError as error:
            return web.Response(body=error.body, status=error.status, headers=error.headers)
        ws = web.WebSocketResponse(heartbeat=20.0)
        await ws.prepare(request)
        return await self.users.outlet.serve(Socket(ws, wrapped=False), self._answer)

    def _answer(self, socket: Socket, text: str) -> None:
        answer: dict[str, Any] = {"id": None}
        try:
            try:
                asked = msgspec.json.decode(text, type=dict[str, Any])
            except msgspec.MsgspecError:
                raise BinanceError(-1135, "Invalid JSON Request") from None
            answer["id"] = asked.get("id")
            call = self._ws_calls.get(str(asked.get("method")))
            if call is None:
                raise BinanceError(-1000, f"Unknown method {asked.get('method')!r}.")
            params = asked.get("params") or {}
            if not isinstance(params, dict):
                raise BinanceError(-1135, "Invalid JSON Request")
            result = call(socket, params)
            if result is None:
                return  # a fault keeps the answer back for good
            answer |= {"status": 200, "result": result}
        except (BinanceError, Reject) as refusal:
            error = rejected(refusal, futures=self._futures) if isinstance(refusal, Reject) else refusal
            answer |= {"status": error.status, "error": error.frame}
        answer["rateLimits"] = [self.gate.weight.rule() | {"count": self.gate.weight.used}]
        if socket.account:
            answer["rateLimits"] = [*self.gate.orders.rules(socket.account), *answer["rateLimits"]]
        socket.send(msgspec.json.encode(answer).decode())


class BinanceSbeServer:
    """Spot's market over SBE: binary data, JSON acknowledgements, a key in the handshake."""

    def __init__(self, exchange: Exchange, *, faults: FaultPlan, clock: Clock, rest: str) -> None:
        self.venue = "binance_sbe"
        self._clock = clock
        self._rest = rest
        self._listener = _Listener()
        instruments = {symbol: renamed(instrument, self.venue) for symbol, instrument in exchange.instruments.items()}
        self.streams = BinanceStreams(find_venue(self.venue), exchange, instruments, faults)
        for path in ("/ws", "/ws/{streams}", "/stream"):
            self._listener.app.router.add_get(path, self._public)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> dict[str, Endpoints]:
        """Listen; → addresses by venue name, with the REST address of the spot market."""
        await self._listener.start(host, self._listener.port or port)
        return {self.venue: Endpoints(ws={"public": f"ws://{host}:{self._listener.port}"}, rest=self._rest)}

    async def stop(self) -> None:
        """Close every socket and the port."""
        self.streams.outlet.close_all()
        await self._listener.stop()

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Tell everybody who listens what happened on the spot market."""
        self.streams.publish(events, now_ns)

    async def _public(self, request: web.Request) -> web.StreamResponse:
        if not request.headers.get("X-MBX-APIKEY"):
            body = {"code": -2014, "msg": "API-key format invalid."}
            return web.json_response(body, status=401)
        return await serve_streams(
            request, self.streams.outlet, clock=self._clock, messages_per_s=5, carries=lambda topic: True
        )


async def serve_streams(
    request: web.Request, outlet: Outlet, *, clock: Clock, messages_per_s: int, carries: Callable[[str], bool]
) -> web.StreamResponse:  # fmt: skip
    """A public socket: streams named in the address, and by SUBSCRIBE and UNSUBSCRIBE afterwards.

    A stream that this path does not carry, or that does not exist, is acknowledged like any other and stays silent. Who
    says more than `messages_per_s` is cut off.
    """
    ws = web.WebSocketResponse(heartbeat=20.0, compress=False)
    await ws.prepare(request)
    socket = Socket(ws, wrapped=request.path.endswith("/stream"))
    asked_for: set[str] = set()
    said_ns: deque[int] = deque(maxlen=messages_per_s)

    def subscribe(topics: Sequence[str]) -> None:
        asked_for.update(topics)
        outlet.subscribe(socket, [topic for topic in topics if carries(topic)])

    def on_text(said: Socket, text: str) -> None:
        now_ns = clock.now_ns()
        if len(said_ns) == messages_per_s and now_ns - said_ns[0] < NS_PER_S:
            said.close()
            return
        said_ns.append(now_ns)
        try:
            asked = msgspec.json.decode(text, type=dict[str, Any])
            method, params, number = str(asked["method"]), list(asked.get("params") or []), asked.get("id")
        except (msgspec.MsgspecError, KeyError, TypeError):
            said.send('{"code":2,"msg":"Invalid request: request must be a JSON object with a method"}')
            return
        result: Any = None
        if method == "SUBSCRIBE":
            subscribe([str(topic) for topic in params])
        elif method == "UNSUBSCRIBE":
            topics = [str(topic) for topic in params]
            asked_for.difference_update(topics)
            outlet.unsubscribe(said, topics)
        elif method == "LIST_SUBSCRIPTIONS":
            result = sorted(asked_for)
        elif method == "SET_PROPERTY" and params[:1] == ["combined"] and len(params) == 2:
            said.wrapped = bool(params[1])
        elif method == "GET_PROPERTY" and params == ["combined"]:
            result = said.wrapped
        else:
            known = ", ".join(f"`{name}`" for name in _METHODS)
            text = f"Invalid request: unknown variant `{method}`, expected one of {known}"
            said.send(msgspec.json.encode({"code": 2, "msg": text, "id": number}).decode())
            return
        said.send(msgspec.json.encode({"result": result, "id": number}).decode())

    named = request.match_info.get("streams") or request.query.get("streams") or ""
    subscribe([topic for topic in named.split("/") if topic])
    return await outlet.serve(socket, on_text)
