"""Faults as text, and the plan that hands them out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneprice.emulator.faults import Fault, FaultKind, FaultPlan
from oneprice.model.errors import InputError
from oneprice.model.time import NS_PER_S
from oneprice.venues.registry import VENUES

START_NS = 1_700_000_000 * NS_PER_S


def at(seconds: float) -> int:
    return START_NS + round(seconds * NS_PER_S)


def plan(*texts: str) -> FaultPlan:
    return FaultPlan([Fault.parse(text) for text in texts], started_ns=START_NS)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gap", Fault(kind=FaultKind.GAP)),
        ("gap@binance_usdm", Fault(kind=FaultKind.GAP, venue="binance_usdm")),
        ("gap@binance_usdm:BTCUSDT,at=5", Fault(kind=FaultKind.GAP, venue="binance_usdm", symbol="BTCUSDT", at_s=5.0)),
        ("reorder@:ETHUSDT,count=3", Fault(kind=FaultKind.REORDER, symbol="ETHUSDT", count=3)),
        ("disconnect@*,every=2.5,count=2", Fault(kind=FaultKind.DISCONNECT, every_s=2.5, count=2)),
        ("clock_skew@bybit_spot,for=0.25", Fault(kind=FaultKind.CLOCK_SKEW, venue="bybit_spot", duration_s=0.25)),
    ],
)
def test_a_text_says_what_goes_wrong_where_and_when(text, expected) -> None:
    assert Fault.parse(text) == expected


@given(
    kind=st.sampled_from(FaultKind),
    venue=st.sampled_from(["*", *VENUES]),
    symbol=st.sampled_from(["*", "BTCUSDT", "ETHBTC"]),
    at_s=st.floats(0, 1e6),
    every_s=st.floats(0, 1e6),
    count=st.integers(1, 1000),
    duration_s=st.floats(0, 1e6),
)
def test_every_fault_can_be_said_as_text(kind, venue, symbol, at_s, every_s, count, duration_s) -> None:
    text = f"{kind}@{venue}:{symbol},at={at_s!r},every={every_s!r},count={count},for={duration_s!r}"
    assert Fault.parse(text) == Fault(
        kind=kind, venue=venue, symbol=symbol, at_s=at_s, every_s=every_s, count=count, duration_s=duration_s
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("gab", "unknown fault 'gab' in --fault gab; did you mean 'gap'?"),
        ("", "unknown fault ''"),
        ("gap@binance_spto", "unknown venue 'binance_spto' in --fault gap@binance_spto; did you mean 'binance_spot'?"),
        ("gap,att=1", "unknown key 'att' in --fault gap,att=1; did you mean 'at'?"),
        ("gap,at", "at='' is not a number"),
        ("gap,at=soon", "at='soon' is not a number"),
        ("gap,count=1.5", "count='1.5' is not a number"),
        ("gap,count=0", "count='0' is out of range"),
        ("gap,at=-1", "at='-1' is out of range"),
        ("stall,for=nan", "for='nan' is out of range"),
        ("stall,for=inf", "for='inf' is out of range"),
    ],
)
def test_a_wrong_text_is_told_with_the_nearest_right_one(text, says) -> None:
    with pytest.raises(InputError) as told:
        Fault.parse(text)
    assert says in str(told.value)


@given(
    first_s=st.integers(0, 50), every_s=st.integers(0, 20), count=st.integers(1, 8),
    asked=st.lists(st.integers(0, 200), min_size=1, max_size=40).map(sorted),
)  # fmt: skip
def test_a_fault_happens_at_most_count_times_and_never_before_it_is_due(first_s, every_s, count, asked) -> None:
    faults = plan(f"gap,at={first_s},every={every_s},count={count}")
    happened = [seconds for seconds in asked if faults.take(FaultKind.GAP, "binance_spot", now_ns=at(seconds))]
    # The law, told again without the plan: each one is the first question that comes when the next is due.
    expected: list[int] = []
    for seconds in asked:
        due = expected[-1] + every_s if expected else first_s
        if len(expected) < count and seconds >= due:
            expected.append(seconds)
    assert happened == expected
    assert [now_ns for now_ns, _ in faults.taken] == [at(seconds) for seconds in expected]


def test_a_fault_waits_for_the_kind_the_venue_and_the_symbol_it_is_meant_for() -> None:
    faults = plan("gap@binance_usdm:BTCUSDT")
    assert faults.take(FaultKind.REORDER, "binance_usdm", "BTCUSDT", now_ns=START_NS) is None
    assert faults.take(FaultKind.GAP, "binance_spot", "BTCUSDT", now_ns=START_NS) is None
    assert faults.take(FaultKind.GAP, "binance_usdm", "ETHUSDT", now_ns=START_NS) is None
    assert faults.take(FaultKind.GAP, "binance_usdm", "BTCUSDT", now_ns=START_NS) is not None
    assert faults.take(FaultKind.GAP, "binance_usdm", "BTCUSDT", now_ns=START_NS) is None


def test_a_fault_of_a_whole_connection_is_not_asked_for_by_symbol() -> None:
    faults = plan("disconnect@binance_spot:BTCUSDT")
    assert faults.take(FaultKind.DISCONNECT, "binance_spot", now_ns=START_NS) is not None


def test_faults_of_one_kind_are_handed_out_in_the_order_they_were_given() -> None:
    faults = plan("stall,for=1", "stall,for=2")
    faults.inject(Fault.parse("stall,for=3"))
    taken = [faults.take(FaultKind.STALL, "binance_spot", now_ns=START_NS) for _ in range(4)]
    assert [fault.duration_s if fault else None for fault in taken] == [1.0, 2.0, 3.0, None]


def test_times_count_from_the_start() -> None:
    faults = FaultPlan([Fault.parse("gap,at=1")])
    faults.start(START_NS)
    assert faults.take(FaultKind.GAP, "binance_spot", now_ns=at(0.999)) is None
    assert faults.take(FaultKind.GAP, "binance_spot", now_ns=at(1)) is not None


def test_a_skewed_clock_stays_skewed_and_is_the_venues_own() -> None:
    faults = plan("clock_skew@binance_spot,at=1,for=0.25")
    assert faults.skew_ns("binance_spot", at(0)) == 0
    assert faults.skew_ns("binance_spot", at(1)) == NS_PER_S // 4
    assert faults.skew_ns("binance_spot", at(100)) == NS_PER_S // 4
    assert faults.skew_ns("binance_usdm", at(100)) == 0
