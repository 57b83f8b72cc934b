"""The command `oneprice`: one Typer application, one file a command, one place that turns errors into exit codes."""

from __future__ import annotations

import sys

import typer
from dotenv import find_dotenv, load_dotenv

from oneprice import __version__
from oneprice.app import output
from oneprice.app.commands import (
    capture_funding,
    capture_session,
    capture_trades,
    decode,
    demo,
    doctor,
    emulate,
    export,
    query,
    recording,
    recover,
    report,
    run,
    validate,
    verify,
)

app = typer.Typer(
    name="oneprice",
    help="Watch many crypto markets at once, find where the law of one price is broken, prove it, trade it on paper.",
    epilog="Begin with: oneprice demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (
    demo, run, verify, capture_session, validate, recover, capture_trades, capture_funding, export, query, report, recording,
    emulate, decode, doctor,
):  # fmt: skip
    module.register(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"oneprice {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_show_version, is_eager=True, help="Print the version."),
) -> None:
    """Watch many crypto markets at once, find where the law of one price is broken, prove it, trade it on paper."""


def main() -> None:
    """Entry point: run the command; errors become a sentence and a stable exit code (see `output`)."""
    as_json = "--json" in sys.argv
    load_dotenv(find_dotenv(usecwd=True))  # keys; what the environment has already stands
    try:
        ended = app(standalone_mode=False)  # the exit code of a `typer.Exit`, else None
        code = ended if isinstance(ended, int) else output.OK
    except typer.Abort:
        code = 130
    except KeyboardInterrupt:
        code = 130
    except Exception as error:
        shown = getattr(error, "format_message", None)
        if shown is not None:  # Click's own: a wrong option or argument
            output.people.print(f"[red]error:[/red] {shown()}", highlight=False)
            output.give({"error": shown(), "exit_code": output.BAD_INPUT}, as_json=as_json)
            code = output.BAD_INPUT
        else:
            code = output.fail(error, as_json=as_json)
    sys.exit(code)
