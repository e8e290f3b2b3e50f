"""Documents are read again when they changed on disk, and only then."""

from __future__ import annotations

import os
from pathlib import Path

from tulle.spec.connect import Loaded
from tulle.spec.product import DataProduct
from tulle.spec.remember import Remembered

OLD = 1_700_000_000


def test_a_file_is_read_again_when_it_or_the_known_types_changed(tmp_path: Path) -> None:
    file, remembered, read = tmp_path / "product.yaml", Remembered(), []

    def load() -> Loaded:
        read.append(file.read_text() if file.exists() else "")
        return Loaded(None, DataProduct(read[-1], "", "", "") if read[-1] else None)

    def look(types: int = 1) -> int:
        remembered.loaded(file, types, load)
        return len(read)

    file.write_text("one")
    assert [look(), look()] == [1, 2]  # it may be written again within the clock's tick
    os.utime(file, (OLD, OLD))
    assert [look(), look(), look()] == [3, 3, 3]
    assert [look(2), look(2)] == [4, 4]
    file.write_text("two")
    os.utime(file, (OLD, OLD + 1))
    assert [look(2), look(2)] == [5, 5]
    assert read[-1] == "two"
    remembered.keep(set())
    assert look(2) == 6


def test_what_could_not_be_read_is_read_every_time(tmp_path: Path) -> None:
    file, remembered, times = tmp_path / "product.yaml", Remembered(), []
    file.write_text("broken")
    os.utime(file, (OLD, OLD))
    for _ in range(2):
        remembered.loaded(file, 1, lambda: times.append(1) or Loaded(None, None))  # type: ignore[func-returns-value]
    (tmp_path / "product.yaml").unlink()
    remembered.loaded(file, 1, lambda: times.append(1) or Loaded(None, None))  # type: ignore[func-returns-value]
    assert len(times) == 3
