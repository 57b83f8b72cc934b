"""The ladder books against the naive twin: random streams, far prices, gaps, depth queries."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.compute.books import (
    apply_rows,
    levels,
    make_books,
    size_within,
    size_within_bps,
    state_hash,
    sweep,
    vwap_to_size,
)
from oneprice.compute.naive_book import NaiveBook
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, Kind

# Near the touch, at the edges of the window, far away on both sides.
PRICES = st.one_of(
    st.integers(999_900, 1_000_100),
    st.integers(990_000, 1_010_000),
    st.integers(1, 5_000_000),
    st.integers(2**40, 2**40 + 50),
)
UPDATES = st.lists(st.tuples(st.integers(0, 1), PRICES, st.sampled_from([0, 0, 1, 7, 2**40])), max_size=120)


def rows_of(updates: list[tuple[int, int, int]], *, first_flags: int = 0) -> np.ndarray:
    rows = np.zeros(len(updates), dtype=ROW)
    for k, (side, price, qty) in enumerate(updates):
        rows[k]["kind"] = Kind.DEPTH
        rows[k]["price"], rows[k]["qty"] = price, qty
        rows[k]["flags"] = (ASK if side else 0) | (LAST if k == len(updates) - 1 else 0)
        rows[k]["sequence"] = k + 1
    if len(rows):
        rows[0]["flags"] |= first_flags
    return rows


def assert_same(books, naive: NaiveBook) -> None:
    assert int(state_hash(books, 0)) == naive.state_hash()
    assert int(books.best_bid[0]) == naive.best(0)
    assert int(books.best_ask[0]) == naive.best(1)
    for side in (0, 1):
        prices, qtys = np.zeros(400, np.int64), np.zeros(400, np.int64)
        n = levels(books, 0, side, prices, qtys)
        assert list(zip(prices[:n].tolist(), qtys[:n].tolist(), strict=True)) == naive.levels(side)[:400]


@settings(max_examples=150)
@given(st.lists(UPDATES, min_size=1, max_size=6))
def test_a_book_equals_the_naive_book_on_any_stream(messages) -> None:
    books, naive = make_books(1), NaiveBook()
    snapshot = True
    for message in messages:
        if not message:
            continue
        rows = rows_of(message, first_flags=SNAPSHOT | CLEAR if snapshot else 0)
        snapshot = False
        apply_rows(books, rows, 0, len(rows))
        for side, price, qty in message:
            naive.set_level(side, price, qty)
        assert_same(books, naive)
    if not snapshot:
        for taker in (1, -1):
            for qty in (1, 10, 2**41):
                filled, notional, worst = sweep(books, 0, taker, qty)
                exact = naive.sweep(taker, qty)
                assert (filled, worst) == (exact[0], exact[2])
                assert abs(notional - exact[1]) <= 1e-12 * max(1, exact[1])


@settings(max_examples=60)
@given(UPDATES.filter(bool), st.randoms(use_true_random=False))
def test_the_order_of_levels_inside_a_message_changes_nothing(message, random) -> None:
    unique = list({(side, price): (side, price, qty) for side, price, qty in message}.values())
    shuffled = unique[:]
    random.shuffle(shuffled)
    hashes = []
    for updates in (unique, shuffled):
        books = make_books(1)
        opening = rows_of([(0, 1_000_000, 5)], first_flags=SNAPSHOT | CLEAR)
        apply_rows(books, opening, 0, 1)
        rows = rows_of(updates)
        apply_rows(books, rows, 0, len(rows))
        hashes.append((int(state_hash(books, 0)), int(books.best_bid[0]), int(books.best_ask[0])))
    assert hashes[0] == hashes[1]


def test_a_gap_invalidates_the_book_until_a_snapshot() -> None:
    books = make_books(1)
    snapshot = rows_of([(0, 100, 5), (1, 101, 5)], first_flags=SNAPSHOT | CLEAR)
    apply_rows(books, snapshot, 0, 2)
    assert books.valid[0] == 1
    gap = np.zeros(1, dtype=ROW)
    gap[0]["kind"], gap[0]["flags"] = Kind.GAP, LAST
    apply_rows(books, gap, 0, 1)
    assert (int(books.valid[0]), int(books.best_bid[0]), int(books.gaps[0])) == (0, 0, 1)
    apply_rows(books, rows_of([(0, 100, 9)]), 0, 1)
    assert (int(books.valid[0]), int(books.best_bid[0])) == (0, 0)
    apply_rows(books, snapshot, 0, 2)
    assert (int(books.valid[0]), int(books.best_bid[0])) == (1, 100)


def test_an_empty_snapshot_is_a_valid_empty_book() -> None:
    books = make_books(1)
    apply_rows(books, rows_of([(0, 0, 0)], first_flags=SNAPSHOT | CLEAR), 0, 1)
    assert (int(books.valid[0]), int(books.best_bid[0]), int(books.best_ask[0])) == (1, 0, 0)


def test_a_crossed_book_says_so_and_recovers() -> None:
    books = make_books(1)
    apply_rows(books, rows_of([(0, 100, 5), (1, 101, 5)], first_flags=SNAPSHOT | CLEAR), 0, 2)
    apply_rows(books, rows_of([(0, 102, 1)]), 0, 1)
    assert books.crossed[0] == 1
    apply_rows(books, rows_of([(1, 101, 0), (1, 103, 2)]), 0, 2)
    assert books.crossed[0] == 0


def test_depth_queries_answer_in_mantissas() -> None:
    books = make_books(1)
    asks = [(1, 10_000 + k, 10) for k in range(5)]
    apply_rows(books, rows_of([(0, 9_999, 7), *asks], first_flags=SNAPSHOT | CLEAR), 0, 6)
    assert sweep(books, 0, 1, 25) == (25, 10_000 * 10 + 10_001 * 10 + 10_002 * 5, 10_002)
    assert size_within(books, 0, 1, 10_001) == 20
    assert size_within_bps(books, 0, 1, 2.0) == 30
    assert vwap_to_size(books, 0, 1, 20) == 10_000.5
    assert vwap_to_size(books, 0, 1, 51) is None
    assert sweep(books, 0, -1, 100) == (7, 9_999 * 7, 9_999)
