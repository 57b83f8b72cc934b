"""Orders and fills of a practice account as Binance writes them by REST and over the WebSocket API.

Spot prints eight decimals of everything; futures print a market's own. Fees and balances keep every digit that the
practice market computes, so that what a client adds up is what the market holds."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from oneprice.emulator.events import FillRecord, OrderRecord
from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.model.order import OrderState, OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS

STATUS = {
    OrderState.OPEN: "NEW", OrderState.PARTIALLY_FILLED: "PARTIALLY_FILLED", OrderState.FILLED: "FILLED",
    OrderState.CANCELLED: "CANCELED", OrderState.EXPIRED: "EXPIRED", OrderState.REJECTED: "REJECTED",
}  # fmt: skip
_PLACES = 8


def is_spot(instrument: Instrument) -> bool:
    return instrument.kind is InstrumentKind.SPOT


def price_text(instrument: Instrument, mantissa: int) -> str:
    """A price as the venue prints it: `61837.63000000` on spot, `61837.6` on a perpetual with that tick."""
    price = instrument.price(mantissa)
    return f"{price:.{_PLACES}f}" if is_spot(instrument) else str(price)


def qty_text(instrument: Instrument, mantissa: int) -> str:
    """A quantity as the venue prints it."""
    qty = instrument.qty(mantissa)
    return f"{qty:.{_PLACES}f}" if is_spot(instrument) else str(qty)


def money(value: Decimal) -> str:
    """An amount with at least eight decimals, and more where it has more.

    >>> money(Decimal("0.5")), money(Decimal("0.00000000125"))
    ('0.50000000', '0.00000000125')
    """
    exponent = value.as_tuple().exponent
    return f"{value:.{_PLACES}f}" if isinstance(exponent, int) and exponent >= -_PLACES else f"{value.normalize():f}"


def type_of(order: OrderRecord, instrument: Instrument) -> str:
    if order.time_in_force is TimeInForce.POST_ONLY and is_spot(instrument):
        return "LIMIT_MAKER"
    return order.type.value.upper()


def time_in_force_of(order: OrderRecord, instrument: Instrument) -> str:
    if order.time_in_force is TimeInForce.POST_ONLY:
        return "GTC" if is_spot(instrument) else "GTX"
    return order.time_in_force.value.upper() if order.type is OrderType.LIMIT else "GTC"


def average_of(order: OrderRecord, instrument: Instrument) -> Decimal:
    """Average price of what is filled, 0 before."""
    return order.filled_notional / instrument.qty(order.filled_qty) if order.filled_qty else Decimal(0)


def order_row(order: OrderRecord, instrument: Instrument, skew_ns: int) -> dict[str, Any]:
    """An order as a query shows it; times in ms, moved by the venue's clock error."""
    created_ms, updated_ms = (order.created_ns + skew_ns) // NS_PER_MS, (order.updated_ns + skew_ns) // NS_PER_MS
    row: dict[str, Any] = {
        "symbol": order.symbol, "orderId": order.order_id, "clientOrderId": order.client_id,
        "price": price_text(instrument, order.price), "origQty": qty_text(instrument, order.qty),
        "executedQty": qty_text(instrument, order.filled_qty), "status": STATUS[order.state],
        "timeInForce": time_in_force_of(order, instrument), "type": type_of(order, instrument), "side": order.side.name,
        "stopPrice": price_text(instrument, 0), "time": created_ms, "updateTime": updated_ms,
        "selfTradePreventionMode": "NONE",
    }  # fmt: skip
    if is_spot(instrument):
        return row | {
            "orderListId": -1, "cummulativeQuoteQty": money(order.filled_notional), "icebergQty": "0.00000000",
            "isWorking": True, "workingTime": created_ms, "origQuoteOrderQty": "0.00000000",
        }  # fmt: skip
    return row | {
        "avgPrice": f"{average_of(order, instrument):.5f}", "cumQuote": money(order.filled_notional),
        "reduceOnly": order.reduce_only, "closePosition": False, "positionSide": "BOTH",
        "workingType": "CONTRACT_PRICE", "priceProtect": False, "origType": type_of(order, instrument),
        "priceMatch": "NONE", "goodTillDate": 0,
    }  # fmt: skip


def placed_row(order: OrderRecord, instrument: Instrument, kind: str, skew_ns: int) -> dict[str, Any]:
    """The answer to an order. `kind`: ACK, RESULT or FULL.

    A futures ACK has all fields and says NEW with nothing filled, whatever became of the order meanwhile.
    """
    if not is_spot(instrument):
        told = order
        if kind == "ACK":
            told = msgspec.structs.replace(order, state=OrderState.OPEN, filled_qty=0, filled_notional=Decimal(0))
        row = order_row(told, instrument, skew_ns)
        return {name: value for name, value in row.items() if name != "time"} | {"cumQty": row["executedQty"]}
    row = order_row(order, instrument, skew_ns)
    names = ["symbol", "orderId", "orderListId", "clientOrderId", "transactTime"]
    if kind != "ACK":
        names += [
            "price", "origQty", "executedQty", "origQuoteOrderQty", "cummulativeQuoteQty", "status", "timeInForce",
            "type", "side", "workingTime", "selfTradePreventionMode",
        ]  # fmt: skip
    row["transactTime"] = row["updateTime"]
    answer = {name: row[name] for name in names}
    if kind == "FULL":
        answer["fills"] = [
            {
                "price": price_text(instrument, fill.price), "qty": qty_text(instrument, fill.qty),
                "commission": money(fill.fee), "commissionAsset": fill.fee_asset, "tradeId": fill.trade_id,
            }
            for fill in order.fills
        ]  # fmt: skip
    return answer


def cancelled_row(order: OrderRecord, instrument: Instrument, cancel_id: str, skew_ns: int) -> dict[str, Any]:
    """The answer to a cancel. On spot `clientOrderId` is the cancel's own id, and `origClientOrderId` the order's."""
    row = placed_row(order, instrument, "RESULT", skew_ns)
    if not is_spot(instrument):
        return row
    del row["workingTime"]
    return row | {"clientOrderId": cancel_id, "origClientOrderId": order.client_id}


def fill_row(order: OrderRecord, fill: FillRecord, instrument: Instrument, skew_ns: int) -> dict[str, Any]:
    """A fill as myTrades (spot) and userTrades (futures) show it."""
    row: dict[str, Any] = {
        "symbol": order.symbol, "id": fill.trade_id, "orderId": order.order_id,
        "price": price_text(instrument, fill.price), "qty": qty_text(instrument, fill.qty),
        "quoteQty": money(instrument.notional(fill.price, fill.qty)), "commission": money(fill.fee),
        "commissionAsset": fill.fee_asset, "time": (fill.ts_ns + skew_ns) // NS_PER_MS,
    }  # fmt: skip
    bought = order.side is Side.BUY
    if is_spot(instrument):
        return row | {"orderListId": -1, "isBuyer": bought, "isMaker": fill.maker, "isBestMatch": True}
    return row | {
        "buyer": bought, "maker": fill.maker, "side": order.side.name, "positionSide": "BOTH",
        "realizedPnl": money(fill.realised), "marginAsset": instrument.settle,
    }  # fmt: skip
