"""Triangular arbitrage: three spot markets of one venue whose prices do not multiply to one.

Buy ETH with dollars, sell it for BTC, sell the BTC for dollars: when the product of the three rates, after three taker
fees paid in kind, is above one, the round trip earns. Both directions of every triangle that closes in a quote asset of
the configuration are watched."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import msgspec

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Side
from oneprice.strategies.base import Market, Sighting, What
from oneprice.strategies.edges import CLOSED, OPENED, PAYS, Edge, EdgeTable
from oneprice.strategies.sightings import closed, opened, standing
from oneprice.strategies.sizing import size_chain
from oneprice.venues.base import Channel


class TriangularSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[strategies.triangular]. Edges in basis points; `max_notional` in the start asset."""

    start_assets: tuple[str, ...] = ("USDT",)
    min_gross_bps: float = 5.0
    min_net_bps: float = 1.0
    max_notional: float = 5_000.0
    max_age_ms: int = 3_000


class Triangular:
    name = "triangular"
    channels = frozenset({Channel.DEPTH})

    def __init__(self, settings: TriangularSettings) -> None:
        self._settings = settings

    def discover(self, available: Sequence[Instrument]) -> list[Instrument]:
        """Every spot instrument that is a leg of some triangle through a start asset."""
        wanted = {leg.key for chain in _chains(available, self._settings.start_assets) for leg, _ in chain}
        return [instrument for instrument in available if instrument.key in wanted]

    def bind(self, instruments: InstrumentTable) -> None:
        edges = []
        for chain in _chains(list(instruments), self._settings.start_assets):
            legs = [(instruments.index(leg.venue, leg.symbol), side) for leg, side in chain]
            kept = 1.0
            for leg, _ in chain:
                kept *= 1.0 - float(leg.taker_fee)
            path = " → ".join(f"{'buy' if side is Side.BUY else 'sell'} {leg.symbol}" for leg, side in chain)
            edges.append(
                Edge(
                    f"{chain[0][0].venue}: {path}", tuple(i for i, _ in legs), tuple(side for _, side in legs),
                    (1.0 - kept) * 1e4,
                )
            )  # fmt: skip
        self._edges = EdgeTable(
            edges, instruments, min_gross_bps=self._settings.min_gross_bps, min_net_bps=self._settings.min_net_bps,
            max_age_ns=self._settings.max_age_ms * 1_000_000,
        )  # fmt: skip

    def on_batch(self, now_ns: int, market: Market) -> list[Sighting]:
        found: list[Sighting] = []
        for index, event in self._edges.update(now_ns, market.books):
            edge, state = self._edges.edges[index], self._edges.row(index)
            if event & CLOSED:
                found.append(closed(self.name, edge, state))
            if event & OPENED:
                found.append(opened(self.name, edge, state, market))
            if event & PAYS and not market.holdings.is_busy(self.name, edge.key):
                sized = size_chain(
                    market.books, market.instruments, chain=list(zip(edge.instruments, edge.sides, strict=True)),
                    max_start=self._settings.max_notional,
                )  # fmt: skip
                if sized is not None and sized.net_bps >= self._settings.min_net_bps:
                    found.append(
                        Sighting(
                            what=What.ENTER, type=self.name, key=edge.key, gross_bps=sized.gross_bps,
                            net_bps=sized.net_bps, legs=sized.legs,
                            reason=f"round trip keeps {sized.net_bps:.2f} bps of {sized.notional:.2f} after fees",
                        )
                    )  # fmt: skip
        return found

    def standing(self, now_ns: int) -> list[Sighting]:
        return standing(self.name, self._edges, now_ns)


Chain = tuple[tuple[Instrument, Side], ...]


def _chains(instruments: Sequence[Instrument], start_assets: Sequence[str]) -> list[Chain]:
    """Every triangle within one venue that starts and ends in a start asset, each direction once."""
    spot = [instrument for instrument in instruments if instrument.kind is InstrumentKind.SPOT]
    # conversions[venue][from asset] → [(to asset, instrument, side)]
    conversions: dict[str, dict[str, list[tuple[str, Instrument, Side]]]] = {}
    for instrument in spot:
        of_venue = conversions.setdefault(instrument.venue, {})
        of_venue.setdefault(instrument.quote, []).append((instrument.base, instrument, Side.BUY))
        of_venue.setdefault(instrument.base, []).append((instrument.quote, instrument, Side.SELL))
    chains: list[Chain] = []
    for of_venue in conversions.values():
        for start in start_assets:
            for first, second in permutations(of_venue.get(start, ()), 2):
                # out through `first`, across, and home through the market of `second`, on its other side
                out_asset, out_market, out_side = first
                home_asset, home_market, home_side = second
                for across_asset, across_market, across_side in of_venue.get(out_asset, ()):
                    if across_asset == home_asset:
                        chains.append(
                            (
                                (out_market, out_side),
                                (across_market, across_side),
                                (home_market, home_side.opposite),
                            )
                        )
    return chains
