"""A run: an engine with its desk, its logs and its folder, fed from sessions on disk or from capture.

    RUN_DIR/
      run.json          settings and where the rows come from
      decisions.jsonl   the decision log
      ledger.sqlite     orders, reports, postings
      summary.json      what it came to
      session/          the captured session (a backtest names the sessions it read instead)
      manifest.json, manifest.json.sha256

`assemble` builds the same engine from settings and instruments every time: live, in a backtest and in a proof."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import Path

import msgspec

from oneprice import __version__
from oneprice.data import manifest
from oneprice.data.manifest import FileEntry
from oneprice.data.replay import Replay
from oneprice.data.session import Session
from oneprice.engine.decisions import DecisionLog
from oneprice.engine.desk import Desk, Execution
from oneprice.engine.engine import Engine
from oneprice.engine.settings import RunSettings
from oneprice.engine.summary import RunSummary
from oneprice.engine.valuation import Valuation
from oneprice.engine.view import TradeView
from oneprice.model.errors import InputError, SessionError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.progress import Progress
from oneprice.model.tape import Rows
from oneprice.model.time import NS_PER_S
from oneprice.strategies.registry import make_strategy
from oneprice.trading.ledger import Ledger
from oneprice.trading.paper import PaperVenue
from oneprice.trading.portfolio import Portfolio, Posting

RUN, DECISIONS, LEDGER, SUMMARY, SESSION = "run.json", "decisions.jsonl", "ledger.sqlite", "summary.json", "session"


class SessionUsed(msgspec.Struct, frozen=True):
    """A session that a backtest read: where it lay, and the seal it had."""

    folder: str
    seal: str


class RunRecord(msgspec.Struct, frozen=True, kw_only=True):
    """run.json: everything besides the rows that a run's decisions depend on."""

    oneprice: str = __version__
    run_id: str = ""  # what the names of live orders are made of
    is_practice: bool = False  # its venues were practice ones
    settings: RunSettings
    sessions: tuple[SessionUsed, ...] = ()  # empty: the rows are in this folder's own session


class RunManifest(msgspec.Struct, kw_only=True):
    """manifest.json of a run folder."""

    kind: str = "run"
    state: str = "open"
    files: list[FileEntry] = []


class Run:
    """An engine at work in its folder (`folder` None: in memory only, as a proof does). `execution`: where orders go;
    the paper venue by default."""

    def __init__(
        self,
        settings: RunSettings,
        instruments: InstrumentTable,
        folder: Path | None,
        *,
        decisions: DecisionLog | None = None,
        execution: Execution | None = None,
        write_ahead: Callable[[], None] = lambda: None,
    ) -> None:
        self.settings = settings
        self.folder = folder
        self.ledger = Ledger(folder / LEDGER if folder is not None else None)
        self.decisions = decisions or DecisionLog(folder / DECISIONS if folder is not None else None)
        starting = settings.starting_balances(instruments)
        self.portfolio = Portfolio(instruments, starting)
        opening = [
            posting
            for (venue, asset), amount in starting.items()
            for posting in (Posting(f"venue:{venue}", asset, amount), Posting(f"owner:{venue}", asset, -amount))
        ]
        with self.ledger.event():
            self.ledger.post(opening)
        self.desk = Desk(
            instruments=instruments, limits=settings.limits, portfolio=self.portfolio, ledger=self.ledger,
            execution=execution or PaperVenue(instruments, settings.paper.latency), write_ahead=write_ahead,
        )  # fmt: skip
        self.engine = Engine(
            instruments=instruments,
            strategies=[make_strategy(name, dict(values)) for name, values in sorted(settings.strategies.items())],
            desk=self.desk,
            decisions=self.decisions,
            cooldown_ms=settings.cooldown_ms,
        )
        self.valuation = Valuation(instruments, self.engine.books)
        self.first_ns = 0
        self._busy_s = 0.0

    def on_rows(self, rows: Rows) -> None:
        """Feed the engine; note what trades ended."""
        began = time.perf_counter()
        if not self.first_ns and len(rows):
            self.first_ns = int(rows["ts_recv_ns"][0])
        self.engine.on_rows(rows)
        self._busy_s += time.perf_counter() - began

    def take_ended(self) -> None:
        """Show the trades that have ended since the last call."""
        ended, self.desk.ended = self.desk.ended, []
        for trade in ended:
            result = self.portfolio.result(trade.fills, self.valuation.mid, self.valuation.value)
            self.engine.recent.trades.append(
                TradeView(
                    ts_ns=trade.ended_ns,
                    strategy=trade.strategy,
                    key=trade.key,
                    gross=float(result.gross_edge),
                    fees=float(result.fees),
                    slippage=float(result.slippage),
                    net=float(result.net),
                )
            )

    def balanced(self) -> bool:
        """Whether every event's postings and the account balances hold to the last unit."""
        if not (self.ledger.balanced() and self.portfolio.balances_hold()):
            return False
        recorded = self.ledger.balances()
        return all(
            recorded.get((f"venue:{venue}", asset), Decimal(0)) == amount
            for (venue, asset), amount in self.portfolio.balances.items()
        )

    def summary(self, *, resyncs: int = 0, reconciled: bool | None = None) -> RunSummary:
        """What the run has come to."""
        engine = self.engine
        result = self.portfolio.result(
            self.portfolio.fills, self.valuation.mid, self.valuation.value, with_funding=True
        )  # fmt: skip
        by_type = engine.opportunities.summary(engine.standing())
        return RunSummary(
            mode=self.settings.mode.value,
            run_dir=str(self.folder) if self.folder is not None else "",
            seconds=round((engine.now_ns - self.first_ns) / NS_PER_S, 3) if engine.now_ns else 0.0,
            events=engine.events,
            rows_per_s=round(engine.events / self._busy_s, 1) if self._busy_s else 0.0,
            batches=engine.batches,
            gaps=int(engine.books.gaps.sum()),
            resyncs=resyncs,
            opportunities=sum(summary.seen for summary in by_type.values()),
            opportunities_by_type=by_type,
            trades=self.desk.trades,
            orders=self.desk.orders,
            fills=len(self.portfolio.fills),
            refused=self.desk.refused,
            gross_edge=_rounded(result.gross_edge),
            fees=_rounded(result.fees),
            slippage=_rounded(result.slippage),
            funding=_rounded(result.funding),
            net_pnl=_rounded(result.net),
            balanced=self.balanced(),
            decisions=self.decisions.count,
            decision_hash=self.decisions.hash,
            reconciled=reconciled,
            kill_switch=self.desk.kill_switch.reason or "",
            note=_note(self.desk),
        )

    def close(self, summary: RunSummary) -> None:
        """Write the summary, fold the ledger, seal the folder."""
        self.decisions.close()
        self.ledger.close()
        if self.folder is None:
            return
        (self.folder / SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary, enc_hook=str), indent=1))
        files = [manifest.entry_of(self.folder, self.folder / name) for name in (DECISIONS, LEDGER, RUN, SUMMARY)]
        manifest.write_manifest(self.folder / manifest.NAME, RunManifest(state="closed", files=files))


def _rounded(amount: Decimal) -> float:
    return float(round(amount, 8))


def _note(desk: Desk) -> str:
    if desk.trades:
        return ""
    if desk.refused:
        return (
            f"no trade: the checks refused all {desk.refused} that were wanted, the last because: {desk.last_refusal}"
        )
    return "nothing was worth a trade after fees; see opportunities_by_type for gross edges and lifetimes"


def read_run(folder: Path) -> RunRecord:
    """What a run folder says of its run. SessionError for a folder that holds none."""
    try:
        return msgspec.json.decode((folder / RUN).read_bytes(), type=RunRecord)
    except FileNotFoundError:
        raise SessionError(f"{folder}: no run is here ({RUN} is missing)") from None
    except msgspec.DecodeError as wrong:
        raise SessionError(f"{folder / RUN}: cannot be read: {wrong}") from wrong


def make_run_folder(folder: Path, record: RunRecord) -> None:
    """Make the folder of a run and write what it depends on."""
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / RUN).exists():
        raise InputError(f"{folder}: a run is here already; choose another folder with --out")
    (folder / RUN).write_bytes(msgspec.json.format(msgspec.json.encode(record), indent=1))
    manifest.write_manifest(folder / manifest.NAME, RunManifest())


def sessions_used(sessions: Iterable[Session]) -> tuple[SessionUsed, ...]:
    """How a run remembers the sessions it read."""
    return tuple(SessionUsed(str(session.folder.resolve()), session.seal) for session in sessions)


def backtest(
    settings: RunSettings,
    sessions: list[Session],
    folder: Path,
    *,
    progress: Progress,
    speed: float | None = None,
) -> RunSummary:
    """Run the settings' strategies over recorded sessions: at full speed, or `speed` times as fast as recorded."""
    replay = Replay(sessions, timer_ms=settings.timer_ms)
    make_run_folder(folder, RunRecord(settings=settings, sessions=sessions_used(sessions)))
    run = Run(settings, replay.instruments, folder)
    total = sum(session.manifest.rows for session in sessions) or 1

    def take(rows: Rows) -> None:
        run.on_rows(rows)
        run.decisions.flush()
        progress(run.engine.events / total, f"{run.engine.events:,} rows")

    async def paced(factor: float) -> None:
        async for rows in replay.paced(factor):
            take(rows)

    if speed is None:
        for rows in replay.rows():
            take(rows)
    else:
        asyncio.run(paced(speed))
    run.take_ended()
    summary = run.summary()
    run.close(summary)
    return summary
