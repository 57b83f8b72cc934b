"""How good a tape is, told by the tape itself: gaps, crossed books, and whether the book agrees with the venue.

Some venues number every state of a book and publish its best bid and ask in a stream of their own under the same numbers.
There the newest quote within the ids of a depth message must be what the book shows after it. The quote may come first or
last: the newest quotes are kept by id, and a depth message waits until a quote behind it has come, so that none within it
is still to come. A gap or a new connection starts the comparison anew, because quotes may be missing, too."""

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
from oneprice.model.tape import ASK, LAST, SNAPSHOT, Kind, Rows
from oneprice.venues.registry import venue

_DEPTH, _QUOTE, _TRADE, _GAP = int(Kind.DEPTH), int(Kind.QUOTE), int(Kind.TRADE), int(Kind.GAP)
_RING = 1024  # newest quotes, and depth messages that wait for one, by instrument
_SHOWN = 5
_TOP = 4  # bid, bid size, ask, ask size
# Columns of `counts`.
_ROWS, _TRADES, _MESSAGES, _CROSSED, _COMPARED, _AGREED, _COUNTS = range(7)
# Columns of `state`: quotes so far, depth messages so far, those of them that have been compared, feed of the quotes.
_QUOTES, _WAITED, _DONE, _FEED, _STATE = range(5)


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One update id at which book and quote differ."""

    update_id: int
    book: tuple[str, str, str, str]  # bid, bid size, ask, ask size
    quote: tuple[str, str, str, str]


class SymbolQuality(msgspec.Struct, frozen=True, kw_only=True):
    """What the tape says of one instrument. `bbo_agreement`: share of comparable depth messages; None: none was comparable.

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
def _settle(i, state, quotes, waiting, counts, differences):
    """Compare the depth messages of instrument i whose newest quote is known by now."""
    newest = quotes[i, (state[i, _QUOTES] - 1) % _RING, 0]
    while state[i, _DONE] < state[i, _WAITED]:
        slot = state[i, _DONE] % _RING
        before, last = waiting[i, slot, 0], waiting[i, slot, 1]
        if newest < last:
            return
        state[i, _DONE] += 1
        k = state[i, _QUOTES] - 1
        oldest = max(0, state[i, _QUOTES] - _RING)
        while k >= oldest and quotes[i, k % _RING, 0] > last:
            k -= 1
        if k < oldest or quotes[i, k % _RING, 0] <= before:
            continue
        counts[i, _COMPARED] += 1
        same = True
        for part in range(_TOP):
            if waiting[i, slot, 2 + part] != quotes[i, k % _RING, 1 + part]:
                same = False
        if same:
            counts[i, _AGREED] += 1
        else:
            shown = counts[i, _COMPARED] - counts[i, _AGREED] - 1
            if shown < _SHOWN:
                differences[i, shown, 0] = last
                for part in range(_TOP):
                    differences[i, shown, 1 + part] = waiting[i, slot, 2 + part]
                    differences[i, shown, 1 + _TOP + part] = quotes[i, k % _RING, 1 + part]


@njit(cache=True)
def _measure(books, rows, numbered, state, quotes, waiting, counts, span, differences):
    """One pass. By instrument: quotes[RING, id and top], waiting[RING, id before, id and top], differences[SHOWN, id and
    both tops]; `numbered`: whether its quotes and depth share one numbering."""
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
        elif kind == _QUOTE and rows[begin].flags & ASK == 0 and k < n and rows[k].kind == _QUOTE:
            k += 1
        counts[i, _ROWS] += k - begin
        if span[i, 0] == 0:
            span[i, 0] = rows[begin].ts_recv_ns
        span[i, 1] = rows[begin].ts_recv_ns
        before = books.book_id[i]
        apply_rows(books, rows, begin, k)
        if kind == _TRADE:
            counts[i, _TRADES] += 1
        elif kind == _GAP:
            state[i, _QUOTES] = 0
            state[i, _DONE] = state[i, _WAITED]
        elif kind == _DEPTH:
            counts[i, _MESSAGES] += 1
            counts[i, _CROSSED] += books.crossed[i]
            if numbered[i] == 0 or books.valid[i] == 0:
                continue
            last = books.book_id[i]
            slot = state[i, _WAITED] % _RING
            state[i, _WAITED] += 1
            state[i, _DONE] = max(state[i, _DONE], state[i, _WAITED] - _RING)
            # Of a snapshot only the very state that it shows is known.
            waiting[i, slot, 0] = last - 1 if rows[begin].flags & SNAPSHOT else before
            waiting[i, slot, 1] = last
            waiting[i, slot, 2] = books.best_bid[i]
            waiting[i, slot, 3] = books.best_bid_qty[i]
            waiting[i, slot, 4] = books.best_ask[i]
            waiting[i, slot, 5] = books.best_ask_qty[i]
            if state[i, _QUOTES] > 0:
                _settle(i, state, quotes, waiting, counts, differences)
        elif kind == _QUOTE and k - begin == 2 and numbered[i] == 1:
            update = rows[begin].sequence
            newest = quotes[i, (state[i, _QUOTES] - 1) % _RING, 0]
            if state[i, _FEED] != rows[begin].feed or update <= newest:
                state[i, _QUOTES] = 0
                state[i, _FEED] = rows[begin].feed
            slot = state[i, _QUOTES] % _RING
            state[i, _QUOTES] += 1
            quotes[i, slot, 0] = update
            quotes[i, slot, 1] = rows[begin].price
            quotes[i, slot, 2] = rows[begin].qty
            quotes[i, slot, 3] = rows[begin + 1].price
            quotes[i, slot, 4] = rows[begin + 1].qty
            _settle(i, state, quotes, waiting, counts, differences)


def measure(session: Session) -> list[SymbolQuality]:
    """Every instrument of a session, in order of their keys."""
    instruments = list(session.instruments)
    count = len(instruments)
    books = make_books(count)
    # Where a book begins in the stream itself, its ids count that stream's messages and compare with nothing else.
    numbered = np.array([venue(one.venue).sequencing.joins_rest for one in instruments], dtype=np.uint8)
    state = np.zeros((count, _STATE), dtype=np.int64)
    quotes = np.zeros((count, _RING, 1 + _TOP), dtype=np.int64)
    waiting = np.zeros((count, _RING, 2 + _TOP), dtype=np.int64)
    counts = np.zeros((count, _COUNTS), dtype=np.int64)
    span = np.zeros((count, 2), dtype=np.int64)
    differences = np.zeros((count, _SHOWN, 1 + 2 * _TOP), dtype=np.int64)
    delays: list[list[np.ndarray]] = [[] for _ in instruments]
    held: list[Rows] = []
    for chunk in session.rows():
        rows = joined([*held, chunk])
        whole = _end_of_last_message(rows)
        held, rows = [rows[whole:]], rows[:whole]
        _measure(books, rows, numbered, state, quotes, waiting, counts, span, differences)
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
