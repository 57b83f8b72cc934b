"""The matching engine: price, then time; what each kind of order does; what its events say."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from oneprice.emulator.events import (
    BalanceChanged,
    LevelChanged,
    NewOrder,
    OrderUpdated,
    QuoteChanged,
    Reject,
    RejectCode,
    Traded,
)
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.emulator.instruments import practice_instruments
from oneprice.model.order import Order, OrderState, OrderStatus, OrderType, Report, ReportType, Side, TimeInForce, after
from oneprice.model.time import NS_PER_S

BUY, SELL = Side.BUY, Side.SELL
GTC, IOC, FOK, POST = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.POST_ONLY
SYMBOL = "BTCUSDT"
DOLLAR = 100  # ticks
PIECE = 10_000_000  # 0.1 BTC in the market's mantissas: enough for the minimum value at the prices used here
P = 100
MINUTE_NS = 60 * NS_PER_S


def spot() -> Exchange:
    exchange = Exchange("binance_spot", practice_instruments("binance_spot"), spot=True)
    exchange.open_account("me", {"USDT": Decimal(1_000_000), "BTC": Decimal(10_000)})
    return exchange


def put(exchange, side, price, pieces, *, account=MARKET, tif=GTC, now_ns=0, **more):
    """Place in whole dollars and pieces; at no price: at the market."""
    kind = OrderType.LIMIT if price else OrderType.MARKET
    new = NewOrder(
        symbol=SYMBOL, side=side, price=price * DOLLAR, qty=pieces * PIECE, time_in_force=tif, type=kind, **more
    )  # fmt: skip
    return exchange.place(account, new, now_ns)


def shown(exchange, depth=50):
    book = exchange.book(SYMBOL, depth)
    bids, asks = ([(price // DOLLAR, qty // PIECE) for price, qty in side] for side in (book.bids, book.asks))
    return bids, asks


# -- price, then time -------------------------------------------------------------------------------------------------


class NaiveOrder(msgspec.Struct, eq=False):
    number: int
    account: str
    side: Side
    price: int
    left: int


class NaiveBook:
    """A list of orders in the order of their arrival, searched from the beginning each time."""

    def __init__(self) -> None:
        self.orders: list[NaiveOrder] = []
        self.trades: list[tuple[int, int, int]] = []  # maker, price, quantity

    def met_by(self, side: Side, price: int) -> list[NaiveOrder]:
        """The orders that a taker would meet; at price 0 it takes any."""
        return [
            order
            for order in self.orders
            if order.side is not side and (price == 0 or (order.price - price) * int(side) <= 0)
        ]

    def place(self, new: NaiveOrder, tif: TimeInForce) -> None:
        if tif is FOK and sum(order.left for order in self.met_by(new.side, new.price)) < new.left:
            return
        while new.left and (met := self.met_by(new.side, new.price)):
            best = min(met, key=lambda order: order.price * int(new.side))  # the first of equals
            traded = min(new.left, best.left)
            self.trades.append((best.number, best.price, traded))
            best.left -= traded
            new.left -= traded
            self.orders = [order for order in self.orders if order.left]
        if new.left and new.price and tif in (GTC, POST):
            self.orders.append(new)

    def levels(self, side: Side) -> list[tuple[int, int]]:
        totals: dict[int, int] = {}
        for order in self.orders:
            if order.side is side:
                totals[order.price] = totals.get(order.price, 0) + order.left
        return sorted(totals.items(), reverse=side is BUY)


class AgainstTheNaiveBook(RuleBasedStateMachine):
    """Any orders and cancels of two accounts, one of which is everybody else; every event is read."""

    def __init__(self) -> None:
        super().__init__()
        self.exchange, self.naive = spot(), NaiveBook()
        self.numbers: list[tuple[int, str]] = []
        self.levels: dict[tuple[Side, int], int] = {}  # as the events tell them
        self.last_id = self.exchange.book(SYMBOL, 0).last_id
        self.quote: QuoteChanged | None = None
        self.trades: list[tuple[int, int, int]] = []
        self.lives: dict[int, OrderStatus] = {}

    @rule(
        account=st.sampled_from([MARKET, "me"]), side=st.sampled_from([BUY, SELL]),
        price=st.one_of(st.just(0), *[st.integers(97, 103)] * 5), pieces=st.integers(1, 9),
        tif=st.sampled_from([GTC, GTC, IOC, FOK, POST]),
    )  # fmt: skip
    def place(self, account, side, price, pieces, tif) -> None:
        if price == 0 and (tif is POST or not self.naive.met_by(side, 0)):
            return
        if tif is POST and self.naive.met_by(side, price):
            with pytest.raises(Reject) as refused:
                put(self.exchange, side, price, pieces, account=account, tif=tif)
            assert refused.value.code is RejectCode.WOULD_TAKE
            return
        order = put(self.exchange, side, price, pieces, account=account, tif=tif)
        self.numbers.append((order.order_id, account))
        self.naive.place(NaiveOrder(order.order_id, account, side, price, pieces), tif)

    @rule(ago=st.integers(0, 30))
    def cancel(self, ago) -> None:
        if not self.numbers:
            return
        number, account = self.numbers[-1 - ago % len(self.numbers)]
        standing = [order for order in self.naive.orders if order.number == number]
        if standing:
            self.exchange.cancel(account, SYMBOL, order_id=number, now_ns=0)
            self.naive.orders.remove(standing[0])
        else:
            with pytest.raises(Reject):
                self.exchange.cancel(account, SYMBOL, order_id=number, now_ns=0)

    @invariant()
    def the_books_are_one(self) -> None:
        bids, asks = shown(self.exchange)
        assert (bids, asks) == (self.naive.levels(BUY), self.naive.levels(SELL))
        assert not bids or not asks or bids[0][0] < asks[0][0]
        assert self.exchange.best(SYMBOL) == tuple(side[0][0] * DOLLAR if side else 0 for side in (bids, asks))
        mine = {order.order_id: (order.qty - order.filled_qty) // PIECE for order in self.exchange.open_orders("me")}
        assert mine == {order.number: order.left for order in self.naive.orders if order.account == "me"}

    @invariant()
    def the_events_tell_all_of_it(self) -> None:
        for event in self.exchange.take_events():
            if isinstance(event, LevelChanged):
                assert event.update_id == self.last_id + 1  # ids of spot leave nothing out
                self.last_id = event.update_id
                self.levels[event.side, event.price] = event.qty
            elif isinstance(event, QuoteChanged):
                assert event.update_id == self.last_id
                self.quote = event
            elif isinstance(event, Traded):
                self.trades.append((event.maker_order_id, event.price // DOLLAR, event.qty // PIECE))
            elif isinstance(event, OrderUpdated):
                self.follow(event)
            else:
                assert isinstance(event, BalanceChanged)
        assert self.trades == self.naive.trades
        book = self.exchange.book(SYMBOL, 100)
        assert book.last_id == self.last_id
        for side, levels in ((BUY, book.bids), (SELL, book.asks)):
            told = {price: qty for (of_side, price), qty in self.levels.items() if of_side is side and qty}
            assert told == dict(levels)
        if book.bids and book.asks:
            assert self.quote is not None
            told_quote = (self.quote.bid, self.quote.bid_qty, self.quote.ask, self.quote.ask_qty)
            assert told_quote == (*book.bids[0], *book.asks[0])

    def follow(self, told: OrderUpdated) -> None:
        """An order's life is one that the table of lives knows, and goes the way that it says."""
        record, fill = told.record, told.fill
        assert told.account == record.account == "me"
        if told.execution is ReportType.ACCEPTED:
            order = Order(number=record.order_id, instrument=0, side=record.side, qty=record.qty)
            self.lives[record.order_id] = OrderStatus(order, OrderState.SENT)
        before = self.lives[record.order_id]
        assert not before.state.is_final
        report = Report(order=record.order_id, type=told.execution, ts_ns=0, qty=fill.qty if fill else 0)
        self.lives[record.order_id] = now = after(before, report)
        assert (now.state, now.filled_qty) == (record.state, record.filled_qty)


AgainstTheNaiveBook.TestCase.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
TestOrdersMatchByPriceThenTime = AgainstTheNaiveBook.TestCase


def test_ids_of_derivatives_are_shared_by_all_symbols() -> None:
    exchange = Exchange("binance_usdm", practice_instruments("binance_usdm"), spot=False)
    for symbol in ("BTCUSDT", "ETHUSDT", "BTCUSDT", "SOLUSDT", "BTCUSDT"):
        exchange.place(MARKET, NewOrder(symbol=symbol, side=BUY, price=100, qty=10), 0)
    changes = [(event.symbol, event.update_id) for event in exchange.take_events() if isinstance(event, LevelChanged)]
    ids = [number for _, number in changes]
    assert ids == list(range(ids[0], ids[0] + 5))
    assert exchange.book("BTCUSDT", 1).last_id == ids[-1]
    assert exchange.book("ETHUSDT", 1).last_id == ids[1]


# -- what each kind of order does -------------------------------------------------------------------------------------


def with_asks(*rows) -> Exchange:
    exchange = spot()
    for price, pieces in rows:
        put(exchange, SELL, price, pieces)
    exchange.take_events()
    return exchange


@pytest.mark.parametrize(
    ("tif", "pieces", "filled", "state", "left_asks"),
    [
        (GTC, 60, 60, OrderState.FILLED, [(P, 40), (P + 2, 100)]),
        (GTC, 150, 100, OrderState.PARTIALLY_FILLED, [(P + 2, 100)]),
        (IOC, 150, 100, OrderState.EXPIRED, [(P + 2, 100)]),
        (IOC, 100, 100, OrderState.FILLED, [(P + 2, 100)]),
        (FOK, 150, 0, OrderState.EXPIRED, [(P, 100), (P + 2, 100)]),
        (FOK, 100, 100, OrderState.FILLED, [(P + 2, 100)]),
    ],
)
def test_what_cannot_be_filled_at_the_limit_rests_or_expires(tif, pieces, filled, state, left_asks) -> None:
    exchange = with_asks((P, 100), (P + 2, 100))
    order = put(exchange, BUY, P + 1, pieces, account="me", tif=tif)
    assert (order.filled_qty // PIECE, order.state) == (filled, state)
    bids, asks = shown(exchange)
    assert asks == left_asks
    assert bids == ([(P + 1, pieces - filled)] if state is OrderState.PARTIALLY_FILLED else [])
    assert exchange.open_orders("me") == ([order] if bids else [])


def test_a_market_order_walks_the_book_and_expires_where_it_ends() -> None:
    exchange = with_asks((P, 100), (P + 3, 50))
    order = put(exchange, BUY, 0, 200, account="me")
    assert (order.filled_qty // PIECE, order.state) == (150, OrderState.EXPIRED)
    assert [(fill.price // DOLLAR, fill.qty // PIECE, fill.maker) for fill in order.fills] == [
        (P, 100, False), (P + 3, 50, False),
    ]  # fmt: skip
    assert order.filled_notional == 10 * P + 5 * (P + 3)
    assert exchange.balances("me")["USDT"].locked == 0


@given(st.decimals("6", "4000", places=2))
@settings(max_examples=60)
def test_a_market_order_for_an_amount_of_quote_spends_at_most_that_and_less_than_a_lot_less(amount) -> None:
    exchange = with_asks((P, 100), (P + 3, 200), (P + 9, 100))
    new = NewOrder(symbol=SYMBOL, side=BUY, type=OrderType.MARKET, time_in_force=IOC, quote_qty=amount)
    order = exchange.place("me", new, 0)
    assert order.state is OrderState.FILLED
    instrument = exchange.instruments[SYMBOL]
    assert amount - instrument.notional(order.fills[-1].price, instrument.lot) < order.filled_notional <= amount
    assert order.qty % instrument.lot == 0


def test_own_orders_trade_with_each_other_since_no_prevention_is_offered() -> None:
    """The instrument lists say `selfTradePreventionMode: NONE`: both sides fill, and the account pays both fees."""
    exchange = spot()
    before = exchange.balances("me")
    maker, taker = put(exchange, SELL, P, 10, account="me"), put(exchange, BUY, P, 10, account="me", tif=IOC)
    assert maker.state is taker.state is OrderState.FILLED
    assert [fill.maker for fill in (*maker.fills, *taker.fills)] == [True, False]
    fees = {fill.fee_asset: fill.fee for fill in (*maker.fills, *taker.fills)}
    assert fees == {"USDT": Decimal("0.1"), "BTC": Decimal("0.001")}
    for asset, held in exchange.balances("me").items():
        assert (held.free, held.locked) == (before[asset].free - fees[asset], 0)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        (RejectCode.LOT_SIZE, {"qty": 0}),
        (RejectCode.LOT_SIZE, {"qty": PIECE + 1}),
        (RejectCode.QTY_RANGE, {"qty": 10**15}),
        (RejectCode.TICK_SIZE, {"price": 0}),
        (RejectCode.PRICE_BAND, {"price": P * DOLLAR * 6}),
        (RejectCode.PRICE_BAND, {"price": P * DOLLAR // 6}),
        (RejectCode.MIN_NOTIONAL, {"qty": PIECE // 10}),
        (RejectCode.UNKNOWN_SYMBOL, {"symbol": "NOPE"}),
        (RejectCode.DUPLICATE_CLIENT_ID, {"client_id": "a"}),
        (RejectCode.INSUFFICIENT_BALANCE, {"qty": 89_000 * PIECE, "price": 3 * P * DOLLAR}),
        (RejectCode.WOULD_TAKE, {"price": (P + 10) * DOLLAR, "time_in_force": POST}),
        (RejectCode.REDUCE_ONLY, {"reduce_only": True}),
    ],
)
def test_a_refused_order_leaves_no_trace(code, changes) -> None:
    exchange = with_asks((P + 10, 100))
    put(exchange, BUY, P + 10, 10)  # a last price, for the band
    good = {"symbol": SYMBOL, "side": BUY, "price": P * DOLLAR, "qty": 100 * PIECE, "client_id": "a"}
    exchange.place("me", NewOrder(**good), 0)
    exchange.take_events()
    before = (shown(exchange), exchange.balances("me"), exchange.all_orders("me"))
    with pytest.raises(Reject) as refused:
        exchange.place("me", NewOrder(**{**good, "client_id": "b", **changes}), 0)
    assert refused.value.code is code
    assert (shown(exchange), exchange.balances("me"), exchange.all_orders("me")) == before
    assert exchange.take_events() == []


def test_a_client_id_may_come_again_when_its_order_has_ended() -> None:
    exchange = spot()
    old = put(exchange, BUY, P, 100, account="me", client_id="a")
    exchange.cancel("me", SYMBOL, client_id="a", now_ns=0)
    new = put(exchange, BUY, P, 100, account="me", client_id="a")
    assert exchange.order("me", SYMBOL, client_id="a") is new
    assert exchange.order("me", SYMBOL, order_id=old.order_id) is old
    with pytest.raises(Reject):
        exchange.order("me", "ETHUSDT", client_id="a")


def test_an_account_may_not_have_more_than_two_hundred_open_orders() -> None:
    exchange = spot()
    for _ in range(200):
        put(exchange, BUY, P, 1, account="me")
    with pytest.raises(Reject) as refused:
        put(exchange, BUY, P, 1, account="me")
    assert refused.value.code is RejectCode.MAX_ORDERS
    assert len(exchange.cancel_all("me", None, 0)) == 200
    assert exchange.balances("me")["USDT"].free == 1_000_000


# -- what is remembered -----------------------------------------------------------------------------------------------

prints = st.lists(st.tuples(st.integers(0, 400), st.integers(90, 110), st.integers(1, 9)), min_size=1, max_size=60)


@given(prints, st.sampled_from([1, 60, 180, 300]), st.integers(0, 3), st.integers(1, 4))
@settings(max_examples=80)
def test_candles_and_the_day_are_made_of_the_trades(rows, interval_s, start_min, limit) -> None:
    exchange = spot()
    trades = []
    for at_s, price, pieces in sorted(rows, key=lambda row: row[0]):
        put(exchange, SELL, price, pieces)
        put(exchange, BUY, price, pieces, now_ns=at_s * NS_PER_S)
        trades.append((at_s, Decimal(price), Decimal(pieces) / 10))
    step_s = max(60, interval_s)
    start_s = start_min * step_s
    expected = []
    for opens_s in range(start_s, 481, step_s):
        inside = [(price, qty) for at_s, price, qty in trades if opens_s <= at_s < opens_s + step_s]
        if inside:
            prices = [price for price, _ in inside]
            volume = sum(qty for _, qty in inside)
            expected.append((opens_s * NS_PER_S, prices[0], max(prices), min(prices), prices[-1], volume))
    found = exchange.candles(SYMBOL, interval_s * NS_PER_S, start_s * NS_PER_S, limit)
    told = [(one.open_ns, one.open, one.high, one.low, one.close, one.volume) for one in found]
    assert told == (expected[:limit] if start_s else expected[-limit:])
    day, prices = exchange.market_state(SYMBOL), [price for _, price, _ in trades]
    assert (day.open, day.high, day.low, day.last_price) == tuple(
        int(price) * DOLLAR for price in (prices[0], max(prices), min(prices), prices[-1])
    )
    assert day.volume_24h == sum(qty for _, _, qty in trades)
    assert day.turnover_24h == sum(price * qty for _, price, qty in trades)


def test_the_last_thousand_trades_are_remembered_in_order() -> None:
    exchange = spot()
    put(exchange, SELL, P, 1_200)
    for at_ns in range(1_200):
        put(exchange, BUY, P, 1, now_ns=at_ns)
    told = [event for event in exchange.take_events() if isinstance(event, Traded)]
    assert exchange.recent_trades(SYMBOL, 5_000) == told[-1_000:]
    assert exchange.recent_trades(SYMBOL, 3) == told[-3:]
    assert exchange.recent_trades(SYMBOL, 0) == []
    assert all(later.trade_id == earlier.trade_id + 1 for earlier, later in pairwise(told))
