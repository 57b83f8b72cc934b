"""One instrument table for several sessions, and what brings each session's rows under it.

Sessions of one market may know its rules differently: an import reads tick and lot off its own recording, and a venue
changes them over time. The union keeps the newest rules that were not inferred, with exponents fine enough for all; a row
under coarser exponents is scaled up, which loses nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numba import njit

from oneprice.data.session import Session
from oneprice.model.errors import InputError
from oneprice.model.instrument import Instrument, InstrumentTable
from oneprice.model.tape import Kind, Rows

_DEPTH, _QUOTE, _TRADE, _LIQUIDATION, _REPORT = (
    int(kind) for kind in (Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.LIQUIDATION, Kind.REPORT)
)
_IDENTITY = ("canonical", "kind", "base", "quote", "settle", "inverse", "contract_multiplier")


class Translation:
    """From a session's numbers to the union's: instruments, connections, mantissas."""

    def __init__(self, session: Session, union: InstrumentTable, first_feed: int) -> None:
        own = list(session.instruments)
        self._numbers = np.array([union.index(ours.venue, ours.symbol) for ours in own], dtype=np.int64)
        common = [union[int(number)] for number in self._numbers]
        self._price_factors = np.array(
            [10 ** (ours.price_exponent - theirs.price_exponent) for ours, theirs in zip(own, common, strict=True)],
            dtype=np.int64,
        )
        self._qty_factors = np.array(
            [10 ** (ours.qty_exponent - theirs.qty_exponent) for ours, theirs in zip(own, common, strict=True)],
            dtype=np.int64,
        )
        self._first_feed = first_feed
        self._changes_nothing = (
            first_feed == 0
            and bool((self._numbers == np.arange(len(own))).all())
            and bool((self._price_factors == 1).all() and (self._qty_factors == 1).all())
        )

    def apply(self, rows: Rows) -> None:
        """Rewrite rows in place."""
        if not self._changes_nothing:
            _translate(rows, self._numbers, self._first_feed, self._price_factors, self._qty_factors)


@njit(cache=True)
def _translate(rows, numbers, first_feed, price_factors, qty_factors):
    for k in range(rows.shape[0]):
        if rows[k].feed >= 0:
            rows[k].feed += first_feed
        i = rows[k].instrument
        if i < 0:
            continue
        rows[k].instrument = numbers[i]
        kind = rows[k].kind
        if kind in (_DEPTH, _QUOTE, _TRADE, _LIQUIDATION, _REPORT):
            rows[k].price *= price_factors[i]
            rows[k].qty *= qty_factors[i]


def union_of(sessions: Sequence[Session]) -> InstrumentTable:
    """The common table. InputError where two sessions mean different things by one name."""
    by_key: dict[str, list[Instrument]] = {}
    for session in sorted(sessions, key=lambda session: session.manifest.created_ns):
        for instrument in session.instruments:
            by_key.setdefault(instrument.key, []).append(instrument)
    return InstrumentTable(_common(variants) for variants in by_key.values())


def _common(variants: Sequence[Instrument]) -> Instrument:
    """One instrument for all its variants, which come oldest first."""
    chosen = next((one for one in reversed(variants) if not one.rules_inferred), variants[-1])
    for name in _IDENTITY:
        seen = {str(getattr(one, name)) for one in variants}
        if len(seen) > 1:
            raise InputError(f"{chosen.key}: the sessions disagree about its {name}: {', '.join(sorted(seen))}")
    price_exponent = min(one.price_exponent for one in variants)
    qty_exponent = min(one.qty_exponent for one in variants)
    by_price = 10 ** (chosen.price_exponent - price_exponent)
    by_qty = 10 ** (chosen.qty_exponent - qty_exponent)
    tick, lot = chosen.tick * by_price, chosen.lot * by_qty
    if chosen.rules_inferred:
        tick = math.gcd(*(one.tick * 10 ** (one.price_exponent - price_exponent) for one in variants))
        lot = math.gcd(*(one.lot * 10 ** (one.qty_exponent - qty_exponent) for one in variants))
    return msgspec.structs.replace(
        chosen, price_exponent=price_exponent, qty_exponent=qty_exponent, tick=tick, lot=lot,
        min_qty=chosen.min_qty * by_qty, max_qty=chosen.max_qty * by_qty,
    )  # fmt: skip
