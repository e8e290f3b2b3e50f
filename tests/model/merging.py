"""The rules of merges: what is refused, what moves forward, what is committed, what stands against it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import rule
from tests.model.machine import (
    Machine,
    branches,
    contents,
    mostly,
    notes,
    paths,
    refs,
)
from tests.model.model import Content, Thing, applied, differences, three_way

from tulle.errors import Conflict, Denied, Invalid, TulleError
from tulle.lake.publish import GateCall
from tulle.lake.repository import MergeResult

STRATEGIES = [None, None, "source-wins", "dest-wins"]
CHOOSING = ["nothing", "nothing", "source", "dest", "both", "both", "one too many"]

Edits = dict[str, bytes | None]

strategies = st.sampled_from(STRATEGIES)
edits = st.dictionaries(paths, st.none() | contents, max_size=3)
committers = st.sampled_from(["", "bob"])


@dataclass
class Merging:
    """What a merge must do: be refused, find nothing to do, move forward, or make a commit."""

    base: str
    refusal: type[TulleError] | None = None
    match: str = ""
    problems: list[str] | None = None
    unchanged: bool = False
    forward: bool = False
    content: Content = field(default_factory=dict)
    parents: tuple[str, ...] = ()
    conflicts: list[str] = field(default_factory=list)


class Merges(Machine):
    """What users do to bring branches together."""

    @rule(
        destination=branches,
        source_ref=refs,
        strategy=strategies,
        choosing=st.sampled_from(CHOOSING),
        squash=st.booleans(),
        fast_forward=st.sampled_from(["never", "allow", "only"]),
        allow_empty=st.booleans(),
        veto=st.sampled_from([False, False, True]),
        committer=committers,
        metadata=notes,
        protected=st.booleans(),
        tidy=mostly,
    )
    def merge_with(
        self,
        destination: str,
        source_ref: str,
        strategy: str | None,
        choosing: str,
        squash: bool,
        fast_forward: str,
        allow_empty: bool,
        veto: bool,
        committer: str,
        metadata: dict[str, str],
        protected: bool,
        tidy: bool,
    ) -> None:
        if tidy:
            self.tidy(destination)
        source = self.model.target(source_ref)
        assert source is not None
        choices = self._choices(source, destination, choosing)
        merging = self.merging(
            source,
            destination,
            strategy=strategy,
            choices=choices,
            squash=squash,
            fast_forward=fast_forward,
            allow_empty=allow_empty,
        )
        judged: list[str] = []

        def gate(call: GateCall) -> None:
            judged.append(call.commit.id)
            assert (call.repository, call.branch) == (self.repository.name, destination)
            assert (call.source, call.before) == (source, self.model.heads[destination])
            expected = merging.content
            assert [
                change[1] for change in differences(expected, self.read(self.in_hand, call.commit.id))
            ] == []
            if veto:
                raise Denied("no")

        def work() -> MergeResult:
            return self.repository.merge(
                source_ref,
                destination,
                strategy=strategy,
                choices=choices,
                squash=squash,
                fast_forward=fast_forward,
                allow_empty=allow_empty,
                gate=gate,
                committer=committer,
                metadata=metadata,
            )

        if protected:  # from everything but merges
            self.repository.protect([destination])
        result = self.merged(merging, destination, work, veto=veto)
        if protected:
            self.repository.protect([])
        assert len(judged) == (merging.refusal is None and not merging.unchanged)
        if result is None or result.unchanged:
            return
        assert judged == [result.commit.id]
        if merging.forward:
            self.note("fast-forward")
            assert result.commit == self.model.commits[source].info
            self.model.move(destination, source, "fast-forward", committer or "ann")
            return
        self.note("squash" if squash else "merge", *(["choices"] if choices else []))
        self.record(
            destination,
            result.commit,
            merging.content,
            merging.parents,
            "merge",
            message=f"Merge '{source_ref}' into '{destination}'",
            committer=committer,
            metadata=metadata,
        )

    @rule(
        destination=branches,
        source=branches,
        ours=edits,
        theirs=edits,
        settled=st.sampled_from(["source-wins", "dest-wins"]),
        back=st.sampled_from(["", "never", "allow", "only"]),
    )
    def merge(
        self, destination: str, source: str, ours: Edits, theirs: Edits, settled: str, back: str
    ) -> None:
        """The plain one, often: after some work on both sides, settled where it must be, then maybe back again."""
        self.edit(destination, ours)
        self.edit(source, theirs)
        made = self.model.heads[destination]
        for strategy in (None, settled):
            if self.model.heads[destination] == made:
                self.merge_with(
                    destination,
                    source,
                    strategy,
                    "nothing",
                    False,
                    "never",
                    False,
                    False,
                    "",
                    {},
                    False,
                    False,
                )
        if back:
            self.merge_with(
                source, destination, None, "nothing", False, back, False, False, "", {}, False, False
            )

    def merging(
        self,
        source: str,
        destination: str,
        *,
        strategy: str | None,
        choices: Mapping[str, str],
        squash: bool,
        fast_forward: str = "never",
        allow_empty: bool = False,
    ) -> Merging:
        """What merging commit `source` into a branch must do."""
        model = self.model
        head = model.heads[destination]
        base = model.base(source, head)
        found = Merging(base, parents=(head,) if squash else (head, source))
        changes = differences(model.at(base), model.at(source))
        if model.is_dirty(destination):
            found.refusal, found.match = Conflict, "staged"
        elif fast_forward != "never" and base == head != source and not squash:
            found.forward, found.content = True, model.at(source)
        elif fast_forward == "only" and source != base:
            found.refusal, found.match = Conflict, "moved forward"
        elif not changes and not allow_empty:
            found.unchanged = True
        elif changes and base == head:
            found.content = model.at(source)
        else:
            theirs = model.at(source) if changes else model.at(base)
            plan = three_way(model.at(base), theirs, model.at(head), strategy, choices)
            found.conflicts = plan.conflicts
            if set(choices) - set(plan.conflicts):
                found.refusal, found.match = Invalid, "no conflict"
            elif plan.undecided:
                found.refusal, found.match, found.problems = Conflict, "both changed", plan.undecided
            elif squash and not plan.writes and not allow_empty:
                found.unchanged = True
            found.content = applied(model.at(head), plan.writes)
        return found

    def merged(
        self, merging: Merging, destination: str, work: Callable[[], MergeResult], *, veto: bool = False
    ) -> MergeResult | None:
        """How a merge ended, which must be as expected; None when it was refused."""
        if merging.refusal is not None:
            self.tried(work, merging.refusal, merging.match)
            if merging.problems is not None:
                assert [problem.message for problem in self.refused.problems] == merging.problems
            return None
        if veto and not merging.unchanged:
            return self.tried(work, Denied, "no")
        result = work()
        assert (result.base, result.unchanged) == (merging.base, merging.unchanged)
        if result.unchanged:
            assert result.commit.id == self.model.heads[destination]
        else:
            assert list(result.decided_conflicts) == merging.conflicts
        return result

    def _choices(self, source: str, destination: str, choosing: str) -> dict[str, str]:
        model = self.model
        head = model.heads[destination]
        base = model.base(source, head)
        there = three_way(model.at(base), model.at(source), model.at(head)).conflicts
        if choosing == "nothing":
            return {}
        if choosing == "one too many":
            return {"no/such/conflict": "source"}
        ways = itertools.cycle(["source", "dest"] if choosing == "both" else [choosing])
        return dict(zip(there, ways, strict=False))

    @rule(source=refs, destination=branches, after=paths, limit=st.none() | st.integers(1, 3))
    def conflicts(self, source: str, destination: str, after: str, limit: int | None) -> None:
        model = self.model
        source_id = model.target(source)
        assert source_id is not None
        sides = model.base(source_id, model.heads[destination]), source_id, model.heads[destination]
        expected = three_way(*map(model.at, sides)).conflicts
        for start, most in (("", None), (after, limit)):
            told = self.repository.conflicts(source, destination, after=start, limit=most)
            assert [each.path for each in told] == [p for p in expected if p.encode() > start.encode()][:most]
        for each in self.repository.conflicts(source, destination):
            self.note("conflicts")
            for id_, entry in zip(sides, (each.base, each.source, each.destination), strict=True):
                thing = model.at(id_).get(each.path)
                assert (thing is None) == (entry is None)
                assert entry is None or Thing.of(entry, thing.data if thing else b"") == thing
