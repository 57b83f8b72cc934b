"""What a capture records where: families, profiles, session names, and who trades what."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from session_world import spot

from oneprice.data.certify.names import session_names
from oneprice.data.universe import PROFILES, SBE_KEY, channels, products, profile, venue_plans
from oneprice.model.errors import ConfigError, InputError
from oneprice.model.instrument import InstrumentKind, InstrumentTable
from oneprice.venues.base import Channel

WANTED = channels(include_trades=True, include_funding=False)
CORE = PROFILES["arbitrage-core"].symbols


def plans(venues: str, symbols: str | tuple[str, ...], **more: object) -> dict[str, tuple[str, ...]]:
    wanted = symbols.split(",") if isinstance(symbols, str) else symbols
    return {
        name: plan.symbols for name, plan in venue_plans(venues.split(","), wanted, WANTED, environ={}, **more).items()
    }  # fmt: skip


def test_the_core_profile_is_the_seeds() -> None:
    assert CORE == (
        "BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ETHBTC", "BNBBTC", "SOLBTC", "BTCUSDT_PERP", "ETHUSDT_PERP",
    )  # fmt: skip
    assert plans("binance", CORE, is_partial=True) == {"binance_spot": CORE[:8], "binance_usdm": CORE[8:]}


def test_a_profile_runs_without_futures() -> None:
    assert plans("binance_spot", CORE, is_partial=True) == {"binance_spot": CORE[:8]}


def test_a_symbol_says_its_market_to_a_family_and_may_go_by_its_own_name_at_a_product() -> None:
    assert plans("binance,bybit", "BTCUSDT,BTCUSDT_PERP") == {
        "binance_spot": ("BTCUSDT",), "binance_usdm": ("BTCUSDT_PERP",), "bybit_spot": ("BTCUSDT",),
        "bybit_linear": ("BTCUSDT_PERP",),
    }  # fmt: skip
    assert plans("binance_usdm", "BTCUSDT,BTC/USDT:USDT") == {"binance_usdm": ("BTCUSDT", "BTC/USDT:USDT")}
    with pytest.raises(InputError, match="BTCUSDT_PERP is a perpetual, and none of binance_spot trades perpetuals"):
        plans("binance_spot", "BTCUSDT_PERP")
    with pytest.raises(InputError, match="there is no symbol to record at binance_spot"):
        plans("binance_spot", "BTCUSDT_PERP", is_partial=True)


def test_spot_comes_over_sbe_where_there_is_a_key_for_it() -> None:
    assert products(("binance",), environ={}) == ("binance_spot", "binance_usdm")
    assert products(("binance",), environ={SBE_KEY: "k"}) == ("binance_sbe", "binance_usdm")
    assert products(("binance_spot",), environ={SBE_KEY: "k"}) == ("binance_spot",)
    with pytest.raises(InputError, match=re.escape("binanse")):
        products(("binanse",), environ={})


def test_books_are_always_recorded_and_the_rest_is_asked_for() -> None:
    assert channels(include_trades=False, include_funding=False) == (Channel.DEPTH, Channel.QUOTE)
    assert Channel.TRADE in WANTED
    assert Channel.MARK not in WANTED
    assert Channel.MARK in channels(include_trades=False, include_funding=True)


def test_a_profile_may_be_a_file(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('symbols = ["DOGEUSDT"]\nvenues = ["bybit"]\n')
    assert (profile(str(file)).symbols, profile(str(file)).venues) == (("DOGEUSDT",), ("bybit",))
    file.write_text('symbol = ["DOGEUSDT"]\n')
    with pytest.raises(ConfigError, match="not a profile"):
        profile(str(file))
    with pytest.raises(InputError, match=r"nothing\.toml: cannot be read"):
        profile(str(tmp_path / "nothing.toml"))
    with pytest.raises(InputError, match="arbitrage-core"):
        profile("arbitrage-cor")


def test_spot_and_perpetual_and_two_venues_of_one_name_have_folders_of_their_own() -> None:
    perp = spot("BTCUSDT", "binance_usdm")
    perp = msgspec.structs.replace(perp, kind=InstrumentKind.PERP)
    table = InstrumentTable([spot("BTCUSDT"), perp, spot("ETHUSDT", "bybit_spot"), spot("ETHUSDT")])
    named = {table[i].key: name for i, name in enumerate(session_names(table))}
    assert sorted(named.values()) == ["BTCUSDT", "BTCUSDT_PERP", "ETHUSDT@binance_spot", "ETHUSDT@bybit_spot"]
    assert len(set(named.values())) == len(table)
