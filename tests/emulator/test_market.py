"""The seeded market: the same every time, cut how you like, and like a market to look at."""

from __future__ import annotations

from collections import Counter, defaultdict
from decimal import Decimal
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.emulator.events import Event, FundingPaid, LevelChanged, MarkChanged, NewOrder, QuoteChanged, Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.instruments import practice_instruments
from oneprice.emulator.market import SeededMarket
from oneprice.model.order import OrderState, OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS, NS_PER_S

VENUES = ("binance_spot", "binance_usdm", "bybit_linear", "bybit_spot")
START_NS = 1_800_000_000 * NS_PER_S
EIGHT_HOURS_NS = 8 * 3600 * NS_PER_S
SECONDS = 60
LOOK_EVERY_NS = 20 * NS_PER_MS


def world(seed: int, venues=VENUES, start_ns: int = START_NS) -> tuple[dict[str, Exchange], SeededMarket]:
    exchanges = {name: Exchange(name, practice_instruments(name), spot=name.endswith("spot")) for name in venues}
    return exchanges, SeededMarket(exchanges, seed=seed, start_ns=start_ns)


def taken(exchanges) -> dict[str, list[Event]]:
    return {name: exchange.take_events() for name, exchange in exchanges.items()}


# -- the same every time ----------------------------------------------------------------------------------------------


@given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, 1500), max_size=12))
@settings(max_examples=8)
def test_the_market_is_a_function_of_its_seed_however_time_is_cut(seed, cuts) -> None:
    exchanges, market = world(seed)
    market.advance(START_NS + 1500 * NS_PER_MS)
    in_one_go = taken(exchanges)
    exchanges, market = world(seed)
    told: dict[str, list[Event]] = {name: [] for name in VENUES}
    for cut_ms in [*sorted(cuts), 1500]:
        market.advance(START_NS + cut_ms * NS_PER_MS)
        for name, events in taken(exchanges).items():
            told[name] += events
    is_the_same = told == in_one_go  # thousands of events: no difference of theirs can be read
    assert is_the_same


def test_another_seed_is_another_market() -> None:
    streams = []
    for seed in range(5):
        exchanges, market = world(seed, ("binance_spot",))
        market.advance(START_NS + NS_PER_S)
        streams.append(taken(exchanges))
    assert all(one != other for k, one in enumerate(streams) for other in streams[:k])


def test_nothing_happens_before_its_time_or_twice() -> None:
    exchanges, market = world(3)
    taken(exchanges)
    market.advance(START_NS + 500 * NS_PER_MS)
    for events in taken(exchanges).values():
        times = [event.ts_ns for event in events]
        assert START_NS < times[0] <= times[-1] <= START_NS + 500 * NS_PER_MS
        assert times == sorted(times)
    market.advance(START_NS)  # back: nothing
    assert not any(taken(exchanges).values())


# -- like a market ----------------------------------------------------------------------------------------------------


class Seen:
    """One minute of all venues, looked at every 20 ms."""

    def __init__(self, seed: int) -> None:
        self.exchanges, market = world(seed)
        exchanges = self.exchanges
        self.opened = taken(exchanges)
        self.events: dict[str, list[Event]] = {name: [] for name in exchanges}
        self.quotes: dict[tuple[str, str], np.ndarray] = {}
        self.depths: set[int] = set()
        looks = defaultdict(list)
        for now_ns in range(START_NS + LOOK_EVERY_NS, START_NS + SECONDS * NS_PER_S + 1, LOOK_EVERY_NS):
            market.advance(now_ns)
            for name, exchange in exchanges.items():
                self.events[name] += exchange.take_events()
                for symbol in exchange.instruments:
                    looks[name, symbol].append(exchange.best(symbol))
                    if now_ns % NS_PER_S == 0:
                        book = exchange.book(symbol, 1000)
                        assert all(better > worse for (better, _), (worse, _) in pairwise(book.bids))
                        assert all(better < worse for (better, _), (worse, _) in pairwise(book.asks))
                        self.depths |= {len(book.bids), len(book.asks)}
        self.instruments = {
            (name, s): i for name, exchange in exchanges.items() for s, i in exchange.instruments.items()
        }
        for key, rows in looks.items():
            self.quotes[key] = np.array(rows, dtype=np.float64) * self.instruments[key].price_scale

    def quote(self, venue: str, symbol: str) -> tuple[np.ndarray, np.ndarray]:
        quotes = self.quotes[venue, symbol]
        return quotes[:, 0], quotes[:, 1]


@cache
def seen(seed: int) -> Seen:
    return Seen(seed)


every_seed = pytest.mark.parametrize("seed", (1, 7))


@every_seed
def test_every_price_is_on_the_grid_and_every_size_a_lot(seed) -> None:
    for venue, events in seen(seed).events.items():
        for event in (*seen(seed).opened[venue], *events):
            instrument = seen(seed).instruments[venue, event.symbol]
            if isinstance(event, LevelChanged | Traded):
                assert event.price > 0
                assert event.price % instrument.tick == 0
                assert event.qty % instrument.lot == 0
                assert event.qty >= instrument.min_qty or (isinstance(event, LevelChanged) and event.qty == 0)


@every_seed
def test_every_book_has_two_sides_that_never_meet(seed) -> None:
    for bids, asks in (seen(seed).quote(*key) for key in seen(seed).quotes):
        assert (bids > 0).all()
        assert (bids < asks).all()
    for events in seen(seed).events.values():
        assert all(event.bid < event.ask for event in events if isinstance(event, QuoteChanged))


@every_seed
def test_spreads_are_a_few_ticks_or_a_fraction_of_a_basis_point(seed) -> None:
    for key, (bids, asks) in ((key, seen(seed).quote(*key)) for key in seen(seed).quotes):
        instrument = seen(seed).instruments[key]
        tick_bps = instrument.tick * instrument.price_scale / bids * 1e4
        bps = (asks / bids - 1.0) * 1e4
        assert np.median(bps / np.maximum(tick_bps, 0.1)) < 2.5, key
        assert np.quantile(bps, 0.95) < 8.0, key  # taker orders open it for a moment


@every_seed
def test_trades_come_in_clusters(seed) -> None:
    """Counts in windows of half a second scatter more than those of independent arrivals would (Poisson: 1)."""
    ratios = []
    for venue, events in seen(seed).events.items():
        for symbol in {event.symbol for event in events if isinstance(event, Traded)}:
            # One taker's order that meets several makers is one arrival.
            arrivals = {e.taker_order_id: e.ts_ns for e in events if isinstance(e, Traded) and e.symbol == symbol}
            windows = Counter((ts_ns - START_NS) // (NS_PER_S // 2) for ts_ns in arrivals.values())
            counts = np.array([windows[k] for k in range(2 * SECONDS)])
            ratios.append(counts.var() / counts.mean())
            assert counts.sum() > 50, (venue, symbol)
    assert np.mean(ratios) > 1.15


@every_seed
def test_assets_move_together_and_markets_of_one_asset_stay_together(seed) -> None:
    index = defaultdict(list)
    for event in seen(seed).events["binance_usdm"]:
        if isinstance(event, MarkChanged):
            index[event.symbol].append(event.index)
    moves = np.diff(np.log([index[symbol] for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]))
    assert np.corrcoef(moves)[np.triu_indices(3, 1)].min() > 0.3
    middles = [np.mean(seen(seed).quote(venue, "BTCUSDT"), axis=0) for venue in VENUES]
    for middle in middles:
        apart_bps = np.abs(middle / np.median(middles, axis=0) - 1.0) * 1e4
        assert np.median(apart_bps) < 5.0


@every_seed
def test_dislocations_come_and_decay_in_a_second_or_two(seed) -> None:
    lengths, kept_after_a_second, widest_bps = [], [], 0.0
    second = NS_PER_S // LOOK_EVERY_NS
    for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT"):
        middles = np.array([np.mean(seen(seed).quote(venue, symbol), axis=0) for venue in VENUES])
        apart_bps = np.abs(middles / np.median(middles, axis=0) - 1.0) * 1e4
        for of_venue in apart_bps:
            away = np.concatenate([[False], of_venue > 25.0, [False]]).astype(np.int8)
            starts, ends = (np.flatnonzero(np.diff(away) == change) for change in (1, -1))
            lengths += list((ends - starts) * LOOK_EVERY_NS / NS_PER_S)
            kept_after_a_second += [of_venue[k + second] / of_venue[k] for k in starts if k + second < of_venue.size]
            widest_bps = max(widest_bps, of_venue.max())
    assert len(lengths) >= 15  # of twelve markets in a minute
    assert 45.0 < widest_bps < 110.0
    assert 0.8 < np.median(lengths) < 2.0
    assert max(lengths) < 6.0  # one may come while another lasts
    assert 0.3 < np.median(kept_after_a_second) < 0.7


@every_seed
def test_history_is_made_of_the_trades_that_were_told(seed) -> None:
    for venue, exchange in seen(seed).exchanges.items():
        for symbol, instrument in exchange.instruments.items():
            told = [*seen(seed).opened[venue], *seen(seed).events[venue]]
            trades = [event for event in told if isinstance(event, Traded) and event.symbol == symbol]
            assert exchange.recent_trades(symbol, 1000) == trades[-1000:]
            first, *_ = candles = exchange.candles(symbol, 60 * NS_PER_S, 0, 10)
            assert first.open == instrument.price(trades[0].price)
            assert candles[-1].close == instrument.price(trades[-1].price)
            assert sum(candle.volume for candle in candles) == instrument.qty(sum(trade.qty for trade in trades))
            assert max(candle.high for candle in candles) == instrument.price(max(trade.price for trade in trades))
            assert min(candle.low for candle in candles) == instrument.price(min(trade.price for trade in trades))


@pytest.mark.parametrize("offset_ms", [0, 500])
def test_funding_is_paid_when_and_at_the_rate_that_was_announced_last(offset_ms) -> None:
    due_ns = (START_NS // EIGHT_HOURS_NS + 1) * EIGHT_HOURS_NS
    exchanges, market = world(5, ("binance_usdm",), due_ns - 3 * NS_PER_S + offset_ms * NS_PER_MS)
    usdm = exchanges["binance_usdm"]
    usdm.open_account("practice", {"USDT": Decimal(1_000_000)})
    market.advance(due_ns - 2 * NS_PER_S)
    new = NewOrder(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, time_in_force=TimeInForce.IOC, qty=10)
    assert usdm.place("practice", new, due_ns - 2 * NS_PER_S).state is OrderState.FILLED
    market.advance(due_ns + 3 * NS_PER_S)
    events = usdm.take_events()
    marks = [event for event in events if isinstance(event, MarkChanged) and event.symbol == "BTCUSDT"]
    assert all(event.ts_ns < event.next_funding_ns <= event.ts_ns + EIGHT_HOURS_NS for event in marks)
    announced = [event for event in marks if event.ts_ns < due_ns][-1]
    (settled,) = usdm.funding_history("BTCUSDT", 10)
    assert (settled.ts_ns, float(settled.rate), float(settled.mark_price)) == (
        due_ns, announced.funding_rate, announced.mark,
    )  # fmt: skip
    (paid,) = (event for event in events if isinstance(event, FundingPaid))
    assert (paid.ts_ns, paid.amount) == (due_ns, -Decimal("0.01") * settled.rate * settled.mark_price)


# -- our own orders ---------------------------------------------------------------------------------------------------


def test_our_own_order_moves_the_book_and_the_market_comes_back() -> None:
    exchanges, market = world(7)
    spot = exchanges["binance_spot"]
    spot.open_account("practice", {"USDT": Decimal(10_000_000)})
    asks = spot.book("BTCUSDT", 10).asks
    qty = spot.instruments["BTCUSDT"].round_down_to_lot(sum(size for _, size in asks))
    new = NewOrder(symbol="BTCUSDT", side=Side.BUY, type=OrderType.MARKET, time_in_force=TimeInForce.IOC, qty=qty)
    bought = spot.place("practice", new, START_NS)
    assert bought.state is OrderState.FILLED
    assert spot.best("BTCUSDT")[1] > asks[-1][0]  # ten levels are gone
    market.advance(START_NS + 5 * NS_PER_S)
    bid, ask = spot.best("BTCUSDT")
    assert (ask / bid - 1.0) * 1e4 < 1.0
    assert len(spot.book("BTCUSDT", 1000).asks) >= 35


def test_our_resting_order_is_traded_with() -> None:
    exchanges, market = world(7)
    spot = exchanges["binance_spot"]
    spot.open_account("practice", {"USDT": Decimal(10_000_000)})
    instrument = spot.instruments["BTCUSDT"]
    bid, ask = spot.best("BTCUSDT")
    new = NewOrder(
        symbol="BTCUSDT", side=Side.BUY, price=max(bid, ask - instrument.tick),
        qty=instrument.qty_mantissa(Decimal("0.001")), time_in_force=TimeInForce.POST_ONLY,
    )  # fmt: skip
    order = spot.place("practice", new, START_NS)
    market.advance(START_NS + 60 * NS_PER_S)
    assert order.state is OrderState.FILLED
    assert all(fill.maker for fill in order.fills)
