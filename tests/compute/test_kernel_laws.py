"""Laws that every kernel keeps: cuts change nothing, nobody looks ahead, rows that cannot be used are as if they were not
there, states are saved and merged, and an argument that cannot be used is named."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_world import HARD, columns_of, made_absurd, recorded_columns_of, series, times

from oneprice.compute.kernels.definition import BOOK, INT8_NONE, Kernel, KernelError, Parameter
from oneprice.compute.kernels.registry import ALIASES, KERNELS, find
from oneprice.compute.kernels.streaming import Streaming, compute, parts_of

N = 400
# Parameters that make a kernel's windows short enough for N rows, and those that have no default.
SHORT: dict[str, dict[str, Any]] = {
    "trade_sign": {"method": "lee_ready", "quote_delay_ns": 500_000_000},
    "vpin": {"bucket_qty": 4.0, "buckets": 5},
    "two_scale_rv": {"w": 60},
    "realized_kernel": {"w": 60},
    "resiliency": {"w": 50},
}
SHORT |= {
    "wmr_schedule": {"window_s": 60.0, "fix_s": 43_230}, "fix_impact": {"pre": "9s", "post": "6s"},
    "funding_cost": {"interval_h": 0.005}, "perp_fair_price": {"ma": "20s"}, "open_interest_delta": {"lag": "15s"},
    "liquidation_density": {"halflife": "10s"},
}  # fmt: skip
SHORT |= {"bocpd": {"max_run": 30}, "label_next_move": {"horizon": "20s"}}
SHORT |= {
    "winsorize": {"w": 30},
    "boxcox": {"lambda_": 0.3},
    "yeo_johnson": {"lambda_": 0.3},
    "resample_ohlc": {"interval": "5s"},
    "tick_bars": {"n": 7},
    "volume_bars": {"volume": 20.0},
    "dollar_bars": {"notional": 2_000.0, "split": True},
    "imbalance_bars": {"expected_n": 10},
    "dedupe_trades": {"ids": "any", "memory": 50},
    "clock_skew_align": {"w": "20s"},
    "circuit_breaker": {"move": 0.002, "w": "20s", "cool_s": 5.0},
    "outlier_flag_mad": {"w": 30},
}
SHORT |= {"twap": {"w": "5s"}, "pov": {"lot": 0.1, "cap": 30.0}, "iceberg_slicer": {"lot": 0.1}}
ORDERS = {"optimal_ac_schedule", "iceberg_slicer"}  # a row is an order, which has many answers
SHORT |= {
    "vol_target": {"target": 1e-3}, "evt_pot_var": {"w": 200, "tail": 0.2, "refit": 20}, "fx_beta": {"lags": 2},
    "ewcov_matrix": {"assets": 20}, "ledoit_wolf_shrinkage": {"assets": 20, "w": 30},
    "risk_parity_weights": {"assets": 3, "budgets": "given"},
    "exposure_limits": {
        "positions": 6, "gross": 3e4, "net": 1e4, "symbol": 9e3, "venue": 1.5e4, "leverage": 2.0,
        "symbols": (0, 0, 1, 1, 2, 2), "venues": (0, 1, 0, 1, 0, 1),
    },
}  # fmt: skip
SHORT |= {
    "xcorr_leadlag": {"lags": 3, "step": "400ms", "w": "20s"}, "variance_ratio": {"w": 60}, "hurst": {"w": 60, "lag_to": 10},
    "ou_half_life": {"w": 60}, "kalman_hedge_ratio": {"start_rows": 20},
}  # fmt: skip
# Each side is observed at its own times: NaN is no observation of it, and a row is of no use when it has none at all.
ONE_SIDED = {"hayashi_yoshida_cov", "hayashi_yoshida_corr", "xcorr_leadlag"}
INFINITE = {("ou_half_life", "half_life")}  # of what does not come back: the one infinity that is an answer
SHORT |= {"engle_granger": {"w": 60}, "johansen": {"w": 40}}
every_kernel = pytest.mark.parametrize("kernel", KERNELS.values(), ids=list(KERNELS))
every_row_kernel = pytest.mark.parametrize(
    "kernel",
    [one for one in KERNELS.values() if one.ready is None],
    ids=[n for n, k in KERNELS.items() if k.ready is None],
)


def made(kernel: Kernel) -> Streaming:
    return Streaming(kernel, **SHORT.get(kernel.name, {}))


def same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Bit for bit."""
    assert ours.keys() == theirs.keys()
    for name, column in ours.items():
        assert column.tobytes() == np.asarray(theirs[name], dtype=column.dtype).tobytes(), name


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def cut(columns: dict[str, Any], where: slice) -> dict[str, Any]:
    return {name: column[where] for name, column in columns.items()}


def is_none(column: np.ndarray) -> np.ndarray:
    if column.dtype == np.int8:
        return column == INT8_NONE
    return np.isnan(column) if column.dtype.kind == "f" else np.zeros(len(column), dtype=bool)


@every_kernel
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, N), max_size=5))
def test_micro_batches_are_the_batch(kernel: Kernel, seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    columns, t = columns_of(kernel, rng, N), times(rng, N)
    whole = made(kernel).update(t, **columns)
    streaming, parts = made(kernel), []
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), N], strict=True):
        parts.append(streaming.update(t[start:stop], **cut(columns, slice(start, stop))))
    same(whole, joined(parts))


@every_kernel
def test_on_a_recorded_market_too(kernel: Kernel) -> None:
    t, columns = recorded_columns_of(kernel, np.random.default_rng(4))
    whole = made(kernel).update(t, **columns)
    streaming, edges = made(kernel), [0, 1, 700, 1_303, len(t)]
    parts = [streaming.update(t[start:stop], **cut(columns, slice(start, stop))) for start, stop in pairwise(edges)]
    same(whole, joined(parts))
    for name, column in whole.items():
        assert (kernel.name, name) in INFINITE or not np.isinf(column.astype(float)).any(), name


@every_row_kernel
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6), until=st.integers(1, N - 1))
def test_nobody_looks_ahead(kernel: Kernel, seed: int, until: int) -> None:
    rng = np.random.default_rng(seed)
    columns, t = columns_of(kernel, rng, N), times(rng, N)
    before = cut(made(kernel).update(t, **columns), slice(0, until))
    poisoned = {name: column.copy() for name, column in columns.items()}
    for column in poisoned.values():
        column[until:] = rng.choice([np.nan, np.inf, -1e300, 0.0], column[until:].shape)
    same(before, cut(made(kernel).update(t, **poisoned), slice(0, until)))


@pytest.mark.parametrize(
    "kernel",  # lag and diff count rows, not values: NaN passes through them, by definition
    [one for one in KERNELS.values() if one.ready is None and one.name not in ("lag", "diff")],
    ids=lambda one: one.name,
)
@settings(max_examples=8)
@given(seed=st.integers(0, 10**6))
def test_rows_that_cannot_be_used_are_as_if_they_were_not_there(kernel: Kernel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns, t = columns_of(kernel, rng, N), times(rng, N)
    bad = np.flatnonzero(rng.random(N) < 0.15)
    spoiled = {name: column.copy() for name, column in columns.items()}
    for row in bad:
        names = sorted(set(spoiled) - set(kernel.unread(kernel.values(SHORT.get(kernel.name, {})))))
        for name in names if kernel.name in ONE_SIDED else [rng.choice(names)]:
            spoiled[name][row] = rng.choice([np.nan, np.inf, -np.inf])
    ours = made(kernel).update(t, **spoiled)
    left = np.setdiff1d(np.arange(N), bad)
    same(cut(ours, left), made(kernel).update(t[left], **cut(columns, left)))
    for name, column in cut(ours, bad).items():
        assert is_none(column).all(), name


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("trade_sign", {"method": "tick"}), ("vpin", {"bucket_qty": 4.0, "classify": "bvc", "bar": "5s"}),
        ("kelly_fraction", {}), ("risk_parity_weights", {"assets": 3}), ("exposure_limits", {"positions": 6, "gross": 3e4}),
    ],
)  # fmt: skip
def test_inputs_that_are_not_read_may_be_anything(name: str, parameters: dict[str, Any]) -> None:
    kernel, rng = KERNELS[name], np.random.default_rng(3)
    unread = kernel.unread(kernel.values(parameters))
    assert unread
    columns, t = columns_of(kernel, rng, N), times(rng, N)
    left = {input: column for input, column in columns.items() if input not in unread}
    anything = {input: rng.normal(size=(N, 2, 2)) for input in unread}
    same(
        Streaming(kernel, **parameters).update(t, **anything, **left), Streaming(kernel, **parameters).update(t, **left)
    )


@every_row_kernel
def test_a_step_writes_all_its_outputs(kernel: Kernel) -> None:
    """Whatever stands there before: in a pipeline that is the row before."""
    rng = np.random.default_rng(2)
    streaming, columns, t = made(kernel), columns_of(kernel, rng, N), times(rng, N)
    for column in columns.values():
        column[rng.random(N) < 0.1] = np.nan
    y = np.full((len(streaming.outputs), N), 12_345.0)
    streaming._rows(t, parts_of(kernel, streaming._values, columns), y)
    assert not (y == 12_345.0).any()


@pytest.mark.parametrize("kernel", [one for one in KERNELS.values() if one.ready is not None], ids=lambda one: one.name)
def test_an_answer_has_all_its_outputs(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands there before."""
    rng = np.random.default_rng(2)
    streaming, columns, t = made(kernel), columns_of(kernel, rng, N), times(rng, N)
    parts = parts_of(kernel, streaming._values, columns)
    monkeypatch.setattr(np, "empty", lambda shape: np.full(shape, 12_345.0))
    found = streaming._answers(t, parts)
    assert found.shape[1] > 0
    assert not (found == 12_345.0).any()


@every_kernel
def test_no_rows_and_one_row(kernel: Kernel) -> None:
    rng = np.random.default_rng(0)
    columns, t = columns_of(kernel, rng, 1), times(rng, 1)
    for name, column in made(kernel).update(t[:0], **cut(columns, slice(0, 0))).items():
        assert len(column) == 0, name
    lengths = {len(column) for column in made(kernel).update(t, **columns).values()}
    assert lengths <= {0, 1} or (kernel.name in ORDERS and len(lengths) == 1)


@every_row_kernel
@pytest.mark.parametrize("kind", HARD)
def test_hard_input_gives_numbers_or_none(kernel: Kernel, kind: str) -> None:
    """Never an infinity, whatever comes in."""
    rng = np.random.default_rng(3)
    columns = columns_of(kernel, rng, N)
    for name, column in columns.items():
        if name != BOOK:
            column[:] = HARD[kind](rng, N).reshape(N, *[1] * (column.ndim - 1))  # a matrix: in all its columns
    for name, column in made(kernel).update(times(rng, N), **columns).items():
        assert (kernel.name, name) in INFINITE or not np.isinf(column.astype(float)).any(), name


def allowed(parameter: Parameter) -> st.SearchStrategy[Any]:
    """What a parameter may be, within reason: windows of few rows."""
    low = next((bound for bound in (parameter.low, parameter.above) if bound is not None), -1e6)
    high = next((bound for bound in (parameter.high, parameter.below) if bound is not None), 1e6)
    durations = st.sampled_from(["1us", "100ms", "3s", "1m"])
    if parameter.kind in ("int", "window"):
        fewest = max(int(low), -40)
        counts = st.integers(fewest, min(int(high), fewest + 40))
        return counts if parameter.kind == "int" else counts | durations
    return {
        "choice": st.sampled_from(parameter.choices or ("",)), "bool": st.booleans(), "duration": durations,
        "float": st.floats(low + 1e-9 * (parameter.above is not None), high - 1e-9 * (parameter.below is not None)),
        "floats": st.none(),
    }[parameter.kind]  # fmt: skip


def made_with(kernel: Kernel, parameters: dict[str, Any]) -> Streaming:
    """With these parameters, where they can be used together, and the inputs are as wide as without them."""
    short = SHORT.get(kernel.name, {})
    try:
        ours = Streaming(kernel, **(short | parameters))
    except KernelError:
        return made(kernel)
    return ours if kernel.widths(ours._values) == kernel.widths(kernel.values(short)) else made(kernel)


@every_kernel
@settings(max_examples=12)
@given(data=st.data(), seed=st.integers(0, 10**6), share=st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_whatever_comes_in_no_infinity_comes_out_and_cuts_change_no_bit(
    kernel: Kernel, data: st.DataObject, seed: int, share: float
) -> None:
    """Whatever the parameters are, too. No error either, and not the bits of a NaN: rows one by one are those of the batch."""
    rng = np.random.default_rng(seed)
    parameters = data.draw(st.fixed_dictionaries({}, optional={one.name: allowed(one) for one in kernel.parameters}))
    columns, t = made_absurd(columns_of(kernel, rng, N), rng, share), times(rng, N)
    whole, streaming = made_with(kernel, parameters).update(t, **columns), made_with(kernel, parameters)
    for name, column in whole.items():
        assert (kernel.name, name) in INFINITE or not np.isinf(column.astype(float)).any(), name
    edges = np.unique([0, N, *np.cumsum(rng.choice([1, 1, 2, 40], N)).clip(0, N)])
    same(whole, joined([streaming.update(t[a:b], **cut(columns, slice(a, b))) for a, b in pairwise(edges)]))


# What these have is not of the window alone: of a day, of all rows, or chosen once a window.
REMEMBERED = {"vwap", "signed_volume.cum", "two_scale_rv", "realized_kernel", "evt_pot_var"}


@pytest.mark.parametrize(
    "kernel", [one for one in KERNELS.values() if one.grow and not one.ready], ids=lambda one: one.name
)
@pytest.mark.parametrize("size", [1e30, 1e100, 1.1e300])
def test_what_left_a_window_is_forgotten(kernel: Kernel, size: float) -> None:
    """However large it was: the sums of what stays are right again, after 4096 removals at the latest."""
    rows, absurd = 6_000, (100, 102, 104)
    columns, t = columns_of(kernel, np.random.default_rng(8), rows), times(np.random.default_rng(8), rows)
    if kernel.name == "ou_half_life":  # of one value or the other, as s is elsewhere, it hangs on the last bit
        columns["s"] = series(np.random.default_rng(8), rows)
    later = slice(absurd[-1] + 1, rows)
    fresh = made(kernel).update(t[later], **cut(columns, later))
    for name, column in columns.items():
        spoiled = column.copy()
        spoiled[list(absurd)] = size * np.array([1.0, 1.1, 1.37]).reshape(3, *[1] * (column.ndim - 1))
        ours = cut(made(kernel).update(t, **(columns | {name: spoiled})), later)
        for output, found in ours.items():
            if not {kernel.name, f"{kernel.name}.{output}"} & REMEMBERED:
                last, wanted = found[-500:].astype(float), fresh[output][-500:].astype(float)
                np.testing.assert_allclose(last, wanted, rtol=1e-6, atol=1e-9, err_msg=f"{output} after {name}")


@every_kernel
def test_states_do_not_grow_with_the_stream(kernel: Kernel) -> None:
    """They hold a window at most; one in time has found its room after some rows."""
    rng = np.random.default_rng(6)
    streaming, columns, t = made(kernel), columns_of(kernel, rng, 5 * N), times(rng, 5 * N)
    streaming.update(t[:N], **cut(columns, slice(0, N)))
    before = len(streaming.save())
    streaming.update(t[N:], **cut(columns, slice(N, 5 * N)))
    assert len(streaming.save()) <= 2.1 * before


@every_kernel
def test_a_saved_state_goes_on(kernel: Kernel) -> None:
    rng = np.random.default_rng(5)
    columns, t = columns_of(kernel, rng, N), times(rng, N)
    streaming = made(kernel)
    streaming.update(t[:150], **cut(columns, slice(0, 150)))
    again = Streaming.load(streaming.save())
    rest = cut(columns, slice(150, N))
    same(streaming.update(t[150:], **rest), again.update(t[150:], **rest))


@pytest.mark.parametrize(
    "kernel",
    [one for one in KERNELS.values() if one.merge is not None and one.ready is None],  # bars: test_kernels_bars.py
    ids=lambda one: one.name,
)
@settings(max_examples=10)
@given(seed=st.integers(0, 10**6), at=st.integers(0, N))
def test_states_of_two_pieces_merge(kernel: Kernel, seed: int, at: int) -> None:
    rng = np.random.default_rng(seed)
    columns, t = columns_of(kernel, rng, N + 1), times(rng, N + 1)
    whole, first, later = made(kernel), made(kernel), made(kernel)
    whole.update(t[:N], **cut(columns, slice(0, N)))
    first.update(t[:at], **cut(columns, slice(0, at)))
    later.update(t[at:N], **cut(columns, slice(at, N)))
    last = cut(columns, slice(N, N + 1))
    ours, theirs = first.merge(later).update(t[N:], **last), whole.update(t[N:], **last)
    for name, column in ours.items():
        np.testing.assert_allclose(column, theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)


@every_kernel
def test_what_cannot_be_used_is_named(kernel: Kernel) -> None:
    rng = np.random.default_rng(9)
    columns, t = columns_of(kernel, rng, 5), times(rng, 5)
    short = SHORT.get(kernel.name, {})
    with pytest.raises(KernelError, match=f"{kernel.name}: the input {kernel.inputs[0]} is missing"):
        Streaming(kernel, **short).update(t)
    with pytest.raises(KernelError, match="nothing is no input of it"):
        Streaming(kernel, **short).update(t, **columns, nothing=t)
    with pytest.raises(KernelError, match=f"{kernel.name}: t goes back at row 1"):
        Streaming(kernel, **short).update([5, 4, 4, 4, 4], **columns)
    with pytest.raises(KernelError, match=f"{kernel.inputs[0]} holds <U|{kernel.inputs[0]} holds object"):
        Streaming(kernel, **short).update(t, **(columns | {kernel.inputs[0]: np.array(["1"] * 5)}))
    read = [name for name in kernel.inputs if name not in kernel.unread(kernel.values(short))]
    if len(read) > 1:
        with pytest.raises(KernelError, match="differ in length"):
            Streaming(kernel, **short).update(t[:4], **(columns | {read[-1]: columns[read[-1]][:4]}))
    wide = np.ones((5, 9, 2))
    with pytest.raises(KernelError, match=rf"{kernel.name}: {kernel.inputs[0]} has the shape \(5, 9, 2\); it must be "):
        Streaming(kernel, **short).update(t, **(columns | {kernel.inputs[0]: wide}))
    with pytest.raises(KernelError, match="unknown parameter 'nothing'"):
        Streaming(kernel, **short, nothing=1)
    for parameter in kernel.parameters:
        for bound, beyond in (
            (parameter.low, -1.0),
            (parameter.high, 1.0),
            (parameter.above, 0.0),
            (parameter.below, 0.0),
        ):
            if bound is not None:
                wrong = int(bound + beyond) if parameter.kind in ("int", "window") else bound + beyond
                with pytest.raises(KernelError, match=f"{kernel.name}: {parameter.name}=.*it must be "):
                    Streaming(kernel, **(short | {parameter.name: wrong}))


NONSENSE = (
    None, "abc", "", -1.5, [], [None], {}, object(), math.nan, math.inf, 10**30, 1j, b"x", "-5s", "99999999999999d",
)  # fmt: skip


@every_kernel
def test_a_parameter_that_cannot_be_used_is_named(kernel: Kernel) -> None:
    """Some take what others refuse: a name, a number below zero, nothing."""
    refused = 0
    for parameter in kernel.parameters:
        for value in NONSENSE:
            try:
                Streaming(kernel, **(SHORT.get(kernel.name, {}) | {parameter.name: value}))
            except KernelError as error:
                assert parameter.name in str(error)
                refused += 1
    assert refused >= len(NONSENSE) // 2 * len(kernel.parameters)


def test_names_are_found_and_near_ones_told() -> None:
    for alias, name in ALIASES.items():
        assert find(alias) is KERNELS[name]
    with pytest.raises(KernelError, match="unknown kernel 'ewm'; did you mean 'ewma'"):
        find("ewm")
    assert set(compute("ewma", x=[1.0, 2.0])) == {"mean"}


@every_kernel
def test_each_kernel_says_what_it_is(kernel: Kernel) -> None:
    told = kernel.described()
    assert all(told[key] for key in ("name", "family", "formula", "inputs", "outputs", "first", "cost", "oracle"))
    assert all(parameter["allowed"] for parameter in told["parameters"])
