"""What the real vectorbt makes of `market.csv` and `fills.csv`. It is imported when it is used: that takes seconds, and every
test process imports all test files."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd

MARKET_HEADER = "timestamp,symbol,open,high,low,close,volume,bid,ask,spread,mid"
FILLS_HEADER = "timestamp,symbol,side,price,qty,fee,pnl,position"
CASH = 1e9  # enough for every order


def header(path: Path) -> str:
    return path.read_text().splitlines()[0]


def read(path: Path) -> pd.DataFrame:
    table = pd.read_csv(path, parse_dates=["timestamp"])
    assert str(table["timestamp"].dt.tz) == "UTC"
    return table


def replayed_fills(path: Path) -> int:
    """Run every symbol's fills as orders of a portfolio; cash, positions and realised results are the file's. → fills"""
    import vectorbt

    fills = pd.read_csv(path)
    for _, of_symbol in fills.groupby("symbol"):
        rows = of_symbol.reset_index(drop=True)
        signed = rows["qty"].where(rows["side"] == "BUY", -rows["qty"])
        portfolio = vectorbt.Portfolio.from_orders(
            rows["price"], size=signed, price=rows["price"], fixed_fees=rows["fee"], init_cash=CASH, freq="1s"
        )
        assert portfolio.orders.count() == len(rows)
        moved = -(signed * rows["price"]) - rows["fee"]
        np.testing.assert_allclose(portfolio.cash_flow(), moved, rtol=1e-9, atol=1e-9)
        np.testing.assert_allclose(portfolio.assets(), rows["position"], rtol=1e-9, atol=1e-9)
        exits = portfolio.exit_trades.records
        exits = exits[exits["status"] == 1]  # the rest is what is held at the end
        realised = (exits["pnl"] + exits["entry_fees"] + exits["exit_fees"]).sum()
        scale = float((rows["qty"] * rows["price"]).sum())
        assert abs(realised - (rows["pnl"] + rows["fee"]).sum()) <= 1e-9 * scale
    return len(fills)


def traded_bars(path: Path) -> int:
    """Run a strategy of signals over the closes of the symbol with most bars; its cash is what a plain sum of its trades
    gives. → trades"""
    import vectorbt

    market = read(path)
    assert not market.duplicated(["timestamp", "symbol"]).any()
    assert market["timestamp"].is_monotonic_increasing
    wide = market.pivot(index="timestamp", columns="symbol", values="close")
    close = wide[wide.count().idxmax()].dropna()
    change = close.diff()
    entries, exits = change < 0, change > 0
    portfolio = vectorbt.Portfolio.from_signals(
        close, entries, exits, size=1.0, fees=0.001, init_cash=CASH, freq="1s"
    )  # fmt: skip
    held, cash, trades = False, 0.0, 0
    for price, enters, leaves in zip(close, entries, exits, strict=True):
        if (enters and not held) or (leaves and held):
            held = not held
            trades += 1
            cash += (-price if held else price) - 0.001 * price
    assert portfolio.orders.count() == trades
    assert abs(portfolio.cash_flow().sum() - cash) < 1e-6
    return trades


def decimals(path: Path, column: str) -> list[Decimal]:
    return [Decimal(text) for text in pd.read_csv(path, dtype=str)[column]]
