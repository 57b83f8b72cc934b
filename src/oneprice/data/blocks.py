"""Segments on disk: append-only files of self-describing blocks.

    file   = magic (8 bytes: "1PRICE" and a kind letter and a version) block*
    block  = raw length u32 | packed length u32 | records u32 | checksum u32 | packed bytes (one zstd frame)

Numbers are little endian; the checksum is the CRC-32 of the packed bytes. A block is written with one call and is whole or
not there: a reader stops at the first block that is cut, and says how many bytes it left."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from oneprice.model.errors import SessionError

_HEADER = struct.Struct("<IIII")
_MAGIC_BYTES = 8
_LEVEL = 1


def magic(kind: str) -> bytes:
    return b"1PRICE" + kind.encode() + b"1"


class Block(msgspec.Struct, frozen=True):
    """One whole block: where it begins in its file, how many records it holds, its unpacked bytes."""

    offset: int
    records: int
    payload: bytes


class SegmentWriter:
    """Appends blocks to one file. `size` is what is on disk after the last block."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        self._file: BinaryIO = path.open("xb", buffering=0)
        self._packer = zstandard.ZstdCompressor(level=_LEVEL)
        self._file.write(magic(kind))
        self.size = _MAGIC_BYTES
        self.records = 0

    def append(self, payload: bytes | bytearray | memoryview, records: int) -> None:
        packed = self._packer.compress(payload)
        self._file.write(_HEADER.pack(len(payload), len(packed), records, zlib.crc32(packed)) + packed)
        self.size += _HEADER.size + len(packed)
        self.records += records

    def close(self) -> None:
        self._file.close()


def read_blocks(path: Path, kind: str) -> Iterator[Block]:
    """The whole blocks of a segment, in order. SessionError at a block whose bytes are not what was written; a block
    that the end of the file cuts ends the iteration."""
    content = path.read_bytes()
    if content[:_MAGIC_BYTES] != magic(kind):
        raise SessionError(f"{path}: not a segment of kind '{kind}' (it begins {content[:_MAGIC_BYTES]!r})")
    unpacker = zstandard.ZstdDecompressor()
    offset = _MAGIC_BYTES
    while offset + _HEADER.size <= len(content):
        raw_length, packed_length, records, checksum = _HEADER.unpack_from(content, offset)
        packed = content[offset + _HEADER.size : offset + _HEADER.size + packed_length]
        if len(packed) < packed_length:
            return
        if zlib.crc32(packed) != checksum:
            raise SessionError(f"{path}: the block at byte {offset} is not what was written (checksum)")
        try:
            payload = unpacker.decompress(packed, max_output_size=raw_length)
        except zstandard.ZstdError as wrong:
            raise SessionError(f"{path}: the block at byte {offset} does not unpack: {wrong}") from wrong
        yield Block(offset, records, payload)
        offset += _HEADER.size + packed_length


def whole_length(path: Path) -> int:
    """Length of the part of a segment that consists of whole blocks; the rest was being written when all ended."""
    size = path.stat().st_size
    with path.open("rb") as file:
        offset = _MAGIC_BYTES
        while True:
            file.seek(offset)
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return min(offset, size)
            _, packed_length, _, _ = _HEADER.unpack(header)
            if offset + _HEADER.size + packed_length > size:
                return offset
            offset += _HEADER.size + packed_length
