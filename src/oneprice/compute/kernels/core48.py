"""`core48`: the features of a market that most models begin with, in one compiled call a tick.

A row is an event: a trade with the book as it stood just before it, or a change of the book; what an event does not carry is
NaN. Columns: trade price `p`, quantity `q` and aggressor `s` (+1 buyer), funding `rate` and `interval_h`, the underlying's
`index`, and ten levels of the book. What is measured on one price is measured on the mid, what is measured on returns on the
mid's log return; bar kernels take the mid as high, low and close of the tick."""

from __future__ import annotations

from typing import Any

from oneprice.compute.kernels.pipeline import Feature, Pipeline

LEVELS = 10  # of the book that a row carries, at least


def core48(bucket_qty: float, *, levels: int = LEVELS) -> Pipeline:
    """The 48 features, as a pipeline whose outputs stand in the order of `CORE48`.

    `bucket_qty`: volume of one VPIN bucket; 1/50 of a day's volume is usual. `levels`: of the book that a row carries.
    """
    return Pipeline([*_FEATURES, _feature("vpin", "vpin", "", bucket_qty=bucket_qty)], levels=levels, outputs=CORE48)


def _feature(name: str, kernel: str, sources: str = "", **parameters: Any) -> Feature:
    """`sources`: "x=mid y=index"."""
    return Feature(
        name=name, kernel=kernel, sources=dict(one.split("=") for one in sources.split()), parameters=parameters
    )


_TOUCH = "b=bk.b B=bk.B a=bk.a A=bk.A"
_FEATURES = (
    _feature("mid", "midprice", "b=bk.b a=bk.a"),
    _feature("log_return", "log_returns", "p=mid"),
    # the book
    _feature("microprice", "microprice", _TOUCH),
    _feature("spread", "quoted_spread", "b=bk.b a=bk.a"),
    _feature("l1_imbalance", "l1_imbalance", "B=bk.B A=bk.A"),
    _feature("depth_imbalance", "depth_imbalance", levels=5),
    _feature("depth_weighted_mid", "depth_weighted_mid", levels=5),
    _feature("book_slope", "book_slope", levels=10),
    _feature("ofi", "ofi", _TOUCH, w="1s"),
    _feature("mlofi", "multi_level_ofi", levels=5, w="1s"),
    _feature("queue", "queue_depletion", _TOUCH),
    # trades
    _feature("sign", "trade_sign", "flag=s", method="venue"),
    _feature("flow", "signed_volume", w="60s"),
    _feature("effective_spread", "effective_spread", "m=mid"),
    Feature(name="is_buy", expression="(s + 1) / 2"),
    Feature(name="is_sell", expression="(1 - s) / 2"),
    _feature("buys", "hawkes_intensity", "event=is_buy"),
    _feature("sells", "hawkes_intensity", "event=is_sell"),
    # one price
    _feature("ewma_20", "ewma", "x=mid", halflife=20),
    _feature("ewma_100", "ewma", "x=mid", halflife=100),
    _feature("zscore", "rolling_zscore", "x=mid", w=100),
    _feature("std", "rolling_std", "x=log_return", w=100),
    _feature("skew", "rolling_skew", "x=log_return", w=100),
    _feature("kurt", "rolling_kurt", "x=log_return", w=100),
    _feature("autocorr", "autocorr", "x=log_return", w=100, k=1),
    _feature("realized", "realized_var", "r=log_return", w="60s"),
    _feature("bipower", "bipower_var", "r=log_return", w=20),
    _feature("riskmetrics", "riskmetrics_vol", "r=log_return"),
    _feature("atr", "atr", "H=mid L=mid C=mid"),
    # what trading costs
    _feature("change", "diff", "x=mid"),
    Feature(name="signed_qty", expression="s * q"),
    Feature(name="quote_volume", expression="p * q"),
    _feature("kyle", "kyle_lambda", "dm=change sq=signed_qty m=mid", w=50),
    _feature("amihud", "amihud_illiquidity", "r=log_return", w=20),
    _feature("roll", "roll_spread", w=100),
    # momentum
    _feature("ema_20", "ema", "x=mid", n=20),
    _feature("macd", "macd", "x=mid"),
    _feature("rsi", "rsi", "x=mid", n=14),
    _feature("bollinger", "bollinger_bands", "x=mid", n=20),
    _feature("donchian", "donchian_channel", "H=mid L=mid", n=20),
    Feature(name="donchian_pos", expression="(mid - donchian.dn) / (donchian.up - donchian.dn)"),
    _feature("stochastic", "stochastic_osc", "H=mid L=mid C=mid", n=14),
    _feature("kalman", "kalman_1d", "x=mid"),
    # risk
    _feature("cusum", "cusum", "x=log_return"),
    _feature("hist_var", "historical_var", "r=log_return", w=100),
    _feature("drawdown", "drawdown_equity", "equity=mid"),
    # against the day's average, the year and the index
    _feature("vwap", "vwap"),
    Feature(name="vwap_dev", expression="mid / vwap - 1"),
    _feature("funding", "funding_apr"),
    Feature(name="basis_bps", expression="1e4 * (mid / index - 1)"),
)

CORE48 = {  # columns of a feature file, and what stands in them
    "log_return": "log_return", "mid": "mid", "microprice": "microprice", "quoted_spread_bps": "spread.bps",
    "l1_imbalance": "l1_imbalance", "depth_imbalance_5": "depth_imbalance", "depth_weighted_mid_5": "depth_weighted_mid",
    "book_slope_10": "book_slope.slope", "ofi_1s": "ofi.sum", "mlofi_5_1s": "mlofi.integrated", "trade_sign": "sign",
    "signed_volume_60s": "flow.sum", "effective_spread_bps": "effective_spread", "vpin_50": "vpin",
    "hawkes_buy": "buys.lambda_after", "hawkes_sell": "sells.lambda_after", "queue_left_bid": "queue.seconds_left_bid",
    "queue_left_ask": "queue.seconds_left_ask", "ewma_20": "ewma_20", "ewma_100": "ewma_100", "rolling_zscore_100": "zscore.z",
    "rolling_std_100": "std", "rolling_skew_100": "skew", "rolling_kurt_100": "kurt", "autocorr_1_100": "autocorr",
    "realized_vol_60s": "realized.vol", "bipower_20": "bipower.bv", "riskmetrics_vol": "riskmetrics.vol", "atr_14": "atr.atr",
    "kyle_lambda_50": "kyle.lambda", "amihud_20": "amihud", "roll_spread_100": "roll.bps", "ema_20": "ema_20",
    "macd": "macd.macd", "macd_signal": "macd.signal", "macd_hist": "macd.hist", "rsi_14": "rsi",
    "bollinger_pct_b_20": "bollinger.pct_b", "donchian_pos_20": "donchian_pos", "stochastic_k_14": "stochastic.k",
    "kalman_level": "kalman.level", "cusum_up": "cusum.s_up", "cusum_dn": "cusum.s_dn", "hist_var_100": "hist_var",
    "drawdown": "drawdown.dd", "vwap_day_dev": "vwap_dev", "funding_apr": "funding.apr", "basis_bps": "basis_bps",
}  # fmt: skip
