"""`oneprice query`: SQL over a session."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from oneprice.app.options import Json
from oneprice.app.output import give, people, progress, say, table
from oneprice.data.export.query import ask, opened
from oneprice.data.session import Session

_SHOWN = 40
_EXAMPLES = """Examples:

  oneprice query S "select symbol, count(*), min(price), max(price) from trades group by symbol"

  oneprice query S "describe depth"

  oneprice query S "select * from funding where funding_rate is not null order by ts_recv" --limit 5 --json"""


def register(app: typer.Typer) -> None:
    app.command(name="query", epilog=_EXAMPLES)(query)


def query(
    session_dir: Annotated[Path, typer.Argument(help="Session folder.")],
    sql: Annotated[str, typer.Argument(help="A query in DuckDB's SQL.")],
    limit: Annotated[
        int | None, typer.Option(help=f"Rows at most. Default: {_SHOWN}; with --json, all.", min=1)
    ] = None,
    as_json: Json = False,
) -> None:
    """Ask a session in SQL. Its views are depth, trades, quotes and funding, each with the column symbol."""
    with progress("making tables", total=1.0) as advance, opened(Session.open(session_dir), progress=advance) as views:
        answer = ask(views, sql, limit=limit if limit is not None or as_json else _SHOWN)
    if not as_json:
        columns = tuple(escape(column) for column in answer.columns)
        people.print(table("", [tuple(map(_text, row)) for row in answer.rows], columns))
        if answer.is_cut:
            say(f"the first {len(answer.rows):,} rows; --limit shows more")
    give(answer, as_json=as_json)


def _text(value: Any) -> str:
    return "–" if value is None else escape(str(value))
