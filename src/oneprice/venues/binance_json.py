"""What Binance's JSON streams share: subscribing, control frames, and encoding rows back into frames.

{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@depth@100ms"],"id":1}   → {"result":null,"id":1}
{"e":"serverShutdown","E":1764142800000}"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from oneprice.model.errors import WireError
from oneprice.model.instrument import Instrument
from oneprice.model.tape import ASK, Kind, Rows
from oneprice.model.time import NS_PER_MS
from oneprice.venues.base import Control, Encoders

_UNQUOTED = msgspec.json.Encoder()


class _ControlFrame(msgspec.Struct):
    e: str = ""
    id: int | str | None = None
    code: int | None = None
    msg: str = ""
    error: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    stream: str = ""


_read_control = msgspec.json.Decoder(_ControlFrame)


def subscribe(topics: Sequence[str], request_id: int) -> bytes:
    return _UNQUOTED.encode({"method": "SUBSCRIBE", "params": list(topics), "id": request_id})


def unsubscribe(topics: Sequence[str], request_id: int) -> bytes:
    return _UNQUOTED.encode({"method": "UNSUBSCRIBE", "params": list(topics), "id": request_id})


def control(frame: bytes) -> Control:
    """A frame that is not market data. Errors have no `e`: {"code":2,"msg":"Invalid request: …"}."""
    try:
        read = _read_control.decode(frame)
    except (msgspec.DecodeError, ValueError) as wrong:
        raise WireError(f"binance: a control frame is not JSON of the documented shape: {wrong}") from wrong
    event = read.e or str((read.data or {}).get("e", ""))
    request_id = "" if read.id is None else str(read.id)
    if event == "serverShutdown":
        return Control(kind="shutdown", message="serverShutdown")
    if read.code is not None or read.error is not None:
        error = read.error or {"code": read.code, "msg": read.msg}
        return Control(kind="error", request_id=request_id, message=f"{error.get('code')}: {error.get('msg')}")
    if event:
        return Control(kind="other", message=event)
    return Control(kind="ack", request_id=request_id)


def _number(mantissa: int, exponent: int, decimals: int) -> str:
    """A mantissa as the venue prints it: always `decimals` places."""
    digits = str(abs(mantissa) * 10 ** (decimals + exponent)).rjust(decimals + 1, "0")
    sign = "-" if mantissa < 0 else ""
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}" if decimals else f"{sign}{digits}"


class Digits(msgspec.Struct, frozen=True):
    """How many decimals a product prints; None: as many as the instrument's exponent has."""

    price: int | None = None
    qty: int | None = None

    def of_price(self, instrument: Instrument, mantissa: int) -> str:
        places = -instrument.price_exponent if self.price is None else self.price
        return _number(mantissa, instrument.price_exponent, places)

    def of_qty(self, instrument: Instrument, mantissa: int) -> str:
        places = -instrument.qty_exponent if self.qty is None else self.qty
        return _number(mantissa, instrument.qty_exponent, places)


def make_encoders(digits: Digits, *, futures: bool, depth_stream: str) -> Encoders:
    """The mirror image of `decode_binance`, in the combined wrapper. `ts_ns` is the time of the event; trades and depth
    of futures carry the rows' venue time as `T`."""

    def levels(instrument: Instrument, rows: Rows, side: int) -> str:
        part = rows[(rows["flags"] & ASK) == side]
        return ",".join(
            f'["{digits.of_price(instrument, price)}","{digits.of_qty(instrument, qty)}"]'
            for price, qty in zip(part["price"].tolist(), part["qty"].tolist(), strict=True)
            if price
        )

    def depth(
        instrument: Instrument, rows: Rows, *, first_id: int, last_id: int, previous_id: int = -1,
        is_snapshot: bool = False, ts_ns: int,
    ) -> bytes:  # fmt: skip
        ms = ts_ns // NS_PER_MS
        times = f'"E":{ms},"T":{_venue_ms(rows)}' if futures else f'"E":{ms}'
        ids = f'"U":{first_id},"u":{last_id}' + (f',"pu":{previous_id}' if futures else "")
        event = (
            f'{{"e":"depthUpdate",{times},"s":"{instrument.symbol}",{ids},'
            f'"b":[{levels(instrument, rows, 0)}],"a":[{levels(instrument, rows, ASK)}]}}'
        )
        return _wrapped(instrument, depth_stream, event)

    def trade(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        row = rows[0]
        price, qty = digits.of_price(instrument, int(row["price"])), digits.of_qty(instrument, int(row["qty"]))
        maker = "true" if row["flags"] & ASK else "false"
        ms, trade_id = ts_ns // NS_PER_MS, int(row["sequence"])
        if futures:
            event = (
                f'{{"e":"aggTrade","E":{ms},"s":"{instrument.symbol}","a":{trade_id},"p":"{price}","q":"{qty}",'
                f'"nq":"{qty}","f":{trade_id},"l":{trade_id},"T":{_venue_ms(rows)},"m":{maker},"st":1}}'
            )
            return _wrapped(instrument, "aggTrade", event)
        event = (
            f'{{"e":"trade","E":{ms},"s":"{instrument.symbol}","t":{trade_id},"p":"{price}","q":"{qty}",'
            f'"T":{_venue_ms(rows)},"m":{maker},"M":true}}'
        )
        return _wrapped(instrument, "trade", event)

    def quote(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        bid, ask = rows[0], rows[1]
        prices = (
            f'"b":"{digits.of_price(instrument, int(bid["price"]))}","B":"{digits.of_qty(instrument, int(bid["qty"]))}",'
            f'"a":"{digits.of_price(instrument, int(ask["price"]))}","A":"{digits.of_qty(instrument, int(ask["qty"]))}"'
        )
        update = int(bid["sequence"])
        if futures:
            times = f'"T":{_venue_ms(rows)},"E":{ts_ns // NS_PER_MS}'
            event = f'{{"e":"bookTicker","u":{update},"s":"{instrument.symbol}",{prices},{times}}}'
        else:
            event = f'{{"u":{update},"s":"{instrument.symbol}",{prices}}}'
        return _wrapped(instrument, "bookTicker", event)

    def mark(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        values = {Kind(int(row["kind"])): row for row in rows}
        event: dict[str, Any] = {"e": "markPriceUpdate", "E": _venue_ms(rows), "s": instrument.symbol}
        event["p"] = f"{float(values[Kind.MARK]['value']):.8f}"
        if Kind.INDEX in values:
            event["i"] = f"{float(values[Kind.INDEX]['value']):.8f}"
        funding = values.get(Kind.FUNDING)
        event["r"] = f"{float(funding['value']):.8f}" if funding is not None else "0.00000000"
        event["T"] = int(funding["sequence"]) // NS_PER_MS if funding is not None else 0
        event["st"] = 1
        return _wrapped(instrument, "markPrice@1s", _UNQUOTED.encode(event).decode())

    def liquidation(instrument: Instrument, rows: Rows, *, ts_ns: int) -> bytes:
        row = rows[0]
        price, qty = digits.of_price(instrument, int(row["price"])), digits.of_qty(instrument, int(row["qty"]))
        ms = _venue_ms(rows)
        order = {
            "s": instrument.symbol, "S": "SELL" if row["flags"] & ASK else "BUY", "o": "LIMIT", "f": "IOC", "q": qty,
            "p": price, "ap": price, "X": "FILLED", "l": qty, "z": qty, "T": ms,
        }  # fmt: skip
        event = _UNQUOTED.encode({"e": "forceOrder", "E": ms, "o": order}).decode()
        return _wrapped(instrument, "forceOrder", event)

    return Encoders(
        depth=depth, trade=trade, quote=quote, mark=mark if futures else None,
        liquidation=liquidation if futures else None,
    )  # fmt: skip


def _venue_ms(rows: Rows) -> int:
    return int(rows[0]["ts_venue_ns"]) // NS_PER_MS


def _wrapped(instrument: Instrument, stream: str, event: str) -> bytes:
    return f'{{"stream":"{instrument.symbol.lower()}@{stream}","data":{event}}}'.encode()


def combined_url(suffix: str) -> Callable[[str, Sequence[str]], str]:
    """The combined stream of a base address; topics are subscribed to once it stands."""
    return lambda base, topics: f"{base}{suffix}"
