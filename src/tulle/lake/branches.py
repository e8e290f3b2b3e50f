"""A repository's names: branches, tags, refs and where branches have been."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from tulle.errors import AlreadyExists, Denied
from tulle.lake import expression, refs
from tulle.lake.entry import checked_ref_name
from tulle.lake.handle import Handle
from tulle.lake.hooks.event import Event
from tulle.lake.refs import Branch, BranchState, Move, Tag
from tulle.state.db import in_turn


class Branches(Handle):
    """Branches and tags of one repository."""

    def branches(
        self, prefix: str = "", after: str = "", limit: int | None = None, *, show_hidden: bool = True
    ) -> list[Branch]:
        """Branches by name: those whose name starts with `prefix`, after `after`, at most `limit`."""
        return self._read(
            lambda cx: refs.list_branches(cx, self._id, prefix, after, limit, show_hidden=show_hidden)
        )

    def branch(self, name: str) -> Branch:
        """One branch. NotFound."""
        return Branch(name, self._read(lambda cx: refs.get_branch(cx, self._id, name)).commit_id)

    def create_branch(
        self, name: str, source: str = "main", *, exist_ok: bool = False, hidden: bool = False
    ) -> Branch:
        """Make a branch on the commit `source` names; no data is copied. AlreadyExists unless `exist_ok`."""
        checked_ref_name(name, "branch")
        self._guard()
        told, event = None, None
        if self.hooks is not None:
            with self._database.read() as cx:
                self._refuse_taken(cx, name, allow_branch=exist_ok)
                commit_id = expression.resolve(cx, self._id, source).commit_id
            event = Event("pre-create-branch", commit_id, name, source, actor=self.actor)
            told = self._tell_before(event)
        with self._database.write() as cx:
            self._take_name(cx, name)
            if exist_ok and (found := refs.find_branch(cx, self._id, name)) is not None:
                return Branch(name, found.commit_id)
            self._refuse_taken(cx, name)
            commit_id = expression.resolve(cx, self._id, source).commit_id
            refs.add_branch(cx, self._id, name, commit_id, hidden=hidden, actor=self.actor)
            if told is not None and event is not None:
                told.after(cx, self._itself(), replace(event, kind="post-create-branch"))
        return Branch(name, commit_id, hidden)

    def delete_branch(
        self, name: str, *, demand: Callable[[Connection, BranchState], None] | None = None
    ) -> None:
        """Remove a branch with what is staged on it; its commits stay. Denied for the default branch.

        Conflict while somebody outside of the lake relies on it, as on the branch that is an environment.

        `demand` is called, in the transaction, with the branch as it would go, and keeps it by raising.
        """
        if name == self.default_branch:
            raise Denied(f"'{name}' is the default branch of repository '{self.name}' and cannot be deleted")
        self._guard(name, protected=True)
        self._refuse_used("branch", name)
        self._mover.delete_branch(name, self.actor, demand)

    def reflog(self, branch: str, *, limit: int = 100) -> list[Move]:
        """Where a branch was and when and why it went elsewhere, newest first; also of a deleted branch."""
        return self._read(lambda cx: refs.list_moves(cx, self._id, branch, limit))

    def tags(self, prefix: str = "", after: str = "", limit: int | None = None) -> list[Tag]:
        """Tags by name: those whose name starts with `prefix`, after `after`, at most `limit`."""
        return self._read(lambda cx: refs.list_tags(cx, self._id, prefix, after, limit))

    def tag(self, name: str) -> Tag:
        """One tag. NotFound."""
        return self._read(lambda cx: refs.get_tag(cx, self._id, name))

    def create_tag(self, name: str, ref: str) -> Tag:
        """Name the commit of `ref` for good. AlreadyExists."""
        checked_ref_name(name, "tag")
        self._guard()
        commit_id = self.resolve(ref)
        with self._database.read() as cx:
            self._refuse_taken(cx, name)
        event = Event(
            "pre-create-tag",
            commit_id,
            source_ref=ref,
            commit=self.reader.commit(commit_id),
            tag=name,
            actor=self.actor,
        )
        told = self._tell_before(event)
        with self._database.write() as cx:
            self._take_name(cx, name)
            self._refuse_taken(cx, name)
            refs.add_tag(cx, self._id, name, commit_id)
            if told is not None:
                told.after(cx, self._itself(), replace(event, kind="post-create-tag"))
        return Tag(name, commit_id)

    def delete_tag(self, name: str) -> None:
        """Remove a tag. NotFound; Conflict while somebody outside of the lake relies on it, as on a release's."""
        self._guard()
        commit = self.reader.commit(self.tag(name).commit_id)
        self._refuse_used("tag", name)
        event = Event("pre-delete-tag", commit.id, commit=commit, tag=name, actor=self.actor)
        told = self._tell_before(event)
        with self._database.write() as cx:
            refs.delete_tag(cx, self._id, name)
            if told is not None:
                told.after(cx, self._itself(), replace(event, kind="post-delete-tag"))

    def resolve(self, ref: str) -> str:
        """The full id of the commit a ref names: branch, tag, id, an id's beginning, then ~n, ^n or @."""
        return self.reader.target(ref).commit_id

    def _take_name(self, cx: Connection, name: str) -> None:
        # Of two who want one name, for a branch or a tag, the second sees what the first made of it.
        in_turn(cx, f"the name {name} in repository {self._id}")

    def _refuse_taken(self, cx: Connection, name: str, *, allow_branch: bool = False) -> None:
        # A tag and a branch of one name would hide one another.
        if not allow_branch and refs.find_branch(cx, self._id, name) is not None:
            raise AlreadyExists(f"branch '{name}' exists in repository '{self.name}'")
        if refs.find_tag(cx, self._id, name) is not None:
            raise AlreadyExists(
                f"tag '{name}' exists in repository '{self.name}'",
                hint="a tag is never moved; choose another name",
            )
