"""The rules of the lake as a whole: two repositories, collection, reopening, and what may not be changed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.model.machine import ACTOR, Machine, Side, branches, commits, contents, paths, written
from tests.model.model import Thing
from tests.model.objects import table_of

from tulle.errors import AlreadyExists, Denied, NotFound
from tulle.lake import leftovers, uploads
from tulle.lake.collect import collect as collected
from tulle.state.db import open_database


class Lakewide(Machine):
    """What happens to repositories, and what must not be seen in them."""

    @rule()
    def take_the_other_in_hand(self) -> None:
        self.in_hand, self.other = self.other, self.in_hand

    @rule()
    def reopen(self) -> None:
        self.database.close()
        self.database = open_database(self.url)
        self.lake = self.opened()
        for side in (self.in_hand, self.other):
            side.repository = self.lake.repository(side.repository.name, actor=ACTOR)

    @rule(id_=commits)
    def fold(self, id_: str) -> None:
        self.repository.fold(id_)

    @rule(
        dry_run=st.sampled_from([False, False, True]),
        of_the_other=st.booleans(),
        times=st.integers(1, 2),  # what one puts down the next one removes
    )
    def collect(self, dry_run: bool, of_the_other: bool, times: int) -> None:
        for _ in range(times):
            self._collect(self.other if of_the_other else self.in_hand, dry_run)

    def _collect(self, side: Side, dry_run: bool) -> None:
        before = {blob.path for blob in self.blobs.list()}
        collected(self.opened(), side.repository.name, grace_seconds=0, dry_run=dry_run)
        after = {blob.path for blob in self.blobs.list()}
        assert not dry_run or after == before
        own = f"{side.repository.record.storage}/"
        assert all(path.startswith(own) for path in before - after)
        if any("/data/" in path for path in before - after):
            self.note("data collected")
        self.check_all()

    @rule(times=st.integers(1, 2))
    def collect_leftovers(self, times: int) -> None:
        for _ in range(times):
            self._collect_leftovers()

    def _collect_leftovers(self) -> None:
        there = tuple(f"{s.repository.record.storage}/" for s in (self.in_hand, self.other))
        before = {blob.path for blob in self.blobs.list()}
        leftovers.collect(self.opened(), grace_seconds=0)
        gone = before - {blob.path for blob in self.blobs.list()}
        assert not any(path.startswith(there) for path in gone)
        if gone:
            self.note("leftovers collected")
        self.check_all()

    @precondition(lambda machine: machine.times_made < 4)  # it takes long, and leaves little
    @rule()
    def make_the_other_again(self) -> None:
        """Delete it with all there is in it, and begin anew; what was copied from it stays."""
        name = self.other.repository.name
        self.tried(lambda: self.lake.create_repository(name), AlreadyExists)
        self.lake.delete_repository(name)
        self.tried(lambda: self.lake.repository(name), NotFound)
        assert [each.name for each in self.lake.repositories()] == [self.repository.name]
        self.check_branch(self.in_hand, "main")
        self.other = self.made(name)
        assert [each.name for each in self.lake.repositories()] == sorted([name, self.repository.name])

    # ── what may not be changed ──────────────────────────────────────────────────────────────────────────

    @rule(branch=branches, path=paths, data=contents)
    def refused_where_protected(self, branch: str, path: str, data: bytes) -> None:
        upload = uploads.start(self.repository, branch, path)
        part = uploads.put_part(self.repository, upload, 1, data)
        issued = self.repository.issue_address(branch, path).address
        self.blobs.put(self.repository.writer.blob(issued), data)
        self.repository.protect([f"{branch[:2]}*"])
        for work in self._writes(branch, path, data, upload, part, issued):
            with pytest.raises(Denied, match="protected"):
                work()
        self.repository.protect([])
        self._give_up(upload)

    @rule(branch=branches, path=paths, data=contents)
    def refused_where_read_only(self, branch: str, path: str, data: bytes) -> None:
        repository = self.repository
        upload = uploads.start(repository, branch, path)
        part = uploads.put_part(repository, upload, 1, data)
        issued = repository.issue_address(branch, path).address
        self.blobs.put(repository.writer.blob(issued), data)
        repository.set_read_only(True)
        others: list[Callable[[], object]] = [
            lambda: repository.reset(branch),
            lambda: repository.reset(branch, "a"),
            lambda: repository.merge("main", branch, allow_empty=True),
            lambda: repository.create_branch("three"),
            lambda: repository.create_tag("v3", "main"),
            lambda: repository.delete_tag("v1"),
            lambda: repository.set_metadata({"k": "v"}),
            lambda: self.lake.delete_repository(repository.name),
        ]
        for work in [*self._writes(branch, path, data, upload, part, issued), *others]:
            with pytest.raises(Denied, match="read-only"):
                work()
        forced = self.lake.repository(repository.name, actor=ACTOR, force=True)
        self.stage(branch, forced.put(branch, path, data), written(data))
        repository.set_read_only(False)
        self._give_up(upload)

    def _writes(
        self, branch: str, path: str, data: bytes, upload: uploads.Upload, part: uploads.Part, issued: str
    ) -> list[Callable[[], object]]:
        """Everything that protection keeps from a branch."""
        repository = self.repository
        place = self.laid(data)
        table = table_of([(path, Thing(data, place, "e", ""))])
        found: list[Callable[[], object]] = [
            lambda: repository.put(branch, path, data),
            lambda: repository.put(branch, path, iter([data])),
            lambda: repository.put(branch, path, data, if_absent=True),
            lambda: repository.put_many(branch, [(path, data)]),
            lambda: repository.delete(branch, path),
            lambda: repository.delete_many(branch, [path]),
            lambda: repository.delete_prefix(branch, ""),
            lambda: repository.copy(branch, branch, path, "d"),
            lambda: repository.move(branch, path, "d"),
            lambda: repository.set_object_metadata(branch, path, {}),
            lambda: repository.link(branch, path, place),
            lambda: repository.link_table(branch, table),
            lambda: repository.issue_address(branch, path),
            lambda: repository.link_issued(branch, path, issued),
            lambda: repository.commit(branch, "no", allow_empty=True),
            lambda: repository.amend(branch, message="no"),
            lambda: repository.revert(branch, branch),
            lambda: repository.cherry_pick(branch, branch),
            lambda: repository.hard_reset(branch, "main"),
            lambda: repository.replace_prefixes(branch, [table], [""], "no"),
            lambda: uploads.start(repository, branch, path),
            lambda: uploads.complete(repository, upload, [part]),
        ]
        if branch != "main":
            found.append(lambda: repository.delete_branch(branch))
        return found

    def _give_up(self, upload: uploads.Upload) -> None:
        uploads.find(self.repository, upload.id)  # as before
        uploads.drop(self.repository, upload)
