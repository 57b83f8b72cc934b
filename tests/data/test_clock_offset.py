"""Clock offsets: from round trips, and from recordings alone."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneprice.data.clock_offset import ClockOffset, one_way_offset_ms
from oneprice.model.errors import InputError
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
