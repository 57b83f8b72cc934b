"""The ledger: every order, report and posting, append-only, in one SQLite file that survives any end of the process.

    orders(number, ts_ns, body)              before the order goes out
    reports(seq, order_number, ts_ns, body)  everything a venue said of it
    fills                                    the reports that are fills, with their fields, for people and exports
    postings(event, account, asset, amount)  double entry: each event's amounts sum to zero, asset by asset

Amounts are exact decimals in text. In WAL mode with `synchronous=NORMAL` a commit is in the operating system's hands
when it returns, so that `kill -9` at any instruction leaves every committed event; only the machine's own fall could
cost the last ones. Triggers refuse UPDATE and DELETE. The content depends on tape and settings alone, so `digest` of a
run and of its replay are equal.

A restart repeats its tape: what it writes again is compared with what stands and left as it is; a difference means that
it is not the same run, and is an error."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec

from oneprice.model.errors import OnepriceError, SessionError
from oneprice.model.order import (
    Order,
    OrderLifecycleError,
    OrderState,
    OrderStatus,
    Report,
    ReportType,
    after,
)  # fmt: skip
from oneprice.trading.money import exact
from oneprice.trading.portfolio import Posting

_TABLES = """
CREATE TABLE IF NOT EXISTS orders (number INTEGER PRIMARY KEY, ts_ns INTEGER NOT NULL, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS reports (
  seq INTEGER PRIMARY KEY, order_number INTEGER NOT NULL REFERENCES orders(number), ts_ns INTEGER NOT NULL,
  body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS postings (
  event INTEGER NOT NULL, account TEXT NOT NULL, asset TEXT NOT NULL, amount TEXT NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS one_fill_a_trade ON reports(order_number, json_extract(body, '$.trade_id'))
  WHERE json_extract(body, '$.type') = 3 AND json_extract(body, '$.trade_id') <> '';
CREATE VIEW IF NOT EXISTS fills AS
  SELECT reports.seq, order_number, reports.ts_ns, json_extract(orders.body, '$.strategy') AS strategy,
    json_extract(orders.body, '$.instrument') AS instrument, json_extract(orders.body, '$.side') AS side,
    json_extract(reports.body, '$.price') AS price, json_extract(reports.body, '$.qty') AS qty,
    json_extract(reports.body, '$.fee') AS fee, json_extract(reports.body, '$.fee_asset') AS fee_asset,
    json_extract(reports.body, '$.maker') AS maker, json_extract(reports.body, '$.trade_id') AS trade_id
  FROM reports JOIN orders ON orders.number = order_number WHERE json_extract(reports.body, '$.type') = 3;
"""
_APPEND_ONLY = """
CREATE TRIGGER IF NOT EXISTS {table}_{verb} BEFORE {verb} ON {table}
BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"""


class Ledger:
    """One run's ledger. Use `event()` around what belongs together: it is written whole or not at all."""

    def __init__(self, path: Path | None) -> None:
        self._db = sqlite3.connect(path if path is not None else ":memory:", isolation_level=None)
        try:
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=NORMAL")
            self._db.executescript(_TABLES)
            for table in ("orders", "reports", "postings"):
                for verb in ("UPDATE", "DELETE"):
                    self._db.executescript(_APPEND_ONLY.format(table=table, verb=verb))
        except sqlite3.DatabaseError as wrong:
            raise SessionError(f"{path}: not a ledger of oneprice, or damaged: {wrong}") from wrong
        self._events = self._count("SELECT COALESCE(MAX(event), 0) FROM postings")
        self._reports = self._count("SELECT COALESCE(MAX(seq), 0) FROM reports")
        self._known_orders = self._count("SELECT COALESCE(MAX(number), 0) FROM orders")
        self._written_reports = 0
        self._written_events = 0
        self._trade_ids: set[tuple[int, str]] = set()

    @contextmanager
    def event(self) -> Iterator[None]:
        """One transaction."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def order(self, order: Order) -> None:
        """Record an order before it goes out. One that stands already (a restart repeats its tape) is left as it is."""
        body = msgspec.json.encode(order).decode()
        if order.number <= self._known_orders:
            self._require_same("order", order.number, "SELECT body FROM orders WHERE number = ?", body)
            return
        self._known_orders = order.number
        self._db.execute("INSERT INTO orders VALUES (?, ?, ?)", (order.number, order.created_ns, body))

    def has(self, report: Report) -> bool:
        """Whether this run has recorded the report's fill already (venues repeat fills; a trade id of an order is
        one)."""
        return report.type is ReportType.FILL and (report.order, report.trade_id) in self._trade_ids

    def report(self, report: Report, postings: Sequence[Posting] = ()) -> bool:
        """Record a report and what it moved; postings that do not balance are refused.

        A fill that is recorded already changes nothing, whatever its postings: → False. Ask `has` before applying it.
        """
        require_balance(postings)
        if self.has(report):
            return False
        if report.type is ReportType.FILL and report.trade_id:
            self._trade_ids.add((report.order, report.trade_id))
        self._written_reports += 1
        body = msgspec.json.encode(report).decode()
        if self._written_reports > self._reports:
            self._db.execute(
                "INSERT INTO reports VALUES (?, ?, ?, ?)", (self._written_reports, report.order, report.ts_ns, body)
            )
        else:
            self._require_same("report", self._written_reports, "SELECT body FROM reports WHERE seq = ?", body)
        self._post(postings)
        return True

    def post(self, postings: Sequence[Posting]) -> None:
        """Record postings that come without an order: opening balances, funding."""
        require_balance(postings)
        self._post(postings)

    def _post(self, postings: Sequence[Posting]) -> None:
        if not postings:
            return
        self._written_events += 1
        if self._written_events > self._events:
            self._db.executemany(
                "INSERT INTO postings VALUES (?, ?, ?, ?)",
                [(self._written_events, posting.account, posting.asset, f"{posting.amount:f}") for posting in postings],
            )

    def orders(self) -> list[Order]:
        return [
            msgspec.json.decode(body, type=Order) for (body,) in self._db.execute("SELECT body FROM orders ORDER BY 1")
        ]

    def reports(self) -> list[Report]:
        rows = self._db.execute("SELECT body FROM reports ORDER BY seq")
        return [msgspec.json.decode(body, type=Report) for (body,) in rows]

    def statuses(self) -> dict[int, OrderStatus]:
        """Where every order stands by what is on disk: what a restart has to ask the venue about is not final.

        An order without a report may or may not have gone out before the process died: it is UNKNOWN. A fill counts
        even where the order's life does not allow it.
        """
        known = {order.number: OrderStatus(order, OrderState.UNKNOWN) for order in self.orders()}
        for report in self.reports():
            status = known[report.order]
            try:
                known[report.order] = after(status, report)
            except OrderLifecycleError:
                filled = report.qty if report.type is ReportType.FILL else 0
                known[report.order] = OrderStatus(status.order, status.state, status.filled_qty + filled)
        return known

    def balances(self) -> dict[tuple[str, str], Decimal]:
        """(account, asset) → balance, summed from all postings."""
        totals: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        with exact():
            for account, asset, amount in self._db.execute("SELECT account, asset, amount FROM postings"):
                totals[account, asset] += Decimal(amount)
        return dict(totals)

    def balanced(self) -> bool:
        """Whether every event's postings sum to zero, asset by asset."""
        sums: defaultdict[tuple[int, str], Decimal] = defaultdict(Decimal)
        with exact():
            for event, asset, amount in self._db.execute("SELECT event, asset, amount FROM postings"):
                sums[event, asset] += Decimal(amount)
        return not any(sums.values())

    def digest(self) -> str:
        """SHA-256 over everything recorded, in order."""
        whole = hashlib.sha256()
        for query in (
            "SELECT number, ts_ns, body FROM orders ORDER BY number",
            "SELECT seq, order_number, ts_ns, body FROM reports ORDER BY seq",
            "SELECT event, account, asset, amount FROM postings ORDER BY rowid",
        ):
            for row in self._db.execute(query):
                whole.update(repr(row).encode())
        return whole.hexdigest()

    def close(self) -> None:
        """Fold the write-ahead log into the file and close it."""
        self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.execute("PRAGMA journal_mode=DELETE")
        self._db.close()

    def _require_same(self, what: str, number: int, query: str, body: str) -> None:
        (recorded,) = self._db.execute(query, (number,)).fetchone()
        if recorded != body:
            raise SessionError(
                f"ledger: {what} {number} is {recorded}, and this restart makes it {body}; it does not repeat the run "
                "that wrote the ledger, so nothing was written"
            )

    def _count(self, query: str) -> int:
        return int(self._db.execute(query).fetchone()[0])


def require_balance(postings: Sequence[Posting]) -> None:
    """OnepriceError unless the postings of an event sum to zero for every asset."""
    sums: defaultdict[str, Decimal] = defaultdict(Decimal)
    with exact():
        for posting in postings:
            sums[posting.asset] += posting.amount
    for asset, amount in sums.items():
        if amount:
            raise OnepriceError(f"ledger: postings of one event leave {amount:f} {asset} over; nothing was written")
