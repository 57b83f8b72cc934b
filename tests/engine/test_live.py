"""Live runs against practice venues: what the ledger holds is what the venues did, also when the process was killed."""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import signal
import sys
from collections import Counter
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import aiohttp
import msgspec
import pytest
from live_trader import BUDGET, SETTINGS, VENUES

from oneprice.emulator.events import NewOrder
from oneprice.emulator.practice import ACCOUNT, PracticeVenues
from oneprice.engine.real_time import RealTimeRun
from oneprice.engine.settings import LiveSettings
from oneprice.engine.summary import RunSummary
from oneprice.engine.verify import verify_run
from oneprice.model.errors import InputError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import OrderType, ReportType, Side
from oneprice.model.progress import untold
from oneprice.trading.hosts import Access
from oneprice.trading.ledger import Ledger
from oneprice.venues.base import Endpoints
from patience import WITHIN_S

TRADER = Path(__file__).with_name("live_trader.py")


async def start(
    folder: Path, endpoints: dict[str, Endpoints], *, seconds: float, how: str
) -> asyncio.subprocess.Process:
    arguments = (str(TRADER), str(folder), msgspec.json.encode(endpoints).decode(), str(seconds), how)
    return await asyncio.create_subprocess_exec(
        sys.executable, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )


async def end(process: asyncio.subprocess.Process) -> RunSummary:
    out, err = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 0, err.decode()[-3000:]
    return msgspec.json.decode(out.splitlines()[-1], type=RunSummary)


def fills_in_ledger(folder: Path) -> Counter[tuple[str, int, Decimal, Decimal]]:
    """(instrument, trade id, price, quantity) of every fill that the run recorded."""
    table = InstrumentTable.from_json((folder / "session" / "instruments.json").read_bytes())
    aside = folder.with_name("read")  # opening a ledger writes into its file, and the run's is sealed
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    for part in folder.glob("ledger.sqlite*"):
        shutil.copy(part, aside)
    ledger = Ledger(aside / "ledger.sqlite")
    orders = {order.number: order for order in ledger.orders()}
    found = Counter(
        (rules.key, plain_id(report.trade_id), rules.price(report.price), rules.qty(report.qty))
        for report in ledger.reports()
        if report.type is ReportType.FILL and (rules := table[orders[report.order].instrument])
    )
    assert ledger.balanced()
    ledger.close()
    return found


def plain_id(trade_id: str) -> int:
    """Bybit's derivatives write a trade's number as a UUID."""
    return UUID(trade_id).int if "-" in trade_id else int(trade_id)


def fills_at_venues(practice: PracticeVenues) -> Counter[tuple[str, int, Decimal, Decimal]]:
    """The same, as the venues' own books have it."""
    return Counter(
        (rules.key, fill.trade_id, rules.price(fill.price), rules.qty(fill.qty))
        for exchange in practice.exchanges.values()
        for order, fill in exchange.fills(ACCOUNT)
        if (rules := exchange.instruments[order.symbol])
    )


async def test_a_live_run_records_what_the_venues_did_and_is_proven(tmp_path) -> None:
    async with PracticeVenues(seed=7, venues=VENUES) as practice:
        summary = await end(await start(tmp_path / "R", practice.endpoints, seconds=8.0, how="new"))
        assert summary.trades > 0 and summary.balanced and summary.reconciled is True
        assert fills_in_ledger(tmp_path / "R") == fills_at_venues(practice) != Counter()
    verdict = verify_run(tmp_path / "R", progress=untold)
    assert verdict.match and verdict.ledger_match, verdict.first


@pytest.mark.parametrize("point", range(2))
async def test_a_killed_live_run_goes_on_and_nothing_the_venues_did_is_missing(tmp_path, point) -> None:
    folder = tmp_path / "R"
    async with PracticeVenues(seed=7, venues=VENUES) as practice:
        process = await start(folder, practice.endpoints, seconds=60.0, how="new")
        async with asyncio.timeout(WITHIN_S):
            while not fills_at_venues(practice):
                assert process.returncode is None, (await process.communicate())[1].decode()[-3000:]
                await asyncio.sleep(0.01)
        await asyncio.sleep(random.Random(point).uniform(0.0, 1.5))  # the moment of the kill is what is drawn here
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        known = fills_in_ledger(folder)
        assert not known - fills_at_venues(practice)
        summary = await end(await start(folder, practice.endpoints, seconds=4.0, how="resume"))
        assert summary.balanced and summary.reconciled is True
        after = fills_in_ledger(folder)
        assert not known - after  # what had been acknowledged stands
        assert after == fills_at_venues(practice)
    verdict = verify_run(folder, progress=untold)
    assert (verdict.state, verdict.match, verdict.ledger_match) == ("closed", True, True), verdict.first


@pytest.mark.parametrize(
    ("budget", "place", "told"),
    [
        ({"USDT": Decimal(5_000_000)}, None, "USDT are free, and [live.balances] lets this run use 5000000"),
        (BUDGET, Side.BUY, "BTCUSDT holds 0.010, this run 0.000"),
        (BUDGET, Side.SELL, "BTCUSDT holds -0.010, this run 0.000"),
    ],
)
async def test_a_live_run_begins_within_its_money_and_flat(tmp_path, budget, place, told) -> None:
    live = LiveSettings(access=Access.PRACTICE, balances=dict.fromkeys(VENUES, budget))
    async with PracticeVenues(seed=7, venues=VENUES) as practice, aiohttp.ClientSession() as http:
        if place is not None:
            for name in ("binance_usdm", "bybit_linear"):
                exchange = practice.exchanges[name]
                qty = exchange.instruments["BTCUSDT"].qty_mantissa(Decimal("0.01"))
                new = NewOrder(symbol="BTCUSDT", side=place, type=OrderType.MARKET, qty=qty)
                exchange.place(ACCOUNT, new, practice.clock.now_ns())
        with pytest.raises(InputError, match=re.escape(told)):
            settings = msgspec.structs.replace(SETTINGS, live=live)
            await RealTimeRun.prepare(settings, tmp_path / "R", http=http, endpoints=practice.endpoints)
    assert not (tmp_path / "R").exists()
