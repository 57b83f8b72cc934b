"""The shape of a window: skewness, kurtosis, autocorrelation, entropy."""

from __future__ import annotations

import math
from decimal import Decimal
from itertools import pairwise
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
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.numbers import log
from oneprice.compute.kernels.rows import clear, ratio
from oneprice.compute.kernels.windows import (
    CAPACITY,
    COUNT,
    Growing,
    drop,
    is_due,
    is_full,
    is_ready,
    is_rebuild_due,
    is_turning,
    no_output,
    nothing_left,
    push,
    slot_at,
    turn,
    window_parameter,
    windowed,
)

# -- rolling_skew, rolling_kurt -----------------------------------------------------------------------------------------
# f: Σd, Σd², Σd³, Σd⁴ of d = x − origin, origin, the largest Σd⁴ since they were made anew; then the ring

_ORIGIN, _LARGEST, POWERS = 4, 5, 6
POWERS_LEFT = 6
_APART = 0.9  # of Σd² is the mean's own: it is three deviations from the origin, and differences of powers lose digits
_SHARE = 1e-4  # of the largest sum: below this its digits are gone


@inlined
def powers_add(f, sign, value):
    d = value - f[_ORIGIN]
    square = d * d
    f[0] += sign * d
    f[1] += sign * square
    f[2] += sign * square * d
    f[3] += sign * square * square


@inlined
def powers_replace(f, old, new):
    """One value for another; each sum is waited for once."""
    d, e = new - f[_ORIGIN], old - f[_ORIGIN]
    square, square_of_old = d * d, e * e
    f[0] += d - e
    f[1] += square - square_of_old
    f[2] += square * d - square_of_old * e
    f[3] += square * square - square_of_old * square_of_old


@inlined
def powers_of(f, i):
    """Make the sums anew, around the mean."""
    n, first = i[COUNT], f[POWERS + slot_at(i, 0)]
    total = 0.0
    for k in range(n):
        total += f[POWERS + slot_at(i, k)] - first
    f[_ORIGIN] = first + total / n
    f[0], f[1], f[2], f[3] = 0.0, 0.0, 0.0, 0.0
    for k in range(n):
        powers_add(f, 1.0, f[POWERS + slot_at(i, k)])
    f[_LARGEST] = f[3]


@inlined
def powers_row(f, i, t, value):
    """A row into a window whose powers are summed; → whether there was no room."""
    if is_turning(i):
        slot = POWERS + turn(i)
        powers_replace(f, f[slot], value)
        f[slot] = value
    else:
        while is_due(i, t):
            powers_add(f, -1.0, f[POWERS + drop(i)])
        if is_full(i):
            return True
        f[POWERS + push(i, t)] = value
        powers_add(f, 1.0, value)
    f[_LARGEST] = max(f[_LARGEST], f[3])
    n = i[COUNT]
    is_apart = f[0] * f[0] > _APART * n * f[1]
    if seldom(is_rebuild_due(i) or n == 1 or is_apart or f[3] < _SHARE * f[_LARGEST] or not math.isfinite(f[3])):
        powers_of(f, i)
    return False


@inlined
def powers_step(f, i, p, t, x, w):
    """What is left: the origin, the sums of d⁴, d³, d², d, and n. NaN before there are enough."""
    nothing_left(w)
    if not math.isfinite(x[0]):
        return False
    if powers_row(f, i, t, x[0]):
        return True
    if is_ready(i):
        w[0], w[1], w[2], w[3], w[4], w[5] = f[_ORIGIN], f[3], f[2], f[1], f[0], i[COUNT]
    return False


@inlined
def central_moments(w):
    """n, the mean's way from the origin, and the second to fourth moments around the mean."""
    n = w[5]
    mean, m2, m3, m4 = w[4] / n, w[3] / n, w[2] / n, w[1] / n
    m4 -= mean * (4.0 * m3 - mean * (6.0 * m2 - 3.0 * mean * mean))
    m3 -= mean * (3.0 * m2 - 2.0 * mean * mean)
    return n, mean, m2 - mean * mean, m3, m4


@inlined
def rolling_skew_finish(p, w, y):
    n, _, m2, m3, _ = central_moments(w)
    found = math.sqrt(n * (n - 1.0)) / (n - 2.0) * ratio(m3, m2 * math.sqrt(m2))
    y[0] = found if m2 > 0.0 else math.nan


@inlined
def rolling_kurt_finish(p, w, y):
    n, _, m2, _, m4 = central_moments(w)
    found = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * ratio(m4, m2 * m2) - 3.0 * (n - 1.0))
    y[0] = found if m2 > 0.0 else math.nan


def _shape(name: str, output: str, fewest: int, formula: str, finish: Any) -> Kernel:
    return Kernel(
        name=name, module=__name__, formula=formula, inputs=("x",), outputs=(Output(output),),
        parameters=window_parameter(fewest=fewest), step=powers_step, finish=finish, left=POWERS_LEFT,
        start=lambda values: windowed(values, own=POWERS, fewest=fewest), grow=Growing(POWERS), first="w",
        oracle=f"pandas rolling.{output}",
        differs="Powers are taken around the window's own mean, made anew as it moves; a flat window has none.",
    )  # fmt: skip


ROLLING_SKEW = _shape("rolling_skew", "skew", 3, "G₁ = √(w(w−1))/(w−2)·m₃/m₂^1.5", rolling_skew_finish)
ROLLING_KURT = _shape(
    "rolling_kurt", "kurt", 4, "G₂ = (w−1)/((w−2)(w−3))·[(w+1)m₄/m₂² − 3(w−1)], excess", rolling_kurt_finish
)

# -- autocorr -----------------------------------------------------------------------------------------------------------
# f: Σa, Σb, Σa², Σb², Σab of a = x₋ₖ − one origin, b = x − the other; the origins; the largest Σa², Σb² since they were
# made anew; then the ring

_OF_A, _OF_B, _MOST_A, _MOST_B, _CORR = 5, 6, 7, 8, 9


@inlined
def products_add(f, sign, older, newer):
    a, b = older - f[_OF_A], newer - f[_OF_B]
    f[0] += sign * a
    f[1] += sign * b
    f[2] += sign * a * a
    f[3] += sign * b * b
    f[4] += sign * a * b


@inlined
def products_of(f, i, k):
    """Make the sums anew, around the means of both."""
    pairs = i[COUNT] - k
    first, a, b = f[_CORR + slot_at(i, 0)], 0.0, 0.0
    for j in range(pairs):
        a += f[_CORR + slot_at(i, j)] - first
        b += f[_CORR + slot_at(i, j + k)] - first
    clear(f, 0, 5)
    f[_OF_A], f[_OF_B] = first + a / pairs, first + b / pairs
    for j in range(pairs):
        products_add(f, 1.0, f[_CORR + slot_at(i, j)], f[_CORR + slot_at(i, j + k)])
    f[_MOST_A], f[_MOST_B] = f[2], f[3]


@inlined
def products_replace(f, old_a, old_b, new_a, new_b):
    """One pair for another; each sum is waited for once."""
    a, b = new_a - f[_OF_A], new_b - f[_OF_B]
    c, d = old_a - f[_OF_A], old_b - f[_OF_B]
    f[0] += a - c
    f[1] += b - d
    f[2] += a * a - c * c
    f[3] += b * b - d * d
    f[4] += a * b - c * d


@inlined
def autocorr_step(f, i, p, t, x, w):
    """What is left: Σab, Σb², Σa², Σb, Σa and the number of pairs. NaN before there are enough."""
    value, k = x[0], int(p[0])
    nothing_left(w)
    if not math.isfinite(value):
        return False
    if is_turning(i):
        pairs = i[COUNT] - k
        oldest, its_other = f[_CORR + slot_at(i, 0)], f[_CORR + slot_at(i, k)]
        f[_CORR + turn(i)] = value
        products_replace(f, oldest, its_other, f[_CORR + slot_at(i, pairs - 1)], value)
    else:
        while is_due(i, t):
            if i[COUNT] > k:
                products_add(f, -1.0, f[_CORR + slot_at(i, 0)], f[_CORR + slot_at(i, k)])
            drop(i)
        if is_full(i):
            return True
        f[_CORR + push(i, t)] = value
        pairs = i[COUNT] - k
        if pairs < 1:
            return False
        products_add(f, 1.0, f[_CORR + slot_at(i, pairs - 1)], value)
    f[_MOST_A], f[_MOST_B] = max(f[_MOST_A], f[2]), max(f[_MOST_B], f[3])
    is_apart = f[0] * f[0] > _APART * pairs * f[2] or f[1] * f[1] > _APART * pairs * f[3]
    is_worn = f[2] < _SHARE * f[_MOST_A] or f[3] < _SHARE * f[_MOST_B]
    if seldom(is_rebuild_due(i) or pairs == 1 or is_apart or is_worn or not math.isfinite(f[2] + f[3])):
        products_of(f, i, k)
    if is_ready(i):
        w[0], w[1], w[2], w[3], w[4], w[5] = f[4], f[3], f[2], f[1], f[0], pairs
    return False


@inlined
def autocorr_finish(p, w, y):
    of_ab, of_b, of_a, b, a, pairs = w[0], w[1], w[2], w[3], w[4], w[5]
    of_a -= a * a / pairs
    of_b -= b * b / pairs
    found = ratio(of_ab - a * b / pairs, math.sqrt(of_a) * math.sqrt(of_b))
    limited = min(1.0, max(-1.0, found)) if not math.isnan(found) else math.nan
    y[0] = limited if of_a > 0.0 and of_b > 0.0 else math.nan


def _autocorr_start(values: Values) -> Start:
    k, w = values["k"], values["w"]
    if not isinstance(w, Span) and w < k + 2:
        raise KernelError(f"autocorr: w={w!r}: it must be at least k + 2 = {k + 2}, for two pairs")
    return windowed(values, own=_CORR, fewest=k + 2, parameters=[float(k)])


AUTOCORR = Kernel(
    name="autocorr", module=__name__, formula="Pearson's correlation of (x₋ₖ, x) over the w − k pairs inside the window",
    inputs=("x",), outputs=(Output("rho"),),
    parameters=(Parameter(name="k", kind="int", default=1, low=1, help="observations"), *window_parameter(fewest=3)),
    step=autocorr_step, finish=autocorr_finish, left=6, start=_autocorr_start, grow=Growing(_CORR), first="w",
    oracle="np.corrcoef(x[k:], x[:-k])",
    differs="Both ends have their own mean and variance, as Pearson's; the textbook's estimate divides by those of all w.",
)  # fmt: skip

# -- entropy_hist -------------------------------------------------------------------------------------------------------
# f: counts of the bins, then the ring: of bins where the edges are given, of values where they are the window's own.
# p: miller_madow, bins, edges (or none), c·ln c for small counts

_EDGES = 3
_TABLE = np.array([0.0, *(float(c * Decimal(c).ln()) for c in range(1, 1025))])


@inlined
def bin_of(value, low, high, bins):
    """The bin of a value between low and high, as np.histogram finds it: the last one includes its right edge."""
    step = (high - low) / bins
    place = min(int((value - low) / (high - low) * bins), bins - 1)
    if value < low + place * step:
        return place - 1
    if place < bins - 1 and value >= low + (place + 1) * step:
        return place + 1
    return place


@inlined
def bin_between(value, edges):
    """The bin of a value between given edges, −1 outside of them all."""
    last = edges.shape[0] - 1
    if value < edges[0] or value > edges[last]:
        return -1
    low, high = 0, last
    while high - low > 1:
        middle = (low + high) // 2
        if value >= edges[middle]:
            low = middle
        else:
            high = middle
    return low


@inlined
def entropy_outputs(f, bins, is_corrected, y):
    n, filled, total = 0.0, 0.0, 0.0
    for k in range(bins):
        count = f[k]
        if count > 0.0:
            n += count
            filled += 1.0
            total += _TABLE[int(count)] if count < 1025.0 else count * log(count)
    if n > 0.0:
        y[0] = log(n) - total / n if filled > 1.0 else 0.0
        if is_corrected:
            y[0] += (filled - 1.0) / (2.0 * n)
        y[1] = y[0] / log(bins)


@inlined
def entropy_hist_step(f, i, p, t, x, y):
    value, bins, has_edges = x[0], int(p[1]), p[2] == 1.0
    no_output(y)
    if not math.isfinite(value):
        return False
    while is_due(i, t):
        gone = bins + drop(i)
        if has_edges and f[gone] >= 0.0:
            f[int(f[gone])] -= 1.0
    if is_full(i):
        return True
    place = bins + push(i, t)
    if has_edges:
        f[place] = bin_between(value, p[_EDGES:])
        if f[place] >= 0.0:
            f[int(f[place])] += 1.0
    else:
        f[place] = value
    if not is_ready(i):
        return False
    if not has_edges:
        low, high = value, value
        for k in range(i[COUNT]):
            low, high = min(low, f[bins + slot_at(i, k)]), max(high, f[bins + slot_at(i, k)])
        if not (high > low and math.isfinite(high - low)):
            return False
        clear(f, 0, bins)
        for k in range(i[COUNT]):
            f[bin_of(f[bins + slot_at(i, k)], low, high, bins)] += 1.0
    entropy_outputs(f, bins, p[0] == 1.0, y)
    return False


def _entropy_start(values: Values) -> Start:
    edges = values["edges"] or ()
    if edges and (len(edges) < 3 or any(b <= a for a, b in pairwise(edges))):
        raise KernelError(f"entropy_hist: edges={edges!r}: they must be three or more numbers, ascending")
    bins = len(edges) - 1 if edges else values["bins"]
    parameters = [float(values["miller_madow"]), float(bins), float(bool(edges)), *edges]
    return windowed(values, own=bins, parameters=parameters)


def _entropy_grow(f: Floats, i: Ints) -> tuple[Floats, Ints]:
    return Growing(len(f) - int(i[CAPACITY]))(f, i)


ENTROPY_HIST = Kernel(
    name="entropy_hist", module=__name__, formula="H = −Σp ln p over the bins, H_norm = H/ln bins", inputs=("x",),
    outputs=(Output("H"), Output("H_norm")),
    parameters=(
        *window_parameter(),
        Parameter(name="bins", kind="int", default=10, low=2, help="of equal width between the window's least and largest"),
        Parameter(name="edges", kind="floats", help="fixed edges, ascending, instead of bins"),
        Parameter(name="miller_madow", kind="bool", default=False, help="add (filled bins − 1)/2n to H"),
    ),
    step=entropy_hist_step, start=_entropy_start, grow=_entropy_grow, first="w",
    cost="O(bins) with fixed edges, O(w) else", oracle="SciPy entropy of np.histogram", source="Shannon 1948; Miller 1955",
    differs="A flat window has no bins of its own, so no entropy (NumPy widens it by ±½). Values outside given edges are in "
    "the window but in no bin.",
)  # fmt: skip

KERNELS = (ROLLING_SKEW, ROLLING_KURT, AUTOCORR, ENTROPY_HIST)
