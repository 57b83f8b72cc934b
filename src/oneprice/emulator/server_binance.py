"""Binance spot and USD-M as practice servers: one port a product, with REST, public streams, user data and (spot) the
WebSocket API. The SBE streams of spot are a third one beside the spot market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from oneprice.emulator.events import Event
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultPlan
from oneprice.emulator.http_binance import BinanceError, Gate
from oneprice.emulator.instruments import renamed
from oneprice.emulator.market_binance import MarketCalls
from oneprice.emulator.orders_binance import OrderCalls
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.emulator.stream_binance import BinanceStreams
from oneprice.emulator.user_binance import UserStreams
from oneprice.model.time import Clock
from oneprice.venues.base import Endpoints
from oneprice.venues.registry import venue as find_venue

Keys = Mapping[str, tuple[str, str]]  # API key → (secret, account)


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
        self._exchange = exchange
        self._futures = not exchange.spot
        self._clock = clock
        self._listener = _Listener()
        self.streams = BinanceStreams(
            find_venue(venue), exchange, exchange.instruments, faults, depth_every_ms=100, is_text=True
        )
        gate = Gate(venue, clock=clock, faults=faults, keys=keys, weight_limit=2400 if self._futures else 6000)
        self._users = UserStreams(exchange, gate, keys, futures=self._futures)
        orders = OrderCalls(exchange, gate, faults, venue=venue, futures=self._futures)
        routes = MarketCalls(exchange, gate, faults, venue=venue, futures=self._futures).routes()
        routes += orders.routes() + self._users.routes()
        self._orders = orders
        for method, path, handler in routes:
            self._listener.app.router.add_route(method, path, handler)
        for prefix in ("/public", "/market", "") if self._futures else ("", "/stream.practice"):
            self._listener.app.router.add_get(f"{prefix}/ws", self._public)
            self._listener.app.router.add_get(f"{prefix}/ws/{{streams}}", self._public)
            self._listener.app.router.add_get(f"{prefix}/stream", self._public)
        for path in ("/private/ws", "/private/ws/{key}", "/private/stream"):
            self._listener.app.router.add_get(path, self._private)
        self._listener.app.router.add_get("/ws-fapi/v1" if self._futures else "/ws-api/v3", self._ws_api)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> dict[str, Endpoints]:
        await self._listener.start(host, self._listener.port or port)
        base = f"{host}:{self._listener.port}"
        paths = {"public": "/public", "market": "/market", "private": "/private"} if self._futures else {"public": ""}
        ws = {name: f"ws://{base}{path}" for name, path in paths.items()}
        ws["ws-api"] = f"ws://{base}/ws-fapi/v1" if self._futures else f"ws://{base}/ws-api/v3"
        return {self.venue: Endpoints(ws=ws, rest=f"http://{base}")}

    async def stop(self) -> None:
        self.streams.outlet.close_all()
        self._users.outlet.close_all()
        await self._listener.stop()

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        self.streams.publish(events, now_ns)
        self._users.publish(events)

    async def _public(self, request: web.Request) -> web.StreamResponse:
        return await serve_streams(request, self.streams.outlet)

    async def _private(self, request: web.Request) -> web.StreamResponse:
        return await self._users.serve_listen_key(request)

    async def _ws_api(self, request: web.Request) -> web.StreamResponse:
        """The WebSocket API: the same calls, each in one frame, and (spot) the user data stream."""
        ws = web.WebSocketResponse(heartbeat=20.0)
        await ws.prepare(request)
        calls = {**self._orders.ws_calls(), **self._users.ws_calls()}

        def on_text(socket: Socket, text: str) -> None:
            asked = msgspec.json.decode(text)
            answer: dict[str, Any] = {"id": asked.get("id")}
            try:
                call = calls.get(str(asked.get("method")))
                if call is None:
                    raise BinanceError(-1000, f"Unknown method {asked.get('method')!r}.")
                answer |= {"status": 200, "result": call(socket, asked.get("params") or {})}
            except BinanceError as error:
                answer |= {"status": error.status, "error": {"code": error.code, "msg": error.message}}
            answer["rateLimits"] = []
            socket.send(msgspec.json.encode(answer).decode())

        return await self._users.outlet.serve(Socket(ws, wrapped=False), on_text)


class BinanceSbeServer:
    """Spot's market over SBE: binary data, JSON acknowledgements, a key in the handshake."""

    def __init__(self, exchange: Exchange, *, faults: FaultPlan, rest: str) -> None:
        self.venue = "binance_sbe"
        self._rest = rest
        self._listener = _Listener()
        instruments = {symbol: renamed(instrument, self.venue) for symbol, instrument in exchange.instruments.items()}
        self.streams = BinanceStreams(
            find_venue(self.venue), exchange, instruments, faults, depth_every_ms=20, is_text=False
        )
        self._listener.app.router.add_get("/ws", self._public)
        self._listener.app.router.add_get("/ws/{streams}", self._public)
        self._listener.app.router.add_get("/stream", self._public)

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> dict[str, Endpoints]:
        await self._listener.start(host, self._listener.port or port)
        return {self.venue: Endpoints(ws={"public": f"ws://{host}:{self._listener.port}"}, rest=self._rest)}

    async def stop(self) -> None:
        self.streams.outlet.close_all()
        await self._listener.stop()

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        self.streams.publish(events, now_ns)

    async def _public(self, request: web.Request) -> web.StreamResponse:
        if not request.headers.get("X-MBX-APIKEY"):
            body = {"code": -2014, "msg": "API-key format invalid."}
            return web.json_response(body, status=401)
        return await serve_streams(request, self.streams.outlet)


async def serve_streams(request: web.Request, outlet: Outlet) -> web.StreamResponse:
    """A public socket: streams named in the address, and by SUBSCRIBE and UNSUBSCRIBE afterwards."""
    ws = web.WebSocketResponse(heartbeat=20.0, compress=False)
    await ws.prepare(request)
    socket = Socket(ws, wrapped=request.path.endswith("/stream"))
    named = request.match_info.get("streams") or request.query.get("streams") or ""
    outlet.subscribe(socket, [topic for topic in named.split("/") if topic])

    def on_text(said: Socket, text: str) -> None:
        try:
            asked = msgspec.json.decode(text)
            method, params, number = asked["method"], asked.get("params", []), asked.get("id")
        except (msgspec.DecodeError, KeyError, TypeError):
            said.send('{"code":2,"msg":"Invalid request: request must be a JSON object with a method"}')
            return
        result: Any = None
        if method == "SUBSCRIBE":
            outlet.subscribe(said, [str(topic) for topic in params])
        elif method == "UNSUBSCRIBE":
            outlet.unsubscribe(said, [str(topic) for topic in params])
        elif method == "LIST_SUBSCRIPTIONS":
            result = sorted(said.topics)
        elif method == "SET_PROPERTY":
            said.wrapped = bool(params[1])
        else:
            text = f"Invalid request: unknown variant `{method}`"
            said.send(msgspec.json.encode({"code": 2, "msg": text, "id": number}).decode())
            return
        said.send(msgspec.json.encode({"result": result, "id": number}).decode())

    return await outlet.serve(socket, on_text)
