"""One practice market: books, accounts, orders, positions, funding. Pure: time comes in as `now_ns`, events come out.

The account `market` is everybody else: it has unlimited means and no private events. Every other account holds balances
that orders lock and fills move; a derivative's position is valued in its settlement currency with full margin (no
leverage unless set), so that nothing practised here would be impossible with real money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from decimal import Decimal

import msgspec

from oneprice.emulator.accounts import Account, after_fill, rounded
from oneprice.emulator.events import (
    Balance,
    BalanceChanged,
    BookView,
    Event,
    FillRecord,
    FundingPaid,
    LevelChanged,
    MarkChanged,
    MarketState,
    NewOrder,
    OrderRecord,
    OrderUpdated,
    PositionChanged,
    PositionRecord,
    QuoteChanged,
    Reject,
    RejectCode,
    Traded,
)
from oneprice.emulator.history import TradeHistory
from oneprice.emulator.orderbook import OrderBook, Resting
from oneprice.model.instrument import Instrument
from oneprice.model.order import OrderState, OrderType, ReportType, Side, TimeInForce
from oneprice.venues.base import Candle, FundingSettlement

MARKET = "market"
_ZERO = Decimal(0)
_MAX_OPEN_ORDERS = 200
_BAND = 5  # a limit price further than this factor from the last price is refused


class Exchange:
    """A practice market. `spot`: assets change hands; else perpetual contracts do."""

    def __init__(self, venue: str, instruments: Sequence[Instrument], *, spot: bool) -> None:
        self.venue = venue
        self.spot = spot
        self.instruments = {instrument.symbol: instrument for instrument in instruments}
        self._books = {symbol: OrderBook() for symbol in self.instruments}
        self._states = {
            symbol: MarketState(funding_interval_ns=instrument.funding_interval_ns)
            for symbol, instrument in self.instruments.items()
        }
        self._ids = {symbol: 1_000_000 * (place + 1) for place, symbol in enumerate(self.instruments)}
        self._accounts: dict[str, Account] = {MARKET: Account()}
        self._events: list[Event] = []
        self._next_order = 1_000_000
        self._next_trade: defaultdict[str, int] = defaultdict(lambda: 5_000_000)
        self._history = {symbol: TradeHistory(instrument) for symbol, instrument in self.instruments.items()}
        self._settled: dict[str, list[FundingSettlement]] = {symbol: [] for symbol in self.instruments}
        self._touched: dict[str, tuple[int, int, int, int]] = {}
        self.fees_taken: defaultdict[str, Decimal] = defaultdict(Decimal)

    # -- accounts -----------------------------------------------------------------------------------------------------

    def open_account(self, account: str, balances: dict[str, Decimal]) -> None:
        self._accounts[account] = made = Account()
        made.free.update(balances)

    def balances(self, account: str) -> dict[str, Balance]:
        held = self._accounts[account]
        return {asset: self._balance(held, asset) for asset in sorted({*held.free, *held.locked})}

    def positions(self, account: str) -> dict[str, PositionRecord]:
        return dict(self._accounts[account].positions)

    def set_leverage(self, account: str, symbol: str, leverage: int) -> None:
        self._accounts[account].leverage[symbol] = leverage

    # -- orders -------------------------------------------------------------------------------------------------------

    def place(self, account: str, new: NewOrder, now_ns: int) -> OrderRecord:
        """Match an order and rest what is left of it; Reject when the market's rules refuse it."""
        instrument = self._instrument(new.symbol)
        held = self._accounts[account]
        book = self._books[new.symbol]
        qty = new.qty if new.quote_qty is None else self._base_for(instrument, new, book)
        self._check(account, held, instrument, new, qty, book)
        if new.time_in_force is TimeInForce.POST_ONLY and next(book.available(new.side, new.price), None) is not None:
            raise Reject(RejectCode.WOULD_TAKE, "Order would immediately match and take.")
        self._next_order += 1
        order = OrderRecord(
            order_id=self._next_order, account=account, symbol=new.symbol, side=new.side, type=new.type,
            time_in_force=new.time_in_force, price=new.price, qty=qty, client_id=new.client_id or f"x{self._next_order}",
            created_ns=now_ns, updated_ns=now_ns, reduce_only=new.reduce_only,
        )  # fmt: skip
        if account != MARKET:
            self._lock(held, instrument, order)
            held.orders[order.order_id] = order
            held.by_client_id[order.client_id] = order.order_id
            self._tell(order, ReportType.ACCEPTED, None, now_ns)
        limit = order.price if order.type is OrderType.LIMIT else None
        if order.time_in_force is TimeInForce.FOK and not self._can_fill(book, order, limit):
            return self._finish(order, OrderState.EXPIRED, ReportType.EXPIRED, now_ns)
        # Each trade may make resting orders expire, so the next one to be met is looked up only then.
        while order.filled_qty < order.qty and (resting := next(book.available(order.side, limit), None)) is not None:
            self._trade(order, resting, book, now_ns)
        left = order.qty - order.filled_qty
        if left == 0:
            self._unlock(order)
        elif order.type is OrderType.MARKET or order.time_in_force in (TimeInForce.IOC, TimeInForce.FOK):
            self._finish(order, OrderState.EXPIRED, ReportType.EXPIRED, now_ns)
        else:
            book.add(Resting(order.order_id, account, order.side, order.price, left))
            if self.spot:  # derivatives venues do not tell what a resting order holds back
                self._balance_event(account, [instrument.base, instrument.quote], "ORDER", now_ns)
            self._level(order.symbol, order.side, order.price, now_ns)
        self._quote(order.symbol, now_ns)
        return order

    def cancel(
        self, account: str, symbol: str, *, order_id: int | None = None, client_id: str | None = None, now_ns: int
    ) -> OrderRecord:
        """Take a resting order out; Reject when it does not rest."""
        if account == MARKET:
            resting = self._books[symbol].remove(order_id or 0)
            if resting is None:
                raise Reject(RejectCode.UNKNOWN_ORDER, "Unknown order sent.")
            self._level(symbol, resting.side, resting.price, now_ns)
            self._quote(symbol, now_ns)
            return OrderRecord(
                order_id=resting.order_id, account=account, symbol=symbol, side=resting.side, type=OrderType.LIMIT,
                time_in_force=TimeInForce.GTC, price=resting.price, qty=resting.left, client_id="", created_ns=now_ns,
                updated_ns=now_ns, state=OrderState.CANCELLED,
            )  # fmt: skip
        order = self.order(account, symbol, order_id=order_id, client_id=client_id)
        if self._books[symbol].remove(order.order_id) is None:
            raise Reject(RejectCode.UNKNOWN_ORDER, "Unknown order sent.")
        self._finish(order, OrderState.CANCELLED, ReportType.CANCELLED, now_ns)
        self._level(symbol, order.side, order.price, now_ns)
        self._quote(symbol, now_ns)
        return order

    def cancel_all(self, account: str, symbol: str | None, now_ns: int) -> list[OrderRecord]:
        return [
            self.cancel(account, order.symbol, order_id=order.order_id, now_ns=now_ns)
            for order in self.open_orders(account, symbol)
        ]

    def order(
        self, account: str, symbol: str, *, order_id: int | None = None, client_id: str | None = None
    ) -> OrderRecord:
        held = self._accounts[account]
        number = order_id if order_id is not None else held.by_client_id.get(client_id or "", -1)
        order = held.orders.get(number)
        if order is None or order.symbol != symbol:
            raise Reject(RejectCode.UNKNOWN_ORDER, "Order does not exist.")
        return order

    def open_orders(self, account: str, symbol: str | None = None) -> list[OrderRecord]:
        return self._accounts[account].open_orders(symbol)

    def all_orders(self, account: str, symbol: str | None = None) -> list[OrderRecord]:
        orders = self._accounts[account].orders.values()
        return [order for order in orders if symbol is None or order.symbol == symbol]

    def fills(self, account: str, symbol: str | None = None) -> list[tuple[OrderRecord, FillRecord]]:
        return [(order, fill) for order in self.all_orders(account, symbol) for fill in order.fills]

    # -- market data --------------------------------------------------------------------------------------------------

    def book(self, symbol: str, depth: int, now_ns: int = 0) -> BookView:
        self._instrument(symbol)
        book = self._books[symbol]
        return BookView(
            last_id=self._ids[symbol],
            bids=book.levels(Side.BUY, depth),
            asks=book.levels(Side.SELL, depth),
            ts_ns=now_ns,
        )

    def best(self, symbol: str) -> tuple[int, int]:
        book = self._books[symbol]
        return book.best(Side.BUY), book.best(Side.SELL)

    def totals(self, symbol: str, side: Side) -> Mapping[int, int]:
        """Price → quantity of a side, as it is from now on: no copy."""
        return self._books[symbol].totals(side)

    def qty_at(self, symbol: str, side: Side, price: int) -> int:
        return self._books[symbol].total(side, price)

    def market_state(self, symbol: str) -> MarketState:
        self._instrument(symbol)
        return self._states[symbol]

    def recent_trades(self, symbol: str, n: int) -> list[Traded]:
        self._instrument(symbol)
        return self._history[symbol].recent(n)

    def candles(self, symbol: str, interval_ns: int, start_ns: int, limit: int) -> list[Candle]:
        self._instrument(symbol)
        return self._history[symbol].candles(interval_ns, start_ns, limit)

    def funding_history(self, symbol: str, n: int) -> list[FundingSettlement]:
        self._instrument(symbol)
        return self._settled[symbol][-n:] if n > 0 else []

    def take_events(self) -> list[Event]:
        taken, self._events = self._events, []
        return taken

    # -- marks and funding --------------------------------------------------------------------------------------------

    def set_mark(
        self, symbol: str, *, mark: float, index: float, funding_rate: float, next_funding_ns: int, now_ns: int
    ) -> None:
        state = self._states[symbol]
        state.mark, state.index, state.funding_rate = mark, index, funding_rate
        state.next_funding_ns = next_funding_ns
        self._events.append(
            MarkChanged(
                symbol=symbol, mark=mark, index=index, funding_rate=funding_rate, next_funding_ns=next_funding_ns,
                ts_ns=now_ns,
            )
        )  # fmt: skip

    def settle_funding(self, symbol: str, now_ns: int) -> None:
        """Longs pay shorts (or, at a negative rate, the other way round) on what they hold now."""
        state, instrument = self._states[symbol], self.instruments[symbol]
        rate, mark = Decimal(f"{state.funding_rate:.8f}"), Decimal(f"{state.mark:.8f}")
        self._settled[symbol].append(FundingSettlement(ts_ns=now_ns, rate=rate, mark_price=mark))
        for name, held in self._accounts.items():
            position = held.positions.get(symbol)
            if position is None or position.qty == 0:
                continue
            amount = -instrument.qty(position.qty) * mark * rate
            held.free[instrument.settle] += amount
            self._events.append(FundingPaid(account=name, symbol=symbol, amount=amount, ts_ns=now_ns))
            self._balance_event(name, [instrument.settle], "FUNDING_FEE", now_ns)

    # -- inside -------------------------------------------------------------------------------------------------------

    def _instrument(self, symbol: str) -> Instrument:
        if symbol not in self.instruments:
            raise Reject(RejectCode.UNKNOWN_SYMBOL, "Invalid symbol.")
        return self.instruments[symbol]

    def _base_for(self, instrument: Instrument, new: NewOrder, book: OrderBook) -> int:
        """Base quantity that a market order for an amount of quote buys or sells."""
        left, qty = new.quote_qty or _ZERO, 0
        for resting in book.available(new.side, None):
            value = instrument.notional(resting.price, resting.left)
            if value >= left:
                return instrument.round_down_to_lot(
                    qty + int(left / instrument.price(resting.price) / instrument.qty(1))
                )
            left -= value
            qty += resting.left
        return instrument.round_down_to_lot(qty)

    def _check(
        self, account: str, held: Account, instrument: Instrument, new: NewOrder, qty: int, book: OrderBook
    ) -> None:
        if account == MARKET:
            return
        if qty <= 0 or qty % instrument.lot:
            raise Reject(RejectCode.LOT_SIZE, "Filter failure: LOT_SIZE")
        if qty < instrument.min_qty or (instrument.max_qty and qty > instrument.max_qty):
            raise Reject(RejectCode.QTY_RANGE, "Filter failure: LOT_SIZE")
        if new.type is OrderType.LIMIT:
            if new.price <= 0 or new.price % instrument.tick:
                raise Reject(RejectCode.TICK_SIZE, "Filter failure: PRICE_FILTER")
            last = self._states[new.symbol].last_price
            if last and not last // _BAND <= new.price <= last * _BAND:
                raise Reject(RejectCode.PRICE_BAND, "Filter failure: PERCENT_PRICE_BY_SIDE")
        reference = new.price or book.best(new.side.opposite)
        if instrument.notional(reference, qty) < instrument.min_notional and not new.reduce_only:
            raise Reject(RejectCode.MIN_NOTIONAL, "Filter failure: NOTIONAL")
        known = held.by_client_id.get(new.client_id) if new.client_id else None
        if known is not None and not held.orders[known].state.is_final:
            raise Reject(RejectCode.DUPLICATE_CLIENT_ID, "Duplicate order sent.")
        if len(held.open_orders()) >= _MAX_OPEN_ORDERS:
            raise Reject(RejectCode.MAX_ORDERS, "Too many open orders.")
        if new.reduce_only and -held.position(new.symbol).qty * int(new.side) < qty:
            raise Reject(RejectCode.REDUCE_ONLY, "ReduceOnly Order is rejected.")

    def _lock(self, held: Account, instrument: Instrument, order: OrderRecord) -> None:
        asset, amount = self._needs(held, instrument, order)
        if amount > self._balance(held, asset).free:
            raise Reject(RejectCode.INSUFFICIENT_BALANCE, "Account has insufficient balance for requested action.")
        held.free[asset] -= amount
        held.locked[asset] += amount
        order.locked = amount

    def _needs(self, held: Account, instrument: Instrument, order: OrderRecord) -> tuple[str, Decimal]:
        book = self._books[order.symbol]
        if self.spot and order.side is Side.SELL:
            return instrument.base, instrument.qty(order.qty)
        if order.type is OrderType.LIMIT:
            value = instrument.notional(order.price, order.qty)
        else:
            value, left = _ZERO, order.qty
            for resting in book.available(order.side, None):
                here = min(left, resting.left)
                value += instrument.notional(resting.price, here)
                left -= here
                if left == 0:
                    break
        if self.spot:
            return instrument.quote, value
        if order.reduce_only:
            return instrument.settle, _ZERO
        opens = Decimal(order.qty - held.closable(order)) / order.qty
        return instrument.settle, rounded(value * (opens / held.leverage[order.symbol] + instrument.taker_fee))

    def _unlock(self, order: OrderRecord) -> None:
        """Give back what an ended order still locks."""
        if order.account == MARKET or not order.locked:
            return
        instrument, held = self.instruments[order.symbol], self._accounts[order.account]
        asset = instrument.base if self.spot and order.side is Side.SELL else instrument.quote
        asset = asset if self.spot else instrument.settle
        held.locked[asset] -= order.locked
        held.free[asset] += order.locked
        order.locked = _ZERO

    def _can_fill(self, book: OrderBook, order: OrderRecord, limit: int | None) -> bool:
        """Whether an order fills at once. Reduce-only orders do not count: they may expire while others are met."""
        met = book.available(order.side, limit)
        return sum(resting.left for resting in met if not self._reduces_only(resting)) >= order.qty

    def _reduces_only(self, resting: Resting) -> bool:
        return resting.account != MARKET and self._accounts[resting.account].orders[resting.order_id].reduce_only

    def _trade(self, taker: OrderRecord, resting: Resting, book: OrderBook, now_ns: int) -> None:
        qty = min(taker.qty - taker.filled_qty, resting.left)
        price, symbol = resting.price, taker.symbol
        book.take(resting, qty)
        self._next_trade[symbol] += 1
        traded = Traded(
            symbol=symbol, trade_id=self._next_trade[symbol], price=price, qty=qty, taker_side=taker.side,
            maker_order_id=resting.order_id, taker_order_id=taker.order_id, ts_ns=now_ns,
        )  # fmt: skip
        self._history[symbol].add(traded, self._states[symbol])
        self._events.append(traded)
        taker.filled_qty += qty
        taker.filled_notional += self.instruments[symbol].notional(price, qty)
        if taker.account != MARKET:
            self._settle(taker, traded, maker=False)
        if resting.account != MARKET:
            maker = self._accounts[resting.account].orders[resting.order_id]
            maker.filled_qty += qty
            maker.filled_notional += self.instruments[symbol].notional(price, qty)
            self._settle(maker, traded, maker=True)
        self._level(symbol, resting.side, price, now_ns)
        for account in dict.fromkeys((taker.account, resting.account)):
            self._expire_reduce_only(account, symbol, now_ns)

    def _expire_reduce_only(self, account: str, symbol: str, now_ns: int) -> None:
        """End the resting orders that would now turn the position that they were to reduce."""
        if self.spot or account == MARKET:
            return
        held, book = self._accounts[account], self._books[symbol]
        for order in held.open_orders(symbol):
            too_much = order.qty - order.filled_qty > -held.position(symbol).qty * int(order.side)
            if order.reduce_only and too_much and book.remove(order.order_id) is not None:
                self._finish(order, OrderState.EXPIRED, ReportType.EXPIRED, now_ns)
                self._level(symbol, order.side, order.price, now_ns)

    def _settle(self, order: OrderRecord, traded: Traded, *, maker: bool) -> None:
        """Move what a fill moves in an account, and say so."""
        instrument, held = self.instruments[order.symbol], self._accounts[order.account]
        notional = instrument.notional(traded.price, traded.qty)
        rate = instrument.maker_fee if maker else instrument.taker_fee
        realised = _ZERO
        changed = []
        if self.spot:
            base_qty = instrument.qty(traded.qty)
            if order.side is Side.BUY:
                fee, asset = base_qty * rate, instrument.base
                paid = notional
                self._spend(held, order, instrument.quote, paid)
                held.free[instrument.base] += base_qty - fee
            else:
                fee, asset = notional * rate, instrument.quote
                self._spend(held, order, instrument.base, base_qty)
                held.free[instrument.quote] += notional - fee
            changed = [instrument.base, instrument.quote]
        else:
            fee, asset = notional * rate, instrument.settle
            held.positions[order.symbol], realised = after_fill(
                held.position(order.symbol), instrument, signed_qty=int(order.side) * traded.qty, price=traded.price
            )  # fmt: skip
            held.free[asset] += realised - fee
            released = rounded(order.locked * traded.qty / (order.qty - order.filled_qty + traded.qty))
            held.locked[asset] -= released
            held.free[asset] += released
            order.locked -= released
            changed = [asset]
        self.fees_taken[asset] += fee
        fill = FillRecord(
            trade_id=traded.trade_id, price=traded.price, qty=traded.qty, fee=fee, fee_asset=asset, maker=maker,
            ts_ns=traded.ts_ns, realised=realised,
        )  # fmt: skip
        order.fills = [*order.fills, fill]
        order.updated_ns = traded.ts_ns
        full = order.filled_qty == order.qty
        order.state = OrderState.FILLED if full else OrderState.PARTIALLY_FILLED
        if full:
            self._unlock(order)
        self._tell(order, ReportType.FILL, fill, traded.ts_ns)
        self._balance_event(order.account, changed, "ORDER", traded.ts_ns)
        if not self.spot:
            self._events.append(
                PositionChanged(
                    account=order.account, symbol=order.symbol, record=held.positions[order.symbol], ts_ns=traded.ts_ns
                )
            )

    def _spend(self, held: Account, order: OrderRecord, asset: str, amount: Decimal) -> None:
        """Pay out of what the order locked; a market order that met worse prices pays the rest out of the free part."""
        from_lock = min(amount, order.locked)
        order.locked -= from_lock
        held.locked[asset] -= from_lock
        held.free[asset] -= amount - from_lock

    def _finish(self, order: OrderRecord, state: OrderState, report: ReportType, now_ns: int) -> OrderRecord:
        order.state = state
        order.updated_ns = now_ns
        self._unlock(order)
        if order.account != MARKET:
            self._tell(order, report, None, now_ns)
            instrument = self.instruments[order.symbol]
            assets = [instrument.base, instrument.quote] if self.spot else [instrument.settle]
            self._balance_event(order.account, assets, "ORDER", now_ns)
        return order

    def _tell(self, order: OrderRecord, execution: ReportType, fill: FillRecord | None, now_ns: int) -> None:
        if order.account == MARKET:
            return
        copy = msgspec.structs.replace(order)
        self._events.append(
            OrderUpdated(account=order.account, record=copy, execution=execution, fill=fill, ts_ns=now_ns)
        )  # fmt: skip

    def _balance_event(self, account: str, assets: Sequence[str], reason: str, now_ns: int) -> None:
        if account == MARKET:
            return
        held = self._accounts[account]
        balances = {asset: self._balance(held, asset) for asset in assets}
        self._events.append(BalanceChanged(account=account, balances=balances, reason=reason, ts_ns=now_ns))

    def _balance(self, held: Account, asset: str) -> Balance:
        """What is free and what orders and positions hold back."""
        margin = sum((held.margin(s) for s in held.positions if self.instruments[s].settle == asset), _ZERO)
        return Balance(held.free[asset] - margin, held.locked[asset] + margin)

    def _level(self, symbol: str, side: Side, price: int, now_ns: int) -> None:
        # Perpetuals share one sequence of update ids: a symbol's own ids jump.
        self._ids[symbol] = self._ids[symbol] + 1 if self.spot else max(self._ids.values()) + 1
        self._events.append(
            LevelChanged(
                symbol=symbol, side=side, price=price, qty=self._books[symbol].total(side, price),
                update_id=self._ids[symbol], ts_ns=now_ns,
            )
        )  # fmt: skip

    def _quote(self, symbol: str, now_ns: int) -> None:
        """Say the best prices when they have changed."""
        book = self._books[symbol]
        bid, ask = book.best(Side.BUY), book.best(Side.SELL)
        bid_qty, ask_qty = book.total(Side.BUY, bid), book.total(Side.SELL, ask)
        touch = (bid, bid_qty, ask, ask_qty)
        if self._touched.get(symbol) == touch or not bid or not ask:
            return
        self._touched[symbol] = touch
        self._events.append(
            QuoteChanged(
                symbol=symbol, update_id=self._ids[symbol], bid=bid, bid_qty=bid_qty, ask=ask, ask_qty=ask_qty,
                ts_ns=now_ns,
            )
        )  # fmt: skip
