"""The binary depth stream joined with a REST snapshot, in recorded order, to the expected book; the venue's values."""

from __future__ import annotations

import json

from sbe_frames import BTC, TABLE, WIRE, folder
from wire_frames import SlowBook

from oneprice.model.tape import Rows
from oneprice.venues.base import HEAD_FIRST_ID, HEAD_LAST_ID, Channel, Subscription
from oneprice.venues.binance_sbe import BINANCE_SBE
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.sequencing import Joining, Verdict
from shared_data import shared


def test_the_binary_stream_joins_the_snapshot_and_ends_in_the_json_streams_book() -> None:
    expected = json.loads(shared("data/wire/binance_spot/capture_join_btcusdt_2024-08-08_expected.json").read_text())
    rule, rest = BINANCE_SBE.sequencing, BINANCE_SBE.rest
    assert rest.read_depth is not None
    messages: list[tuple[int, int, Rows]] = []
    snapshot = None
    for line in (folder() / "capture_depth_join_btcusdt_synthetic.jsonl").read_text().splitlines():
        record = json.loads(line)
        if record["via"] == "rest":
            snapshot = rest.read_depth(record["payload"].encode(), TABLE[BTC])
            continue
        got = WIRE(bytes.fromhex(record["payload_hex"]))
        messages.append((got.head[HEAD_FIRST_ID], got.head[HEAD_LAST_ID], got.rows))
    assert snapshot is not None
    assert snapshot.last_id == expected["snapshot_last_update_id"]
    later = [message for message in messages if not rule.is_older(snapshot.last_id, last=message[1])]
    first, last, _ = later[0]
    assert {"U": first, "u": last} == expected["first_applied"]
    assert rule.joins(snapshot.last_id, first=first, last=last, previous=-1) is Joining.JOINED
    assert (len(messages) - len(later), len(later)) == (expected["diffs_discarded"], expected["diffs_applied"])

    book, book_id = SlowBook(), snapshot.last_id
    book.bids, book.asks = dict(snapshot.bids), dict(snapshot.asks)
    for first, last, rows in later:
        assert rule.follows(book_id, first=first, last=last, previous=-1, is_snapshot=False) is Verdict.APPLY
        book.apply(rows)
        book_id = last
    assert book_id == expected["final_update_id"]
    assert not book.is_crossed
    assert {"bids": len(book.bids), "asks": len(book.asks)} == expected["level_count"]
    bids, asks = ([[str(TABLE[BTC].price(p)), str(TABLE[BTC].qty(q))] for p, q in side] for side in book.top(10))
    trimmed = {
        side: [[price[:-6], qty[:-3]] for price, qty in expected["top10"][side]] for side in ("bids", "asks")
    }  # eight decimals on the JSON wire, two and five in the instrument
    assert {"bids": bids, "asks": asks} == trimmed


def test_the_binary_wire_serves_the_market_of_the_json_wire() -> None:
    assert BINANCE_SBE.market == BINANCE_SPOT.market == "binance_spot"
    assert BINANCE_SBE.name != BINANCE_SPOT.name
    assert BINANCE_SBE.ws_headers == ("X-MBX-APIKEY",)
    assert BINANCE_SBE.sequencing == BINANCE_SPOT.sequencing
    assert BINANCE_SBE.endpoints["live"].ws["public"] == "wss://stream-sbe.binance.com"


def test_requests_are_json_and_instruments_carry_this_venues_name() -> None:
    topics = [
        BINANCE_SBE.topic(Subscription(channel=channel, symbol="BTCUSDT"))
        for channel in (Channel.TRADE, Channel.QUOTE, Channel.DEPTH)
    ]
    asked = json.loads(BINANCE_SBE.subscribe([*topics, "btcusdt@depth20"], 1))
    assert asked == json.loads((folder() / "subscribe_request.json").read_text())
    listed = BINANCE_SBE.rest.read_instruments(shared("data/wire/binance_spot/rest_instruments.json").read_bytes())
    assert {instrument.venue for instrument in listed} == {"binance_sbe"}
