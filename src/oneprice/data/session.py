"""A session on disk: what came over the wires, and the tape that was made of it.

    SESSION/
      manifest.json, manifest.json.sha256    what this is, its feeds, its files and their hashes; state open, closed, cut
      instruments.json                       the instrument table that the rows' numbers refer to
      frames/000000.frames                   raw log: everything the feed machines were told, in order
      tape/000000.tape                       rows of the tape, in order

A raw record is `recv_ns i64 | feed i32 | type u8 | length u32 | payload`. Rows are stored byte-plane by byte-plane (first
all first bytes, then all second ones…), which packs three times better. Segments rotate by size; both logs are flushed
together, at most a second behind. A session that ended without `close` is `cut`: it holds everything up to its last flush."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from oneprice import __version__
from oneprice.data import manifest
from oneprice.data.blocks import SegmentWriter, read_blocks, whole_length
from oneprice.data.manifest import Damage, FileEntry
from oneprice.model.errors import InputError, SessionError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ROW, Rows
from oneprice.model.time import NS_PER_S

SCHEMA = 1
_RECORD = struct.Struct("<qiBI")
_BLOCK_BYTES = 1 << 20
_BLOCK_ROWS = 1 << 15
_SEGMENT_BYTES = 256 << 20
FLUSH_EVERY_NS = NS_PER_S // 2


class RecordType(IntEnum):
    """What the raw log tells: the inputs of a feed machine."""

    OPENED = 1  # payload: JSON {"venue", "path", "subscriptions"}
    TEXT = 2
    BINARY = 3
    ANSWER = 4  # payload: JSON line {"venue", "fetch", "status", "headers"} + newline + body
    CLOSED = 5  # payload: JSON {"venue", "reason"}
    DROPPED = 6  # payload: JSON {"venue", "count"}: frames that our own overload lost


class Record(msgspec.Struct, frozen=True):
    recv_ns: int
    feed: int
    type: RecordType
    payload: bytes


class FeedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One connection of the session."""

    number: int
    venue: str
    path: str
    address: str


class SessionManifest(msgspec.Struct, kw_only=True):
    schema: int = SCHEMA
    oneprice: str = __version__
    state: str = "open"  # open: being written, or cut; closed: whole
    created_ns: int = 0
    closed_ns: int = 0
    source: str = ""  # capture, import, …
    venues: list[str] = []
    feeds: list[FeedEntry] = []
    rows: int = 0
    frames: int = 0
    statistics: dict[str, Any] = {}
    configuration: dict[str, Any] = {}
    files: list[FileEntry] = []


class SessionWriter:
    """Writes a session. `frame` and `rows` only collect; `flush_if_due` (or `flush`) hands blocks to the disk."""

    def __init__(
        self,
        folder: Path,
        instruments: InstrumentTable,
        *,
        source: str,
        created_ns: int,
        configuration: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = folder
        self.manifest = SessionManifest(source=source, created_ns=created_ns, configuration=dict(configuration or {}))
        self.manifest.venues = sorted({instrument.venue for instrument in instruments})
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / manifest.NAME).exists():
                raise InputError(f"{folder}: a session is here already; choose another folder with --out")
            (folder / "frames").mkdir(exist_ok=True)
            (folder / "tape").mkdir(exist_ok=True)
            (folder / "instruments.json").write_bytes(instruments.to_json())
            manifest.write_manifest(folder, self.manifest)
        except NotADirectoryError as wrong:
            raise InputError(f"{folder}: not a folder") from wrong
        self._start_segments(0)

    @classmethod
    def go_on(cls, folder: Path) -> SessionWriter:
        """Continue a session that was cut: what its last block lost is cut off, new segments follow the old ones."""
        session = Session.open(folder)
        if session.manifest.state == "closed":
            raise InputError(f"{folder}: this session is closed; it is not added to")
        for path in session.segments("frames") + session.segments("tape"):
            whole = whole_length(path)
            if whole < path.stat().st_size:
                with path.open("r+b") as file:
                    file.truncate(whole)
        writer = cls.__new__(cls)
        writer.folder = folder
        writer.manifest = session.manifest
        writer._start_segments(max(len(session.segments("frames")), len(session.segments("tape"))))
        writer.manifest.rows = sum(len(rows) for rows in session.rows())
        writer.manifest.frames = sum(1 for _ in session.records())
        return writer

    def _start_segments(self, number: int) -> None:
        self._number = number
        self._frames = SegmentWriter(self.folder / "frames" / f"{number:06d}.frames", "F")
        self._tape = SegmentWriter(self.folder / "tape" / f"{number:06d}.tape", "T")
        self._pending = bytearray()
        self._pending_records = 0
        self._pending_rows: list[Rows] = []
        self._pending_rows_count = 0
        self._flushed_ns = 0

    def frame(self, recv_ns: int, feed: int, type_: RecordType, payload: bytes) -> None:
        self._pending += _RECORD.pack(recv_ns, feed, type_, len(payload))
        self._pending += payload
        self._pending_records += 1
        if len(self._pending) >= _BLOCK_BYTES:
            self._flush_frames()

    def rows(self, rows: Rows) -> None:
        """Append rows (kept by reference until the flush: hand over a copy)."""
        self._pending_rows.append(rows)
        self._pending_rows_count += len(rows)
        if self._pending_rows_count >= _BLOCK_ROWS:
            self._flush_rows()

    def add_feed(self, feed: FeedEntry) -> None:
        self.manifest.feeds.append(feed)

    def flush_if_due(self, now_ns: int) -> None:
        if now_ns - self._flushed_ns >= FLUSH_EVERY_NS:
            self.flush()
            self._flushed_ns = now_ns

    def flush(self) -> None:
        """Hand everything collected to the operating system, raw log first: rows never know more than frames do."""
        self._flush_frames()
        self._flush_rows()
        if self._frames.size >= _SEGMENT_BYTES or self._tape.size >= _SEGMENT_BYTES:
            self._frames.close()
            self._tape.close()
            flushed_ns = self._flushed_ns
            self._start_segments(self._number + 1)
            self._flushed_ns = flushed_ns

    def _flush_frames(self) -> None:
        if self._pending_records:
            self._frames.append(self._pending, self._pending_records)
            self.manifest.frames += self._pending_records
            self._pending = bytearray()
            self._pending_records = 0

    def _flush_rows(self) -> None:
        if self._pending_rows_count:
            rows = np.concatenate(self._pending_rows)
            self._tape.append(_shuffled(rows), len(rows))
            self.manifest.rows += len(rows)
            self._pending_rows = []
            self._pending_rows_count = 0

    def close(self, *, closed_ns: int, statistics: Mapping[str, Any] | None = None) -> None:
        """Flush, hash every file and seal the manifest: from here on the session is whole and can be verified."""
        self.flush()
        self._frames.close()
        self._tape.close()
        self.manifest.state = "closed"
        self.manifest.closed_ns = closed_ns
        self.manifest.statistics = dict(statistics or {})
        self.manifest.files = [manifest.entry_of(self.folder, path) for path in manifest.files_below(self.folder)]
        manifest.write_manifest(self.folder, self.manifest)


class Session:
    """A session to read. `state`: closed (whole), cut (it ended without being closed)."""

    def __init__(self, folder: Path, read: SessionManifest, instruments: InstrumentTable) -> None:
        self.folder = folder
        self.manifest = read
        self.instruments = instruments

    @classmethod
    def open(cls, folder: Path) -> Session:
        if not folder.exists():
            raise SessionError(f"{folder}: no such session")
        read: SessionManifest = manifest.read_manifest(folder, SessionManifest)
        if read.schema != SCHEMA:
            raise SessionError(f"{folder}: written in schema {read.schema}; this oneprice reads schema {SCHEMA}")
        path = folder / "instruments.json"
        try:
            instruments = InstrumentTable.from_json(path.read_bytes())
        except (OSError, msgspec.DecodeError, ValueError) as wrong:
            raise SessionError(f"{path}: cannot be read: {wrong}") from wrong
        return cls(folder, read, instruments)

    @property
    def state(self) -> str:
        return "closed" if self.manifest.state == "closed" else "cut"

    def segments(self, log: str) -> list[Path]:
        return sorted((self.folder / log).glob("*.frames" if log == "frames" else "*.tape"))

    def rows(self) -> Iterator[Rows]:
        """The tape, block by block."""
        for path in self.segments("tape"):
            for block in read_blocks(path, "T"):
                yield _unshuffled(block.payload)

    def records(self) -> Iterator[Record]:
        """The raw log, record by record."""
        for path in self.segments("frames"):
            for block in read_blocks(path, "F"):
                payload, at = block.payload, 0
                while at < len(payload):
                    recv_ns, feed, type_, length = _RECORD.unpack_from(payload, at)
                    at += _RECORD.size
                    yield Record(recv_ns, feed, RecordType(type_), payload[at : at + length])
                    at += length

    def cut_bytes(self) -> int:
        """Bytes behind the last whole block of every segment: what a sudden end left unfinished."""
        paths = self.segments("frames") + self.segments("tape")
        return sum(path.stat().st_size - whole_length(path) for path in paths)

    def check(self) -> list[Damage]:
        """What differs from the sealed manifest; for a cut session, which has none, the blocks' own checksums decide."""
        if self.state == "closed":
            seal = manifest.check_seal(self.folder)
            found = [seal] if seal is not None else []
            known = {entry.path for entry in self.manifest.files}
            strangers = [
                Damage(file=path.relative_to(self.folder).as_posix(), offset=0, what="not in the manifest")
                for path in manifest.files_below(self.folder)
                if path.relative_to(self.folder).as_posix() not in known
            ]
            return found + manifest.check_files(self.folder, self.manifest.files) + strangers
        found = []
        for log, kind in (("frames", "F"), ("tape", "T")):
            for path in self.segments(log):
                try:
                    for _ in read_blocks(path, kind):
                        pass
                except SessionError as wrong:
                    found.append(Damage(file=path.relative_to(self.folder).as_posix(), offset=0, what=str(wrong)))
        return found


def _shuffled(rows: Rows) -> bytes:
    return np.ascontiguousarray(rows).view(np.uint8).reshape(-1, ROW.itemsize).T.tobytes()


def _unshuffled(payload: bytes) -> Rows:
    planes = np.frombuffer(payload, dtype=np.uint8).reshape(ROW.itemsize, -1)
    rows: Rows = np.ascontiguousarray(planes.T).reshape(-1).view(ROW)
    return rows
