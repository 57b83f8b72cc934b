"""A practice Bybit for tests: both products with plain books around round prices, a server, and a pump."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse

from oneprice.emulator.events import NewOrder
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.emulator.faults import FaultPlan
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.server_bybit import BybitServer
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import OrderType, Side, TimeInForce
from oneprice.model.tape import ASK, CLEAR, LAST, Kind, TapeWriter
from oneprice.model.time import NS_PER_MS, NS_PER_S, SystemClock
from oneprice.venues.base import Channel, Endpoints, Subscription
from oneprice.venues.bybit import BYBIT_LINEAR, BYBIT_SPOT
from oneprice.venues.commands import Send
from oneprice.venues.feed import FeedMachine
from oneprice.venues.signing import bybit_headers, hmac_signer
from patience import WITHIN_S

KEY, SECRET, ACCOUNT = "practice-key", "practice-secret", "practice"
HOLDINGS = {"USDT": Decimal(1_000_000), "BTC": Decimal(20)}
PRICES = {"BTCUSDT": 60_000, "ETHUSDT": 3_000, "SOLUSDT": 150, "XRPUSDT": 1}
LEVELS = 60
VENUES = {venue.name: venue for venue in (BYBIT_SPOT, BYBIT_LINEAR)}


class BybitVenue:
    """Exchanges, server, faults and how to make things happen."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.faults = FaultPlan(started_ns=self.clock.now_ns())
        self.exchanges = {
            name: Exchange(name, practice_instruments(name), spot=name == "bybit_spot")
            for name in ("bybit_spot", "bybit_linear")
        }
        for exchange in self.exchanges.values():
            exchange.open_account(ACCOUNT, dict(HOLDINGS))
            self._fill(exchange)
        self.server = BybitServer(
            self.exchanges, faults=self.faults, clock=self.clock, keys={KEY: (SECRET, ACCOUNT)}
        )  # fmt: skip
        self.endpoints: dict[str, Endpoints] = {}
        self.between: Callable[[], None] = lambda: None  # what the market does before each publication of the pump

    def _fill(self, exchange: Exchange) -> None:
        """Sixty levels a side, one lot-rounded unit each, one trade, a mark price, one settlement."""
        now_ns = self.clock.now_ns()
        for symbol, instrument in exchange.instruments.items():
            middle = instrument.price_mantissa(Decimal(PRICES[symbol]))
            for k in range(1, LEVELS + 1):
                for side in (Side.BUY, Side.SELL):
                    self.rest(exchange, symbol, side, middle - int(side) * k * instrument.tick, k)
            self.trade(exchange, symbol, Side.BUY)
            if not exchange.spot:
                price = float(PRICES[symbol])
                for _ in range(2):
                    exchange.set_mark(
                        symbol, mark=price + 0.5, index=price, funding_rate=0.0001,
                        next_funding_ns=now_ns + 3600 * NS_PER_S, now_ns=now_ns,
                    )  # fmt: skip
                exchange.market_state(symbol).open_interest = 1234.5
                exchange.settle_funding(symbol, now_ns)

    def rest(self, exchange: Exchange, symbol: str, side: Side, price: int, units: int = 1) -> int:
        """A resting order of the market; → its number."""
        qty = exchange.instruments[symbol].qty_mantissa(Decimal(units) / 10)
        new = NewOrder(symbol=symbol, side=side, price=price, qty=qty)
        return exchange.place(MARKET, new, self.clock.now_ns()).order_id

    def trade(self, exchange: Exchange, symbol: str, side: Side) -> None:
        """The market takes a tenth of a unit from itself."""
        qty = exchange.instruments[symbol].qty_mantissa(Decimal("0.1"))
        new = NewOrder(
            symbol=symbol, side=side, type=OrderType.MARKET, time_in_force=TimeInForce.IOC, qty=qty
        )  # fmt: skip
        exchange.place(MARKET, new, self.clock.now_ns())

    def publish(self, names: Sequence[str] = ("bybit_spot", "bybit_linear")) -> None:
        for name in names:
            self.server.publish(name, self.exchanges[name].take_events(), self.clock.now_ns())

    async def pump(self) -> None:
        while True:
            self.between()
            self.publish()
            await asyncio.sleep(0.005)


@asynccontextmanager
async def bybit_venue() -> AsyncIterator[BybitVenue]:
    """Both products, listening, with a pump."""
    venue = BybitVenue()
    venue.endpoints = await venue.server.start()
    pumping = asyncio.create_task(venue.pump())
    try:
        yield venue
    finally:
        pumping.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await pumping
        await venue.server.stop()


class Listener:
    """Our own feed on a public socket of the server, and the plainest possible book of what it put on the tape."""

    def __init__(self, venue: BybitVenue, name: str, socket: ClientWebSocketResponse) -> None:
        self.exchange = venue.exchanges[name]
        self.instruments = InstrumentTable(self.exchange.instruments.values())
        self.tape = TapeWriter()
        self.machine = FeedMachine(VENUES[name], self.instruments, self.tape)
        self.rows: list[Any] = []
        self.sides: dict[str, tuple[dict[int, int], dict[int, int]]] = {}
        self.was_crossed = False
        self._socket = socket
        self._clock = venue.clock

    async def subscribe(self, *channels: Channel, symbol: str = "BTCUSDT") -> None:
        wanted = [Subscription(channel=channel, symbol=symbol) for channel in channels]
        await self._do(self.machine.opened(1, wanted, self._clock.now_ns()))

    async def _do(self, commands: Sequence[Any]) -> None:
        for command in commands:
            assert isinstance(command, Send)
            await self._socket.send_str(command.payload.decode())

    async def until(self, holds: Callable[[], bool]) -> None:
        """Take frames until something holds."""
        async with asyncio.timeout(WITHIN_S):
            while not holds():
                frame = await self._socket.receive_str()
                await self._do(self.machine.frame(1, frame.encode(), self._clock.now_ns()))
                for row in self.tape.take():
                    self._apply(row)

    def _apply(self, row: Any) -> None:
        self.rows.append(row)
        symbol = self.instruments[int(row["instrument"])].symbol
        bids, asks = self.sides.setdefault(symbol, ({}, {}))
        flags = int(row["flags"])
        if row["kind"] == Kind.GAP or (row["kind"] == Kind.DEPTH and flags & CLEAR):
            bids.clear()
            asks.clear()
        if row["kind"] == Kind.DEPTH:
            side = asks if flags & ASK else bids
            side[int(row["price"])] = int(row["qty"])
            if row["qty"] == 0:
                del side[int(row["price"])]
            if flags & LAST and bids and asks:
                self.was_crossed |= max(bids) >= min(asks)

    def book(self, symbol: str = "BTCUSDT") -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        bids, asks = self.sides.get(symbol, ({}, {}))
        return sorted(bids.items(), reverse=True), sorted(asks.items())

    def is_right(self, symbol: str = "BTCUSDT") -> bool:
        view = self.exchange.book(symbol, 50)
        return self.book(symbol) == (view.bids, view.asks)

    def count(self, kind: Kind) -> int:
        return sum(int(row["kind"]) == kind for row in self.rows)


@asynccontextmanager
async def listening(venue: BybitVenue, name: str) -> AsyncIterator[Listener]:
    """A public socket with our feed on it."""
    async with (
        ClientSession() as session,
        session.ws_connect(venue.endpoints[name].ws["public"]) as socket,
    ):
        yield Listener(venue, name, socket)


@asynccontextmanager
async def still_venue() -> AsyncIterator[BybitVenue]:
    """A venue without a pump: the test publishes."""
    made = BybitVenue()
    made.endpoints = await made.server.start()
    made.publish()
    yield made
    await made.server.stop()


def wild(venue: BybitVenue, name: str, steps: int, seed: int) -> None:
    """Random trades and orders around the touch."""
    exchange, rng = venue.exchanges[name], random.Random(seed)
    tick = exchange.instruments["BTCUSDT"].tick
    for _ in range(steps):
        bid, ask = exchange.best("BTCUSDT")
        side = rng.choice((Side.BUY, Side.SELL))
        if rng.random() < 0.4:
            venue.trade(exchange, "BTCUSDT", side)
        else:
            touch = ask if side is Side.SELL else bid
            venue.rest(exchange, "BTCUSDT", side, touch - int(side) * tick * rng.randrange(0, 70), rng.randrange(1, 9))


class Public:
    """A socket to a server whose time stands in the test's hand."""

    def __init__(self, venue: BybitVenue, name: str, socket: Any) -> None:
        self.venue, self.name, self.socket = venue, name, socket
        self.now_ns = venue.clock.now_ns()

    async def ask(self, **asked: Any) -> dict[str, Any]:
        await self.socket.send_json(asked)
        return await self.socket.receive_json(timeout=WITHIN_S)

    def publish(self, after_ms: int = 0) -> None:
        self.now_ns += after_ms * NS_PER_MS
        exchange = self.venue.exchanges[self.name]
        self.venue.server.publish(self.name, exchange.take_events(), self.now_ns)

    async def receive(self) -> dict[str, Any]:
        return await self.socket.receive_json(timeout=WITHIN_S)


LIMIT = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "50000"}


async def signed(
    venue: BybitVenue, http: ClientSession, path: str, params: dict[str, Any], *, post: bool = True, **changes: Any
) -> tuple[dict[str, Any], Mapping[str, str]]:  # fmt: skip
    """(the answer, its headers) of a call signed by our own signer."""
    payload = json.dumps(params) if post else "&".join(f"{key}={value}" for key, value in params.items())
    settings = {"key": KEY, "timestamp_ms": venue.clock.now_ns() // NS_PER_MS, "payload": payload, **changes}
    secret = settings.pop("secret", SECRET)
    headers = bybit_headers(sign=hmac_signer(secret), **settings)
    url = f"{venue.endpoints['bybit_spot'].rest}{path}"
    call = http.post(url, data=payload, headers=headers) if post else http.get(f"{url}?{payload}", headers=headers)
    async with call as answer:
        assert answer.status == 200
        return await answer.json(), answer.headers
