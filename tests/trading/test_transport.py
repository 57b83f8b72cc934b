"""The guard in front of ccxt: every signed call shape of both venues, against real sockets that count what arrives."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import ccxt.pro
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from oneprice.model.errors import Refused
from oneprice.trading.hosts import HOSTS, LOOPBACK, Access, allowed_hosts
from oneprice.trading.transport import guarded, is_public, is_public_text, require_allowed
from patience import WITHIN_S

KEY, SECRET = "the-key-of-nobody", "the-secret-of-nobody"
FAMILIES = {"binance": ccxt.pro.binance, "bybit": ccxt.pro.bybit}


class Listener:
    """A server on loopback that remembers every request it gets."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.messages: asyncio.Queue[str] = asyncio.Queue()
        self.redirect_to = ""
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", self._take)
        self.server = TestServer(app)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            socket = web.WebSocketResponse()
            await socket.prepare(request)
            async for message in socket:
                self.messages.put_nowait(str(message.data))
            return socket
        if self.redirect_to:
            raise web.HTTPTemporaryRedirect(self.redirect_to)
        return web.json_response({"retCode": 0, "result": {}, "listenKey": "l"})

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server.port}"


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    await made.server.start_server()
    yield made
    await made.server.close()


def an_exchange(family: str, access: Access, *, keys: bool = True) -> Any:
    config = {"apiKey": KEY, "secret": SECRET} if keys else {}
    return guarded(FAMILIES[family], access=access, family=family, config={"enableRateLimit": False, **config})


def send_to(exchange: Any, address: str) -> None:
    """Every REST address of the exchange becomes the listener's."""
    exchange.urls["api"] = {
        name: (f"{address}/{name}" if isinstance(url, str) else url) for name, url in exchange.urls["api"].items()
    }


Call = Callable[[Any], Awaitable[Any]]
SIGNED: list[tuple[str, str, Call]] = [
    ("binance", "order", lambda x: x.private_post_order({"symbol": "BTCUSDT"})),
    ("binance", "order query", lambda x: x.private_get_order({"symbol": "BTCUSDT"})),
    ("binance", "cancel", lambda x: x.private_delete_order({"symbol": "BTCUSDT"})),
    ("binance", "account", lambda x: x.private_get_account()),
    ("binance", "fills", lambda x: x.private_get_mytrades({"symbol": "BTCUSDT"})),
    ("binance", "listen key", lambda x: x.public_post_userdatastream()),
    ("binance", "keep listen key", lambda x: x.public_put_userdatastream({"listenKey": "k"})),
    ("binance", "futures order", lambda x: x.fapiprivate_post_order({"symbol": "BTCUSDT"})),
    ("binance", "futures batch", lambda x: x.fapiprivate_post_batchorders({"batchOrders": []})),
    ("binance", "futures cancel", lambda x: x.fapiprivate_delete_order({"symbol": "BTCUSDT"})),
    ("binance", "futures positions", lambda x: x.fapiprivatev3_get_positionrisk()),
    ("binance", "futures listen key", lambda x: x.fapiprivate_post_listenkey()),
    ("binance", "wallet", lambda x: x.sapi_get_capital_config_getall()),
    ("binance", "key without signature", lambda x: x.public_get_historicaltrades({"symbol": "BTCUSDT"})),
    ("bybit", "order", lambda x: x.private_post_v5_order_create({"category": "spot"})),
    ("bybit", "cancel", lambda x: x.private_post_v5_order_cancel({"category": "spot"})),
    ("bybit", "order query", lambda x: x.private_get_v5_order_realtime({"category": "spot"})),
    ("bybit", "fills", lambda x: x.private_get_v5_execution_list({"category": "spot"})),
    ("bybit", "positions", lambda x: x.private_get_v5_position_list({"category": "linear"})),
    ("bybit", "wallet", lambda x: x.private_get_v5_account_wallet_balance()),
]


def calls(family: str) -> list[tuple[str, Call]]:
    return [(what, call) for of, what, call in SIGNED if of == family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("access", [Access.NONE, Access.TESTNET, Access.LIVE])
async def test_a_signed_request_to_an_unlisted_host_never_leaves(
    listener: Listener, family: str, access: Access
) -> None:
    exchange = an_exchange(family, access)
    send_to(exchange, listener.address)
    try:
        for what, call in calls(family):
            with pytest.raises(Refused) as refused:
                await call(exchange)
            assert KEY not in str(refused.value) and "signature=" not in str(refused.value), what
    finally:
        await exchange.close()
    assert listener.requests == []


@pytest.mark.parametrize("family", FAMILIES)
async def test_practice_reaches_this_machine(listener: Listener, family: str) -> None:
    exchange = an_exchange(family, Access.PRACTICE)
    send_to(exchange, listener.address)
    try:
        for what, call in calls(family):
            await call(exchange)
            headers = listener.requests[-1].headers
            assert KEY in (headers.get("X-MBX-APIKEY"), headers.get("X-BAPI-API-KEY")), what
    finally:
        await exchange.close()
    assert len(listener.requests) == len(calls(family))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("access", [Access.NONE, Access.PRACTICE, Access.TESTNET])
async def test_ccxts_own_live_addresses_are_refused_in_every_other_access(family: str, access: Access) -> None:
    exchange = an_exchange(family, access)
    try:
        for what, call in calls(family):
            with pytest.raises(Refused, match="was not sent"):
                await call(exchange)
                raise AssertionError(what)
    finally:
        await exchange.close()


async def test_an_exchange_without_keys_reads_public_data_anywhere(listener: Listener) -> None:
    exchange = an_exchange("binance", Access.NONE, keys=False)
    send_to(exchange, listener.address)
    await exchange.public_get_time()
    await exchange.close()
    assert len(listener.requests) == 1


async def test_an_exchange_with_keys_dials_no_unlisted_host_even_for_public_data(listener: Listener) -> None:
    exchange = an_exchange("binance", Access.TESTNET)
    send_to(exchange, listener.address)
    with pytest.raises(Refused):
        await exchange.public_get_time()
    await exchange.close()
    assert listener.requests == []


@pytest.mark.parametrize("target", ["https://api.binance.com/api/v3/order", "http://192.0.2.1/steal"])
async def test_a_redirect_does_not_carry_the_key_elsewhere(listener: Listener, target: str) -> None:
    listener.redirect_to = target
    exchange = an_exchange("binance", Access.PRACTICE)
    send_to(exchange, listener.address)
    with pytest.raises(Refused):
        await exchange.private_post_order({"symbol": "BTCUSDT"})
    await exchange.close()
    assert len(listener.requests) == 1


async def test_a_reading_proxy_and_verbose_mode_are_refused(listener: Listener) -> None:
    for change in ({"proxyUrl": "http://127.0.0.1:9/"}, {"verbose": True}):
        exchange = an_exchange("binance", Access.PRACTICE)
        send_to(exchange, listener.address)
        for name, value in change.items():
            setattr(exchange, name, value)
        with pytest.raises(Refused, match=r"proxy|verbose"):
            await exchange.private_get_account()
        await exchange.close()
    assert listener.requests == []


WS_SIGNED = [
    {"id": 1, "method": "order.place", "params": {"apiKey": KEY, "signature": "s"}},
    {"id": 1, "method": "userDataStream.subscribe.signature", "params": {"timestamp": 1}},
    {"id": 1, "method": "session.logon", "params": {"timestamp": 1}},
    {"op": "auth", "args": ["k", 1, "s"]},
    {"reqId": "1", "op": "order.create", "args": [{}]},
    {"op": "subscribe", "args": [f"orderbook.{KEY}"]},
]


@pytest.mark.parametrize("access", [Access.NONE, Access.LIVE, Access.PRACTICE])
async def test_a_signed_message_is_sent_only_where_it_may_go(listener: Listener, access: Access) -> None:
    """Without the connector's help: the keys are put in after the socket stands."""
    exchange = an_exchange("bybit", access, keys=False)
    client = exchange.client(listener.address.replace("http", "ws") + "/v5/private")
    await client.connect(exchange.session)
    exchange.apiKey, exchange.secret = KEY, SECRET
    await client.send({"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]})
    for message in WS_SIGNED:
        if access is Access.PRACTICE:
            await client.send(message)
        else:
            with pytest.raises(Refused):
                await client.send(message)
    await client.close()
    await exchange.close()
    arrived = 1 + (len(WS_SIGNED) if access is Access.PRACTICE else 0)
    async with asyncio.timeout(WITHIN_S):
        got = [await listener.messages.get() for _ in range(arrived)]
    assert "orderbook.50.BTCUSDT" in got[0]
    assert listener.messages.empty()


async def test_an_address_with_a_listen_key_is_not_opened(listener: Listener) -> None:
    exchange = an_exchange("binance", Access.TESTNET, keys=False)
    with pytest.raises(Refused):
        exchange.client(listener.address.replace("http", "ws") + "/private/ws?listenKey=abc&events=ORDER_TRADE_UPDATE")
    await exchange.close()
    assert listener.requests == []


async def test_a_socket_with_keys_is_not_dialled_to_an_unlisted_host(listener: Listener) -> None:
    exchange = an_exchange("bybit", Access.TESTNET)
    url = listener.address.replace("http", "ws") + "/v5/public/spot"
    with pytest.raises(ccxt.pro.NetworkError, match="was not sent"):
        await exchange.watch(url, "book", {"op": "subscribe", "args": ["orderbook.50.BTCUSDT"]}, "book")
    await exchange.close()
    assert listener.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "http://api.binance.com/api/v3/order",
        "https://api.binance.com:8443/api/v3/order",
        "https://api.binance.com.evil.example/api/v3/order",
        "https://api.binance.com@evil.example/api/v3/order",
        "https://evil.example\\@api.binance.com/",
        "https://someone@api.binance.com/",
        "https://evil.example/?x=https://api.binance.com/",
        "https://API-binance.com/",
        "https://testnet.binance.vision/api/v3/order",
        "http://127.0.0.1:9/",
        "",
    ],
)
def test_an_address_that_only_looks_right_is_refused(url: str) -> None:
    with pytest.raises((Refused, ValueError)):
        require_allowed(url, access=Access.LIVE, exchange="binance")


def test_every_listed_host_belongs_to_one_access_and_one_exchange() -> None:
    seen: dict[str, tuple[Access, str]] = {}
    for access, families in HOSTS.items():
        for family, hosts in families.items():
            for host in hosts:
                assert seen.setdefault(host, (access, family)) == (access, family)
                for scheme in ("https", "wss"):
                    require_allowed(f"{scheme}://{host}/x", access=access, exchange=family)
    assert not LOOPBACK & set(seen)
    assert allowed_hosts(Access.NONE, "binance") == allowed_hosts(Access.LIVE, "kraken") == frozenset()


@pytest.mark.parametrize(
    ("method", "url", "headers", "body", "public"),
    [
        ("GET", "https://x/api/v3/depth?symbol=BTCUSDT&limit=5000", None, None, True),
        ("GET", "https://x/api/v3/depth", {"User-Agent": "a", "Accept": "*/*"}, None, True),
        ("POST", "https://x/api/v3/order/test", None, None, False),
        ("DELETE", "https://x/api", None, None, False),
        ("GET", "https://x/api", None, "symbol=BTCUSDT", False),
        ("GET", "https://x/api?timestamp=1&signature=ab", None, None, False),
        ("GET", "https://x/api?api_key=a", None, None, False),
        ("GET", "https://x/api?sign=a", None, None, False),
        ("GET", "https://x/api", {"X-MBX-APIKEY": "a"}, None, False),
        ("GET", "https://x/api", {"X-Anything-New": "a"}, None, False),
        ("GET", "https://x/api", {"Authorization": "Bearer a"}, None, False),
        ("GET", f"https://x/{KEY}", None, None, False),
        ("GET", "https://x/", {"Referer": KEY}, None, False),
    ],
)
def test_what_is_not_plainly_public_counts_as_signed(
    method: str, url: str, headers: dict[str, str] | None, body: str | None, public: bool
) -> None:
    assert is_public(method, url, headers, body, (KEY,)) is public


def test_market_data_messages_are_public() -> None:
    assert is_public_text('{"method":"SUBSCRIBE","params":["btcusdt@trade"],"id":1}')
    assert is_public_text("wss://stream.binance.com:9443/ws/btcusdt@depth@100ms")
    assert not is_public_text("wss://fstream.binance.com/private/ws?listenKey=x")


async def test_ccxt_does_not_log_the_key(listener: Listener, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    exchange = an_exchange("bybit", Access.PRACTICE)
    send_to(exchange, listener.address)
    await exchange.private_get_v5_account_wallet_balance()
    await exchange.close()
    assert KEY not in caplog.text and KEY not in repr(exchange) + str(exchange)
