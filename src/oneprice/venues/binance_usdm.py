"""Binance USD-M futures. The stream host is split by path: `/public` brings depth and quotes, `/market` aggregate
trades, marks and liquidations; on the wrong path a stream is accepted and stays silent.

Book: (1) buffer `@depth@100ms`; (2) GET /fapi/v1/depth; (3) drop events with u < lastUpdateId; (4) the first kept one
has U <= lastUpdateId <= u, or continues it exactly (pu == lastUpdateId); (5) from then on pu is the u of the event
before. Update ids are shared by all symbols, so U says nothing about gaps.

Trades are `@aggTrade`: documented, and it carries every trade of the market, one row for what a taker order got at one
price, 100 ms late at most. The raw `@trade` is faster but undocumented, and may go without notice; recordings have it,
so it is decoded too. Liquidations are a sample: at most the latest of a symbol in a second.

Open interest has no stream and is polled.

Source: Binance documentation, USDS-M Futures, Websocket Market Streams."""

from __future__ import annotations

from decimal import Decimal

from oneprice.model.instrument import InstrumentKind
from oneprice.venues.base import Channel, Endpoints, Ping, RateLimits, Venue
from oneprice.venues.binance_json import USDM, combined_url, control, make_encoders, subscribe, unsubscribe
from oneprice.venues.binance_rest import make_rest
from oneprice.venues.sequencing import Chained
from oneprice.venues.wire_binance import decode_usdm

BINANCE_USDM = Venue(
    name="binance_usdm",
    market="binance_usdm",
    docs="https://developers.binance.com/docs/derivatives/usds-margined-futures",
    kind=InstrumentKind.PERP,
    endpoints={
        "live": Endpoints(
            ws={
                "public": "wss://fstream.binance.com/public",
                "market": "wss://fstream.binance.com/market",
                "private": "wss://fstream.binance.com/private",
            },
            rest="https://fapi.binance.com",
        ),
        "testnet": Endpoints(
            ws={
                "public": "wss://demo-fstream.binance.com/public",
                "market": "wss://demo-fstream.binance.com/market",
                "private": "wss://demo-fstream.binance.com/private",
            },
            rest="https://demo-fapi.binance.com",
        ),
    },
    channels={
        Channel.DEPTH: ("public", "{lower}@depth@100ms"),
        Channel.QUOTE: ("public", "{lower}@bookTicker"),
        Channel.TRADE: ("market", "{lower}@aggTrade"),
        Channel.MARK: ("market", "{lower}@markPrice@1s"),
        Channel.LIQUIDATION: ("market", "{lower}@forceOrder"),
    },
    polled={Channel.OPEN_INTEREST: 10.0},
    sequencing=Chained(),
    decode=decode_usdm,
    control=control,
    subscribe=subscribe,
    unsubscribe=unsubscribe,
    url=combined_url,
    ping=Ping(every_s=180.0),
    max_age_s=24 * 3600.0,
    limits=RateLimits(
        weight_per_window=2400, window_s=60.0, ws_messages_per_s=10.0, subscribe_batch=100, streams_per_connection=1024
    ),
    rest=make_rest(
        prefix="/fapi/v1", venue="binance_usdm", maker_fee=Decimal("0.0002"), taker_fee=Decimal("0.0005"),
        depth_limit=1000, depth_weight=20, info_weight=1, futures=True,
    ),
    encode=make_encoders(USDM),
)  # fmt: skip
