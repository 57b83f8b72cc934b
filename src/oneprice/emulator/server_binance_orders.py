"""Binance's orders on a practice market: place, cancel, query; by REST and over the WebSocket API.

What the venue refuses is refused here with its codes before the market sees it: a missing or unknown side, type or time
in force is never replaced by a default. The faults of orders happen here, too."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

from oneprice.emulator.events import NewOrder, OrderRecord, Reject, RejectCode
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.http_binance import Gate, Route, as_text
from oneprice.emulator.http_binance_errors import BinanceError, Params, forbidden, needed, positive, rejected, whole
from oneprice.emulator.order_faults import fill_first, place_half
from oneprice.emulator.server_binance_rows import cancelled_row, fill_row, order_row, placed_row
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument
from oneprice.model.order import OrderState, OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS

WsCall = Callable[[Any, Mapping[str, Any]], object]

_SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
_SPOT_TIMES = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
_FUTURES_TIMES = {**_SPOT_TIMES, "GTX": TimeInForce.POST_ONLY}
_SPOT_TYPES = frozenset({"LIMIT", "MARKET", "LIMIT_MAKER"})
_FUTURES_TYPES = frozenset({"LIMIT", "MARKET"})
_SPOT_ID = re.compile(r"[a-zA-Z0-9-_]{1,36}")
_FUTURES_ID = re.compile(r"[\.A-Z:/a-z0-9_-]{1,36}")
_TIMED_OUT = "Timeout waiting for response from backend server. Send status unknown; execution status unknown."


class OrderCalls:
    """What an account may order, and ask about its orders."""

    def __init__(self, exchange: Exchange, gate: Gate, faults: FaultPlan, *, venue: str) -> None:
        self.cancel_ids: dict[int, str] = {}  # order → the id of the request that cancelled it
        self._exchange = exchange
        self._gate = gate
        self._faults = faults
        self._venue = venue

    def routes(self) -> list[Route]:
        signed = self._gate.signed
        if self._gate.futures:
            v1 = "/fapi/v1"
            return [
                ("POST", f"{v1}/order", signed(self._place, counts_orders=True)),
                ("DELETE", f"{v1}/order", signed(self._cancel, counts_orders=True)),
                ("GET", f"{v1}/order", signed(self._query)),
                ("GET", f"{v1}/openOrders", signed(self._open, weight=lambda params: 1 if "symbol" in params else 40)),
                ("DELETE", f"{v1}/allOpenOrders", signed(self._cancel_all)),
                ("GET", f"{v1}/allOrders", signed(self._all, weight=5)),
                ("GET", f"{v1}/userTrades", signed(self._fills, weight=5)),
            ]
        v3 = "/api/v3"
        return [
            ("POST", f"{v3}/order", signed(self._place, counts_orders=True)),
            ("POST", f"{v3}/order/test", signed(self._test)),
            ("DELETE", f"{v3}/order", signed(self._cancel, counts_orders=True)),
            ("GET", f"{v3}/order", signed(self._query, weight=4)),
            ("GET", f"{v3}/openOrders", signed(self._open, weight=lambda params: 6 if "symbol" in params else 80)),
            ("DELETE", f"{v3}/openOrders", signed(self._cancel_all, counts_orders=True)),
            ("GET", f"{v3}/allOrders", signed(self._all, weight=20)),
            ("GET", f"{v3}/myTrades", signed(self._fills, weight=lambda params: 5 if "orderId" in params else 20)),
        ]

    def ws_calls(self) -> dict[str, WsCall]:
        """The same calls as methods of the WebSocket API. A call that gives None is never answered."""
        return {
            "order.place": self._ws(self._place_or_be_silent),
            "order.cancel": self._ws(self._cancel),
            "order.status": self._ws(self._query),
            "openOrders.status": self._ws(self._open),
            "openOrders.cancelAll": self._ws(self._cancel_all),
            "allOrders": self._ws(self._all),
            "myTrades": self._ws(self._fills),
        }

    def _ws(self, call: Callable[[str, Params], object]) -> WsCall:
        def answer(socket: Any, params: Mapping[str, Any]) -> object:
            return call(self._gate.ws_account(params), {name: as_text(value) for name, value in params.items()})

        return answer

    # -- placing ------------------------------------------------------------------------------------------------------

    async def _place(self, account: str, params: Params) -> object:
        answer = self._place_now(account, params)
        held_s = self._held_back_s(params)
        if held_s is not None:
            await asyncio.sleep(held_s)
            raise BinanceError(-1007, _TIMED_OUT, 408 if self._gate.futures else 504)
        return answer

    def _place_or_be_silent(self, account: str, params: Params) -> object:
        answer = self._place_now(account, params)
        return answer if self._held_back_s(params) is None else None

    def _held_back_s(self, params: Params) -> float | None:
        """For how many seconds a fault keeps the answer to an accepted order back; None: it does not."""
        fault = self._faults.take(
            FaultKind.TIMEOUT_AFTER_ACCEPT, self._venue, params.get("symbol", ""), now_ns=self._gate.clock_ns()
        )
        return None if fault is None else fault.duration_s

    def _test(self, account: str, params: Params) -> object:
        self._new_order(params)
        return {}

    def _place_now(self, account: str, params: Params) -> object:
        new, kind = self._new_order(params), self._answer_kind(params)
        if self._gate.takes(FaultKind.REJECT, new.symbol):
            text = "Account has insufficient balance for requested action."
            raise rejected(Reject(RejectCode.INSUFFICIENT_BALANCE, text), futures=self._gate.futures)
        # What may rest is not cut short, and an amount of quote has no half before its price is known.
        cut = new.time_in_force is TimeInForce.IOC and new.quote_qty is None
        cut = cut and self._gate.takes(FaultKind.PARTIAL_FILL, new.symbol)
        self._gate.orders.spend(account)
        now_ns = self._gate.clock_ns()
        try:
            order = (
                place_half(self._exchange, account, new, now_ns) if cut else self._exchange.place(account, new, now_ns)
            )
        except Reject as reject:
            self._gate.orders.give_back(account)
            if self._gate.futures and reject.code is RejectCode.PRICE_BAND:
                raise self._out_of_band(new) from reject
            raise rejected(reject, futures=self._gate.futures) from reject
        if order.state is OrderState.FILLED:
            self._gate.orders.give_back(account)
        answer = placed_row(order, self._exchange.instruments[new.symbol], kind, self._gate.skew_ns())
        if "origQuoteOrderQty" in answer and new.quote_qty is not None:
            answer["origQuoteOrderQty"] = f"{new.quote_qty:.8f}"
        return answer

    def _answer_kind(self, params: Params) -> str:
        """ACK, RESULT or FULL; FULL is spot's default (but for LIMIT_MAKER), ACK the futures'."""
        acknowledge_only = self._gate.futures or params.get("type") == "LIMIT_MAKER"
        kind = params.get("newOrderRespType", "ACK" if acknowledge_only else "FULL")
        if kind not in (("ACK", "RESULT") if self._gate.futures else ("ACK", "RESULT", "FULL")):
            raise BinanceError(-1136, "Invalid newOrderRespType.")
        return kind

    def _out_of_band(self, new: NewOrder) -> BinanceError:
        above = new.price > self._exchange.market_state(new.symbol).last_price
        said = f"Limit price can't be {'higher' if above else 'lower'} than the price band allows."
        return BinanceError(-4016 if above else -4024, said)

    def _new_order(self, params: Params) -> NewOrder:
        instrument, futures = self._instrument(params), self._gate.futures
        side, kind = _SIDES.get(needed(params, "side")), needed(params, "type")
        if side is None:
            raise BinanceError(-1117, "Invalid side.")
        if kind not in (_FUTURES_TYPES if futures else _SPOT_TYPES):
            if futures:
                said = "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
                raise BinanceError(-4120, said)
            raise BinanceError(-1116, "Invalid orderType.")
        if futures and params.get("positionSide", "BOTH") != "BOTH":
            raise BinanceError(-4061, "Order's position side does not match user's setting.")
        is_market = kind == "MARKET"
        if is_market:
            forbidden(params, "price")
            forbidden(params, "timeInForce")
        in_quote = is_market and not futures and "quoteOrderQty" in params
        if in_quote:
            forbidden(params, "quantity")
        return NewOrder(
            symbol=instrument.symbol, side=side, type=OrderType.MARKET if is_market else OrderType.LIMIT,
            time_in_force=self._time_in_force(kind, params),
            qty=0 if in_quote else self._mantissa(params, "quantity", instrument.qty_mantissa),
            price=0 if is_market else self._mantissa(params, "price", instrument.price_mantissa),
            client_id=self._client_id(params), reduce_only=params.get("reduceOnly", "false").lower() == "true",
            quote_qty=positive(params, "quoteOrderQty") if in_quote else None,
        )  # fmt: skip

    def _time_in_force(self, kind: str, params: Params) -> TimeInForce:
        if kind == "MARKET":
            return TimeInForce.IOC
        if kind == "LIMIT_MAKER":
            forbidden(params, "timeInForce")
            return TimeInForce.POST_ONLY
        found = (_FUTURES_TIMES if self._gate.futures else _SPOT_TIMES).get(needed(params, "timeInForce"))
        if found is None:
            raise BinanceError(-1115, "Invalid timeInForce.")
        return found

    def _mantissa(self, params: Params, name: str, of: Callable[[Decimal], int]) -> int:
        try:
            return of(positive(params, name))
        except InputError:
            futures = "Precision is over the maximum defined for this asset."
            said = futures if self._gate.futures else f"Parameter '{name}' has too much precision."
            raise BinanceError(-1111, said) from None

    def _client_id(self, params: Params, name: str = "newClientOrderId") -> str:
        given = params.get(name, "")
        legal = _FUTURES_ID if self._gate.futures else _SPOT_ID
        if given and self._gate.futures and len(given) > 36:
            raise BinanceError(-4015, "Client order id length should be less than 36 chars")
        if given and legal.fullmatch(given) is None:
            said = f"Illegal characters found in parameter '{name}'; legal range is '^{legal.pattern}$'."
            raise BinanceError(-1100, said)
        return given

    # -- cancelling ---------------------------------------------------------------------------------------------------

    def _cancel(self, account: str, params: Params) -> object:
        instrument, now_ns = self._instrument(params), self._gate.clock_ns()
        which = _which(params)
        try:
            resting = self._exchange.order(account, instrument.symbol, **which)
            if not resting.state.is_final and self._gate.takes(FaultKind.CANCEL_FILL_RACE, instrument.symbol):
                fill_first(self._exchange, resting, now_ns)
            # Before the market knows: the private stream tells the id, too.
            self.cancel_ids[resting.order_id] = self._client_id(params) or f"cancel{resting.order_id}"
            order = self._exchange.cancel(account, instrument.symbol, **which, now_ns=now_ns)
        except Reject as reject:
            raise rejected(reject, futures=self._gate.futures, cancel=True) from reject
        return cancelled_row(order, instrument, self.cancel_ids[order.order_id], self._gate.skew_ns())

    def _cancel_all(self, account: str, params: Params) -> object:
        instrument = self._instrument(params)
        resting = self._exchange.open_orders(account, instrument.symbol)
        if not resting and not self._gate.futures:
            raise BinanceError(-2011, "Unknown order sent.")
        self.cancel_ids |= {order.order_id: f"cancel{order.order_id}" for order in resting}
        cancelled = self._exchange.cancel_all(account, instrument.symbol, self._gate.clock_ns())
        if self._gate.futures:
            return {"code": 200, "msg": "The operation of cancel all open order is done."}
        skew_ns = self._gate.skew_ns()
        return [cancelled_row(order, instrument, self.cancel_ids[order.order_id], skew_ns) for order in cancelled]

    # -- asking -------------------------------------------------------------------------------------------------------

    def _query(self, account: str, params: Params) -> object:
        instrument = self._instrument(params)
        return order_row(
            self._exchange.order(account, instrument.symbol, **_which(params)), instrument, self._gate.skew_ns()
        )

    def _open(self, account: str, params: Params) -> object:
        symbol = self._instrument(params).symbol if "symbol" in params else None
        return self._rows(self._exchange.open_orders(account, symbol))

    def _all(self, account: str, params: Params) -> object:
        """From `orderId` on, or between two times; the newest `limit`, oldest first."""
        orders = self._exchange.all_orders(account, self._instrument(params).symbol)
        least = whole(params, "orderId", 0)
        within = self._between(params)
        kept = [order for order in orders if order.order_id >= least and within(order.created_ns)]
        return self._rows(_page(kept, params, from_start="orderId" in params or "startTime" in params))

    def _fills(self, account: str, params: Params) -> object:
        """From `fromId` on, of one order, or between two times; the newest `limit`, oldest first."""
        instrument, skew_ns = self._instrument(params), self._gate.skew_ns()
        within, least = self._between(params), whole(params, "fromId", 0)
        only = whole(params, "orderId", -1)
        kept = [
            (order, fill)
            for order, fill in self._exchange.fills(account, instrument.symbol)
            if fill.trade_id >= least and only in (-1, order.order_id) and within(fill.ts_ns)
        ]
        kept.sort(key=lambda row: row[1].trade_id)
        page = _page(kept, params, from_start="fromId" in params or "startTime" in params)
        return [fill_row(order, fill, instrument, skew_ns) for order, fill in page]

    def _rows(self, orders: list[OrderRecord]) -> list[dict[str, Any]]:
        skew_ns = self._gate.skew_ns()
        return [order_row(order, self._exchange.instruments[order.symbol], skew_ns) for order in orders]

    def _between(self, params: Params) -> Callable[[int], bool]:
        start_ms, end_ms = whole(params, "startTime", 0), whole(params, "endTime", 1 << 60)
        skew_ns = self._gate.skew_ns()
        return lambda ts_ns: start_ms <= (ts_ns + skew_ns) // NS_PER_MS <= end_ms

    def _instrument(self, params: Params) -> Instrument:
        found = self._exchange.instruments.get(needed(params, "symbol"))
        if found is None:
            raise BinanceError(-1121, "Invalid symbol.")
        return found


def _page(rows: list[Any], params: Params, *, from_start: bool) -> list[Any]:
    limit = whole(params, "limit", 500, most=1000)
    return rows[:limit] if from_start else rows[-limit:]


def _which(params: Params) -> dict[str, Any]:
    """How `Exchange.order` finds what a request names: by number, or by client id."""
    if params.get("orderId"):
        return {"order_id": whole(params, "orderId", 0)}
    if params.get("origClientOrderId"):
        return {"client_id": params["origClientOrderId"]}
    raise BinanceError(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
