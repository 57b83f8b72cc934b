"""Money on a practice market: nothing appears, nothing vanishes, nothing is spent that is not there.

The oracle is a ledger that sees only the trades, and who placed which order; it has the market's side of them, too."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.emulator.accounts import FLAT, after_fill
from oneprice.emulator.events import (
    BalanceChanged,
    FundingPaid,
    NewOrder,
    OrderUpdated,
    PositionChanged,
    Reject,
    RejectCode,
    Traded,
)
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.emulator.instruments import practice_instruments
from oneprice.model.order import OrderState, OrderType, ReportType, Side, TimeInForce

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
SYMBOL = "BTCUSDT"
NAMES = ("me", "you")
ASSETS = ("USDT", "BTC", "ETH")
MIDDLES = {"BTCUSDT": D(60_000), "ETHUSDT": D(3_000), "ETHBTC": D("0.05")}


def spot_market() -> Exchange:
    exchange = Exchange("binance_spot", practice_instruments("binance_spot"), spot=True)
    for name in NAMES:
        exchange.open_account(name, {"USDT": D(100_000), "BTC": D(2), "ETH": D(5)})
    return exchange


def perp_market(usdt: int = 1_000_000) -> Exchange:
    exchange = Exchange("binance_usdm", practice_instruments("binance_usdm"), spot=False)
    for name in NAMES:
        exchange.open_account(name, {"USDT": D(usdt)})
    return exchange


def place(exchange, side, price, qty, *, account=MARKET, symbol=SYMBOL, tif=TimeInForce.GTC, **more):
    """Price and quantity in dollars and coins."""
    instrument = exchange.instruments[symbol]
    new = NewOrder(
        symbol=symbol, side=side, price=instrument.price_mantissa(D(price)), qty=instrument.qty_mantissa(D(qty)),
        time_in_force=tif, **more,
    )  # fmt: skip
    return exchange.place(account, new, 0)


# -- conservation -----------------------------------------------------------------------------------------------------


class Ledger:
    """What every account must have, by the trades alone: paid and received, fees, funding."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange = exchange
        self.assets: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)  # (account, asset)
        self.held: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)  # (account, symbol): contracts
        self.fees: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.owners: dict[int, str] = {}
        self.told: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}  # (account, asset): free, locked
        for name in NAMES:
            for asset, balance in exchange.balances(name).items():
                self.assets[name, asset] = balance.free
        self.started = dict(self.assets)

    def read(self) -> None:
        reducing = None  # the side of the reduce-only order whose fill is being told
        for event in self.exchange.take_events():
            if isinstance(event, OrderUpdated):
                self.owners[event.record.order_id] = event.account
                record = event.record
                reducing = record.side if record.reduce_only and event.execution is ReportType.FILL else None
            elif isinstance(event, Traded):
                self.fill(event, event.taker_order_id, event.taker_side, maker=False)
                self.fill(event, event.maker_order_id, event.taker_side.opposite, maker=True)
            elif isinstance(event, BalanceChanged):
                for asset, balance in event.balances.items():
                    self.told[event.account, asset] = (balance.free, balance.locked)
            elif isinstance(event, PositionChanged) and reducing is not None:
                assert reducing * event.record.qty <= 0  # flat at most, never turned
            elif isinstance(event, FundingPaid):
                self.assets[event.account, "USDT"] += event.amount

    def fill(self, traded: Traded, order_id: int, side: Side, *, maker: bool) -> None:
        instrument = self.exchange.instruments[traded.symbol]
        qty, price = instrument.qty(traded.qty), instrument.price(traded.price)
        rate = instrument.maker_fee if maker else instrument.taker_fee
        account = self.owners.get(order_id, MARKET)
        self.assets[account, instrument.quote] -= side * qty * price
        self.held[account, traded.symbol] += side * qty
        if self.exchange.spot:
            self.assets[account, instrument.base] += side * qty
        in_base = self.exchange.spot and side is BUY  # spot takes its fee from what is received
        fee, asset = (qty * rate, instrument.base) if in_base else (qty * price * rate, instrument.quote)
        if account != MARKET:  # which pays none
            self.assets[account, asset] -= fee
            self.fees[asset] += fee

    def check(self) -> None:
        """Each account has what the ledger says; together, with the fees, what there was."""
        for name in NAMES:
            costs = sum((position.cost for position in self.exchange.positions(name).values()), D(0))
            for asset, balance in self.exchange.balances(name).items():
                cost = D(0) if self.exchange.spot else costs
                assert balance.free + balance.locked == self.assets[name, asset] + cost
                told = self.told.get((name, asset), (self.started[name, asset], D(0)))
                # Derivatives venues tell what a wallet holds, not what orders hold back of it.
                assert sum(told) == balance.free + balance.locked
                assert told == (balance.free, balance.locked) or not self.exchange.spot
            for symbol, position in self.exchange.positions(name).items():
                assert self.exchange.instruments[symbol].qty(position.qty) == self.held[name, symbol]
        for asset in ASSETS:
            assert self.exchange.fees_taken[asset] == self.fees[asset]

    def total(self, asset: str) -> Decimal:
        return sum((amount for (_, of), amount in self.assets.items() if of == asset), self.exchange.fees_taken[asset])


orders = st.tuples(
    st.sampled_from((MARKET, *NAMES)),
    st.sampled_from(["BTCUSDT", "ETHUSDT", "ETHBTC"]),
    st.sampled_from([BUY, SELL]),
    st.integers(-3, 3),  # hundreds of ticks from the middle; 0 is at the market for some orders
    st.integers(1, 400),  # tens of lots
    st.sampled_from(list(TimeInForce)),
    st.booleans(),  # at the market
    st.booleans(),  # reduce only (derivatives)
)
cancels = st.tuples(st.sampled_from(NAMES), st.integers(0, 9))
leverages = st.tuples(st.sampled_from(NAMES), st.sampled_from(["BTCUSDT", "ETHUSDT"]), st.sampled_from([1, 3, 20]))
funding = st.integers(-300, 300)  # basis points of the rate, paid now
steps_of = {
    True: st.lists(st.one_of(orders, orders, orders, cancels), min_size=20, max_size=50),
    False: st.lists(st.one_of(orders, orders, orders, cancels, leverages, funding), min_size=20, max_size=50),
}


def act(exchange: Exchange, step) -> None:
    if isinstance(step, int):
        mark = 60_000.0 + step
        exchange.set_mark(SYMBOL, mark=mark, index=mark, funding_rate=step / 1e4, next_funding_ns=0, now_ns=0)
        exchange.settle_funding(SYMBOL, 0)
    elif len(step) == 3:
        exchange.set_leverage(*step)
    elif len(step) == 2:
        mine = exchange.open_orders(step[0])
        if mine:
            order = mine[step[1] % len(mine)]
            exchange.cancel(step[0], order.symbol, order_id=order.order_id, now_ns=0)
    else:
        account, symbol, side, away, lots, tif, at_market, reduce_only = step
        instrument = exchange.instruments.get(symbol) or exchange.instruments[SYMBOL]
        price = instrument.price_mantissa(MIDDLES[instrument.symbol]) + away * 100 * instrument.tick
        new = NewOrder(
            symbol=instrument.symbol, side=side, type=OrderType.MARKET if at_market else OrderType.LIMIT,
            price=0 if at_market else price, qty=lots * 10 * instrument.lot,
            time_in_force=TimeInForce.IOC if at_market else tif, reduce_only=reduce_only and not exchange.spot,
        )  # fmt: skip
        order = exchange.place(account, new, 0)
        if new.time_in_force is TimeInForce.FOK:
            assert order.filled_qty in (0, order.qty)


@given(steps_of[True])
@settings(max_examples=150)
def test_on_spot_every_asset_is_conserved_to_the_last_digit_and_none_is_overdrawn(steps) -> None:
    exchange = spot_market()
    ledger = Ledger(exchange)
    before = {asset: ledger.total(asset) for asset in ASSETS}
    for step in steps:
        with contextlib.suppress(Reject):
            act(exchange, step)
        ledger.read()
        ledger.check()
        for name in NAMES:
            locked: defaultdict[str, Decimal] = defaultdict(Decimal)
            for order in exchange.open_orders(name):
                instrument, left = exchange.instruments[order.symbol], order.qty - order.filled_qty
                locked[instrument.base if order.side is SELL else instrument.quote] += order.locked
                assert order.locked >= (
                    instrument.qty(left) if order.side is SELL else instrument.notional(order.price, left)
                )
            for asset, balance in exchange.balances(name).items():
                assert balance.locked == locked[asset]
                assert balance.free >= 0
    for name in NAMES:
        exchange.cancel_all(name, None, 0)
        assert all(balance.locked == 0 for balance in exchange.balances(name).values())
    assert {asset: ledger.total(asset) for asset in before} == before


@given(steps_of[False])
@settings(max_examples=150)
def test_on_derivatives_money_is_conserved_funding_is_zero_sum_and_reduce_only_reduces(steps) -> None:
    exchange = perp_market()
    ledger = Ledger(exchange)
    before = ledger.total("USDT")
    leverage_of: dict[tuple[str, str], int] = {}
    for step in steps:
        if not isinstance(step, int) and len(step) == 3:
            leverage_of[step[:2]] = step[2]
        with contextlib.suppress(Reject):
            act(exchange, step)
        if isinstance(step, int):  # what the accounts together get is what the market, which is not told, pays
            mark = exchange.market_state(SYMBOL).mark
            ledger.assets[MARKET, "USDT"] -= ledger.held[MARKET, SYMBOL] * D(mark) * D(step).scaleb(-4)
        ledger.read()
        ledger.check()
        assert ledger.total("USDT") == before
        for name in NAMES:
            locked = sum((order.locked for order in exchange.open_orders(name)), D(0))
            for symbol, position in exchange.positions(name).items():
                locked += abs(position.cost) / leverage_of.get((name, symbol), 1)
            assert abs(exchange.balances(name)["USDT"].locked - locked) < D("1e-11")
            for order in exchange.open_orders(name):
                if order.reduce_only:
                    position = exchange.positions(name)[order.symbol]
                    assert order.qty - order.filled_qty <= -order.side * position.qty


prices_and_sizes = st.lists(
    st.tuples(st.integers(1, 10**7), st.integers(-5000, 5000).filter(lambda qty: qty != 0)), min_size=1, max_size=30
)


@given(prices_and_sizes)
@settings(max_examples=150)
def test_a_closed_position_has_realised_what_was_received_less_what_was_paid(fills) -> None:
    (instrument,) = (one for one in practice_instruments("binance_usdm") if one.symbol == SYMBOL)
    position, result, cash = FLAT, D(0), D(0)
    for price, qty in [*fills, (600_000, -sum(qty for _, qty in fills))]:
        if qty == 0:
            continue
        held = position.qty
        position, realised = after_fill(position, instrument, signed_qty=qty, price=price)
        result += realised
        cash -= instrument.notional(price, qty)
        assert position.qty == held + qty
        assert result == cash + position.cost == position.realised
        if held * qty >= 0:
            assert realised == 0  # what only adds realises nothing
        if position.qty != 0:
            assert (position.cost > 0) == (position.qty > 0)
            assert abs(position.entry_price * instrument.qty(position.qty) - position.cost) < D("1e-9")
    assert (position.qty, position.cost, position.entry_price, position.realised) == (0, 0, 0, cash)


# -- fees -------------------------------------------------------------------------------------------------------------


def test_spot_fees_are_taken_from_what_is_received() -> None:
    exchange = spot_market()
    place(exchange, SELL, 60_000, "0.5")
    place(exchange, BUY, 59_000, "0.5")
    bought = place(exchange, BUY, 60_000, "0.1", account="me")
    sold = place(exchange, SELL, 59_000, "0.2", account="me")
    assert [(fill.fee, fill.fee_asset) for fill in bought.fills] == [(D("0.0001"), "BTC")]
    assert [(fill.fee, fill.fee_asset) for fill in sold.fills] == [(D("11.8"), "USDT")]
    held = exchange.balances("me")
    assert held["BTC"].free == D(2) + D("0.1") - D("0.0001") - D("0.2")
    assert held["USDT"].free == D(100_000) - 6_000 + 11_800 - D("11.8")


def test_makers_and_takers_pay_their_own_rates() -> None:
    exchange = perp_market()
    maker = place(exchange, SELL, 60_000, "1", account="me")
    taker = place(exchange, BUY, 60_000, "1", account="you")
    assert (maker.fills[0].fee, maker.fills[0].maker) == (D(12), True)
    assert (taker.fills[0].fee, taker.fills[0].maker) == (D(30), False)


# -- margin -----------------------------------------------------------------------------------------------------------


def test_a_position_keeps_its_margin_so_the_same_money_does_not_open_two() -> None:
    exchange = perp_market(usdt=10_000)
    place(exchange, SELL, 60_000, "5")
    place(exchange, BUY, 60_000, "0.15", account="me")
    assert exchange.balances("me")["USDT"].locked == 9_000
    with pytest.raises(Reject) as refused:
        place(exchange, BUY, 60_000, "0.15", account="me")
    assert refused.value.code is RejectCode.INSUFFICIENT_BALANCE


def test_leverage_divides_the_margin() -> None:
    exchange = perp_market(usdt=10_000)
    exchange.set_leverage("me", SYMBOL, 10)
    place(exchange, SELL, 60_000, "5")
    place(exchange, BUY, 60_000, "1", account="me")
    assert exchange.balances("me")["USDT"].locked == 6_000
    exchange.set_leverage("me", SYMBOL, 20)
    assert exchange.balances("me")["USDT"].locked == 3_000
    assert exchange.positions("me")[SYMBOL].entry_price == 60_000


def test_what_closes_a_position_needs_no_margin_of_its_own() -> None:
    exchange = perp_market(usdt=10_000)
    place(exchange, SELL, 60_000, "0.16")
    place(exchange, BUY, 60_000, "0.16", account="me")
    place(exchange, BUY, 60_000, "5")
    closing = place(exchange, SELL, 60_000, "0.16", account="me")
    assert closing.state is OrderState.FILLED
    assert exchange.positions("me")[SYMBOL].qty == 0
    balance = exchange.balances("me")["USDT"]
    assert (balance.locked, balance.free) == (0, 10_000 - 2 * D("4.8"))


def test_two_orders_do_not_close_the_same_position_for_free() -> None:
    exchange = perp_market(usdt=10_000)
    place(exchange, SELL, 60_000, "0.15")
    place(exchange, BUY, 60_000, "0.15", account="me")
    place(exchange, SELL, 61_000, "0.15", account="me")
    with pytest.raises(Reject) as refused:
        place(exchange, SELL, 61_000, "0.15", account="me")
    assert refused.value.code is RejectCode.INSUFFICIENT_BALANCE


# -- reduce only ------------------------------------------------------------------------------------------------------


def test_reduce_only_never_opens_or_turns_a_position() -> None:
    exchange = perp_market()
    place(exchange, SELL, 60_000, "1")
    place(exchange, BUY, 60_000, "0.5", account="me")
    for side, qty in ((BUY, "0.1"), (SELL, "0.6")):
        with pytest.raises(Reject) as refused:
            place(exchange, side, 61_000, qty, account="me", reduce_only=True)
        assert refused.value.code is RejectCode.REDUCE_ONLY
    assert place(exchange, SELL, 61_000, "0.5", account="me", reduce_only=True).state is OrderState.OPEN


def test_a_resting_reduce_only_order_expires_when_its_position_has_become_too_small() -> None:
    exchange = perp_market()
    place(exchange, SELL, 60_000, "0.5")
    place(exchange, BUY, 60_000, "0.5", account="me")
    waiting = [place(exchange, SELL, 61_000, "0.5", account="me", reduce_only=True) for _ in range(2)]
    place(exchange, BUY, 61_000, "0.7")  # would meet both of them
    assert [order.state for order in waiting] == [OrderState.FILLED, OrderState.EXPIRED]
    assert exchange.positions("me")[SYMBOL].qty == 0
    book = exchange.book(SYMBOL, 5)
    assert (book.bids, book.asks) == ([(610_000, 200)], [])
    assert exchange.balances("me")["USDT"].locked == 0


def test_fill_or_kill_does_not_count_on_a_reduce_only_order_that_may_expire() -> None:
    exchange = perp_market()
    place(exchange, SELL, 60_000, "0.5")
    place(exchange, BUY, 60_000, "0.5", account="me")
    place(exchange, SELL, 61_000, "0.5", account="me")  # once it fills, nothing is left to reduce
    waiting = place(exchange, SELL, 61_001, "0.5", account="me", reduce_only=True)
    killed = place(exchange, BUY, 62_000, "1", account="you", tif=TimeInForce.FOK)
    assert (killed.state, killed.filled_qty, waiting.state) == (OrderState.EXPIRED, 0, OrderState.OPEN)
    taken = place(exchange, BUY, 62_000, "1", account="you", tif=TimeInForce.IOC)
    assert (taken.state, taken.filled_qty, waiting.state) == (OrderState.EXPIRED, 500, OrderState.EXPIRED)


# -- funding ----------------------------------------------------------------------------------------------------------


def test_funding_moves_from_longs_to_shorts_by_value_and_rate() -> None:
    exchange = perp_market()
    place(exchange, SELL, 60_000, "0.5", account="me")
    place(exchange, BUY, 60_000, "0.5", account="you")
    exchange.set_mark(SYMBOL, mark=61_000.0, index=61_000.0, funding_rate=0.0003, next_funding_ns=0, now_ns=0)
    exchange.take_events()
    exchange.settle_funding(SYMBOL, 5)
    events = exchange.take_events()
    paid = {event.account: event.amount for event in events if isinstance(event, FundingPaid)}
    assert paid == {"me": D("9.15"), "you": D("-9.15")}
    assert {event.account for event in events if isinstance(event, BalanceChanged)} == {"me", "you"}
    (settled,) = exchange.funding_history(SYMBOL, 10)
    assert (settled.rate, settled.mark_price, settled.ts_ns) == (D("0.0003"), 61_000, 5)
    assert exchange.funding_history(SYMBOL, 0) == []
