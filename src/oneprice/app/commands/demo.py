"""`oneprice demo`: everything at once on practice venues. Nothing leaves this machine."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from oneprice.app.options import Duration, Faults, Json, Out, Seed
from oneprice.app.output import give, say
from oneprice.app.real_time import run_in_real_time
from oneprice.app.report import show_summary
from oneprice.app.session import fresh_folder
from oneprice.engine.settings import Mode, RunSettings

_EXAMPLES = """Examples:

  oneprice demo

  oneprice demo --headless --duration-secs 20 --seed 7 --json

  oneprice demo --fault gap@binance_usdm:BTCUSDT,at=5 --fault disconnect@bybit_spot,at=8"""


def register(app: typer.Typer) -> None:
    app.command(name="demo", epilog=_EXAMPLES)(demo)


def demo(
    duration_secs: Duration = None,
    seed: Seed = 7,
    headless: Annotated[bool, typer.Option("--headless", help="No page in the browser.")] = False,
    dashboard: Annotated[int, typer.Option(help="Port of the page.")] = 8079,
    out: Out = None,
    fault: Faults = None,
    as_json: Json = False,
) -> None:
    """Start practice venues, capture them, find what is mispriced, trade it on paper, show it live. Ctrl-C ends it."""
    settings = RunSettings(mode=Mode.DEMO)
    folder: Path = fresh_folder(out, kind="demo")
    summary = asyncio.run(
        run_in_real_time(
            settings, folder, emulated=True, seed=seed, faults=fault or (), duration_s=duration_secs,
            dashboard=None if headless else dashboard,
        )
    )  # fmt: skip
    if not as_json:
        show_summary(summary)
        say(f"prove it: [bold]oneprice verify-run {summary.run_dir}[/bold]")
    give(summary, as_json=as_json)
