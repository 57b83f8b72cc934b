"""A pipeline gives what its kernels give one by one, however the rows come, and a tick what a batch gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_world import prices, times

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.streaming import compute

N = 500
FEATURES = (
    Feature(name="ret", kernel="log_returns", sources={"p": "price"}),
    Feature(name="fast", kernel="ewma", sources={"x": "price"}, parameters={"span": 5}),
    Feature(name="z", kernel="rolling_zscore", sources={"x": "ret"}, parameters={"w": 20}),
    Feature(name="range", kernel="rolling_quantile", sources={"x": "price"}, parameters={"w": "60s", "prob": 0.9}),
    Feature(name="beta", kernel="rolling_beta", sources={"x": "ret", "y": "z.z"}, parameters={"w": 10}),
)


def world(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    price = prices(rng, N)
    price[rng.random(N) < 0.05] = np.nan
    return times(rng, N), price


def one_by_one(t: np.ndarray, price: np.ndarray) -> dict[str, np.ndarray]:
    found = {"ret": compute("log_returns", p=price)["r"], "fast": compute("ewma", x=price, span=5)["mean"]}
    found |= {f"z.{name}": column for name, column in compute("rolling_zscore", x=found["ret"], w=20).items()}
    found["range"] = compute("rolling_quantile", t=t, x=price, w="60s", prob=0.9)["q"]
    betas = compute("rolling_beta", x=found["ret"], y=found["z.z"], w=10)
    return found | {f"beta.{name}": column for name, column in betas.items()}


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, N), max_size=4))
def test_a_pipeline_is_its_kernels_one_by_one(seed: int, cuts: list[int]) -> None:
    t, price = world(seed)
    pipeline, parts = Pipeline(FEATURES), []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), N], strict=True):
        parts.append(pipeline.update(t[start:stop], price=price[start:stop]))
    expected = one_by_one(t, price)
    assert set(pipeline.outputs) == set(expected)
    for name, column in expected.items():
        assert np.concatenate([part[name] for part in parts]).tobytes() == column.tobytes(), name


def test_a_tick_is_a_row_of_the_batch() -> None:
    t, price = world(4)
    batch, ticking = Pipeline(FEATURES).update(t, price=price), Pipeline(FEATURES)
    for k in range(N):
        row = ticking.tick(int(t[k]), np.array([price[k]]))
        assert row.tobytes() == np.array([batch[name][k] for name in ticking.outputs]).tobytes()


def test_features_that_cannot_be_joined_are_named() -> None:
    with pytest.raises(KernelError, match="two features are called ret"):
        Pipeline([FEATURES[0], FEATURES[0]])
    with pytest.raises(KernelError, match=r"unknown input 'price' in a \(ewma\)"):
        Pipeline([Feature(name="a", kernel="ewma", sources={"price": "x"})])
    with pytest.raises(KernelError, match="its columns are price; given were p"):
        Pipeline(FEATURES).update([1], p=[1.0])
    with pytest.raises(KernelError, match="t is missing"):
        Pipeline(FEATURES).update(price=[1.0])
    with pytest.raises(KernelError, match="t goes back at row 1"):
        Pipeline(FEATURES).update([2, 1], price=[1.0, 1.0])
