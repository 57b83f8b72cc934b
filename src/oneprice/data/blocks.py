"""Segments on disk: append-only files of self-describing blocks.

    file   = magic (8 bytes: "1PRICE", a kind letter, a version) block*
    block  = header, packed bytes (one zstd frame)
    header = raw length u32 | packed length u32 | records u32 | checksum u32 | header checksum u32

Numbers are little endian. `checksum` is the CRC-32 of the packed bytes, `header checksum` that of the sixteen bytes before
it, so that a damaged length is damage and never looks like the end of the file. A block is written with one call and is
whole or not there: what a sudden end cut off is always at the end of the last segment, and readers leave it out."""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec
import zstandard

from oneprice.model.errors import InputError, SessionError

_HEADER = struct.Struct("<IIII")
_SEAL = struct.Struct("<I")
_HEADER_BYTES = _HEADER.size + _SEAL.size
_MAGIC_BYTES = 8
_LEVEL = 1  # level 3 packs rows 3 % smaller and takes twice as long


class DamagedSegment(SessionError):
    """A segment holds bytes that were not written: from byte `offset` of `path` on nothing can be read."""

    def __init__(self, path: Path, offset: int, what: str) -> None:
        super().__init__(f"{path}: the block at byte {offset} is not what was written: {what}")
        self.path = path
        self.offset = offset
        self.what = what


class Block(msgspec.Struct, frozen=True):
    """One whole block: where it begins in its file, how many records it holds, its unpacked bytes."""

    offset: int
    records: int
    payload: bytes


class Extent(NamedTuple):
    """The part of a segment that consists of whole blocks: its length, its blocks' offsets, their records."""

    length: int
    offsets: list[int]
    records: int


class _Header(NamedTuple):
    raw: int
    packed: int
    records: int
    checksum: int


def magic(kind: str) -> bytes:
    return b"1PRICE" + kind.encode() + b"1"


class SegmentWriter:
    """Appends blocks to one new file, which is locked as long as its writer lives. `size` is what is on disk after the
    last block."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        try:
            self._file: BinaryIO = path.open("xb", buffering=0)
        except OSError as wrong:
            raise InputError(f"{path}: cannot be made: {wrong.strerror}") from wrong
        fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._packer = zstandard.ZstdCompressor(level=_LEVEL)
        self.size = 0
        self.records = 0
        self._write(magic(kind))

    def append(self, payload: bytes | bytearray | memoryview, records: int) -> None:
        """Write one block. SessionError when the disk refuses; the file is then as it was before the call."""
        packed = self._packer.compress(payload)
        header = _HEADER.pack(len(payload), len(packed), records, zlib.crc32(packed))
        self._write(header + _SEAL.pack(zlib.crc32(header)) + packed)
        self.records += records

    def _write(self, content: bytes) -> None:
        left = memoryview(content)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as wrong:
            # Half a block in the middle of a file would hide whatever follows it.
            with suppress(OSError):
                self._file.seek(self.size)
                self._file.truncate()
            raise SessionError(
                f"{self.path}: cannot be written: {wrong.strerror}; what was flushed before stays readable"
            ) from wrong
        self.size += len(content)

    def close(self) -> None:
        self._file.close()


def read_blocks(path: Path, kind: str, *, is_last: bool = True, start: int = _MAGIC_BYTES) -> Iterator[Block]:
    """The whole blocks of a segment in order, from the one at byte `start`.

    DamagedSegment at a block whose bytes are not what was written. A block that the end of the file cuts ends the
    iteration in the last segment of its log; in an earlier one it is damage, too, because that one had been finished.
    """
    unpacker = zstandard.ZstdDecompressor()
    with path.open("rb") as file:
        offset = _begin(file, path, kind, is_last=is_last)
        if start > offset:
            offset = file.seek(start)
        while (header := _next_header(file, path, offset, is_last=is_last)) is not None:
            packed = file.read(header.packed)
            if zlib.crc32(packed) != header.checksum:
                raise DamagedSegment(path, offset, "checksum")
            try:
                payload = unpacker.decompress(packed, max_output_size=header.raw)
            except zstandard.ZstdError as wrong:
                raise DamagedSegment(path, offset, str(wrong)) from wrong
            yield Block(offset, header.records, payload)
            offset += _HEADER_BYTES + header.packed


def extent(path: Path, kind: str, *, is_last: bool = True) -> Extent:
    """What a segment holds, from its headers alone. Errors as in `read_blocks`, but for the packed bytes themselves."""
    offsets: list[int] = []
    records = 0
    with path.open("rb") as file:
        offset = _begin(file, path, kind, is_last=is_last)
        while (header := _next_header(file, path, offset, is_last=is_last)) is not None:
            offsets.append(offset)
            records += header.records
            offset = file.seek(offset + _HEADER_BYTES + header.packed)
    return Extent(offset, offsets, records)


def is_being_written(path: Path) -> bool:
    """Whether a living writer holds this segment."""
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _begin(file: BinaryIO, path: Path, kind: str, *, is_last: bool) -> int:
    """Read the magic; → where the blocks begin (0 when the magic itself was cut)."""
    begins = file.read(_MAGIC_BYTES)
    if begins == magic(kind):
        return _MAGIC_BYTES
    if is_last and magic(kind).startswith(begins):
        return 0
    raise DamagedSegment(path, 0, f"not a segment of kind '{kind}' (it begins {begins!r})")


def _next_header(file: BinaryIO, path: Path, offset: int, *, is_last: bool) -> _Header | None:
    """The header at `offset`, where the file stands; None at the end and before a block that the end cuts."""
    if offset == 0:
        return None
    content = file.read(_HEADER_BYTES)
    left = os.fstat(file.fileno()).st_size - offset - _HEADER_BYTES
    if len(content) == _HEADER_BYTES:
        if zlib.crc32(content[: _HEADER.size]) != _SEAL.unpack_from(content, _HEADER.size)[0]:
            raise DamagedSegment(path, offset, "its header")
        header = _Header(*_HEADER.unpack_from(content))
        if header.packed <= left:
            return header
    if content and not is_last:
        raise DamagedSegment(path, offset, "the file ends within it, although another segment follows")
    return None
