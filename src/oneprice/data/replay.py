"""Sessions as a tape again: one or many, merged by receive time, at any speed.

Merging is stable: rows with the same receive time keep the order of their sessions, which is that of the folders' names
(of equal names, that of their beginnings), and within a session their own. So the order in which sessions are named changes
nothing. Where a session carries TIMER rows they stand; where none does, they are laid on a fixed grid of receive time, so
that strategies look at the same moments in every replay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import combinations

import numpy as np
from numba import njit

from oneprice.data.session import Session, joined
from oneprice.data.union import Translation, union_of
from oneprice.model.errors import InputError
from oneprice.model.tape import LAST, ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S, iso_ms

_TIMER = int(Kind.TIMER)
_WAKE_S = 0.02


class Replay:
    """The rows of some sessions under one instrument table, `instruments`.

    InputError for sessions that hold the same instrument at the same time: two views of one book cannot be mixed.
    """

    def __init__(self, sessions: Sequence[Session], *, timer_ms: int = 10) -> None:
        if not sessions:
            raise InputError("there is no session to replay")
        if timer_ms < 1:
            raise InputError(f"timer_ms {timer_ms}: a timer needs a step of at least 1 ms")
        self.sessions = sorted(sessions, key=_place)
        for one, other in combinations(self.sessions, 2):
            _refuse_overlap(one, other)
        self.instruments = union_of(self.sessions)
        self._timer_ns = timer_ms * NS_PER_MS

    def rows(self) -> Iterator[Rows]:
        """Every row at full speed, in chunks that the caller may change."""
        streams = []
        first_feed = 0
        for session in self.sessions:
            streams.append(_translated(session, Translation(session, self.instruments, first_feed)))
            first_feed += 1 + max((feed.number for feed in session.manifest.feeds), default=-1)
        return self._timed(streams[0] if len(streams) == 1 else _merged(streams))

    async def paced(self, speed: float) -> AsyncIterator[Rows]:
        """Every row when its time has come, `speed` times as fast as it was recorded (1: real time)."""
        if not speed > 0.0:
            raise InputError(f"speed {speed}: a replay goes forward; give a number above 0")
        began_ns, began = -1, time.monotonic()
        for chunk in self.rows():
            start = 0
            if began_ns < 0:
                began_ns = int(chunk["ts_recv_ns"][0])
            times = np.ascontiguousarray(chunk["ts_recv_ns"])
            while start < len(chunk):
                reached_ns = began_ns + int((time.monotonic() - began) * speed * NS_PER_S)
                stop = int(np.searchsorted(times, reached_ns, side="right"))
                if stop > start:
                    yield chunk[start:stop]
                    start = stop
                if start < len(chunk):
                    ahead_s = (int(times[start]) - reached_ns) / NS_PER_S / speed
                    await asyncio.sleep(min(max(ahead_s, 0.0), _WAKE_S))

    def _timed(self, chunks: Iterator[Rows]) -> Iterator[Rows]:
        """The rows as they are where a session has timers, else with timers laid between them."""
        if any(_has_timers(session) for session in self.sessions):
            yield from chunks
            return
        next_ns, number, last_ns = -1, 0, 0
        for chunk in chunks:
            times = np.ascontiguousarray(chunk["ts_recv_ns"])
            if next_ns < 0:
                next_ns = (int(times[0]) // self._timer_ns + 1) * self._timer_ns
            out = np.empty(2 * len(chunk), dtype=ROW)  # a row brings one timer at most
            next_ns, number, used = _lay_timers(chunk, times, out, next_ns, self._timer_ns, number)
            last_ns = int(times[-1])
            yield out[:used]
        if last_ns:
            end = np.zeros(1, dtype=ROW)
            end["kind"], end["flags"], end["instrument"], end["feed"] = _TIMER, LAST, -1, -1
            end["ts_recv_ns"], end["sequence"] = max(next_ns, last_ns), number
            yield end


def _place(session: Session) -> tuple[str, int, str]:
    return session.folder.name, session.manifest.created_ns, str(session.folder.resolve())


def _refuse_overlap(one: Session, other: Session) -> None:
    common = {instrument.key for instrument in one.instruments} & {instrument.key for instrument in other.instruments}
    ours, theirs = one.span_ns(), other.span_ns()
    if not common or ours is None or theirs is None:
        return
    begin_ns, end_ns = max(ours[0], theirs[0]), min(ours[1], theirs[1])
    if begin_ns <= end_ns:
        raise InputError(
            f"{one.folder} and {other.folder} both hold {min(common)} from {iso_ms(begin_ns)} to {iso_ms(end_ns)}; "
            "their books would mix, so replay one of them"
        )


def _has_timers(session: Session) -> bool:
    """A capture cuts its tape every few milliseconds, so a timer is in the first chunk or nowhere."""
    first = next(session.rows(), None)
    return first is not None and bool((first["kind"] == _TIMER).any())


def _translated(session: Session, translation: Translation) -> Iterator[Rows]:
    for rows in session.rows():
        translation.apply(rows)
        if len(rows):
            yield rows


@njit(cache=True)
def _lay_timers(rows, times, out, next_ns, step_ns, number):
    """Copy rows into `out` with a TIMER row before the first row of each new step; only steps with rows get one."""
    n = 0
    for k in range(rows.shape[0]):
        if times[k] >= next_ns:
            out[n].ts_recv_ns = next_ns
            out[n].ts_venue_ns = 0
            out[n].sequence = number
            out[n].price = 0
            out[n].qty = 0
            out[n].value = 0.0
            out[n].instrument = -1
            out[n].feed = -1
            out[n].kind = _TIMER
            out[n].flags = LAST
            out[n].aux = 0
            out[n].reserved = 0
            n += 1
            number += 1
            next_ns = (times[k] // step_ns + 1) * step_ns
        out[n] = rows[k]
        n += 1
    return next_ns, number, n


def _merged(streams: Sequence[Iterator[Rows]]) -> Iterator[Rows]:
    """Streams merged by receive time, ties in the order of the streams."""
    held: list[Rows] = [next(stream, _NONE) for stream in streams]
    goes_on = [len(rows) > 0 for rows in held]
    while True:
        ends_ns = [int(rows["ts_recv_ns"][-1]) for rows, more in zip(held, goes_on, strict=True) if more]
        # Rows before this time are all there. Those at it may be followed by more of the same time, from any stream.
        safe_ns = min(ends_ns, default=np.iinfo(np.int64).max)
        together = _NONE
        for place, rows in enumerate(held):
            stop = _first_at(rows, safe_ns) if ends_ns else len(rows)
            if len(together) == 0:
                together = rows[:stop]
            elif stop > 0:
                out = np.empty(len(together) + stop, dtype=ROW)
                _merge(together, rows[:stop], out)
                together = out
            held[place] = rows[stop:]
        if len(together):
            yield together
        if not ends_ns:
            return
        for place, stream in enumerate(streams):
            if goes_on[place] and int(held[place]["ts_recv_ns"][-1]) == safe_ns:
                more = next(stream, _NONE)
                goes_on[place] = len(more) > 0
                held[place] = joined((held[place], more))


@njit(cache=True)
def _first_at(rows, time_ns):
    """Index of the first row that is not before a time."""
    low, high = 0, rows.shape[0]
    while low < high:
        middle = (low + high) // 2
        if rows[middle].ts_recv_ns < time_ns:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def _merge(first, second, out):
    """Two runs in order of time as one; at equal times those of the first run come first."""
    i, j = 0, 0
    for k in range(out.shape[0]):
        if j == second.shape[0] or (i < first.shape[0] and first[i].ts_recv_ns <= second[j].ts_recv_ns):
            out[k] = first[i]
            i += 1
        else:
            out[k] = second[j]
            j += 1


_NONE: Rows = np.zeros(0, dtype=ROW)
