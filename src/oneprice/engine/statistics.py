"""What a run adds up to: opportunities by type with their lifetimes and edges, counted as the engine sees them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

from oneprice.model.time import NS_PER_MS
from oneprice.strategies.base import Sighting, What


class OpportunitySummary(msgspec.Struct, kw_only=True, frozen=True):
    """All opportunities of one type. An opportunity is the time during which its gross edge stayed over the threshold.

    `paying` counts those whose best net edge was above zero after the fees of every fill it needs.
    """

    seen: int = 0
    still_open: int = 0
    paying: int = 0
    gross_bps_median: float | None = None  # of the peaks
    gross_bps_max: float | None = None
    net_bps_max: float | None = None
    lifetime_ms_median: float | None = None
    lifetime_ms_max: float | None = None


class Opportunities:
    """Collects sightings of openings and closings."""

    def __init__(self) -> None:
        self.seen: dict[str, int] = {}
        self._closed: dict[str, list[Sighting]] = {}

    def note(self, sighting: Sighting) -> None:
        if sighting.what is What.OPENED:
            self.seen[sighting.type] = self.seen.get(sighting.type, 0) + 1
        elif sighting.what is What.CLOSED:
            self._closed.setdefault(sighting.type, []).append(sighting)

    def summary(self, standing: Mapping[str, Sequence[Sighting]]) -> dict[str, OpportunitySummary]:
        """By type. `standing` holds, for every type of the run, the opportunities that are still open."""
        return {
            type_: _summarise(self.seen.get(type_, 0), [*self._closed.get(type_, ()), *still_open], len(still_open))
            for type_, still_open in sorted(standing.items())
        }


def _summarise(seen: int, sightings: Sequence[Sighting], still_open: int) -> OpportunitySummary:
    if not sightings:
        return OpportunitySummary(seen=seen)
    gross = [sighting.peak_gross_bps for sighting in sightings]
    net = [sighting.peak_net_bps for sighting in sightings]
    lifetimes_ms = [sighting.lifetime_ns / NS_PER_MS for sighting in sightings]
    return OpportunitySummary(
        seen=seen,
        still_open=still_open,
        paying=sum(edge > 0 for edge in net),
        gross_bps_median=round(statistics.median(gross), 3),
        gross_bps_max=round(max(gross), 3),
        net_bps_max=round(max(net), 3),
        lifetime_ms_median=round(statistics.median(lifetimes_ms), 3),
        lifetime_ms_max=round(max(lifetimes_ms), 3),
    )
