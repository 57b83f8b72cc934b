"""The books of all instruments as arrays, and the compiled pass that brings them up to date from rows of the tape.

`apply_rows` is the only writer. Everything a strategy reads (best prices, validity, marks, funding) is an array over
instruments in the tape's numbering; deeper questions (walk the book, size within a price) are compiled functions that work
from Python and from compiled code alike. A book is valid from its snapshot to the next GAP row, empty and invalid after."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute import ladder as side_of_book
from oneprice.compute.inner import inner
from oneprice.compute.ladder import FAR, MARGIN, WINDOW, WORDS, next_level, set_level
from oneprice.compute.ladder import qty_at as _qty_at
from oneprice.compute.uncounted import uncounted
from oneprice.model.tape import ASK, CLEAR, LAST, Kind

_DEPTH, _QUOTE, _TRADE, _MARK, _INDEX, _FUNDING, _OPEN_INTEREST, _GAP = (
    int(kind)
    for kind in (
        Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.OPEN_INTEREST, Kind.GAP
    )
)  # fmt: skip
_clear_side = side_of_book.clear

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Books(NamedTuple):
    """State of n instruments. Prices and quantities are mantissas (0: side empty); times are int64 ns (0: never)."""

    best_bid: Ints
    best_ask: Ints
    best_bid_qty: Ints
    best_ask_qty: Ints
    valid: NDArray[np.uint8]  # has a joined book
    crossed: NDArray[np.uint8]  # best bid >= best ask after the last whole message
    book_id: Ints  # update id of the last message applied; -1 without a book
    ts_recv_ns: Ints  # of the last depth row
    ts_venue_ns: Ints
    gaps: Ints
    quote_bid: Ints  # the venue's own best-bid/ask stream
    quote_ask: Ints
    quote_bid_qty: Ints
    quote_ask_qty: Ints
    quote_id: Ints
    last_price: Ints
    last_qty: Ints
    last_side: Ints  # +1 the taker bought, -1 sold
    mark: Floats
    index_price: Floats
    funding_rate: Floats
    next_funding_ns: Ints
    open_interest: Floats
    ladder: Any  # int64[n, 2, WINDOW]
    bits: Any  # uint64[n, 2, WORDS]
    far_price: Any  # int64[n, 2, FAR]
    far_qty: Any
    far_count: Any  # int64[n, 2]
    base: Any  # int64[n, 2]
    touch: Any  # int64[n, 2]: best price by side


def make_books(count: int) -> Books:
    """Empty, invalid books for `count` instruments. Memory is touched only where levels arrive."""

    def ints() -> Ints:
        return np.zeros(count, dtype=np.int64)

    def floats() -> Floats:
        return np.zeros(count, dtype=np.float64)

    return Books(
        best_bid=ints(),
        best_ask=ints(),
        best_bid_qty=ints(),
        best_ask_qty=ints(),
        valid=np.zeros(count, dtype=np.uint8),
        crossed=np.zeros(count, dtype=np.uint8),
        book_id=np.full(count, -1, dtype=np.int64),
        ts_recv_ns=ints(),
        ts_venue_ns=ints(),
        gaps=ints(),
        quote_bid=ints(),
        quote_ask=ints(),
        quote_bid_qty=ints(),
        quote_ask_qty=ints(),
        quote_id=ints(),
        last_price=ints(),
        last_qty=ints(),
        last_side=ints(),
        mark=floats(),
        index_price=floats(),
        funding_rate=floats(),
        next_funding_ns=ints(),
        open_interest=floats(),
        ladder=np.zeros((count, 2, WINDOW), dtype=np.int64),
        bits=np.zeros((count, 2, WORDS), dtype=np.uint64),
        far_price=np.zeros((count, 2, FAR), dtype=np.int64),
        far_qty=np.zeros((count, 2, FAR), dtype=np.int64),
        far_count=np.zeros((count, 2), dtype=np.int64),
        base=np.zeros((count, 2), dtype=np.int64),
        touch=np.zeros((count, 2), dtype=np.int64),
    )


@inner
def _clear_book(books, i):
    for side in range(2):
        _clear_side(books.ladder[i, side], books.bits[i, side], books.far_count[i], books.touch[i], side)
    books.best_bid[i] = 0
    books.best_ask[i] = 0
    books.best_bid_qty[i] = 0
    books.best_ask_qty[i] = 0
    books.crossed[i] = 0


@inner
def _plain_levels(rows, k, stop, i, ladder, bits, base, touch):
    """Apply DEPTH rows of one instrument that lie in the window and do not take the best price away: nearly all of them.
    → (index of the first row that is not so, whether the message has ended before it).

    It calls nothing, and takes what a level costs to a few nanoseconds: no branch on what is a coin's toss (set or
    removed), and unsigned indices, which need no test for a place before the start.
    """
    base_bid, base_ask, best_bid, best_ask = base[0], base[1], touch[0], touch[1]
    while k < stop:
        row = rows[np.uint64(k)]
        flags, price, qty = row.flags, row.price, row.qty
        if row.kind != _DEPTH or row.instrument != i:
            return k, True
        if flags & CLEAR:
            return k, False
        if flags & ASK:
            side, slot = np.uint64(1), price - base_ask
            if price < best_ask and qty != 0 and MARGIN <= slot < WINDOW - MARGIN:
                best_ask = touch[1] = price
            is_plain = best_ask != 0 and price >= best_ask and (qty != 0 or price != best_ask)
        else:
            side, slot = np.uint64(0), price - base_bid
            if price > best_bid and best_bid != 0 and qty != 0 and MARGIN <= slot < WINDOW - MARGIN:
                best_bid = touch[0] = price
            is_plain = price <= best_bid and (qty != 0 or price != best_bid)
        if not is_plain or slot < 0 or slot >= WINDOW:
            return k, False
        at, word = np.uint64(slot), np.uint64(slot >> 6)
        mask = np.uint64(1) << (at & np.uint64(63))
        ladder[side, at] = qty
        bits[side, word] = (bits[side, word] & ~mask) | (mask if qty != 0 else np.uint64(0))
        k += 1
        if flags & LAST:
            return k, True
    return k, True


@inner
def _depth_message(books, rows, start, stop):
    """Apply the run of DEPTH rows of one instrument from `start`; → index behind the run."""
    i = rows[start].instrument
    ladder, bits = books.ladder[i], books.bits[i]
    far_price, far_qty, far_count = books.far_price[i], books.far_qty[i], books.far_count[i]
    base, touch = books.base[i], books.touch[i]
    k, has_ended = _plain_levels(rows, start, stop, i, ladder, bits, base, touch)
    while not has_ended:
        row = rows[k]
        flags, price, qty = row.flags, row.price, row.qty
        if flags & CLEAR:
            _clear_book(books, i)
            books.valid[i] = 1
            if price != 0:
                base[0] = price - WINDOW // 2
                base[1] = base[0]
        if price != 0:  # 0: an event without levels
            side = 1 if flags & ASK else 0
            set_level(
                ladder[side], bits[side], far_price[side], far_qty[side], far_count, base, touch, side, price, qty
            )  # fmt: skip
        k += 1
        if flags & LAST:
            break
        k, has_ended = _plain_levels(rows, k, stop, i, ladder, bits, base, touch)
    last = rows[k - 1]
    books.book_id[i] = last.sequence
    books.ts_recv_ns[i] = last.ts_recv_ns
    books.ts_venue_ns[i] = last.ts_venue_ns
    bid, ask = touch[0], touch[1]
    books.best_bid[i] = bid
    books.best_ask[i] = ask
    books.best_bid_qty[i] = (
        _qty_at(ladder[0], bits[0], far_price[0], far_qty[0], far_count, base, 0, bid) if bid != 0 else 0
    )
    books.best_ask_qty[i] = (
        _qty_at(ladder[1], bits[1], far_price[1], far_qty[1], far_count, base, 1, ask) if ask != 0 else 0
    )
    books.crossed[i] = 1 if bid != 0 and ask != 0 and bid >= ask else 0
    return k


@njit(cache=True)
def apply_rows(books, rows, start, stop):
    """Bring the books up to date with rows[start:stop]. Rows of an invalid book (after a GAP) wait for a CLEAR."""
    books, rows = uncounted(books), uncounted(rows)
    k = start
    while k < stop:
        row = rows[k]
        kind = row.kind
        i = row.instrument
        if kind == _DEPTH:
            if books.valid[i] == 1 or row.flags & CLEAR:
                k = _depth_message(books, rows, k, stop)
                continue
        elif kind == _QUOTE:
            if row.flags & ASK:
                books.quote_ask[i] = row.price
                books.quote_ask_qty[i] = row.qty
            else:
                books.quote_bid[i] = row.price
                books.quote_bid_qty[i] = row.qty
            books.quote_id[i] = row.sequence
        elif kind == _TRADE:
            books.last_price[i] = row.price
            books.last_qty[i] = row.qty
            books.last_side[i] = -1 if row.flags & ASK else 1
        elif kind == _GAP:
            if i >= 0:
                _clear_book(books, i)
                books.valid[i] = 0
                books.book_id[i] = -1
                books.gaps[i] += 1
        elif kind == _MARK:
            books.mark[i] = row.value
        elif kind == _INDEX:
            books.index_price[i] = row.value
        elif kind == _FUNDING:
            if not np.isnan(row.value):  # NaN and 0 stand for what the message left unchanged
                books.funding_rate[i] = row.value
            if row.sequence != 0:
                books.next_funding_ns[i] = row.sequence
        elif kind == _OPEN_INTEREST:
            books.open_interest[i] = row.value
        k += 1


@njit(cache=True)
def level_qty(books, i, side, price):
    """Quantity at a price; side 0 is bid, 1 is ask."""
    return _qty_at(
        books.ladder[i, side], books.bits[i, side], books.far_price[i, side], books.far_qty[i, side],
        books.far_count[i], books.base[i], side, price,
    )  # fmt: skip


@njit(cache=True)
def level_behind(books, i, side, price):
    """The next price behind `price` on a side (0 bid, 1 ask), or 0 at its end."""
    return next_level(
        books.bits[i, side], books.far_price[i, side], books.far_count[i], books.base[i], side, price
    )  # fmt: skip


@njit(cache=True)
def sweep(books, i, taker, qty):
    """Walk the book as a taker (+1 buys and eats asks, -1 sells and eats bids).

    → (quantity filled, Σ price × quantity in mantissas as float64, worst price touched). Less than `qty` is filled when
    the book shows less; the worst price is 0 when nothing is.
    """
    side = 1 if taker > 0 else 0
    price = books.touch[i, side]
    left = qty
    notional = 0.0
    worst = np.int64(0)
    while left > 0 and price != 0:
        here = min(left, level_qty(books, i, side, price))
        notional += np.float64(price) * np.float64(here)
        left -= here
        worst = price
        price = level_behind(books, i, side, price)
    return qty - left, notional, worst


@njit(cache=True)
def size_within(books, i, taker, limit_price):
    """Quantity that a taker could take at `limit_price` or better."""
    side = 1 if taker > 0 else 0
    price = books.touch[i, side]
    total = np.int64(0)
    while price != 0 and (price <= limit_price if taker > 0 else price >= limit_price):
        total += level_qty(books, i, side, price)
        price = level_behind(books, i, side, price)
    return total


def size_within_bps(books: Books, i: int, taker: int, bps: float) -> int:
    """Quantity that a taker could take within `bps` basis points of the best price it meets."""
    touch = int(books.best_ask[i] if taker > 0 else books.best_bid[i])
    return int(size_within(books, i, taker, round(touch * (1.0 + taker * bps / 1e4))))


def vwap_to_size(books: Books, i: int, taker: int, qty: int) -> float | None:
    """Average price (mantissa, as float) of taking `qty`; None when the book shows less."""
    filled, notional, _ = sweep(books, i, taker, qty)
    return notional / filled if filled == qty and filled > 0 else None


@njit(cache=True)
def levels(books, i, side, prices, qtys):
    """Fill the arrays with a side's levels from the touch outward (0 bid, 1 ask); → how many there are, at most their size."""
    price = books.touch[i, side]
    n = 0
    while price != 0 and n < prices.shape[0]:
        prices[n] = price
        qtys[n] = level_qty(books, i, side, price)
        n += 1
        price = level_behind(books, i, side, price)
    return n


@njit(cache=True)
def state_hash(books, i):
    """A hash of what the book means (its levels by side), however it is stored; equal to `NaiveBook.state_hash`."""
    total = np.uint64(0)
    for side in range(2):
        price = books.touch[i, side]
        while price != 0:
            mixed = np.uint64(price) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(side)
            mixed ^= np.uint64(level_qty(books, i, side, price)) * np.uint64(0xC2B2AE3D27D4EB4F)
            mixed ^= mixed >> np.uint64(29)
            total += mixed * np.uint64(0xBF58476D1CE4E5B9)
            price = level_behind(books, i, side, price)
    return total
