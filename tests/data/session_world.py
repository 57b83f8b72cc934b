"""Sessions for the tests: small instrument tables, rows at given times, folders written in one go."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from typing import Any

import msgspec
import numpy as np

from oneprice.data.session import FeedEntry, RecordType, Session, SessionWriter
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.tape import LAST, ROW, Kind, Rows

T0_NS = 1_700_000_000_000_000_000
PIECE = 64 * 1024


def spot(symbol: str = "BTCUSDT", venue: str = "binance_spot", **rules: Any) -> Instrument:
    base = symbol.removesuffix("USDT")
    known = Instrument(
        venue=venue, symbol=symbol, canonical=f"{base}/USDT", kind=InstrumentKind.SPOT, base=base, quote="USDT",
        price_exponent=-2, qty_exponent=-5,
    )  # fmt: skip
    return msgspec.structs.replace(known, **rules)


def some_rows(times: Sequence[int], *, instrument: int = 0, kind: Kind = Kind.TRADE, feed: int = 0) -> Rows:
    """One row for each receive time; their sequence numbers tell them apart."""
    rows: Rows = np.zeros(len(times), dtype=ROW)
    rows["ts_recv_ns"], rows["sequence"] = times, np.arange(len(times))
    rows["price"], rows["qty"], rows["flags"] = 100 + np.arange(len(times)), 7, LAST
    rows["instrument"], rows["kind"], rows["feed"] = instrument, int(kind), feed
    return rows


def written(
    folder: Path,
    chunks: Sequence[Rows],
    *,
    instruments: Sequence[Instrument] = (spot(),),
    records: Sequence[tuple[int, bytes]] = (),
    created_ns: int = T0_NS,
    is_closed: bool = True,
    feeds: int = 1,
) -> Session:
    """A session whose tape has one block for each chunk."""
    writer = SessionWriter(folder, InstrumentTable(instruments), source="test", created_ns=created_ns)
    for number in range(feeds):
        writer.add_feed(FeedEntry(number=number, venue=instruments[0].venue, path="public", address="wss://venue"))
    for recv_ns, payload in records:
        writer.frame(recv_ns, 0, RecordType.TEXT, payload)
    for chunk in chunks:
        writer.rows(chunk)
        writer.flush()
    writer.flush()
    if is_closed:
        writer.close(closed_ns=created_ns)
    return Session.open(folder)


def tape_of(session: Session) -> bytes:
    return b"".join(rows.tobytes() for rows in session.rows())


@contextmanager
def a_disk_that_ends_at(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the operating system refuses, as it does on a full disk."""
    before = getrlimit(RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    setrlimit(RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
