"""The desk: from a wish to orders, from reports to holdings. It owns every trade until all its orders have ended and what
they filled is even.

A wish passes the checks as a whole; its orders stand in the ledger before the execution venue hears of them. Reports are
recorded, applied to the portfolio, and, when the last order of a trade has ended, the hedging rule says what is missing.
Everything it does comes back as decisions for the log."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Protocol

import msgspec

from oneprice.compute.books import Books
from oneprice.engine.decisions import Decision
from oneprice.model.errors import OnepriceError, Refused
from oneprice.model.instrument import InstrumentTable
from oneprice.model.order import Order, OrderStatus, Report, ReportType, after
from oneprice.model.tape import Rows
from oneprice.model.time import NS_PER_MS, NS_PER_S
from oneprice.strategies.base import Leg, Sighting
from oneprice.trading.checks import Checks, KillSwitch, Limits, spends
from oneprice.trading.hedging import MAX_COMPLETIONS, Hedge, Step, Wanted, after_orders
from oneprice.trading.ledger import Ledger
from oneprice.trading.portfolio import Fill, Portfolio

_LOOK_AGAIN_NS = 20 * NS_PER_MS  # a hedge whose book is invalid waits this long
_HEDGE_WITHIN_NS = 5 * NS_PER_S  # and at most this long in all


class Execution(Protocol):
    """Where orders go: the paper venue, or live venues. Reports come back through `advance`, at their receive time."""

    def submit(self, order: Order, now_ns: int) -> None: ...

    def next_due_ns(self) -> int | None: ...

    def advance(self, to_ns: int, books: Books) -> list[Report]: ...

    def on_rows(self, rows: Rows, start: int, stop: int, books: Books) -> None: ...


class _Goal(msgspec.Struct):
    leg: Leg
    filled: int = 0


class Trade(msgspec.Struct):
    """One trade of a strategy: what was wanted, what came of it."""

    number: int
    strategy: str
    key: str
    what: str
    started_ns: int
    goals: dict[int, _Goal]  # by instrument
    open_orders: set[int] = msgspec.field(default_factory=set)
    completions: int = 0
    unwinds: int = 0
    uneven_since_ns: int = 0
    look_again_ns: int = 0
    fills: list[Fill] = msgspec.field(default_factory=list)
    ended_ns: int = 0


class Desk:
    """All trades of a run. `write_ahead` is called before orders or reports are recorded: whoever keeps the tape makes it
    durable there, so that the ledger never knows what the tape does not."""

    def __init__(
        self,
        *,
        instruments: InstrumentTable,
        limits: Limits,
        portfolio: Portfolio,
        ledger: Ledger,
        execution: Execution,
        write_ahead: Callable[[], None] = lambda: None,
    ) -> None:
        self.instruments = instruments
        self.portfolio = portfolio
        self.ledger = ledger
        self.kill_switch = KillSwitch()
        self.trades = 0  # with at least one fill
        self.orders = 0
        self.refused = 0
        self.last_refusal = ""
        self.ended: list[Trade] = []  # since somebody last took them
        self._execution = execution
        self._write_ahead = write_ahead
        self._checks = Checks(instruments, limits, portfolio, self.kill_switch)
        self._statuses: dict[int, OrderStatus] = {}
        self._live: dict[int, tuple[Trade, Leg | Hedge]] = {}  # open orders
        self._busy: dict[tuple[str, str], Trade] = {}
        self._waiting: list[Trade] = []  # uneven, and a book they need is invalid
        self._trade_count = 0
        self._funding_due: dict[int, tuple[int, float]] = {}

    # -- what strategies may know -------------------------------------------------------------------------------------

    def position(self, strategy: str, key: str, instrument: int) -> int:
        return self.portfolio.position(strategy, key, instrument)

    def is_busy(self, strategy: str, key: str) -> bool:
        return (strategy, key) in self._busy

    @property
    def is_idle(self) -> bool:
        """Whether every trade has ended."""
        return not self._busy

    def open_orders(self) -> dict[int, OrderStatus]:
        """Orders whose end is not known."""
        return {number: self._statuses[number] for number in self._live}

    def known_fills(self) -> dict[int, frozenset[str]]:
        """Trade ids of the fills of open orders, by order."""
        known: dict[int, set[str]] = {number: set() for number in self._live}
        for fill in self.portfolio.fills:
            if fill.order.number in known:
                known[fill.order.number].add(fill.report.trade_id)
        return {number: frozenset(ids) for number, ids in known.items()}

    # -- driven by the engine -----------------------------------------------------------------------------------------

    def trade(self, now_ns: int, by: str, sighting: Sighting, books: Books) -> list[Decision]:
        """Do what a strategy wants, if the checks let it."""
        self._trade_count += 1
        trade = Trade(
            number=self._trade_count, strategy=by, key=sighting.key, what=sighting.what.value, started_ns=now_ns,
            goals={leg.instrument: _Goal(leg) for leg in sighting.legs},
        )  # fmt: skip
        return self._send(trade, sighting.legs, now_ns, books)

    def next_due_ns(self) -> int | None:
        """When something of ours happens next."""
        due = self._execution.next_due_ns()
        for trade in self._waiting:
            due = trade.look_again_ns if due is None else min(due, trade.look_again_ns)
        return due

    def advance(self, to_ns: int, books: Books) -> list[Decision]:
        """Let everything of ours happen that is due by `to_ns`; books as of then."""
        decisions: list[Decision] = []
        reports = self._execution.advance(to_ns, books)
        if reports:
            self._write_ahead()
            with self.ledger.event():
                touched = [self._take(report) for report in reports if not self.ledger.has(report)]
            for trade in dict.fromkeys(trade.number for trade in touched):
                of_number = next(candidate for candidate in touched if candidate.number == trade)
                if not of_number.open_orders and not of_number.ended_ns:
                    decisions += self._even_out(of_number, to_ns, books)
        waiting, self._waiting = self._waiting, []
        for late in waiting:
            if late.look_again_ns <= to_ns:
                decisions += self._even_out(late, to_ns, books)
            else:
                self._waiting.append(late)
        return decisions

    def on_rows(self, rows: Rows, start: int, stop: int, books: Books) -> None:
        self._execution.on_rows(rows, start, stop, books)

    def settle_funding(self, now_ns: int, books: Books) -> list[Decision]:
        """Pay and receive funding whose time has come, at the last rate and mark seen before it."""
        decisions: list[Decision] = []
        for index in self.portfolio.open_contracts():
            due_ns, rate = self._funding_due.get(index, (0, 0.0))
            if due_ns and now_ns >= due_ns:
                mark = Decimal(repr(float(books.mark[index])))
                instrument = self.instruments[index]
                postings = self.portfolio.apply_funding(instrument, index, rate=Decimal(repr(rate)), mark=mark)
                with self.ledger.event():
                    self.ledger.post(postings)
                inputs = {"rate": rate, "mark": str(mark)}
                decisions.append(
                    Decision(
                        ts_ns=now_ns, by="desk", what="funding", key=instrument.key, reason="settled", inputs=inputs
                    )
                )
            self._funding_due[index] = (int(books.next_funding_ns[index]), float(books.funding_rate[index]))
        return decisions

    # -- orders -------------------------------------------------------------------------------------------------------

    def _send(self, trade: Trade, legs: Sequence[Leg | Hedge], now_ns: int, books: Books) -> list[Decision]:
        orders = [
            Order(
                number=self.orders + place,
                instrument=leg.instrument,
                side=leg.side,
                qty=leg.qty,
                price=leg.limit_price,
                reduce_only=isinstance(leg, Leg) and leg.reduce_only and self._reduces(leg),
                strategy=trade.strategy,
                group=trade.number,
                created_ns=now_ns,
            )
            for place, leg in enumerate(legs, start=1)
        ]
        try:
            approved = self._checks.approve(
                orders, now_ns=now_ns, books=books, in_flight=len(self._live), reserved=self._reserved(),
                hedging=trade.completions > 0 or trade.unwinds > 0,
            )  # fmt: skip
        except Refused as why:
            self.refused += 1
            self.last_refusal = str(why)
            return [Decision(ts_ns=now_ns, by="desk", what="refused", key=trade.key, reason=str(why))]
        self.orders += len(orders)
        self._busy[trade.strategy, trade.key] = trade
        self._write_ahead()
        with self.ledger.event():
            for order in orders:
                self.ledger.order(order)
        for pass_, leg in zip(approved, legs, strict=True):
            self._statuses[pass_.order.number] = OrderStatus(pass_.order)
            self._update(Report(order=pass_.order.number, type=ReportType.SENT, ts_ns=now_ns))
            self._live[pass_.order.number] = (trade, leg)
            trade.open_orders.add(pass_.order.number)
            self._execution.submit(pass_.order, now_ns)
        sent = [order.number for order in orders]
        return [
            Decision(
                ts_ns=now_ns, by="desk", what="sent", key=trade.key, reason=trade.strategy, inputs={"orders": sent}
            )
        ]

    def _reduces(self, leg: Leg) -> bool:
        """Whether an order that ends a position of its trade does so for the account, too. A venue knows one position an
        instrument: where trades of both sides share it, the end of one may be the other's opening."""
        held = -int(leg.side) * self.portfolio.contracts(leg.instrument)
        return held >= leg.qty

    def _reserved(self) -> dict[tuple[str, str], Decimal]:
        """What open orders may still spend."""
        reserved: dict[tuple[str, str], Decimal] = {}
        for number in self._live:
            order = self._statuses[number].order
            for place, amount in spends(self.instruments[order.instrument], order).items():
                reserved[place] = reserved.get(place, Decimal(0)) + amount
        return reserved

    def _update(self, report: Report) -> OrderStatus:
        status = self._statuses[report.order] = after(self._statuses[report.order], report)
        return status

    def _take(self, report: Report) -> Trade:
        """Record one report and apply it."""
        if report.order not in self._live:
            raise OnepriceError(f"a report came for order {report.order}, which is not open: {report.type.name}")
        trade, leg = self._live[report.order]
        status = self._update(report)
        postings = []
        if report.type is ReportType.FILL:
            decision_price = (
                leg.decision_price if isinstance(leg, Leg) else trade.goals[leg.instrument].leg.decision_price
            )
            postings = self.portfolio.apply_fill(
                status.order, report, key=trade.key, decision_price=decision_price
            )  # fmt: skip
            trade.fills.append(self.portfolio.fills[-1])
            goal = trade.goals[status.order.instrument]
            goal.filled += report.qty if status.order.side is goal.leg.side else -report.qty
        self.ledger.report(report, postings)
        if status.state.is_final:
            del self._live[report.order]
            trade.open_orders.discard(report.order)
        return trade

    # -- evening out --------------------------------------------------------------------------------------------------

    def _even_out(self, trade: Trade, now_ns: int, books: Books) -> list[Decision]:
        """A trade without open orders: is it even? What does it need?"""
        wanted = [
            Wanted(instrument=goal.leg.instrument, side=goal.leg.side, qty=goal.leg.qty, filled=goal.filled)
            for goal in trade.goals.values()
        ]
        if not all(books.valid[leg.instrument] for leg in wanted) and any(leg.filled for leg in wanted):
            trade.uneven_since_ns = trade.uneven_since_ns or now_ns
            if now_ns - trade.uneven_since_ns < _HEDGE_WITHIN_NS:
                trade.look_again_ns = now_ns + _LOOK_AGAIN_NS
                self._waiting.append(trade)
                return []
        step, hedges = after_orders(
            wanted, completions=trade.completions, unwinds=trade.unwinds, instruments=self.instruments, books=books
        )
        decisions: list[Decision] = []
        if step in (Step.COMPLETE, Step.UNWIND):
            trade.completions += step is Step.COMPLETE
            trade.unwinds += step is Step.UNWIND
            reason = "completes what filled less" if step is Step.COMPLETE else "undoes what cannot be completed"
            amounts = {self.instruments[hedge.instrument].key: int(hedge.side) * hedge.qty for hedge in hedges}
            decisions.append(
                Decision(ts_ns=now_ns, by="desk", what=step.value, key=trade.key, reason=reason, inputs=amounts)
            )
            decisions += self._send(trade, hedges, now_ns, books)
            if trade.open_orders:
                return decisions
            if step is Step.COMPLETE:  # the checks refused it, and will again: what was filled is undone
                trade.completions = MAX_COMPLETIONS
                return decisions + self._even_out(trade, now_ns, books)
            step = Step.GIVE_UP
        if step is Step.GIVE_UP:
            self.kill_switch.throw(f"{trade.strategy} {trade.key}: a leg could be neither completed nor undone")
            decisions.append(
                Decision(
                    ts_ns=now_ns, by="desk", what="kill_switch", key=trade.key, reason=self.kill_switch.reason or ""
                )
            )
        return [*decisions, self._end(trade, now_ns)]

    def _end(self, trade: Trade, now_ns: int) -> Decision:
        trade.ended_ns = now_ns
        self._busy.pop((trade.strategy, trade.key), None)
        if trade.fills:
            self.trades += 1
            self.ended.append(trade)
        filled = {
            self.instruments[goal.leg.instrument].key: f"{goal.filled}/{goal.leg.qty}" for goal in trade.goals.values()
        }
        return Decision(
            ts_ns=now_ns, by="desk", what="ended", key=trade.key, reason="filled" if trade.fills else "nothing filled",
            inputs=filled,
        )  # fmt: skip
