"""Faults on demand: what can go wrong between a venue and its clients, when, and where it is applied.

    kind[@venue[:symbol]][,at=SECONDS][,every=SECONDS][,count=N][,for=SECONDS]        gap@binance_usdm:BTCUSDT,at=5

kind                 | what happens                                                                | applied by
---------------------|-----------------------------------------------------------------------------|------------------
disconnect           | every public socket of the venue is closed without a word                   | pump
private_disconnect   | every private socket of the venue is closed without a word                  | pump
shutdown_notice      | the venue announces its stop, and closes after `for` seconds                | pump
stall                | sockets stay open and silent `for` seconds                                  | publish
gap                  | one depth message is not sent                                               | publish
duplicate            | one depth message is sent twice                                             | publish
reorder              | two depth messages change places                                            | publish
corrupt_frame        | one depth message is cut short                                              | publish
crossed_book         | a depth message shows a bid above the ask, one 0.2 s later takes it back    | publish
stale_snapshot       | one REST book answer is older than what has been streamed                   | REST
http_429, http_5xx   | one REST call is refused                                                    | REST
timeout_after_accept | an order is accepted and matched, its answer comes only after `for` seconds | orders
partial_fill         | an immediate order fills only half                                          | orders
reject               | one order is refused                                                        | orders
cancel_fill_race     | an order fills the moment before its cancel arrives                         | orders
clock_skew           | the venue's clock is ahead by `for` seconds from then on                    | every time sent"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import StrEnum

import msgspec

from oneprice.model.errors import InputError, unknown_name
from oneprice.model.time import NS_PER_S
from oneprice.venues.registry import VENUES


class FaultKind(StrEnum):
    DISCONNECT = "disconnect"
    PRIVATE_DISCONNECT = "private_disconnect"
    SHUTDOWN_NOTICE = "shutdown_notice"
    STALL = "stall"
    GAP = "gap"
    DUPLICATE = "duplicate"
    REORDER = "reorder"
    CORRUPT_FRAME = "corrupt_frame"
    CROSSED_BOOK = "crossed_book"
    STALE_SNAPSHOT = "stale_snapshot"
    HTTP_429 = "http_429"
    HTTP_5XX = "http_5xx"
    TIMEOUT_AFTER_ACCEPT = "timeout_after_accept"
    PARTIAL_FILL = "partial_fill"
    REJECT = "reject"
    CANCEL_FILL_RACE = "cancel_fill_race"
    CLOCK_SKEW = "clock_skew"


class Fault(msgspec.Struct, kw_only=True):
    """One fault, `count` times, from `at_s` seconds after the start on, `every_s` apart."""

    kind: FaultKind
    venue: str = "*"
    symbol: str = "*"
    at_s: float = 0.0
    every_s: float = 0.0
    count: int = 1
    duration_s: float = 2.0

    @classmethod
    def parse(cls, text: str) -> Fault:
        """A fault from its text on the command line."""
        head, *settings = text.split(",")
        name, _, place = head.partition("@")
        if name not in set(FaultKind):
            raise InputError(unknown_name("fault", name, [kind.value for kind in FaultKind], where=f"--fault {text}"))
        venue, _, symbol = place.partition(":")
        if venue not in ("", "*") and venue not in VENUES:
            raise InputError(unknown_name("venue", venue, VENUES, where=f"--fault {text}"))
        fault = cls(kind=FaultKind(name), venue=venue or "*", symbol=symbol or "*")
        names = {"at": "at_s", "every": "every_s", "count": "count", "for": "duration_s"}
        for setting in settings:
            key, _, value = setting.partition("=")
            if key not in names:
                raise InputError(unknown_name("key", key, names, where=f"--fault {text}"))
            try:
                number = int(value) if key == "count" else float(value)
            except ValueError:
                raise InputError(f"--fault {text}: {key}={value!r} is not a number") from None
            if not math.isfinite(number) or number < (1 if key == "count" else 0):
                raise InputError(f"--fault {text}: {key}={value!r} is out of range; it starts at {key == 'count':d}")
            setattr(fault, names[key], number)
        return fault


class FaultPlan:
    """The faults still to come. Servers ask with `take`; a fault that is due, and meant for them, is used up."""

    def __init__(self, faults: Sequence[Fault] = (), *, started_ns: int = 0) -> None:
        self._started_ns = started_ns
        self._waiting = list(faults)
        self.taken: list[tuple[int, Fault]] = []
        self._skew_ns: dict[str, int] = {}

    def start(self, now_ns: int) -> None:
        """Times of faults count from here."""
        self._started_ns = now_ns

    def inject(self, fault: Fault) -> None:
        self._waiting.append(fault)

    def take(self, kind: str, venue: str, symbol: str = "", *, now_ns: int) -> Fault | None:
        """The fault of this kind that is due here now, or None."""
        if not self._waiting:
            return None
        elapsed_s = (now_ns - self._started_ns) / NS_PER_S
        for fault in self._waiting:
            here = fault.venue in ("*", venue) and (not symbol or fault.symbol in ("*", symbol))
            if fault.kind == kind and here and elapsed_s >= fault.at_s:
                fault.count -= 1
                fault.at_s = elapsed_s + fault.every_s
                if fault.count <= 0:
                    self._waiting.remove(fault)
                self.taken.append((now_ns, fault))
                return fault
        return None

    def skew_ns(self, venue: str, now_ns: int) -> int:
        """How far the venue's clock is ahead."""
        fault = self.take(FaultKind.CLOCK_SKEW, venue, now_ns=now_ns)
        if fault is not None:
            self._skew_ns[venue] = int(fault.duration_s * NS_PER_S)
        return self._skew_ns.get(venue, 0)
