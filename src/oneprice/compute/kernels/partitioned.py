"""One state a symbol: rows of many symbols come in together, and each symbol goes on as if it were alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

from oneprice.compute.kernels.definition import KernelError, decoded
from oneprice.compute.kernels.pipeline import Pipeline
from oneprice.compute.kernels.streaming import Streaming

Outputs = dict[str, NDArray[Any]]
_KINDS: Mapping[str, type[Streaming] | type[Pipeline]] = {"Streaming": Streaming, "Pipeline": Pipeline}


class _Saved(msgspec.Struct, frozen=True):
    kind: str
    states: dict[str, bytes]


def partition_of(symbol: str, partitions: int) -> int:
    """Which of so many partitions a symbol belongs to: the same in every process and on every machine, as Python's own hash
    is not.

    >>> [partition_of(symbol, 4) for symbol in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    [2, 0, 2]
    """
    digest = hashlib.blake2b(symbol.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % partitions


class Partitioned:
    """A kernel, or a pipeline, for every symbol.

    >>> means = Partitioned(lambda: Streaming("ewma", alpha=0.5))
    >>> means.update(["BTC", "ETH", "BTC"], x=[1.0, 10.0, 2.0])["mean"].tolist()
    [1.0, 10.0, 1.5]
    """

    def __init__(self, make: Callable[[], Streaming | Pipeline], *, threads: int = 1) -> None:
        """`make` begins a symbol. `threads`: symbols are computed side by side; the results do not depend on it."""
        if threads < 1:
            raise KernelError(f"threads={threads}: it must be at least 1")
        self._make = make
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="symbols") if threads > 1 else None
        self.states: dict[str, Streaming | Pipeline] = {}

    def update(self, symbols: ArrayLike, t: ArrayLike | None = None, **columns: ArrayLike) -> Outputs:
        """The outputs of the next rows, in their order, each by the state of its symbol; of kernels that answer when something
        ends, the answers by symbol, with the symbol as a further column. Times must not go back within a symbol.

        KernelError as `Streaming.update` and `Pipeline.update`, with the symbol; no state of another symbol is undone by it.
        """
        names, codes = np.unique(np.asarray(symbols, dtype=np.str_), return_inverse=True)
        given = {name: np.asarray(column) for name, column in columns.items()}
        if t is not None:
            given["t"] = np.asarray(t)
        for name, column in given.items():
            if len(column) != len(codes):
                raise KernelError(f"{name} has {len(column)} rows, symbols {len(codes)}")
        order = np.argsort(codes, kind="stable")
        ends = np.searchsorted(codes[order], np.arange(len(names) + 1))
        rows = {str(name): order[ends[k] : ends[k + 1]] for k, name in enumerate(names)}
        if not rows:
            return self._make().update(**given)
        for name in rows:
            if name not in self.states:
                self.states[name] = self._make()
        each = map if self._pool is None else self._pool.map
        found = dict(zip(rows, each(lambda name: self._of(name, rows[name], given), rows), strict=True))
        first = self.states[next(iter(rows))]
        if isinstance(first, Streaming) and first.kernel.ready is not None:
            return _by_symbol(found)
        return _in_order(found, rows, len(codes))

    def save(self) -> bytes:
        """Everything that it takes to go on elsewhere."""
        kinds = {type(state).__name__ for state in self.states.values()}
        return msgspec.msgpack.encode(
            _Saved(kinds.pop() if kinds else "", {name: state.save() for name, state in self.states.items()})
        )

    def load(self, saved: bytes) -> None:
        """Go on from saved states, in place of those of their symbols: those of a partition that moves here join those that are
        here. KernelError for what is no state."""
        read = decoded(saved, _Saved, "these are no saved states")
        self.states |= {name: _KINDS[read.kind].load(state) for name, state in read.states.items()}

    def _of(self, name: str, rows: NDArray[np.int64], given: Mapping[str, NDArray[Any]]) -> Outputs:
        try:
            return self.states[name].update(**{column: values[rows] for column, values in given.items()})
        except KernelError as wrong:
            raise KernelError(f"{name}: {wrong}") from wrong


def _in_order(found: Mapping[str, Outputs], rows: Mapping[str, NDArray[np.int64]], count: int) -> Outputs:
    merged: Outputs = {}
    for name, outputs in found.items():
        for output, column in outputs.items():
            merged.setdefault(output, np.empty(count, dtype=column.dtype))[rows[name]] = column
    return merged


def _by_symbol(found: Mapping[str, Outputs]) -> Outputs:
    lengths = [len(next(iter(outputs.values()))) for outputs in found.values()]
    names = next(iter(found.values()))
    return {"symbol": np.repeat(np.array(list(found)), lengths)} | {
        name: np.concatenate([outputs[name] for outputs in found.values()]) for name in names
    }
