"""`oneprice validate-session`: does a session still hold what it held, and what is it worth?"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from oneprice.app.certificate import gate_line
from oneprice.app.options import Json
from oneprice.app.output import DOES_NOT_HOLD, give, progress, say
from oneprice.data.certify.validate import Slice, Validation, validate
from oneprice.model.errors import InputError

_EXAMPLES = """Examples:

  oneprice validate-session --session-dir data/sessions/A

  oneprice validate-session --session-dir data/sessions/A --slice 10m/60s --json"""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smh]?)")
_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}


def register(app: typer.Typer) -> None:
    app.command(name="validate-session", epilog=_EXAMPLES)(validate_session)


def validate_session(
    session_dir: Annotated[Path, typer.Option("--session-dir", help="The folder of a session.")],
    part: Annotated[
        str | None, typer.Option("--slice", help="START/LENGTH, e.g. 10m/60s: only replay so far, for a quick check.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Check every file of a session, make its rows again from the raw frames and its files again from the rows, and judge
    every gate again. Exit code 1: something differs, or a hard gate failed."""
    with progress("validating", total=1.0) as advance:
        found = validate(session_dir, part=_slice(part) if part is not None else None, progress=advance)
    if not as_json:
        _show(found)
    give(found, as_json=as_json)
    if not found.holds:
        raise typer.Exit(DOES_NOT_HOLD)


def _show(found: Validation) -> None:
    for name, gate in found.gates():
        say(gate_line(name, gate))
    for name, symbol in found.symbols.items():
        say(f"{symbol.tier:14} {name:14} replay hash {symbol.replay_hash}")
    for damage in found.damage:
        say(f"[red]FAIL[/red]           {damage.file} from byte {damage.offset}: {damage.what}")
    if found.divergence is not None:
        row = found.divergence
        say(
            f"[red]FAIL[/red]           {row.file}: row {row.row} is {row.recorded}, and the raw frames give {row.rederived}"
        )
    if found.is_intact:
        say(f"[green]intact[/green]: {found.rows:,} rows, Merkle root {found.merkle_root}")
    else:
        say("[red]this session is not what was recorded[/red]")


def _slice(text: str) -> Slice:
    parts = [_DURATION.fullmatch(one) for one in text.split("/")]
    if len(parts) != 2 or parts[0] is None or parts[1] is None:
        raise InputError(f"--slice {text}: write START/LENGTH, e.g. 10m/60s")
    start_s, length_s = (float(one[1]) * _SECONDS[one[2]] for one in parts if one is not None)
    return Slice(start_s=start_s, length_s=length_s)
