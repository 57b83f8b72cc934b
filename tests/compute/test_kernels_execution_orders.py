"""How orders are worked, against a quadratic solve, linear programmes, naive walks, closed forms and sums that must hold."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import linprog
from scipy.stats import kstest

from oneprice.compute.kernels.definition import KernelError
from oneprice.compute.kernels.streaming import Streaming, compute
from shared_data import shared

NS = 1_000_000_000


def rng() -> np.random.Generator:
    return np.random.default_rng(12)


@pytest.fixture(scope="module")
def books() -> np.ndarray:
    """Recorded books: rows × 4 × 50 levels."""
    found = pd.read_parquet(
        shared("data/market/binance_depth1000_2026-02-16/lobdeep_btc_fut_2026-02-16_04.parquet"),
        columns=["bids_px", "bids_qty", "asks_px", "asks_qty"],
    )[:200]
    return np.stack([np.stack([row[:50] for row in found[name]]) for name in found.columns], axis=1).astype(float)


# -- optimal_ac_schedule ----------------------------------------------------------------------------------------------

ORDER = {
    "X": 1e6, "T": 5.0, "N": 5, "sigma": 0.95, "eta": 2.5e-6, "gamma": 2.5e-7, "epsilon": 0.0625, "lambda_": 1e-6,
}  # fmt: skip  # the example of Almgren & Chriss 2000, section 3.4


def schedule(**changed: float) -> dict[str, np.ndarray]:
    return compute("optimal_ac_schedule", **{name: [value] for name, value in (ORDER | changed).items()})


def solved(order: dict[str, float]) -> np.ndarray:
    """What is held after each period, where the gradient of E + λV is 0: a linear system in x_1 … x_{N−1}."""
    n, tau = int(order["N"]), order["T"] / order["N"]
    temporary = (order["eta"] - 0.5 * order["gamma"] * tau) / tau
    risk = order["lambda_"] * order["sigma"] ** 2 * tau
    hessian = np.diag(np.full(n - 1, 2.0 * temporary + risk)) - temporary * (
        np.eye(n - 1, k=1) + np.eye(n - 1, k=-1)
    )  # fmt: skip
    pull = np.zeros(n - 1)
    pull[0] = temporary * order["X"]
    return np.append(np.linalg.solve(hessian, pull), 0.0)


@pytest.mark.parametrize(
    "changed", [{}, {"X": -3e5, "N": 40}, {"lambda_": 2e-4, "N": 12}, {"lambda_": 1e-11}, {"N": 2}]
)
def test_the_best_schedule_solves_the_quadratic_problem(changed: dict[str, float]) -> None:
    order = ORDER | changed
    ours, n = schedule(**changed), int(order["N"])
    np.testing.assert_allclose(ours["x"], solved(order), rtol=1e-8, atol=1e-8)
    assert ours["j"].tolist() == list(range(1, n + 1))
    np.testing.assert_allclose(ours["t_j"], np.arange(1, n + 1) * order["T"] / n, rtol=1e-15)
    np.testing.assert_allclose(ours["n"], -np.diff(ours["x"], prepend=order["X"]), rtol=1e-12)
    tau = order["T"] / n
    temporary = order["eta"] - 0.5 * order["gamma"] * tau
    cost = 0.5 * order["gamma"] * order["X"] ** 2 + order["epsilon"] * np.abs(ours["n"]).sum()
    np.testing.assert_allclose(ours["E"], cost + temporary / tau * (ours["n"] ** 2).sum(), rtol=1e-12)
    np.testing.assert_allclose(ours["V"], order["sigma"] ** 2 * tau * (ours["x"] ** 2).sum(), rtol=1e-12)


def test_nobody_finds_a_schedule_that_is_better() -> None:
    ours, n, tau = schedule(N=20), 20, 5.0 / 20
    temporary = ORDER["eta"] - 0.5 * ORDER["gamma"] * tau

    def objective(held: np.ndarray) -> float:
        traded = -np.diff(held, prepend=ORDER["X"])
        cost = 0.5 * ORDER["gamma"] * ORDER["X"] ** 2 + ORDER["epsilon"] * np.abs(traded).sum()
        risk = ORDER["sigma"] ** 2 * tau * (held**2).sum()
        return float(cost + temporary / tau * (traded**2).sum() + ORDER["lambda_"] * risk)

    best = objective(ours["x"])
    assert best == pytest.approx(ours["E"][0] + ORDER["lambda_"] * ours["V"][0])
    for step in rng().normal(0.0, 1e4, (200, n)):
        step[-1] = 0.0
        assert objective(ours["x"] + step) > best


def test_without_risk_aversion_it_is_a_straight_line_and_with_much_all_is_sold_at_once() -> None:
    np.testing.assert_allclose(schedule(lambda_=0.0)["x"], [8e5, 6e5, 4e5, 2e5, 0.0], rtol=1e-15)
    np.testing.assert_allclose(schedule(sigma=0.0)["n"], np.full(5, 2e5), rtol=1e-12)
    at_once = schedule(lambda_=1e6, N=1_000)  # sinh(κT) is far above the largest float
    assert at_once["n"][0] == pytest.approx(1e6, rel=1e-3)
    assert np.isfinite(at_once["x"]).all()
    assert schedule(N=1)["n"].tolist() == [1e6]


def test_orders_that_have_no_best_schedule_have_no_answers() -> None:
    bad = [
        {"N": 2.5}, {"N": 0}, {"N": 2e6}, {"X": 0.0}, {"T": 0.0}, {"sigma": -1.0}, {"eta": 0.0}, {"lambda_": math.nan},
        {"epsilon": math.inf}, {"eta": 1e-7, "gamma": 1e-6},
    ]  # fmt: skip
    orders = [ORDER, *({**ORDER, **one} for one in bad), ORDER]
    ours = compute("ac_schedule", **{name: np.array([one[name] for one in orders], float) for name in ORDER})
    assert ours["row"].tolist() == [0] * 5 + [len(bad) + 1] * 5
    assert ours["x"][:5].tobytes() == ours["x"][5:].tobytes()


# -- iceberg_slicer ---------------------------------------------------------------------------------------------------


def test_children_sum_to_the_order_to_the_last_bit() -> None:
    q = rng().random(300) * 100.0
    ours = compute("iceberg_slicer", Q=q, display=np.full(300, 1.7), seed=5)
    for order in range(300):
        children = ours["qty"][ours["row"] == order]
        assert math.fsum(children) == q[order]
        assert sum(children[::-1].tolist()) == sum(children.tolist()) == q[order]  # in any order
        assert ((children[:-1] >= 1.7 * 0.8 - 1e-12) & (children[:-1] <= 1.7 * 1.2 + 1e-12)).all()
        assert 0.0 < children[-1] <= 1.7 * 1.2 + 1e-12
        assert ours["child"][ours["row"] == order].tolist() == list(range(1, len(children) + 1))
    inner = np.concatenate([ours["qty"][ours["row"] == order][:-1] for order in range(300)])
    assert kstest((inner / 1.7 - 0.8) / 0.4, "uniform").pvalue > 0.01


@pytest.mark.parametrize(("lot", "display"), [(0.001, 0.037), (0.25, 1.0), (10.0, 3.0)])
def test_children_are_whole_lots_and_sum_to_the_order(lot: float, display: float) -> None:
    lots = rng().integers(1, 500, 50)
    ours = compute("iceberg_slicer", Q=lots * lot, display=np.full(50, display), lot=lot)
    found = np.rint(ours["qty"] / lot)
    np.testing.assert_allclose(ours["qty"], found * lot, rtol=1e-15)
    assert found.min() >= 1
    assert np.bincount(ours["row"], weights=found).tolist() == lots.tolist()
    assert ours["qty"].max() <= max(lot, display * 1.2) * (1.0 + 1e-12)


def test_a_seed_gives_the_same_children_and_another_one_others() -> None:
    orders: dict[str, Any] = {"Q": [50.0, 50.0], "display": [1.0, 1.0]}
    ours, again, other = (compute("iceberg_slicer", **orders, seed=seed) for seed in (1, 1, 2))
    assert ours["qty"].tobytes() == again["qty"].tobytes()
    assert ours["qty"].tobytes() != other["qty"].tobytes()
    first, second = (ours["qty"][ours["row"] == order][:20] for order in (0, 1))
    assert first.tobytes() != second.tobytes()
    assert (compute("iceberg_slicer", **orders, jitter=0.0)["qty"] == 1.0).all()
    for display in (0.1, 0.7):  # no child is what rounding has left
        assert compute("iceberg_slicer", Q=[10.0 * display], display=[display], jitter=0.0)["child"].tolist()[-1] == 10


def test_what_cannot_be_sliced_has_no_children() -> None:
    q = [math.nan, -1.0, 0.0, 1.05, 1e9, 1.0, 0.3]
    ours = compute("iceberg_slicer", Q=q, display=[1.0, 1.0, 1.0, 1.0, 1e-6, 0.0, 5.0], lot=0.1)
    assert ours["row"].tolist() == [6]
    np.testing.assert_allclose(ours["qty"], [0.3])


# -- schedule_simulator -----------------------------------------------------------------------------------------------


def simulated(
    steps: np.ndarray, taken: list[Any], now: np.ndarray, side: float
) -> tuple[list[float], list[float], list[float]]:
    """Fills, average prices and shortfalls; `taken[k](wanted)` → (quantity, money) of step k."""
    scheduled = filled = money = 0.0
    sizes, averages, shortfalls = [], [], []
    for k, step in enumerate(steps):
        scheduled += step
        fill, paid = taken[k](scheduled - filled)
        filled, money = filled + fill, money + paid
        sizes.append(fill)
        averages.append(money / filled if filled else math.nan)
        cost = side * (money - filled * now[0] + (scheduled - filled) * (now[k] - now[0]))
        shortfalls.append(1e4 * cost / (scheduled * now[0]) if scheduled else math.nan)
    return sizes, averages, shortfalls


def agrees(ours: dict[str, np.ndarray], theirs: tuple[list[float], ...], rows: np.ndarray | slice) -> None:
    for name, column in zip(("fill", "avg", "shortfall_bps"), theirs, strict=True):
        np.testing.assert_allclose(ours[name][rows], column, rtol=1e-8, atol=1e-8, equal_nan=True, err_msg=name)


@pytest.mark.parametrize("side", ["buy", "sell"])
@pytest.mark.parametrize("impact", ["none", "linear", "sqrt"])
def test_bars_give_a_part_of_their_volume_and_the_rest_waits(side: str, impact: str) -> None:
    random, n, sign = rng(), 300, 1.0 if side == "buy" else -1.0
    steps = random.random(n) * (random.random(n) > 0.3)
    steps[0] = 0.0
    p, volume = 100.0 + np.cumsum(random.normal(0, 0.1, n)), 10.0 * random.random(n) * (random.random(n) > 0.1)
    p[50] = np.nan

    def bar(k: int) -> Any:
        def taken(wanted: float) -> tuple[float, float]:
            fill = min(wanted, 0.1 * volume[k])
            part = fill / volume[k] if volume[k] else 0.0
            worse = {"none": 0.0, "linear": part, "sqrt": math.sqrt(part)}[impact]
            return fill, fill * p[k] * (1.0 + sign * 20e-4 * worse)

        return taken

    ours = compute("schedule_simulator", n=steps, p=p, V=volume, side=side, impact=impact, impact_bps=20.0)
    good = np.isfinite(p)
    agrees(ours, simulated(steps[good], [bar(k) for k in np.flatnonzero(good)], p[good], sign), good)
    left = np.cumsum(steps[good]) - np.cumsum(ours["fill"][good])
    np.testing.assert_allclose(ours["left"][good], left, atol=1e-9)
    assert (ours["left"] > 0.0).any()
    assert np.isnan(ours["fill"][50])


@pytest.mark.parametrize("side", ["buy", "sell"])
def test_recorded_books_are_walked(books: np.ndarray, side: str) -> None:
    sign, n = 1.0 if side == "buy" else -1.0, len(books)
    steps = rng().random(n) * 6.0
    begin = 2 if side == "buy" else 0

    def book(k: int) -> Any:
        def taken(wanted: float) -> tuple[float, float]:
            left, money = min(wanted, 0.3 * books[k, begin + 1].sum()), 0.0
            fill = left
            for price, quantity in zip(books[k, begin], books[k, begin + 1], strict=True):
                part = min(left, quantity)
                left, money = left - part, money + part * price
            return fill, money

        return taken

    ours = compute("schedule_simulator", n=steps, bk=books, side=side, market="books", max_part=0.3)
    mids = (books[:, 0, 0] + books[:, 2, 0]) / 2.0
    agrees(ours, simulated(steps, [book(k) for k in range(n)], mids, sign), slice(None))
    assert (ours["fill"] < steps - 1e-9).any()
    assert (sign * (ours["price"] - mids) > 0.0).all()


def test_what_a_market_can_give_is_given_to_the_last_bit() -> None:
    steps = np.full(50, 0.1)
    ours = compute("schedule_simulator", n=steps, p=np.full(50, 100.0), V=np.full(50, 1e3))
    assert (ours["fill"] == steps).all()
    assert (ours["left"] == 0.0).all()
    assert (ours["shortfall_bps"] == 0.0).all()


def test_a_simulation_that_cannot_be_is_refused() -> None:
    with pytest.raises(KernelError, match="impact_bps is missing"):
        Streaming("schedule_simulator", impact="sqrt")
    with pytest.raises(KernelError, match="impact='sqrt': of books it must be none"):
        Streaming("schedule_simulator", impact="sqrt", impact_bps=1.0, market="books")
    with pytest.raises(KernelError, match="the input V is missing"):
        compute("schedule_simulator", n=[1.0], p=[1.0])


# -- smart_order_router -----------------------------------------------------------------------------------------------

VENUES, LEVELS = 4, 6


def markets(n: int, side: float) -> dict[str, np.ndarray]:
    """Levels of some venues, some of them short; fees, negative ones too."""
    random = rng()
    away = 0.01 * np.cumsum(random.integers(1, 5, (n, VENUES, LEVELS)), axis=2)
    price = 100.0 + side * (away + random.normal(0.0, 0.02, (n, VENUES, 1)))
    size = random.integers(1, 50, (n, VENUES, LEVELS)) / 10.0
    price[random.random(n) < 0.3, 1, 3:] = np.nan
    return {
        "Q": random.integers(1, 500, n) / 10.0, "side": np.full(n, side), "PRICE": price.reshape(n, -1),
        "QTY": size.reshape(n, -1), "FEE_BPS": random.uniform(-1.0, 8.0, (n, VENUES)), "LOT": np.zeros((n, VENUES)),
        "MIN_NOTIONAL": np.zeros((n, VENUES)),
    }  # fmt: skip


def routed(given: dict[str, np.ndarray]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    ours = compute("smart_order_router", **given, venues=VENUES, levels=LEVELS)
    return np.stack([ours[f"qty_{venue + 1}"] for venue in range(VENUES)], axis=1), ours


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_without_lots_the_route_is_that_of_the_linear_programme(side: float) -> None:
    given = markets(150, side)
    quantities, ours = routed(given)
    for row in range(150):
        price = given["PRICE"][row]
        fee = np.repeat(given["FEE_BPS"][row], LEVELS) / 1e4
        there = np.isfinite(price)
        wanted = min(given["Q"][row], given["QTY"][row][there].sum())
        all_in = np.where(there, price * (1.0 + side * fee), 0.0)
        best = linprog(
            side * all_in, A_eq=np.ones((1, len(price))), b_eq=[wanted],
            bounds=list(zip(np.zeros(len(price)), np.where(there, given["QTY"][row], 0.0), strict=True)),
        )  # fmt: skip
        np.testing.assert_allclose(ours["all_in"][row] * wanted, side * best.fun, rtol=1e-9)
        np.testing.assert_allclose(quantities[row], best.x.reshape(VENUES, LEVELS).sum(axis=1), atol=1e-7)
        np.testing.assert_allclose(ours["vwap"][row], np.where(there, price, 0.0) @ best.x / wanted, rtol=1e-9)
        np.testing.assert_allclose(ours["filled"][row], wanted / given["Q"][row], rtol=1e-12)


def naive_route(row: dict[str, Any], side: float) -> tuple[np.ndarray, float]:
    """All levels in one sorted list; a venue under its minimum is dropped and everything done again."""
    out: set[int] = set()
    while True:
        levels = sorted(
            (side * price * (1.0 + side * row["FEE_BPS"][venue] / 1e4), venue, level, price)
            for venue in range(VENUES)
            for level, price in enumerate(row["PRICE"].reshape(VENUES, LEVELS)[venue])
            if venue not in out and math.isfinite(price)
        )
        taken, shown, left = np.zeros(VENUES), np.zeros(VENUES), row["Q"]
        for _, venue, level, _ in levels:
            shown[venue] += row["QTY"].reshape(VENUES, LEVELS)[venue, level]
            upto, lot = min(shown[venue], taken[venue] + left), row["LOT"][venue]
            if lot:
                upto = math.floor(upto / lot + 1e-9) * lot
            if upto > taken[venue] + 1e-12:
                left -= upto - taken[venue]
                taken[venue] = upto
        notional = np.zeros(VENUES)
        for venue in range(VENUES):
            unpriced = taken[venue]
            for level, price in enumerate(row["PRICE"].reshape(VENUES, LEVELS)[venue]):
                part = min(unpriced, row["QTY"].reshape(VENUES, LEVELS)[venue, level]) if math.isfinite(price) else 0.0
                unpriced, notional[venue] = unpriced - part, notional[venue] + part * price if part else notional[venue]
        short = [
            (notional[venue] / row["MIN_NOTIONAL"][venue], venue)
            for venue in range(VENUES)
            if 0.0 < notional[venue] < row["MIN_NOTIONAL"][venue]
        ]
        if not short:
            return taken, notional.sum()
        out.add(min(short)[1])


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_lots_and_minima_are_kept(side: float) -> None:
    n, random = 400, rng()
    given = markets(n, side) | {
        "LOT": random.choice([0.0, 0.1, 0.25, 2.0], (n, VENUES)),
        "MIN_NOTIONAL": random.choice([0.0, 5.0, 500.0, 1_000.0], (n, VENUES)),
    }
    quantities, ours = routed(given)
    mins = given["MIN_NOTIONAL"]
    for row in range(n):
        taken, money = naive_route({name: column[row] for name, column in given.items()}, side)
        np.testing.assert_allclose(quantities[row], taken, atol=1e-9, err_msg=str(row))
        np.testing.assert_allclose(ours["vwap"][row], money / taken.sum() if taken.any() else np.nan, rtol=1e-12)
    np.testing.assert_allclose(ours["filled"], quantities.sum(axis=1) / given["Q"], atol=1e-12)
    lots = quantities / np.where(given["LOT"] > 0.0, given["LOT"], np.inf)
    np.testing.assert_allclose(lots, np.rint(lots), atol=1e-9)
    assert (quantities.sum(axis=1) <= given["Q"] * (1.0 + 1e-12)).all()
    used = quantities > 0.0
    best = np.nanmax(given["PRICE"].reshape(n, VENUES, LEVELS), axis=2)
    assert (quantities * best >= mins * (1.0 - 1e-9))[used].all()
    assert (~used & (mins >= 500.0)).any()
    assert (used & (mins >= 500.0)).any()


def two_venues(**changed: Any) -> dict[str, float]:
    """Two venues of two levels each, and an order to buy 3."""
    given = {
        "Q": [3.0], "side": [1.0], "PRICE": [[100.0, 101.0, 100.0, 102.0]], "QTY": [[1.0, 5.0, 1.0, 5.0]],
        "FEE_BPS": [[0.0, 0.0]], "LOT": [[0.0, 0.0]], "MIN_NOTIONAL": [[0.0, 0.0]],
    }  # fmt: skip
    ours = compute("smart_order_router", **(given | changed), venues=2, levels=2)
    return {name: float(column[0]) for name, column in ours.items()}


def test_small_routes_are_as_one_would_do_them_by_hand() -> None:
    assert two_venues() == {"qty_1": 2.0, "qty_2": 1.0, "vwap": 301.0 / 3.0, "all_in": 301.0 / 3.0, "filled": 1.0}
    assert two_venues(Q=[0.5])["qty_1"] == 0.5  # equal prices: the venue named first
    assert two_venues(Q=[0.5], FEE_BPS=[[1.0, 0.0]])["qty_2"] == 0.5
    assert two_venues(MIN_NOTIONAL=[[0.0, 150.0]])["qty_1"] == 3.0  # dropped, and the first one refilled
    assert two_venues(LOT=[[2.0, 0.0]]) == two_venues()  # a lot of 2 straddles both levels of the first
    assert two_venues(Q=[100.0])["filled"] == 0.12
    nothing = two_venues(LOT=[[50.0, 50.0]])
    assert (nothing["qty_1"], nothing["qty_2"], nothing["filled"], math.isnan(nothing["vwap"])) == (0.0, 0.0, 0.0, True)
    without = two_venues(FEE_BPS=[[math.nan, 0.0]])
    assert (without["qty_1"], without["qty_2"]) == (0.0, 3.0)
    assert all(math.isnan(one) for one in two_venues(side=[0.5]).values())


# -- post_only_shading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"gamma": 1.2, "kappa": 0.8, "horizon_s": 5.0}])
def test_quotes_are_those_of_the_closed_form_and_never_take(settings: dict[str, float]) -> None:
    random, n = rng(), 2_000
    bid = np.round(100.0 + random.normal(0, 1.0, n), 2)
    ask = np.round(bid + 0.01 * random.integers(1, 300, n), 2)
    inventory, sigma, tick = random.normal(0, 2.0, n), random.uniform(0.0, 0.2, n), np.full(n, 0.01)
    ours = compute("post_only_shading", b=bid, a=ask, inventory=inventory, sigma=sigma, tick=tick, **settings)
    gamma, kappa, horizon = ({"gamma": 0.1, "kappa": 1.5, "horizon_s": 60.0} | settings).values()
    middle = (bid + ask) / 2.0 - gamma * sigma**2 * horizon * inventory
    half = 0.5 * gamma * sigma**2 * horizon + np.log(1.0 + gamma / kappa) / gamma
    assert (ours["bid"] <= ask - tick + 1e-9).all()
    assert (ours["ask"] >= bid + tick - 1e-9).all()
    for quote, wish, is_free in (
        (ours["bid"], middle - half, middle - half < ask - tick), (ours["ask"], middle + half, middle + half > bid + tick)
    ):  # fmt: skip
        np.testing.assert_allclose(quote / 0.01, np.rint(quote / 0.01), atol=1e-7)
        assert (np.abs(quote - wish)[is_free] < 0.01 + 1e-9).all()
        assert is_free.any()
    held = ~(middle - half < ask - tick)
    np.testing.assert_allclose(ours["bid"][held], (ask - tick)[held], rtol=1e-12)
    assert (ours["bid"] <= middle - half + 1e-9).all()
    assert (ours["ask"] >= middle + half - 1e-9).all()


def test_inventory_moves_both_quotes_and_a_price_below_zero_is_none() -> None:
    quotes = compute(
        "post_only_shading", b=[100.0] * 3 + [0.02, 101.0], a=[100.5] * 3 + [0.04, 100.0], inventory=[0.0, 4.0, -4.0, 0.0, 0.0],
        sigma=[0.1] * 5, tick=[0.01] * 5,
    )  # fmt: skip
    assert quotes["bid"][1] < quotes["bid"][0] < quotes["bid"][2]
    assert quotes["ask"][1] < quotes["ask"][0] < quotes["ask"][2]
    assert np.isnan(quotes["bid"][3:]).all()
    assert quotes["ask"][3] > 0.0
    assert np.isnan(quotes["ask"][4])
