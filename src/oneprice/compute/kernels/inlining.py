"""How the parts of a step are compiled: what every row does into whoever calls it, what few rows do out of the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from numba.core.registry import CPUDispatcher

_OPTIONS = {
    "nopython": True, "boundscheck": None,
    "error_model": "numpy",  # what is divided by zero is a number that the step looks at, not an error
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,  # Python never calls them: a third of the compiling is saved
}  # fmt: skip


class _Compiled(CPUDispatcher):
    def __call__(self, *arguments: Any, **named: Any) -> NoReturn:
        """Without this Python would jump to where no code is."""
        raise TypeError(
            f"{self.py_func.__name__} is compiled into others; from Python, call {self.py_func.__name__}.py_func"
        )


def inlined(function: Callable[..., Any]) -> Any:
    """For compiled code only, and kept on disk. LLVM would leave it as a call, which costs more than it does."""
    return _kept(function, forceinline=True)


def outlined(function: Callable[..., Any]) -> Any:
    """The same for what few rows do (make sums anew, move a whole window): a call, so that it does not stand between what
    every row does, where the processor would have to read past it."""
    return _kept(function, forceinline=False)


def _kept(function: Callable[..., Any], *, forceinline: bool) -> Any:
    made = _Compiled(function, targetoptions=_OPTIONS | {"forceinline": forceinline})
    made.enable_caching()
    return made
