"""Rows of many symbols give what each symbol gives alone, whoever computes them and wherever they go on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_world import prices, times

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.partitioned import Partitioned, partition_of
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.streaming import Streaming

N = 300
SYMBOLS = np.array(["BTCUSDT", "ETHUSDT", "SOLUSDT", "BTC-PERP"])
GOLDEN = [654, 380, 214, 33]
FEATURES = (
    Feature(name="ret", kernel="log_returns", sources={"p": "x"}),
    Feature(name="z", kernel="rolling_zscore", parameters={"w": "5s"}),
)
MAKERS: dict[str, Callable[[], Streaming | Pipeline]] = {
    "kernel": lambda: Streaming("rolling_zscore", w="5s"),
    "pipeline": lambda: Pipeline(FEATURES),
}


def world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.choice(SYMBOLS, N), times(rng, N), prices(rng, N)


@pytest.mark.parametrize("what", MAKERS)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, N), max_size=4), threads=st.integers(1, 3))
def test_each_symbol_is_as_if_alone(what: str, seed: int, cuts: list[int], threads: int) -> None:
    symbols, t, x = world(seed)
    together = Partitioned(MAKERS[what], threads=threads)
    parts = [
        together.update(symbols[start:stop], t[start:stop], x=x[start:stop])
        for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), N], strict=True)
    ]
    for symbol in SYMBOLS:
        mine = symbols == symbol
        for name, column in MAKERS[what]().update(t[mine], x=x[mine]).items():
            assert np.concatenate([part[name] for part in parts])[mine].tobytes() == column.tobytes(), name


def test_bars_carry_their_symbol() -> None:
    symbols, t, x = world(1)
    found = Partitioned(lambda: Streaming("tick_bars", n=7)).update(symbols, t, p=x, q=np.ones(N))
    for symbol in SYMBOLS:
        mine = symbols == symbol
        alone = Streaming("tick_bars", n=7).update(t[mine], p=x[mine], q=np.ones(mine.sum()))
        assert {
            name: column[found["symbol"] == symbol].tolist() for name, column in found.items() if name != "symbol"
        } == {name: column.tolist() for name, column in alone.items()}


@pytest.mark.parametrize("what", MAKERS)
def test_partitions_move_and_join(what: str) -> None:
    symbols, t, x = world(2)
    whole = Partitioned(MAKERS[what]).update(symbols, t, x=x)
    at = N // 2
    here = Partitioned(MAKERS[what])
    for part in range(2):  # two processes, each with its own symbols, and then one that goes on with all
        mine = np.array([partition_of(symbol, 2) == part for symbol in symbols[:at]], dtype=bool)
        elsewhere = Partitioned(MAKERS[what])
        elsewhere.update(symbols[:at][mine], t[:at][mine], x=x[:at][mine])
        here.load(elsewhere.save())
    for name, column in here.update(symbols[at:], t[at:], x=x[at:]).items():
        assert column.tobytes() == whole[name][at:].tobytes(), name


def test_a_symbol_has_the_same_partition_everywhere() -> None:
    assert [partition_of(symbol, 1_000) for symbol in SYMBOLS] == GOLDEN
    counts = np.bincount([partition_of(f"COIN{k}USDT", 8) for k in range(8_000)], minlength=8)
    assert counts.min() > 800 and counts.max() < 1_200


def test_what_cannot_be_used_is_named() -> None:
    together = Partitioned(MAKERS["kernel"])
    with pytest.raises(KernelError, match="x has 2 rows, symbols 3"):
        together.update(["A", "B", "A"], [1, 2, 3], x=[1.0, 2.0])
    with pytest.raises(KernelError, match="A: rolling_zscore: t goes back at row 1, to 1 from 3"):
        together.update(["A", "B", "A"], [3, 2, 1], x=[1.0, 2.0, 3.0])
    with pytest.raises(KernelError, match="threads=0"):
        Partitioned(MAKERS["kernel"], threads=0)
    with pytest.raises(KernelError, match="no saved states"):
        together.load(b"?")
    assert together.update([], np.zeros(0, dtype=np.int64), x=[])["z"].tolist() == []
