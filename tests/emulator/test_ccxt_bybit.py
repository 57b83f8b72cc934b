"""Unmodified ccxt against the practice Bybit: REST, streams, orders, private stream, order entry, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from decimal import Decimal
from typing import TypeVar

import ccxt.async_support as ccxt
import ccxt.pro as ccxtpro
import pytest
from bybit_venue import KEY, SECRET, BybitVenue, bybit_venue

from oneprice.emulator.ccxt_addresses import bybit_overrides
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.model.order import Side
from patience import WITHIN_S

SPOT, PERP = "BTC/USDT", "BTC/USDT:USDT"
BOTH = pytest.mark.parametrize("symbol", [SPOT, PERP])
LISTED: list[dict] = []  # what the venue lists, as ccxt read it
T = TypeVar("T")


@pytest.fixture
async def venue() -> AsyncIterator[BybitVenue]:
    async with bybit_venue() as running:
        yield running


def options(venue: BybitVenue, **changes: str) -> dict[str, object]:
    return {"apiKey": KEY, "secret": SECRET, **bybit_overrides(venue.endpoints), **changes}


@pytest.fixture
async def client(venue: BybitVenue) -> AsyncIterator[ccxtpro.bybit]:
    exchange = ccxtpro.bybit(options(venue))
    if not LISTED:
        LISTED.extend((await exchange.load_markets()).values())
    exchange.set_markets(LISTED)  # the client paces itself: asking once is enough
    yield exchange
    await exchange.close()


def product(symbol: str) -> str:
    return "bybit_spot" if symbol == SPOT else "bybit_linear"


async def within(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, WITHIN_S)


async def until(watch: Callable[[], Awaitable[T]], holds: Callable[[T], bool]) -> T:
    """What a watch call gives once it holds."""

    async def watching() -> T:
        while True:
            seen = await watch()
            if holds(seen):
                return seen

    return await within(watching())


async def placed(client, symbol, kind, side, amount, price=None, params=None) -> dict:
    order = await client.create_order(symbol, kind, side, amount, price, params or {})
    return await client.fetch_order(order["id"], symbol, {"acknowledged": True})


async def test_markets_have_the_rules_of_the_practice_instruments(client) -> None:
    await client.load_markets(True)
    spot, perp = client.market(SPOT), client.market(PERP)
    assert (spot["precision"]["price"], spot["precision"]["amount"], spot["limits"]["cost"]["min"]) == (0.01, 1e-6, 5)
    assert (perp["precision"]["price"], perp["precision"]["amount"]) == (0.1, 0.001)
    assert (perp["contractSize"], perp["linear"], perp["settle"]) == (1, True, "USDT")


@BOTH
async def test_books_are_the_market_s(venue, client, symbol) -> None:
    exchange = venue.exchanges[product(symbol)]
    view, instrument = exchange.book("BTCUSDT", 50), exchange.instruments["BTCUSDT"]
    book = await client.fetch_order_book(symbol, 50)
    assert book["bids"] == [[float(instrument.price(price)), float(instrument.qty(qty))] for price, qty in view.bids]
    assert book["asks"] == [[float(instrument.price(price)), float(instrument.qty(qty))] for price, qty in view.asks]


@BOTH
async def test_trades_candles_and_tickers_are_there(client, symbol) -> None:
    (trade,) = await client.fetch_trades(symbol)
    assert (trade["side"], trade["amount"]) == ("buy", 0.1)
    (candle,) = await client.fetch_ohlcv(symbol, "1m")
    assert candle[4] == trade["price"]
    ticker = await client.fetch_ticker(symbol)
    assert (ticker["last"], ticker["bid"] < ticker["ask"]) == (trade["price"], True)


async def test_funding_and_open_interest_are_told(client) -> None:
    rate = await client.fetch_funding_rate(PERP)
    assert (rate["fundingRate"], rate["markPrice"], rate["indexPrice"]) == (0.0001, 60_000.5, 60_000)
    assert rate["fundingTimestamp"] > rate["timestamp"]
    (settled,) = await client.fetch_funding_rate_history(PERP)
    assert settled["fundingRate"] == 0.0001
    interest = await client.fetch_open_interest(PERP)
    assert interest["openInterestAmount"] == 2469


@BOTH
async def test_a_streamed_book_follows_the_market(venue, client, symbol) -> None:
    exchange = venue.exchanges[product(symbol)]
    await within(client.watch_order_book(symbol))
    bid = exchange.best("BTCUSDT")[0]
    venue.trade(exchange, "BTCUSDT", Side.SELL)
    venue.rest(exchange, "BTCUSDT", Side.BUY, bid - 100_000)  # outside the window: not told
    instrument = exchange.instruments["BTCUSDT"]

    def as_floats(levels: list[tuple[int, int]]) -> list[list[float]]:
        return [[float(instrument.price(price)), float(instrument.qty(qty))] for price, qty in levels]

    view = exchange.book("BTCUSDT", 50)
    seen = await until(
        lambda: client.watch_order_book(symbol), lambda book: book["bids"][0][0] < float(instrument.price(bid))
    )
    assert seen["bids"] == as_floats(view.bids)
    assert seen["asks"] == as_floats(view.asks)


@BOTH
async def test_streamed_trades_say_who_took(venue, client, symbol) -> None:
    watching = asyncio.create_task(client.watch_trades(symbol))
    streams = venue.server.streams[product(symbol)]
    while not streams.outlet.wants("publicTrade.BTCUSDT"):
        await asyncio.sleep(0)
    venue.trade(venue.exchanges[product(symbol)], "BTCUSDT", Side.SELL)
    (trade,) = await within(watching)
    assert (trade["side"], trade["amount"], trade["symbol"]) == ("sell", 0.1, symbol)


@BOTH
async def test_a_streamed_candle_is_the_one_that_rest_gives(client, symbol) -> None:
    (candle,) = await within(client.watch_ohlcv(symbol, "1m"))
    assert candle in await client.fetch_ohlcv(symbol, "1m")


async def test_a_streamed_ticker_has_reference_prices_and_funding(venue, client) -> None:
    ticker = await within(client.watch_ticker(PERP))
    assert (ticker["markPrice"], ticker["indexPrice"], ticker["info"]["fundingRate"]) == (
        60_000.5,
        60_000,
        "0.00010000",
    )
    assert ticker["info"]["singleOpenInterest"] == "1234.500"
    venue.exchanges["bybit_linear"].set_mark(
        "BTCUSDT", mark=60_010.0, index=60_000.0, funding_rate=0.0001, next_funding_ns=0, now_ns=venue.clock.now_ns()
    )
    later = await until(lambda: client.watch_ticker(PERP), lambda seen: seen["markPrice"] == 60_010)
    assert later["indexPrice"] == 60_000


@BOTH
async def test_a_limit_order_rests_is_listed_and_is_cancelled(client, symbol) -> None:
    order = await client.create_order(symbol, "limit", "buy", 0.01, 50_000, {"clientOrderId": "mine-1"})
    (found,) = await client.fetch_open_orders(symbol)
    assert (found["id"], found["clientOrderId"], found["status"]) == (order["id"], "mine-1", "open")
    assert (found["price"], found["amount"], found["filled"]) == (50_000, 0.01, 0)
    await client.cancel_order(order["id"], symbol)
    assert await client.fetch_open_orders(symbol) == []
    assert (await client.fetch_closed_order(order["id"], symbol))["status"] == "canceled"


@BOTH
async def test_all_orders_are_cancelled_at_once(client, symbol) -> None:
    for price in (50_000, 50_001):
        await client.create_order(symbol, "limit", "buy", 0.01, price)
    assert len(await client.cancel_all_orders(symbol)) == 2
    assert await client.fetch_open_orders(symbol) == []


@BOTH
async def test_a_market_order_fills_with_its_fee(client, symbol) -> None:
    order = await placed(client, symbol, "market", "buy", 0.25)
    assert (order["status"], order["filled"], order["remaining"]) == ("closed", 0.25, 0)
    fills = await client.fetch_my_trades(symbol)
    assert sum(fill["amount"] for fill in fills) == pytest.approx(0.25)
    assert {fill["order"] for fill in fills} == {order["id"]}
    assert {fill["takerOrMaker"] for fill in fills} == {"taker"}
    rate = 0.001 if symbol == SPOT else 0.00055
    paid = sum(fill["fee"]["cost"] for fill in fills)
    assert paid == pytest.approx(0.25 * rate if symbol == SPOT else order["cost"] * rate)
    assert {fill["fee"]["currency"] for fill in fills} == {"BTC" if symbol == SPOT else "USDT"}


async def test_a_spot_market_order_may_name_what_to_spend(client) -> None:
    order = await client.create_order(SPOT, "market", "buy", 0, None, {"cost": 3_000})
    order = await client.fetch_order(order["id"], SPOT, {"acknowledged": True})
    assert order["cost"] == pytest.approx(3_000, rel=1e-4)


@BOTH
async def test_a_post_only_order_that_would_take_is_accepted_and_cancelled(client, symbol) -> None:
    order = await placed(client, symbol, "limit", "buy", 0.01, 60_001, {"postOnly": True})
    assert (order["status"], order["filled"]) == ("canceled", 0)
    assert order["info"]["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    resting = await placed(client, symbol, "limit", "buy", 0.01, 59_000, {"postOnly": True})
    assert resting["status"] == "open"


@BOTH
async def test_what_an_immediate_order_does_not_get_is_cancelled(venue, client, symbol) -> None:
    exchange = venue.exchanges[product(symbol)]
    _, ask = exchange.best("BTCUSDT")
    instrument = exchange.instruments["BTCUSDT"]
    shown = float(instrument.qty(exchange.qty_at("BTCUSDT", Side.SELL, ask)))
    order = await placed(
        client, symbol, "limit", "buy", shown + 0.5, float(instrument.price(ask)), {"timeInForce": "IOC"}
    )  # fmt: skip
    assert order["filled"] == pytest.approx(shown)
    assert order["info"]["orderStatus"] == ("PartiallyFilledCanceled" if symbol == SPOT else "Cancelled")


async def test_balances_move_by_what_was_filled(client) -> None:
    before = await client.fetch_balance()
    order = await placed(client, SPOT, "market", "buy", 0.5)
    after = await client.fetch_balance()
    fees = sum(fill["fee"]["cost"] for fill in await client.fetch_my_trades(SPOT))
    assert after["BTC"]["total"] - before["BTC"]["total"] == pytest.approx(0.5 - fees)
    assert before["USDT"]["total"] - after["USDT"]["total"] == pytest.approx(order["cost"])
    await client.create_order(SPOT, "limit", "buy", 0.01, 50_000)
    assert (await client.fetch_balance())["USDT"]["used"] == pytest.approx(500)


async def test_a_position_stands_after_a_perpetual_fill_and_can_only_be_reduced(client) -> None:
    order = await placed(client, PERP, "market", "sell", 0.2)
    (position,) = await client.fetch_positions([PERP])
    assert (position["side"], position["contracts"], position["entryPrice"]) == ("short", 0.2, order["average"])
    await client.create_order(PERP, "market", "buy", 0.2, None, {"reduceOnly": True})
    (flat,) = await client.fetch_positions([PERP])
    assert not flat["contracts"]
    with pytest.raises(ccxt.InvalidOrder):
        await client.create_order(PERP, "market", "buy", 0.2, None, {"reduceOnly": True})


async def test_leverage_is_set_once(client) -> None:
    await client.set_leverage(5, PERP)
    assert (await client.fetch_position(PERP))["leverage"] == 5
    with pytest.raises(ccxt.BadRequest):
        await client.set_leverage(5, PERP)


@BOTH
async def test_the_private_stream_tells_of_orders_fills_and_balances(venue, client, symbol) -> None:
    outlet = venue.server._users.outlet
    orders = asyncio.create_task(client.watch_orders(symbol))
    fills = asyncio.create_task(client.watch_my_trades(symbol))
    balance = asyncio.create_task(client.watch_balance())
    while not all(outlet.wants(f"practice:{topic}") for topic in ("order", "execution", "wallet")):
        await asyncio.sleep(0)
    placed = await client.create_order(symbol, "market", "buy", 0.1)
    (told,) = await within(orders)
    assert (told["id"], told["symbol"]) == (placed["id"], symbol)
    if told["status"] != "closed":
        (told,) = await until(lambda: client.watch_orders(symbol), lambda seen: seen[0]["status"] == "closed")
    assert told["filled"] == 0.1
    (fill,) = await within(fills)
    assert (fill["order"], fill["amount"], fill["side"]) == (placed["id"], 0.1, "buy")
    assert "USDT" in await within(balance)


async def test_the_private_stream_tells_of_positions(venue, client) -> None:
    client.options["watchPositions"]["fetchPositionsSnapshot"] = False
    watching = asyncio.create_task(client.watch_positions([PERP]))
    while not venue.server._users.outlet.wants("practice:position"):
        await asyncio.sleep(0)
    await client.create_order(PERP, "market", "sell", 0.1)
    (position,) = await within(watching)
    assert (position["side"], position["contracts"]) == ("short", 0.1)


@BOTH
async def test_orders_go_over_the_order_entry_socket(client, symbol) -> None:
    order = await within(client.create_order_ws(symbol, "limit", "buy", 0.01, 50_000))
    assert [found["id"] for found in await client.fetch_open_orders(symbol)] == [order["id"]]
    await within(client.cancel_order_ws(order["id"], symbol))
    assert await client.fetch_open_orders(symbol) == []
    with pytest.raises(ccxt.InsufficientFunds):
        await within(client.create_order_ws(symbol, "limit", "buy", 100, 59_000))


async def test_errors_come_as_the_errors_that_ccxt_knows(venue, client) -> None:
    for symbol in (SPOT, PERP):
        with pytest.raises(ccxt.InsufficientFunds):
            await client.create_order(symbol, "limit", "buy", 100, 59_000)
        with pytest.raises(ccxt.OrderNotFound):
            await client.cancel_order("1", symbol)
        with pytest.raises(ccxt.InvalidOrder):
            await client.create_order(symbol, "limit", "buy", 0.001, 1_000)
        await client.create_order(symbol, "limit", "buy", 0.01, 50_000, {"clientOrderId": "twice"})
        with pytest.raises(ccxt.InvalidOrder):
            await client.create_order(symbol, "limit", "buy", 0.01, 50_000, {"clientOrderId": "twice"})
    for changes in ({"secret": "wrong"}, {"apiKey": "nobody"}):
        stranger = ccxt.bybit(options(venue, **changes))
        stranger.options["fetchCurrencies"] = False
        try:
            with pytest.raises(ccxt.AuthenticationError):
                await stranger.fetch_balance()
        finally:
            await stranger.close()


async def test_a_client_clock_that_is_wrong_is_refused(client) -> None:
    client.nonce = lambda: client.milliseconds() - 60_000
    with pytest.raises(ccxt.InvalidNonce):
        await client.fetch_balance()


@pytest.mark.parametrize(
    ("kind", "error"),
    [(FaultKind.HTTP_429, ccxt.ExchangeError), (FaultKind.REJECT, ccxt.InsufficientFunds)],
)
async def test_faults_come_as_errors_and_pass(venue, client, kind, error) -> None:
    await client.create_order(SPOT, "limit", "buy", 0.01, 50_000)
    venue.faults.inject(Fault(kind=kind, venue="bybit_spot"))
    with pytest.raises(error):
        await client.create_order(SPOT, "limit", "buy", 0.01, 50_000)
    await client.create_order(SPOT, "limit", "buy", 0.01, 50_000)
    assert len(await client.fetch_open_orders(SPOT)) == 2


async def test_money_is_conserved_between_the_wallet_and_the_fees(venue, client) -> None:
    for side in ("buy", "sell", "buy"):
        await client.create_order(SPOT, "market", side, 0.3)
    exchange = venue.exchanges["bybit_spot"]
    held = exchange.balances("practice")
    bought = sum(
        (1 if order.side is Side.BUY else -1) * exchange.instruments["BTCUSDT"].qty(fill.qty)
        for order, fill in exchange.fills("practice")
    )
    assert held["BTC"].free + held["BTC"].locked + exchange.fees_taken["BTC"] == Decimal(20) + bought
