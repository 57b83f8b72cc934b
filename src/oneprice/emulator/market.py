"""The seeded market: everybody else's orders on every practice venue, from one random generator.

Fair prices move together (one common factor, one per asset); each market quotes around its fair price plus a deviation
of its own. Now and then a market is dislocated: its deviation jumps by tens of basis points and decays in a second or
two, so that for a moment the law of one price is broken there. Order arrivals excite further arrivals (Hawkes, exponential
kernel). Time is cut into fixed steps inside, so that the result does not depend on how often `advance` is called."""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
import numpy as np

from oneprice.emulator.events import NewOrder, Reject
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.model.instrument import Instrument
from oneprice.model.order import OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS, NS_PER_S

_STEP_NS = 10 * NS_PER_MS
_PRICES = {"BTC": 60_000.0, "ETH": 3_000.0, "BNB": 580.0, "SOL": 150.0, "XRP": 0.55}
_VOLATILITY = {"BTC": 0.9, "ETH": 1.2, "BNB": 1.1, "SOL": 1.6, "XRP": 1.4}  # bps per square root of a second
_HALF_SPREAD_BPS = 0.08
_LEVELS = 40
_LEVEL_VALUE = 9_000.0  # quote units (dollars) at each level, on average
_DISLOCATION_EVERY_S = 0.9  # on average, over all markets
_DISLOCATION_BPS = (45.0, 90.0)
_DECAY_S = (0.9, 2.2)
_EXCITED = 0.55  # branching ratio of the arrivals
_MEMORY_S = 0.4
_FORGETTING = math.exp(-_STEP_NS / NS_PER_S / _MEMORY_S)  # a step
_ROOT_STEP = math.sqrt(_STEP_NS / NS_PER_S)
_BASE_RATE = 1.6  # arrivals a second and market
_MARK_EVERY_NS = NS_PER_S
_EIGHT_HOURS_NS = 8 * 3600 * NS_PER_S


class _Market(msgspec.Struct):
    exchange: Exchange
    instrument: Instrument
    deviation_bps: float = 0.0  # of its own, mean reverting
    dislocated_bps: float = 0.0
    decay_s: float = 1.0
    excitement: float = 0.0
    premium_bps: float = 0.0  # perpetual over index
    bids: dict[int, int] = {}  # price → resting order of the market makers
    asks: dict[int, int] = {}
    centre: int = 0


class SeededMarket:
    """Drives the exchanges; `advance` brings them to a time."""

    def __init__(self, exchanges: Mapping[str, Exchange], *, seed: int, start_ns: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._fair = dict(_PRICES)
        self._markets = [
            _Market(exchanges[venue], instrument)
            for venue in sorted(exchanges)
            for instrument in exchanges[venue].instruments.values()
        ]
        # Crosses close triangles, and there are few of them: they are dislocated more often than their number asks for.
        weights = np.array([1.0 if market.instrument.quote == "USDT" else 2.5 for market in self._markets])
        self._chances = weights / weights.sum()
        self._now_ns = start_ns // _STEP_NS * _STEP_NS
        self._next_mark_ns = self._now_ns
        self._next_funding_ns = (self._now_ns // _EIGHT_HOURS_NS + 1) * _EIGHT_HOURS_NS
        for market in self._markets:
            self._requote(market)
            self._trade(market)

    def advance(self, now_ns: int) -> None:
        """Let everything happen that happens until `now_ns`."""
        while self._now_ns + _STEP_NS <= now_ns:
            self._now_ns += _STEP_NS
            self._step()

    def _step(self) -> None:
        rng, step_s = self._rng, _STEP_NS / NS_PER_S
        common, *owns = rng.standard_normal(1 + len(self._fair)).tolist()
        for asset, own in zip(self._fair, owns, strict=True):
            move_bps = _VOLATILITY[asset] * _ROOT_STEP * (0.8 * common + 0.6 * own)
            self._fair[asset] *= 1.0 + move_bps / 1e4
        if rng.random() < step_s / _DISLOCATION_EVERY_S:
            market = self._markets[int(rng.choice(len(self._markets), p=self._chances))]
            market.dislocated_bps = float(rng.uniform(*_DISLOCATION_BPS)) * (1 if rng.random() < 0.5 else -1)
            market.decay_s = float(rng.uniform(*_DECAY_S))
            self._requote(market)
        draws = rng.random(len(self._markets))
        for market, draw in zip(self._markets, draws.tolist(), strict=True):
            if market.dislocated_bps != 0.0:
                market.dislocated_bps *= math.exp(-step_s / market.decay_s)
                if abs(market.dislocated_bps) < 0.5:
                    market.dislocated_bps = 0.0
            market.excitement *= _FORGETTING
            rate = _BASE_RATE * 4 + market.excitement / _MEMORY_S
            if draw < rate * step_s:
                market.excitement += _EXCITED
                self._arrive(market)
        if self._now_ns >= self._next_funding_ns:
            self._settle_all()
        if self._now_ns >= self._next_mark_ns:
            self._next_mark_ns += _MARK_EVERY_NS
            self._mark_all()

    def _arrive(self, market: _Market) -> None:
        """Somebody comes: makers requote, or a taker trades, or both."""
        kind = self._rng.random()
        market.deviation_bps = 0.9 * market.deviation_bps + 0.25 * float(self._rng.standard_normal())
        if kind < 0.75:
            self._requote(market)
        if kind > 0.6:
            self._trade(market)

    def _fair_price(self, market: _Market) -> float:
        instrument = market.instrument
        price = self._fair[instrument.base]
        if instrument.quote != "USDT":
            price /= self._fair[instrument.quote]
        return price * (1.0 + (market.deviation_bps + market.dislocated_bps + market.premium_bps) / 1e4)

    def _requote(self, market: _Market) -> None:
        """Makers move their quotes to where the price is now: what is missing comes, what is out of place goes."""
        instrument, exchange, rng = market.instrument, market.exchange, self._rng
        fair = self._fair_price(market)
        tick = instrument.tick
        middle = fair / instrument.price_scale
        half = max(0.5 * tick, middle * _HALF_SPREAD_BPS / 1e4)
        best_bid = int((middle - half) // tick) * tick
        best_ask = max(int(-(-(middle + half) // tick)) * tick, best_bid + tick)
        gap = max(tick, int(middle * 0.35 / 1e4) // tick * tick)  # between levels
        value = _LEVEL_VALUE / (self._fair[instrument.quote] if instrument.quote != "USDT" else 1.0)
        wanted_bids = [best_bid - k * gap for k in range(_LEVELS)]
        wanted_asks = [best_ask + k * gap for k in range(_LEVELS)]
        for side, held in ((Side.BUY, market.bids), (Side.SELL, market.asks)):
            low, high = (wanted_bids[-1], best_bid) if side is Side.BUY else (best_ask, wanted_asks[-1])
            for price in [price for price in held if price < low or price > high]:
                self._withdraw(exchange, instrument.symbol, held, price)
        price_scale, qty_scale = instrument.price_scale, instrument.qty_scale
        for side, held, prices in ((Side.BUY, market.bids, wanted_bids), (Side.SELL, market.asks, wanted_asks)):
            missing = _LEVELS - len(held)
            sizes = rng.exponential(1.0, size=len(prices)).tolist()
            totals = exchange.totals(instrument.symbol, side)
            for place, price in enumerate(prices):
                if price <= 0:
                    continue
                if price in held and price in totals:
                    if place < 3 and rng.random() < 0.15:
                        self._withdraw(exchange, instrument.symbol, held, price)
                    else:
                        continue
                elif place > 2 and missing <= 0:
                    continue
                missing -= 1
                qty = max(
                    instrument.lot,
                    instrument.round_down_to_lot(int(value * (0.3 + sizes[place]) / (price * price_scale) / qty_scale)),
                )
                order = NewOrder(symbol=instrument.symbol, side=side, qty=qty, price=price)
                held[price] = exchange.place(MARKET, order, self._now_ns).order_id

    def _withdraw(self, exchange: Exchange, symbol: str, held: dict[int, int], price: int) -> None:
        try:
            exchange.cancel(MARKET, symbol, order_id=held.pop(price), now_ns=self._now_ns)
        except Reject:
            return  # it has been filled meanwhile

    def _trade(self, market: _Market) -> None:
        """A taker's order: small most of the time."""
        instrument, exchange, rng = market.instrument, market.exchange, self._rng
        side = Side.BUY if rng.random() < 0.5 else Side.SELL
        touch = exchange.best(instrument.symbol)[1 if side is Side.BUY else 0]
        if not touch:
            return
        value = float(rng.exponential(1_200.0)) / (
            self._fair[instrument.quote] if instrument.quote != "USDT" else 1.0
        )  # fmt: skip
        qty = instrument.round_down_to_lot(
            int(value / (touch * instrument.price_scale) / instrument.qty_scale)
        )  # fmt: skip
        if qty < instrument.lot:
            return
        order = NewOrder(
            symbol=instrument.symbol, side=side, type=OrderType.MARKET, time_in_force=TimeInForce.IOC, qty=qty
        )
        exchange.place(MARKET, order, self._now_ns)

    def _settle_all(self) -> None:
        """Funding is paid when it was announced for, at the rate that was announced last."""
        for market in self._markets:
            if not market.exchange.spot:
                market.exchange.settle_funding(market.instrument.symbol, self._now_ns)
        self._next_funding_ns += _EIGHT_HOURS_NS

    def _mark_all(self) -> None:
        for market in self._markets:
            if market.exchange.spot:
                continue
            instrument = market.instrument
            index = self._fair[instrument.base]
            market.premium_bps = 0.8 * market.premium_bps + 0.2 * float(self._rng.standard_normal())
            mark = index * (1.0 + market.premium_bps / 1e4)
            rate = 0.0001 + max(-0.0005, min(0.0005, market.premium_bps / 1e4))
            market.exchange.market_state(instrument.symbol).open_interest = 20_000.0 * 3_000.0 / index
            market.exchange.set_mark(
                instrument.symbol, mark=round(mark, 8), index=round(index, 8), funding_rate=round(rate, 8),
                next_funding_ns=self._next_funding_ns, now_ns=self._now_ns,
            )  # fmt: skip
