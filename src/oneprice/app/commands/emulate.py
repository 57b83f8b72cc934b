"""`oneprice emulate`: practice venues on loopback for anybody's client, until Ctrl-C."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from oneprice.app.options import Duration, Faults, Seed, Venues, listed
from oneprice.app.output import give, people, say, table
from oneprice.app.session import practice_venues, stop_on_signals

_EXAMPLES = """Examples:

  oneprice emulate --seed 7

  oneprice emulate --venues binance_spot,bybit_linear --duration-secs 60 --json

  oneprice emulate --fault disconnect@binance_usdm,at=10"""
_ALL = ("binance_spot", "binance_sbe", "binance_usdm", "bybit_spot", "bybit_linear")


def register(app: typer.Typer) -> None:
    app.command(name="emulate", epilog=_EXAMPLES)(emulate)


def emulate(
    seed: Seed = 7,
    venues: Venues = None,
    fault: Faults = None,
    duration_secs: Duration = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the addresses as JSON, then go on.")] = False,
) -> None:
    """Practice venues that speak the venues' own protocols: WebSocket streams, REST, signed orders, private streams."""
    asyncio.run(_serve(seed, listed(venues) or _ALL, fault or (), duration_secs, as_json=as_json))


async def _serve(
    seed: int, venues: tuple[str, ...], faults: tuple[str, ...] | list[str], duration_s: float | None, *, as_json: bool
) -> None:
    stop = asyncio.Event()
    async with practice_venues(True, seed=seed, venues=venues, faults=faults) as endpoints, stop_on_signals(stop.set):
        if not as_json:
            rows = [
                (name, path, address)
                for name, of_venue in endpoints.items()
                for path, address in [("rest", of_venue.rest), *of_venue.ws.items()]
            ]
            made = table("practice venues (key practice-key, secret practice-secret)", rows, ("venue", "", "address"))
            made.columns[2].justify = "left"
            people.print(made)
            say("Ctrl-C stops them")
        give({"endpoints": dict(endpoints)}, as_json=as_json)
        try:
            await asyncio.wait_for(stop.wait(), duration_s)
        except TimeoutError:
            return
