"""What Binance's REST servers share: error bodies, signatures, the weight budget with its headers, faults."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web

from oneprice.emulator.events import Reject, RejectCode
from oneprice.emulator.faults import FaultKind, FaultPlan
from oneprice.model.time import NS_PER_MS, NS_PER_S, Clock

Params = Mapping[str, str]
_WINDOW_NS = 60 * NS_PER_S

# Reject → (HTTP status, spot code, futures code)
_CODES: Mapping[RejectCode, tuple[int, int]] = {
    RejectCode.INSUFFICIENT_BALANCE: (-2010, -2019),
    RejectCode.WOULD_TAKE: (-2010, -5022),
    RejectCode.MIN_NOTIONAL: (-1013, -4164),
    RejectCode.LOT_SIZE: (-1013, -4023),
    RejectCode.TICK_SIZE: (-1013, -4014),
    RejectCode.PRICE_BAND: (-1013, -4016),
    RejectCode.UNKNOWN_SYMBOL: (-1121, -1121),
    RejectCode.UNKNOWN_ORDER: (-2013, -2013),
    RejectCode.DUPLICATE_CLIENT_ID: (-2010, -4116),
    RejectCode.REDUCE_ONLY: (-2022, -2022),
    RejectCode.QTY_RANGE: (-1013, -4005),
    RejectCode.MAX_ORDERS: (-2010, -2025),
}
_FUTURES_TEXT = {
    RejectCode.INSUFFICIENT_BALANCE: "Margin is insufficient.",
    RejectCode.WOULD_TAKE: "Due to the order could not be executed as maker, the Post Only order will be rejected.",
    RejectCode.MIN_NOTIONAL: "Order's notional must be no smaller than 5 (unless you choose reduce only).",
}


class BinanceError(Exception):
    """An error answer."""

    def __init__(self, code: int, message: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.status, self.headers = code, message, status, dict(headers or {})


def rejected(reject: Reject, *, futures: bool, cancel: bool = False) -> BinanceError:
    """A market's refusal in the venue's words."""
    code = _CODES[reject.code][1 if futures else 0]
    if cancel and reject.code is RejectCode.UNKNOWN_ORDER:
        code = -2011
    text = _FUTURES_TEXT.get(reject.code, str(reject)) if futures else str(reject)
    return BinanceError(code, "Unknown order sent." if code == -2011 else text)


class Gate:
    """Between the socket and a handler: parameters, weight, signature, faults, errors."""

    def __init__(
        self, venue: str, *, clock: Clock, faults: FaultPlan, keys: Mapping[str, tuple[str, str]], weight_limit: int
    ) -> None:
        self._venue = venue
        self._clock = clock
        self._faults = faults
        self._keys = keys
        self._weight_limit = weight_limit
        self._window = 0
        self._used = 0

    def now_ns(self) -> int:
        """The venue's time: this machine's, and what a clock fault adds."""
        now_ns = self._clock.now_ns()
        return now_ns + self._faults.skew_ns(self._venue, now_ns)

    def public(
        self, handler: Callable[[Params], object], *, weight: int = 1
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            return await self._guarded(request, weight, handler)

        return answer

    def signed(
        self, handler: Callable[[str, Params], object], *, weight: int = 1, key_only: bool = False
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def answer(request: web.Request) -> web.StreamResponse:
            raw = request.rel_url.raw_query_string
            body = await request.text()

            def checked(params: Params) -> object:
                return handler(
                    self._account(request.headers.get("X-MBX-APIKEY", ""), raw + body, params, key_only), params
                )

            return await self._guarded(request, weight, checked)

        return answer

    async def _guarded(
        self, request: web.Request, weight: int, handler: Callable[[Params], object]
    ) -> web.StreamResponse:  # fmt: skip
        headers: dict[str, str] = {}
        try:
            headers["X-MBX-USED-WEIGHT-1M"] = str(self._spend(weight))
            now_ns = self._clock.now_ns()
            if self._faults.take(FaultKind.HTTP_429, self._venue, now_ns=now_ns) is not None:
                raise BinanceError(-1003, "Too much request weight used.", 429, {"Retry-After": "1"})
            if self._faults.take(FaultKind.HTTP_5XX, self._venue, now_ns=now_ns) is not None:
                raise BinanceError(-1000, "Unknown error, please check your request or try again later.", 503)
            body = await request.text()
            params = dict(parse_qsl(request.rel_url.raw_query_string + ("&" + body if body else "")))
            result = handler(params)
            if isinstance(result, Awaitable):
                result = await result
            return web.Response(body=msgspec.json.encode(result), content_type="application/json", headers=headers)
        except BinanceError as error:
            text = msgspec.json.encode({"code": error.code, "msg": error.message})
            return web.Response(
                body=text, status=error.status, content_type="application/json", headers={**headers, **error.headers}
            )

    def _spend(self, weight: int) -> int:
        window = self._clock.now_ns() // _WINDOW_NS
        if window != self._window:
            self._window, self._used = window, 0
        self._used += weight
        if self._used > self._weight_limit:
            left_s = 60 - self._clock.now_ns() % _WINDOW_NS // NS_PER_S
            text = (
                f"Too much request weight used; current limit is {self._weight_limit} request weight per 1 MINUTE. "
                "Please use WebSocket Streams for live updates to avoid polling the API."
            )
            raise BinanceError(-1003, text, 429, {"Retry-After": str(left_s), "X-MBX-USED-WEIGHT-1M": str(self._used)})
        return self._used

    def _account(self, key: str, signed: str, params: Params, key_only: bool) -> str:
        if key not in self._keys:
            raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        secret, account = self._keys[key]
        if not key_only:
            payload, _, signature = signed.rpartition("signature=")
            self.check_signature(secret, payload.rstrip("&"), signature)
            self.check_time(params)
        return account

    def ws_account(self, params: Mapping[str, Any]) -> str:
        """The account of a signed frame of the WebSocket API: all parameters by name, not percent-encoded."""
        key = str(params.get("apiKey", ""))
        if key not in self._keys:
            raise BinanceError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        secret, account = self._keys[key]
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature")
        self.check_signature(secret, payload, str(params.get("signature", "")))
        self.check_time({name: str(value) for name, value in params.items()})
        return account

    @staticmethod
    def check_signature(secret: str, payload: str, signature: str) -> None:
        expected = hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(expected, signature):
            raise BinanceError(-1022, "Signature for this request is not valid.")

    def check_time(self, params: Params) -> None:
        try:
            sent_ms = int(params.get("timestamp", ""))
        except ValueError:
            raise BinanceError(
                -1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed."
            ) from None
        now_ms = self.now_ns() // NS_PER_MS
        if sent_ms >= now_ms + 1000:
            raise BinanceError(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - sent_ms > int(params.get("recvWindow", "5000")):
            raise BinanceError(-1021, "Timestamp for this request is outside of the recvWindow.")
