"""How far this machine's clock is from a venue's: `clock_offset_ms` = local − venue (negative: local is behind).

With round trips (live): the venue's answer carries its time; it was made somewhere between sending and receiving, so
the middle of the two is the best guess and half the round trip the worst error. The quickest of the last probes counts.
So every probe gives an interval, offset ± round trip / 2, that holds the true offset. Two intervals of one offset overlap,
however slow the network was. Where a new probe's does not overlap that of the quickest, a clock has been set since (or has
drifted as far): what was known before is dropped, and the new probe counts at once.
Source: D. Mills, RFC 5905, section 8 (the on-wire protocol, with one server time instead of two).

Without round trips (a recording): receive time − venue time of many messages is offset + one-way delay. Its lower
envelope is offset + the smallest delay, which nothing in the recording can separate: an upper bound of the offset, good
to the few milliseconds that the quickest message took."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from oneprice.model.errors import InputError
from oneprice.model.tape import Kind, Rows
from oneprice.model.time import NS_PER_MS

_VENUE_TICK_NS = NS_PER_MS  # venues tell the time in whole milliseconds


class _Probe(NamedTuple):
    round_trip_ns: int
    offset_ns: int

    def overlaps(self, other: _Probe) -> bool:
        """Whether both may be probes of the same offset."""
        reach_ns = (self.round_trip_ns + other.round_trip_ns) // 2 + _VENUE_TICK_NS
        return abs(self.offset_ns - other.offset_ns) <= reach_ns


class ClockOffset:
    """The offset to one venue from the newest round trips. `jumps` counts how often the older ones were dropped."""

    def __init__(self, keep: int = 16) -> None:
        self._probes: deque[_Probe] = deque(maxlen=keep)
        self.jumps = 0

    def add_round_trip(self, *, sent_ns: int, recv_ns: int, venue_ns: int) -> None:
        """One probe: when it was sent and its answer received (local clock), and the time in the answer."""
        if recv_ns < sent_ns:
            raise InputError(f"a round trip that ends {sent_ns - recv_ns} ns before it began says nothing about clocks")
        probe = _Probe(recv_ns - sent_ns, (sent_ns + recv_ns) // 2 - venue_ns)
        if self._probes and not probe.overlaps(min(self._probes)):
            self._probes.clear()
            self.jumps += 1
        self._probes.append(probe)

    def add_rows(self, rows: Rows) -> None:
        """Take the CLOCK rows of a piece of tape."""
        for row in rows[rows["kind"] == int(Kind.CLOCK)]:
            recv_ns, round_trip_ns = int(row["ts_recv_ns"]), int(row["sequence"])
            self.add_round_trip(
                sent_ns=recv_ns - round_trip_ns, recv_ns=recv_ns, venue_ns=int(row["ts_venue_ns"])
            )  # fmt: skip

    @property
    def offset_ms(self) -> float | None:
        """Local − venue in ms, of the quickest kept probe; None before the first."""
        return min(self._probes).offset_ns / NS_PER_MS if self._probes else None

    @property
    def error_ms(self) -> float | None:
        """What the offset may be wrong by: half the quickest round trip."""
        return min(self._probes).round_trip_ns / 2 / NS_PER_MS if self._probes else None


def one_way_offset_ms(recv_ns: NDArray[np.int64], venue_ns: NDArray[np.int64], *, quantile: float = 0.001) -> float:
    """Offset + smallest one-way delay in ms, from messages alone: a low quantile of receive − venue time.

    A quantile instead of the minimum, because one message with a venue time from the future would decide the minimum.
    Messages without a venue time (0) are left out; InputError when none is left.
    """
    stamped = venue_ns > 0
    if not stamped.any():
        raise InputError("no message carries a venue time: the clock offset cannot be told from this recording")
    delays_ns = recv_ns[stamped] - venue_ns[stamped]
    return float(np.quantile(delays_ns, quantile, method="lower")) / NS_PER_MS
