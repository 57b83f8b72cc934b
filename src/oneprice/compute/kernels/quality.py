"""Quality of what was received: trades seen twice, clocks that disagree, gaps, quotes beside trades, bars that contradict
themselves."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from oneprice.compute.kernels.definition import NO_INTEGER, Kernel, Output, Parameter, Span, Start, Values
from oneprice.compute.kernels.inlining import inlined, outlined, seldom
from oneprice.compute.kernels.windows import (
    COUNT,
    HEAD,
    TIMES,
    Growing,
    drop,
    drop_due,
    is_full,
    no_output,
    push,
    slot_at,
    windowed,
)
from oneprice.compute.lanes import whole

# -- dedupe_trades ----------------------------------------------------------------------------------------------------
# ascending ids: i is whether one was seen, the last one
# any ids: i is where the oldest stands, how many there are, the ids in a ring, then a table of places in the ring (+ 1; 0 is
# free), open addressing with linear probing; p: whether ids ascend, memory


@inlined
def mixed(number):
    """All bits of a number in all bits of another (Steele, Lea & Flood 2014, the end of SplitMix64)."""
    bits = np.uint64(number)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


@inlined
def home_of(number, mask):
    return np.int64(mixed(number) & np.uint64(mask))


@inlined
def table_find(i, table, mask, number):
    """Where a number stands in the table, or the free place where it would."""
    place = home_of(number, mask)
    while i[table + place] != 0 and i[1 + i[table + place]] != number:
        place = (place + 1) & mask
    return place


@inlined
def table_remove(i, table, mask, place):
    """Free a place, and move up those behind it that were pushed away by it."""
    free, place = place, (place + 1) & mask
    while i[table + place] != 0:
        home = home_of(i[1 + i[table + place]], mask)
        if ((place - home) & mask) >= ((place - free) & mask):
            i[table + free] = i[table + place]
            free = place
        place = (place + 1) & mask
    i[table + free] = 0


@inlined
def dedupe_trades_step(f, i, p, t, x, y):
    number = whole(x)[0]
    no_output(y)
    if number == NO_INTEGER:
        return False
    if p[0] == 1.0:
        if number < 0:
            return False
        is_new = i[0] == 0 or number > i[1]
        y[0] = 1.0 if is_new else 0.0
        y[1] = float(number - i[1] - 1) if is_new and i[0] == 1 else 0.0
        if is_new:
            i[0], i[1] = 1, number
        return False
    memory = np.int64(p[1])
    table = 2 + memory
    mask = i.shape[0] - table - 1
    if i[table + table_find(i, table, mask, number)] != 0:
        y[0] = 0.0
        return False
    y[0] = 1.0
    slot = i[0] + i[1] if i[0] + i[1] < memory else i[0] + i[1] - memory
    if i[1] == memory:
        table_remove(i, table, mask, table_find(i, table, mask, i[2 + slot]))
        i[0] = slot + 1 if slot + 1 < memory else 0
    else:
        i[1] += 1
    i[2 + slot] = number
    i[table + table_find(i, table, mask, number)] = slot + 1
    return False


def _dedupe_start(values: Values) -> Start:
    is_ascending, memory = values["ids"] == "ascending", values["memory"]
    size = 2 if is_ascending else 2 + memory + (1 << (2 * memory - 1).bit_length())
    return Start(np.zeros(0), np.zeros(size, dtype=np.int64), np.array([float(is_ascending), float(memory)]))


def trade_keys(*columns: ArrayLike) -> NDArray[np.int64]:
    """One number for each trade whose venue gives no id: hashed from the columns (venue's time, price, quantity, side) that
    tell trades apart. Two trades alike in all of them get the same one."""
    keys = np.zeros(len(np.asarray(columns[0])), dtype=np.uint64)
    for column in columns:
        given = np.asarray(column)
        wide = given.astype(np.float64) + 0.0 if given.dtype.kind == "f" else given.astype(np.int64)  # −0.0 is 0.0
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + np.ascontiguousarray(wide).view(np.uint64)
        keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        keys = keys ^ (keys >> np.uint64(31))
    return keys.view(np.int64)


DEDUPE_TRADES = Kernel(
    name="dedupe_trades", module=__name__,
    formula="ascending ids: keep = id > last, missing = id − last − 1; any ids: keep = not among the last `memory` ids kept",
    inputs=("id",), integers=("id",),
    outputs=(Output("keep", "int8"), Output("missing", help="ids left out before this one; NaN where ids do not ascend")),
    parameters=(
        Parameter(name="ids", kind="choice", default="ascending", choices=("ascending", "any")),
        Parameter(name="memory", kind="int", default=65_536, low=1, high=1 << 26, help="ids remembered, of any kind"),
    ),
    step=dedupe_trades_step, start=_dedupe_start, first="1", oracle="Python set",
    differs="A venue without ids: give `quality.trade_keys(t, p, q, s)` as ids, which are `any`. Ids of text: their hash.",
)  # fmt: skip

# -- clock_skew_align -------------------------------------------------------------------------------------------------
# f: probes (offset, half the round trip) in a ring; pieces of the window, each the row with the smallest t − t_venue (time
#    since the origin, that difference) in a ring; of all pieces but the newest the lower convex hull (their places), how many
#    stand on it, how many have rows, the mean of their times; the slope of the line; then the smallest differences of the
#    window, ascending
# i (own): whether a row came, its time (the origin), the newest piece (number since 1970), probes in the ring, the place of
#    the next one and of the best, how many there may be
# p: whether passive, piece in ns

PIECES = 32  # of the window; the line goes below their smallest rows (Paxson 1998)
_FEWEST_PIECES = PIECES // 4
_BEGUN, _ORIGIN, _PIECE, _PROBES, _NEXT, _BEST, _MOST = range(TIMES, TIMES + 7)
_OWN_INTS = 7
_MOST_PROBES = 64
_FARTHEST = 4e18  # ns; beyond it the difference of two times is no int64
_PIECE_AT = 2 * _MOST_PROBES
_HULL_AT = _PIECE_AT + 2 * PIECES
_ON_HULL, _WITH_ROWS, _MEAN, _SLOPE = range(_HULL_AT + PIECES, _HULL_AT + PIECES + 4)
_RING = _SLOPE + 1


@inlined
def piece_at(k):
    return _PIECE_AT + 2 * (k % PIECES)


@inlined
def on_hull(f, k):
    return _PIECE_AT + 2 * np.int64(f[_HULL_AT + k])


@inlined
def hull_below(f, size, at):
    """How many of the first `size` places of the hull stay on it when the row at `at` follows."""
    while size >= 2:
        a, b = on_hull(f, size - 2), on_hull(f, size - 1)
        if (f[b + 1] - f[a + 1]) * (f[at] - f[b]) < (f[at + 1] - f[b + 1]) * (f[b] - f[a]):
            break
        size -= 1
    return size


@outlined
def hull_of_older(f, newest):
    """The hull of all pieces but the newest, which few rows change."""
    size, rows, mean = 0, 0, 0.0
    for k in range(newest - PIECES + 1, newest):
        at = piece_at(k)
        if not math.isnan(f[at + 1]):
            rows += 1
            mean += (f[at] - mean) / rows
            size = hull_below(f, size, at)
            f[_HULL_AT + size] = k % PIECES
            size += 1
    f[_ON_HULL], f[_WITH_ROWS], f[_MEAN] = size, rows, mean


@inlined
def slope_below(f, at):
    """Slope of the line below the pieces' smallest rows that comes nearest to them: the edge of their lower convex hull over
    their mean time (Zhang, Liu & Xia 2002). NaN as long as there are few. `at`: of the newest piece."""
    rows = f[_WITH_ROWS] + 1.0
    if rows < _FEWEST_PIECES:
        return math.nan
    mean = f[_MEAN] + (f[at] - f[_MEAN]) / rows
    a, b = hull_below(f, np.int64(f[_ON_HULL]), at) - 1, at
    end = on_hull(f, a)
    while a > 0 and f[end] >= mean:
        a, b = a - 1, end
        end = on_hull(f, a)
    return (f[b + 1] - f[end + 1]) / (f[b] - f[end])


@inlined
def add_to_pieces(f, i, t, behind, length):
    """Keep each piece's smallest difference; pieces without a row, and those that left the window, have none."""
    if seldom(i[_BEGUN] == 0 or t >= (i[_PIECE] + 1) * length):
        piece = t // length
        steps = min(piece - i[_PIECE], PIECES) if i[_BEGUN] == 1 else PIECES
        for k in range(piece - steps + 1, piece + 1):
            f[piece_at(k) + 1] = math.nan
        if i[_BEGUN] == 0:
            i[_BEGUN], i[_ORIGIN] = 1, t
        i[_PIECE] = piece
        hull_of_older(f, piece)
    at = piece_at(i[_PIECE])
    if not f[at + 1] <= behind:
        f[at], f[at + 1] = t - i[_ORIGIN], behind
        f[_SLOPE] = slope_below(f, at)


@inlined
def add_probe(f, i, offset, bound):
    """A probe into the ring; the best is the newest of those with the shortest way."""
    place, best = i[_NEXT], i[_BEST]
    is_shorter = bound <= f[2 * best + 1]
    f[2 * place], f[2 * place + 1] = offset, bound
    i[_NEXT] = place + 1 if place + 1 < i[_MOST] else 0
    i[_PROBES] = min(i[_PROBES] + 1, i[_MOST])
    if is_shorter or i[_PROBES] == 1:
        i[_BEST] = place
    elif place == best:  # it has left
        for k in range(1, i[_PROBES]):
            older = place - k if place >= k else place - k + i[_MOST]
            if f[2 * older + 1] < f[2 * i[_BEST] + 1]:
                i[_BEST] = older


@inlined
def clock_skew_align_step(f, i, p, t, x, y):
    times = whole(x)
    venue, sent, is_passive = times[0], times[1], p[0] == 1.0
    no_output(y)
    if venue == NO_INTEGER or (not is_passive and (sent == NO_INTEGER or sent > t)):
        return False
    if abs(float(t) - float(venue)) > _FARTHEST or (not is_passive and float(t) - float(sent) > _FARTHEST):
        return False
    behind = float(t - venue)
    if is_passive:
        drop_due(i, t, TIMES + _OWN_INTS)
        while i[COUNT] > 0 and f[_RING + slot_at(i, i[COUNT] - 1)] >= behind:
            i[COUNT] -= 1
        if is_full(i):
            return True
        f[_RING + push(i, t, TIMES + _OWN_INTS)] = behind
    add_to_pieces(f, i, t, behind, np.int64(p[1]))
    y[1] = -1e6 * f[_SLOPE]
    if is_passive:
        y[0] = -f[_RING + i[HEAD]]
        return False
    half = 0.5 * float(t - sent)
    add_probe(f, i, half - behind, half)
    y[0], y[2] = f[2 * i[_BEST]], f[2 * i[_BEST] + 1]
    return False


def _clock_skew_start(values: Values) -> Start:
    piece_ns = -(-values["w"].ns // PIECES)
    parameters = [float(values["method"] == "passive"), piece_ns]
    start = windowed(values | {"min_obs": 1}, own=_RING, own_ints=_OWN_INTS, parameters=parameters)
    start.i[_MOST] = values["probes"]
    return start


CLOCK_SKEW_ALIGN = Kernel(
    name="clock_skew_align", module=__name__,
    formula="probe: t_venue − (t_sent + t)/2 of the shortest round trip among the last `probes`, error ≤ half of it; passive:"
    " −min over w of t − t_venue; drift: slope of the line below t − t_venue (hull over the minima of w/32)",
    inputs=("t_venue", "t_sent"), integers=("t_venue", "t_sent"), optional=("t_sent",),
    outputs=(
        Output("offset_ns", help="venue's clock less ours"),
        Output("drift_ppm", help="how much faster the venue's clock runs; NaN until a quarter of the window has rows"),
        Output("bound_ns", help="the offset is that ± this; NaN when passive: there it is at least that"),
    ),
    parameters=(
        Parameter(name="method", kind="choice", default="probe", choices=("probe", "passive"), help="passive needs no t_sent"),
        Parameter(name="probes", kind="int", default=8, low=1, high=_MOST_PROBES),
        Parameter(name="w", kind="duration", default="10m"),
    ),
    step=clock_skew_align_step, start=_clock_skew_start, grow=Growing(_RING, own_ints=_OWN_INTS),
    registers=(0, TIMES + _OWN_INTS), version=2, needs_time=True, first="1",
    cost="O(1): 32 pieces and the probes", oracle="naive loop; a recording 1.27 s off",
    source="Mills 1991; Paxson 1998; Zhang, Liu & Xia 2002",
    differs="A mean of t − t_venue holds the queues' delays; the smallest does not. Passive, the shortest way is taken as 0:"
    " the true offset is larger by it.",
)  # fmt: skip

# -- gap_fill ---------------------------------------------------------------------------------------------------------
# f: the last value at or before the grid's next place, a newer one
# i: whether there is one, its time; whether there is a newer one; the newest row's time; the next place
# p: step, max_age, in ns

_IS_KNOWN, _KNOWN_NS, _IS_NEWER, _NOW_NS, _PLACE_NS = range(5)


@inlined
def gap_fill_step(f, i, p, t, x, y):
    i[_NOW_NS] = t
    if math.isfinite(x[0]):
        i[_IS_NEWER] = 1
        f[1] = x[0]
    return False


@inlined
def gap_fill_ready(f, i, p, y):
    step, now = np.int64(p[0]), i[_NOW_NS]
    if i[_IS_KNOWN] == 1 and i[_PLACE_NS] < now:
        whole(y)[0] = i[_PLACE_NS]
        age = i[_PLACE_NS] - i[_KNOWN_NS]
        y[1], y[2] = math.nan, math.nan
        if age <= p[1]:
            y[1], y[2] = f[0], 1.0 if age >= step else 0.0
        i[_PLACE_NS] += step
        return True
    if i[_IS_NEWER] == 1:
        if i[_IS_KNOWN] == 0:
            i[_IS_KNOWN], i[_PLACE_NS] = 1, now + (-now) % step
        f[0], i[_KNOWN_NS], i[_IS_NEWER] = f[1], now, 0
    return False


GAP_FILL = Kernel(
    name="gap_fill", module=__name__,
    formula="at each multiple g of step: the last x at or before g, if at most max_age old", inputs=("x",),
    outputs=(
        Output("t_ns", "int64", "g"), Output("x", help="NaN where the last value is too old"),
        Output("filled", "int8", "1: no value came in (g − step, g]"),
    ),
    parameters=(
        Parameter(name="step", kind="duration", default="1s", help="of the grid, which begins in 1970"),
        Parameter(name="max_age", kind="duration", default="60s"),
        Parameter(name="method", kind="choice", default="last", choices=("last",), help="other methods read the future"),
    ),
    step=gap_fill_step, ready=gap_fill_ready, needs_time=True,
    start=lambda values: Start(
        np.zeros(2), np.zeros(5, dtype=np.int64), np.array([float(values["step"].ns), float(values["max_age"].ns)])
    ),
    first="1: from the first place at or after the first value", oracle="pandas resample and ffill",
    differs="Never interpolated: that needs the next value. A place is answered by the first row after it; a row without a"
    " value moves the clock only.",
)  # fmt: skip

# -- trade_quote_match ------------------------------------------------------------------------------------------------
# f: the quote in force (b, a), then a ring of those that are newer than trades may see
# i (own): whether there is one, its time, the delay, how old quotes must be at least; p: tolerance; all in ns

_HAS_QUOTE, _QUOTE_NS, _DELAY, _AGE = range(TIMES, TIMES + 4)
_QUOTE_INTS = 4


@inlined
def trade_quote_match_step(f, i, p, t, x, y):
    no_output(y)
    bid, ask, base = x[1], x[2], TIMES + _QUOTE_INTS
    if not (math.isfinite(x[0]) and math.isfinite(bid) and math.isfinite(ask)):
        return False
    is_trade = x[0] != 0.0
    if not is_trade and not 0.0 < bid <= ask:
        return False
    seen_until = t - i[_AGE]
    while i[COUNT] > 0 and i[base + slot_at(i, 0)] <= seen_until:
        i[_HAS_QUOTE], i[_QUOTE_NS] = 1, i[base + slot_at(i, 0)]
        slot = 2 + 2 * drop(i)
        f[0], f[1] = f[slot], f[slot + 1]
    if not is_trade:
        if is_full(i):
            return True
        slot = 2 + 2 * push(i, t, base)
        f[slot], f[slot + 1] = bid, ask
        return False
    age = t - i[_DELAY] - i[_QUOTE_NS]
    if i[_HAS_QUOTE] == 1 and age <= p[0]:
        y[0], y[1], y[2], y[3] = f[0], f[1], 0.5 * f[0] + 0.5 * f[1], age
    return False


def _trade_quote_start(values: Values) -> Start:
    ring = {"w": Span(1), "min_obs": 1}  # it is emptied by the rules above, not by its span
    start = windowed(ring, own=2, columns=2, own_ints=_QUOTE_INTS, parameters=[float(values["tolerance"].ns)])
    start.i[_DELAY], start.i[_AGE] = values["delay_ns"], values["delay_ns"] + (0 if values["exact"] else 1)
    return start._replace(by_time=True)


TRADE_QUOTE_MATCH = Kernel(
    name="trade_quote_match", module=__name__,
    formula="for each trade at t the last quote before t − delay_ns (exact: at or before), at most tolerance older than that",
    inputs=("is_trade", "b", "a"),
    outputs=(
        Output("b"), Output("a"), Output("m", help="(b + a)/2"), Output("age_ns", help="t − delay_ns less the quote's time"),
    ),
    parameters=(
        Parameter(name="tolerance", kind="duration", default="1s"),
        Parameter(name="delay_ns", kind="int", default=0, low=0, high=10**15, help="by which trades are reported late"),
        Parameter(name="exact", kind="bool", default=False, help="a quote of the same time counts, if it came before"),
    ),
    step=trade_quote_match_step, start=_trade_quote_start, grow=Growing(2, 2, _QUOTE_INTS), version=2, needs_time=True,
    first="1: the first trade after a quote", oracle="polars join_asof", source="Lee & Ready 1991",
    differs="Trades and quotes are rows of one stream, in the order of their times: is_trade 1 asks (b and a are not looked at,"
    " but must be numbers: 0), 0 brings a quote and has no output. A crossed quote is as if it were not there. Of several"
    " quotes of one time the last counts.",
)  # fmt: skip

# -- bar_consistency --------------------------------------------------------------------------------------------------
# i: whether a bar came, its time; p: interval in ns

LOW_ABOVE, HIGH_BELOW, VOLUME_BELOW_0, MOVED_WITHOUT_VOLUME, VWAP_OUTSIDE, OFF_GRID, NOT_NEXT = 1, 2, 4, 8, 16, 32, 64
_VWAP_ROUNDING = 1e-9  # relative; a venue's vwap is rounded


@inlined
def faults_of_bar(p, x, z):
    """Those that the bar shows by itself; NaN where it cannot be judged."""
    opened, high, low, close, volume, vwap = x[0], x[1], x[2], x[3], x[4], x[5]
    slack = _VWAP_ROUNDING * abs(vwap)
    is_still = opened == close and high == close and low == close
    are_prices = math.isfinite(opened) and math.isfinite(high) and math.isfinite(low) and math.isfinite(close)
    is_usable = are_prices and math.isfinite(volume) and (volume == 0.0 or math.isfinite(vwap))
    mask = LOW_ABOVE if low > min(opened, close) else 0.0
    mask += HIGH_BELOW if high < max(opened, close) else 0.0
    mask += VOLUME_BELOW_0 if volume < 0.0 else 0.0
    mask += MOVED_WITHOUT_VOLUME if volume == 0.0 and not is_still else 0.0
    mask += VWAP_OUTSIDE if volume > 0.0 and (vwap < low - slack or vwap > high + slack) else 0.0
    z[0] = mask if is_usable else math.nan


@inlined
def bar_consistency_step(f, i, p, t, x, y):
    y[0] = x[0]
    if math.isnan(x[0]):
        return False
    interval = np.int64(p[0])
    if t % interval != 0:
        y[0] += OFF_GRID
    if i[0] == 1 and t - i[1] != interval:
        y[0] += NOT_NEXT
    i[0], i[1] = 1, t
    return False


BAR_CONSISTENCY = Kernel(
    name="bar_consistency", module=__name__,
    formula="1: L > min(O, C); 2: H < max(O, C); 4: V < 0; 8: V = 0 and not O = H = L = C; 16: vwap outside [L, H]; 32: t no"
    " multiple of the interval; 64: not one interval after the bar before",
    inputs=("O", "H", "L", "C", "V", "vwap"), outputs=(Output("mask", "int8", "sum of the bits; 0: nothing is wrong"),),
    parameters=(Parameter(name="interval", kind="duration", default="60s"),), needs_time=True,
    prepare=faults_of_bar, prepared=1, step=bar_consistency_step,
    start=lambda values: Start(np.zeros(0), np.zeros(2, dtype=np.int64), np.array([float(values["interval"].ns)])),
    first="1", oracle="naive loop",
    differs="t is where the bar begins. A negative volume is found, not passed over; without volume the vwap is not looked at;"
    " a vwap may be outside by 1e-9 of itself, as venues round it.",
)  # fmt: skip

KERNELS = (DEDUPE_TRADES, CLOCK_SKEW_ALIGN, GAP_FILL, TRADE_QUOTE_MATCH, BAR_CONSISTENCY)
