"""Determinism: the replay hash is the same for the same rows however they come, another one for anything else, and plain."""

from __future__ import annotations

import hashlib
import random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from tape_world import WORLD, random_tape

from oneprice.compute.naive_book import NaiveBook
from oneprice.data.certify.replay_hash import CHECKPOINT_EVERY, DEPTH_LEVELS, SCHEME, replay_hashes
from oneprice.model.tape import ASK, CLEAR, LAST, Kind, Rows


def naive_hashes(rows: Rows) -> tuple[str, ...]:
    """As the scheme says it, row by row in plain Python."""
    found = []
    for i in range(len(WORLD)):
        of_rows, of_book, book = hashlib.sha256(), hashlib.sha256(), NaiveBook()
        stands, messages = False, 0
        for row in rows[rows["instrument"] == i]:
            of_rows.update(row.tobytes())
            if row["kind"] == int(Kind.GAP):
                book.clear()
                stands = False
            if row["kind"] != int(Kind.DEPTH):
                continue
            if row["flags"] & CLEAR:
                book.clear()
                stands = True
            if row["price"] and stands:
                book.set_level(1 if row["flags"] & ASK else 0, int(row["price"]), int(row["qty"]))
            if row["flags"] & LAST:
                messages += 1
                if messages % CHECKPOINT_EVERY == 0:
                    of_book.update(checkpoint(messages, book))
        of_book.update(checkpoint(messages, book))
        found.append(hashlib.sha256(SCHEME + of_rows.digest() + of_book.digest()).hexdigest())
    return tuple(found)


def checkpoint(messages: int, book: NaiveBook) -> bytes:
    said = messages.to_bytes(8, "little")
    for side in range(2):
        levels = book.levels(side)[:DEPTH_LEVELS]
        columns = [np.array([level[column] for level in levels], dtype="<i8").tobytes() for column in range(2)]
        said += bytes([len(levels)]) + b"".join(columns)
    return said


def whole(rows: Rows) -> Rows:
    return rows[: 1 + int(np.flatnonzero(rows["flags"] & LAST)[-1])]


def test_it_is_what_its_scheme_says() -> None:
    rows = whole(random_tape(5, messages=7_000))
    depth = rows[(rows["kind"] == int(Kind.DEPTH)) & (rows["flags"] & LAST != 0)]
    assert min(np.bincount(depth["instrument"])) > CHECKPOINT_EVERY, "with a checkpoint before the end"
    assert replay_hashes([rows], WORLD) == naive_hashes(rows)


@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 800), max_size=6))
def test_it_does_not_depend_on_the_chunks(seed: int, cuts: list[int]) -> None:
    rows = whole(random_tape(seed, messages=120))
    parts = np.split(rows, sorted(min(cut, len(rows)) for cut in cuts))  # also within messages
    assert replay_hashes(parts, WORLD) == replay_hashes([rows], WORLD)


@given(seed=st.integers(0, 10**6))
def test_whatever_changes_in_a_symbols_rows_changes_its_hash_and_no_other(seed: int) -> None:
    draw = random.Random(seed)
    rows = whole(random_tape(seed, messages=60))
    mine = np.flatnonzero(rows["instrument"] >= 0)
    place, field = int(draw.choice(mine)), draw.choice(("ts_recv_ns", "sequence", "price", "qty", "value", "aux"))
    changed = rows.copy()
    changed[place][field] += 1
    before, after = replay_hashes([rows], WORLD), replay_hashes([changed], WORLD)
    owner = int(rows[place]["instrument"])
    assert [i for i in range(len(WORLD)) if before[i] != after[i]] == [owner]
