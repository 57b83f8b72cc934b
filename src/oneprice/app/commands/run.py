"""`oneprice run`: strategies on live data with paper orders, or on recorded sessions."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from oneprice.app.config import EXAMPLE, load_settings
from oneprice.app.options import Dashboard, Duration, Emulated, Faults, Json, Out, Seed, Venues, listed
from oneprice.app.output import give, progress, say
from oneprice.app.real_time import run_in_real_time
from oneprice.app.report import show_summary
from oneprice.app.session import fresh_folder
from oneprice.data.session import Session
from oneprice.engine.real_time import resumable
from oneprice.engine.run import backtest
from oneprice.engine.settings import Mode, RunSettings
from oneprice.engine.summary import RunSummary
from oneprice.model.errors import InputError
from oneprice.strategies.registry import make_strategy
from oneprice.trading.hosts import Access
from oneprice.venues.registry import venue as find_venue

_EXAMPLES = """Examples:

  oneprice run --mode backtest --session S --strategies basis,triangular --json

  oneprice run --mode paper --emulated --seed 7 --duration-secs 60 --dashboard 8079

  oneprice run --generate-config > oneprice.toml && oneprice run --config oneprice.toml

  oneprice run --resume runs/20261121T093000-paper"""


def register(app: typer.Typer) -> None:
    app.command(name="run", epilog=_EXAMPLES)(run)


def run(
    mode: Annotated[Mode | None, typer.Option(help="live, paper, backtest or demo.")] = None,
    config: Annotated[Path | None, typer.Option(help="Configuration file (TOML).")] = None,
    session: Annotated[
        list[Path] | None, typer.Option("--session", "--file", help="Recorded session for a backtest (repeat).")
    ] = None,
    strategies: Annotated[str | None, typer.Option(help="Strategies, with commas.")] = None,
    venues: Venues = None,
    realtime: Annotated[bool, typer.Option("--realtime", help="Backtest at the speed it was recorded.")] = False,
    speed: Annotated[float | None, typer.Option(help="Backtest at so many times that speed.", min=0.01)] = None,
    dashboard: Dashboard = None,
    generate_config: Annotated[bool, typer.Option("--generate-config", help="Print a configuration file.")] = False,
    emulated: Emulated = False,
    seed: Seed = 7,
    fault: Faults = None,
    duration_secs: Duration = None,
    out: Out = None,
    resume: Annotated[Path | None, typer.Option(help="Go on with a run that was cut, in its folder.")] = None,
    as_json: Json = False,
) -> None:
    """Run strategies: on paper by default; a backtest needs sessions; live needs keys, limits and --mode live."""
    if generate_config:
        sys.stdout.write(EXAMPLE)
        return
    if resume is not None:
        if any(given is not None for given in (mode, config, session, strategies, venues, out)):
            raise InputError(
                "--resume goes on in the run's folder with its own settings: leave out --mode, --config, --session, "
                "--strategies, --venues and --out"
            )
        record = resumable(resume)
        _finish(
            asyncio.run(
                run_in_real_time(
                    record.settings, resume, emulated=record.is_practice, seed=seed, faults=fault or (), resumes=True,
                    duration_s=duration_secs, dashboard=dashboard,
                )
            ), as_json=as_json,
        )  # fmt: skip
        return
    settings = _settings(mode, config, strategies, venues, emulated=emulated)
    if settings.mode is Mode.BACKTEST:
        if not session:
            raise InputError("a backtest needs at least one --session FOLDER (oneprice import-recording makes one)")
        sessions = [Session.open(folder) for folder in session]
        folder = fresh_folder(out, kind="backtest")
        with progress("backtest", total=1.0) as advance:
            pace = speed if speed is not None else 1.0 if realtime else None
            summary = backtest(settings, sessions, folder, progress=advance, speed=pace)
    else:
        if session:
            raise InputError(f"--session goes with --mode backtest, not with --mode {settings.mode.value}")
        summary = asyncio.run(
            run_in_real_time(
                settings, fresh_folder(out, kind=settings.mode.value),
                emulated=emulated or settings.mode is Mode.DEMO, seed=seed, faults=fault or (),
                duration_s=duration_secs, dashboard=dashboard,
            )
        )  # fmt: skip
    _finish(summary, as_json=as_json)


def _finish(summary: RunSummary, *, as_json: bool) -> None:
    if not as_json:
        show_summary(summary)
        say(f"prove it: [bold]oneprice verify-run {summary.run_dir}[/bold]")
    give(summary, as_json=as_json)


def _settings(
    mode: Mode | None, config: Path | None, strategies: str | None, venues: str | None, *, emulated: bool
) -> RunSettings:
    overrides: dict[str, Any] = {}
    if mode is not None:
        overrides["mode"] = mode.value
    if venues:
        overrides["venues"] = list(listed(venues))
    settings = load_settings(config, overrides)
    if strategies:
        chosen = {name: settings.strategies.get(name, {}) for name in listed(strategies)}
        for name, values in chosen.items():
            make_strategy(name, dict(values))  # an unknown name is told before anything starts
        settings = load_settings(config, {**overrides, "strategies": chosen})
    for name in settings.venues:
        find_venue(name)
    if settings.mode is Mode.LIVE and emulated:
        settings = msgspec.structs.replace(
            settings, live=msgspec.structs.replace(settings.live, access=Access.PRACTICE)
        )
    return settings
