"""Perpetuals and dated futures: what funding is worth and costs, basis and its term structure, fair prices, open interest.

A funding rate is a fraction for one interval of `interval_h` hours; when it is positive, longs pay shorts."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import expm1, log, log1p
from oneprice.compute.kernels.rows import BPS, all_finite, finite, is_positive, is_price, is_quote, stateless
from oneprice.compute.kernels.windows import (
    COUNT,
    HEAD,
    SPAN,
    SUM,
    TIMES,
    TOTAL,
    Growing,
    add_to,
    by_count,
    drop,
    drop_until,
    is_due,
    is_full,
    is_ready,
    no_output,
    nothing_left,
    push,
    sum_row,
    total_of,
    total_within,
    totals_push,
    window_parameter,
    windowed,
)

HOURS_A_YEAR = 8_760.0
DAYS_A_YEAR = 365.0
NS_PER_HOUR = 3_600_000_000_000
_LAST_NS = 9.2e18  # times beyond do not fit into 64 bits
_INTERVAL = Parameter(name="interval_h", kind="float", default=8.0, above=0.0, help="hours between settlements")

# -- funding ----------------------------------------------------------------------------------------------------------


@inlined
def funding_rates(p, x, z):
    """apr (NaN: the row cannot be used) and apy."""
    rate, interval_h = x[0], x[1]
    periods = HOURS_A_YEAR / interval_h
    z[0] = finite(rate * periods) if is_price(interval_h) else math.nan
    z[1] = finite(expm1(log1p(rate) * periods)) if rate > -1.0 else math.nan


@inlined
def funding_apr_step(f, i, p, t, x, y):
    no_output(y)
    if math.isnan(x[0]):
        return False
    if sum_row(f, i, t, x[0]):
        return True
    y[0], y[1] = x[0], x[1]
    if is_ready(i):
        y[2] = total_of(f, 0) / i[COUNT]
    return False


FUNDING_APR = Kernel(
    name="funding_apr", module=__name__,
    formula="apr = rate·8760/interval_h; apy = (1+rate)^(8760/interval_h) − 1; mean_apr over w",
    inputs=("rate", "interval_h"), outputs=(Output("apr"), Output("apy"), Output("mean_apr")),
    parameters=window_parameter(21), prepare=funding_rates, prepared=2, step=funding_apr_step,
    start=lambda values: windowed(values, own=SUM), grow=Growing(SUM), version=2,
    first="1 (mean w)", oracle="closed form, pandas rolling",
    differs="The interval is an input: venues change it from 8 h to 4 h or 1 h. A year has 8760 hours.",
)  # fmt: skip


@inlined
def funding_cost_step(f, i, p, t, x, y):
    """f: what was settled (two places), then quantity, mark and rate of the row before; i: begun, the next settlement."""
    no_output(y)
    q, mark, rate, next_t = x[0], x[1], x[2], x[3]
    if not (all_finite(x) and mark > 0.0 and 0.0 <= next_t < _LAST_NS):
        return False
    interval, venue_next = int(p[0]), int(next_t)
    if p[1] == 1.0:
        if i[0] == 1:
            add_to(f, 0, -f[2] * (rate - f[4]))
        i[0] = 1
        f[2], f[3], f[4] = q, mark, rate
        y[0], y[1] = finite(total_of(f, 0)), 0.0
        return False
    if i[0] == 0:
        i[0], i[1] = 1, venue_next
        if venue_next <= t:
            i[1] += ((t - venue_next) // interval + 1) * interval
    else:
        settled = 0
        if t >= i[1]:
            settled = (t - i[1]) // interval + 1
        elif venue_next > i[1]:  # the venue's clock is ahead of ours: it has settled already
            settled = 1
        if settled > 0:
            add_to(f, 0, -settled * f[2] * f[3] * f[4])
        i[1] = venue_next if venue_next > t else i[1] + settled * interval
    f[2], f[3], f[4] = q, mark, rate
    left = min(i[1] - t, interval)
    y[0] = finite(total_of(f, 0))
    y[1] = finite(-q * mark * rate * (1.0 - left / interval))
    return False


FUNDING_COST = Kernel(
    name="funding_cost", module=__name__,
    formula="at settlement −q·mark·rate, summed; accrued = −q·mark·rate·(1 − time_left/interval); continuous: −q·Δindex",
    inputs=("q", "mark", "rate", "next_t"),
    outputs=(
        Output("paid", help="settled so far, as cash flow to the position: negative when it has paid"),
        Output("accrued", help="an estimate of the next settlement's part so far, not in `paid`"),
    ),
    parameters=(
        _INTERVAL,
        Parameter(
            name="method", kind="choice", default="settled", choices=("settled", "continuous"),
            help="continuous: `rate` is the venue's funding index, in quote currency a unit; next_t is not used",
        ),
    ),
    step=funding_cost_step,
    start=lambda values: Start(
        np.zeros(5), np.zeros(2, dtype=np.int64),
        np.array([values["interval_h"] * NS_PER_HOUR, float(values["method"] == "continuous")]),
    ),
    first="1", needs_time=True, oracle="ledger identity",
    differs="Every settlement counts, with the position, mark and rate of the last row before it; after a silence over "
    "several, each is booked with those. q is signed. A venue that names the next settlement before our clock has reached "
    "this one has settled.",
)  # fmt: skip


@inlined
def funding_breakeven_step(f, i, p, t, x, y):
    cost_bps, rate = x[0], x[1]
    intervals = cost_bps / (BPS * rate)
    # 3 bps at 0.0003 are one interval, though 1e4·0.0003 falls short of 3 by its last bit.
    begun = np.ceil(intervals - 1e-12 * abs(intervals))
    is_usable = math.isfinite(cost_bps) and is_positive(rate) and abs(intervals) < 1e18
    needed = (begun if begun > 0.0 else 0.0) if is_usable else math.nan
    y[0], y[1] = needed, needed * p[0]
    return False


FUNDING_BREAKEVEN = Kernel(
    name="funding_breakeven", module=__name__, formula="⌈cost_bps/(1e4·rate)⌉ intervals when rate > 0, else NaN",
    inputs=("cost_bps", "rate"), outputs=(Output("intervals"), Output("hours")), parameters=(_INTERVAL,),
    step=funding_breakeven_step, start=lambda values: stateless(values["interval_h"]), first="1", oracle="closed form",
    differs="A cost below zero is earned at once: 0 intervals.",
)  # fmt: skip

# -- basis ------------------------------------------------------------------------------------------------------------


@inlined
def basis_annualized_step(f, i, p, t, x, y):
    is_usable = is_price(x[0]) and is_price(x[1]) and is_price(x[2])
    years, ratio = x[2] / DAYS_A_YEAR, x[1] / x[0]
    simple, log_basis = finite((ratio - 1.0) / years), finite(log(ratio) / years)
    y[0] = simple if is_usable else math.nan
    y[1] = log_basis if is_usable else math.nan
    return False


BASIS_ANNUALIZED = Kernel(
    name="basis_annualized", module=__name__, formula="(F/S−1)·365/days and ln(F/S)·365/days", inputs=("S", "F", "days"),
    outputs=(Output("simple"), Output("log")), step=basis_annualized_step, start=lambda values: stateless(), first="1",
    oracle="closed form", differs="A perpetual has no days: NaN, not 90; its carry is funding.",
)  # fmt: skip


@inlined
def term_structure_step(f, i, p, t, x, y):
    """f: years and basis of the tenors that are there, nearest first."""
    no_output(y)
    width = (x.shape[0] - 1) // 2
    spot = x[2 * width]
    if not is_price(spot):
        return False
    n = 0
    for k in range(width):
        years, future = x[k], x[width + k]
        if not (is_price(years) and is_price(future)):
            continue
        basis = (future / spot - 1.0) / years
        if not math.isfinite(basis):
            continue
        y[k] = basis
        place = n
        while place > 0 and f[place - 1] > years:
            f[place], f[width + place] = f[place - 1], f[width + place - 1]
            place -= 1
        f[place], f[width + place] = years, basis
        n += 1
    if n < 2:
        no_output(y)
        return False
    mean_years, mean_basis = 0.0, 0.0
    above, below = 0, 0
    for k in range(n):
        mean_years += f[k] / n
        mean_basis += f[width + k] / n
        above += 1 if f[width + k] > 0.0 else 0
        below += 1 if f[width + k] < 0.0 else 0
    squares, products = 0.0, 0.0
    for k in range(n):
        squares += (f[k] - mean_years) * (f[k] - mean_years)
        products += (f[k] - mean_years) * (f[width + k] - mean_basis)
    if squares > 0.0:
        y[width] = finite(products / squares)
    if n >= 3:
        y[width + 1] = finite(f[width] - 2.0 * f[width + 1] + f[width + 2])
    y[width + 2] = 1.0 if above == n else -1.0 if below == n else 0.0
    return False


def _term_outputs(values: Values) -> tuple[Output, ...]:
    return (
        *(Output(f"basis_{k + 1}", help="a year") for k in range(values["tenors"])),
        Output("slope", help="of the annual basis on years"),
        Output("curvature", help="second difference of the three nearest tenors"),
        Output("contango", "int8", help="1 when all futures are above spot, -1 when all are below, else 0"),
    )


TERM_STRUCTURE = Kernel(
    name="term_structure", module=__name__,
    formula="basis_i = (F_i/S−1)/T_i; slope of basis on T by least squares; curvature = basis₁ − 2·basis₂ + basis₃",
    inputs=("YEARS", "FUTURES", "S"), outputs=_term_outputs({"tenors": 3}), outputs_by=_term_outputs,
    widths_by=lambda values: {"YEARS": values["tenors"], "FUTURES": values["tenors"]},
    parameters=(Parameter(name="tenors", kind="int", default=3, low=2, help="columns of YEARS and FUTURES"),),
    step=term_structure_step,
    start=lambda values: Start(np.zeros(2 * values["tenors"]), np.zeros(0, dtype=np.int64), np.zeros(0)),
    first="2 tenors", cost="O(k)", oracle="np.polyfit",
    differs="A tenor without a price is left out; tenors may come in any order.",
)  # fmt: skip


@inlined
def cash_and_carry_edge_step(f, i, p, t, x, y):
    """p: perpetual, interval_h, hold_h."""
    spot, future, fees, financing, term = x[0], x[1], x[2] / BPS, x[3], x[4]
    if p[0] == 1.0:
        years = p[2] / HOURS_A_YEAR
        edge = term * HOURS_A_YEAR / p[1] - fees / years - financing
    else:
        years = term / DAYS_A_YEAR
        edge = ((future - spot) / spot - fees) / years - financing
    held = BPS * edge * years
    is_usable = is_price(spot) and is_price(future) and years > 0.0 and math.isfinite(edge) and math.isfinite(held)
    y[0] = edge if is_usable else math.nan
    y[1] = held if is_usable else math.nan
    return False


CASH_AND_CARRY_EDGE = Kernel(
    name="cash_and_carry_edge", module=__name__,
    formula="dated: [(F_b−S_a)/S_a − fees]·365/days − r; perpetual: rate·8760/interval_h − fees·8760/hold_h − r",
    inputs=("S", "F", "fees_bps", "r", "term"),
    outputs=(Output("edge_apr"), Output("edge_bps", help="over the days to expiry, or the hours held")),
    parameters=(
        Parameter(
            name="kind", kind="choice", default="dated", choices=("dated", "perpetual"),
            help="of the contract sold: `term` is its days to expiry, or its funding rate an interval",
        ),
        _INTERVAL,
        Parameter(name="hold_h", kind="float", default=720.0, above=0.0, help="hours that a perpetual is held"),
    ),
    step=cash_and_carry_edge_step,
    start=lambda values: stateless(float(values["kind"] == "perpetual"), values["interval_h"], values["hold_h"]), first="1",
    oracle="closed form",
    differs="The short receives positive funding. S is the spot ask, F the future's bid, fees those of all fills of both "
    "legs, r a year's financing as a fraction.",
)  # fmt: skip

# -- fair price -------------------------------------------------------------------------------------------------------


@inlined
def perp_fair_price_step(f, i, p, t, x, w):
    """What is left: the index, rate·(ns to the next funding), the sum of mid − index (NaN before there are enough), how many,
    the last price."""
    nothing_left(w)
    index, rate, next_t, b, a, last = x[0], x[1], x[2], x[3], x[4], x[5]
    if not (is_price(index) and math.isfinite(rate) and is_price(last) and is_quote(b, a)):
        return False
    if not 0.0 <= next_t < _LAST_NS:
        return False
    if totals_push(f, i, t, 0, TOTAL):
        return True
    add_to(f, 0, 0.5 * (b + a) - index)
    w[0], w[1], w[3], w[4] = index, rate * max(0, int(next_t) - t), i[COUNT], last
    w[2] = total_within(f, i, 0, TOTAL) if is_ready(i) else math.nan
    return False


@inlined
def perp_fair_price_finish(p, w, y):
    """p: interval in ns, method, κ/(κ − (r_quote − r_base))."""
    index, last = w[0], w[4]
    y[0] = finite(index * (1.0 + w[1] / p[0]))
    y[1] = finite(index + w[2] / w[3])
    if p[1] == 1.0:
        y[2] = y[0]
    elif p[1] == 2.0:
        y[2] = finite(index * p[2])
    else:
        between = max(min(y[0], y[1]), min(max(y[0], y[1]), last))
        y[2] = between if math.isfinite(y[0]) and math.isfinite(y[1]) else math.nan


_METHODS = ("median", "funding", "no_arbitrage")


def _perp_fair_price_start(values: Values) -> Start:
    kappa, interest = HOURS_A_YEAR / values["interval_h"], values["r_quote"] - values["r_base"]
    if interest >= kappa:
        raise KernelError(
            f"perp_fair_price: r_quote={values['r_quote']!r}: r_quote − r_base must be below 8760/interval_h, {kappa:g}"
        )
    parameters = [
        values["interval_h"] * NS_PER_HOUR, float(_METHODS.index(values["method"])), kappa / (kappa - interest)
    ]  # fmt: skip
    return windowed(values, own=TOTAL, columns=TOTAL, name="ma", parameters=parameters)


PERP_FAIR_PRICE = Kernel(
    name="perp_fair_price", module=__name__,
    formula="price1 = index(1 + rate·left/interval), price2 = index + MA(mid − index), mark = median(price1, price2, last); "
    "no_arbitrage: index·κ/(κ − (r_q − r_b)), κ = 8760/interval_h",
    inputs=("index", "rate", "next_t", "b", "a", "last"), outputs=(Output("price1"), Output("price2"), Output("mark")),
    parameters=(
        *window_parameter("300s", name="ma"), _INTERVAL,
        Parameter(name="method", kind="choice", default="median", choices=_METHODS, help="of the mark"),
        Parameter(name="r_quote", kind="float", default=0.0, help="interest of the quote currency a year (no_arbitrage)"),
        Parameter(name="r_base", kind="float", default=0.0, help="interest of the base currency a year (no_arbitrage)"),
    ),
    step=perp_fair_price_step, finish=perp_fair_price_finish, left=5, start=_perp_fair_price_start,
    grow=Growing(TOTAL, TOTAL), version=2, first="1", needs_time=True, oracle="closed form",
    source="Ackerer, Hugonnier & Jermann 2024; He, Manela, Ross & von Wachter 2022",
    differs="Funding or basis, never both added. Once next_t has passed, nothing is left of the interval. A crossed quote "
    "makes the row unusable.",
)  # fmt: skip

# -- open interest ----------------------------------------------------------------------------------------------------


@inlined
def open_interest_delta_step(f, i, p, t, x, w):
    """The ring keeps the last row at or before t − lag, and all behind it. What is left: both of then, and of now."""
    nothing_left(w)
    interest, price = x[0], x[1]
    if not (math.isfinite(interest) and interest >= 0.0 and is_price(price)):
        return False
    if not by_count(i):
        drop_until(i, t - i[SPAN], TIMES, 1)
    is_there = is_due(i, t)
    was_interest, was_price = f[2 * i[HEAD]], f[2 * i[HEAD] + 1]
    if by_count(i) and is_there:
        drop(i)
    if is_full(i):
        return True
    slot = 2 * push(i, t)
    f[slot], f[slot + 1] = interest, price
    if is_there:
        w[0], w[1], w[2], w[3] = was_interest, was_price, interest, price
    return False


@inlined
def open_interest_delta_finish(p, w, y):
    delta, move = w[2] - w[0], w[3] - w[1]
    y[0] = delta
    y[1] = finite(100.0 * delta / w[0]) if w[0] > 0.0 else math.nan
    y[2] = (delta != 0.0 and move != 0.0) * (1.0 + 2.0 * (move < 0.0) + (delta < 0.0))


OPEN_INTEREST_DELTA = Kernel(
    name="open_interest_delta", module=__name__,
    formula="delta = oi − oi₋, pct = 100·delta/oi₋; state by (Δp, Δoi), both against the last row at or before t − lag",
    inputs=("oi", "p"),
    outputs=(
        Output("delta"), Output("pct", help="percent"),
        Output(
            "state", "int8",
            help="1 (+,+) long build-up, 2 (+,-) short covering, 3 (-,+) short build-up, 4 (-,-) long liquidation, "
            "0 when either stands still",
        ),
    ),
    parameters=(
        Parameter(name="lag", kind="window", default="1h", low=1, help="back to the row compared with: rows, or a duration"),
    ),
    step=open_interest_delta_step, finish=open_interest_delta_finish, left=4,
    start=lambda values: windowed({"w": values["lag"], "min_obs": None}, own=0, columns=2), grow=Growing(0, 2),
    first="lag", oracle="naive", differs="The rows looked back on are kept across batches.",
)  # fmt: skip

KERNELS = (
    FUNDING_APR, FUNDING_COST, FUNDING_BREAKEVEN, BASIS_ANNUALIZED, TERM_STRUCTURE, CASH_AND_CARRY_EDGE, PERP_FAIR_PRICE,
    OPEN_INTEREST_DELTA,
)  # fmt: skip
