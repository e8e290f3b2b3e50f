"""CopyObject and UploadPartCopy. A copy within the lake copies no bytes; a part of an upload is bytes of its own."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl, unquote_to_bytes

from tulle.errors import Invalid, NotFound
from tulle.lake import uploads
from tulle.lake.door import Outgoing
from tulle.lake.entry import Entry
from tulle.lake.repository import Repository
from tulle.lake.s3 import attributes, conditions
from tulle.lake.s3.address import checked_bucket, checked_key, checked_version, ref_and_path
from tulle.lake.s3.call import Call, answer, etag_of
from tulle.lake.s3.failure import S3Error
from tulle.lake.s3.objects import names_no_object, not_written
from tulle.lake.s3.xml import element


def copy_object(call: Call) -> Outgoing:
    """PUT /bucket/key with x-amz-copy-source."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    call.refuse_unsupported()
    directive = call.header("x-amz-metadata-directive", "COPY")
    if directive not in {"COPY", "REPLACE"}:
        raise S3Error(
            "InvalidArgument", f"unknown metadata directive '{directive[:40]}'; known: COPY, REPLACE"
        )
    if call.header("x-amz-tagging-directive", "COPY") not in {"COPY", "REPLACE"}:
        raise S3Error("InvalidArgument", "unknown tagging directive; known: COPY, REPLACE")
    if_absent, if_match = conditions.of_write(call.request.headers)
    repository = call.repository()
    bucket, source_key, origin, found = _source(call, repository)
    if not path:
        raise names_no_object(call.key)
    content_type: str | None = None
    metadata: dict[str, str] | None = None
    if directive == "REPLACE":
        content_type, metadata = attributes.from_headers(call.request.headers)
    elif (
        bucket == call.bucket and source_key == call.key and "x-amz-storage-class" not in call.request.headers
    ):
        raise S3Error(
            "InvalidRequest",
            "this copy request is illegal because it is trying to copy an object to itself without changing "
            "the object's metadata or storage class",
        )
    elif (storage := call.header("x-amz-storage-class")) and storage != attributes.storage_class(found):
        _, own = attributes.from_headers({"x-amz-storage-class": storage})
        kept = {name: value for name, value in found.metadata.items() if name != attributes.STORAGE_CLASS}
        metadata = kept | own
    source_ref, source_path = ref_and_path(source_key)
    try:
        entry = repository.copy(
            ref,
            source_ref,
            source_path,
            path,
            source=origin,
            metadata=metadata,
            content_type=content_type,
            if_absent=if_absent,
            if_match=if_match,
        )
    except NotFound as exc:
        raise not_written(call, repository, ref, exc) from None
    return answer("CopyObjectResult", _result(etag_of(entry), entry.modified))


def upload_part_copy(call: Call) -> Outgoing:
    """PUT /bucket/key?partNumber=n&uploadId=id with x-amz-copy-source."""
    ref, path = call.place()
    call.demand_object("fs:WriteObject", ref, path)
    number = part_number(call)
    repository = call.repository()
    upload = find_upload(call, repository)
    _, _, origin, found = _source(call, repository)
    start, end = 0, found.size
    if span := call.header("x-amz-copy-source-range"):
        start, end = conditions.range_of_copy(span, found.size)
    try:
        part = uploads.put_part(repository, upload, number, origin.read(found, start, end))
    except NotFound as exc:
        raise S3Error("NoSuchUpload", exc.message) from None
    return answer("CopyPartResult", _result(f'"{part.etag}"', part.created_at))


def find_upload(call: Call, repository: Repository) -> uploads.Upload:
    """The upload a request names, to the key it names. NoSuchUpload."""
    ref, path = call.place()
    wanted = call.value("uploadId")
    try:
        return uploads.find(repository, wanted, ref, path)
    except NotFound as exc:
        raise S3Error(
            "NoSuchUpload", f"the specified upload does not exist: {exc.message}", {"UploadId": wanted[:200]}
        ) from None


def part_number(call: Call) -> int:
    """The part number of a request. InvalidArgument."""
    text = call.value("partNumber")
    if text.isascii() and text.isdigit() and len(text) < 6 and 1 <= int(text) <= uploads.MAX_PARTS:
        return int(text)
    raise S3Error(
        "InvalidArgument",
        f"part number must be an integer between 1 and {uploads.MAX_PARTS}, inclusive",
        {"ArgumentName": "partNumber", "ArgumentValue": text[:200]},
    )


def _source(call: Call, repository: Repository) -> tuple[str, str, Repository, Entry]:
    """Bucket, key, repository and entry of what is to be copied; its conditions are checked."""
    text, _, query = call.header("x-amz-copy-source").partition("?")
    try:
        name = unquote_to_bytes(text.encode("latin-1")).decode()
    except UnicodeError:
        raise S3Error("InvalidArgument", "copy source is not valid UTF-8") from None
    bucket, _, key = name.removeprefix("/").partition("/")
    ref, path = ref_and_path(checked_key(key))
    if not bucket or not path:
        raise S3Error("InvalidArgument", "copy source must be <bucket>/<branch>/<path>")
    checked_bucket(bucket)
    call.demand_object("fs:ReadObject", ref, path, bucket)
    origin = repository if bucket == call.bucket else call.repository(bucket)
    for name, version in parse_qsl(query, keep_blank_values=True):
        if name == "versionId":
            checked_version(version)
    try:
        found = origin.stat(ref, path)
    except (NotFound, Invalid):
        raise S3Error("NoSuchKey", "the specified copy source does not exist", {"Key": key}) from None
    conditions.check_copy(found, call.request.headers)
    return bucket, key, origin, found


def _result(etag: str, moment: float) -> list[str]:
    date = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return [element("LastModified", f"{date}.{int(moment % 1 * 1000):03d}Z"), element("ETag", etag)]
