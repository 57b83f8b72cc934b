"""ASOF joins of tables: dicts of NumPy columns, Arrow tables and Polars frames, in any mixture.

The left table comes back whole and in its order; of each right table its columns are taken at the rows that
`matching.matched_rows` finds. The result is of the left table's kind. Where there is no match a column of Polars or Arrow holds
null. A column of NumPy holds NaN or NaT; one that has no such value (whole numbers, booleans, text) is a masked array,
because a time in ns or a price mantissa does not survive in a float."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import ArrayLike, NDArray

from oneprice.compute.asof.columns import Column, Keys, sides_of
from oneprice.compute.asof.definition import Rule, read_rule
from oneprice.compute.asof.matching import matched_rows
from oneprice.compute.asof.passes import NONE
from oneprice.compute.kernels.definition import Ints, KernelError
from oneprice.model.errors import unknown_name

Table = Any  # dict of NumPy columns, pyarrow.Table or polars.DataFrame
By = str | Sequence[str] | None
_PLACE = pl.Series(dtype=pl.get_index_type()).to_numpy().dtype  # how Polars counts rows


def asof_join(
    left: Table, right: Table, on: str = "t", by: By = None, *, direction: str = "backward",
    tolerance: int | str | None = None, exact: bool = True, suffix: str = "_right",
) -> Table:  # fmt: skip
    """Every left row with the columns of the right row that is nearest in time, of the same key.

    `on`: the time in both tables: whole numbers, which count as ns, or datetimes. `by`: the key, one column or several.
    `direction`: "backward" (the last right row at or before), "forward" (the first at or after) or "nearest" (the nearer of
    both; of two as near, the one before). Of several right rows of one time the last is taken. `tolerance`: how far away it may
    be, inclusive, in ns or as "1s". `exact`: false, and rows of equal time do not match. `suffix`: what the name of a right
    column gets that the left table has, too. The right table's `on` and `by` are not repeated.

    Both sides must be sorted by time within each key. A row without time or key has no match. KernelError names the argument
    that cannot be used, or the row that is out of order.

    >>> import numpy as np
    >>> trades = {"t": np.array([5, 9]), "p": np.array([10.0, 11.0])}
    >>> quotes = {"t": np.array([1, 5, 8]), "bid": np.array([9.0, 9.5, 9.9])}
    >>> asof_join(trades, quotes)["bid"].tolist()
    [9.5, 9.9]
    """
    rule, keys = read_rule(direction, tolerance, exact), names_given("by", by)
    rows = _rows_of({"left": left, "right": right}, on, keys, rule)
    taken = set(_names_of(left))
    renamed = {
        name: f"{name}{suffix}" if name in taken else name for name in _names_of(right) if name not in (on, *keys)
    }
    return _joined(left, [(right, rows[0], renamed)])


def asof_align(
    clock: Table, sources: Mapping[str, Table], on: str = "t", by: By = None, *, direction: str = "backward",
    tolerance: int | str | None = None, exact: bool = True,
) -> Table:  # fmt: skip
    """Many sources on one clock: the clock's rows with the columns of each source, `bid` of `binance` as `bid_binance`.

    Everything else is as in `asof_join`; keys are numbered once for all sources.

    >>> import numpy as np
    >>> clock = {"t": np.array([10, 20])}
    >>> a = {"t": np.array([9, 19]), "bid": np.array([1.0, 2.0])}
    >>> b = {"t": np.array([15]), "bid": np.array([3.0])}
    >>> aligned = asof_align(clock, {"a": a, "b": b})
    >>> aligned["bid_a"].tolist(), aligned["bid_b"].tolist()
    ([1.0, 2.0], [nan, 3.0])
    """
    rule, keys = read_rule(direction, tolerance, exact), names_given("by", by)
    told = {f"sources[{name!r}]": table for name, table in sources.items()}
    rows = _rows_of({"clock": clock} | told, on, keys, rule)
    return _joined(
        clock,
        [
            (table, of_table, {column: f"{column}_{name}" for column in _names_of(table) if column not in (on, *keys)})
            for (name, table), of_table in zip(sources.items(), rows, strict=True)
        ],
    )


def asof_rows(
    left_t: ArrayLike | pl.Series, right_t: ArrayLike | pl.Series, left_key: Any = None, right_key: Any = None, *,
    direction: str = "backward", tolerance: int | str | None = None, exact: bool = True,
) -> Ints:  # fmt: skip
    """For each left row the number of its right row, -1 where there is none: what every join here rests on.

    Times and keys are columns (NumPy or Polars); several keys are a tuple of columns. Everything else is as in `asof_join`.

    >>> asof_rows([0, 5, 9], [1, 5, 8]).tolist()
    [-1, 1, 2]
    """
    rule = read_rule(direction, tolerance, exact)
    named = [
        [(f"{name}[{k}]" if isinstance(given, tuple) else name, _as_column(one)) for k, one in enumerate(columns)]
        for name, given in (("left_key", left_key), ("right_key", right_key))
        for columns in [() if given is None else given if isinstance(given, tuple) else (given,)]
    ]
    if len(named[0]) != len(named[1]):
        raise KernelError(f"left_key has {len(named[0])} columns, right_key {len(named[1])}; they must be as many")
    return _matched(["left_t", "right_t"], [_as_column(left_t), _as_column(right_t)], named, rule)[0]


def _matched(names: Sequence[str], times: Sequence[Column], keys: Sequence[Keys], rule: Rule) -> list[Ints]:
    (left, *rights), count, ns = sides_of(names, times, keys)
    return [matched_rows(left, right, count, rule.in_units_of(ns)) for right in rights]


def _rows_of(tables: Mapping[str, Table], on: str, by: Sequence[str], rule: Rule) -> list[Ints]:
    names = [f"{name}[{on!r}]" for name in tables]
    times = [_column(name, table, "on", on) for name, table in tables.items()]
    keys = [[(f"{name}[{key!r}]", _column(name, table, "by", key)) for key in by] for name, table in tables.items()]
    for name, table in tables.items():
        for column in table if isinstance(table, Mapping) else ():
            if len(table[column]) != len(table[on]):
                raise KernelError(
                    f"{name}[{column!r}] has {len(table[column])} rows, {name}[{on!r}] has {len(table[on])}"
                )
    return _matched(names, times, keys, rule)


def names_given(argument: str, given: By) -> tuple[str, ...]:
    names = () if given is None else (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise KernelError(f"{argument}={given!r}: it must be the name of a column, or several")
    return names


# -- tables -------------------------------------------------------------------------------------------------------------


def _is_arrow(table: Table) -> bool:
    return type(table).__module__.partition(".")[0] == "pyarrow" and hasattr(table, "column_names")


def _names_of(table: Table) -> list[str]:
    if isinstance(table, pl.DataFrame):
        return table.columns
    return list(table.column_names if _is_arrow(table) else table)


def _column(name: str, table: Table, argument: str, column: str) -> Column:
    """A column where it lies: NumPy's own, Polars' own, or Arrow's through Polars, which shares its memory."""
    if not (isinstance(table, pl.DataFrame | Mapping) or _is_arrow(table)):
        raise KernelError(
            f"{name} is a {type(table).__name__}; it must be a dict of NumPy columns, an Arrow table or a Polars DataFrame"
        )
    if column not in _names_of(table):
        raise KernelError(f"{argument}: {unknown_name('column', column, map(str, _names_of(table)), where=name)}")
    return _as_column(table[column])


def _as_column(given: Any) -> Column:
    if isinstance(given, np.ndarray | pl.Series):
        return given
    if type(given).__module__.partition(".")[0] == "pyarrow":
        made = pl.from_arrow(given)
        assert isinstance(made, pl.Series)
        return made
    return np.asarray(given)


def _joined(left: Table, taken: Sequence[tuple[Table, Ints, Mapping[str, str]]]) -> Table:
    """The left table and, of each right table, its columns at these rows under new names."""
    names = [*_names_of(left), *(new for _, _, renamed in taken for new in renamed.values())]
    if twice := {name for name in names if names.count(name) > 1}:
        raise KernelError(
            f"suffix: the result would have several columns {', '.join(sorted(twice))}; names must differ"
        )
    if isinstance(left, pl.DataFrame):
        parts = [_of_polars(table, rows, renamed) for table, rows, renamed in taken]
        return left.with_columns([one for part in parts for one in part])
    if _is_arrow(left):
        for table, rows, renamed in taken:
            for name, column in _of_arrow(table, rows, renamed).items():
                left = left.append_column(name, column)
        return left
    made = dict(left)
    for table, rows, renamed in taken:
        missing = rows == NONE
        made |= {new: taken_at(_as_numpy(table[old]), rows, missing) for old, new in renamed.items()}
    return made


def _of_polars(table: Table, rows: Ints, renamed: Mapping[str, str]) -> list[pl.Series]:
    if not renamed:
        return []
    # Places of any other kind Polars would cast, for each column anew. NONE becomes the largest.
    places = pl.Series(rows.astype(_PLACE))
    places = pl.select(pl.when(places != np.iinfo(_PLACE).max).then(places)).to_series()
    return pl.DataFrame([_as_series(table[old]).alias(new) for old, new in renamed.items()])[places].get_columns()


def _as_series(column: Any) -> pl.Series:
    """A right column of any kind as Polars has it; what is masked is null."""
    found = _as_column(column)
    if isinstance(found, pl.Series):
        return found
    series = pl.Series(np.ma.getdata(found))
    return series.set(pl.Series(np.ma.getmaskarray(found)), None) if np.ma.is_masked(found) else series


def _of_arrow(table: Table, rows: Ints, renamed: Mapping[str, str]) -> dict[str, Any]:
    import pyarrow as pa  # type: ignore[import-untyped]  # whoever brings an Arrow table has it

    places = pa.array(rows, mask=rows == NONE)
    found = {}
    for old, new in renamed.items():
        column = table[old]
        arrow = column.to_arrow() if isinstance(column, pl.Series) else column if _is_arrow(table) else pa.array(column)
        found[new] = arrow.take(places)
    return found


def numpy_columns(name: str, table: Table, must: Sequence[str]) -> dict[str, NDArray[Any]]:
    """A table of any kind as NumPy columns. KernelError where one that must be there is missing."""
    for column in must:
        _column(name, table, "on" if column == must[0] else "by", column)
    return {column: _as_numpy(table[column]) for column in _names_of(table)}


def _as_numpy(column: Any) -> NDArray[Any]:
    """A right column of any kind as NumPy has it: whole numbers with nulls as a masked array."""
    found = _as_column(column)
    if isinstance(found, np.ndarray):
        return found
    if found.null_count() == 0 or not (found.dtype.is_integer() or found.dtype == pl.Boolean):
        return found.to_numpy()
    return np.ma.MaskedArray(found.fill_null(found.min()).to_numpy(), mask=found.is_null().to_numpy())


def taken_at(column: NDArray[Any], rows: Ints, missing: NDArray[np.bool_]) -> NDArray[Any]:
    """A NumPy column (or a matrix, row by row) at these rows; see the module for rows without a match."""
    shape = (len(rows), *column.shape[1:])
    taken = column.take(rows, axis=0, mode="clip") if len(column) else np.zeros(shape, dtype=column.dtype)
    kind, none = taken.dtype.kind, missing.reshape(-1, *[1] * (column.ndim - 1))
    if kind in "fcmMO" and not isinstance(taken, np.ma.MaskedArray):
        empty = {"f": np.nan, "c": np.nan, "O": None}.get(kind, "NaT")
        taken[missing] = empty
        return taken
    return np.ma.MaskedArray(taken, mask=np.ma.getmaskarray(taken) | none)
