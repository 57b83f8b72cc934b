"""Line files as anybody would write them: a dictionary for each line, `json`, `Decimal`, `datetime`. The oracle of the
compiled writer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isnan
from typing import Any

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, GapReason, Kind, Rows

Files = dict[tuple[int, str], bytes]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def naive_time(ns: int) -> str | None:
    if ns == 0:
        return None
    moment = EPOCH + timedelta(microseconds=ns // 1000)
    exact = "milliseconds" if moment.microsecond % 1000 == 0 else "microseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=exact) + "Z"


def whole(value: float, places: int) -> int | None:
    scaled = Decimal(repr(value)).scaleb(places)
    return int(scaled) if scaled == int(scaled) and abs(scaled) < 10**15 else None


class Symbol:
    """One instrument's lines so far, and what later ones depend on."""

    def __init__(self, instrument: Instrument, name: str) -> None:
        self.instrument, self.name = instrument, name
        self.lines: dict[str, list[dict[str, Any]]] = {"depth": [], "trades": [], "funding": []}
        self.stands, self.book_feed, self.trade_id = False, -1, 0
        self.known: dict[Kind, float] = {}
        self.next_ns = 0
        self.places: int | None = None
        self.unwritable = 0

    def _line(self, stream: str, ns: int, fields: dict[str, Any]) -> None:
        self.lines[stream].append({"ts": naive_time(ns), "tradingsymbol": self.name} | fields)

    def _exponents(self) -> dict[str, int]:
        return {"price_exponent": self.instrument.price_exponent, "qty_exponent": self.instrument.qty_exponent}

    def depth(self, rows: list[Any]) -> None:
        is_snapshot = bool(rows[0]["flags"] & CLEAR)
        self.stands |= is_snapshot
        self.book_feed = int(rows[0]["feed"])
        bids, asks = (
            [[int(row["price"]), int(row["qty"])] for row in rows if row["flags"] & ASK == side and row["price"] != 0]
            for side in (0, ASK)
        )
        fields = {"is_snapshot": is_snapshot, "last_update_id": int(rows[-1]["sequence"])} | self._exponents()
        self._line(
            "depth",
            int(rows[-1]["ts_venue_ns"]),
            fields | {"bids": bids, "asks": asks, "integrity_tier": tier(self.stands)},
        )

    def gap(self, row: Any) -> None:
        self.stands = False
        reason = GapReason(int(row["value"])).name.lower()
        last, expected, received = (int(row[name]) for name in ("sequence", "price", "qty"))
        gap = {"last_good_id": last, "expected_id": expected, "received_id": received, "reason": reason}
        self._line("depth", int(row["ts_recv_ns"]), {"gap": gap})

    def trade(self, row: Any) -> None:
        number = int(row["sequence"])
        same_link = self.stands and self.book_feed == int(row["feed"])
        is_proven = number == self.trade_id + 1 if self.trade_id > 0 else same_link
        self.trade_id = number
        fields = {"trade_id": number, "price": int(row["price"]), "qty": int(row["qty"])} | self._exponents()
        fields |= {"is_buyer_maker": bool(row["flags"] & ASK), "integrity_tier": tier(is_proven)}
        self._line("trades", int(row["ts_venue_ns"]), fields)

    def funding(self, rows: list[Any]) -> None:
        news = [row for row in rows if row["kind"] != Kind.OPEN_INTEREST]
        for row in news:
            if row["kind"] == Kind.FUNDING and row["sequence"] != 0:
                self.next_ns = int(row["sequence"])
            if not isnan(row["value"]):
                self.known[Kind(int(row["kind"]))] = float(row["value"])
        is_perp = self.instrument.kind is InstrumentKind.PERP
        if not news or not is_perp or len(self.known) < 3 or self.next_ns == 0:
            return
        mark, index, rate = (self.known[kind] for kind in (Kind.MARK, Kind.INDEX, Kind.FUNDING))
        fewest = max(8, -self.instrument.price_exponent)
        if self.places is None:
            tried = (*range(fewest, 16), *range(fewest - 1, -1, -1))
            fits = (p for p in tried if whole(mark, p) is not None and whole(index, p) is not None)
            self.places = next(fits, None)
        values = None if self.places is None else (whole(mark, self.places), whole(index, self.places), whole(rate, 8))
        if values is None or None in values:
            self.unwritable += 1
            return
        assert self.places is not None
        fields = dict(zip(("mark_price", "index_price", "funding_rate"), values, strict=True))
        last = {"next_funding_time": naive_time(self.next_ns), "price_exponent": -self.places}
        self._line("funding", int(rows[-1]["ts_venue_ns"]), fields | last)


def tier(is_proven: bool) -> str:
    return "CERTIFIED" if is_proven else "NON_CERTIFIED"


def messages(rows: Rows) -> Iterator[list[Any]]:
    """Rows up to the next LAST; what has no end is left out."""
    message: list[Any] = []
    for row in rows:
        message.append(row)
        if row["flags"] & LAST:
            yield message
            message = []


def naive_files(rows: Rows, instruments: InstrumentTable, names: tuple[str, ...]) -> tuple[Files, list[int]]:
    """(every file's bytes, funding messages that no line can say by instrument)."""
    symbols = [Symbol(instrument, name) for instrument, name in zip(instruments, names, strict=True)]
    for message in messages(rows):
        kind, index = Kind(int(message[0]["kind"])), int(message[0]["instrument"])
        if index < 0:
            continue
        if kind is Kind.DEPTH:
            symbols[index].depth(message)
        elif kind is Kind.TRADE:
            for row in message:
                symbols[index].trade(row)
        elif kind is Kind.GAP:
            symbols[index].gap(message[0])
        elif kind in (Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.OPEN_INTEREST):
            symbols[index].funding(message)
    files = {
        (i, stream): b"".join(
            json.dumps(line, separators=(",", ":"), ensure_ascii=False).encode() + b"\n" for line in lines
        )
        for i, symbol in enumerate(symbols)
        for stream, lines in symbol.lines.items()
        if stream != "funding" or symbol.instrument.kind is InstrumentKind.PERP
    }
    return files, [symbol.unwritable for symbol in symbols]
