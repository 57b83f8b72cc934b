"""Short text as codes, read where it lies.

Polars holds text as Arrow's string views: 16 bytes a row, in which text of up to 12 bytes stands whole, so that two words tell
symbols apart. It hands them over through Arrow's C stream interface, whose structures are below
(https://arrow.apache.org/docs/format/CStreamInterface.html)."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from oneprice.compute.asof.numbering import Numbers
from oneprice.compute.asof.passes import Codes

_STRING_VIEWS = b"vu"


class _Schema(ctypes.Structure):
    pass


_Schema._fields_ = [
    ("format", ctypes.c_char_p), ("name", ctypes.c_char_p), ("metadata", ctypes.c_char_p), ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64), ("children", ctypes.c_void_p), ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Schema))), ("private_data", ctypes.c_void_p),
]  # fmt: skip


class _Array(ctypes.Structure):
    pass


_Array._fields_ = [
    ("length", ctypes.c_int64), ("null_count", ctypes.c_int64), ("offset", ctypes.c_int64), ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64), ("buffers", ctypes.POINTER(ctypes.c_void_p)), ("children", ctypes.c_void_p),
    ("dictionary", ctypes.c_void_p), ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))),
    ("private_data", ctypes.c_void_p),
]  # fmt: skip


class _Stream(ctypes.Structure):
    _fields_ = (
        ("get_schema", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Schema))),
        ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Array))),
        ("get_last_error", ctypes.c_void_p), ("release", ctypes.c_void_p), ("private_data", ctypes.c_void_p),
    )  # fmt: skip


_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)


def short_text_codes(texts: Sequence[pl.Series]) -> tuple[list[Codes], int] | None:
    """(codes of each column, how many). None where some text is longer than 12 bytes, or not held as string views. Columns have
    no nulls."""
    with ThreadPoolExecutor(len(texts)) as pool:  # each column has numbers of its own first
        parts = [part for part in pool.map(_numbered, texts) if part is not None]
    if len(parts) < len(texts):
        return None
    (numbers, first), *others = parts
    return [first, *(numbers.adopt(of_other, codes) for of_other, codes in others)], numbers.count


def _numbered(text: pl.Series) -> tuple[Numbers, Codes] | None:
    numbers = Numbers(width=2)
    with _views(text.rechunk()) as views:
        codes = None if views is None else numbers.codes(views)
    return None if codes is None else (numbers, codes)


@contextmanager
def _views(text: pl.Series) -> Iterator[NDArray[np.uint64] | None]:
    """The string views of a column in one piece, two words a row, while Polars lends them."""
    if len(text) == 0:
        yield np.empty(0, dtype=np.uint64)
        return
    capsule = text.__arrow_c_stream__()  # holds the stream, and ends it
    at = _pointer_of(capsule, b"arrow_array_stream")
    stream, schema, array = _Stream.from_address(at), _Schema(), _Array()
    if stream.get_schema(at, ctypes.byref(schema)) != 0:
        yield None
        return
    is_as_expected = schema.format == _STRING_VIEWS
    schema.release(ctypes.byref(schema))
    if not is_as_expected or stream.get_next(at, ctypes.byref(array)) != 0:
        yield None
        return
    try:
        held: Any = (ctypes.c_uint64 * (2 * len(text))).from_address(array.buffers[1] + 16 * array.offset)
        yield np.frombuffer(held, dtype=np.uint64) if array.length == len(text) else None
    finally:
        array.release(ctypes.byref(array))
