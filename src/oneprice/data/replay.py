"""Sessions as a tape again: one or many, merged by receive time, at any speed.

Merging is stable: rows with the same receive time keep the order of the sessions' names, and within a session their own.
Where a session carries TIMER rows they stand; where none does, they are laid on a fixed grid of receive time, so that
strategies look at the same moments in every replay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence

import numpy as np
from numba import njit

from oneprice.data.session import Session
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import LAST, ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S

_TIMER = int(Kind.TIMER)
_WAKE_S = 0.02


class Replay:
    """The rows of some sessions under one instrument table."""

    def __init__(self, sessions: Sequence[Session], *, timer_ms: int = 10) -> None:
        self.sessions = sorted(sessions, key=lambda session: session.folder.name)
        self.instruments = InstrumentTable(
            instrument for session in self.sessions for instrument in session.instruments
        )
        self._timer_ns = timer_ms * NS_PER_MS

    def rows(self) -> Iterator[Rows]:
        """Every row at full speed, in chunks."""
        streams = [self._renumbered(session) for session in self.sessions]
        merged = streams[0] if len(streams) == 1 else _merged(streams)
        return self._timed(merged)

    async def paced(self, speed: float) -> AsyncIterator[Rows]:
        """Every row when its time has come, `speed` times as fast as it was recorded (1: real time)."""
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

    def _renumbered(self, session: Session) -> Iterator[Rows]:
        """A session's rows with the numbers of the common instrument table."""
        numbers = np.array(
            [self.instruments.index(instrument.venue, instrument.symbol) for instrument in session.instruments],
            dtype=np.int32,
        )
        same = bool((numbers == np.arange(len(numbers))).all())
        for rows in session.rows():
            if not same:
                known = rows["instrument"] >= 0
                rows["instrument"][known] = numbers[rows["instrument"][known]]
            if len(rows):
                yield rows

    def _timed(self, chunks: Iterator[Rows]) -> Iterator[Rows]:
        has_timers: bool | None = None
        next_ns, number = 0, 0
        last_ns = 0
        for chunk in chunks:
            if has_timers is None:
                has_timers = any(bool((rows["kind"] == _TIMER).any()) for rows in _first_blocks(self.sessions))
                next_ns = (int(chunk["ts_recv_ns"][0]) // self._timer_ns + 1) * self._timer_ns
            if has_timers:
                yield chunk
                continue
            times = np.ascontiguousarray(chunk["ts_recv_ns"])
            out = np.zeros(len(chunk) + _timers_between(next_ns, int(times[-1]), self._timer_ns), dtype=ROW)
            next_ns, number, used = _lay_timers(chunk, times, out, next_ns, self._timer_ns, number)
            last_ns = int(times[-1])
            yield out[:used]
        if has_timers is False:
            end = np.zeros(1, dtype=ROW)
            end["kind"], end["flags"], end["instrument"], end["feed"] = _TIMER, LAST, -1, -1
            end["ts_recv_ns"], end["sequence"] = max(next_ns, last_ns), number
            yield end


def _first_blocks(sessions: Sequence[Session]) -> Iterator[Rows]:
    for session in sessions:
        yield from (rows for rows, _ in zip(session.rows(), range(1), strict=False))


def _timers_between(next_ns: int, last_ns: int, step_ns: int) -> int:
    return max(0, (last_ns - next_ns) // step_ns + 1)


@njit(cache=True)
def _lay_timers(rows, times, out, next_ns, step_ns, number):
    """Copy rows into `out` with a TIMER row before the first row of each new step; only steps with rows get one."""
    n = 0
    pending = False
    for k in range(rows.shape[0]):
        if times[k] >= next_ns:
            if pending or number == 0:
                out[n].ts_recv_ns = next_ns
                out[n].sequence = number
                out[n].instrument = -1
                out[n].feed = -1
                out[n].kind = _TIMER
                out[n].flags = LAST
                n += 1
                number += 1
            next_ns = (times[k] // step_ns + 1) * step_ns
        out[n] = rows[k]
        n += 1
        pending = True
    return next_ns, number, n


def _merged(streams: Sequence[Iterator[Rows]]) -> Iterator[Rows]:
    """Streams merged by receive time, ties in the order of the streams."""
    held: list[Rows | None] = [next(stream, None) for stream in streams]
    while True:
        live = [rows for rows in held if rows is not None]
        if not live:
            return
        # Up to here every stream has shown all it has: later rows may still be preceded by another stream's next chunk.
        safe_ns = min(int(rows["ts_recv_ns"][-1]) for rows in live)
        parts = []
        for place, rows in enumerate(held):
            if rows is None:
                continue
            # A chunk that ends at the safe time may go on with the same time: what equals it waits for the next chunk.
            stop = int(np.searchsorted(rows["ts_recv_ns"], safe_ns, side="left"))
            following: Rows | None = rows
            if int(rows["ts_recv_ns"][-1]) == safe_ns:
                more = next(streams[place], None)
                if more is None:
                    stop, following = len(rows), None
                else:
                    following = np.concatenate((rows[stop:], more))
            else:
                following = rows[stop:]
            parts.append(rows[:stop])
            held[place] = following
        together = np.concatenate(parts)
        if len(together):
            yield together[np.argsort(together["ts_recv_ns"], kind="stable")]
