"""What Binance's JSON streams share: subscribing, control frames, and encoding rows back into frames.

{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@depth@100ms"],"id":1}   → {"result":null,"id":1}
{"method":"SUBSCRIB","params":[],"id":1}                                         → {"code":2,"msg":"Invalid request: …"}

A wrong symbol or stream name is acknowledged like a right one and stays silent: only arriving data prove a
subscription. Source: Binance documentation, Web Socket Streams, Live Subscribing/Unsubscribing to streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from oneprice.model.errors import InputError, WireError
from oneprice.model.instrument import Instrument
from oneprice.model.tape import ASK, Kind, Rows
from oneprice.model.time import NS_PER_MS
from oneprice.venues.base import Control, Encoders


class _ControlFrame(msgspec.Struct):
    e: str = ""
    id: int | str | None = None
    code: int | None = None
    msg: str = ""
    error: dict[str, Any] | None = None
    data: Any = None
    stream: str = ""


_read_control = msgspec.json.Decoder(_ControlFrame)


def subscribe(topics: Sequence[str], request_id: int) -> bytes:
    """{"method":"SUBSCRIBE","params":["btcusdt@depth@100ms","btcusdt@bookTicker"],"id":1}"""
    return msgspec.json.encode({"method": "SUBSCRIBE", "params": list(topics), "id": request_id})


def unsubscribe(topics: Sequence[str], request_id: int) -> bytes:
    """{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":2}"""
    return msgspec.json.encode({"method": "UNSUBSCRIBE", "params": list(topics), "id": request_id})


def control(frame: bytes) -> Control:
    """A frame that is not market data: ack, error, shutdown, or other (events that no channel of ours carries).

    {"result":null,"id":1} → ack 1; {"code":2,"msg":"Invalid request: …"} → error;
    {"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1770123456789}} → shutdown: open the replacement at
    once. `WireError` for what is not JSON of these shapes.
    """
    try:
        read = _read_control.decode(frame)
    except (msgspec.MsgspecError, ValueError) as wrong:
        raise WireError(f"binance: a control frame has an unexpected shape: {wrong}") from wrong
    event = read.e or (str(read.data.get("e", "")) if isinstance(read.data, dict) else "")
    request_id = "" if read.id is None else str(read.id)
    if event == "serverShutdown":
        return Control(kind="shutdown", message=event)
    if read.code is not None or read.error is not None:
        error = read.error or {"code": read.code, "msg": read.msg}
        return Control(kind="error", request_id=request_id, message=f"{error.get('code')}: {error.get('msg')}")
    if event or read.stream:
        return Control(kind="other", message=event or read.stream)
    return Control(kind="ack", request_id=request_id)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one product writes its events.

    Spot prints eight decimals of everything; futures print as many as the instrument list's precisions say, which are
    the instrument's exponents, and tell when the engine acted (`T`) apart from when the event was sent (`E`). `product`
    is the number by which USD-M (1) and COIN-M (2) tell themselves apart since they became one service; 0: spot.
    """

    decimals: int | None
    product: int
    trade_event: str
    depth_stream: str = "depth@100ms"


SPOT = Dialect(decimals=8, product=0, trade_event="trade")
USDM = Dialect(decimals=None, product=1, trade_event="aggTrade")
COINM = Dialect(decimals=None, product=2, trade_event="aggTrade")


def _number(mantissa: int, exponent: int, decimals: int | None) -> str:
    """A mantissa as the venue prints it: always with the same number of places."""
    places = -exponent if decimals is None else max(decimals, -exponent)
    digits = str(abs(mantissa) * 10 ** (places + exponent)).rjust(places + 1, "0")
    sign = "-" if mantissa < 0 else ""
    return f"{sign}{digits[:-places]}.{digits[-places:]}" if places else f"{sign}{digits}"


def make_encoders(dialect: Dialect) -> Encoders:
    """The mirror image of the decoders in `wire_binance`, in the combined wrapper, keys in the venue's order.

    `ts_ns` is the time at which the event is sent (`E`). The rows' own time is `T` where a product writes one; a mark
    price and spot's depth have `E` only. What the tape does not keep is filled in plausibly: `f` and `l` of an
    aggregate trade repeat its id, `nq` its quantity; `P` and `ap` of a mark price repeat index and mark.
    """
    futures = dialect.product > 0
    last_keys = f',"st":{dialect.product}' if futures else ""

    def price_of(instrument: Instrument, mantissa: int) -> str:
        return _number(mantissa, instrument.price_exponent, dialect.decimals)

    def qty_of(instrument: Instrument, mantissa: int) -> str:
        return _number(mantissa, instrument.qty_exponent, dialect.decimals)

    def pair(instrument: Instrument) -> str:
        return f',"ps":"{instrument.base}{instrument.quote}"' if futures else ""

    def levels(instrument: Instrument, rows: Rows, side: int) -> str:
        part = rows[(rows["flags"] & ASK) == side]
        return ",".join(
            f'["{price_of(instrument, price)}","{qty_of(instrument, qty)}"]'
            for price, qty in zip(part["price"].tolist(), part["qty"].tolist(), strict=True)
            if price != 0  # the row of an event without levels
        )

    def depth(
        instrument: Instrument,
        rows: Rows,
        *,
        first_id: int,
        last_id: int,
        previous_id: int = -1,
        is_snapshot: bool = False,
        ts_ns: int,
    ) -> bytes:
        """DEPTH rows of one message → a diff of absolute sizes; the stream has no snapshots (they come by REST)."""
        if is_snapshot:
            raise InputError(f"{instrument.key}: the depth stream carries no snapshots, they come by REST")
        times = f'"E":{ts_ns // NS_PER_MS}' + (f',"T":{_venue_ms(rows)}' if futures else "")
        ids = f'"U":{first_id},"u":{last_id}' + (f',"pu":{previous_id}' if futures else "")
        return _wrapped(
            instrument,
            dialect.depth_stream,
            f'{{"e":"depthUpdate",{times},"s":"{instrument.symbol}"{pair(instrument)},{ids},'
            f'"b":[{levels(instrument, rows, 0)}],"a":[{levels(instrument, rows, ASK)}]{last_keys}}}',
        )

    def trade(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        """One TRADE row → a trade: this venue sends each by itself."""
        row = _only(instrument, rows)
        trade_id, qty = int(row["sequence"]), qty_of(instrument, int(row["qty"]))
        dealt = f'"p":"{price_of(instrument, int(row["price"]))}","q":"{qty}"'
        ended = f'"T":{_venue_ms(rows)},"m":{"true" if row["flags"] & ASK else "false"}'
        begun = f'{{"e":"{dialect.trade_event}","E":{ts_ns // NS_PER_MS}'
        if not futures:
            event = f'{begun},"s":"{instrument.symbol}","t":{trade_id},{dealt},{ended},"M":true}}'
        else:
            without_rpi = f',"nq":"{qty}"' if dialect is USDM else ""
            event = (
                f'{begun},"a":{trade_id},"s":"{instrument.symbol}",{dealt}{without_rpi},'
                f'"f":{trade_id},"l":{trade_id},{ended}{last_keys}}}'
            )
        return _wrapped(instrument, dialect.trade_event, event)

    def quote(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        """Two QUOTE rows, bid and ask → a book ticker. Spot's has neither type nor time."""
        bid, ask = rows[0], rows[1]
        best = (
            f'"s":"{instrument.symbol}"{pair(instrument)},'
            f'"b":"{price_of(instrument, int(bid["price"]))}","B":"{qty_of(instrument, int(bid["qty"]))}",'
            f'"a":"{price_of(instrument, int(ask["price"]))}","A":"{qty_of(instrument, int(ask["qty"]))}"'
        )
        update, times = f'"u":{int(bid["sequence"])}', f'"T":{_venue_ms(rows)},"E":{ts_ns // NS_PER_MS}'
        if not futures:
            event = f"{{{update},{best}}}"
        elif dialect is USDM:
            event = f'{{"e":"bookTicker",{update},{best},{times}{last_keys}}}'
        else:
            event = f'{{{update},"e":"bookTicker",{best},{times}{last_keys}}}'
        return _wrapped(instrument, "bookTicker", event)

    def mark(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        """MARK, and INDEX and FUNDING where they are known → a mark price update, values to eight decimals."""
        by_kind = {Kind(int(row["kind"])): row for row in rows}
        price = f"{float(by_kind[Kind.MARK]['value']):.8f}"
        index = f"{float(by_kind[Kind.INDEX]['value']):.8f}" if Kind.INDEX in by_kind else "0.00000000"
        funding = by_kind.get(Kind.FUNDING)
        rate = f"{float(funding['value']):.8f}" if funding is not None else "0.00000000"
        next_ms = int(funding["sequence"]) // NS_PER_MS if funding is not None else 0
        return _wrapped(
            instrument,
            "markPrice@1s",
            f'{{"e":"markPriceUpdate","E":{ts_ns // NS_PER_MS},"s":"{instrument.symbol}","p":"{price}","i":"{index}",'
            f'"P":"{index}","r":"{rate}","ap":"{price}","T":{next_ms}{last_keys}}}',
        )

    def liquidation(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        """One LIQUIDATION row → a forced order, filled in one go."""
        row = _only(instrument, rows)
        price, qty = price_of(instrument, int(row["price"])), qty_of(instrument, int(row["qty"]))
        symbol = f'"s":"{instrument.symbol}"' + (pair(instrument) if dialect is COINM else "")
        side = "SELL" if row["flags"] & ASK else "BUY"
        order = (
            f'{{{symbol},"S":"{side}","o":"LIMIT","f":"IOC","q":"{qty}","p":"{price}","ap":"{price}","X":"FILLED",'
            f'"l":"{qty}","z":"{qty}","T":{_venue_ms(rows)}}}'
        )
        return _wrapped(instrument, "forceOrder", f'{{"e":"forceOrder","E":{ts_ns // NS_PER_MS},"o":{order}}}')

    return Encoders(
        depth=depth,
        trade=trade,
        quote=quote,
        mark=mark if futures else None,
        liquidation=liquidation if futures else None,
    )


def _only(instrument: Instrument, rows: Rows) -> Any:
    if len(rows) != 1:
        raise InputError(f"{instrument.key}: a message of this venue holds one trade or liquidation, not {len(rows)}")
    return rows[0]


def _venue_ms(rows: Rows) -> int:
    return int(rows[0]["ts_venue_ns"]) // NS_PER_MS


def _wrapped(instrument: Instrument, stream: str, event: str) -> bytes:
    return f'{{"stream":"{instrument.symbol.lower()}@{stream}","data":{event}}}'.encode()


def combined_url(base: str, topics: Sequence[str]) -> str:
    """The combined stream of a base address. Topics are subscribed to once it stands: in an address they could neither
    be acknowledged nor be taken back.

    >>> combined_url("wss://fstream.binance.com/market", ["btcusdt@aggTrade"])
    'wss://fstream.binance.com/market/stream'
    """
    return f"{base}/stream"
