"""Live orders through guarded ccxt against the practice Binance: fills, ends, lost answers, restarts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import pytest

from oneprice.emulator.ccxt_addresses import binance_overrides
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.emulator.practice import KEY, SECRET, PracticeVenues
from oneprice.model.errors import Refused
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import Order, OrderState, OrderStatus, Report, ReportType, Side, TimeInForce, after
from oneprice.model.time import SystemClock
from oneprice.trading.credentials import Credentials
from oneprice.trading.hosts import Access
from oneprice.trading.live import LiveVenue, open_exchange
from trading.market import fills, order, types

R = ReportType
WITHIN_S = 25


class Desk:
    """What a desk does with a live venue: keeps each order's state by the reports, and waits for what it wants."""

    def __init__(self, practice: PracticeVenues, exchange: Any, table: InstrumentTable, *, run_id: str = "run") -> None:
        self.practice, self.exchange, self.table = practice, exchange, table
        self.live = LiveVenue(
            table, {"binance": exchange}, on_report=self._take, run_id=run_id, clock=SystemClock(), settle_s=1.0
        )
        self.reports: list[Report] = []
        self.statuses: dict[int, OrderStatus] = {}
        self._news = asyncio.Event()

    def send(self, one: Order) -> None:
        self.statuses[one.number] = OrderStatus(one, OrderState.SENT)
        self.live.submit(one, SystemClock().now_ns())

    async def wait_until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WITHIN_S):
            while not true():
                await self._news.wait()
                self._news.clear()

    def _take(self, report: Report) -> None:
        self.reports.append(report)
        self.statuses[report.order] = after(self.statuses[report.order], report)
        self._news.set()

    async def wait_final(self, number: int) -> OrderStatus:
        await self.wait_until(lambda: self.statuses[number].state.is_final)
        return self.statuses[number]

    async def touch(self, instrument: int, side: Side) -> int:
        """Half a per cent through the price that a taker of this side meets: the market may move meanwhile."""
        rules = self.table[instrument]
        book = await self.exchange.fetch_order_book(rules.canonical, 5)
        price = rules.price_mantissa(Decimal(str(book["asks" if side is Side.BUY else "bids"][0][0])))
        return price + int(side) * (price // 200 // rules.tick) * rules.tick


@asynccontextmanager
async def a_desk(*faults: Fault, run_id: str = "run") -> AsyncIterator[Desk]:
    async with PracticeVenues(seed=7, venues=("binance_spot", "binance_usdm"), faults=faults) as practice:
        exchange = open_exchange(
            "binance", Access.PRACTICE, Credentials(KEY, SECRET), overrides=binance_overrides(practice.endpoints)
        )
        await exchange.load_markets()
        table = InstrumentTable(venue.instruments["BTCUSDT"] for venue in practice.exchanges.values())
        desk = Desk(practice, exchange, table, run_id=run_id)
        running = asyncio.create_task(desk.live.run())
        try:
            yield desk
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await desk.live.close()


@pytest.mark.parametrize("instrument", [0, 1])
async def test_an_order_fills_with_its_fees_and_ends(instrument: int) -> None:
    async with a_desk() as desk:
        for number, side in ((1, Side.BUY), (2, Side.SELL)):
            desk.send(
                order(number, instrument, side, desk.table[instrument].lot * 20, await desk.touch(instrument, side))
            )
            status = await desk.wait_final(number)
            assert (status.state, status.filled_qty) == (OrderState.FILLED, status.order.qty)
        for fill in fills(desk.reports):
            assert fill.fee > 0 and fill.fee_asset and fill.trade_id


async def test_a_resting_order_is_cancelled_and_a_second_cancel_does_no_harm() -> None:
    async with a_desk() as desk:
        low = await desk.touch(0, Side.SELL) * 9 // 10
        desk.send(order(1, 0, Side.BUY, desk.table[0].lot * 50, low, time_in_force=TimeInForce.GTC))
        await desk.wait_until(lambda: desk.statuses[1].state is OrderState.OPEN)
        desk.live.cancel(1, 0)
        desk.live.cancel(1, 0)
        status = await desk.wait_final(1)
        assert (status.state, status.filled_qty) == (OrderState.CANCELLED, 0)


async def test_what_the_venue_refuses_is_rejected_with_its_reason_and_no_secret() -> None:
    async with a_desk() as desk:
        desk.send(order(1, 0, Side.BUY, desk.table[0].lot, await desk.touch(0, Side.BUY)))
        await desk.wait_final(1)
        desk.send(order(2, 0, Side.BUY, desk.table[0].lot * 50, await desk.touch(0, Side.BUY),
                        time_in_force=TimeInForce.POST_ONLY))  # fmt: skip
        await desk.wait_final(2)
        assert [desk.statuses[number].state for number in (1, 2)] == [OrderState.REJECTED] * 2
        assert all(
            report.reason and KEY not in report.reason and SECRET not in report.reason for report in desk.reports
        )


@pytest.mark.parametrize("instrument", [0, 1])
async def test_a_partial_fill_ends_with_what_was_filled(instrument: int) -> None:
    async with a_desk(Fault(kind=FaultKind.PARTIAL_FILL)) as desk:
        lot = desk.table[instrument].lot
        desk.send(order(1, instrument, Side.BUY, lot * 40, await desk.touch(instrument, Side.BUY)))
        status = await desk.wait_final(1)
        assert (status.state, status.filled_qty) == (OrderState.EXPIRED, lot * 20)
        assert sum(fill.qty for fill in fills(desk.reports)) == lot * 20


@pytest.mark.parametrize("instrument", [0, 1])
async def test_an_order_whose_answer_is_lost_is_found_and_not_sent_again(instrument: int) -> None:
    async with a_desk(Fault(kind=FaultKind.TIMEOUT_AFTER_ACCEPT, duration_s=3.0)) as desk:
        price, lot = await desk.touch(instrument, Side.BUY), desk.table[instrument].lot
        desk.exchange.timeout = 700
        desk.send(order(1, instrument, Side.BUY, lot * 20, price))
        status = await desk.wait_final(1)
        assert (status.state, status.filled_qty) == (OrderState.FILLED, lot * 20)
        told = await desk.exchange.fetch_my_trades(desk.table[instrument].canonical)
        assert {str(trade["id"]) for trade in told} == {fill.trade_id for fill in fills(desk.reports)}


async def test_an_order_that_never_arrived_is_certain_in_the_end() -> None:
    async with a_desk() as desk:
        price = await desk.touch(0, Side.BUY)
        send = desk.exchange.fetch

        async def lossy(url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
            if method == "POST" and "/order" in url:
                raise TimeoutError("the line is cut")
            return await send(url, method, headers, body)

        desk.exchange.fetch = lossy
        desk.send(order(1, 0, Side.BUY, desk.table[0].lot * 50, price))
        await desk.wait_final(1)
        assert types(desk.reports) == [R.TIMEOUT, R.REJECTED]
        assert "does not know it" in desk.reports[-1].reason


async def test_a_restart_asks_for_what_it_does_not_know_the_end_of() -> None:
    async with a_desk() as desk:
        price, lot = await desk.touch(0, Side.BUY), desk.table[0].lot
        desk.send(order(1, 0, Side.BUY, lot * 50, price))
        await desk.wait_final(1)
        again = LiveVenue(
            desk.table,
            {"binance": desk.exchange},
            on_report=desk._take,
            run_id="run",
            clock=SystemClock(),
            settle_s=0.5,
        )
        statuses = {1: OrderStatus(desk.statuses[1].order, OrderState.UNKNOWN)}
        never = order(2, 0, Side.BUY, lot * 50, price)
        statuses[2] = OrderStatus(never, OrderState.UNKNOWN)
        desk.live, desk.reports, desk.statuses = again, [], dict(statuses)
        again.adopt(statuses, {})
        running = asyncio.create_task(again.run())
        try:
            first, second = await desk.wait_final(1), await desk.wait_final(2)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        assert (first.state, first.filled_qty) == (OrderState.FILLED, lot * 50)
        assert (second.state, second.filled_qty) == (OrderState.REJECTED, 0)


async def test_a_market_order_is_refused_at_once() -> None:
    async with a_desk() as desk:
        with pytest.raises(Refused, match="needs a limit price"):
            desk.live.submit(order(1, 0, Side.BUY, 10), 0)
