"""Times of works that take turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping, Sequence

Work = Callable[[], object]


def fastest(rounds: int, *works: Work) -> list[float]:
    """Seconds of the fastest round of each work, without the garbage collector, as `timeit` measures."""
    return fastest_of_groups(1, rounds, {"all": works})["all"]


def fastest_of_groups(turns: int, rounds: int, groups: Mapping[str, Sequence[Work]]) -> dict[str, list[float]]:
    """The same of groups of works, which are compared within their group. Each group has several turns: the machine's pace
    differs from minute to minute."""
    best_s = {name: [math.inf] * len(works) for name, works in groups.items()}
    gc.collect()
    gc.disable()
    try:
        for _ in range(turns):
            for name, works in groups.items():
                for _ in range(rounds):
                    for place, work in enumerate(works):
                        began = time.perf_counter()
                        work()
                        best_s[name][place] = min(best_s[name][place], time.perf_counter() - began)
    finally:
        gc.enable()
    return best_s
