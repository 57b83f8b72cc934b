"""Binance's REST market data: what is asked, what is read, and what an error means."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from binance_frames import TABLE, USDM_BTC, answers, payload, recorded_2021

from oneprice.model.errors import InputError, UnknownOutcome, VenueError, WireError
from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.venues.base import Candle, FundingSettlement, Rest
from oneprice.venues.binance_rest import check
from oneprice.venues.registry import venue

MS = 1_000_000
HOUR_NS = 3600 * 10**9
SPOT, USDM, COINM = (venue(name).rest for name in ("binance_spot", "binance_usdm", "binance_coinm"))


def listed(rest: Rest, body: bytes) -> dict[str, Instrument]:
    return {instrument.symbol: instrument for instrument in rest.read_instruments(body)}


def test_a_spot_market_gets_its_rules_from_the_filters() -> None:
    found = listed(SPOT, payload("binance_spot", "rest_instruments"))
    assert found["BTCUSDT"] == Instrument(
        venue="binance_spot", symbol="BTCUSDT", canonical="BTC/USDT", kind=InstrumentKind.SPOT, base="BTC",
        quote="USDT", price_exponent=-2, qty_exponent=-8, tick=1, lot=1000, min_qty=1000, max_qty=9000 * 10**8,
        min_notional=Decimal(5), maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), fee_in_received=True,
    )  # fmt: skip


def test_a_perpetual_keeps_the_precision_it_prints_beside_its_tick() -> None:
    found = listed(USDM, payload("binance_usdm", "rest_instruments"))
    btc = found["BTCUSDT"]
    assert (btc.price_exponent, btc.tick, btc.price(btc.tick)) == (-2, 10, Decimal("0.10"))
    assert (btc.qty_exponent, btc.lot, btc.min_notional) == (-3, 1, Decimal(5))
    assert (btc.canonical, btc.kind, btc.settle) == ("BTC/USDT:USDT", InstrumentKind.PERP, "USDT")
    assert (btc.maker_fee, btc.taker_fee) == (Decimal("0.0002"), Decimal("0.0005"))
    assert btc.funding_interval_ns == 8 * HOUR_NS
    assert not btc.inverse
    assert not btc.fee_in_received


def test_inverse_and_dated_contracts_are_what_they_are() -> None:
    found = listed(COINM, json.dumps(recorded_2021("BINANCE_DELIVERY")[0]).encode())
    perp, dated = found["BTCUSD_PERP"], found["BTCUSD_210924"]
    assert (perp.canonical, perp.kind, perp.inverse) == ("BTC/USD:BTC", InstrumentKind.PERP, True)
    assert (perp.contract_multiplier, found["ETHUSD_PERP"].contract_multiplier) == (100, 10)
    assert (dated.canonical, dated.kind, dated.funding_interval_ns) == (
        "BTC/USD:BTC-210924", InstrumentKind.FUTURE, 0,
    )  # fmt: skip


def test_whole_lists_of_thousands_are_read() -> None:
    info, _ = recorded_2021("BINANCE")
    found = listed(SPOT, json.dumps(info).encode())
    trading = {s["symbol"] for s in info["symbols"] if s["status"] == "TRADING" and s["isSpotTradingAllowed"]}
    assert set(found) == trading
    assert len(found) > 1000
    for entry in info["symbols"]:
        if entry["symbol"] in found:
            filters = {f["filterType"]: f for f in entry["filters"]}
            market = found[entry["symbol"]]
            assert market.price(market.tick) == Decimal(filters["PRICE_FILTER"]["tickSize"])
            assert market.qty(market.lot) == Decimal(filters["LOT_SIZE"]["stepSize"])
            assert market.min_notional == Decimal(filters["MIN_NOTIONAL"]["minNotional"])


def _changed(rest_of: str, **changes: Any) -> bytes:
    info = answers(rest_of, "rest_instruments")
    info["symbols"] = [{**info["symbols"][0], **changes}]
    return json.dumps(info).encode()


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "BREAK"},
        {"isSpotTradingAllowed": False},
        {"filters": []},
        {"filters": [{"filterType": "PRICE_FILTER", "tickSize": "0.0"}, {"filterType": "LOT_SIZE", "stepSize": "1"}]},
    ],
)
def test_a_market_that_takes_no_orders_is_left_out(changes: dict[str, Any]) -> None:
    assert SPOT.read_instruments(_changed("binance_spot", **changes)) == []


def test_the_older_name_of_the_smallest_value_is_known() -> None:
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": "0.1"},
        {"filterType": "LOT_SIZE", "stepSize": "1", "minQty": "1", "maxQty": "9"},
        {"filterType": "MIN_NOTIONAL", "minNotional": "10", "applyToMarket": True, "avgPriceMins": 5},
    ]
    assert SPOT.read_instruments(_changed("binance_spot", filters=filters))[0].min_notional == 10


def test_funding_intervals_name_the_symbols_that_differ() -> None:
    assert USDM.funding_intervals is not None
    assert USDM.read_funding_intervals is not None
    assert USDM.funding_intervals().path == "/fapi/v1/fundingInfo"
    assert USDM.read_funding_intervals(payload("binance_usdm", "rest_funding_info")) == {"BLZUSDT": 8 * HOUR_NS}
    four = payload("binance_usdm", "rest_funding_info").replace(b'Hours":8', b'Hours":4')
    assert USDM.read_funding_intervals(four) == {"BLZUSDT": 4 * HOUR_NS}


def test_candles_funding_interest_and_time_are_read_in_their_units() -> None:
    assert SPOT.read_klines(payload("binance_spot", "rest_klines"))[0] == Candle(
        open_ns=1499040000000 * MS, open=Decimal("0.01634790"), high=Decimal("0.80000000"), low=Decimal("0.01575800"),
        close=Decimal("0.01577100"), volume=Decimal("148976.11427815"),
    )  # fmt: skip
    assert len(USDM.read_klines(payload("binance_usdm", "rest_klines"))) == 1
    assert USDM.read_funding_history is not None
    settled = USDM.read_funding_history(payload("binance_usdm", "rest_funding_history"))
    assert settled[0] == FundingSettlement(
        ts_ns=1570608000000 * MS, rate=Decimal("-0.03750000"), mark_price=Decimal("34287.54619963")
    )
    old = payload("binance_usdm", "rest_funding_history").replace(b'"34287.54619963"', b'""')
    assert USDM.read_funding_history(old)[0].mark_price is None
    assert USDM.read_open_interest is not None
    assert USDM.read_open_interest(payload("binance_usdm", "rest_open_interest")) == (10659.509, 1589437530011 * MS)
    assert SPOT.read_server_time(payload("binance_spot", "rest_server_time")) == 1499827319559 * MS
    assert USDM.read_depth is not None
    assert USDM.read_depth(payload("binance_usdm", "rest_depth"), TABLE[USDM_BTC]).venue_ns == 1723161256493 * MS


def test_each_request_says_its_path_and_its_weight() -> None:
    btc = TABLE[USDM_BTC]
    assert (SPOT.instruments().path, SPOT.instruments().weight) == ("/api/v3/exchangeInfo", 20)
    assert SPOT.depth is not None
    assert USDM.depth is not None
    assert (SPOT.depth(btc).query, SPOT.depth(btc).weight) == ({"symbol": "BTCUSDT", "limit": "5000"}, 250)
    assert (USDM.depth(btc).query, USDM.depth(btc).weight) == ({"symbol": "BTCUSDT", "limit": "1000"}, 20)
    assert SPOT.klines(btc, "1m", 5 * 10**9, 1000).query == {
        "symbol": "BTCUSDT", "interval": "1m", "startTime": "5000", "limit": "1000",
    }  # fmt: skip
    weights = [USDM.klines(btc, "1m", 0, limit).weight for limit in (99, 100, 499, 500, 1000, 1001, 1500)]
    assert weights == [1, 2, 2, 5, 5, 10, 10]
    assert SPOT.open_interest is None
    assert SPOT.funding_history is None
    assert USDM.open_interest is not None
    assert USDM.open_interest(btc).path == "/fapi/v1/openInterest"
    assert USDM.funding_history is not None
    assert USDM.funding_history(btc, 10**9, 100).query == {"symbol": "BTCUSDT", "startTime": "1000", "limit": "100"}


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[1]", b'{"symbols":[{}]}', b'[["x"]]', b"\xff"])
def test_an_answer_of_another_shape_is_a_wire_error(body: bytes) -> None:
    readers: list[Any] = [
        SPOT.read_instruments, SPOT.read_server_time, SPOT.read_klines, USDM.read_funding_history,
        USDM.read_open_interest, USDM.read_funding_intervals, lambda text: SPOT.read_depth(text, TABLE[0]),
    ]  # fmt: skip
    for read in readers:
        with pytest.raises(WireError, match="binance"):
            read(body)


def test_a_snapshot_with_more_digits_than_the_rules_allow_says_so() -> None:
    assert USDM.read_depth is not None
    with pytest.raises(InputError, match="more digits"):
        USDM.read_depth(b'{"lastUpdateId":1,"bids":[["1.001","1"]],"asks":[]}', TABLE[USDM_BTC])


# name → (kind of error, transient); all others are refusals
MEANING: dict[str, tuple[type[VenueError], bool]] = {
    "too_much_weight": (VenueError, True),
    "banned": (VenueError, True),
    "too_many_orders": (VenueError, True),
    "timeout_unknown_state": (UnknownOutcome, True),
    "execution_unknown": (UnknownOutcome, True),
    "timeout": (UnknownOutcome, True),
    "server_busy": (VenueError, True),
    "service_unavailable": (VenueError, True),
    "internal_error": (VenueError, True),
    "throttled": (VenueError, True),
}


def _errors() -> list[Any]:
    return [
        pytest.param(name, case, id=f"{venue_name}: {name}")
        for venue_name in ("binance_spot", "binance_usdm")
        for name, case in answers(venue_name, "errors").items()
        if name != "note"
    ]


@pytest.mark.parametrize(("name", "case"), _errors())
def test_an_error_says_what_it_means_and_whether_to_try_again(name: str, case: dict[str, Any]) -> None:
    body = b"<html>blocked</html>" if case.get("body_is_html") else json.dumps(case["body"]).encode()
    kind, transient = MEANING.get(name, (VenueError, False))
    with pytest.raises(VenueError) as raised:
        check(case["http_status"], case["headers"], body)
    assert type(raised.value) is kind
    assert raised.value.transient is transient
    if "body" in case and "code" in case["body"]:
        assert raised.value.code == str(case["body"]["code"])
        assert case["body"]["msg"] in str(raised.value)
    if case["http_status"] in (418, 429):
        assert raised.value.retry_after_s == float(case["headers"].get("Retry-After", 60))
    else:
        assert raised.value.retry_after_s is None


def test_a_gateway_that_answers_for_the_venue_leaves_the_outcome_open() -> None:
    with pytest.raises(UnknownOutcome, match="may have been carried out"):
        check(502, {}, b"<html>bad gateway</html>")
    with pytest.raises(UnknownOutcome):
        check(500, {}, b"")


def test_the_wait_is_found_whatever_the_case_of_its_header() -> None:
    with pytest.raises(VenueError) as raised:
        check(429, {"retry-AFTER": "7"}, b"")
    assert raised.value.retry_after_s == 7.0
    with pytest.raises(VenueError) as raised:
        check(429, {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}, b"")
    assert raised.value.retry_after_s == 60.0


def test_a_success_is_silent() -> None:
    check(200, {}, b"{}")
