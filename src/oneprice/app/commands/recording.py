"""`oneprice import-recording` and `oneprice replay`: recordings in, sessions out again."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
import typer

from oneprice.app.certificate import certified, show
from oneprice.app.options import Json, Out
from oneprice.app.output import give, people, progress, say, table
from oneprice.app.session import fresh_folder
from oneprice.data.certify.terms import Terms
from oneprice.data.importer import import_recordings
from oneprice.data.replay import Replay
from oneprice.data.session import CLOSED, Session
from oneprice.model.instrument import Instrument
from oneprice.model.tape import Kind, Rows, view

_IMPORT_EXAMPLES = """Examples:

  oneprice import-recording recordings/*.gz --out S

  oneprice import-recording spot.gz --venue binance_spot --out S --json"""
_REPLAY_EXAMPLES = """Examples:

  oneprice replay --session S

  oneprice replay --session S --realtime --print | head

  oneprice replay --session A --session B --speed 10 --json"""


def register(app: typer.Typer) -> None:
    app.command(name="import-recording", epilog=_IMPORT_EXAMPLES)(import_recording)
    app.command(name="replay", epilog=_REPLAY_EXAMPLES)(replay)


def import_recording(
    recordings: Annotated[list[Path], typer.Argument(help="Files of `<local ns> <json>` lines, gzipped or bare.")],
    out: Out = None,
    venue: Annotated[str | None, typer.Option(help="The venue, when the frames do not tell.")] = None,
    instruments: Annotated[
        Path | None, typer.Option(help="instruments.json whose rules take the place of inferred ones.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a session of recordings and say how good it is: gaps, agreement with the venue's quotes, clock offset."""
    given: list[Instrument] = []
    if instruments is not None:
        given = msgspec.json.decode(instruments.read_bytes(), type=list[Instrument])
    folder = fresh_folder(out, kind="import", below="sessions")
    with progress("importing", total=1.0) as advance:
        result = import_recordings(recordings, folder, venue=venue, instruments=given, progress=advance)
    made = Session.open(folder).manifest
    certificate = certified(
        folder, made, Terms(), state=CLOSED, stop_reason="the recordings end here", closed_ns=made.closed_ns
    )  # fmt: skip
    if not as_json:
        rows = [
            (
                symbol.instrument, f"{symbol.rows:,}", f"{symbol.gaps:,}",
                "–" if symbol.bbo_agreement is None else f"{symbol.bbo_agreement:.4%} of {symbol.bbo_compared:,}",
                "–" if symbol.clock_offset_ms is None else f"{symbol.clock_offset_ms:,.1f}",
            )
            for symbol in result.symbols
        ]  # fmt: skip
        people.print(table("", rows, ("instrument", "rows", "gaps", "best bid/ask agrees", "clock offset ms")))
        show(certificate)
        for note in result.notes:
            say(f"note: {note}")
        if result.rejected:
            say(f"{result.rejected:,} of {result.lines:,} lines could not be used; see {folder}/rejected.jsonl")
        say(f"next: [bold]oneprice run --mode backtest --session {folder} --strategies basis[/bold]")
    give({**msgspec.structs.asdict(result), "certificate": certificate}, as_json=as_json)


def replay(
    session: Annotated[list[Path], typer.Option("--session", "--file", help="Session folder (repeat to merge).")],
    realtime: Annotated[bool, typer.Option("--realtime", help="At the speed it was recorded.")] = False,
    speed: Annotated[float | None, typer.Option(help="So many times the speed it was recorded.", min=0.01)] = None,
    show: Annotated[bool, typer.Option("--print", help="Print every row as one JSON object a line.")] = False,
    as_json: Json = False,
) -> None:
    """Play sessions back, merged by receive time, and count what is on them."""
    played = Replay([Session.open(folder) for folder in session])
    counts = np.zeros(max(Kind) + 1, dtype=np.int64)
    span = [0, 0]

    def take(rows: Rows) -> None:
        counts[:] += np.bincount(rows["kind"], minlength=len(counts))
        span[0] = span[0] or int(rows["ts_recv_ns"][0])
        span[1] = int(rows["ts_recv_ns"][-1])
        if show:
            for row in rows:
                sys.stdout.write(msgspec.json.encode(view(row, played.instruments)).decode() + "\n")

    async def paced(factor: float) -> None:
        async for rows in played.paced(factor):
            take(rows)

    if realtime or speed is not None:
        asyncio.run(paced(speed if speed is not None else 1.0))
    else:
        for rows in played.rows():
            take(rows)
    by_kind = {kind.name.lower(): int(counts[kind]) for kind in Kind if counts[kind]}
    if not as_json and not show:
        people.print(table("", [(name, f"{count:,}") for name, count in by_kind.items()], ("rows", "")))
    result = {"rows": int(counts.sum()), "by_kind": by_kind, "seconds": (span[1] - span[0]) / 1e9}
    give(result, as_json=as_json)
