"""`oneprice report`: a session as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oneprice.app.options import Json
from oneprice.app.output import give, progress, say
from oneprice.app.session_page import session_page
from oneprice.data.export.samples import sample
from oneprice.data.session import Session

_EXAMPLES = """Examples:

  oneprice report sessions/20261120T220000-capture

  oneprice report S --out /tmp/S.html --json"""


def register(app: typer.Typer) -> None:
    app.command(name="report", epilog=_EXAMPLES)(report)


def report(
    session: Annotated[Path, typer.Argument(help="The folder of a session; one that was cut is shown up to its cut.")],
    out: Annotated[Path | None, typer.Option("--out", help="The file to write. Default: SESSION/report.html.")] = None,
    as_json: Json = False,
) -> None:
    """Show a session in one HTML file: spread, depth, prices, trades, gaps, latency, funding. It needs no network."""
    read = Session.open(session)
    out = out if out is not None else session / "report.html"
    with progress("reading", total=1.0) as advance:
        samples = sample(read, progress=lambda share: advance(share, ""))
    page = session_page(read, samples).encode()
    aside = out.with_name(out.name + ".new")
    aside.parent.mkdir(parents=True, exist_ok=True)
    aside.write_bytes(page)
    aside.replace(out)
    say(f"{out}: {len(samples.symbols)} symbols, {samples.rows:,} rows, {len(page) / 1e6:.1f} MB; open it in a browser")
    give(
        {
            "report": str(out), "bytes": len(page), "symbols": [symbol.name for symbol in samples.symbols],
            "rows": samples.rows, "gaps": sum(len(symbol.gaps) for symbol in samples.symbols),
            "bucket_ms": samples.bucket_ns / 1e6,
        },
        as_json=as_json,
    )  # fmt: skip
