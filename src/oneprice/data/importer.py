"""Recordings of other recorders become sessions: `<local ns> <json>` lines (or `<epoch s>: <json>`), gzipped or bare.

Every line goes the way a live frame goes: into the raw log, through the venue's feed machine, onto the tape. A line
without a stream name that holds a book is the answer of a REST snapshot. Lines that cannot be used are counted and kept
in `rejected.jsonl` with file, line and reason; a file that ends in the middle is read up to there. Files of one market
that follow each other in time are one connection; files of several markets are merged by receive time."""

from __future__ import annotations

import gzip
import heapq
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from oneprice.data.infer import Steps, infer_instrument, symbols_of
from oneprice.data.machines import Answer, Machines, Opened, with_body
from oneprice.data.quality import SymbolQuality, measure
from oneprice.data.session import FeedEntry, Record, RecordType, Session, SessionWriter
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.tape import TapeWriter
from oneprice.model.time import NS_PER_S
from oneprice.venues.base import Channel, Request, Subscription
from oneprice.venues.feed import DEPTH, Command, Fetch
from oneprice.venues.registry import venue as find_venue

_FLUSH_ROWS = 1 << 15
_LINE = re.compile(rb"(\d{16,19}) ({.*)|(\d{9,10}\.\d+): ?({.*)", re.DOTALL)
_EVENT_SYMBOL = re.compile(rb'"(?:s|symbol)":"([A-Z0-9_\-]+)"')
_SHOWN_BYTES = 200

Progress = Callable[[float, str], None]


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an import made: the session's folder, what each symbol holds, and what could not be used."""

    session: str
    seconds: float  # from the first to the last line
    lines: int
    rejected: int
    symbols: tuple[SymbolQuality, ...]
    notes: tuple[str, ...]


class _Rejected(msgspec.Struct, frozen=True):
    file: str
    line: int
    reason: str
    begins: str


class _Recording:
    """One file: its lines, its venue, and what a first pass learned of its symbols."""

    def __init__(self, path: Path, venue: str | None) -> None:
        if not path.is_file():
            raise InputError(f"{path}: no such recording")
        self.path = path
        self.cut: str | None = None
        self.steps: dict[str, Steps] = {}
        self.first_ns = 0
        name = venue
        for _, recv_ns, frame in self.lines():
            if recv_ns is None:
                continue
            self.first_ns = self.first_ns or recv_ns
            name = name or _venue_of(frame)
            for symbol in set(symbols_of(frame[:400])):
                self.steps.setdefault(symbol, Steps()).add(frame)
        if self.first_ns == 0:
            raise InputError(
                f"{path}: not one line is of the form '<local ns> <json>' or '<epoch seconds>: <json>'; nothing to import"
            )
        if name is None:
            raise InputError(f"{path}: its frames are of no venue known here; name it with --venue")
        self.venue = find_venue(name)
        # A REST snapshot of spot names no symbol: it belongs to the only one of the file, and refines its steps.
        only = next(iter(self.steps.values())) if len(self.steps) == 1 else None
        if only is not None:
            for _, recv_ns, frame in self.lines():
                if recv_ns is not None and _is_snapshot(frame):
                    only.add(frame)

    def lines(self) -> Iterator[tuple[int, int | None, bytes]]:
        """(line number, receive time, frame); time None: the line cannot be used, and frame is the line."""
        with self.path.open("rb") as probe:
            zipped = probe.read(2) == b"\x1f\x8b"
        source = gzip.open(self.path, "rb") if zipped else self.path.open("rb")  # noqa: SIM115 (closed below)
        with source as file:
            number = 0
            while True:
                number += 1
                try:
                    line = file.readline()
                except (EOFError, OSError, zlib.error) as wrong:
                    self.cut = f"{self.path}: ends in the middle ({wrong}); read up to line {number - 1}"
                    return
                if not line:
                    return
                line = line.rstrip()
                if not line:
                    continue
                found = _LINE.fullmatch(line)
                if found is None or not line.endswith(b"}"):
                    yield number, None, line
                elif found[1] is not None:
                    yield number, int(found[1]), found[2]
                else:
                    whole, _, part = found[3].partition(b".")
                    yield number, int(whole) * NS_PER_S + int(part[:9].ljust(9, b"0")), found[4]


def _venue_of(frame: bytes) -> str | None:
    """The venue whose wire a frame is: by the fields that only it has."""
    head = frame[:300]
    if b'"topic"' in head and b'"data"' in head:
        return "bybit_linear" if b'"L":' in head else "bybit_spot"
    if b'"depthUpdate"' not in head:
        return None
    if b'"pu":' not in head:
        return "binance_spot"
    return "binance_coinm" if b'_PERP"' in head else "binance_usdm"


def _is_snapshot(frame: bytes) -> bool:
    return b'"lastUpdateId"' in frame[:120] and b'"stream"' not in frame[:40]


def import_recordings(
    paths: Sequence[Path],
    out: Path,
    *,
    venue: str | None = None,
    instruments: Sequence[Instrument] = (),
    progress: Progress = lambda done, note: None,
) -> ImportResult:
    """Make one session of some recordings. `instruments` (by venue and symbol) take the place of inferred rules."""
    if not paths:
        raise InputError("no recording was named")
    recordings = []
    for place, path in enumerate(paths):
        progress(place / (2 * len(paths)), f"looking at {path.name}")
        recordings.append(_Recording(path, venue))
    table = InstrumentTable(_instruments(recordings, instruments))
    feeds = {name: number for number, name in enumerate(sorted({recording.venue.name for recording in recordings}))}
    writer = SessionWriter(
        out, table, source="import", created_ns=min(recording.first_ns for recording in recordings),
        configuration={"recordings": [recording.path.name for recording in recordings]},
    )  # fmt: skip
    tape = TapeWriter(4 * _FLUSH_ROWS)
    machines = Machines(table, tape)
    rejected: list[_Rejected] = []
    for name, number in feeds.items():
        writer.add_feed(FeedEntry(number=number, venue=name, path="import", address="recording"))
    opened: set[int] = set()
    lines = 0
    fetches: dict[int, Fetch] = {}
    for recording, number, recv_ns, frame in _in_order(recordings, progress):
        lines += 1
        feed = feeds[recording.venue.name]
        if recv_ns is None:
            rejected.append(_reject(recording.path, number, "not of the form '<local ns> <json>'", frame))
            continue
        if feed not in opened:
            opened.add(feed)
            _tell(machines, writer, _opening(recording, feed, recv_ns, table))
        if _is_snapshot(frame):
            found = _EVENT_SYMBOL.search(frame[-300:]) or _EVENT_SYMBOL.search(frame[:300])
            symbol = found[1].decode() if found else next(iter(recording.steps))
            index = table.index(recording.venue.name, symbol)
            asked = fetches.pop(index, None) or _asks_depth(recording, index)
            answer = Answer(venue=recording.venue.name, fetch=asked, status=200)
            record = Record(recv_ns, feed, RecordType.ANSWER, with_body(answer, frame))
        else:
            record = Record(recv_ns, feed, RecordType.TEXT, frame)
        refused_before = sum(machine.rejections.total() for machine in machines.by_venue.values())
        for command in _tell(machines, writer, record):
            if isinstance(command, Fetch):
                fetches[command.instrument] = command
        machine = machines.machine(recording.venue.name)
        if sum(other.rejections.total() for other in machines.by_venue.values()) > refused_before:
            rejected.append(_reject(recording.path, number, machine.rejected[-1].reason, frame))
        if tape.n >= _FLUSH_ROWS:
            writer.rows(tape.take())
            writer.flush()
    writer.rows(tape.take())
    (out / "rejected.jsonl").write_bytes(b"".join(msgspec.json.encode(entry) + b"\n" for entry in rejected))
    last_ns = int(tape_end_ns(writer))
    writer.close(closed_ns=last_ns, statistics={"lines": lines, "rejected": len(rejected)})
    session = Session.open(out)
    progress(1.0, "comparing books with quotes")
    return ImportResult(
        session=str(out),
        seconds=round((last_ns - writer.manifest.created_ns) / NS_PER_S, 3),
        lines=lines,
        rejected=len(rejected),
        symbols=tuple(measure(session)),
        notes=tuple(recording.cut for recording in recordings if recording.cut is not None),
    )


def tape_end_ns(writer: SessionWriter) -> int:
    """Receive time of the last row that a writer has been given and has flushed."""
    writer.flush()
    last_ns = 0
    for rows in Session.open(writer.folder).rows():
        last_ns = int(rows["ts_recv_ns"][-1])
    return last_ns


def _instruments(recordings: Sequence[_Recording], given: Sequence[Instrument]) -> Iterator[Instrument]:
    known = {instrument.key: instrument for instrument in given}
    steps: dict[tuple[str, str], Steps] = {}
    venues = {recording.venue.name: recording.venue for recording in recordings}
    for recording in recordings:
        for symbol, seen in recording.steps.items():
            common = steps.setdefault((recording.venue.name, symbol), Steps())
            common.price, common.qty = math.gcd(common.price, seen.price), math.gcd(common.qty, seen.qty)
    for (name, symbol), seen in steps.items():
        yield known.get(f"{name}:{symbol}") or infer_instrument(venues[name], symbol, seen)


def _in_order(
    recordings: Sequence[_Recording], progress: Progress
) -> Iterator[tuple[_Recording, int, int | None, bytes]]:
    """The lines of all recordings by receive time; an unusable line comes with the usable one before it."""

    def keyed(place: int, recording: _Recording) -> Iterator[tuple[int, int, int, int | None, bytes]]:
        last_ns = recording.first_ns
        for number, recv_ns, frame in recording.lines():
            # A recorder's clock may step back; the tape's time does not.
            last_ns = max(last_ns, recv_ns if recv_ns is not None else last_ns)
            yield last_ns, place, number, None if recv_ns is None else last_ns, frame

    ordered = sorted(recordings, key=lambda recording: (recording.first_ns, recording.path.name))
    streams = [keyed(place, recording) for place, recording in enumerate(ordered)]
    total = len(ordered)
    for count, (_, place, number, recv_ns, frame) in enumerate(heapq.merge(*streams, key=lambda item: item[:3])):
        if count % 20_000 == 0:
            progress(0.5 + 0.45 * place / total, f"{count:,} lines")
        yield ordered[place], number, recv_ns, frame


def _opening(recording: _Recording, feed: int, recv_ns: int, table: InstrumentTable) -> Record:
    symbols = [instrument.symbol for _, instrument in table.of_venue(recording.venue.name)]
    wanted = tuple(
        Subscription(channel=channel, symbol=symbol)
        for symbol in symbols
        for channel in (Channel.DEPTH, Channel.QUOTE, Channel.TRADE)
    )
    opened = Opened(venue=recording.venue.name, path="import", subscriptions=wanted)
    return Record(recv_ns, feed, RecordType.OPENED, msgspec.json.encode(opened))


def _asks_depth(recording: _Recording, index: int) -> Fetch:
    return Fetch(purpose=DEPTH, instrument=index, request=Request(method="GET", path="recorded"))


def _tell(machines: Machines, writer: SessionWriter, record: Record) -> Sequence[Command]:
    writer.frame(record.recv_ns, record.feed, record.type, record.payload)
    return machines.tell(record)


def _reject(path: Path, line: int, reason: str, frame: bytes) -> _Rejected:
    return _Rejected(path.name, line, reason, frame[:_SHOWN_BYTES].decode(errors="replace"))
