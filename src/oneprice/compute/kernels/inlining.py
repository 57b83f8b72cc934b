"""How the parts of a step are compiled: into whoever calls them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from numba.core.registry import CPUDispatcher

_OPTIONS = {
    "nopython": True, "boundscheck": None,
    "forceinline": True,  # LLVM would leave them as calls, which cost more than they do
    "error_model": "numpy",  # what is divided by zero is a number that the step looks at, not an error
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,  # Python never calls them: a third of the compiling is saved
}  # fmt: skip


class _Inlined(CPUDispatcher):
    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        """Without this Python would jump to where no code is."""
        raise TypeError(
            f"{self.py_func.__name__} is compiled into others; from Python, call {self.py_func.__name__}.py_func"
        )


def inlined(function: Callable[..., Any]) -> Any:
    """For compiled code only, and kept on disk."""
    made = _Inlined(function, targetoptions=dict(_OPTIONS))
    made.enable_caching()
    return made
