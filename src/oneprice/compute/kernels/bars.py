"""Bars out of trades: by time, by count, by volume, by money, by imbalance.

Trades go into one open bar; a bar is answered once it has ended, and never changed afterwards. A row with quantity 0 is no
trade but a tick of the clock: it ends bars in time, and nothing else."""

from __future__ import annotations

import math

import numpy as np

from oneprice.compute.kernels.definition import Floats, Kernel, KernelError, Output, Parameter, Start, Values
from oneprice.compute.kernels.inlining import inlined
from oneprice.compute.kernels.numbers import LN2, expm1
from oneprice.compute.kernels.rows import clear, copy
from oneprice.compute.kernels.windows import add_to, total_of
from oneprice.compute.lanes import whole

# f begins with the open bar: O, H, L, C, volume and turnover with what rounding left behind of each
_O, _H, _L, _C, _V, _V_REST, _M, _M_REST = range(8)
BAR = 8
_OUTPUTS = (
    Output("start_ns", "int64", "where its interval begins, or its first trade's time"),
    Output("end_ns", "int64", "where its interval ends (excluded), or its last trade's time"),
    Output("O"), Output("H"), Output("L"), Output("C"), Output("V", help="quantity"), Output("n", help="trades"),
    Output("vwap", help="NaN without a trade"),
)  # fmt: skip


@inlined
def is_usable(price, quantity):
    return price > 0.0 and quantity >= 0.0 and price * quantity < math.inf  # of no NaN and no infinity


@inlined
def bar_add(f, n_before, price, quantity):
    """A trade into the open bar."""
    if n_before == 0:
        f[_O], f[_H], f[_L] = price, price, price
        f[_V], f[_V_REST], f[_M], f[_M_REST] = 0.0, 0.0, 0.0, 0.0
    f[_H] = max(f[_H], price)
    f[_L] = min(f[_L], price)
    f[_C] = price
    add_to(f, _V, quantity)
    add_to(f, _M, price * quantity)


@inlined
def bar_flat(f):
    """The open bar without a trade, at the last close."""
    f[_O], f[_H], f[_L] = f[_C], f[_C], f[_C]
    f[_V], f[_V_REST], f[_M], f[_M_REST] = 0.0, 0.0, 0.0, 0.0


@inlined
def bar_write(f, at, n, start, end, y):
    times = whole(y)
    times[0], times[1] = start, end
    for k in range(4):
        y[2 + k] = f[at + k]
    volume = total_of(f, at + _V)
    y[6], y[7] = volume, n
    y[8] = min(max(total_of(f, at + _M) / volume, f[at + _L]), f[at + _H]) if volume > 0.0 else math.nan


# -- resample_ohlc ----------------------------------------------------------------------------------------------------
# f: the open bar, the row that ended it (price, quantity), the piece's first bar and the bar across a merge's cut
# i: the interval the open bar is of, its trades, whether a close is known, whether a row came, whether the open bar is due,
#    the interval of the row that ended it; the first bar: whether, of which interval, trades; the bar across the cut: whether
#    it is due, of which interval, trades, up to where flat bars follow
# p: interval in ns, whether empty intervals are carried

_PRICE, _QUANTITY, _HEAD, _SEAM = BAR, BAR + 1, BAR + 2, 2 * BAR + 2
(
    START, TRADES, KNOWN, BEGUN, DUE, NEXT, HEADED, HEAD_START, HEAD_TRADES, SEAM_DUE, SEAM_START, SEAM_TRADES, SEAM_END
) = range(13)  # fmt: skip


@inlined
def resample_ohlc_step(f, i, p, t, x, y):
    price, quantity = x[0], x[1]
    if not is_usable(price, quantity):
        return False
    length = np.int64(p[0])
    if i[BEGUN] == 0:
        i[BEGUN], i[START] = 1, t - t % length
    if t >= i[START] + length:
        i[DUE], i[NEXT] = 1, t - t % length
        f[_PRICE], f[_QUANTITY] = price, quantity
    elif quantity > 0.0:
        bar_add(f, i[TRADES], price, quantity)
        i[TRADES] += 1
        i[KNOWN] = 1
    return False


@inlined
def resample_ohlc_ready(f, i, p, y):
    length, carries = np.int64(p[0]), p[1] == 1.0
    if i[DUE] == 0 and i[SEAM_DUE] == 0:
        return False
    if i[SEAM_DUE] == 1:
        bar_write(f, _SEAM, i[SEAM_TRADES], i[SEAM_START], i[SEAM_START] + length, y)
        bar_flat(f[_SEAM : _SEAM + BAR])
        i[SEAM_TRADES] = 0
        i[SEAM_START] += length
        i[SEAM_DUE] = 1 if i[SEAM_START] < i[SEAM_END] else 0
        return True
    while i[DUE] == 1:
        answers = i[TRADES] > 0 or (carries and i[KNOWN] == 1)
        if answers:
            bar_write(f, 0, i[TRADES], i[START], i[START] + length, y)
            if i[HEADED] == 0 and i[TRADES] > 0:
                i[HEADED], i[HEAD_START], i[HEAD_TRADES] = 1, i[START], i[TRADES]
                copy(f, _HEAD, f, 0, BAR)
        i[START] = i[START] + length if carries and i[KNOWN] == 1 else i[NEXT]
        i[TRADES] = 0
        bar_flat(f)
        if i[START] == i[NEXT]:
            i[DUE] = 0
            if f[_QUANTITY] > 0.0:
                bar_add(f, 0, f[_PRICE], f[_QUANTITY])
                i[TRADES], i[KNOWN] = 1, 1
        if answers:
            return True
    return False


def _joined(first: Floats, first_trades: int, later: Floats, later_trades: int) -> Floats:
    """One bar of two that follow each other."""
    if 0 in (first_trades, later_trades):
        return (later if first_trades == 0 else first).copy()
    joined = first.copy()
    joined[_H], joined[_L], joined[_C] = max(first[_H], later[_H]), min(first[_L], later[_L]), later[_C]
    for at in (_V, _M):
        joined[at], joined[at + 1] = math.fsum([*first[at : at + 2], *later[at : at + 2]]), 0.0
    return joined


def _merge_resampled(first: Start, later: Start) -> Start:
    """`later` has answered its first bar without what `first` held of that interval: that bar comes again, whole."""
    if first.i[SEAM_DUE] or later.i[SEAM_DUE]:
        raise KernelError("resample_ohlc: a bar of the merge before is still due: update it (with no rows) first")
    if not later.i[BEGUN] or not first.i[BEGUN]:
        return first if first.i[BEGUN] else later
    f, i = later.f.copy(), later.i.copy()
    carries = first.p[1] == 1.0
    open_start, open_trades, open_bar = int(first.i[START]), int(first.i[TRADES]), first.f[:BAR]
    if i[HEADED]:
        begin, trades, bar = int(i[HEAD_START]), int(i[HEAD_TRADES]), later.f[_HEAD : _HEAD + BAR]
    else:
        begin, trades, bar = int(i[START]), int(i[TRADES]), later.f[:BAR]
    if first.i[KNOWN] and not i[KNOWN]:
        f[: _C + 1] = first.f[_C]
        i[KNOWN] = 1
    is_seen_whole = open_start == begin and not i[HEADED]
    if is_seen_whole:
        f[:BAR], i[TRADES] = _joined(open_bar, open_trades, f[:BAR], trades), open_trades + trades
    elif open_trades > 0 or (carries and first.i[KNOWN] and open_start < begin):
        trades = trades if open_start == begin else 0
        i[SEAM_DUE], i[SEAM_START], i[SEAM_TRADES] = 1, open_start, open_trades + trades
        i[SEAM_END] = begin if carries else open_start
        f[_SEAM : _SEAM + BAR] = _joined(open_bar, open_trades, bar, trades)
    if first.i[HEADED]:
        i[HEADED : HEAD_TRADES + 1] = first.i[HEADED : HEAD_TRADES + 1]
        f[_HEAD : _HEAD + BAR] = first.f[_HEAD : _HEAD + BAR]
    elif open_trades > 0 and not is_seen_whole:
        i[HEADED], i[HEAD_START], i[HEAD_TRADES] = 1, open_start, i[SEAM_TRADES]
        f[_HEAD : _HEAD + BAR] = f[_SEAM : _SEAM + BAR]
    return Start(f, i, first.p)


RESAMPLE_OHLC = Kernel(
    name="resample_ohlc", module=__name__, aliases=("ohlc",),
    formula="first, highest, lowest, last price, Σq, count, Σpq/Σq of the trades in [k·interval, (k+1)·interval)",
    inputs=("p", "q"), outputs=_OUTPUTS,
    parameters=(
        Parameter(name="interval", kind="duration", default="60s", help="bars begin at its multiples since 1970"),
        Parameter(name="empty", kind="choice", default="skip", choices=("skip", "carry"), help="carry: flat at the last close"),
    ),
    step=resample_ohlc_step, ready=resample_ohlc_ready, needs_time=True, merge=_merge_resampled,
    start=lambda values: Start(
        np.zeros(3 * BAR + 2), np.zeros(13, dtype=np.int64),
        np.array([float(values["interval"].ns), float(values["empty"] == "carry")]),
    ),
    first="bar end", oracle="pandas resample",
    differs="Left-closed, labelled by its start, ended by the first row at or after its end (a row with q = 0 is a timer). Rows"
    " out of order are an error, not a repaint. Of two merged pieces the bar across the cut comes again, whole.",
)  # fmt: skip

# -- tick, volume and dollar bars -------------------------------------------------------------------------------------
# f: the open bar, what a cut trade has left (quantity, price)
# i: its trades, times of its first and last one, whether it is due; p: what is counted, threshold, whether trades are cut,
# threshold less rounding

_LEFT, _LEFT_PRICE = BAR, BAR + 1
_TRADES, _FIRST, _LAST, _DUE = range(4)
_TICKS, _QUANTITIES, _MONEY = 0.0, 1.0, 2.0
_MOST_CUTS = 1e6  # bars out of one trade: more is no trade but an error
_ROUNDING = 1e-12  # of the threshold: ten trades of 0.1 are 1, though their sum as floats is less


@inlined
def measure_of(kind, price, quantity):
    return 1.0 if kind == _TICKS else quantity if kind == _QUANTITIES else price * quantity


@inlined
def reached_of(f, i, kind):
    """What the open bar has of what is counted."""
    if i[_TRADES] == 0 or kind == _TICKS:
        return float(i[_TRADES])
    return total_of(f, _V) if kind == _QUANTITIES else total_of(f, _M)


@inlined
def take_trade(f, i, p, price, quantity):
    """A trade, or as much of it as the open bar takes; the rest is left for the next one."""
    left = 0.0
    if p[2] == 1.0:
        missing = p[1] - reached_of(f, i, p[0])
        measure = measure_of(p[0], price, quantity)
        if measure - missing > _ROUNDING * p[1]:
            left = quantity * (1.0 - missing / measure)
        f[_LEFT], f[_LEFT_PRICE] = left, price
    bar_add(f, i[_TRADES], price, quantity - left)
    i[_TRADES] += 1
    if left > 0.0 or reached_of(f, i, p[0]) >= p[3]:
        i[_DUE] = 1


@inlined
def threshold_bars_step(f, i, p, t, x, y):
    if not is_usable(x[0], x[1]) or x[1] == 0.0:
        return False
    if p[2] == 1.0 and measure_of(p[0], x[0], x[1]) > _MOST_CUTS * p[1]:
        return False
    if i[_TRADES] == 0:
        i[_FIRST] = t
    i[_LAST] = t
    take_trade(f, i, p, x[0], x[1])
    return False


@inlined
def threshold_bars_ready(f, i, p, y):
    if i[_DUE] == 0:
        return False
    bar_write(f, 0, i[_TRADES], i[_FIRST], i[_LAST], y)
    i[_TRADES], i[_DUE] = 0, 0
    if f[_LEFT] > 0.0:
        i[_FIRST] = i[_LAST]
        take_trade(f, i, p, f[_LEFT_PRICE], f[_LEFT])
    return True


def _threshold_bars(name: str, kind: float, formula: str, parameter: Parameter, differs: str) -> Kernel:
    may_cut = kind != _TICKS
    cut = Parameter(
        name="split", kind="bool", default=False, help="cut the trade that crosses, so that bars are of one size"
    )

    def start(values: Values) -> Start:
        threshold = values[parameter.name]
        if threshold is None:
            raise KernelError(f"{name}: {parameter.name} is missing: it must be {parameter.allowed}")
        parameters = np.array([kind, threshold, float(may_cut and values["split"]), threshold * (1.0 - _ROUNDING)])
        return Start(np.zeros(BAR + 2), np.zeros(4, dtype=np.int64), parameters)

    return Kernel(
        name=name, module=__name__, formula=formula, inputs=("p", "q"), outputs=_OUTPUTS,
        parameters=(parameter, cut) if may_cut else (parameter,), step=threshold_bars_step, ready=threshold_bars_ready,
        needs_time=True, start=start, first="bar end", oracle="naive loop", source="López de Prado 2018 ch. 2", differs=differs,
    )  # fmt: skip


TICK_BARS = _threshold_bars(
    "tick_bars", _TICKS, "a bar every n trades", Parameter(name="n", kind="int", default=100, low=1, help="trades"),
    "A row with q = 0 is no trade and does not count.",
)  # fmt: skip
VOLUME_BARS = _threshold_bars(
    "volume_bars", _QUANTITIES, "a bar as soon as Σq ≥ volume; split: of exactly that volume",
    Parameter(name="volume", kind="float", above=0.0, help="quantity a bar; needed"),
    "The trade that crosses closes the bar and belongs to it whole. Volume within 1e-12 of the threshold has reached it. With"
    " split, a trade counts in each bar that has a part of it, and one of more than a million bars cannot be used.",
)  # fmt: skip
DOLLAR_BARS = _threshold_bars(
    "dollar_bars", _MONEY, "a bar as soon as Σpq ≥ notional; split: of exactly that notional",
    Parameter(name="notional", kind="float", above=0.0, help="price × quantity a bar; needed"), VOLUME_BARS.differs,
)  # fmt: skip

# -- imbalance_bars ---------------------------------------------------------------------------------------------------
# f: the open bar, its Σsv and Σv (each with its rest), then what is expected: trades a bar, 2P − 1, v
# i: its trades, times of its first and last one, whether it is due, Σs, bars so far
# p: what is counted, expected_n, min_n, max_n, the newest bar's weight

_SIGNED, _UNSIGNED, _E_N, _E_S, _E_V = BAR, BAR + 2, BAR + 4, BAR + 5, BAR + 6
_SIGNS, _BARS = 4, 5


@inlined
def imbalance_threshold(f, i):
    return f[_E_N] * abs(f[_E_S]) * f[_E_V] if i[_BARS] > 0 else math.nan


@inlined
def imbalance_bars_step(f, i, p, t, x, y):
    price, quantity, side = x[0], x[1], x[2]
    if not is_usable(price, quantity) or quantity == 0.0 or not math.isfinite(side):
        return False
    sign = int(side > 0.0) - int(side < 0.0)
    if i[_TRADES] == 0:
        i[_FIRST], i[_SIGNS] = t, 0
        clear(f, _SIGNED, _UNSIGNED + 2)
    i[_LAST] = t
    bar_add(f, i[_TRADES], price, quantity)
    i[_TRADES] += 1
    i[_SIGNS] += sign
    measure = measure_of(p[0], price, quantity)
    add_to(f, _SIGNED, sign * measure)
    add_to(f, _UNSIGNED, measure)
    n = i[_TRADES]
    if i[_BARS] == 0:
        i[_DUE] = 1 if n >= p[1] else 0
    elif n >= p[2]:
        i[_DUE] = 1 if n >= p[3] or abs(total_of(f, _SIGNED)) >= imbalance_threshold(f, i) else 0
    return False


@inlined
def imbalance_bars_ready(f, i, p, y):
    if i[_DUE] == 0:
        return False
    bar_write(f, 0, i[_TRADES], i[_FIRST], i[_LAST], y)
    y[9] = total_of(f, _SIGNED)
    y[10] = imbalance_threshold(f, i)
    n = float(i[_TRADES])
    weight = p[4] if i[_BARS] > 0 else 1.0
    f[_E_N] += weight * (n - f[_E_N])
    f[_E_S] += weight * (i[_SIGNS] / n - f[_E_S])
    f[_E_V] += weight * (total_of(f, _UNSIGNED) / n - f[_E_V])
    i[_BARS] += 1
    i[_TRADES], i[_DUE] = 0, 0
    return True


def _imbalance_start(values: Values) -> Start:
    expected, fewest, most = values["expected_n"], values["min_n"], values["max_n"]
    fewest = max(1, expected // 10) if fewest is None else fewest
    most = 10 * expected if most is None else most
    if not fewest <= expected <= most:
        raise KernelError(f"imbalance_bars: min_n={fewest}, expected_n={expected}, max_n={most}: they must not descend")
    kind = {"tick": _TICKS, "volume": _QUANTITIES, "dollar": _MONEY}[values["kind"]]
    weight = -expm1(-LN2 / values["halflife"])
    parameters = np.array([kind, expected, fewest, most, weight])
    return Start(np.zeros(BAR + 7), np.zeros(6, dtype=np.int64), parameters)


IMBALANCE_BARS = Kernel(
    name="imbalance_bars", module=__name__,
    formula="a bar as soon as |Σs·v| ≥ E[n]·|2P−1|·E[v]; v = 1, q or pq; 2P−1 = Σs/n; expectations: ewma over bars",
    inputs=("p", "q", "s"),
    outputs=(*_OUTPUTS, Output("imbalance", help="Σs·v"), Output("threshold", help="that it had to reach")),
    parameters=(
        Parameter(name="kind", kind="choice", default="tick", choices=("tick", "volume", "dollar")),
        Parameter(name="expected_n", kind="int", default=100, low=1, help="trades of the first bar"),
        Parameter(name="min_n", kind="int", low=1, help="no bar has fewer trades; expected_n / 10 where not given"),
        Parameter(name="max_n", kind="int", low=1, help="a bar ends with so many; 10 × expected_n where not given"),
        Parameter(name="halflife", kind="float", default=20.0, above=0.0, help="bars"),
    ),
    step=imbalance_bars_step, ready=imbalance_bars_ready, registers=(BAR + 7, 6), needs_time=True, start=_imbalance_start,
    first="bar end", oracle="naive loop", source="López de Prado 2018 ch. 2",
    differs="The plain rule explodes or collapses: a bar has min_n to max_n trades. The first bar has expected_n trades and"
    " starts the expectations. A trade with s = 0 counts, without a side.",
)  # fmt: skip

KERNELS: tuple[Kernel, ...] = (
    RESAMPLE_OHLC, TICK_BARS, VOLUME_BARS, DOLLAR_BARS, IMBALANCE_BARS,
)  # fmt: skip
