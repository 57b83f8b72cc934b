"""Every benchmark in one run: `make bench`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

for path in sorted(Path(__file__).parent.glob("[a-z]*.py")):
    module = import_module(f"benchmarks.{path.stem}")
    if hasattr(module, "main"):
        print(f"\n== {path.stem}: {(module.__doc__ or '').splitlines()[0]}")
        module.main([])
