"""The quality of a session on a page: every gate of every symbol as a coloured cell, why a gate is not passed, and the last
gaps."""

from __future__ import annotations

from collections import Counter
from typing import Any

from nicegui import ui

from oneprice.app.certificate import figures
from oneprice.app.dashboard_parts import chip, columns, table, time_of_day
from oneprice.data.certify.gaps import GapEntry
from oneprice.data.certify.gates import GateResult, Status
from oneprice.data.certify.live import LiveVerdicts
from oneprice.data.certify.publish import CERTIFIED
from oneprice.model.time import NS_PER_MS

_GOOD = "bg-emerald-950 text-emerald-300"
_DOUBTFUL = "bg-amber-900 text-amber-200"
_LOOKS = {
    Status.PASS: _GOOD,
    Status.WARN: _DOUBTFUL,
    Status.FAIL: "bg-rose-700 text-white font-semibold",
    Status.NOT_APPLICABLE: "text-slate-500",
}
_TEXTS = {Status.NOT_APPLICABLE: "n/a"}
_COUNTED = {
    Status.PASS: "passed", Status.WARN: "warnings", Status.FAIL: "failed", Status.NOT_APPLICABLE: "not applicable",
}  # fmt: skip
_NOT_PASSED = (Status.FAIL, Status.WARN)  # the worst first


class GatesSection:
    """The tables, and what they show."""

    def __init__(self, first: LiveVerdicts) -> None:
        """`first` tells which gates there are."""
        names = [gate.name for symbol in list(first.symbols.values())[:1] for gate in symbol.gates]
        shown = [
            _column("symbol", "left"),
            _column("tier so far", "left"),
            *(_column(name, "center") for name in names),
        ]
        self._gates = table("Quality gates", shown, "symbol")
        self._counts = ui.label().classes("text-xs text-slate-400 px-2")
        self._wrong = table(
            "Not passed", columns("gate", "symbol", "status", "why", left=("symbol", "status", "why")), "id"
        )
        self._gaps = table(
            "Gap ledger, newest first",
            columns(
                "symbol", "at", "reason", "last good", "expected", "received", "repair", "book invalid, ms",
                left=("at", "reason", "repair"),
            ), "id",
        )  # fmt: skip
        self._shown: LiveVerdicts | None = None

    def show(self, now: LiveVerdicts) -> None:
        """Fill the tables; verdicts that stand there already are left alone, so that a page can be read and selected."""
        if now is self._shown:
            return
        self._shown = now
        self._gates.rows = [
            {"symbol": name, "tier so far": tier_chip(symbol.tier), **{gate.name: _cell(gate) for gate in symbol.gates}}
            for name, symbol in now.symbols.items()
        ]  # fmt: skip
        gates = [gate for symbol in now.symbols.values() for gate in symbol.gates]
        counts = Counter(gate.status for gate in gates)
        self._counts.text = (
            " · ".join(f"{counts[status]} {_COUNTED[status]}" for status in Status)
            + " · determinism is judged when the session ends"
        )
        wrong = [gate for gate in gates if gate.status in _NOT_PASSED]
        self._wrong.rows = [
            {
                "id": f"{gate.symbol} {gate.name}", "gate": _spoken(gate.name), "symbol": gate.symbol, "status": _cell(gate),
                "why": gate.reason,
            }
            for gate in sorted(wrong, key=lambda gate: _NOT_PASSED.index(gate.status))
        ]  # fmt: skip
        self._gaps.rows = [_gap_row(place, gap) for place, gap in reversed(list(enumerate(now.gaps)))]


def tier_chip(tier: str) -> dict[str, str]:
    return chip(tier, _GOOD if tier == CERTIFIED else _DOUBTFUL)


def _column(name: str, align: str) -> dict[str, Any]:
    return {"name": name, "label": _spoken(name), "field": name, "align": align}


def _spoken(gate: str) -> str:
    return gate.replace("_", " ")


def _cell(gate: GateResult) -> dict[str, str]:
    return chip(_TEXTS.get(gate.status, str(gate.status)), _LOOKS[gate.status], gate.reason or figures(gate))


def _gap_row(place: int, gap: GapEntry) -> dict[str, Any]:
    def told(update_id: int | None) -> str:
        return "–" if update_id is None else str(update_id)

    return {
        "id": place, "symbol": gap.symbol, "at": time_of_day(gap.at_ns), "reason": gap.reason,
        "last good": told(gap.last_good_id), "expected": told(gap.expected_id), "received": told(gap.received_id),
        "repair": gap.repair.replace("_", " "), "book invalid, ms": f"{gap.invalid_ns / NS_PER_MS:,.1f}",
    }  # fmt: skip
