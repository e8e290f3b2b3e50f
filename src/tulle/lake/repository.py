"""The door to the lake: repositories of versioned paths, with branches, commits and merges.

    lake = open_lake(database, "local:///var/mesh/objects")
    sales = lake.create_repository("sales")
    sales.create_branch("try")
    sales.put("try", "orders/part-0.parquet", data)
    sales.commit("try", "First orders")
    sales.merge("try", "main")

A branch name read as a ref shows staged entries over committed ones; `branch@` shows committed ones only. Any
number of processes may use the same lake at the same time. Knows nothing of products or data sets.
"""

from __future__ import annotations

import builtins  # in this class `list` is what lists entries
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
from sqlalchemy import Connection

from tulle.errors import AlreadyExists, Denied, Invalid, NotFound
from tulle.lake import expression, graph, refs, staging, upkeep
from tulle.lake.blobs import CHUNK_BYTES, Blobs, open_blobs
from tulle.lake.entry import (
    MAX_COMMIT_METADATA,
    Change,
    Commit,
    Entry,
    Page,
    checked_path,
    checked_ref_name,
    checked_repository_name,
    encode_metadata,
    encoded_text,
    successor,
)
from tulle.lake.grouping import GroupCommit
from tulle.lake.links import Link
from tulle.lake.manifest import Manifest, make_commit
from tulle.lake.merge import Strategy
from tulle.lake.moves import Attributes, Gate, GateCall, MergeResult, Mover
from tulle.lake.ranges import EMPTY, tombstone
from tulle.lake.reading import Reader
from tulle.lake.refs import Branch, RepositoryRecord, Tag
from tulle.lake.runs import RunCaches
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
    "Page",
    "Repository",
    "Tag",
    "open_lake",
]

MAX_PAGE = 10_000
T = TypeVar("T")


def open_lake(database: Database, namespace: str, *, external: Sequence[str] = ()) -> Lake:
    """Open the lake whose objects are in `namespace` and whose refs are in `database`.

    `namespace` is `local:///absolute/folder`, `s3://bucket/prefix`, `gs://…` or `memory:///`. `external` lists
    the URL prefixes outside of it that links may point to; none by default.
    """
    return Lake(database, open_blobs(namespace), external=external)


class Lake:
    """The repositories of one mesh. Safe to share between threads."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        *,
        external: Sequence[str] = (),
        wait_seconds: float = 60.0,
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._caches = RunCaches()
        self._group = GroupCommit(database)
        self._external = tuple(external)
        self._wait_seconds = wait_seconds

    def create_repository(
        self, name: str, *, metadata: Mapping[str, str] | None = None, default_branch: str = "main"
    ) -> Repository:
        """Make a repository with an empty first commit on its default branch. AlreadyExists."""
        checked_repository_name(name)
        checked_ref_name(default_branch, "branch")
        encode_metadata(metadata)
        storage = f"{name}-{secrets.token_hex(4)}"  # a repository made again never meets old objects
        draft = RepositoryRecord(0, name, storage, default_branch, now(), dict(metadata or {}))
        with self._database.read() as cx:
            if any(known.name == name for known in refs.list_repositories(cx)):
                raise AlreadyExists(f"repository '{name}' exists")
        reader = Reader(self._database, draft, self._blobs, self._caches)
        delta = reader.runs.write(EMPTY, inline_bytes=CHUNK_BYTES)
        commit = make_commit(
            parents=[],
            delta_id=delta.id,
            message="Repository created",
            committer="",
            date=round(draft.created_at * 1_000_000),
            metadata={},
        )
        manifest = reader.manifests.put(Manifest(commit, delta, None, ()))
        with self._database.write() as cx:
            record = refs.add_repository(cx, name, storage, default_branch, draft.metadata)
            refs.add_commit(cx, record.id, commit, manifest, published=True)
            refs.add_branch(cx, record.id, default_branch, commit.id)
        return self._open(record)

    def repository(self, name: str) -> Repository:
        """An existing repository. NotFound, with the nearest name."""
        with self._database.read() as cx:
            return self._open(refs.get_repository(cx, name))

    def repositories(self) -> list[Repository]:
        """All repositories by name."""
        with self._database.read() as cx:
            return [self._open(record) for record in refs.list_repositories(cx)]

    def delete_repository(self, name: str) -> None:
        """Forget a repository. Its objects stay in the store. NotFound."""
        with self._database.write() as cx:
            record = refs.get_repository(cx, name)
            for branch in refs.list_branches(cx, record.id):
                staging.drop_rows(cx, refs.get_branch(cx, record.id, branch.name).staged)
            refs.delete_repository(cx, record.id)

    def _open(self, record: RepositoryRecord) -> Repository:
        reader = Reader(self._database, record, self._blobs, self._caches)
        mover = Mover(reader, wait_seconds=self._wait_seconds)
        return Repository(reader, Writer(reader, self._group, self._external), mover)


class Repository:
    """One repository. Safe to share between threads. Every operation may raise NotFound for an unknown ref."""

    def __init__(self, reader: Reader, writer: Writer, mover: Mover) -> None:
        self._reader = reader
        self._writer = writer
        self._mover = mover
        self._database = reader.database
        self._id = reader.id
        self._record = reader.record

    @property
    def name(self) -> str:
        """The repository's name."""
        return self._record.name

    @property
    def default_branch(self) -> str:
        """The branch that cannot be deleted."""
        return self._record.default_branch

    @property
    def metadata(self) -> Mapping[str, str]:
        """What was said about the repository when it was made."""
        return self._record.metadata

    @property
    def created_at(self) -> float:
        """When it was made, in seconds since the epoch."""
        return self._record.created_at

    # ── refs ─────────────────────────────────────────────────────────────────────────────────────────────

    def branches(self, prefix: str = "") -> list[Branch]:
        """Branches whose name starts with `prefix`, by name."""
        return self._read(lambda cx: refs.list_branches(cx, self._id, prefix))

    def branch(self, name: str) -> Branch:
        """One branch. NotFound."""
        state = self._read(lambda cx: refs.get_branch(cx, self._id, name))
        return Branch(name, state.commit_id)

    def create_branch(self, name: str, source: str = "main", *, exist_ok: bool = False) -> Branch:
        """Make a branch on the commit `source` names; no data is copied. AlreadyExists unless `exist_ok`."""
        checked_ref_name(name, "branch")
        with self._database.write() as cx:
            if exist_ok and any(b.name == name for b in refs.list_branches(cx, self._id, name)):
                return Branch(name, refs.get_branch(cx, self._id, name).commit_id)
            self._refuse_taken(cx, name)
            commit_id = expression.resolve(cx, self._id, source).commit_id
            refs.add_branch(cx, self._id, name, commit_id)
        return Branch(name, commit_id)

    def delete_branch(self, name: str) -> None:
        """Remove a branch with what is staged on it; its commits stay. Denied for the default branch."""
        if name == self.default_branch:
            raise Denied(f"'{name}' is the default branch of repository '{self.name}' and cannot be deleted")
        self._mover.delete_branch(name)

    def tags(self) -> list[Tag]:
        """Tags by name."""
        return self._read(lambda cx: refs.list_tags(cx, self._id))

    def create_tag(self, name: str, ref: str) -> Tag:
        """Name the commit of `ref` for good. AlreadyExists."""
        checked_ref_name(name, "tag")
        with self._database.write() as cx:
            self._refuse_taken(cx, name)
            commit_id = expression.resolve(cx, self._id, ref).commit_id
            refs.add_tag(cx, self._id, name, commit_id)
        return Tag(name, commit_id)

    def delete_tag(self, name: str) -> None:
        """Remove a tag. NotFound."""
        with self._database.write() as cx:
            refs.delete_tag(cx, self._id, name)

    def resolve(self, ref: str) -> str:
        """The full id of the commit a ref names: branch, tag, id, an id's beginning, then ~n, ^n or @."""
        return self._reader.target(ref).commit_id

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    def get(self, ref: str, path: str) -> bytes:
        """The bytes at a path. NotFound."""
        return b"".join(self.open(ref, path))

    def open(self, ref: str, path: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes at a path in pieces of a few MiB, or only those from `start` up to (without) `end`."""
        return self._writer.read(self.stat(ref, path), start, end)

    def stat(self, ref: str, path: str) -> Entry:
        """The entry at a path. NotFound."""
        encoded = checked_path(path)
        with self._reader.view(ref) as view:
            entry = view.find(encoded)
        if entry is None:
            raise NotFound(f"there is no '{path}' at '{ref}' in repository '{self.name}'")
        return entry

    def exists(self, ref: str, path: str) -> bool:
        """Whether there is something at a path."""
        encoded = checked_path(path)
        with self._reader.view(ref) as view:
            return view.find(encoded) is not None

    def list(
        self, ref: str, prefix: str = "", after: str = "", limit: int = 1000, delimiter: str = ""
    ) -> Page:
        """A page of at most `limit` entries under `prefix`, those after `after` in path order.

        With a `delimiter`, what lies below the next one after the prefix is told as one prefix.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid(f"a page of {limit} entries was asked for", hint=f"ask for 1 to {MAX_PAGE}")
        with self._reader.view(ref) as view:
            return view.page(encoded_text(prefix), encoded_text(after), limit, encoded_text(delimiter))

    def entries(self, ref: str, prefix: str = "") -> Iterator[Entry]:
        """Every entry under `prefix` in path order, as it was when this was called."""
        start = encoded_text(prefix)
        return self._reader.snapshot(ref, start).entries(start)

    def files(self, ref: str, prefix: str = "") -> builtins.list[str]:
        """Where the data under `prefix` is, in path order: local file names or URLs an engine can open."""
        return [self.location(entry) for entry in self.entries(ref, prefix)]

    def location(self, entry: Entry) -> str:
        """Where the data of an entry is: a local file name or a URL an engine can open."""
        return self._writer.location(entry)

    # ── staging ──────────────────────────────────────────────────────────────────────────────────────────

    def put(
        self,
        branch: str,
        path: str,
        data: bytes | Iterable[bytes] | Path,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> Entry:
        """Store data and stage it under a path; durable when this returns.

        With `if_absent`, AlreadyExists when something is there, also when somebody else is quicker.
        """
        self.branch(branch)  # before anything is written
        if if_absent and self.exists(branch, path):
            raise AlreadyExists(f"'{path}' exists on branch '{branch}' of repository '{self.name}'")
        entry = self._writer.store(path, data, content_type=content_type, metadata=metadata)
        self._writer.stage(branch, [entry], if_absent=if_absent)
        return entry

    def put_many(
        self, branch: str, items: Iterable[tuple[str, bytes | Iterable[bytes] | Path]]
    ) -> builtins.list[Entry]:
        """Store and stage several at once: all of them are staged, or none."""
        self.branch(branch)
        entries = [self._writer.store(path, data) for path, data in items]
        self._writer.stage(branch, entries)
        return entries

    def new_data_path(self, suffix: str = ".parquet") -> DataPath:
        """A place nothing was written to yet, for an engine that writes straight to the store; then `link` it."""
        return self._writer.new_data_path(suffix)

    def link(
        self,
        branch: str,
        path: str,
        address: str,
        *,
        size: int | None = None,
        checksum: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
        etag: str = "",
    ) -> Entry:
        """Stage data that is in place already under a path, without copying it; see `link_many`."""
        link = Link(path, address, size, checksum or "", etag, content_type, metadata)
        return self.link_many(branch, [link])[0]

    def link_many(self, branch: str, links: Iterable[Link]) -> builtins.list[Entry]:
        """Stage data that is in place already, without copying it: all of it, or none.

        An address in this lake must exist; it is made durable before this returns, and its true size is
        recorded (Invalid when another was stated). An address outside must begin with one of the prefixes the
        lake was opened with, and is believed when its size is stated. `checksum` is SHA-256 in hex.
        """
        self.branch(branch)
        entries = self._writer.linked(links)
        self._writer.stage(branch, entries)
        return entries

    def link_table(self, branch: str, table: pa.Table) -> int:
        """Like `link_many` for an Arrow table of links (see `links`), at a million rows a second.

        All of it is staged or nothing; returns how many paths that were.
        """
        self.branch(branch)
        return self._writer.stage_table(branch, table)

    def copy(
        self, branch: str, src_ref: str, src: str, dest: str, *, source: Repository | None = None
    ) -> Entry:
        """Stage under `dest` what is at `src`, here or in another repository of the lake; no data is copied."""
        origin = source or self
        entry = self._writer.copied(origin.stat(src_ref, src), dest, origin._writer)  # noqa: SLF001  same class
        self._writer.stage(branch, [entry])
        return entry

    def delete(self, branch: str, path: str) -> None:
        """Stage the removal of a path. NotFound when there is nothing."""
        encoded = checked_path(path)
        if not self.exists(self._only_branch(branch), path):
            raise NotFound(f"there is no '{path}' on branch '{branch}' of repository '{self.name}'")
        self._writer.stage_rows(branch, [tombstone(encoded)])

    def delete_prefix(self, branch: str, prefix: str) -> int:
        """Stage the removal of everything under a prefix and return how much that was."""
        start = encoded_text(prefix)
        view = self._reader.snapshot(self._only_branch(branch), start)
        rows = [
            tombstone(chunk.path(position))
            for chunk in view.chunks(start, successor(start))
            for position in range(chunk.rows)
        ]
        self._writer.stage_rows(branch, rows)
        return len(rows)

    def status(self, branch: str) -> builtins.list[Change]:
        """What committing the branch now would change, in path order."""
        return self._reader.staged_changes(branch)

    def reset(self, branch: str, prefix: str | None = None) -> None:
        """Forget what is staged on a branch: everything, or what lies under `prefix`."""
        self._mover.drop_staged(branch, None if prefix is None else encoded_text(prefix))

    # ── history ──────────────────────────────────────────────────────────────────────────────────────────

    def commit(
        self,
        branch: str,
        message: str,
        *,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        date: float | None = None,
    ) -> Commit:
        """Commit what is staged on a branch. Invalid when that changes nothing, unless `allow_empty`."""
        attributes = _attributes(message, committer, metadata, date)
        return self._mover.commit(branch, attributes, allow_empty=allow_empty)

    def commit_info(self, ref: str) -> Commit:
        """The commit a ref names."""
        return self._reader.commit(self.resolve(ref))

    def log(
        self, ref: str, *, limit: int = 50, after: str | None = None, prefix: str | None = None
    ) -> builtins.list[Commit]:
        """Commits a ref was built on, newest first: at most `limit`, those that come after commit `after`.

        With `prefix`, only commits (not merges) that changed a path under it.
        """
        found: builtins.list[Commit] = []
        skipping = after is not None
        for commit in graph.ancestors(self.resolve(ref), self._reader.commit):
            if len(found) == limit:
                break
            if skipping:
                skipping = commit.id != after
            elif prefix is None or (
                len(commit.parents) < 2 and self._reader.touches(commit, encoded_text(prefix))
            ):
                found.append(commit)
        return found

    def diff(
        self, left: str, right: str, *, three_dot: bool = False, prefix: str = ""
    ) -> builtins.list[Change]:
        """What differs from `left` to `right`, in path order; three-dot: from their merge base to `right`.

        Compares committed content; `status` tells what is staged.
        """
        from_id, to_id = self.resolve(left), self.resolve(right)
        if three_dot:
            from_id = self.merge_base(from_id, to_id)
        return list(self._reader.changes(from_id, to_id, encoded_text(prefix)))

    def merge_base(self, left: str, right: str) -> str:
        """The id of the nearest commit both refs were built on. NotFound when their histories never met."""
        base = graph.merge_base(self.resolve(left), self.resolve(right), self._reader.commit)
        if base is None:
            raise NotFound(f"'{left}' and '{right}' have no commit in common")
        return base

    def merge(
        self,
        source_ref: str,
        dest_branch: str,
        *,
        message: str | None = None,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
        strategy: Strategy | None = None,
        squash: bool = False,
        gate: Gate | None = None,
    ) -> MergeResult:
        """Merge what `source_ref` committed since the merge base into a branch, as one commit, all or nothing.

        Conflict, whose problems list the paths, when both sides changed one differently and no `strategy`
        (source-wins, dest-wins) is given, and when the branch has staged changes. With `squash` the commit has
        the branch alone as its parent. `gate` is called once with the commit that would be published and vetoes
        by raising; while it runs, whoever else would move the branch waits, so what it judged is what is
        published, and a veto or a crash leaves everything as it was.
        """
        if strategy not in {None, "source-wins", "dest-wins"}:
            raise Invalid(f"'{strategy}' is no merge strategy", hint="known: source-wins, dest-wins")
        source = self.resolve(source_ref)
        text = message if message is not None else f"Merge '{source_ref}' into '{dest_branch}'"
        return self._mover.merge(
            source,
            dest_branch,
            _attributes(text, committer, metadata, None),
            strategy=strategy,
            squash=squash,
            gate=gate,
        )

    def revert(
        self,
        branch: str,
        ref: str,
        *,
        parent_number: int = 0,
        message: str | None = None,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Commit:
        """Take back, in a new commit, what a commit changed. Conflict when its paths changed again since.

        Of a merge commit, `parent_number` says which parent to go back to (1 is the branch it was merged into).
        """
        commit_id = self.resolve(ref)
        text = message if message is not None else f"Revert {commit_id[:12]}"
        attributes = _attributes(text, committer, metadata, None)
        return self._mover.revert(branch, commit_id, attributes, parent_number=parent_number)

    def hard_reset(self, branch: str, ref: str) -> Branch:
        """Put a branch on the commit `ref` names. Conflict when something is staged on it."""
        commit_id = self.resolve(ref)
        self._mover.hard_reset(branch, commit_id)
        return Branch(branch, commit_id)

    def fold(self, ref: str) -> bool:
        """Merge the layers of a commit into its base, which makes reading it quicker; False when it has none."""
        return upkeep.fold(self._reader, self.resolve(ref))

    # ── helpers ──────────────────────────────────────────────────────────────────────────────────────────

    def _read(self, query: Callable[[Connection], T]) -> T:
        with self._database.read() as cx:
            return query(cx)

    def _refuse_taken(self, cx: Connection, name: str) -> None:
        # A tag and a branch of one name would hide one another.
        if any(branch.name == name for branch in refs.list_branches(cx, self._id, name)):
            raise AlreadyExists(f"branch '{name}' exists in repository '{self.name}'")
        if any(tag.name == name for tag in refs.list_tags(cx, self._id)):
            raise AlreadyExists(f"tag '{name}' exists in repository '{self.name}'")

    def _only_branch(self, name: str) -> str:
        self.branch(name)
        return name


def _attributes(
    message: str, committer: str, metadata: Mapping[str, str] | None, date: float | None
) -> Attributes:
    if not isinstance(message, str) or not message.strip():
        raise Invalid("a commit needs a message")
    encode_metadata(metadata, MAX_COMMIT_METADATA)
    return Attributes(message, committer, dict(metadata or {}), date)
