"""Bybit v5 market data by REST: how to ask and how to read the answer. One API, `category` picks the product.

Every answer is `{"retCode":0,"retMsg":"OK","result":{…},"retExtInfo":{},"time":ms}`, errors too, most of them with HTTP
200: `check` looks at both. Lists of candles and settlements come newest first and are given back oldest first. Where a
call takes a start, an end is sent as well, so that the page begins at the start and does not end at the present.

Source: Bybit v5 documentation, Market, and Error Codes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_FLOOR, Decimal
from functools import partial
from typing import Any, Generic, TypeVar

import msgspec

from oneprice.model.errors import InputError, UnknownOutcome, VenueError, WireError, unknown_name
from oneprice.model.instrument import Instrument, InstrumentKind, exact_mantissa, exponent_of
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import BookSnapshot, Candle, FundingSettlement, MarkReading, Request, Rest

SPOT, LINEAR = "spot", "linear"
# Regular users, fractions of the notional (Bybit, Trading Fee Structure).
SPOT_FEE = Decimal("0.001")
LINEAR_MAKER_FEE, LINEAR_TAKER_FEE = Decimal("0.0002"), Decimal("0.00055")

_NS_PER_MINUTE = 60 * NS_PER_S
# our interval → (the venue's, length in minutes; a month at its longest)
_INTERVALS: Mapping[str, tuple[str, int]] = {
    "1m": ("1", 1), "3m": ("3", 3), "5m": ("5", 5), "15m": ("15", 15), "30m": ("30", 30), "1h": ("60", 60),
    "2h": ("120", 120), "4h": ("240", 240), "6h": ("360", 360), "12h": ("720", 720), "1d": ("D", 1440),
    "1w": ("W", 7 * 1440), "1M": ("M", 31 * 1440),
}  # fmt: skip
_CANDLES_PER_PAGE, _SETTLEMENTS_PER_PAGE, _DEPTH_LIMIT, _INSTRUMENTS_PER_PAGE = 1000, 200, "1000", "1000"

_TOO_MANY = frozenset({429, 10006, 10018, 10429})
# The request may or may not have been carried out: server timeout, server error, and spot's forms of the same.
_FATE_UNKNOWN = frozenset({10000, 10016, 170007, 170146, 170147})
_ADDRESS_BAN_S = 600.0

T = TypeVar("T")
Level = tuple[Decimal, Decimal]


class _Answer(msgspec.Struct, Generic[T]):
    result: T
    time: int = 0


class _PriceFilter(msgspec.Struct, rename="camel"):
    tick_size: Decimal


class _SpotLot(msgspec.Struct, rename="camel"):
    base_precision: Decimal
    min_order_amt: Decimal
    max_limit_order_qty: Decimal


class _SpotInstrument(msgspec.Struct, rename="camel"):
    symbol: str
    base_coin: str
    quote_coin: str
    status: str
    lot_size_filter: _SpotLot
    price_filter: _PriceFilter


class _LinearLot(msgspec.Struct, rename="camel"):
    qty_step: Decimal
    min_order_qty: Decimal
    max_order_qty: Decimal
    min_notional_value: Decimal


class _LinearInstrument(msgspec.Struct, rename="camel"):
    symbol: str
    contract_type: str
    base_coin: str
    quote_coin: str
    settle_coin: str
    status: str
    lot_size_filter: _LinearLot
    price_filter: _PriceFilter
    funding_interval: int  # minutes


class _Page(msgspec.Struct, Generic[T], rename={"items": "list", "next_page_cursor": "nextPageCursor"}):
    items: list[T]
    next_page_cursor: str = ""


class _ServerTime(msgspec.Struct, rename="camel"):
    time_nano: str


class _Book(msgspec.Struct):
    b: list[Level]
    a: list[Level]
    ts: int
    u: int
    cts: int = 0


class _Settlement(msgspec.Struct, rename="camel"):
    funding_rate: Decimal
    funding_rate_timestamp: str


class _OpenInterest(msgspec.Struct, rename="camel"):
    open_interest: Decimal
    timestamp: str
    single_open_interest: Decimal | None = None


class _Ticker(msgspec.Struct, rename="camel"):
    mark_price: str
    index_price: str = ""
    funding_rate: str = ""
    next_funding_time: str = ""
    funding_interval_hour: str = ""
    open_interest: str = ""
    single_open_interest: str = ""


class _Verdict(msgspec.Struct, rename="camel"):
    ret_code: int
    ret_msg: str = ""
    time: int = 0


_SPOT_INSTRUMENTS = msgspec.json.Decoder(_Answer[_Page[_SpotInstrument]])
_LINEAR_INSTRUMENTS = msgspec.json.Decoder(_Answer[_Page[_LinearInstrument]])
_CURSOR = msgspec.json.Decoder(_Answer[_Page[msgspec.Raw]])
_SERVER_TIME = msgspec.json.Decoder(_Answer[_ServerTime])
_KLINES = msgspec.json.Decoder(_Answer[_Page[list[str]]])
_BOOK = msgspec.json.Decoder(_Answer[_Book])
_SETTLEMENTS = msgspec.json.Decoder(_Answer[_Page[_Settlement]])
_OPEN_INTERESTS = msgspec.json.Decoder(_Answer[_Page[_OpenInterest]])
_TICKERS = msgspec.json.Decoder(_Answer[_Page[_Ticker]])
_VERDICT = msgspec.json.Decoder(_Verdict)


def _read(decoder: Any, body: bytes, what: str) -> Any:
    """The `result` of an answer; `WireError` where it does not have the documented shape."""
    return _read_whole(decoder, body, what).result


def _read_whole(decoder: Any, body: bytes, what: str) -> Any:
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise WireError(f"bybit {what}: the answer has an unexpected shape: {error}") from error


def _get(path: str, **query: str) -> Request:
    return Request(method="GET", path=f"/v5/market/{path}", query=query)


def instruments(category: str, cursor: str = "") -> Request:
    """The instrument list of a product, at most 1000 a page: about 800 linear ones existed in August 2026."""
    query = {"category": category, "status": "Trading", "limit": _INSTRUMENTS_PER_PAGE}
    if cursor:
        query["cursor"] = cursor
    return _get("instruments-info", **query)


def more_instruments(body: bytes, *, category: str) -> Request | None:
    """The request for the page after this one; None: it was the last."""
    cursor = _read(_CURSOR, body, "instruments").next_page_cursor
    return instruments(category, cursor) if cursor else None


def _mantissa_below(limit: Decimal, exponent: int) -> int:
    """The greatest mantissa within a limit; the venue writes some with the tail of a float (`1542.6000000000001`)."""
    return int(limit.scaleb(-exponent).to_integral_value(rounding=ROUND_FLOOR))


def read_spot_instruments(body: bytes, *, venue: str) -> list[Instrument]:
    """Spot pairs that trade. `minOrderQty` is not read: the venue no longer checks it, only `minOrderAmt`.

    {"symbol":"BTCUSDT","baseCoin":"BTC","quoteCoin":"USDT","status":"Trading","lotSizeFilter":{"basePrecision":
    "0.000001","minOrderAmt":"5","maxLimitOrderQty":"83"},"priceFilter":{"tickSize":"0.1"}}
    """
    found = []
    for item in _read(_SPOT_INSTRUMENTS, body, "instruments").items:
        if item.status != "Trading":
            continue
        tick, lot = item.price_filter.tick_size, item.lot_size_filter
        price_exponent, qty_exponent = exponent_of(tick), exponent_of(lot.base_precision)
        found.append(
            Instrument(
                venue=venue,
                symbol=item.symbol,
                canonical=f"{item.base_coin}/{item.quote_coin}",
                kind=InstrumentKind.SPOT,
                base=item.base_coin,
                quote=item.quote_coin,
                price_exponent=price_exponent,
                qty_exponent=qty_exponent,
                tick=exact_mantissa(tick, price_exponent),
                lot=exact_mantissa(lot.base_precision, qty_exponent),
                max_qty=_mantissa_below(lot.max_limit_order_qty, qty_exponent),
                min_notional=lot.min_order_amt,
                maker_fee=SPOT_FEE,
                taker_fee=SPOT_FEE,
                fee_in_received=True,
            )
        )
    return found


def _written_exponent(step: Decimal) -> int:
    """The exponent of a step as it is written: `0.10` → -2."""
    return min(0, int(step.as_tuple().exponent))


def read_linear_instruments(body: bytes, *, venue: str) -> list[Instrument]:
    """Linear perpetuals that trade; dated futures of the same list are left out. Quantities count base units.

    The exponents keep the zeros of the tick's text (`0.10` → -2, tick 10): frames are written with as many decimals,
    and bankruptcy prices use them.

    {"symbol":"BTCUSDT","contractType":"LinearPerpetual","status":"Trading","baseCoin":"BTC","quoteCoin":"USDT",
    "priceFilter":{"tickSize":"0.10"},"lotSizeFilter":{"maxOrderQty":"1190.000","minOrderQty":"0.001","qtyStep":"0.001",
    "minNotionalValue":"5"},"fundingInterval":480,"settleCoin":"USDT"}
    """
    found = []
    for item in _read(_LINEAR_INSTRUMENTS, body, "instruments").items:
        if item.status != "Trading" or item.contract_type != "LinearPerpetual":
            continue
        tick, lot = item.price_filter.tick_size, item.lot_size_filter
        price_exponent, qty_exponent = _written_exponent(tick), _written_exponent(lot.qty_step)
        found.append(
            Instrument(
                venue=venue,
                symbol=item.symbol,
                canonical=f"{item.base_coin}/{item.quote_coin}:{item.settle_coin}",
                kind=InstrumentKind.PERP,
                base=item.base_coin,
                quote=item.quote_coin,
                settle=item.settle_coin,
                price_exponent=price_exponent,
                qty_exponent=qty_exponent,
                tick=exact_mantissa(tick, price_exponent),
                lot=exact_mantissa(lot.qty_step, qty_exponent),
                min_qty=exact_mantissa(lot.min_order_qty, qty_exponent),
                max_qty=_mantissa_below(lot.max_order_qty, qty_exponent),
                min_notional=lot.min_notional_value,
                maker_fee=LINEAR_MAKER_FEE,
                taker_fee=LINEAR_TAKER_FEE,
                funding_interval_ns=item.funding_interval * _NS_PER_MINUTE,
            )
        )
    return found


def server_time() -> Request:
    """The venue's clock."""
    return _get("time")


def read_server_time(body: bytes) -> int:
    """Nanoseconds since 1970: {"result":{"timeSecond":"1688639403","timeNano":"1688639403423213947"},…}."""
    return int(_read(_SERVER_TIME, body, "time").time_nano)


def klines(instrument: Instrument, interval: str, start_ns: int, limit: int, *, category: str) -> Request:
    """The `limit` candles from `start_ns` on, at most 1000; `InputError` for an interval or a limit out of range."""
    if interval not in _INTERVALS:
        raise InputError(unknown_name("candle interval", interval, _INTERVALS, where=f"bybit {category}"))
    if not 1 <= limit <= _CANDLES_PER_PAGE:
        raise InputError(f"bybit {category}: {limit} candles in one page; between 1 and {_CANDLES_PER_PAGE} are given")
    name, minutes = _INTERVALS[interval]
    start_ms = start_ns // NS_PER_MS
    end_ms = start_ms + limit * minutes * 60_000 - 1
    return _get(
        "kline", category=category, symbol=instrument.symbol, interval=name, start=str(start_ms), end=str(end_ms),
        limit=str(limit),
    )  # fmt: skip


def read_klines(body: bytes) -> list[Candle]:
    """Candles, oldest first; the venue's rows `[start, open, high, low, close, volume, turnover]` are newest first."""
    rows = _read(_KLINES, body, "klines").items
    try:
        candles = [
            Candle(
                open_ns=int(start) * NS_PER_MS,
                open=Decimal(first),
                high=Decimal(high),
                low=Decimal(low),
                close=Decimal(close),
                volume=Decimal(volume),
            )
            for start, first, high, low, close, volume, _ in reversed(rows)
        ]
    except (ValueError, ArithmeticError) as error:
        raise WireError(f"bybit klines: a row has an unexpected shape: {error}") from error
    return candles


def depth(instrument: Instrument, *, category: str) -> Request:
    """The best 1000 levels a side, to compare with; streams start from their own snapshot and are not joined to it."""
    return _get("orderbook", category=category, symbol=instrument.symbol, limit=_DEPTH_LIMIT)


def read_depth(body: bytes, instrument: Instrument) -> BookSnapshot:
    """The book. `last_id` counts the 1000-level stream's messages and says nothing about level 50.

    {"result":{"s":"BTCUSDT","a":[["65557.7","16.606555"]],"b":[["65485.47","47.081829"]],"ts":1716863719031,"u":230704,
    "seq":1432604333,"cts":1716863718905},…}
    """
    book = _read(_BOOK, body, "orderbook")

    def mantissas(levels: list[Level]) -> tuple[tuple[int, int], ...]:
        return tuple((instrument.price_mantissa(price), instrument.qty_mantissa(qty)) for price, qty in levels)

    return BookSnapshot(
        last_id=book.u, bids=mantissas(book.b), asks=mantissas(book.a), venue_ns=(book.cts or book.ts) * NS_PER_MS
    )


def funding_history(instrument: Instrument, start_ns: int, limit: int) -> Request:
    """Up to `limit` settlements (at most 200) from `start_ns` on, at the instrument's present interval.

    The end is needed because a start alone is an error at the venue. Where the interval was shorter in the past, the
    window holds more settlements than a page and the oldest are missing: ask again for them.
    """
    if instrument.funding_interval_ns == 0:
        raise InputError(f"{instrument.key} has no funding interval, so no funding history can be asked for")
    if not 1 <= limit <= _SETTLEMENTS_PER_PAGE:
        raise InputError(f"bybit: {limit} settlements in one page; between 1 and {_SETTLEMENTS_PER_PAGE} are given")
    end_ns = start_ns + limit * instrument.funding_interval_ns - 1
    return _get(
        "funding/history", category=LINEAR, symbol=instrument.symbol, startTime=str(start_ns // NS_PER_MS),
        endTime=str(end_ns // NS_PER_MS), limit=str(limit),
    )  # fmt: skip


def read_funding_history(body: bytes) -> list[FundingSettlement]:
    """Settlements, oldest first.

    {"result":{"category":"linear","list":[{"symbol":"ETHPERP","fundingRate":"0.0001","fundingRateTimestamp":
    "1672041600000"}]},…}
    """
    page = _read(_SETTLEMENTS, body, "funding history")
    return [
        FundingSettlement(ts_ns=int(item.funding_rate_timestamp) * NS_PER_MS, rate=item.funding_rate)
        for item in reversed(page.items)
    ]


def open_interest(instrument: Instrument) -> Request:
    """The newest open interest, which this call gives every five minutes (the ticker stream has it live)."""
    return _get("open-interest", category=LINEAR, symbol=instrument.symbol, intervalTime="5min", limit="1")


def read_open_interest(body: bytes) -> tuple[float, int]:
    """(base units of one side, ns). `openInterest` counts both sides, so half of it stands in for older answers.

    {"result":{"list":[{"openInterest":"63910691.00000000","singleOpenInterest":"31955346","timestamp":
    "1780963200000"}]},…}
    """
    page = _read(_OPEN_INTERESTS, body, "open interest").items
    if not page:
        raise WireError("bybit open interest: the list is empty; the symbol has none yet")
    newest = page[0]
    one_side = newest.open_interest / 2 if newest.single_open_interest is None else newest.single_open_interest
    return float(one_side), int(newest.timestamp) * NS_PER_MS


def mark(instrument: Instrument) -> Request:
    """One linear ticker: by REST it is whole, so it has all that the stream tells bit by bit."""
    return _get("tickers", category=LINEAR, symbol=instrument.symbol)


def read_mark(body: bytes) -> MarkReading:
    """A ticker's mark, index, funding and open interest (of one side); the venue's time is the answer's.

    {"result":{"category":"linear","list":[{"symbol":"BTCUSDT","markPrice":"64104.70","indexPrice":"64133.53",
    "fundingRate":"0.0001","nextFundingTime":"1786550400000","fundingIntervalHour":"8","openInterest":"52430.118",…}]},
    "time":1786540397983,…}
    """
    answer = _read_whole(_TICKERS, body, "ticker")
    if len(answer.result.items) != 1:
        raise WireError(f"bybit ticker: {len(answer.result.items)} symbols in the answer where one was asked for")
    ticker: _Ticker = answer.result.items[0]
    both_sides, one_side = ticker.open_interest, ticker.single_open_interest
    try:
        return MarkReading(
            venue_ns=answer.time * NS_PER_MS,
            mark_price=float(ticker.mark_price),
            index_price=float(ticker.index_price) if ticker.index_price else None,
            funding_rate=float(ticker.funding_rate) if ticker.funding_rate else None,
            next_funding_ns=int(ticker.next_funding_time or "0") * NS_PER_MS,
            funding_interval_ns=int(ticker.funding_interval_hour or "0") * 60 * _NS_PER_MINUTE,
            open_interest=float(one_side) if one_side else float(both_sides) / 2 if both_sides else None,
        )
    except ValueError as error:
        raise WireError(f"bybit ticker: a number has an unexpected shape: {error}") from error


def _reset_in_s(headers: Mapping[str, str], now_ms: int) -> float | None:
    """Seconds to the reset that the rate-limit header names; None where it names none."""
    for name, value in headers.items():
        if name.lower() == "x-bapi-limit-reset-timestamp" and value.isdigit():
            return max(0.0, (int(value) - now_ms) / 1000)
    return None


def check(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """Nothing for a success; else `UnknownOutcome` (query before asking again) or `VenueError` with the code."""
    if status == 403:
        # The status alone does not tell a ban for too many requests from a country that is not served.
        if b"too frequent" in body.lower():
            raise VenueError(
                "bybit: too many requests from this address (HTTP 403); wait ten minutes with all connections closed",
                code="403",
                transient=True,
                retry_after_s=_ADDRESS_BAN_S,
            )
        raise VenueError("bybit: refused (HTTP 403): this address or its country is not served", code="403")
    try:
        verdict = _VERDICT.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if status == 429:
            raise VenueError("bybit: system busy (HTTP 429)", code="429", transient=True) from error
        raise UnknownOutcome(
            f"bybit: HTTP {status} without a readable answer: {error}", code=str(status), transient=True
        ) from error
    said = f"bybit: {verdict.ret_code} {verdict.ret_msg} (HTTP {status})"
    code = str(verdict.ret_code)
    if status == 429 or verdict.ret_code in _TOO_MANY:
        wait_s = _reset_in_s(headers, verdict.time)
        raise VenueError(said, code=code, transient=True, retry_after_s=wait_s)
    if status >= 500 or verdict.ret_code in _FATE_UNKNOWN:
        raise UnknownOutcome(f"{said}; the request may have been carried out", code=code, transient=True)
    if verdict.ret_code != 0 or status != 200:
        raise VenueError(said, code=code)


SPOT_REST = Rest(
    instruments=partial(instruments, SPOT),
    read_instruments=partial(read_spot_instruments, venue="bybit_spot"),
    more_instruments=partial(more_instruments, category=SPOT),
    server_time=server_time,
    read_server_time=read_server_time,
    klines=partial(klines, category=SPOT),
    read_klines=read_klines,
    depth=partial(depth, category=SPOT),
    read_depth=read_depth,
    check=check,
)
LINEAR_REST = Rest(
    instruments=partial(instruments, LINEAR),
    read_instruments=partial(read_linear_instruments, venue="bybit_linear"),
    more_instruments=partial(more_instruments, category=LINEAR),
    server_time=server_time,
    read_server_time=read_server_time,
    klines=partial(klines, category=LINEAR),
    read_klines=read_klines,
    depth=partial(depth, category=LINEAR),
    read_depth=read_depth,
    funding_history=funding_history,
    read_funding_history=read_funding_history,
    open_interest=open_interest,
    read_open_interest=read_open_interest,
    mark=mark,
    read_mark=read_mark,
    check=check,
)
