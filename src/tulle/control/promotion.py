"""Promoting a release into an environment, approving that, and rolling back: who may, and what stands against it.

Before anything happens: the release is what was signed, it was where it must have been before, and nobody is broken
unawares. Then enough of the named people agree, none of them who asked. Then its code makes the environment's data,
judged by its own checks, and only with that data published is it in force. How an interrupted one ends is in
`pipeline.promotion`. `by` who decides is whose credential it was; who asks with the mesh's token may ask for another
one, so the user of that credential (`credential`) may not approve either.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import insert, select

from tulle.config import Environment
from tulle.control import environments, product_release
from tulle.control.impact import agreed_with
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, NotFound, Problem, TulleError, Unavailable
from tulle.events import PROMOTION_DECIDED, Event
from tulle.pipeline import manifest, promotion, release, run_end, worker
from tulle.pipeline import run as runs
from tulle.pipeline.promotion import (
    DONE,
    PROMOTION,
    REFUSED,
    ROLLBACK,
    RUNNING,
    WAITING,
    WITHDRAWN,
    Promotion,
)
from tulle.pipeline.release import Release
from tulle.spec import environment as declared
from tulle.spec.compare import compare
from tulle.spec.product import DataProduct
from tulle.state import log, products
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import approvals as table

_ASKING_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Approval:
    """What one person decided about a promotion."""

    approver: str
    approved: bool
    note: str
    at: float


def promote(
    workspace: Workspace,
    product: str,
    version: str,
    *,
    to: str,
    by: str,
    note: str = "",
    accept_breaking: bool = False,
    credential: str = "",
) -> Promotion:
    """Ask that a release be promoted into an environment, and start it if nobody has to approve.

    Asking again for what is under way, or in force, gives that. Denied, naming consumers, when it would break
    them and `accept_breaking` does not say that they know.
    """
    database, settings = workspace.database, workspace.settings
    environment = declared.environment(settings, to)
    found = release.get(database, product, version)
    release.verify(workspace.lake, found, settings)
    environments.ensure_branches(workspace, product)
    promotion.settle(database, workspace.lake, product=product)
    is_in_force = promotion.in_force(database, product, environment.branch) == version
    for known in promotion.recent(database, product=product, environment=environment.name):
        if known.kind == PROMOTION and known.version == version and not known.ended:
            return _start_if_approved(workspace, known, environment)
        if known.status == DONE and known.version == version and is_in_force:
            return known
    _demand_before(database, found, environment, workspace)
    breaking = _breaking(workspace, found, environment)
    if breaking and not accept_breaking:
        raise Denied(
            f"release {version} of '{product}' breaks {len(breaking)} "
            f"{'promise' if len(breaking) == 1 else 'promises'} that are kept in '{environment.name}' now",
            hint="tell the consumers, then promote with --accept-breaking; or give them a release that keeps both",
            problems=[Problem(sentence) for sentence in breaking],
        )
    with database.write() as cx:
        id_ = promotion.add(
            cx,
            product=product,
            environment=environment.name,
            branch=environment.branch,
            kind=PROMOTION,
            version=version,
            status=WAITING,
            by=by,
            note=note,
            breaking=breaking,
            credential=credential,
        )
    return _start_if_approved(workspace, promotion.get(database, id_), environment)


def _demand_before(
    database: Database, found: Release, environment: Environment, workspace: Workspace
) -> None:
    """Denied when the release has not been in the environment it must come from."""
    if not environment.after:
        return
    earlier = declared.environment(workspace.settings, environment.after)
    if found.statement["data"]["branch"] == earlier.branch:
        return
    known = promotion.recent(
        database, product=found.product, environment=earlier.name, status=DONE, limit=10_000
    )
    if not any(one.version == found.version for one in known):
        raise Denied(
            f"release {found.version} of '{found.product}' has not been in '{earlier.name}', "
            f"from which '{environment.name}' takes releases",
            hint=f"`tulle promote {found.product} {found.version} --to {earlier.name}` first",
        )


def _breaking(workspace: Workspace, found: Release, environment: Environment) -> tuple[str, ...]:
    """What the release breaks of what is in force in an environment, and whom, in sentences; empty: nobody."""
    current = _current(workspace, found.product, environment)
    if current is None:
        return ()
    today = str(dt.datetime.now(dt.UTC).date())
    changes = [change for change in compare(current, found.declared(), today=today) if change.breaking]
    if not changes:
        return ()
    agreed = dict.fromkeys(agreed_with(one) for change in changes for one in change.agreed)
    readers = [
        f"{reader} reads it in '{environment.name}'"
        for reader in product_release.consumers(workspace, found.product)
    ]
    return (*(change.sentence for change in changes), *readers, *agreed)


def _current(workspace: Workspace, product: str, environment: Environment) -> DataProduct | None:
    """What consumers in an environment rely on: the release in force there, else what made its data last."""
    version = promotion.in_force(workspace.database, product, environment.branch)
    if version is not None:
        return release.get(workspace.database, product, version).declared()
    good = manifest.good_run(workspace.database, product, environment.branch)
    return None if good is None else products.from_document(good.document)


# ── approving ────────────────────────────────────────────────────────────────────────────────────────────


def decide(
    workspace: Workspace,
    id_: str,
    *,
    by: str,
    approved: bool = True,
    note: str = "",
    breaking: Sequence[str] | None = None,
) -> Promotion:
    """Approve or refuse a promotion; the last approval it needs starts it, one refusal ends it.

    Conflict when approving what breaks more by now than was asked for, or than `breaking`, which `by` was shown.
    """
    database = workspace.database
    asked = promotion.get(database, id_)
    environment = declared.environment(workspace.settings, asked.environment)
    if by not in environment.approvers:
        people = ", ".join(environment.approvers) or "nobody has to"
        raise Denied(f"'{by}' may not approve for '{environment.name}'", hint=f"who may: {people}")
    if by in {asked.requested_by, asked.credential}:
        raise Denied(
            f"'{by}' asked for it, so somebody else decides", hint=f"who may: {_others(environment, asked)}"
        )
    if approved:
        asked = _as_it_stands(workspace, asked, environment, by)
        _demand_known(asked, asked.breaking if breaking is None else breaking)
    with database.write() as cx:
        in_turn(cx, f"promotions of {asked.product}")
        row = cx.execute(select(table).where(table.c.promotion_id == id_, table.c.approver == by)).first()
        current = promotion.get_in(cx, id_)
        if current.status != WAITING and not (row is not None and bool(row.approved) == approved):
            raise Conflict(
                f"promotion {id_} of '{asked.product}' is {current.status}: nothing is to be decided"
            )
        if approved and row is None:
            _demand_known(current, asked.breaking)
        if row is not None and bool(row.approved) != approved:
            said = "approved" if row.approved else "refused"
            raise Conflict(f"'{by}' has {said} promotion {id_} already", hint="a decision stands")
        if row is None:
            cx.execute(
                insert(table).values(promotion_id=id_, approver=by, approved=approved, note=note, at=now())
            )
            data = {
                "id": id_,
                "environment": asked.environment,
                "version": asked.version,
                "approved": approved,
            }
            log.append(cx, Event(PROMOTION_DECIDED, asked.product, data), actor=by)
        if not approved:
            message = f"refused by {by}{f': {note}' if note else ''}"
            promotion.change(cx, id_, WAITING, status=REFUSED, message=message)
    return _start_if_approved(workspace, promotion.get(database, id_), environment)


def _as_it_stands(
    workspace: Workspace, asked: Promotion, environment: Environment, actor: str = ""
) -> Promotion:
    """A promotion that waits, unless it would break by now what nobody agreed to. Conflict, with that, otherwise.

    Meanwhile another release may have come into force, by a rollback, or somebody begun to read the product. Then
    the approvals are void and it waits for new ones; where nobody has to approve, it has failed and is asked for anew.
    """
    if asked.status != WAITING:
        return asked
    found = release.get(workspace.database, asked.product, asked.version)
    breaking = _breaking(workspace, found, environment)
    more = [sentence for sentence in breaking if sentence not in asked.breaking]
    if not more:
        return asked
    told = f"it breaks more than when it was asked for: {'; '.join(more)}"
    if environment.approvals:
        with workspace.database.write() as cx:
            promotion.reopen(cx, asked, breaking, f"{told}; what was approved before is void", actor=actor)
    else:
        promotion.fail(workspace.database, asked, told)
    raise _stale(asked, more)


def _demand_known(asked: Promotion, breaking: Sequence[str]) -> None:
    """Conflict when a promotion breaks something that is not among what somebody agrees to."""
    if more := [sentence for sentence in asked.breaking if sentence not in breaking]:
        raise _stale(asked, more)


def _stale(asked: Promotion, more: Sequence[str]) -> Conflict:
    return Conflict(
        f"promotion {asked.id} of '{asked.product}' breaks more than was known when it was asked for or looked at",
        hint=f"read what it breaks (`tulle promotions {asked.product} --json`), then approve it or refuse it",
        problems=[Problem(sentence) for sentence in more],
    )


def _others(environment: Environment, asked: Promotion) -> str:
    theirs = {asked.requested_by, asked.credential}
    return ", ".join(name for name in environment.approvers if name not in theirs) or "nobody else"


def decisions(database: Database, id_: str) -> tuple[Approval, ...]:
    """What was decided about a promotion, in order."""
    query = select(table).where(table.c.promotion_id == id_).order_by(table.c.at)
    with database.read() as cx:
        return tuple(Approval(r.approver, bool(r.approved), r.note, r.at) for r in cx.execute(query))


def withdraw(workspace: Workspace, id_: str, *, by: str, is_anybodys: bool = True) -> Promotion:
    """Take back a promotion that waits. Conflict when it is too late.

    Unless `is_anybodys`, Denied for who did not ask for it.
    """
    asked = promotion.get(workspace.database, id_)
    if not is_anybodys and by not in {asked.requested_by, asked.credential}:
        raise Denied(
            f"'{by}' did not ask for promotion {id_}, so '{asked.requested_by}' takes it back",
            hint=f"`tulle approve {id_} --refuse` refuses it, for who may approve",
        )
    with workspace.database.write() as cx:
        if not promotion.change(cx, id_, WAITING, status=WITHDRAWN, message=f"withdrawn by {by}"):
            raise Conflict(f"promotion {id_} of '{asked.product}' is {asked.status}; it cannot be withdrawn")
        data = {"id": id_, "environment": asked.environment, "version": asked.version, "approved": False}
        log.append(cx, Event(PROMOTION_DECIDED, asked.product, {**data, "withdrawn": True}), actor=by)
    return promotion.get(workspace.database, id_)


def _start_if_approved(workspace: Workspace, asked: Promotion, environment: Environment) -> Promotion:
    """Start the run of a promotion that waits for nobody any more, if it is what was agreed to."""
    database = workspace.database
    given = {one.approver for one in decisions(database, asked.id) if one.approved}
    if asked.status != WAITING or len(given & set(environment.approvers)) < environment.approvals:
        return asked
    try:
        _as_it_stands(workspace, asked, environment)
    except Conflict:
        return promotion.get(database, asked.id)
    run_end.recover(database)
    options = {"release": asked.version, "promotion": asked.id}
    run_id = runs.request(database, asked.product, environment=asked.branch, options=options)
    with database.write() as cx:
        mine = promotion.change(cx, asked.id, WAITING, status=RUNNING, run_id=run_id, message="")
    if not mine:  # somebody else started it just now
        error = Unavailable("another run carries the promotion out")
        run_end.finish(database, run_id, runs.STOPPED, error=error, cause=runs.SUPERSEDED)
    else:
        worker.start(workspace.settings, run_id)
    return promotion.get(database, asked.id)


def keep(workspace: Workspace) -> None:
    """What the control plane does again and again: end what has ended, start what is approved and was not started.

    What cannot be ended or started holds up no other one; the first of them is raised at the end.
    """
    left = list(promotion.try_to_settle(workspace.database, workspace.lake))
    for asked in promotion.recent(workspace.database, status=WAITING, limit=None):
        environment = workspace.settings.environments.get(asked.environment)
        # One that nobody has to approve is started by whoever asks; it may be on its way.
        if environment is not None and (environment.approvals or asked.changed_at < now() - _ASKING_SECONDS):
            try:
                _start_if_approved(workspace, asked, environment)
            except TulleError as exc:
                left.append(exc)
    if left:
        raise left[0]


# ── rolling back ─────────────────────────────────────────────────────────────────────────────────────────


def rollback(
    workspace: Workspace,
    product: str,
    *,
    to: str,
    environment: str | None = None,
    by: str,
    note: str = "",
    credential: str = "",
) -> Promotion:
    """Put code and data of an environment back to where a release left them, in one move of the branch.

    Doing it again ends one that was interrupted. Conflict while a run works there.
    """
    database, settings = workspace.database, workspace.settings
    place = declared.environment(settings, environment) if environment else declared.production(settings)
    found = release.get(database, product, to)
    release.verify(workspace.lake, found, settings)
    promotion.settle(database, workspace.lake, product=product, branch=place.branch)
    newest = promotion.recent(database, product=product, environment=place.name, status=DONE, limit=1)
    if promotion.in_force(database, product, place.branch) == to:
        if newest and newest[0].kind == ROLLBACK and newest[0].version == to:
            return newest[0]  # it was done, and whoever asked never heard
        raise Conflict(f"release {to} of '{product}' is in force in '{place.name}' already")
    commit_id = promotion.left_by(database, product, place.name, to)
    if commit_id is None:
        raise NotFound(
            f"release {to} of '{product}' was never in force in '{place.name}', so there is nothing to go back to",
            hint=f"`tulle promote {product} {to} --to {place.name}` makes the data by it",
        )
    repository = workspace.lake.repository(product)
    with database.write() as cx:
        promotion.demand_no_run(cx, product, place.branch)
        id_ = promotion.add(
            cx,
            product=product,
            environment=place.name,
            branch=place.branch,
            kind=ROLLBACK,
            version=to,
            status=RUNNING,
            by=by,
            note=note,
            credential=credential,
            before_commit=repository.resolve(place.branch),
            commit_id=commit_id,
        )
    asked = promotion.get(database, id_)
    try:
        promotion.put_back(database, workspace.lake, asked)
    except TulleError as exc:
        # Where only the note of it could not be made, whoever settles it next makes that.
        if not promotion.was_put_back(workspace.lake, asked):
            promotion.fail(database, asked, exc.message)
        raise
    return promotion.get(database, id_)


def as_plain(workspace: Workspace, asked: Promotion) -> dict[str, Any]:
    """A promotion with its decisions and how many more it needs."""
    environment = workspace.settings.environments.get(asked.environment)
    given = decisions(workspace.database, asked.id)
    wanted = environment.approvals if environment and asked.kind == PROMOTION else 0
    return {
        **asdict(asked),
        "approvals": [asdict(one) for one in given],
        "approvals_wanted": wanted,
        "approvers": list(environment.approvers) if environment else [],
    }


def listed(workspace: Workspace, found: Sequence[Promotion]) -> list[dict[str, Any]]:
    """Several of them."""
    return [as_plain(workspace, one) for one in found]
