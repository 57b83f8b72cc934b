"""What a practice market remembers of its trades: the last ones, minute candles, the day's figures."""

from __future__ import annotations

from collections import deque

import msgspec

from oneprice.emulator.events import MarketState, Traded
from oneprice.model.instrument import Instrument
from oneprice.model.time import NS_PER_S
from oneprice.venues.base import Candle

_TRADES_KEPT = 1000
_CANDLES_KEPT = 3000
_MINUTE_NS = 60 * NS_PER_S


class TradeHistory:
    """One market's trades."""

    def __init__(self, instrument: Instrument) -> None:
        self._instrument = instrument
        self._trades: deque[Traded] = deque(maxlen=_TRADES_KEPT)
        self._minutes: deque[Candle] = deque(maxlen=_CANDLES_KEPT)

    def recent(self, n: int) -> list[Traded]:
        """The last trades, oldest first."""
        return list(self._trades)[-n:] if n > 0 else []

    def candles(self, interval_ns: int, start_ns: int, limit: int) -> list[Candle]:
        """Candles made of minutes, oldest first; intervals below a minute give minutes."""
        merged: dict[int, Candle] = {}
        step = max(interval_ns, _MINUTE_NS)
        for minute in self._minutes:
            opens = minute.open_ns // step * step
            if minute.open_ns < start_ns:
                continue
            so_far = merged.get(opens)
            if so_far is None:
                merged[opens] = msgspec.structs.replace(minute, open_ns=opens)
                continue
            merged[opens] = Candle(
                open_ns=opens, open=so_far.open, high=max(so_far.high, minute.high), low=min(so_far.low, minute.low),
                close=minute.close, volume=so_far.volume + minute.volume,
            )  # fmt: skip
        found = list(merged.values())
        return found[:limit] if start_ns else found[-limit:]

    def add(self, traded: Traded, state: MarketState) -> None:
        """Take a trade in, and bring the market's figures up to date."""
        self._trades.append(traded)
        state.last_price = traded.price
        state.open = state.open or traded.price
        state.high, state.low = max(state.high, traded.price), min(state.low or traded.price, traded.price)
        qty, price = self._instrument.qty(traded.qty), self._instrument.price(traded.price)
        state.volume_24h += qty
        state.turnover_24h += qty * price
        opens = traded.ts_ns // _MINUTE_NS * _MINUTE_NS
        if self._minutes and self._minutes[-1].open_ns == opens:
            last = self._minutes[-1]
            self._minutes[-1] = Candle(
                open_ns=opens, open=last.open, high=max(last.high, price), low=min(last.low, price), close=price,
                volume=last.volume + qty,
            )  # fmt: skip
        else:
            self._minutes.append(Candle(open_ns=opens, open=price, high=price, low=price, close=price, volume=qty))
