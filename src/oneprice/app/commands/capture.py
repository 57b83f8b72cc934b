"""`oneprice capture-session` and `oneprice capture-trades`: what the venues say, onto the disk."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import msgspec
import numpy as np
import typer

from oneprice.app.options import Duration, Emulated, Faults, Json, Seed, Speed, listed
from oneprice.app.output import give, people, say, table
from oneprice.app.session import fresh_folder, practice_venues, session_clock, stop_on_signals
from oneprice.data.capture import Capture
from oneprice.data.plan import PRACTICE, CapturePlan, VenuePlan
from oneprice.data.recover import CAPTURE, cut_capture, go_on
from oneprice.data.session import Session, SessionWriter
from oneprice.model.errors import InputError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ASK, Kind, Rows
from oneprice.model.time import Clock, iso_ms
from oneprice.venues.base import Channel
from oneprice.venues.registry import venue as find_venue

_SESSION_EXAMPLES = """Examples:

  oneprice capture-session --emulated --duration-secs 30

  oneprice capture-session --emulated --speed 60 --duration-secs 7200    (two hours in two minutes)

  oneprice capture-session --venues binance_usdm,bybit_linear --symbols BTC/USDT:USDT,ETH/USDT:USDT --out-dir S

  oneprice capture-session --resume S"""
_VENUES = "binance_usdm,bybit_linear,bybit_spot"
_TRADES_EXAMPLES = """Examples:

  oneprice capture-trades --symbol BTCUSDT --out trades.jsonl --duration-secs 60

  oneprice capture-trades --symbol BTCUSDT --out - --venue bybit_spot --emulated --duration-secs 5"""


def register(app: typer.Typer) -> None:
    app.command(name="capture-session", epilog=_SESSION_EXAMPLES)(capture_session)
    app.command(name="capture-trades", epilog=_TRADES_EXAMPLES)(capture_trades)


def capture_session(
    venues: Annotated[str | None, typer.Option(help=f"Venues, with commas. Default: {_VENUES}.")] = None,
    symbols: Annotated[
        str | None, typer.Option(help="Symbols, with commas: native or canonical. Default: all.")
    ] = None,
    out_dir: Annotated[Path | None, typer.Option("--out-dir", "--out", help="Session folder.")] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with a session that was cut, by the plan it was started with.")
    ] = None,
    duration_secs: Duration = None,
    emulated: Emulated = False,
    seed: Seed = 7,
    fault: Faults = None,
    speed: Speed = 1.0,
    as_json: Json = False,
) -> None:
    """Record depth, quotes, trades, marks and funding of several venues as one session, until the time is over.

    What was cut (a crash, a kill) goes on with --resume; the break is part of the session.
    """
    if resume is None:
        folder, resumed = fresh_folder(out_dir, kind="capture", below="sessions"), None
        clock = session_clock(speed, emulated=emulated)
        wanted = {
            find_venue(name).name: VenuePlan(symbols=listed(symbols))
            for name in listed(_VENUES if venues is None else venues)
        }
        plan = CapturePlan(venues=wanted, environment=PRACTICE if emulated else "live")
    else:
        if (venues, symbols, out_dir) != (None, None, None):
            raise InputError(
                "--resume goes on in the session's folder with its venues and symbols: leave out --venues, --symbols and "
                "--out-dir"
            )
        folder = resume
        resumed, plan, clock = _cut_session(folder, emulated=emulated, speed=speed)
    result = asyncio.run(
        _capture(
            plan, folder, clock=clock, speed=speed, resumed=resumed, seed=seed, faults=fault or [], for_s=duration_secs
        )
    )
    if not as_json:
        rows = [
            (f"{feed['venue']} {feed['path']}", f"{feed['frames']:,}", f"{feed['gaps']}", f"{feed['resyncs']}")
            for feed in result["feeds"]
        ]
        people.print(table("", rows, ("feed", "frames", "gaps", "repaired")))
        say(f"next: [bold]oneprice run --mode backtest --session {folder}[/bold]")
    give(result, as_json=as_json)


def _cut_session(folder: Path, *, emulated: bool, speed: float) -> tuple[Session, CapturePlan, Clock]:
    """The session to go on with, its plan, and a clock to go on by: accelerated time begins where the session's ended.
    Practice and the real thing are never mixed in one session."""
    span = Session.open(folder).span_ns() if speed != 1.0 else None
    clock = session_clock(speed, emulated=emulated, after_ns=span[1] if span is not None else 0)
    session, plan = cut_capture(folder, now_ns=clock.now_ns())
    if plan.environment == PRACTICE and not emulated:
        raise InputError(f"{folder}: this session records practice venues; go on with --emulated")
    if emulated and plan.environment != PRACTICE:
        raise InputError(f"{folder}: this session records the venues themselves; go on without --emulated")
    return session, plan, clock


async def _capture(
    plan: CapturePlan, folder: Path, *, clock: Clock, speed: float, resumed: Session | None, seed: int, faults: list[str],
    for_s: float | None,
) -> dict[str, Any]:  # fmt: skip
    async with AsyncExitStack() as stack:
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
                configuration={"plan": plan.recorded(), "speed": speed},
            )  # fmt: skip
        else:
            writer = go_on(folder, now_ns=began_ns)  # only now: where a venue refuses, the session stays as it is
        say(f"recording {len(capture.instruments)} instruments into {folder}; Ctrl-C ends it in order")
        await _until(capture.run(recorder=writer), for_s, clock)
        health = capture.health()
        feeds = [msgspec.to_builtins(feed) for feed in health]
        writer.close(closed_ns=clock.now_ns(), statistics={"since_ns": began_ns, "feeds": feeds})
    return {
        "session": str(folder), "rows": writer.manifest.rows, "frames": writer.manifest.frames,
        "gaps": sum(feed.gaps for feed in health), "resyncs": sum(feed.resyncs for feed in health),
        "feeds": feeds,
    }  # fmt: skip


def capture_trades(
    symbol: Annotated[str, typer.Option(help="The symbol, native or canonical.")],
    out: Annotated[str, typer.Option(help="JSONL file to write, or `-` for standard output.")],
    venue: Annotated[str, typer.Option(help="The venue.")] = "binance_spot",
    duration_secs: Annotated[float, typer.Option("--duration-secs", help="How long.", min=0.1)] = 300.0,
    emulated: Emulated = False,
    seed: Seed = 7,
    speed: Speed = 1.0,
    as_json: Json = False,
) -> None:
    """Write the trades of one symbol as JSON lines: time, id, price and quantity as exact mantissas with exponents."""
    find_venue(venue)
    clock = session_clock(speed, emulated=emulated)
    count = asyncio.run(_trades(venue, symbol, out, duration_secs, clock=clock, emulated=emulated, seed=seed))
    if not as_json:
        say(f"{count:,} trades")
    give({"venue": venue, "symbol": symbol, "trades": count, "out": out}, as_json=as_json)


async def _trades(
    venue: str, symbol: str, out: str, for_s: float, *, clock: Clock, emulated: bool, seed: int
) -> int:  # fmt: skip
    count = 0
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(practice_venues(emulated, seed=seed, venues=(venue,), clock=clock))
        http = await stack.enter_async_context(aiohttp.ClientSession())
        plan = CapturePlan(
            venues={venue: VenuePlan(symbols=(symbol,), channels=(Channel.TRADE,))}, endpoints=endpoints
        )  # fmt: skip
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random())
        file = sys.stdout.buffer if out == "-" else stack.enter_context(Path(out).open("wb"))  # noqa: ASYNC230, SIM115

        def write(rows: Rows) -> None:
            nonlocal count
            for row in rows[rows["kind"] == int(Kind.TRADE)]:
                file.write(msgspec.json.encode(trade_line(row, capture.instruments)) + b"\n")
                count += 1
            file.flush()

        await _until(capture.run(on_rows=write), for_s, clock)
    return count


def trade_line(row: np.void, instruments: InstrumentTable) -> dict[str, Any]:
    """One trade as the capture files hold it."""
    instrument = instruments[int(row["instrument"])]
    return {
        "ts": iso_ms(int(row["ts_venue_ns"])), "tradingsymbol": instrument.symbol, "trade_id": int(row["sequence"]),
        "price": int(row["price"]), "qty": int(row["qty"]), "price_exponent": instrument.price_exponent,
        "qty_exponent": instrument.qty_exponent, "is_buyer_maker": bool(row["flags"] & ASK),
    }  # fmt: skip


async def _until(work: Any, for_s: float | None, clock: Clock) -> None:
    """Let work go on until the clock's time is over or a signal comes; what it raises itself is raised."""
    stop = asyncio.Event()
    working, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    ending = [stopping] if for_s is None else [stopping, asyncio.ensure_future(clock.sleep(for_s))]
    async with stop_on_signals(stop.set):
        await asyncio.wait({working, *ending}, return_when=asyncio.FIRST_COMPLETED)
    for wait in ending:
        wait.cancel()
    if working.done():
        await working
    else:
        working.cancel()
        with suppress(asyncio.CancelledError):
            await working
