"""The house: rooms import only from rooms below them, and no file grows past what one idea needs."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "oneprice"
ROOMS = (
    "model",
    "compute",
    "venues",
    "emulator",
    "data",
    "trading",
    "strategies",
    "engine",
    "app",
)  # from the ground up
FILES = sorted(SOURCE.rglob("*.py"))
NO_IO = ("socket", "asyncio", "aiohttp", "picows", "sqlite3", "subprocess")


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_room_imports_only_from_below(path) -> None:
    room = room_of(path)
    if room not in ROOMS:
        return
    above = ROOMS[ROOMS.index(room) + 1 :]
    for name in imported(path):
        parts = name.split(".")
        if parts[0] == "oneprice" and len(parts) > 1:
            assert parts[1] not in above, f"{path.name} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_lower_rooms_do_no_io(path) -> None:
    if room_of(path) in ("compute", "venues"):
        assert not {name.split(".")[0] for name in imported(path)} & set(NO_IO)


def test_every_file_is_one_idea_long() -> None:
    assert {path.name: length for path in FILES if (length := len(path.read_text().splitlines())) > 500} == {}


def test_every_module_opens_with_what_it_holds() -> None:
    assert [str(path) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))] == []
