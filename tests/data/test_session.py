"""Sessions on disk: what goes in comes out, what was cut says so, and nothing is changed unseen."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_world import PIECE, T0_NS, a_disk_that_ends_at, some_rows, spot, tape_of, written

from oneprice.data import manifest
from oneprice.data.manifest import Damage
from oneprice.data.session import (
    FLUSH_EVERY_NS,
    MANIFEST,
    FeedEntry,
    Record,
    RecordType,
    Session,
    SessionWriter,
    check_folder,
    joined,
)
from oneprice.model.errors import InputError, SessionError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ROW
from oneprice.model.time import NS_PER_S

TABLE = InstrumentTable([spot(), spot("ETHUSDT")])
records = st.lists(
    st.builds(
        Record,
        st.integers(0, 2**63 - 1),
        st.integers(-1, 2**31 - 1),
        st.sampled_from(RecordType),
        st.binary(max_size=300),
    ),
    max_size=12,
)
tapes = st.lists(st.integers(0, 40), max_size=6)  # rows a chunk


def new_writer(folder: Path) -> SessionWriter:
    return SessionWriter(folder, TABLE, source="test", created_ns=T0_NS)


def noise(count: int, seed: int = 1) -> np.ndarray:
    """Rows of random bytes: what no packer can shrink."""
    return np.frombuffer(random.Random(seed).randbytes(count * ROW.itemsize), dtype=ROW)


@given(log=records, chunks=tapes, flushes=st.sets(st.integers(0, 12)))
@settings(max_examples=40)
def test_records_and_rows_come_back_whatever_the_flushes(
    log: list[Record], chunks: list[int], flushes: set[int]
) -> None:
    with TemporaryDirectory() as folder:
        writer = new_writer(Path(folder) / "S")
        rows = [noise(count, seed=place) for place, count in enumerate(chunks)]
        for step in range(max(len(log), len(rows))):
            for record in log[step : step + 1]:
                writer.frame(record.recv_ns, record.feed, record.type, record.payload)
            for chunk in rows[step : step + 1]:
                writer.rows(chunk)
            if step in flushes:
                writer.flush()
        writer.close(closed_ns=T0_NS + 1, statistics={"gaps": 0})
        session = Session.open(Path(folder) / "S")
        assert list(session.records()) == log
        assert tape_of(session) == b"".join(chunk.tobytes() for chunk in rows)
        assert session.state == "closed"
        assert session.check() == []
        told = session.manifest
        assert (told.rows, told.frames, told.statistics) == (sum(chunks), len(log), {"gaps": 0})
        assert (told.created_ns, told.closed_ns, told.venues) == (T0_NS, T0_NS + 1, ["binance_spot"])
        assert list(session.instruments) == list(TABLE)


def test_what_was_flushed_can_be_read_while_the_session_is_written(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "S")
    writer.add_feed(FeedEntry(number=0, venue="binance_spot", path="public", address="wss://venue"))
    writer.frame(T0_NS, 0, RecordType.TEXT, b"{}")
    writer.rows(some_rows([T0_NS, T0_NS + 5]))
    assert list(Session.open(tmp_path / "S").rows()) == []
    writer.flush()
    writer.rows(some_rows([T0_NS + 9]))
    session = Session.open(tmp_path / "S")
    assert (session.state, session.manifest.rows, session.manifest.frames) == ("cut", 2, 1)
    assert [feed.number for feed in session.manifest.feeds] == [0], "a cut session knows its feeds"
    assert session.span_ns() == (T0_NS, T0_NS + 5)
    assert (session.check(), session.cut_bytes()) == ([], 0)


def test_a_flush_is_due_after_half_a_second_and_hands_over_the_raw_log_first(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "S")
    writer.flush_if_due(T0_NS)
    writer.frame(T0_NS, 0, RecordType.TEXT, b"{}")
    writer.rows(some_rows([T0_NS]))
    writer.flush_if_due(T0_NS + FLUSH_EVERY_NS - 1)
    assert Session.open(tmp_path / "S").manifest.rows == 0
    writer.flush_if_due(T0_NS + FLUSH_EVERY_NS)
    assert Session.open(tmp_path / "S").manifest.rows == 1
    # A block that is full does not wait; it never overtakes the raw log.
    writer.frame(T0_NS, 0, RecordType.TEXT, b"{}")
    writer.rows(some_rows([T0_NS] * 20_000))
    session = Session.open(tmp_path / "S")
    assert (session.manifest.rows, session.manifest.frames) == (20_001, 2)


def test_segments_go_on_by_the_hour_and_read_as_one(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "S")
    chunks = []
    for hour in range(3):
        for minute in (0, 30, 59):
            now_ns = T0_NS + (hour * 3600 + minute * 60) * NS_PER_S
            chunks.append(some_rows([now_ns]))
            writer.frame(now_ns, 0, RecordType.TEXT, b"%d" % now_ns)
            writer.rows(chunks[-1])
            writer.flush_if_due(now_ns)
    session = Session.open(tmp_path / "S")
    names = [path.name for path in session.segments("tape")]
    assert names == ["000000.tape", "000001.tape", "000002.tape"]
    writer.close(closed_ns=T0_NS)
    assert tape_of(session) == joined(chunks).tobytes()
    assert len(list(session.records())) == 9
    assert Session.open(tmp_path / "S").check() == []
    assert session.span_ns() == (T0_NS, int(chunks[-1]["ts_recv_ns"][0]))


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of several pieces a file, closed."""
    log = [(T0_NS + k, random.Random(k).randbytes(700)) for k in range(300)]
    return written(tmp_path_factory.mktemp("closed") / "S", [noise(900, k) for k in range(4)], records=log).folder


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, never closed."""
    log = [(T0_NS + k, random.Random(k).randbytes(700)) for k in range(300)]
    chunks = [noise(900, k) for k in range(4)]
    return written(tmp_path_factory.mktemp("cut") / "S", chunks, records=log, is_closed=False).folder


def files_of(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def damages_by_flips(folder: Path, copy: Path, flips: int) -> list[tuple[str, int, list[Damage]]]:
    """(file, changed byte, what is found) for some bytes of every file, the first and the last among them."""
    shutil.copytree(folder, copy)
    draw = random.Random(11)
    found = []
    for name in files_of(folder):
        content = (folder / name).read_bytes()
        for place in {0, len(content) - 1, *(draw.randrange(len(content)) for _ in range(flips))}:
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            (copy / name).write_bytes(changed)
            found.append((name.as_posix(), place, check_folder(copy)))
        (copy / name).write_bytes(content)
    assert check_folder(copy) == []
    return found


def test_a_flipped_byte_of_any_file_is_found_and_located(closed: Path, tmp_path: Path) -> None:
    assert check_folder(closed) == []
    for name, place, damage in damages_by_flips(closed, tmp_path / "S", flips=25):
        assert [one.file for one in damage] == [name], f"byte {place}"
        assert damage[0].offset <= place < damage[0].offset + PIECE


def test_a_flipped_byte_of_a_cut_session_is_found_and_located_too(cut: Path, tmp_path: Path) -> None:
    longest = 1 << 20
    for name, place, damage in damages_by_flips(cut, tmp_path / "S", flips=25):
        assert [one.file for one in damage] == [name], f"byte {place}"
        assert damage[0].offset <= place < damage[0].offset + longest


def test_reading_stops_at_damage_and_says_where(closed: Path, tmp_path: Path) -> None:
    shutil.copytree(closed, tmp_path / "S")
    path = tmp_path / "S" / "tape" / "000000.tape"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    read = []
    with pytest.raises(SessionError, match=r"000000\.tape: the block at byte \d+ is not what was written"):
        read.extend(Session.open(tmp_path / "S").rows())
    assert sum(len(rows) for rows in read) == 2_700, "the blocks before are good"


def test_a_cut_tape_reads_to_its_last_whole_block_and_says_what_was_lost(cut: Path, tmp_path: Path) -> None:
    shutil.copytree(cut, tmp_path / "S")
    path = tmp_path / "S" / "tape" / "000000.tape"
    content = path.read_bytes()
    whole = tape_of(Session.open(cut))
    draw = random.Random(2)
    for size in (0, 3, 8, 9, 27, len(content) - 1, len(content), *(draw.randrange(len(content)) for _ in range(40))):
        path.write_bytes(content[:size])
        session = Session.open(tmp_path / "S")
        tape = tape_of(session)
        assert whole.startswith(tape)
        assert len(tape) == session.manifest.rows * ROW.itemsize
        assert session.check() == []
        assert (session.cut_bytes() == 0) == (size in (0, 8, len(content)))


def test_files_that_are_missing_or_strange_are_told(closed: Path, tmp_path: Path) -> None:
    shutil.copytree(closed, tmp_path / "S")
    (tmp_path / "S" / "frames" / "000000.frames").unlink()
    (tmp_path / "S" / "tape" / "000007.tape").write_bytes(b"not ours")
    (tmp_path / "S" / "vectorbt").mkdir()
    (tmp_path / "S" / "vectorbt" / "market.csv").write_bytes(b"an export may stand here")
    assert check_folder(tmp_path / "S") == [
        Damage(file="frames/000000.frames", offset=0, what="missing"),
        Damage(file="tape/000007.tape", offset=0, what="not in the manifest"),
    ]


def test_what_is_no_session_is_refused_in_words(closed: Path, tmp_path: Path) -> None:
    with pytest.raises(SessionError, match="no such session"):
        Session.open(tmp_path / "nowhere")
    with pytest.raises(SessionError, match="not a folder that oneprice wrote"):
        Session.open(tmp_path)
    with pytest.raises(SessionError, match="not a folder that oneprice wrote"):
        Session.open(closed / "instruments.json")
    with pytest.raises(SessionError, match="not a folder that oneprice wrote"):
        check_folder(tmp_path)
    shutil.copytree(closed, tmp_path / "S")
    (tmp_path / "S" / "instruments.json").write_bytes(b'[{"venue": 1}]')
    with pytest.raises(SessionError, match=r"instruments\.json: cannot be read"):
        Session.open(tmp_path / "S")
    manifest.write_manifest(tmp_path / "S" / MANIFEST, {"schema": 99, "state": "closed"})
    with pytest.raises(SessionError, match="written in schema 99; this oneprice reads schema 1"):
        Session.open(tmp_path / "S")


def test_a_folder_that_cannot_be_used_is_refused_with_its_path(closed: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a session is here already"):
        new_writer(closed)
    file = tmp_path / "file"
    file.write_bytes(b"")
    for folder in (file, file / "below", Path("/proc/oneprice")):
        with pytest.raises(InputError, match=f"{folder}: no session can be written here"):
            new_writer(folder)


def test_a_full_disk_is_told_and_what_waits_goes_out_with_the_next_flush(tmp_path: Path) -> None:
    writer = new_writer(tmp_path / "S")
    writer.rows(noise(10))
    writer.flush()
    writer.rows(noise(5_000, seed=2))
    with (
        a_disk_that_ends_at(30_000),
        pytest.raises(SessionError, match=r"000000\.tape: cannot be written: File too large"),
    ):
        writer.flush()
    assert tape_of(Session.open(tmp_path / "S")) == noise(10).tobytes()
    writer.close(closed_ns=T0_NS)
    session = Session.open(tmp_path / "S")
    assert tape_of(session) == noise(10).tobytes() + noise(5_000, seed=2).tobytes()
    assert session.check() == []


def test_going_on_takes_a_session_that_was_cut_and_no_other(closed: Path, cut: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="this session is closed"):
        SessionWriter.go_on(closed)
    live = new_writer(tmp_path / "live")
    with pytest.raises(InputError, match="being written by another process"):
        SessionWriter.go_on(tmp_path / "live")
    live.close(closed_ns=T0_NS)
    shutil.copytree(cut, tmp_path / "damaged")
    path = tmp_path / "damaged" / "frames" / "000000.frames"
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)
    with pytest.raises(SessionError, match=r"000000\.frames: changed: .*cannot be added to"):
        SessionWriter.go_on(tmp_path / "damaged")


@pytest.mark.parametrize("lost", [0, 1, 30, 10**9])
def test_a_cut_session_goes_on_in_new_segments(cut: Path, tmp_path: Path, lost: int) -> None:
    shutil.copytree(cut, tmp_path / "S")
    path = tmp_path / "S" / "tape" / "000000.tape"
    content = path.read_bytes()
    path.write_bytes(content[: max(0, len(content) - lost)])
    kept = tape_of(Session.open(tmp_path / "S"))
    writer = SessionWriter.go_on(tmp_path / "S")
    writer.rows(noise(7, seed=9))
    writer.close(closed_ns=T0_NS)
    session = Session.open(tmp_path / "S")
    assert tape_of(session) == kept + noise(7, seed=9).tobytes()
    assert (session.check(), session.cut_bytes()) == ([], 0)
    assert session.manifest.rows == len(tape_of(session)) // ROW.itemsize
    assert session.manifest.feeds == Session.open(cut).manifest.feeds


def test_a_manifest_holds_nothing_but_what_was_given(closed: Path) -> None:
    told = msgspec.json.decode((closed / MANIFEST).read_bytes())
    assert set(told) == {
        "schema", "oneprice", "state", "created_ns", "closed_ns", "source", "venues", "feeds", "rows", "frames",
        "statistics", "configuration", "certificate", "files", "merkle_root", "stop_reason",
    }  # fmt: skip
    assert [entry["path"] for entry in told["files"]] == [
        "frames/000000.frames",
        "instruments.json",
        "tape/000000.tape",
    ]
