"""What a session on disk survives: flipped bits, each located; and `kill -9` at any moment, with little lost and told.

Flips: one bit of one file of a certified session, file and place drawn; `validate-session`'s own code must name the file,
and an offset at most 64 KiB before the flip (session_manifest.json: the file). Kills: a capturing process is killed at a
drawn moment and its session finished as `oneprice recover` does; told is the time from the last frame on disk to the kill,
and the session must validate whole.

    python -m benchmarks.torture [--flips 1000] [--kills 200] [--json]"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from oneprice.app.certificate import certified
from oneprice.app.session import session_clock
from oneprice.data.capture import Capture
from oneprice.data.certify.terms import Terms, configuration, terms_of
from oneprice.data.certify.validate import validate
from oneprice.data.plan import PRACTICE, CapturePlan, VenuePlan
from oneprice.data.recover import CAPTURE, end_at_the_cut
from oneprice.data.session import CLOSED, RECOVERED, Session, SessionWriter
from oneprice.emulator.practice import spawn_practice_venues
from oneprice.model.errors import SessionError
from oneprice.model.time import NS_PER_MS, Clock, ScaledClock, SystemClock
from oneprice.venues.base import Endpoints

_VENUES = {"binance_spot": ("BTCUSDT", "ETHUSDT"), "binance_usdm": ("BTCUSDT",)}
_SESSION_S, _SPEED = 20.0, 20.0
_LONGEST_LIFE_S = 2.0
_LIVES = 8  # by the same venues
_PIECE = 64 * 1024
_FORKS = multiprocessing.get_context("forkserver")


async def _prepared(endpoints: Mapping[str, Endpoints], clock: Clock, http: aiohttp.ClientSession) -> Capture:
    plan = CapturePlan(
        venues={name: VenuePlan(symbols=symbols) for name, symbols in _VENUES.items()}, environment=PRACTICE,
        endpoints=endpoints,
    )  # fmt: skip
    return await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(), environ={})


def _writer(folder: Path, capture: Capture, clock: Clock) -> SessionWriter:
    return SessionWriter(
        folder, capture.instruments, source=CAPTURE, created_ns=clock.now_ns(),
        configuration=configuration(capture.plan, Terms()),
    )  # fmt: skip


def _certify(writer: SessionWriter, *, state: str, closed_ns: int) -> None:
    writer.finish()
    terms = terms_of(writer.manifest)
    certified(writer.folder, writer.manifest, terms, state=state, stop_reason="told to", closed_ns=closed_ns)


# -- flips ------------------------------------------------------------------------------------------------------------


async def _recorded(folder: Path) -> None:
    """A certified session of twenty seconds, in one."""
    clock = session_clock(_SPEED, emulated=True)
    assert isinstance(clock, ScaledClock)
    practice = await spawn_practice_venues(seed=7, venues=tuple(_VENUES), clock=clock)
    try:
        async with aiohttp.ClientSession() as http:
            capture = await _prepared(practice.endpoints, clock, http)
            writer = _writer(folder, capture, clock)
            task = asyncio.create_task(capture.run(recorder=writer))
            await asyncio.wait({task, asyncio.create_task(clock.sleep(_SESSION_S))}, return_when="FIRST_COMPLETED")
            task.cancel()
            await asyncio.wait([task])
    finally:
        await practice.stop()
    _certify(writer, state=CLOSED, closed_ns=clock.now_ns())


def _flips(folder: Path, count: int, draw: random.Random) -> dict[str, Any]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    unlocated, exact, behind = [], 0, []
    by_kind: Counter[str] = Counter()
    for _ in range(count):
        path = draw.choice(files)
        place, bit = draw.randrange(path.stat().st_size), 1 << draw.randrange(8)
        _flip(path, place, bit)
        name = path.relative_to(folder).as_posix()
        try:
            found = validate(folder, progress=lambda done, note: None).damage
            offset = next((damage.offset for damage in found if damage.file == name), None)
        except SessionError as told:
            offset = 0 if path.name in str(told) else None
        is_located = offset is not None and (
            offset <= place < offset + _PIECE or path.name == "session_manifest.json"
        )  # fmt: skip
        if not is_located:
            unlocated.append((name, place, bit, offset))
        else:
            behind.append(place - (offset or 0))
            exact += offset == place
        by_kind[path.suffix] += 1
        _flip(path, place, bit)
    return {
        "flips": count, "located": count - len(unlocated), "to_the_byte": exact, "bytes_before_p50": int(np.median(behind)),
        "by_suffix": dict(by_kind), "unlocated": unlocated[:5],
    }  # fmt: skip


def _flip(path: Path, place: int, bit: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ bit]))


# -- kills ------------------------------------------------------------------------------------------------------------


def _life(folder: Path, endpoints: Mapping[str, Endpoints]) -> None:
    """Capture until killed."""

    async def capturing() -> None:
        clock = SystemClock()
        async with aiohttp.ClientSession() as http:
            capture = await _prepared(endpoints, clock, http)
            await capture.run(recorder=_writer(folder, capture, clock))

    asyncio.run(capturing())


async def _kills(below: Path, count: int, draw: random.Random) -> dict[str, Any]:
    found = _Kills()
    _FORKS.set_forkserver_preload(["oneprice.app.certificate", "oneprice.data.capture"])
    while len(found.lost_ms) < count:  # new venues now and then: so many snapshots a minute are beyond their limits
        practice = await spawn_practice_venues(seed=7, venues=tuple(_VENUES))
        try:
            for _ in range(min(_LIVES, count - len(found.lost_ms))):
                await _kill(below / f"k{len(found.lost_ms)}", practice.endpoints, draw, found)
        finally:
            await practice.stop()
    return {
        "kills": count, "recovered_whole": count - len(found.broken), "rows": found.rows,
        "lost_ms_p50": round(float(np.median(found.lost_ms)), 1), "lost_ms_max": round(max(found.lost_ms), 1),
        "broken": found.broken[:5],
    }  # fmt: skip


class _Kills:
    def __init__(self) -> None:
        self.lost_ms: list[float] = []
        self.rows = 0
        self.broken: list[Any] = []


async def _kill(folder: Path, endpoints: Mapping[str, Endpoints], draw: random.Random, found: _Kills) -> None:
    """One life, its end, and what is left of it."""
    process = _FORKS.Process(target=_life, args=(folder, endpoints))
    process.start()
    while not (folder / "session_manifest.json").exists():  # noqa: ASYNC110  # another process makes it
        await asyncio.sleep(0.002)
    await asyncio.sleep(draw.uniform(0.0, _LONGEST_LIFE_S))
    killed_ns = time.time_ns()
    process.kill()
    process.join()
    cut = Session.open(folder)
    last_ns = max((record.recv_ns for record in cut.records()), default=cut.manifest.created_ns)
    found.lost_ms.append(max(0, killed_ns - last_ns) / NS_PER_MS)
    writer, _ = end_at_the_cut(folder)
    _certify(writer, state=RECOVERED, closed_ns=time.time_ns())
    told = validate(folder, progress=lambda done, note: None)
    found.rows += told.rows
    if not told.is_intact:
        found.broken.append((folder.name, [damage.file for damage in told.damage], str(told.divergence)))
    shutil.rmtree(folder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--flips", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    result: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        if options.flips:
            asyncio.run(_recorded(Path(folder) / "S"))
            result["flips"] = _flips(Path(folder) / "S", options.flips, draw)
        if options.kills:
            result["kills"] = asyncio.run(_kills(Path(folder), options.kills, draw))
    for part, figures in result.items():
        print(f"{part}: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    if options.json:
        print(json.dumps(result))
    if any(figures.get("unlocated") or figures.get("broken") for figures in result.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
