"""Orders, executions, positions and wallets of a practice account as Bybit writes them, on REST and private stream alike.

state of the market | spot                                | linear
--------------------|-------------------------------------|----------------------------------
open                | New                                 | New
partially filled    | PartiallyFilled                     | PartiallyFilled
filled              | Filled                              | Filled
cancelled, expired  | Cancelled, PartiallyFilledCanceled  | Cancelled, also with a filled part
refused             | Rejected                            | Rejected"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from oneprice.emulator.events import Balance, FillRecord, FundingPaid, OrderRecord, PositionRecord
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.server_bybit_rest import plain, trade_id_of
from oneprice.model.instrument import Instrument
from oneprice.model.order import OrderState, OrderType, Side, TimeInForce
from oneprice.model.time import NS_PER_MS

TIMES = {
    "GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK, "PostOnly": TimeInForce.POST_ONLY,
}  # fmt: skip
_TIME_NAMES = {value: name for name, value in TIMES.items()}
WOULD_TAKE = "EC_PostOnlyWillTakeLiquidity"
TOO_LATE = "EC_OrigClOrdIDDoesNotExist"
_ENDED = frozenset({OrderState.CANCELLED, OrderState.EXPIRED})


def order_id_of(text: str, *, spot: bool) -> int:
    """An order number from its text; -1 for a text that is none."""
    if spot:
        return int(text) if text.isdigit() else -1
    try:
        return UUID(text).int
    except ValueError:
        return -1


def link_id_of(order: OrderRecord) -> str:
    """The client's own id; empty where it gave none and the market made one up."""
    return "" if order.client_id == f"x{order.order_id}" else order.client_id


def _side(side: Side) -> str:
    return "Buy" if side is Side.BUY else "Sell"


def _status(order: OrderRecord, *, spot: bool) -> str:
    if order.state in _ENDED:
        return "PartiallyFilledCanceled" if spot and order.filled_qty > 0 else "Cancelled"
    if order.state is OrderState.FILLED:
        return "Filled"
    if order.state is OrderState.REJECTED:
        return "Rejected"
    return "PartiallyFilled" if order.filled_qty > 0 else "New"


def _reason(order: OrderRecord, *, spot: bool) -> tuple[str, str]:
    """(cancelType, rejectReason)."""
    if order.reject_reason == TOO_LATE:
        return "CancelByUser", TOO_LATE
    if order.reject_reason:
        return "UNKNOWN", order.reject_reason
    if order.state is OrderState.CANCELLED:
        return "CancelByUser", "EC_NoError" if spot else "EC_PerCancelRequest"
    if order.state is OrderState.EXPIRED and order.filled_qty == 0:
        return "UNKNOWN", "EC_NoImmediateQtyToFill"
    return "UNKNOWN", "EC_NoError"


def order_row(exchange: Exchange, order: OrderRecord, skew_ns: int) -> dict[str, Any]:
    """An order, as it is (REST) or was (private stream)."""
    instrument, spot = exchange.instruments[order.symbol], exchange.spot
    filled, value = instrument.qty(order.filled_qty), order.filled_notional
    is_over = order.state.is_final
    left = 0 if is_over else order.qty - order.filled_qty
    fees: dict[str, Decimal] = {}
    for fill in order.fills:
        fees[fill.fee_asset] = fees.get(fill.fee_asset, Decimal(0)) + fill.fee
    cancel_type, reason = _reason(order, spot=spot)
    row: dict[str, Any] = {
        "category": "spot" if spot else "linear", "symbol": order.symbol,
        "orderId": trade_id_of(order.order_id, spot=spot), "orderLinkId": link_id_of(order), "blockTradeId": "",
        "side": _side(order.side), "orderType": "Market" if order.type is OrderType.MARKET else "Limit",
        "price": plain(instrument.price(order.price)), "qty": plain(instrument.qty(order.qty)),
        "timeInForce": _TIME_NAMES[order.time_in_force], "orderStatus": _status(order, spot=spot),
        "cancelType": cancel_type, "rejectReason": reason, "avgPrice": plain(value / filled) if filled else "",
        "leavesQty": plain(instrument.qty(left)), "leavesValue": plain(instrument.notional(order.price, left)),
        "cumExecQty": plain(filled), "cumExecValue": plain(value),
        "cumExecFee": plain(sum(fees.values(), Decimal(0))),
        "cumFeeDetail": {asset: plain(fee) for asset, fee in fees.items()}, "reduceOnly": order.reduce_only,
        "closeOnTrigger": False, "isLeverage": "0" if spot else "", "positionIdx": 0, "stopOrderType": "",
        "triggerPrice": "", "takeProfit": "", "stopLoss": "", "smpType": "None", "smpGroup": 0, "smpOrderId": "",
        "createdTime": str((order.created_ns + skew_ns) // NS_PER_MS),
        "updatedTime": str((order.updated_ns + skew_ns) // NS_PER_MS),
        "closedPnl": plain(sum((fill.realised for fill in order.fills), Decimal(0))),
        "feeCurrency": next(iter(fees), ""),
    }  # fmt: skip
    # `tpslMode` belongs to contracts: clients tell the products by it where the category does not help them.
    return row | ({"marketUnit": "baseCoin"} if spot else {"tpslMode": ""})


def execution_row(exchange: Exchange, order: OrderRecord, fill: FillRecord, skew_ns: int) -> dict[str, Any]:
    """One fill of an order."""
    instrument, spot = exchange.instruments[order.symbol], exchange.spot
    so_far = 0
    for earlier in order.fills:
        so_far += earlier.qty
        if earlier.trade_id == fill.trade_id:
            break
    rate = instrument.maker_fee if fill.maker else instrument.taker_fee
    mark = exchange.market_state(order.symbol).mark
    return {
        "category": "spot" if spot else "linear", "symbol": order.symbol,
        "orderId": trade_id_of(order.order_id, spot=spot), "orderLinkId": link_id_of(order),
        "side": _side(order.side), "orderType": "Market" if order.type is OrderType.MARKET else "Limit",
        "orderPrice": plain(instrument.price(order.price)), "orderQty": plain(instrument.qty(order.qty)),
        "leavesQty": plain(instrument.qty(order.qty - so_far)), "execId": trade_id_of(fill.trade_id, spot=spot),
        "execPrice": plain(instrument.price(fill.price)), "execQty": plain(instrument.qty(fill.qty)),
        "execValue": plain(instrument.notional(fill.price, fill.qty)), "execFee": plain(fill.fee),
        "feeRate": plain(rate), "feeCurrency": fill.fee_asset, "execType": "Trade",
        "execTime": str((fill.ts_ns + skew_ns) // NS_PER_MS), "isMaker": fill.maker, "isLeverage": "0",
        "stopOrderType": "", "markPrice": "" if spot else f"{mark:.{-instrument.price_exponent}f}",
        "indexPrice": "", "blockTradeId": "", "closedSize": "", "execPnl": plain(fill.realised), "seq": fill.trade_id,
    }  # fmt: skip


def funding_row(exchange: Exchange, paid: FundingPaid, number: int, skew_ns: int) -> dict[str, Any]:
    """A funding payment, which this venue reports as an execution; a positive fee was paid by the account."""
    instrument, state = exchange.instruments[paid.symbol], exchange.market_state(paid.symbol)
    held = exchange.positions(paid.account)[paid.symbol]
    size, mark = abs(instrument.qty(held.qty)), f"{state.mark:.{-instrument.price_exponent}f}"
    return {
        "category": "linear", "symbol": paid.symbol, "orderId": str(UUID(int=number)), "orderLinkId": "",
        "side": "Sell" if held.qty > 0 else "Buy", "orderType": "UNKNOWN", "orderPrice": "0", "orderQty": "0",
        "leavesQty": "0", "execId": str(UUID(int=number)), "execPrice": mark, "execQty": plain(size),
        "execValue": plain(size * Decimal(mark)), "execFee": plain(-paid.amount),
        "feeRate": f"{state.funding_rate:.8f}", "feeCurrency": instrument.settle, "execType": "Funding",
        "execTime": str((paid.ts_ns + skew_ns) // NS_PER_MS), "isMaker": False, "markPrice": mark, "closedSize": "",
        "seq": number,
    }  # fmt: skip


def position_row(
    exchange: Exchange, instrument: Instrument, held: PositionRecord | None, *, leverage: int, now_ns: int
) -> dict[str, Any]:  # fmt: skip
    """A position in one-way mode; `side` is empty when it is flat."""
    qty = held.qty if held is not None else 0
    entry = held.entry_price if held is not None else Decimal(0)
    mark = Decimal(f"{exchange.market_state(instrument.symbol).mark:.{-instrument.price_exponent}f}")
    size = abs(instrument.qty(qty))
    ms = str(now_ns // NS_PER_MS)
    return {
        "positionIdx": 0, "riskId": 1, "riskLimitValue": "2000000", "symbol": instrument.symbol,
        "side": "Buy" if qty > 0 else "Sell" if qty < 0 else "", "size": plain(size), "avgPrice": plain(entry),
        "entryPrice": plain(entry), "positionValue": plain(size * entry), "tradeMode": 0, "autoAddMargin": 0,
        "leverage": str(leverage), "positionBalance": "0", "markPrice": str(mark), "liqPrice": "", "bustPrice": "",
        "positionIM": plain(size * entry / leverage), "positionMM": "0", "tpslMode": "Full", "takeProfit": "",
        "stopLoss": "", "trailingStop": "0", "unrealisedPnl": plain(instrument.qty(qty) * (mark - entry)),
        "curRealisedPnl": "0", "cumRealisedPnl": plain(held.realised if held is not None else Decimal(0)),
        "positionStatus": "Normal", "adlRankIndicator": 0, "isReduceOnly": False, "mmrSysUpdatedTime": "",
        "leverageSysUpdatedTime": "", "sessionAvgPrice": "", "seq": now_ns // NS_PER_MS, "createdTime": ms,
        "updatedTime": ms, "category": "linear",
    }  # fmt: skip


def wallet_row(balances: Mapping[str, Balance], open_profit: Mapping[str, Decimal]) -> dict[str, Any]:
    """A unified wallet; `totalEquity` counts dollar coins only, which is what this venue's practice accounts settle in."""
    coins = []
    dollars = Decimal(0)
    for asset, held in balances.items():
        total, profit = held.free + held.locked, open_profit.get(asset, Decimal(0))
        if asset in ("USDT", "USDC"):
            dollars += total + profit
        coins.append(
            {
                "coin": asset, "equity": plain(total + profit), "usdValue": "", "walletBalance": plain(total),
                "locked": plain(held.locked), "free": "", "availableToWithdraw": "",
                "availableToBorrow": "", "borrowAmount": "0", "spotBorrow": "0", "accruedInterest": "0",
                "totalOrderIM": "0", "totalPositionIM": "0", "totalPositionMM": "0", "unrealisedPnl": plain(profit),
                "cumRealisedPnl": "0", "bonus": "0", "collateralSwitch": True, "marginCollateral": True,
            }
        )  # fmt: skip
    return {
        "accountType": "UNIFIED", "totalEquity": plain(dollars), "totalWalletBalance": plain(dollars),
        "totalMarginBalance": plain(dollars), "totalAvailableBalance": plain(dollars), "totalPerpUPL": "0",
        "totalInitialMargin": "0", "totalMaintenanceMargin": "0", "accountIMRate": "0", "accountMMRate": "0",
        "accountLTV": "0", "coin": coins,
    }  # fmt: skip
