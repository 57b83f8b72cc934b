"""How an order is worked over time: its best schedule, its children, and what a schedule would have got.

A row of optimal_ac_schedule and of iceberg_slicer is a whole order and has many answers, its periods or its children, each
with the order's row number. What cannot be an order has no answers."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import BOOK, Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.execution import WEIGHTED, WEIGHTED_MEAN, WEIGHTED_ORIGIN, weighted_add, wholes_in
from oneprice.compute.kernels.inlining import inlined, outlined
from oneprice.compute.kernels.numbers import exp, expm1, log1p
from oneprice.compute.kernels.rows import BPS, all_finite, finite, is_price, is_qty, is_quote, plain, ratio
from oneprice.compute.kernels.windows import add_to, no_output, total_of
from oneprice.compute.lanes import whole

_ROW = Output("row", "int64", help="of the order, from 0")
_MOST_ANSWERS = 1e6  # periods or children: more is no order but an error

# -- optimal_ac_schedule ----------------------------------------------------------------------------------------------
# f: the order: X, τ, κτ, E, V, and what is held before the next period; i: rows so far, the order's periods, those answered

_X, _TAU, _KAPPA_TAU, _E, _V, _HELD = range(6)
_ROWS, _PERIODS, _ANSWERED = range(3)


@inlined
def held_after(f, n, j):
    """X·sinh(κ(T − t_j))/sinh(κT), in a form that does not overflow; j of n."""
    left, whole = f[_KAPPA_TAU] * (n - j), f[_KAPPA_TAU] * n
    if whole < 1e-8:  # a straight line to the last bit
        return f[_X] * ((n - j) / n)
    return f[_X] * exp(left - whole) * (expm1(-2.0 * left) / expm1(-2.0 * whole))


@outlined
def optimal_ac_schedule_step(f, i, p, t, x, y):
    i[_ROWS] += 1
    i[_PERIODS], i[_ANSWERED] = 0, 0
    held, horizon, periods, sigma, eta, gamma, epsilon, aversion = x[0], x[1], x[2], x[3], x[4], x[5], x[6], x[7]
    if not (all_finite(x) and held != 0.0 and horizon > 0.0 and 1.0 <= periods <= _MOST_ANSWERS):
        return False
    if periods != math.floor(periods) or min(sigma, eta, gamma, epsilon, aversion) < 0.0:
        return False
    n = np.int64(periods)
    tau = horizon / n
    temporary = eta - 0.5 * gamma * tau
    if not temporary > 0.0:
        return False
    half = 0.5 * aversion * sigma * sigma / temporary * tau * tau
    f[_X], f[_TAU], f[_HELD] = held, tau, held
    f[_KAPPA_TAU] = log1p(half + math.sqrt(half) * math.sqrt(half + 2.0))  # arccosh(1 + half)
    squares, traded, trades = 0.0, 0.0, 0.0
    before = held
    for j in range(1, n + 1):
        after = held_after(f, n, j)
        squares += after * after
        traded += abs(before - after)
        trades += (before - after) * (before - after)
        before = after
    f[_E] = 0.5 * gamma * held * held + epsilon * traded + temporary / tau * trades
    f[_V] = sigma * sigma * tau * squares
    if math.isfinite(f[_KAPPA_TAU]) and math.isfinite(f[_E]) and math.isfinite(f[_V]):
        i[_PERIODS] = n
    return False


@outlined
def optimal_ac_schedule_ready(f, i, p, y):
    if i[_ANSWERED] == i[_PERIODS]:
        return False
    j = i[_ANSWERED] + 1
    held = held_after(f, i[_PERIODS], j)
    numbers = whole(y)
    numbers[0], numbers[1] = i[_ROWS] - 1, j
    y[2], y[3], y[4], y[5], y[6] = j * f[_TAU], held, f[_HELD] - held, f[_E], f[_V]
    f[_HELD] = held
    i[_ANSWERED] = j
    return True


OPTIMAL_AC_SCHEDULE = Kernel(
    name="optimal_ac_schedule", module=__name__, aliases=("ac_schedule",),
    formula="τ = T/N, η̃ = eta − gamma·τ/2, κ̃² = lambda_·sigma²/η̃, κ = arccosh(1 + κ̃²τ²/2)/τ, "
    "x_j = X·sinh(κ(T − t_j))/sinh(κT), n_j = x_{j−1} − x_j; E = ½·gamma·X² + epsilon·Σ|n| + (η̃/τ)Σn², V = sigma²·τ·Σx_j²",
    inputs=("X", "T", "N", "sigma", "eta", "gamma", "epsilon", "lambda_"),
    outputs=(
        _ROW, Output("j", "int64", "period, 1 … N"), Output("t_j", help="its end, in the unit of T"),
        Output("x", help="still held at its end"), Output("n", help="traded in it"),
        Output("E", help="expected cost of the whole order"), Output("V", help="its variance"),
    ),
    step=optimal_ac_schedule_step, ready=optimal_ac_schedule_ready, start=lambda values: plain(6, 3), first="1",
    cost="O(N)", oracle="quadratic solve", source="Almgren & Chriss 2000",
    differs="κ comes from η̃ in discrete time, not from √(gamma/(2·eta·sigma²)). lambda_ = 0 is the straight line. sigma is a "
    "price change over the root of T's unit, eta a price change per quantity over T's unit, gamma one per quantity, epsilon "
    "one by itself. Without η̃ > 0 there is no best schedule. X is signed and what it buys is negative.",
)  # fmt: skip

# -- iceberg_slicer ---------------------------------------------------------------------------------------------------
# i: rows so far, the random numbers' state, the next child; f: what is left, what is shown, the total. What is left and the
# total are in lots where there is a lot.

_RANDOM, _CHILD = 1, 2
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_UNIT = 2.0**-53


@inlined
def uniform(i):
    """The next random number in [−1, 1) (SplitMix64, Steele, Lea & Flood 2014)."""
    state = np.uint64(i[_RANDOM]) + _SPREAD
    i[_RANDOM] = np.int64(state)
    state = (state ^ (state >> np.uint64(30))) * _MIX_1
    state = (state ^ (state >> np.uint64(27))) * _MIX_2
    state ^= state >> np.uint64(31)
    return 2.0 * (np.float64(state >> np.uint64(11)) * _UNIT) - 1.0


@outlined
def iceberg_slicer_step(f, i, p, t, x, y):
    """p: jitter, lot (0: none)."""
    quantity, display, lot = x[0], x[1], p[1]
    i[_ROWS] += 1
    i[_CHILD] = 1
    f[0] = 0.0
    if not (is_price(quantity) and is_price(display) and quantity <= _MOST_ANSWERS * display * (1.0 - p[0])):
        return False
    if lot > 0.0:
        lots = np.floor(quantity / lot + 0.5)
        if not (lots >= 1.0 and abs(quantity / lot - lots) <= 1e-9 + 1e-15 * lots):
            return False
        quantity = lots
    f[0], f[1], f[2] = quantity, display, quantity
    return False


@outlined
def iceberg_slicer_ready(f, i, p, y):
    left, lot = f[0], p[1]
    if left == 0.0:
        return False
    child = f[1] * (1.0 + p[0] * uniform(i))
    # Without a lot a child is rounded to the total's last bit, so that nothing is lost where children are summed.
    child = max(1.0, wholes_in(child, lot)) if lot > 0.0 else (f[2] + child) - f[2]
    if not left - child > 1e-9 * child:  # what is less is rounding, not a child
        child = left
    f[0] = left - child
    numbers = whole(y)
    numbers[0], numbers[1] = i[_ROWS] - 1, i[_CHILD]
    y[2] = child * lot if lot > 0.0 else child
    i[_CHILD] += 1
    return True


def _iceberg_start(values: Values) -> Start:
    start = plain(3, 3, values["jitter"], values["lot"] or 0.0)
    start.i[_RANDOM] = values["seed"]
    return start


ICEBERG_SLICER = Kernel(
    name="iceberg_slicer", module=__name__,
    formula="children display·(1 + u), u uniform in ±jitter; the last one is what is left",
    inputs=("Q", "display"), outputs=(_ROW, Output("child", "int64", "1, 2, …"), Output("qty")),
    parameters=(
        Parameter(name="jitter", kind="float", default=0.2, low=0.0, below=1.0, help="share of display"),
        Parameter(name="seed", kind="int", default=0, low=0, high=2**32 - 1, help="the same orders have the same children"),
        Parameter(name="lot", kind="float", above=0.0, help="children are whole lots, one at least; none where not given"),
    ),
    step=iceberg_slicer_step, ready=iceberg_slicer_ready, start=_iceberg_start, first="1", cost="O(n)", oracle="sum identity",
    differs="The children sum to Q exactly, with a lot in lots: an order that is not of whole lots, or of more than a million "
    "children, has none. Children that are all alike show the order to everybody who looks for them.",
)  # fmt: skip

# -- schedule_simulator -----------------------------------------------------------------------------------------------
# f: filled (quantity, average price and what weighted_add keeps), scheduled so far with its rest, what of it is left, the
# price at arrival

_SCHEDULED, _LEFT, _ARRIVAL = WEIGHTED, WEIGHTED + 2, WEIGHTED + 3
_BOOKS = 1.0
_IMPACTS = ("none", "linear", "sqrt")
_LINEAR, _SQRT = 1.0, 2.0


@outlined
def walk(x, begin, levels, most, share):
    """(quantity, money) of taking as much as `most` from these levels and at most `share` of what they hold; NaN for levels
    that cannot be."""
    there = 0.0
    for k in range(begin, begin + levels):
        if math.isnan(x[k]) or math.isnan(x[k + levels]):
            continue
        if not (is_price(x[k]) and is_qty(x[k + levels])):
            return math.nan, math.nan
        there += x[k + levels]
    taken = min(most, share * there)
    left, money = taken, 0.0
    for k in range(begin, begin + levels):
        if left > 0.0 and not (math.isnan(x[k]) or math.isnan(x[k + levels])):
            part = min(left, x[k + levels])
            left -= part
            money += part * x[k]
    return taken - left, money


@outlined
def schedule_simulator_step(f, i, p, t, x, y):
    """p: side, max_part, against books, impact, its size (a ratio)."""
    no_output(y)
    side, share, levels = p[0], p[1], (x.shape[0] - 3) // 4
    bids, asks = 3, 3 + 2 * levels
    if not is_qty(x[0]):
        return False
    if p[2] == _BOOKS:
        if levels == 0 or not is_quote(x[bids], x[asks]):
            return False
        now = 0.5 * (x[bids] + x[asks])
    else:
        now = x[1]
        if not (is_price(now) and is_qty(x[2])):
            return False
    wanted = f[_LEFT] + x[0]
    if p[2] == _BOOKS:
        fill, money = walk(x, asks if side > 0.0 else bids, levels, wanted, share)
        if math.isnan(fill):
            return False
        price = money / fill if fill > 0.0 else math.nan
    else:
        fill = min(wanted, share * x[2])
        part = fill / x[2] if x[2] > 0.0 else 0.0
        worse = part if p[3] == _LINEAR else math.sqrt(part) if p[3] == _SQRT else 0.0
        price = now * (1.0 + side * p[4] * worse) if fill > 0.0 else math.nan
    if fill > 0.0 and not is_price(price):
        return False
    if f[_ARRIVAL] == 0.0:
        f[_ARRIVAL] = now
    add_to(f, _SCHEDULED, x[0])
    f[_LEFT] = left = wanted - fill
    if fill > 0.0:
        weighted_add(f, price, fill)
    filled, arrival, scheduled = total_of(f, 0), f[_ARRIVAL], total_of(f, _SCHEDULED)
    y[0], y[1], y[2], y[4] = finite(fill), finite(price), finite(filled), finite(left)
    cost = left * (now - arrival)
    if filled > 0.0:
        y[3] = finite(f[WEIGHTED_ORIGIN] + f[WEIGHTED_MEAN])
        cost += filled * (f[WEIGHTED_ORIGIN] - arrival + f[WEIGHTED_MEAN])
    y[5] = ratio(BPS * side * cost, scheduled * arrival)
    return False


def _simulator_start(values: Values) -> Start:
    by_books, impact, size = values["market"] == "books", values["impact"], values["impact_bps"]
    if by_books and impact != "none":
        raise KernelError(f"schedule_simulator: impact={impact!r}: of books it must be none, the levels are the impact")
    if impact != "none" and size is None:
        raise KernelError("schedule_simulator: impact_bps is missing: it must be a number at least 0")
    side = 1.0 if values["side"] == "buy" else -1.0
    return plain(
        WEIGHTED + 4, 0, side, values["max_part"], float(by_books), float(_IMPACTS.index(impact)), (size or 0.0) / BPS
    )


SCHEDULE_SIMULATOR = Kernel(
    name="schedule_simulator", module=__name__,
    formula="wanted = n + left; fill = min(wanted, max_part·V) at p·(1 ± impact), or what the levels of the other side "
    "give, at most max_part of them; shortfall = side·(Σfill·(price − arrival) + left·(p − arrival)) over Σn·arrival",
    inputs=("n", "p", "V", BOOK),
    outputs=(
        Output("fill"), Output("price", help="of the fill"), Output("filled", help="so far"),
        Output("avg", help="price so far"), Output("left", help="scheduled and not filled"),
        Output("shortfall_bps", help="with what is left, at the price of now"),
    ),
    parameters=(
        Parameter(name="side", kind="choice", default="buy", choices=("buy", "sell")),
        Parameter(name="market", kind="choice", default="bars", choices=("bars", "books"), help="bars: p and V; books: bk"),
        Parameter(
            name="max_part", kind="float", default=0.1, above=0.0, high=1.0,
            help="of a bar's volume, or of what all levels of the side hold, that may be taken",
        ),
        Parameter(
            name="impact", kind="choice", default="none", choices=_IMPACTS,
            help="of a bar: impact_bps times the fill's share of the volume, or times its root",
        ),
        Parameter(name="impact_bps", kind="float", low=0.0, help="of taking the whole volume; needed where there is an impact"),
    ),
    unread_by=lambda values: ("p", "V") if values["market"] == "books" else (BOOK,),
    step=schedule_simulator_step, start=_simulator_start, first="1", cost="O(levels)", oracle="naive",
    differs="One row a step of the schedule: n is its quantity. What a step cannot fill is tried again in the next, and what "
    "stays unfilled counts in the shortfall. arrival is the first row's p, or mid. p should be a price of the whole bar, as "
    "its vwap: a bar's open or low cannot be had for its volume.",
)  # fmt: skip

KERNELS: tuple[Kernel, ...] = (OPTIMAL_AC_SCHEDULE, SCHEDULE_SIMULATOR, ICEBERG_SLICER)
