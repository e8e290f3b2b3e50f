"""A repository's objects: reading what paths hold at a ref, and staging changes on a branch."""

from __future__ import annotations

import builtins  # in this class `list` is what lists entries
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pyarrow as pa
from msgspec.structs import replace

from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, LimitExceeded, NotFound
from tulle.lake.draft import Draft
from tulle.lake.entry import (
    Change,
    Entry,
    Page,
    checked_path,
    encode_metadata,
    encoded_text,
    successor,
)
from tulle.lake.grouping import Work
from tulle.lake.handle import Handle
from tulle.lake.links import Link
from tulle.lake.ranges import row_of, tombstone
from tulle.lake.writing import Condition, DataPath, Permit

MAX_PAGE = 10_000
SMALL_BYTES = 256 * 1024  # of data that is written before it is asked whether it may be
MOVES = 20  # tries, where others write to the path that is moved
ADDRESS_SECONDS = 86_400.0  # an issued address is to be linked within a day


class Objects(Handle):
    """Objects of one repository."""

    # ── reading ──────────────────────────────────────────────────────────────────────────────────────────

    def get(self, ref: str, path: str) -> bytes:
        """The bytes at a path. NotFound."""
        return b"".join(self.open(ref, path))

    def open(self, ref: str, path: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes at a path in pieces of a few MiB, or only those from `start` up to (without) `end`."""
        return self.read(self.stat(ref, path), start, end)

    def read(self, entry: Entry, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The bytes of an entry in pieces of a few MiB."""
        return self.writer.read(entry, start, end)

    def stat(self, ref: str, path: str) -> Entry:
        """The entry at a path. NotFound."""
        encoded = checked_path(path)
        with self.reader.view(ref) as view:
            entry = view.find(encoded)
        if entry is None:
            raise NotFound(f"there is no '{path}' at '{ref}' in repository '{self.name}'")
        return entry

    def exists(self, ref: str, path: str) -> bool:
        """Whether there is something at a path."""
        encoded = checked_path(path)
        with self.reader.view(ref) as view:
            return view.find(encoded) is not None

    def list(
        self, ref: str, prefix: str = "", after: str = "", limit: int = 1000, delimiter: str = ""
    ) -> Page:
        """A page of at most `limit` entries under `prefix`, those after `after` in path order.

        With a `delimiter`, what lies below the next one after the prefix is told as one prefix.
        """
        if not 1 <= limit <= MAX_PAGE:
            raise Invalid(f"a page of {limit} entries was asked for", hint=f"ask for 1 to {MAX_PAGE}")
        with self.reader.view(ref) as view:
            return view.page(encoded_text(prefix), encoded_text(after), limit, encoded_text(delimiter))

    def entries(self, ref: str, prefix: str = "") -> Iterator[Entry]:
        """Every entry under `prefix` in path order, as it was when this was called."""
        start = encoded_text(prefix)
        return self.reader.snapshot(ref, start).entries(start)

    def files(self, ref: str, prefix: str = "") -> builtins.list[str]:
        """Where the data under `prefix` is, in path order: local file names or URLs an engine can open."""
        return [self.location(entry) for entry in self.entries(ref, prefix)]

    def location(self, entry: Entry) -> str:
        """Where the data of an entry is: a local file name or a URL an engine can open."""
        return self.writer.location(entry)

    def physical_address(self, entry: Entry) -> str:
        """The URL of an entry's data."""
        place = self.location(entry)
        return f"local://{place}" if place.startswith("/") else place

    def signed_url(self, entry: Entry, seconds: float) -> str | None:
        """A URL of the store that reads the entry's data without other credentials; None where there is none."""
        return self.writer.signed_url(entry.address, "GET", seconds)

    # ── staging ──────────────────────────────────────────────────────────────────────────────────────────

    def draft(self, ref: str) -> Draft:
        """Changes to what is at a ref now, put together aside; `commit_draft` puts them on a branch."""
        return Draft(self, self.reader.snapshot(ref))

    def put(
        self,
        branch: str,
        path: str,
        data: bytes | Iterable[bytes] | Path,
        *,
        content_type: str = "",
        metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
        md5: str | None = None,
        sha256: str | None = None,
        etag: str | None = None,
        also: Work | None = None,
    ) -> Entry:
        """Store data and stage it under a path; durable when this returns.

        With `if_absent`, AlreadyExists when something is there, also when somebody else is quicker; with
        `if_match`, PreconditionFailed unless what is there has that etag. `md5` and `sha256` (hex) are what the
        data must have, else Invalid; `etag` is recorded in place of its MD5. `also` is done in the transaction that
        stages it, maybe more than once: it must change nothing but the database, and undoes all by raising.
        """
        condition = Condition.of(if_absent, if_match)
        is_small = isinstance(data, bytes) and len(data) <= SMALL_BYTES
        if not is_small or self.record.settings.get("quota"):  # refuse before much is written
            self._guard(branch, protected=True, size=len(data) if isinstance(data, bytes) else 1)
            if condition is not None:
                condition.check(self._find(branch, path), path, branch)
        entry = self.writer.store(
            path, data, content_type=content_type, metadata=metadata, md5=md5, sha256=sha256, etag=etag
        )
        permit = Permit(self.force, lambda cx: self._permit(cx, branch, protected=True))
        try:
            self.writer.stage(branch, [entry], condition, also=also, permit=permit)
        except (AlreadyExists, Conflict, Denied, LimitExceeded, NotFound):  # nobody will ever ask for it
            self.writer.discard(entry)
            raise
        return entry

    def put_many(
        self, branch: str, items: Iterable[tuple[str, bytes | Iterable[bytes] | Path]]
    ) -> builtins.list[Entry]:
        """Store and stage several at once: all of them are staged, or none."""
        quota = self._guard(branch, protected=True)
        entries = [self.writer.store(path, data) for path, data in items]
        self.writer.stage(branch, entries, charge=quota)
        return entries

    def new_data_path(self, suffix: str = ".parquet") -> DataPath:
        """A place nothing was written to yet, for an engine that writes straight to the store; then `link` it."""
        return self.writer.new_data_path(suffix)

    def link(
        self,
        branch: str,
        path: str,
        address: str,
        *,
        size: int | None = None,
        checksum: str | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
        etag: str = "",
    ) -> Entry:
        """Stage data that is in place already under a path, without copying it; see `link_many`."""
        link = Link(path, address, size, checksum or "", etag, content_type, metadata)
        return self.link_many(branch, [link])[0]

    def link_many(self, branch: str, links: Iterable[Link]) -> builtins.list[Entry]:
        """Stage data that is in place already, without copying it: all of it, or none.

        An address in this lake must exist; it is made durable before this returns, and its true size is
        recorded (Invalid when another was stated). An address outside must begin with one of the prefixes the
        lake was opened with, and is believed when its size is stated. `checksum` is SHA-256 in hex.
        """
        quota = self._guard(branch, protected=True)
        entries = self.writer.linked(links)
        self.writer.stage(branch, entries, charge=quota)
        return entries

    def link_table(self, branch: str, table: pa.Table) -> int:
        """Like `link_many` for an Arrow table of links (see `links`), at a million rows a second.

        All of it is staged or nothing; returns how many paths that were.
        """
        self._guard(branch, protected=True)
        return self.writer.stage_table(branch, table)

    def issue_address(
        self, branch: str, path: str, suffix: str = "", *, seconds: float = ADDRESS_SECONDS
    ) -> DataPath:
        """A place to write to, straight to the store, for a writer that then links it with `link_issued`."""
        self._guard(branch, protected=True)
        return self.writer.issue(branch, path, suffix, seconds)

    def link_issued(
        self,
        branch: str,
        path: str,
        address: str,
        *,
        size: int | None = None,
        checksum: str = "",
        etag: str = "",
        metadata: Mapping[str, str] | None = None,
        content_type: str = "",
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> Entry:
        """Stage what was written to an issued place, by its address or its URL; uses the place up.

        NotFound when it was not issued, was linked already or its time is up; else as `link` and `put`.
        """
        quota = self._guard(branch, protected=True)
        prefix = self.physical_address(Entry("", "data/x", 0)).removesuffix("data/x")
        link = Link(path, address.removeprefix(prefix), size, checksum, etag, content_type, metadata)
        return self.writer.stage_issued(branch, link, Condition.of(if_absent, if_match), charge=quota)

    def copy(
        self,
        branch: str,
        src_ref: str,
        src: str,
        dest: str,
        *,
        source: Objects | None = None,
        metadata: Mapping[str, str] | None = None,
        content_type: str | None = None,
        if_absent: bool = False,
        if_match: str | None = None,
    ) -> Entry:
        """Stage under `dest` what is at `src`, here or in another repository of the lake; no data is copied.

        `metadata` and `content_type` replace those of the source where they are given.
        """
        self._guard(branch, protected=True)
        origin = source or self
        entry = self.writer.copied(origin.stat(src_ref, src), dest, origin.writer)
        if metadata is not None:
            encode_metadata(metadata)
            entry = replace(entry, metadata=dict(metadata))
        if content_type is not None:
            entry = replace(entry, content_type=content_type)
        self.writer.stage(branch, [entry], Condition.of(if_absent, if_match))
        return entry

    def move(self, branch: str, src: str, dest: str, *, if_absent: bool = False) -> Entry:
        """Put what is at `src` under `dest` instead, in one step; no data is copied. NotFound."""
        self._guard(branch, protected=True)
        if src == dest:
            raise Invalid(f"'{src}' is there already")
        for _ in range(MOVES):
            found = self.stat(branch, src)
            entry = self.writer.copied(found, dest, self.writer)
            rows = [row_of(entry), tombstone(checked_path(src))]
            if self.writer.stage_move(branch, rows, found, Condition.of(if_absent, None)):
                return entry
        raise Conflict(f"'{src}' on branch '{branch}' changes all the time", hint="try again")

    def set_object_metadata(self, branch: str, path: str, metadata: Mapping[str, str]) -> Entry:
        """Stage other metadata for what is at a path. NotFound."""
        self._guard(branch, protected=True)
        encode_metadata(metadata)
        found = self.stat(branch, path)
        entry = self.writer.described(found, metadata)
        self.writer.stage(branch, [entry], Condition(etag=found.tag))
        return entry

    def delete(self, branch: str, path: str) -> None:
        """Stage the removal of a path. NotFound when there is nothing."""
        encoded = checked_path(path)
        self._guard(branch, protected=True)
        if not self.exists(branch, path):
            raise NotFound(f"there is no '{path}' on branch '{branch}' of repository '{self.name}'")
        self.writer.stage_rows(branch, [tombstone(encoded)])

    def delete_entry(self, branch: str, entry: Entry) -> bool:
        """Stage the removal of what is at an entry's path if it is that entry still; whether it was."""
        encoded = checked_path(entry.path)
        self._guard(branch, protected=True)
        return self.writer.stage_move(branch, [tombstone(encoded)], entry, None)

    def delete_many(self, branch: str, paths: Iterable[str]) -> builtins.list[str]:
        """Stage the removal of several paths, all at once; returns those where nothing was."""
        wanted = {checked_path(path) for path in paths}
        self._guard(branch, protected=True)
        with self.reader.view(branch) as view:
            found = {path for path in wanted if view.find(path) is not None}
        self.writer.stage_rows(branch, [tombstone(path) for path in sorted(found)])
        return [path.decode() for path in sorted(wanted - found)]

    def delete_prefix(self, branch: str, prefix: str) -> int:
        """Stage the removal of everything under a prefix and return how much that was."""
        start = encoded_text(prefix)
        self._guard(branch, protected=True)
        view = self.reader.snapshot(branch, start)
        rows = [
            tombstone(chunk.path(position))
            for chunk in view.chunks(start, successor(start))
            for position in range(chunk.rows)
        ]
        self.writer.stage_rows(branch, rows)
        return len(rows)

    def status(self, branch: str) -> builtins.list[Change]:
        """What committing the branch now would change, in path order."""
        return self.reader.staged_changes(branch)

    def changes_of(
        self, branch: str, *, prefix: str = "", after: str = "", limit: int = 1000
    ) -> tuple[builtins.list[Change], bool]:
        """A page of what committing the branch now would change, and whether there is more."""
        found = self.reader.staged_changes(branch, encoded_text(prefix), encoded_text(after), limit + 1)
        return found[:limit], len(found) > limit

    def reset(self, branch: str, prefix: str | None = None, *, path: str | None = None) -> None:
        """Forget what is staged on a branch: everything, what lies under `prefix`, or what is at `path`."""
        self._guard(branch)
        self._mover.drop_staged(
            branch,
            None if prefix is None else encoded_text(prefix),
            None if path is None else encoded_text(path),
        )

    def _find(self, ref: str, path: str) -> Entry | None:
        encoded = checked_path(path)
        with self.reader.view(ref) as view:
            return view.find(encoded)
