"""Inputs for kernels: for each input's name, columns that such an input may have, and columns that are hard on arithmetic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from oneprice.compute.kernels.definition import BOOK, Kernel

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
SPECIAL: dict[str, Callable[[np.random.Generator, int], Floats]] = {}


def columns_of(kernel: Kernel, rng: np.random.Generator, n: int) -> Columns:
    """Plausible columns for a kernel's inputs."""
    of_market = market(rng, n)
    return {
        name: SPECIAL[name](rng, n) if name in SPECIAL else of_market[name] if name in of_market else series(rng, n)
        for name in kernel.inputs
    }  # fmt: skip


HARD: dict[str, Callable[[np.random.Generator, int], Floats]] = {
    "constant": lambda rng, n: np.full(n, 5.0),
    "alternating": lambda rng, n: np.where(np.arange(n) % 2 == 0, 1.0, -1.0),
    "ascending": lambda rng, n: np.arange(1.0, n + 1.0),
    "far from zero": lambda rng, n: 1e12 + rng.normal(0.0, 1.0, n),
}
