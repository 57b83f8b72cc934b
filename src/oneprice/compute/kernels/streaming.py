"""Kernels at work: over a column at once, or over micro-batches with the state carried from one to the next."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from oneprice.compute.kernels.columns import flags_of, frozen, in_numbers, table_of, whole_of
from oneprice.compute.kernels.definition import (
    BOOK,
    Floats,
    Ints,
    Kernel,
    KernelError,
    Output,
    Start,
    Values,
    decoded,
)
from oneprice.compute.kernels.generated import answers_of, is_by_column, rows_of
from oneprice.compute.kernels.registry import find

Outputs = dict[str, NDArray[Any]]


class _Saved(msgspec.Struct, frozen=True):
    kernel: str
    version: int
    parameters: dict[str, Any]
    f: bytes
    i: bytes
    last_ns: int


class Streaming:
    """One kernel with its parameters and its state.

    >>> import numpy as np
    >>> mean = Streaming("ewma", alpha=0.5)
    >>> mean.update(x=np.array([1.0, 2.0]))["mean"].tolist()
    [1.0, 1.5]
    >>> mean.update(x=np.array([3.0]))["mean"].tolist()
    [2.25]
    """

    def __init__(self, kernel: str | Kernel, **parameters: Any) -> None:
        """KernelError for an unknown kernel or a parameter that cannot be used."""
        self.kernel = find(kernel) if isinstance(kernel, str) else kernel
        self.parameters = parameters
        values = self.kernel.values(parameters)
        start = self.kernel.start(values)
        self.outputs = self.kernel.outputs_of(values)
        self._values = values
        self._f, self._i, self._p, self._by_time = start
        floats, ints = self.kernel.at_hand or (0, 0)
        assert floats <= len(self._f) and ints <= len(self._i), self.kernel.name
        self._run = rows_of(self.kernel) if self.kernel.ready is None else answers_of(self.kernel)
        self._last_ns = -(1 << 63)

    def update(self, t: ArrayLike | None = None, **columns: ArrayLike) -> Outputs:
        """The outputs of the next rows, by name: one a row, or for kernels that answer when something ends (bars, labels) one
        an answer. `t`: receive times in ns, which must not go back.

        Inputs are columns of one length; a book (`bk`) is an array rows × 4 × levels: bid prices, bid quantities, ask prices,
        ask quantities. KernelError names the argument that cannot be used.
        """
        parts = parts_of(self.kernel, self._values, columns)
        count = len(parts[0])
        times, self._last_ns = times_of(
            self.kernel.name, t, count, is_needed=self.kernel.needs_time or self._by_time, after_ns=self._last_ns
        )
        if self.kernel.ready is not None:
            found = self._answers(times, parts)
        else:
            found = np.empty((len(self.outputs), count))
            self._rows(times, parts, found)
        return {output.name: typed(output, column) for output, column in zip(self.outputs, found, strict=True)}

    def save(self) -> bytes:
        """Everything that it takes to go on elsewhere."""
        return msgspec.msgpack.encode(
            _Saved(
                self.kernel.name, self.kernel.version, self.parameters, self._f.tobytes(), self._i.tobytes(), self._last_ns
            )
        )  # fmt: skip

    @classmethod
    def load(cls, saved: bytes) -> Streaming:
        """The kernel as it was saved. KernelError for another version of its state, or for what is no state."""
        read = decoded(saved, _Saved, "this is no saved kernel")
        made = cls(read.kernel, **read.parameters)
        if read.version != made.kernel.version:
            raise KernelError(
                f"{read.kernel}: the saved state is of version {read.version}, this is version {made.kernel.version}"
            )
        made._f, made._i = np.frombuffer(read.f).copy(), np.frombuffer(read.i, dtype=np.int64).copy()
        made._last_ns = read.last_ns
        return made

    def merge(self, later: Streaming) -> Streaming:
        """The state after these rows and then those of `later`, which began where this one ends."""
        if self.kernel.merge is None:
            raise KernelError(f"{self.kernel.name}: the states of two pieces cannot be merged")
        if (later.kernel.name, later.parameters) != (self.kernel.name, self.parameters):
            raise KernelError(f"{self.kernel.name}: only states of the same kernel and parameters can be merged")
        made = Streaming(self.kernel, **self.parameters)
        made._f, made._i, *_ = self.kernel.merge(
            Start(self._f, self._i, self._p), Start(later._f, later._i, later._p)
        )  # fmt: skip
        made._last_ns = max(self._last_ns, later._last_ns)
        return made

    def _rows(self, times: Ints | None, parts: Sequence[Floats], y: Floats) -> None:
        """Fill y, outputs × rows."""
        count = y.shape[1]
        if is_by_column(self.kernel):
            self._all_rows(table_of(times, y, parts), _NOTHING, y.reshape(-1), count)
            return
        for begin, end in blocks(count, sum(part[:1].size for part in parts)):
            table = table_of(None if times is None else times[begin:end], y, ())
            self._all_rows(table, stacked(parts, begin, end).reshape(-1), y.reshape(-1)[begin:], end - begin)

    def _all_rows(self, table: Ints, x: Floats, y: Floats, count: int) -> None:
        done = 0
        while done < count:
            done = self._run(self._f, self._i, self._p, table, x, y, done, count)
            if done < count:
                self._grow()

    def _answers(self, times: Ints | None, parts: Sequence[Floats]) -> Floats:
        """Outputs × answers."""
        width, count = len(self.outputs), len(parts[0])
        found, done, answers = [np.empty((width, 0))], 0, 0
        while True:
            most = max(_FEWEST_ANSWERS, count // 8, (count - done) * answers // max(done, 1))
            y = np.empty((width, most))
            table = table_of(times, y, parts)
            done, written = self._run(self._f, self._i, self._p, table, y.reshape(-1), done, count)
            found.append(y[:, :written])
            answers += written
            if written < most and done == count:
                return np.concatenate(found, axis=1)
            if written < most:
                self._grow()

    def _grow(self) -> None:
        assert self.kernel.grow is not None, self.kernel.name
        self._f, self._i = self.kernel.grow(self._f, self._i)


def compute(kernel: str | Kernel, t: ArrayLike | None = None, **given: Any) -> Outputs:
    """A kernel over whole columns: inputs and parameters by name.

    >>> compute("log_returns", p=[1.0, 1.0, 2.0])["r"].round(3).tolist()
    [nan, 0.0, 0.693]
    """
    found = find(kernel) if isinstance(kernel, str) else kernel
    columns = {name: value for name, value in given.items() if name in found.inputs}
    parameters = {name: value for name, value in given.items() if name not in found.inputs}
    return Streaming(found, **parameters).update(t, **columns)


def parts_of(kernel: Kernel, values: Values, columns: Mapping[str, ArrayLike]) -> list[Floats]:
    """The inputs in their order, as arrays of one length; NaN for those that may be left out: the optional ones and those that
    nobody reads with these parameters. KernelError for one that is missing, unknown, of another shape or not numbers."""
    for name in columns:
        if name not in kernel.inputs:
            raise KernelError(f"{kernel.name}: {name} is no input of it; its inputs are {', '.join(kernel.inputs)}")
    unread = kernel.unread(values)
    read = {name: column for name, column in columns.items() if name not in unread}
    length = len(np.asarray(next(iter(read.values()), ())))
    widths = kernel.widths(values)
    parts: list[Floats] = []
    for name in kernel.inputs:
        width = widths.get(name, -1 if name in kernel.alike else None)
        if name in read:
            parts.append(_column(kernel, name, read[name], width))
        elif name in (*kernel.optional, *unread):
            nothing = np.broadcast_to(np.nan, (length, 4, 0) if name == BOOK else length)
            parts.append(_column(kernel, name, nothing, None))
        else:
            raise KernelError(f"{kernel.name}: the input {name} is missing; its inputs are {', '.join(kernel.inputs)}")
    lengths = {name: len(part) for name, part in zip(kernel.inputs, parts, strict=True)}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise KernelError(f"{kernel.name}: the inputs differ in length: {told}")
    if len({parts[kernel.inputs.index(name)].shape[1:] for name in kernel.alike}) > 1:
        raise KernelError(f"{kernel.name}: {' and '.join(kernel.alike)} must have the same number of columns")
    return parts


_BLOCK = 1 << 17  # numbers in a block of rows: what comes in and goes out stays in a core's own caches
_NOTHING = np.zeros(0)
_FEWEST_ANSWERS = 64  # that there is room for; else an eighth of the rows, or as many as it looks like


def blocks(count: int, width: int) -> Iterator[tuple[int, int]]:
    """Rows by blocks, for rows of that many numbers."""
    rows = max(64, _BLOCK // max(1, width))
    for begin in range(0, count, rows):
        yield begin, min(begin + rows, count)


def stacked(parts: Sequence[Floats], begin: int, end: int) -> Floats:
    """Columns as rows; a single column is its own, not copied where it can be written to (what cannot is another type to
    Numba, and would be compiled for anew)."""
    pieces = [part[begin:end] if part.ndim == 2 else part[begin:end, None] for part in parts]
    if len(pieces) == 1:
        return np.require(pieces[0], requirements=("C", "W"))
    x = np.empty((end - begin, sum(piece.shape[1] for piece in pieces)))
    at = 0
    for piece in pieces:  # NumPy joins narrow pieces row by row, which takes three times as long
        x[:, at : at + piece.shape[1]] = piece
        at += piece.shape[1]
    return x


def _column(kernel: Kernel, name: str, given: ArrayLike, width: int | None) -> Floats:
    """`width`: of a matrix; −1: whatever it is."""
    column = np.asarray(given)
    if name in kernel.integers:
        column = bits_of(column)
    if column.dtype.kind not in "fiub":
        raise KernelError(f"{kernel.name}: {name} holds {column.dtype}; it must hold numbers")
    column = in_numbers(column.astype(np.float64, copy=False))
    if name == BOOK:
        if column.ndim != 3 or column.shape[1] != 4:
            raise KernelError(
                f"{kernel.name}: {name} has the shape {column.shape}; it must be rows × 4 × levels: bid prices, "
                "bid quantities, ask prices, ask quantities"
            )
        return column.reshape(len(column), 4 * column.shape[2])
    if width is None and column.ndim != 1:
        raise KernelError(f"{kernel.name}: {name} has the shape {column.shape}; it must be one column")
    if width is not None and (column.ndim != 2 or width not in (-1, column.shape[1])):
        wanted = "columns" if width == -1 else width
        raise KernelError(f"{kernel.name}: {name} has the shape {column.shape}; it must be rows × {wanted}")
    return column


def bits_of(column: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers (or datetimes, in ns) as floats of the same bits; what no int64 holds is `NO_INTEGER`. Columns of another
    kind as they are."""
    if column.dtype.kind == "M":
        return column.astype("datetime64[ns]").astype(np.int64).view(np.float64)
    if column.dtype.kind in "iub":
        return column.astype(np.int64).view(np.float64)
    if column.dtype.kind != "f":
        return column
    whole = np.empty(column.shape, dtype=np.int64)
    whole_of(frozen(np.ascontiguousarray(column, dtype=np.float64).reshape(-1)), whole.reshape(-1))
    return whole.view(np.float64)


def times_of(
    kernel: str, t: ArrayLike | None, count: int, *, is_needed: bool, after_ns: int
) -> tuple[Ints | None, int]:
    """(receive times, if given, the last of all so far). `after_ns`: the time of the row before.

    KernelError where times are missing, of another length, no whole numbers, or go back."""
    if t is None:
        if is_needed:
            raise KernelError(f"{kernel}: t is missing: it needs the receive time of every row, in ns")
        return None, after_ns
    times = np.asarray(t)
    if times.dtype.kind == "M":
        times = times.astype("datetime64[ns]").astype(np.int64)
    if times.dtype.kind not in "iu" or times.ndim != 1:
        raise KernelError(f"{kernel}: t holds {times.dtype}; it must be a column of whole nanoseconds (int64)")
    if len(times) != count:
        raise KernelError(f"{kernel}: t has {len(times)} rows, the inputs {count}")
    times = in_numbers(times.astype(np.int64, copy=False))
    goes_back = times[1:] < times[:-1]
    if goes_back.any():
        row = int(np.argmax(goes_back)) + 1
        raise KernelError(f"{kernel}: t goes back at row {row}, to {times[row]} from {times[row - 1]}")
    if count == 0:
        return times, after_ns
    if times[0] < after_ns:
        raise KernelError(f"{kernel}: t goes back at row 0, to {times[0]} from {after_ns}")
    return times, int(times[-1])


def typed(output: Output, column: Floats) -> NDArray[Any]:
    """An output in its kind."""
    if output.kind == "int8":
        return np.asarray(flags_of(column))
    return column.view(np.int64) if output.kind == "int64" else column
