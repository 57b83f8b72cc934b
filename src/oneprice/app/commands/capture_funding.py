"""`oneprice capture-funding`: mark price, index price, funding rate and next funding time of perpetuals, as JSON lines.

By the venue's stream, or by REST polling at a fixed cadence: what to fall back to, and to check the stream with. Either
way the rows of the capture are the same, and the lines are made of rows."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Annotated

import typer

from oneprice.app.lines import write_lines
from oneprice.app.options import Emulated, Json, Seed, Speed, listed
from oneprice.app.output import give, people, table
from oneprice.app.session import session_clock
from oneprice.data.plan import VenuePlan
from oneprice.data.universe import products
from oneprice.model.errors import InputError
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Channel, Venue
from oneprice.venues.registry import VENUES
from oneprice.venues.registry import venue as find_venue

_EXAMPLES = """Examples:

  oneprice capture-funding --symbols BTCUSDT_PERP,ETHUSDT_PERP --out funding.jsonl --duration-secs 300

  oneprice capture-funding --venue bybit --poll 3s --out funding.jsonl

  oneprice capture-funding --out - --emulated --duration-secs 5"""


class Cadence(StrEnum):
    """How often to poll."""

    ONE_SECOND = "1s"
    THREE_SECONDS = "3s"

    @property
    def seconds(self) -> float:
        return float(self.value.removesuffix("s"))


def register(app: typer.Typer) -> None:
    app.command(name="capture-funding", epilog=_EXAMPLES)(capture_funding)


def capture_funding(
    out: Annotated[str, typer.Option(help="JSONL file to write, or `-` for standard output.")],
    symbols: Annotated[
        str, typer.Option(help="Perpetuals, with commas: session names, native or canonical.")
    ] = "BTCUSDT_PERP,ETHUSDT_PERP",
    venue: Annotated[str, typer.Option(help="The venue: binance, bybit, or a product by its name.")] = "binance",
    duration_secs: Annotated[float, typer.Option("--duration-secs", help="How long.", min=0.1)] = 300.0,
    poll: Annotated[Cadence | None, typer.Option(help="Ask by REST this often. Default: the venue's stream.")] = None,
    emulated: Emulated = False,
    seed: Seed = 7,
    speed: Speed = 1.0,
    as_json: Json = False,
) -> None:
    """Write mark price, index price, funding rate and next funding time of perpetuals as JSON lines.

    Prices are exact mantissas; the funding rate counts 1e-8 per funding interval, and longs pay where it is positive.
    """
    product = _with_perpetuals(venue)
    if not listed(symbols):
        raise InputError("--symbols names no symbol; e.g. --symbols BTCUSDT_PERP,ETHUSDT_PERP")
    wanted = VenuePlan(
        symbols=listed(symbols), channels=(Channel.MARK,), polled={Channel.MARK: poll.seconds} if poll else {}
    )
    clock = session_clock(speed, emulated=emulated)
    written = asyncio.run(
        write_lines(product, wanted, "funding", out, duration_secs, clock=clock, emulated=emulated, seed=seed)
    )
    if not as_json:
        shown = [
            (name, f"{one.lines:,}", f"{one.unwritable:,}", f"{one.longest_silence_ns / NS_PER_S:.1f} s")
            for name, one in written.items()
        ]
        people.print(table("", shown, (f"{product.name}, {poll or 'stream'}", "lines", "not exact", "longest silence")))
    result = {
        "venue": product.name, "by": f"polling every {poll}" if poll else "stream", "out": out,
        "lines": sum(one.lines for one in written.values()),
        "symbols": {
            name: {
                "lines": one.lines, "unwritable": one.unwritable,
                "longest_silence_ms": one.longest_silence_ns // NS_PER_MS,
            }
            for name, one in written.items()
        },
    }  # fmt: skip
    give(result, as_json=as_json)


def _with_perpetuals(name: str) -> Venue:
    """The product of perpetuals that a name stands for; InputError where it has none."""
    venue = find_venue(products((name,))[-1])
    if Channel.MARK not in venue.channels:
        known = ", ".join(sorted(other for other in VENUES if Channel.MARK in VENUES[other].channels))
        raise InputError(
            f"{venue.name} has no perpetuals, so there is no funding to capture; venues that have: {known}"
        )
    return venue
