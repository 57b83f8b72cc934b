"""Run the real command in a process of its own, as a user does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

WITHIN_S = 120


class Answer:
    def __init__(self, finished: subprocess.CompletedProcess[str]) -> None:
        self.code = finished.returncode
        self.out = finished.stdout
        self.err = finished.stderr

    @property
    def json(self) -> dict[str, Any]:
        """The object on the last line of standard output."""
        return json.loads(self.out.strip().splitlines()[-1])


def oneprice(*arguments: str | Path, cwd: Path | None = None) -> Answer:
    command = [sys.executable, "-c", "from oneprice.app.cli import main; main()", *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=WITHIN_S, cwd=cwd, check=False)
    return Answer(finished)
