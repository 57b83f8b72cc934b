"""What other people do to an order when a fault says so: they are quicker with half of it, or fill it before its cancel.

Both are trades of the market, so books, prints and the other accounts see them as they see any other."""

from __future__ import annotations

import msgspec

from oneprice.emulator.events import NewOrder, OrderRecord
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.model.order import OrderType, Side, TimeInForce

_WHOLE_BOOK = 5_000  # levels


def place_half(exchange: Exchange, account: str, new: NewOrder, now_ns: int) -> OrderRecord:
    """Place an immediate order of which only half can be had: somebody else was quicker with the rest.

    An amount of quote counts as what it buys at the touch. `Reject` as from `Exchange.place`.
    """
    instrument, side = exchange.instruments[new.symbol], new.side
    view = exchange.book(new.symbol, _WHOLE_BOOK)
    levels = view.asks if side is Side.BUY else view.bids
    wanted = new.qty
    if new.quote_qty is not None and levels:
        wanted = instrument.round_down_to_lot(int(new.quote_qty / instrument.price(levels[0][0]) / instrument.qty(1)))
    shown, limit = 0, 0
    for price, qty in levels:
        if shown >= wanted or (new.price and int(side) * (price - new.price) > 0):
            break
        shown, limit = shown + qty, price
    if not limit:
        return exchange.place(account, new, now_ns)
    taken = shown - instrument.round_down_to_lot(wanted // 2)
    if taken > 0:
        rival = NewOrder(symbol=new.symbol, side=side, time_in_force=TimeInForce.IOC, qty=taken, price=limit)
        exchange.place(MARKET, rival, now_ns)
    held = msgspec.structs.replace(new, type=OrderType.LIMIT, price=limit, qty=wanted, quote_qty=None)
    order = exchange.place(account, held, now_ns)
    order.type, order.price = new.type, new.price  # the bound was ours, not the client's
    return order


def fill_first(exchange: Exchange, order: OrderRecord, now_ns: int) -> None:
    """Somebody takes an order, and all that stands before it, the moment before its cancel comes."""
    while not order.state.is_final:
        rival = NewOrder(
            symbol=order.symbol, side=order.side.opposite, time_in_force=TimeInForce.IOC,
            qty=order.qty - order.filled_qty, price=order.price,
        )  # fmt: skip
        exchange.place(MARKET, rival, now_ns)
