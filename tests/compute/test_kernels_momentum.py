"""Momentum against TA-Lib and pandas, on random series and on recorded minutes, with rows that cannot be used left out of what
those are given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import talib

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

CLOSE = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}


def random_bars(n: int = 3_000) -> pd.DataFrame:
    """Bars whose highs and lows often repeat, as prices on a grid do."""
    rng = np.random.default_rng(1)
    close = np.round(100.0 + rng.standard_normal(n).cumsum(), 1)
    reach = np.round(np.abs(rng.standard_normal((2, n))), 1)
    return pd.DataFrame({"H": close + reach[0], "L": close - reach[1], "C": close})


def recorded_bars() -> pd.DataFrame:
    """Minutes of BTC in the days in which a stablecoin lost its peg."""
    read = pd.read_parquet(shared("data/market/usdc_depeg_2023-03/binance_btcusdt.parquet")).iloc[:20_000]
    return read[["high", "low", "close"]].set_axis(["H", "L", "C"], axis=1).reset_index(drop=True)


@pytest.fixture(scope="module", params=[random_bars, recorded_bars], ids=["random", "recorded"])
def bars(request: pytest.FixtureRequest) -> pd.DataFrame:
    """Bars, some of which cannot be used."""
    frame: pd.DataFrame = request.param()
    frame.loc[np.random.default_rng(2).random(len(frame)) < 0.03, "C"] = np.nan
    return frame


def check(ours: Any, theirs: Any, valid: pd.DataFrame, rows: int) -> None:
    """Theirs, put back at the rows it was computed on."""
    np.testing.assert_allclose(ours, pd.Series(theirs, index=valid.index).reindex(range(rows)).to_numpy(), **CLOSE)


def test_ema_and_sma(bars: pd.DataFrame) -> None:
    valid, x, n = bars.dropna(), bars["C"], len(bars)
    for length in (2, 20):
        check(compute("ema", x=x, n=length)["ema"], talib.EMA(valid["C"].to_numpy(), length), valid, n)
        check(compute("sma", x=x, n=length)["sma"], talib.SMA(valid["C"].to_numpy(), length), valid, n)
    of_pandas = valid["C"].ewm(span=20, adjust=False, min_periods=20).mean()
    check(compute("ema", x=x, seed="first")["ema"], of_pandas, valid, n)
    assert (
        compute("ema", x=[3.0, 4.0], n=1)["ema"].tolist()
        == compute("sma", x=[3.0, 4.0], n=1)["sma"].tolist()
        == [3.0, 4.0]
    )


def test_sma_over_a_time_is_that_of_pandas() -> None:
    rng = np.random.default_rng(3)
    t, x = 1_769_083_200_000_000_000 + np.cumsum(rng.integers(0, 40_000_000, 2_000)), rng.standard_normal(2_000)
    expected = pd.Series(x, index=pd.to_datetime(t)).rolling("2s", min_periods=30).mean()
    np.testing.assert_allclose(compute("sma", t=t, x=x, n="2s", min_obs=30)["sma"], expected, **CLOSE)


def test_sma_forgets_what_has_left() -> None:
    x = np.concatenate([np.full(30, 0.1), [1e16, -1e13, 3e9], np.full(30, 0.1)])
    assert compute("sma", x=x, n=20)["sma"][-1] == pytest.approx(0.1, rel=1e-15)


def test_macd(bars: pd.DataFrame) -> None:
    valid, x, n = bars.dropna(), bars["C"], len(bars)
    close = valid["C"].to_numpy()
    macd, signal, hist = talib.MACD(close)
    ours = compute("macd", x=x)
    check(ours["signal"], signal, valid, n)
    check(ours["hist"], hist, valid, n)
    seen = ~np.isnan(ours["signal"])
    check(np.where(seen, ours["macd"], np.nan), macd, valid, n)
    first = np.flatnonzero(~np.isnan(ours["macd"]))[0]
    assert bars["C"][:first].notna().sum() == 25  # it is there from the 26th value on
    aligned = compute("macd", x=x, align="natural")["macd"]
    check(aligned, talib.EMA(close, 12) - talib.EMA(close, 26), valid, n)
    with pytest.raises(KernelError, match="macd: fast=26: it must be below slow=26"):
        Streaming("macd", fast=26)


def test_rsi(bars: pd.DataFrame) -> None:
    valid = bars.dropna()
    for length in (2, 14):
        theirs = talib.RSI(valid["C"].to_numpy(), length)
        ours = compute("rsi", x=bars["C"], n=length)["rsi"]
        still = valid["C"].diff().rolling(length).apply(lambda part: (part == 0.0).all(), raw=True).eq(1.0).cummax()
        theirs[(theirs == 0.0) & still] = np.nan  # TA-Lib's word for no movement at all
        check(ours, theirs, valid, len(bars))
    assert np.isnan(compute("rsi", x=np.ones(50))["rsi"]).all()
    assert set(compute("rsi", x=np.arange(50.0))["rsi"][14:]) == {100.0}


def test_bollinger_bands(bars: pd.DataFrame) -> None:
    valid, n = bars.dropna(), len(bars)
    ours = compute("bollinger_bands", x=bars["C"], k=2.5)
    upper, middle, lower = talib.BBANDS(valid["C"].to_numpy(), 20, 2.5, 2.5)
    tolerance = 1e-6  # TA-Lib subtracts squares
    for name, theirs in (("up", upper), ("mid", middle), ("dn", lower)):
        np.testing.assert_allclose(ours[name][valid.index], theirs, rtol=tolerance)
    windows = np.lib.stride_tricks.sliding_window_view(valid["C"].to_numpy(), 20)
    mean = pd.Series(windows.mean(axis=1), index=valid.index[19:])
    reach = pd.Series(2.5 * windows.std(axis=1), index=valid.index[19:])
    check(ours["up"], mean + reach, valid[19:], n)
    check(ours["pct_b"], (valid["C"][19:] - mean + reach) / (2.0 * reach), valid[19:], n)
    check(ours["width"], 2.0 * reach / mean, valid[19:], n)
    flat = compute("bbands", x=np.ones(30))
    assert np.isnan(flat["pct_b"]).all()
    assert set(flat["width"][19:]) == {0.0}


def test_donchian_channel(bars: pd.DataFrame) -> None:
    bars = bars.assign(L=bars["L"].where(bars["C"].notna()))
    valid, n = bars.dropna(), len(bars)
    high, low = valid["H"].rolling(20).max(), valid["L"].rolling(20).min()
    ours = compute("donchian_channel", H=bars["H"], L=bars["L"])
    check(ours["up"], high, valid, n)
    check(ours["dn"], low, valid, n)
    check(ours["mid"], (high + low) / 2.0, valid, n)
    before = compute("donchian", H=bars["H"], L=bars["L"], include_current=False)
    check(before["up"], high.shift(), valid, n)
    check(before["dn"], low.shift(), valid, n)


def test_stochastic_osc(bars: pd.DataFrame) -> None:
    valid = bars.dropna()
    theirs = talib.STOCH(*(valid[name].to_numpy() for name in "HLC"), fastk_period=14, slowk_period=3, slowd_period=3)
    ours = compute("stochastic_osc", H=bars["H"], L=bars["L"], C=bars["C"])
    seen = ~np.isnan(ours["d"])  # TA-Lib gives k only from the first row of d on
    check(np.where(seen, ours["k"], np.nan), theirs[0], valid, len(bars))
    check(ours["d"], theirs[1], valid, len(bars))
    k = compute("stoch", H=valid["H"], L=valid["L"], C=valid["C"])["k"]
    assert np.flatnonzero(~np.isnan(k))[0] == 15
    flat = {name: np.ones(40) for name in "HLC"}
    assert np.isnan(compute("stochastic_osc", **flat)["k"]).all()


def test_adx(bars: pd.DataFrame) -> None:
    valid = bars.dropna()
    columns = [valid[name].to_numpy() for name in "HLC"]
    for length in (2, 14):
        ours = compute("adx", H=bars["H"], L=bars["L"], C=bars["C"], n=length)
        check(ours["adx"], talib.ADX(*columns, timeperiod=length), valid, len(bars))
        check(ours["di_plus"], talib.PLUS_DI(*columns, timeperiod=length), valid, len(bars))
        check(ours["di_minus"], talib.MINUS_DI(*columns, timeperiod=length), valid, len(bars))
    flat = {name: np.ones(60) for name in "HLC"}
    assert np.isnan(compute("adx", **flat)["adx"]).all()
    assert np.isnan(compute("adx", **flat)["di_plus"]).all()
