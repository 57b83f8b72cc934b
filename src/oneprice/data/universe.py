"""Which symbols a capture records at which venues: named sets, families of venues, and symbols that say their market.

A family is one company's spot and perpetual product under one name (`binance`, `bybit`). `BTCUSDT` asks a family for its
spot market, `BTCUSDT_PERP` for its perpetual. A product that is named itself (`binance_usdm`) gets every symbol but the
perpetuals that a spot market cannot have."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from oneprice.data.certify.names import PERP
from oneprice.data.plan import VenuePlan
from oneprice.model.errors import ConfigError, InputError, unknown_name
from oneprice.model.instrument import InstrumentKind
from oneprice.venues.base import Channel
from oneprice.venues.registry import VENUES, venue

SBE_KEY = "BINANCE_SBE_API_KEY"
FAMILIES = {"binance": ("binance_spot", "binance_usdm"), "bybit": ("bybit_spot", "bybit_linear")}  # spot, perpetual
BOOKS = (Channel.DEPTH, Channel.QUOTE)  # what a session always holds
TRADES = (Channel.TRADE,)
FUNDING = (Channel.MARK, Channel.OPEN_INTEREST, Channel.LIQUIDATION)


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A named set of symbols. Where a venue of a capture has no market for one (perpetuals without futures), it goes
    without."""

    symbols: tuple[str, ...]
    venues: tuple[str, ...] = ("binance",)


PROFILES = {
    "arbitrage-core": Profile(
        symbols=(
            "BTCUSDT", "ETHUSDT", "BNBUSDT", "SOLUSDT", "XRPUSDT", "ETHBTC", "BNBBTC", "SOLBTC", "BTCUSDT_PERP",
            "ETHUSDT_PERP",
        )
    ),
}  # fmt: skip


def profile(name: str) -> Profile:
    """A profile by its name, or from a TOML file (`symbols = […]`, and `venues = […]` if it likes)."""
    if name in PROFILES:
        return PROFILES[name]
    if not name.endswith(".toml"):
        raise InputError(unknown_name("profile", name, PROFILES) + ", or the path of a .toml file")
    path = Path(name)
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Profile)
    except OSError as wrong:
        raise InputError(f"{path}: cannot be read: {wrong.strerror}") from wrong
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as wrong:
        raise ConfigError(f"{path}: not a profile: {wrong}") from wrong


def channels(*, include_trades: bool, include_funding: bool) -> tuple[Channel, ...]:
    return BOOKS + (TRADES if include_trades else ()) + (FUNDING if include_funding else ())


def venue_plans(
    venues: Sequence[str],
    symbols: Sequence[str],
    wanted: Sequence[Channel],
    *,
    environ: Mapping[str, str] = os.environ,
    is_partial: bool = False,
) -> dict[str, VenuePlan]:
    """What to record by venue; families are replaced by their products.

    Binance spot comes over SBE where the environment holds its key. InputError for a symbol that none of the venues can
    have, unless `is_partial`: then it is left out.
    """
    chosen: dict[str, dict[str, None]] = {}
    for symbol in symbols:
        places = [place for name in venues for place in _places(name, symbol, environ, is_partial=is_partial)]
        if not places and not is_partial:
            raise InputError(
                f"{symbol} is a perpetual, and none of {', '.join(venues)} trades perpetuals; name a venue that does, "
                f"e.g. --venues binance,bybit"
            )
        for place in places:
            chosen.setdefault(place, {})[symbol] = None
    if not chosen:
        raise InputError(f"there is no symbol to record at {', '.join(venues)}")
    return {
        name: VenuePlan(symbols=tuple(names), channels=tuple(wanted)) for name, names in sorted(chosen.items())
    }  # fmt: skip


def products(venues: Sequence[str], *, environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The products that these names stand for, families resolved. InputError for an unknown name."""
    found: dict[str, None] = {}
    for name in venues:
        if name in FAMILIES:
            found |= dict.fromkeys(_family(name, environ))
        elif name in VENUES:
            found[name] = None
        else:
            raise InputError(unknown_name("venue", name, [*VENUES, *FAMILIES]))
    return tuple(found)


def _family(name: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """(spot, perpetual) product of a family."""
    spot, perp = FAMILIES[name]
    return ("binance_sbe" if spot == "binance_spot" and environ.get(SBE_KEY) else spot), perp


def _places(name: str, symbol: str, environ: Mapping[str, str], *, is_partial: bool) -> tuple[str, ...]:
    """The products of a venue or family that can have a symbol. A profile (`is_partial`) means spot where it says spot; a
    person who names a product of perpetuals may call its symbols as that product does."""
    is_perp = symbol.endswith(PERP) or ":" in symbol
    if name in FAMILIES:
        return (_family(name, environ)[is_perp],)
    (product,) = products((name,))
    is_spot = venue(product).kind is InstrumentKind.SPOT
    return (product,) if is_spot is not is_perp or (not is_spot and not is_partial) else ()
