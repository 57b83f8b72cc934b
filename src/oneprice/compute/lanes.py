"""Rows of a table that is laid out column by column, and numbers of which the first stand in registers.

Numba's own arrays with strides compute addresses as whole numbers, through which LLVM no longer sees that two of them do not
overlap, and each access asks for indices below zero. A lane is a pointer, a distance and a length, and asks nothing. A split
array is two pointers and where the one ends: of a state's own numbers and its ring LLVM sees that they are apart."""

from __future__ import annotations

import operator
from typing import Any

from numba import extending, types
from numba.core import cgutils
from numba.core.imputils import lower_builtin, lower_getattr
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature

_intrinsic: Any = extending.intrinsic


class _Numbers(types.Type):
    """For compiled code only: `x[k]`, `x[k] = …`."""

    def __init__(self, dtype: types.Type) -> None:
        self.dtype = dtype
        super().__init__(name=f"{type(self).__name__}({dtype})")


class Lane(_Numbers):
    """Numbers the same way apart; `x.shape[0]` says how many."""


@extending.register_model(Lane)
class _LaneModel(extending.models.StructModel):
    def __init__(self, manager, lane):
        super().__init__(
            manager, lane, [("data", types.CPointer(lane.dtype)), ("length", types.intp), ("apart", types.intp)]
        )


@_intrinsic
def lane(typing, held, begin, length, apart):
    """`length` numbers of a C-contiguous array, or of a lane, from place `begin` on, each `apart` places of memory from the
    next. No reference to the array is counted, and no bound is checked."""
    if not (isinstance(held, Lane) or (isinstance(held, types.Array) and held.layout == "C")):
        return None
    kind = Lane(held.dtype)

    def make(context, builder, signature, arguments):
        value, begin, length, apart = arguments
        if isinstance(held, Lane):
            first = _place(context, builder, held, value, begin)
        else:
            first = builder.gep(context.make_array(held)(context, builder, value=value).data, [begin])
        made = cgutils.create_struct_proxy(kind)(context, builder)
        made.data, made.length, made.apart = first, length, apart
        return made._getvalue()

    return kind(held, types.intp, types.intp, types.intp), make


@_intrinsic
def lane_at(typing, alike, address, begin, length, apart):
    """The same of the numbers that begin at an address, of the type of another array: of a column that the caller holds."""
    kind = Lane(alike.dtype)

    def make(context, builder, signature, arguments):
        _, address, begin, length, apart = arguments
        made = cgutils.create_struct_proxy(kind)(context, builder)
        first = builder.inttoptr(address, context.get_value_type(types.CPointer(kind.dtype)))
        made.data, made.length, made.apart = builder.gep(first, [begin]), length, apart
        return made._getvalue()

    return kind(alike, types.intp, types.intp, types.intp, types.intp), make


@_intrinsic
def copied_from(typing, address, begin, held, to, count):
    """Copy `count` numbers that begin at an address, from place `begin` on, to places of an array from `to` on."""

    def copy(context, builder, signature, arguments):
        address, begin, value, to, count = arguments
        seen = context.make_array(held)(context, builder, value=value)
        source = builder.gep(builder.inttoptr(address, seen.data.type), [begin])
        cgutils.raw_memcpy(builder, builder.gep(seen.data, [to]), source, count, seen.itemsize)
        return context.get_dummy_value()

    return types.none(types.intp, types.intp, held, types.intp, types.intp), copy


def _place(context, builder, kind, value, k):
    seen = cgutils.create_struct_proxy(kind)(context, builder, value=value)
    return builder.gep(seen.data, [builder.mul(k, seen.apart)])


class Split(_Numbers):
    """Numbers of which the first stand elsewhere."""


@extending.register_model(Split)
class _SplitModel(extending.models.StructModel):
    def __init__(self, manager, split):
        pointer = types.CPointer(split.dtype)
        super().__init__(manager, split, [("near", pointer), ("far", pointer), ("count", types.intp)])


@_intrinsic
def split(typing, near, far, count):
    """The numbers of `far`, a C-contiguous array, of which the first `count` stand in `near`. Where the compiler sees on which
    side of `count` a place is (which it does of places that are masked, and so not negative), it asks no more, and knows that
    what is written on one side is not read on the other."""
    kind = Split(far.dtype)

    def make(context, builder, signature, arguments):
        made = cgutils.create_struct_proxy(kind)(context, builder)
        made.near = context.make_array(near)(context, builder, value=arguments[0]).data
        made.far = context.make_array(far)(context, builder, value=arguments[1]).data
        made.count = arguments[2]
        return made._getvalue()

    return kind(near, far, types.intp), make


def _place_in_split(context, builder, kind, value, k):
    seen = cgutils.create_struct_proxy(kind)(context, builder, value=value)
    is_near = builder.icmp_signed("<", k, seen.count)
    return builder.select(is_near, builder.gep(seen.near, [k]), builder.gep(seen.far, [k]))


@infer_global(operator.getitem)
class _Get(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], _Numbers) and isinstance(args[1], types.Integer):
            return signature(args[0].dtype, args[0], types.intp)
        return None


@infer_global(operator.setitem)
class _Set(AbstractTemplate):
    def generic(self, args, kws):
        if isinstance(args[0], _Numbers) and isinstance(args[1], types.Integer):
            return signature(types.none, args[0], types.intp, args[0].dtype)
        return None


def _accessed(kind, place):
    @lower_builtin(operator.getitem, kind, types.Integer)
    def get(context, builder, sig, arguments):
        return builder.load(place(context, builder, sig.args[0], *arguments))

    @lower_builtin(operator.setitem, kind, types.Integer, types.Number)
    def set_(context, builder, sig, arguments):
        builder.store(arguments[2], place(context, builder, sig.args[0], *arguments[:2]))
        return context.get_dummy_value()


_accessed(Lane, _place)
_accessed(Split, _place_in_split)


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
