"""What the practice venues list: few markets, with ticks, lots, minimum values and fees as the real venues have them."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from oneprice.model.instrument import Instrument, InstrumentKind, exact_mantissa, exponent_of
from oneprice.model.time import NS_PER_S

_EIGHT_HOURS_NS = 8 * 3600 * NS_PER_S
# symbol: (base, quote, tick, lot)
_SPOT = {
    "BTCUSDT": ("BTC", "USDT", "0.01", "0.00001"),
    "ETHUSDT": ("ETH", "USDT", "0.01", "0.0001"),
    "BNBUSDT": ("BNB", "USDT", "0.01", "0.001"),
    "SOLUSDT": ("SOL", "USDT", "0.01", "0.001"),
    "XRPUSDT": ("XRP", "USDT", "0.0001", "0.1"),
    "ETHBTC": ("ETH", "BTC", "0.00001", "0.0001"),
    "BNBBTC": ("BNB", "BTC", "0.000001", "0.001"),
    "SOLBTC": ("SOL", "BTC", "0.0000001", "0.001"),
}
_BYBIT_SPOT = {
    "BTCUSDT": ("BTC", "USDT", "0.01", "0.000001"),
    "ETHUSDT": ("ETH", "USDT", "0.01", "0.00001"),
    "SOLUSDT": ("SOL", "USDT", "0.01", "0.001"),
    "XRPUSDT": ("XRP", "USDT", "0.0001", "0.01"),
}
_USDM = {
    "BTCUSDT": ("BTC", "USDT", "0.1", "0.001"),
    "ETHUSDT": ("ETH", "USDT", "0.01", "0.001"),
    "SOLUSDT": ("SOL", "USDT", "0.01", "0.01"),
}
_LINEAR = {
    "BTCUSDT": ("BTC", "USDT", "0.1", "0.001"),
    "ETHUSDT": ("ETH", "USDT", "0.01", "0.01"),
    "SOLUSDT": ("SOL", "USDT", "0.01", "0.1"),
}
_SPARE_DIGITS = 3  # as the venue modules keep them, so that both sides of the wire number alike


def _spot(venue: str, symbol: str, row: tuple[str, str, str, str], fee: str) -> Instrument:
    base, quote, tick_text, lot_text = row
    tick, lot = Decimal(tick_text), Decimal(lot_text)
    price_exponent, qty_exponent = exponent_of(tick), max(-8, exponent_of(lot) - _SPARE_DIGITS)
    return Instrument(
        venue=venue, symbol=symbol, canonical=f"{base}/{quote}", kind=InstrumentKind.SPOT, base=base, quote=quote,
        price_exponent=price_exponent, qty_exponent=qty_exponent, tick=exact_mantissa(tick, price_exponent),
        lot=exact_mantissa(lot, qty_exponent), min_qty=exact_mantissa(lot, qty_exponent),
        max_qty=exact_mantissa(Decimal(9000) if base != "XRP" else Decimal(900_000), qty_exponent),
        min_notional=Decimal(5) if quote == "USDT" else Decimal("0.0001"), maker_fee=Decimal(fee),
        taker_fee=Decimal(fee), fee_in_received=True,
    )  # fmt: skip


def _perp(venue: str, symbol: str, row: tuple[str, str, str, str], maker: str, taker: str) -> Instrument:
    base, quote, tick_text, lot_text = row
    tick, lot = Decimal(tick_text), Decimal(lot_text)
    price_exponent, qty_exponent = exponent_of(tick), exponent_of(lot)
    return Instrument(
        venue=venue, symbol=symbol, canonical=f"{base}/{quote}:{quote}", kind=InstrumentKind.PERP, base=base,
        quote=quote, settle=quote, price_exponent=price_exponent, qty_exponent=qty_exponent,
        tick=exact_mantissa(tick, price_exponent), lot=exact_mantissa(lot, qty_exponent),
        min_qty=exact_mantissa(lot, qty_exponent), max_qty=exact_mantissa(Decimal(10_000), qty_exponent),
        min_notional=Decimal(5), maker_fee=Decimal(maker), taker_fee=Decimal(taker),
        funding_interval_ns=_EIGHT_HOURS_NS,
    )  # fmt: skip


def practice_instruments(venue: str) -> list[Instrument]:
    """The markets of a practice venue."""
    if venue in ("binance_spot", "binance_sbe"):
        return [_spot(venue, symbol, row, "0.001") for symbol, row in _SPOT.items()]
    if venue == "bybit_spot":
        return [_spot(venue, symbol, row, "0.001") for symbol, row in _BYBIT_SPOT.items()]
    if venue == "binance_usdm":
        return [_perp(venue, symbol, row, "0.0002", "0.0005") for symbol, row in _USDM.items()]
    if venue == "bybit_linear":
        return [_perp(venue, symbol, row, "0.0002", "0.00055") for symbol, row in _LINEAR.items()]
    return []


def renamed(instrument: Instrument, venue: str) -> Instrument:
    """The same market over another wire."""
    return msgspec.structs.replace(instrument, venue=venue)
