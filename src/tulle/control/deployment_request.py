"""Deployments that have to be asked for: who may, who has to agree, and what becomes of it.

An environment may name who deploys to it, how many of whom must approve, and other systems that are asked first. What
was approved is exactly what is carried out: when something else is wanted by then, it is not.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from tulle.config import Environment
from tulle.control import deployment, deployment_hooks
from tulle.control.deployment import name_of, place_of
from tulle.control.workspace import Workspace
from tulle.errors import Conflict, Denied, NotFound, TulleError
from tulle.events import DEPLOYMENT_DECIDED, DEPLOYMENT_ENDED, DEPLOYMENT_REQUESTED, Event
from tulle.lake.access import ADMINISTRATOR
from tulle.serving import generation
from tulle.serving.generation import Deployment
from tulle.serving.tested import demand_way
from tulle.serving.traffic import Traffic, from_plain
from tulle.spec import environment as declared
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import deployment_decisions as decision_rows
from tulle.state.tables import deployment_requests as table

_turn = threading.Lock()
_under_way: set[str] = (
    set()
)  # requests that this process carries out now; a crash forgets them, and they go on
WAITING, DONE, FAILED, REFUSED, WITHDRAWN = "waiting", "done", "failed", "refused", "withdrawn"


@dataclass(frozen=True, slots=True)
class Decision:
    """What one person decided, and when, in seconds since the epoch."""

    approver: str
    approved: bool
    note: str
    at: float


@dataclass(frozen=True, slots=True)
class Request:
    """A deployment that waits, or waited, for people; `credential` is the user whose credential asked."""

    id: str
    service: str
    environment: str
    traffic: Traffic
    before: Traffic | None
    status: str
    requested_by: str
    credential: str
    requested_at: float
    note: str
    message: str
    changed_at: float
    decisions: tuple[Decision, ...] = ()
    test_queries: str = ""


def ask(
    workspace: Workspace,
    name: str,
    traffic: Traffic,
    *,
    environment: str | None = None,
    by: str,
    credential: str = ADMINISTRATOR,
    note: str = "",
    before: Traffic | None = None,
    test_queries: str = "",
) -> Deployment | Request:
    """Deploy, or ask those who have to approve it; `test_queries` as `deployment.share` takes it.

    Denied for who may not, Conflict when a system that is asked first refuses or somebody else was quicker.
    """
    place = _place(workspace, environment)
    _demand_may(place, credential)
    demand_way(test_queries)
    deployment.packages_of(workspace, name, traffic)
    where = place_of(workspace.settings, environment)
    current = generation.find(workspace.database, name, where)
    known = current.desired if current else None
    if before is not None and known != before:
        raise Conflict(
            f"service '{name}' is to answer by '{known or 'nothing'}' by now, not by '{before}'",
            hint="somebody else has changed it; look at it again",
        )
    if place.approvals == 0 or (current is not None and known == traffic and current.status != "failed"):
        return _carry_out(workspace, place, name, traffic, None, by, test_queries)
    id_ = time.strftime("%Y%m%d-%H%M%S", time.gmtime()) + "-" + secrets.token_hex(3)
    at = now()
    with workspace.database.write() as cx:
        in_turn(cx, f"deployment of {name}")
        waits = select(table.c.id).where(
            table.c.service == name, table.c.environment == where, table.c.status == WAITING
        )
        if (open_one := cx.execute(waits).scalar()) is not None:
            raise Conflict(
                f"deployment {open_one} of '{name}' to '{place.name}' waits already",
                hint=f"`tulle service cancel {open_one}` takes it back",
            )
        cx.execute(
            insert(table).values(
                id=id_,
                service=name,
                environment=where,
                traffic=traffic.as_plain(),
                before=known.as_plain() if known else None,
                status=WAITING,
                requested_by=by,
                credential=credential,
                requested_at=at,
                note=note,
                changed_at=at,
                test_queries=test_queries or None,
            )
        )
        data = {"id": id_, "environment": where, "traffic": str(traffic), "credential": credential}
        log.append(cx, Event(DEPLOYMENT_REQUESTED, name, data), actor=by)
    return get(workspace.database, id_)


def preload(
    workspace: Workspace,
    name: str,
    version: str,
    *,
    environment: str | None = None,
    by: str,
    credential: str = ADMINISTRATOR,
    test_queries: str = "",
) -> Deployment | Request:
    """Start a version beside those that answer, which answers who asks for it by its name. Raises as `ask` does."""
    wanted, before = deployment.beside(workspace, name, version, environment=environment)
    return ask(
        workspace,
        name,
        wanted,
        environment=environment,
        by=by,
        credential=credential,
        before=before,
        test_queries=test_queries,
    )


def decide(workspace: Workspace, id_: str, *, by: str, approved: bool = True, note: str = "") -> Request:
    """Approve or refuse; the last approval that is needed carries it out, one refusal ends it."""
    asked = get(workspace.database, id_)
    place = _place(workspace, asked.environment)
    if by not in place.approvers:
        people = ", ".join(place.approvers) or "nobody has to"
        raise Denied(f"'{by}' may not approve for '{place.name}'", hint=f"who may: {people}")
    if by in {asked.requested_by, asked.credential}:
        others = [one for one in place.approvers if one not in {asked.requested_by, asked.credential}]
        raise Denied(
            f"'{by}' asked for it, so somebody else decides", hint=f"who may: {', '.join(others) or 'nobody'}"
        )
    with workspace.database.write() as cx:
        in_turn(cx, f"deployment of {asked.service}")
        current = _get(cx, id_)
        if current.status != WAITING:
            raise Conflict(
                f"deployment {id_} of '{asked.service}' is {current.status}: nothing is to be decided"
            )
        if any(one.approver == by for one in current.decisions):
            raise Conflict(f"'{by}' has decided about deployment {id_} already", hint="a decision stands")
        cx.execute(
            insert(decision_rows).values(request_id=id_, approver=by, approved=approved, note=note, at=now())
        )
        data = {"id": id_, "environment": asked.environment, "approved": approved}
        log.append(cx, Event(DEPLOYMENT_DECIDED, asked.service, data), actor=by)
        if not approved:
            _end(cx, current, REFUSED, f"refused by {by}{f': {note}' if note else ''}")
    return _carry_out_if_approved(workspace, id_, place)


def withdraw(workspace: Workspace, id_: str, *, by: str, credential: str = ADMINISTRATOR) -> Request:
    """Take back one that waits. Denied for who did not ask for it, Conflict when it is too late."""
    asked = get(workspace.database, id_)
    if credential != ADMINISTRATOR and credential not in {asked.requested_by, asked.credential}:
        raise Denied(
            f"'{credential}' did not ask for deployment {id_}, so '{asked.requested_by}' takes it back"
        )
    with workspace.database.write() as cx:
        in_turn(cx, f"deployment of {asked.service}")
        current = _get(cx, id_)
        if current.status != WAITING:
            raise Conflict(
                f"deployment {id_} of '{asked.service}' is {current.status}; it cannot be withdrawn"
            )
        _end(cx, current, WITHDRAWN, f"withdrawn by {by}", actor=by)
    return get(workspace.database, id_)


def demand_may_deploy(workspace: Workspace, environment: str | None, credential: str) -> None:
    """Denied when a user may not change services of an environment."""
    _demand_may(_place(workspace, environment), credential)


def keep(workspace: Workspace) -> None:
    """Carry out what is approved and was not carried out, as whoever approved last was interrupted."""
    with workspace.database.read() as cx:
        waiting = cx.execute(select(table.c.id, table.c.environment).where(table.c.status == WAITING)).all()
    for id_, environment in waiting:
        if not environment or environment in workspace.settings.environments:
            _carry_out_if_approved(workspace, id_, _place(workspace, environment))


def get(database: Database, id_: str) -> Request:
    """One of them. NotFound."""
    with database.read() as cx:
        return _get(cx, id_)


def requests(
    database: Database, service: str | None = None, *, status: str | None = None, limit: int = 100
) -> tuple[Request, ...]:
    """The newest first."""
    query = select(table).order_by(table.c.requested_at.desc(), table.c.id.desc()).limit(limit)
    if service is not None:
        query = query.where(table.c.service == service)
    if status is not None:
        query = query.where(table.c.status == status)
    with database.read() as cx:
        return tuple(_value(cx, row) for row in cx.execute(query).all())


def concerns(workspace: Workspace, asked: Request, user: str) -> bool:
    """Whether somebody asked for it, or has a say in it: they know of it, whatever else of the service they may see."""
    place = workspace.settings.environments.get(name_of(workspace.settings, asked.environment))
    return user in {asked.requested_by, asked.credential} or (place is not None and user in place.approvers)


def as_plain(workspace: Workspace, asked: Request) -> dict[str, Any]:
    """One as plain values, with who may approve it and how many have to."""
    place = workspace.settings.environments.get(name_of(workspace.settings, asked.environment))
    return {
        "id": asked.id,
        "service": asked.service,
        "environment": name_of(workspace.settings, asked.environment),
        "traffic": asked.traffic.as_plain(),
        "wanted": str(asked.traffic),
        "before": str(asked.before) if asked.before else None,
        "status": asked.status,
        "requested_by": asked.requested_by,
        "requested_at": asked.requested_at,
        "note": asked.note,
        "message": asked.message,
        "test_queries": asked.test_queries,
        "approvals": [
            {"approver": d.approver, "approved": d.approved, "note": d.note, "at": d.at}
            for d in asked.decisions
        ],
        "approvals_wanted": place.approvals if place else 0,
        "approvers": list(place.approvers) if place else [],
    }


def _place(workspace: Workspace, environment: str | None) -> Environment:
    settings = workspace.settings
    return declared.environment(settings, environment) if environment else declared.production(settings)


def _demand_may(place: Environment, credential: str) -> None:
    if place.deployers and credential not in {*place.deployers, ADMINISTRATOR}:
        raise Denied(
            f"'{credential}' may not deploy services to '{place.name}'",
            hint=f"who may: {', '.join(place.deployers)}",
        )


def _carry_out_if_approved(workspace: Workspace, id_: str, place: Environment) -> Request:
    """Once at a time: other systems are asked for as long as they like, and are to be asked once."""
    with _turn:
        if id_ in _under_way:
            return get(workspace.database, id_)
        _under_way.add(id_)
    try:
        return _carry_out_approved(workspace, id_, place)
    finally:
        with _turn:
            _under_way.discard(id_)


def _carry_out_approved(workspace: Workspace, id_: str, place: Environment) -> Request:
    asked = get(workspace.database, id_)
    given = {one.approver for one in asked.decisions if one.approved}
    if asked.status != WAITING or len(given & set(place.approvers)) < place.approvals:
        return asked
    status, message = DONE, ""
    try:
        _carry_out(
            workspace, place, asked.service, asked.traffic, asked, asked.requested_by, asked.test_queries
        )
    except TulleError as exc:
        status, message = FAILED, exc.message
    with workspace.database.write() as cx:
        in_turn(cx, f"deployment of {asked.service}")
        if _get(cx, id_).status == WAITING:
            _end(cx, asked, status, message)
    return get(workspace.database, id_)


def _carry_out(
    workspace: Workspace,
    place: Environment,
    name: str,
    traffic: Traffic,
    asked: Request | None,
    by: str,
    test_queries: str,
) -> Deployment:
    where = place_of(workspace.settings, place.name)
    current = generation.find(workspace.database, name, where)
    known = current.desired if current else None
    if asked is not None and known not in {asked.before, traffic}:
        raise Conflict(
            f"'{name}' is to answer by '{known or 'nothing'}' in '{place.name}' by now, "
            f"not by '{asked.before or 'nothing'}', as when it was asked for",
            hint="ask for it anew",
        )
    if known != traffic:
        id_ = asked.id if asked else secrets.token_hex(16)
        deployment_hooks.ask(workspace.settings, place, name, traffic, by=by, id_=id_)

    def still_waits(cx: Connection) -> None:
        """Who refuses it, or takes it back, may do so while other systems are asked."""
        if asked is not None and (found := _get(cx, asked.id)).status != WAITING:
            raise Conflict(f"deployment {asked.id} of '{name}' is {found.status}")

    return deployment.share(
        workspace,
        name,
        traffic,
        environment=place.name,
        actor=by,
        before=known,
        check=still_waits,
        test_queries=test_queries,
    )


def _end(cx: Connection, asked: Request, status: str, message: str, *, actor: str = "") -> None:
    where = (table.c.id == asked.id) & (table.c.status == WAITING)
    cx.execute(update(table).where(where).values(status=status, message=message, changed_at=now()))
    data = {"id": asked.id, "environment": asked.environment, "status": status, "message": message}
    log.append(cx, Event(DEPLOYMENT_ENDED, asked.service, data), actor=actor)


def _get(cx: Connection, id_: str) -> Request:
    row = cx.execute(select(table).where(table.c.id == id_)).first()
    if row is None:
        raise NotFound(
            f"there is no deployment '{id_[:40]}' that was asked for", hint="`tulle service requests`"
        )
    return _value(cx, row)


def _value(cx: Connection, row: Row[Any]) -> Request:
    query = select(decision_rows).where(decision_rows.c.request_id == row.id).order_by(decision_rows.c.at)
    found: Sequence[Row[Any]] = cx.execute(query).all()
    return Request(
        id=row.id,
        service=row.service,
        environment=row.environment,
        traffic=from_plain(row.traffic),
        before=from_plain(row.before) if row.before else None,
        status=row.status,
        requested_by=row.requested_by,
        credential=row.credential,
        requested_at=row.requested_at,
        note=row.note,
        message=row.message,
        changed_at=row.changed_at,
        test_queries=row.test_queries or "",
        decisions=tuple(Decision(d.approver, bool(d.approved), d.note, d.at) for d in found),
    )
