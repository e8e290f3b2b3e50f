"""The door to the lake: repositories of versioned paths, with branches, commits and merges.

    lake = open_lake(database, "local:///var/mesh/objects")
    sales = lake.create_repository("sales")
    sales.create_branch("try")
    sales.put("try", "orders/part-0.parquet", data)
    sales.commit("try", "First orders")
    sales.merge("try", "main")

A branch name read as a ref shows staged entries over committed ones; `branch@` shows committed ones only. Any
number of processes may use the same lake at the same time. What a repository can do is said in four parts:
`branches` (names), `objects` (reading and staging), `history` (commits and merges) and `settings`. Knows nothing
of products or data sets.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tulle.errors import AlreadyExists, Denied
from tulle.lake import refs, staging
from tulle.lake.blobs import CHUNK_BYTES, Blobs
from tulle.lake.branches import Branches
from tulle.lake.entry import (
    Change,
    Commit,
    Entry,
    Page,
    checked_ref_name,
    checked_repository_name,
    encode_metadata,
)
from tulle.lake.grouping import GroupCommit
from tulle.lake.handle import NameUses
from tulle.lake.history import History
from tulle.lake.hooks.event import HookPort
from tulle.lake.links import Link
from tulle.lake.manifest import Manifest, make_commit
from tulle.lake.moves import MergeResult, PathConflict
from tulle.lake.objects import Objects
from tulle.lake.publish import GateCall
from tulle.lake.range_files import RangeFiles
from tulle.lake.ranges import EMPTY
from tulle.lake.reading import Reader
from tulle.lake.refs import Branch, Move, RepositoryRecord, Tag
from tulle.lake.runs import RunCaches
from tulle.lake.settings import Quota, Settings
from tulle.lake.stores import Stores
from tulle.lake.writing import DataPath, Writer
from tulle.state.db import Database, now

__all__ = [
    "Branch",
    "Change",
    "Commit",
    "DataPath",
    "Entry",
    "GateCall",
    "Lake",
    "Link",
    "MergeResult",
    "Move",
    "Page",
    "PathConflict",
    "Quota",
    "Repository",
    "Tag",
    "open_lake",
]


def open_lake(
    database: Database,
    namespace: str,
    *,
    external: Sequence[str] = (),
    stores: Sequence[str] = (),
    cache: Path | None = None,
) -> Lake:
    """Open the lake whose objects are in `namespace` and whose refs are in `database`.

    `namespace` is `local:///absolute/folder`, `s3://bucket/prefix`, `gs://…` or `memory:///`. `stores` lists the
    URL prefixes outside of it that repositories may be made over, import from and export to, `external` those
    that links may point to beside; none by default. `cache` is a folder of this disk that the processes of this
    machine share to read large repositories quickly; it may be removed at any time.
    """
    return Lake(database, Stores(database, namespace, allowed=stores), external=external, cache=cache)


class Lake:
    """The repositories of one mesh. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        stores: Stores | Blobs,
        *,
        external: Sequence[str] = (),
        wait_seconds: float = 60.0,
        hooks: HookPort | None = None,
        cache: Path | None = None,
    ) -> None:
        self.database = database
        self.stores = stores if isinstance(stores, Stores) else Stores(database, "memory:///", stores)
        self.hooks = hooks
        self.uses: NameUses | None = None
        self._caches = RunCaches(files=None if cache is None else RangeFiles(cache))
        self._group = GroupCommit(database, refs.take_branch)
        self.stores.linkable = tuple(dict.fromkeys((*self.stores.linkable, *external)))
        self._wait_seconds = wait_seconds
        self._sides: dict[int, tuple[Reader, Writer]] = {}
        self._lock = threading.Lock()

    @property
    def default_namespace(self) -> str:
        """The URL of the place repositories are in that name none of their own."""
        return self.stores.namespace

    def create_repository(
        self,
        name: str,
        *,
        namespace: str = "",
        metadata: Mapping[str, str] | None = None,
        default_branch: str = "main",
        read_only: bool = False,
        bare: bool = False,
        actor: str = "",
    ) -> Repository:
        """Make a repository with an empty first commit on its default branch. AlreadyExists.

        `namespace` is the store its objects are to be in: "" for the lake's own, `local://folder` for a folder
        in that, else a URL the mesh allows (Denied otherwise). A bare one has neither commit nor branch, for
        refs that are restored.
        """
        checked_repository_name(name)
        checked_ref_name(default_branch, "branch")
        encode_metadata(metadata)
        place = self.stores.checked(namespace)
        with self.database.read() as cx:
            if refs.find_repository(cx, name) is not None:
                raise AlreadyExists(f"repository '{name}' exists")
        storage = f"{name}-{secrets.token_hex(4)}"  # a repository made again never meets old objects
        draft = RepositoryRecord(
            0, name, storage, default_branch, now(), dict(metadata or {}), place, read_only
        )
        if bare:
            with self.database.write() as cx:
                return self._open(refs.add_repository(cx, draft), actor)
        reader = Reader(self.database, draft, self.stores.blobs(place), self._caches)
        delta = reader.runs.write(EMPTY, inline_bytes=CHUNK_BYTES)
        commit = make_commit(
            parents=[],
            delta_id=delta.id,
            message="Repository created",
            committer=actor,
            date=round(draft.created_at * 1_000_000),
            metadata={},
        )
        manifest = reader.manifests.put(Manifest(commit, delta, None, ()))
        with self.database.write() as cx:
            record = refs.add_repository(cx, draft)
            refs.add_commit(cx, record.id, commit, manifest, published=True)
            refs.add_branch(cx, record.id, default_branch, commit.id, actor=actor)
        return self._open(record, actor)

    @property
    def is_local(self) -> bool:
        """Whether reading waits for nothing but this machine's disk: no server of a database, no remote store."""
        return self.database.is_sqlite and self.stores.are_local

    def repository(self, name: str, *, actor: str = "", force: bool = False) -> Repository:
        """An existing repository, in the hands of `actor`; with `force` also a read-only one may be changed.

        NotFound, with the nearest name.
        """
        with self.database.read() as cx:
            record = refs.get_repository(cx, name)
        return self._open(record, actor, force=force)

    def repositories(
        self,
        *,
        prefix: str = "",
        after: str = "",
        limit: int | None = None,
        search: str = "",
        actor: str = "",
    ) -> list[Repository]:
        """Repositories by name: with a prefix, after a name, containing a text, at most so many."""
        with self.database.read() as cx:
            records = refs.list_repositories(cx, prefix, after, None if search else limit)
        found = [record for record in records if search in record.name]
        return [self._open(record, actor) for record in found[:limit]]

    def delete_repository(self, name: str, *, force: bool = False) -> None:
        """Forget a repository. Its objects stay in the store. NotFound; Denied when it is read-only."""
        with self.database.write() as cx:
            record = refs.get_repository(cx, name)
            if record.read_only and not force:
                raise Denied(f"repository '{name}' is read-only", hint="use force where it is meant")
            for branch in refs.list_branches(cx, record.id):
                staging.drop_rows(cx, refs.get_branch(cx, record.id, branch.name).staged)
            refs.delete_repository(cx, record.id)

    def external_blobs(self, url: str) -> Blobs:
        """The store below a URL outside of the lake. Denied unless the mesh allows it."""
        return self.stores.external_blobs(url)

    def _open(self, record: RepositoryRecord, actor: str = "", *, force: bool = False) -> Repository:
        with self._lock:
            sides = self._sides.get(record.id)
            if sides is None or sides[0].record.storage != record.storage:
                reader = Reader(self.database, record, self.stores.blobs(record.namespace), self._caches)
                sides = reader, Writer(reader, self._group, self.stores)
                self._sides[record.id] = sides
        return Repository(
            record,
            *sides,
            self.stores,
            hooks=self.hooks,
            uses=self.uses,
            actor=actor,
            force=force,
            wait_seconds=self._wait_seconds,
        )


class Repository(Branches, Objects, History, Settings):
    """One repository. Safe to share between threads. Every operation may raise NotFound for an unknown ref."""

    def acting_as(self, actor: str) -> Repository:
        """The same repository in the hands of somebody else."""
        return Repository(
            replace(self.record),
            self.reader,
            self.writer,
            self.stores,
            hooks=self.hooks,
            uses=self.uses,
            actor=actor,
            force=self.force,
        )
