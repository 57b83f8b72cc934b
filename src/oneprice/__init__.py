"""oneprice: one tape from many crypto markets, and what to do where the law of one price is broken on it."""

import contextlib
import hashlib
import os
import shutil
import sys
import time
from pathlib import Path

__version__ = "0.1.0"


def _compiled_code_folder() -> Path:
    """Where compiled code is kept between runs, one folder for each state of the sources.

    Numba looks only at the file that holds a function, not at what the function calls: after an upgrade it would go on
    running old code. A folder named after all sources cannot.
    """
    state = hashlib.sha256(__version__.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        found = path.stat()
        state.update(f"{path.name}{found.st_size}{found.st_mtime_ns}".encode())
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111
    folder = Path(root) / "oneprice" / "compiled" / state.hexdigest()[:16]
    with contextlib.suppress(OSError):  # where nothing can be kept, Numba says so if it matters
        _keep(folder)
    return folder


_KEPT_S = 30 * 86_400.0


def _keep(folder: Path) -> None:
    """Note that a folder is in use. When it is new, the sources are: those of which nobody ran the code for a month go."""
    if not folder.exists():
        folder.mkdir(parents=True)
        for other in folder.parent.iterdir():
            if other.stat().st_mtime < time.time() - _KEPT_S:
                shutil.rmtree(other, ignore_errors=True)
    os.utime(folder)


# Read by Numba when it is first imported, which no module of ours does before this one has run; others may have.
if not os.environ.get("NUMBA_CACHE_DIR"):  # an empty one would be the current folder
    os.environ["NUMBA_CACHE_DIR"] = str(_compiled_code_folder())
    if "numba" in sys.modules:
        sys.modules["numba"].config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"]
