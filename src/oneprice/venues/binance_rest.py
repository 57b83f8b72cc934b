"""Binance's market data by REST: how to ask and how to read, for spot, USD-M and COIN-M.

The three speak alike under another path (`/api/v3`, `/fapi/v1`, `/dapi/v1`); what differs is a value passed in.
Prices and sizes are strings in the answers, ids and times (ms) numbers.

Source: Binance documentation, REST API, Market data endpoints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, TypeVar

import msgspec

from oneprice.model.errors import UnknownOutcome, VenueError, WireError
from oneprice.model.instrument import Instrument, InstrumentKind, exact_mantissa, exponent_of
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import BookSnapshot, Candle, FundingSettlement, MarkReading, Request, Rest

_HOUR_NS = 3600 * NS_PER_S
_USUAL_INTERVAL_NS = 8 * _HOUR_NS
_SPARE_DIGITS = 3
_NEVER_MS = 4_133_404_800_000  # deliveryDate of a perpetual
_UNKNOWN_CODES = frozenset({-1006, -1007})
_BUSY_CODES = frozenset({-1001, -1003, -1008, -1015})
_FAILED_FOR_SURE = ("Service Unavailable", "Internal error; unable to process")
_DEFAULT_WAIT_S = 60.0  # weights are counted by the minute

T = TypeVar("T")


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
    price_precision: int = 0  # futures: how many decimals their frames print; at least the tick's
    quantity_precision: int = 0


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


class _FundingInfo(msgspec.Struct, rename="camel"):
    symbol: str
    funding_interval_hours: int


class _OpenInterest(msgspec.Struct, rename="camel"):
    open_interest: Decimal
    time: int


class _PremiumIndex(msgspec.Struct, rename="camel"):
    mark_price: str
    index_price: str
    last_funding_rate: str
    next_funding_time: int
    time: int


class _Error(msgspec.Struct):
    code: int = 0
    msg: str = ""


def _reading(kind: type[T], what: str) -> Callable[[bytes], T]:
    decoder = msgspec.json.Decoder(kind)

    def read(body: bytes) -> T:
        try:
            return decoder.decode(body)
        except (msgspec.MsgspecError, ValueError) as wrong:
            raise WireError(f"binance {what}: {wrong}; the answer begins {body[:80]!r}") from wrong

    return read


_read_info = _reading(_ExchangeInfo, "exchangeInfo")
_read_depth = _reading(_Depth, "depth")
_read_time = _reading(_Time, "time")
_read_klines = _reading(list[list[Any]], "klines")
_read_settled = _reading(list[_Settled], "fundingRate")
_read_funding_info = _reading(list[_FundingInfo], "fundingInfo")
_read_open_interest = _reading(_OpenInterest, "openInterest")
_read_premium_index: Callable[[bytes], _PremiumIndex | list[_PremiumIndex]] = _reading(
    _PremiumIndex | list[_PremiumIndex],  # type: ignore[arg-type]  # a union is no class
    "premiumIndex",
)


def read_instruments(body: bytes, *, venue: str, maker_fee: Decimal, taker_fee: Decimal) -> list[Instrument]:
    """`exchangeInfo` → the instruments that trade now. Fees are the schedule of a regular user: the list has none.

    {"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","filters":[{"filterType":
    "PRICE_FILTER","tickSize":"0.01000000",…},{"filterType":"LOT_SIZE","stepSize":"0.00001000",…},…]},…]}
    """
    return [
        instrument
        for symbol in _read_info(body).symbols
        if (symbol.status or symbol.contract_status) == "TRADING" and symbol.is_spot_trading_allowed
        if (instrument := _instrument(symbol, venue=venue, maker_fee=maker_fee, taker_fee=taker_fee)) is not None
    ]


def _instrument(symbol: _Symbol, *, venue: str, maker_fee: Decimal, taker_fee: Decimal) -> Instrument | None:
    """None where price or quantity have no step: such a market takes no orders of ours."""
    filters = {entry.filter_type: entry for entry in symbol.filters}
    price, lot = filters.get("PRICE_FILTER"), filters.get("LOT_SIZE")
    if price is None or lot is None or price.tick_size <= 0 or lot.step_size <= 0:
        return None
    spot = symbol.contract_type == ""
    perpetual = symbol.contract_type.endswith("PERPETUAL")
    if not spot and not perpetual and symbol.delivery_date >= _NEVER_MS:
        return None
    notional = filters.get("NOTIONAL") or filters.get("MIN_NOTIONAL")
    canonical = f"{symbol.base_asset}/{symbol.quote_asset}"
    if spot:
        price_exponent = exponent_of(price.tick_size)
        # Orders older than a change of the lot rest with more digits than today's lot has (seen on BTCUSDT): room.
        qty_exponent = max(-8, exponent_of(lot.step_size) - _SPARE_DIGITS)
    else:
        # Tick and lot alone would do, but then a frame could not be written as the venue writes it: BTCUSDT has the
        # tick 0.10 and prints two decimals.
        price_exponent = min(exponent_of(price.tick_size), -symbol.price_precision)
        qty_exponent = min(exponent_of(lot.step_size), -symbol.quantity_precision)
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
        min_qty=int(lot.min_qty.scaleb(-qty_exponent).to_integral_value(ROUND_CEILING)),
        max_qty=int(lot.max_qty.scaleb(-qty_exponent).to_integral_value(ROUND_FLOOR)),
        min_notional=(notional.min_notional or notional.notional) if notional is not None else Decimal(0),
        contract_multiplier=symbol.contract_size,
        inverse=not spot and symbol.margin_asset == symbol.base_asset,
        maker_fee=maker_fee,
        taker_fee=taker_fee,
        fee_in_received=spot,
        funding_interval_ns=_USUAL_INTERVAL_NS if perpetual else 0,
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
    """`fundingRate` → settled rates, oldest first. Old rows have no mark price ("").

    [{"symbol":"BTCUSDT","fundingRate":"0.00010000","fundingTime":1570636800000,"markPrice":"34287.54619963"}]
    """
    return [
        FundingSettlement(
            ts_ns=row.funding_time * NS_PER_MS,
            rate=row.funding_rate,
            mark_price=Decimal(row.mark_price) if row.mark_price else None,
        )
        for row in _read_settled(body)
    ]


def read_funding_intervals(body: bytes) -> dict[str, int]:
    """`fundingInfo` → interval in ns of the symbols whose terms were adjusted; all others pay every 8 hours.

    [{"symbol":"BLZUSDT","adjustedFundingRateCap":"0.02500000",…,"fundingIntervalHours":8,"disclaimer":false}]
    """
    return {row.symbol: row.funding_interval_hours * _HOUR_NS for row in _read_funding_info(body)}


def read_open_interest(body: bytes) -> tuple[float, int]:
    """`openInterest` → base units (COIN-M: contracts) and the venue's time in ns.

    {"openInterest":"10659.509","symbol":"BTCUSDT","time":1589437530011}
    """
    answer = _read_open_interest(body)
    return float(answer.open_interest), answer.time * NS_PER_MS


def read_mark(body: bytes) -> MarkReading:
    """`premiumIndex` of one symbol → mark, index and funding; COIN-M wraps it in a list.

    `lastFundingRate` is the running rate, as `r` in the stream. Dated futures have no funding ("" and 0).

    {"symbol":"BTCUSDT","markPrice":"11793.63104562","indexPrice":"11781.80495970","estimatedSettlePrice":
    "11781.16138815","lastFundingRate":"0.00038246","interestRate":"0.00010000","nextFundingTime":1597392000000,"time":
    1597370495002}
    """
    answer = _read_premium_index(body)
    if isinstance(answer, list):
        if len(answer) != 1:
            raise WireError(f"binance premiumIndex: {len(answer)} symbols in the answer where one was asked for")
        (answer,) = answer
    has_funding = answer.next_funding_time > 0 and answer.last_funding_rate != ""
    try:
        return MarkReading(
            venue_ns=answer.time * NS_PER_MS,
            mark_price=float(answer.mark_price),
            index_price=float(answer.index_price) or None,  # 0: none
            funding_rate=float(answer.last_funding_rate) if has_funding else None,
            next_funding_ns=answer.next_funding_time * NS_PER_MS if has_funding else 0,
        )
    except ValueError as wrong:
        raise WireError(f"binance premiumIndex: {wrong}") from wrong


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Nothing for a success; else `VenueError` with the venue's code, or `UnknownOutcome`.

    `UnknownOutcome` (5xx, -1006, -1007) says that the request may have been carried out: an order is queried before it
    is sent again; a question for data is simply asked again, hence `transient`. Three refusals are sure although their
    status is 5xx: throttled (-1008), `Service Unavailable.` and `Internal error; unable to process your request.`

    HTTP 429, Retry-After: 27, {"code":-1003,"msg":"Too much request weight used; …"} → transient, retry_after_s 27
    """
    if 200 <= status < 300:
        return
    if status == 403:
        raise VenueError("binance: refused (HTTP 403) by the web firewall: this address or request", code="403")
    try:
        error = msgspec.json.decode(body, type=_Error)
    except (msgspec.MsgspecError, ValueError):
        error = _Error(0, body[:120].decode(errors="replace"))
    said = f"binance: {error.code} {error.msg} (HTTP {status})"
    code = str(error.code)
    if status in (418, 429):
        raise VenueError(said, code=code, transient=True, retry_after_s=_retry_after_s(headers))
    refused = error.code == -1008 or error.msg.startswith(_FAILED_FOR_SURE)
    if error.code in _UNKNOWN_CODES or (status >= 500 and not refused):
        raise UnknownOutcome(f"{said}; the request may have been carried out", code=code, transient=True)
    raise VenueError(said, code=code, transient=status >= 500 or error.code in _BUSY_CODES)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    wish = next((value for name, value in headers.items() if name.lower() == "retry-after"), "")
    return float(wish) if wish.isdigit() else _DEFAULT_WAIT_S


def _futures_klines_weight(limit: int) -> int:
    return next((weight for below, weight in ((100, 1), (500, 2), (1001, 5)) if limit < below), 10)


def make_rest(
    *, prefix: str, venue: str, maker_fee: Decimal, taker_fee: Decimal, depth_limit: int, depth_weight: int,
    info_weight: int, futures: bool, mark_weight: int = 1,
) -> Rest:  # fmt: skip
    """The calls of one product: `prefix` is its path, the rest are its documented limits and weights."""

    def get(call: str, weight: int, **query: str) -> Request:
        return Request(method="GET", path=f"{prefix}/{call}", query=query, weight=weight)

    def depth(instrument: Instrument) -> Request:
        return get("depth", depth_weight, symbol=instrument.symbol, limit=str(depth_limit))

    def klines(instrument: Instrument, interval: str, start_ns: int, limit: int) -> Request:
        weight = _futures_klines_weight(limit) if futures else 2
        start_ms = str(start_ns // NS_PER_MS)
        return get("klines", weight, symbol=instrument.symbol, interval=interval, startTime=start_ms, limit=str(limit))

    def funding_history(instrument: Instrument, start_ns: int, limit: int) -> Request:
        start_ms = str(start_ns // NS_PER_MS)
        return get("fundingRate", 1, symbol=instrument.symbol, startTime=start_ms, limit=str(limit))

    return Rest(
        instruments=lambda: get("exchangeInfo", info_weight),
        read_instruments=lambda body: read_instruments(body, venue=venue, maker_fee=maker_fee, taker_fee=taker_fee),
        server_time=lambda: get("time", 1),
        read_server_time=lambda body: _read_time(body).server_time * NS_PER_MS,
        klines=klines,
        read_klines=read_klines,
        depth=depth,
        read_depth=read_depth,
        funding_history=funding_history if futures else None,
        read_funding_history=read_funding_history if futures else None,
        open_interest=(lambda instrument: get("openInterest", 1, symbol=instrument.symbol)) if futures else None,
        read_open_interest=read_open_interest if futures else None,
        mark=(lambda instrument: get("premiumIndex", mark_weight, symbol=instrument.symbol)) if futures else None,
        read_mark=read_mark if futures else None,
        check=check,
        funding_intervals=(lambda: get("fundingInfo", 0)) if futures else None,
        read_funding_intervals=read_funding_intervals if futures else None,
    )
