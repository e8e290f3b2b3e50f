"""Queries that workers left in segments are collected into the lake, exactly once, and forgotten when they are old.

Before a commit a note says which files will be in it and which segments they are of. After a crash the note tells
whether the commit was made: then the segments go, else they are collected again. One collects a service at a time,
whichever process that is.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import fcntl
import io
import logging
import os
import shutil
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from tulle.catalog.query_log import OWNER, day_of, find_repository, logs, repository_name
from tulle.control import grants
from tulle.control.query_log_rows import SCHEMAS, Made, understood
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, NotFound
from tulle.lake.draft import Draft
from tulle.lake.repository import Entry, Repository
from tulle.serving import package
from tulle.serving.log_declared import ServiceLog
from tulle.serving.log_segment import complete
from tulle.state import products

LOG = logging.getLogger("tulle")
BY = "query log"
AT_ONCE_BYTES = 16 << 20  # of segments in one commit
SMALL_FILES = 16  # of one size, in a day's folder, become one of the next
MERGED_BYTES, MERGED_ROWS = 32 << 20, 1_000_000  # at most: they are in memory meanwhile
FORM, FORM_NOW = "tulle-queries-form", "2"  # which columns all files have; 2: the way beside the caller
_JOURNAL = "collecting.json"
_DAY = 86_400.0


class _Note(msgspec.Struct):
    """What is about to be committed."""

    paths: list[str]
    segments: list[str]


def places(workspace: Workspace) -> list[str]:
    """Where workers left something: `service`, or `service@environment`."""
    folder = workspace.settings.queries_folder
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def collect(workspace: Workspace, place: str) -> int:
    """Commit what is complete, a bounded part at a time; how many segments that were, 0 when nothing is left.

    Conflict when a repository of another origin has the log's name.
    """
    service, _, environment = place.partition("@")
    folder = workspace.settings.queries_folder / place
    if not folder.is_dir():
        return 0
    with _only_one(workspace, service):
        for other in _places_of(workspace, service):  # what is merged hides what their notes look for
            _finish(workspace, service, other)
        chosen: list[Path] = []
        size = 0
        for path in complete(folder):
            size += path.stat().st_size
            if chosen and size > AT_ONCE_BYTES:
                break
            chosen.append(path)
        if not chosen:
            return 0
        taken, made, dropped = understood(workspace, chosen, environment)
        if made and _is_ended(workspace, service):
            LOG.warning("the last queries of '%s' are not kept: its product is destroyed", service)
            made = []
        folders = _commit(workspace, service, folder, made, taken) if made else set()
        if dropped:
            LOG.warning("%d queries of '%s' could not be logged", dropped, service)
        for path in taken:
            path.unlink(missing_ok=True)
        (folder / _JOURNAL).unlink(missing_ok=True)
        if folders:  # not before: the note looks for the files as they were committed
            merge_small(_repository(workspace, service), folders)
        return len(chosen)


def waiting_bytes(workspace: Workspace, place: str) -> int:
    """How much is complete there, and not collected."""
    size = 0
    for path in complete(workspace.settings.queries_folder / place):
        with contextlib.suppress(FileNotFoundError):  # somebody else collected it just now
            size += path.stat().st_size
    return size


def collect_all(workspace: Workspace, service: str) -> None:
    """Commit all that is complete now, of all environments."""
    for place in places(workspace):
        while place.partition("@")[0] == service and collect(workspace, place):
            pass


def tidy(workspace: Workspace) -> int:
    """Forget what is older or more than the services keep; how many days' folders."""
    forgotten = 0
    for service in logged_services(workspace):
        try:
            if (repository := find_repository(workspace.lake, service)) is not None:
                forgotten += forget(workspace, service, repository)
                renew(workspace, service, repository)
        except Exception:  # those of others are forgotten all the same
            LOG.exception("old queries of '%s' are forgotten later", service)
    return forgotten


def logged_services(workspace: Workspace, product: str = "") -> list[str]:
    """The services that have a log; those of a product, also of one that is destroyed."""
    found = list(logs(workspace.lake))
    if not product:
        return found
    made = {name: package.packages(workspace.database, name) for name in found}
    return [name for name in found if made[name] and made[name][-1].product == product]


def delete(workspace: Workspace, service: str) -> None:
    """Forget all that was kept of a service, and what its workers left."""
    with _only_one(workspace, service):
        for folder in _places_of(workspace, service):
            shutil.rmtree(folder)
        if (repository := find_repository(workspace.lake, service)) is not None:
            workspace.lake.delete_repository(repository.name)
    grants.follow_logs(workspace)  # whoever makes a repository of that name makes one of their own


def forget(workspace: Workspace, service: str, repository: Repository) -> int:
    """Remove the days that are past what the service keeps, oldest first; how many folders."""
    with _only_one(workspace, service):
        return _forget(kept_of(workspace, service), repository)


def _forget(log: ServiceLog, repository: Repository) -> int:
    draft = repository.draft(repository.default_branch)
    days: dict[str, list[Entry]] = {}
    for entry in draft.entries():
        if day := day_of(entry.path):
            days.setdefault(day, []).append(entry)
    oldest = dt.datetime.fromtimestamp(time.time() - log.keep_days * _DAY, dt.UTC).date().isoformat()
    total, gone = sum(entry.size for entries in days.values() for entry in entries), []
    for day in sorted(days):
        is_past = day < oldest
        if not is_past and total <= log.most_bytes:
            break
        gone.append(day)
        for entry in sorted(days[day], key=lambda one: one.modified):
            # Of the last day only what is too much: else a day that is too large would be gone every hour.
            if not is_past and day == max(days) and total <= log.most_bytes:
                break
            draft.delete(entry.path)
            total -= entry.size
    if gone:
        repository.commit_draft(repository.default_branch, draft, f"Forget {gone[0]} to {gone[-1]}")
    return len(gone)


def renew(workspace: Workspace, service: str, repository: Repository) -> int:
    """Give files that were kept before columns were there these columns, without values; how many files.

    Once, a day's folder at a time: who reads the files as they are wants the same columns in all of one data set.
    """
    if repository.metadata.get(FORM) == FORM_NOW:
        return 0
    renewed = 0
    for name, schema in SCHEMAS.items():
        branch = repository.default_branch
        days = {day_of(entry.path) for entry in repository.entries(branch, f"{name}/")} - {""}
        for day in sorted(days):
            with _only_one(workspace, service):
                for other in _places_of(workspace, service):
                    _finish(workspace, service, other)
                renewed += _renew(repository, f"{name}/day={day}/", schema)
    repository.set_metadata({FORM: FORM_NOW})
    return renewed


def _renew(repository: Repository, folder: str, schema: pa.Schema) -> int:
    draft = repository.draft(repository.default_branch)
    renewed = 0
    for entry in list(draft.entries(folder)):
        if not entry.path.endswith(".parquet"):
            continue
        file = pq.ParquetFile(io.BytesIO(draft.get(entry.path)))
        if set(schema.names) <= set(file.schema_arrow.names):
            continue
        level = entry.path.rpartition("/")[2].partition("-")[0]
        whole = pa.unify_schemas([schema, file.schema_arrow])
        table = pa.concat_tables([whole.empty_table(), file.read()], promote_options="default")
        draft.put(f"{folder}{level}-{uuid.uuid4().hex[:16]}.parquet", _parquet(table))
        draft.delete_many([entry.path])
        renewed += 1
    if renewed:
        repository.commit_draft(repository.default_branch, draft, f"{renewed} files with all columns")
    return renewed


def kept_of(workspace: Workspace, service: str) -> ServiceLog:
    """What the newest version of a service says of its log."""
    versions = package.packages(workspace.database, service)
    return versions[-1].manifest.query_log() if versions else ServiceLog()


def _places_of(workspace: Workspace, service: str) -> list[Path]:
    folder = workspace.settings.queries_folder
    return [folder / place for place in places(workspace) if place.partition("@")[0] == service]


def _is_ended(workspace: Workspace, service: str) -> bool:
    """Whether its product is destroyed and its log deleted: what workers leave after that is not kept."""
    if find_repository(workspace.lake, service) is not None:
        return False
    versions = package.packages(workspace.database, service)
    applied = {item.product.name for item in products.applied(workspace.database)}
    return bool(versions) and versions[-1].product not in applied


# ── one commit ───────────────────────────────────────────────────────────────────────────────────────────


def _commit(
    workspace: Workspace,
    service: str,
    folder: Path,
    made: Sequence[Made],
    segments: Sequence[Path],
) -> set[str]:
    """Make the commit; the folders that have a new file."""
    repository = _repository(workspace, service)
    draft = repository.draft(repository.default_branch)
    unique = uuid.uuid4().hex[:16]
    paths = []
    for name, day, table in made:
        path = f"{name}/day={day}/0-{unique}.parquet"
        draft.put(path, _parquet(table))
        paths.append(path)
    note = msgspec.json.encode(_Note(paths, [path.name for path in segments]))
    _write_durably(folder / _JOURNAL, note)
    count = sum(table.num_rows for _, _, table in made)
    repository.commit_draft(repository.default_branch, draft, f"{count:,} rows of queries and feedback")
    return {path.rpartition("/")[0] for path in paths}


def _finish(workspace: Workspace, service: str, folder: Path) -> None:
    """After a crash: remove the segments whose rows are committed already."""
    try:
        note = msgspec.json.decode((folder / _JOURNAL).read_bytes(), type=_Note)
    except FileNotFoundError:
        return
    except msgspec.MsgspecError:  # it was not whole yet, so nothing was committed
        (folder / _JOURNAL).unlink(missing_ok=True)
        return
    repository = find_repository(workspace.lake, service)
    # All paths come with one commit, and files are merged only when it is through.
    if repository is not None and repository.exists(repository.default_branch, note.paths[0]):
        for name in note.segments:
            (folder / Path(name).name).unlink(missing_ok=True)
    (folder / _JOURNAL).unlink(missing_ok=True)


def merge_small(repository: Repository, folders: set[str]) -> int:
    """Make one file of many of the same size in a day's folder; how many files went."""
    draft = repository.draft(repository.default_branch)
    merged = 0
    for folder in sorted(folders):
        levels: dict[int, list[Entry]] = {}
        for entry in draft.entries(f"{folder}/"):
            size = entry.path.rpartition("/")[2].partition("-")[0]
            if size.isdigit() and entry.path.endswith(".parquet"):
                levels.setdefault(int(size), []).append(entry)
        for level, entries in sorted(levels.items()):
            if len(entries) < SMALL_FILES:
                continue
            chosen = _smallest(draft, entries)
            if len(chosen) < SMALL_FILES:
                continue
            table = pa.concat_tables([file.read() for _, file in chosen], promote_options="default")
            path = f"{folder}/{level + 1}-{uuid.uuid4().hex[:16]}.parquet"
            draft.put(path, _parquet(table))
            draft.delete_many([entry.path for entry, _ in chosen])
            merged += len(chosen)
    if merged:
        repository.commit_draft(repository.default_branch, draft, f"{merged} files made into fewer")
    return merged


def _smallest(draft: Draft, entries: Sequence[Entry]) -> list[tuple[Entry, pq.ParquetFile]]:
    """As many files as may be in memory together, the smallest first: a large one keeps no small ones apart."""
    chosen: list[tuple[Entry, pq.ParquetFile]] = []
    size = rows = 0
    for entry in sorted(entries, key=lambda one: one.size):
        size += entry.size
        if size > MERGED_BYTES:
            break
        file = pq.ParquetFile(io.BytesIO(draft.get(entry.path)))
        rows += file.metadata.num_rows
        if rows > MERGED_ROWS:
            break
        chosen.append((entry, file))
    return chosen


def _repository(workspace: Workspace, service: str) -> Repository:
    name = repository_name(service)
    try:
        found = workspace.lake.repository(name, actor=BY)
    except NotFound:
        made = workspace.lake.create_repository(name, metadata={OWNER: service, FORM: FORM_NOW}, actor=BY)
        # What is forgotten is removed from the store too, a week after.
        made.set_retention({"default_retention_days": 7, "branches": []})
        grants.follow_logs(workspace)
        return made
    if found.record.metadata.get(OWNER) != service:
        raise Conflict(
            f"the queries of service '{service}' cannot be kept: repository '{name}' is somebody else's",
            hint="rename one of the two",
        )
    return found


def _parquet(table: pa.Table) -> bytes:
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def _write_durably(path: Path, data: bytes) -> None:
    scratch = path.with_suffix(".new")
    with scratch.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)
    handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def _only_one(workspace: Workspace, service: str) -> Iterator[None]:
    """Nobody else collects, merges or forgets queries of this service meanwhile, of whatever environment."""
    folder = workspace.settings.queries_folder
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (folder / f"{service}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
