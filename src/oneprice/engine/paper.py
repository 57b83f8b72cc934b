"""A run on live market data with paper orders: capture feeds the engine, and both end together.

Before an order leaves the desk, the tape and the decisions behind it are in the operating system's hands, so that the
ledger never knows of an order whose reasons a crash could take away. A run that was cut goes on by replaying its own tape:
the engine's state is a function of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import msgspec

from oneprice.data.capture import Capture
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.session import SessionWriter
from oneprice.engine.run import SESSION, Run, RunRecord, make_run_folder
from oneprice.engine.settings import RunSettings
from oneprice.engine.summary import RunSummary
from oneprice.engine.view import FeedView, RunView, book_views
from oneprice.engine.warm import Progress, warm_up
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument
from oneprice.model.tape import Rows
from oneprice.model.time import NS_PER_S, SystemClock
from oneprice.strategies.base import Strategy
from oneprice.strategies.registry import make_strategy
from oneprice.venues.base import Channel, Endpoints

_VIEW_EVERY_NS = NS_PER_S // 4
_CURVE_EVERY_NS = NS_PER_S
_CHANNELS = (Channel.DEPTH, Channel.TRADE, Channel.QUOTE)


class PaperRun:
    """One run. `prepare` connects nothing but asks the venues what they list; `go` runs until it is told to stop."""

    def __init__(self, settings: RunSettings, folder: Path, capture: Capture, clock: SystemClock) -> None:
        self.settings = settings
        self.folder = folder
        self._capture = capture
        self._clock = clock
        self._stop = asyncio.Event()
        make_run_folder(folder, RunRecord(settings=settings))
        self._session = SessionWriter(
            folder / SESSION, capture.instruments, source=settings.mode.value, created_ns=clock.now_ns()
        )
        self.run = Run(settings, capture.instruments, folder, before_orders=self._write_ahead)
        self._view: RunView | None = None
        self._viewed_ns = 0
        self.first_opportunity_s: float | None = None
        self._began = time.monotonic()

    @classmethod
    async def prepare(
        cls,
        settings: RunSettings,
        folder: Path,
        *,
        http: aiohttp.ClientSession,
        environment: str = "live",
        endpoints: Mapping[str, Endpoints] | None = None,
        progress: Progress = lambda done, note: None,
    ) -> PaperRun:
        """Ask the venues, let the strategies choose, lay out the connections and the folder, make compiled code ready."""
        strategies = [make_strategy(name, dict(values)) for name, values in sorted(settings.strategies.items())]
        clock = SystemClock()
        capture = await Capture.prepare(
            capture_plan(settings, strategies, environment=environment, endpoints=endpoints or {}),
            http=http, clock=clock, rng=random.Random(), discover=lambda listed: discover(strategies, listed),
        )  # fmt: skip
        if len(capture.instruments) == 0:
            raise InputError(
                f"the strategies {', '.join(settings.strategies)} want nothing of what {', '.join(settings.venues)} list"
            )
        warm_up(capture.instruments, settings.venues, progress)
        return cls(settings, folder, capture, clock)

    async def go(self, *, duration_s: float | None = None) -> RunSummary:
        """Run until `stop`, the duration's end, or a fault; the folder is closed in order in any case."""
        capturing = asyncio.create_task(self._capture.run(recorder=self._session, on_rows=self._on_rows))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({capturing, stopping}, timeout=duration_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            failed = capturing.done() and not capturing.cancelled() and capturing.exception() is not None
            if not capturing.done():
                capturing.cancel()
                with suppress(asyncio.CancelledError):
                    await capturing
            summary = self._close()
        if failed:
            await capturing
        return summary

    def stop(self) -> None:
        """End the run in order."""
        self._stop.set()

    def view(self) -> RunView:
        """The run as it stands, at most a quarter of a second old."""
        now_ns = self._clock.now_ns()
        if self._view is None or now_ns - self._viewed_ns >= _VIEW_EVERY_NS:
            self._view = self._look(now_ns)
            self._viewed_ns = now_ns
        return self._view

    def _on_rows(self, rows: Rows) -> None:
        self.run.on_rows(rows)
        if self.run.engine.now_ns - self._viewed_ns >= _CURVE_EVERY_NS:
            self.view()  # the result's curve is drawn whether anybody looks or not
        if self.first_opportunity_s is None and self.run.engine.opportunities.seen:
            self.first_opportunity_s = time.monotonic() - self._began

    def _write_ahead(self) -> None:
        self._session.flush()
        self.run.decisions.flush()

    def _close(self) -> RunSummary:
        self.run.take_ended()
        health = self._capture.health()
        summary = self.run.summary(resyncs=sum(feed.resyncs for feed in health))
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


def capture_plan(
    settings: RunSettings, strategies: Sequence[Strategy], *, environment: str, endpoints: Mapping[str, Endpoints]
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
        environment=environment,
        endpoints=endpoints,
    )


def discover(strategies: Sequence[Strategy], listed: Sequence[Instrument]) -> list[Instrument]:
    """What the strategies want among all that is listed."""
    wanted = {instrument.key: instrument for strategy in strategies for instrument in strategy.discover(listed)}
    return [wanted[key] for key in sorted(wanted)]
