"""Venues by name: ours, those that installed packages bring, and names nobody knows."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from oneprice.model.errors import InputError
from oneprice.venues import registry
from oneprice.venues.base import Venue
from oneprice.venues.binance_spot import BINANCE_SPOT
from oneprice.venues.registry import VENUES, venue


def test_a_venue_is_found_by_its_name_and_is_one_object() -> None:
    for name in VENUES:
        assert isinstance(venue(name), Venue)
        assert venue(name) is VENUES[name]
        assert venue(name).name == name


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(InputError, match="unknown venue 'binance_sport'; did you mean 'binance_spot'"):
        venue("binance_sport")
    assert "binance_sport" not in VENUES
    with pytest.raises(KeyError):
        VENUES["binance_sport"]


def test_naming_the_venues_imports_none_of_them() -> None:
    program = (
        "import sys; from oneprice.venues.registry import VENUES; assert len(list(VENUES)) == len(VENUES) >= 6;"
        "loaded = [m for m in sys.modules if m.startswith('oneprice.venues.b') and m != 'oneprice.venues.base'];"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def _with_entries(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> Any:
    def found(*, group: str) -> tuple[EntryPoint, ...]:
        assert group == "oneprice.venues"
        return entries

    monkeypatch.setattr(registry, "entry_points", found)
    return registry._Venues()


def test_a_package_brings_its_venue_and_cannot_take_a_name_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    venues = _with_entries(
        monkeypatch,
        EntryPoint("there_linear", f"{__name__}:THEIRS", "oneprice.venues"),
        EntryPoint("binance_spot", f"{__name__}:THEIRS", "oneprice.venues"),
    )
    assert venues["there_linear"].name == "there_linear"
    assert venues["binance_spot"] is BINANCE_SPOT
    assert len(venues) == len(VENUES) + 1


@pytest.mark.parametrize("attribute", ["NOT_A_VENUE", "MISNAMED"])
def test_a_package_whose_entry_is_no_venue_of_that_name_is_named(
    monkeypatch: pytest.MonkeyPatch, attribute: str
) -> None:
    venues = _with_entries(monkeypatch, EntryPoint("theirs", f"{__name__}:{attribute}", "oneprice.venues"))
    with pytest.raises(InputError, match="entry point 'theirs'"):
        venues["theirs"]


def _renamed(name: str) -> Venue:
    fields = {field: getattr(BINANCE_SPOT, field) for field in BINANCE_SPOT.__struct_fields__}
    return Venue(**{**fields, "name": name})


THEIRS, MISNAMED, NOT_A_VENUE = _renamed("there_linear"), _renamed("someone"), object()
