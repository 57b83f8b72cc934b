"""A live run in a process of its own, to be killed: `live_trader.py FOLDER ENDPOINTS_JSON SECONDS new|resume`."""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

import aiohttp
import msgspec

from oneprice.engine.real_time import RealTimeRun
from oneprice.engine.settings import LiveSettings, Mode, RunSettings
from oneprice.trading.hosts import Access
from oneprice.venues.base import Endpoints

BUDGET = {"USDT": Decimal(50_000), "BTC": Decimal(1), "ETH": Decimal(20), "SOL": Decimal(400), "BNB": Decimal(50)}
VENUES = ("binance_spot", "binance_usdm", "bybit_linear", "bybit_spot")
SETTINGS = RunSettings(
    mode=Mode.LIVE, venues=VENUES,
    live=LiveSettings(access=Access.PRACTICE, balances=dict.fromkeys(VENUES, BUDGET)),
)  # fmt: skip


async def main(folder: Path, endpoints: dict[str, Endpoints], seconds: float, *, resumes: bool) -> None:
    async with aiohttp.ClientSession() as http:
        if resumes:
            run = await RealTimeRun.resume(folder, http=http, endpoints=endpoints)
        else:
            run = await RealTimeRun.prepare(SETTINGS, folder, http=http, endpoints=endpoints)
        summary = await run.go(duration_s=seconds)
    sys.stdout.write(msgspec.json.encode(summary, enc_hook=str).decode() + "\n")


if __name__ == "__main__":
    asyncio.run(
        main(
            Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=dict[str, Endpoints]), float(sys.argv[3]),
            resumes=sys.argv[4] == "resume",
        )
    )  # fmt: skip
