"""Plans: which connections carry what."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from oneprice.data.plan import CapturePlan, VenuePlan, feeds_of, handshake_headers, same_as_listed, select
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentKind
from oneprice.venues.base import Channel, Endpoints
from oneprice.venues.binance_sbe import BINANCE_SBE
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.binance_usdm import BINANCE_USDM
from oneprice.venues.bybit import BYBIT_LINEAR


def listed(count: int = 3) -> list[Instrument]:
    return [
        Instrument(
            venue="binance_spot", symbol=f"{base}USDT", canonical=f"{base}/USDT", kind=InstrumentKind.SPOT, base=base,
            quote="USDT", price_exponent=-2, qty_exponent=-5,
        )
        for base in (f"C{number:03d}" for number in range(count))
    ]  # fmt: skip


def test_symbols_are_the_venues_own_or_canonical_and_each_once() -> None:
    chosen = select(BINANCE_SPOT, listed(), ["C001/USDT", "C000USDT", "C001USDT"])
    assert [instrument.symbol for instrument in chosen] == ["C001USDT", "C000USDT"]
    with pytest.raises(InputError, match=r"unknown symbol 'C01USDT' in binance_spot; did you mean 'C0\d1USDT'"):
        select(BINANCE_SPOT, listed(30), ["C01USDT"])


def test_a_split_venue_gets_a_connection_a_path() -> None:
    instruments = [msgspec.structs.replace(instrument, venue="binance_usdm") for instrument in listed()]
    feeds = feeds_of(BINANCE_USDM, BINANCE_USDM.endpoints["live"], instruments, list(Channel))
    assert [feed.path for feed in feeds] == ["public", "market"]
    by_path = {feed.path: {subscription.channel for subscription in feed.subscriptions} for feed in feeds}
    assert Channel.DEPTH in by_path["public"]
    assert Channel.MARK in by_path["market"]
    assert Channel.OPEN_INTEREST not in by_path["public"] | by_path["market"], "polled, not streamed"


def test_no_connection_carries_more_streams_than_the_venue_allows_and_no_symbol_is_torn() -> None:
    limits = msgspec.structs.replace(BINANCE_SPOT.limits, streams_per_connection=10)
    venue = msgspec.structs.replace(BINANCE_SPOT, limits=limits)
    channels = [Channel.DEPTH, Channel.QUOTE, Channel.TRADE, Channel.MARK]
    feeds = feeds_of(venue, venue.endpoints["live"], listed(10), channels)
    assert [len(feed.subscriptions) for feed in feeds] == [9, 9, 9, 3]
    symbols = [{subscription.symbol for subscription in feed.subscriptions} for feed in feeds]
    assert sum(len(part) for part in symbols) == len(set.union(*symbols)) == 10
    assert all(s.channel is not Channel.MARK for feed in feeds for s in feed.subscriptions), "spot has no mark price"


def test_symbols_may_have_a_connection_each_and_share_it_with_no_other() -> None:
    channels = [Channel.DEPTH, Channel.QUOTE, Channel.TRADE]
    for share in (1, 3):
        feeds = feeds_of(BINANCE_SPOT, BINANCE_SPOT.endpoints["live"], listed(7), channels, share)
        symbols = [{subscription.symbol for subscription in feed.subscriptions} for feed in feeds]
        assert [len(part) for part in symbols] == ([1] * 7 if share == 1 else [3, 3, 1])
        assert len(set.union(*symbols)) == 7


def test_channels_of_one_topic_count_once() -> None:
    limits = msgspec.structs.replace(BYBIT_LINEAR.limits, streams_per_connection=1)
    venue = msgspec.structs.replace(BYBIT_LINEAR, limits=limits)
    instrument = msgspec.structs.replace(listed()[0], venue="bybit_linear")
    feeds = feeds_of(venue, venue.endpoints["live"], [instrument], [Channel.MARK, Channel.OPEN_INTEREST])
    assert len(feeds) == 1


def test_a_polled_channel_is_not_streamed_and_one_without_a_stream_is_polled_anyway() -> None:
    plan = VenuePlan(channels=(Channel.DEPTH, Channel.MARK, Channel.OPEN_INTEREST), polled={Channel.MARK: 3.0})
    assert plan.streamed(BINANCE_USDM) == (Channel.DEPTH, Channel.OPEN_INTEREST)
    by_venue = BINANCE_USDM.polled[Channel.OPEN_INTEREST]
    assert plan.polls(BINANCE_USDM) == {Channel.OPEN_INTEREST: by_venue, Channel.MARK: 3.0}
    quicker = msgspec.structs.replace(plan, polled={Channel.OPEN_INTEREST: 1.0})
    assert quicker.polls(BINANCE_USDM) == {Channel.OPEN_INTEREST: 1.0}
    # Bybit's ticker brings both: subscribed to for the one, it would tell the other twice.
    assert plan.streamed(BYBIT_LINEAR) == (Channel.DEPTH,)
    not_asked_for = VenuePlan(channels=(Channel.DEPTH,), polled={Channel.MARK: 3.0})
    assert not_asked_for.streamed(BYBIT_LINEAR) == (Channel.DEPTH,)
    assert not_asked_for.polls(BYBIT_LINEAR) == {}


def test_what_cannot_be_polled_is_named() -> None:
    with pytest.raises(InputError, match="trade cannot be polled; what can: mark, open_interest"):
        VenuePlan(polled={Channel.TRADE: 1.0})
    for every_s in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="a cadence is more than 0 s"):
            VenuePlan(polled={Channel.MARK: every_s})


def test_addresses_can_be_replaced_and_unknown_environments_are_named() -> None:
    practice = Endpoints(ws={"public": "ws://127.0.0.1:9"}, rest="http://127.0.0.1:9")
    plan = CapturePlan(
        venues={"binance_spot": VenuePlan(symbols=("BTCUSDT",))}, endpoints={"binance_spot": practice}, environment="x"
    )
    assert plan.endpoints_of(BINANCE_SPOT) is practice
    with pytest.raises(InputError, match="unknown environment 'x' in the addresses of binance_usdm"):
        plan.endpoints_of(BINANCE_USDM)
    with pytest.raises(InputError, match="unknown ws path"):
        feeds_of(BINANCE_USDM, practice, listed(), [Channel.MARK])


def test_a_handshake_key_comes_from_the_environment_and_its_absence_is_explained() -> None:
    plan = CapturePlan(venues={"binance_sbe": VenuePlan(symbols=("BTCUSDT",))})
    assert handshake_headers(BINANCE_SPOT, plan, {}) == {}
    assert handshake_headers(BINANCE_SBE, plan, {"BINANCE_SBE_API_KEY": "k"}) == {"X-MBX-APIKEY": "k"}
    with pytest.raises(InputError, match="set BINANCE_SBE_API_KEY"):
        handshake_headers(BINANCE_SBE, plan, {})
    practice = Endpoints(ws={"public": "ws://127.0.0.1:9"}, rest="http://127.0.0.1:9")
    practised = msgspec.structs.replace(plan, endpoints={"binance_sbe": practice})
    assert handshake_headers(BINANCE_SBE, practised, {})["X-MBX-APIKEY"] != ""


def test_a_plan_is_read_back_from_a_manifest_as_it_was_but_for_the_addresses() -> None:
    plan = CapturePlan(
        venues={
            "binance_spot": VenuePlan(symbols=("BTC/USDT",), channels=(Channel.DEPTH, Channel.TRADE)),
            "bybit_linear": VenuePlan(polled={Channel.MARK: 3.0}),
        },
        environment="testnet", probe_every_s=7.5, endpoints={"binance_spot": Endpoints(ws={}, rest="http://127.0.0.1:1")},
    )  # fmt: skip
    kept = msgspec.json.decode(msgspec.json.encode(plan.recorded()))
    assert "127.0.0.1" not in str(kept)
    assert msgspec.convert(kept, CapturePlan) == msgspec.structs.replace(plan, endpoints={})


def test_a_session_goes_on_with_the_instruments_that_it_has_whatever_else_is_listed() -> None:
    fixed = listed(2)
    now = [msgspec.structs.replace(instrument, taker_fee=Decimal("0.002"), min_qty=7) for instrument in listed(5)]
    assert same_as_listed(now, fixed) == fixed, "fees and limits stay as the session began with them"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tick": 10}, "C001USDT: its tick was 0.01 when this session began, and is 0.1 now"),
        ({"price_exponent": -4}, "C001USDT: its tick was 0.01 when this session began, and is 0.0001 now"),
        ({"lot": 100}, "C001USDT: its lot was 0.00001 when this session began, and is 0.001 now"),
        ({"contract_multiplier": Decimal(100)}, "C001USDT: its contract multiplier was 1 when .* and is 100 now"),
        (
            {"symbol": "C009USDT"},
            "binance_spot:C001USDT is part of this session, but the venue does not list it any more",
        ),
    ],
)
def test_an_instrument_whose_numbers_would_mean_something_else_is_named(change: dict[str, Any], said: str) -> None:
    now = listed()
    now[1] = msgspec.structs.replace(now[1], **change)
    with pytest.raises(InputError, match=said):
        same_as_listed(now, listed(2))


def test_a_finer_exponent_for_the_same_tick_and_lot_changes_nothing() -> None:
    now = [
        msgspec.structs.replace(instrument, price_exponent=-3, tick=10, qty_exponent=-6, lot=10) for instrument in listed()
    ]  # fmt: skip
    assert same_as_listed(now, listed()) == listed()
