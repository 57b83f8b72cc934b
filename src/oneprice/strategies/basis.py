"""Spot–perpetual basis: the perpetual sold dear and the spot bought cheap (or the other way), left when they meet.

Pairs are made within and across venues of the same base and quote; the perpetual must be linear and margined in that
quote. Costs are four taker fills: two to enter, two to leave."""

from __future__ import annotations

from collections.abc import Sequence

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.strategies.base import Market, Sighting
from oneprice.strategies.two_leg import TwoLeg, TwoLegSettings, grouped
from oneprice.venues.base import Channel


class BasisSettings(TwoLegSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[strategies.basis]. `across_venues`: pair a spot market with perpetuals of other exchanges, too."""

    across_venues: bool = True


class Basis:
    name = "basis"
    channels = frozenset({Channel.DEPTH, Channel.MARK})

    def __init__(self, settings: BasisSettings) -> None:
        self._quotes = settings.quotes
        self._across_venues = settings.across_venues
        self._legs = TwoLeg(self.name, settings)

    def discover(self, available: Sequence[Instrument]) -> list[Instrument]:
        """Every spot market with a perpetual on the same base and quote, and those perpetuals."""
        wanted = {member.key: member for pair in self._pairs(available) for member in pair}
        return [wanted[key] for key in sorted(wanted)]

    def bind(self, instruments: InstrumentTable) -> None:
        self._legs.bind(instruments, self._pairs(list(instruments)))

    def on_batch(self, now_ns: int, market: Market) -> list[Sighting]:
        return self._legs.on_batch(now_ns, market)

    def standing(self, now_ns: int) -> list[Sighting]:
        return self._legs.standing(now_ns)

    def _pairs(self, instruments: Sequence[Instrument]) -> list[tuple[Instrument, Instrument]]:
        return [
            (spot, perp)
            for group in grouped(instruments, "base", self._quotes)
            for spot in group
            for perp in group
            if spot.kind is InstrumentKind.SPOT
            and perp.kind is InstrumentKind.PERP
            and perp.quote == spot.quote
            and perp.settle in ("", spot.quote)
            and (self._across_venues or exchange_of(spot.venue) == exchange_of(perp.venue))
        ]


def exchange_of(venue: str) -> str:
    """The company behind a venue: the part of its name before the product."""
    return venue.split("_", 1)[0]
