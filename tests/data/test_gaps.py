"""The gap ledger, held against plain Python that walks the same tape message by message."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_world import T0_NS, written
from tape_world import WORLD, depth, messages_of, pieces, random_tape, row, tape_of

from oneprice.data.certify.gaps import BookValidity, GapEntry, GapLedger, Repair, gap_ledger
from oneprice.data.certify.measures import measure
from oneprice.data.certify.names import session_names
from oneprice.data.session import Session
from oneprice.model.tape import CLEAR, GapReason, Kind, Rows
from oneprice.model.time import NS_PER_S

SPOT, PERP, BYBIT = range(3)
NAMES = session_names(WORLD)
SEEDS = st.integers(0, 2**32 - 1)
SIDES: Any = ([(99, 1), (98, 1)], [(101, 1)])


def ledger_of(chunks: Iterable[Rows]) -> GapLedger:
    ledger = GapLedger(WORLD)
    for chunk in chunks:
        ledger.add(chunk)
    return ledger


def gap(at_ns: int, instrument: int = SPOT, reason: GapReason = GapReason.SEQUENCE, ids: Any = (7, 8, 11)) -> Rows:
    last_good, expected, received = ids
    return row(Kind.GAP, at_ns, instrument, value=float(reason), sequence=last_good, price=expected, qty=received)


def stands(at_ns: int, book_id: int = 20, instrument: int = SPOT) -> Rows:
    return depth(at_ns, book_id, *SIDES, whole=True, instrument=instrument)


def naive(rows: Rows) -> tuple[list[tuple[Any, ...]], list[list[tuple[int, int]]]]:
    """(index, when, ids, when repaired, by which id) of every break, and by instrument the nanoseconds that its book stood:
    each stretch between two messages of the tape is one in which the state does not change."""
    breaks: list[list[Any]] = []
    is_valid = [False] * len(WORLD)
    stood: list[list[tuple[int, int]]] = [[] for _ in WORLD]
    before_ns = 0
    for message in messages_of(rows):
        first = message[0]
        at_ns, index = first["ts_recv_ns"], first["instrument"]
        for each, intervals in enumerate(stood):
            if is_valid[each] and at_ns > before_ns:
                if intervals and intervals[-1][1] == before_ns:
                    intervals[-1] = (intervals[-1][0], at_ns)
                else:
                    intervals.append((before_ns, at_ns))
        before_ns = at_ns
        if index >= 0 and first["kind"] == Kind.GAP:
            breaks.append([index, at_ns, (first["sequence"], first["price"], first["qty"]), None, None])
            is_valid[index] = False
        elif index >= 0 and first["kind"] == Kind.DEPTH and first["flags"] & CLEAR:
            is_valid[index] = True
            for found in breaks:
                if found[0] == index and found[3] is None:
                    found[3:] = at_ns, message[-1]["sequence"]
    return [tuple(found) for found in breaks], stood


def without_touching(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Intervals that touch are one: a book that breaks and is repaired in the same nanosecond never was invalid."""
    merged: list[tuple[int, int]] = []
    for from_ns, until_ns in intervals:
        if merged and merged[-1][1] == from_ns:
            merged[-1] = (merged[-1][0], until_ns)
        else:
            merged.append((from_ns, until_ns))
    return merged


@settings(max_examples=60)
@given(SEEDS)
def test_a_random_tapes_breaks_and_intervals_are_what_plain_python_finds(seed: int) -> None:
    rows = random_tape(seed)
    span_ns = int(rows[-1]["ts_recv_ns"] - rows[0]["ts_recv_ns"])
    ledger = ledger_of([rows])
    breaks, stood = naive(rows)
    entries, validity = ledger.entries(), ledger.validity()
    assert len(entries) == len(breaks)
    for entry, (index, at_ns, (last_good, expected, received), repaired_ns, repaired_id) in zip(
        entries, breaks, strict=True
    ):
        assert (entry.symbol, entry.at_ns) == (NAMES[index], at_ns)
        assert (entry.last_good_id, entry.expected_id, entry.received_id) == (last_good, expected, received or None)
        assert (entry.repaired_ns, entry.repaired_id) == (repaired_ns, repaired_id)
        if repaired_ns is None:
            assert entry.repair is Repair.NOT_BY_THE_END
            assert entry.invalid_ns == int(rows[-1]["ts_recv_ns"]) - at_ns
        else:
            assert entry.repair is (Repair.STREAM_SNAPSHOT if index == BYBIT else Repair.REST_SNAPSHOT)
            assert entry.invalid_ns == repaired_ns - at_ns
    assert [one.symbol for one in validity] == list(NAMES)
    for one, intervals in zip(validity, stood, strict=True):
        assert without_touching(one.intervals) == intervals
        assert one.valid_ns + one.invalid_ns == span_ns
        assert one.valid_ns == sum(until_ns - from_ns for from_ns, until_ns in one.intervals)
        assert all(from_ns < until_ns for from_ns, until_ns in one.intervals)


@settings(max_examples=40)
@given(SEEDS, SEEDS)
def test_where_a_tape_is_cut_into_chunks_changes_nothing(seed: int, cuts: int) -> None:
    rows = random_tape(seed)
    whole, cut = ledger_of([rows]), ledger_of(pieces(rows, cuts))
    assert (cut.entries(), cut.validity()) == (whole.entries(), whole.validity())


@settings(max_examples=20)
@given(SEEDS, st.integers(0, 400))
def test_a_ledger_can_be_asked_at_any_time_and_goes_on(seed: int, at: int) -> None:
    """`entries` and `validity` end what is open at the last row so far, without ending it for good."""
    rows = random_tape(seed)
    ledger = ledger_of([rows[:at]])
    early = ledger_of([rows[:at]])
    assert (ledger.entries(), ledger.validity()) == (early.entries(), early.validity())
    ledger.add(rows[at:])
    whole = ledger_of([rows])
    assert (ledger.entries(), ledger.validity()) == (whole.entries(), whole.validity())


def test_a_break_tells_its_ids_its_repair_and_what_it_cost(tmp_path: Path) -> None:
    tape = tape_of(
        row(Kind.TIMER, T0_NS, -1),
        stands(T0_NS + 10),
        gap(T0_NS + 50),
        gap(T0_NS + 60, reason=GapReason.DISCONNECT, ids=(-1, 0, 0)),  # while the first one is not repaired yet
        stands(T0_NS + 80, 33),
        row(Kind.TIMER, T0_NS + 100, -1, sequence=1),
    )
    entries, validity = gap_ledger(written(tmp_path / "S", [tape[:2], tape[2:4], tape[4:]], instruments=list(WORLD)))
    repaired: dict[str, Any] = {"repair": Repair.REST_SNAPSHOT, "repaired_ns": T0_NS + 80, "repaired_id": 33}
    assert entries == (
        GapEntry(
            symbol="BTCUSDT", at_ns=T0_NS + 50, reason="sequence", last_good_id=7, expected_id=8, received_id=11,
            invalid_ns=30, **repaired,
        ),
        GapEntry(
            symbol="BTCUSDT", at_ns=T0_NS + 60, reason="disconnect", last_good_id=None, expected_id=None,
            received_id=None, invalid_ns=20, **repaired,
        ),
    )  # fmt: skip
    intervals = ((T0_NS + 10, T0_NS + 50), (T0_NS + 80, T0_NS + 100))
    assert validity[SPOT] == BookValidity(symbol="BTCUSDT", intervals=intervals, valid_ns=60, invalid_ns=40)
    for never in validity[PERP:]:
        assert (never.intervals, never.valid_ns, never.invalid_ns) == ((), 0, 100)


@pytest.mark.parametrize(
    ("instrument", "how"),
    [(SPOT, Repair.REST_SNAPSHOT), (PERP, Repair.REST_SNAPSHOT), (BYBIT, Repair.STREAM_SNAPSHOT)],
)
def test_the_repair_is_the_venues_own_way(instrument: int, how: Repair) -> None:
    tape = tape_of(gap(T0_NS, instrument), stands(T0_NS + 5, instrument=instrument), stands(T0_NS + 9, instrument=SPOT))
    (found,) = ledger_of([tape]).entries()
    assert (found.repair, found.repaired_ns, found.invalid_ns) == (how, T0_NS + 5, 5)


@pytest.mark.parametrize("reason", GapReason)
def test_every_reason_has_its_word(reason: GapReason) -> None:
    (found,) = ledger_of([gap(T0_NS, reason=reason)]).entries()
    assert found.reason == reason.name.lower()


def test_a_snapshot_that_was_cut_repairs_nothing() -> None:
    tape = tape_of(stands(T0_NS), gap(T0_NS + 5), row(Kind.TIMER, T0_NS + 8, -1), stands(T0_NS + 9)[:-1])
    ledger = ledger_of([tape])
    (found,) = ledger.entries()
    assert (found.repair, found.invalid_ns) == (Repair.NOT_BY_THE_END, 3)
    assert ledger.validity()[SPOT].intervals == ((T0_NS, T0_NS + 5),)


def test_a_snapshot_of_a_book_that_stands_breaks_nothing() -> None:
    ledger = ledger_of([stands(T0_NS), stands(T0_NS + 5), row(Kind.TIMER, T0_NS + 9, -1)])
    assert ledger.entries() == ()
    assert ledger.validity()[SPOT].intervals == ((T0_NS, T0_NS + 9),)


def test_a_tape_without_rows_has_no_span() -> None:
    for chunks in ([], [stands(T0_NS)[:0]], [stands(T0_NS)[:-1]]):
        ledger = ledger_of(chunks)
        assert ledger.entries() == ()
        assert {(one.intervals, one.valid_ns, one.invalid_ns) for one in ledger.validity()} == {((), 0, 0)}


def test_the_recorded_books_stand_from_their_snapshots_on(imported: Any) -> None:
    entries, validity = gap_ledger(imported.session)
    measures = measure(imported.session)
    rows = np.concatenate(list(imported.session.rows()))
    assert entries == ()
    for index, (one, measured) in enumerate(zip(validity, measures.symbols, strict=True)):
        began = rows[(rows["instrument"] == index) & (rows["flags"] & CLEAR != 0)]
        assert one.symbol == measured.symbol
        assert one.intervals == ((int(began[0]["ts_recv_ns"]), measures.until_ns),)
        assert one.valid_ns + one.invalid_ns == measures.until_ns - measures.from_ns


def test_the_faults_of_a_capture_are_in_the_ledger_with_their_repairs(faulty: Session) -> None:
    entries, validity = gap_ledger(faulty)
    found = {entry.symbol: entry for entry in entries}
    assert len(found) == len(entries), "each of them broke once"
    reasons = {symbol: (entry.reason, entry.repair) for symbol, entry in found.items()}
    assert reasons == {
        "BTCUSDT@binance_spot": ("sequence", Repair.REST_SNAPSHOT),
        "BTCUSDT_PERP@binance_usdm": ("disconnect", Repair.REST_SNAPSHOT),
        "ETHUSDT_PERP@binance_usdm": ("disconnect", Repair.REST_SNAPSHOT),
        "ETHUSDT_PERP@bybit_linear": ("sequence", Repair.STREAM_SNAPSHOT),
    }
    for entry in entries:
        assert entry.last_good_id is not None and entry.expected_id is not None
        assert entry.expected_id == entry.last_good_id + 1
        assert (entry.received_id is None) == (entry.reason == "disconnect")
        assert entry.received_id is None or entry.received_id > entry.expected_id
        # The same id where nothing moved meanwhile.
        assert entry.repaired_id is not None and entry.repaired_id >= entry.last_good_id
        assert 0 < entry.invalid_ns < 10 * NS_PER_S
    for one in validity:
        assert len(one.intervals) == 1 + (one.symbol in found)
        if one.symbol in found:
            (_, broke_ns), (repaired_ns, _) = one.intervals
            assert (broke_ns, repaired_ns) == (found[one.symbol].at_ns, found[one.symbol].repaired_ns)
