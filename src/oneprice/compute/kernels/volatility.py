"""Volatility from returns, plain and robust to jumps, and from the range of bars. That of noisy ticks: tick_volatility."""

from __future__ import annotations

import math
from typing import Any

from oneprice.compute.kernels.definition import Kernel, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.numbers import LN2, bits_of, log, log_parts
from oneprice.compute.kernels.rows import finite, is_price, is_qty, is_quote, plain
from oneprice.compute.kernels.turning import LEFT, can_turn, change_terms, neighbours, sum_rows, two_sums_rows
from oneprice.compute.kernels.windows import (
    COUNT,
    MOMENTS,
    SPAN,
    SUM,
    Growing,
    add_to,
    drop,
    is_due,
    is_full,
    is_ready,
    is_rebuild_due,
    is_turning,
    moments_add,
    moments_are_worn,
    moments_of,
    moments_remove,
    moments_replace,
    no_output,
    nothing_left,
    push,
    slot_at,
    sum_add,
    sum_clear,
    sum_is_worn,
    sum_of,
    sum_replace,
    sum_row,
    sum_step,
    total_of,
    turn,
    window_parameter,
    windowed,
)

_YEAR_NS = 31_536_000 * 10**9  # 365 days: these markets never close


@inlined
def root(value):
    """The square root; NaN of what is no variance. Of less than 0 none is taken: its NaN would have other bits in a loop than
    row by row, as LLVM holds all NaN to be one."""
    found = math.sqrt(max(0.0, value))
    return found if is_qty(value) else math.nan


# -- sums of squared returns ------------------------------------------------------------------------------------------


@inlined
def realized_var_step(f, i, p, t, x, y):
    square = x[0] * x[0]
    no_output(y)
    if not math.isfinite(square):
        return False
    if sum_row(f, i, t, square):
        return True
    if is_ready(i):
        y[0] = total_of(f, 0)
        y[1] = root(y[0])
        if p[0] > 0.0:
            y[2] = root(y[0] * p[0] / i[COUNT])
        elif i[SPAN] > 0:
            y[2] = root(y[0] * _YEAR_NS / i[SPAN])
    return False


REALIZED_VAR = Kernel(
    name="realized_var", module=__name__, formula="var = Σr² over w; vol = √var; vol_annual = √(Σr²·ppy/w)",
    inputs=("r",), outputs=(Output("var"), Output("vol"), Output("vol_annual")),
    parameters=(
        *window_parameter(20),
        Parameter(
            name="ppy", kind="float", above=0.0,
            help="returns in a year of 365 days, 31 536 000 / bar seconds; left out: vol_annual only of a window in time",
        ),
    ),
    step=realized_var_step, start=lambda values: windowed(values, own=SUM, parameters=[values["ppy"] or 0.0]),
    grow=Growing(SUM), first="w", oracle="NumPy", source="Andersen & Bollerslev 1998",
    differs="A window in time is annualised by its length; one of observations only when ppy says how many make a year.",
)  # fmt: skip


# -- products of neighbours: jumps do not count ------------------------------------------------------------------------
# f: two sums, then the ring of |r|. When the oldest return goes, so do the terms in which it stood.

_RETURNS = 2 * SUM


@inlined
def size_of_return(p, x, z):
    """|r|; NaN where its square is no number."""
    r = abs(x[0])
    z[0] = r if math.isfinite(r * r) else math.nan


@inlined
def bipower_var_step(f, i, p, t, x, w):
    """What is left: both sums, how many returns."""
    r = x[0]
    nothing_left(w)
    if math.isnan(r):
        return False
    if is_turning(i):
        oldest, before = f[_RETURNS + slot_at(i, 0)], f[_RETURNS + slot_at(i, i[COUNT] - 1)]
        sum_replace(f, 0, oldest * oldest, r * r)
        sum_replace(f, SUM, oldest * f[_RETURNS + slot_at(i, 1)], before * r)
        f[_RETURNS + turn(i)] = r
    else:
        while is_due(i, t):
            oldest = f[_RETURNS + drop(i)]
            add_to(f, 0, -oldest * oldest)
            if i[COUNT] > 0:
                add_to(f, SUM, -oldest * f[_RETURNS + slot_at(i, 0)])
        if is_full(i):
            return True
        f[_RETURNS + push(i, t)] = r
        sum_add(f, 0, r * r)
        if i[COUNT] > 1:
            sum_add(f, SUM, f[_RETURNS + slot_at(i, i[COUNT] - 2)] * r)
    n = i[COUNT]
    if seldom(is_rebuild_due(i) or sum_is_worn(f, 0) or sum_is_worn(f, SUM)):
        sum_clear(f, 0)
        sum_clear(f, SUM)
        before = 0.0
        for k in range(n):
            value = f[_RETURNS + slot_at(i, k)]
            sum_add(f, 0, value * value)
            sum_add(f, SUM, before * value)
            before = value
    if is_ready(i):
        w[0], w[1], w[2] = total_of(f, 0), total_of(f, SUM), n
    return False


@inlined
def bipower_var_rows(f, i, p, ring, x, w, apart):
    """The same for a block."""
    if not can_turn(i, x.shape[0]):
        return False
    old, new = neighbours(i, ring, x, w, apart)
    largest = largest_beside = 0
    for k in range(x.shape[0]):
        oldest, before, r = w[old + k], w[new + 1 + k], w[new + 2 + k]
        square, product = r * r, before * r
        largest, largest_beside = max(largest, bits_of(square)), max(largest_beside, bits_of(product))
        change_terms(w, k, apart, oldest * oldest, square, oldest * w[old + 1 + k], product)
    return two_sums_rows(f, i, ring, x, w, apart, largest, largest_beside)


@inlined
def bipower_var_finish(p, w, y):
    bipower = 0.5 * math.pi * w[2] / (w[2] - 1.0) * w[1]
    y[0], y[1] = finite(bipower), finite(max(0.0, w[0] - bipower))


BIPOWER_VAR = Kernel(
    name="bipower_var", module=__name__, formula="bv = (π/2)·(w/(w−1))·Σ_{i≥2}|r_i||r_{i−1}|; jump = max(0, Σr² − bv)",
    inputs=("r",), outputs=(Output("bv"), Output("jump")), parameters=window_parameter(20, fewest=2),
    prepare=size_of_return, prepared=1, step=bipower_var_step, together=bipower_var_rows, finish=bipower_var_finish,
    left=LEFT, start=lambda values: windowed(values, own=_RETURNS, fewest=2), grow=Growing(_RETURNS), first="w",
    oracle="naive loop; unbiased on Gaussian returns", source="Barndorff-Nielsen & Shephard 2004",
    differs="The factor w/(w−1) is there: without it bv is too small, and every short window seems to jump.",
)  # fmt: skip

_MED = math.pi / (6.0 - 4.0 * math.sqrt(3.0) + math.pi)
_MIN = math.pi / (math.pi - 2.0)


@inlined
def squared_median(a, b, c):
    median = max(min(a, b), min(max(a, b), c))
    return median * median


@inlined
def squared_minimum(a, b):
    least = min(a, b)
    return least * least


@inlined
def medrv_step(f, i, p, t, x, w):
    """What is left: both sums, how many returns."""
    r = x[0]
    nothing_left(w)
    if math.isnan(r):
        return False
    n = i[COUNT]
    if is_turning(i):
        oldest, second, third = f[_RETURNS + slot_at(i, 0)], f[_RETURNS + slot_at(i, 1)], f[_RETURNS + slot_at(i, 2)]
        one_before, before = f[_RETURNS + slot_at(i, n - 2)], f[_RETURNS + slot_at(i, n - 1)]
        sum_replace(f, 0, squared_median(oldest, second, third), squared_median(one_before, before, r))
        sum_replace(f, SUM, squared_minimum(oldest, second), squared_minimum(before, r))
        f[_RETURNS + turn(i)] = r
    else:
        while is_due(i, t):
            oldest = f[_RETURNS + drop(i)]
            if i[COUNT] > 0:
                second = f[_RETURNS + slot_at(i, 0)]
                add_to(f, SUM, -squared_minimum(oldest, second))
                if i[COUNT] > 1:
                    add_to(f, 0, -squared_median(oldest, second, f[_RETURNS + slot_at(i, 1)]))
        if is_full(i):
            return True
        f[_RETURNS + push(i, t)] = r
        n = i[COUNT]
        if n > 1:
            before = f[_RETURNS + slot_at(i, n - 2)]
            sum_add(f, SUM, squared_minimum(before, r))
            if n > 2:
                sum_add(f, 0, squared_median(f[_RETURNS + slot_at(i, n - 3)], before, r))
    if seldom(is_rebuild_due(i) or sum_is_worn(f, 0) or sum_is_worn(f, SUM)):
        sum_clear(f, 0)
        sum_clear(f, SUM)
        last, one_before = 0.0, 0.0
        for k in range(n):
            value = f[_RETURNS + slot_at(i, k)]
            if k > 0:
                sum_add(f, SUM, squared_minimum(last, value))
            if k > 1:
                sum_add(f, 0, squared_median(one_before, last, value))
            last, one_before = value, last
    if is_ready(i):
        w[0], w[1], w[2] = total_of(f, 0), total_of(f, SUM), n
    return False


@inlined
def medrv_rows(f, i, p, ring, x, w, apart):
    """The same for a block."""
    if not can_turn(i, x.shape[0]):
        return False
    old, new = neighbours(i, ring, x, w, apart)
    largest = largest_beside = 0
    for k in range(x.shape[0]):
        oldest, second, before, r = w[old + k], w[old + 1 + k], w[new + 1 + k], w[new + 2 + k]
        median, least = squared_median(w[new + k], before, r), squared_minimum(before, r)
        largest, largest_beside = max(largest, bits_of(median)), max(largest_beside, bits_of(least))
        gone = squared_median(oldest, second, w[old + 2 + k])
        change_terms(w, k, apart, gone, median, squared_minimum(oldest, second), least)
    return two_sums_rows(f, i, ring, x, w, apart, largest, largest_beside)


@inlined
def medrv_finish(p, w, y):
    y[0] = finite(_MED * w[2] / (w[2] - 2.0) * w[0])
    y[1] = finite(_MIN * w[2] / (w[2] - 1.0) * w[1])


MEDRV = Kernel(
    name="medrv", module=__name__,
    formula="medrv = π/(6−4√3+π)·(w/(w−2))·Σ med(|r_{i−1}|, |r_i|, |r_{i+1}|)²; "
    "minrv = π/(π−2)·(w/(w−1))·Σ min(|r_i|, |r_{i+1}|)²",
    inputs=("r",), outputs=(Output("medrv"), Output("minrv")), parameters=window_parameter(20, fewest=3),
    prepare=size_of_return, prepared=1, step=medrv_step, together=medrv_rows, finish=medrv_finish, left=LEFT,
    start=lambda values: windowed(values, own=_RETURNS, fewest=3), grow=Growing(_RETURNS), first="w",
    oracle="naive loop; unbiased on Gaussian returns", source="Andersen, Dobrev & Schaumburg 2012",
    differs="The median of three neighbours squared, summed; not w times the median of r².",
)  # fmt: skip


# -- riskmetrics_vol ---------------------------------------------------------------------------------------------------


@inlined
def riskmetrics_vol_step(f, i, p, t, x, y):
    square = x[0] * x[0]
    no_output(y)
    if not math.isfinite(square):
        return False
    f[0] = p[0] * f[0] + (1.0 - p[0]) * square if i[0] else square
    i[0] = 1
    y[0] = root(f[0])
    y[1] = f[0]
    return False


RISKMETRICS_VOL = Kernel(
    name="riskmetrics_vol", module=__name__, formula="v = λv + (1−λ)r², v₁ = r₁²; vol = √v", inputs=("r",),
    outputs=(Output("vol", help="the forecast for the next row"), Output("var")),
    parameters=(Parameter(name="lambda_", kind="float", default=0.94, low=0.0, below=1.0, help="weight of the old value"),),
    registers=(1, 1), step=riskmetrics_vol_step, start=lambda values: plain(1, 1, values["lambda_"]), first="1",
    oracle="pandas ewm(alpha=0.06) of r²", source="RiskMetrics 1996",
    differs="0.94 is the weight of the old variance, and the mean is taken as zero.",
)  # fmt: skip


# -- the range of bars ----------------------------------------------------------------------------------------------------
# A bar can be used when its prices are above zero and its high is not below its low.


@inlined
def is_range(high, low):
    return is_quote(low, high)


@inlined
def is_bar(opened, high, low, close):
    return is_range(high, low) and is_price(opened) and is_price(close)


_PER_RANGE = 1.0 / (4.0 * LN2)


@inlined
def parkinson_term(p, x, z):
    log_range = log(x[0] / x[1])
    z[0] = finite(log_range * log_range * _PER_RANGE) if is_range(x[0], x[1]) else math.nan


@inlined
def garman_klass_term(p, x, z):
    log_range, gain = log(x[1] / x[2]), log(x[3] / x[0])
    term = 0.5 * log_range * log_range - (2.0 * LN2 - 1.0) * gain * gain
    z[0] = finite(term) if is_bar(x[0], x[1], x[2], x[3]) else math.nan


@inlined
def rogers_satchell(up, down, gain):
    """ln(H/C)ln(H/O) + ln(L/C)ln(L/O), all from the open: ln(H/O), ln(L/O), ln(C/O)."""
    return up * (up - gain) + down * (down - gain)


@inlined
def rogers_satchell_term(p, x, z):
    term = rogers_satchell(log(x[1] / x[0]), log(x[2] / x[0]), log(x[3] / x[0]))
    z[0] = finite(term) if is_bar(x[0], x[1], x[2], x[3]) else math.nan


@inlined
def root_of_mean(p, w, y):
    y[0] = root(w[0] / w[1])


_STRAY = "A mean below zero, which only an open or close outside the range can cause, has no root: NaN."


def _of_bars(name: str, inputs: str, formula: str, term: Any, source: str, alias: str, differs: str = _STRAY) -> Kernel:
    return Kernel(
        name=name, module=__name__, formula=formula, inputs=tuple(inputs), outputs=(Output("vol", help="of one bar"),),
        parameters=window_parameter(20), prepare=term, prepared=1,
        step=sum_step, together=sum_rows, finish=root_of_mean, left=2,
        start=lambda values: windowed(values, own=SUM), grow=Growing(SUM), first="w",
        oracle="closed form", source=source, differs=differs, aliases=(alias,),
    )  # fmt: skip


PARKINSON = _of_bars(
    "parkinson", "HL", "vol = √(⟨ln²(H/L)⟩/(4 ln 2))", parkinson_term, "Parkinson 1980", "parkinson_vol",
    "No drift is allowed for, and the range of few trades is too small.",
)  # fmt: skip
GARMAN_KLASS = _of_bars(
    "garman_klass", "OHLC", "vol = √⟨½ln²(H/L) − (2 ln 2 − 1)ln²(C/O)⟩", garman_klass_term,
    "Garman & Klass 1980", "gk_vol",
)  # fmt: skip
ROGERS_SATCHELL = _of_bars(
    "rogers_satchell", "OHLC", "vol = √⟨ln(H/C)ln(H/O) + ln(L/C)ln(L/O)⟩; right under drift", rogers_satchell_term,
    "Rogers & Satchell 1991", "rogers_satchell_vol",
)  # fmt: skip

# f: moments of ln(O/C₋), moments of ln(C/O), sum of the Rogers-Satchell terms, the last close as `log_parts` (NaN: none), ring
_GAIN, _RS, _CLOSE, _BARS = MOMENTS, 2 * MOMENTS, 2 * MOMENTS + SUM, 2 * MOMENTS + SUM + 2


@inlined
def yang_zhang_terms(p, x, z):
    """ln(C/O), the Rogers-Satchell term (NaN: the bar cannot be used), O and C as `log_parts`."""
    of_open, log_open = log_parts(x[0])
    of_high, log_high = log_parts(x[1])
    of_low, log_low = log_parts(x[2])
    of_close, log_close = log_parts(x[3])
    gain = (of_close - of_open) * LN2 + (log_close - log_open)
    up, down = (of_high - of_open) * LN2 + (log_high - log_open), (of_low - of_open) * LN2 + (log_low - log_open)
    z[0] = gain
    z[1] = rogers_satchell(up, down, gain) if is_bar(x[0], x[1], x[2], x[3]) else math.nan
    z[2], z[3], z[4], z[5] = of_open, log_open, of_close, log_close


@inlined
def yang_zhang_step(f, i, p, t, x, w):
    """What is left: the sums of squares of both moments, the sum of the terms, n."""
    gain, term = x[0], x[1]
    nothing_left(w)
    if math.isnan(term):
        return False
    if math.isnan(f[_CLOSE]):
        f[_CLOSE], f[_CLOSE + 1] = x[4], x[5]
        return False
    jump = (x[2] - f[_CLOSE]) * LN2 + (x[3] - f[_CLOSE + 1])
    if is_turning(i):
        slot = _BARS + 3 * turn(i)
        moments_replace(f, 0, i[COUNT], f[slot], jump)
        moments_replace(f, _GAIN, i[COUNT], f[slot + 1], gain)
        sum_replace(f, _RS, f[slot + 2], term)
    else:
        while is_due(i, t):
            slot = _BARS + 3 * drop(i)
            moments_remove(f, 0, i[COUNT], f[slot])
            moments_remove(f, _GAIN, i[COUNT], f[slot + 1])
            add_to(f, _RS, -f[slot + 2])
        if is_full(i):
            return True
        slot = _BARS + 3 * push(i, t)
        moments_add(f, 0, i[COUNT], jump)
        moments_add(f, _GAIN, i[COUNT], gain)
        sum_add(f, _RS, term)
    f[_CLOSE], f[_CLOSE + 1] = x[4], x[5]
    f[slot], f[slot + 1], f[slot + 2] = jump, gain, term
    if seldom(is_rebuild_due(i) or moments_are_worn(f, 0) or moments_are_worn(f, _GAIN) or sum_is_worn(f, _RS)):
        moments_of(f, 0, i, _BARS, 3, 0)
        moments_of(f, _GAIN, i, _BARS, 3, 1)
        sum_of(f, _RS, i, _BARS, 3, 2)
    if is_ready(i):
        w[0], w[1], w[2], w[3] = f[1], f[_GAIN + 1], total_of(f, _RS), i[COUNT]
    return False


@inlined
def yang_zhang_finish(p, w, y):
    """k/(n − 1) = 0.34/(2.34n − 0.34) and (1 − k)/n = 2/(2.34n − 0.34)."""
    n = w[3]
    y[0] = root(w[0] / (n - 1.0) + (0.34 * w[1] + 2.0 * w[2]) / (2.34 * n - 0.34))


def _yang_zhang_start(values: Values) -> Start:
    start = windowed(values, own=_BARS, columns=3, fewest=2)
    start.f[_CLOSE] = math.nan
    return start


YANG_ZHANG = Kernel(
    name="yang_zhang", module=__name__,
    formula="σ² = V_o + k·V_c + (1−k)V_rs; V_o = var ln(O/C₋), V_c = var ln(C/O), ddof 1; k = 0.34/(1.34 + (w+1)/(w−1))",
    inputs=("O", "H", "L", "C"), outputs=(Output("vol", help="of one bar"),), parameters=window_parameter(20, fewest=2),
    prepare=yang_zhang_terms, prepared=6, step=yang_zhang_step, finish=yang_zhang_finish, left=4,
    start=_yang_zhang_start, grow=Growing(_BARS, 3), version=3,
    first="w+1", oracle="closed form", source="Yang & Zhang 2000",
    differs="w bars that each have one before them: V_o has as many values as V_c. In a 24/7 market V_o ≈ 0.",
)  # fmt: skip


# -- atr ------------------------------------------------------------------------------------------------------------------


@inlined
def atr_step(f, i, p, t, x, y):
    """f: the last close, the sum of the first n true ranges, then their average; i: bars so far, up to n + 1."""
    high, low, close = x[0], x[1], x[2]
    no_output(y)
    if not (math.isfinite(high) and math.isfinite(low) and math.isfinite(close) and high >= low):
        return False
    before, n = f[0], p[0]
    f[0] = close
    if i[0] == 0:
        i[0] = 1
        return False
    true_range = max(high - low, abs(high - before), abs(low - before))
    y[1] = finite(true_range)
    if i[0] <= n:
        f[1] += true_range
        i[0] += 1
        if i[0] <= n:
            return False
        f[1] /= n
    else:
        f[1] = ((n - 1.0) * f[1] + true_range) / n
    y[0] = finite(f[1])
    return False


ATR = Kernel(
    name="atr", module=__name__,
    formula="tr = max(H−L, |H−C₋|, |L−C₋|); atr: the mean of the first n, then ((n−1)·atr + tr)/n", inputs=("H", "L", "C"),
    outputs=(Output("atr"), Output("tr")), parameters=(Parameter(name="n", kind="int", default=14, low=1, help="bars"),),
    registers=(2, 1), step=atr_step, start=lambda values: plain(2, 1, values["n"]), first="n+1 bars (tr 2)", oracle="TA-Lib",
    source="Wilder 1978",
    differs="The first bar has no close before it, so no true range; the average starts with the mean, not the first one.",
)  # fmt: skip

KERNELS = (
    REALIZED_VAR, BIPOWER_VAR, MEDRV, RISKMETRICS_VOL, PARKINSON, GARMAN_KLASS, ROGERS_SATCHELL, YANG_ZHANG, ATR,
)  # fmt: skip
