"""Columns of a batch, read where they lie: a table says where each begins, and how many places apart its numbers stand.

Compiled loops take this table instead of arrays: no column is copied as a whole, and what cannot be written to, a field of
records or a column of a matrix is no other type to Numba, for which it would compile anew. Whoever passes a table on holds
the columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.kernels.definition import INT8_NONE, NO_INTEGER, Floats, Ints
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.lanes import copied_from, lane, lane_at

TIMES, OUTPUTS, INPUTS = 0, 2, 4  # where in a table: times; how many places apart the outputs stand, how many; inputs
_BYTES = 8  # of a number, float64 or int64
_NO_TIMES = np.zeros(1, dtype=np.int64)
_NEVER = (_NO_TIMES.ctypes.data, 0)  # the same zero for every row


def in_numbers(column: NDArray[Any]) -> NDArray[Any]:
    """The column; a copy where its numbers do not stand whole numbers apart."""
    is_fit = column.flags.aligned and all(step % _BYTES == 0 for step in column.strides)
    return column if is_fit else column.copy()


def frozen(array: NDArray[Any]) -> NDArray[Any]:
    """A view that cannot be written to: compiled code is made once for these, and what comes from Arrow is one anyway."""
    seen = array.view()
    seen.flags.writeable = False
    return seen


def table_of(times: Ints | None, y: Floats, inputs: Sequence[Floats]) -> Ints:
    """Of times (zeros where there are none), of y, outputs × rows, and of inputs."""
    table = [*(_NEVER if times is None else _place_of(times)), y.shape[1], len(y)]
    for one in inputs:
        table += _place_of(one)
    return np.array(table, dtype=np.int64)


def _place_of(column: NDArray[Any]) -> tuple[int, int]:
    """The address, and how many places apart the numbers stand."""
    return int(column.__array_interface__["data"][0]), column.strides[0] // _BYTES


@inlined
def gather(table, place, begin, rows, to, at):
    """Numbers of a column of a table, from row `begin` on, to places of an array from `at` on."""
    address, apart = table[place], table[place + 1]
    if apart == 1:
        copied_from(address, begin, to, at, rows)
    elif apart == 0:  # one number for all rows, as of inputs that are left out
        value = lane_at(to, address, 0, 1, 1)[0]
        for row in range(rows):
            to[at + row] = value
    else:
        strewn = lane_at(to, address, begin * apart, rows, apart)
        for row in range(rows):
            to[at + row] = strewn[row]


@inlined
def side_by_side(table, place, begin, rows, room):
    """The same as a lane: of the column itself where its numbers stand side by side, else of `room`, where they are brought."""
    if table[place + 1] == 1:
        return lane_at(room, table[place], begin, rows, 1)
    gather(table, place, begin, rows, room, 0)
    return lane(room, 0, rows, 1)


@njit(cache=True, nogil=True)
def whole_of(values, whole):
    """Numbers as `int64`; `NO_INTEGER` where it does not hold them."""
    for k in range(values.shape[0]):
        whole[k] = np.int64(np.rint(values[k])) if abs(values[k]) < 2.0**63 else NO_INTEGER


@njit(cache=True, nogil=True)
def flags_of(values):
    """Numbers as `int8`; `INT8_NONE` where there is none."""
    flags = np.empty(values.shape[0], dtype=np.int8)
    for k in range(values.shape[0]):
        flags[k] = INT8_NONE if np.isnan(values[k]) else np.int8(values[k])
    return flags
