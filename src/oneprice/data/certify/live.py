"""The gates of a session that is still being recorded: every verdict as it would be if the session ended now.

    quality = LiveQuality(Session.open(folder))   # a session that goes on begins with what it has
    capture.run(recorder=writer, on_rows=quality.on_rows)
    quality.now()                                 # as often as anybody likes

The recorder must not feel it. A micro-batch is only put aside; many are read together, and verdicts are made when somebody
asks: at most once a second, and in at most a fiftieth of the time, so that hundreds of symbols are judged less often. What
only the whole session can tell, whether it replays to the same hash, stays open until its end."""

from __future__ import annotations

import time
from collections.abc import Mapping

import msgspec

from oneprice.data.certify.gaps import GapEntry, GapLedger
from oneprice.data.certify.gates import DETERMINISM, GateResult, SessionFacts, judge, tier
from oneprice.data.certify.measures import Measuring
from oneprice.data.certify.names import session_names
from oneprice.data.certify.publish import without_depth
from oneprice.data.certify.terms import terms_of
from oneprice.data.session import Session, joined
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import Kind, Rows, TapeWriter

_READ_ROWS = 1 << 14  # put aside at most: read in some 4 ms
_JUDGE_EVERY_S = 1.0
_SHARE = 50  # judging takes at most one part in so many of the time
_LAST_GAPS = 50


class LiveSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol so far. `tier` and `reasons` leave out what is judged at the end (`determinism`)."""

    tier: str
    reasons: tuple[str, ...]
    rows: int
    gaps: int
    invalid_ns: int  # how long the book did not stand
    gates: tuple[GateResult, ...]


class LiveVerdicts(msgspec.Struct, frozen=True, kw_only=True):
    """A session after its first `rows` rows, by symbol. `gaps` are the last entries of the gap ledger, newest last."""

    tier: str
    rows: int
    until_ns: int  # receive time of the last of them; 0: none yet
    symbols: Mapping[str, LiveSymbol]
    gap_count: int
    gaps: tuple[GapEntry, ...]


class LiveQuality:
    """Takes a session's rows as they come; tells what it is worth so far."""

    def __init__(self, session: Session) -> None:
        """Reads what the session has already, and compiles what is needed while no socket waits for it."""
        terms = terms_of(session.manifest)
        self._names = session_names(session.instruments)
        self._rules = terms.gates
        self._facts = SessionFacts(
            source=session.manifest.source, is_strict=terms.is_strict,
            without_depth=without_depth(session, self._names),
        )  # fmt: skip
        self._measuring = Measuring(session.instruments, trade_tolerance_bps=terms.gates.trade_tolerance_bps)
        self._ledger = GapLedger(session.instruments)
        self._aside: list[Rows] = []
        self._aside_rows = 0
        self._verdicts: LiveVerdicts | None = None
        self._judge_from_s = 0.0  # of this machine's monotonic clock: it is its time that judging takes
        _compile(session.instruments)
        for rows in session.rows():
            self.on_rows(rows)
        self._read()

    def on_rows(self, rows: Rows) -> None:
        """The next rows of the tape (kept by reference until they are read: hand over a copy)."""
        self._aside.append(rows)
        self._aside_rows += len(rows)
        if self._aside_rows >= _READ_ROWS:
            self._read()

    def now(self) -> LiveVerdicts:
        """Every gate so far; the same again within a second."""
        began_s = time.monotonic()
        if self._verdicts is None or began_s >= self._judge_from_s:
            self._verdicts = self._judge()
            ended_s = time.monotonic()
            self._judge_from_s = ended_s + max(_JUDGE_EVERY_S, (_SHARE - 1) * (ended_s - began_s))
        return self._verdicts

    def _read(self) -> None:
        if self._aside:
            rows = joined(self._aside)
            self._aside, self._aside_rows = [], 0
            self._measuring.add(rows)
            self._ledger.add(rows)

    def _judge(self) -> LiveVerdicts:
        self._read()
        measures = self._measuring.result()
        results = judge(measures, self._facts, self._rules)
        entries = self._ledger.entries()
        symbols = {}
        for name, one, validity in zip(self._names, measures.symbols, self._ledger.validity(), strict=True):
            gates = tuple(result for result in results if result.symbol == name)
            grade, reasons = tier(_judged_yet(gates))
            symbols[name] = LiveSymbol(
                tier=grade, reasons=reasons, rows=one.rows, gaps=one.gaps, invalid_ns=validity.invalid_ns, gates=gates
            )  # fmt: skip
        return LiveVerdicts(
            tier=tier(_judged_yet(results))[0], rows=measures.rows, until_ns=measures.until_ns, symbols=symbols,
            gap_count=len(entries), gaps=entries[-_LAST_GAPS:],
        )  # fmt: skip


def _judged_yet(results: tuple[GateResult, ...]) -> list[GateResult]:
    return [result for result in results if result.name != DETERMINISM]


def _compile(instruments: InstrumentTable) -> None:
    """Run the measuring once on a tape that says nothing: its first call compiles (once on a machine, for seconds)."""
    tape = TapeWriter()
    tape.append(Kind.TIMER, recv_ns=1)
    measuring = Measuring(instruments)
    measuring.add(tape.take())
    measuring.result()
