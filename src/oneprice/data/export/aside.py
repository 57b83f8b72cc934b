"""Files that appear whole: they are written aside and take their names once all of them are finished."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_ASIDE = ".new"


class Aside:
    """Files of one folder that are being written: `path(name)` is where to write what will be called `name`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._names: list[str] = []

    def path(self, name: str) -> Path:
        self._names.append(name)
        path = self._aside(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def publish(self) -> list[Path]:
        """Give every file its name; → where they are now."""
        for name in self._names:
            self._aside(name).replace(self._folder / name)
        return [self._folder / name for name in self._names]

    def discard(self) -> None:
        for name in self._names:
            self._aside(name).unlink(missing_ok=True)

    def _aside(self, name: str) -> Path:
        path = self._folder / name
        return path.with_name(path.name + _ASIDE)


@contextmanager
def written_aside(folder: Path) -> Iterator[Aside]:
    """Files written in the block take their names at its end; when it ends with an error, none is left."""
    files = Aside(folder)
    try:
        yield files
        files.publish()
    finally:
        files.discard()
