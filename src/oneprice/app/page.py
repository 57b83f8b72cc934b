"""The page itself, in NiceGUI: one screen, four questions. Is the data good? Where do prices disagree? What was traded?
What did it come to?"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from nicegui import ui

from oneprice.engine.view import RunView
from oneprice.model.time import NS_PER_S

_REFRESH_S = 0.5
_CARD = "bg-slate-900 border border-slate-800 rounded-lg shadow-none"
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


def _columns(*names: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "label": name, "field": name, "align": "left" if place == 0 else "right"}
        for place, name in enumerate(names)
    ]


def _table(title: str, columns: list[dict[str, Any]], row_key: str) -> Any:
    with ui.card().classes(f"{_CARD} w-full p-0 gap-0"):
        ui.label(title).classes("text-sm text-slate-300 px-4 pt-3 font-medium")
        return (
            ui.table(columns=columns, rows=[], row_key=row_key)
            .props("dense flat dark hide-bottom virtual-scroll")
            .classes("w-full bg-transparent max-h-80 text-slate-200")
        )


def build_page(view: Callable[[], RunView]) -> None:
    """Register the page; each browser gets its own copy, fed twice a second from the same view."""

    @ui.page("/")
    def page() -> None:
        ui.query("body").classes("bg-slate-950 text-slate-100")
        figures: dict[str, Any] = {}
        with ui.row().classes("w-full items-baseline px-2"):
            ui.label("oneprice").classes("text-2xl font-semibold")
            figures["headline"] = ui.label().classes("text-slate-400 text-sm")
        with ui.row().classes("w-full gap-3 px-2"):
            for name in ("events", "gaps", "opportunities", "trades", "fees", "net result"):
                with ui.card().classes(f"{_CARD} px-4 py-2 gap-0 grow"):
                    ui.label(name).classes("text-xs uppercase tracking-wide text-slate-400")
                    figures[name] = ui.label("–").classes("text-2xl font-mono")
        with ui.row().classes("w-full gap-3 px-2 no-wrap items-stretch"):
            with ui.column().classes("w-7/12 gap-3"):
                with ui.card().classes(f"{_CARD} w-full p-0 gap-0"):
                    ui.label("Net result after fees and slippage, USDT").classes(
                        "text-sm text-slate-300 px-4 pt-3 font-medium"
                    )
                    chart = ui.echart(dict(_CHART)).classes("w-full h-56")
                sightings = _table(
                    "Opportunities", _columns("opportunity", "time", "what", "gross bps", "net bps"), "id"
                )
                trades = _table("Trades on paper", _columns("trade", "time", "gross", "fees", "slippage", "net"), "id")
            with ui.column().classes("w-5/12 gap-3"):
                feeds = _table(
                    "Feeds", _columns("feed", "state", "frames", "lag ms", "gaps", "resyncs", "reconnects"), "feed"
                )
                books = _table("Books", _columns("instrument", "bid", "ask", "spread bps", "age ms"), "instrument")
        figures["foot"] = ui.label().classes("text-xs text-slate-500 font-mono px-2")

        def refresh() -> None:
            now = view()
            _fill_figures(figures, now)
            _fill_tables(now, feeds=feeds, books=books, sightings=sightings, trades=trades)
            chart.options["series"][0]["data"] = [[ts // 1_000_000, round(net, 4)] for ts, net in now.pnl]
            chart.update()

        refresh()
        ui.timer(_REFRESH_S, refresh)


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
            "lag ms": _number(feed.lag_ms), "gaps": feed.gaps, "resyncs": feed.resyncs, "reconnects": feed.reconnects,
        }
        for feed in now.feeds
    ]  # fmt: skip
    books.rows = [
        {
            "instrument": book.instrument, "bid": book.bid, "ask": book.ask,
            "spread bps": _number(book.spread_bps) if book.valid else "no book", "age ms": _number(book.age_ms),
        }
        for book in now.books
    ]  # fmt: skip
    sightings.rows = [
        {
            "id": f"{sighting.ts_ns}{sighting.key}{sighting.what}", "opportunity": sighting.key,
            "time": _time_of_day(sighting.ts_ns), "what": sighting.what, "gross bps": _number(sighting.gross_bps),
            "net bps": _number(sighting.net_bps),
        }
        for sighting in reversed(now.sightings)
    ]  # fmt: skip
    trades.rows = [
        {
            "id": f"{trade.ts_ns}{trade.key}", "trade": f"{trade.strategy}: {trade.key}",
            "time": _time_of_day(trade.ts_ns), "gross": f"{trade.gross:,.2f}", "fees": f"{trade.fees:,.2f}",
            "slippage": f"{trade.slippage:,.2f}", "net": f"{trade.net:+,.2f}",
        }
        for trade in reversed(now.recent_trades)
    ]  # fmt: skip


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.2f}"


def _time_of_day(ts_ns: int) -> str:
    return f"{datetime.fromtimestamp(ts_ns / NS_PER_S, UTC):%H:%M:%S.%f}"[:-3]
