"""`--strict`: a session that would have a hole, or a book that never came to stand, ends at once."""

from __future__ import annotations

import numpy as np

from oneprice.data.certify.names import session_names
from oneprice.model.errors import OnepriceError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import CLEAR, GapReason, Kind, Rows
from oneprice.model.time import NS_PER_S, iso_ms

BOOTSTRAP_WITHIN_NS = 60 * NS_PER_S  # a snapshot is asked for again at most five times, each within ten seconds


class Aborted(OnepriceError):
    """A session ended itself, as its rules say. What it recorded so far is on disk."""


class StrictWatch:
    """Looks at every micro-batch; raises `Aborted` at the first gap, and at a book that does not stand in time."""

    def __init__(self, instruments: InstrumentTable) -> None:
        self._names = session_names(instruments)
        self._awaited = set(range(len(instruments)))
        self._began_ns = 0

    def on_rows(self, rows: Rows) -> None:
        gaps = rows[rows["kind"] == int(Kind.GAP)]
        if len(gaps):
            raise Aborted(f"strict: {self._told(gaps[0])}")
        if not self._awaited:
            return
        books = rows[(rows["kind"] == int(Kind.DEPTH)) & (rows["flags"] & CLEAR != 0)]
        self._awaited.difference_update(np.unique(books["instrument"]).tolist())
        now_ns = int(rows["ts_recv_ns"][-1])
        self._began_ns = self._began_ns or now_ns
        if self._awaited and now_ns - self._began_ns > BOOTSTRAP_WITHIN_NS:
            missing = ", ".join(self._names[i] for i in sorted(self._awaited))
            raise Aborted(f"strict: no book of {missing} within {BOOTSTRAP_WITHIN_NS // NS_PER_S} s")

    def _told(self, gap: np.void) -> str:
        name = self._names[int(gap["instrument"])] if gap["instrument"] >= 0 else "the capture"
        reason = GapReason(int(gap["value"]))
        said = f"{name} has a gap at {iso_ms(int(gap['ts_recv_ns']))} ({reason.name.lower()})"
        if reason is GapReason.SEQUENCE:
            said += f": behind {int(gap['sequence'])} came {int(gap['qty'])} instead of {int(gap['price'])}"
        return said
