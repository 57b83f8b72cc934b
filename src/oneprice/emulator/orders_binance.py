"""Binance's signed calls on a practice market: place, cancel, query, account; by REST and (spot) the WebSocket API."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec
from aiohttp import web

from oneprice.emulator.events import FillRecord, NewOrder, OrderRecord, Reject, RejectCode
from oneprice.emulator.exchange import MARKET, Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.http_binance import BinanceError, Gate, Params, rejected
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument
from oneprice.model.order import OrderState, OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS

Route = tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
WsCall = Callable[[Any, Mapping[str, Any]], object]

STATUS = {
    OrderState.OPEN: "NEW", OrderState.PARTIALLY_FILLED: "PARTIALLY_FILLED", OrderState.FILLED: "FILLED",
    OrderState.CANCELLED: "CANCELED", OrderState.EXPIRED: "EXPIRED", OrderState.REJECTED: "REJECTED",
}  # fmt: skip
_WHOLE_BOOK = 5_000  # levels
_TIMES = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK, "GTX": TimeInForce.POST_ONLY}


class OrderCalls:
    def __init__(self, exchange: Exchange, gate: Gate, faults: FaultPlan, *, venue: str, futures: bool) -> None:
        self._exchange = exchange
        self._gate = gate
        self._faults = faults
        self._venue = venue
        self._futures = futures

    def routes(self) -> list[Route]:
        signed = self._gate.signed
        if self._futures:
            v1, v2, v3 = "/fapi/v1", "/fapi/v2", "/fapi/v3"
            routes = [
                ("POST", f"{v1}/order", signed(self._place, weight=0)),
                ("DELETE", f"{v1}/order", signed(self._cancel)),
                ("GET", f"{v1}/order", signed(self._query)),
                ("GET", f"{v1}/openOrders", signed(self._open)),
                ("DELETE", f"{v1}/allOpenOrders", signed(self._cancel_all)),
                ("GET", f"{v1}/allOrders", signed(self._all, weight=5)),
                ("GET", f"{v1}/userTrades", signed(self._fills, weight=5)),
                ("GET", f"{v1}/commissionRate", signed(self._commission, weight=20)),
                ("GET", f"{v1}/leverageBracket", signed(self._brackets)),
                ("POST", f"{v1}/leverage", signed(self._leverage)),
                ("POST", f"{v1}/marginType", signed(lambda account, params: {"code": 200, "msg": "success"})),
                ("POST", f"{v1}/positionSide/dual", signed(lambda account, params: {"code": 200, "msg": "success"})),
                ("GET", f"{v1}/positionSide/dual", signed(lambda account, params: {"dualSidePosition": False})),
            ]
            for version in (v2, v3):
                routes += [
                    ("GET", f"{version}/balance", signed(self._futures_balance, weight=5)),
                    ("GET", f"{version}/account", signed(self._futures_account, weight=5)),
                    ("GET", f"{version}/positionRisk", signed(self._position_risk, weight=5)),
                ]
            return routes
        v3 = "/api/v3"
        return [
            ("POST", f"{v3}/order", signed(self._place, weight=0)),
            ("POST", f"{v3}/order/test", signed(lambda account, params: {}, weight=1)),
            ("DELETE", f"{v3}/order", signed(self._cancel)),
            ("GET", f"{v3}/order", signed(self._query, weight=4)),
            ("GET", f"{v3}/openOrders", signed(self._open, weight=6)),
            ("DELETE", f"{v3}/openOrders", signed(self._cancel_all)),
            ("GET", f"{v3}/allOrders", signed(self._all, weight=20)),
            ("GET", f"{v3}/myTrades", signed(self._fills, weight=20)),
            ("GET", f"{v3}/account", signed(self._account, weight=20)),
            ("GET", f"{v3}/account/commission", signed(self._commission, weight=20)),
            ("GET", "/sapi/v1/capital/config/getall", signed(lambda account, params: [])),
            ("GET", "/sapi/v1/margin/allPairs", signed(lambda account, params: [])),
            ("GET", "/sapi/v1/margin/isolated/allPairs", signed(lambda account, params: [])),
            ("GET", "/sapi/v1/margin/allAssets", signed(lambda account, params: [])),
        ]

    def ws_calls(self) -> dict[str, WsCall]:
        """The same calls as methods of the WebSocket API."""
        return {
            "order.place": self._ws(self._place_now),
            "order.cancel": self._ws(self._cancel),
            "order.status": self._ws(self._query),
            "openOrders.status": self._ws(self._open),
            "openOrders.cancelAll": self._ws(self._cancel_all),
            "account.status": self._ws(self._account),
            "time": lambda _, __: {"serverTime": self._gate.now_ns() // NS_PER_MS},
            "ping": lambda _, __: {},
        }

    def _ws(self, call: Callable[[str, Params], object]) -> WsCall:
        def answer(socket: Any, params: Mapping[str, Any]) -> object:
            return call(self._gate.ws_account(params), {key: str(value) for key, value in params.items()})

        return answer

    # -- placing ------------------------------------------------------------------------------------------------------

    async def _place(self, account: str, params: Params) -> object:
        answer = self._place_now(account, params)
        fault = self._faults.take(
            FaultKind.TIMEOUT_AFTER_ACCEPT, self._venue, params.get("symbol", ""), now_ns=self._gate.now_ns()
        )
        if fault is not None:
            await asyncio.sleep(fault.duration_s)
            raise BinanceError(
                -1007, "Timeout waiting for response from backend server. Send status unknown; execution status unknown.",
                504,
            )  # fmt: skip
        return answer

    def _place_now(self, account: str, params: Params) -> object:
        now_ns = self._gate.now_ns()
        new = self._new_order(params)
        if self._faults.take(FaultKind.REJECT, self._venue, new.symbol, now_ns=now_ns) is not None:
            text = "Account has insufficient balance for requested action."
            raise rejected(Reject(RejectCode.INSUFFICIENT_BALANCE, text), futures=self._futures)
        # What may rest is not cut short, and an amount of quote has no half before its price is known.
        partial = (
            new.time_in_force is TimeInForce.IOC
            and new.quote_qty is None
            and self._faults.take(FaultKind.PARTIAL_FILL, self._venue, new.symbol, now_ns=now_ns) is not None
        )
        try:
            place = self._place_half if partial else self._exchange.place
            order = place(account, new, now_ns)
        except Reject as reject:
            raise rejected(reject, futures=self._futures) from reject
        return self._shown(order, with_fills=True)

    def _place_half(self, account: str, new: NewOrder, now_ns: int) -> OrderRecord:
        """Only half of what an immediate order asks for is there: somebody else was quicker with the other half."""
        instrument, side = self._exchange.instruments[new.symbol], new.side
        view = self._exchange.book(new.symbol, _WHOLE_BOOK)
        shown, limit = 0, 0
        for price, qty in view.asks if side is Side.BUY else view.bids:
            if shown >= new.qty or (new.price and int(side) * (price - new.price) > 0):
                break
            shown, limit = shown + qty, price
        if not limit:
            return self._exchange.place(account, new, now_ns)
        taken = shown - instrument.round_down_to_lot(new.qty // 2)
        if taken > 0:
            rival = NewOrder(symbol=new.symbol, side=side, time_in_force=TimeInForce.IOC, qty=taken, price=limit)
            self._exchange.place(MARKET, rival, now_ns)
        order = self._exchange.place(account, msgspec.structs.replace(new, type=OrderType.LIMIT, price=limit), now_ns)
        order.type, order.price = new.type, new.price  # the bound was ours, not the client's
        return order

    def _new_order(self, params: Params) -> NewOrder:
        instrument = self._instrument(params)
        kind = params.get("type", "LIMIT")
        if kind not in ("LIMIT", "MARKET", "LIMIT_MAKER"):
            code, text = (
                (-4120, "Order type not supported for this endpoint.")
                if self._futures
                else (-1116, "Invalid orderType.")
            )
            raise BinanceError(code, text)
        if params.get("side") not in ("BUY", "SELL"):
            raise BinanceError(-1102, "Mandatory parameter 'side' was not sent, was empty/null, or malformed.")
        if params.get("timeInForce", "GTC") not in _TIMES:
            raise BinanceError(-1115, "Invalid timeInForce.")
        time_in_force = _TIMES[params.get("timeInForce", "GTC")]
        if kind == "LIMIT_MAKER":
            time_in_force = TimeInForce.POST_ONLY
        elif kind == "MARKET":
            time_in_force = TimeInForce.IOC
        try:
            qty = instrument.qty_mantissa(Decimal(params["quantity"])) if "quantity" in params else 0
            price = instrument.price_mantissa(Decimal(params["price"])) if kind != "MARKET" else 0
            quote_qty = Decimal(params["quoteOrderQty"]) if "quoteOrderQty" in params else None
        except (InputError, InvalidOperation, KeyError):
            raise BinanceError(-1111, "Parameter has too much precision.") from None
        return NewOrder(
            symbol=instrument.symbol, side=Side.BUY if params.get("side") == "BUY" else Side.SELL,
            type=OrderType.MARKET if kind == "MARKET" else OrderType.LIMIT, time_in_force=time_in_force, qty=qty,
            price=price, client_id=params.get("newClientOrderId", ""),
            reduce_only=params.get("reduceOnly", "false").lower() == "true", quote_qty=quote_qty,
        )  # fmt: skip

    # -- the rest -----------------------------------------------------------------------------------------------------

    def _cancel(self, account: str, params: Params) -> object:
        now_ns = self._gate.now_ns()
        symbol = self._instrument(params).symbol
        try:
            resting = self._exchange.order(account, symbol, **_which(params))
            if not resting.state.is_final and self._faults.take(
                FaultKind.CANCEL_FILL_RACE, self._venue, symbol, now_ns=now_ns
            ):
                self._fill_first(resting, now_ns)
            order = self._exchange.cancel(account, symbol, **_which(params), now_ns=now_ns)
        except Reject as reject:
            raise rejected(reject, futures=self._futures, cancel=True) from reject
        shown = self._shown(order)
        return shown if self._futures else shown | {"origClientOrderId": order.client_id}

    def _fill_first(self, order: OrderRecord, now_ns: int) -> None:
        """Somebody takes the order, and all that stands before it, the moment before its cancel comes."""
        while not order.state.is_final:
            rival = NewOrder(
                symbol=order.symbol, side=order.side.opposite, time_in_force=TimeInForce.IOC,
                qty=order.qty - order.filled_qty, price=order.price,
            )  # fmt: skip
            self._exchange.place(MARKET, rival, now_ns)

    def _found(self, account: str, params: Params) -> OrderRecord:
        try:
            return self._exchange.order(account, self._instrument(params).symbol, **_which(params))
        except Reject as reject:
            raise rejected(reject, futures=self._futures) from reject

    def _query(self, account: str, params: Params) -> object:
        return self._shown(self._found(account, params))

    def _open(self, account: str, params: Params) -> object:
        return [self._shown(order) for order in self._exchange.open_orders(account, params.get("symbol"))]

    def _all(self, account: str, params: Params) -> object:
        return [self._shown(order) for order in self._exchange.all_orders(account, params.get("symbol"))]

    def _cancel_all(self, account: str, params: Params) -> object:
        cancelled = self._exchange.cancel_all(account, self._instrument(params).symbol, self._gate.now_ns())
        if self._futures:
            return {"code": 200, "msg": "The operation of cancel all open order is done."}
        return [self._shown(order) for order in cancelled]

    def _fills(self, account: str, params: Params) -> object:
        symbol = self._instrument(params).symbol
        return [self._shown_fill(order, fill) for order, fill in self._exchange.fills(account, symbol)]

    def _account(self, account: str, params: Params) -> object:
        balances = [
            {"asset": asset, "free": f"{held.free:f}", "locked": f"{held.locked:f}"}
            for asset, held in self._exchange.balances(account).items()
        ]
        return {
            "makerCommission": 10, "takerCommission": 10, "canTrade": True, "accountType": "SPOT",
            "balances": balances, "updateTime": self._gate.now_ns() // NS_PER_MS, "permissions": ["SPOT"],
        }  # fmt: skip

    def _commission(self, account: str, params: Params) -> object:
        instrument = self._instrument(params)
        maker, taker = str(instrument.maker_fee), str(instrument.taker_fee)
        if self._futures:
            return {"symbol": instrument.symbol, "makerCommissionRate": maker, "takerCommissionRate": taker}
        rates = {"maker": maker, "taker": taker, "buyer": "0", "seller": "0"}
        return {"symbol": instrument.symbol, "standardCommission": rates, "discount": {"enabledForAccount": False}}

    def _brackets(self, account: str, params: Params) -> object:
        bracket = {
            "bracket": 1, "initialLeverage": 125, "notionalCap": 50_000_000, "notionalFloor": 0,
            "maintMarginRatio": 0.004, "cum": 0.0,
        }  # fmt: skip
        return [{"symbol": symbol, "brackets": [bracket]} for symbol in self._exchange.instruments]

    def _leverage(self, account: str, params: Params) -> object:
        symbol, leverage = self._instrument(params).symbol, int(params.get("leverage", "1"))
        self._exchange.set_leverage(account, symbol, leverage)
        return {"symbol": symbol, "leverage": leverage, "maxNotionalValue": "50000000"}

    def _futures_balance(self, account: str, params: Params) -> object:
        return [
            {
                "asset": asset, "balance": f"{held.free + held.locked:f}", "availableBalance": f"{held.free:f}",
                "crossWalletBalance": f"{held.free + held.locked:f}", "crossUnPnl": "0", "maxWithdrawAmount": f"{held.free:f}",
                "marginAvailable": True, "updateTime": self._gate.now_ns() // NS_PER_MS,
            }
            for asset, held in self._exchange.balances(account).items()
        ]  # fmt: skip

    def _futures_account(self, account: str, params: Params) -> object:
        assets = [
            {
                "asset": asset, "walletBalance": f"{held.free + held.locked:f}", "unrealizedProfit": "0",
                "marginBalance": f"{held.free + held.locked:f}", "maintMargin": "0", "initialMargin": f"{held.locked:f}",
                "positionInitialMargin": "0", "openOrderInitialMargin": f"{held.locked:f}",
                "crossWalletBalance": f"{held.free + held.locked:f}", "crossUnPnl": "0",
                "availableBalance": f"{held.free:f}", "maxWithdrawAmount": f"{held.free:f}", "marginAvailable": True,
                "updateTime": self._gate.now_ns() // NS_PER_MS,
            }
            for asset, held in self._exchange.balances(account).items()
        ]  # fmt: skip
        return {"canTrade": True, "assets": assets, "positions": self._position_risk(account, params)}

    def _position_risk(self, account: str, params: Params) -> list[dict[str, Any]]:
        rows = []
        for symbol, position in self._exchange.positions(account).items():
            if params.get("symbol", symbol) != symbol:
                continue
            instrument = self._exchange.instruments[symbol]
            mark = Decimal(f"{self._exchange.market_state(symbol).mark:.8f}")
            qty = instrument.qty(position.qty)
            rows.append(
                {
                    "symbol": symbol, "positionAmt": str(qty), "entryPrice": f"{position.entry_price:f}",
                    "breakEvenPrice": f"{position.entry_price:f}", "markPrice": f"{mark:f}",
                    "unRealizedProfit": f"{(mark - position.entry_price) * qty:f}", "liquidationPrice": "0",
                    "leverage": str(position.leverage), "marginType": "cross", "isolatedMargin": "0",
                    "positionSide": "BOTH", "notional": f"{mark * qty:f}", "isolatedWallet": "0", "marginAsset": "USDT",
                    "maintMargin": "0", "initialMargin": "0", "updateTime": self._gate.now_ns() // NS_PER_MS,
                }
            )  # fmt: skip
        return rows

    def _instrument(self, params: Params) -> Instrument:
        found = self._exchange.instruments.get(params.get("symbol", ""))
        if found is None:
            raise BinanceError(-1121, "Invalid symbol.")
        return found

    def _shown(self, order: OrderRecord, *, with_fills: bool = False) -> dict[str, Any]:
        instrument = self._exchange.instruments[order.symbol]
        filled = instrument.qty(order.filled_qty)
        average = order.filled_notional / filled if filled else Decimal(0)
        shown: dict[str, Any] = {
            "symbol": order.symbol, "orderId": order.order_id, "clientOrderId": order.client_id,
            "price": str(instrument.price(order.price)), "origQty": str(instrument.qty(order.qty)),
            "executedQty": str(filled), "status": STATUS[order.state], "timeInForce": time_in_force_of(order, self._futures),
            "type": type_of(order, self._futures), "side": order.side.name, "updateTime": order.updated_ns // NS_PER_MS,
            "time": order.created_ns // NS_PER_MS,
        }  # fmt: skip
        if self._futures:
            return shown | {
                "avgPrice": f"{average:f}", "cumQty": str(filled), "cumQuote": f"{order.filled_notional:f}",
                "reduceOnly": order.reduce_only, "closePosition": False, "positionSide": "BOTH", "stopPrice": "0",
                "workingType": "CONTRACT_PRICE", "priceProtect": False, "origType": type_of(order, True),
                "priceMatch": "NONE", "selfTradePreventionMode": "NONE", "goodTillDate": 0,
            }  # fmt: skip
        shown |= {
            "orderListId": -1, "cummulativeQuoteQty": f"{order.filled_notional:f}",
            "transactTime": order.updated_ns // NS_PER_MS, "workingTime": order.created_ns // NS_PER_MS,
            "isWorking": True, "selfTradePreventionMode": "NONE",
        }  # fmt: skip
        if with_fills:
            shown["fills"] = [
                {
                    "price": str(instrument.price(fill.price)), "qty": str(instrument.qty(fill.qty)),
                    "commission": f"{fill.fee:f}", "commissionAsset": fill.fee_asset, "tradeId": fill.trade_id,
                }
                for fill in order.fills
            ]  # fmt: skip
        return shown

    def _shown_fill(self, order: OrderRecord, fill: FillRecord) -> dict[str, Any]:
        instrument = self._exchange.instruments[order.symbol]
        quote = instrument.notional(fill.price, fill.qty)
        shown = {
            "symbol": order.symbol, "id": fill.trade_id, "orderId": order.order_id,
            "price": str(instrument.price(fill.price)), "qty": str(instrument.qty(fill.qty)), "quoteQty": f"{quote:f}",
            "commission": f"{fill.fee:f}", "commissionAsset": fill.fee_asset, "time": fill.ts_ns // NS_PER_MS,
        }  # fmt: skip
        if self._futures:
            return shown | {
                "buyer": order.side is Side.BUY, "maker": fill.maker, "side": order.side.name, "positionSide": "BOTH",
                "realizedPnl": f"{fill.realised:f}", "marginAsset": "USDT",
            }  # fmt: skip
        return shown | {"isBuyer": order.side is Side.BUY, "isMaker": fill.maker, "isBestMatch": True}


def _which(params: Params) -> dict[str, Any]:
    """An order by its number or its client id."""
    if "orderId" in params:
        return {"order_id": int(params["orderId"])}
    return {"client_id": params.get("origClientOrderId", "")}


def time_in_force_of(order: OrderRecord, futures: bool) -> str:
    if order.time_in_force is TimeInForce.POST_ONLY:
        return "GTX" if futures else "GTC"
    return order.time_in_force.value.upper() if order.type is OrderType.LIMIT else "GTC"


def type_of(order: OrderRecord, futures: bool) -> str:
    if order.time_in_force is TimeInForce.POST_ONLY and not futures:
        return "LIMIT_MAKER"
    return order.type.value.upper()
