"""Bybit's public frames: recorded and documented bytes against rows, the rules of the book, and what must be refused."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from math import nan
from typing import Any

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from shared_data import shared
from wire_frames import SlowBook, Wire, depth_rows, row, rows_of, same

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind, Rows
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
    encode_depth,
    encode_liquidation,
    encode_mark,
    encode_quote,
    encode_trade,
)
from oneprice.venues.sequencing import SnapshotThenDelta, Verdict
from oneprice.venues.wire_bybit import decode

MS = 1_000_000
HOUR_NS = 3600 * 10**9


def _instrument(venue: str, symbol: str, price_exponent: int, qty_exponent: int) -> Instrument:
    kind = InstrumentKind.SPOT if venue == "bybit_spot" else InstrumentKind.PERP
    return Instrument(
        venue=venue, symbol=symbol, canonical=symbol, kind=kind, base=symbol.removesuffix("USDT"), quote="USDT",
        price_exponent=price_exponent, qty_exponent=qty_exponent,
    )  # fmt: skip


TABLE = InstrumentTable(
    [
        _instrument("bybit_spot", "BTCUSDT", -1, -6),
        _instrument("bybit_spot", "ETHUSDT", -2, -5),
        *(
            _instrument("bybit_linear", symbol, price_exponent, qty_exponent)
            for symbol, price_exponent, qty_exponent in (
                ("BTCUSDT", -2, -3), ("ETHUSDT", -2, -2), ("SOLUSDT", -3, -1), ("DOGEUSDT", -5, 0),
                ("XRPUSDT", -4, 0), ("PIPPINUSDT", -5, 0), ("ROSEUSDT", -5, 0),
            )
        ),
    ]
)  # fmt: skip
SPOT, LINEAR = Wire(decode, TABLE, "bybit_spot"), Wire(decode, TABLE, "bybit_linear")
SPOT_BTC, LINEAR_BTC = TABLE.index("bybit_spot", "BTCUSDT"), TABLE.index("bybit_linear", "BTCUSDT")


def payload(name: str) -> bytes:
    return shared(f"data/wire/bybit/channels/{name}.json").read_bytes()


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
    head, tail = b'{"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT"', b'},"cs":1,"ts":1786540397983}'
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


# -- every frame of a recording against a decoder that shares no code -----------------------------------------------------


def recorded() -> Iterator[tuple[str, bytes]]:
    """(product, frame) of the recorded connections of 2026-08-09."""
    text = zstandard.ZstdDecompressor().stream_reader(
        shared("data/market/cryptofeed_v3/BYBIT.jsonl.zst").read_bytes()
    ).read()  # fmt: skip
    product = {}
    for line in text.splitlines():
        record = json.loads(line)
        if record["t"] == "connect":
            product[record["conn"]] = record["addr"].rsplit("/", 1)[1]
        elif record["t"] == "recv":
            yield product[record["conn"]], record["data"].encode()


RECORDED = list(recorded())


def _mantissa(text: str, exponent: int) -> int:
    scaled = Decimal(text).scaleb(-exponent)
    assert scaled == int(scaled)
    return int(scaled)


def slow_rows(frame: bytes, venue: str) -> Rows | None:
    """What the frame should give, by the JSON module and Decimal; None: a control frame or a topic without rows."""
    message = json.loads(frame)
    kind, *_, symbol = message.get("topic", "none.none").split(".")
    index = TABLE.find(venue, symbol)
    if kind not in ("orderbook", "publicTrade", "tickers") or index is None:
        return None
    instrument, data = TABLE[index], message["data"]
    price_exponent, qty_exponent = instrument.price_exponent, instrument.qty_exponent
    if kind == "orderbook":
        bids, asks = (
            [(_mantissa(price, price_exponent), _mantissa(qty, qty_exponent)) for price, qty in data[side]]
            for side in "ba"
        )
        return depth_rows(
            bids, asks, instrument=index, venue_ns=message["cts"] * MS, sequence=data["u"],
            is_snapshot=message["type"] == "snapshot",
        )  # fmt: skip
    rows = []
    if kind == "publicTrade":
        rows = [
            row(
                Kind.TRADE, instrument=index, venue_ns=item["T"] * MS, price=_mantissa(item["p"], price_exponent),
                qty=_mantissa(item["v"], qty_exponent), flags=ASK if item["S"] == "Sell" else 0,
                sequence=int(item["i"]) if item["i"].isdigit() else 0,
            )
            for item in data
        ]  # fmt: skip
    else:
        one = {"instrument": index, "venue_ns": message["ts"] * MS}
        for name, row_kind in (("markPrice", Kind.MARK), ("indexPrice", Kind.INDEX)):
            if name in data:
                rows.append(row(row_kind, value=float(data[name]), **one))
        if "fundingRate" in data:
            next_ns = int(data.get("nextFundingTime", 0)) * MS
            interval_ns = int(data.get("fundingIntervalHour", 0)) * HOUR_NS
            rows.append(row(Kind.FUNDING, value=float(data["fundingRate"]), sequence=next_ns, qty=interval_ns, **one))
        if "singleOpenInterest" in data:
            rows.append(row(Kind.OPEN_INTEREST, value=float(data["singleOpenInterest"]), **one))
    expected = rows_of(*rows)
    if rows:
        expected["flags"][-1] |= LAST
    return expected


def test_every_recorded_frame_gives_the_rows_that_a_slow_reader_gives() -> None:
    counts = {"control": 0, "frames": 0, "rows": 0}
    for product, frame in RECORDED:
        got = (SPOT if product == "spot" else LINEAR)(frame)
        expected = slow_rows(frame, f"bybit_{product}")
        if expected is None:
            assert got.status == Status.CONTROL, frame[:100]
            counts["control"] += 1
            continue
        assert same(got.rows, expected), frame[:200]
        counts["frames"] += 1
        counts["rows"] += got.status
    assert counts == {"control": 120, "frames": 3107, "rows": 23002}


def test_recorded_books_chain_by_one_never_cross_and_keep_two_hundred_levels() -> None:
    rule, books, last, deltas = SnapshotThenDelta(), {}, {}, 0
    for product, frame in RECORDED:
        if b"orderbook" not in frame[:30]:
            continue
        got = (SPOT if product == "spot" else LINEAR)(frame)
        index, is_snapshot = got.head[HEAD_INSTRUMENT], got.head[HEAD_IS_SNAPSHOT] == 1
        verdict = rule.follows(
            last.get(index, -1), first=got.head[HEAD_LAST_ID], last=got.head[HEAD_LAST_ID], previous=-1,
            is_snapshot=is_snapshot,
        )  # fmt: skip
        assert verdict is Verdict.APPLY
        deltas += not is_snapshot
        book = books.setdefault(index, SlowBook())
        book.apply(got.rows)
        last[index] = got.head[HEAD_LAST_ID]
        assert not book.is_crossed
        assert (len(book.bids), len(book.asks)) == (200, 200)
    assert (len(books), deltas) == (6, 2142)


def test_a_five_hundred_level_history_ends_in_the_expected_book() -> None:
    folder = shared("data/wire/bybit/channels")
    expected = json.loads((folder / "capture_book500_xrpusdt_2024-12-01_expected.json").read_text())
    frames = (folder / "capture_book500_xrpusdt_2024-12-01.jsonl").read_text().splitlines()
    book, update = SlowBook(), -1
    for line in frames:
        got = LINEAR(json.loads(line)["payload"].encode())
        assert update in (-1, got.head[HEAD_LAST_ID] - 1)
        update = got.head[HEAD_LAST_ID]
        book.apply(got.rows)
        assert not book.is_crossed
        assert (len(book.bids), len(book.asks)) == (500, 500)
    assert (len(frames), update) == (expected["frames"], expected["final_u"])
    for side, levels in zip(("bids", "asks"), book.top(10), strict=True):
        assert levels == [(_mantissa(p, -4), _mantissa(q, 0)) for p, q in expected["top10"][side]]


# -- the book's rules ------------------------------------------------------------------------------------------------------


def _book_frame(what: str, update: int, levels: str = '"b":[["1.00","2.000"]],"a":[["3.00","4.000"]]', depth: int = 50) -> bytes:
    return (
        f'{{"topic":"orderbook.{depth}.BTCUSDT","type":"{what}","ts":5,'
        f'"data":{{"s":"BTCUSDT",{levels},"u":{update},"seq":9}},"cts":4}}'
    ).encode()


def test_the_rule_vectors_hold_from_bytes_to_verdict() -> None:
    cases = json.loads(shared("data/wire/bybit/channels/vector_book_rules.json").read_text())["cases"]
    rule, results = SnapshotThenDelta(), []
    for case in cases:
        verdicts, book_id = [], -1
        for frame in case["frames"]:
            got = LINEAR(_book_frame(frame["type"], frame["u"], depth=case.get("depth", 50)))
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
    got = LINEAR(_book_frame("delta", 1))
    assert got.head[HEAD_IS_SNAPSHOT] == 1
    assert got.rows["flags"].tolist() == [SNAPSHOT | CLEAR, SNAPSHOT | ASK | LAST]


def test_a_snapshot_of_an_empty_book_is_one_row_that_clears() -> None:
    got = LINEAR(_book_frame("snapshot", 77, '"b":[],"a":[]'))
    expected = depth_rows([], [], instrument=LINEAR_BTC, venue_ns=4 * MS, sequence=77, is_snapshot=True)
    assert same(got.rows, expected)
    assert got.rows["flags"].tolist() == [SNAPSHOT | CLEAR | LAST]


def test_a_delta_without_levels_has_no_rows_but_carries_the_chain_on() -> None:
    got = LINEAR(_book_frame("delta", 78, '"b":[],"a":[]'))
    assert got.status == 0
    assert got.head[HEAD_CHANNEL] == CHANNEL_CODE[Channel.DEPTH]
    assert got.head[HEAD_LAST_ID] == 78


def test_an_empty_side_of_the_best_quote_is_zero() -> None:
    got = LINEAR(_book_frame("snapshot", 7, '"b":[],"a":[["3.00","4.000"]]', depth=1))
    assert got.rows["price"].tolist() == [0, 300]
    assert got.rows["qty"].tolist() == [0, 4000]
    assert got.rows["flags"].tolist() == [0, ASK | LAST]


REFUSED = {
    "a size with more digits than the rules allow": (
        _book_frame("delta", 9, '"b":[["1.00","2.0001"]],"a":[]'), Status.INEXACT,
    ),
    "a symbol that nobody listed": (_book_frame("delta", 9).replace(b"BTCUSDT", b"BTCUSDX"), Status.UNKNOWN_SYMBOL),
    "another symbol in the data than in the topic": (
        _book_frame("delta", 9).replace(b'"s":"BTCUSDT"', b'"s":"ETHUSDT"'), Status.MALFORMED,
    ),
    "a price of zero": (_book_frame("delta", 9, '"b":[["0.00","2"]],"a":[]'), Status.MALFORMED),
    "a negative size": (_book_frame("delta", 9, '"b":[["1.00","-2"]],"a":[]'), Status.MALFORMED),
    "no update id": (_book_frame("delta", 9).replace(b'"u":9', b'"w":9'), Status.MALFORMED),
    "a change of the best quote": (_book_frame("delta", 9, depth=1), Status.MALFORMED),
    "two best bids": (
        _book_frame("snapshot", 9, '"b":[["1.00","2"],["0.90","2"]],"a":[]', depth=1), Status.MALFORMED,
    ),
    "a type that nobody knows": (_book_frame("replay", 9), Status.MALFORMED),
    "two kinds of data": (_book_frame("delta", 9)[:-1] + b',"data":{}}', Status.MALFORMED),
    "a topic without data": (b'{"topic":"orderbook.50.BTCUSDT","type":"delta","ts":5}', Status.MALFORMED),
    "something behind the end": (_book_frame("delta", 9) + b"}", Status.MALFORMED),
    "a trade without a side": (payload("trade_linear").replace(b'"Buy"', b'"Both"'), Status.MALFORMED),
    "a trade of nothing": (payload("trade_linear").replace(b'"0.001"', b'"0"'), Status.MALFORMED),
    "no JSON": (b"<html>", Status.MALFORMED),
    "nothing": (b"", Status.MALFORMED),
    "levels of the RPI book": (_book_frame("delta", 9).replace(b".50.", b".rpi."), Status.CONTROL),
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


# -- both directions -------------------------------------------------------------------------------------------------------


def masked(frame: bytes) -> bytes:
    """A frame without what the tape does not keep: the engine's cross sequence, linear trade ids and tick direction."""
    text = re.sub(rb'"(seq|cs)":\d+', rb'"\1":0', frame.strip())
    text = re.sub(rb'"i":"[0-9a-f-]{36}"', b'"i":""', text)
    return re.sub(rb'"L":"\w+"', b'"L":""', text)


REAL = {
    "book_l1_spot": (SPOT, 1786613159749),
    "book_l1_spot_next": (SPOT, 1786613159819),
    "book_delta_l50_linear": (LINEAR, 1687940967466),
    "trade_spot": (SPOT, 1786538700968),
    "trade_spot_many": (SPOT, 1786538700834),
    "liquidation": (LINEAR, 1740480207578),
    "liquidation_doc": (LINEAR, 1739502303204),
    "ticker_linear_delta": (LINEAR, 1786540397983),
}


def encode(wire: Wire, got: Any, ts_ns: int) -> bytes:
    instrument = wire.instruments[got.head[HEAD_INSTRUMENT]]
    channel = got.head[HEAD_CHANNEL]
    if channel == CHANNEL_CODE[Channel.DEPTH]:
        update = got.head[HEAD_LAST_ID]
        return encode_depth(
            instrument, got.rows, first_id=update, last_id=update, previous_id=-1,
            is_snapshot=got.head[HEAD_IS_SNAPSHOT] == 1, ts_ns=ts_ns,
        )  # fmt: skip
    encoders = {
        Channel.QUOTE: encode_quote, Channel.TRADE: encode_trade, Channel.MARK: encode_mark,
        Channel.LIQUIDATION: encode_liquidation,
    }  # fmt: skip
    return {CHANNEL_CODE[name]: encoder for name, encoder in encoders.items()}[channel](
        instrument, got.rows, ts_ns=ts_ns
    )


@pytest.mark.parametrize("name", REAL)
def test_a_real_frame_comes_back_byte_for_byte(name: str) -> None:
    wire, ts_ms = REAL[name]
    frame = payload(name)
    assert masked(encode(wire, wire(frame), ts_ms * MS)) == masked(frame)


def test_recorded_depth_and_trades_come_back_byte_for_byte() -> None:
    counts = {"orderbook": 0, "publicTrade": 0}
    for product, frame in RECORDED:
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
SMALL = settings(max_examples=60, deadline=None)


def _any_instrument(wire: Wire) -> int:
    return SPOT_BTC if wire is SPOT else LINEAR_BTC


@SMALL
@given(WIRES, LEVELS, LEVELS, st.integers(2, 2**53), st.booleans(), TIME_MS, TIME_MS)
def test_depth_that_is_encoded_decodes_to_the_same_rows(
    wire: Wire, bids: Any, asks: Any, update: int, is_snapshot: bool, engine_ms: int, ts_ms: int
) -> None:
    index = _any_instrument(wire)
    rows = depth_rows(
        bids, asks, instrument=index, venue_ns=engine_ms * MS, sequence=update, is_snapshot=is_snapshot
    )
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


PRINTS = st.lists(st.tuples(MANTISSA, MANTISSA, st.sampled_from((0, ASK)), st.integers(1, 2**63 - 1)), min_size=1, max_size=5)


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
    st.one_of(st.none(), PRICE), st.one_of(st.none(), PRICE), st.one_of(st.none(), PRICE),
    st.one_of(st.none(), st.tuples(st.integers(-(10**6), 10**6), st.sampled_from((0, 1, 4, 8)), st.integers(0, 10**12))),
    TIME_MS,
)  # fmt: skip
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
    (LINEAR, _book_frame("snapshot", 9)),
    (LINEAR, _book_frame("delta", 1)),
    (LINEAR, _book_frame("snapshot", 9, '"b":[],"a":[]')),
]


@settings(max_examples=150, deadline=None)
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


# -- the venue's values ---------------------------------------------------------------------------------------------------


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
