"""Columns of a file as the inputs of a kernel: which column is which input, and what of a file's kinds an input takes.

An input is the column of its own name, or the one that `INPUT=COLUMN` says; a matrix is several, `INPUT=COLUMN,COLUMN`. A book
is columns by level, named as those of `quotes.parquet` with the level behind: `bid_price_1`, `bid_qty_1`, `ask_price_1`,
`ask_qty_1`, `bid_price_2`, …; without a number they are a book of one level, so that `quotes.parquet` is one. `bk=PREFIX` says
what stands before these names. A null is a number that is missing; the words buy and sell are 1 and -1."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oneprice.app.kernel_pages import input_kind
from oneprice.compute.kernels.definition import BOOK, NO_INTEGER, Kernel, Values
from oneprice.model.errors import InputError, unknown_name

Column = NDArray[Any]
_SIDES = {"buy": 1.0, "sell": -1.0}
_OF_A_LEVEL = ("bid_price", "bid_qty", "ask_price", "ask_qty")


def read_file(file: Path) -> pl.DataFrame:
    """A Parquet or CSV file. InputError where it is neither."""
    try:
        return pl.read_csv(file, try_parse_dates=True) if file.suffix == ".csv" else pl.read_parquet(file)
    except (OSError, pl.exceptions.PolarsError) as wrong:
        raise InputError(f"{file}: cannot be read: {wrong}") from wrong


def inputs_from(
    kernel: Kernel, values: Values, frame: pl.DataFrame, file: Path, sources: Mapping[str, str]
) -> dict[str, Column]:
    """The inputs of a kernel with these parameters; those that may be left out are, where the file has no such column.

    InputError names the input and the column that is missing or holds something else.
    """
    for name in sources:
        if name not in kernel.inputs:
            raise InputError(unknown_name("input", name, kernel.inputs, where=kernel.name))
    may_miss = {*kernel.optional, *kernel.unread(values)}
    found: dict[str, Column] = {}
    for name in kernel.inputs:
        is_there = _has_book(frame, "") if name == BOOK else name in frame.columns
        if name in may_miss and name not in sources and not is_there:
            continue
        if name == BOOK:
            found[name] = _book(kernel, frame, file, sources.get(name, ""))
            continue
        source = sources.get(name, name)
        named = [source] if source in frame.columns else source.split(",")
        columns = [_numbers(kernel, name, _named(kernel, name, frame, one, file), file) for one in named]
        is_matrix = input_kind(kernel, name) == "matrix"
        if len(columns) > 1 and not is_matrix:
            raise InputError(f"{kernel.name}: {name} is one column, --input {name}={source} names {len(columns)}")
        found[name] = np.column_stack(columns) if is_matrix else columns[0]
    return found


def times_from(
    kernel: Kernel, values: Values, frame: pl.DataFrame, file: Path, name: str | None
) -> NDArray[np.int64] | None:
    """The times of the rows, ns. InputError where they are needed and not named, where they miss, or go back."""
    if name is None:
        if kernel.needs_time or kernel.start(values).by_time:
            raise InputError(
                f"{kernel.name} needs the time of every row: --time COLUMN. {file} has {', '.join(frame.columns)}"
            )
        return None
    if name not in frame.columns:
        raise InputError(unknown_name("column", name, frame.columns, where=str(file)))
    series = frame[name]
    if not (series.dtype.is_integer() or series.dtype in (pl.Date, pl.Datetime)):
        raise InputError(
            f"{file}: the column {name} holds {series.dtype}; a time is whole nanoseconds, or date and time"
        )
    if series.null_count():
        raise InputError(f"{file}: the column {name} has no time in row {series.is_null().arg_max()}")
    times = _whole(series).to_numpy()
    back = np.flatnonzero(np.diff(times) < 0)
    if len(back):
        row = int(back[0]) + 1
        raise InputError(
            f"{file}: the time in {name} goes back at row {row}, to {series[row]} from {series[row - 1]}: sort the file by it"
        )
    return times


def _named(kernel: Kernel, name: str, frame: pl.DataFrame, column: str, file: Path) -> pl.Series:
    if column not in frame.columns:
        told = unknown_name("column", column, frame.columns, where=str(file))
        raise InputError(f"{kernel.name}, input {name}: {told}. Say which it is: --input {name}=COLUMN")
    return frame[column]


def _numbers(kernel: Kernel, name: str, series: pl.Series, file: Path) -> Column:
    """The column as floats, NaN where there is none; as int64 where a kernel reads whole numbers."""
    if series.dtype in (pl.Date, pl.Datetime) or (name in kernel.integers and series.dtype.is_integer()):
        whole = _whole(series)
        if name in kernel.integers:
            return whole.fill_null(NO_INTEGER).to_numpy()
        series = whole
    if series.dtype == pl.String:
        words = series.drop_nulls().str.to_lowercase().unique().to_list()
        if not set(words) <= set(_SIDES):
            shown = next(word for word in series.drop_nulls() if word.lower() not in _SIDES)
            raise InputError(
                f"{file}: the column {series.name} holds text ({shown!r}); the input {name} of {kernel.name} must be numbers"
            )
        series = series.str.to_lowercase().replace_strict(_SIDES, default=None, return_dtype=pl.Float64)
    if not (series.dtype.is_numeric() or series.dtype == pl.Boolean):
        raise InputError(
            f"{file}: the column {series.name} holds {series.dtype}; the input {name} of {kernel.name} must be numbers"
        )
    # Not a view of what Polars holds: for compiled code an array that cannot be written is of another type, compiled anew.
    return series.cast(pl.Float64).fill_null(np.nan).to_numpy(writable=True)


def _whole(series: pl.Series) -> pl.Series:
    """Whole numbers as they are, dates and times as nanoseconds since 1970."""
    return series.dt.timestamp("ns") if series.dtype.is_temporal() else series.cast(pl.Int64)


def _has_book(frame: pl.DataFrame, prefix: str) -> bool:
    return f"{prefix}bid_price_1" in frame.columns or f"{prefix}bid_price" in frame.columns


def _book(kernel: Kernel, frame: pl.DataFrame, file: Path, prefix: str) -> Column:
    """The levels that the file has, as rows × 4 × levels."""
    if not _has_book(frame, prefix):
        raise InputError(
            f"{kernel.name} needs the book (bk): columns {', '.join(f'{prefix}{one}_1' for one in _OF_A_LEVEL)}, and so on "
            f"for more levels; --input bk=PREFIX where something stands before these names. {file} has "
            f"{', '.join(frame.columns)}"
        )
    levels: list[list[str]] = []
    while f"{prefix}bid_price_{len(levels) + 1}" in frame.columns:
        levels.append([f"{prefix}{one}_{len(levels) + 1}" for one in _OF_A_LEVEL])
    parts = [
        [_numbers(kernel, BOOK, _named(kernel, BOOK, frame, one, file), file) for one in level]
        for level in levels or [[f"{prefix}{one}" for one in _OF_A_LEVEL]]
    ]
    return np.moveaxis(np.array(parts), -1, 0).swapaxes(1, 2)
