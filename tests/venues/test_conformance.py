"""Every venue of the registry keeps every law; and the registry holds exactly the venues that there are."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import pytest
from conformance import LAWS, OPT_OUTS
from hypothesis import given, settings
from hypothesis import strategies as st

import oneprice.venues
from oneprice.venues.base import Venue
from oneprice.venues.registry import VENUES, venue

NAMES = ["binance_coinm", "binance_sbe", "binance_spot", "binance_usdm", "bybit_linear", "bybit_spot"]


def test_the_registry_holds_exactly_the_venues_that_the_modules_define() -> None:
    defined = {}
    for module in pkgutil.iter_modules(oneprice.venues.__path__, "oneprice.venues."):
        for value in vars(importlib.import_module(module.name)).values():
            if isinstance(value, Venue):
                defined[value.name] = value
    assert sorted(defined) == list(VENUES) == NAMES
    assert all(VENUES[name] is defined[name] for name in NAMES)


def test_an_opt_out_names_a_venue_of_the_registry_and_a_reason() -> None:
    assert {name for name, _ in OPT_OUTS} <= set(VENUES)
    assert all(len(reason) > 20 for reason in OPT_OUTS.values())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
@settings(max_examples=25)
@given(data=st.data())
def test_a_venue_keeps_the_law(name: str, law: Callable[[Venue, Any], None], data: Any) -> None:
    law(venue(name), data)
