"""Runs: trees of ranges, history-independent whatever way they were written."""

from __future__ import annotations

import pytest

from tulle.errors import Broken
from tulle.lake import ranges
from tulle.lake.blobs import Blobs, open_blobs
from tulle.lake.entry import Entry
from tulle.lake.ranges import EMPTY, Range, row_of
from tulle.lake.runs import Cache, Metarange, RangeRun, RunCaches, RunRef, RunStore, TreeRun, decode_metarange


@pytest.fixture(autouse=True)
def _small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "CUT_EVERY", 16)
    monkeypatch.setattr(ranges, "MIN_ROWS", 4)
    monkeypatch.setattr(ranges, "MAX_ROWS", 64)


@pytest.fixture
def blobs() -> Blobs:
    return open_blobs("memory:///")


@pytest.fixture
def store(blobs: Blobs) -> RunStore:
    return RunStore(blobs, "sales", RunCaches())


def many(numbers: range) -> Range:
    return Range.of([row_of(Entry(f"p/{number:06d}", "data/x", number)) for number in numbers])


def test_small_runs_are_one_range_or_inline(store: RunStore, blobs: Blobs) -> None:
    inline = store.write(many(range(10)), inline_bytes=100_000)
    assert (inline.place, inline.rows, inline.deleted) == ("inline", 10, 0)
    assert list(blobs.list()) == []
    kept = store.write(many(range(10)))
    assert (kept.place, kept.id) == ("range", inline.id)
    assert [info.path for info in blobs.list()] == [f"sales/_tulle/ranges/{kept.id}"]


def test_a_run_reads_the_same_wherever_it_is(store: RunStore, blobs: Blobs) -> None:
    content = many(range(50))
    refs = [store.write(content), store.write(content, inline_bytes=100_000)]
    for ref in refs:
        run = RunStore(blobs, "sales", RunCaches()).open(ref)
        assert run.find(b"p/000007") == content.row(7)
        assert run.find(b"p/0000070") is None


def test_a_tree_is_the_same_however_its_rows_came(store: RunStore) -> None:
    content = many(range(1000))
    whole = store.write(content)
    assert whole.place == "tree"
    for size in (1, 7, 63, 64, 65, 500):
        pieces = [content.slice(at, min(at + size, 1000)) for at in range(0, 1000, size)]
        assert store.write_chunks(pieces) == whole
    tree = store.metarange(whole.id)
    assert sum(tree.rows) == 1000
    assert [store.range(id_).rows for id_ in tree.ids] == tree.rows
    assert [(store.range(i).path(0)) for i in tree.ids] == tree.firsts


def test_chunks_cover_the_interval_once(store: RunStore) -> None:
    content = many(range(0, 600, 2))
    for run in (store.open(store.write(content)), RangeRun(content)):
        for start, end in ((b"", None), (b"p/000101", b"p/000407"), (b"p/000100", b"p/000100"), (b"q", None)):
            expected = [r for r in content.all_rows() if start <= r[0] and (end is None or r[0] < end)]
            for limit in (1, 5, 1000):
                found, at = [], start
                while True:
                    rows, bound = run.chunk(at, end, limit)
                    assert rows.rows <= limit
                    found.extend(rows.all_rows())
                    if bound is None:
                        break
                    assert bound > at
                    at = bound
                assert found == expected


def test_an_empty_tree_can_be_kept(store: RunStore, blobs: Blobs) -> None:
    metarange = Metarange([], [], [], [])
    id_ = store.put_metarange(metarange)
    run = RunStore(blobs, "sales", RunCaches()).open(RunRef(id_, 0, 0, "tree"))
    assert isinstance(run, TreeRun)
    assert run.find(b"a") is None
    assert run.chunk(b"", None, 10) == (EMPTY, None)


def test_metarange_round_trip_and_damage() -> None:
    metarange = Metarange(["ab" * 32], [b"a"], [b"z\xff"], [3])
    assert decode_metarange(metarange.encode(), "x") == metarange
    assert metarange.identity() == "0ebb5bab5c2dea81780505b520e451e78e08721ff3760de7ee8071268a636ff1"
    with pytest.raises(Broken, match="metarange some-name"):
        decode_metarange(b"no arrow file", "some-name")


def test_a_run_in_another_manifest_must_be_resolved_first(store: RunStore) -> None:
    with pytest.raises(Broken, match="not resolved"):
        store.open(RunRef("x", 1, 0, "manifest", manifest="m"))


def test_the_cache_forgets_the_least_recently_used() -> None:
    cache: Cache[int] = Cache(10)
    for number in range(5):
        cache.put(str(number), number, 3)
    assert [cache.get(str(number)) for number in range(5)] == [None, None, 2, 3, 4]
    cache.get("2")
    cache.put("5", 5, 3)
    assert [cache.get(name) for name in ("2", "3", "4", "5")] == [2, None, 4, 5]
    cache.put("huge", 6, 100)  # kept, alone, rather than useless
    assert cache.get("huge") == 6
    assert cache.get("5") is None
