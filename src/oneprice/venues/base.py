"""What a venue is: facts as values, and pure functions for both directions of its wire.

A venue here is a *product with a wire of its own* (`binance_spot`, `binance_usdm`, `bybit_linear`). Its module fills
one `Venue`; everything that moves bytes (connections, capture, replay, the emulator) is written once, against this
shape.

How data moves: a connection hands each frame to `decode`, a compiled function that writes tape rows for the hot
channels and says so in `head`; what it answers with `CONTROL` goes to `control`, typed and rare. Depth messages pass
the venue's sequencing rule (`sequencing.py`) before they stay on the tape; `feed.py` is that path, still without
I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from enum import IntEnum, StrEnum
from math import isfinite

import msgspec

from oneprice.model.errors import WireError
from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.venues.sequencing import Sequencing


class Channel(StrEnum):
    DEPTH = "depth"
    QUOTE = "quote"
    TRADE = "trade"
    MARK = "mark"  # mark price, index, funding rate and next funding time; by stream, or by polling (see `polled`)
    LIQUIDATION = "liquidation"
    OPEN_INTEREST = "open_interest"  # by REST polling where the venue has no stream for it


class Status(IntEnum):
    """What `decode` returns when it wrote no rows. Zero or more: that many rows."""

    CONTROL = -1  # not a hot message: acknowledgement, pong, error, notice
    MALFORMED = -2
    UNKNOWN_SYMBOL = -3
    INEXACT = -4  # a number has more digits than the instrument's exponents hold: its rules have changed
    NO_ROOM = -5  # reserve more rows and call again


# Slots of `head`, the int64 array in which `decode` describes the message it wrote rows for.
HEAD_CHANNEL = 0  # 1 depth, 2 quote, 3 trade, 4 mark, 5 liquidation, 6 open interest (see CHANNEL_CODE)
HEAD_INSTRUMENT = 1
HEAD_FIRST_ID = 2  # depth only, as are the next three
HEAD_LAST_ID = 3
HEAD_PREVIOUS_ID = 4  # -1 where the venue sends none
HEAD_IS_SNAPSHOT = 5
HEAD_SIZE = 8

CHANNEL_CODE: Mapping[Channel, int] = {
    Channel.DEPTH: 1,
    Channel.QUOTE: 2,
    Channel.TRADE: 3,
    Channel.MARK: 4,
    Channel.LIQUIDATION: 5,
    Channel.OPEN_INTEREST: 6,
}

# decode(frame, recv_ns, feed, lookup, rows, at, head) → rows written, or a Status
#   frame: uint8[n]; recv_ns, feed: int64; lookup: Lookup; rows: ROW[m]; at: int64; head: int64[HEAD_SIZE]
DecodeFn = Callable[..., int]


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of one environment. WebSocket addresses by path name, because some venues split them."""

    ws: Mapping[str, str]  # e.g. {"public": "wss://…", "market": "wss://…", "private": …, "trade": …}
    rest: str


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What a client may ask. `weight_per_window` is the REST budget of one address."""

    weight_per_window: int
    window_s: float
    ws_messages_per_s: float
    subscribe_batch: int  # topics in one subscribe request
    streams_per_connection: int
    connects_per_5min: int = 300


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """A control frame, understood. kind: ack, error, pong, ping, shutdown, auth, other."""

    kind: str
    request_id: str = ""
    message: str = ""


class Ping(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection is kept alive: what the client sends (None: the server pings, the client's library answers)."""

    every_s: float
    payload: bytes | None = None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A REST call as a value: somebody else sends it. `weight` is its price in the venue's budget."""

    method: str
    path: str
    query: Mapping[str, str] = {}
    headers: Mapping[str, str] = {}
    body: bytes = b""
    weight: int = 1


class Candle(msgspec.Struct, frozen=True, kw_only=True):
    open_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal  # base units


class FundingSettlement(msgspec.Struct, frozen=True, kw_only=True):
    ts_ns: int
    rate: Decimal  # fraction of the notional, per the interval that ended at ts_ns; positive: longs pay
    mark_price: Decimal | None = None


class MarkReading(msgspec.Struct, frozen=True, kw_only=True):
    """What one answer says of an instrument's mark, index and funding: by REST what `Channel.MARK` streams.

    None and 0: the answer does not say. `open_interest` (base units) is there where the venue tells it with the mark.
    WireError for values that cannot be.
    """

    venue_ns: int
    mark_price: float
    index_price: float | None = None
    funding_rate: float | None = None  # fraction per funding interval
    next_funding_ns: int = 0
    funding_interval_ns: int = 0
    open_interest: float | None = None

    def __post_init__(self) -> None:
        values = (self.mark_price, self.index_price, self.funding_rate, self.open_interest)
        is_finite = all(isfinite(value) for value in values if value is not None)
        if not is_finite or self.mark_price <= 0.0:
            raise WireError(f"no mark price, or a number that is none: {self}")
        if not all(0 <= ns < 1 << 63 for ns in (self.venue_ns, self.next_funding_ns, self.funding_interval_ns)):
            raise WireError(f"a time that cannot be: {self}")


class Subscription(msgspec.Struct, frozen=True, kw_only=True):
    channel: Channel
    symbol: str


class BookSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A whole book as REST gives it; prices and sizes as mantissas of the instrument's exponents."""

    last_id: int
    bids: tuple[tuple[int, int], ...]
    asks: tuple[tuple[int, int], ...]
    venue_ns: int = 0


class Rest(msgspec.Struct, frozen=True, kw_only=True):
    """Market data by REST: for each call how to ask and how to read the answer. None: the venue has no such call."""

    instruments: Callable[[], Request]
    read_instruments: Callable[[bytes], list[Instrument]]
    server_time: Callable[[], Request]
    read_server_time: Callable[[bytes], int]  # ns
    klines: Callable[[Instrument, str, int, int], Request]  # instrument, "1m"…, start ns, limit
    read_klines: Callable[[bytes], list[Candle]]  # oldest first, whatever the venue's order
    depth: Callable[[Instrument], Request] | None = None
    read_depth: Callable[[bytes, Instrument], BookSnapshot] | None = None
    funding_history: Callable[[Instrument, int, int], Request] | None = None  # instrument, start ns, limit
    read_funding_history: Callable[[bytes], list[FundingSettlement]] | None = None
    open_interest: Callable[[Instrument], Request] | None = None
    read_open_interest: Callable[[bytes], tuple[float, int]] | None = None  # base units, venue ns
    mark: Callable[[Instrument], Request] | None = None
    read_mark: Callable[[bytes], MarkReading] | None = None
    # raises VenueError (with code, transient, retry_after_s) or UnknownOutcome unless the answer is a success
    check: Callable[[int, Mapping[str, str], bytes], None]
    # where the instrument list comes in pages: an answer → the request for the next page, None after the last
    more_instruments: Callable[[bytes], Request | None] | None = None
    # where the instrument list does not say how often funding is paid: symbol → ns, for the symbols that differ from it
    funding_intervals: Callable[[], Request] | None = None
    read_funding_intervals: Callable[[bytes], dict[str, int]] | None = None


class Encoders(msgspec.Struct, frozen=True, kw_only=True):
    """The mirror image of `decode`: tape rows of one message → the frame a venue would send (see each venue)."""

    depth: Callable[..., bytes]
    trade: Callable[..., bytes]
    quote: Callable[..., bytes] | None = None
    mark: Callable[..., bytes] | None = None
    liquidation: Callable[..., bytes] | None = None


class Venue(msgspec.Struct, frozen=True, kw_only=True):
    """One product with a wire of its own."""

    name: str
    market: str  # venues of one market trade the same book over another wire (binance_spot and binance_sbe)
    docs: str
    kind: InstrumentKind
    endpoints: Mapping[str, Endpoints]  # by environment: "live", "testnet"
    ws_headers: tuple[str, ...] = ()  # names of headers the handshake needs, filled from the environment
    channels: Mapping[Channel, tuple[str, str]]  # channel → (name of the ws path, topic template with {symbol})
    polled: Mapping[Channel, float] = {}  # channel → seconds between REST polls, where there is no stream
    sequencing: Sequencing
    decode: DecodeFn
    control: Callable[[bytes], Control]
    subscribe: Callable[[Sequence[str], int], bytes]  # topics, request id → frame
    unsubscribe: Callable[[Sequence[str], int], bytes]
    url: Callable[[str, Sequence[str]], str] = lambda base, topics: base  # ws base, topics → address to open
    ping: Ping
    max_age_s: float | None = None  # the venue cuts a connection at this age; the feed replaces it before
    silence_s: float = 30.0  # no data for so long: the feed is stale
    limits: RateLimits
    rest: Rest
    encode: Encoders

    def topic(self, subscription: Subscription) -> str:
        return self.channels[subscription.channel][1].format(
            symbol=subscription.symbol, lower=subscription.symbol.lower()
        )
