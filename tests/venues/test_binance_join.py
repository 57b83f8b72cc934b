"""Binance's books from a real start: diffs first, then the snapshot, joined by each product's rule."""

from __future__ import annotations

import json
from typing import Any

import pytest
from binance_frames import SPOT, SPOT_BTC, TABLE, USDM, USDM_BTC, answers, capture
from wire_frames import SlowBook, Wire

from oneprice.model.tape import Kind, TapeWriter
from oneprice.venues.base import HEAD_FIRST_ID, HEAD_LAST_ID, HEAD_PREVIOUS_ID, Channel, Subscription
from oneprice.venues.commands import Fetch
from oneprice.venues.feed import FeedMachine
from oneprice.venues.registry import venue
from oneprice.venues.sequencing import Joining, Verdict


def follow(
    name: str, snapshot: int, events: list[tuple[int, int, int]], *, first_buffered: int | None = None
) -> tuple[str, int, int]:
    """(outcome, dropped, last id) of buffered (first, last, previous) ids and a snapshot, by the venue's own rule."""
    rule = venue(name).sequencing
    later = [event for event in events if not rule.is_older(snapshot, last=event[1])]
    dropped, book_id = len(events) - len(later), snapshot
    for place, (first, last, previous) in enumerate(later):
        if place == 0:
            if rule.joins(snapshot, first=first, last=last, previous=previous) is not Joining.JOINED:
                return "refetch", dropped, book_id
        else:
            verdict = rule.follows(book_id, first=first, last=last, previous=previous, is_snapshot=False)
            if verdict is Verdict.GAP:
                return "resync", dropped, book_id
            if verdict is Verdict.IGNORE:
                continue
        book_id = last
    return "ok", dropped, book_id


def _cases() -> list[Any]:
    cases = []
    for name in ("binance_spot", "binance_usdm"):
        for case in answers(name, "vector_join_rules")["cases"]:
            events = [
                (event["U"], event["u"], event["pu"]) if isinstance(event, dict) else (event[0], event[1], -1)
                for event in case["events"]
            ]
            cases.append(pytest.param(name, case, events, id=f"{name}: {case['name']}"))
    return cases


@pytest.mark.parametrize(("name", "case", "events"), _cases())
def test_the_venues_rule_decides_each_case(name: str, case: dict[str, Any], events: list[tuple[int, int, int]]) -> None:
    outcome, dropped, last = follow(name, case["snapshot"], events)
    assert outcome == case["result"]
    assert last == case.get("final", last)
    assert dropped == case.get("dropped", dropped)


def _levels(asset: Any, expected: list[list[str]]) -> list[tuple[int, int]]:
    return [(round(float(p) / asset.price_scale), round(float(q) / asset.qty_scale)) for p, q in expected]


@pytest.mark.parametrize(
    ("wire", "name", "index"), [(SPOT, "binance_spot", SPOT_BTC), (USDM, "binance_usdm", USDM_BTC)]
)
def test_a_recorded_start_gives_the_known_book(wire: Wire, name: str, index: int) -> None:
    expected = answers(name, "capture_join_btcusdt_2024-08-08_expected")
    read_depth = venue(name).rest.read_depth
    assert read_depth is not None
    diffs, snapshot = [], None
    for _, via, text in capture(name):
        if via == "ws" and b'"depthUpdate"' in text:
            diffs.append(wire(text))
        elif via != "ws":
            snapshot = read_depth(text, TABLE[index])
    assert snapshot is not None
    assert snapshot.last_id == expected["snapshot_last_update_id"]
    ids = [(d.head[HEAD_FIRST_ID], d.head[HEAD_LAST_ID], d.head[HEAD_PREVIOUS_ID]) for d in diffs]
    assert follow(name, snapshot.last_id, ids) == ("ok", expected["diffs_discarded"], expected["final_update_id"])
    kept = diffs[expected["diffs_discarded"] :]
    assert len(kept) == expected["diffs_applied"]
    assert (kept[0].head[HEAD_FIRST_ID], kept[0].head[HEAD_LAST_ID]) == (
        expected["first_applied"]["U"], expected["first_applied"]["u"],
    )  # fmt: skip

    book = SlowBook()
    book.bids, book.asks = dict(snapshot.bids), dict(snapshot.asks)
    for diff in kept:
        book.apply(diff.rows)
    assert {"bids": len(book.bids), "asks": len(book.asks)} == expected["level_count"]
    bids, asks = book.top(10)
    assert bids == _levels(TABLE[index], expected["top10"]["bids"])
    assert asks == _levels(TABLE[index], expected["top10"]["asks"])


@pytest.mark.parametrize(("name", "index"), [("binance_spot", SPOT_BTC), ("binance_usdm", USDM_BTC)])
def test_the_feed_puts_the_same_book_on_the_tape(name: str, index: int) -> None:
    expected = answers(name, "capture_join_btcusdt_2024-08-08_expected")
    tape = TapeWriter()
    machine = FeedMachine(venue(name), TABLE, tape)
    machine.opened(3, [Subscription(channel=Channel.DEPTH, symbol="BTCUSDT")], 1)
    fetches: list[Fetch] = []
    for recv_ns, via, text in capture(name):
        if via == "ws":
            fetches += [command for command in machine.frame(3, text, recv_ns) if isinstance(command, Fetch)]
        else:
            machine.answered(fetches[0], 200, {}, text, recv_ns)
    rows = tape.take()
    book = SlowBook()
    book.apply(rows[(rows["kind"] == int(Kind.DEPTH)) & (rows["instrument"] == index)])
    assert {"bids": len(book.bids), "asks": len(book.asks)} == expected["level_count"]
    bids, asks = book.top(10)
    assert bids == _levels(TABLE[index], expected["top10"]["bids"])
    assert asks == _levels(TABLE[index], expected["top10"]["asks"])
    assert machine.statistics.gaps == 0


def test_a_snapshot_is_read_level_by_level() -> None:
    read_depth = venue("binance_spot").rest.read_depth
    assert read_depth is not None
    text = json.dumps(answers("binance_spot", "rest_depth")).encode()
    snapshot = read_depth(text, TABLE[SPOT_BTC])
    assert snapshot.last_id == 50093239218
    assert snapshot.bids[0] == (6183763, 378826000)
    assert snapshot.asks[0] == (6183764, 154698000)
    assert (len(snapshot.bids), len(snapshot.asks), snapshot.venue_ns) == (20, 20, 0)
