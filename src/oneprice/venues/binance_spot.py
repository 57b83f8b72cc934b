"""Binance spot over JSON.

Book: (1) open the stream and buffer; (2) GET /api/v3/depth; (3) an answer older than the first buffered event is
fetched again; (4) drop events with u <= lastUpdateId, the first kept one has U <= lastUpdateId + 1 <= u; (5) apply, and
from then on every event begins at most one behind the last: anything later is a gap, and the book starts over.

Trades are `@trade`, each match by itself and its ids without a hole; block trades have ids of their own and are off the
book. The best price (`@bookTicker`) has no time: its receive time is all that is known.

Source: Binance documentation, Web Socket Streams."""

from __future__ import annotations

from decimal import Decimal

from oneprice.model.instrument import InstrumentKind
from oneprice.venues.base import Channel, Endpoints, Ping, RateLimits, Rest, Venue
from oneprice.venues.binance_json import SPOT, combined_url, control, make_encoders, subscribe, unsubscribe
from oneprice.venues.binance_rest import make_rest
from oneprice.venues.sequencing import Consecutive
from oneprice.venues.wire_binance import decode_spot

MAKER_FEE = TAKER_FEE = Decimal("0.001")
ENDPOINTS = {
    "live": Endpoints(ws={"public": "wss://stream.binance.com:9443"}, rest="https://api.binance.com"),
    # Its demo exchange: unlike testnet.binance.vision it has futures, too, under the same key.
    "testnet": Endpoints(ws={"public": "wss://demo-stream.binance.com"}, rest="https://demo-api.binance.com"),
}
LIMITS = RateLimits(
    weight_per_window=6000, window_s=60.0, ws_messages_per_s=5.0, subscribe_batch=100, streams_per_connection=1024
)


def rest_of(venue: str) -> Rest:
    """Spot's REST calls; `binance_sbe` shares them under its own name."""
    return make_rest(
        prefix="/api/v3", venue=venue, maker_fee=MAKER_FEE, taker_fee=TAKER_FEE, depth_limit=5000, depth_weight=250,
        info_weight=20, futures=False,
    )  # fmt: skip


BINANCE_SPOT = Venue(
    name="binance_spot",
    market="binance_spot",
    docs="https://developers.binance.com/docs/binance-spot-api-docs",
    kind=InstrumentKind.SPOT,
    endpoints=ENDPOINTS,
    channels={
        Channel.DEPTH: ("public", "{lower}@depth@100ms"),
        Channel.QUOTE: ("public", "{lower}@bookTicker"),
        Channel.TRADE: ("public", "{lower}@trade"),
    },
    sequencing=Consecutive(),
    decode=decode_spot,
    control=control,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    url=combined_url,
    ping=Ping(every_s=20.0),
    max_age_s=24 * 3600.0,
    limits=LIMITS,
    rest=rest_of("binance_spot"),
    encode=make_encoders(SPOT),
)
