"""The compiled pass behind `samples.py`: one walk over the tape that fills a grid of time buckets for every instrument.

What a book shows (spread, mid) is weighted by the time for which it showed it, so a busy second counts no more than a quiet
one. Quantiles come from a histogram of 32 cells an octave: they are off by at most 1.1 %, and never beyond the lowest and
the highest value seen. Weights are integers (nanoseconds, messages): where the tape is cut into chunks changes no bit."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.books import apply_rows, level_behind, level_qty
from oneprice.compute.inner import inner
from oneprice.compute.uncounted import uncounted
from oneprice.model.tape import ASK, LAST, SNAPSHOT, Kind

PER_OCTAVE = 32
_LOWEST_OCTAVE, _HIGHEST_OCTAVE = -20, 48  # 1e-6 to 2.8e14: a millionth of a bps, and more than a day in ns
CELLS = (_HIGHEST_OCTAVE - _LOWEST_OCTAVE) * PER_OCTAVE + 1  # cell 0: zero and below
DEPTH_BPS = (2.0, 5.0, 10.0)
# Columns of `messages`; trades are counted one by one, however many a message brings.
DEPTH_MESSAGES, QUOTE_MESSAGES, TRADES, OTHER_MESSAGES = range(4)
LOW, HIGH = 0, 1
BUY, SELL = 0, 1  # of the taker
_DEPTH, _QUOTE, _TRADE, _GAP, _CLOCK, _TIMER, _REPORT = (
    int(kind) for kind in (Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.GAP, Kind.CLOCK, Kind.TIMER, Kind.REPORT)
)

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


class Grid(NamedTuple):
    """n instruments × b buckets. Prices are mantissas as floats, notionals price × quantity in mantissas (the quantity alone
    for an inverse contract), spreads bps, latencies ns. NaN: nothing of the kind in that bucket."""

    frame: Ints  # [2]: start of the first bucket and width of each, ns
    until_ns: Ints  # [n]: accounted for up to here
    bucket: Ints  # [n]: the bucket that is being filled
    messages: Ints  # [n, b, 4]
    book_ns: Ints  # [n, b]: how long there was a book with two sides
    crossed_ns: Ints  # [n, b]: of it with bid > ask
    spread: Floats  # [n, b, 2]: p50, p95
    spread_range: Floats  # [n, b, 2]: lowest, highest
    mid: Floats  # [n, b]: the last
    mid_range: Floats  # [n, b, 2]
    depth: Floats  # [n, b, 2 sides, widths]: notional near the mid, at the end of the bucket
    volume: Floats  # [n, b, 2]: notional by taker's side
    trade_price: Floats  # [n, b, 2 sides, 2]: lowest, highest
    trade_ns: Ints  # [n, b, 2, 2]: and when
    latency: Floats  # [n, b, 2]: p50, p99
    latency_range: Floats  # [n, b, 2]
    mark: Floats  # [n, b]: the last
    index_price: Floats  # [n, b]
    basis: Floats  # [n, b]: mark against index in bps, the last
    basis_range: Floats  # [n, b, 2]
    funding_rate: Floats  # [n, b]: the last
    spread_cells: Ints  # [n, CELLS]: ns in the bucket that is being filled
    spread_total: Ints  # [n, CELLS]: ns in those before it
    latency_cells: Ints  # [n, CELLS]: messages
    latency_total: Ints
    basis_now: Floats  # [n]
    rate_now: Floats  # [n]
    offset_ns: Floats  # [venues]: local − venue; NaN: not known
    venue_of: Ints  # [n]
    inverse: Ints  # [n]
    clock_at: Ints  # [1]: CLOCK rows seen


def make_grid(count: int, buckets: int, *, start_ns: int, bucket_ns: int, venue_of: Ints, inverse: Ints) -> Grid:
    """An empty grid."""

    def floats(*more: int) -> Floats:
        return np.full((count, *more), np.nan)

    def ints(*more: int) -> Ints:
        return np.zeros((count, *more), dtype=np.int64)

    return Grid(
        frame=np.array([start_ns, bucket_ns], dtype=np.int64),
        until_ns=np.full(count, start_ns, dtype=np.int64),
        bucket=ints(),
        messages=ints(buckets, 4),
        book_ns=ints(buckets),
        crossed_ns=ints(buckets),
        spread=floats(buckets, 2),
        spread_range=floats(buckets, 2),
        mid=floats(buckets),
        mid_range=floats(buckets, 2),
        depth=floats(buckets, 2, len(DEPTH_BPS)),
        volume=np.zeros((count, buckets, 2)),
        trade_price=floats(buckets, 2, 2),
        trade_ns=ints(buckets, 2, 2),
        latency=floats(buckets, 2),
        latency_range=floats(buckets, 2),
        mark=floats(buckets),
        index_price=floats(buckets),
        basis=floats(buckets),
        basis_range=floats(buckets, 2),
        funding_rate=floats(buckets),
        spread_cells=ints(CELLS),
        spread_total=ints(CELLS),
        latency_cells=ints(CELLS),
        latency_total=ints(CELLS),
        basis_now=floats(),
        rate_now=floats(),
        offset_ns=np.full(int(venue_of.max(initial=0)) + 1, np.nan),
        venue_of=venue_of,
        inverse=inverse,
        clock_at=np.zeros(1, dtype=np.int64),
    )


@inner
def _cell_of(value):
    if value <= 0.0:
        return 0
    cell = 1 + math.floor((math.log2(value) - _LOWEST_OCTAVE) * PER_OCTAVE)
    return min(max(cell, 1), CELLS - 1)


def cell_floor(cell: int) -> float:
    """The smallest value of a cell (cell 0 holds what is not positive)."""
    return float(2.0 ** (_LOWEST_OCTAVE + (cell - 1) / PER_OCTAVE))


@njit(cache=True)
def quantile(cells, share, lowest, highest):
    """The smallest value that at least `share` of the weight does not exceed, to the width of a cell; NaN without weight."""
    total = cells.sum()
    if total == 0:
        return np.nan
    wanted = share * total
    below = np.int64(0)
    for cell in range(cells.shape[0]):
        below += cells[cell]
        if below > 0 and below >= wanted:
            middle = 0.0 if cell == 0 else 2.0 ** (_LOWEST_OCTAVE + (cell - 0.5) / PER_OCTAVE)
            return min(max(middle, lowest), highest)
    return highest


@inner
def _widen(span, value):
    """Let a [lowest, highest] hold the value, too; NaN stands for nothing yet."""
    if not span[LOW] <= value:
        span[LOW] = value
    if not span[HIGH] >= value:
        span[HIGH] = value


@njit(cache=True)
def _hold(grid, books, i, b, ns):
    """The book stood as it is for so long."""
    bid, ask = books.best_bid[i], books.best_ask[i]
    if books.valid[i] == 1 and bid != 0 and ask != 0:
        mid = 0.5 * (bid + ask)
        spread_bps = (ask - bid) / mid * 1e4
        grid.book_ns[i, b] += ns
        if bid > ask:
            grid.crossed_ns[i, b] += ns
        grid.spread_cells[i, _cell_of(spread_bps)] += ns
        _widen(grid.spread_range[i, b], spread_bps)
        grid.mid[i, b] = mid
        _widen(grid.mid_range[i, b], mid)
    if not math.isnan(grid.basis_now[i]):
        grid.mark[i, b], grid.index_price[i, b] = books.mark[i], books.index_price[i]
        grid.basis[i, b] = grid.basis_now[i]
        _widen(grid.basis_range[i, b], grid.basis_now[i])
    grid.funding_rate[i, b] = grid.rate_now[i]


@inner
def _depth_near(books, i, inverse, out):
    """out[side, width]: notional of a side's levels within DEPTH_BPS of the mid."""
    mid = 0.5 * (books.best_bid[i] + books.best_ask[i])
    for side in range(2):
        total = 0.0
        width = 0
        price = books.touch[i, side]
        while width < len(DEPTH_BPS):
            away_bps = (abs(price - mid) / mid * 1e4) if price != 0 else np.inf
            if away_bps > DEPTH_BPS[width]:
                out[side, width] = total
                width += 1
                continue
            qty = np.float64(level_qty(books, i, side, price))
            total += qty if inverse == 1 else qty * price
            price = level_behind(books, i, side, price)


@inner
def _finish_bucket(grid, books, i, b):
    cells = grid.spread_cells[i]
    if grid.book_ns[i, b] > 0:
        lowest, highest = grid.spread_range[i, b, LOW], grid.spread_range[i, b, HIGH]
        grid.spread[i, b, 0] = quantile(cells, 0.50, lowest, highest)
        grid.spread[i, b, 1] = quantile(cells, 0.95, lowest, highest)
        grid.spread_total[i] += cells
        cells[:] = 0
    if books.valid[i] == 1 and books.best_bid[i] != 0 and books.best_ask[i] != 0:
        _depth_near(books, i, grid.inverse[i], grid.depth[i, b])
    cells = grid.latency_cells[i]
    lowest, highest = grid.latency_range[i, b, LOW], grid.latency_range[i, b, HIGH]
    if not math.isnan(lowest):
        grid.latency[i, b, 0] = quantile(cells, 0.50, lowest, highest)
        grid.latency[i, b, 1] = quantile(cells, 0.99, lowest, highest)
        grid.latency_total[i] += cells
        cells[:] = 0


@inner
def _advance(grid, books, i, now_ns):
    """Account for the time up to now: what an instrument showed, it showed since its last message."""
    start_ns, bucket_ns = grid.frame[0], grid.frame[1]
    b, until_ns = grid.bucket[i], grid.until_ns[i]
    end_ns = start_ns + (b + 1) * bucket_ns
    while now_ns >= end_ns:
        if end_ns > until_ns:
            _hold(grid, books, i, b, end_ns - until_ns)
        _finish_bucket(grid, books, i, b)
        until_ns, end_ns, b = end_ns, end_ns + bucket_ns, b + 1
    if now_ns > until_ns:
        _hold(grid, books, i, b, now_ns - until_ns)
        until_ns = now_ns
    grid.bucket[i], grid.until_ns[i] = b, until_ns


@njit(cache=True)
def _take_trade(grid, i, b, row):
    side = SELL if row.flags & ASK else BUY
    price, qty = np.float64(row.price), np.float64(row.qty)
    grid.volume[i, b, side] += qty if grid.inverse[i] == 1 else price * qty
    seen, when = grid.trade_price[i, b, side], grid.trade_ns[i, b, side]
    if not seen[LOW] <= price:
        seen[LOW], when[LOW] = price, row.ts_recv_ns
    if not seen[HIGH] >= price:
        seen[HIGH], when[HIGH] = price, row.ts_recv_ns


@inner
def _take_latency(grid, i, b, row):
    """Receive − venue time − clock offset of a message's last row."""
    offset_ns = grid.offset_ns[grid.venue_of[i]]
    if row.ts_venue_ns > 0 and not math.isnan(offset_ns):
        latency_ns = np.float64(row.ts_recv_ns - row.ts_venue_ns) - offset_ns
        grid.latency_cells[i, _cell_of(latency_ns)] += 1
        _widen(grid.latency_range[i, b], latency_ns)


@njit(cache=True)
def fill(grid, books, rows, probed_ns):
    """Take whole messages. `probed_ns`: the offset that counts from each CLOCK row of the tape on."""
    grid, books, rows = uncounted(grid), uncounted(books), uncounted(rows)
    n = rows.shape[0]
    k = 0
    while k < n:
        begin, kind, i = k, rows[k].kind, rows[k].instrument
        k += 1
        if kind == _DEPTH:
            while k < n and rows[k - 1].flags & LAST == 0 and rows[k].kind == _DEPTH and rows[k].instrument == i:
                k += 1
        last = rows[k - 1]
        if kind == _CLOCK:
            grid.offset_ns[grid.venue_of[i]] = probed_ns[grid.clock_at[0]]
            grid.clock_at[0] += 1
        if i < 0 or kind in (_CLOCK, _TIMER, _REPORT):
            continue
        _advance(grid, books, i, last.ts_recv_ns)
        b = grid.bucket[i]
        apply_rows(books, rows, begin, k)
        if kind == _TRADE:
            grid.messages[i, b, TRADES] += 1
            _take_trade(grid, i, b, last)
        if kind == _GAP or last.flags & LAST == 0:
            continue
        if kind == _DEPTH:
            grid.messages[i, b, DEPTH_MESSAGES] += 1
            if rows[begin].flags & SNAPSHOT == 0:  # a snapshot was asked for or kept back: its way says nothing
                _take_latency(grid, i, b, last)
        elif kind == _QUOTE:
            grid.messages[i, b, QUOTE_MESSAGES] += 1
            _take_latency(grid, i, b, last)
        elif kind == _TRADE:
            _take_latency(grid, i, b, last)
        else:
            grid.messages[i, b, OTHER_MESSAGES] += 1
            if books.mark[i] != 0.0 and books.index_price[i] != 0.0:
                grid.basis_now[i] = (books.mark[i] / books.index_price[i] - 1.0) * 1e4
                if books.next_funding_ns[i] != 0:
                    grid.rate_now[i] = books.funding_rate[i]


@njit(cache=True)
def finish(grid, books, until_ns):
    """Account for the time up to the tape's end and close the last bucket of every instrument."""
    grid, books = uncounted(grid), uncounted(books)
    for i in range(grid.until_ns.shape[0]):
        _advance(grid, books, i, until_ns)
        _finish_bucket(grid, books, i, grid.bucket[i])
