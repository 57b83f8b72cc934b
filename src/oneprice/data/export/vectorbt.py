"""A session for vectorbt and pandas: `market.csv`, `fills.csv`, `summary.json`.

    market.csv    timestamp,symbol,open,high,low,close,volume,bid,ask,spread,mid     bars (`bars.py`), all symbols, by time
    fills.csv     timestamp,symbol,side,price,qty,fee,pnl,position                   fills of a run (`fills.py`)
    summary.json  what both were made of: session, bars, venue rules, gaps, results

Numbers are exact decimals; bid, ask, spread and mid are empty where there was no valid book. A bar's timestamp is its
start on the clock that `bars.py` names, a fill's is our receive time. Timestamps are RFC 3339 in UTC; all of a file have
as many decimals as the one that needs most of them, so that one format reads the column."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import numpy as np

from oneprice import __version__
from oneprice.data.certify.names import session_names
from oneprice.data.export.aside import written_aside
from oneprice.data.export.bars import BarMaker, Bars, parse_bar
from oneprice.data.export.fills import FillLine, RunFill, fill_lines
from oneprice.data.session import Session
from oneprice.model.instrument import Instrument
from oneprice.model.progress import Progress, untold
from oneprice.model.time import NS_PER_S

MARKET, FILLS, SUMMARY = "market.csv", "fills.csv", "summary.json"
MARKET_COLUMNS = ("timestamp", "symbol", "open", "high", "low", "close", "volume", "bid", "ask", "spread", "mid")
FILLS_COLUMNS = ("timestamp", "symbol", "side", "price", "qty", "fee", "pnl", "position")


class SymbolSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol: what was exported of it, and the rules of its venue."""

    symbol: str
    bars: int
    trades: int
    volume: Decimal  # base units
    gaps: int
    rules: Instrument


class FillsSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Fills of one quote currency; amounts in it. A fill that reduces a position wins when its pnl is above zero.

    `profit_factor`: what winning ones made over what losing ones lost. None: nothing to divide by.
    """

    fills: int
    fees: Decimal
    pnl: Decimal
    closing: int
    winning: int
    win_rate: float | None
    profit_factor: float | None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """summary.json. Times are RFC 3339, empty for a session without rows."""

    schema: int = 1
    oneprice: str = __version__
    session: str
    session_seal: str
    session_state: str
    session_source: str
    first: str
    last: str
    seconds: float
    bar: str
    bars: int
    gaps: int
    symbols: tuple[SymbolSummary, ...]
    run: str
    fills: int
    fills_by_quote: dict[str, FillsSummary]


def export_vectorbt(
    session: Session,
    folder: Path,
    *,
    bar: str,
    fills: Iterable[RunFill] = (),
    run: str = "",
    progress: Progress = untold,
) -> Summary:
    """Write the three files; they appear together, once all are whole. InputError for an unknown bar.

    `fills` refer to the session's instrument table; `run` says where they come from.
    """
    names = session_names(session.instruments)
    maker = BarMaker(session.instruments, parse_bar(bar))
    read, total = 0, session.manifest.rows or 1
    for rows in session.rows():
        maker.take(rows)
        read += len(rows)
        progress(read / total, f"{read:,} rows")
    bars = maker.finish()
    lines = list(fill_lines(fills, session.instruments))
    span_ns = session.span_ns()
    moments = timestamps(span_ns) if span_ns is not None else ("", "")
    symbols = tuple(
        SymbolSummary(
            symbol=name, bars=len(made.close), trades=int(made.trades.sum()),
            volume=Decimal(int(made.volume.sum())).scaleb(made.volume_exponent), gaps=maker.gaps(i), rules=instrument,
        )
        for i, (name, instrument, made) in enumerate(zip(names, session.instruments, bars, strict=True))
    )  # fmt: skip
    summary = Summary(
        session=session.folder.resolve().name, session_seal=session.seal, session_state=session.state,
        session_source=session.manifest.source, first=moments[0], last=moments[1],
        seconds=(span_ns[1] - span_ns[0]) / NS_PER_S if span_ns is not None else 0.0,
        bar=bar, bars=sum(one.bars for one in symbols), gaps=sum(one.gaps for one in symbols), symbols=symbols,
        run=run, fills=len(lines), fills_by_quote=_by_quote(lines, list(session.instruments)),
    )  # fmt: skip
    with written_aside(folder) as files:
        _write(files.path(MARKET), MARKET_COLUMNS, _market_lines(names, list(session.instruments), bars))
        _write(files.path(FILLS), FILLS_COLUMNS, _fills_lines(names, lines))
        files.path(SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary), indent=1))
    return summary


def timestamps(times_ns: Sequence[int] | np.ndarray) -> list[str]:
    """RFC 3339 in UTC, each with as many decimals (0, 3, 6, 9) as the one that needs most.

    >>> timestamps([1_769_083_200_000_000_000, 1_769_083_200_500_000_000])
    ['2026-01-22T12:00:00.000Z', '2026-01-22T12:00:00.500Z']
    """
    times = [int(time_ns) for time_ns in times_ns]
    decimals = next(n for n in (0, 3, 6, 9) if all(time_ns % 10 ** (9 - n) == 0 for time_ns in times))
    texts = []
    for time_ns in times:
        seconds, rest_ns = divmod(time_ns, NS_PER_S)
        part = f".{rest_ns // 10 ** (9 - decimals):0{decimals}d}" if decimals else ""
        texts.append(f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}{part}Z")
    return texts


def _write(path: Path, columns: Sequence[str], lines: Iterable[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="ascii") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(lines)


def _market_lines(
    names: Sequence[str], instruments: Sequence[Instrument], bars: Sequence[Bars]
) -> Iterable[Sequence[str]]:
    """All bars by time, those of one time in the order of their names."""
    by_name = sorted(range(len(names)), key=lambda i: names[i])
    starts = np.concatenate([bars[i].start_ns for i in by_name])
    owners = np.repeat(by_name, [len(bars[i].start_ns) for i in by_name])
    places = np.concatenate([np.arange(len(bars[i].start_ns)) for i in by_name])
    order = np.argsort(starts, kind="stable")
    moments = timestamps(starts[order])
    for moment, i, k in zip(moments, owners[order].tolist(), places[order].tolist(), strict=True):
        made, exponent = bars[i], instruments[i].price_exponent
        prices = (made.open, made.high, made.low, made.close)
        bid, ask = int(made.bid[k]), int(made.ask[k])
        has_both = bid != 0 and ask != 0
        yield (
            moment,
            names[i],
            *(_text(int(price[k]), exponent) for price in prices),
            _text(int(made.volume[k]), made.volume_exponent),
            _text(bid, exponent) if bid else "",
            _text(ask, exponent) if ask else "",
            _text(ask - bid, exponent) if has_both else "",
            _text((bid + ask) * 5, exponent - 1) if has_both else "",
        )


def _fills_lines(names: Sequence[str], lines: Sequence[FillLine]) -> Iterable[Sequence[str]]:
    for moment, line in zip(timestamps([line.ts_ns for line in lines]), lines, strict=True):
        amounts = (line.price, line.qty, line.fee, line.pnl, line.position)
        yield (moment, names[line.instrument], "BUY" if line.is_buy else "SELL", *(f"{one:f}" for one in amounts))


def _text(mantissa: int, exponent: int) -> str:
    return f"{Decimal(mantissa).scaleb(exponent):f}"


def _by_quote(lines: Iterable[FillLine], instruments: Sequence[Instrument]) -> dict[str, FillsSummary]:
    groups: defaultdict[str, list[FillLine]] = defaultdict(list)
    for line in lines:
        groups[instruments[line.instrument].quote].append(line)
    return {quote: _summed(group) for quote, group in sorted(groups.items())}


def _summed(lines: Sequence[FillLine]) -> FillsSummary:
    closing = [line.pnl for line in lines if line.is_closing]
    won, lost = sum(pnl for pnl in closing if pnl > 0), -sum(pnl for pnl in closing if pnl < 0)
    winning = sum(pnl > 0 for pnl in closing)
    return FillsSummary(
        fills=len(lines),
        fees=sum((line.fee for line in lines), Decimal(0)),
        pnl=sum((line.pnl for line in lines), Decimal(0)),
        closing=len(closing),
        winning=winning,
        win_rate=winning / len(closing) if closing else None,
        profit_factor=float(won / lost) if lost else None,
    )
