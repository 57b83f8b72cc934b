"""Pre-trade checks: the only way to an order. Only `Checks.approve` makes an `Approved`, and only that is sent.

Every rule has a name and two numbers: what the order (or the account after it) would be, and what is allowed. An order
that evens a trade out (`hedging`) is not a new risk but the end of one: the kill switch and the limits on size and
exposure let it pass; the book, the price, the venue's own rules and the balance do not."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from oneprice.compute.books import Books
from oneprice.model.errors import OnepriceError, Refused
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Order, OrderType, Side
from oneprice.model.time import NS_PER_MS
from oneprice.trading.money import divide_rounded, exact
from oneprice.trading.portfolio import Portfolio
from oneprice.trading.rules import broken_rule

_MAKER = object()


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[limits]: what no order may exceed, whatever a strategy wants. Values in the order's quote currency."""

    max_order_notional: Decimal = Decimal(20_000)
    max_position_notional: Decimal = Decimal(50_000)  # of a derivative, by instrument
    max_total_exposure: Decimal = Decimal(200_000)  # of all derivatives together, longs and shorts added
    max_orders_in_flight: int = 60
    max_price_distance_bps: Decimal = Decimal(200)  # a limit price further through the touch is a mistake
    max_book_age_ms: int = 5_000


class Refusal(Refused):
    """An order that the checks refuse: the rule, the number it would come to, the number that is allowed."""

    def __init__(self, rule: str, message: str, *, value: Decimal | int, limit: Decimal | int) -> None:
        super().__init__(message)
        self.rule, self.value, self.limit = rule, Decimal(value), Decimal(limit)


class Approved:
    """An order that has passed every check. There is no other way to make one."""

    __slots__ = ("order",)

    def __init__(self, order: Order, maker: object) -> None:
        if maker is not _MAKER:
            raise OnepriceError("an order is approved by the checks and by nothing else")
        self.order = order


class KillSwitch:
    """Thrown once, it stays thrown: only orders that reduce a position or even out a trade pass."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def throw(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason


class Checks:
    """The rules of a run, asked before every order."""

    def __init__(
        self, instruments: InstrumentTable, limits: Limits, portfolio: Portfolio, kill_switch: KillSwitch
    ) -> None:
        self._instruments = instruments
        self._limits = limits
        self._portfolio = portfolio
        self._kill_switch = kill_switch

    def approve(
        self,
        orders: list[Order],
        *,
        now_ns: int,
        books: Books,
        in_flight: int,
        reserved: dict[tuple[str, str], Decimal],
        hedging: bool = False,
    ) -> list[Approved]:
        """All orders of a trade or none: `Refusal` names the rule and both numbers.

        `reserved` is what orders in flight may still spend, by (venue, asset).
        """
        with exact():
            allowed = self._limits.max_orders_in_flight
            if in_flight + len(orders) > allowed and not hedging:
                raise Refusal(
                    "max_orders_in_flight", f"{in_flight} orders are in flight; the limit is {allowed}",
                    value=in_flight + len(orders), limit=allowed,
                )  # fmt: skip
            for order in orders:
                self._check(order, self._instruments[order.instrument], now_ns, books, hedging=hedging)
            if not hedging:
                self._check_exposure(orders, books)
            self._check_balances([_priced(order, books) for order in orders], reserved)
        return [Approved(order, _MAKER) for order in orders]

    def _check(self, order: Order, instrument: Instrument, now_ns: int, books: Books, *, hedging: bool) -> None:
        limits, index = self._limits, order.instrument
        if self._kill_switch.reason is not None and not (order.reduce_only or hedging):
            raise Refusal("kill_switch", f"the kill switch is thrown: {self._kill_switch.reason}", value=1, limit=0)
        if not books.valid[index]:
            raise Refusal(
                "valid_book", f"{instrument.key}: its book is invalid; orders wait until it stands again",
                value=0, limit=1,
            )  # fmt: skip
        age_ms = (now_ns - int(books.ts_recv_ns[index])) // NS_PER_MS
        if age_ms > limits.max_book_age_ms:
            raise Refusal(
                "max_book_age_ms", f"{instrument.key}: its book is {age_ms} ms old; the limit is "
                f"{limits.max_book_age_ms}", value=age_ms, limit=limits.max_book_age_ms,
            )  # fmt: skip
        bid, ask = int(books.best_bid[index]), int(books.best_ask[index])
        touch = ask if order.side is Side.BUY else bid
        if touch == 0:
            raise Refusal("empty_side", f"{instrument.key}: nobody offers the other side", value=0, limit=1)
        if 0 < ask <= bid:
            raise Refusal(
                "crossed_book", f"{instrument.key}: its book is crossed, bid {instrument.price(bid)} and ask "
                f"{instrument.price(ask)}", value=instrument.price(bid), limit=instrument.price(ask),
            )  # fmt: skip
        broken = broken_rule(instrument, order, touch=touch)
        if broken is not None:
            rule, value, limit = broken
            raise Refusal(rule, f"{instrument.key}: {rule} is {limit}, the order has {value}", value=value, limit=limit)
        price = order.price if order.type is OrderType.LIMIT else touch
        through_bps = divide_rounded(Decimal(int(order.side) * (price - touch) * 10_000), Decimal(touch))
        if through_bps > limits.max_price_distance_bps:
            raise Refusal(
                "max_price_distance_bps", f"{instrument.key}: limit {instrument.price(price)} is {through_bps:.1f} bps "
                f"through the touch {instrument.price(touch)}; the limit is {limits.max_price_distance_bps}",
                value=through_bps, limit=limits.max_price_distance_bps,
            )  # fmt: skip
        notional = instrument.notional(price, order.qty)
        if notional > limits.max_order_notional and not hedging:
            raise Refusal(
                "max_order_notional", f"{instrument.key}: order of {notional}; the limit is "
                f"{limits.max_order_notional}", value=notional, limit=limits.max_order_notional,
            )  # fmt: skip

    def _check_exposure(self, orders: list[Order], books: Books) -> None:
        """Positions as they would be if all of these orders filled, by instrument and together."""
        after = {index: self._portfolio.contracts(index) for index in self._portfolio.open_contracts()}
        adding: set[int] = set()
        for order in orders:
            if self._instruments[order.instrument].kind is not InstrumentKind.SPOT:
                held = after.get(order.instrument, 0)
                after[order.instrument] = held + int(order.side) * order.qty
                if not order.reduce_only:
                    adding.add(order.instrument)
        if not adding:
            return
        total = Decimal(0)
        for index, qty in sorted(after.items()):
            instrument = self._instruments[index]
            price = max(int(books.best_ask[index]), int(books.best_bid[index]), int(books.last_price[index]))
            notional = instrument.notional(price, abs(qty))
            total += notional
            if index in adding and notional > self._limits.max_position_notional:
                raise Refusal(
                    "max_position_notional", f"{instrument.key}: position would be {notional}; the limit is "
                    f"{self._limits.max_position_notional}", value=notional, limit=self._limits.max_position_notional,
                )  # fmt: skip
        if total > self._limits.max_total_exposure:
            raise Refusal(
                "max_total_exposure", f"all positions together would be {total}; the limit is "
                f"{self._limits.max_total_exposure}", value=total, limit=self._limits.max_total_exposure,
            )  # fmt: skip

    def _check_balances(self, orders: list[Order], reserved: dict[tuple[str, str], Decimal]) -> None:
        spending = dict(reserved)
        for order in orders:
            for place, amount in spends(self._instruments[order.instrument], order).items():
                spending[place] = spending.get(place, Decimal(0)) + amount
                available = self._portfolio.available(*place)
                if spending[place] > available:
                    raise Refusal(
                        "balance", f"{place[0]}: {spending[place]} {place[1]} would be in use, {available} is "
                        "available", value=spending[place], limit=available,
                    )  # fmt: skip


def _priced(order: Order, books: Books) -> Order:
    """A market order as the limit order at the touch that it will at least cost."""
    if order.type is OrderType.LIMIT:
        return order
    touch = books.best_ask[order.instrument] if order.side is Side.BUY else books.best_bid[order.instrument]
    return msgspec.structs.replace(order, price=int(touch))


def spends(instrument: Instrument, order: Order) -> dict[tuple[str, str], Decimal]:
    """What an order may take out of an account at most, fee included where it is not taken from what is received: on
    spot what is sold or paid, on derivatives the whole value (no leverage) unless it only reduces."""
    with exact():
        notional = instrument.notional(order.price, order.qty)
        if instrument.kind is InstrumentKind.SPOT:
            if order.side is Side.SELL:
                return {(instrument.venue, instrument.base): instrument.qty(order.qty)}
            fee = Decimal(0) if instrument.fee_in_received else notional * max(instrument.taker_fee, Decimal(0))
            return {(instrument.venue, instrument.quote): notional + fee}
        if order.reduce_only:
            return {}
        fee = notional * max(instrument.taker_fee, Decimal(0))
        if instrument.inverse:
            price = instrument.price(order.price)
            return {(instrument.venue, instrument.settle): divide_rounded(notional + fee, price)}
        return {(instrument.venue, instrument.settle): notional + fee}
