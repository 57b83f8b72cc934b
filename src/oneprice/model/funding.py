"""Funding of a perpetual: what the venue said of mark, index and the next payment, in whole numbers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import msgspec

FUNDING_RATE_EXPONENT = -8
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Exponent = Annotated[int, msgspec.Meta(ge=-128, le=127)]


class FundingEvent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of `funding.jsonl`. `mark_price` and `index_price` are mantissas at `price_exponent`.

    `funding_rate * 1e-8` is the fraction paid in one funding interval of the instrument (10000 is 1 bp); positive: longs
    pay shorts. Both times are UTC.

    >>> line = b'{"ts":"2026-01-22T12:00:00.123Z","tradingsymbol":"BTCUSDT_PERP","mark_price":9000012000000,\\
    ... "index_price":8999900000000,"funding_rate":10000,"next_funding_time":"2026-01-22T16:00:00.000Z","price_exponent":-8}'
    >>> msgspec.json.decode(line, type=FundingEvent).next_funding_time.isoformat()
    '2026-01-22T16:00:00+00:00'
    """

    ts: Instant
    tradingsymbol: str
    mark_price: int
    index_price: int
    funding_rate: int
    next_funding_time: Instant
    price_exponent: Exponent
