"""Storing objects through the API: the body itself, or data that is in a store already."""

from __future__ import annotations

import msgspec

from tulle.errors import AlreadyExists, Invalid, PreconditionFailed
from tulle.lake.door import Outgoing
from tulle.lake.rest.call import Call, json_answer, no_content
from tulle.lake.rest.failure import unsupported
from tulle.lake.rest.formdata import FormData, boundary_of
from tulle.lake.rest.forms import stats_form
from tulle.lake.rest.router import Route
from tulle.lake.rest.signed import gathered

METADATA = "x-lakefs-meta-"


class _Stage(msgspec.Struct):
    physical_address: str
    checksum: str
    size_bytes: int
    mtime: int | None = None
    metadata: dict[str, str] | None = None
    content_type: str | None = None
    force: bool = False


def conditions(call: Call) -> tuple[bool, str | None]:
    """What If-None-Match and If-Match demand: (nothing may be there, the etag of what must be there)."""
    absent, match = call.header("if-none-match").strip(), call.header("if-match").strip()
    if absent and absent != "*":
        raise Invalid("If-None-Match of a write can only be '*'")
    if match == "*":
        raise unsupported("If-Match of a write names an etag; '*' is not known here")
    return bool(absent), match.removeprefix("W/").strip('"') or None


def upload(call: Call) -> Outgoing:
    """Store a body, raw or as the field `content` of a form, and stage it."""
    branch, path = call["branch"], call.needed("path")
    call.demand_object("fs:WriteObject", branch, path)
    if_absent, if_match = conditions(call)
    repository = call.repository(force=call.flag("force"))
    content_type, chunks = call.header("content-type"), call.request.chunks
    if content_type.lower().startswith("multipart/form-data"):
        content_type, chunks = FormData(chunks, boundary_of(content_type)).field("content")
    try:
        entry = repository.put(
            branch,
            path,
            gathered(chunks),
            content_type=content_type,
            metadata=_metadata(call),
            if_absent=if_absent,
            if_match=if_match,
        )
    except AlreadyExists as exc:
        raise PreconditionFailed(exc.message) from None  # only the condition can say so
    return json_answer(stats_form(repository, entry), 201)


def preflight(call: Call) -> Outgoing:
    """Whether the caller may store an object there."""
    call.demand_object("fs:WriteObject", call["branch"], call.needed("path"))
    call.repository().branch(call["branch"])
    return no_content()


def stage(call: Call) -> Outgoing:
    """Stage data that is in a store already."""
    branch, path = call["branch"], call.needed("path")
    call.demand_object("fs:WriteObject", branch, path)
    wanted = call.json(_Stage)
    repository = call.repository(force=wanted.force)
    if "://" not in wanted.physical_address:
        raise Invalid(f"'{wanted.physical_address[:200]}' is no URL")
    call.demand("fs:ImportFromStorage", f"arn:lakefs:fs:::namespace/{wanted.physical_address}")
    entry = repository.link(
        branch,
        path,
        wanted.physical_address,
        size=wanted.size_bytes,
        metadata=wanted.metadata,
        content_type=wanted.content_type or "",
        etag=wanted.checksum.strip('"'),
    )
    return json_answer(stats_form(repository, entry), 201)


def _metadata(call: Call) -> dict[str, str]:
    return {
        name.removeprefix(METADATA): _text(value)
        for name, value in call.request.headers.items()
        if name.startswith(METADATA)
    }


def _text(value: str) -> str:
    # Headers came as Latin-1; clients that write other letters write them in UTF-8.
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


_STAGED = "/repositories/{repository}/branches/{branch}/objects"

ROUTES = [
    Route("POST", _STAGED, upload, "uploadObject"),
    Route("PUT", _STAGED, stage, "stageObject"),
    Route("GET", f"{_STAGED}/stage_allowed", preflight, "uploadObjectPreflight"),
]
