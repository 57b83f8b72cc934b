"""After the orders of a trade have ended: what was filled unevenly is completed, else undone. Pure: fills in, legs
out."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from fractions import Fraction

import msgspec

from oneprice.compute.books import Books
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import Side

MAX_COMPLETIONS = 3
MAX_UNWINDS = 3
_THROUGH_BPS = 100  # a hedge may pay this much through the touch: being flat is worth it


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """A leg of the trade as it was decided, and what all orders for it have filled so far (mantissas)."""

    instrument: int
    side: Side
    qty: int
    filled: int


class Hedge(msgspec.Struct, frozen=True, kw_only=True):
    """An order that evens a trade out."""

    instrument: int
    side: Side
    qty: int
    limit_price: int
    touch: int


class Step(StrEnum):
    DONE = "done"  # even, to within what the venues' minimum sizes allow
    COMPLETE = "complete"
    UNWIND = "unwind"
    GIVE_UP = "give_up"  # neither completed nor undone: a person must look


def after_orders(
    wanted: Sequence[Wanted], *, completions: int, unwinds: int, instruments: InstrumentTable, books: Books
) -> tuple[Step, list[Hedge]]:
    """What a trade needs once no order of it is open.

    The leg that filled the largest share of its quantity sets the pace. The others are completed up to that share, a
    few times; when that fails, everything filled is undone, a few times; then the kill switch is for the caller to
    throw."""
    shares = [Fraction(leg.filled, leg.qty) for leg in wanted]
    pace = max(shares)
    missing = [
        (leg.instrument, leg.side, instruments[leg.instrument].round_down_to_lot(int(pace * leg.qty) - leg.filled))
        for leg in wanted
    ]
    hedges = _orders(missing, instruments, books)
    if not hedges:
        return Step.DONE, []
    if completions < MAX_COMPLETIONS and unwinds == 0:
        return Step.COMPLETE, hedges
    filled = [(leg.instrument, leg.side.opposite, leg.filled) for leg in wanted]
    undo = _orders(filled, instruments, books)
    if not undo:
        return Step.DONE, []
    return (Step.UNWIND, undo) if unwinds < MAX_UNWINDS else (Step.GIVE_UP, [])


def _orders(amounts: Sequence[tuple[int, Side, int]], instruments: InstrumentTable, books: Books) -> list[Hedge]:
    """Marketable orders for amounts that the venues' minimum sizes let through."""
    hedges = []
    for index, side, amount in amounts:
        instrument = instruments[index]
        qty = instrument.round_down_to_lot(amount)
        touch = int(books.best_ask[index] if side is Side.BUY else books.best_bid[index])
        if qty < max(instrument.min_qty, 1) or (touch and instrument.notional(touch, qty) < instrument.min_notional):
            continue
        limit = touch + int(side) * (touch * _THROUGH_BPS // 10_000)
        limit -= limit % instrument.tick
        hedges.append(Hedge(instrument=index, side=side, qty=qty, limit_price=limit, touch=touch))
    return hedges
