"""The demo from end to end, and the proof of what it did."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from command import oneprice

PROMISED = {
    "events", "gaps", "resyncs", "opportunities", "trades", "fees", "net_pnl", "balanced", "decision_hash", "run_dir",
}  # fmt: skip


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("demo") / "run"
    done = oneprice("demo", "--headless", "--duration-secs", "12", "--seed", "7", "--out", out, "--json")
    assert done.code == 0, done.err
    assert set(done.json) >= PROMISED
    assert done.json["opportunities"] > 0
    assert done.json["trades"] > 0
    assert done.json["gaps"] == 0
    assert done.json["balanced"] is True
    assert done.json["run_dir"] == str(out)
    return out


def test_a_run_is_reproduced_from_disk_bit_for_bit(run_dir) -> None:
    proof = oneprice("verify-run", run_dir, "--json")
    assert proof.code == 0, proof.err
    assert proof.json["match"] is True
    assert proof.json["recorded_hash"] == proof.json["replayed_hash"]
    assert proof.json["ledger_match"] is True


def recorded_files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_one_changed_byte_of_any_file_is_found_and_named(run_dir, tmp_path) -> None:
    files = recorded_files(run_dir)
    assert len(files) >= 9
    rng = random.Random(7)
    for number, name in enumerate(files):
        copy = tmp_path / str(number)
        shutil.copytree(run_dir, copy)
        content = bytearray((copy / name).read_bytes())
        place = rng.randrange(len(content))
        content[place] ^= 1 << rng.randrange(8)
        (copy / name).write_bytes(content)
        proof = oneprice("verify-run", copy, "--json")
        assert proof.code in (1, 4), (name, place, proof.out, proof.err)
        said = proof.json.get("first") or proof.json["error"]
        assert Path(name).name.removesuffix(".sha256") in said, (name, place, said)
        shutil.rmtree(copy)
