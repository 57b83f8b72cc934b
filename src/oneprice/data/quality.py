"""How good a tape is, told by the tape itself: gaps, crossed books, and whether the book agrees with the venue.

Some venues number every state of a book and publish its best bid and ask in a stream of their own under the same numbers.
Wherever a depth message ends at the id of a quote, book and quote must say the same. The quote may come first or last: the
newest of both are kept by id until the other one comes. (The newest quote *before* a depth message's last id is not
comparable: an order that sweeps several levels makes several ids and only one quote, at its end.)"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numba import njit

from oneprice.compute.books import apply_rows, make_books
from oneprice.data.clock_offset import one_way_offset_ms
from oneprice.data.session import Session, joined
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument
from oneprice.model.tape import LAST, Kind, Rows
from oneprice.venues.registry import venue

_DEPTH, _QUOTE, _TRADE, _GAP = int(Kind.DEPTH), int(Kind.QUOTE), int(Kind.TRADE), int(Kind.GAP)
_RING = 4096  # update ids kept by instrument
_SHOWN = 5
_TOP = 4  # bid, bid size, ask, ask size
# Columns of `counts`.
_ROWS, _TRADES, _MESSAGES, _CROSSED, _COMPARED, _AGREED, _COUNTS = range(7)
_BOOK, _VENUE = 0, 1  # sources of a top


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One update id at which book and quote differ."""

    update_id: int
    book: tuple[str, str, str, str]  # bid, bid size, ask, ask size
    quote: tuple[str, str, str, str]


class SymbolQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What the tape says of one instrument. `bbo_agreement`: share of comparable update ids; None: none was comparable.

    `clock_offset_ms` is local − venue, with the quickest message's one-way delay in it; None without venue times.
    `crossed` counts the messages after which the book showed bid >= ask. Times are receive times in ns, 0 without rows.
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
def _compare(i, source, update, top, ids, tops, counts, differences):
    """Keep what a source says of an update id, or compare it where the other source has said it before."""
    slot = update % _RING
    other = 1 - source
    ids[i, source, slot] = update
    tops[i, source, slot, 0], tops[i, source, slot, 1] = top[0], top[1]
    tops[i, source, slot, 2], tops[i, source, slot, 3] = top[2], top[3]
    if ids[i, other, slot] != update:
        return
    ids[i, source, slot] = -1
    ids[i, other, slot] = -1
    counts[i, _COMPARED] += 1
    same = True
    for part in range(_TOP):
        if tops[i, _BOOK, slot, part] != tops[i, _VENUE, slot, part]:
            same = False
    if same:
        counts[i, _AGREED] += 1
        return
    shown = counts[i, _COMPARED] - counts[i, _AGREED] - 1
    if shown < _SHOWN:
        differences[i, shown, 0] = update
        for part in range(_TOP):
            differences[i, shown, 1 + part] = tops[i, _BOOK, slot, part]
            differences[i, shown, 1 + _TOP + part] = tops[i, _VENUE, slot, part]


@njit(cache=True)
def _measure(books, rows, numbered, ids, tops, counts, span, differences):
    """One pass. By instrument: ids[2 sources, RING], tops[2, RING, 4], counts, span[first and last time], differences[SHOWN,
    id and both tops]; `numbered`: whether its quotes and depth share one numbering."""
    k = 0
    n = rows.shape[0]
    while k < n:
        i, kind = rows[k].instrument, rows[k].kind
        begin = k
        k += 1
        if i < 0:
            continue
        if kind == _DEPTH:
            while k < n and rows[k - 1].flags & LAST == 0 and rows[k].kind == _DEPTH and rows[k].instrument == i:
                k += 1
        elif kind == _QUOTE and rows[begin].flags & LAST == 0 and k < n and rows[k].kind == _QUOTE:
            k += 1
        counts[i, _ROWS] += k - begin
        if span[i, 0] == 0:
            span[i, 0] = rows[begin].ts_recv_ns
        span[i, 1] = rows[begin].ts_recv_ns
        if kind == _TRADE:
            counts[i, _TRADES] += 1
        elif kind == _QUOTE:
            if k - begin == 2 and numbered[i] == 1:
                bid, ask = rows[begin], rows[begin + 1]
                top = (bid.price, bid.qty, ask.price, ask.qty)
                _compare(i, _VENUE, bid.sequence, top, ids, tops, counts, differences)
        elif kind in (_DEPTH, _GAP):
            apply_rows(books, rows, begin, k)
            if kind == _DEPTH:
                counts[i, _MESSAGES] += 1
                counts[i, _CROSSED] += books.crossed[i]
                if numbered[i] == 1 and books.valid[i] == 1:
                    top = (books.best_bid[i], books.best_bid_qty[i], books.best_ask[i], books.best_ask_qty[i])
                    _compare(i, _BOOK, books.book_id[i], top, ids, tops, counts, differences)


def measure(session: Session) -> list[SymbolQuality]:
    """Every instrument of a session, in order of their keys."""
    instruments = list(session.instruments)
    count = len(instruments)
    books = make_books(count)
    # Where a book begins in the stream itself, its ids count that stream's messages and compare with nothing else.
    numbered = np.array([venue(one.venue).sequencing.joins_rest for one in instruments], dtype=np.uint8)
    ids = np.full((count, 2, _RING), -1, dtype=np.int64)
    tops = np.zeros((count, 2, _RING, _TOP), dtype=np.int64)
    counts = np.zeros((count, _COUNTS), dtype=np.int64)
    span = np.zeros((count, 2), dtype=np.int64)
    differences = np.zeros((count, _SHOWN, 1 + 2 * _TOP), dtype=np.int64)
    delays: list[list[np.ndarray]] = [[] for _ in instruments]
    held: list[Rows] = []
    for chunk in session.rows():
        rows = joined([*held, chunk])
        whole = _end_of_last_message(rows)
        held, rows = [rows[whole:]], rows[:whole]
        _measure(books, rows, numbered, ids, tops, counts, span, differences)
        _gather_times(rows, delays)
    return [
        SymbolQuality(
            instrument=instrument.key,
            rows=int(counts[i, _ROWS]),
            trades=int(counts[i, _TRADES]),
            messages=int(counts[i, _MESSAGES]),
            gaps=int(books.gaps[i]),
            crossed=int(counts[i, _CROSSED]),
            bbo_compared=int(counts[i, _COMPARED]),
            bbo_agreement=float(counts[i, _AGREED] / counts[i, _COMPARED]) if counts[i, _COMPARED] else None,
            bbo_disagreements=_disagreements(
                instrument, differences[i], int(counts[i, _COMPARED] - counts[i, _AGREED])
            ),
            clock_offset_ms=_offset_ms(delays[i]),
            first_ns=int(span[i, 0]),
            last_ns=int(span[i, 1]),
        )
        for i, instrument in enumerate(instruments)
    ]


def _end_of_last_message(rows: Rows) -> int:
    ends = np.flatnonzero(rows["flags"] & LAST)
    return int(ends[-1]) + 1 if len(ends) else 0


def _gather_times(rows: Rows, delays: Sequence[list[np.ndarray]]) -> None:
    """Note receive and venue time of every message that carries both, by instrument.

    Messages that waited for a snapshot and the snapshots themselves are late by that: they do not touch the low quantile
    that the offset is.
    """
    ends = rows[(rows["flags"] & LAST != 0) & (rows["ts_venue_ns"] > 0) & (rows["instrument"] >= 0)]
    order = np.argsort(ends["instrument"], kind="stable")
    numbers, starts = np.unique(ends["instrument"][order], return_index=True)
    times = np.stack((ends["ts_recv_ns"][order], ends["ts_venue_ns"][order]))
    for number, part in zip(numbers.tolist(), np.split(times, starts[1:], axis=1), strict=False):
        delays[number].append(part)


def _offset_ms(times: list[np.ndarray]) -> float | None:
    if not times:
        return None
    recv_ns, venue_ns = np.concatenate(times, axis=1)
    try:
        return round(one_way_offset_ms(recv_ns, venue_ns), 3)
    except InputError:
        return None


def _disagreements(instrument: Instrument, found: np.ndarray, count: int) -> tuple[Disagreement, ...]:
    return tuple(
        Disagreement(
            update_id=int(line[0]),
            book=_as_text(instrument, line[1 : 1 + _TOP]),
            quote=_as_text(instrument, line[1 + _TOP :]),
        )
        for line in found[: min(count, _SHOWN)]
    )


def _as_text(instrument: Instrument, top: np.ndarray) -> tuple[str, str, str, str]:
    bid, bid_qty, ask, ask_qty = (int(part) for part in top)
    return (
        str(instrument.price(bid)),
        str(instrument.qty(bid_qty)),
        str(instrument.price(ask)),
        str(instrument.qty(ask_qty)),
    )
