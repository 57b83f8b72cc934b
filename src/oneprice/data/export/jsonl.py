"""Line files of a session: what its tape says of a symbol, as JSON that anyone can read without us.

    <SYMBOL>/trades.jsonl[.zst]    one line a trade
    {"ts":"2026-01-22T12:00:00.123Z","tradingsymbol":"BTCUSDT","trade_id":1,"price":9000012,"qty":150000000,
     "price_exponent":-2,"qty_exponent":-8,"is_buyer_maker":false,"integrity_tier":"CERTIFIED"}

    <SYMBOL>/depth.jsonl[.zst]     one line a message; [price, qty], quantity 0 removes the level
    {"ts":…,"tradingsymbol":"BTCUSDT","is_snapshot":false,"last_update_id":7,"price_exponent":-2,"qty_exponent":-8,
     "bids":[[9000011,0]],"asks":[[9000012,25000000]],"integrity_tier":"CERTIFIED"}
    {"ts":…,"tradingsymbol":"BTCUSDT","gap":{"last_good_id":7,"expected_id":8,"received_id":11,"reason":"sequence"}}

    <SYMBOL>/funding.jsonl[.zst]   perpetuals only; one line a message with a mark price, an index price or a funding rate
    {"ts":…,"tradingsymbol":"BTCUSDT_PERP","mark_price":9000012000000,"index_price":8999900000000,"funding_rate":10000,
     "next_funding_time":"2026-01-22T16:00:00.000Z","price_exponent":-8}

**Times** are the venue's, RFC 3339 in UTC with milliseconds; with microseconds where the venue's time has them, rounded down
(nanoseconds are on the tape and in the Parquet files). `null`: the venue gave none, as with Binance's REST snapshots. The
`ts` of a gap is this machine's, for a gap is our own finding. **Mantissas** are the tape's, at the instrument's exponents.

**`integrity_tier`** is that of the row's path; the manifest holds the verdict of the file, and the verdict wins.
* Depth: CERTIFIED from a snapshot to the next gap. A message that stands elsewhere follows no known book: not to be applied.
* Trade: CERTIFIED where nothing can be missing between it and the trade before. Where the venue numbers its trades, its id
  is the next one. A venue without ids, and the first trade of all, go by the book: it stands (a lost connection, lost
  frames and unread depth end that), and one connection brings both.

**Funding** says after every message all that is known, for some venues send only what changed; there is no line before all of
it is known. Marks and indices come as decimals of eight places: `price_exponent` is -8, or the instrument's where that is
finer. Where the first values are not exact so, it is the next finer one at which they are, or the next coarser one (prices
of 10 million and more); it holds for the whole file. A message with a value that is not exact makes no line and is counted.

The lines depend on the tape alone, not on how it is cut into chunks. A packed file is a run of zstd frames with checksums,
each of whole lines and ended by the first line that reaches 1 MiB: what is cut reads to its last whole frame."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import zstandard

from oneprice.data.export import jsonl_text
from oneprice.data.session import joined
from oneprice.model.errors import SessionError
from oneprice.model.instrument import InstrumentKind, InstrumentTable
from oneprice.model.tape import ROW, Rows

STREAMS = ("depth", "trades", "funding")  # in the order of jsonl_text.DEPTH, TRADES, FUNDING
_LEVEL = 3
_FRAME_BYTES = 1 << 20
_PASS_ROWS = 1 << 15  # a pass takes no more rows at once, which bounds its buffer
_NEW = ".new"


class Part(NamedTuple):
    """Whole lines of one file."""

    instrument: int
    stream: str
    text: bytes


class JsonlFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was written. `plain_bytes`: its size before packing. `unwritable`: funding messages that made no line,
    because one of their values is not exact at the file's exponent."""

    path: Path
    instrument: int
    stream: str
    lines: int
    plain_bytes: int
    unwritable: int


class Lines:
    """Makes lines of a tape, chunk by chunk. `names`: what each instrument of the table is called."""

    def __init__(self, instruments: InstrumentTable, names: Sequence[str], *, streams: Sequence[str] = STREAMS) -> None:
        count = len(instruments)
        self._wanted = np.zeros(len(STREAMS) * count, dtype=np.uint8)
        self.files: list[tuple[int, str]] = []  # (instrument, stream) of every file that can have lines
        for number, stream in enumerate(STREAMS):
            for i, instrument in enumerate(instruments):
                if stream in streams and (stream != "funding" or instrument.kind is InstrumentKind.PERP):
                    self._wanted[number * count + i] = 1
                    self.files.append((i, stream))
        self._count = count
        self._texts = jsonl_text.make_texts(list(instruments), names)
        self._state = jsonl_text.make_state(count)
        self._places = np.maximum(8, -instruments.column("price_exponent"))
        self._bounds = np.zeros(len(STREAMS) * count, dtype=np.int64)
        self._out = np.zeros(0, dtype=np.uint8)
        self._held: Rows = np.zeros(0, dtype=ROW)

    def of(self, rows: Rows) -> Iterator[Part]:
        """Lines of all messages that end in these rows; the rest waits for the next ones."""
        for start in range(0, len(rows), _PASS_ROWS):
            part = rows[start : start + _PASS_ROWS]
            if len(self._held):
                part = joined([self._held, part])
            end = jsonl_text.end_of_last_message(part)
            self._held = part[end:].copy()
            yield from self._pass(part[:end])

    def count(self, instrument: int, stream: str) -> int:
        """Lines made so far."""
        return int(self._state.lines[STREAMS.index(stream) * self._count + instrument])

    def unwritable(self, instrument: int) -> int:
        """Funding messages so far that made no line, because a value is not exact."""
        return int(self._state.unwritable[instrument])

    def _pass(self, rows: Rows) -> Iterator[Part]:
        jsonl_text.measure(rows, self._wanted, self._texts.bytes, self._bounds)
        ends = np.cumsum(self._bounds)
        if len(ends) == 0 or ends[-1] == 0:
            return
        if ends[-1] > len(self._out):
            self._out = np.zeros(int(ends[-1]), dtype=np.uint8)
        starts = ends - self._bounds
        ends = starts.copy()
        jsonl_text.write(rows, self._wanted, self._texts, self._state, self._places, ends, self._out)
        for file in np.flatnonzero(ends > starts).tolist():
            stream, instrument = divmod(file, self._count)
            yield Part(instrument, STREAMS[stream], self._out[starts[file] : ends[file]].tobytes())


def write_jsonl(
    folder: Path,
    chunks: Iterable[Rows],
    instruments: InstrumentTable,
    names: Sequence[str],
    *,
    streams: Sequence[str] = STREAMS,
    plain: bool = False,
) -> list[JsonlFile]:
    """Write the line files of a tape below `folder`, a folder a name; a file without lines is there, too, and empty.

    They are written aside and take their names when all are whole; making them last (fsync) is the caller's. SessionError
    when the disk refuses.
    """
    lines = Lines(instruments, names, streams=streams)
    files = {
        (i, stream): _LineFile(folder / names[i] / f"{stream}.jsonl{'' if plain else '.zst'}", is_plain=plain)
        for i, stream in lines.files
    }
    for rows in chunks:
        for part in lines.of(rows):
            files[part.instrument, part.stream].add(part.text)
    for file in files.values():
        file.end()
    for file in files.values():
        file.publish()
    return [
        JsonlFile(
            path=file.path, instrument=i, stream=stream, lines=lines.count(i, stream), plain_bytes=file.plain_bytes,
            unwritable=lines.unwritable(i) if stream == "funding" else 0,
        )
        for (i, stream), file in files.items()
    ]  # fmt: skip


class _LineFile:
    """One file under way. It is open only while a frame is added, for a session may have more files than a process may."""

    def __init__(self, path: Path, *, is_plain: bool) -> None:
        self.path = path
        self.plain_bytes = 0
        self._aside = path.with_name(path.name + _NEW)
        self._pack = None if is_plain else zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True)
        self._waiting = bytearray()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._aside.write_bytes(b"")
        except OSError as wrong:
            raise self._refused(wrong) from wrong

    def add(self, text: bytes) -> None:
        """Add whole lines."""
        self._waiting += text
        while len(self._waiting) >= _FRAME_BYTES:
            self._append(self._waiting.index(b"\n", _FRAME_BYTES - 1) + 1)

    def end(self) -> None:
        if self._waiting:
            self._append(len(self._waiting))

    def publish(self) -> None:
        try:
            self._aside.replace(self.path)
        except OSError as wrong:
            raise self._refused(wrong) from wrong

    def _append(self, count: int) -> None:
        frame = bytes(self._waiting[:count])
        del self._waiting[:count]
        self.plain_bytes += count
        try:
            with self._aside.open("ab") as file:
                file.write(frame if self._pack is None else self._pack.compress(frame))
        except OSError as wrong:
            raise self._refused(wrong) from wrong

    def _refused(self, wrong: OSError) -> SessionError:
        return SessionError(f"{self.path}: cannot be written: {wrong.strerror}")
