"""Windows keep their digits: against two passes in long doubles over long streams, far from zero, through spikes that leave."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from oneprice.compute.kernels.streaming import compute

N, W = 30_000, 50
Wide = np.ndarray  # of long doubles
noise = np.random.default_rng(8).standard_normal((2, N))
spiky = noise[0].copy()
spiky[::1_009] = 1e8
STREAMS = {  # the values, and the relative error that is allowed
    "well scaled": (noise[0], 1e-10),
    "a walk": (np.cumsum(noise[0]), 1e-10),
    "far from zero": (1e9 + noise[0], 1e-7),
    "a ramp": (noise[0] + np.arange(N), 1e-10),
    "spikes that leave": (spiky, 1e-10),
}


def deviations(x: Wide) -> Wide:
    return x - x.mean()


def std(x: Wide, y: Wide) -> np.longdouble:
    return np.sqrt((deviations(x) ** 2).sum() / (len(x) - 1))


def cov(x: Wide, y: Wide) -> np.longdouble:
    return (deviations(x) * deviations(y)).sum() / (len(x) - 1)


def corr(x: Wide, y: Wide) -> np.longdouble:
    return cov(x, y) / std(x, y) / std(y, x)


def beta(x: Wide, y: Wide) -> np.longdouble:
    return cov(x, y) / std(x, y) ** 2


def skew(x: Wide, y: Wide) -> np.longdouble:
    n, d = len(x), deviations(x)
    return np.sqrt(np.longdouble(n * (n - 1))) / (n - 2) * (d**3).mean() / (d**2).mean() ** np.longdouble(1.5)


def kurt(x: Wide, y: Wide) -> np.longdouble:
    n, d = len(x), deviations(x)
    return (n - 1) / np.longdouble((n - 2) * (n - 3)) * ((n + 1) * (d**4).mean() / (d**2).mean() ** 2 - 3 * (n - 1))


EXACT: dict[str, tuple[dict[str, object], str, Callable[[Wide, Wide], np.longdouble]]] = {
    "sma": ({"n": W}, "sma", lambda x, y: x.mean()),
    "rolling_std": ({"w": W}, "std", std),
    "rolling_skew": ({"w": W}, "skew", skew),
    "rolling_kurt": ({"w": W}, "kurt", kurt),
    "rolling_cov": ({"w": W}, "cov", cov),
    "rolling_corr": ({"w": W}, "corr", corr),
    "rolling_beta": ({"w": W}, "beta", beta),
    "realized_var": ({"w": W}, "var", lambda x, y: (x**2).sum()),
    "bollinger_bands": ({"n": W}, "mid", lambda x, y: x.mean()),
}


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("kernel", EXACT)
def test_windows_keep_their_digits(kernel: str, stream: str) -> None:
    x, allowed = STREAMS[stream]
    y = 0.5 * (x - x[0]) + noise[1]
    parameters, output, exact = EXACT[kernel]
    columns = {"r": x} if kernel == "realized_var" else {"x": x, "y": y} if kernel in TWO else {"x": x}
    ours = compute(kernel, **columns, **parameters)[output]
    rows = np.unique(np.concatenate([np.arange(W - 1, N, 397), np.arange(W, N, 1_009), np.arange(W + 1, N, 1_009)]))
    wide_x, wide_y = x.astype(np.longdouble), y.astype(np.longdouble)
    expected = np.array([float(exact(wide_x[row + 1 - W : row + 1], wide_y[row + 1 - W : row + 1])) for row in rows])
    scale = np.maximum(np.abs(expected), SCALE.get(kernel, 0.0))
    assert (np.abs(ours[rows] - expected) <= allowed * scale).all(), np.max(np.abs(ours[rows] - expected) / scale)


TWO = {"rolling_cov", "rolling_corr", "rolling_beta"}
# What may be next to nothing is measured against what it is made of.
SCALE = {"rolling_skew": 1.0, "rolling_kurt": 1.0, "rolling_cov": 1.0, "rolling_corr": 1.0, "rolling_beta": 1.0, "sma": 1.0,
         "bollinger_bands": 1.0}  # fmt: skip
