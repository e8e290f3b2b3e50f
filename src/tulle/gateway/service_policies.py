"""The policies of services where their deployments say other ones than their packages. Rows in, plain lists out.

Knows nothing of kinds of policies: whoever says a list has had it checked, and whoever carries it out reads it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, insert, select

from tulle import events
from tulle.events import Event
from tulle.state import log
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import service_policies

Plain = tuple[Mapping[str, Any], ...]


def said_at_deployment(database: Database) -> Mapping[tuple[str, str], Plain]:
    """By service and environment the list as written, where its deployment says one."""
    with database.read() as connection:
        rows = connection.execute(select(service_policies)).all()
    return {(row.service, row.environment): tuple(row.policies) for row in rows}


def set_policies(
    database: Database,
    service: str,
    policies: Sequence[Mapping[str, Any]] | None,
    *,
    environment: str = "",
    actor: str = "",
) -> Plain | None:
    """Say the policies of a service, whatever its packages say; None: as they say. What was said before."""
    with database.write() as connection:
        in_turn(connection, f"policies of {service}")
        before = _recorded(connection, service, environment)
        after = None if policies is None else tuple(dict(one) for one in policies)
        if before != after:
            _change(connection, service, environment, before, after, actor)
    return before


def take_back(
    database: Database,
    service: str,
    policies: Sequence[Mapping[str, Any]],
    before: Plain | None,
    *,
    environment: str = "",
    actor: str = "",
) -> None:
    """Let be said again what was said `before`, unless somebody has said something else than `policies` meanwhile."""
    with database.write() as connection:
        in_turn(connection, f"policies of {service}")
        current = _recorded(connection, service, environment)
        if current == tuple(dict(one) for one in policies) and current != before:
            _change(connection, service, environment, current, before, actor)


def _recorded(connection: Connection, service: str, environment: str) -> Plain | None:
    row = connection.execute(select(service_policies.c.policies).where(_of(service, environment))).first()
    return None if row is None else tuple(row.policies)


def _change(
    connection: Connection,
    service: str,
    environment: str,
    before: Plain | None,
    after: Plain | None,
    actor: str,
) -> None:
    connection.execute(delete(service_policies).where(_of(service, environment)))
    if after is not None:
        connection.execute(
            insert(service_policies).values(
                service=service,
                environment=environment,
                policies=[dict(one) for one in after],
                changed_at=now(),
            )
        )
    told = {"environment": environment, "before": _kinds(before), "after": _kinds(after)}
    log.append(connection, Event(events.SERVICE_POLICIES_CHANGED, service, told), actor=actor)


def _of(service: str, environment: str) -> ColumnElement[bool]:
    return (service_policies.c.service == service) & (service_policies.c.environment == environment)


def end_others(database: Database, known: Sequence[str]) -> None:
    """Forget what was said of services that are no longer there, lest another one of the name inherits it."""
    with database.write() as connection:
        connection.execute(delete(service_policies).where(service_policies.c.service.not_in(known)))


def _kinds(policies: Sequence[Mapping[str, Any]] | None) -> list[str] | None:
    return None if policies is None else [str(one.get("policy", "")) for one in policies]
