"""Arrays that compiled code may pass around without counting references.

Numba counts the references to every array that is sliced or handed to another function: two atomic operations, some
ten nanoseconds each time. A hot pass that owns nothing and outlives nothing does without: its caller holds the arrays."""

from __future__ import annotations

from typing import Any

from numba import extending, types

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
        seen, made = (context.make_array(held)(context, builder, value=value) for value in (arguments[0], None))
        size, length = seen.itemsize, builder.sub(arguments[2], arguments[1])
        made.data, made.itemsize, made.nitems = builder.gep(seen.data, [arguments[1]]), size, length
        made.shape = builder.insert_value(made.shape, length, 0)
        made.strides = builder.insert_value(made.strides, size, 0)
        made.meminfo, made.parent = made.meminfo.type(None), made.parent.type(None)
        return made._getvalue()

    return held(held, types.intp, types.intp), view
