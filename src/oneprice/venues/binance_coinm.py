"""Binance COIN-M futures: inverse contracts of 100 USD (BTC) or 10 USD (others), quantity in contracts. Market data
only. One stream address, not split like USD-M's; its book chains and joins like USD-M's.

Source: Binance documentation, COIN-M Futures, Websocket Market Streams."""

from __future__ import annotations

from decimal import Decimal

from oneprice.model.instrument import InstrumentKind
from oneprice.venues.base import Channel, Endpoints, Ping, RateLimits, Venue
from oneprice.venues.binance_json import COINM, combined_url, control, make_encoders, subscribe, unsubscribe
from oneprice.venues.binance_rest import make_rest
from oneprice.venues.sequencing import Chained
from oneprice.venues.wire_binance import decode_coinm

BINANCE_COINM = Venue(
    name="binance_coinm",
    market="binance_coinm",
    docs="https://developers.binance.com/docs/derivatives/coin-margined-futures",
    kind=InstrumentKind.PERP,
    endpoints={
        "live": Endpoints(ws={"public": "wss://dstream.binance.com"}, rest="https://dapi.binance.com"),
        "testnet": Endpoints(ws={"public": "wss://dstream.binancefuture.com"}, rest="https://testnet.binancefuture.com"),
    },
    channels={
        Channel.DEPTH: ("public", "{lower}@depth@100ms"),
        Channel.QUOTE: ("public", "{lower}@bookTicker"),
        Channel.TRADE: ("public", "{lower}@aggTrade"),
        Channel.MARK: ("public", "{lower}@markPrice@1s"),
        Channel.LIQUIDATION: ("public", "{lower}@forceOrder"),
    },
    polled={Channel.OPEN_INTEREST: 10.0},
    sequencing=Chained(),
    decode=decode_coinm,
    control=control,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    url=combined_url,
    ping=Ping(every_s=180.0),
    max_age_s=24 * 3600.0,
    limits=RateLimits(
        weight_per_window=2400, window_s=60.0, ws_messages_per_s=10.0, subscribe_batch=100, streams_per_connection=200
    ),
    rest=make_rest(
        prefix="/dapi/v1", venue="binance_coinm", maker_fee=Decimal("0.0002"), taker_fee=Decimal("0.0005"),
        depth_limit=1000, depth_weight=20, info_weight=1, futures=True, mark_weight=10,
    ),
    encode=make_encoders(COINM),
)  # fmt: skip
