"""Hashes of a folder's files, and the damage that they reveal.

Each file is hashed whole (SHA-256) and in pieces of 64 KiB, so that a changed byte is located; a Merkle root over all of
them is one number to quote. The manifest itself is sealed by a `.sha256` file beside it, in the form that `sha256sum -c`
reads. While a new manifest takes the place of an old one the seal names both, so that a sudden end at any instant leaves a
manifest that its seal knows."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from oneprice.model.errors import SessionError

NAME = "manifest.json"  # of a run; a session's is `session_manifest.json`
_PIECE = 64 * 1024
_SEAL = ".sha256"
_ASIDE = ".new"  # what a sudden end may leave of a manifest that was being written
_FEW = 8


class FileEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A file as it was when the manifest was written. `pieces`: the first 16 hex digits of each 64 KiB's SHA-256."""

    path: str
    size: int
    sha256: str
    pieces: tuple[str, ...]


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """What is wrong with a file, and from which byte on."""

    file: str
    offset: int
    what: str


def entry_of(folder: Path, path: Path) -> FileEntry:
    whole = hashlib.sha256()
    pieces = []
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            whole.update(piece)
            pieces.append(hashlib.sha256(piece).hexdigest()[:16])
    return FileEntry(
        path=path.relative_to(folder).as_posix(), size=path.stat().st_size, sha256=whole.hexdigest(),
        pieces=tuple(pieces),
    )  # fmt: skip


def files_below(manifest: Path) -> list[Path]:
    """Every regular file of a manifest's folder but itself and its seal, in order of their paths."""
    own = {with_end(manifest, end) for end in ("", _ASIDE, _SEAL, _SEAL + _ASIDE)}
    return sorted(path for path in manifest.parent.rglob("*") if path.is_file() and path not in own)


def merkle_root(entries: Iterable[FileEntry]) -> str:
    """One hash over paths and contents of files, in their order (RFC 6962, section 2.1: leaves and nodes hash apart)."""

    def root(leaves: list[bytes]) -> bytes:
        if len(leaves) == 1:
            return leaves[0]
        half = 1 << (len(leaves) - 1).bit_length() - 1
        return hashlib.sha256(b"\1" + root(leaves[:half]) + root(leaves[half:])).digest()

    leaves = [hashlib.sha256(b"\0" + f"{one.path}\0{one.sha256}".encode()).digest() for one in entries]
    return root(leaves).hex() if leaves else hashlib.sha256().hexdigest()


def seal_path(manifest: Path) -> Path:
    return with_end(manifest, _SEAL)


def write_manifest(path: Path, values: Any, *, is_durable: bool = True) -> None:
    """Write a manifest and its seal, each whole or not at all (a new file takes the place of the old one).

    Durable: it survives the machine's sudden end, not only the process's; that waits for the disk.
    """
    text = msgspec.json.format(msgspec.json.encode(values, order="deterministic"), indent=1)
    seal, place = _seal_of(path, text), seal_path(path)
    try:
        if path.exists():
            _replace(place, seal + _seal_of(path, path.read_bytes()), is_durable=is_durable)
        else:
            _replace(place, seal, is_durable=is_durable)
        _replace(path, text, is_durable=is_durable)
        _replace(place, seal, is_durable=is_durable)
    except OSError as wrong:
        raise SessionError(f"{path}: cannot be written: {wrong.strerror}") from wrong


def _seal_of(path: Path, text: bytes) -> bytes:
    return f"{hashlib.sha256(text).hexdigest()}  {path.name}\n".encode()


def _replace(path: Path, content: bytes, *, is_durable: bool) -> None:
    aside = with_end(path, _ASIDE)
    with aside.open("wb") as file:
        file.write(content)
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
    aside.replace(path)


def check_seal(manifest: Path) -> Damage | None:
    """Whether the manifest is the one that was sealed; where it is not, which of the two was changed."""
    seal = seal_path(manifest)
    for path in (manifest, seal):
        if not path.exists():
            return Damage(file=path.name, offset=0, what="missing")
    expected, found = _seal_of(manifest, manifest.read_bytes()), seal.read_bytes()
    if found == expected or expected in found.splitlines(keepends=True):
        return None
    # Another manifest would have another hash altogether; where only a few characters differ, the seal was changed.
    differing = [k for k, (ours, theirs) in enumerate(zip(expected, found, strict=False)) if ours != theirs]
    if len(differing) <= _FEW:
        place = differing[0] if differing else min(len(found), len(expected))
        return Damage(file=seal.name, offset=place, what="changed; the manifest itself is what was written")
    return Damage(file=manifest.name, offset=0, what="not the manifest that was sealed")


def check_files(folder: Path, entries: Iterable[FileEntry]) -> list[Damage]:
    """Every file that is missing, longer, shorter or different, with the first byte from which that may be so."""
    found = []
    for entry in entries:
        path = folder / entry.path
        if not path.exists():
            found.append(Damage(file=entry.path, offset=0, what="missing"))
            continue
        now = entry_of(folder, path)
        if now == entry:
            continue
        place = next(
            (k for k, (then, today) in enumerate(zip(entry.pieces, now.pieces, strict=False)) if then != today),
            min(len(entry.pieces), len(now.pieces)),
        )
        length = f", {now.size} bytes instead of {entry.size}" if now.size != entry.size else ""
        what = f"changed within the 64 KiB from byte {place * _PIECE}{length}"
        found.append(Damage(file=entry.path, offset=place * _PIECE, what=what))
    return found


def read_manifest(path: Path, kind: Any) -> Any:
    """A manifest as `kind`; SessionError when there is none or it cannot be read."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, NotADirectoryError):
        raise SessionError(f"{path.parent}: no {path.name} here, so this is not a folder that oneprice wrote") from None
    except OSError as wrong:
        raise SessionError(f"{path}: cannot be read: {wrong.strerror}") from wrong
    except (msgspec.DecodeError, ValueError) as wrong:
        raise SessionError(f"{path}: cannot be read: {wrong}") from wrong


def with_end(path: Path, end: str) -> Path:
    """The path of a file that belongs to another, and is called as that one with something behind it."""
    return path.with_name(path.name + end)
