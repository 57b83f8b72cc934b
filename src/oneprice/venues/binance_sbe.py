"""Binance spot over SBE: the market of `binance_spot` on a faster wire, with the same ids, books and REST calls.

The handshake wants the header `X-MBX-APIKEY` with an Ed25519 key: no signature, no permission. Data come as binary
frames (`wire_sbe`), acknowledgements and notices as JSON text on the same socket. Depth comes every 20 ms and joins the
REST snapshot by spot's rule (see `binance_spot`). The encoders write each message at the instrument's own exponents.

Source: Binance spot API documentation, SBE market data streams."""

from __future__ import annotations

import struct

from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.model.tape import ASK, Rows
from oneprice.model.time import NS_PER_US
from oneprice.venues import binance_json, wire_sbe
from oneprice.venues.base import Channel, Control, Encoders, Endpoints, Ping, Venue
from oneprice.venues.binance_json import combined_url, subscribe, unsubscribe
from oneprice.venues.binance_spot import ENDPOINTS, LIMITS, rest_of
from oneprice.venues.sequencing import Consecutive

_HEADER = struct.Struct("<4H")
_TRADES_ROOT = struct.Struct("<2q2b")
_QUOTE_ROOT = struct.Struct("<2q2b4q")
_TOP_ROOT = struct.Struct("<2q2b")
_DIFF_ROOT = struct.Struct("<3q2b")
_TRADES_GROUP, _TRADE = struct.Struct("<HI"), struct.Struct("<3qB")
_LEVELS_GROUP, _LEVEL = struct.Struct("<2H"), struct.Struct("<2q")


def control(frame: bytes) -> Control:
    """A text frame as on the JSON wire; a binary one of a template or schema that is not ours is `other`, and skipped.

    {"result":null,"id":1} → ack; {"e":"serverShutdown","E":1770123456789} → shutdown
    """
    if frame[:1] in (b"{", b"[") or len(frame) < wire_sbe.HEADER_SIZE:
        return binance_json.control(frame)
    _, template, schema, version = _HEADER.unpack_from(frame)
    return Control(kind="other", message=f"SBE template {template} of schema {schema} version {version}: skipped")


def _frame(template: int, root: bytes, groups: bytes, instrument: Instrument) -> bytes:
    symbol = instrument.symbol.encode()
    header = _HEADER.pack(len(root), template, wire_sbe.SCHEMA_ID, wire_sbe.SCHEMA_VERSION)
    return header + root + groups + bytes((len(symbol),)) + symbol


def _levels(rows: Rows) -> bytes:
    """The groups bids and asks; a row without a price is an empty snapshot's and no level."""
    groups = b""
    for side in (0, ASK):
        part = rows[((rows["flags"] & ASK) == side) & (rows["price"] != 0)]
        entries = (_LEVEL.pack(p, q) for p, q in zip(part["price"].tolist(), part["qty"].tolist(), strict=True))
        groups += _LEVELS_GROUP.pack(_LEVEL.size, len(part)) + b"".join(entries)
    return groups


def encode_depth(
    instrument: Instrument,
    rows: Rows,
    *,
    first_id: int,
    last_id: int,
    previous_id: int,
    is_snapshot: bool,
    ts_ns: int,
) -> bytes:
    """DEPTH rows of one message → template 10003, whose event time is `ts_ns`. This stream has no snapshots."""
    exponents = (instrument.price_exponent, instrument.qty_exponent)
    root = _DIFF_ROOT.pack(ts_ns // NS_PER_US, first_id, last_id, *exponents)
    return _frame(wire_sbe.DEPTH_DIFF, root, _levels(rows), instrument)


def encode_top(instrument: Instrument, rows: Rows, *, update_id: int, ts_ns: int) -> bytes:
    """DEPTH rows of a snapshot → template 10002 (`depth20`); the caller keeps to twenty levels a side."""
    root = _TOP_ROOT.pack(ts_ns // NS_PER_US, update_id, instrument.price_exponent, instrument.qty_exponent)
    return _frame(wire_sbe.DEPTH_TOP, root, _levels(rows), instrument)


def encode_quote(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
    """The two QUOTE rows → template 10001, whose event time is `ts_ns`."""
    bid, ask = rows[0], rows[1]
    root = _QUOTE_ROOT.pack(
        ts_ns // NS_PER_US, int(bid["sequence"]), instrument.price_exponent, instrument.qty_exponent,
        int(bid["price"]), int(bid["qty"]), int(ask["price"]), int(ask["qty"]),
    )  # fmt: skip
    return _frame(wire_sbe.BEST_BID_ASK, root, b"", instrument)


def encode_trade(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
    """TRADE rows of one message → template 10000: event time `ts_ns`, transact time that of the first row."""
    exponents = (instrument.price_exponent, instrument.qty_exponent)
    root = _TRADES_ROOT.pack(ts_ns // NS_PER_US, int(rows["ts_venue_ns"][0]) // NS_PER_US, *exponents)
    entries = (
        _TRADE.pack(int(row["sequence"]), int(row["price"]), int(row["qty"]), 1 if int(row["flags"]) & ASK else 0)
        for row in rows
    )
    group = _TRADES_GROUP.pack(_TRADE.size, len(rows)) + b"".join(entries)
    return _frame(wire_sbe.TRADES, root, group, instrument)


BINANCE_SBE = Venue(
    name="binance_sbe",
    market="binance_spot",
    docs="https://developers.binance.com/docs/binance-spot-api-docs/sbe-market-data-streams",
    kind=InstrumentKind.SPOT,
    endpoints={
        "live": Endpoints(ws={"public": "wss://stream-sbe.binance.com"}, rest=ENDPOINTS["live"].rest),
        "testnet": Endpoints(ws={"public": "wss://demo-stream-sbe.binance.com"}, rest=ENDPOINTS["testnet"].rest),
    },
    ws_headers=("X-MBX-APIKEY",),
    channels={
        Channel.DEPTH: ("public", "{lower}@depth"),
        Channel.QUOTE: ("public", "{lower}@bestBidAsk"),
        Channel.TRADE: ("public", "{lower}@trade"),
    },
    sequencing=Consecutive(),
    decode=wire_sbe.decode,
    control=control,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    url=combined_url,
    ping=Ping(every_s=20.0),
    max_age_s=24 * 3600.0,
    limits=LIMITS,
    rest=rest_of("binance_sbe"),
    encode=Encoders(depth=encode_depth, trade=encode_trade, quote=encode_quote),
)
