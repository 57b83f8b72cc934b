"""What an account of a practice market holds, and what a fill makes of a position. Money is exact: see `rounded`."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from oneprice.emulator.events import OrderRecord, PositionRecord
from oneprice.model.instrument import Instrument

_FINEST = Decimal("1e-12")
FLAT = PositionRecord(qty=0, cost=Decimal(0), entry_price=Decimal(0), realised=Decimal(0))


def rounded(amount: Decimal) -> Decimal:
    """An amount that came out of a division, to 12 digits after the point.

    A Decimal has 28 digits in all: with more of them after the point, sums would lose the last ones, and money with
    them.
    """
    return amount.quantize(_FINEST)


class Account:
    """Balances, positions and orders of one account. `locked` is what open orders lock."""

    def __init__(self) -> None:
        self.free: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.locked: defaultdict[str, Decimal] = defaultdict(Decimal)
        self.positions: dict[str, PositionRecord] = {}
        self.orders: dict[int, OrderRecord] = {}
        self.by_client_id: dict[str, int] = {}
        self.leverage: defaultdict[str, int] = defaultdict(lambda: 1)

    def open_orders(self, symbol: str | None = None) -> list[OrderRecord]:
        orders = self.orders.values()
        return [o for o in orders if not o.state.is_final and (symbol is None or o.symbol == symbol)]

    def position(self, symbol: str) -> PositionRecord:
        return self.positions.get(symbol, FLAT)

    def margin(self, symbol: str) -> Decimal:
        """What the position of a symbol holds back: its cost by the leverage."""
        return rounded(abs(self.position(symbol).cost) / self.leverage[symbol])

    def closable(self, order: OrderRecord) -> int:
        """How much of an order would close a position, when the open orders of its side close what they can."""
        position = self.position(order.symbol)
        if position.qty * int(order.side) >= 0:
            return 0
        others = sum(o.qty - o.filled_qty for o in self.open_orders(order.symbol) if o.side is order.side)
        return min(order.qty, max(0, abs(position.qty) - others))


def after_fill(
    before: PositionRecord, instrument: Instrument, *, signed_qty: int, price: int
) -> tuple[PositionRecord, Decimal]:
    """The position after a fill, at its average entry; and the result of the part that closed."""
    qty, cost, realised = before.qty, before.cost, Decimal(0)
    opened = signed_qty
    if before.qty * signed_qty < 0:
        closed = min(abs(before.qty), abs(signed_qty)) * (1 if before.qty > 0 else -1)
        cost_of_closed = cost if closed == before.qty else rounded(cost * closed / before.qty)
        realised = instrument.notional(price, closed) - cost_of_closed
        cost -= cost_of_closed
        opened = signed_qty + closed
    qty += signed_qty
    cost += instrument.notional(price, opened)
    entry = rounded(cost / instrument.notional(1, qty)).scaleb(instrument.price_exponent) if qty else Decimal(0)
    after = PositionRecord(qty=qty, cost=cost, entry_price=entry, realised=before.realised + realised)
    return after, realised
