"""Random tapes on which everything happens that a tape can hold, and what plain Python finds on them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import numpy as np
from session_world import T0_NS, spot

from oneprice.compute.naive_book import NaiveBook
from oneprice.model.instrument import InstrumentKind, InstrumentTable
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, GapReason, Kind, Rows, TapeWriter
from oneprice.model.time import NS_PER_MS, NS_PER_S

PERP = msgspec.structs.replace(spot("BTCUSDT", "binance_usdm"), kind=InstrumentKind.PERP)
WORLD = InstrumentTable([spot(), PERP, spot("ETHUSDT", "bybit_spot")])
STREAMED = (Kind.DEPTH, Kind.QUOTE, Kind.TRADE, Kind.MARK, Kind.INDEX, Kind.FUNDING, Kind.LIQUIDATION)


def tape_of(*parts: Rows) -> Rows:
    return np.concatenate(parts)


def row(kind: Kind, at_ns: int, instrument: int = 0, **fields: Any) -> Rows:
    writer = TapeWriter(1)
    writer.append(kind, recv_ns=at_ns, instrument=instrument, **fields)
    return writer.take()


def depth(
    at_ns: int, last_id: int, bids: Any = (), asks: Any = (), *, whole: bool = False, instrument: int = 0
) -> Rows:
    """A depth message from (price, qty) pairs; `whole`: a snapshot."""
    levels = [(0, *level) for level in bids] + [(ASK, *level) for level in asks] or [(0, 0, 0)]
    rows = np.zeros(len(levels), dtype=ROW)
    rows["kind"], rows["ts_recv_ns"], rows["sequence"], rows["instrument"] = int(Kind.DEPTH), at_ns, last_id, instrument
    rows["flags"], rows["price"], rows["qty"] = np.array(levels).T
    if whole:
        rows["flags"] |= SNAPSHOT
        rows["flags"][0] |= CLEAR
    rows["flags"][-1] |= LAST
    return rows


def quote(at_ns: int, update_id: int, bid: tuple[int, int], ask: tuple[int, int], instrument: int = 0) -> Rows:
    rows = np.zeros(2, dtype=ROW)
    rows["kind"], rows["ts_recv_ns"], rows["sequence"], rows["instrument"] = (
        int(Kind.QUOTE),
        at_ns,
        update_id,
        instrument,
    )
    rows["flags"], (rows["price"], rows["qty"]) = (0, ASK | LAST), np.array([bid, ask]).T
    return rows


def random_tape(seed: int, messages: int = 250) -> Rows:
    """Books of a few levels that cross, break and are repaired; trades with ids that repeat, are late or are missing."""
    rng = random.Random(seed)
    count = len(WORLD)
    at_ns = T0_NS
    book_id, trade_id, best = [1000] * count, [100] * count, [1000] * count
    parts: list[Rows] = [row(Kind.TIMER, at_ns, -1)]
    for number in range(messages):
        at_ns += rng.choice((0, 0, 1, 1_000, rng.randrange(50 * NS_PER_MS), rng.randrange(2 * NS_PER_S)))
        i = rng.randrange(count)
        venue_ns = rng.choice((0, at_ns - rng.randrange(-3, 20) * NS_PER_MS))
        what = rng.choices(
            ("depth", "snapshot", "gap", "trade", "quote", "mark", "clock", "timer"), (50, 6, 4, 25, 15, 3, 3, 3)
        )[0]
        best[i] += rng.choice((-1, 0, 0, 1, rng.randrange(-20, 21)))
        sides: list[list[tuple[int, int]]] = [[], []]
        for _ in range(rng.randrange(4 if what == "depth" else 8)):
            side = rng.randrange(2)
            offset = rng.randrange(-1, 8)
            sides[side].append((best[i] + offset if side else best[i] - offset - 1, rng.randrange(4)))
        if what in ("depth", "snapshot"):
            book_id[i] += rng.choice((1, 1, 1, 2, 0, -1))
            made = depth(at_ns, book_id[i], *sides, whole=what == "snapshot", instrument=i)
            made["ts_venue_ns"] = venue_ns
        elif what == "gap":
            ids = {"sequence": book_id[i], "price": book_id[i] + 1, "qty": rng.choice((0, book_id[i] + 3))}
            made = row(Kind.GAP, at_ns, i, value=float(rng.choice(list(GapReason))), **ids)
        elif what == "trade":
            trade_id[i] += rng.choice((1, 1, 1, 1, 2, 5))
            told = rng.choice((trade_id[i], trade_id[i], trade_id[i], max(1, trade_id[i] - rng.randrange(8)), 0))
            price = best[i] + rng.choice((-1, 0, 1, -15, 15, 100, -100))
            flags = LAST | rng.choice((0, ASK))
            made = row(Kind.TRADE, at_ns, i, venue_ns=venue_ns, sequence=told, price=price, qty=1, flags=flags)
        elif what == "quote":
            top = [(best[i] + offset, rng.randrange(1, 4)) for offset in (-1, 0)]
            made = quote(at_ns, book_id[i] + rng.randrange(-1, 2), *top, instrument=i)
        elif what == "mark":
            made = row(Kind.MARK, at_ns, i, venue_ns=venue_ns, value=1.0)
        elif what == "clock":
            made = row(Kind.CLOCK, at_ns, i, venue_ns=at_ns, value=0.1, sequence=rng.randrange(NS_PER_MS))
        else:
            made = row(Kind.TIMER, at_ns, -1, sequence=number)
        parts.append(made)
    return tape_of(*parts)


def pieces(rows: Rows, seed: int) -> Iterator[Rows]:
    """The rows cut anywhere, also within messages, with an empty piece now and then."""
    rng = random.Random(seed)
    start = 0
    while start < len(rows):
        stop = start + rng.choice((0, 1, 2, 7, 40, 400))
        yield rows[start:stop]
        start = stop


def messages_of(rows: Rows) -> Iterator[list[dict[str, Any]]]:
    """Messages as plain dictionaries."""
    message: list[dict[str, Any]] = []
    for line in rows.tolist():
        message.append(dict(zip(ROW.names or (), line, strict=True)))
        if message[-1]["flags"] & LAST:
            yield message
            message = []


def at_rank(weighted: Counter[Any], q: float) -> Any:
    """The value at rank floor(q × (total weight - 1)); None without weight."""
    total = sum(weighted.values())
    rank = int(q * (total - 1))
    for value in sorted(value for value, weight in weighted.items() if weight > 0):
        rank -= weighted[value]
        if rank < 0:
            return value
    return None


class NaiveMeasures:
    """One instrument of a tape, message by message, with dictionaries and lists."""

    def __init__(self, rows: Rows, index: int, *, is_numbered: bool, tolerance_bps: float) -> None:
        self.counts: Counter[str] = Counter()
        self.spreads: Counter[float] = Counter()  # bps → ns
        self.delays: Counter[int] = Counter()  # ns → messages
        self.levels: Counter[int] = Counter()
        self.reaches: Counter[float] = Counter()
        self.outside_bps_max = 0.0
        self._book, self._is_valid, self._id = NaiveBook(), False, None
        self._fresh = False
        self._runs = [0]  # lengths of runs of crossed states
        self._crossed_since_ns = 0
        self.crossed_longest_ns = 0
        self._trade_ids: list[int] = []
        self._waiting: list[tuple[int, int, bool, float]] = []
        self._tolerance_bps = tolerance_bps
        self._is_numbered = is_numbered
        self._quotes: dict[int, Any] = {}
        self._tops: dict[int, Any] = {}
        self._spread: float | None = None
        self._since_ns = 0
        self._sample_ns = 0
        self._snapshot_ns = -1
        depth_ns, data_ns = [int(rows[0]["ts_recv_ns"])], [int(rows[0]["ts_recv_ns"])]
        for message in messages_of(rows):
            if message[0]["instrument"] != index:
                continue
            kind, at_ns = Kind(message[0]["kind"]), message[0]["ts_recv_ns"]
            self.counts["rows"] += len(message)
            if kind in STREAMED:
                data_ns.append(at_ns)
            if kind is Kind.DEPTH:
                depth_ns.append(at_ns)
                self._depth(message, at_ns)
            elif kind is Kind.GAP:
                self.counts["gaps"] += 1
                self._state_ends(at_ns)
                self._crossed_ends(at_ns)
                self._spread, self._is_valid, self._book = None, False, NaiveBook()
                self.counts["checked"] -= len(self._waiting)
                self._waiting = []
            elif kind is Kind.TRADE:
                self._trade(message[0], at_ns)
            elif kind is Kind.QUOTE:
                self.counts["quotes"] += 1
                top = tuple(line[name] for line in message for name in ("price", "qty"))
                self._said(self._quotes, self._tops, message[0]["sequence"], top)
            last = message[-1]
            is_late = kind is Kind.DEPTH and (last["flags"] & SNAPSHOT or at_ns == self._snapshot_ns)
            if kind in STREAMED and last["ts_venue_ns"] > 0 and not is_late:
                self.delays[at_ns - last["ts_venue_ns"]] += 1
        end_ns = int(rows[-1]["ts_recv_ns"])
        self._state_ends(end_ns)
        self._crossed_ends(end_ns)
        self.counts["checked"] -= len(self._waiting)
        self.depth_silence_ns = max(np.diff([*depth_ns, end_ns]).tolist())
        self.data_silence_ns = max(np.diff([*data_ns, end_ns]).tolist())
        self.crossed_intervals = sum(run > 1 for run in self._runs)

    def _top(self) -> tuple[int, int, int, int]:
        (bid, ask) = (self._book.best(side) for side in (0, 1))
        return bid, self._book.sides[0].get(bid, 0), ask, self._book.sides[1].get(ask, 0)

    def _depth(self, message: list[dict[str, Any]], at_ns: int) -> None:
        self.counts["messages"] += 1
        self._state_ends(at_ns)
        if message[0]["flags"] & CLEAR:
            self.counts["snapshots"] += 1
            self._book, self._is_valid, self._fresh, self._snapshot_ns = NaiveBook(), True, True, at_ns
        elif not self._is_valid:
            self.counts["unjoined"] += 1
            return
        else:
            went = message[-1]["sequence"] - self._id
            self.counts["disordered"] += went < 0 or (went == 0 and not self._fresh)
            self._fresh = False
        self._id = message[-1]["sequence"]
        for line in message:
            if line["price"]:
                self._book.set_level(1 if line["flags"] & ASK else 0, line["price"], line["qty"])
        bid, _, ask, _ = self._top()
        self._spread, self._since_ns = None, at_ns
        if bid and ask and bid > ask:
            self.counts["crossed"] += 1
            if self._runs[-1] == 0:
                self._crossed_since_ns = at_ns
            self._runs[-1] += 1
        else:
            self._crossed_ends(at_ns)
        if bid and ask and bid <= ask:
            self.counts["locked"] += bid == ask
            self._spread = (ask - bid) / (ask + bid) * 2e4
            if at_ns >= self._sample_ns:
                self._sample_ns = (at_ns // NS_PER_S + 1) * NS_PER_S
                sides = [self._book.levels(side) for side in (0, 1)]
                self.levels[min(map(len, sides))] += 1
                self.reaches[min(abs(side[0][0] - side[-1][0]) for side in sides) / (ask + bid) * 2e4] += 1
        if bid and ask:
            for waiting in list(self._waiting):
                until_ns, price, is_sold, beyond = waiting
                if at_ns > until_ns:
                    self.counts["outside"] += 1
                    self.outside_bps_max = max(self.outside_bps_max, beyond)
                    self._waiting.remove(waiting)
                elif self._beyond(price, is_sold) <= self._tolerance_bps:
                    self._waiting.remove(waiting)
        self._said(self._tops, self._quotes, self._id, self._top())

    def _beyond(self, price: int, is_sold: bool) -> float:
        bid, _, ask, _ = self._top()
        return (price / ask - 1) * 1e4 if is_sold else (1 - price / bid) * 1e4

    def _trade(self, line: dict[str, Any], at_ns: int) -> None:
        self.counts["trades"] += 1
        told = line["sequence"]
        if told:
            self.counts["numbered"] += 1
            self.counts["duplicates"] += told in self._trade_ids
            self.counts["late"] += told not in self._trade_ids and told < max(self._trade_ids, default=0)
            self._trade_ids.append(told)
        bid, _, ask, _ = self._top()
        if self._is_valid and bid and ask:
            self.counts["checked"] += 1
            is_sold = bool(line["flags"] & ASK)
            beyond = self._beyond(line["price"], is_sold)
            if beyond > self._tolerance_bps:
                self._waiting.append((at_ns + NS_PER_S, line["price"], is_sold, beyond))

    def _said(self, ours: dict[int, Any], theirs: dict[int, Any], update: int, top: Sequence[int]) -> None:
        if not self._is_numbered:
            return
        ours[update] = tuple(top)
        if update in theirs:
            self.counts["compared"] += 1
            self.counts["agreed"] += ours.pop(update) == theirs.pop(update)

    def _state_ends(self, at_ns: int) -> None:
        if self._spread is not None:
            self.spreads[self._spread] += at_ns - self._since_ns

    def _crossed_ends(self, at_ns: int) -> None:
        if self._runs[-1]:
            self.crossed_longest_ns = max(self.crossed_longest_ns, at_ns - self._crossed_since_ns)
            self._runs.append(0)
