"""A session on disk: what came over the wires, and the tape that was made of it.

    SESSION/
      session_manifest.json (+ .sha256)      what this is, its feeds, its files and their hashes; state open or closed
      instruments.json                       the instrument table that the rows' numbers refer to
      frames/000000.frames                   raw log: everything the feed machines were told, in order
      tape/000000.tape                       rows of the tape, in order

A raw record is `recv_ns i64 | feed i32 | type u8 | length u32 | payload`; a tape block holds rows as they lie in memory
(splitting them into columns or byte planes packs hardly better and doubles the time to read them). Both logs go on in new
segments by size and by the hour, with the same numbers, and are flushed together, at most half a second behind. A session
that ended without `close` is cut: it holds everything up to its last flush, and its raw log may be ahead of its tape."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from enum import IntEnum
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from oneprice import __version__
from oneprice.data import manifest
from oneprice.data.blocks import DamagedSegment, Extent, SegmentWriter, extent, is_being_written, read_blocks
from oneprice.data.manifest import Damage, FileEntry
from oneprice.model.errors import InputError, SessionError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ROW, Rows
from oneprice.model.time import NS_PER_S

SCHEMA = 1
MANIFEST = "session_manifest.json"
FLUSH_EVERY_NS = NS_PER_S // 2
_RECORD = struct.Struct("<qiBI")
_BLOCK_BYTES = 1 << 20
_BLOCK_ROWS = 1 << 14
_SEGMENT_BYTES = 256 << 20
_SEGMENT_NS = 3600 * NS_PER_S
_INSTRUMENTS = "instruments.json"
_FRAMES, _TAPE = "frames", "tape"
_BYTES = np.dtype((np.void, ROW.itemsize))
_KINDS = {_FRAMES: "F", _TAPE: "T"}


class RecordType(IntEnum):
    """What the raw log tells: everything that becomes rows (payloads: `machines.py`)."""

    OPENED = 1
    TEXT = 2
    BINARY = 3
    ANSWER = 4
    CLOSED = 5
    DROPPED = 6  # frames that our own overload lost
    RESTARTED = 7  # another process goes on where one was cut off; the first record of a segment
    REPORT = 8  # what a live venue said of an order of ours


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


CUT = "cut"  # what an open session is called that nobody writes any more
OPEN = "open"  # being written, or cut
CLOSED = "closed"  # ended in order
ABORTED = "aborted"  # ended in order, because a rule of its own said so
RECOVERED = "recovered"  # was cut; its end was made good later


class SessionManifest(msgspec.Struct, kw_only=True):
    """session_manifest.json. While it is open, rows and frames are 0 and `files` names the instruments alone."""

    schema: int = SCHEMA
    oneprice: str = __version__
    state: str = OPEN
    stop_reason: str = ""  # why it ended, for people
    created_ns: int = 0
    closed_ns: int = 0
    source: str = ""  # capture, import, …
    venues: list[str] = []
    feeds: list[FeedEntry] = []
    rows: int = 0
    frames: int = 0
    statistics: dict[str, Any] = {}
    configuration: dict[str, Any] = {}
    certificate: dict[str, Any] = {}  # what it is worth, by symbol (`certify/publish.py`); nothing where nobody asked
    files: list[FileEntry] = []
    merkle_root: str = ""  # over `files`


class SessionWriter:
    """Writes a session. `frame` and `rows` collect; `flush_if_due` (or `flush`, or a full block) hands over to the disk.

    InputError for a folder that cannot be used, SessionError when the disk refuses later on: what had been flushed stays
    readable, and what had not is kept for the next flush.
    """

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
            if (folder / MANIFEST).exists():
                raise InputError(f"{folder}: a session is here already; choose another folder with --out")
            (folder / _FRAMES).mkdir(exist_ok=True)
            (folder / _TAPE).mkdir(exist_ok=True)
            (folder / _INSTRUMENTS).write_bytes(instruments.to_json())
        except OSError as wrong:
            raise InputError(f"{folder}: no session can be written here: {wrong.strerror}") from wrong
        self.manifest.files = [manifest.entry_of(folder, folder / _INSTRUMENTS)]
        self._start_segments(0)
        self._write_manifest()

    @classmethod
    def go_on(cls, folder: Path) -> SessionWriter:
        """Continue a session that was cut: its unfinished last blocks are cut off, new segments follow the old ones.

        Errors as in `Session.check_cut`. Whoever goes on also tells the machines and the tape of the break (`recover.py`).
        """
        session = Session.open(folder)
        session.check_cut()
        paths = session.segments(_FRAMES) + session.segments(_TAPE)
        for log in _KINDS:
            for path, part in session.extents(log):
                if part.length > 0:
                    os.truncate(path, part.length)
                else:
                    path.unlink()  # not even its first bytes had been written
        writer = cls.__new__(cls)
        writer.folder = folder
        writer.manifest = session.manifest
        writer._start_segments(1 + max((int(path.stem) for path in paths), default=-1))
        return writer

    def _start_segments(self, number: int) -> None:
        self._number = number
        self._frames = SegmentWriter(self.folder / _FRAMES / f"{number:06d}.frames", _KINDS[_FRAMES])
        self._tape = SegmentWriter(self.folder / _TAPE / f"{number:06d}.tape", _KINDS[_TAPE])
        self._pending = bytearray()
        self._pending_records = 0
        self._pending_rows: list[Rows] = []
        self._pending_rows_count = 0
        self.flushed_ns = 0
        self._segment_until_ns = 0  # 0: nobody has told the time yet

    def frame(self, recv_ns: int, feed: int, type_: RecordType, payload: bytes) -> None:
        """Append a record to the raw log."""
        self._pending += _RECORD.pack(recv_ns, feed, type_, len(payload))
        self._pending += payload
        self._pending_records += 1
        if len(self._pending) >= _BLOCK_BYTES:
            self._flush_frames()

    def rows(self, rows: Rows) -> None:
        """Append rows to the tape (kept by reference until the flush: hand over a copy)."""
        self._pending_rows.append(rows)
        self._pending_rows_count += len(rows)
        if self._pending_rows_count >= _BLOCK_ROWS:
            self.flush()

    def add_feed(self, feed: FeedEntry) -> None:
        """Name a connection in the manifest, at once: a session that is cut knows its feeds."""
        self.manifest.feeds.append(feed)
        self._write_manifest()

    def flush_if_due(self, now_ns: int) -> None:
        """Flush when the last time was half a second ago; start new segments on the hour and when one is full."""
        if now_ns - self.flushed_ns < FLUSH_EVERY_NS:
            return
        self.flush()
        if self._segment_until_ns == 0:
            self._segment_until_ns = now_ns + _SEGMENT_NS
        elif now_ns >= self._segment_until_ns:
            self._rotate()
        self.flushed_ns = now_ns

    def flush(self) -> None:
        """Hand everything collected to the operating system, raw log first: rows never know more than frames do."""
        self._flush_frames()
        self._flush_rows()
        if self._frames.size >= _SEGMENT_BYTES or self._tape.size >= _SEGMENT_BYTES:
            self._rotate()

    def _rotate(self) -> None:
        self._frames.close()
        self._tape.close()
        self._start_segments(self._number + 1)

    def _flush_frames(self) -> None:
        if self._pending_records:
            self._frames.append(self._pending, self._pending_records)
            self.manifest.frames += self._pending_records
            self._pending = bytearray()
            self._pending_records = 0

    def _flush_rows(self) -> None:
        if self._pending_rows_count:
            rows = joined(self._pending_rows)
            self._tape.append(rows.view(np.uint8).data, len(rows))
            self.manifest.rows += len(rows)
            self._pending_rows = []
            self._pending_rows_count = 0

    def _write_manifest(self) -> None:
        """The manifest of a session that is open. Its counts are told by the logs, which are ahead of it."""
        yet_to_count = msgspec.structs.replace(self.manifest, rows=0, frames=0)
        manifest.write_manifest(self.folder / MANIFEST, yet_to_count, is_durable=False)

    def close(
        self, *, closed_ns: int, statistics: Mapping[str, Any] | None = None, state: str = CLOSED, stop_reason: str = ""
    ) -> None:
        """Flush and seal: from here on the session is whole and can be verified."""
        self.finish()
        self.manifest.statistics = dict(statistics or {})
        self.manifest.stop_reason = stop_reason
        seal(self.folder, self.manifest, state=state, closed_ns=closed_ns)

    def finish(self) -> None:
        """Flush and close both logs. The session stays open for what is made of them, until it is sealed."""
        self.flush()
        self._frames.close()
        self._tape.close()


def seal(folder: Path, read: SessionManifest, *, state: str, closed_ns: int) -> None:
    """Hash every file and seal the manifest: the session is whole, and survives the machine's sudden end."""
    paths = manifest.files_below(folder / MANIFEST)
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    read.state = state
    read.closed_ns = closed_ns
    read.files = [manifest.entry_of(folder, path) for path in paths]
    read.merkle_root = manifest.merkle_root(read.files)
    manifest.write_manifest(folder / MANIFEST, read)


class Session:
    """A session to read. `state` is its manifest's, or `cut`: it ended without being closed, or is still being written."""

    def __init__(self, folder: Path, read: SessionManifest, instruments: InstrumentTable) -> None:
        self.folder = folder
        self.manifest = read
        self.instruments = instruments

    @classmethod
    def open(cls, folder: Path) -> Session:
        """SessionError for what is not a session, is one of another version, or has no readable instrument table."""
        read = _read_manifest(folder)
        path = folder / _INSTRUMENTS
        try:
            instruments = InstrumentTable.from_json(path.read_bytes())
        except (OSError, msgspec.DecodeError, ValueError, InputError) as wrong:
            raise SessionError(f"{path}: cannot be read: {wrong}") from wrong
        session = cls(folder, read, instruments)
        if session.state == CUT:
            with suppress(SessionError):  # a damaged segment: reading it says so
                read.rows = sum(part.records for _, part in session.extents(_TAPE))
                read.frames = sum(part.records for _, part in session.extents(_FRAMES))
        return session

    @property
    def state(self) -> str:
        return CUT if self.manifest.state == OPEN else self.manifest.state

    @property
    def seal(self) -> str:
        """The hash that its manifest is sealed with; nothing where the seal is gone."""
        path = manifest.seal_path(self.folder / MANIFEST)
        return path.read_text().split()[0] if path.exists() else ""

    def segments(self, log: str) -> list[Path]:
        """The files of a log (`frames` or `tape`), in order."""
        return _segments(self.folder, log)

    def extents(self, log: str) -> Iterator[tuple[Path, Extent]]:
        """Every segment of a log with its whole part. DamagedSegment where it is damaged."""
        paths = self.segments(log)
        for path in paths:
            yield path, extent(path, _KINDS[log], is_last=path == paths[-1])

    def rows(self) -> Iterator[Rows]:
        """The tape in chunks. DamagedSegment where it is damaged."""
        for path in self.segments(_TAPE):
            yield from self.rows_of_segment(path)

    def rows_of_segment(self, path: Path) -> Iterator[Rows]:
        """The tape's part in one segment."""
        for block in read_blocks(path, _KINDS[_TAPE], is_last=path == self.segments(_TAPE)[-1]):
            yield _rows_of(block.payload)

    def records(self) -> Iterator[Record]:
        """The raw log, record by record. DamagedSegment where it is damaged."""
        for path in self.segments(_FRAMES):
            yield from self.records_of_segment(path)

    def records_of_segment(self, path: Path) -> Iterator[Record]:
        """The raw log's part in one segment."""
        for block in read_blocks(path, _KINDS[_FRAMES], is_last=path == self.segments(_FRAMES)[-1]):
            payload, at = block.payload, 0
            while at < len(payload):
                recv_ns, feed, type_, length = _RECORD.unpack_from(payload, at)
                at += _RECORD.size
                yield Record(recv_ns, feed, RecordType(type_), payload[at : at + length])
                at += length

    def span_ns(self) -> tuple[int, int] | None:
        """Receive time of the first and of the last row; None without rows."""
        first = next((rows for rows in self.rows() if len(rows)), None)
        parts = [(path, part) for path, part in self.extents(_TAPE) if part.records]
        if first is None or not parts:
            return None
        path, part = parts[-1]
        (block,) = read_blocks(path, _KINDS[_TAPE], start=part.offsets[-1])
        return int(first["ts_recv_ns"][0]), int(_rows_of(block.payload)["ts_recv_ns"][-1])

    def cut_bytes(self) -> int:
        """Bytes behind the last whole block of both logs: what a sudden end left unfinished."""
        return sum(path.stat().st_size - part.length for log in _KINDS for path, part in self.extents(log))

    def check(self) -> list[Damage]:
        """Everything that is not as it was written (`check_folder`)."""
        return check_folder(self.folder)

    def check_cut(self) -> None:
        """InputError unless this session was cut and nobody writes it; SessionError when it is damaged."""
        if self.state != CUT:
            raise InputError(f"{self.folder}: this session is {self.state}; it is not added to")
        if any(is_being_written(path) for log in _KINDS for path in self.segments(log)):
            raise InputError(f"{self.folder}: this session is being written by another process")
        if damage := self.check():
            raise SessionError(f"{self.folder}/{damage[0].file}: {damage[0].what}; it cannot be added to")


def check_folder(folder: Path) -> list[Damage]:
    """Everything in a session's folder that is not as it was written, with the file and the byte from which that may be so.

    A closed session is held against the hashes of its sealed manifest. A cut one has none of its logs yet, and a manifest
    that is not the sealed one proves nothing: then the blocks' own checksums decide. SessionError for a folder that holds
    no session.
    """
    seal = manifest.check_seal(folder / MANIFEST) if folder.is_dir() else None
    found = [seal] if seal is not None else []
    try:
        read = _read_manifest(folder)
    except SessionError:
        if seal is None or seal.what == "missing":
            raise
        return found + _damaged_blocks(folder)
    if seal is not None and seal.file == MANIFEST:
        return found + _damaged_blocks(folder)
    found += manifest.check_files(folder, read.files)
    if read.state == OPEN:
        return found + _damaged_blocks(folder)
    known = {entry.path for entry in read.files}
    own = {name.partition("/")[0] for name in known}  # exports and reports may stand beside the session's own folders
    names = (path.relative_to(folder).as_posix() for path in manifest.files_below(folder / MANIFEST))
    strange = [name for name in names if name not in known and name.partition("/")[0] in own]
    return found + [Damage(file=name, offset=0, what="not in the manifest") for name in strange]


def _damaged_blocks(folder: Path) -> list[Damage]:
    found = []
    for log, kind in _KINDS.items():
        paths = _segments(folder, log)
        for path in paths:
            try:
                for _ in read_blocks(path, kind, is_last=path == paths[-1]):
                    pass
            except DamagedSegment as wrong:
                name = path.relative_to(folder).as_posix()
                found.append(Damage(file=name, offset=wrong.offset, what=f"changed: {wrong.what}"))
    return found


def _read_manifest(folder: Path) -> SessionManifest:
    if not folder.exists():
        raise SessionError(f"{folder}: no such session")
    read: SessionManifest = manifest.read_manifest(folder / MANIFEST, SessionManifest)
    if read.schema != SCHEMA:
        raise SessionError(f"{folder}: written in schema {read.schema}; this oneprice reads schema {SCHEMA}")
    return read


def _segments(folder: Path, log: str) -> list[Path]:
    return sorted((folder / log).glob(f"*.{log}"))


def _rows_of(payload: bytes) -> Rows:
    return joined([np.frombuffer(payload, dtype=ROW)])  # a copy, because the bytes of a block cannot be written to


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows one behind the other, as a copy. NumPy copies structured rows field by field, plain bytes ten times faster."""
    together: Rows = np.concatenate([part.view(_BYTES) for part in parts]).view(ROW)
    return together
