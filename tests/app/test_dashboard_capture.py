"""The page of a capture: the gates so far, in a browser and beside it, and what they say when the session has ended."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import drawn
from command import oneprice

from patience import WITHIN_S

ENDED_ONLY = {"determinism"}  # what only a whole session can tell


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("recording") / "S"
    arguments = [
        "capture-session", "--emulated", "--symbols", "BTCUSDT,BTCUSDT_PERP", "--include-trades", "--fault",
        "gap@binance_spot:BTCUSDT,at=8", "--dashboard", str(port), "--out-dir", str(folder),
    ]  # fmt: skip
    command = [sys.executable, "-m", "oneprice", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    yield f"http://127.0.0.1:{port}", folder, process
    process.kill()
    process.wait()
    shutil.rmtree(folder)


def told(address: str, part: str = "view") -> Any:
    with urllib.request.urlopen(f"{address}/api/{part}", timeout=WITHIN_S) as answer:
        return json.load(answer)


def gates_after_a_gap(address: str) -> Any:
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            gates = told(address, "gates")
            if gates["gap_count"] and gates["gaps"][-1]["repaired_ns"]:
                return gates
        except (OSError, urllib.error.URLError):
            pass
        assert time.monotonic() < deadline, "the page never showed the gap"
        time.sleep(0.3)


def test_gates_are_judged_while_it_goes_on_and_as_at_the_end(recording: tuple[str, Path, Any]) -> None:
    address, folder, process = recording
    gates = gates_after_a_gap(address)
    assert set(gates["symbols"]) == {"BTCUSDT", "BTCUSDT_PERP"}
    by_name = {gate["name"]: gate for gate in gates["symbols"]["BTCUSDT"]["gates"]}
    assert by_name["gap_rate"]["status"] == "WARN"
    assert by_name["determinism"]["status"] == "NOT_APPLICABLE"
    assert (gates["gaps"][-1]["symbol"], gates["gaps"][-1]["reason"]) == ("BTCUSDT", "sequence")

    drawn(address, until=("Quality gates", "BTCUSDT_PERP", "Gap ledger", "gaps in the depth: 1", "Feeds"))

    process.terminate()
    assert process.wait(WITHIN_S) == 0
    checked = oneprice("validate-session", "--session-dir", folder, "--json")
    assert checked.code == 0, checked.err
    for symbol, verdict in checked.json["symbols"].items():
        final = {gate["name"]: gate["status"] for gate in verdict["gates"] if gate["name"] not in ENDED_ONLY}
        live = {gate["name"]: gate["status"] for gate in gates["symbols"][symbol]["gates"] if gate["name"] in final}
        assert final["gap_rate"] == live["gap_rate"]
        assert final["bootstrap"] == live["bootstrap"] == "PASS"
        assert verdict["gaps"] == gates["symbols"][symbol]["gaps"]
