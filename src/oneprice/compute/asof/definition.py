"""What an ASOF join is asked for: direction, tolerance, and whether equal times match."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from oneprice.compute.kernels.definition import KernelError, span

DIRECTIONS = ("backward", "forward", "nearest")
UNBOUNDED = np.uint64((1 << 64) - 1)  # further than any two int64 times are apart


class Rule(NamedTuple):
    """`tolerance`: inclusive, in the unit of the times, `UNBOUNDED` where there is none."""

    direction: str
    tolerance: np.uint64
    exact: bool

    @property
    def is_bounded(self) -> bool:
        return bool(self.tolerance != UNBOUNDED)

    def in_units_of(self, ns: int) -> Rule:
        """The rule for times counted in units of so many nanoseconds; distances there are whole, so rounding down is exact."""
        return self._replace(tolerance=self.tolerance // np.uint64(ns)) if self.is_bounded else self


def read_rule(direction: Any, tolerance: Any, exact: Any) -> Rule:
    """The rule, checked. KernelError names the argument that cannot be used."""
    if direction not in DIRECTIONS:
        raise KernelError(f"direction={direction!r}: it must be {' or '.join(DIRECTIONS)}")
    if not isinstance(exact, bool | np.bool_):
        raise KernelError(f"exact={exact!r}: it must be true (equal times match) or false (they do not)")
    within = UNBOUNDED if tolerance is None else np.uint64(read_ns("tolerance", tolerance))
    return Rule(direction, within, bool(exact))


def read_ns(name: str, given: Any) -> int:
    """A length of time in ns, from a whole number of ns or a duration. KernelError for anything else."""
    read = span(given)
    if read is not None:
        return read.ns
    is_whole = isinstance(given, int | np.integer) and not isinstance(given, bool)
    if not is_whole or not 0 <= given < 1 << 63:
        raise KernelError(f'{name}={given!r}: it must be a whole number of ns, at least 0, or a duration such as "1s"')
    return int(given)
