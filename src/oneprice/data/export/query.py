"""SQL over a session: DuckDB views on its Parquet tables (`tables.py`), all symbols together.

`depth`, `trades`, `quotes` and `funding` each have the columns of their tables and `symbol` before them; a stream that the
session does not hold is an empty view. Moments come back as RFC 3339 text in UTC with nanoseconds. Where a session has no
tables yet, they are made in a temporary folder for as long as the connection lives."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import polars as pl

from oneprice.data.certify.names import session_names
from oneprice.data.export.tables import STREAMS, write_parquet
from oneprice.data.session import Session
from oneprice.model.errors import InputError
from oneprice.model.progress import Progress, untold
from oneprice.model.time import NS_PER_MS, iso_ms

_MOMENT = "TIMESTAMP_NS"  # in UTC; DuckDB computes with it, which it does not with the zoned kind that the files hold
_SQL_TYPES: dict[pl.DataType, str] = {
    pl.Datetime("ns", "UTC"): _MOMENT,
    pl.Int64(): "BIGINT",
    pl.Float64(): "DOUBLE",
    pl.Boolean(): "BOOLEAN",
    pl.String(): "VARCHAR",
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a query gave: its columns, its first rows, and whether there were more than were asked for."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]
    is_cut: bool


@contextmanager
def opened(session: Session, *, progress: Progress = untold) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views of a session."""
    names = session_names(session.instruments)
    with tempfile.TemporaryDirectory(prefix="oneprice-query-") as temporary:
        folder = session.folder
        if not any(_table(folder, name, stream).exists() for name in names for stream in STREAMS):
            folder = Path(temporary)
            write_parquet(session, folder, progress=progress)
        connection = duckdb.connect()
        try:
            connection.execute("SET TimeZone = 'UTC'")
            for stream in STREAMS:
                connection.execute(f"CREATE VIEW {stream} AS {_view(folder, names, stream)}")
            yield connection
        finally:
            connection.close()


def ask(connection: duckdb.DuckDBPyConnection, sql: str, *, limit: int | None = None) -> Answer:
    """Run one query; at most `limit` of its rows. InputError with DuckDB's own words for one that cannot be run."""
    try:
        relation = connection.sql(sql)
        if relation is None:
            raise InputError("the query is empty; ask, for example: select count(*) from trades")
        columns = tuple(relation.columns)
        moments = [str(kind).startswith("TIMESTAMP") for kind in relation.types]
        # Columns are numbered, because a query may give two of them one name.
        shown = [f"epoch_ns(c{place})" if moment else f"c{place}" for place, moment in enumerate(moments)]
        numbered = ", ".join(f"c{place}" for place in range(len(columns)))
        cut = f" LIMIT {limit + 1}" if limit is not None else ""
        asked = relation.query("asked", f"SELECT {', '.join(shown)} FROM asked AS t({numbered}){cut}")
        found = asked.fetchall() if asked is not None else []
    except duckdb.Error as wrong:
        raise InputError(f"the query cannot be run: {wrong}") from wrong
    rows = [
        tuple(_moment(value) if moment else value for value, moment in zip(row, moments, strict=True))
        for row in found[:limit]
    ]
    return Answer(columns=columns, rows=rows, is_cut=limit is not None and len(found) > limit)


def _table(folder: Path, name: str, stream: str) -> Path:
    return folder / name / f"{stream}.parquet"


def _view(folder: Path, names: tuple[str, ...], stream: str) -> str:
    tables = [(name, path) for name in names if (path := _table(folder, name, stream)).exists()]
    if not tables:
        columns = ", ".join(f'NULL::{_SQL_TYPES[kind]} AS "{column}"' for column, kind in STREAMS[stream].items())
        return f"SELECT NULL::VARCHAR AS symbol, {columns} WHERE false"
    moments = (column for column, kind in STREAMS[stream].items() if _SQL_TYPES[kind] == _MOMENT)
    as_moments = ", ".join(f'"{column}"::{_MOMENT} AS "{column}"' for column in moments)
    return " UNION ALL ".join(
        f"SELECT {_quoted(name)} AS symbol, * REPLACE ({as_moments}) FROM read_parquet({_quoted(str(path))})"
        for name, path in tables
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _moment(time_ns: int | None) -> str | None:
    """Python's own moments have no nanoseconds."""
    if time_ns is None:
        return None
    return f"{iso_ms(time_ns)[:-1]}{time_ns % NS_PER_MS:06d}Z"
