"""The paper venue: orders against the tape's own books, as late, as small and as dear as they would really be.

An order reaches the venue `order_ms` after it was sent and its reports come back `report_ms` after they were made;
between the two the market moves, and what arrives meets the book of that moment. A taker eats the displayed levels
outward, less what our own earlier orders ate of them and the venue has not refreshed since; a level counts as refreshed
when its displayed quantity has changed or it has gone. A resting order waits in the queue at its price (`queue.py`):
trades at the price move it, a trade through it fills it, and so does a book whose other side has come to it, as far as
that side shows. A book that is invalid fills nothing: the order is rejected. No liquidity is invented, and no
randomness is used: the same tape gives the same fills."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from oneprice.compute.books import Books, level_behind, level_qty
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Order, OrderType, Report, ReportType, Side, TimeInForce
from oneprice.model.tape import Rows
from oneprice.model.time import NS_PER_MS
from oneprice.trading import queue as q
from oneprice.trading.money import divide_rounded, exact
from oneprice.trading.queue import QueueMode
from oneprice.trading.rules import broken_rule

_BAND_BPS = 1_000  # venues refuse a limit price this far from the market; theirs lie between 2 and 20 per cent
_LEVELS_KEPT = 4_096  # eaten levels remembered before those that the venue has refreshed are forgotten


class Latency(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[paper.latency]: from the decision to the venue's engine, and from there back, in milliseconds."""

    order_ms: float = 5.0
    report_ms: float = 5.0
    order_ms_of: Mapping[str, float] = {}  # by venue, where one is nearer or farther than the others
    report_ms_of: Mapping[str, float] = {}


class PaperVenue:
    """Every venue's matching engine as far as our orders can feel it. Driven by `advance` and `on_rows`."""

    def __init__(
        self,
        instruments: InstrumentTable,
        latency: Latency,
        *,
        queue: QueueMode = QueueMode.FULL_QUEUE,
        threshold_pct: int = 20,
    ) -> None:
        self._instruments = instruments
        self._order_ns = [
            int(latency.order_ms_of.get(rules.venue, latency.order_ms) * NS_PER_MS) for rules in instruments
        ]
        self._report_ns = [
            int(latency.report_ms_of.get(rules.venue, latency.report_ms) * NS_PER_MS) for rules in instruments
        ]
        self._mode, self._threshold_pct = queue, threshold_pct
        self._events: list[tuple[int, int, Any]] = []  # (due ns, running number, what)
        self._running = 0
        self._eaten: dict[tuple[int, int, int], tuple[int, int]] = {}  # (instrument, side, price) → (displayed, eaten)
        self._contracts: defaultdict[int, int] = defaultdict(int)  # our net position, as the venue knows it
        self._trades = 0
        self._orders: list[Order] = []  # resting; place in the list = row of the queue, oldest first
        self._queue = np.zeros((16, q.COLUMNS), dtype=np.int64)
        self._fills = np.zeros((256, 3), dtype=np.int64)
        self._sent: dict[int, int] = {}  # order → instrument, for the way a cancel takes

    # -- driven by the desk -------------------------------------------------------------------------------------------

    def submit(self, order: Order, now_ns: int) -> None:
        """Send an order; it arrives after the venue's latency."""
        self._sent[order.number] = order.instrument
        self._schedule(now_ns + self._order_ns[order.instrument], order)

    def cancel(self, number: int, now_ns: int) -> None:
        """Ask for a cancel. It loses against a fill that happens before it arrives, and then says nothing."""
        instrument = self._sent.get(number)
        if instrument is not None:
            self._schedule(now_ns + self._order_ns[instrument], number)

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
        return bool(self._orders)

    def on_rows(self, rows: Rows, start: int, stop: int, books: Books) -> None:
        """Let rows[start:stop] reach resting orders; books as of `stop`."""
        if not self._orders:
            return
        while start < stop and self._orders:
            count = len(self._orders)
            found, start = q.meet_trades(
                rows, start, stop, self._queue, count, int(self._mode), self._threshold_pct, self._fills
            )
            for place, qty, row in self._fills[:found].tolist():
                self._fill(
                    self._orders[place], self._orders[place].price, qty, int(rows[row]["ts_recv_ns"]), maker=True
                )
            self._drop_filled()
        if self._mode is QueueMode.PRO_RATA and self._orders:
            q.watch_levels(books, self._queue, len(self._orders))
        self._meet_book(int(rows[stop - 1]["ts_recv_ns"]) if stop else 0, books)

    # -- what happens at the venue ------------------------------------------------------------------------------------

    def _arrive(self, order: Order, at_ns: int, books: Books) -> None:
        instrument = self._instruments[order.instrument]
        refusal = refuses(instrument, order, books) or self._not_reducing(order)
        if refusal is not None:
            self._report(order, ReportType.REJECTED, at_ns, reason=refusal)
            return
        self._report(order, ReportType.ACCEPTED, at_ns)
        fills = self._walk(order, self._fillable(order), books)
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
        if order.reduce_only:
            left = min(left, self._fillable(order))
        if left == 0 or order.type is OrderType.MARKET or order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self._report(order, ReportType.EXPIRED, at_ns, reason=f"{order.qty - filled} of {order.qty} unfilled")
            return
        self._rest(order, left, books)

    def _not_reducing(self, order: Order) -> str | None:
        if order.reduce_only and self._is_contract(order) and self._fillable(order) == 0:
            return "reduce only: the account has no position that this order would reduce"
        return None

    def _fillable(self, order: Order) -> int:
        """The order's quantity; of a reduce-only one at most what it can reduce."""
        if not order.reduce_only or not self._is_contract(order):
            return order.qty
        return min(order.qty, max(0, -int(order.side) * self._contracts[order.instrument]))

    def _is_contract(self, order: Order) -> bool:
        return self._instruments[order.instrument].kind is not InstrumentKind.SPOT

    def _walk(self, order: Order, wanted: int, books: Books) -> list[tuple[int, int]]:
        """(price, quantity) of the levels the order would take now, best first."""
        side = 1 if order.side is Side.BUY else 0
        price = int(books.best_ask[order.instrument] if side else books.best_bid[order.instrument])
        left, taken = wanted, []
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
        if len(self._eaten) > _LEVELS_KEPT:
            self._eaten = {
                kept: state for kept, state in self._eaten.items() if int(level_qty(books, *kept)) == state[0]
            }

    def _rest(self, order: Order, left: int, books: Books) -> None:
        side = 0 if order.side is Side.BUY else 1
        displayed = int(level_qty(books, order.instrument, side, order.price))
        own = sum(
            int(self._queue[place, q.LEFT])
            for place, other in enumerate(self._orders)
            if (other.instrument, other.side, other.price) == (order.instrument, order.side, order.price)
        )  # the tape's book does not show our own orders: those that came before stand ahead of this one
        if len(self._orders) == len(self._queue):
            self._queue = np.concatenate((self._queue, np.zeros_like(self._queue)))
            self._fills = np.zeros((max(len(self._fills), 4 * len(self._queue)), 3), dtype=np.int64)
        row = self._queue[len(self._orders)]
        row[:] = 0
        row[q.INSTRUMENT], row[q.SIDE], row[q.PRICE] = order.instrument, int(order.side), order.price
        row[q.LEFT], row[q.AHEAD], row[q.DEPTH] = left, displayed + own, displayed + own
        row[q.SEEN] = displayed
        self._orders.append(order)

    def _meet_book(self, at_ns: int, books: Books) -> None:
        """A book whose other side stands at a resting order's price or beyond would have traded with it."""
        for place, order in enumerate(self._orders):
            index = order.instrument
            other = int(books.best_ask[index] if order.side is Side.BUY else books.best_bid[index])
            if other == 0 or not _within(order, other):
                continue
            for price, qty in self._walk(order, int(self._queue[place, q.LEFT]), books):
                self._eat(order, price, qty, books)
                self._queue[place, q.LEFT] -= qty
                self._fill(order, order.price, qty, at_ns, maker=True)
        self._drop_filled()

    def _drop_filled(self) -> None:
        self._keep([place for place in range(len(self._orders)) if self._queue[place, q.LEFT] > 0])

    def _keep(self, places: list[int]) -> None:
        if len(places) < len(self._orders):
            self._queue[: len(places)] = self._queue[places]
            self._orders = [self._orders[place] for place in places]

    def _cancel(self, number: int, at_ns: int) -> None:
        for place, order in enumerate(self._orders):
            if order.number == number:
                self._keep([other for other in range(len(self._orders)) if other != place])
                self._report(order, ReportType.CANCELLED, at_ns)
                return

    # -- reports ------------------------------------------------------------------------------------------------------

    def _fill(self, order: Order, price: int, qty: int, at_ns: int, *, maker: bool) -> None:
        fee, asset = fee_of(self._instruments[order.instrument], order.side, price, qty, maker=maker)
        self._trades += 1
        self._contracts[order.instrument] += int(order.side) * qty
        self._report(
            order, ReportType.FILL, at_ns, price=price, qty=qty, fee=fee, fee_asset=asset, maker=maker,
            trade_id=f"paper-{self._trades}",
        )  # fmt: skip

    def _report(self, order: Order, type_: ReportType, at_ns: int, **values: Any) -> None:
        back_ns = at_ns + self._report_ns[order.instrument]
        if type_ in (ReportType.REJECTED, ReportType.EXPIRED, ReportType.CANCELLED):
            self._sent.pop(order.number, None)
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
    touch = best_ask if order.side is Side.BUY else best_bid
    if order.type is OrderType.MARKET and touch == 0:
        return "nobody offers the other side"
    middle = (best_bid + best_ask) / 2 if best_bid and best_ask else 0.0
    broken = broken_rule(instrument, order, touch=touch, middle=middle, band_bps=_BAND_BPS)
    if broken is not None:
        rule, number, limit = broken
        return f"{rule}: {number} against {limit}"
    if order.time_in_force is TimeInForce.POST_ONLY and touch and _within(order, touch):
        return "post only: it would take"
    return None


def fee_of(instrument: Instrument, side: Side, price: int, qty: int, *, maker: bool) -> tuple[Decimal, str]:
    """(fee, its asset), exact: of what is received on spot, of the notional in the settlement currency on derivatives.

    The value of an inverse contract in coins is a division and is rounded to 12 decimals.
    """
    rate = instrument.maker_fee if maker else instrument.taker_fee
    with exact():
        notional = instrument.notional(price, qty)
        if instrument.fee_in_received:
            if side is Side.BUY:
                return instrument.qty(qty) * rate, instrument.base
            return notional * rate, instrument.quote
        if instrument.inverse:
            return divide_rounded(notional * rate, instrument.price(price)), instrument.settle
        return notional * rate, instrument.settle or instrument.quote
