"""`oneprice export-vectorbt` and `oneprice export`: a session in the forms that other packages read."""

from __future__ import annotations

import shutil
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
import typer

from oneprice.app.options import Json
from oneprice.app.output import give, people, progress, say, table
from oneprice.data.export.bars import DEFAULT_BAR
from oneprice.data.export.fills import RunFill
from oneprice.data.export.hftbacktest import export_hftbacktest
from oneprice.data.export.tables import write_parquet
from oneprice.data.export.vectorbt import export_vectorbt
from oneprice.data.session import Session
from oneprice.data.union import union_of
from oneprice.engine.run import LEDGER, SESSION, SessionUsed, read_run, sessions_used
from oneprice.model.errors import InputError, SessionError
from oneprice.model.order import Order, Report, ReportType, Side
from oneprice.trading.ledger import Ledger

_VECTORBT_EXAMPLES = """Examples:

  oneprice export-vectorbt --session-dir S

  oneprice export-vectorbt --session-dir S --out-dir V --bar 15s

  oneprice export-vectorbt --session-dir RUN_DIR/session --run RUN_DIR --bar dollar:100000 --json"""
_EXAMPLES = """Examples:

  oneprice export --session-dir S --format parquet --out-dir P

  oneprice export --session-dir S --format hftbacktest --out-dir H --json"""


class Format(StrEnum):
    PARQUET = "parquet"
    HFTBACKTEST = "hftbacktest"


SessionDir = Annotated[Path, typer.Option("--session-dir", "--session", help="Session folder.")]


def register(app: typer.Typer) -> None:
    app.command(name="export-vectorbt", epilog=_VECTORBT_EXAMPLES)(vectorbt)
    app.command(name="export", epilog=_EXAMPLES)(export)


def vectorbt(
    session_dir: SessionDir,
    out_dir: Annotated[
        Path | None, typer.Option("--out-dir", "--out", help="Folder to write to. Default: SESSION_DIR/vectorbt.")
    ] = None,
    bar: Annotated[
        str, typer.Option(help="1s, 15s, 1m, 1h; volume:10 (base units); dollar:100000 (quote units).")
    ] = DEFAULT_BAR,
    run: Annotated[Path | None, typer.Option(help="Run over this session, whose fills go to fills.csv.")] = None,
    as_json: Json = False,
) -> None:
    """Write market.csv (bars), fills.csv (of a run) and summary.json, as vectorbt and pandas read them."""
    session = Session.open(session_dir)
    folder = out_dir if out_dir is not None else session_dir / "vectorbt"
    fills = fills_of(run, session) if run is not None else []
    with progress("exporting", total=1.0) as advance:
        summary = export_vectorbt(
            session, folder, bar=bar, fills=fills, run=run.resolve().name if run is not None else "", progress=advance
        )
    if not as_json:
        rows = [(one.symbol, f"{one.bars:,}", f"{one.trades:,}", f"{one.gaps:,}") for one in summary.symbols]
        people.print(table("", rows, ("symbol", "bars", "trades", "gaps")))
        for quote, of_quote in summary.fills_by_quote.items():
            say(f"{of_quote.fills:,} fills in {quote}: {of_quote.pnl:f} realised after {of_quote.fees:f} of fees")
        say(f"written: {folder}/market.csv, fills.csv, summary.json")
    give({"out": str(folder), **msgspec.structs.asdict(summary)}, as_json=as_json)


def export(
    session_dir: SessionDir,
    out_dir: Annotated[Path, typer.Option("--out-dir", "--out", help="Folder to write to.")],
    to: Annotated[Format, typer.Option("--format", help="parquet: tables; hftbacktest: events for that package.")],
    as_json: Json = False,
) -> None:
    """Write a session as Parquet tables by symbol and stream, or as the event files of the package hftbacktest."""
    session = Session.open(session_dir)
    with progress("exporting", total=1.0) as advance:
        if to is Format.PARQUET:
            names = write_parquet(session, out_dir, progress=advance)
        else:
            names = export_hftbacktest(session, out_dir, progress=advance)
    if not as_json:
        rows = [(name, f"{(out_dir / name).stat().st_size:,}") for name in names]
        people.print(table("", rows, ("file", "bytes")))
    give({"session": str(session_dir), "out": str(out_dir), "format": to.value, "files": names}, as_json=as_json)


def fills_of(run: Path, session: Session) -> list[RunFill]:
    """The fills of a run in the instruments of one of the sessions it read.

    InputError for a run over other sessions, SessionError for a folder without a run or ledger.
    """
    used = read_run(run).sessions or sessions_used([Session.open(run / SESSION)])
    if not any(_is(session, one) for one in used):
        raise InputError(f"{run}: this run was made over {', '.join(one.folder for one in used)}, not {session.folder}")
    # The ledger numbers instruments as the run did, over all of its sessions.
    instruments = union_of([session if _is(session, one) else Session.open(Path(one.folder)) for one in used])
    orders, reports = _recorded(run)
    fills = []
    for report in reports:
        instrument = instruments[orders[report.order].instrument]
        number = session.instruments.find(instrument.venue, instrument.symbol)
        if report.type is ReportType.FILL and number is not None:
            fills.append(
                RunFill(
                    ts_ns=report.ts_ns, instrument=number, is_buy=orders[report.order].side is Side.BUY,
                    price=instrument.price(report.price), qty=instrument.qty(report.qty), fee=report.fee,
                    fee_asset=report.fee_asset,
                )
            )  # fmt: skip
    return fills


def _is(session: Session, used: SessionUsed) -> bool:
    return Path(used.folder) == session.folder.resolve() or (session.seal != "" and session.seal == used.seal)


def _recorded(run: Path) -> tuple[dict[int, Order], list[Report]]:
    """Orders by number, and reports. They are read from a copy, because opening a ledger changes its file."""
    if not (run / LEDGER).exists():
        raise SessionError(f"{run}: no {LEDGER} is here")
    with TemporaryDirectory(prefix="oneprice-export-") as aside:
        for path in run.glob(f"{LEDGER}*"):  # with what a run that was cut left in its write-ahead log
            shutil.copy(path, aside)
        ledger = Ledger(Path(aside) / LEDGER)
        try:
            return {order.number: order for order in ledger.orders()}, ledger.reports()
        finally:
            ledger.close()
