"""Bybit's instruments, decoders and frames for its tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache

import zstandard
from wire_frames import Decoded, Wire

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.venues.base import CHANNEL_CODE, HEAD_CHANNEL, HEAD_INSTRUMENT, HEAD_IS_SNAPSHOT, HEAD_LAST_ID, Channel
from oneprice.venues.bybit import encode_depth, encode_liquidation, encode_mark, encode_quote, encode_trade
from oneprice.venues.wire_bybit import decode
from shared_data import shared

MS = 1_000_000
HOUR_NS = 3600 * 10**9


def _instrument(venue: str, symbol: str, price_exponent: int, qty_exponent: int) -> Instrument:
    kind = InstrumentKind.SPOT if venue == "bybit_spot" else InstrumentKind.PERP
    return Instrument(
        venue=venue, symbol=symbol, canonical=symbol, kind=kind, base=symbol.removesuffix("USDT"), quote="USDT",
        price_exponent=price_exponent, qty_exponent=qty_exponent,
    )  # fmt: skip


TABLE = InstrumentTable(
    [
        _instrument("bybit_spot", "BTCUSDT", -1, -6),
        _instrument("bybit_spot", "ETHUSDT", -2, -5),
        *(
            _instrument("bybit_linear", symbol, price_exponent, qty_exponent)
            for symbol, price_exponent, qty_exponent in (
                ("BTCUSDT", -2, -3), ("ETHUSDT", -2, -2), ("SOLUSDT", -3, -1), ("DOGEUSDT", -5, 0),
                ("XRPUSDT", -4, 0), ("PIPPINUSDT", -5, 0), ("ROSEUSDT", -5, 0),
            )
        ),
    ]
)  # fmt: skip
SPOT, LINEAR = Wire(decode, TABLE, "bybit_spot"), Wire(decode, TABLE, "bybit_linear")
SPOT_BTC, LINEAR_BTC = TABLE.index("bybit_spot", "BTCUSDT"), TABLE.index("bybit_linear", "BTCUSDT")


def payload(name: str) -> bytes:
    return shared(f"data/wire/bybit/channels/{name}.json").read_bytes()


def _recorded() -> Iterator[tuple[str, bytes]]:
    text = zstandard.ZstdDecompressor().stream_reader(
        shared("data/market/cryptofeed_v3/BYBIT.jsonl.zst").read_bytes()
    ).read()  # fmt: skip
    product = {}
    for line in text.splitlines():
        record = json.loads(line)
        if record["t"] == "connect":
            product[record["conn"]] = record["addr"].rsplit("/", 1)[1]
        elif record["t"] == "recv":
            yield product[record["conn"]], record["data"].encode()


@cache
def recorded() -> list[tuple[str, bytes]]:
    """(product, frame) of the recorded connections of 2026-08-09."""
    return list(_recorded())


def book_frame(
    what: str, update: int, levels: str = '"b":[["1.00","2.000"]],"a":[["3.00","4.000"]]', depth: int = 50
) -> bytes:
    """A linear BTCUSDT book frame made by hand."""
    return (
        f'{{"topic":"orderbook.{depth}.BTCUSDT","type":"{what}","ts":5,'
        f'"data":{{"s":"BTCUSDT",{levels},"u":{update},"seq":9}},"cts":4}}'
    ).encode()


# name → (decoder, `ts` in ms)
REAL = {
    "book_l1_spot": (SPOT, 1786613159749),
    "book_l1_spot_next": (SPOT, 1786613159819),
    "book_delta_l50_linear": (LINEAR, 1687940967466),
    "trade_spot": (SPOT, 1786538700968),
    "trade_spot_many": (SPOT, 1786538700834),
    "liquidation": (LINEAR, 1740480207578),
    "liquidation_doc": (LINEAR, 1739502303204),
    "ticker_linear_delta": (LINEAR, 1786540397983),
}


def encode(wire: Wire, got: Decoded, ts_ns: int) -> bytes:
    """The frame that the venue's encoders make of decoded rows."""
    instrument = wire.instruments[got.head[HEAD_INSTRUMENT]]
    channel = got.head[HEAD_CHANNEL]
    if channel == CHANNEL_CODE[Channel.DEPTH]:
        update = got.head[HEAD_LAST_ID]
        return encode_depth(
            instrument, got.rows, first_id=update, last_id=update, previous_id=-1,
            is_snapshot=got.head[HEAD_IS_SNAPSHOT] == 1, ts_ns=ts_ns,
        )  # fmt: skip
    encoders = {
        Channel.QUOTE: encode_quote, Channel.TRADE: encode_trade, Channel.MARK: encode_mark,
        Channel.LIQUIDATION: encode_liquidation,
    }  # fmt: skip
    return {CHANNEL_CODE[name]: encoder for name, encoder in encoders.items()}[channel](
        instrument, got.rows, ts_ns=ts_ns
    )
