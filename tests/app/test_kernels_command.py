"""`oneprice kernels`: what there is, what it means, a kernel over a file's columns, and compiling beforehand."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from command import Answer, oneprice

from oneprice.app.commands.kernels import group
from oneprice.app.kernel_columns import inputs_from, times_from
from oneprice.compute.kernels.definition import NO_INTEGER
from oneprice.compute.kernels.registry import KERNELS, find
from oneprice.compute.kernels.streaming import compute
from oneprice.model.errors import InputError

N = 60
T0 = 1_769_083_200_000_000_000
HERE = Path("here.parquet")


def written(frame: pl.DataFrame, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    frame.write_csv(file) if file.suffix == ".csv" else frame.write_parquet(file)
    return file


def error_of(done: Answer) -> str:
    assert done.code == 2, done.err
    return str(done.json["error"])


def world(folder: Path) -> None:
    """The files that the examples of `--help` name: those that a session exports, and two of one's own."""
    rng = np.random.default_rng(1)
    price = np.round(100 * np.exp(rng.normal(0, 0.001, N).cumsum()), 2)
    at = pl.Series(T0 + np.arange(N) * 10**9).cast(pl.Datetime("ns", "UTC"))
    trades = {"ts_recv": at, "side": rng.choice(["buy", "sell"], N), "price": price, "qty": rng.random(N)}
    written(pl.DataFrame(trades), folder / "S/BTCUSDT/trades.parquet")
    quotes = {
        "ts_recv": at, "bid_price": price, "bid_qty": rng.random(N), "ask_price": price + 0.01, "ask_qty": rng.random(N),
    }  # fmt: skip
    written(pl.DataFrame(quotes), folder / "S/BTCUSDT/quotes.parquet")
    weights = rng.dirichlet([1, 1], N)
    written(
        pl.DataFrame({"w_btc": weights[:, 0], "w_eth": weights[:, 1], "r_btc": rng.random(N), "r_eth": rng.random(N)}),
        folder / "weights.csv",
    )
    written(pl.DataFrame({"at": T0 + np.arange(N) * 10**9, "close": price}), folder / "prices.csv")


def test_all_kernels_are_listed_with_what_describes_them() -> None:
    done = oneprice("kernels", "list", "--json")
    assert done.code == 0, done.err
    assert [kernel["name"] for kernel in done.json["kernels"]] == list(KERNELS)
    assert done.json["count"] == len(KERNELS)
    skew = next(kernel for kernel in done.json["kernels"] if kernel["name"] == "clock_skew_align")
    assert [(one["name"], one["kind"], one["optional"]) for one in skew["inputs"]] == [
        ("t_venue", "integers", False),
        ("t_sent", "integers", True),
    ]
    assert all(one["help"] for kernel in done.json["kernels"] for one in kernel["inputs"])
    family = oneprice("kernels", "list", "--family", "statistics", "--json")
    assert {kernel["family"] for kernel in family.json["kernels"]} == {"statistics"}
    assert "did you mean 'safety'" in error_of(oneprice("kernels", "list", "--family", "safty", "--json"))


def test_one_kernel_is_explained() -> None:
    done = oneprice("kernels", "show", "ewma", "--json")
    assert (done.code, done.json["name"], done.json["inputs"][0]["name"]) == (0, "ewma", "x")
    alpha = next(one for one in done.json["parameters"] if one["name"] == "alpha")
    assert alpha["allowed"] == "a number at most 1 and above 0"
    assert "{'mean': array([1.    , 1.5   " in done.json["example"]
    assert "did you mean 'ewma'" in error_of(oneprice("kernels", "show", "ewm", "--json"))
    for_people = oneprice("kernels", "show", "ewma").err
    assert done.json["example"] in for_people
    assert "--param   adjust=False divide by the sum of the weights so far (true or false)" in for_people


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_kernel_runs_over_the_columns_of_a_file(kind: str, tmp_path: Path) -> None:
    prices = np.exp(np.random.default_rng(1).normal(0, 0.01, 50).cumsum())
    at = np.arange(50) * 10**9
    file = written(pl.DataFrame({"at": at, "close": prices}), tmp_path / f"prices.{kind}")
    done = oneprice(
        "kernels", "run", "rolling_zscore", "--file", file, "--input", "x=close", "--time", "at", "--param", "w=10s", "--param",
        "include_current=false", "--out", tmp_path / "z.parquet", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["rows"] == 50
    found = pl.read_parquet(tmp_path / "z.parquet")
    assert found["mean"][-1] == pytest.approx(prices[-10:-1].mean())  # of the nine seconds before
    assert found["at"].to_list() == at.tolist()
    assert found["mean"][0] is None


def test_every_example_of_the_help_works(tmp_path: Path) -> None:
    world(tmp_path)
    told = [str(command.epilog) for command in group.registered_commands]
    examples = [line.strip() for epilog in told for line in epilog.splitlines() if line.startswith("  oneprice ")]
    assert len(examples) >= 12
    for example in examples:
        if example == "oneprice kernels warm":
            continue  # it compiles all: a minute, which the laws of the kernels spend elsewhere
        done = oneprice(*shlex.split(example)[1:], cwd=tmp_path)
        assert done.code == 0, (example, done.err)
    returns = pl.read_parquet(tmp_path / "returns.parquet")["r"].to_numpy()
    price = pl.read_parquet(tmp_path / "S/BTCUSDT/trades.parquet")["price"].to_numpy()
    assert returns[1:] == pytest.approx(np.diff(np.log(price)))


def test_buy_and_sell_are_1_and_minus_1(tmp_path: Path) -> None:
    world(tmp_path)
    file = tmp_path / "S/BTCUSDT/trades.parquet"
    frame = pl.read_parquet(file)
    sides = inputs_from(find("signed_volume"), {}, frame, file, {"q": "qty", "s": "side"})["s"]
    assert sides.tolist() == [1.0 if side == "buy" else -1.0 for side in frame["side"]]
    with pytest.raises(
        InputError, match=r"column side holds text \('none'\); the input s of signed_volume must be numbers"
    ):
        inputs_from(
            find("signed_volume"), {}, frame.with_columns(side=pl.lit("none")), file, {"q": "qty", "s": "side"}
        )  # fmt: skip


def test_whole_numbers_keep_all_their_bits() -> None:
    ids = [2**62 + 1, 2**62 + 2, None, 2**62 + 4]
    kernel = find("dedupe_trades")
    found = inputs_from(kernel, kernel.values({}), pl.DataFrame({"id": ids}), HERE, {})["id"]
    assert found.tolist() == [*ids[:2], NO_INTEGER, ids[3]]
    assert compute(kernel, id=found)["missing"].tolist() == pytest.approx([0, 0, np.nan, 1], nan_ok=True)
    at = pl.Series("t", [T0 + 1, T0 + 2]).cast(pl.Datetime("ns", "UTC"))
    skew = find("clock_skew_align")
    found = inputs_from(skew, skew.values({"method": "passive"}), pl.DataFrame([at]), HERE, {"t_venue": "t"})
    assert {name: column.tolist() for name, column in found.items()} == {"t_venue": [T0 + 1, T0 + 2]}  # t_sent left out


def test_inputs_that_are_not_read_may_be_left_out() -> None:
    kernel = find("trade_sign")
    frame = pl.DataFrame({"p": [1.0, 2.0], "m": [1.5, None]})
    found = inputs_from(kernel, kernel.values({"method": "lee_ready"}), frame, HERE, {})
    assert list(found) == ["p", "m"]
    assert np.isnan(found["m"][1])
    with pytest.raises(InputError, match=r"trade_sign, input m: unknown column 'm' in here\.parquet"):
        inputs_from(kernel, kernel.values({"method": "lee_ready"}), frame.drop("m"), HERE, {})


def test_a_book_is_columns_by_level() -> None:
    rng = np.random.default_rng(2)
    book = rng.random((5, 4, 3))
    names = ("bid_price", "bid_qty", "ask_price", "ask_qty")
    columns = {f"x_{name}_{level + 1}": book[:, k, level] for level in range(3) for k, name in enumerate(names)}
    kernel = find("depth_imbalance")
    frame = pl.DataFrame(columns)
    assert np.array_equal(inputs_from(kernel, kernel.values({}), frame, HERE, {"bk": "x_"})["bk"], book)
    touch = pl.DataFrame({name: book[:, k, 0] for k, name in enumerate(names)})
    assert np.array_equal(inputs_from(kernel, kernel.values({}), touch, HERE, {})["bk"], book[:, :, :1])
    with pytest.raises(InputError, match=r"needs the book \(bk\): columns bid_price_1, bid_qty_1"):
        inputs_from(kernel, kernel.values({}), frame, HERE, {})
    with pytest.raises(InputError, match=r"unknown column 'x_ask_qty_2'.*did you mean 'x_ask_qty_[13]'"):
        inputs_from(kernel, kernel.values({}), frame.drop("x_ask_qty_2"), HERE, {"bk": "x_"})


def test_a_matrix_is_several_columns() -> None:
    frame = pl.DataFrame({"a": [1.0, 2.0], "b": [3.0, 4.0], "O": [1.0, 2.0]})
    found = inputs_from(find("turnover"), {}, frame, HERE, {"W": "a,b", "R": "b,a"})
    assert found["W"].tolist() == [[1.0, 3.0], [2.0, 4.0]]
    with pytest.raises(InputError, match="garman_klass: O is one column, --input O=a,b names 2"):
        inputs_from(find("garman_klass"), {}, frame, HERE, {"O": "a,b"})


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "x=clsoe"], "unknown column 'clsoe' in prices.csv; did you mean 'close'? Known: at, close"),
        (["--input", "z=close"], "unknown input 'z' in rolling_zscore. Known: x"),
        (["--input", "x"], "--input x: write NAME=VALUE"),
        ([], "rolling_zscore, input x: unknown column 'x' in prices.csv"),
        (["--input", "x=close", "--param", "w=10s"], "rolling_zscore needs the time of every row: --time COLUMN"),
        (["--input", "x=close", "--time", "close"], "the column close holds Float64; a time is whole nanoseconds"),
        (["--input", "x=close", "--param", "w=-1"], "rolling_zscore: w=-1: it must be a count of observations"),
        (["--input", "x=close", "--param", "wide=1"], "unknown parameter 'wide' in rolling_zscore"),
    ],
)
def test_what_cannot_be_used_is_named(arguments: list[str], told: str, tmp_path: Path) -> None:
    world(tmp_path)
    done = oneprice("kernels", "run", "rolling_zscore", "--file", "prices.csv", *arguments, "--json", cwd=tmp_path)
    assert told in error_of(done)


def test_a_time_that_goes_back_or_is_missing_is_told_with_its_row() -> None:
    kernel = find("hawkes_intensity")
    told = [
        ([1, 3, 2], "the time in t goes back at row 2, to 2 from 3: sort the file by it"),
        ([1, None, 2], "the column t has no time in row 1"),
    ]
    for times, message in told:
        with pytest.raises(InputError, match=re.escape(message)):
            times_from(kernel, kernel.values({}), pl.DataFrame({"t": times}), HERE, "t")


def test_answers_are_told_as_they_are_and_times_to_the_nanosecond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    at = T0 + np.arange(5) * 10**9 + 7
    file = written(
        pl.DataFrame({"t": at, "p": [100.0, 101, 99, 102, 103], "q": [1.0] * 5}), tmp_path / "trades.parquet"
    )
    arguments = ("kernels", "run", "tick_bars", "--file", file, "--time", "t", "--param", "n=2")
    done = oneprice(*arguments, "--json", is_new=True)
    assert done.code == 0, done.err
    wanted: dict[str, Any] = {
        "start_ns": int(at[2]),
        "end_ns": int(at[3]),
        "O": 99.0,
        "H": 102.0,
        "L": 99.0,
        "C": 102.0,
    }
    assert (done.json["rows"], done.json["last"]) == (2, wanted | {"V": 2.0, "n": 2.0, "vwap": 100.5})
    assert str(at[3]) in oneprice(*arguments, is_new=True).err


def test_compiling_is_told_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world(tmp_path)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "compiled"))
    run = ("kernels", "run", "sma", "--file", tmp_path / "prices.csv", "--input", "x=close")
    first, second = oneprice(*run, is_new=True), oneprice(*run, is_new=True)
    assert re.search(r"compiling sma \(once; kept on disk\): \d+\.\d s", first.err), first.err
    assert "compiling" not in second.err
    names = ("sma", "midprice", "lag", "diff")
    warmed = oneprice("kernels", "warm", *names, "--json", is_new=True).json
    assert set(warmed["compiled"]) == {"midprice", "lag", "diff"}
    assert all(seconds > 0.0 for seconds in warmed["compiled"].values())
    again = oneprice("kernels", "warm", *names, "--json", is_new=True).json
    assert (again["kernels"], again["compiled"]) == (4, {})
    assert again["seconds"] < warmed["seconds"]
    both = oneprice("kernels", "warm", "sma", "--family", "safety", "--json")
    assert "name kernels or a family, not both" in error_of(both)
