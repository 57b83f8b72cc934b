"""Guards before money moves: quotes that stand still, prices and orders out of bounds, markets that run, too many requests.

A guard that cannot judge, because a number is missing, says -128 and not 1: only 1 is leave to go on."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import NO_INTEGER, Kernel, Output, Parameter, Span, Start, Values
from oneprice.compute.kernels.extremes import BASE, empty, enter, extremes, extremes_growing, largest, put
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.order_statistics import (
    SortedGrowing,
    ascending,
    median_deviation,
    quantile_of,
    sorted_makes_room,
    sorted_row,
    sorted_window,
)
from oneprice.compute.kernels.rows import finite, is_price, plain
from oneprice.compute.kernels.windows import (
    COUNT,
    Growing,
    add_to,
    drop,
    is_due,
    is_full,
    is_ready,
    no_output,
    push,
    total_of,
    window_parameter,
    windowed,
)
from oneprice.compute.lanes import whole

_ROUNDING = 1e-12  # relative: 105 is 5 % above 100, though 105/100 − 1 as a float is more than 0.05
_NS_PER_S = 1e9


# -- stale_quote_detector ---------------------------------------------------------------------------------------------
# f: the quote (b, a), the reference when it came; i: whether there is one; p: longest age in ns, furthest move


@inlined
def stale_quote_detector_step(f, i, p, t, x, y):
    bid, ask, reference, quoted = x[0], x[1], x[2], whole(x)[3]
    no_output(y)
    if not (math.isfinite(bid) and math.isfinite(ask) and math.isfinite(reference)):
        return False
    if quoted == NO_INTEGER or quoted > t:
        return False
    is_new = (i[0] == 0) | (bid != f[0]) | (ask != f[1])
    i[0] = 1
    f[0], f[1], f[2] = bid, ask, reference if is_new else f[2]
    age = float(t) - float(quoted) if quoted < 0 else float(t - quoted)
    y[0] = age / 1e6
    has_moved = abs(reference - f[2]) > p[1] * (1.0 + 1e-9)
    y[1] = 1.0 if age > p[0] or has_moved else 0.0
    return False


STALE_QUOTE_DETECTOR = Kernel(
    name="stale_quote_detector", module=__name__, aliases=("stale_guard",),
    formula="stale: t − t_quote > max_age_ms, or the reference moved by more than ref_move_ticks·tick while b and a did not",
    inputs=("b", "a", "m", "t_quote"), integers=("t_quote",),
    outputs=(Output("age_ms"), Output("stale", "int8", "1: do not trade on it")),
    parameters=(
        Parameter(name="max_age_ms", kind="float", default=1000.0, above=0.0),
        Parameter(name="ref_move_ticks", kind="float", default=5.0, low=0.0),
        Parameter(name="tick", kind="float", default=0.01, above=0.0, help="the quote's smallest price step"),
    ),
    step=stale_quote_detector_step, needs_time=True, first="1", oracle="naive loop",
    start=lambda values: plain(3, 1, values["max_age_ms"] * 1e6, values["ref_move_ticks"] * values["tick"]),
    differs="m is the reference's mid price (another venue, or the index), t_quote when the quote was last received: a quote"
    " sent again unchanged is young, but the reference may still have left it.",
)  # fmt: skip

# -- price_band_guard -------------------------------------------------------------------------------------------------


@inlined
def is_within(price, reference, share):
    return abs(price - reference) <= share * reference * (1.0 + _ROUNDING)


@inlined
def price_band_guard_step(f, i, p, t, x, y):
    no_output(y)
    if not (is_price(x[0]) and is_price(x[1])):
        return False
    y[0] = 1.0 if is_within(x[0], x[1], p[0]) else 0.0
    deviation = x[0] / x[1] - 1.0
    y[1] = deviation if math.isfinite(deviation) else math.nan
    return False


PRICE_BAND_GUARD = Kernel(
    name="price_band_guard", module=__name__, formula="dev = p/ref − 1; ok: |dev| ≤ band", inputs=("p", "ref"),
    outputs=(Output("ok", "int8"), Output("dev")),
    parameters=(Parameter(name="band", kind="float", default=0.05, above=0.0, help="share of the reference price"),),
    step=price_band_guard_step, start=lambda values: plain(0, 0, values["band"]), first="1", oracle="closed form",
    differs="A price on the band is inside, whatever the rounding.",
)  # fmt: skip

# -- fat_finger_guard -------------------------------------------------------------------------------------------------

PRICE_OFF, NOTIONAL_OVER, QUANTITY_OVER = 1, 2, 4


@inlined
def fat_finger_guard_step(f, i, p, t, x, y):
    price, quantity, reference, typical = x[0], x[1], x[2], x[3]
    no_output(y)
    if not (is_price(price) and is_price(reference) and is_price(typical)):
        return False
    if not (math.isfinite(quantity) and quantity >= 0.0):
        return False
    mask = 0
    if not is_within(price, reference, p[0]):
        mask |= PRICE_OFF
    if price * quantity > p[1] * (1.0 + _ROUNDING):
        mask |= NOTIONAL_OVER
    if quantity > p[2] * typical * (1.0 + _ROUNDING):
        mask |= QUANTITY_OVER
    y[0] = 1.0 if mask == 0 else 0.0
    y[1] = mask
    return False


FAT_FINGER_GUARD = Kernel(
    name="fat_finger_guard", module=__name__,
    formula="mask: 1 |p/ref − 1| > price_pct; 2 p·q > notional_max; 4 q > qty_x·typical_q; ok: mask = 0",
    inputs=("p", "q", "ref", "typical_q"), outputs=(Output("ok", "int8"), Output("mask", "int8")),
    parameters=(
        Parameter(name="price_pct", kind="float", default=0.10, above=0.0, help="share of the reference price: 0.10 is 10 %"),
        Parameter(name="notional_max", kind="float", default=1e6, above=0.0, help="price × quantity"),
        Parameter(name="qty_x", kind="float", default=20.0, above=0.0, help="times the typical quantity"),
    ),
    step=fat_finger_guard_step, first="1", oracle="naive loop",
    start=lambda values: plain(0, 0, values["price_pct"], values["notional_max"], values["qty_x"]),
    differs="Without a typical quantity above 0 it does not judge (-128), and does not pass the order.",
)  # fmt: skip

# -- circuit_breaker --------------------------------------------------------------------------------------------------
# columns of the window: p, −p; i (own): whether it is tripped, until when; p: move and cool-down in ns

_TRIPPED, _UNTIL = BASE, BASE + 1
_BREAKER_INTS = 2


@inlined
def circuit_breaker_step(f, i, p, t, x, y):
    price = x[0]
    no_output(y)
    if not is_price(price):
        return False
    if i[_TRIPPED] == 1:
        if t < i[_UNTIL]:
            y[0] = 1.0
            return False
        i[_TRIPPED] = 0
        empty(f, i, 2)
    place = enter(f, i, t, 2, 0, _BREAKER_INTS)
    if place < 0:
        return True
    put(f, place, 0, price)
    put(f, place, 1, -price)
    move = max(price / -largest(f, i, 2, 1) - 1.0, 1.0 - price / largest(f, i, 2, 0))
    y[1] = finite(move)
    if move >= p[0] * (1.0 - _ROUNDING):
        i[_TRIPPED], i[_UNTIL] = 1, t + np.int64(p[1])
    y[0] = i[_TRIPPED]
    return False


def _circuit_breaker_start(values: Values) -> Start:
    parameters = [values["move"], values["cool_s"] * _NS_PER_S]
    return extremes(values | {"min_obs": None}, columns=2, parameters=parameters, own_ints=_BREAKER_INTS)


CIRCUIT_BREAKER = Kernel(
    name="circuit_breaker", module=__name__,
    formula="move = max(p/min_w − 1, 1 − p/max_w); tripped from move ≥ limit for cool_s, then an empty window", inputs=("p",),
    outputs=(Output("state", "int8", "0: armed, 1: tripped"), Output("move", help="NaN while it cools down")),
    parameters=(
        Parameter(name="move", kind="float", default=0.05, above=0.0, help="share of the price"),
        Parameter(name="w", kind="duration", default="300s"),
        Parameter(name="cool_s", kind="float", default=60.0, low=0.0, high=1e9, help="seconds"),
    ),
    step=circuit_breaker_step, start=_circuit_breaker_start, grow=extremes_growing(2, _BREAKER_INTS), version=2,
    needs_time=True, first="1",
    oracle="naive loop",
    differs="Measured from the window's extremes, not from its first price, so that a turn in the middle counts. What happens"
    " while it is tripped is not in the window afterwards.",
)  # fmt: skip

# -- throttle_check ---------------------------------------------------------------------------------------------------
# f: tokens, or the sum of what was allowed in the window (with its rest), then the ring of what was allowed
# i: of the window; own: whether a row came, its time; p: whether a bucket, rate per second, burst

_THROTTLE_OWN, _THROTTLE_INTS = 2, 2
_STARTED, _BEFORE_NS, _TIMES_AT = 8, 9, 10
_ENOUGH = 1e-9  # tokens: ten tenths of a second at 10/s give 1 token, though the sum as floats is less


@inlined
def throttle_check_step(f, i, p, t, x, y):
    weight = x[0]
    no_output(y)
    if not (math.isfinite(weight) and weight >= 0.0):
        return False
    if p[0] == 1.0:
        gained = p[1] * float(t - i[_BEFORE_NS]) / _NS_PER_S if i[_STARTED] == 1 else p[2]
        i[_STARTED], i[_BEFORE_NS] = 1, t
        f[0] = min(p[2], f[0] + gained)
        is_allowed = f[0] >= weight - _ENOUGH
        if is_allowed:
            f[0] = max(0.0, f[0] - weight)
        y[0], y[1] = 1.0 if is_allowed else 0.0, f[0]
        return False
    while is_due(i, t, _TIMES_AT):
        add_to(f, 0, -f[_THROTTLE_OWN + drop(i)])
    if i[COUNT] == 0:
        f[0], f[1] = 0.0, 0.0
    if is_full(i):
        return True
    is_allowed = total_of(f, 0) + weight <= p[1] + _ENOUGH
    if is_allowed and weight > 0.0:
        f[_THROTTLE_OWN + push(i, t, _TIMES_AT)] = weight
        add_to(f, 0, weight)
    y[0], y[1] = 1.0 if is_allowed else 0.0, max(0.0, p[1] - total_of(f, 0))
    return False


def _throttle_start(values: Values) -> Start:
    parameters = [float(values["method"] == "bucket"), values["rate"], values["burst"]]
    second = {"w": Span(round(_NS_PER_S)), "min_obs": 1}
    return windowed(second, own=_THROTTLE_OWN, own_ints=_THROTTLE_INTS, parameters=parameters)


THROTTLE_CHECK = Kernel(
    name="throttle_check", module=__name__,
    formula="bucket: tokens = min(burst, tokens + rate·Δt), allowed if tokens ≥ weight; window: allowed if what was allowed in"
    " (t − 1 s, t] and this one are ≤ rate",
    inputs=("weight",), outputs=(Output("allowed", "int8"), Output("tokens", help="left after this request")),
    parameters=(
        Parameter(name="rate", kind="float", default=10.0, above=0.0, help="per second"),
        Parameter(name="burst", kind="float", default=10.0, above=0.0, help="tokens of a full bucket"),
        Parameter(name="method", kind="choice", default="bucket", choices=("bucket", "window")),
    ),
    step=throttle_check_step, start=_throttle_start, grow=Growing(_THROTTLE_OWN, own_ints=_THROTTLE_INTS), needs_time=True,
    first="1", oracle="naive loop",
    differs="weight: what the venue charges for the request, mostly 1. Refused requests cost nothing, since they are not sent."
    " The bucket begins full. A ring counts the window, not a recount of all times.",
)  # fmt: skip

# -- outlier_flag_mad -------------------------------------------------------------------------------------------------
# f: [capacity] sorted values, then the ring; p: k, floor


@inlined
def outlier_outputs(held, n, p, value, y):
    median = quantile_of(held, n, 0.5)
    score = (value - median) / max(1.482602218505602 * median_deviation(held, n, median), p[1])
    y[0] = 1.0 if abs(score) > p[0] else 0.0
    y[1] = score if math.isfinite(score) else math.nan


@inlined
def outlier_flag_mad_step(f, i, p, t, x, y):
    value = x[0]
    no_output(y)
    if not math.isfinite(value):
        return False
    if sorted_makes_room(f, i, t):
        return True
    if is_ready(i):
        outlier_outputs(ascending(f, i), i[COUNT], p, value, y)
    return sorted_row(f, i, t, value)


OUTLIER_FLAG_MAD = Kernel(
    name="outlier_flag_mad", module=__name__, aliases=("mad_outlier",),
    formula="score = (x − med)/max(1.4826·MAD, floor), of the w values before x; flag: |score| > k", inputs=("x",),
    outputs=(Output("flag", "int8"), Output("score")),
    parameters=(
        *window_parameter(100),
        Parameter(name="k", kind="float", default=5.0, above=0.0),
        Parameter(name="floor", kind="float", default=0.01, above=0.0, help="smallest deviation, in units of x: one tick"),
    ),
    step=outlier_flag_mad_step, grow=SortedGrowing(), version=2, first="w+1", oracle="naive median and MAD",
    cost="O(w), many values at a time",
    start=lambda values: sorted_window(values, parameters=[values["k"], values["floor"]]),
    source="Hampel 1974; Iglewicz & Hoaglin 1993",
    differs="The row is not in its own window. A window without spread uses the floor and flags a move of k ticks, not every"
    " one. Outliers go into the window: a new level is accepted after half a window.",
)  # fmt: skip

KERNELS = (
    STALE_QUOTE_DETECTOR, PRICE_BAND_GUARD, FAT_FINGER_GUARD, CIRCUIT_BREAKER, THROTTLE_CHECK, OUTLIER_FLAG_MAD,
)  # fmt: skip
