"""Rows of the tape as JSON text, compiled: no Python object is made for a row.

One pass measures how long the lines of each file can become, a second one writes them, each file's lines into a stretch of
its own in one buffer. A file is numbered `stream * instruments + instrument`. Everything a line needs from rows before it
(does the book stand, what is known of the funding) is in `State`, so that lines do not depend on how the tape is cut."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.inner import inner
from oneprice.compute.uncounted import uncounted
from oneprice.model.funding import FUNDING_RATE_EXPONENT
from oneprice.model.instrument import Instrument
from oneprice.model.tape import ASK, CLEAR, LAST, GapReason, Kind
from oneprice.model.time import NS_PER_S

DEPTH, TRADES, FUNDING, STREAMS = range(4)
_DEPTH, _TRADE, _GAP, _MARK, _INDEX, _FUNDING, _OPEN_INTEREST = (
    int(kind)
    for kind in (Kind.DEPTH, Kind.TRADE, Kind.GAP, Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.OPEN_INTEREST)
)  # fmt: skip
_FIXED_BYTES = 320  # more than the numbers, times and fixed words of any line
_LEVEL_BYTES = 44  # [price,qty], with the longest integers
_PLACES = 8  # decimals of a mark price, unless the venue's values ask for others
_MOST_PLACES = 15
_RATE_PLACES = -FUNDING_RATE_EXPONENT
_POWERS = np.array([10.0**places for places in range(_MOST_PLACES + 1)])
_TOO_LONG = 1e15  # a float holds fifteen digits for certain
_INEXACT = np.iinfo(np.int64).min
_NS_PER_DAY = 86_400 * NS_PER_S
_ZERO, _MINUS, _QUOTE, _COMMA, _OPEN, _CLOSE, _NEWLINE = 48, 45, 34, 44, 91, 93, 10


def _bytes(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode(), dtype=np.uint8)


_TS, _NULL = _bytes('{"ts":'), _bytes("null")
_TRUE, _FALSE = _bytes("true"), _bytes("false")
_PRICE, _QTY = _bytes(',"price":'), _bytes(',"qty":')
_LAST_ID, _ASKS = _bytes(',"last_update_id":'), _bytes('],"asks":[')
_INDEX_PRICE, _RATE = _bytes(',"index_price":'), _bytes(',"funding_rate":')
_NEXT_TIME, _EXPONENT, _END = _bytes(',"next_funding_time":'), _bytes(',"price_exponent":'), _bytes("}\n")
_TIERS = ("NON_CERTIFIED", "CERTIFIED")
_NON_CERTIFIED, _CERTIFIED = (_bytes(f'],"integrity_tier":"{tier}"}}\n') for tier in _TIERS)
_EXPECTED, _RECEIVED = _bytes(',"expected_id":'), _bytes(',"received_id":')
_REASONS = ("unknown", *(reason.name.lower() for reason in GapReason))
# Pieces of text that differ by instrument.
_NAME_TRADE, _NAME_DEPTH, _RULES_DEPTH, _NAME_GAP, _NAME_FUNDING, _END_TRADE, _PIECES = (0, 1, 2, 3, 4, 5, 9)


class Texts(NamedTuple):
    """What every line of an instrument says alike: `text[place[i, piece, 0]:place[i, piece, 1]]`."""

    text: NDArray[np.uint8]
    place: NDArray[np.int64]
    reasons: NDArray[np.int64]  # where the reasons of gaps lie in `text`
    bytes: NDArray[np.int64]  # by instrument: no line without its levels is longer


class State(NamedTuple):
    """What the rows so far mean for the lines to come, by instrument; `lines` by file."""

    stands: NDArray[np.uint8]  # a book was joined, and nothing of it is missing since
    book_feed: NDArray[np.int64]  # the connection that brings the book; -1: none yet
    trade_id: NDArray[np.int64]  # of the newest trade; 0: none, or its venue numbers none
    mark_price: NDArray[np.float64]  # NaN: not known yet
    index_price: NDArray[np.float64]
    rate: NDArray[np.float64]
    next_ns: NDArray[np.int64]  # 0: not known yet
    places: NDArray[np.int64]  # decimals of mark and index; -1: not chosen yet
    is_news: NDArray[np.uint8]  # a funding message has begun
    unwritable: NDArray[np.int64]  # funding messages with a value that no whole number can say
    lines: NDArray[np.int64]


def make_texts(instruments: Sequence[Instrument], names: Sequence[str]) -> Texts:
    written = bytearray()
    place = np.zeros((len(instruments), _PIECES, 2), dtype=np.int64)

    def add(text: str) -> tuple[int, int]:
        start = len(written)
        written.extend(text.encode())
        return start, len(written)

    for i, (instrument, name) in enumerate(zip(instruments, names, strict=True)):
        symbol = f',"tradingsymbol":{msgspec.json.encode(name).decode()}'
        rules = f',"price_exponent":{instrument.price_exponent},"qty_exponent":{instrument.qty_exponent}'
        place[i, _NAME_TRADE] = add(f'{symbol},"trade_id":')
        place[i, _NAME_DEPTH] = add(f'{symbol},"is_snapshot":')
        place[i, _RULES_DEPTH] = add(f'{rules},"bids":[')
        place[i, _NAME_GAP] = add(f'{symbol},"gap":{{"last_good_id":')
        place[i, _NAME_FUNDING] = add(f'{symbol},"mark_price":')
        for k, tier in enumerate(_TIERS):  # whole ends of lines: one long piece is copied faster than three short ones
            for maker, says in enumerate(("false", "true")):
                place[i, _END_TRADE + 2 * k + maker] = add(
                    f'{rules},"is_buyer_maker":{says},"integrity_tier":"{tier}"}}\n'
                )
    reasons = np.array([add(f',"reason":"{reason}"}}}}\n') for reason in _REASONS], dtype=np.int64)
    lengths = (place[:, :, 1] - place[:, :, 0]).sum(axis=1) + _FIXED_BYTES
    return Texts(np.frombuffer(bytes(written), dtype=np.uint8), place, reasons, lengths)


def make_state(count: int) -> State:
    def ints(value: int = 0) -> NDArray[np.int64]:
        return np.full(count, value, dtype=np.int64)

    def unknown() -> NDArray[np.float64]:
        return np.full(count, np.nan)

    return State(
        stands=np.zeros(count, dtype=np.uint8), book_feed=ints(-1), trade_id=ints(),
        mark_price=unknown(), index_price=unknown(), rate=unknown(), next_ns=ints(), places=ints(-1),
        is_news=np.zeros(count, dtype=np.uint8), unwritable=ints(),
        lines=np.zeros(STREAMS * count, dtype=np.int64),
    )  # fmt: skip


# -- pieces of a line: each takes the place of the next byte and returns it ------------------------------------------------


@inner
def _copy(out, at, text, start, length):
    # Unsigned places need no test for a place before the start, without which the loop becomes a copy of whole words.
    to, begin = np.uint64(at), np.uint64(start)
    for k in range(np.uint64(length)):
        out[to + k] = text[begin + k]


@inner
def _put(out, at, text):
    _copy(out, at, text, 0, text.shape[0])
    return at + text.shape[0]


@inner
def _put_piece(out, at, text, span):
    _copy(out, at, text, span[0], span[1] - span[0])
    return at + span[1] - span[0]


@inner
def put_int(out, at, value):
    """A signed integer of 64 bits in decimal."""
    ten = np.uint64(10)
    left = np.uint64(value)
    if value < 0:
        out[at] = _MINUS
        at += 1
        left = np.uint64(0) - left  # in two's complement, so that the smallest integer has its size, too
    end, rest = at + 1, left
    while rest >= ten:
        rest //= ten
        end += 1
    k = end - 1
    while k >= at:
        tens = left // ten
        out[k] = np.uint8(left - tens * ten + np.uint64(_ZERO))
        left = tens
        k -= 1
    return end


@inner
def _put_digits(out, at, value, count):
    left = np.uint32(value)
    for k in range(at + count - 1, at - 1, -1):
        tens = left // np.uint32(10)
        out[k] = np.uint8(left - tens * np.uint32(10) + np.uint32(_ZERO))
        left = tens
    return at + count


@inner
def _put_date(out, at, day):
    """The date of a day counted from 1970: years that begin with March, in eras of 400 (Hinnant, "chrono-Compatible Low-Level
    Date Algorithms", civil_from_days)."""
    day += 719_468
    era = day // 146_097
    of_era = np.uint32(day - era * 146_097)
    of_eras_years = of_era - of_era // np.uint32(1_460) + of_era // np.uint32(36_524) - of_era // np.uint32(146_096)
    year = np.uint32(of_eras_years) // np.uint32(365)
    of_year = np.uint32(of_era - (np.uint32(365) * year + year // np.uint32(4) - year // np.uint32(100)))
    moon = np.uint32(np.uint32(5) * of_year + np.uint32(2)) // np.uint32(153)
    date = of_year - np.uint32(np.uint32(153) * moon + np.uint32(2)) // np.uint32(5) + 1
    month = moon + 3 if moon < 10 else moon - 9
    at = _put_digits(out, at, era * 400 + year + (1 if month <= 2 else 0), 4)
    out[at] = _MINUS
    at = _put_digits(out, at + 1, month, 2)
    out[at] = _MINUS
    return _put_digits(out, at + 1, date, 2)


@inner
def put_time(out, at, ns):
    """An instant in quotes, RFC 3339, UTC: milliseconds, or microseconds where the venue gave them, rounded down; `null` for
    0, which is no time."""
    if ns == 0:
        return _put(out, at, _NULL)
    day = ns // _NS_PER_DAY
    us = np.uint64(ns - day * _NS_PER_DAY) // np.uint64(1_000)
    second = np.uint32(us // np.uint64(1_000_000))
    us = np.uint32(us - second * np.uint64(1_000_000))  # type: ignore[assignment]  # within its second
    minute = np.uint32(second // np.uint32(60))
    hour = np.uint32(minute // np.uint32(60))
    out[at] = _QUOTE
    at = _put_date(out, at + 1, day)
    out[at] = 84  # T
    at = _put_digits(out, at + 1, hour, 2)
    out[at] = 58  # :
    at = _put_digits(out, at + 1, minute - hour * np.uint32(60), 2)
    out[at] = 58
    at = _put_digits(out, at + 1, second - minute * np.uint32(60), 2)
    out[at] = 46  # .
    ms = np.uint32(us // np.uint32(1_000))
    is_whole_ms = ms * np.uint32(1_000) == us
    at = _put_digits(out, at + 1, ms, 3) if is_whole_ms else _put_digits(out, at + 1, us, 6)
    out[at] = 90  # Z
    out[at + 1] = _QUOTE
    return at + 2


@njit(cache=True)
def exact_mantissa(value, places):
    """The whole number m of which m / 10**places is this float; the smallest integer where there is none of 15 digits.

    Fifteen digits are what a float holds for certain, so m is that of the float's decimal text: the product is wrong by less
    than a quarter, and division rounds correctly.
    """
    scale = _POWERS[places]
    whole = np.rint(value * scale)
    if abs(whole) < _TOO_LONG and whole / scale == value:
        return np.int64(whole)
    return np.int64(_INEXACT)


@inner
def _places_for(mark, index, fewest):
    """Decimals that say both values exactly: `fewest` if they do, else the next finer, else the next coarser; -1: none."""
    for places in range(fewest, _MOST_PLACES + 1):
        if exact_mantissa(mark, places) != _INEXACT and exact_mantissa(index, places) != _INEXACT:
            return places
    for places in range(fewest - 1, -1, -1):
        if exact_mantissa(mark, places) != _INEXACT and exact_mantissa(index, places) != _INEXACT:
            return places
    return -1


# -- lines -----------------------------------------------------------------------------------------------------------------


@inner
def _put_trade(out, at, row, texts, is_proven):
    i = row.instrument
    at = put_time(out, _put(out, at, _TS), row.ts_venue_ns)
    at = put_int(out, _put_piece(out, at, texts.text, texts.place[i, _NAME_TRADE]), row.sequence)
    at = put_int(out, _put(out, at, _PRICE), row.price)
    at = put_int(out, _put(out, at, _QTY), row.qty)
    end = _END_TRADE + (2 if is_proven else 0) + (1 if row.flags & ASK else 0)
    return _put_piece(out, at, texts.text, texts.place[i, end])


@inner
def _put_levels(out, at, rows, start, stop, side):
    is_first = True
    for k in range(start, stop):
        if rows[k].flags & ASK != side or rows[k].price == 0:  # price 0: a message without levels
            continue
        if not is_first:
            out[at] = _COMMA
            at += 1
        is_first = False
        out[at] = _OPEN
        at = put_int(out, at + 1, rows[k].price)
        out[at] = _COMMA
        at = put_int(out, at + 1, rows[k].qty)
        out[at] = _CLOSE
        at += 1
    return at


@inner
def _put_depth(out, at, rows, start, stop, texts, is_proven):
    last = rows[stop - 1]
    i = last.instrument
    at = put_time(out, _put(out, at, _TS), last.ts_venue_ns)
    at = _put_piece(out, at, texts.text, texts.place[i, _NAME_DEPTH])
    at = _put(out, at, _TRUE) if rows[start].flags & CLEAR else _put(out, at, _FALSE)
    at = put_int(out, _put(out, at, _LAST_ID), last.sequence)
    at = _put_piece(out, at, texts.text, texts.place[i, _RULES_DEPTH])
    at = _put_levels(out, at, rows, start, stop, 0)
    at = _put_levels(out, _put(out, at, _ASKS), rows, start, stop, ASK)
    return _put(out, at, _CERTIFIED) if is_proven else _put(out, at, _NON_CERTIFIED)


@inner
def _put_gap(out, at, row, texts):
    # No venue says when a gap was: its time is that of this machine.
    at = put_time(out, _put(out, at, _TS), row.ts_recv_ns)
    at = put_int(out, _put_piece(out, at, texts.text, texts.place[row.instrument, _NAME_GAP]), row.sequence)
    at = put_int(out, _put(out, at, _EXPECTED), row.price)
    at = put_int(out, _put(out, at, _RECEIVED), row.qty)
    reason = int(row.value) if 0 <= row.value < texts.reasons.shape[0] else 0
    return _put_piece(out, at, texts.text, texts.reasons[reason])


@inner
def _put_funding(out, at, row, texts, state, fewest):
    """The line of a funding message that has ended with this row; nothing where a value is not exact."""
    i = row.instrument
    if state.places[i] < 0:
        state.places[i] = _places_for(state.mark_price[i], state.index_price[i], fewest)
    places = state.places[i]
    if places < 0:
        state.unwritable[i] += 1
        return at
    mark, index = exact_mantissa(state.mark_price[i], places), exact_mantissa(state.index_price[i], places)
    rate = exact_mantissa(state.rate[i], _RATE_PLACES)
    if _INEXACT in (mark, index, rate):
        state.unwritable[i] += 1
        return at
    at = put_time(out, _put(out, at, _TS), row.ts_venue_ns)
    at = put_int(out, _put_piece(out, at, texts.text, texts.place[i, _NAME_FUNDING]), mark)
    at = put_int(out, _put(out, at, _INDEX_PRICE), index)
    at = put_int(out, _put(out, at, _RATE), rate)
    at = put_time(out, _put(out, at, _NEXT_TIME), state.next_ns[i])
    at = put_int(out, _put(out, at, _EXPONENT), -places)
    return _put(out, at, _END)


# -- passes ----------------------------------------------------------------------------------------------------------------


@njit(cache=True)
def end_of_last_message(rows):
    """Behind the last row that ends a message; 0 where none ends."""
    k = rows.shape[0]
    while k > 0 and rows[k - 1].flags & LAST == 0:
        k -= 1
    return k


@inner
def _end_of_depth(rows, k):
    """Behind the depth message that begins at k."""
    i = rows[k].instrument
    k += 1
    while k < rows.shape[0] and rows[k - 1].flags & LAST == 0 and rows[k].kind == _DEPTH and rows[k].instrument == i:
        k += 1
    return k


@njit(cache=True)
def measure(rows, wanted, line_bytes, bounds):
    """bounds[file]: no more bytes than this become of these rows in it."""
    rows, wanted, line_bytes, bounds = uncounted(rows), uncounted(wanted), uncounted(line_bytes), uncounted(bounds)
    count = line_bytes.shape[0]
    bounds[:] = 0
    for k in range(rows.shape[0]):
        i, kind, is_last = rows[k].instrument, rows[k].kind, rows[k].flags & LAST
        if i < 0:
            continue
        if kind == _TRADE:
            bounds[TRADES * count + i] += line_bytes[i]
        elif kind == _DEPTH:
            # A message without its end is one all the same where another one begins.
            is_end = is_last or k + 1 == rows.shape[0] or rows[k + 1].kind != _DEPTH or rows[k + 1].instrument != i
            bounds[DEPTH * count + i] += _LEVEL_BYTES + (line_bytes[i] if is_end else 0)
        elif kind == _GAP:
            bounds[DEPTH * count + i] += line_bytes[i]
        elif is_last and kind in (_MARK, _INDEX, _FUNDING, _OPEN_INTEREST):
            bounds[FUNDING * count + i] += line_bytes[i]
    for file in range(bounds.shape[0]):
        bounds[file] *= wanted[file]


@njit(cache=True)
def write(rows, wanted, texts, state, fewest, ends, out):
    """Lines of whole messages into `out`. ends[file]: where its stretch begins; afterwards, where its lines end."""
    rows, wanted, texts, state = uncounted(rows), uncounted(wanted), uncounted(texts), uncounted(state)
    fewest, ends, out = uncounted(fewest), uncounted(ends), uncounted(out)
    count = texts.bytes.shape[0]
    k = 0
    while k < rows.shape[0]:
        row = rows[k]
        start, i, kind = k, row.instrument, row.kind
        k += 1
        if i < 0:
            continue
        if kind == _DEPTH:
            k = _end_of_depth(rows, start)
            state.book_feed[i] = row.feed
            if row.flags & CLEAR:
                state.stands[i] = 1
            file = DEPTH * count + i
            if wanted[file]:
                ends[file] = _put_depth(out, ends[file], rows, start, k, texts, state.stands[i] != 0)
                state.lines[file] += 1
        elif kind == _TRADE:
            file = TRADES * count + i
            if wanted[file]:
                ends[file] = _put_trade(out, ends[file], row, texts, _is_proven(row, state))
                state.lines[file] += 1
            state.trade_id[i] = row.sequence
        elif kind == _GAP:
            state.stands[i] = 0
            file = DEPTH * count + i
            if wanted[file]:
                ends[file] = _put_gap(out, ends[file], row, texts)
                state.lines[file] += 1
        elif kind in (_MARK, _INDEX, _FUNDING, _OPEN_INTEREST):
            _note_funding(row, state)
            file = FUNDING * count + i
            if row.flags & LAST and state.is_news[i]:
                state.is_news[i] = 0
                if wanted[file] and _is_known(state, i):
                    end = _put_funding(out, ends[file], row, texts, state, fewest[i])
                    state.lines[file] += end > ends[file]
                    ends[file] = end


@inner
def _is_proven(trade, state):
    """Whether nothing can be missing before a trade: by its id, or, where there is none to compare, by the standing book of
    the same connection."""
    i = trade.instrument
    if state.trade_id[i] > 0:
        return trade.sequence == state.trade_id[i] + 1
    return state.stands[i] != 0 and state.book_feed[i] == trade.feed


@inner
def _note_funding(row, state):
    """What a venue leaves out is unchanged: a rate of NaN, a next time of 0."""
    i, kind = row.instrument, row.kind
    if kind == _OPEN_INTEREST:
        return
    state.is_news[i] = 1
    if kind == _MARK:
        state.mark_price[i] = row.value
    elif kind == _INDEX:
        state.index_price[i] = row.value
    else:
        if not np.isnan(row.value):
            state.rate[i] = row.value
        if row.sequence != 0:
            state.next_ns[i] = row.sequence


@inner
def _is_known(state, i):
    return not np.isnan(state.mark_price[i] + state.index_price[i] + state.rate[i]) and state.next_ns[i] != 0
