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
from typing import Any

from oneprice.compute.kernels.definition import Kernel

_ROWS = '''"""Generated: the rows of {name}."""
from numba import njit
from oneprice.compute.uncounted import uncounted
from {module} import {step} as step


@njit(cache=True, forceinline=True)
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


@njit(cache=True, forceinline=True)
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


def rows_of(kernel: Kernel) -> Any:
    """`run(f, i, p, t, x, y) -> rows done` of one kernel, compiled when first called."""
    return _module(_ROWS.format(name=kernel.name, module=kernel.module, step=_step_name(kernel))).run


def answers_of(kernel: Kernel) -> Any:
    """`run(f, i, p, t, x, y, out, begin) -> (rows done, answers written)` of a kernel that does not answer row by row."""
    names = {"step": _step_name(kernel), "ready": kernel.ready.py_func.__name__}
    return _module(_ANSWERS.format(name=kernel.name, module=kernel.module, **names)).run


def tick_of(steps: Sequence[Kernel], moves: Sequence[Sequence[tuple[str, int]]]) -> Any:
    """`run(f, i, p, t, x, y, w, places) -> rows done` of many kernels, one after the other, compiled when first called.

    `moves[k]`: where the inputs of step k come from, ("x", column) or ("y", an output of an earlier step). `places[k]`: where
    its state, parameters, scratch row `w` and outputs begin.
    """
    lines = [
        '"""Generated: features of one row."""',
        "from numba import njit",
        "from oneprice.compute.uncounted import uncounted",
    ]
    names: dict[str, str] = {}
    for kernel in steps:
        if kernel.name not in names:
            names[kernel.name] = f"step_{kernel.name}"
            lines.append(f"from {kernel.module} import {_step_name(kernel)} as step_{kernel.name}")
    lines += [
        "", "", "@njit(cache=True)", "def run(f, i, p, t, x, y, w, places, begin, start):",
        '    """Rows done; fewer than there are when the state of step places[-1, 0] has to grow first."""',
        "    f, i, p, t = uncounted(f), uncounted(i), uncounted(p), uncounted(t)",
        "    x, y, w, places = uncounted(x), uncounted(y), uncounted(w), uncounted(places)",
        "    for k in range(start, x.shape[0]):",
        "        xs, ys, now = x[k], y[k], t[k]",
    ]  # fmt: skip
    for number, (kernel, moved) in enumerate(zip(steps, moves, strict=True)):
        lines.append(f"        if begin <= {number}:")
        lines.append(f"            at = places[{number}]")
        for place, (source, column) in enumerate(moved):
            lines.append(f"            w[at[6] + {place}] = {source}s[{column}]")
        lines.append(
            f"            if step_{kernel.name}(f[at[0] : at[1]], i[at[2] : at[3]], p[at[4] : at[5]], now,"
            f" w[at[6] : at[6] + {len(moved)}], ys[at[7] : at[8]]):"
        )
        lines.append(f"                places[-1, 0] = {number}")
        lines.append("                return k")
    lines += ["        begin = 0", "    return x.shape[0]", ""]
    return _module("\n".join(lines)).run


def _step_name(kernel: Kernel) -> str:
    return str(kernel.step.py_func.__name__)


def _module(text: str) -> Any:
    """A module of this source: written once, aside, so that two processes may do it at a time."""
    name = f"oneprice_generated_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
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
