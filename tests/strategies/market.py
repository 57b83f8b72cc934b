"""A small market for strategy tests: instruments, books set by hand, holdings that say what they are told."""

from __future__ import annotations

from decimal import Decimal

import numpy as np

from oneprice.compute.books import Books, apply_rows, make_books
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, Kind
from oneprice.strategies.base import Market

MS = 1_000_000


def spot(venue: str, base: str, quote: str, *, fee: str = "0.001", lot: int = 1) -> Instrument:
    return Instrument(
        venue=venue, symbol=f"{base}{quote}", canonical=f"{base}/{quote}", kind=InstrumentKind.SPOT, base=base,
        quote=quote, price_exponent=-2 if quote == "USDT" else -6, qty_exponent=-5, lot=lot,
        min_notional=Decimal(5) if quote == "USDT" else Decimal("0.0001"), maker_fee=Decimal(fee),
        taker_fee=Decimal(fee), fee_in_received=True,
    )  # fmt: skip


def perp(venue: str, base: str, *, fee: str = "0.0005") -> Instrument:
    return Instrument(
        venue=venue, symbol=f"{base}USDT", canonical=f"{base}/USDT:USDT", kind=InstrumentKind.PERP, base=base,
        quote="USDT", settle="USDT", price_exponent=-1, qty_exponent=-3, min_notional=Decimal(5),
        maker_fee=Decimal("0.0002"), taker_fee=Decimal(fee), funding_interval_ns=8 * 3600 * 10**9,
    )  # fmt: skip


class Holdings:
    def __init__(self) -> None:
        self.positions: dict[tuple[str, str, int], int] = {}
        self.busy: set[str] = set()

    def position(self, strategy: str, key: str, instrument: int) -> int:
        return self.positions.get((strategy, key, instrument), 0)

    def is_busy(self, strategy: str, key: str) -> bool:
        return key in self.busy


class Bench:
    """Instruments with books that tests set by the touch; three levels of the same size a side."""

    def __init__(self, *instruments: Instrument) -> None:
        self.table = InstrumentTable(instruments)
        self.books: Books = make_books(len(self.table))
        self.holdings = Holdings()
        self.market = Market(instruments=self.table, books=self.books, holdings=self.holdings)

    def set(self, key: str, bid: str, ask: str, *, qty: str = "1", ts_ns: int = MS) -> None:
        venue, symbol = key.split(":")
        index = self.table.index(venue, symbol)
        instrument = self.table[index]
        rows = np.zeros(6, dtype=ROW)
        rows["kind"], rows["instrument"], rows["ts_recv_ns"], rows["flags"] = Kind.DEPTH, index, ts_ns, SNAPSHOT
        rows["qty"] = instrument.qty_mantissa(Decimal(qty))
        for k in range(3):
            rows["price"][k] = instrument.price_mantissa(Decimal(bid)) - k
            rows["price"][3 + k] = instrument.price_mantissa(Decimal(ask)) + k
        rows["flags"][3:] |= ASK
        rows["flags"][0] |= CLEAR
        rows["flags"][-1] |= LAST
        apply_rows(self.books, rows, 0, 6)
