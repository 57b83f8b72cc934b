"""How the feeds of a capture are, for people: once a second from the counts that the machines keep anyway, so that
nothing is counted twice and nothing is measured per message."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from oneprice.data.clock_offset import ClockOffset
from oneprice.data.connection import Feed
from oneprice.data.machines import Machines
from oneprice.model.tape import Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Channel
from oneprice.venues.feed import FeedMachine, FeedStatistics

_log = logging.getLogger("oneprice.data")
_SAMPLE_NS = NS_PER_S


class FeedHealth(msgspec.Struct, frozen=True, kw_only=True):
    """One feed at a moment. Counts are over the whole capture, over all links of the feed."""

    venue: str
    path: str
    state: str  # connecting, open, replacing, waiting
    subscriptions: int
    frames: int
    frames_per_s: float  # over the last second
    lag_ms: float | None  # receive − venue time, median, less the clock offset where that is known; None: no data yet
    data_age_ms: float | None  # since the last market data; None: none yet
    books: int
    books_standing: int
    gaps: int
    resyncs: int
    ignored: int
    rejected: int
    reconnects: int
    replacements: int
    silences: int
    refused: str  # why the last attempt to connect failed; "" after a success


class _Watched:
    def __init__(self, feed: Feed) -> None:
        self.feed = feed
        self.ended = FeedStatistics()
        self.sampled_frames = 0
        self.frames_per_s = 0.0
        self.lag_ms: float | None = None


class HealthWatch:
    """The running figures of all feeds of a capture."""

    def __init__(self, feeds: Sequence[Feed], machines: Machines) -> None:
        self._watched = {id(feed): _Watched(feed) for feed in feeds}
        self._machines = machines
        self._offsets: dict[str, ClockOffset] = {}
        self._rejections: dict[str, Counter[str]] = {}
        self._recent: list[Rows] = []
        self._sampled_ns = 0

    def offset_of(self, venue: str) -> ClockOffset:
        return self._offsets.setdefault(venue, ClockOffset())

    def on_clock_rows(self, venue: str, rows: Rows) -> None:
        """The answers to clock probes of a venue; a jump is told."""
        offset = self.offset_of(venue)
        before_ms, jumps = offset.offset_ms, offset.jumps
        offset.add_rows(rows)
        if offset.jumps > jumps:
            _log.warning(
                "%s: the clock offset (local - venue) went from %.1f to %.1f ms, more than round trips explain: a clock was "
                "set; receive times before and after differ by as much", venue, before_ms, offset.offset_ms,
            )  # fmt: skip

    def link_closed(self, feed: Feed, statistics: FeedStatistics) -> None:
        """A link of a feed has ended with these counts."""
        self._watched[id(feed)].ended.add(statistics)

    def on_rows(self, rows: Rows, now_ns: int) -> None:
        """A micro-batch; once a second those of the last second are looked at."""
        self._recent.append(rows)
        elapsed_ns = now_ns - self._sampled_ns
        if elapsed_ns < _SAMPLE_NS:
            return
        recent = np.concatenate(self._recent)
        self._recent = []
        self._sampled_ns = now_ns
        for watched in self._watched.values():
            frames = self._statistics(watched).frames
            watched.frames_per_s = (frames - watched.sampled_frames) * NS_PER_S / elapsed_ns
            watched.sampled_frames = frames
            lag_ms = _lag_ms(recent, watched.feed.state.link)
            if lag_ms is not None:
                watched.lag_ms = lag_ms - (self.offset_of(watched.feed.plan.venue).offset_ms or 0.0)
        for name, machine in self._machines.by_venue.items():
            self._report_rejections(name, machine)

    def of(self, now_ns: int) -> list[FeedHealth]:
        """All feeds, in the plan's order."""
        found = []
        for watched in self._watched.values():
            plan, state, statistics = watched.feed.plan, watched.feed.state, self._statistics(watched)
            machine = self._machines.by_venue.get(plan.venue)
            depth = sum(subscription.channel is Channel.DEPTH for subscription in plan.subscriptions)
            joins = machine.joins.values() if machine is not None else ()
            found.append(
                FeedHealth(
                    venue=plan.venue, path=plan.path, state=state.phase, subscriptions=len(plan.subscriptions),
                    frames=statistics.frames, frames_per_s=watched.frames_per_s, lag_ms=watched.lag_ms,
                    data_age_ms=(now_ns - statistics.data_ns) / NS_PER_MS if statistics.data_ns > 0 else None,
                    books=depth,
                    books_standing=sum(join.book_id >= 0 and join.feed == state.link for join in joins),
                    gaps=statistics.gaps, resyncs=statistics.resyncs, ignored=statistics.ignored,
                    rejected=statistics.rejected, reconnects=state.reconnects, replacements=state.replacements,
                    silences=state.silences, refused=state.refused,
                )
            )  # fmt: skip
        return found

    def _statistics(self, watched: _Watched) -> FeedStatistics:
        total = FeedStatistics()
        total.add(watched.ended)
        machine = self._machines.by_venue.get(watched.feed.plan.venue)
        if machine is not None:
            for number in watched.feed.links:
                total.add(machine.statistics_of(number))
        return total

    def _report_rejections(self, name: str, machine: FeedMachine) -> None:
        """One line for all that a venue sent and that could not be used since the last one."""
        before = self._rejections.get(name, Counter())
        if machine.rejections != before:
            new = machine.rejections - before
            self._rejections[name] = machine.rejections.copy()
            counts = ", ".join(f"{kind} {count}" for kind, count in sorted(new.items()))
            _log.warning("%s: %d messages kept aside (%s); the last: %s", name, new.total(), counts,
                         machine.rejected[-1].reason)  # fmt: skip


def _lag_ms(rows: Rows, link: int) -> float | None:
    """Median of receive − venue time of a link's stamped rows; None when there is none."""
    ours = rows[(rows["feed"] == link) & (rows["ts_venue_ns"] > 0)]
    return float(np.median(ours["ts_recv_ns"] - ours["ts_venue_ns"])) / NS_PER_MS if len(ours) else None
