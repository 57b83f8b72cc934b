"""The guard: nothing signed leaves this machine unless its mode and its host allow it.

`guarded` puts it in front of a ccxt exchange class, at the three places that everything passes:

* `fetch`, the one method through which ccxt sends a REST request: anything that is not plainly public is signed;
* the WebSocket client's `send`, and its address (a listen key is a credential);
* the connector, which dials: an exchange that holds keys reaches the listed hosts and no other, so that a redirect, an
  address in an option or a mistake in ccxt does not carry a key elsewhere.

The rule is turned round from what a filter would do: a request counts as signed until it is shown to be public. A
refused request raises `Refused` before a byte is sent; the message names host and mode, never a header, a query or a
body."""

from __future__ import annotations

import json
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import aiohttp
import yarl

from oneprice.model.errors import Refused
from oneprice.trading.hosts import LOOPBACK, Access, allowed_hosts

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientRequest

    _Exchange: Any
else:
    _Exchange = object  # a ccxt class takes its place behind the mixin

_PUBLIC_HEADERS = frozenset(
    {"accept", "accept-encoding", "accept-language", "connection", "content-type", "origin", "referer", "user-agent"}
)
# Names that mark a credential in a query, a form or JSON; and the operations that act on an account that has logged on.
_CREDENTIAL = re.compile(
    r"(?i)[\"'?&]?\b(signature|sign|api_?key|listen_?key|secret|passphrase|token)\b[\"']?\s*[:=]"
    r"|\"(op|method)\"\s*:\s*\"(auth|login|logon|session\.|order\.|orderlist\.|userdatastream\.)"
)
_PORTS = frozenset({443, 9443})


def is_public(
    method: str, url: str, headers: Mapping[str, Any] | None, body: object, secrets: tuple[str, ...] = ()
) -> bool:
    """Whether a REST request plainly carries no credential and changes nothing: a GET without a body, with harmless
    headers only, no credential's name in the query and none of the `secrets` anywhere."""
    if method.upper() not in ("GET", "HEAD") or body:
        return False
    if any(name.lower() not in _PUBLIC_HEADERS for name in headers or {}):
        return False
    return is_public_text(url, secrets) and not any(
        secret in str(value) for value in (headers or {}).values() for secret in secrets
    )


def is_public_text(text: str, secrets: tuple[str, ...] = ()) -> bool:
    """Whether an address or a WebSocket message carries no credential and no account operation."""
    return _CREDENTIAL.search(text) is None and not any(secret in text for secret in secrets)


def require_allowed(url: str, *, access: Access, exchange: str) -> None:
    """`Refused` unless this access lets the exchange's signed requests go to the address's host, over TLS."""
    address = yarl.URL(url, encoded=True)  # parsed by what will dial it
    host = (address.host or "").lower()
    hosts = allowed_hosts(access, exchange)
    if host not in hosts:
        where = f"its hosts are {', '.join(sorted(hosts))}" if hosts else "it sends nothing signed anywhere"
        raise Refused(f"{exchange}: a signed request to '{host}' was not sent: access is '{access}', {where}")
    if host in LOOPBACK:
        return
    if address.scheme not in ("https", "wss") or address.port not in _PORTS or address.user is not None:
        raise Refused(
            f"{exchange}: a signed request to '{host}' was not sent: {address.scheme} on port {address.port} is "
            "not TLS on an exchange's port"
        )


class _Connector(aiohttp.TCPConnector):
    """Dials only what `check` lets through: every request, redirect and WebSocket handshake of a session."""

    def __init__(self, check: Callable[[str], None], **options: Any) -> None:
        super().__init__(**options)
        self._check = check

    async def connect(self, req: ClientRequest, traces: list[Any], timeout: aiohttp.ClientTimeout) -> Any:  # noqa: ASYNC109
        self._check(str(req.url))
        return await super().connect(req, traces, timeout)


class GuardedExchange(_Exchange):
    """A mixin for ccxt exchange classes. Made by `guarded`, which sets `access` and `family`."""

    access: Access = Access.NONE
    family: str = ""
    session: Any
    ssl_context: Any
    tcp_connector: Any
    logger = logging.Logger("ccxt, silent", logging.CRITICAL + 1)  # ccxt logs headers, and with them the key, at DEBUG

    def _secrets(self) -> tuple[str, ...]:
        held = (getattr(self, name, None) for name in ("apiKey", "secret", "password", "privateKey", "token"))
        return tuple(secret for secret in held if secret)

    def _require_allowed(self, url: str) -> None:
        require_allowed(url, access=self.access, exchange=self.family)

    def _check_dialled(self, url: str) -> None:
        if self._secrets():
            self._require_allowed(url)

    def open(self, lazy: bool = False) -> None:
        """As ccxt's, with a session whose connector is guarded."""
        is_shut = lazy and self.closed_by_user  # then ccxt refuses, and must find no session to leave open
        if self.own_session and self.session is None and not is_shut:
            if self.ssl_context is None:
                self.ssl_context = ssl.create_default_context(cafile=self.cafile)
            self.tcp_connector = _Connector(self._check_dialled, ssl=self.ssl_context)
            self.session = aiohttp.ClientSession(connector=self.tcp_connector, trust_env=self.aiohttp_trust_env)
        super().open(lazy)

    async def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        """Send a request, unless it is signed and not allowed."""
        if not is_public(method, url, headers, body, self._secrets()):
            self._require_allowed(url)
            rewriter = self.check_proxy_url_settings(url, method, headers, body)
            _, _, socks = self.check_proxy_settings(url, method, headers, body)
            if rewriter is not None or socks is not None:
                raise Refused(f"{self.family}: a signed request was not sent: a proxy would read it")
            if self.verbose:
                raise Refused(f"{self.family}: a signed request was not sent: ccxt's verbose mode prints the key")
        return await super().fetch(url, method, headers, body)

    def client(self, url: str) -> Any:
        """The WebSocket client of an address; what it sends passes the guard."""
        if not is_public_text(url, self._secrets()):
            self._require_allowed(url)
        client = super().client(url)
        if not getattr(client, "is_guarded", False):
            client.send = self._guarded_send(url, client.send)
            client.is_guarded = True
        return client

    def _guarded_send(self, url: str, send: Callable[[Any], Any]) -> Callable[[Any], Any]:
        async def guarded_send(message: Any) -> Any:
            text = message if isinstance(message, str) else json.dumps(message)
            if not is_public_text(text, self._secrets()):
                self._require_allowed(url)
            return await send(message)

        return guarded_send


def guarded(exchange_class: type[Any], *, access: Access, family: str, config: Mapping[str, Any] | None = None) -> Any:
    """An exchange of a ccxt class (async or pro) behind the guard. `family` names its row in `hosts.py`."""
    made = type(f"Guarded_{exchange_class.__name__}", (GuardedExchange, exchange_class), {})
    made.access, made.family = access, family  # type: ignore[attr-defined]
    return made(dict(config or {}))
