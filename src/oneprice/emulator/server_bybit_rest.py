"""Bybit's public REST calls (`/v5/market/…`) out of the practice markets: one server, `category` picks the market."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from oneprice.emulator.events import BookView, Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.server_bybit_http import PARAMETER, VENUES, BybitError, Gate, Params, Route
from oneprice.model.instrument import Instrument
from oneprice.model.order import Side
from oneprice.model.time import NS_PER_MS, NS_PER_S

_MINUTE_NS = 60 * NS_PER_S
INTERVALS_NS: Mapping[str, int] = {
    **{name: int(name) * _MINUTE_NS for name in ("1", "3", "5", "15", "30", "60", "120", "240", "360", "720")},
    "D": 1440 * _MINUTE_NS, "W": 7 * 1440 * _MINUTE_NS, "M": 30 * 1440 * _MINUTE_NS,
}  # fmt: skip
_ALL = 100_000


def plain(value: Decimal) -> str:
    """A number without trailing zeros and without an exponent."""
    return f"{value.normalize():f}"


def trade_id_of(trade_id: int, *, spot: bool) -> str:
    """Trade and order numbers as the venue writes them: digits on spot, a UUID on linear."""
    return str(trade_id) if spot else str(UUID(int=trade_id))


def page(rows: Sequence[Any], params: Params, *, default: int, most: int) -> dict[str, Any]:
    """`list` and `nextPageCursor` of a long answer; the cursor says where the next page begins."""
    start, limit = number(params, "cursor", 0), max(1, min(most, number(params, "limit", default)))
    more = start + limit < len(rows)
    return {"list": list(rows[start : start + limit]), "nextPageCursor": str(start + limit) if more else ""}


def number(params: Params, name: str, default: int) -> int:
    """A whole number among the parameters."""
    text = str(params.get(name, ""))
    if not text:
        return default
    if not text.isdigit():
        raise BybitError(PARAMETER, f"params error: {name} invalid")
    return int(text)


class Markets:
    """The practice markets by category."""

    def __init__(self, exchanges: Mapping[str, Exchange]) -> None:
        self._exchanges = exchanges

    def of(self, params: Params) -> Exchange:
        """The market of the parameter `category`; 10001 where there is none."""
        exchange = self._exchanges.get(VENUES.get(str(params.get("category", "")), ""))
        if exchange is None:
            raise BybitError(PARAMETER, "Illegal category")
        return exchange

    def instrument(self, params: Params) -> tuple[Exchange, Instrument]:
        """The market and the instrument of `category` and `symbol`."""
        exchange = self.of(params)
        instrument = exchange.instruments.get(str(params.get("symbol", "")))
        if instrument is None:
            raise BybitError(PARAMETER, f"params error: symbol invalid {params.get('symbol', '')}")
        return exchange, instrument

    def instruments(self, params: Params) -> tuple[Exchange, list[Instrument]]:
        """One instrument where `symbol` is given, else all of the category (of `baseCoin`, of `settleCoin`)."""
        if params.get("symbol"):
            exchange, instrument = self.instrument(params)
            return exchange, [instrument]
        exchange = self.of(params)
        base, settle = params.get("baseCoin"), params.get("settleCoin")
        found = [
            instrument
            for instrument in exchange.instruments.values()
            if base in (None, "", instrument.base) and settle in (None, "", instrument.settle or instrument.quote)
        ]
        return exchange, found


class MarketCalls:
    """The public calls."""

    def __init__(self, markets: Markets, gate: Gate, faults: FaultPlan) -> None:
        self._markets = markets
        self._gate = gate
        self._faults = faults
        self._books: dict[tuple[str, str], BookView] = {}  # what a stale answer repeats

    def routes(self) -> list[Route]:
        calls = {
            "time": self._time, "instruments-info": self._instruments, "orderbook": self._book, "kline": self._klines,
            "tickers": self._tickers, "funding/history": self._funding, "open-interest": self._open_interest,
            "recent-trade": self._trades,
        }  # fmt: skip
        return [("GET", f"/v5/market/{path}", self._gate.public(call)) for path, call in calls.items()]

    def _time(self, params: Params) -> object:
        now_ns = self._gate.now_ns(params)
        return {"timeSecond": str(now_ns // NS_PER_S), "timeNano": str(now_ns)}

    def _instruments(self, params: Params) -> object:
        exchange, found = self._markets.instruments(params)
        if params.get("status") not in (None, "", "Trading"):
            found = []
        rows = [_spot_entry(one) if exchange.spot else _linear_entry(one) for one in found]
        if exchange.spot:
            return {"category": "spot", "list": rows}
        return {"category": "linear", **page(rows, params, default=500, most=1000)}

    def _book(self, params: Params) -> object:
        exchange, instrument = self._markets.instrument(params)
        limit = min(1000, number(params, "limit", 1 if exchange.spot else 25))
        now_ns = self._gate.clock_ns()
        kept = (exchange.venue, instrument.symbol)
        stale = self._faults.take(FaultKind.STALE_SNAPSHOT, exchange.venue, instrument.symbol, now_ns=now_ns)
        if stale is None or kept not in self._books:
            self._books[kept] = exchange.book(instrument.symbol, 1000, now_ns)
        view = self._books[kept]
        ms = self._gate.now_ns(params) // NS_PER_MS
        return {
            "s": instrument.symbol, "b": levels(instrument, view.bids[:limit]),
            "a": levels(instrument, view.asks[:limit]), "ts": ms, "u": view.last_id, "seq": view.last_id, "cts": ms,
        }  # fmt: skip

    def _klines(self, params: Params) -> object:
        exchange, instrument = self._markets.instrument(params)
        step_ns = INTERVALS_NS.get(str(params.get("interval", "")))
        if step_ns is None:
            raise BybitError(PARAMETER, "Invalid period!")
        start_ns = number(params, "start", 0) * NS_PER_MS
        end_ns = number(params, "end", 1 << 42) * NS_PER_MS
        candles = exchange.candles(instrument.symbol, step_ns, start_ns, _ALL)
        within = [candle for candle in candles if candle.open_ns <= end_ns]
        newest_first = within[::-1][: min(1000, number(params, "limit", 200))]
        rows = [
            [
                str(candle.open_ns // NS_PER_MS), plain(candle.open), plain(candle.high), plain(candle.low),
                plain(candle.close), plain(candle.volume), plain(candle.volume * candle.close),
            ]
            for candle in newest_first
        ]  # fmt: skip
        return {"category": params["category"], "symbol": instrument.symbol, "list": rows}

    def _tickers(self, params: Params) -> object:
        exchange, found = self._markets.instruments(params)
        rows = []
        for instrument in found:
            row = spot_ticker(exchange, instrument) if exchange.spot else linear_ticker(exchange, instrument)
            rows.append(row | quote_fields(exchange, instrument))
        return {"category": params["category"], "list": rows}

    def _funding(self, params: Params) -> object:
        if params.get("startTime") and not params.get("endTime"):
            raise BybitError(PARAMETER, "params error: endTime is needed with startTime")
        exchange, instrument = self._markets.instrument(params)
        if exchange.spot:
            raise BybitError(PARAMETER, "params error: spot has no funding")
        start_ms, end_ms = number(params, "startTime", 0), number(params, "endTime", 1 << 42)
        settled = [
            {
                "symbol": instrument.symbol, "fundingRate": plain(row.rate),
                "fundingRateTimestamp": str(row.ts_ns // NS_PER_MS),
            }
            for row in exchange.funding_history(instrument.symbol, _ALL)
            if start_ms <= row.ts_ns // NS_PER_MS <= end_ms
        ]  # fmt: skip
        return {"category": "linear", "list": settled[::-1][: min(200, number(params, "limit", 200))]}

    def _open_interest(self, params: Params) -> object:
        exchange, instrument = self._markets.instrument(params)
        if exchange.spot:
            raise BybitError(PARAMETER, "params error: spot has no open interest")
        one_side = exchange.market_state(instrument.symbol).open_interest
        row = {
            "openInterest": f"{2 * one_side:.8f}", "singleOpenInterest": f"{one_side:.8f}",
            "timestamp": str(self._gate.now_ns(params) // NS_PER_MS),
        }  # fmt: skip
        return {"symbol": instrument.symbol, "category": "linear", "list": [row], "nextPageCursor": ""}

    def _trades(self, params: Params) -> object:
        exchange, instrument = self._markets.instrument(params)
        most = 60 if exchange.spot else 1000
        limit = min(most, number(params, "limit", 60 if exchange.spot else 500))
        trades = exchange.recent_trades(instrument.symbol, limit)
        rows = [_trade(instrument, trade, spot=exchange.spot) for trade in reversed(trades)]
        return {"category": params["category"], "list": rows}


def levels(instrument: Instrument, rows: Sequence[tuple[int, int]]) -> list[tuple[str, str]]:
    """Book levels as text."""
    return [(plain(instrument.price(price)), plain(instrument.qty(qty))) for price, qty in rows]


def _trade(instrument: Instrument, trade: Traded, *, spot: bool) -> dict[str, Any]:
    return {
        "execId": trade_id_of(trade.trade_id, spot=spot), "symbol": instrument.symbol,
        "price": plain(instrument.price(trade.price)), "size": plain(instrument.qty(trade.qty)),
        "side": "Buy" if trade.taker_side is Side.BUY else "Sell", "time": str(trade.ts_ns // NS_PER_MS),
        "isBlockTrade": False, "isRPITrade": False, "seq": str(trade.trade_id),
    }  # fmt: skip


def _day_fields(exchange: Exchange, instrument: Instrument) -> dict[str, str]:
    state = exchange.market_state(instrument.symbol)
    change = Decimal(state.last_price - state.open) / state.open if state.open else Decimal(0)
    return {
        "lastPrice": str(instrument.price(state.last_price)), "highPrice24h": str(instrument.price(state.high)),
        "lowPrice24h": str(instrument.price(state.low)), "prevPrice24h": str(instrument.price(state.open)),
        "volume24h": plain(state.volume_24h), "turnover24h": plain(state.turnover_24h),
        "price24hPcnt": f"{change:.6f}",
    }  # fmt: skip


def spot_ticker(exchange: Exchange, instrument: Instrument) -> dict[str, str]:
    """A spot ticker as streamed: without best prices."""
    day = _day_fields(exchange, instrument)
    return {"symbol": instrument.symbol, **day, "usdIndexPrice": day["lastPrice"]}


def linear_ticker(exchange: Exchange, instrument: Instrument) -> dict[str, str]:
    """A linear ticker as streamed: reference prices, funding, open interest of both sides and of one, best prices."""
    state = exchange.market_state(instrument.symbol)
    decimals, lots = -instrument.price_exponent, -instrument.qty_exponent
    one_side = state.open_interest
    return {
        "symbol": instrument.symbol, **_day_fields(exchange, instrument), "markPrice": f"{state.mark:.{decimals}f}",
        "indexPrice": f"{state.index:.{decimals}f}", "openInterest": f"{2 * one_side:.{lots}f}",
        "openInterestValue": f"{2 * one_side * state.mark:.4f}", "singleOpenInterest": f"{one_side:.{lots}f}",
        "singleOpenInterestValue": f"{one_side * state.mark:.4f}",
        "fundingIntervalHour": str(state.funding_interval_ns // (60 * _MINUTE_NS)),
        "nextFundingTime": str(state.next_funding_ns // NS_PER_MS), "fundingRate": f"{state.funding_rate:.8f}",
        **quote_fields(exchange, instrument),
    }  # fmt: skip


def quote_fields(exchange: Exchange, instrument: Instrument) -> dict[str, str]:
    """Best prices of a ticker; empty text for an empty side."""
    bid, ask = exchange.best(instrument.symbol)
    bid_qty = exchange.qty_at(instrument.symbol, Side.BUY, bid)
    ask_qty = exchange.qty_at(instrument.symbol, Side.SELL, ask)
    return {
        "bid1Price": str(instrument.price(bid)) if bid else "", "bid1Size": plain(instrument.qty(bid_qty)),
        "ask1Price": str(instrument.price(ask)) if ask else "", "ask1Size": plain(instrument.qty(ask_qty)),
    }  # fmt: skip


def _spot_entry(instrument: Instrument) -> dict[str, Any]:
    """A spot instrument as `instruments-info` lists it."""
    lot, most = plain(instrument.qty(instrument.lot)), plain(instrument.qty(instrument.max_qty))
    return {
        "symbol": instrument.symbol, "baseCoin": instrument.base, "quoteCoin": instrument.quote, "innovation": "0",
        "status": "Trading", "marginTrading": "none", "stTag": "0", "symbolType": "",
        "lotSizeFilter": {
            "basePrecision": lot, "quotePrecision": "0.0000001", "minOrderQty": lot, "maxOrderQty": most,
            "minOrderAmt": plain(instrument.min_notional), "maxOrderAmt": "8000000", "maxLimitOrderQty": most,
            "maxMarketOrderQty": most,
        },
        "priceFilter": {"tickSize": str(instrument.price(instrument.tick))},
    }  # fmt: skip


def _linear_entry(instrument: Instrument) -> dict[str, Any]:
    """A perpetual as `instruments-info` lists it; `fundingInterval` in minutes."""
    lot, most = str(instrument.qty(instrument.lot)), str(instrument.qty(instrument.max_qty))
    tick = str(instrument.price(instrument.tick))
    return {
        "symbol": instrument.symbol, "contractType": "LinearPerpetual", "status": "Trading",
        "baseCoin": instrument.base, "quoteCoin": instrument.quote, "settleCoin": instrument.settle,
        "launchTime": "1585526400000", "deliveryTime": "0", "deliveryFeeRate": "",
        "priceScale": str(-instrument.price_exponent),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": "100.00", "leverageStep": "0.01"},
        "priceFilter": {"minPrice": tick, "maxPrice": "1999999.80", "tickSize": tick},
        "lotSizeFilter": {
            "maxOrderQty": most, "minOrderQty": str(instrument.qty(instrument.min_qty)), "qtyStep": lot,
            "postOnlyMaxOrderQty": most, "maxMktOrderQty": most, "minNotionalValue": plain(instrument.min_notional),
        },
        "unifiedMarginTrade": True, "fundingInterval": instrument.funding_interval_ns // _MINUTE_NS,
        "copyTrading": "none", "upperFundingRate": "0.00375", "lowerFundingRate": "-0.00375", "isPreListing": False,
        "preListingInfo": None, "symbolType": "",
    }  # fmt: skip
