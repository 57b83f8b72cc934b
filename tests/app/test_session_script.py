"""The seed's verification plan, as written, against practice venues in accelerated time: `scripts/run_crypto_session.sh`."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from command import oneprice

from oneprice.data.session import Session
from oneprice.model.time import NS_PER_S
from patience import WITHIN_S

SCRIPT = Path(__file__).parents[2] / "scripts" / "run_crypto_session.sh"
ONEPRICE = Path(sys.executable).with_name("oneprice")
MARKET = "timestamp,symbol,open,high,low,close,volume,bid,ask,spread,mid"
FILLS = "timestamp,symbol,side,price,qty,fee,pnl,position"


def script(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SCRIPT, *arguments], cwd=cwd, env={**os.environ, "ONEPRICE": str(ONEPRICE), **environment}, capture_output=True,
        text=True, timeout=WITHIN_S, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty minutes through the script."""
    cwd = tmp_path_factory.mktemp("script")
    done = script(
        "--symbols", "BTCUSDT,ETHUSDT,ETHBTC", "--duration", "20m", "--tag", "first_arb_session", "--emulated", "--speed", "60",
        cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "Session complete: data/sessions/first_arb_session"
    return cwd / "data" / "sessions" / "first_arb_session"


def test_twenty_minutes_are_captured_validated_and_exported(session: Path) -> None:
    read = Session.open(session)
    span = read.span_ns()
    assert span is not None
    assert 1_195 <= (span[1] - span[0]) / NS_PER_S <= 1_260
    assert read.manifest.certificate["tier"] == "CERTIFIED"
    assert sorted(read.manifest.certificate["symbols"]) == ["BTCUSDT", "ETHBTC", "ETHUSDT"]
    with (session / "vectorbt" / "market.csv").open() as file:
        assert file.readline().strip() == MARKET
        bars = list(csv.reader(file))
    for symbol in ("BTCUSDT", "ETHBTC", "ETHUSDT"):
        of_symbol = [bar for bar in bars if bar[1] == symbol]
        assert 19 <= len(of_symbol) <= 22  # minutes
        assert all(bar[0].endswith("Z") and all(bar[2:7]) for bar in of_symbol)
        assert all(all(bar) for bar in of_symbol[1:]), "only a first minute of a moment may end without a book"
    assert (session / "vectorbt" / "fills.csv").read_text() == FILLS + "\n"
    summary = msgspec.json.decode((session / "vectorbt" / "summary.json").read_bytes())
    assert (summary["gaps"], summary["bars"]) == (0, len(bars))
    # An export beside the session's files leaves it intact.
    assert oneprice("validate-session", "--session-dir", session, "--slice", "10m/60s", "--json").json["is_intact"]


def test_fills_come_from_a_paper_session_over_the_capture(session: Path, tmp_path: Path) -> None:
    run = oneprice("run", "--mode", "backtest", "--session", session, "--out", tmp_path / "R", "--json")
    assert run.code == 0, run.err
    assert run.json["trades"] > 0
    done = oneprice(
        "export-vectorbt", "--session-dir", session, "--out-dir", tmp_path / "V", "--run", tmp_path / "R", "--json"
    )  # fmt: skip
    assert done.code == 0, done.err
    with (tmp_path / "V" / "fills.csv").open() as file:
        fills = list(csv.DictReader(file))
    assert ",".join(fills[0]) == FILLS
    assert len(fills) == done.json["fills"] >= 2 * run.json["trades"]
    assert {fill["side"] for fill in fills} == {"BUY", "SELL"}


def test_the_smoke_test_of_ten_minutes_holds(tmp_path: Path) -> None:
    smoke = oneprice(
        "capture-session", "--symbols", "BTCUSDT,ETHUSDT", "--duration-secs", "600", "--out-dir", tmp_path / "smoke_test",
        "--include-trades", "--strict", "--emulated", "--speed", "60", "--json",
    )  # fmt: skip
    assert (smoke.code, smoke.json["gaps"], smoke.json["certificate"]["holds"]) == (0, 0, True), smoke.err


@pytest.mark.parametrize("duration", ["5x", "h", "", "1h30m", "-5"])
def test_a_duration_that_is_none_is_told_with_examples(duration: str, tmp_path: Path) -> None:
    done = script("--duration", duration, cwd=tmp_path)
    assert (done.returncode, "write 2h, 20m, 90s or 7200" in done.stderr) == (2, True)
    assert list(tmp_path.iterdir()) == []


def test_flags_win_over_the_environment_and_the_first_failing_step_ends_it(tmp_path: Path) -> None:
    done = script("--symbols", "NOSUCHUSDT", "--emulated", cwd=tmp_path, SYMBOLS="BTCUSDT", DURATION="20", TAG="env")
    assert done.returncode == 2
    assert "NOSUCHUSDT" in done.stderr
    assert "Session complete" not in done.stdout
    fake = tmp_path / "fake"
    fake.write_text('#!/bin/sh\necho "$@"\n[ "$1" != validate-session ] || exit 4\n')
    fake.chmod(0o755)
    done = script("--duration", "2m", cwd=tmp_path, SYMBOLS="ETHBTC", TAG="env", ONEPRICE=str(fake))
    assert done.returncode == 4
    assert done.stdout.splitlines() == [
        "capture-session --symbols ETHBTC --out-dir data/sessions/env --duration-secs 120 --include-trades --strict",
        "validate-session --session-dir data/sessions/env",
    ]
    assert script("--help", cwd=tmp_path).stdout.startswith("One recorded session from start to end")
