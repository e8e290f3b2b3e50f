"""The lake's values: what a path holds, how paths, branches and repositories may be named.

Knows neither how entries are stored nor where.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import msgspec

from tulle.errors import Invalid

MAX_PATH_BYTES = 1024
LAST_DATE = 253_402_300_800  # the year 10000
MAX_METADATA = 16 * 1024  # characters of JSON with an entry
MAX_COMMIT_METADATA = 1024 * 1024  # and with a commit, which tells of many entries
_REPOSITORY = re.compile(r"[a-z0-9][a-z0-9-]{2,62}\Z")
_BRANCH = re.compile(r"\w[-\w]*\Z")
_TAG = re.compile(r"\w[-\w]*(\.[-\w]+)*\Z")  # also v1.0.2
_NO_METADATA: Mapping[str, str] = {}


class Entry(msgspec.Struct, frozen=True):  # a tenth of a frozen dataclass's cost: listings make thousands
    """What a path holds at a ref.

    `address` is where the bytes are: relative to the repository's storage, `lake:<storage>/…` in another
    repository's, or a URL outside the lake. `checksum` is the SHA-256 of the bytes in hex, "" when unknown;
    `etag` is the MD5 in hex where we wrote the bytes ourselves, else what the store calls it. `modified` is in
    seconds since the epoch, to the microsecond. `size` is in bytes.
    """

    path: str
    address: str
    size: int
    checksum: str = ""
    etag: str = ""
    modified: float = 0.0
    content_type: str = ""
    metadata: Mapping[str, str] = msgspec.field(default_factory=dict)

    @property
    def tag(self) -> str:
        """What HTTP calls its ETag, without quotes.

        What was linked without one gets one that changes with the content and cannot be taken for an MD5.
        """
        return self.etag.strip('"') or f"{self.checksum or self.address.rpartition('/')[2]}-{self.size:x}"

    def same_content(self, other: Entry) -> bool:
        """Whether a reader could not tell the two apart: equal bytes, type and metadata.

        Where the checksum of either is unknown, equal address and etag stand for equal bytes.
        """
        if self.size != other.size or self.content_type != other.content_type:
            return False
        if self.metadata != other.metadata:
            return False
        if self.checksum and other.checksum:
            return self.checksum == other.checksum
        return self.address == other.address and self.etag == other.etag


@dataclass(frozen=True, slots=True)
class Change:
    """One path that differs between a left and a right state."""

    kind: Literal["added", "removed", "changed"]
    path: str
    left: Entry | None
    right: Entry | None


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing. `next` is the value for `after` that continues it, or None at the end.

    `prefixes` are the folders (ending with the delimiter) that stand for everything below them.
    """

    entries: tuple[Entry, ...]
    prefixes: tuple[str, ...]
    next: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit. `generation` is 1 for a root and one more than the highest of its parents' otherwise.

    `parents` has the line the branch was on first. `date` is in seconds since the epoch.
    """

    id: str
    parents: tuple[str, ...]
    message: str
    committer: str
    date: float
    metadata: Mapping[str, str]
    generation: int


def change_between(left: Entry | None, right: Entry | None) -> Change | None:
    """The change from `left` to `right` at one path, or None when a reader sees none."""
    if left is None:
        return None if right is None else Change("added", right.path, None, right)
    if right is None:
        return Change("removed", left.path, left, None)
    return None if left.same_content(right) else Change("changed", left.path, left, right)


def checked_path(path: str) -> bytes:
    """The path as it is stored and ordered: its UTF-8 bytes. Invalid when it may not be a path."""
    encoded = encoded_text(path)
    if not encoded:
        raise Invalid("a path may not be empty")
    if len(encoded) > MAX_PATH_BYTES:
        raise Invalid(
            f"path '{path[:60]}…' is {len(encoded)} bytes long", hint=f"at most {MAX_PATH_BYTES} are allowed"
        )
    if b"\0" in encoded:
        raise Invalid(f"path {path!r} holds a NUL character")
    return encoded


def encoded_text(text: str) -> bytes:
    """A path, or the beginning of one, as UTF-8. Invalid when it cannot be written so."""
    if not isinstance(text, str):
        raise Invalid(f"a path must be text, got {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"path {text!r} cannot be written as UTF-8") from None


def checked_date(date: float | None) -> float | None:
    """A commit's date in seconds since the epoch, or None for now. Invalid beyond the years 1970 to 9999."""
    if date is not None and not 0 <= date < LAST_DATE:
        raise Invalid(f"{date} cannot be a commit's date", hint="seconds since 1970, before the year 10000")
    return date


def checked_text(text: str, what: str) -> str:
    """Text as every database can keep it: with nothing that is no character, and no NUL. Invalid."""
    if not isinstance(text, str):
        raise Invalid(f"{what} must be text, got {type(text).__name__}")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Invalid(f"{what} {text[:60]!r} cannot be written as UTF-8") from None
    if "\0" in text:
        raise Invalid(f"{what} {text[:60]!r} holds a NUL character")
    return text


def checked_repository_name(name: str) -> str:
    """The name, or Invalid."""
    if not isinstance(name, str) or not _REPOSITORY.match(name):
        raise Invalid(
            f"'{name}' cannot be a repository's name",
            hint="3 to 63 lower-case letters, digits and hyphens, not starting with a hyphen",
        )
    return name


def checked_ref_name(name: str, kind: Literal["branch", "tag"]) -> str:
    """The name of a branch or tag, or Invalid."""
    form = _BRANCH if kind == "branch" else _TAG
    if not isinstance(name, str) or not form.match(name) or len(name) > 255:
        dots = "" if kind == "branch" else ", single dots between them"
        raise Invalid(
            f"'{name}' cannot be the name of a {kind}",
            hint=f"letters, digits, underscores and hyphens{dots}, not starting with a hyphen, at most 255",
        )
    return name


def encode_metadata(metadata: Mapping[str, str] | None, limit: int = MAX_METADATA) -> str:
    """Metadata as the text that is stored: JSON with sorted keys, "" for none.

    Invalid unless it maps text to text and has at most `limit` characters.
    """
    if not metadata:
        return ""
    for key, value in metadata.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise Invalid(f"metadata must map text to text, got {key!r}: {value!r}")
        if "\0" in key or "\0" in value:
            raise Invalid(f"metadata '{key[:60]}' holds a NUL character")
    text = json.dumps(dict(metadata), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    checked_text(text, "metadata")  # a NUL in it is written as \u0000
    if len(text) > limit:
        raise Invalid(f"metadata of {len(text)} characters is too large", hint=f"at most {limit}")
    return text


def decode_metadata(text: str) -> Mapping[str, str]:
    """The inverse of `encode_metadata`."""
    return json.loads(text) if text else _NO_METADATA


def successor(prefix: bytes) -> bytes | None:
    """The first byte string after everything that starts with `prefix`; None when nothing comes after."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return None
    return stripped[:-1] + bytes([stripped[-1] + 1])
