"""Foreign exchange: cycles and crosses of executable quotes, forwards and carry, the 4 pm fix, profit in another currency.

Rates are a year and fractions (0.05: 5 %); `tau` is years. A quote whose bid is above its ask is not executable: its row
cannot be used."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Span, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import exp, log
from oneprice.compute.kernels.rows import BPS, finite, is_price, is_qty, is_quote, stateless
from oneprice.compute.kernels.windows import (
    COUNT,
    TIMES,
    Growing,
    drop_until,
    is_full,
    no_output,
    push,
    slot_at,
    windowed,
)
from oneprice.compute.lanes import whole
from oneprice.model.time import NS_PER_S

DAY_S = 86_400

# -- quotes -----------------------------------------------------------------------------------------------------------


@inlined
def triangular_edges(p, x, z):
    """p: 1 (buy the base) or −1 of each leg, then what is left of one after its fee."""
    forward, reverse, is_usable = 1.0, 1.0, True
    for leg in range(3):
        b, a, buys, left = x[2 * leg], x[2 * leg + 1], p[leg] > 0.0, p[3 + leg]
        bought, sold = left / a, b * left
        forward *= bought if buys else sold
        reverse *= sold if buys else bought
        is_usable = is_usable and is_quote(b, a)
    z[0] = finite(BPS * (forward - 1.0)) if is_usable else math.nan
    z[1] = finite(BPS * (reverse - 1.0)) if is_usable else math.nan
    z[2] = (1.0 if forward >= reverse else -1.0) if is_usable else math.nan


@inlined
def triangular_arbitrage_step(f, i, p, t, x, y):
    """Nothing hangs on the rows before: what was prepared is the answer."""
    for k in range(3):
        y[k] = x[k]
    return False


def _triangular_start(values: Values) -> Start:
    sides, fees = values["sides"], values["fee_bps"]
    if len(sides) != 3 or any(abs(side) != 1.0 for side in sides):
        raise KernelError(
            f"triangular_arbitrage: sides={sides!r}: it must be three of 1 (buy the base) and -1 (sell it)"
        )
    if len(fees) not in (1, 3):
        raise KernelError(
            f"triangular_arbitrage: fee_bps={fees!r}: it must be one fee, or one for each of the three legs"
        )
    return stateless(*sides, *(1.0 - fee / BPS for fee in (fees * 3)[:3]))


TRIANGULAR_ARBITRAGE = Kernel(
    name="triangular_arbitrage", module=__name__,
    formula="each leg multiplies by b(1−f) when its base is sold, by (1−f)/a when it is bought; edge = (product − 1)·1e4",
    inputs=("b1", "a1", "b2", "a2", "b3", "a3"),
    outputs=(
        Output("edge_fwd_bps"), Output("edge_rev_bps", help="every leg the other way"),
        Output("best", "int8", help="the direction with the larger edge: 1 forward, -1 reverse"),
    ),
    parameters=(
        Parameter(
            name="sides", kind="floats", default=(1.0, 1.0, -1.0), low=-1.0, high=1.0,
            help="forward, leg by leg: 1 buys the base, -1 sells it; the default is buy BTC/USDT, buy ETH/BTC, sell ETH/USDT",
        ),
        Parameter(name="fee_bps", kind="floats", default=(0.0, 0.0, 0.0), below=BPS, help="one for all legs, or three"),
    ),
    prepare=triangular_edges, prepared=3, step=triangular_arbitrage_step, start=_triangular_start, first="1",
    oracle="exhaustive paths over a currency graph",
    differs="Bid and ask, not mid prices; both directions; fees multiply, they are not subtracted in sum. A crossed quote "
    "makes the row unusable.",
)  # fmt: skip


@inlined
def fx_cross_price_step(f, i, p, t, x, y):
    b1, a1, b2, a2 = x[0], x[1], x[2], x[3]
    is_usable = is_quote(b1, a1) and is_quote(b2, a2)
    if p[0] == 1.0:
        b1, a1 = 1.0 / a1, 1.0 / b1
    if p[1] == 1.0:
        b2, a2 = 1.0 / a2, 1.0 / b2
    is_usable = is_usable and a2 > 0.0 and b2 > 0.0
    y[0] = finite(b1 / a2) if is_usable else math.nan
    y[1] = finite(a1 / b2) if is_usable else math.nan
    return False


FX_CROSS_PRICE = Kernel(
    name="fx_cross_price", module=__name__, formula="A/B from A/U and B/U: bid = b₁/a₂, ask = a₁/b₂",
    inputs=("b1", "a1", "b2", "a2"), outputs=(Output("bid"), Output("ask")),
    parameters=(
        Parameter(name="invert1", kind="bool", default=False, help="the first quote is U/A"),
        Parameter(name="invert2", kind="bool", default=False, help="the second quote is U/B"),
    ),
    step=fx_cross_price_step, start=lambda values: stateless(float(values["invert1"]), float(values["invert2"])),
    first="1", oracle="closed form", differs="A crossed quote makes the row unusable.",
)  # fmt: skip


@inlined
def pip_value_step(f, i, p, t, x, y):
    y[0] = math.nan
    if math.isfinite(x[0]) and is_price(x[1]):
        y[0] = finite(p[0] * x[0] * x[1])
    return False


PIP_VALUE = Kernel(
    name="pip_value", module=__name__, formula="pip·units·conv, conv from the pair's quote currency to the account's",
    inputs=("units", "conv"), outputs=(Output("value"),),
    parameters=(Parameter(name="pip", kind="float", default=1e-4, above=0.0, help="1e-2 for pairs quoted in yen"),),
    step=pip_value_step, start=lambda values: stateless(values["pip"]), first="1", oracle="closed form",
)  # fmt: skip


@inlined
def pnl_fx_step(f, i, p, t, x, y):
    q, p0, x0 = x[0], x[1], x[3]
    dp, dx = x[2] - p0, x[4] - x0
    price, fx, cross = q * x0 * dp, q * p0 * dx, q * dp * dx
    total = q * (x[2] * x[4] - p0 * x0)
    # What is not finite makes one of the products so, too.
    is_usable = math.isfinite(total) and math.isfinite(price) and math.isfinite(fx) and math.isfinite(cross)
    y[0] = total if is_usable else math.nan
    y[1] = price if is_usable else math.nan
    y[2] = fx if is_usable else math.nan
    y[3] = cross if is_usable else math.nan
    return False


PNL_FX = Kernel(
    name="pnl_fx", module=__name__, formula="q(p₁x₁ − p₀x₀) = q·x₀Δp + q·p₀Δx + qΔpΔx",
    inputs=("q", "p0", "p1", "x0", "x1"),
    outputs=(Output("pnl"), Output("price_part"), Output("fx_part"), Output("cross_part")), step=pnl_fx_step,
    start=lambda values: stateless(), first="1", oracle="identity", differs="q is a position: negative when short.",
)  # fmt: skip


# -- forwards ---------------------------------------------------------------------------------------------------------


@inlined
def forward_points_step(f, i, p, t, x, y):
    spot, base, quote, tau = x[0], x[1], x[2], x[3]
    is_usable = is_price(spot) and math.isfinite(base) and math.isfinite(quote) and 0.0 <= tau < math.inf
    if p[1] == 1.0:
        forward = spot * exp((quote - base) * tau)
    else:
        grown_quote, grown_base = 1.0 + quote * tau, 1.0 + base * tau
        is_usable = is_usable and grown_quote > 0.0 and grown_base > 0.0
        forward = spot * grown_quote / grown_base
    points = (forward - spot) / p[0]
    is_usable = is_usable and math.isfinite(points)
    y[0] = forward if is_usable else math.nan
    y[1] = points if is_usable else math.nan
    return False


FORWARD_POINTS = Kernel(
    name="forward_points", module=__name__,
    formula="F = S(1+r_q τ)/(1+r_b τ), or S·e^{(r_q−r_b)τ}; points = (F−S)/pip", inputs=("S", "r_base", "r_quote", "tau"),
    outputs=(Output("F"), Output("points", help="pips")),
    parameters=(
        Parameter(name="pip", kind="float", default=1e-4, above=0.0, help="1e-2 for pairs quoted in yen"),
        Parameter(name="compounding", kind="choice", default="simple", choices=("simple", "continuous")),
    ),
    step=forward_points_step,
    start=lambda values: stateless(values["pip"], float(values["compounding"] == "continuous")), first="1",
    oracle="closed form",
)  # fmt: skip


@inlined
def cip_basis_step(f, i, p, t, x, y):
    spot, forward, tau = x[0], x[1], x[4]
    found = finite(
        BPS * (x[2] - x[3] + p[0] * log(forward / spot) / tau)
    )  # NaN of what is not finite, and where F/S is 0
    y[0] = found if is_price(spot) and is_price(forward) and is_price(tau) else math.nan
    return False


CIP_BASIS = Kernel(
    name="cip_basis", module=__name__, formula="x = r_usd − r_for + ln(F/S)/τ, S and F in foreign per USD",
    inputs=("S", "F", "r_usd", "r_for", "tau"), outputs=(Output("basis_bps"),),
    parameters=(
        Parameter(
            name="quote", kind="choice", default="foreign_per_usd", choices=("foreign_per_usd", "usd_per_foreign"),
            help="how S and F are quoted",
        ),
    ),
    step=cip_basis_step, start=lambda values: stateless(1.0 if values["quote"] == "foreign_per_usd" else -1.0), first="1",
    oracle="closed form", source="Du, Tepper & Verdelhan 2018",
    differs="The quoting side is said, because the sign turns with it. Negative: dollars are dear through swaps. Rates are "
    "continuously compounded.",
)  # fmt: skip


@inlined
def carry_signal_step(f, i, p, t, x, y):
    spot, forward, tau, vol = x[0], x[1], x[2], x[3]
    is_usable = is_price(spot) and is_price(forward) and is_price(tau) and is_qty(vol) and forward * tau > 0.0
    carry = finite((spot - forward) / (forward * tau)) if is_usable else math.nan
    y[0] = carry
    y[1] = finite(carry / vol) if vol > 0.0 else math.nan
    return False


CARRY_SIGNAL = Kernel(
    name="carry_signal", module=__name__, formula="(S−F)/(F·τ), and divided by annual vol; S, F in domestic per foreign",
    inputs=("S", "F", "tau", "vol"), outputs=(Output("carry", help="a year"), Output("carry_to_vol")),
    step=carry_signal_step, start=lambda values: stateless(), first="1", oracle="closed form",
    source="Koijen, Moskowitz, Pedersen & Vrugt 2018",
)  # fmt: skip


# -- the 4 pm fix -----------------------------------------------------------------------------------------------------


@inlined
def days_to_year(year):
    """Days from 1970-01-01 to the first of January of a year."""
    before = year - 1
    return 365 * (year - 1970) + before // 4 - before // 100 + before // 400 - 477


@inlined
def is_london_summer(utc_s):
    """British Summer Time: from 01:00 UTC of March's last Sunday to that of October's, as in law since 1996."""
    day = utc_s // DAY_S
    year = 1970 + day * 400 // 146_097
    while days_to_year(year) > day:
        year -= 1
    while days_to_year(year + 1) <= day:
        year += 1
    last_of_march = days_to_year(year + 1) - 276  # counted from the year's end, leap days do not matter
    last_of_october = last_of_march + 214
    begin = last_of_march - (last_of_march + 4) % 7  # 1970-01-01 was a Thursday
    end = last_of_october - (last_of_october + 4) % 7
    return begin * DAY_S + 3_600 <= utc_s < end * DAY_S + 3_600


@inlined
def london_to_utc_s(local_s):
    return local_s - 3_600 if is_london_summer(local_s - 3_600) else local_s


@inlined
def wmr_schedule_step(f, i, p, t, x, y):
    """i: begin and end of the London day, begin of the window (ns); f: the target of the row before on that day."""
    if not math.isfinite(x[0]):
        no_output(y)
        return False
    if t < i[0] or t >= i[1]:
        utc_s = t // NS_PER_S
        day = (utc_s + (3_600 if is_london_summer(utc_s) else 0)) // DAY_S
        i[0] = london_to_utc_s(day * DAY_S) * NS_PER_S
        i[1] = london_to_utc_s((day + 1) * DAY_S) * NS_PER_S
        fix_s = int(p[1])
        i[2] = london_to_utc_s(day * DAY_S + fix_s) * NS_PER_S - int(0.5 * p[0])
        f[0] = 0.0
    y[0] = x[0] * min(1.0, max(0.0, (t - i[2]) / p[0]))
    y[1] = finite(y[0] - f[0])
    f[0] = y[0]
    return False


def _wmr_start(values: Values) -> Start:
    window_s, fix_s = values["window_s"], values["fix_s"]
    if not window_s / 2 <= fix_s <= DAY_S - window_s / 2:
        raise KernelError(
            f"wmr_schedule: fix_s={fix_s!r}, window_s={window_s:g}: the window around it must lie within a London day"
        )
    return Start(np.zeros(1), np.zeros(3, dtype=np.int64), np.array([window_s * NS_PER_S, float(fix_s)]))


WMR_SCHEDULE = Kernel(
    name="wmr_schedule", module=__name__,
    formula="target = Q·clip((t−t₀)/window, 0, 1), the window centred on 16:00 London time; slice = target − target₋₁",
    inputs=("Q",),
    outputs=(
        Output("target", help="of Q, to be done by now"), Output("slice", help="since the row before on this London day"),
    ),
    parameters=(
        Parameter(name="window_s", kind="float", default=300.0, above=0.0, help="five minutes since 2015-02-15, one before"),
        Parameter(
            name="fix_s", kind="int", default=16 * 3_600, low=0, high=DAY_S, help="seconds after midnight on London's clocks"
        ),
    ),
    step=wmr_schedule_step, start=_wmr_start, first="1", needs_time=True,
    oracle="naive, with the time zone database", source="WM/Refinitiv methodology; FSB 2014",
    differs="London's clocks change on their own. Every day has a fix: weekends and holidays are the caller's calendar. Each "
    "London day begins at a target of zero; Q may be signed.",
)  # fmt: skip

# fix_impact: a ring of (price, side of the order at the fix, its price, row) over what a fix looks back on and waits for;
# after the ring's own places the rows seen so far, the newest time, how many fixes wait, the place of the first of them, and
# how long a fix looks back and waits, in ns
_ROWS, _NEWEST, _WAITING, _NEXT, _PRE, _POST = range(TIMES, TIMES + 6)
_FIX_INTS = 6
_FIX_BASE = TIMES + _FIX_INTS


@inlined
def time_at(i, k):
    return i[_FIX_BASE + slot_at(i, k)]


@inlined
def fix_impact_step(f, i, p, t, x, y):
    price, side, fill = x[0], x[1], x[2]
    if is_price(price) and math.isfinite(side) and math.isfinite(fill) and (side == 0.0 or fill > 0.0):
        before = i[COUNT]
        drop_until(i, i[_NEWEST] - i[_PRE] - i[_POST], _FIX_BASE, 1)
        i[_NEXT] -= before - i[COUNT]
        if is_full(i):
            return True
        slot = 4 * push(i, t, _FIX_BASE)
        f[slot], f[slot + 1], f[slot + 2], f[slot + 3] = price, side, fill, i[_ROWS]
        i[_NEWEST] = t
        if side != 0.0:
            if i[_WAITING] == 0:
                i[_NEXT] = i[COUNT] - 1
            i[_WAITING] += 1
    i[_ROWS] += 1
    return False


@inlined
def fix_impact_ready(f, i, p, y):
    """The first row later than a fix and what it waits for lets it go, so the last one in time is the row before. Rows before
    that one had let go what is older than it looks back on, so what it looks back on is among the oldest."""
    if i[_WAITING] == 0:
        return False
    when = time_at(i, i[_NEXT])
    if when + i[_POST] >= i[_NEWEST]:
        return False  # another row of that very time may follow
    slot = 4 * slot_at(i, i[_NEXT])
    sign = BPS if f[slot + 1] > 0.0 else -BPS
    fixed, after, before = f[slot], f[4 * slot_at(i, i[COUNT] - 2)], -1
    while time_at(i, before + 1) <= when - i[_PRE]:
        before += 1
    was = f[4 * slot_at(i, before)] if before >= 0 else math.nan
    whole(y)[0] = int(f[slot + 3])
    y[1] = finite(sign * (fixed - was) / was)
    y[2] = finite(sign * (f[slot + 2] - fixed) / fixed)
    y[3] = finite(sign * (after - fixed) / fixed)
    i[_WAITING] -= 1
    i[_NEXT] += 1
    while i[_WAITING] > 0 and f[4 * slot_at(i, i[_NEXT]) + 1] == 0.0:
        i[_NEXT] += 1
    return True


def _fix_impact_start(values: Values) -> Start:
    pre, post = values["pre"].ns, values["post"].ns
    start = windowed({"w": Span(pre + post), "min_obs": None}, own=0, columns=4, own_ints=_FIX_INTS)
    start.i[_PRE], start.i[_POST] = pre, post
    return start


FIX_IMPACT = Kernel(
    name="fix_impact", module=__name__,
    formula="pre = ±1e4(p_fix−p_pre)/p_pre, slip = ±1e4(fill−p_fix)/p_fix, revert = ±1e4(p_post−p_fix)/p_fix, by side",
    inputs=("p", "fix", "fill"),
    outputs=(
        Output("row", "int64", help="of the fix"), Output("pre_bps", help="NaN when no price is as old"),
        Output("slip_bps"), Output("revert_bps", help="negative: the price came back"),
    ),
    parameters=(
        Parameter(name="pre", kind="duration", default="15m", help="before the fix"),
        Parameter(name="post", kind="duration", default="15m", help="after the fix"),
    ),
    step=fix_impact_step, ready=fix_impact_ready, start=_fix_impact_start, grow=Growing(0, 4, _FIX_INTS), version=2,
    needs_time=True, first="after post", oracle="naive", source="Evans 2018",
    differs="`fix` is the side of our order (1 buys, -1 sells) in the row that holds the fix price, 0 in all others; `fill`, "
    "our average price, is looked at there only (give 0 elsewhere). p_pre and p_post are the last prices at or before "
    "those times.",
)  # fmt: skip

KERNELS = (
    TRIANGULAR_ARBITRAGE, FORWARD_POINTS, CIP_BASIS, CARRY_SIGNAL, PIP_VALUE, FX_CROSS_PRICE, WMR_SCHEDULE, FIX_IMPACT, PNL_FX,
)  # fmt: skip
