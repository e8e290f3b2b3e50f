"""Multipart uploads: parts lie in the store, with a row each, until the upload is completed or given up.

A part's bytes come first, then its row; an upload's rows go first, then the bytes. A crash in between leaves
bytes nobody names, which a collector removes; `stale` tells it which uploads were left behind. An upload ends in the
transaction that stages its object, so it becomes one object, once. Knows nothing of protocols.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, Integer, Row, and_, bindparam, delete, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from tulle.errors import Conflict, Invalid, LimitExceeded, NotFound
from tulle.lake import refs
from tulle.lake.blobs import read_chunks
from tulle.lake.entry import Entry, checked_path, encode_metadata, successor
from tulle.lake.repository import Repository
from tulle.state.db import now
from tulle.state.tables import lake_parts, lake_uploads

MAX_PARTS = 10_000
LEAST_PART_BYTES = 5 * 1024 * 1024  # of every part but the last
PAGE = 1000  # uploads that are listed at a time
FOLDER = "uploads"  # below a repository's storage

_UPLOAD = select(lake_uploads).where(
    lake_uploads.c.id == bindparam("of_id"), lake_uploads.c.repository_id == bindparam("in_repository")
)
_PART = select(lake_parts).where(
    lake_parts.c.upload_id == bindparam("of_upload"), lake_parts.c.number == bindparam("of_number")
)
_DROP_PART = delete(lake_parts).where(
    lake_parts.c.upload_id == bindparam("of_upload"), lake_parts.c.number == bindparam("of_number")
)
_ADD_PART = insert(lake_parts)
_PARTS = (
    select(lake_parts)
    .where(lake_parts.c.upload_id == bindparam("of_upload"), lake_parts.c.number > bindparam("after"))
    .order_by(lake_parts.c.number)
    .limit(bindparam("most", type_=Integer))
)


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload under way; `created_at` is in seconds since the epoch."""

    id: str
    branch: str
    path: str
    content_type: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    created_at: float = 0.0
    actor: str = ""

    @property
    def key(self) -> str:
        """Branch and path, joined by a slash: uploads are listed by it."""
        return f"{self.branch}/{self.path}"


@dataclass(frozen=True, slots=True)
class Part:
    """A part that was uploaded: its size in bytes, MD5 in hex, time in seconds since the epoch, blob's name."""

    number: int
    size: int
    etag: str
    created_at: float
    blob: str


def start(
    repository: Repository,
    branch: str,
    path: str,
    *,
    content_type: str = "",
    metadata: Mapping[str, str] | None = None,
) -> Upload:
    """Begin an upload to a path of a branch. NotFound, Denied when the branch may not be written to."""
    encoded = checked_path(path)
    encode_metadata(metadata)
    repository._guard(branch, protected=True)  # noqa: SLF001  as before every write of the lake
    began = now()
    # Ids grow with time, so that uploads to one path are listed in the order they were begun.
    id_ = f"{int(began * 1_000_000):016x}{secrets.token_hex(16)}"
    upload = Upload(id_, branch, path, content_type, dict(metadata or {}), began, repository.actor)
    with repository.reader.database.write() as cx:
        cx.execute(
            insert(lake_uploads).values(
                id=upload.id,
                repository_id=repository.record.id,
                branch=branch,
                path=encoded,
                content_type=content_type,
                metadata=dict(upload.metadata),
                created_at=upload.created_at,
                actor=upload.actor,
            )
        )
    return upload


def find(
    repository: Repository, upload_id: str, branch: str | None = None, path: str | None = None
) -> Upload:
    """An upload under way, to that branch and path if they are given. NotFound."""
    with repository.reader.database.read() as cx:
        row = cx.execute(_UPLOAD, {"of_id": upload_id, "in_repository": repository.record.id}).first()
    found = None if row is None else _upload(row)
    if found is None or branch not in {None, found.branch} or path not in {None, found.path}:
        raise NotFound(
            f"there is no upload '{upload_id[:64]}' under way", hint="it may have been completed or aborted"
        )
    return found


def uploads(
    repository: Repository, prefix: bytes = b"", after: tuple[bytes, str] = (b"", ""), limit: int = PAGE
) -> list[Upload]:
    """At most `limit` uploads under way whose key begins with `prefix`, in the order of (key, id) as bytes.

    Only those behind `after`, a key and an id, which need not be there.
    """
    found: list[Upload] = []
    with repository.reader.database.read() as cx:
        for branch in _branches(cx, repository, prefix):
            if len(found) < limit:
                found += _of_branch(cx, repository, branch, prefix, after, limit - len(found))
    return found


def parts(repository: Repository, upload: Upload, after: int = 0, limit: int = MAX_PARTS) -> list[Part]:
    """The parts of an upload whose number is above `after`, in order, at most `limit`."""
    with repository.reader.database.read() as cx:
        return _parts(cx, upload.id, after, limit)


def put_part(repository: Repository, upload: Upload, number: int, data: bytes | Iterable[bytes]) -> Part:
    """Keep a part durably, in place of the one of that number if there is one. Invalid, NotFound.

    What the data's iterator raises is raised here, and nothing is kept.
    """
    if not 1 <= number <= MAX_PARTS:
        raise Invalid(f"part number {number} is not from 1 to {MAX_PARTS}")
    blobs = repository.reader.blobs
    name = f"{repository.record.storage}/{FOLDER}/{upload.id}/{number:05d}-{secrets.token_hex(6)}"
    md5 = hashlib.md5(usedforsecurity=False)  # what S3 clients expect
    if isinstance(data, bytes):
        md5.update(data)
        size = blobs.put(name, data)
    else:
        size = blobs.put(name, _fed(data, md5.update))
    part = Part(number, size, md5.hexdigest(), now(), name)
    place = {"of_upload": upload.id, "of_number": number}
    try:
        with repository.reader.database.write() as cx:
            _locked(cx, repository, upload)
            before = cx.execute(_PART, place).first()
            _demand_room(cx, repository, size - (before.size if before is not None else 0))
            cx.execute(_DROP_PART, place)
            cx.execute(
                _ADD_PART,
                {
                    "upload_id": upload.id,
                    "number": number,
                    "blob": name,
                    "size": size,
                    "etag": part.etag,
                    "created_at": part.created_at,
                },
            )
    except LimitExceeded:
        blobs.delete(name)
        raise
    except (IntegrityError, NotFound):
        blobs.delete(name)
        raise NotFound(f"upload '{upload.id}' was completed or aborted meanwhile") from None
    if before is not None:
        blobs.delete(before.blob)
    return part


def etag_of(etags: Sequence[str]) -> str:
    """The ETag of the object made of parts with these MD5s (hex): the MD5 of the MD5s, then how many."""
    digest = hashlib.md5(b"".join(map(bytes.fromhex, etags)), usedforsecurity=False)
    return f"{digest.hexdigest()}-{len(etags)}"


def complete(
    repository: Repository,
    upload: Upload,
    chosen: Sequence[Part],
    *,
    watch: Callable[[bytes], object] | None = None,
    check: Callable[[], None] | None = None,
    if_absent: bool = False,
    if_match: str | None = None,
) -> Entry:
    """Make one object of some parts of an upload, stage it and forget the upload, in one transaction.

    `watch` sees every piece of the object, `check` is called after the last one and refuses by raising. Of two who
    complete an upload at the same time one does, the other is told that it ended: NotFound. Conflict when a part
    was replaced meanwhile. What is raised, and a crash, leave the upload as it was.
    """
    if not chosen:
        raise Invalid("an upload is completed with at least one part")
    blobs = repository.reader.blobs
    left: list[Part] = []

    def content() -> Iterator[bytes]:
        for part in chosen:
            try:
                for chunk in read_chunks(blobs, part.blob, part.size):
                    if watch is not None:
                        watch(chunk)
                    yield chunk
            except NotFound:
                raise _replaced(upload, part) from None
        if check is not None:
            check()

    def end(cx: Connection) -> None:
        left[:] = _ended(cx, repository, upload)
        there = {part.blob for part in left}
        for part in chosen:
            if part.blob not in there:
                raise _replaced(upload, part)

    entry = repository.put(
        upload.branch,
        upload.path,
        content(),
        content_type=upload.content_type,
        metadata=upload.metadata,
        etag=etag_of([part.etag for part in chosen]),
        if_absent=if_absent,
        if_match=if_match,
        also=end,
    )
    for part in left:
        blobs.delete(part.blob)
    return entry


def drop(repository: Repository, upload: Upload, *, unless_since: float | None = None) -> None:
    """Forget an upload with its parts; no error when it is gone already.

    Not if a part came since a time (seconds since the epoch), also while this is asked.
    """
    try:
        with repository.reader.database.write() as cx:
            _locked(cx, repository, upload)
            newest = select(func.max(lake_parts.c.created_at)).where(lake_parts.c.upload_id == upload.id)
            if unless_since is not None and (cx.execute(newest).scalar() or 0) >= unless_since:
                return
            left = _ended(cx, repository, upload)
    except NotFound:
        return
    for part in left:
        repository.reader.blobs.delete(part.blob)


def stale(repository: Repository, before: float) -> list[Upload]:
    """Uploads begun before a time (seconds since the epoch) to which no part was added since then either."""
    fresh = select(lake_parts.c.upload_id).where(lake_parts.c.created_at >= before)
    query = select(lake_uploads).where(
        lake_uploads.c.repository_id == repository.record.id,
        lake_uploads.c.created_at < before,
        lake_uploads.c.id.not_in(fresh),
    )
    with repository.reader.database.read() as cx:
        return [_upload(row) for row in cx.execute(query)]


def _branches(cx: Connection, repository: Repository, prefix: bytes) -> list[str]:
    """The branches with uploads whose keys may begin with the prefix, in the order of keys: main-2/ before main/."""
    branch, slash, _ = prefix.partition(b"/")
    if slash:
        return [branch.decode()]
    query = select(lake_uploads.c.branch).where(lake_uploads.c.repository_id == repository.record.id)
    found = (f"{name}/" for name in cx.execute(query.distinct()).scalars())
    return sorted((head[:-1] for head in found if head.encode().startswith(prefix)), key=_head)


def _of_branch(
    cx: Connection,
    repository: Repository,
    branch: str,
    prefix: bytes,
    after: tuple[bytes, str],
    limit: int,
) -> list[Upload]:
    head = _head(branch)
    key, id_ = after
    if key > head and not key.startswith(head):
        return []  # all of the branch comes before it
    columns = lake_uploads.c
    query = select(lake_uploads).where(
        columns.repository_id == repository.record.id, columns.branch == branch
    )
    start = prefix[len(head) :]  # of a prefix that ends in the branch's name, nothing
    query = query.where(columns.path >= start)
    if (end := successor(start)) is not None:
        query = query.where(columns.path < end)
    if key.startswith(head):
        path = key[len(head) :]
        query = query.where(columns.path >= path)
        query = query.where(or_(columns.path > path, and_(columns.path == path, columns.id > id_)))
    rows = cx.execute(query.order_by(columns.path, columns.id).limit(limit))
    return [_upload(row) for row in rows]


def _head(branch: str) -> bytes:
    return f"{branch}/".encode()


def _ended(cx: Connection, repository: Repository, upload: Upload) -> list[Part]:
    """Remove the rows of an upload and return its parts, whose bytes may go after that. NotFound."""
    # First the upload, as whoever adds a part does: two orders would lock each other out.
    _locked(cx, repository, upload)
    left = _parts(cx, upload.id, 0, MAX_PARTS)
    cx.execute(delete(lake_parts).where(lake_parts.c.upload_id == upload.id))
    cx.execute(delete(lake_uploads).where(lake_uploads.c.id == upload.id))
    return left


def _replaced(upload: Upload, part: Part) -> Conflict:
    return Conflict(
        f"part {part.number} of upload '{upload.id}' was replaced, or the upload ended meanwhile",
        hint="try again",
    )


def _demand_room(cx: Connection, repository: Repository, size: int) -> None:
    """LimitExceeded when the parts that lie there and so much more are more than a quota leaves."""
    record = refs.read_repository(cx, repository.record.id, lock=False)
    if record.settings.get("quota"):
        lying = select(func.sum(lake_parts.c.size)).where(
            lake_parts.c.upload_id == lake_uploads.c.id, lake_uploads.c.repository_id == record.id
        )
        refs.demand_room(record, record.used_bytes + int(cx.execute(lying).scalar() or 0) + size, 0)


def _locked(cx: Connection, repository: Repository, upload: Upload) -> None:
    place = {"of_id": upload.id, "in_repository": repository.record.id}
    if cx.execute(_UPLOAD.with_for_update(), place).first() is None:
        raise NotFound(f"there is no upload '{upload.id}'")


def _parts(cx: Connection, upload_id: str, after: int, limit: int) -> list[Part]:
    rows = cx.execute(_PARTS, {"of_upload": upload_id, "after": after, "most": limit})
    return [Part(row.number, row.size, row.etag, row.created_at, row.blob) for row in rows]


def _upload(row: Row[tuple[object, ...]]) -> Upload:
    return Upload(
        row.id,
        row.branch,
        bytes(row.path).decode(),
        row.content_type,
        dict(row.metadata),
        row.created_at,
        row.actor,
    )


def _fed(data: Iterable[bytes], update: Callable[[bytes], object]) -> Iterator[bytes]:
    for chunk in data:
        update(chunk)
        yield chunk
