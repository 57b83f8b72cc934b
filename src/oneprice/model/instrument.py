"""Instruments: what can be traded where, under which rules, and the table that numbers them.

Prices and quantities are integer mantissas: `price = mantissa * 10**price_exponent`. The exponents come from the tick
and the lot, so that a mantissa holds every price and quantity that the venue accepts, exactly."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import ROUND_FLOOR, Decimal
from enum import StrEnum

import msgspec
import numpy as np

from oneprice.model.errors import InputError, unknown_name


class InstrumentKind(StrEnum):
    SPOT = "spot"
    PERP = "perp"
    FUTURE = "future"
    OPTION = "option"
    BINARY = "binary"


class Instrument(msgspec.Struct, frozen=True, kw_only=True):
    """One market of one venue, with the rules an order there must keep.

    `venue` is the product that has its own wire (`binance_usdm`), `symbol` the venue's own name (`BTCUSDT`), `canonical`
    the same everywhere (`BTC/USDT` for spot, `BTC/USDT:USDT` for a perpetual margined in USDT). `tick` and `lot` are
    mantissas. Fees are fractions of the notional (0.001 is 10 bps); a negative one is a rebate.
    """

    venue: str
    symbol: str
    canonical: str
    kind: InstrumentKind
    base: str
    quote: str
    settle: str = ""
    price_exponent: int
    qty_exponent: int
    tick: int = 1
    lot: int = 1
    min_qty: int = 0
    max_qty: int = 0  # 0: no limit stated
    min_notional: Decimal = Decimal(0)
    contract_multiplier: Decimal = Decimal(1)  # base units (or, inverse, quote units) in one unit of quantity
    inverse: bool = False
    maker_fee: Decimal = Decimal(0)
    taker_fee: Decimal = Decimal(0)
    fee_in_received: bool = False  # spot: a buy pays its fee in base, a sell in quote
    funding_interval_ns: int = 0  # 0: no funding
    rules_inferred: bool = False  # True when no instrument list was there and tick and lot were read off the data

    @property
    def key(self) -> str:
        return f"{self.venue}:{self.symbol}"

    @property
    def price_scale(self) -> float:
        return float(10.0**self.price_exponent)

    @property
    def qty_scale(self) -> float:
        return float(10.0**self.qty_exponent)

    def price(self, mantissa: int) -> Decimal:
        return Decimal(mantissa).scaleb(self.price_exponent)

    def qty(self, mantissa: int) -> Decimal:
        return Decimal(mantissa).scaleb(self.qty_exponent)

    def price_mantissa(self, price: Decimal) -> int:
        return exact_mantissa(price, self.price_exponent, what=f"{self.key}: price")

    def qty_mantissa(self, qty: Decimal) -> int:
        return exact_mantissa(qty, self.qty_exponent, what=f"{self.key}: quantity")

    def round_down_to_lot(self, qty_mantissa: int) -> int:
        return qty_mantissa // self.lot * self.lot

    def notional(self, price_mantissa: int, qty_mantissa: int) -> Decimal:
        """Value in quote currency; for an inverse contract, whose quantity counts quote units, the quantity's value."""
        if self.inverse:
            return self.qty(qty_mantissa) * self.contract_multiplier
        return self.price(price_mantissa) * self.qty(qty_mantissa) * self.contract_multiplier


def exact_mantissa(value: Decimal, exponent: int, *, what: str = "value") -> int:
    """`value / 10**exponent` as an integer; an error where that would lose a digit.

    >>> exact_mantissa(Decimal("61837.63000000"), -2)
    6183763
    """
    scaled = value.scaleb(-exponent)
    whole = scaled.to_integral_value(rounding=ROUND_FLOOR)
    if scaled != whole:
        raise InputError(f"{what} {value} has more digits than 10^{exponent} can hold")
    return int(whole)


def exponent_of(step: Decimal) -> int:
    """The exponent that holds every multiple of `step` exactly: `0.01000000` → -2, `0.5` → -1, `10` → 0."""
    return min(0, int(step.normalize().as_tuple().exponent))


class InstrumentTable:
    """Instruments numbered 0…n-1 in the order of their keys, so that the order of registration changes nothing."""

    def __init__(self, instruments: Iterable[Instrument]) -> None:
        by_key: dict[str, Instrument] = {}
        for instrument in instruments:
            if by_key.setdefault(instrument.key, instrument) != instrument:
                raise InputError(f"{instrument.key} is listed twice with different rules")
        self._all: tuple[Instrument, ...] = tuple(by_key[key] for key in sorted(by_key))
        self._index: dict[str, int] = {instrument.key: i for i, instrument in enumerate(self._all)}

    def __len__(self) -> int:
        return len(self._all)

    def __iter__(self) -> Iterator[Instrument]:
        return iter(self._all)

    def __getitem__(self, index: int) -> Instrument:
        return self._all[index]

    def find(self, venue: str, symbol: str) -> int | None:
        return self._index.get(f"{venue}:{symbol}")

    def index(self, venue: str, symbol: str) -> int:
        found = self.find(venue, symbol)
        if found is None:
            raise InputError(unknown_name("instrument", f"{venue}:{symbol}", self._index))
        return found

    def of_venue(self, venue: str) -> list[tuple[int, Instrument]]:
        return [(i, instrument) for i, instrument in enumerate(self._all) if instrument.venue == venue]

    def column(self, name: str, dtype: str = "i8") -> np.ndarray:
        """One attribute of all instruments as an array, for compiled code."""
        return np.array([getattr(instrument, name) for instrument in self._all], dtype=dtype)

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self._all), indent=1)

    @classmethod
    def from_json(cls, text: bytes) -> InstrumentTable:
        return cls(msgspec.json.decode(text, type=tuple[Instrument, ...]))
