"""Pre-trade checks: each rule refuses with its name and both numbers, and nothing else makes an `Approved`."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.errors import OnepriceError, Refused
from oneprice.model.order import Order, Side
from oneprice.trading.checks import Approved, Checks, KillSwitch, Limits, Refusal, spends
from oneprice.trading.paper import Latency, PaperVenue
from oneprice.trading.portfolio import Portfolio
from trading.market import CROSS, MS, PERP, SPOT, START, TABLE, Market, depth_rows, fills, gap_row, order

D = Decimal


class Bench:
    def __init__(self, limits: Limits | None = None, start: dict[tuple[str, str], Decimal] | None = None) -> None:
        self.market = Market(PaperVenue(TABLE, Latency(order_ms=0, report_ms=0)))
        self.market.snapshot(SPOT, [(9_990_000, 90_000)], [(10_000_000, 90_000)])
        self.market.snapshot(PERP, [(9_990_000, 9_000)], [(10_000_000, 9_000)])
        self.market.snapshot(CROSS, [(4_990, 10_000)], [(5_000, 10_000)])
        self.portfolio = Portfolio(TABLE, START if start is None else start)
        self.kill_switch = KillSwitch()
        self.checks = Checks(TABLE, limits or Limits(), self.portfolio, self.kill_switch)

    def approve(self, *orders: Order, in_flight: int = 0, hedging: bool = False, age_ms: int = 0) -> list[Approved]:
        return self.checks.approve(
            list(orders), now_ns=self.market.now_ns + age_ms * MS, books=self.market.books, in_flight=in_flight,
            reserved={}, hedging=hedging,
        )  # fmt: skip

    def refusal(self, *orders: Order, **how: int) -> tuple[str, Decimal, Decimal]:
        with pytest.raises(Refusal) as refused:
            self.approve(*orders, **how)
        return refused.value.rule, refused.value.value, refused.value.limit

    def hold(self, one: Order) -> None:
        for report in fills(self.market.send(one)):
            self.portfolio.apply_fill(one, report, key="k", decision_price=report.price)


GOOD = order(1, SPOT, Side.BUY, 10_000, 10_000_000)


def test_a_good_order_passes_and_is_the_same_order() -> None:
    assert [passed.order for passed in Bench().approve(GOOD)] == [GOOD]


def test_nobody_but_the_checks_approves() -> None:
    with pytest.raises(OnepriceError, match="by the checks and by nothing else"):
        Approved(GOOD, object())


@pytest.mark.parametrize(
    ("refused", "how", "expected"),
    [
        (order(1, SPOT, Side.BUY, 20_001, 10_000_000), {}, ("max_order_notional", D("20001"), D(20_000))),
        (order(1, SPOT, Side.BUY, 10_000, 10_200_010), {}, ("max_price_distance_bps", D("200.01"), D(200))),
        (GOOD, {"in_flight": 60}, ("max_orders_in_flight", D(61), D(60))),
        (GOOD, {"age_ms": 5_001}, ("max_book_age_ms", D(5_001), D(5_000))),
        (order(1, SPOT, Side.BUY, 4, 10_000_000), {}, ("min_notional", D(4), D(5))),
        (order(1, PERP, Side.BUY, 10, 10_000_001), {}, ("tick", D("100000.01"), D("0.1"))),
        (order(1, CROSS, Side.BUY, 15, 5_000), {}, ("lot", D("0.0015"), D("0.001"))),
        (order(1, SPOT, Side.BUY, 0, 10_000_000), {}, ("lot", D(0), D("0.00001"))),
    ],
)
def test_each_rule_refuses_with_its_name_and_both_numbers(
    refused: Order, how: dict[str, int], expected: tuple[str, Decimal, Decimal]
) -> None:
    assert Bench().refusal(refused, **how) == expected


def test_a_book_that_is_gone_empty_or_crossed_is_refused() -> None:
    bench = Bench()
    bench.market.feed(depth_rows(SPOT, [(10_000_000, 1)]))
    assert bench.refusal(GOOD)[0] == "crossed_book"
    bench.market.snapshot(SPOT, [(9_990_000, 90_000)], [])
    assert bench.refusal(GOOD)[0] == "empty_side"
    bench.market.feed(gap_row(SPOT))
    assert bench.refusal(GOOD)[0] == "valid_book"


def test_positions_are_limited_by_instrument_and_together() -> None:
    bench = Bench(Limits(max_position_notional=D(15_000), max_total_exposure=D(12_000)))
    buy = order(1, PERP, Side.BUY, 100, 10_000_000)
    bench.hold(buy)
    assert bench.refusal(buy) == ("max_position_notional", D(20_000), D(15_000))
    assert bench.refusal(order(2, PERP, Side.BUY, 30, 10_000_000)) == ("max_total_exposure", D(13_000), D(12_000))
    bench.approve(order(2, PERP, Side.SELL, 100, 9_990_000, reduce_only=True))
    bench.approve(order(2, PERP, Side.BUY, 100, 10_000_000), hedging=True)


def test_two_orders_of_one_trade_count_together() -> None:
    bench = Bench(Limits(max_position_notional=D(15_000)))
    buys = [order(number, PERP, Side.BUY, 100, 10_000_000) for number in (1, 2)]
    bench.approve(buys[0])
    assert bench.refusal(*buys) == ("max_position_notional", D(20_000), D(15_000))


def test_the_balance_covers_the_order_with_its_fee_and_what_is_reserved() -> None:
    for amount, passes in ((D("10000"), True), (D("9999.99"), False)):
        bench = Bench(start={("binance_spot", "USDT"): amount})
        if passes:
            bench.approve(GOOD)
        else:
            assert bench.refusal(GOOD) == ("balance", D(10_000), D("9999.99"))
    bench = Bench(start={("bybit_linear", "USDT"): D("10005.49")})
    assert bench.refusal(order(1, PERP, Side.BUY, 100, 10_000_000))[:2] == ("balance", D("10005.5"))
    bench = Bench(start={("binance_spot", "USDT"): D(5_000)})
    assert bench.refusal(order(1, SPOT, Side.BUY, 10_000))[0] == "balance"  # a market order is priced at the touch


def test_an_open_position_has_its_cost_set_aside() -> None:
    bench = Bench(start={("bybit_linear", "USDT"): D(15_000)})
    buy = order(1, PERP, Side.BUY, 100, 10_000_000)
    bench.approve(buy)
    bench.hold(buy)
    assert bench.refusal(buy)[0] == "balance"


def test_the_kill_switch_lets_only_what_ends_a_risk_through() -> None:
    bench = Bench()
    bench.hold(order(1, PERP, Side.BUY, 100, 10_000_000))
    bench.kill_switch.throw("a leg could be neither completed nor undone")
    bench.kill_switch.throw("later")
    with pytest.raises(Refused, match="a leg could be neither completed nor undone"):
        bench.approve(GOOD)
    bench.approve(order(2, PERP, Side.SELL, 100, 9_990_000, reduce_only=True))
    bench.approve(GOOD, hedging=True)


@settings(max_examples=100)
@given(st.sampled_from([SPOT, CROSS, PERP]), st.sampled_from(list(Side)), st.integers(1, 2_000), st.integers(-20, 20))
def test_what_is_approved_never_overdraws_the_account(instrument: int, side: Side, lots: int, off: int) -> None:
    start = {("binance_spot", "USDT"): D(9_000), ("binance_spot", "BTC"): D("0.05"), ("binance_spot", "ETH"): D(1)}
    bench = Bench(start={**start, ("bybit_linear", "USDT"): D(9_000)})
    rules = TABLE[instrument]
    touch = int((bench.market.books.best_ask if side is Side.BUY else bench.market.books.best_bid)[instrument])
    one = order(1, instrument, side, lots * rules.lot, touch + off * rules.tick)
    try:
        bench.approve(one)
    except Refusal as refused:
        assert refused.value != refused.limit or refused.rule in ("lot", "tick")
        return
    bench.hold(one)
    for place in bench.portfolio.balances:
        if place[1] in ("USDT", "BTC", "ETH"):
            # A sale above its limit sets aside more than the limit said; it is covered by what the sale is worth.
            slack = sum(spends(rules, one).values(), D(0)) * D("0.005") if instrument == PERP else D(0)
            assert bench.portfolio.available(*place) >= -slack
