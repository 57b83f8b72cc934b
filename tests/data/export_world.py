"""Tapes for the tests of exports: every kind of row, with what goes wrong on a wire, and a book written plainly."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

import numpy as np
from session_world import T0_NS, spot

from oneprice.compute.naive_book import NaiveBook
from oneprice.model.instrument import InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind, Rows, TapeWriter
from oneprice.model.time import NS_PER_MS

LINEAR = spot(
    "BTCUSDT", "binance_usdm", canonical="BTC/USDT:USDT", kind=InstrumentKind.PERP, contract_multiplier=Decimal("0.01")
)
INVERSE = spot(
    "BTCUSD_PERP", "binance_coinm", canonical="BTC/USD:BTC", kind=InstrumentKind.PERP, base="BTC", quote="USD", settle="BTC",
    price_exponent=-1, qty_exponent=0, contract_multiplier=Decimal(100), inverse=True,
)  # fmt: skip
WORLD = InstrumentTable([spot(), LINEAR, INVERSE])


def random_tape(seed: int, messages: int = 400) -> Rows:
    """Snapshots, updates, gaps, quotes, trades, marks and funding of all instruments. Venue times lag by changing amounts
    (so trades come late), and some messages have none."""
    rng = np.random.default_rng(seed)
    tape = TapeWriter()
    recv_ns = T0_NS
    has_venue_time = rng.random(len(WORLD)) < 0.8
    for number in range(1, messages + 1):
        recv_ns += int(rng.integers(0, 200)) * NS_PER_MS
        i = int(rng.integers(len(WORLD)))
        venue_ns = recv_ns - int(rng.integers(0, 1500)) * NS_PER_MS if rng.random() < 0.9 and has_venue_time[i] else 0
        where = {"recv_ns": recv_ns, "venue_ns": venue_ns, "instrument": i, "feed": 0, "sequence": number}
        draw = rng.random()
        if draw < 0.04:
            tape.append(Kind.GAP, **{**where, "venue_ns": 0}, price=number, qty=number + 2, value=1.0)
        elif draw < 0.15:
            _depth(tape, rng, where, SNAPSHOT)
        elif draw < 0.55:
            _depth(tape, rng, where, 0)
        elif draw < 0.65:
            for flags in (0, ASK | LAST) if rng.random() < 0.7 else (ASK | LAST,):
                tape.append(Kind.QUOTE, **where, price=int(rng.integers(990, 1010)), qty=3, flags=flags)
        elif draw < 0.7:
            tape.append(Kind.MARK, **{**where, "sequence": 0}, value=1000.5)
            tape.append(Kind.FUNDING, **{**where, "sequence": recv_ns}, value=1e-4)
        else:
            side = ASK if rng.random() < 0.5 else 0
            tape.append(
                Kind.TRADE, **where, price=int(rng.integers(900, 1100)), qty=int(rng.integers(1, 999)), flags=LAST | side
            )  # fmt: skip
    return tape.take()


def _depth(tape: TapeWriter, rng: np.random.Generator, where: dict[str, int], kind: int) -> None:
    levels = int(rng.integers(1, 5))
    for k in range(levels):
        side = int(rng.integers(2))
        price = 1000 + (1 if side else -1) * int(rng.integers(1, 12))
        flags = (ASK if side else 0) | kind | (CLEAR if kind and k == 0 else 0) | (LAST if k == levels - 1 else 0)
        tape.append(Kind.DEPTH, **where, price=price, qty=int(rng.integers(0 if not kind else 1, 50)), flags=flags)


class PlainBook:
    """One instrument's book of a tape: two dictionaries, empty from a gap to the next row that clears it."""

    def __init__(self) -> None:
        self.naive = NaiveBook()
        self._is_valid = False

    def take(self, kind: int, flags: int, price: int, qty: int) -> None:
        if kind == Kind.GAP:
            self.naive.clear()
            self._is_valid = False
        elif kind == Kind.DEPTH:
            if flags & CLEAR:
                self.naive.clear()
                self._is_valid = True
            if self._is_valid and price:
                self.naive.set_level(1 if flags & ASK else 0, price, qty)


FIELDS = ("kind", "flags", "price", "qty", "ts_recv_ns", "ts_venue_ns", "sequence")


def rows_of(tape: Rows, instrument: int) -> Iterator[tuple[int, ...]]:
    """One instrument's rows as plain integers: `FIELDS`."""
    return zip(*(tape[tape["instrument"] == instrument][name].tolist() for name in FIELDS), strict=True)


def cut_up(tape: Rows, places: list[int]) -> list[Rows]:
    """The tape in chunks that end at these places (modulo its length)."""
    edges = sorted({0, len(tape), *(place % (len(tape) + 1) for place in places)})
    return [tape[start:stop].copy() for start, stop in pairwise(edges)]
