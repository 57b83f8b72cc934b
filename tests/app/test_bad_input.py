"""Bad input: a sentence that says what, where and what to do, and a stable exit code."""

from __future__ import annotations

import socket

import pytest
from command import oneprice


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["validate"], 2, "did you mean 'validate-session'?"),
        (["run", "--venues", "byit_spot"], 2, "did you mean 'bybit_spot'?"),
        (["run", "--strategies", "triangle"], 2, "did you mean 'triangular'?"),
        (["run", "--mode", "backtest"], 2, "needs at least one --session"),
        (["run", "--mode", "backtest", "--session", "nowhere"], 4, "nowhere: no such session"),
        (["verify-run", "nowhere"], 4, "nowhere"),
        (["run", "--config", "missing.toml"], 2, "no such configuration file"),
        (["demo", "--fault", "gab"], 2, "did you mean 'gap'?"),
        (["capture-trades", "--symbol", "BTCUSDT"], 2, "--out"),
        (
            ["import-recording", "missing.gz", "--out", "S"],
            2,
            "missing.gz: this recording cannot be read: No such file",
        ),
        (["decode", "{}", "--venue", "binance_spott"], 2, "did you mean 'binance_spot'?"),
        (["run", "--mode", "live"], 2, "max_order_notional, max_position_notional, max_total_exposure in [limits]"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(tmp_path, arguments, code, said) -> None:
    answer = oneprice(*arguments, "--json", cwd=tmp_path)
    assert answer.code == code, answer.err
    assert said in answer.json["error"]
    assert answer.json["exit_code"] == code
    assert "Traceback" not in answer.err


def test_an_unknown_key_of_the_configuration_is_named_with_its_table(tmp_path) -> None:
    file = tmp_path / "oneprice.toml"
    file.write_text("[strategies.basis]\nmin_net_bsp = 3.0\n")
    answer = oneprice("run", "--config", file, "--json")
    assert answer.code == 2
    assert "unknown key 'min_net_bsp'" in answer.json["error"]
    assert "[strategies.basis]; did you mean 'min_net_bps'?" in answer.json["error"]


def test_the_example_configuration_is_valid_and_holds_the_defaults(tmp_path) -> None:
    from oneprice.app.config import load_settings

    file = tmp_path / "oneprice.toml"
    file.write_text(oneprice("run", "--generate-config").out)
    from_file, default = load_settings(file, {}), load_settings(None, {})
    assert from_file.paper == default.paper
    assert (from_file.venues, from_file.mode, from_file.limits) == (default.venues, default.mode, default.limits)


def test_a_symbol_that_no_venue_lists_is_told_with_the_nearest(tmp_path) -> None:
    answer = oneprice(
        "capture-session", "--emulated", "--venues", "binance_usdm", "--symbols", "BTCUSD", "--duration-secs", "1",
        "--out-dir", tmp_path / "S", "--json",
    )  # fmt: skip
    assert answer.code == 2, answer.err
    assert "did you mean 'BTCUSDT'?" in answer.json["error"]


def test_a_busy_port_is_named(tmp_path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = oneprice(
            "run", "--mode", "paper", "--emulated", "--venues", "binance_usdm,binance_sbe", "--dashboard", str(port),
            "--duration-secs", "1", "--out", tmp_path / "R", "--json",
        )  # fmt: skip
    assert answer.code == 2, answer.err
    assert str(port) in answer.json["error"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    answer = oneprice(
        "run", "--mode", "paper", "--emulated", "--venues", "binance_usdm,binance_sbe", "--duration-secs", "1", "--out",
        blocked / "R", "--json",
    )  # fmt: skip
    assert answer.code in (2, 5), answer.err
    assert str(blocked) in answer.json["error"]


def test_a_full_disk_is_told_as_one(tmp_path) -> None:
    from oneprice.app.output import MACHINE_REFUSED, exit_code_of, explain

    with pytest.raises(OSError) as full, open("/dev/full", "wb", buffering=0) as device:  # noqa: PTH123
        device.write(b"x")
    assert exit_code_of(full.value) == MACHINE_REFUSED
    assert "no space left" in explain(full.value)
