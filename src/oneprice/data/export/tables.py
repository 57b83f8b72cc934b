"""Parquet tables of a session, one file a symbol and stream, for Polars, pandas, DuckDB and whatever else reads Parquet.

    FOLDER/<SYMBOL>/depth.parquet     a row a level change, and a row a gap
    FOLDER/<SYMBOL>/trades.parquet    a row a trade; `side` is the taker's
    FOLDER/<SYMBOL>/quotes.parquet    a row a message of the venue's own best-bid/ask stream
    FOLDER/<SYMBOL>/funding.parquet   a row a mark price, index price, funding rate or open interest

Rows stand in the order of the tape. Prices and quantities are there twice: `…_mantissa`, exact, at the exponents in
`instruments.json`, and as the nearest float. Quantities are the venue's (a derivative's: contracts). Times are
nanoseconds in UTC; what the venue did not give is null. A stream that brought nothing has no file.

A session is longer than memory: rows are collected up to a bound, go to part files by symbol and stream, and the parts of
each file are put together one after the other at the end. The bound is a count of rows, so that the same tape makes the
same bytes."""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl

from oneprice.data.certify.names import session_names
from oneprice.data.export.aside import written_aside
from oneprice.data.session import Session, joined
from oneprice.model.instrument import Instrument
from oneprice.model.progress import Progress, untold
from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind, Rows

_TIME = pl.Datetime("ns", "UTC")
_COMMON = {"ts_recv": _TIME, "ts_venue": _TIME}
_LEVEL = {"price_mantissa": pl.Int64(), "qty_mantissa": pl.Int64(), "price": pl.Float64(), "qty": pl.Float64()}
# Streams and their columns. In `depth`, `event` is snapshot, update or gap: from a gap to the next row with `clear` the
# book is invalid; a row with `clear` empties the book before it sets its level.
STREAMS: dict[str, dict[str, pl.DataType]] = {
    "depth": {
        **_COMMON, "sequence": pl.Int64(), "event": pl.String(), "clear": pl.Boolean(), "last": pl.Boolean(),
        "side": pl.String(), **_LEVEL,
    },
    "trades": {**_COMMON, "trade_id": pl.Int64(), "side": pl.String(), **_LEVEL},
    "quotes": {
        **_COMMON, "sequence": pl.Int64(),
        **{f"{side}_{name}": kind for side in ("bid", "ask") for name, kind in _LEVEL.items()},
    },
    "funding": {
        **_COMMON, "mark": pl.Float64(), "index": pl.Float64(), "funding_rate": pl.Float64(),
        "next_funding": _TIME, "funding_interval_ns": pl.Int64(), "open_interest": pl.Float64(),
    },
}  # fmt: skip
_NAMES = tuple(STREAMS)
_KINDS = {
    Kind.DEPTH: 0, Kind.GAP: 0, Kind.TRADE: 1, Kind.QUOTE: 2,
    Kind.MARK: 3, Kind.INDEX: 3, Kind.FUNDING: 3, Kind.OPEN_INTEREST: 3,
}  # fmt: skip
_STREAM_OF = np.full(max(Kind) + 1, -1, dtype=np.int64)
for _kind, _stream in _KINDS.items():
    _STREAM_OF[_kind] = _stream

_PARTS = ".parts"
_HELD_ROWS = 1 << 20
_GROUP_ROWS = 1 << 18


def write_parquet(session: Session, folder: Path, *, progress: Progress = untold) -> list[str]:
    """Write the tables of a session below a folder; → their paths relative to it, sorted. They appear together.

    What a killed predecessor left of its parts is removed.
    """
    names = session_names(session.instruments)
    parts_folder = folder / _PARTS
    shutil.rmtree(parts_folder, ignore_errors=True)
    parts_folder.mkdir(parents=True)
    try:
        parts = {
            f"{names[i]}/{_NAMES[stream]}.parquet": paths
            for (i, stream), paths in _write_parts(session, parts_folder, progress).items()
        }
        with written_aside(folder) as files:
            for name, paths in sorted(parts.items()):
                pl.scan_ipc(paths).sink_parquet(files.path(name), row_group_size=_GROUP_ROWS)
                for path in paths:
                    path.unlink()
        return sorted(parts)
    finally:
        shutil.rmtree(parts_folder)


def _write_parts(session: Session, folder: Path, progress: Progress) -> dict[tuple[int, int], list[Path]]:
    """Part files by (instrument, stream), in order."""
    parts: defaultdict[tuple[int, int], list[Path]] = defaultdict(list)
    read, total = 0, session.manifest.rows or 1
    for number, held in enumerate(_held(session)):
        for i, stream, rows in _split(held):
            path = folder / f"{i}-{_NAMES[stream]}-{number:06d}.arrow"
            table_of(rows, _NAMES[stream], session.instruments[i]).write_ipc(path)
            parts[i, stream].append(path)
        read += len(held)
        progress(read / total, f"{read:,} rows")
    return parts


def _held(session: Session) -> Iterator[Rows]:
    """The tape in large chunks that end with a message, cut by the count of rows alone."""
    held: list[Rows] = []
    count = 0
    for chunk in session.rows():
        held.append(chunk)
        count += len(chunk)
        if count >= _HELD_ROWS:
            rows = joined(held)
            ends = np.flatnonzero(rows["flags"] & LAST)
            whole = int(ends[-1]) + 1 if len(ends) else 0
            yield rows[:whole]
            held, count = [rows[whole:]], len(rows) - whole
    if count:
        yield joined(held)


def _split(rows: Rows) -> Iterator[tuple[int, int, Rows]]:
    """(instrument, stream, its rows in order) for all that have a stream."""
    streams = _STREAM_OF[rows["kind"]]
    owners = rows["instrument"].astype(np.int64)
    keys = np.where((streams >= 0) & (owners >= 0), owners * len(_NAMES) + streams, -1)
    order = np.argsort(keys, kind="stable")
    found, starts = np.unique(keys[order], return_index=True)
    for key, places in zip(found.tolist(), np.split(order, starts[1:]), strict=True):
        if key >= 0:
            yield key // len(_NAMES), key % len(_NAMES), rows[places]


def table_of(rows: Rows, stream: str, instrument: Instrument) -> pl.DataFrame:
    """Rows of one instrument and stream (whole messages) as a table with the columns of `STREAMS`."""
    columns = _MAKERS[stream](rows, instrument)
    return pl.DataFrame(columns, schema=STREAMS[stream])


Columns = dict[str, pl.Series]


def _common(rows: Rows) -> Columns:
    return {
        "ts_recv": pl.Series(rows["ts_recv_ns"].copy()).cast(_TIME),
        "ts_venue": _or_null(rows["ts_venue_ns"], rows["ts_venue_ns"] != 0).cast(_TIME),
    }


def _level(rows: Rows, is_there: np.ndarray, instrument: Instrument, *, prefix: str = "") -> Columns:
    """Price and quantity of rows, null where there is none."""
    price, qty = rows["price"], rows["qty"]
    return {
        f"{prefix}price_mantissa": _or_null(price, is_there),
        f"{prefix}qty_mantissa": _or_null(qty, is_there),
        f"{prefix}price": _or_null(as_floats(price, instrument.price_exponent), is_there),
        f"{prefix}qty": _or_null(as_floats(qty, instrument.qty_exponent), is_there),
    }


def as_floats(mantissas: np.ndarray, exponent: int) -> np.ndarray:
    """Mantissas as the floats nearest to what they mean (a division by a power of ten rounds once, a product twice)."""
    return mantissas / 10.0**-exponent if exponent < 0 else mantissas * 10.0**exponent


def _or_null(values: np.ndarray, is_there: np.ndarray) -> pl.Series:
    series = pl.Series(np.ascontiguousarray(values))
    return series if is_there.all() else series.set(pl.Series(~is_there), None)


def _sides(rows: Rows, names: tuple[str, str]) -> pl.Series:
    return pl.Series(np.where(rows["flags"] & ASK != 0, names[1], names[0]), dtype=pl.String)


def _depth(rows: Rows, instrument: Instrument) -> Columns:
    is_gap = rows["kind"] == Kind.GAP
    flags = rows["flags"]
    has_level = ~is_gap & (rows["price"] != 0)  # 0: an event without levels
    event = np.where(is_gap, "gap", np.where(flags & SNAPSHOT != 0, "snapshot", "update"))
    return {
        **_common(rows),
        "sequence": pl.Series(rows["sequence"].copy()),
        "event": pl.Series(event, dtype=pl.String),
        "clear": pl.Series(flags & CLEAR != 0),
        "last": pl.Series(flags & LAST != 0),
        "side": _sides(rows, ("bid", "ask")).set(pl.Series(~has_level), None),
        **_level(rows, has_level, instrument),
    }


def _trades(rows: Rows, instrument: Instrument) -> Columns:
    return {
        **_common(rows),
        "trade_id": _or_null(rows["sequence"], rows["sequence"] != 0),
        "side": _sides(rows, ("buy", "sell")),
        **_level(rows, np.ones(len(rows), dtype=bool), instrument),
    }


def _quotes(rows: Rows, instrument: Instrument) -> Columns:
    """A message is a row for the bid and one for the ask; where it has one alone, the other is null."""
    ends = np.flatnonzero(rows["flags"] & LAST != 0)
    message = np.searchsorted(ends, np.arange(len(rows)))
    last = rows[np.unique(message, return_index=True)[1]] if len(rows) else rows
    columns = {**_common(last), "sequence": _or_null(last["sequence"], last["sequence"] != 0)}
    for prefix, of_side in (("bid_", rows["flags"] & ASK == 0), ("ask_", rows["flags"] & ASK != 0)):
        sides, is_there = np.zeros(len(last), dtype=rows.dtype), np.zeros(len(last), dtype=bool)
        sides[message[of_side]] = rows[of_side]
        is_there[message[of_side]] = True
        columns |= _level(sides, is_there & (sides["price"] != 0), instrument, prefix=prefix)
    return columns


def _funding(rows: Rows, instrument: Instrument) -> Columns:
    kind, value = rows["kind"], rows["value"]
    of_funding = kind == Kind.FUNDING
    return {
        **_common(rows),
        "mark": _or_null(value, kind == Kind.MARK),
        "index": _or_null(value, kind == Kind.INDEX),
        "funding_rate": _or_null(value, of_funding & ~np.isnan(value)),
        "next_funding": _or_null(rows["sequence"], of_funding & (rows["sequence"] != 0)).cast(_TIME),
        "funding_interval_ns": _or_null(rows["qty"], of_funding & (rows["qty"] != 0)),
        "open_interest": _or_null(value, kind == Kind.OPEN_INTEREST),
    }


_MAKERS: dict[str, Callable[[Rows, Instrument], Columns]] = {
    "depth": _depth, "trades": _trades, "quotes": _quotes, "funding": _funding,
}  # fmt: skip
