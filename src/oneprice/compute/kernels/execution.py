"""What an order is measured by: average prices, the share of the market's volume, and what the fills have cost.

Kernels over fills are about one order: their state is what that order has done so far, and a row is one fill. A row with a
quantity of 0 is no fill; it tells the prices of now, so that an order which is never filled has its cost too. `side` is +1 of
an order that buys and -1 of one that sells; a positive cost is money lost. Fees are money, negative when a venue pays them."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.rows import BPS, finite, is_qty, plain, ratio
from oneprice.compute.kernels.windows import (
    COUNT,
    SPAN,
    TIMES,
    TOTAL,
    Growing,
    add_to,
    drop,
    drop_until,
    is_due,
    is_full,
    is_ready,
    is_rebuild_due,
    no_output,
    push,
    slot_at,
    sum_add,
    sum_clear,
    total_of,
    totals_keep,
    windowed,
)
from oneprice.model.time import NS_PER_S

NS_PER_DAY = 86_400 * NS_PER_S
_NEVER = -(1 << 63)  # before all times
_ROUNDING = 1e-9  # of a unit: 0.3 is three lots of 0.1, though 0.3/0.1 is less than 3 as a float


@inlined
def is_side(side):
    return abs(side) == 1.0


@inlined
def wholes_in(value, unit):
    """How many whole units (lots, ticks) are in a value, as a float. The unit is above 0."""
    return np.floor(value / unit + _ROUNDING)


# -- a mean weighted by quantity, and the second moment around it (West 1979) -------------------------------------------
# f[0:3]: quantity with its rest, and the largest there was; f[3]: mean less the origin, f[4]: Σq(p − mean)², f[5]: origin (a
# price, so that prices far from zero keep their digits), f[6]: the largest f[4] since it was made anew; inf: it must be now.

WEIGHTED_MEAN, _SQUARES, WEIGHTED_ORIGIN, _MOST = 3, 4, 5, 6
WEIGHTED = 7
_SHARE = 1e-4  # of the largest: what removals leave below this has lost too many digits


@inlined
def weighted_add(f, price, quantity):
    if quantity == 0.0:
        return
    if total_of(f, 0) == 0.0:
        f[WEIGHTED_MEAN], f[_SQUARES], f[WEIGHTED_ORIGIN], f[_MOST] = 0.0, 0.0, price, 0.0
    sum_add(f, 0, quantity)
    total = total_of(f, 0)
    f[2] = max(f[2], total)
    offset = price - f[WEIGHTED_ORIGIN]
    delta = offset - f[WEIGHTED_MEAN]
    f[WEIGHTED_MEAN] += delta * (quantity / total)
    f[_SQUARES] += quantity * delta * (offset - f[WEIGHTED_MEAN])
    f[_MOST] = max(f[_MOST], f[_SQUARES])


@inlined
def weighted_remove(f, price, quantity):
    if quantity == 0.0:
        return
    add_to(f, 0, -quantity)
    total = total_of(f, 0)
    if not total > _SHARE * f[2]:
        f[_MOST] = math.inf
        return
    offset = price - f[WEIGHTED_ORIGIN]
    delta = offset - f[WEIGHTED_MEAN]
    f[WEIGHTED_MEAN] -= delta * (quantity / total)
    f[_SQUARES] = max(0.0, f[_SQUARES] - quantity * delta * (offset - f[WEIGHTED_MEAN]))


@inlined
def weighted_is_worn(f):
    return not f[_SQUARES] >= _SHARE * f[_MOST]


@inlined
def weighted_of(f, i):
    """Make all of it anew from the ring (price, quantity), in two passes."""
    sum_clear(f, 0)
    f[WEIGHTED_MEAN], f[_SQUARES], f[_MOST] = 0.0, 0.0, 0.0
    moment = 0.0
    for k in range(i[COUNT]):
        slot = WEIGHTED + 2 * slot_at(i, k)
        if f[slot + 1] > 0.0 and total_of(f, 0) == 0.0:
            f[WEIGHTED_ORIGIN] = f[slot]
        sum_add(f, 0, f[slot + 1])
        moment += f[slot + 1] * (f[slot] - f[WEIGHTED_ORIGIN])
    total = total_of(f, 0)
    f[2] = total
    if total == 0.0:
        return
    mean = moment / total
    rest = 0.0
    for k in range(i[COUNT]):
        slot = WEIGHTED + 2 * slot_at(i, k)
        delta = f[slot] - f[WEIGHTED_ORIGIN] - mean
        f[_SQUARES] += f[slot + 1] * delta * delta
        rest += f[slot + 1] * delta
    f[WEIGHTED_MEAN] = mean + rest / total
    f[_SQUARES] = max(0.0, f[_SQUARES] - rest * rest / total)
    f[_MOST] = f[_SQUARES]


# -- vwap -------------------------------------------------------------------------------------------------------------
# i: the window, then where the day of the newest row ends, and that of the first one; p: how it ends

_DAY_END, _FIRST_DAY_END = TIMES, TIMES + 1
_RING_TIMES = TIMES + 2
_BY_DAY, _BY_WINDOW = 1.0, 2.0


@inlined
def vwap_window_row(f, i, t, price, quantity):
    """→ whether there was no room."""
    while is_due(i, t, _RING_TIMES):
        slot = WEIGHTED + 2 * drop(i)
        weighted_remove(f, f[slot], f[slot + 1])
    if is_full(i):
        return True
    slot = WEIGHTED + 2 * push(i, t, _RING_TIMES)
    f[slot], f[slot + 1] = price, quantity
    is_old = is_rebuild_due(i)
    if seldom(is_old or weighted_is_worn(f)):
        weighted_of(f, i)
    else:
        weighted_add(f, price, quantity)
    return False


@inlined
def vwap_step(f, i, p, t, x, y):
    price, quantity = x[0], x[1]
    y[0], y[1] = math.nan, math.nan
    if not (quantity >= 0.0 and math.isfinite(price * quantity)):  # of an infinite price and no quantity it is NaN
        return False
    if p[0] == _BY_WINDOW:
        if vwap_window_row(f, i, t, price, quantity):
            return True
        if not is_ready(i):
            return False
    else:
        if p[0] == _BY_DAY and t >= i[_DAY_END]:
            if i[_DAY_END] == _NEVER:
                i[_FIRST_DAY_END] = t - t % NS_PER_DAY + NS_PER_DAY
            i[_DAY_END] = t - t % NS_PER_DAY + NS_PER_DAY
            sum_clear(f, 0)
        weighted_add(f, price, quantity)
    total = total_of(f, 0)
    if total > 0.0:
        y[0] = finite(f[WEIGHTED_ORIGIN] + f[WEIGHTED_MEAN])
        y[1] = finite(math.sqrt(f[_SQUARES] / total))
    return False


def _vwap_start(values: Values) -> Start:
    if values["w"] is not None:
        return windowed(values, own=WEIGHTED, columns=2, own_ints=2, parameters=[_BY_WINDOW])
    by_day = values["reset"] == "day"
    start = plain(WEIGHTED, _RING_TIMES, _BY_DAY if by_day else 0.0)
    start.i[_DAY_END] = start.i[_FIRST_DAY_END] = _NEVER
    return start._replace(by_time=by_day)


def _merge_vwap(first: Start, later: Start) -> Start:
    if first.p[0] == _BY_WINDOW:
        raise KernelError("vwap: states of a window w cannot be merged, only those that end with the day or never")
    f, i = later.f.copy(), later.i.copy()
    if first.i[_DAY_END] != _NEVER:
        i[_FIRST_DAY_END] = first.i[_FIRST_DAY_END]
    if later.i[_FIRST_DAY_END] not in (_NEVER, first.i[_DAY_END]) or later.i[_DAY_END] > later.i[_FIRST_DAY_END]:
        return Start(f, i, first.p)  # `later` has begun anew: of `first` nothing is left
    i[_DAY_END] = max(first.i[_DAY_END], later.i[_DAY_END])
    quantity, more = total_of.py_func(first.f, 0), total_of.py_func(later.f, 0)
    if more == 0.0:
        return Start(first.f.copy(), i, first.p)
    if quantity > 0.0:
        total = quantity + more
        delta = (first.f[WEIGHTED_ORIGIN] + first.f[WEIGHTED_MEAN]) - (
            later.f[WEIGHTED_ORIGIN] + later.f[WEIGHTED_MEAN]
        )
        f[0], f[1] = math.fsum([*first.f[:2], *later.f[:2]]), 0.0
        f[WEIGHTED_MEAN] += delta * quantity / total
        f[_SQUARES] += first.f[_SQUARES] + delta * delta * quantity * more / total
    return Start(f, i, first.p)


VWAP = Kernel(
    name="vwap", module=__name__, formula="Σpq/Σq; std = √(Σq(p − vwap)²/Σq)", inputs=("p", "q"),
    outputs=(Output("vwap"), Output("std", help="of prices, weighted by quantity")),
    parameters=(
        Parameter(name="reset", kind="choice", default="day", choices=("day", "never"), help="day: anew at 00:00 UTC"),
        Parameter(
            name="w", kind="window", low=1,
            help="of the last so many trades, or so long a time, instead of since the reset, which is then not looked at",
        ),
        Parameter(
            name="min_obs", kind="int", low=1,
            help="of a window: output from so many trades on; else from a full one on, of a duration from 1 on",
        ),
    ),
    step=vwap_step, start=_vwap_start, grow=Growing(WEIGHTED, 2, 2), merge=_merge_vwap, first="1 (w: w)", oracle="pandas",
    source="West 1979",
    differs="It does not begin again with each batch. Quantities are weights, not counts of observations, so the variance is "
    "over Σq (ddof 0). A row with q = 0 moves nothing; before the first quantity there is no average.",
)  # fmt: skip

# -- twap -------------------------------------------------------------------------------------------------------------
# Of the window: f: ∫(price − origin) dt up to the newest row, a sum in ns; the newest price; origin; then the ring of that
# integral up to each row, and its price. The oldest row of the ring is the one whose price held when the window began.
# From the first row on: f[0]: the average so far; i: time of the first row. Both: i: time of the newest row.

_PRICE, _FROM, _HELD, _HELD_WIDTH = TOTAL, TOTAL + 1, TOTAL + 2, TOTAL + 1
_NEWEST_T, _HELD_TIMES, _FIRST_T = TIMES, TIMES + 1, TIMES + 1


@inlined
def twap_window_row(f, i, t, price):
    """→ whether there was no room."""
    drop_until(i, t - i[SPAN], _HELD_TIMES, 1)
    if is_full(i):
        return True
    totals_keep(f, i, 0, _HELD, 1, _HELD_WIDTH)
    add_to(f, 0, (f[_PRICE] - f[_FROM]) * (t - i[_NEWEST_T]))
    if seldom(i[COUNT] == 0 or not math.isfinite(f[0])):
        f[0], f[1], f[_FROM], i[COUNT] = 0.0, 0.0, price, 0  # the first row; or beyond the range of numbers: begin anew
    f[_PRICE], i[_NEWEST_T] = price, t
    slot = _HELD + _HELD_WIDTH * push(i, t, _HELD_TIMES)
    f[slot], f[slot + 1], f[slot + TOTAL] = f[0], f[1], price
    return False


@inlined
def twap_step(f, i, p, t, x, y):
    """p: whether it is from the first row on."""
    price = x[0]
    y[0] = math.nan
    if not math.isfinite(price):
        return False
    if p[0] == 1.0:
        if i[COUNT] == 0:
            i[COUNT], i[_FIRST_T] = 1, t
            f[0] = price
        elif t > i[_FIRST_T]:
            f[0] += (f[_PRICE] - f[0]) * ((t - i[_NEWEST_T]) / (t - i[_FIRST_T]))
        f[_PRICE], i[_NEWEST_T] = price, t
        y[0] = finite(f[0]) if t > i[_FIRST_T] else price
        return False
    if twap_window_row(f, i, t, price):
        return True
    oldest = slot_at(i, 0)
    slot, since = _HELD + _HELD_WIDTH * oldest, i[_HELD_TIMES + oldest]
    begin = max(since, t - i[SPAN])
    if t == begin:
        y[0] = price
    else:
        before = (f[slot + TOTAL] - f[_FROM]) * (begin - since)
        y[0] = finite(f[_FROM] + ((f[0] - f[slot]) + (f[1] - f[slot + 1]) - before) / (t - begin))
    return False


def _twap_start(values: Values) -> Start:
    if values["anchored"]:
        return plain(_HELD, TIMES + 2, 1.0)
    return windowed({"w": values["w"], "min_obs": None}, own=_HELD, columns=_HELD_WIDTH, own_ints=1, parameters=[0.0])


TWAP = Kernel(
    name="twap", module=__name__, formula="∫p dt/∫dt over (t − w, t], each price held until the next row", inputs=("p",),
    outputs=(Output("twap"),),
    parameters=(
        Parameter(name="w", kind="duration", default="60s"),
        Parameter(name="anchored", kind="bool", default=False, help="from the first row on; w is then not looked at"),
    ),
    step=twap_step, start=_twap_start, grow=Growing(_HELD, _HELD_WIDTH, 1), version=2, first="1", needs_time=True,
    oracle="naive integral",
    differs="Until w has passed it is over the time since the first row; while no time at all has passed it is the price, "
    "which is what it comes from. Rows are not equal: a price counts as long as it held, and the newest one not yet.",
)  # fmt: skip

# -- pov --------------------------------------------------------------------------------------------------------------


@inlined
def pov_step(f, i, p, t, x, y):
    """f: the market's quantity; p: rate/(1 − rate), cap, lot (0: none), whether own fills are in the market's quantity."""
    quantity, done = x[0], x[1]
    if not (is_qty(quantity) and is_qty(done)):
        no_output(y)
        return False
    add_to(f, 0, quantity)
    others = total_of(f, 0)
    if p[3] == 1.0:
        others = max(0.0, others - done)
    y[0] = finite(min(p[0] * others, p[1]))
    child = max(0.0, y[0] - done)
    y[1] = finite(wholes_in(child, p[2]) * p[2] if p[2] > 0.0 else child)
    return False


POV = Kernel(
    name="pov", module=__name__,
    formula="target = rate/(1 − rate)·Σq of others, at most cap; child = target − done, not below 0, down to whole lots",
    inputs=("q", "done"),
    outputs=(Output("target", help="what should be done by now"), Output("child", help="what to send now")),
    parameters=(
        Parameter(name="rate", kind="float", default=0.1, above=0.0, below=1.0, help="own share of all volume, own included"),
        Parameter(name="cap", kind="float", above=0.0, help="quantity of the whole order; none where not given"),
        Parameter(name="lot", kind="float", above=0.0, help="quantity; none where not given"),
        Parameter(name="own_included", kind="bool", default=False, help="own fills are in q, as in what a venue prints"),
    ),
    step=pov_step,
    start=lambda values: plain(
        2, 0, values["rate"] / (1.0 - values["rate"]), math.inf if values["cap"] is None else values["cap"],
        values["lot"] or 0.0, float(values["own_included"]),
    ),
    first="1", oracle="naive",
    differs="rate is of the total: 10 % takes one part for nine of others, not for ten. q: the market's quantity since the row "
    "before; done: all that is done, or sent and open, so far.",
)  # fmt: skip

# -- implementation_shortfall -----------------------------------------------------------------------------------------


@inlined
def implementation_shortfall_step(f, i, p, t, x, y):
    """f: filled with its rest, delay, trade, fees."""
    price, quantity, fee, p_dec, p_send, p_end, wanted, side = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    are_prices = price > 0.0 and p_dec > 0.0 and p_send > 0.0 and p_end > 0.0
    # A test of each, as `is_price` has it, made this step take 14 ns instead of 6.
    are_finite = math.isfinite(price + quantity + fee + p_dec + p_send + p_end + wanted)
    if not (are_prices and quantity >= 0.0 and wanted > 0.0 and are_finite and is_side(side)):
        no_output(y)
        return False
    add_to(f, 0, quantity)
    delay = f[2] + side * quantity * (p_send - p_dec)
    trade = f[3] + side * quantity * (price - p_send)
    fees = f[4] + fee
    f[2], f[3], f[4] = delay, trade, fees
    missed = side * (p_end - p_dec) * (wanted - total_of(f, 0))
    y[0] = ratio(BPS * (delay + trade + missed + fees), wanted * p_dec)
    y[1], y[2], y[3], y[4] = finite(delay), finite(trade), finite(missed), finite(fees)
    return False


IMPLEMENTATION_SHORTFALL = Kernel(
    name="implementation_shortfall", module=__name__,
    formula="delay = side·Σq_i(p_send − p_dec), trade = side·Σq_i(p_i − p_send), "
    "missed = side·(p_end − p_dec)(Q − Σq_i), fees; total = their sum over Q·p_dec",
    inputs=("p", "q", "fee", "p_dec", "p_send", "p_end", "Q", "side"),
    outputs=(
        Output("total_bps"), Output("delay", help="money, as are the next"), Output("trade"), Output("missed"), Output("fees")
    ),
    step=implementation_shortfall_step, start=lambda values: plain(5, 0), first="1", oracle="identity",
    source="Perold 1988; Wagner & Edwards 1993",
    differs="Signed by the side, and with what was not filled, at the price p_end of now: not the filled part only. p_send is "
    "of the fill's own child order, Q the whole order. Of an order that is not filled the row (q = 0) tells what it missed.",
)  # fmt: skip

# -- arrival_price_impact ---------------------------------------------------------------------------------------------


@inlined
def arrival_price_impact_step(f, i, p, t, x, y):
    """f: Σq, Σq·(price − origin), origin (a price, so that no digits are lost); p: y."""
    price, quantity, arrival, sigma, wanted, daily, side = x[0], x[1], x[2], x[3], x[4], x[5], x[6]
    are_positive = price > 0.0 and arrival > 0.0 and wanted > 0.0 and daily > 0.0
    are_finite = math.isfinite(price + quantity + arrival + sigma + wanted + daily)
    if not (are_positive and quantity >= 0.0 and sigma >= 0.0 and are_finite and is_side(side)):
        no_output(y)
        return False
    if f[0] == 0.0:
        f[2] = price
    filled, moment = f[0] + quantity, f[1] + quantity * (price - f[2])
    f[0], f[1] = filled, moment
    y[0] = finite(BPS * side * ((f[2] - arrival + moment / filled) / arrival)) if filled > 0.0 else math.nan
    y[1] = finite(BPS * p[0] * sigma * math.sqrt(wanted / daily))
    return False


ARRIVAL_PRICE_IMPACT = Kernel(
    name="arrival_price_impact", module=__name__,
    formula="realised = side·(Σp_iq_i/Σq_i − arrival)/arrival·1e4; model = y·sigma·√(Q/ADV)·1e4",
    inputs=("p", "q", "arrival", "sigma", "Q", "ADV", "side"),
    outputs=(Output("realised_bps", help="positive: a cost"), Output("model_bps")),
    parameters=(Parameter(name="y", kind="float", default=1.0, low=0.0, help="of order 1 in all markets that were measured"),),
    step=arrival_price_impact_step, start=lambda values: plain(3, 0, values["y"]), first="1 fill (model 1)",
    oracle="closed form", source="Tóth et al. 2011",
    differs="Signed by the side: without it a good sell looks bad. sigma is the relative volatility of a day, ADV the quantity "
    "traded a day, in the unit of Q, the whole order.",
)  # fmt: skip

# -- slippage_decomposition -------------------------------------------------------------------------------------------


@inlined
def slippage_decomposition_step(f, i, p, t, x, y):
    """f: delay, spread, impact, fee and Σq·m_arrival."""
    price, quantity, fee, m_arrival, m_send, touch, side = x[0], x[1], x[2], x[3], x[4], x[5], x[6]
    are_prices = price > 0.0 and m_arrival > 0.0 and m_send > 0.0 and touch > 0.0
    are_finite = math.isfinite(price + quantity + fee + m_arrival + m_send + touch)
    if not (are_prices and quantity >= 0.0 and are_finite and is_side(side)):
        no_output(y)
        return False
    signed = side * quantity
    delay, spread = f[0] + signed * (m_send - m_arrival), f[1] + signed * (touch - m_send)
    impact, fees, notional = f[2] + signed * (price - touch), f[3] + fee, f[4] + quantity * m_arrival
    f[0], f[1], f[2], f[3], f[4] = delay, spread, impact, fees, notional
    y[0], y[1], y[2], y[3] = finite(delay), finite(spread), finite(impact), finite(fees)
    y[4] = finite(delay + spread + impact + fees)
    y[5] = ratio(BPS * y[4], notional)
    return False


SLIPPAGE_DECOMPOSITION = Kernel(
    name="slippage_decomposition", module=__name__,
    formula="side·Σq(m_send − m_arrival), side·Σq(touch − m_send), side·Σq(p − touch), Σfee; total = their sum; "
    "total_bps = 1e4·total/Σq·m_arrival",
    inputs=("p", "q", "fee", "m_arrival", "m_send", "touch", "side"),
    outputs=(
        Output("delay", help="money, as are the next: the mid moved before the order was sent"),
        Output("spread", help="half of it, when the order was sent"),
        Output("impact", help="beyond the touch; negative inside it"), Output("fee"), Output("total"), Output("total_bps"),
    ),
    step=slippage_decomposition_step, start=lambda values: plain(5, 0), first="1 fill (total_bps)", oracle="identity",
    differs="The parts sum to the total to the last bit. touch: the price of the other side when the order was sent. The fills "
    "of an order are summed, each with the mids and the touch of its own child order.",
)  # fmt: skip

KERNELS = (
    VWAP, TWAP, POV, IMPLEMENTATION_SHORTFALL, ARRIVAL_PRICE_IMPACT, SLIPPAGE_DECOMPOSITION,
)  # fmt: skip
