"""Instruments, the tape's rows and the life of an order."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oneprice.model.errors import InputError, unknown_name
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable, exact_mantissa, exponent_of
from oneprice.model.order import (
    LIFECYCLE,
    Order,
    OrderLifecycleError,
    OrderState,
    OrderStatus,
    Report,
    ReportType,
    Side,
    after,
)
from oneprice.model.tape import ROW, Kind, TapeWriter, view
from oneprice.model.time import iso_ms


def instrument(venue: str = "v", symbol: str = "BTCUSDT") -> Instrument:
    return Instrument(
        venue=venue, symbol=symbol, canonical="BTC/USDT", kind=InstrumentKind.SPOT, base="BTC", quote="USDT",
        price_exponent=-2, qty_exponent=-5,
    )  # fmt: skip


@given(st.integers(-(10**12), 10**12), st.integers(-8, 0))
def test_a_mantissa_and_its_exponent_are_the_number(mantissa, exponent) -> None:
    assert exact_mantissa(Decimal(mantissa).scaleb(exponent), exponent) == mantissa


def test_a_digit_that_the_exponent_cannot_hold_is_refused() -> None:
    with pytest.raises(InputError, match="more digits"):
        exact_mantissa(Decimal("1.005"), -2)


@pytest.mark.parametrize(
    ("step", "exponent"), [("0.01000000", -2), ("0.5", -1), ("1", 0), ("10", 0), ("0.00000001", -8)]
)
def test_the_exponent_of_a_step_holds_every_multiple_of_it(step, exponent) -> None:
    assert exponent_of(Decimal(step)) == exponent


@given(st.permutations(["c", "a", "b", "d"]))
def test_the_order_of_registration_does_not_number_instruments(order) -> None:
    table = InstrumentTable(instrument(venue) for venue in order)
    assert [table.index(venue, "BTCUSDT") for venue in "abcd"] == [0, 1, 2, 3]
    assert InstrumentTable.from_json(table.to_json()).to_json() == table.to_json()


def test_an_instrument_listed_twice_with_other_rules_is_refused() -> None:
    with pytest.raises(InputError, match="listed twice"):
        InstrumentTable([instrument(), Instrument(**{**{f: getattr(instrument(), f) for f in instrument().__struct_fields__},
                                                     "tick": 5})])  # fmt: skip


def test_a_row_is_64_bytes_and_a_view_names_what_it_holds() -> None:
    assert ROW.itemsize == 64
    tape = TapeWriter(1)
    for place in range(3):
        tape.append(Kind.TRADE, recv_ns=place, instrument=0, sequence=7, price=6_183_763, qty=2_000, flags=3)
    rows = tape.take()
    seen = view(rows[2], InstrumentTable([instrument()]))
    assert (seen.kind, seen.side, seen.price, seen.qty) == ("trade", "sell", "61837.63", "0.02000")
    assert (tape.n, len(rows)) == (0, 3)


@given(st.lists(st.sampled_from(list(ReportType)), max_size=8), st.integers(1, 5))
def test_an_order_never_leaves_a_final_state_nor_fills_beyond_its_quantity(reports, size) -> None:
    status = OrderStatus(Order(number=1, instrument=0, side=Side.BUY, qty=10))
    for kind in reports:
        before = status
        try:
            status = after(status, Report(order=1, type=kind, ts_ns=0, qty=size if kind is ReportType.FILL else 0))
        except OrderLifecycleError:
            continue
        assert 0 <= status.filled_qty <= 10
        if before.state.is_final:
            assert status.state.is_final
        if status.filled_qty == 10 and not before.state.is_final:
            assert status.state is OrderState.FILLED
    assert set(LIFECYCLE) == set(OrderState)


def test_names_and_times_read_well() -> None:
    assert unknown_name("venue", "byit", ["bybit", "binance"]) == (
        "unknown venue 'byit'; did you mean 'bybit'? Known: binance, bybit"
    )
    assert iso_ms(1_769_083_200_123_999_999) == "2026-01-22T12:00:00.123Z"
