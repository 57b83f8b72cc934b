"""Waits between attempts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from oneprice.data.backoff import Backoff


@given(seed=st.integers(0, 2**32), first_s=st.floats(0.01, 5.0), cap_s=st.floats(5.0, 120.0), count=st.integers(1, 200))
def test_no_wait_is_longer_than_its_bound_and_bounds_double_to_the_cap(
    seed: int, first_s: float, cap_s: float, count: int
) -> None:
    backoff = Backoff(random.Random(seed), first_s=first_s, cap_s=cap_s)
    bound_s = first_s
    for _ in range(count):
        assert backoff.bound_s == min(cap_s, bound_s)
        assert 0.0 <= backoff.next_s() <= min(cap_s, bound_s)
        bound_s = min(2.0 * bound_s, 1e9)
    backoff.reset()
    assert backoff.bound_s == first_s


def test_two_clients_that_failed_together_do_not_come_back_together() -> None:
    waits = [Backoff(random.Random(seed), first_s=30.0).next_s() for seed in range(200)]
    assert len(set(waits)) == 200
    assert max(waits) - min(waits) > 25.0
    assert 12.0 < sum(waits) / len(waits) < 18.0, "a uniform draw: half the bound on average"
