"""A session held against itself: its files against their hashes, its rows against the raw frames, its symbols' files and
verdicts against what the rows give when all of it is made again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from oneprice.data import manifest
from oneprice.data.certify.gates import GateResult, Status
from oneprice.data.certify.publish import SYMBOL_MANIFEST, SymbolManifest, SymbolVerdict, derive, verdicts
from oneprice.data.certify.terms import terms_of
from oneprice.data.manifest import Damage
from oneprice.data.rederive import Divergence, first_divergence
from oneprice.data.session import CUT, Session, check_folder
from oneprice.model.errors import SessionError
from oneprice.model.progress import Progress, untold
from oneprice.model.time import NS_PER_S

_COMPARED = 1 << 20


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a session, in seconds from its first row. The raw log before it is replayed, too, for its books' sake."""

    start_s: float
    length_s: float


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """What a validation found. `is_intact`: nothing was changed and everything can be made again; `holds`: and no hard gate
    failed, then or now. `symbols` is what the session is worth as judged now; empty where its rows cannot be read, and for a
    slice."""

    session: str
    state: str
    is_intact: bool
    holds: bool
    merkle_root: str
    rows: int
    damage: tuple[Damage, ...] = ()
    divergence: Divergence | None = None
    symbols: dict[str, SymbolVerdict] = {}

    def gates(self) -> Iterator[tuple[str, GateResult]]:
        for name, symbol in self.symbols.items():
            for gate in symbol.gates:
                yield name, gate


def validate(folder: Path, *, part: Slice | None = None, progress: Progress) -> Validation:
    """Check a session that has ended. SessionError for what is not one, or was cut and is not finished yet."""
    try:
        session = Session.open(folder)
    except SessionError:
        damage = check_folder(folder) if folder.is_dir() else []
        if not damage:
            raise
        return Validation(
            session=str(folder), state="unreadable", is_intact=False, holds=False, merkle_root="", rows=0,
            damage=tuple(damage),
        )  # fmt: skip
    if session.state == CUT:
        raise SessionError(f"{folder}: this session was cut; `oneprice recover {folder}` finishes it")
    progress(0.0, "files against their hashes")
    damage = session.check()
    root = manifest.merkle_root(session.manifest.files)
    if root != session.manifest.merkle_root:
        damage.append(Damage(file="session_manifest.json", offset=0, what="its Merkle root is not that of its files"))
    divergence: Divergence | None = None
    symbols: dict[str, SymbolVerdict] = {}
    try:
        progress(0.2, "rows from the raw frames")
        span = session.span_ns()
        until_ns = None
        if part is not None and span is not None:
            until_ns = span[0] + int((part.start_s + part.length_s) * NS_PER_S)
        divergence = first_divergence(session, until_ns=until_ns)
        if part is None:
            progress(0.5, "files and verdicts from the rows")
            symbols, found = _made_again(session, progress=lambda done, note: progress(0.5 + done / 2, note))
            remade = {one.file for one in found}  # these know the very byte
            damage = [one for one in damage if one.file not in remade] + found
    except SessionError:  # it cannot be read any further, and the hashes have told why
        if not damage:
            raise
    is_intact = not damage and divergence is None
    has_failed = any(gate.status is Status.FAIL for symbol in symbols.values() for gate in symbol.gates)
    return Validation(
        session=str(folder), state=session.state, is_intact=is_intact, holds=is_intact and not has_failed,
        merkle_root=root, rows=session.manifest.rows, damage=tuple(damage), divergence=divergence, symbols=symbols,
    )  # fmt: skip


def _made_again(session: Session, *, progress: Progress) -> tuple[dict[str, SymbolVerdict], list[Damage]]:
    """Every symbol's files and verdict made anew, and where those in the session differ."""
    terms = terms_of(session.manifest)
    is_certified = bool(session.manifest.certificate)  # a run's own session has no files by symbol
    with TemporaryDirectory() as aside:
        files = derive(session, Path(aside), is_plain=terms.is_plain)
        progress(0.4, "verdicts from the rows")
        made = verdicts(session, terms, files, below=Path(aside), progress=untold)
        damage = list(_differences(session.folder, Path(aside), made)) if is_certified else []
    return {name: one.verdict for name, one in made.items()}, damage


def _differences(folder: Path, again: Path, made: dict[str, SymbolManifest]) -> Iterator[Damage]:
    for name, manifest_again in made.items():
        (again / name).mkdir(exist_ok=True)
        path = again / name / SYMBOL_MANIFEST
        path.write_bytes(manifest_again.to_json())
        for ours in sorted((again / name).iterdir()):
            place = f"{name}/{ours.name}"
            theirs = folder / place
            if not theirs.exists():
                yield Damage(file=place, offset=0, what="missing")
            elif (offset := _first_difference(ours, theirs)) is not None:
                yield Damage(file=place, offset=offset, what="not what the session's rows give")


def _first_difference(one: Path, other: Path) -> int | None:
    """The first byte at which two files differ."""
    with one.open("rb") as ours, other.open("rb") as theirs:
        offset = 0
        while True:
            left, right = ours.read(_COMPARED), theirs.read(_COMPARED)
            if left != right:
                pairs = zip(left, right, strict=False)
                return offset + next((k for k, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
            if not left:
                return None
            offset += len(left)
