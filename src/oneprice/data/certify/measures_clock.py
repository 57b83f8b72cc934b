"""What the clock probes of a session tell of each venue's clock: the offset, how it drifts, and how often it was set.

The drift is the Theil–Sen slope (the median slope of all pairs), because one slow round trip would tilt least squares. Of a
long session the quickest probe of each of 512 stretches is taken, as a network time filter does. Round trips and the venue's
millisecond bound the true slope for each pair, from below and above; the medians of these bounds bound it, too. The farther
one is `drift_error_ms_per_h`: a steady drift is never farther from the one told."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from oneprice.data.clock_offset import ClockOffset
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import Rows
from oneprice.model.time import NS_PER_MS

_STRETCHES = 512
_FEWEST = 4  # probes that a drift is told from
_VENUE_TICK_MS = 1.0  # venues tell the time in whole milliseconds
_MS_PER_H = 3_600.0 * 1_000.0


class ClockMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """One venue's clock. Offsets are local − venue (negative: local is behind); None: not enough probes.

    `offset_ms` is that of the quickest of the last probes, `error_ms` what it may be wrong by; `jumps`: how often a clock was
    set, so that the round trips of two probes in a row do not explain how far the offset moved between them.
    """

    venue: str
    probes: int
    offset_ms: float | None
    error_ms: float | None
    drift_ms_per_h: float | None
    drift_error_ms_per_h: float | None
    jumps: int


def clock_measures(instruments: InstrumentTable, clock_rows: Rows) -> tuple[ClockMeasures, ...]:
    """Every venue of the table, from a session's CLOCK rows."""
    venues = np.array([instrument.venue for instrument in instruments])
    told_by = venues[clock_rows["instrument"]] if len(clock_rows) else np.array([], dtype=venues.dtype)
    return tuple(_of_venue(name, clock_rows[told_by == name]) for name in sorted({*venues.tolist()}))


def _of_venue(venue: str, rows: Rows) -> ClockMeasures:
    offset = ClockOffset()
    offset.add_rows(rows)
    drift, error = _drift(rows)
    return ClockMeasures(
        venue=venue,
        probes=len(rows),
        offset_ms=offset.offset_ms,
        error_ms=offset.error_ms,
        drift_ms_per_h=drift,
        drift_error_ms_per_h=error,
        jumps=_jumps(rows),
    )


def _jumps(rows: Rows) -> int:
    """How often the clock was set. (`ClockOffset.jumps` looks farther back, where a steady drift adds up to a jump.)"""
    if len(rows) == 0:
        return 0
    quick = rows[rows["sequence"] <= 2 * np.median(rows["sequence"])]  # a slow probe would hide what happens beside it
    reach_ms = (quick["sequence"][1:] + quick["sequence"][:-1]) / 2 / NS_PER_MS + _VENUE_TICK_MS
    return int((np.abs(np.diff(quick["value"])) > reach_ms).sum())


def _drift(rows: Rows) -> tuple[float, float] | tuple[None, None]:
    """(slope, what it may be wrong by) in ms an hour."""
    if len(rows) < _FEWEST:
        return None, None
    chosen = rows[_quickest(rows["sequence"])] if len(rows) > _STRETCHES else rows
    at_ms: NDArray[np.float64] = (chosen["ts_recv_ns"] - chosen["ts_recv_ns"][0]) / NS_PER_MS
    error_ms = chosen["sequence"] / 2 / NS_PER_MS + _VENUE_TICK_MS
    first, second = np.triu_indices(len(chosen), k=1)
    is_apart = at_ms[second] > at_ms[first]
    if not is_apart.any():
        return None, None
    first, second = first[is_apart], second[is_apart]
    apart_ms = at_ms[second] - at_ms[first]
    slopes = (chosen["value"][second] - chosen["value"][first]) / apart_ms
    errors = (error_ms[second] + error_ms[first]) / apart_ms
    slope, least, most = (float(np.median(of)) for of in (slopes, slopes - errors, slopes + errors))
    return slope * _MS_PER_H, max(slope - least, most - slope) * _MS_PER_H


def _quickest(round_trips_ns: NDArray[np.int64]) -> Sequence[int]:
    """The place of the quickest probe of each stretch."""
    places = np.array_split(np.arange(len(round_trips_ns)), _STRETCHES)
    return [int(part[np.argmin(round_trips_ns[part])]) for part in places]
