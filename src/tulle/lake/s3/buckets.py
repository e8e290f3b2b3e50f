"""Buckets: repositories of the lake."""

from __future__ import annotations

import time

from tulle.errors import AlreadyExists, Invalid
from tulle.lake.door import Outgoing
from tulle.lake.s3 import xml
from tulle.lake.s3.call import Call, answer
from tulle.lake.s3.failure import S3Error, not_implemented
from tulle.lake.s3.xml import element

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
        if not call.may_bucket("fs:ReadRepository", repository.name):
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
