"""The rules of objects: writing, copying, moving, removing, linking, resetting."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pyarrow as pa
from hypothesis import strategies as st
from hypothesis.stateful import rule
from tests.model.machine import (
    Machine,
    branches,
    conditions,
    contents,
    notes,
    numbers,
    one_of,
    paths,
    prefixes,
    refs,
    some_path,
    types,
    written,
)
from tests.model.model import Issued, Thing, in_order

from tulle.errors import AlreadyExists, Invalid, NotFound, TulleError
from tulle.lake.repository import Link

ADDRESS_KINDS = ["plain", "checksum", "etag", "both"]


class Objects(Machine):
    """What users do with paths of a branch."""

    @rule(branch=branches, path=paths, data=contents)
    def put(self, branch: str, path: str, data: bytes) -> None:
        self.stage_data(branch, path, data)

    @rule(
        branch=branches,
        number=numbers,
        data=contents,
        metadata=notes,
        content_type=types,
        how=conditions,
        in_pieces=st.booleans(),
    )
    def put_with(
        self,
        branch: str,
        number: int,
        data: bytes,
        metadata: dict[str, str],
        content_type: str,
        how: str,
        in_pieces: bool,
    ) -> None:
        path = some_path(self.model.seen(branch), number)
        keywords, refusal = self.condition(how, self.model.seen(branch).get(path))
        given = (data[at : at + 1] for at in range(len(data))) if in_pieces else data
        entry = self.tried(
            lambda: self.repository.put(
                branch, path, given, metadata=metadata, content_type=content_type, **keywords
            ),
            refusal,
        )
        if entry is not None:
            self.stage(branch, entry, written(data, content_type, metadata))

    @rule(branch=branches, path=paths, data=contents, sum_=st.sampled_from(["md5", "sha256"]))
    def put_damaged(self, branch: str, path: str, data: bytes, sum_: str) -> None:
        wrong = hashlib.new(sum_, data + b"!").hexdigest()
        self.tried(lambda: self.repository.put(branch, path, data, **{sum_: wrong}), Invalid, "was stated")

    @rule(branch=branches, items=st.lists(st.tuples(paths, contents), min_size=1, max_size=12))
    def put_many(self, branch: str, items: list[tuple[str, bytes]]) -> None:
        for entry, (_, data) in zip(self.repository.put_many(branch, items), items, strict=True):
            self.stage(branch, entry, written(data))

    # ── removing ─────────────────────────────────────────────────────────────────────────────────────────

    @rule(branch=branches, number=numbers)
    def delete(self, branch: str, number: int) -> None:
        path = some_path(self.model.seen(branch), number)
        is_there = path in self.model.seen(branch)
        self.tried(lambda: self.repository.delete(branch, path), None if is_there else NotFound)
        if is_there:
            self.model.staged[branch][path] = None

    @rule(branch=branches, wanted=st.lists(paths, max_size=6))
    def delete_many(self, branch: str, wanted: list[str]) -> None:
        there = self.model.seen(branch)
        missing = self.repository.delete_many(branch, wanted)
        assert missing == in_order(set(wanted) - set(there))
        self.model.staged[branch].update({path: None for path in wanted if path in there})

    @rule(branch=branches, number=numbers, is_stale=st.booleans())
    def delete_entry(self, branch: str, number: int, is_stale: bool) -> None:
        path = some_path(self.model.seen(branch), number)
        if path not in self.model.seen(branch):
            return
        entry = self.repository.stat(branch, path)
        if is_stale:
            self.stage_data(branch, path, b"newer")
        assert self.repository.delete_entry(branch, entry) is not is_stale
        if not is_stale:
            self.model.staged[branch][path] = None

    @rule(branch=branches, prefix=prefixes)
    def delete_prefix(self, branch: str, prefix: str) -> None:
        gone = [path for path in self.model.seen(branch) if path.startswith(prefix)]
        assert self.repository.delete_prefix(branch, prefix) == len(gone)
        self.model.staged[branch].update(dict.fromkeys(gone))

    @rule(branch=branches, prefix=st.none() | prefixes)
    def reset(self, branch: str, prefix: str | None) -> None:
        self.repository.reset(branch, prefix)
        kept = {} if prefix is None else self.model.staged[branch]
        self.model.staged[branch] = {p: t for p, t in kept.items() if not p.startswith(prefix or "")}

    @rule(branch=branches, number=numbers, writes=st.dictionaries(paths, contents, max_size=5))
    def reset_path(self, branch: str, number: int, writes: dict[str, bytes]) -> None:
        for path, data in writes.items():
            self.stage_data(branch, path, data)
        staged = self.model.staged[branch]
        path = one_of(in_order(staged), number) or "a"
        self.repository.reset(branch, path=path)
        if path in staged:
            self.note("reset of one object")
            del staged[path]

    # ── without moving bytes ─────────────────────────────────────────────────────────────────────────────

    @rule(
        branch=branches,
        source=refs,
        number=numbers,
        dest=paths,
        metadata=st.none() | notes,
        content_type=st.none() | types,
        how=conditions,
    )
    def copy(
        self,
        branch: str,
        source: str,
        number: int,
        dest: str,
        metadata: dict[str, str] | None,
        content_type: str | None,
        how: str,
    ) -> None:
        path = some_path(self.model.seen(source), number)
        found = self.model.seen(source).get(path)
        keywords, refusal = self.condition(how, self.model.seen(branch).get(dest))
        entry = self.tried(
            lambda: self.repository.copy(
                branch, source, path, dest, metadata=metadata, content_type=content_type, **keywords
            ),
            NotFound if found is None else refusal,
        )
        if entry is not None and found is not None:
            assert entry.path == dest
            if metadata is not None:
                found = replace(found, metadata=tuple(sorted(metadata.items())))
            if content_type is not None:
                found = replace(found, content_type=content_type)
            self.stage(branch, entry, found)

    @rule(branch=branches, number=numbers, dest=paths, ref=numbers, let_go=st.booleans())
    def copy_from_the_other(self, branch: str, number: int, dest: str, ref: int, let_go: bool) -> None:
        there = self.other.model
        source = one_of(there.refs(), ref) or "main"
        path = some_path(there.seen(source), number)
        if let_go:  # afterwards only the copy names the data
            source, path = "main", "let/go"
            self.stage_data(source, path, b"go", side=self.other)
        found = there.seen(source).get(path)
        entry = self.tried(
            lambda: self.repository.copy(branch, source, path, dest, source=self.other.repository),
            NotFound if found is None else None,
        )
        if entry is not None and found is not None:
            storage = self.other.repository.record.storage
            is_lake = found.address.startswith("lake:")
            address = found.address if is_lake else f"lake:{storage}/{found.address}"
            self.note("copied back" if is_lake else "copied across")
            self.stage(branch, entry, replace(found, address=address))
        if let_go:
            self.other.repository.reset(source, path=path)
            del there.staged[source][path]

    @rule(branch=branches, number=numbers, dest=paths, if_absent=st.booleans())
    def move(self, branch: str, number: int, dest: str, if_absent: bool) -> None:
        there = self.model.seen(branch)
        path = some_path(there, number)
        refusal: type[TulleError] | None = None
        if path == dest:
            refusal = Invalid
        elif path not in there:
            refusal = NotFound
        elif if_absent and dest in there:
            refusal = AlreadyExists
        entry = self.tried(lambda: self.repository.move(branch, path, dest, if_absent=if_absent), refusal)
        if entry is not None:
            assert entry.path == dest
            self.stage(branch, entry, there[path])
            self.model.staged[branch][path] = None

    @rule(branch=branches, number=numbers, metadata=notes)
    def set_object_metadata(self, branch: str, number: int, metadata: dict[str, str]) -> None:
        path = some_path(self.model.seen(branch), number)
        found = self.model.seen(branch).get(path)
        entry = self.tried(
            lambda: self.repository.set_object_metadata(branch, path, metadata),
            NotFound if found is None else None,
        )
        if entry is not None and found is not None:
            self.stage(branch, entry, replace(found, metadata=tuple(sorted(metadata.items()))))

    # ── linking ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        branch=branches,
        path=paths,
        data=contents,
        known=st.sampled_from(ADDRESS_KINDS),
        size=st.sampled_from(["told", "unknown", "wrong"]),
        content_type=types,
        metadata=notes,
    )
    def link(
        self,
        branch: str,
        path: str,
        data: bytes,
        known: str,
        size: str,
        content_type: str,
        metadata: dict[str, str],
    ) -> None:
        address = self.laid(data)
        self._link(branch, path, self._known(data, known, content_type, metadata, address), size)

    @rule(branch=branches, path=paths, number=numbers)
    def link_again(self, branch: str, path: str, number: int) -> None:
        """What one path holds already is put under another, by its address."""
        there = self.model.seen(branch)
        if (source := one_of(in_order(there), number)) is not None:
            self._link(branch, path, there[source], "told")

    def _link(self, branch: str, path: str, thing: Thing, size: str) -> None:
        entry = self.tried(
            lambda: self.repository.link(
                branch,
                path,
                thing.address,
                size={"told": len(thing.data), "wrong": len(thing.data) + 1}.get(size),
                checksum=thing.checksum,
                metadata=dict(thing.metadata),
                content_type=thing.content_type,
                etag=thing.etag,
            ),
            Invalid if size == "wrong" else None,
        )
        if entry is not None:
            self.stage(branch, entry, thing)

    def _known(
        self, data: bytes, known: str, content_type: str, metadata: dict[str, str], address: str
    ) -> Thing:
        etag = f"e{len(data)}" if known in {"etag", "both"} else ""
        checksum = hashlib.sha256(data).hexdigest() if known in {"checksum", "both"} else ""
        return Thing(data, address, etag, checksum, content_type, tuple(sorted(metadata.items())))

    @rule(branch=branches, items=st.lists(st.tuples(paths, contents), max_size=14), wrong=st.booleans())
    def link_many(self, branch: str, items: list[tuple[str, bytes]], wrong: bool) -> None:
        things = [self._known(data, "both", "", {}, self.laid(data)) for _, data in items]
        links = [
            Link(path, thing.address, len(thing.data), thing.checksum, thing.etag)
            for (path, _), thing in zip(items, things, strict=True)
        ]
        if wrong:  # one of them, so none of them is linked
            links.append(Link("zz", "data/nowhere/1"))
        entries = self.tried(lambda: self.repository.link_many(branch, links), NotFound if wrong else None)
        for entry, thing in zip(entries or [], things, strict=not wrong):
            self.stage(branch, entry, thing)

    @rule(branch=branches, items=st.lists(st.tuples(paths, contents), max_size=14))
    def link_table(self, branch: str, items: list[tuple[str, bytes]]) -> None:
        things = {path: self._known(data, "etag", "", {}, self.laid(data)) for path, data in items}
        # Twice the same: of equal paths the last row counts.
        rows = [(path, replace(thing, etag="old")) for path, thing in things.items()] + list(things.items())
        assert self.repository.link_table(branch, table_of(rows)) == len(things)
        self.model.staged[branch].update(things)

    @rule(branch=branches, path=paths, data=contents)
    def issue_address(self, branch: str, path: str, data: bytes) -> None:
        place = self.repository.issue_address(branch, path)
        self.blobs.put(self.repository.writer.blob(place.address), data)
        self.model.issued.append(Issued(place.address, place.url, data))

    @rule(
        branch=branches,
        path=paths,
        number=numbers,
        how=conditions,
        is_right=st.booleans(),
        by_url=st.booleans(),
    )
    def link_issued(
        self, branch: str, path: str, number: int, how: str, is_right: bool, by_url: bool
    ) -> None:
        issued = one_of(self.model.issued, number)
        if issued is None:
            return
        keywords, refusal = self.condition(how, self.model.seen(branch).get(path))
        size = len(issued.data) + (not is_right)
        given = issued.url if by_url else issued.address

        def work() -> object:
            return self.repository.link_issued(branch, path, given, size=size, etag="e", **keywords)

        entry = self.tried(work, refusal if is_right else Invalid)
        if entry is not None:
            self.note("issued address linked")
            self.stage(branch, entry, Thing(issued.data, issued.address, "e", ""))
            self.model.issued.remove(issued)
            keywords = {}
            self.tried(work, NotFound, "linked already")


def table_of(rows: list[tuple[str, Thing]]) -> pa.Table:
    """A table of links."""
    columns = {
        "path": pa.array([path for path, _ in rows], pa.string()),
        "address": pa.array([thing.address for _, thing in rows], pa.string()),
        "size": pa.array([len(thing.data) for _, thing in rows], pa.int64()),
        "checksum": pa.array([thing.checksum for _, thing in rows], pa.string()),
        "etag": pa.array([thing.etag for _, thing in rows], pa.string()),
        "content_type": pa.array([thing.content_type for _, thing in rows], pa.string()),
    }
    return pa.table(columns)
