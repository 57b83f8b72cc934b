"""Bybit's market data by REST: documented and recorded answers, and what each error means."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
import zstandard

from oneprice.model.errors import InputError, UnknownOutcome, VenueError, WireError
from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.venues.base import Candle, FundingSettlement
from oneprice.venues.bybit_rest import LINEAR_REST, SPOT_REST
from shared_data import shared

MS, HOUR_NS = 1_000_000, 3600 * 10**9


def payload(name: str) -> bytes:
    return shared(f"data/wire/bybit/channels/{name}.json").read_bytes()


LINEAR_BTC = Instrument(
    venue="bybit_linear", symbol="BTCUSDT", canonical="BTC/USDT:USDT", kind=InstrumentKind.PERP, base="BTC",
    quote="USDT", settle="USDT", price_exponent=-2, qty_exponent=-3, tick=10, lot=1, min_qty=1, max_qty=1_190_000,
    min_notional=Decimal(5), maker_fee=Decimal("0.0002"), taker_fee=Decimal("0.00055"),
    funding_interval_ns=8 * HOUR_NS,
)  # fmt: skip
SPOT_BTC = Instrument(
    venue="bybit_spot", symbol="BTCUSDT", canonical="BTC/USDT", kind=InstrumentKind.SPOT, base="BTC", quote="USDT",
    price_exponent=-1, qty_exponent=-6, tick=1, lot=1, max_qty=83_000_000, min_notional=Decimal(5),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), fee_in_received=True,
)  # fmt: skip


def test_instruments_carry_the_rules_an_order_must_keep() -> None:
    assert LINEAR_REST.read_instruments(payload("rest_instruments_linear")) == [LINEAR_BTC]
    assert SPOT_REST.read_instruments(payload("rest_instruments_spot")) == [SPOT_BTC]


def test_an_instrument_that_does_not_trade_yet_is_left_out() -> None:
    assert LINEAR_REST.read_instruments(payload("rest_instruments_prelisting")) == []


def test_a_list_in_pages_is_followed_by_its_cursor() -> None:
    assert LINEAR_REST.more_instruments is not None
    first = LINEAR_REST.instruments()
    assert (first.path, first.query["category"], first.query["limit"]) == (
        "/v5/market/instruments-info", "linear", "1000",
    )  # fmt: skip
    following = LINEAR_REST.more_instruments(payload("rest_instruments_prelisting"))
    assert following is not None
    assert following.query == {**first.query, "cursor": "first%3DBIOUSDT%26last%3DBIOUSDT"}
    assert LINEAR_REST.more_instruments(payload("rest_instruments_linear")) is None
    assert SPOT_REST.more_instruments is not None
    assert SPOT_REST.more_instruments(payload("rest_instruments_spot")) is None


def test_every_instrument_of_august_2026_is_read_and_no_dated_future_among_them() -> None:
    text = zstandard.ZstdDecompressor().stream_reader(
        shared("data/market/cryptofeed_v3/BYBIT.jsonl.zst").read_bytes()
    ).read()  # fmt: skip
    answers = {}
    for line in text.splitlines()[1:3]:
        record = json.loads(line)
        answers["spot" if "category=spot" in record["url"] else "linear"] = record["data"].encode()
    linear = {item.symbol: item for item in LINEAR_REST.read_instruments(answers["linear"])}
    spot = {item.symbol: item for item in SPOT_REST.read_instruments(answers["spot"])}
    assert (len(linear), len(spot)) == (760, 557)
    assert {item.kind for item in linear.values()} == {InstrumentKind.PERP}
    assert linear["BTCPERP"].canonical == "BTC/USDC:USDC"
    assert spot["BTCUSDT"].canonical == "BTC/USDT"
    sol = linear["SOLUSDT"]  # tick "0.010": three decimals in every frame, the last one always 0
    assert (sol.price_exponent, sol.tick, sol.price(sol.tick)) == (-3, 10, Decimal("0.010"))
    assert linear["0GUSDT"].funding_interval_ns == 4 * HOUR_NS
    for item in (*linear.values(), *spot.values()):
        assert item.tick > 0
        assert item.lot > 0
        assert item.max_qty >= max(item.min_qty, item.lot)


def test_the_clock_is_read_in_nanoseconds() -> None:
    assert LINEAR_REST.read_server_time(payload("rest_server_time")) == 1688639403423213947
    assert LINEAR_REST.server_time().path == "/v5/market/time"


def test_candles_come_oldest_first() -> None:
    candles = SPOT_REST.read_klines(payload("rest_klines"))
    assert [candle.open_ns for candle in candles] == [n * MS for n in (1670601600000, 1670605200000, 1670608800000)]
    assert candles[0] == Candle(
        open_ns=1670601600000 * MS, open=Decimal("17086.5"), high=Decimal("17088"), low=Decimal("16978"),
        close=Decimal("17071.5"), volume=Decimal("6356"),
    )  # fmt: skip


def test_a_page_of_candles_begins_at_the_start_that_was_asked_for() -> None:
    request = SPOT_REST.klines(SPOT_BTC, "1h", 1670601600000 * MS, 3)
    assert request.query == {
        "category": "spot", "symbol": "BTCUSDT", "interval": "60", "start": "1670601600000", "end": "1670612399999",
        "limit": "3",
    }  # fmt: skip
    with pytest.raises(InputError, match="unknown candle interval '7m' in bybit spot"):
        SPOT_REST.klines(SPOT_BTC, "7m", 0, 3)
    with pytest.raises(InputError, match="1001 candles"):
        SPOT_REST.klines(SPOT_BTC, "1m", 0, 1001)


def test_a_book_by_rest_is_mantissas_of_the_instrument() -> None:
    assert SPOT_REST.read_depth is not None
    wide = msgspec.structs.replace(SPOT_BTC, price_exponent=-2)  # the documented prices have more digits than the tick
    book = SPOT_REST.read_depth(payload("rest_book"), wide)
    assert (book.last_id, book.venue_ns) == (230704, 1716863718905 * MS)
    assert (book.bids, book.asks) == (((6548547, 47081829),), ((6555770, 16606555),))


def test_settled_funding_is_read_oldest_first() -> None:
    assert LINEAR_REST.read_funding_history is not None
    answer = json.loads(payload("rest_funding_history"))
    answer["result"]["list"].append(
        {"symbol": "ETHPERP", "fundingRate": "-0.0002", "fundingRateTimestamp": "1672012800000"}
    )
    assert LINEAR_REST.read_funding_history(msgspec.json.encode(answer)) == [
        FundingSettlement(ts_ns=1672012800000 * MS, rate=Decimal("-0.0002")),
        FundingSettlement(ts_ns=1672041600000 * MS, rate=Decimal("0.0001")),
    ]


def test_a_page_of_funding_has_both_ends_because_a_start_alone_is_an_error() -> None:
    assert LINEAR_REST.funding_history is not None
    request = LINEAR_REST.funding_history(LINEAR_BTC, 1672012800000 * MS, 2)
    assert (request.query["startTime"], request.query["endTime"]) == ("1672012800000", "1672070399999")
    with pytest.raises(InputError, match="no funding interval"):
        LINEAR_REST.funding_history(SPOT_BTC, 0, 2)
    with pytest.raises(InputError, match="201 settlements"):
        LINEAR_REST.funding_history(LINEAR_BTC, 0, 201)


def test_open_interest_counts_one_side() -> None:
    assert LINEAR_REST.read_open_interest is not None
    body = payload("rest_open_interest")
    assert LINEAR_REST.read_open_interest(body) == (31955346.0, 1780963200000 * MS)
    older = json.loads(body)
    for item in older["result"]["list"]:
        del item["singleOpenInterest"]
    assert LINEAR_REST.read_open_interest(msgspec.json.encode(older)) == (63910691 / 2, 1780963200000 * MS)
    with pytest.raises(WireError, match="list is empty"):
        LINEAR_REST.read_open_interest(b'{"result":{"list":[]}}')


def test_spot_has_neither_funding_nor_open_interest() -> None:
    assert SPOT_REST.funding_history is None
    assert SPOT_REST.open_interest is None


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("time", b'{"retCode":0,"result":{}}'),
        ("time", b"<html>"),
        ("klines", b'{"result":{"list":[["1670608800000","x","1","1","1","1","1"]]}}'),
        ("klines", b'{"result":{"list":[["1670608800000","1"]]}}'),
        ("instruments", b'{"result":{"list":[{"symbol":"BTCUSDT"}]}}'),
    ],
)
def test_an_answer_of_another_shape_says_so(name: str, body: bytes) -> None:
    readers: dict[str, Any] = {
        "time": SPOT_REST.read_server_time, "klines": SPOT_REST.read_klines, "instruments": SPOT_REST.read_instruments,
    }  # fmt: skip
    with pytest.raises(WireError, match=rf"bybit {name}: "):
        readers[name](body)


ERRORS = json.loads(payload("errors"))
ERRORS.pop("note")
# name → what it means: unknown outcome, or an error that trying again helps (with its wait) or does not.
MEANT = dict.fromkeys(ERRORS, (VenueError, False, None)) | {
    "rate_limit_uid": (VenueError, True, 0.95),
    "rate_limit_ip": (VenueError, True, 600.0),
    "system_busy": (VenueError, True, None),
    "server_error": (UnknownOutcome, True, None),
    "server_timeout": (UnknownOutcome, True, None),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_says_whether_trying_again_can_help(name: str) -> None:
    case = ERRORS[name]
    body = msgspec.json.encode(case["body"]) if "body" in case else case["body_text"].encode()
    kind, transient, wait_s = MEANT[name]
    with pytest.raises(VenueError) as caught:
        LINEAR_REST.check(case["http_status"], case["headers"], body)
    assert type(caught.value) is kind
    assert (caught.value.transient, caught.value.retry_after_s) == (transient, wait_s)
    expected_code = case["body"]["retCode"] if "body" in case else case["http_status"]
    assert caught.value.code == str(expected_code)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (502, b"<html>bad gateway</html>", UnknownOutcome),
        (200, b"", UnknownOutcome),
        (429, b"", VenueError),
        (403, b"<html>The request could not be satisfied</html>", VenueError),
    ],
)
def test_an_answer_without_a_code_is_judged_by_its_status(status: int, body: bytes, kind: type[VenueError]) -> None:
    with pytest.raises(VenueError) as caught:
        SPOT_REST.check(status, {}, body)
    assert type(caught.value) is kind
    assert caught.value.transient == (status != 403)


def test_a_success_passes() -> None:
    SPOT_REST.check(200, {}, payload("rest_server_time"))
