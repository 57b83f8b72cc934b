"""One market's resting orders, matched by price, then time. Integer mantissas; no accounts, no fees."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from sortedcontainers import SortedDict

from oneprice.model.order import Side


class Resting:
    """An order that waits at a price."""

    __slots__ = ("account", "left", "order_id", "price", "side")

    def __init__(self, order_id: int, account: str, side: Side, price: int, left: int) -> None:
        self.order_id = order_id
        self.account = account
        self.side = side
        self.price = price
        self.left = left


class OrderBook:
    """Both sides of a market."""

    def __init__(self) -> None:
        # Keys are price × side sign such that the best level always comes first.
        self._sides: dict[Side, SortedDict[int, deque[Resting]]] = {Side.BUY: SortedDict(), Side.SELL: SortedDict()}
        self._totals: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
        self._orders: dict[int, Resting] = {}
        self._best: dict[Side, int] = {Side.BUY: 0, Side.SELL: 0}  # asked for far more often than it changes

    def __contains__(self, order_id: int) -> bool:
        return order_id in self._orders

    def best(self, side: Side) -> int:
        """Best price of a side, 0 when it is empty."""
        return self._best[side]

    def total(self, side: Side, price: int) -> int:
        return self._totals[side].get(price, 0)

    def totals(self, side: Side) -> Mapping[int, int]:
        """Price → quantity of a side, as it is from now on."""
        return self._totals[side]

    def levels(self, side: Side, depth: int) -> list[tuple[int, int]]:
        """(price, quantity) from the best outward."""
        found: list[tuple[int, int]] = []
        for key in self._sides[side]:
            if len(found) == depth:
                break
            price = -int(side) * int(key)
            found.append((price, self._totals[side][price]))
        return found

    def add(self, resting: Resting) -> None:
        self._orders[resting.order_id] = resting
        side, price = resting.side, resting.price
        totals = self._totals[side]
        if price in totals:
            self._sides[side][-int(side) * price].append(resting)
            totals[price] += resting.left
            return
        self._sides[side][-int(side) * price] = deque((resting,))
        totals[price] = resting.left
        best = self._best[side]
        if best == 0 or (price > best if side is Side.BUY else price < best):
            self._best[side] = price

    def remove(self, order_id: int) -> Resting | None:
        """Take an order out; → the order, or None when it does not rest here."""
        resting = self._orders.pop(order_id, None)
        if resting is None:
            return None
        self._less(resting, resting.left)
        self._leave(resting)
        return resting

    def available(self, taker: Side, limit: int | None) -> Iterator[Resting]:
        """The orders a taker would meet, in the order it meets them."""
        side = taker.opposite
        for key, queue in self._sides[side].items():
            price = -int(side) * int(key)
            if limit is not None and (price > limit if taker is Side.BUY else price < limit):
                return
            yield from queue

    def take(self, resting: Resting, qty: int) -> None:
        """Fill part or all of a resting order."""
        resting.left -= qty
        self._less(resting, qty)
        if resting.left == 0:
            del self._orders[resting.order_id]
            self._leave(resting)

    def _leave(self, resting: Resting) -> None:
        side, price = resting.side, resting.price
        levels = self._sides[side]
        queue = levels[-int(side) * price]
        queue.remove(resting)
        if not queue:
            del levels[-int(side) * price]
            if price == self._best[side]:
                self._best[side] = -int(side) * int(levels.peekitem(0)[0]) if levels else 0

    def _less(self, resting: Resting, qty: int) -> None:
        totals = self._totals[resting.side]
        totals[resting.price] -= qty
        if totals[resting.price] == 0:
            del totals[resting.price]
