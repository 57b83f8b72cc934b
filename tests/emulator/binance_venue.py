"""A practice Binance for tests: one product with plain books around round prices, a server, and a clock that is set."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

import aiohttp

from oneprice.emulator.events import NewOrder
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.emulator.faults import Fault, FaultKind, FaultPlan
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.server_binance import BinanceSbeServer, BinanceServer
from oneprice.model.order import OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS, NS_PER_S
from patience import WITHIN_S
from shared_data import shared

KEY, SECRET, ACCOUNT = "practice-key", "practice-secret", "practice"
HOLDINGS = {"USDT": Decimal(1_000_000), "BTC": Decimal(20)}
PRICES = {
    "BTCUSDT": "60000", "ETHUSDT": "3000", "BNBUSDT": "600", "SOLUSDT": "150", "XRPUSDT": "1", "ETHBTC": "0.05",
    "BNBBTC": "0.01", "SOLBTC": "0.0025",
}  # fmt: skip
LEVELS = 60
START_NS = 1_700_000_000 * NS_PER_S


class SetClock:
    """Time that stands until it is set."""

    def __init__(self) -> None:
        self.ns = START_NS

    def now_ns(self) -> int:
        return self.ns

    async def sleep(self, seconds: float) -> None:
        self.ns += int(seconds * NS_PER_S)


class BinanceVenue:
    """A market, its server, its faults, and how to make things happen and ask about them."""

    def __init__(self, name: str, session: aiohttp.ClientSession) -> None:
        self.name = name
        self.clock = SetClock()
        self.faults = FaultPlan(started_ns=START_NS)
        self.exchange = Exchange(name, practice_instruments(name), spot=name == "binance_spot")
        self.exchange.open_account(ACCOUNT, dict(HOLDINGS))
        for symbol, instrument in self.exchange.instruments.items():
            middle = instrument.price_mantissa(Decimal(PRICES[symbol]))
            for k in range(1, LEVELS + 1):
                for side in (Side.BUY, Side.SELL):
                    self.rest(symbol, side, middle - int(side) * k * instrument.tick, k)
            self.take(symbol, Side.BUY)
            if not self.exchange.spot:
                self.mark(symbol)
                self.exchange.settle_funding(symbol, START_NS)
        self.exchange.take_events()
        self.server = BinanceServer(
            name, self.exchange, faults=self.faults, clock=self.clock, keys={KEY: (SECRET, ACCOUNT)}
        )
        self.sbe = (
            BinanceSbeServer(self.exchange, faults=self.faults, clock=self.clock, rest="")
            if self.exchange.spot
            else None
        )
        self.session = session
        self.url = ""
        self.ws: dict[str, str] = {}

    # -- the market ---------------------------------------------------------------------------------------------------

    def rest(self, symbol: str, side: Side, price: int, units: int = 1) -> int:
        """A resting order of the market, in tenths of a coin; → its number."""
        qty = self.exchange.instruments[symbol].qty_mantissa(Decimal(units) / 10)
        return self.exchange.place(
            MARKET, NewOrder(symbol=symbol, side=side, price=price, qty=qty), self.clock.ns
        ).order_id

    def take(self, symbol: str, side: Side) -> None:
        """The market takes a tenth of a coin from itself."""
        qty = self.exchange.instruments[symbol].qty_mantissa(Decimal("0.1"))
        new = NewOrder(symbol=symbol, side=side, type=OrderType.MARKET, time_in_force=TimeInForce.IOC, qty=qty)
        self.exchange.place(MARKET, new, self.clock.ns)

    def mark(self, symbol: str) -> None:
        price = float(PRICES[symbol])
        self.exchange.set_mark(
            symbol, mark=price + 0.5, index=price, funding_rate=0.0001, next_funding_ns=START_NS + 3600 * NS_PER_S,
            now_ns=self.clock.ns,
        )  # fmt: skip

    def fault(self, kind: FaultKind, **settings: Any) -> None:
        self.faults.inject(Fault(kind=kind, **settings))

    def publish(self, after_ms: int = 0) -> None:
        """Let time pass, then tell what has happened."""
        self.clock.ns += after_ms * NS_PER_MS
        events = self.exchange.take_events()
        self.server.publish(events, self.clock.ns)
        if self.sbe is not None:
            self.sbe.publish(events, self.clock.ns)

    # -- a plain client -----------------------------------------------------------------------------------------------

    def now_ms(self) -> int:
        return self.clock.ns // NS_PER_MS

    def sign(self, params: dict[str, Any]) -> dict[str, Any]:
        """Parameters with their time and signature (of the WebSocket API when they hold the key)."""
        params = {"timestamp": self.now_ms(), **params}
        payload = (
            "&".join(f"{name}={params[name]}" for name in sorted(params)) if "apiKey" in params else urlencode(params)
        )
        return {**params, "signature": hmac.new(SECRET.encode(), payload.encode(), hashlib.sha256).hexdigest()}

    async def ask(
        self, method: str, path: str, params: dict[str, Any] | None = None, *, key: str | None = None
    ) -> Answer:
        """A REST call as it stands: nothing is signed."""
        headers = {"X-MBX-APIKEY": key} if key is not None else {}
        query = f"?{urlencode(params)}" if params else ""
        async with self.session.request(method, f"{self.url}{path}{query}", headers=headers) as answer:
            return Answer(answer.status, dict(answer.headers), json.loads(await answer.read()))

    async def signed(self, method: str, path: str, **params: Any) -> Answer:
        """A REST call of the practice account."""
        return await self.ask(method, path, self.sign(params), key=KEY)

    async def order(self, **changes: Any) -> Answer:
        """A limit order to buy at the bottom of the book, with changes; None takes a parameter away."""
        params = {
            "symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.01",
            "price": "50000", **changes,
        }  # fmt: skip
        return await self.signed(
            "POST", f"{self.api}/order", **{name: value for name, value in params.items() if value is not None}
        )

    @property
    def api(self) -> str:
        return "/api/v3" if self.exchange.spot else "/fapi/v1"


class Answer:
    """A REST answer."""

    def __init__(self, status: int, headers: dict[str, str], body: Any) -> None:
        self.status, self.headers, self.body = status, headers, body


class Listener:
    """A socket of a plain client."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def heard(self) -> Any:
        """The next frame: JSON, or the bytes of a binary one."""
        frame = await self.ws.receive(timeout=WITHIN_S)
        if frame.type is aiohttp.WSMsgType.BINARY:
            return frame.data
        assert frame.type is aiohttp.WSMsgType.TEXT, frame
        return json.loads(frame.data)

    async def say(self, **frame: Any) -> Any:
        """Send a frame; → what is answered."""
        await self.ws.send_json(frame)
        return await self.heard()


@asynccontextmanager
async def listening(venue: BinanceVenue, url: str, **options: Any) -> AsyncIterator[Listener]:
    async with venue.session.ws_connect(url, **options) as ws:
        yield Listener(ws)


@asynccontextmanager
async def binance_venue(name: str) -> AsyncIterator[BinanceVenue]:
    """A product that listens; nothing is published until a test does it."""
    async with aiohttp.ClientSession() as session:
        venue = BinanceVenue(name, session)
        endpoints = (await venue.server.start())[name]
        venue.url, venue.ws = endpoints.rest, dict(endpoints.ws)
        if venue.sbe is not None:
            venue.ws["sbe"] = (await venue.sbe.start())["binance_sbe"].ws["public"]
        try:
            yield venue
        finally:
            await venue.server.stop()
            if venue.sbe is not None:
                await venue.sbe.stop()


def recorded(name: str, file: str) -> Any:
    return json.loads(shared(f"data/wire/{name}/{file}.json").read_text())


def same_shape(told: Any, example: Any, *, without: frozenset[str] = frozenset()) -> None:
    """Every field of the example is there, with a value of its type; rows are compared by their first."""
    if isinstance(example, dict):
        for name in example.keys() - without:
            assert name in told, name
            same_shape(told[name], example[name], without=without)
    elif isinstance(example, list):
        assert isinstance(told, list)
        assert len(told) > 0
        if isinstance(example[0], list) and not isinstance(example[0][0], list):
            assert [type(value) for value in told[0]] == [type(value) for value in example[0]]
        else:
            same_shape(told[0], example[0], without=without)
    else:
        assert type(told) is type(example), (told, example)
