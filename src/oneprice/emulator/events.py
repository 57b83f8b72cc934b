"""What a practice market says happened, in order: the servers turn it into their venue's words."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum

import msgspec

from oneprice.model.errors import OnepriceError
from oneprice.model.order import OrderState, OrderType, ReportType, Side, TimeInForce


class RejectCode(StrEnum):
    INSUFFICIENT_BALANCE = "insufficient_balance"
    WOULD_TAKE = "would_take"
    MIN_NOTIONAL = "min_notional"
    LOT_SIZE = "lot_size"
    TICK_SIZE = "tick_size"
    PRICE_BAND = "price_band"
    UNKNOWN_SYMBOL = "unknown_symbol"
    UNKNOWN_ORDER = "unknown_order"
    DUPLICATE_CLIENT_ID = "duplicate_client_id"
    REDUCE_ONLY = "reduce_only"
    QTY_RANGE = "qty_range"
    MAX_ORDERS = "max_orders"


class Reject(OnepriceError):
    """The practice market refuses a request."""

    def __init__(self, code: RejectCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class NewOrder(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    side: Side
    type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.GTC
    qty: int = 0  # mantissa; 0 when quote_qty says how much to spend
    price: int = 0
    client_id: str = ""
    reduce_only: bool = False
    quote_qty: Decimal | None = None


class FillRecord(msgspec.Struct, frozen=True, kw_only=True):
    trade_id: int
    price: int
    qty: int
    fee: Decimal
    fee_asset: str
    maker: bool
    ts_ns: int
    realised: Decimal = Decimal(0)


class OrderRecord(msgspec.Struct, kw_only=True):
    order_id: int
    account: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    price: int
    qty: int
    client_id: str
    created_ns: int
    updated_ns: int
    reduce_only: bool = False
    filled_qty: int = 0
    filled_notional: Decimal = Decimal(0)
    state: OrderState = OrderState.OPEN
    reject_reason: str = ""
    locked: Decimal = Decimal(0)
    fills: list[FillRecord] = []


class Balance(msgspec.Struct, frozen=True):
    free: Decimal
    locked: Decimal


class PositionRecord(msgspec.Struct, frozen=True, kw_only=True):
    qty: int  # signed mantissa
    cost: Decimal  # what was paid for it; of a short position, minus what was received
    entry_price: Decimal
    realised: Decimal


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    last_id: int
    bids: list[tuple[int, int]]
    asks: list[tuple[int, int]]
    ts_ns: int


class MarketState(msgspec.Struct, kw_only=True):
    mark: float = 0.0
    index: float = 0.0
    funding_rate: float = 0.0
    next_funding_ns: int = 0
    funding_interval_ns: int = 0
    open_interest: float = 0.0
    last_price: int = 0
    volume_24h: Decimal = Decimal(0)
    turnover_24h: Decimal = Decimal(0)
    high: int = 0
    low: int = 0
    open: int = 0


class LevelChanged(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    side: Side
    price: int
    qty: int  # absolute, 0: gone
    update_id: int
    ts_ns: int


class Traded(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    trade_id: int
    price: int
    qty: int
    taker_side: Side
    maker_order_id: int
    taker_order_id: int
    ts_ns: int


class QuoteChanged(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    update_id: int
    bid: int
    bid_qty: int
    ask: int
    ask_qty: int
    ts_ns: int


class MarkChanged(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    mark: float
    index: float
    funding_rate: float
    next_funding_ns: int
    ts_ns: int


class Liquidated(msgspec.Struct, frozen=True, kw_only=True):
    symbol: str
    side: Side  # of the position that was liquidated
    price: int
    qty: int
    ts_ns: int


class OrderUpdated(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    record: OrderRecord  # a copy, as it was then
    execution: ReportType
    fill: FillRecord | None
    ts_ns: int


class BalanceChanged(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    balances: Mapping[str, Balance]
    reason: str
    ts_ns: int


class PositionChanged(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    symbol: str
    record: PositionRecord
    ts_ns: int


class FundingPaid(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    symbol: str
    amount: Decimal
    ts_ns: int


Event = (
    LevelChanged | Traded | QuoteChanged | MarkChanged | Liquidated | OrderUpdated | BalanceChanged | PositionChanged
    | FundingPaid
)  # fmt: skip
