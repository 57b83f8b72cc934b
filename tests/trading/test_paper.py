"""The paper venue: what it fills, at which price, for which fee, and what it refuses."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.order import Order, ReportType, Side, TimeInForce
from oneprice.trading.paper import Latency, PaperVenue
from trading.market import (
    BTC_COIN,
    COIN,
    CROSS,
    MS,
    PERP,
    SPOT,
    TABLE,
    Market,
    depth_rows,
    fills,
    gap_row,
    order,
    trade_rows,
    types,
)  # fmt: skip

R = ReportType
NO_DELAY = Latency(order_ms=0, report_ms=0)


def a_market(latency: Latency = NO_DELAY) -> Market:
    market = Market(PaperVenue(TABLE, latency))
    market.snapshot(SPOT, [(9_990_000, 50_000), (9_980_000, 80_000)], [(10_000_000, 40_000), (10_010_000, 100_000)])
    return market


def test_a_taker_walks_the_levels_and_gets_one_fill_a_level_with_exact_fees() -> None:
    reports = a_market().send(order(1, SPOT, Side.BUY, 60_000, 10_010_000))
    assert types(reports) == [R.ACCEPTED, R.FILL, R.FILL]
    first, second = fills(reports)
    assert (first.price, first.qty, first.fee, first.fee_asset) == (10_000_000, 40_000, Decimal("0.0004"), "BTC")
    assert (second.price, second.qty, second.fee) == (10_010_000, 20_000, Decimal("0.0002"))
    assert {first.trade_id, second.trade_id} == {"paper-1", "paper-2"}


@pytest.mark.parametrize(
    ("instrument", "side", "fee", "asset"),
    [
        (SPOT, Side.SELL, Decimal("9.99"), "USDT"),  # 0.1 × 99 900 × 0.001: what is received
        (PERP, Side.SELL, Decimal("5.4945"), "USDT"),  # 0.1 × 99 900 × 0.00055
        (COIN, Side.BUY, Decimal("0.005"), "BTC"),  # 10 000 contracts of 100 USD at 100 000 = 10 BTC, × 0.0005
    ],
)
def test_fees_are_paid_in_the_asset_that_the_venue_takes(instrument: int, side: Side, fee: Decimal, asset: str) -> None:
    market = a_market()
    market.snapshot(PERP, [(9_990_000, 500)], [(10_000_000, 500)])
    market.snapshot(COIN, [(999_000, 90_000)], [(1_000_000, 90_000)])
    qty = {SPOT: 10_000, PERP: 100, COIN: 10_000}[instrument]
    [fill] = fills(market.send(order(1, instrument, side, qty)))
    assert (fill.fee, fill.fee_asset) == (fee, asset)


def test_what_we_ate_is_gone_until_the_venue_changes_the_level() -> None:
    market = a_market()
    assert sum(fill.qty for fill in fills(market.send(order(1, SPOT, Side.BUY, 30_000, 10_000_000)))) == 30_000
    assert sum(fill.qty for fill in fills(market.send(order(2, SPOT, Side.BUY, 30_000, 10_000_000)))) == 10_000
    assert types(market.send(order(3, SPOT, Side.BUY, 30_000, 10_000_000))) == [R.ACCEPTED, R.EXPIRED]
    market.feed(depth_rows(SPOT, asks=[(10_000_000, 25_000)]))
    assert sum(fill.qty for fill in fills(market.send(order(4, SPOT, Side.BUY, 30_000, 10_000_000)))) == 25_000


def test_an_order_meets_the_book_of_the_moment_it_arrives() -> None:
    market = a_market(Latency(order_ms=5, report_ms=3, order_ms_of={"bybit_linear": 40}))
    sent_ns = market.now_ns
    market.paper.submit(order(1, SPOT, Side.BUY, 10_000, 10_010_000), sent_ns)
    assert market.paper.next_due_ns() == sent_ns + 5 * MS
    market.feed(depth_rows(SPOT, asks=[(10_000_000, 0)], ts_ns=sent_ns + 4 * MS))
    assert market.paper.advance(sent_ns + 5 * MS, market.books) == []
    [_, fill] = market.paper.advance(sent_ns + 8 * MS, market.books)
    assert (fill.price, fill.ts_ns) == (10_010_000, sent_ns + 8 * MS)
    market.paper.submit(order(2, PERP, Side.BUY, 10, 10_010_000), sent_ns)
    assert market.paper.next_due_ns() == sent_ns + 40 * MS


def test_fill_or_kill_fills_all_or_nothing() -> None:
    market = a_market()
    reports = market.send(order(1, SPOT, Side.BUY, 140_001, 10_010_000, time_in_force=TimeInForce.FOK))
    assert types(reports) == [R.ACCEPTED, R.EXPIRED]
    reports = market.send(order(2, SPOT, Side.BUY, 140_000, 10_010_000, time_in_force=TimeInForce.FOK))
    assert sum(fill.qty for fill in fills(reports)) == 140_000


@pytest.mark.parametrize(
    ("refused", "reason"),
    [
        (order(1, SPOT, Side.BUY, 0, 10_000_000), "lot"),
        (order(1, CROSS, Side.BUY, 15, 5_000), "lot: 0.0015 against 0.0010"),
        (order(1, PERP, Side.BUY, 10, 10_000_005), "tick: 100000.05 against 0.10"),
        (order(1, SPOT, Side.BUY, 4, 9_990_000), "min_notional: 3.9960000 against 5"),
        (order(1, SPOT, Side.BUY, 1_000, 12_000_000), "price_band_bps"),
        (order(1, SPOT, Side.BUY, 1_000, 10_000_000, time_in_force=TimeInForce.POST_ONLY), "post only: it would take"),
        (order(1, PERP, Side.SELL, 10, 9_990_000, reduce_only=True), "reduce only"),
    ],
)
def test_an_order_against_the_rules_is_rejected_with_the_rule(refused: Order, reason: str) -> None:
    market = a_market()
    market.snapshot(CROSS, [(4_990, 10_000)], [(5_000, 10_000)])
    market.snapshot(PERP, [(9_990_000, 500)], [(10_000_000, 500)])
    [report] = market.send(refused)
    assert report.type is R.REJECTED
    assert report.reason.startswith(reason)


def test_without_a_valid_book_nothing_is_filled_and_the_order_is_rejected() -> None:
    market = a_market()
    market.feed(gap_row(SPOT))
    [report] = market.send(order(1, SPOT, Side.BUY, 1_000, 10_000_000))
    assert (report.type, report.reason) == (R.REJECTED, "no valid book: a gap is being repaired")


def test_a_reduce_only_order_never_turns_a_position_round() -> None:
    market = a_market()
    market.snapshot(PERP, [(9_990_000, 500)], [(10_000_000, 500)])
    market.send(order(1, PERP, Side.BUY, 30))
    reports = market.send(order(2, PERP, Side.SELL, 100, 9_990_000, reduce_only=True))
    assert [fill.qty for fill in fills(reports)] == [30]
    assert reports[-1].type is R.EXPIRED


def test_a_cancel_loses_against_a_fill_that_comes_first() -> None:
    market = a_market(Latency(order_ms=5, report_ms=5))
    market.send(order(1, SPOT, Side.BUY, 1_000, 9_995_000, time_in_force=TimeInForce.GTC))
    market.paper.cancel(1, market.now_ns)
    market.feed(trade_rows(SPOT, (Side.SELL, 9_995_000, 1_000), ts_ns=market.now_ns + MS))
    assert types(market.settle()) == [R.FILL]
    market.send(order(2, SPOT, Side.BUY, 1_000, 9_995_000, time_in_force=TimeInForce.GTC))
    market.paper.cancel(2, market.now_ns)
    assert types(market.settle()) == [R.CANCELLED]
    assert not market.paper.has_resting


def test_an_inverse_fee_is_rounded_at_twelve_decimals() -> None:
    market = a_market()
    market.snapshot(COIN, [(610_000, 90_000)], [(611_237, 90_000)])
    [fill] = fills(market.send(order(1, COIN, Side.BUY, 7)))
    exactly = Fraction(700 * 10, 611_237) * Fraction(BTC_COIN.taker_fee)
    assert abs(Fraction(fill.fee) - exactly) <= Fraction(1, 2 * 10**12)


SIDES = st.sampled_from([Side.BUY, Side.SELL])
LEVEL_QTY = st.integers(0, 50_000)
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("depth"), SIDES, st.integers(1, 9), LEVEL_QTY),
        st.tuples(st.just("order"), SIDES, st.integers(-9, 9), st.integers(100, 60_000), st.sampled_from(TimeInForce)),
        st.tuples(st.just("trade"), SIDES, st.integers(-9, 9), st.integers(1, 60_000)),
        st.tuples(st.just("cancel"), st.integers(1, 12)),
        st.tuples(st.just("gap")),
        st.tuples(st.just("wait"), st.integers(1, 12)),
    ),
    max_size=40,
)
MIDDLE = 10_000_000


def play(events: list[tuple], *, check: bool = True) -> list[tuple]:
    """Any life of a market and of our orders in it, with the laws of every fill checked as it happens."""
    market = Market(PaperVenue(TABLE, Latency(order_ms=2, report_ms=1)))
    market.snapshot(SPOT, [(MIDDLE - 5, 10_000)], [(MIDDLE + 5, 10_000)])
    orders: dict[int, Order] = {}
    filled: dict[int, int] = {}
    told: list[tuple] = []
    shown: dict[tuple[Side, int], int] = {(Side.SELL, MIDDLE + 5): 10_000, (Side.BUY, MIDDLE - 5): 10_000}
    since: dict[tuple[Side, int], int] = {}  # taken from a level since it changed

    def take_in(reports: list) -> None:
        for report in reports:
            one = orders[report.order]
            told.append((report.order, report.type, report.ts_ns, report.price, report.qty, report.reason))
            if report.type is not R.FILL or not check:
                continue
            filled[one.number] = filled.get(one.number, 0) + report.qty
            assert filled[one.number] <= one.qty
            assert (report.price - one.price) * int(one.side) <= 0, "worse than its limit"
            assert one.time_in_force is not TimeInForce.POST_ONLY or report.maker
            if report.maker:
                assert report.price == one.price

    def arrive() -> None:
        """Deliver whatever is under way, order by order, so that each taker can be held against what was shown."""
        due_ns = market.paper.next_due_ns()
        while due_ns is not None:
            market.now_ns = max(market.now_ns, due_ns)
            reports = market.paper.advance(due_ns, market.books)
            for fill in fills(reports):
                if not fill.maker and check:
                    level = (orders[fill.order].side.opposite, fill.price)
                    since[level] = since.get(level, 0) + fill.qty
                    assert since[level] <= shown.get(level, 0), "more than was displayed"
            take_in(reports)
            due_ns = market.paper.next_due_ns()

    for event in events:
        if event[0] == "depth":
            arrive()
            _, side, distance, qty = event
            price = MIDDLE - int(side) * distance
            bids, asks = ([(price, qty)], []) if side is Side.BUY else ([], [(price, qty)])
            if shown.get((side, price), 0) != qty:
                since.pop((side, price), None)
            shown[side, price] = qty
            market.feed(depth_rows(SPOT, bids, asks, ts_ns=market.now_ns))
        elif event[0] == "order":
            _, side, offset, qty, time_in_force = event
            number = len(orders) + 1
            orders[number] = order(number, SPOT, side, qty, MIDDLE + offset, time_in_force=time_in_force)
            market.paper.submit(orders[number], market.now_ns)
        elif event[0] == "trade":
            _, taker, offset, qty = event
            market.feed(trade_rows(SPOT, (taker, MIDDLE + offset, qty), ts_ns=market.now_ns))
        elif event[0] == "cancel":
            market.paper.cancel(event[1], market.now_ns)
        elif event[0] == "gap":
            arrive()
            market.feed(gap_row(SPOT, ts_ns=market.now_ns))
            market.snapshot(SPOT, [(MIDDLE - 5, 10_000)], [(MIDDLE + 5, 10_000)])
            for level in [*shown]:
                fresh = 10_000 if level in ((Side.SELL, MIDDLE + 5), (Side.BUY, MIDDLE - 5)) else 0
                if shown[level] != fresh:
                    since.pop(level, None)
                shown[level] = fresh
        else:
            market.now_ns += event[1] * MS
            arrive()
    arrive()
    for one in orders.values():
        if one.time_in_force is TimeInForce.FOK:
            assert filled.get(one.number, 0) in (0, one.qty)
    return told


@settings(max_examples=120)
@given(EVENTS)
def test_no_fill_is_worse_than_its_limit_larger_than_shown_or_split_when_it_must_not_be(events: list[tuple]) -> None:
    play(events)


@settings(max_examples=30)
@given(EVENTS)
def test_the_same_market_and_orders_give_the_same_reports(events: list[tuple]) -> None:
    assert play(events, check=False) == play(events, check=False)
