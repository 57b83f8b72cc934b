"""Makes the helper modules importable from every test folder, and gives property tests as long as they need: a first
example compiles, and the machine may be busy."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "strategies"))
sys.path.insert(0, str(Path(__file__).parent / "app"))
settings.register_profile("oneprice", deadline=None)
settings.load_profile("oneprice")
