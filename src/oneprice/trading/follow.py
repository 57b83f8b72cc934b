"""One live order as its venue tells of it, in whatever order and however often: pure, reports out.

Fills come on one stream, states on another, both again by REST. A fill is reported once, by its trade id. The end of an
order is held back until every fill that the venue counts has been reported, because nothing may come after an end."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum

import msgspec

from oneprice.model.order import Order, Report, ReportType


class VenueState(StrEnum):
    """Where the venue says an order stands."""

    OPEN = "open"
    FILLED = "filled"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    REJECTED = "rejected"


_ENDS = {
    VenueState.CANCELLED: ReportType.CANCELLED,
    VenueState.EXPIRED: ReportType.EXPIRED,
    VenueState.REJECTED: ReportType.REJECTED,
    VenueState.FILLED: ReportType.EXPIRED,  # "closed" with less than was ordered: the rest is gone
}


class VenueFill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill as the venue tells it; price and quantity in mantissas, the fee positive when paid."""

    trade_id: str
    price: int
    qty: int
    fee: Decimal
    fee_asset: str
    maker: bool


class Followed:
    """What is known of one order. `known_fills`: trade ids that a ledger had before a restart, and their quantity."""

    def __init__(
        self, order: Order, *, known_fills: frozenset[str] = frozenset(), known_qty: int = 0, accepted: bool = False
    ) -> None:
        self.order = order
        self.venue_id = ""
        self.is_over = False
        self.filled_qty = known_qty
        self._seen = set(known_fills)
        self._accepted = accepted or known_qty > 0
        self._end: tuple[VenueState, str] | None = None
        self._told_qty = known_qty  # the largest filled quantity that the venue has stated

    @property
    def missing_qty(self) -> int:
        """Quantity that the venue counts as filled and whose fills have not come: to be asked for."""
        return max(0, self._told_qty - self.filled_qty)

    def fill(self, fill: VenueFill, now_ns: int) -> list[Report]:
        """A fill was told; its report, unless it is known, and the end that waited for it."""
        if fill.trade_id in self._seen:
            return []
        self._seen.add(fill.trade_id)
        self.filled_qty += fill.qty
        self._accepted = True
        report = Report(
            order=self.order.number, type=ReportType.FILL, ts_ns=now_ns, price=fill.price, qty=fill.qty, fee=fill.fee,
            fee_asset=fill.fee_asset, maker=fill.maker, trade_id=fill.trade_id,
        )  # fmt: skip
        return [report, *self._finish(now_ns)]

    def state(self, state: VenueState, filled_qty: int, now_ns: int, reason: str = "") -> list[Report]:
        """The venue stated where the order stands and how much of it is filled in all."""
        self._told_qty = max(self._told_qty, filled_qty)
        reports: list[Report] = []
        if state is not VenueState.REJECTED and not self._accepted:
            self._accepted = True
            reports.append(self._report(ReportType.ACCEPTED, now_ns, ""))
        if state is not VenueState.OPEN and self._end is None:
            self._end = state, reason
        return reports + self._finish(now_ns)

    def unknown(self, now_ns: int, reason: str) -> list[Report]:
        """No answer came: it may stand at the venue or not."""
        return [] if self.is_over else [self._report(ReportType.TIMEOUT, now_ns, reason)]

    def _finish(self, now_ns: int) -> list[Report]:
        if self.is_over:
            return []
        if self.filled_qty >= self.order.qty:
            self.is_over = True  # the last fill is the end
            return []
        if self._end is None or self.missing_qty > 0:
            return []
        state, reason = self._end
        self.is_over = True
        return [self._report(_ENDS[state], now_ns, reason or f"{state} at the venue")]

    def _report(self, type_: ReportType, now_ns: int, reason: str) -> Report:
        return Report(order=self.order.number, type=type_, ts_ns=now_ns, reason=reason)
