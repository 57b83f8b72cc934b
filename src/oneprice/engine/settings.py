"""What a run is told: which venues and strategies, how the paper venue behaves, which limits hold.

Every key has a unit in its name and a default that is safe; an unknown key is an error with the nearest known one. The
settings travel in the run folder, so that a replay decides under the same ones."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from enum import StrEnum
from typing import Any

import msgspec

from oneprice.model.instrument import InstrumentKind, InstrumentTable
from oneprice.trading.checks import Limits
from oneprice.trading.hosts import Access
from oneprice.trading.paper import Latency


class Mode(StrEnum):
    DEMO = "demo"  # practice venues, paper orders
    PAPER = "paper"  # real (or practice) market data, paper orders
    BACKTEST = "backtest"  # recorded sessions, paper orders
    LIVE = "live"  # orders leave this machine: testnet unless the configuration says production


DEFAULT_BALANCES: Mapping[str, Decimal] = {
    "USDT": Decimal(100_000),
    "USDC": Decimal(100_000),
    "USD": Decimal(100_000),
    "BTC": Decimal(2),
    "ETH": Decimal(40),
    "BNB": Decimal(200),
    "SOL": Decimal(800),
    "XRP": Decimal(50_000),
}


class PaperSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[paper]: the paper venue's latencies and the balances it starts every venue's account with."""

    latency: Latency = Latency()
    balances: Mapping[str, Decimal] = msgspec.field(default_factory=lambda: dict(DEFAULT_BALANCES))


class LiveSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[live]: how far real orders reach (testnet, or live; --emulated: practice venues on this machine), and what of each
    venue's account this run may use."""

    access: Access = Access.TESTNET
    balances: Mapping[str, Mapping[str, Decimal]] = {}  # venue → asset → amount


class RunSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides, besides the tape, what a run does."""

    mode: Mode = Mode.PAPER
    venues: tuple[str, ...] = ("binance_sbe", "binance_usdm", "bybit_linear", "bybit_spot")
    symbols: Mapping[str, tuple[str, ...]] = {}  # venue → native symbols; a venue that is not named trades all it lists
    strategies: Mapping[str, Mapping[str, Any]] = msgspec.field(
        default_factory=lambda: {"basis": {}, "spread": {}, "triangular": {}}
    )
    cooldown_ms: int = 250  # after a trade or a refusal, its key rests this long
    timer_ms: int = 10  # backtest: the grid on which micro-batches end when the session carries no timer rows
    paper: PaperSettings = PaperSettings()
    live: LiveSettings = LiveSettings()
    limits: Limits = Limits()

    def starting_balances(self, instruments: InstrumentTable) -> dict[tuple[str, str], Decimal]:
        """What the account of every venue starts with, by (venue, asset), for each asset that its instruments use."""
        starting: dict[tuple[str, str], Decimal] = {}
        for instrument in instruments:
            is_spot = instrument.kind is InstrumentKind.SPOT
            for asset in (instrument.base, instrument.quote) if is_spot else (instrument.settle,):
                of_venue = (
                    self.live.balances.get(instrument.venue, {}) if self.mode is Mode.LIVE else self.paper.balances
                )
                starting[instrument.venue, asset] = of_venue.get(asset, Decimal(0))
        return dict(sorted(starting.items()))
