"""What a run looks like from outside at one moment: plain values for the dashboard, its REST and its WebSocket."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import msgspec

from oneprice.compute.books import Books
from oneprice.model.instrument import InstrumentTable
from oneprice.model.time import NS_PER_MS

_RECENT = 60
_CURVE = 600


class FeedView(msgspec.Struct, frozen=True, kw_only=True):
    """One connection: whether its data flows, how late it is, what it lost and repaired."""

    venue: str
    path: str
    state: str
    frames: int
    lag_ms: float | None  # venue time to receive time, clock offset taken out; None: not known yet
    data_age_ms: float | None
    gaps: int
    resyncs: int
    reconnects: int


class BookView(msgspec.Struct, frozen=True, kw_only=True):
    """The top of one book, as text in the venue's own digits."""

    instrument: str
    bid: str
    bid_qty: str
    ask: str
    ask_qty: str
    spread_bps: float | None
    valid: bool
    age_ms: float | None


class SightingView(msgspec.Struct, frozen=True, kw_only=True):
    ts_ns: int
    what: str
    type: str
    key: str
    gross_bps: float
    net_bps: float
    reason: str


class TradeView(msgspec.Struct, frozen=True, kw_only=True):
    """One finished trade: all its legs, what it earned before costs, its costs and what is left, in USDT."""

    ts_ns: int
    strategy: str
    key: str
    gross: float
    fees: float
    slippage: float
    net: float


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole run at `now_ns`."""

    mode: str
    started_ns: int
    now_ns: int
    events: int
    gaps: int
    resyncs: int
    opportunities: Mapping[str, int]
    trades: int
    fees: float
    net_pnl: float
    balanced: bool
    decisions: int
    decision_hash: str
    feeds: Sequence[FeedView]
    books: Sequence[BookView]
    sightings: Sequence[SightingView]
    recent_trades: Sequence[TradeView]
    pnl: Sequence[tuple[int, float]]  # (time ns, net result in USDT)


class Recent:
    """The last things worth showing, bounded."""

    def __init__(self) -> None:
        self.sightings: deque[SightingView] = deque(maxlen=_RECENT)
        self.trades: deque[TradeView] = deque(maxlen=_RECENT)
        self.pnl: deque[tuple[int, float]] = deque(maxlen=_CURVE)


def book_views(instruments: InstrumentTable, books: Books, now_ns: int) -> list[BookView]:
    """The top of every book."""
    views = []
    for index, instrument in enumerate(instruments):
        bid, ask = int(books.best_bid[index]), int(books.best_ask[index])
        two_sided = bid > 0 and ask > 0
        seen_ns = int(books.ts_recv_ns[index])
        views.append(
            BookView(
                instrument=instrument.key,
                bid=str(instrument.price(bid)) if bid else "",
                bid_qty=str(instrument.qty(int(books.best_bid_qty[index]))) if bid else "",
                ask=str(instrument.price(ask)) if ask else "",
                ask_qty=str(instrument.qty(int(books.best_ask_qty[index]))) if ask else "",
                spread_bps=round((ask - bid) / bid * 1e4, 3) if two_sided else None,
                valid=bool(books.valid[index]),
                age_ms=round((now_ns - seen_ns) / NS_PER_MS, 1) if seen_ns else None,
            )
        )
    return views
