"""What is staged on a branch: written, durable, not committed yet.

A branch has a stack of staged items, newest first. An item is a token, under which rows lie in the database, or
a run in the object store (a large batch). Writes go to the token on top. Sealing puts a fresh token on top, so
that a commit takes exactly what lay below it and a write that comes later stays staged. Knows nothing of
commits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Integer, bindparam, delete, select, text, update

from tulle.errors import Conflict
from tulle.lake import refs
from tulle.lake.ranges import EMPTY, Range, Row
from tulle.lake.runs import RangeRun, Run, RunRef, RunStore
from tulle.state.tables import lake_staged

LARGE_BATCH = 256  # a batch of so many rows is staged as a run

Item = Mapping[str, Any]

_COLUMNS = [column.name for column in lake_staged.columns if column.name != "token"]
_UPSERT = text(
    f"INSERT INTO lake_staged (token, {', '.join(_COLUMNS)}) "  # noqa: S608  our own column names
    f"VALUES (:token, {', '.join(':' + name for name in _COLUMNS)}) "
    "ON CONFLICT (token, path) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS if name != "path")
)
_OF_TOKEN = select(*(lake_staged.c[name] for name in _COLUMNS)).where(
    lake_staged.c.token == bindparam("of_token")
)
_AT = _OF_TOKEN.where(lake_staged.c.path == bindparam("at"))
_FROM = (
    _OF_TOKEN.where(lake_staged.c.path >= bindparam("start"))
    .order_by(lake_staged.c.path)
    .limit(bindparam("rows", type_=Integer))
)
_ANY = select(lake_staged.c.path).where(lake_staged.c.token == bindparam("of_token")).limit(1)
_DROP = delete(lake_staged).where(lake_staged.c.token == bindparam("of_token"))


def stage_rows(cx: Connection, repository: int, branch: str, rows: Sequence[Row]) -> None:
    """Stage a few rows, each newer than what was staged at its path before. NotFound without the branch."""
    state = refs.get_branch(cx, repository, branch)
    if cx.dialect.name != "sqlite":  # there nobody else writes meanwhile
        state = refs.get_branch(cx, repository, branch, lock="share" if _has_token(state) else "update")
        if not _has_token(state):  # it may have been taken just now
            state = refs.get_branch(cx, repository, branch, lock="update")
    if _has_token(state):
        token = state.staged[0]["token"]
    else:
        token = uuid4().hex
        refs.set_staged(cx, repository, branch, [{"token": token}, *state.staged])
    add_rows(cx, token, rows)


def add_rows(cx: Connection, token: str, rows: Sequence[Row]) -> None:
    """Put rows under a token, over those with the same path; the last of several with one path counts."""
    in_order = sorted(rows, key=itemgetter(0))  # so that two who write the same paths do not lock crosswise
    cx.execute(_UPSERT, [dict(zip(_COLUMNS, row, strict=True), token=token) for row in in_order])


def stage_run(cx: Connection, repository: int, branch: str, run: RunRef) -> None:
    """Stage a run that is in the object store already, newer than everything staged before."""
    state = refs.get_branch(cx, repository, branch, lock="update")
    refs.set_staged(cx, repository, branch, [{"run": run.as_dict()}, *state.staged])


def seal(cx: Connection, repository: int, branch: str) -> tuple[Item, ...]:
    """Make later writes go elsewhere and return the items that hold what was staged until now."""
    staged = refs.get_branch(cx, repository, branch, lock="update").staged
    if not staged or "run" in staged[0]:
        return staged
    if _is_empty(cx, staged[0]["token"]):
        return staged[1:]
    refs.set_staged(cx, repository, branch, [{"token": uuid4().hex}, *staged])
    return staged


def unsealed(cx: Connection, repository: int, branch: str, sealed: Sequence[Item]) -> list[Item]:
    """What is staged on the branch without the sealed items: what came after them. Conflict if they are gone.

    A token under which nothing lies is not told: with it every reader of the branch would ask for rows.
    """
    staged = refs.get_branch(cx, repository, branch, lock="update").staged
    newer = len(staged) - len(sealed)
    if newer < 0 or list(staged[newer:]) != list(sealed):
        raise Conflict(
            f"what was staged on branch '{branch}' was taken by somebody else; nothing was changed"
        )
    return [item for item in staged[:newer] if "run" in item or not _is_empty(cx, item["token"])]


def drop_rows(cx: Connection, items: Sequence[Item]) -> None:
    """Remove the rows of items that no branch has any more."""
    for item in items:
        if "token" in item:
            cx.execute(_DROP, {"of_token": item["token"]})


def squeeze(cx: Connection, repository: int, branch: str) -> None:
    """Join tokens that lie on one another, so that a stack does not grow with failed commits.

    Only while the branch is locked and nothing is sealed.
    """
    staged = list(refs.get_branch(cx, repository, branch, lock="update").staged)
    squeezed: list[Item] = []
    for item in staged:  # newest first
        if squeezed and "token" in item and "token" in squeezed[-1]:
            newer, older = squeezed[-1]["token"], item["token"]
            paths = select(lake_staged.c.path).where(lake_staged.c.token == newer)
            cx.execute(delete(lake_staged).where(lake_staged.c.token == older, lake_staged.c.path.in_(paths)))
            cx.execute(update(lake_staged).where(lake_staged.c.token == older).values(token=newer))
        else:
            squeezed.append(item)
    if len(squeezed) < len(staged):
        refs.set_staged(cx, repository, branch, squeezed)


class StagedRun:
    """The rows under one token, as a run; for use inside the transaction of `cx`.

    What one query found serves the following ones: reading a listing folder by folder asks the database little.
    """

    def __init__(self, cx: Connection, token: str) -> None:
        self._cx = cx
        self._token = token
        self._known = EMPTY  # all rows from `_from` up to (without) `_until`; None is the end of all
        self._from: bytes | None = None
        self._until: bytes | None = None

    def find(self, path: bytes) -> Row | None:
        """The row at exactly `path`."""
        row = self._cx.execute(_AT, {"of_token": self._token, "at": path}).first()
        return None if row is None else tuple(row)

    def chunk(self, start: bytes, end: bytes | None, limit: int) -> tuple[Range, bytes | None]:
        """Some first rows of the interval."""
        if self._from is None or start < self._from or (self._until is not None and start >= self._until):
            self._fetch(start, limit)
        until = self._until
        rows, bound = RangeRun(self._known).chunk(start, end, limit)
        if bound is None and until is not None and (end is None or end > until):
            bound = until
        return rows, bound

    def _fetch(self, start: bytes, limit: int) -> None:
        parameters = {"of_token": self._token, "start": start, "rows": limit + 1}
        found = self._cx.execute(_FROM, parameters).all()
        self._from = start
        self._until = found[limit][0] if len(found) > limit else None
        self._known = Range.of(found[:limit])


def open_items(cx: Connection, runs: RunStore, items: Sequence[Item]) -> list[Run]:
    """Staged items as runs, newest first, for use inside the transaction of `cx`."""
    return [
        StagedRun(cx, item["token"]) if "token" in item else runs.open(RunRef(**item["run"]))
        for item in items
    ]


def _has_token(state: refs.BranchState) -> bool:
    return bool(state.staged) and "token" in state.staged[0]


def _is_empty(cx: Connection, token: str) -> bool:
    return cx.execute(_ANY, {"of_token": token}).first() is None
