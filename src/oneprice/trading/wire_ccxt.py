"""Between our orders and ccxt's words: parameters out, fills, states and errors in. Everything of ccxt stops here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import ccxt

from oneprice.model.errors import Refused, UnknownOutcome, VenueError
from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.model.order import Order, Side, TimeInForce
from oneprice.trading.follow import VenueFill, VenueState

_STATES = {
    "open": VenueState.OPEN,
    "closed": VenueState.FILLED,
    "canceled": VenueState.CANCELLED,
    "expired": VenueState.EXPIRED,
    "rejected": VenueState.REJECTED,
}
# The venue has answered that it did not take the request. Whatever is not here may have been done.
_DEFINITE = (
    ccxt.InvalidOrder, ccxt.InsufficientFunds, ccxt.BadRequest, ccxt.AuthenticationError, ccxt.ArgumentsRequired,
    ccxt.RateLimitExceeded, ccxt.InvalidNonce, ccxt.NotSupported, ccxt.OperationRejected, ccxt.MarketClosed,
)  # fmt: skip
# Bybit's timeouts of an order and of a cancel, and a client id that is taken (both venues: by an order of ours, then).
# ccxt calls these refusals, but the order may stand.
_MAY_STAND = re.compile(r'"(?:retCode|code)":(?:170146|170147|110072|170141|-4116)\b|Duplicate order sent')
_SIGNATURE = re.compile(r"(?i)(signature|sign|apiKey|api_key|listenKey)=[^&\s\"']+")


def create_arguments(order: Order, instrument: Instrument, client_id: str) -> tuple[Any, ...]:
    """Arguments of ccxt's `create_order`: symbol, type, side, amount, price, params. Numbers as exact text."""
    params: dict[str, Any] = {"clientOrderId": client_id}
    if order.time_in_force is TimeInForce.POST_ONLY:
        params["postOnly"] = True
    else:
        params["timeInForce"] = order.time_in_force.value.upper()
    if order.reduce_only and instrument.kind is not InstrumentKind.SPOT:
        params["reduceOnly"] = True
    side = "buy" if order.side is Side.BUY else "sell"
    qty, price = f"{instrument.qty(order.qty):f}", f"{instrument.price(order.price):f}"
    return instrument.canonical, order.type.value, side, qty, price, params


def read_fill(trade: Mapping[str, Any], instrument: Instrument) -> VenueFill:
    """A ccxt trade as a fill. InputError when its numbers do not fit the instrument's exponents."""
    fee = trade.get("fee") or {}
    return VenueFill(
        trade_id=str(trade["id"]),
        price=instrument.price_mantissa(_decimal(trade["price"])),
        qty=instrument.qty_mantissa(_decimal(trade["amount"])),
        fee=_decimal(fee.get("cost") or 0),
        fee_asset=str(fee.get("currency") or ""),
        maker=trade.get("takerOrMaker") == "maker",
    )


def read_state(told: Mapping[str, Any], instrument: Instrument) -> tuple[VenueState, int] | None:
    """(state, quantity filled in all) of a ccxt order; None when it says neither."""
    state = _STATES.get(str(told.get("status")))
    if state is None:
        return None
    filled = told.get("filled")
    return state, instrument.qty_mantissa(_decimal(filled)) if filled is not None else 0


def translated(error: Exception, *, where: str) -> VenueError | Refused:
    """A ccxt error as ours: `Refused` (nothing was sent), `VenueError` (the venue said no) or `UnknownOutcome`."""
    if isinstance(error, Refused):
        return error
    text = _SIGNATURE.sub(r"\1=(hidden)", str(error))[:300]
    may_stand = isinstance(error, ccxt.DuplicateOrderId) or _MAY_STAND.search(text)
    if isinstance(error, _DEFINITE) and not may_stand:
        return VenueError(
            f"{where}: {type(error).__name__}: {text}",
            code=type(error).__name__,
            transient=isinstance(error, ccxt.RateLimitExceeded),
        )
    return UnknownOutcome(f"{where}: {type(error).__name__}: {text}; it may have been done", code=type(error).__name__)


async def find_order(exchange: Any, family: str, instrument: Instrument, client_id: str) -> Mapping[str, Any] | None:
    """The order that carries this client id, open or ended lately; None when the venue knows none."""
    if family == "bybit":
        category = "spot" if instrument.kind is InstrumentKind.SPOT else "linear"
        query = {"category": category, "symbol": instrument.symbol, "orderLinkId": client_id}
        answer = await exchange.private_get_v5_order_realtime(query)
        found = answer["result"]["list"]
        told: Mapping[str, Any] | None = None
        if found:
            told = exchange.parse_order(found[0], exchange.market(instrument.canonical))
        return told
    try:
        told = await exchange.fetch_order(None, instrument.canonical, {"clientOrderId": client_id})
    except ccxt.OrderNotFound:
        return None
    return told


def _decimal(number: object) -> Decimal:
    return Decimal(str(number))
