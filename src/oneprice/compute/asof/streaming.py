"""The ASOF join of inputs that are still arriving: rows may come out of order, as far as each input declares.

An input's watermark is the newest time seen less its `allowed_lateness`: nothing before it comes any more. A left row is
released, in order of time, when no right input can change its answer: when every right watermark has reached its time
(backward), or its time and the tolerance (forward, nearest), and the left input's own watermark has reached its time, too.
What comes before its input's watermark after all, and what would change the answer of a row that is out already, is counted
late and left out. Released rows are matched by the same compiled pass as in a batch, so what comes out is the batch join of
all rows but the late ones, row for row.

Right rows are held as long as a left row that is to come can get them: those from the earliest such time on and, where the join
looks back, of each key the newest one before, within the tolerance. That time is the oldest left row that waits, or the left
watermark: while no left row comes, right rows pile up, unless `advance` says that time has gone on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from oneprice.compute.asof.arriving import MAX_NS, MIN_NS, Input, Keys, SavedInput, SavedKeys
from oneprice.compute.asof.definition import read_ns, read_rule
from oneprice.compute.asof.held import Columns
from oneprice.compute.asof.joins import By, Table, names_given, numpy_columns, taken_at
from oneprice.compute.asof.matching import sorted_rows
from oneprice.compute.asof.passes import NONE
from oneprice.compute.kernels.definition import KernelError, decoded
from oneprice.model.errors import unknown_name

_VERSION = 1
LEFT = "left"


class _Saved(msgspec.Struct, frozen=True):
    version: int
    arguments: dict[str, Any]
    inputs: dict[str, SavedInput]
    keys: SavedKeys


class StreamingAsof:
    """An ASOF join in which left and right rows arrive bit by bit.

    >>> import numpy as np
    >>> join = StreamingAsof({"quotes": 0})
    >>> join.update({"t": np.array([5, 9])}, quotes={"t": np.array([4, 7]), "bid": np.array([1.0, 2.0])})
    {'t': array([5]), 'bid_quotes': array([1.])}
    >>> join.update(quotes={"t": np.array([12]), "bid": np.array([3.0])})
    {'t': array([9]), 'bid_quotes': array([2.])}
    """

    def __init__(
        self, allowed_lateness: Mapping[str, int | str], on: str = "t", by: By = None, *, direction: str = "backward",
        tolerance: int | str | None = None, exact: bool = True, left_lateness: int | str = 0,
    ) -> None:  # fmt: skip
        """`allowed_lateness`: the right inputs by name, and how far behind its newest row a row of each may come, in ns or as
        "50ms". `left_lateness`: the same of the left input. The rest is as in `asof_join`; forward and nearest need a
        tolerance, without which a row might wait for ever.

        A lateness of 0 says that times do not go back. Where several rows of one time may come in separate updates, declare at
        least 1 ns: a left row of that time then waits until all of them are there.
        """
        self._arguments = {
            "allowed_lateness": dict(allowed_lateness), "on": on, "by": names_given("by", by), "direction": direction,
            "tolerance": tolerance, "exact": exact, "left_lateness": left_lateness,
        }  # fmt: skip
        self._rule = read_rule(direction, tolerance, exact)
        if direction != "backward" and not self._rule.is_bounded:
            raise KernelError(f"tolerance=None: {direction} needs one here, or a left row might wait for ever")
        if not allowed_lateness or LEFT in allowed_lateness:
            raise KernelError(
                f"allowed_lateness={dict(allowed_lateness)!r}: it must name the right inputs, none of them {LEFT!r}"
            )
        self._on, self._by = on, names_given("by", by)
        self._wait_ns = 0 if direction == "backward" else int(self._rule.tolerance)
        self._keys = Keys(self._by)
        self._left = Input(LEFT, read_ns("left_lateness", left_lateness))
        self._rights = {
            name: Input(name, read_ns(f"allowed_lateness[{name!r}]", lateness))
            for name, lateness in allowed_lateness.items()
        }

    def update(self, left: Table | None = None, /, **rights: Table) -> Columns:
        """Take in new rows, of the left input and of right inputs by name, and release what is ready: left columns, and those
        of each right input, `bid` of `binance` as `bid_binance`. KernelError for rows that cannot be used; then none is taken.

        Rows are dicts of NumPy columns, Arrow tables or Polars frames; what comes out is a dict of NumPy columns, as
        `asof_align` makes it. An input of which nothing has come yet has no columns there.
        """
        kinds, given = self._keys.kinds, [(self._left, left), *((self._input(name), rights[name]) for name in rights)]
        try:
            arrived = [
                (one, one.read(numpy_columns(one.name, table, (self._on, *self._by)), self._on, self._keys))
                for one, table in given
                if table is not None
            ]
        except KernelError:
            self._keys.kinds = kinds  # nothing is learnt from rows that are refused
            raise
        for one, rows in arrived:
            one.take(rows, None if one is self._left else self._keys)
        return self._release(self._ready_until_ns())

    def advance(self, t_ns: int, *names: str) -> Columns:
        """Time has come to `t_ns` in these inputs ("left" or right names; none: in all), even if no row says so: their
        watermarks follow, and what is ready is released. For inputs that are quiet; a timer of the tape knows."""
        if not isinstance(t_ns, int | np.integer):
            raise KernelError(f"t_ns={t_ns!r}: it must be a time in whole ns")
        for name in names or (LEFT, *self._rights):
            self._input(name).see(int(t_ns))
        return self._release(self._ready_until_ns())

    def finish(self) -> Columns:
        """All inputs have ended: release every row that still waits. Whatever comes later is late."""
        released = self._release(MAX_NS)
        self.advance(MAX_NS)
        return released

    @property
    def late(self) -> dict[str, int]:
        """Rows of each input that came too late and were left out."""
        return {one.name: one.late for one in (self._left, *self._rights.values())}

    @property
    def held(self) -> dict[str, int]:
        """Rows of each input that are kept: left rows that wait, right rows that may still be wanted."""
        return {one.name: len(one.rows) for one in (self._left, *self._rights.values())}

    def save(self) -> bytes:
        """Everything that it takes to go on elsewhere."""
        inputs = {one.name: one.save() for one in (self._left, *self._rights.values())}
        return msgspec.msgpack.encode(_Saved(_VERSION, self._arguments, inputs, self._keys.save()))

    @classmethod
    def load(cls, saved: bytes) -> StreamingAsof:
        """The join as it was saved. KernelError for another version of its state, or for what is no state."""
        read = decoded(saved, _Saved, "this is no saved ASOF join")
        if read.version != _VERSION:
            raise KernelError(f"the saved ASOF join is of version {read.version}, this is version {_VERSION}")
        made = cls(**read.arguments)
        made._left = Input.load(LEFT, read.inputs[LEFT])
        made._rights = {name: Input.load(name, read.inputs[name]) for name in made._rights}
        made._keys = Keys.load(made._by, read.keys)
        return made

    def _input(self, name: str) -> Input:
        if name == LEFT:
            return self._left
        if name not in self._rights:
            raise KernelError(unknown_name("input", name, self._rights))
        return self._rights[name]

    def _ready_until_ns(self) -> int:
        """The latest time of a left row that nothing can change any more."""
        of_rights = min(one.watermark_ns for one in self._rights.values())
        return max(min(self._left.watermark_ns, of_rights - self._wait_ns), MIN_NS)

    def _release(self, until_ns: int) -> Columns:
        waiting, keys = self._left.rows, len(self._keys.decided_ns)
        count = int(np.searchsorted(waiting.t, until_ns, side="right")) if until_ns > MIN_NS else 0
        released = {name: column[:count].copy() for name, column in waiting.columns.items()}
        left = self._left.side(count, keys)
        for name, right in self._rights.items():
            rows = sorted_rows(left, right.side(None), keys, self._rule)
            for column, values in right.rows.columns.items():
                if column not in (self._on, *self._by):
                    released[f"{column}_{name}"] = taken_at(values, rows, rows == NONE)
        # No right row may come any more up to here: equal times do not matter where they do not match, looking back.
        reach_ns = self._wait_ns - (self._rule.direction == "backward" and not self._rule.exact)
        self._keys.decide(waiting.codes[:count], np.minimum(left.t, MAX_NS - self._wait_ns) + reach_ns)
        waiting.give_up(count)
        floor_ns = self._left.watermark_ns
        floor_ns = min(floor_ns, int(waiting.t[0])) if len(waiting) else floor_ns
        for right in self._rights.values():
            right.prune(floor_ns, self._rule, keys)
        return released
