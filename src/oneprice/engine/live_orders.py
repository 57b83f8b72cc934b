"""The live side of a run: its accounts, its sender and its relay, opened, checked and closed together."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from oneprice.data.machines import Reported
from oneprice.emulator.ccxt_addresses import overrides_by_exchange
from oneprice.emulator.practice import KEY, SECRET
from oneprice.engine.desk import Desk
from oneprice.engine.settings import LiveSettings
from oneprice.model.errors import InputError, VenueError
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import Report
from oneprice.model.time import Clock
from oneprice.trading import accounts
from oneprice.trading.credentials import Credentials
from oneprice.trading.hosts import Access
from oneprice.trading.live import LiveVenue
from oneprice.trading.portfolio import Portfolio
from oneprice.trading.relay import Relay
from oneprice.venues.base import Endpoints

_LOG = logging.getLogger("oneprice.engine")


class LiveOrders:
    """Made by `open`. `relay` is the run's execution; it sends nothing before `connect`."""

    def __init__(
        self,
        instruments: InstrumentTable,
        exchanges: Mapping[str, Any],
        *,
        run_id: str,
        clock: Clock,
        told: Mapping[int, Report],
    ) -> None:
        self.relay = Relay(told)
        self._instruments = instruments
        self._exchanges = exchanges
        self._venue = LiveVenue(instruments, exchanges, on_report=self.relay.heard, run_id=run_id, clock=clock)

    @classmethod
    async def open(
        cls,
        settings: LiveSettings,
        instruments: InstrumentTable,
        *,
        run_id: str,
        clock: Clock,
        told: Mapping[int, Report],
        endpoints: Mapping[str, Endpoints],
    ) -> LiveOrders:
        """Open the accounts that the instruments need: with keys from the environment, or a practice venue's own."""
        venues = sorted({instrument.venue for instrument in instruments})
        if missing := [venue for venue in venues if venue not in settings.balances]:
            raise InputError(
                f"[live.balances.{missing[0]}] is not in the configuration: say what of that account this run may use, "
                "e.g. USDT = 500"
            )
        overrides = overrides_by_exchange(endpoints) if settings.access is Access.PRACTICE else {}
        exchanges = await accounts.open_accounts(
            venues, settings.access, credentials={family: Credentials(KEY, SECRET) for family in overrides},
            overrides=overrides,
        )  # fmt: skip
        return cls(instruments, exchanges, run_id=run_id, clock=clock, told=told)

    async def require_ready(self, settings: LiveSettings) -> None:
        """Before a run begins: its money is there, and its perpetuals are flat."""
        traded = {instrument.venue for instrument in self._instruments}
        budget = {venue: assets for venue, assets in settings.balances.items() if venue in traded}
        await accounts.require_funds(self._exchanges, budget)
        accounts.require_positions(await self._positions(), {}, self._instruments)

    async def require_same(self, portfolio: Portfolio) -> None:
        """After a restart: the venues' positions are the run's."""
        accounts.require_positions(await self._positions(), portfolio.all_contracts(), self._instruments)

    async def is_same(self, portfolio: Portfolio) -> bool | None:
        """Whether the venues' positions are the run's; None when a venue does not say."""
        try:
            return await self._positions() == portfolio.all_contracts()
        except VenueError as wrong:
            _LOG.warning("%s", wrong)
            return None

    def connect(self, write: Callable[[Reported], None]) -> None:
        """From here on orders go out; `write` puts what is heard of them on the tape."""
        self.relay.connect(self._venue, write)

    def adopt(self, desk: Desk) -> None:
        """After a restart: ask about every order whose end the tape does not know."""
        self._venue.adopt(desk.open_orders(), desk.known_fills())

    async def run(self) -> None:
        """Send and listen until cancelled."""
        await self._venue.run()

    async def close(self) -> None:
        await accounts.close_accounts(self._exchanges)

    async def _positions(self) -> dict[int, int]:
        return await accounts.positions(self._exchanges, self._instruments)
