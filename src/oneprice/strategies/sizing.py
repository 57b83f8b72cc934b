"""How much to trade: the size that earns most when every leg walks its book, in whole lots, after fees.

Profit over size is concave (each further lot fills at a worse price), so trying a ladder of sizes up to the cap finds
the best rung; the rung is what depth, lots and the cap allow, never more than what the books show."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import msgspec

from oneprice.compute.books import Books, sweep
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Side
from oneprice.strategies.base import Leg

_RUNGS = tuple(0.7**k for k in range(14))  # of the cap, from all of it down to a hundredth


class Sized(msgspec.Struct, frozen=True):
    """Legs with whole-lot quantities, and what they would earn at the prices the books show.

    `gross_bps` and `net_bps` are of the first leg's notional; both include the walk through the books, net also costs.
    """

    legs: tuple[Leg, ...]
    gross_bps: float
    net_bps: float
    notional: float  # first leg, in its quote currency


class _Walk(msgspec.Struct, frozen=True):
    qty: int
    notional: float  # in quote units
    worst: int


def _walk(books: Books, instrument: Instrument, index: int, side: Side, qty: int) -> _Walk | None:
    """Take `qty` from the book; None when the book does not show that much."""
    filled, notional, worst = sweep(books, index, int(side), qty)
    if filled < qty or qty <= 0:
        return None
    return _Walk(qty, notional * instrument.price_scale * instrument.qty_scale, worst)


def _touch(books: Books, index: int, side: Side) -> int:
    return int(books.best_ask[index] if side is Side.BUY else books.best_bid[index])


def _leg(books: Books, index: int, side: Side, walk: _Walk, *, reduce_only: bool = False) -> Leg:
    return Leg(
        instrument=index, side=side, qty=walk.qty, limit_price=walk.worst, decision_price=_touch(books, index, side),
        reduce_only=reduce_only,
    )  # fmt: skip


def meets_rules(instrument: Instrument, walk: _Walk) -> bool:
    """Whether an order of this size keeps the venue's minimum quantity and minimum value."""
    if walk.qty < max(instrument.min_qty, 1):
        return False
    if instrument.max_qty and walk.qty > instrument.max_qty:
        return False
    return walk.notional >= float(instrument.min_notional)


def common_step(one: Instrument, other: Instrument) -> Decimal:
    """The smallest base quantity that is a whole number of lots of both: lots 0.001 and 0.00001 → 0.001."""
    exponent = min(one.qty_exponent, other.qty_exponent)
    lots = [instrument.lot * 10 ** (instrument.qty_exponent - exponent) for instrument in (one, other)]
    return Decimal(math.lcm(*lots)).scaleb(exponent)


def size_pair(
    books: Books, instruments: InstrumentTable, *, buy: int, sell: int, max_notional: float, cost_bps: float
) -> Sized | None:
    """The same base quantity bought in one instrument and sold in another, or None when no size pays or is allowed.

    `max_notional` caps the bought leg, in quote units.
    """
    buying, selling = instruments[buy], instruments[sell]
    ask = float(books.best_ask[buy]) * buying.price_scale
    if ask <= 0.0:
        return None
    step = common_step(buying, selling)
    steps = int(Decimal(max_notional / ask) / step)
    best: Sized | None = None
    best_profit = 0.0
    for rung in _RUNGS:
        base = step * int(steps * rung)
        walks = [
            _walk(books, instrument, index, side, int(base.scaleb(-instrument.qty_exponent)))
            for instrument, index, side in ((buying, buy, Side.BUY), (selling, sell, Side.SELL))
        ]
        if walks[0] is None or walks[1] is None:
            continue
        bought, sold = walks[0], walks[1]
        if not (meets_rules(buying, bought) and meets_rules(selling, sold)):
            continue
        gross_bps = (sold.notional / bought.notional - 1.0) * 1e4
        profit = (gross_bps - cost_bps) * bought.notional
        if best is None or profit > best_profit:
            best_profit = profit
            best = Sized(
                (_leg(books, buy, Side.BUY, bought), _leg(books, sell, Side.SELL, sold)),
                gross_bps,
                gross_bps - cost_bps,
                bought.notional,
            )
    return best


def size_chain(
    books: Books, instruments: InstrumentTable, *, chain: Sequence[tuple[int, Side]], max_start: float
) -> Sized | None:
    """A chain of conversions that starts and ends in the same asset, or None when no size is allowed.

    Each leg spends what the one before it brought, after its in-kind fee and rounded down to the lot; what rounding
    leaves over counts as lost. `max_start` caps the first leg's notional in the start asset.
    """
    best: Sized | None = None
    best_profit = 0.0
    for rung in _RUNGS:
        sized = _run_chain(books, instruments, chain, max_start * rung)
        if sized is None:
            continue
        profit = sized.net_bps * sized.notional
        if best is None or profit > best_profit:
            best, best_profit = sized, profit
    return best


def _run_chain(
    books: Books, instruments: InstrumentTable, chain: Sequence[tuple[int, Side]], start: float
) -> Sized | None:
    amount = start  # of the asset in hand
    spent = 0.0
    gross = 1.0
    legs: list[Leg] = []
    for index, side in chain:
        instrument = instruments[index]
        touch = _touch(books, index, side) * instrument.price_scale
        if touch <= 0.0:
            return None
        base = amount / touch if side is Side.BUY else amount
        walk = _walk(books, instrument, index, side, instrument.round_down_to_lot(int(base / instrument.qty_scale)))
        if walk is not None and side is Side.BUY and walk.notional > amount:
            # Deeper levels cost more than the touch: what the amount buys at the price of the whole walk always fits.
            base = walk.qty * instrument.qty_scale * amount / walk.notional
            walk = _walk(books, instrument, index, side, instrument.round_down_to_lot(int(base / instrument.qty_scale)))
        if walk is None or not meets_rules(instrument, walk):
            return None
        base_qty = walk.qty * instrument.qty_scale
        in_hand, got = (walk.notional, base_qty) if side is Side.BUY else (base_qty, walk.notional)
        if not legs:
            spent = in_hand
        gross *= got / in_hand
        amount = got * (1.0 - float(instrument.taker_fee))
        legs.append(_leg(books, index, side, walk))
    # Dust that rounding left in the middle of the chain is not counted as gained: net is what comes back.
    return Sized(tuple(legs), (gross - 1.0) * 1e4, (amount / spent - 1.0) * 1e4, spent)


def size_exit(
    books: Books, instruments: InstrumentTable, *, buy: int, sell: int, buy_qty: int, sell_qty: int
) -> Sized | None:
    """Leave a held pair: buy back `buy_qty` of one leg and sell `sell_qty` of the other, as much as the books show.

    Quantities are mantissas of their instruments; a leg of zero is left out (its side of the entry never filled). The
    largest rung that both books can fill is taken: leaving is not a matter of price any more.
    """
    for rung in _RUNGS:
        legs: list[Leg] = []
        notionals = {Side.BUY: 0.0, Side.SELL: 0.0}
        complete = True
        for index, side, qty in ((buy, Side.BUY, buy_qty), (sell, Side.SELL, sell_qty)):
            if qty <= 0:
                continue
            instrument = instruments[index]
            walk = _walk(books, instrument, index, side, instrument.round_down_to_lot(int(qty * rung)))
            if walk is None or walk.qty < max(instrument.min_qty, 1):
                complete = False
                break
            notionals[side] = walk.notional
            legs.append(_leg(books, index, side, walk, reduce_only=instrument.kind is InstrumentKind.PERP))
        if complete and legs:
            both = notionals[Side.BUY] > 0.0 and notionals[Side.SELL] > 0.0
            gross_bps = (notionals[Side.SELL] / notionals[Side.BUY] - 1.0) * 1e4 if both else 0.0
            return Sized(tuple(legs), gross_bps, gross_bps, max(notionals.values()))
    return None
