"""The summary of a run as a table for people."""

from __future__ import annotations

from oneprice.app.output import people, say, table
from oneprice.engine.summary import RunSummary


def show_summary(summary: RunSummary) -> None:
    """Opportunities by type (paying: after the fees of every fill), then what the trades came to."""
    rows = [
        (
            name, f"{found.seen:,}", f"{found.paying:,}", _number(found.gross_bps_median), _number(found.gross_bps_max),
            _number(found.net_bps_max), _number(found.lifetime_ms_median),
        )
        for name, found in sorted(summary.opportunities_by_type.items())
    ]  # fmt: skip
    columns = ("found", "seen", "paying", "gross bps", "best", "best net", "life ms")
    people.print(table("", rows, columns))
    totals = [
        ("events", f"{summary.events:,}"),
        ("gaps / repaired", f"{summary.gaps:,} / {summary.resyncs:,}"),
        ("trades (orders, fills)", f"{summary.trades:,} ({summary.orders:,}, {summary.fills:,})"),
        ("gross edge, USDT", f"{summary.gross_edge:,.2f}"),
        ("fees", f"{summary.fees:,.2f}"),
        ("slippage", f"{summary.slippage:,.2f}"),
        ("funding", f"{summary.funding:,.2f}"),
        ("net result", f"{summary.net_pnl:+,.2f}"),
        ("ledger", "balances to the last unit" if summary.balanced else "DOES NOT BALANCE"),
    ]
    people.print(table("", totals, ("total", "")))
    if summary.note:
        say(summary.note)
    say(f"decision hash {summary.decision_hash} over {summary.decisions:,} decisions")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}"
