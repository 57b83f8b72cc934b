"""Binance's JSON frames to tape rows, compiled: spot, USD-M and COIN-M, raw or in the combined wrapper.

One pass over the keys of the event notes where each value stands, because their order is not promised; then the
event's type decides what is read. Levels are long, so they alone are read on the way, as soon as the symbol is known,
and get the ids and times that stand around them afterwards.

{"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate","E":1723161255208,"s":"BTCUSDT","U":50093239189,
"u":50093239202,"b":[["61737.63000000","0.00000000"]],"a":[["61837.64000000","1.54698000"]]}}

event           | rows                         | read from
----------------|------------------------------|------------------------------------------------------------------
depthUpdate     | DEPTH a level                | U, u, pu (futures); b, a absolute, 0 removes; T, else E
trade, aggTrade | TRADE                        | t or a; p, q, T; m true: the buyer was the maker, the taker sold
bookTicker      | QUOTE bid, QUOTE ask         | u; b, B, a, A; T, else E (spot sends neither, and no `e`)
markPriceUpdate | MARK, INDEX, FUNDING         | p, i (0: none), r until T (dated futures: T 0, no funding); E
forceOrder      | LIQUIDATION                  | in o: S SELL = a long was sold out, p bankruptcy price, z filled, T

A partial book (`@depth5`) of a future looks like a diff and would be read as one: those streams are not subscribed to.
Source: Binance documentation, Web Socket Streams and Websocket Market Streams."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit

from oneprice.compute.inner import inner
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
    skip_space,
    skip_value,
)
from oneprice.compute.uncounted import uncounted
from oneprice.model.tape import ASK, LAST, Kind
from oneprice.venues.base import (
    CHANNEL_CODE,
    HEAD_CHANNEL,
    HEAD_FIRST_ID,
    HEAD_INSTRUMENT,
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    HEAD_PREVIOUS_ID,
    Channel,
    Status,
)
from oneprice.venues.symbols import find

_CONTROL, _UNKNOWN_SYMBOL = int(Status.CONTROL), int(Status.UNKNOWN_SYMBOL)
_DEPTH, _QUOTE, _TRADE, _MARK, _INDEX, _FUNDING, _LIQUIDATION = (
    int(kind) for kind in (Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.LIQUIDATION)
)
_ON_DEPTH, _ON_QUOTE, _ON_TRADE, _ON_MARK, _ON_LIQUIDATION = (
    CHANNEL_CODE[c] for c in (Channel.DEPTH, Channel.QUOTE, Channel.TRADE, Channel.MARK, Channel.LIQUIDATION)
)
_NS_PER_MS = 1_000_000
_LATEST_MS = 9_000_000_000_000  # the year 2255: as nanoseconds it still fits; times in µs (asked for by URL) do not
_STRING_OPEN, _LIST_OPEN, _OBJECT_OPEN, _ESCAPE, _COMMA, _COLON = 34, 91, 123, 92, 44, 58
_TRUE, _FALSE = 116, 102
# Products name themselves since USD-M and COIN-M became one service: 1 USD-M, 2 COIN-M.
_ST_USDM, _ST_COINM, _ST_NONE = 1, 2, -1
_PU, _ST = 1, 2  # letters of the two keys of two letters that mean something
_READ = np.int64(1 << 40)  # in place of a position: this list has been read


def _text(word: str) -> np.ndarray:
    return np.frombuffer(word.encode(), dtype=np.uint8)


_DEPTH_UPDATE, _AGG_TRADE, _TRADE_EVENT = _text("depthUpdate"), _text("aggTrade"), _text("trade")
_BOOK_TICKER, _MARK_UPDATE, _FORCE_ORDER = _text("bookTicker"), _text("markPriceUpdate"), _text("forceOrder")
_DATA, _STREAM, _MARKET, _SELL, _BUY = _text("data"), _text("stream"), _text("MARKET"), _text("SELL"), _text("BUY")


@inner
def _step_over(buf, i):
    """Position behind a value: plain strings and numbers at once, anything else with care."""
    n = buf.shape[0]
    if i < 0 or i >= n:
        return np.int64(MALFORMED)
    if buf[i] == _STRING_OPEN:
        i += 1
        while i < n and buf[i] != _STRING_OPEN:
            i += 2 if buf[i] == _ESCAPE else 1
        return i + 1 if i < n else np.int64(MALFORMED)
    if 48 <= buf[i] <= 57:
        while i < n and 48 <= buf[i] <= 57:
            i += 1
        return i
    return skip_value(buf, i)


@inner
def _next_letter(buf, i):
    """(letter, position of its value) of the next key; 1 is `pu`, 2 `st`, 0 any other longer key, -1 the object's end.

    Nearly every key is one letter, written `,"k":`; taken at once it costs half of the careful way.
    """
    n = buf.shape[0]
    if i >= 0 and i + 5 < n:
        k = i + 1 if buf[i] == _COMMA else i
        if buf[k] == _STRING_OPEN and buf[k + 2] == _STRING_OPEN and buf[k + 3] == _COLON and buf[k + 1] != _ESCAPE:
            return np.int64(buf[k + 1]), skip_space(buf, k + 4)
    start, end, i = next_key(buf, i)
    if start < 0:
        return np.int64(-1), np.int64(i)
    letter = np.int64(0)
    if i >= 0 and end - start == 1:
        letter = np.int64(buf[start])
    elif i >= 0 and end - start == 2 and buf[start] == 112 and buf[start + 1] == 117:
        letter = np.int64(_PU)
    elif i >= 0 and end - start == 2 and buf[start] == 115 and buf[start + 1] == 116:
        letter = np.int64(_ST)
    return letter, skip_space(buf, i)


@inner
def _says(buf, i, word):
    start, end, behind = read_string(buf, i)
    return behind >= 0 and equals(buf, start, end, word)


@inner
def _time_ns(buf, i):
    """A time in ms as ns; 0 where the event has none, -1 where it is not a time."""
    if i < 0:
        return np.int64(0)
    value, behind = read_int(buf, i)
    if behind < 0 or value < 0 or value > _LATEST_MS:
        return np.int64(-1)
    return value * _NS_PER_MS


@njit(cache=True)
def _begin(rows, at, recv_ns, feed, kind, instrument, sequence, venue_ns):
    """A row with everything but what its kind adds."""
    row = rows[at]
    row.ts_recv_ns = recv_ns
    row.ts_venue_ns = venue_ns
    row.sequence = sequence
    row.price = 0
    row.qty = 0
    row.value = 0.0
    row.instrument = instrument
    row.feed = feed
    row.kind = kind
    row.flags = 0
    row.aux = 0
    row.reserved = 0


@njit(cache=True)
def _event(buf):
    """(position behind the event's opening brace, whether it lies in the `data` of the combined wrapper)."""
    inside = expect(buf, 0, _OBJECT_OPEN)
    start, end, i = next_key(buf, inside)
    if i < 0:
        return np.int64(i), False
    if start < 0 or not (equals(buf, start, end, _STREAM) or equals(buf, start, end, _DATA)):
        return np.int64(inside), False
    while not equals(buf, start, end, _DATA):
        start, end, i = next_key(buf, _step_over(buf, skip_space(buf, i)))
        if i < 0 or start < 0:
            return np.int64(i if i < 0 else _CONTROL), True
    if peek(buf, i) != _OBJECT_OPEN:
        return np.int64(min(_step_over(buf, skip_space(buf, i)), _CONTROL)), True
    return np.int64(expect(buf, i, _OBJECT_OPEN)), True


@njit(cache=True)
def _decode(foreign_st, buf, recv_ns, feed, lookup, rows, at, head):
    buf, lookup, rows, head = uncounted(buf), uncounted(lookup), uncounted(rows), uncounted(head)
    if at >= rows.shape[0]:
        return NO_ROOM
    i, wrapped = _event(buf)
    if i < 0:
        return i

    # Where the value of each key stands; -1: not there.
    none = np.int64(-1)
    a = b = e = index = m = o = p = previous = q = r = s = st = t = u = none
    upper_a = upper_b = upper_e = upper_t = upper_u = upper_x = none
    entry = none
    first_ask = n = np.int64(at)
    key, i = _next_letter(buf, i)
    while key >= 0 and i >= 0:
        behind = np.int64(0)  # behind the value, where a branch has read it
        if key == 101:
            e = i
        elif key == 115:
            if s >= 0:
                return MALFORMED
            s = i
            name_start, name_end, behind = read_string(buf, i)
            entry = find(lookup, buf, name_start, name_end) if behind >= 0 else none
            if entry >= 0:  # said at once: a frame whose levels prove INEXACT is still known by its instrument
                head[HEAD_INSTRUMENT] = lookup[3][entry]
        elif key == 98:
            b = i
            if entry >= 0 and a == none and n == at and peek(buf, i) == _LIST_OPEN:
                _begin(rows, at, recv_ns, feed, _DEPTH, lookup[3][entry], 0, 0)
                behind, n = read_levels(buf, i, lookup[4][entry], lookup[5][entry], rows, at, rows[at : at + 1], 0)
                first_ask = n
                b = _READ
        elif key == 97:
            a = i
            if b == _READ and n == first_ask and peek(buf, i) == _LIST_OPEN:
                if n == at:
                    _begin(rows, at, recv_ns, feed, _DEPTH, lookup[3][entry], 0, 0)
                behind, n = read_levels(buf, i, lookup[4][entry], lookup[5][entry], rows, n, rows[at : at + 1], ASK)
                a = _READ
        elif key == 69:
            upper_e = i
        elif key == 84:
            upper_t = i
        elif key == 117:
            u = i
        elif key == 85:
            upper_u = i
        elif key == 66:
            upper_b = i
        elif key == 65:
            upper_a = i
        elif key == 112:
            p = i
        elif key == 113:
            q = i
        elif key == 116:
            t = i
        elif key == 109:
            m = i
        elif key == 88:
            upper_x = i
        elif key == 105:
            index = i
        elif key == 114:
            r = i
        elif key == 111:
            o = i
        elif key == _PU:
            previous = i
        elif key == _ST:
            st = i
        i = _step_over(buf, i) if behind == 0 else behind
        if i < 0:
            return i
        key, i = _next_letter(buf, i)
    if wrapped:
        start, _, i = next_key(buf, i)
        while i >= 0 and start >= 0:
            start, _, i = next_key(buf, _step_over(buf, skip_space(buf, i)))
    if i < 0 or skip_space(buf, i) != buf.shape[0]:
        return MALFORMED

    if st >= 0 and foreign_st != _ST_NONE:
        product, behind = read_int(buf, st)
        if behind < 0 or product == foreign_st:
            return min(behind, 0)
    head[HEAD_IS_SNAPSHOT] = 0
    if e < 0:
        # Spot's bookTicker has no event type; its letters tell it.
        if s < 0 or u < 0 or b < 0 or upper_b < 0 or a < 0 or upper_a < 0:
            return _CONTROL
        channel = _ON_QUOTE
    else:
        channel = _channel(buf, e)
    if channel < 0:
        return channel
    if channel == _ON_LIQUIDATION:
        return _liquidation(buf, o, upper_e, recv_ns, feed, lookup, rows, at, head)
    if entry < 0:
        return _UNKNOWN_SYMBOL if s >= 0 else MALFORMED
    head[HEAD_CHANNEL] = channel
    head[HEAD_INSTRUMENT] = lookup[3][entry]
    # The matching engine's own time where there is one, else the event's.
    venue_ns = _time_ns(buf, upper_t if upper_t >= 0 and channel != _ON_MARK else upper_e)
    if venue_ns < 0:
        return MALFORMED
    if channel == _ON_MARK:
        _begin(rows, at, recv_ns, feed, _MARK, lookup[3][entry], 0, venue_ns)
        return _mark(buf, p, index, r, upper_t, rows, at)
    if channel == _ON_TRADE:
        if upper_x >= 0 and not _says(buf, upper_x, _MARKET):
            return 0
        trade_id, behind = read_int(buf, t if t >= 0 else a)
        if behind < 0:
            return MALFORMED
        _begin(rows, at, recv_ns, feed, _TRADE, lookup[3][entry], trade_id, venue_ns)
        return _trade(buf, p, q, m, lookup[4][entry], lookup[5][entry], rows, at)
    last, behind = read_int(buf, u)
    if behind < 0:
        return MALFORMED
    if channel == _ON_QUOTE:
        _begin(rows, at, recv_ns, feed, _QUOTE, lookup[3][entry], last, venue_ns)
        return _quote(buf, b, upper_b, a, upper_a, lookup[4][entry], lookup[5][entry], rows, at)

    first, behind = read_int(buf, upper_u)
    if behind < 0 or none in (a, b):
        return MALFORMED
    head[HEAD_FIRST_ID] = first
    head[HEAD_LAST_ID] = last
    head[HEAD_PREVIOUS_ID] = -1
    if previous >= 0:
        head[HEAD_PREVIOUS_ID], behind = read_int(buf, previous)
        if behind < 0:
            return MALFORMED
    if a != _READ or b != _READ:
        # The symbol or the bids stood behind a list: read both lists now, in their order.
        _begin(rows, at, recv_ns, feed, _DEPTH, lookup[3][entry], 0, 0)
        i, n = read_levels(buf, b, lookup[4][entry], lookup[5][entry], rows, at, rows[at : at + 1], 0)
        if i >= 0:
            i, n = read_levels(buf, a, lookup[4][entry], lookup[5][entry], rows, n, rows[at : at + 1], ASK)
        if i < 0:
            return i
    return _depth(rows, at, n, last, venue_ns)


@inner
def _channel(buf, e):
    """The channel that an event's type belongs to, or CONTROL. No two types of one length are compared in vain."""
    start, end, behind = read_string(buf, e)
    size = end - start
    if behind < 0:
        return np.int64(MALFORMED)
    if size == 10 and equals(buf, start, end, _BOOK_TICKER):
        return np.int64(_ON_QUOTE)
    if size == 11 and equals(buf, start, end, _DEPTH_UPDATE):
        return np.int64(_ON_DEPTH)
    if (size == 5 and equals(buf, start, end, _TRADE_EVENT)) or (size == 8 and equals(buf, start, end, _AGG_TRADE)):
        return np.int64(_ON_TRADE)
    if size == 15 and equals(buf, start, end, _MARK_UPDATE):
        return np.int64(_ON_MARK)
    if size == 10 and equals(buf, start, end, _FORCE_ORDER):
        return np.int64(_ON_LIQUIDATION)
    return np.int64(_CONTROL)


@njit(cache=True)
def _depth(rows, at, n, last, venue_ns):
    if n == at:
        n = at + 1  # an event without levels still moves the chain: one row that changes nothing
    else:
        for k in range(at, n):
            if rows[k].price <= 0 or rows[k].qty < 0:
                return MALFORMED
    for k in range(at, n):
        rows[k].sequence = last
        rows[k].ts_venue_ns = venue_ns
    rows[n - 1].flags |= LAST
    return n - at


@njit(cache=True)
def _quote(buf, b, upper_b, a, upper_a, price_exponent, qty_exponent, rows, at):
    if at + 2 > rows.shape[0]:
        return NO_ROOM
    bid, behind_bid = read_decimal(buf, b, price_exponent)
    bid_qty, behind_bid_qty = read_decimal(buf, upper_b, qty_exponent)
    ask, behind_ask = read_decimal(buf, a, price_exponent)
    ask_qty, behind_ask_qty = read_decimal(buf, upper_a, qty_exponent)
    worst = min(behind_bid, behind_bid_qty, behind_ask, behind_ask_qty)
    if worst < 0:
        return min(worst, MALFORMED)  # a key that is not there stands at -1
    if min(bid, bid_qty, ask, ask_qty) < 0:  # 0 is the venue's way to say that a side is empty
        return MALFORMED
    rows[at + 1] = rows[at]
    rows[at].price = bid
    rows[at].qty = bid_qty
    rows[at + 1].price = ask
    rows[at + 1].qty = ask_qty
    rows[at + 1].flags = ASK | LAST
    return 2


@njit(cache=True)
def _trade(buf, p, q, m, price_exponent, qty_exponent, rows, at):
    price, behind_price = read_decimal(buf, p, price_exponent)
    qty, behind_qty = read_decimal(buf, q, qty_exponent)
    if min(behind_price, behind_qty) < 0:
        return min(behind_price, behind_qty, MALFORMED)
    maker = peek(buf, m)
    if price <= 0 or qty <= 0 or maker not in (_TRUE, _FALSE):
        return MALFORMED
    rows[at].price = price
    rows[at].qty = qty
    rows[at].flags = (ASK if maker == _TRUE else 0) | LAST
    return 1


@njit(cache=True)
def _mark(buf, p, index, r, upper_t, rows, at):
    if at + 3 > rows.shape[0]:
        return NO_ROOM
    mark, behind = read_float(buf, p)
    if behind < 0 or not mark > 0.0:
        return MALFORMED
    rows[at].value = mark
    n = at + 1
    if index >= 0:
        value, behind = read_float(buf, index)
        if behind < 0 or value < 0.0:
            return MALFORMED
        if value > 0.0:
            rows[n] = rows[at]
            rows[n].kind = _INDEX
            rows[n].value = value
            n += 1
    next_funding_ns = _time_ns(buf, upper_t)
    if next_funding_ns < 0:
        return MALFORMED
    start, end, behind = read_string(buf, r)
    if r >= 0 and behind < 0:
        return MALFORMED
    if next_funding_ns > 0 and end > start:  # dated futures: T 0, and r zero or ""
        rate, behind = read_float(buf, r)
        if behind < 0:
            return MALFORMED
        rows[n] = rows[at]
        rows[n].kind = _FUNDING
        rows[n].sequence = next_funding_ns
        rows[n].value = rate
        n += 1
    rows[n - 1].flags = LAST
    return n - at


@inner
def _liquidation(buf, o, upper_e, recv_ns, feed, lookup, rows, at, head):
    none = np.int64(-1)
    s = side = p = z = upper_t = none
    key, i = _next_letter(buf, expect(buf, o, _OBJECT_OPEN))
    while key >= 0 and i >= 0:
        if key == 115:
            s = i
        elif key == 83:
            side = i
        elif key == 112:
            p = i
        elif key == 122:
            z = i
        elif key == 84:
            upper_t = i
        key, i = _next_letter(buf, _step_over(buf, i))
    name_start, name_end, behind = read_string(buf, s)
    venue_ns = _time_ns(buf, upper_t if upper_t >= 0 else upper_e)
    if i < 0 or behind < 0 or venue_ns < 0:
        return MALFORMED
    entry = find(lookup, buf, name_start, name_end)
    if entry < 0:
        return _UNKNOWN_SYMBOL
    # The average price paid (ap) can have more digits than the tick; p, where the position is bankrupt, cannot.
    price, behind_price = read_decimal(buf, p, lookup[4][entry])
    qty, behind_qty = read_decimal(buf, z, lookup[5][entry])
    if min(behind_price, behind_qty) < 0:
        return min(behind_price, behind_qty, MALFORMED)
    sold = _says(buf, side, _SELL)
    if price <= 0 or qty < 0 or not (sold or _says(buf, side, _BUY)):
        return MALFORMED
    _begin(rows, at, recv_ns, feed, _LIQUIDATION, lookup[3][entry], 0, venue_ns)
    rows[at].price = price
    rows[at].qty = qty
    rows[at].flags = (ASK if sold else 0) | LAST
    head[HEAD_CHANNEL] = _ON_LIQUIDATION
    head[HEAD_INSTRUMENT] = lookup[3][entry]
    return 1


# One compilation for three products, which costs a third of the time of three.
decode_spot = partial(_decode, _ST_NONE)
"""A frame of spot → rows from `at` on; → how many, or a `Status`. Arguments: see `DecodeFn` in `base`."""

decode_usdm = partial(_decode, _ST_COINM)
"""A frame of USD-M, as `decode_spot`. Events of COIN-M (st 2) and trades that are not the market's (X other than
MARKET: insurance fund, ADL) are understood and make no row."""

decode_coinm = partial(_decode, _ST_USDM)
"""A frame of COIN-M, as `decode_usdm`; here the events of USD-M (st 1) make no row."""
