"""How fast the engine replays: the recorded Binance session through three strategies, on one core.

The named peer is the Python loop that most backtests are: a sorted dictionary (sortedcontainers) by side and market,
updated row by row, best prices looked at after each message, and no strategy at all. Peers measured elsewhere on such a
machine: nautilus_trader 1.221 delivers 0.22–0.27 M quote ticks a second to an empty Python strategy, hftbacktest 2.4.4
replays 6.4–7.8 M events a second in compiled code.

    python -m benchmarks.replay [--rounds 3] [--json]"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from sortedcontainers import SortedDict

from oneprice.data.importer import import_recordings
from oneprice.data.replay import Replay
from oneprice.data.session import Session
from oneprice.engine.run import Run
from oneprice.engine.settings import Mode, RunSettings
from oneprice.model.tape import ASK, CLEAR, LAST, Kind

SHARED = Path(os.environ.get("ONEPRICE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
RECORDING = SHARED / "data/market/binance_2024-08-08"


def ours(session: Session) -> tuple[float, int]:
    """(seconds, rows) of a replay through the engine, reading and unpacking included."""
    replay = Replay([session])
    run = Run(RunSettings(mode=Mode.BACKTEST), replay.instruments, None)
    began = time.perf_counter()
    for rows in replay.rows():
        run.on_rows(rows)
    return time.perf_counter() - began, run.engine.events


def python_loop(session: Session) -> tuple[float, int]:
    """(seconds, rows) of keeping sorted dictionaries up to date, one row at a time."""
    books: dict[int, tuple[SortedDict, SortedDict]] = {}
    began, count, touch = time.perf_counter(), 0, None
    for rows in Replay([session]).rows():
        columns = (rows[name].tolist() for name in ("kind", "flags", "instrument", "price", "qty"))
        for kind, flags, instrument, price, qty in zip(*columns, strict=True):
            count += 1
            if kind != Kind.DEPTH:
                continue
            book = books.setdefault(instrument, (SortedDict(), SortedDict()))
            if flags & CLEAR:
                book[0].clear()
                book[1].clear()
            side = book[1 if flags & ASK else 0]
            if qty:
                side[price] = qty
            else:
                side.pop(price, None)
            if flags & LAST and book[0] and book[1]:
                touch = (book[0].peekitem(-1), book[1].peekitem(0))
    assert touch
    return time.perf_counter() - began, count


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "S"
        import_recordings(sorted(RECORDING.glob("*.gz")), out)
        session = Session.open(out)
        ours(session)
        rates: dict[str, list[float]] = {"oneprice": [], "python loop": []}
        for _ in range(asked.rounds):
            for name, work in (("oneprice", ours), ("python loop", python_loop)):
                seconds, rows = work(session)
                rates[name].append(rows / seconds)
    medians = {name: statistics.median(found) for name, found in rates.items()}
    ratio = medians["oneprice"] / medians["python loop"]
    print(f"engine with three strategies: {medians['oneprice'] / 1e6:.2f} M rows/s")
    print(f"python loop, books only:      {medians['python loop'] / 1e6:.2f} M rows/s")
    print(f"ratio: {ratio:.1f}")
    if asked.json:
        print(
            json.dumps(
                {"rows_per_s": medians["oneprice"], "python_loop_rows_per_s": medians["python loop"], "ratio": ratio}
            )
        )


if __name__ == "__main__":
    main()
