"""Promotions and rollbacks as they are recorded, and bringing one that was interrupted to its end.

A promotion makes the data of an environment by a release's code: a run that publishes, then the note that this
release is in force. A rollback puts the branch back on the commit a release left there, then makes the same note.
Each is an intent that is recorded first; `settle` finishes what a crash left half, and every run does so before
it looks which code is in force, so code and data never stay apart. Knows nothing of who may ask for one.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, Row, and_, delete, insert, or_, select, update

from tulle.errors import Conflict, Denied, NotFound, TulleError
from tulle.events import PROMOTION_ENDED, PROMOTION_REOPENED, PROMOTION_REQUESTED, ROLLBACK_ENDED, Event
from tulle.lake.repository import Lake
from tulle.pipeline import run as runs
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import approvals, environments, promotions
from tulle.state.tables import runs as run_rows

PROMOTION, ROLLBACK = "promotion", "rollback"
WAITING, RUNNING, DONE, FAILED, REFUSED, WITHDRAWN = (
    "waiting",
    "running",
    "done",
    "failed",
    "refused",
    "withdrawn",
)
_MOVES_LOOKED_AT = 100_000  # of a branch, since a rollback was asked for and interrupted
HARD_RESET = "hard reset"  # what the lake's log of branches calls it


@dataclass(frozen=True, slots=True)
class Promotion:
    """A release on its way into an environment, or back; times in seconds since the epoch.

    `before_commit` is where the branch was before, `commit_id` where it was put. `breaking` are sentences.
    """

    id: str
    product: str
    environment: str
    branch: str
    kind: str
    version: str
    status: str
    requested_by: str
    requested_at: float
    note: str
    breaking: Sequence[str]
    run_id: str | None
    before_version: str | None
    before_commit: str | None
    commit_id: str | None
    message: str
    changed_at: float
    credential: str | None = None  # the user whose credential asked

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status not in {WAITING, RUNNING}


def add(
    cx: Connection,
    *,
    product: str,
    environment: str,
    branch: str,
    kind: str,
    version: str,
    status: str,
    by: str,
    note: str = "",
    breaking: Sequence[str] = (),
    before_commit: str | None = None,
    commit_id: str | None = None,
    credential: str = "",
) -> str:
    """Record that somebody wants it; its id. Conflict while another one of the product and environment is open."""
    in_turn(cx, f"promotions of {product}")
    table = promotions.c
    open_one = cx.execute(
        select(promotions).where(
            table.product == product,
            table.environment == environment,
            table.status.in_([RUNNING, WAITING] if kind == PROMOTION else [RUNNING]),
        )
    ).first()
    if open_one is not None:
        raise Conflict(
            f"{open_one.kind} of '{product}' to {open_one.version} in '{environment}' is {open_one.status}",
            hint=f"`tulle promotions {product}` shows it; `tulle withdraw {open_one.id}` takes one that waits back",
        )
    id_ = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)
    at = now()
    cx.execute(
        insert(promotions).values(
            id=id_,
            product=product,
            environment=environment,
            branch=branch,
            kind=kind,
            version=version,
            status=status,
            requested_by=by,
            credential=credential or by,
            requested_at=at,
            note=note,
            breaking=list(breaking),
            before_version=in_force_in(cx, product, branch),
            before_commit=before_commit,
            commit_id=commit_id,
            changed_at=at,
        )
    )
    data = {"id": id_, "environment": environment, "version": version, "kind": kind, "status": status}
    data["credential"] = credential or by
    log.append(cx, Event(PROMOTION_REQUESTED, product, data), actor=by)
    return id_


def reopen(
    cx: Connection, asked: Promotion, breaking: Sequence[str], message: str, *, actor: str = ""
) -> bool:
    """Let a promotion that waits break something else than was asked for: what was approved counts no more.

    False when it waits no longer, or somebody else has just done it.
    """
    in_turn(cx, f"promotions of {asked.product}")
    current = get_in(cx, asked.id)
    if current.status != WAITING or list(current.breaking) != list(asked.breaking):
        return False
    cx.execute(delete(approvals).where(approvals.c.promotion_id == asked.id, approvals.c.approved))
    change(cx, asked.id, WAITING, breaking=list(breaking), message=message)
    data = {"id": asked.id, "environment": asked.environment, "version": asked.version, "message": message}
    log.append(
        cx, Event(PROMOTION_REOPENED, asked.product, {**data, "breaking": list(breaking)}), actor=actor
    )
    return True


def change(cx: Connection, id_: str, before: str, **values: Any) -> bool:
    """Change a promotion that has the status `before`; False when it has another one by now."""
    query = update(promotions).where(promotions.c.id == id_, promotions.c.status == before)
    return cx.execute(query.values(changed_at=now(), **values)).rowcount == 1


# ── which release is in force ────────────────────────────────────────────────────────────────────────────


def in_force(database: Database, product: str, branch: str) -> str | None:
    """The version by which runs on a product's branch are made; None: by its folder as it is."""
    with database.read() as cx:
        return in_force_in(cx, product, branch)


def in_force_in(cx: Connection, product: str, branch: str) -> str | None:
    """The same inside a transaction."""
    query = select(environments.c.version).where(
        environments.c.product == product, environments.c.branch == branch
    )
    found = cx.execute(query).scalar()
    return str(found) if found is not None else None


def _put_in_force(cx: Connection, promotion: Promotion) -> None:
    table, at = environments.c, now()
    key = and_(table.product == promotion.product, table.name == promotion.environment)
    values = {"version": promotion.version, "changed_at": at}
    if cx.execute(update(environments).where(key).values(**values)).rowcount == 0:
        cx.execute(
            insert(environments).values(
                product=promotion.product,
                name=promotion.environment,
                kind="environment",
                branch=promotion.branch,
                created_at=at,
                **values,
            )
        )


# ── bringing to an end ───────────────────────────────────────────────────────────────────────────────────


def settle(database: Database, lake: Lake, *, product: str | None = None, branch: str | None = None) -> None:
    """Bring to an end whatever is under way and can be: of one product and branch, or everywhere.

    One that cannot be ended yet holds up no other one; then it is told, as the kind of error that it met.
    """
    if left := try_to_settle(database, lake, product=product, branch=branch):
        raise left[0]


def try_to_settle(
    database: Database, lake: Lake, *, product: str | None = None, branch: str | None = None
) -> tuple[TulleError, ...]:
    """The same for who only looks: what is told of those that cannot be ended yet."""
    query = select(promotions).where(promotions.c.status == RUNNING)
    if product is not None:
        query = query.where(promotions.c.product == product)
    if branch is not None:
        query = query.where(promotions.c.branch == branch)
    with database.read() as cx:
        found = [value(row) for row in cx.execute(query.order_by(promotions.c.requested_at))]
    left: list[TulleError] = []
    for promotion in found:
        try:
            if promotion.kind == ROLLBACK:
                put_back(database, lake, promotion)
            else:
                _follow_run(database, lake, promotion)
        except (NotFound, Conflict, Denied) as exc:
            # The repository or the commit is gone, or what came to the branch since forbids it. Nothing was moved, and
            # nobody would ever end it otherwise: it has failed, and whoever still wants it asks again.
            fail(database, promotion, exc.message)
        except TulleError as exc:
            told = (
                f"{promotion.kind} {promotion.id} of '{promotion.product}' to {promotion.version} in "
                f"'{promotion.environment}' is half done and cannot be ended now: {exc.message}"
            )
            left.append(type(exc)(told, hint=exc.hint, problems=exc.problems))
    return tuple(left)


def _follow_run(database: Database, lake: Lake, promotion: Promotion) -> None:
    """A promotion has ended when its run has."""
    if promotion.run_id is None:
        return
    run = runs.get(database, promotion.run_id)
    if not run.ended:
        return
    if run.status not in {runs.SUCCEEDED, runs.UNCHANGED}:
        fail(database, promotion, str((run.error or {}).get("message", run.status)))
        return
    commit_id = run.commit_id or lake.repository(promotion.product).resolve(promotion.branch)
    with database.write() as cx:
        # What is replaced may be another release than when it was asked for: a rollback does not wait for approvals.
        before = in_force_in(cx, promotion.product, promotion.branch)
        values = {"commit_id": commit_id, "before_commit": run.base_commit, "before_version": before}
        if change(cx, promotion.id, RUNNING, status=DONE, **values):
            _put_in_force(cx, promotion)
            _tell(cx, PROMOTION_ENDED, replace(promotion, before_version=before), DONE, "")


def fail(database: Database, promotion: Promotion, message: str) -> None:
    """End a promotion or rollback that waits or is under way and cannot be done."""
    with database.write() as cx:
        if change(cx, promotion.id, promotion.status, status=FAILED, message=message):
            kind = ROLLBACK_ENDED if promotion.kind == ROLLBACK else PROMOTION_ENDED
            _tell(cx, kind, promotion, FAILED, message)


def put_back(database: Database, lake: Lake, promotion: Promotion) -> None:
    """Put a branch on the commit that a recorded rollback names, once, and note that its release is in force.

    Conflict when the branch is not where it was when the rollback was asked for: what came since would be lost.
    """
    assert promotion.commit_id is not None
    if not was_put_back(lake, promotion):
        repository = lake.repository(promotion.product, actor=promotion.requested_by)
        try:
            repository.hard_reset(
                promotion.branch, promotion.commit_id, expected=promotion.before_commit or None
            )
        except Conflict:
            if not was_put_back(lake, promotion):  # by somebody else, just now
                raise
    with database.write() as cx:
        if change(cx, promotion.id, RUNNING, status=DONE):
            _put_in_force(cx, promotion)
            _tell(cx, ROLLBACK_ENDED, promotion, DONE, "")


def was_put_back(lake: Lake, promotion: Promotion) -> bool:
    """Whether the branch went there since: what came after must not be lost by doing it twice."""
    moves = lake.repository(promotion.product).reflog(promotion.branch, limit=_MOVES_LOOKED_AT)
    return any(
        move.operation == HARD_RESET
        and move.after == promotion.commit_id
        and move.at >= promotion.requested_at
        for move in moves
    )


def forget(cx: Connection, product: str) -> None:
    """No release of a product is in force anywhere, and none is on its way: its repository goes."""
    cx.execute(delete(environments).where(environments.c.product == product))
    end_open(cx, product, [WAITING, RUNNING], "the product was destroyed with its data")


def end_open(cx: Connection, product: str, statuses: Sequence[str], message: str) -> None:
    """Promotions and rollbacks of a product with one of these statuses have failed."""
    in_turn(cx, f"promotions of {product}")
    is_open = (promotions.c.product == product) & promotions.c.status.in_(statuses)
    for row in cx.execute(select(promotions).where(is_open)).all():
        ended = value(row)
        if change(cx, ended.id, ended.status, status=FAILED, message=message):
            _tell(cx, ROLLBACK_ENDED if ended.kind == ROLLBACK else PROMOTION_ENDED, ended, FAILED, message)


def _tell(cx: Connection, kind: str, promotion: Promotion, status: str, message: str) -> None:
    data = {
        "id": promotion.id,
        "environment": promotion.environment,
        "version": promotion.version,
        "before": promotion.before_version,
        "status": status,
        "message": message,
    }
    log.append(cx, Event(kind, promotion.product, data), actor=promotion.requested_by)


def demand_no_run(cx: Connection, product: str, branch: str) -> None:
    """Conflict while a run of the product works for the branch: it would publish on what is being put back."""
    in_turn(cx, "starting a run")
    busy = cx.execute(
        select(run_rows.c.id).where(
            run_rows.c.product == product,
            run_rows.c.environment == branch,
            run_rows.c.status == runs.RUNNING,
        )
    ).scalar()
    if busy is not None:
        raise Conflict(
            f"run {busy} of '{product}' is working on '{branch}'",
            hint=f"wait for it, or end it with `tulle runs {busy} --stop`",
        )


# ── reading ──────────────────────────────────────────────────────────────────────────────────────────────


def get(database: Database, id_: str) -> Promotion:
    """One promotion or rollback. NotFound."""
    with database.read() as cx:
        return get_in(cx, id_)


def get_in(cx: Connection, id_: str) -> Promotion:
    """The same inside a transaction."""
    row = cx.execute(select(promotions).where(promotions.c.id == id_)).first()
    if row is None:
        raise NotFound(f"there is no promotion '{id_}'", hint="`tulle promotions` lists them")
    return value(row)


def recent(
    database: Database,
    *,
    product: str | None = None,
    environment: str | None = None,
    status: str | None = None,
    limit: int | None = 100,
) -> tuple[Promotion, ...]:
    """Promotions and rollbacks, newest first; at most so many, None: all."""
    query = select(promotions).order_by(promotions.c.requested_at.desc(), promotions.c.id.desc()).limit(limit)
    wanted: Mapping[str, str | None] = {"product": product, "environment": environment, "status": status}
    for name, given in wanted.items():
        if given is not None:
            query = query.where(promotions.c[name] == given)
    with database.read() as cx:
        return tuple(value(row) for row in cx.execute(query))


def left_by(database: Database, product: str, environment: str, version: str) -> str | None:
    """The commit at which an environment last was while that version was in force there; None when it never was."""
    table = promotions.c
    query = (
        select(promotions)
        .where(
            table.product == product,
            table.environment == environment,
            table.status == DONE,
            or_(table.version == version, table.before_version == version),
        )
        .order_by(table.changed_at.desc())
    )
    with database.read() as cx:
        row = cx.execute(query).first()
    if row is None:
        return None
    # The newest that names it: either it came with that one, or went with it, after all its runs.
    found = row.before_commit if row.before_version == version and row.version != version else row.commit_id
    return str(found) if found is not None else None


def value(row: Row[Any]) -> Promotion:
    """A row as the promotion it records."""
    return Promotion(**{name: getattr(row, name) for name in Promotion.__slots__})
