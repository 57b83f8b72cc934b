"""Evening out, as pages that a trader can read: what each leg has filled, and what is asked for."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.order import Side
from oneprice.trading.hedging import MAX_COMPLETIONS, MAX_UNWINDS, Step, Wanted, after_orders
from oneprice.trading.paper import Latency, PaperVenue
from trading.market import CROSS, PERP, SPOT, TABLE, Market

B, S = Side.BUY, Side.SELL


def market() -> Market:
    made = Market(PaperVenue(TABLE, Latency()))
    made.snapshot(SPOT, [(9_990_000, 90_000)], [(10_000_000, 90_000)])
    made.snapshot(PERP, [(9_990_000, 9_000)], [(10_000_000, 9_000)])
    made.snapshot(CROSS, [(4_990, 100_000)], [(5_000, 100_000)])
    return made


def decide(legs: list[tuple], completions: int = 0, unwinds: int = 0) -> tuple[Step, list[tuple]]:
    wanted = [Wanted(instrument=i, side=side, qty=qty, filled=filled) for i, side, qty, filled in legs]
    step, hedges = after_orders(
        wanted, completions=completions, unwinds=unwinds, instruments=TABLE, books=market().books
    )
    return step, [(hedge.instrument, hedge.side, hedge.qty) for hedge in hedges]


# spot 1.0 = 100 000, perpetual 1.0 = 1 000, ETH 1.0 = 10 000 mantissas
PAGE = [
    # the legs: (instrument, side, wanted, filled)                          done before  then
    ("both filled", [(SPOT, B, 10_000, 10_000), (PERP, S, 100, 100)], (0, 0), Step.DONE, []),
    ("nothing filled", [(SPOT, B, 10_000, 0), (PERP, S, 100, 0)], (0, 0), Step.DONE, []),
    ("the sale filled 0.6", [(SPOT, B, 10_000, 10_000), (PERP, S, 100, 60)], (0, 0), Step.COMPLETE, [(PERP, S, 40)]),
    ("only the sale filled", [(SPOT, B, 10_000, 0), (PERP, S, 100, 50)], (0, 0), Step.COMPLETE, [(SPOT, B, 5_000)]),
    ("both filled half", [(SPOT, B, 10_000, 5_000), (PERP, S, 100, 50)], (0, 0), Step.DONE, []),
    ("what is missing is dust", [(SPOT, B, 10_000, 10_000), (PERP, S, 100, 100 - 0)], (0, 0), Step.DONE, []),
    ("a rest below the minimum value", [(SPOT, B, 10_000, 9_997), (PERP, S, 100, 100)], (0, 0), Step.DONE, []),
    (
        "completing failed",
        [(SPOT, B, 10_000, 10_000), (PERP, S, 100, 60)],
        (MAX_COMPLETIONS, 0),
        Step.UNWIND,
        [(SPOT, S, 10_000), (PERP, B, 60)],
    ),
    (
        "the unwinding went half way",
        [(SPOT, B, 10_000, 5_000), (PERP, S, 100, 0)],
        (MAX_COMPLETIONS, 1),
        Step.UNWIND,
        [(SPOT, S, 5_000)],
    ),
    (
        "nothing helped",
        [(SPOT, B, 10_000, 10_000), (PERP, S, 100, 0)],
        (MAX_COMPLETIONS, MAX_UNWINDS),
        Step.GIVE_UP,
        [],
    ),
    (
        "the second leg of a triangle is short",
        [(SPOT, S, 10_000, 10_000), (CROSS, B, 20_000, 12_000)],
        (0, 0),
        Step.COMPLETE,
        [(CROSS, B, 8_000)],
    ),
]


@pytest.mark.parametrize(("legs", "before", "step", "hedges"), [row[1:] for row in PAGE], ids=[row[0] for row in PAGE])
def test_the_page(legs: list[tuple], before: tuple[int, int], step: Step, hedges: list[tuple]) -> None:
    assert decide(legs, *before) == (step, hedges)


@settings(max_examples=150)
@given(
    spot=st.integers(0, 100), perp=st.integers(0, 100), answers=st.lists(st.integers(0, 100), min_size=12, max_size=12)
)
def test_a_trade_ends_even_or_flat_or_gives_up_within_its_tries(spot: int, perp: int, answers: list[int]) -> None:
    """Whatever share of each hedge the venues fill."""
    filled, completions, unwinds = {SPOT: 100 * spot, PERP: perp}, 0, 0
    books = market().books
    for answer in range(MAX_COMPLETIONS + MAX_UNWINDS + 1):
        wanted = [
            Wanted(instrument=SPOT, side=B, qty=10_000, filled=filled[SPOT]),
            Wanted(instrument=PERP, side=S, qty=100, filled=filled[PERP]),
        ]
        step, hedges = after_orders(wanted, completions=completions, unwinds=unwinds, instruments=TABLE, books=books)
        if step in (Step.DONE, Step.GIVE_UP):
            break
        completions, unwinds = completions + (step is Step.COMPLETE), unwinds + (step is Step.UNWIND)
        for place, hedge in enumerate(hedges):
            got = hedge.qty * answers[(answer + 5 * place) % 12] // 100
            filled[hedge.instrument] += got if hedge.side is {SPOT: B, PERP: S}[hedge.instrument] else -got
            assert 0 <= filled[hedge.instrument] <= {SPOT: 10_000, PERP: 100}[hedge.instrument]
    if step is Step.DONE:
        assert abs(filled[SPOT] - 100 * filled[PERP]) < 100 + 5  # less than a lot of one or a minimum of the other
    else:
        assert (step, completions, unwinds) == (Step.GIVE_UP, MAX_COMPLETIONS, MAX_UNWINDS)
