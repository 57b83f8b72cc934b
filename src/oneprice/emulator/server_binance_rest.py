"""Binance's market data by REST, out of a practice market: spot under `/api/v3`, USD-M under `/fapi/v1`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from oneprice.emulator.events import Reject, RejectCode, Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind
from oneprice.emulator.http_binance import Gate, Route, Weight, as_text
from oneprice.emulator.http_binance_errors import BinanceError, Params, needed, rejected, whole
from oneprice.emulator.server_binance_rows import is_spot, money, price_text, qty_text
from oneprice.model.instrument import Instrument
from oneprice.model.order import Side
from oneprice.model.time import NS_PER_MS, NS_PER_S

_UNITS_S = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000}
INTERVALS_NS: Mapping[str, int] = {
    name: int(name[:-1]) * _UNITS_S[name[-1]] * NS_PER_S
    for name in ["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d", "3d", "1w", "1M"]
}
_HOUR_NS = 3600 * NS_PER_S
_ALL = 100_000
_LONG_AGO = 100_000  # update ids by which a stale answer is behind
_SPOT_DEPTH, _FUTURES_DEPTH = 5_000, 1_000  # levels a side at most
_DEPTH_WEIGHTS = {
    False: ((100, 5), (500, 25), (1_000, 50), (5_000, 250)),
    True: ((50, 2), (100, 5), (500, 10), (1_000, 20)),
}
_KLINE_WEIGHTS = ((99, 1), (499, 2), (1_000, 5), (1_500, 10))


class MarketCalls:
    """The public calls."""

    def __init__(self, exchange: Exchange, gate: Gate) -> None:
        self._exchange = exchange
        self._gate = gate

    def routes(self) -> list[Route]:
        prefix = "/fapi/v1" if self._gate.futures else "/api/v3"
        return [
            ("GET", f"{prefix}/{name}", self._gate.public(call, weight=weight))
            for name, (call, weight) in self._calls().items()
        ]

    def ws_calls(self) -> dict[str, Callable[[Any, Mapping[str, Any]], object]]:
        """Those that the WebSocket API offers, by its names."""
        names = {
            "ping": "ping", "time": "time", "exchangeInfo": "exchangeInfo", "depth": "depth", "trades": "trades.recent",
            "aggTrades": "trades.aggregate", "klines": "klines", "ticker/bookTicker": "ticker.book",
            "ticker/24hr": "ticker.24hr", "ticker/price": "ticker.price",
        }  # fmt: skip

        def framed(call: Callable[[Params], object]) -> Callable[[Any, Mapping[str, Any]], object]:
            return lambda _, params: call({name: as_text(value) for name, value in params.items()})

        return {names[path]: framed(call) for path, (call, _) in self._calls().items() if path in names}

    def _calls(self) -> dict[str, tuple[Callable[[Params], object], Weight]]:
        futures = self._gate.futures
        calls: dict[str, tuple[Callable[[Params], object], Weight]] = {
            "ping": (lambda _: {}, 1),
            "time": (lambda _: {"serverTime": self._gate.now_ms()}, 1),
            "exchangeInfo": (self._exchange_info, 1 if futures else 20),
            "depth": (self._depth, self._depth_weight),
            "trades": (self._trades, 5 if futures else 25),
            "aggTrades": (self._agg_trades, 20 if futures else 4),
            "klines": (self._klines, self._kline_weight if futures else 2),
            "ticker/bookTicker": (self._book_ticker, 2),
            "ticker/24hr": (self._day_ticker, lambda params: 2 if "symbol" in params else 40),
            "ticker/price": (self._price_ticker, 2),
        }
        if futures:
            calls |= {
                "premiumIndex": (self._premium_index, lambda params: 1 if "symbol" in params else 10),
                "fundingRate": (self._funding_rate, 1),
                "fundingInfo": (self._funding_info, 0),
                "openInterest": (self._open_interest, 1),
            }
        return calls

    def _instrument(self, params: Params) -> Instrument:
        found = self._exchange.instruments.get(needed(params, "symbol"))
        if found is None:
            raise rejected(Reject(RejectCode.UNKNOWN_SYMBOL, "Invalid symbol."), futures=self._gate.futures)
        return found

    def _each(self, params: Params, row: Callable[[Instrument], dict[str, Any]]) -> object:
        """One row for a named symbol, else a list of all (of those in `symbols`)."""
        if "symbol" in params:
            return row(self._instrument(params))
        return [row(instrument) for instrument in self._chosen(params)]

    def _chosen(self, params: Params) -> list[Instrument]:
        """The instruments of `symbol` or `symbols=["A","B"]`; all when neither is given."""
        if "symbol" in params:
            return [self._instrument(params)]
        if "symbols" not in params:
            return list(self._exchange.instruments.values())
        try:
            names = msgspec.json.decode(params["symbols"], type=list[str])
        except msgspec.MsgspecError:
            raise BinanceError(
                -1100, "Illegal characters found in parameter 'symbols'; legal range is a list."
            ) from None
        return [self._instrument({"symbol": name}) for name in names]

    # -- instruments --------------------------------------------------------------------------------------------------

    def _exchange_info(self, params: Params) -> object:
        entry = _spot_entry if not self._gate.futures else _futures_entry
        info: dict[str, Any] = {
            "timezone": "UTC", "serverTime": self._gate.now_ms(),
            "rateLimits": [self._gate.weight.rule(), *self._gate.orders.rules()], "exchangeFilters": [],
            "symbols": [entry(instrument) for instrument in self._chosen(params)],
        }  # fmt: skip
        if not self._gate.futures:
            return info
        settled = sorted({instrument.settle for instrument in self._exchange.instruments.values()})
        assets = [{"asset": asset, "marginAvailable": True, "autoAssetExchange": "0"} for asset in settled]
        return info | {"assets": assets, "futuresType": "U_MARGINED"}

    # -- books and trades ---------------------------------------------------------------------------------------------

    def _depth_limit(self, params: Params) -> int:
        most = _FUTURES_DEPTH if self._gate.futures else _SPOT_DEPTH
        return whole(params, "limit", 500 if self._gate.futures else 100, most=most)

    def _depth_weight(self, params: Params) -> int:
        limit = self._depth_limit(params)
        return next(weight for upto, weight in _DEPTH_WEIGHTS[self._gate.futures] if limit <= upto)

    def _depth(self, params: Params) -> object:
        instrument, limit = self._instrument(params), self._depth_limit(params)
        view = self._exchange.book(instrument.symbol, limit, self._gate.clock_ns())
        is_stale = self._gate.takes(FaultKind.STALE_SNAPSHOT, instrument.symbol)
        answer: dict[str, Any] = {"lastUpdateId": view.last_id - (_LONG_AGO if is_stale else 0)}
        if self._gate.futures:
            ms = (view.ts_ns + self._gate.skew_ns()) // NS_PER_MS
            answer |= {"E": ms, "T": ms}
        return answer | {"bids": levels(instrument, view.bids), "asks": levels(instrument, view.asks)}

    def _recent(self, params: Params) -> tuple[Instrument, list[Traded], int]:
        """(instrument, trades from `fromId` on or between two times, clock error); the newest `limit`, oldest first."""
        instrument, skew_ns = self._instrument(params), self._gate.skew_ns()
        limit, least = whole(params, "limit", 500, most=1000), whole(params, "fromId", 0)
        start_ms, end_ms = whole(params, "startTime", 0), whole(params, "endTime", 1 << 60)
        kept = [
            trade
            for trade in self._exchange.recent_trades(instrument.symbol, _ALL)
            if trade.trade_id >= least and start_ms <= (trade.ts_ns + skew_ns) // NS_PER_MS <= end_ms
        ]
        return instrument, kept[:limit] if least or start_ms else kept[-limit:], skew_ns

    def _trades(self, params: Params) -> object:
        instrument, trades, skew_ns = self._recent(params)
        return [
            {
                "id": trade.trade_id, "price": price_text(instrument, trade.price),
                "qty": qty_text(instrument, trade.qty),
                "quoteQty": money(instrument.notional(trade.price, trade.qty)),
                "time": (trade.ts_ns + skew_ns) // NS_PER_MS, "isBuyerMaker": trade.taker_side is Side.SELL,
            }
            | ({"isBestMatch": True} if is_spot(instrument) else {})
            for trade in trades
        ]  # fmt: skip

    def _agg_trades(self, params: Params) -> object:
        instrument, trades, skew_ns = self._recent(params)
        return [
            {
                "a": trade.trade_id, "p": price_text(instrument, trade.price), "q": qty_text(instrument, trade.qty),
                "f": trade.trade_id, "l": trade.trade_id, "T": (trade.ts_ns + skew_ns) // NS_PER_MS,
                "m": trade.taker_side is Side.SELL,
            }
            | ({"M": True} if is_spot(instrument) else {})
            for trade in trades
        ]  # fmt: skip

    def _kline_weight(self, params: Params) -> int:
        limit = whole(params, "limit", 500, most=1500)
        return next(weight for upto, weight in _KLINE_WEIGHTS if limit <= upto)

    def _klines(self, params: Params) -> object:
        instrument = self._instrument(params)
        step_ns = INTERVALS_NS.get(needed(params, "interval"))
        if step_ns is None:
            raise BinanceError(-1120, "Invalid interval.")
        start_ns = whole(params, "startTime", 0) * NS_PER_MS
        end_ns = whole(params, "endTime", 1 << 42) * NS_PER_MS
        limit = whole(params, "limit", 500, most=1500 if self._gate.futures else 1000)
        candles = self._exchange.candles(instrument.symbol, step_ns, start_ns, _ALL)
        within = [candle for candle in candles if candle.open_ns <= end_ns]
        return [
            [
                candle.open_ns // NS_PER_MS, money(candle.open), money(candle.high), money(candle.low),
                money(candle.close), money(candle.volume), (candle.open_ns + step_ns) // NS_PER_MS - 1,
                money(candle.volume * candle.close), 0, "0", "0", "0",
            ]
            for candle in (within[:limit] if start_ns else within[-limit:])
        ]  # fmt: skip

    # -- tickers ------------------------------------------------------------------------------------------------------

    def _book_ticker(self, params: Params) -> object:
        return self._each(params, lambda instrument: self._best(instrument) | self._futures_times())

    def _best(self, instrument: Instrument) -> dict[str, Any]:
        symbol = instrument.symbol
        bid, ask = self._exchange.best(symbol)
        return {
            "symbol": symbol, "bidPrice": price_text(instrument, bid),
            "bidQty": qty_text(instrument, self._exchange.qty_at(symbol, Side.BUY, bid)),
            "askPrice": price_text(instrument, ask),
            "askQty": qty_text(instrument, self._exchange.qty_at(symbol, Side.SELL, ask)),
        }  # fmt: skip

    def _futures_times(self) -> dict[str, int]:
        return {"time": self._gate.now_ms()} if self._gate.futures else {}

    def _day_ticker(self, params: Params) -> object:
        def row(instrument: Instrument) -> dict[str, Any]:
            day, now_ms = DayTicker.of(self._exchange, instrument), self._gate.now_ms()
            return self._best(instrument) | {
                "priceChange": day.change, "priceChangePercent": day.change_percent, "weightedAvgPrice": day.average,
                "prevClosePrice": day.open, "lastPrice": day.last, "openPrice": day.open, "highPrice": day.high,
                "lowPrice": day.low, "volume": day.volume, "quoteVolume": day.turnover,
                "openTime": now_ms - 86_400_000, "closeTime": now_ms, "firstId": -1, "lastId": -1, "count": 0,
            }  # fmt: skip

        return self._each(params, row)

    def _price_ticker(self, params: Params) -> object:
        def row(instrument: Instrument) -> dict[str, Any]:
            last = self._exchange.market_state(instrument.symbol).last_price
            return {"symbol": instrument.symbol, "price": price_text(instrument, last)} | self._futures_times()

        return self._each(params, row)

    # -- perpetuals ---------------------------------------------------------------------------------------------------

    def _premium_index(self, params: Params) -> object:
        def row(instrument: Instrument) -> dict[str, Any]:
            state = self._exchange.market_state(instrument.symbol)
            return {
                "symbol": instrument.symbol, "markPrice": f"{state.mark:.8f}", "indexPrice": f"{state.index:.8f}",
                "estimatedSettlePrice": f"{state.index:.8f}", "lastFundingRate": f"{state.funding_rate:.8f}",
                "interestRate": "0.00010000", "nextFundingTime": state.next_funding_ns // NS_PER_MS,
                "time": self._gate.now_ms(),
            }  # fmt: skip

        return self._each(params, row)

    def _funding_rate(self, params: Params) -> object:
        """Settled rates, oldest first: from `startTime` on, else the newest `limit`."""
        start_ms, end_ms = whole(params, "startTime", 0), whole(params, "endTime", 1 << 60)
        rows = [
            {
                "symbol": instrument.symbol, "fundingRate": f"{row.rate:.8f}", "fundingTime": row.ts_ns // NS_PER_MS,
                "markPrice": "" if row.mark_price is None else f"{row.mark_price:.8f}",
            }
            for instrument in self._chosen(params)
            for row in self._exchange.funding_history(instrument.symbol, _ALL)
            if start_ms <= row.ts_ns // NS_PER_MS <= end_ms
        ]  # fmt: skip
        limit = whole(params, "limit", 100, most=1000)
        return rows[:limit] if start_ms else rows[-limit:]

    def _funding_info(self, _: Params) -> object:
        """Only the symbols whose terms were adjusted: those that do not pay every eight hours."""
        return [
            {
                "symbol": instrument.symbol, "adjustedFundingRateCap": "0.02000000",
                "adjustedFundingRateFloor": "-0.02000000",
                "fundingIntervalHours": instrument.funding_interval_ns // _HOUR_NS, "disclaimer": False,
            }
            for instrument in self._exchange.instruments.values()
            if instrument.funding_interval_ns != 8 * _HOUR_NS
        ]  # fmt: skip

    def _open_interest(self, params: Params) -> object:
        instrument = self._instrument(params)
        state = self._exchange.market_state(instrument.symbol)
        return {"openInterest": f"{state.open_interest:.3f}", "symbol": instrument.symbol, "time": self._gate.now_ms()}


class DayTicker(msgspec.Struct, frozen=True, kw_only=True):
    """A market's figures of the day, as the venue prints them."""

    last: str
    open: str
    high: str
    low: str
    change: str
    change_percent: str
    average: str
    volume: str
    turnover: str

    @classmethod
    def of(cls, exchange: Exchange, instrument: Instrument) -> DayTicker:
        state = exchange.market_state(instrument.symbol)
        change = Decimal(state.last_price - state.open)
        average = state.turnover_24h / state.volume_24h if state.volume_24h else Decimal(0)
        return cls(
            last=price_text(instrument, state.last_price), open=price_text(instrument, state.open),
            high=price_text(instrument, state.high), low=price_text(instrument, state.low),
            change=price_text(instrument, state.last_price - state.open),
            change_percent=f"{100 * change / state.open if state.open else 0:.3f}", average=f"{average:.8f}",
            volume=money(state.volume_24h), turnover=money(state.turnover_24h),
        )  # fmt: skip


def levels(instrument: Instrument, rows: list[tuple[int, int]]) -> list[tuple[str, str]]:
    """Book levels as text."""
    return [(price_text(instrument, price), qty_text(instrument, qty)) for price, qty in rows]


def _step(value: Decimal) -> str:
    return f"{value.normalize():f}"


def _entry(instrument: Instrument) -> dict[str, Any]:
    """What entries of exchangeInfo share."""
    tick, lot = price_text(instrument, instrument.tick), _step(instrument.qty(instrument.lot))
    most = _step(instrument.qty(instrument.max_qty))
    return {
        "symbol": instrument.symbol, "status": "TRADING", "baseAsset": instrument.base, "quoteAsset": instrument.quote,
        "baseAssetPrecision": 8, "quotePrecision": 8, "quoteAssetPrecision": 8,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
            {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot},
        ],
    }  # fmt: skip


def _spot_entry(instrument: Instrument) -> dict[str, Any]:
    entry, most = _entry(instrument), _step(instrument.qty(instrument.max_qty))
    entry["filters"] += [
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": most, "stepSize": "0.00000000"},
        {
            "filterType": "PERCENT_PRICE_BY_SIDE", "bidMultiplierUp": "5", "bidMultiplierDown": "0.2",
            "askMultiplierUp": "5", "askMultiplierDown": "0.2", "avgPriceMins": 5,
        },
        {
            "filterType": "NOTIONAL", "minNotional": money(instrument.min_notional), "applyMinToMarket": True,
            "maxNotional": "9000000.00000000", "applyMaxToMarket": False, "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
    ]  # fmt: skip
    return entry | {
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "icebergAllowed": False, "ocoAllowed": False, "quoteOrderQtyMarketAllowed": True, "permissions": [],
        "permissionSets": [["SPOT"]], "defaultSelfTradePreventionMode": "NONE",
        "allowedSelfTradePreventionModes": ["NONE"],
    }  # fmt: skip


def _futures_entry(instrument: Instrument) -> dict[str, Any]:
    entry, most = _entry(instrument), _step(instrument.qty(instrument.max_qty))
    lot = _step(instrument.qty(instrument.lot))
    entry["filters"] += [
        {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": _step(instrument.min_notional)},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "5", "multiplierDown": "0.2", "multiplierDecimal": "4"},
    ]
    return entry | {
        "pair": instrument.symbol, "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000,
        "onboardDate": 1_569_398_400_000, "marginAsset": instrument.settle, "pricePrecision": 2,
        "quantityPrecision": max(0, -instrument.qty_exponent), "orderTypes": ["LIMIT", "MARKET"],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX"], "maintMarginPercent": "2.5000", "requiredMarginPercent": "5.0000",
        "underlyingType": "COIN", "underlyingSubType": [], "liquidationFee": "0.012500", "marketTakeBound": "0.05",
    }  # fmt: skip
