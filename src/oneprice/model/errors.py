"""What can go wrong, as a small tree. An error says where, what, what it means and what happens next; and it knows
whether trying again can help (`transient`), so that a retry asks the error and never its text."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OnepriceError(Exception):
    """Root of everything oneprice raises on purpose."""

    transient: bool = False


class InputError(OnepriceError):
    """What a person or a file gave cannot be used: a wrong name, a wrong value, a missing file."""


class ConfigError(InputError):
    """The configuration has an unknown key or a value outside its range."""


class WireError(OnepriceError):
    """A venue's message does not have the shape that its documentation promises."""


class SessionError(OnepriceError):
    """A session on disk is missing, damaged or of another version."""


class VenueError(OnepriceError):
    """A venue answered with an error. `code` is the venue's own code, `retry_after_s` its wish when it gave one."""

    def __init__(
        self, message: str, *, code: str = "", transient: bool = False, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.transient = transient
        self.retry_after_s = retry_after_s


class UnknownOutcome(VenueError):
    """A request was sent and its fate is not known: ask the venue before sending it again."""


class Refused(OnepriceError):
    """oneprice itself refuses to do this: the rule and the numbers are in the message."""


_MOST_NAMES = 50  # more are not read


def unknown_name(what: str, name: str, known: Iterable[str], *, where: str = "") -> str:
    """A sentence for a name nobody knows, with the nearest known one.

    >>> unknown_name("venue", "byit", ["binance_spot", "bybit_spot", "bybit"])
    "unknown venue 'byit'; did you mean 'bybit'? Known: binance_spot, bybit, bybit_spot"
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    place = f" in {where}" if where else ""
    told = ", ".join(names) if len(names) <= _MOST_NAMES else f"{len(names)} names"
    return f"unknown {what} '{name}'{place}{hint} Known: {told}"
