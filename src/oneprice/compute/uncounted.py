"""Arrays that compiled code may pass around without counting references.

Numba counts the references to every array that is sliced or handed to another function: two atomic operations, some
ten nanoseconds each time. A hot pass that owns nothing and outlives nothing does without: its caller holds the arrays."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

_intrinsic: Any = extending.intrinsic  # its stub keeps the first argument, which callers do not give


@_intrinsic
def uncounted(typing, held):
    """The same array, or (named) tuple of arrays, of which no reference is counted.

    It must not outlive the call in which it was made.
    """

    def one(context, builder, array, value):
        seen = context.make_array(array)(context, builder, value=value)
        seen.meminfo = seen.meminfo.type(None)
        seen.parent = seen.parent.type(None)
        return seen._getvalue()

    def view(context, builder, signature, arguments):
        if isinstance(held, types.Array):
            return one(context, builder, held, arguments[0])
        value = arguments[0]
        for k, array in enumerate(held.types):
            value = builder.insert_value(value, one(context, builder, array, builder.extract_value(value, k)), k)
        return value

    return held(held), view


@_intrinsic
def piece(typing, held, begin, end):
    """`held[begin:end]` of a C-contiguous array of one dimension, of which no reference is counted and no bound is checked:
    for compiled code that has laid out the array itself."""
    if not (isinstance(held, types.Array) and held.ndim == 1 and held.layout == "C"):
        return None

    def view(context, builder, signature, arguments):
        seen = context.make_array(held)(context, builder, value=arguments[0])
        begin, end = arguments[1:]
        return _made(context, builder, held, builder.gep(seen.data, [begin]), builder.sub(end, begin))

    return held(held, types.intp, types.intp), view


@_intrinsic
def on_stack(typing, count, kind):
    """Room for so many numbers, a constant of the source, of the type of an array: in registers, where the compiler can."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    array = kind.copy(layout="C", ndim=1)

    def room(context, builder, signature, arguments):
        data = cgutils.alloca_once(builder, ir.ArrayType(context.get_data_type(array.dtype), count.literal_value))
        first = builder.gep(data, [cgutils.int32_t(0), cgutils.int32_t(0)])
        return _made(context, builder, array, first, context.get_constant(types.intp, count.literal_value))

    return array(count, kind), room


def _made(context, builder, array, data, length):
    """An array of one dimension at `data`, of which no reference is counted."""
    made = context.make_array(array)(context, builder)
    size = context.get_constant(types.intp, context.get_abi_sizeof(context.get_data_type(array.dtype)))
    made.data, made.itemsize, made.nitems = data, size, length
    made.shape = builder.insert_value(made.shape, length, 0)
    made.strides = builder.insert_value(made.strides, size, 0)
    made.meminfo, made.parent = made.meminfo.type(None), made.parent.type(None)
    return made._getvalue()


_DATA = ".4"  # of an array's parts, which Numba hands over one by one, the one that points at its numbers


@_intrinsic
def apart(typing):
    """Promise that no two arrays which the compiled function was called with overlap: what is written to one need not be read
    again from another."""

    def promise(context, builder, signature, arguments):
        for argument in builder.function.args:
            if argument.type.is_pointer and argument.name.endswith(_DATA):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.none(), promise
