"""One hash a symbol over everything that a replay of it gives: its rows, and its book as they build it.

Two SHA-256 streams a symbol, so that neither the chunks that the tape comes in nor the other symbols matter: the bytes of
its rows (timers belong to nobody), and the best `DEPTH_LEVELS` levels of its book after every `CHECKPOINT_EVERY` messages and
at the end. Their digests are hashed together under the name of this scheme, so that a later scheme never gives equal hashes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np
from numba import njit

from oneprice.compute.books import apply_rows, levels, make_books
from oneprice.compute.uncounted import uncounted
from oneprice.data.messages import whole_messages
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import LAST, Kind, Rows

SCHEME = b"oneprice replay 1\0"
CHECKPOINT_EVERY = 1_000
DEPTH_LEVELS = 20
_DEPTH = int(Kind.DEPTH)


@njit(cache=True)
def _to_checkpoint(books, rows, k, messages):
    """Apply whole messages from row k on, until one completes a checkpoint; → (row behind it, its instrument or -1)."""
    books, rows, messages = uncounted(books), uncounted(rows), uncounted(messages)
    n = rows.shape[0]
    while k < n:
        begin, kind, i = k, rows[k].kind, rows[k].instrument
        while k < n - 1 and rows[k].flags & LAST == 0:
            k += 1
        k += 1
        apply_rows(books, rows, begin, k)
        if kind == _DEPTH:
            messages[i] += 1
            if messages[i] % CHECKPOINT_EVERY == 0:
                return k, i
    return k, -1


def replay_hashes(chunks: Iterable[Rows], instruments: InstrumentTable) -> tuple[str, ...]:
    """The hash of each instrument, in the order of the table, from a tape or from what the raw log gives."""
    count = len(instruments)
    books = make_books(count)
    messages = np.zeros(count, dtype=np.int64)
    of_rows = [hashlib.sha256() for _ in instruments]
    of_books = [hashlib.sha256() for _ in instruments]
    prices, qtys = np.zeros(DEPTH_LEVELS, dtype=np.int64), np.zeros(DEPTH_LEVELS, dtype=np.int64)

    def checkpoint(i: int) -> None:
        of_books[i].update(int(messages[i]).to_bytes(8, "little"))
        for side in range(2):
            found = levels(books, i, side, prices, qtys)
            of_books[i].update(bytes([found]))
            of_books[i].update(prices[:found].tobytes())
            of_books[i].update(qtys[:found].tobytes())

    for rows in whole_messages(chunks):
        for i in np.unique(rows["instrument"]).tolist():
            if i >= 0:
                of_rows[i].update(rows[rows["instrument"] == i].tobytes())
        k = 0
        while k < len(rows):
            k, due = _to_checkpoint(books, rows, k, messages)
            if due >= 0:
                checkpoint(due)
    for i in range(count):
        checkpoint(i)
    return tuple(
        hashlib.sha256(SCHEME + rows.digest() + books_.digest()).hexdigest()
        for rows, books_ in zip(of_rows, of_books, strict=True)
    )
