"""`oneprice capture-session`: what the venues say, onto the disk, and what the recording is worth."""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import msgspec
import typer

from oneprice.app.certificate import certified, show
from oneprice.app.options import Dashboard, Emulated, Faults, Json, Seed, Speed, listed
from oneprice.app.output import DOES_NOT_HOLD, give, people, say, table
from oneprice.app.session import fresh_folder, make_ready, practice_venues, session_clock, until
from oneprice.data.capture import Capture
from oneprice.data.certify.gates import GateRules, load_gate_rules
from oneprice.data.certify.live import LiveQuality
from oneprice.data.certify.strict import Aborted, StrictWatch
from oneprice.data.certify.terms import Terms, configuration, terms_of
from oneprice.data.plan import PRACTICE, CapturePlan, VenuePlan
from oneprice.data.recover import CAPTURE, cut_capture, go_on
from oneprice.data.session import ABORTED, CLOSED, Session, SessionWriter
from oneprice.data.universe import PROFILES, Profile, channels, products, profile, venue_plans
from oneprice.model.errors import InputError
from oneprice.model.tape import Rows
from oneprice.model.time import Clock
from oneprice.venues.base import Channel

_DEFAULT_PROFILE = "arbitrage-core"
_ISOLATED_SYMBOLS = 30  # so many symbols of a venue get a connection each; of more, as many share one as it takes
_EXAMPLES = """Examples:

  oneprice capture-session --symbols BTCUSDT,ETHUSDT,BTCUSDT_PERP --out-dir data/sessions/A --duration-secs 7200 \\
  --include-trades --include-funding --strict

  oneprice capture-session --profile arbitrage-core --venues binance,bybit_linear --include-trades

  oneprice capture-session --emulated --speed 60 --symbols BTCUSDT --duration-secs 7200

  oneprice capture-session --resume data/sessions/A"""


def register(app: typer.Typer) -> None:
    app.command(name="capture-session", epilog=_EXAMPLES)(capture_session)


def capture_session(
    symbols: Annotated[
        str | None,
        typer.Option(help="Symbols, with commas: BTCUSDT is the spot market, BTCUSDT_PERP the perpetual."),
    ] = None,
    venues: Annotated[
        str | None,
        typer.Option(help="Venues, with commas: binance and bybit (spot and perpetual), or products: binance_usdm."),
    ] = None,
    named: Annotated[
        str | None,
        typer.Option(
            "--profile", help=f"A named set of symbols ({', '.join(PROFILES)}) or a .toml file that holds one."
        ),
    ] = None,
    out_dir: Annotated[Path | None, typer.Option("--out-dir", "--out", help="Session folder.")] = None,
    duration_secs: Annotated[float, typer.Option("--duration-secs", help="How long, in seconds.", min=0.1)] = 7200.0,
    include_trades: Annotated[bool, typer.Option("--include-trades", help="Record trades, too.")] = False,
    include_funding: Annotated[
        bool, typer.Option("--include-funding", help="Of perpetuals, record mark, index and funding, too.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End the session at the first gap, with exit code 1.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Write the JSONL files without compression.")] = False,
    gates: Annotated[Path | None, typer.Option(help="TOML file with thresholds of the quality gates.")] = None,
    symbols_per_connection: Annotated[
        int | None, typer.Option(min=1, help="Symbols that share a connection. Default: one, of many symbols more.")
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with a session that was cut, by the plan it was started with.")
    ] = None,
    dashboard: Dashboard = None,
    emulated: Emulated = False,
    seed: Seed = 7,
    fault: Faults = None,
    speed: Speed = 1.0,
    as_json: Json = False,
) -> None:
    """Record several symbols of several venues as one session: books and quotes, and trades and funding when asked.

    When the time is over the session is certified: its files are derived again from the raw frames, and every quality gate
    is judged by symbol. What was cut (a crash, a kill) goes on with --resume, or is finished by `oneprice recover`.
    """
    if resume is None:
        folder, resumed = fresh_folder(out_dir, kind="capture", below="sessions"), None
        clock = session_clock(speed, emulated=emulated)
        plan = _plan(
            symbols, venues, named, channels(include_trades=include_trades, include_funding=include_funding),
            emulated=emulated, symbols_per_connection=symbols_per_connection,
        )  # fmt: skip
        terms = Terms(is_strict=strict, is_plain=plain, gates=load_gate_rules(gates) if gates else GateRules())
    else:
        if (symbols, venues, named, out_dir, symbols_per_connection, gates) != (None,) * 6 or strict or plain:
            raise InputError(
                "--resume goes on in the session's folder, with its symbols, venues and terms: of the options that say "
                "them, none can be given"
            )
        folder = resume
        resumed, plan, terms, clock = _cut_session(folder, emulated=emulated, speed=speed)
    result = asyncio.run(
        _capture(
            plan,
            folder,
            terms,
            clock=clock,
            resumed=resumed,
            seed=seed,
            faults=fault or [],
            for_s=duration_secs,
            dashboard=dashboard,
        )
    )
    if not as_json:
        rows = [
            (f"{feed['venue']} {feed['path']}", f"{feed['frames']:,}", f"{feed['gaps']}", f"{feed['resyncs']}")
            for feed in result["feeds"]
        ]
        people.print(table("", rows, ("feed", "frames", "gaps", "repaired")))
        show(result["certificate"])
        if result["state"] == ABORTED:
            say(f"[red]ended by itself[/red]: {result['stop_reason']}")
        say(f"next: [bold]oneprice export-vectorbt --session-dir {folder} --out-dir {folder}/vectorbt[/bold]")
    give(result, as_json=as_json)
    if result["state"] == ABORTED or not result["certificate"].holds:
        raise typer.Exit(DOES_NOT_HOLD)


def _plan(
    symbols: str | None, venues: str | None, named: str | None, wanted: tuple[Channel, ...], *, emulated: bool,
    symbols_per_connection: int | None,
) -> CapturePlan:  # fmt: skip
    """What the options ask for. A profile gives the symbols, and its venues where none are named; venues alone are
    recorded with all that they list."""
    if symbols is not None and named is not None:
        raise InputError("--symbols and --profile both say what to record: give one of them")
    if symbols is None and named is None and venues is not None:
        plans = {name: VenuePlan(channels=wanted) for name in products(listed(venues))}
    else:
        chosen = Profile(symbols=listed(symbols)) if symbols is not None else profile(named or _DEFAULT_PROFILE)
        plans = venue_plans(
            listed(venues) or chosen.venues, chosen.symbols, wanted, is_partial=symbols is None
        )  # fmt: skip
    most = max(len(plan.symbols) for plan in plans.values())
    return CapturePlan(
        venues=plans, environment=PRACTICE if emulated else "live",
        symbols_per_connection=symbols_per_connection or -(-most // _ISOLATED_SYMBOLS),
    )  # fmt: skip


def _cut_session(folder: Path, *, emulated: bool, speed: float) -> tuple[Session, CapturePlan, Terms, Clock]:
    """The session to go on with, its plan and terms, and a clock to go on by: accelerated time begins where the session's
    ended. Practice and the real thing are never mixed in one session."""
    span = Session.open(folder).span_ns() if speed != 1.0 else None
    clock = session_clock(speed, emulated=emulated, after_ns=span[1] if span is not None else 0)
    session, plan = cut_capture(folder, now_ns=clock.now_ns())
    if plan.environment == PRACTICE and not emulated:
        raise InputError(f"{folder}: this session records practice venues; go on with --emulated")
    if emulated and plan.environment != PRACTICE:
        raise InputError(f"{folder}: this session records the venues themselves; go on without --emulated")
    return session, plan, terms_of(session.manifest), clock


async def _capture(
    plan: CapturePlan,
    folder: Path,
    terms: Terms,
    *,
    clock: Clock,
    resumed: Session | None,
    seed: int,
    faults: list[str],
    for_s: float,
    dashboard: int | None,
) -> dict[str, Any]:
    """→ the result for programs."""
    async with AsyncExitStack() as stack:
        if dashboard is not None:  # its libraries take half a second to load
            from oneprice.app.dashboard import listen, serve_dashboard
            from oneprice.app.dashboard_capture import capture_page

            listener = stack.enter_context(listen(dashboard))
        make_ready(plan.venues)
        endpoints = await stack.enter_async_context(
            practice_venues(
                plan.environment == PRACTICE, seed=seed, venues=tuple(plan.venues), faults=faults, clock=clock
            )
        )
        began_ns = clock.now_ns()
        http = await stack.enter_async_context(aiohttp.ClientSession())
        plan = msgspec.structs.replace(plan, endpoints=endpoints)
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(), resumed=resumed)
        if resumed is None:
            writer = SessionWriter(
                folder, capture.instruments, source=CAPTURE, created_ns=began_ns,
                configuration=configuration(plan, terms),
            )  # fmt: skip
        else:
            writer = go_on(folder, now_ns=began_ns)  # only now: where a venue refuses, the session stays as it is
        watches = [StrictWatch(capture.instruments).on_rows] if terms.is_strict else []
        if dashboard is not None:
            quality = LiveQuality(Session.open(folder))
            watches.append(quality.on_rows)
            page = capture_page(capture, writer, quality, clock, for_s=for_s)
            say(f"the page: [bold]{await stack.enter_async_context(serve_dashboard(page, listener))}[/bold]")
        say(f"recording {len(capture.instruments)} instruments into {folder}; Ctrl-C ends it in order")
        state, reason = CLOSED, "time is over"

        def on_rows(rows: Rows) -> None:
            for watch in watches:
                watch(rows)

        try:
            if await until(capture.run(recorder=writer, on_rows=on_rows), for_s, clock):
                reason = "interrupted"
        except* Aborted as told:
            state, reason = ABORTED, str(told.exceptions[0])
        health = capture.health()
        ended_ns = clock.now_ns()
    feeds = [msgspec.to_builtins(feed) for feed in health]
    writer.manifest.statistics = {"since_ns": began_ns, "feeds": feeds}
    writer.finish()
    certificate = certified(
        folder, writer.manifest, terms, state=state, stop_reason=reason, closed_ns=ended_ns
    )  # fmt: skip
    return {
        "session": str(folder), "rows": writer.manifest.rows, "frames": writer.manifest.frames,
        "gaps": sum(feed.gaps for feed in health), "resyncs": sum(feed.resyncs for feed in health),
        "state": writer.manifest.state, "stop_reason": reason, "feeds": feeds, "certificate": certificate,
    }  # fmt: skip
