"""Portfolios against pandas, scikit-learn, SciPy's minimiser and plain loops."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.covariance import LedoitWolf

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Outputs, Streaming, compute

Floats = NDArray[np.float64]
CLOSE = {"rtol": 1e-10, "atol": 1e-18, "equal_nan": True}
P = 4


@pytest.fixture(scope="module")
def returns() -> Floats:
    """Of four assets that move together, with rows that cannot be used."""
    rng = np.random.default_rng(1)
    found = rng.standard_t(5, (700, 1)) * 1e-3 + rng.standard_normal((700, P)) * [1e-3, 2e-3, 5e-4, 1e-3]
    found[rng.random(700) < 0.03, 1] = np.nan
    found[[3, 333], 2] = np.inf
    return found


def matrix(outputs: Outputs, row: int, count: int = P) -> Floats:
    return np.array([[outputs[f"c_{a}_{b}"][row] for b in range(count)] for a in range(count)])


def column(outputs: Outputs, name: str, count: int = P) -> Floats:
    return np.stack([outputs[f"{name}_{a}"] for a in range(count)], axis=1)


# -- ewcov_matrix -------------------------------------------------------------------------------------------------------


def test_the_forgetting_covariances_are_those_of_pandas(returns: Floats) -> None:
    rows = np.flatnonzero(np.isfinite(returns).all(axis=1))
    ours = compute("ewcov_matrix", R=returns, assets=P, halflife=12.0)
    ewm = pd.DataFrame(returns[rows]).ewm(halflife=12.0, adjust=False)
    theirs = ewm.cov(bias=True).to_numpy().reshape(len(rows), P, P)
    for place, row in enumerate(rows[1:], 1):
        np.testing.assert_allclose(matrix(ours, row), theirs[place], **CLOSE)
    np.testing.assert_allclose(column(ours, "mean")[rows[1:]], ewm.mean().to_numpy()[1:], **CLOSE)
    silent = np.setdiff1d(np.arange(len(returns)), rows[1:])
    assert all(np.isnan(values[silent]).all() for values in ours.values())
    assert list(ours) == [*(f"c_{a}_{b}" for a in range(P) for b in range(P)), *(f"mean_{a}" for a in range(P))]


def test_the_forgetting_covariances_are_ewcov_of_each_pair(returns: Floats) -> None:
    usable = returns[np.isfinite(returns).all(axis=1)]
    ours = compute("ewcov_matrix", R=usable, assets=P)
    for a, b in ((0, 1), (2, 2), (3, 0)):
        pair = compute("ewcov", x=usable[:, a], y=usable[:, b], halflife=20.0)["cov"]
        np.testing.assert_allclose(ours[f"c_{a}_{b}"], pair, **CLOSE)


def test_a_matrix_of_another_width_is_refused(returns: Floats) -> None:
    for kernel in ("ewcov_matrix", "ledoit_wolf_shrinkage"):
        with pytest.raises(KernelError, match=f"{kernel}: R has the shape .*; it must be rows × 3"):
            compute(kernel, R=returns, assets=3)


# -- ledoit_wolf_shrinkage ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [5, 60])
def test_shrunk_covariances_are_those_of_scikit_learn(returns: Floats, w: int) -> None:
    rows = np.flatnonzero(np.isfinite(returns).all(axis=1))
    ours = compute("ledoit_wolf_shrinkage", R=returns, assets=P, w=w)
    for end in range(w, len(rows), 13):
        fit = LedoitWolf().fit(returns[rows[end - w : end]])
        np.testing.assert_allclose(matrix(ours, rows[end - 1]), fit.covariance_, rtol=1e-9, atol=1e-18)
        np.testing.assert_allclose(ours["shrinkage"][rows[end - 1]], fit.shrinkage_, rtol=1e-9)
    assert np.isnan(ours["shrinkage"][: rows[w - 1]]).all()


def test_far_from_zero_the_shrinkage_is_the_same(returns: Floats) -> None:
    usable = returns[np.isfinite(returns).all(axis=1)]
    near, far = (compute("ledoit_wolf_shrinkage", R=usable + base, assets=P, w=60)["shrinkage"] for base in (0.0, 1e3))
    np.testing.assert_allclose(near, far, rtol=1e-7)


def test_the_window_of_shrinkage_may_be_one_in_time(returns: Floats) -> None:
    t = np.cumsum(np.random.default_rng(2).integers(1, 10**8, len(returns)))
    ours = compute("ledoit_wolf_shrinkage", t=t, R=returns, assets=P, w="8s", min_obs=50)
    for row in np.flatnonzero(np.isfinite(ours["shrinkage"]))[::29]:
        part = returns[: row + 1][t[: row + 1] > t[row] - 8 * 10**9]
        fit = LedoitWolf().fit(part[np.isfinite(part).all(axis=1)])
        np.testing.assert_allclose(matrix(ours, row), fit.covariance_, rtol=1e-9, atol=1e-18)
    assert np.isfinite(ours["shrinkage"][-300:]).any()


def test_what_does_not_move_is_not_shrunk() -> None:
    ours = compute("ledoit_wolf_shrinkage", R=np.full((9, 2), 0.1), w=7)
    assert np.isnan(ours["shrinkage"]).all()
    assert matrix(ours, -1, 2).tolist() == [[0.0, 0.0], [0.0, 0.0]]
    square = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0], [-1.0, 1.0]])
    assert matrix(compute("ledoit_wolf_shrinkage", R=square, w=4), -1, 2).tolist() == [[1.0, 0.0], [0.0, 1.0]]


# -- risk_parity_weights --------------------------------------------------------------------------------------------------


def covariances(rng: np.random.Generator, n: int, count: int) -> Floats:
    factors = rng.normal(0.0, 0.02, (n, count, 2 * count))
    return factors @ factors.transpose(0, 2, 1)


def shares_of_risk(weights: Floats, sigma: Floats) -> Floats:
    parts = weights * np.einsum("nab,nb->na", sigma, weights)
    return parts / parts.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("count", [2, 5, 20])
def test_every_asset_bears_the_risk_of_its_budget(count: int) -> None:
    rng = np.random.default_rng(count)
    sigma, budgets = covariances(rng, 50, count), rng.uniform(0.2, 3.0, (50, count))
    given = {"SIGMA": sigma.reshape(50, -1), "assets": count}
    equal = column(compute("risk_parity_weights", **given), "w", count)
    np.testing.assert_allclose(equal.sum(axis=1), 1.0, rtol=1e-14)
    assert (equal > 0.0).all()
    np.testing.assert_allclose(shares_of_risk(equal, sigma), 1.0 / count, atol=2e-10)
    unequal = column(compute("risk_parity_weights", BUDGETS=budgets, budgets="given", **given), "w", count)
    np.testing.assert_allclose(shares_of_risk(unequal, sigma), budgets / budgets.sum(axis=1, keepdims=True), atol=2e-10)


def test_risk_parity_is_what_scipy_minimises() -> None:
    sigma = covariances(np.random.default_rng(3), 6, 4)
    ours = column(compute("risk_parity_weights", SIGMA=sigma.reshape(6, 16), assets=4), "w")
    for one, weights in zip(sigma, ours, strict=True):
        scale = np.sqrt(np.diag(one))
        unit = one / np.outer(scale, scale)

        def cost(log_y: Floats, unit: Floats = unit) -> float:
            return float(0.5 * np.exp(log_y) @ unit @ np.exp(log_y) - log_y.sum() / 4.0)

        found = np.exp(minimize(cost, np.zeros(4), method="BFGS", options={"gtol": 1e-10}).x) / scale
        np.testing.assert_allclose(weights, found / found.sum(), rtol=1e-6)


@pytest.mark.parametrize("correlation", [-0.999, -0.5, 0.0, 0.9, 1.0])
def test_two_assets_have_inverse_volatility_whatever_their_correlation(correlation: float) -> None:
    vols = np.array([[0.1, 0.4], [3e-4, 1e-4], [1.0, 1.0]])
    sigma = np.stack([vols[:, 0] ** 2, *[correlation * vols.prod(axis=1)] * 2, vols[:, 1] ** 2], axis=1)
    weights = column(compute("risk_parity_weights", SIGMA=sigma), "w", 2)
    np.testing.assert_allclose(weights, 1.0 / vols / (1.0 / vols).sum(axis=1, keepdims=True), rtol=1e-8)


def test_what_is_no_covariance_has_no_weights() -> None:
    rows = np.array([
        [1.0, 0.5, 0.4, 1.0],  # not symmetric
        [1.0, 0.0, 0.0, 0.0],  # a variance of 0
        [1.0, 0.5, 0.5, -1.0],
        [1.0, np.nan, np.nan, 1.0],
        [1.0, -1.0, -1.0, 1.0],  # the two cancel out
        [1.0, 0.2, 0.2, 1.0],
    ])  # fmt: skip
    weights = compute("risk_parity_weights", SIGMA=rows)["w_0"]
    np.testing.assert_allclose(weights, [np.nan] * 5 + [0.5], **CLOSE)
    given = {"SIGMA": rows[[5, 5, 5]], "BUDGETS": np.array([[1.0, 0.0], [np.inf, 1.0], [2.0, 2.0]])}
    weights = compute("risk_parity_weights", budgets="given", **given)["w_0"]
    np.testing.assert_allclose(weights, [np.nan, np.nan, 0.5], **CLOSE)
    with pytest.raises(KernelError, match=r"SIGMA has the shape \(6, 4\); it must be rows × 9"):
        compute("risk_parity_weights", SIGMA=rows, assets=3)


def test_covariances_go_into_weights_as_they_come_out(returns: Floats) -> None:
    usable = returns[np.isfinite(returns).all(axis=1)]
    found = compute("ledoit_wolf_shrinkage", R=usable, assets=P, w=60)
    sigma = np.stack([found[f"c_{a}_{b}"] for a in range(P) for b in range(P)], axis=1)[59:]
    weights = column(compute("risk_parity_weights", SIGMA=sigma, assets=P), "w")
    np.testing.assert_allclose(shares_of_risk(weights, sigma.reshape(-1, P, P)), 1.0 / P, atol=2e-10)


# -- exposure_limits ----------------------------------------------------------------------------------------------------

SYMBOLS, VENUES = (0, 0, 1, 1, 2, 2), (0, 1, 0, 1, 0, 1)
LIMITS = {"gross": 3e4, "net": 6e3, "symbol": 8e3, "venue": 1.5e4, "leverage": 2.5}


def naive_limits(x: Floats, equity: float) -> tuple[float, int]:
    exposures = {
        "gross": np.abs(x).sum(),
        "net": abs(x.sum()),
        "symbol": max(abs(x[np.array(SYMBOLS) == one].sum()) for one in range(3)),
        "venue": max(np.abs(x[np.array(VENUES) == one]).sum() for one in range(2)),
        "leverage": np.abs(x).sum() / equity,
    }
    breached = [exposures[name] > limit for name, limit in LIMITS.items()]
    ratios = [limit / exposures[name] for name, limit in LIMITS.items()]
    return min(1.0, *ratios), sum(2**k for k, is_breached in enumerate(breached) if is_breached)


def test_limits_scale_positions_until_none_is_exceeded() -> None:
    rng = np.random.default_rng(4)
    x, equity = rng.uniform(-1.0, 1.0, (400, 6)) * rng.uniform(0.0, 1.2e4, (400, 1)), rng.uniform(5e3, 2e4, 400)
    given = {"positions": 6, "symbols": SYMBOLS, "venues": VENUES, **LIMITS}
    ours = compute("exposure_limits", POSITIONS=x, equity=equity, **given)
    theirs = [naive_limits(*row) for row in zip(x, equity, strict=True)]
    np.testing.assert_allclose(ours["scale"], [scale for scale, _ in theirs], rtol=1e-12)
    assert ours["breach"].tolist() == [mask for _, mask in theirs]
    assert {bit for bit in range(5) for mask in ours["breach"].tolist() if mask >> bit & 1} == set(range(5))
    assert ((ours["scale"] == 1.0) == (ours["breach"] == 0)).all()
    again = compute("exposure_limits", POSITIONS=x * ours["scale"][:, None] * (1 - 1e-12), equity=equity, **given)
    assert (again["breach"] == 0).all()


def test_limits_that_are_not_given_do_not_bind() -> None:
    x = np.array([[100.0, -100.0], [100.0, 100.0], [0.0, 0.0], [np.nan, 1.0]])
    ours = compute("exposure_limits", POSITIONS=x, net=50.0)
    np.testing.assert_array_equal(ours["scale"], [1.0, 0.25, 1.0, np.nan])
    assert ours["breach"].tolist() == [0, 2, 0, -128]
    nothing = compute("exposure_limits", POSITIONS=x, gross=0.0)
    np.testing.assert_array_equal(nothing["scale"], [0.0, 0.0, 1.0, np.nan])


def test_without_equity_there_is_no_leverage() -> None:
    x = np.full((4, 2), 50.0)
    ours = compute("exposure_limits", POSITIONS=x, equity=[100.0, 25.0, 0.0, -10.0], leverage=2.0)
    np.testing.assert_array_equal(ours["scale"], [1.0, 0.5, np.nan, np.nan])
    assert ours["breach"].tolist() == [0, 16, -128, -128]


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({}, "gross, net, symbol, venue, leverage are all missing"),
        ({"gross": 1.0, "symbols": (0,)}, "symbols=.*: it must be a whole number from 0 to 1 for each of 2 columns"),
        ({"gross": 1.0, "venues": (0, 2)}, "venues=.*: it must be a whole number from 0 to 1"),
        ({"gross": 1.0, "venues": (0, 0.5)}, "venues=.*: it must be a whole number from 0 to 1"),
    ],
)
def test_limits_that_cannot_be_used_are_named(given: dict[str, object], named: str) -> None:
    with pytest.raises(KernelError, match=f"exposure_limits: {named}"):
        Streaming("exposure_limits", **given)
