"""What we hold, and what it came to: balances by venue and asset, positions by trade, and the result in its parts.

Every fill becomes postings, and the postings of an event sum to zero asset by asset: what our account gets, the market
gives. Perpetuals are realised first in, first out, so that no division is needed and the books balance to the last
unit; what their open lots cost is set aside (no leverage) and not available: in each asset available + in positions =
starting + what was exchanged, realised, paid and received.

Result, in one currency at given prices: `net = gross_edge - slippage - fees + funding`, exactly. `gross_edge` is what
the fills are worth now had they been done at the prices they were decided on; `slippage` is what they cost against
those."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec

from oneprice.model.instrument import Instrument, InstrumentKind, InstrumentTable
from oneprice.model.order import Order, Report
from oneprice.trading.money import divide_rounded, exact

ZERO = Decimal(0)


class Posting(msgspec.Struct, frozen=True):
    """One side of an entry: `amount` of `asset` to (or, negative, from) an account."""

    account: str
    asset: str
    amount: Decimal


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    """A fill with what it was decided on."""

    order: Order
    report: Report
    decision_price: int


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What fills came to, in the valuation currency. `net = gross_edge - slippage - fees + funding`."""

    gross_edge: Decimal = ZERO
    slippage: Decimal = ZERO
    fees: Decimal = ZERO
    funding: Decimal = ZERO

    @property
    def net(self) -> Decimal:
        with exact():
            return self.gross_edge - self.slippage - self.fees + self.funding


# value(asset, venue) → units of the valuation currency for one unit of the asset; None when no price is known
Value = Callable[[str, str], Decimal | None]
Mid = Callable[[int], Decimal | None]


class Portfolio:
    """Balances and positions of one run. `starting`: balances by (venue, asset)."""

    def __init__(self, instruments: InstrumentTable, starting: Mapping[tuple[str, str], Decimal]) -> None:
        self._instruments = instruments
        self.starting = dict(starting)
        self.balances: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal, starting)
        self.fills: list[Fill] = []
        self.funding: list[tuple[str, str, Decimal]] = []  # (venue, asset, amount)
        self._positions: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._contracts: defaultdict[int, int] = defaultdict(int)
        self._lots: defaultdict[tuple[str, str, int], deque[tuple[int, int]]] = defaultdict(
            deque
        )  # (price, signed qty)
        self.realised: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self.in_positions: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)  # cost of open lots

    def position(self, strategy: str, key: str, instrument: int) -> int:
        """Signed filled quantity (mantissa) of a strategy's trades under a key."""
        return self._positions[strategy, key, instrument]

    def contracts(self, instrument: int) -> int:
        """Signed derivative position (mantissa) over all strategies."""
        return self._contracts[instrument]

    def all_contracts(self) -> dict[int, int]:
        """Every derivative position that is not flat: instrument → signed quantity (mantissa)."""
        return {index: qty for index, qty in sorted(self._contracts.items()) if qty}

    def open_contracts(self) -> list[int]:
        """Instruments with a derivative position, in order."""
        return sorted(index for index, qty in self._contracts.items() if qty)

    def apply_fill(self, order: Order, report: Report, *, key: str, decision_price: int) -> list[Posting]:
        """Take a fill in; → its postings."""
        with exact():
            return self._apply_fill(order, report, key, decision_price)

    def _apply_fill(self, order: Order, report: Report, key: str, decision_price: int) -> list[Posting]:
        instrument = self._instruments[order.instrument]
        signed = int(order.side) * report.qty
        self.fills.append(Fill(order=order, report=report, decision_price=decision_price))
        self._positions[order.strategy, key, order.instrument] += signed
        if instrument.kind is InstrumentKind.SPOT:
            moves = [
                (instrument.base, int(order.side) * instrument.qty(report.qty)),
                (instrument.quote, -int(order.side) * instrument.notional(report.price, report.qty)),
            ]
        else:
            realised = self._realise(order, report, key, signed, instrument)
            self._contracts[order.instrument] += signed
            moves = [(instrument.key, int(order.side) * instrument.qty(report.qty))]
            if realised:
                self.realised[instrument.venue, instrument.settle] += realised
                moves.append((instrument.settle, realised))
        postings = []
        for asset, amount in moves:
            postings += self._move(instrument.venue, "market", asset, amount)
        if report.fee:
            postings += self._move(instrument.venue, "fees", report.fee_asset, -report.fee)
        return postings

    def apply_funding(self, instrument: Instrument, index: int, *, rate: Decimal, mark: Decimal) -> list[Posting]:
        """Pay or receive funding on the position held now; positive rate: longs pay. → postings, none without one."""
        held = self._contracts[index]
        if held == 0:
            return []
        with exact():
            size = instrument.qty(held) * instrument.contract_multiplier
            value = divide_rounded(size, mark) if instrument.inverse else size * mark
            amount = -value * rate
            self.funding.append((instrument.venue, instrument.settle, amount))
            return self._move(instrument.venue, "funding", instrument.settle, amount)

    def available(self, venue: str, asset: str) -> Decimal:
        """What the account can trade with: its balance, less what open contract positions have set aside."""
        with exact():
            return self.balances[venue, asset] - self.in_positions[venue, asset]

    def average_entry(self, strategy: str, key: str, instrument: int) -> Decimal | None:
        """Average entry price of a contract position, to 12 decimals; None when flat. Inverse contracts: harmonic."""
        rules = self._instruments[instrument]
        lots = self._lots[strategy, key, instrument]
        with exact():
            size = sum((rules.qty(abs(qty)) * rules.contract_multiplier for _, qty in lots), ZERO)
            cost = sum((_cost(rules, price, qty) for price, qty in lots), ZERO)
        if not lots:
            return None
        return divide_rounded(size, cost) if rules.inverse else divide_rounded(cost, size)

    def unrealised(self, instrument: int, mark: Decimal) -> Decimal:
        """What closing every contract lot of an instrument at `mark` would realise, in its settlement asset."""
        rules = self._instruments[instrument]
        with exact():
            result = ZERO
            for (_, _, index), lots in self._lots.items():
                if index == instrument:
                    for price, qty in lots:
                        gain = _worth(rules, abs(qty), rules.price(price), mark)
                        result += gain if qty > 0 else -gain
            return result

    def result(self, fills: list[Fill], mid: Mid, value: Value, *, with_funding: bool = False) -> Result:
        """What fills came to at the given mid prices; fills without a price now count at their own."""
        gross = slippage = fees = funding = ZERO
        for fill in fills:
            instrument = self._instruments[fill.order.instrument]
            report, side = fill.report, int(fill.order.side)
            rate = value(instrument.settle or instrument.quote, instrument.venue) or ZERO
            decided = instrument.price(fill.decision_price)
            paid = instrument.price(report.price)
            now = mid(fill.order.instrument)
            if now is None:
                now = paid
            fee_rate = value(report.fee_asset, instrument.venue) or ZERO
            with exact():
                gross += side * _worth(instrument, report.qty, decided, now) * rate
                slippage += side * _worth(instrument, report.qty, decided, paid) * rate
                fees += report.fee * fee_rate
        for venue, asset, amount in self.funding if with_funding else ():
            rate = value(asset, venue) or ZERO
            with exact():
                funding += amount * rate
        return Result(gross_edge=gross, slippage=slippage, fees=fees, funding=funding)

    def balances_hold(self) -> bool:
        """Whether, in each asset of each venue, available + in positions = starting + all that was exchanged, realised,
        paid and received, to the last unit; all of it summed again from the fills and the open lots."""
        with exact():
            return self._balances_hold()

    def _balances_hold(self) -> bool:
        expected: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal, self.starting)
        for fill in self.fills:
            instrument, report = self._instruments[fill.order.instrument], fill.report
            if instrument.kind is InstrumentKind.SPOT:
                side = int(fill.order.side)
                expected[instrument.venue, instrument.base] += side * instrument.qty(report.qty)
                expected[instrument.venue, instrument.quote] -= side * instrument.notional(report.price, report.qty)
            else:
                side = int(fill.order.side)
                expected[instrument.venue, instrument.key] += side * instrument.qty(report.qty)
            expected[instrument.venue, report.fee_asset] -= report.fee
        for place, amount in self.realised.items():
            expected[place] += amount
        for venue, asset, amount in self.funding:
            expected[venue, asset] += amount
        set_aside: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for (_, _, index), lots in self._lots.items():
            instrument = self._instruments[index]
            set_aside[instrument.venue, instrument.settle] += sum((_cost(instrument, *lot) for lot in lots), ZERO)
        return all(
            self.balances[place] - self.in_positions[place] + set_aside[place] == expected[place]
            for place in {*expected, *self.balances, *self.in_positions, *set_aside}
        )

    def _move(self, venue: str, other: str, asset: str, amount: Decimal) -> list[Posting]:
        self.balances[venue, asset] += amount
        return [Posting(f"venue:{venue}", asset, amount), Posting(f"{other}:{venue}", asset, -amount)]

    def _realise(self, order: Order, report: Report, key: str, signed: int, instrument: Instrument) -> Decimal:
        """Close lots of the other sign, oldest first; what is left of the fill becomes a lot. → realised, in settle."""
        lots = self._lots[order.strategy, key, order.instrument]
        place = instrument.venue, instrument.settle
        left, realised = signed, ZERO
        while left and lots and (lots[0][1] > 0) != (left > 0):
            price, qty = lots[0]
            closed = min(abs(qty), abs(left))
            direction = 1 if qty > 0 else -1
            gain = _worth(instrument, closed, instrument.price(price), instrument.price(report.price))
            realised += direction * gain
            kept = qty - direction * closed
            self.in_positions[place] += _cost(instrument, price, kept) - _cost(instrument, price, qty)
            if kept == 0:
                lots.popleft()
            else:
                lots[0] = (price, kept)
            left += direction * closed
        if left:
            lots.append((report.price, left))
            self.in_positions[place] += _cost(instrument, report.price, left)
        return realised


def _worth(instrument: Instrument, qty: int, before: Decimal, after: Decimal) -> Decimal:
    """What a long of `qty` gains when its price goes from `before` to `after`, in quote (inverse: settle) units."""
    amount = instrument.qty(qty) * instrument.contract_multiplier
    if instrument.inverse:
        return divide_rounded(amount, before) - divide_rounded(amount, after)
    return amount * (after - before)


def _cost(instrument: Instrument, price: int, qty: int) -> Decimal:
    """What a lot of `qty` (signed) cost at `price`, never negative, in the settlement asset."""
    value = instrument.notional(price, abs(qty))
    return divide_rounded(value, instrument.price(price)) if instrument.inverse and qty else value
