"""Binance's JSON frames to tape rows, compiled: spot, USD-M and COIN-M, raw or in the combined wrapper.

One pass over the object's keys notes where each value stands (their order is not promised), then the event's type decides
what is read. Levels are read last, because every row carries the ids and times that may stand behind them.

{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,
"u":50093239202,"b":[["61737.63000000","0.00000000"]],"a":[["61837.64000000","1.54698000"]]}}"""

from __future__ import annotations

import numpy as np
from numba import njit

from oneprice.compute.scan import (
    MALFORMED,
    NO_ROOM,
    equals,
    expect,
    next_key,
    peek,
    read_decimal,
    read_float,
    read_int,
    read_levels,
    read_string,
    skip_value,
)
from oneprice.model.tape import ASK, LAST, ROW, Kind
from oneprice.venues.base import (
    HEAD_CHANNEL,
    HEAD_FIRST_ID,
    HEAD_INSTRUMENT,
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    HEAD_PREVIOUS_ID,
)
from oneprice.venues.symbols import find

_CONTROL, _UNKNOWN_SYMBOL = -1, -3
_DEPTH, _QUOTE, _TRADE, _MARK, _INDEX, _FUNDING, _LIQUIDATION = (
    int(kind) for kind in (Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.LIQUIDATION)
)
_NS_PER_MS = 1_000_000
_OBJECT = 123


def _text(word: str) -> np.ndarray:
    return np.frombuffer(word.encode(), dtype=np.uint8)


_DEPTH_UPDATE, _AGG_TRADE, _TRADE_EVENT = _text("depthUpdate"), _text("aggTrade"), _text("trade")
_BOOK_TICKER, _MARK_UPDATE, _FORCE_ORDER = _text("bookTicker"), _text("markPriceUpdate"), _text("forceOrder")
_DATA, _STREAM, _MARKET, _SELL = _text("data"), _text("stream"), _text("MARKET"), _text("SELL")

# A key of one letter is noted at its byte; of the longer ones only the few that mean something are known.
_PU, _ST, _SLOTS = 128, 129, 130


@njit(cache=True)
def _note_keys(buf, i, where):
    """Position of each value of the object at `i`, by its key; → position behind the object."""
    where[:] = -1
    i = expect(buf, i, _OBJECT)
    while True:
        start, end, i = next_key(buf, i)
        if start < 0 or i < 0:
            return i
        if end - start == 1 and buf[start] < 128:
            where[buf[start]] = i
        elif end - start == 2:
            if buf[start] == 112 and buf[start + 1] == 117:  # pu
                where[_PU] = i
            elif buf[start] == 115 and buf[start + 1] == 116:  # st
                where[_ST] = i
        i = skip_value(buf, i)


@njit(cache=True)
def _payload(buf):
    """Position of the event object: inside `data` of the combined wrapper, or the frame itself."""
    i = expect(buf, 0, _OBJECT)
    start, end, i = next_key(buf, i)
    if i < 0:
        return i
    if start >= 0 and (equals(buf, start, end, _STREAM) or equals(buf, start, end, _DATA)):
        while start >= 0 and i >= 0:
            if equals(buf, start, end, _DATA):
                return i if peek(buf, i) == _OBJECT else _CONTROL
            i = skip_value(buf, i)
            start, end, i = next_key(buf, i)
        return i if i < 0 else _CONTROL
    return np.int64(0)


@njit(cache=True)
def _event_is(buf, i, word):
    start, end, behind = read_string(buf, i)
    return behind >= 0 and equals(buf, start, end, word)


@njit(cache=True)
def _time_ns(buf, where, key):
    if where[key] < 0:
        return np.int64(0)
    value, behind = read_int(buf, where[key])
    return value * _NS_PER_MS if behind >= 0 else np.int64(-1)


@njit(cache=True)
def decode_binance(buf, recv_ns, feed, lookup, rows, at, head):
    """One frame → rows from `at` on; → how many, or a `Status`. See `venues.base` for the arguments."""
    i = _payload(buf)
    if i < 0:
        return i
    where = np.empty(_SLOTS, dtype=np.int64)
    behind = _note_keys(buf, i, where)
    if behind < 0:
        return behind
    event = where[101]  # e
    row = np.zeros(1, dtype=ROW)
    row[0].ts_recv_ns = recv_ns
    row[0].feed = feed
    if event >= 0 and _event_is(buf, event, _FORCE_ORDER):
        return _liquidation(buf, where, lookup, rows, at, head, row)
    if where[115] < 0:  # s
        return _CONTROL
    start, end, behind = read_string(buf, where[115])
    if behind < 0:
        return behind
    entry = find(lookup, buf, start, end)
    if entry < 0:
        # The all-market streams of USD-M carry COIN-M events, too (st 2), and the other way round: not ours to know.
        return np.int64(0) if where[_ST] >= 0 else np.int64(_UNKNOWN_SYMBOL)
    row[0].instrument = lookup[3][entry]
    price_exponent, qty_exponent = lookup[4][entry], lookup[5][entry]
    head[HEAD_INSTRUMENT] = lookup[3][entry]
    head[HEAD_IS_SNAPSHOT] = 0
    if event < 0:
        # Spot's bookTicker has no event type; its letters tell it.
        if where[98] >= 0 and where[66] >= 0 and where[97] >= 0 and where[65] >= 0 and where[117] >= 0:
            return _quote(buf, where, price_exponent, qty_exponent, rows, at, head, row)
        return _CONTROL
    if _event_is(buf, event, _DEPTH_UPDATE):
        return _depth(buf, where, price_exponent, qty_exponent, rows, at, head, row)
    if _event_is(buf, event, _BOOK_TICKER):
        return _quote(buf, where, price_exponent, qty_exponent, rows, at, head, row)
    if _event_is(buf, event, _TRADE_EVENT):
        if where[88] >= 0 and not _event_is(buf, where[88], _MARKET):  # X: insurance fund and ADL are not the market
            return 0
        return _trade(buf, where, 116, price_exponent, qty_exponent, rows, at, head, row)
    if _event_is(buf, event, _AGG_TRADE):
        return _trade(buf, where, 97, price_exponent, qty_exponent, rows, at, head, row)
    if _event_is(buf, event, _MARK_UPDATE):
        return _mark(buf, where, rows, at, head, row)
    return _CONTROL


@njit(cache=True)
def _depth(buf, where, price_exponent, qty_exponent, rows, at, head, row):
    if where[85] < 0 or where[117] < 0 or where[98] < 0 or where[97] < 0:
        return MALFORMED
    first, ok = read_int(buf, where[85])  # U
    last, ok_last = read_int(buf, where[117])  # u
    if ok < 0 or ok_last < 0:
        return MALFORMED
    previous = np.int64(-1)
    if where[_PU] >= 0:
        previous, ok = read_int(buf, where[_PU])
        if ok < 0:
            return MALFORMED
    row[0].kind = _DEPTH
    row[0].sequence = last
    # The matching engine's own time (T) where there is one, else the event's.
    row[0].ts_venue_ns = _time_ns(buf, where, 84 if where[84] >= 0 else 69)
    if row[0].ts_venue_ns < 0:
        return MALFORMED
    i, n = read_levels(buf, where[98], price_exponent, qty_exponent, rows, at, row, 0)
    if i < 0:
        return i
    i, n = read_levels(buf, where[97], price_exponent, qty_exponent, rows, n, row, ASK)
    if i < 0:
        return i
    if n == at:
        # An event without levels still moves the chain: one row that changes nothing.
        if at >= rows.shape[0]:
            return NO_ROOM
        rows[at] = row[0]
        n = at + 1
    rows[n - 1].flags |= LAST
    head[HEAD_CHANNEL] = 1
    head[HEAD_FIRST_ID] = first
    head[HEAD_LAST_ID] = last
    head[HEAD_PREVIOUS_ID] = previous
    return n - at


@njit(cache=True)
def _quote(buf, where, price_exponent, qty_exponent, rows, at, head, row):
    if at + 2 > rows.shape[0]:
        return NO_ROOM
    update, ok = read_int(buf, where[117])
    bid, ok_bid = read_decimal(buf, where[98], price_exponent)
    bid_qty, ok_bid_qty = read_decimal(buf, where[66], qty_exponent)
    ask, ok_ask = read_decimal(buf, where[97], price_exponent)
    ask_qty, ok_ask_qty = read_decimal(buf, where[65], qty_exponent)
    worst = min(ok, ok_bid, ok_bid_qty, ok_ask, ok_ask_qty)
    if worst < 0:
        return worst
    row[0].kind = _QUOTE
    row[0].sequence = update
    row[0].ts_venue_ns = _time_ns(buf, where, 84 if where[84] >= 0 else 69)
    if row[0].ts_venue_ns < 0:
        return MALFORMED
    rows[at] = row[0]
    rows[at].price = bid
    rows[at].qty = bid_qty
    rows[at + 1] = row[0]
    rows[at + 1].price = ask
    rows[at + 1].qty = ask_qty
    rows[at + 1].flags = ASK | LAST
    head[HEAD_CHANNEL] = 2
    return 2


@njit(cache=True)
def _trade(buf, where, id_key, price_exponent, qty_exponent, rows, at, head, row):
    if at >= rows.shape[0]:
        return NO_ROOM
    trade_id, ok = read_int(buf, where[id_key])
    price, ok_price = read_decimal(buf, where[112], price_exponent)
    qty, ok_qty = read_decimal(buf, where[113], qty_exponent)
    worst = min(ok, ok_price, ok_qty, where[109])
    if worst < 0:
        return worst if worst != -1 else MALFORMED
    row[0].kind = _TRADE
    row[0].sequence = trade_id
    row[0].ts_venue_ns = _time_ns(buf, where, 84)
    if row[0].ts_venue_ns < 0:
        return MALFORMED
    row[0].price = price
    row[0].qty = qty
    # m true: the buyer was the maker, so the taker sold.
    row[0].flags = (ASK if peek(buf, where[109]) == 116 else 0) | LAST
    rows[at] = row[0]
    head[HEAD_CHANNEL] = 3
    return 1


@njit(cache=True)
def _mark(buf, where, rows, at, head, row):
    if at + 3 > rows.shape[0]:
        return NO_ROOM
    row[0].ts_venue_ns = _time_ns(buf, where, 69)
    mark, ok = read_float(buf, where[112])
    if ok < 0 or row[0].ts_venue_ns < 0:
        return MALFORMED
    row[0].kind = _MARK
    row[0].value = mark
    rows[at] = row[0]
    n = at + 1
    if where[105] >= 0:  # i: index
        row[0].kind = _INDEX
        row[0].value, ok = read_float(buf, where[105])
        if ok < 0:
            return MALFORMED
        rows[n] = row[0]
        n += 1
    next_funding_ns = _time_ns(buf, where, 84)
    if next_funding_ns > 0 and where[114] >= 0 and buf[where[114] + 1] != 34:  # r; dated futures say T 0, COIN-M r ""
        row[0].kind = _FUNDING
        row[0].sequence = next_funding_ns
        row[0].value, ok = read_float(buf, where[114])
        if ok < 0:
            return MALFORMED
        rows[n] = row[0]
        n += 1
    rows[n - 1].flags = LAST
    head[HEAD_CHANNEL] = 4
    return n - at


@njit(cache=True)
def _liquidation(buf, where, lookup, rows, at, head, row):
    if at >= rows.shape[0]:
        return NO_ROOM
    if where[111] < 0:  # o
        return MALFORMED
    row[0].ts_venue_ns = _time_ns(buf, where, 69)
    behind = _note_keys(buf, where[111], where)
    if behind < 0 or where[115] < 0 or where[83] < 0 or row[0].ts_venue_ns < 0:
        return MALFORMED
    start, end, behind = read_string(buf, where[115])
    entry = find(lookup, buf, start, end)
    if entry < 0:
        return _UNKNOWN_SYMBOL
    # p is the bankruptcy price; the average paid (ap) can have more digits than the tick and would be refused.
    price_at = where[112]
    price, ok = read_decimal(buf, price_at, lookup[4][entry])
    qty, ok_qty = read_decimal(buf, where[122], lookup[5][entry])
    if min(ok, ok_qty) < 0:
        return min(ok, ok_qty)
    row[0].kind = _LIQUIDATION
    row[0].instrument = lookup[3][entry]
    row[0].price = price
    row[0].qty = qty
    row[0].flags = (ASK if _event_is(buf, where[83], _SELL) else 0) | LAST
    rows[at] = row[0]
    head[HEAD_CHANNEL] = 5
    head[HEAD_INSTRUMENT] = lookup[3][entry]
    return 1
