"""Binance's instruments, decoders and recorded frames for its tests."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import zstandard
from wire_frames import Wire

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.venues.registry import venue
from shared_data import shared

MS = 1_000_000


def instrument(venue_name: str, symbol: str, price_exponent: int, qty_exponent: int, **fields: Any) -> Instrument:
    quote = "BUSD" if "BUSD" in symbol else "USDT" if symbol.endswith("USDT") else "USD"
    kind = InstrumentKind.SPOT if venue_name == "binance_spot" else InstrumentKind.PERP
    return Instrument(
        venue=venue_name, symbol=symbol, canonical=symbol, kind=kind, base=symbol.partition(quote)[0], quote=quote,
        price_exponent=price_exponent, qty_exponent=qty_exponent, **fields,
    )  # fmt: skip


TABLE = InstrumentTable(
    [
        instrument("binance_spot", "BTCUSDT", -2, -8),
        instrument("binance_spot", "NKNUSDT", -4, -3),
        instrument("binance_spot", "１２３USDT", -4, -3),
        instrument("binance_usdm", "BTCUSDT", -2, -3, tick=10),
        instrument("binance_usdm", "ETHUSDT", -2, -3),
        instrument("binance_usdm", "CTKUSDT", -5, 0, tick=100),
        instrument("binance_usdm", "BTCBUSD_210129", -1, -3),
        instrument("binance_coinm", "BTCUSD_PERP", -1, 0, inverse=True),
    ]
)
SPOT, USDM, COINM = (
    Wire(venue(name).decode, TABLE, name) for name in ("binance_spot", "binance_usdm", "binance_coinm")
)
SPOT_BTC, SPOT_NKN = TABLE.index("binance_spot", "BTCUSDT"), TABLE.index("binance_spot", "NKNUSDT")
USDM_BTC, USDM_CTK = TABLE.index("binance_usdm", "BTCUSDT"), TABLE.index("binance_usdm", "CTKUSDT")
USDM_DATED, COINM_BTC = TABLE.index("binance_usdm", "BTCBUSD_210129"), TABLE.index("binance_coinm", "BTCUSD_PERP")


def payload(venue_name: str, name: str) -> bytes:
    """A payload as it came over the wire: without the line feed that ends the file."""
    return shared(f"data/wire/{venue_name}/{name}.json").read_bytes().rstrip(b"\n")


def answers(venue_name: str, name: str) -> Any:
    return json.loads(payload(venue_name, name))


_RECORDINGS = {
    "binance_spot": "spot_btcusdt_20240808",
    "binance_usdm": "usdm_btcusdt_20240808",
    "binance_coinm": "cm_btcusd_perp_20240808",
}


@cache
def recorded(venue_name: str) -> list[bytes]:
    """The first 12 000 stream frames of 2024-08-08: depth, book tickers and trades of BTC."""
    frames: list[bytes] = []
    with gzip.open(shared(f"data/market/binance_2024-08-08/{_RECORDINGS[venue_name]}.gz")) as lines:
        for line in lines:
            frame = line.partition(b" ")[2].rstrip(b"\n")
            if frame.startswith(b'{"stream"'):
                frames.append(frame)
                if len(frames) == 12_000:
                    break
    return frames


def recorded_2021(name: str) -> tuple[dict[str, Any], list[bytes]]:
    """(exchangeInfo, stream frames) of one connection with many symbols."""
    text = zstandard.ZstdDecompressor().stream_reader(
        shared(f"data/market/cryptofeed_v3/{name}.jsonl.zst").read_bytes()
    ).read()  # fmt: skip
    records = [json.loads(line) for line in text.splitlines()]
    info = next(json.loads(r["data"]) for r in records if r["t"] == "http" and "exchangeInfo" in json.dumps(r))
    return info, [r["data"].encode() for r in records if r["t"] == "recv"]


def capture(venue_name: str) -> Iterator[tuple[int, str, bytes]]:
    """(receive time, ws or http, text) of the short recording that begins before its REST snapshot."""
    path = shared(f"data/wire/{venue_name}/capture_join_btcusdt_2024-08-08.jsonl")
    for line in path.read_bytes().splitlines():
        record = json.loads(line)
        yield record["recv_ts_ns"], record["via"], record["payload"].encode()
