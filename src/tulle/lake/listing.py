"""Listing a place outside of the lake as Arrow batches, in the byte order of its keys, from any key on.

A place is a folder of this machine or a prefix of an object store. A listing only reads. What can never become a
path of the lake is noted with its name and left out, so that one pass tells all that is wrong. Knows nothing of
repositories.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tulle.errors import Invalid, NotFound, Problem, Unavailable
from tulle.lake.blobs import StoreBlobs, raise_disk_error

BATCH_ROWS = 32_768
MANY_NAMES = 262_144  # names of one folder are kept as Python objects up to here
HEADS_AT_ONCE = 16
SHOWN = 20

SCHEMA = pa.schema(
    [
        pa.field("key", pa.binary()),  # below the place
        pa.field("address", pa.string()),
        pa.field("size", pa.int64()),
        pa.field("etag", pa.string()),
        pa.field("modified", pa.int64()),  # microseconds since the epoch
    ]
)


@dataclass(slots=True)
class Oddities:
    """What a listing met that cannot be a path of the lake: how many of each sort, and the first names."""

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def note(self, sort: str, name: bytes | str) -> None:
        """One more of a sort."""
        self.counts[sort] = self.counts.get(sort, 0) + 1
        shown = self.names.setdefault(sort, [])
        if len(shown) < SHOWN:
            shown.append(repr(name)[1:] if isinstance(name, bytes) else repr(name))

    def refuse(self, what: str) -> None:
        """Invalid, naming what was met, if anything was."""
        if not self.counts:
            return
        told = ", ".join(f"{count} {sort}" for sort, count in sorted(self.counts.items()))
        problems = [Problem(f"{sort}: {name}") for sort in sorted(self.names) for name in self.names[sort]]
        raise Invalid(
            f"{what} cannot be taken as it is: {told}; first {problems[0].message}",
            hint="rename or remove them at the source, or name the folders to be taken one by one",
            problems=problems,
        )


class Place(Protocol):
    """Something that can be listed."""

    def batches(self, after: bytes = b"") -> Iterator[pa.RecordBatch]:
        """Everything after a key, as batches of SCHEMA."""
        ...

    def one(self, key: str) -> dict[str, Any]:
        """One object, as a row of SCHEMA. NotFound."""
        ...


class LocalPlace:
    """A folder of this machine. Symbolic links are followed to files inside the folder, nowhere else."""

    def __init__(self, folder: Path, oddities: Oddities) -> None:
        self._folder = folder
        self._root = os.path.realpath(os.fsencode(folder))
        self._oddities = oddities
        self._prefix = self._root.rstrip(b"/") + b"/"

    def batches(self, after: bytes = b"") -> Iterator[pa.RecordBatch]:
        """Every file below the folder."""
        try:
            descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY)
        except (FileNotFoundError, NotADirectoryError):
            raise NotFound(f"there is no folder {self._folder}") from None
        except OSError as exc:
            raise_disk_error(exc, self._folder)
        found = _Found(self._prefix)
        try:
            yield from self._below(descriptor, b"", after, found)
        finally:
            os.close(descriptor)
        if found.keys:
            yield self._batch(found)

    def one(self, key: str) -> dict[str, Any]:
        """One file."""
        name = os.fsencode(key)
        found = _Found(self._prefix)
        try:
            self._file(None, name, name, found)
        except (FileNotFoundError, NotADirectoryError):
            found.keys.clear()
        except OSError as exc:
            raise_disk_error(exc, self._folder / key)
        if not found.keys:
            self._oddities.refuse(f"{self._folder}/{key}")
            raise NotFound(f"there is no file {self._folder}/{key}")
        return dict(self._batch(found).to_pylist()[0])

    def _below(self, folder: int, prefix: bytes, after: bytes, found: _Found) -> Iterator[pa.RecordBatch]:
        for name in _names(folder):
            key = prefix + name
            if key <= after and not (name.endswith(b"/") and after.startswith(key)):
                continue  # a folder that is before the key is there in whole
            if not name.endswith(b"/"):
                with contextlib.suppress(FileNotFoundError):  # removed while we were walking
                    self._file(folder, name, key, found)
                if len(found.keys) >= BATCH_ROWS:
                    yield self._batch(found)
            elif self._may_descend(key):
                try:
                    below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
                except FileNotFoundError:
                    continue
                except OSError as exc:
                    raise_disk_error(exc, self._folder / os.fsdecode(key))
                try:
                    yield from self._below(below, key, after, found)
                finally:
                    os.close(below)

    def _may_descend(self, key: bytes) -> bool:
        if len(key) > 1024:
            self._oddities.note("name(s) longer than 1024 bytes", key)
            return False
        return self._is_text(key)

    def _is_text(self, key: bytes) -> bool:
        try:
            key.decode()
        except UnicodeDecodeError:
            self._oddities.note("name(s) that are not UTF-8", key)
            return False
        return True

    def _file(self, folder: int | None, name: bytes, key: bytes, found: _Found) -> None:
        where = name if folder is not None else self._prefix + name
        status = os.stat(where, dir_fd=folder, follow_symlinks=False)
        address = b""
        if folder is None and os.path.realpath(where) != where:
            status = os.stat_result((stat.S_IFLNK, *status[1:]))  # some folder on the way is a link
        if stat.S_ISLNK(status.st_mode):
            address = os.path.realpath(self._prefix + key)
            if not address.startswith(self._prefix):
                self._oddities.note("symbolic link(s) that lead out of the folder", key)
                return
            status = os.lstat(address)
        if not stat.S_ISREG(status.st_mode):
            self._oddities.note("special file(s) or link(s) to folders", key)
        elif self._is_text(key) and self._is_text(address):
            changed = status.st_mtime_ns // 1000
            found.keys.append(key)
            found.targets.append(address or None)
            found.sizes.append(status.st_size)
            found.times.append(changed)
            found.etags.append(f"{status.st_ino:x}-{changed:x}-{status.st_size:x}")

    def _batch(self, found: _Found) -> pa.RecordBatch:
        keys = pa.array(found.keys, pa.binary())
        own = pc.binary_join_element_wise(b"local://" + self._prefix, keys, b"")
        if any(found.targets):
            targets = pa.array([t and b"local://" + t for t in found.targets], pa.binary())
            own = pc.coalesce(targets, own)
        batch = pa.RecordBatch.from_arrays(
            [
                keys,
                own.cast(pa.string()),
                pa.array(found.sizes, pa.int64()),
                pa.array(found.etags, pa.string()),
                pa.array(found.times, pa.int64()),
            ],
            schema=SCHEMA,
        )
        found.clear()
        return batch


class _Found:
    """Files that were found and are not in a batch yet."""

    def __init__(self, prefix: bytes) -> None:
        self.prefix = prefix
        self.clear()

    def clear(self) -> None:
        self.keys: list[bytes] = []
        self.targets: list[bytes | None] = []
        self.sizes: list[int] = []
        self.times: list[int] = []
        self.etags: list[str] = []


class StorePlace:
    """A prefix of an object store. Keys that are no plain paths are noted."""

    def __init__(self, blobs: StoreBlobs, url: str, oddities: Oddities) -> None:
        self._blobs = blobs
        self._url = url.rstrip("/")
        self._oddities = oddities

    def batches(self, after: bytes = b"") -> Iterator[pa.RecordBatch]:
        """Every object below the prefix."""
        try:
            for items in self._blobs.list_after(after.decode(), BATCH_ROWS):
                kept = self._without_markers(items)
                yield self._batch([item["path"] for item in kept], kept)
        except Unavailable as exc:
            if (
                "invalid path" in exc.message
            ):  # an empty segment, `.` or `..`; the store's client stops at the first
                raise Invalid(f"{self._url} holds an object whose key is no path: {exc.message}") from None
            raise

    def one(self, key: str) -> dict[str, Any]:
        """One object."""
        try:
            item = self._blobs.head(key)
        except NotFound:
            raise NotFound(f"there is no object {self._url}/{key}") from None
        return dict(self._batch([key], [item]).to_pylist()[0])

    def _without_markers(self, items: Sequence[Any]) -> Sequence[Any]:
        """Items without empty objects that stand for folders: their keys end with a slash, which we are not told."""
        empty = [item["path"] for item in items if not item["size"]]
        if not empty:
            return items
        with ThreadPoolExecutor(HEADS_AT_ONCE, thread_name_prefix="listing") as pool:
            markers = {
                key for key, real in zip(empty, pool.map(self._is_there, empty), strict=True) if not real
            }
        return [item for item in items if item["size"] or item["path"] not in markers]

    def _is_there(self, key: str) -> bool:
        try:
            self._blobs.head(key)
        except NotFound:
            return False
        return True

    def _batch(self, keys: Sequence[str], items: Sequence[Any]) -> pa.RecordBatch:
        texts = pa.array(keys, pa.string())
        times = pa.array([item["last_modified"] for item in items], pa.timestamp("us", tz="UTC"))
        etags = [(item.get("e_tag") or "").removeprefix("W/").strip('"') for item in items]
        return pa.RecordBatch.from_arrays(
            [
                texts.cast(pa.binary()),
                pc.binary_join_element_wise(self._url, texts, "/"),
                pa.array([item["size"] for item in items], pa.int64()),
                pa.array(etags, pa.string()),
                times.cast(pa.int64()),
            ],
            schema=SCHEMA,
        )


def _names(folder: int) -> Iterator[bytes]:
    """The names in a folder in the order of the paths below it: those of folders with a slash at their end."""
    names: list[bytes] = []
    packed: list[pa.Array] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            names.append(name + b"/" if entry.is_dir(follow_symlinks=False) else name)
            if len(names) >= MANY_NAMES:
                packed.append(pa.array(names, pa.binary()))
                names = []
    if not packed:
        names.sort()
        yield from names
        return
    packed.append(pa.array(names, pa.binary()))
    every = pa.chunked_array(packed)
    order = pc.sort_indices(every)
    for start in range(0, len(order), BATCH_ROWS):
        yield from every.take(order.slice(start, BATCH_ROWS)).to_pylist()
