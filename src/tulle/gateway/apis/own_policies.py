"""The policies of instances of APIs that were set by hand, in place of what their versions say. Rows in, values out.

Knows nothing of kinds of policies: whoever says a list has had it checked, and whoever carries it out reads it again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select

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
) -> None:
    """Say the policies of an instance, whatever its version says; None: as that says. NotFound when it is gone."""
    columns = api_policies.c
    where = (columns.api == api) & (columns.version == version) & (columns.environment == environment)
    with changing(database, api, version) as connection:
        row = connection.execute(select(columns.policies).where(where)).first()
        before = None if row is None else list(row.policies)
        after = None if policies is None else [dict(one) for one in policies]
        if before == after:
            return
        connection.execute(delete(api_policies).where(where))
        if after is not None:
            connection.execute(
                insert(api_policies).values(
                    api=api,
                    version=version,
                    environment=environment,
                    policies=after,
                    changed_at=now(),
                    changed_by=actor,
                    revision=revision(),
                )
            )
        told = {
            "version": version,
            "environment": environment,
            "before": _kinds(before),
            "after": _kinds(after),
        }
        log.append(connection, Event(events.API_POLICIES_CHANGED, f"api:{api}", told), actor=actor)


def _kinds(policies: Sequence[Mapping[str, Any]] | None) -> list[str] | None:
    return None if policies is None else [str(one.get("policy", "")) for one in policies]
