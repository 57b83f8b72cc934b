"""What several tests of this folder share: the recordings of 2024-08-08, imported once."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

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
