"""Compiling: kernels are compiled when they are first used, and kept on disk. Here is the one place that knows when that
happens, tells it, and does it beforehand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import Any

import numpy as np
from numba.core import event

from oneprice.compute.kernels.columns import table_of
from oneprice.compute.kernels.definition import Kernel
from oneprice.compute.kernels.generated import answers_of, made_for, rows_of
from oneprice.compute.kernels.registry import find
from oneprice.model.progress import Progress, untold

_COMPILE = "numba:compile"  # Numba's event: what is read from disk does not cause it
_FEWEST_FOR_PROCESSES = 3  # fewer are compiled sooner than processes start
_NOTHING_F, _NOTHING_I = np.zeros(0), np.zeros(0, dtype=np.int64)
_NO_TABLE = table_of(None, np.zeros((0, 0)), ())


class _Listener(event.Listener):
    """Of the functions that are compiled on the way nothing is told."""

    def __init__(self, began: Callable[[str], None], ended: Callable[[str, float], None]) -> None:
        self._began, self._ended = began, ended
        self._depth, self._since = 0, 0.0

    def on_start(self, event: Any) -> None:
        name = made_for(event.data["dispatcher"])
        if name is None:
            return
        self._depth += 1
        if self._depth == 1:
            self._since = time.perf_counter()
            self._began(name)

    def on_end(self, event: Any) -> None:
        name = made_for(event.data["dispatcher"])
        if name is None:
            return
        self._depth -= 1
        if self._depth == 0:
            self._ended(name, time.perf_counter() - self._since)


@contextmanager
def telling(
    began: Callable[[str], None], ended: Callable[[str, float], None] = lambda name, seconds: None
) -> Iterator[None]:
    """Inside, kernels and pipelines that have to be compiled say so: `began(name)`, then `ended(name, seconds)`."""
    listener = _Listener(began, ended)
    event.register(_COMPILE, listener)
    try:
        yield
    finally:
        event.unregister(_COMPILE, listener)


class _NotKept(Exception):
    pass


def is_compiled(kernel: Kernel) -> bool:
    """Whether a kernel is there without compiling; if so, it is loaded now."""

    def refuse(name: str) -> None:
        raise _NotKept(name)

    try:
        with telling(refuse):
            _make_ready(kernel)
    except _NotKept:
        return False
    return True


def warm(kernels: Sequence[Kernel], progress: Progress = untold) -> dict[str, float]:
    """Compile registered kernels that are not kept yet, on all cores; → the seconds of each that was compiled.

    It may start processes, which import the program's main module: scripts call it below `if __name__ == "__main__"`.
    """
    missing = [kernel for kernel in kernels if not is_compiled(kernel)]
    done = len(kernels) - len(missing)
    took: dict[str, float] = {}
    if len(missing) < _FEWEST_FOR_PROCESSES:
        for kernel in missing:
            progress(float(done), kernel.name)
            took[kernel.name] = _compiled(kernel.name)
            done += 1
        return took
    progress(float(done), "")
    workers = min(os.cpu_count() or 1, len(missing))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        waiting = {pool.submit(_compiled, kernel.name): kernel.name for kernel in missing}
        for finished in as_completed(waiting):
            name = waiting[finished]
            took[name] = finished.result()
            done += 1
            progress(float(done), name)
    return took


def _compiled(name: str) -> float:
    began = time.perf_counter()
    _make_ready(find(name))
    return time.perf_counter() - began


def _make_ready(kernel: Kernel) -> None:
    """Call a kernel's loop over no rows: what is not loaded is, from disk or by compiling."""
    state = _NOTHING_F, _NOTHING_I, _NOTHING_F
    if kernel.ready is None:
        rows_of(kernel)(*state, _NO_TABLE, _NOTHING_F, _NOTHING_F, 0, 0)
    else:
        answers_of(kernel)(*state, _NO_TABLE, _NOTHING_F, 0, 0)
