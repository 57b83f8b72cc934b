"""Replays: one order, whatever the order of the sessions; one grid of timers; one instrument table."""

from __future__ import annotations

import asyncio
import time
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_world import T0_NS, some_rows, spot, written

from oneprice.data.replay import Replay
from oneprice.data.session import Session, joined
from oneprice.model.errors import InputError
from oneprice.model.tape import LAST, ROW, Kind, Rows
from oneprice.model.time import NS_PER_MS
from patience import WITHIN_S

SYMBOLS = ("AUSDT", "BUSDT", "CUSDT")
# By session: the steps of time between its rows (many ties), and where its blocks end.
steps = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=6), max_size=5)


def session_of(folder: Path, place: int, chunks: list[list[int]], *, kind: Kind = Kind.TIMER) -> Session:
    """Rows at T0 + running sums of the steps. TIMER rows, so that the replay lays none of its own."""
    at, blocks = T0_NS, []
    for chunk in chunks:
        times = []
        for step in chunk:
            at += step
            times.append(at)
        rows = some_rows(times, kind=kind)
        rows["qty"] = place
        blocks.append(rows)
    return written(folder, blocks, instruments=[spot(SYMBOLS[place])], created_ns=T0_NS + place)


def all_rows(replay: Replay) -> Rows:
    return joined([np.zeros(0, dtype=ROW), *replay.rows()])


@given(tapes=st.lists(steps, min_size=1, max_size=3))
@settings(max_examples=60)
def test_a_merge_is_the_stable_order_of_time_whatever_the_order_of_the_sessions(tapes: list[list[list[int]]]) -> None:
    with TemporaryDirectory() as folder:
        sessions = [session_of(Path(folder) / f"{2 - k}", k, chunks) for k, chunks in enumerate(tapes)]
        by_name = list(reversed(sessions))
        naive = [
            (int(row["ts_recv_ns"]), place, position, int(row["qty"]))
            for place, session in enumerate(by_name)
            for position, row in enumerate(joined([np.zeros(0, dtype=ROW), *session.rows()]))
        ]
        merged = all_rows(Replay(sessions))
        naive.sort()
        assert merged["ts_recv_ns"].tolist() == [row[0] for row in naive]
        assert merged["qty"].tolist() == [row[3] for row in naive]
        assert all_rows(Replay(by_name)).tobytes() == merged.tobytes()
        assert all_rows(Replay(sessions)).tobytes() == merged.tobytes()


@given(chunks=steps, timer_ms=st.integers(1, 3), unit=st.sampled_from([NS_PER_MS // 3, NS_PER_MS, 7 * NS_PER_MS]))
@settings(max_examples=60)
def test_timers_lie_on_a_grid_of_receive_time_and_change_no_row(
    chunks: list[list[int]], timer_ms: int, unit: int
) -> None:
    with TemporaryDirectory() as folder:
        scaled = [[step * unit for step in chunk] for chunk in chunks]
        session = session_of(Path(folder) / "S", 0, scaled, kind=Kind.TRADE)
        rows = all_rows(Replay([session], timer_ms=timer_ms))
        timers = rows["kind"] == int(Kind.TIMER)
        assert rows[~timers].tobytes() == b"".join(chunk.tobytes() for chunk in session.rows())
        assert (np.diff(rows["ts_recv_ns"]) >= 0).all()
        grid = rows[timers]
        assert (grid["ts_recv_ns"] % (timer_ms * NS_PER_MS) == 0).all()
        assert grid["sequence"].tolist() == list(range(len(grid)))
        assert (grid["flags"] == LAST).all()
        assert (grid["instrument"] == -1).all()
        # Each run of rows ends with the timer of its own step.
        for begin, end in zip(np.flatnonzero(timers)[:-1] + 1, np.flatnonzero(timers)[1:], strict=True):
            assert end > begin, "only a step with rows gets a timer"
            assert rows["ts_recv_ns"][end] - rows["ts_recv_ns"][begin] <= timer_ms * NS_PER_MS
        assert len(rows) == 0 or timers[-1], "the last rows are not left behind"


def test_recorded_timers_stand_and_none_are_added(tmp_path: Path) -> None:
    session = session_of(tmp_path / "S", 0, [[0, 50_000_000], [90_000_000]])
    replayed = all_rows(Replay([session]))
    assert replayed.tobytes() == b"".join(rows.tobytes() for rows in session.rows())


def test_instruments_and_connections_are_numbered_anew_in_a_merge(tmp_path: Path) -> None:
    rows = some_rows([T0_NS, T0_NS + 2], feed=0)
    later = written(tmp_path / "a", [rows], instruments=[spot("ZUSDT"), spot("YUSDT")], feeds=2)
    here = some_rows([T0_NS + 1], feed=0)
    made_here = some_rows([T0_NS + 3], instrument=-1, feed=-1, kind=Kind.CLOCK)
    other = written(tmp_path / "b", [here, made_here], instruments=[spot("XUSDT")])
    replay = Replay([other, later], timer_ms=1_000)
    assert [one.symbol for one in replay.instruments] == ["XUSDT", "YUSDT", "ZUSDT"]
    merged = all_rows(replay)[:-1]
    assert [(int(row["instrument"]), int(row["feed"])) for row in merged] == [(1, 0), (0, 2), (1, 0), (-1, -1)]


def test_one_market_under_two_precisions_replays_under_the_finer_one(tmp_path: Path) -> None:
    coarse = spot(price_exponent=-1, qty_exponent=0, tick=5, lot=2, rules_inferred=True)
    fine = spot(price_exponent=-3, qty_exponent=-1, tick=50, lot=3, rules_inferred=True)
    first = some_rows([T0_NS])
    gap = some_rows([T0_NS + 1], kind=Kind.GAP)
    one = written(tmp_path / "a", [first, gap], instruments=[coarse])
    two = written(tmp_path / "b", [some_rows([T0_NS + 2])], instruments=[fine], created_ns=T0_NS + 1)
    replay = Replay([one, two], timer_ms=1_000)
    (union,) = replay.instruments
    assert (union.price_exponent, union.qty_exponent, union.tick, union.lot) == (-3, -1, 50, 1)
    a, b, c, _ = all_rows(replay)
    assert union.price(int(a["price"])) == coarse.price(int(first["price"][0])) == Decimal("10.0")
    assert union.qty(int(a["qty"])) == coarse.qty(int(first["qty"][0]))
    assert (int(b["price"]), int(b["qty"])) == (100, 7), "a gap's ids are no prices"
    assert union.price(int(c["price"])) == fine.price(100)


def test_listed_rules_win_over_inferred_ones_and_the_newest_over_older_ones(tmp_path: Path) -> None:
    inferred = spot(tick=50, rules_inferred=True)
    listed = spot(tick=1, min_qty=10, taker_fee=Decimal("0.0005"), qty_exponent=-4)
    old = spot(tick=2, taker_fee=Decimal("0.001"))
    sessions = [
        written(tmp_path / name, [some_rows([T0_NS + at])], instruments=[rules], created_ns=T0_NS + at)
        for at, (name, rules) in enumerate((("x", old), ("y", listed), ("z", inferred)))
    ]
    (union,) = Replay(sessions).instruments
    assert (union.tick, union.taker_fee, union.qty_exponent, union.min_qty) == (1, Decimal("0.0005"), -5, 100)


def test_sessions_that_mean_different_things_by_one_name_are_refused(tmp_path: Path) -> None:
    one = written(tmp_path / "a", [some_rows([T0_NS])])
    two = written(tmp_path / "b", [some_rows([T0_NS + 9])], instruments=[spot(contract_multiplier=Decimal(10))])
    with pytest.raises(
        InputError, match="binance_spot:BTCUSDT: the sessions disagree about its contract_multiplier: 1, 10"
    ):
        Replay([one, two])


def test_sessions_that_hold_one_book_at_the_same_time_are_refused(tmp_path: Path) -> None:
    one = written(tmp_path / "a", [some_rows([T0_NS, T0_NS + 5])])
    two = written(tmp_path / "b", [some_rows([T0_NS + 5, T0_NS + 9])])
    with pytest.raises(InputError, match=r"both hold binance_spot:BTCUSDT from .* their books would mix"):
        Replay([two, one])
    with pytest.raises(InputError, match="their books would mix"):
        Replay([one, one])
    after = written(tmp_path / "c", [some_rows([T0_NS + 6, T0_NS + 9])])
    assert len(all_rows(Replay([after, one], timer_ms=1_000))) == 5


def test_sessions_of_the_same_folder_name_keep_one_order(tmp_path: Path) -> None:
    """Every run keeps its session in a folder of the same name."""
    sessions = []
    for place, run in enumerate(("second", "first", "third")):
        (tmp_path / run).mkdir()
        sessions.append(session_of(tmp_path / run / "session", place, [[0, 0, 1]]))
    expected = all_rows(Replay(sessions)).tobytes()
    assert all_rows(Replay(sessions[::-1])).tobytes() == expected
    assert all_rows(Replay([sessions[1], sessions[2], sessions[0]])).tobytes() == expected


def test_a_session_without_rows_replays_as_nothing(tmp_path: Path) -> None:
    empty = written(tmp_path / "empty", [])
    assert len(all_rows(Replay([empty]))) == 0
    full = session_of(tmp_path / "full", 1, [[0, 1]])
    assert len(all_rows(Replay([empty, full]))) == 2


async def test_a_paced_replay_gives_every_row_when_its_time_has_come(tmp_path: Path) -> None:
    at_ns = [0, 0, 40 * NS_PER_MS, 100 * NS_PER_MS, 101 * NS_PER_MS, 200 * NS_PER_MS]
    session = written(tmp_path / "S", [some_rows([T0_NS + at for at in at_ns])])
    replay = Replay([session])
    for speed in (1.0, 4.0):
        began = time.monotonic()
        paced = []
        async for rows in replay.paced(speed):
            passed_ns = (time.monotonic() - began) * 1e9
            assert int(rows["ts_recv_ns"][-1]) - T0_NS <= passed_ns * speed, "never early"
            paced.append(rows.copy())
        assert joined(paced).tobytes() == all_rows(replay).tobytes()


async def test_a_paced_replay_gives_way_to_others_while_it_waits(tmp_path: Path) -> None:
    session = written(tmp_path / "S", [some_rows([T0_NS, T0_NS + 3600 * 1_000 * NS_PER_MS])])
    seen = asyncio.Event()

    async def play() -> None:
        async for _ in Replay([session]).paced(1.0):
            seen.set()

    playing = asyncio.create_task(play())
    async with asyncio.timeout(WITHIN_S):
        await seen.wait()
    playing.cancel()
    await asyncio.wait([playing])
    assert playing.cancelled()


def test_what_cannot_be_replayed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no session"):
        Replay([])
    session = session_of(tmp_path / "S", 0, [[0]])
    with pytest.raises(InputError, match="timer_ms 0"):
        Replay([session], timer_ms=0)
    for speed in (0.0, -1.0, float("nan")):
        with pytest.raises(InputError, match="a replay goes forward"):
            asyncio.run(Replay([session]).paced(speed).__anext__())
