"""Times of works that take turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable


def fastest(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Seconds of the fastest round of each work, without the garbage collector, as `timeit` measures."""
    times: list[list[float]] = [[] for _ in works]
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for of_work, work in zip(times, works, strict=True):
                began = time.perf_counter()
                work()
                of_work.append(time.perf_counter() - began)
    finally:
        gc.enable()
    return [min(of_work) for of_work in times]
