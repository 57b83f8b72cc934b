"""`oneprice capture-trades`: the trades of one symbol as JSON lines."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from oneprice.app.lines import write_lines
from oneprice.app.options import Emulated, Json, Seed, Speed
from oneprice.app.output import give, say
from oneprice.app.session import session_clock
from oneprice.data.plan import VenuePlan
from oneprice.data.universe import products
from oneprice.venues.base import Channel
from oneprice.venues.registry import venue as find_venue

_EXAMPLES = """Examples:

  oneprice capture-trades --symbol BTCUSDT --out trades.jsonl --duration-secs 300

  oneprice capture-trades --symbol ETH/USDT --venue bybit --out - --emulated --duration-secs 5"""


def register(app: typer.Typer) -> None:
    app.command(name="capture-trades", epilog=_EXAMPLES)(capture_trades)


def capture_trades(
    symbol: Annotated[str, typer.Option(help="The symbol: of the session (BTCUSDT_PERP), native or canonical.")],
    out: Annotated[str, typer.Option(help="JSONL file to write, or `-` for standard output.")],
    venue: Annotated[str, typer.Option(help="The venue: binance, bybit, or a product by its name.")] = "binance",
    duration_secs: Annotated[float, typer.Option("--duration-secs", help="How long.", min=0.1)] = 300.0,
    emulated: Emulated = False,
    seed: Seed = 7,
    speed: Speed = 1.0,
    as_json: Json = False,
) -> None:
    """Write the trades of one symbol as JSON lines: time, id, price and quantity as exact mantissas with exponents, and
    whether anything can be missing before it."""
    of_perpetuals = symbol.endswith("_PERP") or ":" in symbol
    product = find_venue(products((venue,))[-1 if of_perpetuals else 0])
    clock = session_clock(speed, emulated=emulated)
    wanted = VenuePlan(symbols=(symbol,), channels=(Channel.TRADE,))
    written = asyncio.run(
        write_lines(product, wanted, "trades", out, duration_secs, clock=clock, emulated=emulated, seed=seed)
    )
    ((name, one),) = written.items()
    if not as_json:
        say(f"{one.lines:,} trades")
    give({"venue": product.name, "symbol": name, "trades": one.lines, "out": out}, as_json=as_json)
