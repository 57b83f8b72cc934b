"""What one live message costs this machine's CPU: our path against the usual ones, on the same frames, in one run.

A child process plays a venue: it sends recorded frames of Binance spot (diffs, book tickers, trades) as fast as they
are read. This process reads them and its CPU time is divided by the messages.

    ours            picows → FeedMachine (decode, chain) → tape, cut into micro-batches
    ours + session  the same, with raw log and tape written to disk
    websockets      the `websockets` client and `json.loads`: Python objects, no book, no numbers, nothing kept
    ccxt.pro        `watch_trades`, on the trades alone (its book needs a venue's REST)

    python -m benchmarks.live_capture [--rounds 5] [--json]"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gzip
import hashlib
import json
import multiprocessing
import os
import random
import struct
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import ccxt.pro
import websockets

from oneprice.data.budget import Budget
from oneprice.data.connection import Feed, Link
from oneprice.data.plan import FeedPlan
from oneprice.data.session import RecordType, SessionWriter
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.tape import GapReason, Kind, TapeWriter
from oneprice.model.time import SystemClock
from oneprice.venues.base import Channel, Subscription
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.feed import FeedMachine, Fetch

SHARED = Path(os.environ.get("ONEPRICE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
RECORDING = SHARED / "data/market/binance_2024-08-08/spot_btcusdt_20240808.gz"
LISTING = SHARED / "data/wire/binance_spot/rest_instruments.json"
BTC = Instrument(
    venue="binance_spot", symbol="BTCUSDT", canonical="BTC/USDT", kind=InstrumentKind.SPOT, base="BTC", quote="USDT",
    price_exponent=-2, qty_exponent=-8,
)  # fmt: skip
SUBSCRIPTIONS = tuple(
    Subscription(channel=channel, symbol="BTCUSDT") for channel in (Channel.DEPTH, Channel.QUOTE, Channel.TRADE)
)
_CHUNK = 64


def recorded() -> tuple[list[bytes], bytes]:
    """The recording's frames in their order, and its REST snapshot."""
    frames, snapshot = [], b""
    with gzip.open(RECORDING) as lines:
        for line in lines:
            payload = line.partition(b" ")[2].strip()
            if payload.startswith(b'{"stream"'):
                frames.append(payload)
            else:
                snapshot = payload
    return frames, snapshot


def bare_trades(frames: list[bytes]) -> list[bytes]:
    """The trades without the combined wrapper, as ccxt subscribes to them."""
    return [json.dumps(json.loads(frame)["data"]).encode() for frame in frames if b"@trade" in frame[:40]]


# -- the venue --------------------------------------------------------------------------------------------------------


def play_venue(frames: list[bytes], ready: Connection) -> None:
    """Serve the frames to whoever connects, one connection after another, until killed."""
    wire = [_framed(frame) for frame in frames]
    chunks = [b"".join(wire[start : start + _CHUNK]) for start in range(0, len(wire), _CHUNK)]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
        key = next(value for name, value in fields.items() if name.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        await reader.read(1)  # the subscription: from here on data flow
        try:
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
            await reader.read()
        except ConnectionError:
            pass
        writer.close()

    async def main(argv: Sequence[str] | None = None) -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        ready.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(main())


def _framed(payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return struct.pack("!BB", 0x81, size) + payload
    return (struct.pack("!BBH", 0x81, 126, size) if size < 65536 else struct.pack("!BBQ", 0x81, 127, size)) + payload


# -- the readers ------------------------------------------------------------------------------------------------------


class OursSink:
    """What a capture does with a frame, without its REST client: the snapshot is answered from the recording."""

    def __init__(self, count: int, snapshot: bytes, folder: Path | None) -> None:
        table = InstrumentTable([BTC])
        self.tape = TapeWriter()
        self.machine = FeedMachine(BINANCE_SPOT, table, self.tape)
        self.session = SessionWriter(folder, table, source="benchmark", created_ns=0) if folder is not None else None
        self.left = count
        self.rows = 0
        self.done = asyncio.Event()
        self._snapshot = snapshot
        self._fetch: Fetch | None = None

    def link_opened(self, feed: Feed, link: Link) -> int:
        self.machine.opened(0, SUBSCRIPTIONS, 1)
        link.send(b"subscribe")
        return 0

    def link_frame(self, number: int, payload: bytes, is_binary: bool, recv_ns: int) -> None:
        if self.session is not None:
            self.session.frame(recv_ns, number, RecordType.TEXT, payload)
        for command in self.machine.frame(number, payload, recv_ns):
            if isinstance(command, Fetch):
                self._fetch = command
        if self._fetch is not None and len(self.machine.joins[0].kept) == 5:
            self.machine.answered(self._fetch, 200, {}, self._snapshot, recv_ns)
            self._fetch = None
        self.left -= 1
        if self.tape.n >= 256 or self.left == 0:
            self._cut(recv_ns)
        if self.left == 0:
            self.done.set()

    def link_closed(self, number: int, reason: GapReason) -> None:
        self.machine.closed(number, reason, 2**62)

    def last_data_ns(self, number: int) -> int:
        return self.machine.statistics_of(number).data_ns

    def _cut(self, recv_ns: int) -> None:
        self.tape.append(Kind.TIMER, recv_ns=recv_ns)
        rows = self.tape.take()
        self.rows += len(rows)
        if self.session is not None:
            self.session.rows(rows)
            self.session.flush_if_due(recv_ns)


async def read_ours(port: int, count: int, snapshot: bytes, folder: Path | None = None) -> None:
    sink = OursSink(count, snapshot, folder)
    plan = FeedPlan(venue="binance_spot", path="public", address=f"ws://127.0.0.1:{port}/", subscriptions=SUBSCRIPTIONS)
    clock = SystemClock()
    feed = Feed(plan, BINANCE_SPOT, sink=sink, clock=clock, rng=random.Random(1), connects=Budget(1_000, 300.0, clock))
    task = asyncio.create_task(feed.run())
    await sink.done.wait()
    statistics = sink.machine.statistics
    assert (statistics.gaps, statistics.rejected) == (0, 0), statistics
    task.cancel()
    await asyncio.wait([task])
    if sink.session is not None:
        sink.session.close(closed_ns=1)


async def read_websockets(port: int, count: int) -> None:
    async with websockets.connect(f"ws://127.0.0.1:{port}/", compression=None, max_queue=256) as socket:
        await socket.send("subscribe")
        for _ in range(count):
            json.loads(await socket.recv())


async def read_ccxt(port: int, count: int) -> None:
    exchange = ccxt.pro.binance({"options": {"crossMarginPairsData": [], "isolatedMarginPairsData": []}})
    exchange.set_markets([exchange.parse_market(market) for market in json.loads(LISTING.read_text())["symbols"]])
    exchange.urls["api"]["ws"]["spot"] = f"ws://127.0.0.1:{port}"
    left = [count]
    done = asyncio.Event()
    handle = exchange.handle_trade

    def counted(client: Any, message: Any) -> None:
        handle(client, message)
        left[0] -= 1
        if left[0] == 0:
            done.set()

    exchange.handle_trade = counted

    async def watch() -> None:
        while True:
            await exchange.watch_trades("BTC/USDT")

    task = asyncio.create_task(watch())
    await done.wait()
    task.cancel()
    await asyncio.wait([task])
    await exchange.close()


# -- measuring --------------------------------------------------------------------------------------------------------


def cpu_us(read: Callable[[], Awaitable[None]], messages: int, rounds: int) -> float:
    """CPU of this process in µs a message: the best of `rounds` readings (others are disturbed by the machine)."""
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        asyncio.run(read())  # type: ignore[arg-type]
        best = min(best, time.process_time() - start)
    return best / messages * 1e6


def measure(rounds: int) -> dict[str, Any]:
    frames, snapshot = recorded()
    trades = bare_trades(frames)
    context = multiprocessing.get_context("spawn")
    children, ports = [], []
    for sent in (frames, trades):
        here, there = context.Pipe()
        child = context.Process(target=play_venue, args=(sent, there), daemon=True)
        child.start()
        children.append(child)
        ports.append(here.recv())
    mixed, only_trades = ports
    try:
        with tempfile.TemporaryDirectory() as temporary:
            folders = (Path(temporary) / str(number) for number in range(1_000))
            asyncio.run(read_ours(mixed, len(frames), snapshot))  # loads the compiled code
            figures = {
                "ours": cpu_us(lambda: read_ours(mixed, len(frames), snapshot), len(frames), rounds),
                "ours_and_session": cpu_us(
                    lambda: read_ours(mixed, len(frames), snapshot, next(folders)), len(frames), rounds
                ),
                "websockets_json": cpu_us(lambda: read_websockets(mixed, len(frames)), len(frames), rounds),
                "ours_trades": cpu_us(lambda: read_ours(only_trades, len(trades), snapshot), len(trades), rounds),
                "ccxt_trades": cpu_us(lambda: read_ccxt(only_trades, len(trades)), len(trades), rounds),
            }
    finally:
        for child in children:
            child.kill()
            child.join()
    return {
        "messages": len(frames),
        "bytes_a_message": sum(map(len, frames)) / len(frames),
        "cpu_us_a_message": figures,
        "ratios": {
            "websockets_json / ours": figures["websockets_json"] / figures["ours"],
            "websockets_json / ours_and_session": figures["websockets_json"] / figures["ours_and_session"],
            "ccxt_trades / ours_trades": figures["ccxt_trades"] / figures["ours_trades"],
        },
    }


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description="CPU time of one live message, ours against the usual clients.")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--json", action="store_true", help="one JSON object on the last line")
    chosen = arguments.parse_args(argv)
    result = measure(chosen.rounds)
    out = sys.stderr if chosen.json else sys.stdout
    print(f"{result['messages']} recorded frames, {result['bytes_a_message']:.0f} bytes each on average", file=out)
    for name, figure in result["cpu_us_a_message"].items():
        print(f"{name:20} {figure:8.2f} µs CPU a message", file=out)
    for name, ratio in result["ratios"].items():
        print(f"{name:36} {ratio:6.1f}×", file=out)
    if chosen.json:
        print(json.dumps(result))


if __name__ == "__main__":
    main()
