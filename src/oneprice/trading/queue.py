"""Where a resting order of ours stands in the queue at its price, and what the tape's trades do to it. Compiled.

A queue is one int64 row by order (columns below). `D` is the quantity displayed at our price when the order came, `V`
the quantity that takers of the other side have traded at our price since. A trade *through* our price fills what is
left.

mode       | filled so far                                                                  | assumes
-----------|--------------------------------------------------------------------------------|--------------------------
FULL_QUEUE | everything in V beyond D                                                       | nobody ahead ever cancels
PRO_RATA   | as above, and what vanished from the level without a trade shrinks what is     | cancellations are spread
           | ahead in proportion                                                            | evenly over the queue
THRESHOLD  | `min(size, V - threshold × D)`                                                 | the rest ahead cancels

Depth and trades travel on different streams: in PRO_RATA a quantity that the book already took off is remembered as
credit, and the trade that turns out to explain it eats the credit first, so that it is not counted twice."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numba import njit

from oneprice.compute.books import level_qty
from oneprice.compute.inner import inner
from oneprice.model.tape import ASK, Kind

_TRADE = int(Kind.TRADE)
INSTRUMENT, SIDE, PRICE, LEFT, AHEAD, DEPTH, VOLUME, TAKEN, SEEN, TRADED, CREDIT = range(11)
COLUMNS = 11


class QueueMode(IntEnum):
    FULL_QUEUE = 0
    PRO_RATA = 1
    THRESHOLD = 2


_PRO_RATA, _THRESHOLD = int(QueueMode.PRO_RATA), int(QueueMode.THRESHOLD)


@njit(cache=True)
def meet_trades(rows, start, stop, queue, count, mode, threshold_pct, fills):
    """Let the trades of rows[start:stop] reach the first `count` orders of `queue`.

    Writes (order's place, quantity, row) into `fills` and returns how many there are and the row to go on with: `stop`,
    unless `fills` is full.
    """
    found = 0
    for k in range(start, stop):
        row = rows[k]
        if row.kind != _TRADE:
            continue
        if found + count > fills.shape[0]:
            return found, k
        resting_side = 1 if row.flags & ASK else -1  # the taker sold: it met the bids
        for place in range(count):
            order = queue[place]
            if order[INSTRUMENT] != row.instrument or order[SIDE] != resting_side or order[LEFT] == 0:
                continue
            better = (order[PRICE] - row.price) * resting_side
            if better < 0:
                continue
            qty = order[LEFT] if better > 0 else _at_our_price(order, row.qty, mode, threshold_pct)
            if qty > 0:
                order[LEFT] -= qty
                order[TAKEN] += qty
                fills[found, 0] = place
                fills[found, 1] = qty
                fills[found, 2] = k
                found += 1
    return found, stop


@inner
def _at_our_price(order, traded, mode, threshold_pct):
    """Quantity that a trade of `traded` at our price fills, once the queue ahead has had its part."""
    order[VOLUME] += traded
    order[TRADED] += traded
    if mode == _THRESHOLD:
        needed = (order[DEPTH] * threshold_pct + 99) // 100
        return max(np.int64(0), min(order[LEFT], order[VOLUME] - needed - order[TAKEN]))
    explained = min(order[CREDIT], traded)
    order[CREDIT] -= explained
    traded -= explained
    reached = max(np.int64(0), traded - order[AHEAD])
    order[AHEAD] = max(np.int64(0), order[AHEAD] - traded)
    return min(order[LEFT], reached)


@njit(cache=True)
def watch_levels(books, queue, count):
    """PRO_RATA: compare the displayed quantity at each order's price with the last look, and move the queue up."""
    for place in range(count):
        order = queue[place]
        if books.valid[order[INSTRUMENT]] == 0:
            continue
        side = 0 if order[SIDE] > 0 else 1
        displayed = level_qty(books, order[INSTRUMENT], side, order[PRICE])
        if displayed == order[SEEN]:
            continue
        cancelled = order[SEEN] - displayed - order[TRADED]
        stood = order[SEEN] - order[TRADED]
        order[CREDIT] = 0
        if cancelled > 0 and stood > 0:
            # A ratio of large integers: as a float, rounded down, so that the queue never moves up too far.
            moved = min(order[AHEAD], np.int64(np.float64(order[AHEAD]) * (np.float64(cancelled) / np.float64(stood))))
            order[AHEAD] -= moved
            order[CREDIT] = moved
        order[SEEN] = displayed
        order[TRADED] = 0
