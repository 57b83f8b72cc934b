"""`oneprice verify-run`: prove a run from what it left on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oneprice.app.options import Json
from oneprice.app.output import DOES_NOT_HOLD, give, progress, say
from oneprice.engine.verify import verify_run

_EXAMPLES = """Examples:

  oneprice verify-run runs/20261120T220000-demo

  oneprice verify-run RUN_DIR --json"""


def register(app: typer.Typer) -> None:
    app.command(name="verify-run", epilog=_EXAMPLES)(verify)


def verify(
    run_dir: Annotated[Path, typer.Argument(help="The folder of a run.")],
    as_json: Json = False,
) -> None:
    """Check every file, make the tape again from the raw log, and decide everything again. Exit code 1: it differs."""
    with progress("proving", total=1.0) as advance:
        verdict = verify_run(run_dir, progress=advance)
    if not as_json:
        if verdict.match:
            say(f"[green]match[/green]: {verdict.decisions:,} decisions from {verdict.rows:,} rows, bit for bit")
            say(f"decision hash {verdict.replayed_hash}")
        else:
            say(f"[red]no match[/red]: {verdict.first}")
            for damage in verdict.damage[1:]:
                say(f"also {damage.file}: {damage.what}")
    give(verdict, as_json=as_json)
    if not verdict.match:
        raise typer.Exit(DOES_NOT_HOLD)
