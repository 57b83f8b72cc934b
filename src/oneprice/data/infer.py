"""Instruments read off the data, for recordings that carry no instrument list.

Exponents, tick and lot are the greatest common divisors of all prices and quantities seen: never finer than the data
needs, possibly coarser than the venue's own (a recording without odd prices cannot know of them) or finer (old orders of
finer rules may still rest in the book). Such an instrument says `rules_inferred`. Its currencies are told by known quote
suffixes, which is a guess where a list would be a fact."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from decimal import Decimal

import msgspec

from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.time import NS_PER_S
from oneprice.venues.base import Venue

_QUOTES = ("USDT", "USDC", "FDUSD", "TUSD", "BUSD", "USD", "EUR", "BTC", "ETH", "BNB")
_EIGHT_HOURS_NS = 8 * 3600 * NS_PER_S
_DIGITS = 8  # finest step that is looked for: 10^-8
_EXPIRY_DIGITS = 6  # BTCUSD_240927 expires; BTCUSD_PERP does not
_FEES = {
    InstrumentKind.SPOT: (Decimal("0.001"), Decimal("0.001")),
    InstrumentKind.PERP: (Decimal("0.0002"), Decimal("0.0005")),
}
_LEVEL = re.compile(rb'\["(\d+(?:\.\d+)?)","(\d+(?:\.\d+)?)"')
_PRICE = re.compile(rb'"(?:[pba]|price)":"(\d+(?:\.\d+)?)"')
_QTY = re.compile(rb'"(?:[qBAv]|size)":"(\d+(?:\.\d+)?)"')


class Steps:
    """Greatest common divisors of the prices and quantities of one symbol, in units of 10^-8."""

    def __init__(self) -> None:
        self.price = 0
        self.qty = 0

    def add(self, frame: bytes) -> None:
        """Take every price and quantity of a depth, quote or trade frame."""
        for price, qty in _LEVEL.findall(frame):
            self.price = math.gcd(self.price, _units(price))
            self.qty = math.gcd(self.qty, _units(qty))
        for price in _PRICE.findall(frame):
            self.price = math.gcd(self.price, _units(price))
        for qty in _QTY.findall(frame):
            self.qty = math.gcd(self.qty, _units(qty))

    def merge(self, other: Steps) -> None:
        """Take what another has seen of the same symbol."""
        self.price = math.gcd(self.price, other.price)
        self.qty = math.gcd(self.qty, other.qty)


def _units(text: bytes) -> int:
    whole, _, places = text.partition(b".")
    return int(whole + places[:_DIGITS].ljust(_DIGITS, b"0"))


def _split(units: int) -> tuple[int, int]:
    """A step of `units` × 10^-8 as (exponent, mantissa), the exponent as coarse as it can be, at most 0."""
    if units == 0:
        return -_DIGITS, 1
    exponent = -_DIGITS
    while units % 10 == 0 and exponent < 0:
        units //= 10
        exponent += 1
    return exponent, units


def infer_instrument(venue: Venue, symbol: str, steps: Steps) -> Instrument:
    """An instrument of a venue from its symbol and what was seen of it."""
    name, _, term = symbol.partition("_")
    is_dated = len(term) == _EXPIRY_DIGITS and term.isdigit()
    quote = next((quote for quote in _QUOTES if name.endswith(quote) and len(name) > len(quote)), None)
    if quote is None:
        raise InputError(
            f"{venue.name}: which currencies trade in '{symbol}'? Give an instruments file with --instruments"
        )
    base = name.removesuffix(quote)
    inverse = venue.kind is InstrumentKind.PERP and quote == "USD"
    price_exponent, tick = _split(steps.price)
    qty_exponent, lot = _split(steps.qty)
    settle = "" if venue.kind is InstrumentKind.SPOT else base if inverse else quote
    maker_fee, taker_fee = _FEES[venue.kind]
    return Instrument(
        venue=venue.name,
        symbol=symbol,
        canonical=f"{base}/{quote}" + (f":{settle}" if settle else "") + (f"-{term}" if is_dated else ""),
        kind=InstrumentKind.FUTURE if is_dated else venue.kind,
        base=base,
        quote=quote,
        settle=settle,
        price_exponent=price_exponent,
        qty_exponent=qty_exponent,
        tick=tick,
        lot=lot,
        min_notional=Decimal(0) if inverse else Decimal(5),
        contract_multiplier=Decimal(100 if base == "BTC" else 10) if inverse else Decimal(1),
        inverse=inverse,
        maker_fee=maker_fee,
        taker_fee=taker_fee,
        fee_in_received=venue.kind is InstrumentKind.SPOT,
        funding_interval_ns=0 if venue.kind is InstrumentKind.SPOT or is_dated else _EIGHT_HOURS_NS,
        rules_inferred=True,
    )


def symbols_of(frame: bytes) -> Iterable[str]:
    """The symbols that a frame names, whatever its venue (`s`, `symbol`, or the end of a topic)."""
    for pattern in (rb'"(?:s|symbol)":"([A-Z0-9_\-]+)"', rb'"topic":"[a-zA-Z0-9.]+\.([A-Z0-9\-]+)"'):
        for found in re.findall(pattern, frame):
            yield found.decode()


def instruments_of_frame(venue: Venue, frame: bytes) -> InstrumentTable:
    """Enough of an instrument table to read one frame: its symbols, with room for eight digits."""
    if venue.name.endswith("sbe"):
        length_at = next((k for k in range(len(frame) - 1, 7, -1) if frame[k] == len(frame) - k - 1), -1)
        symbols = {frame[length_at + 1 :].decode(errors="replace")} if length_at > 0 else set()
    else:
        symbols = set(symbols_of(frame))
    made = []
    for symbol in sorted(symbols):
        try:
            made.append(infer_instrument(venue, symbol, Steps()))
        except InputError:
            made.append(
                msgspec.structs.replace(
                    infer_instrument(venue, "BTCUSDT", Steps()), symbol=symbol, canonical=symbol, base=symbol, quote="?"
                )
            )
    return InstrumentTable(made)
