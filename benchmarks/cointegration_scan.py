"""Engle–Granger over all pairs of a universe: pairs a second, ours against statsmodels' `coint`, in one run.

statsmodels is timed on a sample of the pairs, ours on all of them, in both directions; the largest difference of statistics
and p-values is that of the sample.

python -m benchmarks.cointegration_scan [--symbols 200] [--rows 252] [--rounds 3] [--sample 40] [--json]"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from typing import Any

import numpy as np
from statsmodels.tsa.stattools import coint

from oneprice.compute.cointegration import PairScan, scan_pairs

SETTINGS: dict[str, tuple[str | int, dict[str, Any]]] = {  # ours, theirs
    "one lag": (1, {"maxlag": 1, "autolag": None}),
    "aic": ("aic", {"autolag": "aic"}),
    "bic": ("bic", {"autolag": "bic"}),
}


def universe(symbols: int, rows: int) -> np.ndarray:
    """Prices (rows × symbols) of which some follow common factors: walks, and walks that are tied together."""
    rng = np.random.default_rng(4)
    factors = np.cumsum(rng.normal(0.0, 0.01, (rows, 8)), axis=0)
    loads = rng.random((8, symbols)) * (rng.random((8, symbols)) < 0.3)
    own = np.where(rng.random(symbols) < 0.5, 1.0, 0.0) * np.cumsum(rng.normal(0.0, 0.01, (rows, symbols)), axis=0)
    return 100.0 * np.exp(factors @ loads + own + rng.normal(0.0, 0.01, (rows, symbols)))


def peer(prices: np.ndarray, sample: list[tuple[int, int]], settings: dict[str, Any]) -> list[tuple[float, float]]:
    """Statistic and p-value of the sample, by statsmodels."""
    logs = np.log(prices)
    found = [coint(logs[:, y], logs[:, x], **settings) for y, x in sample]
    return [(one.coint_t, one.pvalue) for one in found]


def differences(ours: PairScan, sample: np.ndarray, theirs: list[tuple[float, float]]) -> tuple[float, float]:
    """The largest difference of the statistics and of the p-values."""
    rows = ours.rows[sample]
    found = np.abs(np.column_stack([rows["adf"], rows["p_value"]]) - np.array(theirs))
    return float(found[:, 0].max()), float(found[:, 1].max())


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--symbols", type=int, default=200)
    parser.add_argument("--rows", type=int, default=252)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sample", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    prices = universe(asked.symbols, asked.rows)
    count = asked.symbols * (asked.symbols - 1)
    sample = np.random.default_rng(5).choice(count, min(asked.sample, count), replace=False)
    print(f"{count} pairs of {asked.symbols} symbols, {asked.rows} rows, {os.cpu_count()} cores")
    found: dict[str, dict[str, float]] = {}
    for name, (lags, settings) in SETTINGS.items():
        scan = scan_pairs(prices, lags=lags)  # compiles
        tested = [(int(y), int(x)) for y, x in scan.rows[["y", "x"]][sample]]
        speeds: dict[str, list[float]] = {"ours": [], "theirs": []}
        for _ in range(asked.rounds):
            began = time.perf_counter()
            scan = scan_pairs(prices, lags=lags)
            speeds["ours"].append(count / (time.perf_counter() - began))
            began = time.perf_counter()
            theirs = peer(prices, tested, settings)
            speeds["theirs"].append(len(tested) / (time.perf_counter() - began))
        ours_per_s, theirs_per_s = (statistics.median(speeds[side]) for side in ("ours", "theirs"))
        off_statistic, off_p = differences(scan, sample, theirs)
        found[name] = {
            "oneprice_pairs_per_s": round(ours_per_s), "statsmodels_pairs_per_s": round(theirs_per_s),
            "ratio": round(ours_per_s / theirs_per_s), "statistic_off": off_statistic, "p_value_off": off_p,
        }  # fmt: skip
        print(
            f"{name:8} oneprice {ours_per_s:10,.0f} pairs/s  statsmodels {theirs_per_s:7,.0f} pairs/s "
            f"{ours_per_s / theirs_per_s:7,.0f} ×  largest difference: statistic {off_statistic:.1e}, p {off_p:.1e}"
        )
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
