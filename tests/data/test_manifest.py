"""Manifests: sealed at every instant, and a changed byte is told with its file and its place."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from session_world import PIECE

from oneprice.data import manifest
from oneprice.data.manifest import NAME
from oneprice.model.errors import SessionError

SEAL = manifest.seal_path(Path(NAME)).name


class Values(msgspec.Struct):
    number: int
    files: list[manifest.FileEntry] = []


def test_the_seal_is_what_sha256sum_checks(tmp_path: Path) -> None:
    manifest.write_manifest(tmp_path / NAME, Values(1))
    told = subprocess.run(["sha256sum", "-c", SEAL], cwd=tmp_path, capture_output=True, check=True, text=True)
    assert told.stdout == "manifest.json: OK\n"


def test_a_manifest_is_sealed_at_every_instant_of_its_replacement(tmp_path: Path) -> None:
    """What a sudden end leaves behind each step of a replacement, put together from the manifests before and after."""
    for name, number in (("old", 1), ("new", 2)):
        (tmp_path / name).mkdir()
        manifest.write_manifest(tmp_path / name / NAME, Values(number))
    old, new = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("old", "new"))
    both = new[SEAL] + old[SEAL]
    steps = (
        (old[NAME], old[SEAL]),
        (old[NAME], both),
        (new[NAME], both),
        (new[NAME], new[SEAL]),
    )
    for step, (text, seal) in enumerate(steps):
        folder = tmp_path / str(step)
        folder.mkdir()
        (folder / NAME).write_bytes(text)
        (folder / SEAL).write_bytes(seal)
        assert manifest.check_seal(folder / NAME) is None
        assert manifest.read_manifest(folder / NAME, Values).number in (1, 2)
        manifest.write_manifest(folder / NAME, Values(2))
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == new


def test_a_flipped_bit_of_the_manifest_or_its_seal_is_told_of_the_right_one(tmp_path: Path) -> None:
    manifest.write_manifest(tmp_path / NAME, Values(12345))
    draw = random.Random(5)
    for name in (NAME, SEAL):
        content = (tmp_path / name).read_bytes()
        for place in range(len(content)):
            changed = bytearray(content)
            changed[place] ^= 1 << draw.randrange(8)
            (tmp_path / name).write_bytes(changed)
            damage = manifest.check_seal(tmp_path / NAME)
            assert damage is not None
            assert (damage.file, damage.offset) == (name, place if name == SEAL else 0)
        (tmp_path / name).write_bytes(content)
        assert manifest.check_seal(tmp_path / NAME) is None


@pytest.mark.parametrize("name", [NAME, SEAL])
def test_a_missing_manifest_or_seal_is_damage(tmp_path: Path, name: str) -> None:
    manifest.write_manifest(tmp_path / NAME, Values(1))
    (tmp_path / name).unlink()
    assert manifest.check_seal(tmp_path / NAME) == manifest.Damage(file=name, offset=0, what="missing")


def test_a_changed_byte_is_located_to_its_64_kib(tmp_path: Path) -> None:
    content = random.Random(7).randbytes(3 * PIECE + 1_000)
    path = tmp_path / "tape" / "0.tape"
    path.parent.mkdir()
    path.write_bytes(content)
    entry = manifest.entry_of(tmp_path, path)
    assert (entry.path, entry.size, len(entry.pieces)) == ("tape/0.tape", len(content), 4)
    assert entry.sha256 == hashlib.sha256(content).hexdigest()
    assert manifest.check_files(tmp_path, [entry]) == []
    for place in (0, PIECE - 1, PIECE, 2 * PIECE + 77, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        path.write_bytes(changed)
        (damage,) = manifest.check_files(tmp_path, [entry])
        assert damage.file == "tape/0.tape"
        assert damage.offset <= place < damage.offset + PIECE


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 999])
def test_a_shorter_or_longer_file_is_told_with_both_lengths(tmp_path: Path, size: int) -> None:
    content = random.Random(7).randbytes(2 * PIECE + 1_000)
    path = tmp_path / "file"
    path.write_bytes(content)
    entry = manifest.entry_of(tmp_path, path)
    path.write_bytes(content[:size])
    (damage,) = manifest.check_files(tmp_path, [entry])
    assert damage.offset <= size
    assert f"{size} bytes instead of {len(content)}" in damage.what
    path.write_bytes(content + b"more")
    (damage,) = manifest.check_files(tmp_path, [entry])
    assert damage.offset <= len(content)
    path.unlink()
    (damage,) = manifest.check_files(tmp_path, [entry])
    assert damage.what == "missing"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "no manifest.json here, so this is not a folder that oneprice wrote"),
        (b"", "cannot be read"),
        (b"{", "cannot be read"),
        (b"[]", "cannot be read"),
        (b'{"number": "one"}', "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
    ],
)
def test_what_is_no_manifest_is_refused_with_its_path(tmp_path: Path, content: bytes | None, says: str) -> None:
    if content is not None:
        (tmp_path / NAME).write_bytes(content)
    with pytest.raises(SessionError, match=says) as refused:
        manifest.read_manifest(tmp_path / NAME, Values)
    assert str(tmp_path) in str(refused.value)


def test_a_folder_that_is_gone_is_told_when_its_manifest_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    shutil.rmtree(folder)
    with pytest.raises(SessionError, match=r"manifest\.json: cannot be written"):
        manifest.write_manifest(folder / NAME, Values(1))


@given(st.integers(1, 40), st.data())
def test_the_merkle_root_is_that_of_rfc_6962_and_knows_every_leaf(count: int, data: st.DataObject) -> None:
    """Against the definition, computed pair by pair from the bottom: an odd node moves up unpaired."""
    entries = [
        manifest.FileEntry(path=f"{k}", size=1, sha256=hashlib.sha256(bytes([k])).hexdigest(), pieces=())
        for k in range(count)
    ]
    level = [hashlib.sha256(b"\0" + f"{one.path}\0{one.sha256}".encode()).digest() for one in entries]
    while len(level) > 1:
        pairs = [level[k : k + 2] for k in range(0, len(level), 2)]
        level = [hashlib.sha256(b"\1" + pair[0] + pair[1]).digest() if len(pair) == 2 else pair[0] for pair in pairs]
    assert manifest.merkle_root(entries) == level[0].hex()
    place = data.draw(st.integers(0, count - 1))
    entries[place] = msgspec.structs.replace(entries[place], sha256="0" * 64)
    assert manifest.merkle_root(entries) != level[0].hex()
