"""Many features of a row in one compiled call: what a tick costs is arithmetic, not calls from Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike

from oneprice.compute.kernels.definition import BOOK, Floats, Ints, Kernel, KernelError, Start, Values, decoded
from oneprice.compute.kernels.expressions import names_in, parsed
from oneprice.compute.kernels.generated import NOTHING, PLACES, TABLE, Joined, Move, fused_of, layout_of
from oneprice.compute.kernels.registry import find
from oneprice.compute.kernels.rows import stateless
from oneprice.compute.kernels.streaming import bits_of, blocks, stacked, times_of
from oneprice.model.errors import unknown_name

_TOUCH = ("b", "B", "a", "A")  # the first level of each of the book's four blocks
Sources = Mapping[str, str | tuple[str, ...]]


class Feature(msgspec.Struct, frozen=True, kw_only=True):
    """One feature of a pipeline: a kernel, where its inputs come from, its parameters; or an expression.

    A source is a column of the row (`price`), the touch of its book (`bk.b`, `bk.B`, `bk.a`, `bk.A`: best bid and its quantity,
    best ask and its quantity), a feature above (`mid`), or one of its outputs (`macd.signal`); for a matrix, one for each of
    its columns. Inputs that are not named come from the column of their own name. An expression joins such sources
    by + - * / and parentheses: `1e4 * (mid / index - 1)`.
    """

    name: str
    kernel: str = ""
    expression: str = ""
    sources: Sources = {}
    parameters: Mapping[str, Any] = {}


class _Saved(msgspec.Struct, frozen=True):
    features: tuple[Feature, ...]
    levels: int
    outputs: dict[str, str]
    versions: tuple[int, ...]
    f: tuple[bytes, ...]
    i: tuple[bytes, ...]
    last_ns: int


class Pipeline:
    """Features in their order, and their state.

    >>> import numpy as np
    >>> pipeline = Pipeline([
    ...     Feature(name="ret", kernel="log_returns", sources={"p": "price"}),
    ...     Feature(name="vol", kernel="rolling_zscore", sources={"x": "ret"}, parameters={"w": 2}),
    ...     Feature(name="ret_bps", expression="1e4 * ret"),
    ... ])
    >>> pipeline.columns, pipeline.outputs
    (('price',), ('ret', 'vol.z', 'vol.mean', 'vol.std', 'ret_bps'))
    >>> pipeline.tick(0, np.array([1.0])).tolist()
    [nan, nan, nan, nan, nan]
    """

    def __init__(
        self, features: Sequence[Feature], *, levels: int = 0, outputs: Mapping[str, str] | None = None
    ) -> None:
        """`levels`: of the book that a row carries, as its last columns. `outputs`: which outputs are wanted, under which
        names (`{"z": "vol.z"}`); else all. KernelError for features that cannot be joined."""
        self.features = tuple(features)
        self.levels = levels
        joint = _Joint(self.features, levels)
        self.columns = (*joint.columns, *((BOOK,) if levels else ()))
        self._chosen = dict(outputs) if outputs is not None else {name: name for name in joint.names}
        self.outputs = tuple(self._chosen)
        self._integers, self._needs_time = joint.integers, joint.needs_time
        self._kernels, self._starts = joint.kernels, joint.starts
        chosen = [joint.place_of(source, "outputs") for source in self._chosen.values()]
        self._layout = layout_of(joint.features, chosen)
        fused = fused_of(joint.features, chosen)
        self._call, self._run = fused.tick, fused.rows
        self._lay_out()
        self._last_ns = -(1 << 63)

    @property
    def width(self) -> int:
        """Numbers in a row: its columns, then 4 × levels of the book."""
        return len(self.columns) - (self.levels > 0) + 4 * self.levels

    def tick(self, t: int, row: Floats) -> Floats:
        """The features of one row, in the order of `outputs`; the array is used again for the next one.

        `row`: float64, C-contiguous, `width` numbers; it and the time are not checked.
        """
        while self._call(self._memory, t, row):
            self._grow()
        return self._tick

    def update(self, t: ArrayLike | None = None, **columns: ArrayLike) -> dict[str, Floats]:
        """The features of the next rows, by name, as `Streaming.update` gives those of one kernel."""
        parts = self._parts(columns)
        count = len(parts[0])
        times, self._last_ns = times_of("pipeline", t, count, is_needed=self._needs_time, after_ns=self._last_ns)
        found = {name: np.empty(count) for name in self.outputs}
        for begin, end in blocks(count, self.width + len(self.outputs)):
            y = np.empty((end - begin, len(self.outputs)))
            part = np.zeros(end - begin, dtype=np.int64) if times is None else times[begin:end]
            self._rows(np.require(part, requirements=("C", "W")), stacked(parts, begin, end), y)
            for k, column in enumerate(found.values()):
                column[begin:end] = y[:, k]
        return found

    def save(self) -> bytes:
        """Everything that it takes to go on elsewhere."""
        self._take_back()
        return msgspec.msgpack.encode(
            _Saved(
                self.features, self.levels, self._chosen, self._versions(),
                tuple(start.f.tobytes() for start in self._starts), tuple(start.i.tobytes() for start in self._starts),
                self._last_ns,
            )
        )  # fmt: skip

    @classmethod
    def load(cls, saved: bytes) -> Pipeline:
        """The pipeline as it was saved. KernelError for another version of a state, or for what is no state."""
        read = decoded(saved, _Saved, "this is no saved pipeline")
        made = cls(read.features, levels=read.levels, outputs=read.outputs)
        for feature, was, now in zip(read.features, read.versions, made._versions(), strict=True):
            if was != now:
                raise KernelError(f"{feature.name}: the saved state is of version {was}, this is version {now}")
        made._starts = [
            start._replace(f=np.frombuffer(f), i=np.frombuffer(i, dtype=np.int64))
            for start, f, i in zip(made._starts, read.f, read.i, strict=True)
        ]
        made._lay_out()
        made._last_ns = read.last_ns
        return made

    def _rows(self, times: Ints, x: Floats, y: Floats) -> None:
        done = self._run(self._memory, times, x, y, 0)
        while done < len(x):
            self._grow()
            done = self._run(self._memory, times, x, y, done)

    def _versions(self) -> tuple[int, ...]:
        return tuple(kernel.version if kernel is not None else 0 for kernel in self._kernels)

    def _grow(self) -> None:
        """Enlarge the state of the feature that stopped, with everybody else's as it is now, and go on with it."""
        self._take_back()
        number = int(self._memory[0])
        start, kernel = self._starts[number], self._kernels[number]
        assert kernel is not None
        assert kernel.grow is not None, kernel.name
        f, i = kernel.grow(start.f, start.i)
        self._starts[number] = start._replace(f=f, i=i)
        kept = self._memory[self._layout.kept : self._layout.states].copy()  # of the features before it: done already
        self._lay_out()
        self._memory[0] = number
        self._memory[self._layout.kept : self._layout.states] = kept

    def _take_back(self) -> None:
        floats = self._memory.view(np.float64)
        for number, start in enumerate(self._starts):
            at = self._memory[TABLE + PLACES * number :]
            self._starts[number] = start._replace(f=floats[at[0] : at[1]].copy(), i=self._memory[at[1] : at[2]].copy())

    def _lay_out(self) -> None:
        """All states and parameters in one array, behind the table of where each begins and ends."""
        parts: list[Ints] = [np.zeros(self._layout.states, dtype=np.int64)]
        at = self._layout.states
        for number, start in enumerate(self._starts):
            for k, part in enumerate((start.f.view(np.int64), start.i, start.p.view(np.int64))):
                parts[0][TABLE + PLACES * number + k] = at
                parts.append(part)
                at += len(part)
        self._memory = np.concatenate(parts)
        self._tick: Floats = self._memory.view(np.float64)[self._layout.out : self._layout.kept]

    def _parts(self, columns: Mapping[str, ArrayLike]) -> list[Floats]:
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
        return [part if part.ndim == 1 else part.reshape(len(part), part[0:1].size) for part in parts]


class _Joint:
    """Features joined: which columns they need, what they give, and where each finds its inputs."""

    def __init__(self, features: Sequence[Feature], levels: int) -> None:
        self.columns: dict[str, int] = {}
        self.names: list[str] = []
        self.integers: set[str] = set()
        self.needs_time = False
        self.kernels: list[Kernel | None] = []
        self.starts: list[Start] = []
        self._levels = levels
        self._outputs: dict[str, int] = {}
        drafts = [self._drafted(feature) for feature in features]
        self.features = [draft._replace(moves=[self._settled(one) for one in draft.moves]) for draft in drafts]

    def place_of(self, source: str, where: str) -> int:
        """Where an output stands among all. KernelError names the nearest one."""
        if source not in self._outputs:
            raise KernelError(unknown_name("feature", source, self._outputs, where=where))
        return self._outputs[source]

    def _drafted(self, feature: Feature) -> Joined:
        """A feature whose places in the book are not known yet, as long as there may be further columns before it."""
        if bool(feature.kernel) == bool(feature.expression):
            raise KernelError(f"{feature.name}: give it a kernel or an expression")
        if feature.name in self._outputs:
            raise KernelError(f"two features are called {feature.name}")
        begin = len(self.names)
        if feature.expression:
            moves = [move for name in names_in(parsed(feature.expression)) for move in self._sources(feature, name)]
            self._name(feature.name, [""])
            self.kernels.append(None)
            self.starts.append(stateless())
            return Joined(moves, begin, begin + 1, None, feature.expression)
        kernel = find(feature.kernel)
        if kernel.ready is not None:
            raise KernelError(
                f"{feature.name}: {kernel.name} answers when something ends, not row by row; use Streaming"
            )
        for given in feature.sources:
            if given not in kernel.inputs:
                raise KernelError(unknown_name("input", given, kernel.inputs, where=f"{feature.name} ({kernel.name})"))
        values = kernel.values(feature.parameters)
        moves = [move for name in kernel.inputs for move in self._moves(feature, kernel, values, name)]
        self._name(feature.name, [one.name for one in kernel.outputs_of(values)])
        self.kernels.append(kernel)
        self.starts.append(kernel.start(values))
        self.needs_time |= kernel.needs_time or self.starts[-1].by_time
        return Joined(moves, begin, len(self.names), kernel, parameters=tuple(self.starts[-1].p.tolist()))

    def _moves(self, feature: Feature, kernel: Kernel, values: Values, name: str) -> list[Move]:
        """Where one input of a kernel comes from; one that is not read, or may be left out and is, is NaN."""
        if name in kernel.unread(values) or (name not in feature.sources and name in kernel.optional):
            return [NOTHING]
        source = feature.sources.get(name, name)
        sources = (source,) if isinstance(source, str) else source
        width = kernel.widths(values).get(name, len(sources) if name in kernel.alike else 1)
        if len(sources) != width:
            raise KernelError(f"{feature.name}: {name} of {kernel.name} has {width} columns; {len(sources)} were named")
        if name in kernel.integers:
            self.integers.update(sources)
        return [move for one in sources for move in self._sources(feature, one)]

    def _sources(self, feature: Feature, source: str) -> list[Move]:
        if source in self._outputs:
            return [("y", self._outputs[source])]
        book, _, column = source.partition(".")
        if book != BOOK:
            return [("x", self.columns.setdefault(source, len(self.columns)))]
        if self._levels == 0:
            raise KernelError(f"{feature.name} needs the book (bk): say how many levels a row carries")
        if not column:
            return [(BOOK, k) for k in range(4 * self._levels)]
        if column not in _TOUCH:
            raise KernelError(unknown_name("column of the book", column, _TOUCH, where=feature.name))
        return [(BOOK, _TOUCH.index(column) * self._levels)]

    def _settled(self, move: Move) -> Move:
        return ("x", len(self.columns) + move[1]) if move[0] == BOOK else move

    def _name(self, feature: str, outputs: Sequence[str]) -> None:
        for output in outputs:
            name = feature if len(outputs) == 1 else f"{feature}.{output}"
            self._outputs[name] = len(self.names)
            self.names.append(name)
        self._outputs.setdefault(feature, len(self.names) - len(outputs))  # the first output, where it has several
