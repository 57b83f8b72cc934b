"""The practice Bybit's calls by their own laws: codes, limits, pages, faults of orders; our own readers on its answers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from aiohttp import ClientSession
from bybit_venue import ACCOUNT, KEY, LIMIT, SECRET, VENUES, BybitVenue, Public, signed, still_venue, wild

from oneprice.emulator.faults import Fault, FaultKind
from oneprice.model.errors import VenueError
from oneprice.model.order import OrderState
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Request
from oneprice.venues.bybit_rest import check
from oneprice.venues.signing import bybit_ws_auth, hmac_signer

BOTH = pytest.mark.parametrize("name", ["bybit_spot", "bybit_linear"])


@pytest.fixture
async def http() -> AsyncIterator[ClientSession]:
    async with ClientSession() as session:
        yield session


@pytest.fixture
async def still() -> AsyncIterator[BybitVenue]:
    async with still_venue() as made:
        yield made


# -- REST ------------------------------------------------------------------------------------------------------------


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
        read, state = rest.read_mark(await answer_to(rest.mark(known))), exchange.market_state("BTCUSDT")
        assert (read.mark_price, read.index_price, read.funding_rate) == (state.mark, state.index, state.funding_rate)
        assert read.next_funding_ns == state.next_funding_ns // NS_PER_MS * NS_PER_MS
        assert (read.funding_interval_ns, read.open_interest) == (known.funding_interval_ns, 1234.5)
        assert abs(read.venue_ns - still.clock.now_ns()) < NS_PER_S


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
