"""Unmodified ccxt against the practice venues of Binance: REST, streams, orders, private streams, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import ccxt.async_support as ccxt
import ccxt.pro as ccxtpro
import pytest

from oneprice.emulator.ccxt_addresses import binance_overrides
from oneprice.emulator.faults import Fault, FaultKind
from oneprice.emulator.practice import KEY, SECRET, PracticeVenues
from oneprice.model.time import NS_PER_MS
from patience import WITHIN_S

T = TypeVar("T")


@pytest.fixture
async def practice() -> AsyncIterator[PracticeVenues]:
    async with PracticeVenues(seed=7, venues=("binance_spot", "binance_usdm")) as running:
        yield running


def options(practice: PracticeVenues, **changes: str) -> dict[str, object]:
    return {"apiKey": KEY, "secret": SECRET, **binance_overrides(practice.endpoints), **changes}


SPOT, PERP = "BTC/USDT", "BTC/USDT:USDT"
BOTH = pytest.mark.parametrize("symbol", [SPOT, PERP])
LISTED: list[dict] = []  # what the venues list, as ccxt read it


@pytest.fixture
async def client(practice: PracticeVenues) -> AsyncIterator[ccxtpro.binance]:
    exchange = ccxtpro.binance(options(practice))
    if not LISTED:
        LISTED.extend((await exchange.load_markets()).values())
    exchange.set_markets(LISTED)  # the client paces itself: asking once is enough
    yield exchange
    await exchange.close()


def kind_of(symbol: str) -> dict[str, str]:
    return {"type": "spot" if symbol == SPOT else "future"}


async def within(awaited: Awaitable[T]) -> T:
    return await asyncio.wait_for(awaited, WITHIN_S)


async def until_told(watch: Callable[[], Awaitable[T]], act: Callable[[], Awaitable[object]]) -> T:
    """What a private watch call gives; acts until it does, because nobody says when ccxt has subscribed."""
    watching = asyncio.ensure_future(watch())
    async with asyncio.timeout(WITHIN_S):
        while not watching.done():
            await act()
            await asyncio.wait({watching}, timeout=0.5)
    return watching.result()


async def test_markets_have_the_rules_of_the_practice_instruments(client) -> None:
    spot, perp = client.market(SPOT), client.market(PERP)
    assert (spot["precision"]["price"], spot["limits"]["cost"]["min"]) == (0.01, 5)
    assert (perp["precision"]["price"], perp["contractSize"], perp["linear"]) == (0.1, 1, True)


@BOTH
async def test_books_trades_and_candles_are_there(client, symbol) -> None:
    book = await client.fetch_order_book(symbol, 20)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(book["bids"]) == 20
    assert len(await client.fetch_trades(symbol)) > 0
    assert len(await client.fetch_ohlcv(symbol, "1m")) > 0


async def test_funding_is_told(practice, client) -> None:
    practice.market = None  # the marks stand
    rate = await client.fetch_funding_rate(PERP)
    state = practice.exchanges["binance_usdm"].market_state("BTCUSDT")
    assert (rate["markPrice"], rate["indexPrice"], rate["fundingRate"]) == (state.mark, state.index, state.funding_rate)
    assert rate["fundingTimestamp"] == state.next_funding_ns // NS_PER_MS > rate["timestamp"]
    assert isinstance(await client.fetch_funding_rate_history(PERP), list)


@BOTH
async def test_streamed_books_and_trades_arrive(client, practice, symbol) -> None:
    book = await asyncio.wait_for(client.watch_order_book(symbol), WITHIN_S)
    for _ in range(5):
        book = await asyncio.wait_for(client.watch_order_book(symbol), WITHIN_S)
    assert book["bids"][0][0] < book["asks"][0][0]
    trades = await asyncio.wait_for(client.watch_trades(symbol), WITHIN_S)
    assert trades[0]["price"] > 0


@BOTH
async def test_a_limit_order_rests_is_listed_and_is_cancelled(client, symbol) -> None:
    bid = (await client.fetch_order_book(symbol, 5))["bids"][0][0]
    price = client.price_to_precision(symbol, bid * 0.9)
    order = await client.create_order(symbol, "limit", "buy", 0.01, price)
    assert [found["id"] for found in await client.fetch_open_orders(symbol)] == [order["id"]]
    assert (await client.fetch_order(order["id"], symbol))["status"] == "open"
    cancelled = await client.cancel_order(order["id"], symbol)
    assert cancelled["status"] == "canceled"
    assert await client.fetch_open_orders(symbol) == []


@BOTH
async def test_a_market_order_fills_with_its_fee(client, symbol) -> None:
    order = await client.create_order(symbol, "market", "buy", 0.01)
    order = await client.fetch_order(order["id"], symbol)
    assert (order["status"], order["filled"]) == ("closed", 0.01)
    fills = await client.fetch_my_trades(symbol)
    assert sum(fill["amount"] for fill in fills) == pytest.approx(0.01)
    assert all(fill["fee"]["cost"] > 0 for fill in fills)


async def test_balances_move_by_what_was_filled(client) -> None:
    before = await client.fetch_balance()
    order = await client.create_order(SPOT, "market", "buy", 0.5)
    after = await client.fetch_balance()
    fees = sum(fill["fee"]["cost"] for fill in await client.fetch_my_trades(SPOT))
    assert after["BTC"]["total"] - before["BTC"]["total"] == pytest.approx(0.5 - fees)
    assert before["USDT"]["total"] - after["USDT"]["total"] == pytest.approx(order["cost"])


async def test_a_position_stands_after_a_perpetual_fill(client) -> None:
    await client.create_order(PERP, "market", "sell", 0.02)
    (position,) = [found for found in await client.fetch_positions([PERP]) if found["contracts"]]
    assert (position["side"], position["contracts"]) == ("short", 0.02)


@BOTH
async def test_the_private_stream_tells_of_orders_fills_and_balances(client, symbol) -> None:
    kind = kind_of(symbol)

    async def buy() -> None:
        await client.create_order(symbol, "market", "buy", 0.01)

    (told, *_) = await until_told(lambda: client.watch_orders(symbol, None, None, kind), buy)
    assert told["symbol"] == symbol
    (fill, *_) = await until_told(lambda: client.watch_my_trades(symbol, None, None, kind), buy)
    assert (fill["symbol"], fill["side"], fill["fee"]["cost"] > 0) == (symbol, "buy", True)
    assert "USDT" in await until_told(lambda: client.watch_balance(kind), buy)


async def test_the_private_stream_tells_of_positions(client) -> None:
    client.options["watchPositions"]["fetchPositionsSnapshot"] = False
    client.options["watchPositions"]["awaitPositionsSnapshot"] = False

    async def sell() -> None:
        await client.create_order(PERP, "market", "sell", 0.01)

    (position, *_) = await until_told(lambda: client.watch_positions([PERP]), sell)
    assert (position["symbol"], position["side"]) == (PERP, "short")


@BOTH
async def test_streamed_tickers_candles_and_best_prices_arrive(client, symbol) -> None:
    assert (await within(client.watch_ticker(symbol)))["last"] > 0
    (candle, *_) = await within(client.watch_ohlcv(symbol, "1m"))
    assert candle[4] > 0
    best = (await within(client.watch_bids_asks([symbol])))[symbol]
    assert best["bid"] < best["ask"]


async def test_the_streamed_mark_price_has_the_index(client) -> None:
    told = await within(client.watch_mark_price(PERP))
    assert (told["markPrice"] > 0, told["indexPrice"] > 0) == (True, True)


@BOTH
async def test_orders_go_over_the_websocket_api(client, symbol) -> None:
    price = await far_below(client, symbol)
    order = await within(client.create_order_ws(symbol, "limit", "buy", 0.01, price))
    assert [found["id"] for found in await client.fetch_open_orders(symbol)] == [order["id"]]
    await within(client.cancel_order_ws(order["id"], symbol))
    assert await client.fetch_open_orders(symbol) == []


@BOTH
async def test_all_orders_are_cancelled_at_once(client, symbol) -> None:
    for _ in range(2):
        await client.create_order(symbol, "limit", "buy", 0.01, await far_below(client, symbol))
    await client.cancel_all_orders(symbol)
    assert await client.fetch_open_orders(symbol) == []
    assert [order["status"] for order in await client.fetch_orders(symbol)] == ["canceled", "canceled"]


async def test_a_spot_market_order_may_name_what_to_spend(client) -> None:
    order = await client.create_order(SPOT, "market", "buy", 0, None, {"cost": 3_000})
    assert order["cost"] == pytest.approx(3_000, rel=1e-3)


@BOTH
async def test_an_order_is_found_by_the_client_s_own_id(client, symbol) -> None:
    await client.create_order(symbol, "market", "buy", 0.01, None, {"clientOrderId": "mine-1"})
    found = await client.fetch_order(None, symbol, {"clientOrderId": "mine-1"})
    assert (found["clientOrderId"], found["status"]) == ("mine-1", "closed")


async def test_open_interest_fees_and_leverage_are_told(client) -> None:
    assert (await client.fetch_open_interest(PERP))["openInterestAmount"] > 0
    assert (await client.fetch_trading_fee(SPOT))["taker"] == 0.001
    assert (await client.fetch_trading_fee(PERP))["maker"] == 0.0002
    assert (await client.set_leverage(5, PERP))["leverage"] == 5


async def test_a_settled_funding_rate_is_in_the_history(practice, client) -> None:
    exchange = practice.exchanges["binance_usdm"]
    exchange.settle_funding("BTCUSDT", practice.clock.now_ns())
    (settled,) = await client.fetch_funding_rate_history(PERP)
    assert settled["fundingRate"] == float(exchange.funding_history("BTCUSDT", 1)[0].rate)


async def far_below(client, symbol) -> str:
    bid = (await client.fetch_order_book(symbol, 5))["bids"][0][0]
    return client.price_to_precision(symbol, bid * 0.9)


async def test_errors_come_as_the_errors_that_ccxt_knows(client) -> None:
    for symbol, post_only in ((SPOT, ccxt.OrderImmediatelyFillable), (PERP, ccxt.OrderNotFillable)):
        ask = (await client.fetch_order_book(symbol, 5))["asks"][0][0]
        with pytest.raises(ccxt.InsufficientFunds):
            await client.create_order(symbol, "limit", "buy", 100, client.price_to_precision(symbol, ask * 0.9))
        with pytest.raises(ccxt.OrderNotFound):
            await client.cancel_order("1", symbol)
        with pytest.raises(ccxt.OrderNotFound):
            await client.fetch_order("1", symbol)
        with pytest.raises(post_only):
            price = client.price_to_precision(symbol, ask * 1.01)
            await client.create_order(symbol, "limit", "buy", 0.01, price, {"postOnly": True})
    with pytest.raises(ccxt.BadRequest, match="NOTIONAL"):
        await client.create_order(SPOT, "limit", "buy", 0.00002, 60_000)
    with pytest.raises(ccxt.InvalidOrder, match="ReduceOnly"):
        await client.create_order(PERP, "market", "buy", 0.01, None, {"reduceOnly": True})


@pytest.mark.parametrize("changes", [{"secret": "wrong"}, {"apiKey": "nobody"}])
async def test_a_stranger_is_not_let_in(practice, client, changes) -> None:
    stranger = ccxt.binance(options(practice, **changes))
    stranger.set_markets(LISTED)
    try:
        for symbol in (SPOT, PERP):
            with pytest.raises(ccxt.AuthenticationError):
                await stranger.create_order(symbol, "market", "buy", 0.01)
    finally:
        await stranger.close()


async def test_a_client_clock_that_is_wrong_is_refused(client) -> None:
    client.nonce = lambda: client.milliseconds() - 60_000
    with pytest.raises(ccxt.InvalidNonce):
        await client.fetch_balance()


@BOTH
async def test_faults_come_as_errors_and_pass(practice, client, symbol) -> None:
    venue = "binance_spot" if symbol == SPOT else "binance_usdm"
    price = await far_below(client, symbol)
    faults = (
        (FaultKind.HTTP_429, ccxt.DDoSProtection, 0),
        (FaultKind.HTTP_5XX, ccxt.OperationFailed, 0),
        (FaultKind.REJECT, ccxt.InsufficientFunds, 0),
        (FaultKind.TIMEOUT_AFTER_ACCEPT, ccxt.OperationFailed, 1),
    )
    for kind, error, stands in faults:
        practice.faults.inject(Fault(kind=kind, venue=venue, duration_s=0.0))
        with pytest.raises(error):
            await client.create_order(symbol, "limit", "buy", 0.01, price)
        assert len(await client.fetch_open_orders(symbol)) == stands
