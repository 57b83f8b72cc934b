"""Liquidity: what volume does to the price, what the spread is when no quotes are seen, what an order would cost now, and how
soon the spread recovers."""

from __future__ import annotations

import math

from oneprice.compute.kernels.definition import BOOK, Kernel, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.numbers import LN2, exp_plain, log
from oneprice.compute.kernels.rows import finite, is_positive, is_price, plain
from oneprice.compute.kernels.statistics_windows import (
    PAIR,
    PAIR_LEFT,
    line_left,
    line_of,
    pair_add,
    pair_covariance,
    pair_is_worn,
    pair_leave,
    pair_remove,
    pair_replace,
    pair_row,
)
from oneprice.compute.kernels.turning import sum_rows
from oneprice.compute.kernels.volatility import is_range
from oneprice.compute.kernels.windows import (
    COUNT,
    SUM,
    TIMES,
    Growing,
    add_to,
    drop,
    is_due,
    is_full,
    is_ready,
    is_rebuild_due,
    is_turning,
    no_output,
    nothing_left,
    push,
    slot_at,
    sum_add,
    sum_clear,
    sum_is_worn,
    sum_replace,
    sum_step,
    total_of,
    turn,
    window_parameter,
    windowed,
)

# -- kyle_lambda ------------------------------------------------------------------------------------------------------


@inlined
def kyle_lambda_step(f, i, p, t, x, w):
    """p: with intercept, square roots. What is left: the pairs, then m."""
    change, quantity, mid = x[0], x[1], x[2]
    nothing_left(w)
    if not (math.isfinite(change) and math.isfinite(quantity) and is_price(mid)):
        return False
    if p[1] == 1.0:
        quantity = math.copysign(math.sqrt(abs(quantity)), quantity)
    if pair_row(f, i, t, quantity, change):
        return True
    if is_ready(i):
        pair_leave(f, i, w)
        w[PAIR_LEFT] = mid
    return False


@inlined
def kyle_lambda_finish(p, w, y):
    n, change, quantity, mid = w[0], w[1], w[2], w[PAIR_LEFT]
    if p[0] == 1.0:
        slope, _, r2 = line_left(w)
    else:
        xx, xy, yy = w[5] + n * quantity * quantity, w[3] + n * change * quantity, w[4] + n * change * change
        slope, _, r2 = line_of(xx, xy, yy, 0.0, 0.0)
    million = 1e6 / mid
    y[0], y[1] = slope, r2
    y[2] = finite(1e4 * slope * (math.sqrt(million) if p[1] == 1.0 else million) / mid)


KYLE_LAMBDA = Kernel(
    name="kyle_lambda", module=__name__,
    formula="slope of the mid's change dm on the signed quantity sq of the same interval (sqrt: on sign(sq)·√|sq|), r²; "
    "bps_per_million = 1e4·λ·(1e6/m)/m, of a million in quote currency (sqrt: √(1e6/m))",
    inputs=("dm", "sq", "m"), outputs=(Output("lambda"), Output("r2"), Output("bps_per_million")),
    parameters=(
        *window_parameter(50, fewest=2),
        Parameter(name="intercept", kind="bool", default=True, help="false: the line goes through the origin"),
        Parameter(name="transform", kind="choice", default="none", choices=("none", "sqrt")),
    ),
    step=kyle_lambda_step, finish=kyle_lambda_finish, left=PAIR_LEFT + 1,
    start=lambda values: windowed(
        values, own=PAIR, columns=2, fewest=2,
        parameters=[float(values["intercept"]), float(values["transform"] == "sqrt")],
    ),
    grow=Growing(PAIR, 2), first="w", oracle="np.polyfit", source="Kyle 1985; square root: Hasbrouck 2009",
    differs="λ is a price change per quantity, so it takes changes of the mid, not returns; the mid m itself only tells λ in "
    "bps. Through the origin r² is not centered, as there is no mean in the line.",
)  # fmt: skip


# -- amihud_illiquidity -----------------------------------------------------------------------------------------------


@inlined
def amihud_ratio(p, x, z):
    """NaN: the row cannot be used."""
    z[0] = abs(x[0]) / x[1] if is_positive(x[1]) else math.nan


@inlined
def amihud_illiquidity_finish(p, w, y):
    y[0] = finite(p[0] * w[0] / w[1])


AMIHUD_ILLIQUIDITY = Kernel(
    name="amihud_illiquidity", module=__name__, formula="scale·⟨|r|/quote_volume⟩", inputs=("r", "quote_volume"),
    outputs=(Output("illiq"),),
    parameters=(*window_parameter(20), Parameter(name="scale", kind="float", default=1e6, above=0.0)),
    prepare=amihud_ratio, prepared=1, step=sum_step, together=sum_rows, finish=amihud_illiquidity_finish, left=2,
    start=lambda values: windowed(values, own=SUM, parameters=[values["scale"]]),
    grow=Growing(SUM), first="w", oracle="pandas", source="Amihud 2002",
    differs="Intervals without volume are left out, window and all: they have no ratio, and 0 would call them liquid.",
)  # fmt: skip


# -- roll_spread ------------------------------------------------------------------------------------------------------
# f: the moments of pairs of successive changes, then the ring of prices


@inlined
def two_changes(f, i, k):
    """The k-th oldest price's pair: the change after it and the next."""
    middle = f[PAIR + slot_at(i, k + 1)]
    return middle - f[PAIR + slot_at(i, k)], f[PAIR + slot_at(i, k + 2)] - middle


@inlined
def roll_spread_step(f, i, p, t, x, w):
    """What is left: the covariance, the price."""
    price = x[0]
    nothing_left(w)
    if not is_price(price):
        return False
    pairs = i[COUNT] - 2
    if is_turning(i):
        (old, next_old), last = two_changes(f, i, 0), f[PAIR + slot_at(i, pairs + 1)]
        change = last - f[PAIR + slot_at(i, pairs)]
        f[PAIR + turn(i)] = price
        pair_replace(f, pairs, old, next_old, change, price - last)
    else:
        while is_due(i, t):
            oldest, pairs = f[PAIR + drop(i)], i[COUNT] - 2
            if pairs >= 0:
                middle = f[PAIR + slot_at(i, 0)]
                pair_remove(f, pairs, middle - oldest, f[PAIR + slot_at(i, 1)] - middle)
        if is_full(i):
            return True
        f[PAIR + push(i, t)] = price
        pairs = i[COUNT] - 2
        if pairs > 0:
            change, following = two_changes(f, i, pairs - 1)
            pair_add(f, pairs, change, following)
    if seldom(pairs > 0 and (is_rebuild_due(i) or pair_is_worn(f))):
        for k in range(pairs):
            change, following = two_changes(f, i, k)
            pair_add(f, k + 1, change, following)
    if is_ready(i):
        w[0], w[1] = pair_covariance(f, pairs), price
    return False


@inlined
def roll_spread_finish(p, w, y):
    covariance = w[0]
    spread = 2.0 * math.sqrt(max(0.0, -covariance))
    y[0] = finite(spread) if covariance < 0.0 else 0.0 if p[0] == 1.0 and covariance >= 0.0 else math.nan
    y[1] = finite(1e4 * y[0] / w[1])


ROLL_SPREAD = Kernel(
    name="roll_spread", module=__name__,
    formula="abs = 2√(−c), c the covariance (ddof 1) of successive changes among w prices; bps = 1e4·abs/p", inputs=("p",),
    outputs=(Output("abs"), Output("bps")),
    parameters=(
        *window_parameter(100, fewest=4),
        Parameter(name="negative", kind="choice", default="nan", choices=("nan", "zero"), help="where c ≥ 0"),
    ),
    step=roll_spread_step, finish=roll_spread_finish, left=2,
    start=lambda values: windowed(values, own=PAIR, fewest=4, parameters=[float(values["negative"] == "zero")]),
    grow=Growing(PAIR), first="w", oracle="np.cov", source="Roll 1984",
    differs="Both changes of a pair have their own mean over the same pairs: w prices, w−1 changes, w−2 pairs.",
)  # fmt: skip


# -- corwin_schultz_spread --------------------------------------------------------------------------------------------
# f: the sum of the estimates; of the last bar H, L, C (0: none); the ring of estimates (NaN: left out)

_LAST, _ESTIMATES = SUM, SUM + 3
_USED, _RING = TIMES, TIMES + 1
_FAR = 64.0  # |α| from which on e^−|α| is nothing beside 1


@inlined
def two_bars(f, i, p, t, x, v):
    """H and L of the bar before (NaN: none) and of this one, moved next to the last close where there is a gap. p: what to do
    with negative estimates (0 keep, 1 take as 0, 2 leave out), whether to adjust for gaps."""
    high, low, close, before = x[0], x[1], x[2], f[_LAST + 2]
    is_bar = is_range(high, low) and is_price(close)
    gap = before - min(max(before, low), high) if p[1] == 1.0 else 0.0
    v[0], v[1] = f[_LAST] if is_bar and before > 0.0 else math.nan, f[_LAST + 1]
    v[2], v[3] = high + gap, low + gap
    if is_bar:
        f[_LAST], f[_LAST + 1], f[_LAST + 2] = high, low, close


@inlined
def two_bar_spread(p, x, z):
    """S of two bars. As 3 − 2√2 = (√2 − 1)², α = (1 + √2)(√β − √γ)."""
    first, second, both = log(x[0] / x[1]), log(x[2] / x[3]), log(max(x[0], x[2]) / min(x[1], x[3]))
    alpha = (1.0 + math.sqrt(2.0)) * (math.sqrt(first * first + second * second) - both)
    less = 1.0 - exp_plain(-min(abs(alpha), _FAR))  # 2(e^α − 1)/(1 + e^α), without an overflow
    z[0] = math.copysign(2.0 * less / (2.0 - less), alpha)


@inlined
def is_used(estimate):
    return not math.isnan(estimate)


@inlined
def used(estimate):
    return estimate if is_used(estimate) else 0.0


@inlined
def corwin_schultz_spread_step(f, i, p, t, x, w):
    """What is left: the sum of the estimates, how many there are."""
    spread = x[0]
    nothing_left(w)
    if math.isnan(spread):
        return False
    if p[0] != 0.0 and spread < 0.0:
        spread = 0.0 if p[0] == 1.0 else math.nan
    if is_turning(i):
        slot = _ESTIMATES + turn(i)
        i[_USED] -= is_used(f[slot])
        sum_replace(f, 0, used(f[slot]), used(spread))
    else:
        while is_due(i, t, _RING):
            oldest = f[_ESTIMATES + drop(i)]
            i[_USED] -= is_used(oldest)
            add_to(f, 0, -used(oldest))
        slot = _ESTIMATES + push(i, t, _RING)
        sum_add(f, 0, used(spread))
    f[slot] = spread
    i[_USED] += is_used(spread)
    if seldom(is_rebuild_due(i) or sum_is_worn(f, 0)):
        sum_clear(f, 0)
        for k in range(i[COUNT]):
            sum_add(f, 0, used(f[_ESTIMATES + slot_at(i, k)]))
    if is_ready(i) and i[_USED] > 0:
        w[0], w[1] = total_of(f, 0), i[_USED]
    return False


@inlined
def corwin_schultz_spread_rows(f, i, p, ring, x, w, apart):
    """The same for a block, where every estimate is used as it is."""
    return p[0] == 0.0 and sum_rows(f, i, p, ring, x, w, apart)


@inlined
def corwin_schultz_spread_finish(p, w, y):
    y[0] = max(0.0, 1e4 * w[0] / w[1])


_NEGATIVE = ("mean_floor", "zero", "nan")
CORWIN_SCHULTZ_SPREAD = Kernel(
    name="corwin_schultz_spread", module=__name__,
    formula="β = ln²(H₁/L₁) + ln²(H₂/L₂), γ = ln²(max H/min L), α = (√(2β) − √β)/(3−2√2) − √(γ/(3−2√2)), "
    "S = 2(e^α − 1)/(1 + e^α); the mean of w such, not below 0, in bps",
    inputs=("H", "L", "C"), outputs=(Output("spread_bps"),),
    parameters=(
        *window_parameter(20),
        Parameter(
            name="negative", kind="choice", default="mean_floor", choices=_NEGATIVE,
            help="estimates below 0: into the mean, which has 0 as its floor; as 0, as in the paper; or left out of the mean",
        ),
        Parameter(name="gap_adjust", kind="bool", default=True, help="move a bar that opened beyond the last close back to it"),
    ),
    lead=two_bars, led=4, prepare=two_bar_spread, prepared=1, step=corwin_schultz_spread_step,
    together=corwin_schultz_spread_rows, finish=corwin_schultz_spread_finish, left=2,
    start=lambda values: windowed(
        values, own=_ESTIMATES, own_ints=1,
        parameters=[float(_NEGATIVE.index(values["negative"])), float(values["gap_adjust"])],
    ),
    grow=Growing(_ESTIMATES, 1, 1), version=2, first="w+1", oracle="naive loop", source="Corwin & Schultz 2012",
    differs="β is of two bars. Taking each negative estimate as 0 first, as in the paper, overstates the spread: a simulated "
    "1.00 % reads 1.40 %, against 1.01 %.",
)  # fmt: skip


# -- sweep_cost -------------------------------------------------------------------------------------------------------

_ROUNDING = 1e-12  # of the size: what is left below this is rounding, not quantity


@inlined
def sweep_cost_step(f, i, p, t, x, y):
    """p: 1 when the size is in quote currency. Levels without a price or quantity are not there."""
    size, side, levels = x[0], x[1], (x.shape[0] - 2) // 4
    no_output(y)
    bids, asks = 2, 2 + 2 * levels
    if not (is_positive(size) and (side == 1.0 or side == -1.0)):
        return False
    if not (0.0 < x[bids] <= x[asks] < math.inf and x[bids + levels] > 0.0 and x[asks + levels] > 0.0):
        return False
    left, base, quote = size, 0.0, 0.0
    begin = asks if side > 0.0 else bids
    for k in range(begin, begin + levels):
        price, quantity = x[k], x[k + levels]
        if math.isnan(price) or math.isnan(quantity) or quantity == 0.0:
            continue
        if not (is_price(price) and is_positive(quantity)):
            return False
        taken = min(left, quantity * price if p[0] == 1.0 else quantity)
        left -= taken
        base += taken / price if p[0] == 1.0 else taken
        quote += taken if p[0] == 1.0 else taken * price
        if left <= _ROUNDING * size:
            left = 0.0
            break
    if base == 0.0:  # so small a size that it is nothing at this price
        return False
    y[0] = finite(quote / base)
    y[2] = (size - left) / size
    if left == 0.0:
        mid = 0.5 * x[bids] + 0.5 * x[asks]
        y[1] = finite(side * (y[0] - mid) / mid * 1e4)
    return False


SWEEP_COST = Kernel(
    name="sweep_cost", module=__name__,
    formula="walk the levels of the other side; vwap of what is filled; cost_bps = side·(vwap − m)/m·1e4", cost="O(L)",
    inputs=("size", "side", BOOK),
    outputs=(Output("vwap"), Output("cost_bps", help="NaN where the levels do not suffice"), Output("filled", help="share")),
    parameters=(Parameter(name="unit", kind="choice", default="base", choices=("base", "quote"), help="of the size"),),
    step=sweep_cost_step, start=lambda values: plain(0, 0, float(values["unit"] == "quote")),
    first="1", oracle="naive walk",
    differs="Levels that do not suffice give no cost, only the part that they fill. side: +1 buys. A crossed book gives NaN.",
)  # fmt: skip


# -- resiliency -------------------------------------------------------------------------------------------------------
# f: the moments of pairs (spread before, its change), the last spread (NaN: none), the ring of pairs


@inlined
def resiliency_step(f, i, p, t, x, w):
    spread, before = x[0], f[PAIR]
    nothing_left(w)
    if not math.isfinite(spread):
        return False
    if not math.isnan(before) and pair_row(f, i, t, before, spread - before, PAIR + 1):
        return True
    f[PAIR] = spread
    if is_ready(i):
        pair_leave(f, i, w)
    return False


@inlined
def resiliency_finish(p, w, y):
    slope, _, _ = line_left(w)
    half_life = -LN2 / log(1.0 + slope) * p[0]
    y[0] = -slope
    y[1] = half_life if -1.0 < slope < 0.0 else math.nan


def _resiliency_start(values: Values) -> Start:
    start = windowed(values, own=PAIR + 1, columns=2, fewest=2, parameters=[values["step_s"]])
    start.f[PAIR] = math.nan
    return start


RESILIENCY = Kernel(
    name="resiliency", module=__name__,
    formula="Δd = c − κd₋ + ε by least squares over w changes; half_life_s = ln 2/−ln(1 − κ)·step_s", inputs=("spread_bps",),
    outputs=(Output("kappa"), Output("half_life_s", help="NaN where κ is not in (0, 1)")),
    parameters=(
        *window_parameter(200, fewest=3),
        Parameter(name="step_s", kind="float", default=1.0, above=0.0, help="seconds between rows"),
    ),
    step=resiliency_step, finish=resiliency_finish, left=PAIR_LEFT, start=_resiliency_start,
    grow=Growing(PAIR + 1, 2), first="w+1", oracle="statsmodels OLS",
    source="Kempf, Mayston & Yadav 2009",
    differs="Rows must come on an even grid of step_s. The constant takes the spread's level; no mean is subtracted before.",
)  # fmt: skip

KERNELS = (KYLE_LAMBDA, AMIHUD_ILLIQUIDITY, ROLL_SPREAD, CORWIN_SCHULTZ_SPREAD, SWEEP_COST, RESILIENCY)
