"""`kill -9` while trading: what is on disk is a beginning of what the tape decides, no acknowledged order is lost, and a
restart goes on."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time

import pytest
from command import oneprice

from oneprice.trading.ledger import Ledger
from patience import WITHIN_S

POINTS = 4


@pytest.mark.parametrize("point", range(POINTS))
def test_a_killed_run_is_proven_up_to_its_last_flush(tmp_path, point) -> None:
    out = tmp_path / "R"
    arguments = [
        "run",
        "--mode",
        "paper",
        "--emulated",
        "--venues",
        "binance_sbe,binance_usdm",
        "--out",
        str(out),
        "--json",
    ]
    run = subprocess.Popen(
        [sys.executable, "-m", "oneprice", *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for_decisions(out / "decisions.jsonl")
    time.sleep(random.Random(point).uniform(0.0, 2.5))  # the moment of the kill is what is drawn here
    run.send_signal(signal.SIGKILL)
    run.wait()
    proof = oneprice("verify-run", out, "--json")
    assert proof.code == 0, (proof.json, proof.err)
    assert (proof.json["state"], proof.json["match"], proof.json["ledger_match"]) == ("cut", True, True)
    ledger = Ledger(out / "ledger.sqlite")
    assert ledger.balanced()
    known = {order.number for order in ledger.orders()}
    assert {report.order for report in ledger.reports()} <= known
    sent = [json.loads(line) for line in (out / "decisions.jsonl").read_text().splitlines() if '"what":"sent"' in line]
    for decision in sent:
        assert set(decision["inputs"]["orders"]) <= known
    ledger.close()
    on = oneprice("run", "--resume", out, "--duration-secs", "1.5", "--json")
    assert (on.code, on.json["balanced"]) == (0, True), (on.json, on.err)
    proof = oneprice("verify-run", out, "--json")
    assert (proof.code, proof.json["state"], proof.json["match"]) == (0, "closed", True), proof.json
    again = oneprice("run", "--resume", out, "--json")
    assert again.code == 2 and "ended in order" in again.json["error"]


def wait_for_decisions(path) -> None:
    """Until the run has decided something and written it ahead of its orders."""
    deadline = time.monotonic() + WITHIN_S
    while not (path.exists() and path.stat().st_size > 0):
        assert time.monotonic() < deadline, "the run decided nothing"
        time.sleep(0.05)
