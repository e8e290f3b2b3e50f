"""The rules of history: commits, taking them back, doing them again, imports."""

from __future__ import annotations

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
    same_place,
    written,
)
from tests.model.merging import Edits, committers
from tests.model.model import Thing, applied, differences, in_order, three_way
from tests.model.objects import table_of

from tulle.errors import Conflict, Invalid, TulleError

recent = st.runner().flatmap(lambda machine: st.sampled_from(list(machine.model.commits)[-4:]))
messages = st.sampled_from(["change", "other"])
parent_numbers = st.sampled_from([0, 0, 0, 1, 1, 2, 3])


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
        writes=st.dictionaries(paths, st.none() | contents, max_size=6),
        prefix=st.none() | prefixes,
        metadata=notes,
    )
    def commit_draft(self, branch: str, writes: Edits, prefix: str | None, metadata: dict[str, str]) -> None:
        model, head = self.model, self.model.heads[branch]
        before, drafted = model.at(head), dict(model.seen(branch))
        draft = self.repository.draft(branch)
        if prefix is not None:
            draft.delete_prefix(prefix)
            drafted = {path: thing for path, thing in drafted.items() if not path.startswith(prefix)}
        for path, data in writes.items():
            if data is None:
                draft.delete(path)
                drafted.pop(path, None)
            else:
                told = Thing.of(draft.put(path, data), data)
                assert told == same_place(written(data), told)
                drafted[path] = told
                assert draft.get(path) == data
        assert [entry.path for entry in draft.entries()] == in_order(drafted)
        changed = {path: thing for _, path, _, thing in differences(before, drafted)}
        made = self.repository.commit_draft(branch, draft, "drafted", metadata=metadata)
        model.staged[branch] = {}
        if not changed:
            assert made.id == head
            self.note("draft of nothing new")
            return
        self.record(
            branch,
            made,
            applied(before, changed),
            (head,),
            "commit",
            message="drafted",
            metadata=metadata,
            named=changed,
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
        places=st.lists(prefixes, max_size=2) | st.lists(prefixes, min_size=1, max_size=1),
        new=st.dictionaries(paths, contents, max_size=10),
        keep=st.sampled_from([False, False, True]),
        cut=st.integers(0, 10),
        turned=st.sampled_from([False, False, True]),
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
