"""Objects: read, written, described. What S3 calls a folder marker is an entry like any other.

The key `ref/` stands for the ref itself, as a folder: it can be looked at, and clients that make every folder
above what they write may put it and delete it, which does nothing.
"""

from __future__ import annotations

import hashlib
from itertools import chain

from tulle.errors import Invalid, NotFound
from tulle.lake.door import Outgoing
from tulle.lake.entry import Entry
from tulle.lake.repository import Repository
from tulle.lake.s3 import attributes, checksums, conditions
from tulle.lake.s3.address import checked_version
from tulle.lake.s3.call import Call, answer, etag_of, is_branch_name
from tulle.lake.s3.failure import S3Error, refusal_of
from tulle.lake.s3.stream import Body
from tulle.lake.s3.xml import element
from tulle.lake.writing import Condition, Mismatch

SMALL = 1024 * 1024  # read at once
MAX_PUT = 5 * 1024**3
EMPTY_MD5 = hashlib.md5(b"", usedforsecurity=False).hexdigest()
FOLDER_TYPE = "application/x-directory"


def get_object(call: Call) -> Outgoing:
    """GET /bucket/key."""
    return _read(call, with_body=True)


def head_object(call: Call) -> Outgoing:
    """HEAD /bucket/key."""
    return _read(call, with_body=False)


def put_object(call: Call) -> Outgoing:
    """PUT /bucket/key: durable when it is answered."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    call.refuse_unsupported()
    if_absent, if_match = conditions.of_write(call.request.headers)
    content_type, metadata = attributes.from_headers(call.request.headers)
    body = call.body(needed=True)
    if body.length is not None and body.length > MAX_PUT:
        raise S3Error("EntityTooLarge", f"one PUT has at most {MAX_PUT} bytes; use a multipart upload")
    repository = call.repository()
    if not path:
        return _put_folder(call, repository, ref, body, if_absent=if_absent, if_match=if_match)
    stated = body.left_to_the_store()
    try:
        entry = repository.put(
            ref,
            path,
            body.data(),
            content_type=content_type,
            metadata=metadata,
            if_absent=if_absent,
            if_match=if_match,
            sha256=stated.sha256,
            md5=stated.md5,
        )
    except Mismatch as exc:
        raise body.mismatch(exc) from None
    except NotFound as exc:
        raise not_written(call, repository, ref, exc) from None
    return Outgoing(200, b"", [("etag", etag_of(entry)), *digest_headers(body)])


def get_attributes(call: Call) -> Outgoing:
    """GET /bucket/key?attributes."""
    wanted = {name.strip() for name in call.header("x-amz-object-attributes").split(",")}
    if not wanted - {""}:
        raise S3Error("InvalidArgument", "x-amz-object-attributes names none of the attributes of an object")
    entry, _ = _entry(call)
    parts: list[str] = []
    if "ETag" in wanted:
        parts.append(element("ETag", etag_of(entry).strip('"')))
    if "Checksum" in wanted and entry.checksum:
        digest = element("ChecksumSHA256", checksums.text(bytes.fromhex(entry.checksum)))
        parts.append(f"<Checksum>{digest}<ChecksumType>FULL_OBJECT</ChecksumType></Checksum>")
    if "ObjectSize" in wanted:
        parts.append(element("ObjectSize", entry.size))
    if "StorageClass" in wanted:
        parts.append(element("StorageClass", attributes.storage_class(entry)))
    headers = [("last-modified", conditions.http_date(entry.modified))]
    return answer("GetObjectAttributesResponse", parts, headers=headers)


def digest_headers(body: Body) -> list[tuple[str, str]]:
    """The checksums that were verified, told back."""
    found = [(checksums.PREFIX + name, checksums.text(digest)) for name, digest in body.digests.items()]
    return [*found, ("x-amz-checksum-type", "FULL_OBJECT")] if found else []


def names_no_object(key: str, code: str = "InvalidArgument") -> S3Error:
    """The refusal of a key with a branch and no path."""
    return S3Error(code, f"'{key}' names no object: a key is <branch>/<path>", {"Key": key})


def folder(repository: Repository, ref: str) -> Entry:
    """What a ref is when it is looked at as a folder. NotFound, Invalid."""
    made = repository.commit_info(ref).date
    return Entry("", "", 0, etag=EMPTY_MD5, modified=made, content_type=FOLDER_TYPE)


def no_such_key(call: Call) -> S3Error:
    """There is nothing at the key."""
    return S3Error("NoSuchKey", "the specified key does not exist", {"Key": call.key})


def _entry(call: Call) -> tuple[Entry, Repository]:
    ref, path = call.place()
    call.demand_object("fs:ReadObject", ref, path)
    repository = call.repository()
    checked_version(call.value("versionId", "null"))
    if not path and not call.key.endswith("/"):
        raise names_no_object(call.key, "NoSuchKey")
    try:
        return repository.stat(ref, path) if path else folder(repository, ref), repository
    except (NotFound, Invalid):
        raise no_such_key(call) from None


def _read(call: Call, *, with_body: bool) -> Outgoing:
    entry, repository = _entry(call)
    request = call.request
    conditions.check_read(entry, request.headers)
    headers = attributes.to_headers(entry, call.values)
    wanted = _wanted(call, entry)
    if wanted is None:
        start, end, status = 0, entry.size, 200
        if entry.checksum and call.header("x-amz-checksum-mode").upper() == "ENABLED":
            headers.append(("x-amz-checksum-sha256", checksums.text(bytes.fromhex(entry.checksum))))
            headers.append(("x-amz-checksum-type", "FULL_OBJECT"))
    else:
        start, end = wanted
        status = 206
        headers.append(("content-range", f"bytes {start}-{end - 1}/{entry.size}"))
    length = end - start
    if not with_body or not length or not entry.address:
        return Outgoing(status, b"", headers, length)
    request.take_time(length)
    pieces = repository.read(entry, start, end)
    try:
        # The first piece before the answer begins: what cannot be read is told as a failure, not as a torn body.
        first = next(pieces)
    except (NotFound, StopIteration) as exc:
        reason = exc.message if isinstance(exc, NotFound) else "it is empty"
        raise S3Error("InternalError", f"the data of '{call.key}' is not in its store: {reason}") from None
    if len(first) == length:
        return Outgoing(status, first, headers)
    return Outgoing(status, chain([first], pieces), headers, length)


def _wanted(call: Call, entry: Entry) -> tuple[int, int] | None:
    header = call.header("range")
    number = call.value("partNumber")
    if number:
        if header:
            raise S3Error("InvalidRequest", "cannot specify both Range header and partNumber query parameter")
        # An object lies in one piece, however it was uploaded.
        if call.number("partNumber", 1, 1, 10_000) != 1:
            raise S3Error("InvalidPartNumber", "the requested partnumber is not satisfiable")
        return (0, entry.size) if entry.size else None
    if not header:
        return None
    validator = call.header("if-range")
    if validator and validator.strip() not in {etag_of(entry), conditions.http_date(entry.modified)}:
        return None
    return conditions.bytes_asked_for(header, entry.size)


def _put_folder(
    call: Call, repository: Repository, ref: str, body: Body, *, if_absent: bool, if_match: str | None
) -> Outgoing:
    if body.length or not call.key.endswith("/") or body.whole(SMALL):
        raise names_no_object(call.key)
    if not is_branch_name(ref):
        raise call.refuse_no_branch(repository, ref)
    try:
        found = folder(repository, repository.branch(ref).commit_id)
        # It is there, as whoever reads it is told.
        if (condition := Condition.of(if_absent, if_match)) is not None:
            condition.check(found, call.key, ref)
    except NotFound as exc:
        raise not_written(call, repository, ref, exc) from None
    return Outgoing(200, b"", [("etag", etag_of(found))])


def not_written(call: Call, repository: Repository, ref: str, exc: NotFound) -> S3Error:
    """What to answer when a write to a ref found something missing: the branch, or else what `exc` says."""
    if is_branch_name(ref):
        try:
            repository.branch(ref)
        except NotFound:
            return call.refuse_no_branch(repository, ref)
        return refusal_of(exc)
    return call.refuse_no_branch(repository, ref)
