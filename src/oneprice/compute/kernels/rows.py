"""What kernels ask of the numbers in a row before they use them, and states without a window."""

from __future__ import annotations

import math
import sys

import numpy as np

from oneprice.compute.kernels.definition import Start
from oneprice.compute.kernels.inlining import inlined

BPS = 1e4
_LARGEST = sys.float_info.max  # compared with infinity, LLVM takes the bits of a number apart instead


def plain(floats: int, ints: int, *parameters: float) -> Start:
    """An empty state without a window."""
    return Start(np.zeros(floats), np.zeros(ints, dtype=np.int64), np.array(parameters, dtype=np.float64))


def stateless(*parameters: float) -> Start:
    """Of a kernel that remembers nothing."""
    return plain(0, 0, *parameters)


@inlined
def all_finite(x):
    for k in range(x.shape[0]):
        if not math.isfinite(x[k]):
            return False
    return True


@inlined
def is_positive(value):
    return 0.0 < value <= _LARGEST


is_price = is_positive


@inlined
def is_qty(value):
    return 0.0 <= value <= _LARGEST


@inlined
def is_quote(bid, ask):
    """Whether both sides are there and do not cross."""
    return 0.0 < bid <= ask <= _LARGEST


@inlined
def finite(value):
    """The value; NaN where it ran out of the range of numbers."""
    return value if math.isfinite(value) else math.nan


@inlined
def ratio(above, below):
    """A quotient; NaN where it is no number."""
    return finite(above / below) if below != 0.0 else math.nan


# Slices would do; but Numba compiles the error for unlike lengths, text and all, for a second of its own.


@inlined
def clear(f, begin, end):
    for k in range(begin, end):
        f[k] = 0.0


@inlined
def copy(f, to, source, begin, count):
    for k in range(count):
        f[to + k] = source[begin + k]
