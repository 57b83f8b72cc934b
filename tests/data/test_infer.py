"""Rules read off the data hold every number seen, exactly, and are as coarse as that allows."""

from __future__ import annotations

from decimal import Decimal
from math import gcd

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.data.infer import Steps, infer_instrument, instruments_of_frame, symbols_of
from oneprice.model.errors import InputError
from oneprice.model.instrument import InstrumentKind
from oneprice.model.tape import TapeWriter
from oneprice.venues.feed import decode_frame
from oneprice.venues.registry import VENUES, venue
from shared_data import shared

SPOT, USDM, COINM, LINEAR = (venue(name) for name in ("binance_spot", "binance_usdm", "binance_coinm", "bybit_linear"))


def seen(*frames: bytes) -> Steps:
    steps = Steps()
    for frame in frames:
        steps.add(frame)
    return steps


def depth(levels: list[tuple[Decimal, Decimal]]) -> bytes:
    text = ",".join(f'["{price:f}","{qty:f}"]' for price, qty in levels)
    return f'{{"e":"depthUpdate","s":"BTCUSDT","b":[{text}],"a":[]}}'.encode()


numbers = st.builds(
    lambda mantissa, places: Decimal(mantissa).scaleb(-places), st.integers(0, 10**9), st.integers(0, 8)
)


@given(levels=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=6))
@settings(max_examples=100)
def test_inferred_steps_divide_every_number_seen_and_no_coarser_ones_do(
    levels: list[tuple[Decimal, Decimal]],
) -> None:
    half = len(levels) // 2
    steps = seen(depth(levels[:half]))
    steps.merge(seen(depth(levels[half:])))
    instrument = infer_instrument(SPOT, "BTCUSDT", steps)
    for column, exponent, step in (
        (0, instrument.price_exponent, instrument.tick), (1, instrument.qty_exponent, instrument.lot)
    ):  # fmt: skip
        units = gcd(*(int(level[column].scaleb(8)) for level in levels))
        assert step * 10 ** (exponent + 8) == (units or 1)
        assert exponent == 0 or units == 0 or step % 10 != 0
        assert exponent <= 0


@pytest.mark.parametrize(
    ("frame", "price", "qty"),
    [
        (b'{"u":1,"s":"BTCUSDT","b":"61837.63","B":"3.5","a":"61837.64","A":"1.25"}', "0.01", "0.25"),
        (b'{"e":"trade","s":"BTCUSDT","t":1,"p":"100.50","q":"0.002","T":1,"m":true}', "100.5", "0.002"),
        (b'{"topic":"publicTrade.BTCUSDT","data":[{"s":"BTCUSDT","v":"0.030","p":"16578.50"}]}', "16578.5", "0.03"),
        (
            b'{"topic":"orderbook.50.BTCUSDT","data":{"s":"BTCUSDT","b":[["16493.5","6"]],"a":[["16611","4"]]}}',
            "0.5",
            "2",
        ),
    ],
)
def test_quotes_trades_and_books_of_every_wire_are_read(frame: bytes, price: str, qty: str) -> None:
    instrument = infer_instrument(SPOT, "BTCUSDT", seen(frame))
    assert instrument.price(instrument.tick) == Decimal(price)
    assert instrument.qty(instrument.lot) == Decimal(qty)


@pytest.mark.parametrize(
    ("market", "symbol", "canonical", "settle", "multiplier"),
    [
        (SPOT, "BTCUSDT", "BTC/USDT", "", 1),
        (SPOT, "USDCUSDT", "USDC/USDT", "", 1),
        (SPOT, "ETHBTC", "ETH/BTC", "", 1),
        (SPOT, "BTCFDUSD", "BTC/FDUSD", "", 1),
        (USDM, "ETHUSDC", "ETH/USDC:USDC", "USDC", 1),
        (USDM, "BTCUSDT_240927", "BTC/USDT:USDT-240927", "USDT", 1),
        (COINM, "BTCUSD_PERP", "BTC/USD:BTC", "BTC", 100),
        (COINM, "ETHUSD_PERP", "ETH/USD:ETH", "ETH", 10),
        (COINM, "ETHUSD_240927", "ETH/USD:ETH-240927", "ETH", 10),
        (LINEAR, "1000PEPEUSDT", "1000PEPE/USDT:USDT", "USDT", 1),
    ],
)
def test_currencies_are_told_by_the_symbol(market, symbol: str, canonical: str, settle: str, multiplier: int) -> None:
    instrument = infer_instrument(market, symbol, Steps())
    assert (instrument.venue, instrument.canonical, instrument.settle) == (market.name, canonical, settle)
    assert instrument.contract_multiplier == multiplier
    assert instrument.inverse == (market is COINM)
    is_spot, is_dated = market is SPOT, symbol[-1].isdigit()
    assert instrument.kind is (InstrumentKind.FUTURE if is_dated else market.kind)
    assert (instrument.funding_interval_ns == 0) == (is_spot or is_dated)
    assert (instrument.fee_in_received, instrument.rules_inferred) == (is_spot, True)
    assert 0 < instrument.maker_fee <= instrument.taker_fee


@pytest.mark.parametrize("symbol", ["USDT", "XYZABC", "1INCH"])
def test_a_symbol_that_does_not_tell_its_currencies_asks_for_a_list(symbol: str) -> None:
    with pytest.raises(InputError, match=f"which currencies trade in '{symbol}'.* --instruments"):
        infer_instrument(SPOT, symbol, Steps())


def test_a_frame_names_its_symbols_whatever_its_venue() -> None:
    assert set(symbols_of(b'{"e":"trade","s":"BTCUSDT"}')) == {"BTCUSDT"}
    assert set(symbols_of(b'{"lastUpdateId":1,"symbol":"BTCUSD_PERP"}')) == {"BTCUSD_PERP"}
    assert set(symbols_of(b'{"topic":"orderbook.50.ETHUSDT","data":{}}')) == {"ETHUSDT"}
    assert set(symbols_of(b'{"topic":"tickers.BTC-29DEC23"}')) == {"BTC-29DEC23"}
    assert set(symbols_of(b'{"result":null,"id":1}')) == set()


@pytest.mark.parametrize(
    ("name", "payload"),
    [("binance_spot", "binance_spot/trade.json"), ("binance_spot", "binance_spot/depth_diff.json")],
)
def test_a_single_frame_is_read_without_an_instrument_list(name: str, payload: str) -> None:
    frame = shared(f"data/wire/{payload}").read_bytes()
    table = instruments_of_frame(VENUES[name], frame)
    tape = TapeWriter()
    assert decode_frame(VENUES[name], table, frame, tape) == ("rows", None)
    assert tape.n > 0


def test_a_frame_of_a_symbol_without_known_currencies_is_read_too() -> None:
    (instrument,) = instruments_of_frame(SPOT, b'{"e":"trade","s":"XYZABC","p":"1"}')
    assert (instrument.symbol, instrument.canonical, instrument.quote) == ("XYZABC", "XYZABC", "?")
