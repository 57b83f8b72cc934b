"""The tape made again from the raw log, and where the two part: the proof that the rows say what the wires said."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from oneprice.data.machines import Machines
from oneprice.data.session import Session
from oneprice.model.tape import Kind, Rows, TapeEvent, TapeWriter, view

_CHUNK = 1 << 15
_MADE_BY_THE_ENGINE = (int(Kind.TIMER), int(Kind.REPORT))


class Divergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first row that the raw log does not give, or gives otherwise."""

    row: int
    recorded: TapeEvent | None
    rederived: TapeEvent | None


def rederived_rows(session: Session) -> Iterator[Rows]:
    """Rows of the raw log through fresh machines, in chunks."""
    tape = TapeWriter(2 * _CHUNK)
    machines = Machines(session.instruments, tape)
    for record in session.records():
        machines.tell(record)
        if tape.n >= _CHUNK:
            yield tape.take()
    yield tape.take()


def first_divergence(session: Session) -> Divergence | None:
    """Compare tape and raw log row by row; None when they agree. A cut session's raw log may know more than its tape."""
    recorded = _steady(rows[~np.isin(rows["kind"], _MADE_BY_THE_ENGINE)] for rows in session.rows())
    rederived = _steady(rederived_rows(session))
    row = 0
    while True:
        ours, theirs = next(recorded, None), next(rederived, None)
        if ours is None and (theirs is None or session.state == "cut"):
            return None
        have = len(ours) if ours is not None else 0
        got = len(theirs) if theirs is not None else 0
        common = min(have, got)
        if ours is not None and theirs is not None:
            differ = np.flatnonzero(ours[:common] != theirs[:common])
            if len(differ):
                place = int(differ[0])
                return Divergence(
                    row=row + place, recorded=view(ours[place], session.instruments),
                    rederived=view(theirs[place], session.instruments),
                )  # fmt: skip
        if have != got and not (session.state == "cut" and have < got):
            return Divergence(
                row=row + common,
                recorded=view(ours[common], session.instruments) if ours is not None and have > got else None,
                rederived=view(theirs[common], session.instruments) if theirs is not None and got > have else None,
            )
        if have < got:
            return None
        row += common


def _steady(chunks: Iterator[Rows]) -> Iterator[Rows]:
    """The same rows in chunks of one size, so that two runs can be laid side by side."""
    held: list[Rows] = []
    count = 0
    for chunk in chunks:
        held.append(chunk)
        count += len(chunk)
        if count >= _CHUNK:
            rows = np.concatenate(held)
            whole = count // _CHUNK * _CHUNK
            for start in range(0, whole, _CHUNK):
                yield rows[start : start + _CHUNK]
            held, count = [rows[whole:]], count - whole
    if count:
        yield np.concatenate(held)
