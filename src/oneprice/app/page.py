"""The page itself, in NiceGUI: one screen, four questions. Is the data good? Where do prices disagree? What was traded?
What did it come to? And below, what is the recording worth?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from nicegui import ui

from oneprice.app.dashboard import Page
from oneprice.app.dashboard_gates import GatesSection
from oneprice.app.dashboard_parts import (
    CARD,
    REFRESH_S,
    columns,
    figure_card,
    headline,
    number,
    table,
    time_of_day,
)
from oneprice.data.certify.live import LiveQuality, LiveVerdicts
from oneprice.engine.view import RunView
from oneprice.model.time import NS_PER_S

_CHART = {
    "backgroundColor": "transparent",
    "grid": {"left": 56, "right": 16, "top": 16, "bottom": 28},
    "tooltip": {"trigger": "axis"},
    "xAxis": {"type": "time", "axisLabel": {"color": "#94a3b8"}},
    "yAxis": {
        "type": "value", "scale": True, "axisLabel": {"color": "#94a3b8"},
        "splitLine": {"lineStyle": {"color": "#1e293b"}},
    },
    "series": [
        {
            "type": "line", "showSymbol": False, "name": "net result, USDT", "data": [],
            "lineStyle": {"color": "#34d399", "width": 2}, "areaStyle": {"color": "#34d399", "opacity": 0.12},
        }
    ],
}  # fmt: skip


class PageView(RunView, frozen=True, kw_only=True):
    """A run, and what its own session is worth so far."""

    gates: LiveVerdicts


def run_page(run: Callable[[], RunView], quality: LiveQuality) -> Page:
    """The page of a run; its session is judged when somebody looks."""

    def view() -> PageView:
        return PageView(**msgspec.structs.asdict(run()), gates=quality.now())

    return Page(
        view=view, parts=("feeds", "books", "sightings", "recent_trades", "pnl", "gates"), build=lambda: _build(view)
    )  # fmt: skip


def _build(view: Callable[[], PageView]) -> None:
    """Register the page; each browser gets its own copy, fed twice a second from the same view."""

    @ui.page("/")
    def page() -> None:
        figures: dict[str, Any] = {"headline": headline()}
        with ui.row().classes("w-full gap-3 px-2"):
            for name in ("events", "gaps", "opportunities", "trades", "fees", "net result"):
                figures[name] = figure_card(name)
        with ui.row().classes("w-full gap-3 px-2 no-wrap items-stretch"):
            with ui.column().classes("w-7/12 gap-3"):
                with ui.card().classes(f"{CARD} w-full p-0 gap-0"):
                    ui.label("Net result after fees and slippage, USDT").classes(
                        "text-sm text-slate-300 px-4 pt-3 font-medium"
                    )
                    chart = ui.echart(dict(_CHART)).classes("w-full h-56")
                sightings = table("Opportunities", columns("opportunity", "time", "what", "gross bps", "net bps"), "id")
                trades = table("Trades on paper", columns("trade", "time", "gross", "fees", "slippage", "net"), "id")
            with ui.column().classes("w-5/12 gap-3"):
                feeds = table(
                    "Feeds", columns("feed", "state", "frames", "lag ms", "gaps", "resyncs", "reconnects"), "feed"
                )
                books = table("Books", columns("instrument", "bid", "ask", "spread bps", "age ms"), "instrument")
        with ui.column().classes("w-full gap-3 px-2"):
            gates = GatesSection(view().gates)
        figures["foot"] = ui.label().classes("text-xs text-slate-500 font-mono px-2")

        def refresh() -> None:
            now = view()
            _fill_figures(figures, now)
            gates.show(now.gates)
            _fill_tables(now, feeds=feeds, books=books, sightings=sightings, trades=trades)
            chart.options["series"][0]["data"] = [[ts // 1_000_000, round(net, 4)] for ts, net in now.pnl]
            chart.update()

        refresh()
        ui.timer(REFRESH_S, refresh)


def _fill_figures(figures: dict[str, Any], now: RunView) -> None:
    running_s = (now.now_ns - now.started_ns) / NS_PER_S if now.now_ns else 0.0
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(now.opportunities.items()))
    figures["headline"].text = f"{now.mode} · running {running_s:,.0f} s · {kinds or 'nothing found yet'}"
    figures["events"].text = f"{now.events:,}"
    figures["gaps"].text = f"{now.gaps:,} / {now.resyncs:,} repaired"
    figures["opportunities"].text = f"{sum(now.opportunities.values()):,}"
    figures["trades"].text = f"{now.trades:,}"
    figures["fees"].text = f"{now.fees:,.2f}"
    figures["net result"].text = f"{now.net_pnl:+,.2f}"
    figures["net result"].classes(
        replace=f"text-2xl font-mono {'text-emerald-400' if now.net_pnl >= 0 else 'text-rose-400'}"
    )
    books = "the ledger balances to the last unit" if now.balanced else "THE LEDGER DOES NOT BALANCE"
    figures["foot"].text = f"{books} · {now.decisions:,} decisions · decision hash {now.decision_hash[:16]}…"


def _fill_tables(now: RunView, *, feeds: Any, books: Any, sightings: Any, trades: Any) -> None:
    feeds.rows = [
        {
            "feed": f"{feed.venue} {feed.path}", "state": feed.state, "frames": f"{feed.frames:,}",
            "lag ms": number(feed.lag_ms), "gaps": feed.gaps, "resyncs": feed.resyncs, "reconnects": feed.reconnects,
        }
        for feed in now.feeds
    ]  # fmt: skip
    books.rows = [
        {
            "instrument": book.instrument, "bid": book.bid, "ask": book.ask,
            "spread bps": number(book.spread_bps) if book.valid else "no book", "age ms": number(book.age_ms),
        }
        for book in now.books
    ]  # fmt: skip
    sightings.rows = [
        {
            "id": f"{sighting.ts_ns}{sighting.key}{sighting.what}", "opportunity": sighting.key,
            "time": time_of_day(sighting.ts_ns), "what": sighting.what, "gross bps": number(sighting.gross_bps),
            "net bps": number(sighting.net_bps),
        }
        for sighting in reversed(now.sightings)
    ]  # fmt: skip
    trades.rows = [
        {
            "id": f"{trade.ts_ns}{trade.key}", "trade": f"{trade.strategy}: {trade.key}",
            "time": time_of_day(trade.ts_ns), "gross": f"{trade.gross:,.2f}", "fees": f"{trade.fees:,.2f}",
            "slippage": f"{trade.slippage:,.2f}", "net": f"{trade.net:+,.2f}",
        }
        for trade in reversed(now.recent_trades)
    ]  # fmt: skip
