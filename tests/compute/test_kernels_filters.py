"""Filters against statsmodels, their fixed point, and a naive recursion with SciPy's Student t."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import t as student
from statsmodels.tsa.filters.hp_filter import hpfilter
from statsmodels.tsa.statespace.structural import UnobservedComponents

from oneprice.compute.kernels.streaming import compute

CLOSE = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}


@pytest.fixture(scope="module")
def walk() -> np.ndarray:
    return np.random.default_rng(1).standard_normal(400).cumsum() + 50.0


def test_kalman_1d_is_the_local_level_model(walk: np.ndarray) -> None:
    q, r = 0.02, 0.3
    model = UnobservedComponents(walk, "local level", use_exact_diffuse=True)
    model.ssm.tolerance = 0.0  # or it stops to update what has nearly settled
    theirs = model.filter([r, q])
    ours = compute("kalman_1d", x=walk, q=q, r=r)
    np.testing.assert_allclose(ours["level"], theirs.filtered_state[0], rtol=1e-9)
    np.testing.assert_allclose(ours["P"], theirs.filtered_state_cov[0, 0], rtol=1e-9)
    np.testing.assert_allclose(ours["innovation"][1:], theirs.forecasts_error[0, 1:], rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours["S"][1:], theirs.forecasts_error_cov[0, 0, 1:], rtol=1e-9)


def test_kalman_1d_settles_at_its_fixed_point(walk: np.ndarray) -> None:
    q, r = 1e-3, 1e-1
    ours = compute("kalman_1d", x=walk)
    assert ours["S"][-1] - r == pytest.approx((q + np.sqrt(q * q + 4.0 * q * r)) / 2.0, rel=1e-12)
    assert np.isnan([ours["innovation"][0], ours["S"][0]]).all()
    average = compute("kalman_1d", x=walk, q=0.0)["level"]  # a level that never moves is the mean
    np.testing.assert_allclose(average, np.cumsum(walk) / np.arange(1, len(walk) + 1), rtol=1e-10)


@pytest.mark.parametrize("smoothness", [6.25, 1600.0, 129_600.0])
def test_hp_filter_is_the_end_point_of_the_two_sided_one(walk: np.ndarray, smoothness: float) -> None:
    ours = compute("hp_filter", x=walk, lambda_=smoothness)
    assert np.isnan(ours["trend"][:2]).all()
    for stop in [*range(3, 30), 60, 133, 250, 400]:
        cycle, trend = hpfilter(walk[:stop], lamb=smoothness)
        np.testing.assert_allclose(ours["trend"][stop - 1], trend[-1], rtol=1e-8)
        np.testing.assert_allclose(ours["cycle"][stop - 1], cycle[-1], rtol=1e-6, atol=1e-8)


def test_hp_filter_keeps_a_line(walk: np.ndarray) -> None:
    line = 3.0 + 0.25 * np.arange(300)
    np.testing.assert_allclose(compute("hp_filter", x=line)["trend"][2:], line[2:], rtol=1e-13)
    far = compute("hp_filter", x=walk + 1e9)["trend"] - 1e9
    np.testing.assert_allclose(far, compute("hp_filter", x=walk)["trend"], atol=1e-5, equal_nan=True)


def naive_runs(x: np.ndarray, hazard: float, prior: tuple[float, float, float, float], most: int) -> Any:
    """P(run length) after each value: every run's posterior made anew from the values that it has seen."""
    mu0, kappa0, alpha0, beta0 = prior
    weights = np.array([1.0])
    for row, value in enumerate(x):
        predicted = []
        for run in range(len(weights)):
            seen = x[row - run : row]
            mean = seen.mean() if run else 0.0
            kappa, alpha = kappa0 + run, alpha0 + run / 2.0
            mu = (kappa0 * mu0 + run * mean) / kappa
            beta = beta0 + 0.5 * ((seen - mean) ** 2).sum() + 0.5 * kappa0 * run * (mean - mu0) ** 2 / kappa
            predicted.append(student.logpdf(value, 2 * alpha, mu, np.sqrt(beta * (kappa + 1) / (alpha * kappa))))
        joint = weights * np.exp(np.array(predicted) - max(predicted))
        joint /= joint.sum()
        weights = np.concatenate([[hazard], joint * (1.0 - hazard)])
        if len(weights) > most + 1:
            weights[most] += weights[most + 1]
            weights = weights[: most + 1]
        yield weights


@pytest.mark.parametrize("most", [1000, 25])
def test_bocpd_is_the_naive_recursion(most: int) -> None:
    rng = np.random.default_rng(2)
    x = np.concatenate([rng.normal(0.0, 1.0, 60), rng.normal(6.0, 0.5, 50), [60.0], rng.normal(-1.0, 2.0, 30)])
    hazard, prior = 1.0 / 50.0, (0.5, 0.7, 1.5, 2.0)
    ours = compute(
        "bocpd", x=x, hazard=hazard, mu0=0.5, kappa0=0.7, alpha0=1.5, beta0=2.0, recent=3, max_run=most
    )  # fmt: skip
    theirs = list(naive_runs(x, hazard, prior, most))
    np.testing.assert_allclose(ours["p_recent"], [min(1.0, one[:4].sum()) for one in theirs], rtol=1e-9)
    np.testing.assert_allclose(ours["mean_run"], [np.arange(len(one)) @ one for one in theirs], rtol=1e-9)
    assert ours["map_run"].tolist() == [int(np.argmax(one)) for one in theirs]


def test_bocpd_sees_a_break_and_an_endless_run() -> None:
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.normal(0.0, 1.0, 300), rng.normal(8.0, 1.0, 40)])
    ours = compute("bocpd", x=x)
    assert ours["p_recent"][250:300].max() < 0.5 < ours["p_recent"][302]
    assert ours["map_run"][299] == pytest.approx(300, abs=2)
    assert ours["map_run"][-1] == pytest.approx(40, abs=2)
    assert compute("bocpd", x=x[:300], max_run=20)["map_run"][-1] == 20
    assert compute("bayes_changepoint", x=x)["map_run"].tolist() == ours["map_run"].tolist()
