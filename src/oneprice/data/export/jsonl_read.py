"""Line files of a session, read back as typed lines (the formats: `jsonl.py`), plain or packed.

A file that was cut is read to its last whole frame, a plain one to its last whole line. A line that is not what the format
says, and a frame that is not what was written, are errors that name the file and the line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec
import zstandard

from oneprice.model.errors import SessionError
from oneprice.model.funding import Exponent, FundingEvent, Instant

_PIECE_BYTES = 1 << 16
Tier = Literal["CERTIFIED", "NON_CERTIFIED"]
_Line = TypeVar("_Line")


class Trade(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `trades.jsonl`: price = `price * 10**price_exponent`. The buyer is the maker where the taker sold."""

    ts: Instant | None
    tradingsymbol: str
    trade_id: int
    price: int
    qty: int
    price_exponent: Exponent
    qty_exponent: Exponent
    is_buyer_maker: bool
    integrity_tier: Tier


class DepthMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of `depth.jsonl`: a snapshot replaces the book, else (price, qty) set levels and quantity 0 removes one."""

    ts: Instant | None
    tradingsymbol: str
    is_snapshot: bool
    last_update_id: int
    price_exponent: Exponent
    qty_exponent: Exponent
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]
    integrity_tier: Tier


class Gap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    last_good_id: int
    expected_id: int
    received_id: int
    reason: str


class DepthGap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of `depth.jsonl` that says: the book is unknown from here to the next snapshot."""

    ts: Instant
    tradingsymbol: str
    gap: Gap


_TRADE = msgspec.json.Decoder(Trade)
_DEPTH = msgspec.json.Decoder(DepthMessage)
_GAP = msgspec.json.Decoder(DepthGap)
_FUNDING = msgspec.json.Decoder(FundingEvent)


def read_trades(path: Path) -> Iterator[Trade]:
    """The trades of `trades.jsonl` or `trades.jsonl.zst`. SessionError for what cannot be read."""
    return _decoded(path, _TRADE.decode)


def read_depth(path: Path) -> Iterator[DepthMessage | DepthGap]:
    """Messages and gaps of `depth.jsonl` or `depth.jsonl.zst`. SessionError for what cannot be read."""
    return _decoded(path, _depth_line)


def read_funding(path: Path) -> Iterator[FundingEvent]:
    """The events of `funding.jsonl` or `funding.jsonl.zst`. SessionError for what cannot be read."""
    return _decoded(path, _FUNDING.decode)


def _depth_line(line: bytes) -> DepthMessage | DepthGap:
    # Within a text the quotes of these bytes would be escaped: only a field can match.
    return _GAP.decode(line) if b',"gap":{' in line else _DEPTH.decode(line)


def _decoded(path: Path, decode: Callable[[bytes], _Line]) -> Iterator[_Line]:
    number = 0
    try:
        for text in _frames(path) if path.suffix == ".zst" else _plain(path):
            for line in text.splitlines():
                number += 1
                yield decode(line)
    except OSError as wrong:
        raise SessionError(f"{path}: cannot be read: {wrong.strerror}") from wrong
    except zstandard.ZstdError as wrong:
        raise SessionError(f"{path}: the frame behind line {number} is not what was written: {wrong}") from wrong
    except (msgspec.MsgspecError, UnicodeDecodeError) as wrong:
        raise SessionError(f"{path}, line {number}: {wrong}") from wrong


def _frames(path: Path) -> Iterator[bytes]:
    """What every whole frame holds."""
    unpack = zstandard.ZstdDecompressor()
    frame, parts = unpack.decompressobj(), []
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            while piece:
                parts.append(frame.decompress(piece))
                piece = b""
                if frame.eof:
                    yield b"".join(parts)
                    piece = frame.unused_data
                    frame, parts = unpack.decompressobj(), []


def _plain(path: Path) -> Iterator[bytes]:
    """Whole lines, some at a time."""
    rest = b""
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            whole, end, rest = (rest + piece).rpartition(b"\n")
            yield whole + end
