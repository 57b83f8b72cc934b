"""Bybit's public frames, row by row: documented and recorded payloads, the book's rules, and what is refused."""

from __future__ import annotations

import json
from math import nan
from typing import Any

import pytest
from bybit_frames import (
    HOUR_NS,
    LINEAR,
    LINEAR_BTC,
    MS,
    SPOT,
    SPOT_BTC,
    TABLE,
    book_frame,
    payload,
)
from wire_frames import depth_rows, row, rows_of, same

from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind
from oneprice.venues.base import (
    CHANNEL_CODE,
    HEAD_CHANNEL,
    HEAD_INSTRUMENT,
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    HEAD_PREVIOUS_ID,
    Channel,
    Status,
)
from oneprice.venues.bybit import (
    BYBIT_LINEAR,
    BYBIT_SPOT,
)
from oneprice.venues.sequencing import SnapshotThenDelta, Verdict
from shared_data import shared

# -- recorded and documented frames, row by row ------------------------------------------------------------------------


def test_level_one_is_two_quote_rows() -> None:
    got = SPOT(payload("book_l1_spot"))
    one = {"instrument": SPOT_BTC, "venue_ns": 1786613159748 * MS, "sequence": 72212457}
    assert same(
        got.rows,
        rows_of(
            row(Kind.QUOTE, price=637053, qty=2045546, **one),
            row(Kind.QUOTE, price=637054, qty=2334566, flags=ASK | LAST, **one),
        ),
    )
    assert got.head[HEAD_CHANNEL] == CHANNEL_CODE[Channel.QUOTE]
    assert got.head[HEAD_IS_SNAPSHOT] == 0


def test_a_delta_is_absolute_sizes_at_the_engines_time() -> None:
    got = LINEAR(payload("book_delta_l50_linear"))
    expected = depth_rows(
        [(3024720, 30028), (3024540, 224), (3024210, 1593), (3024030, 1305), (3024000, 0)],
        [
            (3024870, 0), (3024930, 892), (3024950, 1778), (3024960, 0), (3025190, 2947), (3025220, 659),
            (3025250, 4591),
        ],
        instrument=LINEAR_BTC, venue_ns=1687940967464 * MS, sequence=177400507, is_snapshot=False,
    )  # fmt: skip
    assert same(got.rows, expected)
    assert got.head[HEAD_LAST_ID] == 177400507
    assert got.head[HEAD_PREVIOUS_ID] == -1
    assert got.head[HEAD_INSTRUMENT] == LINEAR_BTC


def test_spot_trades_keep_their_ids_and_end_with_one_last() -> None:
    got = SPOT(payload("trade_spot_many"))
    assert got.status == 10
    assert got.rows["sequence"].tolist() == list(range(2290000001190010739, 2290000001190010749))
    assert got.rows["flags"].tolist() == [ASK] * 9 + [ASK | LAST]  # S: Sell, the taker sold
    assert set(got.rows["price"].tolist()) == {641045}
    assert got.rows["qty"].tolist() == [3250, 3250, 7799, 7799, 1000, 3250, 1600, 3250, 2250, 20613]
    assert set(got.rows["ts_venue_ns"].tolist()) == {1786538700833 * MS}


def test_a_linear_trade_has_a_uuid_and_so_no_number() -> None:
    one = {"instrument": LINEAR_BTC, "venue_ns": 1672304486865 * MS}
    assert same(LINEAR(payload("trade_linear")).rows, rows_of(row(Kind.TRADE, price=1657850, qty=1, flags=LAST, **one)))


def test_a_block_trade_is_not_a_trade_of_the_book() -> None:
    block = payload("trade_linear").replace(b'"BT":false', b'"BT":true')
    got = LINEAR(block)
    assert got.status == 0
    assert got.head[HEAD_CHANNEL] == CHANNEL_CODE[Channel.TRADE]


def test_a_liquidation_names_the_positions_side() -> None:
    short_bought_back = LINEAR(payload("liquidation"))  # S: Sell, the position was short
    index = TABLE.index("bybit_linear", "PIPPINUSDT")
    one = {"instrument": index, "venue_ns": 1740480207110 * MS, "price": 2456, "qty": 2846}
    assert same(short_bought_back.rows, rows_of(row(Kind.LIQUIDATION, flags=LAST, **one)))
    long_sold_out = LINEAR(payload("liquidation").replace(b'"S":"Sell"', b'"S":"Buy"'))
    assert same(long_sold_out.rows, rows_of(row(Kind.LIQUIDATION, flags=ASK | LAST, **one)))


def test_a_whole_ticker_gives_mark_index_funding_and_one_side_of_the_open_interest() -> None:
    one = {"instrument": LINEAR_BTC, "venue_ns": 1786540397684 * MS}
    expected = rows_of(
        row(Kind.MARK, value=63958.60, **one),
        row(Kind.INDEX, value=63986.67, **one),
        row(Kind.FUNDING, value=0.0000544, sequence=1786550400000 * MS, qty=8 * HOUR_NS, **one),
        row(Kind.OPEN_INTEREST, value=28899.069, flags=LAST, **one),
    )
    assert same(LINEAR(payload("ticker_linear_snapshot")).rows, expected)


def test_a_ticker_delta_says_only_what_changed() -> None:
    one = {"instrument": LINEAR_BTC, "venue_ns": 1786540397983 * MS}
    assert same(
        LINEAR(payload("ticker_linear_delta")).rows, rows_of(row(Kind.INDEX, value=63986.66, flags=LAST, **one))
    )
    head, tail = (
        b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT"',
        b'},"cs":1,"ts":1786540397983}',
    )
    cases: list[tuple[bytes, list[tuple[Any, ...]]]] = [
        (b"", []),
        (b',"bid1Price":"1.0","ask1Size":"3"', []),
        (b',"fundingRate":"","nextFundingTime":"","markPrice":"","singleOpenInterest":""', []),  # "": not set
        (b',"nextFundingTime":"0"', []),
        (b',"fundingRate":"-0.0001"', [row(Kind.FUNDING, value=-0.0001, flags=LAST, **one)]),
        (
            b',"nextFundingTime":"1786550400000"',
            [row(Kind.FUNDING, value=nan, sequence=1786550400000 * MS, flags=LAST, **one)],
        ),
        (b',"openInterest":"57798.138"', [row(Kind.OPEN_INTEREST, value=28899.069, flags=LAST, **one)]),
    ]
    for fields, rows in cases:
        got = LINEAR(head + fields + tail)
        assert same(got.rows, rows_of(*rows)), fields
        assert got.head[HEAD_CHANNEL] == CHANNEL_CODE[Channel.MARK]


def test_spot_tickers_leave_nothing_on_the_tape() -> None:
    assert SPOT(payload("ticker_spot")).status == 0


# -- the book's rules --------------------------------------------------------------------------------------------------


def test_the_rule_vectors_hold_from_bytes_to_verdict() -> None:
    cases = json.loads(shared("data/wire/bybit/channels/vector_book_rules.json").read_text())["cases"]
    rule, results = SnapshotThenDelta(), []
    for case in cases:
        verdicts, book_id = [], -1
        for frame in case["frames"]:
            got = LINEAR(book_frame(frame["type"], frame["u"], depth=case.get("depth", 50)))
            if case.get("depth") == 1:  # level 1 is a quote: each replaces the one before
                verdicts.append(Verdict.APPLY if got.status == 2 else Verdict.GAP)
                continue
            update = got.head[HEAD_LAST_ID]
            is_snapshot = got.head[HEAD_IS_SNAPSHOT] == 1
            verdicts.append(rule.follows(book_id, first=update, last=update, previous=-1, is_snapshot=is_snapshot))
            book_id = update if verdicts[-1] is Verdict.APPLY else book_id
        results.append((case["result"], [verdict.name.lower() for verdict in verdicts]))
    assert results == [
        ("ok", ["apply", "apply", "apply"]),
        ("resync", ["apply", "gap"]),
        ("ok", ["apply", "apply", "apply", "apply"]),
        ("reset, then ok", ["apply", "apply", "apply"]),
        ("ok", ["apply", "apply"]),
        ("ignore", ["apply", "ignore"]),
    ]


def test_update_one_is_the_whole_book_whatever_the_type_says() -> None:
    got = LINEAR(book_frame("delta", 1))
    assert got.head[HEAD_IS_SNAPSHOT] == 1
    assert got.rows["flags"].tolist() == [SNAPSHOT | CLEAR, SNAPSHOT | ASK | LAST]


def test_a_snapshot_of_an_empty_book_is_one_row_that_clears() -> None:
    got = LINEAR(book_frame("snapshot", 77, '"b":[],"a":[]'))
    expected = depth_rows([], [], instrument=LINEAR_BTC, venue_ns=4 * MS, sequence=77, is_snapshot=True)
    assert same(got.rows, expected)
    assert got.rows["flags"].tolist() == [SNAPSHOT | CLEAR | LAST]


def test_a_delta_without_levels_has_no_rows_but_carries_the_chain_on() -> None:
    got = LINEAR(book_frame("delta", 78, '"b":[],"a":[]'))
    assert got.status == 0
    assert got.head[HEAD_CHANNEL] == CHANNEL_CODE[Channel.DEPTH]
    assert got.head[HEAD_LAST_ID] == 78


def test_an_empty_side_of_the_best_quote_is_zero() -> None:
    got = LINEAR(book_frame("snapshot", 7, '"b":[],"a":[["3.00","4.000"]]', depth=1))
    assert got.rows["price"].tolist() == [0, 300]
    assert got.rows["qty"].tolist() == [0, 4000]
    assert got.rows["flags"].tolist() == [0, ASK | LAST]


REFUSED = {
    "a size with more digits than the rules allow": (
        book_frame("delta", 9, '"b":[["1.00","2.0001"]],"a":[]'), Status.INEXACT,
    ),
    "a symbol that nobody listed": (book_frame("delta", 9).replace(b"BTCUSDT", b"BTCUSDX"), Status.UNKNOWN_SYMBOL),
    "another symbol in the data than in the topic": (
        book_frame("delta", 9).replace(b'"s":"BTCUSDT"', b'"s":"ETHUSDT"'), Status.MALFORMED,
    ),
    "a price of zero": (book_frame("delta", 9, '"b":[["0.00","2"]],"a":[]'), Status.MALFORMED),
    "a negative size": (book_frame("delta", 9, '"b":[["1.00","-2"]],"a":[]'), Status.MALFORMED),
    "no update id": (book_frame("delta", 9).replace(b'"u":9', b'"w":9'), Status.MALFORMED),
    "a change of the best quote": (book_frame("delta", 9, depth=1), Status.MALFORMED),
    "two best bids": (
        book_frame("snapshot", 9, '"b":[["1.00","2"],["0.90","2"]],"a":[]', depth=1), Status.MALFORMED,
    ),
    "a type that nobody knows": (book_frame("replay", 9), Status.MALFORMED),
    "two kinds of data": (book_frame("delta", 9)[:-1] + b',"data":{}}', Status.MALFORMED),
    "a topic without data": (b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":5}', Status.MALFORMED),
    "something behind the end": (book_frame("delta", 9) + b"}", Status.MALFORMED),
    "a trade without a side": (payload("trade_linear").replace(b'"Buy"', b'"Both"'), Status.MALFORMED),
    "a trade of nothing": (payload("trade_linear").replace(b'"0.001"', b'"0"'), Status.MALFORMED),
    "no JSON": (b"<html>", Status.MALFORMED),
    "nothing": (b"", Status.MALFORMED),
    "levels of the RPI book": (book_frame("delta", 9).replace(b".50.", b".rpi."), Status.CONTROL),
    "the full book": (payload("book_full_delta_spot"), Status.CONTROL),
    "candles": (payload("kline"), Status.CONTROL),
    "a pong": (payload("pong_linear"), Status.CONTROL),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_good_frame_is_refused_by_its_reason(name: str) -> None:
    frame, status = REFUSED[name]
    assert LINEAR(frame).status == status


def test_an_inexact_number_still_says_whose_rules_have_changed() -> None:
    frame, _ = REFUSED["a size with more digits than the rules allow"]
    assert LINEAR(frame).head[HEAD_INSTRUMENT] == LINEAR_BTC


# -- the venue's values ------------------------------------------------------------------------------------------------


def test_spot_and_linear_differ_in_their_connection_not_in_their_topics() -> None:
    assert BYBIT_SPOT.endpoints["live"].ws["public"] == "wss://stream.bybit.com/v5/public/spot"
    assert BYBIT_LINEAR.endpoints["testnet"].ws["public"] == "wss://stream-testnet.bybit.com/v5/public/linear"
    for channel, place in BYBIT_SPOT.channels.items():
        assert BYBIT_LINEAR.channels[channel] == place
    assert BYBIT_SPOT.limits.subscribe_batch == 10
    assert not BYBIT_SPOT.sequencing.joins_rest


def test_requests_and_pings_are_written_as_documented() -> None:
    documented = payload("subscribe_request").strip().replace(b'"test"', b'"12"')
    topics = ["orderbook.1.BTCUSDT", "publicTrade.BTCUSDT", "orderbook.1.ETHUSDT"]
    assert BYBIT_SPOT.subscribe(topics, 12) == documented
    leave = json.loads(BYBIT_LINEAR.unsubscribe(["publicTrade.ETHUSD"], 3))
    assert leave == {**json.loads(payload("unsubscribe_request")), "req_id": "3"}
    ping = json.loads(BYBIT_LINEAR.ping.payload or b"")
    assert {*ping} == {*json.loads(payload("ping_request"))}
    assert ping["op"] == "ping"


CONTROLS = {
    "subscribe_ack_spot": ("ack", "1"),
    "subscribe_ack_linear": ("ack", ""),
    "subscribe_ack_private": ("ack", ""),
    "subscribe_error": ("error", "1"),
    "pong_spot": ("pong", ""),
    "pong_linear": ("pong", ""),
    "pong_private": ("pong", "test"),
    "wstrade_pong": ("pong", ""),
    "ping_request": ("ping", "100001"),
    "auth_response": ("auth", ""),
    "wstrade_auth_response": ("auth", ""),
    "kline": ("other", ""),
}


@pytest.mark.parametrize("name", CONTROLS)
def test_a_control_frame_is_understood(name: str) -> None:
    control = BYBIT_LINEAR.control(payload(name))
    assert (control.kind, control.request_id) == CONTROLS[name]
