"""Multipart uploads: created, filled, completed, aborted."""

from __future__ import annotations

import hmac
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tulle.errors import AlreadyExists, Conflict, Invalid, NotFound
from tulle.lake import uploads
from tulle.lake.door import Outgoing
from tulle.lake.entry import Entry
from tulle.lake.repository import Repository
from tulle.lake.s3 import attributes, checksums, conditions, xml
from tulle.lake.s3.call import Call, answer, etag_of, no_content, url_encoded
from tulle.lake.s3.copying import find_upload, part_number
from tulle.lake.s3.failure import S3Error
from tulle.lake.s3.objects import MAX_PUT, digest_headers, names_no_object, not_written
from tulle.lake.s3.xml import Node, element, escaped

MOST = 1000


def create(call: Call) -> Outgoing:
    """POST /bucket/key?uploads."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    call.refuse_unsupported()
    content_type, metadata = attributes.from_headers(call.request.headers)
    algorithm = call.header("x-amz-checksum-algorithm").lower()
    if algorithm and algorithm not in checksums.SIZES:
        raise S3Error("InvalidRequest", f"checksum algorithm '{algorithm[:20]}' is not known")
    call.body().whole(0)
    repository = call.repository()
    if not path:
        raise names_no_object(call.key)
    try:
        upload = uploads.start(repository, ref, path, content_type=content_type, metadata=metadata)
    except NotFound as exc:
        raise not_written(call, repository, ref, exc) from None
    headers = [("x-amz-checksum-algorithm", algorithm.upper())] if algorithm else []
    parts = [element("Bucket", call.bucket), element("Key", call.key), element("UploadId", upload.id)]
    return answer("InitiateMultipartUploadResult", parts, headers=headers)


def upload_part(call: Call) -> Outgoing:
    """PUT /bucket/key?partNumber=n&uploadId=id."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    number = part_number(call)
    body = call.body(needed=True)
    if body.length is not None and body.length > MAX_PUT:
        raise S3Error("EntityTooLarge", f"a part has at most {MAX_PUT} bytes")
    repository = call.repository()
    upload = find_upload(call, repository)
    try:
        part = uploads.put_part(repository, upload, number, body.data())
    except NotFound as exc:
        raise S3Error("NoSuchUpload", exc.message) from None
    told = [header for header in digest_headers(body) if header[0] != "x-amz-checksum-type"]
    return Outgoing(200, b"", [("etag", f'"{part.etag}"'), *told])


def abort(call: Call) -> Outgoing:
    """DELETE /bucket/key?uploadId=id."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    repository = call.repository()
    uploads.drop(repository, find_upload(call, repository))
    return no_content()


def complete(call: Call) -> Outgoing:
    """POST /bucket/key?uploadId=id. Asked again with the same list it gives the same answer, also meanwhile."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    conditions.of_write(call.request.headers)
    # A checksum in the headers is that of the whole object, not that of this body.
    stated = _stated_whole(call)
    listed = _listed(call)
    repository = call.repository()
    try:
        entry = _joined(call, repository, listed, stated)
    except (S3Error, NotFound, Conflict, AlreadyExists) as exc:
        if isinstance(exc, S3Error) and exc.code not in {"NoSuchUpload", "InvalidPart"}:
            raise
        try:
            find_upload(call, repository)
        except S3Error as gone:  # completed or aborted, before this or meanwhile
            return _answered_before(call, repository, listed, gone)
        if isinstance(exc, NotFound):
            raise not_written(call, repository, ref, exc) from None
        raise
    return _completed(call, entry, stated)


def _joined(call: Call, repository: Repository, listed: list[_Listed], stated: Mapping[str, bytes]) -> Entry:
    upload = find_upload(call, repository)
    chosen = _chosen(call, uploads.parts(repository, upload), listed)
    if_absent, if_match = conditions.of_write(call.request.headers)
    sums = {name: checksums.new(name) for name in stated}

    def watch(chunk: bytes) -> None:
        for digest in sums.values():
            digest.update(chunk)

    def check() -> None:
        for name, expected in stated.items():
            if not hmac.compare_digest(sums[name].digest(), expected):
                raise S3Error(
                    "BadDigest", f"the {name.upper()} you specified is not that of the whole object"
                )

    return uploads.complete(
        repository,
        upload,
        chosen,
        watch=watch if sums else None,
        check=check if sums else None,
        if_absent=if_absent,
        if_match=if_match,
    )


def list_parts(call: Call) -> Outgoing:
    """GET /bucket/key?uploadId=id."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    limit = call.number("max-parts", MOST, 0, MOST)
    marker = call.number("part-number-marker", 0, 0, uploads.MAX_PARTS)
    repository = call.repository()
    upload = find_upload(call, repository)
    found = uploads.parts(repository, upload, marker, limit + 1) if limit else []
    more = len(found) > limit
    found = found[:limit]
    encode = encoding_of(call)
    whose = [element("ID", upload.actor), element("DisplayName", upload.actor)]
    parts = [
        element("Bucket", call.bucket),
        f"<Key>{encode(call.key)}</Key>",
        element("UploadId", upload.id),
        *(f"<{name}>{''.join(whose)}</{name}>" for name in ("Initiator", "Owner")),
        element("StorageClass", upload.metadata.get(attributes.STORAGE_CLASS, "STANDARD")),
        element("PartNumberMarker", marker),
        element("NextPartNumberMarker", found[-1].number if found else marker),
        element("MaxParts", limit),
        element("IsTruncated", more),
    ]
    parts.extend(
        f"<Part><PartNumber>{part.number}</PartNumber><LastModified>{date_text(part.created_at)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag><Size>{part.size}</Size></Part>"
        for part in found
    )
    return answer("ListPartsResult", parts)


def encoding_of(call: Call) -> Callable[[str], str]:
    """How keys are written in an answer: as they are, or as `encoding-type=url` has them. InvalidArgument."""
    encoding = call.value("encoding-type")
    if encoding not in {"", "url"}:
        raise S3Error("InvalidArgument", "invalid encoding method specified in request; known: url")
    return url_encoded if encoding else escaped


def date_text(moment: float) -> str:
    """A time in seconds since the epoch as documents have it."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"


@dataclass(frozen=True, slots=True)
class _Listed:
    number: int
    etag: str


def _listed(call: Call) -> list[_Listed]:
    root = _document(call)
    found = [
        _Listed(_whole_number(node), node.get("ETag").strip().strip('"').lower()) for node in root.all("Part")
    ]
    if not found:
        raise S3Error("MalformedXML", "the list of parts is empty")
    if len(found) > uploads.MAX_PARTS:
        raise S3Error("InvalidRequest", f"an upload has at most {uploads.MAX_PARTS} parts")
    numbers = [part.number for part in found]
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        raise S3Error("InvalidPartOrder", "the list of parts was not in ascending order")
    return found


def _document(call: Call) -> Node:
    return xml.read(call.body(checksummed=False).whole(xml.MAX_BYTES), "CompleteMultipartUpload")


def _whole_number(node: Node) -> int:
    text = node.get("PartNumber").strip()
    if not text.isascii() or not text.isdigit() or len(text) > 5:
        raise S3Error("MalformedXML", f"'{text[:40]}' is no part number")
    return int(text)


def _chosen(call: Call, there: list[uploads.Part], listed: list[_Listed]) -> list[uploads.Part]:
    by_number = {part.number: part for part in there}
    chosen: list[uploads.Part] = []
    for part in listed:
        known = by_number.get(part.number)
        if known is None or known.etag != part.etag:
            raise S3Error(
                "InvalidPart",
                "one or more of the specified parts could not be found: the part may not have been uploaded, or "
                "its entity tag may not have matched",
                {"PartNumber": str(part.number), "ETag": part.etag[:64]},
            )
        chosen.append(known)
    for early in chosen[:-1]:
        if early.size < uploads.LEAST_PART_BYTES:
            raise S3Error(
                "EntityTooSmall",
                "your proposed upload is smaller than the minimum allowed size",
                {
                    "ProposedSize": str(early.size),
                    "MinSizeAllowed": str(uploads.LEAST_PART_BYTES),
                    "PartNumber": str(early.number),
                    "ETag": early.etag,
                },
            )
    size = call.header("x-amz-mp-object-size")
    if size and size != str(sum(part.size for part in chosen)):
        raise S3Error(
            "InvalidRequest", f"x-amz-mp-object-size is {size[:20]}, the parts have another size together"
        )
    return chosen


def _stated_whole(call: Call) -> dict[str, bytes]:
    if call.header("x-amz-checksum-type").upper() == "COMPOSITE":
        return {}  # of the parts' checksums, each of which was verified when it came
    plain = {name: value for name, value in call.request.headers.items() if "-" not in value[-7:]}
    return checksums.declared(plain)


def _answered_before(call: Call, repository: Repository, listed: list[_Listed], gone: S3Error) -> Outgoing:
    """The answer to who asks again: what an upload of that list made, if it is still what is at the key."""
    ref, path = call.place()
    try:
        expected = uploads.etag_of([part.etag for part in listed])
        found = repository.stat(ref, path)
    except (NotFound, Invalid, ValueError):
        raise gone from None
    if found.etag != expected:
        raise gone
    return _completed(call, found, {})


def _completed(call: Call, entry: Entry, stated: dict[str, bytes]) -> Outgoing:
    parts = [
        element(
            "Location", f"{call.request.scheme}://{call.header('host')}/{call.bucket}/{url_encoded(call.key)}"
        ),
        element("Bucket", call.bucket),
        element("Key", call.key),
        element("ETag", etag_of(entry)),
    ]
    names = {
        "crc32": "CRC32",
        "crc32c": "CRC32C",
        "crc64nvme": "CRC64NVME",
        "sha1": "SHA1",
        "sha256": "SHA256",
    }
    parts.extend(element(f"Checksum{names[name]}", checksums.text(digest)) for name, digest in stated.items())
    if stated:
        parts.append(element("ChecksumType", "FULL_OBJECT"))
    return answer("CompleteMultipartUploadResult", parts)
