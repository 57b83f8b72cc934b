"""Mark, index and funding by REST: what an answer says is what the stream says of the same values, row for row."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from feed_world import MS, instrument, table
from hypothesis import given
from hypothesis import strategies as st

from oneprice.model.errors import WireError
from oneprice.model.tape import LAST, ROW, Kind, Rows, TapeWriter
from oneprice.venues.base import Channel, MarkReading, Venue
from oneprice.venues.binance_coinm import BINANCE_COINM
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.binance_usdm import BINANCE_USDM
from oneprice.venues.bybit import BYBIT_LINEAR, BYBIT_SPOT
from oneprice.venues.feed import FeedMachine, decode_frame
from shared_data import shared

HOUR_NS = 3600 * 10**9
PERPETUALS = (BINANCE_USDM, BINANCE_COINM, BYBIT_LINEAR)


def perpetual(venue: Venue) -> Any:
    return instrument(venue, "BTCUSD_PERP" if venue is BINANCE_COINM else "BTCUSDT")


def binance_premium_index() -> bytes:
    return shared("data/wire/binance_usdm/rest_premium_index.json").read_bytes()


def bybit_tickers(**changes: str) -> bytes:
    """The documented answer: one of inverse contracts, whose fields are the linear ones' too."""
    answer = json.loads(shared("data/wire/bybit/channels/rest_tickers_inverse.json").read_bytes())
    answer["result"]["list"][0] |= changes
    return msgspec.json.encode(answer)


def polled(venue: Venue, body: bytes, *, status: int = 200, recv_ns: int = 9) -> tuple[Rows, FeedMachine]:
    tape = TapeWriter()
    machine = FeedMachine(venue, table(perpetual(venue)), tape)
    fetch = machine.poll(Channel.MARK, 0)
    assert fetch is not None
    assert not machine.answered(fetch, status, {}, body, recv_ns)
    return tape.take(), machine


def answer_of(venue: Venue, mark: str, index: str, rate: str, next_ms: int, ms: int) -> bytes:
    """An answer as the venue writes it, with these values."""
    if venue is BYBIT_LINEAR:
        ticker = {
            "symbol": "BTCUSDT", "markPrice": mark, "indexPrice": index, "fundingRate": rate,
            "nextFundingTime": str(next_ms), "fundingIntervalHour": "8",
        }  # fmt: skip
        page = {"category": "linear", "list": [ticker]}
        return msgspec.json.encode({"retCode": 0, "retMsg": "OK", "result": page, "retExtInfo": {}, "time": ms})
    row = json.loads(binance_premium_index()) | {
        "symbol": perpetual(venue).symbol, "markPrice": mark, "indexPrice": index, "lastFundingRate": rate,
        "nextFundingTime": next_ms, "time": ms,
    }  # fmt: skip
    return msgspec.json.encode([row] if venue is BINANCE_COINM else row)


PRICE = st.integers(1, 10**14)
MILLISECONDS = st.integers(1_000_000_000_000, 2_000_000_000_000)


@pytest.mark.parametrize("venue", PERPETUALS, ids=lambda venue: venue.name)
@given(mark=PRICE, index=PRICE, rate=st.integers(-(10**6), 10**6), next_ms=MILLISECONDS, ms=MILLISECONDS)
def test_a_poll_makes_the_rows_that_the_stream_makes(
    venue: Venue, mark: int, index: int, rate: int, next_ms: int, ms: int
) -> None:
    written = [f"{value / 10**8:.8f}" for value in (mark, index, rate)]
    got, machine = polled(venue, answer_of(venue, *written, next_ms, ms))
    assert not machine.rejections
    one = perpetual(venue)
    said = TapeWriter()
    interval_ns = 8 * HOUR_NS if venue is BYBIT_LINEAR else 0
    said.append(Kind.MARK, recv_ns=9, venue_ns=ms * MS, instrument=0, value=mark / 10**8, flags=0)
    said.append(Kind.INDEX, recv_ns=9, venue_ns=ms * MS, instrument=0, value=index / 10**8, flags=0)
    said.append(
        Kind.FUNDING, recv_ns=9, venue_ns=ms * MS, instrument=0, value=rate / 10**8, sequence=next_ms * MS,
        qty=interval_ns, flags=LAST,
    )  # fmt: skip
    assert venue.encode.mark is not None
    streamed = TapeWriter()
    decode_frame(venue, table(one), venue.encode.mark(one, said.take(), ts_ns=ms * MS), streamed, recv_ns=9)
    expected = streamed.take()
    assert len(expected) == 3
    for field in ROW.names or ():
        if field != "feed":  # the number of a connection; a poll has none
            assert got[field].tolist() == expected[field].tolist(), field


def test_the_documented_answers_are_read_in_their_units() -> None:
    expected = MarkReading(
        venue_ns=1597370495002 * MS, mark_price=11793.63104562, index_price=11781.80495970, funding_rate=0.00038246,
        next_funding_ns=1597392000000 * MS,
    )  # fmt: skip
    for venue, body in ((BINANCE_USDM, binance_premium_index()), (BINANCE_COINM, b"[%s]" % binance_premium_index())):
        assert venue.rest.read_mark is not None
        assert venue.rest.read_mark(body) == expected
    assert BYBIT_LINEAR.rest.read_mark is not None
    ticker = BYBIT_LINEAR.rest.read_mark(bybit_tickers(openInterest="57798.137", singleOpenInterest="28899.069"))
    assert ticker == MarkReading(
        venue_ns=1760352369814 * MS, mark_price=114898.43, index_price=114890.92, funding_rate=0.0001,
        next_funding_ns=1760371200000 * MS, funding_interval_ns=8 * HOUR_NS, open_interest=28899.069,
    )  # fmt: skip
    older = BYBIT_LINEAR.rest.read_mark(bybit_tickers(openInterest="57798.138"))
    assert older.open_interest == 28899.069, "an answer that counts both sides only"


def test_each_request_names_one_symbol_and_its_weight() -> None:
    asked = {}
    for venue in PERPETUALS:
        assert venue.rest.mark is not None
        asked[venue.name] = venue.rest.mark(perpetual(venue))
    assert {name: (request.path, request.query, request.weight) for name, request in asked.items()} == {
        "binance_usdm": ("/fapi/v1/premiumIndex", {"symbol": "BTCUSDT"}, 1),
        "binance_coinm": ("/dapi/v1/premiumIndex", {"symbol": "BTCUSD_PERP"}, 10),
        "bybit_linear": ("/v5/market/tickers", {"category": "linear", "symbol": "BTCUSDT"}, 1),
    }


def test_what_an_answer_does_not_say_makes_no_row() -> None:
    dated = answer_of(BINANCE_USDM, "31799.2", "31307.0", "", 0, 1_609_830_121_004)
    rows, _ = polled(BINANCE_USDM, dated)
    assert [(Kind(int(row["kind"])), int(row["flags"])) for row in rows] == [(Kind.MARK, 0), (Kind.INDEX, LAST)]
    rows, _ = polled(BYBIT_LINEAR, bybit_tickers(indexPrice="", fundingRate="", openInterest=""))
    assert [(Kind(int(row["kind"])), int(row["flags"])) for row in rows] == [(Kind.MARK, LAST)]


def test_a_spot_market_has_no_mark_to_poll() -> None:
    for venue in (BINANCE_SPOT, BYBIT_SPOT):
        assert FeedMachine(venue, table(instrument(venue)), TapeWriter()).poll(Channel.MARK, 0) is None


GOOD = {
    "binance_usdm": (BINANCE_USDM, binance_premium_index, b"11793.63104562", b"1597370495002"),
    "bybit_linear": (BYBIT_LINEAR, bybit_tickers, b"114898.43", b"1760352369814"),
}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("mark", [b"", b"0", b"-1", b"x", b"nan", b"inf", b"1e999"])
def test_a_price_that_cannot_be_is_rejected_and_makes_no_row(name: str, mark: bytes) -> None:
    venue, good, price, _ = GOOD[name]
    rows, machine = polled(venue, good().replace(price, mark))
    assert len(rows) == 0
    assert machine.rejections == {"mark answer": 1}


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.parametrize("when", [b"-1", b"9223372036854775807", b"null", b'"soon"'])
def test_a_time_that_cannot_be_is_rejected_and_makes_no_row(name: str, when: bytes) -> None:
    venue, good, _, time = GOOD[name]
    rows, machine = polled(venue, good().replace(time, when))
    assert len(rows) == 0
    assert machine.rejections == {"mark answer": 1}


@pytest.mark.parametrize("venue", PERPETUALS, ids=lambda venue: venue.name)
@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[]", b"[1]", b"\xff", b'{"result":{"list":[]},"time":1}'])
def test_an_answer_of_another_shape_is_a_wire_error(venue: Venue, body: bytes) -> None:
    assert venue.rest.read_mark is not None
    with pytest.raises(WireError, match=r"binance premiumIndex|bybit ticker"):
        venue.rest.read_mark(body)


@pytest.mark.parametrize("name", GOOD)
def test_a_refused_poll_makes_no_row(name: str) -> None:
    venue, good, _, _ = GOOD[name]
    rows, machine = polled(venue, good(), status=500)
    assert len(rows) == 0
    assert machine.rejections == {"mark answer": 1}
