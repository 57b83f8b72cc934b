"""Where an order goes: which venues it is split over, and at which prices quotes may stand.

Inputs in capitals are matrices: one column a venue, or one a level of each venue, venue after venue."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Kernel, Output, Parameter, Values
from oneprice.compute.kernels.execution import is_side, wholes_in
from oneprice.compute.kernels.inlining import inlined, outlined
from oneprice.compute.kernels.numbers import log1p
from oneprice.compute.kernels.rows import BPS, finite, is_price, is_qty, plain, ratio, stateless
from oneprice.compute.kernels.windows import no_output

# -- smart_order_router -----------------------------------------------------------------------------------------------
# f, by venue: quantity taken, quantity of its levels so far, money for what is taken, whether it is out, the level it is at;
# then the heap: all-in prices (of a sell negative) and their venues

_TAKEN, _SHOWN, _PAID, _OUT, _LEVEL, _HEAP, _VENUE = range(7)
_PARTS = 7


@outlined
def sift(f, k, size, at):
    """Let the heap's entry `at` sink to its place: the best all-in price first, of equal ones the venue named first."""
    while True:
        least = at
        for child in range(2 * at + 1, min(2 * at + 3, size)):
            ours, theirs = f[_HEAP * k + least], f[_HEAP * k + child]
            if theirs < ours or (theirs == ours and f[_VENUE * k + child] < f[_VENUE * k + least]):
                least = child
        if least == at:
            return
        for part in (_HEAP, _VENUE):
            f[part * k + at], f[part * k + least] = f[part * k + least], f[part * k + at]
        at = least


@outlined
def next_level(f, k, x, levels, venue, side):
    """The all-in price (of a sell negative) of the venue's next level that is one; inf: there is none."""
    prices, quantities, fee = 2, 2 + k * levels, x[2 + 2 * k * levels + venue] / BPS
    while f[_LEVEL * k + venue] + 1.0 < levels:
        f[_LEVEL * k + venue] += 1.0
        place = venue * levels + np.int64(f[_LEVEL * k + venue])
        if is_price(x[prices + place]) and is_price(x[quantities + place]):
            return side * x[prices + place] * (1.0 + side * fee)
    return math.inf


@outlined
def paid_for(f, k, x, levels, venue):
    """The money for what is taken of a venue, from its best level on."""
    prices, quantities = 2 + venue * levels, 2 + (k + venue) * levels
    left, money = f[_TAKEN * k + venue], 0.0
    for level in range(levels):
        if left > 0.0 and is_price(x[prices + level]) and is_price(x[quantities + level]):
            part = min(left, x[quantities + level])
            left -= part
            money += part * x[prices + level]
    return money


@outlined
def route(f, k, x, levels, wanted, side):
    """Take the merged levels, best first, in whole lots of each venue that is not out; → what is left."""
    quantities, lots = 2 + k * levels, 2 + 2 * k * levels + k
    size = 0
    for venue in range(k):
        f[_TAKEN * k + venue], f[_SHOWN * k + venue], f[_LEVEL * k + venue] = 0.0, 0.0, -1.0
        if f[_OUT * k + venue] == 0.0:
            price = next_level(f, k, x, levels, venue, side)
            if price < math.inf:
                f[_HEAP * k + size], f[_VENUE * k + size] = price, venue
                size += 1
    for at in range(size // 2 - 1, -1, -1):
        sift(f, k, size, at)
    left = wanted
    while size > 0 and left > 0.0:
        best = np.int64(f[_VENUE * k])
        place, lot = best * levels + np.int64(f[_LEVEL * k + best]), x[lots + best]
        taken = f[_TAKEN * k + best]
        f[_SHOWN * k + best] += x[quantities + place]
        upto = min(f[_SHOWN * k + best], taken + left)
        if lot > 0.0:
            upto = wholes_in(upto, lot) * lot
        if upto > taken:
            f[_TAKEN * k + best] = upto
            left -= upto - taken
            if left <= 1e-12 * wanted:  # rounding, not quantity
                left = 0.0
        f[_HEAP * k] = next_level(f, k, x, levels, best, side)
        if f[_HEAP * k] == math.inf:
            size -= 1
            f[_HEAP * k], f[_VENUE * k] = f[_HEAP * k + size], f[_VENUE * k + size]
        sift(f, k, size, 0)
    for venue in range(k):
        f[_PAID * k + venue] = paid_for(f, k, x, levels, venue)
    return left


@outlined
def smart_order_router_step(f, i, p, t, x, y):
    """p: venues, levels."""
    no_output(y)
    k, levels = np.int64(p[0]), np.int64(p[1])
    wanted, side, fees = x[0], x[1], 2 + 2 * k * levels
    lots, least = fees + k, fees + 2 * k
    if not (is_price(wanted) and is_side(side)):
        return False
    venues = 0
    for venue in range(k):
        fee = x[fees + venue] / BPS
        is_usable = math.isfinite(fee) and -1.0 < fee < 1.0 and is_qty(x[lots + venue]) and is_qty(x[least + venue])
        f[_LEVEL * k + venue] = -1.0
        is_usable = is_usable and next_level(f, k, x, levels, venue, side) < math.inf
        f[_OUT * k + venue] = 0.0 if is_usable else 1.0
        venues += 1 if is_usable else 0
    if venues == 0:
        return False
    while True:
        left = route(f, k, x, levels, wanted, side)
        worst, share = -1, 1.0 - 1e-12
        for venue in range(k):
            paid = f[_PAID * k + venue]
            if paid > 0.0 and paid < share * x[least + venue]:
                worst, share = venue, paid / x[least + venue]
        if worst < 0:
            break
        f[_OUT * k + worst] = 1.0
    filled, money, all_in = 0.0, 0.0, 0.0
    for venue in range(k):
        y[venue] = finite(f[_TAKEN * k + venue])
        filled += f[_TAKEN * k + venue]
        money += f[_PAID * k + venue]
        all_in += f[_PAID * k + venue] * (1.0 + side * x[fees + venue] / BPS) if f[_PAID * k + venue] > 0.0 else 0.0
    y[k], y[k + 1] = ratio(money, filled), ratio(all_in, filled)
    y[k + 2] = finite((wanted - left) / wanted)
    return False


def _router_outputs(values: Values) -> tuple[Output, ...]:
    return (
        *(Output(f"qty_{venue + 1}") for venue in range(values["venues"])), Output("vwap", help="of prices, without fees"),
        Output("all_in", help="vwap with fees"), Output("filled", help="share of Q"),
    )  # fmt: skip


def _router_widths(values: Values) -> dict[str, int]:
    by_level = values["venues"] * values["levels"]
    return dict.fromkeys(("PRICE", "QTY"), by_level) | dict.fromkeys(
        ("FEE_BPS", "LOT", "MIN_NOTIONAL"), values["venues"]
    )


SMART_ORDER_ROUTER = Kernel(
    name="smart_order_router", module=__name__,
    formula="the levels of all venues by all-in price p(1 ± fee), taken best first in whole lots; a venue that ends under its "
    "minimum notional is dropped and the rest routed anew",
    inputs=("Q", "side", "PRICE", "QTY", "FEE_BPS", "LOT", "MIN_NOTIONAL"),
    outputs=_router_outputs({"venues": 2}), outputs_by=_router_outputs, widths_by=_router_widths,
    parameters=(
        Parameter(name="venues", kind="int", default=2, low=1, high=1_000),
        Parameter(name="levels", kind="int", default=5, low=1, help="of a venue: PRICE and QTY hold them venue after venue"),
    ),
    step=smart_order_router_step,
    start=lambda values: plain(_PARTS * values["venues"], 0, values["venues"], values["levels"]), first="1",
    cost="O(L log V)", oracle="linear programme",
    differs="PRICE and QTY are asks for side +1 and bids for −1, best first, NaN where a venue has fewer levels; LOT and "
    "MIN_NOTIONAL are 0 where there is none. A venue without levels, fee, lot or minimum is left out. Equal prices go to the "
    "venue named first. Under their minimum, venues are dropped one by one, the one with the smallest share of it first.",
)  # fmt: skip

# -- post_only_shading ------------------------------------------------------------------------------------------------


@inlined
def post_only_shading_step(f, i, p, t, x, y):
    """p: γT, ln(1 + γ/κ)/γ."""
    y[0], y[1] = math.nan, math.nan
    bid, ask, inventory, sigma, tick = x[0], x[1], x[2], x[3], x[4]
    risk = p[0] * sigma * sigma
    are_finite = math.isfinite(ask + tick + risk * inventory + risk)
    if not (0.0 < bid <= ask and sigma >= 0.0 and tick > 0.0 and are_finite):
        return False
    reservation, half = 0.5 * (bid + ask) - risk * inventory, 0.5 * risk + p[1]
    ours_bid = wholes_in(min(reservation - half, ask - tick), tick) * tick
    ours_ask = -wholes_in(-max(reservation + half, bid + tick), tick) * tick
    if is_price(ours_bid):
        y[0] = ours_bid
    if is_price(ours_ask):
        y[1] = ours_ask
    return False


POST_ONLY_SHADING = Kernel(
    name="post_only_shading", module=__name__,
    formula="reservation m − γσ²T·inventory, half width ½γσ²T + ln(1 + γ/κ)/γ; bid = min(r − half, a − tick) down, "
    "ask = max(r + half, b + tick) up, to ticks",
    inputs=("b", "a", "inventory", "sigma", "tick"), outputs=(Output("bid"), Output("ask")),
    parameters=(
        Parameter(name="gamma", kind="float", default=0.1, above=0.0, help="risk aversion, one over money"),
        Parameter(name="kappa", kind="float", default=1.5, above=0.0, help="how fast fills thin out, one over price"),
        Parameter(name="horizon_s", kind="float", default=60.0, low=0.0),
    ),
    step=post_only_shading_step,
    start=lambda values: stateless(
        values["gamma"] * values["horizon_s"], log1p(values["gamma"] / values["kappa"]) / values["gamma"]
    ),
    first="1", oracle="closed form", source="Avellaneda & Stoikov 2008",
    differs="sigma is a price change (not a return) over the root of a second. Neither quote can take: each stays a tick away "
    "from the other side. A side whose price would not be above 0 is NaN.",
)  # fmt: skip

KERNELS = (SMART_ORDER_ROUTER, POST_ONLY_SHADING)
