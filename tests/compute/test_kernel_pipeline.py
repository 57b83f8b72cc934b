"""A pipeline gives what its kernels give one by one, however the rows come, and a tick what a batch gives."""

from __future__ import annotations

import re

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_world import market, prices, times

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


OF_BOOK = (
    Feature(name="deep", kernel="depth_imbalance", parameters={"levels": 2}),
    Feature(name="near", kernel="depth_imbalance", parameters={"within_bps": 2.0}),
    Feature(name="line", kernel="book_slope", parameters={"levels": 2}),
    Feature(name="paper", kernel="book_slope", parameters={"method": "naes_skjeltorp", "lot": 1e-3}),
    Feature(name="weighted", kernel="depth_weighted_mid"),
)
BOOKISH = (
    Feature(name="moved", kernel="turnover", sources={"W": ("w1", "w2"), "R": ("r1", "r2")}),
    *OF_BOOK,
    Feature(name="sign", kernel="trade_sign", sources={"p": "price", "m": "price"}, parameters={"method": "tick"}),
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
    with pytest.raises(KernelError, match="bars answers when something ends, not row by row; use Streaming"):
        Pipeline([Feature(name="bars", kernel="tick_bars")])
    with pytest.raises(KernelError, match="a: give it a kernel or an expression"):
        Pipeline([Feature(name="a")])
    with pytest.raises(KernelError, match=r"unknown feature 'z.x' in outputs; did you mean 'z.z'"):
        Pipeline(FEATURES, outputs={"z": "z.x"})
    with pytest.raises(KernelError, match="deep needs the book"):
        Pipeline(BOOKISH)


def test_expressions_join_columns_and_features() -> None:
    _, price = world(1)
    fast = Feature(name="fast", kernel="ewma", sources={"x": "price"}, parameters={"span": 5})
    gap = Feature(name="gap", expression="-1e4 * (fast - price) / (price - 100.0)")
    found = Pipeline([fast, gap]).update(price=price)
    expected = -1e4 * (found["fast"] - price) / np.where(price == 100.0, np.nan, price - 100.0)
    np.testing.assert_allclose(found["gap"], expected, rtol=1e-15)


@pytest.mark.parametrize("text", ["a +", "a ** 2", "f(a)", "a if b else c", "a > b", "'a'", "True", "a.b.c", "a; b"])
def test_what_is_no_expression_is_named(text: str) -> None:
    with pytest.raises(KernelError, match="the expression"):
        Pipeline([Feature(name="x", expression=text)])


def test_only_the_outputs_asked_for_under_their_names() -> None:
    t, price = world(2)
    whole, some = Pipeline(FEATURES), Pipeline(FEATURES, outputs={"slope": "beta.beta", "ret": "ret"})
    expected, found = whole.update(t, price=price), some.update(t, price=price)
    assert list(found) == ["slope", "ret"]
    assert found["slope"].tobytes() == expected["beta.beta"].tobytes()
    assert found["ret"].tobytes() == expected["ret"].tobytes()


@pytest.mark.parametrize("at", [0, 17, 300])
def test_a_saved_pipeline_goes_on(at: int) -> None:
    t, price = world(3)
    whole, first = Pipeline(FEATURES).update(t, price=price), Pipeline(FEATURES)
    first.update(t[:at], price=price[:at])
    again = Pipeline.load(first.save())
    for pipeline in (first, again):
        for name, column in pipeline.update(t[at:], price=price[at:]).items():
            assert column.tobytes() == whole[name][at:].tobytes(), name
    with pytest.raises(KernelError, match="no saved pipeline"):
        Pipeline.load(b"?")
    with pytest.raises(KernelError, match="t goes back at row 0"):
        again.update(t[:1], price=price[:1])


def test_matrices_books_and_inputs_left_out() -> None:
    rng = np.random.default_rng(5)
    of_market = market(rng, N)
    weights, returns = rng.dirichlet([1.0, 1.0], N), rng.normal(0.0, 0.01, (N, 2))
    pipeline = Pipeline(BOOKISH, levels=3)
    columns = {f"{kind}{k + 1}": matrix[:, k] for kind, matrix in (("w", weights), ("r", returns)) for k in range(2)}
    found = pipeline.update(bk=of_market["bk"][:, :, :3], price=of_market["p"], **columns)
    expected = compute("turnover", W=weights, R=returns)
    assert found["moved.one_way"].tobytes() == expected["one_way"].tobytes()
    for feature in OF_BOOK:
        for output, column in compute(feature.kernel, bk=of_market["bk"][:, :, :3], **feature.parameters).items():
            name = feature.name if feature.name in found else f"{feature.name}.{output}"
            assert found[name].tobytes() == column.tobytes(), name
    signs = compute("trade_sign", p=of_market["p"], method="tick")["s"]
    np.testing.assert_array_equal(np.where(np.isnan(found["sign"]), -128, found["sign"]), signs)


def compiled_of(pipeline: Pipeline) -> str:
    """The call of a tick as LLVM leaves it; not from disk, where no source is kept."""
    tick = numba.njit(pipeline._call.py_func)
    tick(pipeline._memory, 0, np.ones(pipeline.width))
    (compiled,) = tick.inspect_llvm().values()
    return str(compiled)


@pytest.mark.parametrize(("output", "takes_root"), [("risk.vol", True), ("risk.var", False)])
def test_what_nobody_reads_is_not_computed(output: str, takes_root: bool) -> None:
    compiled = compiled_of(Pipeline([Feature(name="risk", kernel="riskmetrics_vol")], outputs={"it": output}))
    assert bool(re.search(r"call .*sqrt", compiled)) == takes_root


def test_a_method_that_was_not_chosen_is_left_out() -> None:
    """A line takes three divisions: one by the mid, and one a side; the paper's slope several a level."""
    line, paper = (Pipeline([one], levels=3) for one in OF_BOOK if one.name in ("line", "paper"))
    assert compiled_of(line).count("fdiv") <= 3
    assert compiled_of(paper).count("fdiv") > 6
