"""The strategies by name: one line each. Third parties add theirs through the entry point group `oneprice.strategies`,
whose entries name a `(StrategyClass, SettingsStruct)` pair."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

import msgspec

from oneprice.model.errors import InputError, unknown_name
from oneprice.strategies.base import Strategy
from oneprice.strategies.basis import Basis, BasisSettings
from oneprice.strategies.spread import Spread, SpreadSettings
from oneprice.strategies.triangular import Triangular, TriangularSettings

STRATEGIES: dict[str, tuple[Any, type[msgspec.Struct]]] = {
    "triangular": (Triangular, TriangularSettings),
    "spread": (Spread, SpreadSettings),
    "basis": (Basis, BasisSettings),
}


def known_strategies() -> dict[str, tuple[Any, type[msgspec.Struct]]]:
    """Ours and those that installed packages bring."""
    found = dict(STRATEGIES)
    for entry in entry_points(group="oneprice.strategies"):
        found.setdefault(entry.name, entry.load())
    return found


def make_strategy(name: str, settings: dict[str, Any] | None = None) -> Strategy:
    """A strategy by name with its settings; InputError with the nearest name, or with the key that does not fit."""
    known = known_strategies()
    if name not in known:
        raise InputError(unknown_name("strategy", name, known))
    kind, settings_type = known[name]
    values = settings or {}
    fields = {field.name for field in msgspec.structs.fields(settings_type)}
    for key in values:
        if key not in fields:
            raise InputError(unknown_name("key", key, fields, where=f"[strategies.{name}]"))
    try:
        made: Strategy = kind(msgspec.convert(values, settings_type))
    except msgspec.ValidationError as wrong:
        raise InputError(f"[strategies.{name}]: {wrong}") from wrong
    return made
