"""erf, the normal distribution and log Γ against arithmetic of many digits."""

from __future__ import annotations

import math
from typing import Any

import mpmath
import numpy as np
import pytest
from exactly import around, magnitudes, worst

from oneprice.compute.kernels.special import erf, erfc, lgamma, normal_cdf, normal_quantile
from oneprice.compute.kernels.tables import ERFC_FIRST

ERFC_SEAMS = [float(np.int64(ERFC_FIRST + (cell << 48)).view(np.float64)) for cell in range(65)]
CLIMBING = (
    (erf, 1.0, around(-0.5, 0.5, 1.0, 0.0)), (erfc, -1.0, around(*ERFC_SEAMS, steps=8)), (erfc, -1.0, around(-0.5, 27.226)),
    (normal_cdf, 1.0, around(-0.7072, 0.7072, 0.0, -38.48)),
    (normal_cdf, 1.0, around(*(-math.sqrt(2.0) * one for one in ERFC_SEAMS), steps=8)),
    (normal_quantile, 1.0, around(0.5, steps=200)), (lgamma, 1.0, around(2.0, 1.75, 2.5, 10.0, 3.5)),
    (lgamma, -1.0, around(0.25, 0.75, 1.0, 1.25)),
)  # fmt: skip


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


def cdf(x: Any) -> Any:
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2


def quantile(p: Any) -> Any:
    """By Newton's steps from a rough beginning: what is near 1 is 1 less a small number."""
    if p > 0.5:
        return -quantile(1 - p)
    x = mpmath.mpf(0) if p == 0.5 else -mpmath.sqrt(-2 * mpmath.log(2 * p))
    for _ in range(60):
        off = (cdf(x) - p) * mpmath.sqrt(2 * mpmath.pi) * mpmath.exp(x * x / 2)
        step = off / (1 + x * off / 2)
        x -= step
        if abs(step) <= abs(x) * mpmath.mpf(2) ** -90:
            return x
    raise AssertionError(f"no quantile of {p}")


def small(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_normal(count) * 2.0 ** -rng.integers(0, 60, count)


def test_erf_and_its_complement_are_within_their_error(rng: np.random.Generator) -> None:
    for column in (small(rng, 1000), rng.uniform(-6.0, 6.0, 2000), rng.uniform(0.5, 1.0, 1000)):
        assert worst(erf, mpmath.erf, column) <= 1.0
    for column in (small(rng, 1000), rng.uniform(-6.0, 8.0, 2000), around(*ERFC_SEAMS[:-1], steps=3)):
        assert worst(erfc, mpmath.erfc, column) <= 1.5
    assert worst(erfc, mpmath.erfc, rng.uniform(8.0, 27.2, 1000)) <= 2.0


def test_the_normal_distribution_is_within_its_error(rng: np.random.Generator) -> None:
    for column in (small(rng, 1000), rng.uniform(-11.3, 9.0, 3000)):
        assert worst(normal_cdf, cdf, column) <= 2.0
    assert worst(normal_cdf, cdf, rng.uniform(-38.4, -11.3, 1000)) <= 4.0


def test_quantiles_are_within_their_error(rng: np.random.Generator) -> None:
    near_half = 0.5 + rng.standard_normal(300) * 2.0 ** -rng.integers(4, 40, 300)
    for column in (rng.random(800), rng.uniform(0.0, 0.08, 300), 2.0 ** -rng.uniform(1.0, 1074.0, 300), near_half):
        assert worst(normal_quantile, quantile, column) <= 4.0
    assert worst(normal_quantile, quantile, 1.0 - 2.0 ** -rng.uniform(1.0, 53.0, 200)) <= 4.0


def test_log_gamma_is_within_its_error(rng: np.random.Generator) -> None:
    shift = small(rng, 1000)
    for column in (
        rng.uniform(0.0, 0.75, 500), 1.0 + shift[np.abs(shift) < 0.25], 2.0 + shift[np.abs(shift) < 0.5],
        rng.uniform(0.75, 2.5, 800), rng.uniform(2.5, 10.0, 500), rng.uniform(10.0, 200.0, 500), magnitudes(rng, 500),
    ):  # fmt: skip
        assert worst(lgamma, mpmath.loggamma, column[column < 2.5e305]) <= 4.0


@pytest.mark.parametrize("case", range(len(CLIMBING)), ids=lambda case: f"{case}-{CLIMBING[case][0].__name__}")
def test_nothing_falls_back_where_pieces_meet(case: int) -> None:
    """But by the error of either side: beside a seam neighbours may swap within it."""
    function, direction, column = CLIMBING[case]
    found = direction * np.array([function(float(x)) for x in column])
    assert (np.diff(found) >= -4.0 * np.spacing(np.abs(found[:-1]))).all()


def test_what_belongs_together_agrees(rng: np.random.Generator) -> None:
    for x in rng.uniform(-8.0, 8.0, 500):
        assert erf(-x) == -erf(x)
        assert erf(x) + erfc(x) == pytest.approx(1.0, abs=3e-16)
        assert normal_cdf(x) + normal_cdf(-x) == pytest.approx(1.0, abs=3e-16)
        assert normal_quantile(normal_cdf(-abs(x))) == pytest.approx(-abs(x), rel=4e-15)
    for x in rng.uniform(0.01, 50.0, 500):
        assert lgamma(x + 1.0) - lgamma(x) == pytest.approx(math.log(x), rel=1e-12, abs=1e-13)
    for n in range(1, 170):
        assert lgamma(float(n)) == pytest.approx(math.log(math.factorial(n - 1)), rel=1e-15)


def test_edge_values() -> None:
    assert [erf(x) for x in (0.0, math.inf, -math.inf, 6.0, 5e-324)] == [0.0, 1.0, -1.0, 1.0, 5e-324]
    assert math.copysign(1.0, erf(-0.0)) == -1.0
    assert [erfc(x) for x in (0.0, math.inf, -math.inf, 27.3, -6.0)] == [1.0, 0.0, 2.0, 0.0, 2.0]
    assert 0.0 < erfc(27.22) < 2.0**-1070
    assert [normal_cdf(x) for x in (0.0, math.inf, -math.inf, 9.0, -38.6)] == [0.5, 1.0, 0.0, 1.0, 0.0]
    assert 0.0 < normal_cdf(-38.4) < 2.0**-1060
    assert [normal_quantile(p) for p in (0.0, 0.5, 1.0)] == [-math.inf, 0.0, math.inf]
    assert [lgamma(x) for x in (0.0, -0.0, 1.0, 2.0, math.inf, 1e306)] == [
        math.inf,
        math.inf,
        0.0,
        0.0,
        math.inf,
        math.inf,
    ]
    for function, x in (
        (erf, math.nan), (erfc, math.nan), (normal_cdf, math.nan), (normal_quantile, math.nan), (normal_quantile, -1e-300),
        (normal_quantile, 1.0000000000000002), (lgamma, math.nan), (lgamma, -1.0), (lgamma, -math.inf),
    ):  # fmt: skip
        assert math.isnan(function(x)), f"{function.__name__}({x})"
