"""Bybit's public streams out of a practice market: events in, frames to the sockets that subscribed to their topics.

A book stream is a window of N levels. For each window that somebody watches, the levels last told are kept; what the
market shows now is compared with them at the stream's cadence, and the difference is one delta with the next `u`. So a
level that leaves the window is deleted, exactly N levels stay, and a snapshot for a new subscriber is what the others
hold. Level 1 sends the whole touch instead of differences, and repeats it after three seconds of silence.

Source: Bybit v5 documentation, WebSocket Stream, Public."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import msgspec
import numpy as np

from oneprice.emulator.events import Event, LevelChanged, Liquidated, Traded
from oneprice.emulator.exchange import Exchange
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.outlet import Outlet, Socket
from oneprice.emulator.server_bybit_rest import INTERVALS_NS, linear_ticker, plain, spot_ticker
from oneprice.model.instrument import Instrument
from oneprice.model.order import Side
from oneprice.model.tape import ASK, LAST, ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Venue
from oneprice.venues.bybit import DEPTH_LEVELS

_CADENCE_NS = {1: 10 * NS_PER_MS, 50: 20 * NS_PER_MS, 200: 100 * NS_PER_MS, 1000: 200 * NS_PER_MS}
_REPEAT_NS = 3 * NS_PER_S
_CROSSED_FOR_NS = NS_PER_S // 5
_TICKER_NS = {True: 50 * NS_PER_MS, False: 100 * NS_PER_MS}  # spot, linear
_KLINE_NS = NS_PER_S
_FIRST_ID = 1_000  # an id of 1 would say that the service restarted
_PRINTS_PER_MESSAGE = 1024

Levels = dict[int, int]  # price → quantity


class _Window(msgspec.Struct):
    """One book topic: what its subscribers hold."""

    topic: str
    instrument: Instrument
    depth: int
    u: int = _FIRST_ID
    bids: Levels = {}
    asks: Levels = {}
    fresh: list[Socket] = []  # subscribed, snapshot still to come
    is_stale: bool = True  # the market has changed since the last message
    due_ns: int = 0
    told_ns: int = 0
    held: str = ""  # a message that a reorder fault keeps back
    crossed_until_ns: int = 0
    crossed_price: int = 0


class _Ticker(msgspec.Struct):
    """One ticker topic: the fields last told."""

    instrument: Instrument
    fields: dict[str, str] = {}
    fresh: list[Socket] = []
    due_ns: int = 0


class BybitStreams:
    """The public side of one product."""

    def __init__(self, venue: Venue, exchange: Exchange, faults: FaultPlan) -> None:
        self.outlet = Outlet()
        self._venue = venue
        self._exchange = exchange
        self._faults = faults
        self._windows: dict[str, _Window] = {}
        self._tickers: dict[str, _Ticker] = {}
        self._klines: dict[str, int] = {}  # topic → when it is due
        self._silent_until_ns = 0

    # -- subscriptions ------------------------------------------------------------------------------------------------

    def refusal(self, topics: Sequence[str]) -> str:
        """Why a subscription fails as a whole; empty when it does not."""
        if self._exchange.spot and len(topics) > 10:
            return "args size >10"
        for topic in topics:
            kind, *rest = topic.split(".")
            known = {"orderbook": 2, "publicTrade": 1, "tickers": 1, "kline": 2}
            if not self._exchange.spot:
                known["allLiquidation"] = 1
            bad_depth = kind == "orderbook" and rest[:1] not in [[str(depth)] for depth in _CADENCE_NS]
            bad_interval = kind == "kline" and rest[:1] not in [[name] for name in INTERVALS_NS]
            if known.get(kind) != len(rest) or bad_depth or bad_interval:
                return f"error:handler not found,topic:{topic}"
            if rest[-1] not in self._exchange.instruments:
                return f"Invalid symbol :[{topic}]"
        return ""

    def subscribe(self, socket: Socket, topics: Sequence[str]) -> None:
        """Topics that `refusal` has let pass; snapshots come with the next `publish`."""
        for topic in topics:
            kind, *rest = topic.split(".")
            instrument = self._exchange.instruments[rest[-1]]
            if kind == "orderbook":
                window = self._windows.get(topic)
                if window is None:
                    window = self._windows[topic] = _Window(topic, instrument, int(rest[0]))
                window.fresh.append(socket)
            elif kind == "tickers":
                self._tickers.setdefault(topic, _Ticker(instrument)).fresh.append(socket)
            elif kind == "kline":
                self._klines.setdefault(topic, 0)
        self.outlet.subscribe(socket, topics)

    # -- publishing ---------------------------------------------------------------------------------------------------

    def publish(self, events: Sequence[Event], now_ns: int) -> None:
        """Tell what happened."""
        name = self._venue.name
        for event in events:
            if isinstance(event, LevelChanged):
                for depth in _CADENCE_NS:
                    window = self._windows.get(f"orderbook.{depth}.{event.symbol}")
                    if window is not None:
                        window.is_stale = True
        stall = self._faults.take(FaultKind.STALL, name, now_ns=now_ns)
        if stall is not None:
            self._silent_until_ns = now_ns + int(stall.duration_s * NS_PER_S)
        for kind in (FaultKind.DISCONNECT, FaultKind.SHUTDOWN_NOTICE):  # this venue gives no notice: it only closes
            if self._faults.take(kind, name, now_ns=now_ns) is not None:
                self.outlet.close_all()
        if now_ns < self._silent_until_ns:
            return
        told_ns = now_ns + self._faults.skew_ns(name, now_ns)
        for window in list(self._windows.values()):
            self._tell_book(window, now_ns, told_ns)
        self._tell_prints(events, told_ns - now_ns, told_ns)
        for topic, ticker in list(self._tickers.items()):
            self._tell_ticker(topic, ticker, now_ns, told_ns)
        for topic, due_ns in list(self._klines.items()):
            if now_ns >= due_ns:
                self._klines[topic] = now_ns + _KLINE_NS
                self._tell_kline(topic, told_ns)

    def _send(self, topic: str, frame: str) -> None:
        for socket in self.outlet.listeners(topic):
            socket.send(frame)

    # -- books --------------------------------------------------------------------------------------------------------

    def _tell_book(self, window: _Window, now_ns: int, told_ns: int) -> None:
        listeners = self.outlet.listeners(window.topic)
        if not listeners:
            if window.bids or window.asks:  # the next subscriber gets a new book, under an id that nobody has seen
                window.bids, window.asks, window.held, window.u = {}, {}, "", window.u + 1
            return
        fresh = [socket for socket in window.fresh if socket in listeners]
        window.fresh = []
        if len(fresh) > 0:
            if not window.bids and not window.asks:
                window.bids, window.asks = self._seen(window, now_ns)
            snapshot = self._frame(window, _changes({}, window.bids), _changes({}, window.asks), told_ns, True)
            for socket in fresh:
                socket.send(snapshot)
            window.told_ns = now_ns
        if window.crossed_until_ns and now_ns >= window.crossed_until_ns:
            window.crossed_until_ns, window.is_stale = 0, True
        if window.is_stale and now_ns >= window.due_ns:
            window.is_stale = False
            self._tell_change(window, now_ns, told_ns)
        elif window.depth == 1 and now_ns - window.told_ns >= _REPEAT_NS:
            window.told_ns = now_ns
            whole = self._frame(window, _changes({}, window.bids), _changes({}, window.asks), told_ns, True)
            self._send(window.topic, whole)

    def _tell_change(self, window: _Window, now_ns: int, told_ns: int) -> None:
        name, symbol = self._venue.name, window.instrument.symbol
        if window.depth > 1 and self._faults.take(FaultKind.CROSSED_BOOK, name, symbol, now_ns=now_ns) is not None:
            _, ask = self._exchange.best(symbol)
            window.crossed_until_ns, window.crossed_price = now_ns + _CROSSED_FOR_NS, ask + window.instrument.tick
        bids, asks = self._seen(window, now_ns)
        changed_bids, changed_asks = _changes(window.bids, bids), _changes(window.asks, asks)
        if not changed_bids and not changed_asks:
            return
        window.bids, window.asks, window.u = bids, asks, window.u + 1
        window.due_ns, window.told_ns = now_ns + _CADENCE_NS[window.depth], now_ns
        if window.depth == 1:
            whole = self._frame(window, _changes({}, bids), _changes({}, asks), told_ns, True)
            self._send(window.topic, whole)
            return
        frame = self._frame(window, changed_bids, changed_asks, told_ns, False)
        if self._faults.take(FaultKind.GAP, name, symbol, now_ns=now_ns) is not None:
            return
        if self._faults.take(FaultKind.CORRUPT_FRAME, name, symbol, now_ns=now_ns) is not None:
            frame = frame[: len(frame) * 2 // 3]
        if window.held:
            self._send(window.topic, frame)
            frame, window.held = window.held, ""
        elif self._faults.take(FaultKind.REORDER, name, symbol, now_ns=now_ns) is not None:
            window.held = frame
            return
        self._send(window.topic, frame)
        if self._faults.take(FaultKind.DUPLICATE, name, symbol, now_ns=now_ns) is not None:
            self._send(window.topic, frame)

    def _seen(self, window: _Window, now_ns: int) -> tuple[Levels, Levels]:
        """What the window shows now; while a crossed-book fault lasts, with a bid that stands above the asks."""
        view = self._exchange.book(window.instrument.symbol, window.depth, now_ns)
        bids, asks = view.bids, view.asks
        if window.crossed_until_ns:
            bids = [(window.crossed_price, window.instrument.lot), *bids][: window.depth]
        return dict(bids), dict(asks)

    def _frame(self, window: _Window, bids: Levels, asks: Levels, told_ns: int, is_snapshot: bool) -> str:
        count = len(bids) + len(asks)
        rows = _rows(max(2, count), Kind.DEPTH, told_ns, window.u)  # rows of price 0 are not written
        rows["price"][:count], rows["qty"][:count] = [*bids, *asks], [*bids.values(), *asks.values()]
        rows["flags"][len(bids) :] = ASK
        encode = self._venue.encode
        if window.depth == 1 and encode.quote is not None:
            return encode.quote(window.instrument, rows, ts_ns=told_ns).decode()
        frame = encode.depth(
            window.instrument, rows, first_id=window.u, last_id=window.u, previous_id=window.u - 1,
            is_snapshot=is_snapshot, ts_ns=told_ns,
        )  # fmt: skip
        return frame.decode().replace(f"orderbook.{DEPTH_LEVELS}.", f"orderbook.{window.depth}.", 1)

    # -- trades, liquidations, tickers, candles -----------------------------------------------------------------------

    def _tell_prints(self, events: Sequence[Event], skew_ns: int, told_ns: int) -> None:
        trades: defaultdict[str, list[Traded]] = defaultdict(list)
        for event in events:
            if isinstance(event, Traded) and self.outlet.wants(f"publicTrade.{event.symbol}"):
                trades[event.symbol].append(event)
            elif isinstance(event, Liquidated) and self.outlet.wants(f"allLiquidation.{event.symbol}"):
                row = _rows(1, Kind.LIQUIDATION, event.ts_ns + skew_ns, 0)
                row["price"], row["qty"] = event.price, event.qty
                row["flags"] = LAST | (ASK if event.side is Side.BUY else 0)
                instrument, encode = self._exchange.instruments[event.symbol], self._venue.encode.liquidation
                assert encode is not None, "only linear lets subscribe to liquidations"
                self._send(f"allLiquidation.{event.symbol}", encode(instrument, row, ts_ns=told_ns).decode())
        for symbol, found in trades.items():
            for start in range(0, len(found), _PRINTS_PER_MESSAGE):
                part = found[start : start + _PRINTS_PER_MESSAGE]
                rows = _rows(len(part), Kind.TRADE, 0, 0)
                rows["ts_venue_ns"] = [trade.ts_ns + skew_ns for trade in part]
                rows["sequence"] = [trade.trade_id for trade in part]
                rows["price"], rows["qty"] = [trade.price for trade in part], [trade.qty for trade in part]
                rows["flags"] = [ASK if trade.taker_side is Side.SELL else 0 for trade in part]
                instrument = self._exchange.instruments[symbol]
                # Made-up trade ids of linear come from this time: a second part of a batch needs another one.
                frame = self._venue.encode.trade(instrument, rows, ts_ns=told_ns + start)
                self._send(f"publicTrade.{symbol}", frame.decode())

    def _tell_ticker(self, topic: str, ticker: _Ticker, now_ns: int, told_ns: int) -> None:
        listeners = self.outlet.listeners(topic)
        if not listeners:
            del self._tickers[topic]
            return
        spot = self._exchange.spot
        fresh, ticker.fresh = [socket for socket in ticker.fresh if socket in listeners], []
        if now_ns >= ticker.due_ns or not ticker.fields:
            make = spot_ticker if spot else linear_ticker
            fields = make(self._exchange, ticker.instrument)
            changed = {name: value for name, value in fields.items() if ticker.fields.get(name) != value}
            if changed and ticker.fields:
                old = [socket for socket in listeners if socket not in fresh]
                told = fields if spot else {"symbol": ticker.instrument.symbol, **changed}
                frame = self._ticker_frame(topic, told, told_ns, is_snapshot=spot)
                for socket in old:
                    socket.send(frame)
            ticker.fields, ticker.due_ns = fields, now_ns + _TICKER_NS[spot]
        if len(fresh) > 0:
            snapshot = self._ticker_frame(topic, ticker.fields, told_ns, is_snapshot=True)
            for socket in fresh:
                socket.send(snapshot)

    def _ticker_frame(self, topic: str, fields: dict[str, str], told_ns: int, *, is_snapshot: bool) -> str:
        ms, what = told_ns // NS_PER_MS, "snapshot" if is_snapshot else "delta"
        frame = (
            {"topic": topic, "ts": ms, "type": what, "cs": ms, "data": fields}
            if self._exchange.spot
            else {"topic": topic, "type": what, "data": fields, "cs": ms, "ts": ms}
        )
        return msgspec.json.encode(frame).decode()

    def _tell_kline(self, topic: str, told_ns: int) -> None:
        if not self.outlet.wants(topic):
            del self._klines[topic]
            return
        _, interval, symbol = topic.split(".")
        step_ns, ms = INTERVALS_NS[interval], told_ns // NS_PER_MS
        data = [
            {
                "start": candle.open_ns // NS_PER_MS, "end": (candle.open_ns + step_ns) // NS_PER_MS - 1,
                "interval": interval, "open": plain(candle.open), "close": plain(candle.close),
                "high": plain(candle.high), "low": plain(candle.low), "volume": plain(candle.volume),
                "turnover": plain(candle.volume * candle.close), "confirm": candle.open_ns + step_ns <= told_ns,
                "timestamp": ms,
            }
            for candle in self._exchange.candles(symbol, step_ns, 0, 1)
        ]  # fmt: skip
        if len(data) > 0:
            frame = {"topic": topic, "data": data, "ts": ms, "type": "snapshot"}
            self._send(topic, msgspec.json.encode(frame).decode())


def _changes(before: Levels, after: Levels) -> Levels:
    """Absolute quantities of the levels that differ; 0 for one that is gone."""
    changed = {price: qty for price, qty in after.items() if before.get(price) != qty}
    return changed | {price: 0 for price in before if price not in after}


def _rows(count: int, kind: Kind, venue_ns: int, sequence: int) -> Rows:
    rows: Rows = np.zeros(count, dtype=ROW)
    rows["kind"], rows["ts_venue_ns"], rows["sequence"] = int(kind), venue_ns, sequence
    return rows
