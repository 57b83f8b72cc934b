"""Compiled functions that only compiled functions call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from numba.core.registry import CPUDispatcher

# Without entrances for Python and for C: each would be a function more to compile.
_OPTIONS = {"nopython": True, "boundscheck": None, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}


class _Compiled(CPUDispatcher):
    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        """Without this Python would jump to where no code is."""
        raise TypeError(
            f"{self.py_func.__name__} is compiled into others; from Python, call {self.py_func.__name__}.py_func"
        )


def inner(function: Callable[..., Any], **options: Any) -> Any:
    """Compile a function for compiled code only, and keep it on disk."""
    made = _Compiled(function, targetoptions=_OPTIONS | options)
    made.enable_caching()
    return made
