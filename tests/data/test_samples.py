"""A session's samples: what a plain count by bucket finds, whatever the chunks, and quantiles that others find, too."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tape_world import WORLD, messages_of, pieces, random_tape

from oneprice.compute.naive_book import NaiveBook
from oneprice.data.certify.gaps import gap_ledger
from oneprice.data.certify.measures import measure
from oneprice.data.export.samples import Samples, clock_track, grid_of, sample, sample_rows
from oneprice.data.export.samples_pass import DEPTH_MESSAGES, HIGH, LOW, OTHER_MESSAGES, QUOTE_MESSAGES, TRADES
from oneprice.data.session import Session
from oneprice.model.errors import InputError
from oneprice.model.tape import ASK, CLEAR, LAST, Kind, Rows

KINDS = {Kind.DEPTH: DEPTH_MESSAGES, Kind.QUOTE: QUOTE_MESSAGES, Kind.TRADE: TRADES}


def sampled(rows: Rows, chunks: list[Rows], buckets: int = 40) -> Samples:
    span = int(rows[0]["ts_recv_ns"]), int(rows[-1]["ts_recv_ns"])
    return sample_rows(chunks, WORLD, clock_track([rows], WORLD), span_ns=span, buckets=buckets)


def whole(rows: Rows) -> Rows:
    return rows[: 1 + int(np.flatnonzero(rows["flags"] & LAST)[-1])]


def as_bytes(samples: Samples) -> bytes:
    return msgspec.msgpack.encode(
        samples, enc_hook=lambda value: value.tobytes() if hasattr(value, "tobytes") else str(value)
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_how_a_tape_is_cut_changes_nothing(seed: int) -> None:
    rows = whole(random_tape(seed, messages=150))
    assert as_bytes(sampled(rows, list(pieces(rows, seed)))) == as_bytes(sampled(rows, [rows]))


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_each_bucket_holds_what_a_plain_count_finds(seed: int) -> None:
    rows = whole(random_tape(seed, messages=200))
    samples = sampled(rows, [rows])
    counts: defaultdict[tuple[int, int, int], int] = defaultdict(int)
    volume: defaultdict[tuple[int, int, int], int] = defaultdict(int)
    prices: defaultdict[tuple[int, int, int], list[int]] = defaultdict(list)
    mids: dict[tuple[int, int], float | None] = {}
    books, stands = [NaiveBook() for _ in WORLD], [False] * len(WORLD)
    for message in messages_of(rows):
        i, kind = message[0]["instrument"], Kind(message[0]["kind"])
        if i < 0:
            continue
        bucket = (message[0]["ts_recv_ns"] - samples.start_ns) // samples.bucket_ns
        if kind in KINDS or kind in (Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.LIQUIDATION, Kind.OPEN_INTEREST):
            counts[i, bucket, KINDS.get(kind, OTHER_MESSAGES)] += 1
        for row in message:
            if kind is Kind.TRADE:
                side = 1 if row["flags"] & ASK else 0
                volume[i, bucket, side] += row["price"] * row["qty"]
                prices[i, bucket, side].append(row["price"])
            elif kind is Kind.GAP:
                books[i].clear()
                stands[i] = False
            elif kind is Kind.DEPTH:
                if row["flags"] & CLEAR:
                    books[i].clear()
                    stands[i] = True
                if stands[i] and row["price"]:
                    books[i].set_level(1 if row["flags"] & ASK else 0, row["price"], row["qty"])
        bid, ask = books[i].best(0), books[i].best(1)
        mids[i, bucket] = (bid + ask) / 2 if stands[i] and bid and ask else None
    for i, symbol in enumerate(samples.symbols):
        scale = symbol.instrument.price_scale
        for bucket in range(samples.buckets):
            assert symbol.messages[bucket].tolist() == [counts[i, bucket, what] for what in range(4)]
            for side in (0, 1):
                found = prices[i, bucket, side]
                shown = symbol.trade_price[bucket, side]
                expected = [min(found) * scale, max(found) * scale] if found else [np.nan] * 2
                np.testing.assert_allclose(shown, expected, equal_nan=True)
                notional = volume[i, bucket, side] * scale * symbol.instrument.qty_scale
                assert symbol.volume[bucket, side] == pytest.approx(notional)
            mid = mids.get((i, bucket))
            if mid is not None and bucket < samples.buckets - 1:  # what the tape's last moment shows stood for no time
                assert symbol.mid[bucket] == pytest.approx(mid * scale)
                assert symbol.mid_range[bucket, LOW] <= symbol.mid[bucket] * (1 + 1e-12)
                assert symbol.mid_range[bucket, HIGH] >= symbol.mid[bucket] * (1 - 1e-12)


def test_real_traffic_has_the_spread_the_latency_and_the_gaps_that_the_gates_are_judged_by(faulty: Session) -> None:
    samples, measures = sample(faulty), measure(faulty)
    entries, validity = gap_ledger(faulty)
    assert sum(len(symbol.gaps) for symbol in samples.symbols) == len(entries) > 0
    for symbol, measured, stood in zip(samples.symbols, measures.symbols, validity, strict=True):
        assert symbol.name == measured.symbol
        assert list(symbol.gaps) == [entry for entry in entries if entry.symbol == symbol.name]
        assert symbol.spread_p50_bps == pytest.approx(measured.spread_bps_p50, rel=0.025)
        assert symbol.spread_p95_bps == pytest.approx(measured.spread_bps_p95, rel=0.025)
        assert int(symbol.messages[:, TRADES].sum()) == measured.trades
        assert int(symbol.messages[:, DEPTH_MESSAGES].sum()) == measured.messages
        assert int(symbol.book_ns.sum()) <= stood.valid_ns


def test_a_grid_is_round_and_a_session_without_rows_is_told() -> None:
    for span_s in (1, 59, 7_200, 86_400, 30 * 86_400):
        start_ns, width_ns, count = grid_of(1_769_083_234_567_890_123, 1_769_083_234_567_890_123 + span_s * 10**9, 480)
        assert start_ns % width_ns == 0
        assert 1 <= count <= 480
    with pytest.raises(InputError, match="does not fit in 480 buckets of a day"):
        grid_of(0, 500 * 86_400 * 10**9, 480)
