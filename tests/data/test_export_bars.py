"""Bars hold what a plain count of the tape holds, whatever its chunks; OHLCV of real traffic is what pandas makes of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd
import pytest
from export_world import WORLD, PlainBook, cut_up, random_tape, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from session_world import T0_NS, some_rows, spot

from oneprice.data.export.bars import BarKind, BarMaker, BarRule, Bars, parse_bar
from oneprice.model.errors import InputError, SessionError
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.tape import ASK, Kind, Rows
from oneprice.model.time import NS_PER_S

RULES = ("250ms", "1s", "1m", "volume:3", "volume:0.5", "dollar:300", "dollar:2000")
# start_ns, open, high, low, close, volume in base units, trades, bid, ask
Plain = tuple[int, int, int, int, int, Fraction, int, int, int]


def bars_of(chunks: Iterable[Rows], instruments: InstrumentTable, rule: str) -> list[Bars]:
    maker = BarMaker(instruments, parse_bar(rule))
    for chunk in chunks:
        maker.take(chunk)
    return maker.finish()


def plain(bars: Bars) -> list[Plain]:
    volume = [Fraction(value) * Fraction(10) ** bars.volume_exponent for value in bars.volume.tolist()]
    columns = (bars.start_ns, bars.open, bars.high, bars.low, bars.close)
    return list(
        zip(*(one.tolist() for one in columns), volume, bars.trades.tolist(), bars.bid.tolist(), bars.ask.tolist(), strict=True)
    )  # fmt: skip


def amounts(instrument: Instrument, price: int, qty: int) -> tuple[Fraction, Fraction]:
    """A trade in base and in quote units."""
    at, size = (
        Fraction(instrument.price(price)),
        Fraction(instrument.qty(qty)) * Fraction(instrument.contract_multiplier),
    )
    return (size / at, size) if instrument.inverse else (size, size * at)


def counted(tape: Rows, i: int, instrument: Instrument, rule: BarRule) -> list[Plain]:
    """The bars as one would count them by hand, trade by trade."""
    book, clock_ns, is_by_venue = PlainBook(), 0, None
    trades: list[tuple[int, int, Fraction, int, int]] = []  # time, price, base units, bid, ask
    done: list[list[tuple[int, int, Fraction, int, int]]] = []
    passed: list[tuple[int, int, int]] = []  # each time that the clock left a bar: its new time, the best prices before
    amount = Fraction(0)
    step_ns = rule.interval_ns or 1
    for kind, flags, price, qty, recv_ns, venue_ns, _ in rows_of(tape, i):
        if kind == Kind.TRADE and is_by_venue is None:
            is_by_venue = venue_ns != 0
        if is_by_venue is not None and kind in (Kind.TRADE, Kind.DEPTH, Kind.QUOTE):
            now_ns = (venue_ns or clock_ns) if is_by_venue else recv_ns
            then_ns, clock_ns = clock_ns, max(clock_ns, now_ns)
            if rule.kind is BarKind.TIME and then_ns // step_ns < clock_ns // step_ns:
                passed.append((clock_ns, book.naive.best(0), book.naive.best(1)))
            if kind == Kind.TRADE:
                base, quote = amounts(instrument, price, qty)
                best = (0, 0) if rule.kind is BarKind.TIME else (book.naive.best(0), book.naive.best(1))
                trades.append((now_ns, price, base, *best))
                amount += base if rule.kind is BarKind.VOLUME else quote
                if rule.kind is not BarKind.TIME and amount >= Fraction(rule.amount):
                    done.append(trades)
                    trades, amount = [], Fraction(0)
        book.take(kind, flags, price, qty)
    now = book.naive.best(0), book.naive.best(1)
    if rule.kind is not BarKind.TIME:
        made = [bar(one[0][0], one, (one[-1][3], one[-1][4])) for one in done]
        return made + ([bar(trades[0][0], trades, now)] if trades else [])
    if not trades:
        return []
    made = []
    for number in range(min(trade[0] for trade in trades) // step_ns, clock_ns // step_ns + 1):
        inside = [trade for trade in trades if trade[0] // step_ns == number]
        best = next(((bid, ask) for then_ns, bid, ask in passed if then_ns >= (number + 1) * step_ns), now)
        if number < passed[0][0] // step_ns:
            best = (0, 0)  # it ended before the first trade came
        close = made[-1][4] if made else 0
        made.append(bar(number * step_ns, inside or [(0, close, Fraction(0), 0, 0)], best, trades=len(inside)))
    return made


def bar(
    start_ns: int, of: Sequence[tuple[int, int, Fraction, int, int]], best: tuple[int, int], trades: int | None = None
) -> Plain:
    prices = [trade[1] for trade in of]
    volume = sum((trade[2] for trade in of), Fraction(0))
    count = len(of) if trades is None else trades
    return (start_ns, prices[0], max(prices), min(prices), prices[-1], volume, count, *best)


def same(found: list[Plain], expected: list[Plain], smallest: Fraction) -> None:
    """Equal; a volume that only a division tells may be rounded by half a unit a trade."""
    assert [one[:5] + one[6:] for one in found] == [one[:5] + one[6:] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert abs(one[5] - other[5]) <= smallest * one[6] / 2


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), rule=st.sampled_from(RULES))
def test_bars_are_what_a_plain_count_gives(seed, rule) -> None:
    tape = random_tape(seed)
    for i, (instrument, bars) in enumerate(zip(WORLD, bars_of([tape], WORLD, rule), strict=True)):
        smallest = Fraction(10) ** bars.volume_exponent if instrument.inverse else Fraction(0)
        same(plain(bars), counted(tape, i, instrument, parse_bar(rule)), smallest)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), rule=st.sampled_from(RULES), places=st.lists(st.integers(0, 10_000), max_size=20))
def test_however_the_tape_is_cut_the_bars_are_the_same(seed, rule, places) -> None:
    tape = random_tape(seed, messages=200)
    whole, pieces = bars_of([tape], WORLD, rule), bars_of(cut_up(tape, places), WORLD, rule)
    assert [plain(bars) for bars in whole] == [plain(bars) for bars in pieces]


def test_a_tape_of_trades_makes_bars_on_the_grid() -> None:
    rows = some_rows([T0_NS + k * NS_PER_S for k in (0, 1, 2, 7)])
    (bars,) = bars_of([rows], InstrumentTable([spot()]), "2s")
    assert bars.start_ns.tolist() == [T0_NS + k * NS_PER_S for k in (0, 2, 4, 6)]
    assert bars.close.tolist() == [101, 102, 102, 103]
    assert bars.volume.tolist() == [14, 7, 0, 7]
    assert bars.trades.tolist() == [2, 1, 0, 1]


def test_without_a_trade_there_is_no_bar() -> None:
    rows = some_rows([T0_NS, T0_NS + NS_PER_S], kind=Kind.QUOTE)
    (bars,) = bars_of([rows], InstrumentTable([spot()]), "1s")
    assert len(bars.close) == 0


def test_a_trade_without_a_price_is_refused_by_name() -> None:
    rows = some_rows([T0_NS])
    rows["price"] = 0
    with pytest.raises(SessionError, match="binance_spot:BTCUSDT: trade 0"):
        bars_of([rows], InstrumentTable([spot()]), "1s")


@pytest.mark.parametrize(
    "text", ["", "1", "0s", "-1s", "1.5s", "1w", "volume", "volume:0", "volume:-1", "dollar:x", "tick:5"]
)
def test_what_names_no_bar_is_refused_with_examples(text) -> None:
    with pytest.raises(InputError, match=r"volume:10 .*dollar:100000"):
        parse_bar(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("1s", BarRule(BarKind.TIME, interval_ns=NS_PER_S)),
        ("15m", BarRule(BarKind.TIME, interval_ns=900 * NS_PER_S)),
        ("1h", BarRule(BarKind.TIME, interval_ns=3600 * NS_PER_S)),
        ("volume:0.5", BarRule(BarKind.VOLUME, amount=Decimal("0.5"))),
        ("dollar:100000", BarRule(BarKind.DOLLAR, amount=Decimal(100_000))),
    ],
)
def test_a_bar_has_a_name(text, rule) -> None:
    assert parse_bar(text) == rule


@pytest.mark.parametrize(("rule", "step"), [("1s", "1s"), ("1m", "1min")])
def test_real_bars_are_those_of_pandas(imported, rule, step) -> None:
    instruments = imported.session.instruments
    tape = list(imported.session.rows())
    bars = bars_of(tape, instruments, rule)
    for i, instrument in enumerate(instruments):
        rows = np.concatenate([chunk[(chunk["instrument"] == i) & (chunk["kind"] == Kind.TRADE)] for chunk in tape])
        assert len(rows) > 2_000
        trades = pd.DataFrame({name: rows[name] for name in ("price", "qty")})
        trades.index = pd.to_datetime(rows["ts_venue_ns"])
        grid = trades["price"].resample(step)
        expected = grid.ohlc()
        expected["close"] = expected["close"].ffill()
        for name in ("open", "high", "low"):
            expected[name] = expected[name].fillna(expected["close"])
        base = trades["qty"].astype(float) * float(instrument.contract_multiplier) * instrument.qty_scale
        if instrument.inverse:
            base /= trades["price"] * instrument.price_scale
        found = pd.DataFrame({name: getattr(bars[i], name) for name in ("open", "high", "low", "close")}, dtype=float)
        found.index = pd.to_datetime(bars[i].start_ns)
        volume = pd.Series(bars[i].volume * 10.0 ** bars[i].volume_exponent, index=found.index)
        # Quotes may go on after the last trade: then so do the bars, and pandas's end with the trades.
        quiet = found.loc[found.index > expected.index[-1]]
        assert (quiet == expected["close"].iloc[-1]).all(axis=None)
        pd.testing.assert_frame_equal(found.loc[expected.index], expected.astype(float), check_freq=False)
        # What a division tells is rounded by at most half a unit a trade; the rest is floating point's.
        unit = 10.0 ** bars[i].volume_exponent if instrument.inverse else 0.0
        off = (volume[expected.index] - base.resample(step).sum()).abs()
        assert (off <= unit / 2 * grid.count() + 1e-9).all()
        assert volume[quiet.index].sum() == 0
        assert bars[i].trades.sum() == len(rows)


def test_real_bars_end_with_the_book_of_a_plain_count(imported) -> None:
    instruments = imported.session.instruments
    i = instruments.index("binance_spot", "BTCUSDT")
    tape = np.concatenate([chunk[chunk["instrument"] == i] for chunk in imported.session.rows()])
    bars = bars_of([tape], instruments, "1s")[i]
    assert plain(bars) == counted(tape, i, instruments[i], parse_bar("1s"))
    assert ((bars.bid > 0) & (bars.bid < bars.ask)).mean() > 0.99
    assert (tape["flags"][tape["kind"] == Kind.TRADE] & ASK).any()
