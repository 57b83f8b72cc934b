"""How the parts of a step are compiled: what every row does into whoever calls it, what few rows do out of the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

from oneprice.compute.inner import inner

_intrinsic: Any = extending.intrinsic
_NUMBERS = "numpy"  # what is divided by zero is a number that the step looks at, not an error


def inlined(function: Callable[..., Any]) -> Any:
    """For compiled code only, and kept on disk. LLVM would leave it as a call, which costs more than it does."""
    return inner(function, forceinline=True, error_model=_NUMBERS)


def outlined(function: Callable[..., Any]) -> Any:
    """The same as a call: for what few rows do (move a whole window), so that it does not stand between what every row does,
    and for steps that do so much that a call is nothing beside it."""
    return inner(function, forceinline=False, error_model=_NUMBERS)


@_intrinsic
def seldom(typing, condition):
    """The same, true or false; LLVM puts what follows from its truth out of the way of what mostly happens."""

    def expect(context, builder, signature, arguments):
        bit = ir.IntType(1)
        hint = cgutils.get_or_insert_function(builder.module, ir.FunctionType(bit, [bit, bit]), "llvm.expect.i1")
        return builder.call(hint, [arguments[0], bit(0)])

    return types.boolean(types.boolean), expect


@_intrinsic
def widely(typing):
    """Let LLVM take the widest registers in the function that says this. Of those with 512 bits it makes no use by itself, as
    few programs have enough to do for them."""

    def allow(context, builder, signature, arguments):
        # llvmlite knows attributes without a value only.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.none(), allow
