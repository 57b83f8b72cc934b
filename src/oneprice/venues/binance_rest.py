"""Binance's market data by REST: how to ask and how to read, for spot, USD-M and COIN-M.

The three speak alike under another path (`/api/v3`, `/fapi/v1`, `/dapi/v1`); what differs is a value passed in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from oneprice.model.errors import UnknownOutcome, VenueError, WireError
from oneprice.model.instrument import Instrument, InstrumentKind, exact_mantissa, exponent_of
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import BookSnapshot, Candle, FundingSettlement, Request, Rest

_EIGHT_HOURS_NS = 8 * 3600 * NS_PER_S
_SPARE_DIGITS = 3
_NEVER_MS = 4_133_404_800_000  # deliveryDate of a perpetual
_UNKNOWN_CODES = frozenset({-1006, -1007})
_BUSY_CODES = frozenset({-1003, -1008, -1015, -1001})


class _Filter(msgspec.Struct, rename="camel"):
    filter_type: str
    tick_size: Decimal = Decimal(0)
    step_size: Decimal = Decimal(0)
    min_qty: Decimal = Decimal(0)
    max_qty: Decimal = Decimal(0)
    min_notional: Decimal = Decimal(0)  # spot: NOTIONAL and the older MIN_NOTIONAL
    notional: Decimal = Decimal(0)  # futures: MIN_NOTIONAL


class _Symbol(msgspec.Struct, rename="camel"):
    symbol: str
    base_asset: str
    quote_asset: str
    filters: list[_Filter]
    status: str = ""
    contract_status: str = ""  # COIN-M's name for status
    is_spot_trading_allowed: bool = True
    contract_type: str = ""
    margin_asset: str = ""
    delivery_date: int = _NEVER_MS
    contract_size: Decimal = Decimal(1)


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Symbol]


class _Depth(msgspec.Struct, rename="camel"):
    last_update_id: int
    bids: list[tuple[Decimal, Decimal]]
    asks: list[tuple[Decimal, Decimal]]
    engine_ms: int = msgspec.field(name="T", default=0)


class _Time(msgspec.Struct, rename="camel"):
    server_time: int


class _Settled(msgspec.Struct, rename="camel"):
    funding_rate: Decimal
    funding_time: int
    mark_price: str = ""


class _OpenInterest(msgspec.Struct, rename="camel"):
    open_interest: Decimal
    time: int


class _Error(msgspec.Struct):
    code: int = 0
    msg: str = ""


def _reading(kind: Any, what: str) -> Callable[[bytes], Any]:
    decoder = msgspec.json.Decoder(kind)

    def read(body: bytes) -> Any:
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, ValueError) as wrong:
            raise WireError(f"binance {what}: {wrong}; begins {body[:80]!r}") from wrong

    return read


_read_info = _reading(_ExchangeInfo, "exchangeInfo")
_read_depth = _reading(_Depth, "depth")
_read_time = _reading(_Time, "time")
_read_klines = _reading(list[list[Any]], "klines")
_read_settled = _reading(list[_Settled], "fundingRate")
_read_open_interest = _reading(_OpenInterest, "openInterest")


def read_instruments(
    body: bytes, *, venue: str, maker_fee: Decimal, taker_fee: Decimal, only_trading: bool = True
) -> list[Instrument]:
    """`exchangeInfo` → instruments. Tick and lot come from the filters; the precisions in the answer are neither."""
    found = []
    for symbol in _read_info(body).symbols:
        status = symbol.status or symbol.contract_status
        if only_trading and (status != "TRADING" or not symbol.is_spot_trading_allowed):
            continue
        instrument = _instrument(symbol, venue=venue, maker_fee=maker_fee, taker_fee=taker_fee)
        if instrument is not None:
            found.append(instrument)
    return found


def _instrument(symbol: _Symbol, *, venue: str, maker_fee: Decimal, taker_fee: Decimal) -> Instrument | None:
    filters = {entry.filter_type: entry for entry in symbol.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    if price is None or lot is None or not price.tick_size or not lot.step_size:
        return None
    spot = symbol.contract_type == ""
    perpetual = symbol.contract_type.endswith("PERPETUAL")
    if not spot and not perpetual and symbol.delivery_date >= _NEVER_MS:
        return None
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
    price_exponent = exponent_of(price.tick_size)
    # Orders older than a change of the lot rest with more digits than today's lot has (seen on BTCUSDT): leave room.
    qty_exponent = max(-8, exponent_of(lot.step_size) - _SPARE_DIGITS) if spot else exponent_of(lot.step_size)
    inverse = not spot and symbol.margin_asset == symbol.base_asset
    canonical = f"{symbol.base_asset}/{symbol.quote_asset}"
    if not spot:
        canonical += f":{symbol.margin_asset}"
        if not perpetual:
            canonical += f"-{symbol.symbol.rsplit('_', 1)[-1]}"
    return Instrument(
        venue=venue,
        symbol=symbol.symbol,
        canonical=canonical,
        kind=InstrumentKind.SPOT if spot else InstrumentKind.PERP if perpetual else InstrumentKind.FUTURE,
        base=symbol.base_asset,
        quote=symbol.quote_asset,
        settle=symbol.margin_asset,
        price_exponent=price_exponent,
        qty_exponent=qty_exponent,
        tick=exact_mantissa(price.tick_size, price_exponent),
        lot=exact_mantissa(lot.step_size, qty_exponent),
        min_qty=exact_mantissa(lot.min_qty, qty_exponent),
        max_qty=int(lot.max_qty.scaleb(-qty_exponent)),
        min_notional=(notional.min_notional or notional.notional) if notional is not None else Decimal(0),
        contract_multiplier=symbol.contract_size,
        inverse=inverse,
        maker_fee=maker_fee,
        taker_fee=taker_fee,
        fee_in_received=spot,
        funding_interval_ns=_EIGHT_HOURS_NS if perpetual else 0,
    )


def read_depth(body: bytes, instrument: Instrument) -> BookSnapshot:
    """`depth` → a whole book (at most `limit` levels a side: what lies deeper is not known)."""
    answer = _read_depth(body)
    return BookSnapshot(
        last_id=answer.last_update_id,
        bids=tuple((instrument.price_mantissa(p), instrument.qty_mantissa(q)) for p, q in answer.bids),
        asks=tuple((instrument.price_mantissa(p), instrument.qty_mantissa(q)) for p, q in answer.asks),
        venue_ns=answer.engine_ms * NS_PER_MS,
    )


def read_klines(body: bytes) -> list[Candle]:
    """Klines, oldest first as they come; volume in base units (COIN-M: contracts)."""
    try:
        return [
            Candle(
                open_ns=int(row[0]) * NS_PER_MS,
                open=Decimal(row[1]),
                high=Decimal(row[2]),
                low=Decimal(row[3]),
                close=Decimal(row[4]),
                volume=Decimal(row[5]),
            )
            for row in _read_klines(body)
        ]
    except (ArithmeticError, IndexError, TypeError, ValueError) as wrong:
        raise WireError(f"binance klines: a row is not of the documented shape: {wrong}") from wrong


def read_funding_history(body: bytes) -> list[FundingSettlement]:
    return [
        FundingSettlement(
            ts_ns=row.funding_time * NS_PER_MS,
            rate=row.funding_rate,
            mark_price=Decimal(row.mark_price) if row.mark_price else None,
        )
        for row in _read_settled(body)
    ]


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Raise what an answer that is no success means. 5xx and -1006/-1007 leave a request's fate open."""
    if 200 <= status < 300:
        return
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.DecodeError, ValueError):
        error = _Error(0, body[:120].decode(errors="replace"))
    text = f"binance: HTTP {status}, {error.code}: {error.msg}"
    retry_after = headers.get("Retry-After") or headers.get("retry-after")
    if status in (418, 429):
        raise VenueError(text, code=str(error.code), transient=True, retry_after_s=float(retry_after or 60.0))
    definite = error.msg.startswith(("Service Unavailable", "Internal error; unable to process"))
    if error.code in _UNKNOWN_CODES or (status >= 500 and error.code != -1008 and not definite):
        raise UnknownOutcome(text, code=str(error.code), transient=True)
    raise VenueError(text, code=str(error.code), transient=status >= 500 or error.code in _BUSY_CODES)


def make_rest(
    *, prefix: str, venue: str, maker_fee: Decimal, taker_fee: Decimal, depth_limit: int, depth_weight: int,
    info_weight: int, futures: bool,
) -> Rest:  # fmt: skip
    """The calls of one product: `prefix` is its path, the rest are its documented limits and weights."""

    def depth(instrument: Instrument) -> Request:
        query = {"symbol": instrument.symbol, "limit": str(depth_limit)}
        return Request(method="GET", path=f"{prefix}/depth", query=query, weight=depth_weight)

    def klines(instrument: Instrument, interval: str, start_ns: int, limit: int) -> Request:
        query = {
            "symbol": instrument.symbol, "interval": interval, "startTime": str(start_ns // NS_PER_MS),
            "limit": str(limit),
        }  # fmt: skip
        return Request(method="GET", path=f"{prefix}/klines", query=query, weight=10 if futures else 2)

    def funding_history(instrument: Instrument, start_ns: int, limit: int) -> Request:
        query = {"symbol": instrument.symbol, "startTime": str(start_ns // NS_PER_MS), "limit": str(limit)}
        return Request(method="GET", path=f"{prefix}/fundingRate", query=query)

    def open_interest(instrument: Instrument) -> Request:
        return Request(method="GET", path=f"{prefix}/openInterest", query={"symbol": instrument.symbol})

    def read_open_interest(body: bytes) -> tuple[float, int]:
        answer = _read_open_interest(body)
        return float(answer.open_interest), answer.time * NS_PER_MS

    return Rest(
        instruments=lambda: Request(method="GET", path=f"{prefix}/exchangeInfo", weight=info_weight),
        read_instruments=lambda body: read_instruments(body, venue=venue, maker_fee=maker_fee, taker_fee=taker_fee),
        server_time=lambda: Request(method="GET", path=f"{prefix}/time"),
        read_server_time=lambda body: int(_read_time(body).server_time) * NS_PER_MS,
        klines=klines,
        read_klines=read_klines,
        depth=depth,
        read_depth=read_depth,
        funding_history=funding_history if futures else None,
        read_funding_history=read_funding_history if futures else None,
        open_interest=open_interest if futures else None,
        read_open_interest=read_open_interest if futures else None,
        check=check,
    )
