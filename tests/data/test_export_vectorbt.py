"""market.csv, fills.csv and summary.json: the seed's columns, exact numbers, and what the real vectorbt makes of them."""

from __future__ import annotations

import json
import random
from decimal import Decimal

import pandas as pd
import pytest
from export_world import WORLD, random_tape
from session_world import T0_NS, written

from oneprice.data.export.bars import BarMaker, parse_bar
from oneprice.data.export.fills import RunFill
from oneprice.data.export.vectorbt import export_vectorbt
from oneprice.model.errors import InputError
from oneprice.model.time import NS_PER_S
from vectorbt_world import FILLS_HEADER, MARKET_HEADER, decimals, header, read, replayed_fills, traded_bars


@pytest.fixture
def session(tmp_path):
    return written(tmp_path / "S", [random_tape(7)], instruments=list(WORLD))


def random_fills(count: int) -> list[RunFill]:
    rng = random.Random(7)
    return [
        RunFill(
            ts_ns=T0_NS + k * NS_PER_S, instrument=rng.randrange(1, 3), is_buy=rng.random() < 0.5,
            price=Decimal(rng.randrange(5_000, 6_000)) / 100, qty=Decimal(rng.randrange(1, 500)) / 100,
            fee=Decimal(rng.randrange(-5, 50)) / 1000, fee_asset="USDT",
        )
        for k in range(count)
    ]  # fmt: skip


def test_the_files_have_the_columns_that_researchers_expect(session, tmp_path) -> None:
    export_vectorbt(session, tmp_path / "V", bar="1s", fills=random_fills(5), run="R")
    assert header(tmp_path / "V/market.csv") == MARKET_HEADER
    assert header(tmp_path / "V/fills.csv") == FILLS_HEADER
    fills = pd.read_csv(tmp_path / "V/fills.csv")
    assert fills["timestamp"][0] == "2023-11-14T22:13:20Z"
    assert set(fills["side"]) == {"BUY", "SELL"}
    assert sorted(path.name for path in (tmp_path / "V").iterdir()) == ["fills.csv", "market.csv", "summary.json"]


def test_without_fills_there_is_the_header_alone(session, tmp_path) -> None:
    export_vectorbt(session, tmp_path / "V", bar="1s")
    assert (tmp_path / "V/fills.csv").read_text() == FILLS_HEADER + "\n"


def test_market_holds_the_bars_of_every_symbol_exactly(session, tmp_path) -> None:
    export_vectorbt(session, tmp_path / "V", bar="1s")
    maker = BarMaker(WORLD, parse_bar("1s"))
    for rows in session.rows():
        maker.take(rows)
    market = pd.read_csv(tmp_path / "V/market.csv", dtype=str, keep_default_na=False)
    names = dict(zip(("BTCUSD_PERP", "BTCUSDT", "BTCUSDT_PERP"), maker.finish(), strict=True))
    assert set(market["symbol"]) == set(names)
    for i, (name, bars) in enumerate(names.items()):
        rows = market[market["symbol"] == name].reset_index(drop=True)
        assert (
            pd.to_datetime(rows["timestamp"]).astype("datetime64[ns, UTC]").astype("int64").tolist()
            == bars.start_ns.tolist()
        )
        for column in ("open", "high", "low", "close"):
            assert [Decimal(text) for text in rows[column]] == [
                WORLD[i].price(one) for one in getattr(bars, column).tolist()
            ]
        assert sum(map(Decimal, rows["volume"])) == Decimal(int(bars.volume.sum())).scaleb(bars.volume_exponent)
        for row, bid, ask in zip(rows.itertuples(), bars.bid.tolist(), bars.ask.tolist(), strict=True):
            assert (row.bid == "", row.ask == "") == (bid == 0, ask == 0)
            if bid and ask:
                assert Decimal(row.spread) == Decimal(row.ask) - Decimal(row.bid)
                assert 2 * Decimal(row.mid) == Decimal(row.ask) + Decimal(row.bid)
            else:
                assert (row.spread, row.mid) == ("", "")
    assert (market["bid"] == "").any() and (market["mid"] != "").any()  # the tape has gaps


def test_vectorbt_moves_the_cash_that_the_fills_moved(session, tmp_path) -> None:
    export_vectorbt(session, tmp_path / "V", bar="1s", fills=random_fills(200), run="R")
    assert replayed_fills(tmp_path / "V/fills.csv") == 200


def test_vectorbt_trades_real_bars(imported, tmp_path) -> None:
    summary = export_vectorbt(imported.session, tmp_path / "V", bar="1s")
    assert traded_bars(tmp_path / "V/market.csv") > 50
    market = read(tmp_path / "V/market.csv")
    assert len(market) == summary.bars > 1_500
    assert market["symbol"].nunique() == 3
    assert ((market["low"] <= market["close"]) & (market["close"] <= market["high"])).all()
    assert summary.gaps == 0 and summary.session_source == "import"


def test_the_summary_tells_what_the_files_hold(session, tmp_path) -> None:
    export_vectorbt(session, tmp_path / "V", bar="1m", fills=random_fills(50), run="R")
    summary = json.loads((tmp_path / "V/summary.json").read_text())
    fills = pd.read_csv(tmp_path / "V/fills.csv")
    assert summary["bars"] == len(read(tmp_path / "V/market.csv")) == sum(one["bars"] for one in summary["symbols"])
    assert (summary["fills"], summary["run"], summary["bar"]) == (50, "R", "1m")
    assert summary["session_seal"] == session.seal
    assert summary["gaps"] > 0
    of_quote = summary["fills_by_quote"]["USDT"]
    assert Decimal(of_quote["pnl"]) == sum(decimals(tmp_path / "V/fills.csv", "pnl"))
    assert Decimal(of_quote["fees"]) == sum(decimals(tmp_path / "V/fills.csv", "fee"))
    signed = fills["qty"].where(fills["side"] == "BUY", -fills["qty"])
    closing = fills[(fills["position"] - signed) * signed < -1e-9]
    assert of_quote["closing"] == len(closing)
    assert of_quote["win_rate"] == pytest.approx((closing["pnl"] > 0).mean())
    won, lost = closing["pnl"].clip(lower=0).sum(), -closing["pnl"].clip(upper=0).sum()
    assert of_quote["profit_factor"] == pytest.approx(won / lost)


def test_a_session_without_rows_gives_headers(tmp_path) -> None:
    empty = written(tmp_path / "E", [], instruments=list(WORLD))
    summary = export_vectorbt(empty, tmp_path / "V", bar="1m")
    assert (summary.bars, summary.first, summary.seconds) == (0, "", 0.0)
    assert (tmp_path / "V/market.csv").read_text() == MARKET_HEADER + "\n"


def test_what_fails_leaves_the_earlier_files_as_they_were(session, tmp_path) -> None:
    export_vectorbt(session, tmp_path / "V", bar="1s")
    before = {path.name: path.read_bytes() for path in (tmp_path / "V").iterdir()}
    strange = RunFill(
        ts_ns=T0_NS, instrument=0, is_buy=True, price=Decimal(1), qty=Decimal(1), fee=Decimal(1), fee_asset="X"
    )
    with pytest.raises(InputError, match="paid its fee in X"):
        export_vectorbt(session, tmp_path / "V", bar="1s", fills=[strange])
    with pytest.raises(InputError, match="not a bar"):
        export_vectorbt(session, tmp_path / "V", bar="soon")
    assert {path.name: path.read_bytes() for path in (tmp_path / "V").iterdir()} == before
