"""`from oneprice.compute import …`: kernels by their names, and what goes with them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import oneprice.compute
from oneprice.compute.kernels.registry import ALIASES, KERNELS


def test_kernels_and_joins_come_from_one_package() -> None:
    from oneprice.compute import asof_join, core48, midprice, scan_pairs

    quotes = {"t": np.array([1, 5]), "b": np.array([99.0, 99.5]), "a": np.array([101.0, 100.5])}
    trades = {"t": np.array([4, 7]), "p": np.array([101.0, 99.5])}
    known = asof_join(trades, quotes)
    np.testing.assert_array_equal(midprice(b=known["b"], a=known["a"])["m"], [100.0, 100.0])
    assert callable(core48) and callable(scan_pairs)


@pytest.mark.parametrize("name", [*KERNELS, *ALIASES])
def test_every_kernel_is_a_function(name: str) -> None:
    assert callable(getattr(oneprice.compute, name))


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="no kernel of that name"):
        oneprice.compute.nothing  # noqa: B018


def test_a_book_does_not_load_the_kernels() -> None:
    asked = "import sys, oneprice.compute.books; print('oneprice.compute.kernels.registry' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
