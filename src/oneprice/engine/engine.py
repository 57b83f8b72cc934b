"""The engine: rows in, decisions out. It cannot tell a live tape from a replayed one.

Rows arrive in any chunks; a TIMER row ends a micro-batch. For each batch, in this order: rows up to the next moment at
which something of ours is due (an order reaching the venue, a report coming back) are applied to the books and that
something happens; then the rest of the rows, and what they told of our orders; then every strategy looks, in the order of
their names. What they see goes to the decision log, what they want goes to the desk, unless the timer says to
hold: then only what was begun is brought to its end. No clock, no socket, no randomness: the same rows and settings give
the same decisions, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from oneprice.compute.books import Books, apply_rows, make_books
from oneprice.engine.decisions import Decision, DecisionLog
from oneprice.engine.desk import Desk
from oneprice.engine.statistics import Opportunities
from oneprice.engine.view import Recent, SightingView
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import HOLD, Kind, Rows
from oneprice.model.time import NS_PER_MS
from oneprice.strategies.base import Market, Sighting, Strategy, What


class Engine:
    """One run's state as a function of its tape."""

    def __init__(
        self,
        *,
        instruments: InstrumentTable,
        strategies: Sequence[Strategy],
        desk: Desk,
        decisions: DecisionLog,
        cooldown_ms: int,
    ) -> None:
        self.instruments = instruments
        self.books: Books = make_books(len(instruments))
        self.desk = desk
        self.decisions = decisions
        self.opportunities = Opportunities()
        self.recent = Recent()
        self.events = 0
        self.batches = 0
        self.now_ns = 0
        self._strategies = sorted(strategies, key=lambda strategy: strategy.name)
        self._cooldown_ns = cooldown_ms * NS_PER_MS
        self._rests_until: dict[tuple[str, str], int] = {}
        self._market = Market(instruments=instruments, books=self.books, holdings=desk)
        self._tail: Rows | None = None
        self.holds = False
        for strategy in self._strategies:
            strategy.bind(instruments)

    def on_rows(self, rows: Rows) -> None:
        """Take in more of the tape. Rows behind the last TIMER wait for the next call."""
        if self._tail is not None and len(self._tail):
            rows = np.concatenate((self._tail, rows))
        ts_recv_ns = np.ascontiguousarray(rows["ts_recv_ns"])
        ends = np.flatnonzero(rows["kind"] == int(Kind.TIMER))
        start = 0
        for end, now_ns in zip(ends.tolist(), ts_recv_ns[ends].tolist(), strict=True):
            self._batch(rows, ts_recv_ns, start, end + 1, now_ns)
            start = end + 1
        self._tail = rows[start:].copy()
        self.events += start

    def _batch(self, rows: Rows, ts_recv_ns: np.ndarray, start: int, stop: int, now_ns: int) -> None:
        self.now_ns = now_ns
        self.batches += 1
        self.holds = int(rows["aux"][stop - 1]) == HOLD
        due_ns = self.desk.next_due_ns()
        while due_ns is not None and due_ns <= now_ns:
            split = start + int(np.searchsorted(ts_recv_ns[start:stop], due_ns, side="right"))
            self._apply(rows, start, split)
            start = split
            for decision in self.desk.advance(due_ns, self.books):
                self.decisions.record(decision)
            due_ns = self.desk.next_due_ns()
        self._apply(rows, start, stop)
        while (due_ns := self.desk.next_due_ns()) is not None and due_ns <= now_ns:  # told by the rows themselves
            for decision in self.desk.advance(now_ns, self.books):
                self.decisions.record(decision)
        for decision in self.desk.settle_funding(now_ns, self.books):
            self.decisions.record(decision)
        for strategy in self._strategies:
            for sighting in strategy.on_batch(now_ns, self._market):
                self._handle(now_ns, strategy.name, sighting)

    def _apply(self, rows: Rows, start: int, stop: int) -> None:
        if stop > start:
            apply_rows(self.books, rows, start, stop)
            self.desk.on_rows(rows, start, stop, self.books)

    def _handle(self, now_ns: int, by: str, sighting: Sighting) -> None:
        self.opportunities.note(sighting)
        if sighting.what in (What.ENTER, What.EXIT) and self.holds:
            return
        if sighting.what in (What.ENTER, What.EXIT):
            place = (by, sighting.key)
            if now_ns < self._rests_until.get(place, 0) or self.desk.is_busy(by, sighting.key):
                return
            self._rests_until[place] = now_ns + self._cooldown_ns
            self.decisions.record(_decision(now_ns, by, sighting))
            for decision in self.desk.trade(now_ns, by, sighting, self.books):
                self.decisions.record(decision)
        else:
            self.decisions.record(_decision(now_ns, by, sighting))
        self.recent.sightings.append(
            SightingView(
                ts_ns=now_ns,
                what=sighting.what.value,
                type=sighting.type,
                key=sighting.key,
                gross_bps=sighting.gross_bps,
                net_bps=sighting.net_bps,
                reason=sighting.reason,
            )
        )

    def standing(self) -> dict[str, list[Sighting]]:
        """By strategy, the opportunities that are still open."""
        return {strategy.name: strategy.standing(self.now_ns) for strategy in self._strategies}


def _decision(now_ns: int, by: str, sighting: Sighting) -> Decision:
    inputs: dict[str, object] = {"gross_bps": sighting.gross_bps, "net_bps": sighting.net_bps, **sighting.inputs}
    if sighting.legs:
        inputs["legs"] = [msgspec.to_builtins(leg) for leg in sighting.legs]
    if sighting.what is What.CLOSED:
        inputs["lifetime_ns"] = sighting.lifetime_ns
        inputs["peak_gross_bps"] = sighting.peak_gross_bps
    return Decision(
        ts_ns=now_ns, by=by, what=sighting.what.value, key=sighting.key, reason=sighting.reason, inputs=inputs
    )
