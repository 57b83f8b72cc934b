"""The venues by name: one line each, imported when first asked for. Third parties add theirs through the entry point
group `oneprice.venues`, whose entries name a `Venue`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points

from oneprice.model.errors import InputError, unknown_name
from oneprice.venues.base import Venue

_GROUP = "oneprice.venues"
_OURS = {
    "binance_spot": ("oneprice.venues.binance_spot", "BINANCE_SPOT"),
    "binance_sbe": ("oneprice.venues.binance_sbe", "BINANCE_SBE"),
    "binance_usdm": ("oneprice.venues.binance_usdm", "BINANCE_USDM"),
    "binance_coinm": ("oneprice.venues.binance_coinm", "BINANCE_COINM"),
    "bybit_spot": ("oneprice.venues.bybit", "BYBIT_SPOT"),
    "bybit_linear": ("oneprice.venues.bybit", "BYBIT_LINEAR"),
}


class _Venues(Mapping[str, Venue]):
    """Ours and those that installed packages bring; a name of ours cannot be taken over."""

    def __init__(self) -> None:
        self._loaded: dict[str, Venue] = {}
        self._theirs = {entry.name: entry for entry in entry_points(group=_GROUP) if entry.name not in _OURS}

    def __getitem__(self, name: str) -> Venue:
        if name not in self._loaded:
            if name in _OURS:
                module, attribute = _OURS[name]
                self._loaded[name] = getattr(import_module(module), attribute)
            else:
                loaded = self._theirs[name].load()
                if not isinstance(loaded, Venue) or loaded.name != name:
                    raise InputError(f"entry point '{name}' of {_GROUP}: not a Venue of that name: {loaded!r:.80}")
                self._loaded[name] = loaded
        return self._loaded[name]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*_OURS, *self._theirs}))

    def __len__(self) -> int:
        return len({*_OURS, *self._theirs})


VENUES: Mapping[str, Venue] = _Venues()


def venue(name: str) -> Venue:
    """A venue by name; InputError with the nearest known name."""
    if name not in VENUES:
        raise InputError(unknown_name("venue", name, VENUES))
    return VENUES[name]
