"""`oneprice capture-funding` against practice venues: lines of the documented type, by stream and by polling."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from command import oneprice

from oneprice.model.funding import FundingEvent

PERPETUALS = ["BTCUSDT_PERP", "ETHUSDT_PERP"]
FIELDS = ["ts", "tradingsymbol", "mark_price", "index_price", "funding_rate", "next_funding_time", "price_exponent"]
FOR_S = 5  # about as many lines, where the machine is not too busy


@pytest.mark.parametrize("venue", ["binance", "bybit"])
@pytest.mark.parametrize("poll", [[], ["--poll", "1s"]], ids=["stream", "poll"])
def test_each_line_is_a_funding_event(venue: str, poll: list[str], tmp_path: Path) -> None:
    file = tmp_path / "funding.jsonl"
    done = oneprice(
        "capture-funding", "--venue", venue, "--symbols", ",".join(PERPETUALS), "--out", file, *poll, "--duration-secs",
        str(FOR_S), "--emulated", "--seed", "5", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    lines = file.read_bytes().splitlines()
    events = [msgspec.json.decode(line, type=FundingEvent) for line in lines]
    assert [list(msgspec.json.decode(line)) for line in lines] == [FIELDS] * len(lines)
    counts = {name: sum(event.tradingsymbol == name for event in events) for name in PERPETUALS}
    assert done.json["lines"] == len(lines)
    assert {name: told["lines"] for name, told in done.json["symbols"].items()} == counts
    assert done.json["venue"] == {"binance": "binance_usdm", "bybit": "bybit_linear"}[venue]
    assert done.json["by"] == ("polling every 1s" if poll else "stream")
    for name in PERPETUALS:
        ours = [event for event in events if event.tradingsymbol == name]
        told = done.json["symbols"][name]
        assert len(ours) >= 1
        assert (len(ours) + 1) * told["longest_silence_ms"] >= 1_000 * FOR_S, "silences between lines make up the whole"
        assert [event.ts for event in ours] == sorted(event.ts for event in ours)
        assert all(event.ts < event.next_funding_time <= event.ts + timedelta(hours=8) for event in ours)
        assert datetime.now(UTC) - ours[-1].ts < timedelta(minutes=2)
        for event in ours:  # the practice market: marks near the index, rates of basis points
            assert abs(event.mark_price - event.index_price) < 0.002 * event.index_price
            assert abs(event.funding_rate) <= 60_000
            assert event.price_exponent == -8
        assert told["unwritable"] == 0


def test_lines_go_to_standard_output_before_the_result() -> None:
    done = oneprice(
        "capture-funding", "--symbols", "BTC/USDT:USDT", "--out", "-", "--poll", "1s", "--duration-secs", str(FOR_S),
        "--emulated", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    *lines, _ = done.out.strip().splitlines()
    assert {msgspec.json.decode(line, type=FundingEvent).tradingsymbol for line in lines} == {"BTCUSDT_PERP"}
    assert done.json["lines"] == len(lines) >= 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--venue", "bybit_spot"], "bybit_spot has no perpetuals"),
        (["--venue", "binance_spot"], "venues that have: binance_coinm, binance_usdm, bybit_linear"),
        (["--venue", "bybti"], "did you mean 'bybit'"),
        (["--poll", "2s"], "'2s' is not one of '1s', '3s'"),
        (["--symbols", ","], "--symbols names no symbol"),
        (["--symbols", "BTCUSTD_PERP"], "did you mean 'BTCUSDT_PERP'"),
    ],
)
def test_what_cannot_be_captured_is_said_before_a_file_is_made(arguments: list[str], said: str, tmp_path: Path) -> None:
    file = tmp_path / "funding.jsonl"
    done = oneprice("capture-funding", "--out", file, "--emulated", "--duration-secs", "1", *arguments, "--json")
    assert done.code == 2, done.err
    assert said in done.json["error"]
    assert "Traceback" not in done.err
    assert not file.exists()
