"""The shape of a strategy, and the words it speaks.

The engine asks `discover` which of the available instruments the strategy wants, `bind`s it to the numbered table, and
calls `on_batch` after every micro-batch. What comes back is a list of `Sighting`s: an opportunity that opened, one that
closed, and, where it pays after costs, the legs to trade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from oneprice.compute.books import Books
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.order import Side
from oneprice.venues.base import Channel


class Leg(msgspec.Struct, frozen=True, kw_only=True):
    """One order of a trade: never worse than `limit_price`, at most `qty` (mantissas of its instrument)."""

    instrument: int
    side: Side
    qty: int
    limit_price: int
    decision_price: int  # what the top of the book showed when the strategy decided; slippage is measured from it
    reduce_only: bool = False


class What(StrEnum):
    OPENED = "opened"
    CLOSED = "closed"
    ENTER = "enter"
    EXIT = "exit"


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """Something a strategy saw on this batch, with the numbers it saw it by.

    Edges are fractions of the traded notional in basis points; `net_bps` is after the taker fees of every leg that the
    trade will need, exits included. `legs` is empty unless `what` is ENTER or EXIT.
    """

    what: What
    type: str  # triangular, spread, basis
    key: str  # the same text for the same opportunity, every time
    gross_bps: float
    net_bps: float
    reason: str
    inputs: Mapping[str, int | float | str] = {}
    legs: tuple[Leg, ...] = ()
    lifetime_ns: int = 0  # CLOSED: how long it stood
    peak_gross_bps: float = 0.0  # CLOSED
    peak_net_bps: float = 0.0  # CLOSED


class Holdings(Protocol):
    """What a strategy may know of its own trades: filled quantity, and whether orders of a key are still under way."""

    def position(self, strategy: str, key: str, instrument: int) -> int:
        """Signed quantity (mantissa) that the strategy's trades under `key` have built up in an instrument."""
        ...

    def is_busy(self, strategy: str, key: str) -> bool:
        """Whether a trade under `key` has orders without a final state."""
        ...


class Market(msgspec.Struct, frozen=True):
    """What a strategy sees: the instruments, their books as of now, and its own holdings."""

    instruments: InstrumentTable
    books: Books
    holdings: Holdings


class Strategy(Protocol):
    """A strategy. `name` is its name in the configuration and on every order; `channels` what it must be fed."""

    name: str
    channels: frozenset[Channel]

    def discover(self, available: Sequence[Instrument]) -> list[Instrument]:
        """The instruments it wants among those that the venues list."""
        ...

    def bind(self, instruments: InstrumentTable) -> None:
        """Learn the numbers of the instruments it will see. Called once, before the first batch."""
        ...

    def on_batch(self, now_ns: int, market: Market) -> list[Sighting]:
        """What it sees and wants now. Same books and holdings, same answer."""
        ...

    def standing(self, now_ns: int) -> list[Sighting]:
        """The opportunities that are still open, each as if it closed now: for the summary of a run."""
        ...
