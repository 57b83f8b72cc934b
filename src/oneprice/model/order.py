"""Orders, fills, reports and positions; and the life of an order as a table."""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum, StrEnum

import msgspec

from oneprice.model.errors import OnepriceError


class Side(IntEnum):
    BUY = 1
    SELL = -1

    @property
    def opposite(self) -> Side:
        return Side(-self)


class OrderType(StrEnum):
    LIMIT = "limit"
    MARKET = "market"


class TimeInForce(StrEnum):
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"
    POST_ONLY = "post_only"


class OrderState(StrEnum):
    CREATED = "created"  # in the ledger, not on the wire
    SENT = "sent"
    UNKNOWN = "unknown"  # sent, no answer: ask before sending again
    OPEN = "open"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELLED = "cancelled"
    REJECTED = "rejected"
    EXPIRED = "expired"

    @property
    def is_final(self) -> bool:
        return self in _FINAL


_FINAL = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.EXPIRED})


class ReportType(IntEnum):
    """What a venue (or the paper venue) says of an order. The value travels in a REPORT row's `aux`."""

    SENT = 1
    ACCEPTED = 2
    FILL = 3
    CANCELLED = 4
    REJECTED = 5
    EXPIRED = 6
    TIMEOUT = 7


S, R = OrderState, ReportType
# state → report → state. A fill is PARTIALLY_FILLED here; `after` makes it FILLED when nothing is left.
LIFECYCLE: dict[OrderState, dict[ReportType, OrderState]] = {
    S.CREATED: {R.SENT: S.SENT, R.REJECTED: S.REJECTED},
    S.SENT: {
        R.ACCEPTED: S.OPEN, R.FILL: S.PARTIALLY_FILLED, R.REJECTED: S.REJECTED, R.CANCELLED: S.CANCELLED,
        R.EXPIRED: S.EXPIRED, R.TIMEOUT: S.UNKNOWN,
    },
    S.UNKNOWN: {
        R.ACCEPTED: S.OPEN, R.FILL: S.PARTIALLY_FILLED, R.REJECTED: S.REJECTED, R.CANCELLED: S.CANCELLED,
        R.EXPIRED: S.EXPIRED, R.TIMEOUT: S.UNKNOWN,
    },
    S.OPEN: {
        R.ACCEPTED: S.OPEN, R.FILL: S.PARTIALLY_FILLED, R.CANCELLED: S.CANCELLED, R.EXPIRED: S.EXPIRED,
        R.TIMEOUT: S.OPEN,
    },
    S.PARTIALLY_FILLED: {
        R.ACCEPTED: S.PARTIALLY_FILLED, R.FILL: S.PARTIALLY_FILLED, R.CANCELLED: S.CANCELLED, R.EXPIRED: S.EXPIRED,
        R.TIMEOUT: S.PARTIALLY_FILLED,
    },
    # A fill may overtake the cancel that lost the race against it: quantity counts, the state stays final.
    S.FILLED: {R.ACCEPTED: S.FILLED, R.CANCELLED: S.FILLED, R.EXPIRED: S.FILLED, R.TIMEOUT: S.FILLED},
    S.CANCELLED: {R.ACCEPTED: S.CANCELLED, R.FILL: S.CANCELLED, R.CANCELLED: S.CANCELLED, R.TIMEOUT: S.CANCELLED},
    S.REJECTED: {R.REJECTED: S.REJECTED, R.TIMEOUT: S.REJECTED},
    S.EXPIRED: {R.ACCEPTED: S.EXPIRED, R.FILL: S.EXPIRED, R.EXPIRED: S.EXPIRED, R.TIMEOUT: S.EXPIRED},
}  # fmt: skip
del S, R


class OrderLifecycleError(OnepriceError):
    """A report that an order in this state cannot get."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a venue. `number` is ours, counted from 1 in a run; the client id on the wire is made of it."""

    number: int
    instrument: int
    side: Side
    qty: int  # mantissa
    price: int = 0  # mantissa; 0 for a market order
    type: OrderType = OrderType.LIMIT
    time_in_force: TimeInForce = TimeInForce.IOC
    reduce_only: bool = False
    strategy: str = ""
    group: int = 0  # orders of one trade (its legs and hedges) share it
    created_ns: int = 0


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """One thing a venue said of one order, at our receive time. `price`, `qty`, `fee` only in a FILL."""

    order: int
    type: ReportType
    ts_ns: int
    price: int = 0
    qty: int = 0
    fee: Decimal = Decimal(0)  # positive: paid; in units of fee_asset
    fee_asset: str = ""
    maker: bool = False
    trade_id: str = ""
    reason: str = ""


class OrderStatus(msgspec.Struct, frozen=True):
    """Where an order stands: its state and the quantity filled so far (mantissa)."""

    order: Order
    state: OrderState = OrderState.CREATED
    filled_qty: int = 0

    @property
    def open_qty(self) -> int:
        return 0 if self.state.is_final else self.order.qty - self.filled_qty


def after(status: OrderStatus, report: Report) -> OrderStatus:
    """The status after a report; `OrderLifecycleError` for a report that the table does not know in this state."""
    next_state = LIFECYCLE[status.state].get(report.type)
    if next_state is None:
        raise OrderLifecycleError(f"order {status.order.number}: {report.type.name} in state {status.state}")
    if report.type is not ReportType.FILL:
        return OrderStatus(status.order, next_state, status.filled_qty)
    filled = status.filled_qty + report.qty
    if filled > status.order.qty:
        raise OrderLifecycleError(
            f"order {status.order.number}: filled {filled} of {status.order.qty}; more than was ordered"
        )
    return OrderStatus(status.order, OrderState.FILLED if filled == status.order.qty else next_state, filled)
