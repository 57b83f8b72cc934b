"""What every venue must keep, ours and third parties': `LAWS`, each a function of a venue and Hypothesis' `data`.

A package that brings a venue runs the same suite:

    @pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
    @given(data=st.data())
    def test_my_venue_keeps_the_laws(law, data):
        law(MY_VENUE, data)

What a venue cannot keep is named with its reason in `OPT_OUTS`."""

from __future__ import annotations

import string
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import strategies as st
from wire_frames import Decoded, Wire, damaged

from oneprice.model.errors import UnknownOutcome, VenueError, WireError
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, Kind, Rows
from oneprice.venues.base import (
    CHANNEL_CODE,
    HEAD_CHANNEL,
    HEAD_FIRST_ID,
    HEAD_INSTRUMENT,
    HEAD_IS_SNAPSHOT,
    HEAD_LAST_ID,
    HEAD_PREVIOUS_ID,
    Channel,
    Status,
    Subscription,
    Venue,
)
from oneprice.venues.sequencing import Chained, Consecutive

OPT_OUTS: dict[tuple[str, str], str] = {
    ("bybit_linear", "trade id"): "its trade ids are UUIDs, which a sequence cannot hold",
    ("binance_spot", "quote time"): "its book ticker carries no time",
}
MS = 1_000_000
_NOW_MS = 1_780_000_000_000
CONTROL_KINDS = {"ack", "error", "pong", "ping", "shutdown", "auth", "other"}


def symbols_of(venue: Venue) -> tuple[str, str]:
    """Two symbols as the venue writes them, easily mixed up."""
    return ("BTCUSD_PERP", "BTCUSD_260925") if venue.name == "binance_coinm" else ("BTCUSDT", "BTCUSDTX")


def instruments_of(venue: Venue) -> InstrumentTable:
    """Both symbols of a venue, and the same symbols of other venues with other exponents."""
    perp = venue.kind is not InstrumentKind.SPOT

    def instrument(name: str, symbol: str, price: int, qty: int) -> Instrument:
        return Instrument(
            venue=name, symbol=symbol, canonical="BTC/USDT:USDT" if perp else "BTC/USDT", kind=venue.kind, base="BTC",
            quote="USDT", settle="USDT" if perp else "", price_exponent=price, qty_exponent=qty,
            funding_interval_ns=8 * 3600 * 10**9 if perp else 0,
        )  # fmt: skip

    return InstrumentTable(
        instrument(name, symbol, price, qty)
        for name, price, qty in (("a_venue_before", -5, -5), (venue.name, -2, -3), ("z_venue_behind", 0, 0))
        for symbol in symbols_of(venue)
    )


def _wire(venue: Venue) -> tuple[Wire, int, Instrument]:
    table = instruments_of(venue)
    index = table.index(venue.name, symbols_of(venue)[0])
    return Wire(venue.decode, table, venue.name), index, table[index]


def _message(index: int, venue_ns: int, *parts: tuple[Kind, dict[str, Any]]) -> Rows:
    rows = np.zeros(len(parts), dtype=ROW)
    for row, (kind, fields) in zip(rows, parts, strict=True):
        row["kind"], row["instrument"], row["ts_venue_ns"] = int(kind), index, venue_ns
        for name, value in fields.items():
            row[name] = value
    rows["flags"][-1] |= LAST
    return rows


_prices, _qtys = st.integers(1, 10**9), st.integers(1, 10**9)
_times = st.integers(_NOW_MS, _NOW_MS + 10**9).map(lambda ms: ms * MS)
_ids = st.integers(10, 10**13)


def _same(got: Decoded, wanted: Rows, venue: Venue, *, but: str = "") -> None:
    """Equal in all that a row means. Receive time and feed are the caller's, and the decoder's tests hold them."""
    assert got.status == len(wanted)
    for name in ("kind", "instrument", "sequence", "price", "qty", "value", "flags", "ts_venue_ns"):
        if (venue.name, but) in OPT_OUTS and name == {"trade id": "sequence", "quote time": "ts_venue_ns"}.get(but):
            assert (got.rows[name] == 0).all()
        else:
            assert got.rows[name].tolist() == wanted[name].tolist(), name


def _depth(venue: Venue, data: Any) -> tuple[Rows, dict[str, Any]]:
    _, index, _ = _wire(venue)
    levels = st.lists(st.tuples(_prices, st.integers(0, 10**9)), max_size=6, unique_by=lambda level: level[0])
    bids, asks = data.draw(levels, "bids"), data.draw(levels, "asks")
    if not bids and not asks:
        bids = [(1, 1)]
    is_snapshot = not venue.sequencing.joins_rest and data.draw(st.booleans(), "is a snapshot")
    last = data.draw(_ids, "last id")
    whole = SNAPSHOT if is_snapshot else 0
    parts = [
        (Kind.DEPTH, {"sequence": last, "price": price, "qty": qty, "flags": side | whole})
        for side, part in ((0, bids), (ASK, asks))
        for price, qty in part
    ]
    venue_ns = data.draw(_times, "time")
    rows = _message(index, venue_ns, *parts)
    if is_snapshot:
        rows["flags"][0] |= CLEAR
    first = last - data.draw(st.integers(0, 5), "ids") if venue.sequencing.joins_rest else last
    previous = first - data.draw(st.integers(1, 3), "jump") if isinstance(venue.sequencing, Chained) else -1
    ids = {"first_id": first, "last_id": last, "previous_id": previous, "is_snapshot": is_snapshot, "ts_ns": venue_ns}
    return rows, ids


def depth_comes_back_as_it_was_sent(venue: Venue, data: Any) -> None:
    wire, index, instrument = _wire(venue)
    rows, ids = _depth(venue, data)
    got = wire(venue.encode.depth(instrument, rows, **ids))
    _same(got, rows, venue)
    head = got.head
    assert (head[HEAD_CHANNEL], head[HEAD_INSTRUMENT]) == (CHANNEL_CODE[Channel.DEPTH], index)
    assert (head[HEAD_LAST_ID], head[HEAD_IS_SNAPSHOT]) == (ids["last_id"], int(ids["is_snapshot"]))
    if isinstance(venue.sequencing, Consecutive | Chained):
        assert head[HEAD_FIRST_ID] == ids["first_id"]
    if isinstance(venue.sequencing, Chained):
        assert head[HEAD_PREVIOUS_ID] == ids["previous_id"]


def _others(venue: Venue, data: Any) -> list[tuple[Channel, Rows, str]]:
    """A message of every other channel that the venue's encoders write."""
    _, index, _ = _wire(venue)
    venue_ns = data.draw(_times, "time")
    number = data.draw(_ids, "id")
    side = data.draw(st.sampled_from((0, ASK)), "taker's side")
    traded = {"price": data.draw(_prices, "price"), "qty": data.draw(_qtys, "quantity"), "flags": side}
    messages = [(Channel.TRADE, _message(index, venue_ns, (Kind.TRADE, {"sequence": number, **traded})), "trade id")]
    if venue.encode.quote is not None:
        bid, ask = {"price": data.draw(_prices), "qty": 7}, {"price": data.draw(_prices), "qty": 9, "flags": ASK}
        quotes = ((Kind.QUOTE, {"sequence": number, **level}) for level in (bid, ask))
        messages.append((Channel.QUOTE, _message(index, venue_ns, *quotes), "quote time"))
    if venue.encode.mark is not None:
        price = data.draw(st.integers(1, 10**10), "mark") / 10_000
        rate = data.draw(st.integers(-(10**6), 10**6), "rate") / 10**8
        parts: list[tuple[Kind, dict[str, Any]]] = [(Kind.MARK, {"value": price}), (Kind.INDEX, {"value": price / 2})]
        next_ns = venue_ns + data.draw(st.integers(1, 8 * 3600 * 1000)) * MS
        parts.append((Kind.FUNDING, {"sequence": next_ns, "value": rate}))
        messages.append((Channel.MARK, _message(index, venue_ns, *parts), ""))
    if venue.encode.liquidation is not None:
        messages.append((Channel.LIQUIDATION, _message(index, venue_ns, (Kind.LIQUIDATION, traded)), ""))
    return messages


def other_channels_come_back_as_they_were_sent(venue: Venue, data: Any) -> None:
    wire, index, instrument = _wire(venue)
    for channel, rows, but in _others(venue, data):
        encode = getattr(venue.encode, channel.value)
        got = wire(encode(instrument, rows, ts_ns=int(rows["ts_venue_ns"][0])))
        _same(got, rows, venue, but=but)
        assert (got.head[HEAD_CHANNEL], got.head[HEAD_INSTRUMENT]) == (CHANNEL_CODE[channel], index)


def what_can_be_subscribed_to_can_be_encoded_and_the_reverse(venue: Venue, data: Any) -> None:
    encoded = {Channel(name) for name in venue.encode.__struct_fields__ if getattr(venue.encode, name) is not None}
    assert set(venue.channels) - {Channel.OPEN_INTEREST} == encoded
    assert not set(venue.channels) & set(venue.polled)
    assert {Channel.DEPTH, Channel.QUOTE, Channel.TRADE} <= encoded


def _frames(venue: Venue, data: Any) -> list[bytes]:
    _, _, instrument = _wire(venue)
    rows, ids = _depth(venue, data)
    others = [
        getattr(venue.encode, channel.value)(instrument, rows, ts_ns=int(rows["ts_venue_ns"][0]))
        for channel, rows, _ in _others(venue, data)
    ]
    return [venue.encode.depth(instrument, rows, **ids), *others]


def a_cut_frame_makes_no_rows(venue: Venue, data: Any) -> None:
    wire, _, _ = _wire(venue)
    for frame in _frames(venue, data):
        end = data.draw(st.integers(0, len(frame) - 1), "cut at")
        assert wire(frame[:end], behind=frame[end:]).status in (Status.MALFORMED, Status.CONTROL)


def a_damaged_frame_has_an_answer(venue: Venue, data: Any) -> None:
    wire, _, _ = _wire(venue)
    frame = data.draw(damaged(_frames(venue, data)), "damaged")
    got = wire(frame, room=8)
    assert got.status <= 0 or got.rows["flags"][-1] & LAST
    try:
        assert venue.control(frame).kind in CONTROL_KINDS
    except WireError as refused:
        assert venue.name.partition("_")[0] in str(refused)


def another_symbol_is_not_ours(venue: Venue, data: Any) -> None:
    rows, ids = _depth(venue, data)
    wire, _, instrument = _wire(venue)
    alphabet = string.ascii_uppercase + string.digits
    name = data.draw(st.text(alphabet, min_size=1, max_size=20).filter(lambda s: s not in symbols_of(venue)), "symbol")
    stranger = Instrument(
        venue=venue.name, symbol=name, canonical=name, kind=venue.kind, base="X", quote="Y",
        price_exponent=instrument.price_exponent, qty_exponent=instrument.qty_exponent,
    )  # fmt: skip
    assert wire(venue.encode.depth(stranger, rows, **ids)).status == Status.UNKNOWN_SYMBOL


def topics_and_addresses_are_complete(venue: Venue, data: Any) -> None:
    first, second = symbols_of(venue)
    topics = [
        venue.topic(Subscription(channel=channel, symbol=symbol))
        for symbol in (first, second)
        for channel in venue.channels
    ]
    assert all("{" not in topic and "BTCUSD" in topic.upper() for topic in topics)
    templates = {template for _, template in venue.channels.values()}
    assert len(set(topics)) == 2 * len(templates)
    assert {"live", "testnet"} <= set(venue.endpoints)
    for endpoints in venue.endpoints.values():
        assert endpoints.rest.startswith("https://")
        for path, _ in venue.channels.values():
            address = venue.url(endpoints.ws[path], topics[:1])
            assert address.startswith("wss://")
    assert venue.endpoints["live"] != venue.endpoints["testnet"]
    request = data.draw(st.integers(1, 10**9), "request id")
    for ask in (venue.subscribe, venue.unsubscribe):
        text = ask(topics, request).decode()
        assert str(request) in text
        assert all(f'"{topic}"' in text for topic in topics)
    assert venue.subscribe(topics, request) != venue.unsubscribe(topics, request)


def rest_asks_by_paths_and_refuses_strange_answers(venue: Venue, data: Any) -> None:
    _, _, instrument = _wire(venue)
    rest = venue.rest
    requests = [rest.instruments(), rest.server_time(), rest.klines(instrument, "1m", _NOW_MS * MS, 10)]
    requests += [ask(instrument) for ask in (rest.depth, rest.open_interest) if ask is not None]
    if rest.funding_history is not None:
        requests.append(rest.funding_history(instrument, _NOW_MS * MS, 10))
    for request in requests:
        assert request.method == "GET"
        assert request.path.startswith("/")
        assert request.weight > 0
    assert (rest.depth is None) == (rest.read_depth is None)
    assert (rest.open_interest is None) == (rest.read_open_interest is None)
    assert (rest.funding_history is None) == (rest.read_funding_history is None)
    assert rest.depth is not None or not venue.sequencing.joins_rest
    assert Channel.OPEN_INTEREST not in venue.polled or rest.open_interest is not None
    strange = data.draw(st.sampled_from((b"", b"<html>", b"{}", b"[]]", b"\xff", b'{"a":1}')), "answer")
    readers = [rest.read_instruments, rest.read_server_time]
    if rest.read_depth is not None:
        readers.append(lambda body: rest.read_depth(body, instrument))
    for read in readers:
        try:
            read(strange)
        except WireError:
            continue
        raise AssertionError(f"{venue.name}: {read} took {strange!r}")


def an_answer_that_failed_is_an_error(venue: Venue, data: Any) -> None:
    status = data.draw(st.sampled_from((400, 401, 403, 404, 408, 418, 429, 500, 502, 503, 504)), "status")
    body = data.draw(st.sampled_from((b"", b"<html>", b"{}", b'{"code":-1,"msg":"x"}')), "body")
    try:
        venue.rest.check(status, {}, body)
    except VenueError as error:
        if status >= 500:
            assert isinstance(error, UnknownOutcome)
        if status == 429:
            assert error.transient
        return
    raise AssertionError(f"{venue.name}: HTTP {status} with {body!r} passed for a success")


def facts_are_filled_in(venue: Venue, data: Any) -> None:
    assert venue.docs.startswith("https://")
    limits = venue.limits
    assert min(limits.weight_per_window, limits.window_s, limits.ws_messages_per_s, limits.subscribe_batch) > 0
    assert limits.subscribe_batch <= limits.streams_per_connection
    assert venue.ping.every_s > 0
    assert venue.silence_s > 0
    assert venue.max_age_s is None or venue.max_age_s > 60
    assert Decimal(str(limits.window_s)) > 0


LAWS: list[Callable[[Venue, Any], None]] = [
    depth_comes_back_as_it_was_sent,
    other_channels_come_back_as_they_were_sent,
    what_can_be_subscribed_to_can_be_encoded_and_the_reverse,
    a_cut_frame_makes_no_rows,
    a_damaged_frame_has_an_answer,
    another_symbol_is_not_ours,
    topics_and_addresses_are_complete,
    rest_asks_by_paths_and_refuses_strange_answers,
    an_answer_that_failed_is_an_error,
    facts_are_filled_in,
]
