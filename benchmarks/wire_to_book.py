"""From wire bytes to a book: nanoseconds a level, ours against the usual ways, on recorded depth frames, in one run.

ours                 compiled: bytes → rows → ladder book, best prices kept
orjson + dict        parse, floats into two dictionaries, best prices by max and min of the touched side when it must
json + Decimal       parse, Decimals into the `order_book` C library's sorted book

python -m benchmarks.wire_to_book [--rounds 5] [--json]"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numba import njit
from order_book import OrderBook

from oneprice.compute.books import apply_rows, make_books
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import CLEAR, ROW, SNAPSHOT, Kind
from oneprice.venues.base import HEAD_SIZE
from oneprice.venues.registry import venue
from oneprice.venues.symbols import make_lookup
from oneprice.venues.wire_binance import _decode

SHARED = Path(os.environ.get("ONEPRICE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
FILES = {
    "spot": ("binance_spot", SHARED / "data/market/binance_2024-08-08/spot_btcusdt_20240808.gz"),
    "usdm": ("binance_usdm", SHARED / "data/market/binance_2024-08-08/usdm_btcusdt_20240808.gz"),
}
FOREIGN = 2  # the product number that frames of these venues do not carry


def depth_frames(path: Path) -> list[bytes]:
    """The depth frames of a recording, in order."""
    with gzip.open(path, "rb") as lines:
        return [line.split(b" ", 1)[1].rstrip() for line in lines if b'"depthUpdate"' in line[:120]]


@njit(cache=True)
def _run(frames, ends, lookup, rows, head, books):
    start = 0
    levels = 0
    for k in range(ends.shape[0]):
        n = _decode(FOREIGN, frames[start : ends[k]], np.int64(k), np.int64(0), lookup, rows, np.int64(0), head)
        apply_rows(books, rows, np.int64(0), n)
        levels += n
        start = ends[k]
    return levels


def ours(name: str, frames: list[bytes]) -> Callable[[], int]:
    spoken = venue(name)
    listing = SHARED / f"data/wire/{name}/rest_instruments.json"
    instruments = InstrumentTable(spoken.rest.read_instruments(listing.read_bytes()))
    index = instruments.index(name, "BTCUSDT")
    lookup = make_lookup(instruments, name)
    joined = np.frombuffer(b"".join(frames), dtype=np.uint8)
    ends = np.cumsum([len(frame) for frame in frames])
    rows, head = np.zeros(8192, dtype=ROW), np.full(HEAD_SIZE, -1, dtype=np.int64)
    opening = np.zeros(1, dtype=ROW)
    opening["kind"], opening["instrument"], opening["flags"] = Kind.DEPTH, index, SNAPSHOT | CLEAR

    def work() -> int:
        books = make_books(len(instruments))
        apply_rows(books, opening, 0, 1)
        return int(_run(joined, ends, lookup, rows, head, books))

    return work


def orjson_and_dict(frames: list[bytes]) -> Callable[[], int]:
    def work() -> int:
        levels = 0
        bids: dict[float, float] = {}
        asks: dict[float, float] = {}
        best_bid, best_ask = 0.0, float("inf")
        for frame in frames:
            data = orjson.loads(frame)["data"]
            for text, size in data["b"]:
                price, qty = float(text), float(size)
                if qty:
                    bids[price] = qty
                    best_bid = max(best_bid, price)
                else:
                    bids.pop(price, None)
                    if price == best_bid:
                        best_bid = max(bids, default=0.0)
            for text, size in data["a"]:
                price, qty = float(text), float(size)
                if qty:
                    asks[price] = qty
                    best_ask = min(best_ask, price)
                else:
                    asks.pop(price, None)
                    if price == best_ask:
                        best_ask = min(asks, default=float("inf"))
            levels += len(data["b"]) + len(data["a"])
        return levels

    return work


def json_decimal_and_order_book(frames: list[bytes]) -> Callable[[], int]:
    def apply(side: Any, changes: list[list[str]]) -> None:
        for text, size in changes:
            price, qty = Decimal(text), Decimal(size)
            if qty:
                side[price] = qty
            elif price in side:
                del side[price]

    def work() -> int:
        levels = 0
        book = OrderBook()
        for frame in frames:
            data = json.loads(frame)["data"]
            apply(book.bids, data["b"])
            apply(book.asks, data["a"])
            if len(book.bids) and len(book.asks):
                book.bids.index(0), book.asks.index(0)
            levels += len(data["b"]) + len(data["a"])
        return levels

    return work


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    found: dict[str, dict[str, float]] = {}
    for market, (name, path) in FILES.items():
        frames = depth_frames(path)
        works = {
            "oneprice": ours(name, frames),
            "orjson + dict": orjson_and_dict(frames),
            "json + Decimal + order_book": json_decimal_and_order_book(frames),
        }
        for work in works.values():
            work()
        times: dict[str, list[float]] = {peer: [] for peer in works}
        for _ in range(asked.rounds):
            for peer, work in works.items():
                began = time.perf_counter()
                levels = work()
                times[peer].append((time.perf_counter() - began) / levels * 1e9)
        medians = {peer: statistics.median(of_peer) for peer, of_peer in times.items()}
        found[market] = {peer: round(ns, 1) for peer, ns in medians.items()}
        for peer, ns in medians.items():
            print(f"{market}: {peer:30} {ns:8.1f} ns/level  {ns / medians['oneprice']:6.1f} ×")
    if asked.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
