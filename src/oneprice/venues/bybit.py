"""Bybit v5 spot and linear perpetuals: two products on one API. What differs is passed in, nothing is written twice.

How data moves: one connection a product (`/v5/public/spot`, `/v5/public/linear`) brings all channels;
`wire_bybit.decode` turns frames into rows and the functions here turn rows into the frames that the venue would send.
The book comes with the stream: a snapshot replaces it at any time, a delta is the update id plus one, id 1 is a restart
with the whole book.

Depth is `orderbook.50`: its 20 ms are the fastest cadence that carries more than the touch (200 levels come every
100 ms, 1000 every 200 ms), and fifty levels reach further than an order of ours walks. The best price is `orderbook.1`
(10 ms), because tickers repeat it only every 100 ms and, on spot, not at all. Spot tickers carry nothing that the tape
keeps.

Source: Bybit v5 documentation, WebSocket Stream."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from math import isnan
from uuid import UUID

import msgspec

from oneprice.model.errors import WireError
from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.model.tape import ASK, Kind, Rows
from oneprice.model.time import NS_PER_MS
from oneprice.venues.base import Channel, Control, Encoders, Endpoints, Ping, RateLimits, Venue
from oneprice.venues.bybit_rest import LINEAR_REST, SPOT_REST
from oneprice.venues.sequencing import SnapshotThenDelta
from oneprice.venues.wire_bybit import decode

DEPTH_LEVELS = 50
_NS_PER_HOUR = 3600 * 1_000_000_000


class _ControlFrame(msgspec.Struct, rename={"ret_code": "retCode", "ret_text": "retMsg", "request": "reqId"}):
    """Fields of the public, private and order-entry connections, which name the same things differently."""

    op: str = ""
    topic: str = ""
    success: bool | None = None
    ret_msg: str = ""
    req_id: str = ""
    ret_code: int | None = None
    ret_text: str = ""
    request: str = ""


_CONTROL_FRAME = msgspec.json.Decoder(_ControlFrame)


def control(frame: bytes) -> Control:
    """A control frame, understood; `WireError` for what is not JSON of these shapes.

    {"success":true,"ret_msg":"subscribe","conn_id":"…","req_id":"1","op":"subscribe"} → ack
    {"success":true,"ret_msg":"pong","conn_id":"…","op":"ping"} → pong (the answer repeats the question's `op`)
    """
    try:
        said = _CONTROL_FRAME.decode(frame)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"bybit: a control frame has an unexpected shape: {error}") from error
    request_id = said.req_id or said.request
    message = said.ret_msg or said.ret_text
    if said.topic:
        return Control(kind="other", message=f"topic {said.topic}")
    if said.success is False or (said.ret_code is not None and said.ret_code != 0):
        return Control(kind="error", request_id=request_id, message=message or f"{said.op} failed")
    answered = said.success is True or said.ret_code == 0
    if said.op == "pong" or (said.op == "ping" and answered):
        kind = "pong"
    elif said.op == "ping":
        kind = "ping"
    elif said.op in ("subscribe", "unsubscribe") and answered:
        kind = "ack"
    elif said.op == "auth" and answered:
        kind = "auth"
    else:
        kind = "other"
    return Control(kind=kind, request_id=request_id, message=message)


def _request(op: str, topics: Sequence[str], request_id: int) -> bytes:
    return msgspec.json.encode({"req_id": str(request_id), "op": op, "args": list(topics)})


def subscribe(topics: Sequence[str], request_id: int) -> bytes:
    """{"req_id":"1","op":"subscribe","args":["orderbook.50.BTCUSDT","publicTrade.BTCUSDT"]}"""
    return _request("subscribe", topics, request_id)


def unsubscribe(topics: Sequence[str], request_id: int) -> bytes:
    """{"req_id":"2","op":"unsubscribe","args":["publicTrade.BTCUSDT"]}"""
    return _request("unsubscribe", topics, request_id)


def _is_spot(instrument: Instrument) -> bool:
    return instrument.kind is InstrumentKind.SPOT


def _decimal(mantissa: int, exponent: int, *, stripped: bool) -> str:
    """A number as the venue writes it: spot without trailing zeros, linear with all decimals but a bare "0"."""
    if exponent >= 0 or mantissa == 0:
        return str(mantissa * 10 ** max(exponent, 0))
    digits = f"{mantissa:0{1 - exponent}d}"
    text = f"{digits[:exponent]}.{digits[exponent:]}"
    return text.rstrip("0").rstrip(".") if stripped else text


def _reference(value: float, decimals: int) -> str:
    """A mark or index price: with the tick's decimals where they hold it, else with as many digits as it needs."""
    padded = f"{value:.{decimals}f}"
    return padded if float(padded) == value else f"{Decimal(repr(value)):f}"


def _levels(instrument: Instrument, rows: Rows, side: int) -> str:
    stripped = _is_spot(instrument)
    return ",".join(
        f'["{_decimal(price, instrument.price_exponent, stripped=stripped)}",'
        f'"{_decimal(qty, instrument.qty_exponent, stripped=stripped)}"]'
        for price, qty, flags in zip(rows["price"].tolist(), rows["qty"].tolist(), rows["flags"].tolist(), strict=True)
        if flags & ASK == side and price != 0
    )


def _book(instrument: Instrument, rows: Rows, *, depth: int, what: str, update_id: int, ts_ns: int) -> bytes:
    ts, type_ = f'"ts":{ts_ns // NS_PER_MS}', f'"type":"{what}"'
    # Spot at every level, and linear at level 1, write the time before the type.
    head = f"{ts},{type_}" if _is_spot(instrument) or depth == 1 else f"{type_},{ts}"
    engine_ns = int(rows["ts_venue_ns"][0]) if len(rows) > 0 else ts_ns
    return (
        f'{{"topic":"orderbook.{depth}.{instrument.symbol}",{head},"data":{{"s":"{instrument.symbol}",'
        f'"b":[{_levels(instrument, rows, 0)}],"a":[{_levels(instrument, rows, ASK)}],"u":{update_id},'
        f'"seq":{update_id}}},"cts":{engine_ns // NS_PER_MS}}}'
    ).encode()


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
    """DEPTH rows of one message → an `orderbook.50` frame; `u` is `last_id`, which 1 would make a restart.

    `cts` is the rows' venue time, `ts` is `ts_ns`. `seq`, which the tape does not keep, repeats `u`.
    """
    what = "snapshot" if is_snapshot else "delta"
    return _book(instrument, rows, depth=DEPTH_LEVELS, what=what, update_id=last_id, ts_ns=ts_ns)


def encode_quote(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
    """The two QUOTE rows → an `orderbook.1` frame, always a snapshot; a side of price 0 is an empty list."""
    return _book(instrument, rows, depth=1, what="snapshot", update_id=int(rows["sequence"][0]), ts_ns=ts_ns)


def _prints(instrument: Instrument, rows: Rows) -> list[tuple[int, str, str, int, bool]]:
    """(ms, price, size, id, whether the flag ASK is set) of trades or liquidations."""
    stripped = _is_spot(instrument)
    return [
        (
            int(row["ts_venue_ns"]) // NS_PER_MS,
            _decimal(int(row["price"]), instrument.price_exponent, stripped=stripped),
            _decimal(int(row["qty"]), instrument.qty_exponent, stripped=stripped),
            int(row["sequence"]),
            bool(int(row["flags"]) & ASK),
        )
        for row in rows
    ]


def encode_trade(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
    """TRADE rows of one message → a `publicTrade` frame. `seq` is the time; on linear the id is a made-up UUID.

    {"topic":"publicTrade.BTCUSDT","ts":1786538700968,"type":"snapshot","data":[{"i":"2290000001190010749","T":
    1786538700967,"p":"64103.9","v":"0.001683","S":"Sell","seq":112571834997,"s":"BTCUSDT","BT":false,"RPI":false}]}
    """
    ms, symbol = ts_ns // NS_PER_MS, instrument.symbol
    data = []
    for k, (engine_ms, price, size, trade_id, is_sell) in enumerate(_prints(instrument, rows)):
        side = "Sell" if is_sell else "Buy"
        if _is_spot(instrument):
            data.append(
                f'{{"i":"{trade_id}","T":{engine_ms},"p":"{price}","v":"{size}","S":"{side}","seq":{ms},'
                f'"s":"{symbol}","BT":false,"RPI":false}}'
            )
        else:
            data.append(
                f'{{"T":{engine_ms},"s":"{symbol}","S":"{side}","v":"{size}","p":"{price}",'
                f'"L":"{"ZeroMinusTick" if is_sell else "ZeroPlusTick"}","i":"{UUID(int=(ts_ns << 64) + k)}",'
                f'"BT":false,"RPI":false,"seq":{ms}}}'
            )
    head = f'"ts":{ms},"type":"snapshot"' if _is_spot(instrument) else f'"type":"snapshot","ts":{ms}'
    return f'{{"topic":"publicTrade.{symbol}",{head},"data":[{",".join(data)}]}}'.encode()


def encode_mark(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
    """MARK, INDEX, FUNDING and OPEN_INTEREST rows → a `tickers` frame with the fields for which there are rows.

    {"topic":"tickers.BTCUSDT","type":"delta","data":{"symbol":"BTCUSDT","indexPrice":"63986.66"},"cs":760580218857,"ts":
    1786540397983}

    `type` is `snapshot` when all four are there. `cs`, which the tape does not keep, is the time.
    """
    by_kind = {int(row["kind"]): row for row in rows}
    fields = []
    for name, kind in (("markPrice", Kind.MARK), ("indexPrice", Kind.INDEX)):
        if kind in by_kind:
            fields.append(f'"{name}":"{_reference(float(by_kind[kind]["value"]), -instrument.price_exponent)}"')
    if Kind.OPEN_INTEREST in by_kind:
        one_side = float(by_kind[Kind.OPEN_INTEREST]["value"])
        fields.append(f'"openInterest":"{_reference(2 * one_side, -instrument.qty_exponent)}"')
        fields.append(f'"singleOpenInterest":"{_reference(one_side, -instrument.qty_exponent)}"')
    if Kind.FUNDING in by_kind:
        funding = by_kind[Kind.FUNDING]
        if funding["qty"] > 0:
            fields.append(f'"fundingIntervalHour":"{int(funding["qty"]) // _NS_PER_HOUR}"')
        if funding["sequence"] > 0:
            fields.append(f'"nextFundingTime":"{int(funding["sequence"]) // NS_PER_MS}"')
        if not isnan(funding["value"]):
            fields.append(f'"fundingRate":"{_reference(float(funding["value"]), 0)}"')
    what = "snapshot" if len(by_kind) == 4 else "delta"
    ms, symbol = ts_ns // NS_PER_MS, instrument.symbol
    data = ",".join((f'"symbol":"{symbol}"', *fields))
    return f'{{"topic":"tickers.{symbol}","type":"{what}","data":{{{data}}},"cs":{ms},"ts":{ms}}}'.encode()


def encode_liquidation(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
    """LIQUIDATION rows → an `allLiquidation` frame; a long that was sold out (ASK) is written `Buy`, the position's.

    {"topic":"allLiquidation.PIPPINUSDT","type":"snapshot","ts":1740480207578,"data":[{"T":1740480207110,"s":
    "PIPPINUSDT","S":"Sell","v":"2846","p":"0.02456"}]}
    """
    ms, symbol = ts_ns // NS_PER_MS, instrument.symbol
    data = ",".join(
        f'{{"T":{engine_ms},"s":"{symbol}","S":"{"Buy" if was_long else "Sell"}","v":"{size}","p":"{price}"}}'
        for engine_ms, price, size, _, was_long in _prints(instrument, rows)
    )
    return f'{{"topic":"allLiquidation.{symbol}","type":"snapshot","ts":{ms},"data":[{data}]}}'.encode()


def endpoints(product: str, *, stream: str, rest: str) -> Endpoints:
    """Addresses of a product (`spot`, `linear`) at a stream host and a REST host; regional accounts have their own."""
    base = f"wss://{stream}/v5"
    return Endpoints(
        ws={"public": f"{base}/public/{product}", "private": f"{base}/private", "trade": f"{base}/trade"},
        rest=f"https://{rest}",
    )


def _environments(product: str) -> dict[str, Endpoints]:
    return {
        "live": endpoints(product, stream="stream.bybit.com", rest="api.bybit.com"),
        "testnet": endpoints(product, stream="stream-testnet.bybit.com", rest="api-testnet.bybit.com"),
    }


def _limits(subscribe_batch: int) -> RateLimits:
    # 600 REST requests an address in 5 s. Messages of a connection have no stated limit; ten a second are modest. The
    # topics of a connection may take 21 000 characters, of which the longest real one takes 40.
    return RateLimits(
        weight_per_window=600,
        window_s=5.0,
        ws_messages_per_s=10.0,
        subscribe_batch=subscribe_batch,
        streams_per_connection=500,
        connects_per_5min=500,
    )


# The venue closes a connection that sends neither data nor pings for ten minutes, and asks for a ping every 20 s.
_PING = Ping(every_s=20.0, payload=b'{"req_id":"0","op":"ping"}')
_BOOK_CHANNELS = {
    Channel.DEPTH: ("public", f"orderbook.{DEPTH_LEVELS}.{{symbol}}"),
    Channel.QUOTE: ("public", "orderbook.1.{symbol}"),
    Channel.TRADE: ("public", "publicTrade.{symbol}"),
}

BYBIT_SPOT = Venue(
    name="bybit_spot",
    market="bybit_spot",
    docs="https://bybit-exchange.github.io/docs/v5/ws/connect",
    kind=InstrumentKind.SPOT,
    endpoints=_environments("spot"),
    channels=_BOOK_CHANNELS,
    sequencing=SnapshotThenDelta(),
    decode=decode,
    control=control,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    ping=_PING,
    limits=_limits(subscribe_batch=10),  # more topics in one request are refused on spot
    rest=SPOT_REST,
    encode=Encoders(depth=encode_depth, trade=encode_trade, quote=encode_quote),
)

BYBIT_LINEAR = Venue(
    name="bybit_linear",
    market="bybit_linear",
    docs="https://bybit-exchange.github.io/docs/v5/ws/connect",
    kind=InstrumentKind.PERP,
    endpoints=_environments("linear"),
    channels={
        **_BOOK_CHANNELS,
        Channel.MARK: ("public", "tickers.{symbol}"),
        Channel.OPEN_INTEREST: ("public", "tickers.{symbol}"),  # the same topic as MARK
        Channel.LIQUIDATION: ("public", "allLiquidation.{symbol}"),
    },
    sequencing=SnapshotThenDelta(),
    decode=decode,
    control=control,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    ping=_PING,
    limits=_limits(subscribe_batch=100),
    rest=LINEAR_REST,
    encode=Encoders(
        depth=encode_depth, trade=encode_trade, quote=encode_quote, mark=encode_mark, liquidation=encode_liquidation
    ),
)
