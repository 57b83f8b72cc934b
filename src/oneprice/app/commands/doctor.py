"""`oneprice doctor`: is this machine ready? Checks what a run needs and says what to do about what is missing."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from oneprice.app.output import DOES_NOT_HOLD, give, people, table

_EXAMPLES = """Examples:

  oneprice doctor

  oneprice doctor --json"""


class Check(msgspec.Struct, frozen=True):
    name: str
    ok: bool
    found: str
    advice: str = ""


def register(app: typer.Typer) -> None:
    app.command(name="doctor", epilog=_EXAMPLES)(doctor)


def doctor(
    folder: Annotated[Path, typer.Option(help="The folder that sessions and runs will be written to.")] = Path(),
    port: Annotated[int, typer.Option(help="The port that the dashboard will listen on.")] = 8079,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on the last line of standard output.")
    ] = False,
) -> None:
    """Check this machine: Python, compiled kernels, clock, disk, port, keys."""
    checks = [_python(), _compiler(), _clock(), _disk(folder), _writable(folder), _port(port), *_keys()]
    if not as_json:
        rows = [("ok" if check.ok else "look", check.name, check.found, check.advice) for check in checks]
        made = table("oneprice doctor", rows, ("", "check", "found", "advice"))
        for column in made.columns:
            column.justify = "left"
        people.print(made)
    give({"ok": all(check.ok for check in checks), "checks": checks}, as_json=as_json)
    if not all(check.ok for check in checks):
        raise typer.Exit(DOES_NOT_HOLD)


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    fits = (3, 11) <= sys.version_info[:2] < (3, 15)
    return Check("python", fits, version, "" if fits else "use Python 3.11 to 3.14")


def _compiler() -> Check:
    if importlib.util.find_spec("numba") is None:
        return Check("compiled kernels", False, "numba is missing", "pip install numba")
    from oneprice.compute.books import make_books, sweep

    began = time.perf_counter()
    sweep(make_books(1), 0, 1, 1)
    seconds = time.perf_counter() - began
    return Check(
        "compiled kernels", True, f"ready in {seconds:.2f} s (the first time compiles, then the disk cache serves)"
    )


def _clock() -> Check:
    steps = [time.time_ns() for _ in range(1000)]
    resolution = min((b - a for a, b in pairwise(steps) if b > a), default=0)
    fine = 0 < resolution < 1_000_000
    return Check("clock", fine, f"resolution {resolution} ns", "" if fine else "latencies below this are not measured")


def _disk(folder: Path) -> Check:
    free_gb = shutil.disk_usage(folder).free / 1e9
    enough = free_gb > 2
    return Check("disk", enough, f"{free_gb:.1f} GB free", "" if enough else "a busy session writes about 1 GB an hour")


def _writable(folder: Path) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return Check("folder", True, str(folder.resolve()))
    except OSError as wrong:
        return Check("folder", False, f"{folder.resolve()}: {wrong.strerror}", "choose another folder with --out")


def _port(port: int) -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return Check("port", False, f"{port} is in use", "give another one with --dashboard PORT")
    return Check("port", True, f"{port} is free")


def _keys() -> list[Check]:
    names = ("BINANCE_SBE_API_KEY", "BINANCE_API_KEY", "BINANCE_API_SECRET", "BYBIT_API_KEY", "BYBIT_API_SECRET")
    given = [name for name in names if os.environ.get(name)]
    found = ", ".join(given) if given else "none (none is needed for paper trading)"
    return [Check("keys in the environment", True, found)]
