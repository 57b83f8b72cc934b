"""How far floats are from what they stand for, by arithmetic of many digits."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import mpmath
import numpy as np
from numba import njit

from oneprice.compute.kernels.numbers import exp, expm1, log
from oneprice.compute.kernels.special import normal_quantile

mpmath.mp.prec = 160


def ulps(found: float, wanted: Any) -> float:
    """The error in units of the last place of the wanted number; inf where one is infinite and the other is not."""
    nearest = float(wanted)
    if math.isinf(nearest) or math.isinf(found):
        return 0.0 if nearest == found else math.inf
    return float(abs(mpmath.mpf(found) - wanted) / mpmath.mpf(math.ulp(nearest)))


def worst(function: Callable[..., float], exact: Callable[..., Any], *columns: Sequence[float]) -> float:
    """The largest error in ulps over rows of arguments."""
    return max(
        ulps(function(*row), exact(*(mpmath.mpf(one) for one in row)))
        for row in zip(*map(_floats, columns), strict=True)
    )


def _floats(column: Iterable[float]) -> list[float]:
    return [float(one) for one in column]


def magnitudes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Positive floats of all magnitudes, subnormal ones among them."""
    return rng.integers(1, 0x7FEFFFFFFFFFFFFF, count).view(np.float64)


def around(*places: float, steps: int = 40) -> np.ndarray:
    """The floats next to each place, on both sides."""
    found = []
    for place in places:
        below = above = place
        found.append(place)
        for _ in range(steps):
            below, above = math.nextafter(below, -math.inf), math.nextafter(above, math.inf)
            found += [below, above]
    return np.array(sorted(found))


def digests() -> list[str]:
    """What loops over the functions that all others are made of say of numbers of all kinds, one hash a function."""
    k = np.arange(1, 4001, dtype=np.int64)
    mixed = (k.view(np.uint64) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(1)).view(np.int64)
    columns = [mixed.view(np.float64), (mixed >> 10) * 2.0**-53, (mixed >> 10) * 2.0**-48 - 16.0, k * 0.3515625 - 745.0]
    return [_digest(function, columns) for function in (log, exp, expm1, normal_quantile)]


def _digest(function: Callable[[float], float], columns: list[np.ndarray]) -> str:
    @njit(error_model="numpy")
    def run(x, y):
        for i in range(x.size):
            y[i] = function(x[i])

    found = hashlib.sha256()
    for column in columns:
        out = np.empty_like(column)
        run(column, out)
        found.update(out.tobytes())
    return f"{function.__name__} {found.hexdigest()[:16]}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(digests()))
