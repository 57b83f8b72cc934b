"""All kernels by name: those of the families below, in their order, and what entry points bring."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import entry_points

import msgspec

from oneprice.compute.kernels.definition import Kernel, KernelError
from oneprice.model.errors import unknown_name

FAMILIES = {  # family → its modules
    "statistics": ("statistics", "statistics_windows"),
    "microstructure": ("microstructure", "microstructure_book", "microstructure_flow"),
    "volatility": ("volatility", "tick_volatility"),
    "liquidity": ("liquidity",),
    "fx": ("fx",),
    "crypto": ("crypto", "crypto_venues"),
    "execution": ("execution", "execution_schedules", "execution_venues"),
    "risk": ("risk", "tail_risk", "portfolio"),
    "momentum": ("momentum", "filters"),
    "features": ("features", "shapes"),
    "transforms": ("transforms", "bars"),
    "quality": ("quality",),
    "safety": ("safety",),
    "cross_asset": ("cross_asset", "cross_asset_overlaps", "cross_asset_lead", "cross_asset_scaling", "cointegration"),
}
ENTRY_POINTS = "oneprice.kernels"


def _ours() -> Iterable[Kernel]:
    for family, modules in FAMILIES.items():
        for module in modules:
            for kernel in import_module(f"oneprice.compute.kernels.{module}").KERNELS:
                yield msgspec.structs.replace(kernel, family=family)


KERNELS: dict[str, Kernel] = {kernel.name: kernel for kernel in _ours()}
for _entry in entry_points(group=ENTRY_POINTS):
    KERNELS |= {kernel.name: kernel for kernel in _entry.load()}
ALIASES: dict[str, str] = {alias: kernel.name for kernel in KERNELS.values() for alias in kernel.aliases}


def find(name: str) -> Kernel:
    """The kernel of a name or alias. KernelError tells the nearest one."""
    found = KERNELS.get(ALIASES.get(name, name))
    if found is None:
        raise KernelError(unknown_name("kernel", name, [*KERNELS, *ALIASES]))
    return found
