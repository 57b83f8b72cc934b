"""A run in real time from start to summary, as `demo` and `run` do it: practice venues if wanted, the page if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from oneprice.app.output import progress, say
from oneprice.app.session import make_ready, practice_venues, stop_on_signals
from oneprice.engine.real_time import RealTimeRun
from oneprice.engine.settings import RunSettings
from oneprice.engine.summary import RunSummary


async def run_in_real_time(
    settings: RunSettings,
    folder: Path,
    *,
    emulated: bool,
    seed: int,
    resumes: bool = False,
    faults: Sequence[str] = (),
    duration_s: float | None = None,
    dashboard: int | None = None,
) -> RunSummary:
    """Run until the duration's end or a signal; → what it came to. `resumes`: go on with the run that is in the folder."""
    async with AsyncExitStack() as stack:
        if dashboard is not None:  # its libraries take half a second to load
            from oneprice.app.dashboard import listen, serve_dashboard
            from oneprice.app.page import run_page

            listener = stack.enter_context(listen(dashboard))
        make_ready(settings.venues, trades=True)
        endpoints = await stack.enter_async_context(
            practice_venues(emulated, seed=seed, venues=settings.venues, faults=faults)
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        if resumes:
            with progress("deciding again what is on the tape", total=1.0) as advance:
                run = await RealTimeRun.resume(folder, http=http, endpoints=endpoints, progress=advance)
        else:
            run = await RealTimeRun.prepare(settings, folder, http=http, endpoints=endpoints)
        if dashboard is not None:
            page = run_page(run.view, run.judged())
            address = await stack.enter_async_context(serve_dashboard(page, listener))
            say(f"the page: [bold]{address}[/bold]")
        say(f"writing to {folder}; Ctrl-C ends the run in order")
        async with stop_on_signals(run.stop):
            return await run.go(duration_s=duration_s)
