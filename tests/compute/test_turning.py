"""Full windows that are turned a block of rows at a time: the same, to the bit, as row by row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_world import columns_of, times

from oneprice.compute.kernels.definition import Kernel
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.registry import KERNELS
from oneprice.compute.kernels.streaming import Streaming
from oneprice.compute.kernels.windows import REBUILD_EVERY

TOGETHER = [kernel for kernel in KERNELS.values() if kernel.together is not None]
N = REBUILD_EVERY + 2_000  # so that sums are made anew on the way


def row_by_row(windows: dict[str, dict[str, Any]]) -> Pipeline:
    """All these kernels, in the one place where no two rows are looked at together."""
    return Pipeline(
        Feature(
            name=kernel.name, kernel=kernel.name, parameters=windows[kernel.name],
            sources={name: f"{kernel.name}_{name}" for name in kernel.inputs},
        )
        for kernel in TOGETHER
    )  # fmt: skip


def lengths_of(kernel: Kernel, window: int, span: str, fewest: int | None) -> Iterator[tuple[str, Any]]:
    """The parameters that say how long a kernel's window is; no less than it takes."""
    for one in kernel.parameters:
        if one.name == "min_obs":
            yield one.name, fewest and max(fewest, int(one.low))
        elif one.kind in ("window", "int"):
            yield one.name, span if span and one.kind == "window" else max(window, int(one.low))


def spoiled(columns: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    """With rows that stand still, are missing, or are of another size altogether."""
    made = {name: column.copy() for name, column in columns.items()}
    begin = int(rng.integers(0, N))
    missing, vast = rng.random((2, N)) < 10.0 ** -rng.uniform(1.0, 5.0, (2, 1))
    size = 10.0 ** rng.integers(-120, 120)
    for column in made.values():
        column[begin : begin + 900] = column[begin]
        column[missing] = np.nan
        column[vast] *= size
    return made


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, N), max_size=9), window=st.integers(1, 700),
    span=st.sampled_from(["", "", "", "9s"]), fewest=st.sampled_from([None, None, None, None, 1, 600]),
)  # fmt: skip
@example(seed=1023, cuts=[1235], window=1, span="", fewest=None)  # a median of three hides what is missing
def test_rows_at_once_are_those_row_by_row(
    seed: int, cuts: list[int], window: int, span: str, fewest: int | None
) -> None:
    rng = np.random.default_rng(seed)
    windows = {kernel.name: dict(lengths_of(kernel, window, span, fewest)) for kernel in TOGETHER}
    t, columns = times(rng, N), {kernel.name: spoiled(columns_of(kernel, rng, N), rng) for kernel in TOGETHER}
    found = row_by_row(windows).update(
        t, **{f"{name}_{input}": column for name, own in columns.items() for input, column in own.items()}
    )
    for kernel in TOGETHER:
        streaming, in_pieces = Streaming(kernel, **windows[kernel.name]), Streaming(kernel, **windows[kernel.name])
        for output, column in streaming.update(t, **columns[kernel.name]).items():
            name = kernel.name if len(kernel.outputs) == 1 else f"{kernel.name}.{output}"
            assert column.tobytes() == found[name].tobytes(), name
        for where in np.split(np.arange(N), sorted(cuts)):
            in_pieces.update(t[where], **{name: column[where] for name, column in columns[kernel.name].items()})
        assert in_pieces.save() == streaming.save(), kernel.name


def test_they_are_those_that_are_meant() -> None:
    assert {"lag", "diff", "log_returns", "sma", "parkinson", "bipower_var", "medrv"} <= {
        kernel.name for kernel in TOGETHER
    }


@pytest.mark.parametrize("rows", [1, 5, 6, 700])
def test_a_lag_longer_than_the_batch_goes_on_in_the_next(rows: int) -> None:
    x, lag = np.arange(2_100.0), Streaming("lag", k=6)
    found = np.concatenate([lag.update(x=x[begin : begin + rows])["lag"] for begin in range(0, len(x), rows)])
    np.testing.assert_array_equal(found, np.concatenate([np.full(6, np.nan), x[:-6]]))
