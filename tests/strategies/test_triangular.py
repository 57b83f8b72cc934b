"""Triangles: found in both directions, sized by depth and lots, net of fees paid in kind."""

from __future__ import annotations

from fractions import Fraction

import pytest
from market import MS, Bench, spot

from oneprice.compute.books import sweep
from oneprice.model.order import Side
from oneprice.strategies.base import What
from oneprice.strategies.triangular import Triangular, TriangularSettings

BTC, ETH, CROSS = spot("v", "BTC", "USDT"), spot("v", "ETH", "USDT"), spot("v", "ETH", "BTC")


def bench_and_strategy(**settings: object) -> tuple[Bench, Triangular]:
    bench = Bench(BTC, ETH, CROSS)
    strategy = Triangular(TriangularSettings(**settings))  # type: ignore[arg-type]
    strategy.bind(bench.table)
    bench.set("v:BTCUSDT", "60000.00", "60000.01")
    bench.set("v:ETHUSDT", "3000.00", "3000.01", qty="10")
    bench.set("v:ETHBTC", "0.050000", "0.050001", qty="10")
    return bench, strategy


def test_prices_that_multiply_to_one_are_no_opportunity() -> None:
    bench, strategy = bench_and_strategy()
    assert strategy.on_batch(2 * MS, bench.market) == []


@pytest.mark.parametrize(
    ("cross_bid", "cross_ask", "first"),
    [("0.051000", "0.051001", "buy ETHUSDT"), ("0.049000", "0.049001", "buy BTCUSDT")],
)
def test_a_broken_cross_is_traded_in_the_direction_that_pays(cross_bid: str, cross_ask: str, first: str) -> None:
    bench, strategy = bench_and_strategy()
    bench.set("v:ETHBTC", cross_bid, cross_ask, qty="10")
    found = strategy.on_batch(2 * MS, bench.market)
    assert [sighting.what for sighting in found] == [What.OPENED, What.ENTER]
    assert found[0].key.startswith(f"v: {first}")
    assert found[1].net_bps > 100


def test_a_chain_never_spends_more_than_the_leg_before_it_brought() -> None:
    bench, strategy = bench_and_strategy(max_notional=50_000.0)
    bench.set("v:ETHBTC", "0.051000", "0.051001", qty="10")
    enter = strategy.on_batch(2 * MS, bench.market)[-1]
    held: dict[str, Fraction] = {"USDT": Fraction(50_000)}
    for leg in enter.legs:
        instrument = bench.table[leg.instrument]
        base = Fraction(instrument.qty(leg.qty))
        filled, notional, _ = sweep(bench.books, leg.instrument, int(leg.side), leg.qty)
        assert filled == leg.qty
        quote = Fraction(int(notional)) * Fraction(10) ** (instrument.price_exponent + instrument.qty_exponent)
        keeps = 1 - Fraction(instrument.taker_fee)
        spend, get = (
            ((instrument.quote, quote), (instrument.base, base))
            if leg.side is Side.BUY
            else ((instrument.base, base), (instrument.quote, quote))
        )
        assert held.get(spend[0], Fraction(0)) >= spend[1]
        held[spend[0]] -= spend[1]
        held[get[0]] = held.get(get[0], Fraction(0)) + get[1] * keeps
        assert leg.qty % instrument.lot == 0
    assert held["USDT"] > 50_000


def test_an_opportunity_lives_until_its_edge_or_a_book_is_gone() -> None:
    bench, strategy = bench_and_strategy()
    bench.set("v:ETHBTC", "0.051000", "0.051001", qty="10")
    strategy.on_batch(2 * MS, bench.market)
    bench.set("v:ETHBTC", "0.050000", "0.050001", qty="10")
    (closed,) = strategy.on_batch(9 * MS, bench.market)
    assert (closed.what, closed.lifetime_ns) == (What.CLOSED, 7 * MS)
    assert closed.peak_gross_bps == pytest.approx(200, abs=1)


def test_a_stale_book_is_not_traded_on() -> None:
    bench, strategy = bench_and_strategy(max_age_ms=100)
    bench.set("v:ETHBTC", "0.051000", "0.051001", qty="10")
    assert strategy.on_batch(500 * MS, bench.market) == []


def test_discovery_takes_only_what_closes_a_triangle() -> None:
    strategy = Triangular(TriangularSettings())
    lonely, elsewhere = spot("v", "XRP", "USDT"), spot("w", "ETH", "BTC")
    found = strategy.discover([BTC, ETH, CROSS, lonely, elsewhere])
    assert {instrument.key for instrument in found} == {"v:BTCUSDT", "v:ETHUSDT", "v:ETHBTC"}
