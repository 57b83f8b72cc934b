"""Two legs in the same base asset: bought where it is cheap, sold where it is dear.

`TwoLeg` watches both directions of every pair it is given and turns a paying edge into two legs of equal base quantity.
A pair that `holds` a position (a perpetual is a leg) is left again when the spread has closed or its time is over; a
pair of two spot markets is done with the trade itself, because the inventory on both venues is the trader's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Side
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.strategies.base import Market, Sighting, What
from oneprice.strategies.edges import CLOSED, OPENED, PAYS, Edge, EdgeTable
from oneprice.strategies.sightings import closed, opened, standing, touch_prices
from oneprice.strategies.sizing import size_exit, size_pair


class TwoLegSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shared settings of [strategies.spread] and [strategies.basis]. Edges in basis points of the bought leg."""

    min_gross_bps: float = 5.0
    min_net_bps: float = 1.0
    exit_bps: float = 2.0  # a held pair is left when leaving costs no more than this
    max_hold_s: float = 30.0
    quotes: tuple[str, ...] = ("USDT", "USDC", "USD")  # only pairs quoted in one of these
    max_notional: float = 5_000.0  # quote units, bought leg
    max_age_ms: int = 3_000


class _Held(msgspec.Struct):
    edge: int
    entered_ns: int


class TwoLeg:
    """The engine of a two-leg strategy; `Spread` and `Basis` say which pairs it watches."""

    def __init__(self, name: str, settings: TwoLegSettings) -> None:
        self._name = name
        self._settings = settings
        self._held: dict[str, _Held] = {}

    def bind(self, instruments: InstrumentTable, pairs: Iterable[tuple[Instrument, Instrument]]) -> None:
        edges = []
        self._reverse_key: dict[str, str] = {}
        for one, other in pairs:
            indices = [instruments.index(instrument.venue, instrument.symbol) for instrument in (one, other)]
            fills = 4 if holds(one, other) else 2
            cost_bps = float(one.taker_fee + other.taker_fee) * 1e4 * (fills // 2)
            keys = [_key(one, other), _key(other, one)]
            self._reverse_key[keys[0]], self._reverse_key[keys[1]] = keys[1], keys[0]
            for key, (buy, sell) in zip(keys, (indices, indices[::-1]), strict=True):
                edges.append(Edge(key, (buy, sell), (Side.BUY, Side.SELL), cost_bps))
        self._edges = EdgeTable(
            edges, instruments, min_gross_bps=self._settings.min_gross_bps, min_net_bps=self._settings.min_net_bps,
            max_age_ns=self._settings.max_age_ms * NS_PER_MS,
        )  # fmt: skip
        self._index: Mapping[str, int] = {edge.key: i for i, edge in enumerate(self._edges.edges)}

    def on_batch(self, now_ns: int, market: Market) -> list[Sighting]:
        found: list[Sighting] = []
        news = self._edges.update(now_ns, market.books)
        if self._held:
            found += self._exits(now_ns, market)
        for index, event in news:
            edge, state = self._edges.edges[index], self._edges.row(index)
            if event & CLOSED:
                found.append(closed(self._name, edge, state))
            if event & OPENED:
                found.append(opened(self._name, edge, state, market))
            if event & PAYS:
                entry = self._entry(now_ns, index, edge, market)
                if entry is not None:
                    found.append(entry)
        return found

    def standing(self, now_ns: int) -> list[Sighting]:
        return standing(self._name, self._edges, now_ns)

    def _entry(self, now_ns: int, index: int, edge: Edge, market: Market) -> Sighting | None:
        if market.holdings.is_busy(self._name, edge.key):
            return None
        buy, sell = edge.instruments
        held = holds(market.instruments[buy], market.instruments[sell])
        if held and (edge.key in self._held or self._reverse_key[edge.key] in self._held):
            return None
        sized = size_pair(
            market.books, market.instruments, buy=buy, sell=sell, max_notional=self._settings.max_notional,
            cost_bps=edge.cost_bps,
        )  # fmt: skip
        if sized is None or sized.net_bps < self._settings.min_net_bps:
            return None
        if held:
            self._held[edge.key] = _Held(index, now_ns)
        return Sighting(
            what=What.ENTER, type=self._name, key=edge.key, gross_bps=sized.gross_bps, net_bps=sized.net_bps,
            legs=sized.legs, inputs=touch_prices(edge, market),
            reason=f"{sized.net_bps:.2f} bps of {sized.notional:.2f} are left after fees of all fills",
        )  # fmt: skip

    def _exits(self, now_ns: int, market: Market) -> list[Sighting]:
        found: list[Sighting] = []
        for key in sorted(self._held):
            held = self._held[key]
            if market.holdings.is_busy(self._name, key):
                continue
            edge = self._edges.edges[held.edge]
            bought = market.holdings.position(self._name, key, edge.instruments[0])
            sold = -market.holdings.position(self._name, key, edge.instruments[1])
            if bought <= 0 and sold <= 0:
                # Flat again, or the entry was refused, rejected or missed.
                del self._held[key]
                continue
            back = float(self._edges.row(self._index[self._reverse_key[key]])["gross_bps"])
            late = now_ns - held.entered_ns >= int(self._settings.max_hold_s * NS_PER_S)
            if not (back >= -self._settings.exit_bps or late):
                continue
            sized = size_exit(market.books, market.instruments, buy=edge.instruments[1], sell=edge.instruments[0],
                              buy_qty=max(sold, 0), sell_qty=max(bought, 0))  # fmt: skip
            if sized is None:
                continue
            found.append(
                Sighting(
                    what=What.EXIT, type=self._name, key=key, gross_bps=sized.gross_bps, net_bps=sized.net_bps,
                    legs=sized.legs, inputs=touch_prices(edge, market),
                    reason="held for its longest time" if late else f"leaving gives {back:+.2f} bps before fees",
                )
            )  # fmt: skip
        return found


def holds(one: Instrument, other: Instrument) -> bool:
    """Whether trading this pair builds a position that must be left again."""
    return InstrumentKind.PERP in (one.kind, other.kind)


def grouped(instruments: Sequence[Instrument], same: str, quotes: Sequence[str]) -> list[list[Instrument]]:
    """Spot and linear perpetuals of the given quotes, grouped by an attribute; groups and members in a fixed order."""
    groups: dict[str, list[Instrument]] = {}
    for instrument in sorted(instruments, key=lambda instrument: instrument.key):
        tradable = instrument.kind in (InstrumentKind.SPOT, InstrumentKind.PERP) and not instrument.inverse
        if tradable and instrument.quote in quotes:
            groups.setdefault(getattr(instrument, same), []).append(instrument)
    return [groups[name] for name in sorted(groups)]


def _key(buy: Instrument, sell: Instrument) -> str:
    return f"buy {buy.key}, sell {sell.key}"
