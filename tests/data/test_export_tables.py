"""Parquet tables hold every row of the tape once, in its order, and DuckDB and pandas read the same from them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from export_world import WORLD, cut_up, random_tape
from session_world import written

from oneprice.data.certify.names import session_names
from oneprice.data.export import tables
from oneprice.data.export.query import ask, opened
from oneprice.data.export.tables import STREAMS, write_parquet
from oneprice.data.session import Session
from oneprice.model.errors import InputError
from oneprice.model.tape import ASK, CLEAR, LAST, SNAPSHOT, Kind, Rows

KINDS = {
    "depth": (Kind.DEPTH, Kind.GAP), "trades": (Kind.TRADE,), "quotes": (Kind.QUOTE,),
    "funding": (Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.OPEN_INTEREST),
}  # fmt: skip
NAMES = dict(zip(session_names(WORLD), range(len(WORLD)), strict=True))
TAPE = random_tape(11, messages=3_000)


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    return written(tmp_path_factory.mktemp("tables") / "S", cut_up(TAPE, [100, 999, 2_000]), instruments=list(WORLD))


@pytest.fixture(scope="module")
def folder(session, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("tables") / "P"
    write_parquet(session, out)
    return out


def rows_of(name: str, stream: str) -> Rows:
    return TAPE[(TAPE["instrument"] == NAMES[name]) & np.isin(TAPE["kind"], KINDS[stream])]


def table(folder: Path, name: str, stream: str) -> pd.DataFrame:
    return pd.read_parquet(folder / name / f"{stream}.parquet")


def test_every_stream_of_every_symbol_has_its_file_and_nothing_else_is_left(session, tmp_path) -> None:
    (tmp_path / ".parts").mkdir()
    (tmp_path / ".parts" / "0-depth-000000.arrow").write_bytes(b"of a predecessor that was killed")
    paths = write_parquet(session, tmp_path)
    assert paths == sorted(f"{name}/{stream}.parquet" for name in NAMES for stream in STREAMS)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()) == paths
    assert not (tmp_path / ".parts").exists()


@pytest.mark.parametrize("name", NAMES)
def test_depth_is_the_tapes_levels_and_gaps_in_order(folder, name) -> None:
    rows, found = rows_of(name, "depth"), table(folder, name, "depth")
    assert found["sequence"].tolist() == rows["sequence"].tolist()
    assert found["ts_recv"].astype("int64").tolist() == rows["ts_recv_ns"].tolist()
    assert found["clear"].tolist() == (rows["flags"] & CLEAR != 0).tolist()
    assert found["last"].tolist() == (rows["flags"] & LAST != 0).tolist()
    is_gap = rows["kind"] == Kind.GAP
    assert is_gap.any()
    events = np.where(is_gap, "gap", np.where(rows["flags"] & SNAPSHOT != 0, "snapshot", "update"))
    assert found["event"].tolist() == events.tolist()
    levels = found[~is_gap]
    assert levels["price_mantissa"].tolist() == rows["price"][~is_gap].tolist()
    assert levels["qty_mantissa"].tolist() == rows["qty"][~is_gap].tolist()
    assert levels["side"].tolist() == np.where(rows["flags"] & ASK != 0, "ask", "bid")[~is_gap].tolist()
    assert found[is_gap][["side", "price", "qty", "price_mantissa"]].isna().all(axis=None)
    instrument = WORLD[NAMES[name]]
    assert levels["price"].tolist() == [float(instrument.price(one)) for one in rows["price"][~is_gap].tolist()]
    assert levels["qty"].tolist() == [float(instrument.qty(one)) for one in rows["qty"][~is_gap].tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_trades_are_the_tapes_and_a_missing_time_is_null(folder, name) -> None:
    rows, found = rows_of(name, "trades"), table(folder, name, "trades")
    assert found["trade_id"].tolist() == rows["sequence"].tolist()
    assert found["side"].tolist() == np.where(rows["flags"] & ASK != 0, "sell", "buy").tolist()
    assert found["qty_mantissa"].tolist() == rows["qty"].tolist()
    assert found["ts_venue"].isna().tolist() == (rows["ts_venue_ns"] == 0).tolist()
    known = rows["ts_venue_ns"] != 0
    assert found["ts_venue"][known].astype("int64").tolist() == rows["ts_venue_ns"][known].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_quotes_are_a_row_a_message_with_null_for_the_side_it_left_out(folder, name) -> None:
    rows, found = rows_of(name, "quotes"), table(folder, name, "quotes")
    bids = {int(row["sequence"]): int(row["price"]) for row in rows if not row["flags"] & ASK}
    asks = {int(row["sequence"]): int(row["price"]) for row in rows if row["flags"] & ASK}
    assert found["sequence"].tolist() == sorted({*bids, *asks})
    for prices, column in ((bids, "bid_price_mantissa"), (asks, "ask_price_mantissa")):
        assert found[column].astype("Int64").fillna(0).tolist() == [prices.get(one, 0) for one in found["sequence"]]
    assert found["bid_price"].isna().any()


def test_funding_keeps_each_value_in_its_own_column(folder) -> None:
    for name in NAMES:
        rows, found = rows_of(name, "funding"), table(folder, name, "funding")
        assert len(found) == len(rows)
        assert found["mark"].notna().tolist() == (rows["kind"] == Kind.MARK).tolist()
        of_funding = rows["kind"] == Kind.FUNDING
        assert found["funding_rate"].dropna().tolist() == rows["value"][of_funding].tolist()
        assert found["next_funding"].dropna().astype("int64").tolist() == rows["sequence"][of_funding].tolist()


def test_the_same_tape_makes_the_same_bytes_however_it_was_flushed(session, folder, tmp_path) -> None:
    other = written(tmp_path / "S", cut_up(TAPE, list(range(0, len(TAPE), 7))), instruments=list(WORLD))
    for path in write_parquet(other, tmp_path / "P"):
        assert (tmp_path / "P" / path).read_bytes() == (folder / path).read_bytes()


def test_in_many_small_parts_the_tables_are_the_same(session, folder, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(tables, "_HELD_ROWS", 97)  # a bound that falls into the middle of messages
    monkeypatch.setattr(tables, "_GROUP_ROWS", 50)
    for path in write_parquet(session, tmp_path):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / path), pd.read_parquet(folder / path))


def test_real_tables_add_up_to_the_tape(imported, tmp_path) -> None:
    session = imported.session
    write_parquet(session, tmp_path)
    counts = np.zeros((len(session.instruments), max(Kind) + 1, 2), dtype=np.int64)
    for rows in session.rows():
        for column, values in enumerate((np.ones(len(rows), dtype=np.int64), rows["price"])):
            np.add.at(counts[:, :, column], (rows["instrument"], rows["kind"]), values)
    for i, name in enumerate(session_names(session.instruments)):
        for stream, kind in (("depth", Kind.DEPTH), ("trades", Kind.TRADE)):
            query = f"SELECT count(*), sum(price_mantissa) FROM '{tmp_path / name / stream}.parquet'"
            assert duckdb.sql(query).fetchall() == [tuple(counts[i, kind].tolist())]


def test_a_query_answers_what_pandas_answers(session, folder) -> None:
    trades = pd.concat([table(folder, name, "trades").assign(symbol=name) for name in NAMES])
    expected = trades.groupby("symbol")["qty_mantissa"].agg(["count", "sum", "max"]).sort_index()
    with opened(session) as connection:
        answer = ask(
            connection,
            "select symbol, count(*), sum(qty_mantissa), max(qty_mantissa) from trades group by 1 order by 1",
        )
        assert answer.rows == [(name, *map(int, values)) for name, *values in expected.itertuples()]
        for stream in STREAMS:
            (count,) = ask(connection, f"select count(*) as n from {stream}").rows
            assert count == (sum(len(table(folder, name, stream)) for name in NAMES),)
            columns = [row[0] for row in ask(connection, f"describe {stream}").rows]
            assert columns == ["symbol", *STREAMS[stream]]


def test_tables_that_are_there_are_used(tmp_path) -> None:
    session = written(tmp_path / "S", [TAPE[:500]], instruments=list(WORLD))
    told: list[float] = []
    write_parquet(session, session.folder)
    with opened(session, progress=lambda done, note: told.append(done)) as connection:
        (row,) = ask(connection, "select count(*) from trades").rows
    assert row == (int((TAPE[:500]["kind"] == Kind.TRADE).sum()),)
    assert told == []


def test_a_session_without_a_stream_has_an_empty_view_of_it(tmp_path) -> None:
    session = written(tmp_path / "S", [TAPE[TAPE["kind"] == Kind.TRADE][:5]], instruments=list(WORLD))
    with opened(session) as connection:
        assert ask(connection, "select * from funding").columns == ("symbol", *STREAMS["funding"])
        assert ask(connection, "select symbol, ts_recv, price from depth").rows == []


def test_moments_keep_their_nanoseconds_and_an_answer_may_be_cut(tmp_path) -> None:
    rows = TAPE[TAPE["kind"] == Kind.TRADE][:5].copy()
    rows["ts_recv_ns"] = 1_700_000_000_123_456_789 + np.arange(5)
    session = written(tmp_path / "S", [rows], instruments=list(WORLD))
    with opened(session) as connection:
        answer = ask(connection, "select ts_recv, 1 as a, 2 as a from trades order by ts_recv", limit=2)
    assert answer.columns == ("ts_recv", "a", "a")
    assert answer.rows == [("2023-11-14T22:13:20.123456789Z", 1, 2), ("2023-11-14T22:13:20.123456790Z", 1, 2)]
    assert answer.is_cut


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("selec 1", "syntax error"),
        ("select nope from trades", "nope"),
        ("select * from books", "books"),
        ("", "is empty; ask, for example: select"),
    ],
)
def test_a_query_that_cannot_be_run_is_told_in_duckdbs_words(session, sql, said) -> None:
    with opened(session) as connection, pytest.raises(InputError, match=said):
        ask(connection, sql)
