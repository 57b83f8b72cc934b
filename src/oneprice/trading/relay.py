"""Live orders as the engine sees them: out to a sender, back by way of the tape.

What a venue says of an order is numbered, written to the raw log and becomes a REPORT row; the engine takes it when the
row reaches it, live and in a replay alike. In a replay there is no sender, and the texts behind the rows come from the
raw log: the same rows, the same decisions, and nothing is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from oneprice.compute.books import Books
from oneprice.data.machines import Reported
from oneprice.model.errors import Refused
from oneprice.model.order import Order, Report, ReportType
from oneprice.model.tape import Kind, Rows

_REPORT = int(Kind.REPORT)


class Sender(Protocol):
    """What carries orders to the venues (`live.LiveVenue`)."""

    def submit(self, order: Order, now_ns: int) -> None: ...


class Relay:
    """An execution whose reports come off the tape. `told`: the texts of the reports known so far, by number.

    Until `connect`, orders that are submitted stay here: a replay makes them again, and what became of them its rows tell.
    """

    def __init__(self, told: Mapping[int, Report]) -> None:
        self._told = dict(told)
        self._next_number = 1 + max(told, default=0)
        self._come: list[Report] = []  # off the tape, not yet taken
        self._instrument_of: dict[int, int] = {}  # by order
        self._sender: Sender | None = None
        self._write: Callable[[Reported], None] | None = None

    def connect(self, sender: Sender, write: Callable[[Reported], None]) -> None:
        """From here on orders go out, and what is heard of them goes to `write`, which puts it on the tape."""
        self._sender, self._write = sender, write

    def heard(self, report: Report) -> None:
        """A venue said something of an order."""
        assert self._write is not None, "a report was heard before anything was connected"
        number, self._next_number = self._next_number, self._next_number + 1
        self._told[number] = report
        self._write(Reported(number=number, instrument=self._instrument_of[report.order], report=report))

    def submit(self, order: Order, now_ns: int) -> None:
        """Send an order; one that cannot even be queued is reported as rejected."""
        self._instrument_of[order.number] = order.instrument
        if self._sender is None:
            return
        try:
            self._sender.submit(order, now_ns)
        except Refused as why:
            self.heard(Report(order=order.number, type=ReportType.REJECTED, ts_ns=now_ns, reason=str(why)))

    def next_due_ns(self) -> int | None:
        """The time of the oldest report that has not been taken; None: nothing has come."""
        return self._come[0].ts_ns if self._come else None

    def advance(self, to_ns: int, books: Books) -> list[Report]:
        """The reports whose rows have come. A report cannot have been made later than its row was written."""
        taken, self._come = self._come, []
        return taken

    def on_rows(self, rows: Rows, start: int, stop: int, books: Books) -> None:
        """Read the reports among rows[start:stop]."""
        found = np.flatnonzero(rows["kind"][start:stop] == _REPORT)
        self._come += [self._told[number] for number in rows["sequence"][start:stop][found].tolist()]
