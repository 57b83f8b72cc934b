"""The real hftbacktest, fed with an export, ends with our books and has seen our trades."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from export_world import INVERSE, LINEAR, WORLD, PlainBook, random_tape, rows_of
from hypothesis import given
from hypothesis import strategies as st
from session_world import some_rows, spot, written

from hftbacktest_world import played
from oneprice.data.certify.names import session_names
from oneprice.data.export.hftbacktest import EVENT, INSTRUMENTS, events_of, export_hftbacktest
from oneprice.data.session import Session, joined
from oneprice.model.tape import Kind
from oneprice.model.time import NS_PER_MS

AT_VENUE, AT_US = 1 << 31, 1 << 30


def check_books(session: Session, folder: Path) -> int:
    """Every symbol's book after all events is what a plain count of the tape gives. → levels compared"""
    tape = joined(list(session.rows()))
    rules = json.loads((folder / INSTRUMENTS).read_text())
    compared = 0
    for i, (name, instrument) in enumerate(zip(session_names(session.instruments), session.instruments, strict=True)):
        book, trades = PlainBook(), 0
        for kind, flags, price, qty, *_ in rows_of(tape, i):
            book.take(kind, flags, price, qty)
            trades += kind == Kind.TRADE
        expected = {
            (side, price // instrument.tick): qty for side in (0, 1) for price, qty in book.naive.sides[side].items()
        }
        of = rules[name]
        found = played(
            folder / f"{name}.npz",
            tick_size=float(of["tick_size"]),
            lot_size=float(of["lot_size"]),
            asked=list(expected),
        )
        assert found.trades == trades
        best = book.naive.best(0), book.naive.best(1)
        if best[0] and best[1] and best[0] < best[1]:
            assert (found.best_bid_tick, found.best_ask_tick) == tuple(price // instrument.tick for price in best)
        for place, qty in expected.items():
            assert found.qty[place] == pytest.approx(float(instrument.qty(qty)), rel=1e-12), (name, place)
        compared += len(expected)
    return compared


def test_real_traffic_ends_with_our_books(imported, tmp_path) -> None:
    names = export_hftbacktest(imported.session, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert check_books(imported.session, tmp_path) > 3_000


def test_the_rules_travel_with_the_events(tmp_path) -> None:
    session = written(tmp_path / "S", [random_tape(3)], instruments=list(WORLD))
    export_hftbacktest(session, tmp_path / "H")
    rules = json.loads((tmp_path / "H" / INSTRUMENTS).read_text())
    assert set(rules) == set(session_names(WORLD))
    for name, instrument in zip(session_names(WORLD), WORLD, strict=True):
        assert rules[name]["inverse"] is instrument.inverse
        assert float(rules[name]["contract_size"]) == float(instrument.contract_multiplier)
        assert rules[name]["events"] == len(np.load(tmp_path / "H" / f"{name}.npz")["data"])


@given(st.integers(0, 2**32))
def test_each_side_sees_every_event_once_in_its_own_order(seed) -> None:
    tape = random_tape(seed, messages=200)
    for i, instrument in enumerate(WORLD):
        rows = tape[(tape["instrument"] == i) & np.isin(tape["kind"], (Kind.DEPTH, Kind.TRADE, Kind.GAP))]
        events, shift_ns = events_of(rows, instrument)
        assert (events["exch_ts"] <= events["local_ts"]).all()
        assert shift_ns >= 0
        seen = []
        for side, time in ((AT_VENUE, "exch_ts"), (AT_US, "local_ts")):
            of_side = events[events["ev"] & side != 0]
            assert (np.diff(of_side[time]) >= 0).all()
            of_side["ev"] &= ~np.uint64(AT_VENUE | AT_US)
            seen.append(sorted(map(str, of_side.tolist())))
        assert seen[0] == seen[1]
        levels = events[(events["ev"] & AT_US != 0) & ~np.isnan(events["px"])]
        told = rows[rows["kind"] != Kind.GAP]
        assert levels["px"].tolist() == [float(instrument.price(one)) for one in told["price"].tolist()]


def test_our_clock_behind_the_venues_is_moved_as_a_whole_and_told() -> None:
    rows = some_rows([10**18 + k * NS_PER_MS for k in range(5)])
    rows["ts_venue_ns"] = rows["ts_recv_ns"] + 3 * NS_PER_MS
    events, shift_ns = events_of(rows, spot())
    assert shift_ns == 3 * NS_PER_MS
    assert events["local_ts"].tolist() == (rows["ts_recv_ns"] + shift_ns).tolist()
    assert events["exch_ts"].tolist() == rows["ts_venue_ns"].tolist()


def test_the_record_is_the_packages() -> None:
    from hftbacktest import event_dtype

    assert np.dtype(event_dtype) == EVENT


def test_a_symbol_without_depth_or_trades_has_no_file(tmp_path) -> None:
    marks = some_rows([10**18], instrument=WORLD.index(LINEAR.venue, LINEAR.symbol), kind=Kind.MARK)
    trades = some_rows([10**18 + 1], instrument=WORLD.index(INVERSE.venue, INVERSE.symbol))
    session = written(tmp_path / "S", [marks, trades], instruments=list(WORLD))
    assert export_hftbacktest(session, tmp_path / "H") == ["BTCUSD_PERP.npz", INSTRUMENTS]
