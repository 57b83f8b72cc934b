"""The quality of a tape is what an independent count of its rows says."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from session_world import T0_NS, some_rows, spot, written

from oneprice.data.quality import measure
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, Kind, Rows
from shared_data import shared

FILES = {"binance_spot:BTCUSDT": "spot*.gz", "binance_usdm:BTCUSDT": "usdm*.gz", "binance_coinm:BTCUSD_PERP": "cm*.gz"}
Top = tuple[str, str, str, str]


def told_twice(pattern: str) -> tuple[int, int]:
    """(update ids at which a depth message ends and a quote is told, those of them where both say the same).

    Straight from the frames with a dictionary for each side; numbers are compared as text.
    """
    quotes: dict[int, Top] = {}
    books: dict[int, Top] = {}
    bids: dict[str, str] = {}
    asks: dict[str, str] = {}
    snapshot_id, newest = None, 0
    waiting: list[dict[str, Any]] = []

    def apply(data: dict[str, Any]) -> None:
        for side, levels in ((bids, data["b"]), (asks, data["a"])):
            for price, qty in levels:
                if float(qty) == 0.0:
                    side.pop(price, None)
                else:
                    side[price] = qty

    for path in sorted(shared("data/market/binance_2024-08-08").glob(pattern)):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            message = json.loads(line.partition(b" ")[2])
            data = message.get("data", message)
            if "lastUpdateId" in data:
                snapshot_id = data["lastUpdateId"]
                bids, asks = dict(data["bids"]), dict(data["asks"])
                for kept in waiting:
                    if kept["u"] >= snapshot_id:
                        apply(kept)
            elif "bookTicker" in message["stream"]:
                quotes[data["u"]] = (data["b"], data["B"], data["a"], data["A"])
                newest = data["u"]
            elif "depth" in message["stream"]:
                if snapshot_id is None:
                    waiting.append(data)
                    continue
                apply(data)
                if data["u"] in quotes or data["u"] > newest:
                    bid, ask = max(bids, key=float), min(asks, key=float)
                    books[data["u"]] = (bid, bids[bid], ask, asks[ask])
    common = books.keys() & quotes.keys()
    return len(common), sum(books[update] == quotes[update] for update in common)


@pytest.mark.parametrize("key", ["binance_spot:BTCUSDT", "binance_usdm:BTCUSDT"])
def test_agreement_with_the_venues_quotes_is_what_a_naive_book_finds(imported: Any, key: str) -> None:
    compared, agreed = told_twice(FILES[key])
    (quality,) = (one for one in imported.result.symbols if one.instrument == key)
    assert (quality.bbo_compared, quality.bbo_agreement) == (compared, agreed / compared)


def book(at_ns: int, last_id: int, *levels: tuple[int, int, int], flags: int = 0, instrument: int = 0) -> Rows:
    """A depth message: levels are (ASK or 0, price, qty)."""
    rows = some_rows([at_ns] * len(levels), kind=Kind.DEPTH, instrument=instrument)
    rows["sequence"], rows["flags"] = last_id, flags & ~CLEAR
    rows["price"], rows["qty"] = [level[1] for level in levels], [level[2] for level in levels]
    rows["flags"] |= np.array([level[0] for level in levels], dtype=np.uint8)
    rows["flags"][0] |= flags & CLEAR
    rows["flags"][-1] |= LAST
    return rows


def quote(at_ns: int, update_id: int, bid: tuple[int, int], ask: tuple[int, int], *, instrument: int = 0) -> Rows:
    rows = some_rows([at_ns] * 2, kind=Kind.QUOTE, instrument=instrument)
    rows["sequence"], rows["flags"] = update_id, (0, ASK | LAST)
    rows["price"], rows["qty"] = (bid[0], ask[0]), (bid[1], ask[1])
    return rows


SNAPSHOT_ROWS = book(T0_NS, 100, (0, 99, 5), (ASK, 101, 6), flags=SNAPSHOT | CLEAR)


def test_book_and_quote_are_compared_at_one_id_whichever_comes_first(tmp_path: Path) -> None:
    session = written(
        tmp_path / "S",
        [
            quote(T0_NS, 99, (98, 1), (102, 1)),  # before there was a book
            SNAPSHOT_ROWS,
            quote(T0_NS + 1, 100, (99, 5), (101, 6)),  # agrees, comes last
            quote(T0_NS + 2, 103, (99, 4), (101, 6)),
            book(T0_NS + 3, 103, (0, 99, 4)),  # agrees, comes last
            book(T0_NS + 4, 104, (ASK, 101, 7)),
            quote(T0_NS + 5, 104, (99, 4), (101, 6)),  # the size differs
            quote(T0_NS + 6, 105, (99, 4), (101, 7)),  # an id at which no depth message ends
            book(T0_NS + 7, 110, (0, 100, 1)),  # an id that no quote has
        ],
    )
    (quality,) = measure(session)
    assert (quality.bbo_compared, quality.bbo_agreement) == (3, 2 / 3)
    (found,) = quality.bbo_disagreements
    assert found.update_id == 104
    assert found.book == ("0.99", "0.00004", "1.01", "0.00007")
    assert found.quote == ("0.99", "0.00004", "1.01", "0.00006")
    assert (quality.messages, quality.rows, quality.gaps, quality.crossed) == (4, 15, 0, 0)
    assert (quality.first_ns, quality.last_ns) == (T0_NS, T0_NS + 7)


def test_gaps_trades_and_crossed_books_are_counted_for_each_instrument(tmp_path: Path) -> None:
    gap = some_rows([T0_NS + 5], kind=Kind.GAP, instrument=1)
    session = written(
        tmp_path / "S",
        [
            SNAPSHOT_ROWS,
            some_rows([T0_NS + 1, T0_NS + 2], kind=Kind.TRADE),
            book(T0_NS + 3, 200, (0, 99, 5), (ASK, 101, 6), flags=SNAPSHOT | CLEAR, instrument=1),
            book(T0_NS + 4, 201, (0, 101, 2), instrument=1),  # bid meets ask
            gap,
            book(T0_NS + 6, 300, (0, 90, 1), instrument=1),  # not on a book
            some_rows([T0_NS + 7], kind=Kind.TIMER, instrument=-1),
        ],
        instruments=[spot("AUSDT"), spot("BUSDT"), spot("CUSDT")],
    )
    first, second, third = measure(session)
    assert (first.trades, first.gaps, first.crossed, first.rows) == (2, 0, 0, 4)
    assert (second.trades, second.gaps, second.crossed, second.messages) == (0, 1, 1, 3)
    assert (third.rows, third.bbo_agreement, third.clock_offset_ms, third.first_ns) == (0, None, None, 0)


def test_messages_that_lie_across_blocks_are_read_whole(tmp_path: Path) -> None:
    tape = np.concatenate([SNAPSHOT_ROWS, quote(T0_NS + 1, 100, (99, 5), (101, 6)), book(T0_NS + 2, 101, (0, 98, 1))])
    whole = measure(written(tmp_path / "whole", [tape]))
    pieces = measure(written(tmp_path / "pieces", [tape[k : k + 1] for k in range(len(tape))]))
    assert pieces == whole
    assert whole[0].bbo_compared == 1


def test_ids_that_count_a_streams_own_messages_are_not_compared(tmp_path: Path) -> None:
    """Bybit numbers the messages of each stream: equal numbers there mean nothing."""
    session = written(
        tmp_path / "S", [SNAPSHOT_ROWS, quote(T0_NS + 1, 100, (50, 1), (60, 1))], instruments=[spot(venue="bybit_spot")]
    )
    (quality,) = measure(session)
    assert (quality.bbo_compared, quality.bbo_agreement) == (0, None)


def test_the_clock_offset_is_that_of_the_quickest_messages(tmp_path: Path) -> None:
    rows = some_rows([T0_NS + k * 1_000_000 for k in range(500)])
    rows["ts_venue_ns"] = rows["ts_recv_ns"] + 1_270_000_000 - (np.arange(500) % 50) * 1_000_000
    unstamped = np.zeros(1, dtype=ROW)
    unstamped["ts_recv_ns"], unstamped["kind"], unstamped["flags"] = T0_NS + 10**9, int(Kind.TRADE), LAST
    (quality,) = measure(written(tmp_path / "S", [rows, unstamped]))
    assert quality.clock_offset_ms == pytest.approx(-1_270, abs=0.01)
