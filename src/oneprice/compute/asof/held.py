"""Rows that are held for a while: in order of time and, within one time, of arrival. They come in near the end and go at the
front, so both cost as much as the rows that come and go, not as much as those that stay."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from oneprice.compute.asof.passes import Codes
from oneprice.compute.kernels.definition import Ints

Columns = dict[str, NDArray[Any]]


class Packed(msgspec.Struct, frozen=True):
    """A column as bytes; one of objects (text) as a list."""

    dtype: str
    values: Any
    mask: bytes | None = None


class Held:
    """Arrays with room at both ends; the rows stand from `_begin` up to `_end`."""

    def __init__(self, t: Ints | None = None, codes: Codes | None = None, columns: Columns | None = None) -> None:
        self.names: list[str] = list(columns or {})
        self._arrays: list[NDArray[Any]] = [
            np.zeros(0, dtype=np.int64) if t is None else t,
            np.zeros(0, dtype=np.int32) if codes is None else codes,
            *(columns or {}).values(),
        ]
        self._begin, self._end = 0, len(self._arrays[0])

    def __len__(self) -> int:
        return self._end - self._begin

    @property
    def t(self) -> Ints:
        return self._arrays[0][self._begin : self._end]

    @property
    def codes(self) -> Codes:
        return self._arrays[1][self._begin : self._end]

    @property
    def columns(self) -> Columns:
        arrays = zip(self.names, self._arrays[2:], strict=True)
        return {name: array[self._begin : self._end] for name, array in arrays}

    def add(self, t: Ints, codes: Codes, columns: Columns) -> None:
        """Rows in order of arrival; the first ones say which columns there are."""
        if not self.names:
            self.names = list(columns)
            self._arrays[2:] = [column[:0] for column in columns.values()]
        last = self._arrays[0][self._end - 1] if len(self) else t.min(initial=0)
        rows: list[NDArray[Any]] = [t, codes, *(columns[name] for name in self.names)]
        self._make_room(rows)
        for array, new in zip(self._arrays, rows, strict=True):
            array[self._end : self._end + len(t)] = new
        self._end += len(t)
        if len(t) and (t[0] < last or (t[1:] < t[:-1]).any()):
            first = self._begin + int(np.searchsorted(self.t[: len(self) - len(t)], t.min(), side="right"))
            order = first + np.argsort(self._arrays[0][first : self._end], kind="stable")
            for array in self._arrays:
                array[first : self._end] = array[order]

    def give_up(self, before: int, but: Ints | None = None) -> None:
        """Rows go: those before this place, but for some, whose places are given."""
        kept = np.zeros(0, dtype=np.int64) if but is None else but
        begin = self._begin + before - len(kept)
        if begin == self._begin:
            return
        for array in self._arrays if len(kept) else []:
            array[begin : begin + len(kept)] = array[self._begin + kept]
        self._begin = begin

    def _make_room(self, rows: list[NDArray[Any]]) -> None:
        """So that these rows fit in, in number and in kind: longer text, missing values."""
        capacity, count = len(self._arrays[0]), len(self)
        needs = self._end + len(rows[0]) > capacity
        if needs:
            capacity = max(64, 2 * (count + len(rows[0])))
        for k, (array, new) in enumerate(zip(self._arrays, rows, strict=True)):
            dtype = np.result_type(array.dtype, new.dtype) if array.dtype != new.dtype else array.dtype
            is_masked = isinstance(new, np.ma.MaskedArray) and not isinstance(array, np.ma.MaskedArray)
            if needs or dtype != array.dtype or is_masked:
                begin = 0 if needs else self._begin
                wider: NDArray[Any] = np.empty((capacity, *array.shape[1:]), dtype=dtype)
                if is_masked or isinstance(array, np.ma.MaskedArray):
                    wider = np.ma.MaskedArray(wider, mask=np.zeros(wider.shape, dtype=bool))
                wider[begin : begin + count] = array[self._begin : self._end]
                self._arrays[k] = wider
        if needs:
            self._begin, self._end = 0, count


def packed(column: NDArray[Any]) -> Packed:
    mask = np.ma.getmaskarray(column).tobytes() if isinstance(column, np.ma.MaskedArray) else None
    plain = np.ma.getdata(column)
    if plain.dtype.kind == "O":
        return Packed("O", plain.tolist(), mask)
    return Packed(f"{plain.shape[1:]}{plain.dtype.str}", plain.tobytes(), mask)  # "(4, 12)<f8": a matrix, row by row


def unpacked(saved: Packed) -> NDArray[Any]:
    if saved.dtype == "O":
        plain = np.array(saved.values, dtype=object)
    else:
        plain = np.frombuffer(saved.values, dtype=np.dtype(saved.dtype)).copy()
    if saved.mask is None:
        return plain
    return np.ma.MaskedArray(plain, mask=np.frombuffer(saved.mask, dtype=bool).reshape(plain.shape))
