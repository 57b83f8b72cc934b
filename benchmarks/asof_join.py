"""ASOF join of trades to quotes by symbol: ours against Polars, the same frames, equal results, in one run.

text             symbols as strings
categorical      symbols as Polars' categoricals
whole numbers    symbols as numbers of instruments
by symbol        whole numbers, the rows of one symbol after those of another: sorted within keys only

The first three are sorted by time as a whole, as a tape is. Both answer with the left frame and the right columns. Last, the
same rows in micro-batches, with a lateness of one second.

python -m benchmarks.asof_join [--rows 5000000] [--keys 50] [--rounds 3] [--json]"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from functools import partial

import numpy as np
import polars as pl

from benchmarks.turns import Work, fastest_of_groups
from oneprice.compute.asof import StreamingAsof, asof_join

NS_PER_ROW = 10_000
BATCH = 1_000  # rows of each side in a micro-batch
TURNS = 3


def side(rng: np.random.Generator, rows: int, keys: int, column: str) -> pl.DataFrame:
    """One side of the join, sorted by time; some times are equal, as on a tape."""
    names = pl.Series([f"SYM{k:03d}USDT" for k in range(keys)])
    t = np.sort(rng.integers(0, rows * NS_PER_ROW, rows)) // 1_000 * 1_000
    number = rng.integers(0, keys, rows).astype(np.uint32)
    return pl.DataFrame({"t": t, "number": number, "symbol": names.gather(number), column: rng.random(rows)})


def cases(rows: int, keys: int) -> dict[str, tuple[pl.DataFrame, pl.DataFrame]]:
    rng = np.random.default_rng(1)
    both = side(rng, rows, keys, "price"), side(rng, rows, keys, "bid")
    text = tuple(one.drop("number") for one in both)
    whole = tuple(one.drop("symbol").rename({"number": "symbol"}) for one in both)
    return {
        "text": text,
        "categorical": tuple(one.with_columns(pl.col("symbol").cast(pl.Categorical)) for one in text),
        "whole numbers": whole,
        "by symbol": tuple(one.sort("symbol", maintain_order=True) for one in whole),
    }  # type: ignore[return-value]


def polars(left: pl.DataFrame, right: pl.DataFrame, direction: str) -> pl.DataFrame:
    return left.join_asof(right, on="t", by="symbol", strategy=direction, check_sortedness=False)  # type: ignore[arg-type]


def ours(left: pl.DataFrame, right: pl.DataFrame, direction: str) -> pl.DataFrame:
    joined: pl.DataFrame = asof_join(left, right, by="symbol", direction=direction)
    return joined


def streaming_ns_per_row(left: pl.DataFrame, right: pl.DataFrame) -> float:
    """Of both sides together, from dicts of NumPy columns in micro-batches."""
    trades, quotes = ({name: one[name].to_numpy() for name in one.columns} for one in (left, right))
    join = StreamingAsof({"quotes": "1s"}, by="symbol", left_lateness="1s")
    began = time.perf_counter()
    for begin in range(0, len(left), BATCH):
        some, more = ({name: one[name][begin : begin + BATCH] for name in one} for one in (trades, quotes))
        join.update(some, quotes=more)
    join.finish()
    return (time.perf_counter() - began) / (len(left) + len(right)) * 1e9


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=5_000_000, help="of each side")
    parser.add_argument("--keys", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3, help="in each of the turns")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message="Sortedness of columns")
    prepared = cases(asked.rows, asked.keys)
    groups: dict[str, tuple[Work, Work]] = {}
    for name, both in prepared.items():
        for direction in ("backward", "forward", "nearest") if name == "whole numbers" else ("backward",):
            different = int(ours(*both, direction)["bid"].ne_missing(polars(*both, direction)["bid"]).sum())
            # Looking ahead, Polars takes the first of several rows of one time, and of two rows as near the one ahead.
            allowed = 0 if direction == "backward" else asked.rows // 100
            assert different <= allowed, f"{name}, {direction}: {different} rows differ"
            groups[f"{name}, {direction}"] = (partial(polars, *both, direction), partial(ours, *both, direction))
    print(f"{asked.rows:,} × {asked.rows:,} rows, {asked.keys} symbols; ms, best of {TURNS * asked.rounds}")
    found: dict[str, dict[str, float]] = {}
    for name, (polars_s, ours_s) in fastest_of_groups(TURNS, asked.rounds, groups).items():
        ratio = polars_s / ours_s
        found[name] = {"polars": round(1e3 * polars_s, 1), "oneprice": round(1e3 * ours_s, 1), "ratio": round(ratio, 2)}
        print(f"{name:23} polars {1e3 * polars_s:8.1f}   oneprice {1e3 * ours_s:8.1f}  {ratio:6.1f} ×")
    streamed = tuple(one[: min(asked.rows, 1_000_000)] for one in prepared["whole numbers"])
    ns = min(streaming_ns_per_row(*streamed) for _ in range(asked.rounds))
    found["streaming"] = {"ns_per_row": round(ns, 1)}
    print(f"{'streaming':23} in batches of {BATCH:,} rows: {ns:.0f} ns a row")
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
