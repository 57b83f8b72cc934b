"""What things are worth in USDT, from the books as they stand: mids for instruments, and for assets the mid of a spot market
against USDT (the venue's own first). Dollars without such a market count as USDT, and the summary says so."""

from __future__ import annotations

from decimal import Decimal

from oneprice.compute.books import Books
from oneprice.model.instrument import InstrumentKind, InstrumentTable

CURRENCY = "USDT"
_DOLLARS = frozenset({"USD", "USDC", "USDT", "FDUSD", "TUSD", "BUSD"})


class Valuation:
    """Mids and asset values; of a book that is gone, the last ones seen."""

    def __init__(self, instruments: InstrumentTable, books: Books) -> None:
        self._instruments = instruments
        self._books = books
        self._last: dict[int, Decimal] = {}
        self._markets: dict[tuple[str, str], list[int]] = {}  # (asset, venue) → spot markets that price it
        for index, instrument in enumerate(instruments):
            if instrument.kind is InstrumentKind.SPOT and instrument.quote == CURRENCY:
                self._markets.setdefault((instrument.base, instrument.venue), []).append(index)
                self._markets.setdefault((instrument.base, ""), []).append(index)

    def mid(self, index: int) -> Decimal | None:
        bid, ask = int(self._books.best_bid[index]), int(self._books.best_ask[index])
        if bid and ask:
            self._last[index] = self._instruments[index].price(bid + ask) / 2
        return self._last.get(index)

    def value(self, asset: str, venue: str) -> Decimal | None:
        """USDT for one unit of an asset; None when nothing prices it."""
        if asset == CURRENCY:
            return Decimal(1)
        for place in ((asset, venue), (asset, "")):
            for index in self._markets.get(place, ()):
                mid = self.mid(index)
                if mid is not None:
                    return mid
        return Decimal(1) if asset in _DOLLARS else None
