"""What Bybit's REST calls share on a practice venue: envelope, error codes, signatures, both rate limits, faults.

Every answer is `{"retCode":0,"retMsg":"OK","result":{…},"retExtInfo":{},"time":ms}`; an error has HTTP status 200 and
says so in `retCode`. A request passes, in this order: the address's limit (600 requests in five seconds, HTTP 403), the
faults of the REST side, key, time and signature, the account's limit (`retCode` 10006), the call.

Source: Bybit v5 documentation, Integration Guidance, Rate Limit Rules and Error Codes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from oneprice.emulator.events import Reject, RejectCode
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.model.time import NS_PER_MS, NS_PER_S, Clock

Params = Mapping[str, Any]
Route = tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]]
VENUES = {"spot": "bybit_spot", "linear": "bybit_linear"}  # category → venue

PARAMETER, TIMESTAMP, KEY, SIGNATURE, TOO_MANY, TIMEOUT, SERVER = 10001, 10002, 10003, 10004, 10006, 10000, 10016
_ADDRESS_LIMIT, _ADDRESS_WINDOW_NS = 600, 5 * NS_PER_S
_FUTURE_NS = NS_PER_S  # a timestamp may be ahead of the server by less than this

# Reject → (spot code, linear code, text)
_CODES: Mapping[RejectCode, tuple[int, int, str]] = {
    RejectCode.INSUFFICIENT_BALANCE: (170131, 110007, "Insufficient balance."),
    RejectCode.MIN_NOTIONAL: (170140, 110094, "Order value exceeded lower limit."),
    RejectCode.LOT_SIZE: (170137, 10001, "Order quantity has too many decimals."),
    RejectCode.TICK_SIZE: (170134, 10001, "Order price has too many decimals."),
    RejectCode.PRICE_BAND: (170193, 110003, "Order price exceeds the allowable range."),
    RejectCode.UNKNOWN_SYMBOL: (10001, 10001, "params error: symbol invalid"),
    RejectCode.UNKNOWN_ORDER: (170213, 110001, "Order does not exist."),
    RejectCode.DUPLICATE_CLIENT_ID: (170141, 110072, "OrderLinkedID is duplicate"),
    RejectCode.REDUCE_ONLY: (110017, 110017, "orderQty will be truncated to zero."),
    RejectCode.QTY_RANGE: (170136, 10001, "Order quantity is out of range."),
    RejectCode.MAX_ORDERS: (170810, 110009, "Number of active orders has reached its limit."),
}


class BybitError(Exception):
    """An error answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


def rejected(reject: Reject, *, spot: bool) -> BybitError:
    """A market's refusal in the venue's words."""
    spot_code, linear_code, text = _CODES[reject.code]
    return BybitError(spot_code if spot else linear_code, text)


def order_limit_of(params: Params) -> int:
    """Orders a second: 20 on spot, 10 on linear."""
    return 20 if params.get("category") == "spot" else 10


class Limiter:
    """How many calls of each group happened within the last second, and within five seconds in all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._calls: defaultdict[str, deque[int]] = defaultdict(deque)

    def spend(self, group: str, limit: int, window_ns: int = NS_PER_S) -> tuple[bool, dict[str, str]]:
        """(whether this call is within the limit, the headers that tell the client)."""
        now_ns = self._clock.now_ns()
        calls = self._calls[group]
        while calls and calls[0] <= now_ns - window_ns:
            calls.popleft()
        allowed = len(calls) < limit
        if allowed:
            calls.append(now_ns)
        headers = {
            "X-Bapi-Limit": str(limit), "X-Bapi-Limit-Status": str(limit - len(calls)),
            "X-Bapi-Limit-Reset-Timestamp": str((calls[0] + window_ns) // NS_PER_MS + 1),
        }  # fmt: skip
        return allowed, headers


class Gate:
    """Between the socket and a call: parameters, limits, key and signature, faults, envelope."""

    def __init__(
        self, venues: Sequence[str], *, clock: Clock, faults: FaultPlan, keys: Mapping[str, tuple[str, str]]
    ) -> None:
        self._venues = tuple(venues)
        self._clock = clock
        self._faults = faults
        self._keys = keys
        self.limiter = Limiter(clock)

    def clock_ns(self) -> int:
        """This machine's time, by which the market runs."""
        return self._clock.now_ns()

    def now_ns(self, params: Params | None = None) -> int:
        """The venue's time as it tells it: this machine's, and what a clock fault of the product adds."""
        now_ns = self._clock.now_ns()
        return now_ns + max(self._faults.skew_ns(venue, now_ns) for venue in self._concerned(params or {}))

    def account(self, key: str) -> tuple[str, str]:
        """(secret, account) of a key; 10003 for one that is not known."""
        found = self._keys.get(key)
        if found is None:
            raise BybitError(KEY, "API key is invalid.")
        return found

    def public(self, call: Callable[[Params], object]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A call that anybody may make."""

        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._guarded(request, lambda params, headers: call(params))

        return answer

    def signed(
        self, call: Callable[[str, Params], object], *, group: str = "query",
        limit: Callable[[Params], int] = lambda params: 50,
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:  # fmt: skip
        """A call for the owner of a key: `call(account, params)`; `limit` calls of the group a second."""

        async def answer(request: web.Request) -> web.StreamResponse:
            payload = await request.text() if request.method == "POST" else request.rel_url.raw_query_string

            def checked(params: Params, headers: dict[str, str]) -> object:
                account = self._check(request.headers, payload, params)
                allowed, told = self.limiter.spend(f"{account} {params.get('category')} {group}", limit(params))
                headers |= told
                if not allowed:
                    raise BybitError(TOO_MANY, "Too many visits!")
                return call(account, params)

            return await self._guarded(request, checked)

        return answer

    async def _guarded(
        self, request: web.Request, call: Callable[[Params, dict[str, str]], object]
    ) -> web.StreamResponse:  # fmt: skip
        headers: dict[str, str] = {}
        allowed, _ = self.limiter.spend("address", _ADDRESS_LIMIT, _ADDRESS_WINDOW_NS)
        if not allowed:
            return web.Response(status=403, text="access too frequent")
        body = await request.text()
        params: Params = {}
        try:
            params = _parameters(request, body)
            if self._takes(FaultKind.HTTP_429, params):
                busy = (
                    "The trading service is experiencing a high server load. Please retry if you encounter this issue."
                )
                return self._answer(429, busy, {}, params, headers, status=429)
            if self._takes(FaultKind.HTTP_5XX, params):
                return self._answer(SERVER, "Server error.", {}, params, headers, status=503)
            result = call(params, headers)
            if isinstance(result, Awaitable):
                result = await result
            return self._answer(0, "OK", result, params, headers)
        except BybitError as error:
            return self._answer(error.code, error.message, {}, params, headers)

    def _answer(
        self, code: int, message: str, result: object, params: Params, headers: Mapping[str, str], status: int = 200
    ) -> web.Response:
        envelope = {
            "retCode": code, "retMsg": message, "result": result, "retExtInfo": {},
            "time": self.now_ns(params) // NS_PER_MS,
        }  # fmt: skip
        return web.Response(
            body=msgspec.json.encode(envelope), status=status, content_type="application/json", headers=headers
        )

    def _concerned(self, params: Params) -> Sequence[str]:
        """The product that a request names, or all of this server when it names none."""
        named = VENUES.get(str(params.get("category", "")))
        return (named,) if named in self._venues else self._venues

    def _takes(self, kind: FaultKind, params: Params) -> bool:
        now_ns, symbol = self._clock.now_ns(), str(params.get("symbol", ""))
        return any(
            self._faults.take(kind, venue, symbol, now_ns=now_ns) is not None for venue in self._concerned(params)
        )

    def _check(self, headers: Mapping[str, str], payload: str, params: Params) -> str:
        key = headers.get("X-BAPI-API-KEY", "")
        secret, account = self.account(key)
        sent, window = headers.get("X-BAPI-TIMESTAMP", ""), headers.get("X-BAPI-RECV-WINDOW", "5000")
        self.check_time(sent, window, params)
        expected = hmac.new(secret.encode(), f"{sent}{key}{window}{payload}".encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, headers.get("X-BAPI-SIGN", "")):
            raise BybitError(SIGNATURE, "Error sign, please check your signature generation algorithm.")
        return account

    def check_time(self, sent: str, window: str, params: Params) -> None:
        """10002 unless `server - window <= sent < server + 1 s` (all in milliseconds)."""
        if not sent.isdigit() or not window.isdigit():
            raise BybitError(PARAMETER, "params error: timestamp or recv_window is not a number")
        now_ms = self.now_ns(params) // NS_PER_MS
        if not now_ms - int(window) <= int(sent) < now_ms + _FUTURE_NS // NS_PER_MS:
            raise BybitError(
                TIMESTAMP,
                "invalid request, please check your server timestamp or recv_window param. "
                f"req_timestamp[{sent}],server_timestamp[{now_ms}],recv_window[{window}]",
            )

    def ws_account(self, arguments: Sequence[Any]) -> str:
        """The account of `{"op":"auth","args":[key, expires_ms, signature]}`."""
        if len(arguments) != 3:
            raise BybitError(PARAMETER, "Params Error")
        key, expires, signature = (str(argument) for argument in arguments)
        secret, account = self.account(key)
        if not expires.isdigit() or int(expires) <= self.now_ns() // NS_PER_MS:
            raise BybitError(SIGNATURE, "Params Error: expires has passed")
        expected = hmac.new(secret.encode(), f"GET/realtime{expires}".encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise BybitError(SIGNATURE, "Invalid signature")
        return account

    async def hold(self, seconds: float) -> None:
        """Keep an answer back, then say that nobody knows: what a timeout after the order was accepted looks like."""
        await asyncio.sleep(seconds)
        raise BybitError(TIMEOUT, "Server Timeout")


def _parameters(request: web.Request, body: str) -> Params:
    if request.method != "POST":
        return dict(parse_qsl(request.rel_url.raw_query_string))
    try:
        return msgspec.json.decode(body or "{}", type=dict[str, Any])
    except msgspec.MsgspecError:
        raise BybitError(PARAMETER, "params error: the body is not a JSON object") from None
