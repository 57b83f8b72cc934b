"""The practice Bybit by its own laws: wire shapes, chains, limits, faults; and our own feed and readers on its answers."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType
from bybit_venue import ACCOUNT, KEY, SECRET, BybitVenue, Public, bybit_venue, listening, still_venue, wild

from oneprice.emulator.events import Liquidated
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.model.order import Side
from oneprice.model.tape import Kind
from oneprice.model.time import NS_PER_MS
from oneprice.venues.base import Channel
from oneprice.venues.signing import bybit_ws_auth, hmac_signer
from patience import WITHIN_S
from shared_data import shared

BOTH = pytest.mark.parametrize("name", ["bybit_spot", "bybit_linear"])


@pytest.fixture
async def venue() -> AsyncIterator[BybitVenue]:
    async with bybit_venue() as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def still() -> AsyncIterator[BybitVenue]:
    async with still_venue() as made:
        yield made


# -- books -----------------------------------------------------------------------------------------------------------


@BOTH
async def test_our_feed_holds_the_market_s_book(venue, name) -> None:
    async with listening(venue, name) as listener:
        await listener.subscribe(Channel.DEPTH, Channel.QUOTE, Channel.TRADE)
        await listener.until(listener.is_right)
        for seed in range(10):
            wild(venue, name, 30, seed)
            await listener.until(listener.is_right)
        assert listener.count(Kind.GAP) == 0
        assert not listener.was_crossed
        instrument = listener.instruments[0]
        assert instrument.symbol == "BTCUSDT"
        quotes = [row for row in listener.rows if row["kind"] == Kind.QUOTE]
        assert {int(row["instrument"]) for row in quotes} == {0}
        trades = [row for row in listener.rows if row["kind"] == Kind.TRADE]
        told = venue.exchanges[name].recent_trades("BTCUSDT", 1000)[1:]
        assert [(row["price"], row["qty"]) for row in trades] == [(one.price, one.qty) for one in told][: len(trades)]
        assert len(trades) > 0


@BOTH
@pytest.mark.parametrize("kind", [FaultKind.GAP, FaultKind.REORDER, FaultKind.CORRUPT_FRAME])
async def test_a_lost_or_misplaced_message_is_a_gap_that_a_new_snapshot_ends(venue, name, kind) -> None:
    async with listening(venue, name) as listener:
        await listener.subscribe(Channel.DEPTH)
        await listener.until(listener.is_right)
        venue.faults.inject(Fault(kind=kind, venue=name))
        seeds = itertools.count()
        venue.between = lambda: wild(venue, name, 3, next(seeds))
        await listener.until(lambda: listener.count(Kind.GAP) > 0)
        venue.between = lambda: None
        await listener.until(listener.is_right)
        assert listener.count(Kind.GAP) == 1


async def test_a_repeated_message_changes_nothing(venue) -> None:
    async with listening(venue, "bybit_linear") as listener:
        await listener.subscribe(Channel.DEPTH)
        await listener.until(listener.is_right)
        venue.faults.inject(Fault(kind=FaultKind.DUPLICATE, venue="bybit_linear"))
        wild(venue, "bybit_linear", 5, 1)
        await listener.until(lambda: listener.machine.statistics.ignored > 0)
        assert listener.is_right()
        assert listener.count(Kind.GAP) == 0


async def test_a_crossed_book_comes_right_without_a_gap(venue) -> None:
    async with listening(venue, "bybit_spot") as listener:
        await listener.subscribe(Channel.DEPTH)
        await listener.until(listener.is_right)
        venue.faults.inject(Fault(kind=FaultKind.CROSSED_BOOK, venue="bybit_spot"))
        wild(venue, "bybit_spot", 5, 1)
        await listener.until(lambda: listener.was_crossed)
        assert not listener.is_right()
        await listener.until(listener.is_right)
        assert listener.count(Kind.GAP) == 0


@BOTH
@pytest.mark.parametrize(("depth", "every_ms"), [(50, 20), (200, 100), (1000, 200)])
async def test_a_window_keeps_its_levels_and_its_ids_count_up(still, http, name, depth, every_ms) -> None:
    exchange = still.exchanges[name]
    async with http.ws_connect(still.endpoints[name].ws["public"]) as socket:
        public = Public(still, name, socket)
        assert (await public.ask(op="subscribe", args=[f"orderbook.{depth}.BTCUSDT"]))["success"]
        public.publish()
        first = await public.receive()
        assert (first["type"], first["topic"]) == ("snapshot", f"orderbook.{depth}.BTCUSDT")
        assert first["data"]["u"] > 1
        sides = {side: {Decimal(p): Decimal(q) for p, q in first["data"][side]} for side in "ba"}
        last = first["data"]["u"]
        for seed in range(20):
            wild(still, name, 10, seed)
            public.publish(every_ms)
            delta = await public.receive()
            assert (delta["type"], delta["data"]["u"]) == ("delta", last + 1)
            last = delta["data"]["u"]
            for side in "ba":
                for price, qty in delta["data"][side]:
                    sides[side][Decimal(price)] = Decimal(qty)
                sides[side] = {price: qty for price, qty in sides[side].items() if qty > 0}
            view, instrument = exchange.book("BTCUSDT", depth), exchange.instruments["BTCUSDT"]
            assert sides["b"] == {instrument.price(p): instrument.qty(q) for p, q in view.bids}
            assert sides["a"] == {instrument.price(p): instrument.qty(q) for p, q in view.asks}


@BOTH
async def test_level_one_is_always_whole_and_is_repeated_in_silence(still, http, name) -> None:
    async with http.ws_connect(still.endpoints[name].ws["public"]) as socket:
        public = Public(still, name, socket)
        await public.ask(op="subscribe", args=["orderbook.1.BTCUSDT"])
        public.publish()
        first = await public.receive()
        still.trade(still.exchanges[name], "BTCUSDT", Side.SELL)
        public.publish(10)
        second = await public.receive()
        public.publish(2_999)
        public.publish(1)
        third = await public.receive()
        assert [frame["type"] for frame in (first, second, third)] == ["snapshot"] * 3
        assert second["data"]["u"] == first["data"]["u"] + 1
        assert third["data"] == second["data"]
        assert len(third["data"]["b"]) == len(third["data"]["a"]) == 1


async def test_a_second_subscriber_gets_what_the_first_one_holds(still, http) -> None:
    url = still.endpoints["bybit_spot"].ws["public"]
    async with http.ws_connect(url) as one, http.ws_connect(url) as other:
        first, second = Public(still, "bybit_spot", one), Public(still, "bybit_spot", other)
        await first.ask(op="subscribe", args=["orderbook.50.BTCUSDT"])
        first.publish()
        await first.receive()
        wild(still, "bybit_spot", 10, 1)
        first.publish(20)
        changed = await first.receive()
        wild(still, "bybit_spot", 10, 2)  # not told yet when the second one comes
        await second.ask(op="subscribe", args=["orderbook.50.BTCUSDT"])
        first.publish(1)
        snapshot = await second.receive()
        assert (snapshot["type"], snapshot["data"]["u"]) == ("snapshot", changed["data"]["u"])
        first.publish(20)
        assert await first.receive() == await second.receive()


async def test_linear_tickers_start_whole_and_go_on_with_what_changed(still, http) -> None:
    async with http.ws_connect(still.endpoints["bybit_linear"].ws["public"]) as socket:
        public = Public(still, "bybit_linear", socket)
        await public.ask(op="subscribe", args=["tickers.BTCUSDT"])
        public.publish()
        whole = await public.receive()
        real = json.loads(shared("data/wire/bybit/channels/ticker_linear_snapshot.json").read_text())
        spoken = {"symbol", "lastPrice", "markPrice", "indexPrice", "openInterest", "singleOpenInterest", "fundingRate"}
        spoken |= {"nextFundingTime", "fundingIntervalHour", "bid1Price", "bid1Size", "ask1Price", "ask1Size"}
        assert spoken <= set(whole["data"]) <= set(real["data"])
        assert (whole["type"], whole["data"]["fundingIntervalHour"]) == ("snapshot", "8")
        still.exchanges["bybit_linear"].market_state("BTCUSDT").mark = 60_001.5
        public.publish(99)
        public.publish(1)
        delta = await public.receive()
        assert (delta["type"], set(delta["data"])) == ("delta", {"symbol", "markPrice", "openInterestValue",
                                                               "singleOpenInterestValue"})  # fmt: skip


async def test_our_feed_reads_marks_funding_open_interest_and_liquidations(venue) -> None:
    async with listening(venue, "bybit_linear") as listener:
        await listener.subscribe(Channel.MARK, Channel.OPEN_INTEREST, Channel.LIQUIDATION)
        await listener.until(lambda: listener.count(Kind.OPEN_INTEREST) > 0)
        values = {int(row["kind"]): float(row["value"]) for row in listener.rows}
        assert values == {Kind.MARK: 60_000.5, Kind.INDEX: 60_000.0, Kind.FUNDING: 0.0001, Kind.OPEN_INTEREST: 1234.5}
        now_ns = venue.clock.now_ns()
        event = Liquidated(symbol="BTCUSDT", side=Side.BUY, price=599_000, qty=5, ts_ns=now_ns)
        venue.server.publish("bybit_linear", [event], now_ns)
        await listener.until(lambda: listener.count(Kind.LIQUIDATION) > 0)
        assert (listener.rows[-1]["price"], listener.rows[-1]["qty"]) == (599_000, 5)


# -- control frames --------------------------------------------------------------------------------------------------


@BOTH
async def test_public_answers_have_the_venue_s_shape(still, http, name) -> None:
    def shape(answer: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in answer.items() if key != "conn_id"}

    def real(file: str) -> dict[str, Any]:
        return shape(json.loads(shared(f"data/wire/bybit/channels/{file}.json").read_text()))

    product = name.removeprefix("bybit_")
    async with http.ws_connect(still.endpoints[name].ws["public"]) as socket:
        public = Public(still, name, socket)
        request = {"req_id": "1"} if product == "spot" else {}
        answer = await public.ask(op="subscribe", args=["publicTrade.BTCUSDT"], **request)
        assert shape(answer) == real(f"subscribe_ack_{product}")
        assert shape(await public.ask(op="ping")) == real(f"pong_{product}")
        refused = await public.ask(req_id="1", op="subscribe", args=["orderbook.2.BTCUSDT"])
        assert shape(refused) == real("subscribe_error")
        many = await public.ask(op="subscribe", args=["publicTrade.BTCUSDT"] * 11)
        assert many["success"] == (product == "linear")
        assert not (await public.ask(op="subscribe", args=["publicTrade.NOSUCH"]))["success"]
        assert (await public.ask(op="unsubscribe", args=["publicTrade.BTCUSDT"]))["success"]
        assert not still.server.streams[name].outlet.wants("publicTrade.BTCUSDT")


async def test_private_sockets_answer_only_to_a_right_signature(still, http) -> None:
    sign, soon = hmac_signer(SECRET), still.clock.now_ns() // NS_PER_MS + 10_000
    async with http.ws_connect(still.endpoints["bybit_spot"].ws["private"]) as socket:
        private = Public(still, "bybit_spot", socket)
        assert not (await private.ask(op="subscribe", args=["order"]))["success"]
        assert not (await private.ask(op="auth", args=[KEY, soon, "0" * 64]))["success"]
        assert not (await private.ask(op="auth", args=bybit_ws_auth(key=KEY, sign=sign, expires_ms=1)))["success"]
        assert (await private.ask(op="auth", args=bybit_ws_auth(key=KEY, sign=sign, expires_ms=soon)))["success"]
        assert (await private.ask(op="subscribe", args=["order.spot", "wallet"]))["success"]
        assert not (await private.ask(op="subscribe", args=["nonsense"]))["success"]
        assert (await private.ask(op="ping"))["op"] == "pong"


async def test_order_entry_refuses_repeated_ids_and_unknown_operations(still, http) -> None:
    sign, soon = hmac_signer(SECRET), still.clock.now_ns() // NS_PER_MS + 10_000
    order = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01",
             "price": "50000"}  # fmt: skip
    async with http.ws_connect(still.endpoints["bybit_spot"].ws["trade"]) as socket:
        trade = Public(still, "bybit_spot", socket)

        async def enter(request_id: str, op: str = "order.create") -> int:
            header = {"X-BAPI-TIMESTAMP": str(still.clock.now_ns() // NS_PER_MS)}
            return (await trade.ask(reqId=request_id, header=header, op=op, args=[order]))["retCode"]

        assert await enter("0") == 10004
        assert (await trade.ask(op="auth", args=bybit_ws_auth(key=KEY, sign=sign, expires_ms=soon)))["retCode"] == 0
        assert [await enter("1"), await enter("1"), await enter("2", "order.dream")] == [0, 20006, 10404]
        assert len(still.exchanges["bybit_spot"].open_orders(ACCOUNT)) == 1


# -- faults of a product's sockets ------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("kind", [FaultKind.DISCONNECT, FaultKind.SHUTDOWN_NOTICE])
async def test_a_disconnect_closes_the_product_s_public_sockets_and_no_others(still, http, name, kind) -> None:
    other = "bybit_linear" if name == "bybit_spot" else "bybit_spot"
    async with (
        http.ws_connect(still.endpoints[name].ws["public"]) as socket,
        http.ws_connect(still.endpoints[other].ws["public"]) as spared,
    ):
        assert (await Public(still, name, socket).ask(op="ping"))["success"]
        still.faults.inject(Fault(kind=kind, venue=name))
        still.publish()
        assert (await socket.receive(timeout=WITHIN_S)).type in (WSMsgType.CLOSED, WSMsgType.CLOSE)
        assert (await Public(still, other, spared).ask(op="ping"))["success"]


async def test_a_stalled_venue_is_silent_and_then_goes_on_with_the_chain(still, http) -> None:
    async with http.ws_connect(still.endpoints["bybit_spot"].ws["public"]) as socket:
        public = Public(still, "bybit_spot", socket)
        await public.ask(op="subscribe", args=["orderbook.50.BTCUSDT"])
        public.publish()
        first = await public.receive()
        still.faults.inject(Fault(kind=FaultKind.STALL, venue="bybit_spot", duration_s=1.0))
        for _ in range(9):
            wild(still, "bybit_spot", 5, 3)
            public.publish(100)
        assert (await public.ask(op="ping"))["ret_msg"] == "pong"  # nothing came before it
        public.publish(1_000)
        assert (await public.receive())["data"]["u"] == first["data"]["u"] + 1
