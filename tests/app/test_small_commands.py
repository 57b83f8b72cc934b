"""Commands that answer one question: decode, doctor, capture, help."""

from __future__ import annotations

import json

import pytest
from command import oneprice

from shared_data import shared

COMMANDS = (
    "demo", "run", "verify-run", "capture-session", "validate-session", "recover", "capture-trades", "capture-funding",
    "import-recording", "replay", "emulate", "decode", "doctor", "export", "export-vectorbt", "query",
)  # fmt: skip


@pytest.mark.parametrize(
    ("venue", "payload", "kinds"),
    [
        ("binance_spot", "binance_spot/trade.json", ["trade"]),
        ("binance_usdm", "binance_usdm/mark_price_2026.json", ["mark", "index", "funding"]),
        ("bybit_linear", "bybit/channels/trade_linear.json", ["trade"]),
    ],
)
def test_a_frame_is_told_as_rows(venue, payload, kinds) -> None:
    done = oneprice("decode", f"@{shared('data/wire')}/{payload}", "--venue", venue, "--json")
    assert done.code == 0, done.err
    assert [row["kind"] for row in done.json["rows"]] == kinds


def test_a_binary_frame_is_told_as_rows() -> None:
    frame = shared("data/wire/binance_sbe/trades_one.bin").read_bytes().hex()
    done = oneprice("decode", frame, "--hex", "--venue", "binance_sbe", "--json")
    assert done.code == 0, done.err
    assert [row["kind"] for row in done.json["rows"]] == ["trade"]


def test_a_control_frame_is_told_as_one() -> None:
    done = oneprice("decode", '{"result":null,"id":1}', "--venue", "binance_spot", "--json")
    assert (done.code, done.json["control"]["kind"]) == (0, "ack")


def test_doctor_tells_what_it_checked(tmp_path) -> None:
    done = oneprice("doctor", "--folder", tmp_path, "--port", "0", "--json")
    names = {check["name"] for check in done.json["checks"]}
    assert {"python", "compiled kernels", "clock", "disk", "folder", "port"} <= names
    assert done.code == (0 if done.json["ok"] else 1)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_teaches_by_example(command) -> None:
    done = oneprice(command, "--help")
    assert done.code == 0
    assert f"oneprice {command}" in done.out


def test_trades_of_one_symbol_are_written_as_json_lines(tmp_path) -> None:
    out = tmp_path / "trades.jsonl"
    done = oneprice(
        "capture-trades", "--symbol", "BTCUSDT", "--out", out, "--emulated", "--duration-secs", "6", "--json"
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(lines) == done.json["trades"] > 0
    assert list(lines[0]) == [
        "ts", "tradingsymbol", "trade_id", "price", "qty", "price_exponent", "qty_exponent", "is_buyer_maker",
        "integrity_tier",
    ]  # fmt: skip
    ids = [line["trade_id"] for line in lines]
    assert ids == list(range(ids[0], ids[0] + len(ids)))  # a jump would be a loss


def test_a_captured_session_is_run_as_a_backtest(tmp_path) -> None:
    captured = oneprice(
        "capture-session", "--emulated", "--venues", "binance_usdm,bybit_linear,bybit_spot", "--duration-secs", "6",
        "--out-dir", tmp_path / "S", "--json",
    )  # fmt: skip
    assert captured.code == 0, captured.err
    assert captured.json["gaps"] == 0
    done = oneprice("run", "--mode", "backtest", "--session", tmp_path / "S", "--out", tmp_path / "R", "--json")
    assert done.code == 0, done.err
    assert done.json["events"] >= captured.json["rows"]
