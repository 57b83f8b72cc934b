"""Cut and damaged Bybit frames: an answer always, rows outside the room never, and no look at what lies behind."""

from __future__ import annotations

import pytest
from bybit_frames import (
    LINEAR,
    REAL,
    book_frame,
    payload,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_frames import damaged, same

from oneprice.model.tape import LAST
from oneprice.venues.base import (
    Status,
)

FRAMES = [
    *((wire, payload(name)) for name, (wire, _) in REAL.items()),
    (LINEAR, payload("ticker_linear_snapshot")),
    (LINEAR, payload("trade_linear")),
    (LINEAR, payload("pong_linear")),
    (LINEAR, book_frame("snapshot", 9)),
    (LINEAR, book_frame("snapshot", 9, '"b":[],"a":[]')),
    (
        LINEAR,
        b'{"data":{"s":"BTCUSDT","b":[["1.00","2"]],"a":[],"u":9},"cts":4,"ts":5,"type":"delta",'
        b'"topic":"orderbook.50.BTCUSDT"}',
    ),
]
# What may lie in memory behind a cut frame: each would complete some of the cuts, were it read.
BEHIND = (b"", b'"}]]}}' * 20, b'0123456789"]]}]}' * 20, b'":[["1","1"]]' * 20, b"\xff" * 200)


@pytest.mark.parametrize("at", range(len(FRAMES)))
def test_a_frame_cut_anywhere_is_refused_and_what_lies_behind_it_is_never_read(at: int) -> None:
    wire, frame = FRAMES[at]
    frame = frame.strip()
    for end in range(len(frame)):
        alone = wire(frame[:end])
        assert alone.status in (Status.MALFORMED, Status.CONTROL, Status.UNKNOWN_SYMBOL, Status.INEXACT), frame[:end]
        for behind in BEHIND:
            got = wire(frame[:end], behind=behind)
            assert got.status == alone.status
    assert wire(frame, behind=BEHIND[1]).status == wire(frame).status


@settings(max_examples=400)
@given(damaged([frame for wire, frame in FRAMES if wire is LINEAR]), st.sampled_from(BEHIND), st.integers(0, 20))
def test_a_damaged_frame_has_an_answer_that_depends_on_nothing_else(frame: bytes, behind: bytes, room: int) -> None:
    alone, got = LINEAR(frame, room=room), LINEAR(frame, room=room, behind=behind)
    assert (got.status, got.head) == (alone.status, alone.head)
    assert same(got.rows, alone.rows)
    if alone.status > 0:
        assert alone.rows["flags"][-1] & LAST
        assert (alone.rows["qty"] >= 0).all()
        assert (alone.rows["instrument"] >= 0).all()
