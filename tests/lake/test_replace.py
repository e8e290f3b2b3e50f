"""The delta of an import, against a plain model of what it must do."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pyarrow as pa
import pytest

from tulle.errors import Conflict, Denied, Invalid, Vetoed
from tulle.lake import ranges, replace
from tulle.lake.blobs import open_blobs
from tulle.lake.hooks.event import Event
from tulle.lake.ranges import Range, Row
from tulle.lake.repository import Lake, Repository
from tulle.lake.runs import RunCaches, RunStore, TreeRun
from tulle.lake.spool import Spool, opened
from tulle.lake.view import View


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges of a few rows, so that small content has many."""
    monkeypatch.setattr(ranges, "CUT_EVERY", 4)
    monkeypatch.setattr(ranges, "MIN_ROWS", 2)
    monkeypatch.setattr(ranges, "MAX_ROWS", 8)
    monkeypatch.setattr(replace, "MAX_ROWS", 8)
    monkeypatch.setattr(replace, "FEW", 2)


def row(path: str, version: int, at: int = 0) -> Row:
    return (path.encode(), f"memory:///x/{path}", version, b"", f"e{version}", at, "", "", False)


def tree(store: RunStore, rows: Mapping[str, Row], size: int = 5) -> TreeRun:
    spool = Spool(store)
    ordered = [rows[path] for path in sorted(rows, key=str.encode)]
    for start in range(0, len(ordered), size):
        spool.add(Range.of(ordered[start : start + size]))
    return opened(store, spool.end())


def content(view: View) -> dict[str, Row]:
    return {each[0].decode(): each for chunk in view.chunks() for each in chunk.all_rows()}


def prefixed(names: list[str], prefix: str, rng: random.Random, share: float) -> dict[str, Row]:
    chosen = [name for name in names if rng.random() < share]
    return {prefix + name: row(prefix + name, rng.randrange(2), rng.randrange(2)) for name in chosen}


@pytest.fixture
def store() -> RunStore:
    """A store of runs in memory."""
    return RunStore(open_blobs("memory:///"), "sales", RunCaches())


@pytest.mark.usefixtures("small_ranges")
@pytest.mark.parametrize("seed", range(60))
def test_leads_to_what_was_wanted_by_changing_as_little_as_can_be(store: RunStore, seed: int) -> None:
    rng = random.Random(seed)
    names = [f"{number:03d}" for number in range(rng.choice([3, 30, 120]))]
    share = rng.choice([0.0, 0.3, 0.9, 1.0])
    base = {}
    for prefix in ("a/", "b/", "c/", "c/d/", "z"):
        base.update(prefixed(names, prefix, rng, share))
    layer = dict(rng.sample(sorted(base.items()), min(len(base), rng.randrange(6))))
    top = {path: (path.encode(), "", 0, b"", "", 0, "", "", True) for path in layer}
    state = View([tree(store, top), tree(store, base)] if base else [])
    before = content(state)
    prefixes = rng.choice([["b/"], ["b/", "c/"], ["c/", "c/d/"], [""], ["z", "a/"]])
    wanted: list[dict[str, Row]] = []
    for prefix in prefixes:
        mode = rng.randrange(3)
        if mode == 0:
            wanted.append({path: each for path, each in base.items() if path.startswith(prefix)})
        else:
            wanted.append(prefixed(names, prefix, rng, rng.choice([0.0, 0.5, 1.0])))
    if rng.random() < 0.5:
        wanted.append({f"{p}{n}": row(f"{p}{n}", 7) for p in ("a/", "q/", "c/") for n in names[:4]})
    found = replace.difference(
        store,
        state,
        [tree(store, rows) for rows in wanted],
        replace.intervals(prefix.encode() for prefix in prefixes),
    )
    union: dict[str, Row] = {}
    for rows in wanted:
        union.update(rows)
    expected = {path: each for path, each in before.items() if not path.startswith(tuple(prefixes))} | union
    changed = {p for p in union if p in before and _said(union[p]) != _said(before[p])}
    added, removed = set(union) - set(before), set(before) - set(expected)
    assert (found.added, found.changed, found.removed) == (len(added), len(changed), len(removed))
    delta = store.open(found.delta)
    written = {
        each[0].decode(): each for chunk in View([delta]).chunks(tombstones=True) for each in chunk.all_rows()
    }
    assert set(written) == added | changed | removed
    after = content(View([delta, *state.runs]))
    assert {path: _said(each) for path, each in after.items()} == {
        path: _said(each) for path, each in expected.items()
    }
    assert all(after[path] == before[path] for path in before if path in after and path not in changed)


def _said(each: Row) -> tuple[object, ...]:
    return each[:5] + each[6:]


@pytest.mark.usefixtures("small_ranges")
def test_what_lands_on_nothing_is_taken_over_unread(store: RunStore) -> None:
    rows = {f"p/{number:04d}": row(f"p/{number:04d}", 1) for number in range(200)}
    run = tree(store, rows)
    loaded: list[str] = []
    real = run.load

    def noted(id_: str) -> Range:
        loaded.append(id_)
        return real(id_)

    run.load = noted
    found = replace.difference(store, View([]), [run], replace.intervals([b"p/"]))
    assert found.added == 200
    assert found.delta.id == run.metarange.identity()
    assert len(set(loaded)) <= 2  # to see whether there is something, and the end
    loaded.clear()
    again = replace.difference(store, View([run]), [run], replace.intervals([b"p/"]))
    assert (again.delta.rows, len(set(loaded))) == (0, 1)


def test_a_checksum_that_is_not_known_equals_any() -> None:
    known = (b"p", "a", 1, b"\1" * 32, "e", 0, "", "", False)
    other = (b"p", "a", 1, b"\2" * 32, "e", 0, "", "", False)
    unknown = (b"p", "a", 1, b"", "e", 0, "", "", False)
    for left, right, rows in ((known, unknown, 0), (unknown, known, 0), (known, other, 1), (known, known, 0)):
        assert replace.compared(Range.of([left]), Range.of([right]))[0].rows == rows


def links(*paths: str, etag: str = "") -> pa.Table:
    return pa.table(
        {
            "path": list(paths),
            "address": [f"memory:///x/{path}" for path in paths],
            "size": [1] * len(paths),
            "etag": [etag] * len(paths),
        }
    )


class TestTheRepositorysDoor:
    @pytest.fixture
    def repository(self, lake: Lake) -> Repository:
        """A repository that may link to memory."""
        lake.stores.linkable = ("memory:///x/",)
        return lake.create_repository("sales")

    def test_replaces_by_one_commit(self, repository: Repository) -> None:
        repository.put_many("main", [("p/old", b"1"), ("q", b"2")])
        repository.commit("main", "before")
        done = repository.replace_prefixes(
            "main", [links("p/a", "p/b"), links("p/c")], ["p/"], "Import", metadata={"k": "v"}
        )
        assert (done.added, done.removed, done.unchanged) == (3, 1, False)
        assert (done.commit.message, done.commit.metadata) == ("Import", {"k": "v"})
        assert repository.commit_info("main") == done.commit
        assert [e.path for e in repository.entries("main")] == ["p/a", "p/b", "p/c", "q"]
        again = repository.replace_prefixes("main", [links("p/a", "p/b", "p/c")], ["p/"], "Again")
        assert (again.unchanged, again.commit) == (True, done.commit)
        assert [m.operation for m in repository.reflog("main", limit=1)] == ["import"]

    def test_refuses_what_it_cannot_take(self, repository: Repository) -> None:
        with pytest.raises(Invalid, match="order"):
            repository.replace_prefixes("main", [links("p/b"), links("p/a")], ["p/"], "m")
        outside = links("p/a").set_column(1, "address", [["s3://elsewhere/x"]])
        with pytest.raises(Invalid, match="outside"):
            repository.replace_prefixes("main", [outside], ["p/"], "m")
        with pytest.raises(Invalid, match="message"):
            repository.replace_prefixes("main", [], ["p/"], " ")
        repository.put("main", "x", b"1")
        with pytest.raises(Conflict):
            repository.replace_prefixes("main", [links("p/a")], ["p/"], "m")
        repository.reset("main")
        repository.protect(["ma*"])
        with pytest.raises(Denied):
            repository.replace_prefixes("main", [links("p/a")], ["p/"], "m")

    def test_asks_hooks_first(self, lake: Lake, repository: Repository) -> None:
        repository.put("main", "_lakefs_actions/a.yaml", b"name: a")
        repository.commit("main", "hooks")
        told: list[str] = []

        class Hooks:
            def before(self, repository: Repository, event: Event) -> None:
                told.append(event.kind)
                raise Vetoed("no")

            def after(self, cx: object, repository: Repository, event: Event) -> None:
                told.append(event.kind)

        lake.hooks = Hooks()
        hooked = lake.repository("sales")
        head = hooked.resolve("main")
        with pytest.raises(Vetoed):
            hooked.replace_prefixes("main", [links("p/a")], ["p/"], "m")
        assert (told, hooked.resolve("main")) == (["pre-commit"], head)
