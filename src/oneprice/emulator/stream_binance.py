"""Binance's public streams out of a practice market: events in, frames to the sockets that asked for them.

Depth is gathered and sent at the stream's cadence, as the venue does, so that update ids of a message span many changes.
Spot over JSON, spot over SBE and USD-M share this; what differs is the venue's own encoders and a few facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from oneprice.emulator.events import Event, LevelChanged, Liquidated, MarkChanged, QuoteChanged, Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.model.instrument import Instrument
from oneprice.model.order import Side
from oneprice.model.tape import ASK, LAST, ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Venue

_CROSSED_FOR_NS = NS_PER_S // 5


class _Depth(msgspec.Struct):
    """What one symbol's depth stream still has to say."""

    sent_id: int
    due_ns: int = 0
    levels: dict[tuple[int, int], int] = {}  # (side, price) → quantity
    last_id: int = 0
    held: bytes = b""  # a message that a reorder fault keeps back
    uncross: tuple[int, int] | None = None  # (due ns, price of the bid that is not there)


class BinanceStreams:
    """The public side of one Binance product."""

    def __init__(
        self, venue: Venue, exchange: Exchange, instruments: Mapping[str, Instrument], faults: FaultPlan, *,
        depth_every_ms: int, is_text: bool,
    ) -> None:  # fmt: skip
        self.outlet = Outlet()
        self._venue = venue
        self._exchange = exchange
        self._instruments = instruments
        self._faults = faults
        self._depth_every_ns = depth_every_ms * NS_PER_MS
        self._is_text = is_text
        self._depth = {symbol: _Depth(exchange.book(symbol, 0).last_id) for symbol in instruments}
        self._silent_until_ns = 0
        self._is_silent = False
        self._leaving: list[tuple[int, list[Socket]]] = []  # (when, sockets that were told so)

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Send what happened."""
        name = self._venue.name
        stall = self._faults.take(FaultKind.STALL, name, now_ns=now_ns)
        if stall is not None:
            self._silent_until_ns = now_ns + int(stall.duration_s * NS_PER_S)
        self._is_silent = now_ns < self._silent_until_ns
        notice = self._faults.take(FaultKind.SHUTDOWN_NOTICE, name, now_ns=now_ns)
        if notice is not None:
            self._announce_end(now_ns, now_ns + int(notice.duration_s * NS_PER_S))
        while self._leaving and now_ns >= self._leaving[0][0]:
            for socket in self._leaving.pop(0)[1]:
                if socket in self.outlet.sockets:
                    socket.close()
        if self._faults.take(FaultKind.DISCONNECT, name, now_ns=now_ns) is not None:
            self.outlet.close_all()
        skew_ns = self._faults.skew_ns(name, now_ns)
        for event in events:
            instrument = self._instruments.get(getattr(event, "symbol", ""))
            if instrument is not None:
                self._take(event, instrument, skew_ns)
        for symbol, depth in self._depth.items():
            if depth.levels and now_ns >= depth.due_ns:
                self._send_depth(self._instruments[symbol], depth, now_ns, skew_ns)

    def _announce_end(self, now_ns: int, end_ns: int) -> None:
        """Tell every socket of now that it will be closed."""
        notice = f'{{"e":"serverShutdown","E":{now_ns // NS_PER_MS}}}'
        for socket in self.outlet.sockets:
            socket.send(f'{{"stream":"!serverShutdown","data":{notice}}}' if socket.wrapped else notice)
        self._leaving.append((end_ns, list(self.outlet.sockets)))
        self._leaving.sort(key=lambda leaving: leaving[0])

    def _take(self, event: Event, instrument: Instrument, skew_ns: int) -> None:
        match event:
            case LevelChanged():
                depth = self._depth[event.symbol]
                depth.levels[0 if event.side is Side.BUY else 1, event.price] = event.qty
                depth.last_id = event.update_id
            case Traded():
                row = _rows(1, Kind.TRADE, event.ts_ns + skew_ns, event.trade_id)
                row["price"], row["qty"] = event.price, event.qty
                row["flags"] = LAST | (ASK if event.taker_side is Side.SELL else 0)
                frame = self._venue.encode.trade(instrument, row, ts_ns=event.ts_ns + skew_ns)
                self._send(instrument, "trade", frame)
                if self._is_text:
                    self._send_other_trade(instrument, event, frame)
            case QuoteChanged() if self._venue.encode.quote is not None:
                rows = _rows(2, Kind.QUOTE, event.ts_ns + skew_ns, event.update_id)
                rows["price"], rows["qty"] = (event.bid, event.ask), (event.bid_qty, event.ask_qty)
                rows["flags"] = (0, ASK | LAST)
                frame = self._venue.encode.quote(instrument, rows, ts_ns=event.ts_ns + skew_ns)
                self._send(instrument, "quote", frame)
            case MarkChanged() if self._venue.encode.mark is not None:
                rows = _rows(3, Kind.MARK, event.ts_ns + skew_ns, 0)
                rows["kind"] = (int(Kind.MARK), int(Kind.INDEX), int(Kind.FUNDING))
                rows["value"] = (event.mark, event.index, event.funding_rate)
                rows["sequence"][2] = event.next_funding_ns
                rows["flags"][2] = LAST
                self._send(instrument, "mark", self._venue.encode.mark(instrument, rows, ts_ns=event.ts_ns + skew_ns))
            case Liquidated() if self._venue.encode.liquidation is not None:
                row = _rows(1, Kind.LIQUIDATION, event.ts_ns + skew_ns, 0)
                row["price"], row["qty"] = event.price, event.qty
                row["flags"] = LAST | (ASK if event.side is Side.BUY else 0)
                self._send(
                    instrument, "liquidation",
                    self._venue.encode.liquidation(instrument, row, ts_ns=event.ts_ns + skew_ns),
                )  # fmt: skip
            case _:
                pass

    def _send_depth(self, instrument: Instrument, depth: _Depth, now_ns: int, skew_ns: int) -> None:
        symbol, name = instrument.symbol, self._venue.name
        if depth.uncross is None:
            if self._faults.take(FaultKind.CROSSED_BOOK, name, symbol, now_ns=now_ns) is not None:
                price = self._exchange.best(symbol)[1] + instrument.tick
                depth.levels[0, price] = instrument.lot
                depth.uncross = (now_ns + _CROSSED_FOR_NS, price)
        elif now_ns >= depth.uncross[0]:
            price = depth.uncross[1]
            depth.levels[0, price] = self._exchange.qty_at(symbol, Side.BUY, price)  # the market may have come there
            depth.uncross = None
        last_id = depth.last_id
        rows = _rows(len(depth.levels), Kind.DEPTH, now_ns + skew_ns, last_id)
        ordered = sorted(depth.levels)
        rows["price"] = [price for _, price in ordered]
        rows["qty"] = [depth.levels[place] for place in ordered]
        rows["flags"] = [ASK if side else 0 for side, _ in ordered]
        rows["flags"][-1] |= LAST
        frame = self._venue.encode.depth(
            instrument, rows, first_id=depth.sent_id + 1, last_id=last_id, previous_id=depth.sent_id,
            is_snapshot=False, ts_ns=now_ns + skew_ns,
        )  # fmt: skip
        depth.levels = {}
        depth.sent_id = last_id
        depth.due_ns = now_ns + self._depth_every_ns
        if self._faults.take(FaultKind.GAP, name, symbol, now_ns=now_ns) is not None:
            return
        if self._faults.take(FaultKind.CORRUPT_FRAME, name, symbol, now_ns=now_ns) is not None:
            frame = frame[: len(frame) * 2 // 3]
        if depth.held:
            self._send(instrument, "depth", frame)
            frame, depth.held = depth.held, b""
        elif self._faults.take(FaultKind.REORDER, name, symbol, now_ns=now_ns) is not None:
            depth.held = frame
            return
        self._send(instrument, "depth", frame)
        if self._faults.take(FaultKind.DUPLICATE, name, symbol, now_ns=now_ns) is not None:
            self._send(instrument, "depth", frame)

    def _send(self, instrument: Instrument, channel: str, frame: bytes) -> None:
        """A frame to everybody who asked for its channel, in the spelling that each asked for it."""
        if self._is_silent:
            return
        symbol = instrument.symbol.lower()
        for topic in _spellings(symbol, channel, self._venue):
            listeners = self.outlet.listeners(topic)
            if not listeners:
                continue
            if not self._is_text:
                for socket in listeners:
                    socket.send(frame)
                continue
            event = frame[frame.index(b'"data":') + 7 : -1].decode(errors="replace") if b'"data":' in frame else ""
            for socket in listeners:
                self._send_text(socket, topic, event or frame.decode(errors="replace"))

    def _send_text(self, socket: Socket, topic: str, event: str) -> None:
        socket.send(f'{{"stream":"{topic}","data":{event}}}' if socket.wrapped else event)

    def _send_other_trade(self, instrument: Instrument, event: Traded, frame: bytes) -> None:
        """The other of the two trade streams: raw trades on futures, aggregate ones on spot."""
        symbol = instrument.symbol.lower()
        ours = b"@aggTrade" in frame[:60]
        topic = f"{symbol}@{'trade' if ours else 'aggTrade'}"
        if not self.outlet.wants(topic):
            return
        ms = event.ts_ns // NS_PER_MS
        fields = {
            "e": "trade" if ours else "aggTrade", "E": ms, "T": ms, "s": instrument.symbol,
            "t" if ours else "a": event.trade_id, "p": str(instrument.price(event.price)),
            "q": str(instrument.qty(event.qty)), "m": event.taker_side is Side.SELL,
        }  # fmt: skip
        fields |= {"X": "MARKET"} if ours else {"f": event.trade_id, "l": event.trade_id, "M": True}
        text = msgspec.json.encode(fields).decode()
        for socket in self.outlet.listeners(topic):
            self._send_text(socket, topic, text)


def _spellings(symbol: str, channel: str, venue: Venue) -> list[str]:
    """The stream names under which a channel can be asked for."""
    if channel == "depth":
        return [f"{symbol}@depth", *(f"{symbol}@depth@{speed}ms" for speed in (0, 100, 250, 500, 1000))]
    if channel == "quote":
        return [f"{symbol}@bookTicker", f"{symbol}@bestBidAsk"]
    if channel == "trade":
        return [f"{symbol}@aggTrade" if "usdm" in venue.name else f"{symbol}@trade"]
    if channel == "mark":
        return [f"{symbol}@markPrice", f"{symbol}@markPrice@1s"]
    return [f"{symbol}@forceOrder"]


def _rows(count: int, kind: Kind, venue_ns: int, sequence: int) -> Rows:
    rows: Rows = np.zeros(count, dtype=ROW)
    rows["kind"], rows["ts_venue_ns"], rows["sequence"] = int(kind), venue_ns, sequence
    return rows
