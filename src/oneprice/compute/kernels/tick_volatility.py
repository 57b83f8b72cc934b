"""Volatility of prices that carry noise, tick by tick: two scales, and a kernel over autocovariances.

Both choose how far they look (K, H) by the noise and the quarticity of a pilot: returns over a fiftieth of the window. What
is chosen holds until as many rows have come as the window held then, so that an update stays cheap."""

from __future__ import annotations

import math

from oneprice.compute.kernels.definition import Kernel, KernelError, Output, Parameter, Span, Start, Values
from oneprice.compute.kernels.inlining import inlined, seldom
from oneprice.compute.kernels.numbers import log, power
from oneprice.compute.kernels.rows import is_price
from oneprice.compute.kernels.windows import (
    COUNT,
    SUM,
    TIMES,
    Growing,
    add_to,
    drop,
    is_due,
    is_full,
    is_ready,
    is_rebuild_due,
    is_turning,
    nothing_left,
    push,
    slot_at,
    sum_add,
    sum_clear,
    sum_is_worn,
    sum_replace,
    total_of,
    turn,
    window_parameter,
    windowed,
)

_FEWEST_TICKS = 10
_SPARSE = 50  # returns of the pilot, each over so much of the window
_REACH, _WAIT = TIMES, TIMES + 1  # what was chosen; rows until it is chosen anew
_RING = TIMES + 2


@inlined
def ratio_of_noise(noise, fourths, terms, n, stride):
    """ω²/√IQ; IQ = (n/stride)²/3·⟨(sparse return)⁴⟩. Infinite where nothing but noise is left, 0 where nothing moves."""
    quarticity = (n / stride) ** 2 / 3.0 * fourths / terms
    if noise <= 0.0:
        return 0.0
    return noise / math.sqrt(quarticity) if quarticity > 0.0 else math.inf


_LEVELS = 2 * SUM  # f: the sum of squared changes over one step, that over K, the ring of ln(p/p₁), p₁ before it
_ORIGIN = _LEVELS
_LOGS = _LEVELS + 1


@inlined
def level_at(f, i, k):
    return f[_LOGS + slot_at(i, k)]


@inlined
def change_squared(f, i, k, lag):
    change = level_at(f, i, k) - level_at(f, i, k - lag)
    return change * change


@inlined
def two_scale_choice(f, i):
    """K = ⌈(12·ω⁴/IQ)^{1/3}·n^{2/3}⌉, from 2 to half the window."""
    n = i[COUNT] - 1
    stride = max(1, n // _SPARSE)
    fourths = 0.0
    for k in range(stride, n + 1):
        square = change_squared(f, i, k, stride)
        fourths += square * square
    ratio = ratio_of_noise(total_of(f, 0) / (2 * n), fourths, n + 1 - stride, n, stride)
    most = n // 2
    wanted = min(float(most), power(12.0 * ratio * ratio, 1.0 / 3.0) * power(float(n), 2.0 / 3.0))
    return max(2, math.ceil(wanted))


@inlined
def two_scale_rebuild(f, i):
    sum_clear(f, 0)
    sum_clear(f, SUM)
    for k in range(1, i[COUNT]):
        sum_add(f, 0, change_squared(f, i, k, 1))
        if k >= i[_REACH]:
            sum_add(f, SUM, change_squared(f, i, k, i[_REACH]))


@inlined
def two_scale_price(f, i, p, t, x, v):
    """p/p₁; NaN of what is no price."""
    v[0] = math.nan
    if is_price(x[0]):
        if f[_ORIGIN] == 0.0:
            f[_ORIGIN] = x[0]
        v[0] = x[0] / f[_ORIGIN]


@inlined
def two_scale_level(p, x, z):
    z[0] = log(x[0])


@inlined
def two_scale_rv_step(f, i, p, t, x, w):
    """What is left: both sums, K, n."""
    reach = i[_REACH]
    nothing_left(w)
    if math.isnan(x[0]):
        return False
    if is_turning(i) and reach < i[COUNT]:
        count = i[COUNT]
        sum_replace(f, 0, change_squared(f, i, 1, 1), (x[0] - level_at(f, i, count - 1)) ** 2)
        sum_replace(f, SUM, change_squared(f, i, reach, reach), (x[0] - level_at(f, i, count - reach)) ** 2)
        f[_LOGS + turn(i)] = x[0]
    else:
        while is_due(i, t, _RING):
            oldest = f[_LOGS + drop(i)]
            if i[COUNT] > 0:
                add_to(f, 0, -((level_at(f, i, 0) - oldest) ** 2))
            if i[COUNT] >= reach:
                add_to(f, SUM, -((level_at(f, i, reach - 1) - oldest) ** 2))
        f[_LOGS + push(i, t, _RING)] = x[0]
        if i[COUNT] > 1:
            sum_add(f, 0, change_squared(f, i, i[COUNT] - 1, 1))
        if i[COUNT] > reach:
            sum_add(f, SUM, change_squared(f, i, i[COUNT] - 1, reach))
    n = i[COUNT] - 1
    i[_WAIT] -= 1
    if p[0] == 0.0 and is_ready(i) and (i[_WAIT] <= 0 or 2 * reach > n):
        i[_WAIT] = i[COUNT]
        reach = two_scale_choice(f, i)
    if seldom(reach != i[_REACH] or is_rebuild_due(i) or sum_is_worn(f, 0) or sum_is_worn(f, SUM)):
        i[_REACH] = reach
        two_scale_rebuild(f, i)
    if is_ready(i):
        w[0], w[1], w[2], w[3] = total_of(f, SUM), total_of(f, 0), reach, n
    return False


@inlined
def two_scale_rv_finish(p, w, y):
    slow, fast, reach, n = w[0], w[1], w[2], w[3]
    share = (n - reach + 1.0) / (reach * n)
    y[0] = (slow / reach - share * fast) / (1.0 - share)
    y[1] = fast / (2.0 * n)
    y[2] = 1.0 if y[0] < 0.0 else 0.0


def _two_scale_start(values: Values) -> Start:
    w, k = values["w"], values["k"]
    if k is not None and not isinstance(w, Span) and w < k + 2:
        raise KernelError(f"two_scale_rv: k={k}: it must be at most w − 2 = {w - 2}")
    start = windowed(
        values, own=_LOGS, fewest=max(_FEWEST_TICKS, (k or 0) + 2), parameters=[float(k or 0)], own_ints=2
    )  # fmt: skip
    start.i[_REACH] = k or 1
    return start


TWO_SCALE_RV = Kernel(
    name="two_scale_rv", module=__name__,
    formula="RV_K = (1/K)Σ(X_i − X_{i−K})², n̄ = (n−K+1)/K; tsrv = (RV_K − (n̄/n)RV₁)/(1 − n̄/n); noise_var = RV₁/(2n); "
    "auto K = ⌈c·n^{2/3}⌉, c = (16·ω⁴/(4/3·IQ))^{1/3}",
    inputs=("p",),
    outputs=(Output("tsrv"), Output("noise_var"), Output("negative", "int8", help="1 where tsrv is below zero")),
    parameters=(
        *window_parameter(1000, fewest=_FEWEST_TICKS),
        Parameter(name="k", kind="int", low=2, help="steps of the slow scale; left out: chosen by the noise"),
    ),
    lead=two_scale_price, led=1, prepare=two_scale_level, prepared=1, step=two_scale_rv_step, finish=two_scale_rv_finish,
    left=4, start=_two_scale_start, grow=Growing(_LOGS, 1, 2), first="w",
    oracle="naive loop; simulated noise", source="Zhang, Mykland & Aït-Sahalia 2005",
    differs="Results below zero are returned and flagged. n counts returns: w − 1. K is chosen anew once per window, by the "
    "returns over a fiftieth of it.",
)  # fmt: skip


_RETURNS = SUM  # f: the sum of all terms, the ring of r


@inlined
def return_at(f, i, k):
    return f[_RETURNS + slot_at(i, k)]


@inlined
def kernel_choice(f, i):
    """H = ⌈3.5134·ξ^{4/5}·n^{3/5}⌉, ξ² = ω²/√IQ, from 1 to the window less one."""
    n = i[COUNT]
    stride = max(1, n // _SPARSE)
    squares, fourths, moved = 0.0, 0.0, 0.0
    for k in range(n):
        r = return_at(f, i, k)
        squares += r * r
        moved += r
        if k >= stride:
            moved -= return_at(f, i, k - stride)
        if k >= stride - 1:
            fourths += moved**4
    ratio = ratio_of_noise(squares / (2 * n), fourths, n + 1 - stride, n, stride)
    return max(1, math.ceil(min(n - 1.0, 3.5134 * power(ratio, 0.4) * power(float(n), 0.6))))


@inlined
def parzen(z):
    return 1.0 - 6.0 * z * z * (1.0 - z) if z <= 0.5 else 2.0 * (1.0 - z) * (1.0 - z) * (1.0 - z)


@inlined
def terms_with(f, i, r, place, direction, neighbours):
    """All terms in which a return stands: r² + 2Σ k(h/(H+1))·r·r_h, r_h its neighbours from `place` on, in one direction."""
    total, width = 0.0, i[_REACH] + 1.0
    for h in range(min(neighbours, i[_REACH])):
        total += parzen((h + 1) / width) * return_at(f, i, place + direction * h)
    return r * (r + 2.0 * total)


@inlined
def kernel_rebuild(f, i):
    sum_clear(f, 0)
    for k in range(i[COUNT]):
        sum_add(f, 0, terms_with(f, i, return_at(f, i, k), k - 1, -1, k))


@inlined
def realized_kernel_step(f, i, p, t, x, y):
    r = x[0]
    y[0] = math.nan
    if not math.isfinite(r * r):
        return False
    while is_due(i, t, _RING):
        oldest = f[_RETURNS + drop(i)]
        add_to(f, 0, -terms_with(f, i, oldest, 0, 1, i[COUNT]))
    if is_full(i):
        return True
    sum_add(f, 0, terms_with(f, i, r, i[COUNT] - 1, -1, i[COUNT]))
    f[_RETURNS + push(i, t, _RING)] = r
    i[_WAIT] -= 1
    if p[0] < 0.0 and is_ready(i) and (i[_WAIT] <= 0 or i[_REACH] >= i[COUNT]):
        i[_WAIT] = i[COUNT]
        i[_REACH] = kernel_choice(f, i)
        kernel_rebuild(f, i)
    elif seldom(is_rebuild_due(i) or sum_is_worn(f, 0)):
        kernel_rebuild(f, i)
    if is_ready(i):
        y[0] = max(0.0, total_of(f, 0))  # the kernel is positive semi-definite: below zero there is only rounding
    return False


def _kernel_start(values: Values) -> Start:
    bandwidth = values["bandwidth"]
    start = windowed(
        values, own=_RETURNS, fewest=_FEWEST_TICKS, parameters=[-1.0 if bandwidth is None else bandwidth], own_ints=2
    )  # fmt: skip
    start.i[_REACH] = bandwidth or 0
    return start


REALIZED_KERNEL = Kernel(
    name="realized_kernel", module=__name__,
    formula="rk = γ₀ + 2Σ_{h=1}^{H} k(h/(H+1))γ_h, γ_h = Σr_j r_{j−h}; Parzen k = 1 − 6z² + 6z³ (z ≤ ½), 2(1−z)³; "
    "auto H = 3.5134·ξ^{4/5}·n^{3/5}, ξ² = ω²/√IQ, ω² = Σr²/(2n)",
    inputs=("r",), outputs=(Output("rk"),),
    parameters=(
        *window_parameter(1000, fewest=_FEWEST_TICKS),
        Parameter(name="bandwidth", kind="int", low=0, help="H, returns; left out: chosen by the noise"),
    ),
    step=realized_kernel_step, start=_kernel_start, grow=Growing(_RETURNS, 1, 2), first="w", cost="O(H)",
    oracle="naive double sum", source="Barndorff-Nielsen, Hansen, Lunde & Shephard 2009",
    differs="Never below zero. H is chosen anew once per window, by the returns over a fiftieth of it; ends are not averaged.",
)  # fmt: skip

KERNELS = (TWO_SCALE_RV, REALIZED_KERNEL)
