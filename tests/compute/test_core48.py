"""`core48` gives what its kernels give one by one, in the order of the feature file, for trades and changes of the book."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from kernel_world import made_absurd, market, times

from oneprice.compute.kernels.core48 import CORE48, core48
from oneprice.compute.kernels.definition import BOOK, INT8_NONE
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.registry import find
from oneprice.compute.kernels.streaming import compute

N = 3_000
ORDER = (
    "log_return mid microprice quoted_spread_bps l1_imbalance depth_imbalance_5 depth_weighted_mid_5 book_slope_10 ofi_1s "
    "mlofi_5_1s trade_sign signed_volume_60s effective_spread_bps vpin_50 hawkes_buy hawkes_sell queue_left_bid "
    "queue_left_ask ewma_20 ewma_100 rolling_zscore_100 rolling_std_100 rolling_skew_100 rolling_kurt_100 autocorr_1_100 "
    "realized_vol_60s bipower_20 riskmetrics_vol atr_14 kyle_lambda_50 amihud_20 roll_spread_100 ema_20 macd macd_signal "
    "macd_hist rsi_14 bollinger_pct_b_20 donchian_pos_20 stochastic_k_14 kalman_level cusum_up cusum_dn hist_var_100 "
    "drawdown vwap_day_dev funding_apr basis_bps"
)


@pytest.fixture(scope="module")
def events() -> tuple[np.ndarray, dict[str, Any]]:
    """Trades, with changes of the book between them that carry no trade."""
    rng = np.random.default_rng(3)
    made = market(rng, N)
    without_trade = rng.random(N) < 0.3
    columns = {name: np.where(without_trade, np.nan, made[name]) for name in ("p", "q", "s")}
    columns |= {"rate": np.repeat(rng.normal(1e-4, 1e-5, N // 100), 100), "interval_h": np.full(N, 8.0)}
    return times(rng, N), columns | {"index": made["m"] * 1.001, BOOK: made[BOOK][:, :, :10]}


def one_by_one(pipeline: Pipeline, t: np.ndarray, columns: dict[str, Any]) -> dict[str, np.ndarray]:
    """Every feature by its own kernel, every expression by NumPy."""
    book = columns[BOOK]
    seen = columns | {"bk.b": book[:, 0, 0], "bk.B": book[:, 1, 0], "bk.a": book[:, 2, 0], "bk.A": book[:, 3, 0]}
    for feature in pipeline.features:
        if feature.expression:
            code = re.sub(r"\b[a-z_]\w*(\.\w+)?", lambda name: f"seen['{name[0]}']", feature.expression)
            with np.errstate(all="ignore"):
                value = eval(code, {"seen": seen})
            seen[feature.name] = np.where(np.isfinite(value), value, np.nan)
        else:
            seen |= of_kernel(feature, t, seen)
    return {name: seen[source] for name, source in CORE48.items()}


def of_kernel(feature: Feature, t: np.ndarray, seen: dict[str, Any]) -> dict[str, np.ndarray]:
    kernel = find(feature.kernel)
    left_out = {*kernel.optional, *kernel.unread(kernel.values(feature.parameters))} - set(feature.sources)
    inputs = {name: seen[feature.sources.get(name, name)] for name in kernel.inputs if name not in left_out}
    found = compute(kernel, t, **inputs, **feature.parameters)
    columns = {
        name: np.where(column == INT8_NONE, np.nan, column) if column.dtype == np.int8 else column
        for name, column in found.items()
    }  # fmt: skip
    first = {feature.name: next(iter(columns.values()))}  # a feature's own name is its first output's
    return first | {f"{feature.name}.{name}": column for name, column in columns.items()}


def test_the_columns_are_those_of_the_feature_file() -> None:
    assert list(CORE48) == ORDER.split()
    assert core48(bucket_qty=1.0).outputs == tuple(ORDER.split())


def test_each_feature_is_that_of_its_kernel(events: tuple[np.ndarray, dict[str, Any]]) -> None:
    t, columns = events
    pipeline = core48(bucket_qty=50.0)
    found = pipeline.update(t, **columns)
    for name, expected in one_by_one(pipeline, t, columns).items():
        if name in ("donchian_pos_20", "vwap_day_dev", "basis_bps"):
            np.testing.assert_allclose(found[name], expected, rtol=1e-12, atol=1e-15, err_msg=name)
        else:
            assert found[name].tobytes() == expected.astype(np.float64).tobytes(), name
        assert np.isfinite(expected).sum() > N // 10, name


def test_each_feature_is_that_of_its_kernel_whatever_comes_in(events: tuple[np.ndarray, dict[str, Any]]) -> None:
    t, columns = events[0], made_absurd(events[1], np.random.default_rng(5), 0.003)
    pipeline = core48(bucket_qty=50.0)
    found = pipeline.update(t, **columns)
    for name, expected in one_by_one(pipeline, t, columns).items():
        plus_zero = expected + 0.0  # small whole numbers know no -0
        assert (found[name] + 0.0).tobytes() == plus_zero.tobytes(), name


def test_a_tick_is_a_row_of_the_batch_and_a_saved_state_goes_on(events: tuple[np.ndarray, dict[str, Any]]) -> None:
    t, columns = events
    pipeline = core48(bucket_qty=50.0)
    whole = np.stack(list(core48(bucket_qty=50.0).update(t, **columns).values()), axis=1)
    rows = np.concatenate([columns[name].reshape(N, -1) for name in pipeline.columns], axis=1)
    for k in range(N):
        if k == N // 2:
            pipeline = Pipeline.load(pipeline.save())
        assert pipeline.tick(int(t[k]), np.ascontiguousarray(rows[k])).tobytes() == whole[k].tobytes(), k
