"""The folder of the files that Envoy watches, and the record of what was published there last.

A file is replaced as a whole, by renaming, and is for its owner only. Knows what a whole file is, and nothing of what
is in it; who may write, and in what order, is the publisher's matter.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Final

import msgspec

from tulle.gateway.envoy_files import FILES, versioned
from tulle.gateway.envoy_route_files import version_of
from tulle.gateway.envoy_values import AS_BYTES, file_name
from tulle.gateway.private_file import replace_private

_SETTLED_NS: Final = 2_000_000_000


class Published(msgspec.Struct, frozen=True):
    """The record of what was published last: the policy's digest, and the SHA-256 of every file."""

    digest: str
    files: dict[str, str]


class WatchedFiles:
    """Those in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._digests: dict[str, tuple[tuple[int, int, int], str]] = {}

    def path(self, name: str) -> Path:
        return self._folder / file_name(name)

    def read(self, name: str) -> bytes | None:
        try:
            return self.path(name).read_bytes()
        except FileNotFoundError:
            return None

    def read_whole(self, name: str) -> bytes | None:
        """A watched file, None when it is missing or damaged."""
        content = self.read(name)
        return content if content is not None and version_in(name, content) is not None else None

    def restore(self, name: str, content: bytes | None) -> None:
        if content is None:
            self.path(name).unlink(missing_ok=True)
        elif self.read(name) != content:
            replace_private(self.path(name), content)

    @property
    def record(self) -> Path:
        return self._folder / "digest"

    def published(self) -> Published | None:
        """What was published last; None when nothing was, or publishing did not come to its end."""
        try:
            return msgspec.json.decode(self.record.read_bytes(), type=Published)
        except (FileNotFoundError, ValueError):  # a damaged record is none
            return None

    def digest_of(self, name: str) -> str:
        """The SHA-256 of a file as it is, read again only when it was written since: it is asked for all the time."""
        path = self.path(name)
        try:
            found = path.stat()
        except FileNotFoundError:
            return digest(b"")
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
        known = self._digests.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        found_digest = digest(self.read(name) or b"")
        if (
            time.time_ns() - found.st_mtime_ns > _SETTLED_NS
        ):  # it may be written again within a tick of the clock
            self._digests[name] = stamp, found_digest
        return found_digest

    def is_sound(self, name: str) -> bool:
        """Whether a watched file is whole and, as far as is known, the one that was published."""
        content, record = self.read_whole(name), self.published()
        return content is not None and (record is None or record.files.get(name) == digest(content))

    def is_in_place(self, named: str) -> bool:
        """Whether this was published last and every file still holds exactly that."""
        record = self.published()
        return (
            record is not None
            and record.digest == named
            and all(record.files.get(name) == self.digest_of(name) for name in (*FILES, "bootstrap"))
        )

    def stamps(self) -> tuple[object, ...]:
        """What tells whether anybody has touched a file since: cheaper to ask than what is in them."""
        found: list[object] = []
        for path in (*(self.path(name) for name in (*FILES, "bootstrap")), self.record):
            try:
                one = path.stat()
                found.append((one.st_ino, one.st_mtime_ns, one.st_ctime_ns, one.st_size))
            except FileNotFoundError:
                found.append(None)
        return tuple(found)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def version_in(name: str, content: bytes) -> str | None:
    """The version of a watched file as it was rendered, the digest of its resources; None for any other."""
    if name in AS_BYTES:
        return version_of(content)
    try:
        document = msgspec.json.decode(content)
        is_whole = bool(document == versioned(document["resources"]))
        return str(document["version_info"]) if is_whole else None
    except (ValueError, TypeError, LookupError):  # no JSON, or no file of ours
        return None
