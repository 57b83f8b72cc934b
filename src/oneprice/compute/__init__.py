"""Pure numbers, compiled: reading wire bytes, order books, and what is computed from them. No I/O, no venue.

Kernels are here as functions of columns, by their names, beside the joins and the scan:

    from oneprice.compute import asof_join, midprice, scan_pairs
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

_FUNCTIONS = {
    "asof_align": "asof.joins", "asof_join": "asof.joins", "StreamingAsof": "asof.streaming", "scan_pairs": "cointegration",
    "compute": "kernels.streaming", "Streaming": "kernels.streaming", "Feature": "kernels.pipeline",
    "Pipeline": "kernels.pipeline", "Partitioned": "kernels.partitioned", "core48": "kernels.core48",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    """On demand: whoever needs a book does not load 142 kernels."""
    if name in _FUNCTIONS:
        return getattr(import_module(f"{__name__}.{_FUNCTIONS[name]}"), name)
    if name.startswith("_") or find_spec(f"{__name__}.{name}") is not None:  # a module that is about to be imported
        raise AttributeError(name)
    registry = import_module(f"{__name__}.kernels.registry")
    if name in registry.KERNELS or name in registry.ALIASES:
        return partial(import_module(f"{__name__}.kernels.streaming").compute, name)
    raise AttributeError(f"module {__name__} has no attribute {name}, and there is no kernel of that name")
