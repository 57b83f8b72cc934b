"""What is made of a session when it ends, by symbol: files to read, and a manifest that says what they are worth.

Everything here is a function of the tape, the raw log and the terms, so that anyone who has the session can make it again
(`validate.py` does)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from oneprice import __version__
from oneprice.data.certify.gaps import BookValidity, GapEntry, GapLedger
from oneprice.data.certify.gates import GateResult, SessionFacts, Status, judge, tier
from oneprice.data.certify.measures import Measuring, SymbolMeasures
from oneprice.data.certify.names import session_names
from oneprice.data.certify.replay_hash import replay_hashes
from oneprice.data.certify.terms import Terms
from oneprice.data.export.jsonl import write_jsonl
from oneprice.data.export.tables import write_parquet
from oneprice.data.rederive import first_divergence, recorded_rows, rederived_rows
from oneprice.data.session import Session
from oneprice.model.instrument import Instrument
from oneprice.model.progress import Progress
from oneprice.venues.base import Channel

SCHEMA = 1
SYMBOL_MANIFEST = "manifest.json"
CERTIFIED = "CERTIFIED"


class StreamFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of one symbol. `events`: lines of a JSONL file; None for a table, whose file says it itself."""

    path: str
    size: int
    sha256: str
    events: int | None = None


class SymbolVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a session is worth for one symbol, in short."""

    tier: str
    reasons: tuple[str, ...]
    events: Mapping[str, int]  # lines by stream
    gaps: int
    invalid_ns: int  # how long the book did not stand
    replay_hash: str
    gates: tuple[GateResult, ...]

    @property
    def is_certified(self) -> bool:
        return self.tier == CERTIFIED


class SymbolManifest(msgspec.Struct, frozen=True, kw_only=True):
    """manifest.json in a symbol's folder. Times are receive times in ns; `instrument` holds the venue's rules of that day."""

    schema: int = SCHEMA
    oneprice: str = __version__
    symbol: str
    instrument: Instrument
    verdict: SymbolVerdict
    measures: SymbolMeasures
    gap_ledger: tuple[GapEntry, ...]
    book_validity: BookValidity
    files: tuple[StreamFile, ...]

    def to_json(self) -> bytes:
        return msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=1)


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """What a whole session is worth. `holds`: no hard gate failed, and every symbol replays to the hash it was given."""

    tier: str
    holds: bool
    symbols: Mapping[str, SymbolVerdict]


def publish(session: Session, terms: Terms, *, progress: Progress) -> Certificate:
    """Write every symbol's files and manifest into the session's folder, and judge them. Both logs must be complete.

    DamagedSegment where they are damaged, SessionError where the disk refuses.
    """
    names = session_names(session.instruments)
    progress(0.0, "files")
    files = derive(session, session.folder, is_plain=terms.is_plain)
    progress(0.4, "measures")
    made = verdicts(session, terms, files, progress=lambda done, note: progress(0.4 + 0.6 * done, note))
    for name, manifest in made.items():
        (session.folder / name / SYMBOL_MANIFEST).write_bytes(manifest.to_json())
    return certificate_of({name: made[name].verdict for name in names})


def derive(session: Session, into: Path, *, is_plain: bool) -> dict[str, list[tuple[Path, int | None]]]:
    """Write the files of every symbol below a folder; → by symbol, each with its lines (tables: None)."""
    names = session_names(session.instruments)
    found: dict[str, list[tuple[Path, int | None]]] = {name: [] for name in names}
    for line_file in write_jsonl(into, session.rows(), session.instruments, names, plain=is_plain):
        if line_file.lines:
            found[names[line_file.instrument]].append((line_file.path, line_file.lines))
        else:
            line_file.path.unlink()
    for table in write_parquet(session, into):
        found[table.partition("/")[0]].append((into / table, None))
    return found


def verdicts(
    session: Session,
    terms: Terms,
    files: Mapping[str, Sequence[tuple[Path, int | None]]],
    *,
    below: Path | None = None,
    progress: Progress,
) -> dict[str, SymbolManifest]:
    """What every symbol is worth, by its name. `below`: the folder that its files are in, where it is not the session's."""
    instruments = session.instruments
    names = session_names(instruments)
    measuring = Measuring(instruments, trade_tolerance_bps=terms.gates.trade_tolerance_bps)
    ledger = GapLedger(instruments)
    for rows in session.rows():
        measuring.add(rows)
        ledger.add(rows)
    measures = measuring.result()
    progress(0.3, "replay")
    recorded = replay_hashes(recorded_rows(session), instruments)
    if first_divergence(session, is_whole=True) is None:
        replayed = recorded  # equal row by row, so equal in whatever is made of them
    else:
        replayed = replay_hashes(rederived_rows(session), instruments)
    progress(1.0, "replay")
    facts = SessionFacts(
        source=session.manifest.source, is_strict=terms.is_strict, without_depth=without_depth(session, names),
        replay_equal={name: ours == theirs for name, ours, theirs in zip(names, recorded, replayed, strict=True)},
    )  # fmt: skip
    results = judge(measures, facts, terms.gates)
    entries = ledger.entries()
    found = {}
    for name, instrument, one, validity, replay_hash in zip(
        names, instruments, measures.symbols, ledger.validity(), recorded, strict=True
    ):
        gates = tuple(result for result in results if result.symbol == name)
        grade, reasons = tier(gates)
        streams = tuple(_stream_file(below or session.folder, path, lines) for path, lines in files[name])
        found[name] = SymbolManifest(
            symbol=name, instrument=instrument, measures=one, book_validity=validity,
            gap_ledger=tuple(entry for entry in entries if entry.symbol == name), files=streams,
            verdict=SymbolVerdict(
                tier=grade, reasons=reasons, gaps=one.gaps, invalid_ns=validity.invalid_ns, replay_hash=replay_hash,
                events={Path(file.path).name.partition(".")[0]: file.events for file in streams if file.events is not None},
                gates=gates,
            ),
        )  # fmt: skip
    return found


def certificate_of(symbols: Mapping[str, SymbolVerdict]) -> Certificate:
    gates = [gate for symbol in symbols.values() for gate in symbol.gates]
    return Certificate(
        tier=CERTIFIED if all(symbol.is_certified for symbol in symbols.values()) else "NON_CERTIFIED",
        holds=not any(gate.status is Status.FAIL for gate in gates),
        symbols=symbols,
    )


def _stream_file(folder: Path, path: Path, lines: int | None) -> StreamFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    return StreamFile(
        path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=digest.hexdigest(), events=lines
    )


def without_depth(session: Session, names: Sequence[str]) -> frozenset[str]:
    """Symbols whose depth the plan did not ask for. A recording is judged by what is in it."""
    plans = session.manifest.configuration.get("plan", {}).get("venues", {})
    return frozenset(
        name
        for name, instrument in zip(names, session.instruments, strict=True)
        if Channel.DEPTH not in plans.get(instrument.venue, {}).get("channels", [Channel.DEPTH])
    )
