"""Damaged Binance frames: an answer always, rows outside the room never, and no look at what lies behind."""

from __future__ import annotations

import pytest
from binance_frames import COINM, SPOT, USDM, payload, recorded
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_frames import damaged, same

from oneprice.model.errors import WireError
from oneprice.model.tape import ASK, LAST, Kind
from oneprice.venues.base import HEAD_INSTRUMENT
from oneprice.venues.binance_json import control

_SPOT = (
    "trade",
    "trade_combined",
    "agg_trade",
    "book_ticker",
    "depth_diff",
    "subscribe_ack",
    "server_shutdown_combined",
)
_USDM = (
    "trade", "trade_combined", "agg_trade_2021", "book_ticker", "depth_diff_2026_trimmed", "mark_price_2026",
    "mark_price_delivery", "force_order", "subscribe_error", "mini_ticker_cm_2026",
)  # fmt: skip
FRAMES = [payload("binance_spot", name) for name in _SPOT] + [payload("binance_usdm", name) for name in _USDM]
# What may lie in memory behind a cut frame: each would complete some of the cuts, were it read.
BEHIND = (b"", b'"}]]}}' * 20, b'0123456789"]]}]}' * 20, b'":[["1","1"]]' * 20, b"\xff" * 200)


@settings(max_examples=600)
@given(
    damaged(FRAMES), st.sampled_from(BEHIND), st.integers(0, 20), st.sampled_from((SPOT, USDM, COINM)),
)  # fmt: skip
def test_a_damaged_frame_has_an_answer_that_depends_on_nothing_else(frame, behind, room, wire) -> None:  # type: ignore[no-untyped-def]
    alone, got = wire(frame, room=room), wire(frame, room=room, behind=behind)
    assert (got.status, got.head) == (alone.status, alone.head)
    assert same(got.rows, alone.rows)
    if alone.status > 0:
        rows = alone.rows
        assert rows["flags"][-1] & LAST
        assert not (rows["flags"][:-1] & LAST).any()
        assert (rows["qty"] >= 0).all()
        assert (rows["price"] >= 0).all()
        assert (rows["ts_venue_ns"] >= 0).all()
        assert (rows["flags"] <= LAST | ASK).all()
        assert set(rows["instrument"].tolist()) == {alone.head[HEAD_INSTRUMENT]}
        assert wire.instruments[alone.head[HEAD_INSTRUMENT]].venue in ("binance_spot", "binance_usdm", "binance_coinm")
        assert {Kind(kind) for kind in rows["kind"].tolist()} <= set(Kind)


@settings(max_examples=300)
@given(st.binary(max_size=80) | damaged(FRAMES))
def test_a_control_frame_is_understood_or_a_wire_error(frame: bytes) -> None:
    try:
        understood = control(frame)
    except WireError:
        return
    assert understood.kind in ("ack", "error", "shutdown", "other")


@pytest.mark.parametrize(("wire", "venue_name"), [(SPOT, "binance_spot"), (USDM, "binance_usdm")])
def test_a_flipped_bit_anywhere_in_a_real_depth_message_is_survived(wire, venue_name: str) -> None:  # type: ignore[no-untyped-def]
    frame = next(frame for frame in recorded(venue_name) if b"depthUpdate" in frame and len(frame) < 1200)
    for at in range(len(frame)):
        for bit in range(8):
            flipped = bytearray(frame)
            flipped[at] ^= 1 << bit
            wire(bytes(flipped), room=60)  # which itself checks the status and the rows around the room
