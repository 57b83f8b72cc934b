"""Makes the helper modules importable from every test folder, and gives property tests as long as they need: a first
example compiles, and the machine may be busy. What takes long comes first, so that nobody waits for it at the end."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import settings
from numba.core import event

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent / "strategies"))
sys.path.insert(0, str(Path(__file__).parent / "app"))
settings.register_profile("oneprice", deadline=None)
settings.load_profile("oneprice")

# Whole runs and captures, killed, resumed and proven, wait as much as they compute. The first of them compiles for all others,
# so meanwhile the other workers do what needs none of that.
LONG = (
    "app/test_session_script.py", "compute/test_kernel_laws.py", "compute/test_cointegration.py", "compute/test_asof.py",
    "compute/test_asof_streaming.py", "compute/test_numbers.py", "compute/test_special.py", "emulator/test_exchange.py",
    "app/test_kill.py", "engine/test_live.py", "app/test_certified_session.py", "app/test_kernels_command.py",
    "app/test_export_commands.py", "app/test_recording.py", "data/test_gates.py", "app/test_capture_funding.py",
    "data/test_samples.py", "app/test_demo.py", "data/test_accelerated.py", "data/test_resume.py", "app/test_report.py",
)  # fmt: skip

# Each worker imports all modules: what one compiles when it is imported, all would compile, side by side.
compiled_by_imports = event.RecordingListener()
event.register("numba:compile", compiled_by_imports)


def pytest_collection_finish() -> None:
    event.unregister("numba:compile", compiled_by_imports)
    names = sorted({one.data["dispatcher"].__name__ for _, one in compiled_by_imports.buffer})
    if names:
        raise pytest.UsageError(f"test modules compile when they are imported, each worker anew: {', '.join(names)}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    rank = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
