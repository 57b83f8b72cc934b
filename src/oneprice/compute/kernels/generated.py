"""Loops around steps, as small modules of source in the folder of compiled code.

Numba keeps compiled code on disk only for functions that stand in a file, so the loop over the rows of one kernel, and the
one call that runs all features of a pipeline on a row, are written there once and imported like any module."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from oneprice.compute.kernels.definition import Kernel
from oneprice.compute.kernels.expressions import names_in, parsed, source_of

_ROWS = '''"""Generated: the rows of {name}."""
from numba import njit
from oneprice.compute.uncounted import uncounted
from {module} import {step} as step


@njit(cache=True, nogil=True)
def run(f, i, p, t, x, y):
    """Rows done; fewer than there are when the state has to grow first."""
    f, i, p, t, x, y = uncounted(f), uncounted(i), uncounted(p), uncounted(t), uncounted(x), uncounted(y)
    for k in range(x.shape[0]):
        if step(f, i, p, t[k], x[k], y[k]):
            return k
    return x.shape[0]
'''

_ANSWERS = '''"""Generated: the answers of {name}."""
from numba import njit
from oneprice.compute.uncounted import uncounted
from {module} import {step} as step, {ready} as ready


@njit(cache=True, nogil=True)
def run(f, i, p, t, x, y, out, begin):
    """(rows done, answers written). Fewer rows than there are: the state has to grow, or `out` is full."""
    f, i, p, t = uncounted(f), uncounted(i), uncounted(p), uncounted(t)
    x, y, out = uncounted(x), uncounted(y), uncounted(out)
    written = 0
    for k in range(begin, x.shape[0]):
        while True:
            if written == out.shape[0]:
                return k, written
            if not ready(f, i, p, out[written]):
                break
            written += 1
        if step(f, i, p, t[k], x[k], y):
            return k, written
    while written < out.shape[0] and ready(f, i, p, out[written]):
        written += 1
    return x.shape[0], written
'''

_MADE_FOR: dict[str, str] = {}  # module → what it loops over


def rows_of(kernel: Kernel) -> Any:
    """`run(f, i, p, t, x, y) -> rows done` of one kernel, compiled when first called."""
    return _module(_ROWS.format(name=kernel.name, module=kernel.module, step=_step_name(kernel)), kernel.name).run


def answers_of(kernel: Kernel) -> Any:
    """`run(f, i, p, t, x, y, out, begin) -> (rows done, answers written)` of a kernel that does not answer row by row."""
    names = {"step": _step_name(kernel), "ready": kernel.ready.py_func.__name__}
    return _module(_ANSWERS.format(name=kernel.name, module=kernel.module, **names), kernel.name).run


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


TABLE = 1  # where in the memory of a fused call the table begins that says where states stand:
PLACES = 6  # for each feature from where to where its floats, its integers, its parameters
_FUSED_HEAD = """
@njit(cache=True, forceinline=True)
def one(m, g, now, xs, out):
    begin, ys, w = m[0], piece(g, {y}, {w}), piece(g, {w}, {states})"""
_FUSED_TAIL = """    m[0] = 0
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
    return one(m, g, now, row, piece(g, {out}, {y}))
"""


class Layout(NamedTuple):
    """Where in its memory (int64; floats as their bits) a fused call finds what. First comes 0, or the feature to go on with
    after its state has grown; then the table of the states."""

    out: int  # the chosen outputs of a tick
    y: int  # all outputs
    w: int  # the inputs of one feature, gathered
    states: int  # states and parameters, as the table says


def layout_of(features: Sequence[Joined], chosen: Sequence[int]) -> Layout:
    out = TABLE + PLACES * len(features)
    y = out + len(chosen)
    w = y + max((one.end for one in features), default=0)
    return Layout(out, y, w, w + max((len(one.moves) for one in features), default=0))


def fused_of(features: Sequence[Joined], chosen: Sequence[int]) -> Any:
    """A module with `rows(m, t, x, y, start)` and `tick(m, now, row)`: all features of a row in one compiled call."""
    layout = layout_of(features, chosen)
    kernels = {one.kernel.name: one.kernel for one in features if one.kernel is not None}
    lines = [
        '"""Generated: features of one row."""', "import numpy as np", "from numba import njit",
        "from oneprice.compute.kernels.rows import finite, ratio",
        "from oneprice.compute.uncounted import piece, uncounted",
        *(f"from {one.module} import {_step_name(one)} as step_{name}" for name, one in kernels.items()),
        "", _FUSED_HEAD.format(y=layout.y, w=layout.w, states=layout.states),
    ]  # fmt: skip
    for number, feature in enumerate(features):
        lines.append(f"    if begin <= {number}:")
        if feature.kernel is None:
            tree = parsed(feature.expression)
            places = {name: f"{one}s[{at}]" for name, (one, at) in zip(names_in(tree), feature.moves, strict=True)}
            lines.append(f"        ys[{feature.begin}] = finite({source_of(tree, places)})")
            continue
        inputs, moved = _inputs(feature.moves)
        lines += [f"        {line}" for line in moved]
        at = TABLE + PLACES * number
        lines += [
            f"        if step_{feature.kernel.name}(piece(g, m[{at}], m[{at + 1}]), piece(m, m[{at + 2}], m[{at + 3}]), "
            f"piece(g, m[{at + 4}], m[{at + 5}]), now, {inputs}, piece(ys, {feature.begin}, {feature.end})):",
            f"            m[0] = {number}",
            "            return True",
        ]
    written = "\n".join(f"    out[{k}] = ys[{place}]" for k, place in enumerate(chosen))
    text = "\n".join([*lines, _FUSED_TAIL.format(chosen=written, out=layout.out, y=layout.y)])
    return _module(text, f"a pipeline of {len(features)}")


def _inputs(moves: Sequence[Move]) -> tuple[str, list[str]]:
    """A step's inputs: a piece of the row where they stand there side by side, else gathered in the scratch row."""
    source, first = moves[0]
    if source and all(move == (source, first + k) for k, move in enumerate(moves)):
        return f"piece({source}s, {first}, {first + len(moves)})", []
    return f"piece(w, 0, {len(moves)})", [
        f"w[{k}] = {f'{one}s[{column}]' if one else 'np.nan'}" for k, (one, column) in enumerate(moves)
    ]


def made_for(compiled: Any) -> str | None:
    """The kernel or pipeline that a compiled function is the loop of, to tell people; None for any other function."""
    return _MADE_FOR.get(compiled.py_func.__module__)


def _step_name(kernel: Kernel) -> str:
    return str(kernel.step.py_func.__name__)


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
