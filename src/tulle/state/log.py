"""The append-only log of events: what happened, in order, each entry chained to the one before by its hash.

Changing or removing an old entry breaks the chain, which `verify` finds. Append inside the transaction of
the change itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, insert, select

from tulle.events import Event
from tulle.state.db import Database, in_turn, now
from tulle.state.tables import events


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One event as it was recorded."""

    id: int
    at: float
    kind: str
    subject: str
    actor: str
    data: Mapping[str, Any]


_LAST = select(events.c.hash).order_by(events.c.id.desc()).limit(1)
_ADD = insert(events)


def append(connection: Connection, event: Event, *, actor: str = "") -> None:
    """Record `event` in the transaction of `connection`."""
    append_all(connection, [event], actor=actor)


def append_all(connection: Connection, several: Sequence[Event], *, actor: str = "") -> None:
    """Record events in their order, in the transaction of `connection`."""
    if not several:
        return
    in_turn(connection, "events")  # each entry names the one before
    previous = connection.execute(_LAST).scalar() or ""
    rows = []
    for event in several:
        at, data = now(), dict(event.data)
        digest = _digest(previous, at, event.kind, event.subject, actor, data)
        rows.append(
            {
                "at": at,
                "kind": event.kind,
                "subject": event.subject,
                "actor": actor,
                "data": data,
                "previous_hash": previous,
                "hash": digest,
            }
        )
        previous = digest
    connection.execute(_ADD, rows)


def newest(connection: Connection) -> int:
    """The id of the last event there is; 0 where there is none."""
    return connection.execute(select(func.max(events.c.id))).scalar() or 0


def read(
    database: Database,
    *,
    after: int = 0,
    before: int | None = None,
    subject: str | None = None,
    limit: int = 100,
    newest_first: bool = False,
) -> Sequence[LogEntry]:
    """Entries with an id above `after` and, if given, below `before`, of one subject or of all."""
    query = select(events).where(events.c.id > after).limit(limit)
    if before is not None:
        query = query.where(events.c.id < before)
    query = query.order_by(events.c.id.desc() if newest_first else events.c.id)
    if subject is not None:
        query = query.where(events.c.subject == subject)
    with database.read() as connection:
        rows = connection.execute(query).all()
    return [LogEntry(r.id, r.at, r.kind, r.subject, r.actor, r.data) for r in rows]


def verify(database: Database) -> int | None:
    """The id of the first entry whose chain is broken, or None when all of them hold."""
    previous = ""
    with database.read() as connection:
        for row in connection.execute(select(events).order_by(events.c.id)):
            expected = _digest(previous, row.at, row.kind, row.subject, row.actor, row.data)
            if row.previous_hash != previous or row.hash != expected:
                return int(row.id)
            previous = row.hash
    return None


def _digest(previous: str, at: float, kind: str, subject: str, actor: str, data: Mapping[str, Any]) -> str:
    text = json.dumps([previous, at, kind, subject, actor, data], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
