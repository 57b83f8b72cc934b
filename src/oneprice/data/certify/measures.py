"""How good a tape is, told by the tape itself, in one compiled pass (`measures_pass.py`) that reads it once.

    measuring = Measuring(session.instruments)
    for rows in session.rows():
        measuring.add(rows)
    measures = measuring.result()          # the same as measure(session)

Chunks may end anywhere; the result is the same. What is measured by time (spread, silences, coverage) is measured in receive
time, because that is when this machine knew it: a spread counts for as long as it stood, so a burst of messages weighs no
more than the moment it took, and a book that is invalid or crossed has none."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

from oneprice.compute.books import make_books
from oneprice.data.certify import measures_pass as passed
from oneprice.data.certify.measures_clock import ClockMeasures, clock_measures
from oneprice.data.certify.measures_histogram import Seen, seen, seen_signed
from oneprice.data.certify.names import session_names
from oneprice.data.messages import whole_messages
from oneprice.data.session import Session, joined
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.tape import ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS
from oneprice.venues.registry import venue

# A trade may come behind the book that it moved: what the market moves in the few milliseconds between two streams is far
# less than this even on the wildest days.
TRADE_TOLERANCE_BPS = 10.0
_CLOCK = int(Kind.CLOCK)
_FIRST_CAPACITY = 1 << 10
_LOW = 0.001  # the quantile that stands for the quickest message: one false venue time would decide the minimum
_NONE: Rows = np.zeros(0, dtype=ROW)


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """One update id at which book and quote differ."""

    update_id: int
    book: tuple[str, str, str, str]  # bid, bid size, ask, ask size
    quote: tuple[str, str, str, str]


class SymbolMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """What the tape says of one instrument. None: there was nothing to measure it on. Times are receive times in ns."""

    instrument: str  # its key
    symbol: str  # its name in the session (`names.py`)
    rows: int
    messages: int  # of depth, snapshots among them
    snapshots: int
    unjoined: int  # depth messages that came without a book to belong to
    disordered: int  # depth messages whose id is not above the one before
    gaps: int
    quotes: int
    trades: int
    trades_numbered: int  # with an id that can be compared
    trades_duplicate: int  # ids seen before: exact over the whole tape
    trades_late: int  # ids below one seen before, and new
    trades_checked: int  # that could be held against a book
    trades_outside: int  # bought below the best bid or sold above the best ask, of every book within a second
    trade_outside_bps_max: float | None  # how far the worst one was when it came; 0.0: none was outside
    crossed: int  # messages after which bid > ask
    crossed_intervals: int  # runs of at least two of them
    crossed_longest_ns: int
    locked: int  # messages after which bid = ask
    spread_bps_p50: float | None  # weighted by time; 0.05 % exact
    spread_bps_p95: float | None
    depth_levels_p50: int | None  # of the side with fewer levels, once a second
    depth_reach_bps_p50: float | None  # how far the side that reaches less is filled, once a second
    depth_silence_ns: int  # longest time without depth, the session's beginning and end counted in
    data_silence_ns: int  # the same of anything that streams
    bbo_compared: int  # update ids at which both the book and the venue's quote are known
    bbo_agreement: float | None  # share of them at which both say the same
    bbo_disagreements: tuple[Disagreement, ...]  # the first ones
    clock_offset_ms: float | None  # local − venue, with the quickest message's one-way delay in it
    latency_ms_p50: float | None  # receive − venue time of a message, less the offset that `latency_basis` names
    latency_ms_p99: float | None
    latency_basis: str  # "probed": the venue's clock was asked; "one_way": over the quickest message; "": unknown
    first_ns: int  # 0 without rows
    last_ns: int


class SessionMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """A whole tape: all instruments in order of their keys, every venue's clock, first and last receive time (0: no rows)."""

    rows: int
    from_ns: int
    until_ns: int
    symbols: tuple[SymbolMeasures, ...]
    clocks: tuple[ClockMeasures, ...]

    def clock_of(self, one: SymbolMeasures) -> ClockMeasures:
        """The clock that an instrument's venue times are of."""
        name = one.instrument.partition(":")[0]
        return next(clock for clock in self.clocks if clock.venue == name)


class Measuring:
    """Takes a tape chunk by chunk. What was cut off in the middle of a message is left out."""

    def __init__(self, instruments: InstrumentTable, *, trade_tolerance_bps: float = TRADE_TOLERANCE_BPS) -> None:
        self._instruments = instruments
        self._tolerance_bps = trade_tolerance_bps
        self._books = make_books(len(instruments))
        self._tally: passed.Tally | None = None  # from the first row on, when the session begins
        self._clock_rows: list[Rows] = []
        self._held = _NONE  # of a message that has not ended yet
        self._rows = 0
        self._from_ns = 0
        self._until_ns = 0

    def add(self, chunk: Rows) -> None:
        """Look at the next rows of the tape."""
        rows = next(whole_messages((self._held, chunk)), _NONE)
        if len(rows) == 0:
            self._held = joined((self._held, chunk))
            return
        self._held = chunk[len(rows) - len(self._held) :].copy()  # so that few rows do not keep a chunk alive
        tally = self._tally
        if tally is None:
            self._from_ns = int(rows[0]["ts_recv_ns"])
            tally = self._begin(self._from_ns)
        self._tally = passed.with_room(tally, len(rows))
        passed.look(self._books, self._tally, rows, self._tolerance_bps)
        clocks = rows[(rows["kind"] == _CLOCK) & (rows["instrument"] >= 0)]
        if len(clocks):
            self._clock_rows.append(clocks)
        self._rows += len(rows)
        self._until_ns = int(rows[-1]["ts_recv_ns"])

    def result(self) -> SessionMeasures:
        """What all rows so far say, as if the tape ended with them. It may go on afterwards: looking changes nothing."""
        tally = passed.ended(self._tally or self._begin(0), self._until_ns)
        clocks = clock_measures(self._instruments, joined(self._clock_rows) if self._clock_rows else _NONE)
        offsets = {clock.venue: clock.offset_ms for clock in clocks}
        names = session_names(self._instruments)
        return SessionMeasures(
            rows=self._rows,
            from_ns=self._from_ns,
            until_ns=self._until_ns,
            symbols=tuple(
                _symbol(i, one, names[i], tally, int(self._books.gaps[i]), offsets[one.venue])
                for i, one in enumerate(self._instruments)
            ),
            clocks=clocks,
        )

    def _begin(self, began_ns: int) -> passed.Tally:
        # Where a book begins in the stream itself, its ids count that stream's messages and compare with nothing else.
        numbered = np.array([venue(one.venue).sequencing.joins_rest for one in self._instruments], dtype=np.uint8)
        return passed.make_tally(numbered, began_ns=began_ns, capacity=_FIRST_CAPACITY)


def measure(session: Session, *, trade_tolerance_bps: float = TRADE_TOLERANCE_BPS) -> SessionMeasures:
    """The measures of a session's tape. DamagedSegment where it is damaged."""
    measuring = Measuring(session.instruments, trade_tolerance_bps=trade_tolerance_bps)
    for rows in session.rows():
        measuring.add(rows)
    return measuring.result()


def _symbol(
    i: int, instrument: Instrument, name: str, tally: passed.Tally, gaps: int, probed_ms: float | None
) -> SymbolMeasures:
    counts, now = tally.counts[i].tolist(), tally.now[i].tolist()
    spread = seen(tally.spread[i], passed.SPREAD_BITS)
    reach = seen(tally.reach[i], passed.REACH_BITS)
    delays = seen_signed(tally.latency[i, 0], tally.latency[i, 1], passed.LATENCY_BITS)
    anchor_ns = now[passed.ANCHOR]
    quickest_ms = _delay_ms(delays, anchor_ns, _LOW)
    offset_ms = probed_ms if probed_ms is not None else quickest_ms
    basis = "" if quickest_ms is None else "one_way" if probed_ms is None else "probed"
    compared, agreed = counts[passed.COMPARED], counts[passed.AGREED]
    return SymbolMeasures(
        instrument=instrument.key,
        symbol=name,
        rows=counts[passed.ROWS],
        messages=counts[passed.MESSAGES],
        snapshots=counts[passed.SNAPSHOTS],
        unjoined=counts[passed.UNJOINED],
        disordered=counts[passed.DISORDERED],
        gaps=gaps,
        quotes=counts[passed.QUOTES],
        trades=counts[passed.TRADES],
        trades_numbered=counts[passed.NUMBERED_TRADES],
        trades_duplicate=counts[passed.DUPLICATES],
        trades_late=counts[passed.LATE],
        trades_checked=counts[passed.TRADES_CHECKED],
        trades_outside=counts[passed.TRADES_OUTSIDE],
        trade_outside_bps_max=round(float(tally.beyond[i]), 6) if counts[passed.TRADES_CHECKED] else None,
        crossed=counts[passed.CROSSED],
        crossed_intervals=counts[passed.CROSSED_INTERVALS],
        crossed_longest_ns=counts[passed.CROSSED_LONGEST],
        locked=counts[passed.LOCKED],
        spread_bps_p50=_units(spread, 0.50, passed.SPREAD_UNITS),
        spread_bps_p95=_units(spread, 0.95, passed.SPREAD_UNITS),
        depth_levels_p50=seen(tally.levels[i], passed.LEVELS_BITS).quantile(0.5),
        depth_reach_bps_p50=_units(reach, 0.50, passed.REACH_UNITS),
        depth_silence_ns=counts[passed.DEPTH_SILENCE],
        data_silence_ns=counts[passed.DATA_SILENCE],
        bbo_compared=compared,
        bbo_agreement=agreed / compared if compared else None,
        bbo_disagreements=_disagreements(instrument, tally.differences[i], compared - agreed),
        clock_offset_ms=quickest_ms,
        latency_ms_p50=_over(_delay_ms(delays, anchor_ns, 0.50), offset_ms),
        latency_ms_p99=_over(_delay_ms(delays, anchor_ns, 0.99), offset_ms),
        latency_basis=basis,
        first_ns=now[passed.FIRST],
        last_ns=now[passed.LAST_ROW],
    )


def _units(found: Seen, q: float, units: float) -> float | None:
    value = found.quantile(q)
    return None if value is None else value / units


def _delay_ms(delays: Seen, anchor_ns: int, q: float) -> float | None:
    """A quantile of receive − venue time, both clocks as they are."""
    value = delays.quantile(q)
    return None if value is None else round((anchor_ns + value * passed.LATENCY_UNIT_NS) / NS_PER_MS, 3)


def _over(delay_ms: float | None, offset_ms: float | None) -> float | None:
    return None if delay_ms is None or offset_ms is None else round(delay_ms - offset_ms, 3)


def _disagreements(instrument: Instrument, found: NDArray[np.int64], count: int) -> tuple[Disagreement, ...]:
    return tuple(
        Disagreement(
            update_id=int(line[0]),
            book=_as_text(instrument, line[1 : 1 + passed.TOP]),
            quote=_as_text(instrument, line[1 + passed.TOP :]),
        )
        for line in found[: min(count, passed.SHOWN)]
    )


def _as_text(instrument: Instrument, top: NDArray[np.int64]) -> tuple[str, str, str, str]:
    bid, bid_qty, ask, ask_qty = top.tolist()
    return (
        str(instrument.price(bid)),
        str(instrument.qty(bid_qty)),
        str(instrument.price(ask)),
        str(instrument.qty(ask_qty)),
    )
