"""Resting orders: their place in the queue, and what trades, cancellations and a crossing book do to it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.order import Side, TimeInForce
from oneprice.trading.paper import Latency, PaperVenue
from oneprice.trading.queue import QueueMode
from trading.market import SPOT, TABLE, Market, depth_rows, fills, order, trade_rows

BID, ASK = 9_990_000, 10_000_000


def resting(mode: QueueMode, *, ahead: int = 1_000, qty: int = 500, side: Side = Side.BUY) -> Market:
    market = Market(PaperVenue(TABLE, Latency(order_ms=0, report_ms=0), queue=mode))
    market.snapshot(SPOT, [(BID, ahead)] if ahead else [(BID - 100, 5)], [(ASK, ahead)] if ahead else [(ASK + 100, 5)])
    market.send(order(1, SPOT, side, qty, BID if side is Side.BUY else ASK, time_in_force=TimeInForce.GTC))
    return market


def filled(market: Market) -> int:
    return sum(fill.qty for fill in fills(market.settle()))


# displayed when we came, trades at our price, filled after each
SCENARIOS = [
    (QueueMode.FULL_QUEUE, 1_000, [400, 600, 200, 900], [0, 0, 200, 500]),
    (QueueMode.FULL_QUEUE, 0, [200, 900], [200, 500]),
    (QueueMode.FULL_QUEUE, 1_000, [1_300], [300]),
    (QueueMode.PRO_RATA, 1_000, [400, 600, 200], [0, 0, 200]),
    (QueueMode.THRESHOLD, 1_000, [199, 1, 100, 1_000], [0, 0, 100, 500]),
    (QueueMode.THRESHOLD, 1_001, [200, 1, 7], [0, 0, 7]),
]


@pytest.mark.parametrize("side", list(Side))
@pytest.mark.parametrize(("mode", "ahead", "trades", "then"), SCENARIOS)
def test_trades_at_the_price_move_the_queue(
    mode: QueueMode, ahead: int, trades: list[int], then: list[int], side: Side
) -> None:
    market = resting(mode, ahead=ahead, side=side)
    total, seen = 0, []
    for qty in trades:
        market.feed(trade_rows(SPOT, (side.opposite, BID if side is Side.BUY else ASK, qty)))
        total += filled(market)
        seen.append(total)
    assert seen == then


@pytest.mark.parametrize("mode", list(QueueMode))
def test_a_trade_through_the_price_fills_what_is_left_at_our_price(mode: QueueMode) -> None:
    market = resting(mode)
    market.feed(trade_rows(SPOT, (Side.SELL, BID - 1, 1)))
    [fill] = fills(market.settle())
    assert (fill.qty, fill.price, fill.maker) == (500, BID, True)


@pytest.mark.parametrize("mode", list(QueueMode))
def test_takers_of_our_own_side_and_other_prices_do_not_fill(mode: QueueMode) -> None:
    market = resting(mode)
    market.feed(trade_rows(SPOT, (Side.BUY, BID, 90_000), (Side.SELL, BID + 1, 90_000), (Side.BUY, BID - 5, 9_000)))
    assert filled(market) == 0


def test_a_book_that_crosses_the_price_fills_as_far_as_it_shows() -> None:
    market = resting(QueueMode.FULL_QUEUE)
    market.feed(depth_rows(SPOT, [(BID, 0)], [(BID, 120)]))
    assert filled(market) == 120
    market.feed(depth_rows(SPOT, asks=[(BID + 1, 7)]))
    assert filled(market) == 0  # the same 120 are not there twice
    market.feed(depth_rows(SPOT, asks=[(BID, 130)]))
    assert filled(market) == 130


def test_full_queue_ignores_cancellations_and_pro_rata_shares_them() -> None:
    for mode, then in ((QueueMode.FULL_QUEUE, 0), (QueueMode.PRO_RATA, 100)):
        market = resting(mode)
        market.feed(depth_rows(SPOT, [(BID, 400)]))  # 600 of 1000 cancelled: 400 are left ahead
        market.feed(depth_rows(SPOT, [(BID, 401)]))  # one joins behind us
        market.feed(trade_rows(SPOT, (Side.SELL, BID, 500)))
        assert filled(market) == then, mode


@pytest.mark.parametrize("trade_first", [True, False])
def test_pro_rata_counts_a_trade_once_whichever_stream_tells_first(trade_first: bool) -> None:
    market = resting(QueueMode.PRO_RATA)
    trade, depth = trade_rows(SPOT, (Side.SELL, BID, 300)), depth_rows(SPOT, [(BID, 700)])
    for rows in (trade, depth) if trade_first else (depth, trade):
        market.feed(rows)
    market.feed(trade_rows(SPOT, (Side.SELL, BID, 700)))
    assert filled(market) == 0
    market.feed(trade_rows(SPOT, (Side.SELL, BID, 1)))
    assert filled(market) == 1


def test_our_own_earlier_order_stands_ahead_of_the_later_one() -> None:
    market = resting(QueueMode.FULL_QUEUE)
    market.send(order(2, SPOT, Side.BUY, 300, BID, time_in_force=TimeInForce.GTC))
    market.feed(trade_rows(SPOT, (Side.SELL, BID, 1_600)))
    assert [(fill.order, fill.qty) for fill in fills(market.settle())] == [(1, 500), (2, 100)]


def test_many_resting_orders_keep_their_places_when_some_end() -> None:
    market = Market(PaperVenue(TABLE, Latency(order_ms=0, report_ms=0)))
    market.snapshot(SPOT, [(BID - 1_000, 5)], [(ASK, 5)])
    for number in range(1, 81):
        market.send(order(number, SPOT, Side.BUY, 100, BID - number, time_in_force=TimeInForce.GTC))
    for number in range(2, 81, 2):
        market.paper.cancel(number, market.now_ns)
    market.settle()
    market.feed(trade_rows(SPOT, (Side.SELL, BID - 71, 40)))  # through 1…69, at 71
    got = {fill.order: fill.qty for fill in fills(market.settle())}
    assert got == dict.fromkeys(range(1, 71, 2), 100) | {71: 40}


@settings(max_examples=150)
@given(
    ahead=st.integers(0, 2_000),
    qty=st.integers(100, 2_000),
    trades=st.lists(st.tuples(st.integers(1, 900), st.integers(0, 2_000)), max_size=20),
)
def test_full_queue_never_fills_before_the_queue_ahead_has_traded(
    ahead: int, qty: int, trades: list[tuple[int, int]]
) -> None:
    market = resting(QueueMode.FULL_QUEUE, ahead=ahead, qty=qty)
    volume = total = 0
    for traded, displayed in trades:
        if ahead:
            market.feed(depth_rows(SPOT, [(BID, displayed)]))
        market.feed(trade_rows(SPOT, (Side.SELL, BID, traded)))
        volume += traded
        total += filled(market)
        assert total == min(qty, max(0, volume - ahead))


@settings(max_examples=60)
@given(
    ahead=st.integers(1, 2_000),
    events=st.lists(st.tuples(st.booleans(), st.integers(1, 900)), max_size=20),
)
def test_the_modes_are_ordered_in_how_much_they_grant(ahead: int, events: list[tuple[bool, int]]) -> None:
    got: dict[QueueMode, int] = {}
    for mode in QueueMode:
        market = resting(mode, ahead=ahead, qty=900)
        for is_trade, number in events:
            rows = trade_rows(SPOT, (Side.SELL, BID, number)) if is_trade else depth_rows(SPOT, [(BID, number)])
            market.feed(rows)
        got[mode] = filled(market)
    assert got[QueueMode.FULL_QUEUE] <= got[QueueMode.PRO_RATA]
    assert got[QueueMode.FULL_QUEUE] <= got[QueueMode.THRESHOLD]
