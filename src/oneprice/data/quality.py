"""How good a tape is, told by the tape itself: gaps, crossed books, and whether the book agrees with the venue.

The venue publishes its best bid and ask in a stream of their own, under the same update ids as its depth. Wherever a depth
message ends at an id that a quote carries, book and quote must say the same; the quote may come first or last, so the
newest of both are kept by id until the other one comes."""

from __future__ import annotations

import msgspec
import numpy as np
from numba import njit

from oneprice.compute.books import Books, apply_rows, make_books
from oneprice.data.clock_offset import one_way_offset_ms
from oneprice.data.session import Session
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument
from oneprice.model.tape import ASK, LAST, Kind

_DEPTH, _QUOTE = int(Kind.DEPTH), int(Kind.QUOTE)
_RING = 4096  # update ids kept by instrument
_SHOWN = 5
_COUNTS = 4  # compared, agreed, crossed messages, messages


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One update id at which book and quote differ."""

    update_id: int
    book: tuple[str, str, str, str]  # bid, bid size, ask, ask size
    quote: tuple[str, str, str, str]


class SymbolQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What the tape says of one instrument. `bbo_agreement`: share of comparable update ids; None: none was comparable.

    `clock_offset_ms` is local − venue, with the quickest message's one-way delay in it; None without venue times.
    """

    instrument: str
    rows: int
    trades: int
    messages: int
    gaps: int
    crossed: int
    bbo_compared: int
    bbo_agreement: float | None
    bbo_disagreements: tuple[Disagreement, ...]
    clock_offset_ms: float | None
    first_ns: int
    last_ns: int


@njit(cache=True)
def _compare(books, rows, ids, tops, filled, counts, differing, differences):
    """One pass. ids[n, 2, RING], tops[n, 2, RING, 4]: by instrument, source (0 book, 1 quote) and id modulo the ring."""
    k = 0
    n = rows.shape[0]
    while k < n:
        row = rows[k]
        i = row.instrument
        if row.kind == _DEPTH:
            stop = k + 1
            while stop < n and rows[stop - 1].flags & LAST == 0 and rows[stop].kind == _DEPTH:
                stop += 1
            apply_rows(books, rows, k, stop)
            k = stop
            counts[i, 3] += 1
            counts[i, 2] += books.crossed[i]
            if books.valid[i] == 0:
                continue
            source = 0
            update = books.book_id[i]
            top = (books.best_bid[i], books.best_bid_qty[i], books.best_ask[i], books.best_ask_qty[i])
        elif row.kind == _QUOTE and row.flags & ASK == 0 and k + 1 < n and rows[k + 1].kind == _QUOTE:
            source = 1
            update = row.sequence
            top = (row.price, row.qty, rows[k + 1].price, rows[k + 1].qty)
            k += 2
        else:
            apply_rows(books, rows, k, k + 1)
            k += 1
            continue
        slot = update % _RING
        ids[i, source, slot] = update
        for part in range(4):
            tops[i, source, slot, part] = top[part]
        other = 1 - source
        if ids[i, other, slot] == update:
            counts[i, 0] += 1
            same = True
            for part in range(4):
                if tops[i, other, slot, part] != top[part]:
                    same = False
            if same:
                counts[i, 1] += 1
            elif filled[i] < differing.shape[1]:
                differing[i, filled[i]] = update
                for part in range(4):
                    differences[i, filled[i], 0, part] = tops[i, 0, slot, part]
                    differences[i, filled[i], 1, part] = tops[i, 1, slot, part]
                filled[i] += 1
            ids[i, 0, slot] = -1
            ids[i, 1, slot] = -1


def measure(session: Session) -> list[SymbolQuality]:
    """Every instrument of a session, in order of their keys."""
    count = len(session.instruments)
    books: Books = make_books(count)
    ids = np.full((count, 2, _RING), -1, dtype=np.int64)
    tops = np.zeros((count, 2, _RING, 4), dtype=np.int64)
    filled = np.zeros(count, dtype=np.int64)
    counts = np.zeros((count, _COUNTS), dtype=np.int64)
    differing = np.zeros((count, _SHOWN), dtype=np.int64)
    differences = np.zeros((count, _SHOWN, 2, 4), dtype=np.int64)
    rows_of, trades_of = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    first_ns, last_ns = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int64)
    times: list[list[np.ndarray]] = [[] for _ in range(count)]
    held = None
    for chunk in session.rows():
        rows = chunk if held is None else np.concatenate((held, chunk))
        whole = _end_of_last_message(rows)
        held, rows = rows[whole:], rows[:whole]
        _compare(books, rows, ids, tops, filled, counts, differing, differences)
        for i in range(count):
            mine = rows[rows["instrument"] == i]
            if not len(mine):
                continue
            rows_of[i] += len(mine)
            trades_of[i] += int((mine["kind"] == int(Kind.TRADE)).sum())
            first_ns[i] = first_ns[i] or int(mine["ts_recv_ns"][0])
            last_ns[i] = int(mine["ts_recv_ns"][-1])
            # A snapshot's venue time is that of its making, and released messages waited for it: neither is a delay.
            ends = mine[(mine["flags"] & LAST != 0) & (mine["ts_venue_ns"] > 0)]
            times[i].append(np.stack((ends["ts_recv_ns"], ends["ts_venue_ns"])))
    return [
        SymbolQuality(
            instrument=instrument.key,
            rows=int(rows_of[i]),
            trades=int(trades_of[i]),
            messages=int(counts[i, 3]),
            gaps=int(books.gaps[i]),
            crossed=int(counts[i, 2]),
            bbo_compared=int(counts[i, 0]),
            bbo_agreement=float(counts[i, 1] / counts[i, 0]) if counts[i, 0] else None,
            bbo_disagreements=tuple(
                Disagreement(
                    update_id=int(differing[i, k]),
                    book=_as_text(instrument, differences[i, k, 0]),
                    quote=_as_text(instrument, differences[i, k, 1]),
                )
                for k in range(int(filled[i]))
            ),
            clock_offset_ms=_offset_ms(times[i]),
            first_ns=int(first_ns[i]),
            last_ns=int(last_ns[i]),
        )
        for i, instrument in enumerate(session.instruments)
    ]


def _end_of_last_message(rows: np.ndarray) -> int:
    ends = np.flatnonzero(rows["flags"] & LAST)
    return int(ends[-1]) + 1 if len(ends) else 0


def _offset_ms(times: list[np.ndarray]) -> float | None:
    if not times:
        return None
    recv_ns, venue_ns = np.concatenate(times, axis=1)
    try:
        return round(one_way_offset_ms(recv_ns, venue_ns), 3)
    except InputError:
        return None


def _as_text(instrument: Instrument, top: np.ndarray) -> tuple[str, str, str, str]:
    return (
        str(instrument.price(int(top[0]))), str(instrument.qty(int(top[1]))), str(instrument.price(int(top[2]))),
        str(instrument.qty(int(top[3]))),
    )  # fmt: skip
