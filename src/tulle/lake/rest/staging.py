"""Writing straight to the store: issued addresses that are linked later, and uploads in parts."""

from __future__ import annotations

import time
from dataclasses import replace

import msgspec

from tulle.errors import AlreadyExists, Invalid, NotFound, PreconditionFailed
from tulle.lake import addresses, uploads
from tulle.lake.door import Outgoing
from tulle.lake.entry import Entry, checked_path
from tulle.lake.objects import ADDRESS_SECONDS
from tulle.lake.repository import Repository
from tulle.lake.rest import signed
from tulle.lake.rest.call import Call, json_answer, no_content
from tulle.lake.rest.failure import Refusal
from tulle.lake.rest.forms import branch_of, stats_form
from tulle.lake.rest.ranges import wanted_range
from tulle.lake.rest.router import Route
from tulle.lake.rest.uploading import conditions

COMPLETE_BYTES = 4 * 1024 * 1024  # ten thousand parts


class _Location(msgspec.Struct):
    physical_address: str | None = None
    presigned_url: str | None = None
    presigned_url_expiry: int | None = None


class _Link(msgspec.Struct):
    staging: _Location
    checksum: str
    size_bytes: int
    user_metadata: dict[str, str] | None = None
    content_type: str | None = None
    mtime: int | None = None
    force: bool = False


class _PartTag(msgspec.Struct):
    part_number: int
    etag: str


class _Complete(msgspec.Struct):
    physical_address: str
    parts: list[_PartTag]
    user_metadata: dict[str, str] | None = None
    content_type: str | None = None


class _CopySource(msgspec.Struct):
    repository: str
    ref: str
    path: str
    range: str | None = None


class _PartCopy(msgspec.Struct):
    physical_address: str
    copy_source: _CopySource


# ── issued addresses ─────────────────────────────────────────────────────────────────────────────────────


def issue(call: Call) -> Outgoing:
    """An address to write an object's bytes to."""
    branch, path = call["branch"], call.needed("path")
    call.demand_object("fs:WriteObject", branch, path)
    repository = call.repository()
    place = repository.issue_address(branch, path)
    location: dict[str, object] = {
        "physical_address": repository.physical_address(Entry("", place.address, 0)),
    }
    if call.flag("presign"):
        location["presigned_url"] = signed.write_url(call, repository, place.address)
        location["presigned_url_expiry"] = signed.expiry()
    else:
        location["presigned_url_expiry"] = int(time.time() + ADDRESS_SECONDS)
    return json_answer(location)


def link(call: Call) -> Outgoing:
    """Stage what was written to an issued address."""
    branch, path = call["branch"], call.needed("path")
    call.demand_object("fs:WriteObject", branch, path)
    wanted = call.json(_Link)
    if_absent, if_match = conditions(call)
    repository = call.repository(force=wanted.force)
    repository.branch(branch)
    address = _issued(repository, wanted.staging.physical_address or "", branch, path)
    try:
        entry = repository.link_issued(
            branch,
            path,
            address,
            size=wanted.size_bytes,
            etag=wanted.checksum.strip('"'),
            metadata=wanted.user_metadata,
            content_type=wanted.content_type or "",
            if_absent=if_absent,
            if_match=if_match,
        )
    except AlreadyExists as exc:
        raise PreconditionFailed(exc.message) from None  # only the condition can say so
    except NotFound as exc:
        raise Refusal(400, exc.message, hint=exc.hint) from None  # the address, for the branch is there
    return json_answer(stats_form(repository, entry))


def _issued(repository: Repository, url: str, branch: str, path: str) -> str:
    """The address of a URL, if it was issued for that path: what others are writing is not to be had this way."""
    base = repository.physical_address(Entry("", "data/x", 0)).removesuffix("data/x")
    address = url.removeprefix(base)
    with repository.reader.database.read() as cx:
        found = addresses.issued_for(cx, repository.record.id, address)
    if found != (branch, path):
        raise Refusal(
            400,
            f"'{url[:300]}' was not issued for '{path}' on branch '{branch}', or was linked already",
            hint="ask for a new physical address and write there",
        )
    return address


# ── uploads in parts ─────────────────────────────────────────────────────────────────────────────────────


def create(call: Call) -> Outgoing:
    """Begin an upload in parts."""
    branch, path = call["branch"], call.needed("path")
    call.demand_object("fs:WriteObject", branch, path)
    count = call.number("parts", 0, 0, uploads.MAX_PARTS)
    repository = call.repository()
    upload = uploads.start(repository, branch, path)
    return json_answer(
        {
            "upload_id": upload.id,
            "physical_address": _place(repository, upload.id),
            "presigned_urls": [
                signed.part_url(call, repository, upload.id, number + 1) for number in range(count)
            ],
        },
        201,
    )


def part(call: Call) -> Outgoing:
    """Where to put one part."""
    repository, upload = _upload(call)
    return json_answer({"presigned_url": signed.part_url(call, repository, upload.id, _number(call))})


def copy_part(call: Call) -> Outgoing:
    """Make one part of an object of the lake, or of a range of it."""
    repository, upload = _upload(call)
    source = call.json(_PartCopy).copy_source
    names = call.access.resource_object(source.repository, branch_of(source.ref), source.path)
    call.demand("fs:ReadObject", *names)
    origin = call.lake.repository(source.repository, actor=call.user)
    entry = origin.stat(source.ref, source.path)
    wanted = wanted_range(source.range or "", entry.size) or (0, entry.size)
    made = uploads.put_part(repository, upload, _number(call), origin.read(entry, *wanted))
    return no_content([("etag", f'"{made.etag}"')])


def complete(call: Call) -> Outgoing:
    """Make an object of parts."""
    repository, upload = _upload(call)
    wanted = call.json(_Complete, COMPLETE_BYTES)
    there = {part.number: part for part in uploads.parts(repository, upload)}
    chosen, last = [], 0
    for named in wanted.parts:
        found = there.get(named.part_number)
        if found is None or found.etag != named.etag.strip('"'):
            raise Invalid(f"part {named.part_number} with etag '{named.etag[:64]}' was not uploaded")
        if named.part_number <= last:
            raise Invalid(f"part {named.part_number} is named after part {last}")
        chosen.append(found)
        last = named.part_number
    if_absent, if_match = conditions(call)
    upload = replace(upload, metadata=wanted.user_metadata or {}, content_type=wanted.content_type or "")
    try:
        entry = uploads.complete(repository, upload, chosen, if_absent=if_absent, if_match=if_match)
    except AlreadyExists as exc:
        raise PreconditionFailed(exc.message) from None
    return json_answer(stats_form(repository, entry))


def abort(call: Call) -> Outgoing:
    """Give an upload up."""
    repository, upload = _upload(call)
    uploads.drop(repository, upload)
    return no_content()


def _place(repository: Repository, upload_id: str) -> str:
    return f"{repository.storage_namespace}/{uploads.FOLDER}/{upload_id}"


def _upload(call: Call) -> tuple[Repository, uploads.Upload]:
    branch, path = call["branch"], call.needed("path")
    call.demand_object("fs:WriteObject", branch, path)
    checked_path(path)
    repository = call.repository()
    return repository, uploads.find(repository, call["uploadId"], branch, path)


def _number(call: Call) -> int:
    text = call["partNumber"]
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= uploads.MAX_PARTS:
        raise Invalid(f"'{text[:40]}' is no part number", hint=f"1 to {uploads.MAX_PARTS}")
    return number


_B = "/repositories/{repository}/branches/{branch}"
_BACKING = f"{_B}/staging/backing"
_PMPU = f"{_B}/staging/pmpu"
_UPLOAD = f"{_PMPU}/{{uploadId}}"

ROUTES = [
    Route("GET", _BACKING, issue, "getPhysicalAddress"),
    Route("PUT", _BACKING, link, "linkPhysicalAddress"),
    Route("POST", _PMPU, create, "createPresignMultipartUpload"),
    Route("PUT", _UPLOAD, complete, "completePresignMultipartUpload"),
    Route("DELETE", _UPLOAD, abort, "abortPresignMultipartUpload"),
    Route("PUT", f"{_UPLOAD}/parts/{{partNumber}}", part, "uploadPart"),
    Route("PUT", f"{_UPLOAD}/parts/{{partNumber}}/copy", copy_part, "uploadPartCopy"),
]
