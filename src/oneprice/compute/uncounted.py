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
