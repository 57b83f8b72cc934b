"""What the inputs of kernels are, by their names, and a few rows of a tiny market to try each kernel on.

The docs, the command line and the tests take both from here. Who adds a kernel adds what is new: an input of a new name to
`INPUTS`, one that has its name but not its meaning to `INPUTS_OF`, and to `EXAMPLES` the parameters that have no default or
need more rows than an example has."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from oneprice.compute.kernels.definition import BOOK, Kernel, KernelError

ROWS = 5  # of an example that does not say how many


class Input(NamedTuple):
    """`means`: the input in a few words. `column`: its rows in an example; of a matrix each row is a tuple."""

    means: str
    column: tuple[Any, ...]


class Example(NamedTuple):
    """`seconds`: the times of the rows where they are not one second apart."""

    parameters: Mapping[str, Any] = {}
    rows: int | None = None
    seconds: tuple[int, ...] | None = None


INPUTS: dict[str, Input] = {
    # series
    "x": Input("any series", (1.0, 2.0, 4.0, 3.0, 5.0, 4.0, 6.0, 8.0, 7.0, 9.0, 8.0, 10.0)),
    "y": Input("another series", (2.0, 3.5, 7.0, 6.0, 9.0, 8.5, 11.0, 15.5, 14.0, 18.5)),
    "r": Input("return", (0.002, -0.001, 0.003, -0.002, 0.001, 0.002, -0.003, 0.001, 0.002, -0.001, 0.003, -0.002)),
    # trades
    "p": Input("price", (100.0, 100.2, 100.1, 100.4, 100.3, 100.6, 100.5, 100.8, 100.6, 100.9, 101.0, 100.7)),
    "q": Input("quantity", (2.0, 1.0, 3.0, 0.5, 1.5, 2.5)),
    "s": Input("side of the trade: 1 the buyer took, -1 the seller", (1, 1, -1, 1, -1, -1)),
    "flag": Input("side that the venue names: 1 the buyer took, -1 the seller", (1, -1, 1, 1, -1)),
    "event": Input("1 in the row of an event, else 0", (1, 0, 1, 1, 0)),
    "id": Input("the venue's id of the trade", (101, 102, 102, 105, 104)),
    "is_trade": Input("1 in the row of a trade, 0 in the row of a quote", (0, 1, 0, 1, 1)),
    # the touch and the book
    "b": Input("best bid price", (100.0, 100.1, 100.1, 100.3, 100.2)),
    "a": Input("best ask price", (100.1, 100.2, 100.3, 100.4, 100.3)),
    "B": Input("quantity at the best bid", (5.0, 4.0, 6.0, 3.0, 5.0)),
    "A": Input("quantity at the best ask", (2.0, 3.0, 1.0, 4.0, 2.0)),
    "m": Input("mid price, (b + a)/2", (100.05, 100.15, 100.2, 100.35, 100.25)),
    "dm": Input("change of the mid price over the interval", (0.2, -0.1, 0.3, 0.0, -0.2)),
    "sq": Input("signed quantity of the interval: bought less sold, by takers", (200.0, -150.0, 250.0, 50.0, -100.0)),
    "spread_bps": Input("quoted spread, bps", (9.0, 7.6, 6.5, 6.1, 5.6, 5.5, 5.2)),
    BOOK: Input(
        "the book: levels of bid prices, bid quantities, ask prices, ask quantities",
        (
            ((100.0, 99.9), (5.0, 8.0), (100.1, 100.2), (2.0, 6.0)),
            ((100.1, 100.0), (4.0, 5.0), (100.2, 100.3), (3.0, 7.0)),
            ((100.1, 100.0), (6.0, 4.0), (100.3, 100.4), (1.0, 5.0)),
        ),
    ),
    "size": Input("quantity to be traded", (1.0, 5.0, 20.0)),
    "side": Input("1 to buy, -1 to sell", (1, 1, -1)),
    # bars
    "O": Input("open of the bar", (100.0, 100.2, 100.1, 100.5, 100.3, 100.6)),
    "H": Input("high of the bar", (100.3, 100.4, 100.6, 100.7, 100.7, 101.1)),
    "L": Input("low of the bar", (99.8, 100.0, 100.1, 100.2, 100.1, 100.4)),
    "C": Input("close of the bar", (100.2, 100.1, 100.5, 100.3, 100.6, 101.0)),
    "V": Input("volume of the bar", (12.0, 8.0, 0.0, 9.0, 11.0)),
    "vwap": Input("the bar's average price by volume", (100.1, 100.2, 100.3, 100.9, 100.4)),
    "quote_volume": Input("volume of the interval in quote currency", (5e5, 8e5, 6e5, 9e5, 7e5)),
    # currencies
    "b1": Input("bid of the first pair", (60_000.0, 60_020.0)),
    "a1": Input("ask of the first pair", (60_001.0, 60_021.0)),
    "b2": Input("bid of the second pair", (0.05, 0.0501)),
    "a2": Input("ask of the second pair", (0.0501, 0.0502)),
    "b3": Input("bid of the third pair", (3_005.0, 3_020.0)),
    "a3": Input("ask of the third pair", (3_006.0, 3_021.0)),
    "S": Input("spot price", (100.0, 100.5, 101.0)),
    "F": Input("price of the forward or future", (101.0, 102.0, 101.5)),
    "tau": Input("years to delivery", (0.25, 0.5, 1.0)),
    "r_base": Input("interest of the base currency, a year", (0.03, 0.03, 0.03)),
    "r_quote": Input("interest of the quote currency, a year", (0.05, 0.05, 0.045)),
    "r_usd": Input("interest of the dollar, a year", (0.05, 0.05, 0.05)),
    "r_for": Input("interest of the other currency, a year", (0.01, 0.01, 0.012)),
    "units": Input("size of the position in base currency", (10_000.0, 10_000.0, -5_000.0)),
    "conv": Input("price of the pair's quote currency in the account's", (1.0, 0.9, 0.9)),
    "Q": Input("quantity to be done at the fix", (100.0, 100.0, 100.0, 100.0, 100.0)),
    "fix": Input("side of our order in the row of the fix (1 buys, -1 sells), else 0", (0, 0, 1, 0, 0, 0)),
    "fill": Input("our average price, in the row of the fix", (0.0, 0.0, 100.15, 0.0, 0.0, 0.0)),
    "p0": Input("price before", (100.0, 100.0)),
    "p1": Input("price after", (110.0, 95.0)),
    "x0": Input("price of the quote currency in the account's, before", (1.1, 1.1)),
    "x1": Input("the same, after", (1.2, 1.0)),
    # perpetuals and futures
    "rate": Input("funding rate of one interval, a fraction", (0.0001, 0.0003, -0.0001, 0.0002)),
    "interval_h": Input("hours from one funding to the next", (8.0, 8.0, 4.0, 4.0)),
    "next_t": Input("time of the next funding, ns", (28_800 * 10**9, 28_800 * 10**9, 57_600 * 10**9, 57_600 * 10**9)),
    "cost_bps": Input("cost of going in and out, bps", (5.0, 12.0, 5.0)),
    "fees_bps": Input("fees of all legs, bps", (10.0, 10.0, 10.0)),
    "days": Input("days to expiry", (30.0, 60.0, 90.0)),
    "term": Input("days to expiry; of a perpetual, its funding rate", (30.0, 60.0, 90.0)),
    "mark": Input("mark price", (100.0, 101.0, 102.0, 101.0)),
    "index": Input("index price", (100.0, 100.5, 101.0, 100.8)),
    "last": Input("last price", (100.2, 100.4, 101.3, 100.9)),
    "oi": Input("open interest", (1_000.0, 1_050.0, 1_020.0, 990.0, 1_010.0)),
    "price": Input("price of the liquidation", (97.5, 98.0, 102.0, 102.5, 99.0, 101.0)),
    "notional": Input("notional of the liquidation", (1e5, 1e5, 1e5, 1e5, 8e5, 9e5)),
    "YEARS": Input("years to expiry, a column a tenor", ((0.1, 0.25, 0.5), (0.1, 0.25, 0.5))),
    "FUTURES": Input("price of the future, a column a tenor", ((100.5, 101.4, 102.4), (100.1, 100.3, 101.0))),
    # venues
    "METRICS": Input(
        "what is measured of a venue: spread (bps), depth (USD), latency (ms), fee (bps), uptime",
        ((2.0, 5e5, 40.0, 1.0, 0.999), (8.0, 1e5, 90.0, 4.5, 0.99)),
    ),
    "SIZES": Input("sizes, a column an item", ((60.0, 40.0), (90.0, 10.0))),
    "BID": Input("best bid price, a column a venue", ((100.0, 100.3), (100.1, 100.1))),
    "ASK": Input("best ask price, a column a venue", ((100.1, 100.4), (100.2, 100.2))),
    "BID_QTY": Input("quantity at the best bid, a column a venue", ((2.0, 1.5), (3.0, 1.0))),
    "ASK_QTY": Input("quantity at the best ask, a column a venue", ((1.0, 2.5), (2.0, 1.0))),
    "FEE_BPS": Input("taker's fee, a column a venue", ((2.0, 4.0), (2.0, 4.0))),
    # portfolios
    "W": Input("weights of the assets, a column an asset", ((0.5, 0.5), (0.6, 0.4), (0.4, 0.6))),
    "R": Input(
        "returns of the assets since the row before, a column an asset",
        ((0.0, 0.0), (0.02, -0.01), (0.0, 0.03), (-0.01, 0.01), (0.01, 0.02)),
    ),
    "vol": Input("volatility of the price over a row or so, a fraction", (0.001, 0.001, 0.001, 0.001, 0.001, 0.001)),
    "SIGMA": Input("covariances of the assets, row by row of their matrix", ((0.04, 0.01, 0.01, 0.09), (0.04, 0.0, 0.0, 0.01))),
    "BUDGETS": Input("shares of risk, a column an asset", ((0.5, 0.5), (0.7, 0.3))),
    "POSITIONS": Input("positions in money, negative when short, a column each", ((60.0, -30.0), (90.0, 60.0))),
    "equity": Input("equity", (100.0, 110.0, 105.0, 99.0, 112.0)),
    "win_prob": Input("probability of winning", (0.5, 0.55, 0.6)),
    "payoff": Input("net gain for a stake of 1, when won", (1.0, 1.0, 0.8)),
    "mu": Input("expected return", (0.1, 0.1, 0.05)),
    "variance": Input("variance of the return", (0.04, 0.09, 0.04)),
    "factor": Input("return of the factor", (0.001, -0.002, 0.002, -0.001, 0.001)),
    # two markets
    "px": Input("price of the first market", (100.0, 101.0, 100.5, 102.0, 101.0)),
    "py": Input("price of the second market", (50.0, 50.3, 50.4, 50.8, 50.6)),
    "SERIES": Input(
        "levels of the series, a column each",
        (
            (1.0, 2.1), (1.5, 2.7), (1.2, 2.6), (1.9, 3.6), (2.3, 4.7), (2.0, 4.3), (2.6, 5.0), (2.2, 4.6), (2.9, 5.5),
            (3.1, 6.4),
        ),
    ),
    # orders
    "done": Input("quantity done, or sent and open, so far", (0.0, 0.2, 0.3, 0.3, 0.6)),
    "fee": Input("fee of the fill, money", (0.1, 0.05, 0.15)),
    "p_dec": Input("price when the order was decided", (100.0, 100.0, 100.0)),
    "p_send": Input("price when the fill's own child order was sent", (100.05, 100.05, 100.1)),
    "p_end": Input("price of now", (100.1, 100.2, 100.3)),
    "arrival": Input("mid price when the order arrived", (100.0, 100.0, 100.0)),
    "ADV": Input("quantity traded a day", (1_000.0, 1_000.0, 1_000.0)),
    "m_arrival": Input("mid price when the order was decided", (99.9, 99.9, 99.9)),
    "m_send": Input("mid price when it was sent", (99.95, 100.05, 100.0)),
    "touch": Input("best price of the other side when it was sent", (100.0, 100.1, 100.05)),
    "sigma": Input("volatility of the price", (0.02, 0.02, 0.02)),
    "X": Input("quantity to be sold; negative: to be bought", (1_000_000.0,)),
    "T": Input("time that the schedule takes", (5.0,)),
    "N": Input("periods of the schedule", (5.0,)),
    "eta": Input("temporary impact: price a quantity and unit of time", (2.5e-6,)),
    "gamma": Input("permanent impact: price a quantity", (2.5e-7,)),
    "epsilon": Input("cost a quantity: half the spread and fees", (0.0625,)),
    "lambda_": Input("aversion to variance, one over money", (2e-6,)),
    "n": Input("quantity that the schedule wants in this step", (1.0, 1.0, 1.0, 0.0)),
    "display": Input("quantity that is shown", (4.0, 2.0)),
    "inventory": Input("position, negative when short", (0.0, 10.0, -10.0)),
    "tick": Input("the smallest price step", (0.01, 0.01, 0.01)),
    "PRICE": Input("prices of the other side, the levels of each venue after each other", ((100.0, 100.2, 100.1, 100.3),)),
    "QTY": Input("quantities there", ((1.0, 3.0, 2.0, 4.0),)),
    "LOT": Input("lot, a column a venue", ((0.1, 0.1),)),
    "MIN_NOTIONAL": Input("least notional of an order, a column a venue", ((10.0, 10.0),)),
    # clocks and limits
    "ref": Input("reference price", (100.0, 100.0, 100.0)),
    "typical_q": Input("typical quantity of an order", (2.0, 2.0, 2.0)),
    "weight": Input("weight of the request", (1.0, 1.0, 1.0, 1.0, 1.0)),
    "t_venue": Input(
        "the venue's time in its answer, ns",
        (
            1_380_100_000,
            2_395_200_000,
            3_385_300_000,
            4_395_400_000,
            5_388_000_000,
            6_380_600_000,
            7_385_700_000,
            8_395_800_000,
        ),
    ),
    "t_sent": Input(
        "our time when the request was sent, ns",
        (
            960_000_000,
            1_990_000_000,
            2_970_000_000,
            3_990_000_000,
            4_975_000_000,
            5_960_000_000,
            6_970_000_000,
            7_990_000_000,
        ),
    ),
    "t_quote": Input("time of the quote, ns", (0, 900_000_000, 900_000_000, 900_000_000)),
}  # fmt: skip
INPUTS_OF: dict[str, dict[str, Input]] = {
    "robust_hampel": {"x": Input("any series", (1.0, 1.2, 1.1, 9.0, 1.0))},
    "outlier_flag_mad": {"x": Input("any series", (1.0, 1.2, 1.1, 9.0, 1.0))},
    "macd": {"x": Input("any series", (1.0, 2.0, 4.0, 3.0, 6.0))},
    "bocpd": {"x": Input("any series", (0.1, -0.2, 0.0, 5.1, 4.9, 5.0))},
    "label_next_move": {"p": Input("price", (100.0, 100.05, 100.12, 100.0, 99.85, 99.9))},
    "yeo_johnson": {"x": Input("any series", (-2.0, -0.5, 0.0, 1.0, 3.0))},
    "queue_depletion": {
        "b": Input("best bid price", (100.0, 100.0, 100.0, 100.0)), "a": Input("best ask price", (100.1, 100.1, 100.1, 100.1)),
        "B": Input("quantity at the best bid", (5.0, 4.0, 4.5, 2.0)),
        "A": Input("quantity at the best ask", (3.0, 3.0, 2.0, 1.5)),
    },
    "effective_spread": {"m": Input("mid price just before the trade", (99.95, 100.15, 100.2, 100.35, 100.4))},
    "fx_cross_price": {
        "b1": Input("bid of the first pair", (1.08, 1.081)), "a1": Input("ask of the first pair", (1.0801, 1.0811)),
        "b2": Input("bid of the second pair", (1.25, 1.249)), "a2": Input("ask of the second pair", (1.2502, 1.2492)),
    },
    "forward_points": {"S": Input("spot price", (1.08, 1.08, 1.1))},
    "cip_basis": {"S": Input("spot price", (150.0, 150.0, 149.0)), "F": Input("price of the forward", (148.4, 146.9, 143.0))},
    "carry_signal": {"vol": Input("volatility of the price, a year", (0.1, 0.12, 0.08))},
    "pnl_fx": {"q": Input("position, negative when short", (10.0, -10.0))},
    "funding_cost": {"q": Input("position, negative when short", (2.0, 2.0, 2.0, -1.0))},
    "funding_breakeven": {"rate": Input("funding rate of one interval, a fraction", (0.0001, 0.0003, -0.0001))},
    "cash_and_carry_edge": {"r": Input("riskless rate, a year", (0.04, 0.04, 0.04))},
    "liquidation_density": {"m": Input("mid price", (100.0, 100.0, 100.0, 100.0, 100.0, 100.0))},
    "price_band_guard": {"p": Input("price of the order", (101.0, 106.0, 94.9))},
    "fat_finger_guard": {
        "p": Input("price of the order", (101.0, 125.0, 100.0)), "q": Input("quantity of the order", (1.0, 2.0, 50.0)),
    },
    "circuit_breaker": {"p": Input("price", (100.0, 101.0, 107.0, 106.0, 106.5, 106.2))},
    "stale_quote_detector": {
        "b": Input("best bid price", (100.0, 100.1, 100.1, 100.1)), "a": Input("best ask price", (100.1, 100.2, 100.2, 100.2)),
        "m": Input("mid price of a reference market", (100.05, 100.15, 100.25, 100.15)),
    },
    "implementation_shortfall": {
        "Q": Input("quantity of the whole order", (10.0, 10.0, 10.0)), "side": Input("1 to buy, -1 to sell", (1, 1, 1)),
    },
    "arrival_price_impact": {
        "Q": Input("quantity of the whole order", (10.0, 10.0, 10.0)), "side": Input("1 to buy, -1 to sell", (1, 1, 1)),
        "sigma": Input("volatility of a day, a fraction", (0.03, 0.03, 0.03)),
    },
    "slippage_decomposition": {"side": Input("1 to buy, -1 to sell", (1, 1, 1))},
    "optimal_ac_schedule": {
        "sigma": Input("price change over the root of a unit of time", (0.95,)),
    },
    "schedule_simulator": {"V": Input("volume of the bar", (12.0, 8.0, 5.0, 9.0))},
    "iceberg_slicer": {"Q": Input("quantity of the order", (10.0, 3.0))},
    "smart_order_router": {"Q": Input("quantity of the order", (4.0,))},
    "post_only_shading": {"sigma": Input("price change over the root of a second", (0.02, 0.02, 0.02))},
    "cusum": {"x": Input("any series", (0.1, -0.2, 1.5, 2.0, 1.8, 0.1))},
    "vol_target": {"vol": Input("volatility, over the time of target", (0.1, 0.2, 0.21, 0.4, 0.1))},
    "kelly_fraction": {"rate": Input("riskless return", (0.02, 0.02, 0.02))},
    "evt_pot_var": {
        "r": Input(
            "return",
            (
                0.002, -0.001, 0.003, -0.012, 0.001, 0.002, -0.003, 0.001, 0.002, -0.031, 0.003, -0.002, 0.004, -0.007, 0.001,
                -0.002, 0.005, -0.018, 0.002, 0.001, -0.004, 0.003, -0.001, -0.009, 0.002, -0.005, 0.001, 0.006, -0.015, 0.002,
                -0.002, 0.003,
            ),
        ),
    },
    "ou_half_life": {"s": Input("spread", (1.0, 0.7, 0.6, 0.3, 0.35, 0.1, 0.12))},
    "hayashi_yoshida_cov": {
        "x": Input("one log price, NaN where it was not observed", (1.0, math.nan, 1.2, 1.1, math.nan, 1.4)),
        "y": Input("another one", (2.0, 2.1, math.nan, 2.3, 2.2, 2.5)),
    },
    "hayashi_yoshida_corr": {
        "x": Input("one log price, NaN where it was not observed", (1.0, math.nan, 1.2, 1.1, math.nan, 1.4)),
        "y": Input("another one", (2.0, 2.1, math.nan, 2.3, 2.2, 2.5)),
    },
    "xcorr_leadlag": {
        "x": Input("one log price, NaN where it was not observed", (1.0, 1.1, 1.0, 1.2, 1.1, 1.3, 1.2, 1.1)),
        "y": Input("another one", (2.0, 2.0, 2.12, 2.0, 2.2, 2.11, 2.3, 2.21)),
    },
    "bar_consistency": {"L": Input("low of the bar", (99.8, 100.15, 100.1, 100.2, 100.1))},
}  # fmt: skip
EXAMPLES: dict[str, Example] = {
    "ewma": Example({"alpha": 0.5}),
    "ewcov": Example({"alpha": 0.5}),
    "ewcorr": Example({"alpha": 0.5}),
    "frac_diff": Example({"tau": 0.1}),
    "ofi": Example({"w": 3}),
    "queue_depletion": Example({"w": "2s"}),
    "depth_imbalance": Example({"levels": 2}),
    "multi_level_ofi": Example({"levels": 2, "w": 2}),
    "book_slope": Example({"levels": 2}),
    "depth_weighted_mid": Example({"levels": 2}),
    "realized_spread": Example({"delay_s": 2.0}),
    "trade_sign": Example({"method": "lee_ready"}),
    "vpin": Example({"bucket_qty": 2.0, "buckets": 2}),
    "realized_var": Example({"w": 3, "ppy": 365.0}),
    "two_scale_rv": Example({"w": 10, "k": 2}, rows=12),
    "realized_kernel": Example({"w": 10, "bandwidth": 2}, rows=12),
    "roll_spread": Example({"w": 4}, rows=6),
    "corwin_schultz_spread": Example({"w": 2}),
    "resiliency": Example({"w": 5}, rows=7),
    "wmr_schedule": Example(seconds=(57_450, 57_525, 57_600, 57_675, 57_750)),
    "fix_impact": Example({"pre": "2s", "post": "2s"}, rows=6),
    "funding_cost": Example(seconds=(0, 14_400, 28_800, 32_400)),
    "perp_fair_price": Example({"ma": 2}, seconds=(0, 14_400, 28_800, 32_400)),
    "open_interest_delta": Example({"lag": 2}),
    "macd": Example({"fast": 2, "slow": 3, "signal": 2}),
    "stochastic_osc": Example({"n": 3, "slow": 2, "d": 2}, rows=6),
    "adx": Example({"n": 2}, rows=6),
    "rsi": Example({"n": 3}, rows=6),
    "rolling_kurt": Example({"w": 4}, rows=6),
    "autocorr": Example({"w": 4}),
    "entropy_hist": Example({"w": 4, "bins": 2}),
    "bocpd": Example({"hazard": 0.1, "recent": 1}, rows=6),
    "label_next_move": Example({"horizon": "2s"}, rows=6),
    "winsorize": Example({"w": 3, "lo": 0.1, "hi": 0.9}),
    "boxcox": Example({"lambda_": 0.5}),
    "yeo_johnson": Example({"lambda_": 0.5}),
    "resample_ohlc": Example({"interval": "2s"}, rows=6),
    "tick_bars": Example({"n": 2}, rows=6),
    "volume_bars": Example({"volume": 3.0}, rows=6),
    "dollar_bars": Example({"notional": 200.0}, rows=6),
    "imbalance_bars": Example({"expected_n": 2}, rows=6),
    "clock_skew_align": Example({"w": "32s"}, rows=8, seconds=tuple(range(1, 9))),
    "liquidation_density": Example(rows=6),
    "gap_fill": Example(seconds=(0, 1, 3, 4, 5)),
    "bar_consistency": Example(seconds=(0, 60, 120, 180, 300)),
    "arrival_price_impact": Example(rows=3),
    "smart_order_router": Example({"venues": 2, "levels": 2}),
    "cusum": Example({"mu0": 0.0, "sigma0": 1.0, "h": 3.0}, rows=6),
    "historical_var": Example({"w": 5, "alpha": 0.25}, rows=6),
    "historical_cvar": Example({"w": 5, "alpha": 0.25}, rows=6),
    "cornish_fisher_var": Example({"w": 5}, rows=6),
    "evt_pot_var": Example({"w": 32, "tail": 0.95, "refit": 1}, rows=32),
    "exposure_limits": Example({"gross": 100.0}),
    "ou_half_life": Example({"w": 5}, rows=7),
    "hayashi_yoshida_cov": Example({"w": "10s"}, rows=6),
    "hayashi_yoshida_corr": Example({"w": "10s"}, rows=6),
    "xcorr_leadlag": Example({"lags": 2, "step": "1s", "w": "10s"}, rows=8),
    "variance_ratio": Example({"w": 6}, rows=7),
    "hurst": Example({"w": 10, "lag_to": 4}, rows=12),
    "engle_granger": Example({"w": 8, "lags": "fixed", "max_lag": 0}, rows=10),
    "johansen": Example({"w": 8, "diff": 0}, rows=10),
    "circuit_breaker": Example({"w": "3s", "cool_s": 2.0}, rows=6),
    "throttle_check": Example({"rate": 0.5, "burst": 2.0}),
}
_SHORT = 3  # what windows of no other length are in an example


class NoSample(KernelError):
    """An example cannot be made, because nobody said what a kernel's input or parameter is like."""


def meaning(kernel: Kernel, name: str) -> str:
    """What an input of a kernel is; empty for one of another package that has no entry here."""
    found = INPUTS_OF.get(kernel.name, {}).get(name) or INPUTS.get(name)
    return "" if found is None else found.means


def is_matrix(kernel: Kernel, name: str) -> bool:
    """Whether an input has several columns. One that is not described here has, when its name is in upper case."""
    found = INPUTS_OF.get(kernel.name, {}).get(name) or INPUTS.get(name)
    if found is None:
        return name.isupper()
    return name != BOOK and isinstance(found.column[0], tuple)


def parameters_of(kernel: Kernel) -> dict[str, Any]:
    """The parameters of a kernel's example: windows short enough for a few rows, and those that have no default."""
    short = {
        one.name: f"{_SHORT}s" if one.kind == "duration" else _SHORT
        for one in kernel.parameters
        if one.name in ("w", "n") and one.kind in ("window", "int", "duration") and one.default is not None
    }
    return short | dict(EXAMPLES.get(kernel.name, Example()).parameters)


def columns_of(kernel: Kernel, unread: tuple[str, ...]) -> dict[str, tuple[Any, ...]]:
    """The columns of a kernel's example, but for those that it does not look at, all of one length. NoSample names the input
    that has none."""
    own = INPUTS_OF.get(kernel.name, {})
    columns: dict[str, tuple[Any, ...]] = {}
    for name in kernel.inputs:
        if name in unread:
            continue
        found = own.get(name) or INPUTS.get(name)
        if found is None:
            raise NoSample(
                f"{kernel.name}: its input {name} has no sample: add it to INPUTS in {__name__} (or, where {name} means "
                "something of its own there, to INPUTS_OF)"
            )
        columns[name] = found.column
    wanted = EXAMPLES.get(kernel.name, Example()).rows
    rows = min(ROWS if wanted is None else wanted, *(len(column) for column in columns.values()))
    if wanted is not None and rows < wanted:
        shortest = min(columns, key=lambda name: len(columns[name]))
        raise NoSample(f"{kernel.name}: its input {shortest} has a sample of {rows} rows; its example needs {wanted}")
    return {name: column[:rows] for name, column in columns.items()}


def seconds_of(kernel: Kernel, rows: int) -> tuple[int, ...]:
    """The times of an example's rows."""
    given = EXAMPLES.get(kernel.name, Example()).seconds
    return tuple(range(rows)) if given is None else given[:rows]
