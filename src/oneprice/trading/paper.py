"""The paper venue: orders against the tape's own books, as late, as small and as dear as they would really be.

An order reaches the venue `order_ms` after it was sent and its reports come back `report_ms` after they were made; between
the two the market moves, and what arrives meets the book of that moment. A taker eats the displayed levels outward,
less what our own earlier orders ate of them and the venue has not refreshed since; a level counts as refreshed when its
displayed quantity has changed or it has gone. A resting order waits behind the whole quantity that stood at its price when
it came; only trades at its price move the queue, a trade through its price fills it. A book that is invalid fills nothing:
the order is rejected. No liquidity is invented, and no randomness is used: the same tape gives the same fills."""

from __future__ import annotations

import heapq
from decimal import Decimal
from typing import Any

import msgspec

from oneprice.compute.books import Books, level_behind, level_qty
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.order import Order, OrderType, Report, ReportType, Side, TimeInForce
from oneprice.model.tape import ASK, Kind, Rows
from oneprice.model.time import NS_PER_MS

_TRADE = int(Kind.TRADE)


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[paper.latency]: from the decision to the venue's engine, and from there back, in milliseconds."""

    order_ms: float = 5.0
    report_ms: float = 5.0


class _Resting(msgspec.Struct):
    order: Order
    left: int
    ahead: int  # quantity that trades before us at our price


class PaperVenue:
    """Every venue's matching engine as far as our orders can feel it. Driven by `advance` and `on_rows`."""

    def __init__(self, instruments: InstrumentTable, latency: Latency) -> None:
        self._instruments = instruments
        self._order_ns = int(latency.order_ms * NS_PER_MS)
        self._report_ns = int(latency.report_ms * NS_PER_MS)
        self._events: list[tuple[int, int, Any]] = []  # (due ns, running number, what)
        self._running = 0
        self._resting: dict[int, _Resting] = {}
        self._eaten: dict[tuple[int, int, int], tuple[int, int]] = {}  # (instrument, side, price) → (displayed, eaten)
        self._trades = 0

    # -- driven by the desk -------------------------------------------------------------------------------------------

    def submit(self, order: Order, now_ns: int) -> None:
        self._schedule(now_ns + self._order_ns, order)

    def cancel(self, number: int, now_ns: int) -> None:
        self._schedule(now_ns + self._order_ns, number)

    def next_due_ns(self) -> int | None:
        """When something of ours happens next; None: nothing is under way."""
        return self._events[0][0] if self._events else None

    def advance(self, to_ns: int, books: Books) -> list[Report]:
        """Let everything happen that is due by `to_ns`, on books as of then; → the reports that have come back."""
        back: list[Report] = []
        while self._events and self._events[0][0] <= to_ns:
            due_ns, _, what = heapq.heappop(self._events)
            if isinstance(what, Report):
                back.append(what)
            elif isinstance(what, Order):
                self._arrive(what, due_ns, books)
            else:
                self._cancel(what, due_ns)
        return back

    @property
    def has_resting(self) -> bool:
        return bool(self._resting)

    def on_rows(self, rows: Rows, start: int, stop: int, books: Books) -> None:
        """Let the tape's trades reach resting orders."""
        if not self._resting:
            return
        part = rows[start:stop]
        for row in part[part["kind"] == _TRADE]:
            for number in sorted(self._resting):
                resting = self._resting[number]
                if resting.order.instrument == int(row["instrument"]):
                    self._trade_meets(resting, row)

    # -- what happens at the venue ------------------------------------------------------------------------------------

    def _arrive(self, order: Order, at_ns: int, books: Books) -> None:
        instrument = self._instruments[order.instrument]
        refusal = refuses(instrument, order, books)
        if refusal is not None:
            self._report(order, ReportType.REJECTED, at_ns, reason=refusal)
            return
        self._report(order, ReportType.ACCEPTED, at_ns)
        fills = [] if order.time_in_force is TimeInForce.POST_ONLY else self._walk(order, books)
        filled = sum(qty for _, qty in fills)
        if order.time_in_force is TimeInForce.FOK and filled < order.qty:
            self._report(order, ReportType.EXPIRED, at_ns, reason="fill or kill: the book shows less")
            return
        for price, qty in fills:
            self._eat(order, price, qty, books)
            self._fill(order, price, qty, at_ns, maker=False)
        left = order.qty - filled
        if left == 0:
            return
        if order.type is OrderType.MARKET or order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self._report(order, ReportType.EXPIRED, at_ns, reason=f"{left} of {order.qty} not available at the limit")
            return
        side = 0 if order.side is Side.BUY else 1
        ahead = int(level_qty(books, order.instrument, side, order.price))
        self._resting[order.number] = _Resting(order, left, ahead)

    def _walk(self, order: Order, books: Books) -> list[tuple[int, int]]:
        """(price, quantity) of the levels the order would take now, best first."""
        side = 1 if order.side is Side.BUY else 0
        price = int(books.best_ask[order.instrument] if side else books.best_bid[order.instrument])
        left, taken = order.qty, []
        while price and left and _within(order, price):
            here = min(left, self._free(order.instrument, side, price, books))
            if here > 0:
                taken.append((price, here))
                left -= here
            price = int(level_behind(books, order.instrument, side, price))
        return taken

    def _free(self, instrument: int, side: int, price: int, books: Books) -> int:
        """Displayed quantity less what we ate of it; a level that changed since shows fresh quantity."""
        displayed = int(level_qty(books, instrument, side, price))
        then, eaten = self._eaten.get((instrument, side, price), (displayed, 0))
        return displayed - eaten if then == displayed else displayed

    def _eat(self, order: Order, price: int, qty: int, books: Books) -> None:
        side = 1 if order.side is Side.BUY else 0
        place = (order.instrument, side, price)
        displayed = int(level_qty(books, order.instrument, side, price))
        then, eaten = self._eaten.get(place, (displayed, 0))
        self._eaten[place] = (displayed, (eaten if then == displayed else 0) + qty)

    def _trade_meets(self, resting: _Resting, row: Any) -> None:
        order = resting.order
        taker_sold = bool(int(row["flags"]) & ASK)
        if taker_sold != (order.side is Side.BUY):
            return  # the taker was on our side of the book
        price, traded = int(row["price"]), int(row["qty"])
        through = price < order.price if order.side is Side.BUY else price > order.price
        if through:
            available = resting.left
        elif price == order.price:
            available = max(0, traded - resting.ahead)
            resting.ahead = max(0, resting.ahead - traded)
        else:
            return
        qty = min(available, resting.left)
        if qty > 0:
            resting.left -= qty
            self._fill(order, order.price, qty, int(row["ts_recv_ns"]), maker=True)
            if resting.left == 0:
                del self._resting[order.number]

    def _cancel(self, number: int, at_ns: int) -> None:
        resting = self._resting.pop(number, None)
        if resting is not None:
            self._report(resting.order, ReportType.CANCELLED, at_ns)

    # -- reports ------------------------------------------------------------------------------------------------------

    def _fill(self, order: Order, price: int, qty: int, at_ns: int, *, maker: bool) -> None:
        fee, asset = fee_of(self._instruments[order.instrument], order.side, price, qty, maker=maker)
        self._trades += 1
        self._report(
            order, ReportType.FILL, at_ns, price=price, qty=qty, fee=fee, fee_asset=asset, maker=maker,
            trade_id=f"paper-{self._trades}",
        )  # fmt: skip

    def _report(self, order: Order, type_: ReportType, at_ns: int, **values: Any) -> None:
        back_ns = at_ns + self._report_ns
        self._schedule(back_ns, Report(order=order.number, type=type_, ts_ns=back_ns, **values))

    def _schedule(self, due_ns: int, what: Any) -> None:
        self._running += 1
        heapq.heappush(self._events, (due_ns, self._running, what))


def _within(order: Order, price: int) -> bool:
    if order.type is OrderType.MARKET:
        return True
    return price <= order.price if order.side is Side.BUY else price >= order.price


def refuses(instrument: Instrument, order: Order, books: Books) -> str | None:
    """Why the venue would reject this order now, or None."""
    index = order.instrument
    if not books.valid[index]:
        return "no valid book: a gap is being repaired"
    best_bid, best_ask = int(books.best_bid[index]), int(books.best_ask[index])
    if order.qty <= 0 or order.qty % instrument.lot:
        return f"quantity {instrument.qty(order.qty)} is not a whole number of lots of {instrument.qty(instrument.lot)}"
    if order.qty < instrument.min_qty or (instrument.max_qty and order.qty > instrument.max_qty):
        return f"quantity {instrument.qty(order.qty)} is outside the venue's bounds"
    if order.type is OrderType.LIMIT and (order.price <= 0 or order.price % instrument.tick):
        return (
            f"price {instrument.price(order.price)} is not a multiple of the tick {instrument.price(instrument.tick)}"
        )
    reference = order.price or (best_ask if order.side is Side.BUY else best_bid)
    notional = instrument.notional(reference, order.qty)
    if notional < instrument.min_notional and not order.reduce_only:
        return f"value {notional} is below the venue's minimum of {instrument.min_notional}"
    if order.time_in_force is TimeInForce.POST_ONLY:
        touch = best_ask if order.side is Side.BUY else best_bid
        crosses = touch and (order.price >= touch if order.side is Side.BUY else order.price <= touch)
        if crosses:
            return "post only: it would take"
    return None


def fee_of(instrument: Instrument, side: Side, price: int, qty: int, *, maker: bool) -> tuple[Decimal, str]:
    """(fee, its asset): of what is received on spot, of the notional in the settlement currency on derivatives."""
    rate = instrument.maker_fee if maker else instrument.taker_fee
    notional = instrument.notional(price, qty)
    if instrument.fee_in_received:
        if side is Side.BUY:
            return instrument.qty(qty) * rate, instrument.base
        return notional * rate, instrument.quote
    if instrument.inverse:
        return notional / instrument.price(price) * rate, instrument.settle
    return notional * rate, instrument.settle or instrument.quote
