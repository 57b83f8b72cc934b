"""Where the recorded market data and payloads lie: the folder `shared` beside the repository, or `ONEPRICE_SHARED`."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(os.environ.get("ONEPRICE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared(path: str) -> Path:
    """A file or folder of the shared data; an error that names it when it is not there."""
    found = ROOT / path
    if not found.exists():
        raise FileNotFoundError(f"{found}: the recorded data is not there; set ONEPRICE_SHARED to its folder")
    return found
