"""The practice Binance's sockets: public streams, SBE, the WebSocket API, private streams."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import Any

import aiohttp
import numpy as np
import pytest
from binance_venue import ACCOUNT, KEY, BinanceVenue, Listener, binance_venue, listening, recorded, same_shape

from oneprice.emulator.faults import FaultKind
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import Side
from oneprice.model.tape import ASK, ROW
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues import wire_sbe
from oneprice.venues.base import HEAD_FIRST_ID, HEAD_LAST_ID, HEAD_SIZE
from oneprice.venues.symbols import make_lookup
from patience import WITHIN_S


@pytest.fixture
async def spot() -> AsyncIterator[BinanceVenue]:
    async with binance_venue("binance_spot") as running:
        yield running


@pytest.fixture
async def usdm() -> AsyncIterator[BinanceVenue]:
    async with binance_venue("binance_usdm") as running:
        yield running


def happen(venue: BinanceVenue, symbol: str = "BTCUSDT") -> None:
    """A trade, a change of the best bid, a mark price."""
    venue.take(symbol, Side.SELL)
    if not venue.exchange.spot:
        venue.mark(symbol)


# -- public streams -------------------------------------------------------------------------------------------------------

STREAMS = [
    ("binance_spot", "", "trade", "trade"),
    ("binance_spot", "", "aggTrade", "agg_trade"),
    ("binance_spot", "", "bookTicker", "book_ticker"),
    ("binance_spot", "", "depth", "depth_diff"),
    ("binance_spot", "", "depth@100ms", "depth_diff"),
    ("binance_spot", "", "depth5", "depth_partial"),
    ("binance_spot", "", "depth20@100ms", "depth_partial"),
    ("binance_spot", "", "kline_1m", "kline"),
    ("binance_spot", "", "ticker", "ticker_24h"),
    ("binance_spot", "", "miniTicker", "mini_ticker"),
    ("binance_usdm", "/public", "trade", "trade"),
    ("binance_usdm", "/public", "bookTicker", "book_ticker"),
    ("binance_usdm", "/public", "depth", "depth_diff"),
    ("binance_usdm", "/public", "depth@0ms", "depth_diff"),
    ("binance_usdm", "/public", "depth@500ms", "depth_diff"),
    ("binance_usdm", "/public", "depth10@100ms", "depth_partial"),
    ("binance_usdm", "/market", "aggTrade", "agg_trade"),
    ("binance_usdm", "/market", "markPrice", "mark_price_2026"),
    ("binance_usdm", "/market", "markPrice@1s", "mark_price_2026"),
    ("binance_usdm", "/market", "kline_5m", "kline"),
    ("binance_usdm", "/market", "miniTicker", "mini_ticker_um_2026"),
]


@pytest.mark.parametrize(("name", "path", "stream", "file"), STREAMS)
async def test_a_stream_has_the_recorded_shape(name, path, stream, file) -> None:
    async with binance_venue(name) as venue:
        base = venue.ws["public"].removesuffix("/public") + path
        async with (
            listening(venue, f"{base}/ws/btcusdt@{stream}") as raw,
            listening(venue, f"{base}/stream") as combined,
        ):
            assert await combined.say(method="SUBSCRIBE", params=[f"btcusdt@{stream}"], id=1) == {
                "result": None,
                "id": 1,
            }
            venue.take("BTCUSDT", Side.BUY)
            happen(venue)
            venue.publish(after_ms=1)
            told = await raw.heard()
            same_shape(told, recorded(name, file), without=frozenset({"ps"}))
            assert await combined.heard() == {"stream": f"btcusdt@{stream}", "data": told}


async def test_subscriptions_are_acknowledged_listed_and_taken_back(spot) -> None:
    async with listening(spot, f"{spot.ws['public']}/ws") as socket:
        assert await socket.say(method="SUBSCRIBE", params=["btcusdt@trade", "nosuch@trade"], id="a") == {
            "result": None, "id": "a",
        }  # fmt: skip
        assert (await socket.say(method="LIST_SUBSCRIPTIONS", id=2))["result"] == ["btcusdt@trade", "nosuch@trade"]
        assert (await socket.say(method="UNSUBSCRIBE", params=["nosuch@trade"], id=3))["result"] is None
        await socket.say(method="SET_PROPERTY", params=["combined", True], id=4)
        happen(spot)
        spot.publish()
        assert (await socket.heard())["stream"] == "btcusdt@trade"


async def test_what_is_no_request_is_told_so_and_the_socket_stays(spot) -> None:
    example = recorded("binance_spot", "subscribe_error")
    async with listening(spot, f"{spot.ws['public']}/ws") as socket:
        assert (await socket.say(method="SUBSCRIB", params=[], id=1))["code"] == example["code"]
        for text in ("{", "[]", '"SUBSCRIBE"', "{}"):
            await socket.ws.send_str(text)
            same_shape(await socket.heard(), example)


async def test_who_talks_too_much_is_cut_off(spot, usdm) -> None:
    for venue, most in ((spot, 5), (usdm, 10)):
        async with listening(venue, f"{venue.ws['public']}/ws") as socket:
            for k in range(most):
                assert (await socket.say(method="LIST_SUBSCRIPTIONS", id=k))["id"] == k
            await socket.ws.send_json({"method": "LIST_SUBSCRIPTIONS", "id": most})
            assert (await socket.ws.receive(timeout=WITHIN_S)).type in (
                aiohttp.WSMsgType.CLOSED,
                aiohttp.WSMsgType.CLOSE,
            )


@pytest.mark.parametrize(
    ("path", "carries"), [("", "depth@100ms"), ("/public", "depth@100ms"), ("/market", "markPrice")]
)
async def test_a_path_carries_its_own_streams_and_is_silent_on_others(usdm, path, carries) -> None:
    base = usdm.ws["public"].removesuffix("/public")
    async with listening(usdm, f"{base}{path}/stream?streams=btcusdt@depth@100ms/btcusdt@markPrice") as socket:
        told = (await socket.say(method="LIST_SUBSCRIPTIONS", id=1))["result"]
        assert told == ["btcusdt@depth@100ms", "btcusdt@markPrice"]
        for _ in range(3):
            happen(usdm)
            usdm.publish(after_ms=4_000)
            assert (await socket.heard())["stream"] == f"btcusdt@{carries}"


async def test_spot_depth_chains_by_one_and_futures_depth_by_the_previous_id(spot, usdm) -> None:
    for venue in (spot, usdm):
        async with listening(venue, f"{venue.ws['public']}/ws/btcusdt@depth@100ms") as socket:
            told = []
            for _ in range(6):
                happen(venue, "ETHUSDT")
                happen(venue)
                happen(venue)
                venue.publish(after_ms=100)
                told.append(await socket.heard())
            pairs = list(pairwise(told))
            if venue is spot:
                assert all(after["U"] == before["u"] + 1 for before, after in pairs)
            else:
                assert all(after["pu"] == before["u"] for before, after in pairs)
                assert any(after["U"] != before["u"] + 1 for before, after in pairs)


async def test_snapshot_and_diffs_give_the_market_s_book_whoever_subscribes_when(spot) -> None:
    happen(spot)  # told to nobody
    async with listening(spot, f"{spot.ws['public']}/ws/btcusdt@depth@100ms") as socket:
        snapshot = (await spot.ask("GET", "/api/v3/depth", {"symbol": "BTCUSDT", "limit": 5000})).body
        book: dict[str, dict[str, str]] = {"b": dict(snapshot["bids"]), "a": dict(snapshot["asks"])}
        at = snapshot["lastUpdateId"]
        instrument = spot.exchange.instruments["BTCUSDT"]
        for k in range(5):
            happen(spot)
            spot.rest("BTCUSDT", Side.BUY, instrument.price_mantissa(instrument.price(5_000_000)) - k)
            spot.publish(after_ms=100)
            event = await socket.heard()
            if event["u"] <= at:
                continue
            assert event["U"] <= at + 1
            at = event["u"]
            for side in ("b", "a"):
                book[side] |= dict(event[side])
        after = (await spot.ask("GET", "/api/v3/depth", {"symbol": "BTCUSDT", "limit": 5000})).body
        for side, name in (("b", "bids"), ("a", "asks")):
            assert {price: qty for price, qty in book[side].items() if float(qty) > 0} == dict(after[name])
        assert at == after["lastUpdateId"]


async def test_each_speed_of_depth_keeps_its_own_cadence_and_chain(spot) -> None:
    async with listening(spot, f"{spot.ws['public']}/stream?streams=btcusdt@depth/btcusdt@depth@100ms") as socket:
        await socket.say(method="LIST_SUBSCRIPTIONS", id=1)
        told: dict[str, list[Any]] = {"btcusdt@depth": [], "btcusdt@depth@100ms": []}
        for _ in range(21):
            happen(spot)
            spot.publish(after_ms=100)
        while len(told["btcusdt@depth"]) < 3 or len(told["btcusdt@depth@100ms"]) < 21:
            event = await socket.heard()
            told[event["stream"]].append(event["data"])
        for events in told.values():
            assert all(after["U"] == before["u"] + 1 for before, after in pairwise(events))
        assert told["btcusdt@depth"][-1]["u"] == told["btcusdt@depth@100ms"][-1]["u"]


async def test_a_candle_is_told_as_closed_before_the_next_begins(spot) -> None:
    async with listening(spot, f"{spot.ws['public']}/ws/btcusdt@kline_1m") as socket:
        told = []
        for wait_ms in (1, 60_000, 2_000, 2_000):
            happen(spot)
            spot.publish(after_ms=wait_ms)
            told.append((await socket.heard())["k"])
        starts = [candle["t"] for candle in told]
        assert [candle["x"] for candle in told][:3] == [False, True, False]
        assert starts[0] == starts[1] < starts[2]


@pytest.mark.parametrize("kind", [FaultKind.GAP, FaultKind.DUPLICATE, FaultKind.REORDER, FaultKind.CORRUPT_FRAME])
async def test_a_depth_fault_hits_one_message_and_no_more(spot, kind) -> None:
    async with listening(spot, f"{spot.ws['public']}/ws/btcusdt@depth@100ms") as socket:
        sent = 4
        spot.fault(kind, at_s=0.15)
        ids = []
        for _ in range(sent):
            happen(spot)
            spot.publish(after_ms=100)
            ids.append(spot.exchange.book("BTCUSDT", 1).last_id)
        heard = []
        for _ in range(sent - 1 if kind is FaultKind.GAP else sent + 1 if kind is FaultKind.DUPLICATE else sent):
            frame = await socket.ws.receive(timeout=WITHIN_S)
            try:
                heard.append(json.loads(frame.data)["u"])
            except ValueError:
                heard.append(None)
        assert (
            heard
            == {
                FaultKind.GAP: [ids[0], *ids[2:]],
                FaultKind.DUPLICATE: [*ids[:2], ids[1], *ids[2:]],
                FaultKind.REORDER: [ids[0], ids[2], ids[1], ids[3]],
                FaultKind.CORRUPT_FRAME: [ids[0], None, *ids[2:]],
            }[kind]
        )


async def test_a_crossed_book_uncrosses_itself(spot) -> None:
    async with listening(spot, f"{spot.ws['public']}/ws/btcusdt@depth@100ms") as socket:
        spot.fault(FaultKind.CROSSED_BOOK)
        bids: dict[str, float] = {}
        bests = []
        for _ in range(4):
            happen(spot)
            spot.publish(after_ms=100)
            bids |= {price: float(qty) for price, qty in (await socket.heard())["b"]}
            bests.append(max((float(price) for price, qty in bids.items() if qty > 0), default=0.0))
        ask = float(spot.exchange.instruments["BTCUSDT"].price(spot.exchange.best("BTCUSDT")[1]))
        assert (bests[0] > ask, bests[-1] < ask) == (True, True)


async def test_a_notice_comes_before_the_end_and_a_disconnect_without_one(spot) -> None:
    async with listening(spot, f"{spot.ws['public']}/stream?streams=btcusdt@trade") as socket:
        await socket.say(method="LIST_SUBSCRIPTIONS", id=1)
        spot.fault(FaultKind.SHUTDOWN_NOTICE, duration_s=1.0)
        spot.publish()
        same_shape(await socket.heard(), recorded("binance_spot", "server_shutdown_combined"))
        spot.publish(after_ms=1_000)
        assert (await socket.ws.receive(timeout=WITHIN_S)).type is not aiohttp.WSMsgType.TEXT
    async with listening(spot, f"{spot.ws['public']}/ws/btcusdt@trade") as socket:
        await socket.say(method="LIST_SUBSCRIPTIONS", id=1)
        spot.fault(FaultKind.DISCONNECT)
        spot.publish()
        assert (await socket.ws.receive(timeout=WITHIN_S)).type is not aiohttp.WSMsgType.TEXT


async def test_a_stalled_venue_is_silent_and_its_chain_shows_what_was_lost(spot) -> None:
    async with listening(spot, f"{spot.ws['public']}/ws/btcusdt@depth@100ms") as socket:
        happen(spot)
        spot.publish(after_ms=100)
        before = await socket.heard()
        spot.fault(FaultKind.STALL, duration_s=0.25)
        for _ in range(4):
            happen(spot)
            spot.publish(after_ms=100)
        assert (await socket.heard())["U"] > before["u"] + 1


async def test_a_skewed_clock_moves_the_times_of_events(spot) -> None:
    async with listening(spot, f"{spot.ws['public']}/ws/btcusdt@trade") as socket:
        spot.fault(FaultKind.CLOCK_SKEW, duration_s=0.5)
        happen(spot)
        spot.publish()
        told = await socket.heard()
        assert (told["T"], told["E"]) == (spot.now_ms() + 500, spot.now_ms() + 500)


# -- SBE ------------------------------------------------------------------------------------------------------------------


def decoded(venue: BinanceVenue, frame: bytes, decode: Any = wire_sbe.decode) -> tuple[Any, Any]:
    assert venue.sbe is not None
    table = InstrumentTable(venue.sbe.streams._instruments.values())
    rows, head = np.zeros(4096, dtype=ROW), np.zeros(HEAD_SIZE, dtype=np.int64)
    count = decode(np.frombuffer(frame, dtype=np.uint8), 1, 0, make_lookup(table, "binance_sbe"), rows, 0, head)
    assert count > 0, count
    return rows[:count], head


async def sbe_refused(venue: BinanceVenue) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await venue.session.ws_connect(f"{venue.ws['sbe']}/stream")
    return refused.value.status


async def test_sbe_wants_a_key_and_speaks_json_about_itself_and_binary_about_the_market(spot) -> None:
    assert await sbe_refused(spot) == 401
    async with listening(spot, f"{spot.ws['sbe']}/stream", headers={"X-MBX-APIKEY": KEY}) as socket:
        topics = ["btcusdt@trade", "btcusdt@bestBidAsk", "btcusdt@depth", "btcusdt@depth20"]
        assert await socket.say(method="SUBSCRIBE", params=topics, id=1) == recorded("binance_sbe", "subscribe_ack")
        first = spot.exchange.book("BTCUSDT", 1).last_id + 1
        happen(spot)
        spot.publish(after_ms=20)
        frames = [await socket.heard() for _ in topics]
        by_template = {int.from_bytes(frame[2:4], "little"): frame for frame in frames}
        bid, ask = spot.exchange.best("BTCUSDT")
        trade, _ = decoded(spot, by_template[wire_sbe.TRADES])
        (dealt,) = spot.exchange.recent_trades("BTCUSDT", 1)
        assert trade["price"].tolist() == [dealt.price]
        assert (int(trade["ts_venue_ns"][0]), int(trade["flags"][0]) & ASK) == (dealt.ts_ns, ASK)
        quote, _ = decoded(spot, by_template[wire_sbe.BEST_BID_ASK])
        assert quote["price"].tolist() == [bid, ask]
        diff, head = decoded(spot, by_template[wire_sbe.DEPTH_DIFF])
        assert (head[HEAD_FIRST_ID], head[HEAD_LAST_ID]) == (first, spot.exchange.book("BTCUSDT", 1).last_id)
        assert len(diff) == 1
        top, _ = decoded(spot, by_template[wire_sbe.DEPTH_TOP], wire_sbe.decode_top)
        view = spot.exchange.book("BTCUSDT", 20)
        assert list(zip(top["price"].tolist(), top["qty"].tolist(), strict=True)) == [*view.bids, *view.asks]


# -- the WebSocket API ------------------------------------------------------------------------------------------------------


def asking(venue: BinanceVenue, **params: Any) -> dict[str, Any]:
    return venue.sign({"apiKey": KEY, **params})


ORDER = {
    "symbol": "BTCUSDT",
    "side": "BUY",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01",
    "price": "50000",
}


@pytest.mark.parametrize("name", ["binance_spot", "binance_usdm"])
async def test_orders_go_over_the_websocket_api(name) -> None:
    async with binance_venue(name) as venue, listening(venue, venue.ws["ws-api"]) as socket:
        placed = await socket.say(
            id="1", method="order.place", params=asking(venue, **ORDER, newOrderRespType="RESULT")
        )
        same_shape(placed, recorded(name, "wsapi_order_place_response"))
        number = placed["result"]["orderId"]
        for method, status in (("order.status", "NEW"), ("order.cancel", "CANCELED")):
            told = await socket.say(id=2, method=method, params=asking(venue, symbol="BTCUSDT", orderId=number))
            assert (told["status"], told["result"]["status"]) == (200, status)
        refused = await socket.say(id=3, method="order.place", params=asking(venue, **(ORDER | {"quantity": "30"})))
        assert (refused["status"], refused["error"]["code"]) == (400, -2010 if venue.exchange.spot else -2019)
        assert (await socket.say(id=4, method="depth", params={"symbol": "BTCUSDT"}))["result"]["lastUpdateId"] > 0
        assert (await socket.say(id=5, method="time"))["result"] == {"serverTime": venue.now_ms()}


async def test_a_frame_that_cannot_be_answered_is_an_error_and_the_socket_stays(spot) -> None:
    async with listening(spot, spot.ws["ws-api"]) as socket:
        for text in ("{", "[]", '{"id":1,"method":"nosuch"}', '{"method":"time","params":[1]}'):
            await socket.ws.send_str(text)
            assert (await socket.heard())["status"] == 400
        unsigned = {**ORDER, "timestamp": spot.now_ms(), "apiKey": KEY}
        assert (await socket.say(id=1, method="order.place", params=unsigned))["error"]["code"] == -1102
        wrong = {**asking(spot, **ORDER), "signature": "0" * 64}
        assert (await socket.say(id=1, method="order.place", params=wrong))["error"]["code"] == -1022


async def test_an_answer_that_is_lost_never_comes(spot) -> None:
    spot.fault(FaultKind.TIMEOUT_AFTER_ACCEPT)
    async with listening(spot, spot.ws["ws-api"]) as socket:
        await socket.ws.send_json({"id": "lost", "method": "order.place", "params": asking(spot, **ORDER)})
        assert (await socket.say(id="next", method="ping"))["id"] == "next"
    assert len(spot.exchange.open_orders(ACCOUNT)) == 1


async def test_the_websocket_api_tells_until_when_to_wait_in_epoch_ms(spot) -> None:
    async with listening(spot, spot.ws["ws-api"]) as socket:
        for k in range(101):
            answer = await socket.say(
                id=k, method="order.place", params=asking(spot, **(ORDER | {"price": str(40_000 + k)}))
            )
            await socket.say(id=k, method="openOrders.cancelAll", params=asking(spot, symbol="BTCUSDT"))
        assert (answer["status"], answer["error"]["code"]) == (429, -1015)
        assert 0 < answer["error"]["data"]["retryAfter"] - spot.now_ms() <= 10_000


# -- private streams --------------------------------------------------------------------------------------------------------


async def subscribed(venue: BinanceVenue, socket: Listener) -> Any:
    return await socket.say(id="u", method="userDataStream.subscribe.signature", params=asking(venue))


async def test_spot_tells_an_order_s_life_with_the_balances_it_moves(spot) -> None:
    async with listening(spot, spot.ws["ws-api"]) as socket:
        ack = await subscribed(spot, socket)
        same_shape(ack, recorded("binance_spot", "wsapi_user_stream_subscribe_response"))
        await spot.order(newClientOrderId="mine", price="60010")
        spot.publish()
        new, trade, position = [await socket.heard() for _ in range(3)]
        same_shape(new, recorded("binance_spot", "user_execution_report_new"), without=frozenset({"v"}))
        same_shape(trade["event"], recorded("binance_spot", "user_execution_report_trade"))
        same_shape(position, recorded("binance_spot", "user_account_position"))
        assert [event["event"]["X"] for event in (new, trade)] == ["NEW", "FILLED"]
        assert (trade["event"]["c"], trade["event"]["N"], float(trade["event"]["n"])) == ("mine", "BTC", 0.00001)


async def test_on_a_spot_cancel_the_order_s_id_is_in_another_field(spot) -> None:
    async with listening(spot, spot.ws["ws-api"]) as socket:
        await subscribed(spot, socket)
        await spot.order(newClientOrderId="mine")
        await spot.signed(
            "DELETE", "/api/v3/order", symbol="BTCUSDT", origClientOrderId="mine", newClientOrderId="stop"
        )
        spot.publish()
        events = [(await socket.heard())["event"] for _ in range(4)]  # each order event, then the balances it moved
        assert [event["e"] for event in events[1::2]] == ["outboundAccountPosition"] * 2
        assert [(event["x"], event["c"], event["C"]) for event in events[::2]] == [
            ("NEW", "mine", ""),
            ("CANCELED", "stop", "mine"),
        ]
        same_shape(events[2], recorded("binance_spot", "user_execution_report_canceled"))


async def test_nothing_private_is_told_without_a_subscription_or_after_its_end(spot) -> None:
    async with listening(spot, spot.ws["ws-api"]) as socket:
        await spot.order()
        spot.publish()
        assert (await subscribed(spot, socket))["status"] == 200
        assert (await socket.say(id=1, method="userDataStream.unsubscribe"))["status"] == 200
        await spot.order()
        spot.publish()
        assert (await socket.say(id=2, method="ping"))["id"] == 2


async def test_futures_tell_a_fill_twice_and_what_it_moved_once(usdm) -> None:
    key = (await usdm.ask("POST", "/fapi/v1/listenKey", key=KEY)).body["listenKey"]
    async with listening(usdm, f"{usdm.ws['private']}/ws/{key}") as socket:
        await usdm.order(newClientOrderId="mine", price="60010")
        usdm.publish()
        new, lite, trade, update = [await socket.heard() for _ in range(4)]
        same_shape(lite, recorded("binance_usdm", "user_trade_lite"))
        without = frozenset({"AP", "cr", "si", "ss"})
        same_shape(trade, recorded("binance_usdm", "user_order_update_trade"), without=without)
        same_shape(update, recorded("binance_usdm", "user_account_update"))
        assert (new["o"]["x"], trade["o"]["x"], trade["o"]["X"]) == ("NEW", "TRADE", "FILLED")
        assert lite["t"] == trade["o"]["t"]
        assert (update["a"]["m"], update["a"]["P"][0]["pa"]) == ("ORDER", "0.010")


async def test_a_funding_payment_is_a_balance_without_positions(usdm) -> None:
    await usdm.order(price="60010")
    usdm.publish()
    key = (await usdm.ask("POST", "/fapi/v1/listenKey", key=KEY)).body["listenKey"]
    async with listening(usdm, f"{usdm.ws['private']}/ws?listenKey={key}") as socket:
        usdm.exchange.settle_funding("BTCUSDT", usdm.clock.ns)
        usdm.publish()
        told = await socket.heard()
        example = recorded("binance_usdm", "user_account_update_funding")
        assert (told["a"]["m"], told["a"]["S"], told["a"]["P"]) == ("FUNDING_FEE", "BTCUSDT", [])
        same_shape(told["a"]["B"], example["a"]["B"])
        assert float(told["a"]["B"][0]["bc"]) == pytest.approx(-0.01 * 60_000.5 * 0.0001)


async def test_a_listen_key_lives_an_hour_unless_it_is_kept(usdm) -> None:
    path = "/fapi/v1/listenKey"
    missing = recorded("binance_usdm", "errors")["listen_key_missing"]
    answer = await usdm.ask("PUT", path, key=KEY)
    assert (answer.status, answer.body) == (missing["http_status"], missing["body"])
    key = (await usdm.ask("POST", path, key=KEY)).body["listenKey"]
    assert (await usdm.ask("POST", path, key=KEY)).body["listenKey"] == key
    async with listening(usdm, f"{usdm.ws['private']}/ws/{key}") as socket:
        usdm.clock.ns += 3_599 * NS_PER_S
        assert (await usdm.ask("PUT", path, key=KEY)).status == 200
        usdm.publish(after_ms=3_599_000)
        await usdm.order()
        usdm.publish()
        assert (await socket.heard())["e"] == "ORDER_TRADE_UPDATE"
        usdm.publish(after_ms=2_000)
        same_shape(await socket.heard(), recorded("binance_usdm", "user_listen_key_expired"))
    assert (await usdm.ask("PUT", path, key=KEY)).body == missing["body"]
    async with listening(usdm, f"{usdm.ws['private']}/ws/{key}") as socket:
        assert (await socket.ws.receive(timeout=WITHIN_S)).type is aiohttp.WSMsgType.CLOSE


async def test_a_skewed_clock_moves_private_events_once(spot) -> None:
    async with listening(spot, spot.ws["ws-api"]) as socket:
        await subscribed(spot, socket)
        spot.fault(FaultKind.CLOCK_SKEW, duration_s=0.5)
        await spot.order(timestamp=spot.now_ms() + 500)
        spot.publish()
        told = (await socket.heard())["event"]
        assert {told["E"], told["T"], told["O"]} == {spot.clock.ns // NS_PER_MS + 500}
