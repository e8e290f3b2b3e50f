"""The rules of reading: listings, differences and logs, whole and page by page."""

from __future__ import annotations

from unittest import mock

from hypothesis import strategies as st
from hypothesis.stateful import rule
from tests.model.machine import Machine, branches, commits, in_pages, numbers, paths, prefixes, refs
from tests.model.model import Thing, differences, in_order, listed

from tulle.lake.repository import Change

limits = st.integers(1, 4)


class Reading(Machine):
    """What users ask."""

    @rule(ref=refs, prefix=prefixes, after=st.just("") | paths, limit=limits, folders=st.booleans())
    def list_in_pages(self, ref: str, prefix: str, after: str, limit: int, folders: bool) -> None:
        there = self.model.seen(ref)
        delimiter = "/" if folders else ""

        def page(after: str) -> tuple[list[str], str | None]:
            found = self.repository.list(ref, prefix, after, limit, delimiter)
            told = in_order([entry.path for entry in found.entries] + list(found.prefixes))
            assert len(told) == limit or found.next is None
            for entry in found.entries:
                assert Thing.of(entry, there[entry.path].data) == there[entry.path]
            return told, found.next

        told = [] if not listed(there, prefix, after, delimiter) else list(in_pages(page, after))
        assert told == listed(there, prefix, after, delimiter)
        whole = self.repository.list(ref, prefix, after, 1000, delimiter)
        assert in_order([e.path for e in whole.entries] + list(whole.prefixes)) == told
        self.note("folders" if folders and any(path.endswith("/") for path in told) else "list")

    @rule(ref=refs, number=numbers, start=st.integers(0, 3), end=st.none() | st.integers(0, 4))
    def read_part(self, ref: str, number: int, start: int, end: int | None) -> None:
        there = self.model.seen(ref)
        for path in in_order(there)[number % 4 :: 4]:
            assert self.repository.exists(ref, path)
            told = b"".join(self.repository.open(ref, path, start, end))
            assert told == there[path].data[start:end]
            assert Thing.of(self.repository.stat(ref, path), there[path].data) == there[path]

    @rule(branch=branches, prefix=prefixes, limit=limits)
    def status_in_pages(self, branch: str, prefix: str, limit: int) -> None:
        model = self.model
        expected = differences(model.at(model.heads[branch]), model.seen(branch), prefix)
        told: list[Change] = []
        is_more = True
        while is_more:
            after = told[-1].path if told else ""
            page, is_more = self.repository.changes_of(branch, prefix=prefix, after=after, limit=limit)
            assert len(page) == limit or not is_more
            told += page
        self.compare(told, expected)

    @rule(left=refs, right=refs, prefix=prefixes, three_dot=st.booleans(), limit=limits)
    def diff(self, left: str, right: str, prefix: str, three_dot: bool, limit: int) -> None:
        model = self.model
        from_id, to_id = model.target(left), model.target(right)
        assert from_id is not None
        assert to_id is not None
        base = model.base(from_id, to_id)
        assert self.repository.merge_base(left, right) == base
        expected = differences(model.at(base if three_dot else from_id), model.at(to_id), prefix)
        self._check_diff(left, right, prefix, three_dot, limit, expected)
        with mock.patch("tulle.lake.reading.LONG_LINE", 0):  # by content instead of by deltas
            self._check_diff(left, right, prefix, three_dot, limit, expected)

    def _check_diff(
        self, left: str, right: str, prefix: str, three_dot: bool, limit: int, expected: list[tuple]
    ) -> None:
        self.compare(self.repository.diff(left, right, prefix=prefix, three_dot=three_dot), expected)
        told: list[Change] = []
        is_more = True
        while is_more:
            after = told[-1].path if told else ""
            page, is_more = self.repository.diff_page(
                left, right, prefix=prefix, three_dot=three_dot, after=after, limit=limit
            )
            assert len(page) == limit or not is_more
            told += page
        self.compare(told, expected)

    # ── logs ─────────────────────────────────────────────────────────────────────────────────────────────

    @rule(ref=refs, first_parent=st.booleans(), limit=limits, since=commits | st.none(), stop_at=commits)
    def log(self, ref: str, first_parent: bool, limit: int, since: str | None, stop_at: str) -> None:
        model = self.model
        id_ = model.target(ref)
        assert id_ is not None
        walk = model.line(id_) if first_parent else model.newest_first(model.ancestors(id_))
        told = [each.id for each in self.repository.log(ref, limit=1000, first_parent=first_parent)]
        assert told == walk
        paged: list[str] = []
        while page := self.repository.log(
            ref, limit=limit, after=paged[-1] if paged else None, first_parent=first_parent
        ):
            assert len(page) <= limit
            paged += [each.id for each in page]
        assert paged == walk
        if since is not None:
            at = model.commits[since].info.date
            old = [each for each in walk if model.commits[each].info.date < at]
            young = [each for each in walk if each not in old]
            if first_parent and old:
                young = walk[: walk.index(old[0])]
            told = [
                each.id for each in self.repository.log(ref, first_parent=first_parent, since=at, limit=1000)
            ]
            assert told == young
        ended = walk[: walk.index(stop_at) + 1] if stop_at in walk else walk
        told = [
            each.id
            for each in self.repository.log(ref, first_parent=first_parent, stop_at=stop_at, limit=1000)
        ]
        assert told == ended

    @rule(
        ref=refs,
        wanted=st.lists(paths, max_size=2),
        under=st.lists(prefixes, max_size=2),
        first_parent=st.booleans(),
    )
    def history_of_objects(self, ref: str, wanted: list[str], under: list[str], first_parent: bool) -> None:
        model = self.model
        if not wanted and not under:
            wanted = ["a/1"]
        id_ = model.target(ref)
        assert id_ is not None

        def is_meant(path: str) -> bool:
            return path in wanted or any(path.startswith(prefix) for prefix in under)

        walk = model.line(id_) if first_parent else model.newest_first(model.ancestors(id_))
        told = [
            each.id
            for each in self.repository.log(
                ref, paths=wanted, prefixes=under, first_parent=first_parent, limit=1000
            )
        ]
        assert told == [each for each in walk if each in set(told)]
        for each in walk:
            commit = model.commits[each]
            if len(commit.info.parents) > 1:
                assert each not in told
                continue
            before = model.at(commit.info.parents[0]) if commit.info.parents else {}
            changed = any(is_meant(path) for _, path, *_ in differences(before, commit.content))
            # A commit that says again what was there already may be told too.
            may_be = commit.named is None or any(map(is_meant, commit.named))
            assert changed <= (each in told) <= may_be
            if changed:
                self.note("object history")
