"""Objects: reading, listing, removing and copying them. Storing them is `uploading`'s."""

from __future__ import annotations

import msgspec

from tulle.errors import Invalid, TulleError
from tulle.lake.door import Outgoing
from tulle.lake.entry import Entry, checked_path
from tulle.lake.rest import signed
from tulle.lake.rest.call import Call, json_answer, no_content, page_of
from tulle.lake.rest.failure import message_of, status_of
from tulle.lake.rest.forms import (
    UNKNOWN_TYPE,
    addresses_of,
    branch_of,
    checksum_of,
    merged_in_order,
    stats_form,
    stats_of,
)
from tulle.lake.rest.ranges import data_answer
from tulle.lake.rest.router import Route

LIST_BYTES = 4 * 1024 * 1024  # a thousand paths of a thousand bytes, written as JSON
MAX_DELETE = 1000


class _Paths(msgspec.Struct):
    paths: list[str]


class _Copy(msgspec.Struct):
    src_path: str
    src_ref: str | None = None
    force: bool = False
    shallow: bool = False


class _Move(msgspec.Struct):
    src_path: str
    dest_path: str
    force: bool = False


class _UserMetadata(msgspec.Struct):
    set: dict[str, str]


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def get(call: Call) -> Outgoing:
    """An object's bytes, a part of them, or where to fetch them. Also HEAD."""
    ref, path = call["ref"], call.needed("path")
    call.demand_object("fs:ReadObject", branch_of(ref), path)
    repository = call.repository()
    entry = repository.stat(ref, path)
    if call.request.method == "GET" and call.flag("presign"):
        return Outgoing(302, b"", [("location", signed.read_url(call, repository, entry))])
    return data_answer(
        call.request,
        lambda start, end: repository.read(entry, start, end),
        size=entry.size,
        etag=checksum_of(entry) or entry.tag,
        modified=entry.modified,
        content_type=entry.content_type or UNKNOWN_TYPE,
    )


def stat(call: Call) -> Outgoing:
    """What a path holds."""
    ref, path = call["ref"], call.needed("path")
    call.demand_object("fs:ReadObject", branch_of(ref), path)
    repository = call.repository()
    entry = repository.stat(ref, path)
    metadata = call.flag("user_metadata", default=True)
    if not call.flag("presign"):
        return json_answer(stats_of(entry, repository.physical_address(entry), metadata=metadata))
    url = signed.read_url(call, repository, entry)
    return json_answer(stats_of(entry, url, metadata=metadata, expiry=signed.expiry()))


def list_objects(call: Call) -> Outgoing:
    """A page of what lies under a prefix."""
    call.demand_repository("fs:ListObjects")
    repository = call.repository()
    page = repository.list(
        call["ref"], call.query("prefix"), call.query("after"), call.amount(), call.query("delimiter")
    )
    metadata = call.flag("user_metadata", default=True)
    if call.flag("presign"):
        # A signed address is as good as reading, so only what may be read gets one.
        expiry = signed.expiry()
        branch, plain = branch_of(call["ref"]), addresses_of(repository)
        entries = [
            stats_of(entry, signed.read_url(call, repository, entry), metadata=metadata, expiry=expiry)
            if _readable(call, branch, entry)
            else stats_of(entry, plain(entry), metadata=metadata)
            for entry in page.entries
        ]
    else:
        address = addresses_of(repository)
        entries = [stats_of(entry, address(entry), metadata=metadata) for entry in page.entries]
    results = merged_in_order(entries, page.prefixes) if page.prefixes else entries
    return json_answer(page_of(results, has_more=page.next is not None, next_offset=page.next or ""))


def _readable(call: Call, branch: str, entry: Entry) -> bool:
    return call.may("fs:ReadObject", *call.access.resource_object(call["repository"], branch, entry.path))


def properties(call: Call) -> Outgoing:
    """What the store says of an object: nothing, for the lake chooses no storage classes."""
    ref, path = call["ref"], call.needed("path")
    call.demand_object("fs:ReadObject", branch_of(ref), path)
    call.repository().stat(ref, path)
    return json_answer({})


# ── changing ─────────────────────────────────────────────────────────────────────────────────────────────


def delete(call: Call) -> Outgoing:
    """Stage the removal of an object."""
    path = call.needed("path")
    call.demand_object("fs:DeleteObject", call["branch"], path)
    call.repository(force=call.flag("force")).delete(call["branch"], path)
    return no_content()


def delete_many(call: Call) -> Outgoing:
    """Stage the removal of several objects; those that may not or cannot be removed are told one by one."""
    paths = call.json(_Paths, LIST_BYTES).paths
    if len(paths) > MAX_DELETE:
        raise Invalid(f"{len(paths)} paths at once", hint=f"at most {MAX_DELETE}")
    repository = call.repository(force=call.flag("force"))
    repository.branch(call["branch"])
    errors, wanted = [], []
    for path in paths:
        try:
            checked_path(path)
            call.demand_object("fs:DeleteObject", call["branch"], path)
            wanted.append(path)
        except TulleError as exc:
            errors.append({"status_code": status_of(exc), "message": message_of(exc), "path": path})
    if wanted:
        repository.delete_many(call["branch"], wanted)
    return json_answer({"errors": errors})


def copy(call: Call) -> Outgoing:
    """Stage an object under another path as well; no data is copied."""
    wanted, dest = call.json(_Copy), call.needed("dest_path")
    branch = call["branch"]
    source = wanted.src_ref or branch
    call.demand_object("fs:ReadObject", branch_of(source), wanted.src_path)
    call.demand_object("fs:WriteObject", branch, dest)
    repository = call.repository(force=wanted.force)
    return json_answer(stats_form(repository, repository.copy(branch, source, wanted.src_path, dest)), 201)


def move(call: Call) -> Outgoing:
    """Put an object under another path; no data is copied. Ours; lakeFS has none."""
    wanted, branch = call.json(_Move), call["branch"]
    call.demand_object("fs:ReadObject", branch, wanted.src_path)
    call.demand_object("fs:DeleteObject", branch, wanted.src_path)
    call.demand_object("fs:WriteObject", branch, wanted.dest_path)
    repository = call.repository(force=wanted.force)
    return json_answer(
        stats_form(repository, repository.move(branch, wanted.src_path, wanted.dest_path)), 201
    )


def set_metadata(call: Call) -> Outgoing:
    """Stage other user metadata for an object."""
    path = call.needed("path")
    call.demand_object("fs:WriteObject", call["branch"], path)
    call.repository().set_object_metadata(call["branch"], path, call.json(_UserMetadata).set)
    return Outgoing(201)


_R = "/repositories/{repository}"
_OBJECTS = f"{_R}/refs/{{ref}}/objects"
_STAGED = f"{_R}/branches/{{branch}}/objects"

ROUTES = [
    Route("GET", _OBJECTS, get, "getObject"),
    Route("HEAD", _OBJECTS, get, "headObject"),
    Route("GET", f"{_OBJECTS}/stat", stat, "statObject"),
    Route("GET", f"{_OBJECTS}/ls", list_objects, "listObjects"),
    Route("GET", f"{_OBJECTS}/underlyingProperties", properties, "getUnderlyingProperties"),
    Route("DELETE", _STAGED, delete, "deleteObject"),
    Route("POST", f"{_STAGED}/delete", delete_many, "deleteObjects"),
    Route("POST", f"{_STAGED}/copy", copy, "copyObject"),
    Route("POST", f"{_STAGED}/move", move, "tulle.moveObject"),
    Route("PUT", f"{_STAGED}/stat/user_metadata", set_metadata, "updateObjectUserMetadata"),
]
