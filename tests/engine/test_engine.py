"""The engine on a small tape: the same rows give the same decisions, however they are cut and whoever registers first."""

from __future__ import annotations

from decimal import Decimal
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market import MS, perp, spot

from oneprice.engine.decisions import Decision, DecisionLog, read_decisions
from oneprice.engine.run import Run
from oneprice.engine.settings import Mode, RunSettings
from oneprice.model.instrument import InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, Kind

TABLE = InstrumentTable([spot("a", "BTC", "USDT"), spot("b", "BTC", "USDT"), perp("c", "BTC")])
PRICES = {"a": "60000.00", "b": "60000.00", "c": "60000.0"}


def book(venue: str, bid: str, ts_ns: int, *, sequence: int) -> np.ndarray:
    """A whole book: ten levels a side of half a bitcoin each."""
    index = TABLE.index(venue, "BTCUSDT")
    instrument = TABLE[index]
    mantissa, qty = instrument.price_mantissa(Decimal(bid)), instrument.qty_mantissa(Decimal("0.5"))
    rows = np.zeros(20, dtype=ROW)
    rows["kind"], rows["instrument"], rows["ts_recv_ns"], rows["sequence"] = Kind.DEPTH, index, ts_ns, sequence
    rows["flags"], rows["qty"] = SNAPSHOT, qty
    rows["price"][:10] = mantissa - np.arange(10)
    rows["price"][10:] = mantissa + 1 + np.arange(10)
    rows["flags"][10:] |= ASK
    rows["flags"][0] |= CLEAR
    rows["flags"][-1] |= LAST
    return rows


def timer(ts_ns: int) -> np.ndarray:
    rows = np.zeros(1, dtype=ROW)
    rows["kind"], rows["flags"], rows["ts_recv_ns"], rows["instrument"] = Kind.TIMER, LAST, ts_ns, -1
    return rows


def tape() -> np.ndarray:
    """Two venues agree, b jumps by 60 bps for a while, the perpetual by 70, then all agree again."""
    parts, sequence = [], 0
    for step in range(400):
        ts_ns = (1 + step) * 10 * MS
        dear = {"b": "60360.00"} if 50 <= step < 90 else {"c": "60420.0"} if 150 <= step < 220 else {}
        for venue, price in {**PRICES, **dear}.items():
            sequence += 1
            parts.append(book(venue, price, ts_ns, sequence=sequence))
        parts.append(timer(ts_ns + MS))
    return np.concatenate(parts)


TAPE = tape()


def run_over(cuts: list[int], names: tuple[str, ...] = ("basis", "spread", "triangular")) -> Run:
    run = Run(RunSettings(mode=Mode.BACKTEST, strategies={name: {} for name in names}), TABLE, None)
    for part in np.split(TAPE, sorted(cuts)):
        run.on_rows(part)
    return run


@cache
def whole() -> Run:
    return run_over([])


def test_a_broken_law_of_one_price_is_found_traded_and_earned() -> None:
    summary = whole().summary()
    assert summary.opportunities_by_type["spread"].seen > 0
    assert summary.opportunities_by_type["basis"].seen > 0
    assert summary.trades >= 2
    assert summary.balanced
    assert summary.net_pnl == pytest.approx(summary.gross_edge - summary.fees - summary.slippage + summary.funding)
    assert summary.net_pnl > 0
    assert whole().portfolio.open_contracts() == []  # the basis was left when it had closed


@settings(max_examples=15)
@given(st.lists(st.integers(0, len(TAPE)), max_size=12))
def test_decisions_do_not_depend_on_how_the_tape_arrives(cuts) -> None:
    run = run_over(cuts)
    assert run.decisions.hash == whole().decisions.hash
    assert run.ledger.digest() == whole().ledger.digest()


@given(st.permutations(["basis", "spread", "triangular"]))
@settings(max_examples=6)
def test_decisions_do_not_depend_on_the_order_of_strategies(names) -> None:
    assert run_over([], tuple(names)).decisions.hash == whole().decisions.hash


def test_a_gap_closes_what_stood_on_that_book() -> None:
    run = Run(RunSettings(mode=Mode.BACKTEST), TABLE, None)
    open_at = 60 * 61
    run.on_rows(TAPE[:open_at])
    gap = np.zeros(1, dtype=ROW)
    gap["kind"], gap["flags"], gap["instrument"] = Kind.GAP, LAST, TABLE.index("b", "BTCUSDT")
    gap["ts_recv_ns"] = TAPE["ts_recv_ns"][open_at - 1]
    run.on_rows(np.concatenate((gap, timer(int(gap["ts_recv_ns"][0]) + MS))))
    reasons = [sighting.reason for sighting in run.engine.recent.sightings if sighting.what == "closed"]
    assert "a book of it is invalid or stale" in reasons


def test_the_decision_log_is_a_chain(tmp_path) -> None:
    def log_of(reason: str, name: str) -> tuple[str, list]:
        log = DecisionLog(tmp_path / name)
        for n in range(3):
            log.record(Decision(ts_ns=n, by="x", what="opened", reason=reason if n == 0 else ""))
        log.close()
        return log.hash, [line for _, line in read_decisions(tmp_path / name)]

    one, lines = log_of("a", "one.jsonl")
    other, _ = log_of("b", "other.jsonl")
    assert one != other  # a change in the first line changes the hash of the last
    assert [line["n"] for line in lines] == [0, 1, 2]
    assert lines[-1]["hash"] == one
