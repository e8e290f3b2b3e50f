"""Damaged files in the folder of mapped ranges: never wrong data, the store is asked instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.lake.entry import Entry
from tulle.lake.range_files import RangeFiles
from tulle.lake.ranges import Range, identity, row_of

ROWS = Range.of(
    [row_of(Entry(f"path/{n:04}", f"data/{n}", n, "ab" * 32, "e", 1.0, "text/plain", {})) for n in range(200)]
)
NAME = identity(ROWS)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[RangeFiles, Path, bytes]:
    folder = tmp_path_factory.mktemp("ranges")
    files = RangeFiles(folder)
    files.keep(NAME, ROWS)
    (file,) = folder.glob(f"*/*/{NAME}")
    return files, file, file.read_bytes()


def damaged(file: Path, data: bytes) -> None:
    beside = file.with_name("beside")  # a mapped file is never written to
    beside.write_bytes(data)
    beside.replace(file)


def reads_right_or_not_at_all(files: RangeFiles) -> bool:
    found = files.open(NAME)
    assert found is None or list(found.all_rows()) == list(ROWS.all_rows())
    return found is None


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_is_never_believed(kept: tuple[RangeFiles, Path, bytes], data: st.DataObject) -> None:
    files, file, sound = kept
    at = data.draw(st.integers(0, len(sound) - 1))
    mask = data.draw(st.integers(1, 255))
    damaged(file, sound[:at] + bytes([sound[at] ^ mask]) + sound[at + 1 :])
    reads_right_or_not_at_all(files)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), zeros=st.booleans())
def test_a_short_or_zeroed_file_is_never_believed(
    kept: tuple[RangeFiles, Path, bytes], data: st.DataObject, zeros: bool
) -> None:
    files, file, sound = kept
    length = data.draw(st.integers(0, len(sound) - 16))
    damaged(file, sound[:length] + (bytes(len(sound) - length) if zeros else b""))
    reads_right_or_not_at_all(files)


def test_another_range_under_the_name_is_refused_and_keeping_it_again_mends(
    kept: tuple[RangeFiles, Path, bytes],
) -> None:
    files, file, sound = kept
    at = sound.index(b"data/100")
    damaged(file, sound[:at] + b"data/999" + sound[at + 8 :])
    assert reads_right_or_not_at_all(files), "another address was believed"
    files.keep(NAME, ROWS)
    assert not reads_right_or_not_at_all(files)
