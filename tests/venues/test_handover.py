"""While one connection replaces another, each trade is written once: whichever is late, wherever the old one ends."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from feed_world import MS, VENUES, all_channels, instrument, table
from hypothesis import given
from hypothesis import strategies as st

from oneprice.model.tape import LAST, ROW, GapReason, Kind, Rows, TapeWriter
from oneprice.model.time import NS_PER_S
from oneprice.venues.base import Venue
from oneprice.venues.feed import FeedMachine

Trade = tuple[int, int]  # number, size: not every venue tells the number
OLD, NEW = 0, 1


def frame(venue: Venue, number: int, qty: int) -> bytes:
    rows = np.zeros(1, dtype=ROW)
    rows["kind"], rows["flags"], rows["price"], rows["qty"] = int(Kind.TRADE), LAST, 100_00, qty
    rows["sequence"], rows["ts_venue_ns"] = number, MS
    return venue.encode.trade(instrument(venue), rows, ts_ns=MS)


def told(venue: Venue, rows: Rows) -> Counter[Trade]:
    """What is on the tape, by what this venue lets anybody tell trades apart."""
    trades = rows[rows["kind"] == int(Kind.TRADE)]
    assert (trades["flags"] & LAST).all()
    return Counter((int(row["sequence"]), int(row["qty"])) for row in trades)


@pytest.mark.parametrize("name", sorted(VENUES))
@given(data=st.data())
def test_every_trade_of_a_handover_is_written_once(name: str, data: st.DataObject) -> None:
    venue = VENUES[name]
    sizes = data.draw(st.lists(st.integers(1, 3), max_size=12), label="sizes")
    trades = [(number, 10_000 * size) for number, size in enumerate(sizes, start=1)]
    first = data.draw(st.integers(0, len(trades)), label="first trade on the new connection")
    last = data.draw(st.integers(first, len(trades)), label="trades that the old connection brings before its end")
    ahead = data.draw(st.integers(0, len(trades) - first), label="trades of the new connection by then")
    tape = TapeWriter()
    machine = FeedMachine(venue, table(instrument(venue)), tape)
    machine.opened(OLD, all_channels(venue), 1)
    for trade in trades[:first]:
        machine.frame(OLD, frame(venue, *trade), 2)
    machine.opened(NEW, all_channels(venue), 3)
    waiting = {OLD: trades[first:last], NEW: trades[first : first + ahead]}
    order = data.draw(st.permutations([OLD] * len(waiting[OLD]) + [NEW] * len(waiting[NEW])), label="order")
    for feed in order:
        machine.frame(feed, frame(venue, *waiting[feed].pop(0)), 4)
    machine.closed(OLD, GapReason.DISCONNECT, 5)
    for trade in trades[first + ahead :]:
        machine.frame(NEW, frame(venue, *trade), 6)
    rows = tape.take()
    assert (np.diff(rows["ts_recv_ns"]) >= 0).all()
    plain = TapeWriter()
    alone = FeedMachine(venue, table(instrument(venue)), plain)
    alone.opened(OLD, all_channels(venue), 1)
    for trade in trades:
        alone.frame(OLD, frame(venue, *trade), 2)
    assert told(venue, rows) == told(venue, plain.take()), "as one connection would have brought them"


@pytest.mark.parametrize("name", sorted(VENUES))
def test_long_after_a_handover_equal_trades_are_trades_of_their_own(name: str) -> None:
    venue = VENUES[name]
    tape = TapeWriter()
    machine = FeedMachine(venue, table(instrument(venue)), tape)
    machine.opened(OLD, all_channels(venue), 1)
    machine.opened(NEW, all_channels(venue), 2)
    machine.frame(OLD, frame(venue, 7, 10_000), 3)  # the new connection never brings it
    machine.closed(OLD, GapReason.DISCONNECT, 4)
    machine.frame(NEW, frame(venue, 8, 20_000), 5 + 20 * NS_PER_S)
    machine.frame(NEW, frame(venue, 7, 10_000), 6 + 20 * NS_PER_S)
    assert sum(told(venue, tape.take()).values()) == 3
