"""The compiled pass behind `measures.py`: one look at every message of the tape, with the book as it then was.

Some venues number every state of a book and publish its best bid and ask in a stream of their own under the same numbers.
Wherever a depth message ends at the id of a quote, book and quote must say the same. The quote may come first or last: the
newest of both are kept by id until the other one comes. (The newest quote *before* a depth message's last id is not
comparable: an order that sweeps several levels makes several ids and only one quote, at its end.)

Trade ids are kept as runs [from, to] of ids seen, in order. A venue counts its trades up, so nearly every id lengthens the
last run and nothing is searched; an id that is not above all others is looked up, and is a duplicate exactly when a run
holds it. Memory is one run for each hole in the ids.

A trade and the book that it happened on come on two streams: depth is sent every 100 ms or so, a trade at once. So a trade
that does not fit the book that stands when it arrives waits for `FITS_WITHIN_NS`: it is outside when no book of that time
fits it either. The tolerance in bps is for the other case, a trade that comes behind the book that it moved.

What is called for every message is inlined: handing books and tally over costs more than most of what is done with them
(10 against 4.5 million rows/s)."""

# mypy: allow-untyped-defs, allow-untyped-calls
from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.books import apply_rows
from oneprice.compute.inner import inner
from oneprice.compute.ladder import WINDOW, WORDS, next_down, next_up
from oneprice.compute.uncounted import uncounted
from oneprice.data.certify.measures_histogram import slot_of, slots
from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind
from oneprice.model.time import NS_PER_S

Ints = NDArray[np.int64]

_DEPTH, _QUOTE, _TRADE, _GAP, _LIQUIDATION = (
    int(kind) for kind in (Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.GAP, Kind.LIQUIDATION)
)
RING = 4096  # update ids kept by instrument
SHOWN = 5  # disagreements kept by instrument
TOP = 4  # bid, bid size, ask, ask size
BOOK, VENUE = 0, 1  # sources of a top
FITS_WITHIN_NS = NS_PER_S
WAITING = 256  # trades by instrument that wait for a book that fits; more at once are outside at once
SAMPLE_EVERY_NS = NS_PER_S  # of depth coverage: walking a whole book costs microseconds

SPREAD_BITS, SPREAD_TOP_BITS, SPREAD_UNITS = 12, 36, 1e6  # units in one bps: a tick of BTC is 0.0016 bps
REACH_BITS, REACH_TOP_BITS, REACH_UNITS = 12, 36, 1e3
LEVELS_BITS, LEVELS_TOP_BITS = 12, 18
LATENCY_BITS, LATENCY_TOP_BITS, LATENCY_UNIT_NS = 15, 40, 1_000

# Columns of `counts`.
(
    ROWS, MESSAGES, SNAPSHOTS, TRADES, QUOTES, COMPARED, AGREED, CROSSED, CROSSED_INTERVALS, LOCKED, UNJOINED, DISORDERED,
    NUMBERED_TRADES, DUPLICATES, LATE, TRADES_CHECKED, TRADES_OUTSIDE, DEPTH_SILENCE, DATA_SILENCE, CROSSED_LONGEST,
    COUNTS,
) = range(21)  # fmt: skip
# Columns of `now`, the running state.
(
    FIRST, LAST_ROW, LAST_DEPTH, LAST_DATA, SPREAD_SLOT, SPREAD_SINCE, CROSSED_RUN, CROSSED_SINCE, DEPTH_ID, DEPTH_JOINS,
    SNAPSHOT_AT, NEXT_SAMPLE, ANCHOR, IS_ANCHORED, NOW,
) = range(15)  # fmt: skip


class Tally(NamedTuple):
    """What the pass writes, by instrument (first axis)."""

    numbered: NDArray[np.uint8]  # whether quotes and depth share one numbering
    counts: Ints  # [COUNTS]
    now: Ints  # [NOW]
    ids: Ints  # [2 sources, RING] update ids
    tops: Ints  # [2 sources, RING, TOP]
    differences: Ints  # [SHOWN, id and both tops]
    spread: Ints  # histogram: ns that a spread stood
    reach: Ints  # histogram: samples of how far the shallower side reached
    levels: Ints  # histogram: samples of how many levels the shallower side had
    latency: NDArray[np.uint32]  # [2, histogram]: delay above and below the anchor
    beyond: NDArray[np.float64]  # bps by which the worst trade was outside the book when it came
    waits: Ints  # how many trades wait for a book that fits
    wait_price: Ints  # [WAITING]
    wait_sold: NDArray[np.uint8]  # [WAITING]
    wait_until: Ints  # [WAITING]
    wait_beyond: NDArray[np.float64]  # [WAITING]
    runs: Ints  # how many runs of trade ids
    run_from: Ints  # [capacity]
    run_to: Ints


def make_tally(numbered: NDArray[np.uint8], *, began_ns: int, capacity: int) -> Tally:
    """An empty tally; `began_ns`: from when silence counts. Memory is touched only where something is counted."""
    count = len(numbered)
    now = np.zeros((count, NOW), dtype=np.int64)
    now[:, [LAST_DEPTH, LAST_DATA]] = began_ns
    now[:, [SPREAD_SLOT, DEPTH_ID, SNAPSHOT_AT]] = -1

    def ints(*shape: int) -> Ints:
        return np.zeros((count, *shape), dtype=np.int64)

    return Tally(
        numbered=numbered,
        counts=ints(COUNTS),
        now=now,
        ids=np.full((count, 2, RING), -1, dtype=np.int64),
        tops=ints(2, RING, TOP),
        differences=ints(SHOWN, 1 + 2 * TOP),
        spread=ints(slots(SPREAD_BITS, SPREAD_TOP_BITS)),
        reach=ints(slots(REACH_BITS, REACH_TOP_BITS)),
        levels=ints(slots(LEVELS_BITS, LEVELS_TOP_BITS)),
        latency=np.zeros((count, 2, slots(LATENCY_BITS, LATENCY_TOP_BITS)), dtype=np.uint32),
        beyond=np.zeros(count, dtype=np.float64),
        waits=np.zeros(count, dtype=np.int64),
        wait_price=ints(WAITING),
        wait_sold=np.zeros((count, WAITING), dtype=np.uint8),
        wait_until=ints(WAITING),
        wait_beyond=np.zeros((count, WAITING), dtype=np.float64),
        runs=np.zeros(count, dtype=np.int64),
        run_from=ints(capacity),
        run_to=ints(capacity),
    )


def with_room(tally: Tally, rows: int) -> Tally:
    """The tally with room for so many new runs of trade ids."""
    used = int(tally.runs.max(initial=0))
    capacity = tally.run_from.shape[1]
    if used + rows <= capacity:
        return tally
    grown = np.zeros((2, len(tally.runs), max(2 * capacity, used + rows)), dtype=np.int64)
    grown[0, :, :used], grown[1, :, :used] = tally.run_from[:, :used], tally.run_to[:, :used]
    return tally._replace(run_from=grown[0], run_to=grown[1])


@njit(cache=True, inline="always")
def _compare(tally, i, source, update, top):
    """Keep what a source says of an update id, or compare it where the other source has said it before."""
    ids, tops, counts = tally.ids, tally.tops, tally.counts
    slot = update % RING
    other = 1 - source
    ids[i, source, slot] = update
    for part in range(TOP):
        tops[i, source, slot, part] = top[part]
    if ids[i, other, slot] != update:
        return
    ids[i, source, slot] = -1
    ids[i, other, slot] = -1
    counts[i, COMPARED] += 1
    same = True
    for part in range(TOP):
        if tops[i, BOOK, slot, part] != tops[i, VENUE, slot, part]:
            same = False
    if same:
        counts[i, AGREED] += 1
        return
    shown = counts[i, COMPARED] - counts[i, AGREED] - 1
    if shown < SHOWN:
        tally.differences[i, shown, 0] = update
        for part in range(TOP):
            tally.differences[i, shown, 1 + part] = tops[i, BOOK, slot, part]
            tally.differences[i, shown, 1 + TOP + part] = tops[i, VENUE, slot, part]


@njit(cache=True, inline="always")
def _trade_id(tally, i, trade_id):
    """Note a trade's id among those seen."""
    n = tally.runs[i]
    begins, ends = tally.run_from[i], tally.run_to[i]
    tally.counts[i, NUMBERED_TRADES] += 1
    if n > 0 and trade_id == ends[n - 1] + 1:
        ends[n - 1] = trade_id
        return
    if n == 0 or trade_id > ends[n - 1]:
        begins[n] = trade_id
        ends[n] = trade_id
        tally.runs[i] = n + 1
        return
    low, high = 0, n  # the number of runs that begin at or below the id
    while low < high:
        middle = (low + high) // 2
        if begins[middle] <= trade_id:
            low = middle + 1
        else:
            high = middle
    if low > 0 and trade_id <= ends[low - 1]:
        tally.counts[i, DUPLICATES] += 1
        return
    tally.counts[i, LATE] += 1
    if low > 0 and ends[low - 1] + 1 == trade_id:
        ends[low - 1] = trade_id
        return
    if begins[low] - 1 == trade_id:
        begins[low] = trade_id
        return
    for k in range(n, low, -1):
        begins[k] = begins[k - 1]
        ends[k] = ends[k - 1]
    begins[low] = trade_id
    ends[low] = trade_id
    tally.runs[i] = n + 1


@njit(cache=True, inline="always")
def _beyond_bps(books, i, price, is_sold):
    """How far a trade's price is on the wrong side of the book, in bps; 0 or less: it is not.

    A taker's buy meets an ask, so it cannot be cheaper than the best bid; a sale cannot be dearer than the best ask.
    """
    return (price / books.best_ask[i] - 1.0 if is_sold else 1.0 - price / books.best_bid[i]) * 1e4


@inner
def _outside(tally, i, beyond_bps):
    tally.counts[i, TRADES_OUTSIDE] += 1
    tally.beyond[i] = max(tally.beyond[i], beyond_bps)


@njit(cache=True, inline="always")
def _trade(books, tally, i, row, tolerance_bps):
    tally.counts[i, TRADES] += 1
    if row.sequence > 0:
        _trade_id(tally, i, row.sequence)
    if books.valid[i] == 0 or books.best_bid[i] == 0 or books.best_ask[i] == 0:
        return
    tally.counts[i, TRADES_CHECKED] += 1
    is_sold = row.flags & ASK != 0
    beyond = _beyond_bps(books, i, row.price, is_sold)
    if beyond <= tolerance_bps:
        return
    n = tally.waits[i]
    if n == WAITING:
        _outside(tally, i, beyond)
        return
    tally.wait_price[i, n] = row.price
    tally.wait_sold[i, n] = is_sold
    tally.wait_until[i, n] = row.ts_recv_ns + FITS_WITHIN_NS
    tally.wait_beyond[i, n] = beyond
    tally.waits[i] = n + 1


@inner
def _waiting_trades(books, tally, i, at_ns, tolerance_bps):
    """Hold the trades that wait against the book that stands now."""
    n = 0
    for k in range(tally.waits[i]):
        price, is_sold, until_ns = tally.wait_price[i, k], tally.wait_sold[i, k], tally.wait_until[i, k]
        if at_ns > until_ns:
            _outside(tally, i, tally.wait_beyond[i, k])
            continue
        if _beyond_bps(books, i, price, is_sold) <= tolerance_bps:
            continue
        tally.wait_price[i, n] = price
        tally.wait_sold[i, n] = is_sold
        tally.wait_until[i, n] = until_ns
        tally.wait_beyond[i, n] = tally.wait_beyond[i, k]
        n += 1
    tally.waits[i] = n


@njit(cache=True, inline="always")
def _spread_until(tally, i, at_ns):
    """The spread that stood until now has stood so long."""
    now = tally.now[i]
    if now[SPREAD_SLOT] >= 0:
        tally.spread[i, now[SPREAD_SLOT]] += at_ns - now[SPREAD_SINCE]


@njit(cache=True, inline="always")
def _uncrossed(tally, i, at_ns):
    """A run of crossed states, if there is one, ends here."""
    now, counts = tally.now[i], tally.counts[i]
    if now[CROSSED_RUN] > 0:
        counts[CROSSED_LONGEST] = max(counts[CROSSED_LONGEST], at_ns - now[CROSSED_SINCE])
        now[CROSSED_RUN] = 0


@inner
def _shallower_side(books, i):
    """(levels, distance from the best price to the last) of the side that has fewer, and of the one that reaches less."""
    least, nearest = np.int64(-1), np.int64(-1)
    for side in range(2):
        bits, far = books.bits[i, side], books.far_price[i, side]
        count = books.far_count[i, side]
        levels = count
        for word in range(WORDS):
            left = bits[word]
            while left != 0:
                left &= left - np.uint64(1)
                levels += 1
        slot = next_up(bits, 0) if side == 0 else next_down(bits, WINDOW - 1)
        last = books.base[i, side] + slot if slot >= 0 else books.touch[i, side]
        if count > 0:
            last = min(last, far[0]) if side == 0 else max(last, far[count - 1])
        distance = abs(books.touch[i, side] - last)
        if least < 0 or levels < least:
            least = levels
        if nearest < 0 or distance < nearest:
            nearest = distance
    return least, nearest


@njit(cache=True, inline="always")
def _book_state(books, tally, i, at_ns):
    """What the book shows after a whole message."""
    now, counts = tally.now[i], tally.counts[i]
    bid, ask = books.best_bid[i], books.best_ask[i]
    now[SPREAD_SLOT] = -1
    now[SPREAD_SINCE] = at_ns
    if bid == 0 or ask == 0:
        _uncrossed(tally, i, at_ns)
        return
    if bid > ask:
        counts[CROSSED] += 1
        now[CROSSED_RUN] += 1
        if now[CROSSED_RUN] == 1:
            now[CROSSED_SINCE] = at_ns
        elif now[CROSSED_RUN] == 2:
            counts[CROSSED_INTERVALS] += 1
        return
    _uncrossed(tally, i, at_ns)
    counts[LOCKED] += bid == ask
    middle = 0.5 * (bid + ask)
    now[SPREAD_SLOT] = slot_of(
        np.int64((ask - bid) / middle * 1e4 * SPREAD_UNITS + 0.5), SPREAD_BITS, tally.spread.shape[1]
    )
    if at_ns >= now[NEXT_SAMPLE]:
        now[NEXT_SAMPLE] = (at_ns // SAMPLE_EVERY_NS + 1) * SAMPLE_EVERY_NS
        levels, distance = _shallower_side(books, i)
        reach = np.int64(distance / middle * 1e4 * REACH_UNITS + 0.5)
        tally.levels[i, slot_of(levels, LEVELS_BITS, tally.levels.shape[1])] += 1
        tally.reach[i, slot_of(reach, REACH_BITS, tally.reach.shape[1])] += 1


@njit(cache=True, inline="always")
def _depth(books, tally, rows, begin, end, tolerance_bps):
    """A depth message: rows[begin:end]."""
    first, last = rows[begin], rows[end - 1]
    i, at_ns = first.instrument, first.ts_recv_ns
    now, counts = tally.now[i], tally.counts[i]
    counts[MESSAGES] += 1
    counts[DEPTH_SILENCE] = max(counts[DEPTH_SILENCE], at_ns - now[LAST_DEPTH])
    now[LAST_DEPTH] = at_ns
    _spread_until(tally, i, at_ns)
    if first.flags & CLEAR:
        counts[SNAPSHOTS] += 1
        now[SNAPSHOT_AT] = at_ns
        now[DEPTH_JOINS] = 1
    elif books.valid[i] == 0:
        counts[UNJOINED] += 1
        return
    else:
        # A message that overlaps its snapshot may end at the same id; after it, ids go up.
        if last.sequence < now[DEPTH_ID] or (last.sequence == now[DEPTH_ID] and now[DEPTH_JOINS] == 0):
            counts[DISORDERED] += 1
        now[DEPTH_JOINS] = 0
    now[DEPTH_ID] = last.sequence
    apply_rows(books, rows, begin, end)
    _book_state(books, tally, i, at_ns)
    if tally.waits[i] > 0 and books.best_bid[i] != 0 and books.best_ask[i] != 0:
        _waiting_trades(books, tally, i, at_ns, tolerance_bps)
    if tally.numbered[i] == 1:
        top = (books.best_bid[i], books.best_bid_qty[i], books.best_ask[i], books.best_ask_qty[i])
        _compare(tally, i, BOOK, books.book_id[i], top)


@njit(cache=True, inline="always")
def _latency(tally, row):
    """Receive − venue time of a message that was written down when it came.

    Snapshots, and what was kept until one came (it carries the snapshot's receive time), say nothing of the wire.
    """
    i = row.instrument
    now = tally.now[i]
    if row.ts_venue_ns <= 0 or row.flags & LAST == 0:
        return
    if row.kind == _DEPTH and (row.flags & SNAPSHOT or row.ts_recv_ns == now[SNAPSHOT_AT]):
        return
    delay_ns = row.ts_recv_ns - row.ts_venue_ns
    if now[IS_ANCHORED] == 0:  # the first one: its neighbours are counted to the microsecond
        now[IS_ANCHORED] = 1
        now[ANCHOR] = delay_ns
    units = (delay_ns - now[ANCHOR] + LATENCY_UNIT_NS // 2) // LATENCY_UNIT_NS
    tally.latency[i, 1 if units < 0 else 0, slot_of(abs(units), LATENCY_BITS, tally.latency.shape[2])] += 1


@njit(cache=True)
def look(books, tally, rows, tolerance_bps):
    """Count rows, which end with a whole message."""
    books, tally, rows = uncounted(books), uncounted(tally), uncounted(rows)
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
        now, counts = tally.now[i], tally.counts[i]
        at_ns = rows[begin].ts_recv_ns
        counts[ROWS] += k - begin
        if now[FIRST] == 0:
            now[FIRST] = at_ns
        now[LAST_ROW] = at_ns
        if kind <= _LIQUIDATION:  # what came on a stream
            counts[DATA_SILENCE] = max(counts[DATA_SILENCE], at_ns - now[LAST_DATA])
            now[LAST_DATA] = at_ns
        if kind == _DEPTH:
            _depth(books, tally, rows, begin, k, tolerance_bps)
        elif kind == _TRADE:
            _trade(books, tally, i, rows[begin], tolerance_bps)
        elif kind == _QUOTE:
            counts[QUOTES] += 1
            if k - begin == 2 and tally.numbered[i] == 1:
                bid, ask = rows[begin], rows[begin + 1]
                _compare(tally, i, VENUE, bid.sequence, (bid.price, bid.qty, ask.price, ask.qty))
        elif kind == _GAP:
            _spread_until(tally, i, at_ns)
            _uncrossed(tally, i, at_ns)
            now[SPREAD_SLOT] = -1
            counts[TRADES_CHECKED] -= tally.waits[i]  # no book comes that could fit them
            tally.waits[i] = 0
            apply_rows(books, rows, begin, k)
        if kind <= _LIQUIDATION:
            _latency(tally, rows[k - 1])


def ended(tally: Tally, until_ns: int) -> Tally:
    """The tally of a tape that ends here; the running one stays as it is.

    Only what the end writes is copied, a tenth of it: the rest is shared, so that looking is cheap.
    """
    closed = tally._replace(
        counts=tally.counts.copy(), now=tally.now.copy(), spread=tally.spread.copy(), waits=tally.waits.copy()
    )  # fmt: skip
    _end(closed, until_ns)
    return closed


@njit(cache=True)
def _end(tally, until_ns):
    """What stands when the tape ends has stood until then."""
    for i in range(tally.counts.shape[0]):
        now, counts = tally.now[i], tally.counts[i]
        _spread_until(tally, i, until_ns)
        _uncrossed(tally, i, until_ns)
        now[SPREAD_SLOT] = -1
        counts[TRADES_CHECKED] -= tally.waits[i]
        tally.waits[i] = 0
        counts[DEPTH_SILENCE] = max(counts[DEPTH_SILENCE], until_ns - now[LAST_DEPTH])
        counts[DATA_SILENCE] = max(counts[DATA_SILENCE], until_ns - now[LAST_DATA])
