"""Averages, bands and oscillators of chart reading, started as TA-Lib starts them."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.extremes import BASE, enter, extremes, extremes_growing, largest, let_go, put
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.rows import finite, plain, ratio
from oneprice.compute.kernels.turning import sum_rows
from oneprice.compute.kernels.windows import (
    MOMENTS,
    PLACE,
    SIZE,
    SUM,
    Growing,
    by_count,
    is_ready,
    moments_leave,
    moments_row,
    no_output,
    nothing_left,
    sum_add,
    sum_clear,
    sum_is_worn,
    sum_replace,
    sum_step,
    total_of,
    window_parameter,
    windowed,
)

# -- ema, sma -----------------------------------------------------------------------------------------------------------


@inlined
def mean_from_first(f, at, count, n, alpha, value):
    """An exponential mean that the plain mean of its first n values starts; f[at] is their sum before. `count`: of the values,
    this one included."""
    if count > n:
        f[at] += alpha * (value - f[at])
    elif count < n:
        f[at] += value
    else:
        f[at] = (f[at] + value) / n


@inlined
def ema_step(f, i, p, t, x, y):
    """p: n, α, how many values start it."""
    value = x[0]
    y[0] = math.nan
    if not math.isfinite(value):
        return False
    i[0] += 1
    mean_from_first(f, 0, i[0], p[2], p[1], value)
    if i[0] >= p[0]:
        y[0] = finite(f[0])
    return False


def _alpha(n: int) -> float:
    return 2.0 / (n + 1.0)


def _ema_start(values: Values) -> Start:
    n = values["n"]
    return plain(1, 1, n, _alpha(n), n if values["seed"] == "sma" else 1)


EMA = Kernel(
    name="ema", module=__name__, formula="e += α(x − e), α = 2/(n+1); sma: e_n = ⟨x₁…x_n⟩; first: e₁ = x₁", inputs=("x",),
    outputs=(Output("ema"),),
    parameters=(
        Parameter(name="n", kind="int", default=20, low=1, help="observations"),
        Parameter(name="seed", kind="choice", default="sma", choices=("sma", "first")),
    ),
    step=ema_step, start=_ema_start, registers=(1, 1), first="n",
    oracle="TA-Lib EMA; pandas ewm(adjust=False) for seed=first",
    differs="The mean of the first n values starts it: the first value alone would weigh 1 instead of 1/n.",
)  # fmt: skip


@inlined
def sma_finish(p, w, y):
    y[0] = finite(w[0] / w[1])


SMA = Kernel(
    name="sma", module=__name__, formula="⟨x⟩ over n", inputs=("x",), outputs=(Output("sma"),),
    parameters=window_parameter(20, name="n"), step=sum_step, together=sum_rows, finish=sma_finish, left=2,
    start=lambda values: windowed(values, own=SUM, name="n"), grow=Growing(SUM), first="n",
    oracle="pandas rolling.mean, TA-Lib SMA",
)  # fmt: skip


# -- macd ---------------------------------------------------------------------------------------------------------------


@inlined
def macd_step(f, i, p, t, x, w):
    """f: fast, slow, signal; p: their n, how many rows the fast one waits, their α. What is left: macd, signal."""
    value, fast, slow, signal, wait = x[0], p[0], p[1], p[2], p[3]
    nothing_left(w)
    if not math.isfinite(value):
        return False
    i[0] += 1
    if i[0] > wait:
        mean_from_first(f, 0, i[0] - wait, fast, p[4], value)
    mean_from_first(f, 1, i[0], slow, p[5], value)
    if i[0] < slow:
        return False
    w[0] = f[0] - f[1]
    since = i[0] - slow + 1
    mean_from_first(f, 2, since, signal, p[6], w[0])
    w[1] = f[2] if since >= signal else math.nan
    return False


@inlined
def macd_finish(p, w, y):
    y[0], y[1], y[2] = finite(w[0]), finite(w[1]), finite(w[0] - w[1])


def _macd_start(values: Values) -> Start:
    fast, slow, signal = values["fast"], values["slow"], values["signal"]
    if fast >= slow:
        raise KernelError(f"macd: fast={fast!r}: it must be below slow={slow!r}")
    wait = slow - fast if values["align"] == "talib" else 0
    return plain(3, 1, fast, slow, signal, wait, _alpha(fast), _alpha(slow), _alpha(signal))


MACD = Kernel(
    name="macd", module=__name__, formula="macd = ema(fast) − ema(slow); signal = ema of macd; hist = macd − signal",
    inputs=("x",), outputs=(Output("macd"), Output("signal"), Output("hist")),
    parameters=(
        Parameter(name="fast", kind="int", default=12, low=1), Parameter(name="slow", kind="int", default=26, low=2),
        Parameter(name="signal", kind="int", default=9, low=1),
        Parameter(name="align", kind="choice", default="talib", choices=("talib", "natural"),
                  help="both averages start at row `slow`, or each at its own n"),
    ),
    step=macd_step, finish=macd_finish, left=2, start=_macd_start, registers=(3, 1), first="slow (signal slow + signal − 1)",
    oracle="TA-Lib MACD", source="Appel 1979",
    differs="TA-Lib gives macd only from the signal's first row on; here it is there from row `slow` on.",
)  # fmt: skip


# -- rsi ----------------------------------------------------------------------------------------------------------------


@inlined
def rsi_step(f, i, p, t, x, y):
    """f: value before, mean gain, mean loss, as Wilder's: the plain mean of the first n, then with α = 1/n; p: n, 1/n."""
    value, n = x[0], p[0]
    y[0] = math.nan
    if not math.isfinite(value):
        return False
    if i[0] > 0:
        change = value - f[0]
        mean_from_first(f, 1, i[0], n, p[1], max(change, 0.0))
        mean_from_first(f, 2, i[0], n, p[1], max(-change, 0.0))
        if i[0] >= n:
            y[0] = ratio(100.0 * f[1], f[1] + f[2])
    f[0] = value
    i[0] += 1
    return False


RSI = Kernel(
    name="rsi", module=__name__, formula="100·G/(G + L), Wilder's means of gains and losses", inputs=("x",),
    outputs=(Output("rsi"),), parameters=(Parameter(name="n", kind="int", default=14, low=1),), step=rsi_step, registers=(3, 1),
    start=lambda values: plain(3, 1, values["n"], 1.0 / values["n"]), first="n + 1", oracle="TA-Lib RSI", source="Wilder 1978",
    differs="Without any movement there is none: TA-Lib writes 0, others 50 or 100.",
)  # fmt: skip


# -- bollinger_bands ----------------------------------------------------------------------------------------------------


@inlined
def bollinger_bands_step(f, i, p, t, x, w):
    value = x[0]
    nothing_left(w)
    if not math.isfinite(value):
        return False
    if moments_row(f, i, t, value):
        return True
    moments_leave(f, i, w, value)
    return False


@inlined
def bollinger_bands_finish(p, w, y):
    mid, reach = finite(w[0]), p[0] * math.sqrt(w[1] / w[3])
    y[0], y[1], y[2] = mid, finite(mid + reach), finite(mid - reach)
    y[3] = ratio(w[2] + reach, 2.0 * reach)
    y[4] = ratio(2.0 * reach, mid)


BOLLINGER_BANDS = Kernel(
    name="bollinger_bands", module=__name__,
    formula="mid = ⟨x⟩, up/dn = mid ± kσ (ddof 0), pct_b = (x − dn)/(up − dn), width = (up − dn)/mid", inputs=("x",),
    outputs=(Output("mid"), Output("up"), Output("dn"), Output("pct_b"), Output("width")),
    parameters=(*window_parameter(20, name="n", fewest=2), Parameter(name="k", kind="float", default=2.0, above=0.0)),
    step=bollinger_bands_step, finish=bollinger_bands_finish, left=4,
    start=lambda values: windowed(values, own=MOMENTS, fewest=2, parameters=[values["k"]], name="n"),
    grow=Growing(MOMENTS), first="n", oracle="TA-Lib BBANDS (ddof 0)", source="Bollinger 2001", aliases=("bbands",),
    differs="A flat window has no pct_b: 0, 0.5 and 1 are all written elsewhere.",
)  # fmt: skip


# -- donchian_channel ---------------------------------------------------------------------------------------------------
# columns of the window: H, −L


@inlined
def channel_outputs(f, i, y):
    if is_ready(i):
        y[0] = largest(f, i, 2, 0)
        y[1] = -largest(f, i, 2, 1)
        y[2] = 0.5 * y[0] + 0.5 * y[1]


@inlined
def donchian_channel_step(f, i, p, t, x, y):
    high, low = x[0], x[1]
    no_output(y)
    if not (math.isfinite(high) and math.isfinite(low)):
        return False
    includes = p[0] == 1.0
    if not includes:
        if not by_count(i):
            let_go(f, i, t, 2)
        channel_outputs(f, i, y)
    place = enter(f, i, t, 2)
    if place < 0:
        return True
    put(f, place, 0, high)
    put(f, place, 1, -low)
    if includes:
        channel_outputs(f, i, y)
    return False


DONCHIAN_CHANNEL = Kernel(
    name="donchian_channel", module=__name__, formula="up = max H, dn = min L over n, mid = (up + dn)/2", inputs=("H", "L"),
    outputs=(Output("up"), Output("dn"), Output("mid")),
    parameters=(*window_parameter(20, name="n"), Parameter(name="include_current", kind="bool", default=True)),
    step=donchian_channel_step,
    start=lambda values: extremes(values, columns=2, name="n", parameters=[float(values["include_current"])]),
    grow=extremes_growing(2), first="n (n + 1 without the current row)", oracle="pandas rolling max and min",
    aliases=("donchian",),
    differs="Of highs and lows, not of one price; a breakout test wants include_current=False.",
)  # fmt: skip


# -- stochastic_osc -----------------------------------------------------------------------------------------------------
# f: the window's two extremes; for each mean the sum; the ring of (H, −L), then the values of each mean
# i: the window's, with how many values there are, then for each mean its length and the place of the next value

_SUMS, _MEANS = 2, 2 * SUM
_VALUES, _LENGTHS, _MEAN_INTS = BASE, BASE + 1, 5


@inlined
def stochastic_range(f, i, p, t, x, v):
    """C − LL and HH − LL; NaN where there are none."""
    high, low, close = x[0], x[1], x[2]
    v[0], v[1] = math.nan, math.nan
    if not (math.isfinite(high) and math.isfinite(low) and math.isfinite(close)):
        return
    place = enter(f, i, t, 2, _MEANS, _MEAN_INTS)
    put(f, place, 0, high)
    put(f, place, 1, -low)
    if is_ready(i):
        lowest = -largest(f, i, 2, 1, _MEANS)
        v[0], v[1] = close - lowest, largest(f, i, 2, 0, _MEANS) - lowest


@inlined
def stochastic_raw(p, x, z):
    z[0] = ratio(100.0 * x[0], x[1])


@inlined
def sum_of_last(f, i, at, length_at, values_at, value):
    """The sum of the last values, as many as i[length_at] says; it stands at f[at]."""
    place = i[length_at + 1] & PLACE
    sum_replace(f, at, f[values_at + place], value)
    f[values_at + place] = value
    i[length_at + 1] = place + 1 if place + 1 < i[length_at] else 0
    if seldom(sum_is_worn(f, at, value)):
        sum_clear(f, at)
        for k in range(i[length_at]):
            sum_add(f, at, f[values_at + k])
    return total_of(f, at)


@inlined
def stochastic_osc_step(f, i, p, t, x, w):
    """What is left: the sum of `slow` values, that of `d` such sums."""
    nothing_left(w)
    if math.isnan(x[0]):
        return False
    slow, d, values_at = i[_LENGTHS] & PLACE, i[_LENGTHS + 2], _SUMS + _MEANS + 2 * (i[SIZE] & PLACE)
    i[_VALUES] += 1
    of_values = sum_of_last(f, i, _SUMS, _LENGTHS, values_at, x[0])
    if i[_VALUES] >= slow:
        of_sums = sum_of_last(f, i, _SUMS + SUM, _LENGTHS + 2, values_at + slow, of_values)
        w[0], w[1] = of_values, of_sums if i[_VALUES] - slow >= d - 1 else math.nan
    return False


@inlined
def stochastic_osc_finish(p, w, y):
    y[0], y[1] = finite(w[0] / p[0]), finite(w[1] / (p[0] * p[1]))


def _stochastic_start(values: Values) -> Start:
    slow, d, n = values["slow"], values["d"], values["n"]
    start = extremes(
        {"n": n, "min_obs": None}, columns=2, name="n", parameters=[slow, d], own=_MEANS, own_ints=_MEAN_INTS
    )  # fmt: skip
    start.i[_LENGTHS], start.i[_LENGTHS + 2] = slow, d
    return start._replace(f=np.concatenate([start.f, np.zeros(slow + d)]))


STOCHASTIC_OSC = Kernel(
    name="stochastic_osc", module=__name__,
    formula="100(C − LL)/(HH − LL) over n; k = its mean over `slow`, d = the mean of k over `d`", inputs=("H", "L", "C"),
    outputs=(Output("k"), Output("d")),
    parameters=(
        Parameter(name="n", kind="int", default=14, low=1), Parameter(name="slow", kind="int", default=3, low=1),
        Parameter(name="d", kind="int", default=3, low=1),
    ),
    lead=stochastic_range, led=2, prepare=stochastic_raw, prepared=1, step=stochastic_osc_step, finish=stochastic_osc_finish,
    left=2, start=_stochastic_start, registers=(_SUMS + _MEANS, BASE + _MEAN_INTS), version=4,
    first="n + slow − 1 (d: d − 1 later)", oracle="TA-Lib STOCH", source="Lane 1984", aliases=("stoch",),
    differs="Means are trailing: a centred one reads the future. A row whose window has no range has no value and is left out "
    "of the means; TA-Lib puts a 0 into them.",
)  # fmt: skip


# -- adx ----------------------------------------------------------------------------------------------------------------


@inlined
def adx_step(f, i, p, t, x, y):
    """f: H, L, C before, sums of +DM, −DM, TR, mean DX; i: bars, DX so far; p: n, 1/n."""
    high, low, close, n = x[0], x[1], x[2], p[0]
    no_output(y)
    if not (math.isfinite(high) and math.isfinite(low) and math.isfinite(close)):
        return False
    rise, fall = high - f[0], f[1] - low
    true_range = max(high - low, abs(high - f[2]), abs(low - f[2]))
    f[0], f[1], f[2] = high, low, close
    i[0] += 1
    if i[0] == 1:
        return False
    keep = 1.0 if i[0] <= n else 1.0 - p[1]
    f[3] = keep * f[3] + (rise if rise > 0.0 and rise > fall else 0.0)
    f[4] = keep * f[4] + (fall if fall > 0.0 and fall > rise else 0.0)
    f[5] = keep * f[5] + true_range
    if i[0] <= n:
        return False
    y[1] = ratio(100.0 * f[3], f[5])
    y[2] = ratio(100.0 * f[4], f[5])
    dx = ratio(100.0 * abs(f[3] - f[4]), f[3] + f[4])
    if math.isnan(dx):
        return False
    i[1] += 1
    mean_from_first(f, 6, i[1], n, p[1], dx)
    if i[1] >= n:
        y[0] = f[6]
    return False


ADX = Kernel(
    name="adx", module=__name__,
    formula="+DM, −DM, TR summed as Wilder does; DI = 100·DM/TR; DX = 100·|DI₊ − DI₋|/(DI₊ + DI₋); adx = Wilder's mean of DX",
    inputs=("H", "L", "C"), outputs=(Output("adx"), Output("di_plus"), Output("di_minus")),
    parameters=(Parameter(name="n", kind="int", default=14, low=2),), step=adx_step, registers=(7, 2),
    start=lambda values: plain(7, 2, values["n"], 1.0 / values["n"]), first="2n (DI: n + 1)",
    oracle="TA-Lib ADX, PLUS_DI, MINUS_DI",
    source="Wilder 1978; TA-Lib's start: sums of n − 1 values, then decayed",
    differs="A bar without any directional movement has no DX and is left out of its mean.",
)  # fmt: skip

KERNELS = (EMA, SMA, MACD, RSI, BOLLINGER_BANDS, DONCHIAN_CHANNEL, STOCHASTIC_OSC, ADX)
