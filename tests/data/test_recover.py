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
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.recover import cut_capture, go_on, numbers_taken
from oneprice.data.rederive import first_divergence
from oneprice.data.session import FeedEntry, Record, RecordType, Session, SessionWriter, joined
from oneprice.model.errors import InputError, SessionError
from oneprice.model.instrument import InstrumentTable
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


PLAN = CapturePlan(venues={"binance_spot": VenuePlan(symbols=("BTCUSDT",))}, environment="testnet")


def capture_of(folder: Path, *, source: str = "capture", plan: object = PLAN.recorded()) -> SessionWriter:
    writer = SessionWriter(
        folder, InstrumentTable([spot()]), source=source, created_ns=T0_NS, configuration={"plan": plan}
    )
    writer.rows(some_rows([T0_NS + 5]))
    writer.flush()
    return writer


def test_a_cut_capture_tells_the_plan_that_it_was_started_with(tmp_path: Path) -> None:
    capture_of(tmp_path / "S")
    gc.collect()  # the writer gives its lock back, as the end of its process would
    before = contents(tmp_path / "S")
    session, plan = cut_capture(tmp_path / "S", now_ns=T0_NS + 5)
    assert plan == PLAN
    assert [instrument.symbol for instrument in session.instruments] == ["BTCUSDT"]
    assert contents(tmp_path / "S") == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_only_a_capture_that_was_cut_goes_on_as_one(tmp_path: Path) -> None:
    def refused(name: str, said: str, *, now_ns: int = T0_NS + 100, kind: type[Exception] = InputError) -> None:
        gc.collect()
        before = contents(tmp_path / name)
        with pytest.raises(kind, match=said):
            cut_capture(tmp_path / name, now_ns=now_ns)
        assert contents(tmp_path / name) == before, "what is refused stays as it is"

    writer = capture_of(tmp_path / "S")
    refused("S", "S: this session is being written by another process")
    del writer
    refused("S", r"S: this session ends at 2023-11-14T22:13:20.000Z, 1.0 s ahead", now_ns=T0_NS - 10**9)
    capture_of(tmp_path / "closed").close(closed_ns=T0_NS)
    refused("closed", "this session is closed")
    for source in ("import", "paper"):
        capture_of(tmp_path / source, source=source)
        refused(source, f"the source of this session is '{source}'; only what capture-session recorded")
    for name, plan in (("no plan", None), ("other plan", {"venues": ["binance_spot"]})):
        capture_of(tmp_path / name, plan=plan)
        refused(name, "its manifest does not hold the plan that it was captured by")
    capture_of(tmp_path / "damaged")
    path = tmp_path / "damaged" / "tape" / "000000.tape"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused("damaged", r"000000\.tape: changed", kind=SessionError)
    refused("nowhere", "nowhere: no such session", kind=SessionError)


def test_numbers_go_on_behind_those_that_a_session_has_given_whatever_its_last_segment_holds(tmp_path: Path) -> None:
    folder = tmp_path / "S"
    writer = capture_of(folder)
    assert numbers_taken(Session.open(folder)) == (0, 0)
    writer.add_feed(FeedEntry(number=4, venue="binance_spot", path="public", address="wss://venue"))
    timers = some_rows([T0_NS + 6, T0_NS + 7], kind=Kind.TIMER, instrument=-1)
    timers["sequence"] = (11, 12)
    writer.rows(joined([timers, some_rows([T0_NS + 8])]))
    writer.flush()
    assert numbers_taken(Session.open(folder)) == (5, 12)
    del writer
    gc.collect()
    go_on(folder, now_ns=T0_NS + 9).flush()  # killed before its first batch: a segment without a timer
    assert numbers_taken(Session.open(folder)) == (5, 12)
