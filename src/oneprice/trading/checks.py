"""Pre-trade checks: the only way to an order. Only `Checks.approve` makes an `Approved`, and only an `Approved` is sent."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from oneprice.compute.books import Books
from oneprice.model.errors import OnepriceError, Refused
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Order, OrderType, Side
from oneprice.model.time import NS_PER_MS
from oneprice.trading.portfolio import Portfolio

_MAKER = object()


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[limits]: what no order may exceed, whatever a strategy wants. Values in the order's quote currency."""

    max_order_notional: Decimal = Decimal(20_000)
    max_position_notional: Decimal = Decimal(50_000)  # of a derivative, by instrument
    max_orders_in_flight: int = 60
    max_price_distance_bps: Decimal = Decimal(200)  # a limit price further through the touch is a mistake
    max_book_age_ms: int = 5_000


class Approved:
    """An order that has passed every check. There is no other way to make one."""

    __slots__ = ("order",)

    def __init__(self, order: Order, maker: object) -> None:
        if maker is not _MAKER:
            raise OnepriceError("an order is approved by the checks and by nothing else")
        self.order = order


class KillSwitch:
    """Thrown once, it stays thrown: only orders that reduce a position pass."""

    def __init__(self) -> None:
        self.reason: str | None = None

    def throw(self, reason: str) -> None:
        if self.reason is None:
            self.reason = reason


class Checks:
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
    ) -> list[Approved]:
        """All orders of a trade or none: Refused names the rule and both numbers.

        `reserved` is what orders in flight may still spend, by (venue, asset).
        """
        if in_flight + len(orders) > self._limits.max_orders_in_flight:
            raise Refused(f"{in_flight} orders are in flight; the limit is {self._limits.max_orders_in_flight}")
        spending = dict(reserved)
        for order in orders:
            self._check(order, self._instruments[order.instrument], now_ns, books)
            for place, amount in spends(self._instruments[order.instrument], order).items():
                spending[place] = spending.get(place, Decimal(0)) + amount
                available = self._portfolio.available(*place)
                if spending[place] > available:
                    raise Refused(f"{place[0]}: {spending[place]} {place[1]} would be in use, {available} is available")
        return [Approved(order, _MAKER) for order in orders]

    def _check(self, order: Order, instrument: Instrument, now_ns: int, books: Books) -> None:
        limits, index = self._limits, order.instrument
        if self._kill_switch.reason is not None and not order.reduce_only:
            raise Refused(f"the kill switch is thrown: {self._kill_switch.reason}")
        if not books.valid[index]:
            raise Refused(f"{instrument.key}: its book is invalid; orders wait until it stands again")
        age_ms = (now_ns - int(books.ts_recv_ns[index])) / NS_PER_MS
        if age_ms > limits.max_book_age_ms:
            raise Refused(f"{instrument.key}: its book is {age_ms:.0f} ms old; the limit is {limits.max_book_age_ms}")
        touch = int(books.best_ask[index] if order.side is Side.BUY else books.best_bid[index])
        if touch == 0:
            raise Refused(f"{instrument.key}: nobody offers the other side")
        price = order.price if order.type is OrderType.LIMIT else touch
        through_bps = Decimal(int(order.side) * (price - touch)) / Decimal(touch) * 10_000
        if through_bps > limits.max_price_distance_bps:
            raise Refused(
                f"{instrument.key}: limit {instrument.price(price)} is {through_bps:.1f} bps through the touch "
                f"{instrument.price(touch)}; the limit is {limits.max_price_distance_bps}"
            )
        notional = instrument.notional(price, order.qty)
        if notional > limits.max_order_notional:
            raise Refused(f"{instrument.key}: order of {notional}; the limit is {limits.max_order_notional}")
        if instrument.kind is not InstrumentKind.SPOT and not order.reduce_only:
            after = abs(self._portfolio.contracts(index) + int(order.side) * order.qty)
            position = instrument.notional(price, after)
            if position > limits.max_position_notional:
                raise Refused(
                    f"{instrument.key}: position would be {position}; the limit is {limits.max_position_notional}"
                )


def spends(instrument: Instrument, order: Order) -> dict[tuple[str, str], Decimal]:
    """What an order may take out of an account at most: on spot what is sold or paid, on derivatives the whole value
    (no leverage) unless it only reduces."""
    price = order.price
    if instrument.kind is InstrumentKind.SPOT:
        if order.side is Side.SELL:
            return {(instrument.venue, instrument.base): instrument.qty(order.qty)}
        return {(instrument.venue, instrument.quote): instrument.notional(price, order.qty)}
    if order.reduce_only:
        return {}
    return {(instrument.venue, instrument.settle): instrument.notional(price, order.qty)}
