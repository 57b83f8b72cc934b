"""`oneprice recover`: finish a session that was cut."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oneprice.app.certificate import certified, show
from oneprice.app.options import Json
from oneprice.app.output import DOES_NOT_HOLD, give, say
from oneprice.data.certify.terms import terms_of
from oneprice.data.recover import end_at_the_cut
from oneprice.data.session import RECOVERED
from oneprice.model.time import SystemClock, iso_ms

_EXAMPLES = """Examples:

  oneprice recover data/sessions/A

  oneprice recover S --json"""


def register(app: typer.Typer) -> None:
    app.command(name="recover", epilog=_EXAMPLES)(recover)


def recover(
    session: Annotated[Path, typer.Argument(help="The folder of a session that was cut.")],
    as_json: Json = False,
) -> None:
    """Finish a session whose process ended without closing it: cut off what was half written, make its files, certify it.

    Nothing that had been flushed is lost; at most the last half second before the end had not been. To record further
    instead, use `oneprice capture-session --resume`.
    """
    writer, last_ns = end_at_the_cut(session)
    reason = f"cut; the last row is of {iso_ms(last_ns)}" if last_ns else "cut before the first row"
    writer.finish()
    certificate = certified(
        session, writer.manifest, terms_of(writer.manifest), state=RECOVERED, stop_reason=reason,
        closed_ns=SystemClock().now_ns(),
    )  # fmt: skip
    result = {
        "session": str(session), "rows": writer.manifest.rows, "frames": writer.manifest.frames, "stop_reason": reason,
        "certificate": certificate,
    }  # fmt: skip
    if not as_json:
        say(f"{session}: {reason}; {writer.manifest.rows:,} rows are whole")
        show(certificate)
    give(result, as_json=as_json)
    if not certificate.holds:
        raise typer.Exit(DOES_NOT_HOLD)
