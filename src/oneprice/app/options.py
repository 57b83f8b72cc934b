"""Options that several commands share, spelled and explained once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on the last line of standard output.")]
Seed = Annotated[int, typer.Option(help="Seed of the practice venues' market.", min=0)]
Emulated = Annotated[bool, typer.Option("--emulated", help="Start practice venues on loopback for this command.")]
Duration = Annotated[float | None, typer.Option("--duration-secs", help="Stop after so many seconds.", min=0.1)]
Speed = Annotated[
    float, typer.Option(help="With --emulated: session time runs so many times as fast as in reality.", min=1.0)
]
Faults = Annotated[
    list[str] | None, typer.Option("--fault", help="Inject a fault, e.g. gap@binance_usdm:BTCUSDT,at=5 (repeat).")
]
Out = Annotated[Path | None, typer.Option("--out", help="Folder to write to; by default a new one below ./runs.")]
Dashboard = Annotated[int | None, typer.Option(help="Show the page on this port.")]
Venues = Annotated[str | None, typer.Option(help="Venues, with commas: binance_sbe,bybit_spot.")]


def listed(text: str | None) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()
