"""What to capture, and over how many connections: symbols and channels of each venue, cut to what one connection may
carry. A plan is a value; `capture.py` carries it out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

from oneprice.data.certify.names import session_symbol
from oneprice.model.errors import InputError, unknown_name
from oneprice.model.instrument import Instrument
from oneprice.venues.base import Channel, Endpoints, Subscription, Venue

ALL_CHANNELS = tuple(Channel)
POLLABLE = (Channel.MARK, Channel.OPEN_INTEREST)  # what `FeedMachine.poll` knows how to ask for
PRACTICE = "practice"  # environment of a plan whose venues are all practice ones


class VenuePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to capture of one venue. Symbols are the venue's own (`BTCUSDT`), canonical (`BTC/USDT`) or a session's
    (`BTCUSDT_PERP`); none: whatever the capture's `discover` picks.

    A channel that the venue does not have is left out: a plan may ask spot and perpetual for the same channels. `polled`
    asks for a channel by REST, at a fixed cadence, instead of by its stream.
    """

    symbols: tuple[str, ...] = ()
    channels: tuple[Channel, ...] = ALL_CHANNELS
    polled: Mapping[Channel, float] = {}  # channel → seconds from poll to poll

    def __post_init__(self) -> None:
        for channel, every_s in self.polled.items():
            if channel not in POLLABLE:
                raise InputError(f"{channel} cannot be polled; what can: {', '.join(POLLABLE)}")
            if not every_s > 0.0:
                raise InputError(f"{channel}: a cadence is more than 0 s, and not {every_s:g} s")

    def streamed(self, venue: Venue) -> tuple[Channel, ...]:
        """The channels to subscribe to. A topic that brings a polled channel is not subscribed to for another one, or its
        messages would count twice: what it brings besides, the poll brings, too (Bybit's ticker)."""
        topics = {venue.channels.get(channel) for channel in self.polled if channel in self.channels} - {None}
        return tuple(channel for channel in self.channels if venue.channels.get(channel) not in topics)

    def polls(self, venue: Venue) -> dict[Channel, float]:
        """The channels to poll and how often, those that the venue has no stream for among them."""
        return {channel: s for channel, s in {**venue.polled, **self.polled}.items() if channel in self.channels}


class CapturePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What to capture. `endpoints` replaces the addresses of a venue, e.g. by those of its practice venue."""

    venues: Mapping[str, VenuePlan]
    environment: str = "live"
    endpoints: Mapping[str, Endpoints] = {}
    probe_every_s: float = 30.0  # seconds between the clock probes of a venue
    symbols_per_connection: int = 0  # 0: as many as a connection may carry

    def recorded(self) -> dict[str, Any]:
        """The plan as a manifest keeps it: without `endpoints`, which belong to the process that captures."""
        recorded: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(self, endpoints={}))
        return recorded

    def endpoints_of(self, venue: Venue) -> Endpoints:
        """The addresses to use for a venue; InputError where it has none for the environment."""
        if venue.name in self.endpoints:
            return self.endpoints[venue.name]
        if self.environment not in venue.endpoints:
            raise InputError(
                unknown_name("environment", self.environment, venue.endpoints, where=f"the addresses of {venue.name}")
            )
        return venue.endpoints[self.environment]


class FeedPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One connection to keep open: where to, and what to subscribe on it."""

    venue: str
    path: str  # name of the venue's ws path
    address: str
    subscriptions: tuple[Subscription, ...]


def handshake_headers(venue: Venue, plan: CapturePlan, environ: Mapping[str, str]) -> dict[str, str]:
    """The headers that a venue's handshake needs, from the environment (`BINANCE_SBE_API_KEY` for binance_sbe).

    A practice venue takes any key. InputError where a real one is asked for and the environment has none.
    """
    if not venue.ws_headers:
        return {}
    variable = f"{venue.name.upper()}_API_KEY"
    key = environ.get(variable, "")
    if not key and venue.name not in plan.endpoints:
        raise InputError(
            f"{venue.name} asks for a key when a connection opens ({', '.join(venue.ws_headers)}): set {variable} in "
            f"the environment or in .env, or leave {venue.name} out"
        )
    return dict.fromkeys(venue.ws_headers, key or "practice")


def select(venue: Venue, listed: Iterable[Instrument], symbols: Sequence[str]) -> list[Instrument]:
    """The instruments that a plan names, in its order; InputError with the nearest known name for one that is not
    listed (not traded now, or misspelt)."""
    by_name: dict[str, Instrument] = {}
    for instrument in listed:
        by_name[instrument.symbol] = instrument
        by_name.setdefault(instrument.canonical, instrument)
        by_name.setdefault(session_symbol(instrument), instrument)
    chosen: dict[str, Instrument] = {}
    for symbol in symbols:
        if symbol not in by_name:
            raise InputError(unknown_name("symbol", symbol, _nearest(symbol, by_name), where=venue.name))
        chosen[by_name[symbol].symbol] = by_name[symbol]
    return list(chosen.values())


def same_as_listed(listed: Iterable[Instrument], fixed: Sequence[Instrument]) -> list[Instrument]:
    """The instruments of a session that goes on, as they were when it began.

    InputError for one that is not listed any more, or is traded in other steps: the session's rows count in the old ones.
    """
    now = {instrument.key: instrument for instrument in listed}
    for instrument in fixed:
        if instrument.key not in now:
            raise InputError(
                f"{instrument.key} is part of this session, but the venue does not list it any more; start a new session"
            )
        is_now = _steps(now[instrument.key])
        for name, was in _steps(instrument).items():
            if was != is_now[name]:
                raise InputError(
                    f"{instrument.key}: its {name} was {was.normalize():f} when this session began, and is "
                    f"{is_now[name].normalize():f} now; start a new session"
                )
    return list(fixed)


def _steps(instrument: Instrument) -> dict[str, Decimal]:
    return {
        "tick": instrument.price(instrument.tick),
        "lot": instrument.qty(instrument.lot),
        "contract multiplier": instrument.contract_multiplier,
    }


def feeds_of(
    venue: Venue,
    endpoints: Endpoints,
    instruments: Sequence[Instrument],
    channels: Sequence[Channel],
    symbols_per_connection: int = 0,
) -> list[FeedPlan]:
    """The connections that carry these channels of these instruments, grouped by the venue's paths.

    An instrument's channels stay together where one connection holds them all, so that its rows share a fate. The fewer
    symbols a connection carries (0: as many as it may), the fewer share the fate of another.
    """
    by_path: dict[str, list[Subscription]] = {}
    for instrument in instruments:
        for channel in channels:
            if channel in venue.channels:
                subscription = Subscription(channel=channel, symbol=instrument.symbol)
                by_path.setdefault(venue.channels[channel][0], []).append(subscription)
    feeds = []
    for path, subscriptions in by_path.items():
        if path not in endpoints.ws:
            raise InputError(unknown_name("ws path", path, endpoints.ws, where=f"the addresses of {venue.name}"))
        for part in _cut(venue, subscriptions, symbols_per_connection or len(instruments)):
            topics = list(dict.fromkeys(venue.topic(subscription) for subscription in part))
            address = venue.url(endpoints.ws[path], topics)
            feeds.append(FeedPlan(venue=venue.name, path=path, address=address, subscriptions=tuple(part)))
    return feeds


def _cut(venue: Venue, subscriptions: Sequence[Subscription], most_symbols: int) -> list[list[Subscription]]:
    """Subscriptions of at most `streams_per_connection` topics and so many symbols a part, never between two of one symbol."""
    parts: list[list[Subscription]] = [[]]
    topics: set[str] = set()
    held = 0
    by_symbol: dict[str, list[Subscription]] = {}
    for subscription in subscriptions:
        by_symbol.setdefault(subscription.symbol, []).append(subscription)
    for group in by_symbol.values():
        wanted = {venue.topic(subscription) for subscription in group}
        is_full = held == most_symbols or len(topics | wanted) > venue.limits.streams_per_connection
        if parts[-1] and is_full:
            parts.append([])
            topics, held = set(), 0
        parts[-1] += group
        topics |= wanted
        held += 1
    return parts


def _nearest(symbol: str, known: Iterable[str], most: int = 12) -> list[str]:
    """A venue lists thousands of symbols; a message shows those that look like the one asked for."""
    names = list(known)
    return difflib.get_close_matches(symbol, names, n=most, cutoff=0.3) or sorted(names)[:most]
