"""Lanes: rows of a table that is laid out column by column; and that what needs no state is computed for many rows at once."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features

from oneprice.compute.kernels.columns import table_of
from oneprice.compute.kernels.generated import BLOCK, rows_of
from oneprice.compute.kernels.registry import find
from oneprice.compute.kernels.streaming import Streaming, parts_of
from oneprice.compute.lanes import lane, split, whole
from oneprice.compute.uncounted import on_stack, uncounted


@numba.njit
def turned(table, rows):
    """Each row the other way round, times its length."""
    held = uncounted(table)
    for k in range(rows):
        row = lane(held, k, held.shape[0] // rows, rows)
        last = row.shape[0] - 1
        for c in range(row.shape[0] // 2):
            row[c], row[last - c] = row[last - c], row[c]
        for c in range(row.shape[0]):
            row[c] *= row.shape[0]


def test_a_lane_is_a_row_of_the_table() -> None:
    table = np.arange(15.0).reshape(3, 5)
    expected = 3 * table[::-1]
    turned(table.reshape(-1), 5)
    np.testing.assert_array_equal(table, expected)


@numba.njit
def second_whole_number(table):
    return whole(lane(table, 1, 2, 3))[1]


def test_the_bits_of_a_lane_are_whole_numbers() -> None:
    table = np.arange(10, 20, dtype=np.int64)
    assert second_whole_number(table.view(np.float64)) == 14


@numba.njit
def summed_aside(values):
    room = on_stack(4, values)
    for k in range(4):
        room[k] = values[k]
    return room[0] + room[1] + room[2] + room[3]


def test_numbers_on_the_stack_are_a_copy() -> None:
    values = np.arange(4, dtype=np.int64)
    assert summed_aside(values) == 6
    assert values.tolist() == [0, 1, 2, 3]


@numba.njit
def counted_up(far, near, count, places):
    """Each number raised by 1 at these places, one after the other; → what then stands there, all together."""
    numbers, total = split(uncounted(near), uncounted(far), count), 0
    for k in range(places.shape[0]):
        numbers[places[k]] += 1
    for k in range(far.shape[0]):
        total = 10 * total + numbers[k]
    return total


@pytest.mark.parametrize("count", [0, 2, 4])
def test_numbers_in_two_parts_are_one_array(count: int) -> None:
    far, near = np.zeros(4, dtype=np.int64), np.zeros(count, dtype=np.int64)
    assert counted_up(far, near, count, np.array([0, 1, 1, 2, 2, 2, 3])) == 1231
    assert [*near, *far[count:]] == [1, 2, 3, 1]
    assert not far[:count].any()


def compiled_of(name: str) -> str:
    """The loop over rows of a kernel as LLVM leaves it; not from disk, where no source is kept."""
    kernel, columns = find(name), {input: np.linspace(1.0, 2.0, 64) for input in find(name).inputs}
    streaming = Streaming(kernel)
    run = numba.njit(rows_of(kernel).py_func, nogil=True, error_model="numpy")
    y = np.empty((len(streaming.outputs), 64))
    table = table_of(np.arange(64), y, parts_of(kernel, {}, columns))
    run(streaming._f, streaming._i, streaming._p, table, np.zeros(0), y.reshape(-1), 0, 64)
    (compiled,) = run.inspect_llvm().values()
    return str(compiled)


@pytest.mark.parametrize(
    "name", ["kalman_1d", "vwap", "rolling_std", "ofi", "twap"]
)  # few numbers; windows of all kinds
def test_what_a_state_holds_beside_its_ring_is_in_registers(name: str) -> None:
    assert find(name).at_hand is not None
    sizes = re.findall(r"alloca \[(\d+) x (?:double|i64)\]", compiled_of(name))
    assert not [size for size in sizes if int(size) % BLOCK]  # what is there is of the rows of a block


@pytest.mark.parametrize(
    "name", ["cip_basis", "carry_signal", "cash_and_carry_edge", "triangular_arbitrage", "parkinson", "ou_half_life"]
)  # steps, what one prepares, what one leaves
def test_what_needs_no_state_is_done_for_many_rows_at_once(name: str) -> None:
    """As many as the processor's widest registers hold."""
    rows = 8 if get_host_cpu_features().get("avx512f") else r"\d+"
    assert re.search(rf"fdiv <{rows} x double>", compiled_of(name))
