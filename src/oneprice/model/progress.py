"""How long work tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

# How much is done (1 is all, where nothing else is said), and a word on what goes on.
Progress = Callable[[float, str], None]


def untold(done: float, note: str) -> None:
    """Progress that nobody follows."""
