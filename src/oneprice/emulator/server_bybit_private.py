"""Bybit's signed calls on the practice markets: orders, executions, wallet, fees, positions; by REST and `/v5/trade`.

An answer to an order says only that it was accepted (its number); what becomes of it is told by the private stream
(`server_bybit_user.py`). So a post-only order that would take is accepted here and cancelled at once, and a cancel that
comes too late for a fill is accepted, too. The account is a unified one in one-way mode; the practice markets keep a
wallet each, and the unified wallet shows their sum."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from oneprice.emulator.events import Balance, Event, NewOrder, OrderRecord, OrderUpdated, Reject, RejectCode
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.order_faults import fill_first, place_half
from oneprice.emulator.server_bybit_http import PARAMETER, BybitError, Gate, Params, Route, order_limit_of, rejected
from oneprice.emulator.server_bybit_rest import Markets, number, page, plain, trade_id_of
from oneprice.emulator.server_bybit_rows import (
    TIMES,
    TOO_LATE,
    WOULD_TAKE,
    execution_row,
    link_id_of,
    order_id_of,
    order_row,
    position_row,
    wallet_row,
)
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument
from oneprice.model.order import OrderState, OrderType, ReportType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS

_LINK_ID = re.compile(r"[A-Za-z0-9_-]{1,36}")
_REFUSED_FROM = 9_000_000_000  # numbers of orders that never reached the book
_MAX_LEVERAGE = 100
_CLOSED_SHOWN = 500


class PrivateCalls:
    """What an account may ask and order."""

    def __init__(
        self, exchanges: Mapping[str, Exchange], markets: Markets, gate: Gate, faults: FaultPlan
    ) -> None:  # fmt: skip
        self._exchanges = exchanges
        self._markets = markets
        self._gate = gate
        self._faults = faults
        self._refused: defaultdict[tuple[str, str], dict[int, OrderRecord]] = defaultdict(dict)
        self._next_refused = _REFUSED_FROM
        self._links: set[tuple[str, str, str]] = set()  # (account, venue, orderLinkId): none may come twice, ever
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self._leverage: dict[tuple[str, str], int] = {}

    def routes(self) -> list[Route]:
        signed = self._gate.signed
        query = {
            "order/realtime": self._realtime, "order/history": self._history, "execution/list": self._executions,
            "account/wallet-balance": self._wallet_balance, "account/fee-rate": self._fee_rate,
            "account/info": self._account_info, "position/list": self._positions, "user/query-api": self._query_api,
            "asset/coin/query-info": self._coins,
        }  # fmt: skip
        routes: list[Route] = [("GET", f"/v5/{path}", signed(call, group=path)) for path, call in query.items()]
        return [
            *routes,
            ("POST", "/v5/order/create", signed(self._create, group="order/create", limit=order_limit_of)),
            ("POST", "/v5/order/cancel", signed(self.cancel, group="order/cancel", limit=order_limit_of)),
            ("POST", "/v5/order/cancel-all", signed(self._cancel_all, group="order/cancel-all", limit=order_limit_of)),
            ("POST", "/v5/position/set-leverage", signed(self._set_leverage, group="position")),
            ("POST", "/v5/position/switch-mode", signed(self._switch_mode, group="position")),
        ]

    def take_events(self, venue: str) -> list[Event]:
        """What was decided here, before the market: the private stream tells it like the market's own events."""
        return self._events.pop(venue, [])

    # -- placing ------------------------------------------------------------------------------------------------------

    async def _create(self, account: str, params: Params) -> object:
        answer, hold_s = self.create(account, params)
        if hold_s > 0:
            await self._gate.hold(hold_s)
        return answer

    def create(self, account: str, params: Params) -> tuple[dict[str, str], float]:
        """Place an order; → (the answer, for how many seconds a fault keeps it back)."""
        exchange, instrument = self._markets.instrument(params)
        now_ns = self._gate.clock_ns()
        new = self._new_order(exchange, instrument, params)
        link = (account, exchange.venue, new.client_id)
        if link in self._links:
            raise rejected(Reject(RejectCode.DUPLICATE_CLIENT_ID, "duplicate"), spot=exchange.spot)
        if self._takes(FaultKind.REJECT, exchange, instrument):
            raise rejected(Reject(RejectCode.INSUFFICIENT_BALANCE, "fault"), spot=exchange.spot)
        try:
            # What may rest is not cut short, nor what fills whole or not at all; market orders are immediate, too.
            cut = new.time_in_force is TimeInForce.IOC and self._takes(FaultKind.PARTIAL_FILL, exchange, instrument)
            order = place_half(exchange, account, new, now_ns) if cut else exchange.place(account, new, now_ns)
        except Reject as reject:
            if reject.code is not RejectCode.WOULD_TAKE:
                raise rejected(reject, spot=exchange.spot) from reject
            order = self._refuse(account, exchange, new, now_ns)
        if new.client_id:
            self._links.add(link)
        fault = self._faults.take(
            FaultKind.TIMEOUT_AFTER_ACCEPT, exchange.venue, instrument.symbol, now_ns=now_ns
        )  # fmt: skip
        return self._named(exchange, order), fault.duration_s if fault is not None else 0.0

    def _new_order(self, exchange: Exchange, instrument: Instrument, params: Params) -> NewOrder:
        kind, side, link_id = params.get("orderType"), params.get("side"), str(params.get("orderLinkId") or "")
        if kind not in ("Limit", "Market") or side not in ("Buy", "Sell"):
            raise BybitError(PARAMETER, "params error: orderType or side invalid")
        if link_id and _LINK_ID.fullmatch(link_id) is None:
            raise BybitError(PARAMETER, "params error: orderLinkId invalid")
        if str(params.get("positionIdx") or "0") != "0":
            raise BybitError(PARAMETER, "position idx not match position mode")
        name = str(params.get("timeInForce") or "GTC")
        if name not in TIMES:
            raise BybitError(PARAMETER, f"params error: timeInForce invalid {name}")
        is_market = kind == "Market"
        default_unit = "quoteCoin" if side == "Buy" else "baseCoin"
        in_quote = exchange.spot and is_market and str(params.get("marketUnit") or default_unit) == "quoteCoin"
        amount = _decimal(params, "qty")
        try:
            qty = 0 if in_quote else instrument.qty_mantissa(amount)
        except InputError:
            raise rejected(Reject(RejectCode.LOT_SIZE, "digits"), spot=exchange.spot) from None
        try:
            price = 0 if is_market else instrument.price_mantissa(_decimal(params, "price"))
        except InputError:
            raise rejected(Reject(RejectCode.TICK_SIZE, "digits"), spot=exchange.spot) from None
        return NewOrder(
            symbol=instrument.symbol, side=Side.BUY if side == "Buy" else Side.SELL,
            type=OrderType.MARKET if is_market else OrderType.LIMIT,
            time_in_force=TimeInForce.IOC if is_market else TIMES[name], qty=qty, price=price, client_id=link_id,
            reduce_only=params.get("reduceOnly") in (True, "true") and not exchange.spot,
            quote_qty=amount if in_quote else None,
        )  # fmt: skip

    def _refuse(self, account: str, exchange: Exchange, new: NewOrder, now_ns: int) -> OrderRecord:
        """A post-only order that would take: accepted, then cancelled."""
        self._next_refused += 1
        order = OrderRecord(
            order_id=self._next_refused, account=account, symbol=new.symbol, side=new.side, type=new.type,
            time_in_force=new.time_in_force, price=new.price, qty=new.qty,
            client_id=new.client_id or f"x{self._next_refused}", created_ns=now_ns, updated_ns=now_ns,
            reduce_only=new.reduce_only, state=OrderState.CANCELLED, reject_reason=WOULD_TAKE,
        )  # fmt: skip
        self._refused[account, exchange.venue][order.order_id] = order
        self._tell(exchange, order, ReportType.CANCELLED, now_ns)
        return order

    def _tell(self, exchange: Exchange, order: OrderRecord, execution: ReportType, now_ns: int) -> None:
        told = OrderUpdated(account=order.account, record=order, execution=execution, fill=None, ts_ns=now_ns)
        self._events[exchange.venue].append(told)

    def _takes(self, kind: FaultKind, exchange: Exchange, instrument: Instrument) -> bool:
        now_ns = self._gate.clock_ns()
        return self._faults.take(kind, exchange.venue, instrument.symbol, now_ns=now_ns) is not None

    def _named(self, exchange: Exchange, order: OrderRecord) -> dict[str, str]:
        number_text = trade_id_of(order.order_id, spot=exchange.spot)
        return {"orderId": number_text, "orderLinkId": link_id_of(order)}

    # -- cancelling ---------------------------------------------------------------------------------------------------

    def cancel(self, account: str, params: Params) -> dict[str, str]:
        """Take an order out of the book by its number or the client's own id."""
        exchange, instrument = self._markets.instrument(params)
        now_ns = self._gate.clock_ns()
        try:
            order = exchange.order(account, instrument.symbol, **_which(exchange, params))
            if not order.state.is_final and self._takes(FaultKind.CANCEL_FILL_RACE, exchange, instrument):
                fill_first(exchange, order, now_ns)
                late = msgspec.structs.replace(order, reject_reason=TOO_LATE)
                self._tell(exchange, late, ReportType.ACCEPTED, now_ns)
                return self._named(exchange, order)
            return self._named(
                exchange, exchange.cancel(account, instrument.symbol, order_id=order.order_id, now_ns=now_ns)
            )
        except Reject as reject:
            raise rejected(reject, spot=exchange.spot) from reject

    def _cancel_all(self, account: str, params: Params) -> object:
        exchange, found = self._markets.instruments(params)
        if not exchange.spot and not any(params.get(name) for name in ("symbol", "baseCoin", "settleCoin")):
            raise BybitError(PARAMETER, "params error: symbol, baseCoin or settleCoin is needed")
        cancelled = [
            order
            for instrument in found
            for order in exchange.cancel_all(account, instrument.symbol, self._gate.clock_ns())
        ]
        return {"list": [self._named(exchange, order) for order in cancelled], "success": "1"}

    # -- asking -------------------------------------------------------------------------------------------------------

    def _orders(self, account: str, params: Params) -> tuple[Exchange, list[OrderRecord]]:
        """Orders of a category, newest first, as far as the parameters choose."""
        exchange, found = self._markets.instruments(params)
        symbols = {instrument.symbol for instrument in found}
        orders = [*exchange.all_orders(account), *self._refused[account, exchange.venue].values()]
        if params.get("orderId"):
            wanted = order_id_of(str(params["orderId"]), spot=exchange.spot)
            orders = [order for order in orders if order.order_id == wanted]
        elif params.get("orderLinkId"):
            orders = [order for order in orders if order.client_id == params["orderLinkId"]]
        orders = [order for order in orders if order.symbol in symbols]
        return exchange, sorted(orders, key=lambda order: (order.created_ns, order.order_id), reverse=True)

    def _realtime(self, account: str, params: Params) -> object:
        exchange, orders = self._orders(account, params)
        names = ("symbol", "baseCoin", "settleCoin", "orderId", "orderLinkId")
        if not exchange.spot and not any(params.get(name) for name in names):
            raise BybitError(PARAMETER, "params error: symbol, baseCoin or settleCoin is needed")
        if not params.get("orderId") and not params.get("orderLinkId"):
            closed = str(params.get("openOnly") or "0") == "1"
            orders = [order for order in orders if order.state.is_final == closed][:_CLOSED_SHOWN]
        return self._order_page(exchange, orders, params)

    def _history(self, account: str, params: Params) -> object:
        exchange, orders = self._orders(account, params)
        return self._order_page(exchange, [order for order in orders if order.state.is_final], params)

    def _order_page(self, exchange: Exchange, orders: list[OrderRecord], params: Params) -> object:
        skew_ns = self._skew_ns(params)
        rows = [order_row(exchange, order, skew_ns) for order in orders]
        return {"category": params["category"], **page(rows, params, default=20, most=50)}

    def _executions(self, account: str, params: Params) -> object:
        exchange, orders = self._orders(account, params)
        fills = sorted(
            ((fill.ts_ns, fill.trade_id, order, fill) for order in orders for fill in order.fills),
            key=lambda row: row[:2], reverse=True,
        )  # fmt: skip
        start_ms, end_ms = number(params, "startTime", 0), number(params, "endTime", 1 << 42)
        skew_ns = self._skew_ns(params)
        rows = [
            execution_row(exchange, order, fill, skew_ns)
            for ts_ns, _, order, fill in fills
            if start_ms <= (ts_ns + skew_ns) // NS_PER_MS <= end_ms
        ]
        return {"category": params["category"], **page(rows, params, default=50, most=100)}

    def wallet(self, account: str, assets: set[str] | None = None) -> dict[str, Any]:
        """The unified wallet, or the part of it that holds `assets`: the sum over the practice markets."""
        held: dict[str, Balance] = {}
        profit: dict[str, Decimal] = {}
        for exchange in self._exchanges.values():
            for asset, balance in exchange.balances(account).items():
                if assets is None or asset in assets:
                    so_far = held.get(asset, Balance(Decimal(0), Decimal(0)))
                    held[asset] = Balance(so_far.free + balance.free, so_far.locked + balance.locked)
            for symbol, position in exchange.positions(account).items():
                instrument = exchange.instruments[symbol]
                mark = Decimal(f"{exchange.market_state(symbol).mark:.8f}")
                gain = instrument.qty(position.qty) * (mark - position.entry_price)
                profit[instrument.settle] = profit.get(instrument.settle, Decimal(0)) + gain
        return wallet_row(held, profit)

    def _wallet_balance(self, account: str, params: Params) -> object:
        if params.get("accountType") not in (None, "", "UNIFIED"):
            raise BybitError(PARAMETER, "accountType only support UNIFIED.")
        wanted = str(params.get("coin") or "")
        return {"list": [self.wallet(account, set(wanted.split(",")) if wanted else None)]}

    def _fee_rate(self, account: str, params: Params) -> object:
        _, found = self._markets.instruments(params)
        rows = [
            {
                "symbol": one.symbol, "takerFeeRate": plain(one.taker_fee), "makerFeeRate": plain(one.maker_fee),
                "baseCoin": "",
            }
            for one in found
        ]  # fmt: skip
        return {"category": params["category"], "list": rows}

    def _account_info(self, account: str, params: Params) -> object:
        return {
            "marginMode": "REGULAR_MARGIN", "updatedTime": str(self._gate.now_ns() // NS_PER_MS),
            "unifiedMarginStatus": 6, "dcpStatus": "OFF", "timeWindow": 10, "smpGroup": 0, "isMasterTrader": False,
            "spotHedgingStatus": "OFF",
        }  # fmt: skip

    def _query_api(self, account: str, params: Params) -> object:
        return {
            "id": "1", "note": account, "readOnly": 0, "secret": "", "type": 1, "ips": ["*"], "unified": 0, "uta": 1,
            "permissions": {"ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": []},
            "userID": 1, "vipLevel": "No VIP", "isMaster": True, "parentUid": "0",
        }  # fmt: skip

    def _coins(self, account: str, params: Params) -> object:
        listed = [one for exchange in self._exchanges.values() for one in exchange.instruments.values()]
        coins = sorted({one.base for one in listed} | {one.quote for one in listed})
        wanted = params.get("coin")
        rows = [
            {"name": coin, "coin": coin, "remainAmount": "0", "chains": []} for coin in coins if wanted in (None, coin)
        ]
        return {"rows": rows}

    # -- positions ----------------------------------------------------------------------------------------------------

    def position(self, exchange: Exchange, account: str, symbol: str) -> dict[str, Any]:
        """A position as it is now."""
        return position_row(
            exchange, exchange.instruments[symbol], exchange.positions(account).get(symbol),
            leverage=self._leverage.get((account, symbol), 1), now_ns=self._gate.now_ns({"category": "linear"}),
        )  # fmt: skip

    def _positions(self, account: str, params: Params) -> object:
        exchange, found = self._contracts(params)
        held = exchange.positions(account)
        shown = [
            one.symbol for one in found if params.get("symbol") or (one.symbol in held and held[one.symbol].qty != 0)
        ]
        rows = [self.position(exchange, account, symbol) for symbol in shown]
        return {"category": "linear", **page(rows, params, default=20, most=200)}

    def _set_leverage(self, account: str, params: Params) -> object:
        exchange, instrument = self._markets.instrument(params)
        buy, sell = _decimal(params, "buyLeverage"), _decimal(params, "sellLeverage")
        if exchange.spot or buy != sell or not 1 <= buy <= _MAX_LEVERAGE or buy != int(buy):
            raise BybitError(PARAMETER, "params error: leverage invalid")
        if self._leverage.get((account, instrument.symbol), 1) == int(buy):
            raise BybitError(110043, "leverage not modified")
        self._leverage[account, instrument.symbol] = int(buy)
        exchange.set_leverage(account, instrument.symbol, int(buy))
        return {}

    def _switch_mode(self, account: str, params: Params) -> object:
        self._contracts(params)
        if str(params.get("mode")) != "0":
            raise BybitError(PARAMETER, "params error: only one-way mode (0) is offered")
        return {}

    def _contracts(self, params: Params) -> tuple[Exchange, list[Instrument]]:
        """As `Markets.instruments`, where spot has nothing to offer."""
        exchange, found = self._markets.instruments(params)
        if exchange.spot:
            raise BybitError(PARAMETER, "category only support linear")
        return exchange, found

    def _skew_ns(self, params: Params) -> int:
        return self._gate.now_ns(params) - self._gate.clock_ns()


def _decimal(params: Params, name: str) -> Decimal:
    try:
        value = Decimal(str(params.get(name)))
    except InvalidOperation:
        raise BybitError(PARAMETER, f"params error: {name} invalid") from None
    if not value.is_finite() or value <= 0:
        raise BybitError(PARAMETER, f"params error: {name} invalid")
    return value


def _which(exchange: Exchange, params: Params) -> dict[str, Any]:
    """How `Exchange.order` finds what a request names."""
    if params.get("orderId"):
        return {"order_id": order_id_of(str(params["orderId"]), spot=exchange.spot)}
    if params.get("orderLinkId"):
        return {"client_id": str(params["orderLinkId"])}
    raise BybitError(PARAMETER, "params error: orderId or orderLinkId is needed")
