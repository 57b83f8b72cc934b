"""A practice Bybit for tests: both products with plain books around round prices, a server, and a pump."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal

from oneprice.emulator.events import NewOrder
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.emulator.faults import FaultPlan
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.server_bybit import BybitServer
from oneprice.model.order import OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_S, SystemClock

KEY, SECRET, ACCOUNT = "practice-key", "practice-secret", "practice"
HOLDINGS = {"USDT": Decimal(1_000_000), "BTC": Decimal(20)}
PRICES = {"BTCUSDT": 60_000, "ETHUSDT": 3_000, "SOLUSDT": 150, "XRPUSDT": 1}
LEVELS = 60


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
        self.endpoints = {}

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
