"""A tape in chunks that end where messages end, so that a book is only ever read whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from oneprice.data.session import joined
from oneprice.model.tape import LAST, Rows


def whole_messages(chunks: Iterable[Rows]) -> Iterator[Rows]:
    """The same rows; what a chunk has of an unfinished message comes with the next one. A message that the tape's end cuts
    is left out."""
    held: Rows | None = None
    for chunk in chunks:
        rows = chunk if held is None else joined((held, chunk))
        ends = np.flatnonzero(rows["flags"] & LAST)
        whole = int(ends[-1]) + 1 if len(ends) else 0
        held = rows[whole:] if whole < len(rows) else None
        if whole:
            yield rows[:whole]
