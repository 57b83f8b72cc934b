"""What a venue asks of every order: lot, tick, minimum and maximum size, minimum value, price band. Asked before an
order is sent, and again by the paper venue when it arrives."""

from __future__ import annotations

from decimal import Decimal

from oneprice.model.instrument import Instrument
from oneprice.model.order import Order, OrderType


def broken_rule(
    instrument: Instrument, order: Order, *, touch: int, middle: float = 0.0, band_bps: int = 0
) -> tuple[str, Decimal, Decimal] | None:
    """(rule, the order's number, the rule's number) of the first rule that an order breaks; None when it keeps all.

    `touch` is the price (mantissa) it would meet, 0 when nobody is there: a market order is valued at it, a limit order
    at its limit. `band_bps` bounds the limit's distance from `middle` (mantissa, 0: unknown); 0 is no band.
    """
    qty = instrument.qty(order.qty)
    if order.qty <= 0 or order.qty % instrument.lot != 0:
        return "lot", qty, instrument.qty(instrument.lot)
    if order.qty < instrument.min_qty:
        return "min_qty", qty, instrument.qty(instrument.min_qty)
    if instrument.max_qty != 0 and order.qty > instrument.max_qty:
        return "max_qty", qty, instrument.qty(instrument.max_qty)
    is_limit = order.type is OrderType.LIMIT
    if is_limit and (order.price <= 0 or order.price % instrument.tick != 0):
        return "tick", instrument.price(order.price), instrument.price(instrument.tick)
    if is_limit and band_bps > 0 and middle > 0.0 and abs(order.price - middle) * 10_000 > band_bps * middle:
        away_bps = Decimal(str(round(abs(order.price - middle) / middle * 1e4, 1)))
        return "price_band_bps", away_bps, Decimal(band_bps)
    value = instrument.notional(order.price if is_limit else touch, order.qty)
    # Venues let a reduce-only order of any value through, so that a small rest can always be closed.
    if value < instrument.min_notional and not order.reduce_only:
        return "min_notional", value, instrument.min_notional
    return None
