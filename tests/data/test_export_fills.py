"""What fills realised: average cost in exact fractions, and the cash that moved."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import pytest
from export_world import INVERSE, LINEAR, WORLD
from hypothesis import given
from hypothesis import strategies as st
from session_world import T0_NS, spot

from oneprice.data.export.fills import FillLine, RunFill, fill_lines
from oneprice.model.errors import InputError

SPOT_AT, LINEAR_AT, INVERSE_AT = (WORLD.index(one.venue, one.symbol) for one in (spot(), LINEAR, INVERSE))
# is_buy, price, quantity: of the venue
Trades = Sequence[tuple[bool, int, int]]
TRADES = st.lists(st.tuples(st.booleans(), st.integers(1, 10**6), st.integers(1, 10**4)), min_size=1, max_size=25)
ROUNDED = Fraction(1, 10**11)  # more than what 25 shares at 12 decimals lose


def fills_of(trades: Trades, instrument: int, fee: str = "0", fee_asset: str = "USDT") -> list[RunFill]:
    return [
        RunFill(
            ts_ns=T0_NS + k, instrument=instrument, is_buy=is_buy, price=Decimal(price) / 100, qty=Decimal(qty) / 1000,
            fee=Decimal(fee), fee_asset=fee_asset,
        )
        for k, (is_buy, price, qty) in enumerate(trades)
    ]  # fmt: skip


def lines_of(fills: Sequence[RunFill]) -> list[FillLine]:
    return list(fill_lines(fills, WORLD))


def ended_flat(trades: Trades) -> Trades:
    """With one more that closes what is left."""
    left = sum(qty if is_buy else -qty for is_buy, _, qty in trades)
    return [*trades, (left < 0, 4321, abs(left))] if left else trades


@given(TRADES)
def test_average_cost_realises_what_fractions_say(trades) -> None:
    size, cost = Fraction(0), Fraction(0)  # signed; cost is the average price of what is held
    for line in lines_of(fills_of(trades, SPOT_AT, fee="0.25")):
        signed = Fraction(line.qty) * (1 if line.is_buy else -1)
        price = Fraction(line.price)
        gained = Fraction(0)
        assert line.is_closing == (size * signed < 0)
        if line.is_closing:
            closed = min(abs(size), abs(signed)) * (1 if size > 0 else -1)
            gained = closed * (price - cost)
            cost = price if abs(signed) > abs(size) else cost
        else:
            cost = (size * cost + signed * price) / (size + signed)
        size += signed
        assert abs(Fraction(line.pnl) - (gained - Fraction("0.25"))) < ROUNDED
        assert Fraction(line.position) == size


@given(TRADES, st.sampled_from([SPOT_AT, LINEAR_AT]))
def test_fills_that_end_flat_realise_the_cash_that_moved(trades, instrument) -> None:
    lines = lines_of(fills_of(ended_flat(trades), instrument, fee="0.1"))
    cash = sum((-line.qty if line.is_buy else line.qty) * line.price - line.fee for line in lines)
    assert lines[-1].position == 0
    assert sum(line.pnl for line in lines) == cash


def test_a_perpetuals_contracts_are_shown_in_base_units() -> None:
    (line,) = lines_of(fills_of([(True, 6_000_000, 2_000)], LINEAR_AT))
    assert (line.qty, line.position) == (Decimal("0.02"), Decimal("0.02"))  # two contracts of 0.01 BTC


def test_an_inverse_contract_pays_in_base_what_is_told_in_quote() -> None:
    """100 contracts of 100 USD bought at 50,000 and sold at 40,000: 0.2 BTC became 0.25, so 0.05 BTC are lost."""
    bought, sold = lines_of(fills_of([(True, 5_000_000, 100_000), (False, 4_000_000, 100_000)], INVERSE_AT))
    assert (bought.qty, bought.position, bought.pnl) == (Decimal("0.2"), Decimal("0.2"), 0)
    assert (sold.qty, sold.position) == (Decimal("0.25"), 0)
    assert sold.pnl == Decimal("-0.05") * 40_000


def test_a_fee_in_base_is_told_in_quote() -> None:
    (line,) = lines_of(fills_of([(True, 5_000, 1_000)], SPOT_AT, fee="0.001", fee_asset="BTC"))
    assert (line.fee, line.pnl) == (Decimal("0.05"), Decimal("-0.05"))


def test_a_fee_in_another_coin_is_refused_by_name() -> None:
    with pytest.raises(InputError, match="binance_spot:BTCUSDT: a fill paid its fee in BNB"):
        lines_of(fills_of([(True, 5_000, 1_000)], SPOT_AT, fee="0.001", fee_asset="BNB"))
