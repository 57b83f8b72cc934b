"""Kernels: nanoseconds an update of all of them; columns against polars and pandas; a tick against river and talipp.

batch     every kernel, compiled already: its loop over rows that lie in the cache; columns in and out; its declared cost;
          and, for the machine's pace, a call of a compiled function
columns   `compute(name, …)` against the same operation of polars and pandas, each on its own kind of column
tick      many features of a row in one call against incremental indicators of river and talipp, one call each
core48    the feature set, and 40 of it: a row of a batch, and a tick from Python
memory    what states hold after all rows

python -m benchmarks.kernels [--rows 1000000] [--rounds 5] [--part batch|columns|tick|core48|memory] [--json]"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
from numba import njit
from numpy.typing import NDArray
from river import stats, utils
from talipp.indicators import ADX, ATR, BB, EMA, MACD, RSI, SMA, DonchianChannels, Stoch
from talipp.ohlcv import OHLCV

from benchmarks.turns import fastest, fastest_of_groups
from oneprice.compute.kernels.core48 import CORE48, core48
from oneprice.compute.kernels.definition import Kernel
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.registry import KERNELS
from oneprice.compute.kernels.streaming import Streaming, compute, parts_of

sys.path += [str(Path(__file__).resolve().parents[1] / folder) for folder in ("tests", "tests/compute")]
import kernel_world

NEEDED: dict[str, dict[str, Any]] = {  # parameters without a default
    "vpin": {"bucket_qty": 250.0}, "boxcox": {"lambda_": 0.3}, "yeo_johnson": {"lambda_": 0.3}, "volume_bars": {"volume": 20.0},
    "dollar_bars": {"notional": 2_000.0}, "label_next_move": {"horizon": "20s"}, "ewcov_matrix": {"assets": 20},
    "ledoit_wolf_shrinkage": {"assets": 20}, "risk_parity_weights": {"assets": 3, "budgets": "given"},
    "exposure_limits": {"positions": 6, "gross": 3e4},
}  # fmt: skip
W = 100


class Works(NamedTuple):
    """Of one kernel: its loop over rows that lie in the cache; columns in and columns out."""

    loop: Callable[[], object]
    loop_rows: int
    columns: Callable[[], object]
    columns_rows: int


def batch(rows: int, rounds: int) -> dict[str, dict[str, float]]:
    large, small = (_market(n) for n in (rows, max(1_000, rows // 100)))
    works = {kernel.name: _works_of(kernel, *(large if _is_constant(kernel) else small)) for kernel in KERNELS.values()}
    # of the two loops the first brings rows into the cache
    turns = {name: (one.loop, one.loop, one.columns) for name, one in works.items()}
    found = {}
    for name, (*loops_s, columns_s) in fastest_of_groups(2 * rounds, 1, turns).items():
        one = works[name]
        found[name] = {"loop": min(loops_s) / one.loop_rows * 1e9, "columns": columns_s / one.columns_rows * 1e9}
    print(f"{'':26} {'rows in the cache':>17} {'columns in and out':>20}")
    for name, ns in sorted(found.items(), key=lambda one: one[1]["loop"]):
        print(f"{name:26} {ns['loop']:14.1f} ns {ns['columns']:17.1f} ns   {KERNELS[name].cost}")
    constant = [found[kernel.name] for kernel in KERNELS.values() if _is_constant(kernel)]
    for what in ("loop", "columns"):
        few = sum(ns[what] <= 10.0 for ns in constant)
        print(f"{what}: {few} of {len(constant)} kernels of constant cost take at most 10 ns a row")
    print(f"a compiled function with one column, called from Python: {dispatch_ns():.0f} ns")
    return found


def _is_constant(kernel: Kernel) -> bool:
    return kernel.cost.startswith("O(1)")


def _market(rows: int) -> tuple[NDArray[np.int64], kernel_world.Columns]:
    """Times and columns. A column is a table's, whose numbers stand side by side."""
    strewn = kernel_world.market(np.random.default_rng(7), rows)
    columns = {name: np.ascontiguousarray(column) for name, column in strewn.items()}
    return kernel_world.times(np.random.default_rng(8), rows), columns


def _works_of(kernel: Kernel, t: NDArray[np.int64], market: kernel_world.Columns) -> Works:
    columns = kernel_world.columns_in(market, kernel, np.random.default_rng(9))
    parameters = NEEDED.get(kernel.name, {})
    Streaming(kernel, **parameters).update(t[:300], **{name: column[:300] for name, column in columns.items()})
    few = min(len(t), 100_000)
    parts = [part[:few] for part in parts_of(kernel, kernel.values(parameters), columns)]
    y = np.empty((len(Streaming(kernel, **parameters).outputs), few))

    def loop() -> None:
        streaming = Streaming(kernel, **parameters)
        if kernel.ready is None:
            streaming._rows(t[:few], parts, y)
        else:
            streaming._answers(t[:few], parts)

    return Works(loop, few, lambda: Streaming(kernel, **parameters).update(t, **columns), len(t))


@njit
def _nothing(column):
    return 0


def dispatch_ns() -> float:
    """ns of a call of a compiled function with one column."""
    column = np.zeros(1)
    _nothing(column)

    def calls() -> None:
        for _ in range(10_000):
            _nothing(column)

    (best_s,) = fastest(100, calls)
    return best_s / 10_000 * 1e9


def columns(rows: int, rounds: int) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(7)
    x = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 1e-4, rows)))
    y = x + rng.normal(0.0, 0.1, rows)
    s, d, e = pl.Series("x", x), pd.Series(x), pd.Series(y)
    frame = pl.DataFrame({"x": x, "y": y})
    window = d.rolling(W)
    both: dict[str, tuple[dict[str, Any], Callable[[], Any] | None, Callable[[], Any]]] = {
        "log_returns": ({"p": x}, lambda: s.log().diff(), lambda: np.log(d).diff()),
        "ewma": ({"x": x}, lambda: s.ewm_mean(half_life=20, adjust=False), lambda: d.ewm(halflife=20, adjust=False).mean()),
        "ewcov": ({"x": x, "y": y}, None, lambda: d.ewm(halflife=20, adjust=False).cov(e, bias=True)),
        "ewcorr": ({"x": x, "y": y}, None, lambda: d.ewm(halflife=20, adjust=False).corr(e)),
        "sma": ({"x": x, "n": W}, lambda: s.rolling_mean(W), window.mean),
        "rolling_std": ({"x": x}, lambda: s.rolling_std(W), window.std),
        "rolling_min": ({"x": x}, lambda: s.rolling_min(W), window.min),
        "rolling_max": ({"x": x}, lambda: s.rolling_max(W), window.max),
        "rolling_skew": ({"x": x}, lambda: s.rolling_skew(W, bias=False), window.skew),
        "rolling_kurt": ({"x": x}, lambda: s.rolling_kurtosis(W, bias=False), window.kurt),
        "rolling_quantile": (
            {"x": x}, lambda: s.rolling_quantile(0.5, window_size=W, interpolation="linear"), lambda: window.quantile(0.5)
        ),
        "rolling_cov": (
            {"x": x, "y": y}, lambda: frame.select(pl.rolling_cov("x", "y", window_size=W)), lambda: window.cov(e)
        ),
        "rolling_corr": (
            {"x": x, "y": y}, lambda: frame.select(pl.rolling_corr("x", "y", window_size=W)), lambda: window.corr(e)
        ),
        "diff": ({"x": x}, s.diff, d.diff),
        "lag": ({"x": x}, s.shift, d.shift),
    }  # fmt: skip
    peers: dict[str, dict[str, Callable[[], Any]]] = {}
    for name, (given, of_polars, of_pandas) in both.items():
        compute(name, **{key: one[:300] if isinstance(one, np.ndarray) else one for key, one in given.items()})
        peers[name] = {"oneprice": partial(compute, name, **given), "pandas": of_pandas}
        if of_polars is not None:
            peers[name]["polars"] = of_polars
    best_s = fastest_of_groups(rounds, rounds, {name: tuple(works.values()) for name, works in peers.items()})
    found = {
        name: {peer: one_s / rows * 1e9 for peer, one_s in zip(works, best_s[name], strict=True)}
        for name, works in peers.items()
    }
    for name, ns in found.items():
        told = "  ".join(
            f"{peer} {ns[peer]:7.1f} ns = {ns[peer] / ns['oneprice']:5.1f} ×" for peer in ns if peer != "oneprice"
        )
        print(f"{name:18} {ns['oneprice']:7.1f} ns   {told}")
    return found


SAME = (  # what talipp or river have, too
    Feature(name="ema", kernel="ema"), Feature(name="sma", kernel="sma"), Feature(name="macd", kernel="macd"),
    Feature(name="rsi", kernel="rsi"), Feature(name="bands", kernel="bollinger_bands"),
    Feature(name="atr", kernel="atr"), Feature(name="adx", kernel="adx"), Feature(name="donchian", kernel="donchian_channel"),
    Feature(name="stochastic", kernel="stochastic_osc"), Feature(name="ewma", kernel="ewma", parameters={"alpha": 0.1}),
    Feature(name="moments", kernel="rolling_zscore"), Feature(name="least", kernel="rolling_min"),
    Feature(name="most", kernel="rolling_max"), Feature(name="median", kernel="rolling_quantile"),
    Feature(name="cov", kernel="rolling_cov", sources={"y": "C"}),
    Feature(name="corr", kernel="rolling_corr", sources={"y": "C"}), Feature(name="all", kernel="welford_mean_var"),
)  # fmt: skip


def tick(rows: int, rounds: int) -> dict[str, float]:
    """ns a tick of the same indicators: ours in one call; river's and talipp's one by one, as their users call them."""
    rows = min(rows, 20_000)
    rng = np.random.default_rng(7)
    bars = kernel_world.market(rng, rows)
    x, high, low, close = bars["p"], bars["H"], bars["L"], bars["C"]
    given = {"x": x, "H": high, "L": low, "C": close}
    ours = Pipeline(SAME)
    stacked = np.stack([given[name] for name in ours.columns], axis=1)
    ours.tick(0, stacked[0])

    def of_ours() -> None:
        for row in stacked:
            ours.tick(0, row)

    def of_peers() -> None:
        of_close = [EMA(20), SMA(20), MACD(12, 26, 9), RSI(14), BB(20, 2.0)]
        of_bar = [ATR(14), ADX(14, 14), DonchianChannels(20), Stoch(14, 3)]
        of_river = [
            stats.EWMean(0.1), utils.Rolling(stats.Mean, W), utils.Rolling(stats.Var, W), stats.RollingMin(W),
            stats.RollingMax(W), stats.RollingQuantile(0.5, W), stats.Mean(), stats.Var(),
        ]  # fmt: skip
        of_two = [utils.Rolling(stats.Cov, W), utils.Rolling(stats.PearsonCorr, W)]
        for k in range(rows):
            value = float(x[k])
            bar = OHLCV(close[k], high[k], low[k], close[k], 1.0, None)
            for one in of_close:
                one.add(value)
                one[-1]
            for one in of_bar:
                one.add(bar)
                one[-1]
            for one in of_river:
                one.update(value)
                one.get()
            for one in of_two:
                one.update(value, float(close[k]))
                one.get()

    ours_ns, peers_ns = (best_s / rows * 1e9 for best_s in fastest(rounds, of_ours, of_peers))
    print(
        f"{len(ours.outputs)} outputs of {len(SAME)} indicators a tick: {ours_ns:.0f} ns; river and talipp "
        f"{peers_ns:.0f} ns = {peers_ns / ours_ns:.0f} ×"
    )
    return {"oneprice": ours_ns, "river + talipp": peers_ns}


def feature_set(rows: int, rounds: int) -> dict[str, float]:
    """The 48 features of a market's tick, and the first 40 of them; every row carries a trade and ten levels. A tick's row lies
    in the cache, as whoever has just decoded it leaves it there."""
    rows = min(rows, 50_000)
    rng = np.random.default_rng(7)
    market = kernel_world.market(rng, rows)
    t = kernel_world.times(rng, rows)
    given = {
        "p": market["p"], "q": market["q"], "s": market["s"], "rate": np.full(rows, 1e-4), "interval_h": np.full(rows, 8.0),
        "index": 1.0001 * market["m"], "bk": np.ascontiguousarray(market["bk"][:, :, :10]),
    }  # fmt: skip
    whole = core48(bucket_qty=50.0)
    forty = {name: CORE48[name] for name in list(CORE48)[:40]}
    read = {source.partition(".")[0] for source in forty.values()} | _READ
    makers: dict[str, Callable[[], Pipeline]] = {
        "48 features": lambda: core48(bucket_qty=50.0),
        "40 features": lambda: Pipeline([one for one in whole.features if one.name in read], levels=10, outputs=forty),
    }
    works, compiled_s = {}, {}
    for name, make in makers.items():
        columns = {column: given[column] for column in make().columns}
        began = time.perf_counter()
        make().update(t[:1], **{column: values[:1] for column, values in columns.items()})
        compiled_s[name] = time.perf_counter() - began
        flat = np.concatenate([values.reshape(rows, -1) for values in columns.values()], axis=1)
        near = [np.ascontiguousarray(flat[k]) for k in range(256)]
        ticks = list(zip(t.tolist(), near * (rows // len(near) + 1), strict=False))

        def of_ticks(make: Callable[[], Pipeline] = make, ticks: list[Any] = ticks) -> None:
            pipeline = make()
            for now, row in ticks:
                pipeline.tick(now, row)

        def of_batch(make: Callable[[], Pipeline] = make, columns: dict[str, Any] = columns) -> None:
            make().update(t, **columns)

        works[name] = (of_batch, of_ticks)
    found: dict[str, float] = {}
    for name, best_s in fastest_of_groups(2 * rounds, 1, works).items():
        batch_ns, tick_ns = (one / rows * 1e9 for one in best_s)
        found |= {f"{name}, batch": batch_ns, f"{name}, tick": tick_ns}
        print(
            f"{name}: {batch_ns:.0f} ns a row of a batch, {tick_ns:.0f} ns a tick from Python; first use "
            f"{compiled_s[name]:.1f} s (compiling, unless kept on disk)"
        )
    return found


_READ = {"is_buy", "is_sell", "change", "signed_qty", "quote_volume", "donchian"}  # by other features of core48


def memory(rows: int, rounds: int) -> dict[str, float]:
    """Bytes of the state after so many rows."""
    found = {}
    for name, parameters in (
        ("rolling_std", {"w": 100}),
        ("rolling_quantile", {"w": 1_000}),
        ("vpin", {"bucket_qty": 4.0}),
    ):
        kernel, rng = KERNELS[name], np.random.default_rng(7)
        streaming, t = Streaming(kernel, **parameters), kernel_world.times(rng, rows)
        columns = kernel_world.columns_of(kernel, rng, rows)
        for part in np.array_split(np.arange(rows), 10):
            streaming.update(t[part], **{column: values[part] for column, values in columns.items()})
            found[name] = len(streaming.save())
        print(f"{name} {parameters}: a state of {found[name]:,} bytes after {rows:,} rows")
    return found


PARTS = {"batch": batch, "columns": columns, "tick": tick, "core48": feature_set, "memory": memory}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    found = {name: part(asked.rows, asked.rounds) for name, part in PARTS.items() if asked.part in (None, name)}
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
