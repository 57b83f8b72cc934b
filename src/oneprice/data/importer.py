"""Recordings of other recorders become sessions.

Every line goes the way a live frame goes: into the raw log, through the venue's feed machine, onto the tape. A line that
holds a book without a stream around it is the answer of a REST snapshot. Lines that cannot be used are counted and kept in
`rejected.jsonl` with file, line and reason; a file that ends in the middle is read up to there. Files of one venue are one
connection, also where one file follows another in time; files of several venues are merged by receive time."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from oneprice.data.certify.measures import SymbolMeasures, measure
from oneprice.data.infer import Steps, infer_instrument
from oneprice.data.machines import Answer, Machines, Opened, with_body
from oneprice.data.recordings import Line, Recording, is_snapshot, snapshot_symbol
from oneprice.data.session import FeedEntry, Record, RecordType, Session, SessionWriter
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.progress import Progress, untold
from oneprice.model.tape import TapeWriter
from oneprice.model.time import NS_PER_S, iso_ms
from oneprice.venues.base import Channel, Request, Subscription
from oneprice.venues.feed import DEPTH, FeedMachine, Fetch

REJECTED = "rejected.jsonl"
IMPORTED = "import"  # ws path of a recording's connection: which one it was is not known
UNASKED = "recorded"  # path of the request for a snapshot that no machine had asked for
_CHANNELS = (Channel.DEPTH, Channel.QUOTE, Channel.TRADE)
_FLUSH_ROWS = 1 << 14
_PROGRESS_LINES = 20_000
_SHOWN_BYTES = 200


class ImportResult(msgspec.Struct, frozen=True, kw_only=True):
    """What an import made: the session's folder, what each symbol holds, and what could not be used."""

    session: str
    seconds: float  # from the first to the last line
    lines: int
    rejected: int
    symbols: tuple[SymbolMeasures, ...]
    notes: tuple[str, ...]


class _Rejected(msgspec.Struct, frozen=True):
    """A line of rejected.jsonl."""

    file: str
    line: int
    reason: str
    begins: str


def import_recordings(
    paths: Sequence[Path],
    out: Path,
    *,
    venue: str | None = None,
    instruments: Sequence[Instrument] = (),
    progress: Progress = untold,
) -> ImportResult:
    """Make one session of some recordings, closed and measured.

    `venue` says whose frames they are where they do not tell; `instruments` take the place of rules read off the data, by
    venue and symbol; `progress` is called now and then with the part that is done and a word about it. InputError for what
    is no recording, before anything is written.
    """
    recordings = _look_at(paths, venue, progress)
    table = InstrumentTable(_instruments(recordings, instruments))
    importing = _Import(recordings, table, out)
    importing.run(progress)
    session = Session.open(out)
    progress(1.0, "comparing books with quotes")
    return ImportResult(
        session=str(out),
        seconds=round((importing.last_ns - session.manifest.created_ns) / NS_PER_S, 3),
        lines=importing.line_count,
        rejected=importing.rejected_count,
        symbols=measure(session).symbols,
        notes=tuple(importing.notes()),
    )


class _Import:
    """One import under way."""

    def __init__(self, recordings: Sequence[Recording], table: InstrumentTable, out: Path) -> None:
        self._recordings = recordings
        self._table = table
        self._writer = SessionWriter(
            out, table, source="import", created_ns=recordings[0].first_ns,
            configuration={"recordings": [recording.path.name for recording in recordings]},
        )  # fmt: skip
        self._tape = TapeWriter(4 * _FLUSH_ROWS)
        self._machines = Machines(table, self._tape)
        self._fetches: dict[int, Fetch] = {}  # snapshots that the machines wait for, by instrument
        self._feeds = {name: number for number, name in enumerate(sorted({one.venue.name for one in recordings}))}
        self._unneeded: Counter[str] = Counter()  # snapshots of books that stood
        self.line_count = 0
        self.rejected_count = 0
        self.last_ns = recordings[0].first_ns

    def run(self, progress: Progress) -> None:
        """Read every line in order of time, and close the session."""
        total = sum(recording.line_count for recording in self._recordings)
        for name in self._feeds:
            self._open(name)
        with (self._writer.folder / REJECTED).open("wb") as rejected:
            for recording, line in _in_order(self._recordings):
                if self.line_count % _PROGRESS_LINES == 0:
                    progress(0.5 + 0.45 * self.line_count / total, f"{self.line_count:,} lines")
                self.line_count += 1
                reason = self._take(recording, line)
                if reason:
                    self.rejected_count += 1
                    begins = line.frame[:_SHOWN_BYTES].decode(errors="replace")
                    entry = _Rejected(recording.path.name, line.number, reason, begins)
                    rejected.write(msgspec.json.encode(entry) + b"\n")
                if self._tape.n >= _FLUSH_ROWS:
                    self._writer.rows(self._tape.take())
        self._writer.rows(self._tape.take())
        self._writer.close(
            closed_ns=self.last_ns, statistics={"lines": self.line_count, "rejected": self.rejected_count}
        )

    def notes(self) -> Iterator[str]:
        """What a person should know of the import, the worst first."""
        yield from (recording.cut for recording in self._recordings if recording.cut)
        yield from _overlaps(self._recordings)
        for index, instrument in enumerate(self._table):
            join = self._machines.machine(instrument.venue).joins.get(index)
            if join is not None and join.book_id < 0:
                yield f"{instrument.key}: no book stands at the end, because no snapshot joins the depth before it"
        for key, count in sorted(self._unneeded.items()):
            yield f"{key}: {count} snapshots were left out, because the book stood"
        inferred = [instrument.key for instrument in self._table if instrument.rules_inferred]
        if inferred:
            yield f"tick, lot and currencies are inferred from the data, fees are the venue's usual ones: {', '.join(inferred)}"

    def _open(self, name: str) -> None:
        """One connection for all recordings of a venue, open from the first line on."""
        number = self._feeds[name]
        venue = self._machines.machine(name).venue
        wanted = tuple(
            Subscription(channel=channel, symbol=instrument.symbol)
            for _, instrument in self._table.of_venue(name)
            for channel in _CHANNELS
            if channel in venue.channels
        )
        opened = msgspec.json.encode(Opened(venue=name, path=IMPORTED, subscriptions=wanted))
        self._writer.add_feed(FeedEntry(number=number, venue=name, path=IMPORTED, address="recording"))
        self._tell(Record(self.last_ns, number, RecordType.OPENED, opened))

    def _take(self, recording: Recording, line: Line) -> str:
        """Use a line; → why it cannot be used, or nothing."""
        if line.recv_ns is None:
            return "not of the form '<local ns> <json>' or '<epoch seconds>: <json>'"
        # A recorder's clock may step back; the tape's time does not.
        self.last_ns = max(self.last_ns, line.recv_ns)
        machine = self._machines.machine(recording.venue.name)
        record = Record(self.last_ns, self._feeds[recording.venue.name], RecordType.TEXT, line.frame)
        if is_snapshot(line.frame):
            symbol = snapshot_symbol(line.frame) or recording.only_symbol
            if symbol is None:
                return "a snapshot that names no symbol, in a recording of several"
            index = self._table.index(recording.venue.name, symbol)
            payload = self._answer(machine, index, line.frame)
            if payload is None:
                self._unneeded[self._table[index].key] += 1
                return ""
            record = msgspec.structs.replace(record, type=RecordType.ANSWER, payload=payload)
        refused = machine.rejections.total()
        self._tell(record)
        return machine.rejected[-1].reason if machine.rejections.total() > refused else ""

    def _answer(self, machine: FeedMachine, index: int, body: bytes) -> bytes | None:
        """A snapshot as the answer that the machine waits for; None when it waits for none."""
        if machine.joins[index].book_id >= 0:
            return None
        unasked = Fetch(purpose=DEPTH, instrument=index, request=Request(method="GET", path=UNASKED))
        fetch = self._fetches.pop(index, unasked)
        return with_body(Answer(venue=machine.venue.name, fetch=fetch, status=200), body)

    def _tell(self, record: Record) -> None:
        """Write a record down, tell it to its machine, and remember which snapshots that one now waits for."""
        self._writer.frame(record.recv_ns, record.feed, record.type, record.payload)
        for command in self._machines.tell(record):
            if isinstance(command, Fetch):
                self._fetches[command.instrument] = command


def _look_at(paths: Sequence[Path], venue: str | None, progress: Progress) -> list[Recording]:
    """The recordings in order of their beginnings."""
    if not paths:
        raise InputError("no recording was named")
    twice = [name for name, count in Counter(str(path.resolve()) for path in paths).items() if count > 1]
    if twice:
        raise InputError(f"{twice[0]}: this recording was named twice")
    recordings = []
    for place, path in enumerate(paths):
        progress(place / (2 * len(paths)), f"looking at {path.name}")
        recordings.append(Recording(path, venue))
    return sorted(recordings, key=lambda recording: (recording.first_ns, recording.path.name))


def _instruments(recordings: Sequence[Recording], given: Sequence[Instrument]) -> Iterator[Instrument]:
    """Each symbol of the recordings: as given, else as inferred from all that was seen of it."""
    known = {instrument.key: instrument for instrument in given}
    seen: dict[str, tuple[Recording, str, Steps]] = {}
    for recording in recordings:
        for symbol, steps in recording.steps.items():
            key = f"{recording.venue.name}:{symbol}"
            seen.setdefault(key, (recording, symbol, Steps()))[2].merge(steps)
    for key, (recording, symbol, steps) in seen.items():
        yield known.get(key) or infer_instrument(recording.venue, symbol, steps)


def _in_order(recordings: Sequence[Recording]) -> Iterator[tuple[Recording, Line]]:
    """The lines of all recordings by receive time; an unusable line comes behind the usable one before it."""

    def keyed(place: int, recording: Recording) -> Iterator[tuple[int, int, Line]]:
        last_ns = recording.first_ns
        for line in recording.lines():
            last_ns = max(last_ns, line.recv_ns or 0)
            yield last_ns, place, line

    streams = [keyed(place, recording) for place, recording in enumerate(recordings)]
    for _, place, line in heapq.merge(*streams, key=lambda item: item[:2]):
        yield recordings[place], line


def _overlaps(recordings: Sequence[Recording]) -> Iterator[str]:
    for place, late in enumerate(recordings):
        for early in recordings[:place]:
            common = set(early.steps) & set(late.steps)
            if early.venue.name == late.venue.name and common and late.first_ns <= early.last_ns:
                end_ns = min(early.last_ns, late.last_ns)
                yield (
                    f"{early.path} and {late.path} both hold {min(common)} from {iso_ms(late.first_ns)} to {iso_ms(end_ns)}: "
                    "its trades and quotes are on the tape twice"
                )
