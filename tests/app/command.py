"""Run the real command in a process of its own, as a user does."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from patience import WITHIN_S


class Answer:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        return json.loads(self.out.strip().splitlines()[-1])


def oneprice(*arguments: str | Path, cwd: Path | None = None, is_new: bool = False) -> Answer:
    """`is_new`: for what is read when modules are imported; else the process is a copy of one that has imported them."""
    command = [*map(str, arguments)]
    if is_new:
        command = [sys.executable, "-m", "oneprice", *command]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, cwd=cwd, check=False)
        return Answer(done.returncode, done.stdout, done.stderr)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        request = {"arguments": command, "cwd": str(cwd or Path.cwd()), "environment": dict(os.environ)}
        ready = _ready()
        assert ready.stdin is not None
        assert ready.stdout is not None
        ready.stdin.write(json.dumps(request | {"out": str(out), "err": str(err)}) + "\n")
        ready.stdin.flush()
        if not select.select([ready.stdout], [], [], WITHIN_S)[0]:
            os.killpg(ready.pid, signal.SIGKILL)  # and the command that does not end
            _ready.cache_clear()
            raise TimeoutError(f"{command}: no end within {WITHIN_S} s: {err.read_text()}")
        return Answer(int(ready.stdout.readline()), out.read_text(), err.read_text())


@cache
def _ready() -> subprocess.Popen[str]:
    script = [sys.executable, str(Path(__file__).parent / "ready.py")]
    return subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
