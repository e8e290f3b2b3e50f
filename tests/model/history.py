"""The rules of history: commits, merges, taking things back, imports."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hypothesis import strategies as st
from hypothesis.stateful import rule
from tests.model.machine import (
    Machine,
    branches,
    commits,
    contents,
    mostly,
    notes,
    paths,
    prefixes,
    refs,
)
from tests.model.model import Content, Thing, applied, differences, in_order, three_way
from tests.model.objects import table_of

from tulle.errors import Conflict, Denied, Invalid, TulleError
from tulle.lake.publish import GateCall
from tulle.lake.repository import MergeResult

STRATEGIES = [None, None, "source-wins", "dest-wins"]
CHOOSING = ["nothing", "nothing", "source", "dest", "both", "both", "one too many"]

strategies = st.sampled_from(STRATEGIES)
edits = st.dictionaries(paths, st.none() | contents, max_size=3)
recent = st.runner().flatmap(lambda machine: st.sampled_from(list(machine.model.commits)[-4:]))
committers = st.sampled_from(["", "bob"])
messages = st.sampled_from(["change", "other"])
parent_numbers = st.sampled_from([0, 0, 0, 1, 1, 2, 3])


Edits = dict[str, bytes | None]


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


class History(Machine):
    """What users do with the commits of branches."""

    @rule(
        branch=branches,
        message=messages,
        committer=committers,
        metadata=notes,
        allow_empty=st.booleans(),
        date=st.sampled_from([None, None, 1, -1]),
    )
    def commit(
        self,
        branch: str,
        message: str,
        committer: str,
        metadata: dict[str, str],
        allow_empty: bool,
        date: int | None,
    ) -> None:
        model = self.model
        content, named, head = model.seen(branch), set(model.staged[branch]), model.heads[branch]
        # Made-up dates run either way, but no two are the same: ids, which nobody knows, would break the tie.
        at = None if date is None else 1_000_000_000.0 + date * len(model.commits)
        can = allow_empty or model.is_dirty(branch)
        made = self.tried(
            lambda: self.repository.commit(
                branch, message, committer=committer, metadata=metadata, allow_empty=allow_empty, date=at
            ),
            None if can else Invalid,
            "" if can else "nothing to commit",
        )
        if made is None:
            model.staged[branch] = {}
            return
        assert at is None or made.date == at
        self.record(
            branch,
            made,
            content,
            (head,),
            "commit",
            message=message,
            committer=committer,
            metadata=metadata,
            named=named,
        )

    @rule(
        branch=branches,
        message=st.none() | messages,
        metadata=st.none() | notes,
        committer=committers,
        writes=st.dictionaries(paths, contents, max_size=4),
    )
    def amend(
        self,
        branch: str,
        message: str | None,
        metadata: dict[str, str] | None,
        committer: str,
        writes: dict[str, bytes],
    ) -> None:
        for path, data in writes.items():
            self.stage_data(branch, path, data)
        model = self.model
        old = model.commits[model.heads[branch]]
        content, named = model.seen(branch), set(model.staged[branch])
        new = (
            old.info.message if message is None else message,
            dict(old.info.metadata) if metadata is None else metadata,
        )
        is_same = new == (old.info.message, dict(old.info.metadata)) and not model.is_dirty(branch)
        refused = not old.info.parents or is_same
        made = self.tried(
            lambda: self.repository.amend(branch, message=message, metadata=metadata, committer=committer),
            Invalid if refused else None,
            "first commit" if not old.info.parents else "nothing to amend" if is_same else "",
        )
        if made is not None:
            self.record(
                branch,
                made,
                content,
                old.info.parents,
                "amend",
                message=new[0],
                committer=committer,
                metadata=new[1],
                named=None if old.named is None else old.named | named,
            )

    @rule(branch=branches, writes=st.dictionaries(paths, st.none() | contents, min_size=1, max_size=6))
    def edit_and_commit(self, branch: str, writes: Edits) -> None:
        self.edit(branch, writes)

    # ── merging ──────────────────────────────────────────────────────────────────────────────────────────

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

    # ── taking back ──────────────────────────────────────────────────────────────────────────────────────

    @rule(
        branch=branches,
        ref=commits | recent,
        parent_number=parent_numbers,
        allow_empty=st.booleans(),
        tidy=mostly,
    )
    def revert(self, branch: str, ref: str, parent_number: int, allow_empty: bool, tidy: bool) -> None:
        if tidy:
            self.tidy(branch)
        self._again(branch, ref, parent_number, allow_empty, is_revert=True)

    @rule(
        branch=branches,
        ref=commits | recent,
        parent_number=parent_numbers,
        metadata=st.none() | notes,
        tidy=mostly,
    )
    def cherry_pick(
        self, branch: str, ref: str, parent_number: int, metadata: dict[str, str] | None, tidy: bool
    ) -> None:
        if tidy:
            self.tidy(branch)
        self._again(branch, ref, parent_number, False, is_revert=False, metadata=metadata)

    def _again(
        self,
        branch: str,
        id_: str,
        number: int,
        allow_empty: bool,
        *,
        is_revert: bool,
        metadata: dict[str, str] | None = None,
    ) -> None:
        model = self.model
        head, info = model.heads[branch], model.commits[id_].info
        refusal: type[TulleError] | None = None
        plan = three_way({}, {}, {})
        match = ""
        if model.is_dirty(branch):
            refusal, match = Conflict, "staged"
        elif not info.parents or number > len(info.parents) or (len(info.parents) == 2 and not number):
            refusal = Invalid
        else:
            parent = model.at(info.parents[max(0, number - 1)])
            there = model.at(id_)
            plan = (
                three_way(there, parent, model.at(head))
                if is_revert
                else three_way(parent, there, model.at(head))
            )
            if plan.conflicts:
                refusal, match = Conflict, "both changed"
            elif not plan.writes and not allow_empty:
                refusal, match = Invalid, "already"
        if is_revert:
            made = self.tried(
                lambda: self.repository.revert(
                    branch, id_, parent_number=number, allow_empty=allow_empty, metadata=metadata
                ),
                refusal,
                match,
            )
            message, told = f"Revert {id_[:12]}", metadata or {}
        else:
            made = self.tried(
                lambda: self.repository.cherry_pick(branch, id_, parent_number=number, metadata=metadata),
                refusal,
                match,
            )
            origin = {"cherry-pick-origin": id_, "cherry-pick-committer": info.committer}
            message, told = info.message, {**(info.metadata if metadata is None else metadata), **origin}
        if made is not None:
            operation = "revert" if is_revert else "cherry-pick"
            self.note(operation)
            self.record(
                branch,
                made,
                applied(model.at(head), plan.writes),
                (head,),
                operation,
                message=message,
                metadata=told,
                named=plan.writes,
            )

    @rule(branch=branches, ref=refs, tidy=mostly)
    def hard_reset(self, branch: str, ref: str, tidy: bool) -> None:
        if tidy:
            self.tidy(branch)
        id_ = self.model.target(ref)
        is_dirty = self.model.is_dirty(branch)
        done = self.tried(lambda: self.repository.hard_reset(branch, ref), Conflict if is_dirty else None)
        if done is not None:
            assert (done.name, done.commit_id) == (branch, id_)
            self.model.move(branch, id_, "hard reset", "ann")

    # ── imports ──────────────────────────────────────────────────────────────────────────────────────────

    @rule(
        branch=branches,
        places=st.lists(prefixes, max_size=2),
        new=st.dictionaries(paths, contents, max_size=10),
        keep=st.booleans(),
        cut=st.integers(0, 10),
        turned=st.booleans(),
        tidy=mostly,
    )
    def replace_prefixes(
        self,
        branch: str,
        places: list[str],
        new: dict[str, bytes],
        keep: bool,
        cut: int,
        turned: bool,
        tidy: bool,
    ) -> None:
        if tidy:
            self.tidy(branch)
        model = self.model
        head = model.heads[branch]
        old = model.at(head)
        wanted = {path: Thing(data, self.laid(data), "e", "") for path, data in new.items()}
        if keep:  # said again, as it is
            wanted |= {path: thing for path, thing in old.items() if not thing.metadata}
        rows = [(path, wanted[path]) for path in in_order(wanted)]
        chunks = [table_of(rows[:cut]), table_of(rows[cut:])]
        if turned:
            chunks.reverse()
        out_of_order = turned and 0 < cut < len(rows)
        replaced = {
            path: thing
            for path, thing in old.items()
            if path not in wanted and any(path.startswith(place) for place in places)
        }
        changed = {p: t for p, t in wanted.items() if p in old and not old[p].says_the_same(t)}
        added = {path: thing for path, thing in wanted.items() if path not in old}
        refusal: type[TulleError] | None = Conflict if model.is_dirty(branch) else None
        result = self.tried(
            lambda: self.repository.replace_prefixes(branch, chunks, places, "import", committer="bob"),
            Invalid if out_of_order else refusal,
            "not in path order" if out_of_order else "",
        )
        if result is None:
            return
        assert (result.added, result.changed, result.removed) == (len(added), len(changed), len(replaced))
        assert result.unchanged == (not added and not changed and not replaced)
        if result.unchanged:
            assert result.commit.id == head
            self.note("import of nothing new")
            return
        self.note("import")
        writes = {**changed, **added, **dict.fromkeys(replaced)}
        self.record(
            branch,
            result.commit,
            applied(old, writes),
            (head,),
            "import",
            message="import",
            committer="bob",
            named=writes,
        )
