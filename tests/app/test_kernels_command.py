"""`oneprice kernels`: what there is, what it means, and a kernel over a file's columns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from command import oneprice

from oneprice.compute.kernels.registry import KERNELS


def test_all_kernels_are_listed_with_what_describes_them() -> None:
    done = oneprice("kernels", "list", "--json")
    assert done.code == 0, done.err
    assert [kernel["name"] for kernel in done.json["kernels"]] == list(KERNELS)
    assert done.json["count"] == len(KERNELS)
    family = oneprice("kernels", "list", "--family", "statistics", "--json")
    assert {kernel["family"] for kernel in family.json["kernels"]} == {"statistics"}


def test_one_kernel_is_explained() -> None:
    done = oneprice("kernels", "show", "ewma", "--json")
    assert (done.code, done.json["name"], done.json["inputs"]) == (0, "ewma", ["x"])
    alpha = next(one for one in done.json["parameters"] if one["name"] == "alpha")
    assert alpha["allowed"] == "a number at most 1 and above 0"
    wrong = oneprice("kernels", "show", "ewm", "--json")
    assert (wrong.code, "did you mean 'ewma'" in wrong.json["error"]) == (2, True)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_kernel_runs_over_the_columns_of_a_file(kind: str, tmp_path: Path) -> None:
    prices = np.exp(np.random.default_rng(1).normal(0, 0.01, 50).cumsum())
    frame = pl.DataFrame({"at": np.arange(50) * 10**9, "close": prices})
    file = tmp_path / f"prices.{kind}"
    frame.write_csv(file) if kind == "csv" else frame.write_parquet(file)
    done = oneprice(
        "kernels", "run", "rolling_zscore", "--file", file, "--input", "x=close", "--time", "at", "--param", "w=10s", "--param",
        "include_current=false", "--out", tmp_path / "z.parquet", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["rows"] == 50
    found = pl.read_parquet(tmp_path / "z.parquet")
    assert found["mean"][-1] == pytest.approx(prices[-10:-1].mean())  # of the nine seconds before
    told = oneprice("kernels", "run", "ewma", "--file", file, "--input", "x=price", "--json")
    assert (told.code, "has no column 'price'; it has at, close" in told.json["error"]) == (2, True)
    told = oneprice("kernels", "run", "ewma", "--file", file, "--input", "x=close", "--param", "alpha=2", "--json")
    assert (told.code, "ewma: alpha=2.0: it must be a number at most 1 and above 0" in told.json["error"]) == (2, True)
