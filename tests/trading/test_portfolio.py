"""What fills do to balances, positions and results: exact, conserved, and the parts add up."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, Inexact
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.order import Order, Report, ReportType, Side
from oneprice.trading.money import divide_rounded, exact
from oneprice.trading.paper import fee_of
from oneprice.trading.portfolio import Portfolio
from trading.market import COIN, CROSS, PERP, SPOT, START, TABLE, Account, order

D = Decimal
PRICES = {
    SPOT: (9_000_000, 11_000_000),
    CROSS: (4_000, 6_000),
    PERP: (9_000_000, 11_000_000),
    COIN: (900_000, 1_100_000),
}


def fill_of(one: Order, price: int, qty: int, *, trade_id: str, fee: Decimal | None = None) -> Report:
    owed, asset = fee_of(TABLE[one.instrument], one.side, price, qty, maker=False)
    return Report(
        order=one.number, type=ReportType.FILL, ts_ns=one.number, price=price, qty=qty,
        fee=owed if fee is None else fee, fee_asset=asset, trade_id=trade_id,
    )  # fmt: skip


def trade(account: Account, instrument: int, side: Side, qty: int, price: int, *, decided: int = 0) -> Report:
    number = len(account.portfolio.fills) + 1
    one = order(number, instrument, side, qty, price)
    account.record(one)
    report = fill_of(one, price, qty, trade_id=f"t{number}")
    account.book(one, [report], decision_price=decided)
    return report


def test_a_perpetual_realises_first_in_first_out_and_sets_its_cost_aside() -> None:
    account, usdt = Account(), ("bybit_linear", "USDT")
    portfolio = account.portfolio
    start = START[usdt]
    trade(account, PERP, Side.BUY, 100, 10_000_000)  # 0.1 at 100 000
    trade(account, PERP, Side.BUY, 100, 10_100_000)  # 0.1 at 101 000
    assert portfolio.average_entry("test", "k", PERP) == 100_500
    assert portfolio.in_positions[usdt] == 20_100
    trade(account, PERP, Side.SELL, 150, 10_200_000)  # earns 200 on the first lot, 50 on half of the second
    fees = D("5.5") + D("5.555") + D("8.415")
    assert portfolio.realised[usdt] == 250
    assert portfolio.balances[usdt] == start + 250 - fees
    assert portfolio.available(*usdt) == start + 250 - fees - 5_050
    assert portfolio.unrealised(PERP, D(102_000)) == 50
    trade(account, PERP, Side.SELL, 60, 10_100_000)  # closes the rest flat and opens 0.01 short
    assert portfolio.contracts(PERP) == -10
    assert portfolio.average_entry("test", "k", PERP) == 101_000
    assert portfolio.unrealised(PERP, D(100_000)) == 10
    account.assert_balanced()


def test_an_inverse_contract_is_settled_in_coins() -> None:
    account, btc = Account(), ("binance_coinm", "BTC")
    trade(account, COIN, Side.BUY, 100, 1_000_000)  # 100 × 100 USD at 100 000 = 0.1 BTC
    assert account.portfolio.in_positions[btc] == D("0.1")
    trade(account, COIN, Side.SELL, 100, 1_250_000)  # 0.08 BTC at 125 000
    assert account.portfolio.realised[btc] == D("0.02")
    assert account.portfolio.in_positions[btc] == 0
    account.assert_balanced()


def test_longs_pay_a_positive_funding_rate_and_shorts_receive_it() -> None:
    for side, amount in ((Side.BUY, D("-1")), (Side.SELL, D("1"))):
        account = Account()
        trade(account, PERP, side, 100, 10_000_000)
        postings = account.portfolio.apply_funding(TABLE[PERP], PERP, rate=D("0.0001"), mark=D(100_000))
        assert sum(posting.amount for posting in postings) == 0
        assert account.portfolio.funding == [("bybit_linear", "USDT", amount)]
    coins = Account()
    trade(coins, COIN, Side.BUY, 100, 1_000_000)
    coins.portfolio.apply_funding(TABLE[COIN], COIN, rate=D("0.0001"), mark=D(125_000))
    assert coins.portfolio.funding == [("binance_coinm", "BTC", D("-0.000008"))]


def values(mids: dict[int, Decimal]) -> tuple[Callable[[int], Decimal | None], Callable[[str, str], Decimal | None]]:
    assets = {"USDT": D(1), "USD": D(1), "BTC": mids[SPOT], "ETH": mids[CROSS] * mids[SPOT]}
    return mids.get, lambda asset, venue: assets.get(asset)


def test_the_parts_of_a_trade_add_up_and_slippage_is_against_the_decision() -> None:
    account = Account()
    trade(account, SPOT, Side.BUY, 10_000, 10_001_000, decided=10_000_000)
    trade(account, PERP, Side.SELL, 100, 10_049_000, decided=10_050_000)
    mid, value = values({SPOT: D(100_000), PERP: D(100_000), CROSS: D("0.05"), COIN: D(100_000)})
    result = account.portfolio.result(account.portfolio.fills, mid, value)
    assert (result.gross_edge, result.slippage) == (50, 2)
    assert result.fees == D("10") + D("5.52695")
    assert result.net == result.gross_edge - result.slippage - result.fees


FILLS = st.lists(
    st.tuples(
        st.sampled_from([SPOT, CROSS, PERP, COIN]), st.sampled_from(list(Side)), st.integers(1, 400),
        st.integers(0, 999), st.integers(-50, 50), st.sampled_from(["a", "b"]),
    ),
    max_size=30,
)  # fmt: skip


def price_of(instrument: int, share: int) -> int:
    low, high = PRICES[instrument]
    return low + (high - low) * share // 1_000


@settings(max_examples=80)
@given(FILLS)
def test_capital_is_conserved_under_any_fills_in_any_order(drawn: list[tuple]) -> None:
    account = Account()
    spent: dict[tuple[str, str], Fraction] = {place: Fraction(amount) for place, amount in START.items()}
    for number, (instrument, side, lots, share, off, key) in enumerate(drawn, start=1):
        rules = TABLE[instrument]
        price, qty = price_of(instrument, share), lots * rules.lot
        one = order(number, instrument, side, qty, price, strategy=key)
        account.record(one)
        report = fill_of(one, price, qty, trade_id=str(number))
        account.book(one, [report], decision_price=price + off)
        account.assert_balanced()
        spent[rules.venue, report.fee_asset] -= Fraction(report.fee)
        if instrument in (SPOT, CROSS):  # an independent reckoning, in fractions, of what spot accounts must hold
            size = Fraction(qty) * Fraction(10) ** rules.qty_exponent
            spent[rules.venue, rules.base] += int(side) * size
            spent[rules.venue, rules.quote] -= int(side) * size * price * Fraction(10) ** rules.price_exponent
    for place, amount in spent.items():
        if place[0] == "binance_spot":
            assert Fraction(account.portfolio.balances[place]) == amount
    mid, value = values({SPOT: D("100123.45"), PERP: D(100_111), CROSS: D("0.051"), COIN: D(100_100)})
    result = account.portfolio.result(account.portfolio.fills, mid, value, with_funding=True)
    with exact():
        assert result.net == result.gross_edge - result.slippage - result.fees + result.funding


@settings(max_examples=80)
@given(st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 300), st.integers(0, 999)), max_size=20))
def test_the_net_of_linear_and_spot_fills_is_what_the_account_gained(drawn: list[tuple[Side, int, int]]) -> None:
    account = Account()
    for k, (side, qty, share) in enumerate(drawn):
        instrument = (SPOT, PERP)[k % 2]
        trade(account, instrument, side, qty * 10, price_of(instrument, share), decided=price_of(instrument, 500))
    mids = {SPOT: D("100123.45"), PERP: D("100111.5"), CROSS: D("0.05"), COIN: D(100_000)}
    mid, value = values(mids)
    result = account.portfolio.result(account.portfolio.fills, mid, value)
    with exact():
        gained = account.portfolio.unrealised(PERP, mids[PERP])
        for (venue, asset), amount in account.portfolio.balances.items():
            price = value(asset, venue)
            if price is not None:
                gained += (amount - START.get((venue, asset), D(0))) * price
    assert gained == result.net


def test_money_never_loses_a_digit_unseen() -> None:
    with exact():
        assert D("1e40") + D("1e-40") - D("1e40") == D("1e-40")
        with pytest.raises(Inexact):
            D(1) / D(3)
    assert divide_rounded(D(2), D(3)) == D("0.666666666667")
    portfolio = Portfolio(TABLE, {("binance_spot", "USDT"): D("1e30")})
    one = order(1, SPOT, Side.BUY, 1, 10_000_001)
    portfolio.apply_fill(one, fill_of(one, 10_000_001, 1, trade_id="1"), key="k", decision_price=1)
    assert portfolio.balances["binance_spot", "USDT"] == D("999999999999999999999999999998.9999999")
