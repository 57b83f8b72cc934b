"""Both directions of Bybit's wire: real frames come back byte for byte, what is encoded decodes to the same rows."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from bybit_frames import (
    HOUR_NS,
    LINEAR,
    LINEAR_BTC,
    MS,
    REAL,
    SPOT,
    SPOT_BTC,
    TABLE,
    book_frame,
    encode,
    payload,
    recorded,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from wire_frames import Wire, depth_rows, row, rows_of, same

from oneprice.model.tape import ASK, CLEAR, LAST, Kind, Rows
from oneprice.venues.base import (
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    Status,
)
from oneprice.venues.bybit import (
    encode_depth,
    encode_liquidation,
    encode_mark,
    encode_quote,
    encode_trade,
)


def masked(frame: bytes) -> bytes:
    """A frame without what the tape does not keep: the engine's cross sequence, linear trade ids and tick direction."""
    text = re.sub(rb'"(seq|cs)":\d+', rb'"\1":0', frame.strip())
    text = re.sub(rb'"i":"[0-9a-f-]{36}"', b'"i":""', text)
    return re.sub(rb'"L":"\w+"', b'"L":""', text)


@pytest.mark.parametrize("name", REAL)
def test_a_real_frame_comes_back_byte_for_byte(name: str) -> None:
    wire, ts_ms = REAL[name]
    frame = payload(name)
    assert masked(encode(wire, wire(frame), ts_ms * MS)) == masked(frame)


def test_recorded_depth_and_trades_come_back_byte_for_byte() -> None:
    counts = {"orderbook": 0, "publicTrade": 0}
    for product, frame in recorded():
        message = json.loads(frame)
        kind = message.get("topic", "").split(".")[0]
        if kind in counts:
            wire = SPOT if product == "spot" else LINEAR
            again = encode(wire, wire(frame), message["ts"] * MS).replace(b"orderbook.50.", b"orderbook.200.")
            assert masked(again) == masked(frame)
            counts[kind] += 1
    assert counts == {"orderbook": 2148, "publicTrade": 120}


MANTISSA = st.integers(1, 10**12)
LEVELS = st.lists(st.tuples(MANTISSA, st.integers(0, 10**12)), max_size=6)
TIME_MS = st.integers(1_500_000_000_000, 2_000_000_000_000)
WIRES = st.sampled_from((SPOT, LINEAR))
SMALL = settings(max_examples=60)


def _any_instrument(wire: Wire) -> int:
    return SPOT_BTC if wire is SPOT else LINEAR_BTC


@SMALL
@given(WIRES, LEVELS, LEVELS, st.integers(2, 2**53), st.booleans(), TIME_MS, TIME_MS)
def test_depth_that_is_encoded_decodes_to_the_same_rows(
    wire: Wire, bids: Any, asks: Any, update: int, is_snapshot: bool, engine_ms: int, ts_ms: int
) -> None:
    index = _any_instrument(wire)
    rows = depth_rows(bids, asks, instrument=index, venue_ns=engine_ms * MS, sequence=update, is_snapshot=is_snapshot)
    frame = encode_depth(
        TABLE[index], rows, first_id=update, last_id=update, previous_id=update - 1, is_snapshot=is_snapshot,
        ts_ns=ts_ms * MS,
    )  # fmt: skip
    got = wire(frame)
    assert same(got.rows, rows)
    assert got.head[HEAD_LAST_ID] == update
    assert (got.head[HEAD_IS_SNAPSHOT] == 1) == is_snapshot
    for room in range(got.status):
        assert wire(frame, room=room).status == Status.NO_ROOM


@SMALL
@given(WIRES, st.tuples(st.integers(0, 10**12), MANTISSA), st.tuples(st.integers(0, 10**12), MANTISSA), TIME_MS)
def test_a_quote_that_is_encoded_decodes_to_the_same_rows(wire: Wire, bid: Any, ask: Any, ms: int) -> None:
    bid, ask = (level if level[0] > 0 else (0, 0) for level in (bid, ask))
    one = {"instrument": _any_instrument(wire), "venue_ns": ms * MS, "sequence": 12}
    rows = rows_of(
        row(Kind.QUOTE, price=bid[0], qty=bid[1], **one),
        row(Kind.QUOTE, price=ask[0], qty=ask[1], flags=ASK | LAST, **one),
    )
    frame = encode_quote(TABLE[one["instrument"]], rows, ts_ns=ms * MS)
    assert same(wire(frame).rows, rows)
    for room in (0, 1):
        assert wire(frame, room=room).status == Status.NO_ROOM


PRINTS = st.lists(
    st.tuples(MANTISSA, MANTISSA, st.sampled_from((0, ASK)), st.integers(1, 2**63 - 1)), min_size=1, max_size=5
)


@SMALL
@given(WIRES, PRINTS, st.sampled_from((Kind.TRADE, Kind.LIQUIDATION)), TIME_MS)
def test_prints_that_are_encoded_decode_to_the_same_rows(wire: Wire, prints: Any, kind: Kind, ms: int) -> None:
    keeps_ids = kind is Kind.TRADE and wire is SPOT
    rows = rows_of(
        *(
            row(
                kind, instrument=_any_instrument(wire), venue_ns=(ms + k) * MS, price=price, qty=qty, flags=flags,
                sequence=trade_id if keeps_ids else 0,
            )
            for k, (price, qty, flags, trade_id) in enumerate(prints)
        )
    )  # fmt: skip
    rows["flags"][-1] |= LAST
    encoder = encode_trade if kind is Kind.TRADE else encode_liquidation
    frame = encoder(TABLE[_any_instrument(wire)], rows, ts_ns=ms * MS)
    assert same(wire(frame).rows, rows)
    assert wire(frame, room=len(prints) - 1).status == Status.NO_ROOM


PRICE = st.integers(1, 10**14).map(lambda n: n / 10**6)  # up to fifteen digits, which a float64 holds


@SMALL
@given(
    st.one_of(st.none(), PRICE),
    st.one_of(st.none(), PRICE),
    st.one_of(st.none(), PRICE),
    st.one_of(
        st.none(), st.tuples(st.integers(-(10**6), 10**6), st.sampled_from((0, 1, 4, 8)), st.integers(0, 10**12))
    ),
    TIME_MS,
)
def test_a_ticker_that_is_encoded_decodes_to_the_same_rows(
    mark: float | None, index: float | None, open_interest: float | None, funding: Any, ms: int
) -> None:
    one = {"instrument": LINEAR_BTC, "venue_ns": ms * MS}
    rows = [row(kind, value=v, **one) for kind, v in ((Kind.MARK, mark), (Kind.INDEX, index)) if v is not None]
    if funding is not None:
        rate, hours, next_ms = funding
        rows.append(row(Kind.FUNDING, value=rate / 10**8, qty=hours * HOUR_NS, sequence=next_ms * MS, **one))
    if open_interest is not None:
        rows.append(row(Kind.OPEN_INTEREST, value=open_interest, **one))
    expected = rows_of(*rows)
    if rows:
        expected["flags"][-1] |= LAST
    frame = encode_mark(TABLE[LINEAR_BTC], expected, ts_ns=ms * MS)
    assert same(LINEAR(frame).rows, expected)


def shuffled(draw: st.DrawFn, value: Any) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        return {key: shuffled(draw, value[key]) for key in draw(st.permutations(list(value)))}
    if isinstance(value, list):
        return [shuffled(draw, item) for item in value]
    return value


ORDERED = [
    *((wire, payload(name)) for name, (wire, _) in REAL.items()),
    (LINEAR, payload("ticker_linear_snapshot")),
    (LINEAR, payload("trade_linear")),
    (LINEAR, book_frame("snapshot", 9)),
    (LINEAR, book_frame("delta", 1)),
    (LINEAR, book_frame("snapshot", 9, '"b":[],"a":[]')),
]


@settings(max_examples=150)
@given(st.data(), st.sampled_from(ORDERED), st.sampled_from(((",", ":"), (", ", ": "), (" ,\n", "\t: "))))
def test_neither_key_order_nor_white_space_changes_the_rows(data: Any, case: Any, separators: tuple[str, str]) -> None:
    wire, frame = case
    again = json.dumps(data.draw(st.composite(shuffled)(json.loads(frame))), separators=separators).encode()
    expected, got = wire(frame), wire(again)
    assert got.head == expected.head
    left, right = (
        np.sort(rows, order=("flags", "price", "qty", "kind", "sequence"))
        for rows in (_without_place(expected.rows), _without_place(got.rows))
    )
    assert same(left, right)
    assert [int(flags) & LAST for flags in got.rows["flags"]] == [0] * (got.status - 1) + [LAST] * (got.status > 0)
    is_whole = expected.head[HEAD_IS_SNAPSHOT] == 1
    assert [bool(flags & CLEAR) for flags in got.rows["flags"]] == [is_whole and k == 0 for k in range(got.status)]


def _without_place(rows: Rows) -> Rows:
    """Rows without the flags that only say first and last: asks may stand before bids."""
    rows = rows.copy()
    rows["flags"] &= 0xFF ^ (LAST | CLEAR)
    return rows
