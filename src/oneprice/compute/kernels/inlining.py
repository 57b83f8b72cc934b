"""How the parts of a step are compiled: what every row does into whoever calls it, what few rows do out of the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.core.registry import CPUDispatcher

_intrinsic: Any = extending.intrinsic

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
    """The same as a call, for what few rows do (move a whole window), so that it does not stand between what every row does."""
    return _kept(function, forceinline=False)


@_intrinsic
def seldom(typing, condition):
    """The same, true or false; LLVM puts what follows from its truth out of the way of what mostly happens."""

    def expect(context, builder, signature, arguments):
        bit = ir.IntType(1)
        hint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(bit, [bit, bit]), "llvm.expect.i1")
        return builder.call(hint, [arguments[0], bit(0)])

    return types.boolean(types.boolean), expect


def _kept(function: Callable[..., Any], *, forceinline: bool) -> Any:
    made = _Compiled(function, targetoptions=_OPTIONS | {"forceinline": forceinline})
    made.enable_caching()
    return made
