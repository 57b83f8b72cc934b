"""Edges: every way around through which the law of one price could be broken, watched in one compiled pass.

An edge is a chain of up to three legs that begins and ends in the same thing (dollars → ETH → BTC → dollars; or bought
here and sold there). Its gross edge is the product of what each leg gives back, at the best prices: a buy divides by
the ask, a sell multiplies by the bid. Triangles, cross-venue spreads and spot–perpetual bases differ only in their legs
and costs, so one screen serves them all; it also keeps the life of each opportunity (opened, peak, closed), and Python
wakes only when one opens, closes or is worth a trade."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.compute.books import Books
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import Side

EDGE = np.dtype(
    [
        ("instrument", "<i8", (3,)),
        ("side", "<i8", (3,)),  # +1 buy, -1 sell
        ("legs", "<i8"),
        ("cost_bps", "<f8"),  # fees of everything the trade will need, exits included
        ("gross_bps", "<f8"),  # now
        ("active", "<i8"),  # 1 while gross_bps >= the threshold
        ("opened_ns", "<i8"),
        ("closed_ns", "<i8"),
        ("peak_gross_bps", "<f8"),
        ("pays", "<i8"),  # 1 while gross - cost >= the threshold for a trade
    ],
    align=True,
)
OPENED, CLOSED, PAYS = 1, 2, 4


class Edge(msgspec.Struct, frozen=True):
    """One chain: instruments by number and the side taken in each."""

    key: str
    instruments: tuple[int, ...]
    sides: tuple[Side, ...]
    cost_bps: float


@njit(cache=True)
def screen(
    now_ns, best_bid, best_ask, valid, ts_recv_ns, price_scale, edges, events, min_gross_bps, min_net_bps, max_age_ns
):
    """Bring every edge up to date; → how many entries of `events` (edge index * 8 + OPENED|CLOSED|PAYS) were written.

    An edge is unusable, and an open one closes, when a book of it is invalid, one-sided, crossed in itself or older
    than `max_age_ns`.
    """
    count = 0
    for k in range(edges.shape[0]):
        edge = edges[k]
        rate = 1.0
        usable = True
        for j in range(edge.legs):
            i = edge.instrument[j]
            bid = best_bid[i]
            ask = best_ask[i]
            if valid[i] == 0 or bid <= 0 or ask <= bid or now_ns - ts_recv_ns[i] > max_age_ns:
                usable = False
                break
            if edge.side[j] > 0:
                rate /= ask * price_scale[i]
            else:
                rate *= bid * price_scale[i]
        gross = (rate - 1.0) * 1e4 if usable else -1e9
        edge.gross_bps = gross
        event = 0
        if usable and gross >= min_gross_bps:
            if edge.active == 0:
                edge.active = 1
                edge.opened_ns = now_ns
                edge.peak_gross_bps = gross
                event |= OPENED
            elif gross > edge.peak_gross_bps:
                edge.peak_gross_bps = gross
        elif edge.active == 1:
            edge.active = 0
            edge.closed_ns = now_ns
            event |= CLOSED
        edge.pays = 1 if usable and gross - edge.cost_bps >= min_net_bps else 0
        if edge.pays == 1:
            event |= PAYS
        if event != 0:
            events[count] = k * 8 + event
            count += 1
    return count


class EdgeTable:
    """The edges of one strategy, in order of their keys, with their state in one array for compiled code."""

    def __init__(
        self, edges: Sequence[Edge], instruments: InstrumentTable, *, min_gross_bps: float, min_net_bps: float,
        max_age_ns: int,
    ) -> None:  # fmt: skip
        self.edges = tuple(sorted(edges, key=lambda edge: edge.key))
        self.state: NDArray[np.void] = np.zeros(len(self.edges), dtype=EDGE)
        for row, edge in zip(self.state, self.edges, strict=True):
            row["legs"] = len(edge.instruments)
            row["instrument"][: len(edge.instruments)] = edge.instruments
            row["side"][: len(edge.sides)] = [int(side) for side in edge.sides]
            row["cost_bps"] = edge.cost_bps
        self._events = np.zeros(len(self.edges), dtype=np.int64)
        self._price_scale = instruments.column("price_scale", "f8")
        self._min_gross_bps = float(min_gross_bps)
        self._min_net_bps = float(min_net_bps)
        self._max_age_ns = int(max_age_ns)

    def update(self, now_ns: int, books: Books) -> list[tuple[int, int]]:
        """(edge index, OPENED|CLOSED|PAYS) for every edge with news on this batch."""
        count = screen(
            now_ns, books.best_bid, books.best_ask, books.valid, books.ts_recv_ns, self._price_scale, self.state,
            self._events, self._min_gross_bps, self._min_net_bps, self._max_age_ns,
        )  # fmt: skip
        if count == 0:
            return []
        return [(event >> 3, event & 7) for event in self._events[:count].tolist()]

    def row(self, index: int) -> Any:
        return self.state[index]
