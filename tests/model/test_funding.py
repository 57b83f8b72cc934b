"""A funding line as the seed has it: its fields, their order, whole numbers and UTC."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest

from oneprice.model.funding import FundingEvent

LINE = (
    b'{"ts":"2026-01-22T12:00:00.123Z","tradingsymbol":"BTCUSDT_PERP","mark_price":9000012000000,'
    b'"index_price":8999900000000,"funding_rate":10000,"next_funding_time":"2026-01-22T16:00:00.000Z","price_exponent":-8}'
)


def test_a_line_is_an_event_with_the_seeds_fields() -> None:
    event = msgspec.json.decode(LINE, type=FundingEvent)
    assert event == FundingEvent(
        ts=datetime(2026, 1, 22, 12, 0, 0, 123_000, tzinfo=UTC), tradingsymbol="BTCUSDT_PERP",
        mark_price=9_000_012_000_000, index_price=8_999_900_000_000, funding_rate=10_000,
        next_funding_time=datetime(2026, 1, 22, 16, tzinfo=UTC), price_exponent=-8,
    )  # fmt: skip
    assert msgspec.json.decode(msgspec.json.encode(event), type=FundingEvent) == event
    assert list(msgspec.json.decode(LINE)) == [field.name for field in msgspec.structs.fields(FundingEvent)]


@pytest.mark.parametrize(
    ("changed", "to"),
    [
        (b'"price_exponent":-8', b'"price_exponent":-129'),  # eight bits
        (b'"mark_price":9000012000000', b'"mark_price":90000.12'),
        (b'12:00:00.123Z"', b'12:00:00.123"'),  # a time of no zone is no instant
        (b'"funding_rate":10000,', b""),
        (b'"funding_rate":10000,', b'"funding_rate":10000,"rate":1,'),
    ],
)
def test_what_is_not_an_event_is_refused(changed: bytes, to: bytes) -> None:
    assert changed in LINE
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(LINE.replace(changed, to), type=FundingEvent)
