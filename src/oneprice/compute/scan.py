"""Reading JSON bytes in compiled code: the few steps that hot decoders are made of.

Every step takes the frame as a `uint8` array and a position, and returns the position behind what it read. A negative
position means that the bytes are not what the step expected (`MALFORMED`) or that a number has more digits than its
exponent can hold (`INEXACT`); steps pass a negative position through, so a decoder tests once at the end. Only compact
or spaced standard JSON is accepted; nothing here allocates."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import extending, njit, types

from oneprice.compute.inner import inner

_intrinsic: Any = extending.intrinsic  # its stub keeps the first argument, which callers do not give

MALFORMED = -2
INEXACT = -4  # statuses between are used by venues/decode.py
NO_ROOM = -5

_QUOTE, _COMMA, _COLON, _MINUS, _DOT = 34, 44, 58, 45, 46
_OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_LIST, _CLOSE_LIST, _ESCAPE = 123, 125, 91, 93, 92
_MAX_DIGITS = 18  # an int64 holds every number of 18 digits
_POWERS = np.array([10**k for k in range(9)], dtype=np.int64)


@njit(cache=True, inline="always")
def skip_space(buf, i):
    """Position of the next byte that is not white space."""
    n = buf.shape[0]
    while 0 <= i < n and (buf[i] == 32 or buf[i] == 10 or buf[i] == 13 or buf[i] == 9):
        i += 1
    return i


@njit(cache=True, inline="always")
def expect(buf, i, byte):
    """Step over one given byte (after white space)."""
    if i < 0:
        return i
    i = skip_space(buf, i)
    if i < buf.shape[0] and buf[i] == byte:
        return i + 1
    return MALFORMED


@njit(cache=True, inline="always")
def peek(buf, i):
    """The next byte that is not white space, or -1 at the end."""
    if i < 0:
        return -1
    i = skip_space(buf, i)
    if i < buf.shape[0]:
        return np.int64(buf[i])
    return -1


@njit(cache=True)
def read_string(buf, i):
    """(start, end, next) of a string's content. Escapes are stepped over, not decoded."""
    i = expect(buf, i, _QUOTE)
    if i < 0:
        return 0, 0, i
    start = i
    n = buf.shape[0]
    while i < n and buf[i] != _QUOTE:
        i += 2 if buf[i] == _ESCAPE else 1
    if i >= n:
        return 0, 0, MALFORMED
    return start, i, i + 1


@njit(cache=True)
def read_int(buf, i):
    """(value, next) of an integer, bare or in quotes."""
    if i < 0:
        return 0, i
    i = skip_space(buf, i)
    n = buf.shape[0]
    quoted = i < n and buf[i] == _QUOTE
    if quoted:
        i += 1
    negative = i < n and buf[i] == _MINUS
    if negative:
        i += 1
    start = i
    value = np.int64(0)
    while i < n and 48 <= buf[i] <= 57:
        value = value * 10 + (np.int64(buf[i]) - 48)
        i += 1
    if i == start or i - start > _MAX_DIGITS + 1:
        return 0, MALFORMED
    if quoted:
        if i >= n or buf[i] != _QUOTE:
            return 0, MALFORMED
        i += 1
    return (-value if negative else value), i


@njit(cache=True)
def read_decimal(buf, i, exponent):
    """(mantissa, next) of a decimal number, bare or in quotes, at the given (non-positive) exponent.

    `"61837.63000000"` at -2 is 6183763. A digit other than 0 beyond the exponent is INEXACT; scientific notation and an
    empty string are MALFORMED.
    """
    if i < 0:
        return 0, i
    i = skip_space(buf, i)
    n = buf.shape[0]
    quoted = i < n and buf[i] == _QUOTE
    if quoted:
        i += 1
    negative = i < n and buf[i] == _MINUS
    if negative:
        i += 1
    start = i
    value = np.int64(0)
    while i < n and 48 <= buf[i] <= 57:
        value = value * 10 + (np.int64(buf[i]) - 48)
        i += 1
    if i == start or i - start > _MAX_DIGITS:
        return 0, MALFORMED
    places = -exponent
    if i - start + places > _MAX_DIGITS and value != 0:
        return 0, INEXACT
    if i < n and buf[i] == _DOT:
        i += 1
        while i < n and 48 <= buf[i] <= 57:
            if places > 0:
                value = value * 10 + (np.int64(buf[i]) - 48)
                places -= 1
            elif buf[i] != 48:
                return 0, INEXACT
            i += 1
    while places > 0:
        value *= 10
        places -= 1
    if quoted:
        if i >= n or buf[i] != _QUOTE:
            return 0, MALFORMED
        i += 1
    elif i < n and (buf[i] == 101 or buf[i] == 69):  # e, E
        return 0, MALFORMED
    return (-value if negative else value), i


@njit(cache=True)
def read_float(buf, i):
    """(value, next) of a decimal number as float64: for rates and mark prices, which are ratios or references.

    The digits are gathered as an integer and divided once by a power of ten, so that up to 15 digits come out as the
    nearest float.
    """
    if i < 0:
        return 0.0, i
    i = skip_space(buf, i)
    n = buf.shape[0]
    quoted = i < n and buf[i] == _QUOTE
    if quoted:
        i += 1
    negative = i < n and buf[i] == _MINUS
    if negative:
        i += 1
    start = i
    value = np.int64(0)
    digits = 0
    places = 0
    seen_dot = False
    while i < n and ((48 <= buf[i] <= 57) or (buf[i] == _DOT and not seen_dot)):
        if buf[i] == _DOT:
            seen_dot = True
        elif digits < _MAX_DIGITS:
            value = value * 10 + (np.int64(buf[i]) - 48)
            digits += 1 if value != 0 else 0
            places += 1 if seen_dot else 0
        elif not seen_dot:
            return 0.0, MALFORMED
        i += 1
    if i == start:
        return 0.0, MALFORMED
    result = np.float64(value)
    if places > 0:
        power = 1.0
        for _ in range(places):
            power *= 10.0
        result /= power
    if i < n and (buf[i] == 101 or buf[i] == 69):
        i += 1
        down = i < n and buf[i] == _MINUS
        if i < n and (buf[i] == _MINUS or buf[i] == 43):
            i += 1
        size = np.int64(0)
        while i < n and 48 <= buf[i] <= 57:
            size = size * 10 + (np.int64(buf[i]) - 48)
            i += 1
        steps = np.int64(0)
        while steps < size and steps < 400:
            result = result / 10.0 if down else result * 10.0
            steps += 1
    if quoted:
        if i >= n or buf[i] != _QUOTE:
            return 0.0, MALFORMED
        i += 1
    return (-result if negative else result), i


@njit(cache=True)
def skip_value(buf, i):
    """Step over any JSON value."""
    if i < 0:
        return i
    i = skip_space(buf, i)
    n = buf.shape[0]
    depth = 0
    while i < n:
        byte = buf[i]
        if byte == _QUOTE:
            _, _, i = read_string(buf, i)
            if i < 0:
                return i
        elif byte == _OPEN_OBJECT or byte == _OPEN_LIST:
            depth += 1
            i += 1
        elif byte == _CLOSE_OBJECT or byte == _CLOSE_LIST:
            if depth == 0:
                return i
            depth -= 1
            i += 1
        elif byte == _COMMA and depth == 0:
            return i
        else:
            i += 1
        if depth == 0 and (i >= n or buf[i] == _COMMA or buf[i] == _CLOSE_OBJECT or buf[i] == _CLOSE_LIST):
            return i
    return MALFORMED if depth > 0 else i


@inner
def next_key(buf, i):
    """(start, end, next) of the next key of an object, `next` behind its colon; start = -1 at the closing brace.

    Call it with the position behind `{` and then behind each value.
    """
    if i < 0:
        return 0, 0, i
    i = skip_space(buf, i)
    if i < buf.shape[0] and buf[i] == _COMMA:
        i += 1
    if peek(buf, i) == _CLOSE_OBJECT:
        return -1, -1, skip_space(buf, i) + 1
    start, end, i = read_string(buf, i)
    return start, end, expect(buf, i, _COLON)


@njit(cache=True)
def equals(buf, start, end, text):
    """Whether buf[start:end] is the given bytes (a uint8 array)."""
    if end - start != text.shape[0]:
        return False
    for k in range(text.shape[0]):
        if buf[start + k] != text[k]:
            return False
    return True


@_intrinsic
def _byte_at(typing, address, i):
    """The byte at address + i, as int64. The caller sees to it that it is there."""

    def load(context, builder, signature, arguments):
        place = builder.inttoptr(builder.add(*arguments), ir.IntType(8).as_pointer())
        return builder.zext(builder.load(place), ir.IntType(64))

    return types.int64(types.int64, types.int64), load


@_intrinsic
def _eight_bytes_at(typing, address, i):
    """The eight bytes from address + i as one little-endian uint64. The caller sees to it that they are there."""

    def load(context, builder, signature, arguments):
        place = builder.inttoptr(builder.add(*arguments), ir.IntType(64).as_pointer())
        return builder.load(place, align=1)

    return types.uint64(types.int64, types.int64), load


@inner
def _eight_digits(word):
    """The number that eight ASCII digits make, the first in the lowest byte; -1 when one of them is no digit.

    Three multiplications instead of eight: neighbours are joined to pairs, pairs to fours, fours to all
    (D. Lemire, "Quickly parsing eight digits", 2018).
    """
    word ^= np.uint64(0x3030303030303030)
    if (word | (word + np.uint64(0x7676767676767676))) & np.uint64(0x8080808080808080):
        return np.int64(-1)
    word = word * np.uint64(10) + (word >> np.uint64(8))
    low = (word & np.uint64(0x000000FF000000FF)) * np.uint64(100 + (1_000_000 << 32))
    high = ((word >> np.uint64(16)) & np.uint64(0x000000FF000000FF)) * np.uint64(1 + (10_000 << 32))
    return np.int64((low + high) >> np.uint64(32))


@inner
def _plain_number(address, n, i, places):
    """(mantissa, next) of digits with at most one dot, at most `places` decimals that are not 0; -1: not that plain.

    Eight decimals, as spot venues write every number, are taken at once. Here and in `_plain_level` the frame is its
    address and size `n`: an array that is passed on is counted, and the counting costs more than the digits.
    """
    start = i
    value = np.int64(0)
    while i < n:
        digit = _byte_at(address, i) - 48
        if digit < 0 or digit > 9:
            break
        value = value * 10 + digit
        i += 1
    if i == start or i - start + places > _MAX_DIGITS:
        return value, np.int64(-1)
    if i < n and _byte_at(address, i) == _DOT:
        i += 1
        decimals = _eight_digits(_eight_bytes_at(address, i)) if i + 8 <= n and places <= 8 else np.int64(-1)
        if decimals >= 0:
            surplus = _POWERS[8 - places]
            kept = np.int64(decimals / surplus)
            if kept * surplus != decimals:
                return value, np.int64(-1)
            value = value * _POWERS[places] + kept
            places = np.int64(0)
            i += 8
        while i < n:
            digit = _byte_at(address, i) - 48
            if digit < 0 or digit > 9:
                break
            if places > 0:
                value = value * 10 + digit
                places -= 1
            elif digit != 0:
                return value, np.int64(-1)
            i += 1
    while places > 0:
        value *= 10
        places -= 1
    return value, np.int64(i)


@inner
def _plain_level(address, n, i, price_places, qty_places):
    """(price, qty, next) of a level written `["1.5","2"]` without spaces and signs; next -1: it is not, or not exactly.

    Every venue writes its levels so; read this way they cost a sixth of the careful steps (which then decide the rest).
    """
    nothing = np.int64(0)
    if i + 2 > n or _byte_at(address, i) != _OPEN_LIST or _byte_at(address, i + 1) != _QUOTE:
        return nothing, nothing, np.int64(-1)
    price, i = _plain_number(address, n, i + 2, price_places)
    if (
        i < 0 or i + 3 > n
        or _byte_at(address, i) != _QUOTE or _byte_at(address, i + 1) != _COMMA or _byte_at(address, i + 2) != _QUOTE
    ):  # fmt: skip
        return nothing, nothing, np.int64(-1)
    qty, i = _plain_number(address, n, i + 3, qty_places)
    if i < 0 or i + 2 > n or _byte_at(address, i) != _QUOTE or _byte_at(address, i + 1) != _CLOSE_LIST:
        return nothing, nothing, np.int64(-1)
    return price, qty, i + 2


@inner
def _careful_level(buf, i, price_exponent, qty_exponent):
    """(price, qty, next) of any level: spaces, signs, members beyond the two; next is a status where it is wrong."""
    i = expect(buf, i, _OPEN_LIST)
    price, i = read_decimal(buf, i, price_exponent)
    i = expect(buf, i, _COMMA)
    qty, i = read_decimal(buf, i, qty_exponent)
    while peek(buf, i) == _COMMA:
        i = skip_value(buf, expect(buf, i, _COMMA))
    return price, qty, expect(buf, i, _CLOSE_LIST)


@njit(cache=True)
def read_levels(buf, i, price_exponent, qty_exponent, rows, at, base_row, flags):
    """Rows of a list of `["price","qty"…]` levels. → (position behind the list, next free row).

    `base_row` is a one-row array whose fields are copied into each level's row (times, sequence, instrument, kind).
    Further members of a level are skipped. When `rows` is full, the position is `NO_ROOM` (-5).
    """
    i = expect(buf, i, _OPEN_LIST)
    following = peek(buf, i)
    if following == _CLOSE_LIST:
        return skip_space(buf, i) + 1, at
    address, n = np.int64(buf.ctypes.data), buf.shape[0]
    while i >= 0:
        price, qty, after = _plain_level(address, n, i, -price_exponent, -qty_exponent)
        if after < 0:
            price, qty, after = _careful_level(buf, i, price_exponent, qty_exponent)
        i = after
        if i < 0:
            break
        if at >= rows.shape[0]:
            return NO_ROOM, at
        rows[np.uint64(at)] = base_row[0]
        row = rows[np.uint64(at)]
        row.price = price
        row.qty = qty
        row.flags = flags
        at += 1
        i = skip_space(buf, i)
        following = buf[i] if i < buf.shape[0] else 0
        if following == _CLOSE_LIST:
            return i + 1, at
        i = i + 1 if following == _COMMA else MALFORMED
    return i, at


def as_bytes(frame: bytes | bytearray | memoryview | str) -> np.ndarray:
    """A frame as the `uint8` array that the compiled steps read (no copy, unless it came as text)."""
    return np.frombuffer(frame.encode() if isinstance(frame, str) else frame, dtype=np.uint8)


__all__ = [
    "INEXACT", "MALFORMED", "NO_ROOM", "as_bytes", "equals", "expect", "next_key", "peek", "read_decimal", "read_float",
    "read_int", "read_levels", "read_string", "skip_space", "skip_value",
]  # fmt: skip
