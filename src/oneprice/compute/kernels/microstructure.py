"""Microstructure of the touch: prices between bid and ask, their spread, their imbalance, and what flows through them.

A touch can be used when both prices are above 0 and the bid is not above the ask; an empty side has no price.

Steps are inlined into the loops over rows: a call with six arrays would cost more than the arithmetic (trade_sign 26 ns
against 3)."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Floats, Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.rows import finite, is_price, is_qty, is_quote, ratio, stateless
from oneprice.compute.kernels.windows import (
    SEEN,
    SPAN,
    TIMES,
    TOTAL,
    Growing,
    add_to,
    is_ready,
    no_output,
    nothing_left,
    total_within,
    totals_push,
    window_parameter,
    windowed,
)

_NO_TOUCH = "A crossed touch or an empty side (price 0) gives NaN and leaves the state as it is."


# -- prices between bid and ask -----------------------------------------------------------------------------------------


@inlined
def midprice_step(f, i, p, t, x, y):
    bid, ask = x[0], x[1]
    usable = is_price(bid) and is_price(ask) and (bid <= ask or p[0] == 1.0)
    y[0] = 0.5 * bid + 0.5 * ask if usable else math.nan
    return False


MIDPRICE = Kernel(
    name="midprice", module=__name__, formula="m = (a + b)/2", inputs=("b", "a"), outputs=(Output("m"),),
    parameters=(Parameter(name="allow_crossed", kind="bool", default=False, help="also where the bid is above the ask"),),
    step=midprice_step, start=lambda values: stateless(float(values["allow_crossed"])), first="1", oracle="closed form",
    differs="A crossed touch has no mid unless allowed; a missing side (NaN or 0) has none.",
)  # fmt: skip


@inlined
def microprice_step(f, i, p, t, x, y):
    """p: whether by tables; buckets of imbalance, tick, then g in ticks, bucket by bucket, a column a spread in ticks."""
    bid, ask, bid_qty, ask_qty = x[0], x[1], x[2], x[3]
    y[0] = math.nan
    if not (is_quote(bid, ask) and is_qty(bid_qty) and is_qty(ask_qty) and bid_qty + ask_qty > 0.0):
        return False
    imbalance = bid_qty / (bid_qty + ask_qty)
    if p[0] == 0.0:
        y[0] = bid + (ask - bid) * imbalance
        return False
    buckets, tick = int(p[1]), p[2]
    spreads = (p.shape[0] - 3) // buckets
    spread = math.floor((ask - bid) / tick + 0.5)
    if 1 <= spread <= spreads:
        place = imbalance * buckets
        # on a border the mean of both sides: a balanced touch favours neither
        low, high = max(0, math.ceil(place) - 1), min(buckets - 1, math.floor(place))
        g = 0.5 * (p[3 + low * spreads + spread - 1] + p[3 + high * spreads + spread - 1])
        y[0] = 0.5 * bid + 0.5 * ask + tick * g
    return False


def _microprice_start(values: Values) -> Start:
    if values["method"] == "weighted_mid":
        return stateless(0.0)
    for name in ("tables", "tick"):
        if values[name] is None:
            raise KernelError(f"microprice: {name} is missing: method='stoikov' needs it (see microprice_tables)")
    buckets, tables = values["buckets"], values["tables"]
    if len(tables) % buckets:
        raise KernelError(
            f"microprice: tables holds {len(tables)} numbers; it must be a multiple of {buckets} (buckets)"
        )
    return stateless(1.0, buckets, values["tick"], *tables)


MICROPRICE = Kernel(
    name="microprice", module=__name__,
    formula="weighted_mid: (b·A + a·B)/(A + B); stoikov: m + tick·g(I, S), I the bucket of B/(A + B), S the spread in ticks",
    inputs=("b", "a", "B", "A"), outputs=(Output("p"),),
    parameters=(
        Parameter(name="method", kind="choice", default="weighted_mid", choices=("weighted_mid", "stoikov")),
        Parameter(name="tables", kind="floats", help="stoikov: g in ticks, buckets × spreads, row by row (microprice_tables)"),
        Parameter(name="tick", kind="float", above=0.0, help="stoikov: the price step"),
        Parameter(name="buckets", kind="int", default=10, low=2, help="stoikov: of the imbalance, equally wide"),
    ),
    step=microprice_step, start=_microprice_start, first="1", oracle="closed form; naive Markov solve",
    source="Stoikov 2018, The micro-price",
    differs="The weighted mid is not Stoikov's microprice. A spread that the tables do not hold has no price. " + _NO_TOUCH,
)  # fmt: skip


def microprice_tables(
    b: Floats, a: Floats, bid_qty: Floats, ask_qty: Floats, *, tick: float, buckets: int = 10, spreads: int = 2
) -> tuple[float, ...]:
    """Stoikov's adjustment g in ticks for each bucket of imbalance and each spread of 1 … `spreads` ticks, from quotes.

    Q: transitions without a move of the mid, R: moves of K ∈ {±½, ±1} tick, T: where they lead;
    g₁ = (I−Q)⁻¹R·K, B = (I−Q)⁻¹T, g = Σ Bⁱg₁. Every transition is also counted mirrored, which makes the sum converge. A
    state that the quotes never leave has g = 0. KernelError where the quotes hold too little to solve.
    """
    usable = (b > 0) & (b <= a) & np.isfinite(a) & (bid_qty >= 0) & (ask_qty >= 0) & (bid_qty + ask_qty > 0)
    b, a, bid_qty, ask_qty = b[usable], a[usable], bid_qty[usable], ask_qty[usable]
    bucket = np.minimum(np.floor(bid_qty / (bid_qty + ask_qty) * buckets), buckets - 1).astype(np.int64)
    spread = np.rint((a - b) / tick).astype(np.int64)
    state, mirrored = bucket * spreads + spread - 1, (buckets - 1 - bucket) * spreads + spread - 1
    halves = np.rint(np.diff(a + b) / tick).astype(np.int64)  # moves of the mid, in half ticks
    inside = (spread >= 1) & (spread <= spreads)
    counted = inside[:-1] & inside[1:] & (np.abs(halves) <= 2)
    n = buckets * spreads
    stays, moves, drift = np.zeros((n, n)), np.zeros((n, n)), np.zeros(n)
    for states, sign in ((state, 1), (mirrored, -1)):
        before, after, moved = states[:-1][counted], states[1:][counted], halves[counted]
        np.add.at(stays, (before[moved == 0], after[moved == 0]), 1.0)
        np.add.at(moves, (before[moved != 0], after[moved != 0]), 1.0)
        np.add.at(drift, before, sign * 0.5 * moved)
    total = np.maximum(1.0, stays.sum(axis=1) + moves.sum(axis=1))
    left = np.eye(n) - stays / total[:, None]
    try:
        adjustment = np.linalg.solve(left, drift / total)
        onward = np.linalg.solve(left, moves / total[:, None])
    except np.linalg.LinAlgError as singular:
        raise KernelError(
            "microprice_tables: some states are never left by a move of the mid: more quotes"
        ) from singular
    g = term = adjustment
    for _ in range(100_000):
        term = onward @ term
        g = g + term
        if np.abs(term).max() < 1e-14:
            return tuple(g.tolist())
    raise KernelError("microprice_tables: the sum does not converge: more quotes, or fewer buckets and spreads")


@inlined
def quoted_spread_step(f, i, p, t, x, y):
    bid, ask = x[0], x[1]
    spread = ask - bid if is_quote(bid, ask) else math.nan
    y[0] = finite(1e4 * spread / (0.5 * bid + 0.5 * ask))
    y[1] = spread
    return False


QUOTED_SPREAD = Kernel(
    name="quoted_spread", module=__name__, formula="1e4(a − b)/m; a − b", inputs=("b", "a"),
    outputs=(Output("bps"), Output("abs", help="in the price's units")), step=quoted_spread_step,
    start=lambda values: stateless(), first="1", oracle="closed form",
    differs="Basis points are not price units, which stand beside them. " + _NO_TOUCH,
)  # fmt: skip


@inlined
def l1_imbalance_step(f, i, p, t, x, y):
    bid_qty, ask_qty = x[0], x[1]
    usable = is_qty(bid_qty) and is_qty(ask_qty) and bid_qty + ask_qty > 0.0
    y[0] = (bid_qty - ask_qty) / (bid_qty + ask_qty) if usable else math.nan
    return False


L1_IMBALANCE = Kernel(
    name="l1_imbalance", module=__name__, formula="(B − A)/(B + A)", inputs=("B", "A"), outputs=(Output("i"),),
    step=l1_imbalance_step, start=lambda values: stateless(), first="1", oracle="closed form",
)  # fmt: skip


# -- flow through the touch ---------------------------------------------------------------------------------------------
# f: the touch before (b, a, B, A), sums over the window, the ring; i[SEEN]: whether there is a touch before


@inlined
def flow(bid, bid_qty, bid_before, bid_qty_before, ask, ask_qty, ask_before, ask_qty_before):
    """e = 1{b≥b₋}B − 1{b≤b₋}B₋ − 1{a≤a₋}A + 1{a≥a₋}A₋."""
    bought = (bid >= bid_before) * bid_qty - (bid <= bid_before) * bid_qty_before
    return bought - (ask <= ask_before) * ask_qty + (ask >= ask_before) * ask_qty_before


@inlined
def keep_touch(f, i, x):
    f[0], f[1], f[2], f[3] = x[0], x[1], x[2], x[3]
    i[SEEN] = 1


_SUMS, _OFI_RING = 4, 4 + TOTAL


@inlined
def ofi_step(f, i, p, t, x, y):
    no_output(y)
    if not (is_quote(x[0], x[1]) and is_qty(x[2]) and is_qty(x[3])):
        return False
    if i[SEEN] == 1:
        if totals_push(f, i, t, _SUMS, _OFI_RING):
            return True
        y[0] = finite(flow(x[0], x[2], f[0], f[2], x[1], x[3], f[1], f[3]))
        add_to(f, _SUMS, y[0])
        if is_ready(i):
            y[1] = finite(total_within(f, i, _SUMS, _OFI_RING))
    keep_touch(f, i, x)
    return False


OFI = Kernel(
    name="ofi", module=__name__, formula="e = 1{b≥b₋}B − 1{b≤b₋}B₋ − 1{a≤a₋}A + 1{a≥a₋}A₋; its sum over w",
    inputs=("b", "a", "B", "A"), outputs=(Output("e"), Output("sum")), parameters=window_parameter("1s"), step=ofi_step,
    start=lambda values: windowed(values, own=_OFI_RING, columns=TOTAL), grow=Growing(_OFI_RING, TOTAL), version=2,
    first="2", oracle="naive loop", source="Cont, Kukanov & Stoikov 2014",
    differs="What stood at the old price is taken off when the price moves, and the last touch is kept across batches. "
    + _NO_TOUCH,
)  # fmt: skip

_BEGAN, _QUEUE_TIMES, _QUEUE_RING = TIMES, TIMES + 1, 4 + 2 * TOTAL


@inlined
def depleted(price, qty, before, qty_before, retreats):
    """What left a queue since the touch before: all of it where the touch retreats, none where it improves."""
    return (price == before) * max(0.0, qty_before - qty) + retreats * qty_before


@inlined
def queue_depletion_step(f, i, p, t, x, w):
    """What is left: what left each queue, and what stands in it."""
    nothing_left(w)
    if not (is_quote(x[0], x[1]) and is_qty(x[2]) and is_qty(x[3])):
        return False
    if i[SEEN] == 0:
        i[_BEGAN] = t
    elif totals_push(f, i, t, _SUMS, _QUEUE_RING, 2, _QUEUE_TIMES):
        return True
    else:
        add_to(f, _SUMS, depleted(x[0], x[2], f[0], f[2], x[0] < f[0]))
        add_to(f, _SUMS + TOTAL, depleted(x[1], x[3], f[1], f[3], x[1] > f[1]))
    keep_touch(f, i, x)
    if t - i[_BEGAN] >= i[SPAN]:
        for side in range(2):
            w[side] = total_within(f, i, _SUMS, _QUEUE_RING, 2, side)
            w[2 + side] = x[2 + side]
    return False


@inlined
def queue_depletion_finish(p, w, y):
    """p: the window in ns."""
    for side in range(2):
        rate = finite(max(0.0, w[side]) * 1e9 / p[0])
        y[2 * side], y[2 * side + 1] = rate, ratio(w[2 + side], rate)


QUEUE_DEPLETION = Kernel(
    name="queue_depletion", module=__name__,
    formula="d = max(0, B₋ − B) at an unchanged price, B₋ when the touch retreats, 0 when it improves; rate = Σd/w; B/rate",
    inputs=("b", "a", "B", "A"),
    outputs=(
        Output("rate_bid", help="quantity a second"), Output("seconds_left_bid"),
        Output("rate_ask", help="quantity a second"), Output("seconds_left_ask"),
    ),
    parameters=(Parameter(name="w", kind="duration", default="5s"),), step=queue_depletion_step,
    finish=queue_depletion_finish, left=4,
    start=lambda values: windowed(
        values | {"min_obs": None}, own=_QUEUE_RING, columns=2 * TOTAL, own_ints=1, parameters=[float(values["w"].ns)]
    ),
    grow=Growing(_QUEUE_RING, 2 * TOTAL, 1), version=2, first="w after the first row", oracle="naive loop", needs_time=True,
    differs="A queue that nothing leaves has no seconds left to tell: NaN, not infinity. " + _NO_TOUCH,
)  # fmt: skip

KERNELS = (MIDPRICE, MICROPRICE, QUOTED_SPREAD, L1_IMBALANCE, OFI, QUEUE_DEPLETION)
