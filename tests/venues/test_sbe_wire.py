"""Binance's binary frames: the schema's offsets, payloads both ways, longer versions, inexact numbers, damage."""

from __future__ import annotations

import json
import struct
from decimal import Decimal
from typing import Any
from xml.etree import ElementTree

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sbe_frames import BTC, PAYLOADS, TABLE, TOP, WIRE, folder, frame
from wire_frames import Wire, damaged, depth_rows, row, rows_of, same

from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.tape import ASK, LAST, Kind
from oneprice.venues import wire_sbe
from oneprice.venues.base import (
    CHANNEL_CODE,
    HEAD_CHANNEL,
    HEAD_FIRST_ID,
    HEAD_INSTRUMENT,
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    Channel,
    Status,
)
from oneprice.venues.binance_sbe import BINANCE_SBE, encode_depth, encode_quote, encode_top, encode_trade

US = 1_000


# -- the schema --------------------------------------------------------------------------------------------------------


def schema() -> tuple[dict[str, str], dict[int, Any]]:
    """(the schema's attributes, template → (block, offsets by field, group → (header size, entry size, offsets)))."""
    root = ElementTree.parse(folder() / "stream_1_0.xml").getroot()
    sizes = {"int8": 1, "uint8": 1, "uint16": 2, "uint32": 4, "int64": 8}
    for kind in root.iter("type"):
        if kind.get("length") is None and kind.get("name") not in ("length", "varData"):
            sizes[kind.get("name", "")] = sizes[kind.get("primitiveType", "")]
    for kind in root.iter("enum"):
        sizes[kind.get("name", "")] = sizes[kind.get("encodingType", "")]
    for composite in root.iter("composite"):
        sizes[composite.get("name", "")] = sum(sizes.get(part.get("primitiveType", ""), 0) for part in composite)

    def layout(parent: ElementTree.Element) -> tuple[int, dict[str, int]]:
        offset, offsets = 0, {}
        for field in parent.findall("field"):
            if field.get("presence") == "constant":
                continue
            offsets[field.get("name", "")] = offset
            offset += sizes[field.get("type", "")]
        return offset, offsets

    templates = {}
    for message in root.iter("{http://fixprotocol.io/2016/sbe}message"):
        groups = {
            group.get("name", ""): (sizes[group.get("dimensionType", "groupSizeEncoding")], *layout(group))
            for group in message.findall("group")
        }
        templates[int(message.get("id", "0"))] = (*layout(message), groups)
    return dict(root.attrib), templates


def test_all_offsets_are_those_of_the_schema() -> None:
    attributes, templates = schema()
    assert (int(attributes["id"]), int(attributes["version"])) == (wire_sbe.SCHEMA_ID, wire_sbe.SCHEMA_VERSION)
    assert attributes["byteOrder"] == "littleEndian"
    levels = {
        side: (
            wire_sbe.LEVELS_GROUP_HEADER,
            wire_sbe.LEVEL_ENTRY,
            {"price": wire_sbe.LEVEL_PRICE, "qty": wire_sbe.LEVEL_QTY},
        )
        for side in ("bids", "asks")
    }
    trades = {
        "id": wire_sbe.TRADE_ID, "price": wire_sbe.TRADE_PRICE, "qty": wire_sbe.TRADE_QTY,
        "isBuyerMaker": wire_sbe.TRADE_BUYER_IS_MAKER,
    }  # fmt: skip
    ours = {
        wire_sbe.TRADES: (
            wire_sbe.TRADES_BLOCK,
            {
                "eventTime": wire_sbe.EVENT_TIME, "transactTime": wire_sbe.TRADES_TRANSACT_TIME,
                "priceExponent": wire_sbe.TRADES_PRICE_EXPONENT, "qtyExponent": wire_sbe.TRADES_PRICE_EXPONENT + 1,
            },
            {"trades": (wire_sbe.TRADES_GROUP_HEADER, wire_sbe.TRADE_ENTRY, trades)},
        ),
        wire_sbe.BEST_BID_ASK: (
            wire_sbe.QUOTE_BLOCK,
            {
                "eventTime": wire_sbe.EVENT_TIME, "bookUpdateId": wire_sbe.QUOTE_UPDATE_ID,
                "priceExponent": wire_sbe.QUOTE_PRICE_EXPONENT, "qtyExponent": wire_sbe.QUOTE_PRICE_EXPONENT + 1,
                "bidPrice": wire_sbe.QUOTE_PRICES, "bidQty": wire_sbe.QUOTE_PRICES + 8,
                "askPrice": wire_sbe.QUOTE_PRICES + 16, "askQty": wire_sbe.QUOTE_PRICES + 24,
            },
            {},
        ),
        wire_sbe.DEPTH_TOP: (
            wire_sbe.TOP_BLOCK,
            {
                "eventTime": wire_sbe.EVENT_TIME, "bookUpdateId": wire_sbe.TOP_UPDATE_ID,
                "priceExponent": wire_sbe.TOP_PRICE_EXPONENT, "qtyExponent": wire_sbe.TOP_PRICE_EXPONENT + 1,
            },
            levels,
        ),
        wire_sbe.DEPTH_DIFF: (
            wire_sbe.DIFF_BLOCK,
            {
                "eventTime": wire_sbe.EVENT_TIME, "firstBookUpdateId": wire_sbe.DIFF_FIRST_ID,
                "lastBookUpdateId": wire_sbe.DIFF_LAST_ID, "priceExponent": wire_sbe.DIFF_PRICE_EXPONENT,
                "qtyExponent": wire_sbe.DIFF_PRICE_EXPONENT + 1,
            },
            levels,
        ),
    }  # fmt: skip
    assert templates == ours


# -- payloads ----------------------------------------------------------------------------------------------------------


def mantissa(text: str, exponent: int) -> int:
    return int(Decimal(text).scaleb(-exponent))


def expected_rows(said: dict[str, Any], instruments: InstrumentTable) -> Any:
    """The rows that an expected decoding stands for."""
    index = instruments.index("binance_sbe", said["symbol"])
    instrument = instruments[index]
    price_exponent, qty_exponent = instrument.price_exponent, instrument.qty_exponent
    if said["template"] == wire_sbe.TRADES:
        rows = rows_of(
            *(
                row(
                    Kind.TRADE, instrument=index, venue_ns=said["transactTime"] * US, sequence=trade["id"],
                    price=mantissa(trade["price"], price_exponent), qty=mantissa(trade["qty"], qty_exponent),
                    flags=ASK if trade["isBuyerMaker"] else 0,
                )
                for trade in said["trades"]
            )
        )  # fmt: skip
        rows["flags"][-1] |= LAST
        return rows
    if said["template"] == wire_sbe.BEST_BID_ASK:
        one = {"instrument": index, "venue_ns": said["eventTime"] * US, "sequence": said["bookUpdateId"]}
        return rows_of(
            *(
                row(
                    Kind.QUOTE, price=mantissa(said[f"{side}Price"], price_exponent),
                    qty=mantissa(said[f"{side}Qty"], qty_exponent), flags=flags, **one,
                )
                for side, flags in (("bid", 0), ("ask", ASK | LAST))
            )
        )  # fmt: skip
    bids, asks = (
        [(mantissa(price, price_exponent), mantissa(qty, qty_exponent)) for price, qty in said[side]]
        for side in ("bids", "asks")
    )
    is_top = said["template"] == wire_sbe.DEPTH_TOP
    return depth_rows(
        bids, asks, instrument=index, venue_ns=said["eventTime"] * US, is_snapshot=is_top,
        sequence=said["bookUpdateId"] if is_top else said["lastBookUpdateId"],
    )  # fmt: skip


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_gives_the_rows_it_stands_for(name: str) -> None:
    said = json.loads((folder() / f"{name}.json").read_text())
    got = (TOP if name == "depth_snapshot" else WIRE)(frame(name))
    assert same(got.rows, expected_rows(said, TABLE))
    assert got.head[HEAD_INSTRUMENT] == BTC
    if name.startswith("depth_diff"):
        assert (got.head[HEAD_FIRST_ID], got.head[HEAD_LAST_ID]) == (
            said["firstBookUpdateId"],
            said["lastBookUpdateId"],
        )
        assert got.head[HEAD_IS_SNAPSHOT] == 0


def re_encoded(got: Any, instrument: Instrument, event_us: int) -> bytes:
    """The frame that the encoders make of decoded rows."""
    channel = got.head[HEAD_CHANNEL]
    if channel == CHANNEL_CODE[Channel.TRADE]:
        return encode_trade(instrument, got.rows, ts_ns=event_us * US)
    if channel == CHANNEL_CODE[Channel.QUOTE]:
        return encode_quote(instrument, got.rows, ts_ns=event_us * US)
    if got.head[HEAD_IS_SNAPSHOT] == 1:
        return encode_top(instrument, got.rows, update_id=got.head[HEAD_LAST_ID], ts_ns=event_us * US)
    return encode_depth(
        instrument, got.rows, first_id=got.head[HEAD_FIRST_ID], last_id=got.head[HEAD_LAST_ID], previous_id=-1,
        is_snapshot=False, ts_ns=event_us * US,
    )  # fmt: skip


@pytest.mark.parametrize("name", PAYLOADS)
def test_a_payload_comes_back_byte_for_byte(name: str) -> None:
    said = json.loads((folder() / f"{name}.json").read_text())
    as_sent = msgspec.structs.replace(
        TABLE[BTC], price_exponent=said["priceExponent"], qty_exponent=said["qtyExponent"]
    )
    decode = wire_sbe.decode_top if name == "depth_snapshot" else wire_sbe.decode
    got = Wire(decode, InstrumentTable([as_sent]), "binance_sbe")(frame(name))
    assert re_encoded(got, as_sent, said["eventTime"]) == frame(name)


VECTORS = {case["name"]: case for case in json.loads((folder() / "vector_frames.json").read_text())["cases"]}


@pytest.mark.parametrize("name", VECTORS)
def test_a_vector_frame_is_read_skipped_or_refused(name: str) -> None:
    case = VECTORS[name]
    got = WIRE(bytes.fromhex(case["hex"]))
    if case["result"] == "skip":
        assert got.status == Status.CONTROL
        assert BINANCE_SBE.control(bytes.fromhex(case["hex"])).kind == "other"
    elif case["result"] == "error":
        assert got.status == Status.MALFORMED
    else:
        assert same(got.rows, expected_rows(case["result"], TABLE))


def test_the_best_twenty_levels_are_no_book_for_the_feed() -> None:
    assert WIRE(frame("depth_snapshot")).status == Status.CONTROL
    assert TOP(frame("depth_diff")).status == Status.CONTROL


@pytest.mark.parametrize(("name", "kind"), [("subscribe_ack", "ack"), ("server_shutdown", "shutdown")])
def test_text_on_the_same_socket_is_a_control_frame(name: str, kind: str) -> None:
    text = (folder() / f"{name}.json").read_bytes()
    assert WIRE(text).status == Status.CONTROL
    assert BINANCE_SBE.control(text).kind == kind


def test_a_diff_without_levels_carries_the_chain_on() -> None:
    empty = encode_depth(TABLE[BTC], rows_of(), first_id=11, last_id=12, previous_id=-1, is_snapshot=False, ts_ns=5_000)
    got = WIRE(empty)
    assert (len(empty), got.status) == (50, 0)
    assert (got.head[HEAD_CHANNEL], got.head[HEAD_FIRST_ID], got.head[HEAD_LAST_ID]) == (1, 11, 12)


def test_an_empty_top_is_one_row_that_clears() -> None:
    rows = depth_rows([], [], instrument=BTC, venue_ns=5_000, sequence=9, is_snapshot=True)
    assert same(TOP(encode_top(TABLE[BTC], rows, update_id=9, ts_ns=5_000)).rows, rows)


# -- numbers -----------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(st.integers(1, 2**63 - 1), st.integers(-30, 30), st.integers(1, 2**63 - 1), st.integers(-128, 127))
def test_a_number_is_moved_to_the_instruments_exponent_exactly_or_not_at_all(
    price: int, price_exponent: int, qty: int, qty_exponent: int
) -> None:
    root = struct.pack("<2q2b", 1, 2, price_exponent, qty_exponent)
    group = struct.pack("<HI", 25, 1) + struct.pack("<3qB", 3, price, qty, 0)
    sent = struct.pack("<4H", 18, 10000, 1, 0) + root + group + b"\x07BTCUSDT"
    got = WIRE(sent)
    exact = [
        Decimal(number).scaleb(exponent - own)
        for number, exponent, own in ((price, price_exponent, -2), (qty, qty_exponent, -5))
    ]
    if all(value == value.to_integral_value() and value < 2**63 for value in exact):
        assert [int(got.rows[0]["price"]), int(got.rows[0]["qty"])] == [int(value) for value in exact]
    else:
        assert got.status == Status.INEXACT
        assert got.head[HEAD_INSTRUMENT] == BTC


@pytest.mark.parametrize(
    ("price", "qty", "status"),
    [(0, 5, Status.MALFORMED), (5, 0, Status.MALFORMED), (-5, 5, Status.MALFORMED), (-(2**63), 5, Status.MALFORMED)],
)
def test_a_trade_of_nothing_or_for_nothing_is_malformed(price: int, qty: int, status: Status) -> None:
    rows = rows_of(row(Kind.TRADE, instrument=BTC, venue_ns=5_000, price=price, qty=qty, flags=LAST))
    assert WIRE(encode_trade(TABLE[BTC], rows, ts_ns=5_000)).status == status


MANTISSA, TIME_US = st.integers(1, 10**15), st.integers(1, 2 * 10**15)
LEVELS = st.lists(st.tuples(MANTISSA, st.integers(0, 10**15)), max_size=6)
SMALL = settings(max_examples=60)


@SMALL
@given(LEVELS, LEVELS, st.booleans(), TIME_US, st.integers(1, 2**62))
def test_depth_that_is_encoded_decodes_to_the_same_rows(bids: Any, asks: Any, top: bool, us: int, last: int) -> None:
    rows = depth_rows(bids, asks, instrument=BTC, venue_ns=us * US, sequence=last, is_snapshot=top)
    if top:
        sent, wire = encode_top(TABLE[BTC], rows, update_id=last, ts_ns=us * US), TOP
    else:
        sent, wire = (
            encode_depth(
                TABLE[BTC], rows, first_id=last - 1, last_id=last, previous_id=-1, is_snapshot=False, ts_ns=us * US
            ),
            WIRE,
        )
    got = wire(sent)
    assert same(got.rows, rows)
    for room in range(got.status):
        assert wire(sent, room=room).status == Status.NO_ROOM


@SMALL
@given(
    st.lists(st.tuples(MANTISSA, MANTISSA, st.sampled_from((0, ASK)), st.integers(0, 2**62)), min_size=1, max_size=6),
    TIME_US,
)
def test_trades_that_are_encoded_decode_to_the_same_rows(trades: Any, us: int) -> None:
    rows = rows_of(
        *(
            row(Kind.TRADE, instrument=BTC, venue_ns=us * US, price=price, qty=qty, flags=flags, sequence=trade_id)
            for price, qty, flags, trade_id in trades
        )
    )
    rows["flags"][-1] |= LAST
    sent = encode_trade(TABLE[BTC], rows, ts_ns=(us + 3) * US)
    assert same(WIRE(sent).rows, rows)
    assert WIRE(sent, room=len(trades) - 1).status == Status.NO_ROOM


@SMALL
@given(st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**15), TIME_US)
def test_a_quote_that_is_encoded_decodes_to_the_same_rows(
    bid: int, size: int, ask: int, ask_size: int, us: int
) -> None:
    one = {"instrument": BTC, "venue_ns": us * US, "sequence": us}
    rows = rows_of(
        row(Kind.QUOTE, price=bid, qty=size, **one), row(Kind.QUOTE, price=ask, qty=ask_size, flags=ASK | LAST, **one)
    )
    sent = encode_quote(TABLE[BTC], rows, ts_ns=us * US)
    assert same(WIRE(sent).rows, rows)
    assert WIRE(sent, room=1).status == Status.NO_ROOM


# -- damage ------------------------------------------------------------------------------------------------------------

FRAMES = [frame(name) for name in PAYLOADS] + [bytes.fromhex(case["hex"]) for case in VECTORS.values()]
BEHIND = (b"", b"\x07BTCUSDT" * 8, b"\x00" * 64, b"\xff" * 64, b"\x10\x00\x01\x00" * 16)


@pytest.mark.parametrize("at", range(len(FRAMES)))
def test_a_frame_cut_anywhere_is_refused_and_what_lies_behind_it_is_never_read(at: int) -> None:
    whole = FRAMES[at]
    for wire in (WIRE, TOP):
        for end in range(len(whole)):
            alone = wire(whole[:end])
            assert alone.status < 0
            for behind in BEHIND:
                assert wire(whole[:end], behind=behind).status == alone.status


@settings(max_examples=400)
@given(damaged(FRAMES), st.sampled_from((WIRE, TOP)), st.sampled_from(BEHIND), st.integers(0, 45))
def test_a_damaged_frame_has_an_answer_that_depends_on_nothing_else(
    sent: bytes, wire: Wire, behind: bytes, room: int
) -> None:
    alone, got = wire(sent, room=room), wire(sent, room=room, behind=behind)
    assert (got.status, got.head) == (alone.status, alone.head)
    assert same(got.rows, alone.rows)
    if alone.status > 0:
        assert alone.rows["flags"][-1] & LAST
        assert (alone.rows["price"] >= 0).all()
        assert (alone.rows["qty"] >= 0).all()


def test_a_count_that_promises_more_than_the_frame_holds_is_refused() -> None:
    for name, at in (("trades_one", 8 + 18 + 2), ("depth_diff", 8 + 26 + 2)):
        for size in (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f"):
            sent = bytearray(frame(name))
            sent[at : at + len(size)] = size
            assert WIRE(bytes(sent)).status == Status.MALFORMED
