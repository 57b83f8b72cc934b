"""The page of a recording: do the feeds flow, what is recorded, and what is it worth so far?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from nicegui import ui

from oneprice.app.dashboard import Page
from oneprice.app.dashboard_gates import GatesSection
from oneprice.app.dashboard_parts import REFRESH_S, chip, columns, duration, figure_card, headline, number, table
from oneprice.data.capture import Capture
from oneprice.data.certify.live import LiveQuality, LiveVerdicts
from oneprice.data.certify.publish import CERTIFIED
from oneprice.data.health import FeedHealth
from oneprice.data.session import SessionWriter
from oneprice.model.time import NS_PER_S, Clock

_FLOWING = "open"  # `FeedHealth.state`


class CaptureView(msgspec.Struct, frozen=True, kw_only=True):
    """A recording at `now_ns`. Rows and frames are those on the disk; `gates` tells how many rows were judged."""

    session: str
    started_ns: int  # of this process: a session that goes on has earlier rows
    now_ns: int
    ends_ns: int
    rows: int
    frames: int
    gaps: int
    resyncs: int
    feeds: Sequence[FeedHealth]
    gates: LiveVerdicts


def capture_page(capture: Capture, writer: SessionWriter, quality: LiveQuality, clock: Clock, *, for_s: float) -> Page:
    """The page of a recording that starts now and ends by itself after so many seconds."""
    started_ns = clock.now_ns()

    def view() -> CaptureView:
        health, verdicts = capture.health(), quality.now()
        return CaptureView(
            session=str(writer.folder), started_ns=started_ns, now_ns=clock.now_ns(),
            ends_ns=started_ns + int(for_s * NS_PER_S), rows=writer.manifest.rows, frames=writer.manifest.frames,
            gaps=verdicts.gap_count, resyncs=sum(feed.resyncs for feed in health), feeds=health, gates=verdicts,
        )  # fmt: skip

    return Page(view=view, parts=("feeds", "gates"), build=lambda: _build(view))


def _build(view: Callable[[], CaptureView]) -> None:
    """Register the page; each browser gets its own copy, fed twice a second from the same view."""

    @ui.page("/")
    def page() -> None:
        figures: dict[str, Any] = {"headline": headline()}
        with ui.row().classes("w-full gap-3 px-2"):
            for name in ("tier so far", "rows", "frames", "gaps", "elapsed", "remaining"):
                figures[name] = figure_card(name)
        done = ui.linear_progress(show_value=False, size="4px", color="emerald-400").classes("px-2")
        with ui.column().classes("w-full gap-3 px-2"):
            gates = GatesSection(view().gates)
            feeds = table(
                "Feeds",
                columns(
                    "feed", "state", "frames", "frames/s", "lag ms", "data age ms", "books", "gaps", "repaired", "reconnects",
                    left=("state",),
                ), "feed",
            )  # fmt: skip

        def refresh() -> None:
            now = view()
            _fill_figures(figures, now)
            done.value = (now.now_ns - now.started_ns) / (now.ends_ns - now.started_ns)
            gates.show(now.gates)
            feeds.rows = [_feed_row(feed) for feed in now.feeds]

        refresh()
        ui.timer(REFRESH_S, refresh)


def _fill_figures(figures: dict[str, Any], now: CaptureView) -> None:
    is_certified = now.gates.tier == CERTIFIED
    figures["headline"].text = f"recording {len(now.gates.symbols)} symbols into {now.session}"
    figures["tier so far"].text = now.gates.tier.replace("_", " ")
    figures["tier so far"].classes(
        replace=f"text-2xl font-mono {'text-emerald-400' if is_certified else 'text-amber-300'}"
    )
    figures["rows"].text = f"{now.rows:,}"
    figures["frames"].text = f"{now.frames:,}"
    figures["gaps"].text = f"{now.gaps:,} / {now.resyncs:,} repaired"
    figures["elapsed"].text = duration(now.now_ns - now.started_ns)
    figures["remaining"].text = duration(now.ends_ns - now.now_ns)


def _feed_row(feed: FeedHealth) -> dict[str, Any]:
    flows = feed.state == _FLOWING
    return {
        "feed": f"{feed.venue} {feed.path}",
        "state": chip(feed.state, "bg-emerald-950 text-emerald-300" if flows else "bg-amber-900 text-amber-200", feed.refused),
        "frames": f"{feed.frames:,}", "frames/s": f"{feed.frames_per_s:,.0f}", "lag ms": number(feed.lag_ms),
        "data age ms": number(feed.data_age_ms), "books": f"{feed.books_standing} of {feed.books}", "gaps": feed.gaps,
        "repaired": feed.resyncs, "reconnects": feed.reconnects,
    }  # fmt: skip
