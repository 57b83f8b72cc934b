"""Binance spot's binary market-data frames (SBE, schema `spot_stream` 1) as tape rows, in compiled code.

A frame is little endian without padding: message header (8 bytes), root block, groups in schema order, symbol.

    header   blockLength u16, templateId u16, schemaId u16, version u16
    root     `blockLength` bytes; the fields below at their offsets, newer versions append
    group    entry blockLength u16, count (u16; u32 for trades), then that many entries of that length
    symbol   length u8, UTF-8 bytes

template                | root fields                                    | groups     | rows
------------------------|------------------------------------------------|------------|---------------------------
10000 trades            | event µs, transact µs, exponents               | trades     | TRADE, one an entry
10001 bestBidAsk        | event µs, update id, exponents, bid, ask       | -          | QUOTE: bid, then ask
10002 depth20           | event µs, update id, exponents                 | bids, asks | none by `decode`, see below
10003 depth             | event µs, first id, last id, exponents         | bids, asks | DEPTH, a delta

Numbers are mantissas at exponents that each message states; they are moved to the instrument's exponents, and what does
not fit exactly is INEXACT. The symbol comes last, so the groups are stepped over before they are read. Lengths are
taken from the frame, never from the constants: a longer block or entry is a newer version whose tail is not for us.

Acknowledgements and notices come as JSON text on the same socket. No text holds the template's bytes 0x10…0x13 0x27, so
the header alone tells the two apart; other templates and schemas are CONTROL too, and make no rows.

Source: Binance spot API documentation, SBE market data streams, and its schema `stream_1_0.xml`."""

from __future__ import annotations

import numpy as np
from numba import njit

from oneprice.compute.inner import inner
from oneprice.compute.uncounted import uncounted
from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind
from oneprice.model.time import NS_PER_US
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

SCHEMA_ID, SCHEMA_VERSION = 1, 0
TRADES, BEST_BID_ASK, DEPTH_TOP, DEPTH_DIFF = 10000, 10001, 10002, 10003
HEADER_SIZE = 8
# Offsets within the root block; the tests check all of them against the schema.
EVENT_TIME = 0
TRADES_TRANSACT_TIME, TRADES_PRICE_EXPONENT, TRADES_BLOCK = 8, 16, 18
QUOTE_UPDATE_ID, QUOTE_PRICE_EXPONENT, QUOTE_PRICES, QUOTE_BLOCK = 8, 16, 18, 50
TOP_UPDATE_ID, TOP_PRICE_EXPONENT, TOP_BLOCK = 8, 16, 18
DIFF_FIRST_ID, DIFF_LAST_ID, DIFF_PRICE_EXPONENT, DIFF_BLOCK = 8, 16, 24, 26
TRADE_ID, TRADE_PRICE, TRADE_QTY, TRADE_BUYER_IS_MAKER, TRADE_ENTRY = 0, 8, 16, 24, 25
LEVEL_PRICE, LEVEL_QTY, LEVEL_ENTRY = 0, 8, 16
TRADES_GROUP_HEADER, LEVELS_GROUP_HEADER = 6, 4

_CONTROL, _MALFORMED, _INEXACT = int(Status.CONTROL), int(Status.MALFORMED), int(Status.INEXACT)
_UNKNOWN_SYMBOL, _NO_ROOM = int(Status.UNKNOWN_SYMBOL), int(Status.NO_ROOM)
_DEPTH, _QUOTE = CHANNEL_CODE[Channel.DEPTH], CHANNEL_CODE[Channel.QUOTE]
_TRADE = CHANNEL_CODE[Channel.TRADE]
_ROW_DEPTH, _ROW_QUOTE, _ROW_TRADE = int(Kind.DEPTH), int(Kind.QUOTE), int(Kind.TRADE)
_INT64_MAX = np.iinfo(np.int64).max
_POWERS = 10 ** np.arange(19, dtype=np.int64)


@inner
def _u16(frame, at):
    return np.int64(frame[at]) | (np.int64(frame[at + 1]) << 8)


@inner
def _i64(frame, at):
    value = np.int64(0)
    for k in range(8):
        value |= np.int64(frame[at + k]) << (8 * k)
    return value


@inner
def _i8(frame, at):
    value = np.int64(frame[at])
    return value - 256 if value > 127 else value


@inner
def _rescale(mantissa, shift):
    """(mantissa × 10^shift, whether that is exact and fits)."""
    if shift == 0 or mantissa == 0:
        return mantissa, True
    if shift > 18 or shift < -18:
        return np.int64(0), False
    power = _POWERS[abs(shift)]
    if shift > 0:
        return mantissa * power, -_INT64_MAX // power <= mantissa <= _INT64_MAX // power
    return mantissa // power, mantissa % power == 0


@inner
def _skip_group(frame, i, header, least):
    """Position behind a group whose entries have at least `least` bytes; MALFORMED where it does not fit the frame."""
    if i < 0 or i + header > frame.shape[0]:
        return _MALFORMED
    size, count = _u16(frame, i), _u16(frame, i + 2)
    if header == TRADES_GROUP_HEADER:
        count |= _u16(frame, i + 4) << 16
    after = i + header + size * count
    if (count > 0 and size < least) or after > frame.shape[0]:
        return _MALFORMED
    return after


@inner
def _entry_of(frame, i, lookup):
    """Entry of the symbol that ends the frame, in the lookup; or a status."""
    n = frame.shape[0]
    if i < 0 or i >= n or i + 1 + np.int64(frame[i]) > n:
        return _MALFORMED
    entry = find(lookup, frame, i + 1, i + 1 + np.int64(frame[i]))
    return entry if entry >= 0 else _UNKNOWN_SYMBOL


@inner
def _put(rows, at, recv_ns, venue_us, feed, instrument, sequence, kind, flags, price, qty, price_shift, qty_shift):
    """Write one row, its numbers moved to the instrument's exponents. → 1, or a status"""
    price, price_fits = _rescale(price, price_shift)
    qty, qty_fits = _rescale(qty, qty_shift)
    if not (price_fits and qty_fits):
        return _INEXACT
    if price < 0 or qty < 0:
        return _MALFORMED
    row = rows[at]
    row.ts_recv_ns = recv_ns
    row.ts_venue_ns = venue_us * NS_PER_US
    row.sequence = sequence
    row.price = price
    row.qty = qty
    row.value = 0.0
    row.instrument = instrument
    row.feed = feed
    row.kind = kind
    row.flags = flags
    row.aux = 0
    row.reserved = 0
    return 1


@njit(cache=True)
def _levels(frame, groups, recv_ns, feed, lookup, entry, rows, at, event_us, last_id, exponents, flags):
    """DEPTH rows of the groups bids and asks. → rows written, or a status"""
    instrument = lookup[3][entry]
    price_shift = _i8(frame, exponents) - lookup[4][entry]
    qty_shift = _i8(frame, exponents + 1) - lookup[5][entry]
    n = at
    i = groups
    for side in range(2):
        size, count = _u16(frame, i), _u16(frame, i + 2)
        i += LEVELS_GROUP_HEADER
        if n + count > rows.shape[0]:
            return _NO_ROOM
        for _ in range(count):
            price = _i64(frame, i + LEVEL_PRICE)
            if price <= 0:
                return _MALFORMED
            done = _put(
                rows, n, recv_ns, event_us, feed, instrument, last_id, _ROW_DEPTH, flags | (ASK if side == 1 else 0),
                price, _i64(frame, i + LEVEL_QTY), price_shift, qty_shift,
            )  # fmt: skip
            if done < 0:
                return done
            n += 1
            i += size
    if n > at:
        rows[n - 1].flags |= LAST
    return n - at


@inner
def _describe(head, channel, instrument, first_id, last_id, is_snapshot):
    """Fill `head`; done before the numbers are read, so that an INEXACT frame is still known by its instrument."""
    head[HEAD_CHANNEL] = channel
    head[HEAD_INSTRUMENT] = instrument
    head[HEAD_FIRST_ID] = first_id
    head[HEAD_LAST_ID] = last_id
    head[HEAD_PREVIOUS_ID] = -1
    head[HEAD_IS_SNAPSHOT] = is_snapshot


@inner
def _decode_trades(frame, recv_ns, feed, lookup, rows, at, head):
    root = HEADER_SIZE
    group = root + _u16(frame, 0)
    entry = _entry_of(frame, _skip_group(frame, group, TRADES_GROUP_HEADER, TRADE_ENTRY), lookup)
    if entry < 0:
        return entry
    instrument = lookup[3][entry]
    _describe(head, _TRADE, instrument, -1, -1, False)
    price_shift = _i8(frame, root + TRADES_PRICE_EXPONENT) - lookup[4][entry]
    qty_shift = _i8(frame, root + TRADES_PRICE_EXPONENT + 1) - lookup[5][entry]
    transact_us = _i64(frame, root + TRADES_TRANSACT_TIME)
    size, count = _u16(frame, group), _u16(frame, group + 2) | (_u16(frame, group + 4) << 16)
    if at + count > rows.shape[0]:
        return _NO_ROOM
    i = group + TRADES_GROUP_HEADER
    for k in range(count):
        price, qty = _i64(frame, i + TRADE_PRICE), _i64(frame, i + TRADE_QTY)
        if price <= 0 or qty <= 0:
            return _MALFORMED
        flags = (ASK if frame[i + TRADE_BUYER_IS_MAKER] == 1 else 0) | (LAST if k == count - 1 else 0)
        done = _put(
            rows, at + k, recv_ns, transact_us, feed, instrument, _i64(frame, i + TRADE_ID), _ROW_TRADE, flags,
            price, qty, price_shift, qty_shift,
        )  # fmt: skip
        if done < 0:
            return done
        i += size
    return count


@inner
def _decode_quote(frame, recv_ns, feed, lookup, rows, at, head):
    root = HEADER_SIZE
    entry = _entry_of(frame, root + _u16(frame, 0), lookup)
    if entry < 0:
        return entry
    if at + 2 > rows.shape[0]:
        return _NO_ROOM
    instrument = lookup[3][entry]
    price_shift = _i8(frame, root + QUOTE_PRICE_EXPONENT) - lookup[4][entry]
    qty_shift = _i8(frame, root + QUOTE_PRICE_EXPONENT + 1) - lookup[5][entry]
    event_us, update_id = _i64(frame, root + EVENT_TIME), _i64(frame, root + QUOTE_UPDATE_ID)
    _describe(head, _QUOTE, instrument, update_id, update_id, False)
    for side in range(2):
        i = root + QUOTE_PRICES + 16 * side
        done = _put(
            rows, at + side, recv_ns, event_us, feed, instrument, update_id, _ROW_QUOTE,
            (ASK | LAST) if side == 1 else 0, _i64(frame, i), _i64(frame, i + 8), price_shift, qty_shift,
        )  # fmt: skip
        if done < 0:
            return done
    return 2


@inner
def _decode_diff(frame, recv_ns, feed, lookup, rows, at, head):
    root = HEADER_SIZE
    groups = root + _u16(frame, 0)
    asks = _skip_group(frame, groups, LEVELS_GROUP_HEADER, LEVEL_ENTRY)
    entry = _entry_of(frame, _skip_group(frame, asks, LEVELS_GROUP_HEADER, LEVEL_ENTRY), lookup)
    if entry < 0:
        return entry
    last_id = _i64(frame, root + DIFF_LAST_ID)
    _describe(head, _DEPTH, lookup[3][entry], _i64(frame, root + DIFF_FIRST_ID), last_id, False)
    return _levels(
        frame, groups, recv_ns, feed, lookup, entry, rows, at, _i64(frame, root + EVENT_TIME), last_id,
        root + DIFF_PRICE_EXPONENT, 0,
    )  # fmt: skip


@njit(cache=True)
def decode_top(frame, recv_ns, feed, lookup, rows, at, head):
    """Rows of template 10002 (`depth20`): the best 20 levels a side, as a snapshot. Arguments as `decode`.

    Kept apart from `decode`: twenty levels are not the book that the diffs continue, so a feed never joins them. An
    empty one is a single row with quantity 0.
    """
    if frame.shape[0] < HEADER_SIZE or _u16(frame, 2) != DEPTH_TOP or _u16(frame, 4) != SCHEMA_ID:
        return _CONTROL
    root = HEADER_SIZE
    groups = root + _u16(frame, 0)
    if _u16(frame, 0) < TOP_BLOCK or groups > frame.shape[0]:
        return _MALFORMED
    asks = _skip_group(frame, groups, LEVELS_GROUP_HEADER, LEVEL_ENTRY)
    entry = _entry_of(frame, _skip_group(frame, asks, LEVELS_GROUP_HEADER, LEVEL_ENTRY), lookup)
    if entry < 0:
        return entry
    instrument = lookup[3][entry]
    event_us, update_id = _i64(frame, root + EVENT_TIME), _i64(frame, root + TOP_UPDATE_ID)
    _describe(head, _DEPTH, instrument, update_id, update_id, True)
    count = _levels(
        frame, groups, recv_ns, feed, lookup, entry, rows, at, event_us, update_id, root + TOP_PRICE_EXPONENT, SNAPSHOT
    )
    if count < 0:
        return count
    if count == 0:
        if at >= rows.shape[0]:
            return _NO_ROOM
        _put(rows, at, recv_ns, event_us, feed, instrument, update_id, _ROW_DEPTH, SNAPSHOT | LAST, 0, 0, 0, 0)
        count = 1
    rows[at].flags |= CLEAR
    return count


@njit(cache=True)
def decode(frame, recv_ns, feed, lookup, rows, at, head):
    """Rows of one frame, as `venues.base.DecodeFn` says. Trades carry `transactTime`, the rest `eventTime`.

    A bestBidAsk of BTCUSDT at exponents -2 and -5, bid 61837.63 × 3.78826, ask 61837.64 × 1.54698:
    3200112701000000 58b174be341f0600 ac2bcaa90b000000 fefb 535b5e0000000000 cac7050000000000 545b5e0000000000
    4a5c020000000000 0742544355534454
    """
    frame, lookup, rows, head = uncounted(frame), uncounted(lookup), uncounted(rows), uncounted(head)
    n = frame.shape[0]
    if n < HEADER_SIZE:
        return _CONTROL if n > 0 and frame[0] == 123 else _MALFORMED  # a short JSON text starts with {
    template = _u16(frame, 2)
    if _u16(frame, 4) != SCHEMA_ID or template < TRADES or template > DEPTH_DIFF or template == DEPTH_TOP:
        return _CONTROL
    block = _u16(frame, 0)
    least = TRADES_BLOCK if template == TRADES else QUOTE_BLOCK if template == BEST_BID_ASK else DIFF_BLOCK
    if block < least or HEADER_SIZE + block > n:
        return _MALFORMED
    if template == TRADES:
        return _decode_trades(frame, recv_ns, feed, lookup, rows, at, head)
    if template == BEST_BID_ASK:
        return _decode_quote(frame, recv_ns, feed, lookup, rows, at, head)
    return _decode_diff(frame, recv_ns, feed, lookup, rows, at, head)
