"""The live venues: our orders to the exchanges through ccxt behind the guard, their reports back in a safe order.

`submit` and `cancel` only queue; `run` sends, listens to the private streams and asks for what they do not say; what
the venues say goes to `on_report`, an order's fills always before its end. An
order goes out once. When no answer comes it is UNKNOWN: the venue is asked for its client id until it answers, and only
when it has not known the order for longer than a request stays valid (`settle_s`, over the receive window that every
request carries) is it certain that it never will: then it is reported as rejected. Nothing here sends an order a second
time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from oneprice.model.errors import InputError, Refused, UnknownOutcome, unknown_name
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.order import Order, OrderState, OrderStatus, OrderType, Report
from oneprice.model.time import NS_PER_S, Clock
from oneprice.trading.credentials import Credentials
from oneprice.trading.follow import Followed, VenueState
from oneprice.trading.hosts import Access
from oneprice.trading.transport import guarded
from oneprice.trading.wire_ccxt import create_arguments, find_order, read_fill, read_state, translated

_LOG = logging.getLogger("oneprice.trading")
_RECEIVE_WINDOW_MS = 5_000
_ASK_AGAIN_S = 0.25
_STREAM_BRINGS_S = 0.25
_QUIET_S = 2.0  # an open order that nobody has spoken of for so long is asked about
_QUEUE_SIZE = 1_000
FAMILY = {
    "binance_spot": "binance", "binance_sbe": "binance", "binance_usdm": "binance", "bybit_spot": "bybit",
    "bybit_linear": "bybit",
}  # fmt: skip
# The account that a venue's private stream belongs to: (family, ccxt's type of it; "": the family has one for all).
_ACCOUNT = {
    "binance_spot": ("binance", "spot"), "binance_sbe": ("binance", "spot"), "binance_usdm": ("binance", "future"),
    "bybit_spot": ("bybit", ""), "bybit_linear": ("bybit", ""),
}  # fmt: skip


def open_exchange(
    family: str, access: Access, credentials: Credentials, *, overrides: Mapping[str, Any] | None = None
) -> Any:
    """A guarded ccxt.pro exchange of a family. `overrides` are constructor options: a practice venue's addresses.

    On testnet Bybit uses its testnet and Binance its demo, which has both spot and futures.
    """
    import ccxt.pro  # heavy, and needed by nobody who only trades on paper

    options = {"recvWindow": _RECEIVE_WINDOW_MS, "recv_window": _RECEIVE_WINDOW_MS, "warnOnFetchOpenOrders": False}
    changes = dict(overrides or {})
    config = {
        "apiKey": credentials.key, "secret": credentials.secret, "enableRateLimit": True,
        **changes, "options": {**options, **changes.get("options", {})},
    }  # fmt: skip
    exchange = guarded(getattr(ccxt.pro, family), access=access, family=family, config=config)
    if access is Access.TESTNET:
        if family == "binance":
            exchange.enable_demo_trading(True)
        else:
            exchange.set_sandbox_mode(True)
    return exchange


def client_id(run_id: str, number: int) -> str:
    """The name of an order on the wire: the same for the same run and number, other for any other run.

    >>> client_id("2026-01-22_A", 17)
    'op-4c0f52f799ce-17'
    """
    return f"op-{hashlib.sha256(run_id.encode()).hexdigest()[:12]}-{number}"


class LiveVenue:
    """Every venue that we send real (or testnet, or practice) orders to. `exchanges`: family → open exchange."""

    def __init__(
        self,
        instruments: InstrumentTable,
        exchanges: Mapping[str, Any],
        *,
        on_report: Callable[[Report], None],
        run_id: str,
        clock: Clock,
        settle_s: float = _RECEIVE_WINDOW_MS / 1000 + 1,
    ) -> None:
        self._instruments = instruments
        self._exchanges = dict(exchanges)
        self._on_report = on_report
        self._run_id = run_id
        self._clock = clock
        self._settle_ns = int(settle_s * NS_PER_S)
        self._orders: dict[int, Followed] = {}
        self._by_client_id: dict[str, int] = {}
        self._by_venue_id: dict[tuple[str, str], int] = {}  # (family, the venue's id) → number
        self._early: dict[tuple[str, str], list[Mapping[str, Any]]] = {}  # fills that overtook their order's answer
        self._heard_ns: dict[int, int] = {}
        self._commands: asyncio.Queue[Callable[[], Coroutine[Any, Any, None]]] = asyncio.Queue(_QUEUE_SIZE)

    # -- driven by the desk -------------------------------------------------------------------------------------------

    def submit(self, order: Order, now_ns: int) -> None:
        """Queue an order for sending. `Refused` for a market order: it has no bound on its price."""
        if order.type is not OrderType.LIMIT:
            raise Refused(f"order {order.number}: a live order needs a limit price; a market order has none")
        self._family(self._instruments[order.instrument])
        self._follow(Followed(order), now_ns)
        self._queue(lambda: self._send(order))

    def cancel(self, number: int, now_ns: int) -> None:
        """Queue a cancel."""
        self._queue(lambda: self._cancel(number))

    # -- the edge -----------------------------------------------------------------------------------------------------

    def adopt(self, statuses: Mapping[int, OrderStatus], fills: Mapping[int, frozenset[str]]) -> None:
        """After a restart: take up every order that the ledger does not know the end of; `run` asks the venues first.

        `fills` are the trade ids that the ledger has, by order.
        """
        now_ns = self._clock.now_ns()
        for number, status in sorted(statuses.items()):
            if status.state.is_final:
                continue
            known = status.state in (OrderState.OPEN, OrderState.PARTIALLY_FILLED)
            self._follow(
                Followed(
                    status.order, known_fills=fills.get(number, frozenset()), known_qty=status.filled_qty,
                    accepted=known,
                ),
                now_ns,
            )  # fmt: skip
            self._queue(lambda number=number: self._ask(number))  # type: ignore[misc]

    async def run(self) -> None:
        """Send, listen and ask until cancelled. It ends with an error when an answer about our money cannot be read."""
        async with asyncio.TaskGroup() as tasks:
            for family, account in sorted({_ACCOUNT[instrument.venue] for instrument in self._instruments}):
                exchange = self._exchanges[family]
                query = {"type": account} if account else {}
                orders = partial(exchange.watch_orders, None, None, None, query)
                trades = partial(exchange.watch_my_trades, None, None, None, query)
                tasks.create_task(self._listen(family, orders, self._take_order))
                tasks.create_task(self._listen(family, trades, self._take_trade))
            tasks.create_task(self._watch_silence())
            while True:
                command = await self._commands.get()
                tasks.create_task(command())

    async def close(self) -> None:
        """Close every exchange's connections."""
        for exchange in self._exchanges.values():
            await exchange.close()

    def _queue(self, command: Callable[[], Coroutine[Any, Any, None]]) -> None:
        try:
            self._commands.put_nowait(command)
        except asyncio.QueueFull:
            raise Refused(f"{_QUEUE_SIZE} requests wait to be sent: the venues do not keep up") from None

    def _follow(self, followed: Followed, now_ns: int) -> None:
        number = followed.order.number
        self._orders[number] = followed
        self._by_client_id[client_id(self._run_id, number)] = number
        self._heard_ns[number] = now_ns

    def _family(self, instrument: Instrument) -> str:
        family = FAMILY.get(instrument.venue)
        if family is None or family not in self._exchanges:
            ready = [venue for venue, of in FAMILY.items() if of in self._exchanges]
            raise InputError(unknown_name("live venue", instrument.venue, ready))
        return family

    def _place(self, followed: Followed) -> tuple[Instrument, str, Any]:
        instrument = self._instruments[followed.order.instrument]
        family = self._family(instrument)
        return instrument, family, self._exchanges[family]

    def _give(self, followed: Followed, reports: list[Report]) -> None:
        self._heard_ns[followed.order.number] = self._clock.now_ns()
        if followed.is_over:
            self._heard_ns.pop(followed.order.number, None)
        for report in reports:
            self._on_report(report)

    # -- requests -----------------------------------------------------------------------------------------------------

    async def _send(self, order: Order) -> None:
        followed = self._orders[order.number]
        instrument, _, exchange = self._place(followed)
        name = client_id(self._run_id, order.number)
        try:
            told = await exchange.create_order(*create_arguments(order, instrument, name))
        except Exception as wrong:  # whatever ccxt raises becomes a report: an order is never forgotten
            why = translated(wrong, where=f"{instrument.key} order {order.number}")
            if not isinstance(why, UnknownOutcome):
                self._give(followed, followed.state(VenueState.REJECTED, 0, self._clock.now_ns(), str(why)))
                return
            self._give(followed, followed.unknown(self._clock.now_ns(), str(why)))
            await self._ask(order.number)
            return
        heard_ns = self._heard_ns[order.number]
        await self._told(followed, told)
        if read_state(told, instrument) is None:  # Bybit says only that it took the order: the stream tells the rest
            await self._clock.sleep(_STREAM_BRINGS_S)
            if self._heard_ns.get(order.number) == heard_ns:
                await self._ask(order.number)

    async def _cancel(self, number: int) -> None:
        followed = self._orders.get(number)
        if followed is None or followed.is_over:
            return
        instrument, family, exchange = self._place(followed)
        name = client_id(self._run_id, number)
        try:
            if family == "bybit":
                await exchange.cancel_order(None, instrument.canonical, {"orderLinkId": name})
            else:
                await exchange.cancel_order(None, instrument.canonical, {"clientOrderId": name})
        except Exception as wrong:  # it may have filled, ended or gone through: the venue's own account of it decides
            _LOG.info("%s", translated(wrong, where=f"{instrument.key} cancel of order {number}"))
        await self._ask(number)

    async def _ask(self, number: int) -> None:
        """Ask the venue about an order until it says where it stands, or until it can no longer turn up."""
        followed = self._orders[number]
        instrument, family, exchange = self._place(followed)
        name = client_id(self._run_id, number)
        certain_ns = self._clock.now_ns() + self._settle_ns
        while not followed.is_over:
            try:
                told = await find_order(exchange, family, instrument, name)
            except Exception as wrong:
                _LOG.warning("%s", translated(wrong, where=f"{instrument.key} order {number}: asking for it"))
            else:
                if told is not None:
                    await self._told(followed, told)
                    return
                if self._clock.now_ns() >= certain_ns:
                    reason = "the venue does not know it, and no longer can"
                    self._give(followed, followed.state(VenueState.REJECTED, 0, self._clock.now_ns(), reason))
                    return
            await self._clock.sleep(_ASK_AGAIN_S)

    async def _told(self, followed: Followed, told: Mapping[str, Any]) -> None:
        """Take in an order as the venue tells it, and fetch the fills that are missing from it."""
        instrument, family, exchange = self._place(followed)
        self._name(followed, family, told)
        for trade in told.get("trades") or ():
            self._take_fill(followed, instrument, trade)
        standing = read_state(told, instrument)
        if standing is not None:
            self._give(followed, followed.state(*standing, self._clock.now_ns()))
        if followed.missing_qty > 0:  # the stream brings them at no cost; asking takes a large part of a rate limit
            await self._clock.sleep(_STREAM_BRINGS_S)
        while followed.missing_qty > 0 and followed.venue_id:
            try:
                query = {"orderId": followed.venue_id}
                for trade in await exchange.fetch_my_trades(instrument.canonical, None, None, query):
                    if str(trade.get("order")) == followed.venue_id:
                        self._take_fill(followed, instrument, trade)
            except Exception as wrong:
                where = f"{instrument.key} order {followed.order.number}: its fills"
                _LOG.warning("%s", translated(wrong, where=where))
            if followed.missing_qty > 0:
                await self._clock.sleep(_ASK_AGAIN_S)

    def _name(self, followed: Followed, family: str, told: Mapping[str, Any]) -> None:
        """Learn the venue's id of an order, and take in the fills that came under it before."""
        if followed.venue_id or not told.get("id"):
            return
        followed.venue_id = str(told["id"])
        place = family, followed.venue_id
        self._by_venue_id[place] = followed.order.number
        for trade in self._early.pop(place, ()):
            self._take_fill(followed, self._instruments[followed.order.instrument], trade)

    def _take_fill(self, followed: Followed, instrument: Instrument, trade: Mapping[str, Any]) -> None:
        if trade.get("id") is not None and trade.get("price") is not None:
            self._give(followed, followed.fill(read_fill(trade, instrument), self._clock.now_ns()))

    # -- streams ------------------------------------------------------------------------------------------------------

    async def _listen(
        self, family: str, watch: Callable[[], Any], take: Callable[[str, Mapping[str, Any]], Coroutine[Any, Any, None]]
    ) -> None:
        while True:
            try:
                news = await watch()
            except Exception as wrong:  # the stream is repaired; what it missed is asked for by `_watch_silence`
                _LOG.warning("%s", translated(wrong, where=f"{family}: private stream"))
                await self._clock.sleep(1.0)
                continue
            for told in news:
                await take(family, told)

    async def _take_order(self, family: str, told: Mapping[str, Any]) -> None:
        number = self._by_client_id.get(str(told.get("clientOrderId")))
        if number is not None:
            self._queue(lambda: self._told(self._orders[number], told))

    async def _take_trade(self, family: str, trade: Mapping[str, Any]) -> None:
        place = family, str(trade.get("order"))
        number = self._by_venue_id.get(place)
        if number is not None:
            followed = self._orders[number]
            self._take_fill(followed, self._instruments[followed.order.instrument], trade)
        elif any(not (followed.venue_id or followed.is_over) for followed in self._orders.values()):
            self._early.setdefault(place, []).append(trade)
        else:
            self._early.clear()

    async def _watch_silence(self) -> None:
        """Ask about every open order that nothing has been heard of for a while."""
        while True:
            await self._clock.sleep(_QUIET_S / 2)
            for number, heard_ns in list(self._heard_ns.items()):
                followed = self._orders[number]
                if followed.venue_id and self._clock.now_ns() - heard_ns > _QUIET_S * NS_PER_S:
                    self._queue(lambda number=number: self._ask(number))  # type: ignore[misc]
                    self._heard_ns[number] = self._clock.now_ns()
