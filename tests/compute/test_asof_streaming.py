"""Streaming ASOF joins: whatever the cuts, the order of arrival and the lateness, what comes out is the batch join of the same
rows but those counted late. Which these are is said a second time here, in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_asof import naive_rows

from oneprice.compute.asof import StreamingAsof, asof_align
from oneprice.compute.kernels.definition import KernelError
from shared_data import shared

NAMES = ("a", "b")
KEYS = ("x", "x", "y", None)


class Plain:
    """The rules in plain Python: rows are (time, key, number); `late`, what is released, and what must be held."""

    def __init__(self, lateness: dict[str, int], direction: str, tolerance: int | None, exact: bool) -> None:
        self.lateness, self.direction, self.tolerance, self.exact = lateness, direction, tolerance, exact
        self.newest: dict[str, int | None] = dict.fromkeys(lateness)
        self.taken: dict[str, list[tuple[int, Any, int]]] = {name: [] for name in lateness}
        self.late = dict.fromkeys(lateness, 0)
        self.waiting: list[tuple[int, Any, int]] = []
        self.released: list[tuple[int, Any, int]] = []

    def take(self, name: str, rows: list[tuple[int, Any, int]]) -> None:
        for t, key, number in rows:
            newest = self.newest[name]
            is_late = newest is not None and t < newest - self.lateness[name]
            is_late |= name != "left" and key is not None and any(self.is_decided(t, key, row) for row in self.released)
            self.newest[name] = t if newest is None else max(newest, t)
            if is_late:
                self.late[name] += 1
            else:
                self.taken[name].append((t, key, number))
                if name == "left":
                    self.waiting.append((t, key, number))

    def is_decided(self, t: int, key: Any, row: tuple[int, Any, int]) -> bool:
        if key != row[1]:
            return False
        if self.direction == "backward":
            return t <= row[0] if self.exact else t < row[0]
        assert self.tolerance is not None
        return t <= row[0] + self.tolerance

    def watermark(self, name: str) -> float:
        newest = self.newest[name]
        return float("-inf") if newest is None else newest - self.lateness[name]

    def release(self) -> list[int]:
        wait = 0 if self.direction == "backward" else self.tolerance
        until = min(self.watermark("left"), *(self.watermark(name) - wait for name in NAMES))
        out = sorted((row for row in self.waiting if row[0] <= until), key=lambda row: row[0])
        self.waiting = [row for row in self.waiting if row[0] > until]
        self.released += out
        return [number for _, _, number in out]

    def most_held(self, name: str) -> int:
        """Right rows that a left row to come can get: those not before it, and of each key the newest before."""
        floor = min([self.watermark("left"), *(t for t, _, _ in self.waiting)])
        rows = [(t, key) for t, key, _ in self.taken[name] if key is not None]
        near = [t for t, _ in rows if t >= floor]
        newest = {
            key: max(t for t, other in rows if other == key and t < floor) for key in {k for t, k in rows if t < floor}
        }
        behind = [t for t in newest.values() if self.tolerance is None or floor - t <= self.tolerance]
        return len(near) + (len(behind) if self.direction != "forward" else 0)


def columns(rows: list[tuple[int, Any, int]]) -> dict[str, Any]:
    return {
        "t": np.array([row[0] for row in rows], dtype=np.int64),
        "k": np.array([row[1] for row in rows], dtype=object),
        "n": np.array([row[2] for row in rows], dtype=np.int64),
    }


def chained(parts: list[dict[str, Any]], name: str) -> list[Any]:
    return [value for part in parts if name in part for value in np.ma.asarray(part[name]).tolist()]


def arrivals(seed: int) -> list[dict[str, list[tuple[int, Any, int]]]]:
    """Updates: rows by input, with times that go on slowly, so that many are equal, and sometimes back. From a seed, because
    rows that fit each other are rare among those that Hypothesis draws."""
    rng = np.random.default_rng(seed)
    clock, number, updates = 0, 0, []
    for _ in range(rng.integers(1, 16)):
        update: dict[str, list[tuple[int, Any, int]]] = {}
        clock += int(rng.choice([0, 1, 2]))
        for name in rng.permutation(["left", *NAMES])[: rng.integers(1, 4)].tolist():
            update[name] = []
            for _ in range(rng.integers(0, 5)):
                clock, number = clock + int(rng.choice([0, 0, 0, 1])), number + 1
                t = clock - int(rng.choice([0, 0, 0, 0, 1, 2, 6]))
                update[name].append((t, KEYS[rng.integers(len(KEYS))], number))
        updates.append(update)
    return updates


@settings(max_examples=300)
@given(
    st.integers(0, 1 << 32), st.tuples(*[st.sampled_from([0, 0, 1, 4])] * 3),
    st.sampled_from([("backward", None), ("backward", 3), ("forward", 3), ("forward", 0), ("nearest", 2)]),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_what_comes_out_is_the_batch_join_without_the_late_rows(seed, lateness, asked, exact, is_saved) -> None:
    """`is_saved`: after every update the join is saved and another one goes on."""
    updates, (direction, tolerance) = arrivals(seed), asked
    late_by = dict(zip(("left", *NAMES), lateness, strict=True))
    model = Plain(late_by, direction, tolerance, exact)
    join = StreamingAsof(
        {name: late_by[name] for name in NAMES}, by="k", direction=direction, tolerance=tolerance, exact=exact,
        left_lateness=late_by["left"],
    )  # fmt: skip
    parts = []
    for update in updates:
        for name, rows in update.items():
            model.take(name, rows)
        given_ = {name: columns(rows) for name, rows in update.items()}
        parts.append(join.update(given_.pop("left", None), **given_))
        assert chained(parts[-1:], "n") == model.release()
        assert join.late == model.late
        assert join.held["left"] == len(model.waiting)
        for name in NAMES:
            assert join.held[name] <= model.most_held(name)
        if is_saved:
            join = StreamingAsof.load(join.save())
    parts.append(join.finish())

    left = sorted(model.taken["left"], key=lambda row: row[0])
    assert chained(parts, "n") == [row[2] for row in left]
    rights = {name: sorted(model.taken[name], key=lambda row: row[0]) for name in NAMES}
    aligned = asof_align(
        columns(left), {name: columns(rows) for name, rows in rights.items()}, by="k", direction=direction,
        tolerance=tolerance, exact=exact,
    )  # fmt: skip
    for name, right in rights.items():
        rows = naive_rows([row[:2] for row in left], [row[:2] for row in right], direction, tolerance, exact)
        expected = [right[row][2] if row >= 0 else None for row in rows]
        assert chained([aligned], f"n_{name}") == expected
        unseen = len(left) - len(
            chained(parts, f"n_{name}")
        )  # released before the input had a row, so without its columns
        assert chained(parts, f"n_{name}") == expected[unseen:]
        assert expected[:unseen] == [None] * unseen


def test_recorded_trades_and_books_in_any_pieces() -> None:
    """In the order in which they were received, times those of the venue, which are not always in order."""
    folder = "data/market/binance_depth1000_2026-02-16"
    trades = pl.read_parquet(shared(f"{folder}/trades_btc_spot_2026-02-16_04.parquet")).select(
        t="exch_ts_ms", p="price"
    )
    books = pl.read_parquet(shared(f"{folder}/lobdeep_btc_spot_2026-02-16_04.parquet")).select(
        t="exch_ts_ms", bid="best_bid", ask="best_ask"
    )
    rng = np.random.default_rng(3)
    lateness = 5_000
    assert (trades["t"].cum_max() - trades["t"]).max() <= lateness  # so that nothing is late
    join = StreamingAsof({"book": lateness}, tolerance=2_000, left_lateness=lateness)
    parts, most = [], 0
    cuts = [np.sort(np.append(rng.choice(len(one), 200), [0, len(one)])) for one in (trades, books)]
    for k in range(201):
        some, more = (one[int(cut[k]) : int(cut[k + 1])] for one, cut in zip((trades, books), cuts, strict=True))
        parts.append(join.update(some, book=more))
        most = max(most, join.held["book"])
    parts.append(join.finish())
    aligned = asof_align(trades.sort("t", maintain_order=True), {"book": books}, tolerance=2_000)
    assert join.late == {"left": 0, "book": 0}
    assert aligned["bid_book"].null_count() < len(aligned) / 2
    np.testing.assert_array_equal(np.concatenate([part["p"] for part in parts]), aligned["p"].to_numpy())
    for name in ("bid_book", "ask_book"):
        np.testing.assert_array_equal(
            np.concatenate([part[name] for part in parts if name in part]), aligned[name].to_numpy()
        )
    assert most < len(books) / 2


QUOTES = {"t": np.array([1, 2, 3]), "bid": np.array([1.0, 2.0, 3.0])}
TRADES = {"t": np.array([2]), "p": np.array([9.0])}


def test_several_keys() -> None:
    rng = np.random.default_rng(4)
    left, right = (
        {
            "t": np.arange(n), "venue": rng.choice(["x", "y"], n), "day": rng.choice(["2026-01-01", "NaT"], n).astype("M8[D]"),
            "k": rng.integers(-2, 2, n) * 10**10, "n": np.arange(n),
        }
        for n in (300, 300)
    )  # fmt: skip
    by = ["venue", "day", "k"]
    join = StreamingAsof({"a": 0}, by=by)
    parts = []
    for begin in range(0, 300, 30):
        some, more = ({name: column[begin : begin + 30] for name, column in side.items()} for side in (left, right))
        parts.append(join.update(some, a=more))
        join = StreamingAsof.load(join.save())
    parts.append(join.finish())
    expected = asof_align(left, {"a": right}, by=by)
    assert chained(parts, "n_a") == expected["n_a"].tolist()
    assert 0 < expected["n_a"].mask.sum() < 300


def test_a_row_waits_for_every_right_input() -> None:
    join = StreamingAsof({"a": 0, "b": 1})
    assert join.update(TRADES, a=QUOTES)["p"].tolist() == []
    assert join.update(b={"t": np.array([2]), "bid": np.array([7.0])})["p"].tolist() == []
    released = join.update(b={"t": np.array([3]), "bid": np.array([8.0])})
    assert {name: values.tolist() for name, values in released.items()} == {
        "t": [2],
        "p": [9.0],
        "bid_a": [2.0],
        "bid_b": [7.0],
    }


def test_forward_waits_for_the_tolerance() -> None:
    join = StreamingAsof({"a": 0}, direction="forward", tolerance=2)
    assert join.update(TRADES, a=QUOTES)["p"].tolist() == []
    assert join.update(a={"t": np.array([4]), "bid": np.array([4.0])})["bid_a"].tolist() == [2.0]


def test_a_late_row_is_counted_and_changes_nothing() -> None:
    join = StreamingAsof({"a": 0})
    join.update(TRADES, a=QUOTES)
    released = join.update(
        {"t": np.array([1, 4]), "p": np.array([0.0, 5.0])}, a={"t": np.array([2, 5]), "bid": np.array([99.0, 5.0])}
    )
    assert released["p"].tolist() == [5.0]
    assert released["bid_a"].tolist() == [3.0]
    assert join.late == {"left": 1, "a": 1}


@pytest.mark.parametrize(
    ("asked", "reached", "late"),
    [
        ({}, 4, 1),
        ({"exact": False}, 4, 0),  # equal times do not match anyway
        ({"direction": "forward", "tolerance": 2}, 6, 1),
        ({"direction": "nearest", "tolerance": 2, "exact": False}, 6, 1),
    ],
)
def test_what_would_change_a_row_that_is_out_is_late(asked, reached, late) -> None:
    """In time for its watermark, but of a key that is decided up to there. Another key loses nothing."""

    def row(t: int, key: str) -> dict[str, Any]:
        return {"t": np.array([t]), "k": np.array([key])}

    join = StreamingAsof({"a": 0}, by="k", **asked)
    assert join.update(row(4, "x"), a=row(reached, "x"))["t"].tolist() == [4]
    join.update(a=row(reached, "y"))
    assert join.late["a"] == 0
    join.update(a=row(reached, "x"))
    assert join.late["a"] == late
    join.update(a=row(reached + 1, "x"))
    assert join.late["a"] == late


def test_a_quiet_input_is_helped_on_by_a_timer() -> None:
    join = StreamingAsof({"a": 0, "b": 0})
    join.update(TRADES, a=QUOTES)
    assert join.held == {
        "left": 1,
        "a": 2,
        "b": 0,
    }  # of those at or before the trade the newest, and what comes behind it
    assert join.advance(1, "b")["p"].tolist() == []
    assert join.advance(2, "b")["bid_a"].tolist() == [2.0]
    assert join.advance(10)["p"].tolist() == []
    assert join.held == {"left": 0, "a": 1, "b": 0}


def test_memory_stays_within_tolerance_and_lateness() -> None:
    join = StreamingAsof({"a": 10}, by="k", tolerance=50)
    for begin in range(0, 5_000, 20):
        t = np.arange(begin, begin + 20)
        join.update({"t": t[-1:], "k": t[-1:] % 3}, a={"t": t, "k": t % 3, "v": t})
        assert join.held["a"] <= 20 + 10 + 50
    forgetful = StreamingAsof({"a": 0}, by="k")
    forgetful.update({"t": np.array([0]), "k": np.array([0])}, a={"t": np.arange(10_000), "k": np.arange(10_000) % 7})
    forgetful.advance(20_000)
    assert forgetful.held == {"left": 0, "a": 7}  # without a tolerance the last of each key, for ever
    forgetful.update({"t": np.array([20_000]), "k": np.array([3])})
    assert forgetful.held["a"] == 7


def test_after_the_end_everything_is_late() -> None:
    join = StreamingAsof({"a": 5}, left_lateness=5)
    join.update(TRADES, a=QUOTES)
    assert join.finish()["bid_a"].tolist() == [2.0]
    assert join.update(TRADES, a=QUOTES)["p"].tolist() == []
    assert join.late == {"left": 1, "a": 3}


def test_a_saved_join_keeps_every_kind_of_column() -> None:
    right = {
        "t": np.array([1, 2]).astype("datetime64[ns]"), "k": np.array(["x", "y"]),
        "day": np.array([3, 4]).astype("datetime64[D]"),
        "book": np.arange(8.0).reshape(2, 2, 2), "n": np.ma.MaskedArray([1, 2], mask=[True, False]),
        "who": np.array(["me", None], dtype=object),
    }  # fmt: skip
    left = {"t": np.array([3, 3]).astype("datetime64[ns]"), "k": np.array(["x", "y"])}
    join = StreamingAsof({"a": "1us"}, by="k")
    join.update(left, a=right)
    again = StreamingAsof.load(join.save())
    assert again.save() == join.save()
    released, expected = again.finish(), asof_align(left, {"a": right}, by="k")
    assert released.keys() == expected.keys()
    for name, column in expected.items():
        assert released[name].dtype == column.dtype
        np.testing.assert_array_equal(np.ma.filled(released[name]), np.ma.filled(column))
        np.testing.assert_array_equal(np.ma.getmaskarray(released[name]), np.ma.getmaskarray(column))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"allowed_lateness": {}}, "allowed_lateness={}: it must name the right inputs"),
        ({"allowed_lateness": {"left": 0}}, "none of them 'left'"),
        ({"allowed_lateness": {"a": -1}}, r"allowed_lateness\['a'\]=-1: it must be a whole number of ns"),
        ({"left_lateness": "soon"}, "left_lateness='soon'"),
        ({"direction": "forward"}, "tolerance=None: forward needs one here"),
        ({"direction": "sideways"}, "direction='sideways'"),
    ],
)  # fmt: skip
def test_bad_arguments_are_named(arguments, message) -> None:
    with pytest.raises(KernelError, match=message):
        StreamingAsof(**{"allowed_lateness": {"a": 0}} | arguments)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"b": QUOTES}, "unknown input 'b'"),
        ({"a": {"bid": QUOTES["bid"]}}, "on: unknown column 't' in a"),
        ({"a": {"t": QUOTES["t"]}}, "a has the columns t; before it had t, bid, and must keep them"),
        ({"a": QUOTES | {"bid": np.array([1, 2, 3])}}, r"a\['bid'\] holds int64; before it held float64"),
        ({"a": QUOTES | {"bid": np.array([1.0])}}, r"a\['bid'\] has 1 rows, a\['t'\] has 3"),
        ({"a": QUOTES | {"t": QUOTES["bid"]}}, r"a\['t'\] holds float64"),
        ({"a": QUOTES | {"t": np.ma.MaskedArray([1, 2, 3], mask=[0, 1, 0])}}, r"a\['t'\] holds no time in row 1"),
    ],
)  # fmt: skip
def test_rows_that_cannot_be_used_are_refused_whole(rows, message) -> None:
    join = StreamingAsof({"a": 0})
    join.update(a=QUOTES)
    before = join.save()
    with pytest.raises(KernelError, match=message):
        join.update(TRADES, **rows)
    assert join.save() == before


def test_keys_stay_of_one_type() -> None:
    join = StreamingAsof({"a": 0}, by="k")
    join.update(a=QUOTES | {"k": np.array(["x", "y", "x"])})
    with pytest.raises(KernelError, match=r"left\['k'\] holds whole numbers, before it was text"):
        join.update(TRADES | {"k": np.array([1])})
    fresh = StreamingAsof({"a": 0}, by="k")
    with pytest.raises(KernelError, match=r"a\['k'\] holds text"):
        fresh.update(TRADES | {"k": np.array([1])}, a=QUOTES | {"k": np.array(["x", "y", "x"])})
    fresh.update(
        TRADES | {"k": np.array(["x"])}, a=QUOTES | {"k": np.array(["x", "y", "x"])}
    )  # refused rows teach nothing
    with pytest.raises(KernelError, match="t_ns='soon'"):
        fresh.advance("soon")


def test_what_is_no_saved_join_is_refused() -> None:
    with pytest.raises(KernelError, match="this is no saved ASOF join"):
        StreamingAsof.load(b"nothing")
    with pytest.raises(KernelError, match="of version 9, this is version 1"):
        StreamingAsof.load(StreamingAsof({"a": 0}).save().replace(b"\xa7version\x01", b"\xa7version\x09"))
