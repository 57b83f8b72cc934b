"""Many venues at once: where to buy and where to sell, how good a venue is, who dominates, where liquidations cluster.

Inputs in capitals are matrices, one column a venue (or a metric, a size); what a venue does not have is NaN there."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import LN2, exp, expm1, log, log1p
from oneprice.compute.kernels.rows import BPS, finite, is_price, is_quote, stateless
from oneprice.compute.kernels.windows import no_output

# -- cross_venue_edge -------------------------------------------------------------------------------------------------


@inlined
def cross_venue_edge_step(f, i, p, t, x, y):
    """The two best places to sell and the two best to buy: one of their pairs is of two venues, and the best one."""
    no_output(y)
    k = x.shape[0] // 5
    sell, sell_next, buy, buy_next = -1, -1, -1, -1
    bid, bid_next, ask, ask_next = 0.0, 0.0, math.inf, math.inf
    for venue in range(k):
        b, a, fee = x[venue], x[k + venue], x[4 * k + venue] / BPS
        if not (is_quote(b, a) and math.isfinite(fee) and -1.0 < fee < 1.0):
            continue
        received, given = b * (1.0 - fee), a * (1.0 + fee)
        if is_price(x[2 * k + venue]) and received > bid_next:
            if received > bid:
                sell_next, bid_next = sell, bid
                sell, bid = venue, received
            else:
                sell_next, bid_next = venue, received
        if is_price(x[3 * k + venue]) and given < ask_next:
            if given < ask:
                buy_next, ask_next = buy, ask
                buy, ask = venue, given
            else:
                buy_next, ask_next = venue, given
    if sell < 0 or buy < 0:
        return False
    if sell == buy:
        if buy_next >= 0 and (sell_next < 0 or bid / ask_next >= bid_next / ask):
            buy, ask = buy_next, ask_next
        elif sell_next >= 0:
            sell, bid = sell_next, bid_next
        else:
            return False
    edge = BPS * (bid / ask - 1.0)
    if math.isfinite(edge):
        y[0], y[1], y[2], y[3] = edge, buy, sell, min(x[3 * k + buy], x[2 * k + sell])
    return False


_PARTS = ("BID", "ASK", "BID_QTY", "ASK_QTY", "FEE_BPS")
CROSS_VENUE_EDGE = Kernel(
    name="cross_venue_edge", module=__name__,
    formula="1e4·[b_j(1−f_j)/(a_i(1+f_i)) − 1], the best of all i ≠ j; qty = min(A_i, B_j)", inputs=_PARTS,
    outputs=(
        Output("edge_bps"), Output("buy", "int8", help="column of the venue to buy at, from 0"),
        Output("sell", "int8", help="column of the venue to sell at"), Output("qty"),
    ),
    parameters=(Parameter(name="venues", kind="int", default=2, low=2, high=127, help="columns of each input"),),
    widths_by=lambda values: dict.fromkeys(_PARTS, int(values["venues"])), step=cross_venue_edge_step,
    start=lambda values: stateless(), first="2 venues", cost="O(k)", oracle="exhaustive",
    differs="A venue without a quote, with a crossed one, or without a fee is left out, and so is a side without quantity: "
    "such an edge cannot be traded.",
)  # fmt: skip

# -- venue_score ------------------------------------------------------------------------------------------------------


@inlined
def venue_score_step(f, i, p, t, x, y):
    """p: weights, bad ends, good ends."""
    no_output(y)
    k = x.shape[0]
    total, present, earned = 0.0, 0.0, 0.0
    for metric in range(k):
        weight, bad, good = p[metric], p[k + metric], p[2 * k + metric]
        total += weight
        if math.isfinite(x[metric]):
            present += weight
            earned += weight * min(1.0, max(0.0, (x[metric] - bad) / (good - bad)))
    if present > 0.0:
        y[0] = earned / present
        y[1] = present / total
    return False


def _venue_score_start(values: Values) -> Start:
    weights, bad, good = values["weights"], values["bad"], values["good"]
    for name in ("bad", "good"):
        if len(values[name]) != len(weights):
            raise KernelError(
                f"venue_score: {name}={values[name]!r}: it must have as many numbers as weights, {len(weights)}"
            )
    if any(one == other for one, other in zip(bad, good, strict=True)):
        raise KernelError(f"venue_score: good={good!r}: each must differ from its bad, {bad!r}")
    if sum(weights) <= 0.0:
        raise KernelError(f"venue_score: weights={weights!r}: one at least must be above 0")
    return stateless(*weights, *bad, *good)


VENUE_SCORE = Kernel(
    name="venue_score", module=__name__,
    formula="each metric → clip((x−bad)/(good−bad), 0, 1); score = Σωs/Σω over present metrics, coverage their share of Σω",
    inputs=("METRICS",), outputs=(Output("score"), Output("coverage")),
    parameters=(
        Parameter(
            name="weights", kind="floats", default=(0.25, 0.25, 0.2, 0.15, 0.15), low=0.0,
            help="of the columns: spread (bps), depth (USD), latency (ms), fee (bps), uptime (fraction)",
        ),
        Parameter(name="bad", kind="floats", default=(20.0, 1e4, 500.0, 10.0, 0.95), help="what scores 0"),
        Parameter(name="good", kind="floats", default=(1.0, 1e6, 20.0, 0.0, 1.0), help="what scores 1"),
    ),
    widths_by=lambda values: {"METRICS": len(values["weights"])}, step=venue_score_step, start=_venue_score_start, first="1",
    cost="O(k)", oracle="closed form",
    differs="A missing metric (NaN) is neither good nor bad: it lowers coverage. The ends of the scales are the caller's "
    "judgement; the defaults are of a large perpetual.",
)  # fmt: skip

# -- dominance_index --------------------------------------------------------------------------------------------------


@inlined
def dominance_index_step(f, i, p, t, x, y):
    no_output(y)
    k = x.shape[0]
    total = 0.0
    for item in range(k):
        if not (math.isfinite(x[item]) and x[item] >= 0.0):
            return False
        total += x[item]
    if not is_price(total):
        return False
    hhi = 0.0
    for item in range(k):
        y[item] = x[item] / total
        hhi += y[item] * y[item]
    y[k] = hhi
    y[k + 1] = 1.0 / hhi
    return False


def _dominance_outputs(values: Values) -> tuple[Output, ...]:
    shares = (Output(f"share_{item + 1}") for item in range(values["items"]))
    return (*shares, Output("hhi"), Output("effective_n", help="1/HHI: as many equal ones would be as concentrated"))


DOMINANCE_INDEX = Kernel(
    name="dominance_index", module=__name__, formula="share = x_i/Σx, HHI = Σshare², effective_n = 1/HHI", inputs=("SIZES",),
    outputs=_dominance_outputs({"items": 2}), outputs_by=_dominance_outputs,
    widths_by=lambda values: {"SIZES": values["items"]},
    parameters=(Parameter(name="items", kind="int", default=2, low=1, help="columns of SIZES"),), step=dominance_index_step,
    start=lambda values: stateless(), first="1", cost="O(k)", oracle="closed form", source="Herfindahl 1950; Hirschman 1945",
    differs="A missing size makes the row unusable: the shares of the others would be too large.",
)  # fmt: skip

# -- liquidation_density ----------------------------------------------------------------------------------------------
# f: notional by bucket, then room to sort it; i: begun, the bucket of m, the time of the row before. A bucket is a range of
# log prices of one width; its place is its number modulo the count of buckets in range, which are consecutive.

_FAINT = 1e-6


@inlined
def keep_range(f, i, center, half, n):
    """Buckets that m has left out of range are emptied: others take their places."""
    shift = center - i[1]
    if abs(shift) >= n:
        for place in range(n):
            f[place] = 0.0
    elif shift > 0:
        for bucket in range(i[1] + half + 1, center + half + 1):
            f[bucket % n] = 0.0
    else:
        for bucket in range(center - half, i[1] - half):
            f[bucket % n] = 0.0
    i[1] = center


@inlined
def liquidation_density_step(f, i, p, t, x, y):
    """p: width of a bucket (ln), ns in which half is forgotten, cluster_x."""
    no_output(y)
    price, notional, m = x[0], x[1], x[2]
    if not (is_price(price) and math.isfinite(notional) and notional >= 0.0 and is_price(m)):
        return False
    n = f.shape[0] // 2
    half = (n - 1) // 2
    log_m = log(m)
    center = math.floor(log_m / p[0])
    if i[0] == 1:
        kept = exp(-LN2 * (t - i[2]) / p[1])
        for place in range(n):
            f[place] *= kept
        keep_range(f, i, center, half, n)
    i[0], i[1], i[2] = 1, center, t
    bucket = math.floor(log(price) / p[0])
    if abs(bucket - center) <= half:
        f[bucket % n] += notional
    total = 0.0
    for place in range(n):
        total += f[place]
    count = 0
    for place in range(n):
        if f[place] < _FAINT * total:
            f[place] = 0.0
        if f[place] > 0.0:
            f[n + count] = f[place]
            count += 1
    y[2] = finite(total)
    if count == 0:
        return False
    f[n : n + count].sort()
    median = 0.5 * (f[n + (count - 1) // 2] + f[n + count // 2])
    for distance in range(half + 1):
        for bucket in (center + distance, center - distance):
            if f[bucket % n] > p[2] * median:
                away = expm1((bucket + 0.5) * p[0] - log_m)
                if away >= 0.0 and math.isnan(y[0]):
                    y[0] = 100.0 * away
                elif away < 0.0 and math.isnan(y[1]):
                    y[1] = -100.0 * away
    return False


def _liquidation_start(values: Values) -> Start:
    width, reach = log1p(values["bucket_bps"] / BPS), log1p(values["range_bps"] / BPS)
    half = math.ceil(reach / width)
    if half > 10_000:
        raise KernelError(
            f"liquidation_density: bucket_bps={values['bucket_bps']!r}: range_bps must be at most 10 000 of it"
        )
    parameters = np.array([width, float(values["halflife"].ns), values["cluster_x"]])
    return Start(np.zeros(2 * (2 * half + 1)), np.zeros(3, dtype=np.int64), parameters)


LIQUIDATION_DENSITY = Kernel(
    name="liquidation_density", module=__name__,
    formula="notional by price bucket, halved every halflife; cluster: bucket > cluster_x·median of non-empty buckets; "
    "distance of a cluster's middle from m in percent of m",
    inputs=("price", "notional", "m"),
    outputs=(
        Output("nearest_up_pct", help="of the nearest cluster above m"), Output("nearest_dn_pct", help="below m, positive"),
        Output("total", help="notional in range"),
    ),
    parameters=(
        Parameter(name="bucket_bps", kind="float", default=10.0, above=0.0, help="buckets are of one width in ln price"),
        Parameter(name="range_bps", kind="float", default=500.0, above=0.0, help="around m; what lies beyond is dropped"),
        Parameter(name="halflife", kind="duration", default="1h"),
        Parameter(name="cluster_x", kind="float", default=3.0, above=0.0),
    ),
    step=liquidation_density_step, start=_liquidation_start, first="1", needs_time=True, cost="O(k)", oracle="naive",
    differs="A row without a liquidation has a notional of 0. A bucket that holds less than a millionth of the total is "
    "empty, or what is forgotten would count as the median for ever.",
)  # fmt: skip

KERNELS = (LIQUIDATION_DENSITY, VENUE_SCORE, DOMINANCE_INDEX, CROSS_VENUE_EDGE)
