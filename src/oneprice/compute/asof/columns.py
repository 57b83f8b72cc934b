"""Columns as the compiled join reads them: times as int64, keys as small codes, both without copies where there need be none.

A column is a NumPy array or a Polars series. Fixed-width columns without nulls are looked at where they lie. Whole-number keys
that lie close together are their own codes; others are numbered by a hash table. Categorical text is numbered already; short
text is numbered where it lies, longer text by Polars, once. All sides of a join are coded together: one code, one key."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oneprice.compute.asof.matching import Side
from oneprice.compute.asof.numbering import Numbers
from oneprice.compute.asof.passes import Codes
from oneprice.compute.asof.text import short_text_codes
from oneprice.compute.kernels.columns import frozen
from oneprice.compute.kernels.definition import Ints, KernelError

Column = NDArray[Any] | pl.Series
Keys = Sequence[tuple[str, Column]]  # of one side: what messages call them, and what they hold
Mask = NDArray[np.bool_]
_NS_PER_UNIT = {"": 1, "ns": 1, "us": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_WHOLE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32, pl.UInt64)
_NO_TIME = np.iinfo(np.int64).min  # NaT
_CLOSE = 1 << 16  # whole-number keys within such a span are their own codes; of many rows a wider span is, too
_MOST_CODES = (1 << 31) - 4


class Times(NamedTuple):
    """`unit`: ns, us, ms or s of a datetime, empty for plain whole numbers. `zone`: None for NumPy, which has none."""

    t: Ints
    missing: Mask | None
    unit: str
    zone: str | None

    @property
    def kind(self) -> str:
        if self.unit == "":
            return "whole numbers"
        return "datetimes" if self.zone is None else "datetimes of a time zone"


def sides_of(names: Sequence[str], times: Sequence[Column], keys: Sequence[Keys]) -> tuple[list[Side], int, int]:
    """(sides, left first; how many keys; ns a unit of their times). `names` and the names of keys are for messages.

    KernelError for columns of a dtype that cannot be a time or a key, of unlike types, or of unequal lengths.
    """
    read = [_times(name, column) for name, column in zip(names, times, strict=True)]
    for name, one in zip(names[1:], read[1:], strict=True):
        if one.kind != read[0].kind:
            raise KernelError(
                f"{name} holds {one.kind}, {names[0]} holds {read[0].kind}; both sides must have one type"
            )
    unit = min((one.unit for one in read), key=lambda unit: _NS_PER_UNIT[unit])
    found = [_in_unit(name, one, unit) for name, one in zip(names, read, strict=True)]
    for name, t, of_side in zip(names, found, keys, strict=True):
        for key_name, column in of_side:
            if len(column) != len(t):
                raise KernelError(f"{key_name} has {len(column)} rows, {name} has {len(t)}")
    codes, without_key, count = _codes(keys)
    sides = []
    for place, (name, t, one) in enumerate(zip(names, found, read, strict=True)):
        missing = _either(one.missing, without_key[place])
        if missing is not None:
            codes[place] = np.where(missing, np.int32(count if place == 0 else count + 1), codes[place])
        sides.append(Side(name, frozen(t), frozen(codes[place])))
    return sides, count, _NS_PER_UNIT[unit]


def _plain(column: Column) -> tuple[NDArray[Any], Mask | None]:
    """(values, which are missing): a column of whole numbers or times as NumPy sees it, in place where it has no nulls."""
    if isinstance(column, pl.Series):
        column = column.to_physical()
        if column.null_count() == 0:
            return column.to_numpy(), None
        least = column.min()
        return column.fill_null(0 if least is None else least).to_numpy(), column.is_null().to_numpy()
    missing = np.ma.getmaskarray(column) if np.ma.is_masked(column) else None
    values = np.ma.getdata(column)
    if values.dtype.kind == "M":
        values = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("=")).view(np.int64)
        if len(values) and values.min() == _NO_TIME:
            missing = _either(missing, values == _NO_TIME)
    if missing is None:
        return values, None
    return np.where(missing, values[~missing].min() if not missing.all() else values.dtype.type(0), values), missing


def _either(one: Mask | None, other: Mask | None) -> Mask | None:
    return other if one is None else one if other is None else one | other


# -- times --------------------------------------------------------------------------------------------------------------


def _times(name: str, column: Column) -> Times:
    dtype, unit = column.dtype, ""
    if isinstance(dtype, pl.Datetime):
        return Times(*_plain(column), dtype.time_unit, dtype.time_zone)
    if isinstance(dtype, np.dtype) and dtype.kind == "M":
        unit, count = np.datetime_data(dtype)
        unit = unit if count == 1 else "?"
    is_whole = dtype.kind in "iuM" if isinstance(dtype, np.dtype) else dtype in _WHOLE
    if not is_whole or unit not in _NS_PER_UNIT:
        raise KernelError(f"{name} holds {dtype}; it must hold whole numbers (ns) or datetimes of s, ms, us or ns")
    values, missing = _plain(column)
    if values.ndim != 1:
        raise KernelError(f"{name} has the shape {values.shape}; it must be one column")
    return Times(np.ascontiguousarray(_whole(name, values), dtype=np.int64), missing, unit, None)


def _in_unit(name: str, times: Times, unit: str) -> Ints:
    factor = _NS_PER_UNIT[times.unit] // _NS_PER_UNIT[unit]
    if factor == 1 or len(times.t) == 0:
        return times.t
    usable = times.t if times.missing is None else times.t[~times.missing]
    furthest = max(abs(int(usable.min())), abs(int(usable.max()))) if len(usable) else 0
    if furthest * factor > np.iinfo(np.int64).max:
        raise KernelError(f"{name} holds a time too far from 1970 to be counted in {unit}, the unit of the other side")
    return times.t * factor


# -- keys ---------------------------------------------------------------------------------------------------------------


def _codes(keys: Sequence[Keys]) -> tuple[list[Codes], list[Mask | None], int]:
    """For each side its codes and which rows have no key; how many codes there can be. Without keys: one code for all."""
    codes: list[Codes] = [np.zeros(1, dtype=np.int32)] * len(keys)
    missing: list[Mask | None] = [None] * len(keys)
    count = 1
    for number, columns in enumerate(zip(*keys, strict=True)):
        more_codes, more_missing, more = _codes_of_one(columns)
        missing = [_either(a, b) for a, b in zip(missing, more_missing, strict=True)]
        if number == 0:
            codes, count = more_codes, more
        else:
            both = [a.astype(np.int64) * more + b for a, b in zip(codes, more_codes, strict=True)]
            codes, count = _numbered(both)
    return codes, missing, count


def _codes_of_one(columns: Keys) -> tuple[list[Codes], list[Mask | None], int]:
    first_name, first = columns[0]
    kind = key_kind(first_name, first)
    for name, column in columns[1:]:
        if (other := key_kind(name, column)) != kind:
            raise KernelError(f"{name} holds {other}, {first_name} holds {kind}; keys must be of one type")
    given: Sequence[Column] = [column for _, column in columns]
    if kind == "text":
        texts = [_as_text(name, column) for name, column in columns]
        if all(text.dtype == pl.String for text in texts):
            missing = [text.is_null().to_numpy() if text.null_count() else None for text in texts]
            found = short_text_codes([text.fill_null("") if text.null_count() else text for text in texts])
            if found is not None:
                return found[0], missing, found[1]
        given = _as_numbered_text(texts)
    plain = [_plain(column) for column in given]
    codes, count = _numbered([_whole(name, values) for (name, _), (values, _) in zip(columns, plain, strict=True)])
    return codes, [missing for _, missing in plain], count


def key_kind(name: str, column: Column) -> str:
    dtype = column.dtype
    if isinstance(dtype, np.dtype):
        kinds = {"i": "whole numbers", "u": "whole numbers", "b": "booleans", "M": str(dtype)}
        if dtype.kind in "iubMUTO" and np.ndim(column) == 1:
            return kinds.get(dtype.kind, "text")
    elif dtype in _WHOLE:
        return "whole numbers"
    elif dtype == pl.Boolean:
        return "booleans"
    elif isinstance(dtype, pl.String | pl.Categorical | pl.Enum):
        return "text"
    elif isinstance(dtype, pl.Date | pl.Datetime):
        return str(dtype)
    raise KernelError(f"{name} holds {dtype}; a key must be a column of text or of whole numbers")


def _as_text(name: str, column: Column) -> pl.Series:
    if isinstance(column, pl.Series):
        return column
    try:
        text = pl.Series(np.ma.getdata(column).tolist(), dtype=pl.String)
    except TypeError as wrong:
        raise KernelError(f"{name} holds objects other than text; a key must be text or whole numbers") from wrong
    return text.set(pl.Series(np.ma.getmaskarray(column)), None) if np.ma.is_masked(column) else text


def _as_numbered_text(texts: Sequence[pl.Series]) -> Sequence[pl.Series]:
    """Categoricals of one numbering."""
    if texts[0].dtype != pl.String and all(one.dtype == texts[0].dtype for one in texts):
        return texts  # numbered already, and alike
    with ThreadPoolExecutor(len(texts)) as pool:  # Polars numbers a column in one thread, but lets others do theirs
        return list(pool.map(lambda one: one.cast(pl.Categorical), texts))


def _whole(name: str, values: NDArray[Any]) -> NDArray[Any]:
    """The values. KernelError where an int64 does not hold them."""
    if values.dtype == np.uint64 and len(values) and values.max() > np.iinfo(np.int64).max:
        raise KernelError(f"{name} holds {values.max()}, which is more than an int64 holds")
    return values


def _numbered(values: Sequence[NDArray[Any]]) -> tuple[list[Codes], int]:
    """Codes of whole numbers: the distance from the least where they lie close together, else by a hash table."""
    bounds = [(int(one.min()), int(one.max())) for one in values if len(one)]
    low, high = min((one[0] for one in bounds), default=0), max((one[1] for one in bounds), default=-1)
    if low >= 0 and high < _CLOSE:
        low = 0
    rows = sum(map(len, values))
    if high - low < max(_CLOSE, min(rows // 4, _MOST_CODES)):
        return [_above(one, low) for one in values], high - low + 1
    numbers = Numbers(width=1)
    codes = [numbers.codes(one.astype(np.int64)) for one in values]
    return [one for one in codes if one is not None], numbers.count  # only text can be without


def _above(whole: NDArray[Any], low: int) -> Codes:
    """How far above the least."""
    if low != 0:
        return (whole.astype(np.int64) - low).astype(np.int32)
    if whole.dtype in (np.int32, np.uint32) and whole.flags.c_contiguous:
        return whole.view(np.int32)  # as they lie
    return whole.astype(np.int32)
