"""The JSON steps of hot decoders against Python's own `json` and `Decimal`: the same numbers, or a refusal."""

from __future__ import annotations

import json
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.compute.scan import (
    INEXACT,
    MALFORMED,
    NO_ROOM,
    as_bytes,
    read_decimal,
    read_float,
    read_int,
    read_levels,
    read_string,
    skip_value,
)
from oneprice.model.tape import ROW

EXPONENT = -8
# Up to ten digits before the dot and up to eight behind it, written as venues write them, trailing zeros or none.
NUMBERS = st.builds(
    lambda whole, decimals, places: f"{whole}.{decimals:0{places}d}"[: len(str(whole)) + 1 + places],
    st.integers(0, 10**10 - 1), st.integers(0, 10**8 - 1), st.integers(1, 8),
)  # fmt: skip
NUMBERS |= st.integers(0, 10**10 - 1).map(str)
SPACE = st.sampled_from(["", " ", "\n", "\t "])
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def mantissa(text: str, exponent: int) -> int | None:
    """The number at an exponent; None when it has more digits than that."""
    scaled = Decimal(text).scaleb(-exponent)
    return int(scaled) if scaled == int(scaled) else None


@given(NUMBERS, st.booleans(), st.booleans(), st.integers(-8, 0))
def test_a_decimal_is_read_exactly_or_refused(text, quoted, negative, exponent) -> None:
    signed = f"-{text}" if negative else text
    frame = as_bytes(f'"{signed}",' if quoted else f"{signed},")
    value, behind = read_decimal(frame, 0, exponent)
    expected = mantissa(signed, exponent)
    if expected is None:
        assert behind == INEXACT
    else:
        assert (value, behind) == (expected, len(frame) - 1)


@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=12), SPACE, st.booleans(), st.integers(-8, -1))
@settings(max_examples=300)
def test_levels_are_the_lists_that_json_reads(levels, space, has_more, exponent) -> None:
    more = ',"0"' if has_more else ""
    text = "[" + f",{space}".join(f'[{space}"{price}",{space}"{qty}"{more}]' for price, qty in levels) + "]"
    rows, base = np.zeros(16, dtype=ROW), np.zeros(1, dtype=ROW)
    base["instrument"], base["sequence"] = 7, 99
    behind, n = read_levels(as_bytes(text + "}"), 0, exponent, EXPONENT, rows, 0, base, 2)
    read = [(mantissa(level[0], exponent), mantissa(level[1], EXPONENT)) for level in json.loads(text)]
    if any(price is None for price, _ in read):
        assert behind == INEXACT
        return
    assert (behind, n) == (len(text), len(levels))
    assert list(zip(rows["price"][:n].tolist(), rows["qty"][:n].tolist(), strict=True)) == read
    assert {*rows["instrument"][:n].tolist()} <= {7} and {*rows["flags"][:n].tolist()} <= {2}


@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=4), st.data())
def test_levels_that_end_too_early_are_refused_at_every_byte(levels, data) -> None:
    text = "[" + ",".join(f'["{price}","{qty}"]' for price, qty in levels) + "]"
    cut = data.draw(st.integers(0, len(text) - 1))
    rows, base = np.zeros(16, dtype=ROW), np.zeros(1, dtype=ROW)
    # What stands behind the cut in memory must not be read: the frame is a part of a larger buffer of digits.
    memory = as_bytes(text[:cut] + "9" * 64)
    behind, _ = read_levels(memory[:cut], 0, EXPONENT, EXPONENT, rows, 0, base, 0)
    assert behind == MALFORMED


def test_levels_without_room_are_told() -> None:
    text = as_bytes('[["1","1"],["2","1"],["3","1"]]')
    rows, base = np.zeros(2, dtype=ROW), np.zeros(1, dtype=ROW)
    assert read_levels(text, 0, 0, 0, rows, 0, base, 0) == (NO_ROOM, 2)


@pytest.mark.parametrize(
    "text", ['""', '"."', '"1..2"', '"1e5"', '"0x1"', '"1,5"', '"--1"', "[]", '"1', '"' + "9" * 19 + '"']
)
def test_what_is_no_number_is_refused(text: str) -> None:
    assert read_decimal(as_bytes(text), 0, -2)[1] < 0


@given(st.integers(-(10**18), 10**18), st.booleans())
def test_an_integer_is_read_exactly(value, quoted) -> None:
    frame = as_bytes(f'"{value}"}}' if quoted else f"{value}}}")
    assert read_int(frame, 0) == (value, len(frame) - 1)


@given(st.decimals(-(10**6), 10**6, places=9), st.booleans())
def test_a_float_of_fifteen_digits_is_the_nearest_one(value, quoted) -> None:
    text = f"{value:f}"
    read, behind = read_float(as_bytes(f'"{text}"' if quoted else text + ","), 0)
    assert behind > 0
    assert read == pytest.approx(float(text), rel=1e-15, abs=0.0)


@given(JSON_VALUES, st.sampled_from([",", "}", "]"]), st.booleans())
@settings(max_examples=300)
def test_any_value_is_stepped_over_whole(value, following, is_compact) -> None:
    text = json.dumps(value, separators=(",", ":") if is_compact else None, ensure_ascii=False)
    frame = as_bytes(text + following)
    assert skip_value(frame, 0) == len(frame) - 1


@given(st.text())
def test_a_string_ends_where_json_ends_it(value) -> None:
    text = json.dumps(value)
    frame = as_bytes(text + ":")
    start, end, behind = read_string(frame, 0)
    assert (start, behind) == (1, len(frame) - 1)
    assert json.loads(bytes(frame[start - 1 : end + 1])) == value
