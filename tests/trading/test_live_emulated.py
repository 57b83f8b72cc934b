"""Live orders through guarded ccxt against the practice venues: fills, ends, lost answers, lost streams, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from typing import Any

import pytest

from oneprice.emulator.ccxt_addresses import overrides_by_exchange
from oneprice.emulator.events import NewOrder
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.emulator.practice import ACCOUNT, KEY, SECRET, PracticeVenues
from oneprice.model.errors import Refused
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.order import Order, OrderState, OrderStatus, Report, ReportType, Side, TimeInForce, after
from oneprice.model.time import SystemClock
from oneprice.trading.credentials import Credentials
from oneprice.trading.hosts import Access
from oneprice.trading.live import FAMILY, LiveVenue, client_id, open_exchange
from patience import WITHIN_S
from trading.market import fills, order, types

R, S = ReportType, OrderState
QTY = Decimal("0.02")  # BTC
PRODUCTS = {"binance": ("binance_spot", "binance_usdm"), "bybit": ("bybit_spot", "bybit_linear")}
VENUES = tuple(venue for venues in PRODUCTS.values() for venue in venues)
every_venue = pytest.mark.parametrize("venue", VENUES)
# What is left of an immediate order ends so; Bybit's linear knows no expiry.
CUT_ENDS = {"binance_spot": S.EXPIRED, "binance_usdm": S.EXPIRED, "bybit_spot": S.EXPIRED, "bybit_linear": S.CANCELLED}
# A post-only order that would take is refused by Binance; Bybit accepts it first and then cancels it.
WOULD_TAKE_ENDS = {
    "binance_spot": S.REJECTED, "binance_usdm": S.REJECTED, "bybit_spot": S.CANCELLED, "bybit_linear": S.CANCELLED,
}  # fmt: skip


class Desk:
    """What a desk does with a live venue: keeps each order's state by the reports, and waits for what it wants.

    Its orders go to one venue; the other product of the family is open beside it, as it is in a live run.
    """

    def __init__(self, venue: str, practice: PracticeVenues, ccxt_exchange: Any, table: InstrumentTable) -> None:
        self.venue, self.practice, self.ccxt, self.table = venue, practice, ccxt_exchange, table
        self.at = table.index(venue, "BTCUSDT")
        self.qty = self.instrument.qty_mantissa(QTY)
        self.reports: list[Report] = []
        self.statuses: dict[int, OrderStatus] = {}
        self._news = asyncio.Event()
        self.live = self.opened()
        self._running: asyncio.Task[None]

    def opened(self) -> LiveVenue:
        """A live venue of this run that knows nothing yet, as after a start."""
        return LiveVenue(
            self.table, {FAMILY[self.venue]: self.ccxt}, on_report=self._take, run_id="run", clock=SystemClock(),
            settle_s=1.0,
        )  # fmt: skip

    @property
    def instrument(self) -> Instrument:
        return self.table[self.at]

    @property
    def exchange(self) -> Exchange:
        """The market behind the venue."""
        return self.practice.exchanges[self.venue]

    def start(self) -> None:
        self._running = asyncio.create_task(self.live.run())

    async def stop(self) -> None:
        self._running.cancel()
        await asyncio.wait([self._running])
        assert self._running.cancelled(), self._running

    async def restart(self, known: dict[int, OrderStatus]) -> None:
        """Start anew with what a ledger knew: these states, and the fills that were reported so far."""
        ours = {number: frozenset(f.trade_id for f in fills(self.reports) if f.order == number) for number in known}
        self.live, self.reports, self.statuses = self.opened(), [], dict(known)
        self.live.adopt(known, ours)
        self.start()

    def send(self, one: Order) -> None:
        self.statuses[one.number] = OrderStatus(one, S.SENT)
        self.live.submit(one, SystemClock().now_ns())

    async def rest(self, number: int) -> None:
        """Have an order to buy stand in the book, a tenth below the touch."""
        price = await self.touch(Side.SELL) * 9 // 10 // self.instrument.tick * self.instrument.tick
        self.send(order(number, self.at, Side.BUY, self.qty, price, time_in_force=TimeInForce.GTC))
        await self.wait_until(lambda: self.statuses[number].state is S.OPEN)

    def inject(self, kind: FaultKind, **settings: Any) -> None:
        self.practice.faults.inject(Fault(kind=kind, venue=self.venue, **settings))

    @contextmanager
    def no_rest(self, only: str = "") -> Iterator[None]:
        """Requests (of one method) are lost before they reach the venue."""
        fetch = self.ccxt.fetch

        async def lossy(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
            if method == (only or method):
                raise TimeoutError("the line is cut")
            return await fetch(url, method, headers, body)

        self.ccxt.fetch = lossy
        yield
        self.ccxt.fetch = fetch

    def fill(self, number: int, qty: int) -> None:
        """Somebody sells down to where an order of ours rests, and so much of it; the venue tells of it at once. A large bid
        where the touch was keeps the market, which goes on, from selling us more."""
        ours = self.exchange.order(ACCOUNT, "BTCUSDT", client_id=client_id("run", number))
        before, top = ours.filled_qty, self.exchange.best("BTCUSDT")[0]
        while ours.filled_qty < before + qty:
            touch = self.exchange.best("BTCUSDT")[0]
            shown = self.exchange.qty_at("BTCUSDT", Side.BUY, touch)
            sold = min(shown, before + qty - ours.filled_qty) if touch == ours.price else shown
            rival = NewOrder(symbol="BTCUSDT", side=Side.SELL, time_in_force=TimeInForce.IOC, qty=sold, price=touch)
            self.exchange.place(MARKET, rival, SystemClock().now_ns())
        assert ours.filled_qty == before + qty
        shield = NewOrder(
            symbol="BTCUSDT", side=Side.BUY, time_in_force=TimeInForce.GTC, qty=10_000 * self.qty, price=top
        )  # fmt: skip
        self.exchange.place(MARKET, shield, SystemClock().now_ns())
        self.practice.publish()

    async def venue_fills(self) -> dict[str, int]:
        """Quantity by trade id of everything that the venue has filled for us."""
        told = await self.ccxt.fetch_my_trades(self.instrument.canonical)
        made = {str(trade["id"]): self.instrument.qty_mantissa(Decimal(str(trade["amount"]))) for trade in told}
        assert sum(made.values()) == sum(fill.qty for _, fill in self.exchange.fills(ACCOUNT, "BTCUSDT"))
        return made

    def told_fills(self) -> dict[str, int]:
        """Quantity by trade id of what was reported; each once."""
        told = fills(self.reports)
        assert len({fill.trade_id for fill in told}) == len(told)
        return {fill.trade_id: fill.qty for fill in told}

    async def wait_until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not true():
                await self._news.wait()
                self._news.clear()

    async def wait_final(self, number: int) -> tuple[OrderState, int]:
        """(the state it ended in, quantity filled)."""
        await self.wait_until(lambda: self.statuses[number].state.is_final)
        return self.statuses[number].state, self.statuses[number].filled_qty

    async def touch(self, side: Side) -> int:
        """Half a per cent through the price that a taker of this side meets: the market may move meanwhile."""
        book = await self.ccxt.fetch_order_book(self.instrument.canonical, 5)
        price = self.instrument.price_mantissa(Decimal(str(book["asks" if side is Side.BUY else "bids"][0][0])))
        return price + int(side) * (price // 200 // self.instrument.tick) * self.instrument.tick

    def _take(self, report: Report) -> None:
        self.reports.append(report)
        self.statuses[report.order] = after(self.statuses[report.order], report)
        self._news.set()


@asynccontextmanager
async def a_desk(venue: str) -> AsyncIterator[Desk]:
    family = FAMILY[venue]
    async with PracticeVenues(seed=7, venues=PRODUCTS[family]) as practice:
        overrides = overrides_by_exchange(practice.endpoints)[family]
        ccxt_exchange = open_exchange(family, Access.PRACTICE, Credentials(KEY, SECRET), overrides=overrides)
        ccxt_exchange.enableRateLimit = False  # nothing here comes near a limit
        try:
            await ccxt_exchange.load_markets()
            table = InstrumentTable(exchange.instruments["BTCUSDT"] for exchange in practice.exchanges.values())
            desk = Desk(venue, practice, ccxt_exchange, table)
            desk.start()
            yield desk
            await desk.stop()
        finally:
            await ccxt_exchange.close()


@every_venue
async def test_an_order_fills_with_its_fees_and_ends(venue: str) -> None:
    async with a_desk(venue) as desk:
        for number, side in ((1, Side.BUY), (2, Side.SELL)):
            desk.send(order(number, desk.at, side, desk.qty, await desk.touch(side)))
            assert await desk.wait_final(number) == (S.FILLED, desk.qty)
        assert desk.told_fills() == await desk.venue_fills()
        for fill in fills(desk.reports):
            assert fill.fee > 0 and fill.fee_asset


@every_venue
async def test_a_resting_order_is_cancelled_and_a_second_cancel_does_no_harm(venue: str) -> None:
    async with a_desk(venue) as desk:
        await desk.rest(1)
        desk.live.cancel(1, 0)
        desk.live.cancel(1, 0)
        assert await desk.wait_final(1) == (S.CANCELLED, 0)


@every_venue
async def test_what_the_venue_refuses_ends_with_its_reason_and_no_secret(venue: str) -> None:
    async with a_desk(venue) as desk:
        desk.inject(FaultKind.REJECT)
        desk.send(order(1, desk.at, Side.BUY, desk.qty, await desk.touch(Side.BUY)))
        assert await desk.wait_final(1) == (S.REJECTED, 0)
        assert "InsufficientFunds" in desk.reports[-1].reason
        price = await desk.touch(Side.BUY)
        desk.send(order(2, desk.at, Side.BUY, desk.qty, price, time_in_force=TimeInForce.POST_ONLY))
        assert await desk.wait_final(2) == (WOULD_TAKE_ENDS[venue], 0)
        ends = [report for report in desk.reports if report.type is not R.ACCEPTED]
        assert len(ends) == 2
        assert all(end.reason and KEY not in end.reason and SECRET not in end.reason for end in ends)


@every_venue
async def test_a_partial_fill_ends_with_what_was_filled(venue: str) -> None:
    async with a_desk(venue) as desk:
        desk.inject(FaultKind.PARTIAL_FILL)
        desk.send(order(1, desk.at, Side.BUY, desk.qty, await desk.touch(Side.BUY)))
        assert await desk.wait_final(1) == (CUT_ENDS[venue], desk.qty // 2)
        assert sum(fill.qty for fill in fills(desk.reports)) == desk.qty // 2
        assert desk.told_fills() == await desk.venue_fills()


@every_venue
async def test_an_order_whose_answer_is_lost_is_found_and_not_sent_again(venue: str) -> None:
    async with a_desk(venue) as desk:
        desk.inject(FaultKind.TIMEOUT_AFTER_ACCEPT, duration_s=3.0)
        price = await desk.touch(Side.BUY)
        desk.ccxt.timeout = 700
        desk.send(order(1, desk.at, Side.BUY, desk.qty, price))
        assert await desk.wait_final(1) == (S.FILLED, desk.qty)
        assert len(desk.exchange.all_orders(ACCOUNT)) == 1
        assert desk.told_fills() == await desk.venue_fills()


@every_venue
async def test_an_order_that_never_arrived_is_certain_in_the_end(venue: str) -> None:
    async with a_desk(venue) as desk:
        price = await desk.touch(Side.BUY)
        with desk.no_rest("POST"):
            desk.send(order(1, desk.at, Side.BUY, desk.qty, price))
            await desk.wait_final(1)
        assert types(desk.reports) == [R.TIMEOUT, R.REJECTED]
        assert "does not know it" in desk.reports[-1].reason


@every_venue
async def test_an_order_that_fills_before_its_cancel_is_filled(venue: str) -> None:
    async with a_desk(venue) as desk:
        await desk.rest(1)
        desk.inject(FaultKind.CANCEL_FILL_RACE)
        desk.live.cancel(1, 0)
        assert await desk.wait_final(1) == (S.FILLED, desk.qty)
        assert desk.told_fills() == await desk.venue_fills()


@every_venue
async def test_what_fills_while_the_private_stream_is_down_is_asked_for(venue: str) -> None:
    async with a_desk(venue) as desk:
        await desk.rest(1)
        desk.inject(FaultKind.PRIVATE_DISCONNECT)
        desk.practice.publish()  # the sockets are cut here: what fills next reaches none of them
        desk.fill(1, desk.qty)
        assert await desk.wait_final(1) == (S.FILLED, desk.qty)
        assert desk.told_fills() == await desk.venue_fills()
        await desk.rest(2)
        with desk.no_rest():  # the stream is back, and needs nothing else to tell of a fill
            desk.fill(2, desk.qty)
            assert await desk.wait_final(2) == (S.FILLED, desk.qty)
        assert desk.told_fills() == await desk.venue_fills()


@every_venue
async def test_a_restart_asks_for_what_it_does_not_know_the_end_of(venue: str) -> None:
    async with a_desk(venue) as desk:
        price = await desk.touch(Side.BUY)
        desk.send(order(1, desk.at, Side.BUY, desk.qty, price))
        await desk.wait_final(1)
        await desk.stop()
        desk.reports.clear()  # the ledger has heard nothing of the first, and the second was never sent
        orders = [desk.statuses[1].order, order(2, desk.at, Side.BUY, desk.qty, price)]
        await desk.restart({one.number: OrderStatus(one, S.UNKNOWN) for one in orders})
        assert await desk.wait_final(1) == (S.FILLED, desk.qty)
        assert await desk.wait_final(2) == (S.REJECTED, 0)
        assert desk.told_fills() == await desk.venue_fills()


@every_venue
async def test_a_restart_takes_an_order_up_where_the_ledger_left_it(venue: str) -> None:
    async with a_desk(venue) as desk:
        await desk.rest(1)
        desk.fill(1, desk.qty // 2)
        await desk.wait_until(lambda: desk.statuses[1].filled_qty == desk.qty // 2)
        before = desk.told_fills()
        await desk.stop()
        desk.fill(1, desk.qty - desk.qty // 2)
        await desk.restart(dict(desk.statuses))
        assert await desk.wait_final(1) == (S.FILLED, desk.qty)
        assert before.keys().isdisjoint(desk.told_fills())
        assert before | desk.told_fills() == await desk.venue_fills()


async def test_a_market_order_is_refused_at_once() -> None:
    async with a_desk("binance_spot") as desk:
        with pytest.raises(Refused, match="needs a limit price"):
            desk.live.submit(order(1, 0, Side.BUY, 10), 0)
