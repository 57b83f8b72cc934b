"""Binance's streams that are sent by the clock and not by an event: partial books, candles, tickers.

stream                          | spot           | USD-M
--------------------------------|----------------|------------------------
`@depth{5,10,20}[@speed]`       | 1000 or 100 ms | 250, 500 or 100 ms
`@depth20` over SBE             | 50 ms          | -
`@kline_{interval}`             | 2 s            | 250 ms
`@ticker`, `@miniTicker`        | 1 s            | 1 s

A spot partial book has neither symbol nor event; on USD-M it looks like a diff. Nothing is sent of a book or a candle
that has not changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
import numpy as np

from oneprice.emulator.exchange import Exchange
from oneprice.emulator.server_binance_rest import INTERVALS_NS, DayTicker, levels
from oneprice.emulator.server_binance_rows import money, price_text, qty_text
from oneprice.model.instrument import Instrument
from oneprice.model.order import Side
from oneprice.model.tape import ASK, ROW, Kind
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.venues.base import Candle
from oneprice.venues.binance_sbe import encode_top

_STREAM = re.compile(
    r"(?P<symbol>[^@!]+)@"
    r"(?:depth(?P<depth>5|10|20)(?:@(?P<ms>\d+)ms)?|kline_(?P<interval>\w+)|(?P<day>ticker|miniTicker))"
)
_SPEEDS_MS = {"binance_spot": (1000, 100), "binance_usdm": (250, 500, 100), "binance_sbe": (50,)}
_SBE_LEVELS = 20


class _Timed(msgspec.Struct):
    """A stream that somebody listens to."""

    every_ns: int
    event: Callable[[int, int], object]  # (now ns, time told) → what to send
    due_ns: int = 0


class TimedStreams:
    """The streams by the clock of one product."""

    def __init__(self, venue: str, exchange: Exchange, instruments: Mapping[str, Instrument]) -> None:
        self._venue = venue
        self._exchange = exchange
        self._by_lower = {symbol.lower(): instrument for symbol, instrument in instruments.items()}
        self._known: dict[str, _Timed | None] = {}

    def due(self, topics: Iterable[str], now_ns: int, told_ns: int) -> list[tuple[str, bytes]]:
        """(stream, event) of everything that is to be sent now; a name that is none of these streams stays silent."""
        events = []
        for topic in topics:
            if topic not in self._known:
                self._known[topic] = self._timed(topic)
            timed = self._known[topic]
            if timed is None or now_ns < timed.due_ns:
                continue
            timed.due_ns = now_ns + timed.every_ns
            event = timed.event(now_ns, told_ns)
            if event is not None:
                events.append((topic, event if isinstance(event, bytes) else msgspec.json.encode(event)))
        return events

    def _timed(self, topic: str) -> _Timed | None:
        found = _STREAM.fullmatch(topic)
        instrument = self._by_lower.get(found["symbol"]) if found is not None else None
        if found is None or instrument is None:
            return None
        if found["depth"] is not None:
            speeds = _SPEEDS_MS[self._venue]
            ms = int(found["ms"] or speeds[0])
            if ms not in speeds or (self._venue == "binance_sbe" and found["depth"] != str(_SBE_LEVELS)):
                return None
            return self._partial_book(instrument, int(found["depth"]), ms * NS_PER_MS)
        if self._venue == "binance_sbe":
            return None
        if found["interval"] is not None:
            step_ns = INTERVALS_NS.get(found["interval"])
            return None if step_ns is None else self._candles(instrument, found["interval"], step_ns)
        return self._day(instrument, is_mini=found["day"] == "miniTicker")

    # -- books --------------------------------------------------------------------------------------------------------

    def _partial_book(self, instrument: Instrument, depth: int, every_ns: int) -> _Timed:
        last_id = 0

        def event(now_ns: int, told_ns: int) -> object:
            nonlocal last_id
            view = self._exchange.book(instrument.symbol, depth, now_ns)
            before, last_id = last_id, view.last_id
            if before == last_id:
                return None
            if self._venue == "binance_sbe":
                return _sbe_top(instrument, view.bids, view.asks, last_id, told_ns)
            bids, asks = levels(instrument, view.bids), levels(instrument, view.asks)
            if self._exchange.spot:
                return {"lastUpdateId": last_id, "bids": bids, "asks": asks}
            ms = told_ns // NS_PER_MS
            return {
                "e": "depthUpdate", "E": ms, "T": ms, "s": instrument.symbol, "ps": instrument.symbol,
                "U": before + 1, "u": last_id, "pu": before, "b": bids, "a": asks, "st": 1,
            }  # fmt: skip

        return _Timed(every_ns, event)

    # -- candles and the day ------------------------------------------------------------------------------------------

    def _candles(self, instrument: Instrument, interval: str, step_ns: int) -> _Timed:
        told: tuple[Candle, bool] | None = None  # the candle sent last, and whether as a closed one

        def event(now_ns: int, told_ns: int) -> object:
            nonlocal told
            found = self._exchange.candles(instrument.symbol, step_ns, 0, 2)
            if not found:
                return None
            candle = found[-1]
            if told is not None and not told[1] and told[0].open_ns < candle.open_ns:
                candle = found[0]  # the one before has not been told as closed
            opens, closes = candle.open_ns, candle.open_ns + step_ns
            if told == (candle, closes <= now_ns):
                return None
            told = (candle, closes <= now_ns)
            return {
                "e": "kline", "E": told_ns // NS_PER_MS, "s": instrument.symbol,
                "k": {
                    "t": opens // NS_PER_MS, "T": closes // NS_PER_MS - 1, "s": instrument.symbol, "i": interval,
                    "f": -1, "L": -1, "o": money(candle.open), "c": money(candle.close), "h": money(candle.high),
                    "l": money(candle.low), "v": money(candle.volume), "n": 0, "x": closes <= now_ns,
                    "q": money(candle.volume * candle.close), "V": "0", "Q": "0", "B": "0",
                },
            } | self._product()  # fmt: skip

        return _Timed((2 * NS_PER_S) if self._exchange.spot else NS_PER_S // 4, event)

    def _day(self, instrument: Instrument, *, is_mini: bool) -> _Timed:
        def event(now_ns: int, told_ns: int) -> object:
            day, ms = DayTicker.of(self._exchange, instrument), told_ns // NS_PER_MS
            figures: dict[str, Any] = {
                "s": instrument.symbol, "c": day.last, "o": day.open, "h": day.high, "l": day.low, "v": day.volume,
                "q": day.turnover,
            } | self._product()  # fmt: skip
            if is_mini:
                return {"e": "24hrMiniTicker", "E": ms} | figures
            figures |= {
                "p": day.change, "P": day.change_percent, "w": day.average, "Q": qty_text(instrument, 0),
                "O": ms - 86_400_000, "C": ms, "F": -1, "L": -1, "n": 0,
            }  # fmt: skip
            return {"e": "24hrTicker", "E": ms} | figures | self._best(instrument)

        return _Timed(NS_PER_S, event)

    def _best(self, instrument: Instrument) -> dict[str, str]:
        """Spot's day ticker has the best prices, too."""
        if not self._exchange.spot:
            return {}
        symbol = instrument.symbol
        bid, ask = self._exchange.best(symbol)
        return {
            "x": price_text(instrument, 0), "b": price_text(instrument, bid),
            "B": qty_text(instrument, self._exchange.qty_at(symbol, Side.BUY, bid)),
            "a": price_text(instrument, ask),
            "A": qty_text(instrument, self._exchange.qty_at(symbol, Side.SELL, ask)),
        }  # fmt: skip

    def _product(self) -> dict[str, int]:
        return {} if self._exchange.spot else {"st": 1}


def _sbe_top(
    instrument: Instrument, bids: list[tuple[int, int]], asks: list[tuple[int, int]], last_id: int, told_ns: int
) -> bytes:  # fmt: skip
    rows = np.zeros(len(bids) + len(asks), dtype=ROW)
    rows["kind"] = int(Kind.DEPTH)
    rows["price"] = [price for price, _ in (*bids, *asks)]
    rows["qty"] = [qty for _, qty in (*bids, *asks)]
    rows["flags"][len(bids) :] = ASK
    return encode_top(instrument, rows, update_id=last_id, ts_ns=told_ns)
