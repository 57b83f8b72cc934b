"""How long to wait before trying again: exponential, capped, with full jitter (a uniform draw from zero to the bound),
so that many clients which lost one venue at the same moment do not come back at the same moment.

Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015."""

from __future__ import annotations

import random


class Backoff:
    """The waits of one thing that fails. The bound doubles with every wait from `first_s` up to `cap_s`.

    >>> waits = Backoff(random.Random(7), first_s=1.0, cap_s=4.0)
    >>> [waits.bound_s for _ in range(4) if waits.next_s() >= 0.0]
    [2.0, 4.0, 4.0, 4.0]
    """

    def __init__(self, rng: random.Random, *, first_s: float = 0.5, cap_s: float = 30.0) -> None:
        self._rng = rng
        self._first_s = first_s
        self._cap_s = cap_s
        self.failures = 0

    @property
    def bound_s(self) -> float:
        """The longest that the next wait can be."""
        return min(self._cap_s, self._first_s * 2.0 ** min(self.failures, 60))

    def next_s(self) -> float:
        """How long to wait now, in seconds; counts a failure."""
        wait_s = self._rng.uniform(0.0, self.bound_s)
        self.failures += 1
        return wait_s

    def reset(self) -> None:
        """It worked: the next failure waits briefly again."""
        self.failures = 0
