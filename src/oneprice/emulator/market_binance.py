"""Binance's market data by REST, out of a practice market: spot under `/api/v3`, USD-M under `/fapi/v1`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from oneprice.emulator.events import Reject, Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.http_binance import Gate, Params, rejected
from oneprice.model.instrument import Instrument
from oneprice.model.order import Side
from oneprice.model.time import NS_PER_MS, NS_PER_S

Route = tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
_UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "M": 2_592_000}


class MarketCalls:
    def __init__(self, exchange: Exchange, gate: Gate, faults: FaultPlan, *, venue: str, futures: bool) -> None:
        self._exchange = exchange
        self._gate = gate
        self._faults = faults
        self._venue = venue
        self._futures = futures

    def routes(self) -> list[Route]:
        prefix = "/fapi/v1" if self._futures else "/api/v3"
        calls: dict[str, tuple[Callable[[Params], object], int]] = {
            "ping": (lambda _: {}, 1),
            "time": (lambda _: {"serverTime": self._now_ms()}, 1),
            "exchangeInfo": (self._exchange_info, 1 if self._futures else 20),
            "depth": (self._depth, 20 if self._futures else 50),
            "trades": (self._trades, 5),
            "aggTrades": (self._agg_trades, 4),
            "klines": (self._klines, 2),
            "ticker/bookTicker": (self._book_ticker, 2),
            "ticker/24hr": (self._ticker, 2),
            "ticker/price": (self._price, 2),
        }
        if self._futures:
            calls |= {
                "premiumIndex": (self._premium_index, 1),
                "fundingRate": (self._funding_rate, 1),
                "fundingInfo": (lambda _: [], 0),
                "openInterest": (self._open_interest, 1),
            }
        return [
            ("GET", f"{prefix}/{name}", self._gate.public(call, weight=cost)) for name, (call, cost) in calls.items()
        ]

    def _now_ms(self) -> int:
        return self._gate.now_ns() // NS_PER_MS

    def _instrument(self, params: Params) -> Instrument:
        try:
            self._exchange.market_state(params.get("symbol", ""))
        except Reject as reject:
            raise rejected(reject, futures=self._futures) from reject
        return self._exchange.instruments[params["symbol"]]

    def _each(self, params: Params, row: Callable[[Instrument], dict[str, Any]]) -> object:
        """One row for a named symbol, else a list of all."""
        if "symbol" in params:
            return row(self._instrument(params))
        return [row(instrument) for instrument in self._exchange.instruments.values()]

    def _exchange_info(self, params: Params) -> object:
        symbols = [_symbol(instrument, futures=self._futures) for instrument in self._exchange.instruments.values()]
        if "symbol" in params:
            symbols = [_symbol(self._instrument(params), futures=self._futures)]
        limits = [
            {
                "rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1,
                "limit": 2400 if self._futures else 6000,
            },
            {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 300},
        ]  # fmt: skip
        info: dict[str, Any] = {
            "timezone": "UTC", "serverTime": self._now_ms(), "rateLimits": limits, "exchangeFilters": [],
            "symbols": symbols,
        }  # fmt: skip
        return info | ({"assets": [], "futuresType": "U_MARGINED"} if self._futures else {})

    def _depth(self, params: Params) -> object:
        instrument = self._instrument(params)
        view = self._exchange.book(instrument.symbol, min(int(params.get("limit", "500")), 5000))
        answer: dict[str, Any] = {"lastUpdateId": view.last_id}
        if self._futures:
            answer |= {"E": self._now_ms(), "T": self._now_ms()}
        answer |= {side: _levels(instrument, levels) for side, levels in (("bids", view.bids), ("asks", view.asks))}
        now_ns = self._gate.now_ns()
        if self._faults.take(FaultKind.STALE_SNAPSHOT, self._venue, instrument.symbol, now_ns=now_ns) is not None:
            return answer | {"lastUpdateId": view.last_id - 100_000}
        return answer

    def _trades(self, params: Params) -> object:
        instrument = self._instrument(params)
        rows = []
        for trade in self._exchange.recent_trades(instrument.symbol, int(params.get("limit", "500"))):
            price, qty = instrument.price(trade.price), instrument.qty(trade.qty)
            rows.append(
                {
                    "id": trade.trade_id, "price": str(price), "qty": str(qty), "quoteQty": str(price * qty),
                    "time": trade.ts_ns // NS_PER_MS, "isBuyerMaker": trade.taker_side is Side.SELL, "isBestMatch": True,
                }
            )  # fmt: skip
        return rows

    def _agg_trades(self, params: Params) -> object:
        instrument = self._instrument(params)
        trades = self._exchange.recent_trades(instrument.symbol, int(params.get("limit", "500")))
        return [_agg_trade(instrument, trade) for trade in trades]

    def _klines(self, params: Params) -> object:
        instrument = self._instrument(params)
        interval = params.get("interval", "1m")
        step_ns = int(interval[:-1]) * _UNITS_S[interval[-1]] * NS_PER_S
        start_ns = int(params.get("startTime", "0")) * NS_PER_MS
        candles = self._exchange.candles(instrument.symbol, step_ns, start_ns, int(params.get("limit", "500")))
        return [
            [
                candle.open_ns // NS_PER_MS, str(candle.open), str(candle.high), str(candle.low), str(candle.close),
                str(candle.volume), (candle.open_ns + step_ns) // NS_PER_MS - 1, str(candle.volume * candle.close), 1,
                "0", "0", "0",
            ]
            for candle in candles
        ]  # fmt: skip

    def _book_ticker(self, params: Params) -> object:
        def row(instrument: Instrument) -> dict[str, Any]:
            bid, ask = self._exchange.best(instrument.symbol)
            return {
                "symbol": instrument.symbol, "bidPrice": str(instrument.price(bid)),
                "bidQty": str(instrument.qty(self._exchange.qty_at(instrument.symbol, Side.BUY, bid))),
                "askPrice": str(instrument.price(ask)),
                "askQty": str(instrument.qty(self._exchange.qty_at(instrument.symbol, Side.SELL, ask))),
            }  # fmt: skip

        return self._each(params, row)

    def _ticker(self, params: Params) -> object:
        def row(instrument: Instrument) -> dict[str, Any]:
            state = self._exchange.market_state(instrument.symbol)
            bid, ask = self._exchange.best(instrument.symbol)
            return {
                "symbol": instrument.symbol, "lastPrice": str(instrument.price(state.last_price)),
                "openPrice": str(instrument.price(state.open)), "highPrice": str(instrument.price(state.high)),
                "lowPrice": str(instrument.price(state.low)), "volume": str(state.volume_24h),
                "quoteVolume": str(state.turnover_24h), "bidPrice": str(instrument.price(bid)),
                "askPrice": str(instrument.price(ask)), "priceChange": "0", "priceChangePercent": "0",
                "weightedAvgPrice": str(instrument.price(state.last_price)), "openTime": 0,
                "closeTime": self._now_ms(), "firstId": 0, "lastId": 0, "count": 1,
            }  # fmt: skip

        return self._each(params, row)

    def _price(self, params: Params) -> object:
        def row(instrument: Instrument) -> dict[str, Any]:
            state = self._exchange.market_state(instrument.symbol)
            return {"symbol": instrument.symbol, "price": str(instrument.price(state.last_price))}

        return self._each(params, row)

    def _premium_index(self, params: Params) -> object:
        def row(instrument: Instrument) -> dict[str, Any]:
            state = self._exchange.market_state(instrument.symbol)
            return {
                "symbol": instrument.symbol, "markPrice": f"{state.mark:.8f}", "indexPrice": f"{state.index:.8f}",
                "estimatedSettlePrice": f"{state.index:.8f}", "lastFundingRate": f"{state.funding_rate:.8f}",
                "interestRate": "0.00010000", "nextFundingTime": state.next_funding_ns // NS_PER_MS,
                "time": self._now_ms(),
            }  # fmt: skip

        return self._each(params, row)

    def _funding_rate(self, params: Params) -> object:
        symbols = [self._instrument(params).symbol] if "symbol" in params else list(self._exchange.instruments)
        return [
            {
                "symbol": symbol, "fundingRate": str(row.rate), "fundingTime": row.ts_ns // NS_PER_MS,
                "markPrice": str(row.mark_price),
            }
            for symbol in symbols
            for row in self._exchange.funding_history(symbol, int(params.get("limit", "100")))
        ]  # fmt: skip

    def _open_interest(self, params: Params) -> object:
        instrument = self._instrument(params)
        state = self._exchange.market_state(instrument.symbol)
        return {"openInterest": f"{state.open_interest:.3f}", "symbol": instrument.symbol, "time": self._now_ms()}


def _agg_trade(instrument: Instrument, trade: Traded) -> dict[str, Any]:
    return {
        "a": trade.trade_id, "p": str(instrument.price(trade.price)), "q": str(instrument.qty(trade.qty)),
        "f": trade.trade_id, "l": trade.trade_id, "T": trade.ts_ns // NS_PER_MS, "m": trade.taker_side is Side.SELL,
        "M": True,
    }  # fmt: skip


def _levels(instrument: Instrument, levels: list[tuple[int, int]]) -> list[tuple[str, str]]:
    return [(str(instrument.price(price)), str(instrument.qty(qty))) for price, qty in levels]


def _symbol(instrument: Instrument, *, futures: bool) -> dict[str, Any]:
    """An entry of exchangeInfo."""
    tick, lot = str(instrument.price(instrument.tick)), f"{instrument.qty(instrument.lot).normalize():f}"
    most = f"{instrument.qty(instrument.max_qty).normalize():f}"
    filters: list[Mapping[str, Any]] = [
        {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "10000000", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot},
        {"filterType": "MARKET_LOT_SIZE", "minQty": lot, "maxQty": most, "stepSize": lot if futures else "0.00000000"},
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200, "limit": 200},
    ]
    entry: dict[str, Any] = {
        "symbol": instrument.symbol, "status": "TRADING", "baseAsset": instrument.base, "quoteAsset": instrument.quote,
        "baseAssetPrecision": 8, "quotePrecision": 8, "quoteAssetPrecision": 8, "filters": filters,
    }  # fmt: skip
    least = str(instrument.min_notional)
    if futures:
        filters.append({"filterType": "MIN_NOTIONAL", "notional": least})
        filters.append(
            {"filterType": "PERCENT_PRICE", "multiplierUp": "5", "multiplierDown": "0.2", "multiplierDecimal": "4"}
        )
        return entry | {
            "pair": instrument.symbol, "contractType": "PERPETUAL", "deliveryDate": 4_133_404_800_000,
            "onboardDate": 1_569_398_400_000, "marginAsset": instrument.settle, "pricePrecision": 2,
            "quantityPrecision": 3, "orderTypes": ["LIMIT", "MARKET"], "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
            "maintMarginPercent": "2.5000", "requiredMarginPercent": "5.0000", "underlyingType": "COIN",
            "liquidationFee": "0.012500", "marketTakeBound": "0.05",
        }  # fmt: skip
    filters.append(
        {
            "filterType": "NOTIONAL", "minNotional": least, "applyMinToMarket": True, "maxNotional": "9000000",
            "applyMaxToMarket": False, "avgPriceMins": 5,
        }
    )  # fmt: skip
    return entry | {
        "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET"], "isSpotTradingAllowed": True, "isMarginTradingAllowed": False,
        "icebergAllowed": False, "ocoAllowed": False, "quoteOrderQtyMarketAllowed": True, "permissions": [],
        "permissionSets": [["SPOT"]],
    }  # fmt: skip
