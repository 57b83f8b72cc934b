"""A venue under load, for `capture_load`: Binance spot's wire for any number of symbols, at a set rate of messages.

Depth diffs (ten levels), trades and book tickers, a third each, symbols in turn. What is sent is decided by counters alone,
so that the reader can be held against it: `GET /sent` tells how many messages of each kind went out. Streams are raw sockets
that a tick of two milliseconds fills, because the sender must not be what limits the rate."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import struct
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from aiohttp import web

_TICK_S = 0.002
_LEVELS = 10
_FIRST_ID = 10_000_000


class _Symbol:
    def __init__(self, name: str, number: int) -> None:
        self.name, self.lower = name, name.lower()
        self.mid = 5_000_000 + 100_000 * number  # in ticks of 0.01
        self.update_id = self.trade_id = _FIRST_ID
        self.sent = {"depth": 0, "trade": 0, "bookTicker": 0}
        self.writer: asyncio.StreamWriter | None = None

    def message(self, turn: int, now_ms: int) -> str:
        """The next message of this symbol. Levels walk about a fixed mid, so that a book neither grows nor crosses."""
        shift = turn % 40
        if turn % 3 == 0:
            self.sent["depth"] += 1
            first, self.update_id = self.update_id + 1, self.update_id + 2 * _LEVELS
            bids = ",".join(
                f'["{_price(self.mid - 1 - shift - k)}","{1 + k + shift}.25000000"]' for k in range(_LEVELS)
            )
            asks = ",".join(
                f'["{_price(self.mid + 1 + shift + k)}","{1 + k + shift}.75000000"]' for k in range(_LEVELS)
            )
            return (
                f'{{"stream":"{self.lower}@depth@100ms","data":{{"e":"depthUpdate","E":{now_ms},"s":"{self.name}",'
                f'"U":{first},"u":{self.update_id},"b":[{bids}],"a":[{asks}]}}}}'
            )
        if turn % 3 == 1:
            self.sent["trade"] += 1
            self.trade_id += 1
            return (
                f'{{"stream":"{self.lower}@trade","data":{{"e":"trade","E":{now_ms},"s":"{self.name}","t":{self.trade_id},'
                f'"p":"{_price(self.mid)}","q":"0.01000000","T":{now_ms},"m":{"true" if turn % 2 else "false"},"M":true}}}}'
            )
        self.sent["bookTicker"] += 1
        return (
            f'{{"stream":"{self.lower}@bookTicker","data":{{"u":{self.update_id},"s":"{self.name}",'
            f'"b":"{_price(self.mid - 1)}","B":"1.00000000","a":"{_price(self.mid + 1)}","A":"1.00000000"}}}}'
        )

    def snapshot(self) -> dict[str, object]:
        sides = [
            [[_price(self.mid + sign * (1 + k)), "5.00000000"] for k in range(500)] for sign in (-1, 1)
        ]  # fmt: skip
        return {"lastUpdateId": self.update_id, "bids": sides[0], "asks": sides[1]}

    def listing(self) -> dict[str, object]:
        return {
            "symbol": self.name, "status": "TRADING", "baseAsset": self.name.removesuffix("USDT"), "quoteAsset": "USDT",
            "isSpotTradingAllowed": True, "permissions": [], "orderTypes": ["LIMIT", "MARKET"],
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000", "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000", "stepSize": "0.00001"},
                {"filterType": "NOTIONAL", "minNotional": "5"},
            ],
        }  # fmt: skip


def _price(ticks: int) -> str:
    return f"{ticks // 100}.{ticks % 100:02d}000000"


def _framed(payload: bytes) -> bytes:
    size = len(payload)
    return (struct.pack("!BB", 0x81, size) if size < 126 else struct.pack("!BBH", 0x81, 126, size)) + payload


def play(names: tuple[str, ...], messages_per_s: int, ready: Connection) -> None:
    """Serve until killed; `ready` gets the ports of REST and of the streams."""
    symbols = {name: _Symbol(name, number) for number, name in enumerate(names)}

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:] if b": " in line)
        key = next(value for field, value in fields.items() if field.lower() == b"sec-websocket-key")
        accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
        writer.write(
            f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked = json.loads(await _message(reader))
                writer.write(_framed(json.dumps({"result": None, "id": asked["id"]}).encode()))
                for topic in asked["params"]:
                    symbols[topic.split("@")[0].upper()].writer = writer

    async def send() -> None:
        turn = 0
        began = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_S)
            joined = [symbol for symbol in symbols.values() if symbol.writer is not None]
            due = int((time.monotonic() - began) * messages_per_s)
            if not joined:
                turn = due
                continue
            now_ms = time.time_ns() // 1_000_000
            frames: dict[str, list[bytes]] = {symbol.name: [] for symbol in joined}
            for k in range(turn, due):
                symbol = joined[k % len(joined)]
                frames[symbol.name].append(_framed(symbol.message(k // len(joined), now_ms).encode()))
            turn = due
            for symbol in joined:
                assert symbol.writer is not None
                symbol.writer.write(b"".join(frames[symbol.name]))

    async def answer(request: web.Request) -> web.Response:
        match request.path:
            case "/api/v3/time":
                return web.json_response({"serverTime": time.time_ns() // 1_000_000})
            case "/api/v3/exchangeInfo":
                return web.json_response({"symbols": [symbol.listing() for symbol in symbols.values()]})
            case "/api/v3/depth":
                return web.json_response(symbols[request.query["symbol"]].snapshot())
            case "/sent":
                for symbol in symbols.values():
                    symbol.writer = None  # from here on nothing more
                return web.json_response({name: symbol.sent for name, symbol in symbols.items()})
        return web.json_response({"code": -1, "msg": "no such call"}, status=404)

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        rest = web.TCPSite(runner, "127.0.0.1", 0)
        await rest.start()
        server = await asyncio.start_server(stream, "127.0.0.1", 0)
        assert rest._server is not None
        ready.send((runner.addresses[0][1], server.sockets[0].getsockname()[1]))
        await send()

    asyncio.run(main())


async def _message(reader: asyncio.StreamReader) -> bytes:
    """A client's text message (masked, unfragmented)."""
    while True:
        head = await reader.readexactly(2)
        size = head[1] & 127
        if size == 126:
            size = int.from_bytes(await reader.readexactly(2), "big")
        mask = await reader.readexactly(4)
        content = bytes(byte ^ mask[k % 4] for k, byte in enumerate(await reader.readexactly(size)))
        if head[0] & 15 == 1:
            return content
