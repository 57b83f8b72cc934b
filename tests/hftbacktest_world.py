"""The real hftbacktest over an exported file: the books it ends with."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from hftbacktest import ALL_ASSETS, BacktestAsset, HashMapMarketDepthBacktest
from hftbacktest.data import validate_event_order

FOR_EVER_NS = 10**15
THE_END = 1  # what it answers when the data is over


class Played(NamedTuple):
    """What it saw: its books by side in ticks and floats, and how many trades."""

    best_bid_tick: int
    best_ask_tick: int
    qty: dict[tuple[int, int], float]  # (side, tick) → quantity, for those that were asked for
    trades: int


def played(path: Path, *, tick_size: float, lot_size: float, asked: list[tuple[int, int]]) -> Played:
    """Run the package over all events of a file; it has to find them in order."""
    events = np.load(path)["data"]
    validate_event_order(events)
    asset = (
        BacktestAsset()
        .data([str(path)])
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0, 0.0)
        .tick_size(tick_size)
        .lot_size(lot_size)
        .last_trades_capacity(len(events))
    )
    backtest = HashMapMarketDepthBacktest([asset])
    try:
        assert backtest.elapse(FOR_EVER_NS) == THE_END
        depth = backtest.depth(0)
        qty = {(side, tick): (depth.ask_qty_at_tick if side else depth.bid_qty_at_tick)(tick) for side, tick in asked}
        trades = len(backtest.last_trades(0))
        backtest.clear_last_trades(ALL_ASSETS)
        return Played(depth.best_bid_tick, depth.best_ask_tick, qty, trades)
    finally:
        backtest.close()
