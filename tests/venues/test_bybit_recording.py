"""Whole recordings of Bybit: every frame against a slow reader that shares no code, and the books that they make."""

from __future__ import annotations

import json
from decimal import Decimal

from bybit_frames import (
    HOUR_NS,
    LINEAR,
    MS,
    SPOT,
    TABLE,
    recorded,
)
from wire_frames import SlowBook, depth_rows, row, rows_of, same

from oneprice.model.tape import ASK, LAST, Kind, Rows
from oneprice.venues.base import (
    HEAD_INSTRUMENT,
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    Status,
)
from oneprice.venues.sequencing import SnapshotThenDelta, Verdict
from shared_data import shared


def _mantissa(text: str, exponent: int) -> int:
    scaled = Decimal(text).scaleb(-exponent)
    assert scaled == int(scaled)
    return int(scaled)


def slow_rows(frame: bytes, venue: str) -> Rows | None:
    """What the frame should give, by the JSON module and Decimal; None: a control frame or a topic without rows."""
    message = json.loads(frame)
    kind, *_, symbol = message.get("topic", "none.none").split(".")
    index = TABLE.find(venue, symbol)
    if kind not in ("orderbook", "publicTrade", "tickers") or index is None:
        return None
    instrument, data = TABLE[index], message["data"]
    price_exponent, qty_exponent = instrument.price_exponent, instrument.qty_exponent
    if kind == "orderbook":
        bids, asks = (
            [(_mantissa(price, price_exponent), _mantissa(qty, qty_exponent)) for price, qty in data[side]]
            for side in "ba"
        )
        return depth_rows(
            bids, asks, instrument=index, venue_ns=message["cts"] * MS, sequence=data["u"],
            is_snapshot=message["type"] == "snapshot",
        )  # fmt: skip
    rows = []
    if kind == "publicTrade":
        rows = [
            row(
                Kind.TRADE, instrument=index, venue_ns=item["T"] * MS, price=_mantissa(item["p"], price_exponent),
                qty=_mantissa(item["v"], qty_exponent), flags=ASK if item["S"] == "Sell" else 0,
                sequence=int(item["i"]) if item["i"].isdigit() else 0,
            )
            for item in data
        ]  # fmt: skip
    else:
        one = {"instrument": index, "venue_ns": message["ts"] * MS}
        for name, row_kind in (("markPrice", Kind.MARK), ("indexPrice", Kind.INDEX)):
            if name in data:
                rows.append(row(row_kind, value=float(data[name]), **one))
        if "fundingRate" in data:
            next_ns = int(data.get("nextFundingTime", 0)) * MS
            interval_ns = int(data.get("fundingIntervalHour", 0)) * HOUR_NS
            rows.append(row(Kind.FUNDING, value=float(data["fundingRate"]), sequence=next_ns, qty=interval_ns, **one))
        if "singleOpenInterest" in data:
            rows.append(row(Kind.OPEN_INTEREST, value=float(data["singleOpenInterest"]), **one))
    expected = rows_of(*rows)
    if rows:
        expected["flags"][-1] |= LAST
    return expected


def test_every_recorded_frame_gives_the_rows_that_a_slow_reader_gives() -> None:
    counts = {"control": 0, "frames": 0, "rows": 0}
    for product, frame in recorded():
        got = (SPOT if product == "spot" else LINEAR)(frame)
        expected = slow_rows(frame, f"bybit_{product}")
        if expected is None:
            assert got.status == Status.CONTROL, frame[:100]
            counts["control"] += 1
            continue
        assert same(got.rows, expected), frame[:200]
        counts["frames"] += 1
        counts["rows"] += got.status
    assert counts == {"control": 120, "frames": 3107, "rows": 21340}


def test_recorded_books_chain_by_one_never_cross_and_keep_two_hundred_levels() -> None:
    rule, books, last, deltas = SnapshotThenDelta(), {}, {}, 0
    for product, frame in recorded():
        if b"orderbook" not in frame[:30]:
            continue
        got = (SPOT if product == "spot" else LINEAR)(frame)
        index, is_snapshot = got.head[HEAD_INSTRUMENT], got.head[HEAD_IS_SNAPSHOT] == 1
        verdict = rule.follows(
            last.get(index, -1), first=got.head[HEAD_LAST_ID], last=got.head[HEAD_LAST_ID], previous=-1,
            is_snapshot=is_snapshot,
        )  # fmt: skip
        assert verdict is Verdict.APPLY
        deltas += not is_snapshot
        book = books.setdefault(index, SlowBook())
        book.apply(got.rows)
        last[index] = got.head[HEAD_LAST_ID]
        assert not book.is_crossed
        assert (len(book.bids), len(book.asks)) == (200, 200)
    assert (len(books), deltas) == (6, 2142)


def test_a_five_hundred_level_history_ends_in_the_expected_book() -> None:
    folder = shared("data/wire/bybit/channels")
    expected = json.loads((folder / "capture_book500_xrpusdt_2024-12-01_expected.json").read_text())
    frames = (folder / "capture_book500_xrpusdt_2024-12-01.jsonl").read_text().splitlines()
    book, update = SlowBook(), -1
    for line in frames:
        got = LINEAR(json.loads(line)["payload"].encode())
        assert update in (-1, got.head[HEAD_LAST_ID] - 1)
        update = got.head[HEAD_LAST_ID]
        book.apply(got.rows)
        assert not book.is_crossed
        assert (len(book.bids), len(book.asks)) == (500, 500)
    assert (len(frames), update) == (expected["frames"], expected["final_u"])
    for side, levels in zip(("bids", "asks"), book.top(10), strict=True):
        assert levels == [(_mantissa(p, -4), _mantissa(q, 0)) for p, q in expected["top10"][side]]
