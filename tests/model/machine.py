"""What every part of the machine stands on: two repositories of one lake, each beside its model, and the checks.

Rules act on the repository in hand; one of them takes the other one in hand. Knows no operation.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from unittest import mock

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant
from tests.lake.databases import Postgres
from tests.model.model import Committed, Content, RepositoryModel, Step, Thing, differences, in_order, same

from tulle.errors import AlreadyExists, PreconditionFailed, TulleError
from tulle.lake import manifest, moves, ranges, replace, staging, upkeep, writing
from tulle.lake.blobs import open_blobs
from tulle.lake.entry import Change, Commit, Entry
from tulle.lake.repository import Lake, Repository
from tulle.lake.runs import TreeWriter
from tulle.lake.view import View
from tulle.lake.writing import Mismatch, NothingThereError
from tulle.state.db import Database, open_database

T = TypeVar("T")

PATHS = ["a", "a/", "a/1", "a/2", "a/b/1", "a/b/2", "ab", "b/1", "b/2", "b/é ü", "c/%+ ", "d", "z/z/z"]
PREFIXES = ["", "a", "a/", "a/b/", "b", "z/z"]
BRANCHES = ["main", "one", "two", "v1"]  # v1 may be either
TAGS = ["v1", "v2"]
ACTOR = "ann"
NOTES: list[dict[str, str]] = [{}, {"k": "v"}, {"k": "w", "é": ""}]
TYPES = ["", "text/csv"]
CONDITIONS = ["", "", "absent", "match", "mismatch"]

paths = st.sampled_from(PATHS)
prefixes = st.sampled_from(PREFIXES)
contents = st.sampled_from([b"", b"x", b"yy", b"zzz"])
notes = st.sampled_from(NOTES)
types = st.sampled_from(TYPES)
mostly = st.sampled_from([True, True, True, False])
conditions = st.sampled_from(CONDITIONS)
numbers = st.integers(0, 39)  # which of several; see `one_of`
branches = st.runner().flatmap(lambda machine: st.sampled_from(sorted(machine.model.heads)))
commits = st.runner().flatmap(lambda machine: st.sampled_from(list(machine.model.commits)))
refs = st.runner().flatmap(lambda machine: st.sampled_from(machine.model.refs()))

empty_databases: list[Path] = []  # where the tests put an SQLite file with all tables
servers: list[Postgres] = []


@dataclass
class Side:
    """A repository and what it must hold."""

    repository: Repository
    model: RepositoryModel


def one_of(items: Sequence[T], number: int) -> T | None:
    """The item a number stands for, or None when there is none."""
    return items[number % len(items)] if items else None


def some_path(content: Content, number: int) -> str:
    """A path, mostly one of a content."""
    there = in_order(content)
    return PATHS[number % len(PATHS)] if not there or number >= 34 else there[number % len(there)]


class Machine(RuleBasedStateMachine):
    """Opens the lake, and knows how to compare it with its models."""

    def __init__(self) -> None:
        super().__init__()
        self.happened: Counter[str] = Counter()
        self.times_made = 0  # repositories
        self.refused = TulleError("")  # the last refusal
        self.stack = ExitStack()
        for module, name, value in (
            (ranges, "CUT_EVERY", 4),
            (ranges, "MIN_ROWS", 2),
            (ranges, "MAX_ROWS", 6),
            (replace, "MAX_ROWS", 6),
            (replace, "FEW", 2),
            (writing, "MAX_ROWS", 6),
            (upkeep, "SMALL_ROWS", 6),
            (upkeep, "LAYERS_IN_A_TIER", 3),
            (upkeep, "MAX_LAYERS", 5),
            (staging, "LARGE_BATCH", 3),
            (moves, "INLINE_BYTES", 2000),
            (manifest, "CARRIED_BYTES", 3000),
        ):
            self.stack.enter_context(mock.patch.object(module, name, value))
        self.folder = Path(self.stack.enter_context(tempfile.TemporaryDirectory()))
        self.url = self.new_database()
        self.blobs = open_blobs("memory:///")
        self.database: Database = open_database(self.url)
        self.lake = self.opened()
        self.in_hand, self.other = self.made("sales"), self.made("other")

    def new_database(self) -> str:
        """The URL of a database with empty tables."""
        shutil.copy(empty_databases[0], self.folder / "state.db")
        return f"sqlite:///{self.folder / 'state.db'}"

    def opened(self) -> Lake:
        """The lake as a new process sees it."""
        lake = Lake(self.database, self.blobs)
        lake._caches.ranges.capacity = lake._caches.manifests.capacity = 5000  # so that things are read again
        return lake

    def made(self, name: str) -> Side:
        """A new repository and its model."""
        self.times_made += 1
        repository = self.lake.create_repository(name, actor=ACTOR)
        root = repository.commit_info("main")
        side = Side(repository, RepositoryModel(root, "main", ACTOR))
        # So that there is something to copy, to compare and to merge from the first step on.
        self.edit("main", dict.fromkeys(PATHS[2:7], b"x"), side=side)
        repository.create_branch("one")
        side.model.move("one", side.model.heads["main"], "create", ACTOR)
        self.edit("main", {"a/1": b"yy", "d": b"x"}, side=side)
        self.edit("one", {"a/1": b"zzz", "a/2": None, "b/1": b"yy"}, side=side)
        return side

    @property
    def repository(self) -> Repository:
        """The repository in hand."""
        return self.in_hand.repository

    @property
    def model(self) -> RepositoryModel:
        """What it must hold."""
        return self.in_hand.model

    # ── doing ────────────────────────────────────────────────────────────────────────────────────────────

    def note(self, *what: str) -> None:
        """Remember that something happened: one test asks for it."""
        self.happened.update(what)

    def tried(
        self, work: Callable[[], T], refusal: type[TulleError] | None = None, match: str = ""
    ) -> T | None:
        """What some work returns; None when it was refused as it must be."""
        if refusal is None:
            return work()
        with pytest.raises(refusal, match=match or None) as caught:
            work()
        assert type(caught.value) in {refusal, Mismatch}
        self.refused = caught.value
        self.note(f"{refusal.__name__} {match}".strip())
        return None

    def condition(
        self, how: str, there: Thing | None
    ) -> tuple[dict[str, bool | str], type[TulleError] | None]:
        """The keywords of a conditional write to a path that holds something or not, and what they must raise."""
        if how == "absent":
            return {"if_absent": True}, AlreadyExists if there else None
        if how == "match" and there is not None:
            self.note("right etag")
            return {"if_match": f'"{there.tag}"'}, None
        if how:
            return {"if_match": "0" * 32}, PreconditionFailed if there else NothingThereError
        return {}, None

    def laid(self, data: bytes) -> str:
        """The address of data that an engine wrote straight to the store."""
        place = self.repository.new_data_path("")
        self.blobs.put(self.repository.writer.blob(place.address), data)
        return place.address

    def stage_data(self, branch: str, path: str, data: bytes, *, side: Side | None = None) -> None:
        """Put data in both."""
        side = side or self.in_hand
        self.stage(branch, side.repository.put(branch, path, data), written(data), side=side)

    def stage(self, branch: str, entry: Entry, expected: Thing, *, side: Side | None = None) -> None:
        """Note what the library staged, which must be as expected (where its data is, is its affair)."""
        told = Thing.of(entry, expected.data)
        assert told == same_place(expected, told)
        (side or self.in_hand).model.staged[branch][entry.path] = told

    def edit(self, branch: str, writes: Mapping[str, bytes | None], *, side: Side | None = None) -> None:
        """Change paths of a branch and commit."""
        side = side or self.in_hand
        model = side.model
        for path, data in writes.items():
            if data is not None:
                self.stage_data(branch, path, data, side=side)
            elif path in model.seen(branch):
                side.repository.delete(branch, path)
                model.staged[branch][path] = None
        self.tidy(branch, side=side)

    def tidy(self, branch: str, *, side: Side | None = None) -> None:
        """Commit what is staged on a branch, if anything is."""
        side = side or self.in_hand
        model = side.model
        if model.is_dirty(branch):
            content, head, named = model.seen(branch), model.heads[branch], set(model.staged[branch])
            made = side.repository.commit(branch, "tidy")
            self.record(branch, made, content, (head,), "commit", message="tidy", named=named, side=side)

    def record(
        self,
        branch: str,
        info: Commit,
        content: Content,
        parents: tuple[str, ...],
        operation: str,
        *,
        message: str,
        committer: str = "",
        metadata: dict[str, str] | None = None,
        named: Iterable[str] | None = None,
        side: Side | None = None,
    ) -> None:
        """Note a new commit, which must be as expected."""
        side = side or self.in_hand
        model = side.model
        assert info == side.repository.commit_info(info.id)
        assert info.parents == parents
        assert info.generation == 1 + max(model.commits[parent].info.generation for parent in parents)
        assert (info.message, info.committer) == (message, committer or ACTOR)
        assert dict(info.metadata) == (metadata or {})
        held = self.read(side, info.id)
        assert [path for _, path, *_ in differences(content, held)] == []
        # Of things nobody can tell apart a commit may hold either, from then on for good.
        model.commits[info.id] = Committed(info, held, None if named is None else frozenset(named))
        model.move(branch, info.id, operation, committer or ACTOR)

    # ── comparing ────────────────────────────────────────────────────────────────────────────────────────

    def read(self, side: Side, ref: str) -> dict[str, Thing]:
        """All there is at a ref."""
        repository = side.repository
        entries = repository.entries(ref)
        return {entry.path: Thing.of(entry, b"".join(repository.read(entry))) for entry in entries}

    def compare(self, changes: Iterable[Change], expected: Sequence[tuple[str, str, object, object]]) -> None:
        """Changes as the library tells them are the expected ones."""
        changes = list(changes)
        assert [(change.kind, change.path) for change in changes] == [each[:2] for each in expected]
        for change, (_, _, *sides) in zip(changes, expected, strict=True):
            for entry, thing in zip((change.left, change.right), sides, strict=True):
                assert (entry is None) == (thing is None)
                if entry is not None and isinstance(thing, Thing):
                    assert same(Thing.of(entry, thing.data), thing)

    def check_branch(self, side: Side, branch: str) -> None:
        """A branch reads as its model says, staged and committed."""
        model, repository = side.model, side.repository
        visible, committed = model.seen(branch), model.at(model.heads[branch])
        read = self.read(side, branch)
        assert read == visible
        assert list(read) == in_order(visible)
        assert [entry.path for entry in repository.entries(f"{branch}@")] == in_order(committed)
        self.compare(repository.status(branch), differences(committed, visible))

    def check_reflog(self, side: Side, branch: str, limit: int) -> None:
        """Where a branch has been, also one that is gone."""
        told = side.repository.reflog(branch, limit=limit)
        expected = side.model.steps.get(branch, [])[::-1][:limit]
        assert [Step(each.operation, each.before, each.after, each.actor) for each in told] == expected
        assert all(each.branch == branch for each in told)

    def check_all(self) -> None:
        """Every commit reads as on its first day, and what is under way is kept."""
        for side in (self.in_hand, self.other):
            for id_, commit in side.model.commits.items():
                assert self.read(side, id_) == commit.content
                assert side.repository.commit_info(id_) == commit.info
            for branch in side.model.steps:
                self.check_reflog(side, branch, 1000)
            for uploading in side.model.uploads.values():
                for part, data in uploading.parts.values():
                    assert self.blobs.get(part.blob) == data
            for issued in side.model.issued:
                assert self.blobs.get(side.repository.writer.blob(issued.address)) == issued.data

    @invariant()
    def names_and_branches_are_as_the_model_says(self) -> None:
        """After every step."""
        for side in (self.in_hand, self.other):
            model, repository = side.model, side.repository
            told = {branch.name: branch.commit_id for branch in repository.branches()}
            assert told == model.heads
            assert {tag.name: tag.commit_id for tag in repository.tags()} == model.tags
            for branch in model.heads:
                self.check_branch(side, branch)

    def teardown(self) -> None:
        """At the end, all of it once more."""
        try:
            self.check_all()
            for side in (self.in_hand, self.other):
                self._check_identities(side)
                ids = list(side.model.commits)[-5:]
                for number, (left, right) in enumerate(itertools.permutations(ids, 2)):
                    prefix = PREFIXES[number % len(PREFIXES)]
                    expected = differences(side.model.at(left), side.model.at(right), prefix)
                    self.compare(side.repository.diff(left, right, prefix=prefix), expected)
            self.names_and_branches_are_as_the_model_says()
        finally:
            self.database.close()
            self.stack.close()

    def _check_identities(self, side: Side) -> None:
        """Folded, equal rows have equal identity, whatever the history."""
        reader = side.repository.reader
        for branch in side.model.heads:
            side.repository.fold(branch)
            content = reader.content(side.repository.resolve(f"{branch}@"))
            assert content.manifest.layers == ()
            fresh = TreeWriter(reader.runs)
            for chunk in View(content.view.runs).chunks():
                fresh.add(chunk)
            assert content.manifest.base == fresh.finish()


def written(data: bytes, content_type: str = "", metadata: dict[str, str] | None = None) -> Thing:
    """What a path holds after data was put there; where the data is, is not said."""
    md5, sha256 = hashlib.md5(data).hexdigest(), hashlib.sha256(data).hexdigest()
    return Thing(data, "", md5, sha256, content_type, tuple(sorted((metadata or {}).items())))


def same_place(expected: Thing, told: Thing) -> Thing:
    """The expected thing, with the address that was told where none was expected."""
    if expected.address:
        return expected
    return Thing(
        expected.data,
        told.address,
        expected.etag,
        expected.checksum,
        expected.content_type,
        expected.metadata,
    )


def in_pages(page: Callable[[str], tuple[list[str], str | None]], after: str = "") -> Iterator[str]:
    """What a listing tells from page to page; a page is its items and what continues it."""
    following: str | None = after
    while following is not None:
        found, following = page(following)
        assert found or following is None
        yield from found
