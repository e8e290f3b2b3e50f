"""Dumping and restoring refs: branches, tags and commit records as objects beside the data they name.

A dump survives the loss of the database and the deletion of the repository. Restoring puts it into a bare
repository, which takes over the storage the dump lies in. What is staged is not part of a dump. A dump is three
objects named `<storage>.<hash>`, so that a restore finds them by their ids alone. Knows nothing of doors.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from blake3 import blake3
from sqlalchemy import func, insert, select, update
from sqlalchemy.exc import IntegrityError

from tulle.errors import AlreadyExists, Broken, Conflict, Invalid, NotFound, TulleError, from_dict
from tulle.lake import refs
from tulle.lake.blobs import Blobs
from tulle.lake.leftovers import take_turn
from tulle.lake.refs import RepositoryRecord
from tulle.lake.repository import Lake
from tulle.state import tasks
from tulle.state.tables import lake_branches, lake_commits, lake_repositories, lake_tags
from tulle.state.tasks import Handler, Running, Task

DUMP, RESTORE = "dump", "restore"
FORMAT = "tulle refs 1"
_PARTS = ("branches", "tags", "commits")
_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class RefsDump:
    """The ids of the three objects of a dump."""

    branches: str
    tags: str
    commits: str


@dataclass(frozen=True, slots=True)
class DumpStatus:
    """How far a dump or restore is; `refs` when a dump is done, `updated_at` in seconds since the epoch."""

    id: str
    done: bool
    updated_at: float
    error: TulleError | None = None
    refs: RefsDump | None = None


def dump(lake: Lake, repository: str) -> RefsDump:
    """Write the refs of a repository into its store and return the ids. NotFound."""
    found = lake.repository(repository)
    record = found.record
    with lake.database.read() as cx:
        rows: dict[str, list[dict[str, Any]]] = {}
        tables = (lake_branches, lake_tags, lake_commits)
        for part, table in zip(_PARTS, tables, strict=True):
            query = select(table).where(table.c.repository_id == record.id)
            if table is lake_commits:
                query = query.where(lake_commits.c.published).order_by(lake_commits.c.id)
            else:
                query = query.order_by(table.c.name)
            left_out = {"repository_id", "staged", "lock_owner", "lock_until"}
            rows[part] = [
                {key: value for key, value in row._mapping.items() if key not in left_out}  # noqa: SLF001  its name
                for row in cx.execute(query)
            ]
    ids = {}
    for part in _PARTS:
        data = msgspec.msgpack.encode(
            {"format": FORMAT, "part": part, "default_branch": record.default_branch, "rows": rows[part]}
        )
        digest = str(blake3(data).hexdigest())
        try:
            found.reader.blobs.put(f"{record.storage}/_tulle/dumps/{digest}", data)
        except AlreadyExists:
            found.reader.blobs.stat(f"{record.storage}/_tulle/dumps/{digest}", settle=True)
        ids[part] = f"{record.storage}.{digest}"
    return RefsDump(**ids)


def restore(lake: Lake, repository: str, wanted: RefsDump, *, force: bool = False) -> None:
    """Give a bare repository the refs of a dump, and the storage it lies in.

    Conflict when the repository is not bare (with `force` what it has is replaced) or when another repository has
    the storage. NotFound, Broken for a dump that is not there or damaged; nothing is changed then.
    """
    record = lake.repository(repository, force=True).record
    ids = {part: getattr(wanted, part) for part in _PARTS}
    storages = {id_.rpartition(".")[0] for id_ in ids.values()}
    if len(storages) != 1 or "" in storages:
        raise Invalid("the ids are not those of one dump", hint="give the three ids a dump told")
    (storage,) = storages
    namespace, blobs = _place(lake, record, storage)
    parts = {part: _part(blobs, storage, part, id_) for part, id_ in ids.items()}
    commits = {row["id"] for row in parts["commits"]["rows"]}
    for part in ("branches", "tags"):
        for row in parts[part]["rows"]:
            if row["commit_id"] not in commits:
                raise Broken(f"the dump's {part} name commit {row['commit_id']}, which it does not hold")
    with lake.database.write() as cx:
        take_turn(cx, storage)
        _take_back(blobs, storage, ids.values())
        count = (
            select(func.count()).select_from(lake_commits).where(lake_commits.c.repository_id == record.id)
        )
        if cx.execute(count).scalar() and not force:
            raise Conflict(
                f"repository '{repository}' has commits already", hint="restore into a bare repository"
            )
        for table in (lake_branches, lake_tags, lake_commits):
            cx.execute(table.delete().where(table.c.repository_id == record.id))
        try:
            cx.execute(
                update(lake_repositories)
                .where(lake_repositories.c.id == record.id)
                .values(
                    storage=storage, namespace=namespace, default_branch=parts["branches"]["default_branch"]
                )
            )
        except IntegrityError:
            raise Conflict(
                f"another repository has the storage '{storage}' that the dump lies in",
                hint="a dump is restored after its repository was deleted, or in another mesh",
            ) from None
        refs.add_storage(cx, storage, namespace)
        for part, table in zip(_PARTS, (lake_branches, lake_tags, lake_commits), strict=True):
            for rows in _pieces(parts[part]["rows"]):
                values = [{**row, "repository_id": record.id} for row in rows]
                if table is lake_branches:
                    values = [{**row, "staged": []} for row in values]
                cx.execute(insert(table), values)


def ask(
    lake: Lake,
    kind: str,
    repository: str,
    wanted: RefsDump | None = None,
    *,
    force: bool = False,
    actor: str = "",
) -> str:
    """Ask for a dump or a restore and return the task's id. NotFound."""
    record = lake.repository(repository).record
    request: dict[str, Any] = {"repository": repository, "repository_id": record.id, "force": force}
    if wanted is not None:
        request["refs"] = {part: getattr(wanted, part) for part in _PARTS}
    with lake.database.write() as cx:
        return tasks.ask(cx, f"refs-{kind}", repository, request, actor=actor)


def status(lake: Lake, kind: str, repository: str, id_: str) -> DumpStatus:
    """How far a dump or restore is. NotFound."""
    task: Task = tasks.get(lake.database, id_)
    if task.kind != f"refs-{kind}" or task.request["repository_id"] != lake.repository(repository).record.id:
        raise NotFound(f"there is no {kind} '{id_}' of repository '{repository}'")
    is_done = task.status in {"done", "failed", "cancelled"}
    error = from_dict(dict(task.error)) if task.error else None
    found = RefsDump(**task.result) if task.result else None
    return DumpStatus(id_, is_done, task.updated_at, error, found)


def handlers(lake: Lake) -> dict[str, Handler]:
    """What a worker needs to run dumps and restores."""

    def dumped(running: Running) -> Mapping[str, Any]:
        found = dump(lake, running.task.request["repository"])
        return {part: getattr(found, part) for part in _PARTS}

    def restored(running: Running) -> Mapping[str, Any]:
        request = running.task.request
        wanted = RefsDump(**request["refs"])
        # Taken up again after it was done, it finds its own commits: the same again is the same.
        restore(lake, request["repository"], wanted, force=request["force"] or running.task.attempts > 1)
        return dict(request["refs"])

    return {f"refs-{DUMP}": dumped, f"refs-{RESTORE}": restored}


def _place(lake: Lake, record: RepositoryRecord, storage: str) -> tuple[str, Blobs]:
    """The store a storage is in: where it was recorded to be, else where the bare repository was made."""
    with lake.database.read() as cx:
        known = refs.find_storage(cx, storage)
    if known is not None:
        return known, lake.stores.blobs(known)
    above, _, last = record.namespace.rstrip("/").rpartition("/")
    if last == storage:
        namespace = "" if above == lake.stores.namespace else above
        return namespace, lake.stores.blobs(namespace)
    return record.namespace, lake.stores.blobs(record.namespace)


def _part(blobs: Blobs, storage: str, part: str, id_: str) -> Mapping[str, Any]:
    digest = id_.rpartition(".")[2]
    _demand(blobs, storage, id_)
    data = blobs.get(f"{storage}/_tulle/dumps/{digest}")
    if blake3(data).hexdigest() != digest:
        raise Broken(f"dump '{id_}' is damaged", hint="restore that object of the store from a copy")
    value: Mapping[str, Any] = msgspec.msgpack.decode(data)
    if value.get("format") != FORMAT or value.get("part") != part:
        raise Invalid(f"'{id_}' holds no {part}", hint="give the three ids as the dump told them")
    return value


def _take_back(blobs: Blobs, storage: str, ids: Iterable[str]) -> None:
    """Keep collections of what deleted repositories left from a storage, unless one has begun to remove it."""
    for id_ in ids:  # they remove dumps first
        _demand(blobs, storage, id_)
    for blob in list(blobs.list(f"{storage}/_tulle/collections")):
        blobs.delete(blob.path)  # what was unneeded while there was no repository


def _demand(blobs: Blobs, storage: str, id_: str) -> None:
    try:
        blobs.stat(f"{storage}/_tulle/dumps/{id_.rpartition('.')[2]}")
    except (NotFound, Invalid):
        raise NotFound(
            f"there is no dump '{id_}'",
            hint="the repository must be made over the same store, and what was deleted not be collected since",
        ) from None


def _pieces(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start in range(0, len(rows), _AT_ONCE):
        yield rows[start : start + _AT_ONCE]
