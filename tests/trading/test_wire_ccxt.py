"""What an error answer means for our money: a refusal that the venue stands by, or an outcome that is to be asked for."""

from __future__ import annotations

import json
from typing import Any

import ccxt
import pytest

from oneprice.model.errors import UnknownOutcome, VenueError
from oneprice.trading.wire_ccxt import translated

# (family, HTTP status, answer), by the venues' own documentation of errors.
UNKNOWN: list[tuple[str, int, dict[str, Any]]] = [
    *(("bybit", 200, {"retCode": code, "retMsg": "?"}) for code in (10000, 10016, 170007, 170146, 170147)),
    *(("bybit", 200, {"retCode": code, "retMsg": "OrderLinkedID is duplicate"}) for code in (110072, 170141)),
    *(("binance", 504, {"code": code, "msg": "execution status unknown"}) for code in (-1006, -1007)),
    ("binance", 503, {"code": -1000, "msg": "Unknown error, please check your request or try again later."}),
    ("binance", 503, {"msg": "Unknown error, please check your request or try again later."}),
    ("binance", 400, {"code": -2010, "msg": "Duplicate order sent."}),
    ("binance", 400, {"code": -4116, "msg": "ClientOrderId is duplicated."}),
]
REFUSED: list[tuple[str, int, dict[str, Any]]] = [
    *(("bybit", 200, {"retCode": code, "retMsg": "no"}) for code in (10002, 10006, 110007, 110094, 170131, 170140)),
    *(("binance", 400, {"code": code, "msg": "no"}) for code in (-1013, -1015, -1021, -1111, -2010)),
]


def error_of(family: str, status: int, answer: dict[str, Any]) -> Exception:
    """What unmodified ccxt makes of an answer."""
    exchange = getattr(ccxt, family)()
    body = json.dumps(answer, separators=(",", ":"))
    url = "https://api/order"
    with pytest.raises(ccxt.BaseError) as raised:
        exchange.handle_errors(status, "", url, "POST", {}, body, answer, {}, None)
        exchange.handle_http_status_code(status, "", url, "POST", body)
    return raised.value


@pytest.mark.parametrize(("family", "status", "answer"), UNKNOWN)
def test_what_may_have_been_done_is_never_called_a_refusal(family, status, answer) -> None:
    assert isinstance(translated(error_of(family, status, answer), where="here"), UnknownOutcome)


@pytest.mark.parametrize(("family", "status", "answer"), REFUSED)
def test_what_the_venue_refused_is_final(family, status, answer) -> None:
    told = translated(error_of(family, status, answer), where="here")
    assert isinstance(told, VenueError) and not isinstance(told, UnknownOutcome)
