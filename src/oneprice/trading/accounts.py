"""The accounts behind live venues: opened with keys from the environment, asked what they hold before anything is sent.

A run keeps its own account of balances and positions, made of its own fills. So it must begin within what the account
has, and with no position in what it trades; and after a restart the venue's positions must be the run's own."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import suppress
from decimal import Decimal
from typing import Any

from oneprice.model.errors import InputError, OnepriceError, unknown_name
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.trading.credentials import Credentials, credentials_from_environment
from oneprice.trading.hosts import Access
from oneprice.trading.live import FAMILY, open_exchange
from oneprice.trading.wire_ccxt import translated

# Venues that share a wallet, as the exchange keeps them: (family, ccxt's type of account; "": the one there is).
_WALLETS = {
    "binance_spot": ("binance", "spot"), "binance_sbe": ("binance", "spot"), "binance_usdm": ("binance", "swap"),
    "bybit_spot": ("bybit", ""), "bybit_linear": ("bybit", ""),
}  # fmt: skip


async def open_accounts(
    venues: Iterable[str],
    access: Access,
    *,
    credentials: Mapping[str, Credentials] | None = None,
    overrides: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Open the exchange of every family of these venues behind the guard, its markets loaded; → by family.

    `credentials` and `overrides` (constructor options) by family are for practice venues; otherwise keys come from the
    environment. InputError for a venue without order entry, ConfigError for a key that is missing, VenueError when an
    exchange does not answer.
    """
    families = sorted({_family(venue) for venue in venues})
    keys = {
        family: (credentials or {}).get(family) or credentials_from_environment(family, access) for family in families
    }
    exchanges = {
        family: open_exchange(family, access, keys[family], overrides=(overrides or {}).get(family))
        for family in families
    }
    try:
        for family, exchange in exchanges.items():
            await _asked(exchange.load_markets(), where=f"{family}: its markets")
    except BaseException:
        await close_accounts(exchanges)
        raise
    return exchanges


async def close_accounts(exchanges: Mapping[str, Any]) -> None:
    """Close every connection."""
    for exchange in exchanges.values():
        with suppress(Exception):  # an error while closing must not hide the one that led here
            await exchange.close()


async def require_funds(exchanges: Mapping[str, Any], balances: Mapping[str, Mapping[str, Decimal]]) -> None:
    """InputError unless every wallet has free what the run may use of it. `balances`: venue → asset → amount; venues that
    share a wallet add up."""
    wanted: defaultdict[tuple[str, str], defaultdict[str, Decimal]] = defaultdict(lambda: defaultdict(Decimal))
    named: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for venue, assets in balances.items():
        wallet = _WALLETS[venue]
        named[wallet].append(venue)
        for asset, amount in assets.items():
            wanted[wallet][asset] += amount
    for wallet, assets in wanted.items():
        family, account = wallet
        where = " and ".join(named[wallet])
        query = {"type": account} if account else {}
        free = (await _asked(exchanges[family].fetch_balance(query), where=f"{where}: balances"))["free"]
        for asset, amount in assets.items():
            has = Decimal(str(free.get(asset) or 0))
            if has < amount:
                raise InputError(
                    f"{where}: {has} {asset} are free, and [live.balances] lets this run use {amount}; lower it, or fund "
                    "the account"
                )


async def positions(exchanges: Mapping[str, Any], instruments: InstrumentTable) -> dict[int, int]:
    """The venues' own positions in the run's perpetuals that are not flat: instrument → signed quantity (mantissa)."""
    by_family: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for index, instrument in enumerate(instruments):
        if instrument.kind is InstrumentKind.PERP:
            by_family[_family(instrument.venue)][instrument.canonical] = index
    held: dict[int, int] = {}
    for family, wanted in by_family.items():
        asked = _positions_of_bybit if family == "bybit" else _positions_of_binance
        coins = {instruments[index].settle for index in wanted.values()}
        for told in await _asked(asked(exchanges[family], list(wanted), coins), where=f"{family}: positions"):
            contracts = Decimal(str(told.get("contracts") or 0))
            if contracts and told["symbol"] in wanted:
                index = wanted[told["symbol"]]
                qty = instruments[index].qty_mantissa(contracts)
                held[index] = held.get(index, 0) + (-qty if told["side"] == "short" else qty)
    return held


async def _positions_of_binance(exchange: Any, symbols: list[str], coins: Iterable[str]) -> list[Any]:
    return list(await exchange.fetch_positions(symbols))


async def _positions_of_bybit(exchange: Any, symbols: list[str], coins: Iterable[str]) -> list[Any]:
    """All of a settlement coin: Bybit takes one symbol a request or none."""
    told = [await exchange.fetch_positions(None, {"settleCoin": coin, "paginate": True}) for coin in sorted(coins)]
    return [position for positions in told for position in positions]


def require_positions(held: Mapping[int, int], expected: Mapping[int, int], instruments: InstrumentTable) -> None:
    """InputError that names every instrument in which the venue holds something else than the run does."""
    differ = [
        f"{instruments[index].key} holds {_text(instruments[index], held.get(index, 0))}, "
        f"this run {_text(instruments[index], expected.get(index, 0))}"
        for index in sorted({*held, *expected})
        if held.get(index, 0) != expected.get(index, 0)
    ]
    if differ:
        raise InputError(
            f"the venue's positions are not this run's: {'; '.join(differ)}. Close what is not this run's (or use another "
            "account), then start again"
        )


def _text(instrument: Instrument, qty: int) -> str:
    return f"{instrument.qty(qty):f}"


def _family(venue: str) -> str:
    if venue not in FAMILY:
        raise InputError(unknown_name("live venue", venue, FAMILY))
    return FAMILY[venue]


async def _asked(answer: Any, *, where: str) -> Any:
    try:
        return await asyncio.wait_for(answer, 30.0)
    except OnepriceError:
        raise
    except Exception as wrong:
        raise translated(wrong, where=where) from wrong
