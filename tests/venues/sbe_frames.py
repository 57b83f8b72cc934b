"""Instruments, decoders and payloads of Binance's binary wire for its tests."""

from __future__ import annotations

from pathlib import Path

from wire_frames import Wire

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.venues import wire_sbe
from shared_data import shared

PAYLOADS = (
    "best_bid_ask", "depth_diff", "depth_diff_one_side_empty", "depth_snapshot", "trades_many", "trades_one",
)  # fmt: skip


def folder() -> Path:
    return shared("data/wire/binance_sbe")


def frame(name: str) -> bytes:
    return (folder() / f"{name}.bin").read_bytes()


TABLE = InstrumentTable(
    Instrument(
        venue="binance_sbe", symbol=symbol, canonical=symbol, kind=InstrumentKind.SPOT, base=symbol[:3], quote="USDT",
        price_exponent=price_exponent, qty_exponent=qty_exponent,
    )
    for symbol, price_exponent, qty_exponent in (("BTCUSDT", -2, -5), ("SHIBIDR", 0, 0), ("１２３４５６", -2, -2))
)  # fmt: skip
BTC = TABLE.index("binance_sbe", "BTCUSDT")
WIRE, TOP = Wire(wire_sbe.decode, TABLE, "binance_sbe"), Wire(wire_sbe.decode_top, TABLE, "binance_sbe")
