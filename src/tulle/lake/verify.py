"""Verifying: every blob that tells what commits hold is read and its identity computed anew.

Damage is reported by the blob's name with the commits and refs it affects; it never hides the rest. With `data`,
data objects are read too and compared by size and SHA-256. Nothing is changed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import select

from tulle.errors import TulleError
from tulle.lake import ranges, refs
from tulle.lake.blobs import read_chunks
from tulle.lake.entry import Entry
from tulle.lake.manifest import Manifest, ManifestStore
from tulle.lake.ranges import Range
from tulle.lake.repository import Lake, Repository
from tulle.lake.runs import RunCaches, RunRef, RunStore
from tulle.state.tables import lake_branches, lake_commits, lake_tags

SHOWN = 20


@dataclass(slots=True)
class Damage:
    """One damaged or missing blob: its name in the store, what is wrong, and what it affects (the first of each)."""

    blob: str
    reason: str
    refs: list[str] = field(default_factory=list)
    commits: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Verification:
    """What was looked at and what is wrong with it."""

    manifests: int
    runs: int
    objects: int
    damages: tuple[Damage, ...]

    @property
    def is_sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.damages


def verify(lake: Lake, repository: str, *, data: bool = False) -> Verification:
    """Check everything the repository's commits, expired ones not, are made of. NotFound without the repository."""
    return _Verifier(lake.repository(repository), data).run()


class _Verifier:
    def __init__(self, repository: Repository, data: bool) -> None:
        self._repository = repository
        self._data = data
        caches = RunCaches(8 * 1024 * 1024)  # of our own, so that the store itself is read
        blobs, storage = repository.reader.blobs, repository.record.storage
        self._runs = RunStore(blobs, storage, caches)
        self._manifests = ManifestStore(blobs, storage, self._runs, caches)
        self._folder = f"{storage}/_tulle"
        self._damages: dict[str, Damage] = {}
        self._sound: set[str] = set()
        self._inside: dict[str, list[str]] = {}  # what of a run, or of a manifest, is damaged
        self._objects: dict[str, str] = {}  # by blob: "" when it is sound

    def run(self) -> Verification:
        heads, commits = self._commits()
        for id_, name in commits.items():
            for blob in self._check(name):
                damage = self._damages[blob]
                if len(damage.commits) < SHOWN:
                    damage.commits.append(id_)
                damage.refs.extend(ref for ref in heads.get(id_, ()) if ref not in damage.refs)
        return Verification(len(commits), len(self._sound), len(self._objects), tuple(self._damages.values()))

    def _commits(self) -> tuple[dict[str, list[str]], dict[str, str]]:
        own = self._repository.record.id
        heads: dict[str, list[str]] = {}
        with self._repository.reader.database.read() as cx:
            for table in (lake_branches, lake_tags):
                query = select(table.c.name, table.c.commit_id).where(table.c.repository_id == own)
                for row in cx.execute(query):
                    heads.setdefault(row.commit_id, []).append(row.name)
            query = select(lake_commits.c.id, lake_commits.c.manifest).where(
                lake_commits.c.repository_id == own
            )
            rows = [(row.id, *refs.manifest_of(row.manifest)) for row in cx.execute(query)]
        return heads, {id_: name for id_, name, expired in rows if not expired}

    def _check(self, name: str) -> list[str]:
        """The damaged blobs a manifest leads to."""
        try:
            manifest = self._manifests.get(name)
        except TulleError as exc:
            return [self._damaged(f"{self._folder}/manifests/{name}", exc)]
        found: list[str] = []
        for ref in _runs_of(manifest):
            found.extend(self._check_run(ref))
        return list(dict.fromkeys(found))

    def _check_run(self, ref: RunRef) -> list[str]:
        key = f"{ref.place} {ref.id} {ref.manifest}"
        known = self._inside.get(key)
        if known is None:
            known = self._inside[key] = list(self._look(ref))
            self._sound.add(key)
        return known

    def _look(self, ref: RunRef) -> Iterable[str]:
        if ref.place == "tree":
            try:
                tree = self._runs.metarange(ref.id)
            except TulleError as exc:
                yield self._damaged(f"{self._folder}/metaranges/{ref.id}", exc)
                return
            for number, id_ in enumerate(tree.ids):
                between = f"{tree.firsts[number].decode()} … {tree.lasts[number].decode()}"
                yield from self._look_range(id_, between)
        elif ref.place == "range":
            yield from self._look_range(ref.id, "")
        else:
            owner = f"{self._folder}/manifests/{ref.manifest}" if ref.manifest else f"run {ref.id}"
            try:
                content = getattr(self._manifests.open(ref), "content", ranges.EMPTY)
                if ranges.identity(content) != ref.id:
                    yield self._damaged(owner, f"run {ref.id} in it has other rows than when it was written")
                    return
            except TulleError as exc:
                yield self._damaged(owner, exc)
                return
            yield from self._look_data(content)

    def _look_range(self, id_: str, between: str) -> Iterable[str]:
        try:
            content = self._runs.range(id_)
        except TulleError as exc:
            blob = self._damaged(f"{self._folder}/ranges/{id_}", exc)
            if between and between not in self._damages[blob].paths:
                self._damages[blob].paths.append(between)
            yield blob
            return
        yield from self._look_data(content)

    def _look_data(self, content: Range) -> Iterable[str]:
        if not self._data:
            return
        for row in content.live().all_rows():
            entry = ranges.entry_of(row)
            if "://" in entry.address:
                continue  # not ours to vouch for
            blob = self._repository.writer.blob(entry.address)
            reason = self._objects.get(blob)
            if reason is None:
                reason = self._objects[blob] = self._wrong(entry)
            if reason:
                self._damaged(blob, reason)
                if len(self._damages[blob].paths) < SHOWN and entry.path not in self._damages[blob].paths:
                    self._damages[blob].paths.append(entry.path)
                yield blob

    def _wrong(self, entry: Entry) -> str:
        blobs, name = self._repository.writer.place(entry.address)
        try:
            size = blobs.stat(name).size
            if size != entry.size:
                return f"it has {size} bytes, {entry.size} were recorded"
            if entry.checksum:
                sha = hashlib.sha256()
                for chunk in read_chunks(blobs, name, size):
                    sha.update(chunk)
                if sha.hexdigest() != entry.checksum:
                    return f"its SHA-256 is {sha.hexdigest()}, {entry.checksum} was recorded"
        except TulleError as exc:
            return exc.message
        return ""

    def _damaged(self, blob: str, reason: TulleError | str) -> str:
        text = reason if isinstance(reason, str) else reason.message
        self._damages.setdefault(blob, Damage(blob, text))
        return blob


def _runs_of(manifest: Manifest) -> Iterable[RunRef]:
    yield manifest.delta
    yield from manifest.layers
    if manifest.base is not None:
        yield manifest.base
