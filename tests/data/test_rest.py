"""REST market data against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from loopback import LoopbackVenue, TurnedClock, eventually

from oneprice.data.budget import Budget, Budgets
from oneprice.data.rest import RestClient
from oneprice.model.errors import UnknownOutcome, VenueError
from oneprice.venues.base import Request
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.binance_usdm import BINANCE_USDM
from oneprice.venues.bybit import BYBIT_LINEAR
from shared_data import shared

TIME = Request(method="GET", path="/api/v3/time")
OK = web.json_response


@asynccontextmanager
async def client(timeout_s: float = 5.0) -> AsyncIterator[tuple[LoopbackVenue, RestClient, TurnedClock]]:
    clock = TurnedClock()
    async with LoopbackVenue.running() as server, aiohttp.ClientSession() as http:
        budget = Budgets(clock).of(BINANCE_SPOT, server.base)
        yield (
            server,
            RestClient(
                BINANCE_SPOT, server.base, http=http, budget=budget, clock=clock, rng=random.Random(1),
                timeout_s=timeout_s,
            ),
            clock,
        )  # fmt: skip


async def turned(clock: TurnedClock, task: asyncio.Task[object], step_s: float = 0.5) -> None:
    await clock.turn_until(task.done, step_s=step_s)


async def test_an_answer_carries_its_round_trip_and_its_bytes() -> None:
    async with client() as (server, rest, _):
        server.answers["/api/v3/time"] = lambda _: OK({"serverTime": 17}, headers={"X-MBX-USED-WEIGHT-1M": "2"})
        answer = await rest.call(TIME)
        assert BINANCE_SPOT.rest.read_server_time(answer.body) == 17_000_000
        assert answer.sent_ns < answer.recv_ns
        assert answer.headers["X-MBX-USED-WEIGHT-1M"] == "2"


async def test_a_symbol_with_letters_of_its_own_is_percent_encoded() -> None:
    async with client() as (server, rest, _):
        server.answers["/api/v3/depth"] = lambda request: OK({"symbol": request.query["symbol"]})
        answer = await rest.send(Request(method="GET", path="/api/v3/depth", query={"symbol": "币安人生&USDT"}))
        assert json.loads(answer.body) == {"symbol": "币安人生&USDT"}
        assert "&USDT" not in server.asked[0]


@pytest.mark.parametrize("status", [429, 418])
async def test_a_ban_blocks_the_host_for_as_long_as_it_says_and_for_everybody(status: int) -> None:
    async with client() as (server, rest, clock):
        banned = {"left": 1}

        def answer(_: web.Request) -> web.Response:
            if banned["left"] > 0:
                banned["left"] -= 1
                return web.Response(
                    status=status, text='{"code":-1003,"msg":"Too much"}', headers={"Retry-After": "40"}
                )
            return OK({"serverTime": 17})

        server.answers["/api/v3/time"] = answer
        start_ns = clock.now_ns()
        first = asyncio.create_task(rest.call(TIME))
        await eventually(lambda: rest.budget.blocked_s > 0.0)
        second = asyncio.create_task(rest.call(TIME))
        await clock.turn_until(lambda: len(server.asked) > 1)
        assert (clock.now_ns() - start_ns) / 1e9 >= 40.0, "nobody asked while the ban lasted"
        await turned(clock, first)
        await turned(clock, second)
        assert len(server.asked) == 3
        assert rest.budget.bans == 1


async def test_server_errors_of_a_get_are_asked_again_and_then_raised() -> None:
    async with client() as (server, rest, clock):
        left = [3]

        def answer(_: web.Request) -> web.Response:
            left[0] -= 1
            return web.Response(status=503, text="<html>") if left[0] >= 0 else OK({"serverTime": 17})

        server.answers["/api/v3/time"] = answer
        task = asyncio.create_task(rest.call(TIME))
        await turned(clock, task)
        assert task.result().status == 200
        left[0] = 99
        again = asyncio.create_task(rest.call(TIME, attempts=3))
        await turned(clock, again)
        assert isinstance(again.exception(), UnknownOutcome)
        assert left[0] == 96


async def test_an_error_that_cannot_pass_is_raised_at_once() -> None:
    async with client() as (server, rest, _):
        server.answers["/api/v3/time"] = lambda _: OK({"code": -1121, "msg": "Invalid symbol."}, status=400)
        with pytest.raises(VenueError, match="Invalid symbol") as wrong:
            await rest.call(TIME)
        assert wrong.value.code == "-1121"
        assert len(server.asked) == 1


async def test_a_post_is_never_sent_twice() -> None:
    async with client() as (server, rest, _):
        server.answers["/api/v3/time"] = lambda _: web.Response(status=503, text="")
        with pytest.raises(VenueError):
            await rest.call(Request(method="POST", path="/api/v3/time"))
        assert len(server.asked) == 1


async def test_no_answer_is_a_passing_error_that_names_the_venue_and_the_call() -> None:
    clock = TurnedClock()
    async with aiohttp.ClientSession() as http:
        budget = Budget(100, 60, clock)
        rest = RestClient(
            BINANCE_SPOT, "http://127.0.0.1:1", http=http, budget=budget, clock=clock, rng=random.Random(1)
        )
        with pytest.raises(VenueError, match="binance_spot: no answer to GET /api/v3/time") as wrong:
            await rest.send(TIME)
        assert wrong.value.transient


async def test_an_answer_that_does_not_come_in_time_is_no_answer() -> None:
    async with client(timeout_s=0.05) as (server, rest, _):
        server.answers["/api/v3/time"] = lambda _: OK({"serverTime": 17})
        server.holds = asyncio.Event()
        with pytest.raises(VenueError, match="no answer"):
            await rest.send(TIME)
        server.holds.set()


async def test_instruments_are_read_to_the_last_page() -> None:
    page = json.loads(shared("data/wire/bybit/channels/rest_instruments_linear.json").read_text())
    clock = TurnedClock()
    async with LoopbackVenue.running() as server, aiohttp.ClientSession() as http:

        def answer(request: web.Request) -> web.Response:
            second = "cursor" in request.query
            page["result"]["nextPageCursor"] = "" if second else "first%3DX"
            page["result"]["list"][0]["symbol"] = "BBBUSDT" if second else "AAAUSDT"
            return OK(page)

        server.answers["/v5/market/instruments-info"] = answer
        rest = RestClient(
            BYBIT_LINEAR, server.base, http=http, budget=Budget(600, 5, clock), clock=clock, rng=random.Random(1)
        )
        listed, answers = await rest.instruments()
        assert [instrument.symbol for instrument in listed] == ["AAAUSDT", "BBBUSDT"]
        assert len(answers) == 2


async def test_perpetuals_carry_the_funding_interval_that_the_venue_gives_them_else_eight_hours() -> None:
    info = json.loads(shared("data/wire/binance_usdm/rest_instruments.json").read_text())
    adjusted = json.loads(shared("data/wire/binance_usdm/rest_funding_info.json").read_text())[0]
    clock = TurnedClock()
    async with LoopbackVenue.running() as server, aiohttp.ClientSession() as http:
        server.answers["/fapi/v1/exchangeInfo"] = lambda _: OK(info)
        server.answers["/fapi/v1/fundingInfo"] = lambda _: OK([
            {**adjusted, "symbol": "ETHUSDT", "fundingIntervalHours": 4},
            {**adjusted, "symbol": "GONEUSDT", "fundingIntervalHours": 1},
        ])  # fmt: skip
        rest = RestClient(
            BINANCE_USDM, server.base, http=http, budget=Budget(600, 60, clock), clock=clock, rng=random.Random(1)
        )
        listed, answers = await rest.instruments()
    hour_ns = 3600 * 10**9
    assert {one.symbol: one.funding_interval_ns for one in listed} == {"BTCUSDT": 8 * hour_ns, "ETHUSDT": 4 * hour_ns}
    assert [request.path for request, _ in answers] == ["/fapi/v1/exchangeInfo", "/fapi/v1/fundingInfo"]
