"""The configuration file: TOML, every key known, every value checked, and a commented example that parses.

oneprice run --generate-config > oneprice.toml
oneprice run --config oneprice.toml"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_origin

import msgspec

from oneprice.engine.settings import Mode, RunSettings
from oneprice.model.errors import ConfigError, unknown_name
from oneprice.strategies.registry import known_strategies
from oneprice.trading.hosts import Access

EXAMPLE = """\
# oneprice: what to watch and how to trade it. Every key is optional; what stands here are the defaults.

mode = "paper"                      # demo | paper | backtest | live
venues = ["binance_sbe", "binance_usdm", "bybit_linear", "bybit_spot"]
cooldown_ms = 250                   # a traded or refused opportunity rests this long
timer_ms = 10                       # backtest: how often strategies look, when the session does not say

# [symbols]                         # native symbols by venue; a venue that is not named: all that strategies want
# binance_sbe = ["BTCUSDT", "ETHUSDT", "ETHBTC"]

[strategies.triangular]
start_assets = ["USDT"]
min_gross_bps = 5.0                 # from here on an opportunity is counted
min_net_bps = 1.0                   # from here on, after the fees of every fill, it is traded
max_notional = 5000.0               # of the start asset
max_age_ms = 3000                   # a book older than this is not traded on

[strategies.spread]
min_gross_bps = 5.0
min_net_bps = 1.0
exit_bps = 2.0                      # a held pair is left when leaving costs no more than this
max_hold_s = 30.0
quotes = ["USDT", "USDC", "USD"]
max_notional = 5000.0
max_age_ms = 3000

[strategies.basis]
min_gross_bps = 5.0
min_net_bps = 1.0
exit_bps = 2.0
max_hold_s = 30.0
quotes = ["USDT", "USDC", "USD"]
max_notional = 5000.0
max_age_ms = 3000
across_venues = true

# [limits]                          # a live run needs this table in its file; no order may exceed it
# max_order_notional = 20000        # quote units, as all of these
# max_position_notional = 50000     # of a perpetual
# max_total_exposure = 200000       # of all perpetuals, longs and shorts added

# [live]                            # --mode live; keys come from the environment or .env, never from here
# access = "testnet"                # testnet | live
# [live.balances.binance_usdm]      # what of each venue's account the run may use
# USDT = 500

[paper.balances]                    # what the account of every venue starts with
USDT = 100000
USDC = 100000
USD = 100000
BTC = 2
ETH = 40
BNB = 200
SOL = 800
XRP = 50000
"""

_LIVE_LIMITS = ("max_order_notional", "max_position_notional", "max_total_exposure")


def load_settings(path: Path | None, overrides: Mapping[str, Any]) -> RunSettings:
    """The settings of a file with the command line's values on top; ConfigError names file, table and key."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
        except FileNotFoundError:
            raise ConfigError(
                f"{path}: no such configuration file; `oneprice run --generate-config` prints one"
            ) from None
        except tomllib.TOMLDecodeError as wrong:
            raise ConfigError(f"{path}: not valid TOML: {wrong}") from wrong
    where = str(path) if path is not None else "the configuration"
    values = {**values, **overrides}
    _check_keys(values, RunSettings, where)
    _check_strategies(values.get("strategies", {}), where)
    try:
        settings = msgspec.convert(_plain(values), RunSettings, strict=False)
    except msgspec.ValidationError as wrong:
        raise ConfigError(f"{where}: {wrong}") from wrong
    if settings.mode is Mode.LIVE:
        _require_live(settings, values, where)
    return settings


def _require_live(settings: RunSettings, values: Mapping[str, Any], where: str) -> None:
    """Live is opt-in twice: besides the mode, the file itself sets the limits and what of each account may be used."""
    absent = [name for name in _LIVE_LIMITS if name not in values.get("limits", {})]
    if absent:
        raise ConfigError(
            f"{where}: live trading needs {', '.join(absent)} in [limits]; no default decides how much real money an order "
            "may move"
        )
    for venue in settings.venues:
        if not settings.live.balances.get(venue):
            raise ConfigError(
                f"{where}: live trading needs [live.balances.{venue}]: what of that account the run may use, e.g. USDT = 500"
            )
    if settings.live.access not in (Access.TESTNET, Access.LIVE):
        raise ConfigError(
            f"{where}, [live]: access '{settings.live.access}' is not one to choose; 'testnet' or 'live' (practice venues: "
            "--emulated)"
        )


def _check_strategies(tables: Mapping[str, Any], where: str) -> None:
    known = known_strategies()
    for name, table in tables.items():
        if name not in known:
            raise ConfigError(unknown_name("strategy", name, known, where=where))
        _check_keys(table, known[name][1], f"{where}, [strategies.{name}]")


def _check_keys(values: Mapping[str, Any], kind: Any, where: str) -> None:
    """Unknown keys, with the nearest known one, at any depth of nested settings."""
    fields = {field.name: field.type for field in msgspec.structs.fields(kind)}
    for key, value in values.items():
        if key not in fields:
            raise ConfigError(unknown_name("key", key, fields, where=where))
        nested = _struct_in(fields[key])
        if nested is not None and isinstance(value, Mapping):
            _check_keys(value, nested, f"{where}, [{key}]")


def _struct_in(kind: Any) -> type[msgspec.Struct] | None:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return kind
    if get_origin(kind) is not None and type(None) in get_args(kind):
        return next((found for member in get_args(kind) if (found := _struct_in(member))), None)
    return None


def _plain(values: Any) -> Any:
    """Decimals of the TOML text as numbers or, where money is wanted, as exact text."""
    if isinstance(values, Mapping):
        return {key: _plain(value) for key, value in values.items()}
    if isinstance(values, list):
        return [_plain(value) for value in values]
    return values
