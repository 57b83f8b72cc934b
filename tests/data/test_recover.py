"""Going on after a cut: the break is on the tape and in the raw log, and both still give the same."""

from __future__ import annotations

import gc
import gzip
from pathlib import Path

import msgspec
import pytest
from session_world import T0_NS, some_rows, spot, written

from oneprice.data.importer import import_recordings
from oneprice.data.machines import Restarted, Standing
from oneprice.data.recover import go_on
from oneprice.data.rederive import first_divergence
from oneprice.data.session import Record, RecordType, Session, SessionWriter, joined
from oneprice.model.errors import InputError
from oneprice.model.tape import LAST, GapReason, Kind, Rows
from shared_data import shared


def depth(at_ns: int, instrument: int, book_id: int) -> Rows:
    rows = some_rows([at_ns, at_ns], kind=Kind.DEPTH, instrument=instrument)
    rows["sequence"], rows["flags"] = book_id, (0, LAST)
    return rows


def cut_session(folder: Path) -> Session:
    """Instrument 0 stands at 12, 1 stood and fell, 2 fell and stands again at 7, 3 never had a book."""
    tape = [
        depth(T0_NS, 0, 10), depth(T0_NS, 1, 5), depth(T0_NS + 1, 2, 3),
        some_rows([T0_NS + 2], kind=Kind.TIMER, instrument=-1),
        some_rows([T0_NS + 3], kind=Kind.GAP, instrument=1), some_rows([T0_NS + 3], kind=Kind.GAP, instrument=2),
        joined([depth(T0_NS + 4, 2, 7), depth(T0_NS + 4, 0, 12)]),
        some_rows([T0_NS + 5], kind=Kind.TRADE, instrument=3),
    ]  # fmt: skip
    instruments = [spot(name) for name in ("AUSDT", "BUSDT", "CUSDT", "DUSDT")]
    return written(folder, tape, instruments=instruments, records=[(T0_NS, b"{}")], is_closed=False)


def test_every_book_that_stood_ends_in_a_gap_and_no_other(tmp_path: Path) -> None:
    before = joined(list(cut_session(tmp_path / "S").rows()))
    writer = go_on(tmp_path / "S", now_ns=T0_NS + 100)
    rows = joined(list(Session.open(tmp_path / "S").rows()))
    assert rows[: len(before)].tobytes() == before.tobytes()
    gaps = rows[len(before) :]
    assert [(int(row["instrument"]), int(row["sequence"]), int(row["price"])) for row in gaps] == [
        (0, 12, 13),
        (2, 7, 8),
    ]
    assert {int(kind) for kind in gaps["kind"]} == {int(Kind.GAP)}
    assert (gaps["value"] == float(GapReason.DISCONNECT)).all()
    assert (gaps["ts_recv_ns"] == T0_NS + 100).all()
    writer.close(closed_ns=T0_NS + 200)


def test_the_raw_log_says_where_the_tape_broke_off(tmp_path: Path) -> None:
    before = cut_session(tmp_path / "S")
    go_on(tmp_path / "S", now_ns=T0_NS + 100).close(closed_ns=T0_NS + 200)
    session = Session.open(tmp_path / "S")
    _, restarted = session.records()
    assert (restarted.type, restarted.recv_ns) == (RecordType.RESTARTED, T0_NS + 100)
    said = msgspec.json.decode(restarted.payload, type=Restarted)
    assert said.standing == (Standing(0, 12), Standing(2, 7))
    assert said.rows == before.manifest.rows - 1, "rows of machines: not the timer"
    assert (session.state, session.check()) == ("closed", [])


def test_a_clock_that_is_behind_does_not_turn_the_tape_back(tmp_path: Path) -> None:
    cut_session(tmp_path / "S")
    go_on(tmp_path / "S", now_ns=T0_NS - 10**9)
    assert int(joined(list(Session.open(tmp_path / "S").rows()))["ts_recv_ns"][-1]) == T0_NS + 5


def test_a_session_that_lost_its_whole_tape_goes_on_from_nothing(tmp_path: Path) -> None:
    written(tmp_path / "S", [], is_closed=False)
    writer = go_on(tmp_path / "S", now_ns=T0_NS)
    writer.rows(some_rows([T0_NS + 1]))
    writer.close(closed_ns=T0_NS + 2)
    session = Session.open(tmp_path / "S")
    assert (session.manifest.rows, session.manifest.frames, session.check()) == (1, 1, [])


def test_what_is_closed_is_not_added_to(tmp_path: Path) -> None:
    written(tmp_path / "S", [])
    with pytest.raises(InputError, match="this session is closed; it is not added to"):
        go_on(tmp_path / "S", now_ns=T0_NS)


@pytest.mark.parametrize("kept", [0, 1, 2_500, 10**6])
def test_what_the_raw_log_knew_beyond_the_tape_stays_out_of_it(tmp_path: Path, kept: int) -> None:
    """The process ended between the raw log's flush and the tape's, twice."""
    with gzip.open(shared("data/market/binance_2024-08-08/spot_btcusdt_20240808.gz")) as file:
        (tmp_path / "r.txt").write_bytes(b"".join(file.readline() for _ in range(3_000)))
    import_recordings([tmp_path / "r.txt"], tmp_path / "whole")
    whole = Session.open(tmp_path / "whole")
    records, rows = list(whole.records()), joined(list(whole.rows()))
    folder = tmp_path / "S"
    written(folder, [], instruments=list(whole.instruments), is_closed=False)
    for _ in range(2):
        one_life(folder, records, rows[:kept]).flush()
    one_life(folder, records, rows).close(closed_ns=T0_NS)
    session = Session.open(folder)
    assert first_divergence(session) is None
    assert session.manifest.rows >= 2 * len(rows[:kept]) + len(rows)


def one_life(folder: Path, records: list[Record], rows: Rows) -> SessionWriter:
    """A process that goes on, is told the same records again (at the times when they were recorded) and puts these rows on
    the tape."""
    gc.collect()  # the writer of the life before gives its lock back
    writer = go_on(folder, now_ns=0)
    for record in records:
        writer.frame(record.recv_ns, record.feed, record.type, record.payload)
    writer.rows(rows.copy())
    return writer
