"""Inputs for kernels: for each input's name, columns that such an input may have, and columns that are hard on arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oneprice.compute.kernels.definition import BOOK, Kernel
from shared_data import shared

Floats = NDArray[np.float64]
Columns = dict[str, Floats]
LEVELS = 12
STEP_NS = 250_000_000


def times(rng: np.random.Generator, n: int) -> NDArray[np.int64]:
    """Receive times that ascend, some of them equal."""
    return 1_769_083_200_000_000_000 + np.cumsum(rng.integers(0, 2 * STEP_NS, n) * (rng.random(n) > 0.1)).astype(
        np.int64
    )


def prices(rng: np.random.Generator, n: int) -> Floats:
    return np.round(100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-3, n))), 2)


def market(rng: np.random.Generator, n: int) -> Columns:
    """One market: trade prices, quantities and sides, the touch around them, bars, returns, a book."""
    p = prices(rng, n)
    half = 0.01 * rng.integers(1, 4, n)
    b, a = np.round(p - half, 2), np.round(p + half, 2)
    high, low = p * (1.0 + np.abs(rng.normal(0, 1e-3, n))), p * (1.0 - np.abs(rng.normal(0, 1e-3, n)))
    opened = low + (high - low) * rng.random(n)
    ladder = 0.01 * np.cumsum(rng.integers(1, 3, (n, LEVELS)), axis=1)
    sizes = rng.integers(1, 200, (2, n, LEVELS)) / 10.0
    book = np.stack(
        [b[:, None] - ladder + ladder[:, :1], sizes[0], a[:, None] + ladder - ladder[:, :1], sizes[1]], axis=1
    )
    return {
        "p": p, "q": rng.integers(1, 500, n) / 100.0, "s": rng.choice([-1.0, 1.0], n), "b": b, "a": a, "m": (a + b) / 2.0,
        "B": sizes[0][:, 0], "A": sizes[1][:, 0], "O": opened, "H": high, "L": low, "C": p, "V": rng.random(n) * 10.0,
        "r": rng.normal(0.0, 1e-3, n), BOOK: book,
    }  # fmt: skip


def series(rng: np.random.Generator, n: int) -> Floats:
    return np.cumsum(rng.normal(0.0, 1.0, n))


# Families put the names of their own inputs here: name → columns for a generator and a length.
SPECIAL: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "flag": lambda rng, n: rng.choice([-1.0, 0.0, 1.0], n),
    "event": lambda rng, n: (rng.random(n) < 0.4).astype(float),
    "quote_volume": lambda rng, n: 1e6 * rng.random(n) * (rng.random(n) > 0.05),
    "size": lambda rng, n: rng.integers(1, 2_000, n) / 10.0,
    "side": lambda rng, n: rng.choice([-1.0, 1.0], n),
    "spread_bps": lambda rng, n: np.abs(5.0 + rng.standard_normal(n)),
}


def between(low: float, high: float, *width: int) -> Callable[[np.random.Generator, int], Floats]:
    return lambda rng, n: rng.uniform(low, high, (n, *width))


# fx, crypto
SPECIAL |= {name: between(99.0, 100.0) for name in ("b1", "b2", "b3", "fill")}
SPECIAL |= {name: between(100.0, 101.0) for name in ("a1", "a2", "a3")}
SPECIAL |= {name: between(0.5, 2.0) for name in ("x0", "x1", "conv", "tau")}
SPECIAL |= {name: between(-1e-3, 2e-3) for name in ("rate", "r_base", "r_quote", "r_usd", "r_for")}
SPECIAL |= {name: between(98.0, 102.0) for name in ("S", "F", "p0", "p1", "index", "mark", "last", "price")}
SPECIAL |= {
    "days": between(-1.0, 90.0), "vol": between(0.0, 1.0), "oi": between(1e3, 2e3), "notional": between(0.0, 1e5),
    "fees_bps": between(0.0, 20.0), "term": between(0.0, 90.0),
    "interval_h": lambda rng, n: rng.choice([1.0, 4.0, 8.0], n),
    "fix": lambda rng, n: rng.choice([0.0, 1.0, -1.0], n, p=[0.9, 0.05, 0.05]),
    # Whole ascending seconds, in step with `times`, which settle often.
    "next_t": lambda rng, n: 1_769_083_200e9 + 20e9 * np.ceil(np.arange(1.0, n + 1.0) / 80.0 + rng.random()),
    "YEARS": between(-0.1, 1.0, 3), "FUTURES": between(99.0, 103.0, 3), "METRICS": between(0.0, 30.0, 5),
    "SIZES": between(0.0, 9.0, 2), "BID": between(99.0, 100.5, 2), "ASK": between(100.0, 101.0, 2),
    "BID_QTY": between(-0.1, 2.0, 2), "ASK_QTY": between(-0.1, 2.0, 2), "FEE_BPS": between(-1.0, 5.0, 2),
}  # fmt: skip
# data quality, safety
SPECIAL |= {
    "id": lambda rng, n: np.cumsum(rng.integers(0, 3, n)).astype(float),
    "t_venue": lambda rng, n: times(rng, n).astype(float),
    "t_sent": lambda rng, n: times(rng, n) - rng.integers(10**11, 2 * 10**11, n) * 1.0,
    "t_quote": lambda rng, n: times(rng, n) - rng.integers(10**11, 2 * 10**11, n) * 1.0,
    "is_trade": lambda rng, n: rng.integers(0, 2, n).astype(float),
    "vwap": prices,
    "ref": prices,
    "typical_q": lambda rng, n: rng.integers(1, 10, n) / 10.0,
    "weight": lambda rng, n: rng.integers(0, 4, n).astype(float),
}


_RECORDED = "data/market/binance_depth1000_2026-02-16/{}_btc_fut_2026-02-16_04.parquet"


@cache
def recorded() -> tuple[NDArray[np.int64], Columns]:
    """Receive times and columns of a recorded market: each trade with the book before it, its last ten trades as a bar."""
    n = 2_000
    books = pl.read_parquet(shared(_RECORDED.format("lobdeep"))).sort("ts_ms")
    trades = pl.read_parquet(shared(_RECORDED.format("trades"))).head(3 * n).sort("ts_ms", maintain_order=True)
    both = trades.join_asof(books, on="ts_ms", suffix="_of_book").drop_nulls("bids_px").head(n)
    lists = (both[name].list.head(LEVELS) for name in ("bids_px", "bids_qty", "asks_px", "asks_qty"))
    book = np.stack([np.array(one.to_list(), dtype=float) for one in lists], axis=1)
    p, q = both["price"].to_numpy().astype(float), both["qty"].to_numpy().astype(float)
    last_ten = np.lib.stride_tricks.sliding_window_view(np.concatenate([np.full(9, p[0]), p]), 10)
    m = (book[:, 0, 0] + book[:, 2, 0]) / 2.0
    columns = {
        "p": p, "q": q, "s": np.where(both["side"].str.to_lowercase() == "buy", 1.0, -1.0), "b": book[:, 0, 0],
        "a": book[:, 2, 0], "B": book[:, 1, 0], "A": book[:, 3, 0], "m": m, "x": p, "y": m, "C": p, "V": q,
        "O": last_ten[:, 0].copy(), "H": last_ten.max(axis=1), "L": last_ten.min(axis=1),
        "r": np.diff(np.log(m), prepend=np.nan), BOOK: book,
    }  # fmt: skip
    return both["ts_ms"].to_numpy() * 1_000_000, columns


def recorded_columns_of(kernel: Kernel, rng: np.random.Generator) -> tuple[NDArray[np.int64], Columns]:
    """Of a kernel's inputs what was recorded is recorded, the rest plausible."""
    t, known = recorded()
    return t, columns_of(kernel, rng, len(t)) | {name: known[name] for name in kernel.inputs if name in known}


def columns_of(kernel: Kernel, rng: np.random.Generator, n: int) -> Columns:
    """Plausible columns for a kernel's inputs."""
    return columns_in(market(rng, n), kernel, rng)


def columns_in(of_market: Columns, kernel: Kernel, rng: np.random.Generator) -> Columns:
    """The same in a market that is there already."""
    n = len(of_market["p"])
    return {
        name: SPECIAL[name](rng, n) if name in SPECIAL else of_market[name] if name in of_market else series(rng, n)
        for name in kernel.inputs
    }  # fmt: skip


# What no market has, but a broken feed may say: no numbers, nothing, what is below zero, what overflows when it is squared,
# doubled or divided by.
ABSURD = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, -1.0, 1e300, -1e300, 1e154, 1.7e308, -1.7e308, 1e-300, 5e-324]
)  # fmt: skip


def made_absurd(columns: Columns, rng: np.random.Generator, share: float) -> Columns:
    """The same with so great a share of all numbers absurd."""
    return {
        name: np.where(rng.random(column.shape) < share, rng.choice(ABSURD, column.shape), column)
        for name, column in columns.items()
    }  # fmt: skip


HARD: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "constant": lambda rng, n: np.full(n, 5.0),
    "alternating": lambda rng, n: np.where(np.arange(n) % 2 == 0, 1.0, -1.0),
    "ascending": lambda rng, n: np.arange(1.0, n + 1.0),
    "far from zero": lambda rng, n: 1e12 + rng.normal(0.0, 1.0, n),
}

SPECIAL |= {
    "vol": lambda rng, n: 1e-3 * (0.1 + rng.random(n)),  # relative, over a row or so
    "W": lambda rng, n: rng.dirichlet(np.ones(20), n),  # weights of twenty assets
    "R": lambda rng, n: rng.normal(0.0, 1e-2, (n, 20)),  # and their returns
}

# execution
SPECIAL |= {
    name: between(99.0, 101.0) for name in ("p_dec", "p_send", "p_end", "arrival", "m_arrival", "m_send", "touch")
}
SPECIAL |= {name: between(0.5, 2.0) for name in ("eta", "gamma", "epsilon", "lambda_", "T", "sigma")}
SPECIAL |= {
    "done": lambda rng, n: np.cumsum(rng.random(n)), "fee": between(-0.1, 0.1), "n": between(0.0, 2.0), "X": between(-9.0, 9.0),
    "N": lambda rng, n: rng.integers(0, 9, n).astype(float), "Q": lambda rng, n: rng.integers(1, 200, n) / 10.0,
    "ADV": between(1e3, 2e3), "inventory": between(-3.0, 3.0), "tick": lambda rng, n: rng.choice([0.01, 0.05], n),
    "display": between(0.5, 3.0), "PRICE": lambda rng, n: 100.0 + 0.01 * np.tile(np.arange(5), 2) + 0.01 * rng.random((n, 10)),
    "QTY": between(-0.1, 5.0, 10), "LOT": lambda rng, n: rng.choice([0.0, 0.1, 0.25], (n, 2)),
    "MIN_NOTIONAL": lambda rng, n: rng.choice([0.0, 50.0, 400.0], (n, 2)),
}  # fmt: skip


def covariances(rng: np.random.Generator, n: int) -> Floats:
    """Of three assets, row by row."""
    factors = rng.normal(0.0, 0.02, (n, 3, 4))
    return (factors @ factors.transpose(0, 2, 1)).reshape(n, 9)


SPECIAL |= {
    "equity": lambda rng, n: 1e4 * np.exp(np.cumsum(rng.normal(0.0, 1e-2, n))),
    "factor": lambda rng, n: rng.normal(0.0, 1e-3, n),
    "win_prob": between(0.0, 1.0), "payoff": between(0.2, 3.0), "mu": between(-0.1, 0.5), "variance": between(0.01, 0.2),
    "SIGMA": covariances, "BUDGETS": between(0.1, 3.0, 3), "POSITIONS": between(-1e4, 1e4, 6),
}  # fmt: skip
SPECIAL |= {"px": prices, "py": prices}
SPECIAL |= {"SERIES": lambda rng, n: rng.normal(0.0, 1.0, (n, 2)).cumsum(axis=0)}  # two prices
