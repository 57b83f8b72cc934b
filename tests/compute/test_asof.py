"""ASOF joins against Polars, pandas and a plain loop.

Where libraries differ from §16: of several right rows of one time Polars and pandas take the first when they look forward,
and of two rows as near Polars takes the one ahead. There times of right rows are distinct, or the plain loop is the oracle."""

from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_asof import naive_rows

from oneprice.compute.asof import asof_align, asof_join, asof_rows, joins, streaming
from oneprice.compute.asof.columns import sides_of
from oneprice.compute.asof.definition import read_rule
from oneprice.compute.asof.matching import sorted_rows
from oneprice.compute.kernels.definition import KernelError
from shared_data import shared

DIRECTIONS = ("backward", "forward", "nearest")
EXTREMES = (-(1 << 63) + 1, -1, 0, 1, (1 << 63) - 1)


@st.composite
def two_sides(draw: st.DrawFn, keys: int = 3) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Rows (time, key), sorted by time within each key, and sometimes as a whole."""
    is_whole = draw(st.booleans())
    sides = []
    for _ in range(2):
        rows = draw(st.lists(st.tuples(st.integers(-8, 8), st.integers(0, keys - 1)), max_size=25))
        if is_whole:
            rows.sort(key=lambda row: row[0])
        else:
            of_key = {k: sorted(t for t, key in rows if key == k) for k in range(keys)}
            rows = [(of_key[key].pop(0), key) for _, key in rows]
        sides.append(rows)
    return sides[0], sides[1]


def column(rows: list[tuple[int, int]], place: int) -> np.ndarray[Any, Any]:
    return np.array([row[place] for row in rows], dtype=np.int64)


@settings(max_examples=400)
@given(
    two_sides(), st.sampled_from(DIRECTIONS), st.none() | st.integers(0, 6), st.booleans(), st.sampled_from([1, 10**12])
)
def test_rows_are_those_of_a_plain_loop(sides, direction, tolerance, exact, apart) -> None:
    """`apart`: keys that lie far apart are numbered by a hash table."""
    left, right = sides
    asked = {"direction": direction, "tolerance": tolerance, "exact": exact}
    keys = column(left, 1) * apart, column(right, 1) * apart
    ours = asof_rows(column(left, 0), column(right, 0), *keys, **asked)
    assert ours.tolist() == naive_rows(left, right, **asked)


@settings(max_examples=200)
@given(two_sides(), st.sampled_from(DIRECTIONS), st.none() | st.integers(0, 6), st.booleans(), st.integers(1, 5))
def test_pieces_give_what_the_whole_gives(sides, direction, tolerance, exact, pieces) -> None:
    left, right = (sorted(rows, key=lambda row: row[0]) for rows in sides)
    read, keys, _ = sides_of(
        ["l", "r"],
        [column(left, 0), column(right, 0)],
        [[("l", column(left, 1))], [("r", column(right, 1))]],
    )
    rows = sorted_rows(*read, keys, read_rule(direction, tolerance, exact), pieces=pieces)
    assert rows.tolist() == naive_rows(left, right, direction, tolerance, exact)


@given(
    st.lists(st.sampled_from(EXTREMES), max_size=4), st.lists(st.sampled_from(EXTREMES), max_size=60),
    st.sampled_from(DIRECTIONS), st.none() | st.sampled_from([0, 1, (1 << 63) - 1]), st.booleans(),
)  # fmt: skip
def test_times_at_the_ends_of_an_int64(left, right, direction, tolerance, exact) -> None:
    """Distances there are more than an int64 holds; few left rows without keys are searched for."""
    asked = {"direction": direction, "tolerance": tolerance, "exact": exact}
    ours = asof_rows(np.array(sorted(left), dtype=np.int64), np.array(sorted(right), dtype=np.int64), **asked)
    assert ours.tolist() == naive_rows([(t, 0) for t in sorted(left)], [(t, 0) for t in sorted(right)], **asked)


@pytest.fixture(scope="module")
def market() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Enough rows for two threads; times of quotes are distinct, and trades fall on some of them."""
    rng = np.random.default_rng(1)
    n, m = 60_000, 90_000
    names = np.array([f"SYM{k}" for k in range(20)])
    trades = {"t": np.sort(rng.integers(0, 8 * m, n)) * 2, "symbol": names[rng.integers(0, 20, n)], "p": rng.random(n)}
    at = np.sort(rng.choice(8 * m, m, replace=False)) * 2 + (np.arange(m) % 2)
    quotes = {
        "t": at, "symbol": names[rng.integers(0, 20, m)], "bid": rng.random(m), "size": np.arange(m), "p": rng.random(m),
    }  # fmt: skip
    return pl.DataFrame(trades), pl.DataFrame(quotes)


@pytest.mark.parametrize("order", ["by time", "by symbol"])
@pytest.mark.parametrize("tolerance", [None, 40])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_joins_are_those_of_polars(market, direction, tolerance, order) -> None:
    left, right = (frame.sort("symbol", maintain_order=True) if order == "by symbol" else frame for frame in market)
    for exact in (True, False):
        ours = asof_join(left, right, by="symbol", direction=direction, tolerance=tolerance, exact=exact)
        theirs = left.join_asof(
            right, on="t", by="symbol", strategy=direction, tolerance=tolerance, allow_exact_matches=exact,
            check_sortedness=False,
        )  # fmt: skip
        if direction == "nearest":  # of two as near Polars takes the one ahead
            is_tie = asof_rows(left["t"], right["t"], left["symbol"], right["symbol"], tolerance=tolerance, exact=exact)
            behind = left["t"] - right["t"].gather(np.maximum(is_tie, 0))
            ahead = asof_rows(
                left["t"],
                right["t"],
                left["symbol"],
                right["symbol"],
                direction="forward",
                tolerance=tolerance,
                exact=exact,
            )
            ties = ((is_tie >= 0) & (ahead >= 0)) & (
                behind == right["t"].gather(np.maximum(ahead, 0)) - left["t"]
            ).to_numpy()
            ours, theirs = ours.filter(~ties), theirs.filter(~ties)
            assert ties.mean() < 0.2
        assert ours.columns == ["t", "symbol", "p", "bid", "size", "p_right"]
        assert ours.equals(theirs)


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_joins_are_those_of_pandas(market, direction, exact) -> None:
    left, right = market
    theirs = pd.merge_asof(
        left.to_pandas(), right.to_pandas(), on="t", by="symbol", direction=direction, tolerance=40,
        allow_exact_matches=exact, suffixes=("", "_right"),
    )  # fmt: skip
    numpy = [{name: frame[name].to_numpy() for name in frame.columns} for frame in market]
    ours = asof_join(*numpy, by="symbol", direction=direction, tolerance=40, exact=exact)
    for name in ("bid", "p_right"):
        np.testing.assert_array_equal(ours[name], theirs[name].to_numpy())
    np.testing.assert_array_equal(ours["size"].filled(-1), theirs["size"].fillna(-1).to_numpy())


def test_recorded_trades_get_the_book_before_them() -> None:
    def read(what: str, column: str) -> pl.DataFrame:
        folder = "data/market/binance_depth1000_2026-02-16"
        paths = [shared(f"{folder}/{what}_btc_{market}_2026-02-16_04.parquet") for market in ("fut", "spot")]
        frame = pl.concat([pl.read_parquet(path, columns=["ts_ms", "market_type", column]) for path in paths])
        return frame.sort("market_type", "ts_ms", maintain_order=True)

    trades, books = read("trades", "price"), read("lobdeep", "seq")
    ours = asof_join(trades, books, on="ts_ms", by="market_type", tolerance=1_500)
    theirs = trades.join_asof(books, on="ts_ms", by="market_type", tolerance=1_500, check_sortedness=False)
    assert ours.equals(theirs)
    assert 0.5 < ours["seq"].is_not_null().mean() <= 1.0


# -- kinds of tables ----------------------------------------------------------------------------------------------------

LEFT = {"t": np.array([10, 20, 30]), "k": np.array(["a", "b", "a"]), "p": np.array([1.0, 2.0, 3.0])}
RIGHT = {
    "t": np.array([5, 25]), "k": np.array(["a", "a"]), "p": np.array([7.0, 8.0]), "n": np.array([2**53 + 1, 4]),
    "at": np.array([1, 2], dtype="datetime64[ns]"), "is": np.array([True, False]), "book": np.array([[1.0, 2.0], [3.0, 4.0]]),
}  # fmt: skip
FLAT = {name: values for name, values in RIGHT.items() if name != "book"}


def of_kind(kind: str, columns: dict[str, Any]) -> Any:
    return {"numpy": dict, "polars": pl.DataFrame, "arrow": pa.table}[kind](columns)


def plain(table: Any) -> dict[str, list[Any]]:
    """The values of a table of any kind, None where there is none."""
    if isinstance(table, pl.DataFrame):
        return table.to_dict(as_series=False)
    if isinstance(table, pa.Table):
        return table.to_pydict()
    return {
        name: [None if value != value else value for value in np.ma.asarray(column).tolist()]  # noqa: PLR0124
        for name, column in table.items()
    }


@pytest.mark.parametrize("right_kind", ["numpy", "polars", "arrow"])
@pytest.mark.parametrize("left_kind", ["numpy", "polars", "arrow"])
def test_any_table_with_any_other(left_kind, right_kind) -> None:
    joined = asof_join(of_kind(left_kind, LEFT), of_kind(right_kind, FLAT), by="k")
    assert isinstance(joined, type(of_kind(left_kind, {})))
    found = plain(joined)
    assert found["t"] == [10, 20, 30]
    assert found["p_right"] == [7.0, None, 8.0]
    assert found["n"] == [2**53 + 1, None, 4]  # which no float holds
    assert found["is"] == [True, None, False]
    assert list(found) == ["t", "k", "p", "p_right", "n", "at", "is"]


def test_numpy_columns_without_a_match() -> None:
    joined = asof_join(LEFT, RIGHT, by="k")
    assert joined["n"].dtype == np.int64
    assert joined["n"].mask.tolist() == [False, True, False]
    assert np.isnat(joined["at"]).tolist() == [False, True, False]
    np.testing.assert_array_equal(joined["book"], [[1.0, 2.0], [np.nan, np.nan], [3.0, 4.0]])


@pytest.mark.parametrize("kind", ["numpy", "polars", "arrow"])
def test_a_join_of_a_join_keeps_what_is_missing(kind) -> None:
    joined = asof_join(LEFT, FLAT, by="k")
    again = plain(asof_join(of_kind(kind, {"t": LEFT["t"]}), joined))
    assert again["n"] == [2**53 + 1, None, 4]
    assert again["is"] == [True, None, False]


def test_columns_are_looked_at_where_they_lie() -> None:
    t, codes = np.arange(100), np.arange(100, dtype=np.int32) % 3
    arrow = pa.table({"t": t, "at": t.astype("datetime64[us]"), "k": codes})
    polars = pl.DataFrame({"t": t, "at": t.astype("datetime64[us]"), "k": codes})
    from_arrow = [pl.from_arrow(arrow[name]) for name in ("t", "at", "k")]
    for times, key in (
        (t, codes),
        (polars["t"], polars["k"]),
        (polars["at"], polars["k"]),
        (from_arrow[1], from_arrow[2]),
    ):
        (side,), _, _ = sides_of(["t"], [times], [[("k", key)]])
        for seen, given_ in ((side.t, times), (side.codes, key)):
            held = given_.to_physical().to_numpy() if isinstance(given_, pl.Series) else given_
            assert np.shares_memory(seen, held)
    for name, series in zip(("t", "at", "k"), from_arrow, strict=True):
        assert np.shares_memory(
            series.to_physical().to_numpy(), np.frombuffer(arrow[name].chunk(0).buffers()[1], np.uint8)
        )


def test_left_columns_come_back_as_they_are() -> None:
    assert asof_join(LEFT, RIGHT, by="k")["p"] is LEFT["p"]
    frame = pl.DataFrame(LEFT)
    assert np.shares_memory(asof_join(frame, frame, by="k")["p"].to_numpy(), frame["p"].to_numpy())
    table = pa.table(LEFT)
    assert (
        asof_join(table, table, by="k")["p"].chunk(0).buffers()[1].address == table["p"].chunk(0).buffers()[1].address
    )


@pytest.mark.parametrize("kind", ["numpy", "polars", "arrow"])
def test_a_right_side_with_nothing_but_time_and_key_adds_nothing(kind) -> None:
    left, right = of_kind(kind, LEFT), of_kind(kind, {name: FLAT[name] for name in ("t", "k")})
    assert plain(asof_join(left, right, by="k")) == plain(left)


def test_chunks_and_slices_and_strides() -> None:
    frame = pl.concat([pl.DataFrame(LEFT)[:1], pl.DataFrame(LEFT)[1:]], rechunk=False)
    tape = np.zeros(3, dtype=[("t", np.int64), ("p", float)])
    tape["t"] = LEFT["t"]
    expected = [0, 0, 1]
    assert asof_rows(frame["t"], RIGHT["t"]).tolist() == expected
    assert asof_rows(tape["t"], RIGHT["t"]).tolist() == expected
    assert asof_rows(frame[1:]["t"], RIGHT["t"]).tolist() == expected[1:]
    chunked = pa.chunked_array([[10], [20, 30]])
    assert plain(asof_join(pa.table({"t": chunked}), FLAT))["n"] == [2**53 + 1, 2**53 + 1, 4]


@pytest.mark.parametrize("text", [pl.String, pl.Categorical, pl.Enum(["b", "a"])])
@pytest.mark.parametrize("other", [pl.String, pl.Categorical, pl.Enum(["a", "b", "c"])])
def test_text_keys_of_any_encoding(text, other) -> None:
    left = pl.DataFrame(LEFT).with_columns(pl.col("k").cast(text))
    right = pl.DataFrame(FLAT).with_columns(pl.col("k").cast(other))
    assert asof_join(left, right, by="k")["p_right"].to_list() == [7.0, None, 8.0]
    arrow = right.to_arrow()
    assert asof_join(LEFT, arrow, by="k")["p_right"][[0, 2]].tolist() == [7.0, 8.0]


@pytest.mark.parametrize("longest", [3, 12, 13])
def test_text_of_any_length_and_number(longest) -> None:
    """Text of up to 12 bytes is numbered where it lies, longer text by Polars; thousands of symbols make the table grow."""
    rng = np.random.default_rng(5)
    names = np.array(
        [*("", "é" * (longest // 2)), *(f"{k:x}".zfill(longest)[-longest:] for k in range(4_000))], dtype=object
    )
    numbers = [np.concatenate([rng.permutation(len(names)), rng.integers(0, len(names), 3_000)]) for _ in range(2)]
    left, right = (
        pl.concat(
            [pl.Series(names[one[:70]], dtype=pl.String), pl.Series(names[one[70:]], dtype=pl.String)], rechunk=False
        )
        for one in numbers
    )
    t = np.arange(len(left))
    with_nulls = [text.set(pl.Series(t % 50 == 7), None) for text in (left, right)]
    for texts in ((left, right), with_nulls, [text[30:-30] for text in with_nulls]):
        rows = asof_rows(t[: len(texts[0])], t[: len(texts[1])], *texts, direction="nearest")
        number_of = {name: k for k, name in enumerate(names)}
        keys = [
            pl.Series([None if name is None else number_of[name] for name in text], dtype=pl.Int64) for text in texts
        ]
        assert rows.tolist() == asof_rows(t[: len(texts[0])], t[: len(texts[1])], *keys, direction="nearest").tolist()
        assert (rows >= 0).sum() > 4_000


def test_several_keys() -> None:
    rng = np.random.default_rng(2)
    left, right = (
        {"t": np.sort(rng.integers(0, 500, n)), "v": rng.choice(["x", "y"], n), "k": rng.integers(-2, 2, n) * 10**10}
        for n in (200, 300)
    )
    rows = asof_rows(left["t"], right["t"], (left["v"], left["k"]), (right["v"], right["k"]))
    pairs = [
        list(zip(side["t"].tolist(), zip(side["v"], side["k"], strict=True), strict=True)) for side in (left, right)
    ]
    assert rows.tolist() == naive_rows(*pairs, "backward", None, True)
    joined = asof_join(left, right | {"row": np.arange(300)}, by=["v", "k"])
    assert joined["row"].filled(-1).tolist() == rows.tolist()


def test_many_sources_on_one_clock(market) -> None:
    clock, quotes = market
    sources = {"a": quotes[::2], "b": quotes[1::3], "c": quotes[:0]}
    aligned = asof_align(clock, sources, by="symbol", tolerance="40us")
    assert aligned.columns == [
        *clock.columns,
        *(f"{column}_{name}" for name in sources for column in ("bid", "size", "p")),
    ]
    for name, source in sources.items():
        joined = asof_join(clock, source, by="symbol", tolerance=40_000)
        assert aligned[f"bid_{name}"].equals(joined["bid"])


# -- nothing, nulls, units ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "polars", "arrow"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_empty_sides_and_single_rows(kind, direction) -> None:
    left, right = of_kind(kind, LEFT), of_kind(kind, FLAT)
    none_left, none_right = (of_kind(kind, {n: v[:0] for n, v in side.items()}) for side in (LEFT, FLAT))
    found = plain(asof_join(left, none_right, by="k", direction=direction))
    assert found["p_right"] == found["n"] == [None, None, None]
    assert plain(asof_join(none_left, right, by="k", direction=direction))["p_right"] == []
    assert plain(asof_join(none_left, none_right, by="k", direction=direction))["p_right"] == []
    one = of_kind(kind, {name: values[:1] for name, values in LEFT.items()})
    assert plain(asof_join(one, one, by="k", direction=direction))["p_right"] == [1.0]
    assert plain(asof_join(one, one, by="k", direction=direction, exact=False))["p_right"] == [None]


@given(two_sides(), st.sampled_from(DIRECTIONS), st.data())
@settings(max_examples=100)
def test_rows_without_time_or_key_have_no_match(sides, direction, data) -> None:
    holed, kinds = [], data.draw(st.sampled_from(["k", "t", "tk"]))
    for rows in sides:
        holes = [data.draw(st.sampled_from(["", "", *kinds])) for _ in rows]
        holed.append(
            [(None if hole == "t" else t, None if hole == "k" else k) for hole, (t, k) in zip(holes, rows, strict=True)]
        )
    expected = naive_rows(*holed, direction, None, True)
    series = [[pl.Series([row[place] for row in rows], dtype=pl.Int64) for place in (0, 1)] for rows in holed]
    (lt, lk), (rt, rk) = series
    assert asof_rows(lt, rt, lk, rk, direction=direction).tolist() == expected
    nat = [one.cast(pl.Datetime("ns")).to_numpy() for one in (lt, rt)]
    text = [np.array([None if key is None else f"k{key}" for key in one], dtype=object) for one in (lk, rk)]
    assert asof_rows(*nat, *text, direction=direction).tolist() == expected


def test_datetimes_of_different_units_and_whole_tolerances() -> None:
    left = np.array(["2026-01-01T00:00:01.500"], dtype="datetime64[ms]")
    right = np.array(["2026-01-01T00:00:00.499999999", "2026-01-01T00:00:01.500000001"], dtype="datetime64[ns]")
    assert asof_rows(left, right).tolist() == [0]
    assert asof_rows(left, right, tolerance="1s").tolist() == [-1]
    assert asof_rows(left, right, tolerance=1_000_000_001).tolist() == [0]
    assert asof_rows(left, right, tolerance="1s", direction="nearest").tolist() == [1]
    before = left - np.timedelta64(1, "ms")
    assert asof_rows(left, before, tolerance=999_999).tolist() == [-1]  # ns, whatever the unit of the columns
    assert asof_rows(left, before, tolerance=1_000_000).tolist() == [0]


def test_the_examples_run() -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "asof.md"
    tested = [
        doctest.testfile(str(page), module_relative=False),
        *(doctest.testmod(module) for module in (joins, streaming)),
    ]
    assert [result.failed for result in tested] == [0, 0, 0]
    assert all(result.attempted > 0 for result in tested)


def test_rows_without_a_key_do_not_match_each_other() -> None:
    keys = pl.Series([None, 1])
    assert asof_rows([1, 2], [1, 2], keys, keys).tolist() == [-1, 1]
    assert asof_rows([2, 1], [2, 1], keys, keys).tolist() == [-1, 1]


# -- bad input ----------------------------------------------------------------------------------------------------------


def test_a_side_that_is_not_sorted_is_an_error_with_its_row() -> None:
    t, keys = np.array([5, 1, 6, 2, 4]), np.array([0, 1, 0, 1, 0])
    with pytest.raises(
        KernelError, match=r"right_t goes back at row 4, to 4 from 6 in row 2, .* sorted within each key"
    ):
        asof_rows(np.array([9]), t, np.array([0]), keys)
    with pytest.raises(KernelError, match="left_t goes back at row 4"):
        asof_rows(t, np.array([], dtype=np.int64), keys, np.array([], dtype=np.int64))
    with pytest.raises(KernelError, match=r"left\['t'\] goes back at row 1, to 1 from 5"):
        asof_join({"t": t}, {"t": keys[:1]})
    assert asof_rows(t[:4], np.array([0]), keys[:4], np.array([1])).tolist() == [-1, 0, -1, 0]


@settings(max_examples=25)
@given(st.lists(st.sampled_from([1, 2, 3, 4_096, 4_097, 8_193]), min_size=1, max_size=3), st.data())
def test_rows_of_a_key_one_after_the_other_are_joined_or_the_one_that_goes_back_is_named(sizes, data) -> None:
    """Rows are looked at in blocks that end at powers of two."""
    sizes = [3, *sizes]
    keys = np.repeat(np.arange(len(sizes)), sizes)
    within = np.concatenate([np.arange(size) for size in sizes])
    t = 10 * within
    clock = np.full(len(sizes), 5)
    assert asof_rows(clock, t, np.arange(len(sizes)), keys).tolist() == np.flatnonzero(within == 0).tolist()
    rows = np.flatnonzero((within > 0) & ((within & (within - 1)) == 0)).tolist()
    back = data.draw(st.sampled_from(rows))
    t[back] = t[back - 1] - 1
    with pytest.raises(KernelError, match=rf"right_t goes back at row {back}, .* in row {back - 1},"):
        asof_rows(clock, t, np.arange(len(sizes)), keys)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"direction": "back"}, "direction='back': it must be backward or forward or nearest"),
        ({"tolerance": -1}, "tolerance=-1: it must be a whole number of ns, at least 0"),
        ({"tolerance": 1.5}, "tolerance=1.5"),
        ({"tolerance": "soon"}, "tolerance='soon'"),
        ({"exact": None}, "exact=None"),
        ({"on": "time"}, "on: unknown column 'time' in left"),
        ({"by": "n"}, "by: unknown column 'n' in left"),
        ({"by": "p"}, r"left\['p'\] holds float64; a key must be a column of text or of whole numbers"),
        ({"on": "p"}, r"left\['p'\] holds float64; it must hold whole numbers \(ns\) or datetimes"),
        ({"right": RIGHT | {"k": np.array([1, 2])}, "by": "k"}, r"right\['k'\] holds whole numbers, left\['k'\] holds text"),
        ({"right": RIGHT | {"k": np.array([1, 2], dtype=object)}, "by": "k"}, r"right\['k'\] holds objects other than text"),
        ({"right": RIGHT | {"p": np.array([1.0])}}, r"right\['p'\] has 1 rows, right\['t'\] has 2"),
        ({"left": LEFT | {"p": np.array([1.0])}}, r"left\['p'\] has 1 rows, left\['t'\] has 3"),
        ({"right": RIGHT | {"k": np.array(["a"])}, "by": "k"}, r"right\['k'\] has 1 rows, right\['t'\] has 2"),
        ({"right": RIGHT | {"t": RIGHT["at"]}}, r"right\['t'\] holds datetimes, left\['t'\] holds whole numbers"),
        ({"right": [1, 2]}, "right is a list; it must be a dict of NumPy columns, an Arrow table or a Polars DataFrame"),
        ({"right": RIGHT | {"p_right": RIGHT["p"]}}, "suffix: the result would have several columns p_right; names must"),
        ({"suffix": ""}, "suffix: the result would have several columns k, p"),
    ],
)  # fmt: skip
def test_bad_input_names_the_argument(change, message) -> None:
    with pytest.raises(KernelError, match=message):
        asof_join(**{"left": LEFT, "right": RIGHT} | change)


def test_times_that_do_not_fit() -> None:
    with pytest.raises(KernelError, match=f"right_t holds {2**63}, which is more than an int64 holds"):
        asof_rows([1], np.array([2**63], dtype=np.uint64))
    far = np.array(["9999-01-01"], dtype="datetime64[s]")
    with pytest.raises(KernelError, match="left_t holds a time too far from 1970 to be counted in ns"):
        asof_rows(far, np.array([1], dtype="datetime64[ns]"))
    with pytest.raises(KernelError, match="of a time zone"):
        asof_rows(pl.Series([1]).cast(pl.Datetime("ns", "UTC")), np.array([1], dtype="datetime64[ns]"))
