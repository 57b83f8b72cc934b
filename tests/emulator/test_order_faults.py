"""Every fault that a practice venue can play on orders, as an unmodified ccxt client meets it, on every venue.

What is left behind is read from the market itself, from the account's holdings and from the fills that ccxt reads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import ccxt.pro as ccxt
import pytest

from oneprice.emulator.ccxt_addresses import overrides_by_exchange
from oneprice.emulator.events import OrderRecord
from oneprice.emulator.faults import Fault
from oneprice.emulator.practice import ACCOUNT, KEY, SECRET, PracticeVenues
from oneprice.model.time import NS_PER_S, Clock, ScaledClock, SystemClock
from patience import WITHIN_S

SPOT, PERP = "BTC/USDT", "BTC/USDT:USDT"
SYMBOLS = {"binance_spot": SPOT, "binance_usdm": PERP, "bybit_spot": SPOT, "bybit_linear": PERP}
every_venue = pytest.mark.parametrize("venue", SYMBOLS)
# How ccxt names the end of an immediate order that was filled in part.
CUT_ENDS = {"binance_spot": "expired", "binance_usdm": "expired", "bybit_spot": "closed", "bybit_linear": "canceled"}
# What ccxt raises for an order that the venue answers with "nobody knows": Binance's -1007, Bybit's 10000.
NOBODY_KNOWS = {"binance": ccxt.RequestTimeout, "bybit": ccxt.ExchangeError}
# HTTP 429, and HTTP 503 of the kind that says nothing about the order.
BUSY = {"binance": ccxt.DDoSProtection, "bybit": ccxt.ExchangeError}
BROKEN = {
    "binance_spot": ccxt.OperationFailed, "binance_usdm": ccxt.ExchangeNotAvailable, "bybit_spot": ccxt.ExchangeError,
    "bybit_linear": ccxt.ExchangeError,
}  # fmt: skip
ASKS_TIME = {"binance_usdm": {"type": "swap", "subType": "linear"}}  # of whom ccxt asks the time
ORDERS_PER_S = {
    "bybit_spot": 20,
    "bybit_linear": 10,
}  # Binance's counts of orders: test_server_binance.py, by its clock


class Trader:
    """An unmodified ccxt client of one practice venue, and what its account holds there."""

    def __init__(self, venue: str, practice: PracticeVenues, client: Any) -> None:
        self.venue, self.practice, self.client = venue, practice, client
        self.family, self.symbol = venue.partition("_")[0], SYMBOLS[venue]
        self.exchange = practice.exchanges[venue]

    def inject(self, kind: str, *, symbol: str = ":BTCUSDT", **settings: float) -> None:
        more = "".join(f",{key}={value}" for key, value in settings.items())
        self.practice.faults.inject(Fault.parse(f"{kind}@{self.venue}{symbol}{more}"))

    async def buy(self, qty: float, price: str | None = None, **params: object) -> dict[str, Any]:
        """A limit order at a price, a market order without one."""
        kind = "market" if price is None else "limit"
        return await self.client.create_order(self.symbol, kind, "buy", qty, price, params)

    async def order(self, number: str = "", *, client_id: str = "") -> dict[str, Any]:
        """An order as ccxt tells it, by the venue's number or the client's id; open or not."""
        params: dict[str, object] = {"acknowledged": True} if self.family == "bybit" else {}
        if client_id:
            params["orderLinkId" if self.family == "bybit" else "origClientOrderId"] = client_id
        return await self.client.fetch_order(number, self.symbol, params)

    async def open_orders(self) -> list[dict[str, Any]]:
        return await self.client.fetch_open_orders(self.symbol)

    def orders(self) -> list[OrderRecord]:
        """Every order of the account that the market has ever had."""
        return self.exchange.all_orders(ACCOUNT)

    def held(self) -> dict[str, Decimal]:
        """Everything of each asset, and the position."""
        held = {asset: balance.free + balance.locked for asset, balance in self.exchange.balances(ACCOUNT).items()}
        position = self.exchange.positions(ACCOUNT).get("BTCUSDT")
        return held | {"position": self.exchange.instruments["BTCUSDT"].qty(position.qty) if position else Decimal(0)}

    def locked(self) -> set[Decimal]:
        """What open orders lock of each asset: all that is held back, but the positions' margin (leverage is 1)."""
        margin = sum((abs(position.cost) for position in self.exchange.positions(ACCOUNT).values()), Decimal(0))
        balances = self.exchange.balances(ACCOUNT).items()
        return {balance.locked - (margin if asset == "USDT" else 0) for asset, balance in balances}

    async def check_bought(self, before: dict[str, Decimal], qty: str) -> None:
        """The account has changed by a purchase of `qty`, as the fills that ccxt reads say, and by nothing else."""
        after = self.held()
        fills = await self.client.fetch_my_trades(self.symbol)
        amount, cost, fees = (
            sum((Decimal(str(value)) for value in column), Decimal(0))
            for column in zip(
                *((fill["amount"], fill["cost"], fill["fee"]["cost"]) for fill in fills),
                strict=True,
            )
        )
        assert amount == Decimal(qty)
        assert fees > 0
        if self.symbol == SPOT:
            expected = {"BTC": amount - fees, "USDT": -cost, "position": Decimal(0)}
        else:
            expected = {"USDT": -fees, "position": amount}
        for asset, was in before.items():
            assert after[asset] - was == expected.get(asset, 0), asset
        assert self.locked() == {Decimal(0)}

    async def price(self, times: float) -> str:
        """So much of the best ask."""
        ask = (await self.client.fetch_order_book(self.symbol, 5))["asks"][0][0]
        return self.client.price_to_precision(self.symbol, ask * times)


@asynccontextmanager
async def trading(venue: str, clock: Clock | None = None) -> AsyncIterator[Trader]:
    async with PracticeVenues(seed=5, venues=(venue,), clock=clock) as practice:
        family = venue.partition("_")[0]
        options = {"apiKey": KEY, "secret": SECRET, **overrides_by_exchange(practice.endpoints)[family]}
        client = getattr(ccxt, family)(options | {"enableRateLimit": False})
        try:
            await client.load_markets()
            yield Trader(venue, practice, client)
        finally:
            await client.close()


@every_venue
async def test_a_rejected_order_raises_and_leaves_nothing(venue) -> None:
    async with trading(venue) as trader:
        before, price = trader.held(), await trader.price(0.98)
        trader.inject("reject")
        with pytest.raises(ccxt.InsufficientFunds):
            await trader.buy(0.01, price)
        assert trader.orders() == await trader.open_orders() == []
        assert (trader.held(), trader.locked()) == (before, {Decimal(0)})
        order = await trader.buy(0.01, price)
        assert [found["id"] for found in await trader.open_orders()] == [order["id"]]


@every_venue
@pytest.mark.parametrize("qty", [0.02, 8.0])
@pytest.mark.parametrize("kind", ["market", "limit"])
async def test_a_cut_immediate_order_fills_half_and_ends(venue, kind, qty) -> None:
    async with trading(venue) as trader:
        before = trader.held()
        price = await trader.price(1.02) if kind == "limit" else None
        trader.inject("partial_fill")
        placed = await trader.buy(qty, price, **({"timeInForce": "IOC"} if price else {}))
        order = await trader.order(placed["id"])
        assert (order["amount"], order["filled"], order["status"]) == (qty, qty / 2, CUT_ENDS[venue])
        assert order["type"] == kind
        if price is not None:
            assert order["price"] == float(price)
        assert await trader.open_orders() == []
        await trader.check_bought(before, str(qty / 2))


@every_venue
async def test_an_order_that_rests_is_not_cut(venue) -> None:
    async with trading(venue) as trader:
        trader.inject("partial_fill")
        price = await trader.price(0.98)
        order = await trader.order((await trader.buy(0.01, price))["id"])
        assert (order["status"], order["filled"], order["price"]) == ("open", 0, float(price))
        assert trader.practice.faults.taken == []


@every_venue
@pytest.mark.parametrize("who", ["the venue", "the client"])
async def test_an_order_without_an_answer_is_found_by_its_client_id(venue, who) -> None:
    async with trading(venue) as trader:
        before = trader.held()
        trader.client.timeout = 300 if who == "the client" else 10_000
        trader.inject("timeout_after_accept", **{"for": 0.1 if who == "the venue" else 2})
        with pytest.raises(ccxt.RequestTimeout if who == "the client" else NOBODY_KNOWS[trader.family]):
            await trader.buy(0.02, clientOrderId="mine-1")
        trader.client.timeout = 10_000
        order = await trader.order(client_id="mine-1")
        assert (order["clientOrderId"], order["status"], order["filled"]) == ("mine-1", "closed", 0.02)
        assert len(trader.orders()) == 1
        await trader.check_bought(before, "0.02")


@every_venue
async def test_a_resting_order_without_an_answer_is_found_and_can_be_cancelled(venue) -> None:
    async with trading(venue) as trader:
        before, price = trader.held(), await trader.price(0.98)
        trader.inject("timeout_after_accept", **{"for": 0.1})
        with pytest.raises(NOBODY_KNOWS[trader.family]):
            await trader.buy(0.02, price, clientOrderId="mine-2")
        (order,) = await trader.open_orders()
        assert order["clientOrderId"] == "mine-2"
        await trader.client.cancel_order(order["id"], trader.symbol)
        assert (trader.held(), trader.locked()) == (before, {Decimal(0)})


@every_venue
async def test_an_order_over_a_socket_may_never_be_answered_and_stands_all_the_same(venue) -> None:
    async with trading(venue) as trader:
        before, price = trader.held(), await trader.price(0.98)
        trader.inject("timeout_after_accept")
        arguments = (trader.symbol, "limit", "buy", 0.02, price, {"clientOrderId": "mine-3"})
        asked = asyncio.create_task(trader.client.create_order_ws(*arguments))
        async with asyncio.timeout(WITHIN_S):
            while not trader.orders():
                await asyncio.sleep(0.01)
        (order,) = await trader.open_orders()
        assert (order["clientOrderId"], order["status"]) == ("mine-3", "open")
        async with asyncio.timeout(WITHIN_S):  # the socket goes on: what is asked next is answered
            await trader.client.cancel_order_ws(order["id"], trader.symbol)
        assert not asked.done()
        asked.cancel()
        assert (trader.held(), trader.locked()) == (before, {Decimal(0)})


@every_venue
async def test_an_order_that_fills_before_its_cancel_is_filled_and_not_cancelled(venue) -> None:
    async with trading(venue) as trader:
        before = trader.held()
        order = await trader.buy(0.02, await trader.price(0.98))
        trader.inject("cancel_fill_race")
        if trader.family == "binance":
            with pytest.raises(ccxt.OrderNotFound):
                await trader.client.cancel_order(order["id"], trader.symbol)
        else:  # Bybit answers a cancel before it knows
            await trader.client.cancel_order(order["id"], trader.symbol)
        order = await trader.order(order["id"])
        assert (order["status"], order["filled"]) == ("closed", 0.02)
        assert await trader.open_orders() == []
        await trader.check_bought(before, "0.02")


@every_venue
async def test_the_race_waits_for_an_order_that_can_still_fill(venue) -> None:
    async with trading(venue) as trader:
        order = await trader.buy(0.02, await trader.price(0.98))
        await trader.client.cancel_order(order["id"], trader.symbol)
        trader.inject("cancel_fill_race")
        for number in (order["id"], "77"):
            with pytest.raises(ccxt.OrderNotFound):
                await trader.client.cancel_order(number, trader.symbol)
        assert trader.practice.faults.taken == []


@every_venue
@pytest.mark.parametrize("kind", ["http_429", "http_5xx"])
async def test_a_refused_call_places_nothing_and_the_next_one_does(venue, kind) -> None:
    async with trading(venue) as trader:
        before, price = trader.held(), await trader.price(0.98)
        trader.inject(kind, symbol="")
        with pytest.raises(BUSY[trader.family] if kind == "http_429" else BROKEN[venue]) as error:
            await trader.buy(0.02, price)
        assert not isinstance(error.value, ccxt.InvalidOrder | ccxt.InsufficientFunds)
        assert (trader.orders(), trader.held()) == ([], before)
        order = await trader.buy(0.02, price)
        assert [found["id"] for found in await trader.open_orders()] == [order["id"]]


@pytest.mark.parametrize("venue", ORDERS_PER_S)
async def test_no_second_has_more_orders_than_the_venue_allows(venue) -> None:
    """Bybit's 10006."""
    async with trading(venue) as trader:
        price, limit = await trader.price(0.98), ORDERS_PER_S[venue]
        answers = await asyncio.gather(*(trader.buy(0.001, price) for _ in range(4 * limit)), return_exceptions=True)
        refused = [answer for answer in answers if isinstance(answer, BaseException)]
        assert {type(error) for error in refused} == {ccxt.RateLimitExceeded}
        placed_ns = sorted(order.created_ns for order in trader.orders())
        assert len(placed_ns) == len(answers) - len(refused) >= limit
        assert all(late - early >= NS_PER_S for early, late in zip(placed_ns, placed_ns[limit:], strict=False))
        await asyncio.sleep(1.0)
        await trader.buy(0.001, price)


@pytest.mark.parametrize("venue", ORDERS_PER_S)
async def test_an_address_that_asks_too_much_places_nothing(venue) -> None:
    """Bybit's HTTP 403 above 600 requests in five seconds, whoever asks."""
    slow = ScaledClock(speed=0.02, start_ns=SystemClock().now_ns())  # any machine asks that much in five of its seconds
    async with trading(venue, slow) as trader, aiohttp.ClientSession() as http:
        price = await trader.price(0.98)
        statuses: list[int] = []

        async def ask() -> None:
            async with http.get(f"{trader.practice.endpoints[venue].rest}/v5/market/time") as answer:
                statuses.append(answer.status)

        while 403 not in statuses:
            await asyncio.gather(*(ask() for _ in range(100)))
        assert statuses.count(200) <= 600
        with pytest.raises(ccxt.RateLimitExceeded):
            await trader.buy(0.02, price)
        assert trader.orders() == []


@every_venue
async def test_an_order_of_another_time_is_refused_until_the_client_asks_for_the_time(venue) -> None:
    """Binance's -1021, Bybit's 10002."""
    async with trading(venue) as trader:
        price = await trader.price(0.98)
        trader.inject("clock_skew", symbol="", **{"for": 30})
        with pytest.raises(ccxt.InvalidNonce, match="-1021" if trader.family == "binance" else "10002"):
            await trader.buy(0.02, price)
        assert trader.orders() == []
        await trader.client.load_time_difference(ASKS_TIME.get(venue, {}))
        assert trader.client.options["timeDifference"] == pytest.approx(-30_000, abs=1_000)
        await trader.buy(0.02, price)
        assert len(trader.orders()) == 1


@every_venue
@pytest.mark.parametrize("ahead_s", [0.5, 3.0])
async def test_a_clock_within_the_receive_window_does_no_harm(venue, ahead_s) -> None:
    async with trading(venue) as trader:
        price = await trader.price(0.98)
        trader.inject("clock_skew", symbol="", **{"for": ahead_s})
        await trader.buy(0.02, price)
        assert len(trader.orders()) == 1
