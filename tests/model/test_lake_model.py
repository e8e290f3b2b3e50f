"""The lake against a model of it: dictionaries in memory, driven through random histories.

What is drawn never depends on commit ids, because those differ from run to run. Ranges, tiers and batches are
made tiny, so that a dozen paths exercise trees, layers, folds and staged runs.
After every step each branch must read as the model says, staged and committed.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.lake.databases import Postgres

from tulle.errors import AlreadyExists, Conflict, Denied, Invalid
from tulle.lake import manifest, moves, ranges, staging, upkeep
from tulle.lake.blobs import open_blobs
from tulle.lake.collect import collect as collected
from tulle.lake.publish import GateCall
from tulle.lake.repository import Lake, Repository
from tulle.lake.runs import TreeWriter
from tulle.lake.view import View
from tulle.state.db import Database, open_database

Content = dict[str, bytes]

PATHS = ["a", "a/1", "a/2", "a/b/1", "a/b/2", "ab", "b/1", "b/2", "b/é ü", "c/%+ ", "d", "z/z/z"]
PREFIXES = ["", "a", "a/", "a/b/", "b", "z/z"]
BRANCHES = ["main", "one", "two"]

paths = st.sampled_from(PATHS)
names = st.sampled_from(BRANCHES)
branches = st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.heads)))
commits = st.runner().flatmap(lambda machine: st.sampled_from(list(machine.commits)))
contents = st.sampled_from([b"", b"x", b"yy", b"zzz"])

_template: list[Path] = []
_servers: list[Postgres] = []


@pytest.fixture(scope="module", autouse=True)
def _empty_database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("model") / "empty.db"
    open_database(f"sqlite:///{file}").close()
    _template.append(file)
    yield
    _template.clear()


@pytest.fixture(scope="module")
def _server(postgres: Postgres) -> Iterator[None]:
    _servers.append(postgres)
    yield
    _servers.clear()


class LakeMachine(RuleBasedStateMachine):
    """The model: what each commit contains, what each branch is on, what is staged on it."""

    def __init__(self) -> None:
        super().__init__()
        self.stack = ExitStack()
        for module, name, value in (
            (ranges, "CUT_EVERY", 4),
            (ranges, "MIN_ROWS", 2),
            (ranges, "MAX_ROWS", 6),
            (upkeep, "SMALL_ROWS", 6),
            (upkeep, "LAYERS_IN_A_TIER", 3),
            (upkeep, "MAX_LAYERS", 5),
            (staging, "LARGE_BATCH", 3),
            (moves, "INLINE_BYTES", 2000),
            (manifest, "CARRIED_BYTES", 3000),
        ):
            self.stack.enter_context(mock.patch.object(module, name, value))
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.url = self._new_database()
        self.blobs = open_blobs("memory:///")
        self.database: Database = self._open()
        self.repository: Repository = self._lake().create_repository("sales")
        root = self.repository.resolve("main")
        self.commits: dict[str, Content] = {root: {}}
        self.parents: dict[str, tuple[str, ...]] = {root: ()}
        self.heads: dict[str, str] = dict.fromkeys(("main", "one"), root)
        self.staged: dict[str, dict[str, bytes | None]] = {"main": {}, "one": {}}
        self.repository.create_branch("one")
        self.tags: dict[str, str] = {}

    def _new_database(self) -> str:
        shutil.copy(_template[0], self.folder / "state.db")
        return f"sqlite:///{self.folder / 'state.db'}"

    def _open(self) -> Database:
        return open_database(self.url)

    def _lake(self) -> Lake:
        lake = Lake(self.database, self.blobs)
        lake._caches.ranges.capacity = lake._caches.manifests.capacity = 5000  # so that things are read again
        return lake

    # ── the model ────────────────────────────────────────────────────────────────────────────────────────

    def visible(self, branch: str) -> Content:
        found = dict(self.commits[self.heads[branch]])
        for path, data in self.staged[branch].items():
            if data is None:
                found.pop(path, None)
            else:
                found[path] = data
        return found

    def is_dirty(self, branch: str) -> bool:
        return self.visible(branch) != self.commits[self.heads[branch]]

    def ancestors(self, commit: str) -> set[str]:
        found = {commit}
        for parent in self.parents[commit]:
            found |= self.ancestors(parent)
        return found

    def best_base(self, left: str, right: str) -> str:
        def rank(id_: str) -> tuple[int, float, list[int]]:
            info = self.repository.commit_info(id_)
            return info.generation, info.date, [-ord(c) for c in id_]

        return max(self.ancestors(left) & self.ancestors(right), key=rank)

    def record(self, branch: str, id_: str, content: Content, parents: tuple[str, ...]) -> None:
        info = self.repository.commit_info(id_)
        assert info.parents == parents
        assert info.generation == 1 + max(
            self.repository.commit_info(parent).generation for parent in parents
        )
        self.commits[id_] = content
        self.parents[id_] = parents
        self.heads[branch] = id_
        self.staged[branch] = {}

    # ── what users do ────────────────────────────────────────────────────────────────────────────────────

    @rule(branch=branches, path=paths, data=contents)
    def put(self, branch: str, path: str, data: bytes) -> None:
        self.repository.put(branch, path, data)
        self.staged[branch][path] = data

    @rule(branch=branches, path=paths, data=contents)
    def put_if_absent(self, branch: str, path: str, data: bytes) -> None:
        if path in self.visible(branch):
            with pytest.raises(AlreadyExists):
                self.repository.put(branch, path, data, if_absent=True)
        else:
            self.repository.put(branch, path, data, if_absent=True)
            self.staged[branch][path] = data

    @rule(branch=branches, items=st.lists(st.tuples(paths, contents), min_size=1, max_size=12))
    def put_many(self, branch: str, items: list[tuple[str, bytes]]) -> None:
        self.repository.put_many(branch, items)
        self.staged[branch].update(items)

    @rule(branch=branches, data=st.data())
    def delete(self, branch: str, data: st.DataObject) -> None:
        if there := sorted(self.visible(branch)):
            path = data.draw(st.sampled_from(there))
            self.repository.delete(branch, path)
            self.staged[branch][path] = None

    @rule(branch=branches, prefix=st.sampled_from(PREFIXES))
    def delete_prefix(self, branch: str, prefix: str) -> None:
        gone = [path for path in self.visible(branch) if path.startswith(prefix)]
        assert self.repository.delete_prefix(branch, prefix) == len(gone)
        self.staged[branch].update(dict.fromkeys(gone))

    @rule(branch=branches, source=branches, dest=paths, data=st.data())
    def copy(self, branch: str, source: str, dest: str, data: st.DataObject) -> None:
        if there := sorted(self.visible(source)):
            path = data.draw(st.sampled_from(there))
            self.repository.copy(branch, source, path, dest)
            self.staged[branch][dest] = self.visible(source)[path]

    @rule(branch=branches, dest=paths, data=st.data())
    def move(self, branch: str, dest: str, data: st.DataObject) -> None:
        if there := sorted(set(self.visible(branch)) - {dest}):
            path = data.draw(st.sampled_from(there))
            content = self.visible(branch)[path]
            self.repository.move(branch, path, dest)
            self.staged[branch].update({path: None, dest: content})

    @rule(branch=branches)
    def commit(self, branch: str) -> None:
        if self.is_dirty(branch):
            content = self.visible(branch)
            made = self.repository.commit(branch, "change")
            self.record(branch, made.id, content, (self.heads[branch],))
        else:
            with pytest.raises(Invalid, match="nothing to commit"):
                self.repository.commit(branch, "nothing")
            self.staged[branch] = {}

    @rule(branch=branches)
    def commit_even_if_empty(self, branch: str) -> None:
        content = self.visible(branch)
        made = self.repository.commit(branch, "maybe empty", allow_empty=True)
        self.record(branch, made.id, content, (self.heads[branch],))

    @rule(branch=branches, prefix=st.none() | st.sampled_from(PREFIXES))
    def reset(self, branch: str, prefix: str | None) -> None:
        self.repository.reset(branch, prefix)
        kept = {} if prefix is None else self.staged[branch]
        self.staged[branch] = {p: d for p, d in kept.items() if not p.startswith(prefix or "")}

    @rule(name=names, data=st.data())
    def create_branch(self, name: str, data: st.DataObject) -> None:
        source = data.draw(st.sampled_from(sorted(self.heads) + sorted(self.tags) + list(self.commits)))
        if name in self.heads:
            with pytest.raises(AlreadyExists):
                self.repository.create_branch(name, source)
        else:
            self.repository.create_branch(name, source)
            self.heads[name] = self.heads.get(source) or self.tags.get(source) or source
            self.staged[name] = {}

    @rule(name=names)
    def delete_branch(self, name: str) -> None:
        if name == "main":
            with pytest.raises(Denied):
                self.repository.delete_branch(name)
        elif name in self.heads:
            self.repository.delete_branch(name)
            del self.heads[name], self.staged[name]

    @rule(name=st.sampled_from(["v1", "v2"]), id_=commits)
    def tag(self, name: str, id_: str) -> None:
        if name not in self.tags:
            self.repository.create_tag(name, id_)
            self.tags[name] = id_
        else:
            assert self.repository.resolve(name) == self.tags[name]

    @rule(
        destination=branches,
        source_branch=branches,
        strategy=st.sampled_from([None, "source-wins", "dest-wins"]),
        squash=st.booleans(),
        veto=st.sampled_from([False, False, True]),
    )
    def merge(
        self, destination: str, source_branch: str, strategy: str | None, squash: bool, veto: bool
    ) -> None:
        source = self.heads[source_branch]
        judged: list[str] = []

        def gate(call: GateCall) -> None:
            judged.append(call.commit.id)
            seen = {
                e.path: self.repository.get(call.commit.id, e.path)
                for e in self.repository.entries(call.commit.id)
            }
            assert seen == expected
            if veto:
                raise Denied("no")

        head = self.heads[destination]
        base = self.best_base(source, head)
        expected, conflicts = _merged(self.commits[base], self.commits[source], self.commits[head], strategy)
        nothing = self.commits[source] == self.commits[base]
        nothing = nothing or (squash and base != head and expected == self.commits[head])

        def work() -> moves.MergeResult:
            return self.repository.merge(source, destination, strategy=strategy, squash=squash, gate=gate)  # type: ignore[arg-type]

        if self.is_dirty(destination):
            with pytest.raises(Conflict, match="staged"):
                work()
        elif conflicts and strategy is None:
            with pytest.raises(Conflict) as caught:
                work()
            assert [problem.message for problem in caught.value.problems] == conflicts
        elif nothing:
            assert work().unchanged
            assert judged == []
        elif veto:
            with pytest.raises(Denied, match="no"):
                work()
            assert len(judged) == 1
            self._check_branch(destination)
        else:
            result = work()
            assert judged == [result.commit.id]
            assert (result.base, result.unchanged) == (base, False)
            assert list(result.decided_conflicts) == conflicts
            parents = (head,) if squash else (head, source)
            self.record(destination, result.commit.id, expected, parents)

    @rule(branch=branches, data=st.data())
    def revert(self, branch: str, data: st.DataObject) -> None:
        if self.is_dirty(branch):
            return
        head = self.heads[branch]
        above = self.ancestors(head)
        commit = data.draw(st.sampled_from([id_ for id_ in self.commits if id_ in above]))
        parents = self.parents[commit]
        number = data.draw(st.integers(0, 2))
        if not parents or (len(parents) == 2 and number == 0) or number > len(parents):
            with pytest.raises(Invalid):
                self.repository.revert(branch, commit, parent_number=number)
            return
        back = self.commits[parents[max(0, number - 1)]]
        expected, conflicts = _merged(self.commits[commit], back, self.commits[head], None)
        if conflicts:
            with pytest.raises(Conflict):
                self.repository.revert(branch, commit, parent_number=number)
        elif expected == self.commits[head]:
            with pytest.raises(Invalid):
                self.repository.revert(branch, commit, parent_number=number)
        else:
            made = self.repository.revert(branch, commit, parent_number=number)
            self.record(branch, made.id, expected, (head,))

    @rule(branch=branches, commit=commits)
    def cherry_pick(self, branch: str, commit: str) -> None:
        parents = self.parents[commit]
        if self.is_dirty(branch) or len(parents) != 1:
            return
        head = self.heads[branch]
        expected, conflicts = _merged(
            self.commits[parents[0]], self.commits[commit], self.commits[head], None
        )
        if conflicts:
            with pytest.raises(Conflict):
                self.repository.cherry_pick(branch, commit)
        elif expected == self.commits[head]:
            with pytest.raises(Invalid):
                self.repository.cherry_pick(branch, commit)
        else:
            made = self.repository.cherry_pick(branch, commit)
            self.record(branch, made.id, expected, (head,))

    @rule(branch=branches, id_=commits)
    def hard_reset(self, branch: str, id_: str) -> None:
        if self.is_dirty(branch):
            with pytest.raises(Conflict, match="staged"):
                self.repository.hard_reset(branch, id_)
        else:
            self.repository.hard_reset(branch, id_)
            self.heads[branch] = id_
            self.staged[branch] = {}

    # ── what must not be seen ────────────────────────────────────────────────────────────────────────────

    @rule(id_=commits)
    def fold(self, id_: str) -> None:
        self.repository.fold(id_)

    @rule(dry_run=st.booleans())
    def collect(self, dry_run: bool) -> None:
        before = {blob.path for blob in self.blobs.list()}
        collected(self._lake(), "sales", grace_seconds=0, dry_run=dry_run)
        after = {blob.path for blob in self.blobs.list()}
        assert not dry_run or after == before

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = self._open()
        self.repository = self._lake().repository("sales")

    # ── what must hold ───────────────────────────────────────────────────────────────────────────────────

    @invariant()
    def branches_read_as_the_model_says(self) -> None:
        assert {b.name: b.commit_id for b in self.repository.branches()} == self.heads
        for branch in self.heads:
            self._check_branch(branch)

    @rule(left=commits, right=commits, prefix=st.sampled_from(PREFIXES))
    def compare_commits(self, left: str, right: str, prefix: str) -> None:
        self._check_diff(left, right, prefix)

    def _check_diff(self, left: str, right: str, prefix: str) -> None:
        expected = _differences(self.commits[left], self.commits[right], prefix)
        assert [(c.kind, c.path) for c in self.repository.diff(left, right, prefix=prefix)] == expected
        with mock.patch("tulle.lake.reading.LONG_LINE", 0):  # by content instead of by deltas
            assert [(c.kind, c.path) for c in self.repository.diff(left, right, prefix=prefix)] == expected

    @rule(branch=branches, prefix=st.sampled_from(PREFIXES), limit=st.integers(1, 4), folders=st.booleans())
    def list_page_by_page(self, branch: str, prefix: str, limit: int, folders: bool) -> None:
        found: list[str] = []
        after: str | None = ""
        while after is not None:
            page = self.repository.list(branch, prefix, after, limit, "/" if folders else "")
            told = sorted([e.path for e in page.entries] + list(page.prefixes), key=str.encode)
            assert len(told) == limit or page.next is None
            found += told
            after = page.next
        under = sorted((p for p in self.visible(branch) if p.startswith(prefix)), key=str.encode)
        if folders:
            cut = [p if (at := p.find("/", len(prefix))) < 0 else p[: at + 1] for p in under]
            under = list(dict.fromkeys(cut))
        assert found == under

    @rule(id_=commits)
    def log(self, id_: str) -> None:
        log = [commit.id for commit in self.repository.log(id_, limit=1000)]
        assert sorted(log) == sorted(self.ancestors(id_))
        assert all(log.index(child) < log.index(parent) for child in log for parent in self.parents[child])
        paged: list[str] = []
        while page := self.repository.log(id_, limit=2, after=paged[-1] if paged else None):
            paged += [commit.id for commit in page]
        assert paged == log

    def _check_branch(self, branch: str) -> None:
        visible, committed = self.visible(branch), self.commits[self.heads[branch]]
        read = {e.path: self.repository.get(branch, e.path) for e in self.repository.entries(branch)}
        assert read == visible
        assert [e.path for e in self.repository.entries(f"{branch}@")] == sorted(committed, key=str.encode)
        status = [(change.kind, change.path) for change in self.repository.status(branch)]
        assert status == _differences(committed, visible, "")

    def teardown(self) -> None:
        for number, (left, right) in enumerate(itertools.permutations(list(self.commits)[-6:], 2)):
            self._check_diff(left, right, PREFIXES[number % len(PREFIXES)])
        # Folded, equal rows have equal identity, whatever the history.
        for branch in self.heads:
            self.repository.fold(branch)
            reader = self.repository.reader
            content = reader.content(self.repository.resolve(f"{branch}@"))
            assert content.manifest.layers == ()
            fresh = TreeWriter(reader.runs)
            for chunk in View(content.view.runs).chunks():
                fresh.add(chunk)
            assert content.manifest.base == fresh.finish()
        self.branches_read_as_the_model_says()
        self.database.close()
        self.stack.close()


def _merged(
    base: Content, source: Content, destination: Content, strategy: str | None
) -> tuple[Content, list[str]]:
    result = dict(destination)
    conflicts = []
    for path in sorted({*base, *source, *destination}, key=str.encode):
        ours, theirs, old = destination.get(path), source.get(path), base.get(path)
        if theirs in {old, ours}:
            continue
        if ours != old:
            conflicts.append(path)
            if strategy != "source-wins":
                continue
        if theirs is None:
            result.pop(path, None)
        else:
            result[path] = theirs
    return result, conflicts


def _differences(left: Content, right: Content, prefix: str) -> list[tuple[str, str]]:
    found = []
    for path in sorted({*left, *right}, key=str.encode):
        if path.startswith(prefix) and left.get(path) != right.get(path):
            kind = "added" if path not in left else "removed" if path not in right else "changed"
            found.append((kind, path))
    return found


class PostgresMachine(LakeMachine):
    """The same on PostgreSQL."""

    def _new_database(self) -> str:
        url = _servers[0].make()
        self.stack.callback(_servers[0].drop, url)
        return url


LakeMachine.TestCase.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestLake = LakeMachine.TestCase

PostgresMachine.TestCase.settings = settings(LakeMachine.TestCase.settings, max_examples=6)
TestLakeOnPostgres = pytest.mark.usefixtures("_server")(PostgresMachine.TestCase)
