"""What is measured on a tape is what an independent count of its rows says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_world import T0_NS, some_rows, spot, written
from tape_world import WORLD, NaiveMeasures, at_rank, depth, pieces, quote, random_tape, row

from oneprice.data.certify.measures import Measuring, SessionMeasures, measure
from oneprice.data.certify.measures_histogram import seen, slot_of, slots
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ASK, LAST, ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.registry import venue
from shared_data import shared

FILES = {"binance_spot:BTCUSDT": "spot*.gz", "binance_usdm:BTCUSDT": "usdm*.gz", "binance_coinm:BTCUSD_PERP": "cm*.gz"}
Top = tuple[str, str, str, str]


def told_twice(pattern: str) -> tuple[int, int]:
    """(update ids at which a depth message ends and a quote is told, those of them where both say the same).

    Straight from the frames with a dictionary for each side; numbers are compared as text.
    """
    quotes: dict[int, Top] = {}
    books: dict[int, Top] = {}
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    snapshot_id, newest = None, 0
    waiting: list[dict[str, Any]] = []

    def apply(data: dict[str, Any]) -> None:
        for side, levels in ((bids, data["b"]), (asks, data["a"])):
            for price, qty in levels:
                if float(qty) == 0.0:
                    side.pop(price, None)
                else:
                    side[price] = qty

    for path in sorted(shared("data/market/binance_2024-08-08").glob(pattern)):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            message = json.loads(line.partition(b" ")[2])
            data = message.get("data", message)
            if "lastUpdateId" in data:
                snapshot_id = data["lastUpdateId"]
                bids, asks = dict(data["bids"]), dict(data["asks"])
                for kept in waiting:
                    if kept["u"] >= snapshot_id:
                        apply(kept)
            elif "bookTicker" in message["stream"]:
                quotes[data["u"]] = (data["b"], data["B"], data["a"], data["A"])
                newest = data["u"]
            elif "depth" in message["stream"]:
                if snapshot_id is None:
                    waiting.append(data)
                    continue
                apply(data)
                if data["u"] in quotes or data["u"] > newest:
                    bid, ask = max(bids, key=float), min(asks, key=float)
                    books[data["u"]] = (bid, bids[bid], ask, asks[ask])
    common = books.keys() & quotes.keys()
    return len(common), sum(books[update] == quotes[update] for update in common)


@pytest.mark.parametrize("key", ["binance_spot:BTCUSDT", "binance_usdm:BTCUSDT"])
def test_agreement_with_the_venues_quotes_is_what_a_naive_book_finds(imported: Any, key: str) -> None:
    compared, agreed = told_twice(FILES[key])
    (quality,) = (one for one in imported.result.symbols if one.instrument == key)
    assert (quality.bbo_compared, quality.bbo_agreement) == (compared, agreed / compared)


SNAPSHOT_ROWS = depth(T0_NS, 100, [(99, 5)], [(101, 6)], whole=True)


def test_book_and_quote_are_compared_at_one_id_whichever_comes_first(tmp_path: Path) -> None:
    session = written(
        tmp_path / "S",
        [
            quote(T0_NS, 99, (98, 1), (102, 1)),  # before there was a book
            SNAPSHOT_ROWS,
            quote(T0_NS + 1, 100, (99, 5), (101, 6)),  # agrees, comes last
            quote(T0_NS + 2, 103, (99, 4), (101, 6)),
            depth(T0_NS + 3, 103, [(99, 4)]),  # agrees, comes last
            depth(T0_NS + 4, 104, asks=[(101, 7)]),
            quote(T0_NS + 5, 104, (99, 4), (101, 6)),  # the size differs
            quote(T0_NS + 6, 105, (99, 4), (101, 7)),  # an id at which no depth message ends
            depth(T0_NS + 7, 110, [(100, 1)]),  # an id that no quote has
        ],
    )
    (quality,) = measure(session).symbols
    assert (quality.bbo_compared, quality.bbo_agreement) == (3, 2 / 3)
    (found,) = quality.bbo_disagreements
    assert found.update_id == 104
    assert found.book == ("0.99", "0.00004", "1.01", "0.00007")
    assert found.quote == ("0.99", "0.00004", "1.01", "0.00006")
    assert (quality.messages, quality.rows, quality.gaps, quality.crossed, quality.locked) == (4, 15, 0, 0, 0)
    assert (quality.first_ns, quality.last_ns) == (T0_NS, T0_NS + 7)


def test_gaps_trades_and_crossed_books_are_counted_for_each_instrument(tmp_path: Path) -> None:
    gap = some_rows([T0_NS + 5], kind=Kind.GAP, instrument=1)
    session = written(
        tmp_path / "S",
        [
            SNAPSHOT_ROWS,
            some_rows([T0_NS + 1, T0_NS + 2], kind=Kind.TRADE),
            depth(T0_NS + 3, 200, [(99, 5)], [(101, 6)], whole=True, instrument=1),
            depth(T0_NS + 4, 201, [(101, 2)], instrument=1),  # bid meets ask
            gap,
            depth(T0_NS + 6, 300, [(90, 1)], instrument=1),  # not on a book
            some_rows([T0_NS + 7], kind=Kind.TIMER, instrument=-1),
        ],
        instruments=[spot("AUSDT"), spot("BUSDT"), spot("CUSDT")],
    )
    first, second, third = measure(session).symbols
    assert (first.trades, first.gaps, first.crossed, first.rows) == (2, 0, 0, 4)
    assert (second.trades, second.gaps, second.crossed, second.locked, second.messages) == (0, 1, 0, 1, 3)
    assert (third.rows, third.bbo_agreement, third.clock_offset_ms, third.first_ns) == (0, None, None, 0)


def test_messages_that_lie_across_blocks_are_read_whole(tmp_path: Path) -> None:
    tape = np.concatenate([SNAPSHOT_ROWS, quote(T0_NS + 1, 100, (99, 5), (101, 6)), depth(T0_NS + 2, 101, [(98, 1)])])
    whole = measure(written(tmp_path / "whole", [tape]))
    pieces = measure(written(tmp_path / "pieces", [tape[k : k + 1] for k in range(len(tape))]))
    assert pieces == whole
    assert whole.symbols[0].bbo_compared == 1


def test_ids_that_count_a_streams_own_messages_are_not_compared(tmp_path: Path) -> None:
    """Bybit numbers the messages of each stream: equal numbers there mean nothing."""
    session = written(
        tmp_path / "S", [SNAPSHOT_ROWS, quote(T0_NS + 1, 100, (50, 1), (60, 1))], instruments=[spot(venue="bybit_spot")]
    )
    (quality,) = measure(session).symbols
    assert (quality.bbo_compared, quality.bbo_agreement) == (0, None)


def test_the_clock_offset_is_that_of_the_quickest_messages(tmp_path: Path) -> None:
    rows = some_rows([T0_NS + k * 1_000_000 for k in range(500)])
    rows["ts_venue_ns"] = rows["ts_recv_ns"] + 1_270_000_000 - (np.arange(500) % 50) * 1_000_000
    unstamped = np.zeros(1, dtype=ROW)
    unstamped["ts_recv_ns"], unstamped["kind"], unstamped["flags"] = T0_NS + 10**9, int(Kind.TRADE), LAST
    (quality,) = measure(written(tmp_path / "S", [rows, unstamped])).symbols
    assert quality.clock_offset_ms == pytest.approx(-1_270, abs=0.01)


def measured(rows: Rows, chunks: Any = None, table: InstrumentTable = WORLD) -> SessionMeasures:
    measuring = Measuring(table)
    for chunk in chunks if chunks is not None else [rows]:
        measuring.add(chunk)
    return measuring.result()


SEEDS = st.integers(0, 2**32 - 1)


@settings(max_examples=60)
@given(SEEDS)
def test_a_random_tape_measures_as_plain_python_counts_it(seed: int) -> None:
    rows = random_tape(seed)
    found = measured(rows)
    assert (found.rows, found.from_ns, found.until_ns) == (len(rows), T0_NS, int(rows[-1]["ts_recv_ns"]))
    for index, one in enumerate(found.symbols):
        is_numbered = venue(WORLD[index].venue).sequencing.joins_rest
        naive = NaiveMeasures(rows, index, is_numbered=is_numbered, tolerance_bps=10.0)
        counts = naive.counts
        assert one.rows == counts["rows"]
        assert (one.messages, one.snapshots, one.gaps) == (counts["messages"], counts["snapshots"], counts["gaps"])
        assert (one.unjoined, one.disordered) == (counts["unjoined"], counts["disordered"])
        assert (one.quotes, one.trades) == (counts["quotes"], counts["trades"])
        assert one.trades_numbered == counts["numbered"]
        assert (one.trades_duplicate, one.trades_late) == (counts["duplicates"], counts["late"])
        assert (one.trades_checked, one.trades_outside) == (counts["checked"], counts["outside"])
        if one.trades_checked:
            assert one.trade_outside_bps_max == pytest.approx(naive.outside_bps_max, abs=1e-6)
        assert (one.crossed, one.crossed_intervals) == (counts["crossed"], naive.crossed_intervals)
        assert (one.crossed_longest_ns, one.locked) == (naive.crossed_longest_ns, counts["locked"])
        assert one.depth_silence_ns == naive.depth_silence_ns
        assert one.data_silence_ns == naive.data_silence_ns
        assert one.depth_levels_p50 == at_rank(naive.levels, 0.5)
        assert one.bbo_compared == counts["compared"]
        assert one.bbo_agreement == (counts["agreed"] / counts["compared"] if counts["compared"] else None)
        for part, told in (
            (at_rank(naive.spreads, 0.5), one.spread_bps_p50),
            (at_rank(naive.spreads, 0.95), one.spread_bps_p95),
            (at_rank(naive.reaches, 0.5), one.depth_reach_bps_p50),
        ):
            assert told == (None if part is None else pytest.approx(part, rel=2**-11, abs=1e-3))
        offset_ms = found.clock_of(one).offset_ms
        quickest = at_rank(naive.delays, 0.001)
        assert one.clock_offset_ms == (None if quickest is None else pytest.approx(quickest / NS_PER_MS, abs=1e-3))
        if quickest is not None:
            base_ms = quickest / NS_PER_MS if offset_ms is None else offset_ms
            assert one.latency_basis == ("one_way" if offset_ms is None else "probed")
            for q, told in ((0.5, one.latency_ms_p50), (0.99, one.latency_ms_p99)):
                assert told == pytest.approx(at_rank(naive.delays, q) / NS_PER_MS - base_ms, abs=3e-3)


@settings(max_examples=40)
@given(SEEDS, SEEDS)
def test_where_a_tape_is_cut_into_chunks_changes_nothing(seed: int, cuts: int) -> None:
    rows = random_tape(seed)
    assert measured(rows, pieces(rows, cuts)) == measured(rows)


@settings(max_examples=100)
@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=50), st.integers(2, 15))
def test_a_histogram_is_exact_below_its_bits_and_fine_above(values: list[int], bits: int) -> None:
    weights = np.zeros(slots(bits, 41), dtype=np.int64)
    for value in values:
        weights[slot_of(value, bits, len(weights))] += 1
    found = seen(weights, bits)
    assert found.weights.sum() == len(values)
    assert (np.diff(found.values) > 0).all()
    for q in (0.0, 0.5, 0.95, 1.0):
        exact = sorted(values)[int(q * (len(values) - 1))]
        told = found.quantile(q)
        assert told is not None
        assert told <= exact
        assert exact - told <= exact * 2.0 ** (1 - bits)
        assert told == exact or exact >= 2**bits


def test_trade_ids_are_told_apart_over_any_distance(tmp_path: Path) -> None:
    """A hundred thousand ids with holes, then the first ones again, and the holes filled."""
    ids = np.arange(10, 200_010, 2)
    rows = np.concatenate([some_rows([T0_NS] * len(ids)), some_rows([T0_NS] * 6)])
    rows["sequence"] = np.concatenate([ids, [10, 12, 11, 11, 9, 200_011]])
    (one,) = measured(rows, np.array_split(rows, 7), InstrumentTable([spot()])).symbols
    assert (one.trades_numbered, one.trades_duplicate, one.trades_late) == (len(ids) + 6, 3, 2)


def test_a_trade_that_the_next_book_explains_is_not_outside() -> None:
    """It came before the depth message of the move that it was part of."""
    sold = row(Kind.TRADE, T0_NS + 1, price=120, qty=1, sequence=1, flags=ASK | LAST)
    moved = depth(T0_NS + NS_PER_S, 101, asks=[(101, 0), (125, 1)])
    late = depth(T0_NS + NS_PER_S + 2, 101, asks=[(101, 0), (125, 1)])
    table = InstrumentTable([spot()])
    (fits,) = measured(np.concatenate([SNAPSHOT_ROWS, sold, moved]), table=table).symbols
    (outside,) = measured(np.concatenate([SNAPSHOT_ROWS, sold, late]), table=table).symbols
    (unknown,) = measured(np.concatenate([SNAPSHOT_ROWS, sold]), table=table).symbols
    assert (fits.trades_checked, fits.trades_outside) == (1, 0)
    assert (outside.trades_checked, outside.trades_outside) == (1, 1)
    assert outside.trade_outside_bps_max == pytest.approx((120 / 101 - 1) * 1e4)
    assert (unknown.trades_checked, unknown.trades_outside) == (0, 0)


def probes(count: int, *, drift_ms_per_h: float, every_s: float = 30.0, slow: bool = False) -> Rows:
    """Clock probes as a capture writes them; `slow`: every tenth took two seconds, all of it on the way back."""
    parts = []
    for number in range(count):
        sent_ns = T0_NS + int(number * every_s * NS_PER_S)
        back_ns = 2 * NS_PER_S if slow and number % 10 == 3 else NS_PER_MS
        recv_ns = sent_ns + NS_PER_MS + back_ns
        ahead_ns = int(5 * NS_PER_MS + drift_ms_per_h * (sent_ns - T0_NS) / 3_600e9 * NS_PER_MS)
        venue_ns = sent_ns + NS_PER_MS - ahead_ns
        local_ms = ((sent_ns + recv_ns) // 2 - venue_ns) / NS_PER_MS
        parts.append(row(Kind.CLOCK, recv_ns, venue_ns=venue_ns, sequence=recv_ns - sent_ns, value=local_ms))
    return np.concatenate(parts)


@pytest.mark.parametrize("count", [120, 2_000])
@pytest.mark.parametrize("drift", [-40.0, 0.0, 72.0])
def test_the_clocks_drift_is_found_through_slow_probes(count: int, drift: float) -> None:
    rows = probes(count, drift_ms_per_h=drift, slow=True)
    (clock,) = measured(rows, table=InstrumentTable([spot()])).clocks
    assert (clock.probes, clock.jumps) == (count, 0)
    assert clock.drift_ms_per_h == pytest.approx(drift, abs=0.5)
    hours = (count - 1) * 30 / 3_600
    assert clock.drift_error_ms_per_h is not None
    assert 4.0 / hours < clock.drift_error_ms_per_h < 20.0 / hours  # each probe is 1 ms of way and 1 ms of tick
    assert clock.error_ms == 1.0


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(0, 3 * NS_PER_S), st.integers(0, 3 * NS_PER_S)), min_size=4, max_size=30),
    st.floats(-5_000.0, 5_000.0),
)
def test_no_network_makes_the_drift_wronger_than_its_error(ways: list[tuple[int, int]], drift_ms_per_h: float) -> None:
    """Each probe's way to the venue and back takes any time, and the venue tells whole milliseconds."""
    parts = []
    for number, (there_ns, back_ns) in enumerate(ways):
        sent_ns = T0_NS + number * 10 * NS_PER_S
        ahead_ns = int(drift_ms_per_h * (sent_ns - T0_NS) / 3_600e9 * NS_PER_MS)
        venue_ns = (sent_ns + there_ns - ahead_ns) // NS_PER_MS * NS_PER_MS
        recv_ns = sent_ns + there_ns + back_ns
        local_ms = ((sent_ns + recv_ns) // 2 - venue_ns) / NS_PER_MS
        trip_ns = there_ns + back_ns
        parts.append(row(Kind.CLOCK, recv_ns, venue_ns=venue_ns, sequence=trip_ns, value=local_ms))
    (clock,) = measured(np.concatenate(parts), table=InstrumentTable([spot()])).clocks
    assert clock.drift_ms_per_h is not None and clock.drift_error_ms_per_h is not None
    assert abs(clock.drift_ms_per_h - drift_ms_per_h) <= clock.drift_error_ms_per_h * 1.001 + 0.1


@pytest.mark.parametrize("slow", [False, True])
def test_a_clock_that_is_set_is_a_jump_each_time(slow: bool) -> None:
    rows = probes(60, drift_ms_per_h=30.0, slow=slow)
    rows["value"][23:] -= 50.0  # beside a slow probe, which alone would explain it
    rows["value"][41:] -= 2_000.0
    (clock,) = measured(rows, table=InstrumentTable([spot()])).clocks
    assert clock.jumps == 2


def test_the_recorded_sessions_measure_as_they_are(imported: Any) -> None:
    found = {one.symbol: one for one in measure(imported.session).symbols}
    assert sorted(found) == ["BTCUSDT", "BTCUSDT_PERP", "BTCUSD_PERP"]
    for one in found.values():
        assert (one.snapshots, one.unjoined, one.disordered, one.gaps) == (1, 0, 0, 0)
        assert (one.crossed, one.locked, one.trades_duplicate, one.trades_late, one.trades_outside) == (0, 0, 0, 0, 0)
        assert one.trades == one.trades_numbered > 5_000
        assert one.bbo_agreement == 1.0
        assert one.latency_basis == "one_way"
        assert one.latency_ms_p50 is not None and one.latency_ms_p99 is not None
        assert 0 < one.latency_ms_p50 < 20 < one.latency_ms_p99 < 500
    # One tick of 0.01 at 61 700 on spot, of 0.1 on the perpetuals.
    assert found["BTCUSDT"].spread_bps_p50 == pytest.approx(0.01 / 61_700 * 1e4, rel=0.02)
    assert found["BTCUSDT_PERP"].spread_bps_p50 == pytest.approx(0.1 / 61_700 * 1e4, rel=0.02)
    assert found["BTCUSDT_PERP"].depth_silence_ns > 300 * NS_PER_S, "its recording ends five minutes before the others"


@given(seed=st.integers(0, 10**6))
def test_looking_in_between_changes_nothing(seed: int) -> None:
    rows = random_tape(seed)
    plain, looked = Measuring(WORLD), Measuring(WORLD)
    for piece in pieces(rows, seed):
        plain.add(piece)
        looked.add(piece)
        looked.result()
    assert looked.result() == plain.result()
