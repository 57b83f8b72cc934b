"""Where compiled code is kept: one folder a state of the sources, for as long as somebody runs them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import oneprice

CODE = "import os, oneprice; print(os.environ['NUMBA_CACHE_DIR'])"
KERNEL = "from oneprice.compute.kernels.streaming import compute; compute('midprice', b=[1.0], a=[2.0])"


def folder_of_a_run(home: Path, code: str = CODE, **environment: str) -> Path:
    given = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    given |= {"XDG_CACHE_HOME": str(home), **environment}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def made(folder: Path, days_ago: float) -> Path:
    folder.mkdir(parents=True)
    (folder / "code.nbc").write_bytes(b"0")
    then = time.time() - days_ago * 86_400
    os.utime(folder, (then, then))
    return folder


def test_code_that_nobody_ran_for_a_month_goes_when_new_sources_run(tmp_path: Path) -> None:
    kept = tmp_path / "oneprice" / "compiled"
    old, recent = made(kept / "old", 31), made(kept / "recent", 29)
    first = folder_of_a_run(tmp_path)
    assert (first.parent, first.exists(), old.exists(), recent.exists()) == (kept, True, False, True)
    older = made(kept / "older", 40)
    assert folder_of_a_run(tmp_path) == first
    assert older.exists(), "these sources are not new"


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert folder_of_a_run(tmp_path / "file").name


def test_a_folder_of_one_s_own_is_taken_and_an_empty_name_is_none(tmp_path: Path) -> None:
    own = tmp_path / "own"
    assert folder_of_a_run(tmp_path, NUMBA_CACHE_DIR=str(own)) == own
    assert folder_of_a_run(tmp_path, NUMBA_CACHE_DIR="") == folder_of_a_run(tmp_path)


def test_code_is_kept_there_though_numba_was_imported_before(tmp_path: Path) -> None:
    """Beside the sources an upgrade would find what was compiled before it."""
    sources = Path(oneprice.__file__).parent
    before = set(sources.rglob("*.nbc"))
    kept = folder_of_a_run(tmp_path, f"import numba; {CODE}; {KERNEL}")
    assert len(list(kept.rglob("*midprice*.nbc"))) > 0
    assert set(sources.rglob("*.nbc")) == before
