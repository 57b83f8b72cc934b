"""Inputs that are still arriving: rows held in order of time, with the watermark of what can still come; and keys numbered
as they turn up, with the time up to which each is decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.asof.columns import key_kind, sides_of
from oneprice.compute.asof.definition import Rule
from oneprice.compute.asof.held import Columns, Held, Packed, packed, unpacked
from oneprice.compute.asof.matching import Side
from oneprice.compute.asof.passes import Codes, distance
from oneprice.compute.kernels.columns import frozen
from oneprice.compute.kernels.definition import Ints, KernelError

MAX_NS, MIN_NS = np.iinfo(np.int64).max, np.iinfo(np.int64).min
NO_KEY = -1


class SavedInput(msgspec.Struct, frozen=True):
    lateness_ns: int
    newest_ns: int
    late: int
    t: Packed
    codes: Packed
    columns: dict[str, Packed]


class SavedKeys(msgspec.Struct, frozen=True):
    kinds: list[str]
    known: list[list[Any]]
    decided_ns: Packed


class Keys:
    """Codes of the keys met so far, and up to when each is decided: no right row of that key may come up to there."""

    def __init__(self, by: Sequence[str]) -> None:
        self._by = by
        self.kinds: list[str] = []  # of the columns, as soon as rows have come
        # Numbers of each column's values, and of what they make together with those of the columns before it.
        self._known: list[dict[Any, int]] = [{} for _ in range(2 * len(by))]
        self.decided_ns = np.full(0 if by else 1, MIN_NS, dtype=np.int64)

    def codes(self, name: str, columns: Columns, rows: int) -> Codes:
        """The code of each row's key, -1 for none. KernelError for a key of another type than before."""
        if not self._by:
            return np.zeros(rows, dtype=np.int32)
        kinds = [key_kind(f"{name}[{key!r}]", columns[key]) for key in self._by]
        self.kinds = self.kinds or kinds
        for key, kind, before in zip(self._by, kinds, self.kinds, strict=True):
            if kind != before:
                raise KernelError(f"{name}[{key!r}] holds {kind}, before it was {before}; keys must be of one type")
        codes = np.zeros(rows, dtype=np.int64)
        for k, key in enumerate(self._by):
            numbers = self._numbers_of(2 * k, *_values(f"{name}[{key!r}]", columns[key]))
            missing = (codes == NO_KEY) | (numbers == NO_KEY)
            codes = numbers if k == 0 else self._numbers_of(2 * k + 1, codes << 32 | numbers, missing)
        new = len(self._known[0 if len(self._by) == 1 else -1]) - len(self.decided_ns)
        self.decided_ns = np.concatenate([self.decided_ns, np.full(new, MIN_NS, dtype=np.int64)])
        return codes.astype(np.int32)

    def decide(self, codes: Codes, until_ns: Ints) -> None:
        """These keys are decided up to then; `until_ns` ascends."""
        has_key = codes != NO_KEY
        self.decided_ns[codes[has_key]] = until_ns[has_key]  # of several of one key the last stays

    def is_decided(self, codes: Codes, t: Ints) -> NDArray[np.bool_]:
        known = self.decided_ns[np.maximum(codes, 0)] if len(self.decided_ns) else np.full(len(codes), MIN_NS)
        is_decided: NDArray[np.bool_] = (codes != NO_KEY) & (t <= known) & (known != MIN_NS)
        return is_decided

    def _numbers_of(self, k: int, values: NDArray[Any], missing: NDArray[np.bool_]) -> Ints:
        known = self._known[k]
        numbers = np.full(len(values), NO_KEY, dtype=np.int64)
        found, inverse = np.unique(values[~missing], return_inverse=True)
        number_of = [known.setdefault(value, len(known)) for value in found.tolist()]
        numbers[~missing] = np.array(number_of, dtype=np.int64)[inverse]
        return numbers

    def save(self) -> SavedKeys:
        return SavedKeys(self.kinds, [list(one) for one in self._known], packed(self.decided_ns))

    @classmethod
    def load(cls, by: Sequence[str], saved: SavedKeys) -> Keys:
        made = cls(by)
        made.kinds = saved.kinds
        made._known = [{value: k for k, value in enumerate(values)} for values in saved.known]
        made.decided_ns = unpacked(saved.decided_ns)
        return made


def _values(name: str, column: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(what can be told apart, which are missing)."""
    values, missing = np.ma.getdata(column), np.ma.getmaskarray(column)
    if values.dtype.kind == "M":
        return values.view(np.int64), missing | np.isnat(values)
    if values.dtype.kind == "O":
        missing = missing | np.array([value is None for value in values], dtype=bool)
        if not all(isinstance(value, str) for value in values[~missing]):
            raise KernelError(f"{name} holds objects other than text; a key must be text or whole numbers")
    return values, missing


class Arrived(NamedTuple):
    """New rows of an input: times in ns, codes of keys, and all columns."""

    t: Ints
    codes: Codes
    columns: Columns


class Input:
    """One input: the rows of it that are held, and its watermark."""

    def __init__(self, name: str, lateness_ns: int) -> None:
        self.name = name
        self.lateness_ns = lateness_ns
        self.newest_ns = MIN_NS  # nothing seen
        self.late = 0
        self.rows = Held()

    @property
    def watermark_ns(self) -> int:
        """No row before it can come any more but late; MIN_NS before the first row."""
        return max(self.newest_ns - self.lateness_ns, MIN_NS)

    def see(self, t_ns: int) -> None:
        """Time has come to here, even if no row says so."""
        self.newest_ns = max(self.newest_ns, t_ns)

    def read(self, table: Columns, on: str, keys: Keys) -> Arrived:
        """New rows, before any is taken. KernelError for columns that cannot be used."""
        t = self._times(table, on)
        return Arrived(t, keys.codes(self.name, table, len(t)), table)

    def take(self, rows: Arrived, keys: Keys | None = None) -> None:
        """Take rows in, without those that come late: before the watermark, or, where `keys` are given, no later than what is
        decided of their key. With `keys` rows without a key are dropped, too: they can have no partner."""
        t, codes, columns = rows
        newest = np.maximum.accumulate(np.maximum(t, self.newest_ns))
        newest_before = np.concatenate([np.array([self.newest_ns]), newest[:-1]])[: len(t)]
        is_late = t < np.maximum(newest_before, MIN_NS + self.lateness_ns) - self.lateness_ns
        usable = ~is_late
        if keys is not None:
            is_late |= keys.is_decided(codes, t)
            usable = ~is_late & (codes != NO_KEY)
        self.late += int(is_late.sum())
        self.newest_ns = max(self.newest_ns, int(t.max(initial=MIN_NS)))
        self.rows.add(t[usable], codes[usable], {name: column[usable] for name, column in columns.items()})

    def side(self, rows: int | None, code_of_none: int | None = None) -> Side:
        """The first rows, or all, as the join reads them; with the code of rows without a key where there may be some."""
        codes = self.rows.codes[:rows]
        if code_of_none is not None:
            codes = np.where(codes == NO_KEY, np.int32(code_of_none), codes)
        return Side(self.name, frozen(self.rows.t[:rows]), frozen(codes))

    def prune(self, floor_ns: int, rule: Rule, keys: int) -> None:
        """Let go of right rows that no left row at `floor_ns` or later can get: those before it but, where the join looks back,
        the newest one of each key, within the tolerance."""
        looks_back = rule.direction != "forward"
        before = int(np.searchsorted(self.rows.t, floor_ns, side="right" if rule.exact == looks_back else "left"))
        t, codes = self.rows.t[:before], self.rows.codes[:before]
        self.rows.give_up(before, _newest(t, codes, floor_ns, rule.tolerance, keys) if looks_back else None)

    def save(self) -> SavedInput:
        columns = {name: packed(column) for name, column in self.rows.columns.items()}
        t, codes = packed(self.rows.t), packed(self.rows.codes)
        return SavedInput(self.lateness_ns, self.newest_ns, self.late, t, codes, columns)

    @classmethod
    def load(cls, name: str, saved: SavedInput) -> Input:
        made = cls(name, saved.lateness_ns)
        made.newest_ns, made.late = saved.newest_ns, saved.late
        columns = {column: unpacked(one) for column, one in saved.columns.items()}
        made.rows = Held(unpacked(saved.t), unpacked(saved.codes), columns)
        return made

    def _times(self, table: Columns, on: str) -> Ints:
        """In ns. KernelError for columns that are not those seen before, or a row without a time."""
        held = self.rows.columns
        if held and table.keys() != held.keys():
            raise KernelError(
                f"{self.name} has the columns {', '.join(table)}; before it had {', '.join(held)}, and must keep them"
            )
        for name, before in held.items():
            if table[name].dtype.kind != before.dtype.kind or table[name].shape[1:] != before.shape[1:]:
                raise KernelError(
                    f"{self.name}[{name!r}] holds {table[name].dtype}; before it held {before.dtype}, and must stay of a kind"
                )
        (side,), count, ns = sides_of([f"{self.name}[{on!r}]"], [table[on]], [[]])
        for name, column in table.items():
            if len(column) != len(side.t):
                raise KernelError(f"{self.name}[{name!r}] has {len(column)} rows, {side.name} has {len(side.t)}")
        if (without := np.flatnonzero(side.codes[: len(side.t)] == count)).size:
            raise KernelError(f"{side.name} holds no time in row {without[0]}; every row that arrives must have one")
        return side.t * ns


@njit(cache=True)
def _newest(t, codes, floor_ns, tolerance, keys):
    """The places of the newest row of each key, ascending, of those that are within the tolerance."""
    is_met = np.zeros(keys, dtype=np.bool_)
    places = np.empty(min(keys, t.shape[0]), dtype=np.int64)
    first = places.shape[0]
    for i in range(t.shape[0] - 1, -1, -1):
        if distance(t[i], floor_ns) > tolerance:
            break
        if not is_met[codes[i]]:
            is_met[codes[i]] = True
            first -= 1
            places[first] = i
    return places[first:]
