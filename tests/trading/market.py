"""A market for trading tests: instruments of each kind, books set by hand, rows of the tape, an account with a ledger."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

import numpy as np

from oneprice.compute.books import Books, apply_rows, make_books
from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Order, OrderType, Report, ReportType, Side, TimeInForce
from oneprice.model.tape import ASK, CLEAR, LAST, ROW, SNAPSHOT, GapReason, Kind, Rows
from oneprice.trading.ledger import Ledger
from oneprice.trading.paper import PaperVenue
from oneprice.trading.portfolio import Portfolio, Posting

MS = 1_000_000
START = {("binance_spot", asset): Decimal(amount) for asset, amount in (("USDT", 10**7), ("BTC", 500), ("ETH", 5_000))}
START |= {("bybit_linear", "USDT"): Decimal(10**7), ("binance_coinm", "BTC"): Decimal(500)}

BTC_USDT = Instrument(
    venue="binance_spot", symbol="BTCUSDT", canonical="BTC/USDT", kind=InstrumentKind.SPOT, base="BTC", quote="USDT",
    price_exponent=-2, qty_exponent=-5, min_qty=1, min_notional=Decimal(5), maker_fee=Decimal("0.0010"),
    taker_fee=Decimal("0.0010"), fee_in_received=True,
)  # fmt: skip
ETH_BTC = Instrument(
    venue="binance_spot", symbol="ETHBTC", canonical="ETH/BTC", kind=InstrumentKind.SPOT, base="ETH", quote="BTC",
    price_exponent=-5, qty_exponent=-4, lot=10, min_notional=Decimal("0.0001"), maker_fee=Decimal("0.0010"),
    taker_fee=Decimal("0.0010"), fee_in_received=True,
)  # fmt: skip
BTC_PERP = Instrument(
    venue="bybit_linear", symbol="BTCUSDT", canonical="BTC/USDT:USDT", kind=InstrumentKind.PERP, base="BTC",
    quote="USDT", settle="USDT", price_exponent=-2, qty_exponent=-3, tick=10, min_notional=Decimal(5),
    maker_fee=Decimal("0.0002"), taker_fee=Decimal("0.00055"),
)  # fmt: skip
BTC_COIN = Instrument(
    venue="binance_coinm", symbol="BTCUSD_PERP", canonical="BTC/USD:BTC", kind=InstrumentKind.PERP, base="BTC",
    quote="USD", settle="BTC", price_exponent=-1, qty_exponent=0, contract_multiplier=Decimal(100), inverse=True,
    maker_fee=Decimal("0.0002"), taker_fee=Decimal("0.0005"),
)  # fmt: skip
TABLE = InstrumentTable([BTC_USDT, ETH_BTC, BTC_PERP, BTC_COIN])
SPOT, CROSS, PERP, COIN = (
    TABLE.index(rules.venue, rules.symbol) for rules in (BTC_USDT, ETH_BTC, BTC_PERP, BTC_COIN)
)  # fmt: skip

Levels = Iterable[tuple[int, int]]


def depth_rows(
    instrument: int, bids: Levels = (), asks: Levels = (), *, ts_ns: int = MS, snapshot: bool = False
) -> Rows:
    """One depth message; quantity 0 takes a level away."""
    levels = [(price, qty, 0) for price, qty in bids] + [(price, qty, ASK) for price, qty in asks]
    rows = np.zeros(max(1, len(levels)), dtype=ROW)
    rows["kind"], rows["instrument"], rows["ts_recv_ns"] = int(Kind.DEPTH), instrument, ts_ns
    for row, (price, qty, flags) in zip(rows, levels, strict=False):
        row["price"], row["qty"], row["flags"] = price, qty, flags | (SNAPSHOT if snapshot else 0)
    if snapshot:
        rows["flags"][0] |= CLEAR | SNAPSHOT
    rows["flags"][-1] |= LAST
    return rows


def trade_rows(instrument: int, *prints: tuple[Side, int, int], ts_ns: int = MS) -> Rows:
    """Prints as (the taker's side, price, quantity)."""
    rows = np.zeros(len(prints), dtype=ROW)
    rows["kind"], rows["instrument"], rows["ts_recv_ns"], rows["flags"] = int(Kind.TRADE), instrument, ts_ns, LAST
    for row, (taker, price, qty) in zip(rows, prints, strict=True):
        row["price"], row["qty"] = price, qty
        row["flags"] |= ASK if taker is Side.SELL else 0
    return rows


def gap_row(instrument: int, *, ts_ns: int = MS) -> Rows:
    rows = np.zeros(1, dtype=ROW)
    rows["kind"], rows["instrument"], rows["ts_recv_ns"] = int(Kind.GAP), instrument, ts_ns
    rows["value"], rows["flags"] = float(GapReason.SEQUENCE), LAST
    return rows


def order(number: int, instrument: int, side: Side, qty: int, price: int = 0, **fields: object) -> Order:
    """An IOC limit order, or a market order when no price is given."""
    fields.setdefault("type", OrderType.LIMIT if price else OrderType.MARKET)
    fields.setdefault("time_in_force", TimeInForce.IOC)
    fields.setdefault("strategy", "test")
    return Order(number=number, instrument=instrument, side=side, qty=qty, price=price, group=number, **fields)  # type: ignore[arg-type]


class Market:
    """Books, a paper venue, and the time."""

    def __init__(self, paper: PaperVenue) -> None:
        self.books: Books = make_books(len(TABLE))
        self.paper = paper
        self.now_ns = MS

    def feed(self, rows: Rows) -> None:
        """Rows reach the books, then the resting orders."""
        self.now_ns = max(self.now_ns, int(rows["ts_recv_ns"][-1]))
        apply_rows(self.books, rows, 0, len(rows))
        self.paper.on_rows(rows, 0, len(rows), self.books)

    def snapshot(self, instrument: int, bids: Levels, asks: Levels) -> None:
        self.feed(depth_rows(instrument, bids, asks, ts_ns=self.now_ns, snapshot=True))

    def send(self, *orders: Order) -> list[Report]:
        for one in orders:
            self.paper.submit(one, self.now_ns)
        return self.settle()

    def settle(self) -> list[Report]:
        """Let everything under way arrive; the reports that come back."""
        reports: list[Report] = []
        due_ns = self.paper.next_due_ns()
        while due_ns is not None:
            self.now_ns = max(self.now_ns, due_ns)
            reports += self.paper.advance(due_ns, self.books)
            due_ns = self.paper.next_due_ns()
        return reports


def fills(reports: Iterable[Report]) -> list[Report]:
    return [report for report in reports if report.type is ReportType.FILL]


def types(reports: Iterable[Report]) -> list[ReportType]:
    return [report.type for report in reports]


class Account:
    """Portfolio and ledger side by side, as a desk keeps them."""

    def __init__(self, path: Path | None = None) -> None:
        self.portfolio = Portfolio(TABLE, START)
        self.ledger = Ledger(path)
        opening = [
            posting
            for (venue, asset), amount in START.items()
            for posting in (Posting(f"venue:{venue}", asset, amount), Posting(f"owner:{venue}", asset, -amount))
        ]
        with self.ledger.event():
            self.ledger.post(opening)

    def record(self, one: Order) -> None:
        with self.ledger.event():
            self.ledger.order(one)

    def book(self, one: Order, reports: Iterable[Report], *, decision_price: int = 0) -> None:
        """One transaction for a batch of reports."""
        with self.ledger.event():
            for report in reports:
                if self.ledger.has(report):
                    continue
                postings = []
                if report.type is ReportType.FILL:
                    decided = decision_price or report.price
                    postings = self.portfolio.apply_fill(one, report, key="k", decision_price=decided)
                self.ledger.report(report, postings)

    def assert_balanced(self) -> None:
        assert self.ledger.balanced()
        assert self.portfolio.balances_hold()
        recorded = self.ledger.balances()
        for (venue, asset), amount in self.portfolio.balances.items():
            assert recorded.get((f"venue:{venue}", asset), Decimal(0)) == amount
