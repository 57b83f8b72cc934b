"""Segments: what was written comes back, what was cut is left out, what was changed is found where it is."""

from __future__ import annotations

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from session_world import a_disk_that_ends_at

from oneprice.data.blocks import DamagedSegment, SegmentWriter, extent, is_being_written, read_blocks
from oneprice.model.errors import InputError, SessionError

PAYLOADS = [b"first block", b"", bytes(range(256)) * 3, b"x" * 5_000, b"last"]


def write(path: Path, payloads: list[bytes]) -> list[int]:
    """→ the file's length behind its magic and behind each block."""
    writer = SegmentWriter(path, "T")
    lengths = [writer.size]
    for count, payload in enumerate(payloads):
        writer.append(payload, count)
        lengths.append(writer.size)
    writer.close()
    return lengths


@given(payloads=st.lists(st.binary(max_size=400), max_size=6))
@settings(max_examples=40)
def test_blocks_come_back_as_they_were_written(payloads: list[bytes]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "0.tape"
        lengths = write(path, payloads)
        blocks = list(read_blocks(path, "T"))
        assert [block.payload for block in blocks] == payloads
        assert [block.records for block in blocks] == list(range(len(payloads)))
        assert [block.offset for block in blocks] == lengths[:-1]
        whole = extent(path, "T", is_last=False)
        assert whole == (path.stat().st_size, lengths[:-1], sum(range(len(payloads))))
        for place, offset in enumerate(lengths[:-1]):
            assert [block.payload for block in read_blocks(path, "T", start=offset)] == payloads[place:]


def test_a_segment_cut_anywhere_reads_to_its_last_whole_block(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tape"
    lengths = write(whole, PAYLOADS)
    content = whole.read_bytes()
    cut = tmp_path / "cut.tape"
    for size in range(len(content)):
        cut.write_bytes(content[:size])
        expected = sum(length <= size for length in lengths) - 1
        assert [block.payload for block in read_blocks(cut, "T")] == PAYLOADS[: max(expected, 0)]
        assert extent(cut, "T").length == (lengths[expected] if expected >= 0 else 0)


def test_a_segment_that_others_follow_must_be_whole(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tape"
    lengths = write(whole, PAYLOADS)
    content = whole.read_bytes()
    cut = tmp_path / "cut.tape"
    for size in set(range(len(content))) - set(lengths):
        cut.write_bytes(content[:size])
        with pytest.raises(DamagedSegment, match=r"cut\.tape"):
            list(read_blocks(cut, "T", is_last=False))


def test_a_flipped_bit_anywhere_is_found_at_its_block(tmp_path: Path) -> None:
    path = tmp_path / "0.tape"
    lengths = write(path, PAYLOADS)
    content = path.read_bytes()
    draw = random.Random(3)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        block = max((length for length in lengths if length <= place), default=0)
        read = []
        with pytest.raises(DamagedSegment) as found:
            read.extend(read_blocks(path, "T"))
        assert found.value.offset == block, f"byte {place}"
        assert found.value.path == path
    path.write_bytes(content)
    assert len(list(read_blocks(path, "T"))) == len(PAYLOADS)


def test_a_segment_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "0.tape"
    write(path, [b"rows"])
    with pytest.raises(SessionError, match="not a segment of kind 'F'"):
        list(read_blocks(path, "F"))


def test_a_full_disk_is_told_and_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "0.tape"
    writer = SegmentWriter(path, "T")
    writer.append(b"before", 1)
    noise = random.Random(1).randbytes(20_000)
    with a_disk_that_ends_at(writer.size + 1_000), pytest.raises(SessionError, match=r"0\.tape: cannot be written"):
        writer.append(noise, 1)
    assert path.stat().st_size == writer.size
    assert [block.payload for block in read_blocks(path, "T")] == [b"before"]
    writer.append(noise, 1)
    writer.close()
    assert [block.payload for block in read_blocks(path, "T")] == [b"before", noise]


def test_a_segment_belongs_to_its_writer_as_long_as_that_lives(tmp_path: Path) -> None:
    path = tmp_path / "0.tape"
    writer = SegmentWriter(path, "T")
    assert is_being_written(path)
    writer.close()
    assert not is_being_written(path)
    with pytest.raises(InputError, match=r"0\.tape: cannot be made: File exists"):
        SegmentWriter(path, "T")
