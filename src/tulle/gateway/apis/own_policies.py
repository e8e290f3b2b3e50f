"""The policies of instances of APIs that were set by hand, in place of what their versions say. Rows in, values out.

Knows nothing of kinds of policies: whoever says a list has had it checked, and whoever carries it out reads it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select

from tulle import events
from tulle.errors import Broken
from tulle.events import Event
from tulle.gateway.apis.writing import changing, revision
from tulle.gateway.policies.listed import written_of
from tulle.state import log
from tulle.state.db import Database, now
from tulle.state.tables import api_policies


@dataclass(frozen=True, slots=True)
class SetByHand:
    """A list as it is written, when it was set (seconds since the epoch) and by whom."""

    policies: tuple[Mapping[str, Any], ...]
    changed_at: float = 0.0
    changed_by: str = ""


def rows(connection: Connection, names: Collection[str] | None = None) -> Mapping[str, Sequence[Row[Any]]]:
    """All that is recorded, by API, or that of these."""
    found: dict[str, list[Row[Any]]] = {}
    query = select(api_policies)
    for row in connection.execute(query if names is None else query.where(api_policies.c.api.in_(names))):
        found.setdefault(row.api, []).append(row)
    return found


def read(found: Iterable[Row[Any]]) -> Mapping[tuple[str, str], SetByHand]:
    """Those of one API by version and environment. Broken where one is damaged."""
    read_: dict[tuple[str, str], SetByHand] = {}
    for row in found:
        if not isinstance(row.policies, list):
            raise Broken(
                f"the policies of {row.version} that were set by hand are no list", hint="set them anew"
            )
        written_of(row.policies)
        read_[row.version, row.environment] = SetByHand(tuple(row.policies), row.changed_at, row.changed_by)
    return read_


def set_policies(
    database: Database,
    api: str,
    version: str,
    environment: str,
    policies: Sequence[Mapping[str, Any]] | None,
    *,
    actor: str = "",
) -> SetByHand | None:
    """Say the policies of an instance, whatever its version says; None: as that says. What was said before.

    NotFound when it is gone.
    """
    wanted = None if policies is None else SetByHand(tuple(policies), now(), actor)
    with changing(database, api, version) as connection:
        before = _recorded(connection, (api, version, environment))
        if _list(before) != _list(wanted):
            _change(connection, (api, version, environment), before, wanted, actor)
    return before


def take_back(
    database: Database,
    api: str,
    version: str,
    environment: str,
    policies: Sequence[Mapping[str, Any]],
    before: SetByHand | None,
    *,
    actor: str = "",
) -> None:
    """Let be said again what was said `before`, unless somebody has said something else than `policies` meanwhile.

    NotFound when it is gone.
    """
    with changing(database, api, version) as connection:
        current = _recorded(connection, (api, version, environment))
        if _list(current) == [dict(one) for one in policies] and current != before:
            _change(connection, (api, version, environment), current, before, actor)


def _recorded(connection: Connection, instance: tuple[str, str, str]) -> SetByHand | None:
    row = connection.execute(select(api_policies).where(_of(instance))).first()
    return None if row is None else SetByHand(tuple(row.policies), row.changed_at, row.changed_by)


def _change(
    connection: Connection,
    instance: tuple[str, str, str],
    before: SetByHand | None,
    after: SetByHand | None,
    actor: str,
) -> None:
    api, version, environment = instance
    connection.execute(delete(api_policies).where(_of(instance)))
    if after is not None:
        connection.execute(
            insert(api_policies).values(
                api=api,
                version=version,
                environment=environment,
                policies=_list(after),
                changed_at=after.changed_at,
                changed_by=after.changed_by,
                revision=revision(),
            )
        )
    told = {"version": version, "environment": environment, "before": _kinds(before), "after": _kinds(after)}
    log.append(connection, Event(events.API_POLICIES_CHANGED, f"api:{api}", told), actor=actor)


def _of(instance: tuple[str, str, str]) -> ColumnElement[bool]:
    api, version, environment = instance
    columns = api_policies.c
    return (columns.api == api) & (columns.version == version) & (columns.environment == environment)


def _list(said: SetByHand | None) -> list[dict[str, Any]] | None:
    return None if said is None else [dict(one) for one in said.policies]


def _kinds(said: SetByHand | None) -> list[str] | None:
    return None if said is None else [str(one.get("policy", "")) for one in said.policies]
