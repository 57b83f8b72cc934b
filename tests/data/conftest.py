"""What several tests of this folder share: the recordings of 2024-08-08, imported once, and a capture with faults."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import NamedTuple

import pytest
from faulty_world import faulty_session

from oneprice.data.importer import ImportResult, import_recordings
from oneprice.data.session import Session
from shared_data import shared


class Imported(NamedTuple):
    session: Session
    result: ImportResult
    progress: list[tuple[float, str]]


@pytest.fixture(scope="session")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Imported:
    """All five files (spot, USD-M, COIN-M) as one session."""
    out: Path = tmp_path_factory.mktemp("recordings") / "S"
    told: list[tuple[float, str]] = []
    result = import_recordings(
        sorted(shared("data/market/binance_2024-08-08").glob("*.gz")), out, progress=lambda *step: told.append(step)
    )
    return Imported(Session.open(out), result, told)


@pytest.fixture(scope="session")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A capture of the practice venues at which each symbol had a trouble of its own, or none."""
    folder = tmp_path_factory.mktemp("faulty")
    faults = [
        "gap@binance_spot:BTCUSDT",
        "crossed_book@binance_spot:ETHUSDT,count=3,every=0.5",
        "disconnect@binance_usdm",
        "duplicate@bybit_linear:BTCUSDT",
        "reorder@bybit_linear:ETHUSDT",
    ]
    # Once for the compiler: what it takes on a cold cache would be a fault of its own.
    asyncio.run(faulty_session(folder / "compiled", faults, goes_on_s=0.2))
    ahead = ["clock_skew@bybit_linear,for=3"]
    return asyncio.run(faulty_session(folder / "S", [*faults, "stall@bybit_spot,for=5"], at_once=ahead))
