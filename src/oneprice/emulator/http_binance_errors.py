"""Binance's refusals, and the reading of parameters that leads to most of them.

An error is an HTTP status with `{"code":-1121,"msg":"Invalid symbol."}`; the futures service has texts without a code.
Source: Binance documentation, Errors, of spot and of USD-M."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from oneprice.emulator.events import Reject, RejectCode

Params = Mapping[str, str]
_NUMBER = re.compile(r"([0-9]{1,20})(\.[0-9]{1,20})?")

# Reject → (spot code, futures code)
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
    RejectCode.WOULD_TAKE: (
        "Due to the order could not be executed as maker, the Post Only order will be rejected. The order will not be "
        "recorded in the order history"
    ),
    RejectCode.MIN_NOTIONAL: "Order's notional must be no smaller than 5.0 (unless you choose reduce only)",
    RejectCode.LOT_SIZE: "Qty not increased by step size.",
    RejectCode.TICK_SIZE: "Price not increased by tick size.",
    RejectCode.PRICE_BAND: "Limit price is out of range.",
    RejectCode.DUPLICATE_CLIENT_ID: "ClientOrderId is duplicated.",
    RejectCode.QTY_RANGE: "Quantity greater than max quantity.",
    RejectCode.MAX_ORDERS: "Reach max open order limit.",
}


class BinanceError(Exception):
    """An error answer. `code` None: a text without one; `data` goes into the WebSocket API's error."""

    def __init__(
        self, code: int | None, message: str, status: int = 400, *, headers: Mapping[str, str] | None = None,
        data: Mapping[str, Any] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.headers, self.data = dict(headers or {}), dict(data or {})

    @property
    def body(self) -> bytes:
        """What the REST answer says."""
        return msgspec.json.encode(({} if self.code is None else {"code": self.code}) | {"msg": self.message})

    @property
    def frame(self) -> dict[str, Any]:
        """What the WebSocket API's answer says."""
        return {"code": self.code, "msg": self.message} | ({"data": self.data} if self.data else {})


def rejected(reject: Reject, *, futures: bool, cancel: bool = False) -> BinanceError:
    """A market's refusal in the venue's words."""
    code = _CODES[reject.code][1 if futures else 0]
    if cancel and reject.code is RejectCode.UNKNOWN_ORDER:
        return BinanceError(-2011, "Unknown order sent.")
    return BinanceError(code, _FUTURES_TEXT.get(reject.code, str(reject)) if futures else str(reject))


def needed(params: Params, name: str) -> str:
    """A parameter that must be there; -1102 when it is not."""
    value = params.get(name, "")
    if value == "":
        raise BinanceError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return value


def forbidden(params: Params, name: str) -> None:
    """-1106 when a parameter is there that this call does not take."""
    if name in params:
        raise BinanceError(-1106, f"Parameter '{name}' sent when not required.")


def whole(params: Params, name: str, default: int, *, most: int | None = None) -> int:
    """A whole number; -1100 for what is none, `most` for more than that."""
    text = params.get(name, "")
    if text == "":
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise BinanceError(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[0-9]{{1,20}}$'."
        )  # fmt: skip
    return int(text) if most is None else min(int(text), most)


def positive(params: Params, name: str) -> Decimal:
    """A number above zero; -1100 for what is none, -1013 for zero."""
    text = needed(params, name)
    if _NUMBER.fullmatch(text) is None:
        raise BinanceError(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^{_NUMBER.pattern}$'."
        )  # fmt: skip
    value = Decimal(text)
    if value == 0:
        raise BinanceError(-1013, f"Invalid {name}.")
    return value
