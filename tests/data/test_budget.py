"""Budgets of hosts."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import TurnedClock

from oneprice.data.budget import Budget, Budgets
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.bybit import BYBIT_LINEAR


@settings(max_examples=25)
@given(weights=st.lists(st.integers(1, 120), min_size=1, max_size=40))
async def test_no_window_ever_holds_more_than_the_budget(weights: list[int]) -> None:
    clock = TurnedClock()
    budget = Budget(100, 60.0, clock)
    spent: list[tuple[int, int]] = []

    async def spend() -> None:
        for weight in weights:
            await budget.take(weight)
            spent.append((clock.now_ns(), weight))

    task = asyncio.create_task(spend())
    while not task.done():
        await asyncio.sleep(0)
        clock.turn(7.0)
    for place, (at_ns, weight) in enumerate(spent):
        window = sum(w for t, w in spent[: place + 1] if t > at_ns - 60_000_000_000)
        assert window <= 100 or window == weight, "a call above the whole budget goes alone"


@settings(max_examples=25)
@given(weights=st.lists(st.integers(1, 120), min_size=1, max_size=40), ban_s=st.sampled_from((0.0, 30.0)))
async def test_what_is_allowed_is_taken_without_a_wait_and_nothing_else_is(weights: list[int], ban_s: float) -> None:
    clock = TurnedClock()
    budget = Budget(100, 60.0, clock)
    if ban_s:
        budget.block(ban_s)
    for weight in weights:
        is_allowed, waits = budget.allows(weight), len(clock.slept)
        task = asyncio.create_task(budget.take(weight))
        await asyncio.sleep(0)
        assert is_allowed == task.done() == (len(clock.slept) == waits)
        assert task.done() or not budget.allows(1), "somebody waits already, and goes first"
        while not task.done():
            clock.turn(7.0)
            await asyncio.sleep(0)


async def test_venues_behind_one_host_share_its_budget() -> None:
    budgets = Budgets(TurnedClock())
    live = BINANCE_SPOT.endpoints["live"].rest
    assert budgets.of(BINANCE_SPOT, live) is budgets.of(BINANCE_SPOT, live + "/")
    assert budgets.of(BINANCE_SPOT, live) is not budgets.of(BYBIT_LINEAR, BYBIT_LINEAR.endpoints["live"].rest)


async def test_a_ban_is_kept_and_never_shortened() -> None:
    clock = TurnedClock()
    budget = Budget(100, 60.0, clock)
    budget.block(120.0)
    budget.block(5.0)
    task = asyncio.create_task(budget.take(1))
    await asyncio.sleep(0)
    clock.turn(119.0)
    await asyncio.sleep(0)
    assert not task.done()
    assert 0.0 < budget.blocked_s <= 1.0
    clock.turn(1.1)
    await task
    assert budget.blocked_s == 0.0
