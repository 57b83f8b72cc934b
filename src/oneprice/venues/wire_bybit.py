"""Bybit v5 public frames as tape rows, in compiled code: one decoder for spot and linear, because one wire serves both.

`topic` says what a frame is and for which symbol; which product it belongs to is said by the connection alone, so the lookup
given to `decode` holds the symbols of one product. Key order is not fixed (spot writes `ts` before `type`, linear behind it),
so every object is read key by key. Rows are written while `data` is read and finished (time, sequence, flags) when the whole
frame has been seen, because `cts` and `u` come last; a frame whose `data` precedes its `topic` is read in a second pass.

topic                  | rows
-----------------------|------------------------------------------------------------------------------------------
orderbook.1.{s}        | QUOTE: bid, then ask; an empty side is price 0, size 0
orderbook.{n}.{s}      | DEPTH: snapshot (CLEAR, SNAPSHOT) or delta; `u` 1 is a snapshot whatever `type` says
publicTrade.{s}        | TRADE, one a print; block trades are left out: they are agreed off the book
tickers.{s}            | MARK, INDEX, FUNDING, OPEN_INTEREST, each only when its field is there
allLiquidation.{s}     | LIQUIDATION, one a position

Times are the matching engine's (`cts`, `T`) where the frame has them, else those of the message (`ts`).
Source: Bybit v5 documentation, WebSocket Stream, Public."""

from __future__ import annotations

import numpy as np
from numba import njit

from oneprice.compute.inner import inner
from oneprice.compute.scan import (
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
from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind
from oneprice.model.time import NS_PER_MS
from oneprice.venues import base
from oneprice.venues.base import CHANNEL_CODE, Channel, Status
from oneprice.venues.symbols import find


def _text(word: str) -> np.ndarray:
    return np.frombuffer(word.encode(), dtype=np.uint8)


def _packed(word: str) -> int:
    return int.from_bytes(word.encode(), "big")


_CONTROL, _MALFORMED = int(Status.CONTROL), int(Status.MALFORMED)
_UNKNOWN_SYMBOL, _NO_ROOM = int(Status.UNKNOWN_SYMBOL), int(Status.NO_ROOM)
_DEPTH, _QUOTE = CHANNEL_CODE[Channel.DEPTH], CHANNEL_CODE[Channel.QUOTE]
_TRADE, _MARK = CHANNEL_CODE[Channel.TRADE], CHANNEL_CODE[Channel.MARK]
_LIQUIDATION = CHANNEL_CODE[Channel.LIQUIDATION]
_ROW_DEPTH, _ROW_QUOTE, _ROW_TRADE = int(Kind.DEPTH), int(Kind.QUOTE), int(Kind.TRADE)
_ROW_MARK, _ROW_INDEX, _ROW_FUNDING = int(Kind.MARK), int(Kind.INDEX), int(Kind.FUNDING)
_ROW_LIQUIDATION, _ROW_OPEN_INTEREST = int(Kind.LIQUIDATION), int(Kind.OPEN_INTEREST)
_OPEN_OBJECT, _OPEN_LIST, _CLOSE_LIST, _COMMA, _DOT, _MARKS, _TRUE = 123, 91, 93, 44, 46, 34, 116
_NS_PER_HOUR = 3600 * 1_000_000_000

# Keys and words of up to eight bytes are compared as one number (`_word`); longer keys byte by byte.
_K_TOPIC, _K_DATA, _K_TYPE, _K_TS, _K_CTS = (_packed(k) for k in ("topic", "data", "type", "ts", "cts"))
_K_SYMBOL, _K_BIDS, _K_ASKS, _K_UPDATE = (_packed(k) for k in ("s", "b", "a", "u"))
_K_TIME, _K_SIDE, _K_PRICE, _K_SIZE, _K_ID, _K_BLOCK = (_packed(k) for k in ("T", "S", "p", "v", "i", "BT"))
_BUY, _SELL, _WHOLE, _CHANGE = (_packed(w) for w in ("Buy", "Sell", "snapshot", "delta"))
_K_LONG_SYMBOL = _packed("symbol")
_K_MARK, _K_INDEX, _K_RATE = _text("markPrice"), _text("indexPrice"), _text("fundingRate")
_K_NEXT, _K_HOURS = _text("nextFundingTime"), _text("fundingIntervalHour")
_K_BOTH_SIDES, _K_ONE_SIDE = _text("openInterest"), _text("singleOpenInterest")
_T_BOOK, _T_TRADE = _text("orderbook."), _text("publicTrade.")
_T_TICKER, _T_LIQUIDATION = _text("tickers."), _text("allLiquidation.")


@inner
def _word(frame, start, end):
    """Up to eight bytes as one number; 0 for none or more. (All ASCII, so that none is negative.)"""
    if end - start > 8:
        return np.int64(0)
    value = np.int64(0)
    for k in range(start, end):
        value = (value << 8) | np.int64(frame[k])
    return value


@inner
def _next_word(frame, i):
    """(key as a number, its start, its end, position behind its colon); start -1 at the end of the object."""
    start, end, i = next_key(frame, i)
    return _word(frame, max(start, 0), max(end, 0)), start, end, i


@inner
def _read_word(frame, i):
    """(word as a number, position) of a string."""
    start, end, i = read_string(frame, i)
    return _word(frame, start, end), i


@njit(cache=True)
def _open(frame, i, byte):  # the steps that `scan` inlines, as calls: a third of the time to compile
    return expect(frame, i, byte)


@njit(cache=True)
def _ahead(frame, i):
    return peek(frame, i)


@njit(cache=True)
def _is(frame, start, end, text):
    return equals(frame, start, end, text)


@njit(cache=True)
def _starts(frame, start, end, text):
    return end - start > text.shape[0] and _is(frame, start, start + text.shape[0], text)


@inner
def _read_topic(frame, start, end):
    """(channel code, start of the symbol) of a topic; code 0: a topic that makes no rows."""
    if _starts(frame, start, end, _T_BOOK):
        i = start + _T_BOOK.shape[0]
        depth = np.int64(0)
        while i < end and 48 <= frame[i] <= 57 and depth < 100_000:
            depth = depth * 10 + (np.int64(frame[i]) - 48)
            i += 1
        if depth == 0 or i >= end or frame[i] != _DOT:  # orderbook.full, orderbook.rpi
            return 0, start
        return (_QUOTE if depth == 1 else _DEPTH), i + 1
    if _starts(frame, start, end, _T_TRADE):
        return _TRADE, start + _T_TRADE.shape[0]
    if _starts(frame, start, end, _T_TICKER):
        return _MARK, start + _T_TICKER.shape[0]
    if _starts(frame, start, end, _T_LIQUIDATION):
        return _LIQUIDATION, start + _T_LIQUIDATION.shape[0]
    return 0, start


@inner
def _expect_symbol(frame, i, start, end):
    """Step over a string that must be the topic's symbol, frame[start:end]."""
    s, e, i = read_string(frame, i)
    if i >= 0:
        if e - s != end - start:
            return _MALFORMED
        for k in range(e - s):
            if frame[s + k] != frame[start + k]:
                return _MALFORMED
    return i


@inner
def _start_row(rows, at, recv_ns, feed, instrument, kind):
    row = rows[at]
    row.ts_recv_ns = recv_ns
    row.ts_venue_ns = 0
    row.sequence = 0
    row.price = 0
    row.qty = 0
    row.value = 0.0
    row.instrument = instrument
    row.feed = feed
    row.kind = kind
    row.flags = 0
    row.aux = 0
    row.reserved = 0


@inner
def _read_book(frame, i, symbol_start, symbol_end, price_exponent, qty_exponent, rows, at):
    """(update id, next free row, position) of `{"s","b","a","u","seq"}`; rows[at] holds what all rows share."""
    update, bid, ask = np.int64(-1), np.int64(0), np.int64(ASK)  # not literals, each of which would be compiled for
    n = at
    i = _open(frame, i, _OPEN_OBJECT)
    while i >= 0:
        key, start, _, i = _next_word(frame, i)
        if start < 0 or i < 0:
            break
        if key == _K_BIDS:
            i, n = read_levels(frame, i, price_exponent, qty_exponent, rows, n, rows[at : at + 1], bid)
        elif key == _K_ASKS:
            i, n = read_levels(frame, i, price_exponent, qty_exponent, rows, n, rows[at : at + 1], ask)
        elif key == _K_UPDATE:
            update, i = read_int(frame, i)
        elif key == _K_SYMBOL:
            i = _expect_symbol(frame, i, symbol_start, symbol_end)
        else:
            i = skip_value(frame, i)
    if i >= 0:
        if update < 0:
            i = _MALFORMED
        for k in range(at, n):
            if rows[k].price <= 0 or rows[k].qty < 0:
                i = _MALFORMED
    return update, n, i


@inner
def _finish_depth(rows, at, n, update, venue_ns, is_snapshot):
    """Times, sequence and flags of a depth message. → rows written"""
    if is_snapshot and n == at:  # a whole book without levels: rows[at] says so, at price 0 and size 0
        n = at + 1
    for k in range(at, n):
        rows[k].ts_venue_ns = venue_ns
        rows[k].sequence = update
        if is_snapshot:
            rows[k].flags |= SNAPSHOT
    if n > at:
        rows[n - 1].flags |= LAST
        if is_snapshot:
            rows[at].flags |= CLEAR
    return n - at


@inner
def _finish_quote(rows, at, n, update, venue_ns):
    """The two QUOTE rows from the levels of a level-1 book, at most one a side. → rows written, or MALFORMED"""
    bid_price, bid_qty, ask_price, ask_qty = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    bids = 0
    for k in range(at, n):
        if rows[k].flags & ASK:
            ask_price, ask_qty = rows[k].price, rows[k].qty
        else:
            bids += 1
            bid_price, bid_qty = rows[k].price, rows[k].qty
    if bids > 1 or n - at - bids > 1:
        return _MALFORMED
    if at + 2 > rows.shape[0]:
        return _NO_ROOM
    rows[at].price, rows[at].qty = bid_price, bid_qty
    rows[at].sequence, rows[at].ts_venue_ns, rows[at].flags = update, venue_ns, 0
    rows[at + 1] = rows[at]
    rows[at + 1].price, rows[at + 1].qty = ask_price, ask_qty
    rows[at + 1].flags = ASK | LAST
    return 2


@inner
def _read_trade_id(frame, i):
    """(id, position): the number on spot; 0 for the UUID that linear sends, or a number past int64."""
    start, end, i = read_string(frame, i)
    value = np.int64(0)
    if i < 0 or end - start > 19:
        return value, i
    for k in range(start, end):
        if frame[k] < 48 or frame[k] > 57:
            return np.int64(0), i
        value = value * 10 + (np.int64(frame[k]) - 48)
    return max(value, np.int64(0)), i  # 19 digits past int64 wrap to a negative number


@inner
def _read_prints(
    frame, i, symbol_start, symbol_end, price_exponent, qty_exponent, rows, at, recv_ns, feed, instrument, kind
):
    """(next free row, position) of a list of trades or liquidations, which share their shape.

    `S` is the taker's side of a trade, but the side of the *position* in a liquidation: `Buy` there means that a long
    was sold out.
    """
    n = at
    i = _open(frame, i, _OPEN_LIST)
    if _ahead(frame, i) == _CLOSE_LIST:
        return n, _open(frame, i, _CLOSE_LIST)
    while i >= 0:
        price, qty, venue_ms, trade_id = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
        is_buy, is_sell, is_block = False, False, False
        i = _open(frame, i, _OPEN_OBJECT)
        while i >= 0:
            key, start, _, i = _next_word(frame, i)
            if start < 0 or i < 0:
                break
            if key == _K_TIME:
                venue_ms, i = read_int(frame, i)
            elif key == _K_SYMBOL:
                i = _expect_symbol(frame, i, symbol_start, symbol_end)
            elif key == _K_SIDE:
                side, i = _read_word(frame, i)
                is_buy, is_sell = side == _BUY, side == _SELL
            elif key == _K_SIZE:
                qty, i = read_decimal(frame, i, qty_exponent)
            elif key == _K_PRICE:
                price, i = read_decimal(frame, i, price_exponent)
            elif key == _K_ID:
                trade_id, i = _read_trade_id(frame, i)
            elif key == _K_BLOCK:
                is_block = _ahead(frame, i) == _TRUE
                i = skip_value(frame, i)
            else:
                i = skip_value(frame, i)
        if i < 0:
            break
        if price <= 0 or qty <= 0 or not (is_buy or is_sell):
            return n, _MALFORMED
        if not is_block:
            if n >= rows.shape[0]:
                return n, _NO_ROOM
            _start_row(rows, n, recv_ns, feed, instrument, kind)
            row = rows[n]
            row.ts_venue_ns = venue_ms * NS_PER_MS
            row.price = price
            row.qty = qty
            if kind == _ROW_TRADE:
                row.sequence = trade_id
                row.flags = ASK if is_sell else 0
            else:
                row.flags = ASK if is_buy else 0
            n += 1
        if _ahead(frame, i) == _COMMA:
            i = _open(frame, i, _COMMA)
        else:
            i = _open(frame, i, _CLOSE_LIST)
            break
    if i >= 0 and n > at:
        rows[n - 1].flags |= LAST
    return n, i


@inner
def _is_blank(frame, i):
    """Whether the value at i is an empty string, which is how a field that is not set looks."""
    i = skip_space(frame, i)
    return i + 1 < frame.shape[0] and frame[i] == _MARKS and frame[i + 1] == _MARKS


@inner
def _read_ticker(frame, i, symbol_start, symbol_end, rows, at, recv_ns, feed, instrument):
    """(next free row, position) of a ticker: a row for each field of ours that is there; a missing one is unchanged.

    A FUNDING row carries what the message said: 0 for a next time or an interval that it left out, NaN for a rate
    that it left out beside a new time. `singleOpenInterest` counts one side, as other venues do; messages older than
    June 2026 have only `openInterest`, which counts both.
    """
    mark, index, rate, one_side, both_sides = np.nan, np.nan, np.nan, np.nan, np.nan
    next_ms, hours = np.int64(0), np.int64(0)
    i = _open(frame, i, _OPEN_OBJECT)
    while i >= 0:
        key, start, end, i = _next_word(frame, i)
        if start < 0 or i < 0:
            break
        if _is_blank(frame, i):
            i = skip_value(frame, i)
        elif _is(frame, start, end, _K_MARK):
            mark, i = read_float(frame, i)
        elif _is(frame, start, end, _K_INDEX):
            index, i = read_float(frame, i)
        elif _is(frame, start, end, _K_RATE):
            rate, i = read_float(frame, i)
        elif _is(frame, start, end, _K_NEXT):
            next_ms, i = read_int(frame, i)
        elif _is(frame, start, end, _K_HOURS):
            hours, i = read_int(frame, i)
        elif _is(frame, start, end, _K_ONE_SIDE):
            one_side, i = read_float(frame, i)
        elif _is(frame, start, end, _K_BOTH_SIDES):
            both_sides, i = read_float(frame, i)
        elif key == _K_LONG_SYMBOL:
            i = _expect_symbol(frame, i, symbol_start, symbol_end)
        else:
            i = skip_value(frame, i)
    if i < 0:
        return at, i
    if at + 4 > rows.shape[0]:
        return at, _NO_ROOM
    n = at
    if not np.isnan(mark):
        _start_row(rows, n, recv_ns, feed, instrument, _ROW_MARK)
        rows[n].value = mark
        n += 1
    if not np.isnan(index):
        _start_row(rows, n, recv_ns, feed, instrument, _ROW_INDEX)
        rows[n].value = index
        n += 1
    if not np.isnan(rate) or next_ms > 0:
        _start_row(rows, n, recv_ns, feed, instrument, _ROW_FUNDING)
        rows[n].value = rate
        rows[n].sequence = next_ms * NS_PER_MS
        rows[n].qty = hours * _NS_PER_HOUR
        n += 1
    open_interest = both_sides / 2 if np.isnan(one_side) else one_side
    if not np.isnan(open_interest):
        _start_row(rows, n, recv_ns, feed, instrument, _ROW_OPEN_INTEREST)
        rows[n].value = open_interest
        n += 1
    return n, i


@njit(cache=True)
def decode(frame, recv_ns, feed, lookup, rows, at, head):
    """Rows of one public frame, as `venues.base.DecodeFn` says; `head` names channel, instrument and update id.

    {"topic":"orderbook.50.BTCUSDT","type":"delta","ts":1687940967466,"data":{"s":"BTCUSDT","b":[["30247.20","30.028"],
    ["30240.00","0"]],"a":[["30248.70","0"]],"u":177400507,"seq":66544703342},"cts":1687940967464}

    Sizes are absolute and "0" removes. Frames without `topic` and topics that make no rows are CONTROL.
    """
    frame, lookup, rows, head = uncounted(frame), uncounted(lookup), uncounted(rows), uncounted(head)
    channel, entry, symbol_start, symbol_end = np.int64(0), np.int64(-1), np.int64(0), np.int64(0)
    message_ms, engine_ms, update = np.int64(0), np.int64(0), np.int64(-1)
    is_whole, is_change, has_data = False, False, False
    data_at = np.int64(-1)  # where `data` waits until the topic is known
    n = at
    i = _open(frame, 0, _OPEN_OBJECT)
    behind = np.int64(0)
    while i >= 0:
        key, start, _, i = _next_word(frame, i)
        if i < 0:
            return i
        if start < 0:  # the whole frame has been seen
            if skip_space(frame, i) < frame.shape[0]:
                return _MALFORMED
            if has_data or channel == 0:
                break
            if data_at < 0:
                return _MALFORMED
            behind = i
            i = data_at
        elif key == _K_TOPIC:
            symbol_start, symbol_end, i = read_string(frame, i)
            if i < 0 or channel != 0:
                return _MALFORMED
            channel, symbol_start = _read_topic(frame, symbol_start, symbol_end)
            if channel == 0:
                return _CONTROL
            entry = find(lookup, frame, symbol_start, symbol_end)
            if entry < 0:
                return _UNKNOWN_SYMBOL
            head[base.HEAD_CHANNEL] = (
                channel  # said at once: a frame that proves INEXACT is still known by its instrument
            )
            head[base.HEAD_INSTRUMENT] = lookup[3][entry]
            continue
        elif key == _K_TYPE:
            what, i = _read_word(frame, i)
            is_whole, is_change = what == _WHOLE, what == _CHANGE
            continue
        elif key == _K_TS:
            message_ms, i = read_int(frame, i)
            continue
        elif key == _K_CTS:
            engine_ms, i = read_int(frame, i)
            continue
        elif key != _K_DATA:
            i = skip_value(frame, i)
            continue
        elif has_data or data_at >= 0:
            return _MALFORMED
        elif channel == 0:
            data_at = i
            i = skip_value(frame, i)
            continue

        has_data = True  # here `i` stands at the data of a known channel
        instrument, price_exponent, qty_exponent = lookup[3][entry], lookup[4][entry], lookup[5][entry]
        if channel in (_DEPTH, _QUOTE):
            if at >= rows.shape[0]:
                return _NO_ROOM
            _start_row(rows, at, recv_ns, feed, instrument, _ROW_DEPTH if channel == _DEPTH else _ROW_QUOTE)
            update, n, i = _read_book(frame, i, symbol_start, symbol_end, price_exponent, qty_exponent, rows, at)
        elif channel == _MARK:
            n, i = _read_ticker(frame, i, symbol_start, symbol_end, rows, at, recv_ns, feed, instrument)
        else:
            kind = _ROW_TRADE if channel == _TRADE else _ROW_LIQUIDATION
            n, i = _read_prints(
                frame, i, symbol_start, symbol_end, price_exponent, qty_exponent, rows, at, recv_ns, feed, instrument,
                kind,
            )  # fmt: skip
        if i >= 0 and behind > 0:
            i = behind
            break
    if i < 0:
        return i
    if channel == 0:
        return _CONTROL

    if channel != _MARK and not (is_whole or is_change):
        return _MALFORMED
    is_snapshot = is_whole or update == 1  # 1: the service restarted and this is the whole book
    venue_ns = (engine_ms if engine_ms > 0 else message_ms) * NS_PER_MS
    count = n - at
    if channel == _DEPTH:
        count = _finish_depth(rows, at, n, update, venue_ns, is_snapshot)
    elif channel == _QUOTE:
        if not is_snapshot:
            return _MALFORMED  # level 1 replaces, always; what a change of it would mean is written nowhere
        count = _finish_quote(rows, at, n, update, venue_ns)
    elif channel == _MARK and n > at:
        for k in range(at, n):
            rows[k].ts_venue_ns = venue_ns
        rows[n - 1].flags |= LAST
    head[base.HEAD_FIRST_ID] = update
    head[base.HEAD_LAST_ID] = update
    head[base.HEAD_PREVIOUS_ID] = -1
    head[base.HEAD_IS_SNAPSHOT] = is_snapshot and channel == _DEPTH
    return count
