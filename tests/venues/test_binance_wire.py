"""Binance's decoders on recorded bytes, and what they refuse."""

from __future__ import annotations

import json
import random
from decimal import Decimal
from typing import Any

import pytest
from binance_frames import (
    COINM,
    COINM_BTC,
    MS,
    SPOT,
    SPOT_BTC,
    SPOT_NKN,
    TABLE,
    USDM,
    USDM_BTC,
    USDM_CTK,
    USDM_DATED,
    payload,
    recorded,
)
from wire_frames import Wire, row, rows_of, same

from oneprice.model.tape import ASK, LAST, Kind
from oneprice.venues.base import (
    CHANNEL_CODE,
    HEAD_CHANNEL,
    HEAD_FIRST_ID,
    HEAD_INSTRUMENT,
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    HEAD_PREVIOUS_ID,
    Channel,
    Status,
)

D, Q, T, M, X, F, L = (
    Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.LIQUIDATION,
)  # fmt: skip


def spot(name: str) -> bytes:
    return payload("binance_spot", name)


def usdm(name: str) -> bytes:
    return payload("binance_usdm", name)


# frame → (channel, rows as (kind, instrument, venue ms, fields))
ROWS: list[Any] = [
    (SPOT, spot("trade"), Channel.TRADE, [
        (T, SPOT_BTC, 1723161255342, {"sequence": 3735683259, "price": 6183763, "qty": 2000000, "flags": ASK | LAST})]),
    (SPOT, spot("trade_combined"), Channel.TRADE, [
        (T, SPOT_BTC, 1723161255342, {"sequence": 3735683259, "price": 6183763, "qty": 2000000, "flags": ASK | LAST})]),
    (SPOT, spot("agg_trade"), Channel.TRADE, [
        (T, SPOT_NKN, 1633998523963, {"sequence": 15683430, "price": 3528, "qty": 58000, "flags": LAST})]),
    (SPOT, spot("book_ticker"), Channel.QUOTE, [
        (Q, SPOT_BTC, 0, {"sequence": 98494969448, "price": 6370400, "qty": 477471000}),
        (Q, SPOT_BTC, 0, {"sequence": 98494969448, "price": 6370401, "qty": 1133198000, "flags": ASK | LAST})]),
    (SPOT, spot("depth_diff"), Channel.DEPTH, [
        (D, SPOT_BTC, 1723161255208, {"sequence": 50093239202, "price": price, "qty": qty, "flags": flags})
        for price, qty, flags in (
            (6173763, 0, 0), (6173017, 0, 0), (5685458, 0, 0), (6183764, 154698000, ASK), (6183985, 0, ASK),
            (6183986, 0, ASK), (6184511, 32329000, ASK), (6184849, 0, ASK), (6185545, 32323000, ASK),
            (6186251, 5041000, ASK), (6186252, 0, ASK), (6193764, 2000000, ASK | LAST))]),
    (USDM, usdm("trade"), Channel.TRADE, [
        (T, USDM_BTC, 1723161256322, {"sequence": 5266583935, "price": 6180030, "qty": 6, "flags": LAST})]),
    (USDM, usdm("agg_trade_2021"), Channel.TRADE, [
        (T, USDM_CTK, 1626992741421, {"sequence": 16599292, "price": 101100, "qty": 10, "flags": LAST})]),
    (USDM, usdm("book_ticker"), Channel.QUOTE, [
        (Q, USDM_BTC, 1723161256313, {"sequence": 5123107839020, "price": 6180020, "qty": 2507}),
        (Q, USDM_BTC, 1723161256313, {"sequence": 5123107839020, "price": 6180030, "qty": 2510, "flags": ASK | LAST})]),
    (USDM, usdm("depth_diff_2026_trimmed"), Channel.DEPTH, [
        (D, USDM_BTC, 1786541222806, {"sequence": 11270657223771, "price": price, "qty": qty, "flags": flags})
        for price, qty, flags in (
            (100000, 179935, 0), (1362170, 588, 0), (1371890, 2114, 0), (1372170, 336, 0), (1381890, 84, 0),
            (5113700, 0, 0), (5752950, 52, 0), (6136480, 0, LAST))]),
    (USDM, usdm("mark_price"), Channel.MARK, [
        (M, USDM_BTC, 1597536008000, {"value": 11857.56}),
        (X, USDM_BTC, 1597536008000, {"value": 11851.86949091}),
        (F, USDM_BTC, 1597536008000, {"sequence": 1597564800000 * MS, "value": 0.0001564, "flags": LAST})]),
    (USDM, usdm("mark_price_2026"), Channel.MARK, [
        (M, USDM_BTC, 1786540326000, {"value": 63972.6}),
        (X, USDM_BTC, 1786540326000, {"value": 64001.20173913}),
        (F, USDM_BTC, 1786540326000, {"sequence": 1786550400000 * MS, "value": 0.0000544, "flags": LAST})]),
    (USDM, usdm("mark_price_delivery"), Channel.MARK, [
        (M, USDM_DATED, 1609830121004, {"value": 31799.2773}),
        (X, USDM_DATED, 1609830121004, {"value": 31307.034, "flags": LAST})]),
    (USDM, usdm("force_order"), Channel.LIQUIDATION, [
        (L, USDM_BTC, 1584059031421, {"price": 479391, "qty": 14, "flags": LAST})]),
]  # fmt: skip


@pytest.mark.parametrize(("wire", "frame", "channel", "expected"), ROWS)
def test_a_recorded_message_becomes_its_rows(wire: Wire, frame: bytes, channel: Channel, expected: list[Any]) -> None:
    status, rows, head = wire(frame)
    wanted = rows_of(*(row(kind, instrument=i, venue_ns=ms * MS, **fields) for kind, i, ms, fields in expected))
    assert status == len(wanted)
    assert same(rows, wanted), f"{rows}\n{wanted}"
    assert head[HEAD_CHANNEL] == CHANNEL_CODE[channel]
    assert head[HEAD_INSTRUMENT] == expected[0][1]


@pytest.mark.parametrize(
    ("wire", "frame", "ids"),
    [
        (SPOT, spot("depth_diff"), (50093239189, 50093239202, -1)),
        (USDM, usdm("depth_diff"), (5123107832006, 5123107837557, 5123107831937)),
        (USDM, usdm("depth_diff_2026_trimmed"), (11270657214037, 11270657223771, 11270657214025)),
    ],
)
def test_depth_carries_the_ids_by_which_it_chains(wire: Wire, frame: bytes, ids: tuple[int, int, int]) -> None:
    head = wire(frame).head
    assert (head[HEAD_FIRST_ID], head[HEAD_LAST_ID], head[HEAD_PREVIOUS_ID]) == ids
    assert head[HEAD_IS_SNAPSHOT] == 0


def _shuffled(value: Any, seed: random.Random) -> Any:
    if not isinstance(value, dict):
        return value
    keys = list(value)
    seed.shuffle(keys)
    return {key: _shuffled(value[key], seed) for key in keys}


@pytest.mark.parametrize(("wire", "frame", "channel", "expected"), ROWS)
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")])
def test_neither_the_order_of_keys_nor_spaces_nor_new_keys_nor_the_wrapper_change_the_rows(
    wire: Wire, frame: bytes, channel: Channel, expected: list[Any], separators: tuple[str, str]
) -> None:
    wanted = wire(frame)
    event = json.loads(frame)
    event = event.get("data", event)
    for number in range(12):
        seed = random.Random(number)
        added = {"zz": {"b": [["9", "9"]], "s": "X"}, "N": None, "k": [1, [2, "]"]], "": "", "\\": '"', "longer": 'a"b'}
        changed: Any = _shuffled({**event, **(added if number % 2 else {})}, seed)
        if number % 3 == 1:
            changed = {"stream": "btcusdt@x", "n": {"data": 1}, "data": changed}
        elif number % 3 == 2:
            changed = {"data": changed, "stream": "btcusdt@x", "n": {"e": "trade"}}
        text = json.dumps(changed, separators=separators).encode()
        got = wire(text)
        assert same(got.rows, wanted.rows), text
        assert got.head == wanted.head


@pytest.mark.parametrize("venue_name", ["binance_spot", "binance_usdm", "binance_coinm"])
def test_every_frame_of_a_recording_is_read_as_the_json_says(venue_name: str) -> None:
    wire = {"binance_spot": SPOT, "binance_usdm": USDM, "binance_coinm": COINM}[venue_name]
    for frame in recorded(venue_name)[::7]:
        event = json.loads(frame)["data"]
        status, rows, _ = wire(frame)
        assert status == len(rows) > 0, frame
        asset = TABLE[int(rows["instrument"][0])]
        assert (asset.venue, asset.symbol) == (venue_name, event["s"])
        if event.get("e") == "depthUpdate":
            wanted = [(p, q, False) for p, q in event["b"]] + [(p, q, True) for p, q in event["a"]]
            wanted = wanted or [("0", "0", False)]
        elif event.get("e") == "trade":
            wanted = [(event["p"], event["q"], event["m"])]
        else:
            wanted = [(event["b"], event["B"], False), (event["a"], event["A"], True)]
        sides = (rows["flags"] & ASK != 0).tolist()
        assert list(zip(rows["price"].tolist(), rows["qty"].tolist(), sides, strict=True)) == [
            (asset.price_mantissa(Decimal(price)), asset.qty_mantissa(Decimal(qty)), ask) for price, qty, ask in wanted
        ]


def test_an_event_without_levels_still_moves_the_chain() -> None:
    frame = b'{"e":"depthUpdate","E":5,"T":4,"s":"BTCUSDT","U":8,"u":9,"pu":7,"b":[],"a":[]}'
    status, rows, head = USDM(frame)
    assert status == 1
    assert same(rows, rows_of(row(D, instrument=USDM_BTC, venue_ns=4 * MS, sequence=9, flags=LAST)))
    assert (head[HEAD_FIRST_ID], head[HEAD_LAST_ID], head[HEAD_PREVIOUS_ID]) == (8, 9, 7)


def test_a_taker_who_bought_and_one_who_sold_are_told_apart() -> None:
    sold = usdm("trade").replace(b'"m":false', b'"m":true')
    assert USDM(usdm("trade")).rows["flags"][0] & ASK == 0
    assert USDM(sold).rows["flags"][0] & ASK == ASK
    long_sold_out = usdm("force_order").replace(b'"BUY"', b'"SELL"')
    assert USDM(usdm("force_order")).rows["flags"][0] & ASK == 0
    assert USDM(long_sold_out).rows["flags"][0] & ASK == ASK


def test_trades_of_the_insurance_fund_and_adl_are_no_trades_of_the_market() -> None:
    assert USDM(usdm("trade_insurance_fund")).status == 0
    assert USDM(usdm("trade").replace(b"MARKET", b"ADL")).status == 0


def test_events_of_the_other_product_of_the_joined_service_make_no_row() -> None:
    of_coinm = usdm("depth_diff_2026_trimmed").replace(b'"st":1', b'"st":2')
    assert USDM(of_coinm).status == 0
    assert USDM(of_coinm.replace(b'"s":"BTCUSDT"', b'"s":"BTCUSD_PERP"')).status == 0
    quote = b'{"e":"bookTicker","u":1,"s":"BTCUSD_PERP","b":"1","B":"2","a":"3","A":"4","T":5,"E":5,"st":2}'
    assert COINM(quote).rows["instrument"].tolist() == [COINM_BTC, COINM_BTC]
    assert COINM(quote.replace(b'"st":2', b'"st":1')).status == 0
    assert USDM(usdm("mini_ticker_cm_2026")).status == 0


def test_an_empty_side_of_a_quote_is_a_price_of_zero() -> None:
    rows = SPOT(b'{"u":5,"s":"BTCUSDT","b":"0.00000000","B":"0.00000000","a":"2.00","A":"3.0"}').rows
    assert rows["price"].tolist() == [0, 200]


def test_an_index_of_zero_is_no_index_and_no_next_funding_is_no_funding() -> None:
    frame = b'{"e":"markPriceUpdate","E":5,"s":"BTCUSDT","p":"2.5","i":"0.00000000","r":"","T":7}'
    status, rows, _ = USDM(frame)
    assert (status, rows["kind"].tolist(), rows["flags"].tolist()) == (1, [M], [LAST])


DEPTH = '{{"e":"depthUpdate","E":5,"T":4,"s":"BTCUSDT","U":8,"u":9,"pu":7,"b":[{}],"a":[{}]}}'
MARK = '{{"e":"markPriceUpdate","E":5,"s":"BTCUSDT",{}}}'
TRADE = '{{"e":"trade","E":5,"T":5,"s":"BTCUSDT",{}}}'
FORCE = '{{"e":"forceOrder","E":5,{}}}'


@pytest.mark.parametrize(
    ("frame", "status"),
    [
        ('{"result":null,"id":1}', Status.CONTROL),
        ('{"code":2,"msg":"Invalid request: unknown variant"}', Status.CONTROL),
        ('{"error":{"code":-2,"msg":"x"},"id":3}', Status.CONTROL),
        ('{"e":"serverShutdown","E":1770123456789}', Status.CONTROL),
        ('{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}}', Status.CONTROL),
        ('{"stream":"!markPrice@arr@1s","data":[{"e":"markPriceUpdate"}]}', Status.CONTROL),
        ('{"stream":"btcusdt@depth5","data":{"lastUpdateId":1,"bids":[["1","2"]],"asks":[]}}', Status.CONTROL),
        ('{"e":"kline","E":5,"s":"BTCUSDT","k":{"t":1}}', Status.CONTROL),
        ('{"e":"contractInfo","E":5,"s":"NEWUSDT","b":[]}', Status.CONTROL),
        ("{}", Status.CONTROL),
        ("", Status.MALFORMED),
        ("pong", Status.MALFORMED),
        ("<html>", Status.MALFORMED),
        ("[]", Status.MALFORMED),
        ('{"e":"trade"', Status.MALFORMED),
        ('{"e":"trade","s":}', Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]').replace("BTCUSDT", "NOUSDT"), Status.UNKNOWN_SYMBOL),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]').replace('"s":"BTCUSDT",', ""), Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]').replace('"u":9,', ""), Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]').replace('"U":8,', ""), Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]').replace('"a":', '"c":'), Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]').replace('"pu":7', '"pu":"x"'), Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]').replace('"T":4', '"T":1723161256322000'), Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]') + "}", Status.MALFORMED),
        (DEPTH.format('["1.0","1"]', '["2.0","1"]') * 2, Status.MALFORMED),
        ('{"stream":"x","data":' + DEPTH.format('["1.0","1"]', ""), Status.MALFORMED),
        (DEPTH.format('["1.001","1"]', '["2.0","1"]'), Status.INEXACT),
        (DEPTH.format('["1.0","1"]', '["2.0","1.0001"]'), Status.INEXACT),
        (DEPTH.format('["-1.0","1"]', ""), Status.MALFORMED),
        (DEPTH.format('["0.0","1"]', ""), Status.MALFORMED),
        (DEPTH.format('["1.0","-1"]', ""), Status.MALFORMED),
        (DEPTH.format('["1e3","1"]', ""), Status.MALFORMED),
        (DEPTH.format('["",""]', ""), Status.MALFORMED),
        (DEPTH.format('["1.0"]', ""), Status.MALFORMED),
        (TRADE.format('"t":1,"p":"1.0","q":"1","m":true').replace("BTCUSDT", "btcusdt"), Status.UNKNOWN_SYMBOL),
        (TRADE.format('"t":1,"p":"1.0","q":"1","m":"yes"'), Status.MALFORMED),
        (TRADE.format('"t":1,"p":"1.0","q":"1"'), Status.MALFORMED),
        (TRADE.format('"t":1,"q":"1","m":true'), Status.MALFORMED),
        (TRADE.format('"p":"1.0","q":"1","m":true'), Status.MALFORMED),
        (TRADE.format('"t":1,"p":"0.0","q":"1","m":true'), Status.MALFORMED),
        (TRADE.format('"t":1,"p":"1.0","q":"0","m":true'), Status.MALFORMED),
        (TRADE.format('"t":1,"p":"1.0","q":"1","m":true,"st":"?"'), Status.MALFORMED),
        (TRADE.format('"t":1,"p":"1.0","q":"1","m":true,"s":"ETHUSDT"'), Status.MALFORMED),
        ('{"e":"bookTicker","u":1,"s":"BTCUSDT","b":"1","B":"2","A":"4","T":5,"E":5}', Status.MALFORMED),
        ('{"e":"bookTicker","u":1,"s":"BTCUSDT","b":"1","B":"-2","a":"3","A":"4","T":5}', Status.MALFORMED),
        (MARK.format('"r":}'), Status.MALFORMED),
        (MARK.format('"p":"1.5","T":7,"r":'), Status.MALFORMED),
        (MARK.format('"i":"1.5","T":7,"r":"0.1"'), Status.MALFORMED),
        (MARK.format('"p":"0.00000000"'), Status.MALFORMED),
        (MARK.format('"p":"1.5","i":"-1"'), Status.MALFORMED),
        (MARK.format('"p":"1.5","T":7,"r":"x"'), Status.MALFORMED),
        (FORCE.format('"o":{"s":"NOUSDT","S":"BUY","p":"1.0","z":"1","T":5}'), Status.UNKNOWN_SYMBOL),
        (FORCE.format('"o":{"s":"BTCUSDT","S":"HOLD","p":"1.0","z":"1","T":5}'), Status.MALFORMED),
        (FORCE.format('"o":{"s":"BTCUSDT","S":"BUY","z":"1","T":5}'), Status.MALFORMED),
        (FORCE.format('"o":{"s":"BTCUSDT","S":"BUY","p":"1.0","T":5}'), Status.MALFORMED),
        (FORCE.format('"o":"BTCUSDT"'), Status.MALFORMED),
        (FORCE.format('"x":1'), Status.MALFORMED),
    ],
)  # fmt: skip
def test_what_is_no_good_message_is_an_answer(frame: str, status: Status) -> None:
    # What stands behind the frame in memory completes it: who reads on is found out.
    for behind in (b"", b'"}}]]}}', b'1","m":true}'):
        got, rows, _ = USDM(frame.encode(), behind=behind)
        assert got == status, (frame, behind)
        assert len(rows) == 0


@pytest.mark.parametrize(("wire", "frame", "channel", "expected"), ROWS)
def test_a_frame_cut_anywhere_is_malformed(wire: Wire, frame: bytes, channel: Channel, expected: list[Any]) -> None:
    for end in range(len(frame)):
        assert wire(frame[:end], behind=frame[end:]).status == Status.MALFORMED, frame[:end]


@pytest.mark.parametrize(("wire", "frame", "channel", "expected"), ROWS)
def test_without_room_a_frame_asks_for_it(wire: Wire, frame: bytes, channel: Channel, expected: list[Any]) -> None:
    for room in range(len(expected)):
        # A mark price asks for all the rows that it could have.
        assert wire(frame, room=room).status == Status.NO_ROOM
    assert wire(frame, room=max(len(expected), 3)).status == len(expected)


def test_a_symbol_outside_ascii_is_found() -> None:
    frame = '{"e":"trade","E":5,"s":"１２３USDT","t":1,"p":"1.0000","q":"1","T":5,"m":true,"M":true}'.encode()
    assert SPOT(frame).status == 1
