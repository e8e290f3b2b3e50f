"""The rules of names: branches, tags, ref expressions, reflogs, pull requests."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule
from tests.model.machine import (
    ACTOR,
    BRANCHES,
    TAGS,
    branches,
    in_pages,
    mostly,
    numbers,
    one_of,
    refs,
)
from tests.model.merging import Edits, Merges, edits, strategies
from tests.model.model import PullRequest

from tulle.errors import AlreadyExists, Conflict, Denied, Invalid, NotFound, TulleError
from tulle.lake import pulls
from tulle.lake.publish import GateCall

limits = st.integers(1, 3)


class Names(Merges):
    """What users do with names, and with requests to merge one into another."""

    @rule(
        name=st.sampled_from(BRANCHES),
        source=refs,
        hidden=st.booleans(),
        exist_ok=st.booleans(),
    )
    def create_branch(self, name: str, source: str, hidden: bool, exist_ok: bool) -> None:
        model = self.model
        is_there = name in model.heads
        refused = (is_there and not exist_ok) or (not is_there and name in model.tags)
        made = self.tried(
            lambda: self.repository.create_branch(name, source, hidden=hidden, exist_ok=exist_ok),
            AlreadyExists if refused else None,
        )
        if made is None:
            return
        if not is_there:
            model.move(name, model.target(source), "create", ACTOR)
            model.hidden |= {name} if hidden else set()
        assert (made.name, made.commit_id) == (name, model.heads[name])

    @rule(name=st.sampled_from(BRANCHES))
    def delete_branch(self, name: str) -> None:
        there = name in self.model.heads
        self.tried(
            lambda: self.repository.delete_branch(name),
            Denied if name == "main" else None if there else NotFound,
        )
        if there and name != "main":
            self.note("branch deleted")
            self.model.move(name, None, "delete", ACTOR)

    @rule(name=st.sampled_from(TAGS), ref=refs)
    def create_tag(self, name: str, ref: str) -> None:
        model = self.model
        refused = name in model.tags or name in model.heads
        made = self.tried(lambda: self.repository.create_tag(name, ref), AlreadyExists if refused else None)
        if made is not None:
            id_ = model.target(ref)
            assert id_ is not None
            assert (made.name, made.commit_id) == (name, id_)
            model.tags[name] = id_

    @rule(name=st.sampled_from(TAGS))
    def delete_tag(self, name: str) -> None:
        there = name in self.model.tags
        self.tried(lambda: self.repository.delete_tag(name), None if there else NotFound)
        if there:
            self.note("tag deleted")
            del self.model.tags[name]

    @rule(ref=refs, steps=st.lists(st.tuples(st.sampled_from("~^"), st.integers(0, 2)), max_size=2))
    def expression(self, ref: str, steps: list[tuple[str, int]]) -> None:
        """A commit's name, or its beginning, then steps back."""
        model = self.model
        found = model.target(ref)
        text = ref[:40].removesuffix("@") if steps else ref[:40]
        for kind, number in steps:
            text += f"{kind}{number}"
            for _ in range(number if kind == "~" else min(1, number)):
                parents = model.parents(found) if found else ()
                at = 0 if kind == "~" else number - 1
                found = parents[at] if at < len(parents) else None
        told = self.tried(lambda: self.repository.resolve(text), None if found else NotFound)
        assert told == found
        if found:
            assert {entry.path for entry in self.repository.entries(found)} == set(model.at(found))

    @rule(limit=limits, prefix=st.sampled_from(["", "t", "v"]), show_hidden=st.booleans())
    def names_in_pages(self, limit: int, prefix: str, show_hidden: bool) -> None:
        model, repository = self.model, self.repository
        hidden = set() if show_hidden else model.hidden
        expected = sorted(name for name in model.heads if name.startswith(prefix) and name not in hidden)

        def page(after: str) -> tuple[list[str], str | None]:
            found = repository.branches(prefix, after, limit, show_hidden=show_hidden)
            return [each.name for each in found], found[-1].name if len(found) == limit else None

        def tags(after: str) -> tuple[list[str], str | None]:
            found = repository.tags(prefix, after, limit)
            return [each.name for each in found], found[-1].name if len(found) == limit else None

        assert list(in_pages(page)) == expected
        assert list(in_pages(tags)) == sorted(name for name in model.tags if name.startswith(prefix))
        for name in model.tags:
            assert repository.tag(name).commit_id == model.tags[name]
        for name in expected:
            assert repository.branch(name).commit_id == model.heads[name]

    @rule(branch=st.sampled_from(BRANCHES), limit=st.integers(1, 5))
    def reflog(self, branch: str, limit: int) -> None:
        self.check_reflog(self.in_hand, branch, limit)

    # ── pull requests ────────────────────────────────────────────────────────────────────────────────────

    @rule(
        source=branches,
        destination=branches,
        description=st.sampled_from(["", "why"]),
        writes=edits,
    )
    def open_pull(self, source: str, destination: str, description: str, writes: Edits) -> None:
        self.edit(source, writes)
        made = self.tried(
            lambda: pulls.create(self.repository, "Title", source, destination, description=description),
            Invalid if source == destination else None,
        )
        if made is not None:
            assert made.author == ACTOR
            self.model.pulls[made.id] = PullRequest("Title", description, source, destination)
            self._check_pulls()

    @rule(number=numbers, title=st.none() | st.just("New"), status=st.sampled_from([None, "open", "closed"]))
    def change_pull(self, number: int, title: str | None, status: str | None) -> None:
        id_ = one_of(list(self.model.pulls), number)
        if id_ is None:
            return
        pull = self.model.pulls[id_]
        refused = pull.status == "merged" and status is not None
        done = self.tried(
            lambda: pulls.change(self.repository, id_, title=title, status=status),
            Conflict if refused else None,
        )
        if done is not None:
            pull.title = title or pull.title
            pull.status = status or pull.status
        self._check_pulls()

    @rule(
        number=numbers,
        strategy=strategies,
        squash=st.booleans(),
        veto=st.sampled_from([False, False, True]),
        tidy=mostly,
    )
    def merge_pull(self, number: int, strategy: str | None, squash: bool, veto: bool, tidy: bool) -> None:
        model = self.model
        id_ = one_of(list(model.pulls), number)
        if id_ is None:
            return
        pull = model.pulls[id_]
        if tidy and pull.destination in model.heads:
            self.tidy(pull.destination)
        source = model.target(pull.source)
        head = model.heads.get(pull.destination)

        def gate(call: GateCall) -> None:
            assert call.before == head
            if veto:
                raise Denied("no")

        def work() -> pulls.Pull:
            return pulls.merge(self.repository, id_, strategy=strategy, squash=squash, gate=gate)

        refusal: type[TulleError] | None = None
        merging = None
        if pull.status != "open":
            refusal = Conflict
        elif head is None or source is None:
            refusal = NotFound
        else:
            merging = self.merging(source, pull.destination, strategy=strategy, choices={}, squash=squash)
            refusal = Invalid if merging.unchanged else merging.refusal or (Denied if veto else None)
        done = self.tried(work, refusal)
        if done is not None and merging is not None:
            self.note("pull request merged")
            pull.status, pull.merged = "merged", done.merged_commit_id
            assert done.merged_commit_id is not None
            self.record(
                pull.destination,
                self.repository.commit_info(done.merged_commit_id),
                merging.content,
                merging.parents,
                "merge",
                message=f"{pull.title}\n\n{pull.description}" if pull.description else pull.title,
                metadata={pulls.MARKER: id_},
            )
        self._check_pulls()

    def _check_pulls(self) -> None:
        """All of them are told, whole and in pages."""
        model, repository = self.model, self.repository
        for id_, pull in model.pulls.items():
            told = pulls.get(repository, id_)
            assert (told.title, told.description, told.source, told.destination) == (
                pull.title,
                pull.description,
                pull.source,
                pull.destination,
            )
            assert (told.status, told.merged_commit_id) == (pull.status, pull.merged)
            assert (told.closed_at is None) == (pull.status == "open")
        for status in ("open", "closed", "all"):
            expected = [i for i, p in model.pulls.items() if status in {"all", _as_found(p.status)}]

            def page(after: str, status: str = status) -> tuple[list[str], str | None]:
                found = pulls.find(repository, status=status, after=after, limit=2)
                return [each.id for each in found], found[-1].id if len(found) == 2 else None

            assert list(in_pages(page)) == expected
            newest = pulls.find(repository, status=status, newest_first=True)
            assert [each.id for each in newest] == expected[::-1]


def _as_found(status: str) -> str:
    return "open" if status == "open" else "closed"
