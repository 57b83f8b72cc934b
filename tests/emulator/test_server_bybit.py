"""The practice Bybit by its own laws: wire shapes, chains, limits, faults; and our own feed and readers on its answers."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from aiohttp import ClientSession, WSMsgType
from bybit_venue import ACCOUNT, KEY, SECRET, VENUES, BybitVenue, bybit_venue, listening

from oneprice.emulator.events import Liquidated
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.model.errors import VenueError
from oneprice.model.order import OrderState, Side
from oneprice.model.tape import Kind
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Channel, Request
from oneprice.venues.bybit_rest import check
from oneprice.venues.signing import bybit_headers, bybit_ws_auth, hmac_signer
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


def category(name: str) -> str:
    return name.removeprefix("bybit_")


def wild(venue: BybitVenue, name: str, steps: int, seed: int) -> None:
    """Random trades and orders around the touch."""
    exchange, rng = venue.exchanges[name], random.Random(seed)
    tick = exchange.instruments["BTCUSDT"].tick
    for _ in range(steps):
        bid, ask = exchange.best("BTCUSDT")
        side = rng.choice((Side.BUY, Side.SELL))
        if rng.random() < 0.4:
            venue.trade(exchange, "BTCUSDT", side)
        else:
            touch = ask if side is Side.SELL else bid
            venue.rest(exchange, "BTCUSDT", side, touch - int(side) * tick * rng.randrange(0, 70), rng.randrange(1, 9))


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


class Public:
    """A socket to a server whose time stands in the test's hand."""

    def __init__(self, venue: BybitVenue, name: str, socket: Any) -> None:
        self.venue, self.name, self.socket = venue, name, socket
        self.now_ns = venue.clock.now_ns()

    async def ask(self, **asked: Any) -> dict[str, Any]:
        await self.socket.send_json(asked)
        return await self.socket.receive_json(timeout=10)

    def publish(self, after_ms: int = 0) -> None:
        self.now_ns += after_ms * NS_PER_MS
        exchange = self.venue.exchanges[self.name]
        self.venue.server.publish(self.name, exchange.take_events(), self.now_ns)

    async def receive(self) -> dict[str, Any]:
        return await self.socket.receive_json(timeout=10)


@pytest.fixture
async def still(http) -> AsyncIterator[BybitVenue]:
    """A venue without a pump."""
    made = BybitVenue()
    made.endpoints = await made.server.start()
    made.publish()
    yield made
    await made.server.stop()


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

    product = category(name)
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


# -- REST ------------------------------------------------------------------------------------------------------------


async def signed(
    venue: BybitVenue, http: ClientSession, path: str, params: dict[str, Any], *, post: bool = True, **changes: Any
) -> tuple[dict[str, Any], Mapping[str, str]]:  # fmt: skip
    """(the answer, its headers) of a call signed by our own signer."""
    payload = json.dumps(params) if post else "&".join(f"{key}={value}" for key, value in params.items())
    settings = {"key": KEY, "timestamp_ms": venue.clock.now_ns() // NS_PER_MS, "payload": payload, **changes}
    secret = settings.pop("secret", SECRET)
    headers = bybit_headers(sign=hmac_signer(secret), **settings)
    url = f"{venue.endpoints['bybit_spot'].rest}{path}"
    call = http.post(url, data=payload, headers=headers) if post else http.get(f"{url}?{payload}", headers=headers)
    async with call as answer:
        assert answer.status == 200
        return await answer.json(), answer.headers


LIMIT = {"category": "spot", "symbol": "BTCUSDT", "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "50000"}


@pytest.mark.parametrize(
    ("changes", "code"),
    [({}, 0), ({"key": "nobody"}, 10003), ({"secret": "wrong"}, 10004), ({"timestamp_ms": 1}, 10002),
     ({"payload": "other"}, 10004)],
)  # fmt: skip
async def test_a_wrong_key_signature_or_time_has_its_code(still, http, changes, code) -> None:
    answer, _ = await signed(still, http, "/v5/order/create", LIMIT, **changes)
    assert answer["retCode"] == code
    assert len(still.exchanges["bybit_spot"].open_orders(ACCOUNT)) == (code == 0)


@pytest.mark.parametrize(
    ("changes", "spot", "linear"),
    [({"qty": "100"}, 170131, 110007), ({"qty": "0.00001"}, 170140, 10001), ({"price": "50000.00001"}, 170134, 10001),
     ({"symbol": "NOSUCH"}, 10001, 10001), ({"orderLinkId": "ü"}, 10001, 10001), ({"qty": "-1"}, 10001, 10001),
     ({"positionIdx": 1}, 10001, 10001), ({"price": "1"}, 170193, 110003)],
)  # fmt: skip
async def test_a_refused_order_has_the_product_s_code(still, http, changes, spot, linear) -> None:
    for product, code in (("spot", spot), ("linear", linear)):
        answer, _ = await signed(still, http, "/v5/order/create", {**LIMIT, **changes, "category": product})
        assert answer["retCode"] == code
        with pytest.raises(VenueError):
            check(200, {}, json.dumps(answer).encode())


@pytest.mark.parametrize(("product", "most"), [("spot", 20), ("linear", 10)])
async def test_more_orders_a_second_than_allowed_are_refused_for_a_while(still, http, product, most) -> None:
    still.server._gate.limiter._clock = stopped = Stopped(still.clock.now_ns())
    left = []
    for _ in range(most):
        answer, headers = await signed(still, http, "/v5/order/create", {**LIMIT, "category": product})
        left.append(int(headers["X-Bapi-Limit-Status"]))
        assert answer["retCode"] == 0
    assert left == list(range(most - 1, -1, -1))
    answer, headers = await signed(still, http, "/v5/order/create", {**LIMIT, "category": product})
    assert answer["retCode"] == 10006
    with pytest.raises(VenueError) as error:
        check(200, headers, json.dumps(answer).encode())
    assert error.value.transient
    assert error.value.retry_after_s == pytest.approx(1.0, abs=1.0)
    stopped.at_ns += NS_PER_S
    answer, _ = await signed(still, http, "/v5/order/create", {**LIMIT, "category": product})
    assert answer["retCode"] == 0


class Stopped:
    def __init__(self, at_ns: int) -> None:
        self.at_ns = at_ns

    def now_ns(self) -> int:
        return self.at_ns


@BOTH
async def test_our_own_readers_read_the_market_data(still, http, name) -> None:
    exchange, rest = still.exchanges[name], VENUES[name].rest

    async def answer_to(request: Request) -> bytes:
        async with http.get(f"{still.endpoints[name].rest}{request.path}", params=request.query) as answer:
            body = await answer.read()
            rest.check(answer.status, answer.headers, body)
            return body

    listed = rest.read_instruments(await answer_to(rest.instruments()))
    assert {one.symbol for one in listed} == set(exchange.instruments)
    for one in listed:
        known = exchange.instruments[one.symbol]
        assert (one.price(one.tick), one.qty(one.lot)) == (known.price(known.tick), known.qty(known.lot))
        assert (one.min_notional, one.taker_fee, one.funding_interval_ns) == (
            known.min_notional, known.taker_fee, known.funding_interval_ns
        )  # fmt: skip
    known = exchange.instruments["BTCUSDT"]
    book = rest.read_depth(await answer_to(rest.depth(known)), known)
    view = exchange.book("BTCUSDT", 1000)
    assert (list(book.bids), list(book.asks)) == (view.bids, view.asks)
    (candle,) = rest.read_klines(await answer_to(rest.klines(known, "1m", still.clock.now_ns() - 120 * NS_PER_S, 3)))
    assert candle.close == known.price(exchange.market_state("BTCUSDT").last_price)
    assert abs(rest.read_server_time(await answer_to(rest.server_time())) - still.clock.now_ns()) < NS_PER_S
    if name == "bybit_linear":
        start_ns = still.clock.now_ns() - 3600 * NS_PER_S
        (settled,) = rest.read_funding_history(await answer_to(rest.funding_history(known, start_ns, 2)))
        assert settled.rate == Decimal("0.0001")
        assert rest.read_open_interest(await answer_to(rest.open_interest(known)))[0] == 1234.5


async def test_long_answers_come_in_pages(still, http) -> None:
    numbers = []
    for k in range(5):
        placed, _ = await signed(still, http, "/v5/order/create", {**LIMIT, "price": str(50_000 + k)})
        numbers.append(placed["result"]["orderId"])
    seen, cursor = [], ""
    while True:
        query = {"category": "spot", "limit": "2", **({"cursor": cursor} if cursor else {})}
        answer, _ = await signed(still, http, "/v5/order/realtime", query, post=False)
        seen += [row["orderId"] for row in answer["result"]["list"]]
        cursor = answer["result"]["nextPageCursor"]
        if not cursor:
            break
    assert seen == numbers[::-1]


async def test_a_client_s_own_id_serves_once_even_when_its_order_is_gone(still, http) -> None:
    order = {**LIMIT, "orderLinkId": "once"}
    codes = [(await signed(still, http, "/v5/order/create", order))[0]["retCode"]]
    await signed(still, http, "/v5/order/cancel", {"category": "spot", "symbol": "BTCUSDT", "orderLinkId": "once"})
    codes.append((await signed(still, http, "/v5/order/create", order))[0]["retCode"])
    assert codes == [0, 170141]


# -- faults ----------------------------------------------------------------------------------------------------------


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
        assert (await socket.receive(timeout=10)).type in (WSMsgType.CLOSED, WSMsgType.CLOSE)
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


async def test_an_order_whose_answer_is_lost_stands_all_the_same(still, http) -> None:
    still.faults.inject(Fault(kind=FaultKind.TIMEOUT_AFTER_ACCEPT, venue="bybit_spot", duration_s=0.05))
    answer, _ = await signed(still, http, "/v5/order/create", {**LIMIT, "orderLinkId": "lost"})
    assert answer["retCode"] == 10000
    query = {"category": "spot", "orderLinkId": "lost"}
    found, _ = await signed(still, http, "/v5/order/realtime", query, post=False)
    assert [row["orderStatus"] for row in found["result"]["list"]] == ["New"]


async def test_a_cancel_that_a_fill_outruns_is_accepted_and_told_as_filled_twice(still, http) -> None:
    sign, soon = hmac_signer(SECRET), still.clock.now_ns() // NS_PER_MS + 10_000
    async with http.ws_connect(still.endpoints["bybit_spot"].ws["private"]) as socket:
        private = Public(still, "bybit_spot", socket)
        await private.ask(op="auth", args=bybit_ws_auth(key=KEY, sign=sign, expires_ms=soon))
        await private.ask(op="subscribe", args=["order"])
        placed, _ = await signed(still, http, "/v5/order/create", {**LIMIT, "price": "59999.95"})
        number = placed["result"]["orderId"]
        still.faults.inject(Fault(kind=FaultKind.CANCEL_FILL_RACE, venue="bybit_spot"))
        cancel = {"category": "spot", "symbol": "BTCUSDT", "orderId": number}
        answer, _ = await signed(still, http, "/v5/order/cancel", cancel)
        assert answer["retCode"] == 0
        assert still.exchanges["bybit_spot"].order(ACCOUNT, "BTCUSDT", order_id=int(number)).state is OrderState.FILLED
        private.publish()
        told = []
        while len(told) < 3:
            told += (await private.receive())["data"]
        assert [row["orderStatus"] for row in told] == ["New", "Filled", "Filled"]
        assert (told[2]["cancelType"], told[2]["rejectReason"]) == ("CancelByUser", "EC_OrigClOrdIDDoesNotExist")


@pytest.mark.parametrize("product", ["spot", "linear"])
async def test_a_partial_fill_leaves_half_and_cancels_the_rest(still, http, product) -> None:
    still.faults.inject(Fault(kind=FaultKind.PARTIAL_FILL, venue=f"bybit_{product}"))
    order = {"category": product, "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.04",
             "marketUnit": "baseCoin"}  # fmt: skip
    placed, _ = await signed(still, http, "/v5/order/create", order)
    query = {"category": product, "symbol": "BTCUSDT", "orderId": placed["result"]["orderId"]}
    found, _ = await signed(still, http, "/v5/order/realtime", query, post=False)
    (row,) = found["result"]["list"]
    assert (row["cumExecQty"], row["leavesQty"]) == ("0.02", "0")
    assert row["orderStatus"] == ("PartiallyFilledCanceled" if product == "spot" else "Cancelled")


@pytest.mark.parametrize(("kind", "status"), [(FaultKind.HTTP_429, 429), (FaultKind.HTTP_5XX, 503)])
async def test_a_refused_call_says_that_a_retry_can_help(still, http, kind, status) -> None:
    still.faults.inject(Fault(kind=kind, venue="bybit_linear"))
    url = f"{still.endpoints['bybit_linear'].rest}/v5/market/tickers"
    async with http.get(url, params={"category": "spot"}) as answer:
        assert answer.status == 200  # the fault is meant for the other product
    async with http.get(url, params={"category": "linear"}) as answer:
        assert answer.status == status
        with pytest.raises(VenueError) as error:
            check(answer.status, answer.headers, await answer.read())
        assert error.value.transient


async def test_a_stale_book_is_the_one_that_was_told_before(still, http) -> None:
    url = f"{still.endpoints['bybit_spot'].rest}/v5/market/orderbook"

    async def told() -> int:
        async with http.get(url, params={"category": "spot", "symbol": "BTCUSDT", "limit": "50"}) as answer:
            return (await answer.json())["result"]["u"]

    before = await told()
    wild(still, "bybit_spot", 5, 1)
    still.faults.inject(Fault(kind=FaultKind.STALE_SNAPSHOT, venue="bybit_spot"))
    assert await told() == before
    assert await told() > before


async def test_a_clock_that_is_ahead_is_ahead_everywhere(still, http) -> None:
    still.faults.inject(Fault(kind=FaultKind.CLOCK_SKEW, venue="bybit_spot", duration_s=30.0))
    async with http.ws_connect(still.endpoints["bybit_spot"].ws["public"]) as socket:
        public = Public(still, "bybit_spot", socket)
        await public.ask(op="subscribe", args=["orderbook.50.BTCUSDT"])
        public.publish()
        assert (await public.receive())["ts"] == public.now_ns // NS_PER_MS + 30_000
    answer, _ = await signed(still, http, "/v5/order/create", LIMIT)
    assert answer["retCode"] == 10002
    ahead_ms = still.clock.now_ns() // NS_PER_MS + 30_000
    answer, _ = await signed(still, http, "/v5/order/create", LIMIT, timestamp_ms=ahead_ms)
    assert answer["retCode"] == 0


async def test_funding_is_told_as_an_execution(still, http) -> None:
    sign, soon = hmac_signer(SECRET), still.clock.now_ns() // NS_PER_MS + 10_000
    async with http.ws_connect(still.endpoints["bybit_linear"].ws["private"]) as socket:
        private = Public(still, "bybit_linear", socket)
        await private.ask(op="auth", args=bybit_ws_auth(key=KEY, sign=sign, expires_ms=soon))
        await private.ask(op="subscribe", args=["execution"])
        order = {**LIMIT, "category": "linear", "orderType": "Market", "qty": "0.1"}
        await signed(still, http, "/v5/order/create", order)
        private.publish()
        (fill,) = (await private.receive())["data"]
        still.exchanges["bybit_linear"].settle_funding("BTCUSDT", still.clock.now_ns())
        private.publish()
        (paid,) = (await private.receive())["data"]
        assert [row["execType"] for row in (fill, paid)] == ["Trade", "Funding"]
        assert Decimal(paid["execFee"]) == Decimal("0.1") * Decimal("60000.5") * Decimal("0.0001")
