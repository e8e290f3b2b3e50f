"""Buckets: repositories of the lake; and deleting several objects at once, which S3 asks of a bucket."""

from __future__ import annotations

import time
from collections.abc import Mapping

from tulle.errors import AlreadyExists, Denied, Invalid, NotFound, TulleError
from tulle.lake.door import Outgoing
from tulle.lake.repository import Repository
from tulle.lake.s3 import checksums, xml
from tulle.lake.s3.address import checked_key, ref_and_path
from tulle.lake.s3.call import Call, answer, is_branch_name
from tulle.lake.s3.failure import S3Error, not_implemented, refusal_of
from tulle.lake.s3.xml import Node, element

MOST = 1000
REGION = "us-east-1"  # what clients that ask are told; signatures of every region are accepted


def list_buckets(call: Call) -> Outgoing:
    """GET /: the repositories the user may see."""
    call.demand("fs:ListRepositories", "*")
    prefix, after = call.value("prefix"), call.value("continuation-token")
    limit = call.number("max-buckets", 10_000, 1, 10_000)
    parts: list[str] = []
    more = ""
    last = ""
    for repository in call.lake.repositories(prefix=prefix, after=after):
        try:
            call.demand_bucket("fs:ReadRepository", repository.name)
        except Denied:
            continue
        if len(parts) == limit:
            more = element("ContinuationToken", last)
            break
        last = repository.name
        date = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(repository.created_at))
        parts.append(f"<Bucket>{element('Name', last)}<CreationDate>{date}</CreationDate></Bucket>")
    whose = f"<Owner>{element('ID', call.user)}{element('DisplayName', call.user)}</Owner>"
    filtered = element("Prefix", prefix) if prefix else ""
    return answer("ListAllMyBucketsResult", [whose, f"<Buckets>{''.join(parts)}</Buckets>", more, filtered])


def head_bucket(call: Call) -> Outgoing:
    """HEAD /bucket."""
    call.demand_bucket("fs:ReadRepository")
    call.repository()
    return Outgoing(200, b"", [("x-amz-bucket-region", REGION), ("content-type", "application/xml")])


def create_bucket(call: Call) -> Outgoing:
    """PUT /bucket: a repository in the lake's own place, for who may make one."""
    call.demand_bucket("fs:CreateRepository")
    call.refuse_unsupported()
    if call.header("x-amz-bucket-object-lock-enabled").lower() == "true":
        raise not_implemented("locking of objects")
    body = call.body().whole(xml.MAX_BYTES)
    if body:
        xml.read(body, "CreateBucketConfiguration")
    try:
        made = call.lake.create_repository(call.bucket, actor=call.user)
    except AlreadyExists as exc:
        raise S3Error("BucketAlreadyOwnedByYou", exc.message, {"BucketName": call.bucket}) from None
    except Invalid as exc:
        raise S3Error(
            "InvalidBucketName", f"{exc.message} ({exc.hint})", {"BucketName": call.bucket}
        ) from None
    call.access.audit(
        call.user,
        "repository.created",
        f"repository/{made.name}",
        "done",
        storage_namespace=made.storage_namespace,
    )
    return Outgoing(200, b"", [("location", f"/{call.bucket}")])


def delete_bucket(call: Call) -> Outgoing:
    """DELETE /bucket: never."""
    call.demand_bucket("fs:DeleteRepository")
    call.repository()
    raise not_implemented("deleting a repository through S3 (use the lake's own API)")


def get_location(call: Call) -> Outgoing:
    """GET /bucket?location."""
    call.demand_bucket("fs:ReadRepository")
    call.repository()
    return answer("LocationConstraint", [])


def delete_objects(call: Call) -> Outgoing:
    """POST /bucket?delete: at most 1,000 keys, each allowed or refused on its own."""
    headers = call.request.headers
    stated = "content-md5" in headers or checksums.declared(headers) or headers.get("x-amz-trailer")
    if not stated and not call.payload.sha256:
        raise S3Error("InvalidRequest", "missing required header for this request: Content-MD5")
    root = call.document("Delete")
    nodes = root.all("Object")
    if not 1 <= len(nodes) <= MOST:
        raise S3Error("MalformedXML", f"a request deletes from 1 to {MOST} objects, got {len(nodes)}")
    repository = call.repository()
    failed = _delete(call, repository, [node.get("Key") for node in nodes])
    quiet = root.get("Quiet").strip().lower() == "true"
    return answer("DeleteResult", [*_deleted(nodes, failed, quiet=quiet)])


def _delete(call: Call, repository: Repository, keys: list[str]) -> Mapping[str, S3Error]:
    failed: dict[str, S3Error] = {}
    by_ref: dict[str, list[str]] = {}
    for key in keys:
        try:
            if not key:
                raise S3Error("MalformedXML", "an object to delete has no key")
            ref, path = ref_and_path(checked_key(key))
            call.demand_object("fs:DeleteObject", ref, path)
        except S3Error as exc:
            failed[key] = exc
        except TulleError as exc:
            failed[key] = refusal_of(exc)
        else:
            by_ref.setdefault(ref, [])
            if path:
                by_ref[ref].append(path)
    for ref, paths in by_ref.items():
        refused = _delete_of_ref(call, repository, ref, paths)
        if refused is not None:
            failed.update({f"{ref}/{path}": refused for path in paths})
    return failed


def _delete_of_ref(call: Call, repository: Repository, ref: str, paths: list[str]) -> S3Error | None:
    try:
        if not is_branch_name(ref):
            return call.refuse_no_branch(repository, ref)
        repository.delete_many(ref, paths)
    except NotFound:
        return call.refuse_no_branch(repository, ref)
    except TulleError as exc:
        return refusal_of(exc)
    return None


def _deleted(nodes: list[Node], failed: Mapping[str, S3Error], *, quiet: bool) -> list[str]:
    parts: list[str] = []
    for node in nodes:
        key = node.get("Key")
        error = failed.get(key)
        if error is not None:
            told = element("Key", key) + element("Code", error.code) + element("Message", error.message)
            parts.append(f"<Error>{told}</Error>")
        elif not quiet:
            parts.append(f"<Deleted>{element('Key', key)}</Deleted>")
    return parts
