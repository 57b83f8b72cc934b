"""Binance's public streams out of a practice market: events in, frames to the sockets that asked for them.

Each speed of a depth stream gathers changes and sends them at its own cadence, as the venue does, so that update ids of
a message span many changes. Spot over JSON, spot over SBE and USD-M share this; what differs is the venue's own encoders
and a few facts. Streams that are sent by the clock are in `server_binance_timed.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from oneprice.emulator.events import Event, LevelChanged, Liquidated, MarkChanged, QuoteChanged, Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.emulator.server_binance_rows import price_text, qty_text
from oneprice.emulator.server_binance_timed import TimedStreams
from oneprice.model.instrument import Instrument
from oneprice.model.order import Side
from oneprice.model.tape import ASK, LAST, ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Venue

_CROSSED_FOR_NS = NS_PER_S // 5
_MARK_EVERY_NS = {"markPrice": 3 * NS_PER_S - NS_PER_MS, "markPrice@1s": 0}  # the market tells it every second
# venue → depth stream → cadence in ms
DEPTH_MS: Mapping[str, Mapping[str, int]] = {
    "binance_spot": {"depth": 1000, "depth@100ms": 100},
    "binance_usdm": {"depth": 250, "depth@100ms": 100, "depth@500ms": 500, "depth@0ms": 10},
    "binance_sbe": {"depth": 20},
}


class _Depth(msgspec.Struct):
    """What one depth stream still has to say."""

    instrument: Instrument
    every_ns: int
    sent_id: int
    due_ns: int = 0
    levels: dict[tuple[int, int], int] = {}  # (side, price) → quantity
    first_id: int = 0  # of the changes that `levels` holds
    last_id: int = 0
    held: bytes = b""  # a message that a reorder fault keeps back
    uncross: tuple[int, int] | None = None  # (due ns, price of the bid that is not there)


class BinanceStreams:
    """The public side of one Binance product."""

    def __init__(
        self, venue: Venue, exchange: Exchange, instruments: Mapping[str, Instrument], faults: FaultPlan
    ) -> None:
        self.outlet = Outlet()
        self._venue = venue
        self._exchange = exchange
        self._instruments = instruments
        self._faults = faults
        self._is_text = venue.name != "binance_sbe"
        self._timed = TimedStreams(venue.name, exchange, instruments)
        self._last_ids = {symbol: exchange.book(symbol, 0).last_id for symbol in instruments}  # told so far
        self._depth: dict[str, dict[str, _Depth]] = {symbol: {} for symbol in instruments}  # → stream → state
        self._followed = -1  # the changes of subscriptions that `_depth` knows of
        self._mark_due_ns: dict[str, int] = {}
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
        self._follow_subscriptions()
        for event in events:
            instrument = self._instruments.get(getattr(event, "symbol", ""))
            if instrument is not None:
                self._take(event, instrument, skew_ns)
        for streams in self._depth.values():
            for topic, depth in streams.items():
                if depth.levels and now_ns >= depth.due_ns:
                    self._send_depth(topic, depth, now_ns, skew_ns)
        for topic, told in self._timed.due(self.outlet.topics(), now_ns, now_ns + skew_ns):
            self._send(topic, told)

    def _announce_end(self, now_ns: int, end_ns: int) -> None:
        """Tell every socket of now that it will be closed."""
        notice = f'{{"e":"serverShutdown","E":{now_ns // NS_PER_MS}}}'
        for socket in self.outlet.sockets:
            socket.send(f'{{"stream":"!serverShutdown","data":{notice}}}' if socket.wrapped else notice)
        self._leaving.append((end_ns, list(self.outlet.sockets)))
        self._leaving.sort(key=lambda leaving: leaving[0])

    # -- events -------------------------------------------------------------------------------------------------------

    def _take(self, event: Event, instrument: Instrument, skew_ns: int) -> None:
        symbol, encode = instrument.symbol.lower(), self._venue.encode
        match event:
            case LevelChanged():
                self._last_ids[event.symbol] = event.update_id
                for depth in self._depth[event.symbol].values():
                    if not depth.levels:
                        depth.first_id = event.update_id
                    depth.levels[0 if event.side is Side.BUY else 1, event.price] = event.qty
                    depth.last_id = event.update_id
            case Traded():
                told_ns = event.ts_ns + skew_ns
                ours, other = ("aggTrade", "trade") if self._venue.name == "binance_usdm" else ("trade", "aggTrade")
                if self.outlet.wants(f"{symbol}@{ours}"):
                    row = _rows(1, Kind.TRADE, told_ns, event.trade_id)
                    row["price"], row["qty"] = event.price, event.qty
                    row["flags"] = LAST | (ASK if event.taker_side is Side.SELL else 0)
                    self._send(f"{symbol}@{ours}", self._event(encode.trade(instrument, row, ts_ns=told_ns)))
                if self._is_text and self.outlet.wants(f"{symbol}@{other}"):
                    self._send(f"{symbol}@{other}", _other_trade(instrument, event, other, told_ns // NS_PER_MS))
            case QuoteChanged() if encode.quote is not None:
                topic = f"{symbol}@{'bookTicker' if self._is_text else 'bestBidAsk'}"
                if self.outlet.wants(topic):
                    rows = _rows(2, Kind.QUOTE, event.ts_ns + skew_ns, event.update_id)
                    rows["price"], rows["qty"] = (event.bid, event.ask), (event.bid_qty, event.ask_qty)
                    rows["flags"] = (0, ASK | LAST)
                    self._send(topic, self._event(encode.quote(instrument, rows, ts_ns=event.ts_ns + skew_ns)))
            case MarkChanged() if encode.mark is not None:
                for stream, every_ns in _MARK_EVERY_NS.items():
                    topic = f"{symbol}@{stream}"
                    if self.outlet.wants(topic) and event.ts_ns >= self._mark_due_ns.get(topic, 0):
                        self._mark_due_ns[topic] = event.ts_ns + every_ns
                        frame = encode.mark(instrument, _mark_rows(event, skew_ns), ts_ns=event.ts_ns + skew_ns)
                        self._send(topic, self._event(frame))
            case Liquidated() if encode.liquidation is not None:
                row = _rows(1, Kind.LIQUIDATION, event.ts_ns + skew_ns, 0)
                row["price"], row["qty"] = event.price, event.qty
                row["flags"] = LAST | (ASK if event.side is Side.BUY else 0)
                frame = encode.liquidation(instrument, row, ts_ns=event.ts_ns + skew_ns)
                for topic in (f"{symbol}@forceOrder", "!forceOrder@arr"):
                    self._send(topic, self._event(frame))
            case _:
                pass

    # -- depth --------------------------------------------------------------------------------------------------------

    def _follow_subscriptions(self) -> None:
        """Keep a state for each depth stream that has listeners. A new one continues from what is told so far."""
        if self._followed == self.outlet.changes:
            return
        self._followed = self.outlet.changes
        for symbol, streams in self._depth.items():
            for stream, cadence_ms in DEPTH_MS[self._venue.name].items():
                topic = f"{symbol.lower()}@{stream}"
                if not self.outlet.wants(topic):
                    streams.pop(topic, None)
                elif topic not in streams:
                    streams[topic] = _Depth(self._instruments[symbol], cadence_ms * NS_PER_MS, self._last_ids[symbol])

    def _send_depth(self, topic: str, depth: _Depth, now_ns: int, skew_ns: int) -> None:
        instrument, name = depth.instrument, self._venue.name
        symbol = instrument.symbol
        if depth.uncross is None:
            if self._faults.take(FaultKind.CROSSED_BOOK, name, symbol, now_ns=now_ns) is not None:
                price = self._exchange.best(symbol)[1] + instrument.tick
                depth.levels[0, price] = instrument.lot
                depth.uncross = (now_ns + _CROSSED_FOR_NS, price)
        elif now_ns >= depth.uncross[0]:
            price = depth.uncross[1]
            depth.levels[0, price] = self._exchange.qty_at(symbol, Side.BUY, price)  # the market may have come there
            depth.uncross = None
        rows = _rows(len(depth.levels), Kind.DEPTH, now_ns + skew_ns, depth.last_id)
        ordered = sorted(depth.levels)
        rows["price"] = [price for _, price in ordered]
        rows["qty"] = [depth.levels[place] for place in ordered]
        rows["flags"] = [ASK if side else 0 for side, _ in ordered]
        rows["flags"][-1] |= LAST
        encoded = self._venue.encode.depth(
            instrument, rows, first_id=depth.first_id, last_id=depth.last_id, previous_id=depth.sent_id,
            is_snapshot=False, ts_ns=now_ns + skew_ns,
        )  # fmt: skip
        frame = self._event(encoded)
        depth.levels, depth.sent_id, depth.due_ns = {}, depth.last_id, now_ns + depth.every_ns
        if self._faults.take(FaultKind.GAP, name, symbol, now_ns=now_ns) is not None:
            return
        if self._faults.take(FaultKind.CORRUPT_FRAME, name, symbol, now_ns=now_ns) is not None:
            frame = frame[: len(frame) * 2 // 3]
        if depth.held:
            self._send(topic, frame)
            frame, depth.held = depth.held, b""
        elif self._faults.take(FaultKind.REORDER, name, symbol, now_ns=now_ns) is not None:
            depth.held = frame
            return
        self._send(topic, frame)
        if self._faults.take(FaultKind.DUPLICATE, name, symbol, now_ns=now_ns) is not None:
            self._send(topic, frame)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _event(self, frame: bytes) -> bytes:
        """What an encoder made, without the combined wrapper (which SBE does not have)."""
        return frame[frame.index(b'"data":') + 7 : -1] if self._is_text else frame

    def _send(self, topic: str, event: bytes) -> None:
        """An event to everybody who asked for its stream; as text in the combined wrapper or without, as each wants."""
        listeners = self.outlet.listeners(topic)
        if self._is_silent or not listeners:
            return
        if not self._is_text:
            for socket in listeners:
                socket.send(event)
            return
        text = event.decode(errors="replace")
        wrapped = f'{{"stream":"{topic}","data":{text}}}'
        for socket in listeners:
            socket.send(wrapped if socket.wrapped else text)


def _other_trade(instrument: Instrument, event: Traded, kind: str, ms: int) -> bytes:
    """The trade stream that the feed does not read: raw trades on futures, aggregate ones on spot."""
    raw = kind == "trade"
    fields = {
        "e": kind, "E": ms, "s": instrument.symbol, "t" if raw else "a": event.trade_id,
        "p": price_text(instrument, event.price), "q": qty_text(instrument, event.qty), "T": ms,
        "m": event.taker_side is Side.SELL,
    }  # fmt: skip
    fields |= {"X": "MARKET"} if raw else {"f": event.trade_id, "l": event.trade_id, "M": True}
    return msgspec.json.encode(fields)


def _mark_rows(event: MarkChanged, skew_ns: int) -> Rows:
    rows = _rows(3, Kind.MARK, event.ts_ns + skew_ns, 0)
    rows["kind"] = (int(Kind.MARK), int(Kind.INDEX), int(Kind.FUNDING))
    rows["value"] = (event.mark, event.index, event.funding_rate)
    rows["sequence"][2] = event.next_funding_ns
    rows["flags"][2] = LAST
    return rows


def _rows(count: int, kind: Kind, venue_ns: int, sequence: int) -> Rows:
    rows: Rows = np.zeros(count, dtype=ROW)
    rows["kind"], rows["ts_venue_ns"], rows["sequence"] = int(kind), venue_ns, sequence
    return rows
