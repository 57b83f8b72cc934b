"""Sightings of an edge's life, the same for every strategy that watches an `EdgeTable`."""

from __future__ import annotations

from typing import Any

import msgspec

from oneprice.model.order import Side
from oneprice.strategies.base import Market, Sighting, What
from oneprice.strategies.edges import Edge, EdgeTable


def opened(type_: str, edge: Edge, state: Any, market: Market) -> Sighting:
    """The edge's gross edge rose to the threshold; the inputs are the prices it was computed from."""
    gross = float(state["gross_bps"])
    return Sighting(
        what=What.OPENED, type=type_, key=edge.key, gross_bps=gross, net_bps=gross - edge.cost_bps,
        reason=f"gross edge {gross:.2f} bps, costs {edge.cost_bps:.2f} bps", inputs=touch_prices(edge, market),
    )  # fmt: skip


def standing(type_: str, table: EdgeTable, now_ns: int) -> list[Sighting]:
    """Every open edge of a table as if it closed now."""
    found = []
    for edge, state in zip(table.edges, table.state, strict=True):
        if state["active"]:
            sighting = closed(type_, edge, state)
            lifetime_ns = now_ns - int(state["opened_ns"])
            found.append(msgspec.structs.replace(sighting, reason="still open", lifetime_ns=lifetime_ns))
    return found


def closed(type_: str, edge: Edge, state: Any) -> Sighting:
    """The gross edge fell below the threshold, or a book of it became unusable."""
    peak = float(state["peak_gross_bps"])
    gross = float(state["gross_bps"])
    usable = gross > -1e8
    return Sighting(
        what=What.CLOSED, type=type_, key=edge.key, gross_bps=gross if usable else 0.0,
        net_bps=gross - edge.cost_bps if usable else -edge.cost_bps,
        reason="gross edge below the threshold" if usable else "a book of it is invalid or stale",
        lifetime_ns=int(state["closed_ns"]) - int(state["opened_ns"]), peak_gross_bps=peak,
        peak_net_bps=peak - edge.cost_bps,
    )  # fmt: skip


def touch_prices(edge: Edge, market: Market) -> dict[str, int]:
    """The price each leg would take, and its book's id, by instrument."""
    inputs: dict[str, int] = {}
    for index, side in zip(edge.instruments, edge.sides, strict=True):
        key = market.instruments[index].key
        best = market.books.best_ask if side is Side.BUY else market.books.best_bid
        inputs[f"{key}.{'ask' if side is Side.BUY else 'bid'}"] = int(best[index])
        inputs[f"{key}.book_id"] = int(market.books.book_id[index])
    return inputs
