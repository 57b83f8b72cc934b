"""How a command speaks: to people on standard error (Rich), to programs as one JSON object on the last line of standard
output when `--json` is given; and with which exit code it ends.

exit code | meaning
----------|--------
0         | done; what was asked holds
1         | done; what was asked does not hold (a replay that differs, a session that fails its check)
2         | the arguments, the configuration or an input file cannot be used
3         | a venue or the network refused or failed
4         | a session on disk is missing, cut or damaged beyond what the command can use
5         | this machine refused: port busy, folder not writable, no space left
70        | a fault in oneprice itself
130       | stopped with Ctrl-C before the command could end in order"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from rich.console import Console
from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table

from oneprice.model.errors import InputError, OnepriceError, Refused, SessionError, VenueError
from oneprice.model.progress import Progress

OK, DOES_NOT_HOLD, BAD_INPUT, VENUE_FAILED, BAD_SESSION, MACHINE_REFUSED, OUR_FAULT = 0, 1, 2, 3, 4, 5, 70

people = Console(stderr=True)


def say(text: str = "") -> None:
    """One line for people, not broken: hashes and paths are copied from it."""
    people.print(text, highlight=False, soft_wrap=True)


def give(result: Any, *, as_json: bool) -> None:
    """The command's result for programs: one JSON object, the last line of standard output."""
    if as_json:
        sys.stdout.write(msgspec.json.encode(result, enc_hook=str, order="deterministic").decode() + "\n")
        sys.stdout.flush()


_LONGEST_NAME = 30


def table(title: str, rows: Sequence[Sequence[str]], columns: tuple[str, ...]) -> Table:
    """A table whose columns after the first are numbers, set to the right; names are not cut off for their sake."""
    made = Table(title=title, title_justify="left", header_style="bold")
    name_width = min(_LONGEST_NAME, max((len(row[0]) for row in rows), default=0))
    for place, column in enumerate(columns):
        is_name = place == 0
        made.add_column(column, justify="left" if is_name else "right", min_width=name_width if is_name else None)
    for row in rows:
        made.add_row(*row)
    return made


@contextmanager
def progress(what: str, *, total: float | None = None) -> Iterator[Progress]:
    """A progress bar for long work: call it with how much is done and a word on what is going on."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Bar(*columns, console=people, transient=True) as bar:
        task = bar.add_task(what, total=total)

        def advance(done: float, note: str = "") -> None:
            bar.update(task, completed=done, description=f"{what} {note}".rstrip())

        yield advance


def exit_code_of(error: BaseException) -> int:
    """The exit code that an error ends a command with."""
    if isinstance(error, InputError | Refused):
        return BAD_INPUT
    if isinstance(error, SessionError):
        return BAD_SESSION
    if isinstance(error, VenueError):
        return VENUE_FAILED
    if isinstance(error, OSError):
        return MACHINE_REFUSED
    return OUR_FAULT


def explain(error: BaseException) -> str:
    """The sentence a person reads for an error."""
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        if error.errno == errno.ENOSPC:
            return f"{place}no space left on the disk; what was flushed is safe, free some space and go on"
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            return f"{place}cannot be written or read with this user's rights; choose another folder with --out"
        if error.errno == errno.EADDRINUSE:
            return f"{error.strerror or 'address in use'}: another program listens there; choose another port"
        return f"{place}{error.strerror or error}"
    return str(error) or type(error).__name__


def first_cause(error: BaseException) -> BaseException:
    """The first error inside a group of concurrent tasks, or the error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def fail(error: BaseException, *, as_json: bool) -> int:
    """Tell people (and programs) what went wrong; → the exit code."""
    cause = first_cause(error)
    code = exit_code_of(cause)
    people.print(f"[red]error:[/red] {_escaped(explain(cause))}", highlight=False)
    if code == OUR_FAULT:
        if os.environ.get("ONEPRICE_TRACEBACK"):
            people.print_exception()
        else:
            say("this is a fault in oneprice; set ONEPRICE_TRACEBACK=1 to see where")
    give({"error": explain(cause), "exit_code": code}, as_json=as_json)
    return code


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


__all__ = [
    "BAD_INPUT", "BAD_SESSION", "DOES_NOT_HOLD", "MACHINE_REFUSED", "OK", "OUR_FAULT", "VENUE_FAILED", "OnepriceError",
    "exit_code_of", "explain", "fail", "first_cause", "give", "people", "progress", "say", "table",
]  # fmt: skip
