"""`kill -9` of a capturing process: what it had flushed is there, what is there is true, and a restart goes on."""

from __future__ import annotations

import gzip
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from killed_capture import CLOSING, FLUSH_EVERY, HOUR_NS, capture

from oneprice.data.certify.measures import measure
from oneprice.data.importer import import_recordings
from oneprice.data.rederive import first_divergence
from oneprice.data.session import Record, RecordType, Session, joined
from oneprice.model.tape import GapReason, Kind, Rows
from shared_data import shared

LINES = 12_000
POINTS = 24
CLOSINGS = 6
RESTARTS = 6
_FORKS = multiprocessing.get_context("forkserver")  # a fresh process for each life, without a fresh interpreter


class Reference(NamedTuple):
    folder: Path
    records: list[Record]
    rows: Rows


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reference]:
    """What a capture that nobody kills writes."""
    folder = tmp_path_factory.mktemp("reference")
    with gzip.open(shared("data/market/binance_2024-08-08/spot_btcusdt_20240808.gz")) as file:
        (folder / "r.txt").write_bytes(b"".join(file.readline() for _ in range(LINES)))
    import_recordings([folder / "r.txt"], folder / "S")
    session = Session.open(folder / "S")
    _FORKS.set_forkserver_preload(["killed_capture", "killed_capture_at_hand"])
    with pytest.MonkeyPatch.context() as patch:
        # The process that is forked from finds modules by the environment alone.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield Reference(folder / "S", list(session.records()), joined(list(session.rows())))


def killed_after(
    folder: Path, reference: Reference, life: int, flushes: int | None, *, wait_s: float = 0.0
) -> tuple[int, int]:
    """Start a life, kill it when it has told of so many flushes (None: when it begins to close) and a moment more.
    → the (records, rows) that it told last."""
    ours, theirs = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=capture, args=(folder, reference.folder, life, theirs))
    process.start()
    theirs.close()
    told, count, heard = (0, 0), 0, (0, 0)
    while heard != CLOSING and (flushes is None or count <= flushes):
        heard = ours.recv()
        told, count = max(told, heard), count + 1
    time.sleep(wait_s)  # not for anything: it draws the moment of the kill
    process.kill()
    process.join()
    with suppress(EOFError):
        while True:  # what it still said before it died
            told = max(told, ours.recv())
    ours.close()
    return told


def later(rows: Rows, life: int) -> Rows:
    moved = rows.copy()
    moved["ts_recv_ns"] += life * HOUR_NS
    return moved


@pytest.mark.parametrize("point", range(POINTS))
def test_nothing_that_was_flushed_is_lost_whenever_the_process_is_killed(
    reference: Reference, tmp_path: Path, point: int
) -> None:
    flushes = random.Random(point).randrange(LINES // FLUSH_EVERY)
    records_told, rows_told = killed_after(tmp_path / "S", reference, 0, flushes)
    assert records_told >= flushes * FLUSH_EVERY
    session = Session.open(tmp_path / "S")
    assert session.state == "cut"
    assert session.check() == []
    records, rows = list(session.records()), joined(list(session.rows()))
    assert len(records) >= records_told
    assert len(rows) >= rows_told
    assert records == reference.records[: len(records)]
    assert rows.tobytes() == reference.rows[: len(rows)].tobytes()
    assert (session.manifest.frames, session.manifest.rows) == (len(records), len(rows))
    assert first_divergence(session) is None


@pytest.mark.parametrize("point", range(CLOSINGS))
def test_a_process_killed_while_it_closes_leaves_a_session_that_is_cut_or_closed(
    reference: Reference, tmp_path: Path, point: int
) -> None:
    wait_s = random.Random(point).uniform(0.0, 0.02)
    records_told, rows_told = killed_after(tmp_path / "S", reference, 0, None, wait_s=wait_s)
    session = Session.open(tmp_path / "S")
    assert (session.manifest.frames >= records_told, session.manifest.rows >= rows_told) == (True, True)
    assert session.check() == []
    assert first_divergence(session) is None
    if session.state == "closed":
        assert joined(list(session.rows())).tobytes() == reference.rows.tobytes()


@pytest.mark.parametrize("point", range(RESTARTS))
def test_a_killed_session_goes_on_twice_and_is_whole_in_the_end(
    reference: Reference, tmp_path: Path, point: int
) -> None:
    draw = random.Random(100 + point)
    folder, told = tmp_path / "S", []
    for life in range(2):
        told.append(killed_after(folder, reference, life, draw.randrange(LINES // FLUSH_EVERY // 2)))
        assert first_divergence(Session.open(folder)) is None
    capture(folder, reference.folder, 2, None, limit=2_000)
    session = Session.open(folder)
    assert (session.state, session.check()) == ("closed", [])
    assert first_divergence(session) is None
    records, rows = list(session.records()), joined(list(session.rows()))
    breaks = [place for place, record in enumerate(records) if record.type is RecordType.RESTARTED]
    assert len(breaks) == 2
    assert breaks[0] >= told[0][0]
    gaps = rows[rows["kind"] == int(Kind.GAP)]
    assert (gaps["value"] == float(GapReason.DISCONNECT)).all()
    assert (np.diff(rows["ts_recv_ns"]) >= 0).all()
    # Between its breaks the tape is what an undisturbed capture writes, an hour later in each life.
    begins = 0
    for life, end in enumerate([*np.flatnonzero(rows["kind"] == int(Kind.GAP)).tolist(), len(rows)]):
        part = rows[begins:end]
        assert part.tobytes() == later(reference.rows[: len(part)], life).tobytes()
        begins = end + 1
    (quality,) = measure(session).symbols
    assert quality.gaps == len(gaps) == 2
    assert quality.bbo_agreement == 1.0
