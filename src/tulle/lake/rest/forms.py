"""The lake's values in lakeFS's forms: whole seconds, whole numbers, and nothing where there is nothing.

Knows no request.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from tulle.lake.entry import Change, Commit, Entry
from tulle.lake.repository import Branch, Repository, Tag

UNKNOWN_TYPE = "application/octet-stream"
_STEPS = re.compile(r"[~^@$].*\Z", re.DOTALL)


class ObjectStats(msgspec.Struct, omit_defaults=True):
    """What a path holds."""

    path: str
    path_type: str
    physical_address: str
    checksum: str
    mtime: int
    physical_address_expiry: int | None = None
    size_bytes: int | None = None
    metadata: Mapping[str, str] | None = None
    content_type: str | None = None


def repository_form(repository: Repository) -> dict[str, Any]:
    """Repository of the OpenAPI document."""
    return {
        "id": repository.name,
        "creation_date": int(repository.created_at),
        "default_branch": repository.default_branch,
        "storage_id": "",
        "storage_namespace": repository.storage_namespace,
        "read_only": repository.read_only,
    }


def ref_form(ref: Branch | Tag) -> dict[str, str]:
    """Ref of the OpenAPI document."""
    return {"id": ref.name, "commit_id": ref.commit_id}


def commit_form(commit: Commit) -> dict[str, Any]:
    """Commit of the OpenAPI document. A commit's content has the commit's own id: there is no other for it."""
    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "committer": commit.committer,
        "message": commit.message,
        "creation_date": int(commit.date),
        "meta_range_id": commit.id,
        "metadata": dict(commit.metadata),
        "generation": commit.generation,
        "version": 1,
    }


def addresses_of(repository: Repository) -> Callable[[Entry], str]:
    """How a repository's entries are told as URLs: a function that is quick for many."""
    base = repository.physical_address(Entry("", "data/x", 0)).removesuffix("data/x")

    def address(entry: Entry) -> str:
        if entry.address.startswith("data/"):
            return base + entry.address
        return repository.physical_address(entry)

    return address


def stats_of(entry: Entry, address: str, *, metadata: bool = True, expiry: int | None = None) -> ObjectStats:
    """ObjectStats of an entry; the checksum is what S3 calls the etag, for clients compare it with an MD5."""
    return ObjectStats(
        path=entry.path,
        path_type="object",
        physical_address=address,
        checksum=checksum_of(entry),
        mtime=int(entry.modified),
        physical_address_expiry=expiry,
        size_bytes=entry.size,
        metadata=entry.metadata if metadata else None,
        content_type=entry.content_type or UNKNOWN_TYPE,
    )


def stats_form(repository: Repository, entry: Entry) -> ObjectStats:
    """ObjectStats of one entry of a repository."""
    return stats_of(entry, repository.physical_address(entry))


def prefix_stats(prefix: str) -> ObjectStats:
    """ObjectStats that stand for everything below a prefix."""
    return ObjectStats(prefix, "common_prefix", "", "", 0, size_bytes=0)


def change_form(change: Change, *, right_stats: bool = False) -> dict[str, Any]:
    """Diff of the OpenAPI document."""
    entry = change.right or change.left
    form: dict[str, Any] = {"type": change.kind, "path": change.path, "path_type": "object"}
    if entry is not None:
        form["size_bytes"] = entry.size
    if right_stats and change.right is not None:
        right = change.right
        form["right"] = {
            "checksum": checksum_of(right),
            "mtime": int(right.modified),
            "content_type": right.content_type or UNKNOWN_TYPE,
            "metadata": dict(right.metadata),
        }
    return form


def prefix_change(prefix: str) -> dict[str, Any]:
    """Diff that stands for all changes below a prefix."""
    return {"type": "prefix_changed", "path": prefix, "path_type": "common_prefix"}


def checksum_of(entry: Entry) -> str:
    """An entry's etag, without quotes; its SHA-256 where there is none."""
    return entry.etag.strip('"') or entry.checksum


def branch_of(ref: str) -> str:
    """The name a ref begins with, for permissions on branches: `main` of `main~2`."""
    return _STEPS.sub("", ref)


def merged_in_order(entries: Iterable[ObjectStats], prefixes: Iterable[str]) -> list[ObjectStats]:
    """Entries and prefixes of a page in path order, that of UTF-8's bytes."""
    found = [*entries, *map(prefix_stats, prefixes)]
    found.sort(key=lambda stats: stats.path.encode())
    return found
