"""Sessions from the command line: how a strict and a lenient one end when something is lost, what a cut one becomes, and that
`validate-session` finds whatever was changed."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from command import Answer, oneprice

from oneprice.data.certify.publish import SymbolManifest
from oneprice.data.certify.validate import validate
from oneprice.data.export.jsonl_read import read_depth, read_funding, read_trades
from oneprice.data.session import Session
from oneprice.model.progress import untold
from oneprice.model.time import NS_PER_S
from patience import WITHIN_S

SYMBOLS = ("BTCUSDT", "BTCUSDT_PERP", "ETHUSDT")
PIECE = 64 * 1024
GATES = {
    "bootstrap", "gap_rate", "provenance", "determinism", "economics", "staleness", "clock", "duplicate_trades",
    "trade_outside_book", "bbo_agreement", "depth_coverage",
}  # fmt: skip


def captured(folder: Path, *more: str) -> Answer:
    return oneprice(
        "capture-session", "--emulated", "--symbols", ",".join(SYMBOLS), "--include-trades", "--include-funding",
        "--out-dir", folder, *more, "--json",
    )  # fmt: skip


@pytest.fixture(scope="module")
def lenient(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A minute in which one book was lost and repaired."""
    folder = tmp_path_factory.mktemp("lenient") / "S"
    done = captured(folder, "--speed", "5", "--duration-secs", "60", "--fault", "gap@binance_spot:BTCUSDT,at=50")
    assert done.code == 0, done.err
    return folder, done.json


def symbol_manifest(folder: Path, symbol: str) -> SymbolManifest:
    return msgspec.json.decode((folder / symbol / "manifest.json").read_bytes(), type=SymbolManifest)


def gate(certificate: dict[str, Any], symbol: str, name: str) -> dict[str, Any]:
    (found,) = (one for one in certificate["symbols"][symbol]["gates"] if one["name"] == name)
    return found


def test_a_lenient_session_goes_on_after_a_gap_and_tells_it(lenient: tuple[Path, dict[str, Any]]) -> None:
    folder, told = lenient
    assert (told["state"], told["stop_reason"], told["gaps"]) == ("closed", "time is over", 1)
    assert sorted(told["certificate"]["symbols"]) == sorted(SYMBOLS)
    for symbol in SYMBOLS:
        gates = {one["name"]: one for one in told["certificate"]["symbols"][symbol]["gates"]}
        assert set(gates) == GATES
        assert gates["gap_rate"]["status"] == ("WARN" if symbol == "BTCUSDT" else "PASS")
        assert {gates[name]["status"] for name in ("bootstrap", "provenance", "determinism")} == {"PASS"}
    (lost,) = symbol_manifest(folder, "BTCUSDT").gap_ledger
    validity = symbol_manifest(folder, "BTCUSDT").book_validity
    assert (lost.reason, lost.repair) == ("sequence", "rest_snapshot")
    assert lost.expected_id == (lost.last_good_id or 0) + 1 < (lost.received_id or 0)
    assert lost.repaired_ns is not None
    assert 0 < lost.invalid_ns == lost.repaired_ns - lost.at_ns
    assert validity.intervals[0][1] == lost.at_ns
    assert validity.intervals[1][0] == lost.repaired_ns
    assert symbol_manifest(folder, "ETHUSDT").gap_ledger == ()


def test_its_files_are_those_of_the_layout_and_say_what_the_manifests_say(lenient: tuple[Path, dict[str, Any]]) -> None:
    folder, told = lenient
    readers = {"depth": read_depth, "trades": read_trades, "funding": read_funding}
    for symbol in SYMBOLS:
        streams = ("depth", "trades", "funding") if symbol.endswith("_PERP") else ("depth", "trades")
        events = symbol_manifest(folder, symbol).verdict.events
        assert set(events) == set(streams)
        for stream in streams:
            lines = list(readers[stream](folder / symbol / f"{stream}.jsonl.zst"))
            assert len(lines) == events[stream] == told["certificate"]["symbols"][symbol]["events"][stream] > 0
            assert {line.tradingsymbol for line in lines} == {symbol}
        assert not (folder / symbol / "funding.jsonl.zst").exists() or symbol.endswith("_PERP")
        assert {path.name for path in (folder / symbol).glob("*.parquet")} >= {"depth.parquet", "trades.parquet"}
        rules = symbol_manifest(folder, symbol).instrument
        assert rules.symbol == symbol.removesuffix("_PERP")
        assert min(rules.tick, rules.lot) > 0


def test_an_untouched_session_validates_whole_and_in_part(lenient: tuple[Path, dict[str, Any]]) -> None:
    folder, told = lenient
    whole = oneprice("validate-session", "--session-dir", folder, "--json")
    assert whole.code == 0, whole.err
    assert (whole.json["is_intact"], whole.json["holds"], whole.json["damage"]) == (True, True, [])
    assert whole.json["symbols"] == told["certificate"]["symbols"]
    part = oneprice("validate-session", "--session-dir", folder, "--slice", "20s/30s", "--json")
    assert (part.code, part.json["is_intact"], part.json["merkle_root"]) == (0, True, whole.json["merkle_root"])
    wrong = oneprice("validate-session", "--session-dir", folder, "--slice", "tomorrow", "--json")
    assert (wrong.code, "START/LENGTH" in wrong.json["error"]) == (2, True)


def test_a_flipped_bit_of_any_file_is_located(lenient: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(lenient[0], tmp_path / "S")
    draw = random.Random(3)
    for path in sorted(path for path in (tmp_path / "S").rglob("*") if path.is_file()):
        name, content = path.relative_to(tmp_path / "S").as_posix(), path.read_bytes()
        place = draw.randrange(len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :])
        found = [one for one in check(tmp_path / "S") if one[0] == name]
        assert found, name
        assert name == "session_manifest.json" or found[0][1] <= place < found[0][1] + PIECE
        path.write_bytes(content)
    assert check(tmp_path / "S") == []


def check(folder: Path) -> list[tuple[str, int]]:
    return [(damage.file, damage.offset) for damage in validate(folder, progress=untold).damage]


def test_the_command_names_the_file_and_the_offset(lenient: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    shutil.copytree(lenient[0], tmp_path / "S")
    path = tmp_path / "S" / "ETHUSDT" / "trades.jsonl.zst"
    content = bytearray(path.read_bytes())
    content[99] ^= 4
    path.write_bytes(content)
    done = oneprice("validate-session", "--session-dir", tmp_path / "S")
    assert done.code == 1
    assert "ETHUSDT/trades.jsonl.zst from byte 99" in done.err


def test_a_strict_session_ends_at_its_first_gap(tmp_path: Path) -> None:
    strict = ("--strict", "--speed", "5", "--duration-secs", "3600", "--fault", "gap@binance_usdm:BTCUSDT,at=50")
    done = captured(tmp_path / "S", *strict)
    assert done.code == 1
    assert (done.json["state"], done.json["gaps"]) == ("aborted", 1)
    assert "strict: BTCUSDT_PERP has a gap" in done.json["stop_reason"]
    failed = gate(done.json["certificate"], "BTCUSDT_PERP", "gap_rate")
    assert (failed["status"], failed["action"], failed["is_hard"]) == ("FAIL", "abort", True)
    tiers = {name: one["tier"] for name, one in done.json["certificate"]["symbols"].items()}
    assert tiers == {"BTCUSDT": "CERTIFIED", "BTCUSDT_PERP": "NON_CERTIFIED", "ETHUSDT": "CERTIFIED"}
    session = Session.open(tmp_path / "S")
    span = session.span_ns()
    assert span is not None
    assert span[1] - span[0] < 600 * NS_PER_S
    checked = oneprice("validate-session", "--session-dir", tmp_path / "S", "--json")
    assert (checked.code, checked.json["is_intact"], checked.json["holds"]) == (1, True, False)


def test_a_killed_session_is_finished_by_recover(tmp_path: Path) -> None:
    folder = tmp_path / "S"
    arguments = [
        "capture-session",
        "--emulated",
        "--symbols",
        ",".join(SYMBOLS),
        "--include-trades",
        "--out-dir",
        str(folder),
    ]
    command = subprocess.Popen([sys.executable, "-m", "oneprice", *arguments], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + WITHIN_S
    while (
        not (folder / "session_manifest.json").exists()
        or sum(len(rows) for rows in Session.open(folder).rows()) < 2_000
    ):
        assert time.monotonic() < deadline, "the capture recorded nothing"
        time.sleep(0.1)
    killed_ns = time.time_ns()
    command.send_signal(signal.SIGKILL)
    command.wait()
    unfinished = oneprice("validate-session", "--session-dir", folder, "--json")
    assert (unfinished.code, f"`oneprice recover {folder}` finishes it" in unfinished.json["error"]) == (4, True)
    done = oneprice("recover", folder, "--json")
    assert done.code == 0, done.err
    assert done.json["stop_reason"].startswith("cut; the last row is of")
    session = Session.open(folder)
    span = session.span_ns()
    assert span is not None
    assert session.state == "recovered"
    assert killed_ns - span[1] < NS_PER_S, "at most one second is lost"
    checked = oneprice("validate-session", "--session-dir", folder, "--json")
    assert (checked.code, checked.json["holds"]) == (0, True)
    again = oneprice("recover", folder, "--json")
    assert (again.code, "this session is recovered; it is not added to" in again.json["error"]) == (2, True)
