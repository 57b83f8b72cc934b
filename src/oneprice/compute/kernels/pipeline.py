"""Many features of a row in one compiled call: what a tick costs is arithmetic, not calls from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from oneprice.compute.kernels.definition import BOOK, Floats, Ints, KernelError
from oneprice.compute.kernels.generated import tick_of
from oneprice.compute.kernels.registry import find
from oneprice.compute.kernels.streaming import bits_of, times_of
from oneprice.model.errors import unknown_name

_F, _F_END, _I, _I_END, _P, _P_END, _W, _Y, _Y_END = range(9)


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a pipeline: a kernel, where its inputs come from, its parameters.

    A source is a column of the row (`bid`), a feature above (`mid`), or one of its outputs (`macd.signal`). Inputs that are
    not named come from the column of their own name.
    """

    name: str
    kernel: str
    sources: Mapping[str, str] = {}
    parameters: Mapping[str, Any] = {}


class Pipeline:
    """Features in their order, and their state.

    >>> import numpy as np
    >>> pipeline = Pipeline([
    ...     Feature(name="ret", kernel="log_returns", sources={"p": "price"}),
    ...     Feature(name="vol", kernel="rolling_zscore", sources={"x": "ret"}, parameters={"w": 2}),
    ... ])
    >>> pipeline.columns, pipeline.outputs
    (('price',), ('ret', 'vol.z', 'vol.mean', 'vol.std'))
    >>> pipeline.tick(0, np.array([1.0])).tolist()
    [nan, nan, nan, nan]
    """

    def __init__(self, features: Sequence[Feature], *, levels: int = 0) -> None:
        """`levels`: of the book that a row carries, as its last columns. KernelError for features that cannot be joined."""
        self.features = tuple(features)
        self.levels = levels
        kernels = [find(feature.kernel) for feature in features]
        self._places_of_outputs: dict[str, int] = {}
        names: list[str] = []
        columns: dict[str, None] = {}
        self._integers: set[str] = set()
        sources: list[dict[str, str]] = []
        checked = [kernel.values(feature.parameters) for feature, kernel in zip(features, kernels, strict=True)]
        self._widths = [len(kernel.outputs_of(values)) for kernel, values in zip(kernels, checked, strict=True)]
        for feature, kernel, values in zip(features, kernels, checked, strict=True):
            if feature.name in self._places_of_outputs:
                raise KernelError(f"two features are called {feature.name}")
            for given in feature.sources:
                if given not in kernel.inputs:
                    raise KernelError(
                        unknown_name("input", given, kernel.inputs, where=f"{feature.name} ({kernel.name})")
                    )
            wanted = {name: feature.sources.get(name, name) for name in kernel.inputs}
            for name in kernel.unread(values):  # whatever comes there is not looked at
                wanted[name] = feature.sources.get(name, wanted[kernel.inputs[0]])
            sources.append(wanted)
            columns |= {one: None for one in wanted.values() if one not in self._places_of_outputs and one != BOOK}
            self._integers |= {wanted[name] for name in kernel.integers}
            self._places_of_outputs[feature.name] = len(names)
            outputs = kernel.outputs_of(values)
            for output in outputs:
                name = feature.name if len(outputs) == 1 else f"{feature.name}.{output.name}"
                self._places_of_outputs[name] = len(names)
                names.append(name)
        if levels == 0 and any(BOOK in wanted.values() for wanted in sources):
            raise KernelError("a feature needs the book (bk): say how many levels a row carries")
        self.columns = (*columns, *((BOOK,) if levels else ()))
        self.outputs = tuple(names)
        self._starts = [kernel.start(values) for kernel, values in zip(kernels, checked, strict=True)]
        self._kernels = kernels
        place = {name: at for at, name in enumerate(columns)}
        self._moves = [self._moved(wanted, place) for wanted in sources]
        self._run = tick_of(kernels, self._moves)
        self._lay_out()
        self._t, self._y = np.zeros(1, dtype=np.int64), np.zeros((1, len(names)))
        self._needs_time = any(one.by_time for one in self._starts) or any(kernel.needs_time for kernel in kernels)
        self._last_ns = -(1 << 63)

    @property
    def width(self) -> int:
        """Numbers in a row: its columns, then 4 × levels of the book."""
        return len(self.columns) - (self.levels > 0) + 4 * self.levels

    def tick(self, t: int, row: Floats) -> Floats:
        """The features of one row, in the order of `outputs`; the array is used again for the next one.

        `row`: float64, C-contiguous, `width` numbers; it and the time are not checked.
        """
        self._t[0] = t
        self._rows(self._t, row.reshape(1, -1), self._y)
        row_of_outputs: Floats = self._y[0]
        return row_of_outputs

    def update(self, t: ArrayLike | None = None, **columns: ArrayLike) -> dict[str, Floats]:
        """The features of the next rows, by name, as `Streaming.update` gives those of one kernel."""
        x = self._stacked(columns)
        times = times_of("pipeline", t, len(x), is_needed=self._needs_time)
        if len(x) and times[0] < self._last_ns:
            raise KernelError(f"pipeline: t goes back at row 0, to {times[0]} from {self._last_ns}")
        if len(x) and t is not None:
            self._last_ns = int(times[-1])
        y = np.full((len(x), len(self.outputs)), np.nan)
        self._rows(times, x, y)
        return {name: y[:, k].copy() for k, name in enumerate(self.outputs)}

    def _rows(self, times: Ints, x: Floats, y: Floats) -> None:
        done, begin = 0, 0
        while True:
            done = self._run(self._f, self._i, self._p, times, x, y, self._w, self._places, begin, done)
            if done == len(x):
                return
            begin = int(self._places[-1, 0])
            self._grow(begin)

    def _grow(self, number: int) -> None:
        """Enlarge the state of one step, with everybody else's as it is now."""
        self._take_back()
        start, kernel = self._starts[number], self._kernels[number]
        assert kernel.grow is not None, kernel.name
        f, i = kernel.grow(start.f, start.i)
        self._starts[number] = start._replace(f=f, i=i)
        self._lay_out()

    def _take_back(self) -> None:
        for number, start in enumerate(self._starts):
            at = self._places[number]
            self._starts[number] = start._replace(
                f=self._f[at[_F] : at[_F_END]].copy(), i=self._i[at[_I] : at[_I_END]].copy()
            )  # fmt: skip

    def _lay_out(self) -> None:
        """All states in two arrays, all parameters in a third, and where each begins and ends."""
        places = np.zeros((len(self._starts) + 1, 9), dtype=np.int64)
        at_f = at_i = at_p = at_w = at_y = 0
        for number, (start, width, moved) in enumerate(zip(self._starts, self._widths, self._moves, strict=True)):
            places[number] = (
                at_f, at_f + len(start.f), at_i, at_i + len(start.i), at_p, at_p + len(start.p), at_w, at_y,
                at_y + width,
            )  # fmt: skip
            at_f, at_i, at_p = places[number, [_F_END, _I_END, _P_END]].tolist()
            at_w, at_y = at_w + len(moved), int(places[number, _Y_END])
        self._places = places
        self._f = np.concatenate([np.zeros(0), *(start.f for start in self._starts)])
        self._i = np.concatenate([np.zeros(0, dtype=np.int64), *(start.i for start in self._starts)])
        self._p = np.concatenate([np.zeros(0), *(start.p for start in self._starts)])
        self._w = np.zeros(at_w)

    def _moved(self, wanted: Mapping[str, str], place: Mapping[str, int]) -> list[tuple[str, int]]:
        moves: list[tuple[str, int]] = []
        for source in wanted.values():
            if source == BOOK:
                moves += [("x", len(place) + k) for k in range(4 * self.levels)]
            elif source in place:
                moves.append(("x", place[source]))
            else:
                moves.append(("y", self._places_of_outputs[source]))
        return moves

    def _stacked(self, columns: Mapping[str, ArrayLike]) -> Floats:
        if set(columns) != set(self.columns):
            raise KernelError(f"pipeline: its columns are {', '.join(self.columns)}; given were {', '.join(columns)}")
        parts = [
            np.asarray(
                bits_of(np.asarray(columns[name])) if name in self._integers else columns[name], dtype=np.float64
            )
            for name in self.columns
        ]
        if len({len(part) for part in parts}) > 1:
            told = ", ".join(f"{name} {len(part)}" for name, part in zip(self.columns, parts, strict=True))
            raise KernelError(f"pipeline: the columns differ in length: {told}")
        wide = [part.reshape(part.shape[0], int(np.prod(part.shape[1:]))) for part in parts]
        return np.ascontiguousarray(np.concatenate(wide, axis=1))
