"""Clock offsets: from round trips, and from recordings alone."""

from __future__ import annotations

import gzip
import logging
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneprice.data.clock_offset import ClockOffset, one_way_offset_ms
from oneprice.data.health import HealthWatch
from oneprice.data.machines import Machines
from oneprice.model.errors import InputError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import Kind, TapeWriter
from oneprice.model.time import NS_PER_MS
from shared_data import shared

T0 = 1_723_161_253_000_000_000
_EVENT_MS = re.compile(rb'"E":(\d{13})')


@given(
    offset_ms=st.integers(-5_000, 5_000),
    trips=st.lists(st.tuples(st.integers(1, 500), st.integers(1, 500)), min_size=1, max_size=40),
)
def test_the_true_offset_is_within_the_stated_error_whatever_the_network_does(
    offset_ms: int, trips: list[tuple[int, int]]
) -> None:
    clock = ClockOffset()
    assert clock.offset_ms is None
    for step, (out_ms, back_ms) in enumerate(trips):
        sent_ns = T0 + step * 1_000 * NS_PER_MS
        venue_ns = sent_ns + (out_ms - offset_ms) * NS_PER_MS  # the venue's clock reads local − offset
        clock.add_round_trip(sent_ns=sent_ns, recv_ns=sent_ns + (out_ms + back_ms) * NS_PER_MS, venue_ns=venue_ns)
    assert clock.offset_ms is not None
    assert clock.error_ms is not None
    assert abs(clock.offset_ms - offset_ms) <= clock.error_ms + 1e-6
    assert clock.error_ms == min(out_ms + back_ms for out_ms, back_ms in trips[-16:]) / 2


def test_the_quickest_of_the_last_probes_counts_and_old_ones_are_forgotten() -> None:
    clock = ClockOffset(keep=2)
    for venue_ns, recv_ns in ((T0 + 1, T0 + 2), (T0, T0 + 200), (T0 + 40, T0 + 100)):
        clock.add_round_trip(sent_ns=T0, recv_ns=recv_ns, venue_ns=venue_ns)
    assert clock.offset_ms == 10 / NS_PER_MS
    with pytest.raises(InputError, match="before it began"):
        clock.add_round_trip(sent_ns=T0, recv_ns=T0 - 1, venue_ns=T0)


def probe(clock: ClockOffset, step: int, *, offset_ms: float, out_ms: float, back_ms: float) -> None:
    """A round trip against a venue that tells whole milliseconds; the probes are 30 s apart."""
    sent_ns = T0 + step * 30_000 * NS_PER_MS
    true_ns = sent_ns + int((out_ms - offset_ms) * NS_PER_MS)
    recv_ns = sent_ns + int((out_ms + back_ms) * NS_PER_MS)
    clock.add_round_trip(sent_ns=sent_ns, recv_ns=recv_ns, venue_ns=true_ns // NS_PER_MS * NS_PER_MS)


trip_ms = st.floats(0.05, 200.0)


@given(
    before=st.lists(st.tuples(trip_ms, trip_ms), min_size=1, max_size=20),
    after=st.lists(st.tuples(trip_ms, trip_ms), min_size=2, max_size=20),
    offset_ms=st.floats(-3_000.0, 3_000.0),
    jump_ms=st.sampled_from([-86_400_000.0, -500.0, 0.0, 500.0, 3_600_000.0]),
)
def test_a_jump_is_told_within_two_probes_and_noise_is_none(
    before: list[tuple[float, float]], after: list[tuple[float, float]], offset_ms: float, jump_ms: float
) -> None:
    clock = ClockOffset()
    for step, (out_ms, back_ms) in enumerate(before):
        probe(clock, step, offset_ms=offset_ms, out_ms=out_ms, back_ms=back_ms)
    assert clock.jumps == 0
    for step, (out_ms, back_ms) in enumerate(after):
        probe(clock, len(before) + step, offset_ms=offset_ms + jump_ms, out_ms=out_ms, back_ms=back_ms)
        if step >= 1:
            assert clock.jumps == (jump_ms != 0.0)
            assert clock.offset_ms is not None
            assert clock.error_ms is not None
            assert abs(clock.offset_ms - offset_ms - jump_ms) <= clock.error_ms + 1.001, "a venue's clock ticks in ms"


@pytest.mark.parametrize(("out_ms", "back_ms"), [(3_000.0, 1.0), (1.0, 3_000.0)])
def test_a_slow_answer_is_no_jump(out_ms: float, back_ms: float) -> None:
    """Its middle is 1.5 s off, and half its round trip says so."""
    clock = ClockOffset()
    probe(clock, 0, offset_ms=40.0, out_ms=10.0, back_ms=10.0)
    probe(clock, 1, offset_ms=40.0, out_ms=out_ms, back_ms=back_ms)
    assert (clock.jumps, clock.offset_ms) == (0, 40.0)


def test_a_slow_answer_after_a_jump_hides_it_for_one_probe_only() -> None:
    clock = ClockOffset()
    probe(clock, 0, offset_ms=0.0, out_ms=10.0, back_ms=10.0)
    probe(clock, 1, offset_ms=500.0, out_ms=1_000.0, back_ms=1_000.0)
    assert (clock.jumps, clock.offset_ms) == (0, 0.0)
    probe(clock, 2, offset_ms=500.0, out_ms=10.0, back_ms=10.0)
    assert (clock.jumps, clock.offset_ms, clock.error_ms) == (1, 500.0, 10.0)


def test_a_person_is_told_of_a_jump(caplog: pytest.LogCaptureFixture) -> None:
    health = HealthWatch([], Machines(InstrumentTable([]), TapeWriter()))
    tape = TapeWriter()
    for step, offset_ms in enumerate([-1_270, -1_270, 30, 30]):
        at_ns = T0 + step * NS_PER_MS
        tape.append(Kind.CLOCK, recv_ns=at_ns, venue_ns=at_ns - offset_ms * NS_PER_MS, sequence=0)
        with caplog.at_level(logging.WARNING, logger="oneprice.data"):
            health.on_clock_rows("binance_spot", tape.take())
    (record,) = caplog.records
    assert "binance_spot: the clock offset (local - venue) went from -1270.0 to 30.0 ms" in record.getMessage()


def test_clock_rows_of_a_tape_give_the_same_as_the_probes() -> None:
    tape = TapeWriter()
    tape.append(Kind.TIMER, recv_ns=T0)
    tape.append(Kind.CLOCK, recv_ns=T0 + 8, venue_ns=T0 + 1_270 * NS_PER_MS + 4, sequence=8, value=-1270.0)
    clock = ClockOffset()
    clock.add_rows(tape.take())
    assert clock.offset_ms == -1270.0


@pytest.mark.parametrize(
    "name",
    ["spot_btcusdt_20240808", "spot_btcusdt_20240809", "usdm_btcusdt_20240808", "cm_btcusd_perp_20240808",
     "cm_btcusd_perp_20240809"],
)  # fmt: skip
def test_the_recordings_of_2024_08_08_were_made_by_a_clock_1270_ms_behind(name: str) -> None:
    recv_ns, venue_ns = [], []
    with gzip.open(shared(f"data/market/binance_2024-08-08/{name}.gz")) as lines:
        for line in lines:
            stamp = _EVENT_MS.search(line[:120])
            if stamp is not None:
                recv_ns.append(int(line[:19]))
                venue_ns.append(int(stamp[1]) * NS_PER_MS)
    offset_ms = one_way_offset_ms(np.array(recv_ns), np.array(venue_ns))
    assert abs(offset_ms - -1270.0) < 50.0
    assert abs(offset_ms - min(r - v for r, v in zip(recv_ns, venue_ns, strict=True)) / NS_PER_MS) < 5.0


def test_one_message_from_the_future_does_not_decide_and_unstamped_ones_are_left_out() -> None:
    rng = np.random.default_rng(5)
    venue_ns = T0 + np.arange(10_000) * 10 * NS_PER_MS
    recv_ns = venue_ns + (20 + rng.exponential(15, 10_000)).astype(np.int64) * NS_PER_MS
    venue_ns[77] += 3_600_000 * NS_PER_MS
    venue_ns[::3] = 0
    assert 19.9 <= one_way_offset_ms(recv_ns, venue_ns) < 21.0
    with pytest.raises(InputError, match="no message carries a venue time"):
        one_way_offset_ms(recv_ns, np.zeros_like(venue_ns))
