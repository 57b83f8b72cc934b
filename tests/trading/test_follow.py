"""A live order's news in any order and any number of times: the same fills once, and nothing after the end."""

from __future__ import annotations

import pickle
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.errors import ConfigError
from oneprice.model.order import OrderState, OrderStatus, Report, ReportType, Side, after
from oneprice.trading.credentials import credentials_from_environment
from oneprice.trading.follow import Followed, VenueFill, VenueState
from oneprice.trading.hosts import Access
from oneprice.trading.live import client_id
from trading.market import SPOT, order, types

R, V = ReportType, VenueState


def a_fill(trade_id: str, qty: int) -> VenueFill:
    return VenueFill(trade_id=trade_id, price=100, qty=qty, fee=Decimal(0), fee_asset="USDT", maker=False)


def follow(qty: int = 100) -> Followed:
    return Followed(order(1, SPOT, Side.BUY, qty, 100))


def test_the_end_waits_for_the_fills_that_the_venue_counts() -> None:
    followed = follow()
    assert types(followed.state(V.EXPIRED, 70, 1)) == [R.ACCEPTED]
    assert followed.missing_qty == 70
    assert types(followed.fill(a_fill("a", 30), 2)) == [R.FILL]
    assert types(followed.fill(a_fill("a", 30), 3)) == []
    assert types(followed.fill(a_fill("b", 40), 4)) == [R.FILL, R.EXPIRED]
    assert followed.is_over
    assert followed.state(V.EXPIRED, 70, 5) == []


def test_a_full_fill_is_the_end_and_a_late_cancel_changes_nothing() -> None:
    followed = follow()
    assert types(followed.fill(a_fill("a", 100), 1)) == [R.FILL]
    assert followed.is_over
    assert followed.state(V.CANCELLED, 100, 2) == []


def test_an_order_that_the_ledger_half_knows_goes_on_where_it_was() -> None:
    followed = Followed(order(1, SPOT, Side.BUY, 100, 100), known_fills=frozenset({"a"}), known_qty=30)
    assert followed.fill(a_fill("a", 30), 1) == []
    assert types(followed.state(V.CANCELLED, 50, 2)) == []
    assert types(followed.fill(a_fill("b", 20), 3)) == [R.FILL, R.CANCELLED]


NEWS = st.permutations(["open", "fill a", "fill b", "fill c", "end", "fill a", "fill b", "end", "unknown", "open"])


@settings(max_examples=200)
@given(news=NEWS, last=st.integers(1, 40), cut=st.integers(0, 10))
def test_any_order_of_news_is_a_life_that_the_table_allows(news: list[str], last: int, cut: int) -> None:
    followed, reports = follow(), list[Report]()
    qty = {"a": 30, "b": 30, "c": last}
    total = sum(qty.values())
    for now_ns, item in enumerate([*news[:cut], *news], start=1):  # some of it twice more
        if item == "open":
            reports += followed.state(V.OPEN, 0, now_ns)
        elif item == "end":
            reports += followed.state(V.FILLED if total == 100 else V.EXPIRED, total, now_ns)
        elif item == "unknown":
            reports += followed.unknown(now_ns, "no answer")
        else:
            reports += followed.fill(a_fill(item[-1], qty[item[-1]]), now_ns)
    status = OrderStatus(followed.order, OrderState.SENT)
    for report in reports:
        assert not status.state.is_final, "something came after the end"
        status = after(status, report)
    assert status.state is (OrderState.FILLED if total == 100 else OrderState.EXPIRED)
    assert status.filled_qty == total


def test_client_ids_are_the_same_for_the_same_run_and_short_enough_for_every_venue() -> None:
    name = client_id("2026-01-22_A", 17)
    assert name == client_id("2026-01-22_A", 17) != client_id("2026-01-22_B", 17)
    assert len(client_id("x" * 500, 10**12)) <= 36
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


def test_keys_come_from_the_environment_and_show_nowhere() -> None:
    environment = {"BYBIT_API_KEY": "k-1234", "BYBIT_API_SECRET": " s-5678 ", "BINANCE_TESTNET_API_KEY": "t"}
    keys = credentials_from_environment("bybit", Access.LIVE, environment)
    assert (keys.key, keys.secret) == ("k-1234", "s-5678")
    for shown in (repr(keys), str(keys), f"{keys}", repr([keys]), keys.hidden_in("key k-1234 secret s-5678")):
        assert "1234" not in shown and "5678" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(keys)
    with pytest.raises(ConfigError, match="BYBIT_TESTNET_API_KEY and BYBIT_TESTNET_API_SECRET"):
        credentials_from_environment("bybit", Access.TESTNET, environment)
    with pytest.raises(ConfigError, match="BINANCE_TESTNET_API_SECRET must"):
        credentials_from_environment("binance", Access.TESTNET, environment)
