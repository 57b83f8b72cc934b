"""Windows in time: whatever number of rows is due at once, and numbers beyond the range of numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernel_world import columns_of

from oneprice.compute.kernels.definition import INT8_NONE
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.registry import KERNELS
from oneprice.compute.kernels.streaming import compute

SECOND = 10**9
GAPS = st.lists(st.sampled_from([0, 0, 0, 1, SECOND // 10, SECOND, 5 * SECOND]), min_size=1, max_size=200)


@given(gaps=GAPS, seed=st.integers(0, 9))
def test_however_many_rows_are_due_at_once_they_go(gaps: list[int], seed: int) -> None:
    t, rng = np.cumsum(gaps), np.random.default_rng(seed)
    q, s = rng.integers(1, 100, len(t)) / 8.0, rng.choice([-1.0, 0.0, 1.0], len(t))
    found = compute("signed_volume", t=t, q=q, s=s, w="1s")["sum"]
    rows = np.arange(len(t))
    is_inside = (t[None, :] > t[:, None] - SECOND) & (rows[None, :] <= rows[:, None])
    np.testing.assert_array_equal(found, is_inside @ (q * s))


@given(gaps=GAPS, seed=st.integers(0, 9))
def test_the_row_looked_back_on_is_the_last_that_is_old_enough(gaps: list[int], seed: int) -> None:
    t, rng = np.cumsum(gaps), np.random.default_rng(seed)
    oi = rng.integers(0, 1_000, len(t)).astype(float)
    found = compute("open_interest_delta", t=t, oi=oi, p=np.ones(len(t)), lag="1s")["delta"]
    for row in range(len(t)):
        older = np.flatnonzero(t[:row] <= t[row] - SECOND)
        np.testing.assert_array_equal(found[row], oi[row] - oi[older[-1]] if len(older) > 0 else np.nan)


@pytest.mark.parametrize(
    "kernel", ["sma", "vwap", "rolling_cov", "rolling_max", "rolling_quantile", "rolling_skew", "variance_ratio", "ofi"]
)
def test_what_a_growing_window_holds_stays_in_order(kernel: str) -> None:
    """Rows have left it before it grows, so its oldest is anywhere in the ring. What it holds in the end is known."""
    rng = np.random.default_rng(3)
    gaps = np.r_[np.full(100, SECOND // 40), np.full(400, SECOND // 1_000)]
    t = np.cumsum(gaps)
    columns = columns_of(KERNELS[kernel], rng, len(t))
    parameter = next(one.name for one in KERNELS[kernel].parameters if one.kind == "window")
    found = compute(kernel, t=t, **{parameter: "1s"}, **columns)
    # from the last row that has left on: a first flow needs the touch before it
    before = np.flatnonzero(t <= t[-1] - SECOND)[-1]
    held = compute(kernel, t=t[before:], **{parameter: "1s"}, **{name: one[before:] for name, one in columns.items()})
    assert len(t) - before > 400
    for output, values in found.items():
        np.testing.assert_allclose(values[-1], held[output][-1], rtol=1e-9)


HUGE = np.array([1e308, 1e308, 1e308])


@pytest.mark.parametrize(
    ("kernel", "columns", "output"),
    [
        ("signed_volume", {"q": np.r_[HUGE, np.ones(9)], "s": np.ones(12)}, "sum"),
        ("twap", {"p": np.r_[1.0, HUGE, np.ones(8)]}, "twap"),
        (
            "ofi",
            {"b": np.ones(12), "a": np.full(12, 2.0), "B": np.r_[1.0, HUGE[:1], 0.0, HUGE[:1], np.ones(8)], "A": np.ones(12)},
            "sum",
        ),
    ],
)  # fmt: skip
def test_a_sum_beyond_the_range_of_numbers_is_gone_with_its_rows(kernel, columns, output) -> None:
    """What is computed of the rows after them is what a stream without them gives."""
    t = np.arange(12) * SECOND
    found = compute(kernel, t=t, w="3s", **columns)[output]
    later = compute(kernel, t=t[5:], w="3s", **{name: column[5:] for name, column in columns.items()})[output]
    np.testing.assert_allclose(found[-3:], later[-3:])


SECONDS = np.arange(300) * SECOND
LEVEL = 100.0 + np.sin(SECONDS / 7e9)
MARKET = {
    "O": LEVEL - 0.1, "H": LEVEL + 0.3, "L": LEVEL - 0.3, "C": LEVEL, "p": LEVEL + 0.1 * (SECONDS // SECOND % 2)
}  # fmt: skip
LENGTHS = {"corwin_schultz_spread": "w", "donchian_channel": "n", "yang_zhang": "w", "two_scale_rv": "w"}


@pytest.mark.parametrize("kernel", LENGTHS)
def test_a_window_of_a_hundred_seconds_is_one_of_a_hundred_rows(kernel: str) -> None:
    """It grows on the way, in the middle of a batch; what of its rows went before a step is not done twice."""
    given = {name: MARKET[name] for name in KERNELS[kernel].inputs}
    in_time, in_rows = ({LENGTHS[kernel]: length, "min_obs": 10} for length in ("100s", 100))
    found, expected = compute(kernel, t=SECONDS, **given, **in_time), compute(kernel, **given, **in_rows)
    for name, column in found.items():
        np.testing.assert_allclose(column, expected[name], rtol=1e-9)
    pipeline = Pipeline([Feature(name="one", kernel=kernel, parameters=in_time)])
    of_pipeline = pipeline.update(SECONDS, **{name: given[name] for name in pipeline.columns})
    for name, column in found.items():
        ours = of_pipeline[f"one.{name}" if len(found) > 1 else "one"]
        np.testing.assert_array_equal(ours, np.where(column == INT8_NONE, np.nan, column))
