"""The raw log gives the tape again; where it does not, the first row is named."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import numpy as np
import pytest
from session_world import T0_NS, some_rows, spot

from oneprice.data.importer import import_recordings
from oneprice.data.machines import Machines, Opened
from oneprice.data.rederive import first_divergence, rederived_rows
from oneprice.data.session import Record, RecordType, Session, SessionWriter, joined
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import Kind, Rows, TapeWriter
from shared_data import shared

CHANGED_ROW = 17_000  # in the tape's second block


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """The first minute of the spot recording, imported."""
    folder = tmp_path_factory.mktemp("small")
    with gzip.open(shared("data/market/binance_2024-08-08/spot_btcusdt_20240808.gz")) as file:
        (folder / "r.txt").write_bytes(b"".join(file.readline() for _ in range(4_000)))
    import_recordings([folder / "r.txt"], folder / "S")
    return Session.open(folder / "S")


def written_again(session: Session, folder: Path, rows: Rows, *, is_closed: bool = True) -> Session:
    """The same raw log with another tape."""
    writer = SessionWriter(folder, session.instruments, source="test", created_ns=T0_NS)
    for record in session.records():
        writer.frame(record.recv_ns, record.feed, record.type, record.payload)
    for start in range(0, len(rows), 5_000):
        writer.rows(rows[start : start + 5_000].copy())
        writer.flush()
    writer.flush()
    if is_closed:
        writer.close(closed_ns=T0_NS)
    return Session.open(folder)


def test_the_raw_log_gives_the_tape_bit_for_bit(small: Session, tmp_path: Path) -> None:
    assert first_divergence(small) is None
    assert joined(list(rederived_rows(small))).tobytes() == joined(list(small.rows())).tobytes()
    again = written_again(small, tmp_path / "S", joined(list(small.rows())))
    assert first_divergence(again) is None


@pytest.mark.parametrize("field", ["price", "qty", "ts_recv_ns", "sequence", "flags", "instrument", "value", "feed"])
def test_a_changed_row_is_named_with_both_versions_and_its_file(small: Session, tmp_path: Path, field: str) -> None:
    rows = joined(list(small.rows()))
    rows[field][CHANGED_ROW] = {"instrument": -1, "value": np.nan}.get(field, rows[field][CHANGED_ROW] + 1)
    found = first_divergence(written_again(small, tmp_path / "S", rows))
    assert found is not None
    assert (found.row, found.file) == (CHANGED_ROW, "tape/000000.tape")
    assert found.recorded is not None
    assert found.rederived is not None
    if field == "price":
        assert found.recorded.price != found.rederived.price
        assert found.recorded.ts_recv_ns == found.rederived.ts_recv_ns


def test_a_row_too_few_or_too_many_is_named(small: Session, tmp_path: Path) -> None:
    rows = joined(list(small.rows()))
    short = first_divergence(written_again(small, tmp_path / "short", rows[:-1]))
    assert short is not None
    assert (short.row, short.recorded) == (len(rows) - 1, None)
    assert short.rederived is not None
    more = joined([rows, some_rows([int(rows["ts_recv_ns"][-1])])])
    long = first_divergence(written_again(small, tmp_path / "long", more))
    assert long is not None
    assert (long.row, long.rederived) == (len(rows), None)
    missing = first_divergence(written_again(small, tmp_path / "hole", np.delete(rows, 100)))
    assert missing is not None
    assert missing.row >= 100


def test_a_cut_sessions_tape_may_end_before_its_raw_log_does_and_not_behind_it(small: Session, tmp_path: Path) -> None:
    rows = joined(list(small.rows()))
    for name, count in (("none", 0), ("few", 10), ("block", 1 << 15), ("most", len(rows) - 1)):
        assert first_divergence(written_again(small, tmp_path / name, rows[:count], is_closed=False)) is None
    more = joined([rows, some_rows([int(rows["ts_recv_ns"][-1])])])
    assert first_divergence(written_again(small, tmp_path / "more", more, is_closed=False)) is not None


def test_rows_that_the_engine_makes_are_no_divergence(small: Session, tmp_path: Path) -> None:
    rows = joined(list(small.rows()))
    timers = some_rows([int(rows["ts_recv_ns"][k]) for k in range(0, 9_000, 500)], kind=Kind.TIMER, instrument=-1)
    with_timers = np.insert(rows, range(0, 9_000, 500), timers)
    session = written_again(small, tmp_path / "S", with_timers)
    assert first_divergence(session) is None
    changed = with_timers.copy()
    changed["qty"][9_100] += 1
    found = first_divergence(written_again(small, tmp_path / "changed", changed))
    assert found is not None
    assert found.row == 9_100 - len(timers), "rows are counted without them"


def test_a_value_that_is_not_a_number_equals_itself(tmp_path: Path) -> None:
    """A ticker that moves the time of the next funding and leaves its rate as it was."""
    table = InstrumentTable([spot(venue="bybit_linear")])
    writer = SessionWriter(tmp_path / "S", table, source="test", created_ns=T0_NS)
    opened = Opened(venue="bybit_linear", path="public", subscriptions=())
    frame = (
        b'{"topic":"tickers.BTCUSDT","type":"delta","ts":1700000000000,'
        b'"data":{"symbol":"BTCUSDT","nextFundingTime":"1700006400000"}}'
    )
    tape = TapeWriter()
    machines = Machines(table, tape)
    for record in (
        Record(T0_NS, 0, RecordType.OPENED, msgspec.json.encode(opened)),
        Record(T0_NS + 1, 0, RecordType.TEXT, frame),
    ):
        writer.frame(record.recv_ns, record.feed, record.type, record.payload)
        machines.tell(record)
    rows = tape.take()
    assert len(rows) == 1
    assert np.isnan(rows["value"]).all()
    writer.rows(rows)
    writer.close(closed_ns=T0_NS)
    assert first_divergence(Session.open(tmp_path / "S")) is None
