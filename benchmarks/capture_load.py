"""A capture under load: 13 symbols of depth, trades and tickers on one core, until it is sure that nothing is lost.

One core sends (`load_venue`), the other records through the real path: sockets, machines, raw log and tape on disk. Told
are messages sent and recorded (by symbol and kind: equal, or it fails), gaps, CPU a message, the lag from the sender's
clock to the tape (p50, p99; the sender's times are in milliseconds), memory's slope over the last four fifths, bytes on disk
a message against gzipped CSV of the same rows in the form that Tardis sells.

    python -m benchmarks.capture_load [--seconds 20] [--rate 20000] [--json]        ten minutes: --seconds 600"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import multiprocessing
import os
import random
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.load_venue import play
from oneprice.data.capture import Capture
from oneprice.data.plan import PRACTICE, CapturePlan, VenuePlan
from oneprice.data.session import Session, SessionWriter, joined
from oneprice.model.tape import ASK, LAST, SNAPSHOT, Kind
from oneprice.model.time import SystemClock
from oneprice.venues.base import Channel, Endpoints

_BASES = ("BTC", "ETH", "BNB", "SOL", "XRP", "ADA", "DOGE", "TRX", "AVAX", "LINK", "DOT", "LTC", "UNI")
SYMBOLS = tuple(f"{base}USDT" for base in _BASES)
_WARM_UP_S = 2.0
_KINDS = {"depth": Kind.DEPTH, "trade": Kind.TRADE, "bookTicker": Kind.QUOTE}


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


async def _measure(folder: Path, seconds: float, rate: int) -> dict[str, Any]:
    ours, theirs = multiprocessing.Pipe()
    venue = multiprocessing.get_context("spawn").Process(target=play, args=(SYMBOLS, rate, theirs), daemon=True)
    venue.start()
    rest, ws = await asyncio.to_thread(ours.recv)
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(venue.pid or 0, {cores[1]})
        os.sched_setaffinity(0, {cores[0]})
    plan = CapturePlan(
        venues={
            "binance_spot": VenuePlan(symbols=SYMBOLS, channels=(Channel.DEPTH, Channel.QUOTE, Channel.TRADE))
        },
        environment=PRACTICE, symbols_per_connection=1,
        endpoints={"binance_spot": Endpoints(ws={"public": f"ws://127.0.0.1:{ws}"}, rest=f"http://127.0.0.1:{rest}")},
    )  # fmt: skip
    memory: list[tuple[float, float]] = []
    async with aiohttp.ClientSession() as http:
        capture = await Capture.prepare(plan, http=http, clock=SystemClock(), rng=random.Random(1))
        writer = SessionWriter(folder, capture.instruments, source="capture", created_ns=time.time_ns())
        running = asyncio.create_task(capture.run(recorder=writer))
        await asyncio.sleep(_WARM_UP_S)
        began, cpu, frames = time.monotonic(), _cpu_s(), writer.manifest.frames
        while time.monotonic() - began < seconds:
            await asyncio.sleep(1.0)
            memory.append((time.monotonic() - began, _resident_mb()))
        elapsed, cpu, frames = time.monotonic() - began, _cpu_s() - cpu, writer.manifest.frames - frames
        async with http.get(f"http://127.0.0.1:{rest}/sent") as told:
            sent = await told.json()
        await asyncio.sleep(1.0)  # what is on its way arrives
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        gaps = sum(feed.gaps for feed in capture.health())
    writer.close(closed_ns=time.time_ns())
    venue.kill()
    late = np.array(memory[len(memory) // 5 :])
    return {
        "rate_asked": rate, "seconds": round(elapsed, 1), "messages_per_s": round(frames / elapsed),
        "cpu_us_per_message": round(cpu / frames * 1e6, 2), "core_share": round(cpu / elapsed, 3), "gaps": gaps,
        "rss_mb": round(memory[-1][1], 1),
        "rss_slope_mb_per_min": round(float(np.polyfit(late[:, 0], late[:, 1], 1)[0]) * 60, 2) if len(late) > 2 else None,
        **_against(Session.open(folder), sent),
    }  # fmt: skip


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _against(session: Session, sent: dict[str, dict[str, int]]) -> dict[str, Any]:
    """What the tape holds against what was sent, and how late it came."""
    lost = recorded = 0
    lags = []
    counts = {name: dict.fromkeys(_KINDS, 0) for name in sent}
    for rows in session.rows():
        ends = rows[rows["flags"] & LAST != 0]
        for i, instrument in enumerate(session.instruments):
            ours = ends[ends["instrument"] == i]
            for name, kind in _KINDS.items():
                of_kind = ours[(ours["kind"] == int(kind)) & (ours["flags"] & SNAPSHOT == 0)]
                counts[instrument.symbol][name] += len(of_kind)
        stamped = ends[ends["kind"] == int(Kind.TRADE)]
        lags.append(stamped["ts_recv_ns"] - stamped["ts_venue_ns"])
    for name, kinds in sent.items():
        for kind, count in kinds.items():
            recorded += counts[name][kind]
            # Diffs that the snapshot already held are dropped by the joining rule, and are no loss.
            lost += max(0, count - counts[name][kind]) if kind != "depth" else 0
    lag_ms = np.concatenate(lags) / 1e6
    frames = sum(path.stat().st_size for path in session.segments("frames"))
    tape = sum(path.stat().st_size for path in session.segments("tape"))
    return {
        "sent": sum(sum(kinds.values()) for kinds in sent.values()), "recorded": recorded, "lost": lost,
        "lag_ms_p50": round(float(np.percentile(lag_ms, 50)), 2), "lag_ms_p99": round(float(np.percentile(lag_ms, 99)), 2),
        "bytes_per_message": {
            "raw frames": round(frames / recorded, 1), "tape": round(tape / recorded, 1),
            "csv.gz": round(_csv_bytes(session) / recorded, 1),
        },
    }  # fmt: skip


def _csv_bytes(session: Session, sample: int = 200_000) -> float:
    """Size of the whole tape as gzipped CSV, one level a line (exchange, symbol, two times, snapshot, side, price, amount),
    estimated from the first rows."""
    taken = joined(next(iter([[chunk for _, chunk in zip(range(12), session.rows(), strict=False)]])))[:sample]
    lines = [
        f"binance,{session.instruments[int(row['instrument'])].symbol},{int(row['ts_venue_ns']) // 1000},"
        f"{int(row['ts_recv_ns']) // 1000},{'true' if row['flags'] & SNAPSHOT else 'false'},"
        f"{'ask' if row['flags'] & ASK else 'bid'},{int(row['price']) / 100:.2f},{int(row['qty']) / 1e8:.8g}\n"
        for row in taken
        if row["instrument"] >= 0
    ]
    return len(gzip.compress("".join(lines).encode(), 6)) / len(taken) * session.manifest.rows


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as aside:
        found = asyncio.run(_measure(Path(aside) / "S", asked.seconds, asked.rate))
    for name, value in found.items():
        print(f"{name:24} {value}")
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
