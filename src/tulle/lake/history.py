"""A repository's history: commits, logs, differences, merges, and taking things back."""

from __future__ import annotations

import builtins
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from tulle.errors import Invalid, NotFound
from tulle.lake import graph, upkeep
from tulle.lake.draft import Draft
from tulle.lake.entry import (
    MAX_COMMIT_METADATA,
    Change,
    Commit,
    checked_date,
    checked_text,
    encode_metadata,
    encoded_text,
)
from tulle.lake.handle import Handle
from tulle.lake.merge import Choices, Strategy
from tulle.lake.moves import FastForward, MergeResult, PathConflict, Replacement
from tulle.lake.publish import Also, Attributes, Gate
from tulle.lake.refs import Branch
from tulle.lake.replace import Step, intervals
from tulle.lake.runs import Run
from tulle.lake.spool import Spool, opened


class History(Handle):
    """Commits of one repository."""

    def commit(
        self,
        branch: str,
        message: str,
        *,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
        date: float | None = None,
    ) -> Commit:
        """Commit what is staged on a branch. Invalid when that changes nothing, unless `allow_empty`."""
        attributes = self._attributes(message, committer, metadata, date)
        self._guard(branch, protected=True)
        return self._mover.commit(branch, attributes, allow_empty=allow_empty)

    def commit_draft(
        self,
        branch: str,
        draft: Draft,
        message: str,
        *,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Commit:
        """Put a draft on a branch by one commit, with what is staged there if that is anything.

        Returns the commit the branch is on, which is the one it was on where nothing would differ. Gone or NotFound
        when the draft took so long that data of it was collected.
        """
        rows = draft.rows()
        attributes = self._attributes(message, committer, metadata)
        has_quota = self._guard(branch, protected=True)
        self.writer.refresh(rows)
        return self._mover.commit_rows(branch, rows, attributes, charge=has_quota)

    def amend(
        self,
        branch: str,
        *,
        message: str | None = None,
        metadata: Mapping[str, str] | None = None,
        committer: str = "",
    ) -> Commit:
        """Replace a branch's last commit by one with another message or metadata, and with what is staged.

        The old commit stays readable by its id. Invalid when nothing would differ.
        """
        self._guard(branch, protected=True)
        if message is not None and not checked_text(message, "the message").strip():
            raise Invalid("a commit needs a message")
        checked_text(committer, "the committer")
        encode_metadata(metadata, MAX_COMMIT_METADATA)
        return self._mover.amend(branch, message, metadata, committer or self.actor)

    def commit_info(self, ref: str) -> Commit:
        """The commit a ref names."""
        return self.reader.commit(self._resolve(ref))

    def log(
        self,
        ref: str,
        *,
        limit: int = 50,
        after: str | None = None,
        prefix: str | None = None,
        paths: Sequence[str] = (),
        prefixes: Sequence[str] = (),
        first_parent: bool = False,
        since: float | None = None,
        stop_at: str | None = None,
    ) -> builtins.list[Commit]:
        """Commits a ref was built on, newest first: at most `limit`, those that come after commit `after`.

        With `prefix`, `prefixes` or `paths`, only commits (not merges) that changed one of them. `first_parent`
        follows the line the branch itself was on; `since` (seconds since the epoch) and `stop_at` (a ref, the
        last to be told) end the walk.
        """
        wanted = [*prefixes, *([] if prefix is None else [prefix])]
        found = self.log_iter(
            ref,
            after=after,
            paths=paths,
            prefixes=wanted,
            first_parent=first_parent,
            since=since,
            stop_at=stop_at,
        )
        return list(itertools.islice(found, limit))

    def log_iter(
        self,
        ref: str,
        *,
        after: str | None = None,
        paths: Sequence[str] = (),
        prefixes: Sequence[str] = (),
        first_parent: bool = False,
        since: float | None = None,
        stop_at: str | None = None,
    ) -> Iterator[Commit]:
        """Like `log` without a limit, one commit at a time."""
        under = [encoded_text(prefix) for prefix in prefixes]
        at = [encoded_text(path) for path in paths]
        last = None if stop_at is None else self._resolve(stop_at)
        walk = graph.first_parents if first_parent else graph.ancestors
        skipping = after is not None
        for commit in walk(self._resolve(ref), self.reader.commit):
            if since is not None and commit.date < since:
                if first_parent or commit.id == last:
                    return
                continue
            if skipping:
                skipping = commit.id != after
            elif not (under or at) or (len(commit.parents) < 2 and self.reader.touches(commit, under, at)):
                yield commit
            if commit.id == last:
                return

    def diff(
        self, left: str, right: str, *, three_dot: bool = False, prefix: str = ""
    ) -> builtins.list[Change]:
        """What differs from `left` to `right`, in path order; three-dot: from their merge base to `right`.

        Compares committed content; `status` tells what is staged.
        """
        from_id, to_id = self._sides(left, right, three_dot)
        return list(self.reader.changes(from_id, to_id, encoded_text(prefix)))

    def diff_page(
        self,
        left: str,
        right: str,
        *,
        three_dot: bool = False,
        prefix: str = "",
        after: str = "",
        limit: int = 1000,
    ) -> tuple[builtins.list[Change], bool]:
        """A page of what differs, those after path `after`, and whether there is more."""
        from_id, to_id = self._sides(left, right, three_dot)
        changes = self.reader.changes(from_id, to_id, encoded_text(prefix), encoded_text(after))
        found = list(itertools.islice(changes, limit + 1))
        return found[:limit], len(found) > limit

    def merge_base(self, left: str, right: str) -> str:
        """The id of the nearest commit both refs were built on. NotFound when their histories never met."""
        base = graph.merge_base(self._resolve(left), self._resolve(right), self.reader.commit)
        if base is None:
            raise NotFound(f"'{left}' and '{right}' have no commit in common")
        return base

    def conflicts(
        self, source_ref: str, dest_branch: str, *, after: str = "", limit: int | None = None
    ) -> builtins.list[PathConflict]:
        """The paths that stand against merging a ref into a branch, with what each side holds, in path order."""
        sides = self._resolve(source_ref), self._resolve(dest_branch)
        return builtins.list(itertools.islice(self._mover.conflicts(*sides, after), limit))

    def merge(
        self,
        source_ref: str,
        dest_branch: str,
        *,
        message: str | None = None,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
        strategy: Strategy | None = None,
        choices: Choices | None = None,
        squash: bool = False,
        fast_forward: FastForward = "never",
        allow_empty: bool = False,
        gate: Gate | None = None,
        also: Also | None = None,
    ) -> MergeResult:
        """Merge what `source_ref` committed since the merge base into a branch, as one commit, all or nothing.

        Conflict, whose problems list the paths, when both sides changed one differently and neither `choices`
        (by path: source, dest) nor a `strategy` (source-wins, dest-wins) decides, and when the branch has staged
        changes. With `squash` the commit has the branch alone as its parent. With `fast_forward` "allow" or
        "only" the branch is put on the source's commit where it has none of its own (Conflict for "only" where
        it has). `gate` is called once with the commit that would be published and vetoes by raising; while it
        runs, whoever else would move the branch waits, so what it judged is what is published, and a veto or a
        crash leaves everything as it was. `also` is called in the transaction that publishes: what it changes there is
        changed exactly when the merge is published, and it vetoes by raising.
        """
        if strategy not in {None, "source-wins", "dest-wins"}:
            raise Invalid(f"'{strategy}' is no merge strategy", hint="known: source-wins, dest-wins")
        if fast_forward not in {"never", "allow", "only"}:
            raise Invalid(f"'{fast_forward}' is no way to fast-forward", hint="known: never, allow, only")
        for path, way in (choices or {}).items():
            if way not in {"source", "dest"}:
                raise Invalid(f"'{way}' is no choice for '{path}'", hint="known: source, dest")
        source = self._resolve(source_ref)
        self._guard(dest_branch)
        text = message if message is not None else f"Merge '{source_ref}' into '{dest_branch}'"
        return self._mover.merge(
            source,
            dest_branch,
            self._attributes(text, committer, metadata),
            source_ref=source_ref,
            strategy=strategy,
            choices=choices,
            squash=squash,
            fast_forward=fast_forward,
            allow_empty=allow_empty,
            gate=gate,
            also=also,
        )

    def replace_prefixes(
        self,
        branch: str,
        chunks: Iterable[pa.Table],
        prefixes: Sequence[str],
        message: str,
        *,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Replacement:
        """Make what lies under some prefixes exactly what tables of links say, by one commit.

        The tables (see `links`) follow on one another in path order. What they say of paths outside of the
        prefixes is added to what is there. Entries that would say the same stay as they are; when all do, there
        is no commit. Conflict when something is staged on the branch.
        """
        spool = Spool(self.reader.runs)
        last = b""
        for table in chunks:
            for rows in self.writer.linked_table(table):
                if rows.path(0) <= last:
                    raise Invalid(
                        f"the tables are not in path order: '{rows.path(0).decode()}' comes too late"
                    )
                last = rows.path(rows.rows - 1)
                spool.add(rows)
        wanted = [opened(self.reader.runs, spool.end())]
        return self.replace_runs(branch, wanted, prefixes, message, committer=committer, metadata=metadata)

    def replace_runs(
        self,
        branch: str,
        wanted: Sequence[Run],
        prefixes: Sequence[str],
        message: str,
        *,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
        date: float | None = None,
        step: Step | None = None,
    ) -> Replacement:
        """The same for rows that were checked and put down already; of runs that name one path the last counts.

        `step` is called now and then and may raise to end it.
        """
        self.demand_replaceable(branch)
        places = intervals(encoded_text(prefix) for prefix in prefixes)
        attributes = self._attributes(message, committer, metadata, date)
        return self._mover.replace(branch, wanted, places, attributes, step)

    def demand_replaceable(self, branch: str) -> None:
        """Denied or NotFound when a branch may not be written by an import."""
        self._guard(branch, protected=True)

    def revert(
        self,
        branch: str,
        ref: str,
        *,
        parent_number: int = 0,
        message: str | None = None,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
        allow_empty: bool = False,
    ) -> Commit:
        """Take back, in a new commit, what a commit changed. Conflict when its paths changed again since.

        Of a merge commit, `parent_number` says which parent to go back to (1 is the branch it was merged into).
        """
        commit_id = self._resolve(ref)
        self._guard(branch, protected=True)
        text = message if message is not None else f"Revert {commit_id[:12]}"
        return self._mover.revert(
            branch,
            commit_id,
            self._attributes(text, committer, metadata),
            parent_number=parent_number,
            allow_empty=allow_empty,
        )

    def cherry_pick(
        self,
        branch: str,
        ref: str,
        *,
        parent_number: int = 0,
        message: str | None = None,
        committer: str = "",
        metadata: Mapping[str, str] | None = None,
    ) -> Commit:
        """Do on a branch, in a new commit, what another commit did. Conflict when the branch changed its paths.

        Message and metadata are the picked commit's unless given; the metadata tells where it came from.
        """
        picked = self.commit_info(ref)
        self._guard(branch, protected=True)
        origin = {"cherry-pick-origin": picked.id, "cherry-pick-committer": picked.committer}
        given = {**picked.metadata, **origin} if metadata is None else {**metadata, **origin}
        text = picked.message if message is None else message
        return self._mover.cherry_pick(
            branch, picked.id, self._attributes(text, committer, given), parent_number=parent_number
        )

    def hard_reset(self, branch: str, ref: str, *, expected: str | None = None) -> Branch:
        """Put a branch on the commit `ref` names. Conflict when something is staged on it.

        With `expected`, the id of a commit, also when the branch is on another one by now.
        """
        commit_id = self._resolve(ref)
        self._guard(branch, protected=True)
        self._mover.hard_reset(branch, commit_id, self.actor, expected=expected)
        return Branch(branch, commit_id)

    def fold(self, ref: str) -> bool:
        """Merge the layers of a commit into its base, which makes reading it quicker; False when it has none."""
        return upkeep.fold(self.reader, self._resolve(ref))

    def _resolve(self, ref: str) -> str:
        return self.reader.target(ref).commit_id

    def _sides(self, left: str, right: str, three_dot: bool) -> tuple[str, str]:
        from_id, to_id = self._resolve(left), self._resolve(right)
        return (self.merge_base(from_id, to_id), to_id) if three_dot else (from_id, to_id)

    def _attributes(
        self,
        message: str,
        committer: str,
        metadata: Mapping[str, str] | None,
        date: float | None = None,
    ) -> Attributes:
        if not checked_text(message, "the message").strip():
            raise Invalid("a commit needs a message")
        checked_text(committer, "the committer")
        encode_metadata(metadata, MAX_COMMIT_METADATA)
        return Attributes(message, committer or self.actor, dict(metadata or {}), checked_date(date))
