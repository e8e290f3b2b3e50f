"""DeleteObject and DeleteObjects: each key on its own, under conditions if it states any.

What is stated of an object must hold when it is removed, not only when it was looked at: a conditional removal
takes the very entry that was looked at, or looks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tulle.errors import NotFound, TulleError
from tulle.lake.door import Outgoing
from tulle.lake.repository import Repository
from tulle.lake.s3 import checksums
from tulle.lake.s3.address import checked_key, checked_version, ref_and_path
from tulle.lake.s3.call import Call, answer, is_branch_name, no_content
from tulle.lake.s3.conditions import Expected
from tulle.lake.s3.failure import S3Error, refusal_of
from tulle.lake.s3.objects import folder, names_no_object, not_written
from tulle.lake.s3.xml import Node, element

MOST = 1000
TRIES = 20  # where others write to the path that is removed under a condition


@dataclass(slots=True)
class _Asked:
    """One deletion that is asked for, and why it is refused."""

    key: str
    version: str | None
    expected: Expected
    ref: str = ""
    path: str = ""
    error: S3Error | None = None

    @classmethod
    def of(cls, node: Node) -> _Asked:
        def text(name: str) -> str | None:
            return node.get(name) if node.all(name) else None

        return cls(
            node.get("Key"),
            text("VersionId"),
            Expected(text("ETag"), text("Size"), text("LastModifiedTime")),
        )


def delete_object(call: Call) -> Outgoing:
    """DELETE /bucket/key; no error when there is nothing, unless something is stated of it."""
    ref, path = call.place()
    call.demand_object("fs:DeleteObject", ref, path)
    headers = call.request.headers
    expected = Expected(
        headers.get("if-match"),
        headers.get("x-amz-if-match-size"),
        headers.get("x-amz-if-match-last-modified-time"),
    )
    repository = call.repository()
    checked_version(call.value("versionId", "null"))
    if not path:
        _leave_folder(call, repository, _Asked(call.key, None, expected, ref))
    elif expected:
        _on_branch(call, repository, ref, lambda: _remove_expected(repository, ref, path, expected))
    else:
        _on_branch(call, repository, ref, lambda: repository.delete_many(ref, [path]))
    return no_content()


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
    asked = [_Asked.of(node) for node in nodes]
    together: dict[str, list[_Asked]] = {}
    for one in asked:
        if _refused(one, lambda one=one: _demand(call, one)):  # type: ignore[misc]
            continue
        if one.path and not one.expected:
            together.setdefault(one.ref, []).append(one)
        else:
            _refused(one, lambda one=one: _remove_one(call, repository, one))  # type: ignore[misc]
    for ref, several in together.items():
        _remove_together(call, repository, ref, several)
    quiet = root.get("Quiet").strip().lower() == "true"
    return answer("DeleteResult", [_told(one) for one in asked if one.error or not quiet])
