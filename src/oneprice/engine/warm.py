"""Compiled code made ready before the first row comes: the first start compiles (a minute on a small machine, once), every
later one reads the cache. Compiling in the middle of a run would hold every feed up."""

from __future__ import annotations

import numpy as np

from oneprice.compute.books import apply_rows, level_behind, level_qty, make_books, sweep
from oneprice.model.instrument import InstrumentTable
from oneprice.model.progress import Progress, untold
from oneprice.model.tape import CLEAR, LAST, ROW, SNAPSHOT, Kind
from oneprice.strategies.edges import EdgeTable


def warm_up(progress: Progress = untold) -> None:
    """Call what a run computes with once, on next to nothing, with the types that it will use."""
    progress(0.0, "books")
    books = make_books(1)
    rows = np.zeros(1, dtype=ROW)
    rows["kind"], rows["price"], rows["qty"], rows["flags"] = Kind.DEPTH, 100, 1, SNAPSHOT | CLEAR | LAST
    apply_rows(books, rows, 0, 1)
    sweep(books, 0, 1, 1)
    level_qty(books, 0, 0, 100)
    level_behind(books, 0, 0, 100)
    EdgeTable([], InstrumentTable(()), min_gross_bps=0.0, min_net_bps=0.0, max_age_ns=1).update(0, books)
    progress(1.0, "")
