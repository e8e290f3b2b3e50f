"""DeleteObject and DeleteObjects: each key on its own, under conditions if it states any.

What is stated of an object must hold when it is removed, not only when it was looked at: a conditional removal
takes the very entry that was looked at, or looks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ParamSpec

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

P = ParamSpec("P")

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
            node.get("VersionId") or None,
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
    one = _Asked(call.key, call.value("versionId", "null"), expected, ref, path)
    checked_version(one.version)
    _remove(call, repository, one)
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
        one.error = _failure(_admit, call, one)
        if one.error is not None:
            continue
        if one.path and not one.expected:
            together.setdefault(one.ref, []).append(one)
        else:
            one.error = _failure(_remove, call, repository, one)
    for ref, several in together.items():
        error = _failure(_remove_all, call, repository, ref, several)
        for one in several:
            one.error = error
    quiet = root.get("Quiet").strip().lower() == "true"
    return answer("DeleteResult", [_told(one) for one in asked if one.error or not quiet])


def _admit(call: Call, one: _Asked) -> None:
    """The place that is named, and whether the user may delete there."""
    if not one.key:
        raise S3Error("MalformedXML", "an object to delete has no key")
    one.ref, one.path = ref_and_path(checked_key(one.key))
    call.demand_object("fs:DeleteObject", one.ref, one.path)
    checked_version(one.version)


def _remove(call: Call, repository: Repository, one: _Asked) -> None:
    if one.path and not one.expected:
        _remove_all(call, repository, one.ref, [one])
        return
    if not one.path and not one.key.endswith("/"):
        raise names_no_object(one.key)
    if not is_branch_name(one.ref):
        raise call.refuse_no_branch(repository, one.ref)
    try:
        if one.path:
            _remove_expected(repository, one)
        else:  # the branch as a folder stays
            one.expected.check(folder(repository, repository.branch(one.ref).commit_id))
    except NotFound as exc:
        raise not_written(call, repository, one.ref, exc) from None


def _remove_all(call: Call, repository: Repository, ref: str, several: list[_Asked]) -> None:
    if not is_branch_name(ref):
        raise call.refuse_no_branch(repository, ref)
    try:
        repository.delete_many(ref, [one.path for one in several])
    except NotFound as exc:
        raise not_written(call, repository, ref, exc) from None


def _remove_expected(repository: Repository, one: _Asked) -> None:
    for _ in range(TRIES):
        try:
            found = repository.stat(one.ref, one.path)
        except NotFound:
            repository.branch(one.ref)
            found = None
        one.expected.check(found)
        if found is not None and repository.delete_entry(one.ref, found):
            return
    raise S3Error(
        "ConditionalRequestConflict", f"'{one.key}' changes all the time; nothing was deleted, try again"
    )


def _failure(step: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> S3Error | None:
    try:
        step(*args, **kwargs)
    except S3Error as exc:
        return exc
    except TulleError as exc:
        return refusal_of(exc)
    return None


def _told(one: _Asked) -> str:
    named = element("Key", one.key)
    if one.version is not None:
        named += element("VersionId", one.version)
    if one.error is None:
        return f"<Deleted>{named}</Deleted>"
    return f"<Error>{named}{element('Code', one.error.code)}{element('Message', one.error.message)}</Error>"
