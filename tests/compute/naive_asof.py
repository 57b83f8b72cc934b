"""The ASOF join as a plain loop over all pairs of rows: the oracle where libraries answer otherwise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def naive_rows(
    left: Sequence[tuple[int, Any]], right: Sequence[tuple[int, Any]], direction: str, tolerance: int | None, exact: bool
) -> list[int]:  # fmt: skip
    """Rows are (time, key), a time or key of None is none; for each left row the number of its right row, or -1."""
    found = []
    for t, key in left:
        best, best_rank = -1, None
        for row, (of_right, right_key) in enumerate(right):
            if t is None or of_right is None or key is None or right_key != key:
                continue
            distance = abs(t - of_right)
            is_behind, is_ahead = of_right < t, of_right > t
            fits = {"backward": is_behind, "forward": is_ahead, "nearest": True}[direction] or distance == 0
            if not fits or (distance == 0 and not exact) or (tolerance is not None and distance > tolerance):
                continue
            rank = (distance, is_ahead, -row)  # nearer; as near: behind; of one time: the last
            if best_rank is None or rank < best_rank:
                best, best_rank = row, rank
        found.append(best)
    return found
