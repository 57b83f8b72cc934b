"""Real recordings through the commands: import, backtest, proof, replay."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import pytest
from command import oneprice

from shared_data import shared

RECORDED = "data/market/binance_2024-08-08"
LOCAL_MINUS_VENUE_MS = -1270.0  # what the recording's own notes say: the local clock is 1.27 s behind


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("import") / "S"
    files = sorted(shared(RECORDED).glob("*.gz"))
    done = oneprice("import-recording", *files, "--out", out, "--json")
    assert done.code == 0, done.err
    symbols = {symbol["instrument"]: symbol for symbol in done.json["symbols"]}
    assert set(symbols) == {"binance_coinm:BTCUSD_PERP", "binance_spot:BTCUSDT", "binance_usdm:BTCUSDT"}
    for symbol in symbols.values():
        assert symbol["gaps"] == 0
        assert symbol["bbo_compared"] > 500
        assert symbol["bbo_agreement"] >= 0.999
        assert abs(symbol["clock_offset_ms"] - LOCAL_MINUS_VENUE_MS) < 50
    assert symbols["binance_spot:BTCUSDT"]["trades"] == 9_757 + 10_147
    assert done.json["rejected"] == 0
    return out


def test_recorded_traffic_runs_through_the_same_strategies_and_is_proven(session, tmp_path) -> None:
    out = tmp_path / "R"
    done = oneprice(
        "run",
        "--mode",
        "backtest",
        "--session",
        session,
        "--strategies",
        "basis,spread,triangular",
        "--out",
        out,
        "--json",
    )
    assert done.code == 0, done.err
    result = done.json
    assert result["events"] > 1_800_000
    assert (result["gaps"], result["balanced"]) == (0, True)
    basis = result["opportunities_by_type"]["basis"]
    assert basis["seen"] > 0
    assert basis["gross_bps_max"] > basis["gross_bps_median"] > 0
    assert basis["lifetime_ms_median"] > 0
    assert basis["paying"] == 0  # spot against perpetual never paid four taker fees in these eleven minutes
    assert "nothing was worth a trade" in result["note"]
    proof = oneprice("verify-run", out, "--json")
    assert (proof.code, proof.json["match"]) == (0, True), proof.err


def test_a_recording_validates_and_says_what_it_cannot_prove(session, tmp_path) -> None:
    done = oneprice("validate-session", "--session-dir", session, "--json")
    assert (done.code, done.json["is_intact"], done.json["holds"]) == (0, True, True), done.err
    assert set(done.json["symbols"]) == {"BTCUSDT", "BTCUSDT_PERP", "BTCUSD_PERP"}
    for symbol in done.json["symbols"].values():
        gates = {gate["name"]: gate for gate in symbol["gates"]}
        assert symbol["tier"] == "NON_CERTIFIED"
        assert all("another recorder's file" in reason for reason in symbol["reasons"])
        assert (gates["provenance"]["status"], gates["determinism"]["status"]) == ("NOT_APPLICABLE", "PASS")
        assert gates["clock"]["status"] == "NOT_APPLICABLE", "nobody probed it"
        assert {gates[name]["status"] for name in ("bootstrap", "gap_rate", "bbo_agreement")} == {"PASS"}
    exported = oneprice("export-vectorbt", "--session-dir", session, "--out-dir", tmp_path / "V", "--json")
    assert (exported.code, exported.json["gaps"]) == (0, 0)
    assert exported.json["bars"] >= 30


def test_the_same_recording_gives_the_same_decisions_whatever_the_order_of_strategies(session, tmp_path) -> None:
    hashes = set()
    for number, names in enumerate(("basis,triangular", "triangular,basis", "basis,triangular")):
        out = tmp_path / str(number)
        done = oneprice(
            "run", "--mode", "backtest", "--session", session, "--strategies", names, "--out", out, "--json"
        )
        assert done.code == 0, done.err
        hashes.add(done.json["decision_hash"])
    assert len(hashes) == 1


def test_a_replay_counts_what_the_import_wrote(session) -> None:
    done = oneprice("replay", "--session", session, "--json")
    assert done.code == 0, done.err
    assert done.json["by_kind"]["trade"] == 9_757 + 10_147 + 21_313 + 2_286 + 2_949
    assert "gap" not in done.json["by_kind"]


def test_lines_that_cannot_be_used_are_counted_and_kept_aside(tmp_path) -> None:
    whole = gzip.decompress(shared(f"{RECORDED}/spot_btcusdt_20240808.gz").read_bytes()).splitlines()[:2_000]
    whole[50] = b"not a line"
    whole[700] = whole[700][:40]
    file = tmp_path / "damaged.txt"
    file.write_bytes(b"\n".join(whole))
    done = oneprice("import-recording", file, "--out", tmp_path / "S", "--json")
    assert done.code == 0, done.err
    assert done.json["rejected"] == 2
    kept = (tmp_path / "S" / "rejected.jsonl").read_text().splitlines()
    assert len(kept) == 2
    assert '"line":51' in kept[0]


def test_a_recording_that_ends_in_the_middle_is_read_up_to_there(tmp_path) -> None:
    file = tmp_path / "cut.gz"
    content = shared(f"{RECORDED}/spot_btcusdt_20240808.gz").read_bytes()
    file.write_bytes(content[: len(content) // 3])
    done = oneprice("import-recording", file, "--out", tmp_path / "S", "--json")
    assert done.code == 0, done.err
    assert "ends in the middle" in done.json["notes"][0]
    assert done.json["symbols"][0]["rows"] > 10_000


def test_a_truncated_session_is_told_as_cut_or_damaged(session, tmp_path) -> None:
    copy = tmp_path / "S"
    shutil.copytree(session, copy)
    tape = next((copy / "tape").glob("*.tape"))
    content = bytearray(tape.read_bytes())
    content[len(content) // 2] ^= 0xFF
    tape.write_bytes(content)
    done = oneprice("run", "--mode", "backtest", "--session", copy, "--out", tmp_path / "R", "--json")
    assert done.code == 4
    assert tape.name in done.json["error"]
    missing = tmp_path / "M"
    shutil.copytree(session, missing)
    (missing / "session_manifest.json").unlink()
    assert oneprice("replay", "--session", missing, "--json").code == 4
