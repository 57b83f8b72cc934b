"""What has to be compiled is told, and nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from oneprice.app.compiling import is_compiled, telling, warm
from oneprice.compute.kernels.pipeline import Feature, Pipeline
from oneprice.compute.kernels.registry import KERNELS, find
from oneprice.compute.kernels.streaming import compute


def unseen(number: float) -> Pipeline:
    """Two features in an order that no other test has; whether it is on disk from before is not known."""
    return Pipeline(
        [
            Feature(name="a", kernel="lag", sources={"x": "p"}),
            Feature(name="b", kernel="diff", sources={"x": "p"}),
            *(Feature(name=f"c{k}", kernel="lag", sources={"x": "a"}) for k in range(int(number))),
        ]
    )


def test_what_is_there_is_not_told() -> None:
    warm([find("lag")])
    told: list[str] = []
    with telling(told.append):
        compute("lag", x=[1.0, 2.0])
    assert told == []
    assert is_compiled(find("lag"))
    assert warm([find("lag")]) == {}


def test_a_pipeline_tells_that_it_compiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))  # its generated module is new there, and so is its code
    told: list[str | tuple[str, bool]] = []
    with telling(told.append, lambda name, seconds: told.append((name, seconds > 0.0))):
        pipeline = unseen(5)
        pipeline.tick(0, np.array([1.0]))
        pipeline.tick(1, np.array([2.0]))
    assert told == ["a pipeline of 7", ("a pipeline of 7", True)]


def test_every_kernel_is_made_ready_by_warming() -> None:
    progress: list[float] = []
    some = [kernel for kernel in KERNELS.values() if kernel.ready is not None][:2]
    warm(some, lambda done, name: progress.append(done))
    assert all(is_compiled(kernel) for kernel in some)
    assert progress == sorted(progress)
