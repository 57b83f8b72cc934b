"""The command `oneprice`: one Typer application, one file a command, one place that turns errors into exit codes."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import typer
from dotenv import find_dotenv, load_dotenv
from typer.core import TyperGroup

from oneprice import __version__
from oneprice.app import output
from oneprice.model.errors import InputError, unknown_name

# Command → its module in `commands`, in the order of the help page.
COMMANDS = {
    "demo": "demo", "run": "run", "verify-run": "verify", "capture-session": "capture_session",
    "validate-session": "validate", "recover": "recover", "capture-trades": "capture_trades",
    "capture-funding": "capture_funding", "export-vectorbt": "export", "export": "export", "query": "query",
    "report": "report", "import-recording": "recording", "replay": "recording", "emulate": "emulate", "decode": "decode",
    "kernels": "kernels", "doctor": "doctor",
}  # fmt: skip


class _OnDemand(TyperGroup):
    """Commands whose modules are imported when they are called, or when the help page lists them: a command that checks a
    file need not wait for the libraries of the dashboard."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name in COMMANDS and cmd_name not in self.commands:
            part = typer.Typer(rich_markup_mode="rich", context_settings=_CONTEXT)
            import_module(f"oneprice.app.commands.{COMMANDS[cmd_name]}").register(part)
            self.commands.update(typer.main.get_group(part).commands)
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in COMMANDS:
            raise InputError(unknown_name("command", args[0], COMMANDS))
        return super().resolve_command(ctx, args)


_CONTEXT = {"help_option_names": ["-h", "--help"]}
app = typer.Typer(
    name="oneprice",
    cls=_OnDemand,
    help="Watch many crypto markets at once, find where the law of one price is broken, prove it, trade it on paper.",
    epilog="Begin with: oneprice demo",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)


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
