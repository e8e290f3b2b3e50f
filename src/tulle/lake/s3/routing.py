"""Which operation a request asks for: the method, what it names, and the one word of the query that says it.

Knows what operations there are, not what they do.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tulle.lake.door import Outgoing
from tulle.lake.s3 import buckets, copying, deleting, listing, multipart, objects, pending, subresources
from tulle.lake.s3.call import Call
from tulle.lake.s3.failure import S3Error, not_implemented

Handler = Callable[[Call], Outgoing]
Route = tuple[str, str, str, Handler]  # method, word of the query ("" for any), operation, handler

_BUCKET: Sequence[Route] = (
    ("GET", "location", "GetBucketLocation", buckets.get_location),
    ("GET", "uploads", "ListMultipartUploads", pending.list_uploads),
    ("GET", "versions", "ListObjectVersions", listing.list_versions),
    ("GET", "list-type", "ListObjectsV2", listing.list_v2),
    ("GET", "", "ListObjects", listing.list_v1),
    ("HEAD", "", "HeadBucket", buckets.head_bucket),
    ("PUT", "", "CreateBucket", buckets.create_bucket),
    ("POST", "delete", "DeleteObjects", deleting.delete_objects),
    ("DELETE", "", "DeleteBucket", buckets.delete_bucket),
)
_OBJECT: Sequence[Route] = (
    ("GET", "uploadId", "ListParts", multipart.list_parts),
    ("GET", "attributes", "GetObjectAttributes", objects.get_attributes),
    ("GET", "", "GetObject", objects.get_object),
    ("HEAD", "", "HeadObject", objects.head_object),
    ("PUT", "uploadId", "UploadPart", multipart.upload_part),
    ("PUT", "", "PutObject", objects.put_object),
    ("POST", "uploads", "CreateMultipartUpload", multipart.create),
    ("POST", "uploadId", "CompleteMultipartUpload", multipart.complete),
    ("DELETE", "uploadId", "AbortMultipartUpload", multipart.abort),
    ("DELETE", "", "DeleteObject", deleting.delete_object),
)
_COPIES: Sequence[Route] = (
    ("PUT", "uploadId", "UploadPartCopy", copying.upload_part_copy),
    ("PUT", "", "CopyObject", copying.copy_object),
)


def route(call: Call) -> tuple[str, Handler]:
    """The operation a request asks for. MethodNotAllowed, NotImplemented."""
    if not call.bucket:
        if call.key:
            raise S3Error("InvalidBucketName", "the specified bucket is not valid: a bucket has a name")
        if call.request.method == "GET":
            return "ListBuckets", buckets.list_buckets
        raise _not_allowed(call)
    others = subresources.OBJECT_NAMES if call.key else subresources.BUCKET_NAMES
    name = next((name for name in call.values if name in others), None)
    if name is not None:
        return _subresource(call, name)
    if not call.key:
        return _first(call, _BUCKET)
    if call.request.method == "PUT" and "partNumber" in call.values and "uploadId" not in call.values:
        raise S3Error("InvalidArgument", "partNumber goes with uploadId")
    if call.request.method in {"PUT", "POST"} and "versionId" in call.values:
        raise S3Error("InvalidArgument", "this operation does not accept a version-id")
    copied = call.request.method == "PUT" and "x-amz-copy-source" in call.request.headers
    return _first(call, _COPIES if copied else _OBJECT)


def _first(call: Call, routes: Sequence[Route]) -> tuple[str, Handler]:
    for method, word, operation, handler in routes:
        if method == call.request.method and (not word or word in call.values):
            return operation, handler
    if call.request.method == "POST" and not call.key:
        raise not_implemented("uploading with an HTML form")
    raise _not_allowed(call)


def _subresource(call: Call, name: str) -> tuple[str, Handler]:
    if call.request.method not in {"GET", "HEAD"}:
        return f"Change {name}", lambda call: subresources.change(call, name)
    if call.key:
        return f"Get {name}", lambda call: subresources.read_of_object(call, name)
    return f"Get {name}", lambda call: subresources.read_of_bucket(call, name)


def _not_allowed(call: Call) -> S3Error:
    return S3Error(
        "MethodNotAllowed",
        "the specified method is not allowed against this resource",
        {"Method": call.request.method[:40]},
        {"allow": "GET, HEAD, PUT, DELETE, POST"},
    )
