"""Trades while one connection replaces another: each counts once, and none is lost between the two.

For a while both connections bring the same trades, one of them later than the other. Until the old one closes, its trades
are written; then those that only the new one has brought; and for a moment more what the new one brings is looked at, for
it may be late with trades that are written already. Trades are the same when all that the venue says of them is the same:
not every venue numbers them. Liquidations are handed over in the same way. All else that a stream brings says how things
are, and the next message says it anew."""

from __future__ import annotations

from collections import Counter

import numpy as np

from oneprice.model.tape import LAST, ROW, Rows
from oneprice.model.time import NS_PER_S

_LATE_NS = 10 * NS_PER_S  # so long after its predecessor's end a connection may still bring what that one had brought


class Handover:
    """From one connection to the one that stands by for it."""

    def __init__(self) -> None:
        self._ahead: Counter[bytes] = Counter()  # how often the old connection has brought a row more than the new one
        self._kept: list[Rows] = []  # what the new one has brought
        self._closed_ns = 0

    @property
    def is_closed(self) -> bool:
        return self._closed_ns > 0

    def by_old(self, rows: Rows) -> None:
        """The old connection brought rows, and they are written."""
        self._ahead.update(_keys(rows))

    def by_new(self, rows: Rows) -> None:
        """The new connection brought rows while the old one is open."""
        self._ahead.subtract(_keys(rows))
        self._kept.append(rows.copy())

    def close(self, recv_ns: int) -> Rows:
        """The old connection has ended; → the rows that it owes, each a message of its own."""
        self._closed_ns = recv_ns
        kept = np.concatenate([np.zeros(0, dtype=ROW), *self._kept])
        owed = np.zeros(len(kept), dtype=bool)
        for i, key in reversed(list(enumerate(_keys(kept)))):
            if self._ahead[key] < 0:
                self._ahead[key] += 1
                owed[i] = True
        self._kept = []
        missing = kept[owed]
        missing["ts_recv_ns"] = recv_ns
        missing["flags"] |= LAST
        return missing

    def is_over(self, recv_ns: int) -> bool:
        """Whether the new connection brings nothing any more that the old one may have brought."""
        return self.is_closed and recv_ns > self._closed_ns + _LATE_NS

    def news(self, rows: Rows) -> Rows:
        """After `close`: those of the new connection's rows that the old one had not brought."""
        is_news = np.ones(len(rows), dtype=bool)
        for i, key in enumerate(_keys(rows)):
            if self._ahead[key] > 0:
                self._ahead[key] -= 1
                is_news[i] = False
        new = rows[is_news]
        new["flags"][-1:] |= LAST
        return new


def _keys(rows: Rows) -> list[bytes]:
    """What the venue says in each row: not when and how it came, nor where its message ends."""
    said = rows.copy()
    said["ts_recv_ns"], said["feed"] = 0, 0
    said["flags"] &= np.uint8(0xFF ^ LAST)
    return [row.tobytes() for row in said]
