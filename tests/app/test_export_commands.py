"""Exports and queries through the commands, on a session that practice venues made and a run that traded on it."""

from __future__ import annotations

import json
import shutil
import sqlite3
from decimal import Decimal
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from command import oneprice

from hftbacktest_world import played
from oneprice.app.commands.export import fills_of
from oneprice.compute.books import apply_rows, level_qty, make_books
from oneprice.data.certify.names import session_names
from oneprice.data.session import Session, SessionWriter
from oneprice.engine.run import RunRecord, make_run_folder, sessions_used
from oneprice.engine.settings import RunSettings
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Order, Report, ReportType, Side
from oneprice.model.tape import Kind
from oneprice.trading.ledger import Ledger
from vectorbt_world import FILLS_HEADER, MARKET_HEADER, decimals, header, read, replayed_fills, traded_bars


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "run"
    done = oneprice("demo", "--headless", "--duration-secs", "8", "--seed", "7", "--out", out, "--json")
    assert done.code == 0, done.err
    assert done.json["fills"] > 0
    return out


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_over_a_session_is_traded_again_by_vectorbt(run_dir, tmp_path) -> None:
    before = content(run_dir)
    done = oneprice(
        "export-vectorbt", "--session-dir", run_dir / "session", "--run", run_dir, "--out-dir", tmp_path, "--bar", "1s",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert content(run_dir) == before  # a sealed run is only read
    assert header(tmp_path / "market.csv") == MARKET_HEADER
    assert header(tmp_path / "fills.csv") == FILLS_HEADER
    recorded = json.loads((run_dir / "summary.json").read_text())["fills"]
    assert replayed_fills(tmp_path / "fills.csv") == done.json["fills"] == recorded > 0
    assert traded_bars(tmp_path / "market.csv") > 0
    assert len(read(tmp_path / "market.csv")) == done.json["bars"]
    check_fills(run_dir, tmp_path)


def check_fills(run_dir: Path, tmp_path: Path) -> None:
    """fills.csv against a plain reading of the ledger's own view, in exact decimals."""
    instruments = Session.open(run_dir / "session").instruments
    names = session_names(instruments)
    aside = shutil.copy(run_dir / "ledger.sqlite", tmp_path)
    expected = []
    query = "SELECT instrument, side, price, qty, fee, fee_asset FROM fills ORDER BY seq"
    for i, side, price_mantissa, qty_mantissa, fee, asset in sqlite3.connect(aside).execute(query):
        price = instruments[i].price(price_mantissa)
        in_quote = Decimal(str(fee)) * (price if asset == instruments[i].base else 1)
        expected.append((names[i], {1: "BUY", -1: "SELL"}[side], price, instruments[i].qty(qty_mantissa), in_quote))
    fills = pd.read_csv(tmp_path / "fills.csv", dtype=str)
    columns = [decimals(tmp_path / "fills.csv", column) for column in ("price", "qty", "fee")]
    assert list(zip(fills["symbol"], fills["side"], *columns, strict=True)) == expected


def test_by_default_the_files_lie_in_the_session(run_dir, tmp_path) -> None:
    shutil.copytree(run_dir / "session", tmp_path / "S")
    done = oneprice("export-vectorbt", "--session-dir", tmp_path / "S", "--json")
    assert done.code == 0, done.err
    assert (tmp_path / "S/vectorbt/fills.csv").read_text() == FILLS_HEADER + "\n"
    assert done.json["bar"] == "1m"
    assert json.loads((tmp_path / "S/vectorbt/summary.json").read_text())["fills"] == 0


def test_fills_come_in_the_numbers_and_units_of_the_session_that_is_exported(tmp_path) -> None:
    """A run over two sessions numbers instruments by both, with exponents fine enough for both."""
    ours = Instrument(
        venue="bybit_spot", symbol="BTCUSDT", canonical="BTC/USDT", kind=InstrumentKind.SPOT, base="BTC", quote="USDT",
        price_exponent=-2, qty_exponent=-5,
    )  # fmt: skip
    finer = msgspec.structs.replace(ours, price_exponent=-4)
    elsewhere = msgspec.structs.replace(ours, venue="binance_spot")
    sessions = []
    for name, instruments in (("A", [ours]), ("B", [elsewhere, finer])):
        SessionWriter(tmp_path / name, InstrumentTable(instruments), source="test", created_ns=1).close(closed_ns=2)
        sessions.append(Session.open(tmp_path / name))
    make_run_folder(tmp_path / "R", RunRecord(settings=RunSettings(), sessions=sessions_used(sessions)))
    ledger = Ledger(tmp_path / "R" / "ledger.sqlite")
    for number in (0, 1):  # binance_spot comes first in what both make together
        ledger.order(Order(number=number + 1, instrument=number, side=Side.BUY, qty=7))
        ledger.report(Report(order=number + 1, type=ReportType.FILL, ts_ns=9, price=50_000_0000, qty=7))
    ledger.report(Report(order=1, type=ReportType.CANCELLED, ts_ns=10))
    ledger.close()
    (fill,) = fills_of(tmp_path / "R", sessions[0])
    assert (fill.instrument, fill.is_buy, fill.ts_ns) == (0, True, 9)
    assert (fill.price, fill.qty) == (Decimal(50_000), Decimal("0.00007"))
    assert [one.instrument for one in fills_of(tmp_path / "R", sessions[1])] == [0, 1]


def test_a_run_over_another_session_is_refused(run_dir, tmp_path) -> None:
    other = shutil.copytree(run_dir / "session", tmp_path / "S")
    (other / "session_manifest.json.sha256").unlink()  # a copy without a seal is not known for the same
    with pytest.raises(InputError, match="was made over"):
        fills_of(run_dir, Session.open(other))


def test_parquet_tables_are_written_below_the_folder(run_dir, tmp_path) -> None:
    done = oneprice(
        "export", "--session-dir", run_dir / "session", "--format", "parquet", "--out-dir", tmp_path, "--json"
    )
    assert done.code == 0, done.err
    assert sorted(content(tmp_path)) == done.json["files"]
    names = session_names(Session.open(run_dir / "session").instruments)
    assert {f"{name}/depth.parquet" for name in names} <= set(done.json["files"])


def test_hftbacktest_ends_with_our_books(run_dir, tmp_path) -> None:
    session = Session.open(run_dir / "session")
    done = oneprice(
        "export", "--session-dir", session.folder, "--format", "hftbacktest", "--out-dir", tmp_path, "--json"
    )
    assert done.code == 0, done.err
    books = make_books(len(session.instruments))
    for rows in session.rows():
        apply_rows(books, rows, 0, len(rows))
    for i, (name, instrument) in enumerate(zip(session_names(session.instruments), session.instruments, strict=True)):
        assert f"{name}.npz" in done.json["files"]
        tick = instrument.tick
        bid, ask = int(books.best_bid[i]), int(books.best_ask[i])
        assert 0 < bid < ask
        found = played(
            tmp_path / f"{name}.npz", tick_size=float(instrument.price(tick)), lot_size=float(instrument.qty(instrument.lot)),
            asked=[(0, bid // tick), (1, ask // tick)],
        )  # fmt: skip
        assert (found.best_bid_tick, found.best_ask_tick) == (bid // tick, ask // tick)
        for side, price in ((0, bid), (1, ask)):
            expected = float(instrument.qty(int(level_qty(books, i, side, price))))
            assert found.qty[side, price // tick] == pytest.approx(expected, rel=1e-12)


def test_a_question_in_sql_is_answered(run_dir) -> None:
    session = run_dir / "session"
    before = content(session)
    done = oneprice(
        "query", session, "select symbol, count(*) as n from trades group by symbol order by symbol", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["columns"] == ["symbol", "n"]
    tape = Session.open(session).rows()
    assert sum(count for _, count in done.json["rows"]) == sum(int((rows["kind"] == Kind.TRADE).sum()) for rows in tape)
    shown = oneprice("query", session, "select * from depth", "--limit", "3")
    assert shown.code == 0
    assert "the first 3 rows" in shown.err
    assert content(session) == before


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("query", "{S}", "select nope from trades"), 2, "nope"),
        (("query", "{T}/none", "select 1"), 4, "no such session"),
        (("export-vectorbt", "--session-dir", "{S}", "--run", "{T}", "--out-dir", "{T}/V"), 4, "no run is here"),
    ],
)
def test_what_cannot_be_done_is_told(run_dir, tmp_path, arguments, code, said) -> None:
    filled = [argument.format(S=run_dir / "session", T=tmp_path) for argument in arguments]
    done = oneprice(*filled, "--json")
    assert (done.code, said in done.json["error"]) == (code, True), done.json
    assert not (tmp_path / "V").exists()
