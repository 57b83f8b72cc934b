"""log, exp and powers: against arithmetic of many digits, C99's edge values, and the same bits wherever they are compiled."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import exactly
import mpmath
import numpy as np
import pytest
from exactly import around, magnitudes, worst
from numba import njit

from oneprice.compute.kernels.numbers import LN2, acosh, exp, expm1, log, log1p, log_parts, power, sinh
from oneprice.compute.kernels.special import erf, erfc, lgamma, normal_cdf, normal_quantile
from oneprice.compute.kernels.tables import LOG_FIRST

ONE_ARGUMENT = (log, log1p, exp, expm1, sinh, acosh, erf, erfc, normal_cdf, normal_quantile, lgamma)
# Where the cells of log end, and where exp's steps do.
LOG_SEAMS = [float(np.int64(LOG_FIRST + (cell << 45)).view(np.float64)) for cell in range(128)]
EXP_SEAMS = [(step + 0.5) * math.log(2.0) / 128 for step in range(-300, 300, 7)]
CLIMBING = (
    (log, around(*LOG_SEAMS, steps=8)), (log, around(1.0, 2.0**-1022, 2.0, 1e308)), (log, np.arange(1, 100) * 5e-324),
    (log1p, around(-(2.0**-9), 2.0**-8, 0.0)), (log1p, around(*(one - 1.0 for one in LOG_SEAMS), steps=8)),
    (exp, around(*EXP_SEAMS, steps=8)), (exp, around(-690.0, 690.0, 709.78, -745.13, 0.0)),
    (expm1, around(-0.0625, 0.0625, -38.0, 57.0, 0.0)), (expm1, around(*EXP_SEAMS, steps=8)),
    (sinh, around(-22.0, 22.0, 710.4)), (acosh, around(2.0**28)),
)  # fmt: skip
MOST_ULPS = {"log": 0.53, "log1p": 0.6, "exp": 0.53, "expm1": 0.65, "power": 0.65, "sinh": 2.0, "acosh": 3.0}


def powers_of_two(rng: np.random.Generator, count: int) -> np.ndarray:
    """Numbers of both signs whose magnitudes go from 1 down to 2^-60."""
    return rng.standard_normal(count) * 2.0 ** -rng.integers(0, 60, count)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def test_log_is_within_its_error_everywhere(rng: np.random.Generator) -> None:
    near_one = np.abs(1.0 + rng.standard_normal(3000) * 2.0 ** -rng.integers(1, 52, 3000))
    for column in (magnitudes(rng, 3000), near_one, rng.uniform(0.3, 3.0, 3000), around(*LOG_SEAMS, steps=4)):
        assert worst(log, mpmath.log, column) <= MOST_ULPS["log"]
    assert log(2.0) == LN2


def test_the_parts_of_a_logarithm_are_those_of_the_number(rng: np.random.Generator) -> None:
    for x in (*magnitudes(rng, 2000).tolist(), *LOG_SEAMS, 5e-324, 2.0**-1022, 1.7976931348623157e308):
        k, of_mantissa = log_parts(x)
        mantissa = float(Fraction(x) / Fraction(2) ** int(k))
        assert LOG_SEAMS[0] <= mantissa < 2.0 * LOG_SEAMS[0]
        assert of_mantissa == log(mantissa)


def test_log1p_is_within_its_error_everywhere(rng: np.random.Generator) -> None:
    small = powers_of_two(rng, 3000)
    for column in (small[small > -1.0], magnitudes(rng, 2000), rng.uniform(-1.0, 3.0, 3000), around(-0.5, 2.0**-8)):
        assert worst(log1p, mpmath.log1p, column) <= MOST_ULPS["log1p"]


def test_exp_is_within_its_error_everywhere(rng: np.random.Generator) -> None:
    for column in (powers_of_two(rng, 2000), rng.uniform(-708.0, 709.7, 4000), around(*EXP_SEAMS, steps=4)):
        assert worst(exp, mpmath.exp, column) <= MOST_ULPS["exp"]
    assert worst(exp, mpmath.exp, rng.uniform(-745.0, -708.0, 2000)) <= 0.8  # subnormal: rounded a second time


def test_expm1_is_within_its_error_everywhere(rng: np.random.Generator) -> None:
    for column in (powers_of_two(rng, 3000), rng.uniform(-2.0, 2.0, 4000), rng.uniform(-50.0, 709.7, 2000)):
        assert worst(expm1, mpmath.expm1, column) <= MOST_ULPS["expm1"]


def test_powers_are_within_their_error_over_the_whole_range(rng: np.random.Generator) -> None:
    base, near_one = (
        rng.uniform(0.0, 10.0, 3000),
        np.abs(1.0 + rng.standard_normal(3000) * 2.0 ** -rng.integers(1, 50, 3000)),
    )
    near_one = near_one[near_one != 1.0]
    assert worst(power, mpmath.power, base, rng.uniform(-50.0, 50.0, 3000)) <= MOST_ULPS["power"]
    assert worst(power, mpmath.power, magnitudes(rng, 2000), rng.uniform(-0.95, 0.95, 2000)) <= MOST_ULPS["power"]
    wanted = rng.uniform(-700.0, 709.0, len(near_one))  # the logarithm of the result: all of the error's amplification
    assert worst(power, mpmath.power, near_one, wanted / np.log(near_one)) <= MOST_ULPS["power"]


def test_powers_that_floats_hold_are_exact(rng: np.random.Generator) -> None:
    for base in range(2, 40):
        for exponent in range(60):
            if base**exponent < 2**53:
                assert power(float(base), float(exponent)) == float(base**exponent)
    for k in range(-1074, 1024):
        assert power(2.0, float(k)) == math.ldexp(1.0, k)
    for value in rng.uniform(0.0, 1e6, 500):
        assert power(value, 1.0) == value
        assert power(float(np.float32(value)) ** 2, 0.5) == float(np.float32(value))


def test_hyperbolic_functions_are_within_their_error(rng: np.random.Generator) -> None:
    for column in (powers_of_two(rng, 2000), rng.uniform(-30.0, 30.0, 2000), rng.uniform(-710.4, 710.4, 1000)):
        assert worst(sinh, mpmath.sinh, column) <= MOST_ULPS["sinh"]
    more = np.abs(powers_of_two(rng, 2000))
    for column in (1.0 + more, rng.uniform(1.0, 20.0, 2000), 1.0 + magnitudes(rng, 1000)):
        assert worst(acosh, mpmath.acosh, column) <= MOST_ULPS["acosh"]


@pytest.mark.parametrize("case", range(len(CLIMBING)), ids=lambda case: f"{case}-{CLIMBING[case][0].__name__}")
def test_nothing_falls_back_where_reductions_meet(case: int) -> None:
    function, column = CLIMBING[case]
    found = np.array([function(float(x)) for x in column])
    assert (np.diff(found) >= 0.0).all()


def test_inverses_come_back(rng: np.random.Generator) -> None:
    for x in rng.uniform(-30.0, 30.0, 500):
        assert log(exp(x)) == pytest.approx(x, rel=1e-15, abs=1e-15)
        assert log1p(expm1(x * 0.1)) == pytest.approx(x * 0.1, rel=1e-14)
        assert expm1(-abs(x)) + 1.0 == pytest.approx(exp(-abs(x)), rel=1e-9, abs=2e-16)
        assert acosh(math.sqrt(1.0 + sinh(x) * sinh(x))) == pytest.approx(abs(x), rel=1e-12)
        assert sinh(-x) == -sinh(x)


@pytest.mark.parametrize("name", ["log", "log1p", "exp", "expm1", "sinh"])
def test_edge_values_are_those_of_c(name: str) -> None:
    edges = (
        0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 5e-324, -5e-324, 2.0**-1022, 1.7976931348623157e308,
        -1.7976931348623157e308, -2.0, 709.782712893384, 709.7827128933841, -745.1332191019411, -745.1332191019412, 1e-300,
    )  # fmt: skip
    ours = {"log": log, "log1p": log1p, "exp": exp, "expm1": expm1, "sinh": sinh}[name]
    with np.errstate(all="ignore"):
        for x in edges:
            wanted, found = float(getattr(np, name)(x)), ours(x)
            assert _alike(found, wanted), f"{name}({x})"


def test_acosh_has_no_value_below_one() -> None:
    assert [acosh(x) for x in (1.0, math.inf)] == [0.0, math.inf]
    assert all(math.isnan(acosh(x)) for x in (0.9999999999999999, 0.0, -math.inf, math.nan))
    assert acosh(1.7976931348623157e308) == pytest.approx(710.4758600739439, rel=1e-15)


def test_edge_values_of_powers_are_those_of_c() -> None:
    bases = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf, math.nan)
    exponents = (
        0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -2.0, -3.0, 0.5, -0.5, 1e300, -1e300, 2.0**53, 2.0**53 - 1.0, 1023.0, -1074.0, -1075.0,
        math.inf, -math.inf, math.nan,
    )  # fmt: skip
    with np.errstate(all="ignore"):
        for base in bases:
            for exponent in exponents:
                wanted = float(np.float64(base) ** np.float64(exponent))
                assert _alike(power(base, exponent), wanted), f"{base} ** {exponent}"


def _alike(found: float, wanted: float) -> bool:
    """The same special value with the same sign, or an ordinary one within a unit of the last place."""
    if math.isnan(wanted):
        return math.isnan(found)
    if wanted == 0.0 or math.isinf(wanted):
        return found == wanted and math.copysign(1.0, found) == math.copysign(1.0, wanted)
    return abs(found - wanted) <= math.ulp(wanted)


def test_nothing_raises_and_every_nan_is_the_same() -> None:
    quiet = np.float64(math.nan).view(np.int64)
    odd = float(np.int64(-1).view(np.float64))
    for function in ONE_ARGUMENT:
        assert np.float64(function(odd)).view(np.int64) == quiet, function.__name__
    for function, x in ((log, -1.0), (log1p, -2.0), (acosh, 0.0), (normal_quantile, 2.0), (lgamma, -1.5)):
        assert np.float64(function(x)).view(np.int64) == quiet, function.__name__
    assert np.float64(power(-2.0, 0.5)).view(np.int64) == quiet


# -- the same bits everywhere ---------------------------------------------------------------------------------------------

GOLDEN = (
    ("log", ("0x1.0000000000000p+1",), "0x1.62e42fefa39efp-1"),
    ("log", ("0x1.4000000000000p+3",), "0x1.26bb1bbb55516p+1"),
    ("log", ("0x1.fffffffffffffp-1",), "-0x1.0000000000000p-53"),
    ("log", ("0x1.0100000000001p+0",), "0x1.ff00aa2b10dbep-9"),
    ("log", ("0x0.0000000000001p-1022",), "-0x1.74385446d71c3p+9"),
    ("log", ("0x1.fda4570a3d70ap+15",), "0x1.62be5f10e6eb7p+3"),
    ("log1p", ("0x1.0624dd2f1a9fcp-10",), "0x1.060354f8c3ebfp-10"),
    ("log1p", ("-0x1.3333333333333p-2",), "-0x1.6d3c324e13f4ep-2"),
    ("log1p", ("0x1.70ef54646d497p-57",), "0x1.70ef54646d497p-57"),
    ("log1p", ("0x1.4000000000000p+1",), "0x1.40b512eb53d60p+0"),
    ("log1p", ("0x1.7e43c8800759cp+996",), "0x1.5963447f87fb5p+9"),
    ("exp", ("0x1.0000000000000p+0",), "0x1.5bf0a8b145769p+1"),
    ("exp", ("-0x1.0000000000000p-1",), "0x1.368b2fc6f960ap-1"),
    ("exp", ("-0x1.0624dd2f1a9fcp-10",), "0x1.ff7cfe56f1a9ep-1"),
    ("exp", ("0x1.5e0cccccccccdp+9",), "0x1.058614179b2a5p+1010"),
    ("exp", ("-0x1.7220000000000p+9",), "0x0.0000000000042p-1022"),
    ("expm1", ("0x1.0624dd2f1a9fcp-10",), "0x1.06466dfb8cf3ap-10"),
    ("expm1", ("0x1.0000000000000p-4",), "0x1.082b577d34ed8p-4"),
    ("expm1", ("-0x1.6666666666666p-1",), "-0x1.01bf92311555fp-1"),
    ("expm1", ("0x1.9000000000000p+3",), "0x1.060c12565ba66p+18"),
    ("sinh", ("0x1.3333333333333p-2",), "0x1.37d42af54b926p-2"),
    ("sinh", ("-0x1.9000000000000p+4",), "-0x1.0c3d3920962c9p+35"),
    ("sinh", ("0x1.631999999999ap+9",), "0x1.84910bde1ee21p+1023"),
    ("acosh", ("0x1.00068db8bac71p+0",), "0x1.cf67d7ec0d4e5p-7"),
    ("acosh", ("0x1.8000000000000p+1",), "0x1.c34366179d427p+0"),
    ("acosh", ("0x1.4e718d7d7625ap+664",), "0x1.cd35cd6cad20fp+8"),
    ("erf", ("0x1.3333333333333p-2",), "0x1.50838881dea0fp-2"),
    ("erf", ("-0x1.999999999999ap-1",), "-0x1.7bf4a85b7fb83p-1"),
    ("erf", ("0x1.599999999999ap+1",), "0x1.ffee648a8ce38p-1"),
    ("erfc", ("0x1.f5c28f5c28f5cp-2",), "0x1.f40d3c3f2d2a8p-2"),
    ("erfc", ("0x1.e666666666666p+0",), "0x1.d87c86a71bbb1p-8"),
    ("erfc", ("0x1.3000000000000p+3",), "0x1.a4480db60fe17p-135"),
    ("erfc", ("0x1.ae66666666666p+4",), "0x0.000000163dc09p-1022"),
    ("normal_cdf", ("0x1.999999999999ap-4",), "0x1.1464507526871p-1"),
    ("normal_cdf", ("-0x1.0000000000000p+0",), "0x1.44ed0bb7cb20bp-3"),
    ("normal_cdf", ("-0x1.29ba5e353f7cfp+1",), "0x1.47fbe31f72a28p-7"),
    ("normal_cdf", ("-0x1.2f33333333333p+5",), "0x0.000009b3cc044p-1022"),
    ("normal_cdf", ("0x1.8000000000000p+0",), "0x1.ddcb724ed3702p-1"),
    ("normal_quantile", ("0x1.3333333333333p-2",), "-0x1.0c7e39582c5fbp-1"),
    ("normal_quantile", ("0x1.f333333333333p-1",), "0x1.f5c0331eeff83p+0"),
    ("normal_quantile", ("0x1.0c6f7a0b5ed8dp-20",), "-0x1.30381a9799f7ep+2"),
    ("normal_quantile", ("0x0.012688b70e62bp-1022",), "-0x1.2d4df29347fc2p+5"),
    ("lgamma", ("0x1.999999999999ap-4",), "0x1.2058e35f3deedp+1"),
    ("lgamma", ("0x1.6666666666666p+0",), "-0x1.e9ef3b28cb1e7p-4"),
    ("lgamma", ("0x1.e666666666666p+0",), "-0x1.3f5bf3c4bb75bp-5"),
    ("lgamma", ("0x1.a000000000000p+2",), "0x1.6a676ab2aa094p+2"),
    ("lgamma", ("0x1.3880000000000p+13",), "0x1.40b3b7add8cb1p+16"),
    ("power", ("0x1.00068db8bac71p+0", "0x1.3888000000000p+11"), "0x1.48b6f109a1136p+0"),
    ("power", ("0x1.e147ae147ae14p-1", "0x1.0000000000000p-1"), "0x1.f06704d3a1e6fp-1"),
    ("power", ("0x1.56e1fc2f8f359p-997", "0x1.0cccccccccccdp+0"), "0x0.000000c1069cdp-1022"),
    ("power", ("0x1.8000000000000p+1", "-0x1.5400000000000p+9"), "0x0.0p+0"),
    ("power", ("0x1.c000000000000p+2", "0x1.5555555555555p-2"), "0x1.e9b5dba58189dp+0"),
)


def test_the_bits_are_those_of_every_other_machine() -> None:
    functions = {function.__name__: function for function in (*ONE_ARGUMENT, power)}
    assert {name for name, _, _ in GOLDEN} == set(functions)
    found = [(name, arguments, functions[name](*map(float.fromhex, arguments)).hex()) for name, arguments, _ in GOLDEN]
    assert found == list(GOLDEN)


def test_the_bits_do_not_hang_on_what_the_processor_can_do(tmp_path: Path) -> None:
    """The same source for this processor, where loops use wide registers, and for the least one of its kind."""
    least = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, exactly.__file__], env=os.environ | least, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == exactly.digests()


_LIBM = re.compile(
    r"(?<![\w.])_*(?:log|log1p|log2|log10|exp|exp2|expm1|pow|powi|erf|erfc|lgamma|tgamma|sinh|cosh|acosh|fma|ldexp|frexp)f?"
    r"(?![\w.])"
)


def _calls(function) -> set[str]:
    """Names of the mathematical library, and contracted products, in what the function was compiled to."""

    @njit(error_model="numpy")
    def run(x):
        return function(x)

    run(0.3)
    (text,) = run.inspect_asm().values()
    return set(_LIBM.findall(text)) | set(re.findall(r"\bv?f(?:n?m(?:add|sub)|ml[as])\w*", text))


@pytest.mark.parametrize("function", [*ONE_ARGUMENT, njit(lambda x: power(x, 1.37))], ids=lambda one: one.__name__)
def test_compiled_code_calls_no_mathematical_library(function) -> None:
    assert _calls(function) == set()


def test_calls_of_a_mathematical_library_are_seen() -> None:
    assert _calls(njit(lambda x: math.log(x + 1.0))) != set()
    assert _calls(njit(lambda x: x**1.37)) != set()
