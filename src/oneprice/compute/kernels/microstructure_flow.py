"""Microstructure of trades: who took, what it cost, how toxic the flow is, how trades call for trades."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Span, Start, Values
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.numbers import LN2, bits_of, exp_plain, expm1, float_of, log
from oneprice.compute.kernels.rows import finite, is_price, is_qty, is_quote, stateless
from oneprice.compute.kernels.special import erf
from oneprice.compute.kernels.windows import (
    COUNT,
    HEAD,
    SEEN,
    SIZE,
    SPAN,
    TIMES,
    Growing,
    add_to,
    drop,
    drop_until,
    is_due,
    is_full,
    nothing_left,
    push,
    sum_add,
    sum_drop,
    sum_keep,
    total_of,
    windowed,
)
from oneprice.compute.lanes import whole

# -- what a trade cost ------------------------------------------------------------------------------------------------------


@inlined
def effective_spread_step(f, i, p, t, x, y):
    price, sign, mid = x[0], x[1], x[2]
    usable = is_price(price) and is_price(mid) and abs(sign) == 1.0
    y[0] = finite(2e4 * sign * (price - mid) / mid) if usable else math.nan
    return False


EFFECTIVE_SPREAD = Kernel(
    name="effective_spread", module=__name__, formula="2s(p − m)/m·1e4, m the mid just before the trade",
    inputs=("p", "s", "m"), outputs=(Output("bps"),), step=effective_spread_step, start=lambda values: stateless(),
    first="1", oracle="closed form", source="Huang & Stoll 1996",
    differs="Negative values (price improvement) are kept; |p − m| in price units is something else. A trade without a side "
    "(s 0) has none.",
)  # fmt: skip

# f: the last mid, the mid of what is due, then the ring of trades that wait: price, sign, mid, row
_ROWS, _NOW, _WAITING_TIMES, _WAITING, _TRADE = TIMES, TIMES + 1, TIMES + 2, 2, 4


@inlined
def realized_spread_step(f, i, p, t, x, y):
    price, sign, mid = x[0], x[1], x[2]
    is_trade = abs(sign) == 1.0 and is_price(price)
    if is_price(mid) and (is_trade or sign == 0.0):
        if is_full(i):
            return True
        f[1], f[0] = f[0], mid  # what is due before this row saw the mid before this row
        i[_NOW] = t
        if is_trade:
            slot = _WAITING + _TRADE * push(i, t, _WAITING_TIMES)
            f[slot], f[slot + 1], f[slot + 2], f[slot + 3] = price, sign, mid, i[_ROWS]
    i[_ROWS] += 1
    return False


@inlined
def realized_spread_ready(f, i, p, y):
    if i[COUNT] == 0 or i[_NOW] - i[_WAITING_TIMES + i[HEAD]] <= i[SPAN]:
        return False
    slot = _WAITING + _TRADE * drop(i)
    price, sign, mid = f[slot], f[slot + 1], f[slot + 2]
    whole(y)[0] = int(f[slot + 3])
    y[1] = finite(2e4 * sign * (price - f[1]) / mid)
    y[2] = finite(2e4 * sign * (f[1] - mid) / mid)
    return True


def _delayed(delay_ns: int, *, own: int, columns: int, own_ints: int = 0, parameters: tuple[float, ...] = ()) -> Start:
    start = windowed(
        {"w": Span(delay_ns), "min_obs": None}, own=own, columns=columns, own_ints=own_ints, parameters=[*parameters]
    )
    return start._replace(by_time=delay_ns > 0)


REALIZED_SPREAD = Kernel(
    name="realized_spread", module=__name__,
    formula="2s(p − m_{t+d})/m_t·1e4 and impact 2s(m_{t+d} − m_t)/m_t·1e4; they add up to the effective spread",
    inputs=("p", "s", "m"),
    outputs=(Output("row", "int64", help="of the trade, from 0"), Output("bps"), Output("impact_bps")),
    parameters=(Parameter(name="delay_s", kind="float", default=5.0, above=0.0, high=1e9, help="seconds"),),
    step=realized_spread_step, ready=realized_spread_ready,
    start=lambda values: _delayed(round(values["delay_s"] * 1e9), own=_WAITING, columns=_TRADE, own_ints=2),
    grow=Growing(_WAITING, _TRADE, 2), first="after the delay", oracle="ASOF + closed form", source="Huang & Stoll 1996",
    needs_time=True,
    differs="A row with s 0 is a quote or a trade without a side: its mid counts, and it has no answer. m_{t+d} is the last "
    "mid at or before t+d, known when a later row comes.",
)  # fmt: skip


# -- who took ---------------------------------------------------------------------------------------------------------------
# f: last price, last sign of a change, then the ring of quotes (low, high); p: method, whether quotes are taken late

_METHODS = {"venue": ("flag",), "tick": (), "lee_ready": ("m",), "emo": ("b", "a")}
_VENUE, _TICK, _LEE_READY, _EMO = range(4)
_QUOTES = 2


@inlined
def quotes_before(f, i, t):
    """The place of the newest quotes that are as old as the delay, or -1; older ones go."""
    drop_until(i, t - i[SPAN], TIMES, 1)
    if i[COUNT] > 0 and i[TIMES + i[HEAD]] <= t - i[SPAN]:
        return _QUOTES + 2 * i[HEAD]
    return -1


@inlined
def trade_sign_step(f, i, p, t, x, y):
    price, method = x[0], int(p[0])
    y[0] = math.nan
    if not is_price(price):
        return False
    if method == _VENUE:
        y[0] = x[2] if (x[2] == 0.0) | (abs(x[2]) == 1.0) else math.nan
        return False
    low = high = math.nan
    if method != _TICK:
        low, high = (x[1], x[1]) if method == _LEE_READY else (x[3], x[4])
        if not is_quote(low, high):
            return False
        if i[SPAN] > 0:
            place = quotes_before(f, i, t)
            if is_full(i):
                return True
            slot = _QUOTES + 2 * push(i, t)
            f[slot], f[slot + 1] = low, high
            low, high = (f[place], f[place + 1]) if place >= 0 else (math.nan, math.nan)
    if (i[SEEN] == 1) & (price != f[0]):
        f[1] = 1.0 if price > f[0] else -1.0
    f[0] = price
    i[SEEN] = 1
    y[0] = f[1]
    if method == _LEE_READY and not math.isnan(low) and price != low:
        y[0] = 1.0 if price > low else -1.0
    elif method == _EMO and low < high and (price == low or price == high):
        y[0] = 1.0 if price == high else -1.0
    return False


def _trade_sign_start(values: Values) -> Start:
    method = values["method"]
    delay_ns = values["quote_delay_ns"] if method in ("lee_ready", "emo") else 0
    return _delayed(delay_ns, own=_QUOTES, columns=2, parameters=(list(_METHODS).index(method),))


def _trade_sign_unread(values: Values) -> tuple[str, ...]:
    return tuple(name for name in ("m", "flag", "b", "a") if name not in _METHODS[values["method"]])


TRADE_SIGN = Kernel(
    name="trade_sign", module=__name__,
    formula="venue: the aggressor's flag; tick: sign of the last non-zero price change; lee_ready: sign of p − m, at m tick; "
    "emo: p = a +1, p = b −1, else tick",
    inputs=("p", "m", "flag", "b", "a"), outputs=(Output("s", "int8", help="+1 the buyer took, 0 undetermined"),),
    unread_by=_trade_sign_unread,
    parameters=(
        Parameter(
            name="method", kind="choice", default="venue", choices=tuple(_METHODS),
            help="venue reads flag (+1 the buyer took; some venues print the maker's side), lee_ready m, emo b and a",
        ),
        Parameter(name="quote_delay_ns", kind="int", default=0, low=0, help="take m, or b and a, from so long ago"),
    ),
    step=trade_sign_step, start=_trade_sign_start, grow=Growing(_QUOTES, 2), first="1–2", oracle="naive loop",
    source="Lee & Ready 1991; Ellis, Michaely & O'Hara 2000",
    differs="Quotes of the trade's own time: the 5 s of 1991 were a reporting lag. Where there is no quote as old as the "
    "delay, and at a locked touch, the tick test decides; a flag other than −1, 0, 1 gives none.",
)  # fmt: skip


# -- toxic flow -------------------------------------------------------------------------------------------------------------
# f: in the open bucket, its signed part, the sum of |V_b − V_s|; of bars: open bar's quantity and last price, the close before,
# the variance of changes before; then the ring of |V_b − V_s|. i[SEEN]: whether a bar is open, and its number

_FILLED, _SIGNED, _TOXIC, _BAR_QTY, _BAR_PRICE, _CLOSE, _VARIANCE, _BUCKETS = 0, 1, 2, 5, 6, 7, 8, 9
_BAR = TIMES
_FULL = 1e-9  # of a bucket: room that is less than this is rounding, not room (0.1 + 0.2 fill a bucket of 0.3)


@inlined
def vpin_end_bucket(f, i, imbalance):
    while is_due(i, 0, TIMES + 1):
        sum_drop(f, i, _TOXIC, _BUCKETS)
    f[_BUCKETS + push(i, 0, TIMES + 1)] = imbalance
    sum_add(f, _TOXIC, imbalance)
    sum_keep(f, i, _TOXIC, _BUCKETS, imbalance)


@inlined
def vpin_fill(f, i, bucket_qty, qty, share):
    """Quantity into buckets, of which (1 + share)/2 was bought; of many whole ones only those that the window holds."""
    room = max(0.0, bucket_qty - f[_FILLED])
    if qty < room - _FULL * bucket_qty:
        f[_FILLED] += qty
        f[_SIGNED] += share * qty
        return
    vpin_end_bucket(f, i, abs(f[_SIGNED] + share * room))
    rest = max(0.0, qty - room)
    buckets = np.floor(rest / bucket_qty + _FULL)
    for _ in range(int(min(buckets, i[SIZE]))):
        vpin_end_bucket(f, i, abs(share) * bucket_qty)
    left = rest - buckets * bucket_qty
    f[_FILLED] = left if 0.0 < left < bucket_qty else 0.0  # of 2^53 buckets no digit is left
    f[_SIGNED] = share * f[_FILLED]


@inlined
def vpin_end_bar(f, i, bucket_qty, alpha):
    """V_b = V·Φ(ΔP/σ), σ of the bars before; without σ a bar cannot be told apart and stays out."""
    change = f[_BAR_PRICE] - f[_CLOSE]
    if f[_VARIANCE] > 0.0:
        share = erf(change / math.sqrt(2.0 * f[_VARIANCE]))  # 2Φ − 1
        vpin_fill(f, i, bucket_qty, f[_BAR_QTY], share)
    f[_CLOSE] = f[_BAR_PRICE]
    if math.isnan(f[_VARIANCE]):
        f[_VARIANCE] = change * change  # NaN still, for want of a bar before
    else:
        f[_VARIANCE] += alpha * (change * change - f[_VARIANCE])


@inlined
def vpin_step(f, i, p, t, x, y):
    """p: bucket, bar in ns (0: by flag), weight of the newest bar's change in σ²."""
    price, qty, sign = x[0], x[1], x[2]
    y[0] = math.nan
    if not (is_price(price) and is_qty(qty)):
        return False
    if p[1] == 0.0:
        if not (sign == 0.0 or abs(sign) == 1.0):
            return False
        vpin_fill(f, i, p[0], qty, sign)
    else:
        bar = t // int(p[1])
        if i[SEEN] == 1 and bar != i[_BAR]:
            vpin_end_bar(f, i, p[0], p[2])
            f[_BAR_QTY] = 0.0
        f[_BAR_QTY] += qty
        f[_BAR_PRICE] = price
        i[_BAR] = bar
        i[SEEN] = 1
    if i[COUNT] == i[SIZE]:
        y[0] = finite(total_of(f, _TOXIC) / (i[SIZE] * p[0]))
    return False


def _vpin_start(values: Values) -> Start:
    if values["bucket_qty"] is None:
        raise KernelError("vpin: bucket_qty is missing: it has no default (the paper takes 1/50 of a day's volume)")
    is_bvc = values["classify"] == "bvc"
    alpha = -expm1(-LN2 / values["sigma_halflife"])
    start = windowed(
        {"w": values["buckets"], "min_obs": None}, own=_BUCKETS, own_ints=1,
        parameters=[values["bucket_qty"], float(values["bar"].ns) if is_bvc else 0.0, alpha],
    )  # fmt: skip
    start.f[[_CLOSE, _VARIANCE]] = math.nan
    return start._replace(by_time=is_bvc)


VPIN = Kernel(
    name="vpin", module=__name__,
    formula="buckets of bucket_qty, trades split over them; Σ_{last n}|V_b − V_s|/(n·bucket_qty); "
    "bvc: V_b = V·Φ(ΔP/σ_ΔP) a bar",
    inputs=("p", "q", "s"), outputs=(Output("vpin"),),
    unread_by=lambda values: ("s",) if values["classify"] == "bvc" else (),
    parameters=(
        Parameter(name="bucket_qty", kind="float", above=0.0, help="needed; the paper takes 1/50 of a day's volume"),
        Parameter(name="buckets", kind="int", default=50, low=1),
        Parameter(name="classify", kind="choice", default="flag", choices=("flag", "bvc")),
        Parameter(name="bar", kind="duration", default="60s", help="bvc: bars begin at whole multiples since 1970"),
        Parameter(name="sigma_halflife", kind="float", default=20.0, above=0.0, help="bvc: bars, of σ²"),
    ),
    step=vpin_step, start=_vpin_start, registers=(_BUCKETS, TIMES + 1), first="when the buckets are full", oracle="naive loop",
    source="Easley, López de Prado & O'Hara 2012",
    differs="Buckets are equal: a trade is split over as many as it spans. A trade without a side (s 0) counts half and half; "
    "σ is that of the bars before, and bars before there is one stay out.",
)  # fmt: skip


# -- trades that call for trades ----------------------------------------------------------------------------------------------


# f: S, the log-likelihood and its rest but for ln λ_before of the events, whose product is f[3]·2^i[2]
# i: whether there is a row before, its time, that power; p: μ, α, β

_PRODUCT, _POWER = 3, 2
_GONE = 64.0  # β·Δt from which on nothing is left of S
_MANTISSA, _OF_ONE = (1 << 52) - 1, 1023 << 52
_LARGE = 2.0**800
_RATE = 1e12  # no rate is above it, and μ is not below its inverse


@inlined
def hawkes_elapsed(f, i, p, t, x, v):
    """ns since the row before (NaN: this one is none), the event."""
    event = x[0]
    v[0], v[1] = math.nan, event
    if event * (event - 1.0) == 0.0:  # 0 or 1, which no processor can foretell, so it is not asked which
        v[0] = float(t - i[1]) * i[0]
        i[0], i[1] = 1, t


@inlined
def hawkes_faded(p, x, z):
    """The share of S that has gone, μΔt, the event."""
    elapsed_s = x[0] / 1e9
    z[0] = 1.0 - exp_plain(-min(p[2] * elapsed_s, _GONE)) if elapsed_s >= 0.0 else math.nan
    z[1], z[2] = p[0] * elapsed_s, x[1]


@inlined
def hawkes_intensity_step(f, i, p, t, x, w):
    """What is left: both intensities, the log-likelihood but for the product, which follows with its power."""
    share, event = x[0], x[2]
    nothing_left(w)
    if math.isnan(share):
        return False
    faded = f[0] * share
    add_to(f, 1, -x[1] - faded / p[2])
    left = f[0] - faded
    before = p[0] + left
    f[0] = left + event * p[1]
    f[_PRODUCT] *= before if event == 1.0 else 1.0
    if seldom(not 1.0 / _LARGE < f[_PRODUCT] < _LARGE):
        bits = bits_of(f[_PRODUCT])
        i[_POWER] += (bits >> 52) - 1023
        f[_PRODUCT] = float_of((bits & _MANTISSA) | _OF_ONE)
    w[0], w[1], w[2], w[3], w[4] = before, p[0] + f[0], total_of(f, 1), f[_PRODUCT], i[_POWER]
    return False


@inlined
def hawkes_intensity_finish(p, w, y):
    y[0], y[1] = w[0], w[1]
    y[2] = w[2] + (w[4] * LN2 + log(w[3]))


def _hawkes_start(values: Values) -> Start:
    mu, alpha, beta = values["mu"], values["alpha"], values["beta"]
    if alpha >= beta:
        raise KernelError(
            f"hawkes_intensity: alpha={alpha:g}: it must be below beta={beta:g}, or every event calls for one or more"
        )
    return Start(np.array([0.0, 0.0, 0.0, 1.0]), np.zeros(3, dtype=np.int64), np.array([mu, alpha, beta]))


HAWKES_INTENSITY = Kernel(
    name="hawkes_intensity", module=__name__,
    formula="S⁻ = S·e^(−βΔt), λ_before = μ + S⁻, at an event S = S⁻ + α; loglik: + ln λ_before at events, − μΔt − "
    "(S/β)(1 − e^(−βΔt)) between rows",
    inputs=("event",),
    outputs=(
        Output("lambda_before", help="events a second"), Output("lambda_after", help="events a second"),
        Output("loglik", help="since the first row"),
    ),
    parameters=(
        Parameter(name="mu", kind="float", default=0.1, low=1.0 / _RATE, high=_RATE, help="events a second"),
        Parameter(name="alpha", kind="float", default=0.5, low=0.0, high=_RATE, help="a second; below beta"),
        Parameter(name="beta", kind="float", default=1.0, above=0.0, high=_RATE, help="a second"),
    ),
    lead=hawkes_elapsed, led=2, prepare=hawkes_faded, prepared=3, step=hawkes_intensity_step, finish=hawkes_intensity_finish,
    left=5, start=_hawkes_start, registers=(4, 3), version=2, first="1", oracle="naive double sum", needs_time=True,
    source="Hawkes 1971; Ozaki 1979",
    differs="An event is 1, a row that only asks is 0; anything else gives NaN. Events before the first row are not known.",
)  # fmt: skip

KERNELS = (EFFECTIVE_SPREAD, REALIZED_SPREAD, TRADE_SIGN, VPIN, HAWKES_INTENSITY)
