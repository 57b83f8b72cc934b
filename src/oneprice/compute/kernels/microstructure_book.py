"""Microstructure of the book: imbalance, mid, slope and order flow over several levels.

A level without quantity is missing, whatever its price says. A book can be used when no quantity among the levels that are
read is negative or NaN, every level that is there has a price above 0, and its best bid is not above its best ask."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import (
    BOOK,
    Floats,
    Ints,
    Kernel,
    KernelError,
    Output,
    Parameter,
    Start,
    Values,
)
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.microstructure import flow
from oneprice.compute.kernels.numbers import exp, log
from oneprice.compute.kernels.rows import finite, ratio, stateless
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    SEEN,
    TOTAL,
    Growing,
    add_to,
    is_ready,
    no_output,
    total_within,
    totals_push,
    window_parameter,
    windowed,
)

_LEVELS = Parameter(name="levels", kind="int", default=5, low=1, help="of each side; missing ones count 0")


@inlined
def is_side(x, prices, quantities, levels):
    """Whether every level is empty or has a price; without a branch, so that it is done several levels at a time."""
    good = True
    for k in range(levels):
        price, qty = x[prices + k], x[quantities + k]
        good &= (qty == 0.0) | ((qty > 0.0) & (qty < math.inf) & (price > 0.0) & (price < math.inf))
    return good


@inlined
def is_book(x, depth, levels):
    """Whether the first levels of a book of that depth can be used."""
    levels = min(levels, depth)
    if not (is_side(x, 0, depth, levels) & is_side(x, 2 * depth, 3 * depth, levels)):
        return False
    return not (is_two_sided(x, depth) and x[0] > x[2 * depth])


@inlined
def is_two_sided(x, depth):
    return x[depth] > 0.0 and x[3 * depth] > 0.0


# -- imbalance and mid ----------------------------------------------------------------------------------------------------


@inlined
def depth_imbalance_step(f, i, p, t, x, y):
    """p: levels, bps from the mid (or infinity), what a level weighs against the one before."""
    depth = x.shape[0] // 4
    levels = depth if p[1] < math.inf else min(depth, int(p[0]))
    y[0] = math.nan
    if not is_book(x, depth, levels) or (p[1] < math.inf and not is_two_sided(x, depth)):
        return False
    mid = 0.5 * x[0] + 0.5 * x[2 * depth]
    reach = math.inf if p[1] == math.inf else p[1] * 1e-4 * mid
    difference, total, weight = 0.0, 0.0, 1.0
    for k in range(levels):
        bid_qty, ask_qty = x[depth + k], x[3 * depth + k]
        if p[1] < math.inf:
            if bid_qty > 0.0 and not mid - x[k] <= reach:
                bid_qty = 0.0
            if ask_qty > 0.0 and not x[2 * depth + k] - mid <= reach:
                ask_qty = 0.0
        difference += weight * (bid_qty - ask_qty)
        total += weight * (bid_qty + ask_qty)
        weight *= p[2]
    if total > 0.0:
        y[0] = difference / total
    return False


def _depth_imbalance_start(values: Values) -> Start:
    levels, within_bps = values["levels"], values["within_bps"]
    if levels is not None and within_bps is not None:
        raise KernelError("depth_imbalance: levels and within_bps both say how deep to look: give one of them")
    return stateless(
        5 if levels is None else levels, math.inf if within_bps is None else within_bps, exp(-values["decay"])
    )


DEPTH_IMBALANCE = Kernel(
    name="depth_imbalance", module=__name__,
    formula="Σω_i(B_i − A_i)/Σω_i(B_i + A_i), ω_i = e^(−decay·(i−1)), i the level",
    inputs=(BOOK,), outputs=(Output("i"),),
    parameters=(
        Parameter(name="levels", kind="int", low=1, help="of each side; 5 where within_bps is not given"),
        Parameter(name="within_bps", kind="float", above=0.0, help="instead: all levels as near to the mid as that"),
        Parameter(name="decay", kind="float", default=0.0, low=0.0, help="a level"),
    ),
    step=depth_imbalance_step, start=_depth_imbalance_start, constants=3, first="1", cost="O(L)", oracle="NumPy",
    differs="Missing levels count 0, so that one empty side gives ±1; no level at all gives NaN.",
)  # fmt: skip


@inlined
def depth_weighted_mid_step(f, i, p, t, x, y):
    depth = x.shape[0] // 4
    levels = min(depth, int(p[0]))
    y[0] = math.nan
    if not is_book(x, depth, levels):
        return False
    bid_value, bid_qty, ask_value, ask_qty = 0.0, 0.0, 0.0, 0.0
    for k in range(levels):
        if x[depth + k] > 0.0:
            bid_value += x[k] * x[depth + k]
            bid_qty += x[depth + k]
        if x[3 * depth + k] > 0.0:
            ask_value += x[2 * depth + k] * x[3 * depth + k]
            ask_qty += x[3 * depth + k]
    if bid_qty > 0.0 and ask_qty > 0.0:
        bid = bid_value / bid_qty
        y[0] = finite(bid + (ask_value / ask_qty - bid) * (bid_qty / (bid_qty + ask_qty)))
    return False


DEPTH_WEIGHTED_MID = Kernel(
    name="depth_weighted_mid", module=__name__, formula="P_s = Σp_iQ_i/ΣQ_i a side; (P_b·Q_a + P_a·Q_b)/(Q_a + Q_b)",
    inputs=(BOOK,), outputs=(Output("p"),), parameters=(_LEVELS,), step=depth_weighted_mid_step,
    constants=1, start=lambda values: stateless(values["levels"]), first="1", cost="O(L)", oracle="NumPy",
    differs="Each side's average is weighted with the other side's quantity. An empty side gives NaN.",
)  # fmt: skip


# -- slope ----------------------------------------------------------------------------------------------------------------


@inlined
def slope_of_line(x, prices, quantities, levels, mid):
    """Cumulative quantity on distance in bps, least squares through the origin."""
    total, products, squares, share = 0.0, 0.0, 0.0, 1e4 / mid
    for k in range(levels):
        if x[quantities + k] > 0.0:
            total += x[quantities + k]
            distance = abs(x[prices + k] - mid) * share
            products += distance * total
            squares += distance * distance
    return ratio(products, squares)


@inlined
def slope_of_naes_skjeltorp(x, prices, quantities, levels, mid, lot):
    total, sum_, n = 0.0, 0.0, 0
    price_before, log_before = mid, 0.0
    for k in range(levels):
        if x[quantities + k] > 0.0:
            total += x[quantities + k]
            log_total = log(total / lot)
            distance = abs(x[prices + k] / price_before - 1.0)
            if distance == 0.0 or (n > 0 and log_before == 0.0):
                return math.nan
            sum_ += (log_total / log_before - 1.0 if n > 0 else log_total) / distance
            price_before, log_before = x[prices + k], log_total
            n += 1
    return sum_ / n if n > 0 and abs(sum_) < math.inf else math.nan


@inlined
def book_slope_step(f, i, p, t, x, y):
    """p: levels, lot (0: linear)."""
    depth = x.shape[0] // 4
    levels = min(depth, int(p[0]))
    no_output(y)
    if not (is_book(x, depth, levels) and is_two_sided(x, depth)):
        return False
    mid = 0.5 * x[0] + 0.5 * x[2 * depth]
    for side in range(2):
        prices, quantities = 2 * side * depth, (2 * side + 1) * depth
        if p[1] == 0.0:
            y[side] = slope_of_line(x, prices, quantities, levels, mid)
        else:
            y[side] = slope_of_naes_skjeltorp(x, prices, quantities, levels, mid, p[1])
    y[2] = 0.5 * y[0] + 0.5 * y[1]
    return False


BOOK_SLOPE = Kernel(
    name="book_slope", module=__name__,
    formula="linear: Σd_iQ_i/Σd_i², Q_i cumulative, d_i bps from the mid; naes_skjeltorp: (1/N)[v₁/|p₁/m−1| + "
    "Σ(v_{i+1}/v_i−1)/|p_{i+1}/p_i−1|], v = ln of cumulative lots; slope: the mean of both sides",
    inputs=(BOOK,), outputs=(Output("slope_bid"), Output("slope_ask"), Output("slope")),
    parameters=(
        Parameter(name="levels", kind="int", default=10, low=1, help="of each side"),
        Parameter(name="method", kind="choice", default="linear", choices=("linear", "naes_skjeltorp")),
        Parameter(name="lot", kind="float", default=1.0, above=0.0, help="naes_skjeltorp: the quantity of one lot"),
    ),
    step=book_slope_step, constants=2,
    start=lambda values: stateless(values["levels"], 0.0 if values["method"] == "linear" else values["lot"]),
    first="1", cost="O(L)", oracle="NumPy", source="Næs & Skjeltorp 2006",
    differs="Logarithms are of lots, so the lot has to be said. A touch that is locked at the mid has no slope.",
)  # fmt: skip


# -- order flow over levels -------------------------------------------------------------------------------------------------
# f: the levels before (bid price, bid quantity, ask price, ask quantity of each), for each level the running totals of e and of
# its depth, the ring. A missing bid stands at price 0, a missing ask at infinity.

_LEVEL = 4  # places of a level before, and as many of its totals


@inlined
def price_of(x, prices, quantities, depth, k, missing):
    return x[prices * depth + k] if k < depth and x[quantities * depth + k] > 0.0 else missing


@inlined
def qty_of(x, quantities, depth, k):
    return x[quantities * depth + k] if k < depth else 0.0


@inlined
def multi_level_ofi_step(f, i, p, t, x, y):
    """p: the levels' weights, whose absolute values add up to 1."""
    depth, levels = x.shape[0] // 4, p.shape[0]
    totals, ring = _LEVEL * levels, 2 * _LEVEL * levels
    no_output(y)
    if not is_book(x, depth, levels):
        return False
    follows = i[SEEN] == 1
    if follows and totals_push(f, i, t, totals, ring, 2 * levels):
        return True
    for k in range(levels):
        bid, ask = price_of(x, 0, 1, depth, k, 0.0), price_of(x, 2, 3, depth, k, math.inf)
        bid_qty, ask_qty = qty_of(x, 1, depth, k), qty_of(x, 3, depth, k)
        before, of_level = _LEVEL * k, totals + _LEVEL * k
        if follows:
            e = flow(bid, bid_qty, f[before], f[before + 1], ask, ask_qty, f[before + 2], f[before + 3])
            add_to(f, of_level, e)
            add_to(f, of_level + TOTAL, 0.5 * (bid_qty + ask_qty))
        f[before], f[before + 1], f[before + 2], f[before + 3] = bid, bid_qty, ask, ask_qty
    i[SEEN] = 1
    if follows and is_ready(i):
        integrated = 0.0
        for k in range(levels):
            average = total_within(f, i, totals, ring, 2 * levels, 2 * k + 1) / i[COUNT]
            e = total_within(f, i, totals, ring, 2 * levels, 2 * k)
            y[k] = e / average if average > 0.0 else math.nan
            integrated += p[k] * y[k]
        y[levels] = integrated
    return False


def _multi_level_ofi_start(values: Values) -> Start:
    levels = values["levels"]
    weights = np.array(values["weights"] if values["weights"] is not None else [1.0] * levels)
    if len(weights) != levels:
        raise KernelError(
            f"multi_level_ofi: weights holds {len(weights)} numbers; it must be one for each of {levels} levels"
        )
    if not np.any(weights):
        raise KernelError("multi_level_ofi: weights are all 0; one at least must not be")
    weights = weights / np.abs(weights).sum()
    return windowed(values, own=2 * _LEVEL * levels, columns=2 * TOTAL * levels, parameters=weights.tolist())


def _multi_level_ofi_grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    levels = len(f) // (2 * _LEVEL + 2 * TOTAL * int(i[CAPACITY]))
    return Growing(2 * _LEVEL * levels, 2 * TOTAL * levels)(f, i)


def _multi_level_ofi_outputs(values: Values) -> tuple[Output, ...]:
    return (*(Output(f"e{level}") for level in range(1, values["levels"] + 1)), Output("integrated"))


MULTI_LEVEL_OFI = Kernel(
    name="multi_level_ofi", module=__name__,
    formula="e_m = Σ_w ofi of level m/⟨(B_m + A_m)/2⟩; integrated = Σω_m e_m/Σ|ω_m|",
    inputs=(BOOK,), outputs=_multi_level_ofi_outputs({"levels": 5}), outputs_by=_multi_level_ofi_outputs,
    parameters=(
        _LEVELS, *window_parameter("1s"),
        Parameter(name="weights", kind="floats", help="one a level; the first principal component (ofi_weights), or equal"),
    ),
    step=multi_level_ofi_step, start=_multi_level_ofi_start, grow=_multi_level_ofi_grow, version=2, first="2",
    cost="O(M)", oracle="naive loop; scikit-learn PCA", source="Xu, Gould & Howison 2018; Cont, Cucuringu & Zhang 2023",
    differs="Each level is divided by its own average depth over the window. A level that was never there gives NaN.",
)  # fmt: skip


def ofi_weights(e: Floats) -> tuple[float, ...]:
    """Weights for `multi_level_ofi` from its outputs e₁ … e_M (rows × levels): the first principal component, its absolute
    values adding up to 1, its sum positive. KernelError for fewer than two complete rows."""
    complete = e[np.isfinite(e).all(axis=1)]
    if len(complete) < 2:
        raise KernelError(f"ofi_weights: e holds {len(complete)} complete rows; it must hold 2 at least")
    first = np.linalg.eigh(np.atleast_2d(np.cov(complete, rowvar=False)))[1][:, -1]
    weights = first * (1.0 if first.sum() >= 0.0 else -1.0) / np.abs(first).sum()
    return tuple(weights.tolist())


KERNELS = (DEPTH_IMBALANCE, MULTI_LEVEL_OFI, BOOK_SLOPE, DEPTH_WEIGHTED_MID)
