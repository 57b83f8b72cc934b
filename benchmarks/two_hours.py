"""A two-hour session in accelerated time, through the script's three steps as a user runs them.

Practice venues, three symbols on spot and a perpetual, depth, quotes, trades and funding; on the way spot announces its end
(its connections are replaced), the perpetual's are cut, and a message is lost. Told are the seconds of capturing, validating
and exporting, rows, gaps and repairs, segments, connections replaced and opened anew, and bytes an event of what is on disk
against plain JSON lines and against gzipped CSV as data vendors sell it.

    python -m benchmarks.two_hours [--minutes 10] [--speed 60] [--json]        two hours: --minutes 120"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from oneprice.data.export.jsonl import Lines
from oneprice.data.session import Session
from oneprice.model.tape import ASK, LAST, SNAPSHOT, Kind, Rows

SYMBOLS = "BTCUSDT,ETHUSDT,BNBUSDT,BTCUSDT_PERP"
# fault, part of the session after which it comes
FAULTS = (
    ("shutdown_notice@binance_spot,for=60", 0.25),
    ("disconnect@binance_usdm", 0.5),
    ("gap@binance_spot:ETHUSDT", 0.75),
)


def _oneprice(*arguments: str) -> tuple[float, dict[str, Any]]:
    began = time.monotonic()
    command = [sys.executable, "-m", "oneprice", *arguments, "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return time.monotonic() - began, json.loads(done.stdout.splitlines()[-1])


def _csv_bytes(session: Session) -> int:
    """The session's depth, trades and quotes as gzipped CSV, a level a line, as Tardis sells them."""
    size = 0
    for rows in session.rows():
        size += len(gzip.compress("".join(_csv_lines(session, rows)).encode(), 6))
    return size


def _csv_lines(session: Session, rows: Rows) -> list[str]:
    instruments = session.instruments
    return [
        f"{instruments[i].venue},{instruments[i].symbol},{venue_ns // 1000},{recv_ns // 1000},"
        f"{'true' if flags & SNAPSHOT else 'false'},{'ask' if flags & ASK else 'bid'},"
        f"{price * instruments[i].price_scale:.8g},{qty * instruments[i].qty_scale:.8g}\n"
        for recv_ns, venue_ns, _, price, qty, _, i, _, kind, flags, *_ in rows.tolist()
        if kind in (Kind.DEPTH, Kind.TRADE, Kind.QUOTE) and i >= 0
    ]


def _sizes(folder: Path, session: Session, names: tuple[str, ...]) -> dict[str, float]:
    """Bytes an event. An event is a message of depth, a trade, a quote or a funding message."""
    events, plain = 0, 0
    lines = Lines(session.instruments, names)
    for rows in session.rows():
        data = rows[(rows["instrument"] >= 0) & (rows["flags"] & LAST != 0)]
        events += int(np.isin(data["kind"], (Kind.DEPTH, Kind.TRADE, Kind.QUOTE, Kind.FUNDING)).sum())
        plain += sum(len(part.text) for part in lines.of(rows))
    logs = {log: sum(path.stat().st_size for path in (folder / log).iterdir()) for log in ("frames", "tape")}
    packed = sum(path.stat().st_size for path in folder.glob("*/*.jsonl.zst"))
    tables = sum(path.stat().st_size for path in folder.glob("*/*.parquet"))
    told = {
        "raw frames": logs["frames"], "tape": logs["tape"], "jsonl.zst (no quotes)": packed,
        "parquet": tables, "jsonl (no quotes)": plain, "csv.gz": _csv_bytes(session),
    }  # fmt: skip
    return {"events": events} | {name: round(size / events, 1) for name, size in told.items()}


def _measure(folder: Path, minutes: float, speed: float) -> dict[str, Any]:
    faults = [argument for fault, part in FAULTS for argument in ("--fault", f"{fault},at={60 * minutes * part:.0f}")]
    took_s, captured = _oneprice(
        "capture-session", "--emulated", "--speed", f"{speed}", "--symbols", SYMBOLS, "--duration-secs", f"{60 * minutes}",
        "--out-dir", str(folder), "--include-trades", "--include-funding", *faults,
    )  # fmt: skip
    validated_s, validated = _oneprice("validate-session", "--session-dir", str(folder))
    exported_s, exported = _oneprice(
        "export-vectorbt", "--session-dir", str(folder), "--out-dir", str(folder / "vectorbt")
    )
    session = Session.open(folder)
    first_ns, last_ns = session.span_ns() or (0, 0)
    return {
        "session_minutes": round((last_ns - first_ns) / 60e9, 1), "capture_and_certify_s": round(took_s, 1),
        "speed_asked": speed, "rows": captured["rows"], "frames": captured["frames"], "gaps": captured["gaps"],
        "repaired": captured["resyncs"], "state": captured["state"], "tier": captured["certificate"]["tier"],
        "segments": len(session.segments("frames")),
        "connections_replaced": sum(feed["replacements"] for feed in captured["feeds"]),
        "connections_opened_anew": sum(feed["reconnects"] for feed in captured["feeds"]),
        "validate_s": round(validated_s, 1), "validated": validated["holds"], "export_s": round(exported_s, 1),
        "bars": exported["bars"],
        "bytes_per_event": _sizes(folder, session, tuple(sorted(validated["symbols"]))),
    }  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--speed", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as aside:
        _measure(Path(aside) / "W", 1.0, 10.0)  # the first one compiles, and session time does not wait for that
        found = _measure(Path(aside) / "S", asked.minutes, asked.speed)
    for name, value in found.items():
        print(f"{name:24} {value}")
    if asked.json:
        print(json.dumps(found))
    if found["gaps"] != found["repaired"] or not found["validated"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
