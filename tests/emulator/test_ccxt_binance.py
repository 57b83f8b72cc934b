"""Unmodified ccxt against the practice venues of Binance: REST, streams, orders, private streams, errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import ccxt.async_support as ccxt
import ccxt.pro as ccxtpro
import pytest

from oneprice.emulator.ccxt_addresses import binance_overrides
from oneprice.emulator.practice import KEY, SECRET, PracticeVenues

WITHIN_S = 20


@pytest.fixture
async def practice() -> AsyncIterator[PracticeVenues]:
    async with PracticeVenues(seed=7, venues=("binance_spot", "binance_usdm")) as running:
        yield running


def options(practice: PracticeVenues, **changes: str) -> dict[str, object]:
    return {"apiKey": KEY, "secret": SECRET, **binance_overrides(practice.endpoints), **changes}


@pytest.fixture
async def client(practice: PracticeVenues) -> AsyncIterator[ccxtpro.binance]:
    exchange = ccxtpro.binance(options(practice))
    await exchange.load_markets()
    yield exchange
    await exchange.close()


SPOT, PERP = "BTC/USDT", "BTC/USDT:USDT"


async def test_markets_have_the_rules_of_the_practice_instruments(client) -> None:
    spot, perp = client.market(SPOT), client.market(PERP)
    assert (spot["precision"]["price"], spot["limits"]["cost"]["min"]) == (0.01, 5)
    assert (perp["precision"]["price"], perp["contractSize"], perp["linear"]) == (0.1, 1, True)


@pytest.mark.parametrize("symbol", [SPOT, PERP])
async def test_books_trades_and_candles_are_there(client, symbol) -> None:
    book = await client.fetch_order_book(symbol, 20)
    assert book["bids"][0][0] < book["asks"][0][0]
    assert len(book["bids"]) == 20
    assert len(await client.fetch_trades(symbol)) > 0
    assert len(await client.fetch_ohlcv(symbol, "1m")) > 0


async def test_funding_is_told(client) -> None:
    rate = await client.fetch_funding_rate(PERP)
    assert rate["fundingTimestamp"] > rate["timestamp"]
    assert rate["markPrice"] > 0
    assert isinstance(await client.fetch_funding_rate_history(PERP), list)


@pytest.mark.parametrize("symbol", [SPOT, PERP])
async def test_streamed_books_and_trades_arrive(client, practice, symbol) -> None:
    book = await asyncio.wait_for(client.watch_order_book(symbol), WITHIN_S)
    for _ in range(5):
        book = await asyncio.wait_for(client.watch_order_book(symbol), WITHIN_S)
    assert book["bids"][0][0] < book["asks"][0][0]
    trades = await asyncio.wait_for(client.watch_trades(symbol), WITHIN_S)
    assert trades[0]["price"] > 0


@pytest.mark.parametrize("symbol", [SPOT, PERP])
async def test_a_limit_order_rests_is_listed_and_is_cancelled(client, symbol) -> None:
    bid = (await client.fetch_order_book(symbol, 5))["bids"][0][0]
    price = client.price_to_precision(symbol, bid * 0.9)
    order = await client.create_order(symbol, "limit", "buy", 0.01, price)
    assert [found["id"] for found in await client.fetch_open_orders(symbol)] == [order["id"]]
    assert (await client.fetch_order(order["id"], symbol))["status"] == "open"
    cancelled = await client.cancel_order(order["id"], symbol)
    assert cancelled["status"] == "canceled"
    assert await client.fetch_open_orders(symbol) == []


@pytest.mark.parametrize("symbol", [SPOT, PERP])
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


@pytest.mark.parametrize("symbol", [SPOT, PERP])
async def test_the_private_stream_tells_of_an_order(client, symbol) -> None:
    kind = {"type": "spot"} if symbol == SPOT else {"type": "future"}
    watching = asyncio.create_task(client.watch_orders(symbol, None, None, kind))
    told = None
    for _ in range(40):
        await client.create_order(symbol, "market", "buy", 0.01)
        done, _ = await asyncio.wait({watching}, timeout=0.5)
        if done:
            told = watching.result()
            break
    assert told is not None
    assert told[0]["symbol"] == symbol


async def test_errors_come_as_the_errors_that_ccxt_knows(practice, client) -> None:
    with pytest.raises(ccxt.InsufficientFunds):
        await client.create_order(SPOT, "limit", "buy", 100, 50_000)
    with pytest.raises(ccxt.OrderNotFound):
        await client.cancel_order("1", SPOT)
    with pytest.raises((ccxt.InvalidOrder, ccxt.BadRequest)):  # ccxt knows the finer class by the real hostname only
        await client.create_order(SPOT, "limit", "buy", 0.00002, 60_000)
    ask = (await client.fetch_order_book(SPOT, 5))["asks"][0][0]
    with pytest.raises(ccxt.OrderImmediatelyFillable):
        await client.create_order(SPOT, "limit", "buy", 0.01, ask * 1.001, {"postOnly": True})
    stranger = ccxt.binance(options(practice, secret="wrong"))
    try:
        await stranger.load_markets()
        with pytest.raises(ccxt.AuthenticationError):
            await stranger.create_order(SPOT, "market", "buy", 0.01)
    finally:
        await stranger.close()
