"""Where ccxt finds a practice venue: the `urls` overrides of an otherwise unmodified client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ccxt

from oneprice.venues.base import Endpoints


def binance_overrides(endpoints: Mapping[str, Endpoints]) -> dict[str, Any]:
    """Constructor options for ccxt's `binance`: REST, streams, user data, and which markets to load.

    ccxt picks its table of futures error codes by the host's name, which loopback does not have: the codes that only
    that table knows are added to the common one, so that errors come as they do from the venue.
    """
    api: dict[str, Any] = {"ws": {"ws-api": {}}}
    types = []
    spot, usdm = endpoints.get("binance_spot"), endpoints.get("binance_usdm")
    if spot is not None:
        api |= {"public": f"{spot.rest}/api/v3", "private": f"{spot.rest}/api/v3", "v1": f"{spot.rest}/api/v1"}
        for name in ("sapi", "sapiV2", "sapiV3", "sapiV4"):
            api[name] = f"{spot.rest}/sapi/v1"
        # ccxt tells spot's sockets from others by "/stream" in the address, as in stream.binance.com.
        api["ws"]["spot"] = f"{spot.ws['public']}/stream.practice/ws"
        api["ws"]["ws-api"]["spot"] = spot.ws["ws-api"]
        types.append("spot")
    if usdm is not None:
        for version, path in (("", "v1"), ("V2", "v2"), ("V3", "v3")):
            api[f"fapiPublic{version}"] = api[f"fapiPrivate{version}"] = f"{usdm.rest}/fapi/{path}"
        api["fapiData"] = f"{usdm.rest}/futures/data"
        api["ws"]["linear"] = f"{usdm.ws['public'].removesuffix('/public')}/ws"
        api["ws"]["ws-api"]["linear"] = usdm.ws["ws-api"]
        types.append("linear")
    tables = ccxt.binance().describe()["exceptions"]
    futures = {code: error for code, error in tables["linear"]["exact"].items() if code not in tables["exact"]}
    return {
        "urls": {"api": api},
        "options": {"fetchMarkets": {"types": types}, "fetchCurrencies": False, "fetchMargins": False},
        "exceptions": {"exact": futures if usdm is not None else {}},
    }


def bybit_overrides(endpoints: Mapping[str, Endpoints]) -> dict[str, Any]:
    """Constructor options for ccxt's `bybit`: REST, streams, private stream, order entry, and which markets to load."""
    present = {name: endpoints[f"bybit_{name}"] for name in ("spot", "linear") if f"bybit_{name}" in endpoints}
    some = next(iter(present.values()))
    return {
        "urls": {
            "api": {
                **dict.fromkeys(("public", "private", "spot", "futures", "v2"), some.rest),
                "ws": {
                    "public": {name: place.ws["public"] for name, place in present.items()},
                    "private": {"contract": some.ws["private"], "trade": some.ws["trade"]},
                },
            }
        },
        "options": {"fetchMarkets": {"types": list(present)}},
    }


def overrides_by_exchange(endpoints: Mapping[str, Endpoints]) -> dict[str, dict[str, Any]]:
    """Constructor options of every ccxt exchange that these practice venues stand for."""
    made = {}
    if {"binance_spot", "binance_usdm"} & endpoints.keys():
        made["binance"] = binance_overrides(endpoints)
    if {"bybit_spot", "bybit_linear"} & endpoints.keys():
        made["bybit"] = bybit_overrides(endpoints)
    return made
