"""Fills of a run as a researcher wants them: in quote currency, with the position after each and what it realised.

Average cost: a fill that reduces a position realises its share of what the position cost, and one that turns it opens the
rest at its own price. A share is rounded to 12 decimals and what was released is taken off the cost exactly, so that the
results of fills that end flat add up to the cash that moved, to the last digit.

An inverse contract's quantity counts quote units. Its fills are shown in base units at their own price (the contracts
held, at that price, are the position), and what they realise, paid in base, is valued at that price. A fee paid in the
base coin is valued at the fill's price and counts as paid in quote: the position is the sum of the fills."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext

import msgspec

from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentTable

_WIDE = Context(prec=200, rounding=ROUND_HALF_EVEN)
_SMALLEST = Decimal("1e-12")
_ZERO = Decimal(0)


class RunFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill as the ledger has it: receive time, index into the session's instrument table, the venue's quantity."""

    ts_ns: int
    instrument: int
    is_buy: bool
    price: Decimal
    qty: Decimal
    fee: Decimal = _ZERO  # positive: paid
    fee_asset: str = ""


class FillLine(msgspec.Struct, frozen=True, kw_only=True):
    """A fill for the table. `qty` and `position` in base units, `fee` and `pnl` (net of the fee) in quote currency."""

    ts_ns: int
    instrument: int
    is_buy: bool
    price: Decimal
    qty: Decimal
    fee: Decimal
    pnl: Decimal
    position: Decimal
    is_closing: bool  # it reduced a position


class _Holding:
    """One instrument's position and its cost. `size` is in base units (inverse: quote), `cost` in quote (inverse: base)."""

    def __init__(self, instrument: Instrument) -> None:
        self._inverse = instrument.inverse
        self.size = _ZERO
        self._cost = _ZERO

    def value(self, size: Decimal, price: Decimal) -> Decimal:
        return (size / price).quantize(_SMALLEST) if self._inverse else size * price

    def take(self, signed: Decimal, price: Decimal) -> Decimal:
        """Take a fill in; → what it realised, in quote."""
        gained = _ZERO
        if self.size * signed < 0:
            held, closed = abs(self.size), min(abs(self.size), abs(signed))
            released = self._cost if closed == held else (self._cost * closed / held).quantize(_SMALLEST)
            self._cost -= released
            side = 1 if self.size > 0 else -1
            worth = self.value(closed, price)
            gained = side * (released - worth) * price if self._inverse else side * (worth - released)
            opened = abs(signed) - closed
        else:
            opened = abs(signed)
        self._cost += self.value(opened, price)
        self.size += signed
        return gained


def fill_lines(fills: Iterable[RunFill], instruments: InstrumentTable) -> Iterator[FillLine]:
    """The fills in their order. InputError for a fee in a currency that is neither base nor quote."""
    holdings = [_Holding(instrument) for instrument in instruments]
    for fill in fills:
        with localcontext(_WIDE):
            line = _line(fill, instruments[fill.instrument], holdings[fill.instrument])
        yield line


def _line(fill: RunFill, instrument: Instrument, holding: _Holding) -> FillLine:
    price = fill.price
    size = fill.qty * instrument.contract_multiplier
    signed = size if fill.is_buy else -size
    is_closing = holding.size * signed < 0
    fee = _fee_in_quote(fill, instrument, price)
    pnl = holding.take(signed, price) - fee
    qty, position = size, holding.size
    if instrument.inverse:
        qty, position = holding.value(size, price), holding.value(holding.size, price)
    return FillLine(
        ts_ns=fill.ts_ns, instrument=fill.instrument, is_buy=fill.is_buy, price=price, qty=qty, fee=fee, pnl=pnl,
        position=position, is_closing=is_closing,
    )  # fmt: skip


def _fee_in_quote(fill: RunFill, instrument: Instrument, price: Decimal) -> Decimal:
    if fill.fee == 0 or fill.fee_asset == instrument.quote:
        return fill.fee
    if fill.fee_asset == instrument.base:
        return fill.fee * price
    raise InputError(
        f"{instrument.key}: a fill paid its fee in {fill.fee_asset}; only fees in {instrument.base} or {instrument.quote} "
        "can be told in quote currency"
    )
