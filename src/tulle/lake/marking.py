"""Marking: the names of every blob of a repository that something needs, from one view of the database.

Of storages whose repositories were deleted, the names other repositories still have for what lies there. Names are
kept as sorted 64-bit numbers: two names of one number keep a blob too many, never one too few. A row of
a run is needed when it shows in some kept commit, that is, no newer run of that commit hides it. Every blob that
tells what is needed must be readable, else nothing may be removed: Broken or NotFound is raised. Knows nothing of
rules or of removing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, select

from tulle.errors import Broken, NotFound, TulleError
from tulle.lake import addresses, refs
from tulle.lake.blobs import Blobs
from tulle.lake.expiry import named_by_tasks
from tulle.lake.manifest import Manifest, ManifestStore
from tulle.lake.quarantine import Names, key, keys
from tulle.lake.ranges import Range
from tulle.lake.refs import RepositoryRecord
from tulle.lake.repository import Lake
from tulle.lake.runs import RunCaches, RunRef, RunStore
from tulle.state.tables import lake_branches, lake_commits, lake_parts, lake_staged, lake_storages

MANY_HIDDEN = 200_000  # rows; where newer runs hide more, everything below is kept instead of looked through
PENDING = 4_000_000  # numbers gathered before they are made unique

_NOTHING: frozenset[bytes] = frozenset()


@dataclass(slots=True)
class Marked:
    """The names in use. `commits` is how many keep their data."""

    commits: int = 0
    _sorted: Names = field(default_factory=lambda: np.zeros(0, dtype=np.uint64))
    _pending: list[Names] = field(default_factory=list)
    _waiting: int = 0

    def add(self, names: Iterable[str]) -> None:
        """Names below the storage."""
        self.add_keys(np.fromiter((key(name) for name in names), dtype=np.uint64))

    def add_keys(self, numbers: Names) -> None:
        """Names by their numbers."""
        self._pending.append(numbers)
        self._waiting += len(numbers)
        if self._waiting > PENDING:
            self._settle()

    def holds(self, numbers: Names) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """For each number whether it is in use."""
        self._settle()
        at = np.searchsorted(self._sorted, numbers)
        found = np.zeros(len(numbers), dtype=bool)
        inside = at < len(self._sorted)
        found[inside] = self._sorted[at[inside]] == numbers[inside]
        return found

    def _settle(self) -> None:
        if self._pending:
            self._sorted = np.unique(np.concatenate([self._sorted, *self._pending]))
            self._pending, self._waiting = [], 0


@dataclass(frozen=True, slots=True)
class Abandoned:
    """Storages without a repository (storage: namespace), and what in them is named: by `<storage>/<name>`."""

    storages: Mapping[str, str]
    named: Marked


@dataclass(frozen=True, slots=True)
class _Scope:
    """What is marked: the names in `own`, a storage ("" for none), and what addresses of others lead to.

    `prefixes` are beginnings of such addresses; what follows is the name.
    """

    own: str
    prefixes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _State:
    """One repository as one view of the database showed it."""

    record: RepositoryRecord
    manifests: Mapping[str, str]  # of commits that keep their data
    bare: Sequence[str]  # manifests of commits that keep what they say, not their data
    staged: Sequence[Mapping[str, Any]]


def mark(
    lake: Lake, record: RepositoryRecord, expiring: Set[str] = frozenset(), *, step: Callable[[], None]
) -> Marked:
    """What is in use in the storage of a repository; `expiring` commits count as expired (for a dry run)."""
    marked = Marked()
    roots = _roots(lake.stores.blobs(record.namespace), f"{record.storage}/")
    scope = _Scope(record.storage, [f"lake:{record.storage}/", *roots])
    with lake.database.read() as cx:
        records = refs.list_repositories(cx)
        states = [_state(cx, each, expiring if each.id == record.id else frozenset()) for each in records]
        for state in states:
            _mark_staged(cx, marked, state, scope)
        marked.add(addresses.live(cx, record.id))
        prefix = f"{record.storage}/"
        parts = cx.execute(select(lake_parts.c.blob).where(lake_parts.c.blob.startswith(prefix))).scalars()
        marked.add(blob.removeprefix(prefix) for blob in parts)
        named = named_by_tasks(cx)
    for state in states:
        marks = _Marks(lake, state.record, marked, scope, step)
        marks.commits(state)
        marks.trees(named)
        if state.record.id == record.id:
            marked.commits = len(state.manifests)
    return marked


def mark_abandoned(lake: Lake, *, step: Callable[[], None]) -> Abandoned:
    """The storages whose repositories were deleted, and what in them the repositories there are need."""
    marked = Marked()
    with lake.database.read() as cx:
        records = refs.list_repositories(cx)
        living = {record.storage for record in records}
        rows = cx.execute(select(lake_storages.c.storage, lake_storages.c.namespace)).all()
        storages = {row.storage: row.namespace for row in rows if row.storage not in living}
        scope = _Scope("", ["lake:", *_roots_of(lake, storages.values())])
        states = [_state(cx, record, frozenset()) for record in records]
        for state in states:
            _mark_staged(cx, marked, state, scope)
        marked.add(cx.execute(select(lake_parts.c.blob)).scalars())
        named = named_by_tasks(cx)
    for state in states:
        marks = _Marks(lake, state.record, marked, scope, step)
        marks.commits(state)
        marks.trees(named)
    return Abandoned(storages, marked)


def _roots_of(lake: Lake, namespaces: Iterable[str]) -> list[str]:
    found: list[str] = []
    for namespace in set(namespaces):
        # In a store that cannot be opened nothing is removed either.
        with contextlib.suppress(TulleError):
            found += _roots(lake.stores.blobs(namespace), "")
    return found


def _roots(blobs: Blobs, below: str) -> list[str]:
    """How URLs of what is below a place in a store begin, where somebody imported it as if it were outside."""
    url = blobs.url("_")[:-1] + below
    if not url.startswith("/"):
        return [url]
    real = os.path.realpath(url) + "/"
    return [f"{scheme}://{path}" for scheme in ("local", "file") for path in dict.fromkeys((url, real))]


def _state(cx: Connection, record: RepositoryRecord, expiring: Set[str]) -> _State:
    manifests: dict[str, str] = {}
    expired: dict[str, str] = {}
    parents: dict[str, Sequence[str]] = {}
    c = lake_commits.c
    for row in cx.execute(select(c.id, c.parents, c.manifest).where(c.repository_id == record.id)):
        name, day = refs.manifest_of(row.manifest)
        parents[row.id] = row.parents
        (expired if day or row.id in expiring else manifests)[row.id] = name
    # What kept commits were built on is compared with: by merges, by differences, by logs of paths.
    bare: list[str] = []
    waiting = [parent for id_ in manifests for parent in parents[id_]]
    seen: set[str] = set()
    while waiting:
        id_ = waiting.pop()
        if id_ not in seen and id_ in parents:
            seen.add(id_)
            waiting.extend(parents[id_])
            if id_ in expired:
                bare.append(expired[id_])
    staged = [
        item
        for row in cx.execute(
            select(lake_branches.c.staged).where(lake_branches.c.repository_id == record.id)
        )
        for item in row.staged
    ]
    return _State(record, manifests, bare, staged)


def _mark_staged(cx: Connection, marked: Marked, state: _State, scope: _Scope) -> None:
    for item in state.staged:
        if "token" in item:
            query = select(lake_staged.c.address).where(lake_staged.c.token == item["token"])
            for some in cx.execute(query).scalars().partitions(50_000):
                _add_addresses(marked, pa.array(some, pa.string()), state.record.storage == scope.own, scope)


def _add_addresses(marked: Marked, found: pa.Array, is_own: bool, scope: _Scope) -> None:
    inside = pc.starts_with(found, "data/")
    if is_own:
        marked.add_keys(keys(found.filter(inside)))
    found = found.filter(pc.invert(inside))
    for prefix in scope.prefixes if len(found) else ():
        others = found.filter(pc.starts_with(found, prefix))
        if len(others):
            marked.add(address.removeprefix(prefix) for address in others.to_pylist())


class _Marks:
    """Marks what the commits of one repository need in one storage."""

    def __init__(
        self, lake: Lake, record: RepositoryRecord, marked: Marked, scope: _Scope, step: Callable[[], None]
    ) -> None:
        caches = RunCaches(8 * 1024 * 1024)  # of our own: the store is asked, and readers' caches stay theirs
        blobs = lake.stores.blobs(record.namespace)
        self.store = RunStore(blobs, record.storage, caches)
        self._manifests = ManifestStore(blobs, record.storage, self.store, caches)
        self._marked = marked
        self._is_own = record.storage == scope.own
        self._scope = scope
        self._step = step
        self._hidden_in_trees: dict[str, frozenset[bytes]] = {}
        self._hidden_in_runs: dict[str, tuple[RunRef, frozenset[bytes]]] = {}
        self._paths: dict[str, frozenset[bytes]] = {}
        self._seen: set[str] = set()
        self._owners: set[str] = set()

    def commits(self, state: _State) -> None:
        """Everything the commits, and the runs that are staged, need."""
        for name in state.manifests.values():
            self._step()
            manifest = self._manifest(name)
            self._content(manifest)
            self._name_runs(name, manifest)
        for item in state.staged:
            if "run" in item:
                ref = RunRef(**item["run"])
                self._name_run(ref)
                self.run(ref, _NOTHING)
        if self._is_own:
            for name in state.bare:
                self._step()
                self._name_runs(name, self._manifest(name))
        self.rows()

    def trees(self, names: Iterable[str]) -> None:
        """Trees that tasks under way mention; a name may as well be another repository's, or a commit's."""
        for id_ in names:
            try:
                self.store.metarange(id_)
            except NotFound:
                continue
            ref = RunRef(id_, 0, 0, "tree")
            self._name_run(ref)
            self.run(ref, _NOTHING)
        self.rows()

    def run(self, ref: RunRef, hidden: frozenset[bytes]) -> None:
        """The rows of a run are needed but for those at hidden paths."""
        if ref.place == "tree":
            known = self._hidden_in_trees.get(ref.id)
            self._hidden_in_trees[ref.id] = hidden if known is None else known & hidden
        else:
            before = self._hidden_in_runs.get(ref.id)
            self._hidden_in_runs[ref.id] = (ref, hidden if before is None else before[1] & hidden)

    def rows(self) -> None:
        """Mark the data of all rows that are needed."""
        in_ranges: dict[str, frozenset[bytes]] = {}
        for id_, hidden in self._hidden_in_trees.items():
            for range_ in self.store.metarange(id_).ids:
                known = in_ranges.get(range_)
                in_ranges[range_] = hidden if known is None else known & hidden
        for id_, hidden in in_ranges.items():
            self._step()
            self._data(self.store.range(id_), hidden)
        for ref, hidden in self._hidden_in_runs.values():
            self._step()
            self._data(self._opened(ref), hidden)
        self._hidden_in_trees, self._hidden_in_runs = {}, {}

    def _content(self, manifest: Manifest) -> None:
        """The runs of a commit's content: each is hidden where a newer one says something."""
        hidden = _NOTHING
        amount = 0
        for layer in manifest.layers:
            self.run(layer, hidden)
            amount += layer.rows
            hidden = hidden | self._paths_of(layer) if amount <= MANY_HIDDEN else _NOTHING
        if manifest.base is not None:
            self.run(manifest.base, hidden)

    def _paths_of(self, ref: RunRef) -> frozenset[bytes]:
        found = self._paths.get(ref.id)
        if found is None:
            if ref.place == "tree":
                ids = self.store.metarange(ref.id).ids
                rows = [path for id_ in ids for path in self.store.range(id_).batch.column(0).to_pylist()]
            else:
                rows = self._opened(ref).batch.column(0).to_pylist()
            found = frozenset(rows)
            if len(self._paths) > 256:
                self._paths.clear()
            self._paths[ref.id] = found
        return found

    def _opened(self, ref: RunRef) -> Range:
        run = self._manifests.open(ref)
        content = getattr(run, "content", None)
        assert isinstance(content, Range)
        return content

    def _manifest(self, name: str) -> Manifest:
        try:
            return self._manifests.get(name)
        except NotFound as exc:
            raise Broken(
                f"manifest {name} of a kept commit is missing: nothing is removed",
                hint="verify the repository, and restore what is missing from a copy",
            ) from exc

    def _name_runs(self, name: str, manifest: Manifest) -> None:
        """The manifest's own name, those it leads to, and its ranges and metaranges."""
        if self._is_own:
            self._marked.add([f"_tulle/manifests/{name}"])
            for ref in (manifest.delta, *manifest.layers, *([manifest.base] if manifest.base else [])):
                self._name_run(ref)

    def _name_run(self, ref: RunRef) -> None:
        if not self._is_own:
            return
        if ref.manifest and ref.manifest not in self._owners:
            # That manifest's delta is what is needed of it; a younger commit may name it the same way.
            self._owners.add(ref.manifest)
            owner = self._manifest(ref.manifest)
            self._marked.add([f"_tulle/manifests/{ref.manifest}"])
            self._name_run(owner.delta)
        if ref.id in self._seen or ref.place in {"inline", "manifest"}:
            return
        self._seen.add(ref.id)
        if ref.place == "range":
            self._marked.add([f"_tulle/ranges/{ref.id}"])
            return
        self._marked.add([f"_tulle/metaranges/{ref.id}"])
        self._marked.add(f"_tulle/ranges/{id_}" for id_ in self.store.metarange(ref.id).ids)

    def _data(self, content: Range, hidden: frozenset[bytes]) -> None:
        batch = content.live().batch
        if hidden and batch.num_rows:
            shown = pc.invert(pc.is_in(batch.column(0), value_set=pa.array(sorted(hidden), pa.binary())))
            batch = batch.filter(shown)
        _add_addresses(self._marked, batch.column(1), self._is_own, self._scope)
