"""A run in real time: capture feeds the engine, orders go to paper or to live venues, and all ends together.

Before an order leaves the desk, and before a report enters the ledger, the tape behind it is in the operating system's
hands, so that the ledger never knows anything whose reasons a crash could take away. At the end the tape says "hold":
nothing new is begun, and what was begun is brought to its end first."""

from __future__ import annotations

import asyncio
import random
import secrets
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from oneprice.data import manifest
from oneprice.data.capture import Capture
from oneprice.data.certify.live import LiveQuality
from oneprice.data.machines import reports_of
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.recover import check_can_go_on, go_on
from oneprice.data.session import Session, SessionWriter
from oneprice.engine.decisions import DecisionLog, require_beginning
from oneprice.engine.run import DECISIONS, SESSION, Run, RunManifest, RunRecord, make_run_folder, read_run
from oneprice.engine.settings import Mode, RunSettings
from oneprice.engine.summary import RunSummary
from oneprice.engine.view import FeedView, RunView, book_views
from oneprice.engine.warm import warm_up
from oneprice.model.errors import InputError, VenueError
from oneprice.model.instrument import Instrument
from oneprice.model.progress import Progress, untold
from oneprice.model.tape import Rows
from oneprice.model.time import NS_PER_S, SystemClock
from oneprice.strategies.base import Strategy
from oneprice.strategies.registry import make_strategy
from oneprice.trading.hosts import Access
from oneprice.venues.base import Channel, Endpoints

if TYPE_CHECKING:
    from oneprice.engine.live_orders import LiveOrders

_VIEW_EVERY_NS = NS_PER_S // 4
_CURVE_EVERY_NS = NS_PER_S
_CHANNELS = (Channel.DEPTH, Channel.TRADE, Channel.QUOTE)
_END_WITHIN_S = 15.0  # what is under way when a run is told to stop: longer than a lost answer stays uncertain


class RealTimeRun:
    """One run. `prepare` connects nothing but asks the venues what they list; `go` runs until it is told to stop."""

    def __init__(
        self,
        record: RunRecord,
        folder: Path,
        *,
        capture: Capture,
        session: SessionWriter,
        clock: SystemClock,
        live: LiveOrders | None,
        decisions: DecisionLog | None = None,
    ) -> None:
        self.settings = record.settings
        self.folder = folder
        self._is_resumed = False
        self.run = Run(
            record.settings, capture.instruments, folder, write_ahead=self._write_ahead, decisions=decisions,
            execution=live.relay if live is not None else None,
        )  # fmt: skip
        self._capture = capture
        self._session = session
        self._clock = clock
        self._live = live
        self._stop = asyncio.Event()
        self._at_rest = asyncio.Event()  # the tape says hold, and every trade has ended
        self._quality: LiveQuality | None = None
        self._view: RunView | None = None
        self._viewed_ns = 0
        self._flushed_ns = 0
        self.first_opportunity_s: float | None = None
        self._began = time.monotonic()

    @classmethod
    async def prepare(
        cls,
        settings: RunSettings,
        folder: Path,
        *,
        http: aiohttp.ClientSession,
        endpoints: Mapping[str, Endpoints] | None = None,
    ) -> RealTimeRun:
        """Ask the venues, let the strategies choose, lay out the connections and the folder, make compiled code ready.
        A live run also opens its accounts and sees to it that they are as it needs them."""
        strategies = [make_strategy(name, dict(values)) for name, values in sorted(settings.strategies.items())]
        clock = SystemClock()
        capture = await Capture.prepare(
            capture_plan(settings, strategies, endpoints=endpoints or {}),
            http=http, clock=clock, rng=random.Random(), discover=lambda listed: discover(strategies, listed),
        )  # fmt: skip
        if len(capture.instruments) == 0:
            raise InputError(
                f"the strategies {', '.join(settings.strategies)} want nothing of what {', '.join(settings.venues)} list"
            )
        warm_up()
        record = RunRecord(settings=settings, run_id=secrets.token_hex(8), is_practice=bool(endpoints))
        live = None
        if settings.mode is Mode.LIVE:
            from oneprice.engine.live_orders import LiveOrders  # ccxt takes half a second to load

            live = await LiveOrders.open(
                settings.live,
                capture.instruments,
                run_id=record.run_id,
                clock=clock,
                told={},
                endpoints=endpoints or {},
            )
        try:
            if live is not None:
                await live.require_ready(settings.live)
            make_run_folder(folder, record)
            session = SessionWriter(
                folder / SESSION, capture.instruments, source=settings.mode.value, created_ns=clock.now_ns()
            )
            return cls(record, folder, capture=capture, session=session, clock=clock, live=live)
        except BaseException:
            if live is not None:
                await live.close()
            raise

    @classmethod
    async def resume(
        cls,
        folder: Path,
        *,
        http: aiohttp.ClientSession,
        endpoints: Mapping[str, Endpoints] | None = None,
        progress: Progress = untold,
    ) -> RealTimeRun:
        """Go on with a run that was cut. Its own tape, replayed, is its state: what the ledger and the decision log hold
        must come out again. A live run then asks the venues about every order whose end the tape does not know.

        InputError for a run that was closed, is still being written, or read sessions; SessionError where the folder is
        damaged or the replay does not give what is recorded.
        """
        record = resumable(folder)
        settings = record.settings
        before = Session.open(folder / SESSION)
        clock = SystemClock()
        began_ns = clock.now_ns()
        check_can_go_on(before, now_ns=began_ns)
        strategies = [make_strategy(name, dict(values)) for name, values in sorted(settings.strategies.items())]
        capture = await Capture.prepare(
            capture_plan(settings, strategies, endpoints=endpoints or {}),
            http=http, clock=clock, rng=random.Random(), resumed=before,
        )  # fmt: skip
        warm_up()
        live = None
        if settings.mode is Mode.LIVE:
            from oneprice.engine.live_orders import LiveOrders  # ccxt takes half a second to load

            live = await LiveOrders.open(
                settings.live, capture.instruments, run_id=record.run_id, clock=clock, told=reports_of(before),
                endpoints=endpoints or {},
            )  # fmt: skip
        try:
            session = go_on(folder / SESSION, now_ns=began_ns)
            again = folder / f"{DECISIONS}.again"
            resumed = cls(
                record, folder, capture=capture, session=session, clock=clock, live=live, decisions=DecisionLog(again)
            )
            resumed._repeat(Session.open(folder / SESSION), progress)
            require_beginning(folder / DECISIONS, again)
            again.replace(folder / DECISIONS)
            return resumed
        except BaseException:
            if live is not None:
                await live.close()
            raise

    def _repeat(self, session: Session, progress: Progress) -> None:
        total = session.manifest.rows or 1
        for rows in session.rows():
            self.run.on_rows(rows)
            progress(self.run.engine.events / total, f"repeating {self.run.engine.events:,} rows")
        self.run.decisions.flush()
        self.run.take_ended()
        self._is_resumed = True

    async def go(self, *, duration_s: float | None = None) -> RunSummary:
        """Run until `stop`, the duration's end, or a fault. Then nothing new is begun, what was begun is brought to its
        end, and the folder is closed in order.

        VenueError when live orders still have no end: the folder is left open, and `resume` asks about them.
        """
        work = [asyncio.create_task(self._capture.run(recorder=self._session, on_rows=self._on_rows))]
        if self._live is not None:
            self._live.connect(self._capture.report)
            work.append(asyncio.create_task(self._live.run()))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            if self._live is not None and self._is_resumed:
                await self._reconcile(self._live, work)
            await asyncio.wait({*work, stopping}, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
            self._capture.hold(True)
            await self._come_to_rest(work)
            reconciled = await self._live.is_same(self.run.portfolio) if self._live is not None else None
        finally:
            await _ended([stopping, *work])
            if self._live is not None:
                await self._live.close()
        failed = next((task for task in work if not task.cancelled() and task.exception() is not None), None)
        if self._live is not None and (not self.run.desk.is_idle or failed is not None):
            self._write_ahead()
            raise VenueError(
                f"{self.folder}: {len(self.run.desk.open_orders())} live orders have no known end; the run is left open: "
                f"`oneprice run --resume {self.folder}` asks the venues about them"
            ) from (failed.exception() if failed is not None else None)
        summary = self._close(reconciled)
        if failed is not None:
            await failed
        return summary

    async def _reconcile(self, live: LiveOrders, work: Sequence[asyncio.Task[None]]) -> None:
        """Begin nothing new before every order of the former process has an end and the venues' positions are ours."""
        self._capture.hold(True)
        live.adopt(self.run.desk)
        await self._come_to_rest(work)
        await live.require_same(self.run.portfolio)
        self._at_rest.clear()
        self._capture.hold(False)

    async def _come_to_rest(self, work: Sequence[asyncio.Task[None]]) -> None:
        """Wait until every trade has ended, but not for ever, and not for what can no longer happen."""
        resting = asyncio.create_task(self._at_rest.wait())
        await asyncio.wait({resting, *work}, timeout=_END_WITHIN_S, return_when=asyncio.FIRST_COMPLETED)
        await _ended([resting])

    def stop(self) -> None:
        """End the run in order."""
        self._stop.set()

    def judged(self) -> LiveQuality:
        """The gates of the run's own session, judged as it grows from here on."""
        self._quality = LiveQuality(Session.open(self.folder / SESSION))
        return self._quality

    def view(self) -> RunView:
        """The run as it stands, at most a quarter of a second old."""
        now_ns = self._clock.now_ns()
        if self._view is None or now_ns - self._viewed_ns >= _VIEW_EVERY_NS:
            self._view = self._look(now_ns)
            self._viewed_ns = now_ns
        return self._view

    def _on_rows(self, rows: Rows) -> None:
        if self._session.flushed_ns != self._flushed_ns:  # the tape behind all decisions so far has reached the disk
            self._flushed_ns = self._session.flushed_ns
            self.run.decisions.flush()
        self.run.on_rows(rows)
        if self._quality is not None:
            self._quality.on_rows(rows)
        if self.run.engine.holds and self.run.desk.is_idle:
            self._at_rest.set()
        if self.run.engine.now_ns - self._viewed_ns >= _CURVE_EVERY_NS:
            self.view()  # the result's curve is drawn whether anybody looks or not
        if self.first_opportunity_s is None and self.run.engine.opportunities.seen:
            self.first_opportunity_s = time.monotonic() - self._began

    def _write_ahead(self) -> None:
        self._session.flush()
        self.run.decisions.flush()

    def _close(self, reconciled: bool | None) -> RunSummary:
        self.run.take_ended()
        health = self._capture.health()
        summary = self.run.summary(resyncs=sum(feed.resyncs for feed in health), reconciled=reconciled)
        self._session.close(
            closed_ns=self._clock.now_ns(), statistics={"feeds": [msgspec.to_builtins(feed) for feed in health]}
        )
        self.run.close(summary)
        return summary

    def _look(self, now_ns: int) -> RunView:
        run, engine = self.run, self.run.engine
        run.take_ended()
        result = run.portfolio.result(
            run.portfolio.fills, run.valuation.mid, run.valuation.value, with_funding=True
        )  # fmt: skip
        engine.recent.pnl.append((now_ns, float(result.net)))
        health = self._capture.health()
        return RunView(
            mode=self.settings.mode.value,
            started_ns=run.first_ns,
            now_ns=now_ns,
            events=engine.events,
            gaps=int(engine.books.gaps.sum()),
            resyncs=sum(feed.resyncs for feed in health),
            opportunities=dict(engine.opportunities.seen),
            trades=run.desk.trades,
            fees=float(result.fees),
            net_pnl=float(result.net),
            balanced=run.portfolio.balances_hold(),
            decisions=run.decisions.count,
            decision_hash=run.decisions.hash,
            feeds=[
                FeedView(
                    venue=feed.venue,
                    path=feed.path,
                    state=feed.state,
                    frames=feed.frames,
                    lag_ms=feed.lag_ms,
                    data_age_ms=feed.data_age_ms,
                    gaps=feed.gaps,
                    resyncs=feed.resyncs,
                    reconnects=feed.reconnects,
                )
                for feed in health
            ],
            books=book_views(self._capture.instruments, engine.books, now_ns),
            sightings=list(engine.recent.sightings),
            recent_trades=list(engine.recent.trades),
            pnl=list(engine.recent.pnl),
        )


def resumable(folder: Path) -> RunRecord:
    """What a run that was cut was started with. InputError for one that cannot go on."""
    record = read_run(folder)
    if record.sessions:
        raise InputError(f"{folder}: a backtest; it does not go on, run it again")
    if manifest.read_manifest(folder / manifest.NAME, RunManifest).state == "closed":
        raise InputError(f"{folder}: this run ended in order; start a new one")
    return record


def capture_plan(
    settings: RunSettings, strategies: Sequence[Strategy], *, endpoints: Mapping[str, Endpoints]
) -> CapturePlan:
    """What to capture so that every strategy is fed: its channels, and depth, quotes and trades in any case."""
    wanted = {*_CHANNELS, *(channel for strategy in strategies for channel in strategy.channels)}
    channels = tuple(channel for channel in Channel if channel in wanted)
    for name in settings.symbols:
        if name not in settings.venues:
            raise InputError(f"[symbols] names {name}, which is not among the venues {', '.join(settings.venues)}")
    return CapturePlan(
        venues={
            name: VenuePlan(symbols=tuple(settings.symbols.get(name, ())), channels=channels)
            for name in settings.venues
        },
        environment="testnet" if settings.mode is Mode.LIVE and settings.live.access is Access.TESTNET else "live",
        endpoints=endpoints,
    )


def discover(strategies: Sequence[Strategy], listed: Sequence[Instrument]) -> list[Instrument]:
    """What the strategies want among all that is listed."""
    wanted = {instrument.key: instrument for strategy in strategies for instrument in strategy.discover(listed)}
    return [wanted[key] for key in sorted(wanted)]


async def _ended(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel what still runs, and wait until all has ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
