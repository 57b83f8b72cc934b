"""Line files: what an independent writer says of random tapes, of a practice session and of recorded days; and that a book
can be rebuilt from a file alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import eventually
from naive_jsonl import Files, messages, naive_files
from session_world import T0_NS, a_disk_that_ends_at, some_rows, spot

from oneprice.compute.books import apply_rows, make_books, state_hash
from oneprice.compute.naive_book import NaiveBook
from oneprice.data.capture import Capture
from oneprice.data.certify.names import session_names
from oneprice.data.export import jsonl
from oneprice.data.export.jsonl import Lines, write_jsonl
from oneprice.data.export.jsonl_read import DepthGap, Trade, read_depth, read_funding, read_trades
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.session import Session, SessionWriter, joined
from oneprice.emulator.faults import Fault
from oneprice.emulator.practice import PracticeVenues
from oneprice.model.errors import SessionError
from oneprice.model.instrument import InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, GapReason, Kind, Rows
from oneprice.model.time import SystemClock

READERS: dict[str, Callable[[Path], Iterator[Any]]] = {
    "depth": read_depth, "trades": read_trades, "funding": read_funding
}  # fmt: skip
TABLE = InstrumentTable(
    (
        spot(),
        spot(venue="binance_usdm", kind=InstrumentKind.PERP, price_exponent=-1, qty_exponent=-3),
        spot('1000"ÄPE\\', venue="bybit_linear", kind=InstrumentKind.PERP, price_exponent=-9, qty_exponent=0),
    )
)
NAMES = session_names(TABLE)
INT64 = st.integers(-(2**63), 2**63 - 1)
IDS = st.one_of(st.integers(0, 12), INT64)
TIMES = st.one_of(
    st.just(0),
    st.integers(0, 2**43).map(lambda ms: ms * 1_000_000),
    st.integers(0, 2**53).map(lambda us: us * 1_000),
    INT64,
)
DECIMALS = st.builds(
    lambda whole, places: float(f"{whole}e-{places}"), st.integers(-(10**9), 10**16), st.integers(0, 12)
)
VALUES = st.one_of(DECIMALS, st.floats(1e-12, 1e12))
RATES = st.one_of(st.just(float("nan")), st.integers(-(10**7), 10**7).map(lambda e8: e8 / 1e8), VALUES)
LEVELS = st.lists(
    st.tuples(st.sampled_from([0, ASK]), st.one_of(st.integers(0, 9), INT64), st.one_of(st.just(0), INT64))
)


def row_of(kind: Kind, **fields: Any) -> np.ndarray:
    row = np.zeros(1, dtype=ROW)
    row["kind"] = int(kind)
    for name, value in fields.items():
        row[name] = value
    return row


@st.composite
def whole_messages(draw: st.DrawFn) -> np.ndarray:
    """The rows of one message, as the tape's contract has them."""
    kind = draw(st.sampled_from([Kind.DEPTH, Kind.TRADE, Kind.GAP, Kind.MARK, Kind.FUNDING, Kind.QUOTE, Kind.TIMER]))
    common = {
        "ts_recv_ns": draw(TIMES), "ts_venue_ns": draw(TIMES), "sequence": draw(IDS), "feed": draw(st.integers(0, 1)),
        "instrument": -1 if kind is Kind.TIMER else draw(st.integers(0, len(TABLE) - 1)),
    }  # fmt: skip
    rows: list[np.ndarray] = []
    if kind is Kind.DEPTH:
        opening = SNAPSHOT | CLEAR if draw(st.booleans()) else 0
        for side, price, qty in draw(LEVELS) or [(0, 0, 0)]:
            rows.append(row_of(kind, price=price, qty=qty, flags=side | opening, **common))
            opening &= ~CLEAR
    elif kind is Kind.MARK:
        parts = draw(st.sets(st.sampled_from([Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.OPEN_INTEREST]), min_size=1))
        for part in sorted(parts):
            value = draw(RATES if part is Kind.FUNDING else VALUES)
            rows.append(row_of(part, **{**common, "value": value, "sequence": draw(TIMES)}))
    elif kind is Kind.GAP:
        rows.append(
            row_of(kind, price=draw(INT64), qty=draw(INT64), value=float(draw(st.sampled_from(GapReason))), **common)
        )
    else:
        for _ in range(draw(st.integers(1, 3))):
            rows.append(
                row_of(kind, price=draw(INT64), qty=draw(INT64), flags=draw(st.sampled_from([0, ASK])), **common)
            )
    rows[-1]["flags"] |= LAST
    return np.concatenate(rows)


TAPES = st.lists(whole_messages(), max_size=30).map(lambda found: np.concatenate([np.zeros(0, ROW), *found]))


def lines_of(chunks: list[Rows], table: InstrumentTable = TABLE, names: tuple[str, ...] = NAMES) -> tuple[Files, Lines]:
    lines = Lines(table, names)
    files: Files = dict.fromkeys(lines.files, b"")
    for chunk in chunks:
        for part in lines.of(chunk):
            files[part.instrument, part.stream] += part.text
    return files, lines


@settings(max_examples=300)
@given(TAPES)
def test_lines_are_those_of_the_naive_writer(rows: Rows) -> None:
    files, lines = lines_of([rows])
    expected, unwritable = naive_files(rows, TABLE, NAMES)
    assert files == expected
    assert [lines.unwritable(i) for i in range(len(TABLE))] == unwritable
    assert {file: lines.count(*file) for file in files} == {file: text.count(b"\n") for file, text in expected.items()}


@given(TAPES, st.data())
def test_lines_do_not_depend_on_chunks(rows: Rows, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=6)))
    chunks = np.split(rows, cuts)
    assert lines_of(chunks)[0] == lines_of([rows])[0]


@given(TAPES)
def test_a_message_without_its_end_makes_no_line(rows: Rows) -> None:
    cut = row_of(Kind.DEPTH, price=5, qty=1, instrument=0)
    assert lines_of([joined([rows, cut])])[0] == lines_of([rows])[0]


def test_a_trade_has_the_seeds_fields() -> None:
    """S0.18–S0.27 with R0.3: three decimals, six where the venue gives microseconds."""
    table = InstrumentTable([spot(qty_exponent=-8)])
    rows = some_rows([T0_NS, T0_NS])
    rows["ts_venue_ns"] = 1_769_083_200_123_000_000, 1_769_083_200_123_456_789
    rows["sequence"], rows["price"], rows["qty"] = (1, 2), 9000012, 150000000
    rows["flags"][1] |= ASK
    rules = '"price":9000012,"qty":150000000,"price_exponent":-2,"qty_exponent":-8'
    assert lines_of([rows], table, ("BTCUSDT",))[0][0, "trades"].decode() == (
        f'{{"ts":"2026-01-22T12:00:00.123Z","tradingsymbol":"BTCUSDT","trade_id":1,{rules},'
        f'"is_buyer_maker":false,"integrity_tier":"NON_CERTIFIED"}}\n'
        f'{{"ts":"2026-01-22T12:00:00.123456Z","tradingsymbol":"BTCUSDT","trade_id":2,{rules},'
        f'"is_buyer_maker":true,"integrity_tier":"CERTIFIED"}}\n'
    )


def trade_tiers(*told: np.ndarray) -> list[str]:
    with TemporaryDirectory() as folder:
        write_jsonl(Path(folder), told, TABLE, NAMES)
        return [trade.integrity_tier for trade in read_trades(Path(folder) / NAMES[0] / "trades.jsonl.zst")]


def test_a_trade_without_an_id_is_certified_by_the_book_of_its_own_connection() -> None:
    opened = row_of(Kind.DEPTH, flags=SNAPSHOT | CLEAR | LAST, price=5, qty=1, feed=3)
    lost = row_of(Kind.GAP, flags=LAST, value=float(GapReason.DISCONNECT), feed=3)
    trade, elsewhere = row_of(Kind.TRADE, flags=LAST, feed=3), row_of(Kind.TRADE, flags=LAST, feed=4)
    yes, no = "CERTIFIED", "NON_CERTIFIED"
    assert trade_tiers(trade, opened, trade, elsewhere, lost, trade, opened, trade) == [no, yes, no, no, yes]


def test_a_numbered_trade_is_certified_by_its_number() -> None:
    opened = row_of(Kind.DEPTH, flags=SNAPSHOT | CLEAR | LAST, price=5, qty=1)
    trades = [row_of(Kind.TRADE, flags=LAST, sequence=number) for number in (7, 8, 10, 11, 11)]
    yes, no = "CERTIFIED", "NON_CERTIFIED"
    assert trade_tiers(opened, *trades) == [yes, yes, no, yes, no]
    assert trade_tiers(*trades) == [no, yes, no, yes, no]


# -- files ---------------------------------------------------------------------------------------------------------------


def trades_tape(count: int) -> Rows:
    rows = some_rows(range(T0_NS, T0_NS + count))
    rows["ts_venue_ns"] = rows["ts_recv_ns"]
    rows["sequence"] += 1
    return rows


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("chunk", [7, 1_000, 100_000])
def test_files_do_not_depend_on_chunks(chunk: int, plain: bool, tmp_path: Path) -> None:
    """14 000 trades are more than two frames."""
    rows = trades_tape(14_000)
    for name, size in (("one", len(rows)), ("many", chunk)):
        chunks = [rows[start : start + size] for start in range(0, len(rows), size)]
        written = write_jsonl(tmp_path / name, chunks, TABLE, NAMES, plain=plain)
    one, many = (
        {path.relative_to(tmp_path / name): path.read_bytes() for path in (tmp_path / name).rglob("*.*")}
        for name in ("one", "many")
    )
    assert one == many
    assert sorted(one) == sorted(file.path.relative_to(tmp_path / "many") for file in written)
    (trades,) = (file for file in written if file.lines)
    assert (trades.stream, trades.instrument, trades.lines) == ("trades", 0, 14_000)
    read = list(read_trades(trades.path))
    assert [(trade.trade_id, trade.price) for trade in read] == list(
        zip(rows["sequence"].tolist(), rows["price"].tolist(), strict=True)
    )


def test_only_perpetuals_have_a_funding_file_and_only_wanted_streams_are_written(tmp_path: Path) -> None:
    written = write_jsonl(tmp_path / "all", [], TABLE, NAMES)
    assert {(file.path.parent.name, file.path.name) for file in written} == {
        (name, f"{stream}.jsonl.zst")
        for name, instrument in zip(NAMES, TABLE, strict=True)
        for stream in ("depth", "trades", *(["funding"] if instrument.kind is InstrumentKind.PERP else []))
    }
    assert [list(READERS[file.stream](file.path)) for file in written] == [[]] * len(written)
    some = write_jsonl(tmp_path / "some", [], TABLE, NAMES, streams=("depth",), plain=True)
    assert (
        {file.path.name for file in some} == {"depth.jsonl"} == {path.name for path in (tmp_path / "some").glob("*/*")}
    )


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Trade], list[int]]:
    """A packed file of many small frames: its path, its trades, and where its frames end."""
    monkeypatch.setattr(jsonl, "_FRAME_BYTES", 2_000)
    write_jsonl(tmp_path, [trades_tape(100)], TABLE, NAMES, streams=("trades",))
    path = tmp_path / NAMES[0] / "trades.jsonl.zst"
    held, ends = path.read_bytes(), [0]
    while ends[-1] < len(held):
        frame = zstandard.ZstdDecompressor().decompressobj()
        assert frame.decompress(held[ends[-1] :]).endswith(b"\n")
        assert zstandard.get_frame_parameters(held[ends[-1] :]).has_checksum
        ends.append(len(held) - len(frame.unused_data))
    assert len(ends) > 8
    return path, list(read_trades(path)), ends


def test_a_cut_file_reads_to_its_last_whole_frame(packed: tuple[Path, list[Trade], list[int]]) -> None:
    path, trades, ends = packed
    held, by_end = path.read_bytes(), {}
    for end in ends:
        path.write_bytes(held[:end])
        by_end[end] = list(read_trades(path))
    assert by_end[ends[-1]] == trades and len({len(found) for found in by_end.values()}) == len(ends)
    for length in range(len(held)):
        path.write_bytes(held[:length])
        assert list(read_trades(path)) == by_end[max(end for end in ends if end <= length)]


def test_a_changed_byte_never_makes_a_line_that_was_not_written(packed: tuple[Path, list[Trade], list[int]]) -> None:
    path, trades, _ = packed
    held = path.read_bytes()
    refused = 0
    for place in range(0, len(held), 7):
        path.write_bytes(held[:place] + bytes([held[place] ^ 0x10]) + held[place + 1 :])
        found: list[Trade] = []
        try:
            for trade in read_trades(path):
                found.append(trade)
        except SessionError as wrong:
            refused += 1
            assert f"{path}: the frame behind line {len(found)} " in str(wrong)
        assert found == trades[: len(found)]
    assert refused > len(held) // 7 * 0.9


def test_a_plain_file_that_was_cut_reads_to_its_last_whole_line(tmp_path: Path) -> None:
    write_jsonl(tmp_path, [trades_tape(700)], TABLE, NAMES, plain=True)
    path = tmp_path / NAMES[0] / "trades.jsonl"
    trades, held = list(read_trades(path)), path.read_bytes()
    assert len(trades) == 700 and len(held) > 1 << 16
    path.write_bytes(held[:-1])
    assert list(read_trades(path)) == trades[:-1]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"{", "truncated"),
        (b'{"ts":null,"tradingsymbol":"A"}', "missing required field"),
        (b'{"ts":"2026-01-22T12:00:00.123","tradingsymbol":"A"}', "timezone"),
        (b'{"ts":null,"tradingsymbol":"A","trade_id":1,"extra":2}', "unknown field"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(line: bytes, says: str, tmp_path: Path) -> None:
    write_jsonl(tmp_path, [trades_tape(3)], TABLE, NAMES, plain=True)
    path = tmp_path / NAMES[0] / "trades.jsonl"
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(SessionError, match=rf"{path}, line 4: .*{says}"):
        list(read_trades(path))
    with pytest.raises(SessionError, match=r"nothing\.jsonl: cannot be read: No such file"):
        list(read_trades(tmp_path / "nothing.jsonl"))


def test_a_full_disk_leaves_no_half_file_under_its_name(tmp_path: Path) -> None:
    kept = write_jsonl(tmp_path, [trades_tape(5)], TABLE, NAMES, plain=True)
    before = [file.path.read_bytes() for file in kept]
    with (
        a_disk_that_ends_at(100_000),
        pytest.raises(SessionError, match=r"trades.jsonl: cannot be written: File too large"),
    ):
        write_jsonl(tmp_path, [trades_tape(2_000)], TABLE, NAMES, plain=True)
    assert [file.path.read_bytes() for file in kept] == before


# -- sessions --------------------------------------------------------------------------------------------------------------


async def captured(folder: Path) -> Session:
    """Practice venues, each of which loses some depth messages and repairs the book."""
    clock = SystemClock()
    names = ("binance_spot", "binance_usdm", "bybit_linear")
    async with PracticeVenues(seed=11, venues=names) as practice, aiohttp.ClientSession() as http:
        wanted = {name: VenuePlan(symbols=("BTCUSDT", "ETHUSDT")) for name in names}
        plan = CapturePlan(venues=wanted, endpoints=practice.endpoints)
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})
        writer = SessionWriter(folder, capture.instruments, source="capture", created_ns=clock.now_ns())
        seen: list[Rows] = []
        task = asyncio.create_task(capture.run(recorder=writer, on_rows=seen.append))

        def count(kind: Kind) -> int:
            return sum(int(np.count_nonzero(rows["kind"] == int(kind))) for rows in seen)

        await eventually(lambda: task.done() or count(Kind.TRADE) > 20)
        for name in names:
            practice.faults.inject(Fault.parse(f"gap@{name}:BTCUSDT,count=2,every=0.1"))
        await eventually(lambda: task.done() or (count(Kind.GAP) >= len(names) and count(Kind.FUNDING) > 12))
        resumed = count(Kind.TRADE)
        await eventually(lambda: task.done() or count(Kind.TRADE) > resumed + 20)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task
        writer.close(closed_ns=clock.now_ns())
    return Session.open(folder)


def assert_books_come_back(rows: Rows, instrument: int, path: Path, *, every: int) -> None:
    """The book of the file alone, as its format says to read it, is the book of the tape."""
    books, naive = make_books(instrument + 1), NaiveBook()
    mine = rows[(rows["instrument"] == instrument) & np.isin(rows["kind"], (int(Kind.DEPTH), int(Kind.GAP)))]
    ends = np.flatnonzero(mine["flags"] & LAST) + 1
    lines = list(read_depth(path))
    assert len(lines) == len(ends) > every
    stands, start = False, 0
    for number, (line, end) in enumerate(zip(lines, ends.tolist(), strict=True)):
        if isinstance(line, DepthGap):
            stands = False
            naive.clear()
        else:
            if line.is_snapshot:
                stands = True
                naive.clear()
            assert stands == (line.integrity_tier == "CERTIFIED")
            for side, levels in enumerate((line.bids, line.asks)):
                for price, qty in levels if stands else ():
                    naive.set_level(side, price, qty)
        if number % every == 0 or end == ends[-1] or isinstance(line, DepthGap):
            apply_rows(books, mine, start, end)
            start = end
            assert bool(books.valid[instrument]) == stands
            assert int(state_hash(books, instrument)) == naive.state_hash(), number


async def test_a_practice_session_with_gaps(tmp_path: Path) -> None:
    session = await captured(tmp_path / "s")
    rows, names = joined(list(session.rows())), session_names(session.instruments)
    written = write_jsonl(tmp_path / "out", session.rows(), session.instruments, names, plain=True)
    expected, unwritable = naive_files(rows, session.instruments, names)
    assert {(file.instrument, file.stream): file.path.read_bytes() for file in written} == expected
    assert unwritable == [0] * len(names)
    packed = write_jsonl(tmp_path / "packed", session.rows(), session.instruments, names)
    gaps = 0
    for bare, small in zip(written, packed, strict=True):
        assert bare.lines == small.lines > 0
        lines = list(READERS[bare.stream](bare.path))
        assert lines == list(READERS[bare.stream](small.path))
        if bare.stream == "depth":
            gaps += sum(isinstance(line, DepthGap) for line in lines)
            assert_books_come_back(rows, bare.instrument, small.path, every=10)
    assert gaps >= 3


def test_recorded_days(imported: Any, tmp_path: Path) -> None:
    session = imported.session
    names = session_names(session.instruments)
    written = write_jsonl(tmp_path, session.rows(), session.instruments, names)
    rows = joined(list(session.rows()))
    for file in written:
        mine = rows[rows["instrument"] == file.instrument]
        if file.stream == "depth":
            assert_books_come_back(rows, file.instrument, file.path, every=500)
        elif file.stream == "trades":
            trades = mine[mine["kind"] == int(Kind.TRADE)]
            read = [(trade.trade_id, trade.price, trade.qty, trade.is_buyer_maker) for trade in read_trades(file.path)]
            assert len(read) > 5_000
            assert read == list(
                zip(
                    trades["sequence"].tolist(), trades["price"].tolist(), trades["qty"].tolist(),
                    (trades["flags"] & ASK != 0).tolist(), strict=True,
                )
            )  # fmt: skip
    # The oracle is slow: the first minute of each instrument, message by message.
    first = rows[:60_000]
    first = first[: 1 + int(np.flatnonzero(first["flags"] & LAST)[-1])]
    assert sum(1 for _ in messages(first)) > 5_000
    assert lines_of([first], session.instruments, names)[0] == naive_files(first, session.instruments, names)[0]
