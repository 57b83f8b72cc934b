"""Bars: open, high, low, close and volume from the trades of a tape, with the book as it stood when the bar ended.

A bar is named by its start. Trades are put on the clock of the *venue* wherever the instrument's first trade carries its
time, so that a bar holds what the venue's own candle of that minute holds, whatever our network and our clock did; an
instrument whose trades come without a time is put on receive time. A trade that arrives late still counts in its own bar.

The book is sampled in order of *receipt*: a time bar's bid and ask are those that stood when the first row arrived whose
time (on the same clock) is past the bar's end, a volume bar's those that stood when its last trade arrived. So no bar
shows a book that was made of what was received after it. A book that is invalid (after a GAP) has no bid and no ask.

A time bar without trades repeats the last close with volume 0, from the first trade of the instrument on. Volume and
dollar bars close with the trade that reaches the amount; a trade is never split. The last bar of an instrument ends with
the session, finished or not."""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from enum import IntEnum
from typing import NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.books import Books, apply_rows, make_books
from oneprice.compute.inner import inner
from oneprice.compute.uncounted import uncounted
from oneprice.model.errors import InputError, SessionError
from oneprice.model.instrument import Instrument, InstrumentTable, exponent_of
from oneprice.model.tape import Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S

Ints = NDArray[np.int64]

DEFAULT_BAR = "1m"
_UNITS_NS = {
    "ms": NS_PER_MS, "s": NS_PER_S, "m": 60 * NS_PER_S, "h": 3600 * NS_PER_S, "d": 86400 * NS_PER_S,
}  # fmt: skip
_TIME = re.compile(r"(\d+)(ms|s|m|h|d)")
_AMOUNT = re.compile(r"(volume|dollar):(\d+(?:\.\d+)?)")
_EXAMPLES = "give a time (1s, 15s, 1m, 1h), volume:10 (base units) or dollar:100000 (quote units)"
_MOST_BARS = 50_000_000
_INVERSE_DECIMALS = 8  # of a base amount that only a division tells
_LIMIT = 2**62

_DEPTH, _QUOTE, _TRADE = int(Kind.DEPTH), int(Kind.QUOTE), int(Kind.TRADE)


class BarKind(IntEnum):
    TIME = 0
    VOLUME = 1
    DOLLAR = 2


_BY_TIME, _BY_DOLLAR = int(BarKind.TIME), int(BarKind.DOLLAR)


class BarRule(msgspec.Struct, frozen=True):
    """When a bar ends: with the grid of `interval_ns`, or once `amount` (base units, or quote units) was traded."""

    kind: BarKind
    interval_ns: int = 0
    amount: Decimal = Decimal(0)


def parse_bar(text: str) -> BarRule:
    """A rule from its name. InputError for what names none.

    >>> parse_bar("15s").interval_ns
    15000000000
    >>> parse_bar("dollar:100000").amount
    Decimal('100000')
    """
    if (time := _TIME.fullmatch(text)) and (interval_ns := int(time[1]) * _UNITS_NS[time[2]]) > 0:
        return BarRule(BarKind.TIME, interval_ns=interval_ns)
    if (traded := _AMOUNT.fullmatch(text)) and (amount := Decimal(traded[2])) > 0:
        return BarRule(BarKind[traded[1].upper()], amount=amount)
    raise InputError(f"--bar '{text}': not a bar; {_EXAMPLES}")


class Bars(NamedTuple):
    """The bars of one instrument, a value a bar. Prices are mantissas of the instrument; bid and ask 0: there was none."""

    start_ns: Ints
    open: Ints
    high: Ints
    low: Ints
    close: Ints
    volume: Ints  # base units, at `volume_exponent`
    trades: Ints
    bid: Ints
    ask: Ints
    volume_exponent: int


# A run of trades that belongs to one bar. Late trades make a bar of several parts; `_reduced` puts them together.
_PART = np.dtype(
    [(name, "<i8") for name in ("instrument", "bar", "start_ns", "open", "high", "low", "close", "volume", "trades")]
)
_SAMPLE = np.dtype([(name, "<i8") for name in ("instrument", "bar", "bid", "ask")])


class _State(NamedTuple):
    """What a pass over the rows carries from chunk to chunk, by instrument."""

    clock_ns: Ints  # the furthest time seen since the first trade; 0 before it
    by_venue: NDArray[np.uint8]  # the clock is the venue's
    growing: NDArray[np.void]  # the part that trades are added to; without trades: there is none
    value: Ints  # its trades in quote units (dollar bars)


class _Units(NamedTuple):
    """What turns a trade's mantissas into base and quote units, exactly, by instrument."""

    multiplier: Ints  # mantissa of the contract multiplier
    inverse: NDArray[np.uint8]
    inverse_scale: Ints
    threshold: Ints  # a bar's amount in base or quote units; 0 for time bars


@inner
def _base_amount(units, i, price, qty):
    """A trade's size in base units (at the volume's exponent), an inverse contract's to the nearest. -1: too large."""
    amount = qty * units.multiplier[i]
    if units.inverse[i] == 0:
        return amount
    scale = units.inverse_scale[i]
    whole, rest = amount // price, amount % price
    if whole > _LIMIT // scale or rest > _LIMIT // (2 * scale):
        return np.int64(-1)
    return whole * scale + (2 * rest * scale + price) // (2 * price)


@inner
def _quote_amount(units, i, price, qty):
    """A trade's value in quote units (at the value's exponent). -1: too large."""
    amount = qty * units.multiplier[i]
    if units.inverse[i] == 1:
        return amount
    return amount * price if amount <= _LIMIT // price else np.int64(-1)


@inner
def _sample(books, i, bar, sample):
    sample.instrument, sample.bar = i, bar
    sample.bid, sample.ask = books.best_bid[i], books.best_ask[i]


@njit(cache=True)
def _pass(books, rows, state, units, kind, interval_ns, parts, samples):
    """Take rows in. → (parts that ended, samples of the book, index of a trade that is too large or -1)."""
    books, rows = uncounted(books), uncounted(rows)
    clock_ns, by_venue, growing, value = state
    n_parts, n_samples, applied = 0, 0, 0
    for k in range(rows.shape[0]):
        row = rows[k]
        i = row.instrument
        is_trade = row.kind == _TRADE
        if not is_trade and (row.kind not in (_DEPTH, _QUOTE) or clock_ns[i] == 0):
            continue
        if clock_ns[i] == 0:
            by_venue[i] = 1 if row.ts_venue_ns != 0 else 0
        now_ns = row.ts_venue_ns if by_venue[i] == 1 else row.ts_recv_ns
        if now_ns == 0:
            now_ns = clock_ns[i]  # a row without a time among others that have one
        if now_ns > clock_ns[i]:
            if kind == _BY_TIME and clock_ns[i] != 0 and now_ns // interval_ns > clock_ns[i] // interval_ns:
                apply_rows(books, rows, applied, k)
                applied = k
                _sample(books, i, clock_ns[i] // interval_ns, samples[n_samples])
                n_samples += 1
            clock_ns[i] = now_ns
        if not is_trade:
            continue
        price = row.price
        base = _base_amount(units, i, price, row.qty) if price > 0 else np.int64(-1)
        quote = _quote_amount(units, i, price, row.qty) if price > 0 and kind == _BY_DOLLAR else np.int64(0)
        if base < 0 or quote < 0:
            return n_parts, n_samples, k
        part = growing[i]
        if kind == _BY_TIME and part.trades != 0 and part.bar != now_ns // interval_ns:
            parts[n_parts] = part
            n_parts += 1
            part.trades = 0
        if part.trades == 0:
            part.start_ns = now_ns
            if kind == _BY_TIME:
                part.bar = now_ns // interval_ns
                part.start_ns = part.bar * interval_ns
            part.open, part.high, part.low, part.volume, value[i] = price, price, price, 0, 0
        part.high, part.low, part.close = max(part.high, price), min(part.low, price), price
        part.volume += base
        part.trades += 1
        value[i] += quote
        if kind != _BY_TIME and (value[i] if kind == _BY_DOLLAR else part.volume) >= units.threshold[i]:
            apply_rows(books, rows, applied, k)
            applied = k
            _sample(books, i, part.bar, samples[n_samples])
            n_samples += 1
            parts[n_parts] = part
            n_parts += 1
            part.trades = 0
            part.bar += 1
    apply_rows(books, rows, applied, rows.shape[0])
    return n_parts, n_samples, -1


class BarMaker:
    """Makes bars of the rows it is given, however they are cut into chunks. `finish` gives them, by instrument.

    InputError for an amount that no integer of an instrument's units holds, SessionError for such a trade.
    """

    def __init__(self, instruments: InstrumentTable, rule: BarRule) -> None:
        self._instruments, self._rule = instruments, rule
        count = len(instruments)
        self._books: Books = make_books(count)
        self._state = _State(
            clock_ns=np.zeros(count, dtype=np.int64),
            by_venue=np.zeros(count, dtype=np.uint8),
            growing=np.zeros(count, dtype=_PART),
            value=np.zeros(count, dtype=np.int64),
        )
        self._state.growing["instrument"] = np.arange(count)
        self._units = _units_of(instruments, rule)
        self._parts: list[NDArray[np.void]] = []
        self._samples: list[NDArray[np.void]] = []

    def take(self, rows: Rows) -> None:
        """Take the next rows of the tape in."""
        parts, samples = np.empty(len(rows), dtype=_PART), np.empty(len(rows), dtype=_SAMPLE)
        n_parts, n_samples, refused = _pass(
            self._books, rows, self._state, self._units, int(self._rule.kind), self._rule.interval_ns, parts, samples
        )
        if refused >= 0:
            row = rows[refused]
            raise SessionError(
                f"{self._instruments[int(row['instrument'])].key}: trade {int(row['sequence'])} of {int(row['qty'])} at "
                f"{int(row['price'])} (mantissas) cannot be put into a bar"
            )
        self._parts.append(parts[:n_parts].copy())
        self._samples.append(samples[:n_samples].copy())

    def gaps(self, instrument: int) -> int:
        """Gaps of an instrument so far."""
        return int(self._books.gaps[instrument])

    def finish(self) -> list[Bars]:
        """The bars of every instrument, in the order of the table; without trades: no bars."""
        growing = self._state.growing
        parts = np.concatenate([*self._parts, growing[growing["trades"] > 0]])
        ends = np.zeros(len(growing), dtype=_SAMPLE)
        ends["instrument"], ends["bar"] = growing["instrument"], growing["bar"]
        if self._rule.kind is BarKind.TIME:
            ends["bar"] = self._state.clock_ns // self._rule.interval_ns
        ends["bid"], ends["ask"] = self._books.best_bid, self._books.best_ask
        samples = np.concatenate([*self._samples, ends])
        return [
            self._bars_of(i, instrument, parts[parts["instrument"] == i], samples[samples["instrument"] == i])
            for i, instrument in enumerate(self._instruments)
        ]

    def _bars_of(self, i: int, instrument: Instrument, parts: NDArray[np.void], samples: NDArray[np.void]) -> Bars:
        bars = _whole(parts)
        if self._rule.kind is BarKind.TIME and len(bars):
            last = int(self._state.clock_ns[i]) // self._rule.interval_ns
            bars = _with_quiet_ones(bars, last, self._rule.interval_ns, instrument)
        place = np.searchsorted(samples["bar"], bars["bar"], side="right") - 1
        seen = place >= 0  # a late trade may open a bar that ended before the book was first sampled
        return Bars(
            **{name: bars[name].copy() for name in ("start_ns", "open", "high", "low", "close", "volume", "trades")},
            bid=np.where(seen, samples["bid"][place], 0),
            ask=np.where(seen, samples["ask"][place], 0),
            volume_exponent=_volume_exponent(instrument),
        )


def _whole(parts: NDArray[np.void]) -> NDArray[np.void]:
    """One bar for each number among the parts, which are in order of receipt."""
    parts = parts[np.argsort(parts["bar"], kind="stable")]
    _, first = np.unique(parts["bar"], return_index=True)
    bars = parts[first].copy()
    if len(bars):
        bars["close"] = parts["close"][np.append(first[1:], len(parts)) - 1]
        for name, together in (("high", np.maximum), ("low", np.minimum), ("volume", np.add), ("trades", np.add)):
            bars[name] = together.reduceat(parts[name], first)
    return bars


def _with_quiet_ones(bars: NDArray[np.void], last: int, interval_ns: int, instrument: Instrument) -> NDArray[np.void]:
    """The bars up to number `last`, with those that saw no trade between them."""
    first = int(bars["bar"][0])
    if last - first >= _MOST_BARS:
        raise InputError(
            f"{instrument.key}: {last - first + 1:,} bars lie between its first and its last row; choose longer ones"
        )
    numbers = np.arange(first, last + 1)
    place = np.searchsorted(bars["bar"], numbers, side="right") - 1
    every = bars[place]
    is_quiet = every["bar"] != numbers
    for name in ("open", "high", "low"):
        every[name][is_quiet] = every["close"][is_quiet]
    for name in ("volume", "trades"):
        every[name][is_quiet] = 0
    every["bar"], every["start_ns"] = numbers, numbers * interval_ns
    return every


def _multiplier_exponent(instrument: Instrument) -> int:
    return exponent_of(instrument.contract_multiplier)


def _volume_exponent(instrument: Instrument) -> int:
    exponent = instrument.qty_exponent + _multiplier_exponent(instrument)
    return min(exponent - instrument.price_exponent, -_INVERSE_DECIMALS) if instrument.inverse else exponent


def _units_of(instruments: InstrumentTable, rule: BarRule) -> _Units:
    count = len(instruments)
    units = _Units(
        multiplier=np.ones(count, dtype=np.int64),
        inverse=instruments.column("inverse", "u1"),
        inverse_scale=np.ones(count, dtype=np.int64),
        threshold=np.zeros(count, dtype=np.int64),
    )
    for i, one in enumerate(instruments):
        exponent = one.qty_exponent + _multiplier_exponent(one)  # of a quantity times the multiplier
        units.multiplier[i] = int(one.contract_multiplier.scaleb(-_multiplier_exponent(one)))
        if one.inverse:
            units.inverse_scale[i] = 10 ** (exponent - one.price_exponent - _volume_exponent(one))
        if rule.kind is BarKind.TIME:
            continue
        if rule.kind is BarKind.VOLUME:
            exponent = _volume_exponent(one)
        elif not one.inverse:
            exponent += one.price_exponent
        threshold = int(rule.amount.scaleb(-exponent).to_integral_value(rounding=ROUND_CEILING))
        if threshold > _LIMIT:
            raise InputError(f"--bar: {rule.amount} is more than a bar of {one.key} can count; {_EXAMPLES}")
        units.threshold[i] = threshold
    return units
