"""A session for the package hftbacktest: one `.npz` a symbol with its array of events, and the rules that it asks for.

    FOLDER/<SYMBOL>.npz       `data`: its event records (version 2: ev, exch_ts, local_ts, px, qty, order_id, ival, fval)
    FOLDER/instruments.json   by symbol: tick_size, lot_size, contract_size, inverse, maker_fee, taker_fee, events

Depth rows become depth events. A snapshot clears both sides first, and so does a gap: from there to the next snapshot the
book is empty. Trades carry the taker's side. Quotes, marks and funding have no place in the format.

Each event has the venue's time and ours. A row to which the venue gave no time (a gap, a snapshot by REST) takes that of
the depth row before it, so that it takes effect at the same place in both orders. Depth and trades each keep the order in
which they came: a venue time that goes back is raised to the one before. The package demands that no event arrives before
it happened; where our clock was behind the venue's, all of our times are moved by the difference, and `instruments.json`
says by how much (`local_shift_ns`). Where both orders differ (a trade overtakes a depth message), an event is there twice,
once for each side, as the package's own converters do it.

The package holds a symbol's events in memory as a whole, and so does this."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np
from numba import njit
from numpy.typing import NDArray

from oneprice.data.certify.names import session_names
from oneprice.data.export.aside import written_aside
from oneprice.data.export.tables import as_floats
from oneprice.data.session import Session, joined
from oneprice.model.instrument import Instrument
from oneprice.model.progress import Progress, untold
from oneprice.model.tape import ASK, CLEAR, ROW, SNAPSHOT, Kind, Rows

INSTRUMENTS = "instruments.json"
EVENT = np.dtype(
    [
        ("ev", "<u8"),
        ("exch_ts", "<i8"),
        ("local_ts", "<i8"),
        ("px", "<f8"),
        ("qty", "<f8"),
        ("order_id", "<u8"),
        ("ival", "<i8"),
        ("fval", "<f8"),
    ],
    align=True,
)
Events = NDArray[np.void]
_UPDATE, _TRADED, _CLEARED, _LEVEL_OF_SNAPSHOT = 1, 2, 3, 4
_AT_VENUE, _AT_US, _BUY, _SELL = 1 << 31, 1 << 30, 1 << 29, 1 << 28


class ExportedSymbol(msgspec.Struct, frozen=True, kw_only=True):
    """What `BacktestAsset` asks for, by symbol. `local_shift_ns` was added to every one of our times."""

    events: int
    tick_size: Decimal
    lot_size: Decimal
    contract_size: Decimal
    inverse: bool
    maker_fee: Decimal
    taker_fee: Decimal
    local_shift_ns: int


def export_hftbacktest(session: Session, folder: Path, *, progress: Progress = untold) -> list[str]:
    """Write the events of every symbol that has depth or trades, and the rules; → the files' names. They appear together."""
    names = session_names(session.instruments)
    exported: dict[str, ExportedSymbol] = {}
    with written_aside(folder) as files:
        for i, (name, instrument) in enumerate(zip(names, session.instruments, strict=True)):
            progress(i / len(names), name)
            events, shift_ns = events_of(_rows_of(session, i), instrument)
            if len(events) == 0:
                continue
            with files.path(f"{name}.npz").open("wb") as file:
                np.savez_compressed(file, data=events)
            exported[name] = ExportedSymbol(
                events=len(events), tick_size=instrument.price(instrument.tick),
                lot_size=instrument.qty(instrument.lot), contract_size=instrument.contract_multiplier,
                inverse=instrument.inverse, maker_fee=instrument.maker_fee, taker_fee=instrument.taker_fee,
                local_shift_ns=shift_ns,
            )  # fmt: skip
        files.path(INSTRUMENTS).write_bytes(msgspec.json.format(msgspec.json.encode(exported), indent=1))
    return [*(f"{name}.npz" for name in exported), INSTRUMENTS]


def _rows_of(session: Session, i: int) -> Rows:
    """What has a place in the format, of one instrument."""
    wanted = (int(Kind.DEPTH), int(Kind.TRADE), int(Kind.GAP))
    parts = [rows[(rows["instrument"] == i) & np.isin(rows["kind"], wanted)] for rows in session.rows()]
    return joined([np.zeros(0, dtype=ROW), *parts])


def events_of(rows: Rows, instrument: Instrument) -> tuple[Events, int]:
    """Depth, trades and gaps of one instrument as events. → (events, what our times were moved by, ns)."""
    if len(rows) == 0:
        return np.zeros(0, dtype=EVENT), 0
    is_trade = rows["kind"] == Kind.TRADE
    local_ns = rows["ts_recv_ns"].astype(np.int64)
    at_venue_ns = rows["ts_venue_ns"].astype(np.int64)
    at_venue_ns[rows["kind"] == Kind.GAP] = 0
    for stream in (np.flatnonzero(is_trade), np.flatnonzero(~is_trade)):
        at_venue_ns[stream] = _in_order(at_venue_ns[stream], local_ns[stream])
    shift_ns = max(0, int((at_venue_ns - local_ns).max()))

    clears = (rows["kind"] == Kind.GAP) | (rows["flags"] & CLEAR != 0)
    has_level = is_trade | ((rows["kind"] == Kind.DEPTH) & (rows["price"] != 0))
    counts = 2 * clears + has_level
    ends = np.cumsum(counts)
    events = np.zeros(int(ends[-1]), dtype=EVENT)
    source = np.repeat(np.arange(len(rows)), counts)
    events["exch_ts"], events["local_ts"] = at_venue_ns[source], local_ns[source] + shift_ns

    first = (ends - counts)[clears]  # both sides are cleared before the row's own level is set
    events["ev"][first], events["ev"][first + 1] = _CLEARED | _BUY, _CLEARED | _SELL
    events["px"][first] = events["px"][first + 1] = np.nan  # the whole side

    level, place = rows[has_level], ends[has_level] - 1
    what = np.where(level["flags"] & SNAPSHOT != 0, _LEVEL_OF_SNAPSHOT, _UPDATE)
    what[level["kind"] == Kind.TRADE] = _TRADED
    events["ev"][place] = what | np.where(level["flags"] & ASK != 0, _SELL, _BUY)
    events["px"][place] = as_floats(level["price"], instrument.price_exponent)
    events["qty"][place] = as_floats(level["qty"], instrument.qty_exponent)
    return _in_both_orders(events), shift_ns


def _in_order(at_venue_ns: NDArray[np.int64], local_ns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Venue times of a stream that never go back; 0 takes the time before it, and at the start the first there is."""
    known = np.flatnonzero(at_venue_ns)
    if len(known) == 0:
        return local_ns
    filled = at_venue_ns.copy()
    filled[: known[0]] = at_venue_ns[known[0]]
    ordered: NDArray[np.int64] = np.maximum.accumulate(filled)
    return ordered


def _in_both_orders(events: Events) -> Events:
    """Events for the venue's side and for ours, each in the order of its own time, in one array."""
    out = np.empty(2 * len(events), dtype=EVENT)
    by_venue, by_us = np.argsort(events["exch_ts"], kind="stable"), np.argsort(events["local_ts"], kind="stable")
    count = _merge(events, by_venue, by_us, out)
    return out[:count].copy()


@njit(cache=True)
def _merge(events, by_venue, by_us, out):
    """One event where both orders meet, else the one whose time at the venue comes first, for its side alone. → events"""
    n, j, k, total = 0, 0, 0, events.shape[0]
    while j < total or k < total:
        if j < total and k < total and by_venue[j] == by_us[k]:
            out[n] = events[by_venue[j]]
            out[n].ev |= _AT_VENUE | _AT_US
            j += 1
            k += 1
        elif k == total or (j < total and events[by_venue[j]].exch_ts <= events[by_us[k]].exch_ts):
            out[n] = events[by_venue[j]]
            out[n].ev |= _AT_VENUE
            j += 1
        else:
            out[n] = events[by_us[k]]
            out[n].ev |= _AT_US
            k += 1
        n += 1
    return n
