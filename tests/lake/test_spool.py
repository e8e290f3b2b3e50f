"""Putting down sorted rows as they come."""

from __future__ import annotations

import random

import pytest

from tulle.lake import ranges
from tulle.lake.blobs import open_blobs
from tulle.lake.ranges import Range, Row
from tulle.lake.runs import RunCaches, RunStore, TreeWriter
from tulle.lake.spool import Mark, Spool, opened, ranges_of


def rows(count: int, beginning: int = 0) -> list[Row]:
    numbers = range(beginning, beginning + count)
    return [(f"{number:06d}".encode(), "a", number, b"", "", 0, "", "", False) for number in numbers]


@pytest.fixture
def store() -> RunStore:
    """A store of runs in memory."""
    return RunStore(open_blobs("memory:///"), "sales", RunCaches())


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of a few rows."""
    monkeypatch.setattr(ranges, "CUT_EVERY", 16)
    monkeypatch.setattr(ranges, "MIN_ROWS", 4)
    monkeypatch.setattr(ranges, "MAX_ROWS", 40)


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("seed", range(20))
def test_ranges_are_cut_as_ever_however_rows_come_and_whatever_dies(store: RunStore, seed: int) -> None:
    rng = random.Random(seed)
    every = rows(rng.choice([0, 3, 50, 900]))
    plain = TreeWriter(store)
    plain.add(Range.of(every))
    expected = plain.finish()
    spool = Spool(store)
    mark = Mark()
    at = 0
    while at < len(every):
        step = rng.choice([1, 7, 30, 200])
        spool.add(Range.of(every[at : at + step]))
        at = min(len(every), at + step)
        if rng.random() < 0.3:
            mark = spool.checkpoint()
        if rng.random() < 0.2:  # it dies, and another one goes on after the last row that was put down
            spool = Spool(store, mark)
            at = sum(row[0] <= mark.last for row in every)
            assert spool.rows == at == mark.rows
    assert spool.end() == expected.id
    assert spool.rows == len(every)


@pytest.mark.usefixtures("small_ranges")
def test_what_is_known_is_not_written_again(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = Spool(store)
    spool.add(Range.of(rows(500)))
    first = opened(store, spool.end())
    written: list[str] = []
    real = RunStore.put_range

    def noted(self: RunStore, content: Range) -> str:
        written.append(real(self, content))
        return written[-1]

    monkeypatch.setattr(RunStore, "put_range", noted)
    again = Spool(store, known=ranges_of([first]))
    again.add(Range.of(rows(520)))
    second = opened(store, again.end())
    assert set(written) == set(second.metarange.ids) - set(first.metarange.ids)
    assert 0 < len(written) < 5


def test_a_store_that_fails_is_not_taken_for_written(
    store: RunStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: RunStore, content: Range) -> str:
        raise OSError("disk")

    monkeypatch.setattr(RunStore, "put_range", fails)
    spool = Spool(store)
    spool.add(Range.of(rows(3000)))
    with pytest.raises(OSError, match="disk"):
        spool.end()
