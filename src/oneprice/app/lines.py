"""What a capture brings, as lines of a file while it goes on: for `capture-trades` and `capture-funding`."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import aiohttp
import numpy as np

from oneprice.app.output import say
from oneprice.app.session import make_ready, practice_venues, until
from oneprice.data.capture import Capture
from oneprice.data.certify.names import session_names
from oneprice.data.export.jsonl import Lines
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import LAST, ROW, Kind, Rows
from oneprice.model.time import Clock
from oneprice.venues.base import Venue


class Written(NamedTuple):
    """What was written of one symbol. `unwritable`: messages that made no line, because a value is not exact."""

    lines: int
    unwritable: int
    longest_silence_ns: int


async def write_lines(
    venue: Venue, wanted: VenuePlan, stream: str, out: str, for_s: float, *, clock: Clock, emulated: bool, seed: int
) -> dict[str, Written]:
    """Capture one venue and write the lines of one stream (`trades`, `funding`) to a file, or to standard output for `-`,
    until the time is over or a signal comes; → by symbol, what was written."""
    make_ready((venue.name,))
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(
            practice_venues(emulated, seed=seed, venues=(venue.name,), clock=clock)
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        plan = CapturePlan(venues={venue.name: wanted}, endpoints=endpoints)
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random())
        names = session_names(capture.instruments)
        lines = _compiled(capture.instruments, names, stream)
        file = sys.stdout.buffer if out == "-" else stack.enter_context(Path(out).open("wb"))  # noqa: ASYNC230, SIM115
        last_ns, longest_ns = [clock.now_ns()] * len(names), [0] * len(names)

        def heard(i: int, now_ns: int) -> None:
            longest_ns[i] = max(longest_ns[i], now_ns - last_ns[i])
            last_ns[i] = now_ns

        def write(rows: Rows) -> None:
            for part in lines.of(rows):
                file.write(part.text)
                heard(part.instrument, int(rows[-1]["ts_recv_ns"]))
            file.flush()

        say(f"writing {stream} of {', '.join(names)} to {out}; Ctrl-C ends it in order")
        await until(capture.run(on_rows=write), for_s, clock)
        for i in range(len(names)):
            heard(i, clock.now_ns())  # the silence at the end counts, too
    return {
        name: Written(lines.count(i, stream), lines.unwritable(i), longest_ns[i]) for i, name in enumerate(names)
    }  # fmt: skip


def _compiled(instruments: InstrumentTable, names: Sequence[str], stream: str) -> Lines:
    """What makes the lines, compiled: the first row compiles (once on a machine, for seconds), and later a socket waits."""
    row = np.zeros(1, dtype=ROW)
    row["kind"], row["flags"] = int(Kind.TRADE), LAST
    tuple(Lines(instruments, names, streams=(stream,)).of(row))
    return Lines(instruments, names, streams=(stream,))
