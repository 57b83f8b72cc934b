"""A session in numbers that fit on a screen: every instrument on one grid of time buckets, its gaps, its latencies.

Nothing is thinned out silently: of what a bucket holds, the lowest and the highest value are kept beside the last one or the
median, so a spike of a single message stays visible however long the session was. The pass itself is in `samples_pass.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from oneprice.compute.books import make_books
from oneprice.data.certify.gaps import GapEntry, GapLedger
from oneprice.data.certify.names import session_names
from oneprice.data.clock_offset import ClockOffset, one_way_offset_ms
from oneprice.data.export.samples_pass import (
    CELLS,
    LOW,
    Floats,
    Grid,
    Ints,
    cell_floor,
    fill,
    finish,
    make_grid,
    quantile,
)
from oneprice.data.messages import whole_messages
from oneprice.data.session import Session, joined
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.tape import Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S

BUCKETS = 480
_MINUTE_NS = 60 * NS_PER_S
_WIDTHS_NS = (
    *(ms * NS_PER_MS for ms in (1, 2, 5, 10, 20, 50, 100, 200, 500)),
    *(s * NS_PER_S for s in (1, 2, 5, 10, 15, 30)),
    *(minutes * _MINUTE_NS for minutes in (1, 2, 5, 10, 15, 30, 60, 120, 240, 480, 1440)),
)
_CELLS_A_BAR = 8  # a quarter of an octave


class Latencies(msgspec.Struct, frozen=True, kw_only=True):
    """Receive − venue time − clock offset of depth messages (snapshots apart), quotes and trades.

    `counts[k]` messages lie between `edges_ms[k]` and `edges_ms[k + 1]`; the first bar begins at 0 and also holds those
    below it, which an offset that is a little wrong makes. `is_probed`: the offset comes from round trips; otherwise from the
    quickest message, so that all of it is what a message took beyond the quickest. None without venue times.
    """

    messages: int
    p50_ms: float | None
    p99_ms: float | None
    edges_ms: NDArray[np.float64]
    counts: NDArray[np.int64]
    is_probed: bool


class SymbolSamples(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument by bucket (first axis). NaN: nothing of the kind in that bucket. Prices and notionals are in the quote
    currency, spreads in bps of the mid and weighted by time, latencies in ms, lengths of time in ns.

    `messages`: depth, quotes, trades (one by one), other. `depth`: [side, width] notional within DEPTH_BPS of the mid at the
    end of the bucket, as far as the recorded book reaches. `volume`: [taker bought, sold]. `trade_price` and `trade_ns`:
    [taker's side, lowest and highest]. Ranges are [lowest, highest].
    """

    name: str
    instrument: Instrument
    messages: Ints
    book_ns: Ints
    crossed_ns: Ints
    spread_bps: Floats  # p50, p95
    spread_range_bps: Floats
    spread_p50_bps: float | None  # of the whole session
    spread_p95_bps: float | None
    mid: Floats
    mid_range: Floats
    depth: Floats
    volume: Floats
    trade_price: Floats
    trade_ns: Ints
    latency_ms: Floats  # p50, p99
    latencies: Latencies
    mark: Floats
    index_price: Floats
    basis_bps: Floats
    basis_range_bps: Floats
    funding_rate: Floats
    gaps: tuple[GapEntry, ...]

    @property
    def has_funding(self) -> bool:
        return bool(np.isfinite(self.basis_bps).any() or np.isfinite(self.funding_rate).any())


class Samples(msgspec.Struct, frozen=True, kw_only=True):
    """A session on its grid: bucket k is [start_ns + k × bucket_ns, … + bucket_ns) in receive time. The last one ends with
    the tape at `last_ns`."""

    start_ns: int
    bucket_ns: int
    buckets: int
    first_ns: int
    last_ns: int
    rows: int
    symbols: tuple[SymbolSamples, ...]


class ClockTrack(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the venues' clocks, local − venue in ns. `first_ns` by venue (NaN: nothing known): until the first
    probe, or all along where there is none; `probed_ns`: from each CLOCK row of the tape on, in their order."""

    venues: tuple[str, ...]
    is_probed: tuple[bool, ...]
    first_ns: Floats
    probed_ns: Floats


def sample(session: Session, *, buckets: int = BUCKETS, progress: Callable[[float], None] | None = None) -> Samples:
    """The samples of a session in at most so many buckets. The tape is read twice, because its clock offsets come first.

    `progress` is told the share done. InputError for a session without rows; DamagedSegment where it is damaged.
    """
    span = session.span_ns()
    if span is None:
        raise InputError(f"{session.folder}: this session holds no rows: there is nothing to show")
    tell = progress or (lambda _share: None)
    total = 2 * max(1, session.manifest.rows)
    done = 0

    def told() -> Iterable[Rows]:
        nonlocal done
        for rows in session.rows():
            yield rows
            done += len(rows)
            tell(min(1.0, done / total))

    clocks = clock_track(told(), session.instruments)
    return sample_rows(told(), session.instruments, clocks, span_ns=span, buckets=buckets)


def sample_rows(
    chunks: Iterable[Rows],
    instruments: InstrumentTable,
    clocks: ClockTrack,
    *,
    span_ns: tuple[int, int],
    buckets: int = BUCKETS,
) -> Samples:
    """The samples of a tape whose first and last receive times are known; how it is cut into chunks changes nothing."""
    first_ns, last_ns = span_ns
    start_ns, bucket_ns, count = grid_of(first_ns, last_ns, buckets)
    venue_of = np.array([clocks.venues.index(one.venue) for one in instruments], dtype=np.int64)
    grid = make_grid(
        len(instruments), count, start_ns=start_ns, bucket_ns=bucket_ns, venue_of=venue_of,
        inverse=instruments.column("inverse"),
    )  # fmt: skip
    grid.until_ns[:] = first_ns
    grid.offset_ns[:] = clocks.first_ns
    books = make_books(len(instruments))
    ledger = GapLedger(instruments)
    total = 0
    for rows in whole_messages(chunks):
        fill(grid, books, rows, clocks.probed_ns)
        ledger.add(rows)
        total += len(rows)
    finish(grid, books, last_ns)
    gaps: dict[str, list[GapEntry]] = {}
    for entry in ledger.entries():
        gaps.setdefault(entry.symbol, []).append(entry)
    symbols = tuple(
        _symbol(grid, i, name, instrument, tuple(gaps.get(name, ())), is_probed=clocks.is_probed[venue_of[i]])
        for i, (name, instrument) in enumerate(zip(session_names(instruments), instruments, strict=True))
    )
    return Samples(
        start_ns=start_ns, bucket_ns=bucket_ns, buckets=count, first_ns=first_ns, last_ns=last_ns, rows=total,
        symbols=symbols,
    )  # fmt: skip


def grid_of(first_ns: int, last_ns: int, buckets: int) -> tuple[int, int, int]:
    """(start, width, number) of at most so many round buckets that hold a span.

    >>> grid_of(1_500_000_000, 61_200_000_000, 100)
    (1000000000, 1000000000, 61)
    """
    for width_ns in _WIDTHS_NS:
        start_ns = first_ns // width_ns * width_ns
        count = (last_ns - start_ns) // width_ns + 1
        if count <= buckets:
            return start_ns, width_ns, count
    raise InputError(
        f"a session of {(last_ns - first_ns) / 86_400e9:,.0f} days does not fit in {buckets} buckets of a day"
    )


def clock_track(chunks: Iterable[Rows], instruments: InstrumentTable) -> ClockTrack:
    """The clock offsets of a tape: from its probes, as a capture reckons with them; for a venue without any, from the
    quickest of its messages (`clock_offset.py` says what each is worth)."""
    venues = tuple(sorted({instrument.venue for instrument in instruments}))
    venue_of = np.array([venues.index(instrument.venue) for instrument in instruments])
    probes: list[Rows] = []
    times: dict[int, list[NDArray[np.int64]]] = {number: [] for number in range(len(venues))}
    for rows in chunks:
        found = rows[rows["kind"] == int(Kind.CLOCK)]
        if len(found):
            probes.append(found)
            for number in np.unique(venue_of[found["instrument"]]).tolist():
                times.pop(number, None)  # probed: no need of its messages
        if times:
            stamped = rows[(rows["ts_venue_ns"] > 0) & (rows["instrument"] >= 0) & (rows["kind"] != int(Kind.CLOCK))]
            of = venue_of[stamped["instrument"]]
            for number, parts in times.items():
                mine = stamped[of == number]
                parts.append(np.stack((mine["ts_recv_ns"], mine["ts_venue_ns"])))
    first_ns = np.full(len(venues), np.nan)
    for number, parts in times.items():
        recv_ns, venue_ns = np.concatenate(parts, axis=1) if parts else np.zeros((2, 0), dtype=np.int64)
        if len(recv_ns):
            first_ns[number] = one_way_offset_ms(recv_ns, venue_ns) * NS_PER_MS
    offsets = [ClockOffset() for _ in venues]
    probed_ns = []
    for probe in joined(probes) if probes else ():
        number = int(venue_of[probe["instrument"]])
        offsets[number].add_rows(np.array([probe]))
        offset_ms = offsets[number].offset_ms
        assert offset_ms is not None
        probed_ns.append(offset_ms * NS_PER_MS)
        if np.isnan(first_ns[number]):
            first_ns[number] = probed_ns[-1]
    return ClockTrack(
        venues=venues,
        is_probed=tuple(number not in times for number in range(len(venues))),
        first_ns=first_ns,
        probed_ns=np.array(probed_ns, dtype=np.float64),
    )


def _symbol(
    grid: Grid, i: int, name: str, instrument: Instrument, gaps: tuple[GapEntry, ...], *, is_probed: bool
) -> SymbolSamples:
    price = instrument.price_scale
    notional = instrument.qty_scale * float(instrument.contract_multiplier) * (1.0 if instrument.inverse else price)
    spread = grid.spread_range[i]
    has_spread = bool(np.isfinite(spread).any())
    p50, p95 = (
        float(quantile(grid.spread_total[i], share, np.nanmin(spread), np.nanmax(spread))) if has_spread else None
        for share in (0.50, 0.95)
    )
    return SymbolSamples(
        name=name,
        instrument=instrument,
        messages=grid.messages[i],
        book_ns=grid.book_ns[i],
        crossed_ns=grid.crossed_ns[i],
        spread_bps=grid.spread[i],
        spread_range_bps=spread,
        spread_p50_bps=p50,
        spread_p95_bps=p95,
        mid=grid.mid[i] * price,
        mid_range=grid.mid_range[i] * price,
        depth=grid.depth[i] * notional,
        volume=grid.volume[i] * notional,
        trade_price=grid.trade_price[i] * price,
        trade_ns=grid.trade_ns[i],
        latency_ms=grid.latency[i] / NS_PER_MS,
        latencies=_latencies(grid.latency_total[i], grid.latency_range[i], is_probed=is_probed),
        mark=grid.mark[i],
        index_price=grid.index_price[i],
        basis_bps=grid.basis[i],
        basis_range_bps=grid.basis_range[i],
        funding_rate=grid.funding_rate[i],
        gaps=gaps,
    )


def _latencies(cells: Ints, span: Floats, *, is_probed: bool) -> Latencies:
    used = np.flatnonzero(cells)
    if not len(used):
        nothing = np.zeros(0)
        return Latencies(
            messages=0, p50_ms=None, p99_ms=None, edges_ms=nothing, counts=nothing.astype(np.int64), is_probed=is_probed
        )
    lowest, highest = np.nanmin(span[:, LOW]), np.nanmax(span)
    positive = used[used > 0]
    first = (int(positive[0]) - 1) // _CELLS_A_BAR if len(positive) else 0
    bars = (int(used[-1]) - 1) // _CELLS_A_BAR - first + 1 if len(positive) else 0
    starts = 1 + (first + np.arange(bars + 1)) * _CELLS_A_BAR
    edges = [0.0] * bool(cells[0]) + [cell_floor(int(start)) / NS_PER_MS for start in starts]
    counts = [int(cells[0])] * bool(cells[0]) + [
        int(cells[at : min(at + _CELLS_A_BAR, CELLS)].sum()) for at in starts[:-1]
    ]
    return Latencies(
        messages=int(cells.sum()),
        p50_ms=float(quantile(cells, 0.50, lowest, highest)) / NS_PER_MS,
        p99_ms=float(quantile(cells, 0.99, lowest, highest)) / NS_PER_MS,
        edges_ms=np.array(edges),
        counts=np.array(counts, dtype=np.int64),
        is_probed=is_probed,
    )
