"""`oneprice emulate`: practice venues, or a recorded session, on loopback for anybody's client, until Ctrl-C."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer

from oneprice.app.options import Duration, Faults, Seed, Venues, listed
from oneprice.app.output import give, people, say, table
from oneprice.app.session import practice_venues, stop_on_signals
from oneprice.data.recorded import recording_of
from oneprice.data.session import Session
from oneprice.emulator.recorded import RecordedVenues
from oneprice.model.errors import InputError
from oneprice.venues.base import Endpoints

_EXAMPLES = """Examples:

  oneprice emulate --seed 7

  oneprice emulate --venues binance_spot,bybit_linear --duration-secs 60 --json

  oneprice emulate --fault disconnect@binance_usdm,at=10

  oneprice emulate --session S --speed max"""
_ALL = ("binance_spot", "binance_sbe", "binance_usdm", "bybit_spot", "bybit_linear")
_KEYS = "practice venues (key practice-key, secret practice-secret)"

Addresses = AbstractAsyncContextManager[Mapping[str, Endpoints]]


def register(app: typer.Typer) -> None:
    app.command(name="emulate", epilog=_EXAMPLES)(emulate)


def emulate(
    seed: Seed = 7,
    venues: Venues = None,
    fault: Faults = None,
    session: Annotated[
        Path | None, typer.Option(help="Serve this recorded session, byte for byte, instead of a seeded market.")
    ] = None,
    speed: Annotated[
        str | None, typer.Option(help="With --session: so many times as fast as recorded, or max. Otherwise 1.")
    ] = None,
    duration_secs: Duration = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as JSON, then go on.")] = False,
) -> None:
    """Practice venues that speak the venues' own protocols: WebSocket streams, REST, signed orders, private streams.

    With --session, the venues of a recording: its market data only, the same bytes at the same distances."""
    if session is None:
        if speed is not None:
            raise InputError("--speed is for a recorded session: name it with --session")
        market = practice_venues(True, seed=seed, venues=listed(venues) or _ALL, faults=fault or ())
        asyncio.run(_serve(market, _KEYS, duration_secs, as_json=as_json))
    else:
        if venues or fault:
            raise InputError("--venues and --fault shape the seeded market; a recorded session is served as it is")
        recorded = _recorded_venues(session, _factor(speed))
        asyncio.run(_serve(recorded, f"venues of {session}", duration_secs, as_json=as_json))


def _factor(speed: str | None) -> float | None:
    """`--speed` as a factor; None for max."""
    if speed == "max":
        return None
    try:
        return 1.0 if speed is None else float(speed)
    except ValueError:
        raise InputError(f"--speed {speed}: give a number above 0, or max") from None


@asynccontextmanager
async def _recorded_venues(folder: Path, speed: float | None) -> AsyncIterator[Mapping[str, Endpoints]]:
    async with RecordedVenues(recording_of(Session.open(folder)), speed=speed) as recorded:
        yield recorded.endpoints


async def _serve(addresses: Addresses, title: str, duration_s: float | None, *, as_json: bool) -> None:
    stop = asyncio.Event()
    async with addresses as endpoints, stop_on_signals(stop.set):
        if not as_json:
            rows = [
                (name, path, address)
                for name, of_venue in endpoints.items()
                for path, address in [("rest", of_venue.rest), *of_venue.ws.items()]
            ]
            made = table(title, rows, ("venue", "", "address"))
            made.columns[2].justify = "left"
            people.print(made)
            say("Ctrl-C stops them")
        give({"endpoints": dict(endpoints)}, as_json=as_json)
        try:
            await asyncio.wait_for(stop.wait(), duration_s)
        except TimeoutError:
            return
