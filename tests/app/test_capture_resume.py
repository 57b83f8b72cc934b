"""`capture-session --resume`: a capture that was killed goes on, and what cannot go on is told in a sentence."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from command import oneprice

from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.rederive import first_divergence
from oneprice.data.session import Session, SessionWriter, joined
from oneprice.emulator.instruments import practice_instruments
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ROW, Kind
from oneprice.model.time import NS_PER_S
from patience import WITHIN_S

T0_NS = 1_700_000_000 * NS_PER_S


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of two practice venues, killed when books are on disk."""
    folder = tmp_path_factory.mktemp("killed") / "S"
    arguments = ["capture-session", "--emulated", "--venues", "binance_usdm,bybit_spot", "--symbols", "BTCUSDT,ETHUSDT",
                 "--out-dir", str(folder)]  # fmt: skip
    command = subprocess.Popen([sys.executable, "-m", "oneprice", *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + WITHIN_S
    while not (folder / "session_manifest.json").exists() or standing_books(folder) < 4:
        assert time.monotonic() < deadline, "the capture recorded no books"
        time.sleep(0.1)
    command.send_signal(signal.SIGKILL)
    command.wait()
    return folder


def standing_books(folder: Path) -> int:
    rows = joined([np.zeros(0, dtype=ROW), *Session.open(folder).rows()])
    return len(set(rows[rows["kind"] == int(Kind.DEPTH)]["instrument"].tolist()))


def test_a_killed_capture_goes_on_with_its_plan_and_is_whole_in_the_end(killed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "S"
    shutil.copytree(killed, folder)
    before = joined(list(Session.open(folder).rows()))
    done = oneprice("capture-session", "--resume", folder, "--emulated", "--duration-secs", "4", "--json")
    assert done.code == 0, done.err
    session = Session.open(folder)
    assert (session.state, session.check(), first_divergence(session)) == ("closed", [], None)
    rows = joined(list(session.rows()))
    assert (done.json["session"], done.json["rows"]) == (str(folder), len(rows))
    assert rows[: len(before)].tobytes() == before.tobytes()
    after = rows[len(before) :]
    assert sorted(after[after["kind"] == int(Kind.GAP)]["instrument"].tolist()) == [0, 1, 2, 3]
    assert set(after[after["kind"] == int(Kind.DEPTH)]["instrument"].tolist()) == {0, 1, 2, 3}
    assert {feed["venue"] for feed in done.json["feeds"]} == {"binance_usdm", "bybit_spot"}
    backtest = oneprice("run", "--mode", "backtest", "--session", folder, "--out", tmp_path / "R", "--json")
    assert (backtest.code, backtest.json["gaps"]) == (0, 4), backtest.err
    again = oneprice("capture-session", "--resume", folder, "--emulated", "--json")
    assert (again.code, again.json["error"]) == (2, f"{folder}: this session is closed; it is not added to")


def test_practice_and_the_real_thing_are_not_mixed(killed: Path, tmp_path: Path) -> None:
    refused(2, "this session records practice venues; go on with --emulated", "--resume", killed)
    cut(tmp_path / "live")
    refused(2, "records the venues themselves; go on without --emulated", "--resume", tmp_path / "live", "--emulated")


def test_what_cannot_go_on_is_told_in_a_sentence(killed: Path, tmp_path: Path) -> None:
    refused(2, "of the options that say them, none can be given", "--resume", killed, "--venues", "binance_spot")
    refused(4, "nowhere: no such session", "--resume", tmp_path / "nowhere")
    cut(tmp_path / "imported", source="import")
    refused(2, "the source of this session is 'import'", "--resume", tmp_path / "imported")
    written = cut(tmp_path / "written")
    refused(2, "is being written by another process", "--resume", tmp_path / "written")
    written.close(closed_ns=T0_NS)
    shutil.copytree(killed, tmp_path / "damaged")
    path = tmp_path / "damaged" / "frames" / "000000.frames"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(4, "frames/000000.frames: changed", "--resume", tmp_path / "damaged", "--emulated")


def test_an_instrument_whose_tick_changed_is_named_and_the_session_stays_as_it_is(tmp_path: Path) -> None:
    folder = tmp_path / "S"
    cut(folder, environment="practice", tick=25)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    refused(
        2, "binance_usdm:BTCUSDT: its tick was 2.5 when this session began, and is 0.1 now", "--resume", folder,
        "--emulated",
    )  # fmt: skip
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def refused(code: int, said: str, *arguments: Any) -> None:
    answer = oneprice("capture-session", *arguments, "--json")
    assert answer.code == code, answer.err
    assert said in answer.json["error"]
    assert "Traceback" not in answer.err


def cut(folder: Path, *, source: str = "capture", environment: str = "live", tick: int = 1) -> SessionWriter:
    """A session of one instrument that was begun and not closed; it is being written as long as its writer is kept."""
    (instrument,) = (one for one in practice_instruments("binance_usdm") if one.symbol == "BTCUSDT")
    plan = CapturePlan(venues={"binance_usdm": VenuePlan(symbols=("BTCUSDT",))}, environment=environment)
    return SessionWriter(
        folder, InstrumentTable([msgspec.structs.replace(instrument, tick=tick)]), source=source, created_ns=T0_NS,
        configuration={"plan": plan.recorded()},
    )  # fmt: skip
