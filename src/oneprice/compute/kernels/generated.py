"""Loops around steps, as small modules of source in the folder of compiled code.

Numba keeps compiled code on disk only for functions that stand in a file, so the loop over the rows of one kernel, and the
one call that runs all features of a pipeline on a row, are written there once and imported like any module."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from oneprice.compute.kernels.columns import INPUTS, OUTPUTS, TIMES
from oneprice.compute.kernels.definition import BOOK, Kernel
from oneprice.compute.kernels.expressions import names_in, parsed, source_of

BLOCK = 240  # rows: what is prepared and left of so many stays in the first cache, where columns a power of two apart collide
_ROWS = '''"""Generated: the rows of {name}."""
import numpy as np
from numba import njit
from oneprice.compute.kernels.columns import gather, side_by_side
from oneprice.compute.kernels.inlining import widely
from oneprice.compute.kernels.rows import copy
from oneprice.compute.kernels.windows import room
from oneprice.compute.lanes import lane, split
from oneprice.compute.uncounted import apart, on_stack, uncounted
from {module} import {imports}


@njit(cache=True, nogil=True, error_model="numpy")
def run(f, i, p, table, x, y, done, count):
    """Rows done; fewer than `count` when the state has to grow first."""
    apart()
    widely()
    f, i, p, table, x, y = uncounted(f), uncounted(i), uncounted(p), uncounted(table), uncounted(x), uncounted(y)
    width = x.shape[0] // max(count, 1)
{body}    return done
'''
_AT_HAND = """    near_f, near_i = on_stack({floats}, f), on_stack({ints}, i)
    copy(near_f, 0, f, 0, {floats})
    copy(near_i, 0, i, 0, {ints})
    g, j = split(near_f, f, {floats}), split(near_i, i, {ints})
{body}    copy(f, 0, near_f, 0, {floats})
    copy(i, 0, near_i, 0, {ints})
"""
_BLOCKS = """    clock, u = on_stack({block}, i), on_stack({gathered}, p)
    v, z, w, out = on_stack({led}, p), on_stack({prepared}, p), on_stack({left}, p), on_stack({finished}, p)
    while done < count:
        rows = min({block}, count - done)
{lead_room}        times = side_by_side(table, {times}, done, rows, clock)
{gather}{lead}        some = rows
{prepare}        for k in range({begun}, rows):
            if step({state}, p, times[k], {input}, {output}):
                rows = k
                break
{finish}        done += rows
        if rows < some:
            break
"""
_GATHER = """        for column in range({inputs}):
            gather(table, {first} + 2 * column, done, rows, u, {block} * column)
"""
_ONLY = """        only = side_by_side(table, {first}, done, rows, u)
"""
_LEAD = """        for k in range(rows):
            lead({state}, p, times[k], {given}, {led})
"""
_TOGETHER = "rows if together({state}, p, lane(f, {own}, f.shape[0] - {own}, 1), {given}, {left}) else 0"
_ROOM = """        rows = min(rows, room({ints}))
        if rows == 0:
            break
"""
_PREPARE = """        for k in range(rows):
            prepare(p, {given}, {prepared})
"""
_FINISH = """        for k in range(rows):
            finish(p, {left}, {finished})
        for column in range({outputs}):
            for k in range(rows):
                found = lane(out, {block} * column + k, 1, 1)[0]
                {made}[column] = np.nan if np.isnan(w[k]) else found
"""

_ANSWERS = '''"""Generated: the answers of {name}."""
from numba import njit
from oneprice.compute.kernels.columns import gather, side_by_side
from oneprice.compute.kernels.rows import copy
from oneprice.compute.lanes import lane, split
from oneprice.compute.uncounted import apart, on_stack, uncounted
from {module} import {step} as step, {ready} as ready


@njit(cache=True, nogil=True)
def run(f, i, p, table, y, done, count):
    """(rows done, answers written). Fewer rows than `count`: the state has to grow, or there is no room for an answer."""
    apart()
    f, i, p, table, y = uncounted(f), uncounted(i), uncounted(p), uncounted(table), uncounted(y)
    written, most = 0, table[{distance}]
{body}    return done, written
'''
_ANSWERED = """    clock, u, unread = on_stack({block}, i), on_stack({gathered}, p), on_stack({outputs}, p)
    while True:
        rows, k = min({block}, count - done), 0
        times = side_by_side(table, {times}, done, rows, clock)
{gather}        while True:
            while written < most and ready({state}, p, {made}):
                written += 1
            if written == most or k == rows:
                break
            if step({state}, p, times[k], {input}, lane(unread, 0, {outputs}, 1)):
                break
            k += 1
        done += k
        if written == most or k < rows or done == count:
            break
"""

_MADE_FOR: dict[str, str] = {}  # module → what it loops over


def is_by_column(kernel: Kernel) -> bool:
    """Whether the rows of a batch come column by column; else row by row, as books and matrices do."""
    return BOOK not in kernel.inputs and not kernel.alike and kernel.widths_by is None


@cache
def rows_of(kernel: Kernel) -> Any:
    """`run(f, i, p, table, x, y, done, count) -> rows done` of one kernel, compiled when first called; `done` of the `count`
    rows are done already. The table is that of `columns.table_of`; x: nothing or, unless `is_by_column`, the inputs row by row.

    A block of rows is gathered, led, prepared, stepped through, finished; what has no state, many rows at a time."""
    inputs, outputs = len(kernel.inputs), str(len(kernel.outputs))
    if kernel.outputs_by is not None:
        outputs = f"table[{OUTPUTS + 1}]"
    gather, given, made = "", f"lane(u, k, {inputs}, {BLOCK})", f"lane(y, done + k, {outputs}, table[{OUTPUTS}])"
    if not is_by_column(kernel):
        given = "lane(x, (done + k) * width, width, 1)"
    elif inputs == 1:
        given, gather = "lane(only, k, 1, 1)", _ONLY.format(first=INPUTS)
    else:
        gather = _GATHER.format(inputs=inputs, block=BLOCK, first=INPUTS)
    led, prepared = f"lane(v, k, {kernel.led}, {BLOCK})", f"lane(z, k, {kernel.prepared}, {BLOCK})"
    left, finished = f"lane(w, k, {kernel.left}, {BLOCK})", f"lane(out, k, {outputs}, {BLOCK})"
    floats, ints = _state_of(kernel)
    state, lead, lead_room, prepare, begun, finish = f"{floats}, {ints}", "", "", "", "0", ""
    if kernel.lead is not None:
        lead_room = _ROOM.format(ints=ints) if kernel.grow is not None else ""
        lead, given = _LEAD.format(state=state, given=given, led=led), led
    if kernel.prepare is not None:
        prepare, given = _PREPARE.format(given=given, prepared=prepared), prepared
    if kernel.together is not None:
        own, _ = kernel.at_hand or (0, 0)
        many = "only" if kernel.prepare is None else "lane(z, 0, rows, 1)"
        where = f"lane(y, done, count, 1), table[{OUTPUTS}]" if kernel.finish is None else f"w, {BLOCK}"
        begun = _TOGETHER.format(state=state, own=own, given=many, left=where)
    if kernel.finish is not None:
        finish = _FINISH.format(left=left, finished=finished, outputs=outputs, block=BLOCK, made=made)
    body = _BLOCKS.format(
        state=state, block=BLOCK, gathered=BLOCK * inputs if gather else 0, led=BLOCK * kernel.led,
        prepared=BLOCK * kernel.prepared, left=BLOCK * kernel.left, finished=BLOCK * len(kernel.outputs),
        lead_room=lead_room, times=TIMES, gather=gather, lead=lead, prepare=prepare, begun=begun, finish=finish, input=given,
        output=made if kernel.finish is None else left,
    )  # fmt: skip
    imports = ", ".join(f"{_name_of(part)} as {what}" for what, part in _parts_of(kernel).items())
    return _module(
        _ROWS.format(name=kernel.name, module=kernel.module, imports=imports, body=_with_state(kernel, body)),
        kernel.name,
    ).run


@cache
def answers_of(kernel: Kernel) -> Any:
    """`run(f, i, p, table, y, done, count) -> (rows done, answers written)` of a kernel that does not answer row by row; there
    is room for as many answers as the table says that outputs stand apart."""
    inputs, outputs = len(kernel.inputs), len(kernel.outputs)
    body = _ANSWERED.format(
        state=", ".join(_state_of(kernel)), block=BLOCK, times=TIMES, outputs=outputs, gathered=BLOCK * inputs,
        gather=_GATHER.format(inputs=inputs, block=BLOCK, first=INPUTS), input=f"lane(u, k, {inputs}, {BLOCK})",
        made=f"lane(y, written, {outputs}, table[{OUTPUTS}])",
    )  # fmt: skip
    names = {"step": _name_of(kernel.step), "ready": _name_of(kernel.ready), "distance": OUTPUTS}
    body = _with_state(kernel, body)
    return _module(_ANSWERS.format(name=kernel.name, module=kernel.module, body=body, **names), kernel.name).run


def _state_of(kernel: Kernel) -> tuple[str, str]:
    """The names of its floats and integers in a loop."""
    return ("f", "i") if kernel.at_hand is None else ("g", "j")


def _with_state(kernel: Kernel, body: str) -> str:
    """A loop whose state begins in registers, where that is few numbers."""
    if kernel.at_hand is None:
        return body
    floats, ints = kernel.at_hand
    return _AT_HAND.format(body=body, floats=floats, ints=ints)


Move = tuple[str, int]  # ("x", a column of the row), ("y", an output of an earlier feature), or nothing: NaN
NOTHING: Move = ("", 0)


class Joined(NamedTuple):
    """One feature as the fused call sees it. `moves`: where its inputs come from. `begin`, `end`: its outputs among those of
    all. `expression`: what stands for a kernel; its inputs are its names, in their order."""

    moves: Sequence[Move]
    begin: int
    end: int
    kernel: Kernel | None
    expression: str = ""
    parameters: Sequence[float] = ()


TABLE = 1  # where in the memory of a fused call the table begins that says where states stand:
PLACES = 3  # for each feature where its floats begin, its integers and, behind them, its parameters
GROWS = 1 << 30  # in place of the feature to go on with: no further one is done, as a state has to grow first
_FUSED_HEAD = """
@njit(cache=True, forceinline=True)
def one(m, g, now, xs, out):
    begin, kept = m[0], piece(g, {kept}, {states})"""
_FUSED_TAIL = """    if begin == {grows}:
{keep}
        return True
    m[0] = 0
{chosen}
    return False


@njit(cache=True, nogil=True)
def rows(m, t, x, y, start):
    \"\"\"Rows done; fewer than there are when the state of feature m[0] has to grow first.\"\"\"
    m, t, x, y = uncounted(m), uncounted(t), uncounted(x), uncounted(y)
    g = m.view(np.float64)
    for k in range(start, x.shape[0]):
        if one(m, g, t[k], x[k], y[k]):
            return k
    return x.shape[0]


@njit(cache=True)
def tick(m, now, row):
    \"\"\"Whether the state of feature m[0] has to grow first.\"\"\"
    m, row = uncounted(m), uncounted(row)
    g = m.view(np.float64)
    return one(m, g, now, row, piece(g, {out}, {kept}))
"""


class Layout(NamedTuple):
    """Where in its memory (int64; floats as their bits) a fused call finds what. First comes 0, or the feature to go on with
    after its state has grown; then the table of the states."""

    out: int  # the chosen outputs of a tick
    kept: int  # while a state grows: the outputs of the features before it
    states: int  # states and parameters, as the table says


def layout_of(features: Sequence[Joined], chosen: Sequence[int]) -> Layout:
    out = TABLE + PLACES * len(features)
    kept = out + len(chosen)
    return Layout(out, kept, kept + len(_read(features, chosen)))


def _read(features: Sequence[Joined], chosen: Sequence[int]) -> list[int]:
    """The outputs that a later feature or the caller reads. What makes the others only, the compiler leaves out."""
    return sorted({*chosen, *(place for one in features for source, place in one.moves if source == "y")})


def fused_of(features: Sequence[Joined], chosen: Sequence[int]) -> Any:
    """A module with `rows(m, t, x, y, start)` and `tick(m, now, row)`: all features of a row in one compiled call.

    What a feature makes stands on the stack, each feature's in its own place, and so in registers where the compiler can."""
    layout, read = layout_of(features, chosen), _read(features, chosen)
    kernels = {one.kernel.name: one.kernel for one in features if one.kernel is not None}
    made = [f"y{number}[{k}]" for number, one in enumerate(features) for k in range(one.end - one.begin)]
    lines = [
        '"""Generated: features of one row."""', "import numpy as np", "from numba import njit", "from numpy import inf",
        "from oneprice.compute.kernels.rows import finite, ratio",
        "from oneprice.compute.kernels.windows import no_output, room",
        "from oneprice.compute.lanes import lane, split", "from oneprice.compute.uncounted import on_stack, piece, uncounted",
        *(
            f"from {one.module} import {_name_of(part)} as {what}_{name}"
            for name, one in kernels.items() for what, part in _parts_of(one).items()
        ),
        "", _FUSED_HEAD.format(kept=layout.kept, states=layout.states),
        *(f"    y{number} = on_stack({one.end - one.begin}, g)" for number, one in enumerate(features)),
        *(f"    if begin > 0: {made[place]} = kept[{k}]" for k, place in enumerate(read)),
    ]  # fmt: skip
    for number, feature in enumerate(features):
        lines.append(f"    if begin <= {number}:")
        if feature.kernel is None:
            tree = parsed(feature.expression)
            places = {name: _value(move, made) for name, move in zip(names_in(tree), feature.moves, strict=True)}
            lines.append(f"        y{number}[0] = finite({source_of(tree, places)})")
            continue
        lines += _indented(_indented(_call(number, feature, made)))
    tail = _FUSED_TAIL.format(
        grows=GROWS, out=layout.out, kept=layout.kept,
        keep="\n".join(f"        kept[{k}] = {made[place]}" for k, place in enumerate(read)),
        chosen="\n".join(f"    out[{k}] = {made[place]}" for k, place in enumerate(chosen)),
    )  # fmt: skip
    return _module("\n".join([*lines, tail]), f"a pipeline of {len(features)}")


def _value(move: Move, made: Sequence[str]) -> str:
    source, place = move
    return made[place] if source == "y" else f"xs[{place}]" if source == "x" else "np.nan"


def _call(number: int, feature: Joined, made: Sequence[str]) -> list[str]:
    """One kernel on its inputs: what it prepares and what it leaves stand behind them in its scratch row."""
    kernel, at = feature.kernel, TABLE + PLACES * number
    assert kernel is not None
    f, i = f"piece(g, m[{at}], m[{at + 1}])", f"piece(m, m[{at + 1}], m[{at + 2}])"
    p = f"piece(g, m[{at + 2}], m[{at + 2}] + {len(feature.parameters)})"
    if kernel.at_hand is not None:  # all in memory, but of the type that a batch compiles steps for
        f, i = f"split({f}, {f}, 0)", f"split({i}, {i}, 0)"
    source, first = feature.moves[0]
    lies_there = source == "x" and all(move == ("x", first + k) for k, move in enumerate(feature.moves))
    here = 0 if lies_there else len(feature.moves)
    scratch = here + kernel.led + kernel.prepared + kernel.left
    lines = [f"w{number} = on_stack({scratch}, g)"] if scratch else []
    if kernel.constants:
        lines.append(f"p{number} = on_stack({len(feature.parameters)}, g)")
        for k, value in enumerate(feature.parameters):
            lines.append(f"p{number}[{k}] = {value if k < kernel.constants else f'g[m[{at + 2}] + {k}]'}")
        p = f"p{number}"
    if lies_there:
        inputs = f"lane(xs, {first}, {len(feature.moves)}, 1)"
    else:
        inputs = f"lane(w{number}, 0, {here}, 1)"
        lines += [f"w{number}[{k}] = {_value(move, made)}" for k, move in enumerate(feature.moves)]
    outputs = f"lane(y{number}, 0, {feature.end - feature.begin}, 1)"
    begun, to_grow = [], [f"m[0] = {number}", f"begin = {GROWS}"]
    if kernel.lead is not None:
        led = f"lane(w{number}, {here}, {kernel.led}, 1)"
        begun.append(f"lead_{kernel.name}({f}, {i}, {p}, now, {inputs}, {led})")
        inputs, here = led, here + kernel.led
    if kernel.prepare is not None:
        prepared = f"lane(w{number}, {here}, {kernel.prepared}, 1)"
        begun.append(f"prepare_{kernel.name}({p}, {inputs}, {prepared})")
        inputs, here = prepared, here + kernel.prepared
    left = f"lane(w{number}, {here}, {kernel.left}, 1)"
    step = [
        f"if step_{kernel.name}({f}, {i}, {p}, now, {inputs}, {outputs if kernel.finish is None else left}):",
        *_indented(to_grow),
    ]
    if kernel.finish is not None:
        step += [
            f"finish_{kernel.name}({p}, {left}, {outputs})",
            f"if np.isnan(w{number}[{here}]):",
            f"    no_output({outputs})",
        ]
    if kernel.lead is None or kernel.grow is None:
        return [*lines, *begun, *step]
    return [*lines, f"if room({i}) == 0:", *_indented(to_grow), "else:", *_indented([*begun, *step])]


def _indented(lines: Iterable[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def made_for(compiled: Any) -> str | None:
    """The kernel or pipeline that a compiled function is the loop of, to tell people; None for any other function."""
    return _MADE_FOR.get(compiled.py_func.__module__)


def _parts_of(kernel: Kernel) -> dict[str, Any]:
    parts = {
        "lead": kernel.lead, "prepare": kernel.prepare, "step": kernel.step, "together": kernel.together,
        "finish": kernel.finish,
    }  # fmt: skip
    return {what: part for what, part in parts.items() if part is not None}


def _name_of(compiled: Any) -> str:
    return str(compiled.py_func.__name__)


def _module(text: str, what: str) -> Any:
    """A module of this source: written once, aside, so that two processes may do it at a time."""
    name = f"oneprice_generated_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    _MADE_FOR[name] = what
    if name in sys.modules:
        return sys.modules[name]
    folder = Path(os.environ["NUMBA_CACHE_DIR"]) / "generated"
    path = folder / f"{name}.py"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        aside = folder / f"{name}.{os.getpid()}"
        aside.write_text(text)
        aside.replace(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
