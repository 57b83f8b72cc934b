"""The ledger: append-only, balanced, the same for the same run, and complete after `kill -9`."""

from __future__ import annotations

import random
import signal
import sqlite3
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oneprice.model.errors import OnepriceError, SessionError
from oneprice.model.order import OrderState, Report, ReportType, Side
from oneprice.trading.ledger import Ledger
from oneprice.trading.portfolio import Posting
from trading.market import SPOT, Account, order

ONE = order(1, SPOT, Side.BUY, 100, 10_000_000)
ACCEPTED = Report(order=1, type=ReportType.ACCEPTED, ts_ns=5)


def fill(qty: int, trade_id: str, number: int = 1) -> Report:
    return Report(
        order=number, type=ReportType.FILL, ts_ns=6, price=10_000_000, qty=qty, fee=Decimal("0.00000001"),
        fee_asset="BTC", trade_id=trade_id,
    )  # fmt: skip


def an_account(path: Path | None = None) -> Account:
    account = Account(path)
    account.record(ONE)
    account.book(ONE, [ACCEPTED, fill(60, "a"), fill(40, "b")])
    return account


@pytest.mark.parametrize("table", ["orders", "reports", "postings"])
@pytest.mark.parametrize("statement", ["DELETE FROM {}", "UPDATE {} SET rowid = rowid + 1"])
def test_what_is_written_can_be_neither_changed_nor_removed(tmp_path: Path, table: str, statement: str) -> None:
    an_account(tmp_path / "ledger").ledger.close()
    with sqlite3.connect(tmp_path / "ledger") as direct, pytest.raises(sqlite3.DatabaseError, match="append-only"):
        direct.execute(statement.format(table))
    direct.close()


def test_the_same_fill_is_booked_once() -> None:
    account = an_account()
    before = account.ledger.digest(), dict(account.portfolio.balances)
    account.book(ONE, [fill(40, "b")])
    assert (
        account.ledger.report(fill(60, "a"), [Posting("x", "BTC", Decimal(1)), Posting("y", "BTC", Decimal(-1))])
        is False
    )
    assert (account.ledger.digest(), dict(account.portfolio.balances)) == before
    account.assert_balanced()


def test_postings_that_do_not_sum_to_zero_are_refused_and_nothing_is_written() -> None:
    account = an_account()
    before = account.ledger.digest()
    with pytest.raises(OnepriceError, match=r"leave 0\.00000001 BTC over"), account.ledger.event():
        account.ledger.report(fill(1, "c"), [Posting("venue:x", "BTC", Decimal("0.00000001"))])
    assert account.ledger.digest() == before


def test_a_failing_batch_leaves_nothing_behind() -> None:
    account = an_account()
    before = account.ledger.digest()
    with pytest.raises(OnepriceError, match="one event"), account.ledger.event():
        account.ledger.order(order(2, SPOT, Side.BUY, 100, 10_000_000))
        account.ledger.report(ACCEPTED)
        account.ledger.post([Posting("venue:x", "BTC", Decimal(1))])
    assert account.ledger.digest() == before


def test_the_same_run_has_the_same_digest_and_another_one_has_not(tmp_path: Path) -> None:
    first, again = an_account(tmp_path / "a"), an_account()
    assert first.ledger.digest() == again.ledger.digest()
    again.book(ONE, [Report(order=1, type=ReportType.CANCELLED, ts_ns=7)])
    assert first.ledger.digest() != again.ledger.digest()


def test_a_restart_that_repeats_its_run_changes_nothing_and_goes_on_behind_it(tmp_path: Path) -> None:
    first = an_account(tmp_path / "ledger")
    digest = first.ledger.digest()
    first.ledger.close()
    again = an_account(tmp_path / "ledger")
    assert again.ledger.digest() == digest
    again.assert_balanced()
    two = order(2, SPOT, Side.SELL, 50, 9_990_000)
    again.record(two)
    again.book(two, [fill(50, "c", 2)])
    again.assert_balanced()
    assert [one.number for one in again.ledger.orders()] == [1, 2]


def test_a_restart_that_decides_otherwise_is_refused(tmp_path: Path) -> None:
    an_account(tmp_path / "ledger").ledger.close()
    account = Account(tmp_path / "ledger")
    with pytest.raises(SessionError, match="order 1 is"):
        account.record(msgspec.structs.replace(ONE, qty=99))
    account.record(ONE)
    with pytest.raises(SessionError, match="report 1 is"):
        account.book(ONE, [msgspec.structs.replace(ACCEPTED, ts_ns=9)])


def test_statuses_say_what_a_restart_must_ask_the_venue_about(tmp_path: Path) -> None:
    account = an_account(tmp_path / "ledger")
    for number in (2, 3, 4):
        account.record(order(number, SPOT, Side.BUY, 100, 10_000_000))
    account.book(ONE, [msgspec.structs.replace(ACCEPTED, order=3), fill(30, "d", 3)])
    account.book(ONE, [Report(order=4, type=ReportType.REJECTED, ts_ns=8), fill(5, "late", 4)])
    states = {number: (status.state, status.filled_qty) for number, status in account.ledger.statuses().items()}
    assert states == {
        1: (OrderState.FILLED, 100),
        2: (OrderState.UNKNOWN, 0),
        3: (OrderState.PARTIALLY_FILLED, 30),
        4: (OrderState.REJECTED, 5),  # the venue filled what it had rejected: the quantity counts
    }


def test_fills_are_a_table_for_people(tmp_path: Path) -> None:
    an_account(tmp_path / "ledger").ledger.close()
    with sqlite3.connect(tmp_path / "ledger") as direct:
        rows = direct.execute("SELECT order_number, side, price, qty, fee, trade_id FROM fills ORDER BY seq").fetchall()
    direct.close()
    assert rows == [(1, 1, 10_000_000, 60, "1E-8", "a"), (1, 1, 10_000_000, 40, "1E-8", "b")]


def test_a_file_that_is_no_ledger_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_bytes(b"not a database, but long enough to look like something" * 20)
    with pytest.raises(SessionError, match="not a ledger of oneprice"):
        Ledger(tmp_path / "ledger")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.sampled_from(list(Side)), st.integers(1, 90), st.integers(0, 5)), max_size=25))
def test_any_fills_with_repeats_keep_the_ledger_balanced(drawn: list[tuple[Side, int, int]]) -> None:
    account = Account()
    booked: dict[int, tuple] = {}
    for number, (side, qty, repeat) in enumerate(drawn, start=1):
        one = order(number, SPOT, side, 100, 10_000_000)
        booked[number] = (one, fill(qty, f"t{number}", number))
        account.record(one)
        account.book(one, [booked[number][1]])
        earlier = booked[max(1, number - repeat)]
        account.book(earlier[0], [earlier[1]])
        account.assert_balanced()
    assert len(account.ledger.reports()) == len(drawn)


TRADER = Path(__file__).with_name("killed_trader.py")


def test_kill_9_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    """Fifteen deaths at random points of one run, each taken up again; then the run ends as if it had never died."""
    path, rounds, acknowledged = tmp_path / "ledger", 400, set[str]()
    rng = random.Random(20_261_120)
    for _ in range(15):
        trader = subprocess.Popen([sys.executable, str(TRADER), str(path), str(rounds)], stdout=subprocess.PIPE)
        assert trader.stdout is not None
        lines = [trader.stdout.readline() for _ in range(rng.randrange(1, 700))]
        trader.send_signal(signal.SIGKILL)
        lines += trader.stdout.readlines()
        trader.wait()
        acknowledged |= {line.decode().strip() for line in lines if line.endswith(b"\n")} - {"", "done"}
        ledger = Ledger(path)
        has = {f"order {one.number}" for one in ledger.orders()}
        has |= {f"fill {report.order} {report.trade_id}" for report in ledger.reports() if report.trade_id}
        assert acknowledged <= has
        assert ledger.balanced()
        ledger.close()
    subprocess.run([sys.executable, str(TRADER), str(path), str(rounds)], check=True, capture_output=True)
    subprocess.run([sys.executable, str(TRADER), str(tmp_path / "whole"), str(rounds)], check=True, capture_output=True)
    died, whole = Ledger(path), Ledger(tmp_path / "whole")
    assert died.digest() == whole.digest()
    assert died.balanced()
