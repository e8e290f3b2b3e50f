"""Commits: making them, reading them, and the log, whose pages go on where the last one ended."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from datetime import UTC, datetime

import msgspec

from tulle.errors import Invalid
from tulle.lake.door import Outgoing
from tulle.lake.entry import Commit
from tulle.lake.repository import Repository
from tulle.lake.rest.call import Call, json_answer, page_of
from tulle.lake.rest.failure import unsupported
from tulle.lake.rest.forms import branch_of, commit_form
from tulle.lake.rest.router import Route

COMMIT_BYTES = 2 * 1024 * 1024  # a commit's metadata alone may have 1 MiB
KEPT_WALKS = 64


class CommitCreation(msgspec.Struct):
    """What a commit is to say."""

    message: str
    metadata: dict[str, str] | None = None
    date: int | None = None
    allow_empty: bool = False
    force: bool = False


class Walks:
    """Walks through histories that a page left off, each for whoever asks for the page that follows.

    A walk is taken by one caller. Whoever finds none begins at the head again and leaves out what came before.
    """

    def __init__(self, most: int = KEPT_WALKS) -> None:
        self._most = most
        self._kept: OrderedDict[Hashable, Iterator[Commit]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, key: Hashable) -> Iterator[Commit] | None:
        """The walk that stands there, no longer kept."""
        with self._lock:
            return self._kept.pop(key, None)

    def keep(self, key: Hashable, walk: Iterator[Commit]) -> None:
        """Keep a walk, and forget the one that waited longest when there are too many."""
        with self._lock:
            self._kept[key] = walk
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)


WALKS = Walks()


def commit(call: Call) -> Outgoing:
    """Commit what is staged."""
    call.demand_branch("fs:CreateCommit")
    if call.query("source_metarange"):
        raise unsupported("a commit is made of what is staged on its branch; import what lies elsewhere")
    wanted = call.json(CommitCreation, COMMIT_BYTES)
    made = call.repository(force=wanted.force).commit(
        call["branch"],
        wanted.message,
        metadata=wanted.metadata,
        allow_empty=wanted.allow_empty,
        date=wanted.date,
    )
    return json_answer(commit_form(made), 201)


def get(call: Call) -> Outgoing:
    """The commit a ref names."""
    call.demand_repository("fs:ReadCommit")
    return json_answer(commit_form(call.repository().commit_info(call["commitId"])))


def log(call: Call) -> Outgoing:
    """A page of the commits a ref was built on, newest first."""
    call.demand_branch("fs:ReadBranch", branch_of(call["ref"]))
    repository, amount, after = call.repository(), call.amount(), call.query("after")
    head = repository.resolve(call["ref"])
    key, walk = _walk(call, repository, head)
    page = list(itertools.islice(walk, amount))
    following = next(walk, None)
    if page and following is not None and not call.flag("limit"):
        WALKS.keep((*key, page[-1].id), itertools.chain([following], walk))
    if after and not page:
        repository.commit_info(after)  # NotFound for what is no commit
    return json_answer(
        page_of(
            [commit_form(found) for found in page],
            has_more=following is not None and not call.flag("limit"),
            next_offset=page[-1].id if page else "",
        )
    )


def _walk(call: Call, repository: Repository, head: str) -> tuple[tuple[Hashable, ...], Iterator[Commit]]:
    paths, prefixes = tuple(call.queries("objects")), tuple(call.queries("prefixes"))
    first_parent, after = call.flag("first_parent"), call.query("after")
    since = _moment(call.query("since"))
    stop_at = repository.resolve(call.query("stop_at")) if call.query("stop_at") else None
    key = (repository.record.id, head, paths, prefixes, first_parent, since, stop_at)
    walk = WALKS.take((*key, after)) if after else None
    if walk is None:
        walk = repository.log_iter(
            head,
            after=repository.resolve(after) if after else None,
            paths=paths,
            prefixes=prefixes,
            first_parent=first_parent,
            since=since,
            stop_at=stop_at,
        )
    return key, walk


def _moment(text: str) -> float | None:
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise Invalid(f"'{text[:60]}' is no time", hint="for example 2026-01-31T12:00:00Z") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


_R = "/repositories/{repository}"

ROUTES = [
    Route("POST", f"{_R}/branches/{{branch}}/commits", commit, "commit"),
    Route("GET", f"{_R}/commits/{{commitId}}", get, "getCommit"),
    Route("GET", f"{_R}/refs/{{ref}}/commits", log, "logCommits"),
]
