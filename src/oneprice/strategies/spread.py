"""Cross-venue spread: the same instrument bought on one venue and sold on another when bid and ask cross over.

The thin form: spot against spot out of inventory on both venues, perpetual against perpetual as a position that is left
when the spread has closed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.strategies.base import Market, Sighting
from oneprice.strategies.two_leg import TwoLeg, TwoLegSettings, grouped
from oneprice.venues.base import Channel
from oneprice.venues.registry import VENUES


class SpreadSettings(TwoLegSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[strategies.spread]."""


class Spread:
    name = "spread"
    channels = frozenset({Channel.DEPTH})

    def __init__(self, settings: SpreadSettings) -> None:
        self._quotes = settings.quotes
        self._legs = TwoLeg(self.name, settings)

    def discover(self, available: Sequence[Instrument]) -> list[Instrument]:
        """Every instrument that a second venue lists under the same canonical symbol."""
        return sorted(
            {member for pair in _pairs(available, self._quotes) for member in pair},
            key=lambda instrument: instrument.key,
        )

    def bind(self, instruments: InstrumentTable) -> None:
        self._legs.bind(instruments, _pairs(list(instruments), self._quotes))

    def on_batch(self, now_ns: int, market: Market) -> list[Sighting]:
        return self._legs.on_batch(now_ns, market)

    def standing(self, now_ns: int) -> list[Sighting]:
        return self._legs.standing(now_ns)


def _pairs(instruments: Sequence[Instrument], quotes: Sequence[str]) -> list[tuple[Instrument, Instrument]]:
    return [
        (one, other)
        for group in grouped(instruments, "canonical", quotes)
        for one, other in combinations(group, 2)
        if market_of(one.venue) != market_of(other.venue)
    ]


def market_of(venue: str) -> str:
    """The market whose book a venue shows: two wires of one market are not two places to trade."""
    return VENUES[venue].market if venue in VENUES else venue
