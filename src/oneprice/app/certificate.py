"""How a session ends, and how people are told what it is worth."""

from __future__ import annotations

from pathlib import Path

import msgspec

from oneprice.app.output import people, progress, say, table
from oneprice.data.certify.gates import GateResult, Status
from oneprice.data.certify.publish import Certificate, publish
from oneprice.data.certify.terms import Terms
from oneprice.data.session import Session, SessionManifest, seal

_COLOURS = {Status.PASS: "green", Status.WARN: "yellow", Status.FAIL: "red", Status.NOT_APPLICABLE: "dim"}


def certified(
    folder: Path, manifest: SessionManifest, terms: Terms, *, state: str, stop_reason: str, closed_ns: int
) -> Certificate:  # fmt: skip
    """End a session whose logs are finished: make its files, judge it by symbol, seal it."""
    with progress("certifying", total=1.0) as advance:
        certificate = publish(Session.open(folder), terms, progress=advance)
    manifest.stop_reason = stop_reason
    manifest.certificate = msgspec.to_builtins(certificate)
    seal(folder, manifest, state=state, closed_ns=closed_ns)
    return certificate


def show(certificate: Certificate) -> None:
    """A line a symbol, then every gate that did not simply pass."""
    rows = [
        (
            name, f"{sum(symbol.events.values()):,}", f"{symbol.gaps}",
            f"[{'green' if symbol.is_certified else 'yellow'}]{symbol.tier}[/]",
        )
        for name, symbol in certificate.symbols.items()
    ]  # fmt: skip
    people.print(table("", rows, ("symbol", "events", "gaps", "tier")))
    for name, symbol in certificate.symbols.items():
        for gate in symbol.gates:
            if gate.status is not Status.PASS:
                say(gate_line(name, gate))


def gate_line(name: str, gate: GateResult) -> str:
    """A gate's verdict on a symbol: why it is not passed, or what it was passed with."""
    colour = _COLOURS[gate.status]
    said = gate.reason or f"[dim]{figures(gate)}[/dim]"
    return f"[{colour}]{gate.status:14}[/{colour}] {name:14} {gate.name:18} {said}"


def figures(gate: GateResult) -> str:
    """What a gate was judged by, in one line."""
    return ", ".join(f"{what} {value:,.6g}" for what, value in gate.figures.items() if value is not None)
