"""Recorded depth through the compiled decoder and the ladder, message by message, against `json`, `Decimal` and the naive
book."""

from __future__ import annotations

import gzip
import json
from decimal import Decimal
from itertools import islice

import numpy as np
import pytest

from oneprice.compute.books import apply_rows, make_books, state_hash
from oneprice.compute.naive_book import NaiveBook
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import CLEAR, ROW, SNAPSHOT, Kind, TapeWriter
from oneprice.venues.feed import decode_frame
from oneprice.venues.registry import venue
from shared_data import shared

MESSAGES = 1_500
HASH_EVERY = 50  # the naive book's hash goes through every level


@pytest.mark.parametrize("name", ["spot", "usdm"])
def test_the_ladder_is_the_naive_book_after_every_recorded_message(name) -> None:
    spoken = venue(f"binance_{name}")
    listing = shared(f"data/wire/binance_{name}/rest_instruments.json")
    table = InstrumentTable(spoken.rest.read_instruments(listing.read_bytes()))
    index = table.index(spoken.name, "BTCUSDT")
    rules = table[index]
    books, naive = make_books(len(table)), NaiveBook()
    opening = np.zeros(1, dtype=ROW)
    opening["kind"], opening["instrument"], opening["flags"] = Kind.DEPTH, index, SNAPSHOT | CLEAR
    apply_rows(books, opening, 0, 1)
    levels = 0
    with gzip.open(shared(f"data/market/binance_2024-08-08/{name}_btcusdt_20240808.gz"), "rb") as lines:
        frames = (line.split(b" ", 1)[1].rstrip() for line in lines if b'"depthUpdate"' in line[:120])
        for number, frame in enumerate(islice(frames, MESSAGES)):
            tape = TapeWriter()
            decode_frame(spoken, table, frame, tape)
            apply_rows(books, tape.rows, 0, tape.n)
            data = json.loads(frame)["data"]
            for side, key in enumerate("ba"):
                for price, qty in data[key]:
                    naive.set_level(side, rules.price_mantissa(Decimal(price)), rules.qty_mantissa(Decimal(qty)))
                    levels += 1
            assert (books.best_bid[index], books.best_ask[index]) == (naive.best(0), naive.best(1)), number
            if number % HASH_EVERY == 0:
                assert int(state_hash(books, index)) == naive.state_hash(), number
    assert levels > 20_000
