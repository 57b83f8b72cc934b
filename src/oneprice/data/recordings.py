"""Files of other recorders, line by line: `<local ns> <json>` or `<epoch seconds>: <json>`, gzipped or bare.

A first pass over a file tells what it holds: the venue whose wire it is, the symbols, the steps of their prices and
quantities, the time it covers. What a file says is believed over its name."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from oneprice.data.infer import Steps, symbols_of
from oneprice.model.errors import InputError
from oneprice.model.time import NS_PER_S
from oneprice.venues.registry import venue as find_venue

_LINE = re.compile(rb"(\d{16,19}) ({.*)|(\d{9,10})(?:\.(\d+))?: ?({.*)", re.DOTALL)
_EVENT_SYMBOL = re.compile(rb'"(?:s|symbol)":"([A-Z0-9_\-]+)"')
_HEAD_BYTES = 400  # of a frame: what tells its venue and its symbol stands there
_GZIP = b"\x1f\x8b"


class Line(NamedTuple):
    """One line of a recording. `recv_ns` None: it cannot be used, and `frame` is the whole line."""

    number: int
    recv_ns: int | None
    frame: bytes


class Recording:
    """One file. `venue` overrides what its frames tell. InputError for a file that is not a recording of one venue."""

    def __init__(self, path: Path, venue: str | None = None) -> None:
        self.path = path
        self.cut = ""  # why the file was not read to its end
        self.steps: dict[str, Steps] = {}
        self.first_ns = 0
        self.last_ns = 0
        self.line_count = 0
        told: set[str] = set()
        unnamed = Steps()
        for line in self.lines():
            self.line_count += 1
            if line.recv_ns is None:
                continue
            self.first_ns = self.first_ns or line.recv_ns
            self.last_ns = max(self.last_ns, line.recv_ns)
            head = line.frame[:_HEAD_BYTES]
            name = venue_told_by(head)
            if name is not None:
                told.add(name)
            symbols = set(symbols_of(head)) or ({found} if (found := snapshot_symbol(line.frame)) else set())
            for symbol in symbols:
                self.steps.setdefault(symbol, Steps()).add(line.frame)
            if not symbols and is_snapshot(line.frame):
                unnamed.add(line.frame)
        if self.first_ns == 0:
            raise InputError(
                f"{path}: not one line is of the form '<local ns> <json>' or '<epoch seconds>: <json>'; nothing to import"
            )
        self.venue = find_venue(venue or _only(told, path))
        if len(self.steps) == 1:  # a snapshot without a symbol is of the only one
            next(iter(self.steps.values())).merge(unnamed)

    @property
    def only_symbol(self) -> str | None:
        """The symbol of what names none, where there is no choice."""
        return next(iter(self.steps)) if len(self.steps) == 1 else None

    def lines(self) -> Iterator[Line]:
        """The lines of the file up to its end, or to where it can be read no further (`cut` then says why)."""
        try:
            with self.path.open("rb") as probe:
                is_zipped = probe.read(len(_GZIP)) == _GZIP
            source = gzip.open(self.path, "rb") if is_zipped else self.path.open("rb")  # noqa: SIM115 (closed below)
        except OSError as wrong:
            raise InputError(f"{self.path}: this recording cannot be read: {wrong.strerror}") from wrong
        number = 0
        with source as file:
            while True:
                try:
                    content = file.readline()
                except (EOFError, OSError, zlib.error) as wrong:
                    self.cut = f"{self.path}: ends in the middle ({wrong}); read up to line {number}"
                    return
                if not content:
                    return
                number += 1
                content = content.rstrip()
                if content:
                    yield _line(number, content)


def _line(number: int, content: bytes) -> Line:
    found = _LINE.fullmatch(content)
    if found is None or not content.endswith(b"}"):
        return Line(number, None, content)
    if found[1] is not None:
        return Line(number, int(found[1]), found[2])
    return Line(number, int(found[3]) * NS_PER_S + int((found[4] or b"")[:9].ljust(9, b"0")), found[5])


def _only(told: set[str], path: Path) -> str:
    if len(told) == 1:
        return next(iter(told))
    if told:
        raise InputError(f"{path}: holds frames of {', '.join(sorted(told))}; give each venue a file of its own")
    raise InputError(f"{path}: its frames do not tell which venue they are of; name it with --venue")


def venue_told_by(head: bytes) -> str | None:
    """The venue whose wire a frame is, by fields that only it has; None where the frame leaves it open.

    Bybit's books look the same on spot and perpetuals: only trades (`L` is for contracts) and tickers tell.
    """
    if b'"topic":"' in head:
        if b'"publicTrade.' in head:
            return "bybit_linear" if b'"L":' in head else "bybit_spot"
        if b'"tickers.' in head:
            contract = b'"openInterest' in head or b'"fundingRate"' in head or b'"markPrice"' in head
            return "bybit_linear" if contract else "bybit_spot" if b'"usdIndexPrice"' in head else None
        return None
    if b'"ps":"' in head:
        return "binance_coinm"
    if b'"e":"depthUpdate"' in head:
        return "binance_usdm" if b'"pu":' in head else "binance_spot"
    if b"@bookTicker" in head:
        return "binance_usdm" if b'"e":' in head else "binance_spot"
    if b'"e":"trade"' in head or b'"e":"aggTrade"' in head:
        return "binance_spot" if b'"M":' in head else None
    if b'"e":"markPriceUpdate"' in head:
        return "binance_usdm" if b'"i":' in head else "binance_coinm"
    return None


def is_snapshot(frame: bytes) -> bool:
    """Whether a frame is a book as Binance's REST gives it: no stream around it, no event in it."""
    return b'"lastUpdateId"' in frame[:120] and b'"stream"' not in frame[:40]


def snapshot_symbol(frame: bytes) -> str | None:
    """The symbol that a snapshot names (only COIN-M's does)."""
    if not is_snapshot(frame):
        return None
    found = _EVENT_SYMBOL.search(frame[:_HEAD_BYTES]) or _EVENT_SYMBOL.search(frame[-_HEAD_BYTES:])
    return found[1].decode() if found else None
