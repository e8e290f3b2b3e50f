"""Pull requests: that one branch be merged into another, asked for, talked about, and done once.

The merge commit's metadata names its pull request. So a merge whose worker died before it was noted here is found
again, and of two that merge at the same time one does it and the other finds that it is done. Knows nothing of
the doors it is asked through.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, insert, select, update

from tulle.errors import Conflict, Invalid, NotFound
from tulle.lake.entry import Commit
from tulle.lake.merge import Choices, Strategy
from tulle.lake.publish import Gate, GateCall
from tulle.lake.repository import Repository
from tulle.state.db import now
from tulle.state.tables import lake_pulls

MARKER = "tulle-pull"  # in the metadata of the merge commit, the id of the pull request
OLDER = 100  # commits from before a pull request that are looked at for its merge
MAX_TITLE = 1024
MAX_DESCRIPTION = 64 * 1024

Status = Literal["open", "closed", "merged"]


@dataclass(frozen=True, slots=True)
class Pull:
    """A pull request. Times are in seconds since the epoch, `closed_at` also of one that was merged."""

    id: str
    status: Status
    title: str
    description: str
    author: str
    source: str
    destination: str
    created_at: float
    closed_at: float | None
    merged_commit_id: str | None


def create(
    repository: Repository, title: str, source: str, destination: str, *, description: str = ""
) -> Pull:
    """Ask that branch `source` be merged into branch `destination`. Invalid, NotFound.

    Ids sort by the time of their creation. The author is who acts on the repository.
    """
    _check_texts(title, description)
    if source == destination:
        raise Invalid(f"branch '{source}' cannot be merged into itself")
    for branch in (source, destination):
        repository.branch(branch)
    at = now()
    pull = Pull(
        f"{round(at * 1_000_000):014x}{secrets.token_hex(3)}",
        "open",
        title,
        description,
        repository.actor,
        source,
        destination,
        at,
        None,
        None,
    )
    with repository.reader.database.write() as cx:
        cx.execute(
            insert(lake_pulls).values(
                repository_id=repository.record.id,
                id=pull.id,
                status=pull.status,
                title=title,
                description=description,
                author=pull.author,
                source=source,
                destination=destination,
                created_at=at,
            )
        )
    return pull


def get(repository: Repository, id_: str) -> Pull:
    """One pull request. NotFound."""
    with repository.reader.database.read() as cx:
        return _get(cx, repository, id_)


def find(
    repository: Repository,
    *,
    status: str = "all",
    prefix: str = "",
    after: str = "",
    limit: int | None = None,
    newest_first: bool = False,
) -> list[Pull]:
    """Pull requests by id: those after one, at most so many. Merged ones count as closed.

    With `newest_first` the order is turned round, and `after` means those created before.
    """
    if status not in {"open", "closed", "all"}:
        raise Invalid(f"'{status}' is no status to look for", hint="known: open, closed, all")
    id_ = lake_pulls.c.id
    query = select(lake_pulls).where(lake_pulls.c.repository_id == repository.record.id)
    query = query.order_by(id_.desc() if newest_first else id_).limit(limit)
    if status != "all":
        query = query.where(lake_pulls.c.status.in_(["open"] if status == "open" else ["closed", "merged"]))
    if prefix:
        query = query.where(id_ >= prefix, id_ < prefix + "\U0010ffff")
    if after:
        query = query.where(id_ < after if newest_first else id_ > after)
    with repository.reader.database.read() as cx:
        return [_pull(row) for row in cx.execute(query)]


def change(
    repository: Repository,
    id_: str,
    *,
    title: str | None = None,
    description: str | None = None,
    status: str | None = None,
) -> Pull:
    """Change the texts of a pull request, close it or open it again. NotFound, Invalid; Conflict once merged."""
    if status not in {None, "open", "closed"}:
        raise Invalid(
            f"a pull request cannot be set to '{status}'", hint="open or closed; merging is asked for"
        )
    with repository.reader.database.write() as cx:
        known = _get(cx, repository, id_, lock=True)
        values: dict[str, Any] = {
            "title": known.title if title is None else title,
            "description": known.description if description is None else description,
        }
        _check_texts(values["title"], values["description"])
        if status is not None and status != known.status:
            if known.status == "merged":
                raise Conflict(f"pull request '{id_}' is merged and cannot become {status}")
            values |= {"status": status, "closed_at": now() if status == "closed" else None}
        cx.execute(update(lake_pulls).where(*_is(repository, id_)).values(**values))
        return _get(cx, repository, id_)


def merge(
    repository: Repository,
    id_: str,
    *,
    message: str | None = None,
    metadata: Mapping[str, str] | None = None,
    strategy: Strategy | None = None,
    choices: Choices | None = None,
    squash: bool = False,
    gate: Gate | None = None,
) -> Pull:
    """Merge a pull request's source into its destination and note it. Conflict when it is not open.

    Whatever `Repository.merge` raises leaves the pull request open. Invalid when there is nothing to merge.
    """
    pull = get(repository, id_)
    if pull.status != "open":
        raise Conflict(f"pull request '{id_}' is {pull.status}, not open")
    done = _merged_already(repository, pull, repository.branch(pull.destination).commit_id)
    if done is not None:  # by somebody who could not note it any more
        return _note(repository, id_, done)

    def judge(call: GateCall) -> None:
        # Nobody moves the destination now: whoever merged before us is in its history.
        before = _merged_already(repository, pull, call.before)
        if before is not None:
            raise _Done(before)
        current = get(repository, id_)
        if current.status == "closed":
            raise Conflict(f"pull request '{id_}' was closed meanwhile")
        if gate is not None:
            gate(call)

    try:
        result = repository.merge(
            pull.source,
            pull.destination,
            message=message or _message(pull),
            metadata={**(metadata or {}), MARKER: id_},
            strategy=strategy,
            choices=choices,
            squash=squash,
            gate=judge,
        )
    except _Done as found:
        return _note(repository, id_, found.commit)
    if result.unchanged:
        done = _merged_already(repository, pull, result.commit.id)
        if done is None:
            raise Invalid(f"branch '{pull.destination}' has everything that '{pull.source}' has already")
        return _note(repository, id_, done)
    return _note(repository, id_, result.commit)


class _Done(Exception):
    """The merge was done by somebody else."""

    def __init__(self, commit: Commit) -> None:
        super().__init__(commit.id)
        self.commit = commit


def _merged_already(repository: Repository, pull: Pull, head: str) -> Commit | None:
    """The merge commit of a pull request in the first-parent history of a commit."""
    commit = repository.reader.commit(head)
    older = 0  # in a row; a single date may be made up
    while older < OLDER:
        if commit.metadata.get(MARKER) == pull.id:
            return commit
        if not commit.parents:
            return None
        older = older + 1 if commit.date < pull.created_at else 0
        commit = repository.reader.commit(commit.parents[0])
    return None


def _note(repository: Repository, id_: str, commit: Commit) -> Pull:
    with repository.reader.database.write() as cx:
        is_ours = (*_is(repository, id_), lake_pulls.c.status != "merged")
        values = {"status": "merged", "merged_commit_id": commit.id, "closed_at": now()}
        cx.execute(update(lake_pulls).where(*is_ours).values(**values))
        return _get(cx, repository, id_)


def _message(pull: Pull) -> str:
    return f"{pull.title}\n\n{pull.description}" if pull.description else pull.title


def _check_texts(title: str, description: str) -> None:
    if not title.strip() or len(title) > MAX_TITLE:
        raise Invalid(f"a pull request needs a title of 1 to {MAX_TITLE} characters")
    if len(description) > MAX_DESCRIPTION:
        raise Invalid(
            f"a description of {len(description)} characters is too long", hint=f"at most {MAX_DESCRIPTION}"
        )
    if "\0" in title + description:
        raise Invalid("a pull request's texts may not hold a NUL character")


def _is(repository: Repository, id_: str) -> tuple[Any, Any]:
    return lake_pulls.c.repository_id == repository.record.id, lake_pulls.c.id == id_


def _get(cx: Connection, repository: Repository, id_: str, *, lock: bool = False) -> Pull:
    query = select(lake_pulls).where(*_is(repository, id_))
    row = cx.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFound(f"there is no pull request '{id_}' in repository '{repository.name}'")
    return _pull(row)


def _pull(row: Row[Any]) -> Pull:
    return Pull(
        row.id,
        row.status,
        row.title,
        row.description,
        row.author,
        row.source,
        row.destination,
        row.created_at,
        row.closed_at,
        row.merged_commit_id,
    )
