"""Spreads and bases: entered where they pay after every fill they need, left when they have closed."""

from __future__ import annotations

import pytest
from market import MS, Bench, perp, spot

from oneprice.model.order import Side
from oneprice.strategies.base import What
from oneprice.strategies.basis import Basis, BasisSettings
from oneprice.strategies.spread import Spread, SpreadSettings

A, B = spot("a", "BTC", "USDT"), spot("b", "BTC", "USDT", lot=10)
P = perp("a_perp", "BTC")


def spread_bench() -> tuple[Bench, Spread]:
    bench, strategy = Bench(A, B), Spread(SpreadSettings())
    strategy.bind(bench.table)
    bench.set("a:BTCUSDT", "60000.00", "60000.01")
    bench.set("b:BTCUSDT", "60000.00", "60000.01")
    return bench, strategy


def basis_bench() -> tuple[Bench, Basis]:
    bench, strategy = Bench(A, P), Basis(BasisSettings(max_hold_s=10.0))
    strategy.bind(bench.table)
    bench.set("a:BTCUSDT", "60000.00", "60000.01")
    bench.set("a_perp:BTCUSDT", "60000.0", "60000.1")
    return bench, strategy


def test_a_spread_buys_the_cheap_and_sells_the_dear_venue_in_equal_quantity() -> None:
    bench, strategy = spread_bench()
    bench.set("b:BTCUSDT", "60300.00", "60300.01")
    opened, enter = strategy.on_batch(2 * MS, bench.market)
    assert (opened.what, enter.what) == (What.OPENED, What.ENTER)
    assert enter.net_bps == pytest.approx(50 - 20, abs=0.1)
    (buy, sell) = enter.legs
    assert (bench.table[buy.instrument].venue, buy.side) == ("a", Side.BUY)
    assert (bench.table[sell.instrument].venue, sell.side) == ("b", Side.SELL)
    assert buy.qty == sell.qty
    assert buy.qty % 10 == 0  # whole lots of the coarser venue


def test_an_edge_that_fees_eat_is_seen_but_not_traded() -> None:
    bench, strategy = spread_bench()
    bench.set("b:BTCUSDT", "60060.00", "60060.01")
    (opened,) = strategy.on_batch(2 * MS, bench.market)
    assert opened.what is What.OPENED
    assert opened.net_bps < 0


def test_size_stops_where_the_book_does() -> None:
    bench, strategy = spread_bench()
    bench.set("a:BTCUSDT", "60000.00", "60000.01", qty="0.001")
    bench.set("b:BTCUSDT", "60300.00", "60300.01")
    enter = strategy.on_batch(2 * MS, bench.market)[-1]
    assert enter.legs[0].qty <= 300  # three levels of 0.001


def test_a_basis_is_entered_after_four_fees_and_left_when_it_has_closed() -> None:
    bench, strategy = basis_bench()
    bench.set("a_perp:BTCUSDT", "60300.0", "60300.1")
    enter = strategy.on_batch(2 * MS, bench.market)[-1]
    assert enter.what is What.ENTER
    assert enter.net_bps == pytest.approx(50 - 30, abs=0.1)
    spot_leg, perp_leg = enter.legs
    bench.holdings.positions = {
        ("basis", enter.key, spot_leg.instrument): spot_leg.qty,
        ("basis", enter.key, perp_leg.instrument): -perp_leg.qty,
    }
    assert strategy.on_batch(3 * MS, bench.market) == []  # still open, and never twice
    bench.set("a_perp:BTCUSDT", "60000.0", "60000.1")
    found = strategy.on_batch(4 * MS, bench.market)
    leave = next(sighting for sighting in found if sighting.what is What.EXIT)
    assert {(leg.instrument, leg.side, leg.qty) for leg in leave.legs} == {
        (spot_leg.instrument, Side.SELL, spot_leg.qty),
        (perp_leg.instrument, Side.BUY, perp_leg.qty),
    }
    assert [leg.reduce_only for leg in leave.legs if leg.instrument == perp_leg.instrument] == [True]


def test_a_basis_that_does_not_close_is_left_when_its_time_is_over() -> None:
    bench, strategy = basis_bench()
    bench.set("a_perp:BTCUSDT", "60300.0", "60300.1")
    enter = strategy.on_batch(2 * MS, bench.market)[-1]
    for leg in enter.legs:
        bench.holdings.positions["basis", enter.key, leg.instrument] = int(leg.side) * leg.qty
    later = 11_000 * MS
    bench.set("a:BTCUSDT", "60000.00", "60000.01", ts_ns=later)
    bench.set("a_perp:BTCUSDT", "60300.0", "60300.1", ts_ns=later)
    found = strategy.on_batch(later, bench.market)
    assert [sighting.reason for sighting in found if sighting.what is What.EXIT] == ["held for its longest time"]


def test_an_entry_of_which_nothing_filled_is_forgotten() -> None:
    bench, strategy = basis_bench()
    bench.set("a_perp:BTCUSDT", "60300.0", "60300.1")
    assert strategy.on_batch(2 * MS, bench.market)[-1].what is What.ENTER
    assert strategy.on_batch(3 * MS, bench.market)[-1].what is What.ENTER


def test_two_wires_of_one_market_are_not_a_spread() -> None:
    found = Spread(SpreadSettings()).discover([spot("binance_spot", "BTC", "USDT"), spot("binance_sbe", "BTC", "USDT")])
    assert found == []


def test_quotes_are_never_mixed() -> None:
    assert Basis(BasisSettings()).discover([spot("a", "BTC", "USDC"), P]) == []
