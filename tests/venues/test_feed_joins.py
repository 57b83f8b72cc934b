"""Joining snapshot and messages: the recorded captures, and the small cases of every rule through real frames."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from feed_world import (
    VENUES,
    PlainBook,
    all_channels,
    depth_rows,
    instrument,
    mantissas,
    rest_depth,
    table,
)

from oneprice.model.tape import ASK, Kind, TapeWriter
from oneprice.venues.feed import Command, FeedMachine, Fetch, Send
from shared_data import shared

CAPTURES = {
    "binance_spot": (
        "data/wire/binance_spot/capture_join_btcusdt_2024-08-08.jsonl",
        "data/wire/binance_spot/capture_join_btcusdt_2024-08-08_expected.json",
    ),
    "binance_sbe": (
        "data/wire/binance_sbe/capture_depth_join_btcusdt_synthetic.jsonl",
        "data/wire/binance_spot/capture_join_btcusdt_2024-08-08_expected.json",
    ),
    "binance_usdm": (
        "data/wire/binance_usdm/capture_join_btcusdt_2024-08-08.jsonl",
        "data/wire/binance_usdm/capture_join_btcusdt_2024-08-08_expected.json",
    ),
}


def records(path: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shared(path).read_text().splitlines()]


def payload(record: dict[str, Any]) -> bytes:
    return bytes.fromhex(record["payload_hex"]) if record.get("binary") else record["payload"].encode()


@pytest.mark.parametrize("name", CAPTURES)
def test_a_recorded_join_gives_the_book_that_was_computed_for_it(name: str) -> None:
    venue, (capture, expected_path) = VENUES[name], CAPTURES[name]
    book_of = instrument(venue)
    tape = TapeWriter()
    machine = FeedMachine(venue, table(book_of), tape)
    fetches = [c for c in machine.opened(0, all_channels(venue), 1) if isinstance(c, Fetch)]
    for record in records(capture):
        recv_ns = record["recv_ts_ns"]
        if record["via"] == "rest":
            assert len(fetches) == 1, "one snapshot is asked for, by the first message"
            assert not machine.answered(fetches.pop(), 200, {}, record["payload"].encode(), recv_ns)
        else:
            fetches += [c for c in machine.frame(0, payload(record), recv_ns) if isinstance(c, Fetch)]
    rows = tape.take()
    expected = json.loads(shared(expected_path).read_text())
    book = PlainBook().apply(rows)
    assert book.book_id == expected["final_update_id"]
    assert len(book.top(0, 5000)) == expected["level_count"]["bids"]
    assert len(book.top(ASK, 5000)) == expected["level_count"]["asks"]
    assert book.top(0, 10) == mantissas(book_of, expected["top10"]["bids"])
    assert book.top(ASK, 10) == mantissas(book_of, expected["top10"]["asks"])
    applied = {int(s) for s in rows["sequence"][rows["kind"] == int(Kind.DEPTH)]}
    assert len(applied - {expected["snapshot_last_update_id"]}) == expected["diffs_applied"]
    assert expected["first_applied"]["u"] == min(applied - {expected["snapshot_last_update_id"]})
    assert machine.statistics.gaps == 0
    assert machine.statistics.rejected == 0


def test_a_recorded_in_stream_book_gives_the_book_that_was_computed_for_it() -> None:
    venue = VENUES["bybit_linear"]
    book_of = instrument(venue, "XRPUSDT", price=-4, qty=0)
    tape = TapeWriter()
    machine = FeedMachine(venue, table(book_of), tape)
    machine.opened(0, all_channels(venue, "XRPUSDT"), 1)
    for number, record in enumerate(records("data/wire/bybit/channels/capture_book500_xrpusdt_2024-12-01.jsonl")):
        assert not machine.frame(0, payload(record), number + 1)
    expected = json.loads(
        shared("data/wire/bybit/channels/capture_book500_xrpusdt_2024-12-01_expected.json").read_text()
    )
    book = PlainBook().apply(tape.take())
    assert book.book_id == expected["final_u"]
    assert book.top(0, 10) == mantissas(book_of, expected["top10"]["bids"])
    assert book.top(ASK, 10) == mantissas(book_of, expected["top10"]["asks"])
    assert [len(book.top(0, 999)), len(book.top(ASK, 999))] == list(expected["level_count"].values())


def cases(venue: str, path: str) -> list[Any]:
    found = json.loads(shared(path).read_text())["cases"]
    return [pytest.param(venue, case, id=f"{venue}: {case['name']}") for case in found if case.get("depth", 50) != 1]


def fetched(commands: Sequence[Command]) -> list[Fetch]:
    return [command for command in commands if isinstance(command, Fetch)]


@pytest.mark.parametrize("late", [False, True], ids=["snapshot last", "snapshot after the first event"])
@pytest.mark.parametrize(
    ("name", "case"),
    cases("binance_spot", "data/wire/binance_spot/vector_join_rules.json")
    + cases("binance_usdm", "data/wire/binance_usdm/vector_join_rules.json"),
)
def test_the_small_cases_of_the_join_rules(name: str, case: dict[str, Any], late: bool) -> None:
    """Each case with its snapshot behind all events, and with it behind the first one: the outcome is the same."""
    venue = VENUES[name]
    book_of = instrument(venue)
    tape = TapeWriter()
    machine = FeedMachine(venue, table(book_of), tape)
    machine.opened(0, all_channels(venue), 1)
    events = [
        (event["U"], event["u"], event["pu"]) if isinstance(event, dict) else (*event, -1) for event in case["events"]
    ]
    asked: list[Fetch] = []
    for place, (first, last, previous) in enumerate(events):
        rows = depth_rows([(0, 100_00, last)], sequence=last)
        frame = venue.encode.depth(book_of, rows, first_id=first, last_id=last, previous_id=previous, ts_ns=1_000_000)
        asked += fetched(machine.frame(0, frame, 10 + place))
        if place == (0 if late else len(events) - 1):
            answer = rest_depth(book_of, case["snapshot"], {(0, 99_00): 5})
            asked = [asked[0], *fetched(machine.answered(asked[0], 200, {}, answer, 100))]
    book = PlainBook().apply(tape.take())
    if case["result"] == "ok":
        assert len(asked) == 1
        assert book.valid
        assert book.book_id == case["final"]
        assert machine.statistics.gaps == 0
    elif case["result"] == "refetch":
        assert len(asked) == 2
        assert not book.valid
    else:
        assert len(asked) == 2, "a break in the chain asks for another snapshot"
        assert not book.valid
        assert machine.statistics.gaps == (1 if late else 0), "a book that never stood has no gap"


@pytest.mark.parametrize(
    ("name", "case"),
    cases("bybit_spot", "data/wire/bybit/channels/vector_book_rules.json")
    + cases("bybit_linear", "data/wire/bybit/channels/vector_book_rules.json"),
)
def test_the_small_cases_of_the_in_stream_rule(name: str, case: dict[str, Any]) -> None:
    venue = VENUES[name]
    book_of = instrument(venue)
    tape = TapeWriter()
    machine = FeedMachine(venue, table(book_of), tape)
    machine.opened(0, all_channels(venue), 1)
    commands: list[Command] = []
    for place, event in enumerate(case["frames"]):
        frame = venue.encode.depth(
            book_of, depth_rows([(0, 100_00 + place, 7)], sequence=event["u"]), first_id=event["u"],
            last_id=event["u"], previous_id=-1, is_snapshot=event["type"] == "snapshot", ts_ns=1_000_000,
        )  # fmt: skip
        commands += machine.frame(0, frame, 10 + place)
    book = PlainBook().apply(tape.take())
    if case["result"] == "resync":
        assert not book.valid
        assert [type(command) for command in commands] == [Send, Send], "unsubscribe, then subscribe"
        assert machine.statistics.gaps == 1
    else:
        assert book.valid
        assert not commands
        assert book.book_id == case["frames"][-1]["u"]
        levels = 1 if "reset" in case["result"] or "ignore" in case["result"] else 2
        assert len(book.levels) >= levels
