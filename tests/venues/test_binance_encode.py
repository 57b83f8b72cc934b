"""Both directions of Binance's wire: real frames come back byte for byte, as far as the tape keeps what they say."""

from __future__ import annotations

import json
import re

import pytest
from binance_frames import COINM, MS, SPOT, TABLE, USDM, instrument, payload, recorded, recorded_2021
from wire_frames import Decoded, Wire, row, rows_of

from oneprice.model.errors import InputError, WireError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import LAST, Kind
from oneprice.venues.base import (
    CHANNEL_CODE,
    HEAD_CHANNEL,
    HEAD_FIRST_ID,
    HEAD_INSTRUMENT,
    HEAD_LAST_ID,
    HEAD_PREVIOUS_ID,
    Channel,
    Control,
)
from oneprice.venues.binance_json import combined_url, control, subscribe, unsubscribe
from oneprice.venues.binance_rest import read_instruments
from oneprice.venues.registry import venue


def encode(wire: Wire, got: Decoded, sent_ms: int) -> bytes:
    """The frame that the venue's encoders make of decoded rows."""
    traded = wire.instruments[got.head[HEAD_INSTRUMENT]]
    encoders = venue(traded.venue).encode
    if got.head[HEAD_CHANNEL] == CHANNEL_CODE[Channel.DEPTH]:
        return encoders.depth(
            traded, got.rows, first_id=got.head[HEAD_FIRST_ID], last_id=got.head[HEAD_LAST_ID],
            previous_id=got.head[HEAD_PREVIOUS_ID], is_snapshot=False, ts_ns=sent_ms * MS,
        )  # fmt: skip
    by_code = {
        CHANNEL_CODE[channel]: getattr(encoders, channel.value)
        for channel in (Channel.TRADE, Channel.QUOTE, Channel.MARK, Channel.LIQUIDATION)
    }
    encoded: bytes = by_code[got.head[HEAD_CHANNEL]](traded, got.rows, ts_ns=sent_ms * MS)
    return encoded


def event_of(frame: bytes) -> bytes:
    return frame.partition(b'"data":')[2][:-1] if frame.startswith(b'{"stream"') else frame


def sent_ms(frame: bytes) -> int:
    found = re.search(rb'"E":(\d+)', frame)
    return int(found[1]) if found else 0


def older(frame: bytes) -> bytes:
    """A frame of today's shape without what came in 2025 and 2026: pair, product number, quantity without RPI."""
    return re.sub(rb',"(ps|nq)":"[^"]*"|,"st":\d', b"", frame)


@pytest.mark.parametrize(
    ("wire", "frame"),
    [
        (SPOT, payload("binance_spot", "trade")),
        (SPOT, payload("binance_spot", "book_ticker")),
        (SPOT, payload("binance_spot", "book_ticker_2024")),
        (SPOT, payload("binance_spot", "depth_diff")),
        (USDM, payload("binance_usdm", "depth_diff_2026_trimmed")),
    ],
)
def test_a_real_frame_of_todays_shape_comes_back_byte_for_byte(wire: Wire, frame: bytes) -> None:
    assert event_of(encode(wire, wire(frame), sent_ms(frame))) == frame


def test_the_wrapper_comes_back_byte_for_byte() -> None:
    frame = payload("binance_spot", "trade_combined")
    assert encode(SPOT, SPOT(frame), sent_ms(frame)) == frame


def test_the_spot_recording_comes_back_byte_for_byte() -> None:
    for frame in recorded("binance_spot"):
        assert encode(SPOT, SPOT(frame), sent_ms(frame)) == frame


@pytest.mark.parametrize("venue_name", ["binance_usdm", "binance_coinm"])
def test_recorded_depth_and_quotes_of_futures_come_back_byte_for_byte_but_for_newer_fields(venue_name: str) -> None:
    wire = {"binance_usdm": USDM, "binance_coinm": COINM}[venue_name]
    compared = 0
    for frame in recorded(venue_name):
        if b'"e":"trade"' not in frame:  # recorded from @trade, which is not the stream that we take
            got = encode(wire, wire(frame), sent_ms(frame))
            assert older(event_of(got)) == older(event_of(frame))
            compared += 1
    assert compared > 9_000


@pytest.mark.parametrize(
    ("name", "venue_name", "kinds"),
    [
        ("BINANCE_FUTURES", "binance_usdm", {"depthUpdate", "aggTrade", "bookTicker"}),
        ("BINANCE_DELIVERY", "binance_coinm", {"depthUpdate", "aggTrade", "bookTicker"}),
    ],
)
def test_frames_of_many_symbols_come_back_at_the_precisions_of_their_instrument_list(
    name: str, venue_name: str, kinds: set[str]
) -> None:
    info, frames = recorded_2021(name)
    rest = venue(venue_name).rest
    wire = Wire(venue(venue_name).decode, InstrumentTable(rest.read_instruments(json.dumps(info).encode())), venue_name)
    seen, symbols = set(), set()
    for frame in frames:
        got = wire(frame)
        if got.status <= 0:
            continue
        event = event_of(frame)
        seen.add(json.loads(event).get("e"))
        symbols.add(got.head[HEAD_INSTRUMENT])
        mine = older(event_of(encode(wire, got, sent_ms(frame))))
        # The trade ids that an aggregate trade joins are not on the tape.
        joined = rb'"f":\d+,"l":\d+'
        assert re.sub(joined, b"", mine) == re.sub(joined, b"", older(event))
    assert seen == kinds
    assert len(symbols) >= 4


def test_mark_prices_and_liquidations_come_back_but_for_what_the_tape_does_not_keep() -> None:
    frame = payload("binance_usdm", "mark_price_2026")
    unkept = rb'"(P|ap)":"[\d.]+"'
    mine = event_of(encode(USDM, USDM(frame), sent_ms(frame)))
    assert re.sub(unkept, b"", mine) == re.sub(unkept, b"", frame)
    frame = payload("binance_usdm", "force_order")
    unkept = rb'"(ap|l)":"[\d.]+"'
    mine = event_of(encode(USDM, USDM(frame), sent_ms(frame)))
    assert re.sub(unkept, b"", mine) == re.sub(unkept, b"", frame)


def test_a_product_says_which_it_is_and_reads_only_its_own() -> None:
    quote = rows_of(
        row(Kind.QUOTE, instrument=0, venue_ns=5 * MS, sequence=7, price=10, qty=1),
        row(Kind.QUOTE, instrument=0, venue_ns=5 * MS, sequence=7, price=11, qty=1, flags=2 | LAST),
    )
    for wire, name, number in ((USDM, "binance_usdm", 1), (COINM, "binance_coinm", 2)):
        traded = next(i for _, i in TABLE.of_venue(name))
        encoder = venue(name).encode.quote
        assert encoder is not None
        frame = encoder(traded, quote, ts_ns=6 * MS)
        assert json.loads(event_of(frame))["st"] == number
        assert json.loads(event_of(frame))["ps"] == traded.base + traded.quote
        assert wire(frame).status == 2
        assert wire(frame.replace(b'"st":%d' % number, b'"st":%d' % (3 - number))).status == 0


def test_a_diff_stream_has_no_snapshots_and_a_message_one_trade() -> None:
    traded = TABLE[0]
    rows = rows_of(row(Kind.TRADE, instrument=0, venue_ns=MS, price=1, qty=1))
    with pytest.raises(InputError, match="REST"):
        venue("binance_spot").encode.depth(traded, rows, first_id=1, last_id=2, is_snapshot=True, ts_ns=MS)
    with pytest.raises(InputError, match="one trade"):
        venue("binance_spot").encode.trade(traded, rows[:0], ts_ns=MS)


def test_digits_that_the_usual_eight_places_cannot_hold_are_printed_all_the_same() -> None:
    fine = instrument("binance_spot", "PEPEUSDT", -10, 0)
    rows = rows_of(row(Kind.TRADE, instrument=0, venue_ns=MS, price=12345, qty=3))
    frame = venue("binance_spot").encode.trade(fine, rows, ts_ns=MS)
    assert b'"p":"0.0000012345","q":"3.00000000"' in frame


# -- requests and control frames ---------------------------------------------------------------------------------------


def test_requests_are_those_of_the_documentation() -> None:
    request = json.loads(payload("binance_spot", "subscribe_request"))
    assert subscribe(request["params"], request["id"]) == payload("binance_spot", "subscribe_request")
    request = json.loads(payload("binance_usdm", "subscribe_request_market"))
    assert subscribe(request["params"], request["id"]) == payload("binance_usdm", "subscribe_request_market")
    request = json.loads(payload("binance_spot", "unsubscribe_request"))
    assert unsubscribe(request["params"], request["id"]) == payload("binance_spot", "unsubscribe_request")
    assert combined_url("wss://fstream.binance.com/public", ["a"]) == "wss://fstream.binance.com/public/stream"


@pytest.mark.parametrize(
    ("frame", "understood"),
    [
        (payload("binance_spot", "subscribe_ack"), Control(kind="ack", request_id="1")),
        (payload("binance_usdm", "subscribe_ack"), Control(kind="ack", request_id="1")),
        (payload("binance_spot", "list_subscriptions_response"), Control(kind="ack", request_id="3")),
        (payload("binance_spot", "server_shutdown"), Control(kind="shutdown", message="serverShutdown")),
        (payload("binance_spot", "server_shutdown_combined"), Control(kind="shutdown", message="serverShutdown")),
        (b'{"error":{"code":-2,"msg":"no"},"id":"a"}', Control(kind="error", request_id="a", message="-2: no")),
        (b'{"stream":"!ticker@arr","data":[{"e":"x"}]}', Control(kind="other", message="!ticker@arr")),
        (payload("binance_spot", "kline"), Control(kind="other", message="kline")),
    ],
)
def test_a_control_frame_is_understood(frame: bytes, understood: Control) -> None:
    assert SPOT(frame).status <= 0
    assert control(frame) == understood


@pytest.mark.parametrize("venue_name", ["binance_spot", "binance_usdm"])
def test_a_refused_request_is_an_error_with_the_venues_words(venue_name: str) -> None:
    understood = control(payload(venue_name, "subscribe_error"))
    assert understood.kind == "error"
    assert understood.message.startswith("2: Invalid request: unknown variant")


@pytest.mark.parametrize("frame", [b"", b"pong", b"[]", b"1", b'{"id":{}}', b'{"code":"x"}', b"\xff\xfe"])
def test_a_control_frame_of_no_known_shape_is_a_wire_error(frame: bytes) -> None:
    with pytest.raises(WireError, match="binance"):
        control(frame)


def test_the_instrument_list_gives_the_decimals_that_frames_print() -> None:
    listed = read_instruments(
        payload("binance_usdm", "rest_instruments"), venue="binance_usdm", maker_fee=0, taker_fee=0
    )
    wire = Wire(venue("binance_usdm").decode, InstrumentTable(listed), "binance_usdm")
    frame = payload("binance_usdm", "depth_diff_2026_trimmed")
    assert event_of(encode(wire, wire(frame), sent_ms(frame))) == frame
