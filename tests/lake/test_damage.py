"""Damage: never wrong data, never another kind of failure, never more than what is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tulle.errors import Broken, NotFound
from tulle.lake import ranges
from tulle.lake.entry import Entry
from tulle.lake.range_files import RangeFiles
from tulle.lake.ranges import Range, identity, row_of
from tulle.lake.repository import open_lake
from tulle.lake.verify import verify
from tulle.state.db import open_database

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


# ── what is in the store ─────────────────────────────────────────────────────────────────────────────────


class Damaged:
    """A repository whose every blob of one kind can be damaged and mended again."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.database = open_database(f"sqlite:///{folder / 'state.db'}")
        self.place = f"local://{folder / 'objects'}"
        with mock.patch.multiple(ranges, CUT_EVERY=16, MIN_ROWS=8, MAX_ROWS=64):
            repository = open_lake(self.database, self.place).create_repository("sales")
            repository.put_many("main", [(f"p/{n:04}", b"x") for n in range(300)])
            repository.commit("main", "many")
            repository.fold("main")
            repository.put_many("main", [(f"p/{n:04}", b"yy") for n in range(0, 300, 3)])
            repository.commit("main", "some")
        self.truth = {e.path: (e.size, e.address) for e in repository.entries("main")}
        self.files = sorted(file for file in (folder / "objects").rglob(f"_tulle/{kind}/*") if file.is_file())
        assert self.files

    def found(self) -> dict[str, tuple[int, str]] | None:
        """What a fresh reader reads; None where it is told of the damage."""
        repository = open_lake(self.database, self.place).repository("sales")
        try:
            return {e.path: (e.size, e.address) for e in repository.entries("main")}
        except (Broken, NotFound) as exc:
            assert "_tulle" in exc.message or "range" in exc.message or "manifest" in exc.message
            return None


@pytest.fixture(scope="module", params=["ranges", "metaranges", "manifests"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    made = Damaged(tmp_path_factory.mktemp("stored"), request.param)
    yield made
    made.database.close()


@settings(max_examples=120, deadline=None)
@given(data=st.data())
def test_stored_damage_is_told_or_does_not_matter(stored: Damaged, data: st.DataObject) -> None:
    file = data.draw(st.sampled_from(stored.files))
    sound = file.read_bytes()
    at = data.draw(st.integers(0, len(sound) - 1))
    kind = data.draw(st.sampled_from(["flip", "short", "zeros", "empty", "gone"]))
    made = {
        "flip": sound[:at] + bytes([sound[at] ^ data.draw(st.integers(1, 255))]) + sound[at + 1 :],
        "short": sound[:at],
        "zeros": sound[:at] + bytes(len(sound) - at),
        "empty": b"",
        "gone": None,
    }[kind]
    try:
        if made is None:
            file.unlink()
        else:
            file.write_bytes(made)
        assert stored.found() in (None, stored.truth)
        if kind in {"short", "empty", "gone"} and stored.found() is not None:
            assert "main" not in needs(stored, file)
    finally:
        file.write_bytes(sound)
    assert stored.found() == stored.truth


def needs(stored: Damaged, file: Path) -> str:
    """The refs that a whole check says a blob is needed for."""
    damages = verify(open_lake(stored.database, stored.place), "sales").damages
    return " ".join(ref for damage in damages if file.name in damage.blob for ref in damage.refs)


def test_other_refs_stay_readable(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'state.db'}")
    place = f"local://{tmp_path / 'objects'}"
    repository = open_lake(database, place).create_repository("sales")
    repository.put("main", "kept", b"1")
    first = repository.commit("main", "one")
    known = set((tmp_path / "objects").rglob("_tulle/manifests/*"))
    repository.put("main", "lost", b"2")
    repository.commit("main", "two")
    (last,) = set((tmp_path / "objects").rglob("_tulle/manifests/*")) - known
    last.write_bytes(last.read_bytes()[:-3])
    fresh = open_lake(database, place).repository("sales")
    with pytest.raises(Broken, match=r"manifest .* is damaged"):
        fresh.get("main", "lost")
    assert fresh.get(first.id, "kept") == b"1"
    (damage,) = verify(open_lake(database, place), "sales").damages
    assert last.name in damage.blob
    assert "main" in damage.refs
    fresh.create_branch("rescued", first.id)
    assert fresh.get("rescued", "kept") == b"1"
    database.close()
