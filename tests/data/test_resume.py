"""A capture that is killed and resumed, again and again: one session in the end, whole, with every break told."""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy as np
import pytest
from killed_practice_capture import Told, capture

from oneprice.data.certify.measures import measure
from oneprice.data.rederive import first_divergence
from oneprice.data.replay import Replay
from oneprice.data.session import RecordType, Session, joined
from oneprice.emulator.practice import SpawnedVenues, spawn_practice_venues
from oneprice.model.tape import GapReason, Kind, Rows
from patience import WITHIN_S

VENUES = ("binance_spot", "binance_usdm", "bybit_linear")
BOOKS = 6
SESSIONS = 3
KILLS = 3
_FORKS = multiprocessing.get_context("forkserver")  # a fresh process for each life, without a fresh interpreter


@pytest.fixture(autouse=True, scope="module")
def forks() -> Iterator[None]:
    _FORKS.set_forkserver_preload(["killed_practice_capture"])
    with pytest.MonkeyPatch.context() as patch:
        # The process that is forked from finds modules by the environment alone.
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
        yield


@pytest.fixture
async def practice() -> AsyncIterator[SpawnedVenues]:
    """Venues that go on while the processes that capture them come and go."""
    spawned = await spawn_practice_venues(seed=3, venues=VENUES)
    yield spawned
    await spawned.stop()


class Life:
    """A capturing process."""

    def __init__(self, folder: Path, practice: SpawnedVenues, *, is_first: bool) -> None:
        self._pipe, theirs = _FORKS.Pipe()
        self._process = _FORKS.Process(target=capture, args=(folder, practice.endpoints, is_first, theirs))
        self._process.start()
        theirs.close()
        self.told = Told(0, 0, 0, 0)

    def listen(self) -> bool:
        """Take what it says next; False when it has ended."""
        assert self._pipe.poll(WITHIN_S), "the capture hangs"
        try:
            self.told = self._pipe.recv()
        except EOFError:
            return False
        return True

    def kill(self, *, after_batches: int, wait_s: float) -> None:
        """Kill it a moment after a batch, whatever it is doing then. Its last words are listened to."""
        while self.told.batches < after_batches:
            assert self.listen(), "the capture ended by itself"
        time.sleep(wait_s)  # not for anything: it draws the moment of the kill
        self._process.kill()
        self._process.join()
        while self.listen():
            pass

    def stop_when_all_books_stand(self) -> None:
        while self.told.standing < BOOKS or self.told.batches < 50:
            assert self.listen(), "the capture ended by itself"
        self._pipe.send("stop")
        while self.listen():
            pass
        self._process.join(WITHIN_S)
        assert self._process.exitcode == 0


@pytest.mark.parametrize("draw", range(SESSIONS))
async def test_a_capture_killed_again_and_again_is_one_whole_session_in_the_end(
    practice: SpawnedVenues, tmp_path: Path, draw: int
) -> None:
    rng = random.Random(draw)
    folder = tmp_path / "S"
    ends: list[int] = []  # rows of the tape when each life had ended
    for kill in range(KILLS):
        life = Life(folder, practice, is_first=kill == 0)
        life.kill(after_batches=rng.randrange(1, 300), wait_s=rng.uniform(0.0, 0.01))
        session = Session.open(folder)
        assert (session.state, session.check(), first_divergence(session)) == ("cut", [], None)
        assert session.manifest.frames >= life.told.frames
        assert session.manifest.rows >= life.told.rows
        ends.append(session.manifest.rows)
    Life(folder, practice, is_first=False).stop_when_all_books_stand()

    session = Session.open(folder)
    assert (session.state, session.check(), session.cut_bytes()) == ("closed", [], 0)
    assert first_divergence(session) is None
    rows = joined(list(session.rows()))
    assert (np.diff(rows["ts_recv_ns"]) >= 0).all()
    timers = rows[rows["kind"] == int(Kind.TIMER)]["sequence"]
    assert timers.tolist() == list(range(1, len(timers) + 1)), "batches are numbered through"
    assert [feed.number for feed in session.manifest.feeds] == list(range(len(session.manifest.feeds)))
    breaks = [record for record in session.records() if record.type is RecordType.RESTARTED]
    assert len(breaks) == KILLS

    standing: set[int] = set()
    begin, broken, links_before = 0, 0, -1
    for end, restarted in zip(ends, breaks, strict=True):
        links = rows[begin:end]["feed"]
        assert links[links >= 0].min(initial=1 << 30) > links_before, "a connection's number is never given again"
        links_before = max(links_before, int(links.max(initial=-1)))
        standing = books_after(rows[begin:end], standing)
        gaps = rows[end : end + len(standing)]
        assert set(gaps["instrument"].tolist()) == standing, "every book that stood, and no other"
        assert set(gaps["kind"].tolist()) <= {int(Kind.GAP)}
        assert (gaps["value"] == float(GapReason.DISCONNECT)).all()
        assert (gaps["ts_recv_ns"] == restarted.recv_ns).all()
        begin, broken = end, broken + len(standing)
    assert broken > 0, "at least one process was killed after it had told the disk of a book"
    assert books_after(rows[begin:], standing) == set(range(BOOKS)), "all books stand again"

    replayed = joined(list(Replay([session]).rows()))
    assert replayed.tobytes() == rows.tobytes()
    for quality in measure(session).symbols:
        assert (quality.crossed, quality.locked) == (0, 0)
        assert quality.bbo_agreement in (None, 1.0), quality.bbo_disagreements
    for index, instrument in enumerate(session.instruments):
        if instrument.venue == "bybit_linear":
            continue  # names its trades, but does not number them
        ids = rows[(rows["kind"] == int(Kind.TRADE)) & (rows["instrument"] == index)]["sequence"]
        assert len(ids) > 0
        assert len(set(ids.tolist())) == len(ids), "a trade counts once"


def books_after(rows: Rows, standing: set[int]) -> set[int]:
    """The instruments whose books stand behind these rows, when those stood before them."""
    now = set(standing)
    for kind, instrument in zip(rows["kind"].tolist(), rows["instrument"].tolist(), strict=True):
        if kind == int(Kind.DEPTH):
            now.add(instrument)
        elif kind == int(Kind.GAP):
            now.discard(instrument)
    return now
