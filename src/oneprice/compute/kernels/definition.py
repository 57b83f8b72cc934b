"""What a kernel is: a compiled step over an explicit state, and everything that people, docs and tests need to know of it.

A kernel's arithmetic stands in its step, and nowhere else:

    step(f, i, p, t, x, y) -> bool

    f  float64[:]   state            i  int64[:]   state: counters, places, times
    p  float64[:]   parameters       t  int64      receive time of the row, ns
    x  lane         the row's inputs, in the order of `inputs`; a book comes last, as four blocks of levels
    y  lane         outputs, to be filled; NaN where there is none

It returns True when its state is too small for the row (a window in time that holds more rows than there is room for),
having done nothing that doing the row again could not repeat; the caller enlarges the state (`grow`) and comes back. Rows
with an input that cannot be used leave the state as it is and give NaN. Batch, incremental and fused forms call the same
step, so they agree bit for bit however the rows are cut. Lanes (`compute/lanes.py`) know an index and their length, no slices.
What of a row needs no state may stand apart, in `prepare` and `finish`: a batch does it for many rows at once. So it does with
a step that has no state and no branches: one that ends in `value if is_usable else nan`. And where rows hang on others only in
ways known beforehand, as in a full window, `together` may do a block of them (`Kernel` says how).

Some kernels do not answer row by row: a bar is there when it ends, a label when its barrier is touched, and one row may end
several. They have a second function, `ready(f, i, p, y) -> bool`, which writes the next answer that is due and says whether
there was one; their step's `y` is not looked at. Answers that belong to a row carry its number, counted from the first."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from oneprice.model.errors import InputError, unknown_name
from oneprice.model.time import NS_PER_MS, NS_PER_S, NS_PER_US

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Values = dict[str, Any]  # parameters by name, checked
BOOK = "bk"  # the input that stands for a book's levels: bid prices, bid quantities, ask prices, ask quantities
_UNITS_NS = {
    "us": NS_PER_US,
    "ms": NS_PER_MS,
    "s": NS_PER_S,
    "m": 60 * NS_PER_S,
    "h": 3_600 * NS_PER_S,
    "d": 86_400 * NS_PER_S,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d)")
INT8_NONE = -128  # what a row without a value is in an `int8` output
_FITS = 1 << 62  # whole numbers and nanoseconds below this, even the difference of two of them, fit into 64 bits
_LARGEST_WINDOW = 10**9  # observations, eight gigabytes of them
NO_INTEGER = -(1 << 63)  # what stands for no value in an input of whole numbers


class KernelError(InputError):
    """An argument of a kernel cannot be used: it is named, with what it was and what it may be."""


_Read = TypeVar("_Read")


def decoded(saved: bytes, kind: type[_Read], error: str) -> _Read:
    """What was saved. KernelError, beginning with `error`, for bytes that are not that."""
    try:
        return msgspec.msgpack.decode(saved, type=kind)
    except (msgspec.MsgspecError, ValueError) as wrong:
        raise KernelError(f"{error}: {wrong}") from wrong


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """One parameter. `kind`: float, int, bool, choice, floats (one or several), window (a count of observations or a
    duration), duration. None as default: it may be left out; `or_none`: None may be given where it is not the default. The
    range is [low, high], or open at an end."""

    name: str
    kind: str
    default: Any = None
    low: float | None = None
    high: float | None = None
    above: float | None = None  # the value itself excluded
    below: float | None = None
    choices: tuple[str, ...] = ()
    or_none: bool = False
    help: str = ""

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.kind == "choice":
            return " or ".join(self.choices)
        if self.kind == "bool":
            return "true or false"
        bounds = [
            f"{word} {bound:g}"
            for word, bound in (
                ("at least", self.low), ("at most", self.high), ("above", self.above), ("below", self.below)
            )
            if bound is not None
        ]  # fmt: skip
        what = {
            "int": "a whole number", "float": "a number", "floats": "numbers", "duration": 'a duration such as "5s"',
            "window": f'a count of observations up to {_LARGEST_WINDOW:g} or a duration such as "5s"',
        }[self.kind]  # fmt: skip
        return f"{what} {' and '.join(bounds)}".strip() + " or None" * self.or_none

    def read(self, kernel: str, value: Any) -> Any:
        """The value as the kernel uses it; durations as ns in a `Span`. KernelError names what is wrong."""
        if value is None and (self.default is None or self.or_none):
            return None
        read = {
            "float": self._number, "int": self._whole, "bool": self._flag, "choice": self._choice,
            "floats": self._numbers, "window": self._window, "duration": span,
        }[self.kind](value)  # fmt: skip
        numbers = read if isinstance(read, tuple) and not isinstance(read, Span) else (read,)
        for number in numbers:
            if number is None or not all(self._is_within(one) for one in _numeric(number)):
                raise KernelError(f"{kernel}: {self.name}={value!r}: it must be {self.allowed}")
        return read

    def _is_within(self, number: float) -> bool:
        return (
            (self.low is None or number >= self.low)
            and (self.high is None or number <= self.high)
            and (self.above is None or number > self.above)
            and (self.below is None or number < self.below)
        )

    def _number(self, value: Any) -> float | None:
        is_number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
        return float(value) if is_number and math.isfinite(value) else None

    def _whole(self, value: Any) -> int | None:
        is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return int(value) if is_whole and abs(int(value)) < _FITS else None

    def _flag(self, value: Any) -> bool | None:
        return bool(value) if isinstance(value, bool | np.bool_) else None

    def _choice(self, value: Any) -> str | None:
        return value if value in self.choices else None

    def _numbers(self, value: Any) -> tuple[float | None, ...]:
        values = tuple(value) if isinstance(value, Iterable) else (value,)
        return tuple(self._number(one) for one in values) or (None,)

    def _window(self, value: Any) -> Any:
        count = self._whole(value)
        return span(value) if count is None else count if count <= _LARGEST_WINDOW else None


class Span(NamedTuple):
    """A window in time."""

    ns: int


def span(value: Any) -> Span | None:
    """`"5s"`, `"100ms"`, `"1h"` as a span; None for what is no duration."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    ns = float(found[1]) * _UNITS_NS[found[2]] if found else 0.0
    return Span(round(ns)) if 0.0 < ns < _FITS else None


def _numeric(value: Any) -> tuple[float, ...]:
    return (float(value),) if isinstance(value, int | float) and not isinstance(value, bool) else ()


class Output(msgspec.Struct, frozen=True):
    """`kind`: float64 (NaN: none); int8 (-128: none); int64, for times and row numbers, whose bits stand in the step's `y`
    (`whole(y)[k] = …`), because a float does not hold nanoseconds since 1970."""

    name: str
    kind: str = "float64"
    help: str = ""


class Start(NamedTuple):
    """A kernel about to begin: its state, its parameters as the step reads them, how wide its rows are."""

    f: Floats
    i: Ints
    p: Floats
    by_time: bool = False  # these parameters make it need the time of every row


Step = Callable[[Floats, Ints, Floats, int, Floats, Floats], bool]
Grow = Callable[[Floats, Ints], tuple[Floats, Ints]]
Merge = Callable[[Start, Start], Start]


class Kernel(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """One kernel. `step` is compiled and importable from `module` under the name `step_name`.

    `first`: from which row on there is output. `cost`: of one update. `source`: the paper or venue rule of the formula.
    `differs`: where a widely copied implementation departs from it. `needs_time`: rows must come with their time.
    `outputs_by`: the outputs where they depend on the parameters; `outputs` are then those of the defaults. `unread_by`: the
    inputs that a step with these parameters does not look at; they may be left out. `widths_by`: how many columns each of the
    matrix inputs must have; `alike`: those that have one number of columns, whatever it is. `integers`: inputs of whole numbers
    that a float does not hold (times, ids); their bits stand in the step's `x`, and the smallest int64 (`NO_INTEGER`, NumPy's
    NaT) for what is none. `optional`: inputs that may be left out, as if all were NaN.

    What of a row does not hang on the rows before it may stand beside the step, where many rows of a batch go through it side
    by side: `prepare(p, x, z)` makes of the inputs the `prepared` floats (logarithms, mostly) that the step reads in their
    place; `finish(p, w, y)` makes the outputs of the `left` floats that the step wrote in theirs (quotients, roots), of which
    the first is NaN where there is no output. `lead(f, i, p, t, x, v)` goes before `prepare` where that needs what the rows
    before brought (the last bar, the time that passed): of the inputs and its own part of the state it makes the `led` floats
    that are read in their place. It is never done twice for a row: a step that follows one does not ask for room, and the
    state of a window in time grows before.

    `together(f, i, p, ring, x, w, apart)` does what the step would, to the bit, with a block of rows of its one input or
    prepared float, and says whether it could; if not, it has changed nothing but w. ring: what stands behind the state's own
    floats; w: what the step fills, each kind `apart` places from the next (`turning.py`). `registers`: how many floats
    and integers, the first of the state, a batch may keep in registers: it does where the compiler sees that other places are
    behind them (`windows.PLACE`). `constants`: how many of its parameters, the first, are numbers in the source of a fused call
    (levels, methods), so that the compiler writes out what is done so many times and leaves out what is not done.
    """

    name: str
    module: str
    formula: str
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...]
    step: Any
    start: Callable[[Values], Start]
    parameters: tuple[Parameter, ...] = ()
    first: str
    cost: str = "O(1)"
    source: str = ""
    differs: str = ""
    oracle: str
    aliases: tuple[str, ...] = ()
    needs_time: bool = False
    alike: tuple[str, ...] = ()
    integers: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    lead: Any = None
    led: int = 0
    prepare: Any = None
    prepared: int = 0
    finish: Any = None
    left: int = 0
    together: Any = None
    registers: tuple[int, int] | None = None
    constants: int = 0
    ready: Any = None
    grow: Grow | None = None
    merge: Merge | None = None
    outputs_by: Callable[[Values], tuple[Output, ...]] | None = None
    unread_by: Callable[[Values], tuple[str, ...]] | None = None
    widths_by: Callable[[Values], Mapping[str, int]] | None = None
    version: int = 1  # of the state; a state of another one is refused
    family: str = ""  # statistics, volatility, …: as the registry lists its module

    @property
    def at_hand(self) -> tuple[int, int] | None:
        """How many floats and integers, the first of the state, a batch keeps in registers; those of a window's own places,
        where its ring is the rest."""
        return self.registers or getattr(self.grow, "registers", None)

    def values(self, given: Mapping[str, Any]) -> Values:
        """The parameters with their defaults, checked. KernelError names the one that cannot be used."""
        known = {parameter.name: parameter for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise KernelError(unknown_name("parameter", name, known, where=self.name))
        return {
            name: parameter.read(self.name, given.get(name, parameter.default)) for name, parameter in known.items()
        }  # fmt: skip

    def outputs_of(self, values: Values) -> tuple[Output, ...]:
        return self.outputs if self.outputs_by is None else self.outputs_by(values)

    def unread(self, values: Values) -> tuple[str, ...]:
        return () if self.unread_by is None else self.unread_by(values)

    def widths(self, values: Values) -> Mapping[str, int]:
        return {} if self.widths_by is None else self.widths_by(values)

    def described(self) -> dict[str, Any]:
        """What the command line, the docs and other programs are told."""
        return {
            "name": self.name, "family": self.family, "aliases": self.aliases, "formula": self.formula,
            "inputs": self.inputs, "outputs": [msgspec.structs.asdict(one) for one in self.outputs],
            "parameters": [msgspec.structs.asdict(one) | {"allowed": one.allowed} for one in self.parameters],
            "first": self.first, "cost": self.cost, "source": self.source, "differs": self.differs, "oracle": self.oracle,
            "needs_time": self.needs_time, "integers": self.integers, "optional": self.optional,
            "merges": self.merge is not None,
        }  # fmt: skip
