"""Features: what a series was, how far it reaches and varies; signed volume, turnover; and the label to be foretold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from oneprice.compute.kernels.definition import (
    Floats,
    Ints,
    Kernel,
    KernelError,
    Output,
    Parameter,
    Span,
    Start,
    Values,
)
from oneprice.compute.kernels.extremes import enter, extremes, extremes_growing, largest, put
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import float_of
from oneprice.compute.kernels.rows import copy, finite, plain, ratio
from oneprice.compute.kernels.turning import look_back, remember
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    MOMENTS,
    PLACE,
    SPAN,
    TIMES,
    TOTAL,
    Growing,
    add_to,
    drop,
    is_ready,
    mean_of,
    moments_row,
    no_output,
    push,
    slot_at,
    total_of,
    total_within,
    totals_push,
    window_parameter,
    windowed,
)
from oneprice.compute.lanes import whole

# -- lag, diff ----------------------------------------------------------------------------------------------------------


@inlined
def lag_rows(f, i, p, ring, x, y, apart):
    """ring: the last k values, NaN at first; i: where the oldest one is."""
    look_back(ring, i[0], x, y, 0, x.shape[0])
    for k in range(x.shape[0]):
        y[k] = finite(y[k])
    i[0] = remember(ring, i[0], x)
    return True


@inlined
def lag_step(f, i, p, t, x, y):
    return not lag_rows(f, i, p, f, x, y, 1)


@inlined
def diff_rows(f, i, p, ring, x, y, apart):
    look_back(ring, i[0], x, y, 0, x.shape[0])
    for k in range(x.shape[0]):
        y[k] = finite(x[k] - y[k])
    i[0] = remember(ring, i[0], x)
    return True


@inlined
def diff_step(f, i, p, t, x, y):
    return not diff_rows(f, i, p, f, x, y, 1)


def _by_rows(name: str, output: str, formula: str, step: Any, together: Any, oracle: str) -> Kernel:
    return Kernel(
        name=name, module=__name__, formula=formula, inputs=("x",), outputs=(Output(output),),
        parameters=(Parameter(name="k", kind="int", default=1, low=1, help="rows"),), step=step, together=together,
        start=lambda values: plain(values["k"], 1)._replace(f=np.full(values["k"], np.nan)), first="k + 1", oracle=oracle,
        differs="It counts rows, not valid values: NaN passes through.",
    )  # fmt: skip


LAG = _by_rows("lag", "lag", "x₋ₖ", lag_step, lag_rows, "pandas shift")
DIFF = _by_rows("diff", "diff", "x − x₋ₖ", diff_step, diff_rows, "pandas diff")

# -- rolling_min, rolling_max -------------------------------------------------------------------------------------------


@inlined
def extreme_row(f, i, t, sign, value, y):
    """The largest of sign·x, times sign; → whether there was no room."""
    y[0] = math.nan
    if not math.isfinite(value):
        return False
    place = enter(f, i, t, 1)
    if place < 0:
        return True
    put(f, place, 0, sign * value)
    if is_ready(i):
        y[0] = sign * largest(f, i, 1, 0)
    return False


@inlined
def rolling_min_step(f, i, p, t, x, y):
    return extreme_row(f, i, t, -1.0, x[0], y)


@inlined
def rolling_max_step(f, i, p, t, x, y):
    return extreme_row(f, i, t, 1.0, x[0], y)


def _extreme(name: str, output: str, step: Any) -> Kernel:
    return Kernel(
        name=name, module=__name__, formula=f"{output} x over w", inputs=("x",), outputs=(Output(output),),
        parameters=window_parameter(), step=step, start=extremes, grow=extremes_growing(), first="w",
        oracle=f"pandas rolling.{output}",
    )  # fmt: skip


ROLLING_MIN = _extreme("rolling_min", "min", rolling_min_step)
ROLLING_MAX = _extreme("rolling_max", "max", rolling_max_step)

# -- rolling_std, rolling_sharpe ----------------------------------------------------------------------------------------


@inlined
def rolling_std_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not math.isfinite(x[0]):
        return False
    if moments_row(f, i, t, x[0]):
        return True
    if is_ready(i):
        y[0] = finite(math.sqrt(f[1] / (i[COUNT] - 1)))
    return False


ROLLING_STD = Kernel(
    name="rolling_std", module=__name__, formula="√(Σ(x − ⟨x⟩)²/(w − 1))", inputs=("x",), outputs=(Output("std"),),
    parameters=window_parameter(fewest=2), step=rolling_std_step,
    start=lambda values: windowed(values, own=MOMENTS, fewest=2), grow=Growing(MOMENTS), first="w",
    oracle="pandas rolling.std", differs="No partial windows with ddof 0, and no Σx² − (Σx)²/w, which cancels.",
)  # fmt: skip


@inlined
def rolling_sharpe_step(f, i, p, t, x, y):
    y[0] = math.nan
    if not math.isfinite(x[0]):
        return False
    if moments_row(f, i, t, x[0]):
        return True
    if is_ready(i):
        y[0] = ratio((mean_of(f, 0) - p[1]) * p[0], math.sqrt(f[1] / (i[COUNT] - 1)))
    return False


ROLLING_SHARPE = Kernel(
    name="rolling_sharpe", module=__name__, formula="(⟨r⟩ − rf)/std·√ppy", inputs=("r",), outputs=(Output("sharpe"),),
    parameters=(
        *window_parameter(60, fewest=2),
        Parameter(name="ppy", kind="float", default=365.0, above=0.0,
                  help="periods a year: 31 536 000 / seconds of a period; 365: daily returns of a market without holidays"),
        Parameter(name="rf", kind="float", default=0.0, help="riskless return of one period"),
    ),
    step=rolling_sharpe_step,
    start=lambda values: windowed(
        values, own=MOMENTS, fewest=2, parameters=[math.sqrt(values["ppy"]), values["rf"]]
    ),
    grow=Growing(MOMENTS), first="w", oracle="pandas", source="Sharpe 1966",
    differs="365 days a year, not 252; equal returns have none.",
)  # fmt: skip

# -- signed_volume ------------------------------------------------------------------------------------------------------


@inlined
def signed_volume_step(f, i, p, t, x, y):
    """f: the sum of all, and its ring."""
    quantity, side = x[0], x[1]
    no_output(y)
    if not (math.isfinite(quantity) and quantity >= 0.0 and abs(side) <= 1.0):
        return False
    if totals_push(f, i, t, 0, TOTAL):
        return True
    signed = side * quantity
    add_to(f, 0, signed)
    y[0], y[1] = signed, total_of(f, 0)
    if is_ready(i):
        y[2] = finite(total_within(f, i, 0, TOTAL))
    return False


SIGNED_VOLUME = Kernel(
    name="signed_volume", module=__name__, formula="sv = s·q; cum = Σ sv; sum = Σ sv over w", inputs=("q", "s"),
    outputs=(Output("sv"), Output("cum"), Output("sum")), parameters=window_parameter("60s"), step=signed_volume_step,
    start=lambda values: windowed(values, own=TOTAL, columns=TOTAL), grow=Growing(TOTAL, TOTAL), version=2,
    first="1 (sum of a count: w)", oracle="NumPy",
    differs="s is the taker's side, +1 where the buyer takes, 0 where it is not known, or a share between; beyond ±1 a row "
    "cannot be used.",
)  # fmt: skip

# -- label_next_move ----------------------------------------------------------------------------------------------------
# A window of the rows whose label is not known: when the horizon of one has passed it leaves. f: the nearest barriers of all
# that wait, above and below (or nearer ones, of rows that no longer wait), price before, then the ring of: row, price, barrier
# above, barrier below (of a row whose label is due, the slot of the next such), label (NaN while it waits), time of the touch
# (int64), return; and in the first slot of every so many the nearest barriers of those. i: rows so far, labels due, the slots
# of the first and the last of them.

_ABOVE, _BELOW, _LAST, _WAITING, _WIDTH = 0, 1, 2, 3, 9
_ROWS, _DUE, _NEXT, _NEWEST, _WAITING_BASE = TIMES, TIMES + 1, TIMES + 2, TIMES + 3, TIMES + 4
_TOGETHER = 32  # slots of which the nearest barriers are known: where a price touches none, it looks no further


@inlined
def decide(f, i, slot, label, touch_t, price):
    """A label is due, after those that are."""
    at = _WAITING + slot * _WIDTH
    f[at + 4] = label
    f[at + 5] = float_of(touch_t)
    f[at + 6] = finite(price / f[at + 1] - 1.0)
    if i[_DUE] == 0:
        i[_NEXT] = slot
    else:
        f[_WAITING + (i[_NEWEST] & PLACE) * _WIDTH + 3] = slot
    i[_NEWEST] = slot
    i[_DUE] += 1


@inlined
def nearest_of(slot):
    """Where the nearest barriers of a slot and its neighbours stand."""
    return _WAITING + slot // _TOGETHER * _TOGETHER * _WIDTH + 7


@inlined
def bring_near(f, at, above, below):
    f[at], f[at + 1] = min(f[at], above), max(f[at + 1], below)


@inlined
def touches(f, i, t, price):
    """Decide what this price decides, and find the nearest barriers of the rest."""
    f[_ABOVE], f[_BELOW] = math.inf, -math.inf
    begin = 0
    while begin < i[COUNT]:
        first = slot_at(i, begin)
        end = min(i[COUNT], begin + _TOGETHER - first % _TOGETHER)
        nearest = nearest_of(first)
        if price >= f[nearest] or price <= f[nearest + 1]:
            f[nearest], f[nearest + 1] = math.inf, -math.inf
            for slot in range(first, first + end - begin):
                at = _WAITING + slot * _WIDTH
                if math.isnan(f[at + 4]):
                    if price >= f[at + 2]:
                        decide(f, i, slot, 1.0, t, price)
                    elif price <= f[at + 3]:
                        decide(f, i, slot, -1.0, t, price)
                    else:
                        bring_near(f, nearest, f[at + 2], f[at + 3])
        bring_near(f, _ABOVE, f[nearest], f[nearest + 1])
        begin = end


@inlined
def label_next_move_step(f, i, p, t, x, y):
    """p: up, dn, whether a return's sign labels what touches nothing. All labels due have been fetched before."""
    if i[COUNT] > i[CAPACITY] - _TOGETHER:  # the oldest and the newest row have different neighbours
        return True
    price, vol = x[0], x[1]
    row = i[_ROWS]
    i[_ROWS] += 1
    if not (math.isfinite(price) and price > 0.0 and math.isfinite(vol) and vol >= 0.0):
        return False
    for k in range(i[COUNT]):
        slot = slot_at(i, k)
        opened = i[_WAITING_BASE + slot]
        if opened > t - i[SPAN]:
            break
        at = _WAITING + slot * _WIDTH
        if math.isnan(f[at + 4]):
            sign = (1.0 if f[_LAST] > f[at + 1] else -1.0 if f[_LAST] < f[at + 1] else 0.0) if p[2] == 1.0 else 0.0
            decide(f, i, slot, sign, opened + i[SPAN] - 1, f[_LAST])
    if price >= f[_ABOVE] or price <= f[_BELOW]:
        touches(f, i, t, price)
    f[_LAST] = price
    if vol > 0.0:
        slot = push(i, t, _WAITING_BASE)
        at = _WAITING + slot * _WIDTH
        f[at], f[at + 1], f[at + 4] = row, price, math.nan
        f[at + 2], f[at + 3] = price * (1.0 + p[0] * vol), price * (1.0 - p[1] * vol)
        nearest = nearest_of(slot)
        if slot % _TOGETHER == 0:
            f[nearest], f[nearest + 1] = math.inf, -math.inf
        bring_near(f, nearest, f[at + 2], f[at + 3])
        bring_near(f, _ABOVE, f[at + 2], f[at + 3])
    return False


@inlined
def label_next_move_ready(f, i, p, y):
    """Labels of one row's deciding, in the order of the rows that they label."""
    if i[_DUE] == 0:
        return False
    at = _WAITING + (i[_NEXT] & PLACE) * _WIDTH
    whole(y)[0] = int(f[at])
    y[1] = f[at + 4]
    y[2] = f[at + 5]  # bits of a time
    y[3] = f[at + 6]
    f[at + 4] = math.inf  # fetched
    i[_NEXT] = np.int64(f[at + 3])
    i[_DUE] -= 1
    while i[COUNT] > 0 and f[_WAITING + slot_at(i, 0) * _WIDTH + 4] == math.inf:
        drop(i)
    return True


_label_ring = Growing(_WAITING, _WIDTH, 4)


def _label_grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    """Twice the ring; its rows have new neighbours."""
    f, i = _label_ring(f, i)
    rows = f[_WAITING:].reshape(-1, _TOGETHER, _WIDTH)
    waits = np.isnan(rows[:, :, 4])
    rows[:, 0, 7] = np.where(waits, rows[:, :, 2], np.inf).min(axis=1)
    rows[:, 0, 8] = np.where(waits, rows[:, :, 3], -np.inf).max(axis=1)
    return f, i


def _label_start(values: Values) -> Start:
    horizon = values["horizon"]
    if horizon is None:
        raise KernelError('label_next_move: horizon is missing: it must be a duration such as "60s"')
    start = windowed(
        {"w": Span(horizon.ns + 1), "min_obs": None}, own=_WAITING, columns=_WIDTH, own_ints=4,
        parameters=[values["up"], values["dn"], float(values["at_horizon"] == "sign")],
    )  # fmt: skip
    start.f[_ABOVE], start.f[_BELOW] = math.inf, -math.inf
    return start


LABEL_NEXT_MOVE = Kernel(
    name="label_next_move", module=__name__,
    formula="the first of p₀(1 + up·vol), p₀(1 − dn·vol), t₀ + horizon: +1, −1, 0 (or the return's sign)",
    inputs=("p", "vol"),
    outputs=(
        Output("row", "int64", help="which it labels"), Output("label", "int8"), Output("touch_t", "int64"),
        Output("ret", help="price at the touch / p₀ − 1; at the horizon, of the last price by then"),
    ),
    parameters=(
        Parameter(name="up", kind="float", default=1.0, above=0.0, help="times vol"),
        Parameter(name="dn", kind="float", default=1.0, above=0.0, help="times vol"),
        Parameter(name="horizon", kind="duration", help="must be given"),
        Parameter(name="at_horizon", kind="choice", default="zero", choices=("zero", "sign")),
    ),
    step=label_next_move_step, ready=label_next_move_ready, start=_label_start, grow=_label_grow,
    registers=(_WAITING, _WAITING_BASE), version=2, needs_time=True, first="at touch",
    cost="O(1); O(rows that wait / 32) where a barrier is touched", oracle="naive", source="López de Prado 2018 ch. 3",
    differs="Forward-looking: a label, never a feature. It comes when it is decided, with the row that it labels: "
    "0 with the first row after its horizon, since another row at the horizon itself may still touch. vol is relative; a row "
    "of vol 0 has no label.",
)  # fmt: skip

# -- turnover -----------------------------------------------------------------------------------------------------------


@inlined
def turnover_step(f, i, p, t, x, y):
    """f: the weights before; i: how many."""
    assets = x.shape[0] // 2
    no_output(y)
    for k in range(x.shape[0]):
        if not math.isfinite(x[k]):
            return False
    if assets > f.shape[0]:
        return True
    if i[0] == assets:
        growth = 1.0
        for k in range(assets):
            growth += f[k] * x[assets + k]
        traded = 0.0
        for k in range(assets):
            traded += abs(x[k] - ratio(f[k] * (1.0 + x[assets + k]), growth))
        if growth > 0.0 and math.isfinite(traded):
            y[0], y[1] = 0.5 * traded, traded
    i[0] = assets
    copy(f, 0, x, 0, assets)
    return False


TURNOVER = Kernel(
    name="turnover", module=__name__, formula="one_way = ½Σ|w − w₋(1 + r)/(1 + Σw₋r)|, two_way = Σ", inputs=("W", "R"),
    outputs=(Output("one_way"), Output("two_way")), step=turnover_step, start=lambda values: plain(16, 1),
    grow=lambda f, i: (np.concatenate([f, np.zeros(len(f))]), i), alike=("W", "R"), first="2", cost="O(p)", oracle="naive",
    differs="Against the weights as prices have moved them, not as they were set: holding costs nothing. W: weights set at "
    "a row; R: returns since the row before; what is missing to 1 is cash, which earns 0. Equity that is gone gives none.",
)  # fmt: skip

KERNELS = (
    LAG, DIFF, ROLLING_MIN, ROLLING_MAX, ROLLING_STD, SIGNED_VOLUME, LABEL_NEXT_MOVE, ROLLING_SHARPE, TURNOVER,
)  # fmt: skip
