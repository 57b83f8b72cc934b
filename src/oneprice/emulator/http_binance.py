"""The gate of Binance's servers: every request passes limits, faults, key, signature and time before it is a call.

A signed request carries `X-MBX-APIKEY`, a `timestamp` and, over query and body joined without a separator, a hex
HMAC-SHA256 as `signature`. In the WebSocket API all parameters but the signature are signed, sorted by name, not
percent-encoded. Source: Binance documentation, Request security."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from oneprice.emulator.events import Reject
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.emulator.http_binance_errors import BinanceError, Params, needed, rejected, whole
from oneprice.emulator.http_binance_limits import OrderBudget, WeightBudget
from oneprice.model.time import NS_PER_MS, Clock

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Route = tuple[str, str, Handler]
Weight = int | Callable[[Params], int]
_MICROSECONDS = 10**15  # a timestamp from here on counts microseconds


class Gate:
    """Between the socket and a call."""

    def __init__(
        self, venue: str, *, clock: Clock, faults: FaultPlan, keys: Mapping[str, tuple[str, str]], futures: bool
    ) -> None:
        self.futures = futures
        self.weight = WeightBudget(clock=clock, futures=futures)
        self.orders = OrderBudget(clock=clock, futures=futures)
        self._venue = venue
        self._clock = clock
        self._faults = faults
        self._keys = keys

    # -- time ---------------------------------------------------------------------------------------------------------

    def clock_ns(self) -> int:
        """This machine's time, by which the market and the faults run."""
        return self._clock.now_ns()

    def skew_ns(self) -> int:
        """What a clock fault adds to every time that the venue tells."""
        return self._faults.skew_ns(self._venue, self._clock.now_ns())

    def now_ms(self) -> int:
        """The venue's time as it tells it."""
        return (self.clock_ns() + self.skew_ns()) // NS_PER_MS

    def takes(self, kind: FaultKind, symbol: str = "") -> bool:
        """Whether a fault of this kind happens here now."""
        return self._faults.take(kind, self._venue, symbol, now_ns=self.clock_ns()) is not None

    # -- REST ---------------------------------------------------------------------------------------------------------

    def public(self, handler: Callable[[Params], object], *, weight: Weight = 1) -> Handler:
        """A call that anybody may make."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._guarded(request, weight, 0, lambda params, headers: handler(params))

        return answer

    def signed(
        self, handler: Callable[[str, Params], object], *, weight: Weight = 1, key_only: bool = False,
        counts_orders: bool = False,
    ) -> Handler:  # fmt: skip
        """A call for the owner of a key: `handler(account, params)`. One that places or cancels (`counts_orders`) costs
        nothing when it succeeds and 1 when it fails, and tells the account's order counts."""

        async def answer(request: web.Request) -> web.StreamResponse:
            body = await request.text()
            query = request.rel_url.raw_query_string

            async def checked(params: Params, headers: dict[str, str]) -> object:
                key = request.headers.get("X-MBX-APIKEY", "")
                secret, account = self._owner(key)
                if not key_only:
                    needed(params, "signature")
                    self._check_signature(secret, *signed_parts(query, body))
                    self._check_time(params)
                result = handler(account, params)
                if isinstance(result, Awaitable):
                    result = await result
                if counts_orders:
                    headers |= self.orders.headers(account)
                return result

            return await self._guarded(request, 0 if counts_orders else weight, 1 if counts_orders else 0, checked)

        return answer

    async def _guarded(
        self, request: web.Request, weight: Weight, failed_weight: int,
        handler: Callable[[Params, dict[str, str]], object],
    ) -> web.StreamResponse:  # fmt: skip
        body = await request.text()
        params = dict(parse_qsl(request.rel_url.raw_query_string) + parse_qsl(body))
        headers: dict[str, str] = {}
        try:
            self.weight.spend(weight(params) if callable(weight) else weight)
            if self.takes(FaultKind.HTTP_429):
                raise BinanceError(-1003, "Too many requests.", 429, headers={"Retry-After": "1"})
            if self.takes(FaultKind.HTTP_5XX):
                said = "Unknown error, please check your request or try again later."
                raise BinanceError(None if self.futures else -1000, said, 503)
            result = handler(params, headers)
            if isinstance(result, Awaitable):
                result = await result
            status, answer = 200, msgspec.json.encode(result)
        except (BinanceError, Reject) as refusal:
            error = rejected(refusal, futures=self.futures) if isinstance(refusal, Reject) else refusal
            self.weight.add(failed_weight)
            status, answer = error.status, error.body
            headers |= error.headers
        headers |= self.weight.headers()
        return web.Response(body=answer, status=status, content_type="application/json", headers=headers)

    # -- the WebSocket API --------------------------------------------------------------------------------------------

    def ws_account(self, params: Mapping[str, Any]) -> str:
        """The account of a signed frame of the WebSocket API."""
        secret, account = self._owner(str(params.get("apiKey", "")))
        said = {name: as_text(value) for name, value in params.items()}
        signature = needed(said, "signature")
        payload = "&".join(f"{name}={said[name]}" for name in sorted(said) if name != "signature")
        self._check_signature(secret, payload, signature)
        self._check_time(said)
        return account

    # -- shared -------------------------------------------------------------------------------------------------------

    def _owner(self, key: str) -> tuple[str, str]:
        """(secret, account) of a key."""
        if key == "":
            raise BinanceError(-2014, "API-key format invalid.", 401)
        found = self._keys.get(key)
        if found is None:
            raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        return found

    def _check_signature(self, secret: str, payload: str, signature: str) -> None:
        expected = hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected.encode(), signature.encode()):
            raise BinanceError(-1022, "Signature for this request is not valid.")

    def _check_time(self, params: Params) -> None:
        """-1021 unless `timestamp < server + 1 s` and `server - timestamp <= recvWindow` (5 s unless it says more)."""
        needed(params, "timestamp")
        sent_ms = whole(params, "timestamp", 0)
        sent_ms = sent_ms // 1000 if sent_ms >= _MICROSECONDS else sent_ms
        window_ms = whole(params, "recvWindow", 5_000)
        if window_ms > 60_000:
            raise BinanceError(-1131, "recvWindow must be less than 60000")
        now_ms = self.now_ms()
        if sent_ms >= now_ms + 1000:
            raise BinanceError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - sent_ms > window_ms:
            raise BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")


def signed_parts(query: str, body: str) -> tuple[str, str]:
    """(what was signed, the signature) of a request, wherever in query or body the signature stands.

    >>> signed_parts("symbol=LTCBTC&timestamp=1", "quantity=1&signature=c8db")
    ('symbol=LTCBTC&timestamp=1quantity=1', 'c8db')
    """
    signature, parts = "", []
    for part in (query, body):
        fields = part.split("&") if part else []
        signature = next((field[10:] for field in fields if field.startswith("signature=")), signature)
        parts.append("&".join(field for field in fields if not field.startswith("signature=")))
    return "".join(parts), signature


def as_text(value: object) -> str:
    """A JSON value of the WebSocket API as it is signed."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
