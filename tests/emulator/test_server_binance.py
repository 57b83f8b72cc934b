"""The practice Binance by REST: its refusals, limits and shapes are the venue's, and its faults happen where they say."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from binance_venue import ACCOUNT, KEY, BinanceVenue, binance_venue, recorded, same_shape

from oneprice.emulator.faults import FaultKind
from oneprice.emulator.http_binance import Gate, signed_parts
from oneprice.emulator.http_binance_errors import BinanceError
from oneprice.model.order import OrderState, Side
from oneprice.model.time import NS_PER_S
from oneprice.venues.binance_rest import read_funding_intervals

NAMES = ("binance_spot", "binance_usdm")


@pytest.fixture
async def spot() -> AsyncIterator[BinanceVenue]:
    async with binance_venue("binance_spot") as running:
        yield running


@pytest.fixture
async def usdm() -> AsyncIterator[BinanceVenue]:
    async with binance_venue("binance_usdm") as running:
        yield running


@pytest.fixture(params=NAMES)
async def either(request: pytest.FixtureRequest) -> AsyncIterator[BinanceVenue]:
    async with binance_venue(request.param) as running:
        yield running


def refusal(name: str, which: str) -> tuple[int, Any]:
    told = recorded(name, "errors")[which]
    return told["http_status"], told["body"]


# -- refusals -----------------------------------------------------------------------------------------------------------

ORDER_REFUSALS = [
    ("binance_spot", {"symbol": "NOSUCH"}, "bad_symbol"),
    ("binance_spot", {"quantity": "30"}, "insufficient_balance"),
    ("binance_spot", {"type": "LIMIT_MAKER", "timeInForce": None, "price": "60001"}, "post_only_would_take"),
    ("binance_spot", {"quantity": "0.000015"}, "filter_lot_size"),
    ("binance_spot", {"quantity": "0.00001"}, "filter_notional"),
    ("binance_spot", {"price": "900000"}, "filter_percent_price"),
    ("binance_usdm", {"quantity": "30"}, "margin_insufficient"),
    ("binance_usdm", {"reduceOnly": "true"}, "reduce_only_rejected"),
    ("binance_usdm", {"timeInForce": "GTX", "price": "60001"}, "post_only_rejected"),
    ("binance_usdm", {"quantity": "0.001", "price": "2000", "symbol": "ETHUSDT"}, "min_notional"),
    ("binance_usdm", {"quantity": "0.0001"}, "precision"),
    ("binance_usdm", {"positionSide": "LONG"}, "position_side"),
    ("binance_usdm", {"type": "STOP_MARKET"}, "conditional_order_moved"),
]


@pytest.mark.parametrize(("name", "changes", "which"), ORDER_REFUSALS)
async def test_an_order_is_refused_in_the_venue_s_words(name, changes, which) -> None:
    async with binance_venue(name) as venue:
        answer = await venue.order(**changes)
        assert (answer.status, answer.body) == refusal(name, which)
        assert venue.exchange.all_orders(ACCOUNT) == []


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"side": None}, -1102), ({"side": "buy"}, -1117), ({"type": None}, -1102), ({"timeInForce": None}, -1102),
        ({"timeInForce": "DAY"}, -1115), ({"quantity": None}, -1102), ({"quantity": "a lot"}, -1100),
        ({"quantity": "NaN"}, -1100), ({"quantity": "0"}, -1013), ({"quantity": "-1"}, -1100), ({"price": None}, -1102),
        ({"price": "1e99999"}, -1100), ({"symbol": None}, -1102), ({"newClientOrderId": "no blanks"}, -1100),
        ({"newOrderRespType": "SHORT"}, -1136), ({"type": "MARKET"}, -1106),
        ({"type": "MARKET", "timeInForce": None}, -1106), ({"recvWindow": "60001"}, -1131),
        ({"recvWindow": "soon"}, -1100),
    ],
)  # fmt: skip
async def test_what_an_order_lacks_or_misspells_is_never_replaced_by_a_default(either, changes, code) -> None:
    answer = await either.order(**changes)
    assert (answer.status, answer.body["code"]) == (400, code)
    assert either.exchange.all_orders(ACCOUNT) == []


async def test_a_client_id_that_an_open_order_has_is_refused(spot) -> None:
    await spot.order(newClientOrderId="mine")
    answer = await spot.order(newClientOrderId="mine")
    assert (answer.status, answer.body) == refusal("binance_spot", "duplicate_order")


async def test_a_price_finer_than_the_tick_is_refused(either) -> None:
    assert (await either.order(price="50000.001")).body["code"] == -1111


async def test_unknown_orders_cannot_be_cancelled_or_found(either) -> None:
    for which in ({"orderId": 1}, {"origClientOrderId": "nobody"}):
        for method, refused in (("DELETE", "cancel_unknown"), ("GET", "query_unknown")):
            answer = await either.signed(method, f"{either.api}/order", symbol="BTCUSDT", **which)
            assert (answer.status, answer.body) == refusal("binance_spot", refused)
    answer = await either.signed("DELETE", f"{either.api}/order", symbol="BTCUSDT")
    assert (answer.status, answer.body["code"]) == (400, -1102)


# -- keys, signatures, times ----------------------------------------------------------------------------------------------


async def test_keys_signatures_and_times_are_checked(either) -> None:
    path = f"{either.api}/openOrders"
    good = either.sign({})
    assert (await either.ask("GET", path, good, key=KEY)).status == 200
    told = [
        (await either.ask("GET", path, good), "key_format"),
        (await either.ask("GET", path, good, key="nobody"), "key_invalid"),
        (await either.ask("GET", path, {**good, "signature": "0" * 64}, key=KEY), "bad_signature"),
        (await either.ask("GET", path, {**good, "signature": "ä"}, key=KEY), "bad_signature"),
        (await either.ask("GET", path, {"limit": 1, **good}, key=KEY), "bad_signature"),
        (await either.signed("GET", path, timestamp=either.now_ms() - 5_001), "timestamp_outside_window"),
        (await either.signed("GET", path, timestamp=either.now_ms() + 1_000), "timestamp_ahead"),
    ]
    for answer, which in told:
        assert (answer.status, answer.body) == refusal("binance_spot", which)
    for params in ({"timestamp": either.now_ms()}, {}):
        assert (await either.ask("GET", path, params, key=KEY)).body["code"] == -1102
    assert (await either.signed("GET", path, timestamp=either.now_ms() - 5_000)).status == 200
    assert (await either.signed("GET", path, timestamp=(either.now_ms() + 999) * 1000)).status == 200


@pytest.mark.parametrize(
    ("name", "case"),
    [(name, i) for name in NAMES for i in range(len(recorded(name, "vector_signature_hmac")["cases"]))],
)
def test_the_venue_s_own_signatures_are_accepted_and_no_others(name, case) -> None:
    vectors = recorded(name, "vector_signature_hmac")
    secret, payload, signature = vectors["secret"], *(vectors["cases"][case][part] for part in ("payload", "signature"))
    gate: Any = Gate.__new__(Gate)
    gate._check_signature(secret, payload, signature)
    for query, body in ((f"{payload}&signature={signature}", ""), ("", f"signature={signature}&{payload}")):
        assert signed_parts(query, body) == (payload, signature)
    head, tail = payload.rsplit("&", 1)
    assert signed_parts(head, f"{tail}&signature=x") == (head + tail, "x")
    with pytest.raises(BinanceError):
        gate._check_signature(secret, payload + "0", signature)


# -- limits -------------------------------------------------------------------------------------------------------------


async def test_who_asks_too_much_is_refused_and_who_goes_on_is_banned(either) -> None:
    name, heavy = either.name, {"symbol": "BTCUSDT", "limit": 5000}
    asked = 0
    while (answer := await either.ask("GET", f"{either.api}/depth", heavy)).status == 200:
        asked += 1
        assert int(answer.headers["X-MBX-USED-WEIGHT-1M"]) == asked * (250 if either.exchange.spot else 20)
    assert asked == (24 if either.exchange.spot else 120)
    status, body = refusal(name, "too_much_weight")
    assert (answer.status, answer.body) == (status, {**body, "msg": body["msg"].replace("203.0.113.7", "127.0.0.1")})
    assert int(answer.headers["Retry-After"]) == 60 - either.clock.ns // NS_PER_S % 60
    for _ in range(9):
        assert (await either.ask("GET", f"{either.api}/time")).status == 429
    answer = await either.ask("GET", f"{either.api}/time")
    assert (answer.status, answer.body["code"], answer.headers["Retry-After"]) == (418, -1003, "120")
    assert str(either.now_ms() + 120_000) in answer.body["msg"]
    either.clock.ns += 119 * NS_PER_S  # a new minute does not end a ban
    assert (await either.ask("GET", f"{either.api}/time")).status == 418
    either.clock.ns += 2 * NS_PER_S
    assert (await either.ask("GET", f"{either.api}/time")).status == 200


async def test_a_new_minute_has_its_whole_weight(either) -> None:
    await either.ask("GET", f"{either.api}/depth", {"symbol": "BTCUSDT"})
    either.clock.ns += 60 * NS_PER_S
    answer = await either.ask("GET", f"{either.api}/time")
    assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "1"


async def test_unfilled_orders_are_counted_and_refused_above_the_limit(spot) -> None:
    for k in range(100):
        answer = await spot.order(price=str(40_000 + k), quantity="0.001")
        assert answer.headers["X-MBX-ORDER-COUNT-10S"] == str(k + 1)
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "0"
        await spot.signed("DELETE", "/api/v3/openOrders", symbol="BTCUSDT")
    answer = await spot.order()
    assert (answer.status, answer.body["code"]) == (429, -1015)
    assert answer.headers["Retry-After"] == str(10 - spot.clock.ns // NS_PER_S % 10)
    spot.clock.ns += 10 * NS_PER_S
    assert (await spot.order()).status == 200


async def test_an_order_that_fills_at_once_is_not_counted(either) -> None:
    answer = await either.order(price="60010")
    assert answer.headers["X-MBX-ORDER-COUNT-10S"] == "0"
    failed = await either.order(quantity="0.0000001")
    assert failed.headers["X-MBX-USED-WEIGHT-1M"] == "1"  # only a success is free


async def test_the_limits_that_hold_are_the_limits_that_are_listed(either) -> None:
    rules = (await either.ask("GET", f"{either.api}/exchangeInfo")).body["rateLimits"]
    told = {(rule["rateLimitType"], rule["interval"], rule["intervalNum"]): rule["limit"] for rule in rules}
    assert told[("REQUEST_WEIGHT", "MINUTE", 1)] == (6000 if either.exchange.spot else 2400)
    assert told[("ORDERS", "SECOND", 10)] == (100 if either.exchange.spot else 300)


# -- shapes -------------------------------------------------------------------------------------------------------------

SHAPES = [
    ("binance_spot", "GET", "depth", {"symbol": "BTCUSDT"}, "rest_depth"),
    ("binance_spot", "GET", "trades", {"symbol": "BTCUSDT"}, "rest_trades"),
    ("binance_spot", "GET", "aggTrades", {"symbol": "BTCUSDT"}, "rest_agg_trades"),
    ("binance_spot", "GET", "klines", {"symbol": "BTCUSDT", "interval": "1m"}, "rest_klines"),
    ("binance_spot", "GET", "ticker/bookTicker", {"symbol": "BTCUSDT"}, "rest_book_ticker"),
    ("binance_spot", "GET", "time", {}, "rest_server_time"),
    ("binance_usdm", "GET", "depth", {"symbol": "BTCUSDT"}, "rest_depth"),
    ("binance_usdm", "GET", "klines", {"symbol": "BTCUSDT", "interval": "1m"}, "rest_klines"),
    ("binance_usdm", "GET", "premiumIndex", {"symbol": "BTCUSDT"}, "rest_premium_index"),
    ("binance_usdm", "GET", "fundingRate", {"symbol": "BTCUSDT"}, "rest_funding_history"),
    ("binance_usdm", "GET", "openInterest", {"symbol": "BTCUSDT"}, "rest_open_interest"),
]
SIGNED_SHAPES = [
    ("binance_spot", "GET", "/api/v3/account", {}, "rest_account"),
    ("binance_spot", "GET", "/api/v3/account/commission", {"symbol": "BTCUSDT"}, "rest_commission"),
    ("binance_spot", "GET", "/api/v3/openOrders", {"symbol": "BTCUSDT"}, "rest_open_orders"),
    ("binance_spot", "GET", "/api/v3/myTrades", {"symbol": "BTCUSDT"}, "rest_my_trades"),
    ("binance_spot", "GET", "/api/v3/order", {"symbol": "BTCUSDT", "origClientOrderId": "mine"}, "rest_order_query"),
    ("binance_spot", "GET", "/api/v3/rateLimit/order", {}, "rest_order_count"),
    ("binance_usdm", "GET", "/fapi/v3/balance", {}, "rest_account_balance"),
    ("binance_usdm", "GET", "/fapi/v3/positionRisk", {}, "rest_positions"),
    ("binance_usdm", "GET", "/fapi/v1/commissionRate", {"symbol": "BTCUSDT"}, "rest_commission"),
    ("binance_usdm", "GET", "/fapi/v1/userTrades", {"symbol": "BTCUSDT"}, "rest_my_trades"),
    ("binance_usdm", "POST", "/fapi/v1/listenKey", {}, "rest_listen_key"),
]


@pytest.mark.parametrize(("name", "method", "call", "params", "file"), SHAPES)
async def test_market_data_has_the_recorded_shape(name, method, call, params, file) -> None:
    async with binance_venue(name) as venue:
        answer = await venue.ask(method, f"{venue.api}/{call}", params)
        same_shape(answer.body, recorded(name, file))


@pytest.mark.parametrize(("name", "method", "path", "params", "file"), SIGNED_SHAPES)
async def test_private_data_has_the_recorded_shape(name, method, path, params, file) -> None:
    async with binance_venue(name) as venue:
        await venue.order(newClientOrderId="mine")
        await venue.order(price="60010")
        same_shape((await venue.signed(method, path, **params)).body, recorded(name, file))


@pytest.mark.parametrize("kind", ["ACK", "RESULT", "FULL"])
async def test_an_order_is_answered_with_what_was_asked_for(spot, kind) -> None:
    answer = await spot.order(price="60010", newOrderRespType=kind)
    example = recorded("binance_spot", f"rest_order_response_{kind.lower()}")
    same_shape(answer.body, example)
    assert answer.body.keys() == example.keys()


async def test_a_futures_acknowledgement_knows_nothing_of_fills(usdm) -> None:
    acknowledged = (await usdm.order(type="MARKET", timeInForce=None, price=None)).body
    assert (acknowledged["status"], acknowledged["executedQty"]) == ("NEW", "0.000")
    result = (await usdm.order(type="MARKET", timeInForce=None, price=None, newOrderRespType="RESULT")).body
    assert (result["status"], result["executedQty"]) == ("FILLED", "0.010")
    same_shape(result, recorded("binance_usdm", "rest_order_response"))


async def test_a_spot_cancel_has_an_id_of_its_own(spot) -> None:
    placed = (await spot.order(newClientOrderId="mine")).body
    cancelled = (
        await spot.signed(
            "DELETE", "/api/v3/order", symbol="BTCUSDT", orderId=placed["orderId"], newClientOrderId="stop"
        )
    ).body
    example = recorded("binance_spot", "rest_cancel_response")
    assert cancelled.keys() == example.keys()
    assert (cancelled["clientOrderId"], cancelled["origClientOrderId"], cancelled["status"]) == (
        "stop",
        "mine",
        "CANCELED",
    )


async def test_a_spot_market_order_may_name_what_to_spend(spot) -> None:
    answer = await spot.order(type="MARKET", timeInForce=None, price=None, quantity=None, quoteOrderQty="3000")
    assert Decimal(answer.body["cummulativeQuoteQty"]) == pytest.approx(Decimal(3_000), rel=Decimal("0.001"))
    assert answer.body["origQuoteOrderQty"] == "3000.00000000"


async def test_lists_can_be_cut_by_id_and_time(spot) -> None:
    placed = [(await spot.order(price=str(50_000 + k))).body["orderId"] for k in range(3)]
    spot.clock.ns += NS_PER_S
    last = (await spot.order(price="60010")).body
    path = "/api/v3/allOrders"
    ids = [[row["orderId"] for row in (await spot.signed("GET", path, symbol="BTCUSDT", **cut)).body] for cut in (
        {"orderId": placed[1]}, {"limit": 2}, {"startTime": spot.now_ms()}, {"endTime": spot.now_ms() - 1, "limit": 9},
    )]  # fmt: skip
    assert ids == [[*placed[1:], last["orderId"]], [placed[2], last["orderId"]], [last["orderId"]], placed]
    (fill,) = (await spot.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT", orderId=last["orderId"])).body
    assert fill["id"] == last["fills"][0]["tradeId"]
    assert (await spot.signed("GET", "/api/v3/myTrades", symbol="BTCUSDT", fromId=fill["id"] + 1)).body == []
    for _ in range(3):
        spot.take("BTCUSDT", Side.SELL)
    trades = (await spot.ask("GET", "/api/v3/trades", {"symbol": "BTCUSDT", "limit": 2})).body
    assert trades[1]["id"] == trades[0]["id"] + 1
    assert [trade["isBuyerMaker"] for trade in trades] == [True, True]


@pytest.mark.parametrize(
    ("call", "params", "code"),
    [
        ("depth", {}, -1102), ("depth", {"symbol": "NOSUCH"}, -1121), ("depth", {"symbol": "BTCUSDT", "limit": "all"}, -1100),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, -1120), ("klines", {"symbol": "BTCUSDT"}, -1102),
        ("exchangeInfo", {"symbols": "BTCUSDT"}, -1100), ("exchangeInfo", {"symbols": '["NOSUCH"]'}, -1121),
    ],
)  # fmt: skip
async def test_bad_questions_are_answers(either, call, params, code) -> None:
    answer = await either.ask("GET", f"{either.api}/{call}", params)
    assert (answer.status, answer.body["code"]) == (400, code)


async def test_leverage_margin_and_position_mode_are_the_account_s(usdm) -> None:
    told = await usdm.signed("POST", "/fapi/v1/leverage", symbol="BTCUSDT", leverage=5)
    assert (told.body["symbol"], told.body["leverage"]) == ("BTCUSDT", 5)
    for path, params, code in (
        ("leverage", {"symbol": "BTCUSDT", "leverage": 126}, -4028),
        ("marginType", {"symbol": "BTCUSDT", "marginType": "CROSSED"}, -4046),
        ("positionSide/dual", {"dualSidePosition": "false"}, -4059),
    ):
        assert (await usdm.signed("POST", f"/fapi/v1/{path}", **params)).body["code"] == code
    assert (await usdm.signed("GET", "/fapi/v1/positionSide/dual")).body == {"dualSidePosition": False}
    assert (await usdm.signed("GET", "/fapi/v3/positionRisk")).body == []  # nothing held, nothing shown
    rows = (await usdm.signed("GET", "/fapi/v2/positionRisk")).body
    assert {row["symbol"]: row["leverage"] for row in rows} == {"BTCUSDT": "5", "ETHUSDT": "1", "SOLUSDT": "1"}


# -- faults -------------------------------------------------------------------------------------------------------------


async def test_a_refused_request_was_not_carried_out(either) -> None:
    for kind, status in ((FaultKind.HTTP_429, 429), (FaultKind.HTTP_5XX, 503), (FaultKind.REJECT, 400)):
        either.fault(kind)
        assert (await either.order()).status == status
        assert either.exchange.all_orders(ACCOUNT) == []
        assert (await either.order()).status == 200
        either.exchange.cancel_all(ACCOUNT, None, either.clock.ns)
        either.exchange._accounts[ACCOUNT].orders.clear()


async def test_an_order_whose_answer_is_lost_stands(either) -> None:
    either.fault(FaultKind.TIMEOUT_AFTER_ACCEPT, duration_s=0.0)
    answer = await either.order(price="60010", newClientOrderId="lost")
    assert (answer.status, answer.body["code"]) == (504 if either.exchange.spot else 408, -1007)
    found = (await either.signed("GET", f"{either.api}/order", symbol="BTCUSDT", origClientOrderId="lost")).body
    assert found["status"] == "FILLED"


async def test_an_immediate_order_may_get_half(either) -> None:
    either.fault(FaultKind.PARTIAL_FILL)
    answer = await either.order(price="60010", timeInForce="IOC", quantity="0.2", newOrderRespType="RESULT")
    assert (answer.body["status"], Decimal(answer.body["executedQty"])) == ("EXPIRED", Decimal("0.1"))


async def test_a_cancel_may_come_after_the_fill(either) -> None:
    placed = (await either.order(price="59990")).body
    either.fault(FaultKind.CANCEL_FILL_RACE)
    answer = await either.signed("DELETE", f"{either.api}/order", symbol="BTCUSDT", orderId=placed["orderId"])
    assert (answer.status, answer.body["code"]) == (400, -2011)
    (order,) = either.exchange.all_orders(ACCOUNT)
    assert order.state is OrderState.FILLED


async def test_a_stale_snapshot_is_older_than_what_was_streamed(either) -> None:
    fresh = (await either.ask("GET", f"{either.api}/depth", {"symbol": "BTCUSDT"})).body["lastUpdateId"]
    either.fault(FaultKind.STALE_SNAPSHOT, symbol="BTCUSDT")
    assert (await either.ask("GET", f"{either.api}/depth", {"symbol": "BTCUSDT"})).body["lastUpdateId"] < fresh
    assert (await either.ask("GET", f"{either.api}/depth", {"symbol": "BTCUSDT"})).body["lastUpdateId"] == fresh


async def test_a_skewed_clock_moves_every_time_once_and_nothing_else(either) -> None:
    await either.order(price="60010")
    either.fault(FaultKind.CLOCK_SKEW, duration_s=0.5)
    ahead_ms = either.now_ms() + 500
    assert (await either.ask("GET", f"{either.api}/time")).body["serverTime"] == ahead_ms
    placed = (await either.order(price="60010", newOrderRespType="RESULT", timestamp=ahead_ms)).body
    assert placed["transactTime" if either.exchange.spot else "updateTime"] == ahead_ms
    fills = "myTrades" if either.exchange.spot else "userTrades"
    assert {row["time"] for row in (await either.signed("GET", f"{either.api}/{fills}", symbol="BTCUSDT")).body} == {
        ahead_ms
    }
    trades = (await either.ask("GET", f"{either.api}/trades", {"symbol": "BTCUSDT"})).body
    assert {row["time"] for row in trades} == {ahead_ms}
    assert {order.created_ns for order in either.exchange.all_orders(ACCOUNT)} == {either.clock.ns}


async def test_funding_info_names_the_symbols_that_do_not_pay_every_eight_hours(usdm: BinanceVenue) -> None:
    assert (await usdm.ask("GET", "/fapi/v1/fundingInfo")).body == []
    instruments = usdm.exchange.instruments
    instruments["ETHUSDT"] = msgspec.structs.replace(instruments["ETHUSDT"], funding_interval_ns=4 * 3600 * NS_PER_S)
    answer = await usdm.ask("GET", "/fapi/v1/fundingInfo")
    same_shape(recorded("binance_usdm", "rest_funding_info"), answer.body)
    assert read_funding_intervals(msgspec.json.encode(answer.body)) == {"ETHUSDT": 4 * 3600 * NS_PER_S}
