"""What the feed tests share: instruments, the plainest possible book, and a venue's stream made by its own encoder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, Kind, Rows
from oneprice.venues.base import Channel, Subscription, Venue
from oneprice.venues.binance_sbe import BINANCE_SBE
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.binance_usdm import BINANCE_USDM
from oneprice.venues.bybit import BYBIT_LINEAR, BYBIT_SPOT

VENUES = {venue.name: venue for venue in (BINANCE_SPOT, BINANCE_SBE, BINANCE_USDM, BYBIT_SPOT, BYBIT_LINEAR)}
MS = 1_000_000
Levels = dict[tuple[int, int], int]  # (0 bid or ASK, price) → size


def instrument(venue: Venue, symbol: str = "BTCUSDT", *, price: int = -2, qty: int = -8) -> Instrument:
    base = symbol.removesuffix("USDT")
    perp = venue.kind is InstrumentKind.PERP
    return Instrument(
        venue=venue.name, symbol=symbol, canonical=f"{base}/USDT" + (":USDT" if perp else ""), kind=venue.kind,
        base=base, quote="USDT", settle="USDT" if perp else "", price_exponent=price, qty_exponent=qty,
    )  # fmt: skip


def table(*instruments: Instrument) -> InstrumentTable:
    return InstrumentTable(instruments)


def all_channels(venue: Venue, symbol: str = "BTCUSDT") -> list[Subscription]:
    return [Subscription(channel=channel, symbol=symbol) for channel in (Channel.DEPTH, Channel.QUOTE, Channel.TRADE)]


class PlainBook:
    """The independent oracle: a dictionary and the words of the tape's own table."""

    def __init__(self) -> None:
        self.levels: Levels = {}
        self.valid = False
        self.book_id = -1

    def apply(self, rows: Rows, index: int = 0) -> PlainBook:
        for row in rows[rows["instrument"] == index]:
            if row["kind"] == int(Kind.GAP):
                self.levels, self.valid = {}, False
            elif row["kind"] == int(Kind.DEPTH):
                if row["flags"] & CLEAR:
                    self.levels, self.valid = {}, True
                assert self.valid, "a level came to the tape while there was no book"
                place = (int(row["flags"]) & ASK, int(row["price"]))
                if row["qty"] == 0:
                    self.levels.pop(place, None)
                else:
                    self.levels[place] = int(row["qty"])
                if row["flags"] & LAST:
                    self.book_id = int(row["sequence"])
        return self

    def top(self, side: int, count: int) -> list[tuple[int, int]]:
        levels = [(price, size) for (at, price), size in self.levels.items() if at == side]
        return sorted(levels, reverse=side == 0)[:count]


def depth_rows(levels: Sequence[tuple[int, int, int]], *, sequence: int, venue_ns: int = MS) -> Rows:
    """(side, price, size) → rows as the decoder writes them, for the encoders."""
    rows = np.zeros(len(levels), dtype=ROW)
    for row, (side, price, size) in zip(rows, levels, strict=True):
        row["kind"], row["flags"], row["price"], row["qty"] = int(Kind.DEPTH), side, price, size
        row["sequence"], row["ts_venue_ns"] = sequence, venue_ns
    return rows


def trade_frame(venue: Venue, traded: Instrument, number: int) -> bytes:
    rows = np.zeros(1, dtype=ROW)
    rows["kind"], rows["flags"], rows["price"], rows["qty"] = int(Kind.TRADE), LAST, 100_00, 1_000_000
    rows["sequence"], rows["ts_venue_ns"] = number, MS
    return venue.encode.trade(traded, rows, ts_ns=MS)


def rest_depth(book: Instrument, last_id: int, levels: Levels) -> bytes:
    """Binance's answer to a depth request."""

    def side(at: int) -> list[list[str]]:
        prices = sorted((price for (s, price) in levels if s == at), reverse=at == 0)
        return [[str(book.price(price)), str(book.qty(levels[(at, price)]))] for price in prices]

    return json.dumps({"lastUpdateId": last_id, "bids": side(0), "asks": side(ASK)}).encode()


def mantissas(book: Instrument, levels: Sequence[Sequence[str]]) -> list[tuple[int, int]]:
    return [(book.price_mantissa(Decimal(price)), book.qty_mantissa(Decimal(size))) for price, size in levels]
