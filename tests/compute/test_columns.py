"""Columns may lie as they like: what a kernel makes of them is the same, and they are as they were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kernel_world import columns_of, times
from numpy.typing import NDArray

from oneprice.compute.kernels.definition import NO_INTEGER
from oneprice.compute.kernels.generated import BLOCK
from oneprice.compute.kernels.registry import KERNELS
from oneprice.compute.kernels.streaming import Streaming, bits_of, parts_of

Column = NDArray[Any]


def read_only(column: Column) -> Column:
    found = column.copy()
    found.flags.writeable = False
    return found


def field(column: Column, *, align: bool) -> Column:
    """One of several in records, as tables of rows have it."""
    records = np.zeros(len(column), dtype=np.dtype([("side", "i1"), ("it", column.dtype), ("q", "f8")], align=align))
    records["it"] = column
    return records["it"]


LAID_OUT: dict[str, Callable[[Column], Column]] = {
    "read only": read_only,
    "last one first": lambda column: column[::-1].copy()[::-1],
    "of a matrix": lambda column: np.column_stack([column, column, np.zeros_like(column)])[:, 1],
    "every third": lambda column: np.repeat(column, 3)[::3],
    "of records": lambda column: field(column, align=True),
    "of packed records": lambda column: field(column, align=False),
    "of the other byte order": lambda column: column.astype(column.dtype.newbyteorder()),
}
# one input; several; whole numbers; flags; answers; windows in time; a book beside columns; two matrices
SOME: dict[str, dict[str, Any]] = {
    "rolling_std": {}, "ewcov": {}, "dedupe_trades": {"ids": "any"}, "trade_sign": {}, "resample_ohlc": {"interval": "5s"},
    "twap": {"w": "5s"}, "sweep_cost": {}, "turnover": {},
}  # fmt: skip


@pytest.mark.parametrize("name", SOME)
@pytest.mark.parametrize("lies", LAID_OUT)
def test_it_does_not_matter_how_columns_lie(name: str, lies: str) -> None:
    kernel, rng, rows = KERNELS[name], np.random.default_rng(5), 2 * BLOCK + 7
    columns, t = columns_of(kernel, rng, rows), times(rng, rows)
    other = {key: LAID_OUT[lies](column) if column.ndim == 1 else column for key, column in columns.items()}
    made = Streaming(kernel, **SOME[name]).update(LAID_OUT[lies](t), **other)
    expected = Streaming(kernel, **SOME[name]).update(t, **columns)
    assert {key: found.tobytes() for key, found in made.items()} == {
        key: found.tobytes() for key, found in expected.items()
    }
    for key, column in columns.items():
        np.testing.assert_array_equal(other[key], column)


@pytest.mark.parametrize("lies", LAID_OUT)
def test_columns_are_copied_only_where_they_must_be(lies: str) -> None:
    kernel, column = KERNELS["ewcov"], LAID_OUT[lies](np.linspace(1.0, 2.0, 9))
    (part, _) = parts_of(kernel, kernel.values({}), {"x": column, "y": column})
    assert np.shares_memory(part, column) == (lies not in {"of packed records", "of the other byte order"})


@pytest.mark.parametrize("rows", [BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK])
@pytest.mark.parametrize("name", ["ewcov", "resample_ohlc"])
def test_the_ends_of_blocks_are_rows_like_others(name: str, rows: int) -> None:
    kernel, rng = KERNELS[name], np.random.default_rng(6)
    columns, t = columns_of(kernel, rng, rows), times(rng, rows)
    whole, parts = Streaming(kernel, **SOME[name]).update(t, **columns), Streaming(kernel, **SOME[name])
    found = [
        parts.update(t[k : k + 1], **{key: column[k : k + 1] for key, column in columns.items()}) for k in range(rows)
    ]
    for key, column in whole.items():
        assert np.concatenate([one[key] for one in found]).tobytes() == column.tobytes()


def test_one_number_for_all_rows_is_a_column() -> None:
    """A rate, say, that does not change: a column of `np.broadcast_to`."""
    x = np.random.default_rng(1).normal(size=500)
    made = Streaming("ewcov").update(x=x, y=np.broadcast_to(2.0, 500))
    expected = Streaming("ewcov").update(x=x, y=np.full(500, 2.0))
    assert {key: found.tobytes() for key, found in made.items()} == {
        key: found.tobytes() for key, found in expected.items()
    }


@given(st.lists(st.floats() | st.integers(-(2**70), 2**70).map(float) | st.integers(-9, 9).map(lambda k: k / 2.0)))
@example([2.0**63, -(2.0**63), np.nextafter(2.0**63, 0.0), -np.nextafter(2.0**63, 0.0)])
def test_whole_numbers_are_the_nearest_that_an_integer_holds(values: list[float]) -> None:
    found = bits_of(np.array(values, dtype=np.float64)).view(np.int64)
    assert found.tolist() == [round(value) if abs(value) < 2.0**63 else NO_INTEGER for value in values]
