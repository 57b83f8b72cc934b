"""Rows of a table that is laid out column by column: numbers of one kind, the same way apart.

Numba's own arrays with strides compute addresses as whole numbers, through which LLVM no longer sees that two of them do not
overlap, and each access asks for indices below zero. A lane is a pointer, a distance and a length, and asks nothing."""

from __future__ import annotations

import operator
from typing import Any

from numba import extending, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin, lower_getattr
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature

_intrinsic: Any = extending.intrinsic


class Lane(types.Type):
    """For compiled code only: `x[k]`, `x[k] = …`, `x.shape[0]`."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"Lane({dtype})")


@extending.register_model(Lane)
class _LaneModel(extending.models.StructModel):
    def __init__(self, manager, lane):
        super().__init__(
            manager, lane, [("data", types.CPointer(lane.dtype)), ("length", types.intp), ("apart", types.intp)]
        )


@_intrinsic
def lane(typing, held, begin, length, apart):
    """`length` numbers of a C-contiguous array, from place `begin` on, each `apart` places from the next. No reference to the
    array is counted, and no bound is checked."""
    if not (isinstance(held, types.Array) and held.layout == "C"):
        return None
    kind = Lane(held.dtype)

    def make(context, builder, signature, arguments):
        seen = context.make_array(held)(context, builder, value=arguments[0])
        made = cgutils.create_struct_proxy(kind)(context, builder)
        made.data, made.length, made.apart = builder.gep(seen.data, [arguments[1]]), arguments[2], arguments[3]
        return made._getvalue()

    return kind(held, types.intp, types.intp, types.intp), make


def _place(context, builder, kind, value, k):
    seen = cgutils.create_struct_proxy(kind)(context, builder, value=value)
    return builder.gep(seen.data, [builder.mul(k, seen.apart)])


@infer_global(operator.getitem)
class _Get(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Lane) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@lower_builtin(operator.getitem, Lane, types.Integer)
def _get(context, builder, sig, arguments):
    return builder.load(_place(context, builder, sig.args[0], *arguments))


@infer_global(operator.setitem)
class _Set(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], Lane) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


@lower_builtin(operator.setitem, Lane, types.Integer, types.Number)
def _set(context, builder, sig, arguments):
    builder.store(arguments[2], _place(context, builder, sig.args[0], *arguments[:2]))
    return context.get_dummy_value()


@infer_getattr
class _Attributes(AttributeTemplate):
    key = Lane

    def resolve_shape(self, lane):
        return types.UniTuple(types.intp, 1)


@lower_getattr(Lane, "shape")
def _shape(context, builder, kind, value):
    seen = cgutils.create_struct_proxy(kind)(context, builder, value=value)
    return context.make_tuple(builder, types.UniTuple(types.intp, 1), [seen.length])


@_intrinsic
def whole(typing, held):
    """The numbers of a lane as the whole ones whose bits stand there."""
    if not isinstance(held, Lane):
        return None
    kind = Lane(types.int64)

    def make(context, builder, signature, arguments):
        seen = cgutils.create_struct_proxy(held)(context, builder, value=arguments[0])
        made = cgutils.create_struct_proxy(kind)(context, builder)
        made.data = builder.bitcast(seen.data, context.get_value_type(types.CPointer(types.int64)))
        made.length, made.apart = seen.length, seen.apart
        return made._getvalue()

    return kind(held), make
