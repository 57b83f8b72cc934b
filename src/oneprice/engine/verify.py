"""The proof of a run: is everything on disk as it was written, does the raw log give the tape, does the tape give the
decisions? Each step names the first thing that is not so."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from oneprice.data import manifest
from oneprice.data.machines import reports_of
from oneprice.data.manifest import Damage
from oneprice.data.rederive import Divergence, first_divergence
from oneprice.data.replay import Replay
from oneprice.data.session import Session
from oneprice.engine.decisions import DecisionLog, read_decisions
from oneprice.engine.run import DECISIONS, LEDGER, SESSION, Run, RunManifest, read_run
from oneprice.engine.settings import Mode
from oneprice.model.errors import OnepriceError, SessionError
from oneprice.model.progress import Progress
from oneprice.trading.ledger import Ledger
from oneprice.trading.relay import Relay


class DecisionDivergence(msgspec.Struct, frozen=True, kw_only=True):
    """The first line of the decision log that the replay does not give."""

    n: int
    recorded: dict[str, Any] | None
    replayed: dict[str, Any] | None


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a proof found. `match`: files, rows, decisions and ledger are all what they should be."""

    run_dir: str
    match: bool
    state: str  # closed, or cut: then what is there must be a beginning of what the replay gives
    recorded_hash: str
    replayed_hash: str
    decisions: int
    rows: int
    ledger_match: bool | None  # None: not compared, because the run cannot be replayed
    damage: tuple[Damage, ...] = ()
    row_divergence: Divergence | None = None
    decision_divergence: DecisionDivergence | None = None
    first: str = ""  # the first thing that is not so, in a sentence


def verify_run(folder: Path, *, progress: Progress) -> Verdict:
    """Prove a run from its folder alone (a backtest: and from the sessions it names)."""
    run_manifest: RunManifest = manifest.read_manifest(folder / manifest.NAME, RunManifest)
    if run_manifest.kind != "run":
        raise SessionError(f"{folder}: a session, not a run; `oneprice replay` reads sessions")
    closed = run_manifest.state == "closed"
    progress(0.05, "checking files")
    damage = _damage(folder, run_manifest, closed=closed)
    try:
        return _proved(folder, damage, closed=closed, progress=progress)
    except (OnepriceError, msgspec.DecodeError, ValueError, KeyError, IndexError) as wrong:
        if not damage:
            raise
        return Verdict(
            run_dir=str(folder), match=False, state="closed" if closed else "cut", recorded_hash="", replayed_hash="",
            decisions=0, rows=0, ledger_match=None, damage=tuple(damage),
            first=f"{damage[0].file}: {damage[0].what}; it cannot be replayed ({wrong})",
        )  # fmt: skip


def _proved(
    folder: Path, damage: list[Damage], *, closed: bool, progress: Progress
) -> Verdict:  # fmt: skip
    record = read_run(folder)
    sessions = [Session.open(folder / SESSION)] if not record.sessions else []
    for used in record.sessions:
        session = Session.open(Path(used.folder))
        damage += [msgspec.structs.replace(found, file=f"{used.folder}/{found.file}") for found in session.check()]
        if used.seal and session.seal != used.seal:
            damage.append(Damage(file=used.folder, offset=0, what="not the session that the run read"))
        sessions.append(session)
    progress(0.2, "rows from the raw log")
    row_divergence = next(filter(None, (first_divergence(session) for session in sessions)), None)
    progress(0.5, "decisions from the rows")
    with TemporaryDirectory() as aside:
        replay = Replay(sessions, timer_ms=record.settings.timer_ms)
        again = Path(aside) / DECISIONS
        execution = Relay(reports_of(sessions[0])) if record.settings.mode is Mode.LIVE else None
        run = Run(record.settings, replay.instruments, None, decisions=DecisionLog(again), execution=execution)
        rows = 0
        for chunk in replay.rows():
            run.on_rows(chunk)
            rows += len(chunk)
        run.decisions.close()
        recorded_hash, count, decision_divergence = _compare(
            read_decisions(folder / DECISIONS), read_decisions(again), whole=closed
        )
    progress(0.95, "ledger")
    ledger_match = _ledger_matches(folder, run.ledger, whole=closed)
    match = not damage and row_divergence is None and decision_divergence is None and ledger_match is not False
    return Verdict(
        run_dir=str(folder),
        match=match,
        state="closed" if closed else "cut",
        recorded_hash=recorded_hash,
        replayed_hash=run.decisions.hash,
        decisions=count,
        rows=rows,
        ledger_match=ledger_match,
        damage=tuple(damage),
        row_divergence=row_divergence,
        decision_divergence=decision_divergence,
        first=_first(damage, row_divergence, decision_divergence, ledger_match),
    )


def _damage(folder: Path, run_manifest: RunManifest, *, closed: bool) -> list[Damage]:
    found: list[Damage] = []
    if closed:
        seal = manifest.check_seal(folder / manifest.NAME)
        found += [seal] if seal is not None else []
        found += manifest.check_files(folder, run_manifest.files)
    if (folder / SESSION).exists():
        session = Session.open(folder / SESSION)
        found += [msgspec.structs.replace(one, file=f"{SESSION}/{one.file}") for one in session.check()]
    return found


def _compare(
    recorded: Iterator[tuple[bytes, dict[str, Any]]], replayed: Iterator[tuple[bytes, dict[str, Any]]], *, whole: bool
) -> tuple[str, int, DecisionDivergence | None]:
    """(last recorded hash, lines recorded, first line that differs). A cut log may end early."""
    last, count = "0" * 64, 0
    for ours, theirs in zip_longest(recorded, replayed):
        if ours is None:
            if whole:
                return last, count, DecisionDivergence(n=count, recorded=None, replayed=theirs[1])
            break
        if theirs is None or ours[0] != theirs[0]:
            found = DecisionDivergence(n=count, recorded=ours[1], replayed=theirs[1] if theirs is not None else None)
            return str(ours[1].get("hash", last)), count, found
        last = str(ours[1]["hash"])
        count += 1
    return last, count, None


def _ledger_matches(folder: Path, replayed: Ledger, *, whole: bool) -> bool:
    """A whole run's ledger is the replay's. A cut one's orders are a beginning of them (the tape is written ahead of every
    order), and its reports agree as far as both go: the last ones may have come after the tape's last flush."""
    with TemporaryDirectory() as aside:
        for suffix in ("", "-wal", "-shm"):
            part = folder / f"{LEDGER}{suffix}"
            if part.exists():
                (Path(aside) / part.name).write_bytes(part.read_bytes())
        recorded = Ledger(Path(aside) / LEDGER)
        if whole:
            return recorded.digest() == replayed.digest()
        orders, reports = recorded.orders(), recorded.reports()
        common = min(len(reports), len(replayed.reports()))
        return (
            recorded.balanced()
            and orders == replayed.orders()[: len(orders)]
            and reports[:common] == replayed.reports()[:common]
        )


def _first(
    damage: list[Damage], rows: Divergence | None, decisions: DecisionDivergence | None, ledger_match: bool | None
) -> str:
    if damage:
        return f"{damage[0].file}: {damage[0].what}"
    if rows is not None:
        return f"row {rows.row}: the raw log gives {rows.rederived}, the tape has {rows.recorded}"
    if decisions is not None:
        return f"decision {decisions.n}: the replay decides otherwise"
    return "" if ledger_match is not False else "the ledger is not what the replay writes"
