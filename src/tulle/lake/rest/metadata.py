"""Where the objects are that say what commits hold: their addresses, and their bytes.

A commit's `meta_range_id` is its own id: its manifest stands for it.
"""

from __future__ import annotations

import re

from tulle.errors import Invalid, NotFound
from tulle.lake import refs
from tulle.lake.door import Outgoing
from tulle.lake.repository import Repository
from tulle.lake.rest.call import Call, json_answer
from tulle.lake.rest.router import Route

_ID = re.compile(r"[0-9a-f]{64}\Z")
PRESIGNED_SECONDS = 900


def _checked(id_: str) -> str:
    if not _ID.match(id_):
        raise Invalid(f"'{id_[:80]}' is no id", hint="64 hex digits")
    return id_


def _metarange(repository: Repository, id_: str) -> str:
    storage = repository.record.storage
    try:
        with repository.reader.database.read() as cx:
            recorded = refs.get_manifest_name(cx, repository.record.id, _checked(id_))
    except NotFound:
        return f"{storage}/_tulle/metaranges/{id_}"
    return f"{storage}/_tulle/manifests/{refs.manifest_of(recorded)[0]}"


def _range(repository: Repository, id_: str) -> str:
    return f"{repository.record.storage}/_tulle/ranges/{_checked(id_)}"


def _location(repository: Repository, blob: str) -> Outgoing:
    repository.reader.blobs.stat(blob)
    url = repository.reader.blobs.url(blob)
    url = f"local://{url}" if url.startswith("/") else url
    return json_answer({"location": url}, 200, [("location", url)])


def get_meta_range(call: Call) -> Outgoing:
    """Where a metarange, or what stands for a commit's, is."""
    call.demand_repository("fs:ReadRepository")
    call.demand_repository("fs:ListObjects")
    repository = call.repository()
    return _location(repository, _metarange(repository, call["meta_range"]))


def get_range(call: Call) -> Outgoing:
    """Where a range is."""
    call.demand_repository("fs:ReadRepository")
    call.demand_repository("fs:ListObjects")
    repository = call.repository()
    return _location(repository, _range(repository, call["range"]))


def get_object(call: Call) -> Outgoing:
    """The bytes of a range or metarange, or a redirect to where they are."""
    call.demand_repository("fs:ReadRepository")
    call.demand_repository("fs:ListObjects")
    repository = call.repository()
    places = {"range": _range, "meta_range": _metarange}
    if call["type"] not in places:
        raise Invalid(f"'{call['type'][:40]}' is no type of metadata", hint="range or meta_range")
    blob = places[call["type"]](repository, call["object_id"])
    blobs = repository.reader.blobs
    if call.flag("presign"):
        blobs.stat(blob)
        signed = blobs.signed_url(blob, "GET", PRESIGNED_SECONDS)
        if signed is not None:
            return Outgoing(302, b"", [("location", signed)])
    return Outgoing(200, blobs.get(blob), [("content-type", "application/octet-stream")])


_M = "/repositories/{repository}/metadata"

ROUTES = [
    Route("GET", f"{_M}/meta_range/{{meta_range}}", get_meta_range, "getMetaRange"),
    Route("GET", f"{_M}/range/{{range}}", get_range, "getRange"),
    Route("GET", f"{_M}/object/{{type}}/{{object_id}}", get_object, "getMetadataObject"),
]
