"""The few things of a lake that change: repositories, branches, tags, commit records.

Functions on rows of the control-plane database, each inside a transaction of the caller. A branch moves only by
compare-and-swap, by whoever holds its lock (see `locks`). Knows nothing of what commits contain.

Statements that every read or commit needs are built once: building one costs more than running it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from sqlalchemy import Column, Connection, Row, Select, and_, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from tulle.errors import AlreadyExists, Conflict, Gone, LimitExceeded, NotFound, did_you_mean
from tulle.lake.entry import Commit
from tulle.state.db import now
from tulle.state.lookup import Lookup
from tulle.state.tables import (
    lake_branches,
    lake_commits,
    lake_reflog,
    lake_repositories,
    lake_storages,
    lake_tags,
)

Lock = Literal["no", "share", "update"]

LIKELY = 500  # names that are looked through for the one that may have been meant

IS_BRANCH = and_(
    lake_branches.c.repository_id == bindparam("in_repository"),
    lake_branches.c.name == bindparam("of_branch"),
)
_IS_COMMIT = and_(
    lake_commits.c.repository_id == bindparam("in_repository"), lake_commits.c.id == bindparam("of_commit")
)
_REPOSITORY = select(lake_repositories).where(lake_repositories.c.name == bindparam("of_name"))
_REPOSITORY_BY_ID = select(lake_repositories).where(lake_repositories.c.id == bindparam("in_repository"))
# Not so locked that rows cannot be added that name the repository: it could only come to grief with a commit.
_LOCKED_REPOSITORY_BY_ID = _REPOSITORY_BY_ID.with_for_update(key_share=True)
_TAG = select(lake_tags.c.commit_id).where(
    lake_tags.c.repository_id == bindparam("in_repository"), lake_tags.c.name == bindparam("of_tag")
)
_BRANCH = select(lake_branches.c.commit_id, lake_branches.c.staged).where(IS_BRANCH)
_LOCKED_BRANCH = {
    "no": _BRANCH,
    "share": _BRANCH.with_for_update(read=True),  # nobody changes the row until the transaction ends
    "update": _BRANCH.with_for_update(),  # nobody else locks it either
}  # in SQLite all the same: a writing transaction is alone
_COMMIT = select(lake_commits).where(_IS_COMMIT)
_MANIFEST = select(lake_commits.c.manifest).where(_IS_COMMIT)
_HEAD = Lookup(
    select(lake_branches.c.commit_id, lake_branches.c.staged, lake_commits.c.manifest).where(
        IS_BRANCH,
        lake_commits.c.repository_id == lake_branches.c.repository_id,
        lake_commits.c.id == lake_branches.c.commit_id,
    )
)
_LOCKED_MANIFEST = _MANIFEST.with_for_update(read=True)
_PUBLISHED = select(lake_commits.c.published, lake_commits.c.manifest).where(_IS_COMMIT)
_LOCKED_PUBLISHED = _PUBLISHED.with_for_update()
_ADD_COMMIT = insert(lake_commits)
_LOG = insert(lake_reflog)
_SET_STAGED = update(lake_branches).where(IS_BRANCH).values(staged=bindparam("new_staged"))
_MOVE = (
    update(lake_branches)
    .where(
        IS_BRANCH,
        lake_branches.c.commit_id == bindparam("expected"),
        lake_branches.c.lock_owner == bindparam("holder"),
    )
    .values(commit_id=bindparam("new_commit"), staged=bindparam("new_staged"))
)
_MOVE_AND_UNLOCK = _MOVE.values(lock_owner=None, lock_until=None)


EXPIRED = "expired "  # before the name of a manifest: its commit's data is given up to the collector


@dataclass(frozen=True, slots=True)
class RepositoryRecord:
    """A repository as it is recorded. `namespace` is the store its objects are in, `storage` the folder there."""

    id: int
    name: str
    storage: str
    default_branch: str
    created_at: float
    metadata: Mapping[str, str]
    namespace: str = ""
    read_only: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    used_bytes: int = 0
    used_objects: int = 0


@dataclass(frozen=True, slots=True)
class Branch:
    """A branch and the commit it is on. Clients leave hidden ones out of their lists."""

    name: str
    commit_id: str
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Tag:
    """A tag and the commit it names."""

    name: str
    commit_id: str


@dataclass(frozen=True, slots=True)
class Move:
    """One step of a branch: when it went from which commit to which, by what operation, at whose wish.

    `before` is None where the branch was created, `after` where it was deleted.
    """

    branch: str
    at: float
    operation: str
    before: str | None
    after: str | None
    actor: str


@dataclass(frozen=True, slots=True)
class BranchState:
    """A branch with what is staged on it, newest first."""

    name: str
    commit_id: str
    staged: tuple[Mapping[str, Any], ...]


# ── repositories ─────────────────────────────────────────────────────────────────────────────────────────


def add_repository(cx: Connection, draft: RepositoryRecord) -> RepositoryRecord:
    """Record a repository; returns the record with its id. AlreadyExists."""
    values = {
        "name": draft.name,
        "storage": draft.storage,
        "namespace": draft.namespace,
        "default_branch": draft.default_branch,
        "created_at": draft.created_at,
        "metadata": dict(draft.metadata),
        "read_only": draft.read_only,
        "settings": dict(draft.settings),
    }
    try:
        result = cx.execute(insert(lake_repositories).values(**values))
    except IntegrityError:
        raise AlreadyExists(f"repository '{draft.name}' exists") from None
    add_storage(cx, draft.storage, draft.namespace)
    key = result.inserted_primary_key
    assert key is not None
    return replace(draft, id=int(key[0]))


def add_storage(cx: Connection, storage: str, namespace: str) -> None:
    """Remember, for good, in which store the objects of a storage are."""
    if find_storage(cx, storage) is None:
        cx.execute(insert(lake_storages).values(storage=storage, namespace=namespace, created_at=now()))


def find_storage(cx: Connection, storage: str) -> str | None:
    """The namespace a storage is in ("" for the lake's own), or None for one that never was."""
    query = select(lake_storages.c.namespace).where(lake_storages.c.storage == storage)
    found: str | None = cx.execute(query).scalar()
    return found


def find_repository(cx: Connection, name: str) -> RepositoryRecord | None:
    """The record of a repository, or None."""
    row = cx.execute(_REPOSITORY, {"of_name": name}).first()
    return None if row is None else _repository(row)


def get_repository(cx: Connection, name: str) -> RepositoryRecord:
    """The record of a repository. NotFound, with the nearest name."""
    found = find_repository(cx, name)
    if found is None:
        names = cx.execute(select(lake_repositories.c.name)).scalars().all()
        raise NotFound(f"there is no repository '{name}'", hint=did_you_mean(name, names))
    return found


def list_repositories(
    cx: Connection, prefix: str = "", after: str = "", limit: int | None = None
) -> list[RepositoryRecord]:
    """Repositories by name: those with a prefix, after a name, at most so many."""
    query = _names_between(select(lake_repositories), lake_repositories.c.name, prefix, after, limit)
    return [_repository(row) for row in cx.execute(query)]


def update_repository(cx: Connection, repository: int, **values: Any) -> None:
    """Change columns of a repository's record."""
    cx.execute(update(lake_repositories).where(lake_repositories.c.id == repository).values(**values))


def read_repository(cx: Connection, repository: int, *, lock: bool = True) -> RepositoryRecord:
    """The record; locked, nobody else changes it until the transaction ends. NotFound when it was deleted."""
    query = _LOCKED_REPOSITORY_BY_ID if lock else _REPOSITORY_BY_ID
    row = cx.execute(query, {"in_repository": repository}).first()
    if row is None:
        raise NotFound("the repository was deleted meanwhile")
    return _repository(row)


def charge(cx: Connection, repository: int, size: int, objects: int) -> None:
    """Count what is written into a repository that has a quota. LimitExceeded when it would be passed."""
    record = read_repository(cx, repository)
    if record.settings.get("quota"):
        used = record.used_bytes + size, record.used_objects + objects
        demand_room(record, *used)
        update_repository(cx, repository, used_bytes=used[0], used_objects=used[1])


def demand_room(record: RepositoryRecord, used_bytes: int, used_objects: int) -> None:
    """LimitExceeded when so much is more than the quota of a repository allows."""
    quota = record.settings.get("quota") or {}
    for total, limit, what in ((used_bytes, "max_bytes", "bytes"), (used_objects, "max_objects", "objects")):
        most = quota.get(limit)
        if most is not None and total > most:
            raise LimitExceeded(
                f"repository '{record.name}' has a quota of {most:,} {what}, {total:,} would be used",
                hint="remove data and collect garbage, or have the quota raised",
            )


def delete_repository(cx: Connection, repository: int) -> None:
    """Forget a repository with its branches, tags and commit records."""
    for table in (lake_reflog, lake_branches, lake_tags, lake_commits):
        cx.execute(delete(table).where(table.c.repository_id == repository))
    cx.execute(delete(lake_repositories).where(lake_repositories.c.id == repository))


def _repository(row: Row[Any]) -> RepositoryRecord:
    return RepositoryRecord(
        row.id,
        row.name,
        row.storage,
        row.default_branch,
        row.created_at,
        dict(row.metadata),
        row.namespace,
        bool(row.read_only),
        dict(row.settings or {}),
        row.used_bytes,
        row.used_objects,
    )


def _names_between(
    query: Select[Any], column: Column[str], prefix: str, after: str, limit: int | None
) -> Select[Any]:
    query = query.order_by(column)
    if prefix:
        query = query.where(column >= prefix, column < prefix + "\U0010ffff")
    if after:
        query = query.where(column > after)
    return query if limit is None else query.limit(limit)


# ── branches ─────────────────────────────────────────────────────────────────────────────────────────────


def add_branch(
    cx: Connection, repository: int, name: str, commit_id: str, *, hidden: bool = False, actor: str = ""
) -> None:
    """Record a branch. AlreadyExists; Gone when the commit's data was collected."""
    demand_kept(cx, repository, commit_id)
    values = {
        "repository_id": repository,
        "name": name,
        "commit_id": commit_id,
        "staged": [],
        "created_at": now(),
        "hidden": hidden,
    }
    try:
        cx.execute(insert(lake_branches).values(**values))
    except IntegrityError:
        raise AlreadyExists(f"branch '{name}' exists") from None
    log_move(cx, repository, name, None, commit_id, "create", actor)


def find_branch(cx: Connection, repository: int, name: str) -> BranchState | None:
    """A branch, or None."""
    row = cx.execute(_BRANCH, branch_key(repository, name)).first()
    return None if row is None else BranchState(name, row.commit_id, tuple(row.staged))


def find_head(cx: Connection, repository: int, name: str) -> tuple[BranchState, str] | None:
    """A branch and the name of the manifest of the commit it is on, in one statement; None without the branch."""
    found = _HEAD.first(cx, branch_key(repository, name))
    if found is None:
        return None
    commit_id, staged, manifest = found
    return BranchState(name, commit_id, tuple(staged)), manifest


def get_branch(cx: Connection, repository: int, name: str, *, lock: Lock = "no") -> BranchState:
    """A branch, its row locked until the transaction ends if asked for. NotFound, with the nearest name."""
    row = cx.execute(_LOCKED_BRANCH[lock], branch_key(repository, name)).first()
    if row is None:
        names = [branch.name for branch in list_branches(cx, repository, limit=LIKELY)]
        raise NotFound(f"there is no branch '{name}'", hint=did_you_mean(name, names))
    return BranchState(name, row.commit_id, tuple(row.staged))


def take_branch(cx: Connection, place: tuple[int, str]) -> None:
    """Make others who would change or stage on a branch wait until the transaction ends."""
    cx.execute(_LOCKED_BRANCH["update"], branch_key(*place))


def list_branches(
    cx: Connection,
    repository: int,
    prefix: str = "",
    after: str = "",
    limit: int | None = None,
    *,
    show_hidden: bool = True,
) -> list[Branch]:
    """Branches by name: those with a prefix, after a name, at most so many."""
    query = select(lake_branches.c.name, lake_branches.c.commit_id, lake_branches.c.hidden).where(
        lake_branches.c.repository_id == repository
    )
    if not show_hidden:
        query = query.where(lake_branches.c.hidden.is_(False))
    query = _names_between(query, lake_branches.c.name, prefix, after, limit)
    return [Branch(r.name, r.commit_id, bool(r.hidden)) for r in cx.execute(query)]


def set_staged(cx: Connection, repository: int, name: str, staged: Sequence[Mapping[str, Any]]) -> None:
    """Replace what is recorded as staged on a branch."""
    cx.execute(_SET_STAGED, branch_key(repository, name) | {"new_staged": [dict(item) for item in staged]})


def move_branch(
    cx: Connection,
    repository: int,
    branch: str,
    *,
    before: str,
    after: str,
    owner: str,
    staged: Sequence[Mapping[str, Any]],
    operation: str,
    actor: str = "",
    keep_locked: bool = False,
) -> None:
    """Compare-and-swap: put the branch on `after` if it is on `before` and `owner` holds its lock. Conflict.

    The lock is let go of in the same step, unless it is to be kept.
    """
    result = cx.execute(
        _MOVE if keep_locked else _MOVE_AND_UNLOCK,
        branch_key(repository, branch)
        | {
            "expected": before,
            "holder": owner,
            "new_commit": after,
            "new_staged": [dict(item) for item in staged],
        },
    )
    if result.rowcount != 1:
        raise Conflict(
            f"branch '{branch}' was moved by somebody else meanwhile; nothing was changed", hint="try again"
        )
    log_move(cx, repository, branch, before, after, operation, actor)


def delete_branch(cx: Connection, repository: int, name: str, owner: str, actor: str = "") -> None:
    """Remove a branch whose lock `owner` holds."""
    before = get_branch(cx, repository, name).commit_id
    query = delete(lake_branches).where(IS_BRANCH, lake_branches.c.lock_owner == owner)
    result = cx.execute(query, branch_key(repository, name))
    if result.rowcount != 1:
        raise Conflict(f"branch '{name}' is being changed by somebody else", hint="try again")
    log_move(cx, repository, name, before, None, "delete", actor)


def log_move(
    cx: Connection,
    repository: int,
    branch: str,
    before: str | None,
    after: str | None,
    operation: str,
    actor: str = "",
) -> None:
    """Record where a branch was and where it went."""
    cx.execute(
        _LOG,
        {
            "repository_id": repository,
            "branch": branch,
            "before": before,
            "after": after,
            "at": now(),
            "operation": operation,
            "actor": actor,
        },
    )


def list_moves(cx: Connection, repository: int, branch: str, limit: int) -> list[Move]:
    """The steps of a branch, newest first; also of one that was deleted."""
    query = (
        select(lake_reflog)
        .where(lake_reflog.c.repository_id == repository, lake_reflog.c.branch == branch)
        .order_by(lake_reflog.c.id.desc())
        .limit(limit)
    )
    return [Move(r.branch, r.at, r.operation, r.before, r.after, r.actor) for r in cx.execute(query)]


def branch_key(repository: int, name: str) -> dict[str, Any]:
    """The parameters of IS_BRANCH."""
    return {"in_repository": repository, "of_branch": name}


# ── tags ─────────────────────────────────────────────────────────────────────────────────────────────────


def add_tag(cx: Connection, repository: int, name: str, commit_id: str) -> None:
    """Record a tag. AlreadyExists; Gone when the commit's data was collected."""
    demand_kept(cx, repository, commit_id)
    try:
        cx.execute(
            insert(lake_tags).values(
                repository_id=repository, name=name, commit_id=commit_id, created_at=now()
            )
        )
    except IntegrityError:
        raise AlreadyExists(
            f"tag '{name}' exists", hint="a tag is never moved; choose another name"
        ) from None


def find_tag(cx: Connection, repository: int, name: str) -> Tag | None:
    """A tag, or None."""
    row = cx.execute(_TAG, {"in_repository": repository, "of_tag": name}).first()
    return None if row is None else Tag(name, row.commit_id)


def get_tag(cx: Connection, repository: int, name: str) -> Tag:
    """A tag. NotFound, with the nearest name."""
    found = find_tag(cx, repository, name)
    if found is None:
        names = [tag.name for tag in list_tags(cx, repository, limit=LIKELY)]
        raise NotFound(f"there is no tag '{name}'", hint=did_you_mean(name, names))
    return found


def list_tags(
    cx: Connection, repository: int, prefix: str = "", after: str = "", limit: int | None = None
) -> list[Tag]:
    """Tags by name: those with a prefix, after a name, at most so many."""
    query = select(lake_tags).where(lake_tags.c.repository_id == repository)
    query = _names_between(query, lake_tags.c.name, prefix, after, limit)
    return [Tag(row.name, row.commit_id) for row in cx.execute(query)]


def delete_tag(cx: Connection, repository: int, name: str) -> None:
    """Remove a tag. NotFound."""
    get_tag(cx, repository, name)
    cx.execute(delete(lake_tags).where(lake_tags.c.repository_id == repository, lake_tags.c.name == name))


# ── commits ──────────────────────────────────────────────────────────────────────────────────────────────


def add_commit(cx: Connection, repository: int, commit: Commit, manifest: str, *, published: bool) -> None:
    """Record a commit; the record of the very same commit is kept as it is."""
    row = cx.execute(_PUBLISHED, _commit_key(repository, commit.id)).first()
    if row is None:
        cx.execute(
            _ADD_COMMIT,
            {
                "repository_id": repository,
                "id": commit.id,
                "parents": list(commit.parents),
                "generation": commit.generation,
                "message": commit.message,
                "committer": commit.committer,
                "date": round(commit.date * 1_000_000),
                "metadata": dict(commit.metadata),
                "manifest": manifest,
                "published": published,
            },
        )
        return
    row = cx.execute(_LOCKED_PUBLISHED, _commit_key(repository, commit.id)).first()
    if row is None:
        raise Conflict(
            f"commit {commit.id[:12]} was removed meanwhile; nothing was changed", hint="try again"
        )
    if row.manifest.startswith(EXPIRED):  # made again after its data was collected
        query = update(lake_commits).where(_IS_COMMIT).values(manifest=manifest)
        cx.execute(query, _commit_key(repository, commit.id))
    if published and not row.published:
        query = update(lake_commits).where(_IS_COMMIT).values(published=True)
        cx.execute(query, _commit_key(repository, commit.id))


def get_commit(cx: Connection, repository: int, id_: str) -> tuple[Commit, str]:
    """A commit and the name of its manifest. NotFound."""
    row = cx.execute(_COMMIT, _commit_key(repository, id_)).first()
    if row is None:
        raise NotFound(f"there is no commit '{id_}'")
    commit = Commit(
        row.id,
        tuple(row.parents),
        row.message,
        row.committer,
        row.date / 1_000_000,
        dict(row.metadata),
        row.generation,
    )
    return commit, row.manifest


def get_manifest_name(cx: Connection, repository: int, id_: str) -> str:
    """The name of a commit's manifest. NotFound."""
    found = cx.execute(_MANIFEST, _commit_key(repository, id_)).scalar()
    if found is None:
        raise NotFound(f"there is no commit '{id_}'")
    return str(found)


def mark_expired(manifest: str, day: str) -> str:
    """What stands in place of a manifest's name when the commit's data is given up to the collector."""
    return f"{EXPIRED}{day} {manifest}"


def manifest_of(recorded: str) -> tuple[str, str]:
    """The name of a manifest as it is recorded, and on which day the commit's data was given up ("" if not)."""
    if not recorded.startswith(EXPIRED):
        return recorded, ""
    day, _, name = recorded.removeprefix(EXPIRED).partition(" ")
    return name, day


def gone(id_: str, day: str) -> Gone:
    """The failure to read what a commit held after it was given up."""
    return Gone(
        f"commit {id_[:12]} was collected by retention on {day}: its record stays, its data does not",
        hint="use a younger commit, or what a tag names; retention rules decide how long data is kept",
    )


def demand_kept(cx: Connection, repository: int, id_: str) -> None:
    """Gone when a commit's data was given up; until the transaction ends nobody gives it up. NotFound."""
    found = cx.execute(_LOCKED_MANIFEST, _commit_key(repository, id_)).scalar()
    if found is not None and (day := manifest_of(str(found))[1]):
        raise gone(id_, day)


def swap_manifest(cx: Connection, repository: int, id_: str, before: str, after: str) -> bool:
    """Give a commit another manifest; False when it has another than `before` already."""
    query = update(lake_commits).where(_IS_COMMIT, lake_commits.c.manifest == before).values(manifest=after)
    return bool(cx.execute(query, _commit_key(repository, id_)).rowcount)


def drop_commit(cx: Connection, repository: int, id_: str) -> None:
    """Remove the record of a commit a gate refused."""
    query = delete(lake_commits).where(_IS_COMMIT, lake_commits.c.published.is_(False))
    cx.execute(query, _commit_key(repository, id_))


def _commit_key(repository: int, id_: str) -> dict[str, Any]:
    return {"in_repository": repository, "of_commit": id_}
