"""A recorded session is served byte for byte: to a capture, which makes the same tape of it, and to a plain client."""

from __future__ import annotations

import asyncio
import gzip
import random
import time
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import ccxt.pro
import msgspec
import numpy as np
import pytest
from loopback import eventually
from recorded_world import Client, Step, answers, closes, hear, opens, says, served, session_of

from oneprice.compute.books import Books, apply_rows, levels, make_books, state_hash
from oneprice.data.capture import Capture
from oneprice.data.importer import import_recordings
from oneprice.data.plan import CapturePlan, VenuePlan
from oneprice.data.recorded import recording_of
from oneprice.data.rederive import first_divergence
from oneprice.data.session import RecordType, Session, SessionWriter, joined
from oneprice.emulator.ccxt_addresses import binance_overrides
from oneprice.emulator.practice import PracticeVenues
from oneprice.emulator.recorded import RecordedVenues
from oneprice.model.errors import InputError, SessionError, VenueError
from oneprice.model.tape import Kind, Rows
from oneprice.model.time import SystemClock
from oneprice.venues.base import Channel, Endpoints
from oneprice.venues.registry import venue
from patience import WITHIN_S
from shared_data import shared

VENUES = ("binance_sbe", "binance_spot", "bybit_linear")
OF_THIS_RUN = (Kind.TIMER, Kind.CLOCK)  # rows that tell when somebody listened, not what was said
FRAMES = (RecordType.TEXT, RecordType.BINARY)
TRADE = "btcusdt@trade"


class Counted(SessionWriter):
    """A session that counts the frames written to it."""

    count = 0

    def frame(self, recv_ns: int, feed: int, type_: RecordType, payload: bytes) -> None:
        self.count += type_ in FRAMES
        super().frame(recv_ns, feed, type_, payload)


async def captured(endpoints: Mapping[str, Endpoints], folder: Path, *, frames: int) -> Session:
    """What a capture makes of some venues, until so many frames have come."""
    clock = SystemClock()
    plan = CapturePlan(venues={name: VenuePlan(symbols=("BTCUSDT", "ETHUSDT")) for name in VENUES}, endpoints=endpoints)
    async with aiohttp.ClientSession() as http:
        capture = await Capture.prepare(plan, http=http, clock=clock, rng=random.Random(1), environ={})
        writer = Counted(folder, capture.instruments, source="capture", created_ns=clock.now_ns())
        task = asyncio.create_task(capture.run(recorder=writer))
        await eventually(lambda: task.done() or (writer.count >= frames and all_stand(capture)))
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled(), task
        writer.close(closed_ns=clock.now_ns())
    return Session.open(folder)


def all_stand(capture: Capture) -> bool:
    return all(join.book_id >= 0 for name in VENUES for join in capture.machines.machine(name).joins.values())


def said_on(session: Session) -> dict[bytes, list[tuple[bool, bytes]]]:
    """The frames of each connection, by what was subscribed to on it."""
    opened: dict[int, bytes] = {}
    said: dict[bytes, list[tuple[bool, bytes]]] = {}
    for record in session.records():
        if record.type is RecordType.OPENED:
            opened[record.feed] = record.payload
            said[record.payload] = []
        elif record.type in FRAMES:
            said[opened[record.feed]].append((record.type is RecordType.BINARY, record.payload))
    return said


def rows_by_kind(session: Session) -> dict[tuple[int, int], bytes]:
    """The tape by instrument and kind, without receive times and numbers of connections. (Instruments and kinds reach this
    machine over several sockets; their order among each other is the network's.)"""
    rows: Rows = joined(list(session.rows()))
    rows["ts_recv_ns"] = rows["feed"] = 0
    pairs = {(int(row["instrument"]), int(row["kind"])) for row in np.unique(rows[["instrument", "kind"]])}
    return {
        (instrument, kind): rows[(rows["instrument"] == instrument) & (rows["kind"] == kind)].tobytes()
        for instrument, kind in pairs
        if kind not in OF_THIS_RUN
    }


def books_of(session: Session) -> Books:
    """The books as they stand at a session's end."""
    books = make_books(len(session.instruments))
    for rows in session.rows():
        apply_rows(books, rows, 0, len(rows))
    return books


def books_at_end(session: Session) -> list[tuple[int, int]]:
    books = books_of(session)
    return [(int(books.valid[i]), int(state_hash(books, i))) for i in range(len(session.instruments))]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A few seconds of a seeded market."""

    async def record() -> Session:
        async with PracticeVenues(seed=11, venues=VENUES) as practice:
            return await captured(practice.endpoints, tmp_path_factory.mktemp("recorded") / "S1", frames=1_500)

    return asyncio.run(record())


@pytest.mark.parametrize("speed", [1.0, 4.0, None])
async def test_a_capture_of_a_served_session_is_that_session_again(
    recorded: Session, speed: float | None, tmp_path: Path
) -> None:
    then = said_on(recorded)
    async with RecordedVenues(recording_of(recorded), speed=speed) as venues:
        again = await captured(venues.endpoints, tmp_path / "S2", frames=sum(map(len, then.values())))
    now = said_on(again)
    assert now == then
    assert rows_by_kind(again) == rows_by_kind(recorded)
    assert books_at_end(again) == books_at_end(recorded)
    assert all(is_valid for is_valid, _ in books_at_end(again))
    assert first_divergence(again) is None


# -- a client without oneprice ---------------------------------------------------------------------------------------------


async def test_a_plain_client_gets_the_recorded_bytes_as_text_or_binary(recorded: Session) -> None:
    then = {name: frames for opened, frames in said_on(recorded).items() for name in VENUES if name.encode() in opened}
    topics = {
        "binance_spot": ["btcusdt@depth@100ms", "btcusdt@bookTicker", TRADE],
        "binance_sbe": ["btcusdt@depth", "btcusdt@bestBidAsk", TRADE],
    }
    async with RecordedVenues(recording_of(recorded), speed=None) as venues, aiohttp.ClientSession() as http:
        for name, of_btc in topics.items():
            at = venues.endpoints[name]
            both = [*of_btc, *(topic.replace("btc", "eth") for topic in of_btc)]
            client = Client(http, ws=at.ws["public"], rest=at.rest)
            assert await client.heard(*both, count=len(then[name])) == then[name]
            named = f"/stream?streams={'/'.join(both)}"
            assert await client.heard(path=named, count=len(then[name])) == then[name], "streams named in the address"
    assert {is_binary for is_binary, _ in then["binance_sbe"]} == {True, False}


async def test_an_unmodified_ccxt_client_comes_to_the_recorded_book(recorded: Session) -> None:
    index = recorded.instruments.index("binance_spot", "BTCUSDT")
    instrument, books = recorded.instruments[index], books_of(recorded)
    recorded_sides = []
    for side in (0, 1):
        prices, sizes = np.zeros(5_000, np.int64), np.zeros(5_000, np.int64)
        count = levels(books, index, side, prices, sizes)
        pairs = zip(prices[:count].tolist(), sizes[:count].tolist(), strict=True)
        recorded_sides.append([[float(instrument.price(price)), float(instrument.qty(size))] for price, size in pairs])
    async with RecordedVenues(recording_of(recorded), speed=4.0) as venues:
        at = venues.endpoints["binance_spot"]
        at = msgspec.structs.replace(at, ws={**at.ws, "ws-api": ""})
        client = ccxt.pro.binance(binance_overrides({"binance_spot": at}))
        try:
            async with asyncio.timeout(WITHIN_S):
                book = await client.watch_order_book("BTC/USDT", 5_000)
                while [book["bids"], book["asks"]] != recorded_sides:
                    book = await client.watch_order_book("BTC/USDT", 5_000)
        finally:
            await client.close()


@pytest.mark.parametrize(
    ("file", "product"), [("spot_btcusdt_20240808.gz", "binance_spot"), ("usdm_btcusdt_20240808.gz", "binance_usdm")]
)
async def test_an_imported_recording_is_served_line_by_line(file: str, product: str, tmp_path: Path) -> None:
    with gzip.open(shared(f"data/market/binance_2024-08-08/{file}")) as whole:
        lines = [next(whole).rstrip() for _ in range(6_000)]
    (tmp_path / "cut").write_bytes(b"\n".join(lines))
    import_recordings([tmp_path / "cut"], tmp_path / "S")
    frames = [line.partition(b" ")[2] for line in lines]
    (snapshot,) = (frame for frame in frames if frame.startswith(b'{"lastUpdateId"'))
    streamed = [(False, frame) for frame in frames if frame is not snapshot]
    session = Session.open(tmp_path / "S")
    request = venue(product).rest.depth
    assert request is not None
    asked = request(session.instruments[0])
    async with served(session) as client:
        heard = await client.heard("btcusdt@depth@0ms", "btcusdt@bookTicker", TRADE, count=len(streamed))
        assert heard == streamed
        status, body, _ = await client.get(asked.path, **asked.query)
        assert (status, body) == (200, snapshot)
        trades = [(is_binary, frame) for is_binary, frame in streamed if frame.startswith(b'{"stream":"btcusdt@trade"')]
        assert await client.heard(TRADE, count=len(trades)) == trades, "who asks for a part gets that part"
        raw = [(False, frame.partition(b'"data":')[2][:-1]) for _, frame in trades]
        assert await client.heard(path=f"/ws/{TRADE}", count=len(raw)) == raw, "a raw stream has no envelope"


# -- connections ---------------------------------------------------------------------------------------------------------


async def test_reconnects_are_served_one_after_the_other_and_then_again(tmp_path: Path) -> None:
    steps = [
        opens(0), says(1, b'{"n":1}'), says(2, b"\x00\xff", is_binary=True), closes(3),
        opens(10, 1), says(11, b'{"n":3}', 1), closes(12, 1),
        opens(20), says(21, b'{"n":4}'), Step(22, -1, RecordType.RESTARTED, b""),
        opens(30), says(31, b'{"n":5}'), closes(32),
    ]  # fmt: skip
    async with served(session_of(tmp_path / "S", steps)) as client:
        served_once = [await client.heard(TRADE) for _ in range(4)]
        assert served_once == [
            [(False, b'{"n":1}'), (True, b"\x00\xff")], [(False, b'{"n":3}')], [(False, b'{"n":4}')], [(False, b'{"n":5}')]
        ]  # fmt: skip
        assert [await client.heard(TRADE) for _ in range(4)] == served_once


async def test_a_client_that_left_early_gets_the_same_connection_from_its_beginning(tmp_path: Path) -> None:
    steps = [opens(0), *(says(k, b'{"n":%d}' % k) for k in range(1, 9)), closes(60_000), opens(60_001, 1)]
    all_of_it = [(False, b'{"n":%d}' % k) for k in range(1, 9)]
    async with served(session_of(tmp_path / "S", steps), speed=1.0) as client:
        assert await client.heard(TRADE, count=3) == all_of_it[:3]
        async with client.connected(TRADE) as one, client.connected(TRADE) as other:
            assert [await hear(socket, 8) for socket in (one, other)] == [all_of_it, all_of_it]


async def test_a_replacement_is_served_while_the_connection_before_it_still_runs(tmp_path: Path) -> None:
    steps = [
        opens(0), says(1, b'{"old":1}'), opens(20, 1), says(30, b'{"new":1}', 1), says(3_000, b'{"old":2}'), closes(3_001),
        says(3_100, b'{"new":2}', 1), closes(3_200, 1),
    ]  # fmt: skip
    async with served(session_of(tmp_path / "S", steps), speed=4.0) as client, client.connected(TRADE) as old:
        assert await hear(old, 1) == [(False, b'{"old":1}')]
        async with client.connected(TRADE) as new:
            assert await hear(new) == [(False, b'{"new":1}'), (False, b'{"new":2}')]
        assert await hear(old) == [(False, b'{"old":2}')]


@pytest.mark.parametrize("speed", [1.0, 5.0])
async def test_frames_keep_their_recorded_distances(speed: float, tmp_path: Path) -> None:
    at_ms = [0, 0, 150, 150, 400]
    steps = [opens(0), *(says(at, b'{"n":%d}' % k) for k, at in enumerate(at_ms)), closes(500)]
    async with served(session_of(tmp_path / "S", steps), speed=speed) as client:
        began_s = time.monotonic()
        came: list[float] = []
        async with client.connected(TRADE) as socket:
            for _ in at_ms:
                await hear(socket, 1)
                came.append(time.monotonic() - began_s)
            await hear(socket)
            lasted_s = time.monotonic() - began_s
    assert all(came_s >= at / 1_000 / speed for at, came_s in zip(at_ms, came, strict=True)), "none before its time"
    assert lasted_s >= 0.5 / speed, "the connection ends no sooner than it did"


async def test_what_was_not_recorded_is_refused_in_the_venues_own_shape(tmp_path: Path) -> None:
    steps = [opens(0), answers(1, b"{}")]
    async with served(session_of(tmp_path / "S", steps)) as client:
        status, body, _ = await client.depth(symbol="ETHUSDT", limit="5000")
        assert (status, b"not in this recording" in body) == (404, True)
        with pytest.raises(VenueError, match="not in this recording") as refused:
            venue("binance_spot").rest.check(status, {}, body)
        assert not refused.value.transient
        async with client.connected("ethusdt@trade") as socket:
            ((_, said),) = await hear(socket, 1)
            told = venue("binance_spot").control(said)
            assert (told.kind, "not in this recording: ethusdt@trade" in told.message) == ("error", True)
    steps = [opens(0, venue="bybit_linear", channels=(Channel.DEPTH,))]
    async with served(session_of(tmp_path / "B", steps, venue="bybit_linear")) as client:
        status, body, _ = await client.get("/v5/market/time")
        with pytest.raises(VenueError, match="not in this recording"):
            venue("bybit_linear").rest.check(status, {}, body)
        async with client.connected(path="") as socket:
            await socket.send_json({"op": "subscribe", "args": ["publicTrade.ETHUSDT"], "req_id": "7"})
            ((_, said),) = await hear(socket, 1)
            told = venue("bybit_linear").control(said)
            assert (told.kind, "not in this recording" in told.message) == ("error", True)


# -- REST ----------------------------------------------------------------------------------------------------------------


async def test_the_same_request_gets_one_recorded_answer_after_the_other(tmp_path: Path) -> None:
    headers = {"x-mbx-used-weight-1m": "250", "Retry-After": "3"}
    steps = [
        opens(0), answers(1, b'{"code":-1003}', status=429, headers=headers), answers(2, b'{"lastUpdateId":7}'),
        answers(3, b'{"code":1}', path="/api/v3/other"),
    ]  # fmt: skip
    async with served(session_of(tmp_path / "S", steps)) as client:
        status, body, told = await client.depth()
        assert (status, body) == (429, b'{"code":-1003}')
        assert headers.items() <= told.items()
        for query in (
            {"limit": "5000", "symbol": "BTCUSDT"},
            {"symbol": "BTCUSDT", "limit": "5000", "timestamp": "1", "signature": "ab"},
        ):
            status, body, _ = await client.depth(**query)
            assert (status, body) == (200, b'{"lastUpdateId":7}')


async def test_an_answer_that_never_came_does_not_come(tmp_path: Path) -> None:
    async with served(session_of(tmp_path / "S", [opens(0), answers(1, b"", status=0)])) as client:
        with pytest.raises(aiohttp.ClientError):
            await client.depth()


async def test_an_answer_waits_for_the_moment_at_which_it_was_recorded(tmp_path: Path) -> None:
    steps = [
        opens(0), says(1, b'{"n":1}'), says(200, b'{"n":2}'), answers(400, b'{"lastUpdateId":7}'), says(800, b'{"n":3}'),
        answers(1_000, b'{"lastUpdateId":8}'), closes(1_100),
    ]  # fmt: skip
    async with served(session_of(tmp_path / "S", steps), speed=1.0) as client, client.connected(TRADE) as socket:
        order: list[str] = []

        async def listen() -> None:
            for _ in range(3):
                order.append((await hear(socket, 1))[0][1].decode())

        listening = asyncio.create_task(listen())
        await eventually(lambda: len(order) == 1)
        for _ in range(2):
            order.append((await client.depth())[1].decode())
        await listening
    assert order == ['{"n":1}', '{"n":2}', '{"lastUpdateId":7}', '{"n":3}', '{"lastUpdateId":8}']


async def test_the_fastest_stream_waits_at_a_snapshot_until_it_is_fetched(tmp_path: Path) -> None:
    steps = [opens(0), says(1, b'{"n":1}'), answers(2, b'{"lastUpdateId":7}'), says(3, b'{"n":2}'), closes(4)]
    async with served(session_of(tmp_path / "S", steps)) as client:
        async with client.connected(TRADE) as socket:
            assert await hear(socket, 1) == [(False, b'{"n":1}')]
            following = asyncio.create_task(hear(socket))
            await asyncio.wait((following,), timeout=0.3)
            assert not following.done()
            assert (await client.depth())[1] == b'{"lastUpdateId":7}'
            assert await following == [(False, b'{"n":2}')]
        assert len(await client.heard(TRADE)) == 2, "who does not fetch it is not kept waiting for ever"


async def test_who_begins_a_connection_again_gets_its_answers_again(tmp_path: Path) -> None:
    steps = [answers(0, b'"before"'), opens(1), answers(2, b'"first"'), answers(3, b'"second"'), closes(4)]
    async with served(session_of(tmp_path / "S", steps)) as client:
        given = [(await client.depth())[1]]
        for _ in range(2):
            await client.heard(TRADE)
            given += [(await client.depth())[1] for _ in range(3)]
    assert given == [b'"before"', *[b'"first"', b'"second"', b'"second"'] * 2]


# -- what cannot be served -------------------------------------------------------------------------------------------------


def test_a_damaged_log_or_one_without_connections_is_refused(tmp_path: Path) -> None:
    session = session_of(tmp_path / "S", [opens(0), *(says(k, b'{"n":%d}' % k) for k in range(500))])
    log = session.segments("frames")[0]
    content = bytearray(log.read_bytes())
    content[len(content) // 2] ^= 0xFF
    log.write_bytes(content)
    with pytest.raises(SessionError, match=log.name):
        recording_of(session)
    with pytest.raises(InputError, match="no connection was recorded"):
        recording_of(session_of(tmp_path / "E", [answers(0, b"{}")]))


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_recording_goes_forward(speed: float, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="above 0"):
        RecordedVenues(recording_of(session_of(tmp_path / "S", [opens(0)])), speed=speed)
